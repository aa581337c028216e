// SPDX-License-Identifier: GPL-2.0-only
/*
 * The emulator against the CPU that the test runs on: the same instruction
 * with the same registers, flags and memory, in 64-, 32- and 16-bit code.
 * Results, defined flags and exceptions (vector, #PF address and direction)
 * have to be the same.
 *
 * INSN_COUNT and INSN_SEED in the environment choose how many and which.
 */
#include <asm/processor-flags.h>
#include <asm/kvm.h>
#include <string.h>

#include "gen.h"
#include "native.h"

#define ARITH	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | \
		 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF)

/* One instruction and where it starts from. */
struct trial {
	unsigned int bits;
	u8 bytes[GEN_LEN];
	struct insn insn;
	struct insn_cpu cpu;
	struct native_state native;
	u8 xmm[16][16];
	u64 gs_base;
	bool wild;	/* an access that must not be tried for real */
	struct native_result raised;
};

/* What the emulator works on; the CPU works on the one at BUF_BASE. */
static u8 shadow[BUF_SIZE];
static u8 before[BUF_SIZE];

static int page_fault(struct trial *t, u64 addr, bool write,
		      struct insn_fault *fault)
{
	if (addr < BUF_BASE - BUF_GUARD ||
	    addr >= BUF_BASE + BUF_SIZE + BUF_GUARD)
		t->wild = true;
	fault->vector = PF_VECTOR;
	fault->has_error = true;
	fault->error = 4 | write << 1;
	fault->cr2 = addr;
	return INSN_FAULT;
}

static int check(struct trial *t, u64 addr, unsigned int len, bool write,
		 struct insn_fault *fault)
{
	if (addr < BUF_BASE || addr >= BUF_BASE + BUF_SIZE)
		return page_fault(t, addr, write, fault);
	if (addr + len > BUF_BASE + BUF_SIZE)
		return page_fault(t, BUF_BASE + BUF_SIZE, write, fault);
	return INSN_OK;
}

static int do_fetch(void *opaque, u64 addr, void *buf, unsigned int len,
		    struct insn_fault *fault)
{
	struct trial *t = opaque;

	(void)fault;
	memcpy(buf, t->bytes + (addr - CODE_BASE), len);
	return INSN_OK;
}

static int do_read(void *opaque, u64 addr, void *buf, unsigned int len,
		   struct insn_fault *fault)
{
	int ret = check(opaque, addr, len, false, fault);

	if (ret == INSN_OK)
		memcpy(buf, shadow + (addr - BUF_BASE), len);
	return ret;
}

static int do_probe(void *opaque, u64 addr, unsigned int len,
		    struct insn_fault *fault)
{
	return check(opaque, addr, len, true, fault);
}

static int do_write(void *opaque, u64 addr, const void *buf, unsigned int len,
		    struct insn_fault *fault)
{
	int ret = check(opaque, addr, len, true, fault);

	if (ret == INSN_OK)
		memcpy(shadow + (addr - BUF_BASE), buf, len);
	return ret;
}

static int do_cmpxchg(void *opaque, u64 addr, const void *old,
		      const void *new, unsigned int len,
		      struct insn_fault *fault)
{
	int ret = check(opaque, addr, len, true, fault);

	if (ret != INSN_OK)
		return ret;
	if (memcmp(shadow + (addr - BUF_BASE), old, len))
		return INSN_RETRY;
	memcpy(shadow + (addr - BUF_BASE), new, len);
	return INSN_OK;
}

static int do_sse_read(void *opaque, unsigned int reg, u8 *val)
{
	memcpy(val, ((struct trial *)opaque)->xmm[reg], 16);
	return INSN_OK;
}

static int do_sse_write(void *opaque, unsigned int reg, const u8 *val)
{
	memcpy(((struct trial *)opaque)->xmm[reg], val, 16);
	return INSN_OK;
}

