// SPDX-License-Identifier: GPL-2.0-only
/* PIC, IOAPIC and the routes to them: creation, state, delivery, EOI. */

#include "lib/test.h"
#include "lib/irq.h"

struct routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[8];
};

static int make_split(struct vm *vm, u64 pins)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_SPLIT_IRQCHIP, .args = { pins },
	};

	return sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

TEST(create_errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);

	/* The argument is not looked at: kvmtool passes what lies around. */
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, (void *)0xc));
	EXPECT_EQ(-EEXIST, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	EXPECT_EQ(-EEXIST, make_split(vm, 24));
	vm_destroy(vm);

	vm = vm_create(VM_NO_MEMORY);
	EXPECT_EQ(-EINVAL, make_split(vm, 100000));
	EXPECT_EQ(0, make_split(vm, 24));
	EXPECT_EQ(-EEXIST, make_split(vm, 24));
	EXPECT_EQ(-EEXIST, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	vm_destroy(vm);

	vm = vm_create(VM_NO_MEMORY);
	vcpu_create_bare(vm, 0);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	EXPECT_EQ(-EEXIST, make_split(vm, 24));
	vm_destroy(vm);
}

TEST(without_irqchip)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_irqchip chip = { .chip_id = 0 };
	struct kvm_lapic_state lapic;
	struct kvm_pit_state2 pit;
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x40 };

	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_GET_IRQCHIP, &chip));
	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_SET_IRQCHIP, &chip));
	EXPECT_EQ(-ENXIO, vm_irq_line(vm, 4, 1));
	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_GET_PIT2, &pit));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
}

TEST(get_set_irqchip)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct kvm_irqchip c, d;

	c.chip_id = 3;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_GET_IRQCHIP, &c));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_IRQCHIP, &c));
	for (u32 i = 0; i < 2; i++) {
		memset(&c, 0, sizeof(c));
		c.chip_id = i;
		VM_IOCTL(vm, KVM_GET_IRQCHIP, &c);
		c.chip.pic.irq_base = 0x20 + 8 * i;
		c.chip.pic.imr = 0xfb;
		c.chip.pic.elcr = i ? 0x0c : 0x20;
		VM_IOCTL(vm, KVM_SET_IRQCHIP, &c);
		memset(&d, 0, sizeof(d));
		d.chip_id = i;
		VM_IOCTL(vm, KVM_GET_IRQCHIP, &d);
		EXPECT_EQ(0x20 + 8 * i, d.chip.pic.irq_base);
		EXPECT_EQ(0xfb, d.chip.pic.imr);
		EXPECT_EQ(c.chip.pic.elcr, d.chip.pic.elcr);
	}
	memset(&c, 0, sizeof(c));
	c.chip_id = 2;
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &c);
	EXPECT_EQ(IOAPIC_BASE, c.chip.ioapic.base_address);
	for (int i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		EXPECT_EQ(IOAPIC_MASKED, c.chip.ioapic.redirtbl[i].bits);
	}
	c.chip.ioapic.redirtbl[5].bits = 0x41 | IOAPIC_LEVEL | 2ULL << 56;
	c.chip.ioapic.id = 3;
	VM_IOCTL(vm, KVM_SET_IRQCHIP, &c);
	memset(&d, 0, sizeof(d));
	d.chip_id = 2;
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &d);
	EXPECT_EQ(c.chip.ioapic.redirtbl[5].bits, d.chip.ioapic.redirtbl[5].bits);
	EXPECT_EQ(3, d.chip.ioapic.id);
}

static u32 lapic_reg(struct kvm_lapic_state *s, u32 reg)
{
	u32 val;

	memcpy(&val, s->regs + reg, 4);
	return val;
}

TEST(lapic_reset_state)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0), *ap = vcpu_create_bare(vm, 5);
	struct kvm_lapic_state s;

	VCPU_IOCTL(ap, KVM_GET_LAPIC, &s);
	EXPECT_EQ(5U << 24, lapic_reg(&s, APIC_ID));
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	EXPECT_EQ(0, lapic_reg(&s, APIC_ID));
	EXPECT_EQ(0x14, lapic_reg(&s, APIC_LVR) & 0xff);
	EXPECT_LE(5, GET_APIC_MAXLVT(lapic_reg(&s, APIC_LVR)));
	EXPECT_EQ(0xff, lapic_reg(&s, APIC_SPIV));
	EXPECT_EQ(0xffffffff, lapic_reg(&s, APIC_DFR));
	EXPECT_EQ(0, lapic_reg(&s, APIC_TASKPRI));
	EXPECT_EQ(APIC_LVT_MASKED, lapic_reg(&s, APIC_LVTT));
	EXPECT_EQ(APIC_LVT_MASKED, lapic_reg(&s, APIC_LVT1));
	EXPECT_EQ(APIC_LVT_MASKED, lapic_reg(&s, APIC_LVTERR));
	/* As firmware leaves it: ExtINT, so that the PIC gets through. */
	EXPECT_EQ(0x700, lapic_reg(&s, APIC_LVT0));
}

