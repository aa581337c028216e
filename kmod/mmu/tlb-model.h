/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of what CPUs may keep of a guest's translations, for debugging: see
 * tlb-model.c. Without CONFIG_KEEL_TLB_MODEL there is nothing of it.
 */
#ifndef KEEL_MMU_TLB_MODEL_H
#define KEEL_MMU_TLB_MODEL_H

#include <linux/kconfig.h>
#include <linux/types.h>

struct keel_vm;
struct keel_vcpu;

/* What a tag stands for. On SVM an ASID is both. */
enum keel_tlb {
	KEEL_TLB_SECOND_LEVEL,	/* guest-physical to host: tagged by EPTP or ASID */
	KEEL_TLB_LINEAR,	/* guest-linear to host: tagged by VPID or ASID */
	KEEL_TLB_TEST,		/* KUnit's */
	KEEL_NR_TLBS,
};

#define KEEL_TLB_ALL_TAGS	(~0ul)

/* What the CPU had for the guest's paging: what it has cached belongs to these. */
struct keel_tlb_regs {
	u64 cr0, cr3, cr4, efer;
};

struct keel_tlb_vm {
#ifdef CONFIG_KEEL_TLB_MODEL
	/* all but id: mmu.lock for write */
	u64 id;		/* [C] never used again */
	u64 changes;	/* how many entries have lost something */
	u64 flushed;	/* changes, as the last flush began */
	u64 due;	/* changes, at the last keel_mmu_unlock() */
#endif
};

struct keel_tlb_vcpu {
#ifdef CONFIG_KEEL_TLB_MODEL
	u64 id;			/* [C] never used again */
	u64 changes;		/* [O] how often linear translations became wrong */
	struct keel_tlb_regs regs; /* [O] at the last exit */
	int cpu;		/* [O] of the last entry */
	unsigned long tag;	/* [O] and what tagged linear translations there */
	u64 running;		/* [A] in the guest, with translations since; or 0 */
#endif
};

#ifdef CONFIG_KEEL_TLB_MODEL

void keel_tlb_model_vm(struct keel_vm *vm);
void keel_tlb_model_vcpu(struct keel_vcpu *vcpu);
void keel_tlb_model_exit(void);

/* An entry of second-level tables was removed, or has fewer permissions. */
void keel_tlb_model_changed(struct keel_vm *vm);
/* keel_flush_tlbs() is about what has changed until now. */
void keel_tlb_model_flush_begins(struct keel_vm *vm);
/* The writer drops mmu.lock: from here on nobody may use what is gone. */
void keel_tlb_model_settle(struct keel_vm *vm);

/* The backend is asked to flush the vCPU's linear translations. */
void keel_tlb_model_flush_asked(struct keel_vcpu *vcpu);

/* This CPU was told to forget @tag, or KEEL_TLB_ALL_TAGS. Interrupts off. */
void keel_tlb_model_flushed(enum keel_tlb tlb, unsigned long tag);
/* ... but it did not: the entry that should have done it failed. */
void keel_tlb_model_flush_lost(enum keel_tlb tlb, unsigned long tag);
/* The extension was switched off on this CPU: others may use it from now on. */
void keel_tlb_model_hardware_off(void);

/**
 * keel_tlb_model_enter() - the guest is entered, with these tags
 * @vcpu: the vCPU
 * @second_level: what tags second-level translations
 * @linear: what tags those of linear addresses
 * @regs: as the CPU will load them
 *
 * Context: interrupts off; every flush that the entry makes was told.
 */
void keel_tlb_model_enter(struct keel_vcpu *vcpu, unsigned long second_level,
			  unsigned long linear, const struct keel_tlb_regs *regs);

/* @regs: as the CPU left them; NULL when the entry failed */
void keel_tlb_model_left(struct keel_vcpu *vcpu, const struct keel_tlb_regs *regs);

#else

static inline void keel_tlb_model_vm(struct keel_vm *vm) {}
static inline void keel_tlb_model_vcpu(struct keel_vcpu *vcpu) {}
static inline void keel_tlb_model_exit(void) {}
static inline void keel_tlb_model_changed(struct keel_vm *vm) {}
static inline void keel_tlb_model_flush_begins(struct keel_vm *vm) {}
static inline void keel_tlb_model_settle(struct keel_vm *vm) {}
static inline void keel_tlb_model_flush_asked(struct keel_vcpu *vcpu) {}
static inline void keel_tlb_model_hardware_off(void) {}
static inline void keel_tlb_model_flushed(enum keel_tlb tlb, unsigned long tag) {}
static inline void keel_tlb_model_flush_lost(enum keel_tlb tlb, unsigned long tag) {}
static inline void keel_tlb_model_enter(struct keel_vcpu *vcpu, unsigned long second_level,
					unsigned long linear,
					const struct keel_tlb_regs *regs) {}
static inline void keel_tlb_model_left(struct keel_vcpu *vcpu,
				       const struct keel_tlb_regs *regs) {}

#endif

#endif /* KEEL_MMU_TLB_MODEL_H */
