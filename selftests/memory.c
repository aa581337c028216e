// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory is ordinary memory of this process: whatever is done to it, a
 * running guest sees what the process sees, and nothing of what was there.
 */

#include <linux/loop.h>
#include <linux/userfaultfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>

#include "lib/test.h"

#define HUGE	(2UL << 20)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

static volatile u64 cmd, gpa, value, pages, sum;
static volatile u32 stop, rounds;

enum { CMD_READ, CMD_WRITE, CMD_FILL, CMD_SUM };

/* Does what it is told, and tells when it is done. */
static void guest_servant(void)
{
	for (u32 n = 0;; n++) {
		volatile u64 *p = (volatile u64 *)gpa;

		switch (cmd) {
		case CMD_READ:
			value = *p;
			break;
		case CMD_WRITE:
			*p = value;
			break;
		case CMD_FILL:
			for (u64 i = 0; i < pages; i++)
				p[i * PAGE_SIZE / 8] = value + i;
			break;
		case CMD_SUM:
			sum = 0;
			for (u64 i = 0; i < pages; i++)
				sum += p[i * PAGE_SIZE / 8];
			break;
		}
		guest_sync(n);
	}
}

static struct vm *vm;
static struct vcpu *vcpu;

static void start(void)
{
	vm = vm_create(0);
	vcpu = vcpu_create(vm);
	vcpu_set_long(vcpu, guest_servant);
}

static u64 guest_read(u64 offset)
{
	cmd = CMD_READ;
	gpa = GPA_USER + offset;
	guest_run_sync(vcpu);
	return value;
}

static void guest_write(u64 offset, u64 val)
{
	cmd = CMD_WRITE;
	gpa = GPA_USER + offset;
	value = val;
	guest_run_sync(vcpu);
}

static void guest_fill(u64 nr, u64 val)
{
	cmd = CMD_FILL;
	gpa = GPA_USER;
	pages = nr;
	value = val;
	guest_run_sync(vcpu);
}

static u64 guest_sum(u64 nr)
{
	cmd = CMD_SUM;
	gpa = GPA_USER;
	pages = nr;
	guest_run_sync(vcpu);
	return sum;
}

/* One try that is expected to fail. */
static int guest_try_read(u64 offset)
{
	cmd = CMD_READ;
	gpa = GPA_USER + offset;
	return vcpu_run(vcpu);
}

static int guest_try_write(u64 offset)
{
	cmd = CMD_WRITE;
	gpa = GPA_USER + offset;
	return vcpu_run(vcpu);
}

static u64 *map_slot(size_t size, int flags, int fd)
{
	u64 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	int ret;

	if (p == MAP_FAILED)
		return NULL;
	ret = vm_slot(vm, SLOT_USER, 0, GPA_USER, size, p);
	if (ret)
		fail("slot: %d", ret);
	return p;
}

#define ANON	(MAP_PRIVATE | MAP_ANONYMOUS)
#define AT(off)	((off) / 8)

static u64 sum_of(u64 val, u64 n)
{
	return n * val + n * (n - 1) / 2;
}

static void check_both_ways(struct __test_metadata *_metadata, u64 *p, u64 nr)
{
	guest_fill(nr, 1000);
	for (u64 i = 0; i < nr; i++) {
		ASSERT_EQ(1000 + i, p[AT(i * PAGE_SIZE)]);
		p[AT(i * PAGE_SIZE)] = 5000 + i;
	}
	EXPECT_EQ(sum_of(5000, nr), guest_sum(nr));
}

TEST(anonymous)
{
	u64 *p;

	start();
	p = map_slot(64 * PAGE_SIZE, ANON, -1);
	EXPECT_EQ(0, guest_read(0));		/* the zero page, read-only */
	guest_write(0, 42);			/* and now one of its own */
	EXPECT_EQ(42, p[0]);
	EXPECT_EQ(0, guest_read(8));
	check_both_ways(_metadata, p, 64);
}

TEST(memfd)
{
	int fd = memfd_create("guest", 0);
	u64 *p, *q;

	start();
	ASSERT_EQ(0, ftruncate(fd, 64 * PAGE_SIZE));
	p = map_slot(64 * PAGE_SIZE, MAP_SHARED, fd);
	ASSERT_NE(NULL, p);
	check_both_ways(_metadata, p, 64);
	/* Seen through another mapping of the same file. */
	q = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	guest_write(0, 77);
	EXPECT_EQ(77, q[0]);
	/* A hole is punched: zeros again. */
	ASSERT_EQ(0, fallocate(fd, 3 /* PUNCH_HOLE | KEEP_SIZE */, 0, PAGE_SIZE));
	EXPECT_EQ(0, guest_read(0));
	guest_write(0, 78);
	EXPECT_EQ(78, q[0]);
	/* Cut off: SIGBUS for a process, EFAULT for a guest. */
	ASSERT_EQ(0, ftruncate(fd, 32 * PAGE_SIZE));
	EXPECT_EQ(-EFAULT, guest_try_read(40 * PAGE_SIZE));
	ASSERT_EQ(0, ftruncate(fd, 64 * PAGE_SIZE));
	EXPECT_EQ(0, guest_read(40 * PAGE_SIZE));
}

