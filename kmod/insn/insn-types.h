/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only place where the instruction decoder and emulator see who compiles
 * them: the kernel, or a userspace test.
 */
#ifndef KEEL_INSN_TYPES_H
#define KEEL_INSN_TYPES_H

#ifdef __KERNEL__

#include <linux/kernel.h>
#include <linux/types.h>
#include <linux/string.h>

#else

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

#endif

#endif /* KEEL_INSN_TYPES_H */
