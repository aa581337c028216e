// SPDX-License-Identifier: GPL-2.0-only
/* Guest memory: faults, dirty logging, slots, and what the kernel pays. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define FAULT_PAGES	512
#define SIZE_2M		(2UL << 20)
#define SIZE_1G		(1UL << 30)

static volatile u64 stride;	/* between the pages that the guest touches */

static u64 slot_bytes(void)
{
	return around.memory ?: SIZE_1G;
}

/* Written between two looks at a log, of slot_bytes(). */
static u32 dirty_count(void)
{
	u64 n = around.dirty ?: 1000, most = slot_bytes() / PAGE_SIZE;

	return n < most ? n : most;
}

/* Touch what the slot at GPA_BIG has, from its end. */
static void guest_op_touch(void)
{
	volatile u64 *p;

	GUEST_BATCHES(, p = (volatile u64 *)(GPA_BIG + (__n - 1) * stride); *p = __n);
}

static void check_touched(struct bench *b)
{
	for (u64 i = 0; i < b->n; i++) {
		u64 *p = (u64 *)((char *)b->mem + i * stride);

		if (*p != i + 1)
			fail("%s: page %llu was not written", b->op->name,
			     (unsigned long long)i);
		*p = 0;
	}
}

static void map(struct bench *b, u64 size, int flags)
{
	b->size = size;
	b->mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
	if (b->mem == MAP_FAILED && !flags)
		fail("mmap of %llu bytes", (unsigned long long)size);
	if (b->mem == MAP_FAILED)
		b->mem = NULL;
	else if (!flags)
		madvise(b->mem, size, MADV_NOHUGEPAGE);
}

static void cleanup_map(struct bench *b)
{
	if (b->mem)
		munmap(b->mem, b->size);
}

static void set_slot(struct bench *b, u32 flags, u64 size)
{
	int ret = vm_slot(b->vm, SLOT_USER, flags, GPA_BIG, size, b->mem);

	if (ret)
		fail("%s: slot: %d", b->op->name, ret);
}

/* A slot that is made anew has nothing mapped, while the host has the pages. */
static void before_fault(struct bench *b)
{
	for (u64 i = 0; i < b->n; i++)
		*((volatile u8 *)b->mem + i * stride) = 0;
	set_slot(b, 0, 0);
	set_slot(b, 0, b->size);
}

/* Of a larger slot, pages everywhere. */
static void setup_fault_4k(struct bench *b)
{
	stride = PAGE_SIZE;
	map(b, FAULT_PAGES * PAGE_SIZE, 0);
	set_slot(b, 0, b->size);
}

static void setup_fault_spread(struct bench *b)
{
	stride = slot_bytes() / FAULT_PAGES & -PAGE_SIZE;
	map(b, slot_bytes(), 0);
	set_slot(b, 0, b->size);
}

static void setup_hugetlb(struct bench *b, u64 page, int shift, const char *skip)
{
	char path[96], number[16];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/nr_hugepages",
		 (unsigned long)page >> 10);
	snprintf(number, sizeof(number), "%u", b->n);
	host_write(path, number);
	stride = page;
	map(b, b->n * page, MAP_HUGETLB | shift << 26 /* MAP_HUGE_SHIFT */);
	/* Pages that were only promised end in SIGBUS; so look for them. */
	if (!b->mem || madvise(b->mem, b->size, MADV_POPULATE_WRITE)) {
		b->skip = skip;
		return;
	}
	set_slot(b, 0, b->size);
}

static void setup_fault_2m(struct bench *b)
{
	setup_hugetlb(b, SIZE_2M, 21, "the host has no free 2M pages");
}

static void setup_fault_1g(struct bench *b)
{
	setup_hugetlb(b, SIZE_1G, 30, "the host has no free 1G page (hugepagesz=1G hugepages=1)");
}

/* ---- dirty logging ---- */

static struct kvm_dirty_log dirty_log = { .slot = SLOT_USER };

