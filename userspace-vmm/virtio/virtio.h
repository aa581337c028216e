/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Virtio 1.x devices on PCI, split rings.
 */
#ifndef VIRTIO_H
#define VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "boot.h"
#include "pci.h"

#define VIRTIO_QUEUES 3
#define VQ_SIZE 256		/* the largest ring, and the longest chain */

/**
 * struct virtio_queue - a ring; a snapshot keeps what comes before @desc
 * @gpa: descriptors, available ring, used ring, as the guest wrote them
 * @size: what the guest wants, a power of two; VQ_SIZE at most
 * @enabled: the pointers are valid; the guest cannot change what they are
 * @vector: what to raise when we have something for it
 * @signalled: @next_used at the last interrupt decision
 * @event_idx: the guest took VIRTIO_RING_F_EVENT_IDX
 * @kick_fd: eventfd: the guest has something for us
 */
struct virtio_queue {
	u64 gpa[3];
	u16 size;
	u16 enabled;
	u16 vector;
	u16 next_avail;
	u16 next_used;
	u16 signalled;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	bool event_idx;
	int kick_fd;
};

#define VQ_KEPT offsetof(struct virtio_queue, desc)

/**
 * struct vq_chain - a request: what to read, then what to write
 * @head: names it in the used ring
 * @out: entries of @iov that the guest has filled
 * @in: entries behind those, for us to fill
 */
struct vq_chain {
	u16 head;
	unsigned int out;
	unsigned int in;
	struct iovec iov[VQ_SIZE];
};

/* virtio-queue.c: the one place where what is in a ring is checked. */
int vq_enable(struct virtio_queue *q, const struct guest_ram *ram);
int vq_pop(struct virtio_queue *q, const struct guest_ram *ram,
	   struct vq_chain *chain);
void vq_push(struct virtio_queue *q, const struct vq_chain *chain, u32 written);
bool vq_wants_interrupt(struct virtio_queue *q);
u64 vq_len(const struct iovec *iov, unsigned int n);
size_t vq_read(struct vq_chain *chain, void *to, size_t len);
size_t vq_write(struct vq_chain *chain, const void *from, size_t len);

struct virtio_device;

/**
 * struct virtio_device_ops - what a device is
 * @name: for messages and statistics
 * @type: VIRTIO_ID_*
 * @class: PCI class
 * @queues: how many, VIRTIO_QUEUES at most
 * @size: of its structure, which starts with a struct virtio_device
 * @config: where in there its configuration space is
 * @config_len: how much of that the guest sees
 * @process: the guest has kicked a queue
 * @event: virtio_device.fd is readable, or out_fd writable
 * @start: the driver is ready, and has chosen features; 0, or -1: it failed
 * @stop: finish all requests, and touch guest memory no more: the driver resets the
 *	device, or it is paused, and started again where it was
 * @write_config: a store to the configuration
 * @destroy: give back what the creation took; not the structure. Closing -1 is harmless
 *
 * All of them are called with the device's lock held, and all are optional. A
 * device without @process is served by others: it hands its eventfds over in
 * @start.
 */
struct virtio_device_ops {
	const char *name;
	u16 type;
	u32 class;
	unsigned int queues;
	size_t size, config, config_len;
	void (*process)(struct virtio_device *dev, unsigned int queue);
	void (*event)(struct virtio_device *dev);
	int (*start)(struct virtio_device *dev);
	void (*stop)(struct virtio_device *dev);
	void (*write_config)(struct virtio_device *dev, u64 offset, u64 value);
	void (*destroy)(struct virtio_device *dev);
};

/* Registers of a device. */
struct virtio_registers {
	u64 driver_features;
	u32 feature_select[2];	/* device's, driver's */
	u16 config_vector;
	u16 queue_select;
	u8 status;
	u8 isr;
	u8 generation;
};

/* What a snapshot keeps of a device; configurations come from the options. */
struct virtio_saved {
	struct pci_saved pci;
	struct virtio_registers reg;
	struct virtio_queue queue[VIRTIO_QUEUES];
};

/**
 * struct virtio_device - the first member of every device
 * @features: what is offered
 * @fd: polled while the driver is ready, for @event; -1: none
 * @out_fd: one that has to become writable; -1: none
 * @lost: why a snapshot cannot keep it; NULL: it can
 */
struct virtio_device {
	struct pci_device pci;
	const struct virtio_device_ops *ops;
	struct virtio_host *host;
	struct virtio_device *next;
	u64 features;
	int fd;
	int out_fd;
	const char *lost;
	struct virtio_saved saved;

	pthread_mutex_t lock;	/* everything below, and both fds */
	struct virtio_registers reg;
	struct virtio_queue queue[VIRTIO_QUEUES];
	bool paused;		/* as if there were no driver */
	bool restored;		/* since the last start */
	bool serving;		/* thread runs */
	bool quit;
	unsigned int budget;	/* requests until others may have the lock */
	int wake_fd;		/* eventfd: look at @quit and @fd again */
	pthread_t thread;
};

/* What all devices of a machine share. */
struct virtio_host {
	struct pci *pci;
	struct guest_ram *ram;
	const char *machine;	/* its name, to derive stable ids from */
	const char *socket;	/* its control socket; others lie beside it */
	struct display *display;	/* NULL: none */
	int wake_fd;		/* eventfd: the main thread's */
	struct virtio_device *first;
};

void *virtio_add(struct virtio_host *host, const struct virtio_device_ops *ops, struct err *err);
int virtio_serve_all(struct virtio_host *host, struct err *err);
void virtio_remove_all(struct virtio_host *host);
void virtio_pause_all(struct virtio_host *host);
void virtio_resume_all(struct virtio_host *host);
void virtio_save(void *dev);
int virtio_load(void *dev);

int virtio_pop(struct virtio_device *dev, unsigned int queue,
	       struct vq_chain *chain);
void virtio_push(struct virtio_device *dev, unsigned int queue,
		 const struct vq_chain *chain, u32 written);
void virtio_broken(struct virtio_device *dev);
void virtio_config_changed(struct virtio_device *dev);
void virtio_poll_again(struct virtio_device *dev);

static inline bool virtio_running(const struct virtio_device *dev)
{
	return (dev->reg.status & VIRTIO_CONFIG_S_DRIVER_OK) &&
	       !(dev->reg.status & VIRTIO_CONFIG_S_NEEDS_RESET) && !dev->paused;
}

static inline bool virtio_has(const struct virtio_device *dev, unsigned int bit)
{
	return dev->reg.driver_features >> bit & 1;
}

#endif
