// SPDX-License-Identifier: GPL-2.0-only
/* KVM_CAP_DIRTY_LOG_RING: pages that were written, in a ring of each vCPU. */

#include <asm/kvm_para.h>

#include "lib/test.h"

/* More than stock KVM keeps in reserve where it has page-modification logging. */
#define ENTRIES		1024
#define RING_SIZE	(ENTRIES * sizeof(struct kvm_dirty_gfn))
/* What it keeps at least, and at most. */
#define RESERVED_MIN	64
#define RESERVED_MAX	(64 + 512)

#define PAGES		2000
#define SIZE		(PAGES * PAGE_SIZE)

struct ring {
	volatile struct kvm_dirty_gfn *gfn;
	u32 next;
};

static u8 seen[PAGES];		/* how often each page was in a ring */

static int enable(struct vm *vm, u32 cap, u64 size)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { size } };

	return sys_ioctl(vm->fd, KVM_ENABLE_CAP, &c);
}

static int reset(struct vm *vm)
{
	return sys_ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, NULL);
}

static void *map_ring(struct vcpu *vcpu, size_t size, int prot, int flags)
{
	return mmap(NULL, size, prot, flags, vcpu->fd,
		    KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE);
}

static struct ring ring_of(struct vcpu *vcpu)
{
	struct ring r = {
		.gfn = map_ring(vcpu, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED),
	};

	if (r.gfn == MAP_FAILED)
		fail("mmap of the ring");
	return r;
}

/* Take what is there of @slot's pages into seen[]. Return: how many entries. */
static u32 collect(struct ring *r, u32 slot)
{
	volatile struct kvm_dirty_gfn *e;
	u32 n = 0;

	for (;; n++) {
		e = &r->gfn[r->next % ENTRIES];
		if (__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			return n;
		if (e->slot == slot && e->offset < PAGES)
			seen[e->offset]++;
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		r->next++;
	}
}

static struct vm *vm_with_ring(unsigned int flags)
{
	struct vm *vm = vm_create(flags);

	if (enable(vm, KVM_CAP_DIRTY_LOG_RING, RING_SIZE))
		fail("KVM_ENABLE_CAP of the ring");
	return vm;
}

static volatile u32 first, count, step;

/* Each time around write @count pages from @first on, and tell the host. */
static void guest_writer(void)
{
	for (u32 round = 0;; round++) {
		for (u32 i = 0; i < count; i++)
			(*(volatile u64 *)(GPA_USER + (first + i * step) * PAGE_SIZE))++;
		/* Reading is not writing, and this page cannot be seen otherwise. */
		mmio_read32(GPA_USER + 8);
		guest_sync(round);
	}
}

static void set_pages(u32 from, u32 n, u32 by)
{
	first = from;
	count = n;
	step = by;
}

static bool only_these(u32 from, u32 n, u32 by)
{
	u32 wrong = 0;

	for (u32 i = 0; i < PAGES; i++) {
		bool want = i >= from && (i - from) % by == 0 && (i - from) / by < n;

		/* stock KVM makes a page writable, and dirty, that is read */
		if (seen[i] && !want && i == 0)
			continue;
		if (!!seen[i] != want && !wrong++)
			fprintf(stderr, "# page %u: seen %u times\n", i, seen[i]);
	}
	memset(seen, 0, sizeof(seen));
	return !wrong;
}

TEST(errors)
{
	long max = 65536 * sizeof(struct kvm_dirty_gfn);
	struct vm *vm = vm_create(0);
	struct kvm_dirty_log log = { .slot = SLOT_USER };
	struct kvm_clear_dirty_log clear = { .slot = SLOT_USER };
	struct vcpu *vcpu;

	EXPECT_EQ(max, vm_cap(vm, KVM_CAP_DIRTY_LOG_RING));
	EXPECT_EQ(max, vm_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	EXPECT_EQ(-EINVAL, reset(vm));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, 0));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, 2048));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, RING_SIZE + 16));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, max + 4096));
	EXPECT_EQ(-E2BIG, enable(vm, KVM_CAP_DIRTY_LOG_RING, 2 * max));
	/* the size is 32 bits of the argument */
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, 1ULL << 32));
	EXPECT_EQ(-ENOENT, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	EXPECT_EQ(0, enable(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, RING_SIZE));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, RING_SIZE));
	EXPECT_EQ(0, reset(vm));

	/* the bitmap is not there any more, whatever the slot */
	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	EXPECT_EQ(-ENXIO, sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));

	vcpu = vcpu_create(vm);
	EXPECT_EQ(MAP_FAILED, map_ring(vcpu, RING_SIZE, PROT_READ, MAP_PRIVATE));
	EXPECT_EQ(MAP_FAILED, map_ring(vcpu, RING_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED));
	EXPECT_NE(MAP_FAILED, map_ring(vcpu, RING_SIZE, PROT_READ, MAP_SHARED));
	vm_destroy(vm);

	vm = vm_create(0);
	vcpu_create(vm);
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_DIRTY_LOG_RING, RING_SIZE));
	EXPECT_EQ(-EINVAL, reset(vm));
	vm_destroy(vm);
}

