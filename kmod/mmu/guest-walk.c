// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's own page tables, walked as its CPU would: for the emulator, and
 * for KVM_TRANSLATE.
 *
 * SDM vol. 3 chapter "Paging"; APM vol. 2 "Page Translation and Protection".
 */
#include <asm/processor-flags.h>
#include <asm/trap_pf.h>

#include "internal.h"

/* Bits of a guest's entry; the same in all formats but for the width. */
#define ENTRY_PRESENT	BIT_ULL(0)
#define ENTRY_WRITE	BIT_ULL(1)
#define ENTRY_USER	BIT_ULL(2)
#define ENTRY_ACCESSED	BIT_ULL(5)
#define ENTRY_DIRTY	BIT_ULL(6)
#define ENTRY_LARGE	BIT_ULL(7)
#define ENTRY_NX	BIT_ULL(63)

#define MAX_LEVELS	5
/* Another CPU changes the entries again and again: the last try sets no bits. */
#define MAX_TRIES	8

/**
 * struct paging_mode - what the tables look like
 * @entry_size: 4 (two levels) or 8
 * @levels: of tables
 * @bits: of the address that index one table
 * @pae: three levels, of which the first is in registers
 * @address: bits of an entry that point to a table
 */
struct paging_mode {
	u8 entry_size;
	u8 levels;
	u8 bits;
	bool pae;
	u64 address;
};

static const struct paging_mode two_levels = { 4, 2, 10, false, GENMASK_ULL(31, 12) };
static const struct paging_mode three_levels = { 8, 3, 9, true, GENMASK_ULL(51, 12) };
static const struct paging_mode four_levels = { 8, 4, 9, false, GENMASK_ULL(51, 12) };
static const struct paging_mode five_levels = { 8, 5, 9, false, GENMASK_ULL(51, 12) };

/**
 * struct guest_paging - a walk under way
 * @mode: what the tables look like
 * @nx: NX is a permission, not a reserved bit
 * @level: where the walk is: 1 is the last
 * @entry: the entries seen, by level
 * @at: where they lie
 * @all: what all of them have set
 * @any: what at least one has set
 */
struct guest_paging {
	const struct paging_mode *mode;
	bool nx;
	int level;
	u64 entry[MAX_LEVELS + 1];
	gpa_t at[MAX_LEVELS + 1];
	u64 all, any;
};

static const struct paging_mode *paging_mode(const struct keel_regs *regs)
{
	if (regs->efer & EFER_LMA)
		return regs->cr4 & X86_CR4_LA57 ? &five_levels : &four_levels;
	return regs->cr4 & X86_CR4_PAE ? &three_levels : &two_levels;
}

/* log2 of what an entry of this level maps */
static int level_shift(const struct guest_paging *g, int level)
{
	return PAGE_SHIFT + (level - 1) * g->mode->bits;
}

static bool may_be_large(struct keel_vcpu *vcpu, const struct guest_paging *g)
{
	switch (g->level) {
	case 2:
		return g->mode->entry_size == 8 || (vcpu->regs.cr4 & X86_CR4_PSE);
	case 3:
		return g->mode->levels > 3 && boot_cpu_has(X86_FEATURE_GBPAGES);
	default:
		return false;
	}
}

/* Bits that have to be clear in the entries of all levels. */
static u64 reserved_everywhere(struct keel_vcpu *vcpu, const struct guest_paging *g)
{
	int width = clamp_t(int, vcpu->cpuid.maxphyaddr, 32, 52);
	u64 bits;

	if (g->mode->entry_size == 4)
		return 0;
	bits = GENMASK_ULL(51, 0) & -(1ULL << width);
	if (!g->nx)
		bits |= ENTRY_NX;
	if (g->mode->pae)
		bits |= GENMASK_ULL(62, 52);
	return bits;
}

