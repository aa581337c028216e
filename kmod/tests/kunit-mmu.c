// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: second-level tables in both formats, the rules of memory slots, and
 * what the MMU notifier does to the tables. No vCPU, no user memory: nothing
 * here follows a host address.
 */
#include <kunit/test.h>
#include <linux/kvm.h>
#include <linux/mmu_notifier.h>

#include "../mmu/internal.h"

#define HVA	0x7f0000000000ULL
#define MB	BIT_ULL(20)
#define GB	BIT_ULL(30)
#define PAGES(bytes)	((bytes) >> PAGE_SHIFT)

/* ---- fixture: a VM that has only memory ---- */

static const struct format_case {
	const char *name;
	struct keel_table_format format;
} formats[] = {
	{ "ept", {
		.present = 7, .table = 7, .leaf = 1 | 6 << 3 | 1 << 6,
		.large = BIT_ULL(7), .write = 2, .exec = 4,
		.accessed = BIT_ULL(8), .dirty = BIT_ULL(9), .max_level = 3,
	} },
	{ "ept, no accessed bits", {
		.present = 7, .table = 7, .leaf = 1 | 6 << 3 | 1 << 6,
		.large = BIT_ULL(7), .write = 2, .exec = 4, .max_level = 3,
	} },
	{ "npt", {
		.present = 1, .table = 7, .leaf = 5,
		.large = BIT_ULL(7), .write = 2,
		.accessed = BIT_ULL(5), .dirty = BIT_ULL(6), .max_level = 3,
	} },
};

static void format_name(const struct format_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(formats, formats, format_name);

struct fixture {
	struct keel_vm *vm;
	struct keel_vcpu *vcpu;		/* who writes */
	struct keel_table_cache cache;
};

static int mmu_test_init(struct kunit *test)
{
	const struct format_case *c = test->param_value ?: &formats[0];
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	if (!f)
		return -ENOMEM;
	f->vm = kunit_kzalloc(test, sizeof(*f->vm), GFP_KERNEL);
	f->vcpu = kunit_kzalloc(test, sizeof(*f->vcpu), GFP_KERNEL);
	if (!f->vm || !f->vcpu || init_srcu_struct(&f->vm->srcu))
		return -ENOMEM;
	f->vcpu->vm = f->vm;
	mutex_init(&f->vm->slots_lock);
	xa_init(&f->vm->vcpus);
	KUNIT_ASSERT_EQ(test, keel_slots_init(f->vm), 0);
	KUNIT_ASSERT_EQ(test, keel_tables_init(f->vm, &c->format), 0);
	test->priv = f;
	return 0;
}

static void mmu_test_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	if (!f)
		return;
	keel_mmu_destroy(f->vm);
	KUNIT_EXPECT_EQ(test, f->vm->stats.tables, 0);
	KUNIT_EXPECT_EQ(test, f->vm->stats.pages_4k, 0);
	KUNIT_EXPECT_EQ(test, f->vm->stats.pages_2m, 0);
	KUNIT_EXPECT_EQ(test, f->vm->stats.pages_1g, 0);
	keel_slots_destroy(f->vm);
	cleanup_srcu_struct(&f->vm->srcu);
	keel_table_cache_free(&f->cache);
	f->vm->notifier.ops = NULL;
}

static int map(struct kunit *test, gfn_t gfn, hpa_t pa, int level, bool write, bool host)
{
	struct fixture *f = test->priv;
	struct keel_mapping m = {
		.gfn = gfn, .pa = pa, .level = level, .write = write, .host_writable = host,
	};
	int ret;

	KUNIT_ASSERT_EQ(test, keel_table_cache_fill(&f->cache), 0);
	read_lock(&f->vm->mmu.lock);
	ret = keel_tables_map(f->vm, &f->cache, &m);
	read_unlock(&f->vm->mmu.lock);
	return ret;
}

/* The leaf's entry, 0 when there is none. */
static u64 leaf(struct kunit *test, gfn_t gfn, int *level)
{
	struct fixture *f = test->priv;
	int unused;
	u64 entry;

	read_lock(&f->vm->mmu.lock);
	entry = keel_tables_lookup(f->vm, gfn, level ?: &unused);
	read_unlock(&f->vm->mmu.lock);
	return entry;
}

static bool writable(struct kunit *test, gfn_t gfn)
{
	struct fixture *f = test->priv;

	return leaf(test, gfn, NULL) & f->vm->mmu.format->write;
}

static bool permit(struct kunit *test, gfn_t gfn, bool write, bool only_4k)
{
	struct fixture *f = test->priv;
	bool ok;

	read_lock(&f->vm->mmu.lock);
	ok = keel_tables_permit(f->vm, gfn, write, only_4k);
	read_unlock(&f->vm->mmu.lock);
	return ok;
}

typedef bool (*range_fn)(struct keel_vm *vm, gfn_t start, gfn_t end);

/* Whether a flush was due; it is done. */
static bool range(struct kunit *test, range_fn fn, gfn_t start, gfn_t end)
{
	struct fixture *f = test->priv;
	bool ret;

	write_lock(&f->vm->mmu.lock);
	ret = fn(f->vm, start, end);
	keel_mmu_unlock(f->vm, ret);
	return ret;
}

