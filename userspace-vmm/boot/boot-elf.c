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
#include <string.h>

#include "boot.h"

#define PVH_NOTE_NAME		"Xen"
#define PVH_NOTE_TYPE		18	/* XEN_ELFNOTE_PHYS32_ENTRY */
#define PVH_MAGIC		0x336ec578
#define MAX_PHDRS		64

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
		if (nhdr.n_type == PVH_NOTE_TYPE && nhdr.n_namesz == sizeof(PVH_NOTE_NAME) &&
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

static int check_header(const Elf64_Ehdr *ehdr, struct err *err)
{
	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64 || ehdr->e_ident[EI_DATA] != ELFDATA2LSB ||
	    ehdr->e_machine != EM_X86_64)
		return err_set(err, "not an ELF file for x86-64");
	if (ehdr->e_type != ET_EXEC && ehdr->e_type != ET_DYN)
		return err_set(err, "an ELF file, but not an executable");
	if (ehdr->e_phentsize != sizeof(Elf64_Phdr) || !ehdr->e_phnum || ehdr->e_phnum > MAX_PHDRS)
		return err_set(err, "no usable ELF program headers");
	return 0;
}

static int truncated(struct err *err)
{
	return err_set(err, "ELF file is truncated");
}

static int load_segment(struct boot *b, const Elf64_Phdr *phdr, struct err *err)
{
	const u8 *from = boot_file_part(b, phdr->p_offset, phdr->p_filesz);
	gpa_t start = phdr->p_paddr;
	u8 *to;

	if (!from || phdr->p_filesz > phdr->p_memsz)
		return truncated(err);
	if (!phdr->p_memsz)
		return 0;
	/* No memory above the hole will do: the entry point is a 32-bit one. */
	if (start < BOOT_HIGH_START || start >= RAM_HOLE_START ||
	    phdr->p_memsz > RAM_HOLE_START - start)
		return err_set(err, "has %#llx bytes to load at %#llx; a kernel must lie between 1 MiB and 3 GiB",
			       (u64)phdr->p_memsz, start);
	to = ram_ptr(b->ram, start, phdr->p_memsz);
	if (!to)
		return err_set(err, "needs memory at %#llx-%#llx; give a larger --mem",
			       start, start + phdr->p_memsz);
	memcpy(to, from, phdr->p_filesz);
	if (start + phdr->p_memsz > b->end)
		b->end = start + phdr->p_memsz;
	return 0;
}

/* Linux's COMMAND_LINE_SIZE on x86; PVH has no field for it. */
#define PVH_CMDLINE_MAX 2047

/** elf_load() - place the kernel */
int elf_load(struct boot *b, struct boot_state *state, struct err *err)
{
	Elf64_Phdr phdr[MAX_PHDRS];
	bool found = false;
	Elf64_Ehdr ehdr;
	unsigned int i;
	const u8 *p;

	if (b->file_size < sizeof(ehdr))
		return truncated(err);
	memcpy(&ehdr, b->file, sizeof(ehdr));
	if (check_header(&ehdr, err) < 0)
		return -1;
	p = boot_file_part(b, ehdr.e_phoff, ehdr.e_phnum * sizeof(*phdr));
	if (!p)
		return truncated(err);
	memcpy(phdr, p, ehdr.e_phnum * sizeof(*phdr));
	for (i = 0; i < ehdr.e_phnum; i++) {
		if (phdr[i].p_type == PT_LOAD && load_segment(b, &phdr[i], err) < 0)
			return -1;
		if (phdr[i].p_type != PT_NOTE || found)
			continue;
		p = boot_file_part(b, phdr[i].p_offset, phdr[i].p_filesz);
		if (!p)
			return truncated(err);
		found = !elf_note_entry(p, phdr[i].p_filesz, &state->entry);
	}
	if (!found)
		return err_set(err, "no PVH entry point; build the kernel with CONFIG_PVH=y, or give its bzImage");
	if (state->entry < BOOT_HIGH_START || state->entry >= b->end)
		return err_set(err, "the PVH entry point %#llx is outside of the kernel", state->entry);
	b->initrd_limit = RAM_HOLE_START;
	b->cmdline_max = PVH_CMDLINE_MAX;
	state->mode = BOOT_PROTECTED_MODE;
	state->info = BOOT_PVH_INFO;
	return 0;
}

/** elf_fill_start_info() - what the kernel is handed */
void elf_fill_start_info(const struct boot *b)
{
	struct pvh_block *block = ram_ptr(b->ram, BOOT_PVH_INFO, sizeof(*block));
	struct map_entry map[MAP_MAX_ENTRIES];
	unsigned int i, n = ram_map(b->ram, map);

	*block = (struct pvh_block){
		.info = {
			.magic = PVH_MAGIC,
			.version = 1,
			.nr_modules = b->initrd_size ? 1 : 0,
			.modlist = BOOT_PVH_INFO + offsetof(struct pvh_block, initrd),
			.cmdline = BOOT_CMDLINE,
			.rsdp = b->rsdp,
			.memmap = BOOT_PVH_INFO + offsetof(struct pvh_block, map),
			.memmap_entries = n,
		},
		.initrd = { .address = b->initrd, .size = b->initrd_size },
	};
	for (i = 0; i < n; i++)
		block->map[i] = (struct pvh_memmap_entry){ map[i].start, map[i].size, map[i].type, 0 };
}
