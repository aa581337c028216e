// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel files, good, bad and mutilated; placement in memory.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot.h"
#include "tap.h"

static struct err err;
static const char *dir;

/* A bzImage of 8 KiB whose parts are told apart by their contents. */
static u8 image[8192];

static struct setup_header *header(void)
{
	return (struct setup_header *)(image + 0x1f1);
}

static void make_image(void)
{
	struct setup_header *h = header();
	size_t i;

	memset(image, 0, sizeof(image));
	h->setup_sects = 1;
	h->boot_flag = 0xaa55;
	image[0x201] = 0x6a;
	memcpy(image + 0x202, "HdrS", 4);
	h->version = 0x020f;
	h->loadflags = LOADED_HIGH;
	h->xloadflags = XLF_KERNEL_64;
	h->pref_address = 0x1000000;
	h->init_size = 0x300000;
	h->cmdline_size = 255;
	h->initrd_addr_max = 0x7fffffff;
	h->syssize = (sizeof(image) - 1024) / 16;
	for (i = 1024; i < sizeof(image); i++)
		image[i] = i * 7;
}

static int parse(size_t len, u64 size)
{
	struct bzimage bz;
	u8 *copy = malloc(len ? len : 1);	/* exact, for the sanitizer */
	int ret;

	memcpy(copy, image, len);
	ret = bzimage_parse(copy, len, size, &bz, &err);
	free(copy);
	return ret;
}

static void test_parse(void)
{
	struct setup_header *h = header();

	make_image();
	is(parse(4096, sizeof(image)), 0, "a good header");
	ok(parse(0, 0) < 0 && parse(0x205, 0x205) < 0, "too short");
	ok(parse(0x210, sizeof(image)) < 0, "cut in the header");
	ok(parse(4096, 4096) < 0, "cut in the kernel: %s", err.text);
	h->version = 0x020b;
	ok(parse(4096, sizeof(image)) < 0, "old protocol: %s", err.text);
	make_image();
	h->xloadflags = 0;
	ok(parse(4096, sizeof(image)) < 0, "32-bit: %s", err.text);
	make_image();
	h->loadflags = 0;
	ok(parse(4096, sizeof(image)) < 0, "zImage: %s", err.text);
	make_image();
	h->pref_address = 0x1000;
	ok(parse(4096, sizeof(image)) < 0, "load address: %s", err.text);
	make_image();
	h->boot_flag = 0;
	ok(parse(4096, sizeof(image)) < 0, "boot flag: %s", err.text);
}

static const char *save(const char *name, const void *data, size_t len)
{
	static char path[4][128];
	static unsigned int turn;
	char *p = path[turn++ % 4];
	FILE *f;

	snprintf(p, 128, "%s/%s", dir, name);
	f = fopen(p, "we");
	if (!f || fwrite(data, 1, len, f) != len) {
		printf("Bail out! cannot write %s\n", p);
		exit(1);
	}
	fclose(f);
	return p;
}

static int load(struct run_config *cfg, struct guest_ram *ram,
		struct boot_state *state)
{
	memset(state, 0, sizeof(*state));
	if (ram_alloc(ram, cfg->mem, &err) < 0)
		return -1;
	return boot_load(cfg, ram, state, &err);
}