static s64 tables(struct kunit *test)
{
	struct fixture *f = test->priv;

	return f->vm->stats.tables;
}

/* ---- tables ---- */

static void leaf_is_what_was_mapped(struct kunit *test)
{
	struct fixture *f = test->priv;
	const struct keel_table_format *fmt = f->vm->mmu.format;
	int level = 0;
	u64 entry;

	KUNIT_EXPECT_EQ(test, leaf(test, 5, NULL), 0ULL);
	KUNIT_ASSERT_EQ(test, map(test, 5, 0x123456000, 1, false, false), 0);
	entry = leaf(test, 5, &level);
	KUNIT_EXPECT_EQ(test, level, 1);
	KUNIT_EXPECT_EQ(test, entry & GENMASK_ULL(51, 12), 0x123456000ULL);
	KUNIT_EXPECT_EQ(test, entry & fmt->leaf, fmt->leaf);
	KUNIT_EXPECT_EQ(test, entry & fmt->write, 0ULL);
	KUNIT_EXPECT_EQ(test, entry & fmt->exec, fmt->exec);
	KUNIT_EXPECT_EQ(test, entry & fmt->accessed, fmt->accessed);
	KUNIT_EXPECT_EQ(test, entry & fmt->dirty, 0ULL);
	/* neighbours, and what differs in one index only */
	KUNIT_EXPECT_EQ(test, leaf(test, 4, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, 5 + 512, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, 5 + PAGES(GB), NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, 5 + PAGES(512 * GB), NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, KEEL_MAX_GFN + 5, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, tables(test), 4);
}

static void last_frame(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, map(test, KEEL_MAX_GFN - 1, 0x1000, 1, true, true), 0);
	KUNIT_EXPECT_TRUE(test, writable(test, KEEL_MAX_GFN - 1));
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_zap, 0, ~0ULL));
	KUNIT_EXPECT_EQ(test, leaf(test, KEEL_MAX_GFN - 1, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, tables(test), 1);
	KUNIT_EXPECT_EQ(test, ((struct fixture *)test->priv)->vm->stats.pages_4k, 0);
}

static void permissions_only_grow(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, map(test, 9, 0x9000, 1, false, false), 0);
	KUNIT_EXPECT_TRUE(test, permit(test, 9, false, false));
	/* the host's mapping is read-only: it has to be asked */
	KUNIT_EXPECT_FALSE(test, permit(test, 9, true, false));
	KUNIT_EXPECT_FALSE(test, writable(test, 9));
	KUNIT_ASSERT_EQ(test, map(test, 9, 0x9000, 1, true, true), 0);
	KUNIT_EXPECT_TRUE(test, writable(test, 9));
	KUNIT_ASSERT_EQ(test, map(test, 9, 0x9000, 1, false, false), 0);
	KUNIT_EXPECT_TRUE(test, writable(test, 9));
}

static void never_replaces_a_page(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, map(test, 9, 0x9000, 1, false, false), 0);
	KUNIT_EXPECT_EQ(test, map(test, 9, 0xa000, 1, true, true), 1);
	KUNIT_EXPECT_EQ(test, leaf(test, 9, NULL) & GENMASK_ULL(51, 12), 0x9000ULL);
	KUNIT_EXPECT_FALSE(test, writable(test, 9));
}

static void large_leaves(struct kunit *test)
{
	const struct keel_vm_stats *stats = &((struct fixture *)test->priv)->vm->stats;
	gfn_t base = PAGES(3 * GB);
	int level = 0;

	/* from a page in the middle */
	KUNIT_ASSERT_EQ(test, map(test, base + 7, 0x40000000 + 7 * PAGE_SIZE, 2, true, true), 0);
	KUNIT_EXPECT_EQ(test, leaf(test, base, &level) & GENMASK_ULL(51, 12), 0x40000000ULL);
	KUNIT_EXPECT_EQ(test, level, 2);
	KUNIT_EXPECT_NE(test, leaf(test, base + 511, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, base + 512, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, tables(test), 3);
	KUNIT_EXPECT_EQ(test, stats->pages_2m, 1);

	/* a small one below it, a larger one over it: both are in the way */
	KUNIT_EXPECT_EQ(test, map(test, base + 7, 0x40007000, 1, true, true), 2);
	KUNIT_EXPECT_EQ(test, map(test, base, 0x40000000, 3, true, true), 3);

	/* a hole in it takes it away as a whole */
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_zap, base + 1, base + 2));
	KUNIT_EXPECT_EQ(test, leaf(test, base + 7, NULL), 0ULL);
	KUNIT_EXPECT_FALSE(test, range(test, keel_tables_zap, base + 1, base + 2));
	KUNIT_EXPECT_EQ(test, stats->pages_2m, 0);

	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_remove, base, base + PAGES(GB)) ||
			  tables(test) == 1);
	KUNIT_ASSERT_EQ(test, map(test, base, 0x80000000, 3, true, true), 0);
	KUNIT_EXPECT_NE(test, leaf(test, base + PAGES(GB) - 1, &level), 0ULL);
	KUNIT_EXPECT_EQ(test, level, 3);
	KUNIT_EXPECT_EQ(test, tables(test), 2);
	KUNIT_EXPECT_EQ(test, stats->pages_1g, 1);
}

