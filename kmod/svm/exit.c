// SPDX-License-Identifier: GPL-2.0-only
/*
 * From #VMEXIT to the neutral exit record. APM volume 2, appendix C.
 */
#include <linux/percpu.h>
#include <asm/processor.h>
#include <asm/debugreg.h>
#include <asm/svm.h>
#include <asm/trapnr.h>

#include "internal.h"
#include "../insn/insn.h"

/* APM 15.25.6: bits of EXITINFO1 of a nested page fault */
#define NPF_PRESENT	BIT_ULL(0)
#define NPF_WRITE	BIT_ULL(1)
#define NPF_EXEC	BIT_ULL(4)
#define NPF_TABLE	BIT_ULL(33)

/* APM 15.33.1: with decode assists, EXITINFO1 of a MOV to or from CR, DR */
#define ASSIST_MOV_CR	BIT_ULL(63)
#define ASSIST_GPR	GENMASK_ULL(3, 0)

/*
 * Exits that need nothing but their name, and with INSN the length of the
 * instruction. The others are in svm_decode_exit().
 */
#define NAMED	BIT(0)
#define INSN	(NAMED | BIT(1))

static const struct { u8 reason, flags; } named[] = {
	[SVM_EXIT_INTR]		= { KEEL_EXIT_INTERRUPT, NAMED },
	[SVM_EXIT_NMI]		= { KEEL_EXIT_NMI, NAMED },
	[SVM_EXIT_SMI]		= { KEEL_EXIT_NONE, NAMED },
	[SVM_EXIT_INIT]		= { KEEL_EXIT_NONE, NAMED },
	[SVM_EXIT_VINTR]	= { KEEL_EXIT_IRQ_WINDOW, NAMED },
	[SVM_EXIT_RDPMC]	= { KEEL_EXIT_RDPMC, NAMED },
	[SVM_EXIT_CPUID]	= { KEEL_EXIT_CPUID, INSN },
	[SVM_EXIT_SWINT]	= { KEEL_EXIT_SOFT_INTERRUPT, NAMED },
	[SVM_EXIT_INVD]		= { KEEL_EXIT_WBINVD, INSN },
	[SVM_EXIT_HLT]		= { KEEL_EXIT_HLT, INSN },
	[SVM_EXIT_INVLPGA]	= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_FERR_FREEZE]	= { KEEL_EXIT_NONE, NAMED },
	[SVM_EXIT_SHUTDOWN]	= { KEEL_EXIT_TRIPLE_FAULT, NAMED },
	[SVM_EXIT_VMRUN]	= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_VMMCALL]	= { KEEL_EXIT_HYPERCALL, INSN },
	[SVM_EXIT_VMLOAD]	= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_VMSAVE]	= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_STGI]		= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_CLGI]		= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_SKINIT]	= { KEEL_EXIT_INVALID_OPCODE, NAMED },
	[SVM_EXIT_WBINVD]	= { KEEL_EXIT_WBINVD, INSN },
	[SVM_EXIT_MONITOR]	= { KEEL_EXIT_MONITOR, INSN },
	[SVM_EXIT_MWAIT]	= { KEEL_EXIT_MWAIT, INSN },
	[SVM_EXIT_XSETBV]	= { KEEL_EXIT_XSETBV, INSN },
	[SVM_EXIT_RDPRU]	= { KEEL_EXIT_INVALID_OPCODE, NAMED },
};

static u8 insn_length(const struct vmcb *vmcb, u64 next_rip)
{
	u64 len = next_rip - vmcb->save.rip;

	/* a RIP that wraps, or hardware that gave none: decode instead */
	return len <= INSN_MAX_LEN ? len : 0;
}

static u8 next_rip_length(const struct vmcb *vmcb)
{
	return svm_caps.nrips ? insn_length(vmcb, vmcb->control.next_rip) : 0;
}

/* APM 15.10.2 "IN and OUT Behavior": EXITINFO2 is the next RIP everywhere. */
static void decode_io(struct keel_exit *e, const struct vmcb *vmcb)
{
	u64 info = vmcb->control.exit_info_1;

	e->reason = KEEL_EXIT_IO;
	e->insn_len = insn_length(vmcb, vmcb->control.exit_info_2);
	e->io.port = info >> 16;
	e->io.in = info & SVM_IOIO_TYPE_MASK;
	e->io.string = info & SVM_IOIO_STR_MASK;
	e->io.rep = info & BIT(SVM_IOIO_REP_SHIFT);
	e->io.size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
}

