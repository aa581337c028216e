// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC's registers: xAPIC and x2APIC. SDM vol. 3 "Advanced
 * Programmable Interrupt Controller (APIC)".
 *
 * Interrupts come in from any context, interrupts on or off: they set bits of
 * IRR and events, then kick. All other state is the owner thread's.
 */
#include <linux/bitops.h>
#include <linux/kvm_para.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "../keel.h"
#include "chips.h"
#include "irq.h"
#include "lapic.h"

#define LAPIC_VERSION	0x14
#define LAPIC_MAX_LVT	5	/* the number of the last: six of them */
#define NR_LVTS		(LAPIC_MAX_LVT + 1)

/* ---- interrupts come in ---- */

static void lapic_kick(struct keel_lapic *l)
{
	keel_request(l->vcpu, KEEL_REQ_EVENT);
	keel_vcpu_kick(l->vcpu);
}

static void lapic_error(struct keel_lapic *l, u32 error)
{
	if (atomic_fetch_or(error, &l->esr) & error)
		return;
	/* the error vector may be illegal itself: that is no new error */
	keel_lapic_local(l, APIC_LVTERR);
}

static int accept_vector(struct keel_lapic *l, u8 vector, bool level)
{
	/* An APIC that software switched off holds what it has, takes no more. */
	if (!keel_lapic_sw_enabled(l))
		return 0;
	if (vector < 16)
		return 0;
	if (level)
		set_bit(vector, l->tmr);
	else
		clear_bit(vector, l->tmr);
	if (test_and_set_bit(vector, l->irr))
		return 0;
	lapic_kick(l);
	return 1;
}

/**
 * keel_lapic_accept() - a message has arrived at this APIC
 * @l: the APIC
 * @msg: the message
 *
 * Context: any.
 * Return: 1, or 0 when it had no effect.
 */
int keel_lapic_accept(struct keel_lapic *l, const struct keel_apic_msg *msg)
{
	switch (msg->mode) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		return accept_vector(l, msg->vector, msg->level);
	case APIC_DM_NMI:
		keel_nmi(l->vcpu);
		return 1;
	case APIC_DM_INIT:
		/* an earlier SIPI is void */
		WRITE_ONCE(l->events, BIT(KEEL_LAPIC_INIT));
		lapic_kick(l);
		return 1;
	case APIC_DM_STARTUP:
		WRITE_ONCE(l->sipi_vector, msg->vector);
		smp_wmb();	/* the vector before the event */
		set_bit(KEEL_LAPIC_SIPI, &l->events);
		lapic_kick(l);
		return 1;
	default:
		/* SMI: keel has no SMM. ExtINT, remote read: not by message */
		return 0;
	}
}

/**
 * keel_lapic_local() - a local interrupt source has fired
 * @l: the APIC
 * @lvt: its register, APIC_LVTT and so on
 *
 * Context: any.
 */
void keel_lapic_local(struct keel_lapic *l, u32 lvt)
{
	u32 value = keel_lapic_reg(l, lvt);
	struct keel_apic_msg msg = {
		.mode = value & APIC_MODE_MASK,
		.vector = value & APIC_VECTOR_MASK,
	};

	if (!keel_lapic_hw_enabled(l) || (value & APIC_LVT_MASKED))
		return;
	if (lvt == APIC_LVTT || lvt == APIC_LVTERR)
		msg.mode = APIC_DM_FIXED;	/* these have no mode field */
	keel_lapic_accept(l, &msg);
}

/* ---- priorities ---- */

static int highest(const unsigned long *vectors)
{
	int i;

	for (i = BITS_TO_LONGS(256) - 1; i >= 0; i--) {
		unsigned long word = READ_ONCE(vectors[i]);

		if (word)
			return i * BITS_PER_LONG + __fls(word);
	}
	return -1;
}

/* SDM vol. 3 "Task and Processor Priorities" */
static u32 processor_priority(const struct keel_lapic *l)
{
	u32 tpr = keel_lapic_reg(l, APIC_TASKPRI) & APIC_TPRI_MASK;
	int isr = highest(l->isr);

	if (isr < 0 || (tpr & 0xf0) >= (isr & 0xf0))
		return tpr;
	return isr & 0xf0;
}

/**
 * keel_lapic_pending() - the vector that has priority enough, or -1
 * @l: the APIC
 */
int keel_lapic_pending(struct keel_lapic *l)
{
	int irr;

	if (!keel_lapic_hw_enabled(l))
		return -1;
	irr = highest(l->irr);
	if (irr < 0 || (irr & 0xf0) <= (processor_priority(l) & 0xf0))
		return -1;
	return irr;
}

