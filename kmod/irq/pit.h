/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The 8254's inside, for pit.c and its tests.
 */
#ifndef KEEL_PIT_H
#define KEEL_PIT_H

#include <linux/hrtimer.h>
#include <linux/kvm.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "chips.h"

#define KEEL_PIT_HZ	1193182u
#define KEEL_PIT_MAX	0x10000u	/* what a count of 0 stands for */

/**
 * struct keel_pit - 8254, three channels; the first drives GSI 0
 *
 * With reinjection every tick becomes an interrupt: those that come while the
 * guest has not ended the one before are kept in @pending.
 */
struct keel_pit {
	struct keel_vm *vm;			/* [C] */
	struct mutex mutex;			/* whoever starts or stops the timer */
	raw_spinlock_t lock;			/* everything below */
	struct kvm_pit_channel_state ch[3];
	u32 flags;				/* KVM_PIT_FLAGS_ */
	struct hrtimer timer;			/* mutex, without the lock */
	u64 expiries;				/* of channel 0 since it was loaded */
	bool reinject;
	bool acked;				/* the guest has ended the last one */
	u32 pending;
	struct keel_ack_notifier notifier;
	struct keel_bus_dev dev, speaker;	/* [C] */
	bool has_speaker;			/* [C] */
};

/* Ticks of the 1.193182 MHz clock in @ns nanoseconds, and back. */
u64 keel_pit_ticks(u64 ns);
u64 keel_pit_ns(u64 ticks);
/* What the counter reads, and OUT is, @ticks after the load of @ch. */
u32 keel_pit_counter(const struct kvm_pit_channel_state *ch, u64 ticks);
bool keel_pit_out(const struct kvm_pit_channel_state *ch, u64 ticks);

void keel_pit_init(struct keel_pit *pit, struct keel_vm *vm);
void keel_pit_outb(struct keel_pit *pit, u16 port, u8 value);
u8 keel_pit_inb(struct keel_pit *pit, u16 port);

#endif /* KEEL_PIT_H */
