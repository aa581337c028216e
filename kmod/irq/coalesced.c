// SPDX-License-Identifier: GPL-2.0-only
/*
 * Coalesced I/O: writes that userspace wants to see in order, but not at
 * once. They go into a ring in a page that it has mapped.
 */
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "../keel.h"
#include "chips.h"

#define MAX_ZONES	1000

struct coalesced_zone {
	struct list_head node;		/* vm->coalesced_zones */
	gpa_t addr;
	u32 size;
	bool pio;
};

static bool contains(const struct coalesced_zone *z, bool pio, gpa_t addr, u32 len)
{
	return z->pio == pio && addr >= z->addr && addr - z->addr <= z->size &&
	       len <= z->size - (addr - z->addr);
}

static bool ring_put(struct keel_vm *vm, bool pio, gpa_t addr, int len, const void *data)
{
	struct kvm_coalesced_mmio_ring *ring = vm->coalesced_ring;
	struct kvm_coalesced_mmio *entry;
	bool done = false;
	u32 last, next;

	spin_lock(&vm->ring_lock);
	/* the page is userspace's to scribble on: read once, check, then use */
	last = READ_ONCE(ring->last);
	if (last >= KVM_COALESCED_MMIO_MAX)
		goto out;
	last = array_index_nospec(last, KVM_COALESCED_MMIO_MAX);
	next = (last + 1) % KVM_COALESCED_MMIO_MAX;
	if (next == READ_ONCE(ring->first))
		goto out;	/* full: an ordinary exit, which empties it */
	entry = &ring->coalesced_mmio[last];
	entry->phys_addr = addr;
	entry->len = len;
	entry->pio = pio;
	memset(entry->data, 0, sizeof(entry->data));
	memcpy(entry->data, data, len);
	/* the entry before the index that shows it */
	smp_store_release(&ring->last, next);
	done = true;
out:
	spin_unlock(&vm->ring_lock);
	return done;
}

/**
 * keel_coalesced_write() - may this write wait?
 * @vm: the VM
 * @pio: port or memory
 * @addr: where
 * @len: its length
 * @data: what is read or written
 *
 * Context: process, under vm->srcu.
 * Return: true when it is in the ring.
 */
bool keel_coalesced_write(struct keel_vm *vm, bool pio, gpa_t addr, int len, const void *data)
{
	const struct coalesced_zone *z;

	if (len > sizeof_field(struct kvm_coalesced_mmio, data))
		return false;
	list_for_each_entry_srcu(z, &vm->coalesced_zones, node, srcu_read_lock_held(&vm->srcu))
		if (contains(z, pio, addr, len))
			return ring_put(vm, pio, addr, len, data);
	return false;
}

int keel_ioctl_register_coalesced(struct keel_vm *vm, const struct kvm_coalesced_mmio_zone *z)
{
	struct coalesced_zone *zone, *other;
	int nr = 0;

	if (z->pio > 1)
		return -EINVAL;
	zone = kzalloc(sizeof(*zone), GFP_KERNEL_ACCOUNT);
	if (!zone)
		return -ENOMEM;
	zone->addr = z->addr;
	zone->size = z->size;
	zone->pio = z->pio;

	mutex_lock(&vm->slots_lock);
	list_for_each_entry(other, &vm->coalesced_zones, node)
		nr++;
	if (nr < MAX_ZONES)
		list_add_tail_rcu(&zone->node, &vm->coalesced_zones);
	mutex_unlock(&vm->slots_lock);
	if (nr < MAX_ZONES)
		return 0;
	kfree(zone);
	return -ENOSPC;
}

/* Drops every zone that has this range in it. None is no error, as with KVM. */
int keel_ioctl_unregister_coalesced(struct keel_vm *vm, const struct kvm_coalesced_mmio_zone *z)
{
	struct coalesced_zone *zone, *next;
	LIST_HEAD(gone);

	if (z->pio > 1)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	list_for_each_entry_safe(zone, next, &vm->coalesced_zones, node) {
		if (!contains(zone, z->pio, z->addr, z->size))
			continue;
		list_del_rcu(&zone->node);
		synchronize_srcu_expedited(&vm->srcu);
		list_add(&zone->node, &gone);
	}
	mutex_unlock(&vm->slots_lock);
	list_for_each_entry_safe(zone, next, &gone, node)
		kfree(zone);
	return 0;
}

void keel_coalesced_destroy(struct keel_vm *vm)
{
	struct coalesced_zone *zone, *next;

	list_for_each_entry_safe(zone, next, &vm->coalesced_zones, node)
		kfree(zone);
	INIT_LIST_HEAD(&vm->coalesced_zones);
}