static int temp_file(size_t size)
{
	char name[] = "/dev/shm/keel-selftest-XXXXXX";
	char alt[] = "/tmp/keel-selftest-XXXXXX";
	char *path = name;
	int fd = mkstemp(name);

	if (fd < 0) {
		path = alt;
		fd = mkstemp(alt);
	}
	if (fd < 0 || unlink(path) || ftruncate(fd, size))
		fail("temporary file");
	return fd;
}

TEST(file)
{
	int fd;
	u64 *p, val;

	start();
	fd = temp_file(16 * PAGE_SIZE);
	p = map_slot(16 * PAGE_SIZE, MAP_SHARED, fd);
	ASSERT_NE(NULL, p);
	check_both_ways(_metadata, p, 16);
	guest_write(3 * PAGE_SIZE, 4711);
	ASSERT_EQ(8, pread(fd, &val, 8, 3 * PAGE_SIZE));
	EXPECT_EQ(4711, val);
	val = 815;
	ASSERT_EQ(8, pwrite(fd, &val, 8, 3 * PAGE_SIZE));
	EXPECT_EQ(815, guest_read(3 * PAGE_SIZE));
}

TEST(private_file_is_copied_on_write)
{
	int fd;
	u64 *p, val = 100;

	start();
	fd = temp_file(PAGE_SIZE);
	ASSERT_EQ(8, pwrite(fd, &val, 8, 0));
	p = map_slot(PAGE_SIZE, MAP_PRIVATE, fd);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(100, guest_read(0));
	guest_write(0, 200);
	EXPECT_EQ(200, p[0]);
	ASSERT_EQ(8, pread(fd, &val, 8, 0));
	EXPECT_EQ(100, val);
}

/* A number from the part of smaps that describes the mapping of @p, in kB. */
static long smaps(void *p, const char *key)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool inside = false;
	long kb = -1;
	char line[512];

	if (!f)
		fail("/proc/self/smaps");
	while (kb < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)p && (uintptr_t)p < end;
		else if (inside && !strncmp(line, key, strlen(key)))
			kb = atol(line + strlen(key));
	}
	fclose(f);
	if (kb < 0)
		fail("no %s in smaps", key);
	return kb;
}

/* What of each size is mapped for the guest, since the last leaves_start(). */
struct leaves {
	long n4k, n2m, n1g;
} leaves0;

static struct leaves leaves(void)
{
	return (struct leaves) {
		.n4k = vm_stat(vm, "pages_4k") - leaves0.n4k,
		.n2m = vm_stat(vm, "pages_2m") - leaves0.n2m,
		.n1g = vm_stat(vm, "pages_1g") - leaves0.n1g,
	};
}

/* After the guest has run, with its own code, stack and tables mapped. */
static void leaves_start(void)
{
	cmd = CMD_READ;
	gpa = (uintptr_t)&sum;
	guest_run_sync(vcpu);
	memset(&leaves0, 0, sizeof(leaves0));
	leaves0 = leaves();
}

/*
 * keel maps small pages alone on a CPU on which the guest could bring the
 * machine down with large ones; stock KVM large ones, without execution.
 */
static bool large_leaves(void)
{
	return dev_is_kvm() || !file_has_word("/proc/cpuinfo", "bugs", "itlb_multihit") ||
	       file_has_word("/proc/cmdline", "", "mitigations=off");
}

static bool make_hugetlb(int nr)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "r+");
	int have = 0;

	if (!f)
		return false;
	fprintf(f, "%d\n", nr);
	fflush(f);
	rewind(f);
	if (fscanf(f, "%d", &have) != 1)
		have = 0;
	fclose(f);
	return have >= nr;
}

TEST(hugetlb)
{
	u64 *p;

	if (!make_hugetlb(2))
		SKIP(return, "no huge pages to be had");
	start();
	p = map_slot(2 * HUGE, ANON | MAP_HUGETLB, -1);
	if (!p) {
		make_hugetlb(0);
		SKIP(return, "no huge page could be mapped");
	}
	leaves_start();
	check_both_ways(_metadata, p, 1024);
	EXPECT_EQ(large_leaves() ? 2 : 0, leaves().n2m);
	EXPECT_EQ(large_leaves() ? 0 : 1024, leaves().n4k);
	ASSERT_EQ(0, madvise(p, HUGE, MADV_DONTNEED));
	EXPECT_EQ(large_leaves() ? 1 : 0, leaves().n2m);
	EXPECT_EQ(large_leaves() ? 0 : 512, leaves().n4k);
	EXPECT_EQ(0, guest_read(0));
	EXPECT_EQ(large_leaves() ? 2 : 0, leaves().n2m);
	vm_destroy(vm);
	munmap(p, 2 * HUGE);
	make_hugetlb(0);
}

