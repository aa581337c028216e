// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fetches, decodes and executes one instruction.
 *
 * An instruction goes through fixed steps, so that nothing is committed before
 * everything that can fail has succeeded: find the operands, read them,
 * compute, write memory, and only then write registers, flags and RIP.
 * Instructions that do not fit (strings, control registers, the stack, SSE)
 * are marked F_WHOLE in the table and keep the same order themselves.
 */
#include "emulate.h"

/* What e->op computes; all of these leave it in e->result. */

static int alu(struct emu *e, enum alu_op op)
{
	e->result = alu_compute(op, e->dst_val, e->src_val, e->dst.size,
				&e->rflags);
	return INSN_OK;
}

static int op_alu(struct emu *e)
{
	return alu(e, e->op->alu);
}

static int op_alu_reg(struct emu *e)
{
	return alu(e, e->op->alu + (e->insn->modrm >> 3 & 7));
}

static int op_alu_row(struct emu *e)
{
	return alu(e, ALU_ADD + (e->insn->opcode >> 3 & 7));
}

static int op_mov(struct emu *e)
{
	e->result = e->src_val;
	return INSN_OK;
}

static int op_movsx(struct emu *e)
{
	e->result = alu_sign_extend(e->src_val, e->src.size);
	return INSN_OK;
}

static int op_movbe(struct emu *e)
{
	u64 swapped = 0;
	unsigned int i;

	for (i = 0; i < e->dst.size; i++)
		swapped = swapped << 8 | (e->src_val >> 8 * i & 0xff);
	e->result = swapped;
	return INSN_OK;
}

static int op_setcc(struct emu *e)
{
	e->result = alu_condition(e->insn->opcode & 0xf, e->rflags);
	return INSN_OK;
}

/* The load happens, and clears the upper half, whatever the condition. */
static int op_cmovcc(struct emu *e)
{
	if (alu_condition(e->insn->opcode & 0xf, e->rflags))
		e->result = e->src_val;
	else
		e->result = e->dst_val;
	return INSN_OK;
}

static int op_xchg(struct emu *e)
{
	e->result = e->src_val;
	e->has_extra = true;
	e->extra = e->src;
	e->extra_val = e->dst_val;
	return INSN_OK;
}

static int op_xadd(struct emu *e)
{
	op_xchg(e);
	e->result = alu_compute(ALU_ADD, e->dst_val, e->src_val, e->dst.size,
				&e->rflags);
	return INSN_OK;
}

/* Memory is written in any case, a register only when equal. */
static int op_cmpxchg(struct emu *e)
{
	struct emu_operand acc;

	emu_gpr_operand(e, &acc, INSN_RAX, e->dst.size);
	alu_compute(ALU_CMP, emu_get_reg(e, &acc), e->dst_val, e->dst.size,
		    &e->rflags);
	if (e->rflags & X86_EFLAGS_ZF) {
		e->result = e->src_val;
		return INSN_OK;
	}
	if (!e->dst.is_mem)
		e->dst = acc;
	e->result = e->dst_val;
	e->has_extra = true;
	e->extra = acc;
	e->extra_val = e->dst_val;
	return INSN_OK;
}

