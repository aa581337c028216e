/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place where ioctl arguments are copied in and out.
 */
#ifndef KEEL_IOCTL_H
#define KEEL_IOCTL_H

#include <linux/types.h>

/*
 * Said for each command beside its handler, since the direction in the number
 * of some is not what they do (KVM_SET_IRQCHIP says "read").
 */
#define KEEL_COPY_NONE		0	/* the handler takes the plain argument */
#define KEEL_COPY_IN		1
#define KEEL_COPY_OUT		2
#define KEEL_COPY_INOUT		3

#define KEEL_IOCTL_STACK	320	/* kvm_sregs2 is 320 */

/**
 * struct keel_ioctl_buf - the kernel's copy of one ioctl's argument
 * @data: _IOC_SIZE(cmd) bytes, zeroed where not copied in
 */
struct keel_ioctl_buf {
	void *data;
	u64 small[KEEL_IOCTL_STACK / sizeof(u64)];
};

int keel_ioctl_copy_in(struct keel_ioctl_buf *buf, unsigned int cmd, u8 copy,
		       unsigned long arg);
/* Copies out unless @ret is an error, and frees. Return: @ret or -EFAULT. */
long keel_ioctl_copy_out(struct keel_ioctl_buf *buf, unsigned int cmd, u8 copy,
			 unsigned long arg, long ret);

#endif /* KEEL_IOCTL_H */
