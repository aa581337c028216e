// SPDX-License-Identifier: GPL-2.0-only
/* KVM_GET_STATS_FD: counters that describe themselves. */

#include <glob.h>

#include "lib/test.h"

#define MAX_STATS	256
#define NAME_MAX_LEN	128

struct stats {
	struct kvm_stats_header head;
	struct kvm_stats_desc *desc[MAX_STATS];
	char *raw;
};

static void read_stats(struct __test_metadata *_metadata, int fd, struct stats *s)
{
	size_t one;

	ASSERT_EQ(sizeof(s->head), pread(fd, &s->head, sizeof(s->head), 0));
	ASSERT_LT(0, s->head.num_desc);
	ASSERT_GE(MAX_STATS, s->head.num_desc);
	ASSERT_LT(0, s->head.name_size);
	ASSERT_GE(NAME_MAX_LEN, s->head.name_size);
	EXPECT_LE(sizeof(s->head), s->head.id_offset);
	EXPECT_LE(sizeof(s->head), s->head.desc_offset);
	EXPECT_LE(sizeof(s->head), s->head.data_offset);
	one = sizeof(struct kvm_stats_desc) + s->head.name_size;
	s->raw = calloc(s->head.num_desc, one);
	ASSERT_EQ(one * s->head.num_desc,
		  pread(fd, s->raw, one * s->head.num_desc, s->head.desc_offset));
	for (u32 i = 0; i < s->head.num_desc; i++)
		s->desc[i] = (struct kvm_stats_desc *)(s->raw + i * one);
}

static void check_stats(struct __test_metadata *_metadata, int fd, struct stats *s)
{
	char id[NAME_MAX_LEN];
	u32 end = 0;
	u64 val;

	ASSERT_LT(0, pread(fd, id, s->head.name_size, s->head.id_offset));
	EXPECT_NE(0, id[0]);
	for (u32 i = 0; i < s->head.num_desc; i++) {
		struct kvm_stats_desc *d = s->desc[i];
		u32 len = d->size * 8;

		EXPECT_GT(s->head.name_size, strnlen(d->name, s->head.name_size));
		EXPECT_NE(0, d->name[0]);
		EXPECT_GE(KVM_STATS_TYPE_MAX, d->flags & KVM_STATS_TYPE_MASK);
		EXPECT_GE(KVM_STATS_UNIT_MAX, d->flags & KVM_STATS_UNIT_MASK);
		EXPECT_GE(KVM_STATS_BASE_MAX, d->flags & KVM_STATS_BASE_MASK);
		EXPECT_LT(0, d->size);
		EXPECT_EQ(0, d->offset % 8);
		EXPECT_EQ(8, pread(fd, &val, 8, s->head.data_offset + d->offset))
			TH_LOG("%s", d->name);
		if (d->offset + len > end)
			end = d->offset + len;
		for (u32 j = 0; j < i; j++) {
			EXPECT_NE(0, strcmp(d->name, s->desc[j]->name));
		}
	}
	/* Nothing lies behind the last. */
	EXPECT_EQ(0, pread(fd, &val, 8, s->head.data_offset + end));
	EXPECT_EQ(0, pread(fd, &val, 8, 1ULL << 40));
}

static u64 total(int fd, struct stats *s, const char *name)
{
	u64 sum = 0, val;

	for (u32 i = 0; i < s->head.num_desc; i++) {
		struct kvm_stats_desc *d = s->desc[i];

		if (name && strcmp(name, d->name))
			continue;
		if ((d->flags & KVM_STATS_TYPE_MASK) != KVM_STATS_TYPE_CUMULATIVE)
			continue;
		if (pread(fd, &val, 8, s->head.data_offset + d->offset) == 8)
			sum += val;
	}
	return sum;
}

static void guest_loop(void)
{
	for (u32 i = 0;; i++)
		guest_sync(i);
}

TEST(vcpu_stats)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct stats s;
	u64 before;
	int fd;

	if (vm_cap(vm, KVM_CAP_BINARY_STATS_FD) <= 0)
		SKIP(return, "no KVM_CAP_BINARY_STATS_FD");
	fd = sys_ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);
	ASSERT_LE(0, fd);
	read_stats(_metadata, fd, &s);
	check_stats(_metadata, fd, &s);
	before = total(fd, &s, "exits");
	vcpu_set_long(vcpu, guest_loop);
	for (u32 i = 0; i < 50; i++) {
		ASSERT_EQ(i, guest_run_sync(vcpu));
	}
	/* The name that QEMU and people look for. */
	EXPECT_LE(before + 50, total(fd, &s, "exits"));
	vm_destroy(vm);
	/* The counters outlive their object's fds as long as they are open. */
	EXPECT_EQ(sizeof(s.head), pread(fd, &s.head, sizeof(s.head), 0));
	close(fd);
}

