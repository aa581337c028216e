// SPDX-License-Identifier: GPL-2.0-only
/*
 * Debugging a guest from outside: KVM_SET_GUEST_DEBUG and KVM_EXIT_DEBUG.
 *
 * Single step is the guest's own RFLAGS.TF, set for as long as KVM_RUN is in
 * progress: what exits, is emulated, or completed at the next KVM_RUN looks at
 * it anyway. A trap that is the debugger's becomes a request to leave KVM_RUN,
 * so that whatever retires the instruction needs to know nothing of it.
 */
#include <uapi/asm/debugreg.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "keel.h"
#include "insn/insn.h"

/* What DR6 reads as when nothing has happened. SDM vol. 3 "Debug Status Register" */
#define DR6_NONE	0xffff0ff0UL

static u64 linear_rip(struct keel_vcpu *vcpu)
{
	const struct keel_regs *r = &vcpu->regs;

	keel_need(vcpu, KEEL_RIP | KEEL_CS_SS);
	return keel_mode64(vcpu) ? r->rip : (u32)(r->seg[KEEL_CS].base + r->rip);
}

static void report(struct keel_vcpu *vcpu, u8 vector, u64 dr6)
{
	struct keel_debug *d = &vcpu->debug;

	d->exit = (struct kvm_debug_exit_arch) {
		.exception = vector,
		.pc = linear_rip(vcpu),
		.dr6 = dr6,
		.dr7 = keel_live_dr7(vcpu),
	};
	keel_request(vcpu, KEEL_REQ_DEBUG);
}

/**
 * keel_debug_take_db() - is a #DB the debugger's?
 * @vcpu: the vCPU
 * @dr6: its causes, as keel_queue_db() has them
 *
 * While a step or breakpoints of the debugger are on all of them are: it gives
 * back what it did not ask for.
 *
 * Return: whether it has been taken.
 */
bool keel_debug_take_db(struct keel_vcpu *vcpu, u64 dr6)
{
	u32 mask = KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP;

	/* whose DR7 it is that detects accesses to debug registers */
	if (dr6 == KEEL_DR6_BD)
		mask = KVM_GUESTDBG_USE_HW_BP;
	if (!(vcpu->debug.control & mask))
		return false;
	report(vcpu, X86_TRAP_DB, dr6 | DR6_NONE);
	return true;
}

/* keel_debug_take_bp() - is an INT3, which RIP is on, the debugger's? */
bool keel_debug_take_bp(struct keel_vcpu *vcpu)
{
	if (!(vcpu->debug.control & KVM_GUESTDBG_USE_SW_BP))
		return false;
	report(vcpu, X86_TRAP_BP, DR6_NONE);
	return true;
}

/* keel_debug_exit() - KEEL_REQ_DEBUG: fill the run page */
int keel_debug_exit(struct keel_vcpu *vcpu)
{
	vcpu->run->exit_reason = KVM_EXIT_DEBUG;
	vcpu->run->debug.arch = vcpu->debug.exit;
	vcpu->debug.reported = true;
	return KEEL_TO_USER;
}

/* ---- single step ---- */

/* What an instruction does with TF, beside being stepped by it. */
static enum keel_step_kind step_kind(struct keel_vcpu *vcpu)
{
	struct insn insn;

	if (keel_insn_length(vcpu, &insn) <= 0 || insn.map != INSN_MAP_ONE)
		return KEEL_STEP_PLAIN;
	switch (insn.opcode) {
	case 0x9c:		/* PUSHF */
		return KEEL_STEP_PUSHF;
	case 0x9d:		/* POPF */
	case 0xcf:		/* IRET */
		return KEEL_STEP_LOADS_TF;
	default:
		return KEEL_STEP_PLAIN;
	}
}

/*
 * PUSHF has put our TF on the guest's stack. If that page is gone meanwhile,
 * nobody reads it either.
 */
static void clean_pushed_flags(struct keel_vcpu *vcpu)
{
	struct keel_regs *r = &vcpu->regs;
	struct keel_walk walk;
	u64 linear;
	u8 byte;

	keel_need(vcpu, KEEL_RSP | KEEL_CS_SS);
	linear = r->gpr[KEEL_RSP_REG];
	if (!keel_mode64(vcpu)) {
		if (!r->seg[KEEL_SS].db)
			linear = (u16)linear;
		linear = (u32)(linear + r->seg[KEEL_SS].base);
	}
	/* TF is in the second byte */
	if (keel_guest_walk(vcpu, linear + 1, KEEL_WALK_PEEK, &walk) ||
	    keel_guest_read(vcpu->vm, walk.gpa, &byte, 1))
		return;
	byte &= ~(X86_EFLAGS_TF >> 8);
	keel_guest_write(vcpu, walk.gpa, &byte, 1);
}

