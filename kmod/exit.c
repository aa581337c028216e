// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens after each exit. A handler answers KEEL_RESUME, KEEL_TO_USER
 * or a negative errno.
 */
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/ratelimit.h>
#include <linux/uaccess.h>
#include <uapi/asm/debugreg.h>
#include <asm/cpu.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "keel.h"
#include "trace.h"
#include "insn/insn.h"
#include "irq/irq.h"

static int inject_gp(struct keel_vcpu *vcpu)
{
	keel_queue_exception_error(vcpu, X86_TRAP_GP, 0);
	return KEEL_RESUME;
}

static int inject_ud(struct keel_vcpu *vcpu)
{
	keel_queue_exception(vcpu, X86_TRAP_UD);
	return KEEL_RESUME;
}

int keel_internal_error(struct keel_vcpu *vcpu, u32 suberror)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = 2;
	run->internal.data[0] = vcpu->exit.hw_reason;
	run->internal.data[1] = vcpu->exit.reason;
	return KEEL_TO_USER;
}

/* I/O that wraps around has no length; what else has none was seen to by find_length(). */
static noinline int missing_length(struct keel_vcpu *vcpu)
{
	struct insn insn;

	return keel_insn_length(vcpu, &insn);
}

/**
 * keel_skip_instruction() - retire the instruction that exited
 * @vcpu: the vCPU
 *
 * Advances RIP, ends an interrupt shadow, raises the single-step trap.
 *
 * Return: KEEL_RESUME; or, when the CPU gave no length and the instruction
 * cannot be read, what keel_internal_error() says.
 */
int keel_skip_instruction(struct keel_vcpu *vcpu)
{
	struct keel_regs *r = &vcpu->regs;
	int len = vcpu->exit.insn_len;
	u64 old;

	if (unlikely(!len)) {
		len = missing_length(vcpu);
		if (len <= 0)
			return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	}
	keel_need(vcpu, KEEL_RIP | KEEL_RFLAGS);
	r->dirty |= KEEL_RIP;
	old = r->rip;
	r->rip += len;
	/* only a wrap at 4 GiB makes it worth asking which mode this is */
	if (unlikely((old ^ r->rip) >> 32) && !keel_mode64(vcpu))
		r->rip = (u32)r->rip;
	if (unlikely(vcpu->exit.shadow))
		keel_backend->set_shadow(vcpu, 0);
	if (unlikely(r->rflags & X86_EFLAGS_TF))
		keel_queue_db(vcpu, DR_STEP);
	return KEEL_RESUME;
}

static int exit_none(struct keel_vcpu *vcpu)
{
	return KEEL_RESUME;
}

/* The CPU and keel disagree about a state: what a report of it needs. */
static void log_surprise(struct keel_vcpu *vcpu, const char *what)
{
	static DEFINE_RATELIMIT_STATE(limit, 60 * HZ, 5);
	const char *name = keel_backend->hw_reason_name(vcpu->exit.hw_reason);

	if (!__ratelimit(&limit))
		return;
	pr_notice("VM %s, vCPU %u: %s: %s (%#llx)\n", vcpu->vm->name, vcpu->id, what,
		  name ?: "no name", vcpu->exit.hw_reason);
	keel_backend->dump(vcpu);
}

static int exit_fail_entry(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	log_surprise(vcpu, "the CPU refused the guest's state");
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = vcpu->exit.hw_reason;
	run->fail_entry.cpu = raw_smp_processor_id();
	return KEEL_TO_USER;
}

/* Preemption is on again: what the interrupt wanted has happened. */
static int exit_interrupt(struct keel_vcpu *vcpu)
{
	vcpu->pv.between_insns = false;
	return KEEL_RESUME;
}

static int exit_nmi(struct keel_vcpu *vcpu)
{
	vcpu->stats.nmi_exits++;
	return KEEL_RESUME;
}

