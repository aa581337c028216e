// SPDX-License-Identifier: GPL-2.0-only
/* KVM_GET_DIRTY_LOG: exactly the pages that were written, each reported once. */

#include "lib/test.h"

#define PAGES	130		/* two words of bitmap and a bit */
#define WORDS	((PAGES + 63) / 64)
#define SIZE	(PAGES * PAGE_SIZE)

static int get_log(struct vm *vm, u32 slot, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

static int clear_log(struct vm *vm, u32 slot, u64 first, u32 n, void *bitmap)
{
	struct kvm_clear_dirty_log log = {
		.slot = slot, .first_page = first, .num_pages = n,
		.dirty_bitmap = bitmap,
	};

	return sys_ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &log);
}

static volatile u8 pages[PAGES];
static volatile u32 nr_pages;

/* Each time around write the pages that the host lists, and tell it. */
static void guest_writer(void)
{
	for (u32 round = 0;; round++) {
		for (u32 i = 0; i < nr_pages; i++)
			(*(volatile u64 *)(GPA_USER + pages[i] * PAGE_SIZE + 8 * i))++;
		/* Reading is not writing. */
		mmio_read32(GPA_USER + 64 * PAGE_SIZE);
		guest_sync(round);
	}
}

static void write_pages(struct vcpu *vcpu, const u8 *list, u32 n)
{
	for (u32 i = 0; i < n; i++)
		pages[i] = list[i];
	nr_pages = n;
	guest_run_sync(vcpu);
}

static bool only_these(const u64 *map, const u8 *list, u32 n)
{
	u64 want[WORDS] = { 0 };
	bool ok;

	for (u32 i = 0; i < n; i++)
		want[list[i] / 64] |= 1ULL << list[i] % 64;
	ok = !memcmp(want, map, sizeof(want));
	for (int i = 0; !ok && i < WORDS; i++)
		fprintf(stderr, "# word %d: want %016llx, got %016llx\n", i,
			(unsigned long long)want[i], (unsigned long long)map[i]);
	return ok;
}

static const u8 some[] = { 0, 1, 5, 63, 65, 129 };
static const u8 others[] = { 2, 5, 100 };

TEST(errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	u64 map[WORDS];

	EXPECT_EQ(-ENOENT, get_log(vm, 3, map));
	vm_add_slot(vm, 3, 0, GPA_USER, SIZE);
	EXPECT_EQ(-ENOENT, get_log(vm, 3, map));		/* no logging */
	EXPECT_EQ(-EINVAL, get_log(vm, 0xff << 16, map));
	EXPECT_EQ(-EINVAL, get_log(vm, 0xfffe, map));
	vm_add_slot(vm, 4, KVM_MEM_LOG_DIRTY_PAGES, 2 * GPA_USER, SIZE);
	EXPECT_EQ(0, get_log(vm, 4, map));
	EXPECT_EQ(-EFAULT, get_log(vm, 4, (void *)8));
	vm_destroy(vm);
}

TEST(writes_are_logged_once)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 map[WORDS + 1];

	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	map[WORDS] = 0x5a5a;
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, NULL, 0));
	write_pages(vcpu, some, sizeof(some));
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, some, sizeof(some)));
	/* Reported, and so clean again. */
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, NULL, 0));
	write_pages(vcpu, others, sizeof(others));
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, others, sizeof(others)));
	for (int i = 0; i < 5; i++) {
		write_pages(vcpu, some, sizeof(some));
		write_pages(vcpu, others, 1);
		ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
		EXPECT_EQ(1ULL << 2, map[0] & 1ULL << 2);
		EXPECT_EQ(1ULL << 1, map[1] & 1ULL << 1);
	}
	EXPECT_EQ(0x5a5a, map[WORDS]);
	vm_destroy(vm);
}

