/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Into the guest and back. APM volume 2, 15.5 "VMRUN Instruction".
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/nospec-branch.h>

/* enum keel_gpr is the hardware's order; svm/internal.h asserts it */
#define GPR(n)		(8 * (n))

	.section .noinstr.text, "ax"

/*
 * void keel_svm_enter(hpa_t vmcb_pa, u64 *gpr, hpa_t host_vmcb_pa)
 *
 * @vmcb_pa: the guest's VMCB, complete: RAX and RSP are in it
 * @gpr: the guest's other general registers, loaded and stored
 * @host_vmcb_pa: where VMSAVE put the host's FS, GS, TR, LDTR and SYSCALL state
 *
 * Interrupts are off and GIF is clear, before and after.
 */
SYM_FUNC_START(keel_svm_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdx
	push	%rsi

	/* the guest's FS, GS, TR, LDTR, KERNEL_GS_BASE, STAR.., SYSENTER_.. */
	mov	%rdi, %rax
	vmload	%rax

	mov	GPR(1)(%rsi), %rcx
	mov	GPR(2)(%rsi), %rdx
	mov	GPR(3)(%rsi), %rbx
	mov	GPR(5)(%rsi), %rbp
	mov	GPR(7)(%rsi), %rdi
	mov	GPR(8)(%rsi), %r8
	mov	GPR(9)(%rsi), %r9
	mov	GPR(10)(%rsi), %r10
	mov	GPR(11)(%rsi), %r11
	mov	GPR(12)(%rsi), %r12
	mov	GPR(13)(%rsi), %r13
	mov	GPR(14)(%rsi), %r14
	mov	GPR(15)(%rsi), %r15
	mov	GPR(6)(%rsi), %rsi

#ifdef VM_CLEAR_CPU_BUFFERS
	VM_CLEAR_CPU_BUFFERS
#else
	CLEAR_CPU_BUFFERS
#endif

	/* with V_INTR_MASKING, IF now decides whether host interrupts exit */
	sti
.Lvmrun:
	vmrun	%rax
.Lafter_vmrun:
	cli

	/* VMRUN brought RAX and RSP back. GS is still the guest's. */
	vmsave	%rax
	pop	%rax

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

	pop	%rax
	vmload	%rax

	/* before any RET: return predictions the guest may have planted */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RETPOLINE
#ifdef UNTRAIN_RET_VM
	UNTRAIN_RET_VM
#else
	UNTRAIN_RET
	ALTERNATIVE "", "call entry_ibpb", X86_FEATURE_IBPB_ON_VMEXIT
#endif

	/* keep the guest's values from speculative use */
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebx, %ebx
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

	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

	/* SVME was switched off under us, by a crash: the VMCB says "invalid" */
	_ASM_EXTABLE(.Lvmrun, .Lafter_vmrun)
SYM_FUNC_END(keel_svm_enter)
