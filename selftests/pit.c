// SPDX-License-Identifier: GPL-2.0-only
/* The 8254: channel 0 through GSI 0, channel 2 with port 0x61, its state. */

#include "lib/test.h"
#include "lib/irq.h"

#define PIT_HZ	1193182

static void on_tick(struct guest_trap *trap)
{
	on_pic_irq(trap);
}

static void set_channel0(u8 mode, u16 count)
{
	outb(0x43, 0x30 | mode << 1);		/* low, then high byte */
	outb(0x40, count & 0xff);
	outb(0x40, count >> 8);
}

static u16 latch(u8 channel)
{
	u16 val;

	outb(0x43, channel << 6);
	val = inb(0x40 + channel);
	return val | inb(0x40 + channel) << 8;
}

static void guest_periodic(void)
{
	pic_init(0xfffe);
	set_channel0(2, PIT_HZ / 200);
	while (irqs[0x20] < 5)
		guest_sti_hlt();
	/* Mode 0 is one shot; the write of the mode alone stops the old. */
	set_channel0(0, 20000);
	irqs[0x20] = 0;
	while (irqs[0x20] < 1)
		guest_sti_hlt();
	guest_sync(1);				/* host waits */
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x20], 1);
	guest_done();
}

TEST(channel_0)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_reinject_control no = { .pit_reinject = 0 };

	/* No catching up of what a slow host missed. */
	sys_ioctl(vm->fd, KVM_REINJECT_CONTROL, &no);
	guest_handlers[0x20] = on_tick;
	vcpu_set_long(vcpu, guest_periodic);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	usleep(20000);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_counts_down(void)
{
	u16 a, b;
	u8 status;

	set_channel0(2, 0xffff);
	a = latch(0);
	for (int i = 0; i < 1000; i++) {
		b = latch(0);
		if (b != a)
			break;
	}
	GUEST_ASSERT(b != a);
	/* Read-back of channel 0: status, then the count that was latched. */
	outb(0x43, 0xc2);
	status = inb(0x40);
	GUEST_ASSERT_EQ(status & 0x3f, 0x34);	/* both bytes, mode 2 */
	inb(0x40);
	inb(0x40);
	/* Binary coded: low byte only, mode 3. */
	outb(0x43, 0x16);
	outb(0x40, 100);
	outb(0x43, 0xe2);			/* status alone */
	status = inb(0x40);
	GUEST_ASSERT_EQ(status & 0x3f, 0x16);
	guest_done();
}

TEST(latch_and_read_back)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_counts_down);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_channel2(void)
{
	u32 n = 0;

	/*
	 * As Linux calibrates its TSC: gate on, speaker off, mode 0, wait. 55 ms, for a
	 * busy machine may not come back to us at once.
	 */
	outb(0x61, (inb(0x61) & ~2) | 1);
	outb(0x43, 0xb0);
	outb(0x42, 0x00);
	outb(0x42, 0xff);
	GUEST_ASSERT_EQ(inb(0x61) & 0x20, 0);
	while (!(inb(0x61) & 0x20))
		n++;
	GUEST_ASSERT_EQ(inb(0x61) & 3, 1);
	guest_done();
}

TEST(channel_2)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_channel2);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_port61(void)
{
	inb(0x61);
	guest_done();
}

TEST(speaker_port_without_dummy)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_pit_config pit = { .flags = 0 };

	VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
	EXPECT_EQ(-EEXIST, sys_ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	vcpu_set_long(vcpu, guest_port61);
	/* QEMU and kvmtool have a speaker of their own. */
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(0x61, vcpu->run->io.port);
	vm_destroy(vm);
}

TEST(get_set)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP | VM_PIT);
	struct kvm_pit_state2 s, t;

	memset(&s, 0xff, sizeof(s));
	VM_IOCTL(vm, KVM_GET_PIT2, &s);
	for (unsigned int i = 0; i < ARRAY_SIZE(s.reserved); i++) {
		EXPECT_EQ(0, s.reserved[i]);
	}
	s.channels[0].count = 0x1234;
	s.channels[0].mode = 2;
	s.channels[0].rw_mode = 3;
	s.channels[2].count = 0x4321;
	s.channels[2].gate = 1;
	s.channels[2].mode = 3;
	VM_IOCTL(vm, KVM_SET_PIT2, &s);
	VM_IOCTL(vm, KVM_GET_PIT2, &t);
	EXPECT_EQ(0x1234, t.channels[0].count);
	EXPECT_EQ(2, t.channels[0].mode);
	EXPECT_EQ(3, t.channels[0].rw_mode);
	EXPECT_EQ(0x4321, t.channels[2].count);
	EXPECT_EQ(1, t.channels[2].gate);
	EXPECT_EQ(3, t.channels[2].mode);
	vm_destroy(vm);
}

static void guest_waits_for_ioapic_tick(void)
{
	pic_init(0xffff);		/* GSI 0 leads there as well */
	apic_enable();
	ioapic_route(0, 0x55);
	set_channel0(2, PIT_HZ / 100);
	guest_sti();
	GUEST_WAIT(irqs[0x55] >= 3);
	guest_cli();
	guest_done();
}

/* The default routes lead GSI 0 to pin 0 of the IOAPIC. */
TEST(channel_0_through_the_ioapic)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
	struct vcpu *vcpu = vcpu_create(vm);

	guest_handlers[0x55] = on_apic_irq;
	vcpu_set_long(vcpu, guest_waits_for_ioapic_tick);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

TEST(reinject_errors)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct kvm_reinject_control c = { .pit_reinject = 1 };

	EXPECT_EQ(-EFAULT, sys_ioctl(vm->fd, KVM_REINJECT_CONTROL, NULL));
	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_REINJECT_CONTROL, &c));
	vm_destroy(vm);

	vm = vm_create(VM_IRQCHIP | VM_PIT);
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_REINJECT_CONTROL, &c));
	EXPECT_EQ(-EFAULT, sys_ioctl(vm->fd, KVM_REINJECT_CONTROL, NULL));
	vm_destroy(vm);
}
