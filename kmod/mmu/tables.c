// SPDX-License-Identifier: GPL-2.0-only
/*
 * Second-level page tables: one walker for EPT and NPT.
 *
 * Entries change only by atomic operations, since under mmu.lock for read
 * several vCPUs install leaves at once, and the CPU sets accessed and dirty
 * bits at any time. Only the lock's writer removes entries and detaches
 * tables, so that whoever holds it for read can follow every pointer.
 *
 * A detached table may still be cached by a CPU. It waits on mmu.detached until
 * keel_flush_tlbs() has made sure that none uses it, and on mmu.flushed until the
 * lock is dropped.
 */
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/smp.h>

#include "internal.h"

/*
 * Of a leaf: the host's mapping is writable, KEEL's need not be. Ignored by
 * the CPU: SDM vol. 3 table "Format of an EPT Page-Table Entry" (bits 56:52),
 * APM vol. 2 "4-Kbyte PTE, Long Mode" (AVL, bits 58:52).
 */
#define HOST_WRITABLE	BIT_ULL(52)
#define ADDRESS_MASK	GENMASK_ULL(51, PAGE_SHIFT)

static u64 *entry_table(u64 entry)
{
	return __va(__sme_clr(entry & ADDRESS_MASK));
}

static int entry_index(gfn_t gfn, int level)
{
	return (gfn >> (9 * (level - 1))) & (PTRS_PER_PTE - 1);
}

static bool entry_present(const struct keel_mmu *mmu, u64 entry)
{
	return entry & mmu->format->present;
}

static bool entry_leaf(const struct keel_mmu *mmu, u64 entry, int level)
{
	return level == KEEL_LEVEL_4K || (entry & mmu->format->large);
}

/* ---- pages of tables ---- */

