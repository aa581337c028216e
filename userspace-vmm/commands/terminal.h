/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The user's terminal, in raw mode, and the keys that are not for the guest.
 */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "keel.h"

#define ESCAPE_KEY 0x01		/* Ctrl-A */
#define TYPED_MAX 256

/* What the user asked for with the escape key. */
enum terminal_request {
	TERMINAL_NOTHING,
	TERMINAL_QUIT,
	TERMINAL_POWER_BUTTON,
	TERMINAL_BREAK,
};

struct terminal {
	int fd;			/* -1: no input any more */
	bool tty;		/* the escape key works */
	bool escape;		/* the last byte was the escape key */
	const char *quit;	/* what Ctrl-A x does, for the help */
	u8 typed[TYPED_MAX];	/* for the guest */
	size_t count;
};

enum terminal_request terminal_read(struct terminal *t);
enum terminal_request terminal_key(struct terminal *t, u8 byte);

int term_raw(int fd, struct err *err);
void term_suspend(void);
void term_resume(void);
void term_restore(void);

#endif
