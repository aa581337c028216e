// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: LAPIC (priorities, registers, timer), who a destination names,
 * routing, buses, the coalesced ring.
 */
#include "kunit-irq.h"
#include "../irq/irq.h"

static struct keel_vcpu *vcpu_of(struct kunit *test, int n)
{
	return ((struct irq_fixture *)test->priv)->vcpu[n];
}

static void enter_x2apic(struct kunit *test, int n)
{
	struct keel_vcpu *vcpu = vcpu_of(test, n);

	KUNIT_ASSERT_EQ(test, keel_lapic_set_base(vcpu, vcpu->lapic->base | X2APIC_ENABLE,
						  true), 0);
}

static void self_ipi(struct keel_lapic *l, u8 vector)
{
	keel_lapic_write(l, APIC_ICR, APIC_DEST_SELF | vector);
}

/* ---- LAPIC ---- */

static void lapic_reset_state(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;

	keel_lapic_reset(vcpu, false);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_ID), 1 << 24);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_LVR), 0x50014);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_SPIV), 0xff);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_DFR), 0xffffffff);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_LVT0), APIC_LVT_MASKED);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_LVTT), APIC_LVT_MASKED);
	KUNIT_EXPECT_EQ(test, vcpu->msrs.apic_base, 0xfee00800);
	keel_lapic_reset(vcpu_of(test, 0), false);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(lapic_of(test, 0), APIC_LVT0), 0x700);
	KUNIT_EXPECT_EQ(test, vcpu_of(test, 0)->msrs.apic_base, 0xfee00900);
}

static void lapic_priorities(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;

	KUNIT_EXPECT_EQ(test, keel_irq_pending(vcpu), -1);
	self_ipi(l, 0x31);
	self_ipi(l, 0x45);
	self_ipi(l, 0x42);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(vcpu), 0x45);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_PROCPRI), 0x40);
	/* 0x42 is of the same class, 0x31 below */
	KUNIT_EXPECT_EQ(test, keel_irq_ack(vcpu), -1);
	self_ipi(l, 0x50);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(vcpu), 0x50);
	keel_lapic_write(l, APIC_EOI, 0);	/* ends the highest: 0x50 */
	KUNIT_EXPECT_EQ(test, keel_irq_pending(vcpu), -1);
	keel_lapic_write(l, APIC_EOI, 0);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(vcpu), 0x42);
	keel_lapic_write(l, APIC_EOI, 0);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(vcpu), 0x31);
	keel_lapic_write(l, APIC_EOI, 0);
	keel_lapic_write(l, APIC_EOI, 0);	/* none in service: no harm */
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_PROCPRI), 0);
}

static void lapic_task_priority(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;

	self_ipi(l, 0x45);
	keel_lapic_write(l, APIC_TASKPRI, 0x47);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_PROCPRI), 0x47);
	KUNIT_EXPECT_EQ(test, keel_irq_pending(vcpu), -1);
	KUNIT_EXPECT_EQ(test, keel_lapic_get_cr8(vcpu), 4);
	keel_lapic_set_cr8(vcpu, 3);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TASKPRI), 0x30);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(vcpu), 0x45);
	/* in service counts by its class only */
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_PROCPRI), 0x40);
	keel_lapic_write(l, APIC_TASKPRI, 0x41);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_PROCPRI), 0x41);
}

static void lapic_switched_off(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;

	keel_lapic_write(l, APIC_LVT1, APIC_DM_NMI);
	self_ipi(l, 0x45);
	keel_lapic_write(l, APIC_SPIV, 0xff);
	KUNIT_EXPECT_TRUE(test, keel_lapic_read(l, APIC_LVT1) & APIC_LVT_MASKED);
	keel_lapic_write(l, APIC_LVT1, APIC_DM_NMI);
	KUNIT_EXPECT_TRUE(test, keel_lapic_read(l, APIC_LVT1) & APIC_LVT_MASKED);
	/* it keeps what it has, and takes no more */
	self_ipi(l, 0x55);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x55));
	KUNIT_EXPECT_TRUE(test, requested(l, 0x45));
	/* but NMIs */
	keel_lapic_write(l, APIC_ICR, APIC_DEST_SELF | APIC_DM_NMI);
	KUNIT_EXPECT_EQ(test, atomic_read(&vcpu->nmi_queued), 1);
	/* and by APICBASE: nothing is pending then */
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, 0xfee00000, true), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_pending(l), -1);
}

