// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: PIC, PIT, IOAPIC, routing, buses, the coalesced ring. No vCPU runs:
 * the vCPUs here are memory with a LAPIC in it.
 */
#include "kunit-irq.h"
#include "../irq/pit.h"

/* ---- fixture ---- */

static struct keel_vcpu *vcpu_new(struct kunit *test, struct keel_vm *vm, u32 id)
{
	struct keel_vcpu *vcpu = kunit_kzalloc(test, sizeof(*vcpu), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, vcpu);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->cpu = -1;
	rcuwait_init(&vcpu->wait);
	KUNIT_ASSERT_EQ(test, keel_lapic_create(vcpu), 0);
	keel_lapic_reset(vcpu, false);
	keel_lapic_publish(vcpu);
	lapic_on(vcpu->lapic);
	return vcpu;
}

struct irq_fixture *irq_fixture_new(struct kunit *test, const u32 *ids)
{
	struct irq_fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	struct keel_vm *vm = kunit_kzalloc(test, sizeof(*vm), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, f);
	KUNIT_ASSERT_NOT_NULL(test, vm);
	f->vm = vm;
	mutex_init(&vm->lock);
	mutex_init(&vm->slots_lock);
	mutex_init(&vm->irq_lock);
	spin_lock_init(&vm->irqfds_lock);
	spin_lock_init(&vm->ring_lock);
	INIT_LIST_HEAD(&vm->irqfds);
	INIT_LIST_HEAD(&vm->ioeventfds);
	INIT_LIST_HEAD(&vm->coalesced_zones);
	INIT_HLIST_HEAD(&vm->irq_ack_notifiers);
	xa_init(&vm->vcpus);
	KUNIT_ASSERT_EQ(test, init_srcu_struct(&vm->srcu), 0);
	KUNIT_ASSERT_EQ(test, init_srcu_struct(&vm->irq_srcu), 0);
	KUNIT_ASSERT_EQ(test, keel_irq_vm_init(vm), 0);
	KUNIT_ASSERT_EQ(test, keel_irqchip_create(vm), 0);
	for (i = 0; i < IRQ_TEST_VCPUS; i++)
		f->vcpu[i] = vcpu_new(test, vm, ids ? ids[i] : i);
	test->priv = f;
	return f;
}

int irq_test_init(struct kunit *test)
{
	irq_fixture_new(test, NULL);
	return 0;
}

void irq_test_exit(struct kunit *test)
{
	struct irq_fixture *f = test->priv;
	int i;

	if (!f)
		return;
	keel_irq_vm_destroy(f->vm);
	for (i = 0; i < IRQ_TEST_VCPUS; i++)
		keel_lapic_free(f->vcpu[i]);
	cleanup_srcu_struct(&f->vm->irq_srcu);
	cleanup_srcu_struct(&f->vm->srcu);
}

/* What a test wants to know about EOIs. */
struct ack_counter {
	struct keel_ack_notifier n;
	int acks;
};

static void count_ack(struct keel_ack_notifier *n)
{
	container_of(n, struct ack_counter, n)->acks++;
}

/* ---- PIC ---- */

static struct keel_pic *pic_ready(struct kunit *test)
{
	struct keel_pic *pic = vm_of(test)->pic;

	keel_pic_outb(pic, 0x20, 0x11);
	keel_pic_outb(pic, 0x21, 0x20);
	keel_pic_outb(pic, 0x21, 0x04);
	keel_pic_outb(pic, 0x21, 0x01);
	keel_pic_outb(pic, 0xa0, 0x11);
	keel_pic_outb(pic, 0xa1, 0x28);
	keel_pic_outb(pic, 0xa1, 0x02);
	keel_pic_outb(pic, 0xa1, 0x01);
	return pic;
}

static void pic_pulse(struct keel_pic *pic, int pin)
{
	keel_pic_set_irq(pic, pin, 0, 1);
	keel_pic_set_irq(pic, pin, 0, 0);
}

