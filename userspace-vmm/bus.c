// SPDX-License-Identifier: GPL-2.0-only
/*
 * Route a port or MMIO access to the device that claims it.
 */
#include <assert.h>
#include <string.h>

#include "bus.h"

/**
 * bus_add() - claim a range of a bus for a device
 * @name: for messages and statistics; must outlive the bus
 * @base: first address
 * @bytewise: split wider accesses into bytes
 * @fn: called for every access, from any vCPU thread
 * @dev: first argument of @fn
 *
 * Of regions that overlap, the one that was added first answers.
 */
void bus_add(struct bus *bus, const char *name, u64 base, u64 size,
	     bool bytewise, bus_fn fn, void *dev)
{
	struct bus_region *r = &bus->region[bus->count++];

	assert(bus->count <= BUS_MAX_REGIONS);
	r->name = name;
	r->base = base;
	r->size = size;
	r->bytewise = bytewise;
	r->fn = fn;
	r->dev = dev;
}

static struct bus_region *bus_find(struct bus *bus, u64 addr)
{
	unsigned int i;

	for (i = 0; i < bus->count; i++) {
		struct bus_region *r = &bus->region[i];

		if (addr - r->base < r->size)
			return r;
	}
	return NULL;
}

static void region_access(struct bus_region *r, u64 offset, void *data,
			  unsigned int size, bool write)
{
	struct bus_access access = {
		.offset = offset,
		.size = size,
		.write = write,
	};

	/* x86 is little-endian on both sides: a byte copy is the value. */
	if (write)
		memcpy(&access.value, data, size);
	else
		access.value = ~0ULL;
	r->fn(r->dev, &access);
	if (!write)
		memcpy(data, &access.value, size);
	atomic_fetch_add_explicit(&r->hits, 1, memory_order_relaxed);
}

/**
 * bus_access() - carry out one guest access
 * @addr: guest address or port
 * @data: what to store, or where to put what was loaded
 * @size: 1 to 8 bytes
 *
 * Nobody at the address: writes are dropped and reads give all ones, as on
 * a PC. An access that sticks out of a region is split into bytes, each of
 * which is looked up on its own.
 */
void bus_access(struct bus *bus, u64 addr, void *data, unsigned int size, bool write)
{
	struct bus_region *r = bus_find(bus, addr);
	unsigned int i;
	u8 *byte = data;

	if (size > 8)
		return;
	if (r && !r->bytewise && size <= r->size - (addr - r->base)) {
		region_access(r, addr - r->base, data, size, write);
		return;
	}
	for (i = 0; i < size; i++) {
		r = bus_find(bus, addr + i);
		if (r) {
			region_access(r, addr + i - r->base, byte + i, 1, write);
			continue;
		}
		if (!write)
			byte[i] = 0xff;
		if (!i)
			atomic_fetch_add_explicit(&bus->unclaimed, 1, memory_order_relaxed);
	}
}
