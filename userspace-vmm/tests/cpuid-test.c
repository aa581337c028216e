// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPUID of one vCPU made from what a hypervisor supports.
 */
#include <string.h>

#include "cpuid.h"
#include "tap.h"

static struct cpuid_table table;

static void start(void)
{
	memset(&table, 0, sizeof(table));
}

static void leaf(u32 function, u32 index, u32 a, u32 b, u32 c, u32 d)
{
	struct kvm_cpuid_entry2 *e = &table.entry[table.head.nent++];

	e->function = function;
	e->index = index;
	e->eax = a;
	e->ebx = b;
	e->ecx = c;
	e->edx = d;
}

static const struct kvm_cpuid_entry2 *get(u32 function, u32 index)
{
	static const struct kvm_cpuid_entry2 none;
	unsigned int i;

	for (i = 0; i < table.head.nent; i++) {
		if (table.entry[i].function == function &&
		    table.entry[i].index == index)
			return &table.entry[i];
	}
	return &none;
}

static void test_intel(void)
{
	start();
	leaf(0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	leaf(1, 0, 0x806f8, 0x12100800, 1U << 24, 0);
	leaf(4, 0, 0xfc004121, 0x02c0003f, 0x3f, 0);
	leaf(4, 3, 0xfc1fc163, 0x0280003f, 0xffff, 4);
	leaf(4, 4, 0, 0, 0, 0);
	leaf(0xb, 0, 1, 2, 0x100, 77);
	leaf(0x1f, 0, 1, 2, 0x100, 77);
	leaf(0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	leaf(0x80000008, 0, 0x302e, 0, 0, 0);
	cpuid_for_vcpu(&table, 5, 8, false);
	is(get(1, 0)->ebx, 5U << 24 | 8 << 16 | 0x0800, "leaf 1: APIC id, threads, CLFLUSH");
	ok(get(1, 0)->edx & 1U << 28, "leaf 1: HTT");
	is(get(1, 0)->ecx, 1U << 31, "leaf 1: hypervisor, no TSC deadline");
	is(get(4, 0)->eax, 0x121 | 7U << 26, "leaf 4: L1 is each core's");
	is(get(4, 3)->eax, 0x163 | 7U << 26 | 7 << 14, "leaf 4: L3 is shared");
	is(get(4, 4)->eax, 0, "leaf 4: end of list");
	is(get(0xb, 0)->ebx, 1, "leaf 0xb: one thread per core");
	is(get(0xb, 0)->eax, 0, "leaf 0xb: no thread bits");
	is(get(0xb, 1)->eax, 3, "leaf 0xb: three core bits");
	is(get(0xb, 1)->ebx, 8, "leaf 0xb: eight cores");
	is(get(0xb, 1)->ecx, 0x201, "leaf 0xb: core level");
	is(get(0xb, 1)->edx, 5, "leaf 0xb: x2APIC id");
	is(get(0x1f, 1)->edx, 5, "leaf 0x1f: x2APIC id");
	is(get(0x40000000, 0)->ebx, 0x4b4d564b, "the hypervisor's signature stays");
	is(get(0x80000008, 0)->ecx, 0, "nothing of AMD's");
	is(cpuid_phys_bits(&table), 46, "width of an address");
}

static void test_amd(void)
{
	start();
	leaf(0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65);
	leaf(1, 0, 0x800f12, 0x00010800, 0, 1 << 28);
	leaf(0x80000001, 0, 0, 0, 0, 0);
	leaf(0x80000008, 0, 0x3030, 0, 0x703f, 0);
	leaf(0x8000001d, 0, 0x00004121, 0, 0, 0);
	leaf(0x8000001d, 3, 0x0001c163, 0, 0, 0);
	leaf(0x8000001e, 0, 9, 0x109, 0x101, 0);
	cpuid_for_vcpu(&table, 2, 4, true);
	ok(get(1, 0)->ecx & 1 << 24, "TSC deadline");
	is(get(0xb, 1)->ebx, 4, "leaf 0xb is made where the range covers it");
	is(get(0x80000001, 0)->ecx, 2, "CmpLegacy");
	is(get(0x80000008, 0)->ecx, 2 << 12 | 3, "cores, and bits for them");
	is(get(0x8000001d, 0)->eax, 0x121, "L1 is each core's");
	is(get(0x8000001d, 3)->eax, 0x163 | 3 << 14, "L3 is shared");
	is(get(0x8000001e, 0)->eax, 2, "extended APIC id");
	is(get(0x8000001e, 0)->ebx, 2, "core id, one thread");
	is(get(0x8000001e, 0)->ecx, 0, "one node");

	start();
	leaf(0, 0, 1, 0x68747541, 0x444d4163, 0x69746e65);
	leaf(1, 0, 0, 0, 0, 1 << 28);
	cpuid_for_vcpu(&table, 0, 1, true);
	is(get(1, 0)->edx, 0, "one CPU: no HTT");
	is(table.head.nent, 2, "no leaf above the range is added");
	is(cpuid_phys_bits(&table), 36, "width of an address, not told");
}

static void test_full(void)
{
	unsigned int i;

	start();
	leaf(0, 0, 0xb, 0, 0, 0);
	for (i = 1; i < CPUID_MAX_ENTRIES; i++)
		leaf(0x40000000 + i, 0, 0, 0, 0, 0);
	cpuid_for_vcpu(&table, 1, 2, true);
	is(table.head.nent, CPUID_MAX_ENTRIES, "a full table does not overflow");
}

int main(void)
{
	test_intel();
	test_amd();
	test_full();
	return tap_done();
}
