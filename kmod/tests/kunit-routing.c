// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: GSI routing, MSIs, buses, the coalesced ring.
 */
#include "kunit-irq.h"

/* ---- routing ---- */

static struct kvm_irq_routing_entry chip_entry(u32 gsi, u32 chip, u32 pin)
{
	return (struct kvm_irq_routing_entry) {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

static struct kvm_irq_routing_entry msi_entry(u32 gsi, u32 dest, u32 data)
{
	return (struct kvm_irq_routing_entry) {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = 0xfee00000 | dest << 12, .data = data },
	};
}

/* Return: 0 or what a table of these is refused with. */
static int try(struct kunit *test, const struct kvm_irq_routing_entry *e, u32 nr)
{
	struct keel_irq_routing *rt = keel_routing_parse(vm_of(test), e, nr);

	if (IS_ERR(rt))
		return PTR_ERR(rt);
	kvfree(rt);
	return 0;
}

static void routing_rules(struct kunit *test)
{
	struct kvm_irq_routing_entry e[3];

	KUNIT_EXPECT_EQ(test, try(test, NULL, 0), 0);
	e[0] = chip_entry(0, KVM_IRQCHIP_IOAPIC, 23);
	KUNIT_EXPECT_EQ(test, try(test, e, 1), 0);
	e[0] = chip_entry(0, KVM_IRQCHIP_IOAPIC, 24);
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0] = chip_entry(0, KVM_IRQCHIP_PIC_SLAVE, 8);
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0] = chip_entry(0, 3, 0);
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0] = msi_entry(KEEL_MAX_GSI, 0, 0x40);
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0] = msi_entry(KEEL_MAX_GSI - 1, 0, 0x40);
	KUNIT_EXPECT_EQ(test, try(test, e, 1), 0);
	e[0].flags = 2;
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0] = chip_entry(0, 0, 0);
	e[0].flags = 1;
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0] = chip_entry(0, 0, 0);
	e[0].type = KVM_IRQ_ROUTING_S390_ADAPTER;
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);
	e[0].type = 0xffffffff;
	KUNIT_EXPECT_EQ(test, try(test, e, 1), -EINVAL);

	/* one GSI to several chips, but to each only once, and not to an MSI too */
	e[0] = chip_entry(5, 0, 5);
	e[1] = chip_entry(5, 2, 5);
	e[2] = chip_entry(5, 1, 5);
	KUNIT_EXPECT_EQ(test, try(test, e, 3), 0);
	e[2] = chip_entry(5, 2, 6);
	KUNIT_EXPECT_EQ(test, try(test, e, 3), -EINVAL);
	e[2] = msi_entry(5, 0, 0x40);
	KUNIT_EXPECT_EQ(test, try(test, e, 3), -EINVAL);
	e[0] = msi_entry(5, 0, 0x41);
	KUNIT_EXPECT_EQ(test, try(test, e + 2, 1), 0);
	e[1] = e[0];
	KUNIT_EXPECT_EQ(test, try(test, e, 2), -EINVAL);
	/* several GSIs to one pin */
	e[0] = chip_entry(5, 2, 5);
	e[1] = chip_entry(6, 2, 5);
	KUNIT_EXPECT_EQ(test, try(test, e, 2), 0);
}

static void routing_split(struct kunit *test)
{
	struct kvm_irq_routing_entry e = chip_entry(0, 0, 0);

	vm_of(test)->irqchip = KEEL_IRQCHIP_SPLIT;
	KUNIT_EXPECT_EQ(test, try(test, &e, 1), -EINVAL);
	e = msi_entry(0, 0, 0);
	KUNIT_EXPECT_EQ(test, try(test, &e, 1), 0);
	vm_of(test)->irqchip = KEEL_IRQCHIP_KERNEL;
}

static void routing_default(struct kunit *test)
{
	struct keel_vm *vm = vm_of(test);

	/* PIC and IOAPIC */
	keel_set_irq(vm, 0, 3, 1);
	KUNIT_EXPECT_EQ(test, vm->pic->unit[0].irr, 0x08);
	KUNIT_EXPECT_EQ(test, vm->ioapic->irr, 0x08);
	keel_set_irq(vm, 0, 12, 1);
	KUNIT_EXPECT_EQ(test, vm->pic->unit[1].irr, 0x10);
	/* IOAPIC only, and masked */
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 20, 1), -1);
	KUNIT_EXPECT_EQ(test, vm->ioapic->irr, 0x101008);
	/* nowhere */
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 24, 1), -1);
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, ~0u, 1), -1);
}

