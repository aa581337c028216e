// SPDX-License-Identifier: GPL-2.0-only
/* How cost grows: a few operations, with more and more of one thing around them. */

#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "bench.h"

static void set_memory(u32 mib)
{
	around.memory = (u64)mib << 20;
}

static void set_slots(u32 n)
{
	around.slots = n;
}

static void set_vcpus(u32 n)
{
	around.vcpus = n;
}

static void set_vms(u32 n)
{
	around.vms = n;
}

static void set_dirty(u32 n)
{
	around.dirty = n;
}

static const struct {
	const char *name;
	void (*set)(u32 value);
	u32 value[8];		/* ends with 0 */
} axes[] = {
	{ "memory", set_memory, { 64, 256, 1024, 4096, 16384 } },
	{ "slots", set_slots, { 1, 4, 16, 64, 256, 509 } },
	{ "vcpus", set_vcpus, { 1, 2, 4, 8, 16, 32, 64 } },
	{ "vms", set_vms, { 1, 4, 16, 64 } },
	{ "dirty", set_dirty, { 1, 10, 100, 1000, 10000, 100000 } },
};

static const char * const growth_ops[] = {
	"new-vm", "slot", "cpuid", "fault-4k", "fault-spread", "fault-write-protect",
	"get-dirty-log", "clear-dirty-log", "ipi-wake",
};

/* Dirty pages are the host's memory, twice: see struct surroundings. */
static bool has_memory_for(u32 pages)
{
	struct sysinfo info;

	return !sysinfo(&info) && (u64)info.freeram * info.mem_unit / 3 > pages * PAGE_SIZE;
}

static void point(const char *axis, u32 value)
{
	char prefix[32];

	snprintf(prefix, sizeof(prefix), "%s,%u,", axis, value);
	for (unsigned int i = 0; i < sizeof(growth_ops) / sizeof(growth_ops[0]); i++)
		measure_and_print(find_op(growth_ops[i]), prefix);
}

/* Of the axis @name; false when there is none. */
bool measure_growth(const char *name)
{
	for (unsigned int i = 0; i < sizeof(axes) / sizeof(axes[0]); i++) {
		if (strcmp(axes[i].name, name))
			continue;
		memset(&around, 0, sizeof(around));
		for (const u32 *v = axes[i].value; *v; v++) {
			axes[i].set(*v);
			if (!has_memory_for(around.dirty)) {
				fprintf(stderr, "%s %u: skipped: too little memory\n", name, *v);
				continue;
			}
			fprintf(stderr, "%s %u\n", name, *v);
			point(name, *v);
		}
		return true;
	}
	return false;
}
