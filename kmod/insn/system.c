// SPDX-License-Identifier: GPL-2.0-only
/*
 * Control and debug registers, INVLPG, cache control and fences.
 */
#include "emulate.h"

/* Return: INSN_OK in real mode and at CPL 0. */
static int check_privilege(struct emu *e)
{
	if (e->cpu->mode == INSN_REAL || (!e->cpu->cpl &&
					  e->cpu->mode != INSN_VM86))
		return INSN_OK;
	return emu_raise_code(e, GP_VECTOR, 0);
}

/* MOV to and from CRn and DRn: 64 or 32 bits, whatever 66 says. */
static void register_operand(const struct emu *e, struct emu_operand *o)
{
	emu_gpr_operand(e, o, e->insn->rm,
			e->cpu->mode == INSN_LONG64 ? 8 : 4);
}

int emu_mov_cr(struct emu *e)
{
	bool write = e->insn->opcode & 2;
	unsigned int nr = e->insn->reg;
	struct emu_operand gpr;
	u64 val = 0;
	int ret;

	if (!(write ? (void *)e->ops->write_cr : (void *)e->ops->read_cr))
		return INSN_UNKNOWN;
	if (nr != 0 && nr != 2 && nr != 3 && nr != 4 && nr != 8)
		return emu_raise(e, UD_VECTOR);
	ret = check_privilege(e);
	if (ret != INSN_OK)
		return ret;

	register_operand(e, &gpr);
	if (write)
		return e->ops->write_cr(e->opaque, nr, emu_get_reg(e, &gpr),
					e->fault);
	ret = e->ops->read_cr(e->opaque, nr, &val, e->fault);
	if (ret == INSN_OK)
		emu_set_reg(e, &gpr, val);
	return ret;
}

int emu_mov_dr(struct emu *e)
{
	bool write = e->insn->opcode & 2;
	unsigned int nr = e->insn->reg;
	struct emu_operand gpr;
	u64 val = 0;
	int ret;

	if (!(write ? (void *)e->ops->write_dr : (void *)e->ops->read_dr))
		return INSN_UNKNOWN;
	if (nr > 7)
		return emu_raise(e, UD_VECTOR);
	if (nr == 4 || nr == 5) {
		if (e->cpu->cr4 & X86_CR4_DE)
			return emu_raise(e, UD_VECTOR);
		nr += 2;
	}
	ret = check_privilege(e);
	if (ret != INSN_OK)
		return ret;

	register_operand(e, &gpr);
	if (write)
		return e->ops->write_dr(e->opaque, nr, emu_get_reg(e, &gpr),
					e->fault);
	ret = e->ops->read_dr(e->opaque, nr, &val, e->fault);
	if (ret == INSN_OK)
		emu_set_reg(e, &gpr, val);
	return ret;
}

/* 16 bits to and from memory, whatever the operand size. */
int emu_smsw(struct emu *e)
{
	struct emu_operand gpr;
	u64 linear, val = 0;
	int ret;

	if (!e->ops->read_cr)
		return INSN_UNKNOWN;
	if ((e->cpu->cr4 & X86_CR4_UMIP) && e->cpu->cpl &&
	    e->cpu->mode != INSN_REAL)
		return emu_raise_code(e, GP_VECTOR, 0);

	ret = e->ops->read_cr(e->opaque, 0, &val, e->fault);
	if (ret != INSN_OK)
		return ret;
	if (!e->insn->has_mem) {
		emu_gpr_operand(e, &gpr, e->insn->rm, e->insn->op_size);
		emu_set_reg(e, &gpr, val);
		return INSN_OK;
	}
	ret = emu_mem_operand(e, 2, true, &linear);
	if (ret == INSN_OK)
		ret = emu_write(e, linear, &val, 2);
	return ret;
}

/* PE, MP, EM and TS; PE can be set but not cleared (SDM volume 2, LMSW). */
int emu_lmsw(struct emu *e)
{
	const u64 mask = X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
	struct emu_operand gpr;
	u64 linear, cr0 = 0, val = 0;
	int ret;

	if (!e->ops->read_cr || !e->ops->write_cr)
		return INSN_UNKNOWN;
	ret = check_privilege(e);
	if (ret != INSN_OK)
		return ret;

	if (e->insn->has_mem) {
		ret = emu_mem_operand(e, 2, false, &linear);
		if (ret == INSN_OK)
			ret = emu_read(e, linear, &val, 2);
	} else {
		emu_gpr_operand(e, &gpr, e->insn->rm, 2);
		val = emu_get_reg(e, &gpr);
	}
	if (ret == INSN_OK)
		ret = e->ops->read_cr(e->opaque, 0, &cr0, e->fault);
	if (ret != INSN_OK)
		return ret;
	cr0 = (cr0 & ~mask) | (val & (mask | X86_CR0_PE));
	return e->ops->write_cr(e->opaque, 0, cr0, e->fault);
}

int emu_clts(struct emu *e)
{
	u64 cr0 = 0;
	int ret;

	if (!e->ops->read_cr || !e->ops->write_cr)
		return INSN_UNKNOWN;
	ret = check_privilege(e);
	if (ret == INSN_OK)
		ret = e->ops->read_cr(e->opaque, 0, &cr0, e->fault);
	if (ret != INSN_OK)
		return ret;
	return e->ops->write_cr(e->opaque, 0, cr0 & ~(u64)X86_CR0_TS,
				e->fault);
}

/*
 * The address is not accessed: no limit, and nothing happens for one that is
 * not canonical, which the callee will not find in its tables either.
 */
int emu_invlpg(struct emu *e)
{
	u64 linear = emu_effective_address(e->cpu, e->insn, e->rsp_bias);
	u8 seg = e->insn->seg;
	int ret;

	/* With a register this is SWAPGS, RDTSCP and others. */
	if (!e->insn->has_mem || !e->ops->invlpg)
		return INSN_UNKNOWN;
	ret = check_privilege(e);
	if (ret != INSN_OK)
		return ret;
	if (e->cpu->mode != INSN_LONG64 || seg >= INSN_FS)
		linear += e->cpu->seg[seg].base;
	if (e->cpu->mode != INSN_LONG64)
		linear = (u32)linear;
	return e->ops->invlpg(e->opaque, linear, e->fault);
}

/*
 * Group 15: CLFLUSH, CLFLUSHOPT and CLWB check their address as a load of one
 * byte does, but to a device there is nothing to flush. Fences order what the
 * caller has already completed.
 */
int emu_group15(struct emu *e)
{
	u8 nr = e->insn->modrm >> 3 & 7;
	u64 linear;

	if (e->insn->rep)
		return INSN_UNKNOWN;
	if (!e->insn->has_mem)
		return nr >= 5 && !e->insn->opsize_prefix ? INSN_OK :
							     INSN_UNKNOWN;
	if (nr == 7 || (nr == 6 && e->insn->opsize_prefix))
		return emu_mem_operand(e, 1, false, &linear);
	return INSN_UNKNOWN;
}
