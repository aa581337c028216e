// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory slots: which guest frames exist, and where the VMM has them.
 *
 * Readers see an array that never changes. A change builds the next array and
 * publishes it under mmu.lock for write, together with what it means for the
 * second-level tables; so a fault that holds mmu.lock and finds mmu.seq as it
 * was acts on the slots it looked up. Before a change returns, it also waits
 * for those who use a slot it took away without that lock (access.c).
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

/* As stock KVM: what fits in a signed int, for the bitmaps' sake. */
#define MAX_SLOT_PAGES	((1UL << 31) - 1)
/* An array of more slots does not wait long to be freed. */
#define MAX_WAITING	1024
#define SLOT_FLAGS	(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)

/* How many slots begin at @gfn or below it. */
static int count_up_to(const struct keel_slots *slots, gfn_t gfn)
{
	int low = 0, high = slots->nr, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (slots->slot[mid]->gfn <= gfn)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct keel_slot *keel_slot_find(struct keel_vm *vm, gfn_t gfn)
{
	const struct keel_slots *slots = keel_slots(vm);
	int n = count_up_to(slots, gfn);
	struct keel_slot *slot;

	/* the last one that begins there may have it */
	if (!n)
		return NULL;
	slot = slots->slot[n - 1];
	return gfn - slot->gfn < slot->npages ? slot : NULL;
}

struct keel_slot *keel_slot_by_id(struct keel_vm *vm, int id)
{
	lockdep_assert_held(&vm->slots_lock);
	return xa_load(&vm->slots_by_id, id);
}

static bool overlaps(struct keel_vm *vm, const struct keel_slot *new,
		     const struct keel_slot *old)
{
	const struct keel_slots *slots = keel_slots(vm);
	const struct keel_slot *slot;
	int i;

	/* those that begin in @new, from the last one on, and one before them; @old beside */
	for (i = count_up_to(slots, new->gfn + new->npages - 1) - 1; i >= 0; i--) {
		slot = slots->slot[i];
		if (slot == old)
			continue;
		return new->gfn < slot->gfn + slot->npages;
	}
	return false;
}

/* ---- arrays ---- */

static struct keel_slots *slots_alloc(int nr)
{
	struct keel_slots *slots;

	slots = kvmalloc(struct_size(slots, slot, nr), GFP_KERNEL_ACCOUNT);
	if (slots)
		*slots = (struct keel_slots){ .nr = nr };
	return slots;
}

/* The slot at @at has taken the place of one that may have begun elsewhere. */
static void slots_sort(struct keel_slots *slots, int at)
{
	struct keel_slot **slot = slots->slot;

	for (; at > 0 && slot[at - 1]->gfn > slot[at]->gfn; at--)
		swap(slot[at - 1], slot[at]);
	for (; at < slots->nr - 1 && slot[at + 1]->gfn < slot[at]->gfn; at++)
		swap(slot[at + 1], slot[at]);
}

/* The current slots without @old and with @new, either of which may be NULL. */
static struct keel_slots *slots_next(struct keel_vm *vm, struct keel_slot *old,
				     struct keel_slot *new)
{
	const struct keel_slots *slots = keel_slots(vm);
	int at = old ? count_up_to(slots, old->gfn) - 1 : count_up_to(slots, new->gfn);
	struct keel_slots *next;

	next = slots_alloc(slots->nr - !!old + !!new);
	if (!next)
		return NULL;
	memcpy(next->slot, slots->slot, at * sizeof(*slots->slot));
	memcpy(next->slot + at + !!new, slots->slot + at + !!old,
	       (slots->nr - at - !!old) * sizeof(*slots->slot));
	if (new) {
		next->slot[at] = new;
		slots_sort(next, at);
	}
	return next;
}

/* ... and all older ones that wait. */
static void slots_free(struct keel_slots *slots)
{
	struct keel_slots *older;

	for (; slots; slots = older) {
		older = slots->waiting;
		kvfree(slots->retired_dirty);
		kfree(slots->retired);
		kvfree(slots);
	}
}

/* ---- one slot ---- */

static int slot_alloc_dirty(struct keel_vm *vm, struct keel_slot *slot)
{
	/* whole u64s, as the ioctls have them */
	slot->dirty = kvcalloc(BITS_TO_LONGS(slot->npages), sizeof(long),
			       GFP_KERNEL_ACCOUNT);
	if (!slot->dirty)
		return -ENOMEM;
	slot->all_dirty = READ_ONCE(vm->mmu.manual_protect) & KVM_DIRTY_LOG_INITIALLY_SET;
	if (slot->all_dirty)
		bitmap_set(slot->dirty, 0, slot->npages);
	return 0;
}

static struct keel_slot *slot_alloc(struct keel_vm *vm,
				    const struct kvm_userspace_memory_region *r,
				    const struct keel_slot *old)
{
	struct keel_slot *slot;

	slot = kzalloc(sizeof(*slot), GFP_KERNEL_ACCOUNT);
	if (!slot)
		return NULL;
	slot->id = r->slot;
	slot->flags = r->flags;
	slot->gfn = keel_gfn(r->guest_phys_addr);
	slot->npages = r->memory_size >> PAGE_SHIFT;
	slot->hva = r->userspace_addr;
	slot->hva_node.start = slot->hva;
	slot->hva_node.last = slot->hva + r->memory_size - 1;
	if (keel_slot_logged(slot)) {
		if (old && old->dirty) {
			slot->dirty = old->dirty;
		} else if (!READ_ONCE(vm->dirty_ring_entries) && slot_alloc_dirty(vm, slot)) {
			kfree(slot);
			return NULL;
		}
	}
	return slot;
}

/* A new slot that was not published after all. */
static void slot_free(struct keel_slot *slot, const struct keel_slot *old)
{
	if (slot && (!old || slot->dirty != old->dirty))
		kvfree(slot->dirty);
	kfree(slot);
}

/* ---- changes ---- */

typedef bool (*range_fn)(struct keel_vm *vm, gfn_t start, gfn_t end);

/*
 * Apply @fn to the tables of a whole slot, in pieces between which others may
 * have the lock. A piece that was changed is flushed first: the notifier would
 * find nothing to remove there, and take it that no CPU uses the page.
 * Return: whether the last piece is still to be flushed.
 */
static bool tables_of_slot(struct keel_vm *vm, const struct keel_slot *slot, range_fn fn)
{
	gfn_t end = slot->gfn + slot->npages, gfn, next;
	bool flush = false;

	lockdep_assert_held_write(&vm->mmu.lock);
	for (gfn = slot->gfn; gfn < end; gfn = next) {
		next = min(end, keel_level_base(gfn, KEEL_LEVEL_1G) +
				keel_level_pages(KEEL_LEVEL_1G));
		flush |= fn(vm, gfn, next);
		if (next == end || !(need_resched() || rwlock_needbreak(&vm->mmu.lock)))
			continue;
		keel_mmu_unlock(vm, flush);
		flush = false;
		cond_resched();
		write_lock(&vm->mmu.lock);
	}
	return flush;
}

/* What a change of a slot means for what is mapped of it. Return: flush? */
static bool adapt_tables(struct keel_vm *vm, const struct keel_slot *old,
			 const struct keel_slot *new)
{
	if (!new)
		return tables_of_slot(vm, old, keel_tables_remove);
	/* in one piece: the new place may overlap, and its log knows other pages there */
	if (new->gfn != old->gfn)
		return keel_tables_remove(vm, old->gfn, old->gfn + old->npages);
	/* if all is dirty already, CLEAR will write-protect it */
	if (keel_slot_logged(new) && !keel_slot_logged(old) && !new->all_dirty)
		return tables_of_slot(vm, old, keel_tables_write_protect);
	/* large pages may come back */
	if (keel_slot_logged(old) && !keel_slot_logged(new))
		return tables_of_slot(vm, old, keel_tables_remove);
	return false;
}

/* Replace @old by @new, either of which may be NULL. Takes over @new. */
static int commit(struct keel_vm *vm, struct keel_slot *old, struct keel_slot *new)
{
	struct keel_mmu *mmu = &vm->mmu;
	struct keel_slots *next, *prev = keel_slots(vm);
	int id = old ? old->id : new->id;
	bool flush = false;

	lockdep_assert_held(&vm->slots_lock);
	next = slots_next(vm, old, new);
	if (!next || xa_err(xa_store(&vm->slots_by_id, id, new, GFP_KERNEL_ACCOUNT))) {
		kvfree(next);
		slot_free(new, old);
		return -ENOMEM;
	}
	prev->retired = old;
	if (old && (!new || new->dirty != old->dirty))
		prev->retired_dirty = old->dirty;

	write_lock(&mmu->lock);
	if (new)
		interval_tree_insert(&new->hva_node, &mmu->hva_tree);
	rcu_assign_pointer(vm->slots, next);
	if (old) {
		/*
		 * Faults that looked up the old slot look again. What remembers
		 * this number has looked at the new slots: see keel_guest_fetch().
		 */
		smp_wmb();
		WRITE_ONCE(mmu->seq, mmu->seq + 1);
		flush = adapt_tables(vm, old, new);
		/*
		 * Only now: adapt_tables() lets the notifier in between, which
		 * must find what is still mapped of the old slot.
		 */
		interval_tree_remove(&old->hva_node, &mmu->hva_tree);
	}
	keel_mmu_unlock(vm, flush);
	vm->stats.slot_updates++;

	/*
	 * Nothing was taken away by adding a slot: freeing is all that has to
	 * wait, for the next that is taken away; call_srcu() would make that one
	 * wait for a tick. But thousands of large arrays must not.
	 */
	if (old || prev->nr > MAX_WAITING) {
		synchronize_srcu_expedited(&vm->srcu);
		slots_free(prev);
	} else {
		next->waiting = prev;
	}
	return 0;
}

static int check_region(const struct kvm_userspace_memory_region *r)
{
	if (r->flags & ~SLOT_FLAGS)
		return -EINVAL;
	if (r->slot >= KEEL_MAX_MEMSLOTS)	/* also another address space: SMM */
		return -EINVAL;
	if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & ~PAGE_MASK)
		return -EINVAL;
	if (r->memory_size >> PAGE_SHIFT > MAX_SLOT_PAGES)
		return -EINVAL;
	if (r->guest_phys_addr + r->memory_size < r->guest_phys_addr)
		return -EINVAL;
	/* a fault looks past the tag of an address (LAM), but the notifier has it without */
	if (r->userspace_addr != untagged_addr(r->userspace_addr))
		return -EINVAL;
	if (!access_ok((void __user *)(unsigned long)r->userspace_addr, r->memory_size))
		return -EINVAL;
	return 0;
}