#define GB		(1UL << 30)
#define GPA_1G		GB		/* aligned as the page is */
#define HUGETLB_1G	(MAP_HUGETLB | 30 << 26 /* MAP_HUGE_SHIFT */)

TEST(hugetlb_1g)
{
	static u64 map[GB / PAGE_SIZE / 64];
	struct kvm_dirty_log log = { .slot = SLOT_USER, .dirty_bitmap = map };
	u64 *p, off = 300 * HUGE + 7 * PAGE_SIZE;
	bool large;

	p = mmap(NULL, GB, PROT_READ | PROT_WRITE, ANON | HUGETLB_1G, -1, 0);
	if (p == MAP_FAILED)
		SKIP(return, "the host has no page of 1 GiB (hugepagesz=1G hugepages=1)");
	start();
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_1G, GB, p));
	leaves_start();
	guest_write(GPA_1G - GPA_USER + off, 77);
	EXPECT_EQ(77, p[AT(off)]);
	p[AT(GB - 8)] = 78;
	EXPECT_EQ(78, guest_read(GPA_1G - GPA_USER + GB - 8));
	large = leaves().n1g == 1;
	if (large_leaves() && file_has_word("/proc/cpuinfo", "flags", "pdpe1gb")) {
		EXPECT_TRUE(large);
	}
	if (large) {
		EXPECT_EQ(0, leaves().n2m);
		/* The guest's own page table for these addresses. */
		EXPECT_GE(1, leaves().n4k);
	}

	/* A log is kept in small pages: the large one makes way for them. */
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_1G, GB, p));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	guest_write(GPA_1G - GPA_USER + off, 79);
	EXPECT_EQ(0, leaves().n1g);
	EXPECT_LE(1, leaves().n4k);
	memset(map, 0, sizeof(map));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	for (u64 i = 0; i < ARRAY_SIZE(map); i++) {
		u64 bit = i == off / PAGE_SIZE / 64 ? 1ULL << off / PAGE_SIZE % 64 : 0;

		ASSERT_EQ(bit, map[i]);
	}
	EXPECT_EQ(79, p[AT(off)]);
	EXPECT_EQ(78, guest_read(GPA_1G - GPA_USER + GB - 8));

	/* And all of it goes with the host's mapping. */
	ASSERT_EQ(0, munmap(p, GB));
	EXPECT_EQ(0, leaves().n1g);
	EXPECT_EQ(0, leaves().n2m);
	EXPECT_GE(1, leaves().n4k);
	EXPECT_EQ(-EFAULT, guest_try_read(GPA_1G - GPA_USER));
	vm_destroy(vm);
}

TEST(dontneed)
{
	u64 *p;

	start();
	p = map_slot(16 * PAGE_SIZE, ANON, -1);
	for (int i = 0; i < 5; i++) {
		guest_fill(16, 1000);
		ASSERT_EQ(0, madvise(p, 8 * PAGE_SIZE, MADV_DONTNEED));
		EXPECT_EQ(0, guest_read(0));
		EXPECT_EQ(0, guest_read(7 * PAGE_SIZE));
		EXPECT_EQ(1008, guest_read(8 * PAGE_SIZE));
	}
}

/* What a vCPU left behind in a CPU's TLB must not be there when it comes back. */
TEST(changes_while_on_another_cpu)
{
	struct vm *other_vm;
	struct vcpu *other;
	u64 *p;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU only");
	start();
	p = map_slot(16 * PAGE_SIZE, ANON, -1);
	other_vm = vm_create(0);
	other = vcpu_create(other_vm);
	vcpu_set_long(other, guest_servant);
	for (int i = 0; i < 5; i++) {
		on_cpu(0);
		guest_fill(16, 1000);
		on_cpu(1);
		ASSERT_EQ(1000, guest_read(0));
		ASSERT_EQ(0, madvise(p, 8 * PAGE_SIZE, MADV_DONTNEED));
		EXPECT_EQ(0, guest_read(0));
		/* flushed here, and only here; and another may have its tag there */
		on_cpu(0);
		cmd = CMD_READ;
		gpa = GPA_SCRATCH;
		guest_run_sync(other);
		EXPECT_EQ(0, guest_read(0));
		EXPECT_EQ(1008, guest_read(8 * PAGE_SIZE));
	}
	vm_destroy(other_vm);
	vm_destroy(vm);
}

