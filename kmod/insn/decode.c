// SPDX-License-Identifier: GPL-2.0-only
/*
 * x86 instruction decoder: bytes in, struct insn out.
 *
 * One table entry per opcode says what follows it. Intel SDM volume 2,
 * chapter 2 (formats) and appendix A (maps); AMD APM volume 3, appendix A.
 */
#include "insn.h"

enum {
	M = 1 << 0,	/* ModRM */
	B = 1 << 1,	/* 8-bit immediate */
	Z = 1 << 2,	/* 16- or 32-bit immediate, by operand size */
	W = 1 << 3,	/* 16-bit immediate */
	V = 1 << 4,	/* 16-, 32- or 64-bit immediate, by operand size */
	O = 1 << 5,	/* memory offset, by address size */
	P = 1 << 6,	/* far pointer */
	S = 1 << 7,	/* operand size is one byte */
	D = 1 << 8,	/* 64-bit mode: operand size is 64 or 16 bits */
	F = 1 << 9,	/* 64-bit mode: operand size is 64 bits whatever 66 says */
	N = 1 << 10,	/* not in 64-bit mode */
	G = 1 << 11,	/* group 3: the immediate is there for /0 and /1 only */
	A = 1 << 12,	/* the ModRM operand must be memory */
	R = 1 << 13,	/* ModRM.mod is ignored, the operand is a register */
	U = 1 << 15,	/* no such instruction, or a prefix */
};

#define MB	(M | B)
#define MZ	(M | Z)
#define MS	(M | S)
#define MSB	(M | S | B)
#define SB	(S | B)
#define BD	(B | D)
#define BF	(B | F)
#define ZF	(Z | F)
#define DN	(D | N)
#define MA	(M | A)
#define MN	(M | N)
#define MR	(M | R | F)

static const u16 one_byte[256] = {
/*	0/8	1/9	2/a	3/b	4/c	5/d	6/e	7/f	*/
/* 00 */ MS,	M,	MS,	M,	SB,	Z,	N,	N,
/* 08 */ MS,	M,	MS,	M,	SB,	Z,	N,	U,
/* 10 */ MS,	M,	MS,	M,	SB,	Z,	N,	N,
/* 18 */ MS,	M,	MS,	M,	SB,	Z,	N,	N,
/* 20 */ MS,	M,	MS,	M,	SB,	Z,	U,	N,
/* 28 */ MS,	M,	MS,	M,	SB,	Z,	U,	N,
/* 30 */ MS,	M,	MS,	M,	SB,	Z,	U,	N,
/* 38 */ MS,	M,	MS,	M,	SB,	Z,	U,	N,
/* 40 */ N,	N,	N,	N,	N,	N,	N,	N,
/* 48 */ N,	N,	N,	N,	N,	N,	N,	N,
/* 50 */ D,	D,	D,	D,	D,	D,	D,	D,
/* 58 */ D,	D,	D,	D,	D,	D,	D,	D,
/* 60 */ N,	N,	MN | A,	M,	U,	U,	U,	U,
/* 68 */ Z | D,	MZ,	BD,	MB,	S,	0,	S,	0,
/* 70 */ BF,	BF,	BF,	BF,	BF,	BF,	BF,	BF,
/* 78 */ BF,	BF,	BF,	BF,	BF,	BF,	BF,	BF,
/* 80 */ MSB,	MZ,	MSB | N, MB,	MS,	M,	MS,	M,
/* 88 */ MS,	M,	MS,	M,	M,	MA,	M,	M | D,
/* 90 */ 0,	0,	0,	0,	0,	0,	0,	0,
/* 98 */ 0,	0,	P | N,	0,	D,	D,	0,	0,
/* a0 */ S | O,	O,	S | O,	O,	S,	0,	S,	0,
/* a8 */ SB,	Z,	S,	0,	S,	0,	S,	0,
/* b0 */ SB,	SB,	SB,	SB,	SB,	SB,	SB,	SB,
/* b8 */ V,	V,	V,	V,	V,	V,	V,	V,
/* c0 */ MSB,	MB,	W | F,	F,	MA | N,	MA | N,	MSB,	MZ,
/* c8 */ W | B | D, D,	W,	0,	0,	B,	N,	0,
/* d0 */ MS,	M,	MS,	M,	SB | N,	SB | N,	N,	S,
/* d8 */ M,	M,	M,	M,	M,	M,	M,	M,
/* e0 */ BF,	BF,	BF,	BF,	SB,	B,	SB,	B,
/* e8 */ ZF,	ZF,	P | N,	BF,	S,	0,	S,	0,
/* f0 */ U,	0,	U,	U,	0,	0,	MS | G,	M | G,
/* f8 */ 0,	0,	0,	0,	0,	0,	MS,	M,
};

