/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest memory, and a kernel placed in it.
 */
#ifndef BOOT_H
#define BOOT_H

#include <asm/bootparam.h>

#include "keel.h"

/* Guest RAM leaves a hole below 4 GiB for the devices. */
#define RAM_HOLE_START 0xc0000000ULL
#define RAM_HOLE_END (4 * GIB)

/* Fixed places in low memory. */
#define BOOT_GDT		0x1000ULL
#define BOOT_PVH_INFO		0x2000ULL
#define BOOT_PARAMS		0x7000ULL
#define BOOT_PAGE_TABLES	0x9000ULL	/* six pages */
#define BOOT_CMDLINE		0x20000ULL
#define BOOT_CMDLINE_MAX	0x10000ULL
#define BOOT_LOW_END		0x9fc00ULL	/* the EBDA of a PC starts here */
#define BOOT_HIGH_START		MIB

/**
 * struct guest_ram - the guest's memory, one mapping on our side
 * @host: where it is mapped; the part above the hole follows the part below
 * @size: all of it
 * @low: how much lies below the hole
 * @fd: the memory as a file, if it is shared with others; otherwise -1
 */
struct guest_ram {
	u8 *host;
	u64 size;
	u64 low;
	int fd;
};

int ram_alloc(struct guest_ram *ram, u64 size, struct err *err);
int ram_share(struct guest_ram *ram, struct err *err);
void ram_free(struct guest_ram *ram);
void *ram_ptr(const struct guest_ram *ram, gpa_t gpa, u64 len);

enum map_type {
	MAP_RAM		= 1,	/* E820 and PVH agree on the numbers */
	MAP_RESERVED	= 2,
};

struct map_entry {
	gpa_t start;
	u64 size;
	enum map_type type;
};

#define MAP_MAX_ENTRIES 5

unsigned int ram_map(const struct guest_ram *ram, struct map_entry map[MAP_MAX_ENTRIES]);

enum boot_mode {
	BOOT_LONG_MODE,		/* 64-bit boot protocol, RSI = boot_params */
	BOOT_PROTECTED_MODE,	/* PVH, EBX = start info */
};

/**
 * struct boot_state - how the boot processor starts
 * @mode: which protocol
 * @entry: RIP
 * @info: what RSI or EBX points to
 */
struct boot_state {
	enum boot_mode mode;
	gpa_t entry;
	gpa_t info;
};

/* A boot, under way. */
struct boot {
	const struct run_config *cfg;
	const struct guest_ram *ram;
	gpa_t rsdp;
	const u8 *file;		/* the kernel's, until it is loaded */
	u64 file_size;

	/* What the kernel wants, filled by its protocol. */
	gpa_t end;		/* of the memory that it uses until it knows the map */
	gpa_t initrd_limit;	/* the initrd must end there or below */
	u64 cmdline_max;	/* without the final zero */
	struct setup_header hdr;

	gpa_t initrd;
	u64 initrd_size;	/* 0: there is none */
};

int boot_load(const struct run_config *cfg, const struct guest_ram *ram,
	      struct boot_state *state, struct err *err);
const u8 *boot_file_part(const struct boot *b, u64 offset, u64 len);

/* boot-bzimage.c */
struct bzimage {
	struct setup_header hdr;
	u64 payload_offset;
	u64 payload_size;
	u64 init_size;		/* memory it uses until it knows the map */
};

bool bzimage_probe(const u8 *head, size_t len);
int bzimage_parse(const u8 *head, size_t len, u64 file_size,
		  struct bzimage *bz, struct err *err);
int bzimage_load(struct boot *b, struct boot_state *state, struct err *err);
void bzimage_fill_params(const struct boot *b);

/* boot-elf.c */
bool elf_probe(const u8 *head, size_t len);
int elf_note_entry(const u8 *notes, size_t len, u64 *entry);
int elf_load(struct boot *b, struct boot_state *state, struct err *err);
void elf_fill_start_info(const struct boot *b);

#endif
