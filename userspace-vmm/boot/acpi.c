// SPDX-License-Identifier: GPL-2.0-only
/*
 * RSDP, XSDT, FADT, FACS, MADT and DSDT (ACPI 6.4, section 5.2), as structures:
 * the names are those of the specification. The DSDT is compiled from dsdt.asl.
 */
#include <string.h>

#include "acpi.h"
#include "dsdt.hex"
#include "pci.h"
#include "pm.h"
#include "rtc.h"

#define LAPIC_ADDRESS 0xfee00000U
#define IOAPIC_ADDRESS 0xfec00000U

#define PACKED __attribute__((packed))
#define ALIGNED(n) __attribute__((aligned(n)))

/* What all tables but RSDP and FACS start with, ACPI 5.2.6. */
struct PACKED header {
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
};

#define HEADER(name, rev, size) { \
	.signature = name, .length = size, .revision = rev, .oem_id = "KEEL  ", \
	.oem_table_id = "KEELVMM ", .oem_revision = 1, .creator_id = "KEEL", .creator_revision = 1 }

/* ACPI 5.2.3.2. */
struct PACKED gas {
	u8 address_space, bit_width, bit_offset, access_size;
	u64 address;
};

#define IO_PORT(bits, access, port) { 1, bits, 0, access, port }

#define FADT_WBINVD		BIT(0)
#define FADT_PROC_C1		BIT(2)
#define FADT_SLP_BUTTON		BIT(5)	/* none as fixed hardware */
#define FADT_FIX_RTC		BIT(6)	/* no RTC wake in PM1 */
#define FADT_TMR_VAL_EXT	BIT(8)
#define FADT_RESET_REG_SUP	BIT(10)
#define FADT_BOOT_NO_VGA	BIT(2)
#define FADT_REVISION		4

/* ACPI 5.2.9, as of version 4.0. */
struct PACKED fadt {
	struct header header;
	u32 firmware_ctrl, dsdt;
	u8 reserved, preferred_pm_profile;
	u16 sci_int;
	u32 smi_cmd;
	u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	u32 pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	u32 gpe0_blk, gpe1_blk;
	u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	u8 gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
	u16 p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alrm, mon_alrm, century;
	u16 iapc_boot_arch;
	u8 reserved2;
	u32 flags;
	struct gas reset_reg;
	u8 reset_value;
	u16 arm_boot_arch;
	u8 minor_version;
	u64 x_firmware_ctrl, x_dsdt;
	struct gas x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk;
	struct gas x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
};

_Static_assert(sizeof(struct fadt) == 244, "ACPI 5.2.9");

#define MADT_PCAT_COMPAT 1

struct PACKED irq_override {
	u8 type, length, bus, source;
	u32 gsi;
	u16 flags;
};

struct PACKED local_apic {
	u8 type, length, uid, id;
	u32 flags;
};

/* ACPI 5.2.12. */
struct PACKED madt {
	struct header header;
	u32 lapic_address, flags;
	struct PACKED {
		u8 type, length, id, reserved;
		u32 address, gsi_base;
	} io_apic;
	struct irq_override override[2];
	struct PACKED {
		u8 type, length, uid;
		u16 flags;
		u8 lint;
	} nmi;
	struct local_apic lapic[MAX_CPUS];
};

struct tables {
	/* Nothing uses it, but a guest without reduced hardware looks for it. */
	struct PACKED {
		char signature[4];
		u32 length;
		u8 unused[24];
		u8 version;
		u8 reserved[31];
	} facs;
	struct fadt fadt ALIGNED(16);
	struct PACKED {
		struct header header;
		u64 entry[2];
	} xsdt ALIGNED(16);
	/* ACPI 5.2.5.3. */
	struct PACKED {
		char signature[8];
		u8 checksum;		/* of the part that ACPI 1.0 knew */
		char oem_id[6];
		u8 revision;
		u32 rsdt, length;
		u64 xsdt;
		u8 extended_checksum;
		u8 reserved[3];
	} rsdp ALIGNED(16);
	struct madt madt ALIGNED(16);
	u8 dsdt[sizeof(dsdt_aml_code)] ALIGNED(16);
};

/* Make the sum of a table 0. */
static void set_checksum(void *table, size_t length, u8 *checksum)
{
	u8 *p = table, sum = 0;

	while (length--)
		sum += *p++;
	*checksum -= sum;
}

