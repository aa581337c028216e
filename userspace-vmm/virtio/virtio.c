// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI transport of virtio (virtio 1.2, section 4.1), without what only
 * legacy drivers use, and the thread that serves a device.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "jail.h"
#include "virtio.h"

#define VENDOR_VIRTIO		0x1af4
#define DEVICE_MODERN		0x1040

/* Where things are in BAR 0. */
#define COMMON_CFG		0x0000
#define ISR_CFG			0x0400
#define DEVICE_CFG		0x0800
#define NOTIFY_CFG		0x1000
#define MSIX_TABLE		0x2000
#define BAR_SIZE		0x4000
#define NOTIFY_STRIDE		4

#define ISR_CONFIG		2

#define TRANSPORT_FEATURES (1ULL << VIRTIO_F_VERSION_1 | \
			    1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
			    1ULL << VIRTIO_RING_F_EVENT_IDX)

/** virtio_config_changed() - tell the driver to look at the configuration again */
void virtio_config_changed(struct virtio_device *dev)
{
	dev->reg.generation++;
	dev->reg.isr |= ISR_CONFIG;
	pci_msix_raise(&dev->pci, dev->reg.config_vector);
}

/** virtio_broken() - the driver has done what it must not; wait for its reset */
void virtio_broken(struct virtio_device *dev)
{
	dev->reg.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (dev->reg.status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_config_changed(dev);
}

/**
 * virtio_pop() - vq_pop() of a device
 * @queue: which
 *
 * Return: 1 or 0; a broken queue has nothing. A guest that adds faster than it
 * is served gets its turn again, after others had the lock.
 */
int virtio_pop(struct virtio_device *dev, unsigned int queue,
	       struct vq_chain *chain)
{
	int ret;

	if (!virtio_running(dev) || !dev->queue[queue].enabled)
		return 0;
	if (!dev->budget) {
		eventfd_write(dev->queue[queue].kick_fd, 1);
		return 0;
	}
	ret = vq_pop(&dev->queue[queue], dev->host->ram, chain);
	dev->budget -= ret > 0;
	if (ret < 0)
		virtio_broken(dev);
	return ret > 0;
}

/**
 * virtio_push() - vq_push() of a device, and an interrupt if one is wanted
 * @queue: which
 * @chain: the request
 * @written: bytes that were filled
 */
void virtio_push(struct virtio_device *dev, unsigned int queue,
		 const struct vq_chain *chain, u32 written)
{
	struct virtio_queue *q = &dev->queue[queue];

	vq_push(q, chain, written);
	if (vq_wants_interrupt(q))
		pci_msix_raise(&dev->pci, q->vector);
}

/** virtio_poll_again() - virtio_device.fd has changed */
void virtio_poll_again(struct virtio_device *dev)
{
	eventfd_write(dev->wake_fd, 1);
}

static void *serve(void *arg)
{
	struct virtio_device *dev = arg;
	struct pollfd fds[VIRTIO_QUEUES + 3];
	unsigned int i, n = dev->ops->queues;
	u64 count;

	jail_thread(JAIL_DEVICE);
	pthread_mutex_lock(&dev->lock);
	while (!dev->quit) {
		for (i = 0; i < n; i++)
			fds[i] = (struct pollfd){ dev->ops->process ?
				dev->queue[i].kick_fd : -1, POLLIN, 0 };
		fds[n] = (struct pollfd){ dev->wake_fd, POLLIN, 0 };
		fds[n + 1] = (struct pollfd){ virtio_running(dev) ? dev->fd : -1,
					      POLLIN, 0 };
		fds[n + 2] = (struct pollfd){ virtio_running(dev) ? dev->out_fd : -1,
					      POLLOUT, 0 };
		pthread_mutex_unlock(&dev->lock);
		poll(fds, n + 3, -1);
		pthread_mutex_lock(&dev->lock);
		dev->budget = VQ_SIZE;
		for (i = 0; i <= n; i++) {
			if (!fds[i].revents ||
			    read(fds[i].fd, &count, sizeof(count)) < 0)
				continue;
			if (i < n && virtio_running(dev) && dev->queue[i].enabled)
				dev->ops->process(dev, i);
		}
		if ((fds[n + 1].revents || fds[n + 2].revents) && virtio_running(dev))
			dev->ops->event(dev);
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

/**
 * virtio_serve_all() - start the threads of devices that have one
 * @host: has all its devices
 */
int virtio_serve_all(struct virtio_host *host, struct err *err)
{
	struct virtio_device *dev;
	sigset_t all, old;
	int error = 0;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (dev = host->first; dev && !error; dev = dev->next) {
		if (dev->serving || !(dev->ops->process || dev->ops->event))
			continue;
		error = pthread_create(&dev->thread, NULL, serve, dev);
		dev->serving = !error;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return error ? err_sys(err, "cannot start a thread for a device") : 0;
}

/* Return: 0, or -1 if the device cannot work. */
static int start(struct virtio_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->ops->queues; i++)
		dev->queue[i].event_idx = virtio_has(dev, VIRTIO_RING_F_EVENT_IDX);
	if (dev->ops->start && dev->ops->start(dev) < 0)
		return -1;
	/* What was kicked early, and the change of the state. */
	for (i = 0; i < dev->ops->queues; i++)
		eventfd_write(dev->queue[i].kick_fd, 1);
	virtio_poll_again(dev);
	return 0;
}

static void reset(struct virtio_device *dev)
{
	unsigned int i;

	if ((dev->reg.status & VIRTIO_CONFIG_S_DRIVER_OK) && dev->ops->stop)
		dev->ops->stop(dev);
	dev->reg = (struct virtio_registers){
		.config_vector = VIRTIO_MSI_NO_VECTOR,
		.generation = dev->reg.generation,
	};
	/* kick_fd is constant: bar_map() reads it without the lock. */
	for (i = 0; i < dev->ops->queues; i++) {
		memset(&dev->queue[i], 0, VQ_KEPT);
		dev->queue[i].size = VQ_SIZE;
		dev->queue[i].vector = VIRTIO_MSI_NO_VECTOR;
	}
}

static void set_status(struct virtio_device *dev, u8 status)
{
	u8 added = status & ~dev->reg.status;

	if (!status) {
		reset(dev);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((dev->reg.driver_features & ~dev->features) ||
	     !virtio_has(dev, VIRTIO_F_VERSION_1)))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	dev->reg.status |= added & ~VIRTIO_CONFIG_S_NEEDS_RESET;
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (!(dev->reg.status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		dev->reg.status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
		virtio_broken(dev);
	} else if (!virtio_running(dev) || start(dev) < 0) {
		virtio_broken(dev);
	}
}

static void common_read(struct virtio_device *dev, struct bus_access *access)
{
	u32 select = dev->reg.feature_select[0], driver = dev->reg.feature_select[1];
	struct virtio_pci_common_cfg cfg = {
		.device_feature_select = select,
		.device_feature = select < 2 ? dev->features >> 32 * select : 0,
		.guest_feature_select = driver,
		.guest_feature = driver < 2 ? dev->reg.driver_features >> 32 * driver : 0,
		.msix_config = dev->reg.config_vector,
		.num_queues = dev->ops->queues,
		.device_status = dev->reg.status,
		.config_generation = dev->reg.generation,
		.queue_select = dev->reg.queue_select,
	};
	const struct virtio_queue *q;

	if (dev->reg.queue_select < dev->ops->queues) {
		q = &dev->queue[dev->reg.queue_select];
		cfg.queue_size = q->size;
		cfg.queue_msix_vector = q->vector;
		cfg.queue_enable = q->enabled;
		cfg.queue_notify_off = dev->reg.queue_select;
		memcpy(&cfg.queue_desc_lo, q->gpa, sizeof(q->gpa));
	}
	memcpy(&access->value, (u8 *)&cfg + access->offset, access->size);
}

/* A register of a queue that is not in use yet. */
static void queue_write(struct virtio_device *dev, struct virtio_queue *q,
			u64 offset, u64 value, unsigned int size)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		value &= 0xffff;
		if (value && value <= VQ_SIZE && !(value & (value - 1)))
			q->size = value;
		else
			virtio_broken(dev);
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		/* After DRIVER_OK nobody would tell the device. */
		if (value != 1 || (dev->reg.status & VIRTIO_CONFIG_S_DRIVER_OK) ||
		    vq_enable(q, dev->host->ram) < 0)
			virtio_broken(dev);
		break;
	default:
		if (offset >= VIRTIO_PCI_COMMON_Q_DESCLO &&
		    offset + size <= VIRTIO_PCI_COMMON_Q_USEDHI + 4)
			memcpy((u8 *)q->gpa + offset - VIRTIO_PCI_COMMON_Q_DESCLO,
			       &value, size);
		break;
	}
}

static u16 valid_vector(const struct virtio_device *dev, u16 vector)
{
	return vector < dev->pci.vectors ? vector : VIRTIO_MSI_NO_VECTOR;
}

static void common_write(struct virtio_device *dev, const struct bus_access *access)
{
	struct virtio_queue *q = dev->reg.queue_select < dev->ops->queues ?
				 &dev->queue[dev->reg.queue_select] : NULL;
	unsigned int driver = dev->reg.feature_select[1];
	u64 value = access->value;

	switch (access->offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		dev->reg.feature_select[0] = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		dev->reg.feature_select[1] = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (driver < 2 && !(dev->reg.status & VIRTIO_CONFIG_S_FEATURES_OK))
			memcpy((u8 *)&dev->reg.driver_features + 4 * driver, &value, 4);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		dev->reg.config_vector = valid_vector(dev, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		set_status(dev, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		dev->reg.queue_select = value;
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		if (q)
			q->vector = valid_vector(dev, value);
		break;
	default:
		if (q && !q->enabled)
			queue_write(dev, q, access->offset, value, access->size);
		break;
	}
}

static void device_config(struct virtio_device *dev, struct bus_access *access)
{
	u64 offset = access->offset - DEVICE_CFG, len = dev->ops->config_len;

	if (offset >= len || access->size > len - offset)
		return;
	if (!access->write)
		memcpy(&access->value, (u8 *)dev + dev->ops->config + offset, access->size);
	else if (dev->ops->write_config)
		dev->ops->write_config(dev, offset, access->value);
}

static void bar_access(void *opaque, struct bus_access *access)
{
	struct virtio_device *dev = opaque;
	u64 offset = access->offset, queue = (offset - NOTIFY_CFG) / NOTIFY_STRIDE;

	pthread_mutex_lock(&dev->lock);
	if (offset < sizeof(struct virtio_pci_common_cfg)) {
		if (access->size > sizeof(struct virtio_pci_common_cfg) - offset)
			;
		else if (access->write)
			common_write(dev, access);
		else
			common_read(dev, access);
	} else if (offset == ISR_CFG && !access->write) {
		access->value = dev->reg.isr;
		dev->reg.isr = 0;
	} else if (offset >= DEVICE_CFG && offset < NOTIFY_CFG) {
		device_config(dev, access);
	} else if (offset >= NOTIFY_CFG && queue < dev->ops->queues && access->write) {
		eventfd_write(dev->queue[queue].kick_fd, 1);
	}
	pthread_mutex_unlock(&dev->lock);
}

/* Kicks go from the guest to the eventfds, where the hypervisor can do that. */
static void bar_map(void *opaque, u64 base)
{
	struct virtio_device *dev = opaque;
	struct pci *pci = dev->host->pci;
	u64 old = dev->pci.bar[0].base;
	unsigned int i;

	for (i = 0; pci->host && i < dev->ops->queues; i++) {
		u64 offset = NOTIFY_CFG + NOTIFY_STRIDE * i;

		if (old != PCI_UNMAPPED)
			pci->host->ioeventfd(pci->opaque, old + offset,
					     dev->queue[i].kick_fd, false);
		if (base != PCI_UNMAPPED)
			pci->host->ioeventfd(pci->opaque, base + offset,
					     dev->queue[i].kick_fd, true);
	}
}

static void add_cap(struct virtio_device *dev, u8 type, u32 offset, u32 length)
{
	bool notify = type == VIRTIO_PCI_CAP_NOTIFY_CFG;
	struct virtio_pci_notify_cap cap = {
		.cap.cap_len = notify ? sizeof(cap) : sizeof(cap.cap),
		.cap.cfg_type = type,
		.cap.offset = offset,
		.cap.length = length,
		.notify_off_multiplier = NOTIFY_STRIDE,
	};
	u8 *at = pci_add_cap(&dev->pci, PCI_CAP_ID_VNDR, cap.cap.cap_len);

	memcpy(at + PCI_CAP_FLAGS, (u8 *)&cap + PCI_CAP_FLAGS,
	       cap.cap.cap_len - PCI_CAP_FLAGS);
}

static int plug(struct virtio_host *host, struct virtio_device *dev, struct err *err)
{
	struct pci_bar bar = {
		.size = BAR_SIZE,
		.fn = bar_access,
		.map = bar_map,
		.dev = dev,
	};
	const struct virtio_device_ops *ops = dev->ops;
	unsigned int i;

	dev->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->wake_fd < 0)
		return err_sys(err, "cannot create an eventfd");
	for (i = 0; i < ops->queues; i++) {
		dev->queue[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->queue[i].kick_fd < 0)
			return err_sys(err, "cannot create an eventfd");
	}
	reset(dev);
	if (pci_add(host->pci, &dev->pci, VENDOR_VIRTIO, DEVICE_MODERN + ops->type, ops->class,
		    err) < 0)
		return -1;
	dev->pci.config[PCI_REVISION_ID] = 1;
	memcpy(dev->pci.config + PCI_SUBSYSTEM_VENDOR_ID, dev->pci.config, 4);
	add_cap(dev, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_CFG,
		sizeof(struct virtio_pci_common_cfg));
	add_cap(dev, VIRTIO_PCI_CAP_ISR_CFG, ISR_CFG, 1);
	if (ops->config_len)
		add_cap(dev, VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_CFG, ops->config_len);
	add_cap(dev, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_CFG,
		NOTIFY_STRIDE * ops->queues);
	pci_add_bar(host->pci, &dev->pci, 0, &bar);
	return pci_add_msix(host->pci, &dev->pci, 0, MSIX_TABLE, ops->queues + 1,
			    err);
}

static void unplug(struct virtio_device *dev)
{
	unsigned int i;

	pci_remove(dev->host->pci, &dev->pci);
	for (i = 0; i < VIRTIO_QUEUES; i++)
		close(dev->queue[i].kick_fd);
	close(dev->wake_fd);
	free(dev);
}

/**
 * virtio_add() - make a device and put it on the bus, before the guest runs
 * @host: what it shares with others
 * @ops: what it is
 *
 * Return: the device, cleared, for features, configuration and fd to be filled in; NULL on
 * failure. virtio_remove_all() destroys and frees it.
 */
void *virtio_add(struct virtio_host *host, const struct virtio_device_ops *ops, struct err *err)
{
	struct virtio_device *dev = calloc(1, ops->size), **end = &host->first;
	unsigned int i;

	if (!dev) {
		err_sys(err, "cannot allocate a %s", ops->name);
		return NULL;
	}
	dev->fd = -1;
	dev->out_fd = -1;
	for (i = 0; i < VIRTIO_QUEUES; i++)
		dev->queue[i].kick_fd = -1;
	dev->ops = ops;
	dev->host = host;
	dev->features = TRANSPORT_FEATURES;
	pthread_mutex_init(&dev->lock, NULL);
	if (plug(host, dev, err) < 0) {
		unplug(dev);
		return NULL;
	}
	while (*end)
		end = &(*end)->next;
	*end = dev;
	return dev;
}

/**
 * virtio_pause_all() - have no device touch guest memory
 * @host: what they share
 */
void virtio_pause_all(struct virtio_host *host)
{
	struct virtio_device *dev;

	for (dev = host->first; dev; dev = dev->next) {
		pthread_mutex_lock(&dev->lock);
		if (virtio_running(dev) && dev->ops->stop)
			dev->ops->stop(dev);
		dev->paused = true;
		pthread_mutex_unlock(&dev->lock);
	}
}

/**
 * virtio_resume_all() - let all devices go on where they were
 * @host: what they share
 */
void virtio_resume_all(struct virtio_host *host)
{
	struct virtio_device *dev;

	for (dev = host->first; dev; dev = dev->next) {
		pthread_mutex_lock(&dev->lock);
		dev->paused = false;
		if (virtio_running(dev) && start(dev) < 0)
			virtio_broken(dev);
		dev->restored = false;
		pthread_mutex_unlock(&dev->lock);
	}
}

/**
 * virtio_save() - what a snapshot keeps of a paused device
 * @opaque: the device; its saved state is filled
 */
void virtio_save(void *opaque)
{
	struct virtio_device *dev = opaque;
	struct virtio_saved *s = &dev->saved;
	unsigned int i;

	pci_save(dev->host->pci, &dev->pci, &s->pci);
	s->reg = dev->reg;
	for (i = 0; i < dev->ops->queues; i++)
		memcpy(&s->queue[i], &dev->queue[i], VQ_KEPT);
}

/**
 * virtio_load() - give a new device what is in its saved state
 * @opaque: the device; left paused
 *
 * Return: 0, or -1 if that is impossible.
 */
int virtio_load(void *opaque)
{
	struct virtio_device *dev = opaque;
	const struct virtio_saved *s = &dev->saved;
	unsigned int i;

	dev->paused = true;
	dev->restored = true;
	dev->reg = s->reg;
	dev->reg.config_vector = valid_vector(dev, s->reg.config_vector);
	/* As set_status() has it: a driver is never ready without its features checked. */
	if ((s->reg.status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)) &&
	    (!(s->reg.status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	     (s->reg.driver_features & ~dev->features) || !virtio_has(dev, VIRTIO_F_VERSION_1)))
		return -1;
	for (i = 0; i < dev->ops->queues; i++) {
		struct virtio_queue *q = &dev->queue[i];

		memcpy(q, &s->queue[i], VQ_KEPT);
		q->vector = valid_vector(dev, q->vector);
		if (!q->size || q->size > VQ_SIZE || (q->size & (q->size - 1)) ||
		    (q->enabled && vq_enable(q, dev->host->ram) < 0))
			return -1;
	}
	return pci_load(dev->host->pci, &dev->pci, &s->pci);
}

static void remove_one(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	dev->quit = true;
	pthread_mutex_unlock(&dev->lock);
	if (dev->serving) {
		eventfd_write(dev->wake_fd, 1);
		pthread_join(dev->thread, NULL);
	}
	reset(dev);
	if (dev->ops->destroy)
		dev->ops->destroy(dev);
	unplug(dev);
}

/**
 * virtio_remove_all() - end all devices, when no vCPU runs any more
 * @host: what they share
 */
void virtio_remove_all(struct virtio_host *host)
{
	struct virtio_device *dev;

	while (host->first) {
		dev = host->first;
		host->first = dev->next;
		remove_one(dev);
	}
}
