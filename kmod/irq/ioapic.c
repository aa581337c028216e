// SPDX-License-Identifier: GPL-2.0-only
/*
 * The I/O APIC, an 82093AA with 24 pins. Intel's data sheet 290566.
 */
#include <linux/bitmap.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <asm/apicdef.h>

#include "../keel.h"
#include "chips.h"
#include "lapic.h"

#define IOAPIC_VERSION		0x11
#define IOAPIC_SIZE		0x100

/* offsets in memory */
#define IOREGSEL		0x00
#define IOWIN			0x10

/* registers behind the window */
#define REG_ID			0x00
#define REG_VERSION		0x01
#define REG_ARBITRATION		0x02
#define REG_REDIR		0x10

/* a redirection entry's low half */
#define RTE_READ_ONLY		(BIT(14) | BIT(12))	/* remote IRR, delivery status */
#define RTE_MASK		BIT(16)

/* ---- delivery ---- */

static bool is_level(const struct keel_ioapic *ioapic, u32 pin)
{
	return ioapic->s.redirtbl[pin].fields.trig_mode;
}

static void rte_msg(const struct keel_ioapic *ioapic, u32 pin, struct keel_apic_msg *msg)
{
	u64 rte = ioapic->s.redirtbl[pin].bits;

	*msg = (struct keel_apic_msg) {
		.dest = rte >> 56,
		.mode = rte & APIC_DM_FIXED_MASK,
		.vector = rte & APIC_VECTOR_MASK,
		.logical = rte & APIC_DEST_LOGICAL,
		.level = rte & APIC_INT_LEVELTRIG,
		.lowest = (rte & APIC_DM_FIXED_MASK) == APIC_DM_LOWEST,
	};
}

/* Send what the pin asks for, if it may. Return: as keel_set_irq(). */
static int service(struct keel_ioapic *ioapic, u32 pin)
{
	struct keel_apic_msg msg;
	int ret;

	if (ioapic->s.redirtbl[pin].fields.mask)
		return -1;
	if (is_level(ioapic, pin) && ioapic->s.redirtbl[pin].fields.remote_irr)
		return 0;
	rte_msg(ioapic, pin, &msg);
	ret = keel_apic_send(ioapic->vm, NULL, &msg);
	if (!is_level(ioapic, pin))
		ioapic->delivered |= BIT(pin);
	else if (ret > 0)
		ioapic->s.redirtbl[pin].fields.remote_irr = 1;
	return ret;
}

/**
 * keel_ioapic_set_irq() - drive a pin
 * @ioapic: the IOAPIC
 * @pin: which input
 * @source: KEEL_IRQ_SOURCE_
 * @level: high or low
 *
 * Context: any.
 * Return: as keel_set_irq().
 */
int keel_ioapic_set_irq(struct keel_ioapic *ioapic, u32 pin, int source, int level)
{
	unsigned long flags;
	int ret = 1;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	if (level)
		ioapic->sources[pin] |= BIT(source);
	else
		ioapic->sources[pin] &= ~BIT(source);
	if (!ioapic->sources[pin]) {
		ioapic->irr &= ~BIT(pin);
		goto out;
	}
	if (!is_level(ioapic, pin)) {
		/* an edge is a rise: as long as it is high there is no other */
		if (ioapic->irr & BIT(pin)) {
			ret = 0;
			goto out;
		}
		ioapic->delivered &= ~BIT(pin);
	}
	ioapic->irr |= BIT(pin);
	ret = service(ioapic, pin);
out:
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	return ret;
}