static const struct insn_ops ops = {
	.fetch = do_fetch,
	.read = do_read,
	.write = do_write,
	.probe_write = do_probe,
	.cmpxchg = do_cmpxchg,
	.sse_read = do_sse_read,
	.sse_write = do_sse_write,
};

/* Opcodes that are worth trying: first, last, map. */
static const struct {
	u8 first, last;
	enum insn_map map;
} candidates[] = {
	{ 0x00, 0x3b, INSN_MAP_ONE }, { 0x63, 0x63, INSN_MAP_ONE },
	{ 0x80, 0x8c, INSN_MAP_ONE }, { 0x8f, 0x8f, INSN_MAP_ONE },
	{ 0xa0, 0xa7, INSN_MAP_ONE }, { 0xaa, 0xaf, INSN_MAP_ONE },
	{ 0xa4, 0xa7, INSN_MAP_ONE }, { 0xc0, 0xc1, INSN_MAP_ONE },
	{ 0xc6, 0xc7, INSN_MAP_ONE }, { 0xd0, 0xd3, INSN_MAP_ONE },
	{ 0xd0, 0xd3, INSN_MAP_ONE }, { 0xf6, 0xf7, INSN_MAP_ONE },
	{ 0xfe, 0xff, INSN_MAP_ONE },
	{ 0x0d, 0x0d, INSN_MAP_0F }, { 0x10, 0x11, INSN_MAP_0F },
	{ 0x18, 0x18, INSN_MAP_0F }, { 0x1f, 0x1f, INSN_MAP_0F },
	{ 0x28, 0x29, INSN_MAP_0F }, { 0x2b, 0x2b, INSN_MAP_0F },
	{ 0x40, 0x4f, INSN_MAP_0F }, { 0x6e, 0x6f, INSN_MAP_0F },
	{ 0x7e, 0x7f, INSN_MAP_0F }, { 0x90, 0x9f, INSN_MAP_0F },
	{ 0xa3, 0xa3, INSN_MAP_0F }, { 0xab, 0xab, INSN_MAP_0F },
	{ 0xae, 0xae, INSN_MAP_0F }, { 0xb0, 0xb1, INSN_MAP_0F },
	{ 0xb3, 0xb3, INSN_MAP_0F }, { 0xb6, 0xb7, INSN_MAP_0F },
	{ 0xba, 0xbb, INSN_MAP_0F }, { 0xbe, 0xc1, INSN_MAP_0F },
	{ 0xc3, 0xc3, INSN_MAP_0F }, { 0xc7, 0xc7, INSN_MAP_0F },
	{ 0xd6, 0xd6, INSN_MAP_0F }, { 0xe7, 0xe7, INSN_MAP_0F },
	{ 0xf0, 0xf0, INSN_MAP_0F },
	{ 0x2a, 0x2a, INSN_MAP_0F38 }, { 0xf0, 0xf1, INSN_MAP_0F38 },
};

static void make_bytes(struct trial *t)
{
	static const u8 prefixes[] = { 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf3,
				       0xf0, 0x65, 0x26 };
	unsigned int n = rnd_below(3), i = 0;
	unsigned int c = rnd_below(ARRAY_SIZE(candidates));

	gen_random(t->bytes);
	while (i < n)
		t->bytes[i++] = prefixes[rnd_below(sizeof(prefixes))];
	if (t->bits == 64 && rnd_below(2))
		t->bytes[i++] = 0x40 | rnd_below(16);
	if (candidates[c].map != INSN_MAP_ONE)
		t->bytes[i++] = 0x0f;
	if (candidates[c].map == INSN_MAP_0F38)
		t->bytes[i++] = 0x38;
	t->bytes[i++] = candidates[c].first +
		rnd_below(candidates[c].last - candidates[c].first + 1);
	/* Memory more often than a quarter of the registers would be. */
	if (rnd_below(2))
		t->bytes[i] &= 0x7f;
}

