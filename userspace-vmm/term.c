// SPDX-License-Identifier: GPL-2.0-only
/*
 * Raw mode, and the way back from it whatever happens.
 *
 * There are three ways back: the ordinary one, atexit(), and for any signal that
 * ends us a child that holds the old settings and notices when we are gone.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "console.h"

static struct termios saved, raw;
static int term_fd = -1;
static bool active;
static pid_t guardian;
static int guardian_pipe = -1;

/*
 * With SIGTTOU blocked it also works from the background, where it would otherwise
 * stop us with the terminal still raw.
 */
static void put_back(void)
{
	sigset_t ttou, old;

	if (!active)
		return;
	active = false;
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	sigprocmask(SIG_BLOCK, &ttou, &old);
	tcsetattr(term_fd, TCSANOW, &saved);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/*
 * The child waits for one byte, the sign of an orderly end. End of file
 * without it means that the parent was killed.
 */
static void guard(int fd)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT,
				       SIGTSTP, SIGTTOU, SIGTTIN };
	ssize_t n;
	size_t i;
	char c;

	for (i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	/* A group of its own: kill -9 of the parent's must not hit it. */
	setpgid(0, 0);
	prctl(PR_SET_NAME, "keel-term");
	dup2(fd, STDOUT_FILENO);
	dup2(term_fd, STDIN_FILENO);
	dup2(STDIN_FILENO, STDERR_FILENO);
	close_range(3, ~0U, 0);
	n = read(STDOUT_FILENO, &c, 1);
	if (n != 1)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	_exit(0);
}

static void start_guardian(void)
{
	int fds[2];

	if (pipe(fds) < 0)
		return;
	guardian = fork();
	if (!guardian) {
		close(fds[1]);
		guard(fds[0]);
	}
	close(fds[0]);
	if (guardian < 0)
		close(fds[1]);
	else
		guardian_pipe = fds[1];
}

static void stop_guardian(void)
{
	ssize_t n;

	if (guardian_pipe < 0)
		return;
	n = write(guardian_pipe, "", 1);
	(void)n;
	close(guardian_pipe);
	guardian_pipe = -1;
	waitpid(guardian, NULL, 0);
}

/** term_raw() - hand every key to the guest */
int term_raw(int fd, struct err *err)
{
	if (tcgetattr(fd, &saved) < 0)
		return err_sys(err, "cannot read the terminal's settings");
	raw = saved;
	cfmakeraw(&raw);
	term_fd = fd;
	start_guardian();
	atexit(term_restore);
	/* Set before the call: restoring needlessly does no harm. */
	active = true;
	if (tcsetattr(fd, TCSANOW, &raw) < 0) {
		err_sys(err, "cannot set the terminal to raw mode");
		term_restore();
		return -1;
	}
	return 0;
}

/** term_suspend() - before stopping: settings as the user knows them */
void term_suspend(void)
{
	if (active)
		tcsetattr(term_fd, TCSANOW, &saved);
}

/** term_resume() - back in the foreground: raw again */
void term_resume(void)
{
	if (active)
		tcsetattr(term_fd, TCSANOW, &raw);
}

/** term_restore() - undo term_raw(), once */
void term_restore(void)
{
	put_back();
	stop_guardian();
}
