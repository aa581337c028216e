// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interrupt controllers of a VM as a whole: creation, state, end.
 */
#include <linux/slab.h>

#include "../keel.h"
#include "chips.h"
#include "lapic.h"

/* ---- creation, vm->lock held ---- */

static int plug_chips(struct keel_vm *vm, struct keel_pic *pic, struct keel_ioapic *ioapic)
{
	int err;

	mutex_lock(&vm->slots_lock);
	err = keel_pic_plug(vm, pic);
	if (!err) {
		err = keel_ioapic_plug(vm, ioapic);
		if (err)
			keel_pic_unplug(vm, pic);
	}
	mutex_unlock(&vm->slots_lock);
	return err;
}

static void unplug_chips(struct keel_vm *vm, struct keel_pic *pic, struct keel_ioapic *ioapic)
{
	mutex_lock(&vm->slots_lock);
	keel_pic_unplug(vm, pic);
	keel_ioapic_unplug(vm, ioapic);
	mutex_unlock(&vm->slots_lock);
}

/**
 * keel_irqchip_create() - KVM_CREATE_IRQCHIP: PIC, IOAPIC, and LAPICs to come
 * @vm: the VM
 *
 * Return: 0, -EEXIST, -EINVAL when there are vCPUs, -ENOMEM.
 */
int keel_irqchip_create(struct keel_vm *vm)
{
	struct keel_irq_routing *rt;
	struct keel_ioapic *ioapic;
	struct keel_pic *pic;
	int err = -ENOMEM;

	if (vm->irqchip != KEEL_IRQCHIP_NONE)
		return -EEXIST;
	if (vm->nr_vcpus)
		return -EINVAL;

	pic = keel_pic_alloc(vm);
	ioapic = keel_ioapic_alloc(vm);
	if (!pic || !ioapic)
		goto out_free;
	err = plug_chips(vm, pic, ioapic);
	if (err)
		goto out_free;

	rt = keel_routing_default();
	if (IS_ERR(rt)) {
		err = PTR_ERR(rt);
		goto out_unplug;
	}

	vm->pic = pic;
	vm->ioapic = ioapic;
	/* nothing fails any more: whoever sees the mode finds the chips */
	smp_store_release(&vm->irqchip, KEEL_IRQCHIP_KERNEL);
	keel_routing_replace(vm, rt);
	return 0;

out_unplug:
	unplug_chips(vm, pic, ioapic);
out_free:
	kfree(pic);
	kfree(ioapic);
	return err;
}

/**
 * keel_irqchip_create_split() - KVM_CAP_SPLIT_IRQCHIP: LAPICs only
 * @vm: the VM
 * @pins: GSIs below are those of userspace's IOAPIC, which wants EOIs
 *
 * Return: 0, -EINVAL (too many pins), -EEXIST when there are controllers or
 * vCPUs, -ENOMEM.
 */
int keel_irqchip_create_split(struct keel_vm *vm, u32 pins)
{
	struct keel_irq_routing *rt;

	if (pins > KEEL_MAX_GSI)
		return -EINVAL;
	if (vm->irqchip != KEEL_IRQCHIP_NONE || vm->nr_vcpus)
		return -EEXIST;
	rt = keel_routing_build(NULL, 0);
	if (IS_ERR(rt))
		return PTR_ERR(rt);
	vm->nr_userspace_ioapic_pins = min_t(u32, pins, U8_MAX);
	WRITE_ONCE(vm->irqchip, KEEL_IRQCHIP_SPLIT);
	keel_routing_replace(vm, rt);
	return 0;
}

/* ---- KVM_GET_IRQCHIP, KVM_SET_IRQCHIP ---- */

int keel_ioctl_get_irqchip(struct keel_vm *vm, struct kvm_irqchip *chip)
{
	/* pairs with keel_irqchip_create() */
	if (smp_load_acquire(&vm->irqchip) != KEEL_IRQCHIP_KERNEL)
		return -ENXIO;
	memset(&chip->chip, 0, sizeof(chip->chip));
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		keel_pic_get_state(vm->pic, chip->chip_id == KVM_IRQCHIP_PIC_SLAVE,
				   &chip->chip.pic);
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		keel_ioapic_get_state(vm->ioapic, &chip->chip.ioapic);
		return 0;
	default:
		return -EINVAL;
	}
}

int keel_ioctl_set_irqchip(struct keel_vm *vm, struct kvm_irqchip *chip)
{
	/* pairs with keel_irqchip_create() */
	if (smp_load_acquire(&vm->irqchip) != KEEL_IRQCHIP_KERNEL)
		return -ENXIO;
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		keel_pic_set_state(vm->pic, chip->chip_id == KVM_IRQCHIP_PIC_SLAVE,
				   &chip->chip.pic);
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		keel_ioapic_set_state(vm->ioapic, &chip->chip.ioapic);
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- the VM's life ---- */

int keel_irq_vm_init(struct keel_vm *vm)
{
	struct keel_irq *irq = kzalloc(sizeof(*irq), GFP_KERNEL_ACCOUNT);

	if (!irq)
		return -ENOMEM;
	mutex_init(&irq->map_lock);
	mutex_init(&irq->irqfd_lock);
	INIT_LIST_HEAD(&irq->apics);
	INIT_LIST_HEAD(&irq->resamplers);
	vm->irq = irq;
	return 0;
}

void keel_irq_vm_release(struct keel_vm *vm)
{
	keel_irqfd_release(vm);
}

/**
 * keel_irq_vm_destroy() - the end
 * @vm: the VM
 *
 * Context: the last reference is gone; vCPUs do not run but still exist, as
 * timers may be sending to them until this returns.
 */
void keel_irq_vm_destroy(struct keel_vm *vm)
{
	if (!vm->irq)
		return;
	keel_eventfd_destroy(vm);
	keel_pit_free(vm);
	keel_coalesced_destroy(vm);
	keel_bus_destroy(vm);
	keel_routing_destroy(vm);
	kfree(vm->pic);
	kfree(vm->ioapic);
	vm->pic = NULL;
	vm->ioapic = NULL;
	kvfree(rcu_dereference_protected(vm->irq->map, true));
	kfree(vm->irq);
	vm->irq = NULL;
}