static void table_gives_way_to_large_leaf(struct kunit *test)
{
	int level = 0;

	KUNIT_ASSERT_EQ(test, map(test, 3, 0x3000, 1, true, true), 0);
	KUNIT_EXPECT_EQ(test, map(test, 0, 0x200000, 2, true, true), 2);
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_zap, 0, 512));
	KUNIT_ASSERT_EQ(test, map(test, 0, 0x200000, 2, true, true), 0);
	KUNIT_EXPECT_NE(test, leaf(test, 3, &level), 0ULL);
	KUNIT_EXPECT_EQ(test, level, 2);
	KUNIT_EXPECT_EQ(test, tables(test), 3);
}

static void zap_exact_range(struct kunit *test)
{
	gfn_t gfn;

	for (gfn = 500; gfn < 530; gfn++)
		KUNIT_ASSERT_EQ(test, map(test, gfn, gfn << PAGE_SHIFT, 1, true, true), 0);
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_zap, 505, 520));
	for (gfn = 500; gfn < 530; gfn++)
		KUNIT_EXPECT_EQ(test, !leaf(test, gfn, NULL), gfn >= 505 && gfn < 520);
	KUNIT_EXPECT_FALSE(test, range(test, keel_tables_zap, 505, 520));
	KUNIT_EXPECT_FALSE(test, range(test, keel_tables_zap, 520, 520));
}

static void tables_are_freed(struct kunit *test)
{
	/* two tables of the last level */
	KUNIT_ASSERT_EQ(test, map(test, 0, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 512, 0x1000, 1, true, true), 0);
	KUNIT_EXPECT_EQ(test, tables(test), 5);
	/* an emptied table stays, unless its whole range went */
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_zap, 0, 1));
	KUNIT_EXPECT_EQ(test, tables(test), 5);
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_zap, 0, 512));
	KUNIT_EXPECT_EQ(test, tables(test), 4);
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_remove, 512, 513));
	KUNIT_EXPECT_EQ(test, tables(test), 1);
}

static void detached_tables_wait_for_the_flush(struct kunit *test)
{
	struct fixture *f = test->priv;

	KUNIT_ASSERT_EQ(test, map(test, 0, 0x1000, 1, true, true), 0);
	write_lock(&f->vm->mmu.lock);
	KUNIT_EXPECT_TRUE(test, keel_tables_zap(f->vm, 0, KEEL_MAX_GFN));
	KUNIT_EXPECT_FALSE(test, list_empty(&f->vm->mmu.detached));
	keel_flush_tlbs(f->vm);
	KUNIT_EXPECT_TRUE(test, list_empty(&f->vm->mmu.detached));
	KUNIT_EXPECT_FALSE(test, list_empty(&f->vm->mmu.flushed));
	KUNIT_EXPECT_EQ(test, tables(test), 4);
	keel_mmu_unlock(f->vm, false);
	KUNIT_EXPECT_EQ(test, tables(test), 1);
	KUNIT_EXPECT_EQ(test, f->vm->mmu.tlb_gen, 1ULL);
}

static void write_protection(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, map(test, 511, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 512, 0x2000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 513, 0x3000, 1, true, true), 0);
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_write_protect, 511, 513));
	KUNIT_EXPECT_FALSE(test, writable(test, 511));
	KUNIT_EXPECT_FALSE(test, writable(test, 512));
	KUNIT_EXPECT_TRUE(test, writable(test, 513));
	/* nothing left to protect: no flush */
	KUNIT_EXPECT_FALSE(test, range(test, keel_tables_write_protect, 511, 513));
	/* given back without asking the host */
	KUNIT_EXPECT_TRUE(test, permit(test, 512, true, true));
	KUNIT_EXPECT_TRUE(test, writable(test, 512));
}

static void write_protection_by_mask(struct kunit *test)
{
	struct fixture *f = test->priv;
	gfn_t base = 512 - 20, i;
	u64 mask = BIT_ULL(0) | GENMASK_ULL(25, 15) | BIT_ULL(63);

	for (i = 0; i < 64; i++)
		KUNIT_ASSERT_EQ(test, map(test, base + i, 0x1000, 1, true, true), 0);
	write_lock(&f->vm->mmu.lock);
	KUNIT_EXPECT_FALSE(test, keel_tables_write_protect_mask(f->vm, base, 0));
	KUNIT_EXPECT_TRUE(test, keel_tables_write_protect_mask(f->vm, base, mask));
	keel_mmu_unlock(f->vm, true);
	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_EQ(test, writable(test, base + i), !(mask & BIT_ULL(i)));

	write_lock(&f->vm->mmu.lock);
	keel_tables_write_protect_mask(f->vm, base, ~0ULL);
	keel_mmu_unlock(f->vm, true);
	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_FALSE(test, writable(test, base + i));
}