static void pic_priorities(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);
	pic_pulse(pic, 3);
	pic_pulse(pic, 1);
	KUNIT_EXPECT_EQ(test, keel_pic_peek(pic), 0x21);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x21);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);	/* 3 is held back by 1 */
	pic_pulse(pic, 0);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x20);	/* 0 is not */
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x23);
	keel_pic_outb(pic, 0x20, 0x63);			/* specific EOI */
	KUNIT_EXPECT_EQ(test, pic->unit[0].isr, 0);
}

static void pic_cascade(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	pic_pulse(pic, 10);
	KUNIT_EXPECT_TRUE(test, pic->output);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x2a);
	KUNIT_EXPECT_EQ(test, pic->unit[0].isr, 0x04);
	KUNIT_EXPECT_EQ(test, pic->unit[1].isr, 0x04);
	/* fully nested: the slave's 8 does not get through the master's 2 ... */
	pic_pulse(pic, 8);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);
	/* ... until that has ended, although 10 is still in service */
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x28);
	keel_pic_outb(pic, 0xa0, 0x20);
	keel_pic_outb(pic, 0xa0, 0x20);
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, pic->unit[1].isr, 0);
	KUNIT_EXPECT_FALSE(test, pic->output);
}

/* A masked slave input takes its request to the master back. */
static void pic_cascade_withdrawn(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	pic_pulse(pic, 12);
	KUNIT_EXPECT_TRUE(test, pic->output);
	keel_pic_outb(pic, 0xa1, 0x10);
	KUNIT_EXPECT_FALSE(test, pic->output);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);
	keel_pic_outb(pic, 0xa1, 0);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x2c);
}

static void pic_edge_and_level(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	/* edge: one interrupt for one rise */
	KUNIT_EXPECT_EQ(test, keel_pic_set_irq(pic, 5, 0, 1), 1);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x25);
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);
	keel_pic_set_irq(pic, 5, 0, 0);

	/* level: as long as the line is up */
	keel_pic_outb(pic, 0x4d0, 0x20);
	keel_pic_set_irq(pic, 5, 0, 1);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x25);
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x25);
	keel_pic_set_irq(pic, 5, 0, 0);
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);

	/* a line that two sources hold */
	keel_pic_set_irq(pic, 5, 0, 1);
	keel_pic_set_irq(pic, 5, 1, 1);
	keel_pic_set_irq(pic, 5, 0, 0);
	KUNIT_EXPECT_TRUE(test, pic->output);
	keel_pic_set_irq(pic, 5, 1, 0);
	KUNIT_EXPECT_FALSE(test, pic->output);

	/* IRQ 0, 1, 2, 8 and 13 stay what they are */
	keel_pic_outb(pic, 0x4d0, 0xff);
	keel_pic_outb(pic, 0x4d1, 0xff);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x4d0), 0xf8);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x4d1), 0xde);
}

static void pic_status(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	keel_pic_outb(pic, 0x21, 0x08);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x21), 0x08);
	KUNIT_EXPECT_EQ(test, keel_pic_set_irq(pic, 3, 0, 1), -1);	/* masked */
	KUNIT_EXPECT_EQ(test, keel_pic_set_irq(pic, 4, 0, 1), 1);
	keel_pic_set_irq(pic, 4, 0, 0);
	KUNIT_EXPECT_EQ(test, keel_pic_set_irq(pic, 4, 0, 1), 0);	/* coalesced */
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x20), 0x18);	/* IRR */
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x24);
	keel_pic_outb(pic, 0x20, 0x0b);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x20), 0x10);	/* ISR */
	keel_pic_outb(pic, 0x20, 0x0a);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x20), 0x08);
}

static void pic_rotation(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	pic_pulse(pic, 3);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x23);
	keel_pic_outb(pic, 0x20, 0xa0);		/* rotate on non-specific EOI */
	pic_pulse(pic, 0);
	pic_pulse(pic, 3);
	pic_pulse(pic, 4);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x24);	/* now the first of all */
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x20);
	keel_pic_outb(pic, 0x20, 0x20);
	keel_pic_outb(pic, 0x20, 0xc2);		/* set priority: 2 is the last */
	pic_pulse(pic, 0);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x23);
}

