// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hand a device's queues to who serves them.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vhost.h"

/**
 * vhost_add() - virtio_add(), for a device that starts with a struct vhost
 * @host: what it shares with others
 * @ops: what it is
 *
 * Return: the device, all its queues to be served; NULL on failure.
 */
void *vhost_add(struct virtio_host *host, const struct virtio_device_ops *ops, struct err *err)
{
	struct vhost *v = virtio_add(host, ops, err);

	if (v) {
		v->fd = -1;
		v->error = -1;
		v->queues = ops->queues;
	}
	return v;
}

/**
 * vhost_open() - open a vhost device of the kernel
 * @path: /dev/vhost-*
 */
int vhost_open(struct vhost *v, const char *path, struct err *err)
{
	v->error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->error < 0)
		return err_sys(err, "cannot create an eventfd");
	v->dev.fd = v->error;
	v->fd = open(path, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return err_sys(err, "cannot open %s; try: sudo modprobe %s, and as root",
			       path, path + sizeof("/dev/") - 1);
	if (ioctl(v->fd, VHOST_SET_OWNER) < 0 ||
	    ioctl(v->fd, VHOST_GET_FEATURES, &v->offered) < 0)
		return err_sys(err, "%s", path);
	return 0;
}

/* All that is asked of a daemon to start or to stop has to be answered within its time. */
static void begin(struct vhost *v)
{
	v->end = monotonic_ns() + v->patience * 1000000000ULL;
}

static int call(struct vhost *v, unsigned long request, void *arg)
{
	return v->user ? vhost_user_call(v, request, arg) : ioctl(v->fd, request, arg);
}

static int set_memory(struct vhost *v)
{
	const struct guest_ram *ram = v->dev.host->ram;
	union {
		struct vhost_memory table;
		u8 room[sizeof(struct vhost_memory) +
			2 * sizeof(struct vhost_memory_region)];
	} m = { .table.nregions = ram->size > ram->low ? 2 : 1 };
	struct vhost_memory_region *r = m.table.regions;

	r[0].guest_phys_addr = 0;
	r[0].memory_size = ram->low;
	r[0].userspace_addr = (uintptr_t)ram->host;
	if (m.table.nregions > 1) {
		r[1].guest_phys_addr = RAM_HOLE_END;
		r[1].memory_size = ram->size - ram->low;
		r[1].userspace_addr = (uintptr_t)ram->host + ram->low;
	}
	return call(v, VHOST_SET_MEM_TABLE, &m.table);
}

static int set_queue(struct vhost *v, unsigned int i)
{
	struct virtio_queue *q = &v->dev.queue[i];
	struct vhost_vring_state num = { i, q->size }, base = { i, q->next_avail };
	struct vhost_vring_addr addr = {
		.index = i,
		.desc_user_addr = (uintptr_t)q->desc,
		.avail_user_addr = (uintptr_t)q->avail,
		.used_user_addr = (uintptr_t)q->used,
	};
	struct vhost_vring_file kick = { i, q->kick_fd }, signal = { i, -1 };

	if (q->vector < v->dev.pci.vectors)
		signal.fd = v->dev.pci.vector[q->vector].fd;
	if (call(v, VHOST_SET_VRING_NUM, &num) < 0 || call(v, VHOST_SET_VRING_BASE, &base) < 0 ||
	    call(v, VHOST_SET_VRING_ADDR, &addr) < 0 || call(v, VHOST_SET_VRING_KICK, &kick) < 0 ||
	    call(v, VHOST_SET_VRING_CALL, &signal) < 0)
		return -1;
	if (v->user)
		return vhost_user_enable(v, i);
	signal.fd = v->error;
	return ioctl(v->fd, VHOST_SET_VRING_ERR, &signal);
}

/**
 * vhost_start() - have the queues of a device served
 * @dev: the device, its driver ready
 *
 * Return: 0, or -1 if nobody wants to or the driver has not set them up.
 */
int vhost_start(struct virtio_device *dev)
{
	struct vhost *v = (struct vhost *)dev;
	u64 features = dev->reg.driver_features & v->offered;
	eventfd_t old;
	unsigned int i;

	eventfd_read(v->error, &old);	/* of an earlier start */
	begin(v);
	if (v->user)
		features |= 1ULL << VHOST_USER_F_PROTOCOL_FEATURES;
	if (call(v, VHOST_SET_FEATURES, &features) < 0 || set_memory(v) < 0)
		return -1;
	for (i = 0; i < v->queues; i++) {
		if (!dev->queue[i].enabled || set_queue(v, i) < 0)
			return -1;
	}
	return 0;
}

/** vhost_event() - the kernel, by vhost.error, has found a queue broken */
void vhost_event(struct virtio_device *dev)
{
	eventfd_t count;

	if (!eventfd_read(dev->fd, &count))
		virtio_broken(dev);
}

/**
 * vhost_stop() - have the queues of a device not served for now
 * @dev: the device, started
 *
 * Nothing is under way any more when it returns; vhost_start() goes on where it was. A
 * daemon that is about to be ended is not asked.
 */
void vhost_stop(struct virtio_device *dev)
{
	struct vhost *v = (struct vhost *)dev;
	struct vhost_vring_state base;
	unsigned int i;

	begin(v);
	for (i = 0; i < v->queues && !(v->user && dev->quit); i++) {
		base = (struct vhost_vring_state){ .index = i };
		if (call(v, VHOST_GET_VRING_BASE, &base) < 0) {
			dev->lost = "what serves it does not answer";
			virtio_broken(dev);
			return;
		}
		dev->queue[i].next_avail = base.num;
	}
}

/** vhost_destroy() - have nothing served any more, and the daemon end */
void vhost_destroy(struct virtio_device *dev)
{
	struct vhost *v = (struct vhost *)dev;

	close(v->fd);
	close(v->error);
	daemon_stop(&v->daemon);
}