/* ... and in the entry that maps a large page. */
static u64 reserved_in_large(struct keel_vcpu *vcpu, const struct guest_paging *g)
{
	int width = clamp_t(int, vcpu->cpuid.maxphyaddr, 32, 40);

	/* PSE-36: address bits above 31 are kept in 20:13 */
	if (g->mode->entry_size == 4)
		return GENMASK_ULL(21, width - 19);
	/* bit 12 is PAT */
	return GENMASK_ULL(level_shift(g, g->level) - 1, 13);
}

/* The first table; for PAE what its register says. Return: is it present? */
static bool first_table(struct keel_vcpu *vcpu, struct guest_paging *g, gva_t gva, gpa_t *table)
{
	u64 entry;

	g->level = g->mode->levels;
	if (!g->mode->pae) {
		*table = vcpu->regs.cr3 & g->mode->address;
		return true;
	}
	keel_need(vcpu, KEEL_PDPTRS);
	/* no permissions, no accessed bit; reserved bits were checked on loading */
	entry = vcpu->regs.pdptr[(gva >> 30) & 3];
	*table = entry & g->mode->address;
	g->level--;
	return entry & ENTRY_PRESENT;
}

/*
 * Down to the entry that maps @gva. Return: true, or false with what the
 * tables add to the error code of the access.
 */
static bool descend(struct keel_vcpu *vcpu, struct guest_paging *g, gva_t gva,
		    struct keel_slot **slot, u32 *error)
{
	u64 entry, reserved, common = reserved_everywhere(vcpu, g);
	unsigned int index;
	bool large;
	gpa_t table;

	*error = 0;
	if (!first_table(vcpu, g, gva, &table))
		return false;
	g->all = ~0ULL;
	g->any = 0;
	for (;; g->level--) {
		index = gva >> level_shift(g, g->level) & (BIT(g->mode->bits) - 1);
		g->at[g->level] = table + index * g->mode->entry_size;
		/* a table where no memory is counts as empty */
		if (keel_guest_read_entry(vcpu->vm, slot, g->at[g->level], &entry,
					  g->mode->entry_size))
			return false;
		if (!(entry & ENTRY_PRESENT))
			return false;
		large = (entry & ENTRY_LARGE) && may_be_large(vcpu, g);
		reserved = common;
		if (large)
			reserved |= reserved_in_large(vcpu, g);
		else if (g->level > 2 && g->mode->entry_size == 8)
			reserved |= ENTRY_LARGE;
		if (entry & reserved) {
			*error = X86_PF_PROT | X86_PF_RSVD;
			return false;
		}
		g->entry[g->level] = entry;
		g->all &= entry;
		g->any |= entry;
		if (large || g->level == 1)
			return true;
		table = entry & g->mode->address;
	}
}

static bool allowed(struct keel_vcpu *vcpu, const struct guest_paging *g, u32 flags)
{
	const struct keel_regs *regs = &vcpu->regs;
	bool user = g->all & ENTRY_USER, write = g->all & ENTRY_WRITE;

	if ((flags & KEEL_WALK_EXEC) && g->nx && (g->any & ENTRY_NX))
		return false;
	if (flags & KEEL_WALK_USER)
		return user && (write || !(flags & KEEL_WALK_WRITE));

	if ((flags & KEEL_WALK_WRITE) && !write) {
		keel_need(vcpu, KEEL_CRS);
		if (regs->cr0 & X86_CR0_WP)
			return false;
	}
	if (!user)
		return true;
	if (flags & KEEL_WALK_EXEC)
		return !(regs->cr4 & X86_CR4_SMEP);
	if ((flags & KEEL_WALK_PEEK) || !(regs->cr4 & X86_CR4_SMAP))
		return true;
	/* RFLAGS.AC lifts SMAP, but not for what ring 3 does as supervisor */
	return (regs->rflags & X86_EFLAGS_AC) && keel_cpl(vcpu) < 3;
}

