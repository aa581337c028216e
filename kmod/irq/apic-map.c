// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which LAPICs a destination names. SDM vol. 3 "Interrupt Distribution
 * Mechanism" and "x2APIC Mode".
 */
#include <linux/bitmap.h>
#include <linux/kvm_para.h>
#include <linux/nospec.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "../keel.h"
#include "chips.h"
#include "lapic.h"

#define XAPIC_BROADCAST		0xffu
#define X2APIC_BROADCAST	0xffffffffu

static u32 xapic_id(const struct keel_lapic *l)
{
	return keel_lapic_reg(l, APIC_ID) >> 24;
}

static u32 logical_id(const struct keel_lapic *l)
{
	return GET_APIC_LOGICAL_ID(keel_lapic_reg(l, APIC_LDR));
}

static bool is_flat(const struct keel_lapic *l)
{
	return keel_lapic_reg(l, APIC_DFR) >> 28 == 0xf;
}

/* ---- building the map ---- */

/* The index under which an APIC answers to physical destinations. */
static u32 phys_id(const struct keel_lapic *l)
{
	/*
	 * An ID that does not fit in 8 bits is reachable in xAPIC mode too:
	 * the INIT that wakes such an AP has to find it.
	 */
	if (keel_lapic_x2(l) || l->vcpu->id > 0xff)
		return l->vcpu->id;
	return xapic_id(l);
}

static void map_logical(struct keel_apic_map *map, struct keel_lapic *l, bool first)
{
	enum keel_apic_logical mode;
	u32 id, cluster, bits;

	if (keel_lapic_x2(l))
		mode = KEEL_APIC_LOGICAL_X2APIC;
	else if (is_flat(l))
		mode = KEEL_APIC_LOGICAL_FLAT;
	else
		mode = KEEL_APIC_LOGICAL_CLUSTER;
	if (first)
		map->mode = mode;
	else if (map->mode != mode)
		map->mode = KEEL_APIC_LOGICAL_NONE;
	if (map->mode == KEEL_APIC_LOGICAL_NONE || mode == KEEL_APIC_LOGICAL_X2APIC)
		return;

	id = logical_id(l);
	cluster = mode == KEEL_APIC_LOGICAL_FLAT ? 0 : id >> 4;
	bits = mode == KEEL_APIC_LOGICAL_FLAT ? id : id & 0xf;
	if (!bits || cluster == 0xf)
		return;		/* answers to broadcasts only */
	/* one bit for one APIC, or the table does not say all */
	if ((bits & (bits - 1)) || map->logical[cluster][__ffs(bits)])
		map->mode = KEEL_APIC_LOGICAL_NONE;
	else
		map->logical[cluster][__ffs(bits)] = l;
}

static struct keel_apic_map *map_build(struct keel_irq *irq)
{
	struct keel_apic_map *map;
	struct keel_lapic *l;
	u32 max = 0xff, id;
	bool first = true;

	list_for_each_entry(l, &irq->apics, node)
		max = max(max, l->vcpu->id);
	max = round_up(max + 1, 16);
	map = kvzalloc(struct_size(map, phys, max), GFP_KERNEL_ACCOUNT);
	if (!map)
		return NULL;
	map->nr_phys = max;
	map->phys_unique = true;

	list_for_each_entry(l, &irq->apics, node) {
		if (!keel_lapic_hw_enabled(l))
			continue;
		id = phys_id(l);
		if (map->phys[id])
			map->phys_unique = false;
		map->phys[id] = l;
		map_logical(map, l, first);
		first = false;
	}
	return map;
}

/**
 * keel_apic_map_update() - an APIC came, went, or answers to something else
 * @vm: the VM
 *
 * Context: process, may sleep. When there is no memory for a new map, senders
 * search: slower, never wrong.
 */
void keel_apic_map_update(struct keel_vm *vm)
{
	struct keel_irq *irq = vm->irq;
	struct keel_apic_map *old, *new;

	mutex_lock(&irq->map_lock);
	new = map_build(irq);
	old = rcu_replace_pointer(irq->map, new, lockdep_is_held(&irq->map_lock));
	mutex_unlock(&irq->map_lock);
	if (old)
		kvfree_rcu(old, rcu);
}

/* ---- asking one APIC ---- */