static void routing_replaced(struct kunit *test)
{
	struct keel_vm *vm = vm_of(test);
	struct kvm_irq_routing_entry e[2] = { msi_entry(100, 2, 0x77), msi_entry(3, 1, 0x55) };
	struct keel_irq_routing *rt = keel_routing_parse(vm, e, 2);

	KUNIT_ASSERT_FALSE(test, IS_ERR(rt));
	keel_routing_replace(vm, rt);
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 100, 1), 1);
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 100, 1), 0);
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 100, 0), -1);	/* no falling edge */
	KUNIT_EXPECT_TRUE(test, requested(lapic_of(test, 2), 0x77));
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 3, 1), 1);
	KUNIT_EXPECT_TRUE(test, requested(lapic_of(test, 1), 0x55));
	KUNIT_EXPECT_EQ(test, vm->pic->unit[0].irr, 0);
	KUNIT_EXPECT_EQ(test, keel_set_irq(vm, 0, 4, 1), -1);
}

/* EOIs that userspace's IOAPIC wants: those of level-triggered routes. */
static void routing_split_eoi(struct kunit *test)
{
	struct keel_vm *vm = vm_of(test);
	struct kvm_irq_routing_entry e[3] = {
		msi_entry(4, 1, 0x8055), msi_entry(5, 1, 0x66), msi_entry(24, 1, 0x8077),
	};
	struct keel_ioapic *ioapic = vm->ioapic;
	struct keel_irq_routing *rt;

	vm->irqchip = KEEL_IRQCHIP_SPLIT;
	vm->ioapic = NULL;
	vm->nr_userspace_ioapic_pins = 24;
	rt = keel_routing_parse(vm, e, 3);
	KUNIT_ASSERT_FALSE(test, IS_ERR(rt));
	keel_routing_replace(vm, rt);
	KUNIT_EXPECT_TRUE(test, test_bit(0x55, vm->irq->split_eoi));
	KUNIT_EXPECT_FALSE(test, test_bit(0x66, vm->irq->split_eoi));
	KUNIT_EXPECT_FALSE(test, test_bit(0x77, vm->irq->split_eoi));

	/* in service while its route goes: the EOI is still wanted */
	keel_set_irq(vm, 0, 4, 1);
	rt = keel_routing_parse(vm, NULL, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR(rt));
	keel_routing_replace(vm, rt);
	KUNIT_EXPECT_TRUE(test, test_bit(0x55, vm->irq->split_eoi));
	KUNIT_EXPECT_EQ(test, keel_irq_ack(lapic_of(test, 1)->vcpu), 0x55);
	keel_lapic_write(lapic_of(test, 1), APIC_EOI, 0);
	KUNIT_EXPECT_EQ(test, lapic_of(test, 1)->vcpu->eoi_vector, 0x55);
	KUNIT_EXPECT_TRUE(test, test_bit(KEEL_REQ_IOAPIC_EOI,
					 &lapic_of(test, 1)->vcpu->requests));
	vm->irqchip = KEEL_IRQCHIP_KERNEL;
	vm->ioapic = ioapic;
}

static void msi_format(struct kunit *test)
{
	struct keel_vm *vm = vm_of(test);
	struct keel_apic_msg msg;

	KUNIT_EXPECT_EQ(test, keel_msi_decode(vm, 0xfee12004, 0x100, 0x8145, &msg), 0);
	KUNIT_EXPECT_EQ(test, msg.dest, 0x12);	/* the high half means nothing */
	KUNIT_EXPECT_TRUE(test, msg.logical);
	KUNIT_EXPECT_TRUE(test, msg.level);
	KUNIT_EXPECT_TRUE(test, msg.lowest);
	KUNIT_EXPECT_EQ(test, msg.vector, 0x45);
	vm->x2apic_32bit_ids = true;
	KUNIT_EXPECT_EQ(test, keel_msi_decode(vm, 0xfee12000, 0x100, 0x45, &msg), 0);
	KUNIT_EXPECT_EQ(test, msg.dest, 0x112);
	KUNIT_EXPECT_FALSE(test, msg.lowest);
	KUNIT_EXPECT_EQ(test, keel_msi_decode(vm, 0xfee12000, 0x101, 0x45, &msg), -EINVAL);
	vm->x2apic_32bit_ids = false;
	/* QEMU's table is full of these at first */
	KUNIT_EXPECT_EQ(test, keel_msi_decode(vm, 0, 0, 0, &msg), 0);
	KUNIT_EXPECT_EQ(test, keel_apic_send(vm, NULL, &msg), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(lapic_of(test, 0), APIC_IRR), 0);
}