/* Return: 0, or -EAGAIN when an entry is not any more what was seen. */
static int set_bits(struct keel_vcpu *vcpu, struct guest_paging *g, bool write)
{
	int level, top = g->mode->pae ? 2 : g->mode->levels;
	u64 old, new;

	if (likely((g->all & ENTRY_ACCESSED) &&
		   (!write || (g->entry[g->level] & ENTRY_DIRTY))))
		return 0;
	for (level = top; level >= g->level; level--) {
		old = g->entry[level];
		new = old | ENTRY_ACCESSED;
		if (write && level == g->level)
			new |= ENTRY_DIRTY;
		if (new == old)
			continue;
		/* tables in a read-only slot keep the bits they have */
		if (keel_guest_cmpxchg(vcpu, g->at[level], &old, new,
				       g->mode->entry_size) == -EAGAIN)
			return -EAGAIN;
	}
	return 0;
}

static gpa_t result(const struct guest_paging *g, gva_t gva)
{
	u64 entry = g->entry[g->level];
	u64 offset = gva & (BIT_ULL(level_shift(g, g->level)) - 1);
	gpa_t base;

	if (g->mode->entry_size == 8) {
		base = entry & GENMASK_ULL(51, 12);
	} else {
		base = entry & GENMASK_ULL(31, 12);
		if (g->level == 2)	/* PSE-36 */
			base = (entry & GENMASK_ULL(31, 22)) |
			       (((entry >> 13) & GENMASK_ULL(7, 0)) << 32);
	}
	return (base & ~(BIT_ULL(level_shift(g, g->level)) - 1)) | offset;
}

/* What the error code has from the kind of access alone. */
static u32 access_error(struct keel_vcpu *vcpu, const struct guest_paging *g, u32 flags)
{
	u32 error = 0;

	if (flags & KEEL_WALK_WRITE)
		error |= X86_PF_WRITE;
	if (flags & KEEL_WALK_USER)
		error |= X86_PF_USER;
	if ((flags & KEEL_WALK_EXEC) && (g->nx || (vcpu->regs.cr4 & X86_CR4_SMEP)))
		error |= X86_PF_INSTR;
	return error;
}

/* Return: 0 with the address in @walk, or -EFAULT with the error code of a #PF. */
static int guest_walk(struct keel_vcpu *vcpu, struct guest_paging *g, gva_t gva, u32 flags,
		      struct keel_walk *walk, struct keel_slot **slot)
{
	int tries;
	u32 error;

	g->mode = paging_mode(&vcpu->regs);
	g->nx = (vcpu->regs.efer & EFER_NX) && g->mode->entry_size == 8;
	if (g->mode->levels < 4)
		gva = (u32)gva;

	for (tries = 1; ; tries++) {
		if (!descend(vcpu, g, gva, slot, &error))
			break;
		if (!allowed(vcpu, g, flags)) {
			error = X86_PF_PROT;
			break;
		}
		if ((flags & KEEL_WALK_PEEK) || tries == MAX_TRIES ||
		    !set_bits(vcpu, g, flags & KEEL_WALK_WRITE)) {
			walk->gpa = result(g, gva);
			return 0;
		}
	}
	walk->error = error | access_error(vcpu, g, flags);
	return -EFAULT;
}

/* Under vm->srcu. *slot is NULL, and then where the last table is. */
static int translate(struct keel_vcpu *vcpu, struct guest_paging *g, gva_t gva, u32 flags,
		     struct keel_walk *walk, struct keel_slot **slot)
{
	walk->error = 0;
	if (!keel_paging(vcpu)) {
		walk->gpa = (u32)gva;
		return 0;
	}
	keel_need(vcpu, KEEL_CR3 | KEEL_RFLAGS);
	return guest_walk(vcpu, g, gva, flags, walk, slot);
}

int keel_guest_walk(struct keel_vcpu *vcpu, gva_t gva, u32 flags, struct keel_walk *walk)
{
	struct guest_paging g __uninitialized;
	struct keel_slot *slot = NULL;
	int idx, err;

	idx = srcu_read_lock(&vcpu->vm->srcu);
	err = translate(vcpu, &g, gva, flags, walk, &slot);
	srcu_read_unlock(&vcpu->vm->srcu, idx);
	return err;
}