static void write_protected_large_leaf(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, map(test, 0, 0x200000, 2, true, true), 0);
	KUNIT_EXPECT_TRUE(test, range(test, keel_tables_write_protect, 3, 4));
	KUNIT_EXPECT_FALSE(test, writable(test, 0));
	/* a log wants it split, not writable again */
	KUNIT_EXPECT_FALSE(test, permit(test, 3, true, true));
	KUNIT_EXPECT_TRUE(test, permit(test, 3, false, true));
	KUNIT_EXPECT_TRUE(test, permit(test, 3, true, false));
}

static bool make_old(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	return keel_tables_age(vm, start, end, true);
}

static bool is_young(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	return keel_tables_age(vm, start, end, false);
}

static void ageing(struct kunit *test)
{
	struct fixture *f = test->priv;

	KUNIT_EXPECT_FALSE(test, range(test, is_young, 0, 1024));
	KUNIT_ASSERT_EQ(test, map(test, 3, 0x3000, 1, true, true), 0);
	KUNIT_EXPECT_TRUE(test, range(test, is_young, 3, 4));
	KUNIT_EXPECT_FALSE(test, range(test, is_young, 4, 5));
	KUNIT_EXPECT_TRUE(test, range(test, make_old, 3, 4));
	KUNIT_EXPECT_FALSE(test, range(test, is_young, 3, 4));
	KUNIT_EXPECT_FALSE(test, range(test, make_old, 3, 4));
	/* it stays mapped where the CPU says that it is used again */
	KUNIT_EXPECT_EQ(test, !!leaf(test, 3, NULL), !!f->vm->mmu.format->accessed);
}

static void spare_tables_are_kept(struct kunit *test)
{
	struct fixture *f = test->priv;

	KUNIT_ASSERT_EQ(test, map(test, 0, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 1, 0x1000, 1, true, true), 0);
	KUNIT_EXPECT_EQ(test, f->cache.nr, KEEL_TABLES_PER_MAP);
}

static void empty_cache(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_mapping m = { .gfn = 0, .pa = 0x1000, .level = 1 };

	read_lock(&f->vm->mmu.lock);
	KUNIT_EXPECT_EQ(test, keel_tables_map(f->vm, &f->cache, &m), -ENOMEM);
	read_unlock(&f->vm->mmu.lock);
	KUNIT_EXPECT_EQ(test, leaf(test, 0, NULL), 0ULL);
}

/* ---- slots ---- */

static int set_slot(struct kunit *test, u32 slot, u32 flags, gpa_t gpa, u64 size, u64 hva)
{
	struct fixture *f = test->priv;
	struct kvm_userspace_memory_region r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa,
		.memory_size = size, .userspace_addr = hva,
	};

	return keel_set_memory_region(f->vm, &r);
}

/* The id of the slot with @gpa, or -1; and it has it at @hva. */
static int slot_at(struct kunit *test, gpa_t gpa, hva_t hva)
{
	struct fixture *f = test->priv;
	struct keel_slot *slot;
	int idx, id = -1;

	idx = srcu_read_lock(&f->vm->srcu);
	slot = keel_slot_find(f->vm, keel_gfn(gpa));
	if (slot) {
		id = slot->id;
		KUNIT_EXPECT_EQ(test, keel_slot_hva(slot, keel_gfn(gpa)), hva);
	}
	srcu_read_unlock(&f->vm->srcu, idx);
	return id;
}

static void slot_bad_arguments(struct kunit *test)
{
	u64 size = 4 * PAGE_SIZE;

	KUNIT_EXPECT_EQ(test, set_slot(test, 0, BIT(2), 0, size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, KEEL_MAX_MEMSLOTS, 0, 0, size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1 << 16, 0, 0, size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, 0x800, size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, 0, size + 1, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, 0, size, HVA + 8), -EINVAL);
	/* not the VMM's to give */
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, 0, size, PAGE_OFFSET), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, 0, 1ULL << 44, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, -PAGE_SIZE, 2 * PAGE_SIZE, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, BIT_ULL(48), size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, BIT_ULL(48) - PAGE_SIZE, size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 0, 0, BIT_ULL(48) - size, size, HVA), 0);
	/* there is no such slot to delete */
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0, 0, 0), -EINVAL);
}

static void slot_overlap(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, set_slot(test, 1, 0, 16 * PAGE_SIZE, 4 * PAGE_SIZE, HVA), 0);
	KUNIT_EXPECT_EQ(test, set_slot(test, 2, 0, 15 * PAGE_SIZE, 2 * PAGE_SIZE, HVA), -EEXIST);
	KUNIT_EXPECT_EQ(test, set_slot(test, 2, 0, 19 * PAGE_SIZE, 2 * PAGE_SIZE, HVA), -EEXIST);
	KUNIT_EXPECT_EQ(test, set_slot(test, 2, 0, 17 * PAGE_SIZE, PAGE_SIZE, HVA), -EEXIST);
	KUNIT_EXPECT_EQ(test, set_slot(test, 2, 0, 0, 64 * PAGE_SIZE, HVA), -EEXIST);
	/* neighbours */
	KUNIT_EXPECT_EQ(test, set_slot(test, 2, 0, 15 * PAGE_SIZE, PAGE_SIZE, HVA), 0);
	KUNIT_EXPECT_EQ(test, set_slot(test, 3, 0, 20 * PAGE_SIZE, PAGE_SIZE, HVA), 0);
	KUNIT_EXPECT_EQ(test, slot_at(test, 15 * PAGE_SIZE, HVA), 2);
	KUNIT_EXPECT_EQ(test, slot_at(test, 19 * PAGE_SIZE, HVA + 3 * PAGE_SIZE), 1);
	KUNIT_EXPECT_EQ(test, slot_at(test, 20 * PAGE_SIZE, HVA), 3);
}

