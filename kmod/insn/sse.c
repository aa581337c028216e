// SPDX-License-Identifier: GPL-2.0-only
/*
 * SSE loads and stores: what memcpy() and drivers use on a frame buffer.
 */
#include "emulate.h"

enum sse_prefix { NP, P66, PF3, PF2 };

struct sse_form {
	enum insn_map map;
	u8 opcode;
	u8 prefix;	/* enum sse_prefix */
	u8 size;	/* 0: 4, or 8 with REX.W */
	bool store;
	bool aligned;	/* to 16 bytes, or #GP */
};

static const struct sse_form forms[] = {
	{ INSN_MAP_0F, 0x10, NP,  16, false, false },	/* MOVUPS */
	{ INSN_MAP_0F, 0x10, P66, 16, false, false },	/* MOVUPD */
	{ INSN_MAP_0F, 0x10, PF3,  4, false, false },	/* MOVSS */
	{ INSN_MAP_0F, 0x10, PF2,  8, false, false },	/* MOVSD */
	{ INSN_MAP_0F, 0x11, NP,  16, true,  false },
	{ INSN_MAP_0F, 0x11, P66, 16, true,  false },
	{ INSN_MAP_0F, 0x11, PF3,  4, true,  false },
	{ INSN_MAP_0F, 0x11, PF2,  8, true,  false },
	{ INSN_MAP_0F, 0x28, NP,  16, false, true },	/* MOVAPS */
	{ INSN_MAP_0F, 0x28, P66, 16, false, true },	/* MOVAPD */
	{ INSN_MAP_0F, 0x29, NP,  16, true,  true },
	{ INSN_MAP_0F, 0x29, P66, 16, true,  true },
	{ INSN_MAP_0F, 0x2b, NP,  16, true,  true },	/* MOVNTPS */
	{ INSN_MAP_0F, 0x2b, P66, 16, true,  true },	/* MOVNTPD */
	{ INSN_MAP_0F, 0x6e, P66,  0, false, false },	/* MOVD, MOVQ */
	{ INSN_MAP_0F, 0x7e, P66,  0, true,  false },
	{ INSN_MAP_0F, 0x6f, P66, 16, false, true },	/* MOVDQA */
	{ INSN_MAP_0F, 0x7f, P66, 16, true,  true },
	{ INSN_MAP_0F, 0x6f, PF3, 16, false, false },	/* MOVDQU */
	{ INSN_MAP_0F, 0x7f, PF3, 16, true,  false },
	{ INSN_MAP_0F, 0x7e, PF3,  8, false, false },	/* MOVQ */
	{ INSN_MAP_0F, 0xd6, P66,  8, true,  false },
	{ INSN_MAP_0F, 0xe7, P66, 16, true,  true },	/* MOVNTDQ */
	{ INSN_MAP_0F, 0xf0, PF2, 16, false, false },	/* LDDQU */
	{ INSN_MAP_0F38, 0x2a, P66, 16, false, true },	/* MOVNTDQA */
};

/* F2 and F3 win over 66 (SDM volume 2, 2.1.2). */
static enum sse_prefix simd_prefix(const struct insn *insn)
{
	if (insn->rep)
		return insn->rep == 0xf3 ? PF3 : PF2;
	return insn->opsize_prefix ? P66 : NP;
}

static const struct sse_form *find_form(const struct insn *insn)
{
	enum sse_prefix prefix = simd_prefix(insn);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		if (forms[i].map == insn->map &&
		    forms[i].opcode == insn->opcode &&
		    forms[i].prefix == prefix)
			return &forms[i];
	}
	return NULL;
}

/* SDM volume 3, table 13-1 (13.1.2): when SSE may be used at all. */
static int check_sse_enabled(struct emu *e)
{
	const struct insn_cpu *cpu = e->cpu;

	if ((cpu->cr0 & X86_CR0_EM) || !(cpu->cr4 & X86_CR4_OSFXSR))
		return emu_raise(e, UD_VECTOR);
	if (cpu->cr0 & X86_CR0_TS)
		return emu_raise(e, NM_VECTOR);
	return INSN_OK;
}

int emu_sse_move(struct emu *e)
{
	const struct sse_form *form = find_form(e->insn);
	u8 val[16] = { 0 };
	unsigned int size;
	u64 linear;
	int ret;

	if (!form || !e->insn->has_mem || !e->ops->sse_read ||
	    !e->ops->sse_write)
		return INSN_UNKNOWN;
	size = form->size;
	if (!size)
		size = e->insn->rex & 8 ? 8 : 4;

	ret = check_sse_enabled(e);
	if (ret == INSN_OK)
		ret = emu_mem_operand(e, size, form->store, &linear);
	if (ret == INSN_OK && form->aligned && (linear & 15))
		ret = emu_raise_code(e, GP_VECTOR, 0);
	if (ret != INSN_OK)
		return ret;

	if (form->store) {
		ret = e->ops->sse_read(e->opaque, e->insn->reg, val);
		if (ret == INSN_OK)
			ret = emu_write(e, linear, val, size);
		return ret;
	}
	/* A load of less than 16 bytes clears the rest. */
	ret = emu_read(e, linear, val, size);
	if (ret == INSN_OK)
		ret = e->ops->sse_write(e->opaque, e->insn->reg, val);
	return ret;
}
