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
 * struct guest_paging - a walk under way
 * @entry_size: 4 (two levels) or 8
 * @levels: of tables
 * @nx: NX is a permission, not a reserved bit
 * @pae: three levels, of which the first is in registers
 * @level: where the walk is: 1 is the last
 * @entry: the entries seen, by level
 * @at: where they lie
 */
struct guest_paging {
	int entry_size;
	int levels;
	bool nx;
	bool pae;
	int level;
	u64 entry[MAX_LEVELS + 1];
	gpa_t at[MAX_LEVELS + 1];
};

static void paging_mode(struct keel_vcpu *vcpu, struct guest_paging *g)
{
	const struct keel_regs *regs = &vcpu->regs;

	g->pae = false;
	g->nx = (regs->efer & EFER_NX) && (regs->cr4 & X86_CR4_PAE);
	g->entry_size = regs->cr4 & X86_CR4_PAE ? 8 : 4;
	if (regs->efer & EFER_LMA) {
		g->levels = regs->cr4 & X86_CR4_LA57 ? 5 : 4;
	} else if (regs->cr4 & X86_CR4_PAE) {
		g->levels = 3;
		g->pae = true;
	} else {
		g->levels = 2;
	}
}

/* log2 of what an entry of this level maps */
static int level_shift(const struct guest_paging *g, int level)
{
	return PAGE_SHIFT + (level - 1) * (g->entry_size == 8 ? 9 : 10);
}

static unsigned int table_index(const struct guest_paging *g, gva_t gva, int level)
{
	int bits = g->entry_size == 8 ? 9 : 10;

	return (gva >> level_shift(g, level)) & (BIT(bits) - 1);
}

static bool may_be_large(struct keel_vcpu *vcpu, const struct guest_paging *g)
{
	switch (g->level) {
	case 2:
		return g->entry_size == 8 || (vcpu->regs.cr4 & X86_CR4_PSE);
	case 3:
		return g->levels > 3 && boot_cpu_has(X86_FEATURE_GBPAGES);
	default:
		return false;
	}
}

/* Bits of this level's entry that have to be clear. */
static u64 reserved_bits(struct keel_vcpu *vcpu, const struct guest_paging *g, bool large)
{
	int width = clamp_t(int, vcpu->cpuid.maxphyaddr, 32, 52);
	u64 bits;

	if (g->entry_size == 4) {
		/* PSE-36: address bits above 31 are kept in 20:13 */
		if (!large)
			return 0;
		return GENMASK_ULL(21, min(width, 40) - 19);
	}

	bits = width < 52 ? GENMASK_ULL(51, width) : 0;
	if (!g->nx)
		bits |= ENTRY_NX;
	if (g->pae)
		bits |= GENMASK_ULL(62, 52);
	if (large)	/* bit 12 is PAT */
		bits |= GENMASK_ULL(level_shift(g, g->level) - 1, 13);
	else if (g->level > 2)
		bits |= ENTRY_LARGE;
	return bits;
}

/* The first table; for PAE what its register says. Return: is it present? */
static bool first_table(struct keel_vcpu *vcpu, struct guest_paging *g, gva_t gva, gpa_t *table)
{
	u64 entry;

	g->level = g->levels;
	if (!g->pae) {
		*table = vcpu->regs.cr3 & (g->entry_size == 8 ? GENMASK_ULL(51, 12) :
								GENMASK_ULL(31, 12));
		return true;
	}
	keel_need(vcpu, KEEL_PDPTRS);
	/* no permissions, no accessed bit; reserved bits were checked on loading */
	entry = vcpu->regs.pdptr[(gva >> 30) & 3];
	*table = entry & GENMASK_ULL(51, 12);
	g->level--;
	return entry & ENTRY_PRESENT;
}

/*
 * Down to the entry that maps @gva. Return: true, or false with what the
 * tables add to the error code of the access.
 */
static bool descend(struct keel_vcpu *vcpu, struct guest_paging *g, gva_t gva, u32 *error)
{
	bool large;
	gpa_t table;
	u64 entry;

	*error = 0;
	if (!first_table(vcpu, g, gva, &table))
		return false;
	for (;; g->level--) {
		g->at[g->level] = table + table_index(g, gva, g->level) * g->entry_size;
		/* a table where no memory is counts as empty */
		if (keel_guest_read_entry(vcpu->vm, g->at[g->level], &entry, g->entry_size))
			return false;
		if (!(entry & ENTRY_PRESENT))
			return false;
		large = (entry & ENTRY_LARGE) && may_be_large(vcpu, g);
		if (entry & reserved_bits(vcpu, g, large)) {
			*error = X86_PF_PROT | X86_PF_RSVD;
			return false;
		}
		g->entry[g->level] = entry;
		if (large || g->level == 1)
			return true;
		table = entry & (g->entry_size == 8 ? GENMASK_ULL(51, 12) :
						      GENMASK_ULL(31, 12));
	}
}

static bool allowed(struct keel_vcpu *vcpu, const struct guest_paging *g, u32 flags)
{
	const struct keel_regs *regs = &vcpu->regs;
	bool user = true, write = true, nx = false;
	int level, top = g->pae ? 2 : g->levels;

	for (level = top; level >= g->level; level--) {
		user &= !!(g->entry[level] & ENTRY_USER);
		write &= !!(g->entry[level] & ENTRY_WRITE);
		nx |= g->nx && (g->entry[level] & ENTRY_NX);
	}
	if ((flags & KEEL_WALK_EXEC) && nx)
		return false;
	if (flags & KEEL_WALK_USER)
		return user && (write || !(flags & KEEL_WALK_WRITE));

	if ((flags & KEEL_WALK_WRITE) && !write && (regs->cr0 & X86_CR0_WP))
		return false;
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
	int level, top = g->pae ? 2 : g->levels;
	u64 old, new;

	for (level = top; level >= g->level; level--) {
		old = g->entry[level];
		new = old | ENTRY_ACCESSED;
		if (write && level == g->level)
			new |= ENTRY_DIRTY;
		if (new == old)
			continue;
		/* tables in a read-only slot keep the bits they have */
		if (keel_guest_cmpxchg(vcpu, g->at[level], &old, new,
				       g->entry_size) == -EAGAIN)
			return -EAGAIN;
	}
	return 0;
}

static gpa_t result(const struct guest_paging *g, gva_t gva)
{
	u64 entry = g->entry[g->level];
	u64 offset = gva & (BIT_ULL(level_shift(g, g->level)) - 1);
	gpa_t base;

	if (g->entry_size == 8) {
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

int keel_guest_walk(struct keel_vcpu *vcpu, gva_t gva, u32 flags, struct keel_walk *walk)
{
	struct guest_paging g;
	int tries;
	u32 error;

	walk->error = 0;
	if (!keel_paging(vcpu)) {
		walk->gpa = (u32)gva;
		return 0;
	}
	keel_need(vcpu, KEEL_CR3 | KEEL_RFLAGS);
	paging_mode(vcpu, &g);
	if (g.levels < 4)
		gva = (u32)gva;

	for (tries = 1; ; tries++) {
		if (!descend(vcpu, &g, gva, &error))
			break;
		if (!allowed(vcpu, &g, flags)) {
			error = X86_PF_PROT;
			break;
		}
		if ((flags & KEEL_WALK_PEEK) || tries == MAX_TRIES ||
		    !set_bits(vcpu, &g, flags & KEEL_WALK_WRITE)) {
			walk->gpa = result(&g, gva);
			return 0;
		}
	}
	walk->error = error | access_error(vcpu, &g, flags);
	return -EFAULT;
}
