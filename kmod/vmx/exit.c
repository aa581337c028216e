// SPDX-License-Identifier: GPL-2.0-only
/*
 * From a VM exit to struct keel_exit. Only the fields that a reason needs are
 * read. SDM volume 3C, "VM Exits" and appendix C.
 */
#include <asm/trapnr.h>

#include "internal.h"

/* Exit qualifications that asm/vmx.h does not name. SDM "Exit Qualification". */
#define IO_SIZE_MASK		GENMASK(2, 0)
#define IO_IN			BIT(3)
#define IO_STRING		BIT(4)
#define IO_REP			BIT(5)
#define IO_PORT_SHIFT		16
#define CR_NUMBER_MASK		GENMASK(3, 0)
#define QUAL_GPR_SHIFT		8
#define EPT_QUAL_UNBLOCK_NMI	BIT(12)

/* SDM appendix C; asm/vmx.h lacks these */
#define REASON_GETSEC		11
#define REASON_RSM		17
#define REASON_SEAMCALL		76
#define REASON_TDCALL		77

static void vmx_decode_exception(struct vmx_vcpu *vmx, struct keel_exit *exit)
{
	u32 info = vmx->intr_info;
	u8 vector = info & INTR_INFO_VECTOR_MASK;

	/* The NMI and the machine check themselves were delivered already. */
	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
		exit->reason = KEEL_EXIT_NMI;
		return;
	}
	if (vector == X86_TRAP_MC) {
		exit->reason = KEEL_EXIT_MACHINE_CHECK;
		return;
	}
	exit->reason = KEEL_EXIT_EXCEPTION;
	exit->exception.vector = vector;
	exit->exception.has_error = info & INTR_INFO_DELIVER_CODE_MASK;
	exit->exception.error = 0;
	exit->exception.payload = 0;
	if (exit->exception.has_error)
		exit->exception.error = vmx_read(VM_EXIT_INTR_ERROR_CODE);
	if (vector == X86_TRAP_DB)
		exit->exception.payload = vmx_read(EXIT_QUALIFICATION);

	switch (info & INTR_INFO_INTR_TYPE_MASK) {
	case INTR_TYPE_SOFT_EXCEPTION:
		exit->insn_len = vmx_read(VM_EXIT_INSTRUCTION_LEN);
		break;
	case INTR_TYPE_PRIV_SW_EXCEPTION:
		/* INT1 raises a trap: what it saves is behind it, a shadow is over. */
		keel_change(&vmx->vcpu, KEEL_RIP);
		vmx->vcpu.regs.rip += vmx_read(VM_EXIT_INSTRUCTION_LEN);
		vmx_set_blocking(vmx, vmx_blocking(vmx) & ~(u32)VMX_SHADOW);
		break;
	}
}

static void vmx_decode_ept_violation(struct vmx_vcpu *vmx, struct keel_exit *exit)
{
	unsigned long qual = vmx_read(EXIT_QUALIFICATION);

	exit->reason = KEEL_EXIT_PAGE_FAULT;
	exit->fault.gpa = vmx_read(GUEST_PHYSICAL_ADDRESS);
	exit->fault.write = qual & EPT_VIOLATION_ACC_WRITE;
	exit->fault.exec = qual & EPT_VIOLATION_ACC_INSTR;
	exit->fault.present = qual & (VMX_EPT_RWX_MASK << EPT_VIOLATION_RWX_SHIFT);
	exit->fault.table = (qual & EPT_VIOLATION_GVA_IS_VALID) &&
			    !(qual & EPT_VIOLATION_GVA_TRANSLATED);
	vmx->intr_info = qual & EPT_QUAL_UNBLOCK_NMI;
}

static void vmx_decode_io(struct vmx_vcpu *vmx, struct keel_exit *exit)
{
	unsigned long qual = vmx_read(EXIT_QUALIFICATION);

	exit->reason = KEEL_EXIT_IO;
	exit->io.port = qual >> IO_PORT_SHIFT;
	exit->io.size = (qual & IO_SIZE_MASK) + 1;
	exit->io.in = qual & IO_IN;
	exit->io.string = qual & IO_STRING;
	exit->io.rep = qual & IO_REP;
}

