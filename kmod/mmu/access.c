// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest-physical memory by the kernel's own hand: through the VMM's mapping of
 * it, as any other user memory, so that protection, faults and swap are as
 * everywhere. A slot is used only under vm->srcu.
 */
#include <linux/mm.h>
#include <linux/uaccess.h>

#include "internal.h"

/*
 * The slot with @gpa, for which @len bytes lie in one page, and the address of
 * them. NULL when there is nothing, or nothing to write to.
 */
static struct keel_slot *slot_access(struct keel_vm *vm, gpa_t gpa, bool write,
				     void __user **at)
{
	struct keel_slot *slot;

	/* the VM's addresses mean nothing in another process */
	if (current->mm != vm->mm)
		return NULL;
	slot = keel_slot_find(vm, keel_gfn(gpa));
	if (!slot || (write && (slot->flags & KVM_MEM_READONLY)))
		return NULL;
	*at = (void __user *)(keel_slot_hva(slot, keel_gfn(gpa)) + offset_in_page(gpa));
	return slot;
}

static size_t in_page(gpa_t gpa, size_t len)
{
	return min_t(size_t, len, PAGE_SIZE - offset_in_page(gpa));
}

int keel_guest_read(struct keel_vm *vm, gpa_t gpa, void *buf, size_t len)
{
	void __user *at;
	size_t n;
	int idx, err = 0;

	idx = srcu_read_lock(&vm->srcu);
	for (; len && !err; gpa += n, buf += n, len -= n) {
		n = in_page(gpa, len);
		if (!slot_access(vm, gpa, false, &at) || copy_from_user(buf, at, n))
			err = -EFAULT;
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}

int keel_guest_write(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, size_t len)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_slot *slot;
	void __user *at;
	size_t n;
	int idx, err = 0;

	idx = srcu_read_lock(&vm->srcu);
	for (; len && !err; gpa += n, buf += n, len -= n) {
		n = in_page(gpa, len);
		slot = slot_access(vm, gpa, true, &at);
		if (!slot) {
			err = -EFAULT;
			continue;
		}
		if (copy_to_user(at, buf, n))
			err = -EFAULT;
		/* even then: a part of it may have been written */
		keel_mark_dirty(vcpu, slot, keel_gfn(gpa));
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}

int keel_guest_write_nofault(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, size_t len)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_slot *slot;
	void __user *at;
	int idx, err = -EFAULT;

	idx = srcu_read_lock(&vm->srcu);
	slot = slot_access(vm, gpa, true, &at);
	if (slot && !copy_to_user_nofault(at, buf, in_page(gpa, len))) {
		keel_mark_dirty(vcpu, slot, keel_gfn(gpa));
		err = 0;
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}

void __user *keel_guest_near(struct keel_vm *vm, struct keel_slot **hint, gpa_t gpa)
{
	struct keel_slot *slot = *hint;
	gfn_t gfn = keel_gfn(gpa);

	if (!slot || gfn - slot->gfn >= slot->npages) {
		/* the VM's addresses mean nothing in another process */
		slot = current->mm == vm->mm ? keel_slot_find(vm, gfn) : NULL;
		if (!slot)
			return NULL;
		*hint = slot;
	}
	return (void __user *)(keel_slot_hva(slot, gfn) + offset_in_page(gpa));
}

int keel_guest_read_near(struct keel_vm *vm, struct keel_slot **hint, gpa_t gpa,
			 void *buf, unsigned int len)
{
	void __user *at = keel_guest_near(vm, hint, gpa);

	return !at || copy_from_user(buf, at, len) ? -EFAULT : 0;
}

int keel_guest_read_entry(struct keel_vm *vm, struct keel_slot **hint, gpa_t gpa,
			  u64 *entry, int len)
{
	void __user *at = keel_guest_near(vm, hint, gpa);
	u32 low = 0;
	int err;

	if (!at)
		return -EFAULT;
	if (len == sizeof(u64))
		return get_user(*entry, (u64 __user *)at);
	err = get_user(low, (u32 __user *)at);
	*entry = low;
	return err;
}

/* Return: 0, 1 when memory had another value (then in *old), or -EFAULT. */
#define CMPXCHG_USER(type, at, old, new) ({				\
	u64 *__old = (old);						\
	type __expected = *__old;					\
	int __ret = __try_cmpxchg_user((type __user *)(at), &__expected, \
				       (type)(new), fault_##type);	\
	*__old = __expected;						\
	__ret;								\
})

static int cmpxchg_user(void __user *at, u64 *old, u64 new, int len)
{
	if (!access_ok(at, len))
		return -EFAULT;
	switch (len) {
	case 1:
		return CMPXCHG_USER(u8, at, old, new);
	case 2:
		return CMPXCHG_USER(u16, at, old, new);
	case 4:
		return CMPXCHG_USER(u32, at, old, new);
	default:
		return CMPXCHG_USER(u64, at, old, new);
	}
}

int keel_guest_cmpxchg(struct keel_vcpu *vcpu, gpa_t gpa, u64 *old, u64 new, int len)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_slot *slot;
	void __user *at;
	int idx, err = -EFAULT;

	if (len < 1 || len > 8 || !is_power_of_2(len) || (gpa & (len - 1)))
		return -EINVAL;

	idx = srcu_read_lock(&vm->srcu);
	slot = slot_access(vm, gpa, true, &at);
	if (slot) {
		err = cmpxchg_user(at, old, new, len);
		if (err > 0)
			err = -EAGAIN;
		else if (!err)
			keel_mark_dirty(vcpu, slot, keel_gfn(gpa));
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}

bool keel_guest_has_ram(struct keel_vm *vm, gfn_t gfn, bool write)
{
	const struct keel_slot *slot;
	bool ram;
	int idx;

	idx = srcu_read_lock(&vm->srcu);
	slot = keel_slot_find(vm, gfn);
	ram = slot && !(write && (slot->flags & KVM_MEM_READONLY));
	srcu_read_unlock(&vm->srcu, idx);
	return ram;
}
