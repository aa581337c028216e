// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cloud Hypervisor: LAPICs in the kernel and the IOAPIC not. The client's IOAPIC
 * turns its entries into MSI routes, whose EOI it is told of.
 */

#include "lib/client.h"

#define PINS		24
#define PIN_LEVEL	11
#define PIN_EDGE	4
#define VEC_LEVEL	0x4b
#define VEC_EDGE	0x44
#define VIRTIO_NOTIFY	(GPA_MMIO + 0x6000)

static struct vm *start(struct __test_metadata *_metadata, struct kvm_cpuid2 **cpuid)
{
	static const struct client_cap caps[] = {
		CLIENT_CAP(IRQCHIP), CLIENT_CAP(USER_MEMORY), CLIENT_CAP(SET_TSS_ADDR),
		CLIENT_CAP(EXT_CPUID), CLIENT_CAP(MP_STATE), CLIENT_CAP(USER_NMI),
		CLIENT_CAP(IRQ_ROUTING), CLIENT_CAP(IRQFD), CLIENT_CAP(IOEVENTFD),
		CLIENT_CAP(SET_IDENTITY_MAP_ADDR), CLIENT_CAP(ADJUST_CLOCK),
		CLIENT_CAP(VCPU_EVENTS), CLIENT_CAP(XSAVE), CLIENT_CAP(GET_TSC_KHZ),
		CLIENT_CAP(TSC_DEADLINE_TIMER), CLIENT_CAP(SPLIT_IRQCHIP),
		CLIENT_CAP(IMMEDIATE_EXIT),
	};
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { PINS } };
	struct client_msr_list msrs;
	struct vm *vm = client_open();
	u64 map = 0xfeffc000;

	CLIENT_REQUIRES(vm->dev, caps);
	vm_create_fd(vm);
	client_msr_list(vm->dev, &msrs);
	EXPECT_LE(1, vm_cap(vm, KVM_CAP_MAX_VCPUS));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &map));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)0xfeffd000UL));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &split));
	*cpuid = client_cpuid(vm->dev, CLIENT_CPUID);
	vm_add_memory(vm, 0);
	return vm;
}

static void guest_main(void)
{
	apic_enable();
	guest_sync(1);
	for (u32 n = 1; n <= 3; n++) {
		while (irqs[VEC_EDGE] < n)
			guest_sti_hlt();
		while (irqs[VEC_LEVEL] < n)
			guest_sti_hlt();
		mmio_write32(VIRTIO_NOTIFY, 0);
		guest_sync(10 + n);
	}
	guest_done();
}

struct fds {
	int level, edge, notify;
};

/* A pin's irqfd is there before the guest has written the entry. */
static void add_fds(struct __test_metadata *_metadata, struct vm *vm, struct fds *f)
{
	struct kvm_ioeventfd io = { .addr = VIRTIO_NOTIFY, .fd = client_eventfd() };

	f->notify = io.fd;
	f->level = client_eventfd();
	f->edge = client_eventfd();
	ASSERT_EQ(0, client_irqfd(vm, f->level, PIN_LEVEL));
	ASSERT_EQ(0, client_irqfd(vm, f->edge, PIN_EDGE));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_IOEVENTFD, &io));
}

static void set_routes(struct __test_metadata *_metadata, struct vm *vm)
{
	struct client_routes r = { .head.nr = 0 };

	/* Bit 15 of the data: level, so the EOI is wanted; bit 14: asserted. */
	client_route_msi(&r, PIN_LEVEL, 0xfee00000, 0xc000 | VEC_LEVEL);
	client_route_msi(&r, PIN_EDGE, 0xfee00000, VEC_EDGE);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

static void one_round(struct __test_metadata *_metadata, struct vcpu *vcpu,
		      struct fds *f, u64 n)
{
	client_signal(f->edge);
	client_signal(f->level);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IOAPIC_EOI, vcpu->run->exit_reason)
		TH_LOG("%s", exit_name(vcpu->run->exit_reason));
	EXPECT_EQ(VEC_LEVEL, vcpu->run->eoi.vector);
	ASSERT_EQ(10 + n, guest_run_sync(vcpu));
	EXPECT_EQ(1, client_read(f->notify));
}

TEST(boot)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid);
	struct vcpu *vcpu = client_add_vcpu(vm, guest_main, cpuid);
	struct fds f;

	guest_handlers[VEC_LEVEL] = on_apic_irq;
	guest_handlers[VEC_EDGE] = on_apic_irq;
	add_fds(_metadata, vm, &f);
	set_routes(_metadata, vm);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	for (u64 n = 1; n <= 3; n++)
		one_round(_metadata, vcpu, &f, n);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* Asked for unasked: any error ends the snapshot. No data behind the header: none. */
