// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a GSI leads: to pins of chips, or to a message. And back: who wants
 * to hear that the guest has ended an interrupt.
 */
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>

#include "../keel.h"
#include "../trace.h"
#include "chips.h"
#include "lapic.h"

#define MSI_ADDR_LOGICAL	BIT(2)
#define MSI_ADDR_REDIRECT	BIT(3)

/* ---- building a table ---- */

static int check_irqchip(struct keel_vm *vm, const struct kvm_irq_routing_entry *e)
{
	if (e->flags || vm->irqchip != KEEL_IRQCHIP_KERNEL)
		return -EINVAL;
	switch (e->u.irqchip.irqchip) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		return e->u.irqchip.pin < 8 ? 0 : -EINVAL;
	case KVM_IRQCHIP_IOAPIC:
		return e->u.irqchip.pin < KVM_IOAPIC_NUM_PINS ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int check_entry(struct keel_vm *vm, const struct kvm_irq_routing_entry *e)
{
	if (e->gsi >= KEEL_MAX_GSI)
		return -EINVAL;
	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		return check_irqchip(vm, e);
	case KVM_IRQ_ROUTING_MSI:
		/* the device ID means nothing on x86, and KVM lets it pass */
		if (e->flags & ~KVM_MSI_VALID_DEVID)
			return -EINVAL;
		if (vm->x2apic_32bit_ids && (e->u.msi.address_hi & 0xff))
			return -EINVAL;
		return 0;
	default:
		return -EINVAL;
	}
}

static void fill_route(struct keel_route *r, const struct kvm_irq_routing_entry *e)
{
	r->type = e->type;
	if (e->type == KVM_IRQ_ROUTING_IRQCHIP) {
		r->irqchip.chip = array_index_nospec(e->u.irqchip.irqchip, KVM_NR_IRQCHIPS);
		r->irqchip.pin = array_index_nospec(e->u.irqchip.pin, KVM_IOAPIC_NUM_PINS);
	} else {
		r->msi.lo = e->u.msi.address_lo;
		r->msi.hi = e->u.msi.address_hi;
		r->msi.data = e->u.msi.data;
	}
}

/* A GSI leads to one pin of each chip at most, or to one message. */
static bool conflicts(const struct keel_route *a, const struct keel_route *b)
{
	return a->type != KVM_IRQ_ROUTING_IRQCHIP || b->type != KVM_IRQ_ROUTING_IRQCHIP ||
	       a->irqchip.chip == b->irqchip.chip;
}

static int place_routes(struct keel_irq_routing *rt,
			const struct kvm_irq_routing_entry *entries, u32 nr, u16 *fill)
{
	struct keel_route *r, *other;
	u32 i;

	for (i = 0; i < nr; i++) {
		u32 gsi = entries[i].gsi;

		r = &rt->route[fill[gsi]];
		fill_route(r, &entries[i]);
		/* three chips: no more than two others before one conflicts */
		for (other = &rt->route[rt->first[gsi]]; other < r; other++)
			if (conflicts(other, r))
				return -EINVAL;
		fill[gsi]++;
		if (r->type == KVM_IRQ_ROUTING_IRQCHIP)
			rt->pin_gsi[r->irqchip.chip][r->irqchip.pin] = gsi;
	}
	return 0;
}

/**
 * keel_routing_build() - make a table of entries
 * @entries: each of them valid
 * @nr: at most KEEL_MAX_GSI
 *
 * Return: the table, or an ERR_PTR: -EINVAL (they conflict), -ENOMEM.
 */
struct keel_irq_routing *keel_routing_build(const struct kvm_irq_routing_entry *entries,
					    u32 nr)
{
	struct keel_irq_routing *rt;
	u32 i, gsis = 0;
	size_t size;
	u16 *fill;
	int err;

	for (i = 0; i < nr; i++)
		gsis = max(gsis, entries[i].gsi + 1);
	size = struct_size(rt, route, nr);
	rt = kvzalloc(size + (gsis + 1) * sizeof(u16), GFP_KERNEL_ACCOUNT);
	fill = kvcalloc(gsis + 1, sizeof(u16), GFP_KERNEL);
	if (!rt || !fill) {
		err = -ENOMEM;
		goto out;
	}
	memset(rt->pin_gsi, 0xff, sizeof(rt->pin_gsi));
	rt->nr_gsis = gsis;
	rt->first = (void *)rt + size;
	for (i = 0; i < nr; i++)
		rt->first[entries[i].gsi + 1]++;
	for (i = 0; i < gsis; i++)
		rt->first[i + 1] += rt->first[i];
	memcpy(fill, rt->first, (gsis + 1) * sizeof(u16));
	err = place_routes(rt, entries, nr, fill);
out:
	kvfree(fill);
	if (!err)
		return rt;
	kvfree(rt);
	return ERR_PTR(err);
}