/**
 * keel_debug_begin_run() - KVM_RUN begins, and a debugger is attached
 * @vcpu: the vCPU
 *
 * Context: before the last KVM_RUN's I/O is completed, since that can be the
 * step.
 */
void keel_debug_begin_run(struct keel_vcpu *vcpu)
{
	struct keel_debug *d = &vcpu->debug;
	struct keel_regs *r = &vcpu->regs;

	d->reported = false;
	/* the step ended with the last KVM_RUN, which had an access to hand out */
	if (test_bit(KEEL_REQ_DEBUG, &vcpu->requests)) {
		if (linear_rip(vcpu) == d->exit.pc)
			return;
		clear_bit(KEEL_REQ_DEBUG, &vcpu->requests);
	}
	if (!(d->control & KVM_GUESTDBG_SINGLESTEP) || d->in_handler)
		return;
	keel_change(vcpu, KEEL_RFLAGS);
	d->guest_tf = r->rflags & X86_EFLAGS_TF;
	d->step_rip = linear_rip(vcpu);
	d->kind = step_kind(vcpu);
	d->stepping = true;
	r->rflags |= X86_EFLAGS_TF;
	/*
	 * A shadow with TF set is to the CPU a step that has just ended (SDM
	 * vol. 3C "Checks on Guest Non-Register State").
	 */
	keel_backend->set_shadow(vcpu, 0);
}

/**
 * keel_debug_end_run() - KVM_RUN ends: TF is the guest's own again
 * @vcpu: the vCPU
 *
 * An interrupt or a fault on the way has pushed our TF and cleared it: its
 * handler runs at full speed, and the step goes on behind its IRET.
 */
void keel_debug_end_run(struct keel_vcpu *vcpu)
{
	struct keel_debug *d = &vcpu->debug;
	struct keel_regs *r = &vcpu->regs;
	bool stepped = d->reported && d->exit.exception == X86_TRAP_DB &&
		       (d->exit.dr6 & DR_STEP);

	if (!d->stepping)
		return;
	keel_need(vcpu, KEEL_RFLAGS);
	d->in_handler = !d->reported && !(r->rflags & X86_EFLAGS_TF) &&
			linear_rip(vcpu) != d->step_rip;
	if (d->in_handler)
		return;
	d->stepping = false;
	if (!(r->rflags & X86_EFLAGS_TF) || (stepped && d->kind == KEEL_STEP_LOADS_TF))
		return;
	if (stepped && d->kind == KEEL_STEP_PUSHF && !d->guest_tf)
		clean_pushed_flags(vcpu);
	keel_change(vcpu, KEEL_RFLAGS);
	r->rflags = (r->rflags & ~(u64)X86_EFLAGS_TF) | d->guest_tf;
}

/* ---- KVM_SET_GUEST_DEBUG ---- */

/* keel_debug_update() - give the backend what debug.control wants */
void keel_debug_update(struct keel_vcpu *vcpu)
{
	u32 control = vcpu->debug.control;

	vcpu->regs.dirty |= KEEL_DRS;
	keel_backend->intercept_bp(vcpu, control & KVM_GUESTDBG_USE_SW_BP);
}

/*
 * KVM ignores bits of the control word that it does not know, and all of the
 * word but the injection without KVM_GUESTDBG_ENABLE.
 */
int keel_ioctl_set_guest_debug(struct keel_vcpu *vcpu, const struct kvm_guest_debug *dbg)
{
	struct keel_debug *d = &vcpu->debug;

	if (dbg->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (vcpu->events.exception.pending ||
		    test_bit(KEEL_REQ_TRIPLE_FAULT, &vcpu->requests))
			return -EBUSY;
		if (dbg->control & KVM_GUESTDBG_INJECT_DB)
			keel_queue_exception(vcpu, X86_TRAP_DB);
		else
			keel_queue_bp(vcpu);
	}
	memset(d, 0, sizeof(*d));
	clear_bit(KEEL_REQ_DEBUG, &vcpu->requests);
	if (dbg->control & KVM_GUESTDBG_ENABLE)
		d->control = dbg->control;
	if (d->control & KVM_GUESTDBG_USE_HW_BP) {
		memcpy(d->dr, dbg->arch.debugreg, sizeof(d->dr));
		d->dr7 = (dbg->arch.debugreg[7] & KEEL_DR7_WRITABLE) | KEEL_DR7_FIXED;
	}
	keel_debug_update(vcpu);
	/* what KVM_GUESTDBG_BLOCKIRQ has held back */
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}
