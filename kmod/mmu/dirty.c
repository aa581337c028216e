// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dirty log: which pages of a slot were written since userspace looked.
 *
 * A page that is clean in the log is mapped read-only; the fault that makes it
 * writable sets its bit, both under mmu.lock. What the kernel itself writes
 * sets the bit after the write (access.c).
 */
#include <linux/compat.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

/* The bitmap goes through a buffer: so much at a time, 2 GiB of guest memory. */
#define CHUNK_LONGS	8192UL

void keel_mark_dirty(struct keel_vcpu *vcpu, struct keel_slot *slot, gfn_t gfn)
{
	unsigned long offset = array_index_nospec(gfn - slot->gfn, slot->npages);

	if (!keel_slot_logged(slot))
		return;
	if (vcpu->dirty_ring.entries)
		keel_dirty_ring_push(vcpu, slot, offset);
	else
		set_bit(offset, slot->dirty);
}

/* The other half of a 32-bit VMM's union is whatever it left there. */
static void __user *bitmap_pointer(void __user *bitmap)
{
	return in_compat_syscall() ? compat_ptr((uintptr_t)bitmap) : bitmap;
}

/* The slot of the log, under slots_lock, or an error. */
static struct keel_slot *logged_slot(struct keel_vm *vm, u32 id)
{
	struct keel_slot *slot;

	if (READ_ONCE(vm->dirty_ring_entries))
		return ERR_PTR(-ENXIO);
	if (id >= KEEL_MAX_MEMSLOTS)
		return ERR_PTR(-EINVAL);
	slot = keel_slot_by_id(vm, id);
	if (!slot || !slot->dirty)
		return ERR_PTR(-ENOENT);
	return slot;
}

/* Write-protect pages of the @at-th long of the log; their bits there are clear by now. */
static bool protect(struct keel_vm *vm, const struct keel_slot *slot, unsigned long at,
		    unsigned long bits)
{
	return keel_tables_write_protect_mask(vm, slot->gfn + (u64)at * BITS_PER_LONG, bits);
}

/* Move @n longs of the log from @at on into @bits, leaving the pages clean. */
static void take(struct keel_vm *vm, struct keel_slot *slot, unsigned long *bits,
		 unsigned long at, unsigned long n)
{
	bool flush = false;
	unsigned long i;

	write_lock(&vm->mmu.lock);
	for (i = 0; i < n; i++) {
		bits[i] = READ_ONCE(slot->dirty[at + i]);
		if (!bits[i])
			continue;
		bits[i] = xchg(&slot->dirty[at + i], 0);
		flush |= protect(vm, slot, at + i, bits[i]);
	}
	keel_mmu_unlock(vm, flush);
}

/* Userspace did not get them after all. */
static void give_back(struct keel_slot *slot, const unsigned long *bits,
		      unsigned long at, unsigned long n)
{
	unsigned long i;

	for (i = 0; i < n; i++)
		if (bits[i])
			atomic_long_or(bits[i], (atomic_long_t *)&slot->dirty[at + i]);
}

static int get_log(struct keel_vm *vm, struct keel_slot *slot, void __user *to,
		   unsigned long *bits, bool manual)
{
	unsigned long longs = BITS_TO_LONGS(slot->npages), at, n;

	for (at = 0; at < longs; at += n) {
		n = min(longs - at, CHUNK_LONGS);
		if (manual)
			memcpy(bits, slot->dirty + at, n * sizeof(long));
		else
			take(vm, slot, bits, at, n);
		if (copy_to_user(to + at * sizeof(long), bits, n * sizeof(long))) {
			if (!manual)
				give_back(slot, bits, at, n);
			return -EFAULT;
		}
		cond_resched();
	}
	return 0;
}

int keel_get_dirty_log(struct keel_vm *vm, const struct kvm_dirty_log *log)
{
	struct keel_slot *slot;
	unsigned long *bits;
	int err;

	bits = kvmalloc_array(CHUNK_LONGS, sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!bits)
		return -ENOMEM;
	mutex_lock(&vm->slots_lock);
	slot = logged_slot(vm, log->slot);
	if (IS_ERR(slot))
		err = PTR_ERR(slot);
	else
		err = get_log(vm, slot, bitmap_pointer(log->dirty_bitmap), bits,
			      READ_ONCE(vm->mmu.manual_protect));
	mutex_unlock(&vm->slots_lock);
	kvfree(bits);
	return err;
}

static int clear_log(struct keel_vm *vm, struct keel_slot *slot,
		     const struct kvm_clear_dirty_log *log, unsigned long *bits)
{
	unsigned long first = log->first_page / BITS_PER_LONG;
	unsigned long longs = BITS_TO_LONGS((u64)log->num_pages), at, n, i;
	void __user *from = bitmap_pointer(log->dirty_bitmap);
	atomic_long_t *word;
	bool flush;

	for (at = 0; at < longs; at += n) {
		n = min(longs - at, CHUNK_LONGS);
		if (copy_from_user(bits, from + at * sizeof(long), n * sizeof(long)))
			return -EFAULT;
		flush = false;
		write_lock(&vm->mmu.lock);
		for (i = 0; i < n; i++) {
			if (!bits[i])
				continue;
			word = (atomic_long_t *)&slot->dirty[first + at + i];
			/* what was not dirty has no writable mapping */
			bits[i] &= atomic_long_fetch_andnot(bits[i], word);
			flush |= protect(vm, slot, first + at + i, bits[i]);
		}
		keel_mmu_unlock(vm, flush);
		cond_resched();
	}
	return 0;
}

/* Whole longs, but for the slot's last pages. */
static bool clear_range_valid(const struct keel_slot *slot,
			      const struct kvm_clear_dirty_log *log)
{
	u64 rest;

	if (log->first_page % BITS_PER_LONG || log->first_page > slot->npages)
		return false;
	rest = slot->npages - log->first_page;
	return log->num_pages == rest ||
	       (log->num_pages < rest && log->num_pages % BITS_PER_LONG == 0);
}

int keel_clear_dirty_log(struct keel_vm *vm, const struct kvm_clear_dirty_log *log)
{
	struct keel_slot *slot;
	unsigned long *bits;
	int err;

	bits = kvmalloc_array(CHUNK_LONGS, sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!bits)
		return -ENOMEM;
	mutex_lock(&vm->slots_lock);
	slot = logged_slot(vm, log->slot);
	if (IS_ERR(slot))
		err = PTR_ERR(slot);
	else if (!clear_range_valid(slot, log))
		err = -EINVAL;
	else
		err = clear_log(vm, slot, log, bits);
	mutex_unlock(&vm->slots_lock);
	kvfree(bits);
	return err;
}

int keel_enable_manual_protect(struct keel_vm *vm, u64 flags)
{
	if (flags & ~KEEL_MANUAL_PROTECT_FLAGS)
		return -EINVAL;
	/* the second is a variant of the first */
	if ((flags & KVM_DIRTY_LOG_INITIALLY_SET) &&
	    !(flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
		return -EINVAL;
	WRITE_ONCE(vm->mmu.manual_protect, flags);
	return 0;
}
