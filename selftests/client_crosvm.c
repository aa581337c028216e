// SPDX-License-Identifier: GPL-2.0-only
/*
 * crosvm: all chips in the kernel; a device's level interrupt is an irqfd with
 * resampling. Boolean capabilities count when they are 1, and MSRs go one by one.
 */

#include "lib/client.h"

#define GSI_LEVEL	10
#define GSI_MSI		24
#define VEC_LEVEL	0x4a
#define VEC_MSI		0x52

static struct vm *start(struct __test_metadata *_metadata, struct kvm_cpuid2 **cpuid)
{
	/* More than one means no, or is unknown, to its check. */
	static const struct client_cap ones[] = {
		CLIENT_CAP(IMMEDIATE_EXIT), CLIENT_CAP(TSC_DEADLINE_TIMER),
		CLIENT_CAP(KVMCLOCK_CTRL), CLIENT_CAP(READONLY_MEM),
	};
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct vm *vm = client_open();
	u64 map = 0xfffbc000;
	int size;

	size = sys_ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, NULL);
	ASSERT_LE(2 * (int)PAGE_SIZE, size);
	vm_create_fd(vm);
	for (unsigned int i = 0; i < ARRAY_SIZE(ones); i++) {
		EXPECT_EQ(1, vm_cap(vm, ones[i].cap))
			TH_LOG("KVM_CAP_%s", ones[i].name);
	}
	vm_add_memory(vm, 0);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &map));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	*cpuid = client_cpuid(vm->dev, CLIENT_CPUID);
	return vm;
}

static u64 device_pending;	/* the device's own, level, request */

static void on_level(struct guest_trap *trap)
{
	device_pending = 0;
	on_apic_irq(trap);
}

static void guest_main(void)
{
	pic_init(0xffff);	/* else it answers too, through LINT0 */
	apic_enable();
	ioapic_route(GSI_LEVEL, VEC_LEVEL | IOAPIC_LEVEL);
	guest_sync(1);
	for (u32 n = 1; n <= 3; n++) {
		while (irqs[VEC_LEVEL] < n)
			guest_sti_hlt();
		while (irqs[VEC_MSI] < n)
			guest_sti_hlt();
		guest_sync(10 + n);
	}
	guest_done();
}

/* Its variable MTRRs, as many as there are; then the fixed ones and the default. */
static void set_mtrrs(struct __test_metadata *_metadata, struct vcpu *vcpu)
{
	u32 n = vcpu_get_msr(vcpu, MSR_MTRRcap) & 0xff;

	if (n < 2)
		return;
	for (u32 i = 0; i < n; i++) {
		/* One range, the MMIO hole from 3 GiB on, is uncached. */
		ASSERT_EQ(1, vcpu_set_msr(vcpu, 0x200 + 2 * i, i ? 0 : 0xc0000000));
		ASSERT_EQ(1, vcpu_set_msr(vcpu, 0x201 + 2 * i, i ? 0 : 0xffc0000800));
	}
}

static struct vcpu *add_vcpu(struct __test_metadata *_metadata, struct vm *vm,
			     struct kvm_cpuid2 *cpuid)
{
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	client_set_cpuid(vcpu, cpuid, 1U << 24);	/* TSC deadline */
	for (unsigned int i = 0; i < ARRAY_SIZE(client_boot_msrs); i++) {
		u32 msr = client_boot_msrs[i];

		ASSERT_EQ(1, vcpu_set_msr(vcpu, msr, client_boot_value(msr)))
			TH_LOG("MSR %#x", msr);
	}
	set_mtrrs(_metadata, vcpu);
	vcpu_set_long(vcpu, guest_main);
	client_set_fpu(vcpu);
	client_set_lint(vcpu);
	return vcpu;
}

struct fds {
	int level, resample, msi;
};

static void add_fds(struct __test_metadata *_metadata, struct vm *vm, struct fds *f)
{
	struct kvm_irqfd i = { .gsi = GSI_LEVEL, .flags = KVM_IRQFD_FLAG_RESAMPLE };
	struct client_routes r = { .head.nr = 0 };

	for (u32 pin = 0; pin < 24; pin++) {
		if (pin < 16)
			client_route_chip(&r, pin, pin / 8, pin % 8);
		client_route_chip(&r, pin, KVM_IRQCHIP_IOAPIC, pin);
	}
	client_route_msi(&r, GSI_MSI, 0xfee00000, VEC_MSI);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	f->level = client_eventfd();
	f->resample = client_eventfd();
	f->msi = client_eventfd();
	i.fd = f->level;
	i.resamplefd = f->resample;
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_IRQFD, &i));
	ASSERT_EQ(0, client_irqfd(vm, f->msi, GSI_MSI));
}

/* The line is up until the EOI, of which the device is told. */
static void one_round(struct __test_metadata *_metadata, struct vcpu *vcpu,
		      struct fds *f, u64 n)
{
	device_pending = 1;
	client_signal(f->level);
	client_signal(f->msi);
	ASSERT_EQ(10 + n, guest_run_sync(vcpu));
	EXPECT_EQ(0, device_pending);
	EXPECT_EQ(1, client_read(f->resample));
	EXPECT_EQ(n, irqs[VEC_LEVEL]);
}

TEST(boot)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid);
	struct vcpu *vcpu = add_vcpu(_metadata, vm, cpuid);
	struct fds f;

	guest_handlers[VEC_LEVEL] = on_level;
	guest_handlers[VEC_MSI] = on_apic_irq;
	add_fds(_metadata, vm, &f);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	for (u64 n = 1; n <= 3; n++)
		one_round(_metadata, vcpu, &f, n);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* It suspends all vCPUs, saves, and goes on in another process: here another VM. */
TEST(snapshot)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid), *to;
	struct vcpu *vcpu = add_vcpu(_metadata, vm, cpuid);
	struct client_vcpu *state = calloc(1, sizeof(*state));
	struct client_chips chips;
	struct fds f;

	guest_handlers[VEC_LEVEL] = on_level;
	guest_handlers[VEC_MSI] = on_apic_irq;
	add_fds(_metadata, vm, &f);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	one_round(_metadata, vcpu, &f, 1);
	client_pause(vcpu);
	client_save_vcpu(vcpu, state);
	client_save_chips(vm, &chips);

	to = start(_metadata, &cpuid);
	memcpy(to->low, vm->low, LOW_SIZE);
	vm_destroy(vm);
	vcpu = vcpu_create_bare(to, 0);
	client_restore_vcpu(vcpu, state);
	add_fds(_metadata, to, &f);
	client_restore_chips(to, &chips);
	one_round(_metadata, vcpu, &f, 2);
	one_round(_metadata, vcpu, &f, 3);
	guest_run_done(vcpu);
	vm_destroy(to);
}