static u64 interesting(void)
{
	static const u64 values[] = {
		0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
		0x80000000, 0xffffffff, 0x7fffffffffffffff,
		0x8000000000000000, 0xffffffffffffffff,
	};

	return rnd_below(3) ? rnd() >> rnd_below(64) :
			      values[rnd_below(ARRAY_SIZE(values))];
}

static void describe_segment(struct insn_seg *seg, enum native_segment kind)
{
	seg->selector = native_selector(kind);
	seg->present = 1;
	seg->s = 1;
	seg->dpl = 3;
	seg->db = kind != NATIVE_CODE16 && kind != NATIVE_CODE64;
	seg->type = 3;
	seg->limit = 0xffffffff;
	seg->base = 0;
	switch (kind) {
	case NATIVE_CODE64:
		seg->l = 1;
		seg->type = 11;
		break;
	case NATIVE_CODE32:
		seg->type = 11;
		break;
	case NATIVE_CODE16:
		seg->type = 11;
		seg->base = CODE_BASE;
		seg->limit = 0xffff;
		break;
	case NATIVE_DATA_FLAT:
		break;
	default:
		seg->base = BUF_BASE;
		seg->limit = BUF_SIZE - 1;
		if (kind == NATIVE_DATA_RO)
			seg->type = 1;
		if (kind == NATIVE_DATA_DOWN) {
			seg->type = 7;
			seg->limit = 0xfff;
		}
		break;
	}
}

/* Without an LDT there is no 16-bit code, and data is flat. */
static bool has_ldt, has_code32;

static enum native_segment random_data(struct trial *t)
{
	if (!has_ldt)
		return NATIVE_DATA_FLAT;
	if (t->bits == 32 && rnd_below(2))
		return NATIVE_DATA_FLAT;
	if (rnd_below(4))
		return NATIVE_DATA_BUF;
	return rnd_below(2) ? NATIVE_DATA_RO : NATIVE_DATA_DOWN;
}

static void make_segments(struct trial *t)
{
	struct insn_cpu *cpu = &t->cpu;

	describe_segment(&cpu->seg[INSN_SS], NATIVE_DATA_FLAT);
	if (t->bits == 64) {
		cpu->mode = INSN_LONG64;
		describe_segment(&cpu->seg[INSN_CS], NATIVE_CODE64);
		describe_segment(&cpu->seg[INSN_DS], NATIVE_DATA_FLAT);
		describe_segment(&cpu->seg[INSN_ES],
				 has_ldt ? NATIVE_DATA_RO : NATIVE_DATA_FLAT);
		t->gs_base = rnd_below(2) ? 0 : rnd() & 0xffffff;
		cpu->seg[INSN_GS].base = t->gs_base;
	} else {
		cpu->mode = t->bits == 32 ? INSN_PROT32 : INSN_PROT16;
		describe_segment(&cpu->seg[INSN_CS], t->bits == 32 ?
				 NATIVE_CODE32 : NATIVE_CODE16);
		describe_segment(&cpu->seg[INSN_DS], random_data(t));
		describe_segment(&cpu->seg[INSN_ES], random_data(t));
		describe_segment(&cpu->seg[INSN_GS], random_data(t));
	}
	t->native.ds = cpu->seg[INSN_DS].selector;
	t->native.es = cpu->seg[INSN_ES].selector;
	t->native.gs = cpu->seg[INSN_GS].selector;
}

static u64 seg_base(const struct trial *t, unsigned int seg)
{
	if (t->bits == 64 && seg < INSN_FS)
		return 0;
	return t->cpu.seg[seg].base;
}

