// SPDX-License-Identifier: GPL-2.0-only
/* CPUID, MSRs and registers of a vCPU. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vm.h"

#define CPUID_MAX	256

/* The list of what the host offers; the caller frees it. */
struct kvm_cpuid2 *cpuid_supported(int dev)
{
	struct kvm_cpuid2 *c;

	c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));
	c->nent = CPUID_MAX;
	if (ioctl(dev, KVM_GET_SUPPORTED_CPUID, c))
		fail("KVM_GET_SUPPORTED_CPUID");
	return c;
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, u32 leaf, u32 index)
{
	for (u32 i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == leaf && e->index == index)
			return e;
	}
	return NULL;
}

/*
 * Everything that the host offers, with the vCPU's APIC id, and with the TSC
 * deadline timer, which the list leaves out because it hangs on the irqchip.
 */
void vcpu_set_cpuid(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *c = cpuid_supported(vcpu->vm->dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(c, 1, 0);

	if (e) {
		e->ebx = (e->ebx & 0xffffff) | (u32)vcpu->id << 24;
		if (vm_cap(vcpu->vm, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			e->ecx |= 1U << 24;
	}
	for (u32 i = 0; i < c->nent; i++) {
		if (c->entries[i].function == 0xb || c->entries[i].function == 0x1f)
			c->entries[i].edx = vcpu->id;
	}
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	free(c);
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

int vcpu_try_get_msr(struct vcpu *vcpu, u32 msr, u64 *val)
{
	struct one_msr m = { .head.nmsrs = 1, .entry.index = msr };
	int ret = sys_ioctl(vcpu->fd, KVM_GET_MSRS, &m);

	*val = m.entry.data;
	return ret;
}

u64 vcpu_get_msr(struct vcpu *vcpu, u32 msr)
{
	u64 val;

	if (vcpu_try_get_msr(vcpu, msr, &val) != 1)
		fail("KVM_GET_MSRS of %#x", msr);
	return val;
}

int vcpu_set_msr(struct vcpu *vcpu, u32 msr, u64 val)
{
	struct one_msr m = {
		.head.nmsrs = 1, .entry.index = msr, .entry.data = val,
	};

	return sys_ioctl(vcpu->fd, KVM_SET_MSRS, &m);
}

void vcpu_regs(struct vcpu *vcpu, struct kvm_regs *regs)
{
	VCPU_IOCTL(vcpu, KVM_GET_REGS, regs);
}

void vcpu_sregs(struct vcpu *vcpu, struct kvm_sregs *sregs)
{
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, sregs);
}

u64 vcpu_rip(struct vcpu *vcpu)
{
	struct kvm_regs regs = { .rip = ~0ULL };

	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs))
		return ~0ULL;
	return regs.rip;
}
