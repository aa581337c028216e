/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the serial port and files.
 */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <poll.h>

#include "serial.h"

#define CONSOLE_QUEUE 4096

/* Used by the main thread only. */
struct console {
	struct serial *serial;
	int in_fd;		/* -1: no input (any more) */
	int out_fd;		/* -1: output is dropped */
	const char *out_path;	/* we opened it; NULL: standard output */
	bool failed;		/* output is lost: see err */
	struct err err;
	u8 queue[CONSOLE_QUEUE];
	size_t queued;
	void (*tap)(void *opaque, const u8 *data, size_t len);	/* sees the output */
	void *tap_opaque;
};

int console_open(struct console *con, const struct run_config *cfg,
		 struct serial *serial, struct err *err);
void console_close(struct console *con);
void console_poll(struct console *con, struct pollfd fds[2]);
void console_events(struct console *con, const struct pollfd fds[2]);
void console_gather(struct console *con);
void console_flush(struct console *con);
void console_input(struct console *con, const u8 *data, size_t len);

static inline size_t console_room(const struct console *con)
{
	return CONSOLE_QUEUE - con->queued;
}

#endif
