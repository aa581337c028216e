// SPDX-License-Identifier: GPL-2.0-only
/*
 * Firecracker: all chips in the kernel, the speaker's port too, long mode from the
 * first instruction, every interrupt by irqfd, every notification by ioeventfd.
 */

#include "lib/client.h"

#define GSI_LEGACY	5
#define GSI_MSI		24	/* the first that no pin has */
#define VEC_LEGACY	0x45
#define VEC_MSI		0x51
#define VIRTIO		(GPA_MMIO + 0x1000)
#define NOTIFY		(VIRTIO + 0x50)	/* virtio-mmio's register */
#define PCI_NOTIFY	(GPA_MMIO + 0x8000)

static struct vm *start(struct __test_metadata *_metadata, struct kvm_cpuid2 **cpuid)
{
	static const struct client_cap caps[] = {
		CLIENT_CAP(IRQCHIP), CLIENT_CAP(IOEVENTFD), CLIENT_CAP(IRQFD),
		CLIENT_CAP(USER_MEMORY), CLIENT_CAP(SET_TSS_ADDR), CLIENT_CAP(PIT2),
		CLIENT_CAP(PIT_STATE2), CLIENT_CAP(ADJUST_CLOCK), CLIENT_CAP(DEBUGREGS),
		CLIENT_CAP(MP_STATE), CLIENT_CAP(VCPU_EVENTS), CLIENT_CAP(XCRS),
		CLIENT_CAP(XSAVE), CLIENT_CAP(EXT_CPUID),
	};
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct client_msr_list msrs;
	struct vm *vm = client_open();
	int size;

	CLIENT_REQUIRES(vm->dev, caps);
	/* Two devices of virtio, a balloon and the RAM at least. */
	EXPECT_LE(32, sys_ioctl(vm->dev, KVM_CHECK_EXTENSION, (void *)KVM_CAP_NR_MEMSLOTS));
	*cpuid = client_cpuid(vm->dev, CLIENT_CPUID);
	vm_create_fd(vm);
	client_msr_list(vm->dev, &msrs);
	/* An error here is fatal; the answer, when not 0, is XSAVE's size. */
	size = vm_cap(vm, KVM_CAP_XSAVE2);
	ASSERT_LE(0, size);
	if (size)
		EXPECT_LE(4096, size);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL));
	vm_add_memory(vm, 0);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	return vm;
}

/* What it reads of CPUID to make the guest's: it does not start without. */
static void check_leaves(struct __test_metadata *_metadata, struct kvm_cpuid2 *c)
{
	static const u32 any[] = { 0, 1, 7, 0xa, 0x80000000, 0x80000005, 0x80000006 };
	static const u32 amd[] = { 0x80000001, 0x80000008 };

	for (unsigned int i = 0; i < ARRAY_SIZE(any); i++) {
		EXPECT_NE(NULL, cpuid_find(c, any[i], 0))
			TH_LOG("leaf %#x", any[i]);
	}
	for (unsigned int i = 0; host_is_amd() && i < ARRAY_SIZE(amd); i++) {
		EXPECT_NE(NULL, cpuid_find(c, amd[i], 0))
			TH_LOG("leaf %#x", amd[i]);
	}
	if (!host_is_amd())
		EXPECT_NE(NULL, cpuid_find(c, 6, 0));
}

static void guest_main(void)
{
	pic_init(0xffff);	/* else it answers too, through LINT0 */
	apic_enable();
	ioapic_route(GSI_LEGACY, VEC_LEGACY);
	/* No exit: the timer and the speaker's port are the kernel's. */
	inb(0x61);
	inb(0x40);
	guest_sync(1);
	for (u32 n = 1; n <= 3; n++) {
		while (irqs[VEC_LEGACY] < n)
			guest_sti_hlt();
		mmio_write32(NOTIFY, 1);
		while (irqs[VEC_MSI] < n)
			guest_sti_hlt();
		mmio_write32(PCI_NOTIFY, 0);
		guest_sync(10 + n);
	}
	guest_done();
}

struct fds {
	int legacy, msi, notify, pci;
};

