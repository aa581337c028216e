/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kinds of network cards share.
 */
#ifndef NET_H
#define NET_H

#include "virtio.h"

void net_mac(const struct virtio_host *host, const char *name, u8 mac[6]);

/* virtio-net-user.c */
int net_user_create(struct virtio_host *host, const char *options, struct err *err);

#endif