static void slot_change(struct kunit *test)
{
	u64 size = 4 * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, set_slot(test, 1, 0, 0x10000, size, HVA), 0);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x10000, size, HVA), 0);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x10000, 2 * size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x10000, size, HVA + size), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, KVM_MEM_READONLY, 0x10000, size, HVA), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x10000, size, HVA), 0);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x10000, size, HVA), 0);
	/* delete; then the id is free for anything */
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0, 0, 0), 0);
	KUNIT_EXPECT_EQ(test, slot_at(test, 0x10000, HVA), -1);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0, 0, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, KVM_MEM_READONLY, 0x10000, 2 * size, HVA), 0);
}

static void slot_move(struct kunit *test)
{
	u64 size = 4 * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, set_slot(test, 1, 0, 0x10000, size, HVA), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 2, 0, 0x20000, size, HVA), 0);
	KUNIT_ASSERT_EQ(test, map(test, 0x10, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 0x20, 0x1000, 1, true, true), 0);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x21000, size, HVA), -EEXIST);
	KUNIT_EXPECT_NE(test, leaf(test, 0x10, NULL), 0ULL);
	/* also to where it overlaps its former self */
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x12000, size, HVA), 0);
	KUNIT_EXPECT_EQ(test, slot_at(test, 0x10000, HVA), -1);
	KUNIT_EXPECT_EQ(test, slot_at(test, 0x12000, HVA), 1);
	KUNIT_EXPECT_EQ(test, leaf(test, 0x10, NULL), 0ULL);
	KUNIT_EXPECT_NE(test, leaf(test, 0x20, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, set_slot(test, 1, 0, 0x30000, size, HVA), 0);
	KUNIT_EXPECT_EQ(test, slot_at(test, 0x15000, HVA), -1);
	KUNIT_EXPECT_EQ(test, slot_at(test, 0x33000, HVA + 0x3000), 1);
}

static void slot_find_among_many(struct kunit *test)
{
	int i, n = 101;
	gpa_t gpa;

	/* in an order that is neither up nor down; a page free between two */
	for (i = 0; i < n; i++) {
		gpa = (i * 37 % n) * 4 * PAGE_SIZE;
		KUNIT_ASSERT_EQ(test, set_slot(test, i, 0, gpa, 3 * PAGE_SIZE, HVA + gpa), 0);
	}
	for (i = 0; i < n; i++) {
		gpa = (i * 37 % n) * 4 * PAGE_SIZE;
		KUNIT_EXPECT_EQ(test, slot_at(test, gpa, HVA + gpa), i);
		KUNIT_EXPECT_EQ(test, slot_at(test, gpa + 2 * PAGE_SIZE,
					      HVA + gpa + 2 * PAGE_SIZE), i);
		KUNIT_EXPECT_EQ(test, slot_at(test, gpa + 3 * PAGE_SIZE, 0), -1);
	}
	KUNIT_EXPECT_EQ(test, slot_at(test, ~0ULL, 0), -1);
	for (i = 0; i < n; i += 2)
		KUNIT_ASSERT_EQ(test, set_slot(test, i, 0, 0, 0, 0), 0);
	for (i = 0; i < n; i++) {
		gpa = (i * 37 % n) * 4 * PAGE_SIZE;
		KUNIT_EXPECT_EQ(test, slot_at(test, gpa, HVA + gpa), i % 2 ? i : -1);
	}
}

static void slot_delete_zaps(struct kunit *test)
{
	struct fixture *f = test->priv;
	u64 gen = f->vm->mmu.tlb_gen;
	unsigned long seq = f->vm->mmu.seq;

	/* more than a piece of 1G, and not aligned to one */
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0x5000, 3 * GB, HVA), 0);
	KUNIT_EXPECT_EQ(test, f->vm->mmu.seq, seq);
	KUNIT_ASSERT_EQ(test, map(test, 5, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, PAGES(GB), 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 4 + PAGES(3 * GB), 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 5 + PAGES(3 * GB), 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, 0, 0), 0);
	KUNIT_EXPECT_EQ(test, leaf(test, 5, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, PAGES(GB), NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, leaf(test, 4 + PAGES(3 * GB), NULL), 0ULL);
	KUNIT_EXPECT_NE(test, leaf(test, 5 + PAGES(3 * GB), NULL), 0ULL);
	KUNIT_EXPECT_GT(test, f->vm->mmu.tlb_gen, gen);
	KUNIT_EXPECT_NE(test, f->vm->mmu.seq, seq);
}

/* ---- the log ---- */

