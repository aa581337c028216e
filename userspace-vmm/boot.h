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

unsigned int ram_map(const struct guest_ram *ram,
		     struct map_entry map[MAP_MAX_ENTRIES]);

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

struct initrd {
	gpa_t start;
	u64 size;
};

/* What a boot protocol is given: open files and what is already in place. */
struct boot_request {
	const struct run_config *cfg;
	const struct guest_ram *ram;
	gpa_t rsdp;
	int kernel_fd;
	u64 kernel_size;
	const u8 *head;		/* the first bytes of the kernel file */
	size_t head_len;
};

#define BOOT_HEAD 4096

int boot_load(const struct run_config *cfg, const struct guest_ram *ram,
	      struct boot_state *state, struct err *err);

/* Helpers for the protocols. */
int boot_read(const struct boot_request *req, u64 file_offset, gpa_t gpa,
	      u64 len, struct err *err);
int boot_place_initrd(const struct boot_request *req, gpa_t kernel_end,
		      gpa_t limit, struct initrd *initrd, struct err *err);
int boot_place_cmdline(const struct boot_request *req, size_t max,
		       struct err *err);

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
int bzimage_load(const struct boot_request *req, struct boot_state *state,
		 struct err *err);

/* boot-elf.c */
bool elf_probe(const u8 *head, size_t len);
int elf_note_entry(const u8 *notes, size_t len, u64 *entry);
int elf_load(const struct boot_request *req, struct boot_state *state,
	     struct err *err);

#endif
