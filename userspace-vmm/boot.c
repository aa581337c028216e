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
	void *p;

	ram->size = size;
	ram->low = size < RAM_HOLE_START ? size : RAM_HOLE_START;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(err, "cannot map %llu MiB for the guest; give a smaller --mem",
			       size / MIB);
	ram->host = p;
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
		return err_sys(err, "cannot share %llu MiB of memory",
			       ram->size / MIB);
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
unsigned int ram_map(const struct guest_ram *ram,
		     struct map_entry map[MAP_MAX_ENTRIES])
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

static int read_at(int fd, const char *path, void *buf, u64 len, u64 offset,
		   struct err *err)
{
	u8 *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "cannot read %s", path);
		if (!n)
			return err_set(err, "%s: file is truncated", path);
		p += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/**
 * boot_read() - read a part of the kernel file into guest memory
 * @file_offset: from where
 * @gpa: to where
 */
int boot_read(const struct boot_request *req, u64 file_offset, gpa_t gpa,
	      u64 len, struct err *err)
{
	const char *path = req->cfg->kernel;
	void *p = ram_ptr(req->ram, gpa, len);

	if (!p)
		return err_set(err, "%s does not fit into %llu MiB of memory (wants %#llx-%#llx); give a larger --mem",
			       path, req->ram->size / MIB, gpa, gpa + len);
	return read_at(req->kernel_fd, path, p, len, file_offset, err);
}

static int open_file(const char *path, const char *what, u64 *size,
		     struct err *err)
{
	struct stat st;
	int fd;

	/* O_NONBLOCK: a FIFO in the place of a file must not make us wait. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(err, "cannot open %s %s", what, path);
	if (fstat(fd, &st) < 0) {
		err_sys(err, "cannot stat %s %s", what, path);
		close(fd);
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(err, "%s %s is not a regular file", what, path);
		close(fd);
		return -1;
	}
	*size = st.st_size;
	return fd;
}

/**
 * boot_place_initrd() - load the initrd as high as it may go
 * @kernel_end: it must not start below
 * @limit: it must end at or below
 * @initrd: filled; zero without an initrd
 */
int boot_place_initrd(const struct boot_request *req, gpa_t kernel_end,
		      gpa_t limit, struct initrd *initrd, struct err *err)
{
	const char *path = req->cfg->initrd;
	u64 size;
	int fd, ret;

	*initrd = (struct initrd){ 0 };
	if (!path)
		return 0;
	fd = open_file(path, "initrd", &size, err);
	if (fd < 0)
		return -1;
	if (limit > req->ram->low)
		limit = req->ram->low;
	if (limit < kernel_end || size > limit - kernel_end ||
	    ALIGN_DOWN(limit - size, 4096) < kernel_end) {
		close(fd);
		return err_set(err, "initrd %s (%llu MiB) does not fit into %llu MiB of memory beside the kernel; give a larger --mem",
			       path, ALIGN_UP(size, MIB) / MIB,
			       req->ram->size / MIB);
	}
	initrd->start = ALIGN_DOWN(limit - size, 4096);
	initrd->size = size;
	ret = read_at(fd, path, req->ram->host + initrd->start, size, 0, err);
	close(fd);
	return ret;
}

/**
 * boot_place_cmdline() - put the command line at BOOT_CMDLINE
 * @max: longest that the kernel takes, without the final zero
 */
int boot_place_cmdline(const struct boot_request *req, size_t max,
		       struct err *err)
{
	size_t len = strlen(req->cfg->append);

	if (max > BOOT_CMDLINE_MAX - 1)
		max = BOOT_CMDLINE_MAX - 1;
	if (len > max)
		return err_set(err, "--append is %zu bytes long; the kernel takes %zu",
			       len, max);
	memcpy(req->ram->host + BOOT_CMDLINE, req->cfg->append, len + 1);
	return 0;
}

static int load_kernel(struct boot_request *req, struct boot_state *state,
		       struct err *err)
{
	static const struct {
		const char *name;
		u8 magic[4];
		u8 len;
	} packed[] = {
		{ "gzip", { 0x1f, 0x8b }, 2 },
		{ "xz", { 0xfd, '7', 'z', 'X' }, 4 },
		{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	};
	const char *path = req->cfg->kernel;
	size_t i;

	if (elf_probe(req->head, req->head_len))
		return elf_load(req, state, err);
	if (bzimage_probe(req->head, req->head_len))
		return bzimage_load(req, state, err);
	for (i = 0; i < ARRAY_SIZE(packed); i++) {
		if (req->head_len >= packed[i].len &&
		    !memcmp(req->head, packed[i].magic, packed[i].len))
			return err_set(err, "%s is not a kernel but a file compressed with %s; unpack it first",
				       path, packed[i].name);
	}
	return err_set(err, "%s is not a Linux kernel: neither a bzImage nor an ELF file; give a /boot/vmlinuz-*",
		       path);
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
	static u8 head[BOOT_HEAD];
	struct boot_request req = {
		.cfg = cfg,
		.ram = ram,
		.head = head,
	};
	int ret;

	if (acpi_build(ram->host + ACPI_BASE, ACPI_BASE, ACPI_SIZE, cfg->cpus,
		       &req.rsdp, err) < 0)
		return -1;
	req.kernel_fd = open_file(cfg->kernel, "kernel", &req.kernel_size, err);
	if (req.kernel_fd < 0)
		return -1;
	req.head_len = req.kernel_size < BOOT_HEAD ? req.kernel_size : BOOT_HEAD;
	ret = read_at(req.kernel_fd, cfg->kernel, head, req.head_len, 0, err);
	if (!ret)
		ret = load_kernel(&req, state, err);
	close(req.kernel_fd);
	return ret;
}