/**
 * keel_routing_parse() - check entries and make a table of them
 * @vm: the VM, whose controllers exist
 * @entries: as userspace gave them
 * @nr: at most KEEL_MAX_GSI
 *
 * Return: the table, or an ERR_PTR: -EINVAL, -ENOMEM.
 */
struct keel_irq_routing *keel_routing_parse(struct keel_vm *vm,
					    const struct kvm_irq_routing_entry *entries,
					    u32 nr)
{
	u32 i;
	int err;

	for (i = 0; i < nr; i++) {
		err = check_entry(vm, &entries[i]);
		if (err)
			return ERR_PTR(err);
	}
	return keel_routing_build(entries, nr);
}

/* ---- putting it in place ---- */

static void routing_free(struct rcu_head *rcu)
{
	kvfree(container_of(rcu, struct keel_irq_routing, rcu));
}

/* Is a level-triggered @vector still in some LAPIC, waiting for its EOI? */
static bool eoi_due(struct keel_irq *irq, u8 vector)
{
	struct keel_lapic *l;
	bool due = false;

	rcu_read_lock();
	list_for_each_entry_rcu(l, &irq->apics, node)
		due |= test_bit(vector, l->tmr) &&
		       (test_bit(vector, l->isr) ||
			test_bit(vector, l->irr));
	rcu_read_unlock();
	return due;
}

/*
 * In split mode the EOI of what userspace's IOAPIC sent as level-triggered
 * has to go there: also of what it sent by the routes of before. Hence twice for
 * a new table: @adding before it is used, and then without those of the old one
 * whose EOI is not due.
 */
static void update_split_eoi(struct keel_vm *vm, const struct keel_irq_routing *rt,
			     bool adding)
{
	u32 nr = min_t(u32, rt->nr_gsis, vm->nr_userspace_ioapic_pins);
	const struct keel_route *r;
	DECLARE_BITMAP(vectors, 256);
	int vector, i;

	bitmap_zero(vectors, 256);
	for (r = rt->route; r < rt->route + rt->first[nr]; r++)
		if (r->type == KVM_IRQ_ROUTING_MSI && (r->msi.data & APIC_INT_LEVELTRIG))
			__set_bit(r->msi.data & APIC_VECTOR_MASK, vectors);
	for_each_set_bit(vector, vm->irq->split_eoi, 256)
		if (!test_bit(vector, vectors) && (adding || eoi_due(vm->irq, vector)))
			__set_bit(vector, vectors);
	for (i = 0; i < ARRAY_SIZE(vm->irq->split_eoi); i++)
		WRITE_ONCE(vm->irq->split_eoi[i], vectors[i]);
}

/* Context: process. Does not wait for the readers of the old table. */
void keel_routing_replace(struct keel_vm *vm, struct keel_irq_routing *routing)
{
	struct keel_irq_routing *old;

	mutex_lock(&vm->irq_lock);
	if (vm->irqchip == KEEL_IRQCHIP_SPLIT)
		update_split_eoi(vm, routing, true);
	old = rcu_replace_pointer(vm->routing, routing, lockdep_is_held(&vm->irq_lock));
	if (vm->irqchip == KEEL_IRQCHIP_SPLIT)
		update_split_eoi(vm, routing, false);
	mutex_unlock(&vm->irq_lock);
	if (old)
		call_srcu(&vm->irq_srcu, &old->rcu, routing_free);
}

/**
 * keel_routing_default() - the routes of a PC
 *
 * 0 to 15 to both kinds of chip, the rest to the IOAPIC.
 *
 * Return: a table for keel_routing_replace(), or an error.
 */
struct keel_irq_routing *keel_routing_default(void)
{
	struct kvm_irq_routing_entry *e;
	struct keel_irq_routing *rt;
	int gsi, nr = 0;

