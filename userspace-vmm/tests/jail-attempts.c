// SPDX-License-Identifier: GPL-2.0-only
/*
 * What code in a machine that was taken over would try: each line that it
 * prints says whether it was refused. Linked into a keel of its own, where every
 * thread runs it once it is confined; and by itself in place of a helper.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail.h"

static const char *base;	/* an image that others share */
static const char *peer;	/* the control socket of another machine */
static ino_t inode;	/* of the image */
static pid_t victim;		/* a process of the same user */

static bool can_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool read_secret(void)
{
	return can_open("/etc/shadow", O_RDONLY);
}

static bool create_file(void)
{
	return can_open("/var/tmp/keel-was-here", O_WRONLY | O_CREAT);
}

static bool write_base(void)
{
	return can_open(base, O_WRONLY);
}

static bool truncate_base(void)
{
	return !truncate(base, 1 << 20);
}

static bool change_base(void)
{
	return !chmod(base, 0666) || !fchmodat(AT_FDCWD, base, 0666, 0);
}

/* By a descriptor that only reads it. */
static bool reopen_base(void)
{
	struct stat st;
	char path[40];
	int fd;

	for (fd = 3; fd < 100; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (!fstat(fd, &st) && st.st_ino == inode && can_open(path, O_RDWR))
			return true;
	}
	return false;
}

static bool link_base(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s-linked", base);
	return !link(base, path) || errno == EEXIST;
}

static bool open_device(void)
{
	return can_open("/dev/kvm", O_RDWR) || can_open("/dev/keel", O_RDWR);
}

static bool start_process(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

/* Whoever may not is told that, and not that there is no such program. */
static bool run_program(void)
{
	return execl("/nowhere", "nowhere", NULL) < 0 && errno == ENOENT;
}

static bool use_network(void)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(9),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool reached = fd >= 0 && !connect(fd, (struct sockaddr *)&there, sizeof(there));

	if (fd >= 0)
		close(fd);
	return reached;
}

static bool call_machine(void)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool reached;

	snprintf(there.sun_path, sizeof(there.sun_path), "%s", peer);
	reached = fd >= 0 && !connect(fd, (struct sockaddr *)&there, sizeof(there));
	if (fd >= 0)
		close(fd);
	return reached;
}

static bool signal_other(void)
{
	return !kill(victim, 0) || !syscall(SYS_tgkill, victim, victim, 0) ||
	       syscall(SYS_pidfd_open, victim, 0) >= 0;
}

static bool trace_other(void)
{
	return !ptrace(PTRACE_SEIZE, victim, NULL, NULL);
}

static bool read_other(void)
{
	char there[8];
	struct iovec local = { there, 8 }, remote = { (void *)8, 8 };

	/* EFAULT: it would, if something were there. */
	return process_vm_readv(victim, &local, 1, &remote, 1, 0) >= 0 || errno == EFAULT;
}

static bool mount_something(void)
{
	return !mount("none", "/mnt", "tmpfs", 0, NULL) && !umount("/mnt");
}

static bool other_root(void)
{
	return !chroot("/");
}

static bool other_user(void)
{
	return !unshare(CLONE_NEWUTS);
}

static bool new_ring(void)
{
	struct io_uring_params p = { 0 };
	int fd = syscall(SYS_io_uring_setup, 2, &p);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* An ioctl that no thread needs any more, on all that is open. */
static bool make_machine(void)
{
	int fd, vm;

	for (fd = 3; fd < 100; fd++) {
		vm = ioctl(fd, KVM_CREATE_VM, 0);
		if (vm >= 0)
			close(vm);
		if (vm >= 0)
			return true;
	}
	return false;
}

static bool new_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *q = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return q != MAP_FAILED || !mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

#ifdef KEEL_TEST_HOOK
#include <liburing.h>

struct io_uring *jail_ring;	/* a disk's */

static bool open_by_ring(void)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	bool reached;

	sqe = io_uring_get_sqe(jail_ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/shadow", O_RDONLY, 0);
	io_uring_submit_and_wait(jail_ring, 1);
	if (io_uring_peek_cqe(jail_ring, &cqe))
		return false;
	reached = cqe->res >= 0;
	io_uring_cqe_seen(jail_ring, cqe);
	return reached;
}
#endif

static const struct {
	const char *what;
	bool (*reached)(void);
	bool helper;	/* which has started by it, or may do it within its rights */
} attempts[] = {
	{ "read-secret", read_secret, true },
	{ "create-file", create_file, true },
	{ "write-base", write_base, true },
	{ "truncate-base", truncate_base, true },
	{ "change-base", change_base, true },
	{ "reopen-base", reopen_base, true },
	{ "link-base", link_base, true },
	{ "open-device", open_device, true },
	{ "start-process", start_process, false },
	{ "run-program", run_program, false },
	{ "network", use_network, true },
	{ "call-machine", call_machine, true },
	{ "signal", signal_other, true },
	{ "trace", trace_other, true },
	{ "read-memory", read_other, true },
	{ "mount", mount_something, true },
	{ "chroot", other_root, true },
	{ "unshare", other_user, true },
	{ "io-uring", new_ring, true },
	{ "make-machine", make_machine, false },
	{ "new-code", new_code, false },
};

static const char *env(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "/nowhere";
}

/* One line, of which an error message can consist. */
static void try_all(const char *who, bool helper)
{
	char line[500] = "", out[600];
	size_t i, at = 0, count = 0;

	base = env("KEEL_TEST_BASE");
	peer = env("KEEL_TEST_PEER");
	inode = strtoul(env("KEEL_TEST_INODE"), NULL, 10);
	victim = atoi(env("KEEL_TEST_VICTIM"));
	for (i = 0; i < ARRAY_SIZE(attempts); i++) {
		if (helper && !attempts[i].helper)
			continue;
		count++;
		if (attempts[i].reached())
			at += snprintf(line + at, sizeof(line) - at, " %s", attempts[i].what);
	}
#ifdef KEEL_TEST_HOOK
	/* Requests of other threads are not disturbed: the guest does not run yet. */
	if (jail_ring && !strcmp(who, "device")) {
		count++;
		if (open_by_ring())
			at += snprintf(line + at, sizeof(line) - at, " open-by-ring");
	}
#endif
	/* stdio would ask for more than may be done. */
	at = snprintf(out, sizeof(out), "attempts of %s: %zu, reached:%s\n", who, count, line);
	count = write(STDERR_FILENO, out, at);
}

#ifdef KEEL_TEST_HOOK
void jail_attempts(const char *who)
{
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&turn);
	try_all(who, false);
	pthread_mutex_unlock(&turn);
}
#else
int main(void)
{
	try_all("helper", true);
	return 1;
}
#endif
