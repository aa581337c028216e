// SPDX-License-Identifier: GPL-2.0-only
/*
 * From options to devices.
 */
#include "devices.h"

/**
 * devices_create() - add all devices that the user wants, in that order
 * @host: what they share
 * @cfg: the options
 * @err: filled on failure; call virtio_remove_all() all the same
 */
int devices_create(struct virtio_host *host, const struct run_config *cfg,
		   struct err *err)
{
	static int (*const create[])(struct virtio_host *host, const char *arg,
				     struct err *err) = {
		[DEVICE_DISK] = blk_create,
		[DEVICE_RNG] = rng_create,
	};
	unsigned int i;

	for (i = 0; i < cfg->device_count; i++) {
		const struct device_option *o = &cfg->devices[i];

		if (create[o->kind](host, o->arg, err) < 0)
			return -1;
	}
	return 0;
}
