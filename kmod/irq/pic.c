// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two cascaded 8259A as in a PC, with the edge/level control registers of the
 * chipsets since. Intel's data sheet 231468; names of commands are its.
 */
#include <linux/bitops.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "../keel.h"
#include "chips.h"
#include "lapic.h"

#define CASCADE		2	/* the master's input that the slave drives */
#define SPURIOUS	7
#define NONE		8	/* no level */

#define ICW1		BIT(4)
#define ICW1_IC4	BIT(0)
#define OCW3		BIT(3)
#define OCW3_READ	BIT(1)
#define OCW3_READ_ISR	BIT(0)
#define OCW3_POLL	BIT(2)
#define OCW3_SMM_SET	BIT(6)
#define OCW3_SMM	BIT(5)
#define ICW4_SFNM	BIT(4)
#define ICW4_AEOI	BIT(1)

/* IRQ 0, 1, 2, 8 and 13 are edge-triggered whatever one writes */
static const u8 elcr_masks[2] = { 0xf8, 0xde };

/* ---- priority ---- */

/* How many levels are before the first one in @mask; NONE when it is empty. */
static int priority(const struct kvm_pic_state *s, u8 mask)
{
	u8 rotated = ror8(mask, s->priority_add);

	return rotated ? __ffs(rotated) : NONE;
}

/* The input that this chip would interrupt for, or -1. */
static int unit_irq(struct keel_pic *pic, int unit)
{
	const struct kvm_pic_state *s = &pic->unit[unit];
	int wanted = priority(s, s->irr & ~s->imr);
	u8 service = s->isr;

	if (wanted == NONE)
		return -1;
	/* special mask: a masked level in service holds nobody back */
	if (s->special_mask)
		service &= ~s->imr;
	/* special fully nested: the slave may interrupt itself */
	if (unit == 0 && s->special_fully_nested_mode)
		service &= ~BIT(CASCADE);
	if (wanted >= priority(s, service))
		return -1;
	return (wanted + s->priority_add) & 7;
}

/* After any change: the slave's output is an input of the master. */
static void update(struct keel_pic *pic)
{
	if (unit_irq(pic, 1) >= 0)
		pic->unit[0].irr |= BIT(CASCADE);
	else
		pic->unit[0].irr &= ~BIT(CASCADE);
	WRITE_ONCE(pic->output, unit_irq(pic, 0) >= 0);
}

/* ---- lock, and what is done without it ---- */

static unsigned long pic_lock(struct keel_pic *pic)
	__acquires(&pic->lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&pic->lock, flags);
	return flags;
}

/* The first CPU whose LINT0 (or missing APIC) lets INTR through. */
static void kick_target(struct keel_vm *vm)
{
	struct keel_lapic *l;

	rcu_read_lock();
	list_for_each_entry_rcu(l, &vm->irq->apics, node) {
		if (!keel_lapic_accepts_pic(l))
			continue;
		keel_request(l->vcpu, KEEL_REQ_EVENT);
		keel_vcpu_kick(l->vcpu);
		break;
	}
	rcu_read_unlock();
}

static void pic_unlock(struct keel_pic *pic, unsigned long flags)
	__releases(&pic->lock)
{
	unsigned long acked = pic->acked, unmasked = pic->unmasked;
	bool output = pic->output;
	int pin;

	pic->acked = 0;
	pic->unmasked = 0;
	raw_spin_unlock_irqrestore(&pic->lock, flags);

	for_each_set_bit(pin, &acked, 16)
		keel_irq_acked(pic->vm, pin / 8, pin % 8);
	for_each_set_bit(pin, &unmasked, 16)
		keel_irq_unmasked(pic->vm, pin / 8, pin % 8);
	if (output)
		kick_target(pic->vm);
}

/* ---- inputs ---- */

