// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test but a part of some: holds a VM whose vCPUs never stop running,
 * says so on standard output, and waits to be killed.
 *
 *	hold DEVICE [VCPUS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/vm.h"
#include "lib/guest.h"

static volatile u32 count[MAX_VCPUS];
static u32 next;

static void guest_spin(void)
{
	u32 me = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);

	guest_spins();
	for (;;)
		count[me]++;
}

int main(int argc, char **argv)
{
	int vcpus = argc > 2 ? atoi(argv[2]) : 1;
	struct vm *vm;

	if (argc < 2 || vcpus < 1 || vcpus > MAX_VCPUS) {
		fprintf(stderr, "usage: hold DEVICE [VCPUS]\n");
		return 2;
	}
	keel_device = argv[1];
	vm = vm_create(VM_IRQCHIP);
	for (int i = 0; i < vcpus; i++)
		vcpu_set_long(vcpu_create(vm), guest_spin);
	for (int i = 0; i < vcpus; i++)
		vcpu_start(&vm->vcpu[i]);
	for (int i = 0; i < vcpus; i++)
		while (!count[i])
			usleep(1000);
	printf("running\n");
	fflush(stdout);
	/* every second: how far they have come */
	for (;;) {
		u64 sum = 0;

		sleep(1);
		for (int i = 0; i < vcpus; i++)
			sum += count[i];
		printf("%llu\n", (unsigned long long)sum);
		fflush(stdout);
	}
}