/* The guest takes @vector, which keel_lapic_pending() found. */
static void lapic_ack(struct keel_lapic *l, u8 vector)
{
	clear_bit(vector, l->irr);
	__set_bit(vector, l->isr);
}

static void eoi_broadcast(struct keel_lapic *l, u8 vector)
{
	bool level = test_bit(vector, l->tmr);
	struct keel_vm *vm = l->vcpu->vm;
	struct keel_ioapic *ioapic = vm->ioapic;

	if (ioapic) {
		if (test_bit(vector, ioapic->vectors))
			keel_ioapic_eoi(ioapic, l, vector, level);
	} else if (level && test_bit(vector, vm->irq->split_eoi)) {
		l->vcpu->eoi_vector = vector;
		keel_request(l->vcpu, KEEL_REQ_IOAPIC_EOI);
	}
}

/* Less stands in the way of what waits in IRR, if anything does. */
static void priority_fell(struct keel_lapic *l)
{
	if (highest(l->irr) >= 0)
		keel_request(l->vcpu, KEEL_REQ_EVENT);
}

static void end_of_interrupt(struct keel_lapic *l)
{
	int vector = highest(l->isr);

	if (vector < 0)
		return;
	__clear_bit(vector, l->isr);
	eoi_broadcast(l, vector);
}

static void lapic_eoi(struct keel_lapic *l)
{
	keel_pv_eoi_settle(l->vcpu);
	end_of_interrupt(l);
	priority_fell(l);
}

/* ---- PV EOI: Documentation/virt/kvm/x86/msr.rst ---- */

/* Is there more to do at this vector's EOI than to clear its bit? As eoi_broadcast(). */
static bool eoi_matters(struct keel_lapic *l, u8 vector)
{
	struct keel_vm *vm = l->vcpu->vm;

	return vm->ioapic ? test_bit(vector, vm->ioapic->vectors) :
			    test_bit(vector, vm->irq->split_eoi);
}

static gpa_t pv_eoi_gpa(const struct keel_vcpu *vcpu)
{
	return vcpu->pv.eoi_msr & ~(u64)KVM_MSR_ENABLED;
}

void keel_pv_eoi_offer(struct keel_vcpu *vcpu)
{
	static const u8 on = KVM_PV_EOI_ENABLED;
	struct keel_lapic *l = vcpu->lapic;
	int vector;

	if (likely(!(vcpu->pv.eoi_msr & KVM_MSR_ENABLED)) || !l)
		return;
	/*
	 * What waits has to be injected after the EOI. What comes later makes
	 * the vCPU look at its events, and so settles.
	 */
	vector = highest(l->isr);
	if (vector < 0 || highest(l->irr) >= 0 || eoi_matters(l, vector))
		return;
	if (!keel_guest_write(vcpu, pv_eoi_gpa(vcpu), &on, sizeof(on)))
		vcpu->pv.eoi_offered = true;
}

void keel_pv_eoi_settle(struct keel_vcpu *vcpu)
{
	static const u8 off = KVM_PV_EOI_DISABLED;
	u8 flags;

	if (likely(!vcpu->pv.eoi_offered))
		return;
	vcpu->pv.eoi_offered = false;
	/* memory that went away has no bit set */
	if (!keel_guest_read(vcpu->vm, pv_eoi_gpa(vcpu), &flags, sizeof(flags)) &&
	    (flags & KVM_PV_EOI_ENABLED) &&
	    !keel_guest_write(vcpu, pv_eoi_gpa(vcpu), &off, sizeof(off)))
		return;
	end_of_interrupt(vcpu->lapic);
	vcpu->stats.pv_eois++;
}

static void set_tpr(struct keel_lapic *l, u32 tpr)
{
	keel_lapic_put_reg(l, APIC_TASKPRI, tpr & APIC_TPRI_MASK);
	priority_fell(l);
}

u64 keel_lapic_get_cr8(struct keel_vcpu *vcpu)
{
	return vcpu->lapic ? (keel_lapic_reg(vcpu->lapic, APIC_TASKPRI) & 0xf0) >> 4 : 0;
}

void keel_lapic_set_cr8(struct keel_vcpu *vcpu, u64 cr8)
{
	if (vcpu->lapic)
		set_tpr(vcpu->lapic, (cr8 & 0xf) << 4);
}

/* ---- what the core asks ---- */

/**
 * keel_lapic_accepts_pic() - does the PIC's INTR reach this CPU?
 * @l: the APIC
 *
 * Through LINT0 as ExtINT, or directly when the APIC is off altogether.
 */