static void pic_automatic_eoi(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	keel_pic_outb(pic, 0x20, 0x11);
	keel_pic_outb(pic, 0x21, 0x20);
	keel_pic_outb(pic, 0x21, 0x04);
	keel_pic_outb(pic, 0x21, 0x03);
	pic_pulse(pic, 1);
	pic_pulse(pic, 6);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x21);
	KUNIT_EXPECT_EQ(test, pic->unit[0].isr, 0);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x26);
	keel_pic_outb(pic, 0x20, 0x80);		/* rotate in automatic EOI mode */
	pic_pulse(pic, 1);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x21);
	pic_pulse(pic, 1);
	pic_pulse(pic, 6);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x26);
}

static void pic_special_mask(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	pic_pulse(pic, 1);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x21);
	pic_pulse(pic, 5);
	keel_pic_outb(pic, 0x21, 0x02);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), -1);
	keel_pic_outb(pic, 0x20, 0x68);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x25);
	/* the masked one is not what a non-specific EOI ends */
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, pic->unit[0].isr, 0x02);
}

static void pic_poll(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);

	keel_pic_outb(pic, 0x20, 0x0c);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x20), 0);
	pic_pulse(pic, 6);
	keel_pic_outb(pic, 0x20, 0x0c);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x20), 0x86);
	KUNIT_EXPECT_EQ(test, pic->unit[0].isr, 0x40);
	KUNIT_EXPECT_EQ(test, keel_pic_inb(pic, 0x20), 0);	/* IRR again */
}

static void pic_initialization(struct kunit *test)
{
	struct keel_pic *pic = pic_ready(test);
	struct ack_counter counter = { .n = { .gsi = 4, .acked = count_ack } };

	keel_ack_notifier_add(vm_of(test), &counter.n);
	keel_pic_outb(pic, 0x21, 0xff);
	pic_pulse(pic, 4);
	KUNIT_EXPECT_EQ(test, counter.acks, 0);
	keel_pic_outb(pic, 0x20, 0x11);
	/* what was requested will never be ended otherwise */
	KUNIT_EXPECT_EQ(test, counter.acks, 1);
	KUNIT_EXPECT_EQ(test, pic->unit[0].irr, 0);
	KUNIT_EXPECT_EQ(test, pic->unit[0].imr, 0);
	keel_pic_outb(pic, 0x21, 0x70);
	keel_pic_outb(pic, 0x21, 0x04);
	keel_pic_outb(pic, 0x21, 0x01);
	pic_pulse(pic, 4);
	KUNIT_EXPECT_EQ(test, keel_pic_ack(pic), 0x74);
	keel_pic_outb(pic, 0x20, 0x20);
	KUNIT_EXPECT_EQ(test, counter.acks, 2);
	keel_ack_notifier_remove(vm_of(test), &counter.n);
}

static void pic_state_is_checked(struct kunit *test)
{
	struct kvm_pic_state s;
	struct keel_pic *pic = vm_of(test)->pic;

	memset(&s, 0xff, sizeof(s));
	keel_pic_set_state(pic, 0, &s);
	keel_pic_get_state(pic, 0, &s);
	KUNIT_EXPECT_EQ(test, s.priority_add, 7);
	KUNIT_EXPECT_EQ(test, s.init_state, 3);
	KUNIT_EXPECT_EQ(test, s.elcr, 0xf8);
	KUNIT_EXPECT_EQ(test, s.elcr_mask, 0xf8);
	KUNIT_EXPECT_EQ(test, s.auto_eoi, 1);
}

