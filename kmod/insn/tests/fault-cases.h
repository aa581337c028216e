/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the emulator refuses: one line per exception and per boundary. For the
 * userspace test, and for the KUnit suite.
 */
#ifndef KEEL_INSN_FAULT_CASES_H
#define KEEL_INSN_FAULT_CASES_H

#include "guest.h"

#define NO_ERROR	0xffffffff	/* no error code is pushed */

struct fault_case {
	const char *name;
	const char *code;
	enum insn_mode mode;
	/* The state that matters; zero is the default. */
	u64 rbx, rbp, rsp, rip, rdi, rcx;
	u64 cr0, cr4, rflags;
	u8 cpl;
	u8 seg;			/* this segment... */
	u8 type;		/* ...gets this type, if not 0 */
	u32 limit;		/* ...and this limit, if not 0 */
	bool unusable;
	/* What is expected; vector 0 with INSN_FAULT is not used. */
	int result;
	u8 vector;
	u32 error;
	u64 cr2;
};

#define GP(error_)	.result = INSN_FAULT, .vector = GP_VECTOR, .error = error_
#define SS(error_)	.result = INSN_FAULT, .vector = SS_VECTOR, .error = error_
#define UD		.result = INSN_FAULT, .vector = UD_VECTOR, .error = NO_ERROR
#define NM		.result = INSN_FAULT, .vector = NM_VECTOR, .error = NO_ERROR
#define AC		.result = INSN_FAULT, .vector = AC_VECTOR
#define PF(error_, cr2_) .result = INSN_FAULT, .vector = PF_VECTOR,	\
			.error = error_, .cr2 = cr2_
#define UNKNOWN		.result = INSN_UNKNOWN

#define NONCANONICAL	0x0000800000000000ull

