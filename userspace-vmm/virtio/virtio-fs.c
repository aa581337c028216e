// SPDX-License-Identifier: GPL-2.0-only
/*
 * A directory of the host in the guest (virtio 1.2, section 5.11), served by
 * virtiofsd.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/virtio_fs.h>

#include "daemon.h"
#include "devices.h"
#include "vhost.h"

#define QUEUES 2	/* for what is urgent, and for the rest */
#define PROGRAM "/usr/lib/qemu/virtiofsd"	/* QEMU's; the one in Rust is in PATH */
#define PLACE "/tmp"	/* where the daemon sees the directory */

struct fs {
	struct vhost vhost;
	struct virtio_fs_config config;
	char *dir;
	bool ro;
};

static void destroy(struct virtio_device *dev)
{
	vhost_destroy(dev);
	free(((struct fs *)dev)->dir);
}

static const struct virtio_device_ops ops = {
	.name = "share",
	.type = VIRTIO_ID_FS,
	.class = 0x018000,	/* mass storage */
	.queues = QUEUES,
	.size = sizeof(struct fs),
	.config = offsetof(struct fs, config),
	.config_len = sizeof(struct virtio_fs_config),
	.event = vhost_user_event,
	.start = vhost_start,
	.stop = vhost_stop,
	.destroy = destroy,
};

/* DIR[,tag=T][,ro] */
static int parse(struct fs *fs, const char *arg, struct err *err)
{
	static char *const tokens[] = { "tag", "ro", NULL };
	const char *tag = NULL;
	char *rest, *value, *end;
	struct stat st;

	fs->dir = strdup(arg);
	if (!fs->dir)
		return err_sys(err, "--share");
	rest = fs->dir + strcspn(fs->dir, ",");
	if (*rest)
		*rest++ = '\0';
	while (*rest) {
		const char *at = rest;
		int token = getsubopt(&rest, tokens, &value);

		if (token == 0 && value)
			tag = value;
		else if (token == 1 && !value)
			fs->ro = true;
		else
			return err_set(err, "--share %s: what is %s? Known are tag=T and ro", arg, at);
	}
	if (stat(fs->dir, &st) < 0)
		return err_sys(err, "--share %s", fs->dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, "--share %s is not a directory", fs->dir);
	for (end = fs->dir + strlen(fs->dir) - 1; end > fs->dir && *end == '/'; end--)
		*end = '\0';
	if (!tag)
		tag = strrchr(fs->dir, '/') ? strrchr(fs->dir, '/') + 1 : fs->dir;
	if (!*tag || strlen(tag) > sizeof(fs->config.tag))
		return err_set(err, "--share %s: give a name for the guest of up to %zu bytes: tag=T",
			       arg, sizeof(fs->config.tag));
	memcpy(fs->config.tag, tag, strlen(tag));
	fs->config.num_request_queues = QUEUES - 1;
	return 0;
}

/* Of two with one tag the guest would have the first. */
static int check_tag(const struct fs *fs, struct err *err)
{
	const size_t len = sizeof(fs->config.tag);
	const struct virtio_device *dev;

	for (dev = fs->vhost.dev.host->first; dev; dev = dev->next) {
		const struct fs *other = (const struct fs *)dev;

		if (dev->ops == &ops && other != fs && !memcmp(other->config.tag, fs->config.tag, len))
			return err_set(err, "--share %s: another one has the tag %.*s; give it one with tag=T",
				       fs->dir, (int)len, (const char *)fs->config.tag);
	}
	return 0;
}

/*
 * In the daemon's process: the directory at a place of which no character means
 * anything to the daemon's options; and read-only, for which it has none.
 */
static int show_directory(void *opaque)
{
	const struct fs *fs = opaque;
	struct mount_attr attr = { .attr_set = fs->ro ? MOUNT_ATTR_RDONLY : 0 };
	int tree;

	if (unshare(CLONE_NEWNS) < 0) {
		dprintf(STDERR_FILENO, "--share: %s\n", errno == EPERM ? "needs root" :
			strerror(errno));
		return -1;
	}
	tree = open_tree(AT_FDCWD, fs->dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree >= 0 && !mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) &&
	    !mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) &&
	    !move_mount(tree, "", AT_FDCWD, PLACE, MOVE_MOUNT_F_EMPTY_PATH))
		return 0;
	dprintf(STDERR_FILENO, "--share %s: %s\n", fs->dir, strerror(errno));
	return -1;
}

/**
 * fs_create() - --share
 * @host: gets it
 * @arg: the option's argument
 */
int fs_create(struct virtio_host *host, const char *arg, struct err *err)
{
	struct fs *fs = vhost_add(host, &ops, err);
	char socket[24];
	bool qemus = !access(PROGRAM, X_OK);
	char *const argv[] = {
		qemus ? PROGRAM : "virtiofsd", "-f",
		/* QEMU's also says what is not wrong; the one in Rust does not know the option. */
		"-o", qemus ? "source=" PLACE ",xattr,log_level=warn" : "source=" PLACE ",xattr",
		socket, NULL,
	};
	int listener;

	if (!fs || parse(fs, arg, err) < 0 || check_tag(fs, err) < 0 ||
	    vhost_user_listen(&fs->vhost, &listener, err) < 0)
		return -1;
	snprintf(socket, sizeof(socket), "--fd=%d", listener);
	snprintf(fs->vhost.daemon.serves, sizeof(fs->vhost.daemon.serves), "--share %s", fs->dir);
	fs->vhost.daemon.prepare = show_directory;
	fs->vhost.daemon.jails_itself = true;
	fs->vhost.daemon.opaque = fs;
	if (vhost_user_start(&fs->vhost, argv, &listener, 1, err) < 0)
		return -1;
	fs->vhost.dev.lost = "virtiofsd alone knows what the guest has open";
	fs->vhost.dev.features &= fs->vhost.offered;
	return 0;
}
