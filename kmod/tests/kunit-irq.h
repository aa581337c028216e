/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the KUnit suites of the interrupt controllers share: a VM that has
 * nothing but them, and vCPUs that have nothing but a LAPIC.
 */
#ifndef KEEL_KUNIT_IRQ_H
#define KEEL_KUNIT_IRQ_H

#include <kunit/test.h>
#include <linux/delay.h>

#include "../keel.h"
#include "../irq/chips.h"
#include "../irq/lapic.h"

#define IRQ_TEST_VCPUS	4

struct irq_fixture {
	struct keel_vm *vm;
	struct keel_vcpu *vcpu[IRQ_TEST_VCPUS];
};

/* APIC IDs 0 to 3, or those of @ids. */
struct irq_fixture *irq_fixture_new(struct kunit *test, const u32 *ids);
int irq_test_init(struct kunit *test);
void irq_test_exit(struct kunit *test);

static inline struct keel_lapic *lapic_of(struct kunit *test, int n)
{
	return ((struct irq_fixture *)test->priv)->vcpu[n]->lapic;
}

static inline struct keel_vm *vm_of(struct kunit *test)
{
	return ((struct irq_fixture *)test->priv)->vm;
}

static inline bool requested(struct keel_lapic *l, u8 vector)
{
	return test_bit(vector, l->irr);
}

/* Take the interrupt out of IRR again. Return: was it there? */
static inline bool consume(struct keel_lapic *l, u8 vector)
{
	return test_and_clear_bit(vector, l->irr);
}

/* Wait for it, then take it: an emulated host can be slow. */
static inline bool arrives(struct keel_lapic *l, u8 vector)
{
	int i;

	for (i = 0; i < 500; i++) {
		if (consume(l, vector))
			return true;
		usleep_range(10000, 11000);
	}
	return false;
}

static inline void lapic_on(struct keel_lapic *l)
{
	keel_lapic_write(l, APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
}

#endif /* KEEL_KUNIT_IRQ_H */
