// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rate of this machine's time stamp counter in kHz. QEMU without icount hands
 * it to its guest as it is; a guest that has to measure it on a busy machine is
 * wrong by a factor, and so is its clock.
 */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
	double ns;
	unsigned long long tsc;
};

/* Of some readings the one that was interrupted least. */
static struct sample now(void)
{
	struct sample best = { 0 };
	unsigned long long shortest = ~0ull;

	for (int i = 0; i < 50; i++) {
		struct timespec t;
		unsigned long long before = __rdtsc();

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		unsigned long long after = __rdtsc();

		if (after - before >= shortest)
			continue;
		shortest = after - before;
		best.tsc = before + shortest / 2;
		best.ns = t.tv_sec * 1e9 + t.tv_nsec;
	}
	return best;
}

int main(void)
{
	struct timespec pause = { .tv_nsec = 200000000 };
	struct sample a = now(), b;

	nanosleep(&pause, NULL);
	b = now();
	printf("%.0f\n", (b.tsc - a.tsc) / (b.ns - a.ns) * 1e6);
	return 0;
}
