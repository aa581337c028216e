// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: the instruction decoder and emulator, as the kernel compiles them. Few
 * instructions with known results; insn/tests/ has millions, in userspace.
 */
#include <kunit/test.h>

#include "../insn/tests/fault-cases.h"
/* After the others, which have a function of this name. */
#include "../insn/emulate.h"

/* Too large for a stack; tests run one after the other. */
static struct guest g, was;

#define REG(name_)	(g.cpu.regs[INSN_ ## name_])
#define FLAGS_CHECKED	(X86_EFLAGS_CF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF)

static u64 get(const u8 *p, unsigned int size)
{
	u64 val = 0;

	memcpy(&val, p, size);
	return val;
}

static void begin(enum insn_mode mode, const char *code)
{
	guest_init(&g, mode);
	guest_code(&g, code);
}

/* ---- decoder ---- */

static const struct decode_case {
	const char *code;	/* and nothing else: its length is the instruction's */
	enum insn_mode mode;
	u8 op_size, ad_size;
	u64 imm;
	struct {
		bool there;	/* if so: */
		u8 seg, base, index, scale;
		s64 disp;
	} mem;
} decode_cases[] = {
#define NO_MEM		{ false }
#define MEM(seg_, base_, disp_)	\
	{ true, INSN_ ## seg_, INSN_ ## base_, INSN_NO_REG, 1, disp_ }
#define SIB(seg_, base_, index_, scale_, disp_)	\
	{ true, INSN_ ## seg_, INSN_ ## base_, INSN_ ## index_, scale_, disp_ }

	/* 16 bits */
	{ "8b 07", INSN_REAL, 2, 2, 0, MEM(DS, RBX, 0) },
	{ "8b 42 fe", INSN_REAL, 2, 2, 0, SIB(SS, RBP, RSI, 1, -2) },
	{ "8b 06 34 12", INSN_PROT16, 2, 2, 0, MEM(DS, NO_REG, 0x1234) },
	{ "8a 80 00 f0", INSN_PROT16, 1, 2, 0, SIB(DS, RBX, RSI, 1, -0x1000) },
	{ "a1 00 a0", INSN_REAL, 2, 2, 0, MEM(DS, NO_REG, 0xa000) },
	{ "26 c7 05 cd ab", INSN_VM86, 2, 2, 0xffffffffffffabcd, MEM(ES, RDI, 0) },
	{ "66 67 8b 04 8d 00 10 00 00", INSN_REAL, 4, 4, 0, SIB(DS, NO_REG, RCX, 4, 0x1000) },
	{ "ea 5b e0 00 f0", INSN_REAL, 2, 2, 0xffffffffffffe05b, NO_MEM },
	{ "66 ea 00 00 10 00 08 00", INSN_REAL, 4, 2, 0x100000, NO_MEM },
	{ "f3 66 ab", INSN_REAL, 4, 2, 0, NO_MEM },
	{ "0f 22 c0", INSN_REAL, 4, 2, 0, NO_MEM },
	{ "c4 07", INSN_REAL, 2, 2, 0, MEM(DS, RBX, 0) },		/* LES */
	/* 32 bits */
	{ "8b 44 24 04", INSN_PROT32, 4, 4, 0, MEM(SS, RSP, 4) },
	{ "8b 45 fc", INSN_PROT32, 4, 4, 0, MEM(SS, RBP, -4) },
	{ "3e 8b 45 00", INSN_PROT32, 4, 4, 0, MEM(DS, RBP, 0) },
	{ "65 8b 35 00 10 00 00", INSN_PROT32, 4, 4, 0, MEM(GS, NO_REG, 0x1000) },
	{ "67 8b 46 02", INSN_PROT32, 4, 2, 0, MEM(SS, RBP, 2) },
	{ "c7 05 b0 00 e0 fe 00 00 00 00", INSN_PROT32, 4, 4, 0,
	  MEM(DS, NO_REG, (s32)0xfee000b0) },
	{ "a1 20 00 e0 fe", INSN_PROT32, 4, 4, 0, MEM(DS, NO_REG, 0xfee00020) },
	{ "f6 45 ff 80", INSN_PROT32, 1, 4, 0xffffffffffffff80, MEM(SS, RBP, -1) },
	{ "f6 55 ff", INSN_PROT32, 1, 4, 0, MEM(SS, RBP, -1) },
	{ "0f b6 14 b7", INSN_PROT32, 4, 4, 0, SIB(DS, RDI, RSI, 4, 0) },
	{ "66 c7 00 34 12", INSN_PROT32, 2, 4, 0x1234, MEM(DS, RAX, 0) },
	{ "c8 10 00 01", INSN_PROT32, 4, 4, 0x10, NO_MEM },
	{ "40", INSN_PROT32, 4, 4, 0, NO_MEM },				/* INC, no REX */
	/* 64 bits */
	{ "8b 05 10 00 00 00", INSN_LONG64, 4, 8, 0, MEM(DS, RIP, 0x10) },
	{ "8b 04 25 20 d0 5f ff", INSN_LONG64, 4, 8, 0, MEM(DS, NO_REG, (s32)0xff5fd020) },
	{ "44 89 8b b0 00 00 00", INSN_LONG64, 4, 8, 0, MEM(DS, RBX, 0xb0) },
	{ "4b 8b 44 f5 00", INSN_LONG64, 8, 8, 0, SIB(DS, R13, R14, 8, 0) },
	{ "41 8b 04 24", INSN_LONG64, 4, 8, 0, MEM(DS, R12, 0) },
	{ "42 8b 04 24", INSN_LONG64, 4, 8, 0, SIB(SS, RSP, R12, 1, 0) },
	{ "48 a1 88 77 66 55 44 33 22 11", INSN_LONG64, 8, 8, 0,
	  MEM(DS, NO_REG, 0x1122334455667788) },
	{ "67 a1 00 00 e0 fe", INSN_LONG64, 4, 4, 0, MEM(DS, NO_REG, 0xfee00000) },
	{ "48 b8 88 77 66 55 44 33 22 11", INSN_LONG64, 8, 8, 0x1122334455667788, NO_MEM },
	{ "48 c7 03 fe ff ff ff", INSN_LONG64, 8, 8, -2ULL, MEM(DS, RBX, 0) },
	{ "26 8b 03", INSN_LONG64, 4, 8, 0, MEM(DS, RBX, 0) },
	{ "64 48 8b 04 25 28 00 00 00", INSN_LONG64, 8, 8, 0, MEM(FS, NO_REG, 0x28) },
	{ "48 66 8b 03", INSN_LONG64, 2, 8, 0, MEM(DS, RBX, 0) },	/* lost REX */
	{ "f0 48 0f c7 0b", INSN_LONG64, 8, 8, 0, MEM(DS, RBX, 0) },
	{ "ff 33", INSN_LONG64, 4, 8, 0, MEM(DS, RBX, 0) },
	{ "0f 20 d8", INSN_LONG64, 8, 8, 0, NO_MEM },
	{ "0f a2", INSN_LONG64, 4, 8, 0, NO_MEM },			/* CPUID */
	{ "0f 01 d9", INSN_LONG64, 4, 8, 0, NO_MEM },			/* VMMCALL */
	{ "66 0f 3a 0f c1 08", INSN_LONG64, 2, 8, 8, NO_MEM },		/* PALIGNR */
	{ "66 0f 38 82 03", INSN_LONG64, 2, 8, 0, MEM(DS, RBX, 0) },	/* INVPCID */
	{ "c4 e2 7d 18 05 00 00 00 00", INSN_LONG64, 4, 8, 0, MEM(DS, RIP, 0) },
	{ "62 f1 7c 48 28 43 01", INSN_LONG64, 4, 8, 0, MEM(DS, RBX, 1) },
	/* the longest there is */
	{ "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", INSN_LONG64, 2, 8, 0, NO_MEM },
};

static void decode_known(struct kunit *test)
{
	const struct decode_case *c;
	unsigned int len, i;
	struct insn insn;

	for (c = decode_cases; c < decode_cases + ARRAY_SIZE(decode_cases); c++) {
		const u8 *bytes = g.ram + CODE;

		guest_init(&g, c->mode);
		len = guest_code(&g, c->code);
		/* Every byte of it is needed, and what comes after it is not. */
		for (i = 0; i < len; i++)
			KUNIT_EXPECT_EQ_MSG(test, keel_insn_decode(&insn, c->mode, bytes, i),
					    INSN_SHORT, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, keel_insn_decode(&insn, c->mode, bytes, len),
				    INSN_OK, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, keel_insn_decode(&insn, c->mode, bytes, len + 4),
				    INSN_OK, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.len, len, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.op_size, c->op_size, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.ad_size, c->ad_size, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.imm, c->imm, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.has_mem, c->mem.there, "%s", c->code);
		if (!c->mem.there)
			continue;
		KUNIT_EXPECT_EQ_MSG(test, insn.seg, c->mem.seg, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.base, c->mem.base, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.index, c->mem.index, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.scale, c->mem.scale, "%s", c->code);
		KUNIT_EXPECT_EQ_MSG(test, insn.disp, c->mem.disp, "%s", c->code);
	}
}

static void decode_refusals(struct kunit *test)
{
	static const struct {
		const char *code;
		enum insn_mode mode;
		int result;
	} cases[] = {
		{ "66 66 66 66 66 66 66 66 66 66 66 66 66 66 8a 03", INSN_PROT32, INSN_TOO_LONG },
		{ "2e 66 67 f0 f3 2e 66 67 f0 f3 2e 66 67 f0 f3 90", INSN_REAL, INSN_TOO_LONG },
		{ "3e 3e 3e 3e 3e c7 84 24 00 00 00 00 00 00 00 00", INSN_PROT32, INSN_TOO_LONG },
		{ "0f 04", INSN_PROT32, INSN_UNKNOWN },
		{ "0f ff c0", INSN_PROT32, INSN_OK },			/* UD0 has a ModRM */
		{ "27", INSN_LONG64, INSN_UNKNOWN },			/* DAA */
		{ "27", INSN_PROT32, INSN_OK },
		{ "82 03 00", INSN_LONG64, INSN_UNKNOWN },
		{ "ea 00 00 00 00 08 00", INSN_LONG64, INSN_UNKNOWN },
		{ "8d c0", INSN_PROT32, INSN_UNKNOWN },			/* LEA of a register */
		{ "62 c0", INSN_REAL, INSN_UNKNOWN },			/* BOUND of one */
		{ "66 c5 f8 77", INSN_LONG64, INSN_UNKNOWN },		/* VEX after 66 */
		{ "f0 c4 e2 7d 18 03", INSN_LONG64, INSN_UNKNOWN },
	};
	unsigned int i, len;
	struct insn insn;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		guest_init(&g, cases[i].mode);
		len = guest_code(&g, cases[i].code);
		KUNIT_EXPECT_EQ_MSG(test, keel_insn_decode(&insn, cases[i].mode, g.ram + CODE, len),
				    cases[i].result, "%s", cases[i].code);
		if (cases[i].result != INSN_OK)
			len = 0;
		KUNIT_EXPECT_EQ_MSG(test, insn.len, len, "%s", cases[i].code);
	}
}

/* ---- emulator ---- */

/* Limits, types, privilege, LOCK, paging, fetching: the table of the userspace test. */
static void faults(struct kunit *test)
{
	const struct fault_case *c;
	int ret;

	for (c = fault_cases; c < fault_cases + ARRAY_SIZE(fault_cases); c++) {
		fault_prepare(&g, c);
		was = g;
		ret = guest_step(&g);
		KUNIT_EXPECT_TRUE_MSG(test, fault_expected(&g, c, ret),
				      "%s: result %d vector %u error code %d %x cr2 %llx", c->name,
				      ret, g.fault.vector, g.fault.has_error, g.fault.error,
				      g.fault.cr2);
		if (ret != INSN_DONE)
			KUNIT_EXPECT_TRUE_MSG(test, guest_unchanged(&g, &was), "%s", c->name);
		else
			KUNIT_EXPECT_EQ_MSG(test, g.cpu.rip, was.cpu.rip + g.insn.len,
					    "%s", c->name);
	}
}

/* One access of a device at RBX for each form that drivers and firmware use. */
static const struct mmio_case {
	const char *name, *code;
	enum insn_mode mode;
	u64 rax, device;		/* before */
	u64 rax_after, device_after;
	unsigned int reads, writes;
	u64 flags;			/* of FLAGS_CHECKED */
} mmio_cases[] = {
#define CF	X86_EFLAGS_CF
#define ZF	X86_EFLAGS_ZF
#define SF	X86_EFLAGS_SF
#define OF	X86_EFLAGS_OF
#define QUAD	0x1122334455667788
	{ "mov eax, [rbx]", "8b 03", INSN_LONG64, -1ULL, QUAD, 0x55667788, QUAD, 1, 0, 0 },
	{ "mov rax, [rbx]", "48 8b 03", INSN_LONG64, 0, QUAD, QUAD, QUAD, 1, 0, 0 },
	{ "mov ax, [rbx]", "66 8b 03", INSN_LONG64, -1ULL, QUAD,
	  0xffffffffffff7788, QUAD, 1, 0, 0 },
	{ "mov ah, [rbx]", "8a 23", INSN_LONG64, 0, QUAD, 0x8800, QUAD, 1, 0, 0 },
	{ "mov eax, [moffs]", "a1 00 a0 00 00", INSN_PROT32, 0, QUAD, 0x55667788, QUAD, 1, 0, 0 },
	{ "mov ax, [moffs]", "a1 00 a0", INSN_REAL, 0, QUAD, 0x7788, QUAD, 1, 0, 0 },
	{ "mov [rbx], eax", "89 03", INSN_LONG64, QUAD, 0, QUAD, 0x55667788, 0, 1, 0 },
	{ "mov [rbx], rax", "48 89 03", INSN_LONG64, QUAD, 0, QUAD, QUAD, 0, 1, 0 },
	{ "mov [bx], al", "88 07", INSN_REAL, QUAD, 0, QUAD, 0x88, 0, 1, 0 },
	{ "mov [moffs], eax", "a3 00 a0 00 00 00 00 00 00", INSN_LONG64, QUAD, 0,
	  QUAD, 0x55667788, 0, 1, 0 },
	{ "mov dword [rbx], imm", "c7 03 ef be ad de", INSN_LONG64, 0, QUAD,
	  0, 0x11223344deadbeef, 0, 1, 0 },
	{ "mov qword [rbx], imm", "48 c7 03 fe ff ff ff", INSN_LONG64, 0, QUAD, 0, -2ULL, 0, 1, 0 },
	{ "mov byte [rbx], imm", "c6 03 5a", INSN_PROT32, 0, 0, 0, 0x5a, 0, 1, 0 },
	{ "movzx eax, byte", "0f b6 03", INSN_LONG64, -1ULL, QUAD, 0x88, QUAD, 1, 0, 0 },
	{ "movzx ax, byte", "66 0f b6 03", INSN_PROT32, 0xffffffff, QUAD,
	  0xffff0088, QUAD, 1, 0, 0 },
	{ "movzx rax, word", "48 0f b7 03", INSN_LONG64, -1ULL, QUAD, 0x7788, QUAD, 1, 0, 0 },
	{ "movsx eax, byte", "0f be 03", INSN_LONG64, 0, QUAD, 0xffffff88, QUAD, 1, 0, 0 },
	{ "movsx rax, byte", "48 0f be 03", INSN_LONG64, 0, QUAD,
	  0xffffffffffffff88, QUAD, 1, 0, 0 },
	{ "movsx rax, word", "48 0f bf 03", INSN_LONG64, 0, 0x8000,
	  0xffffffffffff8000, 0x8000, 1, 0, 0 },
	{ "movsxd rax, dword", "48 63 03", INSN_LONG64, 0, 0x80000000,
	  0xffffffff80000000, 0x80000000, 1, 0, 0 },
	{ "movbe eax, [rbx]", "0f 38 f0 03", INSN_LONG64, 0, QUAD, 0x88776655, QUAD, 1, 0, 0 },
	{ "xchg [rbx], eax", "87 03", INSN_LONG64, 7, 9, 9, 7, 1, 1, 0 },
	{ "lock xadd [rbx], eax", "f0 0f c1 03", INSN_LONG64, 7, 9, 9, 16, 1, 1, 0 },
	/* ECX is 3 */
	{ "lock cmpxchg, equal", "f0 0f b1 0b", INSN_LONG64, 9, 9, 9, 3, 1, 1, ZF },
	{ "lock cmpxchg, less", "f0 0f b1 0b", INSN_LONG64, 7, 9, 9, 9, 1, 1, CF | SF },
	{ "cmpxchg, more", "0f b1 0b", INSN_PROT32, 10, 9, 9, 9, 1, 1, 0 },
	{ "test byte [rbx], imm", "f6 03 80", INSN_LONG64, 0, QUAD, 0, QUAD, 1, 0, SF },
	{ "test [rbx], eax", "85 03", INSN_LONG64, 0x77, 0x88, 0x77, 0x88, 1, 0, ZF },
	{ "cmp dword [rbx], imm", "83 3b 09", INSN_LONG64, 0, 9, 0, 9, 1, 0, ZF },
	{ "cmp eax, [rbx]", "3b 03", INSN_LONG64, 1, 2, 1, 2, 1, 0, CF | SF },
	{ "and dword [rbx], imm", "81 23 f0 00 00 00", INSN_LONG64, 0, QUAD,
	  0, 0x1122334400000080, 1, 1, 0 },
	{ "or [rbx], eax", "09 03", INSN_PROT32, 0x80000000, 1, 0x80000000, 0x80000001, 1, 1, SF },
	{ "lock or byte [rbx], imm", "f0 80 0b 0f", INSN_LONG64, 0, 0xf0, 0, 0xff, 1, 1, SF },
	{ "add dword [rbx], imm", "83 03 01", INSN_LONG64, 0, 0x7fffffff, 0, 0x80000000, 1, 1,
	  SF | OF },
	{ "add [bx], ax", "01 07", INSN_REAL, 1, 0xffff, 1, 0, 1, 1, CF | ZF },
	{ "sub [rbx], eax", "29 03", INSN_LONG64, 2, 1, 2, 0xffffffff, 1, 1, CF | SF },
	{ "xor [rbx], eax", "31 03", INSN_LONG64, 5, 5, 5, 0, 1, 1, ZF },
	{ "lock inc dword [rbx]", "f0 ff 03", INSN_LONG64, 0, 1, 0, 2, 1, 1, 0 },
	{ "lock bts dword [rbx], 3", "f0 0f ba 2b 03", INSN_LONG64, 0, 0, 0, 8, 1, 1, 0 },
	{ "lock btr dword [rbx], 3", "f0 0f ba 33 03", INSN_LONG64, 0, 9, 0, 1, 1, 1, CF },
	/* Strings: RSI and RDI are at the device too, RCX is 3 */
	{ "lodsd", "ad", INSN_PROT32, 0, QUAD, 0x55667788, QUAD, 1, 0, 0 },
	{ "stosb", "aa", INSN_PROT32, 0x5a, 0, 0x5a, 0x5a, 0, 1, 0 },
	{ "rep stosw", "f3 66 ab", INSN_LONG64, 0x1234, 0, 0x1234, 0x123412341234, 0, 3, 0 },
	{ "rep movsb", "f3 a4", INSN_LONG64, 0, QUAD, 0, QUAD, 3, 3, 0 },
	{ "repne scasb", "f2 ae", INSN_LONG64, 0x77, QUAD, 0x77, QUAD, 2, 0, ZF },
};

static void mmio_forms(struct kunit *test)
{
	const struct mmio_case *c;
	unsigned int len;

	for (c = mmio_cases; c < mmio_cases + ARRAY_SIZE(mmio_cases); c++) {
		guest_init(&g, c->mode);
		len = guest_code(&g, c->code);
		REG(RBX) = DEVICE;
		REG(RSI) = DEVICE;
		REG(RDI) = DEVICE;
		REG(RCX) = 3;
		REG(RAX) = c->rax;
		memcpy(g.device, &c->device, sizeof(c->device));
		KUNIT_EXPECT_EQ_MSG(test, guest_run(&g), INSN_DONE, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, REG(RAX), c->rax_after, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, get(g.device, 8), c->device_after, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, g.device_reads, c->reads, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, g.device_writes, c->writes, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, g.exits, c->reads + c->writes, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, g.cpu.rflags & FLAGS_CHECKED, c->flags, "%s", c->name);
		KUNIT_EXPECT_EQ_MSG(test, g.cpu.rip, CODE + len, "%s", c->name);
	}
}

static void push_and_pop(struct kunit *test)
{
	begin(INSN_LONG64, "ff 33 8f 43 08");
	REG(RBX) = DEVICE;
	memset(g.device, 0x42, 8);
	KUNIT_EXPECT_EQ(test, guest_run(&g), INSN_DONE);
	KUNIT_EXPECT_EQ(test, REG(RSP), STACK - 8);
	KUNIT_EXPECT_EQ(test, get(g.ram + STACK - 8, 8), 0x4242424242424242ULL);
	KUNIT_EXPECT_EQ(test, guest_run(&g), INSN_DONE);
	KUNIT_EXPECT_EQ(test, REG(RSP), STACK);
	KUNIT_EXPECT_EQ(test, get(g.device + 8, 8), 0x4242424242424242ULL);
	KUNIT_EXPECT_EQ(test, g.device_reads, 1U);
	KUNIT_EXPECT_EQ(test, g.device_writes, 1U);
}

/* Nothing of an instruction is seen before its last access is complete. */
static void restart_after_mmio(struct kunit *test)
{
	begin(INSN_LONG64, "01 03");
	REG(RBX) = DEVICE;
	REG(RAX) = 5;
	was = g;
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_EXIT);
	KUNIT_EXPECT_FALSE(test, g.pending.write);
	KUNIT_EXPECT_EQ(test, g.pending.addr, DEVICE);
	KUNIT_EXPECT_EQ(test, g.pending.size, 4);
	KUNIT_EXPECT_TRUE(test, guest_unchanged(&g, &was));
	/* Asked again before there is an answer: the same question */
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_EXIT);
	KUNIT_EXPECT_FALSE(test, g.pending.write);

	g.log[0] = g.pending;
	g.log[0].data[0] = 0xff;
	g.logged = 1;
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_EXIT);
	KUNIT_EXPECT_TRUE(test, g.pending.write);
	KUNIT_EXPECT_EQ(test, get(g.pending.data, 4), 0x104ULL);
	KUNIT_EXPECT_TRUE(test, guest_unchanged(&g, &was));
	KUNIT_EXPECT_EQ(test, g.commits, 0U);

	g.log[1] = g.pending;
	g.logged = 2;
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_DONE);
	KUNIT_EXPECT_EQ(test, g.cpu.rip, CODE + 2);
	KUNIT_EXPECT_EQ(test, g.commits, 1U);
	KUNIT_EXPECT_EQ(test, g.logged, 0U);
}

