// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the guest gives back (virtio 1.2, section 5.5): what it is asked
 * for, and what it reports to be free.
 */
#include <sys/mman.h>
#include <linux/virtio_balloon.h>

#include "devices.h"

#define INFLATE 0
#define DEFLATE 1
#define REPORT 2	/* queues of features that are not offered do not count */

#define PAGE 4096ULL

struct balloon {
	struct virtio_device dev;
	struct virtio_balloon_config config;
};

static void give_back(const struct guest_ram *ram, u8 *p, u64 len)
{
	u8 *start = (u8 *)ALIGN_UP((uintptr_t)p, PAGE);
	u8 *end = (u8 *)ALIGN_DOWN((uintptr_t)p + len, PAGE);

	/* Only advice: a host that cannot take it goes without. */
	if (start < end)
		madvise(start, end - start, ram->fd < 0 ? MADV_DONTNEED : MADV_REMOVE);
}

static void inflate(struct virtio_device *dev, struct vq_chain *chain)
{
	const struct guest_ram *ram = dev->host->ram;
	u32 pfn;

	/* An address that is not memory is the guest's loss. */
	while (vq_read(chain, &pfn, sizeof(pfn)) == sizeof(pfn)) {
		u8 *p = ram_ptr(ram, pfn * PAGE, PAGE);

		if (p)
			give_back(ram, p, PAGE);
	}
}

static void process(struct virtio_device *dev, unsigned int queue)
{
	struct vq_chain chain;
	unsigned int i;

	while (virtio_pop(dev, queue, &chain)) {
		if (queue == INFLATE)
			inflate(dev, &chain);
		for (i = chain.out; queue == REPORT && i < chain.out + chain.in; i++)
			give_back(dev->host->ram, chain.iov[i].iov_base,
				  chain.iov[i].iov_len);
		virtio_push(dev, queue, &chain, 0);
	}
}

/* The driver tells how far it has come. */
static void write_config(struct virtio_device *dev, u64 offset, u64 value)
{
	struct balloon *b = (struct balloon *)dev;

	if (offset == offsetof(struct virtio_balloon_config, actual))
		b->config.actual = value;
}

static const struct virtio_device_ops ops = {
	.name = "balloon",
	.type = VIRTIO_ID_BALLOON,
	.class = 0x00ff00,	/* no class */
	.queues = 3,
	.size = sizeof(struct balloon),
	.config = offsetof(struct balloon, config),
	.config_len = sizeof(struct virtio_balloon_config),
	.process = process,
	.write_config = write_config,
};

int balloon_create(struct virtio_host *host, const char *arg, struct err *err)
{
	struct balloon *b;
	u64 mib;

	if (!whole_number(arg, &mib) || mib >= host->ram->size / MIB)
		return err_set(err, "--balloon %s: give a number of MiB, less than --mem; 0 for what is free only",
			       arg);
	b = virtio_add(host, &ops, err);
	if (!b)
		return -1;
	b->config.num_pages = mib * (MIB / PAGE);
	b->dev.features |= 1ULL << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
			   1ULL << VIRTIO_BALLOON_F_REPORTING;
	return 0;
}