static int exit_irq_window(struct keel_vcpu *vcpu)
{
	vcpu->stats.irq_window_exits++;
	keel_backend->irq_window(vcpu, false);
	keel_request(vcpu, KEEL_REQ_EVENT);
	return KEEL_RESUME;
}

static int exit_nmi_window(struct keel_vcpu *vcpu)
{
	vcpu->stats.nmi_window_exits++;
	keel_backend->nmi_window(vcpu, false);
	keel_request(vcpu, KEEL_REQ_EVENT);
	return KEEL_RESUME;
}

/*
 * The guest's own, or the host's detection of split locks, which raises it at
 * any CPL and whose treatment is the host's to choose.
 */
static int exit_alignment_check(struct keel_vcpu *vcpu)
{
	keel_need(vcpu, KEEL_RFLAGS | KEEL_RIP);
	if ((keel_cpl(vcpu) == 3 && (vcpu->regs.cr0 & X86_CR0_AM) &&
	     (vcpu->regs.rflags & X86_EFLAGS_AC)) ||
	    !boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT)) {
		keel_queue_exception_error(vcpu, X86_TRAP_AC, 0);
		return KEEL_RESUME;
	}
	if (handle_guest_split_lock(vcpu->regs.rip))
		return KEEL_RESUME;
	vcpu->run->exit_reason = KVM_EXIT_EXCEPTION;
	vcpu->run->ex.exception = X86_TRAP_AC;
	vcpu->run->ex.error_code = 0;
	return KEEL_TO_USER;
}

/* Documentation/virt/kvm/x86/hypercalls.rst; VMCALL and VMMCALL alike. */
static int exit_hypercall(struct keel_vcpu *vcpu)
{
	u64 *g = vcpu->regs.gpr;
	u64 mask = keel_mode64(vcpu) ? ~0ULL : U32_MAX;
	u64 nr = g[KEEL_RAX] & mask;
	u64 arg[4] = {
		g[KEEL_RBX] & mask, g[KEEL_RCX] & mask,
		g[KEEL_RDX] & mask, g[KEEL_RSI] & mask,
	};
	long ret = -KVM_EPERM;

	vcpu->stats.hypercall_exits++;
	trace_keel_hypercall(vcpu, nr, arg[0], arg[1], arg[2], arg[3]);
	if (!keel_cpl(vcpu))
		ret = keel_hypercall(vcpu, nr, arg);
	g[KEEL_RAX] = ret & mask;
	return keel_skip_instruction(vcpu);
}

/* Write the last byte of the hypercall at RIP, if the guest could: all other bytes are the same. */
static bool patch_hypercall(struct keel_vcpu *vcpu)
{
	gva_t at = vcpu->regs.rip + 2;
	struct keel_walk walk;

	if (!keel_mode64(vcpu))
		at = (u32)(vcpu->regs.seg[KEEL_CS].base + at);
	return !keel_guest_walk(vcpu, at, KEEL_WALK_WRITE, &walk) &&
	       !keel_guest_write(vcpu, walk.gpa, &keel_backend->hypercall, 1);
}

/*
 * VMCALL is #UD on AMD, VMMCALL on Intel. A guest that executes the other one
 * (it came from such a CPU, or knows no better) gets its hypercall, and the
 * CPU's own instruction in place of that one: KVM_X86_QUIRK_FIX_HYPERCALL_INSN.
 */
static int exit_undefined_opcode(struct keel_vcpu *vcpu)
{
	struct insn insn;

	if (keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_FIX_HYPERCALL_INSN) ||
	    keel_cpl(vcpu) || keel_insn_length(vcpu, &insn) != 3 ||
	    insn.bytes[0] != 0x0f || insn.bytes[1] != 0x01 ||
	    (insn.bytes[2] != 0xc1 && insn.bytes[2] != 0xd9) ||
	    insn.bytes[2] == keel_backend->hypercall)
		return inject_ud(vcpu);
	if (patch_hypercall(vcpu))
		return KEEL_RESUME;
	/* text that is read-only: KVM would raise #PF here, and the guest die of it */
	vcpu->exit.insn_len = insn.len;
	return exit_hypercall(vcpu);
}

