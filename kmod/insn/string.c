// SPDX-License-Identifier: GPL-2.0-only
/*
 * String instructions and port I/O.
 *
 * Every iteration of a REP is complete in itself: registers are updated, and
 * whatever stops the next one (a fault, an exit to userspace, the bound) finds
 * the state from which the instruction can be started again.
 */
#include "emulate.h"

/* One string instruction in progress. */
struct string {
	struct emu *e;
	unsigned int size;
	s64 step;
	bool rep;
	struct emu_operand counter, rsi, rdi, acc;
};

static void advance(struct string *s, struct emu_operand *reg)
{
	emu_set_reg(s->e, reg, emu_get_reg(s->e, reg) + s->step);
}

/* [rSI], in DS unless overridden. */
static int source_linear(struct string *s, u64 *linear)
{
	return emu_linear(s->e, s->e->insn->seg, emu_get_reg(s->e, &s->rsi),
			  s->size, false, linear);
}

/* [rDI], always in ES. */
static int dest_linear(struct string *s, bool write, u64 *linear)
{
	return emu_linear(s->e, INSN_ES, emu_get_reg(s->e, &s->rdi), s->size,
			  write, linear);
}

static int load_source(struct string *s, u64 *val)
{
	u64 linear;
	int ret;

	*val = 0;
	ret = source_linear(s, &linear);
	if (ret == INSN_OK)
		ret = emu_read(s->e, linear, val, s->size);
	return ret;
}

static int movs(struct string *s)
{
	u64 to, val;
	int ret;

	ret = dest_linear(s, true, &to);
	if (ret == INSN_OK)
		ret = emu_probe_write(s->e, to, s->size);
	if (ret == INSN_OK)
		ret = load_source(s, &val);
	if (ret == INSN_OK)
		ret = emu_write(s->e, to, &val, s->size);
	if (ret == INSN_OK) {
		advance(s, &s->rsi);
		advance(s, &s->rdi);
	}
	return ret;
}

static int stos(struct string *s)
{
	u64 val = emu_get_reg(s->e, &s->acc);
	u64 to;
	int ret;

	ret = dest_linear(s, true, &to);
	if (ret == INSN_OK)
		ret = emu_write(s->e, to, &val, s->size);
	if (ret == INSN_OK)
		advance(s, &s->rdi);
	return ret;
}

static int lods(struct string *s)
{
	u64 val;
	int ret;

	ret = load_source(s, &val);
	if (ret == INSN_OK) {
		emu_set_reg(s->e, &s->acc, val);
		advance(s, &s->rsi);
	}
	return ret;
}

/* CMPS compares [rSI] with [rDI], SCAS the accumulator. */
static int compare(struct string *s, bool cmps)
{
	u64 from, left, right = 0;
	int ret = INSN_OK;

	left = emu_get_reg(s->e, &s->acc);
	if (cmps)
		ret = load_source(s, &left);
	if (ret == INSN_OK)
		ret = dest_linear(s, false, &from);
	if (ret == INSN_OK)
		ret = emu_read(s->e, from, &right, s->size);
	if (ret != INSN_OK)
		return ret;

	alu_compute(ALU_CMP, left, right, s->size, &s->e->rflags);
	if (cmps)
		advance(s, &s->rsi);
	advance(s, &s->rdi);
	return INSN_OK;
}

/* How often this INS will read its port for the page that @to is in. */
static unsigned int reads_ahead(struct string *s, u64 to)
{
	u64 left = emu_get_reg(s->e, &s->counter);
	unsigned int n = (INSN_PAGE_SIZE - (to & (INSN_PAGE_SIZE - 1))) / s->size;

	if (!s->e->insn->rep || s->step < 0 || s->e->cpu->rflags & X86_EFLAGS_TF || !n)
		return 1;
	if (n > EMU_REP_MAX)
		n = EMU_REP_MAX;
	return n < left ? n : left;
}

/* The destination is checked first: reading a port cannot be taken back. */
static int ins(struct string *s)
{
	u16 port = s->e->cpu->regs[INSN_RDX];
	u32 val = 0;
	u64 to;
	int ret;

	ret = dest_linear(s, true, &to);
	if (ret == INSN_OK)
		ret = emu_probe_write(s->e, to, s->size);
	if (ret == INSN_OK)
		ret = s->e->ops->io_in(s->e->opaque, port, s->size,
				       reads_ahead(s, to), &val, s->e->fault);
	if (ret == INSN_OK)
		ret = emu_write(s->e, to, &val, s->size);
	if (ret == INSN_OK)
		advance(s, &s->rdi);
	return ret;
}