static void log_on_and_off(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_slot *slot;
	int idx;

	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, 4 * MB, HVA), 0);
	KUNIT_ASSERT_EQ(test, map(test, 1, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 512, 0x200000, 2, true, true), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * MB, HVA), 0);
	KUNIT_EXPECT_FALSE(test, writable(test, 1));
	KUNIT_EXPECT_FALSE(test, writable(test, 512));

	idx = srcu_read_lock(&f->vm->srcu);
	slot = keel_slot_find(f->vm, 1023);
	KUNIT_ASSERT_NOT_NULL(test, slot);
	KUNIT_ASSERT_NOT_NULL(test, slot->dirty);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(slot->dirty, 1024));
	keel_mark_dirty(f->vcpu, slot, 1023);
	KUNIT_EXPECT_EQ(test, find_first_bit(slot->dirty, 1024), 1023UL);
	srcu_read_unlock(&f->vm->srcu, idx);

	/* moving it keeps the log */
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, KVM_MEM_LOG_DIRTY_PAGES, GB, 4 * MB, HVA), 0);
	idx = srcu_read_lock(&f->vm->srcu);
	slot = keel_slot_find(f->vm, PAGES(GB));
	KUNIT_ASSERT_NOT_NULL(test, slot);
	KUNIT_EXPECT_TRUE(test, test_bit(1023, slot->dirty));
	srcu_read_unlock(&f->vm->srcu, idx);

	/* off: small pages go, so that large ones can come */
	KUNIT_ASSERT_EQ(test, map(test, PAGES(GB), 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, GB, 4 * MB, HVA), 0);
	KUNIT_EXPECT_EQ(test, leaf(test, PAGES(GB), NULL), 0ULL);
}

static void log_initially_set(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_slot *slot;
	int idx;

	KUNIT_EXPECT_EQ(test, keel_enable_manual_protect(f->vm, 4), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_enable_manual_protect(f->vm, 2), -EINVAL);
	KUNIT_ASSERT_EQ(test, keel_enable_manual_protect(f->vm, 3), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, 67 * PAGE_SIZE, HVA), 0);
	KUNIT_ASSERT_EQ(test, map(test, 1, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, KVM_MEM_LOG_DIRTY_PAGES, 0,
				       67 * PAGE_SIZE, HVA), 0);
	/* all dirty: write-protected when userspace clears it */
	KUNIT_EXPECT_TRUE(test, writable(test, 1));
	idx = srcu_read_lock(&f->vm->srcu);
	slot = keel_slot_find(f->vm, 0);
	KUNIT_ASSERT_NOT_NULL(test, slot);
	KUNIT_EXPECT_EQ(test, bitmap_weight(slot->dirty, 128), 67);
	srcu_read_unlock(&f->vm->srcu, idx);
}

/* ---- the notifier ---- */

static void notifier_removes_every_alias(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_mmu *mmu = &f->vm->mmu;
	struct mmu_notifier *mn = &f->vm->notifier;
	struct mmu_notifier_range a = { .start = HVA + 0x2000, .end = HVA + 0x4000 };
	struct mmu_notifier_range b = { .start = HVA, .end = HVA + 0x1000 };
	unsigned long seq = mmu->seq;
	gfn_t gfn;

	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, 8 * PAGE_SIZE, HVA), 0);
	KUNIT_ASSERT_EQ(test, set_slot(test, 1, 0, GB, 8 * PAGE_SIZE, HVA), 0);
	/* begins in the middle of the others */
	KUNIT_ASSERT_EQ(test, set_slot(test, 2, 0, 2 * GB, PAGE_SIZE, HVA + 0x3000), 0);
	for (gfn = 0; gfn < 8; gfn++) {
		KUNIT_ASSERT_EQ(test, map(test, gfn, 0x1000, 1, true, true), 0);
		KUNIT_ASSERT_EQ(test, map(test, PAGES(GB) + gfn, 0x1000, 1, true, true), 0);
	}
	KUNIT_ASSERT_EQ(test, map(test, PAGES(2 * GB), 0x1000, 1, true, true), 0);

	keel_notifier_ops.invalidate_range_start(mn, &a);
	for (gfn = 0; gfn < 8; gfn++) {
		KUNIT_EXPECT_EQ(test, !leaf(test, gfn, NULL), gfn == 2 || gfn == 3);
		KUNIT_EXPECT_EQ(test, !leaf(test, PAGES(GB) + gfn, NULL), gfn == 2 || gfn == 3);
	}
	KUNIT_EXPECT_EQ(test, leaf(test, PAGES(2 * GB), NULL), 0ULL);

	/* a second one under way: the union of both */
	keel_notifier_ops.invalidate_range_start(mn, &b);
	KUNIT_EXPECT_EQ(test, mmu->invalidating, 2);
	KUNIT_EXPECT_EQ(test, mmu->inv_start, (hva_t)HVA);
	KUNIT_EXPECT_EQ(test, mmu->inv_end, (hva_t)HVA + 0x4000);
	KUNIT_EXPECT_EQ(test, mmu->seq, seq);
	keel_notifier_ops.invalidate_range_end(mn, &b);
	keel_notifier_ops.invalidate_range_end(mn, &a);
	KUNIT_EXPECT_EQ(test, mmu->invalidating, 0);
	KUNIT_EXPECT_EQ(test, mmu->seq, seq + 2);
}