static int set_input(struct kvm_pic_state *s, int pin, bool level)
{
	u8 mask = BIT(pin);
	int ret = 1;

	if (s->elcr & mask) {
		if (level) {
			ret = !(s->irr & mask);
			s->irr |= mask;
			s->last_irr |= mask;
		} else {
			s->irr &= ~mask;
			s->last_irr &= ~mask;
		}
	} else if (level) {
		if (!(s->last_irr & mask)) {
			ret = !(s->irr & mask);
			s->irr |= mask;
		}
		s->last_irr |= mask;
	} else {
		s->last_irr &= ~mask;
	}
	return s->imr & mask ? -1 : ret;
}

/**
 * keel_pic_set_irq() - drive an input, 0 to 15
 * @pic: the PIC pair
 * @pin: which input
 * @source: KEEL_IRQ_SOURCE_
 * @level: high or low
 *
 * Context: any.
 * Return: as keel_set_irq().
 */
int keel_pic_set_irq(struct keel_pic *pic, u32 pin, int source, int level)
{
	unsigned long flags = pic_lock(pic);
	int ret;

	if (level)
		pic->sources[pin] |= BIT(source);
	else
		pic->sources[pin] &= ~BIT(source);
	ret = set_input(&pic->unit[pin / 8], pin % 8, pic->sources[pin]);
	update(pic);
	pic_unlock(pic, flags);
	return ret;
}

/* ---- the CPU's side ---- */

static void end_irq(struct keel_pic *pic, int unit, int pin)
{
	pic->unit[unit].isr &= ~BIT(pin);
	pic->acked |= BIT(unit * 8 + pin);
}

/* What the second INTA cycle does inside the chip. */
static void take(struct keel_pic *pic, int unit, int pin)
{
	struct kvm_pic_state *s = &pic->unit[unit];

	s->isr |= BIT(pin);
	if (!(s->elcr & BIT(pin)))
		s->irr &= ~BIT(pin);
	if (!s->auto_eoi)
		return;
	if (s->rotate_on_auto_eoi)
		s->priority_add = (pin + 1) & 7;
	end_irq(pic, unit, pin);
}

/* One acknowledge: the vector, that of the spurious input if none asks. */
static u8 inta(struct keel_pic *pic, bool commit)
{
	int irq = unit_irq(pic, 0), slave;

	if (irq < 0)
		return pic->unit[0].irq_base + SPURIOUS;
	if (irq != CASCADE) {
		if (commit)
			take(pic, 0, irq);
		return pic->unit[0].irq_base + irq;
	}
	slave = unit_irq(pic, 1);
	if (commit) {
		if (slave >= 0)
			take(pic, 1, slave);
		take(pic, 0, irq);
	}
	return pic->unit[1].irq_base + (slave >= 0 ? slave : SPURIOUS);
}

static int acknowledge(struct keel_pic *pic, bool commit)
{
	unsigned long flags = pic_lock(pic);
	int vector = -1;

	/* another vCPU may have been first: then there is none, not a spurious one */
	if (pic->output) {
		vector = inta(pic, commit);
		if (commit)
			update(pic);
	}
	if (commit)
		pic_unlock(pic, flags);
	else
		raw_spin_unlock_irqrestore(&pic->lock, flags);
	return vector;
}

/* The vector that keel_pic_ack() would give, or -1. Context: any. */
int keel_pic_peek(struct keel_pic *pic)
{
	return acknowledge(pic, false);
}

/* The INTA cycles. Return: the vector, or -1 when INTR is low. */
int keel_pic_ack(struct keel_pic *pic)
{
	return acknowledge(pic, true);
}

/* ---- commands ---- */

static void write_icw1(struct keel_pic *pic, int unit, u8 value)
{
	struct kvm_pic_state *s = &pic->unit[unit];
	u8 dropped = s->isr | (s->irr & ~s->elcr);

	/* nobody will end these any more */
	pic->acked |= dropped << unit * 8;
	s->init4 = value & ICW1_IC4;
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->imr = 0;
	s->isr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	s->poll = 0;
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = 1;
}

