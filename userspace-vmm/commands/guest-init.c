// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first program of a guest of keel run --rootfs: it mounts the directory,
 * runs the command in it, and tells the machine how that ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <linux/module.h>

#include "rootfs.h"

#define ARGS_MAX 4096
#define EXIT_NOT_RUN 127	/* as a shell has it */

static void end(int status)
{
	kill(-1, SIGKILL);
	sync();
	tcdrain(STDOUT_FILENO);
	if (!ioperm(EXIT_PORT, 1, 1))
		outb(status, EXIT_PORT);
	dprintf(STDERR_FILENO, "keel: status %d cannot be told to the host\n", status);
	reboot(RB_POWER_OFF);
}

static void failed(const char *what, const char *hint)
{
	dprintf(STDERR_FILENO, "keel: %s: %s%s\n", what, strerror(errno), hint);
	end(EXIT_NOT_RUN);
}

static void load_modules(void)
{
	char path[32], magic[4];
	int fd, i;

	for (i = 0;; i++) {
		snprintf(path, sizeof(path), ROOTFS_MODULES "/%d", i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		if (pread(fd, magic, sizeof(magic), 0) != sizeof(magic) ||
		    syscall(SYS_finit_module, fd, "", memcmp(magic, "\177ELF", 4) ?
			    MODULE_INIT_COMPRESSED_FILE : 0) < 0)
			dprintf(STDERR_FILENO, "keel: module %d: %s\n", i, strerror(errno));
		close(fd);
		unlink(path);	/* its memory */
	}
}

static void mount_root(const char *mode)
{
	const char *at = strcmp(mode, "overlay") ? "/root" : "/lower";

	mkdir("/root", 0755);
	mkdir("/lower", 0755);
	mkdir("/upper", 0755);
	if (mount(ROOTFS_TAG, at, "virtiofs", strcmp(mode, "rw") ? MS_RDONLY : 0, NULL) < 0)
		failed("cannot mount the root", errno == ENODEV ? ": the kernel has no virtiofs" : "");
	if (strcmp(mode, "overlay"))
		return;
	if (mount("upper", "/upper", "tmpfs", 0, NULL) < 0 || mkdir("/upper/files", 0755) < 0 ||
	    mkdir("/upper/work", 0755) < 0 ||
	    mount("root", "/root", "overlay", 0,
		  "lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work") < 0)
		failed("cannot mount an overlay", errno == ENODEV ? ": the kernel has none" : "");
}

/* What is missing in the directory, and cannot be made, a program may miss. */
static void mount_others(const char *mode)
{
	static const struct {
		const char *at, *type, *options;
	} mounts[] = {
		{ "/proc", "proc", NULL },
		{ "/sys", "sysfs", NULL },
		{ "/dev", "devtmpfs", NULL },
		{ "/dev/pts", "devpts", "gid=5,mode=620" },
		{ "/dev/shm", "tmpfs", "mode=1777" },
		{ "/run", "tmpfs", "mode=755" },
		{ "/tmp", "tmpfs", "mode=1777" },	/* the last one: see below */
	};
	size_t i, n = sizeof(mounts) / sizeof(mounts[0]) - !!strcmp(mode, "ro");

	for (i = 0; i < n; i++) {
		mkdir(mounts[i].at, 0755);
		mount(mounts[i].type, mounts[i].at, mounts[i].type, 0, mounts[i].options);
	}
}

static void loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	ioctl(fd, SIOCSIFFLAGS, &lo);
	close(fd);
}

/* On a terminal, or with no input and its output as it is. */
static void run(char *const *argv, const char *term)
{
	int fd = open(*term ? "/dev/ttyS0" : "/dev/null", O_RDWR);
	struct termios t;

	setsid();
	if (*term) {
		ioctl(fd, TIOCSCTTY, 0);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		setenv("TERM", term, 1);
	} else if (!tcgetattr(STDOUT_FILENO, &t)) {
		t.c_oflag &= ~OPOST;
		tcsetattr(STDOUT_FILENO, TCSANOW, &t);
	}
	dup2(fd, STDIN_FILENO);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "keel: %s: %s\n", argv[0], strerror(errno));
	_exit(EXIT_NOT_RUN);
}

int main(void)
{
	static char text[1 << 20], *strings[2 + ARGS_MAX + 1];
	static char *const shell[] = { "/bin/sh", "-l", NULL };
	int fd = open(ROOTFS_COMMAND, O_RDONLY | O_CLOEXEC), status;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1), at;
	char **argv = strings + 2;
	size_t count = 0;
	pid_t pid, child;

	klogctl(8, NULL, 1);	/* only what is urgent may mix with output */
	if (n < 0)
		failed(ROOTFS_COMMAND, "");
	for (at = 0; at < n && count < 2 + ARGS_MAX; at += strlen(text + at) + 1)
		strings[count++] = text + at;
	load_modules();
	mount_root(strings[0]);
	/* From here on the directory is all there is. */
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		failed("cannot change the root", "");
	mount_others(strings[0]);
	loopback_up();
	if (!*argv && !access("/sbin/init", X_OK)) {
		execl("/sbin/init", "init", NULL);
		failed("/sbin/init", "");
	}
	child = fork();
	if (!child)
		run(*argv ? argv : shell, strings[1]);
	do {
		pid = wait(&status);
	} while (pid != child && (pid >= 0 || errno == EINTR));
	end(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