static const struct fault_case fault_cases[] = {
	/* Limits; mov eax, [ebx] is four bytes. */
	{ "last bytes in the limit", "8b 03", INSN_PROT32, .rbx = 0x2ffc,
	  .seg = INSN_DS, .limit = 0x2fff },
	{ "one byte beyond the limit", "8b 03", INSN_PROT32, .rbx = 0x2ffd,
	  .seg = INSN_DS, .limit = 0x2fff, GP(0) },
	{ "one byte beyond the limit of SS", "8b 45 00", INSN_PROT32,
	  .rbp = 0x2ffd, .seg = INSN_SS, .limit = 0x2fff, SS(0) },
	{ "DS override of an SS address", "3e 8b 45 00", INSN_PROT32,
	  .rbp = 0x2ffd, .seg = INSN_DS, .limit = 0x2fff, GP(0) },
	{ "offset wraps at 4 GiB", "8b 03", INSN_PROT32, .rbx = 0xfffffffe,
	  GP(0) },
	{ "real mode: no error code", "8b 07", INSN_REAL, .rbx = 0xffff,
	  GP(NO_ERROR) },
	{ "VM86: error code", "8b 07", INSN_VM86, .rbx = 0xffff, GP(0) },
	{ "real mode: the segment's type is nothing", "88 07", INSN_REAL,
	  .rbx = DATA, .seg = INSN_DS, .type = 1 },
	{ "real mode with a large limit", "67 8b 03", INSN_REAL,
	  .rbx = 0x12345, .seg = INSN_DS, .limit = 0xffffffff,
	  PF(0, 0x12345) },
	{ "expand-down: below", "8b 03", INSN_PROT32, .rbx = 0x2ffc,
	  .seg = INSN_DS, .type = 7, .limit = 0x2fff, GP(0) },
	{ "expand-down: at the limit", "8b 03", INSN_PROT32, .rbx = 0x2fff,
	  .seg = INSN_DS, .type = 7, .limit = 0x2fff, GP(0) },
	{ "expand-down: above", "8b 03", INSN_PROT32, .rbx = 0x3000,
	  .seg = INSN_DS, .type = 7, .limit = 0x2fff },
	{ "expand-down: 16 bits end at 64 KiB", "66 67 8b 03", INSN_PROT16,
	  .rbx = 0xfffe, .seg = INSN_DS, .type = 7, .limit = 0x2fff, GP(0) },

	/* Types. */
	{ "write to read-only data", "88 03", INSN_PROT32, .rbx = DATA,
	  .seg = INSN_DS, .type = 1, GP(0) },
	{ "read of read-only data", "8a 03", INSN_PROT32, .rbx = DATA,
	  .seg = INSN_DS, .type = 1 },
	{ "write to code", "2e 88 03", INSN_PROT32, .rbx = DATA, GP(0) },
	{ "read of execute-only code", "2e 8a 03", INSN_PROT32, .rbx = DATA,
	  .seg = INSN_CS, .type = 9, GP(0) },
	{ "null DS", "8a 03", INSN_PROT32, .rbx = DATA, .seg = INSN_DS,
	  .unusable = true, GP(0) },
	{ "null SS", "8a 45 00", INSN_PROT32, .rbp = DATA, .seg = INSN_SS,
	  .unusable = true, SS(0) },
	{ "64-bit mode: null DS", "8a 03", INSN_LONG64, .rbx = DATA,
	  .seg = INSN_DS, .unusable = true },
	{ "64-bit mode: read-only DS, limit", "88 03", INSN_LONG64,
	  .rbx = DATA, .seg = INSN_DS, .type = 1, .limit = 1 },

	/* Canonical addresses. */
	{ "not canonical", "8a 03", INSN_LONG64, .rbx = NONCANONICAL, GP(0) },
	{ "not canonical on the stack", "8a 45 00", INSN_LONG64,
	  .rbp = NONCANONICAL, SS(0) },
	{ "last byte not canonical", "8b 03", INSN_LONG64,
	  .rbx = NONCANONICAL - 3, GP(0) },
	{ "canonical up to the end", "8b 03", INSN_LONG64,
	  .rbx = NONCANONICAL - 4, PF(0, NONCANONICAL - 4) },
	{ "canonical with LA57", "8a 03", INSN_LONG64, .rbx = NONCANONICAL,
	  .cr4 = X86_CR4_LA57, PF(0, NONCANONICAL) },
	{ "CMPXCHG16B, misaligned", "48 0f c7 0b", INSN_LONG64,
	  .rbx = DATA + 8, GP(0) },
	{ "MOVAPS, misaligned", "0f 28 03", INSN_LONG64, .rbx = DATA + 8,
	  GP(0) },
	{ "MOVUPS, misaligned", "0f 10 03", INSN_LONG64, .rbx = DATA + 8 },
	{ "CLFLUSH, not canonical", "0f ae 3b", INSN_LONG64,
	  .rbx = NONCANONICAL, GP(0) },
	{ "PREFETCH, not canonical", "0f 18 03", INSN_LONG64,
	  .rbx = NONCANONICAL },
	{ "NOP, not canonical", "0f 1f 03", INSN_LONG64,
	  .rbx = NONCANONICAL },

	/* Alignment checking. */
	{ "#AC at CPL 3", "8b 03", INSN_PROT32, .rbx = DATA + 2, .cpl = 3,
	  .cr0 = X86_CR0_AM, .rflags = X86_EFLAGS_AC, AC },
	{ "no #AC at CPL 0", "8b 03", INSN_PROT32, .rbx = DATA + 2,
	  .cr0 = X86_CR0_AM, .rflags = X86_EFLAGS_AC },
	{ "no #AC without CR0.AM", "8b 03", INSN_PROT32, .rbx = DATA + 2,
	  .cpl = 3, .rflags = X86_EFLAGS_AC },

	/* Page faults. */
	{ "absent page", "8b 03", INSN_PROT32, .rbx = ABSENT, PF(0, ABSENT) },
	{ "second page absent", "8b 03", INSN_PROT32, .rbx = ABSENT - 2,
	  PF(0, ABSENT) },
	{ "store, second page absent", "89 03", INSN_PROT32,
	  .rbx = ABSENT - 2, PF(2, ABSENT) },
	{ "read-modify-write asks for a write", "01 03", INSN_PROT32,
	  .rbx = ABSENT, PF(2, ABSENT) },
	{ "read-modify-write of a read-only page", "01 03", INSN_PROT32,
	  .rbx = READ_ONLY, PF(3, READ_ONLY) },
	{ "CMP reads only", "39 03", INSN_PROT32, .rbx = READ_ONLY },
	{ "BT reads only", "0f a3 03", INSN_PROT32, .rbx = READ_ONLY },
	{ "failing CMPXCHG writes", "0f b1 03", INSN_PROT32,
	  .rbx = READ_ONLY, PF(3, READ_ONLY) },
	{ "PUSH, stack absent", "ff 33", INSN_PROT32, .rbx = DATA,
	  .rsp = HOLE, PF(2, HOLE - 4) },
	{ "POP, destination absent", "8f 03", INSN_PROT32, .rbx = ABSENT,
	  PF(2, ABSENT) },
	{ "REP STOS, absent from the start", "f3 aa", INSN_PROT32,
	  .rdi = ABSENT, .rcx = 4, PF(2, ABSENT) },

	/* Fetching. */
	{ "fetch, absent page", "", INSN_PROT32, .rip = ABSENT,
	  PF(0, ABSENT) },
	{ "fetch, ends with the page", "8a 03", INSN_PROT32, .rbx = DATA,
	  .rip = ABSENT - 2 },
	{ "fetch, goes on in an absent page", "8a 43", INSN_PROT32,
	  .rip = ABSENT - 2, PF(0, ABSENT) },
	{ "fetch, ends with the limit of CS", "8a 03", INSN_PROT32,
	  .rbx = DATA, .rip = 0x1ffe, .seg = INSN_CS, .limit = 0x1fff },
	{ "fetch, beyond the limit of CS", "8a 43 00", INSN_PROT32,
	  .rip = 0x1ffe, .seg = INSN_CS, .limit = 0x1fff, GP(0) },
	{ "fetch, all beyond the limit of CS", "8a 03", INSN_PROT32,
	  .rip = 0x2000, .seg = INSN_CS, .limit = 0x1fff, GP(0) },
	{ "fetch, real mode, at the end", "8a 47 00", INSN_REAL,
	  .rip = 0xfffe, GP(NO_ERROR) },
	{ "15 bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 8a 03",
	  INSN_PROT32, .rbx = DATA },
	{ "16 bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 66 8a 03",
	  INSN_PROT32, .rbx = DATA, GP(0) },
	{ "16 bytes in real mode",
	  "66 66 66 66 66 66 66 66 66 66 66 66 66 66 8a 07", INSN_REAL,
	  GP(NO_ERROR) },

	/* LOCK. */
	{ "LOCK ADD memory", "f0 01 03", INSN_PROT32, .rbx = DATA },
	{ "LOCK ADD register", "f0 01 c3", INSN_PROT32, UD },
	{ "LOCK ADD from memory", "f0 03 03", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK CMP", "f0 39 03", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK CMP immediate", "f0 80 3b 00", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK MOV", "f0 89 03", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK TEST", "f0 84 03", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK BT", "f0 0f a3 03", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK BTS", "f0 0f ab 03", INSN_PROT32, .rbx = DATA },
	{ "LOCK SHL", "f0 d1 23", INSN_PROT32, .rbx = DATA, UD },
	{ "LOCK XCHG", "f0 87 03", INSN_PROT32, .rbx = DATA },
	{ "LOCK NOT", "f0 f7 13", INSN_PROT32, .rbx = DATA },
	{ "LOCK MOVS", "f0 a4", INSN_PROT32, UD },
	{ "LOCK CMPXCHG8B", "f0 0f c7 0b", INSN_PROT32, .rbx = DATA },
	{ "LOCK INVLPG", "f0 0f 01 3b", INSN_PROT32, UD },
	{ "MOVBE of a register", "0f 38 f0 c3", INSN_PROT32, UD },
	{ "MOV from segment register 6", "8c 33", INSN_PROT32, .rbx = DATA,
	  UD },

	/* Privilege. */
	{ "MOV from CR0 at CPL 0", "0f 20 c0", INSN_PROT32, .cpl = 0 },
	{ "MOV from CR0 in real mode", "0f 20 c0", INSN_REAL, .cpl = 0 },
	{ "MOV from CR0 at CPL 3", "0f 20 c0", INSN_PROT32, .cpl = 3, GP(0) },
	{ "MOV to CR3 at CPL 1", "0f 22 d8", INSN_PROT32, .cpl = 1, GP(0) },
	{ "MOV to CR3 in VM86", "0f 22 d8", INSN_VM86, GP(0) },
	{ "MOV from CR1", "0f 20 c8", INSN_PROT32, UD },
	{ "MOV from CR1 at CPL 3", "0f 20 c8", INSN_PROT32, .cpl = 3, UD },
	{ "MOV from CR9", "44 0f 20 c8", INSN_LONG64, UD },
	{ "MOV from CR8", "44 0f 20 c0", INSN_LONG64, .cpl = 0 },
	{ "MOV from DR7 at CPL 3", "0f 21 f8", INSN_PROT32, .cpl = 3, GP(0) },
	{ "MOV from DR4", "0f 21 e0", INSN_PROT32, .cpl = 0 },
	{ "MOV from DR4 with CR4.DE", "0f 21 e0", INSN_PROT32,
	  .cr4 = X86_CR4_DE, UD },
	{ "MOV from DR8", "44 0f 21 c0", INSN_LONG64, UD },
	{ "LMSW at CPL 3", "0f 01 f0", INSN_PROT32, .cpl = 3, GP(0) },
	{ "SMSW at CPL 3", "0f 01 e0", INSN_PROT32, .cpl = 3 },
	{ "SMSW at CPL 3 with UMIP", "0f 01 e0", INSN_PROT32, .cpl = 3,
	  .cr4 = X86_CR4_UMIP, GP(0) },
	{ "SMSW at CPL 0 with UMIP", "0f 01 e0", INSN_PROT32,
	  .cr4 = X86_CR4_UMIP },
	{ "CLTS at CPL 3", "0f 06", INSN_PROT32, .cpl = 3, GP(0) },
	{ "CLTS in VM86", "0f 06", INSN_VM86, GP(0) },
	{ "INVLPG at CPL 3", "0f 01 3b", INSN_PROT32, .cpl = 3, GP(0) },
	{ "INVLPG beyond the limit", "0f 01 3b", INSN_PROT32, .rbx = 0x3000,
	  .seg = INSN_DS, .limit = 1 },

	/* SSE. */
	{ "SSE with CR0.EM", "0f 10 03", INSN_PROT32, .rbx = DATA,
	  .cr0 = X86_CR0_EM, UD },
	{ "SSE with CR0.TS", "0f 10 03", INSN_PROT32, .rbx = DATA,
	  .cr0 = X86_CR0_TS, NM },
	{ "SSE with both", "0f 10 03", INSN_PROT32, .rbx = DATA,
	  .cr0 = X86_CR0_TS | X86_CR0_EM, UD },

	/* What it leaves to others. */
	{ "CPUID is not emulated", "0f a2", INSN_PROT32, UNKNOWN },
	{ "FLD is not emulated", "d9 03", INSN_PROT32, UNKNOWN },
	{ "CALL is not emulated", "ff 13", INSN_PROT32, UNKNOWN },
	{ "VMOVDQA is not emulated", "c5 f9 6f 03", INSN_LONG64, UNKNOWN },
	{ "PUSH of a register", "ff f0", INSN_PROT32, UNKNOWN },
	{ "MMX load", "0f 6f 03", INSN_PROT32, UNKNOWN },
	{ "CRC32", "f2 0f 38 f1 03", INSN_PROT32, UNKNOWN },
	{ "MOVNTI to a register", "0f c3 c3", INSN_PROT32, UNKNOWN },
	{ "no such instruction", "0f 04", INSN_PROT32, UNKNOWN },
	{ "DAA in 64-bit mode", "27", INSN_LONG64, UNKNOWN },
};

