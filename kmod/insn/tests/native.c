// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "native.h"

/* Where the way back into 64-bit code starts. */
#define RETURN_STUB	(CODE_BASE + 0x800)

struct native_state native_state __attribute__((used));
uint64_t native_host_rsp __attribute__((used));
struct {
	uint32_t offset;
	uint16_t selector;
} __attribute__((packed, aligned(8))) native_target __attribute__((used));

void native_enter(void);
extern char native_leave[], native_recover[];
static struct native_result *current;

_Static_assert(offsetof(struct native_state, rflags) == 128, "layout");
_Static_assert(offsetof(struct native_state, xmm) == 136, "layout");
_Static_assert(offsetof(struct native_state, ds) == 392, "layout");

/*
 * MOV changes no flags: the registers are loaded after RFLAGS on entry and
 * stored before it on return. RSP comes last in and first out.
 */
asm(
	".macro for_xmm op\n"
	".set i, 0\n"
	".irp x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	\\op \\x\n"
	".set i, i + 16\n"
	".endr\n"
	".endm\n"
	".macro load_xmm x\n"
	"	movups native_state+136+i(%rip), %xmm\\x\n"
	".endm\n"
	".macro store_xmm x\n"
	"	movups %xmm\\x, native_state+136+i(%rip)\n"
	".endm\n"
	".text\n"
	"native_enter:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n"
	"	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp, native_host_rsp(%rip)\n"
	"	for_xmm load_xmm\n"
	"	mov native_state+392(%rip), %ds\n"
	"	mov native_state+394(%rip), %es\n"
	"	pushq native_state+128(%rip)\n"
	"	popfq\n"
	"	mov native_state+0(%rip), %rax\n"
	"	mov native_state+8(%rip), %rcx\n"
	"	mov native_state+16(%rip), %rdx\n"
	"	mov native_state+24(%rip), %rbx\n"
	"	mov native_state+40(%rip), %rbp\n"
	"	mov native_state+48(%rip), %rsi\n"
	"	mov native_state+56(%rip), %rdi\n"
	"	mov native_state+64(%rip), %r8\n"
	"	mov native_state+72(%rip), %r9\n"
	"	mov native_state+80(%rip), %r10\n"
	"	mov native_state+88(%rip), %r11\n"
	"	mov native_state+96(%rip), %r12\n"
	"	mov native_state+104(%rip), %r13\n"
	"	mov native_state+112(%rip), %r14\n"
	"	mov native_state+120(%rip), %r15\n"
	"	mov native_state+32(%rip), %rsp\n"
	"	ljmp *native_target(%rip)\n"
	"native_leave:\n"
	"	mov %rsp, native_state+32(%rip)\n"
	"	mov native_host_rsp(%rip), %rsp\n"
	"	mov %rax, native_state+0(%rip)\n"
	"	mov %rcx, native_state+8(%rip)\n"
	"	mov %rdx, native_state+16(%rip)\n"
	"	mov %rbx, native_state+24(%rip)\n"
	"	mov %rbp, native_state+40(%rip)\n"
	"	mov %rsi, native_state+48(%rip)\n"
	"	mov %rdi, native_state+56(%rip)\n"
	"	mov %r8, native_state+64(%rip)\n"
	"	mov %r9, native_state+72(%rip)\n"
	"	mov %r10, native_state+80(%rip)\n"
	"	mov %r11, native_state+88(%rip)\n"
	"	mov %r12, native_state+96(%rip)\n"
	"	mov %r13, native_state+104(%rip)\n"
	"	mov %r14, native_state+112(%rip)\n"
	"	mov %r15, native_state+120(%rip)\n"
	"	pushfq\n"
	"	popq native_state+128(%rip)\n"
	"	pushq $0x202\n"
	"	popfq\n"
	"	for_xmm store_xmm\n"
	"native_recover:\n"
	"	mov native_host_rsp(%rip), %rsp\n"
	"	pushq $0x202\n"
	"	popfq\n"
	"	cld\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n"
	"	pop %r12\n	pop %rbp\n	pop %rbx\n"
	"	ret\n"
);

/* Registers as they were at the fault, then back to the C code. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	static const int order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
		REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
		REG_R14, REG_R15,
	};
	ucontext_t *uc = context;
	greg_t *gregs = uc->uc_mcontext.gregs;
	int i;

	(void)info;
	if (!current) {
		signal(sig, SIG_DFL);
		return;
	}
	current->faulted = true;
	current->vector = gregs[REG_TRAPNO];
	current->error = gregs[REG_ERR];
	current->cr2 = gregs[REG_CR2];
	for (i = 0; i < 16; i++)
		native_state.regs[i] = gregs[order[i]];
	native_state.rflags = gregs[REG_EFL];

	gregs[REG_RIP] = (greg_t)native_recover;
	gregs[REG_RSP] = native_host_rsp;
	gregs[REG_EFL] = 0x202;
	/* CS in the low half of the next register; GS and FS are null. */
	gregs[REG_CSGSFS] = (gregs[REG_CSGSFS] & ~0xffffll) |
			    native_selector(NATIVE_CODE64);
}