/* ---- fetching code ---- */

/*
 * What decides beside CR3 and the tables where a fetch leads, in 64-bit paging modes.
 * Userspace can make that LMA is set without paging.
 */
static u32 fetch_mode(const struct keel_regs *regs, u32 flags)
{
	return (regs->cr0 & X86_CR0_PG) | (regs->efer & (EFER_LMA | EFER_NX)) |
	       (regs->cr4 & (X86_CR4_LA57 | X86_CR4_SMEP)) | flags;
}

/*
 * A page of code that is fetched from again: when the entries on the way to it are
 * what they were, so is what the walk finds. Under vm->srcu; the VM's slots are those
 * of @f, or seq is another.
 */
static bool fetch_again(struct keel_vcpu *vcpu, const struct keel_fetch *f, gva_t gva,
			u32 mode, void *buf, unsigned int len)
{
	u64 entry;
	int i;

	if (f->page != (gva & PAGE_MASK) || f->mode != mode || f->cr3 != vcpu->regs.cr3 ||
	    f->seq != READ_ONCE(vcpu->vm->mmu.seq) || current->mm != vcpu->vm->mm)
		return false;
	for (i = 0; i < f->nr; i++)
		if (get_user(entry, f->at[i]) || entry != f->entry[i])
			return false;
	return !copy_from_user(buf, f->code + offset_in_page(gva), len);
}

/* The walk that has just been done: in a 64-bit mode, as @mode says; its result is @gpa. */
static void remember_fetch(struct keel_vcpu *vcpu, struct keel_fetch *f,
			   const struct guest_paging *g, gva_t gva, u32 mode,
			   unsigned long seq, gpa_t gpa, struct keel_slot **slot)
{
	int level;

	/* all five levels: rare, and a vCPU's structure is just below 4 KiB */
	if (g->mode->levels - g->level >= ARRAY_SIZE(f->entry))
		return;
	/* fetch_again() sets no bits: those that could not be set now are for the next walk */
	if (!(g->all & ENTRY_ACCESSED))
		return;
	f->nr = 0;
	f->code = keel_guest_near(vcpu->vm, slot, gpa & PAGE_MASK);
	for (level = g->mode->levels; level >= g->level; level--) {
		f->at[f->nr] = keel_guest_near(vcpu->vm, slot, g->at[level]);
		f->entry[f->nr++] = g->entry[level];
	}
	f->page = gva & PAGE_MASK;
	f->mode = mode;
	f->cr3 = vcpu->regs.cr3;
	f->seq = seq;
}

int keel_guest_fetch(struct keel_vcpu *vcpu, gva_t gva, u32 flags, void *buf,
		     unsigned int len, struct keel_walk *walk)
{
	struct keel_fetch *f = &vcpu->fetches[keel_gfn(gva) % ARRAY_SIZE(vcpu->fetches)];
	struct guest_paging g __uninitialized;
	struct keel_vm *vm = vcpu->vm;
	struct keel_slot *slot = NULL;
	u32 mode = fetch_mode(&vcpu->regs, flags);
	unsigned long seq;
	int idx, err = 0;

	keel_need(vcpu, KEEL_CR3 | KEEL_RFLAGS);
	idx = srcu_read_lock(&vm->srcu);
	if (!fetch_again(vcpu, f, gva, mode, buf, len)) {
		seq = READ_ONCE(vm->mmu.seq);
		smp_rmb();	/* before the slots are looked at: pairs with slot changes */
		err = translate(vcpu, &g, gva, flags, walk, &slot);
		if (!err && keel_guest_read_near(vm, &slot, walk->gpa, buf, len))
			err = -ENXIO;
		if (!err && (mode & X86_CR0_PG) && (mode & EFER_LMA))
			remember_fetch(vcpu, f, &g, gva, mode, seq, walk->gpa, &slot);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}