/* CMPXCHG8B and CMPXCHG16B. */
static int op_cmpxchg_pair(struct emu *e)
{
	unsigned int half = e->insn->op_size == 8 ? 8 : 4;
	struct emu_operand reg[4];
	u8 old[16], new[16];
	u64 val[4], linear;
	unsigned int i;
	int ret;

	/* EAX, ECX, EDX, EBX in hardware order */
	for (i = 0; i < 4; i++) {
		emu_gpr_operand(e, &reg[i], i, half);
		val[i] = emu_get_reg(e, &reg[i]);
	}
	ret = emu_mem_operand(e, half * 2, true, &linear);
	if (ret == INSN_OK && half == 8 && (linear & 15))
		ret = emu_raise_code(e, GP_VECTOR, 0);
	if (ret == INSN_OK)
		ret = emu_probe_write(e, linear, half * 2);
	if (ret == INSN_OK)
		ret = emu_read(e, linear, old, half * 2);
	if (ret != INSN_OK)
		return ret;

	memcpy(new, old, sizeof(old));
	if (!memcmp(old, &val[INSN_RAX], half) &&
	    !memcmp(old + half, &val[INSN_RDX], half)) {
		memcpy(new, &val[INSN_RBX], half);
		memcpy(new + half, &val[INSN_RCX], half);
		e->rflags |= X86_EFLAGS_ZF;
	} else {
		e->rflags &= ~(u64)X86_EFLAGS_ZF;
	}

	if (e->insn->lock)
		ret = emu_cmpxchg(e, linear, old, new, half * 2);
	else
		ret = emu_write(e, linear, new, half * 2);
	if (ret != INSN_OK || e->unfinished || (e->rflags & X86_EFLAGS_ZF))
		return ret;
	memcpy(&val[INSN_RAX], old, half);
	memcpy(&val[INSN_RDX], old + half, half);
	emu_set_reg(e, &reg[INSN_RAX], val[INSN_RAX]);
	emu_set_reg(e, &reg[INSN_RDX], val[INSN_RDX]);
	return INSN_OK;
}

static unsigned int stack_addr_size(const struct insn_cpu *cpu)
{
	if (cpu->mode == INSN_LONG64)
		return 8;
	return cpu->seg[INSN_SS].db ? 4 : 2;
}

/* 32-bit pushes and pops do not exist in 64-bit mode. */
static unsigned int stack_op_size(const struct emu *e)
{
	if (e->cpu->mode == INSN_LONG64)
		return e->insn->opsize_prefix && !(e->insn->rex & 8) ? 2 : 8;
	return e->insn->op_size;
}

static int op_push(struct emu *e)
{
	unsigned int size = stack_op_size(e);
	struct emu_operand sp;
	u64 from, to, top, val = 0;
	int ret;

	if (!e->insn->has_mem)
		return INSN_UNKNOWN;
	emu_gpr_operand(e, &sp, INSN_RSP, stack_addr_size(e->cpu));
	top = (emu_get_reg(e, &sp) - size) & alu_mask(sp.size);
	ret = emu_mem_operand(e, size, false, &from);
	if (ret == INSN_OK)
		ret = emu_linear(e, INSN_SS, top, size, true, &to);
	if (ret == INSN_OK)
		ret = emu_probe_write(e, to, size);
	if (ret == INSN_OK)
		ret = emu_read(e, from, &val, size);
	if (ret == INSN_OK)
		ret = emu_write(e, to, &val, size);
	if (ret == INSN_OK)
		emu_set_reg(e, &sp, top);
	return ret;
}

static int op_pop(struct emu *e)
{
	unsigned int size = stack_op_size(e);
	struct emu_operand sp;
	u64 from, to, top, val = 0;
	int ret;

	if (!e->insn->has_mem)
		return INSN_UNKNOWN;
	emu_gpr_operand(e, &sp, INSN_RSP, stack_addr_size(e->cpu));
	top = emu_get_reg(e, &sp);
	ret = emu_linear(e, INSN_SS, top, size, false, &from);
	/* An address relative to RSP is that after the pop (SDM, POP). */
	e->rsp_bias = size;
	if (ret == INSN_OK)
		ret = emu_mem_operand(e, size, true, &to);
	if (ret == INSN_OK)
		ret = emu_probe_write(e, to, size);
	if (ret == INSN_OK)
		ret = emu_read(e, from, &val, size);
	if (ret == INSN_OK)
		ret = emu_write(e, to, &val, size);
	if (ret == INSN_OK)
		emu_set_reg(e, &sp, top + size);
	return ret;
}