/*
 * #DB and #AC are intercepted because their delivery can raise them again for
 * ever, inside the CPU, where no interrupt gets through (CVE-2015-5307,
 * CVE-2015-8104). They go back to the guest. #BP is for debuggers.
 */
static int exit_exception(struct keel_vcpu *vcpu)
{
	const struct keel_exit *e = &vcpu->exit;

	vcpu->stats.exception_exits++;
	switch (e->exception.vector) {
	case X86_TRAP_DB:
		keel_queue_db(vcpu, e->exception.payload);
		break;
	case X86_TRAP_BP:
		if (!keel_debug_take_bp(vcpu))
			keel_queue_bp(vcpu);
		break;
	case X86_TRAP_AC:
		return exit_alignment_check(vcpu);
	case X86_TRAP_UD:
		return exit_undefined_opcode(vcpu);
	default:
		if (e->exception.has_error)
			keel_queue_exception_error(vcpu, e->exception.vector,
						   e->exception.error);
		else
			keel_queue_exception(vcpu, e->exception.vector);
	}
	return KEEL_RESUME;
}

static int exit_page_fault(struct keel_vcpu *vcpu)
{
	vcpu->stats.page_fault_exits++;
	trace_keel_page_fault(vcpu);
	return keel_handle_page_fault(vcpu);
}

static int exit_io(struct keel_vcpu *vcpu)
{
	vcpu->stats.io_exits++;
	return vcpu->exit.io.string ? keel_emulate(vcpu) : keel_port_io(vcpu);
}

static int exit_cpuid(struct keel_vcpu *vcpu)
{
	u64 *g = vcpu->regs.gpr;
	u32 eax = g[KEEL_RAX], ebx, ecx = g[KEEL_RCX], edx;
	u32 function = eax, index = ecx;

	vcpu->stats.cpuid_exits++;
	if (vcpu->msrs.misc_features & MSR_MISC_FEATURES_ENABLES_CPUID_FAULT && keel_cpl(vcpu))
		return inject_gp(vcpu);
	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	trace_keel_cpuid(vcpu, function, index, eax, ebx, ecx, edx);
	g[KEEL_RAX] = eax;
	g[KEEL_RBX] = ebx;
	g[KEEL_RCX] = ecx;
	g[KEEL_RDX] = edx;
	return keel_skip_instruction(vcpu);
}

static int exit_hlt(struct keel_vcpu *vcpu)
{
	int ret = keel_skip_instruction(vcpu);

	vcpu->stats.halt_exits++;
	if (ret != KEEL_RESUME)
		return ret;
	if (vcpu->lapic) {
		vcpu->mp_state = KVM_MP_STATE_HALTED;
		return KEEL_RESUME;
	}
	vcpu->run->exit_reason = KVM_EXIT_HLT;
	return KEEL_TO_USER;
}

static u64 edx_eax(const struct keel_vcpu *vcpu)
{
	return (u32)vcpu->regs.gpr[KEEL_RAX] | vcpu->regs.gpr[KEEL_RDX] << 32;
}

static void set_edx_eax(struct keel_vcpu *vcpu, u64 value)
{
	vcpu->regs.gpr[KEEL_RAX] = (u32)value;
	vcpu->regs.gpr[KEEL_RDX] = value >> 32;
}

/*
 * An access that failed: userspace's to answer if it has asked for that kind of
 * failure (KVM_CAP_X86_USER_SPACE_MSR), else #GP.
 */