static void notifier_elsewhere(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct mmu_notifier *mn = &f->vm->notifier;
	struct mmu_notifier_range before = { .start = HVA - PAGE_SIZE, .end = HVA };
	struct mmu_notifier_range after = { .start = HVA + PAGE_SIZE, .end = HVA + GB };
	u64 gen;

	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, PAGE_SIZE, HVA), 0);
	KUNIT_ASSERT_EQ(test, map(test, 0, 0x1000, 1, true, true), 0);
	gen = f->vm->mmu.tlb_gen;
	keel_notifier_ops.invalidate_range_start(mn, &before);
	keel_notifier_ops.invalidate_range_end(mn, &before);
	keel_notifier_ops.invalidate_range_start(mn, &after);
	keel_notifier_ops.invalidate_range_end(mn, &after);
	KUNIT_EXPECT_NE(test, leaf(test, 0, NULL), 0ULL);
	KUNIT_EXPECT_EQ(test, f->vm->mmu.tlb_gen, gen);
	/* a deleted slot is not found by its address any more */
	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, 0, 0), 0);
	KUNIT_EXPECT_PTR_EQ(test, interval_tree_iter_first(&f->vm->mmu.hva_tree, 0, ~0UL),
			    (struct interval_tree_node *)NULL);
}

static void notifier_ages(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct mmu_notifier *mn = &f->vm->notifier;

	KUNIT_ASSERT_EQ(test, set_slot(test, 0, 0, 0, 4 * PAGE_SIZE, HVA), 0);
	KUNIT_ASSERT_EQ(test, map(test, 1, 0x1000, 1, true, true), 0);
	KUNIT_EXPECT_FALSE(test, keel_notifier_ops.test_young(mn, NULL, HVA));
	KUNIT_EXPECT_TRUE(test, keel_notifier_ops.test_young(mn, NULL, HVA + PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, keel_notifier_ops.clear_young(mn, NULL, HVA, HVA + 0x4000));
	KUNIT_EXPECT_FALSE(test, keel_notifier_ops.clear_flush_young(mn, NULL, HVA,
								     HVA + 0x4000));
	KUNIT_ASSERT_EQ(test, map(test, 1, 0x1000, 1, true, true), 0);
	KUNIT_EXPECT_TRUE(test, keel_notifier_ops.test_young(mn, NULL, HVA + PAGE_SIZE));
}

static void notifier_release(struct kunit *test)
{
	struct fixture *f = test->priv;

	KUNIT_ASSERT_EQ(test, map(test, 1, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, KEEL_MAX_GFN - 1, 0x1000, 1, true, true), 0);
	keel_notifier_ops.release(&f->vm->notifier, NULL);
	KUNIT_EXPECT_EQ(test, tables(test), 1);
}

#ifdef CONFIG_KEEL_TLB_MODEL

/* ---- the TLB model ---- */

/* No ASID or EPTP is like these. */
#define TAG		0xfeed000000000000UL
#define OTHER_TAG	(TAG + PAGE_SIZE)

/* How old is what a guest of @owner, which has seen so many changes, finds there? */
static u64 use(unsigned long tag, u64 owner, u64 changes)
{
	u64 since;

	local_irq_disable();
	since = keel_tlb_model_use(KEEL_TLB_TEST, tag, owner, changes);
	local_irq_enable();
	return since;
}

static void tell(void (*what)(enum keel_tlb, unsigned long), unsigned long tag)
{
	local_irq_disable();
	what(KEEL_TLB_TEST, tag);
	local_irq_enable();
}

static void model_remembers_until_a_flush(struct kunit *test)
{
	migrate_disable();
	tell(keel_tlb_model_flushed, TAG);
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 5), 5ULL);
	/* what was cached at 5 is still there */
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 6), 5ULL);
	tell(keel_tlb_model_flushed, OTHER_TAG);
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 6), 5ULL);
	tell(keel_tlb_model_flushed, TAG);
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 7), 7ULL);
	tell(keel_tlb_model_flushed, KEEL_TLB_ALL_TAGS);
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 8), 8ULL);
	migrate_enable();
}

static void model_knows_whose_a_tag_is(struct kunit *test)
{
	migrate_disable();
	tell(keel_tlb_model_flush_lost, KEEL_TLB_ALL_TAGS);
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 5), 0ULL);
	KUNIT_EXPECT_EQ(test, use(TAG, 11, 3), 0ULL);
	tell(keel_tlb_model_flushed, KEEL_TLB_ALL_TAGS);
	KUNIT_EXPECT_EQ(test, use(TAG, 10, 5), 5ULL);
	KUNIT_EXPECT_EQ(test, use(OTHER_TAG, 11, 3), 3ULL);
	KUNIT_EXPECT_EQ(test, use(TAG, 11, 3), 0ULL);
	/* an entry that was to flush failed: what is there nobody knows */
	tell(keel_tlb_model_flush_lost, OTHER_TAG);
	KUNIT_EXPECT_EQ(test, use(OTHER_TAG, 11, 3), 0ULL);
	migrate_enable();
}

