// SPDX-License-Identifier: GPL-2.0-only
/*
 * The MMU notifier: the host says what it is about to do to the VMM's memory,
 * and the second-level tables follow.
 *
 * Nothing here sleeps, whether the host allows it or not.
 */
#include <linux/mm.h>
#include <linux/mmu_notifier.h>

#include "internal.h"

static struct keel_vm *notifier_vm(struct mmu_notifier *mn)
{
	return container_of(mn, struct keel_vm, notifier);
}

typedef bool (*hva_fn)(struct keel_vm *vm, gfn_t start, gfn_t end);

/* Apply @fn to the frames that [start, end) backs, in every slot that has some. */
static bool each_range(struct keel_vm *vm, hva_t start, hva_t end, hva_fn fn)
{
	struct rb_root_cached *tree = &vm->mmu.hva_tree;
	struct interval_tree_node *node;
	const struct keel_slot *slot;
	gfn_t from, to;
	bool any = false;

	lockdep_assert_held(&vm->mmu.lock);
	if (start >= end)
		return false;
	for (node = interval_tree_iter_first(tree, start, end - 1); node;
	     node = interval_tree_iter_next(node, start, end - 1)) {
		slot = container_of(node, struct keel_slot, hva_node);
		from = (max(start, node->start) - slot->hva) >> PAGE_SHIFT;
		to = (min(end - 1, node->last) - slot->hva) >> PAGE_SHIFT;
		any |= fn(vm, slot->gfn + from, slot->gfn + to + 1);
	}
	return any;
}

static int invalidate_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct keel_vm *vm = notifier_vm(mn);
	struct keel_mmu *mmu = &vm->mmu;

	write_lock(&mmu->lock);
	/* until the end, no fault maps what it finds in there: see fault.c */
	if (!mmu->invalidating++) {
		mmu->inv_start = range->start;
		mmu->inv_end = range->end;
	} else {
		mmu->inv_start = min(mmu->inv_start, range->start);
		mmu->inv_end = max(mmu->inv_end, range->end);
	}
	vm->stats.invalidations++;
	keel_mmu_unlock(vm, each_range(vm, range->start, range->end, keel_tables_zap));
	return 0;
}

static void invalidate_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct keel_mmu *mmu = &notifier_vm(mn)->mmu;

	write_lock(&mmu->lock);
	/* pages that were looked up meanwhile are not mapped any more */
	mmu->seq++;
	mmu->invalidating--;
	write_unlock(&mmu->lock);
}

static bool make_old(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	return keel_tables_age(vm, start, end, true);
}

static bool is_young(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	return keel_tables_age(vm, start, end, false);
}

static int clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
			     unsigned long start, unsigned long end)
{
	struct keel_vm *vm = notifier_vm(mn);
	bool young;

	write_lock(&vm->mmu.lock);
	young = each_range(vm, start, end, make_old);
	keel_mmu_unlock(vm, young);
	return young;
}

/*
 * A stale translation hides accesses for a while, and that is all: pages are
 * only guessed to be idle, so it is not worth a flush.
 */
static int clear_young(struct mmu_notifier *mn, struct mm_struct *mm,
		       unsigned long start, unsigned long end)
{
	struct keel_vm *vm = notifier_vm(mn);
	bool young;

	/* without accessed bits, ageing is removing: that is always flushed */
	if (!vm->mmu.format->accessed)
		return clear_flush_young(mn, mm, start, end);
	read_lock(&vm->mmu.lock);
	young = each_range(vm, start, end, make_old);
	read_unlock(&vm->mmu.lock);
	return young;
}

static int test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long hva)
{
	struct keel_vm *vm = notifier_vm(mn);
	bool young;

	read_lock(&vm->mmu.lock);
	young = each_range(vm, hva, hva + PAGE_SIZE, is_young);
	read_unlock(&vm->mmu.lock);
	return young;
}

/* The VMM's memory goes altogether, though somebody may still hold its files. */
static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct keel_vm *vm = notifier_vm(mn);

	write_lock(&vm->mmu.lock);
	vm->mmu.seq++;
	keel_mmu_unlock(vm, keel_tables_zap(vm, 0, KEEL_MAX_GFN));
}

const struct mmu_notifier_ops keel_notifier_ops = {
	.invalidate_range_start = invalidate_start,
	.invalidate_range_end = invalidate_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};

int keel_notifier_register(struct keel_vm *vm)
{
	vm->notifier.ops = &keel_notifier_ops;
	return mmu_notifier_register(&vm->notifier, vm->mm);
}

void keel_notifier_unregister(struct keel_vm *vm)
{
	mmu_notifier_unregister(&vm->notifier, vm->mm);
}
