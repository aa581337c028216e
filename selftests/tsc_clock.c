// SPDX-License-Identifier: GPL-2.0-only
/* The TSC of several vCPUs, kvmclock, and KVM_GET_CLOCK. */

#include <asm/kvm_para.h>
#include <time.h>

#include "lib/test.h"

#define NSEC	1000000000ULL

static volatile u64 turn, last_tsc, backwards;

/* Two vCPUs in turn: each must see a time not before the other's last. */
static void guest_ping_pong(u64 me)
{
	u32 n = 300 * keel_scale;

	guest_spins();
	while (turn < n) {
		u64 t;

		if ((turn & 1) != me) {
			asm volatile("pause");
			continue;
		}
		t = rdtsc();
		if (t < last_tsc)
			backwards++;
		last_tsc = t;
		asm volatile("" : : : "memory");
		turn++;
	}
	guest_done();
}

TEST(tsc_is_monotonic_across_vcpus)
{
	struct vm *vm = vm_create(0);
	struct vcpu *a = vcpu_create(vm), *b = vcpu_create(vm);

	vcpu_set_long_arg(a, (void (*)(void))guest_ping_pong, 0);
	vcpu_set_long_arg(b, (void (*)(void))guest_ping_pong, 1);
	vcpu_start(a);
	vcpu_start(b);
	vcpu_join(a);
	vcpu_join(b);
	EXPECT_EQ(0, backwards);
	vm_destroy(vm);
}

/* A VMM sets each vCPU's TSC to the same: they end up the same (and no less). */
TEST(tsc_set_by_the_host_is_one_clock)
{
	struct vm *vm = vm_create(0);
	struct vcpu *a = vcpu_create(vm), *b = vcpu_create(vm);

	EXPECT_EQ(1, vcpu_set_msr(a, MSR_IA32_TSC, 0));
	usleep(1000);
	EXPECT_EQ(1, vcpu_set_msr(b, MSR_IA32_TSC, 0));
	vcpu_set_long_arg(a, (void (*)(void))guest_ping_pong, 0);
	vcpu_set_long_arg(b, (void (*)(void))guest_ping_pong, 1);
	vcpu_start(a);
	vcpu_start(b);
	vcpu_join(a);
	vcpu_join(b);
	EXPECT_EQ(0, backwards);
	vm_destroy(vm);
}

static void guest_reads_tsc(void)
{
	for (;;)
		guest_sync(rdtsc() >> 32);
}

/* What a VMM that migrates uses: exact, where a write of the TSC is a race. */
TEST(tsc_offset_attribute)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm), *late;
	static const u64 offsets[] = { 0, 1ULL << 40, -(1ULL << 40), 1ULL << 62 };
	u64 offset = 0;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	EXPECT_EQ(1, dev_cap(KVM_CAP_VCPU_ATTRIBUTES));
	EXPECT_EQ(1, vm_cap(vm, KVM_CAP_VCPU_ATTRIBUTES));
	vcpu_set_long(vcpu, guest_reads_tsc);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr));
	for (u32 i = 0; i < ARRAY_SIZE(offsets); i++) {
		u64 before, after, high;

		offset = offsets[i];
		EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
		before = (rdtsc() + offset) >> 32;
		high = guest_run_sync(vcpu);
		after = (rdtsc() + offset) >> 32;
		EXPECT_LE((u32)before, (u32)high);
		EXPECT_GE((u32)after, (u32)high);
		/* MSR_IA32_TSC_ADJUST has no part in it. */
		EXPECT_EQ(0, vcpu_get_msr(vcpu, MSR_IA32_TSC_ADJUST));
		offset = 1;
		EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
		EXPECT_EQ(offsets[i], offset);
	}
	/* A vCPU that comes later joins the others. */
	late = vcpu_create(vm);
	EXPECT_EQ(0, sys_ioctl(late->fd, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(offsets[ARRAY_SIZE(offsets) - 1], offset);

	attr.addr = 0;
	EXPECT_EQ(-EFAULT, sys_ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-EFAULT, sys_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr));
	attr.attr = 77;
	EXPECT_EQ(-ENXIO, sys_ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr));
	attr.addr = (uintptr_t)&offset;
	EXPECT_EQ(-ENXIO, sys_ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-ENXIO, sys_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	attr.attr = KVM_VCPU_TSC_OFFSET;
	attr.group = 77;
	EXPECT_EQ(-ENXIO, sys_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-EFAULT, sys_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, NULL));
	vm_destroy(vm);
}

static volatile u64 tsc_a, tsc_b;

static void guest_tsc_rate(void)
{
	tsc_a = rdtsc();
	guest_sync(1);
	tsc_b = rdtsc();
	guest_done();
}

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NSEC + t.tv_nsec;
}