static void test_bzimage(void)
{
	struct run_config cfg = { .append = "hello world", .cpus = 1,
				  .mem = 64 * MIB };
	struct boot_params *bp;
	struct boot_state st;
	struct guest_ram ram;
	u8 initrd[5000];
	u64 *pml4;

	make_image();
	memset(initrd, 0x5a, sizeof(initrd));
	cfg.kernel = save("bzImage", image, sizeof(image));
	cfg.initrd = save("initrd", initrd, sizeof(initrd));
	is(load(&cfg, &ram, &st), 0, "load a bzImage");
	is(st.mode, BOOT_LONG_MODE, "in long mode");
	is(st.entry, 0x1000200, "entry point");
	ok(!memcmp(ram.host + 0x1000000, image + 1024, sizeof(image) - 1024),
	   "the kernel is where it prefers");
	bp = ram_ptr(&ram, st.info, sizeof(*bp));
	is(bp->hdr.type_of_loader, 0xff, "loader type");
	ok(!strcmp((char *)ram.host + bp->hdr.cmd_line_ptr, "hello world"),
	   "command line");
	is(bp->hdr.ramdisk_size, sizeof(initrd), "initrd size");
	is(bp->hdr.ramdisk_image, ALIGN_DOWN(64 * MIB - sizeof(initrd), 4096),
	   "initrd at the top");
	ok(!memcmp(ram.host + bp->hdr.ramdisk_image, initrd, sizeof(initrd)),
	   "initrd contents");
	is(bp->e820_entries, 4, "memory map");
	is(bp->e820_table[3].addr + bp->e820_table[3].size, 64 * MIB,
	   "its end is that of memory");
	ok(!memcmp(ram_ptr(&ram, bp->acpi_rsdp_addr, 8), "RSD PTR ", 8),
	   "RSDP address");
	pml4 = ram_ptr(&ram, BOOT_PAGE_TABLES, 4096 * 6);
	is(pml4[1024 + 2047], 0xffe00083ULL, "the last 2 MiB of 4 GiB are mapped");
	ram_free(&ram);

	/* It is linked for 16 MiB and needs 3 MiB there, moved or not. */
	cfg.mem = 19 * MIB - 4096;
	ok(load(&cfg, &ram, &st) < 0 && strstr(err.text, "alone needs 19 MiB"),
	   "too little memory: %s", err.text);
	ram_free(&ram);

	cfg.mem = 19 * MIB;
	ok(load(&cfg, &ram, &st) < 0 && strstr(err.text, "initrd"),
	   "no room for the initrd: %s", err.text);
	ram_free(&ram);

	cfg.mem = 19 * MIB + 8192;
	is(load(&cfg, &ram, &st), 0, "just enough for both");
	is(st.entry, 0x1000200, "the kernel is where it was linked for");
	ram_free(&ram);

	header()->init_size = 0xbf000001;
	cfg.kernel = save("bzImage", image, sizeof(image));
	cfg.mem = 5 * GIB;
	ok(load(&cfg, &ram, &st) < 0 && !strstr(err.text, "--mem"),
	   "a kernel that reaches beyond 3 GiB: %s", err.text);
	ram_free(&ram);

	make_image();
	cfg.kernel = save("bzImage", image, sizeof(image));
	cfg.mem = 64 * MIB;
	cfg.append = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345";
	ok(load(&cfg, &ram, &st) < 0, "long command line: %s", err.text);
	ram_free(&ram);
}

static void test_map(void)
{
	struct map_entry map[MAP_MAX_ENTRIES];
	struct guest_ram ram;
	unsigned int n;

	if (!ok(!ram_alloc(&ram, 5 * GIB, &err), "5 GiB of memory"))
		return;
	n = ram_map(&ram, map);
	is(n, 5, "entries");
	is(map[3].start + map[3].size, RAM_HOLE_START, "below the hole");
	is(map[4].start, RAM_HOLE_END, "above the hole");
	is(map[4].size, 2 * GIB, "size above");
	ok(ram_ptr(&ram, RAM_HOLE_START - 8, 8), "last word below");
	ok(!ram_ptr(&ram, RAM_HOLE_START - 8, 9), "nothing across");
	ok(!ram_ptr(&ram, RAM_HOLE_START, 1), "nothing in the hole");
	ok(ram_ptr(&ram, RAM_HOLE_END, 1) == ram.host + RAM_HOLE_START,
	   "first byte above");
	ok(ram_ptr(&ram, 6 * GIB - 1, 1), "last byte");
	ok(!ram_ptr(&ram, 6 * GIB - 1, 2), "nothing behind");
	ok(!ram_ptr(&ram, ~0ULL, 2), "no wrap");
	ok(!ram_ptr(&ram, RAM_HOLE_END, ~0ULL), "no wrap in the length");
	ram_free(&ram);
}

