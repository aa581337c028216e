// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk that qemu-storage-daemon serves by vhost-user: overlays, and other
 * formats than raw.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/virtio_blk.h>

#include "daemon.h"
#include "devices.h"
#include "disk.h"
#include "vhost.h"

#define BLK_FEATURES (1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE | \
		      1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_RO | \
		      1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES | \
		      1ULL << VIRTIO_BLK_F_TOPOLOGY)

/* Of the configuration: daemons refuse to be asked for more than they know. */
#define CONFIG_LEN offsetof(struct virtio_blk_config, max_secure_erase_sectors)

struct blk_user {
	struct vhost vhost;
	struct virtio_blk_config config;
	int file, layer;	/* held by their locks; -1: none */
};

static void destroy(struct virtio_device *dev)
{
	struct blk_user *b = (struct blk_user *)dev;

	vhost_destroy(dev);
	close(b->file);
	close(b->layer);
}

static const struct virtio_device_ops ops = {
	.name = "disk",
	.type = VIRTIO_ID_BLOCK,
	.class = 0x018000,	/* mass storage */
	.queues = 1,
	.size = sizeof(struct blk_user),
	.config = offsetof(struct blk_user, config),
	.config_len = CONFIG_LEN,
	.event = vhost_user_event,
	.start = vhost_start,
	.stop = vhost_stop,
	.destroy = destroy,
};

/* A new layer: a file that is kept, or one that nobody else ever sees. */
static int create_layer(struct blk_user *b, const struct disk *disk, struct err *err)
{
	const char *dir = getenv("TMPDIR"), *format = disk->format ? disk->format : "raw";
	char path[4096], layer[64];
	char *base = realpath(disk->path, NULL);
	struct daemon img = { 0 };
	int fds[2] = { -1, b->file };
	int ret;

	if (disk->layer) {
		b->layer = open(disk->layer, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	} else {
		snprintf(path, sizeof(path), "%s/keel-XXXXXX", dir ? dir : "/var/tmp");
		b->layer = mkostemp(path, O_CLOEXEC);
		if (b->layer >= 0)
			unlink(path);
	}
	fds[0] = b->layer;
	snprintf(layer, sizeof(layer), "/proc/self/fd/%d", b->layer);
	if (b->layer < 0 || !base) {
		ret = err_sys(err, "cannot create the overlay %s",
			      disk->layer ? disk->layer : path);
	} else {
		char *const argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-b", base,
				 "-F", (char *)format, layer, NULL };

		ret = daemon_start(&img, argv, fds, 2, err);
		if (!ret)
			ret = daemon_wait(&img, err);
	}
	free(base);
	if (ret && disk->layer && b->layer >= 0)
		unlink(disk->layer);
	return ret;
}

static int open_files(struct blk_user *b, const struct disk *disk, struct err *err)
{
	b->file = disk_open(disk->path, disk->ro || disk->overlay, err);
	if (b->file < 0)
		return -1;
	if (!disk->overlay)
		return 0;
	if ((!disk->layer || access(disk->layer, F_OK)) &&
	    create_layer(b, disk, err) < 0)
		return -1;
	if (!disk->layer)
		return 0;
	close(b->layer);	/* a new one has no lock yet */
	b->layer = disk_open(disk->layer, false, err);
	return b->layer < 0 ? -1 : 0;
}

static int start_daemon(struct blk_user *b, const struct disk *disk, int listener,
			struct err *err)
{
	const char *format = disk->format ? disk->format : "raw";
	int fds[] = { listener, b->file, b->layer };
	char node[512], export[128];
	char *const argv[] = { "qemu-storage-daemon", "--blockdev", node, "--export", export, NULL };

	/*
	 * The command line says what is above what, not a header in a file
	 * that others may have written.
	 */
	if (disk->overlay)
		snprintf(node, sizeof(node),
			 "driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename=/proc/self/fd/%d,backing.driver=%s,backing.read-only=on,backing.file.driver=file,backing.file.filename=/proc/self/fd/%d",
			 b->layer, format, b->file);
	else
		snprintf(node, sizeof(node),
			 "driver=%s,node-name=disk,discard=unmap,read-only=%s,file.driver=file,file.filename=/proc/self/fd/%d",
			 format, disk->ro ? "on" : "off", b->file);
	snprintf(b->vhost.daemon.serves, sizeof(b->vhost.daemon.serves), "--disk %s", disk->path);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=disk,node-name=disk,addr.type=fd,addr.str=%d,writable=%s",
		 listener, disk->ro ? "off" : "on");
	return vhost_user_start(&b->vhost, argv, fds, b->layer >= 0 ? 3 : 2, err);
}

/**
 * blk_user_create() - a disk that is not a raw file
 * @host: gets it
 * @disk: what the option said
 */
int blk_user_create(struct virtio_host *host, const struct disk *disk, struct err *err)
{
	struct vhost *v = vhost_add(host, &ops, err);
	struct blk_user *b = (struct blk_user *)v;
	int listener;

	if (!v)
		return -1;
	b->file = -1;
	b->layer = -1;
	if (open_files(b, disk, err) < 0 || vhost_user_listen(v, &listener, err) < 0 ||
	    start_daemon(b, disk, listener, err) < 0)
		return -1;
	if (vhost_user_get_config(v, &b->config, CONFIG_LEN, err) < 0)
		return daemon_failed(&v->daemon, err);
	if (disk->overlay && !disk->layer)
		v->dev.lost = "its overlay has no name, and ends with the machine";
	v->dev.features = (v->dev.features | BLK_FEATURES) & v->offered;
	return 0;
}