static void lapic_errors(struct kunit *test)
{
	struct keel_lapic *l = lapic_of(test, 1);

	keel_lapic_write(l, APIC_LVTERR, 0x77);
	self_ipi(l, 5);
	KUNIT_EXPECT_FALSE(test, requested(l, 5));
	KUNIT_EXPECT_TRUE(test, consume(l, 0x77));
	self_ipi(l, 6);				/* not latched yet: no new interrupt */
	KUNIT_EXPECT_FALSE(test, requested(l, 0x77));
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_ESR), 0);
	keel_lapic_write(l, APIC_ESR, 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_ESR), APIC_ESR_SENDILL);
	keel_lapic_write(l, APIC_ESR, 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_ESR), 0);
}

static void lapic_page(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;
	u32 value = 0x20;
	u64 wide;

	KUNIT_EXPECT_FALSE(test, keel_lapic_mmio(vcpu, 0xfee01000, 4, &value, true));
	KUNIT_EXPECT_FALSE(test, keel_lapic_mmio(vcpu, 0xfedffffc, 4, &value, true));
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00080, 4, &value, true));
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TASKPRI), 0x20);
	/* anything but an aligned 32-bit write goes nowhere */
	value = 0x30;
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00080, 1, &value, true));
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00084, 4, &value, true));
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TASKPRI), 0x20);
	/* byte 2 of the version: the number of the last LVT */
	value = 0;
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00032, 1, &value, false));
	KUNIT_EXPECT_EQ(test, value, 5);
	wide = ~0ULL;
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00030, 8, &wide, false));
	KUNIT_EXPECT_EQ(test, wide, 0);
	/* behind the registers */
	value = ~0u;
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00ff0, 4, &value, false));
	KUNIT_EXPECT_EQ(test, value, 0);
	/* in x2APIC mode there is nothing */
	enter_x2apic(test, 1);
	KUNIT_EXPECT_TRUE(test, keel_lapic_mmio(vcpu, 0xfee00030, 4, &value, false));
	KUNIT_EXPECT_EQ(test, value, ~0u);
}

static void lapic_msrs(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;
	u64 value;

	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x802, &value), -EINVAL);
	enter_x2apic(test, 1);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x802, &value), 0);
	KUNIT_EXPECT_EQ(test, value, 1);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x80d, &value), 0);
	KUNIT_EXPECT_EQ(test, value, 2);
	/* read-only, write-only, not there */
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x802, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x80d, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x80b, &value), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x83f, &value), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x80e, &value), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x831, &value), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x840, &value), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x8ff, &value), -EINVAL);
	/* reserved bits */
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x808, 0x100), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x80b, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x828, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x83f, 0x100), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x838, 1ULL << 32), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x830, BIT(13)), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x830, BIT(20)), -EINVAL);
	/* what works */
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x83f, 0x66), 0);
	KUNIT_EXPECT_TRUE(test, consume(l, 0x66));
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_write(vcpu, 0x830, 1ULL << 32 | 0x67), 0);
	KUNIT_EXPECT_TRUE(test, requested(l, 0x67));
	KUNIT_EXPECT_EQ(test, keel_lapic_msr_read(vcpu, 0x830, &value), 0);
	KUNIT_EXPECT_EQ(test, value, 1ULL << 32 | 0x67);
}

static void lapic_base(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	u64 base = 0xfee00000;

	/* x2APIC without the enable bit; reserved bits */
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base | BIT(10), true), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base | BIT(11) | 1, true), -EINVAL);
	/* CPUID says nothing of x2APIC */
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base | 0xc00, false), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base | 0xc00, true), 0);
	/* from x2APIC back to xAPIC not directly */
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base | 0x800, false), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base, false), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_set_base(vcpu, base | 0x800, false), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(vcpu->lapic, APIC_ID), 1 << 24);
}