bool keel_lapic_accepts_pic(struct keel_lapic *l)
{
	u32 lvt0 = keel_lapic_reg(l, APIC_LVT0);

	if (!keel_lapic_hw_enabled(l))
		return true;
	return !(lvt0 & APIC_LVT_MASKED) && (lvt0 & APIC_MODE_MASK) == APIC_DM_EXTINT;
}

/* The PIC comes before what userspace's PIC sent, and that before the LAPIC. */
static int next_irq(struct keel_vcpu *vcpu, bool take)
{
	struct keel_lapic *l = vcpu->lapic;
	struct keel_pic *pic = vcpu->vm->pic;
	int vector;

	if (!l)
		return -1;
	if (pic && READ_ONCE(pic->output) && keel_lapic_accepts_pic(l)) {
		vector = take ? keel_pic_ack(pic) : keel_pic_peek(pic);
		if (vector >= 0)
			return vector;
	}
	vector = READ_ONCE(l->extint);
	if (vector >= 0 && keel_lapic_accepts_pic(l)) {
		if (take)
			WRITE_ONCE(l->extint, -1);
		return vector;
	}
	vector = keel_lapic_pending(l);
	if (take && vector >= 0)
		lapic_ack(l, vector);
	return vector;
}

/**
 * keel_irq_pending() - the vector that the guest would take now, or -1
 * @vcpu: the vCPU
 *
 * Context: the owner thread; elsewhere it is a hint.
 */
int keel_irq_pending(struct keel_vcpu *vcpu)
{
	return next_irq(vcpu, false);
}

/**
 * keel_irq_ack() - take the interrupt that keel_irq_pending() told of
 * @vcpu: the vCPU
 *
 * Context: owner thread.
 * Return: its vector, or -1 when there is none after all (another vCPU took
 * the PIC's, or its line fell).
 */
int keel_irq_ack(struct keel_vcpu *vcpu)
{
	return next_irq(vcpu, true);
}

/**
 * keel_extint_accepted() - may userspace send its PIC's interrupt now?
 * @vcpu: the vCPU
 *
 * With a LAPIC here, only if it lets that through, and none waits already.
 */
bool keel_extint_accepted(struct keel_vcpu *vcpu)
{
	struct keel_lapic *l = vcpu->lapic;

	return !l || (l->extint < 0 && keel_lapic_accepts_pic(l));
}

int keel_lapic_queue_extint(struct keel_vcpu *vcpu, u8 vector)
{
	struct keel_lapic *l = vcpu->lapic;

	if (l->extint >= 0)
		return -EEXIST;
	WRITE_ONCE(l->extint, vector);
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}

bool keel_lapic_has_events(struct keel_vcpu *vcpu)
{
	return vcpu->lapic && READ_ONCE(vcpu->lapic->events);
}

/**
 * keel_lapic_accept_events() - process INIT and SIPI
 * @vcpu: the vCPU
 *
 * Context: owner thread, vCPU loaded, may sleep.
 */
