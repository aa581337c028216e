// SPDX-License-Identifier: GPL-2.0-only
/*
 * The 8254 interval timer. Intel's data sheet 231164.
 *
 * Channel 0 interrupts from its hrtimer's callback, in hard interrupt
 * context. BCD counting is not modelled, as KVM does not.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/slab.h>

#include "../keel.h"
#include "chips.h"
#include "lapic.h"
#include "pit.h"

#define PORT_CONTROL	0x43

/* read_state, write_state, rw_mode, count_latched: which byte is next */
enum { RW_LSB = 1, RW_MSB = 2, RW_WORD0 = 3, RW_WORD1 = 4 };

#define MODE_NONE	0xff	/* nothing programmed yet */
#define MAX_PENDING	0xffff	/* ticks that are owed to a guest at most */

/* ---- arithmetic ---- */

u64 keel_pit_ticks(u64 ns)
{
	return mul_u64_u32_div(ns, KEEL_PIT_HZ, NSEC_PER_SEC);
}

/* Rounded up: after as many nanoseconds the tick has happened. */
u64 keel_pit_ns(u64 ticks)
{
	return mul_u64_u32_div(ticks, NSEC_PER_SEC, KEEL_PIT_HZ) + 1;
}

u32 keel_pit_counter(const struct kvm_pit_channel_state *ch, u64 ticks)
{
	u32 left = ticks % ch->count;

	switch (ch->mode) {
	case 0:
	case 1:
	case 4:
	case 5:		/* goes on below zero */
		return (ch->count - ticks) & 0xffff;
	case 3:		/* counts by two, twice in a period */
		return (ch->count - (2 * (u64)left) % ch->count) & 0xffff;
	default:
		return (ch->count - left) & 0xffff;
	}
}

bool keel_pit_out(const struct kvm_pit_channel_state *ch, u64 ticks)
{
	switch (ch->mode) {
	case 1:
		return ticks < ch->count;
	case 2:
		return ticks && ticks % ch->count == 0;
	case 3:
		return ticks % ch->count < (ch->count + 1) / 2;
	case 4:
	case 5:
		return ticks == ch->count;
	default:
		return ticks >= ch->count;
	}
}

static u64 elapsed(const struct kvm_pit_channel_state *ch)
{
	s64 ns = ktime_get_ns() - ch->count_load_time;

	return keel_pit_ticks(max_t(s64, ns, 0));
}

/* ---- channel 0's interrupt ---- */

/* Not under the lock: the chips' locks do not nest in ours. */
static void pulse(struct keel_pit *pit)
{
	unsigned long flags;
	int ret;

	/* down first: another pulse may have been interrupted with its line up */
	keel_set_irq(pit->vm, KEEL_IRQ_SOURCE_PIT, 0, 0);
	ret = keel_set_irq(pit->vm, KEEL_IRQ_SOURCE_PIT, 0, 1);
	keel_set_irq(pit->vm, KEEL_IRQ_SOURCE_PIT, 0, 0);
	if (ret >= 0)
		return;
	/* masked everywhere: nobody will end it, so do not wait for that */
	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->acked = true;
	pit->pending = 0;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/* Under the lock. Return: interrupt now? */
static bool tick(struct keel_pit *pit, u64 ticks)
{
	if (!pit->reinject)
		return true;
	pit->pending = min_t(u64, pit->pending + ticks, MAX_PENDING);
	if (!pit->acked)
		return false;
	pit->acked = false;
	return true;
}

static bool is_periodic(const struct keel_pit *pit)
{
	return pit->ch[0].mode == 2 || pit->ch[0].mode == 3;
}

/*
 * Periods are counted from the load, in the PIT's own ticks: no drift against
 * what the counter reads.
 */
static void next_expiry(struct keel_pit *pit, u64 *ticks)
{
	const struct kvm_pit_channel_state *ch = &pit->ch[0];
	u64 min_ns = (u64)READ_ONCE(keel_min_timer_period_us) * NSEC_PER_USEC;
	u64 n;

	*ticks = 1;
	if (keel_pit_ns(ch->count) < min_ns) {
		hrtimer_forward_now(&pit->timer, ns_to_ktime(min_ns));
		return;
	}
	n = div_u64(elapsed(ch), ch->count);
	if (n > pit->expiries)
		*ticks = n - pit->expiries;
	pit->expiries += *ticks;
	hrtimer_set_expires(&pit->timer,
			    ns_to_ktime(ch->count_load_time +
					keel_pit_ns((pit->expiries + 1) * ch->count)));
}

static enum hrtimer_restart pit_expired(struct hrtimer *timer)
{
	struct keel_pit *pit = container_of(timer, struct keel_pit, timer);
	enum hrtimer_restart restart = HRTIMER_NORESTART;
	unsigned long flags;
	u64 ticks = 1;
	bool now;

	raw_spin_lock_irqsave(&pit->lock, flags);
	if (is_periodic(pit)) {
		next_expiry(pit, &ticks);
		restart = HRTIMER_RESTART;
	}
	now = tick(pit, ticks);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	if (now)
		pulse(pit);
	return restart;
}

static void pit_acked(struct keel_ack_notifier *n)
{
	struct keel_pit *pit = container_of(n, struct keel_pit, notifier);
	unsigned long flags;
	bool again;

	raw_spin_lock_irqsave(&pit->lock, flags);
	if (pit->pending)
		pit->pending--;
	again = pit->reinject && pit->pending;
	pit->acked = !again;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	if (again)
		pulse(pit);
}

static void forget_ticks(struct keel_pit *pit)
{
	pit->pending = 0;
	pit->acked = true;
}

/* What was owed while the pin was masked is not delivered in a burst. */
void keel_pit_unmasked(struct keel_pit *pit)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&pit->lock, flags);
	forget_ticks(pit);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/* ---- programming, under the mutex ---- */