static void rep_resumes(struct kunit *test)
{
	unsigned int calls = 1;

	/* Each element is complete in itself */
	begin(INSN_LONG64, "f3 a4");
	REG(RSI) = DATA;
	REG(RDI) = DEVICE;
	REG(RCX) = 3;
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_EXIT);
	g.log[0] = g.pending;
	g.logged = 1;
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_EXIT);
	KUNIT_EXPECT_EQ(test, g.pending.addr, DEVICE + 1);
	KUNIT_EXPECT_EQ(test, REG(RCX), 2ULL);
	KUNIT_EXPECT_EQ(test, REG(RSI), DATA + 1);
	KUNIT_EXPECT_EQ(test, g.cpu.rip, CODE);

	/* and a fault is that of one element */
	begin(INSN_PROT32, "f3 aa");
	REG(RDI) = ABSENT - 3;
	REG(RCX) = 10;
	g.sync = true;
	KUNIT_EXPECT_EQ(test, guest_run(&g), INSN_FAULT);
	KUNIT_EXPECT_EQ(test, g.fault.cr2, ABSENT);
	KUNIT_EXPECT_EQ(test, REG(RCX), 7ULL);
	KUNIT_EXPECT_EQ(test, g.cpu.rip, CODE);

	/* The vCPU is not kept for long */
	begin(INSN_LONG64, "f3 aa");
	REG(RDI) = DATA;
	REG(RCX) = 2 * EMU_REP_MAX + 1;
	while (guest_step(&g) == INSN_DONE && !g.insn.retired && calls < 10)
		calls++;
	KUNIT_EXPECT_EQ(test, calls, 3U);
	KUNIT_EXPECT_EQ(test, g.cpu.rip, CODE + 2);
}

