// SPDX-License-Identifier: GPL-2.0-only
/* irqfd, with and without resampling, and ioeventfd. */

#include <sys/eventfd.h>

#include "lib/test.h"
#include "lib/irq.h"

#define PORT	0x5c0

static int irqfd(struct vm *vm, int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd i = {
		.fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample,
	};

	return sys_ioctl(vm->fd, KVM_IRQFD, &i);
}

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		fail("eventfd");
	return fd;
}

static void signal_fd(int fd)
{
	u64 one = 1;

	if (write(fd, &one, 8) != 8)
		fail("write to an eventfd");
}

static u64 read_fd(int fd)
{
	u64 val;

	return read(fd, &val, 8) == 8 ? val : 0;
}

TEST(irqfd_errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	int fd = new_eventfd();

	EXPECT_EQ(-EINVAL, irqfd(vm, fd, 4, 0, 0));
	vm_destroy(vm);

	vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	EXPECT_EQ(-EINVAL, irqfd(vm, fd, 4, 1U << 30, 0));
	EXPECT_EQ(-EBADF, irqfd(vm, 12345, 4, 0, 0));
	EXPECT_EQ(-EINVAL, irqfd(vm, vm->fd, 4, 0, 0));	/* no eventfd */
	EXPECT_EQ(0, irqfd(vm, fd, 4, 0, 0));
	EXPECT_EQ(-EBUSY, irqfd(vm, fd, 4, 0, 0));
	EXPECT_EQ(-EBUSY, irqfd(vm, fd, 5, 0, 0));
	EXPECT_EQ(0, irqfd(vm, fd, 4, KVM_IRQFD_FLAG_DEASSIGN, 0));
	EXPECT_EQ(0, irqfd(vm, fd, 4, KVM_IRQFD_FLAG_DEASSIGN, 0));
	EXPECT_EQ(0, irqfd(vm, fd, 5, 0, 0));
	/* Resampling wants a second eventfd. */
	EXPECT_EQ(-EBADF, irqfd(vm, new_eventfd(), 6, KVM_IRQFD_FLAG_RESAMPLE, 12345));
	vm_destroy(vm);

	vm = vm_create(VM_NO_MEMORY | VM_SPLIT);
	EXPECT_EQ(-EINVAL, irqfd(vm, new_eventfd(), 6, KVM_IRQFD_FLAG_RESAMPLE,
				 new_eventfd()));
	vm_destroy(vm);
}

/*
 * What goes to a chip is done by a work item, some time after the eventfd was
 * signalled: wait until the vector is requested.
 */
static bool requested(struct vcpu *vcpu, u32 vector)
{
	struct kvm_lapic_state s = { .regs = { 0 } };
	u32 irr;

	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	memcpy(&irr, s.regs + APIC_IRR + vector / 32 * 0x10, 4);
	return irr >> vector % 32 & 1;
}

static bool gets_requested(struct vcpu *vcpu, u32 vector)
{
	for (int i = 0; i < 20000; i++) {
		if (requested(vcpu, vector))
			return true;
		usleep(1000);
	}
	return false;
}

static void guest_irqfd(void)
{
	apic_enable();
	ioapic_route(20, 0x41);
	guest_sync(1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 1);
	guest_sync(2);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 2);
	guest_sync(3);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 2);
	guest_done();
}

TEST(irqfd_edge)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	int fd = new_eventfd();

	guest_handlers[0x41] = on_apic_irq;
	vcpu_set_long(vcpu, guest_irqfd);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	/* Signalled before it was assigned: that counts. */
	signal_fd(fd);
	ASSERT_EQ(0, irqfd(vm, fd, 20, 0, 0));
	ASSERT_TRUE(gets_requested(vcpu, 0x41));
	ASSERT_EQ(2, guest_run_sync(vcpu));
	signal_fd(fd);
	ASSERT_TRUE(gets_requested(vcpu, 0x41));
	ASSERT_EQ(3, guest_run_sync(vcpu));
	ASSERT_EQ(0, irqfd(vm, fd, 20, KVM_IRQFD_FLAG_DEASSIGN, 0));
	signal_fd(fd);
	usleep(20000);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_wait_many(void)
{
	apic_enable();
	guest_sync(1);
	while (irqs[0x51] < 10)
		guest_sti_hlt();
	guest_done();
}