static struct kunit_case routing_cases[] = {
	KUNIT_CASE(routing_rules),
	KUNIT_CASE(routing_split),
	KUNIT_CASE(routing_default),
	KUNIT_CASE(routing_replaced),
	KUNIT_CASE(routing_split_eoi),
	KUNIT_CASE(msi_format),
	{}
};

/* ---- buses ---- */

struct probe {
	struct keel_bus_dev dev;
	gpa_t addr;
	int len, answer, calls;
};

static int probe_write(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data)
{
	struct probe *p = container_of(dev, struct probe, dev);

	p->addr = addr;
	p->len = len;
	p->calls++;
	return p->answer;
}

static const struct keel_bus_ops probe_ops = { .write = probe_write };

static void probe_add(struct kunit *test, struct probe *p, u16 port, u32 len)
{
	memset(p, 0, sizeof(*p));
	p->dev.ops = &probe_ops;
	mutex_lock(&vm_of(test)->slots_lock);
	KUNIT_EXPECT_EQ(test, keel_bus_add(vm_of(test), KEEL_BUS_PIO, port, len, &p->dev), 0);
	mutex_unlock(&vm_of(test)->slots_lock);
}

static void probe_remove(struct kunit *test, struct probe *p)
{
	mutex_lock(&vm_of(test)->slots_lock);
	keel_bus_remove(vm_of(test), KEEL_BUS_PIO, &p->dev);
	mutex_unlock(&vm_of(test)->slots_lock);
}

static int outl(struct kunit *test, u16 port, int len)
{
	u32 data = 0;

	return keel_pio_write(lapic_of(test, 0)->vcpu, port, len, &data);
}

static void bus_lookup(struct kunit *test)
{
	struct probe wide, narrow, any, same;
	u32 data = 0;

	probe_add(test, &wide, 0x500, 16);
	probe_add(test, &any, 0x600, 0);
	probe_add(test, &narrow, 0x504, 2);
	KUNIT_EXPECT_EQ(test, outl(test, 0x500, 4), 0);
	KUNIT_EXPECT_EQ(test, wide.calls, 1);
	/* the one that begins closest, then those around it */
	KUNIT_EXPECT_EQ(test, outl(test, 0x504, 2), 0);
	KUNIT_EXPECT_EQ(test, narrow.calls, 1);
	KUNIT_EXPECT_EQ(test, outl(test, 0x504, 4), 0);
	KUNIT_EXPECT_EQ(test, wide.calls, 2);
	narrow.answer = -EOPNOTSUPP;
	KUNIT_EXPECT_EQ(test, outl(test, 0x504, 1), 0);
	KUNIT_EXPECT_EQ(test, narrow.calls, 2);
	KUNIT_EXPECT_EQ(test, wide.calls, 3);
	/* across an end, before, behind */
	KUNIT_EXPECT_EQ(test, outl(test, 0x50e, 4), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, outl(test, 0x4fe, 4), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, outl(test, 0x510, 1), -EOPNOTSUPP);
	/* of length 0: any, at its very address */
	KUNIT_EXPECT_EQ(test, outl(test, 0x600, 4), 0);
	KUNIT_EXPECT_EQ(test, outl(test, 0x600, 1), 0);
	KUNIT_EXPECT_EQ(test, outl(test, 0x601, 1), -EOPNOTSUPP);
	/* what cannot be read is not read */
	KUNIT_EXPECT_EQ(test, keel_pio_read(lapic_of(test, 0)->vcpu, 0x500, 4, &data),
			-EOPNOTSUPP);
	/* several at one address */
	probe_add(test, &same, 0x600, 0);
	same.answer = -EOPNOTSUPP;
	KUNIT_EXPECT_EQ(test, outl(test, 0x600, 2), 0);
	KUNIT_EXPECT_EQ(test, same.calls, 1);
	KUNIT_EXPECT_EQ(test, any.calls, 3);
	probe_remove(test, &any);
	KUNIT_EXPECT_EQ(test, outl(test, 0x600, 2), -EOPNOTSUPP);
	probe_remove(test, &any);	/* twice: no harm */
	probe_remove(test, &same);
	probe_remove(test, &narrow);
	probe_remove(test, &wide);
	KUNIT_EXPECT_EQ(test, outl(test, 0x500, 4), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, outl(test, 0x80, 1), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, outl(test, 0x20, 1), 0);	/* the PIC is still there */
}

