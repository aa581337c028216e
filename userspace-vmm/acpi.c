// SPDX-License-Identifier: GPL-2.0-only
/*
 * RSDP, XSDT, FADT, FACS, MADT and DSDT (ACPI 6.4, section 5.2).
 *
 * Tables are appended to one buffer that is guest memory. The DSDT is compiled
 * from dsdt.asl.
 */
#include <string.h>

#include "acpi.h"
#include "dsdt.hex"
#include "pci.h"
#include "pm.h"
#include "rtc.h"

#define LAPIC_ADDRESS 0xfee00000U
#define IOAPIC_ADDRESS 0xfec00000U

struct builder {
	u8 *mem;
	gpa_t base;
	size_t size;
	size_t used;
	bool overflow;
};

static void put(struct builder *b, const void *data, size_t len)
{
	if (len > b->size - b->used) {
		b->overflow = true;
		return;
	}
	memcpy(b->mem + b->used, data, len);
	b->used += len;
}

static void put8(struct builder *b, u8 v)
{
	put(b, &v, sizeof(v));
}

static void put16(struct builder *b, u16 v)
{
	put(b, &v, sizeof(v));
}

static void put32(struct builder *b, u32 v)
{
	put(b, &v, sizeof(v));
}

static void put64(struct builder *b, u64 v)
{
	put(b, &v, sizeof(v));
}

static void put_zeroes(struct builder *b, size_t len)
{
	while (len-- && !b->overflow)
		put8(b, 0);
}

static void align(struct builder *b, size_t to)
{
	put_zeroes(b, ALIGN_UP(b->used, to) - b->used);
}

static void poke(struct builder *b, size_t at, const void *data, size_t len)
{
	if (!b->overflow)
		memcpy(b->mem + at, data, len);
}

static u8 checksum(const u8 *data, size_t len)
{
	u8 sum = 0;

	while (len--)
		sum += *data++;
	return -sum;
}

/* The header that all tables but RSDP and FACS share, ACPI 5.2.6. */
static size_t table_begin(struct builder *b, const char *signature, u8 revision)
{
	size_t start;

	align(b, 16);
	start = b->used;
	put(b, signature, 4);
	put32(b, 0);			/* length, see table_end() */
	put8(b, revision);
	put8(b, 0);			/* checksum, see table_end() */
	put(b, "KEEL  ", 6);
	put(b, "KEELVMM ", 8);
	put32(b, 1);
	put(b, "KEEL", 4);
	put32(b, 1);
	return start;
}

static gpa_t table_end(struct builder *b, size_t start)
{
	u32 length = b->used - start;
	u8 sum;

	if (b->overflow)
		return 0;
	poke(b, start + 4, &length, sizeof(length));
	sum = checksum(b->mem + start, length);
	poke(b, start + 9, &sum, sizeof(sum));
	return b->base + start;
}

/* Generic address of an I/O port register, ACPI 5.2.3.2. */
static void put_gas_io(struct builder *b, u8 bits, u8 access_size, u64 port)
{
	put8(b, port ? 1 : 0);		/* system I/O space */
	put8(b, bits);
	put8(b, 0);
	put8(b, access_size);
	put64(b, port);
}

/* Put together by the ACPI compiler, header and all. */
static gpa_t put_dsdt(struct builder *b)
{
	size_t start;

	align(b, 16);
	start = b->used;
	put(b, dsdt_aml_code, sizeof(dsdt_aml_code));
	return b->base + start;
}

/* Nothing uses the FACS, but a guest without reduced hardware looks for it. */
static gpa_t put_facs(struct builder *b)
{
	size_t start;

	align(b, 64);
	start = b->used;
	put(b, "FACS", 4);
	put32(b, 64);
	put_zeroes(b, 24);
	put8(b, 2);			/* version */
	put_zeroes(b, 31);
	return b->base + start;
}

#define FADT_REVISION 4
#define FADT_WBINVD		BIT(0)
#define FADT_PROC_C1		BIT(2)
#define FADT_SLP_BUTTON		BIT(5)	/* none as fixed hardware */
#define FADT_FIX_RTC		BIT(6)	/* no RTC wake in PM1 */
#define FADT_TMR_VAL_EXT	BIT(8)
#define FADT_RESET_REG_SUP	BIT(10)
#define FADT_BOOT_NO_VGA	BIT(2)