	e = kcalloc(KVM_IOAPIC_NUM_PINS + 16, sizeof(*e), GFP_KERNEL);
	if (!e)
		return ERR_PTR(-ENOMEM);
	for (gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
		e[nr].gsi = gsi;
		e[nr].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[nr].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e[nr++].u.irqchip.pin = gsi;
		if (gsi >= 16)
			continue;
		e[nr].gsi = gsi;
		e[nr].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[nr].u.irqchip.irqchip = gsi / 8;
		e[nr++].u.irqchip.pin = gsi % 8;
	}
	rt = keel_routing_build(e, nr);
	kfree(e);
	return rt;
}

void keel_routing_destroy(struct keel_vm *vm)
{
	struct keel_irq_routing *rt = rcu_dereference_protected(vm->routing, true);

	RCU_INIT_POINTER(vm->routing, NULL);
	/* those that keel_routing_replace() gave away: their callback is ours */
	srcu_barrier(&vm->irq_srcu);
	kvfree(rt);
}

/**
 * keel_ioctl_set_gsi_routing() - KVM_SET_GSI_ROUTING: replace the whole table
 * @vm: the VM
 * @u: userspace's argument
 *
 * Return: 0, -EINVAL (a bad entry, too many, no LAPICs in the kernel),
 * -EFAULT, -ENOMEM.
 */
long keel_ioctl_set_gsi_routing(struct keel_vm *vm, struct kvm_irq_routing __user *u)
{
	struct kvm_irq_routing_entry *entries = NULL;
	struct keel_irq_routing *rt;
	struct kvm_irq_routing head;

	if (copy_from_user(&head, u, sizeof(head)))
		return -EFAULT;
	if (READ_ONCE(vm->irqchip) == KEEL_IRQCHIP_NONE)
		return -EINVAL;
	if (head.nr > KEEL_MAX_GSI || head.flags)
		return -EINVAL;
	if (head.nr) {
		entries = vmemdup_user(u->entries, array_size(head.nr, sizeof(*entries)));
		if (IS_ERR(entries))
			return PTR_ERR(entries);
	}
	rt = keel_routing_parse(vm, entries, head.nr);
	kvfree(entries);
	if (IS_ERR(rt))
		return PTR_ERR(rt);
	keel_routing_replace(vm, rt);
	return 0;
}

/* ---- driving a GSI ---- */

/**
 * keel_msi_decode() - what a write to the MSI range means
 * @vm: the VM
 * @lo: address, low half
 * @hi: address, high half
 * @data: the data
 * @msg: the result
 *
 * SDM vol. 3 "Message Signalled Interrupts".
 *
 * Return: 0, or -EINVAL for what 32-bit IDs (KVM_X2APIC_API) forbid.
 */
int keel_msi_decode(struct keel_vm *vm, u32 lo, u32 hi, u32 data, struct keel_apic_msg *msg)
{
	if (vm->x2apic_32bit_ids && (hi & 0xff))
		return -EINVAL;
	*msg = (struct keel_apic_msg) {
		.dest = lo >> 12 & 0xff,
		.mode = data & APIC_DM_FIXED_MASK,
		.vector = data & APIC_VECTOR_MASK,
		.logical = lo & MSI_ADDR_LOGICAL,
		.level = data & APIC_INT_LEVELTRIG,
		.lowest = (data & APIC_DM_FIXED_MASK) == APIC_DM_LOWEST ||
			  ((data & APIC_DM_FIXED_MASK) == APIC_DM_FIXED &&
			   (lo & MSI_ADDR_REDIRECT) && (lo & MSI_ADDR_LOGICAL)),
	};
	if (vm->x2apic_32bit_ids)
		msg->dest |= hi & 0xffffff00;
	return 0;
}

static int send_msi(struct keel_vm *vm, u32 lo, u32 hi, u32 data)
{
	struct keel_apic_msg msg;

	if (keel_msi_decode(vm, lo, hi, data, &msg))
		return -1;
	return keel_apic_send(vm, NULL, &msg);
}

static int drive_route(struct keel_vm *vm, const struct keel_route *r, int source, int level)
{
	if (r->type == KVM_IRQ_ROUTING_MSI)
		return level ? send_msi(vm, r->msi.lo, r->msi.hi, r->msi.data) : -1;
	if (r->irqchip.chip == KVM_IRQCHIP_IOAPIC)
		return keel_ioapic_set_irq(vm->ioapic, r->irqchip.pin, source, level);
	return keel_pic_set_irq(vm->pic, r->irqchip.chip * 8 + r->irqchip.pin, source, level);
}

