// SPDX-License-Identifier: GPL-2.0-only
/*
 * Operands: registers, segmentation, and the accesses to linear memory.
 */
#include "emulate.h"

/* Return: INSN_FAULT, with an exception that has no error code. */
int emu_raise(struct emu *e, u8 vector)
{
	memset(e->fault, 0, sizeof(*e->fault));
	e->fault->vector = vector;
	return INSN_FAULT;
}

/* Error codes are pushed in protected mode (and out of VM86) only. */
int emu_raise_code(struct emu *e, u8 vector, u32 error)
{
	emu_raise(e, vector);
	if (e->cpu->mode != INSN_REAL) {
		e->fault->has_error = true;
		e->fault->error = error;
	}
	return INSN_FAULT;
}

/* AH, CH, DH and BH exist only without a REX prefix. */
void emu_gpr_operand(const struct emu *e, struct emu_operand *o,
		     unsigned int reg, unsigned int size)
{
	o->is_mem = false;
	o->size = size;
	o->reg = reg;
	o->shift = 0;
	if (size == 1 && !e->insn->rex && reg >= 4 && reg < 8) {
		o->reg = reg - 4;
		o->shift = 8;
	}
}

u64 emu_get_reg(const struct emu *e, const struct emu_operand *o)
{
	return e->cpu->regs[o->reg] >> o->shift & alu_mask(o->size);
}

/* A 32-bit result clears the upper half, smaller ones leave the rest alone. */
void emu_set_reg(struct emu *e, const struct emu_operand *o, u64 val)
{
	u64 mask = o->size == 4 ? ~0ull : alu_mask(o->size) << o->shift;
	u64 *reg = &e->cpu->regs[o->reg];

	val &= alu_mask(o->size);
	*reg = (*reg & ~mask) | (val << o->shift & mask);
}

/* The offset into the segment. */
u64 emu_effective_address(const struct insn_cpu *cpu, const struct insn *insn, u64 rsp_bias)
{
	u64 addr = insn->disp;

	if (insn->base == INSN_RIP)
		addr += cpu->rip + insn->len;
	else if (insn->base != INSN_NO_REG)
		addr += cpu->regs[insn->base];
	if (insn->base == INSN_RSP)
		addr += rsp_bias;
	if (insn->index != INSN_NO_REG)
		addr += cpu->regs[insn->index] * insn->scale;
	return addr & alu_mask(insn->ad_size);
}

static bool is_canonical(const struct insn_cpu *cpu, u64 addr)
{
	unsigned int unused = cpu->cr4 & X86_CR4_LA57 ? 64 - 57 : 64 - 48;

	return (u64)((s64)(addr << unused) >> unused) == addr;
}

/* SDM volume 3, 5.4 and 5.5; a code segment has bit 3 of its type set. */
static bool segment_allows(const struct insn_cpu *cpu,
			   const struct insn_seg *seg, bool write)
{
	bool code = seg->type & 8;

	if (cpu->mode == INSN_REAL || cpu->mode == INSN_VM86)
		return true;
	if (seg->unusable || !seg->present || !seg->s)
		return false;
	if (write)
		return !code && (seg->type & 2);
	return !code || (seg->type & 2);
}

/* SDM volume 3, 5.3: expand-down segments end where others begin. */
static bool within_limit(const struct insn_seg *seg, u64 first,
			 unsigned int size)
{
	u64 last = first + size - 1;

	if ((seg->type & 0xc) == 0x4)
		return first > seg->limit &&
		       last <= (seg->db ? 0xffffffff : 0xffff);
	return last <= seg->limit;
}

static bool is_misaligned(const struct insn_cpu *cpu, u64 linear,
			  unsigned int size)
{
	return cpu->cpl == 3 && (cpu->cr0 & X86_CR0_AM) &&
	       (cpu->rflags & X86_EFLAGS_AC) && size <= 8 &&
	       (linear & (size - 1));
}

/* Segmentation: offset to linear address, with the checks of an access. */
int emu_linear(struct emu *e, unsigned int seg, u64 offset, unsigned int size,
	       bool write, u64 *linear)
{
	const struct insn_cpu *cpu = e->cpu;
	const struct insn_seg *s = &cpu->seg[seg];
	u8 vector = seg == INSN_SS ? SS_VECTOR : GP_VECTOR;

	if (cpu->mode == INSN_LONG64) {
		*linear = offset;
		if (seg >= INSN_FS)
			*linear += s->base;
		if (!is_canonical(cpu, *linear) ||
		    !is_canonical(cpu, *linear + size - 1))
			return emu_raise_code(e, vector, 0);
	} else {
		if (!segment_allows(cpu, s, write) ||
		    !within_limit(s, offset, size))
			return emu_raise_code(e, vector, 0);
		*linear = (u32)(s->base + offset);
	}
	if (is_misaligned(cpu, *linear, size))
		return emu_raise_code(e, AC_VECTOR, 0);
	return INSN_OK;
}

/* The linear address of the instruction's ModRM or moffs operand. */
int emu_mem_operand(struct emu *e, unsigned int size, bool write, u64 *linear)
{
	return emu_linear(e, e->insn->seg,
			  emu_effective_address(e->cpu, e->insn, e->rsp_bias), size,
			  write, linear);
}

/* How many of @size bytes come before the 4 GiB where linear addresses wrap. */
static unsigned int before_wrap(const struct emu *e, u64 linear,
				unsigned int size)
{
	u64 room = (1ull << 32) - linear;

	if (e->cpu->mode == INSN_LONG64 || room >= size)
		return size;
	return room;
}

int emu_read(struct emu *e, u64 linear, void *buf, unsigned int size)
{
	unsigned int n = before_wrap(e, linear, size);
	int ret;

	ret = e->ops->read(e->opaque, linear, buf, n, e->fault);
	if (ret == INSN_OK && n < size)
		ret = e->ops->read(e->opaque, 0, (u8 *)buf + n, size - n,
				   e->fault);
	return ret;
}

int emu_probe_write(struct emu *e, u64 linear, unsigned int size)
{
	unsigned int n = before_wrap(e, linear, size);
	int ret;

	if (!e->ops->probe_write)
		return INSN_OK;
	ret = e->ops->probe_write(e->opaque, linear, n, e->fault);
	if (ret == INSN_OK && n < size)
		ret = e->ops->probe_write(e->opaque, 0, size - n, e->fault);
	return ret;
}

int emu_write(struct emu *e, u64 linear, const void *buf, unsigned int size)
{
	unsigned int n = before_wrap(e, linear, size);
	int ret;

	if (n < size) {
		/* Two calls that must not fail between them. */
		ret = emu_probe_write(e, linear, size);
		if (ret != INSN_OK)
			return ret;
	}
	ret = e->ops->write(e->opaque, linear, buf, n, e->fault);
	if (ret == INSN_OK && n < size)
		ret = e->ops->write(e->opaque, 0, (const u8 *)buf + n,
				    size - n, e->fault);
	return ret;
}

int emu_cmpxchg(struct emu *e, u64 linear, const void *old, const void *new,
		unsigned int size)
{
	int ret;

	if (before_wrap(e, linear, size) < size)
		return INSN_UNKNOWN;
	/* In brackets: <linux/atomic.h> has a macro of this name. */
	ret = (e->ops->cmpxchg)(e->opaque, linear, old, new, size, e->fault);
	if (ret != INSN_RETRY)
		return ret;
	/* Somebody else was faster: the guest executes it once more. */
	e->unfinished = true;
	return INSN_OK;
}