static void vmx_decode_cr(struct vmx_vcpu *vmx, struct keel_exit *exit)
{
	static const u8 op[] = {
		KEEL_CR_WRITE, KEEL_CR_READ, KEEL_CR_CLTS, KEEL_CR_LMSW
	};
	unsigned long qual = vmx_read(EXIT_QUALIFICATION);

	exit->reason = KEEL_EXIT_CR;
	exit->cr.cr = qual & CR_NUMBER_MASK;
	exit->cr.op = op[(qual & CONTROL_REG_ACCESS_TYPE) >> 4];
	exit->cr.gpr = (qual & CONTROL_REG_ACCESS_REG) >> QUAL_GPR_SHIFT;
	exit->cr.msw = qual >> LMSW_SOURCE_DATA_SHIFT;
}

static void vmx_decode_dr(struct vmx_vcpu *vmx, struct keel_exit *exit)
{
	unsigned long qual = vmx_read(EXIT_QUALIFICATION);

	exit->reason = KEEL_EXIT_DR;
	exit->dr.dr = qual & DEBUG_REG_ACCESS_NUM;
	exit->dr.gpr = DEBUG_REG_ACCESS_REG(qual);
	exit->dr.write = !(qual & DEBUG_REG_ACCESS_TYPE);
}

/*
 * LEN: an instruction exited, its length is valid. EVENT: delivery of an event
 * may have been cut short, IDT-vectoring information tells (SDM "Information
 * for VM Exits That Occur During Event Delivery").
 */
#define LEN	BIT(0)
#define EVENT	BIT(1)