/* ---- the coalesced ring ---- */

static void ring_new(struct kunit *test)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xa0000, .size = 0x100 };

	vm_of(test)->coalesced_ring = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vm_of(test)->coalesced_ring);
	KUNIT_EXPECT_EQ(test, keel_ioctl_register_coalesced(vm_of(test), &zone), 0);
}

static int store(struct kunit *test, gpa_t gpa, int len, u64 data)
{
	return keel_mmio_write(lapic_of(test, 0)->vcpu, gpa, len, &data);
}

static void ring_zones(struct kunit *test)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xa0000, .size = 0x100 };
	struct kvm_coalesced_mmio_ring *ring;
	u8 byte = 7;

	ring_new(test);
	ring = vm_of(test)->coalesced_ring;
	KUNIT_EXPECT_EQ(test, store(test, 0xa00fc, 4, 0x12345678), 0);
	KUNIT_EXPECT_EQ(test, ring->last, 1);
	KUNIT_EXPECT_EQ(test, ring->coalesced_mmio[0].phys_addr, 0xa00fc);
	KUNIT_EXPECT_EQ(test, ring->coalesced_mmio[0].len, 4);
	KUNIT_EXPECT_EQ(test, ring->coalesced_mmio[0].pio, 0);
	KUNIT_EXPECT_EQ(test, *(u64 *)ring->coalesced_mmio[0].data, 0x12345678);
	KUNIT_EXPECT_EQ(test, store(test, 0xa00fe, 4, 0), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, store(test, 0x9fffe, 4, 0), -EOPNOTSUPP);
	/* ports are another space */
	zone.pio = 2;
	KUNIT_EXPECT_EQ(test, keel_ioctl_register_coalesced(vm_of(test), &zone), -EINVAL);
	zone = (struct kvm_coalesced_mmio_zone) { .addr = 0x70, .size = 1, .pio = 1 };
	KUNIT_EXPECT_EQ(test, keel_ioctl_register_coalesced(vm_of(test), &zone), 0);
	KUNIT_EXPECT_EQ(test, keel_pio_write(lapic_of(test, 0)->vcpu, 0x70, 1, &byte), 0);
	KUNIT_EXPECT_EQ(test, ring->coalesced_mmio[1].pio, 1);
	KUNIT_EXPECT_EQ(test, store(test, 0x70, 1, 0), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, keel_ioctl_unregister_coalesced(vm_of(test), &zone), 0);
	KUNIT_EXPECT_EQ(test, keel_pio_write(lapic_of(test, 0)->vcpu, 0x70, 1, &byte),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, keel_ioctl_unregister_coalesced(vm_of(test), &zone), 0);
}

static void ring_fills(struct kunit *test)
{
	struct kvm_coalesced_mmio_ring *ring;
	int n = 0;

	ring_new(test);
	ring = vm_of(test)->coalesced_ring;
	while (n < 1000 && !store(test, 0xa0000, 1, n))
		n++;
	KUNIT_EXPECT_EQ(test, n, KVM_COALESCED_MMIO_MAX - 1);
	/* room for one, over the end */
	ring->first = 1;
	KUNIT_EXPECT_EQ(test, store(test, 0xa0000, 1, 0), 0);
	KUNIT_EXPECT_EQ(test, ring->last, 0);
	KUNIT_EXPECT_EQ(test, store(test, 0xa0000, 1, 0), -EOPNOTSUPP);
	/* indices from a hostile userspace */
	ring->last = KVM_COALESCED_MMIO_MAX;
	KUNIT_EXPECT_EQ(test, store(test, 0xa0000, 1, 0), -EOPNOTSUPP);
	ring->last = ~0u;
	KUNIT_EXPECT_EQ(test, store(test, 0xa0000, 1, 0), -EOPNOTSUPP);
	ring->last = 3;
	ring->first = ~0u;
	KUNIT_EXPECT_EQ(test, store(test, 0xa0000, 1, 0), 0);
	KUNIT_EXPECT_EQ(test, ring->last, 4);
}

static struct kunit_case bus_cases[] = {
	KUNIT_CASE(bus_lookup),
	KUNIT_CASE(ring_zones),
	KUNIT_CASE(ring_fills),
	{}
};

/* ---- suites ---- */

static struct kunit_suite routing_suite = {
	.name = "keel-routing",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = routing_cases,
};

static struct kunit_suite bus_suite = {
	.name = "keel-bus",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = bus_cases,
};

kunit_test_suites(&routing_suite, &bus_suite);