static int outs(struct string *s)
{
	u16 port = s->e->cpu->regs[INSN_RDX];
	u64 val;
	int ret;

	ret = load_source(s, &val);
	if (ret == INSN_OK)
		ret = s->e->ops->io_out(s->e->opaque, port, s->size, val,
					s->e->fault);
	if (ret == INSN_OK)
		advance(s, &s->rsi);
	return ret;
}

static int iterate(struct string *s)
{
	switch (s->e->insn->opcode & 0xfe) {
	case 0x6c:
		return ins(s);
	case 0x6e:
		return outs(s);
	case 0xa4:
		return movs(s);
	case 0xa6:
		return compare(s, true);
	case 0xaa:
		return stos(s);
	case 0xac:
		return lods(s);
	case 0xae:
		return compare(s, false);
	default:
		return INSN_UNKNOWN;
	}
}

/* REPE and REPNE of CMPS and SCAS also end on the result. */
static bool is_last(const struct string *s)
{
	const struct insn *insn = s->e->insn;
	bool equal = s->e->rflags & X86_EFLAGS_ZF;
	u8 opcode = insn->opcode & 0xfe;

	if (!emu_get_reg(s->e, &s->counter))
		return true;
	if (opcode != 0xa6 && opcode != 0xae)
		return false;
	return equal != (insn->rep == 0xf3);
}

static int repeat(struct string *s)
{
	struct emu *e = s->e;
	/* A single step ends after an iteration (SDM volume 3, 17.3.1.4). */
	bool single_step = e->cpu->rflags & X86_EFLAGS_TF;
	unsigned int i;
	int ret;

	if (!emu_get_reg(e, &s->counter))
		return INSN_OK;
	for (i = 0; i < EMU_REP_MAX; i++) {
		ret = iterate(s);
		if (ret != INSN_OK)
			return ret;
		emu_set_reg(e, &s->counter, emu_get_reg(e, &s->counter) - 1);
		e->cpu->rflags = e->rflags;
		if (is_last(s))
			return INSN_OK;
		if (e->ops->commit)
			e->ops->commit(e->opaque);
		if (single_step)
			break;
	}
	e->unfinished = true;
	e->insn->trap = single_step;
	return INSN_OK;
}

static bool has_ports(const struct emu *e)
{
	return e->ops->io_in && e->ops->io_out;
}

int emu_string(struct emu *e)
{
	struct string s = {
		.e = e,
		.size = e->insn->op_size,
	};
	unsigned int ad_size = e->insn->ad_size;
	bool port = e->insn->opcode < 0x70;

	if (port && !has_ports(e))
		return INSN_UNKNOWN;

	/* There are no 64-bit ports. */
	if (port && s.size == 8)
		s.size = 4;
	s.step = e->cpu->rflags & X86_EFLAGS_DF ? -(s64)s.size : s.size;
	emu_gpr_operand(e, &s.counter, INSN_RCX, ad_size);
	emu_gpr_operand(e, &s.rsi, INSN_RSI, ad_size);
	emu_gpr_operand(e, &s.rdi, INSN_RDI, ad_size);
	emu_gpr_operand(e, &s.acc, INSN_RAX, s.size);
	return e->insn->rep ? repeat(&s) : iterate(&s);
}

/* IN and OUT: E4 to E7 with an immediate port, EC to EF with DX. */
int emu_port(struct emu *e)
{
	struct emu_operand acc;
	u8 opcode = e->insn->opcode;
	u16 port = opcode & 8 ? e->cpu->regs[INSN_RDX] : (u8)e->insn->imm;
	unsigned int size = e->insn->op_size;
	u32 val = 0;
	int ret;

	if (!has_ports(e))
		return INSN_UNKNOWN;
	if (size == 8)
		size = 4;
	emu_gpr_operand(e, &acc, INSN_RAX, size);
	if (opcode & 2)
		return e->ops->io_out(e->opaque, port, size,
				      emu_get_reg(e, &acc), e->fault);
	ret = e->ops->io_in(e->opaque, port, size, 1, &val, e->fault);
	if (ret == INSN_OK)
		emu_set_reg(e, &acc, val);
	return ret;
}