static const struct vmx_exit {
	const char *name;
	void (*decode)(struct vmx_vcpu *vmx, struct keel_exit *exit);
	u8 reason;		/* when there is nothing to decode */
	u8 flags;
} vmx_exits[] = {
	[EXIT_REASON_EXCEPTION_NMI] = { "exception or NMI", vmx_decode_exception, 0, EVENT },
	[EXIT_REASON_EXTERNAL_INTERRUPT] = { "external interrupt", NULL, KEEL_EXIT_INTERRUPT },
	[EXIT_REASON_TRIPLE_FAULT] = { "triple fault", NULL, KEEL_EXIT_TRIPLE_FAULT },
	[EXIT_REASON_INIT_SIGNAL] = { "INIT signal", NULL, KEEL_EXIT_INTERRUPT },
	[EXIT_REASON_INTERRUPT_WINDOW] = { "interrupt window", NULL, KEEL_EXIT_IRQ_WINDOW },
	[EXIT_REASON_NMI_WINDOW] = { "NMI window", NULL, KEEL_EXIT_NMI_WINDOW },
	[EXIT_REASON_TASK_SWITCH] = { "task switch", NULL, KEEL_EXIT_TASK_SWITCH, EVENT },
	[EXIT_REASON_CPUID] = { "CPUID", NULL, KEEL_EXIT_CPUID, LEN },
	[REASON_GETSEC] = { "GETSEC", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_HLT] = { "HLT", NULL, KEEL_EXIT_HLT, LEN },
	[EXIT_REASON_INVD] = { "INVD", NULL, KEEL_EXIT_WBINVD, LEN },
	[EXIT_REASON_RDPMC] = { "RDPMC", NULL, KEEL_EXIT_RDPMC, LEN },
	[REASON_RSM] = { "RSM", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMCALL] = { "VMCALL", NULL, KEEL_EXIT_HYPERCALL, LEN },
	[EXIT_REASON_VMCLEAR] = { "VMCLEAR", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMLAUNCH] = { "VMLAUNCH", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMPTRLD] = { "VMPTRLD", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMPTRST] = { "VMPTRST", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMREAD] = { "VMREAD", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMRESUME] = { "VMRESUME", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMWRITE] = { "VMWRITE", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMOFF] = { "VMXOFF", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_VMON] = { "VMXON", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_CR_ACCESS] = { "control register access", vmx_decode_cr, 0, LEN },
	[EXIT_REASON_DR_ACCESS] = { "debug register access", vmx_decode_dr, 0, LEN },
	[EXIT_REASON_IO_INSTRUCTION] = { "I/O instruction", vmx_decode_io, 0, LEN },
	[EXIT_REASON_MSR_READ] = { "RDMSR", NULL, KEEL_EXIT_RDMSR, LEN },
	[EXIT_REASON_MSR_WRITE] = { "WRMSR", NULL, KEEL_EXIT_WRMSR, LEN },
	[EXIT_REASON_INVALID_STATE] = { "entry failure: invalid guest state", NULL,
					KEEL_EXIT_FAIL_ENTRY },
	[EXIT_REASON_MSR_LOAD_FAIL] = { "entry failure: MSR loading", NULL,
					KEEL_EXIT_FAIL_ENTRY },
	[EXIT_REASON_MWAIT_INSTRUCTION] = { "MWAIT", NULL, KEEL_EXIT_MWAIT, LEN },
	[EXIT_REASON_MONITOR_INSTRUCTION] = { "MONITOR", NULL, KEEL_EXIT_MONITOR, LEN },
	[EXIT_REASON_PAUSE_INSTRUCTION] = { "PAUSE", NULL, KEEL_EXIT_PAUSE, LEN },
	[EXIT_REASON_MCE_DURING_VMENTRY] = { "entry failure: machine check", NULL,
					     KEEL_EXIT_MACHINE_CHECK },
	[EXIT_REASON_EPT_VIOLATION] = { "EPT violation", vmx_decode_ept_violation, 0, EVENT },
	[EXIT_REASON_EPT_MISCONFIG] = { "EPT misconfiguration", NULL, KEEL_EXIT_UNKNOWN, EVENT },
	[EXIT_REASON_INVEPT] = { "INVEPT", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_INVVPID] = { "INVVPID", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_WBINVD] = { "WBINVD", NULL, KEEL_EXIT_WBINVD, LEN },
	[EXIT_REASON_XSETBV] = { "XSETBV", NULL, KEEL_EXIT_XSETBV, LEN },
	[EXIT_REASON_VMFUNC] = { "VMFUNC", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[EXIT_REASON_ENCLS] = { "ENCLS", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[REASON_SEAMCALL] = { "SEAMCALL", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
	[REASON_TDCALL] = { "TDCALL", NULL, KEEL_EXIT_INVALID_OPCODE, LEN },
};

/**
 * vmx_hw_reason_name() - backend operation: an exit reason in words
 * @hw_reason: of struct keel_exit
 *
 * Return: the name, or NULL.
 */
const char *vmx_hw_reason_name(u64 hw_reason)
{
	u16 reason = hw_reason;

	return reason < ARRAY_SIZE(vmx_exits) ? vmx_exits[reason].name : NULL;
}

/**
 * vmx_requeue_event() - give an event that was not delivered back to the front
 * @vmx: the vCPU
 * @info: in the format of VM-entry interruption or IDT-vectoring information
 * @error: error code, when @info says that there is one
 * @len: length of a software event's instruction
 *
 * SDM "VM-Entry Controls for Event Injection".
 */
void vmx_requeue_event(struct vmx_vcpu *vmx, u32 info, u32 error, u32 len)
{
	static const u8 types[] = {
		[INTR_TYPE_EXT_INTR >> 8] = KEEL_EVENT_INTERRUPT,
		[INTR_TYPE_RESERVED >> 8] = KEEL_EVENT_INTERRUPT,
		[INTR_TYPE_NMI_INTR >> 8] = KEEL_EVENT_NMI,
		[INTR_TYPE_HARD_EXCEPTION >> 8] = KEEL_EVENT_EXCEPTION,
		[INTR_TYPE_SOFT_INTR >> 8] = KEEL_EVENT_SOFT_INTERRUPT,
		[INTR_TYPE_PRIV_SW_EXCEPTION >> 8] = KEEL_EVENT_PRIV_SOFT_EXCEPTION,
		[INTR_TYPE_SOFT_EXCEPTION >> 8] = KEEL_EVENT_SOFT_EXCEPTION,
		[INTR_TYPE_OTHER_EVENT >> 8] = KEEL_EVENT_EXCEPTION,
	};
	struct keel_event event = {
		.type = types[(info & INTR_INFO_INTR_TYPE_MASK) >> 8],
		.vector = info & INTR_INFO_VECTOR_MASK,
		.insn_len = len,
		.has_error = info & INTR_INFO_DELIVER_CODE_MASK,
		.error = error,
	};

	/* An entry that injects an NMI needs NMIs unblocked, and blocks them. */
	if (event.type == KEEL_EVENT_NMI)
		vmx_set_blocking(vmx, vmx_blocking(vmx) & ~GUEST_INTR_STATE_NMI);
	keel_event_requeue(&vmx->vcpu, &event);
}

/* Was the delivery of an event cut short? */
static bool vmx_complete_event(struct vmx_vcpu *vmx)
{
	u32 info = vmx_read(IDT_VECTORING_INFO_FIELD);
	u32 error = 0, len = 0;

	if (!(info & VECTORING_INFO_VALID_MASK))
		return false;
	if (info & VECTORING_INFO_DELIVER_CODE_MASK)
		error = vmx_read(IDT_VECTORING_ERROR_CODE);
	switch (info & VECTORING_INFO_TYPE_MASK) {
	case INTR_TYPE_SOFT_INTR:
	case INTR_TYPE_SOFT_EXCEPTION:
	case INTR_TYPE_PRIV_SW_EXCEPTION:
		len = vmx_read(VM_EXIT_INSTRUCTION_LEN);
		break;
	}
	vmx_requeue_event(vmx, info, error, len);
	return true;
}

/*
 * The guest's IRET unblocked NMIs and then faulted: it will be executed again,
 * NMIs are still blocked until then. SDM "Information About NMI Unblocking Due
 * to IRET": not valid for #DF nor while an event was delivered.
 */
static void vmx_reblock_nmi(struct vmx_vcpu *vmx)
{
	if (!(vmx->intr_info & INTR_INFO_UNBLOCK_NMI))
		return;
	if (vmx->vcpu.exit.reason == KEEL_EXIT_EXCEPTION &&
	    vmx->vcpu.exit.exception.vector == X86_TRAP_DF)
		return;
	vmx_set_blocking(vmx, vmx_blocking(vmx) | GUEST_INTR_STATE_NMI);
}

/* What it takes to retire the instruction. */
static void vmx_decode_insn(struct vmx_vcpu *vmx, struct keel_exit *exit)
{
	struct keel_regs *regs = &vmx->vcpu.regs;

	exit->insn_len = vmx_read(VM_EXIT_INSTRUCTION_LEN);
	exit->shadow = vmx_blocking(vmx) & VMX_SHADOW;
	regs->rip = vmx_read(GUEST_RIP);
	regs->rflags = vmx_read(GUEST_RFLAGS);
	regs->valid |= KEEL_RIP | KEEL_RFLAGS;
}

/**
 * vmx_decode_exit() - fill vcpu->exit
 * @vmx: the vCPU
 *
 * Context: from enter(), after an exit; vmx->reason is read, and so is
 * vmx->intr_info when it is an exception or NMI.
 */
void vmx_decode_exit(struct vmx_vcpu *vmx)
{
	struct keel_exit *exit = &vmx->vcpu.exit;
	u16 basic = vmx->reason;
	const struct vmx_exit *e;

	exit->insn_len = 0;
	exit->shadow = true;
	exit->hw_reason = vmx->reason;
	exit->reason = KEEL_EXIT_UNKNOWN;
	if (basic >= ARRAY_SIZE(vmx_exits) || !vmx_exits[basic].name)
		return;
	e = &vmx_exits[basic];
	if (e->flags & LEN)
		vmx_decode_insn(vmx, exit);
	if (basic != EXIT_REASON_EXCEPTION_NMI)
		vmx->intr_info = 0;
	if (e->decode)
		e->decode(vmx, exit);
	else
		exit->reason = e->reason;
	if (e->flags & EVENT && !vmx_complete_event(vmx))
		vmx_reblock_nmi(vmx);
}
