// SPDX-License-Identifier: GPL-2.0-only
/*
 * Second-level page faults: from a guest-physical address to the VMM's page,
 * and into the tables.
 *
 * The page is asked for without any lock, for that may sleep (swap, a file,
 * userfaultfd), and is not kept: once it is mapped, the MMU notifier says when
 * it goes. What could have changed meanwhile is known by mmu.seq.
 */
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>

#include "internal.h"

/**
 * struct fault - a page fault on its way
 * @gfn: guest frame
 * @write: the access is a write
 * @seq: mmu.seq before the slot was looked up
 * @hva: where the VMM has the frame
 * @slot_writable: the slot is not KVM_MEM_READONLY
 * @guest_waits: the access is the guest's, which could do something else meanwhile
 * @page: the VMM's page, with a reference
 * @host_writable: it was got for writing
 */
struct fault {
	gfn_t gfn;
	bool write;
	unsigned long seq;
	hva_t hva;
	bool slot_writable;
	bool guest_waits;
	struct page *page;
	bool host_writable;
};

/* ---- the VMM's page ---- */

/*
 * Without sleeping, and for writing where the slot allows: what the host has
 * writable anyway needs no second fault when the guest writes.
 */
static bool get_page_fast(struct fault *f)
{
	if (f->slot_writable && get_user_page_fast_only(f->hva, FOLL_WRITE, &f->page)) {
		f->host_writable = true;
		return true;
	}
	return !f->write && get_user_page_fast_only(f->hva, 0, &f->page);
}

/* @nowait: FOLL_NOWAIT, for -EAGAIN where a disk or userspace has to be waited for; or 0 */
static int get_page_slow(struct fault *f, unsigned int nowait)
{
	unsigned int flags = FOLL_HWPOISON | KEEL_FOLL_INTERRUPTIBLE |
			     KEEL_FOLL_HONOR_NUMA_FAULT | nowait;
	struct page *page;
	long n;

	if (f->write)
		flags |= FOLL_WRITE;
	n = get_user_pages_unlocked(f->hva, 1, &f->page, flags);
	if (!n && nowait)
		return -EAGAIN;
	if (n != 1)
		return n == -EHWPOISON || n == -EINTR ? n : -EFAULT;
	f->host_writable = f->write;

	/* a read that made the page present, maybe writable */
	if (!f->write && f->slot_writable &&
	    get_user_page_fast_only(f->hva, FOLL_WRITE, &page)) {
		put_page(f->page);
		f->page = page;
		f->host_writable = true;
	}
	return 0;
}

/* Return: 0; -EINTR when the guest is to go on without; -EHWPOISON, -EFAULT. */
static int get_page_of(struct keel_vcpu *vcpu, struct fault *f)
{
	int err;

	if (get_page_fast(f))
		return 0;
	if (f->guest_waits && keel_async_pf_possible(vcpu)) {
		err = get_page_slow(f, FOLL_NOWAIT);
		if (err != -EAGAIN)
			return err;
		if (keel_async_pf_start(vcpu, f->gfn, f->hva, f->write))
			return -EINTR;
	}
	return get_page_slow(f, 0);
}

/* ---- how large ---- */

/* The size of the host's own mapping at @hva, as a level. */
static int host_level(struct mm_struct *mm, hva_t hva)
{
	int level = KEEL_LEVEL_4K;
	unsigned long flags;
	pgd_t *pgdp, pgd;
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t pmd;

	/*
	 * Interrupts off: the host's tables are not freed under us. The result
	 * stays right while mmu.lock is held, since the host tells the notifier
	 * before it makes a mapping smaller.
	 */
	local_irq_save(flags);
	pgdp = pgd_offset(mm, hva);
	pgd = READ_ONCE(*pgdp);
	if (!pgd_present(pgd))
		goto out;
	p4dp = p4d_offset_lockless(pgdp, pgd, hva);
	p4d = READ_ONCE(*p4dp);
	if (!p4d_present(p4d))
		goto out;
	pudp = pud_offset_lockless(p4dp, p4d, hva);
	pud = READ_ONCE(*pudp);
	if (!pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		level = KEEL_LEVEL_1G;
		goto out;
	}
	pmd = READ_ONCE(*pmd_offset_lockless(pudp, pud, hva));
	if (pmd_present(pmd) && pmd_leaf(pmd))
		level = KEEL_LEVEL_2M;
out:
	local_irq_restore(flags);
	return level;
}