static void fault_prepare(struct guest *g, const struct fault_case *c)
{
	struct insn_seg *seg = &g->cpu.seg[c->seg];

	guest_init(g, c->mode);
	g->sync = true;
	g->cpu.regs[INSN_RBX] = c->rbx;
	g->cpu.regs[INSN_RBP] = c->rbp;
	g->cpu.regs[INSN_RDI] = c->rdi;
	g->cpu.regs[INSN_RCX] = c->rcx;
	if (c->rsp)
		g->cpu.regs[INSN_RSP] = c->rsp;
	if (c->rip)
		g->cpu.rip = c->rip;
	g->cpu.cr0 |= c->cr0;
	g->cpu.cr4 |= c->cr4;
	g->cpu.rflags |= c->rflags;
	if (c->cpl)
		g->cpu.cpl = c->cpl;
	if (c->type)
		seg->type = c->type;
	if (c->limit)
		seg->limit = c->limit;
	seg->unusable = c->unusable;
	guest_code(g, c->code);
}

/* Is @ret, and the fault in @g, what the case says? */
static bool fault_expected(const struct guest *g, const struct fault_case *c,
			   int ret)
{
	bool has_error = c->error != NO_ERROR;

	if (ret != c->result)
		return false;
	if (ret != INSN_FAULT)
		return true;
	if (g->fault.vector != c->vector || g->fault.has_error != has_error)
		return false;
	if (has_error && g->fault.error != c->error)
		return false;
	return c->vector != PF_VECTOR || g->fault.cr2 == c->cr2;
}

static bool guest_unchanged(const struct guest *g, const struct guest *was)
{
	return !memcmp(&g->cpu, &was->cpu, sizeof(g->cpu)) &&
	       !memcmp(g->ram, was->ram, sizeof(g->ram)) &&
	       !memcmp(g->xmm, was->xmm, sizeof(g->xmm)) &&
	       !memcmp(g->cr, was->cr, sizeof(g->cr)) &&
	       !memcmp(g->dr, was->dr, sizeof(g->dr));
}

#endif /* KEEL_INSN_FAULT_CASES_H */