/* What is behind the ring in the mapping, and all of it where there is none. */
TEST(mapping)
{
	struct vm *vm = vm_with_ring(0);
	int p[2];
	char *ring;

	ASSERT_EQ(0, pipe(p));
	ring = map_ring(vcpu_create(vm), RING_SIZE + PAGE_SIZE, PROT_READ | PROT_WRITE,
			MAP_SHARED);
	ASSERT_NE(MAP_FAILED, ring);
	EXPECT_EQ(1, write(p[1], ring, 1));
	EXPECT_EQ(1, write(p[1], ring + RING_SIZE - 1, 1));
	EXPECT_EQ(-1, write(p[1], ring + RING_SIZE, 1));
	EXPECT_EQ(EFAULT, errno);
	vm_destroy(vm);

	vm = vm_create(0);
	ring = map_ring(vcpu_create(vm), PAGE_SIZE, PROT_READ, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, ring);
	EXPECT_EQ(-1, write(p[1], ring, 1));
	EXPECT_EQ(EFAULT, errno);
	vm_destroy(vm);
}

TEST(writes_are_in_the_ring)
{
	struct vm *vm = vm_with_ring(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct ring r = ring_of(vcpu);
	u32 n;

	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	EXPECT_EQ(0, reset(vm));
	for (int i = 0; i < 3; i++) {
		set_pages(1 + i, 100, 7);
		guest_run_sync(vcpu);
		n = collect(&r, SLOT_USER);
		EXPECT_LE(100, n);
		EXPECT_TRUE(only_these(1 + i, 100, 7));
		/* collected, but not yet reset: nobody notices */
		guest_run_sync(vcpu);
		EXPECT_EQ(0, collect(&r, SLOT_USER));
		EXPECT_EQ(n, reset(vm));
		EXPECT_EQ(0, reset(vm));
		guest_run_sync(vcpu);
		n = collect(&r, SLOT_USER);
		EXPECT_LE(100, n);
		EXPECT_TRUE(only_these(1 + i, 100, 7));
		EXPECT_EQ(n, reset(vm));
	}
	vm_destroy(vm);
}

/* Switched on and off under a guest that has its mappings already. */
TEST(live_switch)
{
	struct vm *vm = vm_with_ring(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct ring r = ring_of(vcpu);
	void *p;

	p = vm_add_slot(vm, SLOT_USER, 0, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	set_pages(1, 50, 3);
	guest_run_sync(vcpu);
	EXPECT_EQ(0, collect(&r, SLOT_USER));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES,
				     GPA_USER, SIZE, p));
		guest_run_sync(vcpu);
		EXPECT_LE(50, collect(&r, SLOT_USER));
		EXPECT_TRUE(only_these(1, 50, 3));
		EXPECT_LE(50, reset(vm));
		ASSERT_EQ(0, vm_slot(vm, SLOT_USER, 0, GPA_USER, SIZE, p));
		guest_run_sync(vcpu);
		EXPECT_EQ(0, collect(&r, SLOT_USER));
	}
	vm_destroy(vm);
}

TEST(full)
{
	struct vm *vm = vm_with_ring(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct ring r = ring_of(vcpu);
	u32 n, exits = 0;

	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	set_pages(1, PAGES - 1, 1);
	while (guest_run(vcpu) != UCALL_SYNC) {
		ASSERT_EQ(KVM_EXIT_DIRTY_RING_FULL, vcpu->run->exit_reason);
		/* until it is not */
		ASSERT_EQ(0, vcpu_run(vcpu));
		ASSERT_EQ(KVM_EXIT_DIRTY_RING_FULL, vcpu->run->exit_reason);
		n = collect(&r, SLOT_USER);
		EXPECT_LE(ENTRIES - RESERVED_MAX, n);
		EXPECT_GE(ENTRIES - RESERVED_MIN, n);
		/* collecting is not enough */
		ASSERT_EQ(0, vcpu_run(vcpu));
		ASSERT_EQ(KVM_EXIT_DIRTY_RING_FULL, vcpu->run->exit_reason);
		EXPECT_EQ(n, reset(vm));
		exits++;
	}
	EXPECT_LE(2, exits);
	collect(&r, SLOT_USER);
	EXPECT_TRUE(only_these(1, PAGES - 1, 1));
	vm_destroy(vm);
}

#define CLOCK_PAGE	10
#define MOVS_PAGE	20

static volatile u32 rounds;

static void guest_lets_others_write(void)
{
	for (;;) {
		u64 from = GPA_MMIO, to = GPA_USER + MOVS_PAGE * PAGE_SIZE;

		wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (GPA_USER + CLOCK_PAGE * PAGE_SIZE) | 1);
		for (u32 i = 0; i < rounds; i++)
			asm volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
		guest_sync(0);
	}
}

