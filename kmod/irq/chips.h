/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The chips of a VM that are not part of a vCPU, and what connects them:
 * routing, notification of EOIs, the buses.
 */
#ifndef KEEL_CHIPS_H
#define KEEL_CHIPS_H

#include <linux/hrtimer.h>
#include <linux/kvm.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "irq.h"

struct keel_apic_map;
struct keel_apic_msg;
struct keel_lapic;
struct workqueue_struct;

/**
 * struct keel_irq - what the chips of one VM share
 */
struct keel_irq {
	struct mutex map_lock;			/* innermost: writers of apics and map */
	struct list_head apics;			/* map_lock; read under RCU */
	struct keel_apic_map __rcu *map;	/* map_lock; NULL: look at all apics */
	/* split mode: vectors of level-triggered routes of the IOAPIC's GSIs */
	unsigned long split_eoi[256 / BITS_PER_LONG];	/* irq_lock; bits read by any */
	struct mutex irqfd_lock;		/* outside irq_lock: irqfds come and go */
	struct list_head resamplers;		/* irqfd_lock */
	struct workqueue_struct *irqfd_wq;	/* irqfd_lock; made for the first irqfd */
};

/* ---- bus.c ---- */

struct keel_bus_dev;

/* 0: done. -EOPNOTSUPP: not mine after all. */
struct keel_bus_ops {
	int (*read)(struct keel_bus_dev *dev, gpa_t addr, int len, void *data);
	int (*write)(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data);
};

struct keel_bus_dev {
	const struct keel_bus_ops *ops;
};

/* Both with slots_lock held. A removed device is not used any more on return. */
int keel_bus_add(struct keel_vm *vm, int bus, gpa_t addr, u32 len, struct keel_bus_dev *dev);
void keel_bus_remove(struct keel_vm *vm, int bus, struct keel_bus_dev *dev);
void keel_bus_destroy(struct keel_vm *vm);

/* ---- coalesced.c ---- */
bool keel_coalesced_write(struct keel_vm *vm, bool pio, gpa_t addr, int len, const void *data);
void keel_coalesced_destroy(struct keel_vm *vm);

/* ---- routing.c ---- */

struct keel_route {
	u32 type;		/* KVM_IRQ_ROUTING_IRQCHIP or _MSI */
	union {
		struct {
			u32 chip, pin;
		} irqchip;
		struct {
			u32 lo, hi, data;
		} msi;
	};
};

/**
 * struct keel_irq_routing - where each GSI leads; immutable
 * @pin_gsi: the way back, -1 where no GSI leads to a pin
 * @first: routes of GSI g are route[first[g]] up to route[first[g + 1] - 1]
 */
struct keel_irq_routing {
	struct rcu_head rcu;
	s16 pin_gsi[KVM_NR_IRQCHIPS][KVM_IOAPIC_NUM_PINS];
	u16 nr_gsis;
	u16 *first;
	struct keel_route route[];
};

struct keel_irq_routing *keel_routing_build(const struct kvm_irq_routing_entry *entries,
					    u32 nr);
void keel_routing_replace(struct keel_vm *vm, struct keel_irq_routing *routing);
struct keel_irq_routing *keel_routing_parse(struct keel_vm *vm,
					    const struct kvm_irq_routing_entry *entries,
					    u32 nr);
struct keel_irq_routing *keel_routing_default(void);
void keel_routing_destroy(struct keel_vm *vm);
int keel_msi_decode(struct keel_vm *vm, u32 lo, u32 hi, u32 data, struct keel_apic_msg *msg);

/* Somebody wants to know when the guest has finished with an interrupt. */
struct keel_ack_notifier {
	struct hlist_node link;		/* vm->irq_ack_notifiers */
	u32 gsi;
	/* under irq_srcu; context of the EOI: any but NMI, must not sleep */
	void (*acked)(struct keel_ack_notifier *n);
};

void keel_ack_notifier_add(struct keel_vm *vm, struct keel_ack_notifier *n);
void keel_ack_notifier_remove(struct keel_vm *vm, struct keel_ack_notifier *n);