static const u16 two_byte[256] = {
/*	0/8	1/9	2/a	3/b	4/c	5/d	6/e	7/f	*/
/* 00 */ M,	M,	M,	M,	U,	0,	0,	0,
/* 08 */ 0,	0,	U,	0,	U,	M,	0,	MB,
/* 10 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 18 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 20 */ MR,	MR,	MR,	MR,	U,	U,	U,	U,
/* 28 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 30 */ 0,	0,	0,	0,	0,	0,	U,	0,
/* 38 */ U,	U,	U,	U,	U,	U,	U,	U,
/* 40 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 48 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 50 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 58 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 60 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 68 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 70 */ MB,	MB,	MB,	MB,	M,	M,	M,	0,
/* 78 */ M,	M,	M,	M,	M,	M,	M,	M,
/* 80 */ ZF,	ZF,	ZF,	ZF,	ZF,	ZF,	ZF,	ZF,
/* 88 */ ZF,	ZF,	ZF,	ZF,	ZF,	ZF,	ZF,	ZF,
/* 90 */ MS,	MS,	MS,	MS,	MS,	MS,	MS,	MS,
/* 98 */ MS,	MS,	MS,	MS,	MS,	MS,	MS,	MS,
/* a0 */ D,	D,	0,	M,	MB,	M,	M,	M,
/* a8 */ D,	D,	0,	M,	MB,	M,	M,	M,
/* b0 */ MS,	M,	MA,	M,	MA,	MA,	M,	M,
/* b8 */ M,	M,	MB,	M,	M,	M,	M,	M,
/* c0 */ MS,	M,	MB,	MA,	MB,	MB,	MB,	M,
/* c8 */ 0,	0,	0,	0,	0,	0,	0,	0,
/* d0 */ M,	M,	M,	M,	M,	M,	M,	M,
/* d8 */ M,	M,	M,	M,	M,	M,	M,	M,
/* e0 */ M,	M,	M,	M,	M,	M,	M,	M,
/* e8 */ M,	M,	M,	M,	M,	M,	M,	M,
/* f0 */ M,	M,	M,	M,	M,	M,	M,	M,
/* f8 */ M,	M,	M,	M,	M,	M,	M,	M,
};

/* Where decoding stands. */
struct cursor {
	const u8 *bytes;
	unsigned int pos;
	unsigned int len;
	bool overrun;
};

static u8 next_byte(struct cursor *c)
{
	if (c->pos >= c->len) {
		c->overrun = true;
		return 0;
	}
	return c->bytes[c->pos++];
}

static u8 peek_byte(struct cursor *c)
{
	if (c->pos >= c->len) {
		c->overrun = true;
		return 0;
	}
	return c->bytes[c->pos];
}

/* Little endian, sign-extended to 64 bits. */
static s64 next_signed(struct cursor *c, unsigned int size)
{
	unsigned int i;
	u64 val = 0;

	for (i = 0; i < size; i++)
		val |= (u64)next_byte(c) << (8 * i);

	switch (size) {
	case 1:
		return (s8)val;
	case 2:
		return (s16)val;
	case 4:
		return (s32)val;
	default:
		return (s64)val;
	}
}

/*
 * Return: true if @byte was a prefix. In 64-bit mode a segment override other
 * than FS and GS does nothing at all (SDM volume 2, 2.1.1; APM volume 3,
 * 1.2.4), thus does not undo an earlier FS or GS either.
 */
static bool legacy_prefix(struct insn *insn, u8 byte, bool long64)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		if (!long64)
			insn->seg_override = (byte >> 3) & 3;
		return true;
	case 0x64:
		insn->seg_override = INSN_FS;
		return true;
	case 0x65:
		insn->seg_override = INSN_GS;
		return true;
	case 0x66:
		insn->opsize_prefix = true;
		return true;
	case 0x67:
		insn->adsize_prefix = true;
		return true;
	case 0xf0:
		insn->lock = true;
		return true;
	case 0xf2:
	case 0xf3:
		insn->rep = byte;
		return true;
	default:
		return false;
	}
}