void keel_ioapic_eoi(struct keel_ioapic *ioapic, struct keel_lapic *l, u8 vector, bool level)
{
	struct keel_apic_msg msg;
	unsigned long flags;
	bool mine;
	u32 pin;

	for (pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
		raw_spin_lock_irqsave(&ioapic->lock, flags);
		mine = ioapic->s.redirtbl[pin].fields.vector == vector;
		/*
		 * A level's EOI is broadcast, whoever sends it. An edge has
		 * none, but who waits for it wants that of the CPU that got it.
		 */
		if (mine && !level) {
			rte_msg(ioapic, pin, &msg);
			mine = keel_apic_matches(l, &msg);
		}
		raw_spin_unlock_irqrestore(&ioapic->lock, flags);
		if (!mine)
			continue;

		/* may lower the line, so: before it is looked at again */
		keel_irq_acked(ioapic->vm, KVM_IRQCHIP_IOAPIC, pin);
		if (!level)
			continue;

		raw_spin_lock_irqsave(&ioapic->lock, flags);
		if (is_level(ioapic, pin)) {
			ioapic->s.redirtbl[pin].fields.remote_irr = 0;
			if (ioapic->irr & BIT(pin))
				service(ioapic, pin);
		}
		raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	}
}

/* ---- registers ---- */

static void update_vectors(struct keel_ioapic *ioapic)
{
	DECLARE_BITMAP(vectors, 256);
	int i;

	bitmap_zero(vectors, 256);
	for (i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		__set_bit(ioapic->s.redirtbl[i].fields.vector, vectors);
	for (i = 0; i < ARRAY_SIZE(ioapic->vectors); i++)
		WRITE_ONCE(ioapic->vectors[i], vectors[i]);
}

/* Return: was it unmasked? */
static bool write_rte(struct keel_ioapic *ioapic, u32 pin, bool high, u32 value)
{
	u64 *rte = &ioapic->s.redirtbl[pin].bits;
	u64 old = *rte;

	if (high) {
		/* 8 bits of destination, the others are reserved */
		*rte = (old & 0xffffffff) | (u64)(value & 0xff000000) << 32;
	} else {
		value = (value & 0x1ffff & ~RTE_READ_ONLY) | (old & RTE_READ_ONLY);
		/* Linux ends a level interrupt so where there is no EOI register */
		if (!(value & APIC_INT_LEVELTRIG))
			value &= ~APIC_LVT_REMOTE_IRR;
		*rte = (old & ~0xffffffffULL) | value;
	}
	update_vectors(ioapic);
	if (is_level(ioapic, pin) && (ioapic->irr & BIT(pin)))
		service(ioapic, pin);
	return (old & RTE_MASK) && !(*rte & RTE_MASK);
}

static bool write_window(struct keel_ioapic *ioapic, u32 value, u32 *pin)
{
	u32 reg = ioapic->s.ioregsel;

	if (reg == REG_ID)
		ioapic->s.id = (value >> 24) & 0xf;
	if (reg < REG_REDIR || (reg - REG_REDIR) / 2 >= KVM_IOAPIC_NUM_PINS)
		return false;
	*pin = array_index_nospec((reg - REG_REDIR) / 2, KVM_IOAPIC_NUM_PINS);
	return write_rte(ioapic, *pin, reg & 1, value);
}

static u32 read_window(struct keel_ioapic *ioapic)
{
	u32 reg = ioapic->s.ioregsel, pin;
	u64 rte;

	switch (reg) {
	case REG_VERSION:
		return IOAPIC_VERSION | (KVM_IOAPIC_NUM_PINS - 1) << 16;
	case REG_ID:
	case REG_ARBITRATION:
		return (ioapic->s.id & 0xf) << 24;
	}
	pin = (reg - REG_REDIR) / 2;
	if (reg < REG_REDIR || pin >= KVM_IOAPIC_NUM_PINS)
		return ~0u;
	rte = ioapic->s.redirtbl[array_index_nospec(pin, KVM_IOAPIC_NUM_PINS)].bits;
	return reg & 1 ? rte >> 32 : rte;
}

u32 keel_ioapic_readl(struct keel_ioapic *ioapic, u32 offset)
{
	unsigned long flags;
	u32 value = 0;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	if (offset == IOREGSEL)
		value = ioapic->s.ioregsel;
	else if (offset == IOWIN)
		value = read_window(ioapic);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	return value;
}

void keel_ioapic_writel(struct keel_ioapic *ioapic, u32 offset, u32 value)
{
	bool unmasked = false;
	unsigned long flags;
	u32 pin;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	if (offset == IOREGSEL)
		ioapic->s.ioregsel = value & 0xff;
	else if (offset == IOWIN)
		unmasked = write_window(ioapic, value, &pin);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	if (unmasked)
		keel_irq_unmasked(ioapic->vm, KVM_IRQCHIP_IOAPIC, pin);
}

/* ---- memory ---- */

static int ioapic_read(struct keel_bus_dev *dev, gpa_t addr, int len, void *data)
{
	struct keel_ioapic *ioapic = container_of(dev, struct keel_ioapic, dev);
	u32 value;

	memset(data, 0, len);
	if (addr & 0xf)
		return 0;
	value = keel_ioapic_readl(ioapic, addr & 0xff);
	memcpy(data, &value, min_t(int, len, sizeof(value)));
	return 0;
}

static int ioapic_write(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data)
{
	struct keel_ioapic *ioapic = container_of(dev, struct keel_ioapic, dev);
	u32 value = 0;

	if (addr & 0xf)
		return 0;
	memcpy(&value, data, min_t(int, len, sizeof(value)));
	keel_ioapic_writel(ioapic, addr & 0xff, value);
	return 0;
}

static const struct keel_bus_ops ioapic_ops = {
	.read = ioapic_read,
	.write = ioapic_write,
};

/* ---- KVM_GET_IRQCHIP, KVM_SET_IRQCHIP ---- */

void keel_ioapic_get_state(struct keel_ioapic *ioapic, struct kvm_ioapic_state *s)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	*s = ioapic->s;
	/* an edge that was delivered must not be delivered again when restored */
	s->irr = ioapic->irr & ~ioapic->delivered;
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
}