static int set_region(struct keel_vm *vm, struct keel_slot *old,
		      const struct kvm_userspace_memory_region *r)
{
	struct keel_slot *new;

	if (r->guest_phys_addr + r->memory_size > BIT_ULL(KEEL_MAX_GPA_BITS))
		return -EINVAL;
	if (old) {
		if (r->userspace_addr != old->hva ||
		    r->memory_size >> PAGE_SHIFT != old->npages ||
		    ((r->flags ^ old->flags) & KVM_MEM_READONLY))
			return -EINVAL;
		if (keel_gfn(r->guest_phys_addr) == old->gfn && r->flags == old->flags)
			return 0;
	}
	new = slot_alloc(vm, r, old);
	if (!new)
		return -ENOMEM;
	if (overlaps(vm, new, old)) {
		slot_free(new, old);
		return -EEXIST;
	}
	return commit(vm, old, new);
}

int keel_set_memory_region(struct keel_vm *vm, const struct kvm_userspace_memory_region *r)
{
	struct keel_slot *old;
	int err;

	err = check_region(r);
	if (err)
		return err;

	mutex_lock(&vm->slots_lock);
	old = keel_slot_by_id(vm, r->slot);
	if (r->memory_size)
		err = set_region(vm, old, r);
	else if (old)
		err = commit(vm, old, NULL);
	else
		err = -EINVAL;
	mutex_unlock(&vm->slots_lock);
	return err;
}

/* ---- life ---- */

int keel_slots_init(struct keel_vm *vm)
{
	struct keel_slots *slots = slots_alloc(0);

	if (!slots)
		return -ENOMEM;
	rcu_assign_pointer(vm->slots, slots);
	xa_init(&vm->slots_by_id);
	return 0;
}

void keel_slots_destroy(struct keel_vm *vm)
{
	struct keel_slots *slots = rcu_dereference_protected(vm->slots, true);
	int i;

	slots_free(slots->waiting);
	for (i = 0; i < slots->nr; i++) {
		kvfree(slots->slot[i]->dirty);
		kfree(slots->slot[i]);
	}
	kvfree(slots);
	xa_destroy(&vm->slots_by_id);
	RCU_INIT_POINTER(vm->slots, NULL);
}