/* Return: the first byte that is not a prefix. */
static u8 decode_prefixes(struct insn *insn, struct cursor *c, bool long64)
{
	u8 byte;

	for (;;) {
		byte = next_byte(c);
		if (c->overrun)
			return 0;
		if (legacy_prefix(insn, byte, long64))
			/* A REX that is not the last prefix is ignored. */
			insn->rex = 0;
		else if (long64 && (byte & 0xf0) == 0x40)
			insn->rex = byte;
		else
			return byte;
	}
}

/*
 * VEX, EVEX and XOP take the place of REX, and #UD together with it or with
 * one of the prefixes that they contain.
 */
static bool vector_prefix_allowed(const struct insn *insn)
{
	return !insn->rex && !insn->rep && !insn->opsize_prefix && !insn->lock;
}

/* The pp field: the SIMD prefix it stands for. */
static void set_simd_prefix(struct insn *insn, u8 pp)
{
	insn->opsize_prefix = pp == 1;
	if (pp == 2)
		insn->rep = 0xf3;
	else if (pp == 3)
		insn->rep = 0xf2;
}

/* SDM volume 2, 2.3.5; the extension bits are stored inverted. */
static int decode_vex(struct insn *insn, struct cursor *c, u8 first,
		      bool long64)
{
	u8 p0 = next_byte(c);
	u8 p1 = p0;
	u8 map = 1;

	insn->encoding = first == 0x8f ? INSN_XOP : INSN_VEX;
	insn->rex = 0x40 | (~p0 >> 5 & 4);
	if (first != 0xc5) {
		p1 = next_byte(c);
		map = p0 & 0x1f;
		insn->rex = 0x40 | (~p0 >> 5 & 7) | (p1 >> 4 & 8);
	}
	if (!long64)
		insn->rex = 0x40;
	insn->vex_reg = ~p1 >> 3 & 0xf;
	insn->vex_len = p1 >> 2 & 1;
	set_simd_prefix(insn, p1 & 3);

	if (insn->encoding == INSN_XOP) {
		if (map > 10)
			return INSN_UNKNOWN;
		insn->map = INSN_MAP_XOP8 + (map - 8);
	} else {
		if (!map || map > 3)
			return INSN_UNKNOWN;
		insn->map = INSN_MAP_0F + (map - 1);
	}
	insn->opcode = next_byte(c);
	return INSN_OK;
}

/* SDM volume 2, 2.7.1. */
static int decode_evex(struct insn *insn, struct cursor *c, bool long64)
{
	u8 p0 = next_byte(c);
	u8 p1 = next_byte(c);
	u8 p2 = next_byte(c);

	insn->encoding = INSN_EVEX;
	insn->rex = 0x40 | (~p0 >> 5 & 7) | (p1 >> 4 & 8);
	if (!long64)
		insn->rex = 0x40;
	insn->vex_reg = ~p1 >> 3 & 0xf;
	insn->vex_len = p2 >> 5 & 3;
	set_simd_prefix(insn, p1 & 3);

	if (!c->overrun && ((p0 & 8) || !(p1 & 4)))
		return INSN_UNKNOWN;
	switch (p0 & 7) {
	case 1:
	case 2:
	case 3:
		insn->map = INSN_MAP_0F + (p0 & 7) - 1;
		break;
	case 5:
		insn->map = INSN_MAP_EVEX5;
		break;
	case 6:
		insn->map = INSN_MAP_EVEX6;
		break;
	default:
		return INSN_UNKNOWN;
	}
	insn->opcode = next_byte(c);
	return INSN_OK;
}

/*
 * C4, C5 and 62 are LES, LDS and BOUND outside 64-bit mode when the next byte
 * reads as a ModRM with a memory operand; 8F is POP when it reads as /0.
 */
static bool is_vector_escape(struct cursor *c, enum insn_mode mode, u8 byte)
{
	if (byte != 0xc4 && byte != 0xc5 && byte != 0x62 && byte != 0x8f)
		return false;
	if (mode == INSN_REAL || mode == INSN_VM86)
		return false;
	if (byte == 0x8f)
		return (peek_byte(c) & 0x1f) >= 8;
	return mode == INSN_LONG64 || peek_byte(c) >= 0xc0;
}

static int decode_opcode(struct insn *insn, struct cursor *c,
			 enum insn_mode mode)
{
	bool long64 = mode == INSN_LONG64;
	u8 byte = decode_prefixes(insn, c, long64);

	if (c->overrun)
		return INSN_OK;
	if (is_vector_escape(c, mode, byte)) {
		if (!vector_prefix_allowed(insn))
			return INSN_UNKNOWN;
		if (byte == 0x62)
			return decode_evex(insn, c, long64);
		return decode_vex(insn, c, byte, long64);
	}