void keel_ioapic_set_state(struct keel_ioapic *ioapic, const struct kvm_ioapic_state *s)
{
	unsigned long flags, irr = s->irr;
	u32 pin;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	ioapic->s.ioregsel = s->ioregsel & 0xff;
	ioapic->s.id = s->id & 0xf;
	for (pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		ioapic->s.redirtbl[pin].bits = s->redirtbl[pin].bits & 0xff0000000001ffffULL;
	update_vectors(ioapic);
	ioapic->irr = 0;
	ioapic->delivered = 0;
	for_each_set_bit(pin, &irr, KVM_IOAPIC_NUM_PINS) {
		ioapic->irr |= BIT(pin);
		service(ioapic, pin);
	}
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
}

/* ---- life ---- */

int keel_ioapic_plug(struct keel_vm *vm, struct keel_ioapic *ioapic)
{
	return keel_bus_add(vm, KEEL_BUS_MMIO, IO_APIC_DEFAULT_PHYS_BASE, IOAPIC_SIZE,
			    &ioapic->dev);
}

void keel_ioapic_unplug(struct keel_vm *vm, struct keel_ioapic *ioapic)
{
	keel_bus_remove(vm, KEEL_BUS_MMIO, &ioapic->dev);
}

struct keel_ioapic *keel_ioapic_alloc(struct keel_vm *vm)
{
	struct keel_ioapic *ioapic = kzalloc(sizeof(*ioapic), GFP_KERNEL_ACCOUNT);
	int pin;

	if (!ioapic)
		return NULL;
	raw_spin_lock_init(&ioapic->lock);
	ioapic->vm = vm;
	ioapic->s.base_address = IO_APIC_DEFAULT_PHYS_BASE;
	for (pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		ioapic->s.redirtbl[pin].fields.mask = 1;
	update_vectors(ioapic);
	ioapic->dev.ops = &ioapic_ops;
	return ioapic;
}
