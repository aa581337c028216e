// SPDX-License-Identifier: GPL-2.0-only
/*
 * From options to devices.
 */
#include "devices.h"
#include "disk.h"

/**
 * devices_share_memory() - does a daemon have to see guest memory?
 * @cfg: the options
 * @share: filled
 * @err: filled on failure
 */
int devices_share_memory(const struct run_config *cfg, bool *share, struct err *err)
{
	struct disk disk;
	unsigned int i;
	int ret = 0;

	*share = false;
	for (i = 0; i < cfg->device_count && !ret; i++) {
		*share = *share || cfg->devices[i].kind == DEVICE_SHARE;
		if (cfg->devices[i].kind != DEVICE_DISK)
			continue;
		ret = disk_parse(&disk, cfg->devices[i].arg, err);
		*share = *share || !disk_is_raw(&disk);
		disk_forget(&disk);
	}
	return ret;
}

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
		[DEVICE_NET] = net_create,
		[DEVICE_RNG] = rng_create,
		[DEVICE_CONSOLE] = console_create,
		[DEVICE_BALLOON] = balloon_create,
		[DEVICE_VSOCK] = vsock_create,
		[DEVICE_SHARE] = fs_create,
	};
	unsigned int i;

	for (i = 0; i < cfg->device_count; i++) {
		const struct device_option *o = &cfg->devices[i];

		if (create[o->kind](host, o->arg, err) < 0)
			return -1;
	}
	return 0;
}
