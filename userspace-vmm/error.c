// SPDX-License-Identifier: GPL-2.0-only
/*
 * Errors as one line of text, carried up to main(), and what prints them. What was
 * typed, read strictly.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <termios.h>
#include <unistd.h>

#include "keel.h"

/**
 * one_line() - control characters, in a file's name for instance, must not act on a terminal
 *
 * Nor those of U+0080 to U+009F, which in UTF-8 begin with 0xc2.
 */
void one_line(char *text)
{
	unsigned char *p;

	for (p = (unsigned char *)text; *p; p++) {
		if (*p < ' ' || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0))
			*p = '?';
	}
}

/** err_vset() - err_set() with the arguments already collected */
int err_vset(struct err *err, const char *fmt, va_list ap)
{
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	one_line(err->text);
	return -1;
}

/**
 * err_set() - describe an error
 * @fmt: printf format: what failed, on which file, and what to do
 *
 * Return: always -1, so that a caller can return it.
 */
int err_set(struct err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(err, fmt, ap);
	va_end(ap);
	return -1;
}

/**
 * err_sys() - describe an error whose reason is in errno
 * @fmt: printf format; a colon and the text of errno are appended
 *
 * Return: always -1, errno untouched.
 */
int err_sys(struct err *err, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	err_vset(err, fmt, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved));
	errno = saved;
	return -1;
}

const char *command_name = "";

bool fail_to_syslog;

/**
 * fail() - the one place where an error becomes visible
 * @status: the exit status
 * @fmt: printf format: one line that a person can act on
 *
 * Return: @status.
 */
int fail(int status, const char *fmt, ...)
{
	const char *before = "", *after = "\n";
	struct termios term;
	struct err err;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&err, fmt, ap);
	va_end(ap);
	if (fail_to_syslog)
		syslog(LOG_ERR, "%s: %s", command_name, err.text);
	/* A terminal in raw mode, with the cursor where the guest left it. */
	if (!tcgetattr(STDERR_FILENO, &term) && !(term.c_oflag & OPOST)) {
		before = "\r\n";
		after = "\r\n";
	}
	fprintf(stderr, "%skeel%s%s: %s%s", before, *command_name ? " " : "", command_name,
		err.text, after);
	return status;
}

/** finish_output() - standard output may be full or closed; what did not appear failed */
int finish_output(void)
{
	if (ferror(stdout) | fflush(stdout))
		return fail(EXIT_FAIL, "cannot write: %s", strerror(errno));
	return 0;
}

/**
 * whole_number() - a number in decimal digits, without sign or blanks
 * @n: filled
 *
 * Return: false if it is something else, or does not fit.
 */
bool whole_number(const char *text, u64 *n)
{
	if (!*text || text[strspn(text, "0123456789")])
		return false;
	errno = 0;
	*n = strtoull(text, NULL, 10);
	return !errno;
}
