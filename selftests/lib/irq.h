/* SPDX-License-Identifier: GPL-2.0-only */
/* Guest code for the interrupt controllers; included by the tests of these. */
#ifndef SELFTEST_IRQ_H
#define SELFTEST_IRQ_H

#include "guest.h"

#define IOAPIC_BASE	IO_APIC_DEFAULT_PHYS_BASE
#define IOAPIC_MASKED	(1ULL << 16)
#define IOAPIC_LEVEL	(1ULL << 15)
#define IOAPIC_RIRR	(1ULL << 14)

static volatile u32 irqs[256];

__attribute__((unused)) static void on_apic_irq(struct guest_trap *trap)
{
	irqs[trap->vector & 0xff]++;
	apic_eoi();
}

__attribute__((unused)) static void on_x2apic_irq(struct guest_trap *trap)
{
	irqs[trap->vector & 0xff]++;
	x2apic_write(APIC_EOI, 0);
}

/* Master and slave at 0x20 and 0x28, end of interrupt by hand. */
__attribute__((unused)) static void on_pic_irq(struct guest_trap *trap)
{
	irqs[trap->vector & 0xff]++;
	if (trap->vector >= 0x28)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

__attribute__((unused)) static void pic_init(u16 mask)
{
	outb(0x20, 0x11);
	outb(0x21, 0x20);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 2);
	outb(0xa1, 1);
	outb(0x21, mask & 0xff);
	outb(0xa1, mask >> 8);
}

static inline void ioapic_write(u32 reg, u32 val)
{
	mmio_write32(IOAPIC_BASE, reg);
	mmio_write32(IOAPIC_BASE + 0x10, val);
}

static inline u32 ioapic_read(u32 reg)
{
	mmio_write32(IOAPIC_BASE, reg);
	return mmio_read32(IOAPIC_BASE + 0x10);
}

static inline void ioapic_route(u32 pin, u64 entry)
{
	ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
	ioapic_write(0x11 + 2 * pin, entry >> 32);
	ioapic_write(0x10 + 2 * pin, entry);
}

#endif
