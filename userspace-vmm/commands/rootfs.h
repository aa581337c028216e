/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What keel run --rootfs and the first program of its guest agree on.
 */
#ifndef ROOTFS_H
#define ROOTFS_H

#define ROOTFS_TAG "keel-root"
#define ROOTFS_COMMAND "/command"	/* strings: mode, TERM, arguments */
#define ROOTFS_MODULES "/modules"	/* files 0, 1 and so on */
#define EXIT_PORT 0xf4			/* a byte: the machine ends with that status */

struct run_config;
struct err;

int rootfs_prepare(struct run_config *cfg, struct err *err);

#endif