/* A child that lives as long as the guest must not hold its memory. */
static void test_fork(void)
{
	struct guest_ram ram;
	unsigned char vec[1];
	int status = -1;
	pid_t pid;

	if (!ok(!ram_alloc(&ram, 16 * MIB, &err), "16 MiB of memory"))
		return;
	memset(ram.host, 1, 4096);
	is(mincore(ram.host, 4096, vec), 0, "it is mapped here");
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(mincore(ram.host, 4096, vec) < 0 && errno == ENOMEM ?
		      0 : 1);
	waitpid(pid, &status, 0);
	is(status, 0, "a child does not have it");
	ram_free(&ram);
}

struct elf_file {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr[2];
	struct {
		Elf64_Nhdr nhdr;
		char name[4];
		u64 entry;
	} note;
	u8 code[256];
};

static struct elf_file elf;

static void make_elf(void)
{
	memset(&elf, 0, sizeof(elf));
	memcpy(elf.ehdr.e_ident, ELFMAG, SELFMAG);
	elf.ehdr.e_ident[EI_CLASS] = ELFCLASS64;
	elf.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.ehdr.e_type = ET_EXEC;
	elf.ehdr.e_machine = EM_X86_64;
	elf.ehdr.e_phoff = offsetof(struct elf_file, phdr);
	elf.ehdr.e_phentsize = sizeof(Elf64_Phdr);
	elf.ehdr.e_phnum = 2;
	elf.phdr[0].p_type = PT_LOAD;
	elf.phdr[0].p_offset = offsetof(struct elf_file, code);
	elf.phdr[0].p_paddr = 0x1000000;
	elf.phdr[0].p_filesz = sizeof(elf.code);
	elf.phdr[0].p_memsz = 0x10000;
	elf.phdr[1].p_type = PT_NOTE;
	elf.phdr[1].p_offset = offsetof(struct elf_file, note);
	elf.phdr[1].p_filesz = sizeof(elf.note);
	elf.note.nhdr.n_namesz = 4;
	elf.note.nhdr.n_descsz = 8;
	elf.note.nhdr.n_type = 18;
	memcpy(elf.note.name, "Xen", 4);
	elf.note.entry = 0x1000010;
	memset(elf.code, 0xf4, sizeof(elf.code));
}

static int load_elf(u64 mem, struct guest_ram *ram, struct boot_state *st)
{
	struct run_config cfg = { .append = "pvh", .cpus = 2, .mem = mem };

	cfg.kernel = save("vmlinux", &elf, sizeof(elf));
	cfg.initrd = save("initrd", "rd", 2);
	return load(&cfg, ram, st);
}

