// SPDX-License-Identifier: GPL-2.0-only
/*
 * The argument of --disk, and locks on the files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"

/**
 * disk_parse() - FILE[,ro][,overlay[=FILE]][,format=FORMAT]
 * @disk: filled; call disk_forget() also after a failure
 * @arg: the text
 *
 * The format is never guessed from what is in the file: a guest wrote that.
 */
int disk_parse(struct disk *disk, const char *arg, struct err *err)
{
	static char *const tokens[] = { "ro", "overlay", "format", NULL };
	char *rest, *value;

	memset(disk, 0, sizeof(*disk));
	disk->path = strdup(arg);
	if (!disk->path)
		return err_sys(err, "--disk %s", arg);
	rest = strchr(disk->path, ',');
	if (rest)
		*rest++ = '\0';
	while (rest && *rest) {
		const char *at = rest;
		int token = getsubopt(&rest, tokens, &value);

		if (token == 0 && !value) {
			disk->ro = true;
		} else if (token == 1 && (!value || *value)) {
			disk->overlay = true;
			disk->layer = value;
		} else if (token == 2 && value && *value) {
			disk->format = strcmp(value, "raw") ? value : NULL;
		} else {
			return err_set(err, "--disk %s: what is %s? Known are ro, overlay, overlay=FILE and format=FORMAT",
				       arg, at);
		}
	}
	if (!*disk->path)
		return err_set(err, "--disk %s: no file is named", arg);
	if (disk->ro && disk->overlay)
		return err_set(err, "--disk %s: ro and overlay exclude each other", arg);
	return 0;
}

/** disk_forget() - free what disk_parse() took */
void disk_forget(struct disk *disk)
{
	free(disk->path);
}

/**
 * disk_open() - open an image, and hold it against other machines
 * @path: a file or block device
 * @ro: share it with others that only read
 *
 * Return: a file descriptor; closing it gives the image up.
 *
 * One byte is locked, below those that QEMU's programs lock for themselves.
 */
int disk_open(const char *path, bool ro, struct err *err)
{
	struct flock lock = {
		.l_type = ro ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
		.l_len = 1,
	};
	/* O_NONBLOCK: to refuse a FIFO we must not wait for its other end */
	int flags = (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	int fd = open(path, flags | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_sys(err, "cannot open disk %s%s", path,
			       !ro && (errno == EACCES || errno == EROFS) ?
			       " for writing (add ,ro or ,overlay)" : "");
	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		err_set(err, "disk %s is neither a file nor a block device", path);
	else if (fcntl(fd, F_SETFL, flags) < 0)
		err_sys(err, "cannot use disk %s", path);
	else if (fcntl(fd, F_OFD_SETLK, &lock) >= 0)
		return fd;
	else if (errno == EAGAIN || errno == EACCES)
		err_set(err, "disk %s is in use by another machine; %s", path,
			ro ? "it writes to it" : "share it with ,ro or ,overlay on both sides");
	else
		err_sys(err, "cannot lock disk %s", path);
	close(fd);
	return -1;
}
