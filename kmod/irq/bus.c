// SPDX-License-Identifier: GPL-2.0-only
/*
 * Port and memory space as the chips and ioeventfds share them.
 *
 * A bus is a sorted array, replaced as a whole under slots_lock and read under
 * vm->srcu. To add a device waits for nobody; to remove one waits until
 * nobody uses it any more.
 */
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "../keel.h"
#include "chips.h"

/* @len 0: an access of any length, at @addr */
struct keel_bus_range {
	gpa_t addr;
	u32 len;
	struct keel_bus_dev *dev;
};

struct keel_bus {
	struct rcu_head rcu;
	int nr;
	u32 max_len;
	struct keel_bus_range range[];	/* by addr */
};

/* ---- writers, under slots_lock ---- */

static void bus_free(struct rcu_head *rcu)
{
	kvfree(container_of(rcu, struct keel_bus, rcu));
}

static struct keel_bus *bus_alloc(int nr)
{
	struct keel_bus *bus;

	bus = kvzalloc(struct_size(bus, range, nr), GFP_KERNEL_ACCOUNT);
	if (bus)
		bus->nr = nr;
	return bus;
}

static struct keel_bus *bus_get(struct keel_vm *vm, int id)
{
	return rcu_dereference_protected(vm->bus[id], lockdep_is_held(&vm->slots_lock));
}

/* The first range that begins behind @addr. */
static int upper_bound(const struct keel_bus *bus, gpa_t addr)
{
	int low = 0, high = bus->nr, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (bus->range[mid].addr <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int keel_bus_add(struct keel_vm *vm, int id, gpa_t addr, u32 len, struct keel_bus_dev *dev)
{
	struct keel_bus *old = bus_get(vm, id), *new;
	int nr = old ? old->nr : 0, at = 0;

	new = bus_alloc(nr + 1);
	if (!new)
		return -ENOMEM;
	if (old) {
		at = upper_bound(old, addr);
		memcpy(new->range, old->range, at * sizeof(new->range[0]));
		memcpy(new->range + at + 1, old->range + at,
		       (nr - at) * sizeof(new->range[0]));
		new->max_len = old->max_len;
	}
	new->range[at] = (struct keel_bus_range) { addr, len, dev };
	new->max_len = max(new->max_len, len);
	rcu_assign_pointer(vm->bus[id], new);
	if (old)
		call_srcu(&vm->srcu, &old->rcu, bus_free);
	return 0;
}

void keel_bus_remove(struct keel_vm *vm, int id, struct keel_bus_dev *dev)
{
	struct keel_bus *old = bus_get(vm, id), *new;
	int at;

	for (at = 0; old && at < old->nr; at++)
		if (old->range[at].dev == dev)
			break;
	if (!old || at == old->nr)
		return;
	new = bus_alloc(old->nr - 1);
	if (new) {
		memcpy(new->range, old->range, at * sizeof(new->range[0]));
		memcpy(new->range + at, old->range + at + 1,
		       (old->nr - at - 1) * sizeof(new->range[0]));
		new->max_len = old->max_len;
	}
	/*
	 * Without memory all devices of the bus go: the VM is of no use then,
	 * but nobody reads what the caller is about to free.
	 */
	if (!new)
		keel_vm_kill(vm, "no memory to take a device from a bus");
	rcu_assign_pointer(vm->bus[id], new);
	synchronize_srcu_expedited(&vm->srcu);
	kvfree(old);
}

void keel_bus_destroy(struct keel_vm *vm)
{
	int id;

	for (id = 0; id < KEEL_NR_BUSES; id++) {
		kvfree(rcu_dereference_protected(vm->bus[id], true));
		RCU_INIT_POINTER(vm->bus[id], NULL);
	}
	/* the callbacks of keel_bus_add() are ours */
	srcu_barrier(&vm->srcu);
}

/* ---- readers ---- */

/* upper_bound(), which most often is what it was for this vCPU the last time. */
static int vcpu_upper_bound(struct keel_vcpu *vcpu, const struct keel_bus *bus, int id,
			    gpa_t addr)
{
	int at = vcpu->bus_at[id];

	if (at > bus->nr || (at && bus->range[at - 1].addr > addr) ||
	    (at < bus->nr && bus->range[at].addr <= addr)) {
		at = upper_bound(bus, addr);
		vcpu->bus_at[id] = at;
	}
	return at;
}

/* @write or @read, the other is NULL. */
static int bus_access(struct keel_vcpu *vcpu, int id, gpa_t addr, int len,
		      const void *write, void *read)
{
	const struct keel_bus_range *r;
	const struct keel_bus *bus;
	int i, ret = -EOPNOTSUPP;

	bus = srcu_dereference(vcpu->vm->bus[id], &vcpu->vm->srcu);
	if (!bus)
		return ret;
	for (i = vcpu_upper_bound(vcpu, bus, id, addr) - 1; i >= 0 && ret == -EOPNOTSUPP; i--) {
		r = &bus->range[i];
		if (addr - r->addr > bus->max_len)
			break;
		if (r->len ? addr - r->addr + len > r->len : addr != r->addr)
			continue;
		if (read)
			ret = r->dev->ops->read ?
			      r->dev->ops->read(r->dev, addr, len, read) : ret;
		else
			ret = r->dev->ops->write(r->dev, addr, len, write);
	}
	return ret;
}

int keel_pio_read(struct keel_vcpu *vcpu, u16 port, int len, void *data)
{
	struct keel_vm *vm = vcpu->vm;
	int idx = srcu_read_lock(&vm->srcu);
	int ret = bus_access(vcpu, KEEL_BUS_PIO, port, len, NULL, data);

	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

int keel_pio_write(struct keel_vcpu *vcpu, u16 port, int len, const void *data)
{
	struct keel_vm *vm = vcpu->vm;
	int idx = srcu_read_lock(&vm->srcu);
	int ret = bus_access(vcpu, KEEL_BUS_PIO, port, len, data, NULL);

	if (ret && keel_coalesced_write(vm, true, port, len, data))
		ret = 0;
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

int keel_mmio_read(struct keel_vcpu *vcpu, gpa_t gpa, int len, void *data)
{
	struct keel_vm *vm = vcpu->vm;
	int idx, ret;

	if (keel_lapic_mmio(vcpu, gpa, len, data, false))
		return 0;
	idx = srcu_read_lock(&vm->srcu);
	ret = bus_access(vcpu, KEEL_BUS_MMIO, gpa, len, NULL, data);
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

int keel_mmio_write(struct keel_vcpu *vcpu, gpa_t gpa, int len, const void *data)
{
	struct keel_vm *vm = vcpu->vm;
	int idx, ret;

	if (keel_lapic_mmio(vcpu, gpa, len, (void *)data, true))
		return 0;
	idx = srcu_read_lock(&vm->srcu);
	ret = bus_access(vcpu, KEEL_BUS_MMIO, gpa, len, data, NULL);
	if (ret && keel_coalesced_write(vm, false, gpa, len, data))
		ret = 0;
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}
