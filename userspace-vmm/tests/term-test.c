// SPDX-License-Identifier: GPL-2.0-only
/*
 * A terminal in raw mode is given back however the program ends.
 */
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "console.h"
#include "tap.h"

static int master, slave;

/* SIGSEGV is to end us as it does keel, without the sanitizer. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "handle_segv=0";
}

static bool is_raw(void)
{
	struct termios t;

	return !tcgetattr(slave, &t) && !(t.c_lflag & (ECHO | ICANON | ISIG));
}

static void end_normally(void)
{
	term_restore();
	_exit(0);
}

static void end_by_exit(void)
{
	exit(0);
}

static void end_with_error(void)
{
	exit(1);
}

static void end_by_segv(void)
{
	raise(SIGSEGV);
}

static void end_by_abort(void)
{
	abort();
}

static void end_by_kill(void)
{
	raise(SIGKILL);
}

static void end_with_words(void)
{
	dup2(slave, STDERR_FILENO);
	fail(0, "raw");
	term_restore();
	fail(0, "not raw");
	_exit(0);
}

static void end_after_suspend(void)
{
	term_suspend();
	if (is_raw())
		_exit(1);
	term_resume();
	if (!is_raw())
		_exit(1);
	end_normally();
}

/*
 * The child goes raw, says so, and ends when told; want is its wait status.
 * Everything it started, the guardian included, is gone once the pipe is
 * closed.
 */
static void try_end(const char *name, void (*end)(void), int want)
{
	int to_child[2], to_parent[2], status = 0;
	bool was_raw;
	struct err err;
	pid_t pid;
	char c;

	if (pipe(to_child) < 0 || pipe(to_parent) < 0)
		return;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(to_child[1]);
		close(to_parent[0]);
		if (term_raw(slave, &err) < 0)
			_exit(99);
		c = 0;
		if (write(to_parent[1], &c, 1) != 1 ||
		    read(to_child[0], &c, 1) != 1)
			_exit(98);
		end();
		_exit(97);
	}
	close(to_child[0]);
	close(to_parent[1]);
	if (read(to_parent[0], &c, 1) != 1)
		printf("# the child did not get to raw mode\n");
	was_raw = is_raw();
	ok(was_raw, "%s: raw at first", name);
	if (write(to_child[1], "", 1) != 1)
		printf("# the child is gone\n");
	waitpid(pid, &status, 0);
	status &= ~WCOREFLAG;
	is(status, want, "%s: ends as expected", name);
	/* After a signal it is the guardian that restores, a moment later. */
	for (int i = 0; i < 100 && is_raw(); i++)
		usleep(20000);
	ok(!is_raw(), "%s: restored", name);
	/* It is ours now, and may restore once more: not in the next test. */
	while (wait(NULL) > 0)
		;
	close(to_child[1]);
	close(to_parent[0]);
}

int main(void)
{
	struct err err;
	char said[128];
	ssize_t n;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	signal(SIGALRM, SIG_DFL);
	alarm(60);
	if (openpty(&master, &slave, NULL, NULL, NULL) < 0) {
		printf("1..0 # SKIP no pseudo terminals here\n");
		return 0;
	}
	ok(!is_raw(), "a new terminal is not raw");
	try_end("ordinary end", end_normally, 0);
	try_end("exit()", end_by_exit, 0);
	try_end("exit(1)", end_with_error, W_EXITCODE(1, 0));
	try_end("abort()", end_by_abort, W_EXITCODE(0, SIGABRT));
	try_end("SIGSEGV", end_by_segv, W_EXITCODE(0, SIGSEGV));
	try_end("SIGKILL", end_by_kill, W_EXITCODE(0, SIGKILL));
	try_end("with words", end_with_words, 0);
	n = read(master, said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	ok(!strcmp(said, "\r\nkeel: raw\r\nkeel: not raw\r\n"), "words begin and end lines of their own");
	try_end("suspended and resumed", end_after_suspend, 0);
	ok(term_raw(-1, &err) < 0, "not a terminal: %s", err.text);
	return tap_done();
}