void keel_lapic_accept_events(struct keel_vcpu *vcpu)
{
	struct keel_lapic *l = vcpu->lapic;

	if (!l)
		return;
	if (test_and_clear_bit(KEEL_LAPIC_INIT, &l->events)) {
		keel_vcpu_reset(vcpu, true);
		vcpu->mp_state = l->base & MSR_IA32_APICBASE_BSP ?
				 KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
	}
	if (test_and_clear_bit(KEEL_LAPIC_SIPI, &l->events)) {
		smp_rmb();	/* pairs with the smp_wmb() of the sender */
		/* otherwise nobody waits for it: lost, as on the bus */
		if (vcpu->mp_state != KVM_MP_STATE_INIT_RECEIVED)
			return;
		keel_vcpu_deliver_sipi(vcpu, READ_ONCE(l->sipi_vector));
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

void keel_lapic_queue_sipi(struct keel_vcpu *vcpu)
{
	if (!vcpu->lapic)
		return;
	set_bit(KEEL_LAPIC_SIPI, &vcpu->lapic->events);
	keel_request(vcpu, KEEL_REQ_EVENT);
}

void keel_lapic_set_sipi_vector(struct keel_vcpu *vcpu, u8 vector)
{
	if (vcpu->lapic)
		WRITE_ONCE(vcpu->lapic->sipi_vector, vector);
}

/* ---- interprocessor interrupts ---- */

static void send_ipi(struct keel_lapic *l, u32 icr, u32 dest)
{
	struct keel_apic_msg msg = {
		.dest = dest,
		.shorthand = icr & APIC_DEST_ALLBUT,
		.mode = icr & APIC_DM_FIXED_MASK,
		.vector = icr & APIC_VECTOR_MASK,
		.logical = icr & APIC_DEST_LOGICAL,
		.lowest = (icr & APIC_DM_FIXED_MASK) == APIC_DM_LOWEST,
		.x2 = keel_lapic_x2(l),
		.ipi = true,
	};
	bool vectored = msg.mode == APIC_DM_FIXED || msg.lowest;

	/* INIT level de-assert: an ID synchronisation of old; nobody listens */
	if (msg.mode == APIC_DM_INIT && (icr & APIC_INT_LEVELTRIG) &&
	    !(icr & APIC_INT_ASSERT))
		return;
	if (vectored && msg.vector < 16) {
		lapic_error(l, APIC_ESR_SENDILL);
		return;
	}
	keel_apic_send(l->vcpu->vm, l, &msg);
}

static void write_icr(struct keel_lapic *l, u32 low, u32 high)
{
	low &= ~APIC_ICR_BUSY;
	keel_lapic_put_reg(l, APIC_ICR, low);
	keel_lapic_put_reg(l, APIC_ICR2, high);
	send_ipi(l, low, keel_lapic_x2(l) ? high : GET_XAPIC_DEST_FIELD(high));
}

/* ---- registers ---- */

/* What exists, and where. */
#define XR	BIT(0)	/* readable in xAPIC mode */
#define XW	BIT(1)
#define R2	BIT(2)	/* readable in x2APIC mode, by RDMSR */
#define W2	BIT(3)
#define RW	(XR | XW | R2 | W2)

/*
 * struct lapic_reg - one register
 * @bits: those that can be written; in x2APIC mode others raise #GP
 */
static const struct lapic_reg {
	u8 access;
	u32 bits;
} lapic_regs[0x400 / 0x10] = {
	[APIC_ID / 0x10] = { XR | XW | R2, 0xff000000 },
	[APIC_LVR / 0x10] = { XR | R2 },
	[APIC_TASKPRI / 0x10] = { RW, APIC_TPRI_MASK },
	[APIC_ARBPRI / 0x10] = { XR },
	[APIC_PROCPRI / 0x10] = { XR | R2 },
	[APIC_EOI / 0x10] = { XW | W2, 0 },
	[APIC_RRR / 0x10] = { XR },
	[APIC_LDR / 0x10] = { XR | XW | R2, APIC_LDR_MASK },
	[APIC_DFR / 0x10] = { XR | XW, 0xf0000000 },
	[APIC_SPIV / 0x10] = { RW, APIC_VECTOR_MASK | APIC_SPIV_APIC_ENABLED |
			       APIC_SPIV_FOCUS_DISABLED },
	[APIC_ISR / 0x10 ... APIC_ISR / 0x10 + 7] = { XR | R2 },
	[APIC_TMR / 0x10 ... APIC_TMR / 0x10 + 7] = { XR | R2 },
	[APIC_IRR / 0x10 ... APIC_IRR / 0x10 + 7] = { XR | R2 },
	[APIC_ESR / 0x10] = { RW, 0 },
	[APIC_ICR / 0x10] = { RW, 0xffffffff },
	[APIC_ICR2 / 0x10] = { XR | XW, 0xff000000 },
	[APIC_LVTT / 0x10] = { RW, APIC_VECTOR_MASK | APIC_LVT_MASKED |
			       APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE },
	[APIC_LVTTHMR / 0x10] = { RW, APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED },
	[APIC_LVTPC / 0x10] = { RW, APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED },
	[APIC_LVT0 / 0x10] = { RW, APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED |
			       APIC_INPUT_POLARITY | APIC_LVT_LEVEL_TRIGGER },
	[APIC_LVT1 / 0x10] = { RW, APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED |
			       APIC_INPUT_POLARITY | APIC_LVT_LEVEL_TRIGGER },
	[APIC_LVTERR / 0x10] = { RW, APIC_VECTOR_MASK | APIC_LVT_MASKED },
	[APIC_TMICT / 0x10] = { RW, 0xffffffff },
	[APIC_TMCCT / 0x10] = { XR | R2 },
	[APIC_TDCR / 0x10] = { RW, 0xb },
	[APIC_SELF_IPI / 0x10] = { W2, APIC_VECTOR_MASK },
};

static void write_spiv(struct keel_lapic *l, u32 value)
{
	u32 lvt;

	keel_lapic_put_reg(l, APIC_SPIV, value);
	if (value & APIC_SPIV_APIC_ENABLED)
		return;
	/* SDM vol. 3 "Local APIC State After It Has Been Software Disabled" */
	for (lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 0x10)
		keel_lapic_put_reg(l, lvt, keel_lapic_reg(l, lvt) | APIC_LVT_MASKED);
}

static void write_lvt(struct keel_lapic *l, u32 reg, u32 value)
{
	if (!keel_lapic_sw_enabled(l))
		value |= APIC_LVT_MASKED;
	keel_lapic_put_reg(l, reg, value);
	if (reg == APIC_LVTT)
		keel_lapic_timer_write_lvtt(l);
	if (reg == APIC_LVT0)	/* the PIC's output may be high already */
		keel_request(l->vcpu, KEEL_REQ_EVENT);
}

static void write_id(struct keel_lapic *l, u32 reg, u32 value)
{
	if (keel_lapic_reg(l, reg) == value)
		return;
	keel_lapic_put_reg(l, reg, value);
	keel_apic_map_update(l->vcpu->vm);
}

/**
 * keel_lapic_write() - write a register that exists, with its valid bits
 * @l: the APIC
 * @reg: offset in the register page
 * @value: its new value
 *
 * Context: owner thread; may sleep when it is the ID, LDR or DFR.
 */
void keel_lapic_write(struct keel_lapic *l, u32 reg, u32 value)
{
	switch (reg) {
	case APIC_ID:
	case APIC_LDR:
		write_id(l, reg, value);
		break;
	case APIC_DFR:
		write_id(l, reg, value | 0x0fffffff);
		break;
	case APIC_TASKPRI:
		set_tpr(l, value);
		break;
	case APIC_EOI:
		lapic_eoi(l);
		break;
	case APIC_SPIV:
		write_spiv(l, value);
		break;
	case APIC_ESR:
		/* a write makes what was gathered since the last one visible */
		keel_lapic_put_reg(l, APIC_ESR, atomic_xchg(&l->esr, 0));
		break;
	case APIC_ICR:
		write_icr(l, value, keel_lapic_reg(l, APIC_ICR2));
		break;
	case APIC_SELF_IPI:
		send_ipi(l, APIC_DEST_SELF | APIC_DM_FIXED | value, 0);
		break;
	case APIC_LVTT ... APIC_LVTERR:
		write_lvt(l, reg, value);
		break;
	case APIC_TMICT:
		/* SDM: in TSC-deadline mode writes are ignored */
		if (l->timer.mode == APIC_LVT_TIMER_TSCDEADLINE)
			break;
		keel_lapic_put_reg(l, APIC_TMICT, value);
		keel_lapic_timer_write_count(l);
		break;
	case APIC_TDCR:
		keel_lapic_put_reg(l, APIC_TDCR, value);
		keel_lapic_timer_write_divide(l);
		break;
	default:
		keel_lapic_put_reg(l, reg, value);
	}
}

/* Eight registers of 32 vectors each, 16 bytes apart, for each of these. */
static unsigned long *vectors_of(struct keel_lapic *l, u32 reg)
{
	switch (reg & ~0x7f) {
	case APIC_ISR:
		return l->isr;
	case APIC_TMR:
		return l->tmr;
	default:
		return l->irr;
	}
}

static u32 vectors_reg(struct keel_lapic *l, u32 reg)
{
	u8 first = (reg & 0x70) << 1;

	return READ_ONCE(vectors_of(l, reg)[first / BITS_PER_LONG]) >> first % BITS_PER_LONG;
}

u32 keel_lapic_read(struct keel_lapic *l, u32 reg)
{
	keel_pv_eoi_settle(l->vcpu);
	switch (reg) {
	case APIC_ISR ... APIC_IRR + 0x70:
		return vectors_reg(l, reg);
	case APIC_PROCPRI:
		return processor_priority(l);
	case APIC_TMCCT:
		return keel_lapic_timer_count(l);
	default:
		return keel_lapic_reg(l, reg);
	}
}

/* ---- xAPIC: the register page ---- */

static void mmio_read(struct keel_lapic *l, u32 offset, int len, void *data)
{
	u32 reg = offset & 0x3f0, within = offset & 0xf, value = 0;

	memset(data, 0, len);
	if (within + len > 4)
		return;		/* undefined: SDM asks for aligned 32-bit accesses */
	if (offset < 0x400 && (lapic_regs[reg / 0x10].access & XR))
		value = keel_lapic_read(l, reg);
	else
		lapic_error(l, APIC_ESR_ILLREGA);
	memcpy(data, (u8 *)&value + within, len);
}

static void mmio_write(struct keel_lapic *l, u32 offset, int len, const void *data)
{
	u32 value;

	if (len != 4 || (offset & 0xf))
		return;
	memcpy(&value, data, sizeof(value));
	if (offset < 0x400 && (lapic_regs[offset / 0x10].access & XW))
		keel_lapic_write(l, offset, value & lapic_regs[offset / 0x10].bits);
	else
		lapic_error(l, APIC_ESR_ILLREGA);
}

/**
 * keel_lapic_mmio() - an access to guest-physical memory: is it the APIC's?
 * @vcpu: the vCPU
 * @gpa: address of the access
 * @len: its length
 * @data: what is read or written
 * @write: the direction
 *
 * Context: owner thread, may sleep.
 * Return: true when the LAPIC answered.
 */
bool keel_lapic_mmio(struct keel_vcpu *vcpu, gpa_t gpa, int len, void *data, bool write)
{
	struct keel_lapic *l = vcpu->lapic;
	u64 start;

	if (!l)
		return false;
	start = l->base & MSR_IA32_APICBASE_BASE;
	if (gpa < start || gpa - start >= PAGE_SIZE)
		return false;
	/*
	 * Not in xAPIC mode: nothing is there. As KVM keep it from userspace,
	 * which may take the page for that where MSIs are written.
	 */
	if (!keel_lapic_hw_enabled(l) || keel_lapic_x2(l)) {
		if (keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_LAPIC_MMIO_HOLE))
			return false;
		if (!write)
			memset(data, 0xff, len);
		return true;
	}
	if (write)
		mmio_write(l, gpa - start, len, data);
	else
		mmio_read(l, gpa - start, len, data);
	return true;
}

/* ---- x2APIC: MSRs ---- */

/* Reserved in ICR; bit 12, delivery status of old, is tolerated and dropped. */
#define X2APIC_ICR_RESERVED	(GENMASK_ULL(31, 20) | GENMASK_ULL(17, 16) | BIT_ULL(13))

static const struct lapic_reg *msr_reg(struct keel_vcpu *vcpu, u32 msr, u32 *reg)
{
	struct keel_lapic *l = vcpu->lapic;

	if (!l || !keel_lapic_hw_enabled(l) || !keel_lapic_x2(l))
		return NULL;
	if (msr < APIC_BASE_MSR || msr - APIC_BASE_MSR >= ARRAY_SIZE(lapic_regs))
		return NULL;
	*reg = array_index_nospec(msr - APIC_BASE_MSR, ARRAY_SIZE(lapic_regs)) * 0x10;
	return &lapic_regs[*reg / 0x10];
}

int keel_lapic_msr_read(struct keel_vcpu *vcpu, u32 msr, u64 *value)
{
	const struct lapic_reg *r;
	u32 reg;

	r = msr_reg(vcpu, msr, &reg);
	if (!r || !(r->access & R2))
		return -EINVAL;
	*value = keel_lapic_read(vcpu->lapic, reg);
	if (reg == APIC_ICR)
		*value |= (u64)keel_lapic_reg(vcpu->lapic, APIC_ICR2) << 32;
	return 0;
}

int keel_lapic_msr_write(struct keel_vcpu *vcpu, u32 msr, u64 value)
{
	const struct lapic_reg *r;
	u32 reg, ignored = 0;

	r = msr_reg(vcpu, msr, &reg);
	if (!r || !(r->access & W2))
		return -EINVAL;
	if (reg == APIC_ICR) {
		if (value & X2APIC_ICR_RESERVED)
			return -EINVAL;
		write_icr(vcpu->lapic, value, value >> 32);
		return 0;
	}
	/* read-only bits of an LVT may be written back as they were read */
	if (reg >= APIC_LVTT && reg <= APIC_LVTERR)
		ignored = APIC_SEND_PENDING | APIC_LVT_REMOTE_IRR;
	if (value & ~(u64)(r->bits | ignored))
		return -EINVAL;
	keel_lapic_write(vcpu->lapic, reg, value & r->bits);
	return 0;
}

/* ---- MSR_IA32_APICBASE ---- */

static bool base_valid(struct keel_vcpu *vcpu, u64 old, u64 new, bool host)
{
	const struct kvm_cpuid_entry2 *leaf1 = keel_cpuid_find(vcpu, 1, 0);
	u64 reserved = 0x2ff, both = X2APIC_ENABLE | XAPIC_ENABLE;

	if (vcpu->cpuid.maxphyaddr)
		reserved |= ~0ULL << vcpu->cpuid.maxphyaddr;
	/* userspace may restore the APIC before it says what CPUID is */
	if (!host && !(leaf1 && (leaf1->ecx & BIT(21))))
		reserved |= X2APIC_ENABLE;
	if ((new & reserved) || (new & both) == X2APIC_ENABLE)
		return false;
	if (host)
		return true;
	/* SDM vol. 3 "x2APIC State Transitions": off is the only way back */
	if ((old & both) == both && (new & both) == XAPIC_ENABLE)
		return false;
	return (old & XAPIC_ENABLE) || (new & both) != both;
}

static void set_base(struct keel_lapic *l, u64 value)
{
	u64 changed = l->base ^ value;
	u32 id = l->vcpu->id;

	WRITE_ONCE(l->base, value);
	l->vcpu->msrs.apic_base = value;
	if (changed & (X2APIC_ENABLE | XAPIC_ENABLE)) {
		if (keel_lapic_x2(l)) {
			keel_lapic_put_reg(l, APIC_ID, id);
			keel_lapic_put_reg(l, APIC_LDR, keel_x2apic_ldr(id));
			keel_lapic_put_reg(l, APIC_ICR2, 0);
		} else {
			keel_lapic_put_reg(l, APIC_ID, id << 24);
			keel_lapic_put_reg(l, APIC_LDR, 0);
			if (!keel_lapic_hw_enabled(l))
				keel_lapic_timer_stop(l);
		}
		if (l->published)
			keel_apic_map_update(l->vcpu->vm);
	}
	keel_request(l->vcpu, KEEL_REQ_EVENT);
}

int keel_lapic_set_base(struct keel_vcpu *vcpu, u64 value, bool host)
{
	if (value == vcpu->msrs.apic_base)
		return 0;
	if (!base_valid(vcpu, vcpu->msrs.apic_base, value, host))
		return -EINVAL;
	if (vcpu->lapic)
		set_base(vcpu->lapic, value);
	else
		vcpu->msrs.apic_base = value;
	return 0;
}

/* ---- KVM_GET_LAPIC, KVM_SET_LAPIC ---- */

static u32 *state_reg(struct kvm_lapic_state *s, u32 reg)
{
	return (u32 *)(s->regs + reg);
}

static u32 state_value(const struct kvm_lapic_state *s, u32 reg)
{
	return *(const u32 *)(s->regs + reg);
}

int keel_lapic_get_state(struct keel_vcpu *vcpu, struct kvm_lapic_state *s)
{
	struct keel_lapic *l = vcpu->lapic;
	u32 reg;

	if (!l)
		return -EINVAL;
	memcpy(s->regs, l->regs, sizeof(s->regs));
	for (reg = APIC_ISR; reg < APIC_ESR; reg += 0x10)
		*state_reg(s, reg) = vectors_reg(l, reg);
	*state_reg(s, APIC_TMCCT) = keel_lapic_timer_count(l);
	*state_reg(s, APIC_PROCPRI) = processor_priority(l);
	if (keel_lapic_x2(l) && !vcpu->vm->x2apic_32bit_ids)
		*state_reg(s, APIC_ID) <<= 24;
	return 0;
}

/* Also vectors 0 to 15, whose priority is too low to be ever delivered: as KVM. */
static void set_vectors(struct keel_lapic *l, const struct kvm_lapic_state *s, u32 reg)
{
	unsigned long *vectors = vectors_of(l, reg), low, high;
	int i;

	for (i = 0; i < BITS_TO_LONGS(256); i++, reg += 0x20) {
		low = state_value(s, reg);
		high = state_value(s, reg + 0x10);
		WRITE_ONCE(vectors[i], high << 32 | low);
	}
}

int keel_lapic_set_state(struct keel_vcpu *vcpu, const struct kvm_lapic_state *s)
{
	struct keel_lapic *l = vcpu->lapic;
	u32 reg, i;

	if (!l)
		return -EINVAL;
	if (keel_lapic_x2(l) && vcpu->vm->x2apic_32bit_ids &&
	    state_value(s, APIC_ID) != vcpu->id)
		return -EINVAL;

	keel_lapic_timer_stop(l);
	/* what the guest could not have written stays out */
	for (i = 0; i < ARRAY_SIZE(lapic_regs); i++) {
		reg = i * 0x10;
		if ((lapic_regs[i].access & XW) && reg != APIC_EOI)
			keel_lapic_put_reg(l, reg, state_value(s, reg) & lapic_regs[i].bits);
	}
	keel_lapic_put_reg(l, APIC_DFR, state_value(s, APIC_DFR) | 0x0fffffff);
	keel_lapic_put_reg(l, APIC_ESR, state_value(s, APIC_ESR) & 0xff);
	keel_lapic_put_reg(l, APIC_TMCCT, state_value(s, APIC_TMCCT));
	set_vectors(l, s, APIC_IRR);
	set_vectors(l, s, APIC_ISR);
	set_vectors(l, s, APIC_TMR);
	if (keel_lapic_x2(l)) {
		keel_lapic_put_reg(l, APIC_ID, vcpu->id);
		keel_lapic_put_reg(l, APIC_LDR, keel_x2apic_ldr(vcpu->id));
		keel_lapic_put_reg(l, APIC_ICR2, state_value(s, APIC_ICR2));
	}
	keel_apic_map_update(vcpu->vm);
	keel_lapic_timer_restore(l);
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}

/* ---- life ---- */

/**
 * keel_lapic_reset() - power-up reset, or INIT
 * @vcpu: the vCPU
 * @init: INIT, not power-up
 *
 * SDM vol. 3 "Local APIC State After Power-Up or Reset"; after INIT the ID
 * and the mode (APICBASE) stay. Context: owner thread, may sleep.
 */
void keel_lapic_reset(struct keel_vcpu *vcpu, bool init)
{
	struct keel_lapic *l = vcpu->lapic;
	bool bsp = vcpu->id == vcpu->vm->bsp_id;
	u32 id, lvt;

	if (!l)
		return;
	if (!init) {
		WRITE_ONCE(l->base, APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
			   (bsp ? MSR_IA32_APICBASE_BSP : 0));
		WRITE_ONCE(l->events, 0);
		keel_lapic_put_reg(l, APIC_ID, vcpu->id << 24);
	}
	vcpu->msrs.apic_base = l->base;

	id = keel_lapic_reg(l, APIC_ID);
	keel_lapic_timer_reset(l);
	memset(l->regs, 0, sizeof(l->regs));
	bitmap_zero(l->isr, 256);
	bitmap_zero(l->irr, 256);
	bitmap_zero(l->tmr, 256);
	keel_lapic_put_reg(l, APIC_ID, id);
	keel_lapic_put_reg(l, APIC_LVR, LAPIC_VERSION | LAPIC_MAX_LVT << 16);
	keel_lapic_put_reg(l, APIC_DFR, APIC_DFR_FLAT);
	keel_lapic_put_reg(l, APIC_SPIV, 0xff);
	if (keel_lapic_x2(l))
		keel_lapic_put_reg(l, APIC_LDR, keel_x2apic_ldr(vcpu->id));
	for (lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 0x10)
		keel_lapic_put_reg(l, lvt, APIC_LVT_MASKED);
	/* virtual wire, as firmware leaves it and KVM's clients count on */
	if (bsp && !keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_LINT0_REENABLED))
		keel_lapic_put_reg(l, APIC_LVT0, APIC_DM_EXTINT);
	atomic_set(&l->esr, 0);
	WRITE_ONCE(l->extint, -1);
	if (l->published)
		keel_apic_map_update(vcpu->vm);
}