/* ACPI 5.2.9, as of version 4.0: 244 bytes. */
static gpa_t put_fadt(struct builder *b, gpa_t facs, gpa_t dsdt)
{
	size_t start = table_begin(b, "FACP", FADT_REVISION);

	put32(b, facs);
	put32(b, dsdt);
	put8(b, 0);
	put8(b, 0);			/* preferred profile: unspecified */
	put16(b, PM_SCI_IRQ);
	put32(b, 0);			/* no SMI command: ACPI mode always */
	put32(b, 0);			/* ACPI enable/disable, S4BIOS, PSTATE */
	put32(b, PM_BASE + PM1_EVT);
	put32(b, 0);
	put32(b, PM_BASE + PM1_CNT);
	put32(b, 0);
	put32(b, 0);
	put32(b, PM_BASE + PM_TMR);
	put64(b, 0);			/* no GPE blocks */
	put8(b, 4);			/* lengths: PM1_EVT, PM1_CNT, PM2, TMR */
	put8(b, 2);
	put8(b, 0);
	put8(b, 4);
	put32(b, 0);			/* GPE lengths, GPE1 base, no _CST */
	put16(b, 0xffff);		/* no C2, no C3 */
	put16(b, 0xffff);
	put32(b, 0);			/* flush size and stride */
	put8(b, 0);			/* duty offset, width */
	put8(b, 0);
	put8(b, 0);			/* day alarm, month alarm */
	put8(b, 0);
	put8(b, RTC_CENTURY);
	put16(b, FADT_BOOT_NO_VGA);	/* no 8042 either: that bit is clear */
	put8(b, 0);
	put32(b, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
		 FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP);
	put_gas_io(b, 8, 1, PCI_RESET_PORT);
	put8(b, PCI_RESET_VALUE);
	put16(b, 0);
	put8(b, 0);
	put64(b, 0);			/* X_FIRMWARE_CTRL: the 32-bit one holds */
	put64(b, dsdt);
	put_gas_io(b, 32, 2, PM_BASE + PM1_EVT);
	put_gas_io(b, 0, 0, 0);
	put_gas_io(b, 16, 2, PM_BASE + PM1_CNT);
	put_gas_io(b, 0, 0, 0);
	put_gas_io(b, 0, 0, 0);
	put_gas_io(b, 32, 3, PM_BASE + PM_TMR);
	put_gas_io(b, 0, 0, 0);
	put_gas_io(b, 0, 0, 0);
	return table_end(b, start);
}

#define MADT_PCAT_COMPAT 1

static void put_irq_override(struct builder *b, u8 irq, u32 gsi, u16 flags)
{
	put8(b, 2);
	put8(b, 10);
	put8(b, 0);			/* ISA */
	put8(b, irq);
	put32(b, gsi);
	put16(b, flags);
}

/* ACPI 5.2.12. */
static gpa_t put_madt(struct builder *b, unsigned int cpus)
{
	size_t start = table_begin(b, "APIC", 3);
	unsigned int i;

	put32(b, LAPIC_ADDRESS);
	put32(b, MADT_PCAT_COMPAT);
	for (i = 0; i < cpus; i++) {
		put8(b, 0);		/* local APIC */
		put8(b, 8);
		put8(b, i);
		put8(b, i);
		put32(b, 1);		/* enabled */
	}
	put8(b, 1);			/* I/O APIC, id 0 as KVM's register says */
	put8(b, 12);
	put8(b, 0);
	put8(b, 0);
	put32(b, IOAPIC_ADDRESS);
	put32(b, 0);
	put_irq_override(b, 0, 2, 0);	/* the PIT is on pin 2 */
	put_irq_override(b, PM_SCI_IRQ, PM_SCI_IRQ, 0xd); /* level, high */
	put8(b, 4);			/* LINT1 is NMI on every CPU */
	put8(b, 6);
	put8(b, 0xff);
	put16(b, 0);
	put8(b, 1);
	return table_end(b, start);
}

static gpa_t put_xsdt(struct builder *b, gpa_t fadt, gpa_t madt)
{
	size_t start = table_begin(b, "XSDT", 1);

	put64(b, fadt);
	put64(b, madt);
	return table_end(b, start);
}

/* ACPI 5.2.5.3: two checksums, the first over the part that ACPI 1.0 knew. */
static gpa_t put_rsdp(struct builder *b, gpa_t xsdt)
{
	size_t start;
	u8 sum;

	align(b, 16);
	start = b->used;
	put(b, "RSD PTR ", 8);
	put8(b, 0);
	put(b, "KEEL  ", 6);
	put8(b, 2);
	put32(b, 0);
	put32(b, 36);
	put64(b, xsdt);
	put32(b, 0);
	if (b->overflow)
		return 0;
	sum = checksum(b->mem + start, 20);
	poke(b, start + 8, &sum, sizeof(sum));
	sum = checksum(b->mem + start, 36);
	poke(b, start + 32, &sum, sizeof(sum));
	return b->base + start;
}

/**
 * acpi_build() - write all tables
 * @mem: where, zeroed
 * @base: guest physical address of @mem, 64-byte aligned and below 4 GiB
 * @size: bytes available
 * @cpus: processors, at most MAX_CPUS
 * @rsdp: guest physical address of the root pointer
 * @err: filled on failure
 */
int acpi_build(u8 *mem, gpa_t base, size_t size, unsigned int cpus,
	       gpa_t *rsdp, struct err *err)
{
	struct builder b = { .mem = mem, .base = base, .size = size };
	gpa_t facs, dsdt, fadt, madt, xsdt;

	facs = put_facs(&b);
	dsdt = put_dsdt(&b);
	fadt = put_fadt(&b, facs, dsdt);
	madt = put_madt(&b, cpus);
	xsdt = put_xsdt(&b, fadt, madt);
	*rsdp = put_rsdp(&b, xsdt);
	if (b.overflow)
		return err_set(err, "ACPI tables for %u CPUs do not fit", cpus);
	return 0;
}