static void lapic_state(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;
	struct kvm_lapic_state *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	u32 *reg;

	KUNIT_ASSERT_NOT_NULL(test, s);
	reg = (u32 *)s->regs;
	self_ipi(l, 0x45);
	KUNIT_EXPECT_EQ(test, keel_lapic_get_state(vcpu, s), 0);
	consume(l, 0x45);
	KUNIT_EXPECT_EQ(test, keel_lapic_set_state(vcpu, s), 0);
	KUNIT_EXPECT_TRUE(test, requested(l, 0x45));

	/* nonsense does not stick */
	memset(s, 0xff, sizeof(*s));
	KUNIT_EXPECT_EQ(test, keel_lapic_set_state(vcpu, s), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_LVR), 0x50014);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TASKPRI), 0xff);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TDCR), 0xb);
	/* also vectors that can never be delivered, as KVM keeps them */
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_IRR), 0xffffffff);
	keel_lapic_reset(vcpu, false);

	/* the ID of an x2APIC is shown as an xAPIC's, unless asked for */
	enter_x2apic(test, 1);
	KUNIT_EXPECT_EQ(test, keel_lapic_get_state(vcpu, s), 0);
	KUNIT_EXPECT_EQ(test, reg[APIC_ID / 4], 1 << 24);
	vm_of(test)->x2apic_32bit_ids = true;
	KUNIT_EXPECT_EQ(test, keel_lapic_get_state(vcpu, s), 0);
	KUNIT_EXPECT_EQ(test, reg[APIC_ID / 4], 1);
	reg[APIC_ID / 4] = 7;
	KUNIT_EXPECT_EQ(test, keel_lapic_set_state(vcpu, s), -EINVAL);
}

static void lapic_init_and_sipi(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 2);
	struct keel_lapic *l = lapic_of(test, 0);

	keel_lapic_write(l, APIC_ICR2, 2 << 24);
	keel_lapic_write(l, APIC_ICR, APIC_DM_STARTUP | 0x9a);
	KUNIT_EXPECT_TRUE(test, keel_lapic_has_events(vcpu));
	keel_lapic_write(l, APIC_ICR, APIC_DM_INIT | APIC_INT_ASSERT | APIC_INT_LEVELTRIG);
	/* the INIT voids the SIPI before it */
	KUNIT_EXPECT_EQ(test, vcpu->lapic->events, BIT(KEEL_LAPIC_INIT));
	keel_lapic_write(l, APIC_ICR, APIC_DM_STARTUP | 0x9b);
	KUNIT_EXPECT_EQ(test, vcpu->lapic->events, BIT(KEEL_LAPIC_INIT) | BIT(KEEL_LAPIC_SIPI));
	KUNIT_EXPECT_EQ(test, vcpu->lapic->sipi_vector, 0x9b);
	WRITE_ONCE(vcpu->lapic->events, 0);
	/* level de-assert is not an INIT */
	keel_lapic_write(l, APIC_ICR, APIC_DM_INIT | APIC_INT_LEVELTRIG);
	KUNIT_EXPECT_FALSE(test, keel_lapic_has_events(vcpu));
	KUNIT_EXPECT_FALSE(test, keel_lapic_has_events(vcpu_of(test, 1)));
}

static struct kunit_case lapic_cases[] = {
	KUNIT_CASE(lapic_reset_state),
	KUNIT_CASE(lapic_priorities),
	KUNIT_CASE(lapic_task_priority),
	KUNIT_CASE(lapic_switched_off),
	KUNIT_CASE(lapic_errors),
	KUNIT_CASE(lapic_page),
	KUNIT_CASE(lapic_msrs),
	KUNIT_CASE(lapic_base),
	KUNIT_CASE(lapic_state),
	KUNIT_CASE(lapic_init_and_sipi),
	{}
};

/* ---- the timer ---- */

static void timer_divisors(struct kunit *test)
{
	static const u8 tdcr[] = { 0xb, 0, 1, 2, 3, 8, 9, 0xa };
	int i;

	for (i = 0; i < ARRAY_SIZE(tdcr); i++)
		KUNIT_EXPECT_EQ(test, keel_lapic_divisor(tdcr[i]), 1 << i);
}

static void timer_remaining(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, keel_lapic_remaining(1000, 400, 0), 600);
	KUNIT_EXPECT_EQ(test, keel_lapic_remaining(1000, 1000, 0), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_remaining(1000, 5000, 0), 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_remaining(1000, 1000, 300), 300);
	KUNIT_EXPECT_EQ(test, keel_lapic_remaining(1000, 1100, 300), 200);
	KUNIT_EXPECT_EQ(test, keel_lapic_remaining(1000, 1699, 300), 201);
}

