// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel run --rootfs: an initial ramdisk with a program (guest-init.c) that mounts
 * the directory, and the modules that the guest's kernel needs for that.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "keel.h"
#include "rootfs.h"

#define MODULES_MAX 64

/* The program, as bytes. */
extern const char guest_init[], guest_init_end[];
__asm__(".pushsection .rodata\n"
	"guest_init: .incbin \"guest-init\"\n"
	"guest_init_end: .popsection\n");

/* Whose modules are looked for, and what was found, in the order to load. */
struct modules {
	char release[65];
	char *path[MODULES_MAX];
	unsigned int count;
};

/* A file or directory of a cpio archive, in the format that Linux unpacks. */
static void add_file(FILE *f, const char *name, unsigned int mode, const char *data, size_t len)
{
	static unsigned int inode;

	fprintf(f, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x%s%c", ++inode,
		mode, 0, 0, 1, 0, len, 0, 0, 0, 0, strlen(name) + 1, 0, name, 0);
	fseek(f, ALIGN_UP(ftell(f), 4), SEEK_SET);
	fwrite(data, 1, len, f);
	fseek(f, ALIGN_UP(ftell(f), 4), SEEK_SET);
}

static int add_module(FILE *f, const struct modules *m, unsigned int i, struct err *err)
{
	char name[32], *data = NULL;
	struct stat st;
	FILE *in;
	int ret = -1;

	in = fopen(m->path[i], "re");
	if (in && !fstat(fileno(in), &st))
		data = malloc(st.st_size);
	if (data && fread(data, 1, st.st_size, in) == (size_t)st.st_size) {
		snprintf(name, sizeof(name), ROOTFS_MODULES "/%u", i);
		add_file(f, name + 1, S_IFREG | 0600, data, st.st_size);
		ret = 0;
	} else {
		err_sys(err, "cannot read %s", m->path[i]);
	}
	free(data);
	if (in)
		fclose(in);
	return ret;
}

static int need_path(struct modules *m, const char *path)
{
	unsigned int i;

	for (i = 0; i < m->count; i++) {
		if (!strcmp(m->path[i], path))
			return 0;
	}
	if (m->count == MODULES_MAX)
		return -1;
	m->path[m->count] = strdup(path);
	return m->path[m->count++] ? 0 : -1;
}

/*
 * modprobe knows what each of them needs, and in which order. A kernel of which no
 * list is here has all built in, or says in the guest what it lacks.
 */
static int need_modules(struct modules *m, const struct run_config *cfg, const char *mode,
			struct err *err)
{
	static const char *const drivers[] = {
		[DEVICE_DISK] = "virtio_blk",
		[DEVICE_NET] = "virtio_net",
		[DEVICE_RNG] = "virtio_rng",
		[DEVICE_CONSOLE] = "virtio_console",
		[DEVICE_BALLOON] = "virtio_balloon",
		[DEVICE_VSOCK] = "vmw_vsock_virtio_transport",
		[DEVICE_SHARE] = "virtiofs",
	};
	char command[256 + MAX_DEVICES * 32], path[256], *line = NULL;
	unsigned int i, kind;
	size_t size = 0;
	int at, ret = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", m->release);
	if (!*m->release || access(path, F_OK))
		return 0;
	at = sprintf(command, "PATH=$PATH:/usr/sbin:/sbin; exec 2>&1 modprobe -aDS '%s' virtio_pci %s",
		     m->release, strcmp(mode, "overlay") ? "" : mode);
	for (i = 0; i < cfg->device_count; i++) {
		kind = cfg->devices[i].kind;
		if (kind < ARRAY_SIZE(drivers) && drivers[kind])
			at += sprintf(command + at, " %s", drivers[kind]);
	}
	f = popen(command, "re");
	while (f && !ret && getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "insmod %255s", path) == 1 && need_path(m, path) < 0)
			ret = err_set(err, "--rootfs: too many modules");
		else if (strncmp(line, "insmod ", 7) && strncmp(line, "builtin ", 8))
			ret = err_set(err, "--rootfs: %s", line);
	}
	free(line);
	if (!f || (pclose(f) && !ret))
		return err_set(err, "--rootfs: modprobe does not tell what modules the kernel needs");
	return ret;
}