/**
 * keel_set_irq() - drive a GSI: every route it has
 * @vm: the VM
 * @source: KEEL_IRQ_SOURCE_: a line is high as long as one source holds it so
 * @gsi: which GSI
 * @level: high or low
 *
 * Context: any but NMI, interrupts on or off.
 * Return: >0 delivered, 0 coalesced, <0 masked or no route.
 */
int keel_set_irq(struct keel_vm *vm, int source, u32 gsi, int level)
{
	const struct keel_irq_routing *rt;
	int idx, r, ret = -1;
	u32 i;

	trace_keel_set_irq(vm, gsi, level, source);
	idx = srcu_read_lock(&vm->irq_srcu);
	rt = srcu_dereference(vm->routing, &vm->irq_srcu);
	if (!rt || gsi >= rt->nr_gsis)
		goto out;
	gsi = array_index_nospec(gsi, rt->nr_gsis);
	for (i = rt->first[gsi]; i < rt->first[gsi + 1]; i++) {
		r = drive_route(vm, &rt->route[i], source, level);
		if (r >= 0)
			ret = r + max(ret, 0);
	}
out:
	srcu_read_unlock(&vm->irq_srcu, idx);
	return ret;
}

/* KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS */
int keel_ioctl_irq_line(struct keel_vm *vm, struct kvm_irq_level *level)
{
	if (READ_ONCE(vm->irqchip) == KEEL_IRQCHIP_NONE)
		return -ENXIO;
	level->status = keel_set_irq(vm, KEEL_IRQ_SOURCE_USERSPACE, level->irq, level->level);
	return 0;
}

/* KVM_SIGNAL_MSI. Return: as keel_set_irq(), so nobody there is -EPERM, as KVM's. */
int keel_ioctl_signal_msi(struct keel_vm *vm, const struct kvm_msi *msi)
{
	if (READ_ONCE(vm->irqchip) == KEEL_IRQCHIP_NONE || msi->flags)
		return -EINVAL;
	return send_msi(vm, msi->address_lo, msi->address_hi, msi->data);
}

/* ---- the way back ---- */

void keel_ack_notifier_add(struct keel_vm *vm, struct keel_ack_notifier *n)
{
	mutex_lock(&vm->irq_lock);
	hlist_add_head_rcu(&n->link, &vm->irq_ack_notifiers);
	mutex_unlock(&vm->irq_lock);
}

/* On return @n is not called any more. */
void keel_ack_notifier_remove(struct keel_vm *vm, struct keel_ack_notifier *n)
{
	mutex_lock(&vm->irq_lock);
	hlist_del_init_rcu(&n->link);
	mutex_unlock(&vm->irq_lock);
	synchronize_srcu_expedited(&vm->irq_srcu);
}

/* Under irq_srcu. */
static int pin_gsi(struct keel_vm *vm, u32 chip, u32 pin)
{
	const struct keel_irq_routing *rt = srcu_dereference(vm->routing, &vm->irq_srcu);

	return rt ? rt->pin_gsi[chip][pin] : -1;
}

void keel_irq_acked(struct keel_vm *vm, u32 chip, u32 pin)
{
	struct keel_ack_notifier *n;
	int idx, gsi;

	if (hlist_empty(&vm->irq_ack_notifiers))
		return;
	idx = srcu_read_lock(&vm->irq_srcu);
	gsi = pin_gsi(vm, chip, pin);
	if (gsi >= 0)
		hlist_for_each_entry_srcu(n, &vm->irq_ack_notifiers, link,
					  srcu_read_lock_held(&vm->irq_srcu))
			if (n->gsi == gsi)
				n->acked(n);
	srcu_read_unlock(&vm->irq_srcu, idx);
}

void keel_irq_unmasked(struct keel_vm *vm, u32 chip, u32 pin)
{
	struct keel_pit *pit = READ_ONCE(vm->pit);
	int idx, gsi;

	if (!pit)
		return;
	idx = srcu_read_lock(&vm->irq_srcu);
	gsi = pin_gsi(vm, chip, pin);
	srcu_read_unlock(&vm->irq_srcu, idx);
	if (gsi == 0)
		keel_pit_unmasked(pit);
}
