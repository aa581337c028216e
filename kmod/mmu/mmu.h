/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest memory: slots say what exists, second-level tables say what is
 * mapped, the MMU notifier keeps the second true to the host's own mappings.
 */
#ifndef KEEL_MMU_H
#define KEEL_MMU_H

#include <linux/cpumask.h>
#include <linux/interval_tree.h>
#include <linux/kvm.h>
#include <linux/kvm_types.h>
#include <linux/nospec.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "tlb-model.h"

struct keel_exit;
struct keel_vcpu;
struct keel_vm;

static inline gfn_t keel_gfn(gpa_t gpa)
{
	return gpa >> PAGE_SHIFT;
}

static inline gpa_t keel_gpa(gfn_t gfn)
{
	return gfn << PAGE_SHIFT;
}

/**
 * struct keel_slot - a range of guest memory and where the VMM has it
 *
 * Immutable once published, but for @dirty's bits: a change makes a new one.
 */
struct keel_slot {
	u16 id;
	u32 flags;			/* KVM_MEM_ */
	gfn_t gfn;
	u64 npages;
	hva_t hva;
	unsigned long *dirty;		/* a bit per page while it is logged, without dirty rings */
	bool all_dirty;			/* the log began with all bits set */
	struct interval_tree_node hva_node;	/* in vm->mmu.hva_tree, last byte included */
};

