// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ELF kernel (vmlinux) by the PVH protocol.
 *
 * A note in the file names a 32-bit entry point, which is called without
 * paging and with EBX pointing to a start-info structure. The layouts are
 * those of Xen's public/arch-x86/hvm/start_info.h, which Linux's
 * arch/x86/platform/pvh reads.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot.h"

#define PVH_NOTE_NAME		"Xen"
#define PVH_NOTE_TYPE		18	/* XEN_ELFNOTE_PHYS32_ENTRY */
#define PVH_MAGIC		0x336ec578
#define MAX_PHDRS		64
#define MAX_NOTES		(64 * KIB)

struct pvh_start_info {
	u32 magic;
	u32 version;
	u32 flags;
	u32 nr_modules;
	u64 modlist;
	u64 cmdline;
	u64 rsdp;
	u64 memmap;
	u32 memmap_entries;
	u32 reserved;
};

struct pvh_module {
	u64 address;
	u64 size;
	u64 cmdline;
	u64 reserved;
};

struct pvh_memmap_entry {
	u64 address;
	u64 size;
	u32 type;
	u32 reserved;
};

_Static_assert(sizeof(struct pvh_start_info) == 56, "start_info.h, version 1");
_Static_assert(sizeof(struct pvh_module) == 32, "start_info.h");
_Static_assert(sizeof(struct pvh_memmap_entry) == 24, "start_info.h");

/* All that is handed over, at BOOT_PVH_INFO. */
struct pvh_block {
	struct pvh_start_info info;
	struct pvh_module initrd;
	struct pvh_memmap_entry map[MAP_MAX_ENTRIES];
};

bool elf_probe(const u8 *head, size_t len)
{
	return len >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG);
}

/**
 * elf_note_entry() - find the PVH entry point among notes
 * @notes: contents of a PT_NOTE segment
 *
 * Return: 0, or -1 if there is none.
 */
int elf_note_entry(const u8 *notes, size_t len, u64 *entry)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		size_t name, desc, next;
		Elf64_Nhdr nhdr;
		u32 entry32;

		memcpy(&nhdr, notes + at, sizeof(nhdr));
		name = at + sizeof(nhdr);
		desc = name + ALIGN_UP((u64)nhdr.n_namesz, 4);
		next = desc + ALIGN_UP((u64)nhdr.n_descsz, 4);
		/* Sums of a size_t and 32-bit lengths: they cannot wrap. */
		if (desc + nhdr.n_descsz > len)
			return -1;
		if (nhdr.n_type == PVH_NOTE_TYPE &&
		    nhdr.n_namesz == sizeof(PVH_NOTE_NAME) &&
		    !memcmp(notes + name, PVH_NOTE_NAME, nhdr.n_namesz) &&
		    (nhdr.n_descsz == 4 || nhdr.n_descsz == 8)) {
			memcpy(&entry32, notes + desc, sizeof(entry32));
			*entry = entry32;
			return 0;
		}
		if (next > len)
			return -1;
		at = next;
	}
	return -1;
}

static int check_header(const struct boot_request *req, Elf64_Ehdr *ehdr,
			struct err *err)
{
	const char *path = req->cfg->kernel;

	if (req->head_len < sizeof(*ehdr))
		return err_set(err, "%s: ELF file is truncated", path);
	memcpy(ehdr, req->head, sizeof(*ehdr));
	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64 ||
	    ehdr->e_ident[EI_DATA] != ELFDATA2LSB ||
	    ehdr->e_machine != EM_X86_64)
		return err_set(err, "%s: not an ELF file for x86-64", path);
	if (ehdr->e_type != ET_EXEC && ehdr->e_type != ET_DYN)
		return err_set(err, "%s: an ELF file, but not an executable",
			       path);
	if (ehdr->e_phentsize != sizeof(Elf64_Phdr) || !ehdr->e_phnum ||
	    ehdr->e_phnum > MAX_PHDRS)
		return err_set(err, "%s: no usable ELF program headers", path);
	return 0;
}

/* Read a part of the file that the ELF headers point to. */
static int read_part(const struct boot_request *req, u64 offset, void *buf,
		     u64 len, struct err *err)
{
	if (offset > req->kernel_size || len > req->kernel_size - offset ||
	    pread(req->kernel_fd, buf, len, offset) != (ssize_t)len)
		return err_set(err, "%s: ELF file is truncated",
			       req->cfg->kernel);
	return 0;
}

/* Return: 1 found, 0 not in this segment, -1 error. */
static int find_entry(const struct boot_request *req, const Elf64_Phdr *phdr,
		      u64 *entry, struct err *err)
{
	u64 len = phdr->p_filesz < MAX_NOTES ? phdr->p_filesz : MAX_NOTES;
	u8 *notes;
	int ret;

	if (!len)
		return 0;
	notes = malloc(len);
	if (!notes)
		return err_sys(err, "cannot read notes of %s", req->cfg->kernel);
	ret = read_part(req, phdr->p_offset, notes, len, err);
	if (!ret)
		ret = !elf_note_entry(notes, len, entry);
	free(notes);
	return ret;
}