TEST(munmap_is_efault)
{
	u64 *p;

	start();
	p = map_slot(16 * PAGE_SIZE, ANON, -1);
	guest_fill(16, 1000);
	ASSERT_EQ(0, munmap(p + AT(4 * PAGE_SIZE), PAGE_SIZE));
	EXPECT_EQ(1003, guest_read(3 * PAGE_SIZE));
	EXPECT_EQ(-EFAULT, guest_try_read(4 * PAGE_SIZE));
	ASSERT_NE(MAP_FAILED, mmap(p + AT(4 * PAGE_SIZE), PAGE_SIZE,
				   PROT_READ | PROT_WRITE, ANON | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, guest_read(4 * PAGE_SIZE));
}

/* What moves in by mremap is what the guest sees from then on. */
TEST(mremap_moves_pages)
{
	u64 *p, *q;

	start();
	p = map_slot(4 * PAGE_SIZE, ANON, -1);
	guest_fill(4, 1000);
	q = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	q[0] = 555;
	ASSERT_EQ((void *)p, mremap(q, PAGE_SIZE, PAGE_SIZE,
				    MREMAP_MAYMOVE | MREMAP_FIXED, p));
	EXPECT_EQ(555, guest_read(0));
	/* And what moves out is gone. */
	ASSERT_EQ((void *)q, mremap(p + AT(PAGE_SIZE), PAGE_SIZE, PAGE_SIZE,
				    MREMAP_MAYMOVE | MREMAP_FIXED, q));
	EXPECT_EQ(1001, q[0]);
	EXPECT_EQ(-EFAULT, guest_try_read(PAGE_SIZE));
}

TEST(mprotect_read_only)
{
	u64 *p;

	start();
	p = map_slot(4 * PAGE_SIZE, ANON, -1);
	guest_fill(4, 1000);
	ASSERT_EQ(0, mprotect(p, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(1000, guest_read(0));
	EXPECT_EQ(-EFAULT, guest_try_write(0));
	EXPECT_EQ(1000, p[0]);
	ASSERT_EQ(0, mprotect(p, PAGE_SIZE, PROT_NONE));
	EXPECT_EQ(-EFAULT, guest_try_read(0));
	ASSERT_EQ(0, mprotect(p, PAGE_SIZE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(1000, guest_read(0));
	guest_write(0, 1);
	EXPECT_EQ(1, p[0]);
}

static char *aligned_area(size_t size)
{
	char *base = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, ANON, -1, 0);

	if (base == MAP_FAILED)
		fail("mmap");
	return (char *)(((uintptr_t)base + HUGE - 1) & -HUGE);
}

/* A transparent huge page is split under the guest, in more ways than one. */
TEST(thp_split)
{
	u64 *p = (u64 *)aligned_area(2 * HUGE);

	start();
	madvise(p, 2 * HUGE, MADV_HUGEPAGE);
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, 2 * HUGE, p));
	leaves_start();
	guest_fill(1024, 1000);
	if (smaps(p, "AnonHugePages:") < 4096)
		SKIP(return, "the host has no transparent huge pages to give");
	EXPECT_EQ(large_leaves() ? 2 : 0, leaves().n2m);
	EXPECT_EQ(large_leaves() ? 0 : 1024, leaves().n4k);
	ASSERT_EQ(0, madvise(p + AT(5 * PAGE_SIZE), PAGE_SIZE, MADV_DONTNEED));
	EXPECT_EQ(large_leaves() ? 1 : 0, leaves().n2m);
	EXPECT_EQ(0, guest_read(5 * PAGE_SIZE));
	EXPECT_EQ(1004, guest_read(4 * PAGE_SIZE));
	EXPECT_EQ(large_leaves() ? 1 : 0, leaves().n2m);
	EXPECT_LE(2, leaves().n4k);
	ASSERT_EQ(0, mprotect(p + AT(HUGE), PAGE_SIZE, PROT_READ));
	EXPECT_EQ(1512, guest_read(HUGE));
	EXPECT_EQ(0, leaves().n2m);
	guest_write(HUGE + PAGE_SIZE, 9);
	EXPECT_EQ(9, p[AT(HUGE + PAGE_SIZE)]);
	EXPECT_EQ(-EFAULT, guest_try_write(HUGE));
}

/* Small pages are gathered into a huge one (khugepaged's work, on demand). */
TEST(thp_collapse)
{
	u64 *p = (u64 *)aligned_area(HUGE);
	bool large;

	start();
	madvise(p, HUGE, MADV_NOHUGEPAGE);
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, HUGE, p));
	leaves_start();
	guest_fill(512, 1000);
	EXPECT_EQ(512, leaves().n4k);
	EXPECT_EQ(0, leaves().n2m);
	madvise(p, HUGE, MADV_HUGEPAGE);
	if (madvise(p, HUGE, 25 /* MADV_COLLAPSE, 6.1 */))
		SKIP(return, "MADV_COLLAPSE: %s", strerror(errno));
	EXPECT_EQ(0, leaves().n4k);
	EXPECT_EQ(sum_of(1000, 512), guest_sum(512));
	/* Stock KVM stays with small ones while its nx_huge_pages is on. */
	large = large_leaves() &&
		!(dev_is_kvm() && file_has_word("/sys/module/kvm/parameters/nx_huge_pages", "", "Y"));
	EXPECT_EQ(large ? 1 : 0, leaves().n2m);
	EXPECT_EQ(large ? 0 : 512, leaves().n4k);
	check_both_ways(_metadata, p, 512);
}

