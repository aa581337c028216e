/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs that work for a machine, and end with it.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include <sys/types.h>

#include "keel.h"

struct daemon {
	char name[32];
	char serves[128];	/* set before it starts: what does not work without it */
	bool jails_itself;	/* set before it starts; see jail_helper() */
	pid_t pid;		/* 0: it does not run */
	int pid_fd;		/* in the sandbox only what has one can be signalled */
	int log;		/* what it printed */
	/* In its process, before the program; -1: it said why. Optional. */
	int (*prepare)(void *opaque);
	void *opaque;
	struct daemon *next;	/* of those that run; main thread */
};

int daemon_start(struct daemon *d, char *const argv[], const int *fds,
		 unsigned int count, struct err *err);
int daemon_wait(struct daemon *d, struct err *err);
int daemon_failed(struct daemon *d, struct err *err);
void daemon_stop(struct daemon *d);
bool daemon_ended(struct err *err);

#endif