static void string_ports(struct kunit *test)
{
	begin(INSN_REAL, "f3 6d");
	REG(RDX) = 0x1f0;
	REG(RDI) = DATA;
	REG(RCX) = 3;
	KUNIT_EXPECT_EQ(test, guest_run(&g), INSN_DONE);
	KUNIT_EXPECT_EQ(test, g.port_reads, 3U);
	KUNIT_EXPECT_EQ(test, get(g.ram + DATA, 6), 0x000300020001ULL);

	/* What a port has given cannot be put back */
	begin(INSN_PROT32, "6d");
	REG(RDI) = READ_ONLY;
	KUNIT_EXPECT_EQ(test, guest_run(&g), INSN_FAULT);
	KUNIT_EXPECT_EQ(test, g.fault.error, 3U);
	KUNIT_EXPECT_EQ(test, g.port_reads, 0U);

	begin(INSN_LONG64, "f3 6e");
	REG(RDX) = 0x3f8;
	REG(RSI) = DEVICE;
	REG(RCX) = 2;
	memcpy(g.device, "ab", 2);
	KUNIT_EXPECT_EQ(test, guest_run(&g), INSN_DONE);
	KUNIT_EXPECT_EQ(test, g.port_writes, 2U);
	KUNIT_EXPECT_EQ(test, g.device_reads, 2U);
	KUNIT_EXPECT_EQ(test, g.port_value, (u64)'b');
}

