/* SPDX-License-Identifier: GPL-2.0-only */
/* Makes machine code that is mostly legal. */
#ifndef KEEL_INSN_GEN_H
#define KEEL_INSN_GEN_H

#include "../insn.h"
#include "tap.h"

#define GEN_LEN	20	/* longer than an instruction can be */

static inline void gen_random(u8 *buf)
{
	int i;

	for (i = 0; i < GEN_LEN; i++)
		buf[i] = rnd();
}

static inline int gen_prefixes(u8 *buf, bool long64)
{
	static const u8 prefixes[] = {
		0x66, 0x66, 0x67, 0x67, 0xf2, 0xf3, 0xf0,
		0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
	};
	int n = 0, i = 0;

	if (rnd_below(2))
		n = 1 + rnd_below(rnd_below(16) ? 2 : 14);
	while (i < n)
		buf[i++] = prefixes[rnd_below(sizeof(prefixes))];
	if (long64 && rnd_below(2))
		buf[i++] = 0x40 | rnd_below(16);
	return i;
}

/* VEX, EVEX or XOP with their fixed bits mostly right. */
static inline int gen_vector(u8 *buf)
{
	int i = 0;

	switch (rnd_below(8)) {
	case 0:
	case 1:
		buf[i++] = 0xc5;
		buf[i++] = rnd() | 0xc0;
		break;
	case 2:
	case 3:
	case 4:
		buf[i++] = 0xc4;
		buf[i++] = (rnd() & 0xe0) | (1 + rnd_below(3));
		buf[i++] = rnd_below(2) ? rnd() : rnd() | 0x78;
		break;
	case 5:
	case 6:
		buf[i++] = 0x62;
		buf[i++] = (rnd() & 0xf0) | (1 + rnd_below(6));
		buf[i++] = (rnd_below(2) ? rnd() : rnd() | 0x78) | 4;
		buf[i++] = rnd() | 8;
		break;
	default:
		buf[i++] = 0x8f;
		buf[i++] = (rnd() & 0xe0) | (8 + rnd_below(3));
		buf[i++] = rnd();
		break;
	}
	return i;
}

static inline void gen_structured(u8 *buf, bool long64)
{
	int i;

	gen_random(buf);
	if (!rnd_below(5)) {
		gen_vector(buf);
		return;
	}
	i = gen_prefixes(buf, long64);
	switch (rnd_below(8)) {
	case 0:
	case 1:
	case 2:
		buf[i++] = 0x0f;
		break;
	case 3:
		buf[i++] = 0x0f;
		buf[i++] = rnd_below(2) ? 0x38 : 0x3a;
		break;
	case 4:
		if (!rnd_below(8)) {
			buf[i++] = 0x0f;
			buf[i++] = 0x0f;
		}
		break;
	default:
		break;
	}
}

#endif /* KEEL_INSN_GEN_H */