	insn->map = INSN_MAP_ONE;
	insn->opcode = byte;
	if (byte != 0x0f)
		return INSN_OK;

	insn->map = INSN_MAP_0F;
	insn->opcode = next_byte(c);
	if (insn->opcode == 0x0f) {
		insn->map = INSN_MAP_3DNOW;
	} else if (insn->opcode == 0x38) {
		insn->map = INSN_MAP_0F38;
		insn->opcode = next_byte(c);
	} else if (insn->opcode == 0x3a) {
		insn->map = INSN_MAP_0F3A;
		insn->opcode = next_byte(c);
	}
	return INSN_OK;
}

/* What follows the opcode. */
static u16 opcode_flags(const struct insn *insn)
{
	switch (insn->map) {
	case INSN_MAP_ONE:
		return one_byte[insn->opcode];
	case INSN_MAP_0F:
		if (insn->encoding == INSN_LEGACY) {
			/* EXTRQ and INSERTQ with immediates, SSE4a */
			if (insn->opcode == 0x78 &&
			    (insn->opsize_prefix || insn->rep == 0xf2))
				return M | B | W;
			return two_byte[insn->opcode];
		}
		if (insn->opcode == 0x77 && insn->encoding == INSN_VEX)
			return 0;
		/* The immediates are where the legacy map has them. */
		return M | (two_byte[insn->opcode] & M ?
			    two_byte[insn->opcode] & B : 0);
	case INSN_MAP_0F3A:
	case INSN_MAP_3DNOW:
	case INSN_MAP_XOP8:
		return MB;
	case INSN_MAP_XOPA:
		return MZ;
	default:
		return M;
	}
}

static void set_sizes(struct insn *insn, enum insn_mode mode, u16 flags)
{
	bool prefix = insn->opsize_prefix;

	if (mode == INSN_LONG64) {
		insn->ad_size = insn->adsize_prefix ? 4 : 8;
		if ((insn->rex & 8) || (flags & F))
			insn->op_size = 8;
		else if (flags & D)
			insn->op_size = prefix ? 2 : 8;
		else
			insn->op_size = prefix ? 2 : 4;
	} else {
		bool wide = mode == INSN_PROT32;

		insn->ad_size = wide != insn->adsize_prefix ? 4 : 2;
		insn->op_size = wide != prefix ? 4 : 2;
		/* MOV to and from control and debug registers */
		if (flags & R)
			insn->op_size = 4;
	}
	if (insn->encoding != INSN_LEGACY)
		insn->op_size = insn->rex & 8 ? 8 : 4;
	if (flags & S)
		insn->op_size = 1;
}

static void decode_mem16(struct insn *insn)
{
	static const u8 base[8] = {
		INSN_RBX, INSN_RBX, INSN_RBP, INSN_RBP,
		INSN_RSI, INSN_RDI, INSN_RBP, INSN_RBX,
	};
	u8 rm = insn->modrm & 7;

	insn->base = base[rm];
	if (rm < 4)
		insn->index = rm & 1 ? INSN_RDI : INSN_RSI;

	insn->disp_size = insn->mod == 3 ? 0 : insn->mod;
	if (insn->mod == 0 && rm == 6) {
		insn->base = INSN_NO_REG;
		insn->disp_size = 2;
	}
}

/* Gathers and scatters index with a vector register, where 4 is a register. */
static bool has_vector_index(const struct insn *insn)
{
	if (insn->map != INSN_MAP_0F38 || insn->encoding == INSN_LEGACY)
		return false;
	if (insn->opcode >= 0x90 && insn->opcode <= 0x93)
		return true;
	return insn->encoding == INSN_EVEX &&
	       ((insn->opcode >= 0xa0 && insn->opcode <= 0xa3) ||
		insn->opcode == 0xc6 || insn->opcode == 0xc7);
}

static void decode_mem32(struct insn *insn, struct cursor *c, bool long64)
{
	u8 rm = insn->modrm & 7;
	u8 index;

	insn->disp_size = insn->mod == 1 ? 1 : insn->mod == 2 ? 4 : 0;
	insn->base = insn->rm;
	if (rm == 4) {
		insn->has_sib = true;
		insn->sib = next_byte(c);
		insn->scale = 1 << (insn->sib >> 6);
		index = (insn->sib >> 3 & 7) | (insn->rex & 2) << 2;
		if (index != INSN_RSP || has_vector_index(insn))
			insn->index = index;
		insn->base = (insn->sib & 7) | (insn->rex & 1) << 3;
		if (insn->mod == 0 && (insn->sib & 7) == 5) {
			insn->base = INSN_NO_REG;
			insn->disp_size = 4;
		}
	} else if (insn->mod == 0 && rm == 5) {
		insn->base = long64 ? INSN_RIP : INSN_NO_REG;
		insn->disp_size = 4;
	}
}

