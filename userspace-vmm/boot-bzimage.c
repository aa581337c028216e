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
 * @err: filled on failure, without the file's name
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
	if (!hdr->syssize || need > file_size + 15 ||
	    bz->payload_offset >= file_size)
		return err_set(err, "file is truncated: %llu of %llu bytes",
			       file_size, need);
	bz->payload_size = file_size - bz->payload_offset;
	bz->init_size = hdr->init_size > bz->payload_size ?
			hdr->init_size : bz->payload_size;
	return 0;
}

/*
 * The kernel goes where it was linked for. A relocatable one moves itself up
 * to there when it finds itself lower, so less memory would not do.
 */
static int check_memory(const struct bzimage *bz, const struct guest_ram *ram,
			struct err *err)
{
	gpa_t load = bz->hdr.pref_address;

	if (load >= RAM_HOLE_START || bz->init_size > RAM_HOLE_START - load)
		return err_set(err, "needs memory at %#llx-%#llx; a kernel must lie below 3 GiB",
			       load, load + bz->init_size);
	if (!ram_ptr(ram, load, bz->init_size))
		return err_set(err, "the kernel alone needs %llu MiB of memory; give a larger --mem",
			       ALIGN_UP(load + bz->init_size, MIB) / MIB);
	return 0;
}

/* Prefix a message of the parser with the file it is about. */
static int name_file(const char *path, struct err *err)
{
	struct err inner = *err;

	return err_set(err, "%s: %s", path, inner.text);
}

static void fill_boot_params(const struct boot_request *req,
			     const struct bzimage *bz,
			     const struct initrd *initrd)
{
	struct boot_params *bp = ram_ptr(req->ram, BOOT_PARAMS, sizeof(*bp));
	struct map_entry map[MAP_MAX_ENTRIES];
	unsigned int i, n = ram_map(req->ram, map);

	memset(bp, 0, sizeof(*bp));
	bp->hdr = bz->hdr;
	bp->hdr.type_of_loader = LOADER_UNDEFINED;
	bp->hdr.cmd_line_ptr = BOOT_CMDLINE;
	bp->hdr.ramdisk_image = initrd->start;
	bp->hdr.ramdisk_size = initrd->size;
	bp->acpi_rsdp_addr = req->rsdp;
	for (i = 0; i < n; i++) {
		bp->e820_table[i].addr = map[i].start;
		bp->e820_table[i].size = map[i].size;
		bp->e820_table[i].type = map[i].type;
	}
	bp->e820_entries = n;
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

/** bzimage_load() - place a bzImage and everything it is handed */
int bzimage_load(const struct boot_request *req, struct boot_state *state,
		 struct err *err)
{
	struct initrd initrd;
	struct bzimage bz;
	gpa_t load;

	if (bzimage_parse(req->head, req->head_len, req->kernel_size, &bz,
			  err) < 0 ||
	    check_memory(&bz, req->ram, err) < 0)
		return name_file(req->cfg->kernel, err);
	load = bz.hdr.pref_address;
	if (boot_read(req, bz.payload_offset, load, bz.payload_size, err) < 0 ||
	    boot_place_initrd(req, load + bz.init_size,
			      bz.hdr.initrd_addr_max + 1ULL, &initrd, err) < 0 ||
	    boot_place_cmdline(req, bz.hdr.cmdline_size, err) < 0)
		return -1;
	bz.hdr.code32_start = load;
	fill_boot_params(req, &bz, &initrd);
	build_page_tables(req->ram);
	state->mode = BOOT_LONG_MODE;
	state->entry = load + ENTRY_64;
	state->info = BOOT_PARAMS;
	return 0;
}