/* From another thread, into a vCPU that sleeps or runs, by way of an MSI. */
TEST(irqfd_msi_wakes)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {
		.head.nr = 1,
		.e[0] = {
			.gsi = 50, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = 0x51 },
		},
	};
	int fd = new_eventfd();

	guest_handlers[0x51] = on_apic_irq;
	vcpu_set_long(vcpu, guest_wait_many);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	/* No route yet: nothing happens; to deassign it waits for the work. */
	ASSERT_EQ(0, irqfd(vm, fd, 50, 0, 0));
	signal_fd(fd);
	ASSERT_EQ(0, irqfd(vm, fd, 50, KVM_IRQFD_FLAG_DEASSIGN, 0));
	EXPECT_FALSE(requested(vcpu, 0x51));
	/* The route may come later. */
	ASSERT_EQ(0, irqfd(vm, fd, 50, 0, 0));
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
	vcpu_start(vcpu);
	for (u32 i = 0; i < 10; i++) {
		ASSERT_EQ(i, irqs[0x51]);
		if (i & 1)
			vcpu_wait_asleep(vcpu);
		signal_fd(fd);
		for (int j = 0; j < 20000 && irqs[0x51] == i; j++)
			usleep(1000);
	}
	vcpu_join(vcpu);
	EXPECT_EQ(10, irqs[0x51]);
	vm_destroy(vm);
}

static void guest_resample(void)
{
	apic_enable();
	ioapic_route(21, 0x61 | IOAPIC_LEVEL);
	guest_sync(1);
	guest_sti_nop();
	guest_sti_nop();
	/* The EOI lowered the line: once, and no more. */
	GUEST_ASSERT_EQ(irqs[0x61], 1);
	guest_sync(2);
	guest_sti_nop();
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x61], 2);
	guest_done();
}

TEST(irqfd_resample)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	int fd = new_eventfd(), resample = new_eventfd();

	if (!vm_cap(vm, KVM_CAP_IRQFD_RESAMPLE))
		SKIP(return, "no KVM_CAP_IRQFD_RESAMPLE");
	guest_handlers[0x61] = on_apic_irq;
	vcpu_set_long(vcpu, guest_resample);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	ASSERT_EQ(0, irqfd(vm, fd, 21, KVM_IRQFD_FLAG_RESAMPLE, resample));
	signal_fd(fd);
	ASSERT_TRUE(gets_requested(vcpu, 0x61));
	EXPECT_EQ(0, read_fd(resample));
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_EQ(1, read_fd(resample));
	signal_fd(fd);
	ASSERT_TRUE(gets_requested(vcpu, 0x61));
	guest_run_done(vcpu);
	EXPECT_EQ(1, read_fd(resample));
	vm_destroy(vm);
}

/* The eventfd closed first, the VM first, and both with the irqfd in place. */
TEST(irqfd_close_orders)
{
	for (int order = 0; order < 3; order++) {
		struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
		int fd = new_eventfd(), other = dup(fd);

		ASSERT_EQ(0, irqfd(vm, fd, 4, 0, 0));
		if (order == 0)
			close(fd);
		vm_destroy(vm);
		signal_fd(other);
		close(other);
	}
}

static int ioeventfd(struct vm *vm, int fd, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd i = {
		.fd = fd, .addr = addr, .len = len, .flags = flags,
		.datamatch = match,
	};

	return sys_ioctl(vm->fd, KVM_IOEVENTFD, &i);
}

#define MATCH	KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO	KVM_IOEVENTFD_FLAG_PIO
#define DEL	KVM_IOEVENTFD_FLAG_DEASSIGN