TEST(get_set_lapic)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_lapic_state s, t;
	u32 val;

	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	val = 0x1ff;
	memcpy(s.regs + APIC_SPIV, &val, 4);
	val = 0x30;
	memcpy(s.regs + APIC_TASKPRI, &val, 4);
	val = 0x400;
	memcpy(s.regs + APIC_LVT1, &val, 4);
	val = 1 << 5;			/* vector 0x45 requested */
	memcpy(s.regs + APIC_IRR + 0x20, &val, 4);
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &s);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &t);
	EXPECT_EQ(0x1ff, lapic_reg(&t, APIC_SPIV));
	EXPECT_EQ(0x30, lapic_reg(&t, APIC_TASKPRI));
	EXPECT_EQ(0x400, lapic_reg(&t, APIC_LVT1));
	EXPECT_EQ(1 << 5, lapic_reg(&t, APIC_IRR + 0x20));
}

/* --- PIC --- */

static volatile u32 limit;

/*
 * A line that stays high interrupts again and again, and may leave the main
 * program no instruction in between: mask it here after some.
 */
static void on_pic_level_irq(struct guest_trap *trap)
{
	if (irqs[0x25] + 1 >= limit)
		outb(0x21, 0xff);
	on_pic_irq(trap);
}

static void guest_pic(void)
{
	pic_init(0xffff & ~(1 << 5 | 1 << 2 | 1 << 10));
	GUEST_ASSERT_EQ(inb(0x21), 0xdb);
	guest_sync(1);			/* host pulses 5, 10 and 4, masked */
	GUEST_ASSERT_EQ(irqs[0x25], 0);
	outb(0x20, 0x0a);		/* OCW3: read IRR */
	GUEST_ASSERT_EQ(inb(0x20) & (1 << 5), 1 << 5);
	for (int i = 0; i < 4; i++)
		guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x25], 1);
	GUEST_ASSERT_EQ(irqs[0x2a], 1);
	GUEST_ASSERT_EQ(irqs[0x24], 0);
	outb(0x4d0, 1 << 5);		/* level-triggered */
	GUEST_ASSERT_EQ(inb(0x4d0), 1 << 5);
	guest_handlers[0x25] = on_pic_level_irq;
	limit = 4;
	guest_sync(2);			/* host raises 5 and leaves it high */
	guest_sti();
	GUEST_WAIT(irqs[0x25] >= 4);
	guest_cli();
	guest_sync(3);			/* host lowers it */
	outb(0x21, 0xdb);
	irqs[0x25] = 0;
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x25], 0);
	guest_done();
}

TEST(pic)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	for (int i = 0x20; i < 0x30; i++)
		guest_handlers[i] = on_pic_irq;
	vcpu_set_long(vcpu, guest_pic);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	for (u32 gsi = 4; gsi <= 10; gsi++) {
		if (gsi != 4 && gsi != 5 && gsi != 10)
			continue;
		EXPECT_EQ(0, vm_irq_line(vm, gsi, 1));
		if (gsi != 5)
			EXPECT_EQ(0, vm_irq_line(vm, gsi, 0));
	}
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_EQ(0, vm_irq_line(vm, 5, 0));
	EXPECT_EQ(0, vm_irq_line(vm, 5, 1));
	ASSERT_EQ(3, guest_run_sync(vcpu));
	EXPECT_EQ(0, vm_irq_line(vm, 5, 0));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_pic_wakes_hlt(void)
{
	pic_init(0xffff & ~(1 << 3));
	guest_sync(1);			/* host raises 3 */
	guest_sti_hlt();
	GUEST_ASSERT_EQ(irqs[0x23], 1);
	guest_sync(2);			/* host lowers 3, raises it in the HLT */
	guest_sti_hlt();
	GUEST_ASSERT_EQ(irqs[0x23], 2);
	guest_done();
}

TEST(pic_wakes_hlt)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	guest_handlers[0x23] = on_pic_irq;
	vcpu_set_long(vcpu, guest_pic_wakes_hlt);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, vm_irq_line(vm, 3, 1));
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_EQ(0, vm_irq_line(vm, 3, 0));
	vcpu_start(vcpu);
	vcpu_wait_asleep(vcpu);
	EXPECT_EQ(0, vm_irq_line(vm, 3, 1));
	vcpu_join(vcpu);
	EXPECT_EQ(0, vm_irq_line(vm, 3, 0));
	vm_destroy(vm);
}