/* INTR reaches the CPU whose LINT0 lets it. */
static void pic_through_lint0(struct kunit *test)
{
	struct irq_fixture *f = test->priv;
	struct keel_lapic *l = lapic_of(test, 0);
	struct keel_pic *pic = pic_ready(test);

	keel_lapic_write(l, APIC_LVT0, APIC_DM_EXTINT);
	pic_pulse(pic, 4);
	KUNIT_EXPECT_EQ(test, keel_irq_pending(f->vcpu[1]), -1);
	KUNIT_EXPECT_EQ(test, keel_irq_pending(f->vcpu[0]), 0x24);
	keel_lapic_write(l, APIC_LVT0, APIC_DM_EXTINT | APIC_LVT_MASKED);
	KUNIT_EXPECT_EQ(test, keel_irq_pending(f->vcpu[0]), -1);
	keel_lapic_write(l, APIC_LVT0, APIC_DM_EXTINT);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(f->vcpu[0]), 0x24);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(f->vcpu[0]), -1);
	/* no APIC at all */
	keel_lapic_set_base(f->vcpu[1], APIC_DEFAULT_PHYS_BASE, true);
	pic_pulse(pic, 3);
	KUNIT_EXPECT_EQ(test, keel_irq_ack(f->vcpu[1]), 0x23);
}

static struct kunit_case pic_cases[] = {
	KUNIT_CASE(pic_priorities),
	KUNIT_CASE(pic_cascade),
	KUNIT_CASE(pic_cascade_withdrawn),
	KUNIT_CASE(pic_edge_and_level),
	KUNIT_CASE(pic_status),
	KUNIT_CASE(pic_rotation),
	KUNIT_CASE(pic_automatic_eoi),
	KUNIT_CASE(pic_special_mask),
	KUNIT_CASE(pic_poll),
	KUNIT_CASE(pic_initialization),
	KUNIT_CASE(pic_state_is_checked),
	KUNIT_CASE(pic_through_lint0),
	{}
};

/* ---- PIT ---- */

static struct keel_pit *pit_new(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, keel_pit_create(vm_of(test), KVM_PIT_SPEAKER_DUMMY), 0);
	return vm_of(test)->pit;
}

static void pit_creation(struct kunit *test)
{
	struct keel_vm *vm = vm_of(test);
	struct kvm_pit_state2 s;

	KUNIT_EXPECT_EQ(test, keel_ioctl_get_pit2(vm, &s), -ENXIO);
	pit_new(test);
	KUNIT_EXPECT_EQ(test, keel_pit_create(vm, 0), -EEXIST);
	KUNIT_EXPECT_EQ(test, keel_ioctl_get_pit2(vm, &s), 0);
	KUNIT_EXPECT_EQ(test, s.channels[0].count, KEEL_PIT_MAX);
	KUNIT_EXPECT_EQ(test, s.channels[0].gate, 1);
	KUNIT_EXPECT_EQ(test, s.channels[2].gate, 0);
}

static void pit_counting(struct kunit *test)
{
	struct kvm_pit_channel_state ch = { .count = 1000 };

	ch.mode = 0;
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 0), 1000);
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 999), 1);
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 1001), 0xffff);
	KUNIT_EXPECT_FALSE(test, keel_pit_out(&ch, 999));
	KUNIT_EXPECT_TRUE(test, keel_pit_out(&ch, 1000));
	ch.mode = 1;
	KUNIT_EXPECT_TRUE(test, keel_pit_out(&ch, 999));
	KUNIT_EXPECT_FALSE(test, keel_pit_out(&ch, 1000));
	ch.mode = 2;
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 2001), 999);
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 3000), 1000);
	ch.mode = 3;
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 1), 998);
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 500), 1000);
	KUNIT_EXPECT_TRUE(test, keel_pit_out(&ch, 499));
	KUNIT_EXPECT_FALSE(test, keel_pit_out(&ch, 500));
	ch.count = KEEL_PIT_MAX;
	ch.mode = 2;
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 0), 0);
	KUNIT_EXPECT_EQ(test, keel_pit_counter(&ch, 1), 0xffff);
}