/* An address in the buffer, often at its ends and at the page boundary. */
static u64 target_address(const struct trial *t)
{
	static const u64 edges[] = { 0, 0x1000, 0x1000, BUF_SIZE };
	u64 offset = rnd_below(BUF_SIZE);

	/* Split locks are slow, and trapped on some machines. */
	if (t->insn.lock || (t->insn.opcode & 0xfe) == 0x86)
		return BUF_BASE + (offset & ~15ull);
	switch (rnd_below(8)) {
	case 0:
	case 1:
		return BUF_BASE + (offset & ~15ull);
	case 2:
		return BUF_BASE + edges[rnd_below(4)] + rnd_below(24) - 12;
	default:
		return BUF_BASE + offset;
	}
}

/* The displacement is followed only by immediates. */
static void patch_displacement(struct trial *t, u64 disp)
{
	struct insn *insn = &t->insn;
	unsigned int at = insn->len - insn->imm_size - insn->imm2_size -
			  insn->disp_size;

	memcpy(t->bytes + at, &disp, insn->disp_size);
}

/* Makes the memory operand point to @target, as far as it can. */
static void aim(struct trial *t, u64 target)
{
	struct insn *insn = &t->insn;
	u64 *regs = t->cpu.regs;
	u64 offset = target - seg_base(t, insn->seg);
	u64 rest = offset - insn->disp;

	if (insn->base == INSN_NO_REG && insn->index == INSN_NO_REG) {
		patch_displacement(t, offset);
	} else if (insn->base == INSN_RIP) {
		patch_displacement(t, offset - (CODE_BASE + insn->len));
	} else if (insn->base == INSN_NO_REG) {
		regs[insn->index] = rest / insn->scale;
	} else if (insn->base == insn->index) {
		regs[insn->base] = rest / (insn->scale + 1);
	} else {
		if (insn->index != INSN_NO_REG)
			rest -= regs[insn->index] * insn->scale;
		regs[insn->base] = rest;
	}
	/* Bits that the address size cuts off may be anything. */
	if (t->bits == 64 && insn->ad_size == 4 && insn->base < 16 &&
	    insn->base != INSN_RSP)
		regs[insn->base] ^= rnd() << 32;
}

static bool is_string(const struct insn *insn)
{
	return insn->map == INSN_MAP_ONE && insn->opcode >= 0xa4 &&
	       insn->opcode <= 0xaf && insn->opcode != 0xa8 &&
	       insn->opcode != 0xa9;
}

static bool is_bit_offset(const struct insn *insn)
{
	return insn->map == INSN_MAP_0F &&
	       (insn->opcode == 0xa3 || insn->opcode == 0xab ||
		insn->opcode == 0xb3 || insn->opcode == 0xbb);
}

static bool is_vector_move(const struct insn *insn)
{
	if (insn->map == INSN_MAP_0F38)
		return insn->opcode == 0x2a;
	if (insn->map != INSN_MAP_0F)
		return false;
	return (insn->opcode >= 0x10 && insn->opcode <= 0x2f) ||
	       (insn->opcode >= 0x6e && insn->opcode <= 0x7f) ||
	       insn->opcode >= 0xd0;
}

static void make_registers(struct trial *t)
{
	struct insn_cpu *cpu = &t->cpu;
	struct insn *insn = &t->insn;
	u64 target = target_address(t);
	unsigned int i;

	for (i = 0; i < 16; i++)
		cpu->regs[i] = interesting();
	cpu->regs[INSN_RSP] = BUF_BASE + (rnd_below(BUF_SIZE) & ~7ull);
	if (is_bit_offset(insn))
		cpu->regs[insn->reg] = rnd_below(0x4000) - 0x2000;
	if (is_string(insn)) {
		cpu->regs[INSN_RSI] = target_address(t) -
				      seg_base(t, insn->seg);
		cpu->regs[INSN_RDI] = target_address(t) -
				      seg_base(t, INSN_ES);
		cpu->regs[INSN_RCX] = rnd_below(40);
	} else if (insn->has_mem) {
		aim(t, target);
	}
	/* Make comparisons succeed sometimes. */
	if (rnd_below(2) && target >= BUF_BASE &&
	    target + 16 <= BUF_BASE + BUF_SIZE) {
		memcpy(&cpu->regs[INSN_RAX], shadow + target - BUF_BASE, 8);
		if (insn->op_size == 8)
			memcpy(&cpu->regs[INSN_RDX],
			       shadow + target - BUF_BASE + 8, 8);
		else
			cpu->regs[INSN_RDX] = cpu->regs[INSN_RAX] >> 32;
		if (t->insn.has_mem && rnd_below(2) &&
		    !is_bit_offset(insn))
			aim(t, target);
	}
}

