/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel's msr-index.h needs of <linux/bits.h> outside the kernel. */
#ifndef SELFTEST_LINUX_BITS_H
#define SELFTEST_LINUX_BITS_H

#define BIT(n)			(1UL << (n))
#define BIT_ULL(n)		(1ULL << (n))
#define GENMASK(h, l)		((~0UL << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l)	((~0ULL << (l)) & (~0ULL >> (63 - (h))))

#endif
