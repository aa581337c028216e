// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dirty ring: each vCPU tells which pages it wrote in an array that it
 * shares with userspace, in place of the bitmaps of dirty.c.
 *
 * The vCPU's thread pushes entries; userspace sets KVM_DIRTY_GFN_F_RESET in
 * those it has collected; KVM_RESET_DIRTY_RINGS write-protects their pages and
 * lets the entries be used again. Userspace can write anything into the ring
 * at any time. Which part of it is in use is known by the two indices alone,
 * which it does not see, and all it can bring about is that other pages of its
 * own guest are write-protected, or fewer.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "internal.h"

/*
 * Entries that are left when KVM_RUN says that the ring is full: for what one
 * exit still writes before the next look, and for ioctls that write.
 */
#define RESERVED_ENTRIES	64

/* Resets between which others may have mmu.lock. */
#define RESET_BATCH		64

int keel_enable_dirty_ring(struct keel_vm *vm, u32 bytes)
{
	lockdep_assert_held(&vm->lock);
	if (!is_power_of_2(bytes) || bytes < PAGE_SIZE ||
	    bytes < RESERVED_ENTRIES * sizeof(struct kvm_dirty_gfn))
		return -EINVAL;
	if (bytes > KEEL_DIRTY_RING_MAX_BYTES)
		return -E2BIG;
	if (vm->dirty_ring_entries || vm->nr_vcpus)
		return -EINVAL;
	WRITE_ONCE(vm->dirty_ring_entries, bytes / sizeof(struct kvm_dirty_gfn));
	return 0;
}

int keel_dirty_ring_alloc(struct keel_vcpu *vcpu)
{
	u32 n = vcpu->vm->dirty_ring_entries;

	if (!n)
		return 0;
	vcpu->dirty_ring.entries = __vmalloc(n * sizeof(struct kvm_dirty_gfn),
					     GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return vcpu->dirty_ring.entries ? 0 : -ENOMEM;
}

void keel_dirty_ring_free(struct keel_vcpu *vcpu)
{
	vfree(vcpu->dirty_ring.entries);
}

bool keel_in_dirty_ring(const struct keel_vm *vm, unsigned long pgoff)
{
	size_t pages = vm->dirty_ring_entries * sizeof(struct kvm_dirty_gfn) / PAGE_SIZE;

	return pgoff >= KVM_DIRTY_LOG_PAGE_OFFSET && pgoff - KVM_DIRTY_LOG_PAGE_OFFSET < pages;
}

struct page *keel_dirty_ring_page(struct keel_vcpu *vcpu, unsigned long pgoff)
{
	void *ring = vcpu->dirty_ring.entries;

	if (!keel_in_dirty_ring(vcpu->vm, pgoff))
		return NULL;
	return vmalloc_to_page(ring + (pgoff - KVM_DIRTY_LOG_PAGE_OFFSET) * PAGE_SIZE);
}

static struct kvm_dirty_gfn *entry_at(struct keel_vcpu *vcpu, u32 index)
{
	return &vcpu->dirty_ring.entries[index & (vcpu->vm->dirty_ring_entries - 1)];
}

static u32 entries_used(struct keel_vcpu *vcpu)
{
	return vcpu->dirty_ring.dirty_index - READ_ONCE(vcpu->dirty_ring.reset_index);
}

bool keel_dirty_ring_full(struct keel_vcpu *vcpu)
{
	return entries_used(vcpu) >= vcpu->vm->dirty_ring_entries - RESERVED_ENTRIES;
}

void keel_dirty_ring_push(struct keel_vcpu *vcpu, const struct keel_slot *slot, u64 offset)
{
	struct keel_dirty_ring *ring = &vcpu->dirty_ring;
	struct kvm_dirty_gfn *entry;
	u32 used = entries_used(vcpu);

	/*
	 * A string instruction that is emulated writes the same page again and
	 * again. As long as userspace has not collected the entry it will see
	 * the new contents as well: they are written before its flags are read here,
	 * and it reads them after KVM_RESET_DIRTY_RINGS.
	 */
	smp_mb();
	if (used && ring->last_slot == slot->id && ring->last_offset == offset &&
	    READ_ONCE(entry_at(vcpu, ring->dirty_index - 1)->flags) == KVM_DIRTY_GFN_F_DIRTY)
		return;
	/*
	 * Not by running the guest, which KVM_EXIT_DIRTY_RING_FULL stops before:
	 * a VMM that never collects and makes ioctls write guest memory.
	 */
	if (used >= vcpu->vm->dirty_ring_entries)
		return;

	entry = entry_at(vcpu, ring->dirty_index);
	WRITE_ONCE(entry->slot, slot->id);
	WRITE_ONCE(entry->offset, offset);
	/* userspace looks at the flags first */
	smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_DIRTY);
	ring->last_slot = slot->id;
	ring->last_offset = offset;
	/* pairs with reset_ring(): the entry before the index that includes it */
	smp_store_release(&ring->dirty_index, ring->dirty_index + 1);
}

/* Write-protect what an entry names, if there is such a page. Return: flush? */
static bool protect(struct keel_vm *vm, u32 id, u64 offset)
{
	const struct keel_slot *slot;
	gfn_t gfn;

	if (id >= KEEL_MAX_MEMSLOTS)
		return false;
	slot = keel_slot_by_id(vm, id);
	if (!slot || offset >= slot->npages)
		return false;
	gfn = slot->gfn + array_index_nospec(offset, slot->npages);
	return keel_tables_write_protect(vm, gfn, gfn + 1);
}

/* Up to @max entries from the oldest on. Return: how many were collected. */
static u32 reset_batch(struct keel_vcpu *vcpu, u32 max)
{
	struct keel_dirty_ring *ring = &vcpu->dirty_ring;
	struct keel_vm *vm = vcpu->vm;
	struct kvm_dirty_gfn *entry;
	bool flush = false;
	u64 offset;
	u32 id, n;

	write_lock(&vm->mmu.lock);
	for (n = 0; n < max; n++) {
		entry = entry_at(vcpu, ring->reset_index);
		/* userspace has read the entry before it set the flag */
		if (!(smp_load_acquire(&entry->flags) & KVM_DIRTY_GFN_F_RESET))
			break;
		id = READ_ONCE(entry->slot);
		offset = READ_ONCE(entry->offset);
		WRITE_ONCE(entry->flags, 0);
		/* the vCPU may use it again, and writes its flags last */
		smp_store_release(&ring->reset_index, ring->reset_index + 1);
		flush |= protect(vm, id, offset);
	}
	keel_mmu_unlock(vm, flush);
	return n;
}

static u32 reset_ring(struct keel_vcpu *vcpu)
{
	struct keel_dirty_ring *ring = &vcpu->dirty_ring;
	u32 used, done = 0, n, max;

	/*
	 * No further than the vCPU has come by now: what userspace has made of
	 * the rest of the ring means nothing, and the vCPU may go on meanwhile.
	 */
	used = smp_load_acquire(&ring->dirty_index) - ring->reset_index;
	while (done < used && !fatal_signal_pending(current)) {
		max = min_t(u32, used - done, RESET_BATCH);
		n = reset_batch(vcpu, max);
		done += n;
		if (n < max)
			break;
		cond_resched();
	}
	return done;
}

int keel_reset_dirty_rings(struct keel_vm *vm)
{
	struct keel_vcpu *vcpu;
	unsigned long id;
	int done = 0;

	if (!READ_ONCE(vm->dirty_ring_entries))
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	keel_for_each_vcpu(vm, id, vcpu)
		done += reset_ring(vcpu);
	mutex_unlock(&vm->slots_lock);
	return done;
}
