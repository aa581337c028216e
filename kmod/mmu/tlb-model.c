// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model of the TLB that assumes the worst: under the tag it was given a CPU
 * keeps all that was ever true since it was told to forget that tag, and uses
 * it. SDM vol. 3 "Caching Translation Information"; APM vol. 2 "TLB Management".
 *
 * Emulators flush everything at each entry and exit, so that no test sees a flush
 * that is missing there. With this, it is reported as soon as a guest is entered,
 * or left running, with a tag under which the CPU may have something that was
 * taken away, or another guest's. What the CPU is told (the VMCB's TLB control,
 * INVEPT, INVVPID) is looked at where it is told, and so are the tags it uses;
 * what was taken away, where entries are changed.
 *
 * What a guest itself makes its CPU forget is known on that CPU only. So if it moves,
 * or gets another tag, all that the new one has of it counts as wrong.
 *
 * Not seen: what becomes wrong because userspace changes a guest's page tables or the
 * PCID in CR3, and accessed bits that were cleared, which may stay cached on purpose.
 */
#include <linux/hashtable.h>
#include <linux/lockdep.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "internal.h"

/* What changes of these registers leave behind wrong translations. */
#define CR0_FLUSHES	X86_CR0_PG
#define CR4_FLUSHES	(X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | \
			 X86_CR4_SMEP | X86_CR4_SMAP)
#define EFER_FLUSHES	(EFER_LMA | EFER_NX)

/* Owners of a tag. Any other number is the id of a VM or of a vCPU. */
#define UNKNOWN		0ULL		/* whoever had the CPU before */
#define NOBODY		1ULL		/* flushed, and not used since */
#define FIRST_ID	2

struct tag {
	struct hlist_node node;
	unsigned long key;
	u64 owner;	/* whose translations there may be */
	u64 since;	/* of them: what its owner counted as changes at that time */
};

/* A CPU's own; interrupts off. Nothing else takes part, so there is no lock. */
struct cpu_tlb {
	DECLARE_HASHTABLE(tags, 6);
	u64 others;	/* owner of the tags that are not in it */
};

static DEFINE_PER_CPU(struct cpu_tlb[KEEL_NR_TLBS], cpu_tlbs);
static atomic64_t last_id = ATOMIC64_INIT(FIRST_ID - 1);

/* NULL when there is no memory for it: then nothing is known of it, and nothing said. */
static struct tag *find_tag(enum keel_tlb tlb, unsigned long key)
{
	struct cpu_tlb *c = this_cpu_ptr(&cpu_tlbs[tlb]);
	struct tag *t;

	lockdep_assert_irqs_disabled();
	hash_for_each_possible(c->tags, t, node, key) {
		if (t->key == key)
			return t;
	}
	t = kzalloc(sizeof(*t), GFP_ATOMIC | __GFP_NOWARN);
	if (t) {
		t->key = key;
		t->owner = c->others;
		hash_add(c->tags, &t->node, key);
	}
	return t;
}

static void free_tags(struct cpu_tlb *c)
{
	struct hlist_node *next;
	struct tag *t;
	int i;

	hash_for_each_safe(c->tags, i, next, t, node) {
		hash_del(&t->node);
		kfree(t);
	}
}

static void give_away(enum keel_tlb tlb, unsigned long key, u64 owner)
{
	struct cpu_tlb *c = this_cpu_ptr(&cpu_tlbs[tlb]);
	struct tag *t;

	lockdep_assert_irqs_disabled();
	if (key == KEEL_TLB_ALL_TAGS) {
		free_tags(c);
		c->others = owner;
		return;
	}
	t = find_tag(tlb, key);
	if (t)
		t->owner = owner;
}

void keel_tlb_model_flushed(enum keel_tlb tlb, unsigned long tag)
{
	give_away(tlb, tag, NOBODY);
}

void keel_tlb_model_flush_lost(enum keel_tlb tlb, unsigned long tag)
{
	give_away(tlb, tag, UNKNOWN);
}

void keel_tlb_model_hardware_off(void)
{
	unsigned long flags;

	local_irq_save(flags);
	give_away(KEEL_TLB_SECOND_LEVEL, KEEL_TLB_ALL_TAGS, UNKNOWN);
	give_away(KEEL_TLB_LINEAR, KEEL_TLB_ALL_TAGS, UNKNOWN);
	local_irq_restore(flags);
}

/**
 * keel_tlb_model_use() - a tag is going to be used on this CPU
 * @tlb: what it stands for
 * @key: the tag
 * @owner: who uses it
 * @changes: its owner's count of changes, all of which have reached memory
 *
 * Context: interrupts off.
 * Return: how old what is there may be, in @owner's counting; 0: it is not @owner's.
 */
u64 keel_tlb_model_use(enum keel_tlb tlb, unsigned long key, u64 owner, u64 changes)
{
	struct tag *t = find_tag(tlb, key);
	bool theirs;

	if (!t)
		return changes;
	if (t->owner == owner)
		return t->since;
	theirs = t->owner != NOBODY;
	t->owner = owner;
	t->since = changes;
	return theirs ? 0 : changes;
}

