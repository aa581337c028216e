/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Into the guest and back. SDM volume 3C, "VM Entries" and "VM Exits".
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>

/* enum keel_gpr is the hardware's order; vmcs.c asserts it */
#define GPR(n)		(8 * (n))

/* encoding of HOST_RSP; asm/vmx.h is for C. vmcs.c asserts it */
#define FIELD_HOST_RSP	0x6c14

	.section .noinstr.text, "ax"

/*
 * int keel_vmx_enter(u64 *gpr, unsigned long *host_rsp, bool launched)
 *
 * @gpr: the guest's general registers, loaded and stored (but RSP, which is
 *	in the VMCS)
 * @host_rsp: what the VMCS' HOST_RSP is, to write it only when it differs
 * @launched: VMRESUME instead of VMLAUNCH
 *
 * Returns VMX_ENTERED, VMX_FAILED or VMX_FAULTED (internal.h).
 */
SYM_FUNC_START(keel_vmx_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi

	cmp	%rsp, (%rsi)
	je	.Lhost_rsp_is_right
	mov	%rsp, (%rsi)
	mov	$FIELD_HOST_RSP, %eax
.Lvmwrite:
	vmwrite	%rsp, %rax
	jbe	.Lfailed
.Lhost_rsp_is_right:

	/* CF chooses the instruction: loads and VERW leave it alone. */
	bt	$0, %edx

	mov	%rdi, %rax
	mov	GPR(1)(%rax), %rcx
	mov	GPR(2)(%rax), %rdx
	mov	GPR(3)(%rax), %rbx
	mov	GPR(5)(%rax), %rbp
	mov	GPR(6)(%rax), %rsi
	mov	GPR(7)(%rax), %rdi
	mov	GPR(8)(%rax), %r8
	mov	GPR(9)(%rax), %r9
	mov	GPR(10)(%rax), %r10
	mov	GPR(11)(%rax), %r11
	mov	GPR(12)(%rax), %r12
	mov	GPR(13)(%rax), %r13
	mov	GPR(14)(%rax), %r14
	mov	GPR(15)(%rax), %r15
	mov	GPR(0)(%rax), %rax

	/* Nothing of the host's may be touched between these and the guest. */
	CLEAR_CPU_BUFFERS
#ifdef VM_CLEAR_CPU_BUFFERS
	VM_CLEAR_CPU_BUFFERS
#endif
	jnc	.Lvmlaunch

	/*
	 * VM exits arrive at HOST_RIP, which is keel_vmx_exit_point. Only
	 * failures come out below these two instructions, and they set CF or
	 * ZF: so "fall through" is never taken, but objtool can follow it.
	 */
.Lvmresume:
	vmresume
	jbe	.Lfailed
	jmp	keel_vmx_exit_point
.Lvmlaunch:
	vmlaunch
	jbe	.Lfailed

SYM_INNER_LABEL(keel_vmx_exit_point, SYM_L_GLOBAL)
	ENDBR
	push	%rax
	mov	8(%rsp), %rax
	pop	GPR(0)(%rax)
	mov	%rcx, GPR(1)(%rax)
	mov	%rdx, GPR(2)(%rax)
	mov	%rbx, GPR(3)(%rax)
	mov	%rbp, GPR(5)(%rax)
	mov	%rsi, GPR(6)(%rax)
	mov	%rdi, GPR(7)(%rax)
	mov	%r8, GPR(8)(%rax)
	mov	%r9, GPR(9)(%rax)
	mov	%r10, GPR(10)(%rax)
	mov	%r11, GPR(11)(%rax)
	mov	%r12, GPR(12)(%rax)
	mov	%r13, GPR(13)(%rax)
	mov	%r14, GPR(14)(%rax)
	mov	%r15, GPR(15)(%rax)
	xor	%ebx, %ebx

	/* RBX has the answer. Speculation must find none of the guest's values. */
.Lclear:
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebp, %ebp
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d

	/* Before any RET: the return stack buffer is the guest's. */
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
			   X86_FEATURE_RSB_VMEXIT_LITE

	/*
	 * Guests cannot write SPEC_CTRL, so that it is the host's own value.
	 * But legacy IBRS protects only from what ran before it was written.
	 */
	ALTERNATIVE "jmp .Lspec_ctrl_done", "", X86_FEATURE_KERNEL_IBRS
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	mov	PER_CPU_VAR(x86_spec_ctrl_current + 4), %edx
	wrmsr
.Lspec_ctrl_done:

	CLEAR_BRANCH_HISTORY_VMEXIT

	mov	%ebx, %eax
	pop	%rdi
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

.Lfailed:
	mov	$1, %ebx
	jmp	.Lclear
.Lfaulted:
	mov	$2, %ebx
	jmp	.Lclear

	_ASM_EXTABLE(.Lvmwrite, .Lfaulted)
	_ASM_EXTABLE(.Lvmresume, .Lfaulted)
	_ASM_EXTABLE(.Lvmlaunch, .Lfaulted)
SYM_FUNC_END(keel_vmx_enter)