static void decode_page_fault(struct keel_exit *e, const struct vmcb *vmcb)
{
	u64 info = vmcb->control.exit_info_1;

	e->reason = KEEL_EXIT_PAGE_FAULT;
	e->fault.gpa = vmcb->control.exit_info_2;
	e->fault.present = info & NPF_PRESENT;
	e->fault.write = info & NPF_WRITE;
	e->fault.exec = info & NPF_EXEC;
	e->fault.table = info & NPF_TABLE;
}

/* #DB, #AC, #UD and #MC, and #BP for a debugger: no others are intercepted. */
static void decode_exception(struct keel_exit *e, struct vmcb *vmcb, u8 vector)
{
	e->reason = vector == X86_TRAP_MC ? KEEL_EXIT_MACHINE_CHECK : KEEL_EXIT_EXCEPTION;
	e->exception.vector = vector;
	e->exception.has_error = vector == X86_TRAP_AC;
	e->exception.error = vmcb->control.exit_info_1;
	e->exception.payload = 0;
	if (vector == X86_TRAP_DB) {
		e->exception.payload = vmcb->save.dr6 & KEEL_DR6_CAUSES;
		/* neither the next #DB nor the host's are to find it */
		vmcb->save.dr6 = DR6_RESERVED;
		set_debugreg(DR6_RESERVED, 6);
	}
}

/* Without decode assists the emulator finds out what the instruction was. */
static void decode_cr(struct keel_exit *e, const struct vmcb *vmcb, u32 code)
{
	u64 info = vmcb->control.exit_info_1;

	e->reason = KEEL_EXIT_EMULATE;
	if (!svm_caps.decode_assists || !(info & ASSIST_MOV_CR))
		return;
	e->insn_len = next_rip_length(vmcb);
	e->reason = KEEL_EXIT_CR;
	e->cr.cr = code & 0xf;
	e->cr.op = code >= SVM_EXIT_WRITE_CR0 ? KEEL_CR_WRITE : KEEL_CR_READ;
	e->cr.gpr = info & ASSIST_GPR;
}

static void decode_dr(struct keel_exit *e, const struct vmcb *vmcb, u32 code)
{
	e->reason = KEEL_EXIT_EMULATE;
	if (!svm_caps.decode_assists)
		return;
	e->insn_len = next_rip_length(vmcb);
	e->reason = KEEL_EXIT_DR;
	e->dr.dr = code & 0xf;
	e->dr.write = code >= SVM_EXIT_WRITE_DR0;
	e->dr.gpr = vmcb->control.exit_info_1 & ASSIST_GPR;
}

static void decode_msr(struct keel_exit *e, const struct vmcb *vmcb)
{
	e->reason = vmcb->control.exit_info_1 ? KEEL_EXIT_WRMSR : KEEL_EXIT_RDMSR;
	e->insn_len = next_rip_length(vmcb);
}

/*
 * The IRET of an NMI handler is about to execute: NMIs stay masked until it
 * has, which the next exit finds out.
 */
static void decode_iret(struct keel_exit *e, struct svm_vcpu *svm)
{
	svm_intercept(svm->vmcb, INTERCEPT_IRET, false);
	svm->iret_pending = true;
	svm->iret_rip = svm->vcpu.regs.rip;
	e->reason = KEEL_EXIT_NMI_WINDOW;
}

/*
 * The step that svm_nmi_window() asked for is over, or never began. TF goes
 * back to what it was, unless the instruction was the IRET that loaded it.
 */
static void finish_step(struct keel_exit *e, struct svm_vcpu *svm)
{
	struct keel_regs *r = &svm->vcpu.regs;
	/* Bochs leaves DR6 as it was: a #DB without a cause is the step's, too */
	bool done = e->reason == KEEL_EXIT_EXCEPTION && e->exception.vector == X86_TRAP_DB &&
		    (!e->exception.payload || (e->exception.payload & DR_STEP));

	svm->nmi_step = false;
	if (!svm->iret_done) {
		r->rflags &= ~(u64)X86_EFLAGS_TF;
		r->rflags |= svm->step_flags & X86_EFLAGS_TF;
	}
	if (!done)
		r->rflags = (r->rflags & ~(u64)X86_EFLAGS_RF) |
			    (svm->step_flags & X86_EFLAGS_RF);
	keel_request(&svm->vcpu, KEEL_REQ_EVENT);
	/* the guest has no part in it */
	if (done && !(svm->step_flags & X86_EFLAGS_TF))
		e->reason = KEEL_EXIT_NMI_WINDOW;
}