static void pit_time(struct kunit *test)
{
	u64 ticks;

	KUNIT_EXPECT_EQ(test, keel_pit_ticks(NSEC_PER_SEC), KEEL_PIT_HZ);
	for (ticks = 1; ticks < 1ULL << 40; ticks = ticks * 3 + 1) {
		/* at the time of a tick it has happened, a tick's time before not */
		KUNIT_EXPECT_GE(test, keel_pit_ticks(keel_pit_ns(ticks)), ticks);
		KUNIT_EXPECT_LT(test, keel_pit_ticks(keel_pit_ns(ticks) - 839), ticks);
	}
}

static void pit_access(struct kunit *test)
{
	struct keel_pit *pit = pit_new(test);
	u16 value;

	/* low byte, then high byte */
	keel_pit_outb(pit, 0x43, 0xb4);
	keel_pit_outb(pit, 0x42, 0x34);
	keel_pit_outb(pit, 0x42, 0x12);
	KUNIT_EXPECT_EQ(test, pit->ch[2].count, 0x1234);
	KUNIT_EXPECT_EQ(test, pit->ch[2].mode, 2);
	/* 0 is 65536 */
	keel_pit_outb(pit, 0x42, 0);
	keel_pit_outb(pit, 0x42, 0);
	KUNIT_EXPECT_EQ(test, pit->ch[2].count, KEEL_PIT_MAX);
	/* high byte only; mode 6 is mode 2 */
	keel_pit_outb(pit, 0x43, 0xac);
	keel_pit_outb(pit, 0x42, 0x80);
	KUNIT_EXPECT_EQ(test, pit->ch[2].count, 0x8000);
	KUNIT_EXPECT_EQ(test, pit->ch[2].mode, 2);

	/* a latched count stands still until both bytes are read */
	keel_pit_outb(pit, 0x43, 0xb4);
	keel_pit_outb(pit, 0x42, 0xff);
	keel_pit_outb(pit, 0x42, 0xff);
	keel_pit_outb(pit, 0x43, 0x80);
	value = pit->ch[2].latched_count;
	keel_pit_outb(pit, 0x43, 0x80);		/* a second latch is ignored */
	KUNIT_EXPECT_EQ(test, keel_pit_inb(pit, 0x42), value & 0xff);
	KUNIT_EXPECT_EQ(test, keel_pit_inb(pit, 0x42), value >> 8);
	KUNIT_EXPECT_EQ(test, pit->ch[2].count_latched, 0);

	/* read-back of the status: mode 2, both bytes */
	keel_pit_outb(pit, 0x43, 0xe8);
	KUNIT_EXPECT_EQ(test, keel_pit_inb(pit, 0x42) & 0x3f, 0x34);
	KUNIT_EXPECT_EQ(test, keel_pit_inb(pit, 0x43), 0);
}

static void pit_speaker(struct kunit *test)
{
	struct keel_pit *pit = pit_new(test);

	keel_pit_outb(pit, 0x61, 0x03);
	KUNIT_EXPECT_EQ(test, keel_pit_inb(pit, 0x61) & 3, 3);
	KUNIT_EXPECT_TRUE(test, pit->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	keel_pit_outb(pit, 0x61, 0x00);
	KUNIT_EXPECT_EQ(test, keel_pit_inb(pit, 0x61) & 3, 0);
}

static void pit_state_is_checked(struct kunit *test)
{
	struct keel_pit *pit = pit_new(test);
	struct kvm_pit_state2 s;

	memset(&s, 0xff, sizeof(s));
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_pit2(vm_of(test), &s), 0);
	KUNIT_EXPECT_EQ(test, pit->ch[0].count, KEEL_PIT_MAX);
	KUNIT_EXPECT_EQ(test, pit->flags, 3);
	memset(&s, 0, sizeof(s));
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_pit2(vm_of(test), &s), 0);
	KUNIT_EXPECT_EQ(test, pit->ch[1].count, KEEL_PIT_MAX);
	keel_pit_inb(pit, 0x41);	/* divides by it */
}

