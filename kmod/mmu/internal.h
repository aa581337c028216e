/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of mmu/ offer to each other, and to their tests. */
#ifndef KEEL_MMU_INTERNAL_H
#define KEEL_MMU_INTERNAL_H

#include <linux/lockdep.h>
#include <linux/srcu.h>

#include "keel.h"

/* Table levels of a second-level table, and what a leaf of each maps. */
#define KEEL_LEVEL_4K	1
#define KEEL_LEVEL_2M	2
#define KEEL_LEVEL_1G	3

#define KEEL_MAX_GFN	BIT_ULL(KEEL_MAX_GPA_BITS - PAGE_SHIFT)	/* exclusive */

static inline gfn_t keel_level_pages(int level)
{
	return 1ULL << (9 * (level - 1));
}

/* The first page of the leaf of @level that has @gfn. */
static inline gfn_t keel_level_base(gfn_t gfn, int level)
{
	return gfn & -keel_level_pages(level);
}

/**
 * struct keel_mapping - one leaf to install
 * @gfn: a page in it; @pa is where this page lies
 * @level: its size
 * @write: the guest may write now
 * @host_writable: the host's own mapping is writable, so that @write may be
 *	granted later without asking the host
 */
struct keel_mapping {
	gfn_t gfn;
	hpa_t pa;
	int level;
	bool write;
	bool host_writable;
};

/* Pages of tables that one installation can need: one below each level. */
#define KEEL_TABLES_PER_MAP	(KEEL_ROOT_LEVEL - 1)

/* tables.c */
int keel_tables_init(struct keel_vm *vm, const struct keel_table_format *format);

/**
 * keel_table_cache_fill() - have enough table pages for keel_tables_map()
 *
 * Context: process, may sleep.
 * Return: 0 or -ENOMEM.
 */
int keel_table_cache_fill(struct keel_table_cache *cache);

/**
 * keel_tables_map() - install a leaf, or add permissions to the same leaf
 *
 * Never replaces what is there: when a table, a larger leaf or a leaf to
 * another page is in the way, its level is returned, and the caller zaps it
 * under the lock for write.
 *
 * Context: mmu.lock held for read (or write).
 * Return: 0, the level of what is in the way, or -ENOMEM (empty cache).
 */
int keel_tables_map(struct keel_vm *vm, struct keel_table_cache *cache,
		    const struct keel_mapping *m);

/**
 * keel_tables_permit() - let the guest access a page that is mapped already
 * @only_4k: do not make a large leaf writable
 *
 * Context: mmu.lock held for read (or write).
 * Return: true when the leaf allows the access now.
 */
bool keel_tables_permit(struct keel_vm *vm, gfn_t gfn, bool write, bool only_4k);

/* keel_tables_zap(), and free the tables that it leaves empty. */
bool keel_tables_remove(struct keel_vm *vm, gfn_t start, gfn_t end);

/* The leaf entry that maps @gfn, or 0; *level says how large. For tests. */
u64 keel_tables_lookup(struct keel_vm *vm, gfn_t gfn, int *level);

/* access.c */
/*
 * Where @gpa is in the VMM's memory, or NULL. Under vm->srcu; *hint, NULL at first, is
 * the slot of the last one.
 */
void __user *keel_guest_near(struct keel_vm *vm, struct keel_slot **hint, gpa_t gpa);
/* An aligned u32 or u64 of the guest's page tables, in one piece. Return: 0 or -EFAULT. */
int keel_guest_read_entry(struct keel_vm *vm, struct keel_slot **hint, gpa_t gpa,
			  u64 *entry, int len);
/* The same for any bytes that lie in one page. */
int keel_guest_read_near(struct keel_vm *vm, struct keel_slot **hint, gpa_t gpa,
			 void *buf, unsigned int len);

/* notifier.c; for tests */
extern const struct mmu_notifier_ops keel_notifier_ops;

/* slots.c */
static inline struct keel_slots *keel_slots(struct keel_vm *vm)
{
	return srcu_dereference_check(vm->slots, &vm->srcu,
				      lockdep_is_held(&vm->slots_lock) ||
				      lockdep_is_held(&vm->mmu.lock));
}

/* tlb-model.c, for its tests */
u64 keel_tlb_model_use(enum keel_tlb tlb, unsigned long key, u64 owner, u64 changes);

#endif /* KEEL_MMU_INTERNAL_H */
