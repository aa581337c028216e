/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs that work for a machine, and end with it.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include <stdatomic.h>
#include <sys/types.h>

#include "keel.h"

#define START_SECONDS 60	/* a program that has not said by then that it works fails */

struct daemon {
	char name[32];
	char serves[128];	/* set before it starts: what does not work without it */
	bool jails_itself;	/* set before it starts; see jail_helper() */
	pid_t pid;		/* 0: it does not run */
	int pid_fd;		/* in the sandbox only what has one can be signalled */
	int log;		/* what it printed */
	atomic_int lost;	/* how to end it, when it is of no use any more: daemon_lost() */
	/* In its process, before the program; -1: it said why. Optional. */
	int (*prepare)(void *opaque);
	void *opaque;
	struct daemon *next;	/* of those that run; main thread */
};

int daemon_start(struct daemon *d, char *const argv[], const int *fds,
		 unsigned int count, struct err *err);
int daemon_ready(struct daemon *d, int fd, struct err *err);
int daemon_wait(struct daemon *d, struct err *err);
int daemon_failed(struct daemon *d, struct err *err);
void daemon_stop(struct daemon *d);
void daemon_lost(struct daemon *d, int sig, int wake_fd);
bool daemon_ended(struct err *err);

#endif
