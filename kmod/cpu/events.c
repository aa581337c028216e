// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exceptions, NMIs and interrupts on their way to the guest.
 *
 * An event is pending until an entry is made with it, and injected while that
 * entry delivers it. If an exit comes in the middle of the delivery (a page
 * of the guest's IDT or stack is not mapped yet), the backend puts it back
 * with keel_event_requeue(), and the next entry delivers it again.
 */
#include <linux/string.h>
#include <uapi/asm/debugreg.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "../keel.h"
#include "../trace.h"
#include "../irq/irq.h"

enum exception_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

/* SDM vol. 3 "Interrupt 8, Double Fault", table 6-4; APM vol. 2 8.2.9. */
static enum exception_class exception_class(u8 vector)
{
	switch (vector) {
	case X86_TRAP_DE:
	case X86_TRAP_TS:
	case X86_TRAP_NP:
	case X86_TRAP_SS:
	case X86_TRAP_GP:
		return CONTRIBUTORY;
	case X86_TRAP_PF:
		return PAGE_FAULT;
	default:
		return BENIGN;
	}
}

static void queue_exception(struct keel_vcpu *vcpu, u8 vector, bool has_error,
			    u32 error, bool has_payload, u64 payload)
{
	struct keel_events *ev = &vcpu->events;
	enum exception_class first, second;

	if (ev->exception.pending || ev->exception.injected) {
		first = exception_class(ev->exception.vector);
		second = exception_class(vector);
		if (ev->exception.vector == X86_TRAP_DF) {
			ev->exception.pending = false;
			ev->exception.injected = false;
			keel_request(vcpu, KEEL_REQ_TRIPLE_FAULT);
			return;
		}
		if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
		    (first == PAGE_FAULT && second != BENIGN)) {
			vector = X86_TRAP_DF;
			has_error = true;
			error = 0;
			has_payload = false;
		}
	}
	memset(&ev->exception, 0, sizeof(ev->exception));
	ev->exception.pending = true;
	ev->exception.vector = vector;
	ev->exception.has_error = has_error;
	ev->exception.error = error;
	ev->exception.has_payload = has_payload;
	ev->exception.payload = payload;
	keel_request(vcpu, KEEL_REQ_EVENT);
}

void keel_queue_exception(struct keel_vcpu *vcpu, u8 vector)
{
	queue_exception(vcpu, vector, false, 0, false, 0);
}

void keel_queue_exception_error(struct keel_vcpu *vcpu, u8 vector, u32 error)
{
	queue_exception(vcpu, vector, true, error, false, 0);
}

void keel_queue_page_fault(struct keel_vcpu *vcpu, u64 cr2, u32 error)
{
	queue_exception(vcpu, X86_TRAP_PF, true, error, true, cr2);
}

/* @dr6: the bits that this debug exception sets */
void keel_queue_db(struct keel_vcpu *vcpu, u64 dr6)
{
	if (likely(!keel_debug_take_db(vcpu, dr6)))
		queue_exception(vcpu, X86_TRAP_DB, false, 0, true, dr6);
}

/* An INT3, which RIP is on, has executed. */
void keel_queue_bp(struct keel_vcpu *vcpu)
{
	keel_queue_exception(vcpu, X86_TRAP_BP);
	vcpu->events.exception.soft = true;
	vcpu->events.exception.insn_len = 1;
}

void keel_nmi(struct keel_vcpu *vcpu)
{
	atomic_inc(&vcpu->nmi_queued);
	keel_request(vcpu, KEEL_REQ_EVENT);
	keel_vcpu_kick(vcpu);
}

