// SPDX-License-Identifier: GPL-2.0-only
/* KVM_SET_USER_MEMORY_REGION: its errors, and changes under a running vCPU. */

#include "lib/test.h"

#define SIZE		(16 * PAGE_SIZE)
#define MMIO_VALUE	0xffffffffU

static void *anon(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

TEST(alignment_and_flags)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	char *p = anon(SIZE);

	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0, SIZE + 1, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0x800, SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0, SIZE, p + 1));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 1U << 5, 0, SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 1U << 31, 0, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, 0, 0, 0, SIZE, p));
}

TEST(limits)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	u32 slots = vm_cap(vm, KVM_CAP_NR_MEMSLOTS);
	char *p = anon(SIZE);

	EXPECT_EQ(-EINVAL, vm_slot(vm, slots + 8, 0, 0, SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0xffff, 0, 0, SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0xff << 16, 0, 0, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, slots - 1, 0, 0, SIZE, p));
	/* Wraps around, or ends above what a guest physical address can be. */
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, -SIZE, 2 * SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 1ULL << 52, SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0x100000, 1ULL << 44, p));
	/* Not an address of userspace. */
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0x100000, SIZE,
				   (void *)0xffff888000000000UL));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0x100000, SIZE, (void *)-PAGE_SIZE));
}

TEST(overlap)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	char *p = anon(4 * SIZE);

	ASSERT_EQ(0, vm_slot(vm, 0, 0, 0x100000, SIZE, p));
	EXPECT_EQ(-EEXIST, vm_slot(vm, 1, 0, 0x100000, SIZE, p));
	EXPECT_EQ(-EEXIST, vm_slot(vm, 1, 0, 0x100000 - PAGE_SIZE, SIZE, p));
	EXPECT_EQ(-EEXIST, vm_slot(vm, 1, 0, 0x100000 + SIZE - PAGE_SIZE, SIZE, p));
	EXPECT_EQ(-EEXIST, vm_slot(vm, 1, 0, 0x100000 - SIZE, 3 * SIZE, p));
	EXPECT_EQ(-EEXIST, vm_slot(vm, 1, 0, 0x100000 + PAGE_SIZE, PAGE_SIZE, p));
	/* Neighbours are no overlap; one hva may back several slots. */
	EXPECT_EQ(0, vm_slot(vm, 1, 0, 0x100000 + SIZE, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, 2, 0, 0x100000 - SIZE, SIZE, p));
	/* A move must not end on another slot either, and then changes nothing. */
	EXPECT_EQ(-EEXIST, vm_slot(vm, 0, 0, 0x100000 + PAGE_SIZE, SIZE, p));
	EXPECT_EQ(-EEXIST, vm_slot(vm, 3, 0, 0x100000, PAGE_SIZE, p));
}

TEST(change_of_a_live_slot)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	char *p = anon(4 * SIZE);

	ASSERT_EQ(0, vm_slot(vm, 0, 0, 0x100000, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, 0, 0, 0x100000, SIZE, p));	/* no change */
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0x100000, 2 * SIZE, p));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0x100000, SIZE, p + SIZE));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, KVM_MEM_READONLY, 0x100000, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0x100000, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, 0, 0, 0x100000, SIZE, p));
	EXPECT_EQ(0, vm_slot(vm, 0, 0, 0x200000, SIZE, p));	/* move */
	EXPECT_EQ(0, vm_slot(vm, 1, 0, 0x100000, SIZE, p));	/* now free */
	EXPECT_EQ(0, vm_slot(vm, 0, 0, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, vm_slot(vm, 0, 0, 0, 0, NULL));	/* gone */
	EXPECT_EQ(-EINVAL, vm_slot(vm, 7, 0, 0, 0, NULL));	/* never was */
	EXPECT_EQ(0, vm_slot(vm, 0, 0, 0x300000, 2 * SIZE, p));	/* id is reused */
}

TEST(many_slots)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	u32 slots = vm_cap(vm, KVM_CAP_NR_MEMSLOTS);
	char *p = anon(PAGE_SIZE);

	if (slots > 512)
		slots = 512;
	for (u32 i = 0; i < slots; i++) {
		ASSERT_EQ(0, vm_slot(vm, i, 0, (u64)i * 2 * PAGE_SIZE, PAGE_SIZE, p));
	}
	for (u32 i = 0; i < slots; i += 2) {
		ASSERT_EQ(0, vm_slot(vm, i, 0, 0, 0, NULL));
	}
	for (u32 i = 0; i < slots; i += 2) {
		ASSERT_EQ(0, vm_slot(vm, i, 0, (u64)i * 2 * PAGE_SIZE, PAGE_SIZE, p));
	}
}