static int msr_failed(struct keel_vcpu *vcpu, bool read, u32 msr, u64 value, int err)
{
	struct kvm_run *run = vcpu->run;
	u32 reason = KVM_MSR_EXIT_REASON_INVAL;

	if (err == -ENOENT)
		reason = KVM_MSR_EXIT_REASON_UNKNOWN;
	else if (err == -EPERM)
		reason = KVM_MSR_EXIT_REASON_FILTER;
	if (!(READ_ONCE(vcpu->vm->user_msr_reasons) & reason))
		return inject_gp(vcpu);

	keel_need(vcpu, KEEL_RIP);
	vcpu->io.rip = vcpu->regs.rip;
	vcpu->io.pending = read ? KEEL_IO_RDMSR : KEEL_IO_WRMSR;
	run->exit_reason = read ? KVM_EXIT_X86_RDMSR : KVM_EXIT_X86_WRMSR;
	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = reason;
	run->msr.index = msr;
	run->msr.data = value;
	return KEEL_TO_USER;
}

/**
 * keel_complete_msr() - userspace has answered an access to an MSR
 * @vcpu: the vCPU
 * @read: RDMSR
 *
 * Return: KEEL_RESUME, or as keel_skip_instruction().
 */
int keel_complete_msr(struct keel_vcpu *vcpu, bool read)
{
	/* userspace put the vCPU elsewhere: there is nothing to complete */
	keel_need(vcpu, KEEL_RIP);
	if (vcpu->regs.rip != vcpu->io.rip)
		return KEEL_RESUME;
	if (READ_ONCE(vcpu->run->msr.error))
		return inject_gp(vcpu);
	if (read)
		set_edx_eax(vcpu, READ_ONCE(vcpu->run->msr.data));
	return keel_skip_instruction(vcpu);
}

static int exit_rdmsr(struct keel_vcpu *vcpu)
{
	u32 msr = vcpu->regs.gpr[KEEL_RCX];
	u64 value = 0;
	int err = -EPERM;

	vcpu->stats.rdmsr_exits++;
	if (keel_msr_allowed(vcpu, msr, KVM_MSR_FILTER_READ))
		err = keel_get_msr(vcpu, msr, &value, false);
	trace_keel_msr(vcpu, false, msr, value, err);
	if (err)
		return msr_failed(vcpu, true, msr, 0, err);
	set_edx_eax(vcpu, value);
	return keel_skip_instruction(vcpu);
}

static int exit_wrmsr(struct keel_vcpu *vcpu)
{
	u32 msr = vcpu->regs.gpr[KEEL_RCX];
	u64 value = edx_eax(vcpu);
	int err = -EPERM;

	vcpu->stats.wrmsr_exits++;
	if (keel_msr_allowed(vcpu, msr, KVM_MSR_FILTER_WRITE))
		err = keel_set_msr(vcpu, msr, value, false);
	trace_keel_msr(vcpu, true, msr, value, err);
	if (err)
		return msr_failed(vcpu, false, msr, value, err);
	return keel_skip_instruction(vcpu);
}

static int exit_cr(struct keel_vcpu *vcpu)
{
	const struct keel_exit *e = &vcpu->exit;
	int gpr = array_index_nospec(e->cr.gpr, KEEL_NR_GPRS);
	u64 *g = vcpu->regs.gpr;
	u64 value;
	int err = 0;

	vcpu->stats.cr_exits++;
	keel_need(vcpu, KEEL_CRS);
	if (gpr == KEEL_RSP_REG)
		keel_need(vcpu, KEEL_RSP);
	switch (e->cr.op) {
	case KEEL_CR_READ:
		value = keel_get_cr(vcpu, e->cr.cr);
		if (gpr == KEEL_RSP_REG)
			vcpu->regs.dirty |= KEEL_RSP;
		g[gpr] = keel_mode64(vcpu) ? value : (u32)value;
		break;
	case KEEL_CR_WRITE:
		value = keel_mode64(vcpu) ? g[gpr] : (u32)g[gpr];
		err = keel_set_cr(vcpu, e->cr.cr, value);
		break;
	case KEEL_CR_CLTS:
		err = keel_set_cr0(vcpu, vcpu->regs.cr0 & ~X86_CR0_TS);
		break;
	case KEEL_CR_LMSW:
		/* LMSW changes MP, EM, TS, and can set PE but not clear it */
		value = (vcpu->regs.cr0 & ~0xeULL) | (e->cr.msw & 0xf);
		err = keel_set_cr0(vcpu, value);
		break;
	}
	return err ? inject_gp(vcpu) : keel_skip_instruction(vcpu);
}