TEST(tsc_khz)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	int khz = sys_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	u64 start, ns, seen;

	if (khz == -EIO)
		SKIP(return, "the host's TSC is not stable");
	ASSERT_LT(0, khz);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(long)khz));
	vcpu_set_long(vcpu, guest_tsc_rate);
	start = now_ns();
	ASSERT_EQ(1, guest_run_sync(vcpu));
	usleep(200000);
	guest_run_done(vcpu);
	ns = now_ns() - start;
	seen = (tsc_b - tsc_a) * 1000000 / ns;
	/* The rate is what it is said to be, give or take the run's overhead. */
	EXPECT_LT(khz / 2, seen);
	EXPECT_GT(khz + khz / 10, seen);
	vm_destroy(vm);
}

static void guest_tsc_adjust(void)
{
	u64 a, b;

	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_ADJUST), 0);
	a = rdtsc();
	wrmsr(MSR_IA32_TSC_ADJUST, 1ULL << 44);
	b = rdtsc();
	GUEST_ASSERT(b >= a + (1ULL << 44) && b < a + (2ULL << 44));
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_ADJUST), 1ULL << 44);
	guest_done();
}

TEST(tsc_adjust)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_cpuid2 *c = cpuid_supported(vm->dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(c, 7, 0);

	if (!e || !(e->ebx & 2))
		SKIP(return, "CPUID has no TSC_ADJUST");
	vcpu_set_long(vcpu, guest_tsc_adjust);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- kvmclock --- */

static struct pvclock_vcpu_time_info pv;

static struct {
	u32 version;
	u32 sec;
	u32 nsec;
} __attribute__((aligned(64))) wall;

static volatile u64 pv_ns[4];

static void guest_kvmclock(void)
{
	wrmsr(MSR_KVM_WALL_CLOCK_NEW, (uintptr_t)&wall);
	GUEST_ASSERT(wall.version && !(wall.version & 1));
	GUEST_ASSERT(wall.sec > 0);
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uintptr_t)&pv | 1);
	GUEST_ASSERT(pv.version && !(pv.version & 1));
	GUEST_ASSERT(pv.tsc_to_system_mul);
	pv_ns[0] = guest_kvmclock_ns(&pv);
	pv_ns[1] = guest_kvmclock_ns(&pv);
	GUEST_ASSERT(pv_ns[1] >= pv_ns[0]);
	guest_sync(1);
	pv_ns[2] = guest_kvmclock_ns(&pv);
	guest_sync(2);
	pv_ns[3] = guest_kvmclock_ns(&pv);
	GUEST_ASSERT_EQ(rdmsr(MSR_KVM_SYSTEM_TIME_NEW), (uintptr_t)&pv | 1);
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, 0);
	guest_done();
}

TEST(kvmclock)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_clock_data clock = { .clock = 0 };
	u64 start, ns, boot;
	struct timespec t;

	if (!vm_cap(vm, KVM_CAP_ADJUST_CLOCK))
		SKIP(return, "no KVM_CAP_ADJUST_CLOCK");
	vcpu_set_long(vcpu, guest_kvmclock);
	start = now_ns();
	ASSERT_EQ(1, guest_run_sync(vcpu));
	usleep(200000);
	/* What the guest computes is what the ioctl says, between its neighbours. */
	VM_IOCTL(vm, KVM_GET_CLOCK, &clock);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	ns = now_ns() - start;
	EXPECT_LE(200000000, pv_ns[2] - pv_ns[0]);
	EXPECT_GE(ns + NSEC / 50, pv_ns[2] - pv_ns[0]);
	EXPECT_LT(pv_ns[0], clock.clock);
	EXPECT_GE(pv_ns[2] + NSEC / 50, clock.clock);
	/* The wall clock of the guest's time zero. */
	clock_gettime(CLOCK_REALTIME, &t);
	boot = t.tv_sec - pv_ns[2] / NSEC;
	EXPECT_LE(boot - 2, wall.sec);
	EXPECT_GE(boot + 2, wall.sec);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

TEST(get_and_set_clock)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct kvm_clock_data a = { .clock = 0 }, b = { .clock = 0 };
	int flags = vm_cap(vm, KVM_CAP_ADJUST_CLOCK);

	if (!flags)
		SKIP(return, "no KVM_CAP_ADJUST_CLOCK");
	vcpu_create(vm);
	VM_IOCTL(vm, KVM_GET_CLOCK, &a);
	EXPECT_EQ(0, a.flags & ~flags);
	usleep(2000);
	VM_IOCTL(vm, KVM_GET_CLOCK, &b);
	EXPECT_LE(a.clock + 2000000, b.clock);
	EXPECT_GT(a.clock + 60 * NSEC, b.clock);
	memset(&a, 0, sizeof(a));
	a.clock = 1000 * NSEC;
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_CLOCK, &a));
	VM_IOCTL(vm, KVM_GET_CLOCK, &b);
	EXPECT_LE(1000 * NSEC, b.clock);
	EXPECT_GT(1060 * NSEC, b.clock);
	a.flags = 1U << 31;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_CLOCK, &a));
	vm_destroy(vm);
}

TEST(kvmclock_ctrl_without_clock)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);

	/* Each pause of a VMM calls it: EINVAL is the answer they tolerate. */
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0));
	vm_destroy(vm);
}
