/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The state of a machine in a file.
 */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "keel.h"

#define SNAPSHOT_PARTS 40

struct machine;

/*
 * What a device has to keep: plain data, no pointers and no locks. The vCPUs
 * are parked when these run.
 */
struct snapshot_part {
	const char *name;
	void *data;
	size_t size;
	void *dev;			/* argument of the functions */
	void (*save)(void *dev);	/* gather state in data; or NULL */
	int (*load)(void *dev);		/* data is filled; -1: impossible; or NULL */
};

void snapshot_add(struct machine *m, const char *name, void *data, size_t size, void *dev,
		  void (*save)(void *dev), int (*load)(void *dev));
int snapshot_open(struct run_config *cfg, struct err *err);
int snapshot_cpuid(struct machine *m, struct err *err);
int snapshot_load(struct machine *m, struct err *err);
int snapshot_save(struct machine *m, int fd, struct err *err);

#endif