static int exit_dr(struct keel_vcpu *vcpu)
{
	const struct keel_exit *e = &vcpu->exit;
	int gpr = array_index_nospec(e->dr.gpr, KEEL_NR_GPRS);
	u64 *g = vcpu->regs.gpr;
	int n = e->dr.dr, err;
	u64 value;

	vcpu->stats.other_exits++;
	keel_need(vcpu, KEEL_DRS | KEEL_RSP);
	if (n == 4 || n == 5) {
		if (vcpu->regs.cr4 & X86_CR4_DE)
			return inject_ud(vcpu);
		n += 2;
	}
	if (keel_cpl(vcpu))
		return inject_gp(vcpu);
	if (keel_live_dr7(vcpu) & KEEL_DR7_GD) {
		keel_queue_db(vcpu, KEEL_DR6_BD);
		return KEEL_RESUME;
	}
	if (e->dr.write) {
		value = keel_mode64(vcpu) ? g[gpr] : (u32)g[gpr];
		err = keel_set_dr(vcpu, n, value);
	} else {
		err = keel_get_dr(vcpu, n, &value);
		if (!err) {
			g[gpr] = keel_mode64(vcpu) ? value : (u32)value;
			if (gpr == KEEL_RSP_REG)
				vcpu->regs.dirty |= KEEL_RSP;
		}
	}
	return err ? inject_gp(vcpu) : keel_skip_instruction(vcpu);
}

static int exit_xsetbv(struct keel_vcpu *vcpu)
{
	vcpu->stats.other_exits++;
	if (!(vcpu->regs.cr4 & X86_CR4_OSXSAVE))
		return inject_ud(vcpu);
	if (keel_cpl(vcpu) || (u32)vcpu->regs.gpr[KEEL_RCX] ||
	    keel_set_xcr0(vcpu, edx_eax(vcpu)))
		return inject_gp(vcpu);
	return keel_skip_instruction(vcpu);
}

static int exit_gp(struct keel_vcpu *vcpu)
{
	vcpu->stats.other_exits++;
	return inject_gp(vcpu);
}

/* Guest memory is always cacheable and coherent: nothing to write back. */
static int exit_nop(struct keel_vcpu *vcpu)
{
	vcpu->stats.other_exits++;
	return keel_skip_instruction(vcpu);
}

/* Never sleeping is allowed: the guest looks again. */
static int exit_mwait(struct keel_vcpu *vcpu)
{
	u32 eax = 1, ebx, ecx = 0, edx;

	vcpu->stats.other_exits++;
	if (keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)) {
		keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
		if (!(ecx & BIT(X86_FEATURE_MWAIT % 32)))
			return inject_ud(vcpu);
	}
	return keel_skip_instruction(vcpu);
}

static int exit_invalid_opcode(struct keel_vcpu *vcpu)
{
	vcpu->stats.other_exits++;
	return inject_ud(vcpu);
}

static int exit_task_switch(struct keel_vcpu *vcpu)
{
	vcpu->stats.other_exits++;
	return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
}

/* Where a debugger's INT3 exits like this, all other INT n do, too. */
static int exit_soft_interrupt(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->events;
	struct insn insn;
	int len = keel_insn_length(vcpu, &insn);

	vcpu->stats.other_exits++;
	if (len < 0)
		return KEEL_RESUME;
	switch (len ? insn.opcode : 0) {
	case 0xcc:
		if (!keel_debug_take_bp(vcpu))
			keel_queue_bp(vcpu);
		return KEEL_RESUME;
	case 0xcd:
		ev->interrupt.vector = insn.imm;
		break;
	case 0xce:
		ev->interrupt.vector = X86_TRAP_OF;
		break;
	default:
		return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	}
	ev->interrupt.injected = true;
	ev->interrupt.soft = true;
	ev->interrupt.insn_len = len;
	keel_request(vcpu, KEEL_REQ_EVENT);
	return KEEL_RESUME;
}