static u64 bitmap_bytes(struct bench *b)
{
	return (b->size / PAGE_SIZE + 63) / 64 * 8;
}

static void get_log(struct bench *b)
{
	VM_IOCTL(b->vm, KVM_GET_DIRTY_LOG, &dirty_log);
}

static void expect_dirty(struct bench *b, u64 want)
{
	u64 *map = dirty_log.dirty_bitmap, n = 0;

	for (u64 i = 0; i < bitmap_bytes(b) / 8; i++)
		n += __builtin_popcountll(map[i]);
	if (n != want)
		fail("%s: %llu pages in the log instead of %llu", b->op->name,
		     (unsigned long long)n, (unsigned long long)want);
}

/* A slot with logging of which @pages are mapped, and clean. */
static void setup_log(struct bench *b, u64 size, u32 pages)
{
	stride = size / pages & -PAGE_SIZE;
	map(b, size, 0);
	dirty_log.dirty_bitmap = calloc(1, bitmap_bytes(b));
	set_slot(b, KVM_MEM_LOG_DIRTY_PAGES, size);
}

static void cleanup_log(struct bench *b)
{
	free(dirty_log.dirty_bitmap);
	dirty_log.dirty_bitmap = NULL;	/* the next operation may be skipped */
	cleanup_map(b);
}

static void setup_wp_fault(struct bench *b)
{
	if (dev_is_kvm() && host_has_module_param("/sys/module/kvm_intel/parameters/pml", 'Y')) {
		b->skip = "stock KVM has this CPU log the page (PML): there is no fault";
		return;
	}
	setup_log(b, FAULT_PAGES * PAGE_SIZE, FAULT_PAGES);
}

static void before_wp_fault(struct bench *b)
{
	get_log(b);
}

/* The first batch found pages that were not mapped yet. */
static void check_wp_fault(struct bench *b)
{
	check_touched(b);
	get_log(b);
	expect_dirty(b, b->n);
}

/* The whole log of a slot once: a batch is one call, of any number of pages. */
static void setup_get_log(struct bench *b)
{
	setup_log(b, slot_bytes(), dirty_count());
}

static void dirty_pages(struct bench *b)
{
	guest_n = dirty_count();
	guest_run_sync(b->vcpu);
	guest_n = b->n;
}

static void batch_get_log(struct bench *b)
{
	HOST_BATCH(b, get_log(b));
	expect_dirty(b, dirty_count());
}

static void setup_clear_log(struct bench *b)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE },
	};

	VM_IOCTL(b->vm, KVM_ENABLE_CAP, &cap);
	setup_get_log(b);
}

static void clear_log(struct bench *b)
{
	struct kvm_clear_dirty_log c = {
		.slot = SLOT_USER, .num_pages = b->size / PAGE_SIZE,
		.dirty_bitmap = dirty_log.dirty_bitmap,
	};

	VM_IOCTL(b->vm, KVM_CLEAR_DIRTY_LOG, &c);
}

static void before_clear_log(struct bench *b)
{
	dirty_pages(b);
	get_log(b);
	expect_dirty(b, dirty_count());
}

static void batch_clear_log(struct bench *b)
{
	HOST_BATCH(b, clear_log(b));
	get_log(b);
	expect_dirty(b, 0);
}

/* ---- slots ---- */

static void setup_slot(struct bench *b)
{
	map(b, slot_bytes(), 0);
}

static void slot_round(struct bench *b)
{
	int ret = vm_slot(b->vm, SLOT_MORE, 0, GPA_SLOT, b->size, b->mem);

	if (!ret)
		ret = vm_slot(b->vm, SLOT_MORE, 0, GPA_SLOT, 0, NULL);
	if (ret)
		fail("%s: slot: %d", b->op->name, ret);
}

static void batch_slot(struct bench *b)
{
	HOST_BATCH(b, slot_round(b));
}

/* ---- memory that takes no part, for any operation ---- */

static struct bench beside;
static volatile u64 beside_stride;

