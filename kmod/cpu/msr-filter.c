// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which MSRs the guest may access itself: KVM_X86_SET_MSR_FILTER.
 *
 * A filter never changes; a new one takes its place. It holds for the guest's
 * RDMSR and WRMSR, not for userspace and not for the LAPIC's MSRs.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <asm/apicdef.h>

#include "../keel.h"

#define MAX_BITMAP	0x600	/* bytes, as KVM's */

struct filter_range {
	u32 flags, base, count;
	unsigned long *bitmap;	/* 1: allowed */
};

struct keel_msr_filter {
	bool default_allow;
	int nr;
	struct filter_range range[KVM_MSR_FILTER_MAX_RANGES];
};

static void filter_free(struct keel_msr_filter *filter)
{
	int i;

	if (!filter)
		return;
	for (i = 0; i < filter->nr; i++)
		kfree(filter->range[i].bitmap);
	kfree(filter);
}

static int filter_add(struct keel_msr_filter *filter, const struct kvm_msr_filter_range *r)
{
	size_t size = (size_t)BITS_TO_LONGS((u64)r->nmsrs) * sizeof(long);
	unsigned long *bitmap;

	if (!r->nmsrs)
		return 0;
	if (!r->flags || r->flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) ||
	    size > MAX_BITMAP)
		return -EINVAL;
	bitmap = memdup_user((void __user *)r->bitmap, size);
	if (IS_ERR(bitmap))
		return PTR_ERR(bitmap);
	filter->range[filter->nr++] = (struct filter_range) {
		.flags = r->flags, .base = r->base, .count = r->nmsrs, .bitmap = bitmap,
	};
	return 0;
}

/* vm->lock keeps vCPUs from being made meanwhile: those look for a filter too. */
static void filter_publish(struct keel_vm *vm, struct keel_msr_filter *filter)
{
	struct keel_msr_filter *old;
	struct keel_vcpu *vcpu;
	unsigned long id;

	mutex_lock(&vm->lock);
	old = rcu_replace_pointer(vm->msr_filter, filter, lockdep_is_held(&vm->lock));
	synchronize_srcu(&vm->srcu);
	keel_for_each_vcpu(vm, id, vcpu) {
		keel_request(vcpu, KEEL_REQ_MSR_FILTER);
		keel_vcpu_kick(vcpu);
	}
	mutex_unlock(&vm->lock);
	filter_free(old);
}

/**
 * keel_ioctl_set_msr_filter() - KVM_X86_SET_MSR_FILTER
 * @vm: the virtual machine
 * @f: flags and ranges; without ranges everything is allowed again
 *
 * Return: 0, -EINVAL, -EFAULT, -ENOMEM.
 */
int keel_ioctl_set_msr_filter(struct keel_vm *vm, const struct kvm_msr_filter *f)
{
	struct keel_msr_filter *filter;
	int i, err;

	if (f->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	filter = kzalloc(sizeof(*filter), GFP_KERNEL_ACCOUNT);
	if (!filter)
		return -ENOMEM;
	filter->default_allow = !(f->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (i = 0; i < ARRAY_SIZE(f->ranges); i++) {
		err = filter_add(filter, &f->ranges[i]);
		if (err)
			goto out;
	}
	err = -EINVAL;
	if (!filter->nr && !filter->default_allow)
		goto out;
	if (!filter->nr) {
		filter_free(filter);
		filter = NULL;
	}
	filter_publish(vm, filter);
	return 0;
out:
	filter_free(filter);
	return err;
}

/**
 * keel_msr_filter_apply() - have the CPU stop at what a filter may deny
 * @vcpu: the virtual CPU
 *
 * For KEEL_REQ_MSR_FILTER. With any filter all MSRs exit, also those that no
 * range of it names: who filters asks for control, not for speed.
 */
void keel_msr_filter_apply(struct keel_vcpu *vcpu)
{
	keel_backend->intercept_all_msrs(vcpu, rcu_access_pointer(vcpu->vm->msr_filter));
}

/**
 * keel_msr_allowed() - may the guest do this?
 * @vcpu: the virtual CPU
 * @msr: the number
 * @access: KVM_MSR_FILTER_READ or KVM_MSR_FILTER_WRITE
 */
bool keel_msr_allowed(struct keel_vcpu *vcpu, u32 msr, u32 access)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_msr_filter *filter;
	bool allowed = true;
	int i, idx;

	if (!rcu_access_pointer(vm->msr_filter) ||
	    (msr >= APIC_BASE_MSR && msr <= APIC_BASE_MSR + 0xff))
		return true;
	idx = srcu_read_lock(&vm->srcu);
	filter = srcu_dereference(vm->msr_filter, &vm->srcu);
	if (filter)
		allowed = filter->default_allow;
	for (i = 0; filter && i < filter->nr; i++) {
		const struct filter_range *r = &filter->range[i];

		if (r->flags & access && msr >= r->base && msr - r->base < r->count) {
			allowed = test_bit(array_index_nospec(msr - r->base, r->count),
					   r->bitmap);
			break;
		}
	}
	srcu_read_unlock(&vm->srcu, idx);
	return allowed;
}

void keel_msr_filter_destroy(struct keel_vm *vm)
{
	filter_free(rcu_dereference_protected(vm->msr_filter, true));
}