/* What a bzImage says it is; of other files nothing is known. */
static void read_release(const char *kernel, char release[65])
{
	FILE *f = fopen(kernel, "re");
	u8 head[0x210] = { 0 };

	if (!f)
		return;
	if (fread(head, 1, sizeof(head), f) != sizeof(head) || memcmp(head + 0x202, "HdrS", 4) ||
	    fseek(f, 0x200 + head[0x20e] + 256 * head[0x20f], SEEK_SET) ||
	    fscanf(f, "%64[A-Za-z0-9._+~-]", release) != 1)
		*release = '\0';
	fclose(f);
}

static void add_command(FILE *f, const struct run_config *cfg, const char *mode)
{
	bool terminal = isatty(STDIN_FILENO) || cfg->detach;
	const char *term = getenv("TERM");
	char **arg = cfg->command, *text = NULL;
	size_t len = 0;
	FILE *strings = open_memstream(&text, &len);

	if (!strings)
		return;
	fprintf(strings, "%s%c%s%c", mode, 0, !terminal ? "" : term ? term : "linux", 0);
	while (arg && *arg)
		fprintf(strings, "%s%c", *arg++, 0);
	fclose(strings);
	add_file(f, ROOTFS_COMMAND + 1, S_IFREG | 0600, text, len);
	free(text);
}

/* Return: a file without a name, or -1. */
static int make_ramdisk(const struct run_config *cfg, const char *mode, struct err *err)
{
	struct modules m = { .count = 0 };
	unsigned int i;
	FILE *f = NULL;
	int fd, ret;

	read_release(cfg->kernel, m.release);
	ret = need_modules(&m, cfg, mode, err);
	fd = memfd_create("initrd", MFD_CLOEXEC);
	if (!ret)
		f = fd < 0 ? NULL : fdopen(dup(fd), "w");
	if (!ret && !f)
		ret = err_sys(err, "--rootfs");
	if (f) {
		add_file(f, "init", S_IFREG | 0700, guest_init, guest_init_end - guest_init);
		add_file(f, ROOTFS_MODULES + 1, S_IFDIR | 0700, NULL, 0);
		add_command(f, cfg, mode);
		for (i = 0; i < m.count && !ret; i++)
			ret = add_module(f, &m, i, err);
		add_file(f, "TRAILER!!!", 0, NULL, 0);
		if (fclose(f) && !ret)
			ret = err_sys(err, "--rootfs");
	}
	for (i = 0; i < m.count; i++)
		free(m.path[i]);
	return ret ? ret : fd;
}

/**
 * rootfs_prepare() - turn --rootfs into a share and an initial ramdisk
 * @cfg: the options; changed
 */
int rootfs_prepare(struct run_config *cfg, struct err *err)
{
	size_t len = strcspn(cfg->rootfs, ",");
	const char *mode = cfg->rootfs[len] ? cfg->rootfs + len + 1 : "rw";
	struct utsname host;
	char *text;
	int fd;

	if (strcmp(mode, "rw") && strcmp(mode, "ro") && strcmp(mode, "overlay"))
		return err_set(err, "--rootfs %s: what is %s? Known are ro and overlay", cfg->rootfs, mode);
	if (cfg->initrd)
		return err_set(err, "--rootfs makes its own initial ramdisk; leave out --initrd");
	if (cfg->device_count == MAX_DEVICES)
		return err_set(err, "--rootfs is one device too many");
	if (asprintf(&text, "%.*s,tag=" ROOTFS_TAG "%s", (int)len, cfg->rootfs,
		     strcmp(mode, "rw") ? ",ro" : "") < 0)
		return err_sys(err, "--rootfs");
	cfg->devices[cfg->device_count++] = (struct device_option){ DEVICE_SHARE, text };
	if (!cfg->kernel && (uname(&host) < 0 || asprintf(&text, "/boot/vmlinuz-%s", host.release) < 0))
		return err_sys(err, "--rootfs");
	if (!cfg->kernel)
		cfg->kernel = text;
	fd = make_ramdisk(cfg, mode, err);
	if (fd < 0)
		return -1;
	if (asprintf(&text, "/proc/self/fd/%d", fd) < 0)
		return err_sys(err, "--rootfs");
	cfg->initrd = text;
	return 0;
}
