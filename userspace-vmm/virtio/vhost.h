/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Devices whose queues others serve: the kernel (vhost), or a daemon
 * (vhost-user).
 */
#ifndef VHOST_H
#define VHOST_H

#include <linux/vhost.h>

#include "daemon.h"
#include "virtio.h"

/**
 * struct vhost - the first member of such a device
 * @fd: the kernel's device, or the daemon's socket; -1: none
 * @queues: how many are served, from the first one on
 * @offered: features
 * @user: it is a daemon
 * @patience: seconds that it may take to start or to stop
 * @end: of the time it has for what is asked now (monotonic_ns())
 * @error: eventfd: the kernel has found a queue broken; -1: none
 */
struct vhost {
	struct virtio_device dev;
	int fd;
	unsigned int queues;
	u64 offered;
	bool user;
	unsigned int patience;
	u64 end;
	struct daemon daemon;
	int error;
};

void *vhost_add(struct virtio_host *host, const struct virtio_device_ops *ops, struct err *err);
int vhost_open(struct vhost *v, const char *path, struct err *err);

/* For struct virtio_device_ops. */
int vhost_start(struct virtio_device *dev);
void vhost_event(struct virtio_device *dev);
void vhost_stop(struct virtio_device *dev);
void vhost_destroy(struct virtio_device *dev);

/* vhost-user.c; the requests are the kernel's numbers, and a few more. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30
int vhost_user_listen(struct vhost *v, int *listener, struct err *err);
int vhost_user_start(struct vhost *v, char *const argv[], const int *fds, unsigned int count,
		     struct err *err);
void vhost_user_event(struct virtio_device *dev);
int vhost_user_call(struct vhost *v, unsigned long request, void *arg);
int vhost_user_get_config(struct vhost *v, void *config, u32 len, struct err *err);
int vhost_user_enable(struct vhost *v, unsigned int queue);

#endif