void keel_event_requeue(struct keel_vcpu *vcpu, const struct keel_event *event)
{
	struct keel_events *ev = &vcpu->events;

	vcpu->stats.reinjections++;
	switch (event->type) {
	case KEEL_EVENT_NMI:
		ev->nmi.injected = true;
		/* not delivered, so not blocking yet */
		keel_backend->set_nmi_blocked(vcpu, false);
		break;
	case KEEL_EVENT_INTERRUPT:
	case KEEL_EVENT_SOFT_INTERRUPT:
		ev->interrupt.injected = true;
		ev->interrupt.soft = event->type == KEEL_EVENT_SOFT_INTERRUPT;
		ev->interrupt.vector = event->vector;
		ev->interrupt.insn_len = event->insn_len;
		break;
	default:
		memset(&ev->exception, 0, sizeof(ev->exception));
		ev->exception.injected = true;
		ev->exception.soft = event->type != KEEL_EVENT_EXCEPTION;
		ev->exception.vector = event->vector;
		ev->exception.insn_len = event->insn_len;
		ev->exception.has_error = event->has_error;
		ev->exception.error = event->error;
	}
	keel_request(vcpu, KEEL_REQ_EVENT);
}

/* ---- delivery ---- */

/* What the CPU itself would have changed on raising the exception. */
static void apply_payload(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;

	if (!ev->exception.has_payload)
		return;
	if (ev->exception.vector == X86_TRAP_PF) {
		vcpu->regs.cr2 = ev->exception.payload;
	} else if (ev->exception.vector == X86_TRAP_DB) {
		keel_change(vcpu, KEEL_DRS);
		vcpu->regs.dr6 &= ~(u64)DR_TRAP_BITS;
		vcpu->regs.dr6 |= ev->exception.payload;
		vcpu->regs.dr7 &= ~(u64)KEEL_DR7_GD;
	}
	ev->exception.has_payload = false;
}

static void inject(struct keel_vcpu *vcpu, const struct keel_event *event)
{
	trace_keel_inject(vcpu, event);
	vcpu->events.handed = event->type;
	keel_backend->inject(vcpu, event);
}

/**
 * keel_event_handed_over() - the entry has its event now
 * @vcpu: the vCPU
 *
 * What is still marked injected at the next exit was put back by the backend,
 * because it was not delivered; or is another one, which waits for its turn.
 *
 * Context: right before the entry, for an event that was handed to the backend.
 */
void keel_event_handed_over(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;

	switch (ev->handed) {
	case KEEL_EVENT_NMI:
		ev->nmi.injected = false;
		break;
	case KEEL_EVENT_INTERRUPT:
	case KEEL_EVENT_SOFT_INTERRUPT:
		ev->interrupt.injected = false;
		break;
	default:
		ev->exception.injected = false;
	}
	ev->handed = KEEL_EVENT_NONE;
}

static void inject_exception(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;
	struct keel_event event = {
		.type = KEEL_EVENT_EXCEPTION,
		.vector = ev->exception.vector,
		.insn_len = ev->exception.insn_len,
		/* real mode pushes no error codes, and VMX refuses them there */
		.has_error = ev->exception.has_error && (vcpu->regs.cr0 & X86_CR0_PE),
		.error = ev->exception.error,
	};

	if (ev->exception.soft)
		event.type = event.vector == X86_TRAP_DB ?
			     KEEL_EVENT_PRIV_SOFT_EXCEPTION : KEEL_EVENT_SOFT_EXCEPTION;
	vcpu->stats.exception_injections++;
	inject(vcpu, &event);
}

static void inject_interrupt(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;
	struct keel_event event = {
		.type = ev->interrupt.soft ? KEEL_EVENT_SOFT_INTERRUPT :
					     KEEL_EVENT_INTERRUPT,
		.vector = ev->interrupt.vector,
		.insn_len = ev->interrupt.insn_len,
	};

	vcpu->stats.irq_injections++;
	inject(vcpu, &event);
}

static void inject_nmi(struct keel_vcpu *vcpu)
{
	struct keel_event event = { .type = KEEL_EVENT_NMI, .vector = X86_TRAP_NMI };

	vcpu->stats.nmi_injections++;
	inject(vcpu, &event);
}

/* A fault's saved RFLAGS have RF set, or its handler's IRET would trap again. */
static bool is_fault(u8 vector)
{
	return vector != X86_TRAP_DB && vector != X86_TRAP_BP &&
	       vector != X86_TRAP_OF && vector != X86_TRAP_DF &&
	       vector != X86_TRAP_MC;
}

/*
 * An exception that is pending goes before an interrupt that was handed over:
 * it belongs to the last instruction, which the completion of userspace's I/O
 * retired, and userspace has sent the interrupt for after that.
 *
 * Return: whether the entry has its event. There is room for one.
 */
