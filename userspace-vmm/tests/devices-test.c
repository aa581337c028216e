// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bus, the real-time clock, the fixed ACPI hardware and the reset ports.
 */
#include <string.h>

#include "bus.h"
#include "i8042.h"
#include "pci.h"
#include "pm.h"
#include "rtc.h"
#include "tap.h"

static struct bus bus;

static u64 in(u64 port, unsigned int size)
{
	u64 value = 0;

	bus_access(&bus, port, &value, size, false);
	return value;
}

static void out(u64 port, unsigned int size, u64 value)
{
	bus_access(&bus, port, &value, size, true);
}

/* A device that remembers, and answers with the offset. */
static struct bus_access last;
static unsigned int calls;

static void echo(void *dev, struct bus_access *access)
{
	last = *access;
	calls++;
	if (!access->write)
		access->value = 0x1122334455667700ULL + access->offset;
}

static void test_bus(void)
{
	memset(&bus, 0, sizeof(bus));
	bus_add(&bus, "a", 0x100, 8, false, echo, NULL);
	bus_add(&bus, "b", 0x108, 2, true, echo, NULL);
	is(in(0x102, 2), 0x7702, "a word");
	is(last.offset, 2, "at its offset");
	is(in(0x104, 4), 0x55667704, "a double word");
	is(in(0x100, 8), 0x1122334455667700ULL, "a quad word");
	calls = 0;
	is(in(0x108, 2), 0x0100, "a bytewise device sees bytes");
	is(calls, 2, "two of them");
	is(in(0x109, 2), 0xff01, "sticking out: the rest is ones");
	is(in(0x106, 4), 0x01000706, "across two regions");
	is(in(0xff, 1), 0xff, "below");
	is(in(0x5000, 4), 0xffffffff, "nobody there");
	calls = 0;
	out(0x5000, 4, 1);
	is(calls, 0, "a write to nobody");
	is(atomic_load(&bus.unclaimed), 3, "is counted");
	out(0x101, 1, 0x42);
	ok(last.write && last.value == 0x42 && last.size == 1, "a write");
}

static time_t fake_time;

static time_t fake_now(void)
{
	return fake_time;
}

static u8 cmos(u8 index)
{
	out(0x70, 1, index);
	return in(0x71, 1);
}

static void set_cmos(u8 index, u8 value)
{
	out(0x70, 1, index);
	out(0x71, 1, value);
}

static bool line, armed;

static void set_line(void *opaque, unsigned int gsi, bool level)
{
	line = level;
}

static void arm(void *opaque, bool on)
{
	armed = on;
}

static void test_rtc_interrupts(struct rtc *rtc)
{
	fake_time = 1709210096;		/* 12:34:56 */
	rtc->offset = 0;
	set_cmos(0x0b, 0x02);
	cmos(0x0c);
	rtc_tick(rtc);
	ok(!line && !armed, "interrupts are off");
	is(cmos(0x0c), 0x10, "an update shows all the same");
	set_cmos(0x0b, 0x12);
	ok(armed && !line, "update interrupt on");
	rtc_tick(rtc);
	ok(line, "it comes");
	is(cmos(0x0c), 0x90, "and says so");
	ok(!line && !cmos(0x0c), "acknowledged");

	set_cmos(0x01, 0x58);
	set_cmos(0x03, 0xff);
	set_cmos(0x05, 0x12);
	set_cmos(0x0b, 0x22);
	rtc_tick(rtc);
	ok(armed && !line, "an alarm that is not yet");
	fake_time += 2;
	rtc_tick(rtc);
	ok(line, "an alarm");
	is(cmos(0x0c), 0xb0, "and says so");
	set_cmos(0x01, 0x01);
	fake_time += 10;		/* 12:35:08 */
	rtc_tick(rtc);
	ok(line, "an alarm while nobody ticked");
	is(cmos(0x0c), 0xb0, "and says so");
	fake_time += 3600;
	rtc_tick(rtc);
	ok(!line, "the hour does not match");
	set_cmos(0x0b, 0x02);
	ok(!armed, "off again");
}

