/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is left to a machine, or one of its helper programs, when a guest has
 * taken it over.
 */
#ifndef JAIL_H
#define JAIL_H

#include <sys/types.h>

#include "keel.h"

enum jail_thread {
	JAIL_MAIN,
	JAIL_VCPU,
	JAIL_DEVICE,
};

bool jail_off(void);
pid_t jail_start(const struct run_config *cfg, struct err *err);
int jail_wait(pid_t pid);
void jail_unlinks(const char *path);
int jail_helper(bool jails_itself, const char *program, const int *fds, unsigned int count);
int jail_enter(struct err *err);
void jail_thread(enum jail_thread kind);

/* Tests only: what a thread that was taken over tries, and says what it reached. */
void jail_attempts(const char *who);
extern struct io_uring *jail_ring;

#endif
