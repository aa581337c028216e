/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the serial port and the user's terminal.
 */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <poll.h>

#include "serial.h"

#define ESCAPE_KEY 0x01		/* Ctrl-A */
#define CONSOLE_QUEUE 4096

/* What the user asked for with the escape key. */
enum console_request {
	CONSOLE_NOTHING,
	CONSOLE_QUIT,
	CONSOLE_POWER_BUTTON,
	CONSOLE_BREAK,
};

/* Used by the main thread only. */
struct console {
	struct serial *serial;
	int in_fd;		/* -1: no input (any more) */
	int out_fd;		/* -1: output is dropped */
	const char *out_path;	/* we opened it; NULL: standard output */
	bool failed;		/* output is lost: see err */
	struct err err;
	bool tty;		/* input is a terminal: escape key works */
	bool escape;		/* the last byte was the escape key */
	u8 queue[CONSOLE_QUEUE];
	size_t queued;
	void (*tap)(void *opaque, const u8 *data, size_t len);	/* sees the output */
	void *tap_opaque;
	bool remote;		/* of a machine in another process */
};

int console_open(struct console *con, const struct run_config *cfg,
		 struct serial *serial, struct err *err);
void console_close(struct console *con);
void console_poll(struct console *con, struct pollfd fds[2]);
enum console_request console_events(struct console *con, const struct pollfd fds[2]);
void console_gather(struct console *con);
void console_flush(struct console *con);
enum console_request console_read(struct console *con);
enum console_request console_key(struct console *con, u8 byte);
void console_input(struct console *con, const u8 *data, size_t len);

static inline size_t console_room(const struct console *con)
{
	return CONSOLE_QUEUE - con->queued;
}

/* term.c */
int term_raw(int fd, struct err *err);
void term_suspend(void);
void term_resume(void);
void term_restore(void);

#endif