static int exit_triple_fault(struct keel_vcpu *vcpu)
{
	vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return KEEL_TO_USER;
}

static int exit_unknown(struct keel_vcpu *vcpu)
{
	log_surprise(vcpu, "an exit that keel does not know");
	return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
}

static int (* const handlers[KEEL_NR_EXITS])(struct keel_vcpu *vcpu) = {
	[KEEL_EXIT_NONE]		= exit_none,
	[KEEL_EXIT_FAIL_ENTRY]		= exit_fail_entry,
	[KEEL_EXIT_INTERRUPT]		= exit_interrupt,
	[KEEL_EXIT_NMI]			= exit_nmi,
	[KEEL_EXIT_IRQ_WINDOW]		= exit_irq_window,
	[KEEL_EXIT_NMI_WINDOW]		= exit_nmi_window,
	[KEEL_EXIT_EXCEPTION]		= exit_exception,
	[KEEL_EXIT_PAGE_FAULT]		= exit_page_fault,
	[KEEL_EXIT_IO]			= exit_io,
	[KEEL_EXIT_CPUID]		= exit_cpuid,
	[KEEL_EXIT_HLT]			= exit_hlt,
	[KEEL_EXIT_RDMSR]		= exit_rdmsr,
	[KEEL_EXIT_WRMSR]		= exit_wrmsr,
	[KEEL_EXIT_HYPERCALL]		= exit_hypercall,
	[KEEL_EXIT_CR]			= exit_cr,
	[KEEL_EXIT_DR]			= exit_dr,
	[KEEL_EXIT_XSETBV]		= exit_xsetbv,
	[KEEL_EXIT_RDPMC]		= exit_gp,
	[KEEL_EXIT_WBINVD]		= exit_nop,
	[KEEL_EXIT_PAUSE]		= exit_nop,
	[KEEL_EXIT_MWAIT]		= exit_mwait,
	[KEEL_EXIT_MONITOR]		= exit_mwait,
	[KEEL_EXIT_INVALID_OPCODE]	= exit_invalid_opcode,
	[KEEL_EXIT_TASK_SWITCH]		= exit_task_switch,
	[KEEL_EXIT_TRIPLE_FAULT]	= exit_triple_fault,
	[KEEL_EXIT_MACHINE_CHECK]	= exit_none,
	[KEEL_EXIT_SOFT_INTERRUPT]	= exit_soft_interrupt,
	[KEEL_EXIT_EMULATE]		= keel_emulate,
	[KEEL_EXIT_UNKNOWN]		= exit_unknown,
};

/* Instructions that their handler retires. */
#define RETIRED								\
	(BIT(KEEL_EXIT_CPUID) | BIT(KEEL_EXIT_HLT) | BIT(KEEL_EXIT_RDMSR) |	\
	 BIT(KEEL_EXIT_WRMSR) | BIT(KEEL_EXIT_HYPERCALL) | BIT(KEEL_EXIT_CR) |	\
	 BIT(KEEL_EXIT_DR) | BIT(KEEL_EXIT_XSETBV) | BIT(KEEL_EXIT_WBINVD) |	\
	 BIT(KEEL_EXIT_MWAIT) | BIT(KEEL_EXIT_MONITOR))

/* What the instruction is that exits, as nearly all code has it: without prefixes. */
static const struct { u8 len, opcode[2]; } usual[KEEL_NR_EXITS] = {
	[KEEL_EXIT_CPUID]	= { 2, { 0x0f, 0xa2 } },
	[KEEL_EXIT_HLT]		= { 1, { 0xf4 } },
	[KEEL_EXIT_RDMSR]	= { 2, { 0x0f, 0x32 } },
	[KEEL_EXIT_WRMSR]	= { 2, { 0x0f, 0x30 } },
	[KEEL_EXIT_HYPERCALL]	= { 3, { 0x0f, 0x01 } },
};