TEST(vm_stats)
{
	struct vm *vm = vm_create(0);
	struct stats s;
	int fd;

	if (vm_cap(vm, KVM_CAP_BINARY_STATS_FD) <= 0)
		SKIP(return, "no KVM_CAP_BINARY_STATS_FD");
	fd = sys_ioctl(vm->fd, KVM_GET_STATS_FD, NULL);
	ASSERT_LE(0, fd);
	read_stats(_metadata, fd, &s);
	check_stats(_metadata, fd, &s);
	/* Read-only: nobody can falsify them. */
	EXPECT_EQ(-1, write(fd, &s, 8));
	close(fd);
	vm_destroy(vm);
}

/* Clients (libvirt) keep the descriptions of both in one table, by name. */
TEST(no_name_twice)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct stats a, b;

	if (vm_cap(vm, KVM_CAP_BINARY_STATS_FD) <= 0)
		SKIP(return, "no KVM_CAP_BINARY_STATS_FD");
	read_stats(_metadata, sys_ioctl(vm->fd, KVM_GET_STATS_FD, NULL), &a);
	read_stats(_metadata, sys_ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL), &b);
	for (u32 i = 0; i < a.head.num_desc; i++) {
		for (u32 j = 0; j < b.head.num_desc; j++) {
			EXPECT_NE(0, strcmp(a.desc[i]->name, b.desc[j]->name))
				TH_LOG("%s", a.desc[i]->name);
		}
	}
	vm_destroy(vm);
}

/* A short read, as `od` does it, goes on where it stopped. */
TEST(sequential_read)
{
	struct vm *vm = vm_create(0);
	char a[256], b[256];
	int fd;

	if (vm_cap(vm, KVM_CAP_BINARY_STATS_FD) <= 0)
		SKIP(return, "no KVM_CAP_BINARY_STATS_FD");
	fd = sys_ioctl(vm->fd, KVM_GET_STATS_FD, NULL);
	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(a), pread(fd, a, sizeof(a), 0));
	for (unsigned int i = 0; i < sizeof(b); i++) {
		ASSERT_EQ(1, read(fd, b + i, 1));
	}
	EXPECT_EQ(0, memcmp(a, b, sizeof(a)));
	vm_destroy(vm);
}

/* Compare lines "name value [value ...]" with the counters of an fd. */
static void compare(struct __test_metadata *_metadata, FILE *f, int fd, int column)
{
	struct stats s;
	u64 val;

	read_stats(_metadata, fd, &s);
	for (u32 i = 0; i < s.head.num_desc; i++) {
		char line[512], name[NAME_MAX_LEN] = "";
		unsigned long long shown[2] = { 0 };

		ASSERT_NE(NULL, fgets(line, sizeof(line), f));
		ASSERT_LT(column + 1, sscanf(line, "%127s %llu %llu", name, &shown[0],
					     &shown[1]));
		EXPECT_EQ(0, strcmp(name, s.desc[i]->name))
			TH_LOG("%s, not %s", name, s.desc[i]->name);
		ASSERT_EQ(8, pread(fd, &val, 8, s.head.data_offset + s.desc[i]->offset));
		EXPECT_EQ(val, shown[column])
			TH_LOG("%s", name);
	}
}

/* The same for people: the VM's counters, an empty line, a head, the vCPUs'. */
TEST(debugfs_says_the_same)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	char pattern[64], line[512];
	glob_t g;
	FILE *f;

	if (dev_is_kvm())
		SKIP(return, "stock KVM has a file for each counter instead");
	if (access("/sys/kernel/debug/keel", F_OK))
		SKIP(return, "no debugfs at /sys/kernel/debug");
	vcpu_set_long(vcpu, guest_loop);
	for (u32 i = 0; i < 50; i++) {
		ASSERT_EQ(i, guest_run_sync(vcpu));
	}
	snprintf(pattern, sizeof(pattern), "/sys/kernel/debug/keel/%d-*/stats", getpid());
	ASSERT_EQ(0, glob(pattern, 0, NULL, &g));
	ASSERT_EQ(1, g.gl_pathc);
	f = fopen(g.gl_pathv[0], "r");
	ASSERT_NE(NULL, f);
	compare(_metadata, f, sys_ioctl(vm->fd, KVM_GET_STATS_FD, NULL), 0);
	ASSERT_NE(NULL, fgets(line, sizeof(line), f));
	EXPECT_EQ('\n', line[0]);
	ASSERT_NE(NULL, fgets(line, sizeof(line), f));
	EXPECT_EQ(0, strncmp(line, "vcpu ", 5));
	/* Behind the sum: the first vCPU's own. */
	compare(_metadata, f, sys_ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL), 1);
	EXPECT_EQ(NULL, fgets(line, sizeof(line), f));
	fclose(f);
	vm_destroy(vm);
}
