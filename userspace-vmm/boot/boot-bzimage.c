// SPDX-License-Identifier: GPL-2.0-only
/*
 * Linux's 64-bit boot protocol
 * (Documentation/x86/boot.rst, "64-bit Boot Protocol").
 *
 * The real-mode part of the file is not run: its header tells where the rest
 * goes, and the kernel is entered in long mode with the first 4 GiB mapped
 * one to one.
 */
#include <string.h>

#include "boot.h"

#define HDR_OFFSET		0x1f1
#define HDR_JUMP_LEN		0x201	/* header ends at 0x202 + this byte */
#define BOOT_FLAG		0xaa55
#define PROTOCOL_2_12		0x020c	/* first with xloadflags */
#define ENTRY_64		0x200
#define LOADER_UNDEFINED	0xff

/** bzimage_probe() - does this look like a bzImage? */
bool bzimage_probe(const u8 *head, size_t len)
{
	return len >= 0x206 && !memcmp(head + 0x202, "HdrS", 4);
}

static int check_header(const struct setup_header *hdr, struct err *err)
{
	if (hdr->boot_flag != BOOT_FLAG)
		return err_set(err, "broken bzImage header");
	if (hdr->version < PROTOCOL_2_12)
		return err_set(err, "boot protocol %u.%02u is too old; Linux 3.8 or later is needed",
			       hdr->version >> 8, hdr->version & 0xff);
	if (!(hdr->loadflags & LOADED_HIGH))
		return err_set(err, "a zImage, which loads low; a bzImage is needed");
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return err_set(err, "not an x86-64 kernel (no 64-bit entry point)");
	if (hdr->pref_address < BOOT_HIGH_START || hdr->pref_address & 0xfff)
		return err_set(err, "broken bzImage header: load address %#llx",
			       hdr->pref_address);
	return 0;
}

/**
 * bzimage_parse() - read and check the setup header
 * @len: bytes of it, at least 1 KiB in any real kernel
 * @file_size: of the whole file
 */
int bzimage_parse(const u8 *head, size_t len, u64 file_size,
		  struct bzimage *bz, struct err *err)
{
	struct setup_header *hdr = &bz->hdr;
	size_t hdr_len;
	u64 need;

	memset(bz, 0, sizeof(*bz));
	if (!bzimage_probe(head, len))
		return err_set(err, "no bzImage header");
	hdr_len = 0x202 + head[HDR_JUMP_LEN] - HDR_OFFSET;
	if (hdr_len > sizeof(*hdr))
		hdr_len = sizeof(*hdr);
	if (HDR_OFFSET + hdr_len > len)
		return err_set(err, "file is truncated in its header");
	memcpy(hdr, head + HDR_OFFSET, hdr_len);
	if (check_header(hdr, err) < 0)
		return -1;

	bz->payload_offset = ((hdr->setup_sects ? hdr->setup_sects : 4) + 1) *
			     512ULL;
	need = bz->payload_offset + hdr->syssize * 16ULL;
	/* The last 16-byte unit of syssize need not be full. */
	if (!hdr->syssize || need > file_size + 15 || bz->payload_offset >= file_size)
		return err_set(err, "file is truncated: %llu of %llu bytes", file_size, need);
	bz->payload_size = file_size - bz->payload_offset;
	bz->init_size = hdr->init_size > bz->payload_size ?
			hdr->init_size : bz->payload_size;
	return 0;
}

#define PTE_PRESENT_WRITE 0x3ULL
#define PDE_LARGE 0x80ULL

/* PML4, PDPT and four page directories: 4 GiB in pages of 2 MiB. */
static void build_page_tables(const struct guest_ram *ram)
{
	u64 *pml4 = ram_ptr(ram, BOOT_PAGE_TABLES, 6 * 4096);
	u64 *pdpt = pml4 + 512, *pd = pml4 + 1024;
	unsigned int i;

	pml4[0] = (BOOT_PAGE_TABLES + 4096) | PTE_PRESENT_WRITE;
	for (i = 0; i < 4; i++)
		pdpt[i] = (BOOT_PAGE_TABLES + (2 + i) * 4096) | PTE_PRESENT_WRITE;
	for (i = 0; i < 4 * 512; i++)
		pd[i] = i * 2 * MIB | PDE_LARGE | PTE_PRESENT_WRITE;
}

/**
 * bzimage_load() - place the kernel
 *
 * It goes where it was linked for. A relocatable one moves itself up to there
 * when it finds itself lower, so less memory would not do.
 */
int bzimage_load(struct boot *b, struct boot_state *state, struct err *err)
{
	struct bzimage bz;
	gpa_t load;
	u8 *p;

	if (bzimage_parse(b->file, b->file_size, b->file_size, &bz, err) < 0)
		return -1;
	load = bz.hdr.pref_address;
	if (load >= RAM_HOLE_START || bz.init_size > RAM_HOLE_START - load)
		return err_set(err, "needs memory at %#llx-%#llx; a kernel must lie below 3 GiB",
			       load, load + bz.init_size);
	p = ram_ptr(b->ram, load, bz.init_size);
	if (!p)
		return err_set(err, "the kernel alone needs %llu MiB of memory; give a larger --mem",
			       ALIGN_UP(load + bz.init_size, MIB) / MIB);
	memcpy(p, b->file + bz.payload_offset, bz.payload_size);
	build_page_tables(b->ram);
	b->end = load + bz.init_size;
	b->initrd_limit = bz.hdr.initrd_addr_max + 1ULL;
	b->cmdline_max = bz.hdr.cmdline_size;
	b->hdr = bz.hdr;
	b->hdr.code32_start = load;
	*state = (struct boot_state){ BOOT_LONG_MODE, load + ENTRY_64, BOOT_PARAMS };
	return 0;
}

/** bzimage_fill_params() - what the kernel is handed */
void bzimage_fill_params(const struct boot *b)
{
	struct boot_params *bp = ram_ptr(b->ram, BOOT_PARAMS, sizeof(*bp));
	struct map_entry map[MAP_MAX_ENTRIES];
	unsigned int i, n = ram_map(b->ram, map);

	memset(bp, 0, sizeof(*bp));
	bp->hdr = b->hdr;
	bp->hdr.type_of_loader = LOADER_UNDEFINED;
	bp->hdr.cmd_line_ptr = BOOT_CMDLINE;
	bp->hdr.ramdisk_image = b->initrd;
	bp->hdr.ramdisk_size = b->initrd_size;
	bp->acpi_rsdp_addr = b->rsdp;
	for (i = 0; i < n; i++)
		bp->e820_table[i] = (struct boot_e820_entry){ map[i].start, map[i].size, map[i].type };
	bp->e820_entries = n;
}