static void add_irqfds(struct __test_metadata *_metadata, struct vm *vm, struct fds *f)
{
	f->legacy = client_eventfd();
	f->msi = client_eventfd();
	ASSERT_EQ(0, client_irqfd(vm, f->legacy, GSI_LEGACY));
	/* Its route comes when the guest unmasks it; until then nothing happens. */
	ASSERT_EQ(0, client_irqfd(vm, f->msi, GSI_MSI));
}

static void add_ioeventfds(struct __test_metadata *_metadata, struct vm *vm, struct fds *f)
{
	struct kvm_ioeventfd io = {
		.addr = NOTIFY, .len = 4, .datamatch = 1,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	f->notify = client_eventfd();
	f->pci = client_eventfd();
	io.fd = f->notify;
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_IOEVENTFD, &io));
	io = (struct kvm_ioeventfd) { .addr = PCI_NOTIFY, .fd = f->pci };
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_IOEVENTFD, &io));
}

static void set_routes(struct __test_metadata *_metadata, struct vm *vm, bool msi)
{
	struct client_routes r = { .head.nr = 0 };

	for (u32 i = 0; i < 24; i++) {
		if (i < 16)
			client_route_chip(&r, i, i / 8, i % 8);
		client_route_chip(&r, i, KVM_IRQCHIP_IOAPIC, i);
	}
	if (msi)
		client_route_msi(&r, GSI_MSI, 0xfee00000, VEC_MSI);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

static void one_round(struct __test_metadata *_metadata, struct vcpu *vcpu,
		      struct fds *f, u64 n)
{
	client_signal(f->legacy);
	client_signal(f->msi);
	ASSERT_EQ(10 + n, guest_run_sync(vcpu));
	EXPECT_EQ(1, client_read(f->notify));
	EXPECT_EQ(1, client_read(f->pci));
}

TEST(boot)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid);
	struct vcpu *vcpu;
	struct fds f;

	check_leaves(_metadata, cpuid);
	vcpu = client_add_vcpu(vm, guest_main, cpuid);
	guest_handlers[VEC_LEGACY] = on_apic_irq;
	guest_handlers[VEC_MSI] = on_apic_irq;
	set_routes(_metadata, vm, false);
	add_irqfds(_metadata, vm, &f);
	add_ioeventfds(_metadata, vm, &f);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	client_signal(f.msi);
	usleep(20000);
	EXPECT_EQ(0, irqs[VEC_MSI]);
	set_routes(_metadata, vm, true);
	for (u64 n = 1; n <= 3; n++)
		one_round(_metadata, vcpu, &f, n);
	guest_run_done(vcpu);
	EXPECT_EQ(3, irqs[VEC_MSI]);
	vm_destroy(vm);
}

/* Paused, saved, and restored into another VM, which goes on where this one was. */
TEST(snapshot)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid), *to;
	struct vcpu *vcpu = client_add_vcpu(vm, guest_main, cpuid);
	struct client_chips chips;
	struct client_vcpu *state = calloc(1, sizeof(*state));
	struct fds f;

	guest_handlers[VEC_LEGACY] = on_apic_irq;
	guest_handlers[VEC_MSI] = on_apic_irq;
	set_routes(_metadata, vm, true);
	add_irqfds(_metadata, vm, &f);
	add_ioeventfds(_metadata, vm, &f);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	one_round(_metadata, vcpu, &f, 1);
	client_pause(vcpu);
	client_save_chips(vm, &chips);
	client_save_vcpu(vcpu, state);

	to = start(_metadata, &cpuid);
	memcpy(to->low, vm->low, LOW_SIZE);
	vm_destroy(vm);
	vcpu = vcpu_create_bare(to, 0);
	if (sys_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL) != state->tsc_khz)
		VCPU_IOCTL(vcpu, KVM_SET_TSC_KHZ, (void *)(long)state->tsc_khz);
	client_restore_vcpu(vcpu, state);
	set_routes(_metadata, to, true);
	client_restore_chips(to, &chips);
	add_irqfds(_metadata, to, &f);
	add_ioeventfds(_metadata, to, &f);
	one_round(_metadata, vcpu, &f, 2);
	one_round(_metadata, vcpu, &f, 3);
	guest_run_done(vcpu);
	vm_destroy(to);
}
