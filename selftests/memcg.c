// SPDX-License-Identifier: GPL-2.0-only
/* What a VM costs is its memory cgroup's, and is given back when the VMM dies. */

#include <sys/prctl.h>
#include <sys/stat.h>

#include "lib/test.h"

#define CGROUPS	"/sys/fs/cgroup/"
#define GROUP	CGROUPS "keel-selftest/"
#define SIZE	(64UL << 20)
#define MB	(1L << 20)

/* "key number" of a file of the group; without a key the file is the number. */
static long value(const char *name, const char *key)
{
	char path[128], line[256];
	long val = -1;
	FILE *f;

	snprintf(path, sizeof(path), GROUP "%s", name);
	f = fopen(path, "r");
	if (!f)
		fail("%s", path);
	while (val < 0 && fgets(line, sizeof(line), f)) {
		if (!key)
			val = atol(line);
		else if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ')
			val = atol(line + strlen(key));
	}
	fclose(f);
	if (val < 0)
		fail("no %s in %s", key ? key : "number", path);
	return val;
}

static void guest_touch(void)
{
	for (u64 off = 0; off < SIZE; off += PAGE_SIZE)
		*(volatile u64 *)(GPA_USER + off) = off + 1;
	guest_done();
}

static void run_vm(int ready)
{
	struct vm *vm;
	struct vcpu *vcpu;
	void *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!host_write(GROUP "cgroup.procs", "0"))
		fail(GROUP "cgroup.procs");
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_create(vm);
	p = vm_add_slot(vm, SLOT_USER, 0, GPA_USER, SIZE);
	/* A table of the second level for each 2M. */
	madvise(p, SIZE, MADV_NOHUGEPAGE);
	vcpu_set_long(vcpu, guest_touch);
	guest_run_done(vcpu);
	if (write(ready, "x", 1) != 1)
		fail("pipe");
	for (;;)
		pause();
}

/* Some numbers are gathered from all CPUs only now and then. */
static bool becomes(const char *name, const char *key, long min, long max)
{
	long val = 0;

	for (int i = 0; i < 200; i++) {
		val = value(name, key);
		if (min <= val && val <= max)
			return true;
		usleep(100000);
	}
	fprintf(stderr, "# %s %s: %ld\n", name, key ? key : "", val);
	return false;
}

TEST(charged_and_given_back)
{
	long tables = SIZE / PAGE_SIZE * 8, before;
	int ready[2], status;
	pid_t pid;
	char c;

	if (!file_has_word(CGROUPS "cgroup.controllers", "", "memory"))
		SKIP(return, "no memory controller in " CGROUPS);
	ASSERT_TRUE(host_write(CGROUPS "cgroup.subtree_control", "+memory"));
	rmdir(GROUP);
	ASSERT_EQ(0, mkdir(GROUP, 0700));
	before = value("memory.current", NULL);
	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid)
		run_vm(ready[1]);
	close(ready[1]);
	EXPECT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TRUE(becomes("memory.current", NULL, before + SIZE, before + SIZE + 16 * MB));
	EXPECT_TRUE(becomes("memory.stat", "sec_pagetables", tables, tables + MB));
	EXPECT_TRUE(becomes("memory.stat", "anon", SIZE, SIZE + 16 * MB));
	kill(pid, SIGKILL);
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(becomes("memory.stat", "sec_pagetables", 0, 0));
	/* Each CPU keeps some 64 pages' worth of charge at hand. */
	EXPECT_TRUE(becomes("memory.current", NULL, 0, before + 2 * MB));
	EXPECT_EQ(0, rmdir(GROUP));
}