static void finish_iret(struct svm_vcpu *svm)
{
	if (svm->iret_pending && svm->vcpu.regs.rip != svm->iret_rip) {
		svm->iret_pending = false;
		svm->iret_done = true;
		svm->nmi_masked = false;
		keel_request(&svm->vcpu, KEEL_REQ_EVENT);
	}
}

/*
 * APM 15.7.2 "Intercepts During IDT Interrupt Delivery". INT n, INT3 and INTO
 * are executed again instead: RIP is still on them, or is put back.
 */
static void requeue_event(struct svm_vcpu *svm, u32 info, u32 error)
{
	struct keel_event event = {
		.vector = info & SVM_EXITINTINFO_VEC_MASK,
		.has_error = info & SVM_EXITINTINFO_VALID_ERR,
		.error = error,
	};

	svm->vcpu.regs.rip -= svm->soft_len;
	switch (info & SVM_EXITINTINFO_TYPE_MASK) {
	case SVM_EXITINTINFO_TYPE_INTR:
		event.type = KEEL_EVENT_INTERRUPT;
		break;
	case SVM_EXITINTINFO_TYPE_NMI:
		event.type = KEEL_EVENT_NMI;
		break;
	case SVM_EXITINTINFO_TYPE_EXEPT:
		event.type = KEEL_EVENT_EXCEPTION;
		if (event.vector != X86_TRAP_BP && event.vector != X86_TRAP_OF)
			break;
		/* one that was injected: executed again it would be the debugger's */
		if (!svm->soft_len)
			return;
		event.type = KEEL_EVENT_SOFT_EXCEPTION;
		event.insn_len = svm->soft_len;
		break;
	default:
		return;
	}
	keel_event_requeue(&svm->vcpu, &event);
}

static void decode_named(struct keel_exit *e, const struct vmcb *vmcb, u32 code)
{
	if (code >= ARRAY_SIZE(named) || !named[code].flags) {
		e->reason = KEEL_EXIT_UNKNOWN;
		return;
	}
	e->reason = named[code].reason;
	if (named[code].flags == INSN)
		e->insn_len = next_rip_length(vmcb);
}

/**
 * svm_decode_exit() - fill vcpu->exit from the VMCB
 * @svm: the vCPU that exited
 *
 * Context: interrupts off, right after the exit.
 */
void svm_decode_exit(struct svm_vcpu *svm)
{
	struct vmcb *vmcb = svm->vmcb;
	struct vmcb_control_area *c = &vmcb->control;
	struct keel_exit *e = &svm->vcpu.exit;
	u32 code = c->exit_code;

	e->insn_len = 0;
	e->shadow = c->int_state & SVM_INTERRUPT_SHADOW_MASK;
	e->hw_reason = code;
	if (unlikely(code == (u32)SVM_EXIT_ERR)) {
		/* nothing was delivered; EVENTINJ is laid out like EXITINTINFO */
		if (c->event_inj & SVM_EVTINJ_VALID)
			requeue_event(svm, c->event_inj, c->event_inj_err);
	} else if (unlikely(c->exit_int_info & SVM_EXITINTINFO_VALID)) {
		requeue_event(svm, c->exit_int_info, c->exit_int_info_err);
	}
	c->event_inj = 0;
	svm->soft_len = 0;
	c->tlb_ctl = TLB_CONTROL_DO_NOTHING;

	if (unlikely(svm->iret_pending))
		finish_iret(svm);

	switch (code) {
	case SVM_EXIT_NPF:
		decode_page_fault(e, vmcb);
		break;
	case SVM_EXIT_IOIO:
		decode_io(e, vmcb);
		break;
	case SVM_EXIT_MSR:
		decode_msr(e, vmcb);
		break;
	case SVM_EXIT_IRET:
		decode_iret(e, svm);
		break;
	case SVM_EXIT_READ_CR0 ... SVM_EXIT_WRITE_CR8:
		decode_cr(e, vmcb, code);
		break;
	case SVM_EXIT_READ_DR0 ... SVM_EXIT_WRITE_DR7:
		decode_dr(e, vmcb, code);
		break;
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_EXCP_BASE + 31:
		decode_exception(e, vmcb, code - SVM_EXIT_EXCP_BASE);
		break;
	case (u32)SVM_EXIT_ERR:
		e->reason = KEEL_EXIT_FAIL_ENTRY;
		break;
	default:
		decode_named(e, vmcb, code);
	}
	if (unlikely(svm->nmi_step))
		finish_step(e, svm);
	svm->iret_done = false;
}

const char *svm_reason_name(u64 hw_reason)
{
	static const struct { u64 code; const char *name; } names[] = { SVM_EXIT_REASONS };
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].code == hw_reason)
			return names[i].name;
	return NULL;
}