static void run_movs(struct vcpu *vcpu)
{
	while (guest_run(vcpu) != UCALL_SYNC) {
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			fail("exit reason %u", vcpu->run->exit_reason);
		memset(vcpu->run->mmio.data, 0x5a, 4);
	}
}

/* kvmclock, and instructions that are emulated. */
TEST(writes_by_the_hypervisor)
{
	struct vm *vm = vm_with_ring(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct ring r = ring_of(vcpu);
	u32 *p;

	p = vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_lets_others_write);
	for (int i = 0; i < 3; i++) {
		rounds = 1 + i;
		run_movs(vcpu);
		EXPECT_LE(2, collect(&r, SLOT_USER));
		EXPECT_NE(0, seen[CLOCK_PAGE]);
		EXPECT_NE(0, seen[MOVS_PAGE]);
		seen[CLOCK_PAGE] = 0;
		seen[MOVS_PAGE] = 0;
		EXPECT_TRUE(only_these(0, 0, 1));
		EXPECT_LE(2, reset(vm));
		EXPECT_EQ(0x5a5a5a5aU, p[MOVS_PAGE * PAGE_SIZE / 4 + i]);
	}
	vm_destroy(vm);
}

/* Each vCPU has its own, and one call resets all. */
TEST(two_vcpus)
{
	struct vm *vm = vm_with_ring(VM_IRQCHIP);
	struct vcpu *vcpu[2];
	struct ring r[2];
	u32 n[2];

	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	for (int i = 0; i < 2; i++) {
		struct kvm_mp_state run = { KVM_MP_STATE_RUNNABLE };

		vcpu[i] = vcpu_create(vm);
		r[i] = ring_of(vcpu[i]);
		vcpu_set_long(vcpu[i], guest_writer);
		VCPU_IOCTL(vcpu[i], KVM_SET_MP_STATE, &run);
	}
	for (int round = 0; round < 3; round++) {
		set_pages(1, 10, 1);
		guest_run_sync(vcpu[0]);
		set_pages(100, 20, 1);
		guest_run_sync(vcpu[1]);
		n[0] = collect(&r[0], SLOT_USER);
		EXPECT_TRUE(only_these(1, 10, 1));
		n[1] = collect(&r[1], SLOT_USER);
		EXPECT_TRUE(only_these(100, 20, 1));
		EXPECT_EQ(n[0] + n[1], reset(vm));
	}
	vm_destroy(vm);
}

static volatile bool stop;

static void *scribble(void *ring)
{
	volatile u64 *p = ring;
	u64 x = 88172645463325252ULL;

	while (!stop) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[x % (RING_SIZE / 8)] = x >> 32 & 1 ? x : x & 3;
	}
	return NULL;
}

/* A VMM that writes anything there at any time spoils nothing but its log. */
TEST(hostile)
{
	struct vm *vm;
	struct vcpu *vcpu;
	struct ring r;
	pthread_t t;
	int ret;

	if (dev_is_kvm())
		SKIP(return, "stock 6.1 resets what was never used, and warns");
	vm = vm_with_ring(0);
	vcpu = vcpu_create(vm);
	r = ring_of(vcpu);
	vm_add_slot(vm, SLOT_USER, KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE);
	vcpu_set_long(vcpu, guest_writer);
	/* entries that no vCPU wrote */
	for (int i = 0; i < ENTRIES; i++) {
		r.gfn[i].slot = SLOT_USER;
		r.gfn[i].flags = KVM_DIRTY_GFN_F_RESET;
	}
	EXPECT_EQ(0, reset(vm));
	set_pages(1, PAGES - 1, 1);
	ASSERT_EQ(0, pthread_create(&t, NULL, scribble, (void *)r.gfn));
	for (u32 i = 0; i < 200 * keel_scale; i++) {
		if (guest_run(vcpu) == UCALL_NONE)
			ASSERT_EQ(KVM_EXIT_DIRTY_RING_FULL, vcpu->run->exit_reason);
		ret = reset(vm);
		ASSERT_LE(0, ret);
		ASSERT_GE(ENTRIES, ret);
	}
	stop = true;
	pthread_join(t, NULL);

	/* all that is left is collected, and the log works again */
	for (int i = 0; i < ENTRIES; i++)
		r.gfn[i].flags = KVM_DIRTY_GFN_F_RESET;
	EXPECT_LE(0, reset(vm));
	EXPECT_EQ(0, reset(vm));
	set_pages(1, 1, 1);
	for (int i = 0; i < 2 && guest_run(vcpu) != UCALL_SYNC; i++)
		EXPECT_NE(KVM_EXIT_DIRTY_RING_FULL, vcpu->run->exit_reason);
	vm_destroy(vm);
}
