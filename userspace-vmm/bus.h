/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Port and MMIO address spaces, and the devices that answer in them.
 */
#ifndef BUS_H
#define BUS_H

#include <stdatomic.h>

#include "keel.h"

#define BUS_MAX_REGIONS 16

/**
 * struct bus_access - one access as the device sees it
 * @offset: from the start of the region
 * @size: 1, 2, 4 or 8 bytes, never beyond the end of the region
 * @write: a store; otherwise a load
 * @value: what is stored; a load starts with all ones
 */
struct bus_access {
	u64 offset;
	unsigned int size;
	bool write;
	u64 value;
};

typedef void (*bus_fn)(void *dev, struct bus_access *access);

struct bus_region {
	const char *name;
	u64 base;
	u64 size;
	bool bytewise;		/* the device has 8-bit registers only */
	bus_fn fn;
	void *dev;
	atomic_ullong hits;
};

/*
 * Regions are added before the first vCPU runs and are constant from then
 * on, which is why lookups take no lock. Only the counters change.
 */
struct bus {
	struct bus_region region[BUS_MAX_REGIONS];
	unsigned int count;
	atomic_ullong unclaimed;
};

void bus_add(struct bus *bus, const char *name, u64 base, u64 size,
	     bool bytewise, bus_fn fn, void *dev);
void bus_access(struct bus *bus, u64 addr, void *data, unsigned int size, bool write);

/* How a device drives its interrupt input. */
struct irq_line {
	void (*set)(void *opaque, unsigned int gsi, bool level);
	void *opaque;
	unsigned int gsi;
};

static inline void irq_set(const struct irq_line *irq, bool level)
{
	if (irq->set)
		irq->set(irq->opaque, irq->gsi, level);
}

#endif