static void test_rtc(void)
{
	struct irq_line irq = { set_line, NULL, RTC_IRQ };
	static struct rtc rtc;

	memset(&bus, 0, sizeof(bus));
	rtc_init(&rtc, irq, arm, NULL, fake_now);
	bus_add(&bus, "rtc", RTC_PORT, RTC_PORT_COUNT, true, rtc_access, &rtc);
	fake_time = 1709210096;		/* 2024-02-29 12:34:56, a Thursday */
	is(cmos(0x00), 0x56, "seconds in BCD");
	is(cmos(0x02), 0x34, "minutes");
	is(cmos(0x04), 0x12, "hours");
	is(cmos(0x06), 5, "weekday");
	is(cmos(0x07), 0x29, "day");
	is(cmos(0x08), 0x02, "month");
	is(cmos(0x09), 0x24, "year");
	is(cmos(RTC_CENTURY), 0x20, "century");
	is(cmos(0x0a) & 0x80, 0, "no update in progress");
	is(cmos(0x0d), 0x80, "the battery is good");
	is(cmos(0x80 | 0x07), 0x29, "the NMI bit does not matter");

	set_cmos(0x0b, 0x06);
	is(cmos(0x00), 56, "seconds in binary");
	set_cmos(0x0b, 0x04);
	is(cmos(0x04), 0x80 | 12, "noon is 12 PM on a 12-hour clock");
	fake_time += 12 * 3600;
	is(cmos(0x04), 12, "midnight is 12 AM");
	fake_time += 15 * 3600;
	is(cmos(0x04), 0x80 | 3, "15:00 is 3 PM");
	set_cmos(0x0b, 0x02);

	set_cmos(0x0b, 0x82);		/* SET */
	set_cmos(0x00, 0x01);
	set_cmos(0x02, 0x02);
	set_cmos(0x04, 0x03);
	set_cmos(0x07, 0x04);
	set_cmos(0x08, 0x05);
	set_cmos(0x09, 0x06);
	set_cmos(RTC_CENTURY, 0x21);
	is(cmos(0x09), 0x06, "while being set, what was written is read");
	set_cmos(0x0b, 0x02);
	fake_time += 61;
	is(cmos(0x00), 0x02, "the clock goes on from there: seconds");
	is(cmos(0x02), 0x03, "minutes");
	is(cmos(0x08), 0x05, "month");
	is(cmos(RTC_CENTURY), 0x21, "century");

	set_cmos(0x0b, 0x82);
	set_cmos(0x08, 0xff);
	set_cmos(0x09, 0xff);
	set_cmos(RTC_CENTURY, 0xff);
	set_cmos(0x0b, 0x02);
	cmos(0x09);
	ok(1, "nonsense as the time is survived");
	set_cmos(0x40, 0x77);
	is(cmos(0x40), 0x77, "memory");
	test_rtc_interrupts(&rtc);
}

static unsigned int resets, offs;
static bool sci;
static u64 fake_ns;

static void count_reset(void *opaque)
{
	resets++;
}

static void count_off(void *opaque)
{
	offs++;
}

static void set_sci(void *opaque, unsigned int gsi, bool level)
{
	sci = level;
}

static u64 fake_clock(void)
{
	return fake_ns;
}