/* Start channel 0's timer as its state says; it is stopped. */
static void arm(struct keel_pit *pit)
{
	const struct kvm_pit_channel_state *ch = &pit->ch[0];
	u64 ns = keel_pit_ns(ch->count);

	pit->expiries = 0;
	forget_ticks(pit);
	/* the HPET has taken IRQ 0 over */
	if (pit->flags & KVM_PIT_FLAGS_HPET_LEGACY)
		return;
	if (!is_periodic(pit) && ch->mode != 0 && ch->mode != 1 && ch->mode != 4)
		return;
	if (is_periodic(pit))
		ns = max(ns, (u64)READ_ONCE(keel_min_timer_period_us) * NSEC_PER_USEC);
	hrtimer_start(&pit->timer, ns_to_ktime(ch->count_load_time + ns),
		      HRTIMER_MODE_ABS_HARD);
}

static void load(struct keel_pit *pit, int channel, u32 count)
{
	struct kvm_pit_channel_state *ch = &pit->ch[channel];
	unsigned long flags;

	if (channel == 0)
		hrtimer_cancel(&pit->timer);
	raw_spin_lock_irqsave(&pit->lock, flags);
	ch->count = count ? min(count, KEEL_PIT_MAX) : KEEL_PIT_MAX;
	ch->count_load_time = ktime_get_ns();
	if (channel == 0)
		arm(pit);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

static void latch_count(struct kvm_pit_channel_state *ch)
{
	if (ch->count_latched)
		return;
	ch->latched_count = keel_pit_counter(ch, elapsed(ch));
	ch->count_latched = ch->rw_mode;
}

static void latch_status(struct kvm_pit_channel_state *ch)
{
	if (ch->status_latched)
		return;
	ch->status = keel_pit_out(ch, elapsed(ch)) << 7 | (ch->rw_mode & 3) << 4 |
		     (ch->mode & 7) << 1 | (ch->bcd & 1);
	ch->status_latched = 1;
}

static void write_control(struct keel_pit *pit, u8 value)
{
	struct kvm_pit_channel_state *ch;
	int i, access = value >> 4 & 3;

	if (value >> 6 == 3) {		/* read-back */
		for (i = 0; i < 3; i++) {
			if (!(value & (2 << i)))
				continue;
			if (!(value & BIT(5)))
				latch_count(&pit->ch[i]);
			if (!(value & BIT(4)))
				latch_status(&pit->ch[i]);
		}
		return;
	}
	ch = &pit->ch[value >> 6];
	if (!access) {
		latch_count(ch);
		return;
	}
	ch->rw_mode = access;
	ch->read_state = access;
	ch->write_state = access;
	ch->count_latched = 0;
	ch->status_latched = 0;
	ch->mode = value >> 1 & 7;
	if (ch->mode > 5)		/* x10 and x11 */
		ch->mode -= 4;
	ch->bcd = value & 1;
}

/* Return: the count to load, or -1 when a byte is still to come. */
static int write_count(struct kvm_pit_channel_state *ch, u8 value)
{
	switch (ch->write_state) {
	case RW_MSB:
		return value << 8;
	case RW_WORD0:
		ch->write_latch = value;
		ch->write_state = RW_WORD1;
		return -1;
	case RW_WORD1:
		ch->write_state = RW_WORD0;
		return ch->write_latch | value << 8;
	default:
		return value;
	}
}

static void write_speaker(struct keel_pit *pit, u8 value)
{
	struct kvm_pit_channel_state *ch = &pit->ch[2];
	bool gate = value & BIT(0);

	if (value & BIT(1))
		pit->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	else
		pit->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	/* in modes 0 and 4 the gate only holds the count, which is not modelled */
	if (gate && !ch->gate && ch->mode != 0 && ch->mode != 4)
		ch->count_load_time = ktime_get_ns();
	ch->gate = gate;
}

void keel_pit_outb(struct keel_pit *pit, u16 port, u8 value)
{
	unsigned long flags;
	int count = -1;

	mutex_lock(&pit->mutex);
	raw_spin_lock_irqsave(&pit->lock, flags);
	if (port == KEEL_SPEAKER_PORT)
		write_speaker(pit, value);
	else if (port == PORT_CONTROL)
		write_control(pit, value);
	else
		count = write_count(&pit->ch[port & 3], value);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	if (count >= 0)
		load(pit, port & 3, count);
	mutex_unlock(&pit->mutex);
}

static u8 read_latched(struct kvm_pit_channel_state *ch)
{
	u8 value;

	switch (ch->count_latched) {
	case RW_MSB:
		value = ch->latched_count >> 8;
		ch->count_latched = 0;
		break;
	case RW_WORD0:
		value = ch->latched_count;
		ch->count_latched = RW_MSB;
		break;
	default:
		value = ch->latched_count;
		ch->count_latched = 0;
	}
	return value;
}

static u8 read_channel(struct kvm_pit_channel_state *ch)
{
	u32 counter;

	if (ch->status_latched) {
		ch->status_latched = 0;
		return ch->status;
	}
	if (ch->count_latched)
		return read_latched(ch);
	counter = keel_pit_counter(ch, elapsed(ch));
	switch (ch->read_state) {
	case RW_MSB:
		return counter >> 8;
	case RW_WORD0:
		ch->read_state = RW_WORD1;
		return counter;
	case RW_WORD1:
		ch->read_state = RW_WORD0;
		return counter >> 8;
	default:
		return counter;
	}
}

static u8 read_speaker(struct keel_pit *pit)
{
	struct kvm_pit_channel_state *ch = &pit->ch[2];
	bool refresh = ktime_get_ns() >> 14 & 1;	/* about 15 us a turn */
	bool data = pit->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;

	return keel_pit_out(ch, elapsed(ch)) << 5 | refresh << 4 | data << 1 | ch->gate;
}

u8 keel_pit_inb(struct keel_pit *pit, u16 port)
{
	unsigned long flags;
	u8 value = 0;

	raw_spin_lock_irqsave(&pit->lock, flags);
	if (port == KEEL_SPEAKER_PORT)
		value = read_speaker(pit);
	else if (port != PORT_CONTROL)	/* which cannot be read */
		value = read_channel(&pit->ch[port & 3]);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return value;
}

/* ---- ports ---- */

static int pit_read(struct keel_bus_dev *dev, gpa_t addr, int len, void *data)
{
	memset(data, 0, len);
	*(u8 *)data = keel_pit_inb(container_of(dev, struct keel_pit, dev), addr);
	return 0;
}

static int pit_write(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data)
{
	keel_pit_outb(container_of(dev, struct keel_pit, dev), addr, *(const u8 *)data);
	return 0;
}

static int speaker_read(struct keel_bus_dev *dev, gpa_t addr, int len, void *data)
{
	memset(data, 0, len);
	*(u8 *)data = keel_pit_inb(container_of(dev, struct keel_pit, speaker), addr);
	return 0;
}

static int speaker_write(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data)
{
	keel_pit_outb(container_of(dev, struct keel_pit, speaker), addr, *(const u8 *)data);
	return 0;
}

static const struct keel_bus_ops pit_ops = { .read = pit_read, .write = pit_write };
static const struct keel_bus_ops speaker_ops = { .read = speaker_read, .write = speaker_write };

/* ---- life ---- */

void keel_pit_init(struct keel_pit *pit, struct keel_vm *vm)
{
	int i;

	pit->vm = vm;
	mutex_init(&pit->mutex);
	raw_spin_lock_init(&pit->lock);
	keel_hrtimer_setup(&pit->timer, pit_expired, HRTIMER_MODE_ABS_HARD);
	pit->reinject = true;
	pit->acked = true;
	pit->notifier.gsi = 0;
	pit->notifier.acked = pit_acked;
	pit->dev.ops = &pit_ops;
	pit->speaker.ops = &speaker_ops;
	for (i = 0; i < 3; i++) {
		pit->ch[i].mode = MODE_NONE;
		pit->ch[i].gate = i != 2;
		pit->ch[i].count = KEEL_PIT_MAX;
		pit->ch[i].count_load_time = ktime_get_ns();
	}
}

static int plug(struct keel_vm *vm, struct keel_pit *pit)
{
	int err;

	mutex_lock(&vm->slots_lock);
	err = keel_bus_add(vm, KEEL_BUS_PIO, KEEL_PIT_PORT, KEEL_PIT_PORTS, &pit->dev);
	if (!err && pit->has_speaker) {
		err = keel_bus_add(vm, KEEL_BUS_PIO, KEEL_SPEAKER_PORT, 1, &pit->speaker);
		if (err)
			keel_bus_remove(vm, KEEL_BUS_PIO, &pit->dev);
	}
	mutex_unlock(&vm->slots_lock);
	return err;
}

/**
 * keel_pit_create() - KVM_CREATE_PIT2, KVM_CREATE_PIT
 * @vm: the VM
 * @flags: KVM_PIT_SPEAKER_DUMMY: port 0x61 too; others are ignored, as by KVM
 *
 * It may come before the chips that it is wired to: kvmtool makes it first. Until
 * there are some its pulses have no route.
 *
 * Context: vm->lock held.
 * Return: 0, -EEXIST, -ENOMEM.
 */
int keel_pit_create(struct keel_vm *vm, u32 flags)
{
	struct keel_pit *pit;
	int err;

	if (vm->pit)
		return -EEXIST;
	pit = kzalloc(sizeof(*pit), GFP_KERNEL_ACCOUNT);
	if (!pit)
		return -ENOMEM;
	keel_pit_init(pit, vm);
	pit->has_speaker = flags & KVM_PIT_SPEAKER_DUMMY;
	err = plug(vm, pit);
	if (err) {
		/* a vCPU may have found some of its ports, and armed it */
		hrtimer_cancel(&pit->timer);
		kfree(pit);
		return err;
	}
	keel_ack_notifier_add(vm, &pit->notifier);
	/* whole, before others see it */
	smp_store_release(&vm->pit, pit);
	return 0;
}

void keel_pit_free(struct keel_vm *vm)
{
	struct keel_pit *pit = vm->pit;

	if (!pit)
		return;
	hrtimer_cancel(&pit->timer);
	vm->pit = NULL;
	kfree(pit);
}

/* ---- KVM_GET_PIT2, KVM_SET_PIT2, KVM_REINJECT_CONTROL ---- */

int keel_ioctl_get_pit2(struct keel_vm *vm, struct kvm_pit_state2 *s)
{
	struct keel_pit *pit = smp_load_acquire(&vm->pit);	/* made whole first */
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	memset(s, 0, sizeof(*s));
	raw_spin_lock_irqsave(&pit->lock, flags);
	memcpy(s->channels, pit->ch, sizeof(s->channels));
	s->flags = pit->flags;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

int keel_ioctl_set_pit2(struct keel_vm *vm, const struct kvm_pit_state2 *s)
{
	struct keel_pit *pit = smp_load_acquire(&vm->pit);	/* made whole first */
	unsigned long flags;
	int i;

	if (!pit)
		return -ENXIO;
	mutex_lock(&pit->mutex);
	hrtimer_cancel(&pit->timer);
	raw_spin_lock_irqsave(&pit->lock, flags);
	memcpy(pit->ch, s->channels, sizeof(pit->ch));
	pit->flags = s->flags & (KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	for (i = 0; i < 3; i++) {
		pit->ch[i].gate = !!pit->ch[i].gate;
		/* never 0, from here on or between the locks */
		if (!pit->ch[i].count || pit->ch[i].count > KEEL_PIT_MAX)
			pit->ch[i].count = KEEL_PIT_MAX;
	}
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	/* counting begins anew: the load time was another machine's */
	for (i = 0; i < 3; i++)
		load(pit, i, pit->ch[i].count);
	mutex_unlock(&pit->mutex);
	return 0;
}

int keel_ioctl_reinject(struct keel_vm *vm, const struct kvm_reinject_control *c)
{
	struct keel_pit *pit = smp_load_acquire(&vm->pit);	/* made whole first */
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->reinject = c->pit_reinject;
	forget_ticks(pit);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}