/* --- IOAPIC --- */

static void guest_ioapic_regs(void)
{
	GUEST_ASSERT_EQ(ioapic_read(1), 23 << 16 | 0x11);
	ioapic_write(0, 5U << 24);
	GUEST_ASSERT_EQ(ioapic_read(0), 5U << 24);
	GUEST_ASSERT_EQ(ioapic_read(0x10) & IOAPIC_MASKED, IOAPIC_MASKED);
	ioapic_route(4, IOAPIC_MASKED | 0x31 | 7ULL << 56);
	GUEST_ASSERT_EQ(ioapic_read(0x18), IOAPIC_MASKED | 0x31);
	GUEST_ASSERT_EQ(ioapic_read(0x19), 7U << 24);
	/* Remote IRR and delivery status are read-only. */
	ioapic_write(0x18, IOAPIC_MASKED | IOAPIC_RIRR | 1 << 12 | 0x31);
	GUEST_ASSERT_EQ(ioapic_read(0x18), IOAPIC_MASKED | 0x31);
	guest_done();
}

TEST(ioapic_registers)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_ioapic_regs);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_ioapic_edge(void)
{
	apic_enable();
	ioapic_route(17, 0x41);
	guest_sync(1);			/* one pulse */
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 1);
	guest_sync(2);			/* raised twice: one edge */
	guest_sti_nop();
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 2);
	guest_sync(3);			/* raised, and left there */
	guest_sti_nop();
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 3);
	ioapic_route(17, 0x41 | IOAPIC_MASKED);
	guest_sync(4);			/* a pulse at a masked pin */
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 3);
	guest_done();
}

TEST(ioapic_edge)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_irq_level s = { .irq = 17, .level = 1 };

	guest_handlers[0x41] = on_apic_irq;
	vcpu_set_long(vcpu, guest_ioapic_edge);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vm_irq_line(vm, 17, 1);
	vm_irq_line(vm, 17, 0);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	VM_IOCTL(vm, KVM_IRQ_LINE_STATUS, &s);
	EXPECT_LT(0, s.status);			/* delivered */
	s = (struct kvm_irq_level) { .irq = 17, .level = 1 };
	VM_IOCTL(vm, KVM_IRQ_LINE_STATUS, &s);
	EXPECT_EQ(0, s.status);			/* no new edge: coalesced */
	vm_irq_line(vm, 17, 0);
	ASSERT_EQ(3, guest_run_sync(vcpu));
	vm_irq_line(vm, 17, 1);
	ASSERT_EQ(4, guest_run_sync(vcpu));
	vm_irq_line(vm, 17, 0);
	s = (struct kvm_irq_level) { .irq = 17, .level = 1 };
	VM_IOCTL(vm, KVM_IRQ_LINE_STATUS, &s);
	EXPECT_GT(0, s.status);			/* masked */
	vm_irq_line(vm, 17, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static volatile u32 rirr_in_handler;

static void on_level_irq(struct guest_trap *trap)
{
	irqs[trap->vector & 0xff]++;
	if (ioapic_read(0x10 + 2 * 18) & IOAPIC_RIRR)
		rirr_in_handler++;
	if (irqs[0x52] >= limit)
		ioapic_write(0x10 + 2 * 18, 0x52 | IOAPIC_LEVEL | IOAPIC_MASKED);
	apic_eoi();
}

static void guest_ioapic_level(void)
{
	apic_enable();
	ioapic_route(18, 0x52 | IOAPIC_LEVEL);
	limit = 4;
	guest_sync(1);			/* raised and left high: again at each EOI */
	guest_sti();
	GUEST_WAIT(irqs[0x52] >= 4);
	guest_cli();
	guest_sync(2);			/* lowered */
	irqs[0x52] = 0;
	ioapic_route(18, 0x52 | IOAPIC_LEVEL);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x52], 0);
	GUEST_ASSERT_EQ(ioapic_read(0x10 + 2 * 18) & IOAPIC_RIRR, 0);
	limit = 1;
	/* Level-triggered and pending behind the mask: comes with unmasking. */
	ioapic_route(18, 0x52 | IOAPIC_LEVEL | IOAPIC_MASKED);
	guest_sync(3);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x52], 0);
	ioapic_route(18, 0x52 | IOAPIC_LEVEL);
	guest_sti();
	GUEST_WAIT(irqs[0x52] >= 1);
	guest_cli();
	guest_done();
}