/* Switched on and off under a guest that has its mappings already. */
/* ioctl() as a 32-bit process calls it: the kernel asks who calls, not who was started. */
static int ioctl32(int fd, u32 cmd, const void *arg)
{
	int ret = 54;	/* its number there */

	asm volatile("int $0x80" : "+a"(ret) : "b"(fd), "c"(cmd), "d"((u32)(uintptr_t)arg)
		     : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

TEST(callers_of_32_bits)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	char *area = mmap(NULL, SIZE + 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct kvm_userspace_memory_region *r = (void *)area;
	struct kvm_dirty_log *log = (void *)area;
	u64 *map = (u64 *)(area + PAGE_SIZE);

	if (access("/proc/sys/abi/vsyscall32", F_OK))
		SKIP(return, "this kernel has no CONFIG_IA32_EMULATION");
	ASSERT_NE(MAP_FAILED, (void *)area);
	*r = (struct kvm_userspace_memory_region) {
		.slot = SLOT_USER, .flags = KVM_MEM_LOG_DIRTY_PAGES, .guest_phys_addr = GPA_USER,
		.memory_size = SIZE, .userspace_addr = (uintptr_t)area + 2 * PAGE_SIZE,
	};
	ASSERT_EQ(0, ioctl32(vm->fd, KVM_SET_USER_MEMORY_REGION, r));
	vcpu_set_long(vcpu, guest_writer);
	write_pages(vcpu, some, ARRAY_SIZE(some));
	/* Its pointer is half of a union; the other half is what was on its stack. */
	*log = (struct kvm_dirty_log) {
		.slot = SLOT_USER, .padding2 = (uintptr_t)map | 0xdeadbeefULL << 32,
	};
	ASSERT_EQ(0, ioctl32(vm->fd, KVM_GET_DIRTY_LOG, log));
	EXPECT_TRUE(only_these(map, some, ARRAY_SIZE(some)));
	EXPECT_EQ(-EFAULT, get_log(vm, SLOT_USER, (void *)log->padding2));
	EXPECT_EQ(0, ioctl32(vcpu->fd, KVM_RUN, NULL));
	EXPECT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(-EINVAL, ioctl32(vcpu->fd, KVM_RUN, area));
	vm_destroy(vm);
}

TEST(live_switch)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 map[WORDS];
	void *p;

	p = vm_add_slot(vm, SLOT_USER, 0, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	write_pages(vcpu, some, sizeof(some));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES,
				     GPA_USER, SIZE, p));
		ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
		EXPECT_TRUE(only_these(map, NULL, 0));
		write_pages(vcpu, others, sizeof(others));
		ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
		EXPECT_TRUE(only_these(map, others, sizeof(others)));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, p));
		EXPECT_EQ(-ENOENT, get_log(vm, SLOT_USER, map));
		write_pages(vcpu, some, sizeof(some));
	}
	vm_destroy(vm);
}

/* Huge mappings are split: one write is one page, not 512. */
TEST(huge_pages_are_split)
{
	size_t size = 4 << 20;
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	static u64 map[1024 / 64];
	char *p, *base;

	base = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)base);
	p = (char *)(((uintptr_t)base + size - 1) & -size);
	madvise(p, size, MADV_HUGEPAGE);
	memset(p, 1, size);
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, size, p));
	vcpu_set_long(vcpu, guest_writer);
	write_pages(vcpu, some, sizeof(some));		/* mapped, by 2M if it can */
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, size, p));
	write_pages(vcpu, others, sizeof(others));
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, others, sizeof(others)));
	for (unsigned int i = WORDS; i < ARRAY_SIZE(map); i++) {
		EXPECT_EQ(0, map[i]);
	}
	vm_destroy(vm);
}

/* What the kernel writes for the guest is a write as well. */
static void guest_ins(void)
{
	u64 rdi = GPA_USER + 7 * PAGE_SIZE + 5, rcx = 3;

	guest_sync(0);
	asm volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(0x5a0) : "memory");
	guest_done();
}

