/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What --disk names, and who may use it.
 */
#ifndef DISK_H
#define DISK_H

#include "virtio.h"

struct disk {
	char *path;		/* the copy of the argument that all point into */
	bool ro;
	bool overlay;
	const char *layer;	/* of the overlay; NULL: nothing is kept */
	const char *format;	/* of the file; NULL: raw */
};

/* Served in this program; others are qemu-storage-daemon's. */
static inline bool disk_is_raw(const struct disk *disk)
{
	return !disk->overlay && !disk->format;
}

int disk_parse(struct disk *disk, const char *arg, struct err *err);
void disk_forget(struct disk *disk);
int disk_open(const char *path, bool ro, struct err *err);

/* virtio-blk-user.c */
int blk_user_create(struct virtio_host *host, const struct disk *disk,
		    struct err *err);

#endif
