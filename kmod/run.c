// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_RUN: serve requests, inject events, enter, handle the exit, again.
 */
#include <linux/entry-kvm.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <asm/fpu/api.h>
#include <asm/processor-flags.h>

#include "keel.h"
#include "guest.h"
#include "trace.h"
#include "irq/irq.h"

static int exit_intr(struct keel_vcpu *vcpu)
{
	/* kvmtool looks at the reason, not at errno: leave no stale one */
	vcpu->run->exit_reason = KVM_EXIT_INTR;
	vcpu->stats.signal_exits++;
	return -EINTR;
}

/* ---- sleeping: HLT, and APs before their SIPI ---- */

static bool must_wake(struct keel_vcpu *vcpu)
{
	if (READ_ONCE(vcpu->vm->dead) || READ_ONCE(keel_rebooting))
		return true;
	if (vcpu->lapic && keel_lapic_has_events(vcpu))
		return true;
	if (test_bit(KEEL_REQ_TRIPLE_FAULT, &vcpu->requests) ||
	    test_bit(KEEL_REQ_IOAPIC_EOI, &vcpu->requests) ||
	    test_bit(KEEL_REQ_ASYNC_PF, &vcpu->requests))
		return true;
	if (vcpu->mp_state != KVM_MP_STATE_HALTED)
		return false;
	if (READ_ONCE(vcpu->pv.unhalted))
		return true;
	if (vcpu->events.exception.pending || vcpu->events.exception.injected ||
	    vcpu->events.interrupt.injected || vcpu->events.nmi.injected)
		return true;
	if ((atomic_read(&vcpu->nmi_queued) || vcpu->events.nmi.pending) &&
	    !keel_backend->nmi_blocked(vcpu))
		return true;
	return vcpu->lapic && keel_irq_pending(vcpu) >= 0 && keel_irq_allowed(vcpu);
}

static int sleep_until_event(struct keel_vcpu *vcpu)
{
	keel_pv_eoi_settle(vcpu);
	if (rcuwait_wait_event(&vcpu->wait, must_wake(vcpu), TASK_INTERRUPTIBLE))
		return exit_intr(vcpu);

	if (vcpu->lapic && keel_lapic_has_events(vcpu)) {
		keel_lapic_accept_events(vcpu);
		return KEEL_RESUME;
	}
	/* no end of HLT by itself, but it may send an interrupt */
	if (test_bit(KEEL_REQ_ASYNC_PF, &vcpu->requests))
		return READ_ONCE(vcpu->vm->dead) ? -EIO : KEEL_RESUME;
	if (vcpu->mp_state == KVM_MP_STATE_HALTED) {
		vcpu->stats.halt_wakeups++;
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
		WRITE_ONCE(vcpu->pv.unhalted, false);
		keel_request(vcpu, KEEL_REQ_EVENT);
	}
	return READ_ONCE(vcpu->vm->dead) ? -EIO : KEEL_RESUME;
}

/* ---- before an entry ---- */

void keel_flush_linear(struct keel_vcpu *vcpu)
{
	vcpu->stats.tlb_flushes++;
	keel_tlb_model_flush_asked(vcpu);
	keel_backend->flush_tlb(vcpu);
}

static int serve_requests(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (keel_take_request(vcpu, KEEL_REQ_TRIPLE_FAULT)) {
		run->exit_reason = KVM_EXIT_SHUTDOWN;
		return KEEL_TO_USER;
	}
	if (keel_take_request(vcpu, KEEL_REQ_IOAPIC_EOI)) {
		run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		run->eoi.vector = vcpu->eoi_vector;
		return KEEL_TO_USER;
	}
	if (keel_take_request(vcpu, KEEL_REQ_DEBUG))
		return keel_debug_exit(vcpu);
	if (keel_take_request(vcpu, KEEL_REQ_TLB_FLUSH))
		keel_flush_linear(vcpu);
	if (keel_take_request(vcpu, KEEL_REQ_CLOCK))
		keel_clock_update(vcpu);
	if (keel_take_request(vcpu, KEEL_REQ_STEAL))
		keel_steal_update(vcpu);
	if (keel_take_request(vcpu, KEEL_REQ_ASYNC_PF))
		keel_async_pf_deliver(vcpu);
	if (keel_take_request(vcpu, KEEL_REQ_MSR_FILTER))
		keel_msr_filter_apply(vcpu);
	if (vcpu->lapic && keel_lapic_has_events(vcpu)) {
		keel_lapic_accept_events(vcpu);
		if (vcpu->mp_state != KVM_MP_STATE_RUNNABLE)
			return KEEL_RESUME;
	}
	/* asleep it takes no events: what is given to it now could go stale */
	if (vcpu->mp_state == KVM_MP_STATE_RUNNABLE &&
	    keel_take_request(vcpu, KEEL_REQ_EVENT))
		keel_events_inject(vcpu);
	return KEEL_RESUME;
}

