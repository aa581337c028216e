// SPDX-License-Identifier: GPL-2.0-only
/*
 * The jail of a machine. All that it uses is open before the guest runs; then
 * every thread gives up what it does not need.
 *
 * Always: no new privileges, no capabilities, Landlock without any file to
 * open, and a seccomp filter for each kind of thread, of which the tables are
 * below. With --jail, as root, besides: namespaces of its own, an empty root, a
 * cgroup, and a user that is nobody else's. Outside of it one process waits
 * for the end, and removes what the machine cannot any more.
 *
 * Helper programs start inside, and pivot_root() moves them along with us.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/vhost.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "jail.h"

#define CGROUPS "/sys/fs/cgroup"
#define CPU_PERIOD 100000
#define MAX_UNLINKS 3		/* control socket, --gdb, --display */

/* Above all users that there are; as a process id it is one machine's. */
#define DYNAMIC_UID 0x40000000U

static struct {
	const struct run_config *cfg;	/* NULL: there is no jail, as in unit tests */
	uid_t uid;
	gid_t gid;
	int names;			/* --jail: for the process outside */
	char cgroup[64];
	char unlinks[MAX_UNLINKS][PATH_MAX];
} jail = { .names = -1 };

/**
 * jail_off() - is nothing to be confined?
 */
bool jail_off(void)
{
	return !jail.cfg || jail.cfg->no_sandbox;
}

/*
 * What every thread may call. None of it opens, connects, starts or signals
 * anything; what has conditions is in filter_thread().
 */
static const char *const all_calls[] = {
	"brk madvise mremap munmap futex sched_yield sched_getaffinity getrandom getpid gettid",
	"rt_sigaction rt_sigprocmask rt_sigreturn restart_syscall exit exit_group",
	"clock_gettime clock_nanosleep gettimeofday nanosleep time",
	"close fstat poll read write writev recvfrom recvmsg sendmsg sendto io_uring_enter timerfd_settime",
	NULL
};

/* The main thread also serves requests, writes snapshots and ends all. */
static const char *const main_calls[] = {
	"accept4 getsockname fsync ftruncate lseek newfstatat pread64 pwrite64 pidfd_send_signal unlink wait4",
	NULL
};

/* For registers of devices, which a vCPU's thread writes to, and --verbose. */
static const unsigned long vcpu_ioctls[] = {
	KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS, KVM_SET_USER_MEMORY_REGION,
	KVM_IRQ_LINE, KVM_IRQFD, KVM_IOEVENTFD, KVM_SET_GSI_ROUTING, TUNSETOFFLOAD,
	VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR,
	VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL,
	VHOST_SET_VRING_ERR, VHOST_NET_SET_BACKEND, VHOST_VSOCK_SET_RUNNING,
};

/* The same to end devices; snapshots, gdb, pausing, statistics; the terminal. */
static const unsigned long main_ioctls[] = {
	KVM_GET_FPU, KVM_GET_MSRS, KVM_GET_MSR_INDEX_LIST, KVM_GET_XSAVE, KVM_GET_XSAVE2,
	KVM_GET_XCRS, KVM_GET_LAPIC, KVM_GET_DEBUGREGS, KVM_GET_VCPU_EVENTS, KVM_GET_MP_STATE,
	KVM_GET_IRQCHIP, KVM_GET_PIT2, KVM_CHECK_EXTENSION,
	KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_FPU, KVM_SET_GUEST_DEBUG, KVM_TRANSLATE,
	KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_KVMCLOCK_CTRL, KVM_GET_STATS_FD,
	TCGETS, TCSETS,
};

/*
 * Helpers come from elsewhere and change, so for them it says what is denied:
 * sockets, other processes, other namespaces, and what Landlock does not see of
 * files. io_uring would be a way around.
 */