static void test_pm(void)
{
	struct irq_line irq = { set_sci, NULL, PM_SCI_IRQ };
	static struct pm pm;

	memset(&bus, 0, sizeof(bus));
	pm_init(&pm, irq, count_off, NULL, fake_clock);
	bus_add(&bus, "pm", PM_BASE, PM_SIZE, false, pm_access, &pm);

	is(in(PM_BASE + PM1_CNT, 2), 1, "the machine is in ACPI mode");
	pm_press_power_button(&pm);
	ok(!sci, "a disabled power button does not interrupt");
	is(in(PM_BASE + PM1_EVT, 2), 0x100, "but shows");
	out(PM_BASE + PM1_EVT + 2, 2, 0x100);
	ok(sci, "enabled, it does");
	out(PM_BASE + PM1_EVT, 2, 0x001);
	ok(sci, "acknowledging another bit does not help");
	out(PM_BASE + PM1_EVT, 2, 0x100);
	ok(!sci, "acknowledged");
	is(in(PM_BASE + PM1_EVT, 4), 0x01000000, "both registers at once");
	pm_press_power_button(&pm);
	out(PM_BASE + PM1_EVT + 1, 1, 0x01);
	ok(!sci, "acknowledged by a byte access");

	fake_ns = 1000000000ULL;
	is(in(PM_BASE + PM_TMR, 4), 3579545, "the timer after a second");
	fake_ns *= 3600 * 24 * 365;
	is(in(PM_BASE + PM_TMR, 4), (u32)(3579545ULL * 3600 * 24 * 365),
	   "and after a year");

	out(PM_BASE + PM1_CNT, 2, 3 << 10 | 1 << 13);
	is(offs, 0, "a sleep state that is not there");
	out(PM_BASE + PM1_CNT, 2, PM_S5_TYPE << 10);
	is(offs, 0, "S5 without enable");
	out(PM_BASE + PM1_CNT, 2, PM_S5_TYPE << 10 | 1 << 13);
	is(offs, 1, "S5");
	in(PM_BASE + PM_SIZE - 1, 8);
	ok(1, "an access that sticks out");
}

static void test_pci(void)
{
	static struct pci pci;

	memset(&bus, 0, sizeof(bus));
	resets = 0;
	pci_init(&pci, count_reset, NULL, NULL);
	bus_add(&bus, "pci", PCI_PORTS, PCI_PORTS_SIZE, false, pci_access, &pci);
	out(0xcfb, 1, 1);
	out(0xcf8, 4, 0x80000000);
	is(in(0xcf8, 4), 0x80000000, "Linux's test for mechanism 1");
	is(in(0xcfc, 4), 0x0d578086, "the host bridge");
	is(in(0xcfe, 2), 0x0d57, "its device id");
	is(in(0xcfd, 1), 0x80, "a byte");
	out(0xcfc, 4, 0);
	is(in(0xcfc, 4), 0x0d578086, "cannot be written");
	out(0xcf8, 4, 0x80000008);
	is(in(0xcfe, 2), 0x0600, "its class");
	out(0xcf8, 4, 0x800000fc);
	is(in(0xcfc, 4), 0, "the last register");
	out(0xcf8, 4, 0x80000600);
	is(resets, 0, "an address that looks like a reset is none");
	is(in(0xcfc, 4), 0xffffffff, "no other function");
	out(0xcf8, 4, 0x80000800);
	is(in(0xcfc, 4), 0xffffffff, "no other device");
	out(0xcf8, 4, 0x80010000);
	is(in(0xcfc, 4), 0xffffffff, "no other bus");
	out(0xcf8, 4, 0);
	is(in(0xcfc, 4), 0xffffffff, "nothing while disabled");
	is(in(0xcff, 8) & 0xff, 0xff, "an access that sticks out");
	out(0xcf9, 1, 0x02);
	is(resets, 0, "port 0xcf9, armed");
	out(PCI_RESET_PORT, 1, PCI_RESET_VALUE);
	is(resets, 1, "port 0xcf9");
}

static u32 config(unsigned int reg)
{
	out(0xcf8, 4, 0x80000800 | reg);
	return in(0xcfc, 4);
}

static void set_config(unsigned int reg, u32 value)
{
	out(0xcf8, 4, 0x80000800 | reg);
	out(0xcfc, 4, value);
}

static u64 mapped, messages, message_data;

static void note_map(void *dev, u64 base)
{
	mapped = base;
}

static void note_msi(void *opaque, struct msix_vector *v, bool on)
{
	messages += on;
	message_data = v->entry[2];
}

