// SPDX-License-Identifier: GPL-2.0-only
/*
 * The LAPIC's timer: one-shot, periodic, TSC deadline. SDM vol. 3 "APIC
 * Timer".
 *
 * The callback runs in hard interrupt context and sets IRR itself. Whoever
 * changes the timer is the owner thread, and stops the hrtimer first.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/moduleparam.h>
#include <asm/tsc.h>

#include "../keel.h"
#include "irq.h"
#include "lapic.h"

/*
 * hrtimers are not rate limited: without a floor a guest can keep a host CPU
 * in interrupt context.
 */
unsigned int keel_min_timer_period_us = 200;
module_param_named(min_timer_period_us, keel_min_timer_period_us, uint, 0644);
MODULE_PARM_DESC(min_timer_period_us, "Shortest period of a guest's periodic timers");

/* Longer waits are cut in pieces: hrtimers and the conversion stay in range. */
#define MAX_WAIT_SECONDS	(60 * 60 * 24)

/*
 * To set an hrtimer and take its interrupt, with an exit of its own, is work for
 * longer than this: what is as near is waited for on the spot.
 */
#define NEAR_NS			1000

/*
 * With a slow bus (KVM_CAP_X86_APIC_BUS_CYCLES_NS) a count can last longer than
 * ktime_t knows, which would take it for over, again and again.
 */
#define MAX_COUNT_NS	((u64)KTIME_MAX / 2)

static bool is_deadline(const struct keel_lapic *l)
{
	return READ_ONCE(l->timer.mode) == APIC_LVT_TIMER_TSCDEADLINE;
}

static bool is_periodic(const struct keel_lapic *l)
{
	return READ_ONCE(l->timer.mode) == APIC_LVT_TIMER_PERIODIC;
}

static u64 timer_period(u64 period)
{
	return max(period, (u64)READ_ONCE(keel_min_timer_period_us) * NSEC_PER_USEC);
}

/* ---- TSC deadline ---- */

/* Nanoseconds until the guest's TSC is at its deadline, rounded up; 0: it is. */
static u64 deadline_ns(struct keel_lapic *l)
{
	u64 deadline = READ_ONCE(l->timer.deadline);
	u64 now = keel_guest_tsc(l->vcpu);
	u64 left;

	if (deadline <= now)
		return 0;
	left = min(deadline - now, (u64)tsc_khz * 1000 * MAX_WAIT_SECONDS);
	return mul_u64_u32_div(left, USEC_PER_SEC, tsc_khz) + 1;
}

static void deadline_fire(struct keel_lapic *l)
{
	keel_lapic_local(l, APIC_LVTT);
	/* IRR first: keel_lapic_tsc_deadline() looks at it when it sees @expired */
	smp_store_release(&l->timer.expired, true);
}

static enum hrtimer_restart deadline_expired(struct keel_lapic *l)
{
	u64 ns;

	ns = deadline_ns(l);
	if (ns) {
		hrtimer_set_expires(&l->timer.hrtimer, ktime_add_ns(ktime_get(), ns));
		return HRTIMER_RESTART;
	}
	deadline_fire(l);
	return HRTIMER_NORESTART;
}

static void deadline_start(struct keel_lapic *l)
{
	u64 ns;

	if (!l->timer.deadline || l->timer.expired)
		return;
	while ((ns = deadline_ns(l)) && ns <= NEAR_NS)
		cpu_relax();
	if (!ns) {
		deadline_fire(l);
		return;
	}
	hrtimer_start(&l->timer.hrtimer, ktime_add_ns(ktime_get(), ns),
		      HRTIMER_MODE_ABS_HARD);
}

static void deadline_set(struct keel_lapic *l, u64 value)
{
	WRITE_ONCE(l->timer.deadline, value);
	WRITE_ONCE(l->timer.expired, false);
}

/**
 * keel_lapic_tsc_deadline() - MSR_IA32_TSC_DEADLINE
 * @vcpu: the vCPU
 * @host: userspace reads, not the guest
 *
 * Userspace saves the LAPIC and this MSR one after the other. An expiry in
 * between would be in neither, so it is told the value until the guest has
 * taken the interrupt; setting a deadline that is past fires again.
 */
u64 keel_lapic_tsc_deadline(struct keel_vcpu *vcpu, bool host)
{
	struct keel_lapic *l = vcpu->lapic;
	u8 vector;

	if (!l || !keel_lapic_hw_enabled(l) || !is_deadline(l))
		return 0;
	vector = keel_lapic_reg(l, APIC_LVTT) & APIC_VECTOR_MASK;
	/* see deadline_fire() */
	if (smp_load_acquire(&l->timer.expired) &&
	    !(host && test_bit(vector, l->irr)))
		return 0;
	return READ_ONCE(l->timer.deadline);
}

void keel_lapic_set_tsc_deadline(struct keel_vcpu *vcpu, u64 value)
{
	struct keel_lapic *l = vcpu->lapic;

	/* SDM: in other modes the MSR ignores writes */
	if (!l || !keel_lapic_hw_enabled(l) || !is_deadline(l))
		return;
	hrtimer_cancel(&l->timer.hrtimer);
	deadline_set(l, value);
	deadline_start(l);
}

void keel_lapic_tsc_changed(struct keel_vcpu *vcpu)
{
	struct keel_lapic *l = vcpu->lapic;

	if (!l || !is_deadline(l))
		return;
	hrtimer_cancel(&l->timer.hrtimer);
	deadline_start(l);
}

/* ---- one-shot and periodic ---- */

static enum hrtimer_restart timer_expired(struct hrtimer *hrtimer)
{
	struct keel_lapic *l = container_of(hrtimer, struct keel_lapic, timer.hrtimer);
	u64 period;

	if (is_deadline(l))
		return deadline_expired(l);