static const char *const helper_denied[] = {
	"socket connect bind io_uring_setup io_uring_enter io_uring_register",
	"ptrace process_vm_readv process_vm_writev process_madvise kill tkill rt_sigqueueinfo",
	"rt_tgsigqueueinfo pidfd_open pidfd_getfd pidfd_send_signal setpriority sched_setscheduler",
	"unshare setns mount umount2 pivot_root chroot fsopen fspick fsmount open_tree move_mount",
	"mount_setattr quotactl bpf perf_event_open userfaultfd keyctl add_key request_key",
	"init_module finit_module kexec_load kexec_file_load reboot",
	"open_by_handle_at name_to_handle_at truncate chmod fchmodat chown lchown fchownat",
	"setxattr lsetxattr removexattr lremovexattr utime utimes futimesat utimensat",
	NULL
};

/* From here on to filter_helper(): 0, or a negative errno. */
static int add(scmp_filter_ctx ctx, u32 action, const char *const *calls)
{
	char line[128], *rest, *call;
	int ret = 0;

	for (; *calls && !ret; calls++) {
		snprintf(line, sizeof(line), "%s", *calls);
		rest = line;
		while (!ret && (call = strsep(&rest, " ")))
			ret = seccomp_rule_add(ctx, action, seccomp_syscall_resolve_name(call), 0);
	}
	return ret;
}

static int add_ioctls(scmp_filter_ctx ctx, const unsigned long *requests, size_t count)
{
	int ret = 0;

	while (!ret && count--)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, requests[count], 0));
	return ret;
}

static int load(scmp_filter_ctx ctx, int ret)
{
	ret = ret ? ret : seccomp_load(ctx);
	seccomp_release(ctx);
	return ret;
}

static int filter_thread(enum jail_thread kind)
{
	const struct scmp_arg_cmp not_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp self = SCMP_A0(SCMP_CMP_EQ, getpid(), 0);
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int ret = ctx ? add(ctx, SCMP_ACT_ALLOW, all_calls) : -ENOMEM;

	if (kind != JAIL_DEVICE && !ret)
		ret = add_ioctls(ctx, vcpu_ioctls, ARRAY_SIZE(vcpu_ioctls));
	if (kind == JAIL_MAIN && !ret)
		ret = add(ctx, SCMP_ACT_ALLOW, main_calls);
	if (kind == JAIL_MAIN && !ret)
		ret = add_ioctls(ctx, main_ioctls, ARRAY_SIZE(main_ioctls));
	/* No code but what is there, no signals but to threads of this process. */
	ret = ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_exec);
	ret = ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_exec);
	ret = ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, self);
	/* What is denied is in the kernel's log. */
	ret = ret ? ret : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
	return load(ctx, ret);
}

static int filter_helper(void)
{
	const struct scmp_arg_cmp other = SCMP_A0(SCMP_CMP_NE, getpid(), 0);
	const struct scmp_arg_cmp user = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER);
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int ret = ctx ? add(ctx, SCMP_ACT_ERRNO(EPERM), helper_denied) : -ENOMEM;

	ret = ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 1, other);
	ret = ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, user);
	/* Its flags are out of a filter's sight; libc then uses the other one. */
	ret = ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return load(ctx, ret);
}

static bool have_seccomp(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

static void allow(int rules, int fd, u64 access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = fd };

	/* What cannot be named, a socket for instance, needs no rule. */
	syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

static void allow_path(int rules, const char *path, u64 access)
{
	int fd = open(path, O_PATH | O_CLOEXEC);

	allow(rules, fd, access);
	close(fd);
}

/* Return: a set of rules that allows nothing yet; -1: the kernel has none. */
static int landlock_rules(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	/* Of the first version 13 rights, and that to rename to elsewhere. */
	struct landlock_ruleset_attr all = {
		.handled_access_fs = (1ULL << (abi < 2 ? 13 : 14)) - 1,
	};

	return abi < 1 ? -1 : syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
}

static int landlock_enter(int rules)
{
	int ret = rules < 0 ? 0 : syscall(SYS_landlock_restrict_self, rules, 0);

	if (rules >= 0)
		close(rules);
	return ret;
}

/* Keep of the capabilities that are there only these. */
static int keep_capabilities(u32 mask)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, data) < 0)
		return -1;
	mask &= data[0].permitted;
	data[0] = (struct __user_cap_data_struct){ mask, mask, mask };
	memset(&data[1], 0, sizeof(data[1]));
	return syscall(SYS_capset, &head, data);
}