/* Return: its length if it looks so, or 0: decode it. */
static int usual_length(struct keel_vcpu *vcpu)
{
	u32 reason = array_index_nospec(vcpu->exit.reason, KEEL_NR_EXITS);
	u32 access = KEEL_WALK_EXEC;
	int len = usual[reason].len;
	struct keel_walk walk;
	u8 bytes[2] = {};
	u64 rip;

	if (!len)
		return 0;
	/* all that this function and the walk look at, at once */
	keel_need(vcpu, KEEL_RIP | KEEL_RFLAGS | KEEL_CR3 | KEEL_MODE);
	if (!keel_mode64(vcpu))
		return 0;
	rip = vcpu->regs.rip;
	if (keel_cpl(vcpu) == 3)
		access |= KEEL_WALK_USER;
	if (offset_in_page(rip) + len > PAGE_SIZE ||
	    keel_guest_fetch(vcpu, rip, access, bytes, min(len, 2), &walk))
		return 0;
	return memcmp(bytes, usual[reason].opcode, sizeof(bytes)) ? 0 : len;
}

/* The same where the guest's memory can be read only if it is there. */
static noinline bool find_length_atomic(struct keel_vcpu *vcpu)
{
	/* an accessed bit that the walk sets could overflow the ring */
	if (vcpu->vm->dirty_ring_entries)
		return false;
	pagefault_disable();
	vcpu->exit.insn_len = usual_length(vcpu);
	pagefault_enable();
	return vcpu->exit.insn_len;
}

/*
 * The CPU gave no length: find it before anything has happened. Another vCPU
 * may have unmapped the page: executed again, the instruction faults by itself.
 */
static noinline int find_length(struct keel_vcpu *vcpu)
{
	struct insn insn;
	int len = usual_length(vcpu) ?: keel_insn_length(vcpu, &insn);

	if (!len)
		return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	vcpu->exit.insn_len = max(len, 0);
	return KEEL_RESUME;
}

/**
 * keel_exit_is_atomic() - does keel_handle_exit() now neither sleep nor touch the VMM's memory?
 * @vcpu: the vCPU
 *
 * Then it can be called with interrupts off, between two entries.
 *
 * Context: interrupts off.
 */
bool keel_exit_is_atomic(struct keel_vcpu *vcpu)
{
	const struct keel_exit *e = &vcpu->exit;
	const u64 *g = vcpu->regs.gpr;

	/* there, interrupt controllers and timers have locks that sleep */
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return false;
	switch (e->reason) {
	case KEEL_EXIT_CPUID:
		break;
	case KEEL_EXIT_RDMSR:
		if (!keel_msr_read_is_atomic(vcpu, g[KEEL_RCX]))
			return false;
		break;
	case KEEL_EXIT_WRMSR:
		if (!keel_msr_write_is_atomic(vcpu, g[KEEL_RCX], edx_eax(vcpu)))
			return false;
		break;
	case KEEL_EXIT_HYPERCALL:
		if (!keel_hypercall_is_atomic(g[KEEL_RAX]))
			return false;
		break;
	case KEEL_EXIT_IO:
		return !e->io.string && e->insn_len && !keel_port_sleeps(e->io.port);
	default:
		return false;
	}
	return likely(e->insn_len) || find_length_atomic(vcpu);
}

int keel_handle_exit(struct keel_vcpu *vcpu)
{
	u32 reason = vcpu->exit.reason;
	int ret;

	/* the backend fills it, but a hole in the table would be a jump to 0 */
	if (reason >= KEEL_NR_EXITS || !handlers[reason])
		return exit_unknown(vcpu);
	if (unlikely(!vcpu->exit.insn_len && (RETIRED & BIT(reason)))) {
		ret = find_length(vcpu);
		if (ret != KEEL_RESUME || !vcpu->exit.insn_len)
			return ret;
	}
	return handlers[array_index_nospec(reason, KEEL_NR_EXITS)](vcpu);
}