/* A chip says: the guest ended, or unmasked, this pin. Without the chip's lock. */
void keel_irq_acked(struct keel_vm *vm, u32 chip, u32 pin);
void keel_irq_unmasked(struct keel_vm *vm, u32 chip, u32 pin);

/* ---- eventfd.c ---- */
void keel_irqfd_release(struct keel_vm *vm);
void keel_eventfd_destroy(struct keel_vm *vm);

/* ---- pic.c ---- */

/**
 * struct keel_pic - two 8259A, the second on the first one's input 2
 * @sources: who holds each pin up, a bit per KEEL_IRQ_SOURCE_
 * @acked: pins that were ended; told to keel_irq_acked() without the lock
 */
struct keel_pic {
	raw_spinlock_t lock;		/* everything below */
	struct keel_vm *vm;		/* [C] */
	struct kvm_pic_state unit[2];
	u8 sources[16];
	bool output;			/* INTR; read without the lock */
	u16 acked;
	u16 unmasked;
	struct keel_bus_dev master, slave, elcr;	/* [C] */
};

struct keel_pic *keel_pic_alloc(struct keel_vm *vm);
int keel_pic_plug(struct keel_vm *vm, struct keel_pic *pic);	/* slots_lock */
void keel_pic_unplug(struct keel_vm *vm, struct keel_pic *pic);	/* slots_lock */
int keel_pic_set_irq(struct keel_pic *pic, u32 pin, int source, int level);
int keel_pic_peek(struct keel_pic *pic);
int keel_pic_ack(struct keel_pic *pic);
void keel_pic_get_state(struct keel_pic *pic, int unit, struct kvm_pic_state *s);
void keel_pic_set_state(struct keel_pic *pic, int unit, const struct kvm_pic_state *s);
/* one access, as from the bus */
void keel_pic_outb(struct keel_pic *pic, u16 port, u8 value);
u8 keel_pic_inb(struct keel_pic *pic, u16 port);

/* ---- ioapic.c ---- */

/**
 * struct keel_ioapic - 82093AA, 24 pins
 * @irr: edge: a rise that was not seen to fall yet; level: the line
 * @delivered: pins in @irr whose edge has been delivered
 * @vectors: those of all pins, so that other EOIs need not come here
 */
struct keel_ioapic {
	raw_spinlock_t lock;		/* everything below */
	struct keel_vm *vm;		/* [C] */
	struct kvm_ioapic_state s;	/* s.irr is not used: see irr */
	u32 irr;
	u32 delivered;
	u8 sources[KVM_IOAPIC_NUM_PINS];
	unsigned long vectors[256 / BITS_PER_LONG];	/* bits read without the lock */
	struct keel_bus_dev dev;	/* [C] */
};

struct keel_ioapic *keel_ioapic_alloc(struct keel_vm *vm);
int keel_ioapic_plug(struct keel_vm *vm, struct keel_ioapic *ioapic);	/* slots_lock */
void keel_ioapic_unplug(struct keel_vm *vm, struct keel_ioapic *ioapic);
int keel_ioapic_set_irq(struct keel_ioapic *ioapic, u32 pin, int source, int level);
/* the guest ended @vector on @l; @level: it was delivered as level-triggered */
void keel_ioapic_eoi(struct keel_ioapic *ioapic, struct keel_lapic *l, u8 vector, bool level);
void keel_ioapic_get_state(struct keel_ioapic *ioapic, struct kvm_ioapic_state *s);
void keel_ioapic_set_state(struct keel_ioapic *ioapic, const struct kvm_ioapic_state *s);
u32 keel_ioapic_readl(struct keel_ioapic *ioapic, u32 offset);
void keel_ioapic_writel(struct keel_ioapic *ioapic, u32 offset, u32 value);

/* ---- pit.c ---- */
void keel_pit_free(struct keel_vm *vm);
void keel_pit_unmasked(struct keel_pit *pit);

#endif /* KEEL_CHIPS_H */