/* With capabilities, for keep_capabilities(). */
static int become_user(void)
{
	return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) | setgroups(0, NULL) |
	       setresgid(jail.gid, jail.gid, jail.gid) | setresuid(jail.uid, jail.uid, jail.uid);
}

/**
 * jail_helper() - in the process that is to become a helper program
 * @jails_itself: it is known to, and to need privileges for that
 * @program: what it is, if that has a path
 * @fds: what it may open again by /proc/self/fd
 * @count: of @fds
 *
 * Return: 0, or -1 and errno.
 */
int jail_helper(bool jails_itself, const char *program, const int *fds, unsigned int count)
{
	static const char *const programs[] = { "/usr", "/lib", "/lib64", "/bin", "/opt" };
	const u64 read = LANDLOCK_ACCESS_FS_READ_FILE, write = LANDLOCK_ACCESS_FS_WRITE_FILE;
	size_t i;
	int rules;

	if (jail_off())
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (jails_itself)
		return 0;
	if (jail.cfg->jail && (unshare(CLONE_NEWNET) < 0 || become_user() < 0))
		return -1;
	/* To open an image again that is another user's, and to start from a directory that is. */
	if (keep_capabilities(1U << CAP_DAC_OVERRIDE) < 0)
		return -1;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0);
	rules = landlock_rules();
	for (i = 0; i < ARRAY_SIZE(programs); i++)
		allow_path(rules, programs[i], read | LANDLOCK_ACCESS_FS_READ_DIR |
			   LANDLOCK_ACCESS_FS_EXECUTE);
	if (strchr(program, '/'))
		allow_path(rules, program, read | LANDLOCK_ACCESS_FS_EXECUTE);
	allow_path(rules, "/etc/ld.so.cache", read);
	allow_path(rules, "/sys", read | LANDLOCK_ACCESS_FS_READ_DIR);
	allow_path(rules, "/dev/urandom", read);
	allow_path(rules, "/dev/null", read | write);
	for (i = 0; i < count; i++)
		allow(rules, fds[i], (fcntl(fds[i], F_GETFL) & O_ACCMODE) == O_RDONLY ?
		      read : read | write);
	if (landlock_enter(rules) < 0)
		return -1;
	errno = have_seccomp() ? -filter_helper() : 0;
	return errno ? -1 : 0;
}

/**
 * jail_unlinks() - something that is to be removed at the end
 * @path: a socket, in a directory that is keel's or named by the user
 */
void jail_unlinks(const char *path)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(jail.unlinks); i++) {
		if (*jail.unlinks[i])
			continue;
		snprintf(jail.unlinks[i], PATH_MAX, "%s", path);
		break;
	}
}

/* The machine still can, but this is all that it can do to a file. */
static void allow_unlinks(int rules)
{
	char *slash;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(jail.unlinks) && *jail.unlinks[i]; i++) {
		slash = strrchr(jail.unlinks[i], '/');
		if (slash)
			slash[slash == jail.unlinks[i]] = '\0';
		allow_path(rules, slash ? jail.unlinks[i] : ".", LANDLOCK_ACCESS_FS_REMOVE_FILE);
	}
}

