// SPDX-License-Identifier: GPL-2.0-only
/*
 * Entropy (virtio 1.2, section 5.4): the smallest device.
 */
#include <sys/random.h>

#include "devices.h"

static void process(struct virtio_device *dev, unsigned int queue)
{
	struct vq_chain chain;
	u8 random[256];
	ssize_t n;

	while (virtio_pop(dev, queue, &chain)) {
		/* As little as it likes; a guest asks again. */
		n = getrandom(random, sizeof(random), 0);
		n = n > 0 ? vq_write(&chain, random, n) : 0;
		virtio_push(dev, queue, &chain, n);
	}
}

static const struct virtio_device_ops ops = {
	.name = "rng",
	.type = VIRTIO_ID_RNG,
	.class = 0x00ff00,	/* no class */
	.queues = 1,
	.size = sizeof(struct virtio_device),
	.process = process,
};

int rng_create(struct virtio_host *host, const char *arg, struct err *err)
{
	return virtio_add(host, &ops, err) ? 0 : -1;
}