/* Another CPU changes the operand between the read and the write. */
static void lost_race(struct kunit *test)
{
	begin(INSN_LONG64, "f0 ff 03");
	REG(RBX) = DATA;
	g.steal = true;
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_DONE);
	KUNIT_EXPECT_FALSE(test, g.insn.retired);
	KUNIT_EXPECT_EQ(test, g.cpu.rip, CODE);
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_DONE);
	KUNIT_EXPECT_TRUE(test, g.insn.retired);
	KUNIT_EXPECT_EQ(test, g.ram[DATA], 2);
}

/* Userspace is told the bytes, so they have to be there. */
static void unknown_has_its_bytes(struct kunit *test)
{
	static const char * const codes[] = {
		"d9 03", "0f a2", "c5 f9 6f 03", "0f 04", "f2 0f 38 f1 03",
	};
	unsigned int i, len;

	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		guest_init(&g, INSN_LONG64);
		len = guest_code(&g, codes[i]);
		KUNIT_EXPECT_EQ_MSG(test, guest_step(&g), INSN_UNKNOWN, "%s", codes[i]);
		KUNIT_EXPECT_GE_MSG(test, (unsigned int)g.insn.nr_bytes, len, "%s", codes[i]);
		KUNIT_EXPECT_EQ_MSG(test, memcmp(g.insn.bytes, g.ram + CODE, len), 0,
				    "%s", codes[i]);
	}

	/* and those of the page behind it that is not there are not asked for */
	begin(INSN_LONG64, "");
	g.cpu.rip = ABSENT - 2;
	guest_code(&g, "0f a2");
	KUNIT_EXPECT_EQ(test, guest_step(&g), INSN_UNKNOWN);
	KUNIT_EXPECT_EQ(test, g.insn.nr_bytes, 2);
}

