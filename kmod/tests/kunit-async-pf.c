// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: asynchronous page faults, but for the guest's memory, which a kernel
 * thread does not have: MSRs, when one is possible, and pages on their way.
 */
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>
#include <asm/kvm_para.h>
#include <asm/processor-flags.h>

#include "kunit-irq.h"

#define ENABLED	(KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT)
#define GPA	0x40000ULL

static u32 shadow;
static const struct keel_backend *real_backend;

static u32 fake_get_shadow(struct keel_vcpu *vcpu)
{
	return shadow;
}

static const struct keel_backend fake_backend = {
	.name = "fake",
	.get_shadow = fake_get_shadow,
};

static struct keel_vcpu *vcpu_of(struct kunit *test)
{
	return ((struct irq_fixture *)test->priv)->vcpu[0];
}

/* An address space with nothing in it; nobody's, so that it is not taken down. */
static struct mm_struct *empty_mm(struct kunit *test)
{
	struct mm_struct *mm = kunit_kzalloc(test, sizeof(*mm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mm);
	mt_init_flags(&mm->mm_mt, MM_MT_FLAGS);
	mmap_init_lock(mm);
	atomic_set(&mm->mm_users, 1);
	atomic_set(&mm->mm_count, 1);
	return mm;
}

/* Linux 6.1 runs a module's suites before its init function, 6.12 after that. */
static bool before_module_init(void)
{
#ifdef MODULE
	return THIS_MODULE->state != MODULE_STATE_LIVE;
#else
	return false;
#endif
}

static int apf_test_init(struct kunit *test)
{
	struct keel_vcpu *vcpu;
	struct keel_vm *vm;

	irq_fixture_new(test, NULL);
	vm = vm_of(test);
	kref_init(&vm->refs);
	if (before_module_init())
		KUNIT_ASSERT_EQ(test, keel_async_pf_init(), 0);
	KUNIT_ASSERT_EQ(test, keel_slots_init(vm), 0);
	vm->mm = empty_mm(test);
	vcpu = vcpu_of(test);
	keel_async_pf_vcpu_init(vcpu);
	vcpu->regs.valid = KEEL_ALL_GROUPS;
	vcpu->regs.rflags = X86_EFLAGS_IF;
	vcpu->async_pf.en_msr = GPA | ENABLED;
	shadow = 0;
	real_backend = keel_backend;
	keel_backend = &fake_backend;
	return 0;
}

/* Workers use the vCPU until they have dropped the VM. */
static bool workers_done(struct keel_vm *vm)
{
	int i;

	for (i = 0; i < 500 && kref_read(&vm->refs) > 1; i++)
		usleep_range(10000, 11000);
	return kref_read(&vm->refs) == 1;
}

static void apf_test_exit(struct kunit *test)
{
	struct keel_vm *vm = vm_of(test);

	keel_async_pf_reset(vcpu_of(test));
	KUNIT_EXPECT_TRUE(test, workers_done(vm));
	if (before_module_init())
		keel_async_pf_exit();
	keel_slots_destroy(vm);
	irq_test_exit(test);
	keel_backend = real_backend;
}

/* ---- MSRs ---- */

static const struct apf_msr_case {
	u32 msr;
	u64 value;
	bool lapic, enforced;
	int ret;
} apf_msr_cases[] = {
	{ MSR_KVM_ASYNC_PF_EN, 0, true, false, 0 },
	/* the old way, by #PF alone: accepted, and not used */
	{ MSR_KVM_ASYNC_PF_EN, GPA | KVM_ASYNC_PF_ENABLED, true, false, 0 },
	{ MSR_KVM_ASYNC_PF_EN, BIT(4), true, false, -EINVAL },
	{ MSR_KVM_ASYNC_PF_EN, BIT(5), true, false, -EINVAL },
	/* there is no memory */
	{ MSR_KVM_ASYNC_PF_EN, GPA | ENABLED, true, false, -EINVAL },
	{ MSR_KVM_ASYNC_PF_INT, 0xef, true, false, 0 },
	{ MSR_KVM_ASYNC_PF_INT, 0x100, true, false, -EINVAL },
	{ MSR_KVM_ASYNC_PF_ACK, 1, true, false, 0 },
	/* userspace restores zeroes everywhere */
	{ MSR_KVM_ASYNC_PF_EN, 0, false, false, 0 },
	{ MSR_KVM_ASYNC_PF_EN, GPA, false, false, -EINVAL },
	{ MSR_KVM_ASYNC_PF_INT, 0, false, false, 0 },
	{ MSR_KVM_ASYNC_PF_INT, 0xef, false, false, -EINVAL },
	/* not in CPUID, and that counts */
	{ MSR_KVM_ASYNC_PF_EN, 0, true, true, -EINVAL },
	{ MSR_KVM_ASYNC_PF_INT, 0, true, true, -EINVAL },
	{ MSR_KVM_ASYNC_PF_ACK, 0, true, true, -EINVAL },
};

static void apf_msr_case_name(const struct apf_msr_case *c, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%x = %llx%s%s", c->msr, c->value,
		 c->lapic ? "" : " without LAPIC", c->enforced ? " enforced" : "");
}