/*
 * PREFETCH of a register: #UD or nothing. CMPXCHG that fails on a 32-bit
 * register: its upper half stays or is cleared. MOVSXD to 16 bits: reads two
 * bytes or four.
 */
static bool differs_between_cpus(const struct insn *insn)
{
	if (insn->map == INSN_MAP_ONE && insn->opcode == 0x63)
		return insn->op_size == 2;
	/* LOCK MOV CR0 is MOV CR8 on some. */
	if (insn->map == INSN_MAP_0F && insn->opcode >= 0x20 &&
	    insn->opcode <= 0x23)
		return true;
	return insn->map == INSN_MAP_0F && !insn->has_mem &&
	       (insn->opcode == 0x0d || insn->opcode == 0xb1);
}

/* Return: false when the bytes are of no use. */
static bool make_trial(struct trial *t)
{
	static const u64 free_flags = ARITH | X86_EFLAGS_DF;
	unsigned int i;

	memset(t, 0, sizeof(*t));
	t->bits = rnd_below(2) ? 64 : rnd_below(2) ? 32 : 16;
	if ((t->bits == 32 && !has_code32) || (t->bits == 16 && !has_ldt))
		t->bits = 64;
	make_bytes(t);
	make_segments(t);
	if (keel_insn_decode(&t->insn, t->cpu.mode, t->bytes, GEN_LEN) != INSN_OK)
		return false;
	/* TLS is not to be written to. */
	if (t->insn.seg == INSN_FS || differs_between_cpus(&t->insn))
		return false;

	make_registers(t);
	t->cpu.rip = t->bits == 16 ? 0 : CODE_BASE;
	t->cpu.rflags = 0x202 | (rnd() & free_flags);
	/* For vectors, processors differ in what they take for misaligned. */
	if (!rnd_below(16) && !is_vector_move(&t->insn))
		t->cpu.rflags |= X86_EFLAGS_AC;
	t->cpu.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_AM;
	t->cpu.cr4 = X86_CR4_OSFXSR;
	t->cpu.cpl = 3;
	for (i = 0; i < sizeof(t->xmm); i++)
		((u8 *)t->xmm)[i] = rnd();

	memcpy(t->native.regs, t->cpu.regs, sizeof(t->cpu.regs));
	memcpy(t->native.xmm, t->xmm, sizeof(t->xmm));
	t->native.rflags = t->cpu.rflags;
	return true;
}

static u64 undefined_shift_flags(const struct trial *t, unsigned int count)
{
	unsigned int bits = t->insn.op_size * 8;
	u8 op = t->insn.modrm >> 3 & 7;
	u64 undefined = 0;

	count &= bits == 64 ? 63 : 31;
	if (!count)
		return 0;
	if (op >= 4)
		undefined |= X86_EFLAGS_AF;
	if (count != 1)
		undefined |= X86_EFLAGS_OF;
	if (op >= 4 && op != 7 && count >= bits)
		undefined |= X86_EFLAGS_CF;
	return undefined;
}

