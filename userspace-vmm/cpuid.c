// SPDX-License-Identifier: GPL-2.0-only
/*
 * Turn the CPUID that the hypervisor supports into that of one
 * vCPU: its APIC id, and one package of single-threaded cores. What is not
 * touched here, among it the hypervisor's own leaves at 0x40000000, is
 * passed on as it came.
 */
#include <string.h>

#include "cpuid.h"

/* Leaf 1 (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E). */
#define EDX_HTT			BIT(28)
#define ECX_TSC_DEADLINE	BIT(24)
#define ECX_HYPERVISOR		BIT(31)
#define ECX_AMD_CMP_LEGACY	BIT(1)

#define TOPOLOGY_SMT		1
#define TOPOLOGY_CORE		2

static struct kvm_cpuid_entry2 *find(struct cpuid_table *t, u32 function,
				     u32 index)
{
	unsigned int i;

	for (i = 0; i < t->head.nent; i++) {
		if (t->entry[i].function == function &&
		    t->entry[i].index == index)
			return &t->entry[i];
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *find_or_add(struct cpuid_table *t, u32 function,
					    u32 index)
{
	struct kvm_cpuid_entry2 *e = find(t, function, index);

	if (!e && t->head.nent < CPUID_MAX_ENTRIES) {
		e = &t->entry[t->head.nent++];
		memset(e, 0, sizeof(*e));
		e->function = function;
		e->index = index;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	}
	return e;
}

/* Bits of APIC id that tell the cores of the package apart. */
static unsigned int core_bits(unsigned int cpus)
{
	unsigned int bits = 0;

	while ((1U << bits) < cpus)
		bits++;
	return bits;
}

/* Leaves 4 and 0x8000001d: who shares a cache. L3 is the package's. */
static void patch_caches(struct cpuid_table *t, u32 function, unsigned int cpus)
{
	unsigned int i;

	for (i = 0; i < t->head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entry[i];
		unsigned int level = (e->eax >> 5) & 7;

		if (e->function != function || !(e->eax & 0x1f))
			continue;
		e->eax &= function == 4 ? 0x3fffU : ~(0xfffU << 14);
		if (level >= 3)
			e->eax |= (cpus - 1) << 14;
		if (function == 4)
			e->eax |= (cpus > 64 ? 63 : cpus - 1) << 26;
	}
}

/* Leaves 0xb and 0x1f: threads of a core, then cores of the package. */
static void patch_topology(struct cpuid_table *t, u32 function,
			   unsigned int id, unsigned int cpus)
{
	struct kvm_cpuid_entry2 *e;
	unsigned int i;

	if (!find(t, function, 0) && function != 0xb)
		return;
	for (i = 0; i < t->head.nent; i++) {
		e = &t->entry[i];
		if (e->function == function) {
			e->eax = 0;
			e->ebx = 0;
			e->ecx = e->index & 0xff;
			e->edx = id;
		}
	}
	e = find_or_add(t, function, 0);
	if (e) {
		e->ebx = 1;
		e->ecx = TOPOLOGY_SMT << 8;
		e->edx = id;
	}
	e = find_or_add(t, function, 1);
	if (e) {
		e->eax = core_bits(cpus);
		e->ebx = cpus;
		e->ecx = TOPOLOGY_CORE << 8 | 1;
		e->edx = id;
	}
}

static void patch_amd(struct cpuid_table *t, unsigned int id, unsigned int cpus)
{
	struct kvm_cpuid_entry2 *e;

	e = find(t, 0x80000001, 0);
	if (e) {
		e->ecx &= ~ECX_AMD_CMP_LEGACY;
		if (cpus > 1)
			e->ecx |= ECX_AMD_CMP_LEGACY;
	}
	e = find(t, 0x80000008, 0);
	if (e)
		e->ecx = (e->ecx & ~0xf0ffU) | core_bits(cpus) << 12 |
			 (cpus - 1);
	e = find(t, 0x8000001e, 0);
	if (e) {
		e->eax = id;
		e->ebx = id & 0xff;
		e->ecx = 0;
	}
	patch_caches(t, 0x8000001d, cpus);
}

static bool is_amd(struct cpuid_table *t)
{
	struct kvm_cpuid_entry2 *e = find(t, 0, 0);

	/* "AuthenticAMD", "HygonGenuine": by their second word. */
	return e && (e->edx == 0x69746e65 || e->edx == 0x6e65476e);
}

/**
 * cpuid_for_vcpu() - adapt a table to one vCPU
 * @table: a copy of what KVM_GET_SUPPORTED_CPUID gave
 * @id: the vCPU's APIC id
 * @tsc_deadline: the LAPIC timer has this mode
 */
void cpuid_for_vcpu(struct cpuid_table *table, unsigned int id,
		    unsigned int cpus, bool tsc_deadline)
{
	struct kvm_cpuid_entry2 *e = find(table, 1, 0);
	unsigned int max_leaf;

	if (e) {
		e->ebx = (e->ebx & 0xffff) | cpus << 16 | id << 24;
		e->edx &= ~EDX_HTT;
		if (cpus > 1)
			e->edx |= EDX_HTT;
		e->ecx |= ECX_HYPERVISOR;
		e->ecx &= ~ECX_TSC_DEADLINE;
		if (tsc_deadline)
			e->ecx |= ECX_TSC_DEADLINE;
	}
	e = find(table, 0, 0);
	max_leaf = e ? e->eax : 0;
	patch_caches(table, 4, cpus);
	if (max_leaf >= 0xb)
		patch_topology(table, 0xb, id, cpus);
	if (max_leaf >= 0x1f)
		patch_topology(table, 0x1f, id, cpus);
	if (is_amd(table))
		patch_amd(table, id, cpus);
}

/**
 * cpuid_phys_bits() - width of a guest physical address
 * @table: the supported leaves
 */
unsigned int cpuid_phys_bits(const struct cpuid_table *table)
{
	struct kvm_cpuid_entry2 *e;

	e = find((struct cpuid_table *)table, 0x80000008, 0);
	return e && (e->eax & 0xff) ? e->eax & 0xff : 36;
}
