/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs one instruction on the real CPU, in 64-, 32- or 16-bit code, and catches
 * what it raises.
 */
#ifndef KEEL_INSN_NATIVE_H
#define KEEL_INSN_NATIVE_H

#include <stdbool.h>
#include <stdint.h>

/* All below 2 GiB, so that every addressing form reaches them. */
#define CODE_BASE	0x20000000ull
#define BUF_BASE	0x20100000ull
#define BUF_SIZE	0x2000ull
#define BUF_GUARD	0x20000ull	/* unmapped, on both sides */

enum native_segment {
	NATIVE_CODE64,
	NATIVE_CODE32,
	NATIVE_CODE16,		/* base CODE_BASE */
	NATIVE_DATA_FLAT,
	NATIVE_DATA_BUF,	/* base BUF_BASE, limit BUF_SIZE - 1 */
	NATIVE_DATA_RO,		/* the same, read-only */
	NATIVE_DATA_DOWN,	/* the same, expand-down, offsets 0x1000 on */
	NATIVE_NR_SEGMENTS,
};

/* The assembly in native.c knows the layout. */
struct native_state {
	uint64_t regs[16];
	uint64_t rflags;
	uint8_t xmm[16][16];
	uint16_t ds, es, gs;
};

struct native_result {
	bool faulted;
	uint8_t vector;
	uint32_t error;
	uint64_t cr2;
};

/* Return: false when this kernel does not let us. */
bool native_init(void *shadow);
/* Return: whether the CPU lets us have that segment. */
bool native_has(enum native_segment seg);
uint16_t native_selector(enum native_segment seg);
/* @bits is 64, 32 or 16; GS has base @gs_base in 64-bit mode. */
void native_run(unsigned int bits, uint64_t gs_base, const uint8_t *code,
		unsigned int len, struct native_state *state,
		struct native_result *result);

#endif /* KEEL_INSN_NATIVE_H */