static void timer_one_shot(struct kunit *test)
{
	struct keel_lapic *l = lapic_of(test, 1);
	u32 count;

	keel_lapic_write(l, APIC_TDCR, 0xb);
	keel_lapic_write(l, APIC_LVTT, 0x80);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TMCCT), 0);
	keel_lapic_write(l, APIC_TMICT, 1000000000);
	count = keel_lapic_read(l, APIC_TMCCT);
	KUNIT_EXPECT_GT(test, count, 0);
	KUNIT_EXPECT_LE(test, count, 1000000000);
	/* four times slower: what is left is the same number */
	keel_lapic_write(l, APIC_TDCR, 1);
	KUNIT_EXPECT_LE(test, keel_lapic_read(l, APIC_TMCCT), count);
	KUNIT_EXPECT_EQ(test, l->timer.period, 4000000000ULL);
	keel_lapic_write(l, APIC_TMICT, 0);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TMCCT), 0);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x80));

	keel_lapic_write(l, APIC_TMICT, 250000);	/* 1 ms */
	KUNIT_EXPECT_TRUE(test, arrives(l, 0x80));
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TMCCT), 0);
	usleep_range(5000, 6000);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x80));
	/* masked */
	keel_lapic_write(l, APIC_LVTT, 0x80 | APIC_LVT_MASKED);
	keel_lapic_write(l, APIC_TMICT, 250000);
	usleep_range(20000, 30000);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x80));
}

static void timer_periodic(struct kunit *test)
{
	struct keel_lapic *l = lapic_of(test, 1);
	int i;

	keel_lapic_write(l, APIC_TDCR, 0xb);
	keel_lapic_write(l, APIC_LVTT, 0x80 | APIC_LVT_TIMER_PERIODIC);
	keel_lapic_write(l, APIC_TMICT, 1000000);
	KUNIT_EXPECT_TRUE(test, arrives(l, 0x80));
	KUNIT_EXPECT_TRUE(test, arrives(l, 0x80));
	/* targets are a whole number of periods apart */
	KUNIT_EXPECT_LE(test, keel_lapic_read(l, APIC_TMCCT), 1000000);
	/* a period of 1 ns is not one that the host gives */
	keel_lapic_write(l, APIC_TMICT, 1);
	usleep_range(5000, 6000);
	KUNIT_EXPECT_TRUE(test, hrtimer_active(&l->timer.hrtimer));
	/* back to one-shot: the last one, then quiet */
	keel_lapic_write(l, APIC_LVTT, 0x80);
	for (i = 0; i < 500 && hrtimer_active(&l->timer.hrtimer); i++)
		usleep_range(10000, 11000);
	KUNIT_EXPECT_FALSE(test, hrtimer_active(&l->timer.hrtimer));
}

static void timer_deadline(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test, 1);
	struct keel_lapic *l = vcpu->lapic;
	u64 now = keel_guest_tsc(vcpu);

	/* in another mode the MSR is deaf */
	keel_lapic_write(l, APIC_LVTT, 0x80);
	keel_lapic_set_tsc_deadline(vcpu, now + 1);
	KUNIT_EXPECT_EQ(test, keel_lapic_tsc_deadline(vcpu, false), 0);
	keel_lapic_write(l, APIC_TMICT, 1000000000);
	/* the change of mode disarms, and TMICT is deaf in this one */
	keel_lapic_write(l, APIC_LVTT, 0x80 | APIC_LVT_TIMER_TSCDEADLINE);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TMICT), 0);
	KUNIT_EXPECT_FALSE(test, hrtimer_active(&l->timer.hrtimer));
	keel_lapic_write(l, APIC_TMICT, 5);
	KUNIT_EXPECT_EQ(test, keel_lapic_read(l, APIC_TMICT), 0);
	/* in the past: at once */
	keel_lapic_set_tsc_deadline(vcpu, 1);
	/* userspace sees it for as long as the interrupt waits, the guest does not */
	KUNIT_EXPECT_EQ(test, keel_lapic_tsc_deadline(vcpu, true), 1);
	KUNIT_EXPECT_EQ(test, keel_lapic_tsc_deadline(vcpu, false), 0);
	KUNIT_EXPECT_TRUE(test, consume(l, 0x80));
	KUNIT_EXPECT_EQ(test, keel_lapic_tsc_deadline(vcpu, true), 0);
	/* never in this life, without overflow */
	keel_lapic_set_tsc_deadline(vcpu, ~0ULL);
	KUNIT_EXPECT_EQ(test, keel_lapic_tsc_deadline(vcpu, false), ~0ULL);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x80));
	/* 0 disarms */
	keel_lapic_set_tsc_deadline(vcpu, 0);
	KUNIT_EXPECT_FALSE(test, hrtimer_active(&l->timer.hrtimer));
	KUNIT_EXPECT_FALSE(test, requested(l, 0x80));
	/* soon */
	now = keel_guest_tsc(vcpu);
	keel_lapic_set_tsc_deadline(vcpu, now + tsc_khz);
	KUNIT_EXPECT_TRUE(test, arrives(l, 0x80));
	KUNIT_EXPECT_EQ(test, keel_lapic_tsc_deadline(vcpu, false), 0);
}

