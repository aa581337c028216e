// SPDX-License-Identifier: GPL-2.0-only
/* Faults of several vCPUs side by side, by the clock on the wall. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"

#define PAGES	16384U		/* in all, whatever the number of vCPUs */
#define MOST_VCPUS	8
#define ROUNDS	5		/* of which the median counts; one before warms up */

static volatile u64 share;	/* bytes of each vCPU */

static void guest_touch_share(u64 vcpu)
{
	u64 gpa = GPA_BIG + vcpu * share;

	for (u64 i = 0; i < share; i += PAGE_SIZE)
		*(volatile u64 *)(gpa + i) = gpa + i;
	guest_done();
}

static u64 nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void check_share(const char *mem)
{
	for (u64 i = 0; i < PAGES * PAGE_SIZE; i += PAGE_SIZE) {
		if (*(u64 *)(mem + i) != GPA_BIG + i)
			fail("page %llu was not written", (unsigned long long)i / PAGE_SIZE);
	}
}

/* vCPUs, each with a thread of its own: of one VM, or of one each. */
struct group {
	struct vm *vm[MOST_VCPUS];
	int nr_vms;
	struct vcpu *vcpu[MOST_VCPUS];
	int nr_vcpus;
	u64 ns[ROUNDS];
};

static void make_group(struct group *g, int nr_vms, int nr_vcpus)
{
	for (int i = 0; i < nr_vms; i++) {
		g->vm[i] = vm_create(VM_IRQCHIP);
		map_high(g->vm[i]);
	}
	for (int i = 0; i < nr_vcpus; i++)
		g->vcpu[i] = vcpu_create(g->vm[i % nr_vms]);
	g->nr_vms = nr_vms;
	g->nr_vcpus = nr_vcpus;
}

/* Nanoseconds until all of the memory is mapped; the host has its pages. */
static u64 one_round(struct group *g, u64 *mem)
{
	u64 start;

	for (u64 i = 0; i < PAGES; i++)
		mem[i * PAGE_SIZE / 8] = 0;
	for (int i = 0; i < g->nr_vms; i++) {
		/* Made anew it has nothing mapped. */
		vm_slot(g->vm[i], SLOT_USER, 0, GPA_BIG, 0, mem);
		if (vm_slot(g->vm[i], SLOT_USER, 0, GPA_BIG, PAGES * PAGE_SIZE, mem))
			fail("slot");
	}
	share = PAGES * PAGE_SIZE / g->nr_vcpus;
	for (int i = 0; i < g->nr_vcpus; i++)
		vcpu_set_long_arg(g->vcpu[i], (void (*)(void))guest_touch_share, i);
	start = nanoseconds();
	for (int i = 0; i < g->nr_vcpus; i++)
		vcpu_start(g->vcpu[i]);
	for (int i = 0; i < g->nr_vcpus; i++)
		vcpu_join(g->vcpu[i]);
	start = nanoseconds() - start;
	check_share((char *)mem);
	return start;
}

static u64 pages_per_second(struct group *g)
{
	qsort(g->ns, ROUNDS, sizeof(g->ns[0]), by_value);
	for (int i = 0; i < g->nr_vms; i++)
		vm_destroy(g->vm[i]);
	return PAGES * 1000000000ULL / g->ns[ROUNDS / 2];
}

/* In turns, so that both see the same of what else the machine has to do. */
static void measure_vcpus(int nr_vcpus)
{
	struct group together = { .nr_vms = 0 }, apart = { .nr_vms = 0 };
	u64 *mem = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		fail("mmap");
	madvise(mem, PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
	make_group(&together, 1, nr_vcpus);
	make_group(&apart, nr_vcpus, nr_vcpus);
	one_round(&together, mem);
	one_round(&apart, mem);
	for (int i = 0; i < ROUNDS; i++) {
		together.ns[i] = one_round(&together, mem);
		apart.ns[i] = one_round(&apart, mem);
	}
	printf("%d,%llu", nr_vcpus, (unsigned long long)pages_per_second(&together));
	printf(",%llu\n", (unsigned long long)pages_per_second(&apart));
	fflush(stdout);
	munmap(mem, PAGES * PAGE_SIZE);
}

void measure_parallel(void)
{
	for (int n = 1; n <= MOST_VCPUS; n *= 2) {
		fprintf(stderr, "%d vCPUs\n", n);
		measure_vcpus(n);
	}
}