/* PREFETCH and the reserved NOPs do not even look at their operand. */
static int op_nop(struct emu *e)
{
	(void)e;
	return INSN_OK;
}

/* Tables. The destination comes first, as in Intel's syntax. */

/* Group 1 and 2: op_alu_reg() adds ModRM.reg to the operation. */
static const struct emu_op group1[8] = {
	[0 ... 6] = { op_alu_reg, NULL, P_RM, P_IMM, ALU_ADD, F_RMW | F_LOCK },
	[7] = { op_alu, NULL, P_RM, P_IMM, ALU_CMP, F_READ },
};

static const struct emu_op group1a[8] = {
	[0] = { op_pop, NULL, P_NONE, P_NONE, 0, F_WHOLE },
};

static const struct emu_op group3[8] = {
	[0] = { op_alu, NULL, P_RM, P_IMM, ALU_TEST, F_READ },
	[1] = { op_alu, NULL, P_RM, P_IMM, ALU_TEST, F_READ },
	[2] = { op_alu, NULL, P_RM, P_NONE, ALU_NOT, F_RMW | F_LOCK },
	[3] = { op_alu, NULL, P_RM, P_NONE, ALU_NEG, F_RMW | F_LOCK },
};

static const struct emu_op group4[8] = {
	[0] = { op_alu, NULL, P_RM, P_NONE, ALU_INC, F_RMW | F_LOCK },
	[1] = { op_alu, NULL, P_RM, P_NONE, ALU_DEC, F_RMW | F_LOCK },
};

static const struct emu_op group5[8] = {
	[0] = { op_alu, NULL, P_RM, P_NONE, ALU_INC, F_RMW | F_LOCK },
	[1] = { op_alu, NULL, P_RM, P_NONE, ALU_DEC, F_RMW | F_LOCK },
	[6] = { op_push, NULL, P_NONE, P_NONE, 0, F_WHOLE },
};