static u64 undefined_flags(const struct trial *t, u64 rcx)
{
	const struct insn *insn = &t->insn;

	if (insn->map == INSN_MAP_0F &&
	    (is_bit_offset(insn) || insn->opcode == 0xba))
		return X86_EFLAGS_OF | X86_EFLAGS_SF | X86_EFLAGS_AF |
		       X86_EFLAGS_PF;
	if (insn->map != INSN_MAP_ONE)
		return 0;
	switch (insn->opcode) {
	case 0xc0:
	case 0xc1:
		return undefined_shift_flags(t, insn->imm);
	case 0xd2:
	case 0xd3:
		return undefined_shift_flags(t, rcx);
	case 0xd0:
	case 0xd1:
		return undefined_shift_flags(t, 1);
	default:
		return 0;
	}
}

static const char *compare_registers(const struct trial *t, u64 rcx)
{
	static const char * const names[] = {
		"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
		"R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
	};
	/* Outside 64-bit mode there are eight, of 32 bits. */
	u64 mask = t->bits == 64 ? ~0ull : 0xffffffff;
	u64 flags = (ARITH | X86_EFLAGS_DF) & ~undefined_flags(t, rcx);
	unsigned int i;

	for (i = 0; i < (t->bits == 64 ? 16 : 8); i++) {
		if ((t->cpu.regs[i] ^ t->native.regs[i]) & mask)
			return names[i];
	}
	if ((t->cpu.rflags ^ t->native.rflags) & flags)
		return "flags";
	if (memcmp(t->xmm, t->native.xmm, sizeof(t->xmm)) &&
	    !t->raised.faulted)
		return "XMM";
	return NULL;
}

/* MOVS, CMPS, PUSH and POP: which access comes first is the CPU's choice. */
static bool has_two_accesses(const struct insn *insn)
{
	return insn->map == INSN_MAP_ONE &&
	       ((insn->opcode >= 0xa4 && insn->opcode <= 0xa7) ||
		insn->opcode == 0xff || insn->opcode == 0x8f);
}

static bool must_be_aligned(const struct insn *insn)
{
	return is_vector_move(insn) ||
	       (insn->map == INSN_MAP_0F && insn->opcode == 0xc7);
}

static bool is_cache_flush(const struct insn *insn)
{
	return insn->map == INSN_MAP_0F && insn->opcode == 0xae;
}

static const char *compare_fault(const struct trial *t, int ret,
				 const struct insn_fault *fault)
{
	bool faulted = ret == INSN_FAULT;

	/* The emulator does not walk page tables for these. */
	if (is_cache_flush(&t->insn) && t->raised.faulted &&
	    t->raised.vector == PF_VECTOR)
		return NULL;
	if (t->raised.faulted != faulted)
		return "presence of a fault";
	if (ret != INSN_FAULT || has_two_accesses(&t->insn))
		return NULL;
	/* Misaligned and not canonical: #GP may win over #SS. */
	if (must_be_aligned(&t->insn) && t->raised.vector == GP_VECTOR &&
	    fault->vector == SS_VECTOR)
		return NULL;
	if (t->raised.vector != fault->vector)
		return "vector";
	if (fault->vector != PF_VECTOR)
		return NULL;
	if (t->raised.cr2 != fault->cr2)
		return "CR2";
	if ((t->raised.error ^ fault->error) & 2)
		return "direction of the #PF";
	return NULL;
}

static void complain(const struct trial *t, const char *what, int ret,
		     const struct insn_fault *fault, const u64 *regs)
{
	unsigned int i;

	printf("# %u bits: %s differs:", t->bits, what);
	for (i = 0; i < t->insn.len; i++)
		printf(" %02x", t->bytes[i]);
	printf("\n#   emulator: result %d vector %u error %x cr2 %llx, CPU: %s vector %u error %x cr2 %llx\n",
	       ret, fault->vector, fault->error,
	       (unsigned long long)fault->cr2,
	       t->raised.faulted ? "fault" : "done", t->raised.vector,
	       t->raised.error, (unsigned long long)t->raised.cr2);
	for (i = 0; i < 16; i++) {
		if (t->cpu.regs[i] == t->native.regs[i])
			continue;
		printf("#   r%-2u %016llx: emulator %016llx CPU %016llx\n", i,
		       (unsigned long long)regs[i],
		       (unsigned long long)t->cpu.regs[i],
		       (unsigned long long)t->native.regs[i]);
	}
	printf("#   flags: emulator %llx CPU %llx\n",
	       (unsigned long long)t->cpu.rflags,
	       (unsigned long long)t->native.rflags);
}