KUNIT_ARRAY_PARAM(apf_msr_cases, apf_msr_cases, apf_msr_case_name);

static void apf_msrs(struct kunit *test)
{
	const struct apf_msr_case *c = test->param_value;
	struct keel_vcpu *vcpu = vcpu_of(test);
	struct keel_lapic *lapic = vcpu->lapic;
	u64 value = 1;

	vcpu->async_pf.en_msr = 0;
	if (!c->lapic)
		vcpu->lapic = NULL;
	vcpu->pv.enforce = c->enforced;
	vcpu->requests = 0;
	KUNIT_EXPECT_EQ(test, keel_async_pf_set_msr(vcpu, c->msr, c->value), c->ret);
	vcpu->lapic = lapic;
	KUNIT_EXPECT_EQ(test, keel_async_pf_get_msr(vcpu, c->msr, &value),
			c->enforced ? -EINVAL : 0);
	if (c->ret)
		return;
	KUNIT_EXPECT_EQ(test, value, c->msr == MSR_KVM_ASYNC_PF_ACK ? 0 : c->value);
	KUNIT_EXPECT_EQ(test, test_bit(KEEL_REQ_ASYNC_PF, &vcpu->requests),
			c->msr == MSR_KVM_ASYNC_PF_ACK);
}

/* ---- when ---- */

static void apf_possible(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test);

	KUNIT_EXPECT_TRUE(test, keel_async_pf_possible(vcpu));
	vcpu->regs.rflags = 0;
	KUNIT_EXPECT_FALSE(test, keel_async_pf_possible(vcpu));
	vcpu->regs.rflags = X86_EFLAGS_IF;
	shadow = KEEL_SHADOW_STI;
	KUNIT_EXPECT_FALSE(test, keel_async_pf_possible(vcpu));
	shadow = 0;
	vcpu->events.exception.pending = true;
	KUNIT_EXPECT_FALSE(test, keel_async_pf_possible(vcpu));
	vcpu->events.exception.pending = false;
	vcpu->events.interrupt.injected = true;
	KUNIT_EXPECT_FALSE(test, keel_async_pf_possible(vcpu));
	vcpu->events.interrupt.injected = false;
	KUNIT_EXPECT_TRUE(test, keel_async_pf_possible(vcpu));
	vcpu->async_pf.en_msr = GPA | KVM_ASYNC_PF_ENABLED;
	KUNIT_EXPECT_FALSE(test, keel_async_pf_possible(vcpu));
}

/* ---- pages on their way ---- */

/* The guest is in ring 0, where it did not want to be told: it waits, for one that comes. */
static void apf_waits_untold(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test);

	vcpu->requests = 0;
	KUNIT_EXPECT_TRUE(test, keel_async_pf_start(vcpu, 1, 0x1000, false));
	KUNIT_EXPECT_TRUE(test, workers_done(vm_of(test)));
	KUNIT_EXPECT_EQ(test, atomic_read(&vcpu->async_pf.in_flight), 0);
	KUNIT_EXPECT_TRUE(test, test_bit(KEEL_REQ_ASYNC_PF, &vcpu->requests));
	KUNIT_EXPECT_EQ(test, vcpu->stats.async_pf_not_present, 0);
	KUNIT_EXPECT_FALSE(test, list_empty(&vcpu->async_pf.fetches));
	/* nothing to say: it is only forgotten */
	keel_async_pf_deliver(vcpu);
	KUNIT_EXPECT_TRUE(test, list_empty(&vcpu->async_pf.fetches));
	KUNIT_EXPECT_EQ(test, vcpu->stats.async_pf_ready, 0);
}