static bool entry_called_off(struct keel_vcpu *vcpu)
{
	return READ_ONCE(vcpu->requests) || xfer_to_guest_mode_work_pending() ||
	       READ_ONCE(vcpu->vm->dead) || READ_ONCE(keel_rebooting);
}

static void flush_if_stale(struct keel_vcpu *vcpu)
{
	u64 gen = READ_ONCE(vcpu->vm->mmu.tlb_gen);

	if (vcpu->tlb_gen != gen) {
		WRITE_ONCE(vcpu->tlb_gen, gen);
		vcpu->stats.tlb_flushes++;
		keel_backend->flush_tlb(vcpu);
	}
}

/*
 * From the store of the mode to the exit, whoever sets a request or changes
 * mmu.tlb_gen and then sees KEEL_IN_GUEST sends an IPI; interrupts are off, so
 * it makes the entry exit at once. Whoever set it before is seen here.
 *
 * Return: false when there is something to do first.
 */
static bool enter_once(struct keel_vcpu *vcpu)
{
	WRITE_ONCE(vcpu->mode, KEEL_IN_GUEST);
	/* pairs with those of keel_vcpu_kick() and keel_flush_tlbs(): see above */
	smp_mb();
	if (unlikely(entry_called_off(vcpu))) {
		WRITE_ONCE(vcpu->mode, KEEL_OUTSIDE_GUEST);
		return false;
	}
	flush_if_stale(vcpu);
	if (vcpu->events.handed != KEEL_EVENT_NONE)
		keel_event_handed_over(vcpu);
	trace_keel_entry(vcpu);

	keel_backend->enter(vcpu);

	WRITE_ONCE(vcpu->mode, KEEL_OUTSIDE_GUEST);
	vcpu->launched = true;
	if (unlikely(vcpu->events.more))
		keel_request(vcpu, KEEL_REQ_EVENT);
	vcpu->stats.exits++;
	trace_keel_exit(vcpu);
	return true;
}

/* The entry did not happen: what was to be injected waits. Interrupts are on. */
static int take_back_events(struct keel_vcpu *vcpu)
{
	keel_backend->cancel_injection(vcpu);
	keel_request(vcpu, KEEL_REQ_EVENT);
	return KEEL_RESUME;
}

/*
 * A CPU exits for the host's interrupts, so that any number would do; Bochs does
 * not while the guest has its own off, and a guest that waits there for another
 * vCPU, with exits, would keep the host's CPU for ever.
 */
#define MAX_ENTRIES_AT_ONCE	32

/*
 * Exits whose handling needs nothing but the CPU do not leave this function:
 * interrupts stay off, and what was switched for the guest stays switched.
 */
static int enter_guest(struct keel_vcpu *vcpu)
{
	bool entered, handled = false;
	int ret = KEEL_RESUME, left = MAX_ENTRIES_AT_ONCE;

	preempt_disable();
	local_irq_disable();
	if (unlikely(!keel_hardware_on())) {
		local_irq_enable();
		take_back_events(vcpu);
		preempt_enable();
		return -EIO;
	}
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	keel_backend->begin(vcpu);
	do {
		entered = enter_once(vcpu);
		if (unlikely(!entered))
			break;
		handled = keel_exit_is_atomic(vcpu);
		if (handled)
			ret = keel_handle_exit(vcpu);
	} while (handled && ret == KEEL_RESUME && --left && !READ_ONCE(vcpu->requests) &&
		 !vcpu->events.want_irq_window && !test_thread_flag(TIF_NEED_FPU_LOAD));
	keel_backend->end(vcpu);
	keel_guest_trained_predictors();

	if (entered && vcpu->exit.reason == KEEL_EXIT_INTERRUPT) {
		/* on a preemptible kernel it may end this thread's turn, too */
		vcpu->pv.between_insns = true;
		/* let a tick in while it still counts as the guest's time */
		local_irq_enable();
		vcpu->stats.interrupt_exits++;
		local_irq_disable();
	}
	keel_guest_account();
	local_irq_enable();
	if (unlikely(!entered)) {
		vcpu->stats.entry_called_off++;
		ret = take_back_events(vcpu);
	}
	preempt_enable();
	return !entered || handled ? ret : keel_handle_exit(vcpu);
}