struct tally {
	u64 done, faulted, unknown, wild, wrong;
};

static void run_trial(struct trial *t, struct tally *tally)
{
	struct insn_fault fault = { 0 };
	u64 regs[16], rcx = t->cpu.regs[INSN_RCX];
	const char *what;
	struct insn insn;
	int ret;

	memcpy(regs, t->cpu.regs, sizeof(regs));
	memcpy(before, shadow, BUF_SIZE);
	ret = insn_fetch(&t->cpu, &ops, t, &insn, &fault) ?:
	      insn_execute(&t->cpu, &ops, t, &insn, &fault);
	if (ret == INSN_UNKNOWN || t->wild) {
		ret == INSN_UNKNOWN ? tally->unknown++ : tally->wild++;
		memcpy(shadow, before, BUF_SIZE);
		return;
	}
	native_run(t->bits, t->gs_base, t->bytes, insn.len ? insn.len : 15,
		   &t->native, &t->raised);

	what = compare_fault(t, ret, &fault);
	if (!what)
		what = compare_registers(t, rcx);
	if (!what && memcmp(shadow, (void *)BUF_BASE, BUF_SIZE))
		what = "memory";
	if (!what && ret == INSN_DONE &&
	    (!insn.retired || t->cpu.rip != (t->bits == 16 ? 0 : CODE_BASE) +
	     insn.len))
		what = "RIP";
	ret == INSN_FAULT ? tally->faulted++ : tally->done++;
	if (!what)
		return;
	if (tally->wrong++ < 5)
		complain(t, what, ret, &fault, regs);
	memcpy(shadow, (void *)BUF_BASE, BUF_SIZE);
}

int main(void)
{
	u64 count = env_u64("INSN_COUNT", 1000000), i;
	struct tally tally[3] = { 0 };
	struct trial t;
	unsigned int m;

	rnd_state = env_u64("INSN_SEED", 1);
	printf("# seed %llu, %llu byte strings\n",
	       (unsigned long long)rnd_state, (unsigned long long)count);
	for (i = 0; i < BUF_SIZE; i++)
		shadow[i] = rnd();
	if (!native_init(shadow)) {
		printf("1..0 # SKIP no LDT or no low memory here\n");
		return EXIT_SUCCESS;
	}
	has_ldt = native_has(NATIVE_DATA_BUF);
	has_code32 = native_has(NATIVE_CODE32);
	for (i = 0; i < count; i++) {
		if (make_trial(&t))
			run_trial(&t, &tally[t.bits == 64 ? 0 :
					     t.bits == 32 ? 1 : 2]);
	}
	for (m = 0; m < 3; m++) {
		if ((m == 1 && !has_code32) || (m == 2 && !has_ldt)) {
			tap_skip(m == 1 ? "32-bit code" : "16-bit code",
				 "the CPU here does not have the segments that Linux set");
			continue;
		}
		printf("# %u bits: %llu done, %llu faulted, %llu not emulated, %llu outside the buffer\n",
		       64 >> m, (unsigned long long)tally[m].done,
		       (unsigned long long)tally[m].faulted,
		       (unsigned long long)tally[m].unknown,
		       (unsigned long long)tally[m].wild);
		tap_ok(!tally[m].wrong && tally[m].done > count / 20,
		       "%u-bit code: emulator and CPU agree on %llu of %llu instructions",
		       64 >> m, (unsigned long long)(tally[m].done +
						     tally[m].faulted -
						     tally[m].wrong),
		       (unsigned long long)(tally[m].done + tally[m].faulted));
	}
	return tap_done();
}