/* The largest leaf for which frames and addresses of the slot go together. */
static int slot_level(const struct keel_slot *slot, gfn_t gfn, int max)
{
	gfn_t hfn = slot->hva >> PAGE_SHIFT, base, pages;
	int level;

	/* a log has a bit per page: it needs a fault per page */
	if (keel_slot_logged(slot))
		return KEEL_LEVEL_4K;
	for (level = max; level > KEEL_LEVEL_4K; level--) {
		pages = keel_level_pages(level);
		base = keel_level_base(gfn, level);
		if (((hfn ^ slot->gfn) & (pages - 1)) == 0 && base >= slot->gfn &&
		    base + pages <= slot->gfn + slot->npages)
			break;
	}
	return level;
}

/* ---- into the tables ---- */

/* Must the page that was got before the lock was taken be thrown away? */
static bool stale(const struct keel_mmu *mmu, const struct fault *f, int level)
{
	hva_t size = keel_level_pages(level) << PAGE_SHIFT;
	hva_t start = f->hva & -size;

	if (mmu->seq != f->seq)
		return true;
	return mmu->invalidating && start < mmu->inv_end && mmu->inv_start < start + size;
}

/*
 * Return: 0 when the guest can go on, be it only to fault again; or the level
 * of what is in the way.
 */
static int install(struct keel_vcpu *vcpu, const struct fault *f)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_mapping m = {
		.gfn = f->gfn,
		.pa = PFN_PHYS(page_to_pfn(f->page)),
		.host_writable = f->host_writable,
	};
	struct keel_slot *slot;
	int ret;

	lockdep_assert_held(&vm->mmu.lock);

	/* still what it was, by seq; looked up again since it may have been freed */
	slot = keel_slot_find(vm, f->gfn);
	if (!slot)
		return 0;
	m.level = slot_level(slot, f->gfn, vm->mmu.max_level);
	if (m.level > KEEL_LEVEL_4K)
		m.level = min(m.level, host_level(vm->mm, f->hva));
	if (stale(&vm->mmu, f, m.level))
		return 0;
	/* a read is not logged, so it must not leave the page writable */
	m.write = f->host_writable && (!keel_slot_logged(slot) || f->write);

	ret = keel_tables_map(vm, &vcpu->table_cache, &m);
	if (ret)
		return ret;
	/*
	 * The guest writes behind the host's page tables, now or later. The host
	 * cleans a page when the notifier has taken our mapping, which it cannot
	 * before the lock is dropped: no page becomes dirty that it takes for clean.
	 */
	if (f->host_writable)
		SetPageDirty(f->page);
	if (f->write)
		keel_mark_dirty(vcpu, slot, f->gfn);
	vcpu->stats.pages_mapped++;
	return 0;
}

/*
 * A large leaf where the log needs small ones, or a table where the host has
 * a huge page by now: away with it. The guest faults again and gets the other.
 */
static void make_way(struct keel_vm *vm, gfn_t gfn, int level)
{
	gfn_t base = keel_level_base(gfn, level);

	write_lock(&vm->mmu.lock);
	keel_mmu_unlock(vm, keel_tables_zap(vm, base, base + keel_level_pages(level)));
}

static int map_page(struct keel_vcpu *vcpu, const struct fault *f)
{
	struct keel_mmu *mmu = &vcpu->vm->mmu;
	int ret;

	read_lock(&mmu->lock);
	ret = install(vcpu, f);
	read_unlock(&mmu->lock);
	if (ret > 0)
		make_way(vcpu->vm, f->gfn, ret);
	return ret < 0 ? ret : KEEL_RESUME;
}

/*
 * The page is mapped but write-protected for the log, or another vCPU has
 * mapped it meanwhile: no need to ask the host.
 */
static bool mapped_already(struct keel_vcpu *vcpu, struct keel_slot *slot, const struct fault *f)
{
	struct keel_vm *vm = vcpu->vm;
	bool ok;

	read_lock(&vm->mmu.lock);
	ok = vm->mmu.seq == f->seq &&
	     keel_tables_permit(vm, f->gfn, f->write, keel_slot_logged(slot));
	/* under the lock: GET_DIRTY_LOG sees both, the permission and the bit */
	if (ok && f->write)
		keel_mark_dirty(vcpu, slot, f->gfn);
	read_unlock(&vm->mmu.lock);
	return ok;
}

