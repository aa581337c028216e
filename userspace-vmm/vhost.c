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
 * vhost_open() - open a vhost device of the kernel
 * @path: /dev/vhost-*
 */
int vhost_open(struct vhost *v, const char *path, struct err *err)
{
	v->error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->error < 0)
		return err_sys(err, "cannot create an eventfd");
	v->fd = open(path, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return err_sys(err, "cannot open %s; try: sudo modprobe %s, and as root",
			       path, path + sizeof("/dev/") - 1);
	if (ioctl(v->fd, VHOST_SET_OWNER) < 0 ||
	    ioctl(v->fd, VHOST_GET_FEATURES, &v->features) < 0)
		return err_sys(err, "%s", path);
	return 0;
}

static int call(struct vhost *v, unsigned long request, void *arg,
		const struct guest_ram *ram)
{
	return v->user ? vhost_user_call(v, request, arg, ram) :
			 ioctl(v->fd, request, arg);
}

static int set_memory(struct vhost *v, const struct guest_ram *ram)
{
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
	return call(v, VHOST_SET_MEM_TABLE, &m.table, ram);
}

static int set_queue(struct vhost *v, struct virtio_device *dev, unsigned int i)
{
	struct virtio_queue *q = &dev->queue[i];
	struct vhost_vring_state num = { i, q->size }, base = { i, q->next_avail };
	struct vhost_vring_addr addr = {
		.index = i,
		.desc_user_addr = (uintptr_t)q->desc,
		.avail_user_addr = (uintptr_t)q->avail,
		.used_user_addr = (uintptr_t)q->used,
	};
	struct vhost_vring_file kick = { i, q->kick_fd }, signal = { i, -1 };

	if (q->vector < dev->pci.vectors)
		signal.fd = dev->pci.vector[q->vector].fd;
	if (call(v, VHOST_SET_VRING_NUM, &num, NULL) < 0 ||
	    call(v, VHOST_SET_VRING_BASE, &base, NULL) < 0 ||
	    call(v, VHOST_SET_VRING_ADDR, &addr, NULL) < 0 ||
	    call(v, VHOST_SET_VRING_KICK, &kick, NULL) < 0 ||
	    call(v, VHOST_SET_VRING_CALL, &signal, NULL) < 0)
		return -1;
	if (v->user)
		return vhost_user_enable(v, i);
	signal.fd = v->error;
	return ioctl(v->fd, VHOST_SET_VRING_ERR, &signal);
}

/**
 * vhost_start() - let it serve the first queues of a device
 * @v: who
 * @dev: the device, its driver ready
 *
 * Return: 0, or -1 if it does not want to or the driver has not set them up.
 */
int vhost_start(struct vhost *v, struct virtio_device *dev, unsigned int queues)
{
	u64 features = dev->driver_features & v->features;
	eventfd_t old;
	unsigned int i;

	eventfd_read(v->error, &old);	/* of an earlier start */
	if (v->user)
		features |= 1ULL << VHOST_USER_F_PROTOCOL_FEATURES;
	if (call(v, VHOST_SET_FEATURES, &features, NULL) < 0 ||
	    set_memory(v, dev->host->ram) < 0)
		return -1;
	for (i = 0; i < queues; i++) {
		if (!dev->queue[i].enabled || set_queue(v, dev, i) < 0)
			return -1;
	}
	return 0;
}

/** vhost_event() - virtio_device_ops.event, with vhost.error as fd */
void vhost_event(struct virtio_device *dev)
{
	eventfd_t count;

	if (!eventfd_read(dev->fd, &count))
		virtio_broken(dev);
}

/**
 * vhost_stop() - have the first queues of a device not served for now
 * @v: who
 * @dev: the device, started
 *
 * Nothing is under way any more when it returns; vhost_start() goes on where it was.
 */
void vhost_stop(struct vhost *v, struct virtio_device *dev, unsigned int queues)
{
	struct vhost_vring_state base;
	unsigned int i;

	for (i = 0; i < queues; i++) {
		base = (struct vhost_vring_state){ .index = i };
		if (call(v, VHOST_GET_VRING_BASE, &base, NULL) >= 0)
			dev->queue[i].next_avail = base.num;
	}
}

/**
 * vhost_close() - have nothing served any more
 * @v: who; harmless if it was never opened
 */
void vhost_close(struct vhost *v)
{
	if (v->fd >= 0)
		close(v->fd);
	if (v->error >= 0)
		close(v->error);
	v->fd = -1;
	v->error = -1;
}