static void guest_touch_beside(void)
{
	for (u64 i = 0; i < guest_n; i++)
		*(volatile u64 *)(GPA_BESIDE + i * beside_stride) = 1;
	guest_done();
}

/* A slot with pages mapped everywhere in it; the vCPU is left as it was. */
void add_memory_beside(struct bench *b)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	map(&beside, slot_bytes(), 0);
	if (vm_slot(b->vm, SLOT_BESIDE, 0, GPA_BESIDE, beside.size, beside.mem))
		fail("%s: a slot of %llu bytes beside", b->op->name,
		     (unsigned long long)beside.size);
	guest_n = dirty_count();
	beside_stride = slot_bytes() / dirty_count() & -PAGE_SIZE;
	VCPU_IOCTL(b->vcpu, KVM_GET_REGS, &regs);
	VCPU_IOCTL(b->vcpu, KVM_GET_SREGS, &sregs);
	vcpu_set_long(b->vcpu, guest_touch_beside);
	guest_run_done(b->vcpu);
	vcpu_complete_io(b->vcpu);
	VCPU_IOCTL(b->vcpu, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(b->vcpu, KVM_SET_REGS, &regs);
}

void remove_memory_beside(void)
{
	cleanup_map(&beside);
	beside.mem = NULL;
}

const struct bench_op memory_ops[] = {
	{ .name = "fault-4k", .title = "first touch of a 4K page the host has", .kind = "in",
	  .n = FAULT_PAGES, .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_touch,
	  .setup = setup_fault_4k, .before = before_fault, .check = check_touched,
	  .cleanup = cleanup_map },
	{ .name = "fault-spread", .title = "the same, 512 pages spread over 1 GiB", .kind = "more",
	  .n = FAULT_PAGES, .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_touch,
	  .setup = setup_fault_spread, .before = before_fault, .check = check_touched,
	  .cleanup = cleanup_map },
	{ .name = "fault-2m", .title = "first touch of a 2M page the host has", .kind = "in",
	  .n = 16, .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_touch,
	  .setup = setup_fault_2m, .before = before_fault, .check = check_touched,
	  .cleanup = cleanup_map },
	{ .name = "fault-1g", .title = "first touch of a 1G page the host has", .kind = "more",
	  .n = 1, .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_touch,
	  .setup = setup_fault_1g, .before = before_fault, .check = check_touched,
	  .cleanup = cleanup_map },
	{ .name = "fault-write-protect", .title = "write to a page under dirty logging",
	  .kind = "in", .n = FAULT_PAGES, .exits = 1, .vm_flags = VM_IRQCHIP,
	  .guest = guest_op_touch, .setup = setup_wp_fault, .before = before_wp_fault,
	  .check = check_wp_fault, .cleanup = cleanup_log },
	{ .name = "get-dirty-log", .title = "KVM_GET_DIRTY_LOG of 1 GiB, 1,000 pages dirty",
	  .kind = "user", .n = 1, .loop = LOOP_HOST, .vm_flags = VM_IRQCHIP,
	  .guest = guest_op_touch, .setup = setup_get_log, .before = dirty_pages,
	  .batch = batch_get_log, .cleanup = cleanup_log },
	{ .name = "clear-dirty-log", .title = "KVM_CLEAR_DIRTY_LOG of 1 GiB, 1,000 pages dirty",
	  .kind = "user", .n = 1, .loop = LOOP_HOST, .vm_flags = VM_IRQCHIP,
	  .guest = guest_op_touch, .setup = setup_clear_log, .before = before_clear_log,
	  .batch = batch_clear_log, .cleanup = cleanup_log },
	{ .name = "slot", .title = "slot of 1 GiB added, and deleted", .kind = "more", .n = 4,
	  .loop = LOOP_HOST, .vm_flags = VM_IRQCHIP, .setup = setup_slot, .batch = batch_slot,
	  .cleanup = cleanup_map },
	{ }
};