static void check(u64 since, u64 due, enum keel_tlb tlb, unsigned long tag)
{
	WARN_RATELIMIT(since < due, "keel: TLB model: a guest may use %s: %s tag %lx on CPU %d\n",
		       since ? "stale translations" : "another's, or nobody knows whose",
		       tlb == KEEL_TLB_LINEAR ? "linear" : "second-level", tag,
		       raw_smp_processor_id());
}

void keel_tlb_model_vm(struct keel_vm *vm)
{
	vm->mmu.tlb_model.id = atomic64_inc_return(&last_id);
	vm->mmu.tlb_model.changes = 1;
	vm->mmu.tlb_model.flushed = 1;
	vm->mmu.tlb_model.due = 1;
}

void keel_tlb_model_vcpu(struct keel_vcpu *vcpu)
{
	vcpu->tlb_model.id = atomic64_inc_return(&last_id);
	vcpu->tlb_model.changes = 1;
	vcpu->tlb_model.cpu = -1;
}

void keel_tlb_model_changed(struct keel_vm *vm)
{
	struct keel_tlb_vm *m = &vm->mmu.tlb_model;

	/* after the change: whoever sees the number cannot cache what was before */
	smp_wmb();
	WRITE_ONCE(m->changes, m->changes + 1);
}

void keel_tlb_model_flush_begins(struct keel_vm *vm)
{
	vm->mmu.tlb_model.flushed = vm->mmu.tlb_model.changes;
}

void keel_tlb_model_settle(struct keel_vm *vm)
{
	struct keel_tlb_vm *m = &vm->mmu.tlb_model;
	struct keel_vcpu *vcpu;
	unsigned long id;
	u64 running;

	if (m->due == m->changes)
		return;
	WARN_RATELIMIT(m->flushed != m->changes,
		       "keel: TLB model: second-level entries were changed without a flush\n");
	WRITE_ONCE(m->due, m->changes);
	smp_mb();	/* pairs with that of keel_tlb_model_enter() */
	keel_for_each_vcpu(vm, id, vcpu) {
		running = READ_ONCE(vcpu->tlb_model.running);
		WARN_RATELIMIT(running && running < m->due,
			       "keel: TLB model: vCPU %lu runs on with stale translations\n", id);
	}
}

/* Software changed what the guest's linear translations depend on. */
static bool paging_changed(const struct keel_tlb_regs *a, const struct keel_tlb_regs *b)
{
	/* whether a new CR3 flushes with PCIDs is said in its bit 63, which is not kept */
	return ((a->cr0 ^ b->cr0) & CR0_FLUSHES) || ((a->cr4 ^ b->cr4) & CR4_FLUSHES) ||
	       ((a->efer ^ b->efer) & EFER_FLUSHES) ||
	       (a->cr3 != b->cr3 && !(a->cr4 & X86_CR4_PCIDE));
}

void keel_tlb_model_flush_asked(struct keel_vcpu *vcpu)
{
	vcpu->tlb_model.changes++;
}

void keel_tlb_model_enter(struct keel_vcpu *vcpu, unsigned long second_level,
			  unsigned long linear, const struct keel_tlb_regs *regs)
{
	struct keel_tlb_vm *v = &vcpu->vm->mmu.tlb_model;
	struct keel_tlb_vcpu *m = &vcpu->tlb_model;
	int cpu = smp_processor_id();
	u64 changes, since;

	if (cpu != m->cpu || linear != m->tag || paging_changed(&m->regs, regs))
		m->changes++;
	m->cpu = cpu;
	m->tag = linear;
	m->regs = *regs;
	since = keel_tlb_model_use(KEEL_TLB_LINEAR, linear, m->id, m->changes);
	check(since, m->changes, KEEL_TLB_LINEAR, linear);

	changes = READ_ONCE(v->changes);
	smp_rmb();	/* pairs with the smp_wmb() of keel_tlb_model_changed() */
	since = keel_tlb_model_use(KEEL_TLB_SECOND_LEVEL, second_level, v->id, changes);
	WRITE_ONCE(m->running, since);
	smp_mb();	/* pairs with that of keel_tlb_model_settle() */
	check(since, READ_ONCE(v->due), KEEL_TLB_SECOND_LEVEL, second_level);
}

void keel_tlb_model_left(struct keel_vcpu *vcpu, const struct keel_tlb_regs *regs)
{
	WRITE_ONCE(vcpu->tlb_model.running, 0);
	if (regs)
		vcpu->tlb_model.regs = *regs;
}

void keel_tlb_model_exit(void)
{
	int cpu, tlb;

	for_each_possible_cpu(cpu) {
		for (tlb = 0; tlb < KEEL_NR_TLBS; tlb++)
			free_tags(per_cpu_ptr(&cpu_tlbs[tlb], cpu));
	}
}
