// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory is ordinary memory of this process: whatever is done to it, a
 * running guest sees what the process sees, and nothing of what was there.
 */

#include "lib/test.h"

#define HUGE	(2UL << 20)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

static volatile u64 cmd, gpa, value, pages, sum;
static volatile u32 stop, rounds;

enum { CMD_READ, CMD_WRITE, CMD_FILL, CMD_SUM, CMD_SPIN };

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
	check_both_ways(_metadata, p, 1024);
	ASSERT_EQ(0, madvise(p, HUGE, MADV_DONTNEED));
	EXPECT_EQ(0, guest_read(0));
	vm_destroy(vm);
	munmap(p, 2 * HUGE);
	make_hugetlb(0);
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
	guest_fill(1024, 1000);
	ASSERT_EQ(0, madvise(p + AT(5 * PAGE_SIZE), PAGE_SIZE, MADV_DONTNEED));
	EXPECT_EQ(0, guest_read(5 * PAGE_SIZE));
	EXPECT_EQ(1004, guest_read(4 * PAGE_SIZE));
	ASSERT_EQ(0, mprotect(p + AT(HUGE), PAGE_SIZE, PROT_READ));
	EXPECT_EQ(1512, guest_read(HUGE));
	guest_write(HUGE + PAGE_SIZE, 9);
	EXPECT_EQ(9, p[AT(HUGE + PAGE_SIZE)]);
	EXPECT_EQ(-EFAULT, guest_try_write(HUGE));
}

/* Small pages are gathered into a huge one (khugepaged's work, on demand). */
TEST(thp_collapse)
{
	u64 *p = (u64 *)aligned_area(HUGE);

	start();
	madvise(p, HUGE, MADV_NOHUGEPAGE);
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, HUGE, p));
	guest_fill(512, 1000);
	madvise(p, HUGE, MADV_HUGEPAGE);
	if (madvise(p, HUGE, 25 /* MADV_COLLAPSE, 6.1 */))
		SKIP(return, "MADV_COLLAPSE: %s", strerror(errno));
	EXPECT_EQ(sum_of(1000, 512), guest_sum(512));
	check_both_ways(_metadata, p, 512);
}

/* Swapped out where there is swap; dropped and read back where it is a file. */
TEST(pageout)
{
	u64 *p;

	start();
	p = map_slot(64 * PAGE_SIZE, ANON, -1);
	for (int i = 0; i < 3; i++) {
		guest_fill(64, 1000 + i);
		madvise(p, 64 * PAGE_SIZE, MADV_PAGEOUT);
		EXPECT_EQ(sum_of(1000 + i, 64), guest_sum(64));
	}
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
