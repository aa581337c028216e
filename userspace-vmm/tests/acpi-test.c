// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ACPI tables: checksums, links, contents. With a directory as argument
 * the tables are also written there, for a disassembler.
 */
#include <stdlib.h>
#include <string.h>

#include "acpi.h"
#include "keel.h"
#include "pci.h"
#include "pm.h"
#include "tap.h"

static u8 mem[ACPI_SIZE];
static struct err err;

static u32 get32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static u64 get64(const u8 *p)
{
	u64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static u8 sum(const u8 *p, size_t len)
{
	u8 s = 0;

	while (len--)
		s += *p++;
	return s;
}

static const u8 *at(gpa_t gpa)
{
	static const u8 nothing[256];

	return gpa >= ACPI_BASE && gpa < ACPI_BASE + ACPI_SIZE - 64 ?
	       mem + (gpa - ACPI_BASE) : nothing;
}

static void dump(const char *dir, const char *name, const u8 *table)
{
	char path[512];
	FILE *f;

	if (!dir)
		return;
	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	f = fopen(path, "we");
	if (!f || fwrite(table, get32(table + 4), 1, f) != 1)
		printf("Bail out! cannot write %s\n", path);
	if (f)
		fclose(f);
}

static void check_table(const char *dir, const u8 *t, const char *signature)
{
	ok(!memcmp(t, signature, 4), "%s is there", signature);
	is(sum(t, get32(t + 4)), 0, "%s: checksum", signature);
	dump(dir, signature, t);
}

static void test_tables(const char *dir, unsigned int cpus)
{
	const u8 *rsdp, *xsdt, *fadt, *madt, *dsdt, *facs, *p;
	unsigned int lapics = 0, ioapics = 0, overrides = 0;
	gpa_t gpa;

	memset(mem, 0, sizeof(mem));
	is(acpi_build(mem, ACPI_BASE, sizeof(mem), cpus, &gpa, &err), 0,
	   "tables for %u CPUs", cpus);
	is(gpa & 15, 0, "RSDP is where a scan finds it");
	rsdp = at(gpa);
	ok(!memcmp(rsdp, "RSD PTR ", 8), "RSDP is there");
	is(sum(rsdp, 20), 0, "RSDP: checksum");
	is(sum(rsdp, 36), 0, "RSDP: extended checksum");
	xsdt = at(get64(rsdp + 24));
	check_table(NULL, xsdt, "XSDT");
	fadt = at(get64(xsdt + 36));
	check_table(dir, fadt, "FACP");
	is(get32(fadt + 4), 244, "FADT: length of its revision");
	is(get32(fadt + 56), PM_BASE, "FADT: PM1 event block");
	is(get32(fadt + 64), PM_BASE + PM1_CNT, "FADT: PM1 control block");
	is(get32(fadt + 76), PM_BASE + PM_TMR, "FADT: timer");
	is(get64(fadt + 120), PCI_RESET_PORT, "FADT: reset register");
	is(fadt[128], PCI_RESET_VALUE, "FADT: reset value");
	is(get64(fadt + 212), PM_BASE + PM_TMR, "FADT: timer, 64-bit");
	dsdt = at(get64(fadt + 140));
	check_table(dir, dsdt, "DSDT");
	is(get32(fadt + 40), get64(fadt + 140), "FADT: both DSDT pointers");
	facs = at(get32(fadt + 36));
	ok(!memcmp(facs, "FACS", 4) && get32(facs + 4) == 64, "FACS");
	is(get32(fadt + 36) % 64, 0, "FACS: alignment");

	madt = at(get64(xsdt + 44));
	check_table(dir, madt, "APIC");
	for (p = madt + 44; p < madt + get32(madt + 4) && p[1]; p += p[1]) {
		if (p[0] == 0 && p[3] == lapics)
			lapics++;
		ioapics += p[0] == 1;
		overrides += p[0] == 2;
	}
	ok(p == madt + get32(madt + 4), "MADT: entries fill it");
	is(lapics, cpus, "MADT: processors");
	is(ioapics, 1, "MADT: I/O APIC");
	is(overrides, 2, "MADT: overrides");
}

int main(int argc, char **argv)
{
	gpa_t gpa;

	test_tables(NULL, 1);
	test_tables(NULL, MAX_CPUS);
	test_tables(argc > 1 ? argv[1] : NULL, 4);
	ok(acpi_build(mem, ACPI_BASE, 512, 4, &gpa, &err) < 0,
	   "too little room is an error");
	return tap_done();
}