TEST(ioapic_level)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	guest_handlers[0x52] = on_level_irq;
	vcpu_set_long(vcpu, guest_ioapic_level);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vm_irq_line(vm, 18, 1);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_LE(4, rirr_in_handler);
	vm_irq_line(vm, 18, 0);
	ASSERT_EQ(3, guest_run_sync(vcpu));
	vm_irq_line(vm, 18, 1);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- routes --- */

static struct kvm_irq_routing_entry pin_route(u32 gsi, u32 chip, u32 pin)
{
	return (struct kvm_irq_routing_entry) {
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

static struct kvm_irq_routing_entry msi_route(u32 gsi, u32 addr, u32 data)
{
	return (struct kvm_irq_routing_entry) {
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = addr, .data = data },
	};
}

TEST(routing_errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	u32 max = vm_cap(vm, KVM_CAP_IRQ_ROUTING);
	struct routes r = { .head.nr = 1 };

	r.e[0] = pin_route(max, 2, 4);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0] = pin_route(1, 2, 24);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0] = pin_route(1, 0, 8);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0] = pin_route(1, 3, 0);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0] = pin_route(1, 2, 1);
	r.e[0].type = 77;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0] = pin_route(1, 2, 1);
	r.e[0].flags = 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0].flags = 0;
	r.head.flags = 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.head.flags = 0;
	r.head.nr = max + 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	/* One GSI to two chips, but not twice to one, nor together with an MSI. */
	r.head.nr = 2;
	r.e[0] = pin_route(1, 0, 1);
	r.e[1] = pin_route(1, 2, 1);
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[1] = pin_route(1, 0, 2);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[1] = msi_route(1, 0xfee00000, 0x40);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	/* QEMU: routes for MSIs that have no address yet. */
	r.head.nr = 1;
	r.e[0] = msi_route(30, 0, 0);
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.head.nr = 0;
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

static void guest_routes(void)
{
	apic_enable();
	ioapic_route(19, 0x61);
	guest_sync(1);
	guest_sti_nop();
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x61], 1);
	GUEST_ASSERT_EQ(irqs[0x62], 1);
	guest_sync(2);
	guest_sti_nop();
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x61], 1);
	GUEST_ASSERT_EQ(irqs[0x62], 1);
	guest_done();
}

TEST(routing)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct routes r = { .head.nr = 2 };

	guest_handlers[0x61] = on_apic_irq;
	guest_handlers[0x62] = on_apic_irq;
	vcpu_set_long(vcpu, guest_routes);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	r.e[0] = pin_route(6, 2, 19);
	r.e[1] = msi_route(40, 0xfee00000, 0x62);
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
	vm_irq_line(vm, 19, 1);		/* has no route any more */
	vm_irq_line(vm, 6, 1);
	vm_irq_line(vm, 6, 0);
	vm_irq_line(vm, 40, 0);		/* an MSI is sent by level 1 alone */
	vm_irq_line(vm, 40, 1);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	r.head.nr = 0;
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
	vm_irq_line(vm, 6, 1);
	vm_irq_line(vm, 40, 1);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_msi(void)
{
	apic_enable();
	guest_sync(1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x71], 1);
	guest_done();
}

TEST(signal_msi)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x71 };

	guest_handlers[0x71] = on_apic_irq;
	vcpu_set_long(vcpu, guest_msi);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	EXPECT_LT(0, sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
	msi.address_lo = 0xfee07000;		/* APIC id 7: nobody there */
	EXPECT_GE(0, sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
	msi.flags = 1U << 31;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- split: the local APIC in the kernel, the rest in userspace --- */

static void guest_split(void)
{
	apic_enable();
	guest_sync(1);
	guest_sti_nop();		/* EOI of a level-triggered vector exits */
	GUEST_ASSERT_EQ(irqs[0x81], 1);
	outb(0x20, 0x11);		/* the PIC is userspace's */
	guest_done();
}

TEST(split)
{
	struct vm *vm = vm_create(VM_SPLIT);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_irqchip chip = { .chip_id = 0 };
	struct routes r = { .head.nr = 1 };

	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_GET_IRQCHIP, &chip));
	r.e[0] = pin_route(1, 2, 1);
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.e[0] = msi_route(3, 0xfee00000, 0x81 | 1 << 15 | 1 << 14);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	guest_handlers[0x81] = on_apic_irq;
	vcpu_set_long(vcpu, guest_split);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vm_irq_line(vm, 3, 1);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IOAPIC_EOI, vcpu->run->exit_reason);
	EXPECT_EQ(0x81, vcpu->run->eoi.vector);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(0x20, vcpu->run->io.port);
	guest_run_done(vcpu);
	vm_destroy(vm);
}