static const struct emu_op group7[8] = {
	[4] = { emu_smsw, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[6] = { emu_lmsw, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[7] = { emu_invlpg, NULL, P_NONE, P_NONE, 0, F_WHOLE },
};

static const struct emu_op group8[8] = {
	[4] = { op_alu, NULL, P_RM, P_IMM, ALU_BT, F_READ },
	[5] = { op_alu, NULL, P_RM, P_IMM, ALU_BTS, F_RMW | F_LOCK },
	[6] = { op_alu, NULL, P_RM, P_IMM, ALU_BTR, F_RMW | F_LOCK },
	[7] = { op_alu, NULL, P_RM, P_IMM, ALU_BTC, F_RMW | F_LOCK },
};

static const struct emu_op group9[8] = {
	[1] = { op_cmpxchg_pair, NULL, P_NONE, P_NONE, 0,
		F_WHOLE | F_MEM | F_LOCK | F_NOREP },
};

static const struct emu_op group11[8] = {
	[0] = { op_mov, NULL, P_RM, P_IMM, 0, F_WRITE },
};

/* The ALU operation is in bits 3 to 5 of the opcode. */
#define ALU_TO_RM	{ op_alu_row, NULL, P_RM, P_REG, 0, F_RMW | F_LOCK }
#define ALU_TO_REG	{ op_alu_row, NULL, P_REG, P_RM, 0, F_RMW }
#define SHIFT(src_)	\
	{ op_alu_reg, NULL, P_RM, src_, ALU_ROL, F_RMW | F_SRC8 }

#define GROUP(table_)	{ NULL, table_, P_NONE, P_NONE, 0, 0 }
#define STRING		{ emu_string, NULL, P_NONE, P_NONE, 0, F_WHOLE }
#define PORT		{ emu_port, NULL, P_NONE, P_NONE, 0, F_WHOLE }

static const struct emu_op one_byte[256] = {
	[0x00 ... 0x01] = ALU_TO_RM,	[0x02 ... 0x03] = ALU_TO_REG,
	[0x08 ... 0x09] = ALU_TO_RM,	[0x0a ... 0x0b] = ALU_TO_REG,
	[0x10 ... 0x11] = ALU_TO_RM,	[0x12 ... 0x13] = ALU_TO_REG,
	[0x18 ... 0x19] = ALU_TO_RM,	[0x1a ... 0x1b] = ALU_TO_REG,
	[0x20 ... 0x21] = ALU_TO_RM,	[0x22 ... 0x23] = ALU_TO_REG,
	[0x28 ... 0x29] = ALU_TO_RM,	[0x2a ... 0x2b] = ALU_TO_REG,
	[0x30 ... 0x31] = ALU_TO_RM,	[0x32 ... 0x33] = ALU_TO_REG,
	[0x38 ... 0x39] = { op_alu, NULL, P_RM, P_REG, ALU_CMP, F_READ },
	[0x3a ... 0x3b] = { op_alu, NULL, P_REG, P_RM, ALU_CMP, F_READ },
	[0x63] = { op_movsx, NULL, P_REG, P_RM, 0, F_WRITE | F_SRC32 | F_LONG },
	[0x6c ... 0x6f] = STRING,
	[0x80 ... 0x83] = GROUP(group1),
	[0x84 ... 0x85] = { op_alu, NULL, P_RM, P_REG, ALU_TEST, F_READ },
	[0x86 ... 0x87] = { op_xchg, NULL, P_RM, P_REG, 0,
			    F_RMW | F_LOCK | F_ALWAYS_LOCK },
	[0x88 ... 0x89] = { op_mov, NULL, P_RM, P_REG, 0, F_WRITE },
	[0x8a ... 0x8b] = { op_mov, NULL, P_REG, P_RM, 0, F_WRITE },
	[0x8c] = { op_mov, NULL, P_RM, P_SREG, 0, F_WRITE | F_DST16 },
	[0x8f] = GROUP(group1a),
	[0xa0 ... 0xa1] = { op_mov, NULL, P_ACC, P_MOFFS, 0, F_WRITE },
	[0xa2 ... 0xa3] = { op_mov, NULL, P_MOFFS, P_ACC, 0, F_WRITE },
	[0xa4 ... 0xa7] = STRING,
	[0xaa ... 0xaf] = STRING,
	[0xc0 ... 0xc1] = SHIFT(P_IMM),
	[0xc6 ... 0xc7] = GROUP(group11),
	[0xd0 ... 0xd1] = SHIFT(P_ONE),
	[0xd2 ... 0xd3] = SHIFT(P_CL),
	[0xe4 ... 0xe7] = PORT,
	[0xec ... 0xef] = PORT,
	[0xf6 ... 0xf7] = GROUP(group3),
	[0xfe] = GROUP(group4),
	[0xff] = GROUP(group5),
};

#define BIT_OP(alu_, flags_)	\
	{ op_alu, NULL, P_RM, P_REG, alu_, (flags_) | F_BITOFF }
#define SSE_MOVE	{ emu_sse_move, NULL, P_NONE, P_NONE, 0, F_WHOLE }
#define NOP		{ op_nop, NULL, P_NONE, P_NONE, 0, F_WHOLE }

static const struct emu_op two_byte[256] = {
	[0x01] = GROUP(group7),
	[0x06] = { emu_clts, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[0x0d] = NOP,
	[0x10 ... 0x11] = SSE_MOVE,
	[0x18] = NOP,
	[0x1f] = NOP,
	[0x20] = { emu_mov_cr, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[0x21] = { emu_mov_dr, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[0x22] = { emu_mov_cr, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[0x23] = { emu_mov_dr, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[0x28 ... 0x29] = SSE_MOVE,
	[0x2b] = SSE_MOVE,
	[0x40 ... 0x4f] = { op_cmovcc, NULL, P_REG, P_RM, 0, F_RMW },
	[0x6e ... 0x6f] = SSE_MOVE,
	[0x7e ... 0x7f] = SSE_MOVE,
	[0x90 ... 0x9f] = { op_setcc, NULL, P_RM, P_NONE, 0, F_WRITE },
	[0xa3] = BIT_OP(ALU_BT, F_READ),
	[0xab] = BIT_OP(ALU_BTS, F_RMW | F_LOCK),
	[0xae] = { emu_group15, NULL, P_NONE, P_NONE, 0, F_WHOLE },
	[0xb0 ... 0xb1] = { op_cmpxchg, NULL, P_RM, P_REG, 0, F_RMW | F_LOCK },
	[0xb3] = BIT_OP(ALU_BTR, F_RMW | F_LOCK),
	[0xb6] = { op_mov, NULL, P_REG, P_RM, 0, F_WRITE | F_SRC8 },
	[0xb7] = { op_mov, NULL, P_REG, P_RM, 0, F_WRITE | F_SRC16 },
	[0xba] = GROUP(group8),
	[0xbb] = BIT_OP(ALU_BTC, F_RMW | F_LOCK),
	[0xbe] = { op_movsx, NULL, P_REG, P_RM, 0, F_WRITE | F_SRC8 },
	[0xbf] = { op_movsx, NULL, P_REG, P_RM, 0, F_WRITE | F_SRC16 },
	[0xc0 ... 0xc1] = { op_xadd, NULL, P_RM, P_REG, 0, F_RMW | F_LOCK },
	[0xc3] = { op_mov, NULL, P_RM, P_REG, 0,	/* MOVNTI */
		   F_WRITE | F_MEM | F_NOREP | F_NO66 | F_MIN32 },
	[0xc7] = GROUP(group9),
	[0xd6] = SSE_MOVE,
	[0xe7] = SSE_MOVE,
	[0xf0] = SSE_MOVE,
};

static const struct emu_op map_0f38[256] = {
	[0x2a] = SSE_MOVE,
	[0xf0] = { op_movbe, NULL, P_REG, P_RM, 0, F_WRITE | F_MEM | F_NOREP },
	[0xf1] = { op_movbe, NULL, P_RM, P_REG, 0, F_WRITE | F_MEM | F_NOREP },
};

/* Return: NULL for what is not emulated. */
static const struct emu_op *find_op(const struct insn_cpu *cpu,
				    const struct insn *insn)
{
	const struct emu_op *op;

	if (insn->encoding != INSN_LEGACY)
		return NULL;
	if (insn->map == INSN_MAP_ONE)
		op = &one_byte[insn->opcode];
	else if (insn->map == INSN_MAP_0F)
		op = &two_byte[insn->opcode];
	else if (insn->map == INSN_MAP_0F38)
		op = &map_0f38[insn->opcode];
	else
		return NULL;

	if (op->group)
		op = &op->group[insn->modrm >> 3 & 7];
	if (!op->fn)
		return NULL;
	if ((op->flags & F_LONG) && cpu->mode != INSN_LONG64)
		return NULL;
	if ((op->flags & F_NOREP) && insn->rep)
		return NULL;
	if ((op->flags & F_NO66) && insn->opsize_prefix)
		return NULL;
	return op;
}

/* LOCK needs an instruction that allows it and memory to write to. */
static bool is_undefined(const struct insn *insn, const struct emu_op *op)
{
	if (insn->lock && (!(op->flags & F_LOCK) || !insn->has_mem))
		return true;
	return (op->flags & F_MEM) && !insn->has_mem;
}

static unsigned int operand_size(const struct emu *e)
{
	unsigned int size = e->insn->op_size;

	if ((e->op->flags & F_MIN32) && size < 4)
		return 4;
	return size;
}

static unsigned int source_size(const struct emu *e)
{
	unsigned int size = operand_size(e);

	if (e->op->flags & F_SRC8)
		return 1;
	if (e->op->flags & F_SRC16)
		return 2;
	if ((e->op->flags & F_SRC32) && size > 4)
		return 4;
	return size;
}

/* BT and the like reach memory on both sides of their operand (SDM, BT). */
static u64 bit_offset_bytes(const struct emu *e)
{
	unsigned int size = e->insn->op_size;
	unsigned int log2_bits = size == 8 ? 6 : size == 4 ? 5 : 4;

	return (alu_sign_extend(e->src_val, size) >> log2_bits) * size;
}

static int locate_mem(struct emu *e, struct emu_operand *o, bool write)
{
	u64 offset = emu_effective_address(e->cpu, e->insn, e->rsp_bias);

	o->is_mem = true;
	if (e->op->flags & F_BITOFF)
		offset = (offset + bit_offset_bytes(e)) &
			 alu_mask(e->insn->ad_size);
	return emu_linear(e, e->insn->seg, offset, o->size, write, &o->linear);
}

static int locate(struct emu *e, u8 place, struct emu_operand *o,
		  unsigned int size, bool write)
{
	o->size = size;
	switch (place) {
	case P_RM:
		if (e->insn->has_mem)
			return locate_mem(e, o, write);
		emu_gpr_operand(e, o, e->insn->rm, size);
		break;
	case P_REG:
		emu_gpr_operand(e, o, e->insn->reg, size);
		break;
	case P_ACC:
		emu_gpr_operand(e, o, INSN_RAX, size);
		break;
	case P_CL:
		emu_gpr_operand(e, o, INSN_RCX, size);
		break;
	case P_MOFFS:
		return locate_mem(e, o, write);
	default:
		break;
	}
	return INSN_OK;
}

static int load_source(struct emu *e)
{
	int ret;

	switch (e->op->src) {
	case P_NONE:
		return INSN_OK;
	case P_IMM:
		e->src_val = e->insn->imm;
		return INSN_OK;
	case P_ONE:
		e->src_val = 1;
		return INSN_OK;
	case P_SREG:
		if ((e->insn->modrm >> 3 & 7) >= INSN_NR_SEGS)
			return emu_raise(e, UD_VECTOR);
		e->src_val = e->cpu->seg[e->insn->modrm >> 3 & 7].selector;
		return INSN_OK;
	default:
		break;
	}
	ret = locate(e, e->op->src, &e->src, source_size(e), false);
	if (ret != INSN_OK)
		return ret;
	if (e->src.is_mem)
		return emu_read(e, e->src.linear, &e->src_val, e->src.size);
	e->src_val = emu_get_reg(e, &e->src);
	return INSN_OK;
}

static int load_destination(struct emu *e)
{
	unsigned int size = operand_size(e);
	bool write = e->op->flags & F_WRITE;
	int ret;

	if ((e->op->flags & F_DST16) && e->insn->has_mem)
		size = 2;
	ret = locate(e, e->op->dst, &e->dst, size, write);
	if (ret != INSN_OK || !(e->op->flags & F_READ))
		return ret;
	if (!e->dst.is_mem) {
		e->dst_val = emu_get_reg(e, &e->dst);
		return INSN_OK;
	}
	if (write)
		ret = emu_probe_write(e, e->dst.linear, size);
	if (ret == INSN_OK)
		ret = emu_read(e, e->dst.linear, &e->dst_val, size);
	return ret;
}

static int store_destination(struct emu *e)
{
	bool locked = e->insn->lock || (e->op->flags & F_ALWAYS_LOCK);

	if (!(e->op->flags & F_WRITE))
		return INSN_OK;
	if (!e->dst.is_mem)
		return INSN_OK;
	if (locked)
		return emu_cmpxchg(e, e->dst.linear, &e->dst_val, &e->result,
				   e->dst.size);
	return emu_write(e, e->dst.linear, &e->result, e->dst.size);
}

/* Nothing fails from here on. */
static void store_registers(struct emu *e)
{
	if (e->has_extra)
		emu_set_reg(e, &e->extra, e->extra_val);
	if ((e->op->flags & F_WRITE) && !e->dst.is_mem)
		emu_set_reg(e, &e->dst, e->result);
}

static int execute(struct emu *e)
{
	int ret;

	if (e->op->flags & F_WHOLE)
		return e->op->fn(e);

	ret = load_source(e);
	if (ret == INSN_OK)
		ret = load_destination(e);
	if (ret == INSN_OK)
		ret = e->op->fn(e);
	if (ret == INSN_OK)
		ret = store_destination(e);
	if (ret == INSN_OK && !e->unfinished)
		store_registers(e);
	return ret;
}

static void retire(struct emu *e)
{
	struct insn_cpu *cpu = e->cpu;

	e->insn->retired = true;
	e->insn->trap = cpu->rflags & X86_EFLAGS_TF;
	cpu->rflags = e->rflags & ~(u64)X86_EFLAGS_RF;
	cpu->rip = insn_skip(cpu, e->insn->len);
}

u64 insn_skip(const struct insn_cpu *cpu, unsigned int len)
{
	u64 rip = cpu->rip + len;

	if (cpu->mode == INSN_LONG64)
		return rip;
	return cpu->seg[INSN_CS].db ? (u32)rip : (u16)rip;
}

bool insn_uses_segments(const struct insn_cpu *cpu, const struct insn *insn)
{
	if (cpu->mode != INSN_LONG64)
		return true;
	return insn->seg_override == INSN_FS || insn->seg_override == INSN_GS ||
	       (insn->map == INSN_MAP_ONE && insn->opcode == 0x8c);
}

bool insn_has_one_access(const struct insn *insn)
{
	/* PUSH, CALL and POP have the stack besides; strings have no ModRM */
	return insn->has_mem &&
	       !(insn->map == INSN_MAP_ONE && (insn->opcode == 0xff || insn->opcode == 0x8f));
}

bool insn_is_plain_mov(const struct insn_cpu *cpu, const struct insn *insn,
		       struct insn_mov *mov)
{
	if (cpu->mode != INSN_LONG64 || insn->encoding != INSN_LEGACY ||
	    insn->map != INSN_MAP_ONE || !insn->has_mem || insn->seg >= INSN_FS ||
	    insn->rep || insn->lock)
		return false;
	switch (insn->opcode) {
	case 0x88 ... 0x8b:
		break;
	case 0xc6 ... 0xc7:
		if (insn->reg & 7)
			return false;
		break;
	default:
		return false;
	}
	mov->immediate = insn->opcode >= 0xc6;
	mov->store = mov->immediate || insn->opcode <= 0x89;
	mov->linear = emu_effective_address(cpu, insn, 0);
	mov->reg = insn->reg;
	mov->size = insn->opcode & 1 ? insn->op_size : 1;
	return mov->size > 1 || mov->immediate || insn->rex || insn->reg < INSN_RSP;
}

int insn_execute(struct insn_cpu *cpu, const struct insn_ops *ops,
		 void *opaque, struct insn *insn, struct insn_fault *fault)
{
	struct emu e = {
		.cpu = cpu,
		.ops = ops,
		.opaque = opaque,
		.insn = insn,
		.fault = fault,
		.rflags = cpu->rflags,
	};
	int ret;

	insn->retired = false;
	insn->trap = false;
	e.op = find_op(cpu, insn);
	if (!e.op)
		return INSN_UNKNOWN;
	if (is_undefined(insn, e.op))
		return emu_raise(&e, UD_VECTOR);

	ret = execute(&e);
	if (ret != INSN_OK)
		return ret;
	if (!e.unfinished)
		retire(&e);
	if (ops->commit)
		ops->commit(opaque);
	return INSN_DONE;
}