TEST(second_form)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct kvm_userspace_memory_region2 r = {
		.guest_phys_addr = 0x100000, .memory_size = SIZE,
		.userspace_addr = (uintptr_t)anon(SIZE),
	};

	if (!vm_cap(vm, KVM_CAP_USER_MEMORY2))
		SKIP(return, "stock KVM before Linux 6.8 does not have it");
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	r.slot = 1;
	EXPECT_EQ(-EEXIST, sys_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	r.guest_phys_addr += SIZE;
	r.flags = 1U << 2;	/* KVM_MEM_GUEST_MEMFD */
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	r.flags = KVM_MEM_READONLY;
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	r.memory_size = 0;
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	vm_destroy(vm);
}

/* The guest of most tests below: sync what it reads there, for ever. */
static void guest_reader(void)
{
	for (;;)
		guest_sync(mmio_read32(GPA_USER));
}

/* What the guest reads next: a value from memory, or the exit. */
static bool next_read(struct vcpu *vcpu, u32 *val)
{
	enum ucall uc = guest_run(vcpu);

	if (uc == UCALL_NONE && vcpu->run->exit_reason == KVM_EXIT_MMIO &&
	    !vcpu->run->mmio.is_write)
		return false;
	if (uc != UCALL_SYNC)
		fail("exit %u", vcpu->run->exit_reason);
	*val = vcpu->sync;
	return true;
}

TEST(add_delete_move)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 *p = anon(SIZE), *q = anon(SIZE), val = MMIO_VALUE;

	*p = 0x1111;
	*q = 0x2222;
	vcpu_set_long(vcpu, guest_reader);
	EXPECT_FALSE(next_read(vcpu, &val));
	EXPECT_EQ(GPA_USER, vcpu->run->mmio.phys_addr);
	EXPECT_EQ(4, vcpu->run->mmio.len);
	memcpy(vcpu->run->mmio.data, &val, 4);
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(MMIO_VALUE, val);

	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, p));
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x1111, val);
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, 0, 0, NULL));
	EXPECT_FALSE(next_read(vcpu, &val));
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, q));
	/* The value of the MMIO exit above is delivered, and then memory read. */
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x2222, val);
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER + SIZE, SIZE, q));
	EXPECT_FALSE(next_read(vcpu, &val));
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, q));
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x2222, val);
	vm_destroy(vm);
}

/* The neighbours of a slot among as many as there can be are told apart. */
TEST(as_many_as_there_can_be)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 slots = vm_cap(vm, KVM_CAP_NR_MEMSLOTS), id, val;
	u32 *p = anon(PAGE_SIZE), *q = anon(PAGE_SIZE);
	u64 gpa;

	/* the array of them is copied for each: 4 GB, a minute's work or two */
	if (host_is_bochs_vmx() || host_is_bochs_svm() || host_is_debug_kernel())
		slots = slots < 4096 ? slots : 4096;
	gpa = GPA_USER - (u64)(slots - SLOT_USER) / 2 * PAGE_SIZE;
	*p = 0x1111;
	*q = 0x2222;
	for (id = SLOT_USER; id < slots; id++, gpa += PAGE_SIZE) {
		if (vm_slot(vm, id, 0, gpa, PAGE_SIZE, gpa == GPA_USER ? q : p))
			break;
	}
	ASSERT_EQ(slots, id);
	EXPECT_EQ(-EEXIST, vm_slot(vm, SLOT_USER, 0, GPA_USER, PAGE_SIZE, p));
	vcpu_set_long(vcpu, guest_reader);
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x2222, val);
	/* gone while its neighbours stay */
	id = SLOT_USER + (slots - SLOT_USER) / 2;
	ASSERT_EQ(0, vm_slot(vm, id, 0, 0, 0, NULL));
	EXPECT_FALSE(next_read(vcpu, &val));
	ASSERT_EQ(0, vm_slot(vm, id, 0, GPA_USER, PAGE_SIZE, p));
	EXPECT_TRUE(next_read(vcpu, &val));	/* the exit's value */
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x1111, val);
	vm_destroy(vm);
}

static void guest_rom(void)
{
	GUEST_ASSERT_EQ(mmio_read32(GPA_USER), 0x1234);
	mmio_write32(GPA_USER + 8, 0x5678);		/* exits */
	GUEST_ASSERT_EQ(mmio_read32(GPA_USER + 8), 0);	/* and changes nothing */
	/* Code in a read-only slot runs without an exit: mov $7, %eax; ret. */
	GUEST_ASSERT_EQ(((u32 (*)(void))(GPA_USER + 0x100))(), 7);
	guest_done();
}

TEST(read_only_slot)
{
	static const u8 code[] = { 0xb8, 7, 0, 0, 0, 0xc3 };
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 *p = anon(SIZE), val;

	p[0] = 0x1234;
	memcpy((char *)p + 0x100, code, sizeof(code));
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_READONLY, GPA_USER, SIZE, p));
	vcpu_set_long(vcpu, guest_rom);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(1, vcpu->run->mmio.is_write);
	EXPECT_EQ(4, vcpu->run->mmio.len);
	EXPECT_EQ(GPA_USER + 8, vcpu->run->mmio.phys_addr);
	memcpy(&val, vcpu->run->mmio.data, 4);
	EXPECT_EQ(0x5678, val);
	guest_run_done(vcpu);
	EXPECT_EQ(0, p[2]);
	vm_destroy(vm);
}