static void apf_limit(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test);

	atomic_set(&vcpu->async_pf.in_flight, 64);
	KUNIT_EXPECT_FALSE(test, keel_async_pf_start(vcpu, 1, 0x1000, false));
	KUNIT_EXPECT_TRUE(test, list_empty(&vcpu->async_pf.fetches));
	KUNIT_EXPECT_EQ(test, kref_read(&vm_of(test)->refs), 1);
	atomic_set(&vcpu->async_pf.in_flight, 0);
}

/* Pages that have come, but of which the guest was not told yet, count, too. */
static void apf_limit_come(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test);
	int i;

	for (i = 0; i < 64; i++) {
		vcpu->requests = 0;
		KUNIT_EXPECT_TRUE(test, keel_async_pf_start(vcpu, i, i * 0x1000, false));
	}
	KUNIT_EXPECT_TRUE(test, workers_done(vm_of(test)));
	KUNIT_EXPECT_EQ(test, atomic_read(&vcpu->async_pf.in_flight), 0);
	KUNIT_EXPECT_FALSE(test, keel_async_pf_start(vcpu, 64, 64 * 0x1000, false));
	keel_async_pf_deliver(vcpu);
	vcpu->requests = 0;
	KUNIT_EXPECT_TRUE(test, keel_async_pf_start(vcpu, 64, 64 * 0x1000, false));
}

/* The guest stops it, or is reset, while workers wait for the address space. */
static void apf_forgotten(struct kunit *test)
{
	struct keel_vcpu *vcpu = vcpu_of(test);
	struct mm_struct *mm = vm_of(test)->mm;
	int how;

	for (how = 0; how < 2; how++) {
		mmap_write_lock(mm);
		/* somebody wants something of the vCPU: it does not sleep */
		keel_request(vcpu, KEEL_REQ_EVENT);
		KUNIT_EXPECT_TRUE(test, keel_async_pf_start(vcpu, 1, 0x1000, false));
		/* once for each page */
		KUNIT_EXPECT_TRUE(test, keel_async_pf_start(vcpu, 1, 0x1000, true));
		KUNIT_EXPECT_EQ(test, atomic_read(&vcpu->async_pf.in_flight), 1);
		KUNIT_EXPECT_TRUE(test, keel_async_pf_start(vcpu, 2, 0x2000, false));
		KUNIT_EXPECT_EQ(test, atomic_read(&vcpu->async_pf.in_flight), 2);
		/* none has come */
		keel_async_pf_deliver(vcpu);
		KUNIT_EXPECT_FALSE(test, list_empty(&vcpu->async_pf.fetches));
		if (how)
			keel_async_pf_reset(vcpu);
		else
			KUNIT_EXPECT_EQ(test, keel_async_pf_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, 0),
					0);
		KUNIT_EXPECT_TRUE(test, list_empty(&vcpu->async_pf.fetches));
		vcpu->requests = 0;
		mmap_write_unlock(mm);
		KUNIT_EXPECT_TRUE(test, workers_done(vm_of(test)));
		KUNIT_EXPECT_EQ(test, atomic_read(&vcpu->async_pf.in_flight), 0);
		KUNIT_EXPECT_EQ(test, vcpu->requests, 0);
		vcpu->async_pf.en_msr = GPA | ENABLED;
	}
}

static struct kunit_case apf_cases[] = {
	KUNIT_CASE_PARAM(apf_msrs, apf_msr_cases_gen_params),
	KUNIT_CASE(apf_possible),
	KUNIT_CASE(apf_waits_untold),
	KUNIT_CASE(apf_limit),
	KUNIT_CASE(apf_limit_come),
	KUNIT_CASE(apf_forgotten),
	{}
};

static struct kunit_suite apf_suite = {
	.name = "keel-async-pf",
	.init = apf_test_init,
	.exit = apf_test_exit,
	.test_cases = apf_cases,
};

kunit_test_suites(&apf_suite);
