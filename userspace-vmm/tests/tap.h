/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Test Anything Protocol in a few lines.
 */
#ifndef TAP_H
#define TAP_H

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 4, 5), unused))
static int tap_ok(int ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", ok ? "" : "not ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (!ok) {
		printf("# at %s:%d\n", file, line);
		tap_failed = 1;
	}
	return ok;
}

#define ok(cond, ...) tap_ok(!!(cond), __FILE__, __LINE__, __VA_ARGS__)

/* Equal numbers; both are shown when they are not. */
#define is(got, want, ...) do {						\
	unsigned long long got_ = (got), want_ = (want);		\
									\
	if (!tap_ok(got_ == want_, __FILE__, __LINE__, __VA_ARGS__))	\
		printf("# got %#llx, want %#llx\n", got_, want_);	\
} while (0)

static char tap_dir_name[32] = "/tmp/keel-test-XXXXXX";

static void tap_dir_remove(int signal)
{
	char *const argv[] = { "rm", "-rf", tap_dir_name, NULL };

	(void)signal;
	execv("/bin/rm", argv);
	_exit(1);
}

static void tap_dir_end(void)
{
	if (!fork())
		tap_dir_remove(0);
	wait(NULL);
}

/* A directory for files, which goes with the program, Ctrl-C included. */
__attribute__((unused))
static const char *tap_dir(void)
{
	if (!mkdtemp(tap_dir_name)) {
		printf("Bail out! no temporary directory\n");
		exit(1);
	}
	atexit(tap_dir_end);
	signal(SIGINT, tap_dir_remove);
	signal(SIGTERM, tap_dir_remove);
	signal(SIGHUP, tap_dir_remove);
	return tap_dir_name;
}

__attribute__((unused))
static int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed;
}

#endif