	keel_lapic_local(l, APIC_LVTT);
	period = READ_ONCE(l->timer.period);
	if (!is_periodic(l) || !period)
		return HRTIMER_NORESTART;
	/*
	 * From the last expiry, not from now: the period does not drift. What
	 * was missed altogether is one interrupt, not a burst.
	 */
	hrtimer_forward_now(hrtimer, ns_to_ktime(timer_period(period)));
	WRITE_ONCE(l->timer.target, hrtimer_get_expires(hrtimer));
	return HRTIMER_RESTART;
}

/* Begin a countdown of @ns; the hrtimer is stopped. */
static void count_start(struct keel_lapic *l, u64 ns)
{
	struct keel_lapic_timer *t = &l->timer;

	if (!ns || !t->period)
		return;
	ns = min(ns, MAX_COUNT_NS);
	if (is_periodic(l))
		ns = timer_period(ns);
	WRITE_ONCE(t->target, ktime_add_ns(ktime_get(), ns));
	if (!is_periodic(l) && ns <= NEAR_NS) {
		while (ktime_before(ktime_get(), t->target))
			cpu_relax();
		keel_lapic_local(l, APIC_LVTT);
		return;
	}
	hrtimer_start(&t->hrtimer, t->target, HRTIMER_MODE_ABS_HARD);
}

/* How long a count takes, ns. */
static u64 tick(const struct keel_lapic *l)
{
	return keel_lapic_divisor(keel_lapic_reg(l, APIC_TDCR)) *
	       (l->vcpu->vm->apic_bus_cycle_ns ?: 1);
}

static void set_period(struct keel_lapic *l)
{
	WRITE_ONCE(l->timer.period,
		   min(keel_lapic_reg(l, APIC_TMICT) * l->timer.tick, MAX_COUNT_NS));
}

/* TMICT was written. */
void keel_lapic_timer_write_count(struct keel_lapic *l)
{
	hrtimer_cancel(&l->timer.hrtimer);
	set_period(l);
	count_start(l, l->timer.period);
}

static u64 remaining(struct keel_lapic *l)
{
	const struct keel_lapic_timer *t = &l->timer;

	if (is_deadline(l) || !t->period)
		return 0;
	return keel_lapic_remaining(READ_ONCE(t->target), ktime_get(),
				    is_periodic(l) ? timer_period(t->period) : 0);
}

/* What TMCCT reads. */
u32 keel_lapic_timer_count(struct keel_lapic *l)
{
	u64 ns = min(remaining(l), l->timer.period);

	return div64_u64(ns, l->timer.tick);
}

/* TDCR was written: what is left is counted at the new rate. */
void keel_lapic_timer_write_divide(struct keel_lapic *l)
{
	struct keel_lapic_timer *t = &l->timer;
	u64 new = tick(l), left;
	bool active;

	if (new == t->tick)
		return;
	if (is_deadline(l)) {
		t->tick = new;
		return;
	}
	active = hrtimer_cancel(&t->hrtimer);
	left = keel_lapic_timer_count(l) * new;
	t->tick = new;
	set_period(l);
	/* less than a tick is left */
	if (active && !left)
		left = 1;
	count_start(l, left);
}

static u32 lvtt_mode(const struct keel_lapic *l)
{
	return keel_lapic_reg(l, APIC_LVTT) &
	       (APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE);
}

/* LVTT was written. */
void keel_lapic_timer_write_lvtt(struct keel_lapic *l)
{
	u32 mode = lvtt_mode(l);

	if (mode == l->timer.mode)
		return;
	/* SDM: a change from or to TSC-deadline mode disarms the timer */
	if (mode == APIC_LVT_TIMER_TSCDEADLINE || is_deadline(l)) {
		hrtimer_cancel(&l->timer.hrtimer);
		keel_lapic_put_reg(l, APIC_TMICT, 0);
		WRITE_ONCE(l->timer.period, 0);
		deadline_set(l, 0);
	}
	WRITE_ONCE(l->timer.mode, mode);
}

/* ---- life ---- */

/*
 * The whole state came from userspace: go on counting from TMCCT. A count of 0
 * means that the timer ran out about when the state was saved, or that the
 * client (QEMU) does not keep it: periodic, a period begins; one-shot, it ends
 * now. An interrupt too many is better than a guest without a tick.
 */
void keel_lapic_timer_restore(struct keel_lapic *l)
{
	u64 count = keel_lapic_reg(l, APIC_TMCCT);
	u32 mode = lvtt_mode(l);

	hrtimer_cancel(&l->timer.hrtimer);
	/* the deadline comes by its MSR, before or after this */
	if (mode != l->timer.mode)
		deadline_set(l, 0);
	WRITE_ONCE(l->timer.mode, mode);
	l->timer.tick = tick(l);
	set_period(l);
	if (is_deadline(l))
		deadline_start(l);
	else if (count)
		count_start(l, min(count * l->timer.tick, l->timer.period));
	else
		count_start(l, is_periodic(l) ? l->timer.period : 1);
}

/* The registers were reset. */
void keel_lapic_timer_reset(struct keel_lapic *l)
{
	hrtimer_cancel(&l->timer.hrtimer);
	WRITE_ONCE(l->timer.mode, APIC_LVT_TIMER_ONESHOT);
	deadline_set(l, 0);
	WRITE_ONCE(l->timer.period, 0);
	l->timer.tick = tick(l);
}

void keel_lapic_timer_stop(struct keel_lapic *l)
{
	hrtimer_cancel(&l->timer.hrtimer);
}

void keel_lapic_timer_init(struct keel_lapic *l)
{
	keel_hrtimer_setup(&l->timer.hrtimer, timer_expired, HRTIMER_MODE_ABS_HARD);
	l->timer.tick = tick(l);
}