static void write_ocw2(struct keel_pic *pic, int unit, u8 value)
{
	struct kvm_pic_state *s = &pic->unit[unit];
	bool rotate = value & BIT(7), specific = value & BIT(6), eoi = value & BIT(5);
	int pin = value & 7;

	if (!eoi) {
		if (!specific)		/* rotate in automatic EOI mode: set, clear */
			s->rotate_on_auto_eoi = rotate;
		else if (rotate)	/* set priority */
			s->priority_add = (pin + 1) & 7;
		return;
	}
	if (!specific) {
		int p = priority(s, s->special_mask ? s->isr & ~s->imr : s->isr);

		if (p == NONE)
			return;
		pin = (p + s->priority_add) & 7;
	}
	if (rotate)
		s->priority_add = (pin + 1) & 7;
	end_irq(pic, unit, pin);
}

static void write_ocw3(struct kvm_pic_state *s, u8 value)
{
	if (value & OCW3_POLL)
		s->poll = 1;
	if (value & OCW3_READ)
		s->read_reg_select = value & OCW3_READ_ISR;
	if (value & OCW3_SMM_SET)
		s->special_mask = !!(value & OCW3_SMM);
}

/* The port with A0 set: OCW1, or the ICWs that follow ICW1. */
static void write_data(struct keel_pic *pic, int unit, u8 value)
{
	struct kvm_pic_state *s = &pic->unit[unit];

	switch (s->init_state) {
	case 0:
		pic->unmasked |= (u8)(s->imr & ~value) << unit * 8;
		s->imr = value;
		break;
	case 1:
		s->irq_base = value & 0xf8;
		s->init_state = 2;
		break;
	case 2:		/* ICW3: the wiring is what it is */
		s->init_state = s->init4 ? 3 : 0;
		break;
	default:
		s->special_fully_nested_mode = !!(value & ICW4_SFNM);
		s->auto_eoi = !!(value & ICW4_AEOI);
		s->init_state = 0;
	}
}

/* A poll is an INTA cycle with the level as its answer. */
static u8 poll(struct keel_pic *pic, int unit)
{
	int irq = unit_irq(pic, unit);

	pic->unit[unit].poll = 0;
	if (irq < 0)
		return 0;
	take(pic, unit, irq);
	return BIT(7) | irq;
}

static int port_unit(u16 port)
{
	/* ELCRs at 4d0 and 4d1, the units' own ports at 20, 21 and a0, a1 */
	return port >= 0x4d0 ? port & 1 : port >> 7 & 1;
}

void keel_pic_outb(struct keel_pic *pic, u16 port, u8 value)
{
	unsigned long flags = pic_lock(pic);
	int unit = port_unit(port);

	if (port >= 0x4d0)
		pic->unit[unit].elcr = value & elcr_masks[unit];
	else if (port & 1)
		write_data(pic, unit, value);
	else if (value & ICW1)
		write_icw1(pic, unit, value);
	else if (value & OCW3)
		write_ocw3(&pic->unit[unit], value);
	else
		write_ocw2(pic, unit, value);
	update(pic);
	pic_unlock(pic, flags);
}

static u8 read_register(const struct kvm_pic_state *s, u16 port)
{
	if (port >= 0x4d0)
		return READ_ONCE(s->elcr);
	if (port & 1)
		return READ_ONCE(s->imr);
	return READ_ONCE(s->read_reg_select) ? READ_ONCE(s->isr) : READ_ONCE(s->irr);
}

/* A register is one byte, and only a poll changes any: other reads take no lock. */
u8 keel_pic_inb(struct keel_pic *pic, u16 port)
{
	int unit = port_unit(port);
	const struct kvm_pic_state *s = &pic->unit[unit];
	unsigned long flags;
	u8 value;

	if (port >= 0x4d0 || !READ_ONCE(s->poll))
		return read_register(s, port);
	flags = pic_lock(pic);
	value = s->poll ? poll(pic, unit) : read_register(s, port);
	update(pic);
	pic_unlock(pic, flags);
	return value;
}