/* Ticks that the guest was too slow for come when it ends the one before. */
static void pit_reinjection(struct kunit *test)
{
	struct keel_lapic *l = lapic_of(test, 0);
	struct keel_pit *pit = pit_new(test);
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;

	keel_ioapic_writel(ioapic, 0, 0x10);
	keel_ioapic_writel(ioapic, 0x10, 0x40);	/* pin 0: edge, vector 0x40 */
	pit->pending = 3;
	pit->acked = false;
	pit->notifier.acked(&pit->notifier);
	KUNIT_EXPECT_EQ(test, pit->pending, 2);
	KUNIT_EXPECT_TRUE(test, consume(l, 0x40));
	KUNIT_EXPECT_FALSE(test, pit->acked);
	pit->notifier.acked(&pit->notifier);
	KUNIT_EXPECT_TRUE(test, consume(l, 0x40));
	pit->notifier.acked(&pit->notifier);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x40));
	KUNIT_EXPECT_TRUE(test, pit->acked);

	/* masked and unmasked: nothing is owed */
	pit->pending = 3;
	keel_ioapic_writel(ioapic, 0x10, 0x10040);
	keel_ioapic_writel(ioapic, 0x10, 0x40);
	KUNIT_EXPECT_EQ(test, pit->pending, 0);
}

/* Real time: channel 0 at 1 kHz gives its interrupts, none too many. */
static void pit_interrupts(struct kunit *test)
{
	struct keel_lapic *l = lapic_of(test, 0);
	struct keel_pit *pit = pit_new(test);
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;
	struct kvm_reinject_control off = { .pit_reinject = 0 };
	u64 start, ms;

	KUNIT_EXPECT_EQ(test, keel_ioctl_reinject(vm_of(test), &off), 0);
	keel_ioapic_writel(ioapic, 0, 0x10);
	keel_ioapic_writel(ioapic, 0x10, 0x40);
	start = ktime_get_ns();
	keel_pit_outb(pit, 0x43, 0x34);
	keel_pit_outb(pit, 0x40, 0xa9);		/* 1193 */
	keel_pit_outb(pit, 0x40, 0x04);
	KUNIT_EXPECT_TRUE(test, arrives(l, 0x40));
	usleep_range(50000, 60000);
	KUNIT_EXPECT_TRUE(test, arrives(l, 0x40));
	hrtimer_cancel(&pit->timer);
	ms = div_u64(ktime_get_ns() - start, NSEC_PER_MSEC);
	KUNIT_EXPECT_GT(test, pit->expiries, 1);
	KUNIT_EXPECT_LE(test, pit->expiries, ms + 1);
}

static struct kunit_case pit_cases[] = {
	KUNIT_CASE(pit_creation),
	KUNIT_CASE(pit_counting),
	KUNIT_CASE(pit_time),
	KUNIT_CASE(pit_access),
	KUNIT_CASE(pit_speaker),
	KUNIT_CASE(pit_state_is_checked),
	KUNIT_CASE(pit_reinjection),
	KUNIT_CASE(pit_interrupts),
	{}
};

/* ---- IOAPIC ---- */

#define LEVEL	BIT(15)
#define REMOTE	BIT(14)
#define MASKED	BIT(16)

static void set_rte(struct keel_ioapic *ioapic, int pin, u32 low, u32 high)
{
	keel_ioapic_writel(ioapic, 0x00, 0x11 + 2 * pin);
	keel_ioapic_writel(ioapic, 0x10, high);
	keel_ioapic_writel(ioapic, 0x00, 0x10 + 2 * pin);
	keel_ioapic_writel(ioapic, 0x10, low);
}

static u32 rte(struct keel_ioapic *ioapic, int pin)
{
	keel_ioapic_writel(ioapic, 0x00, 0x10 + 2 * pin);
	return keel_ioapic_readl(ioapic, 0x10);
}