/* The vCPU is entered and left. Return: how often its linear translations became wrong. */
static u64 enter(struct kunit *test, unsigned long tag, struct keel_tlb_regs regs)
{
	struct fixture *f = test->priv;
	u64 before = f->vcpu->tlb_model.changes;

	local_irq_disable();
	keel_tlb_model_flushed(KEEL_TLB_LINEAR, tag);
	keel_tlb_model_flushed(KEEL_TLB_SECOND_LEVEL, tag);
	keel_tlb_model_enter(f->vcpu, tag, tag, &regs);
	KUNIT_EXPECT_NE(test, f->vcpu->tlb_model.running, 0ULL);
	keel_tlb_model_left(f->vcpu, &regs);
	KUNIT_EXPECT_EQ(test, f->vcpu->tlb_model.running, 0ULL);
	local_irq_enable();
	return f->vcpu->tlb_model.changes - before;
}

static void model_knows_what_needs_a_flush(struct kunit *test)
{
	struct keel_tlb_regs regs = { .cr0 = X86_CR0_PG, .cr3 = 0x1000, .cr4 = X86_CR4_PAE };
	struct fixture *f = test->priv;

	migrate_disable();
	keel_tlb_model_vcpu(f->vcpu);
	KUNIT_EXPECT_EQ(test, enter(test, TAG, regs), 1ULL);
	KUNIT_EXPECT_EQ(test, enter(test, TAG, regs), 0ULL);
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 1ULL);
	regs.cr3 += PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 1ULL);
	regs.cr0 ^= X86_CR0_WP;
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 0ULL);
	regs.cr0 ^= X86_CR0_PG;
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 1ULL);
	regs.cr4 ^= X86_CR4_PCIDE;
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 1ULL);
	regs.cr3 += PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 0ULL);
	regs.efer ^= EFER_NX;
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 1ULL);
	keel_tlb_model_flush_asked(f->vcpu);
	KUNIT_EXPECT_EQ(test, enter(test, OTHER_TAG, regs), 0ULL);
	migrate_enable();
}

static void model_counts_what_is_taken_away(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_tlb_vm *m = &f->vm->mmu.tlb_model;
	u64 before = m->changes;

	KUNIT_ASSERT_EQ(test, map(test, 0, 0x1000, 1, true, true), 0);
	KUNIT_ASSERT_EQ(test, map(test, 512, 0x2000, 1, true, true), 0);
	KUNIT_EXPECT_EQ(test, m->changes, before);
	range(test, keel_tables_write_protect, 0, 1);
	KUNIT_EXPECT_EQ(test, m->changes, before + 1);
	KUNIT_EXPECT_EQ(test, m->flushed, before + 1);
	KUNIT_EXPECT_EQ(test, m->due, before + 1);
	KUNIT_EXPECT_TRUE(test, permit(test, 0, true, true));
	KUNIT_EXPECT_EQ(test, m->changes, before + 1);
	range(test, keel_tables_zap, 0, 1);
	KUNIT_EXPECT_EQ(test, m->changes, before + 2);
	range(test, keel_tables_zap, 512, 1024);	/* the table of 512 */
	KUNIT_EXPECT_EQ(test, m->changes, before + 3);
	KUNIT_EXPECT_EQ(test, m->due, before + 3);
}

#endif

#define FORMATS(fn)	KUNIT_CASE_PARAM(fn, formats_gen_params)

static struct kunit_case mmu_cases[] = {
	FORMATS(leaf_is_what_was_mapped),
	FORMATS(last_frame),
	FORMATS(permissions_only_grow),
	FORMATS(never_replaces_a_page),
	FORMATS(large_leaves),
	FORMATS(table_gives_way_to_large_leaf),
	FORMATS(zap_exact_range),
	FORMATS(tables_are_freed),
	FORMATS(detached_tables_wait_for_the_flush),
	FORMATS(write_protection),
	FORMATS(write_protection_by_mask),
	FORMATS(write_protected_large_leaf),
	FORMATS(ageing),
	FORMATS(spare_tables_are_kept),
	FORMATS(empty_cache),
	KUNIT_CASE(slot_bad_arguments),
	KUNIT_CASE(slot_overlap),
	KUNIT_CASE(slot_change),
	FORMATS(slot_move),
	KUNIT_CASE(slot_find_among_many),
	FORMATS(slot_delete_zaps),
	FORMATS(log_on_and_off),
	FORMATS(log_initially_set),
	FORMATS(notifier_removes_every_alias),
	FORMATS(notifier_elsewhere),
	FORMATS(notifier_ages),
	FORMATS(notifier_release),
#ifdef CONFIG_KEEL_TLB_MODEL
	KUNIT_CASE(model_remembers_until_a_flush),
	KUNIT_CASE(model_knows_whose_a_tag_is),
	KUNIT_CASE(model_knows_what_needs_a_flush),
	FORMATS(model_counts_what_is_taken_away),
#endif
	{}
};

static struct kunit_suite mmu_suite = {
	.name = "keel-mmu",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = mmu_cases,
};

kunit_test_suites(&mmu_suite);
