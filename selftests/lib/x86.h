/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Architectural numbers: MSRs and APIC registers come from the kernel's own
 * headers, what is left is named here after the manuals.
 */
#ifndef SELFTEST_X86_H
#define SELFTEST_X86_H

#include <asm/msr-index.h>
#include <asm/processor-flags.h>

/* Page table entries: SDM vol. 3, 4.5. */
#define PTE_P		(1ULL << 0)
#define PTE_W		(1ULL << 1)
#define PTE_U		(1ULL << 2)
#define PTE_A		(1ULL << 5)
#define PTE_D		(1ULL << 6)
#define PTE_PS		(1ULL << 7)
#define PTE_NX		(1ULL << 63)

/* Exception vectors: SDM vol. 3, table 6-1. */
#define VEC_DE		0
#define VEC_DB		1
#define VEC_NMI		2
#define VEC_BP		3
#define VEC_OF		4
#define VEC_UD		6
#define VEC_NM		7
#define VEC_DF		8
#define VEC_TS		10
#define VEC_NP		11
#define VEC_SS		12
#define VEC_GP		13
#define VEC_PF		14
#define VEC_MF		16
#define VEC_AC		17
#define VEC_XM		19

#endif
