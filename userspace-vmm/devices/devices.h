/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The devices that options add.
 */
#ifndef DEVICES_H
#define DEVICES_H

#include "virtio.h"

int devices_create(struct virtio_host *host, const struct run_config *cfg,
		   struct err *err);

int devices_to_text(const struct run_config *cfg, char *text, size_t size);
int devices_from_text(struct run_config *cfg, const char *text, size_t size);
int devices_share_memory(const struct run_config *cfg, bool *share, struct err *err);

/* One for each kind: @arg is the option's. The device is added to @host. */
int blk_create(struct virtio_host *host, const char *arg, struct err *err);
int balloon_create(struct virtio_host *host, const char *arg, struct err *err);
int fs_create(struct virtio_host *host, const char *arg, struct err *err);
int console_create(struct virtio_host *host, const char *arg, struct err *err);
int display_create(struct virtio_host *host, const char *arg, struct err *err);
int net_create(struct virtio_host *host, const char *arg, struct err *err);
int rng_create(struct virtio_host *host, const char *arg, struct err *err);
int vsock_create(struct virtio_host *host, const char *arg, struct err *err);

#endif