static int empty_root(struct err *err)
{
	/* Its mount point is any directory, and goes with the old root. */
	if (unshare(CLONE_NEWNET) < 0 || mount("keel", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV |
					       MS_NOEXEC, "mode=0555,nr_inodes=1") < 0 ||
	    chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(err, "--jail: cannot get an empty root (is this one an initramfs?)");
	if (become_user() < 0)
		return err_sys(err, "--jail: cannot become user %u", jail.uid);
	/* Which another user has lost. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return 0;
}

/**
 * jail_enter() - all is open, and no thread is there yet
 * @err: filled on failure
 */
int jail_enter(struct err *err)
{
	int rules;

	if (jail_off()) {
		if (jail.cfg)
			fail(0, "warning: --no-sandbox: a guest that breaks out of keel can do whatever you can");
		return 0;
	}
	if (!have_seccomp())
		fail(0, "warning: this kernel has no seccomp (CONFIG_SECCOMP), a guest that breaks out of keel is hardly confined");
	rules = landlock_rules();
	if (jail.cfg->jail) {
		if (write(jail.names, jail.unlinks, sizeof(jail.unlinks)) != sizeof(jail.unlinks))
			return err_sys(err, "--jail: nobody is outside");
		close(jail.names);
		if (empty_root(err) < 0)
			return -1;
	} else {
		allow_unlinks(rules);
	}
	/* A helper that is another user's is still ours to end. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || keep_capabilities(1U << CAP_KILL) < 0 ||
	    landlock_enter(rules) < 0)
		return err_sys(err, "cannot enter the sandbox");
	return 0;
}

/**
 * jail_thread() - the calling thread needs only what its kind does
 * @kind: which; the main thread when it has started the others
 *
 * Nothing goes on unconfined: a failure ends the machine.
 */
void jail_thread(enum jail_thread kind)
{
	int ret = jail_off() || !have_seccomp() ? 0 : filter_thread(kind);

	if (ret)
		_exit(fail(EXIT_FAIL, "cannot confine a thread: %s", strerror(-ret)));
#ifdef KEEL_TEST_HOOK
	static const char *const names[] = {
		[JAIL_MAIN] = "main", [JAIL_VCPU] = "vcpu", [JAIL_DEVICE] = "device",
	};

	jail_attempts(names[kind]);
#endif
}

/* Without the name service: a static binary has none. */
static int find_user(const char *name, struct err *err)
{
	struct passwd *p;
	u64 number;
	FILE *f;

	jail.uid = DYNAMIC_UID + getpid();
	jail.gid = jail.uid;
	if (!name)
		return 0;
	if (!whole_number(name, &number) || number >= (uid_t)-1) {
		f = fopen("/etc/passwd", "re");
		while (f && (p = fgetpwent(f)) && strcmp(p->pw_name, name))
			;
		if (f)
			fclose(f);
		if (!f || !p)
			return err_set(err, "--jail-user %s: no such user in /etc/passwd", name);
		number = p->pw_uid;
		jail.gid = p->pw_gid;
	} else {
		jail.gid = number;
	}
	jail.uid = number;
	return jail.uid && jail.gid ? 0 :
	       err_set(err, "--jail-user %s: a jail for root or root's group would be none", name);
}

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	close(fd);
	return ret;
}

static int make_cgroup(const struct run_config *cfg, struct err *err)
{
	struct {
		const char *file, *controller;
		char text[48];
	} limits[] = { { "cpu.max", "+cpu", "" }, { "memory.max", "+memory", "" },
		       { "pids.max", "+pids", "" } };
	size_t i;

	if (cfg->cpu_max > 0)
		snprintf(limits[0].text, sizeof(limits[0].text), "%.0f %d",
			 cfg->cpu_max * CPU_PERIOD, CPU_PERIOD);
	if (cfg->memory_max)
		snprintf(limits[1].text, sizeof(limits[1].text), "%llu", cfg->memory_max);
	if (cfg->pids_max)
		snprintf(limits[2].text, sizeof(limits[2].text), "%u", cfg->pids_max);
	if (!*limits[0].text && !*limits[1].text && !*limits[2].text)
		return 0;
	if (access(CGROUPS "/cgroup.controllers", F_OK))
		return err_set(err, "limits need cgroup v2 at " CGROUPS "; try: sudo mount -t cgroup2 none " CGROUPS);
	snprintf(jail.cgroup, sizeof(jail.cgroup), CGROUPS "/keel/%d", getpid());
	mkdir(CGROUPS "/keel", 0755);
	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		if (*limits[i].text &&
		    (write_file(CGROUPS, "cgroup.subtree_control", limits[i].controller) < 0 ||
		     write_file(CGROUPS "/keel", "cgroup.subtree_control", limits[i].controller) < 0))
			return err_sys(err, "the kernel's cgroup v2 does not limit %s here",
				       limits[i].controller + 1);
	}
	if (mkdir(jail.cgroup, 0755) < 0)
		return err_sys(err, "cannot make %s", jail.cgroup);
	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		if (*limits[i].text && write_file(jail.cgroup, limits[i].file, limits[i].text) < 0)
			return err_sys(err, "%s does not take %s = %s", jail.cgroup, limits[i].file,
				       limits[i].text);
	}
	return 0;
}