static bool is_broadcast(const struct keel_lapic *l, const struct keel_apic_msg *msg)
{
	if (msg->dest == X2APIC_BROADCAST)
		return true;
	if (msg->dest != XAPIC_BROADCAST)
		return false;
	if (msg->ipi)
		return !msg->x2;
	/* KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK: 0xff is an ID like others */
	return !keel_lapic_x2(l) || !l->vcpu->vm->x2apic_no_broadcast_quirk;
}

static bool matches_logical(const struct keel_lapic *l, u32 dest)
{
	u32 id;

	if (keel_lapic_x2(l)) {
		id = keel_x2apic_ldr(l->vcpu->id);
		return (dest >> 16) == (id >> 16) && (dest & id & 0xffff);
	}
	id = logical_id(l);
	if (is_flat(l))
		return id & dest & 0xff;
	return ((dest ^ id) & 0xf0) == 0 && (id & dest & 0xf);
}

/**
 * keel_apic_matches() - is this APIC addressed?
 * @l: the APIC
 * @msg: the message
 *
 * Shorthands apart. Context: any.
 */
bool keel_apic_matches(struct keel_lapic *l, const struct keel_apic_msg *msg)
{
	if (!keel_lapic_hw_enabled(l))
		return false;
	if (is_broadcast(l, msg))
		return true;
	if (msg->logical)
		return matches_logical(l, msg->dest);
	return msg->dest == phys_id(l);
}

/* ---- finding the targets ---- */

struct targets {
	struct keel_lapic *const *base;
	unsigned long mask;	/* which of base[0..15] */
};

/* Return: false when the map cannot tell. */
static bool map_lookup(const struct keel_apic_map *map, const struct keel_apic_msg *msg,
		       struct targets *t)
{
	u32 dest = msg->dest, first;

	t->mask = 0;
	if (!map || dest == XAPIC_BROADCAST || dest == X2APIC_BROADCAST)
		return false;
	if (!map->phys_unique)
		return false;
	if (!msg->logical) {
		if (dest >= map->nr_phys)
			return true;
		t->base = &map->phys[array_index_nospec(dest, map->nr_phys)];
		t->mask = 1;
		return true;
	}

	switch (map->mode) {
	case KEEL_APIC_LOGICAL_FLAT:
		t->base = map->logical[0];
		t->mask = dest & 0xff;
		return true;
	case KEEL_APIC_LOGICAL_CLUSTER:
		first = dest >> 4 & 0xf;
		if (first >= ARRAY_SIZE(map->logical))
			return true;
		t->base = map->logical[array_index_nospec(first, ARRAY_SIZE(map->logical))];
		t->mask = dest & 0xf;
		return true;
	case KEEL_APIC_LOGICAL_X2APIC:
		first = (dest >> 16) * 16;
		if (first >= map->nr_phys)
			return true;
		t->base = &map->phys[array_index_nospec(first, map->nr_phys)];
		t->mask = dest & 0xffff;
		return true;
	default:
		return false;
	}
}

/* Lowest priority: among those that can take it, the lowest task priority. */
static struct keel_lapic *better(struct keel_lapic *best, struct keel_lapic *l)
{
	u32 a, b;

	if (!keel_lapic_sw_enabled(l))
		return best;
	if (!best)
		return l;
	a = keel_lapic_reg(best, APIC_TASKPRI) >> 4;
	b = keel_lapic_reg(l, APIC_TASKPRI) >> 4;
	if (a != b)
		return b < a ? l : best;
	/* the one that was chosen less often */
	return atomic_read(&l->arbitration) - atomic_read(&best->arbitration) < 0 ? l : best;
}

struct delivery {
	const struct keel_apic_msg *msg;
	struct keel_lapic *best;	/* lowest priority so far */
	bool found;
	int result;
};

static void deliver_one(struct delivery *d, struct keel_lapic *l)
{
	d->found = true;
	if (d->msg->lowest)
		d->best = better(d->best, l);
	else
		d->result += keel_lapic_accept(l, d->msg);
}

static bool in_shorthand(struct keel_lapic *l, struct keel_lapic *src,
			 const struct keel_apic_msg *msg)
{
	if (!keel_lapic_hw_enabled(l))
		return false;
	return msg->shorthand == APIC_DEST_ALLINC || l != src;
}

