// SPDX-License-Identifier: GPL-2.0-only
/*
 * Open the device node, and say what to do when that fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "keel.h"

static int explain_denied(const char *path, struct err *err)
{
	FILE *f = fopen("/etc/group", "re");	/* not the name service: keel may be static */
	struct group *g = NULL;
	struct stat st;

	if (!stat(path, &st) && st.st_gid && (st.st_mode & 060) == 060) {
		while (f && (g = fgetgrent(f)) && g->gr_gid != st.st_gid)
			;
	}
	if (f)
		fclose(f);
	return err_set(err, "%s: permission denied; %s%s%s", path,
		       g ? "type: sudo usermod -aG " : "run it as root (sudo)",
		       g ? g->gr_name : "", g ? " $USER, and log in again" : "");
}

/* Here errno is that of open(). */
static int explain_open(const char *path, struct err *err)
{
	switch (errno) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return err_set(err, "%s: no such device; load the module (%s), see keel doctor",
			       path, strcmp(path, "/dev/kvm") ? LOAD_KEEL :
			       "sudo modprobe kvm_intel or kvm_amd");
	case EACCES:
	case EPERM:
		return explain_denied(path, err);
	case EBUSY:
		return err_set(err, "%s: another hypervisor holds the CPU's virtualization extension; see keel doctor",
			       path);
	default:
		return err_sys(err, "cannot open %s", path);
	}
}

/**
 * device_open() - open the device node of a hypervisor
 * @path: /dev/keel, or /dev/kvm for stock KVM
 * @err: filled on failure, with what to type
 *
 * Return: a file descriptor that has been asked for its API version.
 */
int device_open(const char *path, struct err *err)
{
	int fd, version;

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return explain_open(path, err);
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version == KVM_API_VERSION)
		return fd;
	close(fd);
	if (version < 0)
		return err_set(err, "%s is not a hypervisor's device node; give --device /dev/keel or /dev/kvm",
			       path);
	return err_set(err, "%s: API version is %d, %d is needed", path,
		       version, KVM_API_VERSION);
}