/* The VMM's page has a memory error: tell the VMM as its own access would. */
static int poisoned(const struct fault *f)
{
	send_sig_mceerr(BUS_MCEERR_AR, (void __user *)f->hva, PAGE_SHIFT, current);
	return KEEL_RESUME;
}

/*
 * Inline for the guest's faults. Return: KEEL_RESUME; -EINTR when the guest is to go
 * on without; another error.
 */
static __always_inline int map_memory(struct keel_vcpu *vcpu, struct fault *f)
{
	int err = keel_table_cache_fill(&vcpu->table_cache);

	if (!err)
		err = get_page_of(vcpu, f);
	if (err)
		return err;
	err = map_page(vcpu, f);
	put_page(f->page);
	return err;
}

int keel_handle_page_fault(struct keel_vcpu *vcpu)
{
	struct keel_vm *vm = vcpu->vm;
	struct fault f = {
		.gfn = keel_gfn(vcpu->exit.fault.gpa),
		.write = vcpu->exit.fault.write,
		.guest_waits = true,
		.seq = READ_ONCE(vm->mmu.seq),
	};
	bool mmio, done = false;
	struct keel_slot *slot;
	int idx, err;

	/* Pairs with the lock around seq++: what follows is at least as new. */
	smp_rmb();
	idx = srcu_read_lock(&vm->srcu);
	slot = keel_slot_find(vm, f.gfn);
	mmio = !slot || (f.write && (slot->flags & KVM_MEM_READONLY));
	if (!mmio) {
		f.hva = keel_slot_hva(slot, f.gfn);
		f.slot_writable = !(slot->flags & KVM_MEM_READONLY);
		done = mapped_already(vcpu, slot, &f);
	}
	srcu_read_unlock(&vm->srcu, idx);
	/* nothing to emulate: RIP is not at what touched the address */
	if (mmio && keel_event_in_delivery(vcpu))
		return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV);
	if (mmio)
		return keel_emulate(vcpu);
	if (done)
		return KEEL_RESUME;

	err = map_memory(vcpu, &f);
	if (err == -EHWPOISON)
		return poisoned(&f);
	/* a signal: the run loop sees it as well */
	return err == -EINTR ? KEEL_RESUME : err;
}

/* ---- before the guest does ---- */

/* How many pages are mapped from @gfn on to the end of its leaf. */
static u64 mapped_pages(struct keel_vm *vm, gfn_t gfn)
{
	u64 n = 0;
	int level;

	/* the tables have no more bits, and would take it for another */
	if (gfn >> (KEEL_MAX_GPA_BITS - PAGE_SHIFT))
		return 0;
	read_lock(&vm->mmu.lock);
	if (keel_tables_lookup(vm, gfn, &level))
		n = keel_level_base(gfn, level) + keel_level_pages(level) - gfn;
	read_unlock(&vm->mmu.lock);
	return n;
}

static int pre_fault_page(struct keel_vcpu *vcpu, gfn_t gfn)
{
	struct keel_vm *vm = vcpu->vm;
	struct fault f = {
		.gfn = gfn,
		.seq = READ_ONCE(vm->mmu.seq),
	};
	struct keel_slot *slot;
	int idx;

	/* as in keel_handle_page_fault() */
	smp_rmb();
	idx = srcu_read_lock(&vm->srcu);
	slot = keel_slot_find(vm, gfn);
	if (slot) {
		f.hva = keel_slot_hva(slot, gfn);
		f.slot_writable = !(slot->flags & KVM_MEM_READONLY);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return slot ? map_memory(vcpu, &f) : -ENOENT;
}

long keel_ioctl_pre_fault(struct keel_vcpu *vcpu, struct kvm_pre_fault_memory *range)
{
	u64 end = range->gpa + range->size, start = range->gpa, size;
	int err = 0;

	if (range->flags || !PAGE_ALIGNED(range->gpa | range->size) || end <= range->gpa)
		return -EINVAL;
	while (range->size) {
		size = mapped_pages(vcpu->vm, keel_gfn(range->gpa)) << PAGE_SHIFT;
		size = min(size, range->size);
		range->gpa += size;
		range->size -= size;
		if (size)
			continue;
		err = signal_pending(current) ? -EINTR :
		      pre_fault_page(vcpu, keel_gfn(range->gpa));
		if (err < 0)
			break;
		cond_resched();
	}
	return range->gpa == start ? err : 0;
}