/* What goes past the emulator, and what must not. */
static void plain_mov(struct kunit *test)
{
	static const struct {
		enum insn_mode mode;
		const char *code;
		bool plain, store, immediate;
		u8 reg, size;
		u64 linear;
	} movs[] = {
		{ INSN_LONG64, "8b 03", true, false, false, INSN_RAX, 4, DATA },
		{ INSN_LONG64, "4c 8b 6b 10", true, false, false, INSN_R13, 8, DATA + 0x10 },
		{ INSN_LONG64, "66 89 14 8b", true, true, false, INSN_RDX, 2, DATA + 4 * 3 },
		{ INSN_LONG64, "8a 43 ff", true, false, false, INSN_RAX, 1, DATA - 1 },
		{ INSN_LONG64, "40 88 23", true, true, false, INSN_RSP, 1, DATA },
		{ INSN_LONG64, "c7 03 01 02 03 04", true, true, true, 0, 4, DATA },
		{ INSN_LONG64, "c6 03 55", true, true, true, 0, 1, DATA },
		{ INSN_LONG64, "8b 05 10 00 00 00", true, false, false, INSN_RAX, 4,
		  CODE + 6 + 0x10 },
		{ INSN_LONG64, "88 23" },		/* AH */
		{ INSN_LONG64, "64 8b 03" },		/* FS */
		{ INSN_LONG64, "f3 89 03" },
		{ INSN_LONG64, "0f b6 03" },		/* MOVZX */
		{ INSN_LONG64, "a1 00 10 00 00 00 00 00 00" },
		{ INSN_LONG64, "03 03" },		/* ADD */
		{ INSN_LONG64, "8b c3" },		/* registers */
		{ INSN_PROT32, "8b 03" },
		{ INSN_REAL, "8b 07" },
	};
	struct insn_mov mov;
	unsigned int i;
	bool plain;

	for (i = 0; i < ARRAY_SIZE(movs); i++) {
		begin(movs[i].mode, movs[i].code);
		REG(RBX) = DATA;
		REG(RCX) = 3;
		KUNIT_ASSERT_EQ_MSG(test, insn_fetch(&g.cpu, &guest_ops, &g, &g.insn, &g.fault),
				    INSN_OK, "%s", movs[i].code);
		plain = insn_is_plain_mov(&g.cpu, &g.insn, &mov);
		KUNIT_ASSERT_EQ_MSG(test, plain, movs[i].plain, "%s", movs[i].code);
		if (!plain)
			continue;
		KUNIT_EXPECT_EQ_MSG(test, mov.store, movs[i].store, "%s", movs[i].code);
		KUNIT_EXPECT_EQ_MSG(test, mov.immediate, movs[i].immediate, "%s", movs[i].code);
		KUNIT_EXPECT_EQ_MSG(test, mov.size, movs[i].size, "%s", movs[i].code);
		KUNIT_EXPECT_EQ_MSG(test, mov.linear, movs[i].linear, "%s", movs[i].code);
		if (!mov.immediate)
			KUNIT_EXPECT_EQ_MSG(test, mov.reg, movs[i].reg, "%s", movs[i].code);
	}
}