static bool inject_under_way(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;

	if (ev->exception.injected) {
		inject_exception(vcpu);
	} else if (ev->exception.pending) {
		apply_payload(vcpu);
		if (is_fault(ev->exception.vector)) {
			keel_change(vcpu, KEEL_RFLAGS);
			vcpu->regs.rflags |= X86_EFLAGS_RF;
		}
		ev->exception.pending = false;
		ev->exception.injected = true;
		inject_exception(vcpu);
	} else if (ev->nmi.injected) {
		inject_nmi(vcpu);
	} else if (ev->interrupt.injected) {
		/* an exception that went first may have shut interrupts out */
		keel_need(vcpu, KEEL_RFLAGS);
		if (!ev->interrupt.soft && !(vcpu->regs.rflags & X86_EFLAGS_IF)) {
			keel_backend->irq_window(vcpu, true);
			return false;
		}
		inject_interrupt(vcpu);
	} else {
		return false;
	}
	return true;
}

bool keel_event_in_delivery(struct keel_vcpu *vcpu)
{
	const struct keel_events *ev = &vcpu->events;

	return ev->exception.injected || ev->nmi.injected || ev->interrupt.injected;
}

bool keel_irq_allowed(struct keel_vcpu *vcpu)
{
	keel_need(vcpu, KEEL_RFLAGS);
	return (vcpu->regs.rflags & X86_EFLAGS_IF) && !keel_backend->get_shadow(vcpu);
}

static bool nmi_allowed(struct keel_vcpu *vcpu)
{
	return !keel_backend->nmi_blocked(vcpu) && !keel_backend->get_shadow(vcpu);
}

/*
 * One NMI waits beside the one in service; the rest are lost, as on hardware
 * (SDM vol. 3 "Handling Multiple NMIs"). Two may wait when none is in service.
 */
static void collect_nmis(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;
	int queued = atomic_xchg(&vcpu->nmi_queued, 0);
	int limit = keel_backend->nmi_blocked(vcpu) || ev->nmi.injected ? 1 : 2;

	ev->nmi.pending = min(ev->nmi.pending + min(queued, 2), limit);
}

/**
 * keel_events_inject() - give the next entry its event, and ask for windows
 * @vcpu: the vCPU
 *
 * Context: vCPU loaded, mutex held, may sleep.
 */
void keel_events_inject(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;
	bool taken = inject_under_way(vcpu), window;

	keel_pv_eoi_settle(vcpu);
	/* the entry has room for one: look again after it */
	ev->more = ev->exception.injected + ev->nmi.injected + ev->interrupt.injected > 1;
	if (unlikely(vcpu->debug.control & KVM_GUESTDBG_BLOCKIRQ))
		return;
	if (atomic_read(&vcpu->nmi_queued))
		collect_nmis(vcpu);
	if (ev->nmi.pending) {
		if (!taken && nmi_allowed(vcpu)) {
			ev->nmi.pending--;
			ev->nmi.injected = true;
			inject_nmi(vcpu);
			taken = true;
		}
		if (ev->nmi.pending)
			keel_backend->nmi_window(vcpu, true);
	}

	window = ev->want_irq_window;
	if (vcpu->lapic && keel_irq_pending(vcpu) >= 0) {
		bool waits = true;

		if (!taken && keel_irq_allowed(vcpu)) {
			int vector = keel_irq_ack(vcpu);

			if (vector >= 0) {
				trace_keel_ack_irq(vcpu, vector);
				ev->interrupt.injected = true;
				ev->interrupt.soft = false;
				ev->interrupt.vector = vector;
				inject_interrupt(vcpu);
			}
			waits = keel_irq_pending(vcpu) >= 0;
		}
		window |= waits;
	}
	if (window)
		keel_backend->irq_window(vcpu, true);
	keel_pv_eoi_offer(vcpu);
}

/* ---- ioctls ---- */