/* Are writes to it logged, in its bitmap or in the vCPUs' rings? */
static inline bool keel_slot_logged(const struct keel_slot *slot)
{
	return slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/*
 * The slots sorted by gfn. Replaced as a whole; read under vm->srcu or under
 * vm->mmu.lock, which is held for write while the next array is published.
 */
struct keel_slots {
	struct keel_slots *waiting;	/* older arrays, which somebody may still read */
	struct keel_slot *retired;	/* not in the next array: freed with this one */
	unsigned long *retired_dirty;	/* ... and the bitmap that nothing took over */
	int nr;
	struct keel_slot *slot[];
};

/**
 * struct keel_table_format - how EPT or NPT encodes an entry
 * @present: an entry with none of these bits is not present
 * @table: what an entry that points to a table has, beside the address
 * @leaf: what every leaf has, beside the address and permissions
 * @max_level: the largest leaf the CPU has and may safely use: 1, 2 (2M) or 3 (1G);
 *	set by the backend's probe()
 *
 * SDM vol. 3 "EPT Translation Mechanism"; APM vol. 2 "Nested Paging".
 */
struct keel_table_format {
	u64 present;
	u64 table;
	u64 leaf;
	u64 large;		/* this entry of level 2 or 3 is a leaf */
	u64 write;
	u64 exec;		/* set to allow execution (EPT), or 0 */
	u64 accessed, dirty;	/* 0 when the CPU keeps no such bits */
	u8 max_level;
};

#define KEEL_ROOT_LEVEL	4	/* 48 bits of guest-physical address */
#define KEEL_MAX_GPA_BITS 48

struct keel_mmu {
	rwlock_t lock;		/* read: install leaves. write: remove, free tables */
	u64 *root;		/* [C] top table, kernel address */
	hpa_t root_pa;		/* [C] with the host's encryption bit, if it has one */
	const struct keel_table_format *format;	/* [C] the backend's */
	u8 max_level;		/* [C] largest leaf: 1, 2 (2M) or 3 (1G) */
	struct rb_root_cached hva_tree;	/* slots by hva; lock for write */
	/*
	 * The notifier's and the slots' changes. A fault samples seq, looks
	 * up and gets the page without the lock, and installs under the lock
	 * only if seq is the same and no invalidation of its address is under way.
	 */
	unsigned long seq;	/* lock for write */
	int invalidating;	/* lock for write */
	hva_t inv_start, inv_end; /* union of invalidations under way */
	u64 tlb_gen;		/* atomic; vCPUs compare with their own before entry */
	struct keel_tlb_vm tlb_model;
	struct list_head detached; /* tables, until the flush; lock for write */
	struct list_head flushed; /* and after it, until the unlock; lock for write */
	cpumask_var_t flush_cpus; /* keel_flush_tlbs()'s; lock for write */
	u64 manual_protect;	/* vm->lock; KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2's flags */
};

/* Table pages allocated before the lock is taken. */
struct keel_table_cache {
	int nr;
	u64 *page[8];
};

/**
 * struct keel_fetch - how a fetch came to a page of code: see fetch_again()
 * @page: the guest's linear address of it
 * @cr3: the guest's at that time, as @mode
 * @mode: fetch_mode()'s, never 0
 * @seq: the MMU's at that time
 * @nr: entries on the way, from the top
 * @entry: what they held
 * @at: where they are in the VMM's memory
 * @code: where the page is
 */
struct keel_fetch {
	gva_t page;
	u64 cr3;
	u32 mode;
	int nr;
	unsigned long seq;
	u64 entry[4];
	u64 __user *at[4];
	void __user *code;
};

/**
 * keel_mmu_init() - empty second-level tables in the backend's format
 *
 * Return: 0 or -ENOMEM.
 */
int keel_mmu_init(struct keel_vm *vm);

/**
 * keel_mmu_destroy() - free all tables
 *
 * No vCPU may enter the guest any more and the notifier is unregistered.
 */
void keel_mmu_destroy(struct keel_vm *vm);
void keel_table_cache_free(struct keel_table_cache *cache);

/* fault.c */
/**
 * keel_handle_page_fault() - answer an EPT violation or NPF
 *
 * Reads vcpu->exit.fault. Where there is no memory, or none to write to, the
 * instruction is emulated.
 *
 * Context: the vCPU's thread inside KVM_RUN, may sleep.
 * Return: KEEL_RESUME, what keel_emulate() says, -EFAULT when the VMM's page
 * cannot be had, -ENOMEM.
 */
int keel_handle_page_fault(struct keel_vcpu *vcpu);
/**
 * keel_ioctl_pre_fault() - KVM_PRE_FAULT_MEMORY: map memory before the guest reads it
 * @vcpu: the vCPU whose tables are filled; all of its VM share them
 * @range: whole pages; out: what is left of them
 *
 * Context: vCPU loaded, mutex held, may sleep.
 * Return: 0 when something was mapped, or already was; -EINVAL; -ENOENT (no
 * memory there); -EINTR; -EFAULT or -EHWPOISON (the VMM's page); -ENOMEM.
 */
long keel_ioctl_pre_fault(struct keel_vcpu *vcpu, struct kvm_pre_fault_memory *range);

/*
 * tables.c. Called with mmu.lock held for write (keel_tables_age(): for read
 * is enough while the CPU keeps accessed bits). They return whether a flush is
 * due: keel_flush_tlbs() before the lock is dropped.
 */
bool keel_tables_zap(struct keel_vm *vm, gfn_t start, gfn_t end);
bool keel_tables_write_protect(struct keel_vm *vm, gfn_t start, gfn_t end);
/* the pages whose bit is set in @mask, counted from @base */
bool keel_tables_write_protect_mask(struct keel_vm *vm, gfn_t base, u64 mask);
/* was a page accessed? @clear: forget that it was */
bool keel_tables_age(struct keel_vm *vm, gfn_t start, gfn_t end, bool clear);

/**
 * keel_mmu_unlock() - end a writer's section of mmu.lock
 * @vm: the VM
 * @flush: the tables were changed: keel_flush_tlbs() first
 *
 * Frees the tables that were detached, after the lock is dropped: they can be
 * many.
 */
void keel_mmu_unlock(struct keel_vm *vm, bool flush) __releases(&vm->mmu.lock);

/**
 * keel_flush_tlbs() - make all vCPUs forget translations
 *
 * On return no CPU uses a translation that was removed from the tables
 * before.
 *
 * The other half is the run loop: with interrupts off it sets vcpu->mode to
 * KEEL_IN_GUEST, executes smp_mb(), and compares mmu.tlb_gen with
 * vcpu->tlb_gen; if they differ it stores the new one and flushes as part of
 * the entry.
 *
 * Context: mmu.lock held for write, interrupts on.
 */
void keel_flush_tlbs(struct keel_vm *vm);

/* notifier.c */
/**
 * keel_notifier_register() - follow the changes of current->mm, which is vm->mm
 *
 * Return: 0, -ENOMEM or -EINTR.
 */
int keel_notifier_register(struct keel_vm *vm);
void keel_notifier_unregister(struct keel_vm *vm);

/* slots.c */
int keel_slots_init(struct keel_vm *vm);
void keel_slots_destroy(struct keel_vm *vm);
/**
 * keel_set_memory_region() - KVM_SET_USER_MEMORY_REGION
 *
 * When it returns no vCPU reaches memory through a slot that was deleted,
 * moved or changed.
 *
 * Context: process, may sleep; takes slots_lock.
 * Return: 0, -EINVAL, -EEXIST (overlap), -ENOMEM.
 */
int keel_set_memory_region(struct keel_vm *vm, const struct kvm_userspace_memory_region *r);
/* Under vm->srcu or mmu.lock. Return: the slot that has @gfn, or NULL. */
struct keel_slot *keel_slot_find(struct keel_vm *vm, gfn_t gfn);
/* Under slots_lock. */
struct keel_slot *keel_slot_by_id(struct keel_vm *vm, int id);
/* @gfn is in @slot; the guest chose it, hence no speculation beyond the slot. */
static inline hva_t keel_slot_hva(const struct keel_slot *slot, gfn_t gfn)
{
	return slot->hva + (array_index_nospec(gfn - slot->gfn, slot->npages) << PAGE_SHIFT);
}

/* dirty.c */
/*
 * Under vm->srcu or mmu.lock, after the write, with the mutex of the vCPU that
 * wrote or for which keel did. @gfn is in @slot.
 */
void keel_mark_dirty(struct keel_vcpu *vcpu, struct keel_slot *slot, gfn_t gfn);
/**
 * keel_get_dirty_log() - KVM_GET_DIRTY_LOG
 *
 * Unless KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is enabled, what it reports is
 * clean again on return: the next write of such a page is noticed.
 *
 * Return: 0, -EINVAL, -ENOENT (no slot, or it has no log), -ENXIO (there are
 * dirty rings), -EFAULT, -ENOMEM.
 */
int keel_get_dirty_log(struct keel_vm *vm, const struct kvm_dirty_log *log);
/* KVM_CLEAR_DIRTY_LOG; errors as above */
int keel_clear_dirty_log(struct keel_vm *vm, const struct kvm_clear_dirty_log *log);
/* what KVM_CHECK_EXTENSION says of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
#define KEEL_MANUAL_PROTECT_FLAGS	(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | \
					 KVM_DIRTY_LOG_INITIALLY_SET)
/* KVM_ENABLE_CAP of it, under vm->lock. Return: 0 or -EINVAL. */
int keel_enable_manual_protect(struct keel_vm *vm, u64 flags);

/* dirty-ring.c */
/**
 * struct keel_dirty_ring - the pages that a vCPU wrote
 * @entries: vm->dirty_ring_entries of them, a power of 2; shared with userspace, which
 *	may write anything there
 * @dirty_index: the next one to use; written by the vCPU's thread
 * @reset_index: the oldest one in use; written under slots_lock
 * @last_slot: what the latest entry said; the vCPU's thread
 * @last_offset: and in that slot
 *
 * The indices grow, and wrap at 2^32; from the one to the other are the
 * entries in use.
 */
struct keel_dirty_ring {
	struct kvm_dirty_gfn *entries;
	u32 dirty_index;
	u32 reset_index;
	u32 last_slot;
	u64 last_offset;
};

/* What KVM_CHECK_EXTENSION says; KVM's limit: 65536 entries. */
#define KEEL_DIRTY_RING_MAX_BYTES	(65536 * sizeof(struct kvm_dirty_gfn))

/**
 * keel_enable_dirty_ring() - KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING
 * @bytes: size of each vCPU's ring
 *
 * Context: vm->lock held.
 * Return: 0; -EINVAL for a size that is no power of 2 or too small, when there
 * are vCPUs, and the second time; -E2BIG.
 */
int keel_enable_dirty_ring(struct keel_vm *vm, u32 bytes);
/* The vCPU's ring, if the VM has them. Return: 0 or -ENOMEM. */
int keel_dirty_ring_alloc(struct keel_vcpu *vcpu);
void keel_dirty_ring_free(struct keel_vcpu *vcpu);
/* Is page @pgoff of a vCPU's mapping one of its ring? */
bool keel_in_dirty_ring(const struct keel_vm *vm, unsigned long pgoff);
/* The page at @pgoff of the vCPU's mapping, or NULL if none of the ring's. */
struct page *keel_dirty_ring_page(struct keel_vcpu *vcpu, unsigned long pgoff);
/* keel_mark_dirty() calls it. An entry that does not fit is lost. */
void keel_dirty_ring_push(struct keel_vcpu *vcpu, const struct keel_slot *slot, u64 offset);
/* Must userspace collect before the vCPU enters the guest? */
bool keel_dirty_ring_full(struct keel_vcpu *vcpu);
/**
 * keel_reset_dirty_rings() - KVM_RESET_DIRTY_RINGS
 *
 * On return the next write of each page that was collected is noticed.
 *
 * Context: process, may sleep; takes slots_lock.
 * Return: how many entries were collected, or -EINVAL without rings.
 */
int keel_reset_dirty_rings(struct keel_vm *vm);

/* access.c: guest-physical memory by the kernel's own hand, marking it dirty */
/**
 * keel_guest_read() / keel_guest_write() - copy from or to guest-physical memory
 *
 * What is written is logged as the vCPU's.
 *
 * Context: process, the VM's mm is current, may sleep; to write also: the
 * vCPU's mutex held.
 * Return: 0, or -EFAULT when part of it has no slot, is read-only, or its
 * page cannot be had.
 */
int keel_guest_read(struct keel_vm *vm, gpa_t gpa, void *buf, size_t len);
int keel_guest_write(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, size_t len);
/**
 * keel_guest_write_nofault() - write to memory that is there now, within one page
 *
 * Context: the VM's mm is current; preemption and interrupts may be off.
 * Return: 0 or -EFAULT.
 */
int keel_guest_write_nofault(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, size_t len);
/**
 * keel_guest_cmpxchg() - compare and exchange 1, 2, 4 or 8 aligned bytes
 * @old: what is expected there; what was there, when -EAGAIN
 *
 * Context: as keel_guest_write().
 * Return: 0; -EAGAIN when memory had something else; -EINVAL for another
 * @len or alignment; -EFAULT.
 */
int keel_guest_cmpxchg(struct keel_vcpu *vcpu, gpa_t gpa, u64 *old, u64 new, int len);
/* Is there memory (to write to) at @gfn? Takes vm->srcu. */
bool keel_guest_has_ram(struct keel_vm *vm, gfn_t gfn, bool write);

/* guest-walk.c: the guest's own page tables */
struct keel_walk {
	gpa_t gpa;		/* result */
	u32 error;		/* #PF error code when it fails */
};

#define KEEL_WALK_WRITE	BIT(0)
#define KEEL_WALK_EXEC	BIT(1)
#define KEEL_WALK_USER	BIT(2)
#define KEEL_WALK_PEEK	BIT(3)	/* KVM_TRANSLATE: set no accessed bits */

/**
 * keel_guest_walk() - translate a guest-linear address as the guest's CPU would
 *
 * Context: vCPU loaded and its mutex held, may sleep.
 * Return: 0 with walk->gpa; -EFAULT with walk->error for #PF.
 */
int keel_guest_walk(struct keel_vcpu *vcpu, gva_t gva, u32 flags, struct keel_walk *walk);
/**
 * keel_guest_fetch() - keel_guest_walk(), and read what is there
 * @buf: for the bytes
 * @len: how many; they lie in one page
 *
 * Context: as keel_guest_walk().
 * Return: 0; -EFAULT with walk->error for #PF; -ENXIO with walk->gpa, which has no
 * slot or whose page cannot be had.
 */
int keel_guest_fetch(struct keel_vcpu *vcpu, gva_t gva, u32 flags, void *buf,
		     unsigned int len, struct keel_walk *walk);

#endif /* KEEL_MMU_H */