#define ZRAM		"/sys/block/zram0/"
#define ZRAM_DEV	"/dev/zram0"
#define ZRAM_SIZE	(64UL << 20)

static void swap_off(void)
{
	swapoff(ZRAM_DEV);
	host_write(ZRAM "reset", "1");
}

/* Compressed memory as swap. Returns what is missing, or NULL. */
static const char *swap_on(void)
{
	static u8 head[PAGE_SIZE];
	u32 *info = (u32 *)(head + 1024);
	char size[32];
	int fd;

	/* Debian's kernels have it as a module. */
	if (access(ZRAM, F_OK) && system("modprobe -q zram 2>/dev/null"))
		return "this kernel has no zram";
	swap_off();
	snprintf(size, sizeof(size), "%lu", ZRAM_SIZE);
	if (!host_write(ZRAM "disksize", size))
		fail(ZRAM "disksize");
	/* Version and last page; a UUID and a name may stay empty. */
	info[0] = 1;
	info[1] = ZRAM_SIZE / PAGE_SIZE - 1;
	memcpy(head + PAGE_SIZE - 10, "SWAPSPACE2", 10);
	fd = open(ZRAM_DEV, O_WRONLY | O_SYNC);
	if (fd < 0 || write(fd, head, sizeof(head)) != sizeof(head) || close(fd) ||
	    swapon(ZRAM_DEV, 0))
		fail("swapon " ZRAM_DEV);
	return NULL;
}

/*
 * Until some of it is gone: what was used a moment ago, by the guest as well, is
 * spared at first. Returns how much, in kB.
 */
static long page_out(void *p, size_t size)
{
	long kb = 0;

	for (int i = 0; i < 10 && !kb; i++) {
		if (madvise(p, size, MADV_PAGEOUT))
			fail("MADV_PAGEOUT");
		kb = smaps(p, "Swap:");
	}
	return kb;
}

TEST(swap)
{
	const char *missing = swap_on();
	u64 *p;

	if (missing)
		SKIP(return, "%s", missing);
	start();
	p = map_slot(64 * PAGE_SIZE, ANON, -1);
	for (int i = 0; i < 3; i++) {
		guest_fill(64, 1000 + i);
		EXPECT_EQ(0, smaps(p, "Swap:"));
		EXPECT_LT(0, page_out(p, 64 * PAGE_SIZE));
		EXPECT_EQ(sum_of(1000 + i, 64), guest_sum(64));
		/* The guest's reads have brought it back. */
		EXPECT_EQ(0, smaps(p, "Swap:"));
		EXPECT_LT(0, page_out(p, 64 * PAGE_SIZE));
		guest_write(5 * PAGE_SIZE, 4711);
		EXPECT_EQ(4711, p[AT(5 * PAGE_SIZE)]);
		EXPECT_EQ(1006 + i, p[AT(6 * PAGE_SIZE)]);
	}
	vm_destroy(vm);
	swap_off();
}

/*
 * A file on a file system that writes back: a page that was written out is
 * clean, and the guest's next write to it must be seen.
 */
#define FS_SIZE		(4UL << 20)
#define FS_PAGES	16

struct fs {
	char dir[64], image[64], loop[64];
	int loop_fd;
};

/* An ext2 in a file on a loop device; returns what is missing, or NULL. */
static const char *fs_mount(struct fs *fs)
{
	char mkfs[128];
	int ctl, image, nr;

	strcpy(fs->dir, "/tmp/keel-fs-XXXXXX");
	strcpy(fs->image, "/tmp/keel-image-XXXXXX");
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return "this kernel has no loop device";
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	snprintf(fs->loop, sizeof(fs->loop), "/dev/loop%d", nr);
	image = mkstemp(fs->image);
	if (nr < 0 || !mkdtemp(fs->dir) || image < 0 || ftruncate(image, FS_SIZE))
		fail("a loop device and a file for it");
	snprintf(mkfs, sizeof(mkfs), "busybox mke2fs -F %s >/dev/null 2>&1", fs->image);
	if (system(mkfs))
		return "there is no busybox with mke2fs";
	fs->loop_fd = open(fs->loop, O_RDWR | O_CLOEXEC);
	if (fs->loop_fd < 0 || ioctl(fs->loop_fd, LOOP_SET_FD, image))
		fail("%s", fs->loop);
	close(image);
	if (!mount(fs->loop, fs->dir, "ext2", 0, NULL))
		return NULL;
	if (errno != ENODEV)
		fail("mount of %s", fs->loop);
	ioctl(fs->loop_fd, LOOP_CLR_FD);
	return "this kernel has no ext2";
}