static void test_elf_errors(void)
{
	struct guest_ram ram;
	struct boot_state st;
	struct {
		const char *what;
		void *at;
		u64 value;
		size_t size;
		const char *says;
	} breaks[] = {
		{ "class", &elf.ehdr.e_ident[EI_CLASS], ELFCLASS32, 1,
		  "x86-64" },
		{ "machine", &elf.ehdr.e_machine, EM_AARCH64, 2,
		  "x86-64" },
		{ "type", &elf.ehdr.e_type, ET_REL, 2, "executable" },
		{ "no program headers", &elf.ehdr.e_phnum, 0, 2,
		  "headers" },
		{ "many program headers", &elf.ehdr.e_phnum, 65535, 2,
		  "headers" },
		{ "program headers outside", &elf.ehdr.e_phoff, ~0ULL, 8,
		  "truncated" },
		{ "segment outside", &elf.phdr[0].p_offset, ~0ULL, 8,
		  "truncated" },
		{ "segment longer than the file", &elf.phdr[0].p_filesz,
		  0xffff, 8, "truncated" },
		{ "segment at 0", &elf.phdr[0].p_paddr, 0, 8, "1 MiB" },
		{ "segment behind memory", &elf.phdr[0].p_paddr, 1 * GIB, 8,
		  "--mem" },
		{ "segment across 3 GiB", &elf.phdr[0].p_paddr, 3 * GIB - 1, 8,
		  "3 GiB" },
		{ "segment above 4 GiB", &elf.phdr[0].p_paddr, 5 * GIB, 8,
		  "3 GiB" },
		{ "segment wraps", &elf.phdr[0].p_memsz, ~0ULL, 8, "3 GiB" },
		{ "note outside", &elf.phdr[1].p_offset, 1 << 20, 8,
		  "truncated" },
		{ "note of another kind", &elf.note.nhdr.n_type, 6, 4,
		  "CONFIG_PVH" },
		{ "note of another owner", elf.note.name, 0x58, 1,
		  "CONFIG_PVH" },
		{ "entry outside", &elf.note.entry, 0x2000000, 8, "outside" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(breaks); i++) {
		make_elf();
		memcpy(breaks[i].at, &breaks[i].value, breaks[i].size);
		if (!strcmp(breaks[i].what, "note of another owner"))
			elf.note.name[0] = 'Y';
		err.text[0] = '\0';
		ok(load_elf(64 * MIB, &ram, &st) < 0 &&
		   strstr(err.text, breaks[i].says),
		   "ELF, %s: %s", breaks[i].what, err.text);
		ram_free(&ram);
	}
}

static void test_elf(void)
{
	struct guest_ram ram;
	struct boot_state st;
	u32 info[14];

	make_elf();
	is(load_elf(64 * MIB, &ram, &st), 0, "load an ELF file");
	is(st.mode, BOOT_PROTECTED_MODE, "in protected mode");
	is(st.entry, 0x1000010, "entry point");
	is(ram.host[0x10000ff], 0xf4, "the code is there");
	memcpy(info, ram.host + st.info, sizeof(info));
	is(info[0], 0x336ec578, "start info: magic");
	is(info[1], 1, "start info: version");
	is(info[3], 1, "start info: the initrd");
	ok(!strcmp((char *)ram.host + info[6], "pvh"), "start info: command line");
	is(info[12], 4, "start info: memory map");
	ram_free(&ram);
	test_elf_errors();
}

static void test_notes(void)
{
	static const u8 huge[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 18, 0, 0, 0,
		'X', 'e', 'n', 0, 1, 2, 3, 4,
	};
	u8 buf[64];
	u64 entry;
	unsigned int i, j;

	ok(elf_note_entry(huge, sizeof(huge), &entry) < 0, "absurd lengths");
	ok(elf_note_entry(huge, 0, &entry) < 0, "no notes");
	srand(1);
	for (i = 0; i < 200000; i++) {
		u8 *exact = malloc(i % 64 + 1);

		for (j = 0; j < sizeof(buf); j++)
			buf[j] = rand() % 4 ? rand() % 20 : rand();
		memcpy(exact, buf, i % 64 + 1);
		elf_note_entry(exact, i % 64 + 1, &entry);
		free(exact);
	}
	ok(1, "200000 random notes");
}

/* Any bytes changed in a good file: an error or a success, nothing else. */
static void test_mutations(void)
{
	struct run_config cfg = { .append = "x", .cpus = 1, .mem = 32 * MIB };
	unsigned int good = 0, i, n, k;
	struct guest_ram ram;
	struct boot_state st;

	srand(2);
	for (i = 0; i < 3000; i++) {
		bool is_elf = i & 1;
		u8 *file = is_elf ? (u8 *)&elf : image;
		size_t len = is_elf ? sizeof(elf) : sizeof(image);

		make_image();
		make_elf();
		n = 1 + rand() % 4;
		for (k = 0; k < n; k++)
			file[is_elf ? rand() % 240 : 0x1f1 + rand() % 0x7b] =
				rand() % 2 ? rand() : 0xff * (rand() % 2);
		if (rand() % 8 == 0)
			len = rand() % len;
		cfg.kernel = save("mutant", file, len);
		if (!load(&cfg, &ram, &st))
			good++;
		ram_free(&ram);
	}
	ok(good > 0 && good < 3000, "3000 mutants, %u of them loaded", good);
}

int main(void)
{
	dir = tap_dir();
	test_parse();
	test_bzimage();
	test_map();
	test_fork();
	test_elf();
	test_notes();
	test_mutations();
	return tap_done();
}
