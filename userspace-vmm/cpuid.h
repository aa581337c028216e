/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The CPUID leaves that differ from vCPU to vCPU.
 */
#ifndef CPUID_H
#define CPUID_H

#include <linux/kvm.h>

#include "keel.h"

#define CPUID_MAX_ENTRIES 256

struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[CPUID_MAX_ENTRIES];
};

void cpuid_for_vcpu(struct cpuid_table *table, unsigned int id,
		    unsigned int cpus, bool tsc_deadline);
unsigned int cpuid_phys_bits(const struct cpuid_table *table);

#endif