/* The same with host memory that is not writable either: a mapped ROM file. */
TEST(read_only_slot_over_read_only_memory)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 *p = anon(SIZE), val;

	p[0] = 0x4242;
	ASSERT_EQ(0, mprotect(p, SIZE, PROT_READ));
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_READONLY, GPA_USER, SIZE, p));
	vcpu_set_long(vcpu, guest_reader);
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x4242, val);
	vm_destroy(vm);
}

TEST(unmapped_hva_is_efault)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 *p = anon(SIZE), val;

	ASSERT_EQ(0, munmap(p, SIZE));
	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, p));
	vcpu_set_long(vcpu, guest_reader);
	EXPECT_EQ(-EFAULT, vcpu_run(vcpu));
	EXPECT_EQ(-EFAULT, vcpu_run(vcpu));
	/* The access is tried again, and succeeds, once there is memory. */
	ASSERT_EQ((void *)p, mmap(p, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				  MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	*p = 0x77;
	EXPECT_TRUE(next_read(vcpu, &val));
	EXPECT_EQ(0x77, val);
	vm_destroy(vm);
}

static volatile u32 stop, bad_value, saw_a, saw_b, saw_mmio;

static void guest_spin_reader(void)
{
	guest_spins();
	while (!stop) {
		u32 val = mmio_read32(GPA_USER);

		if (val == 0xaaaa)
			saw_a++;
		else if (val == 0xbbbb)
			saw_b++;
		else if (val == MMIO_VALUE)
			saw_mmio++;
		else
			bad_value = val;
	}
	guest_done();
}

/* Answer MMIO reads until the guest is done. */
static void *serve_mmio(void *arg)
{
	struct vcpu *vcpu = arg;

	for (;;) {
		enum ucall uc = guest_run(vcpu);

		if (uc == UCALL_DONE)
			return NULL;
		if (uc != UCALL_NONE || vcpu->run->exit_reason != KVM_EXIT_MMIO)
			fail("exit %u", vcpu->run->exit_reason);
		memset(vcpu->run->mmio.data, 0xff, 8);
	}
}

/* Wait, but not for ever, until the guest has moved on. */
static bool moves_on(volatile u32 *counter)
{
	u32 old = *counter;

	for (int i = 0; i < 5000; i++) {
		if (*counter != old)
			return true;
		usleep(1000);
	}
	return false;
}

TEST(live_changes)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 *a = anon(SIZE), *b = anon(SIZE);

	*a = 0xaaaa;
	*b = 0xbbbb;
	vcpu_set_long(vcpu, guest_spin_reader);
	vcpu_start_fn(vcpu, serve_mmio);
	for (u32 i = 0; i < 10 * keel_scale; i++) {
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, a));
		ASSERT_TRUE(moves_on(&saw_a));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, 0, 0, NULL));
		ASSERT_TRUE(moves_on(&saw_mmio));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_READONLY, GPA_USER, SIZE, b));
		ASSERT_TRUE(moves_on(&saw_b));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_READONLY,
				     GPA_USER + SIZE, SIZE, b));
		ASSERT_TRUE(moves_on(&saw_mmio));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, 0, 0, NULL));
	}
	stop = 1;
	vcpu_join(vcpu);
	EXPECT_EQ(0, bad_value);
	vm_destroy(vm);
}

static void guest_spin_writer(void)
{
	u32 i = 0;

	guest_spins();
	while (!stop)
		mmio_write32(GPA_USER, ++i);
	guest_done();
}

/* Once the deletion has returned nobody writes to that memory any more. */
TEST(no_write_after_delete)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	volatile u32 *p = anon(SIZE);

	ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, (void *)p));
	vcpu_set_long(vcpu, guest_spin_writer);
	vcpu_start_fn(vcpu, serve_mmio);
	for (u32 i = 0; i < 10 * keel_scale; i++) {
		u32 val;

		ASSERT_TRUE(moves_on(p));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, 0, 0, NULL));
		val = *p;
		usleep(2000);
		ASSERT_EQ(val, *p);
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, (void *)p));
	}
	stop = 1;
	vcpu_join(vcpu);
	vm_destroy(vm);
}

/* Without any memory at all, not even the reset vector's. */
TEST(no_memory)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);

	/* Stock KVM counts MMU pages after the slots and has none here: ENOSPC. */
	sys_ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, (void *)64UL);
	ASSERT_EQ(0, vcpu_run(vcpu));
	EXPECT_TRUE(vcpu->run->exit_reason == KVM_EXIT_INTERNAL_ERROR ||
		    vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN)
		TH_LOG("exit %s", exit_name(vcpu->run->exit_reason));
	vm_destroy(vm);
}
