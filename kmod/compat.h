/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels keel builds on, and nowhere else. Chosen by
 * feature where a feature can be tested for, by version otherwise.
 */
#ifndef KEEL_COMPAT_H
#define KEEL_COMPAT_H

#include <linux/eventfd.h>
#include <linux/version.h>

/* 6.8 dropped eventfd_signal()'s count. */
static inline void keel_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

#endif /* KEEL_COMPAT_H */