/**
 * acpi_build() - write all tables
 * @mem: where, zeroed
 * @base: guest physical address of @mem, 64-byte aligned and below 4 GiB
 * @cpus: processors, at most MAX_CPUS
 * @rsdp: guest physical address of the root pointer
 */
int acpi_build(u8 *mem, gpa_t base, size_t size, unsigned int cpus,
	       gpa_t *rsdp, struct err *err)
{
	struct tables *t = (struct tables *)mem;
	unsigned int i;

	if (size < sizeof(*t))
		return err_set(err, "ACPI tables for %u CPUs do not fit", cpus);
	memcpy(t->facs.signature, "FACS", 4);
	t->facs.length = sizeof(t->facs);
	t->facs.version = 2;
	memcpy(t->dsdt, dsdt_aml_code, sizeof(t->dsdt));	/* with its header */
	t->fadt = (struct fadt){
		.header = HEADER("FACP", FADT_REVISION, sizeof(t->fadt)),
		.firmware_ctrl = base + offsetof(struct tables, facs),
		.dsdt = base + offsetof(struct tables, dsdt),
		.x_dsdt = base + offsetof(struct tables, dsdt),
		.sci_int = PM_SCI_IRQ,		/* no SMI command: ACPI mode always */
		.pm1a_evt_blk = PM_BASE + PM1_EVT,
		.pm1_evt_len = 4,
		.x_pm1a_evt_blk = IO_PORT(32, 2, PM_BASE + PM1_EVT),
		.pm1a_cnt_blk = PM_BASE + PM1_CNT,
		.pm1_cnt_len = 2,
		.x_pm1a_cnt_blk = IO_PORT(16, 2, PM_BASE + PM1_CNT),
		.pm_tmr_blk = PM_BASE + PM_TMR,
		.pm_tmr_len = 4,
		.x_pm_tmr_blk = IO_PORT(32, 3, PM_BASE + PM_TMR),
		.p_lvl2_lat = 0xffff,		/* no C2, no C3 */
		.p_lvl3_lat = 0xffff,
		.century = RTC_CENTURY,
		.iapc_boot_arch = FADT_BOOT_NO_VGA,	/* no 8042 either: that bit is clear */
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
			 FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP,
		.reset_reg = IO_PORT(8, 1, PCI_RESET_PORT),
		.reset_value = PCI_RESET_VALUE,
	};
	t->madt = (struct madt){
		.header = HEADER("APIC", 3, offsetof(struct madt, lapic[cpus])),
		.lapic_address = LAPIC_ADDRESS,
		.flags = MADT_PCAT_COMPAT,
		.io_apic = { .type = 1, .length = 12, .address = IOAPIC_ADDRESS },
		.override = {
			{ 2, 10, 0, 0, 2, 0 },		/* the PIT is on pin 2 */
			{ 2, 10, 0, PM_SCI_IRQ, PM_SCI_IRQ, 0xd },	/* level, high */
		},
		.nmi = { 4, 6, 0xff, 0, 1 },		/* on LINT1 of every CPU */
	};
	for (i = 0; i < cpus; i++)
		t->madt.lapic[i] = (struct local_apic){ 0, 8, i, i, 1 };	/* enabled */
	t->xsdt.header = (struct header)HEADER("XSDT", 1, sizeof(t->xsdt));
	t->xsdt.entry[0] = base + offsetof(struct tables, fadt);
	t->xsdt.entry[1] = base + offsetof(struct tables, madt);
	memcpy(t->rsdp.signature, "RSD PTR ", 8);
	memcpy(t->rsdp.oem_id, "KEEL  ", 6);
	t->rsdp.revision = 2;
	t->rsdp.length = sizeof(t->rsdp);
	t->rsdp.xsdt = base + offsetof(struct tables, xsdt);
	set_checksum(&t->fadt, sizeof(t->fadt), &t->fadt.header.checksum);
	set_checksum(&t->madt, t->madt.header.length, &t->madt.header.checksum);
	set_checksum(&t->xsdt, sizeof(t->xsdt), &t->xsdt.header.checksum);
	set_checksum(&t->rsdp, 20, &t->rsdp.checksum);
	set_checksum(&t->rsdp, sizeof(t->rsdp), &t->rsdp.extended_checksum);
	*rsdp = base + offsetof(struct tables, rsdp);
	return 0;
}