/* What is read after that comes from the device. */
static void fs_mount_again(struct fs *fs)
{
	if (umount(fs->dir) || mount(fs->loop, fs->dir, "ext2", 0, NULL))
		fail("mount again of %s", fs->loop);
}

static int fs_file(struct fs *fs)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/guest", fs->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, FS_PAGES * PAGE_SIZE))
		fail("%s", path);
	return fd;
}

static void check_file(struct __test_metadata *_metadata, struct fs *fs, u64 first)
{
	int fd;
	u64 val;

	fs_mount_again(fs);
	fd = fs_file(fs);
	for (u64 i = 0; i < FS_PAGES; i++) {
		ASSERT_EQ(8, pread(fd, &val, 8, i * PAGE_SIZE));
		ASSERT_EQ(first + i, val);
	}
	close(fd);
}

TEST(file_is_written_back)
{
	struct fs fs;
	const char *missing = fs_mount(&fs);
	int fd;
	u64 *p;

	if (missing)
		SKIP(return, "%s", missing);
	for (int round = 0; round < 2; round++) {
		start();
		fd = fs_file(&fs);
		p = map_slot(FS_PAGES * PAGE_SIZE, MAP_SHARED, fd);
		ASSERT_NE(NULL, p);
		guest_fill(FS_PAGES, 1000);
		ASSERT_EQ(0, msync(p, FS_PAGES * PAGE_SIZE, MS_SYNC));
		EXPECT_EQ(sum_of(1000, FS_PAGES), guest_sum(FS_PAGES));
		guest_fill(FS_PAGES, 2000);
		/* Written by msync, or by whoever writes back later. */
		if (round == 0) {
			ASSERT_EQ(0, msync(p, FS_PAGES * PAGE_SIZE, MS_SYNC));
		}
		vm_destroy(vm);
		munmap(p, FS_PAGES * PAGE_SIZE);
		close(fd);
		check_file(_metadata, &fs, 2000);
	}
	umount(fs.dir);
	ioctl(fs.loop_fd, LOOP_CLR_FD);
	unlink(fs.image);
	rmdir(fs.dir);
}

/* Pages that a thread of the VMM makes when they are asked for. */
static volatile u32 uffd_faults;

static void *uffd_thread(void *arg)
{
	static u64 page[PAGE_SIZE / 8];
	int fd = *(int *)arg;
	struct uffd_msg msg;

	while (read(fd, &msg, sizeof(msg)) == sizeof(msg)) {
		u64 addr = msg.arg.pagefault.address & -PAGE_SIZE;
		struct uffdio_copy copy = {
			.dst = addr, .src = (uintptr_t)page, .len = PAGE_SIZE,
		};

		if (msg.event != UFFD_EVENT_PAGEFAULT)
			fail("userfaultfd event %u", msg.event);
		page[0] = addr;
		uffd_faults++;
		if (ioctl(fd, UFFDIO_COPY, &copy))
			fail("UFFDIO_COPY");
	}
	return NULL;
}

TEST(userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	pthread_t thread;
	u64 *p;

	if (fd < 0 && errno == ENOSYS)
		SKIP(return, "this kernel has no userfaultfd");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	start();
	p = map_slot(16 * PAGE_SIZE, ANON, -1);
	reg.range.start = (uintptr_t)p;
	reg.range.len = 16 * PAGE_SIZE;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, pthread_create(&thread, NULL, uffd_thread, &fd));
	for (u64 i = 0; i < 16; i++) {
		EXPECT_EQ((uintptr_t)p + i * PAGE_SIZE, guest_read(i * PAGE_SIZE));
		EXPECT_EQ(i + 1, uffd_faults);
	}
	/* There they stay, until they are given up. */
	EXPECT_EQ((uintptr_t)p, guest_read(0));
	EXPECT_EQ(16, uffd_faults);
	ASSERT_EQ(0, madvise(p, 2 * PAGE_SIZE, MADV_DONTNEED));
	guest_write(8, 42);
	EXPECT_EQ(17, uffd_faults);
	EXPECT_EQ(42, p[1]);
	EXPECT_EQ((uintptr_t)p, p[0]);
	EXPECT_EQ((uintptr_t)p + PAGE_SIZE, guest_read(PAGE_SIZE));
	EXPECT_EQ(18, uffd_faults);
}

#ifndef BUS_MCEERR_AR
#define BUS_MCEERR_AR	4
#endif

static siginfo_t sigbus;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	sigbus = *info;
}