static void decode_modrm(struct insn *insn, struct cursor *c,
			 enum insn_mode mode, u16 flags)
{
	insn->has_modrm = true;
	insn->modrm = next_byte(c);
	insn->mod = insn->modrm >> 6;
	insn->reg = (insn->modrm >> 3 & 7) | (insn->rex & 4) << 1;
	insn->rm = (insn->modrm & 7) | (insn->rex & 1) << 3;
	if (insn->mod == 3 || (flags & R))
		return;

	insn->has_mem = true;
	if (insn->ad_size == 2)
		decode_mem16(insn);
	else
		decode_mem32(insn, c, mode == INSN_LONG64);
	insn->disp = next_signed(c, insn->disp_size);
}

static void decode_segment(struct insn *insn)
{
	if (insn->seg_override != INSN_NO_SEG)
		insn->seg = insn->seg_override;
	else if (insn->base == INSN_RSP || insn->base == INSN_RBP)
		insn->seg = INSN_SS;
	else
		insn->seg = INSN_DS;
}

static void decode_immediates(struct insn *insn, struct cursor *c, u16 flags)
{
	u8 z = insn->op_size == 2 ? 2 : 4;

	if ((flags & G) && (insn->modrm & 0x38) < 0x10)
		flags |= flags & S ? B : Z;

	if (flags & O) {
		insn->has_mem = true;
		insn->disp_size = insn->ad_size;
		insn->disp = next_signed(c, insn->ad_size);
		/* An absolute offset is not signed. */
		if (insn->ad_size == 4)
			insn->disp = (u32)insn->disp;
		else if (insn->ad_size == 2)
			insn->disp = (u16)insn->disp;
		return;
	}

	if (flags & P) {
		insn->imm_size = z;
		insn->imm2_size = 2;
	} else if (flags & Z) {
		insn->imm_size = z;
	} else if (flags & V) {
		insn->imm_size = insn->op_size;
	} else if ((flags & W) && (flags & B)) {
		/* ENTER iw, ib; EXTRQ ib, ib is two bytes as well as one word */
		insn->imm_size = insn->map == INSN_MAP_ONE ? 2 : 1;
		insn->imm2_size = 1;
	} else if (flags & W) {
		insn->imm_size = 2;
	} else if (flags & B) {
		insn->imm_size = 1;
	}
	insn->imm = next_signed(c, insn->imm_size);
	insn->imm2 = next_signed(c, insn->imm2_size);
}

/* What the tables cannot say. */
static bool is_undefined(const struct insn *insn, enum insn_mode mode,
			 u16 flags)
{
	if (flags & U)
		return true;
	if ((flags & N) && mode == INSN_LONG64)
		return true;
	if ((flags & A) && insn->mod == 3 && insn->encoding == INSN_LEGACY)
		return true;
	return false;
}

int keel_insn_decode(struct insn *insn, enum insn_mode mode, const u8 *bytes,
		     size_t len)
{
	struct cursor c = {
		.bytes = insn->bytes,
		.len = len < INSN_MAX_LEN ? len : INSN_MAX_LEN,
	};
	u16 flags = 0;
	int ret;

	memset(insn, 0, sizeof(*insn));
	memcpy(insn->bytes, bytes, c.len);
	insn->nr_bytes = c.len;
	insn->mode = mode;
	insn->seg_override = INSN_NO_SEG;
	insn->base = INSN_NO_REG;
	insn->index = INSN_NO_REG;
	insn->scale = 1;

	ret = decode_opcode(insn, &c, mode);
	if (ret == INSN_OK && !c.overrun) {
		flags = opcode_flags(insn);
		set_sizes(insn, mode, flags);
		if (flags & M)
			decode_modrm(insn, &c, mode, flags);
		if (!c.overrun && is_undefined(insn, mode, flags))
			return INSN_UNKNOWN;
		decode_immediates(insn, &c, flags);
		if (insn->map == INSN_MAP_3DNOW)
			insn->opcode = insn->imm;
		decode_segment(insn);
	}

	if (c.overrun)
		return c.len == INSN_MAX_LEN ? INSN_TOO_LONG : INSN_SHORT;
	if (ret == INSN_OK)
		insn->len = c.pos;
	return ret;
}