static void ioapic_registers(struct kunit *test)
{
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;

	keel_ioapic_writel(ioapic, 0, 1);
	KUNIT_EXPECT_EQ(test, keel_ioapic_readl(ioapic, 0x10), 0x170011);
	keel_ioapic_writel(ioapic, 0, 0);
	keel_ioapic_writel(ioapic, 0x10, 0xff000000);
	KUNIT_EXPECT_EQ(test, keel_ioapic_readl(ioapic, 0x10), 0x0f000000);
	KUNIT_EXPECT_EQ(test, rte(ioapic, 23), MASKED);
	/* delivery status and remote IRR are not the guest's to write */
	set_rte(ioapic, 7, 0xffffffff, 0xffffffff);
	KUNIT_EXPECT_EQ(test, rte(ioapic, 7), 0x1afff);
	keel_ioapic_writel(ioapic, 0x00, 0x11 + 2 * 7);
	KUNIT_EXPECT_EQ(test, keel_ioapic_readl(ioapic, 0x10), 0xff000000);
	/* behind the last entry */
	keel_ioapic_writel(ioapic, 0x00, 0x40);
	keel_ioapic_writel(ioapic, 0x10, 0x55);
	KUNIT_EXPECT_EQ(test, keel_ioapic_readl(ioapic, 0x10), ~0u);
}

static void ioapic_edge(struct kunit *test)
{
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;
	struct keel_lapic *l = lapic_of(test, 2);

	set_rte(ioapic, 4, 0x51, 2 << 24);
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 4, 0, 1), 1);
	KUNIT_EXPECT_TRUE(test, consume(l, 0x51));
	/* high already: no edge */
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 4, 0, 1), 0);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x51));
	keel_ioapic_set_irq(ioapic, 4, 0, 0);
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 4, 0, 1), 1);
	keel_ioapic_set_irq(ioapic, 4, 0, 0);
	/* still in IRR: coalesced */
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 4, 0, 1), 0);
	keel_ioapic_set_irq(ioapic, 4, 0, 0);
	KUNIT_EXPECT_FALSE(test, test_bit(0x51, l->tmr));
	consume(l, 0x51);

	/* an edge that comes while the pin is masked is lost */
	set_rte(ioapic, 4, 0x51 | MASKED, 2 << 24);
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 4, 0, 1), -1);
	set_rte(ioapic, 4, 0x51, 2 << 24);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x51));
}

static void take_and_end(struct kunit *test, int cpu, u8 vector)
{
	struct irq_fixture *f = test->priv;

	KUNIT_EXPECT_EQ(test, keel_irq_ack(f->vcpu[cpu]), vector);
	keel_lapic_write(lapic_of(test, cpu), APIC_EOI, 0);
}

static void ioapic_level(struct kunit *test)
{
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;
	struct keel_lapic *l = lapic_of(test, 1);

	set_rte(ioapic, 9, 0x61 | LEVEL, 1 << 24);
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 9, 0, 1), 1);
	KUNIT_EXPECT_TRUE(test, rte(ioapic, 9) & REMOTE);
	KUNIT_EXPECT_TRUE(test, test_bit(0x61, l->tmr));
	/* the line is still up at the EOI: once more */
	take_and_end(test, 1, 0x61);
	KUNIT_EXPECT_TRUE(test, requested(l, 0x61));
	KUNIT_EXPECT_TRUE(test, rte(ioapic, 9) & REMOTE);
	/* remote IRR holds it back although the line moves */
	keel_ioapic_set_irq(ioapic, 9, 0, 0);
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 9, 0, 1), 0);
	keel_ioapic_set_irq(ioapic, 9, 0, 0);
	take_and_end(test, 1, 0x61);
	KUNIT_EXPECT_FALSE(test, requested(l, 0x61));
	KUNIT_EXPECT_FALSE(test, rte(ioapic, 9) & REMOTE);

	/* unmasked while the line is up */
	set_rte(ioapic, 9, 0x61 | LEVEL | MASKED, 1 << 24);
	KUNIT_EXPECT_EQ(test, keel_ioapic_set_irq(ioapic, 9, 0, 1), -1);
	set_rte(ioapic, 9, 0x61 | LEVEL, 1 << 24);
	KUNIT_EXPECT_TRUE(test, requested(l, 0x61));
	/* Linux clears remote IRR so */
	set_rte(ioapic, 9, 0x61 | MASKED, 1 << 24);
	KUNIT_EXPECT_FALSE(test, rte(ioapic, 9) & REMOTE);
}