/**
 * keel_lapic_alloc() - a LAPIC that nobody can address yet
 * @vcpu: the vCPU
 */
struct keel_lapic *keel_lapic_alloc(struct keel_vcpu *vcpu)
{
	struct keel_lapic *l = kzalloc(sizeof(*l), GFP_KERNEL_ACCOUNT);

	if (!l)
		return NULL;
	l->vcpu = vcpu;
	l->extint = -1;
	keel_lapic_timer_init(l);
	return l;
}

void keel_lapic_destroy(struct keel_lapic *l)
{
	keel_lapic_timer_stop(l);
	kfree(l);
}

int keel_lapic_create(struct keel_vcpu *vcpu)
{
	vcpu->lapic = keel_lapic_alloc(vcpu);
	return vcpu->lapic ? 0 : -ENOMEM;
}

void keel_lapic_publish(struct keel_vcpu *vcpu)
{
	struct keel_irq *irq = vcpu->vm->irq;
	struct keel_lapic *l = vcpu->lapic;

	if (!l)
		return;
	mutex_lock(&irq->map_lock);
	list_add_tail_rcu(&l->node, &irq->apics);
	l->published = true;
	mutex_unlock(&irq->map_lock);
	keel_apic_map_update(vcpu->vm);
}

void keel_lapic_free(struct keel_vcpu *vcpu)
{
	/*
	 * A published one goes with its VM, when keel_irq_vm_destroy() has
	 * silenced all who could send to it.
	 */
	if (vcpu->lapic)
		keel_lapic_destroy(vcpu->lapic);
	vcpu->lapic = NULL;
}
