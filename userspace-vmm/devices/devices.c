// SPDX-License-Identifier: GPL-2.0-only
/*
 * From options to devices.
 */
#include <stdio.h>
#include <string.h>

#include "devices.h"
#include "disk.h"

static const struct {
	const char *name;	/* in snapshots */
	int (*create)(struct virtio_host *host, const char *arg, struct err *err);
} kinds[] = {
	[DEVICE_DISK] = { "disk", blk_create },
	[DEVICE_NET] = { "net", net_create },
	[DEVICE_RNG] = { "rng", rng_create },
	[DEVICE_CONSOLE] = { "console", console_create },
	[DEVICE_BALLOON] = { "balloon", balloon_create },
	[DEVICE_VSOCK] = { "vsock", vsock_create },
	[DEVICE_SHARE] = { "share", fs_create },
	[DEVICE_DISPLAY] = { "display", display_create },
};

/**
 * devices_to_text() - the options, for a snapshot
 * @text: filled: a name and an argument for each, then an empty name
 * @size: of @text
 *
 * Return: 0, or -1 if there is not enough room.
 */
int devices_to_text(const struct run_config *cfg, char *text, size_t size)
{
	size_t at = 0;
	unsigned int i;
	int n;

	memset(text, 0, size);
	for (i = 0; i < cfg->device_count; i++) {
		const struct device_option *o = &cfg->devices[i];

		n = snprintf(text + at, size - at, "%s%c%s", kinds[o->kind].name, 0,
			     o->arg ? o->arg : "");
		at += n + 1;
		if (at >= size)
			return -1;
	}
	return 0;
}

/**
 * devices_from_text() - the options again
 * @cfg: gets them; they point into @text
 * @text: what devices_to_text() made; not to be trusted, but for a zero at its end
 * @size: of @text
 *
 * Return: 0, or -1 if it is not that.
 */
int devices_from_text(struct run_config *cfg, const char *text, size_t size)
{
	const char *end = text + size, *arg;
	unsigned int i;

	for (; text < end && *text; text = arg + strlen(arg) + 1) {
		arg = text + strlen(text) + 1;
		for (i = 0; i < ARRAY_SIZE(kinds) && strcmp(kinds[i].name, text); i++)
			;
		if (arg >= end || i == ARRAY_SIZE(kinds) || cfg->device_count == MAX_DEVICES)
			return -1;
		cfg->devices[cfg->device_count++] = (struct device_option){ i, arg };
	}
	return 0;
}

/** devices_share_memory() - does a daemon have to see guest memory? */
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
 * @err: filled on failure; call virtio_remove_all() all the same
 */
int devices_create(struct virtio_host *host, const struct run_config *cfg,
		   struct err *err)
{
	unsigned int i;

	for (i = 0; i < cfg->device_count; i++) {
		const struct device_option *o = &cfg->devices[i];

		if (kinds[o->kind].create(host, o->arg, err) < 0)
			return -1;
	}
	return 0;
}