static sigset_t outside_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD,
				       SIGTSTP, SIGTTIN, SIGTTOU };
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	return set;
}

static void end_now(int sig)
{
	_exit(EXIT_SIGNAL_BASE + sig);
}

/*
 * The first process of its namespace: all others there end with it. No signal ends it
 * that it does not handle, nor can it stop: that is done from outside.
 */
static int first_process(sigset_t *mask, struct err *err)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		if (signal(ends[i], end_now) == SIG_IGN)
			signal(ends[i], SIG_IGN);
	}
	signal(SIGTSTP, SIG_IGN);
	sigprocmask(SIG_SETMASK, mask, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (*jail.cgroup && write_file(jail.cgroup, "cgroup.procs", "0") < 0)
		return err_sys(err, "cannot enter %s", jail.cgroup);
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, "--jail: cannot make namespaces");
	return 0;
}

/**
 * jail_start() - before anything of the machine is there
 * @cfg: the options
 * @err: filled on failure
 *
 * Return: 0 to go on; with --jail, in the process outside, the machine's for
 * jail_wait(); -1 on failure.
 */
pid_t jail_start(const struct run_config *cfg, struct err *err)
{
	sigset_t set = outside_signals(), old;
	int names[2];
	pid_t pid;

	jail.cfg = cfg;
	if (!cfg->jail && (cfg->jail_user || cfg->cpu_max > 0 || cfg->memory_max || cfg->pids_max))
		return err_set(err, "--jail-user, --cpu-max, --memory-max and --pids-max need --jail");
	if (!cfg->jail)
		return 0;
	if (geteuid() || cfg->no_sandbox || !have_seccomp())
		return err_set(err, geteuid() ? "--jail needs root; without it there are seccomp and Landlock all the same" :
			       cfg->no_sandbox ? "--jail and --no-sandbox exclude each other" :
			       "--jail: this kernel has no seccomp (CONFIG_SECCOMP)");
	if (find_user(cfg->jail_user, err) < 0)
		return -1;
	if (pipe2(names, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0)
		return err_sys(err, "--jail: cannot make a PID namespace");
	if (make_cgroup(cfg, err) < 0) {
		rmdir(jail.cgroup);
		return -1;
	}
	sigprocmask(SIG_BLOCK, &set, &old);
	pid = fork();
	jail.names = names[!pid];
	close(names[!!pid]);
	if (pid < 0)
		return err_sys(err, "--jail: cannot make a process");
	return pid ? pid : first_process(&old, err);
}

/* Both, as one job of the terminal's. */
static void stop(pid_t pid, const struct termios *saved)
{
	kill(pid, SIGSTOP);
	if (saved && tcgetpgrp(STDIN_FILENO) == getpgrp())
		tcsetattr(STDIN_FILENO, TCSANOW, saved);
	raise(SIGSTOP);
	kill(pid, SIGCONT);
}

/**
 * jail_wait() - outside: wait for the machine, and clean up after it
 * @pid: the machine
 *
 * Return: its exit status.
 */
int jail_wait(pid_t pid)
{
	static char unlinks[MAX_UNLINKS][PATH_MAX];
	sigset_t set = outside_signals();
	struct termios saved;
	bool tty = !tcgetattr(STDIN_FILENO, &saved);
	int sig, status;
	size_t i;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (sigwait(&set, &sig) || sig == SIGCHLD)
			continue;
		if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
			stop(pid, tty ? &saved : NULL);
		else
			kill(pid, sig);
	}
	/* It may have been killed; who held the settings was killed with it. */
	if (tty)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	if (read(jail.names, unlinks, sizeof(unlinks)) == sizeof(unlinks)) {
		for (i = 0; i < ARRAY_SIZE(unlinks); i++) {
			if (*unlinks[i])
				unlink(unlinks[i]);
		}
	}
	if (*jail.cgroup)
		rmdir(jail.cgroup);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return fail(EXIT_SIGNAL_BASE + WTERMSIG(status), "the machine was killed by signal %d%s",
		    WTERMSIG(status), WTERMSIG(status) == SIGKILL && jail.cfg->memory_max ?
		    "; --memory-max may be too little" : "");
}
