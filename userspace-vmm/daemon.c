// SPDX-License-Identifier: GPL-2.0-only
/*
 * Start and end helper programs. What one has to say is kept, and is part of
 * our error when it fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"
#include "jail.h"

#define STOP_MS 5000
#define STOP_STEP_MS 10
#define LOG_SIZE 65536		/* what comes after that is lost */

static struct daemon *running;

static void child(const struct daemon *d, char *const argv[], const int *fds,
		  unsigned int count, pid_t parent)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	/* Not of our terminal's group, and not longer than we live. */
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGTSTP, SIG_DFL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(d->log, STDOUT_FILENO) < 0 || dup2(d->log, STDERR_FILENO) < 0)
		return;
	if (jail_helper(d->jails_itself, argv[0], fds, count) < 0) {
		dprintf(STDERR_FILENO, "no sandbox: %s\n", strerror(errno));
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return;
	while (count--)
		fcntl(fds[count], F_SETFD, 0);
	if (d->prepare && d->prepare(d->opaque) < 0)
		return;
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "%s\n", strerror(errno));
}

/*
 * A program that a guest has talked into printing for ever fills no memory: its
 * file does not grow. No O_APPEND, by which all would be behind the end.
 */
static int open_log(void)
{
	int fd = memfd_create("keel-helper", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && !ftruncate(fd, LOG_SIZE) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		return fd;
	close(fd);
	return -1;
}

/**
 * daemon_start() - start a program
 * @d: cleared, but for @d->prepare; filled
 * @argv: its arguments; the first one is its name
 * @fds: descriptors that it keeps, under the same numbers
 * @count: of @fds
 * @err: filled on failure
 *
 * For the main thread: the program is killed when the calling one ends.
 */
int daemon_start(struct daemon *d, char *const argv[], const int *fds,
		 unsigned int count, struct err *err)
{
	const char *slash = strrchr(argv[0], '/');
	pid_t parent = getpid();

	snprintf(d->name, sizeof(d->name), "%s", slash ? slash + 1 : argv[0]);
	d->log = open_log();
	if (d->log < 0)
		return err_sys(err, "cannot start %s", argv[0]);
	d->pid = fork();
	if (!d->pid) {
		child(d, argv, fds, count, parent);
		_exit(127);
	}
	if (d->pid > 0) {
		d->pid_fd = pidfd_open(d->pid, 0);
		if (d->pid_fd >= 0) {
			d->next = running;
			running = d;
			return 0;
		}
		kill(d->pid, SIGKILL);
		waitpid(d->pid, NULL, 0);
	}
	d->pid = 0;
	close(d->log);
	return err_sys(err, "cannot start %s", argv[0]);
}

static void gone(struct daemon *d)
{
	struct daemon **at = &running;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	d->pid = 0;
	close(d->pid_fd);
}

/* What it printed at last; it has the same offset as we. If all is full nobody knows. */
static void last_line(struct daemon *d, char *line, size_t size)
{
	off_t end = lseek(d->log, 0, SEEK_CUR), from = end < (off_t)size ? 0 : end - (off_t)size + 1;
	ssize_t n = end < LOG_SIZE ? pread(d->log, line, end - from, from) : 0;
	char *newline;

	while (n > 0 && line[n - 1] == '\n')
		n--;
	line[n > 0 ? n : 0] = '\0';
	newline = strrchr(line, '\n');
	if (newline)
		memmove(line, newline + 1, strlen(newline));
}

/* Kill it in a while. A kernel may keep it for ever all the same, but not us. */
static void end(struct daemon *d, unsigned int patience_ms)
{
	static const struct timespec step = { .tv_nsec = STOP_STEP_MS * 1000000L };
	u64 start = monotonic_ns(), ms = 0;

	while (!waitpid(d->pid, NULL, WNOHANG) && ms < patience_ms + STOP_MS) {
		ms = (monotonic_ns() - start) / 1000000;
		if (ms >= patience_ms)
			pidfd_send_signal(d->pid_fd, SIGKILL, NULL, 0);
		nanosleep(&step, NULL);
	}
	gone(d);
}

/**
 * daemon_failed() - end a program that does not do its work
 * @d: the program
 * @err: what we know; filled with the last line that it printed, if it did
 */
int daemon_failed(struct daemon *d, struct err *err)
{
	struct err first = *err;
	char line[300];

	if (d->pid)
		end(d, 0);
	last_line(d, line, sizeof(line));
	close(d->log);
	return err_set(err, "%s%s%s failed: %s", d->serves, *d->serves ? ": " : "", d->name,
		       *line ? line : first.text);
}

/**
 * daemon_ready() - wait for what a program says when it is ready
 * @d: the program
 * @fd: where it writes that, or its end
 * @err: filled if it fails
 */
int daemon_ready(struct daemon *d, int fd, struct err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, START_SECONDS * 1000);
	char byte;

	if (n > 0 && read(fd, &byte, 1) == 1)
		return 0;
	err_set(err, n ? "it ends" : "it does not start");
	return daemon_failed(d, err);
}

/**
 * daemon_wait() - wait for a program that does one thing
 * @d: the program
 * @err: filled if it fails
 */
int daemon_wait(struct daemon *d, struct err *err)
{
	struct pollfd p = { .fd = d->pid_fd, .events = POLLIN };
	int status = -1;

	if (!poll(&p, 1, START_SECONDS * 1000)) {
		err_set(err, "it does not end");
		return daemon_failed(d, err);
	}
	while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
		;
	gone(d);
	err_set(err, "status %#x", status);
	if (status)
		return daemon_failed(d, err);
	close(d->log);
	return 0;
}

/**
 * daemon_stop() - end a program, with time to put its files in order
 * @d: the program; harmless if it does not run
 */
void daemon_stop(struct daemon *d)
{
	if (!d->pid)
		return;
	pidfd_send_signal(d->pid_fd, SIGTERM, NULL, 0);
	end(d, STOP_MS);
	close(d->log);
}

/**
 * daemon_lost() - a program is of no use any more
 * @d: the program
 * @sig: what will end it: SIGKILL if it does not answer, SIGTERM if it has hung up
 * @wake_fd: eventfd: of the main thread, which will call daemon_ended()
 */
void daemon_lost(struct daemon *d, int sig, int wake_fd)
{
	atomic_store(&d->lost, sig);
	eventfd_write(wake_fd, 1);
}

/**
 * daemon_ended() - look for a program that has ended, and end what is lost
 * @err: filled: which, and how
 *
 * Return: whether there was one, so that there may be another.
 */
bool daemon_ended(struct err *err)
{
	char how[64], line[200];
	const char *why;
	struct daemon *d;
	int status;

	for (d = running; d; d = d->next) {
		why = !d->lost ? "" : d->lost == SIGKILL ? "it did not answer; " : "it hung up; ";
		if (waitpid(d->pid, &status, WNOHANG) != d->pid) {
			if (d->lost)
				pidfd_send_signal(d->pid_fd, d->lost, NULL, 0);
			continue;
		}
		/* One that dies of something else hangs up, too. */
		if (WIFSIGNALED(status) && WTERMSIG(status) != d->lost)
			why = "";
		gone(d);
		last_line(d, line, sizeof(line));
		close(d->log);
		if (WIFSIGNALED(status))
			snprintf(how, sizeof(how), "signal %d, %s", WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
		else
			snprintf(how, sizeof(how), "status %d", WEXITSTATUS(status));
		err_set(err, "%s has ended (%s%s), and %s is dead until the machine is started again%s%s",
			d->name, why, how, d->serves, *line ? "; it last said: " : "", line);
		return true;
	}
	return false;
}