/* ---- the loop ---- */

static bool ready_for_interrupt(struct keel_vcpu *vcpu)
{
	if (vcpu->vm->irqchip == KEEL_IRQCHIP_KERNEL)
		return true;
	return !vcpu->events.interrupt.injected && !vcpu->events.exception.pending &&
	       !vcpu->events.exception.injected && keel_irq_allowed(vcpu) &&
	       keel_extint_accepted(vcpu);
}

static int run_loop(struct keel_vcpu *vcpu)
{
	int ret;

	for (;;) {
		if (READ_ONCE(vcpu->vm->dead) || READ_ONCE(keel_rebooting))
			return -EIO;
		if (vcpu->vm->dirty_ring_entries &&
		    vcpu->mp_state == KVM_MP_STATE_RUNNABLE && keel_dirty_ring_full(vcpu)) {
			vcpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
			return KEEL_TO_USER;
		}
		if (vcpu->requests) {
			ret = serve_requests(vcpu);
			if (ret <= 0)
				return ret;
		}
		if (vcpu->mp_state == KVM_MP_STATE_RUNNABLE)
			ret = enter_guest(vcpu);
		else
			ret = sleep_until_event(vcpu);
		if (ret <= 0)
			return ret;

		if (vcpu->events.want_irq_window && ready_for_interrupt(vcpu)) {
			vcpu->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			return KEEL_TO_USER;
		}
		/* interrupts are on: looked at again with them off, before entry */
		if (__xfer_to_guest_mode_work_pending()) {
			vcpu->pv.between_insns = true;
			ret = keel_guest_work();
			vcpu->pv.between_insns = false;
			if (ret)
				return exit_intr(vcpu);
		}
	}
}

/* What userspace finds in the run page after every KVM_RUN. */
static void post_run(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (unlikely(vcpu->pv.eoi_offered))
		keel_pv_eoi_settle(vcpu);
	keel_need(vcpu, KEEL_RFLAGS);
	run->if_flag = !!(vcpu->regs.rflags & X86_EFLAGS_IF);
	run->cr8 = keel_get_cr8(vcpu);
	run->apic_base = vcpu->msrs.apic_base;
	run->ready_for_interrupt_injection = ready_for_interrupt(vcpu);
}

/* ---- KVM_CAP_SYNC_REGS: registers in the run page, without an ioctl ---- */

/* The page is userspace's to change at any time: work on a copy, both ways. */
union sync_regs_copy {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
};

static void store_sync_regs(struct keel_vcpu *vcpu)
{
	struct kvm_sync_regs *page = &vcpu->run->s.regs;
	u64 want = READ_ONCE(vcpu->run->kvm_valid_regs);
	union sync_regs_copy copy = {};

	if (want & KVM_SYNC_X86_REGS) {
		keel_ioctl_get_regs(vcpu, &copy.regs);
		memcpy(&page->regs, &copy.regs, sizeof(page->regs));
	}
	if (want & KVM_SYNC_X86_SREGS) {
		memset(&copy, 0, sizeof(copy));
		keel_ioctl_get_sregs(vcpu, &copy.sregs);
		memcpy(&page->sregs, &copy.sregs, sizeof(page->sregs));
	}
	if (want & KVM_SYNC_X86_EVENTS) {
		memset(&copy, 0, sizeof(copy));
		keel_ioctl_get_events(vcpu, &copy.events);
		memcpy(&page->events, &copy.events, sizeof(page->events));
	}
}

