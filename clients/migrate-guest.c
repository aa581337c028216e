// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest does while it is saved, restored and migrated (clients/migrate):
 *
 *	migrate-guest MIB [DISK]
 *
 * Writes MIB of memory over and over, and checks before each write that the
 * page has what was written last; the same with the blocks of DISK, around the
 * guest's page cache; looks at the clock and the TSC at every page, and sleeps
 * once in a while, for which timer interrupts have to come. A line for each
 * pass tells how far it is:
 *
 *	tick PASS now MS jump MS
 *
 * "now" is the monotonic clock, "jump" the longest time between two looks at it
 * in that pass. Whatever is wrong is a line that begins with BAD.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PAGE	4096UL
#define WORDS	(PAGE / sizeof(uint64_t))
#define BLOCKS	64		/* of a page each */

static uint64_t last_ns, last_tsc, jump;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void look_at_clocks(void)
{
	uint64_t ns = now_ns(), tsc = __rdtsc();

	if (ns < last_ns)
		printf("BAD clock: %llu after %llu\n", (unsigned long long)ns,
		       (unsigned long long)last_ns);
	if (tsc < last_tsc)
		printf("BAD tsc: %llu after %llu\n", (unsigned long long)tsc,
		       (unsigned long long)last_tsc);
	if (last_ns && ns - last_ns > jump)
		jump = ns - last_ns;
	last_ns = ns;
	last_tsc = tsc;
}

static uint64_t value(uint64_t page, uint64_t word, uint64_t pass)
{
	return (page << 40 ^ word << 32 ^ pass) * 0x9e3779b97f4a7c15ULL;
}

static void fill(uint64_t *p, uint64_t page, uint64_t pass)
{
	for (uint64_t i = 0; i < WORDS; i += 8)
		p[i] = value(page, i, pass);
}

static void compare(const uint64_t *p, uint64_t page, uint64_t pass, const char *what)
{
	for (uint64_t i = 0; i < WORDS; i += 8) {
		if (p[i] == value(page, i, pass))
			continue;
		printf("BAD %s: page %llu word %llu pass %llu\n", what,
		       (unsigned long long)page, (unsigned long long)i,
		       (unsigned long long)pass);
		return;
	}
}

static void disk_pass(int fd, uint64_t *block, uint64_t pass)
{
	/* a few in each pass; each has the number of the pass that wrote it */
	for (uint64_t i = pass % 8; i < BLOCKS; i += 8) {
		if (pass > 8) {
			if (pread(fd, block, PAGE, i * PAGE) != (ssize_t)PAGE)
				printf("BAD read of block %llu\n", (unsigned long long)i);
			compare(block, i, pass - 8, "disk");
		}
		fill(block, i, pass);
		if (pwrite(fd, block, PAGE, i * PAGE) != (ssize_t)PAGE)
			printf("BAD write of block %llu\n", (unsigned long long)i);
	}
}

int main(int argc, char **argv)
{
	uint64_t pages = strtoull(argc > 1 ? argv[1] : "8", NULL, 0) << 20 >> 12;
	struct timespec ms = { 0, 1000000 };
	uint64_t *mem, *block;
	int fd = -1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mem = mmap(NULL, (pages + 1) * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return 1;
	block = mem + pages * WORDS;
	if (argc > 2) {
		fd = open(argv[2], O_RDWR | O_DIRECT);
		if (fd < 0) {
			printf("BAD disk: %s\n", argv[2]);
			return 1;
		}
	}
	for (uint64_t pass = 1;; pass++) {
		for (uint64_t i = 0; i < pages; i++) {
			if (pass > 1)
				compare(mem + i * WORDS, i, pass - 1, "memory");
			fill(mem + i * WORDS, i, pass);
			look_at_clocks();
		}
		if (fd >= 0)
			disk_pass(fd, block, pass);
		nanosleep(&ms, NULL);
		look_at_clocks();
		printf("tick %llu now %llu jump %llu\n", (unsigned long long)pass,
		       (unsigned long long)(last_ns / 1000000),
		       (unsigned long long)(jump / 1000000));
		jump = 0;
	}
}