static struct kunit_case timer_cases[] = {
	KUNIT_CASE(timer_divisors),
	KUNIT_CASE(timer_remaining),
	KUNIT_CASE(timer_one_shot),
	KUNIT_CASE(timer_periodic),
	KUNIT_CASE(timer_deadline),
	{}
};

/* ---- who is addressed ---- */

#define VECTOR	0xa0

/* Send, and take it out again. Return: a bit for each vCPU that got it. */
static u32 hit(struct kunit *test, struct keel_lapic *src, struct keel_apic_msg msg)
{
	u32 mask = 0;
	int i;

	msg.vector = VECTOR;
	msg.ipi = src;
	msg.x2 = src && keel_lapic_x2(src);
	keel_apic_send(vm_of(test), src, &msg);
	for (i = 0; i < IRQ_TEST_VCPUS; i++)
		if (consume(lapic_of(test, i), VECTOR))
			mask |= BIT(i);
	return mask;
}

#define PHYS(test, src, to)	hit(test, src, (struct keel_apic_msg) { .dest = (to) })
#define LOGICAL(test, src, to)	\
	hit(test, src, (struct keel_apic_msg) { .dest = (to), .logical = true })

static void target_physical(struct kunit *test)
{
	struct keel_lapic *src = lapic_of(test, 0);
	struct keel_apic_msg all = { .shorthand = APIC_DEST_ALLINC };
	struct keel_apic_msg others = { .shorthand = APIC_DEST_ALLBUT };
	struct keel_apic_msg self = { .shorthand = APIC_DEST_SELF };
	struct keel_apic_msg nobody = { .dest = 77, .vector = VECTOR };
	int i;

	for (i = 0; i < IRQ_TEST_VCPUS; i++)
		KUNIT_EXPECT_EQ(test, PHYS(test, src, i), BIT(i));
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 77), 0);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 70000), 0);
	KUNIT_EXPECT_EQ(test, keel_apic_send(vm_of(test), NULL, &nobody), -1);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 0xff), 0xf);
	KUNIT_EXPECT_EQ(test, PHYS(test, NULL, 0xff), 0xf);
	KUNIT_EXPECT_EQ(test, hit(test, src, all), 0xf);
	KUNIT_EXPECT_EQ(test, hit(test, src, others), 0xe);
	KUNIT_EXPECT_EQ(test, hit(test, src, self), 0x1);
	/* one that is off in hardware hears nothing */
	keel_lapic_set_base(vcpu_of(test, 2), 0xfee00000, true);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 2), 0);
	KUNIT_EXPECT_EQ(test, hit(test, src, all), 0xb);
}

static void target_id_changes(struct kunit *test)
{
	struct keel_lapic *src = lapic_of(test, 0);

	keel_lapic_write(lapic_of(test, 3), APIC_ID, 0x42 << 24);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 3), 0);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 0x42), BIT(3));
	/* two of the same ID: both */
	keel_lapic_write(lapic_of(test, 2), APIC_ID, 0x42 << 24);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 0x42), BIT(3) | BIT(2));
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 1), BIT(1));
}

static void target_flat(struct kunit *test)
{
	struct keel_lapic *src = lapic_of(test, 0);
	int i;

	for (i = 0; i < IRQ_TEST_VCPUS; i++)
		keel_lapic_write(lapic_of(test, i), APIC_LDR, BIT(24 + i));
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x02), 0x2);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x0d), 0xd);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, NULL, 0xf0), 0);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, NULL, 0xff), 0xf);
	/* more than one bit in an LDR */
	keel_lapic_write(lapic_of(test, 3), APIC_LDR, 0x81000000);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x80), 0x8);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x01), 0x9);
}