/* What was taken over is no longer dirty; at an error the rest stays so, as on KVM. */
static int load_sync_regs(struct keel_vcpu *vcpu, u64 dirty)
{
	struct kvm_run *run = vcpu->run;
	union sync_regs_copy copy;

	if (dirty & KVM_SYNC_X86_REGS) {
		memcpy(&copy.regs, &run->s.regs.regs, sizeof(copy.regs));
		keel_ioctl_set_regs(vcpu, &copy.regs);
		run->kvm_dirty_regs &= ~KVM_SYNC_X86_REGS;
	}
	if (dirty & KVM_SYNC_X86_SREGS) {
		memcpy(&copy.sregs, &run->s.regs.sregs, sizeof(copy.sregs));
		if (keel_ioctl_set_sregs(vcpu, &copy.sregs))
			return -EINVAL;
		run->kvm_dirty_regs &= ~KVM_SYNC_X86_SREGS;
	}
	if (dirty & KVM_SYNC_X86_EVENTS) {
		memcpy(&copy.events, &run->s.regs.events, sizeof(copy.events));
		if (keel_ioctl_set_events(vcpu, &copy.events))
			return -EINVAL;
		run->kvm_dirty_regs &= ~KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

static int begin_run(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 dirty = READ_ONCE(run->kvm_dirty_regs);
	int ret;

	if ((dirty | READ_ONCE(run->kvm_valid_regs)) & ~(u64)KVM_SYNC_X86_VALID_FIELDS)
		return -EINVAL;
	if (unlikely(dirty)) {
		ret = load_sync_regs(vcpu, dirty);
		if (ret)
			return ret;
	}
	run->flags = 0;
	vcpu->events.want_irq_window = READ_ONCE(run->request_interrupt_window) &&
				       vcpu->vm->irqchip != KEEL_IRQCHIP_KERNEL;
	if (!vcpu->lapic && keel_set_cr8(vcpu, READ_ONCE(run->cr8)))
		return -EINVAL;
	if (vcpu->events.want_irq_window)
		keel_request(vcpu, KEEL_REQ_EVENT);

	if (unlikely(vcpu->debug.control))
		keel_debug_begin_run(vcpu);
	/* the emulator moves XMM registers, too */
	if (vcpu->io.pending == KEEL_IO_EMULATE)
		keel_fpu_enter(vcpu);
	ret = keel_complete_io(vcpu);
	if (ret <= 0)
		return ret;
	/*
	 * The reason stays that of the exit which is now complete, as on KVM:
	 * clients do this to finish an access before they look at registers.
	 */
	if (READ_ONCE(run->KEEL_RUN_FIELD(immediate_exit))) {
		vcpu->stats.signal_exits++;
		return -EINTR;
	}
	return KEEL_RESUME;
}

/*
 * KVM_SET_SIGNAL_MASK. As in sigtimedwait(), the caller's mask waits in
 * real_blocked: a signal blocked there neither kills nor is dropped as ignored
 * for being let in for a while, but ends KVM_RUN and stays pending.
 */
static void activate_sigset(struct keel_vcpu *vcpu)
{
	if (vcpu->sigset_active)
		sigprocmask(SIG_SETMASK, &vcpu->sigset, &current->real_blocked);
}

static void deactivate_sigset(struct keel_vcpu *vcpu)
{
	if (!vcpu->sigset_active)
		return;
	sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
	sigemptyset(&current->real_blocked);
}

/**
 * keel_vcpu_run() - KVM_RUN
 * @vcpu: the vCPU
 *
 * Context: vCPU loaded, vcpu->mutex held.
 * Return: 0 with the run page filled, -EINTR (signal or immediate_exit),
 * -EFAULT (guest memory that cannot be had), -EIO (VM dead), -EINVAL.
 */
int keel_vcpu_run(struct keel_vcpu *vcpu)
{
	int ret;

	rcu_assign_pointer(vcpu->task, current);
	activate_sigset(vcpu);
	keel_clock_enter(vcpu);

	ret = begin_run(vcpu);
	if (ret > 0) {
		if (!vcpu->fpu.loaded)
			keel_fpu_enter(vcpu);
		ret = run_loop(vcpu);
	}
	if (ret == KEEL_TO_USER)
		vcpu->stats.user_exits++;

	if (vcpu->fpu.loaded)
		keel_fpu_leave(vcpu);
	if (unlikely(vcpu->debug.control))
		keel_debug_end_run(vcpu);
	if (unlikely(READ_ONCE(vcpu->run->kvm_valid_regs)))
		store_sync_regs(vcpu);
	post_run(vcpu);
	deactivate_sigset(vcpu);
	rcu_assign_pointer(vcpu->task, NULL);
	return ret;
}