/* ---- KVM_GET_IRQCHIP, KVM_SET_IRQCHIP ---- */

void keel_pic_get_state(struct keel_pic *pic, int unit, struct kvm_pic_state *s)
{
	unsigned long flags = pic_lock(pic);

	*s = pic->unit[unit];
	raw_spin_unlock_irqrestore(&pic->lock, flags);
}

void keel_pic_set_state(struct keel_pic *pic, int unit, const struct kvm_pic_state *s)
{
	struct kvm_pic_state new = *s;
	unsigned long flags;

	/* only what the chip itself can come to */
	new.priority_add &= 7;
	new.irq_base &= 0xf8;
	new.init_state &= 3;
	new.elcr &= elcr_masks[unit];
	new.elcr_mask = elcr_masks[unit];
	new.read_reg_select = !!new.read_reg_select;
	new.poll = !!new.poll;
	new.special_mask = !!new.special_mask;
	new.auto_eoi = !!new.auto_eoi;
	new.rotate_on_auto_eoi = !!new.rotate_on_auto_eoi;
	new.special_fully_nested_mode = !!new.special_fully_nested_mode;
	new.init4 = !!new.init4;

	flags = pic_lock(pic);
	pic->unit[unit] = new;
	update(pic);
	pic_unlock(pic, flags);
}

/* ---- ports ---- */

static int pic_read(struct keel_pic *pic, gpa_t addr, int len, void *data)
{
	memset(data, 0, len);
	if (len == 1)
		*(u8 *)data = keel_pic_inb(pic, addr);
	return 0;
}

static int pic_write(struct keel_pic *pic, gpa_t addr, int len, const void *data)
{
	/* wider accesses go nowhere: the chip has eight data lines */
	if (len == 1)
		keel_pic_outb(pic, addr, *(const u8 *)data);
	return 0;
}

/* One bus device per pair of ports. */
#define PIC_DEV(name)								\
static int name##_read(struct keel_bus_dev *dev, gpa_t addr, int len, void *data)	\
{										\
	return pic_read(container_of(dev, struct keel_pic, name), addr, len, data);	\
}										\
static int name##_write(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data) \
{										\
	return pic_write(container_of(dev, struct keel_pic, name), addr, len, data);	\
}										\
static const struct keel_bus_ops name##_ops = {					\
	.read = name##_read, .write = name##_write,				\
}

PIC_DEV(master);
PIC_DEV(slave);
PIC_DEV(elcr);

/* Put the chip on the port bus. Context: slots_lock held. */
int keel_pic_plug(struct keel_vm *vm, struct keel_pic *pic)
{
	int err;

	err = keel_bus_add(vm, KEEL_BUS_PIO, 0x20, 2, &pic->master);
	if (!err)
		err = keel_bus_add(vm, KEEL_BUS_PIO, 0xa0, 2, &pic->slave);
	if (!err)
		err = keel_bus_add(vm, KEEL_BUS_PIO, 0x4d0, 2, &pic->elcr);
	if (err)
		keel_pic_unplug(vm, pic);
	return err;
}

void keel_pic_unplug(struct keel_vm *vm, struct keel_pic *pic)
{
	keel_bus_remove(vm, KEEL_BUS_PIO, &pic->master);
	keel_bus_remove(vm, KEEL_BUS_PIO, &pic->slave);
	keel_bus_remove(vm, KEEL_BUS_PIO, &pic->elcr);
}

struct keel_pic *keel_pic_alloc(struct keel_vm *vm)
{
	struct keel_pic *pic = kzalloc(sizeof(*pic), GFP_KERNEL_ACCOUNT);

	if (!pic)
		return NULL;
	raw_spin_lock_init(&pic->lock);
	pic->vm = vm;
	pic->unit[0].elcr_mask = elcr_masks[0];
	pic->unit[1].elcr_mask = elcr_masks[1];
	pic->master.ops = &master_ops;
	pic->slave.ops = &slave_ops;
	pic->elcr.ops = &elcr_ops;
	return pic;
}