static void target_cluster(struct kunit *test)
{
	struct keel_lapic *src = lapic_of(test, 0);
	int i;

	for (i = 0; i < IRQ_TEST_VCPUS; i++) {
		keel_lapic_write(lapic_of(test, i), APIC_DFR, 0);
		/* clusters 0 and 1, two in each */
		keel_lapic_write(lapic_of(test, i), APIC_LDR,
				 (u32)(i / 2) << 28 | BIT(24 + i % 2));
	}
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x01), 0x1);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x03), 0x3);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x12), 0x8);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x1f), 0xc);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x21), 0);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0xff), 0xf);
	/* one in flat mode among them */
	keel_lapic_write(lapic_of(test, 3), APIC_DFR, 0xf0000000);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x10), 0x8);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x11), 0xc);
}

static void target_x2apic(struct kunit *test)
{
	static const u32 ids[IRQ_TEST_VCPUS] = { 0, 3, 0x21, 0x3f5 };
	struct keel_lapic *src;
	int i;

	irq_test_exit(test);
	irq_fixture_new(test, ids);
	src = lapic_of(test, 0);
	/* the INIT that wakes an AP finds it in xAPIC mode, whatever its ID */
	enter_x2apic(test, 0);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 0x21), 0x4);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 0x3f5), 0x8);
	for (i = 1; i < IRQ_TEST_VCPUS; i++)
		enter_x2apic(test, i);
	for (i = 0; i < IRQ_TEST_VCPUS; i++)
		KUNIT_EXPECT_EQ(test, PHYS(test, src, ids[i]), BIT(i));
	KUNIT_EXPECT_EQ(test, PHYS(test, src, 0xff), 0);
	KUNIT_EXPECT_EQ(test, PHYS(test, src, ~0u), 0xf);
	/* logical IDs follow from those: cluster and bit */
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x00000009), 0x3);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x00020002), 0x4);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x003f0020), 0x8);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0x00400001), 0);
	KUNIT_EXPECT_EQ(test, LOGICAL(test, src, 0xffff0001), 0);
	/* a device's 0xff: everybody, unless the quirk is off */
	KUNIT_EXPECT_EQ(test, PHYS(test, NULL, 0xff), 0xf);
	vm_of(test)->x2apic_no_broadcast_quirk = true;
	KUNIT_EXPECT_EQ(test, PHYS(test, NULL, 0xff), 0);
}

static void target_lowest_priority(struct kunit *test)
{
	struct keel_apic_msg msg = {
		.dest = 0xff, .mode = APIC_DM_LOWEST, .logical = true, .lowest = true,
	};
	u32 seen = 0;
	int i;

	for (i = 0; i < IRQ_TEST_VCPUS; i++) {
		u32 one = hit(test, NULL, msg);

		KUNIT_EXPECT_EQ(test, hweight32(one), 1);
		seen |= one;
	}
	KUNIT_EXPECT_EQ(test, seen, 0xf);	/* in turn */
	keel_lapic_write(lapic_of(test, 0), APIC_TASKPRI, 0x30);
	keel_lapic_write(lapic_of(test, 1), APIC_TASKPRI, 0x20);
	keel_lapic_write(lapic_of(test, 2), APIC_TASKPRI, 0x10);
	keel_lapic_write(lapic_of(test, 3), APIC_SPIV, 0xff);	/* off */
	KUNIT_EXPECT_EQ(test, hit(test, NULL, msg), 0x4);
	KUNIT_EXPECT_EQ(test, hit(test, NULL, msg), 0x4);
}

static struct kunit_case target_cases[] = {
	KUNIT_CASE(target_physical),
	KUNIT_CASE(target_id_changes),
	KUNIT_CASE(target_flat),
	KUNIT_CASE(target_cluster),
	KUNIT_CASE(target_x2apic),
	KUNIT_CASE(target_lowest_priority),
	{}
};

/* ---- suites ---- */

static struct kunit_suite lapic_suite = {
	.name = "keel-lapic",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = lapic_cases,
};

static struct kunit_suite timer_suite = {
	.name = "keel-lapic-timer",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = timer_cases,
};

static struct kunit_suite target_suite = {
	.name = "keel-apic-targets",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = target_cases,
};

kunit_test_suites(&lapic_suite, &timer_suite, &target_suite);