static u64 *table_alloc(void)
{
	return (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
}

static void stat_add(u64 *stat, s64 delta)
{
	atomic64_add(delta, (atomic64_t *)stat);
}

/* A table becomes, or ceases to be, part of a tree. */
static void table_count(struct keel_vm *vm, const void *table, int delta)
{
	mod_lruvec_page_state(virt_to_page(table), NR_SECONDARY_PAGETABLE, delta);
	stat_add(&vm->stats.tables, delta);
}

/* So many leaves of @level come or go. */
static void leaf_count(struct keel_vm *vm, int level, s64 delta)
{
	switch (level) {
	case KEEL_LEVEL_4K:
		stat_add(&vm->stats.pages_4k, delta);
		break;
	case KEEL_LEVEL_2M:
		stat_add(&vm->stats.pages_2m, delta);
		break;
	default:
		stat_add(&vm->stats.pages_1g, delta);
	}
}

int keel_table_cache_fill(struct keel_table_cache *cache)
{
	u64 *table;

	BUILD_BUG_ON(ARRAY_SIZE(cache->page) < KEEL_TABLES_PER_MAP);

	while (cache->nr < KEEL_TABLES_PER_MAP) {
		table = table_alloc();
		if (!table)
			return -ENOMEM;
		cache->page[cache->nr++] = table;
	}
	return 0;
}

void keel_table_cache_free(struct keel_table_cache *cache)
{
	while (cache->nr)
		free_page((unsigned long)cache->page[--cache->nr]);
}

/* ---- looking up and installing ---- */

/* The entry of the leaf that maps @gfn, or NULL. */
static u64 *find_leaf(struct keel_mmu *mmu, gfn_t gfn, int *level)
{
	u64 *table = mmu->root, *p, entry;
	int l;

	if (gfn >= KEEL_MAX_GFN)
		return NULL;
	for (l = KEEL_ROOT_LEVEL; ; l--) {
		p = &table[entry_index(gfn, l)];
		entry = READ_ONCE(*p);
		if (!entry_present(mmu, entry))
			return NULL;
		if (entry_leaf(mmu, entry, l))
			break;
		table = entry_table(entry);
	}
	*level = l;
	return p;
}

u64 keel_tables_lookup(struct keel_vm *vm, gfn_t gfn, int *level)
{
	u64 *p;

	lockdep_assert_held(&vm->mmu.lock);
	p = find_leaf(&vm->mmu, gfn, level);
	return p ? READ_ONCE(*p) : 0;
}

bool keel_tables_permit(struct keel_vm *vm, gfn_t gfn, bool write, bool only_4k)
{
	struct keel_mmu *mmu = &vm->mmu;
	u64 *p, entry;
	int level;

	lockdep_assert_held(&mmu->lock);

	p = find_leaf(mmu, gfn, &level);
	if (!p)
		return false;
	entry = READ_ONCE(*p);
	do {
		if (!write || (entry & mmu->format->write))
			return true;
		if (!(entry & HOST_WRITABLE) || (only_4k && level > KEEL_LEVEL_4K))
			return false;
	} while (!try_cmpxchg64(p, &entry, entry | mmu->format->write |
				mmu->format->dirty | mmu->format->accessed));
	return true;
}

/* Link a new table into *p, unless another vCPU was first. Return: what *p has. */
static u64 install_table(struct keel_vm *vm, struct keel_table_cache *cache, u64 *p)
{
	u64 *table, new, old = 0;

	if (!cache->nr)
		return 0;
	table = cache->page[--cache->nr];
	new = __sme_set(__pa(table)) | vm->mmu.format->table;
	if (!try_cmpxchg64(p, &old, new)) {
		cache->page[cache->nr++] = table;
		return old;
	}
	table_count(vm, table, 1);
	return new;
}

static u64 leaf_entry(const struct keel_table_format *f, const struct keel_mapping *m)
{
	u64 size = keel_level_pages(m->level) << PAGE_SHIFT;
	u64 entry = __sme_set(m->pa & -size) | f->leaf | f->exec | f->accessed;

	if (m->level > KEEL_LEVEL_4K)
		entry |= f->large;
	if (m->write)
		entry |= f->write | f->dirty;
	if (m->host_writable)
		entry |= HOST_WRITABLE;
	return entry;
}

/*
 * The only place that makes a leaf: it fills an empty entry, or adds
 * permissions to one that maps the same page already.
 */
static int set_leaf(struct keel_vm *vm, u64 *p, int level, u64 new)
{
	const struct keel_table_format *f = vm->mmu.format;
	u64 added = f->write | f->accessed | f->dirty | HOST_WRITABLE;
	u64 entry = READ_ONCE(*p), next;

	do {
		if (!entry_present(&vm->mmu, entry)) {
			next = new;
		} else {
			if (!entry_leaf(&vm->mmu, entry, level) ||
			    ((entry ^ new) & ADDRESS_MASK))
				return level;
			next = entry | (new & added);
		}
	} while (!try_cmpxchg64(p, &entry, next));
	if (!entry_present(&vm->mmu, entry))
		leaf_count(vm, level, 1);
	return 0;
}

int keel_tables_map(struct keel_vm *vm, struct keel_table_cache *cache,
		    const struct keel_mapping *m)
{
	struct keel_mmu *mmu = &vm->mmu;
	u64 *table = mmu->root, *p, entry;
	int level;

	lockdep_assert_held(&mmu->lock);

	for (level = KEEL_ROOT_LEVEL; level > m->level; level--) {
		p = &table[entry_index(m->gfn, level)];
		entry = READ_ONCE(*p);
		if (!entry_present(mmu, entry))
			entry = install_table(vm, cache, p);
		if (!entry)
			return -ENOMEM;
		if (entry_leaf(mmu, entry, level))
			return level;
		table = entry_table(entry);
	}
	return set_leaf(vm, &table[entry_index(m->gfn, level)], level,
			leaf_entry(mmu->format, m));
}

/* ---- ranges ---- */

/* Does something to one leaf; says whether it had an effect. */
typedef bool (*leaf_fn)(struct keel_vm *vm, u64 *p, int level);

/* Apply @fn to all leaves with a page in the range. Recurses to level 1. */
static bool each_leaf(struct keel_vm *vm, u64 *table, int level,
		      gfn_t start, gfn_t end, leaf_fn fn)
{
	struct keel_mmu *mmu = &vm->mmu;
	gfn_t gfn, next;
	bool any = false;
	u64 *p, entry;

	for (gfn = start; gfn < end; gfn = next) {
		next = min(end, keel_level_base(gfn, level) + keel_level_pages(level));
		p = &table[entry_index(gfn, level)];
		entry = READ_ONCE(*p);
		if (!entry_present(mmu, entry))
			continue;
		if (entry_leaf(mmu, entry, level))
			any |= fn(vm, p, level);
		else
			any |= each_leaf(vm, entry_table(entry), level - 1,
					 gfn, next, fn);
	}
	return any;
}

static bool leaf_write_protect(struct keel_vm *vm, u64 *p, int level)
{
	const struct keel_table_format *f = vm->mmu.format;

	if (!(READ_ONCE(*p) & f->write))
		return false;
	atomic64_andnot(f->write, (atomic64_t *)p);
	keel_tlb_model_changed(vm);
	return true;
}

static bool leaf_young(struct keel_vm *vm, u64 *p, int level)
{
	const struct keel_table_format *f = vm->mmu.format;

	/* without accessed bits, what is mapped counts as used */
	return !f->accessed || (READ_ONCE(*p) & f->accessed);
}

static void remove_leaf(struct keel_vm *vm, u64 *p, int level)
{
	xchg(p, 0);
	keel_tlb_model_changed(vm);
	leaf_count(vm, level, -1);
}

static bool leaf_make_old(struct keel_vm *vm, u64 *p, int level)
{
	const struct keel_table_format *f = vm->mmu.format;

	if (!leaf_young(vm, p, level))
		return false;
	if (f->accessed)
		atomic64_andnot(f->accessed, (atomic64_t *)p);
	else
		remove_leaf(vm, p, level);
	return true;
}

bool keel_tables_write_protect(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	struct keel_mmu *mmu = &vm->mmu;

	lockdep_assert_held_write(&mmu->lock);
	return each_leaf(vm, mmu->root, KEEL_ROOT_LEVEL, start,
			 min(end, KEEL_MAX_GFN), leaf_write_protect);
}

bool keel_tables_write_protect_mask(struct keel_vm *vm, gfn_t base, u64 mask)
{
	unsigned int bit, last;
	bool any = false;

	/* one walk for each run of bits: dirty pages come in runs */
	while (mask) {
		bit = __ffs64(mask);
		last = bit;
		while (last < 63 && (mask & BIT_ULL(last + 1)))
			last++;
		any |= keel_tables_write_protect(vm, base + bit, base + last + 1);
		mask &= ~GENMASK_ULL(last, bit);
	}
	return any;
}

bool keel_tables_age(struct keel_vm *vm, gfn_t start, gfn_t end, bool clear)
{
	struct keel_mmu *mmu = &vm->mmu;

	if (clear && !mmu->format->accessed)
		lockdep_assert_held_write(&mmu->lock);
	else
		lockdep_assert_held(&mmu->lock);
	return each_leaf(vm, mmu->root, KEEL_ROOT_LEVEL, start,
			 min(end, KEEL_MAX_GFN), clear ? leaf_make_old : leaf_young);
}

/*
 * A table that was unlinked, to be freed later. Those below it, which can be many,
 * are found then: the lock is not held any more.
 */
static void detach(struct list_head *tables, u64 *table, int level)
{
	struct page *page = virt_to_page(table);

	set_page_private(page, level);
	list_add(&page->lru, tables);
}

static bool table_empty(const u64 *table)
{
	return !memchr_inv(table, 0, PAGE_SIZE);
}

/*
 * Tables whose whole range goes are detached in one piece. Others stay though
 * they may be empty now, for they are soon filled again, unless @reap.
 */
static bool zap(struct keel_vm *vm, u64 *table, int level, gfn_t start,
		gfn_t end, bool reap)
{
	struct keel_mmu *mmu = &vm->mmu;
	u64 *p, *below, entry;
	bool any = false;
	gfn_t gfn, next;

	for (gfn = start; gfn < end; gfn = next) {
		next = min(end, keel_level_base(gfn, level) + keel_level_pages(level));
		p = &table[entry_index(gfn, level)];
		entry = READ_ONCE(*p);
		if (!entry_present(mmu, entry))
			continue;
		if (entry_leaf(mmu, entry, level)) {
			/* a large one goes as a whole: the rest faults in again */
			remove_leaf(vm, p, level);
			any = true;
			continue;
		}
		below = entry_table(entry);
		if (next - gfn < keel_level_pages(level)) {
			any |= zap(vm, below, level - 1, gfn, next, reap);
			if (!reap || !table_empty(below))
				continue;
		}
		xchg(p, 0);
		keel_tlb_model_changed(vm);
		detach(&mmu->detached, below, level - 1);
		any = true;
	}
	return any;
}

bool keel_tables_zap(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	struct keel_mmu *mmu = &vm->mmu;

	lockdep_assert_held_write(&mmu->lock);
	return zap(vm, mmu->root, KEEL_ROOT_LEVEL, start,
		   min(end, KEEL_MAX_GFN), false);
}

bool keel_tables_remove(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	struct keel_mmu *mmu = &vm->mmu;

	lockdep_assert_held_write(&mmu->lock);
	return zap(vm, mmu->root, KEEL_ROOT_LEVEL, start,
		   min(end, KEEL_MAX_GFN), true);
}

/* ---- flush ---- */

/* Nobody uses it any more. The tables below it come on the list. */
static bool free_one_table(struct keel_vm *vm, struct list_head *tables)
{
	struct page *page = list_first_entry_or_null(tables, struct page, lru);
	struct keel_mmu *mmu = &vm->mmu;
	int i, level, leaves = 0;
	u64 *table;

	if (!page)
		return false;
	list_del(&page->lru);
	level = page_private(page);
	table = page_address(page);
	for (i = 0; i < PTRS_PER_PTE; i++) {
		if (!entry_present(mmu, table[i]))
			continue;
		if (entry_leaf(mmu, table[i], level))
			leaves++;
		else
			detach(tables, entry_table(table[i]), level - 1);
	}
	if (leaves)
		leaf_count(vm, level, -leaves);
	table_count(vm, table, -1);
	__free_page(page);
	return true;
}

/* That it ran is all that matters: the CPU was out of the guest. */
static void ack_flush(void *unused)
{
}

void keel_flush_tlbs(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;
	struct keel_vcpu *vcpu;
	unsigned long id;
	int cpu;

	lockdep_assert_held_write(&mmu->lock);
	lockdep_assert_irqs_enabled();

	vm->stats.remote_tlb_flushes++;
	keel_tlb_model_flush_begins(vm);
	cpumask_clear(mmu->flush_cpus);
	WRITE_ONCE(mmu->tlb_gen, mmu->tlb_gen + 1);
	/*
	 * Pairs with the smp_mb() of the run loop between mode = IN_GUEST and
	 * its reading of tlb_gen: either it sees the new generation, and with
	 * it the changed tables, or the loop below sees it in the guest.
	 */
	smp_mb();
	keel_for_each_vcpu(vm, id, vcpu) {
		if (READ_ONCE(vcpu->mode) != KEEL_IN_GUEST)
			continue;
		/* it saw the new generation and flushes as it enters */
		if (READ_ONCE(vcpu->tlb_gen) == mmu->tlb_gen)
			continue;
		/*
		 * It cannot change CPU before it leaves the guest, and if it
		 * did since mode was read, that did the work: a wrong CPU in
		 * the mask does no harm.
		 */
		smp_rmb();
		cpu = READ_ONCE(vcpu->cpu);
		if (cpu >= 0)
			cpumask_set_cpu(cpu, mmu->flush_cpus);
	}
	preempt_disable();
	smp_call_function_many(mmu->flush_cpus, ack_flush, NULL, true);
	preempt_enable();
	list_splice_init(&mmu->detached, &mmu->flushed);
}

void keel_mmu_unlock(struct keel_vm *vm, bool flush)
	__releases(&vm->mmu.lock)
{
	struct keel_mmu *mmu = &vm->mmu;
	LIST_HEAD(tables);

	if (flush)
		keel_flush_tlbs(vm);
	keel_tlb_model_settle(vm);
	list_splice_init(&mmu->flushed, &tables);
	write_unlock(&mmu->lock);
	while (free_one_table(vm, &tables))
		;
}

/* ---- life ---- */

int keel_tables_init(struct keel_vm *vm, const struct keel_table_format *format)
{
	struct keel_mmu *mmu = &vm->mmu;

	rwlock_init(&mmu->lock);
	mmu->hva_tree = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&mmu->detached);
	INIT_LIST_HEAD(&mmu->flushed);
	mmu->format = format;
	mmu->max_level = clamp_t(u8, format->max_level, KEEL_LEVEL_4K, KEEL_LEVEL_1G);
	mmu->root = table_alloc();
	if (!mmu->root)
		return -ENOMEM;
	mmu->root_pa = __sme_set(__pa(mmu->root));
	if (!zalloc_cpumask_var(&mmu->flush_cpus, GFP_KERNEL_ACCOUNT)) {
		free_page((unsigned long)mmu->root);
		mmu->root = NULL;
		return -ENOMEM;
	}
	table_count(vm, mmu->root, 1);
	keel_tlb_model_vm(vm);
	return 0;
}

int keel_mmu_init(struct keel_vm *vm)
{
	return keel_tables_init(vm, keel_backend->table_format);
}

void keel_mmu_destroy(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;

	/* nobody uses them any more: neither a flush nor the lock is needed */
	detach(&mmu->detached, mmu->root, KEEL_ROOT_LEVEL);
	mmu->root = NULL;
	while (free_one_table(vm, &mmu->detached))
		cond_resched();
	free_cpumask_var(mmu->flush_cpus);
}
