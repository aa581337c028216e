// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel keeps for a VM and for a vCPU, in bytes that it charges to the client's cgroup. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#define CGROUPS	"/sys/fs/cgroup/"
#define GROUP	CGROUPS "keel-bench/"
#define UNITS	32U

static struct vm *made[UNITS];

/* The kernel's memory of the group but for the tables of the client's own pages. */
static u64 charged(void)
{
	unsigned long long kernel = 0, tables = 0;
	FILE *f = fopen(GROUP "memory.stat", "r");
	char line[128];

	if (!f)
		fail(GROUP "memory.stat");
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "kernel %llu", &kernel);
		sscanf(line, "pagetables %llu", &tables);
	}
	fclose(f);
	if (!kernel)
		fail("no kernel memory in " GROUP "memory.stat");
	return kernel - tables;
}

/* What was freed last may have to wait for RCU or a worker. */
static u64 charged_settled(void)
{
	u64 was, now = charged();

	do {
		was = now;
		usleep(50000);
		now = charged();
	} while (now != was);
	return now;
}

static void setup_charged(struct bench *b)
{
	if (!host_write(CGROUPS "cgroup.subtree_control", "+memory") ||
	    (mkdir(GROUP, 0700) && errno != EEXIST)) {
		b->skip = "no memory controller in " CGROUPS;
		return;
	}
	if (!host_write(GROUP "cgroup.procs", "0"))
		fail(GROUP "cgroup.procs");
}

static void cleanup_charged(struct bench *b)
{
	(void)b;
	host_write(CGROUPS "cgroup.procs", "0");
	rmdir(GROUP);
}

static void batch_vm(struct bench *b)
{
	u64 before = charged_settled();

	for (u32 i = 0; i < UNITS; i++)
		made[i] = vm_create(VM_IRQCHIP | VM_PIT);
	b->ticks = charged() - before;
	for (u32 i = 0; i < UNITS; i++)
		vm_destroy(made[i]);
}

/* The VM's first may make what is the VM's. */
static void batch_vcpu(struct bench *b)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
	u64 before;

	add_vcpu(vm);
	before = charged_settled();
	for (u32 i = 0; i < UNITS; i++)
		add_vcpu(vm);
	b->ticks = charged() - before;
	vm_destroy(vm);
}

const struct bench_op footprint_ops[] = {
	{ .name = "memory-vm", .title = "bytes of kernel memory: a VM with its irqchip and PIT",
	  .kind = "more", .n = UNITS, .no_vm = true, .loop = LOOP_NONE, .setup = setup_charged,
	  .batch = batch_vm, .cleanup = cleanup_charged },
	{ .name = "memory-vcpu", .title = "... and each vCPU that has run",
	  .kind = "more", .n = UNITS, .no_vm = true, .loop = LOOP_NONE, .setup = setup_charged,
	  .batch = batch_vcpu, .cleanup = cleanup_charged },
	{ }
};
