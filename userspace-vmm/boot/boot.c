// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory and what every boot protocol needs: the memory map,
 * the command line, the initrd, and finding out what kind of file a kernel
 * is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acpi.h"
#include "boot.h"

#define LARGE_PAGE (2 * MIB)

static void advise(const struct guest_ram *ram)
{
	/* These only tune the host; a kernel without them is no error. */
	madvise(ram->host, ram->size, MADV_HUGEPAGE);
	madvise(ram->host, ram->size, MADV_DONTDUMP);
	/* term.c forks: a child would keep a copy of what the guest changes. */
	madvise(ram->host, ram->size, MADV_DONTFORK);
}

/**
 * ram_alloc() - map memory for the guest
 * @size: bytes, a multiple of the page size
 *
 * Nothing is touched: the host gives pages when the guest uses them.
 */
int ram_alloc(struct guest_ram *ram, u64 size, struct err *err)
{
	u8 *p;

	ram->size = size;
	ram->low = size < RAM_HOLE_START ? size : RAM_HOLE_START;
	p = mmap(NULL, size + LARGE_PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(err, "cannot map %llu MiB for the guest; give a smaller --mem",
			       size / MIB);
	/* A large page of the host is one of the guest's if both begin at the same place. */
	ram->host = (u8 *)ALIGN_UP((uintptr_t)p, LARGE_PAGE);
	munmap(p, ram->host - p);
	munmap(ram->host + size, p + LARGE_PAGE - ram->host);
	ram->fd = -1;
	advise(ram);
	return 0;
}

/**
 * ram_share() - make it memory that other programs can map
 * @ram: from ram_alloc(), untouched
 */
int ram_share(struct guest_ram *ram, struct err *err)
{
	ram->fd = memfd_create("guest", MFD_CLOEXEC);
	if (ram->fd < 0 || ftruncate(ram->fd, ram->size) < 0 ||
	    mmap(ram->host, ram->size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, ram->fd, 0) == MAP_FAILED)
		return err_sys(err, "cannot share %llu MiB of memory", ram->size / MIB);
	advise(ram);
	return 0;
}

/** ram_free() - undo ram_alloc(); harmless on a zeroed structure */
void ram_free(struct guest_ram *ram)
{
	if (!ram->host)
		return;
	munmap(ram->host, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
	ram->host = NULL;
}

/**
 * ram_ptr() - our address of guest memory
 * @gpa: guest physical address
 * @len: bytes that must all be there
 *
 * Return: NULL if any part of the range is not RAM.
 */
void *ram_ptr(const struct guest_ram *ram, gpa_t gpa, u64 len)
{
	if (gpa <= ram->low && len <= ram->low - gpa)
		return ram->host + gpa;
	if (gpa >= RAM_HOLE_END && gpa - RAM_HOLE_END <= ram->size - ram->low &&
	    len <= ram->size - ram->low - (gpa - RAM_HOLE_END))
		return ram->host + ram->low + (gpa - RAM_HOLE_END);
	return NULL;
}

/**
 * ram_map() - the memory map that a guest is told
 *
 * Return: entries used.
 */
unsigned int ram_map(const struct guest_ram *ram, struct map_entry map[MAP_MAX_ENTRIES])
{
	unsigned int n = 0;

	map[n++] = (struct map_entry){ 0, BOOT_LOW_END, MAP_RAM };
	map[n++] = (struct map_entry){ BOOT_LOW_END, 0xa0000 - BOOT_LOW_END,
				       MAP_RESERVED };
	map[n++] = (struct map_entry){ ACPI_BASE, ACPI_SIZE, MAP_RESERVED };
	map[n++] = (struct map_entry){ BOOT_HIGH_START,
				       ram->low - BOOT_HIGH_START, MAP_RAM };
	if (ram->size > ram->low)
		map[n++] = (struct map_entry){ RAM_HOLE_END,
					       ram->size - ram->low, MAP_RAM };
	return n;
}

/* Return: the file, mapped for as long as we live; NULL on failure. */
static const u8 *map_file(const char *path, const char *what, u64 *size, struct err *err)
{
	/* O_NONBLOCK: a FIFO in the place of a file must not make us wait. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const u8 *p = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_sys(err, "cannot open %s %s", what, path);
	} else if (!S_ISREG(st.st_mode)) {
		err_set(err, "%s %s is not a regular file", what, path);
	} else {
		*size = st.st_size;
		p = mmap(NULL, *size ? *size : 1, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
		if (p == MAP_FAILED) {
			err_sys(err, "cannot read %s %s", what, path);
			p = NULL;
		}
	}
	if (fd >= 0)
		close(fd);
	return p;
}

/**
 * boot_file_part() - a part of the kernel file that its headers point to
 *
 * Return: NULL if the file is shorter than that.
 */
const u8 *boot_file_part(const struct boot *b, u64 offset, u64 len)
{
	return offset <= b->file_size && len <= b->file_size - offset ? b->file + offset : NULL;
}

/* As high as it may go. */
static int place_initrd(struct boot *b, struct err *err)
{
	const char *path = b->cfg->initrd;
	gpa_t limit = b->initrd_limit < b->ram->low ? b->initrd_limit : b->ram->low;
	const u8 *file;
	u64 size;

	if (!path)
		return 0;
	file = map_file(path, "initrd", &size, err);
	if (!file)
		return -1;
	if (limit < b->end || size > limit - b->end || ALIGN_DOWN(limit - size, 4096) < b->end)
		return err_set(err, "initrd %s (%llu MiB) does not fit into %llu MiB of memory beside the kernel; give a larger --mem",
			       path, ALIGN_UP(size, MIB) / MIB, b->ram->size / MIB);
	b->initrd = ALIGN_DOWN(limit - size, 4096);
	b->initrd_size = size;
	memcpy(b->ram->host + b->initrd, file, size);
	munmap((void *)file, size);
	return 0;
}

static int place_cmdline(const struct boot *b, struct err *err)
{
	size_t len = strlen(b->cfg->append);
	size_t max = b->cmdline_max < BOOT_CMDLINE_MAX ? b->cmdline_max : BOOT_CMDLINE_MAX - 1;

	if (len > max)
		return err_set(err, "--append is %zu bytes long; the kernel takes %zu", len, max);
	memcpy(b->ram->host + BOOT_CMDLINE, b->cfg->append, len + 1);
	return 0;
}

/* The error is without the file's name. */
static int load_kernel(struct boot *b, struct boot_state *state, struct err *err)
{
	static const struct {
		const char *name, *magic;
	} packed[] = {
		{ "gzip", "\x1f\x8b" },
		{ "xz", "\xfd\x37zX" },
		{ "zstd", "\x28\xb5\x2f\xfd" },
	};
	size_t i, len;

	if (elf_probe(b->file, b->file_size))
		return elf_load(b, state, err);
	if (bzimage_probe(b->file, b->file_size))
		return bzimage_load(b, state, err);
	for (i = 0; i < ARRAY_SIZE(packed); i++) {
		len = strlen(packed[i].magic);
		if (b->file_size >= len && !memcmp(b->file, packed[i].magic, len))
			return err_set(err, "not a kernel but a file compressed with %s; unpack it first",
				       packed[i].name);
	}
	return err_set(err, "not a Linux kernel: neither a bzImage nor an ELF file; give a /boot/vmlinuz-*");
}

/**
 * boot_load() - fill guest memory with tables, kernel and initrd
 * @cfg: names of the files
 * @ram: empty memory
 * @state: how the boot processor is to start
 */
int boot_load(const struct run_config *cfg, const struct guest_ram *ram,
	      struct boot_state *state, struct err *err)
{
	struct boot b = { .cfg = cfg, .ram = ram };
	struct err why;

	if (acpi_build(ram->host + ACPI_BASE, ACPI_BASE, ACPI_SIZE, cfg->cpus, &b.rsdp, err) < 0)
		return -1;
	b.file = map_file(cfg->kernel, "kernel", &b.file_size, err);
	if (!b.file)
		return -1;
	if (load_kernel(&b, state, &why) < 0)
		return err_set(err, "%s: %s", cfg->kernel, why.text);
	munmap((void *)b.file, b.file_size);
	if (place_initrd(&b, err) < 0 || place_cmdline(&b, err) < 0)
		return -1;
	if (state->mode == BOOT_LONG_MODE)
		bzimage_fill_params(&b);
	else
		elf_fill_start_info(&b);
	return 0;
}