static int load_segment(const struct boot_request *req, const Elf64_Phdr *phdr,
			gpa_t *end, struct err *err)
{
	const char *path = req->cfg->kernel;
	gpa_t start = phdr->p_paddr;

	if (phdr->p_filesz > phdr->p_memsz ||
	    phdr->p_offset > req->kernel_size ||
	    phdr->p_filesz > req->kernel_size - phdr->p_offset)
		return err_set(err, "%s: ELF file is truncated", path);
	if (!phdr->p_memsz)
		return 0;
	/* No memory above the hole will do: the entry point is a 32-bit one. */
	if (start < BOOT_HIGH_START || start >= RAM_HOLE_START ||
	    phdr->p_memsz > RAM_HOLE_START - start)
		return err_set(err, "%s: has %#llx bytes to load at %#llx; a kernel must lie between 1 MiB and 3 GiB",
			       path, (u64)phdr->p_memsz, start);
	if (!ram_ptr(req->ram, start, phdr->p_memsz))
		return err_set(err, "%s needs memory at %#llx-%#llx; give a larger --mem",
			       path, start, start + phdr->p_memsz);
	if (start + phdr->p_memsz > *end)
		*end = start + phdr->p_memsz;
	return boot_read(req, phdr->p_offset, start, phdr->p_filesz, err);
}

static int load_segments(const struct boot_request *req, gpa_t *entry,
			 gpa_t *end, struct err *err)
{
	Elf64_Phdr phdr[MAX_PHDRS];
	bool found = false;
	Elf64_Ehdr ehdr;
	unsigned int i;
	int ret;

	if (check_header(req, &ehdr, err) < 0 ||
	    read_part(req, ehdr.e_phoff, phdr, ehdr.e_phnum * sizeof(*phdr),
		      err) < 0)
		return -1;
	*end = 0;
	for (i = 0; i < ehdr.e_phnum; i++) {
		if (phdr[i].p_type == PT_LOAD &&
		    load_segment(req, &phdr[i], end, err) < 0)
			return -1;
		if (phdr[i].p_type != PT_NOTE || found)
			continue;
		ret = find_entry(req, &phdr[i], entry, err);
		if (ret < 0)
			return -1;
		found = ret;
	}
	if (!found)
		return err_set(err, "%s: no PVH entry point; build the kernel with CONFIG_PVH=y, or give its bzImage",
			       req->cfg->kernel);
	if (!*end || *entry < BOOT_HIGH_START || *entry >= *end)
		return err_set(err, "%s: the PVH entry point %#llx is outside of the kernel",
			       req->cfg->kernel, *entry);
	return 0;
}

static void fill_start_info(const struct boot_request *req,
			    const struct initrd *initrd)
{
	struct pvh_block *block = ram_ptr(req->ram, BOOT_PVH_INFO,
					  sizeof(*block));
	struct map_entry map[MAP_MAX_ENTRIES];
	unsigned int i, n = ram_map(req->ram, map);

	memset(block, 0, sizeof(*block));
	block->info.magic = PVH_MAGIC;
	block->info.version = 1;
	block->info.cmdline = BOOT_CMDLINE;
	block->info.rsdp = req->rsdp;
	block->info.memmap = BOOT_PVH_INFO + offsetof(struct pvh_block, map);
	block->info.memmap_entries = n;
	for (i = 0; i < n; i++) {
		block->map[i].address = map[i].start;
		block->map[i].size = map[i].size;
		block->map[i].type = map[i].type;
	}
	if (!initrd->size)
		return;
	block->info.nr_modules = 1;
	block->info.modlist = BOOT_PVH_INFO + offsetof(struct pvh_block, initrd);
	block->initrd.address = initrd->start;
	block->initrd.size = initrd->size;
}

/* Linux's COMMAND_LINE_SIZE on x86; PVH has no field for it. */
#define PVH_CMDLINE_MAX 2047

/** elf_load() - place an ELF kernel and everything it is handed */
int elf_load(const struct boot_request *req, struct boot_state *state,
	     struct err *err)
{
	struct initrd initrd;
	gpa_t end;

	if (load_segments(req, &state->entry, &end, err) < 0 ||
	    boot_place_initrd(req, end, RAM_HOLE_START, &initrd, err) < 0 ||
	    boot_place_cmdline(req, PVH_CMDLINE_MAX, err) < 0)
		return -1;
	fill_start_info(req, &initrd);
	state->mode = BOOT_PROTECTED_MODE;
	state->info = BOOT_PVH_INFO;
	return 0;
}