TEST(string_io_is_logged)
{
	static const u8 seven[] = { 7 };
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 map[WORDS];

	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_ins);
	guest_run_sync(vcpu);
	while (guest_run(vcpu) != UCALL_DONE) {
		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	}
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, seven, 1));
	vm_destroy(vm);
}

static volatile u32 stop;

static void guest_counter(void)
{
	volatile u64 *p = (volatile u64 *)GPA_USER;

	guest_spins();
	while (!stop) {
		for (u32 i = 0; i < PAGES; i++)
			p[i * PAGE_SIZE / 8]++;
	}
	guest_done();
}

/*
 * The rule of live migration: copy what the log names, and once the guest has
 * stopped, one last round; then source and copy are the same.
 */
TEST(migration)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 map[WORDS];
	char *p, *copy = malloc(SIZE);

	p = vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	memcpy(copy, p, SIZE);
	vcpu_set_long(vcpu, guest_counter);
	vcpu_start(vcpu);
	for (u32 round = 0; round < 20 * keel_scale; round++) {
		u64 old = *(volatile u64 *)p;

		while (!stop && *(volatile u64 *)p == old)
			usleep(500);
		if (round == 20 * keel_scale - 1) {
			stop = 1;
			vcpu_join(vcpu);
		}
		ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
		for (int i = 0; i < PAGES; i++) {
			if (map[i / 64] >> i % 64 & 1)
				memcpy(copy + i * PAGE_SIZE, p + i * PAGE_SIZE, PAGE_SIZE);
		}
	}
	EXPECT_EQ(0, memcmp(copy, p, SIZE));
	EXPECT_NE(0, *(u64 *)p);
	vm_destroy(vm);
}

static int enable_manual(struct vm *vm, u64 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { flags },
	};

	return sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

TEST(manual_protect)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 map[WORDS], clear[WORDS];

	if (!(vm_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & 1))
		SKIP(return, "no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
	EXPECT_EQ(-EINVAL, enable_manual(vm, 1ULL << 40));
	ASSERT_EQ(0, enable_manual(vm, 1));
	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	write_pages(vcpu, some, sizeof(some));
	/* Reading the log leaves it as it is. */
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
		EXPECT_TRUE(only_these(map, some, sizeof(some)));
	}
	EXPECT_EQ(-EINVAL, clear_log(vm, SLOT_USER, 1, 64, map));
	EXPECT_EQ(-EINVAL, clear_log(vm, SLOT_USER, 0, 63, map));
	EXPECT_EQ(-EINVAL, clear_log(vm, SLOT_USER, 0, PAGES + 64, map));
	EXPECT_EQ(-EINVAL, clear_log(vm, SLOT_USER, 1 << 20, 64, map));
	/* Page 5 alone is cleared, and found again once written again. */
	memset(clear, 0, sizeof(clear));
	clear[0] = 1ULL << 5;
	EXPECT_EQ(0, clear_log(vm, SLOT_USER, 0, 64, clear));
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_EQ(1ULL << 0 | 1ULL << 1 | 1ULL << 63, map[0]);
	EXPECT_EQ(1ULL << 1, map[1]);
	/* Up to the end, which is no multiple of 64. */
	memset(clear, 0xff, sizeof(clear));
	EXPECT_EQ(0, clear_log(vm, SLOT_USER, 0, PAGES, clear));
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, NULL, 0));
	write_pages(vcpu, others, sizeof(others));
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_TRUE(only_these(map, others, sizeof(others)));
	vm_destroy(vm);
}

TEST(manual_protect_initially_set)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	u64 map[WORDS];

	if (!(vm_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & 2))
		SKIP(return, "no KVM_DIRTY_LOG_INITIALLY_SET");
	ASSERT_EQ(0, enable_manual(vm, 3));
	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	ASSERT_EQ(0, get_log(vm, SLOT_USER, map));
	EXPECT_EQ(~0ULL, map[0]);
	EXPECT_EQ(~0ULL, map[1]);
	EXPECT_EQ(3, map[2] & 3);
	vm_destroy(vm);
}