static void check_nested(struct __test_metadata *_metadata, struct vcpu *vcpu)
{
	struct {
		struct kvm_nested_state head;
		u8 data[2 * PAGE_SIZE];
	} s = { .head.size = sizeof(s) };

	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &s));
	EXPECT_EQ(sizeof(s.head), s.head.size);
	EXPECT_EQ(0, s.head.flags & (KVM_STATE_NESTED_GUEST_MODE |
				     KVM_STATE_NESTED_RUN_PENDING));
	EXPECT_EQ(host_is_amd() ? KVM_STATE_NESTED_FORMAT_SVM : KVM_STATE_NESTED_FORMAT_VMX,
		  s.head.format);
	/* What was given is taken, and nothing that there is not. */
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s));
	s.head.flags |= KVM_STATE_NESTED_GUEST_MODE;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s));
	s.head.size = sizeof(s.head) - 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_NESTED_STATE, &s));
	s.head.size = 0;
	EXPECT_EQ(-E2BIG, sys_ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &s));
	EXPECT_EQ(sizeof(s.head), s.head.size);
}

TEST(snapshot)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid), *to;
	struct vcpu *vcpu = client_add_vcpu(vm, guest_main, cpuid);
	struct client_vcpu *state = calloc(1, sizeof(*state));
	struct kvm_clock_data clock = { .flags = 0 };
	struct kvm_device_attr tsc = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET,
	};
	struct fds f;
	int has_tsc;
	u64 offset;

	guest_handlers[VEC_LEVEL] = on_apic_irq;
	guest_handlers[VEC_EDGE] = on_apic_irq;
	add_fds(_metadata, vm, &f);
	set_routes(_metadata, vm);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	one_round(_metadata, vcpu, &f, 1);
	client_pause(vcpu);
	VM_IOCTL(vm, KVM_GET_CLOCK, &clock);
	client_save_vcpu(vcpu, state);
	check_nested(_metadata, vcpu);
	/* The TSC's offset, where there is such an attribute. */
	tsc.addr = (uintptr_t)&offset;
	has_tsc = !sys_ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &tsc);
	if (has_tsc)
		VCPU_IOCTL(vcpu, KVM_GET_DEVICE_ATTR, &tsc);

	to = start(_metadata, &cpuid);
	memcpy(to->low, vm->low, LOW_SIZE);
	vm_destroy(vm);
	vcpu = vcpu_create_bare(to, 0);
	VCPU_IOCTL(vcpu, KVM_SET_TSC_KHZ, (void *)(long)state->tsc_khz);
	client_restore_vcpu(vcpu, state);
	if (has_tsc)
		VCPU_IOCTL(vcpu, KVM_SET_DEVICE_ATTR, &tsc);
	clock.flags = 0;
	VM_IOCTL(to, KVM_SET_CLOCK, &clock);
	add_fds(_metadata, to, &f);
	set_routes(_metadata, to);
	one_round(_metadata, vcpu, &f, 2);
	one_round(_metadata, vcpu, &f, 3);
	guest_run_done(vcpu);
	vm_destroy(to);
}

/* Migration: the log is switched on for memory that is there, and read at once. */
TEST(dirty_log)
{
	struct kvm_cpuid2 *cpuid;
	struct vm *vm = start(_metadata, &cpuid);
	u64 bitmap[LOW_SIZE / PAGE_SIZE / 64];
	struct kvm_dirty_log log = { .slot = SLOT_LOW, .dirty_bitmap = bitmap };
	struct vcpu *vcpu = client_add_vcpu(vm, guest_main, cpuid);
	u32 pages = 0;
	struct fds f;

	guest_handlers[VEC_EDGE] = on_apic_irq;
	ASSERT_EQ(1, guest_run_sync(vcpu));
	ASSERT_EQ(0, vm_slot(vm, SLOT_LOW, KVM_MEM_LOG_DIRTY_PAGES, 0, LOW_SIZE, vm->low));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	/* Interrupts write their frames to the stack. */
	guest_handlers[VEC_LEVEL] = on_apic_irq;
	add_fds(_metadata, vm, &f);
	set_routes(_metadata, vm);
	one_round(_metadata, vcpu, &f, 1);
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	for (u32 i = 0; i < ARRAY_SIZE(bitmap); i++)
		pages += __builtin_popcountll(bitmap[i]);
	EXPECT_LT(0, pages);
	vm_destroy(vm);
}