/* What was decoded last is taken again for the same bytes, and for nothing else. */
static void fetched_again(struct kunit *test)
{
	static const struct { const char *code; u8 len, base; } codes[] = {
		{ "40 89 03 90", 3, INSN_RBX },
		{ "40 89 03 c3", 3, INSN_RBX },
		{ "40 89 43 10", 4, INSN_RBX },
		{ "40 89 06 10", 3, INSN_RSI },
	};
	unsigned int i;

	begin(INSN_LONG64, "");
	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		guest_code(&g, codes[i].code);
		KUNIT_ASSERT_EQ(test, insn_fetch(&g.cpu, &guest_ops, &g, &g.insn, &g.fault),
				INSN_OK);
		KUNIT_EXPECT_EQ(test, g.insn.len, codes[i].len);
		KUNIT_EXPECT_EQ(test, g.insn.base, codes[i].base);
		KUNIT_EXPECT_EQ(test, g.insn.bytes[3], g.ram[CODE + 3]);
	}
	/* where it is no REX but an INC */
	g.cpu.mode = INSN_PROT32;
	g.cpu.seg[INSN_CS].db = 1;
	KUNIT_ASSERT_EQ(test, insn_fetch(&g.cpu, &guest_ops, &g, &g.insn, &g.fault), INSN_OK);
	KUNIT_EXPECT_EQ(test, g.insn.len, 1);
}

static struct kunit_case insn_cases[] = {
	KUNIT_CASE(decode_known),
	KUNIT_CASE(decode_refusals),
	KUNIT_CASE(faults),
	KUNIT_CASE(mmio_forms),
	KUNIT_CASE(push_and_pop),
	KUNIT_CASE(restart_after_mmio),
	KUNIT_CASE(rep_resumes),
	KUNIT_CASE(string_ports),
	KUNIT_CASE(lost_race),
	KUNIT_CASE(unknown_has_its_bytes),
	KUNIT_CASE(plain_mov),
	KUNIT_CASE(fetched_again),
	{}
};

static struct kunit_suite insn_suite = {
	.name = "keel-insn",
	.test_cases = insn_cases,
};

kunit_test_suites(&insn_suite);
