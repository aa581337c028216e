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

/* Where there is none: an empty one that nobody else sees. */
static struct kvm_cpuid_entry2 *find(struct cpuid_table *t, u32 function, u32 index)
{
	static struct kvm_cpuid_entry2 none;
	unsigned int i;

	for (i = 0; i < t->head.nent; i++) {
		if (t->entry[i].function == function && t->entry[i].index == index)
			return &t->entry[i];
	}
	none = (struct kvm_cpuid_entry2){ .function = function, .index = index };
	return &none;
}

/* Bits of APIC id that tell the cores of the package apart. */
static unsigned int core_bits(unsigned int cpus)
{
	unsigned int bits = 0;

	while ((1U << bits) < cpus)
		bits++;
	return bits;
}

static void set_bits(u32 *reg, u32 bits, bool on)
{
	*reg = on ? *reg | bits : *reg & ~bits;
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
static void patch_topology(struct cpuid_table *t, u32 function, unsigned int id, unsigned int cpus)
{
	struct kvm_cpuid_entry2 levels[] = {
		{ .ebx = 1, .ecx = TOPOLOGY_SMT << 8 },
		{ .eax = core_bits(cpus), .ebx = cpus, .ecx = TOPOLOGY_CORE << 8 | 1 },
	};
	unsigned int i, kept = 0;

	for (i = 0; i < t->head.nent; i++) {
		if (t->entry[i].function != function)
			t->entry[kept++] = t->entry[i];
	}
	t->head.nent = kept;
	for (i = 0; i < ARRAY_SIZE(levels) && t->head.nent < CPUID_MAX_ENTRIES; i++) {
		levels[i].function = function;
		levels[i].index = i;
		levels[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		levels[i].edx = id;
		t->entry[t->head.nent++] = levels[i];
	}
}

static void patch_amd(struct cpuid_table *t, unsigned int id, unsigned int cpus)
{
	struct kvm_cpuid_entry2 *e = find(t, 0x80000008, 0);

	e->ecx = (e->ecx & ~0xf0ffU) | core_bits(cpus) << 12 | (cpus - 1);
	set_bits(&find(t, 0x80000001, 0)->ecx, ECX_AMD_CMP_LEGACY, cpus > 1);
	e = find(t, 0x8000001e, 0);
	e->eax = id;
	e->ebx = id & 0xff;
	e->ecx = 0;
	patch_caches(t, 0x8000001d, cpus);
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
	u32 max_leaf, vendor;

	e->ebx = (e->ebx & 0xffff) | cpus << 16 | id << 24;
	set_bits(&e->edx, EDX_HTT, cpus > 1);
	set_bits(&e->ecx, ECX_HYPERVISOR, true);
	set_bits(&e->ecx, ECX_TSC_DEADLINE, tsc_deadline);
	max_leaf = find(table, 0, 0)->eax;
	vendor = find(table, 0, 0)->edx;
	patch_caches(table, 4, cpus);
	if (max_leaf >= 0xb)
		patch_topology(table, 0xb, id, cpus);
	if (max_leaf >= 0x1f && find(table, 0x1f, 0)->ecx)
		patch_topology(table, 0x1f, id, cpus);
	/* "AuthenticAMD", "HygonGenuine": by their second word. */
	if (vendor == 0x69746e65 || vendor == 0x6e65476e)
		patch_amd(table, id, cpus);
}

/** cpuid_phys_bits() - width of a guest physical address */
unsigned int cpuid_phys_bits(const struct cpuid_table *table)
{
	u32 bits = find((struct cpuid_table *)table, 0x80000008, 0)->eax & 0xff;

	return bits ? bits : 36;
}