TEST(ioeventfd_errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	int a = new_eventfd(), b = new_eventfd();

	EXPECT_EQ(-EINVAL, ioeventfd(vm, a, PORT, 3, PIO, 0));
	EXPECT_EQ(-EINVAL, ioeventfd(vm, a, PORT, 16, PIO, 0));
	EXPECT_EQ(-EINVAL, ioeventfd(vm, a, PORT, 0, PIO | MATCH, 0));
	EXPECT_EQ(-EINVAL, ioeventfd(vm, a, PORT, 2, 1U << 20, 0));
	EXPECT_EQ(-EINVAL, ioeventfd(vm, a, ~0ULL, 2, 0, 0));
	EXPECT_EQ(-EBADF, ioeventfd(vm, 12345, PORT, 2, PIO, 0));
	EXPECT_EQ(-ENOENT, ioeventfd(vm, a, PORT, 2, PIO | DEL, 0));
	EXPECT_EQ(0, ioeventfd(vm, a, PORT, 2, PIO | MATCH, 1));
	EXPECT_EQ(-EEXIST, ioeventfd(vm, b, PORT, 2, PIO | MATCH, 1));
	EXPECT_EQ(-EEXIST, ioeventfd(vm, b, PORT, 2, PIO, 0));
	EXPECT_EQ(0, ioeventfd(vm, b, PORT, 2, PIO | MATCH, 2));
	EXPECT_EQ(0, ioeventfd(vm, b, PORT, 2, MATCH, 1));	/* another bus */
	EXPECT_EQ(-ENOENT, ioeventfd(vm, b, PORT, 2, PIO | MATCH | DEL, 1));
	EXPECT_EQ(0, ioeventfd(vm, a, PORT, 2, PIO | MATCH | DEL, 1));
	EXPECT_EQ(-ENOENT, ioeventfd(vm, a, PORT, 2, PIO | MATCH | DEL, 1));
	/* QEMU asks whether many fit: some at one port, told apart by value. */
	for (int i = 10; i < 17; i++) {
		EXPECT_EQ(0, ioeventfd(vm, new_eventfd(), 0, 2, PIO | MATCH, i));
	}
	vm_destroy(vm);
}

static void guest_ioeventfd(void)
{
	outw(PORT, 7);			/* match */
	outw(PORT, 8);			/* no match: exits */
	outb(PORT, 7);			/* not the size: exits */
	mmio_write32(GPA_MMIO, 0x77);	/* any value */
	mmio_write32(GPA_MMIO, 0x78);
	mmio_write32(GPA_MMIO + 4, 0x77);	/* exits */
	mmio_write32(GPA_MMIO + 8, 1);	/* any size */
	*(volatile u8 *)(GPA_MMIO + 8) = 1;
	*(volatile u64 *)(GPA_MMIO + 8) = 1;
	mmio_read32(GPA_MMIO);		/* reads are nobody's: exits */
	guest_done();
}

TEST(ioeventfd_hits)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	int pio = new_eventfd(), mmio = new_eventfd(), any = new_eventfd();

	ASSERT_EQ(0, ioeventfd(vm, pio, PORT, 2, PIO | MATCH, 7));
	ASSERT_EQ(0, ioeventfd(vm, mmio, GPA_MMIO, 4, 0, 0));
	ASSERT_EQ(0, ioeventfd(vm, any, GPA_MMIO + 8, 0, 0, 0));
	vcpu_set_long(vcpu, guest_ioeventfd);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(2, vcpu->run->io.size);
	EXPECT_EQ(8, *((u8 *)vcpu->run + vcpu->run->io.data_offset));
	EXPECT_EQ(1, read_fd(pio));
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(1, vcpu->run->io.size);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(GPA_MMIO + 4, vcpu->run->mmio.phys_addr);
	EXPECT_EQ(2, read_fd(mmio));
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(0, vcpu->run->mmio.is_write);
	EXPECT_EQ(GPA_MMIO, vcpu->run->mmio.phys_addr);
	EXPECT_EQ(3, read_fd(any));
	EXPECT_EQ(0, read_fd(pio));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static volatile u32 rounds;

static void guest_spin_notify(void)
{
	u32 n = 200 * keel_scale;

	for (rounds = 0; rounds < n; rounds++)
		mmio_write32(GPA_MMIO, 1);
	guest_done();
}

static void *serve_writes(void *arg)
{
	struct vcpu *vcpu = arg;

	while (guest_run(vcpu) != UCALL_DONE) {
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			fail("exit %u", vcpu->run->exit_reason);
	}
	return NULL;
}

/* Assigned and taken away while the guest writes there all the time. */
TEST(ioeventfd_live)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	int fd = new_eventfd();

	vcpu_set_long(vcpu, guest_spin_notify);
	vcpu_start_fn(vcpu, serve_writes);
	for (int i = 0; i < 10; i++) {
		EXPECT_EQ(0, ioeventfd(vm, fd, GPA_MMIO, 4, 0, 0));
		usleep(1000);
		EXPECT_EQ(0, ioeventfd(vm, fd, GPA_MMIO, 4, DEL, 0));
	}
	vcpu_join(vcpu);
	EXPECT_EQ(200 * keel_scale, rounds);
	vm_destroy(vm);
}