static void test_pci_device(void)
{
	static const struct pci_host_ops host = { .msi = note_msi };
	static struct pci_device dev;
	static struct pci pci;
	struct bus_access access = { .size = 8 };
	struct pci_bar bar = { .size = 0x4000, .fn = echo, .map = note_map };
	struct err err;
	unsigned int i;

	memset(&bus, 0, sizeof(bus));
	pci_init(&pci, count_reset, &host, NULL);
	bus_add(&bus, "pci", PCI_PORTS, PCI_PORTS_SIZE, false, pci_access, &pci);
	bus_add(&bus, "window", PCI_WINDOW, PCI_WINDOW_SIZE, false,
		pci_mmio_access, &pci);
	is(pci_add(&pci, &dev, 0x1af4, 0x1044, 0x123456, &err), 0, "a device");
	pci_add_bar(&pci, &dev, 0, &bar);
	is(pci_add_msix(&pci, &dev, 0, 0x3000, 2, &err), 0, "with MSI-X");
	is(config(0), 0x10441af4, "its ids");
	is(config(8), 0x12345600, "its class");
	is(config(0x34), 0x40, "its first capability");
	is(config(0x40), 0x00010011, "MSI-X, two vectors, the last one");
	is(config(0x10), PCI_WINDOW | 4, "a 64-bit BAR that has a place");
	is(in(PCI_WINDOW, 4), 0xffffffff, "but is not decoded yet");
	set_config(0x10, 0xffffffff);
	set_config(0x14, 0xffffffff);
	is(config(0x10), 0xffffc004, "its size");
	is(config(0x14), 0xffffffff, "the upper half");
	set_config(0x10, PCI_WINDOW + 0x10000);
	set_config(0x14, 0);
	set_config(4, 0xffff);
	is(config(4), 0x00100406, "command bits that there are");
	is(mapped, PCI_WINDOW + 0x10000, "decoded where it was moved to");
	is(in(PCI_WINDOW + 0x10010, 4), 0x55667710, "the device answers");
	is(in(PCI_WINDOW + 0x13ffe, 4), 0xffffffff, "not across its end");
	is(in(PCI_WINDOW + 0x1300c, 4), 1, "a vector starts masked");
	out(PCI_WINDOW + 0x13000, 8, 0xfee00000);
	out(PCI_WINDOW + 0x13008, 4, 0x4021);
	is(in(PCI_WINDOW + 0x13008, 4), 0x4021, "its message");
	pci_msix_raise(&dev, 0);
	pci_msix_raise(&dev, 99);
	is(in(PCI_WINDOW + 0x13800, 8), 1, "pending while masked");
	out(PCI_WINDOW + 0x1300c, 4, 0);
	is(messages, 0, "nothing while MSI-X is off");
	set_config(0x40, 0x80000000);
	is(messages, 1, "MSI-X on");
	is(message_data, 0x4021, "its data");
	is(in(PCI_WINDOW + 0x13800, 8), 0, "no longer pending here");
	set_config(0x40, 0xc0000000);
	ok(!dev.vector[0].attached, "masked with all others");
	set_config(4, 0);
	is(mapped, PCI_UNMAPPED, "no longer decoded");
	set_config(4, 2);
	for (i = 0x2ff0; i < 0x4000; i++) {
		access.offset = 0x10000 + i;
		access.write = i & 1;
		pci_mmio_access(&pci, &access);
	}
	ok(1, "odd accesses to table and PBA");
	set_config(0x10, 0x1000);
	is(mapped, PCI_UNMAPPED, "outside of the window it is nowhere");
	pci_remove(&pci, &dev);
}

static void test_i8042(void)
{
	static struct i8042 kbd = { .reset = count_reset };

	memset(&bus, 0, sizeof(bus));
	resets = 0;
	bus_add(&bus, "i8042", I8042_PORT, I8042_PORT_COUNT, true, i8042_access, &kbd);
	is(in(0x64, 1), 0, "the input buffer is empty");
	out(0x64, 1, 0xd1);
	out(0x60, 1, 0xfe);
	is(resets, 0, "other commands do nothing, nor do data");
	out(0x64, 1, 0xfe);
	is(resets, 1, "the reset pulse");
}

int main(void)
{
	test_bus();
	test_rtc();
	test_pm();
	test_pci();
	test_pci_device();
	test_i8042();
	return tap_done();
}