int keel_ioctl_get_events(struct keel_vcpu *vcpu, struct kvm_vcpu_events *e)
{
	struct keel_events *ev = &vcpu->events;
	bool payload = vcpu->vm->exception_payload;

	collect_nmis(vcpu);
	if (!payload && ev->exception.pending)
		apply_payload(vcpu);
	if (payload) {
		e->exception.injected = ev->exception.injected;
		e->exception.pending = ev->exception.pending;
	} else {
		e->exception.injected = ev->exception.injected || ev->exception.pending;
	}
	/* INT3 and INTO restart at their instruction instead */
	if (ev->exception.soft) {
		e->exception.injected = 0;
		e->exception.pending = 0;
	}
	e->exception.nr = ev->exception.vector;
	e->exception.has_error_code = ev->exception.has_error;
	e->exception.error_code = ev->exception.error;
	e->exception_has_payload = ev->exception.has_payload;
	e->exception_payload = ev->exception.payload;

	e->interrupt.injected = ev->interrupt.injected && !ev->interrupt.soft;
	e->interrupt.nr = ev->interrupt.vector;
	e->interrupt.shadow = keel_backend->get_shadow(vcpu);

	e->nmi.injected = ev->nmi.injected;
	e->nmi.pending = !!ev->nmi.pending;
	e->nmi.masked = keel_backend->nmi_blocked(vcpu);
	/* sipi_vector is for KVM_SET_VCPU_EVENTS only */

	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SMM;
	if (payload)
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (vcpu->vm->triple_fault_event) {
		e->triple_fault.pending = test_bit(KEEL_REQ_TRIPLE_FAULT, &vcpu->requests);
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	return 0;
}

static bool events_ok(struct keel_vcpu *vcpu, const struct kvm_vcpu_events *e)
{
	u32 known = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		    KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	bool injected = e->exception.injected;
	bool pending = false;

	if (vcpu->vm->exception_payload)
		known |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (vcpu->vm->triple_fault_event)
		known |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	if (e->flags & ~known)
		return false;
	if (e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		pending = e->exception.pending;
		if (injected && pending)
			return false;
	}
	if ((injected || pending) && (e->exception.nr > 31 || e->exception.nr == X86_TRAP_NMI))
		return false;
	/* there is no system management mode */
	return !(e->flags & KVM_VCPUEVENT_VALID_SMM) ||
	       !(e->smi.smm || e->smi.pending || e->smi.latched_init);
}

int keel_ioctl_set_events(struct keel_vcpu *vcpu, const struct kvm_vcpu_events *e)
{
	struct keel_events *ev = &vcpu->events;
	bool payload = e->flags & KVM_VCPUEVENT_VALID_PAYLOAD;

	if (!events_ok(vcpu, e))
		return -EINVAL;

	memset(&ev->exception, 0, sizeof(ev->exception));
	ev->exception.injected = e->exception.injected;
	ev->exception.vector = e->exception.nr;
	ev->exception.has_error = e->exception.has_error_code;
	ev->exception.error = e->exception.error_code;
	if (payload) {
		ev->exception.pending = e->exception.pending;
		ev->exception.has_payload = e->exception_has_payload;
		ev->exception.payload = e->exception_payload;
	}
	/* what INT3 and INTO raise is delivered from behind them */
	if (e->exception.nr == X86_TRAP_BP || e->exception.nr == X86_TRAP_OF) {
		ev->exception.soft = true;
		ev->exception.insn_len = 1;
	}

	ev->interrupt.injected = e->interrupt.injected;
	ev->interrupt.vector = e->interrupt.nr;
	ev->interrupt.soft = false;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		keel_backend->set_shadow(vcpu, e->interrupt.shadow);
		vcpu->exit.shadow = true;	/* for an instruction under way */
	}

	ev->nmi.injected = e->nmi.injected;
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
		ev->nmi.pending = !!e->nmi.pending;
		atomic_set(&vcpu->nmi_queued, 0);
	}
	keel_backend->set_nmi_blocked(vcpu, e->nmi.masked);

	if ((e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) && vcpu->lapic)
		keel_lapic_set_sipi_vector(vcpu, e->sipi_vector);
	if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		if (e->triple_fault.pending)
			keel_request(vcpu, KEEL_REQ_TRIPLE_FAULT);
		else
			clear_bit(KEEL_REQ_TRIPLE_FAULT, &vcpu->requests);
	}
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}