static void ioapic_sources(struct kunit *test)
{
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;

	set_rte(ioapic, 9, 0x61 | LEVEL, 1 << 24);
	keel_ioapic_set_irq(ioapic, 9, 0, 1);
	keel_ioapic_set_irq(ioapic, 9, 1, 1);
	keel_ioapic_set_irq(ioapic, 9, 0, 0);
	take_and_end(test, 1, 0x61);
	KUNIT_EXPECT_TRUE(test, requested(lapic_of(test, 1), 0x61));
	keel_ioapic_set_irq(ioapic, 9, 1, 0);
	take_and_end(test, 1, 0x61);
	KUNIT_EXPECT_FALSE(test, requested(lapic_of(test, 1), 0x61));
}

static void ioapic_ack_notifiers(struct kunit *test)
{
	struct ack_counter level = { .n = { .gsi = 9, .acked = count_ack } };
	struct ack_counter edge = { .n = { .gsi = 4, .acked = count_ack } };
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;

	keel_ack_notifier_add(vm_of(test), &level.n);
	keel_ack_notifier_add(vm_of(test), &edge.n);
	set_rte(ioapic, 9, 0x61 | LEVEL, 1 << 24);
	set_rte(ioapic, 4, 0x51, 1 << 24);
	keel_ioapic_set_irq(ioapic, 9, 0, 1);
	keel_ioapic_set_irq(ioapic, 9, 0, 0);
	take_and_end(test, 1, 0x61);
	KUNIT_EXPECT_EQ(test, level.acks, 1);
	KUNIT_EXPECT_EQ(test, edge.acks, 0);
	keel_ioapic_set_irq(ioapic, 4, 0, 1);
	take_and_end(test, 1, 0x51);
	KUNIT_EXPECT_EQ(test, edge.acks, 1);
	KUNIT_EXPECT_EQ(test, level.acks, 1);
	keel_ack_notifier_remove(vm_of(test), &level.n);
	keel_ack_notifier_remove(vm_of(test), &edge.n);
}

static void ioapic_state(struct kunit *test)
{
	struct keel_ioapic *ioapic = vm_of(test)->ioapic;
	struct kvm_ioapic_state s;

	set_rte(ioapic, 4, 0x51, 1 << 24);
	keel_ioapic_set_irq(ioapic, 4, 0, 1);
	keel_ioapic_get_state(ioapic, &s);
	KUNIT_EXPECT_EQ(test, s.base_address, 0xfec00000);
	KUNIT_EXPECT_EQ(test, s.irr, 0);	/* it has been delivered */
	consume(lapic_of(test, 1), 0x51);
	s.irr = BIT(4);				/* as if it had not */
	s.base_address = 0x1000;
	keel_ioapic_set_state(ioapic, &s);
	KUNIT_EXPECT_TRUE(test, requested(lapic_of(test, 1), 0x51));
	keel_ioapic_get_state(ioapic, &s);
	KUNIT_EXPECT_EQ(test, s.base_address, 0xfec00000);
}

static struct kunit_case ioapic_cases[] = {
	KUNIT_CASE(ioapic_registers),
	KUNIT_CASE(ioapic_edge),
	KUNIT_CASE(ioapic_level),
	KUNIT_CASE(ioapic_sources),
	KUNIT_CASE(ioapic_ack_notifiers),
	KUNIT_CASE(ioapic_state),
	{}
};

/* ---- suites ---- */

static struct kunit_suite pic_suite = {
	.name = "keel-pic",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = pic_cases,
};

static struct kunit_suite pit_suite = {
	.name = "keel-pit",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = pit_cases,
};

static struct kunit_suite ioapic_suite = {
	.name = "keel-ioapic",
	.init = irq_test_init,
	.exit = irq_test_exit,
	.test_cases = ioapic_cases,
};

kunit_test_suites(&pic_suite, &pit_suite, &ioapic_suite);