/* A page with a memory error is the VMM's to know of, by the signal that its own access gives. */
TEST(broken_memory)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	u64 *p;

	start();
	p = map_slot(4 * PAGE_SIZE, ANON, -1);
	guest_fill(4, 1000);
	ASSERT_EQ(0, sigaction(SIGBUS, &sa, NULL));
	if (madvise(p + AT(PAGE_SIZE), PAGE_SIZE, 100 /* MADV_HWPOISON */)) {
		ASSERT_EQ(EINVAL, errno);
		SKIP(return, "this kernel has no CONFIG_MEMORY_FAILURE");
	}
	/* some kernels tell of it at once, whoever has the page mapped */
	memset(&sigbus, 0, sizeof(sigbus));
	EXPECT_EQ(1000, guest_read(0));
	EXPECT_EQ(-EINTR, guest_try_read(PAGE_SIZE));
	EXPECT_EQ(SIGBUS, sigbus.si_signo);
	EXPECT_EQ(BUS_MCEERR_AR, sigbus.si_code);
	EXPECT_EQ((void *)p + PAGE_SIZE, sigbus.si_addr);
	/* The VMM gives it another page, and the access goes on. */
	ASSERT_NE(MAP_FAILED, mmap(p + AT(PAGE_SIZE), PAGE_SIZE, PROT_READ | PROT_WRITE,
				   ANON | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, guest_read(PAGE_SIZE));
	EXPECT_EQ(1002, guest_read(2 * PAGE_SIZE));
	vm_destroy(vm);
}

static u64 ksm_sharing(void)
{
	FILE *f = fopen("/sys/kernel/mm/ksm/pages_sharing", "r");
	unsigned long n = 0;

	if (!f || fscanf(f, "%lu", &n) != 1)
		fail("pages_sharing");
	fclose(f);
	return n;
}

/* Pages that are alike become one, which no guest can write to. */
TEST(merged_pages)
{
	u64 *p, nr = 64;

	start();
	if (access("/sys/kernel/mm/ksm/run", W_OK))
		SKIP(return, "this kernel has no CONFIG_KSM");
	p = map_slot(nr * PAGE_SIZE, ANON, -1);
	guest_fill(nr, 1000);
	for (u64 i = 0; i < nr; i++)
		p[AT(i * PAGE_SIZE)] = 77;
	guest_write(0, 77);
	ASSERT_EQ(0, madvise(p, nr * PAGE_SIZE, MADV_MERGEABLE));
	ASSERT_TRUE(host_write("/sys/kernel/mm/ksm/sleep_millisecs", "1"));
	ASSERT_TRUE(host_write("/sys/kernel/mm/ksm/run", "1"));
	for (int i = 0; i < 10000 && ksm_sharing() < nr - 1; i++)
		usleep(1000);
	EXPECT_EQ(nr - 1, ksm_sharing());
	EXPECT_EQ(77 * nr, guest_sum(nr));
	guest_write(3 * PAGE_SIZE, 78);
	EXPECT_EQ(78, p[AT(3 * PAGE_SIZE)]);
	EXPECT_EQ(77, p[AT(4 * PAGE_SIZE)]);
	EXPECT_EQ(77 * nr + 1, guest_sum(nr));
	p[AT(5 * PAGE_SIZE)] = 79;
	EXPECT_EQ(77 * nr + 3, guest_sum(nr));
	/* And all their own again. */
	ASSERT_TRUE(host_write("/sys/kernel/mm/ksm/run", "2"));
	EXPECT_EQ(0, ksm_sharing());
	EXPECT_EQ(77 * nr + 3, guest_sum(nr));
	guest_fill(nr, 5000);
	EXPECT_EQ(5063, p[AT(63 * PAGE_SIZE)]);
	host_write("/sys/kernel/mm/ksm/run", "0");
	vm_destroy(vm);
}

