/* SPDX-License-Identifier: GPL-2.0-only */
/* Entry points of the guest's traps: make the frame of struct guest_trap. */

	.text
	.balign 16
	.globl guest_trap_stubs
guest_trap_stubs:
vec = 0
	.rept 256
	.balign 16
	/* SDM vol. 3, table 6-1: the vectors that push an error code. */
	.if vec != 8 && (vec < 10 || vec > 14) && vec != 17 && vec != 21 && \
	    vec != 29 && vec != 30
	pushq	$0
	.endif
	pushq	$vec
	jmp	guest_trap_common
vec = vec + 1
	.endr

guest_trap_common:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rbx
	pushq	%rbp
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	cld
	movq	%rsp, %rdi
	movq	%rsp, %rbx
	andq	$-16, %rsp
	call	guest_trap_c
	movq	%rbx, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rbp
	popq	%rbx
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

	.section .note.GNU-stack, "", @progbits
