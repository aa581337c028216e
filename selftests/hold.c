// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test but a part of some: holds a VM whose vCPUs never stop running,
 * says so on standard output, and waits to be killed. It ends by itself only when
 * a vCPU sees its clock go back, or KVM_RUN fails.
 *
 *	hold DEVICE [VCPUS [keep]]
 *
 * keep: another process keeps the VM open, so that it outlives this one, which
 * ends when KVM_RUN fails because the machine goes down.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <asm/kvm_para.h>

#include "lib/vm.h"
#include "lib/guest.h"

static volatile u32 count[MAX_VCPUS];
static volatile bool went_back;
static struct pvclock_vcpu_time_info clock_page[MAX_VCPUS];
static u32 next;

static void guest_spin(void)
{
	u32 me = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
	u64 last = 0;

	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uintptr_t)&clock_page[me] | 1);
	guest_spins();
	for (;;) {
		u64 now = guest_kvmclock_ns(&clock_page[me]);

		if (now < last)
			went_back = true;
		last = now;
		count[me]++;
	}
}

int main(int argc, char **argv)
{
	int vcpus = argc > 2 ? atoi(argv[2]) : 1;
	struct vm *vm;

	if (argc < 2 || vcpus < 1 || vcpus > MAX_VCPUS) {
		fprintf(stderr, "usage: hold DEVICE [VCPUS [keep]]\n");
		return 2;
	}
	keel_device = argv[1];
	vm = vm_create(VM_IRQCHIP);
	for (int i = 0; i < vcpus; i++)
		vcpu_set_long(vcpu_create(vm), guest_spin);
	if (argc > 3) {
		pid_t keeper = fork();

		if (keeper < 0)
			fail("fork");
		while (!keeper)
			pause();
	}
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
		if (went_back) {
			printf("a vCPU's clock went back\n");
			return 1;
		}
		for (int i = 0; i < vcpus; i++)
			sum += count[i];
		printf("%llu\n", (unsigned long long)sum);
		fflush(stdout);
	}
}