/* A child shares the pages: its parent's guest writes to copies of its own. */
TEST(fork_copies_on_write)
{
	u64 *p;
	int status;
	pid_t pid;

	start();
	p = map_slot(4 * PAGE_SIZE, ANON, -1);
	guest_fill(4, 1000);
	pid = fork();
	if (!pid) {
		usleep(100000);
		_exit(p[0] == 1000 ? 0 : 1);
	}
	guest_write(0, 2000);
	EXPECT_EQ(2000, p[0]);
	p[0] = 3000;
	EXPECT_EQ(3000, guest_read(0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

#define SPIN_PAGES	16

/* Counts in each page; every value it reads must be 0 or its own last. */
static void guest_spinner(void)
{
	static u64 last[SPIN_PAGES];
	volatile u64 *p = (volatile u64 *)GPA_USER;

	guest_spins();
	while (!stop) {
		for (u32 i = 0; i < SPIN_PAGES; i++) {
			u64 v = p[AT(i * PAGE_SIZE)];

			if (v && v != last[i])
				GUEST_FAIL("a value from nowhere", v, last[i]);
			last[i] = ++rounds;
			p[AT(i * PAGE_SIZE)] = rounds;
		}
	}
	guest_done();
}

/* All of it under a guest that is running. */
TEST(live)
{
	u64 *p;
	u32 n = 30 * keel_scale;

	swap_on();			/* goes on without */
	vm = vm_create(0);
	vcpu = vcpu_create(vm);
	p = map_slot(SPIN_PAGES * PAGE_SIZE, ANON, -1);
	vcpu_set_long(vcpu, guest_spinner);
	vcpu_start(vcpu);
	for (u32 i = 0; i < n; i++) {
		u32 old = rounds;

		switch (i % 3) {
		case 0:
			madvise(p, SPIN_PAGES * PAGE_SIZE, MADV_DONTNEED);
			break;
		case 1:
			madvise(p, SPIN_PAGES * PAGE_SIZE, MADV_PAGEOUT);
			break;
		case 2:
			/* Fresh memory in place of the old, in one go. */
			mmap(p, SPIN_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     ANON | MAP_FIXED, -1, 0);
			break;
		}
		for (int j = 0; j < 5000 && rounds == old; j++)
			usleep(1000);
		ASSERT_NE(old, rounds);
	}
	stop = 1;
	vcpu_join(vcpu);
	vm_destroy(vm);
	swap_off();
}

static struct kvm_pre_fault_memory range;

static int pre_fault(u64 from, u64 size, u64 flags)
{
	range = (struct kvm_pre_fault_memory){ .gpa = from, .size = size, .flags = flags };
	return sys_ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range);
}

TEST(mapped_before_it_is_read)
{
	const u64 size = 16 * PAGE_SIZE;
	u64 *p;

	if (!dev_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "KVM has it from Linux 6.11 on");
	start();
	p = map_slot(size, ANON, -1);
	madvise(p, size, MADV_NOHUGEPAGE);
	leaves_start();
	EXPECT_EQ(-EINVAL, pre_fault(GPA_USER, size, 1));
	EXPECT_EQ(-EINVAL, pre_fault(GPA_USER, 0, 0));
	EXPECT_EQ(-EINVAL, pre_fault(GPA_USER + 1, size, 0));
	EXPECT_EQ(-EINVAL, pre_fault(GPA_USER, size + 1, 0));
	EXPECT_EQ(-EINVAL, pre_fault(-PAGE_SIZE, 2 * PAGE_SIZE, 0));
	/* No memory there. */
	EXPECT_EQ(-ENOENT, pre_fault(GPA_USER + size, PAGE_SIZE, 0));
	EXPECT_EQ(-ENOENT, pre_fault(GPA_MMIO, PAGE_SIZE, 0));
	EXPECT_EQ(0, leaves().n4k);

	EXPECT_EQ(0, pre_fault(GPA_USER + PAGE_SIZE, 2 * PAGE_SIZE, 0));
	EXPECT_EQ(GPA_USER + 3 * PAGE_SIZE, range.gpa);
	EXPECT_EQ(0, range.size);
	EXPECT_EQ(2, leaves().n4k);
	/* Not the same page, though the tables have no such bit. */
	EXPECT_EQ(-ENOENT, pre_fault(GPA_USER + PAGE_SIZE + (1ULL << 48), PAGE_SIZE, 0));
	/* Again, and over the end: what is left is said. */
	EXPECT_EQ(0, pre_fault(GPA_USER, size + PAGE_SIZE, 0));
	EXPECT_EQ(GPA_USER + size, range.gpa);
	EXPECT_EQ(PAGE_SIZE, range.size);
	EXPECT_EQ(16, leaves().n4k);
	check_both_ways(_metadata, p, 16);

	ASSERT_EQ(0, munmap(p + AT(4 * PAGE_SIZE), PAGE_SIZE));
	EXPECT_EQ(15, leaves().n4k);
	EXPECT_EQ(0, pre_fault(GPA_USER, size, 0));
	EXPECT_EQ(GPA_USER + 4 * PAGE_SIZE, range.gpa);
	EXPECT_EQ(-EFAULT, pre_fault(GPA_USER + 4 * PAGE_SIZE, PAGE_SIZE, 0));
	vm_destroy(vm);
}

#define BIG	(64UL << 20)

/* How many pages of an area there are. */
static int resident(void *p, size_t size)
{
	static unsigned char vec[BIG / PAGE_SIZE];
	int n = 0;

	if (mincore(p, size, vec))
		fail("mincore");
	for (size_t i = 0; i < size / PAGE_SIZE; i++)
		n += vec[i] & 1;
	return n;
}

/* The guest's pages come with its accesses, and go when they are given up. */
TEST(memory_is_demand_paged)
{
	u64 *p;

	start();
	p = map_slot(BIG, ANON | MAP_NORESERVE, -1);
	madvise(p, BIG, MADV_NOHUGEPAGE);
	EXPECT_EQ(0, resident(p, BIG));
	guest_fill(256, 1);
	EXPECT_EQ(256, resident(p, BIG));
	ASSERT_EQ(0, madvise(p, BIG, MADV_DONTNEED));
	EXPECT_EQ(0, resident(p, BIG));
	EXPECT_EQ(0, guest_sum(10));
	/* Read only: the zero page, which is nobody's. */
	EXPECT_GE(10, resident(p, BIG));
}