int keel_apic_send(struct keel_vm *vm, struct keel_lapic *src, const struct keel_apic_msg *msg)
{
	struct delivery d = { .msg = msg };
	struct keel_irq *irq = vm->irq;
	struct keel_lapic *l;
	struct targets t;
	int bit;

	if (msg->shorthand == APIC_DEST_SELF)
		return keel_lapic_accept(src, msg);

	rcu_read_lock();
	if (msg->shorthand) {
		list_for_each_entry_rcu(l, &irq->apics, node)
			if (in_shorthand(l, src, msg))
				deliver_one(&d, l);
	} else if (map_lookup(rcu_dereference(irq->map), msg, &t)) {
		for_each_set_bit(bit, &t.mask, 16)
			if (t.base[bit])
				deliver_one(&d, t.base[bit]);
	} else {
		list_for_each_entry_rcu(l, &irq->apics, node)
			if (keel_apic_matches(l, msg))
				deliver_one(&d, l);
	}
	if (d.best) {
		atomic_inc(&d.best->arbitration);
		d.result = keel_lapic_accept(d.best, msg);
	}
	rcu_read_unlock();
	return d.found ? d.result : -1;
}

/* ---- for hypercalls ---- */

/* Under RCU. */
static struct keel_lapic *find_phys(struct keel_irq *irq, u32 id)
{
	const struct keel_apic_map *map = rcu_dereference(irq->map);
	struct keel_lapic *l;

	if (map && map->phys_unique)
		return id < map->nr_phys ? map->phys[array_index_nospec(id, map->nr_phys)] : NULL;
	list_for_each_entry_rcu(l, &irq->apics, node)
		if (keel_lapic_hw_enabled(l) && phys_id(l) == id)
			return l;
	return NULL;
}

struct keel_vcpu *keel_apic_vcpu(struct keel_vm *vm, u32 apic_id)
{
	struct keel_lapic *l;

	rcu_read_lock();
	l = find_phys(vm->irq, apic_id);
	rcu_read_unlock();
	return l ? l->vcpu : NULL;
}

/* Return: 1 also when the interrupt was pending there already. */
static int deliver_pv(struct keel_lapic *l, const struct keel_apic_msg *msg)
{
	int delivered = keel_lapic_accept(l, msg);

	if (msg->mode == APIC_DM_FIXED || msg->mode == APIC_DM_LOWEST)
		return keel_lapic_sw_enabled(l);
	return delivered;
}

/**
 * keel_pv_send_ipi() - KVM_HC_SEND_IPI: an interrupt for many CPUs at once
 * @vm: the VM
 * @arg: two bitmaps of destinations, the lowest APIC ID in them, and what
 *	would be written to ICR's lower half, but for destination and shorthand
 * @width: bits in each bitmap
 *
 * Context: any.
 * Return: how many APICs have taken it, or -KVM_EINVAL, -KVM_EOPNOTSUPP.
 */
long keel_pv_send_ipi(struct keel_vm *vm, const u64 arg[4], int width)
{
	DECLARE_BITMAP(dest, 128);
	u32 first = arg[2], icr = arg[3];
	struct keel_apic_msg msg = {
		.mode = icr & APIC_MODE_MASK,
		.vector = icr & APIC_VECTOR_MASK,
		.ipi = true,
	};
	struct keel_lapic *l;
	unsigned int bit;
	long count = 0;

	if (vm->irqchip == KEEL_IRQCHIP_NONE)
		return -KVM_EOPNOTSUPP;
	if (icr & (APIC_DEST_LOGICAL | APIC_DEST_ALLBUT))
		return -KVM_EINVAL;
	if (msg.mode == APIC_DM_INIT && (icr & APIC_INT_LEVELTRIG) && !(icr & APIC_INT_ASSERT))
		return 0;
	bitmap_from_u64(dest, arg[0]);
	bitmap_from_u64(dest + BITS_TO_LONGS(64), arg[1]);

	rcu_read_lock();
	for_each_set_bit(bit, dest, 128) {
		u64 id = (u64)first + (bit < 64 ? bit : bit - 64 + width);

		l = id <= U32_MAX ? find_phys(vm->irq, id) : NULL;
		if (l)
			count += deliver_pv(l, &msg);
	}
	rcu_read_unlock();
	return count;
}