static bool catch_signals(void)
{
	static char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	return !sigaltstack(&ss, NULL) &&
	       !sigaction(SIGSEGV, &sa, NULL) &&
	       !sigaction(SIGBUS, &sa, NULL) &&
	       !sigaction(SIGILL, &sa, NULL);
}

static bool set_ldt(enum native_segment seg, struct user_desc desc)
{
	desc.entry_number = seg;
	return !syscall(SYS_modify_ldt, 1, &desc, sizeof(desc));
}

static bool make_segments(void)
{
	struct user_desc data = {
		.base_addr = BUF_BASE,
		.limit = BUF_SIZE - 1,
		.seg_32bit = 1,
	};
	struct user_desc code16 = {
		.base_addr = CODE_BASE,
		.limit = 0xffff,
		.contents = 2,
	};
	struct user_desc ro = data, down = data;

	ro.read_exec_only = 1;
	down.contents = 1;
	down.limit = 0xfff;
	return set_ldt(NATIVE_CODE16, code16) &&
	       set_ldt(NATIVE_DATA_BUF, data) &&
	       set_ldt(NATIVE_DATA_RO, ro) &&
	       set_ldt(NATIVE_DATA_DOWN, down);
}

/*
 * Some virtual machines run processes on CPUs whose GDT and LDT are not what Linux set:
 * there is no code but of 64 bits.
 */
bool native_has(enum native_segment seg)
{
	uint16_t selector = native_selector(seg);
	bool readable;

	asm("verr %1" : "=@ccz" (readable) : "r" (selector));
	return readable;
}

uint16_t native_selector(enum native_segment seg)
{
	switch (seg) {
	case NATIVE_CODE64:
		return 0x33;
	case NATIVE_CODE32:
		return 0x23;
	case NATIVE_DATA_FLAT:
		return 0x2b;
	default:
		return seg << 3 | 7;
	}
}

bool native_init(void *shadow)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	uint8_t *code, *buf;

	code = mmap((void *)CODE_BASE, 4096,
		    PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
	buf = mmap((void *)(BUF_BASE - BUF_GUARD), BUF_SIZE + 2 * BUF_GUARD,
		   PROT_NONE, flags, -1, 0);
	if (code == MAP_FAILED || buf == MAP_FAILED)
		return false;
	if (mprotect((void *)BUF_BASE, BUF_SIZE, PROT_READ | PROT_WRITE))
		return false;
	memcpy((void *)BUF_BASE, shadow, BUF_SIZE);

	/* jmp *2(%rip); .quad native_leave, aligned for RFLAGS.AC */
	memcpy((void *)RETURN_STUB, "\xff\x25\2\0\0\0", 6);
	*(uint64_t *)(RETURN_STUB + 8) = (uint64_t)native_leave;
	return catch_signals() && make_segments();
}

/* What follows the instruction: a jump to RETURN_STUB in 64-bit code. */
static void write_exit(uint8_t *p, unsigned int bits)
{
	uint32_t stub = RETURN_STUB;
	uint16_t selector = native_selector(NATIVE_CODE64);

	if (bits == 64) {
		/* jmp rel32 */
		*p++ = 0xe9;
		stub -= (uint32_t)(uintptr_t)p + 4;
		memcpy(p, &stub, 4);
		return;
	}
	if (bits == 16)
		*p++ = 0x66;
	*p++ = 0xea;
	memcpy(p, &stub, 4);
	memcpy(p + 4, &selector, 2);
}

void native_run(unsigned int bits, uint64_t gs_base, const uint8_t *code,
		unsigned int len, struct native_state *state,
		struct native_result *result)
{
	uint8_t *page = (uint8_t *)CODE_BASE;

	memset(result, 0, sizeof(*result));
	memcpy(page, code, len);
	write_exit(page + len, bits);

	native_state = *state;
	native_target.offset = bits == 16 ? 0 : CODE_BASE;
	native_target.selector = native_selector(bits == 64 ? NATIVE_CODE64 :
						 bits == 32 ? NATIVE_CODE32 :
						 NATIVE_CODE16);
	if (bits == 64)
		syscall(SYS_arch_prctl, ARCH_SET_GS, gs_base);
	else
		asm volatile("mov %0, %%gs" : : "rm" (state->gs));

	current = result;
	asm volatile("call native_enter" : : :
		     "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
		     "r11", "memory", "cc",
		     "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
		     "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
		     "xmm13", "xmm14", "xmm15");
	current = NULL;
	*state = native_state;
}
