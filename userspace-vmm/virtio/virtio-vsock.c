// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sockets between host and guest (virtio 1.2, section 5.10), by vhost-vsock.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <linux/virtio_vsock.h>

#include "devices.h"
#include "vhost.h"

#define EVENTS 2	/* a queue that vhost does not serve */

struct vsock {
	struct vhost vhost;
	struct virtio_vsock_config config;
};

static int run(struct vsock *s, int on)
{
	return ioctl(s->vhost.fd, VHOST_VSOCK_SET_RUNNING, &on);
}

/* The third queue is for events: the other ends of all connections are gone. */
static void tell_restored(struct virtio_device *dev)
{
	struct virtio_vsock_event reset = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct vq_chain chain;

	if (dev->queue[EVENTS].enabled &&
	    vq_pop(&dev->queue[EVENTS], dev->host->ram, &chain) > 0)
		virtio_push(dev, EVENTS, &chain, vq_write(&chain, &reset, sizeof(reset)));
}

static int start(struct virtio_device *dev)
{
	if (dev->restored)
		tell_restored(dev);
	return vhost_start(dev) < 0 ? -1 : run((struct vsock *)dev, 1);
}

static void stop(struct virtio_device *dev)
{
	run((struct vsock *)dev, 0);
	vhost_stop(dev);
}

static const struct virtio_device_ops ops = {
	.name = "vsock",
	.type = VIRTIO_ID_VSOCK,
	.class = 0x028000,	/* network, other */
	.queues = 3,
	.size = sizeof(struct vsock),
	.config = offsetof(struct vsock, config),
	.config_len = sizeof(struct virtio_vsock_config),
	.event = vhost_event,
	.start = start,
	.stop = stop,
	.destroy = vhost_destroy,
};

int vsock_create(struct virtio_host *host, const char *arg, struct err *err)
{
	struct vsock *s;
	u64 cid;

	/* 0 to 2 are the hypervisor, the machine itself and the host. */
	if (!whole_number(arg, &cid) || cid < 3 || cid > 0xfffffffe)
		return err_set(err, "--vsock %s: give a number from 3 on, one for each machine",
			       arg);
	s = vhost_add(host, &ops, err);
	if (!s)
		return -1;
	s->vhost.queues = EVENTS;
	s->config.guest_cid = cid;
	if (vhost_open(&s->vhost, "/dev/vhost-vsock", err) < 0)
		return -1;
	s->vhost.dev.features &= s->vhost.offered;
	if (ioctl(s->vhost.fd, VHOST_VSOCK_SET_GUEST_CID, &cid) < 0)
		return errno == EADDRINUSE ?
			err_set(err, "--vsock %s: another machine has this number", arg) :
			err_sys(err, "--vsock %s", arg);
	return 0;
}
