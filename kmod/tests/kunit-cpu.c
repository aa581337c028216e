// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit: the tables of CPUID and MSRs, and the arithmetic of the clock. A vCPU
 * that never runs and a backend that only remembers.
 */
#include <kunit/test.h>
#include <linux/kvm.h>
#include <linux/math64.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <asm/apicdef.h>
#include <asm/cpufeature.h>
#include <asm/fpu/types.h>
#include <asm/kvm_para.h>
#include <asm/mce.h>
#include <asm/msr-index.h>
#include <asm/mtrr.h>
#include <asm/processor-flags.h>
#include <asm/tsc.h>

#include "../irq/irq.h"
#include "../keel.h"

#define BIT_OF(feature)	BIT((feature) % 32)

/* ---- fixture ---- */

struct fixture {
	struct keel_vm *vm;
	struct keel_vcpu *vcpu[2];
	const struct keel_backend *backend;
};

static u64 last_offset;

static void fake_set_tsc_offset(struct keel_vcpu *vcpu, u64 offset)
{
	last_offset = offset;
}

static void fake_read_regs(struct keel_vcpu *vcpu, u32 groups)
{
	vcpu->regs.valid |= groups;
}

static const struct keel_backend fake_backend = {
	.name = "fake",
	.read_regs = fake_read_regs,
	.set_tsc_offset = fake_set_tsc_offset,
};

static int cpu_test_init(struct kunit *test)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	int i;

	if (!f)
		return -ENOMEM;
	f->vm = kunit_kzalloc(test, sizeof(*f->vm), GFP_KERNEL);
	if (!f->vm)
		return -ENOMEM;
	xa_init(&f->vm->vcpus);
	f->backend = keel_backend;
	keel_backend = &fake_backend;
	keel_cpuid_init();
	keel_vm_clock_init(f->vm);
	for (i = 0; i < 2; i++) {
		f->vcpu[i] = kunit_kzalloc(test, sizeof(*f->vcpu[i]), GFP_KERNEL);
		if (!f->vcpu[i])
			return -ENOMEM;
		f->vcpu[i]->vm = f->vm;
		f->vcpu[i]->id = i;
		f->vcpu[i]->regs.valid = KEEL_ALL_GROUPS;
		f->vcpu[i]->fpu.xcr0 = XFEATURE_MASK_FP;
		keel_cpuid_vcpu_init(f->vcpu[i]);
		keel_msrs_reset(f->vcpu[i], false);
		keel_tsc_init(f->vcpu[i]);
	}
	test->priv = f;
	return 0;
}

static void cpu_test_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	if (!f)
		return;
	keel_cpuid_vcpu_free(f->vcpu[0]);
	keel_cpuid_vcpu_free(f->vcpu[1]);
	keel_backend = f->backend;
}

static struct keel_vcpu *first_vcpu(struct kunit *test)
{
	struct fixture *f = test->priv;

	return f->vcpu[0];
}

/* ---- CPUID: what guests can have ---- */

static const struct kvm_cpuid_entry2 *supported_leaf(u32 function, u32 index)
{
	const struct kvm_cpuid_entry2 *e;
	int i, n;

	e = keel_cpuid_supported(&n);
	for (i = 0; i < n; i++)
		if (e[i].function == function && e[i].index == index)
			return &e[i];
	return NULL;
}

static void supported_is_in_order(struct kunit *test)
{
	const struct kvm_cpuid_entry2 *e;
	int i, n;

	e = keel_cpuid_supported(&n);
	KUNIT_EXPECT_GT(test, n, 10);
	/* clients with a fixed buffer */
	KUNIT_EXPECT_LT(test, n, 80);
	for (i = 1; i < n; i++) {
		u64 before = (u64)e[i - 1].function << 32 | e[i - 1].index;
		u64 here = (u64)e[i].function << 32 | e[i].index;

		KUNIT_EXPECT_LT_MSG(test, before, here, "leaf %x.%x", e[i].function,
				    e[i].index);
		if (e[i].index)
			KUNIT_EXPECT_TRUE(test, e[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	}
}

static void supported_has_what_clients_look_for(struct kunit *test)
{
	static const u32 leaves[] = {
		0, 1, 6, 7, 0xa, 0xd, KVM_CPUID_SIGNATURE, KVM_CPUID_FEATURES,
		0x80000000, 0x80000001, 0x80000002, 0x80000005, 0x80000006,
		0x80000007, 0x80000008,
	};
	const struct kvm_cpuid_entry2 *e;
	int i;

	for (i = 0; i < ARRAY_SIZE(leaves); i++)
		KUNIT_EXPECT_NOT_NULL_MSG(test, supported_leaf(leaves[i], 0), "leaf %x",
					  leaves[i]);
	e = supported_leaf(1, 0);
	KUNIT_EXPECT_TRUE(test, e->ecx & BIT_OF(X86_FEATURE_X2APIC));
	KUNIT_EXPECT_TRUE(test, e->ecx & BIT_OF(X86_FEATURE_HYPERVISOR));
	KUNIT_EXPECT_TRUE(test, e->edx & BIT_OF(X86_FEATURE_FPU));
	e = supported_leaf(7, 0);
	KUNIT_EXPECT_TRUE(test, e->ebx & BIT_OF(X86_FEATURE_TSC_ADJUST));
	e = supported_leaf(KVM_CPUID_SIGNATURE, 0);
	KUNIT_EXPECT_EQ(test, e->eax, (u32)KVM_CPUID_FEATURES);
	KUNIT_EXPECT_EQ(test, memcmp(&e->ebx, KVM_SIGNATURE, 12), 0);
	e = supported_leaf(0x80000008, 0);
	KUNIT_EXPECT_LE(test, e->eax & 0xff, (u32)KEEL_MAX_GPA_BITS);
	KUNIT_EXPECT_EQ(test, e->eax >> 8 & 0xff, 48U);
}

/* What keel would have to emulate, and does not. */
static void supported_has_nothing_else(struct kunit *test)
{
	static const u16 hidden[] = {
		X86_FEATURE_MWAIT, X86_FEATURE_VMX, X86_FEATURE_SMX, X86_FEATURE_DTES64,
		X86_FEATURE_PDCM, X86_FEATURE_TSC_DEADLINE_TIMER, X86_FEATURE_OSXSAVE,
		X86_FEATURE_DS, X86_FEATURE_ACPI, X86_FEATURE_HT, X86_FEATURE_CQM,
		X86_FEATURE_INTEL_PT, X86_FEATURE_MPX, X86_FEATURE_PKU,
		X86_FEATURE_OSPKE, X86_FEATURE_WAITPKG, X86_FEATURE_LA57,
		X86_FEATURE_BUS_LOCK_DETECT, X86_FEATURE_SPEC_CTRL,
		X86_FEATURE_INTEL_STIBP, X86_FEATURE_FLUSH_L1D,
		X86_FEATURE_ARCH_CAPABILITIES, X86_FEATURE_SPEC_CTRL_SSBD,
		X86_FEATURE_AMX_TILE, X86_FEATURE_AMX_INT8, X86_FEATURE_AMX_BF16,
		X86_FEATURE_XSAVES, X86_FEATURE_SVM, X86_FEATURE_OSVW,
		X86_FEATURE_IBS, X86_FEATURE_PERFCTR_CORE, X86_FEATURE_MWAITX,
		X86_FEATURE_AMD_IBPB, X86_FEATURE_AMD_IBRS, X86_FEATURE_AMD_SSBD,
		X86_FEATURE_VIRT_SSBD,
	};
	static const struct {
		u8 word;
		u32 function;
		size_t reg;
	} words[] = {
#define REG(r)	offsetof(struct kvm_cpuid_entry2, r)
		{ CPUID_1_EDX, 1, REG(edx) }, { CPUID_1_ECX, 1, REG(ecx) },
		{ CPUID_7_0_EBX, 7, REG(ebx) }, { CPUID_7_ECX, 7, REG(ecx) },
		{ CPUID_7_EDX, 7, REG(edx) },
		{ CPUID_8000_0001_ECX, 0x80000001, REG(ecx) },
		{ CPUID_8000_0008_EBX, 0x80000008, REG(ebx) },
#undef REG
	};
	const struct kvm_cpuid_entry2 *e;
	int i, w;

	for (i = 0; i < ARRAY_SIZE(hidden); i++) {
		for (w = 0; w < ARRAY_SIZE(words); w++) {
			if (words[w].word != hidden[i] / 32)
				continue;
			e = supported_leaf(words[w].function, 0);
			KUNIT_EXPECT_FALSE_MSG(test, *(u32 *)((u8 *)e + words[w].reg) &
					       BIT_OF(hidden[i]), "feature %u.%u",
					       hidden[i] / 32, hidden[i] % 32);
		}
	}
	e = supported_leaf(0xa, 0);
	KUNIT_EXPECT_EQ(test, e->eax | e->ebx | e->ecx | e->edx, 0U);
	e = supported_leaf(0xd, 1);
	if (e)
		KUNIT_EXPECT_FALSE(test, e->eax & BIT_OF(X86_FEATURE_XSAVES));
	e = supported_leaf(KVM_CPUID_FEATURES, 0);
	KUNIT_EXPECT_EQ(test, e->eax & ~(u32)BIT(KVM_FEATURE_STEAL_TIME),
			(u32)(BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |
			      BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_PV_EOI) |
			      BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_ASYNC_PF_INT) |
			      BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) |
			      BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_PV_SCHED_YIELD) |
			      BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT)));
	KUNIT_EXPECT_EQ(test, !!(e->eax & BIT(KVM_FEATURE_STEAL_TIME)), !!sched_info_on());
}

/* ---- CPUID: what one guest was given ---- */

#define LEAF(f, ...)	{ .function = (f), __VA_ARGS__ }
#define SUBLEAF(f, i, ...)	{ .function = (f), .index = (i),		\
				  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, __VA_ARGS__ }
#define GENU	0x756e6547	/* "Genu", "ineI", "ntel" in EBX, EDX, ECX */
#define AUTH	0x68747541

static void give(struct kunit *test, struct keel_vcpu *vcpu,
		 const struct kvm_cpuid_entry2 *entry, int nent)
{
	struct kvm_cpuid_entry2 *copy;

	copy = kvmalloc_array(nent, sizeof(*copy), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, copy);
	memcpy(copy, entry, nent * sizeof(*copy));
	KUNIT_ASSERT_EQ(test, keel_cpuid_set(vcpu, copy, nent), 0);
}

static u32 eval_eax(struct keel_vcpu *vcpu, u32 function, u32 index)
{
	u32 eax = function, ebx, ecx = index, edx;

	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	return eax;
}

/* A HLT that does not exit is not ended by a hypercall, wherever KVM's leaves are. */
static void no_pv_unhalt_without_hlt_exits(struct kunit *test)
{
	const u32 want = BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_STEAL_TIME);
	struct keel_vcpu *vcpu = first_vcpu(test);
	u32 base;

	for (base = KVM_CPUID_SIGNATURE; base <= KVM_CPUID_SIGNATURE + 0x100; base += 0x100) {
		struct kvm_cpuid_entry2 list[] = {
			LEAF(base, .eax = base + 1, .ebx = 0x4b4d564b, .ecx = 0x564b4d56,
			     .edx = 0x4d),
			LEAF(base + 1, .eax = want),
		};

		vcpu->vm->disabled_exits = KVM_X86_DISABLE_EXITS_PAUSE;
		give(test, vcpu, list, ARRAY_SIZE(list));
		KUNIT_EXPECT_EQ(test, eval_eax(vcpu, base + 1, 0), want);
		KUNIT_EXPECT_EQ(test, vcpu->cpuid.kvm_features, want);
		vcpu->vm->disabled_exits = KVM_X86_DISABLE_EXITS_HLT;
		give(test, vcpu, list, ARRAY_SIZE(list));
		KUNIT_EXPECT_EQ(test, eval_eax(vcpu, base + 1, 0), BIT(KVM_FEATURE_STEAL_TIME));
		KUNIT_EXPECT_EQ(test, vcpu->cpuid.kvm_features, BIT(KVM_FEATURE_STEAL_TIME));
	}
}

static void eval_out_of_range(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	struct kvm_cpuid_entry2 list[] = {
		LEAF(0, .eax = 0xd, .ebx = GENU),
		LEAF(1, .eax = 0x11),
		SUBLEAF(0xd, 0, .eax = 7), SUBLEAF(0xd, 1, .eax = 0x51),
		LEAF(0x40000000, .eax = 0x40000001), LEAF(0x40000001, .eax = 0x41),
		LEAF(0x80000000, .eax = 0x80000001), LEAF(0x80000001, .eax = 0x81),
	};

	give(test, vcpu, list, ARRAY_SIZE(list));
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 1, 0), 0x11U);
	/* the index of a leaf without subleaves does not count */
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 1, 77), 0x11U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 3, 0), 0U);
	/* Intel: the highest basic leaf, with its subleaf */
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0xe, 1), 0x51U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x3fffffff, 0), 7U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x40000002, 0), 7U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x40000100, 1), 0x51U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x80000009, 1), 0x51U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0xffffffff, 9), 0U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x40000001, 0), 0x41U);

	list[0].ebx = AUTH;
	give(test, vcpu, list, ARRAY_SIZE(list));
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x80000001, 0), 0x81U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0xe, 1), 0U);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 0x80000009, 1), 0U);
}

/* SDM vol. 2 "CPUID": ECX[7:0] and EDX are valid even beyond the last level. */
static void eval_topology(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	static const struct kvm_cpuid_entry2 list[] = {
		LEAF(0, .eax = 0xd, .ebx = GENU),
		SUBLEAF(0xb, 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 5),
		SUBLEAF(0xb, 1, .eax = 2, .ebx = 4, .ecx = 0x201, .edx = 5),
	};
	u32 eax = 0xb, ebx, ecx = 7, edx;

	give(test, vcpu, list, ARRAY_SIZE(list));
	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	KUNIT_EXPECT_EQ(test, eax, 0U);
	KUNIT_EXPECT_EQ(test, ebx, 0U);
	KUNIT_EXPECT_EQ(test, ecx, 7U);
	KUNIT_EXPECT_EQ(test, edx, 5U);
}

static void eval_runtime_bits(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	static const struct kvm_cpuid_entry2 list[] = {
		LEAF(1, .ecx = 0, .edx = 0),
		SUBLEAF(7, 0, .ecx = ~0U),
		SUBLEAF(0xd, 0, .eax = 3, .ebx = 12345),
	};
	u32 eax, ebx, ecx, edx;

	give(test, vcpu, list, ARRAY_SIZE(list));
	vcpu->regs.cr4 = X86_CR4_OSXSAVE;
	eax = 1;
	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	KUNIT_EXPECT_EQ(test, ecx, (u32)BIT_OF(X86_FEATURE_OSXSAVE));
	KUNIT_EXPECT_EQ(test, edx, (u32)BIT_OF(X86_FEATURE_APIC));

	vcpu->regs.cr4 = 0;
	vcpu->msrs.apic_base &= ~(u64)MSR_IA32_APICBASE_ENABLE;
	eax = 1;
	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	KUNIT_EXPECT_EQ(test, ecx, 0U);
	KUNIT_EXPECT_EQ(test, edx, 0U);

	eax = 7;
	ecx = 0;
	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	KUNIT_EXPECT_FALSE(test, ecx & BIT_OF(X86_FEATURE_OSPKE));

	/* legacy area and header: SDM vol. 1 "XSAVE Area" */
	eax = 0xd;
	ecx = 0;
	keel_cpuid_eval(vcpu, &eax, &ebx, &ecx, &edx);
	KUNIT_EXPECT_EQ(test, ebx, 576U);
}

/* The cache of lookups gives what a search gives, whatever was asked before. */
static void find_agrees_with_search(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	struct kvm_cpuid_entry2 *list;
	u32 seed = 1, i, k;

	list = kunit_kcalloc(test, 64, sizeof(*list), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, list);
	for (i = 0; i < 64; i++) {
		list[i].function = (i / 4 & 1 ? 0x80000000 : 0) + i / 8;
		list[i].index = i % 4;
		list[i].flags = i % 3 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
		list[i].eax = 1000 + i;
	}
	give(test, vcpu, list, 64);
	for (k = 0; k < 10000; k++) {
		const struct kvm_cpuid_entry2 *e;
		u32 function, index;

		seed = seed * 1103515245 + 12345;
		function = (seed >> 8 & 1 ? 0x80000000 : 0) + (seed >> 10) % 10;
		index = (seed >> 20) % 6;
		e = keel_cpuid_find(vcpu, function, index);
		for (i = 0; i < 64; i++)
			if (list[i].function == function &&
			    (list[i].index == index ||
			     !(list[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
				break;
		KUNIT_ASSERT_EQ(test, e ? e->eax : 0, i < 64 ? list[i].eax : 0);
	}
}

static void set_again_after_run(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	struct kvm_cpuid_entry2 list[] = {
		LEAF(0, .eax = 1), LEAF(1, .eax = 2),
	};

	give(test, vcpu, list, ARRAY_SIZE(list));
	vcpu->launched = true;
	KUNIT_EXPECT_EQ(test, keel_cpuid_set(vcpu, list, 2), 0);
	/* bits that follow registers do not make it another one */
	list[1].ecx = BIT_OF(X86_FEATURE_OSXSAVE);
	KUNIT_EXPECT_EQ(test, keel_cpuid_set(vcpu, list, 2), 0);
	list[1].eax = 3;
	KUNIT_EXPECT_EQ(test, keel_cpuid_set(vcpu, list, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_cpuid_set(vcpu, list, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, eval_eax(vcpu, 1, 0), 2U);
}

static void set_bad_address_size(struct kunit *test)
{
	struct kvm_cpuid_entry2 e = LEAF(0x80000008, .eax = 49 << 8 | 40);

	KUNIT_EXPECT_EQ(test, keel_cpuid_set(first_vcpu(test), &e, 1), -EINVAL);
}

static void derived_limits(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	static const struct kvm_cpuid_entry2 poor[] = {
		LEAF(0, .eax = 1, .ebx = AUTH), LEAF(1),
	};
	static const struct kvm_cpuid_entry2 greedy[] = {
		LEAF(1, .ecx = ~0U, .edx = ~0U),
		SUBLEAF(7, 0, .ebx = ~0U, .ecx = ~0U, .edx = ~0U),
		SUBLEAF(0xd, 0, .eax = ~0U, .edx = ~0U),
		LEAF(0x80000001, .ecx = ~0U, .edx = ~0U),
		LEAF(0x80000008, .eax = 48 << 8 | 40),
	};

	give(test, vcpu, poor, ARRAY_SIZE(poor));
	KUNIT_EXPECT_EQ(test, vcpu->cpuid.maxphyaddr, 36);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.cr4_reserved & X86_CR4_OSXSAVE);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.cr4_reserved & X86_CR4_SMEP);
	KUNIT_EXPECT_FALSE(test, vcpu->cpuid.cr4_reserved & X86_CR4_PAE);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.efer_reserved & EFER_LME);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.efer_reserved & EFER_NX);
	KUNIT_EXPECT_EQ(test, vcpu->cpuid.xcr0_supported, 0ULL);
	KUNIT_EXPECT_FALSE(test, vcpu->cpuid.tsc_aux);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.amd);

	/* claiming a feature that keel does not offer does not enable it */
	give(test, vcpu, greedy, ARRAY_SIZE(greedy));
	KUNIT_EXPECT_EQ(test, vcpu->cpuid.maxphyaddr, 40);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.cr4_reserved & X86_CR4_VMXE);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.cr4_reserved & X86_CR4_PKE);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.cr4_reserved & X86_CR4_LA57);
	KUNIT_EXPECT_TRUE(test, vcpu->cpuid.efer_reserved & EFER_SVME);
	KUNIT_EXPECT_EQ(test, vcpu->cpuid.xcr0_supported & ~keel_host_xcr0(), 0ULL);
}

static void xcr0_rules(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	u64 avx512 = XFEATURE_MASK_OPMASK | XFEATURE_MASK_ZMM_Hi256 | XFEATURE_MASK_Hi16_ZMM;

	vcpu->cpuid.xcr0_supported = XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | avx512;
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 1), 0);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 3), 0);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 7), 0);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 7 | avx512), 0);
	KUNIT_EXPECT_EQ(test, vcpu->fpu.xcr0, 7 | avx512);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 5), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 3 | avx512), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 7 | XFEATURE_MASK_OPMASK), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 7 | XFEATURE_MASK_PKRU), -EINVAL);
	KUNIT_EXPECT_EQ(test, keel_set_xcr0(vcpu, 1 | BIT_ULL(63)), -EINVAL);
	KUNIT_EXPECT_EQ(test, vcpu->fpu.xcr0, 7 | avx512);
}

/* ---- MSRs ---- */

static void msr_list(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	const u32 *list;
	u32 i, n;
	u64 value;

	/* also checks that the table is sorted */
	KUNIT_ASSERT_EQ(test, keel_msr_init(), 0);
	list = keel_msr_index_list(&n);
	KUNIT_EXPECT_GT(test, n, 20U);
	KUNIT_EXPECT_LE(test, n, 256U);
	for (i = 0; i < n; i++) {
		if (i)
			KUNIT_EXPECT_LT(test, list[i - 1], list[i]);
		KUNIT_EXPECT_EQ_MSG(test, keel_get_msr(vcpu, list[i], &value, true), 0,
				    "read %x", list[i]);
		KUNIT_EXPECT_EQ_MSG(test, keel_set_msr(vcpu, list[i], value, true), 0,
				    "write %x", list[i]);
	}
}

static void msr_unknown(struct kunit *test)
{
	static const u32 unknown[] = {
		0xf, 0x13, 0x48, 0x49, 0x9e, 0xc0, 0xc3, 0x122, 0x210, 0x24f,
		0x251, 0x257, 0x25a, 0x267, 0x270, 0x3ff, 0x480, 0x491, 0x7ff,
		0x900, 0xda0, 0x4b564cff, 0x4b564d09, 0xbfffffff, 0xc0000085,
		0xc0000104, 0xc0010008, 0xc0011020, 0xffffffff,
	};
	struct keel_vcpu *vcpu = first_vcpu(test);
	u64 value;
	int i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		value = 1;
		KUNIT_EXPECT_EQ_MSG(test, keel_get_msr(vcpu, unknown[i], &value, false),
				    -ENOENT, "read %x", unknown[i]);
		KUNIT_EXPECT_EQ(test, value, 0ULL);
		KUNIT_EXPECT_EQ_MSG(test, keel_set_msr(vcpu, unknown[i], 0, true),
				    -ENOENT, "write %x", unknown[i]);
	}
}

struct msr_case {
	u32 msr;
	u64 value;
	bool host;
	int ret;
	u64 reads;	/* afterwards, when ret is 0 */
};

#define NONCANONICAL	0x0000800000000000ULL

static const struct msr_case msr_cases[] = {
	/* memory types 2 and 3 do not exist, 7 only in PAT */
	{ MSR_IA32_CR_PAT, 0x0706050401000007ULL, false, 0, 0x0706050401000007ULL },
	{ MSR_IA32_CR_PAT, 0x0706050402000000ULL, false, -EINVAL },
	{ MSR_IA32_CR_PAT, 0x0800000000000000ULL, true, -EINVAL },
	{ MSR_MTRRdefType, 0xc06, false, 0, 0xc06 },
	{ MSR_MTRRdefType, 0xc07, false, -EINVAL },
	{ MSR_MTRRdefType, 0x1006, false, -EINVAL },
	{ MSR_MTRRdefType, 0x106, false, -EINVAL },
	{ MSR_MTRRfix64K_00000, 0x0606060606060606ULL, false, 0, 0x0606060606060606ULL },
	{ MSR_MTRRfix16K_A0000, 0x0000000000000001ULL, false, 0, 1 },
	{ MSR_MTRRfix4K_F8000, 0x0500000000000000ULL, false, 0, 0x0500000000000000ULL },
	{ MSR_MTRRfix4K_F8000, 0x0000000000000300ULL, false, -EINVAL },
	/* the fixture has 40 bits of physical address */
	{ MTRRphysBase_MSR(0), 0xffc0000006ULL, false, 0, 0xffc0000006ULL },
	{ MTRRphysBase_MSR(7), 0x1ULL << 40, false, -EINVAL },
	{ MTRRphysBase_MSR(0), 0x100, false, -EINVAL },
	{ MTRRphysBase_MSR(0), 0x2, false, -EINVAL },
	{ MTRRphysMask_MSR(7), 0xffc0000800ULL, false, 0, 0xffc0000800ULL },
	{ MTRRphysMask_MSR(7), 0xffc0000806ULL, false, -EINVAL },
	{ MSR_MTRRcap, 0x508, true, 0, 0x508 },
	{ MSR_MTRRcap, 0x508, false, -EINVAL },
	{ MSR_MTRRcap, 0x50a, true, -EINVAL },
	/* addresses */
	{ MSR_LSTAR, 0xffffffff81000000ULL, false, 0, 0xffffffff81000000ULL },
	{ MSR_LSTAR, NONCANONICAL, false, -EINVAL },
	{ MSR_CSTAR, NONCANONICAL, true, -EINVAL },
	{ MSR_KERNEL_GS_BASE, NONCANONICAL, false, -EINVAL },
	{ MSR_KERNEL_GS_BASE, 0x7fffffffffffULL, false, 0, 0x7fffffffffffULL },
	{ MSR_FS_BASE, NONCANONICAL, false, -EINVAL },
	{ MSR_FS_BASE, 0x1000, false, 0, 0x1000 },
	{ MSR_GS_BASE, 0xffff800000000000ULL, false, 0, 0xffff800000000000ULL },
	{ MSR_IA32_SYSENTER_EIP, NONCANONICAL, true, 0, 0xffff800000000000ULL },
	{ MSR_IA32_SYSENTER_CS, 0x10, false, 0, 0x10 },
	{ MSR_STAR, ~0ULL, false, 0, ~0ULL },
	/* machine check: the fixture has 10 banks and MCG_CTL */
	{ MSR_IA32_MCG_CTL, ~0ULL, false, 0, ~0ULL },
	{ MSR_IA32_MCG_CTL, 1, false, -EINVAL },
	{ MSR_IA32_MCG_CAP, 0, false, -EINVAL },
	{ MSR_IA32_MCx_CTL(0), ~1ULL, false, 0, ~1ULL },
	{ MSR_IA32_MCx_CTL(0), 6, false, -EINVAL },
	{ MSR_IA32_MCx_STATUS(0), 5, false, -EINVAL },
	{ MSR_IA32_MCx_STATUS(0), 5, true, 0, 5 },
	{ MSR_IA32_MCx_MISC(9), 5, false, 0, 5 },
	{ MSR_IA32_MCx_CTL(10), 0, false, -EINVAL },
	{ MSR_IA32_MCx_MISC(31), 0, true, -EINVAL },
	/* for userspace alone */
	{ MSR_IA32_ARCH_CAPABILITIES, 1, true, 0, 1 },
	{ MSR_IA32_ARCH_CAPABILITIES, 1, false, -ENOENT },
	{ MSR_IA32_UCODE_REV, 5, true, 0, 5 },
	{ MSR_IA32_PERF_CAPABILITIES, 0, true, 0, 0 },
	{ MSR_IA32_PERF_CAPABILITIES, 1, true, -EINVAL },
	{ MSR_IA32_PERF_CAPABILITIES, 0, false, -ENOENT },
	/* the guest's TSC_AUX needs a feature that the fixture has not */
	{ MSR_TSC_AUX, 5, true, 0, 5 },
	{ MSR_TSC_AUX, BIT_ULL(32), true, -EINVAL },
	{ MSR_TSC_AUX, 5, false, -EINVAL },
	/* what Linux touches and nobody needs */
	{ MSR_K7_PERFCTR3, 1234, false, 0, 0 },
	{ MSR_K7_HWCR, BIT(3) | BIT(24), false, 0, BIT(24) },
	{ MSR_K7_HWCR, BIT(0), false, -EINVAL },
	{ MSR_K7_HWCR, BIT(4), false, -EINVAL },
	{ MSR_IA32_DEBUGCTLMSR, DEBUGCTLMSR_BTF, false, 0, 0 },
	{ MSR_IA32_DEBUGCTLMSR, DEBUGCTLMSR_TR, false, -EINVAL },
	{ MSR_IA32_FEAT_CTL, FEAT_CTL_LOCKED, false, -EINVAL },
	{ MSR_IA32_MISC_ENABLE, 1, false, 0, 1 },
	{ MSR_MISC_FEATURES_ENABLES, MSR_MISC_FEATURES_ENABLES_CPUID_FAULT, false, 0,
	  MSR_MISC_FEATURES_ENABLES_CPUID_FAULT },
	{ MSR_MISC_FEATURES_ENABLES, 2, false, -EINVAL },
	/* without a LAPIC */
	{ APIC_BASE_MSR, 0, true, -EINVAL },
	{ MSR_IA32_TSC_DEADLINE, 5, true, 0, 0 },
	{ MSR_IA32_APICBASE, 0xfee00900, true, 0, 0xfee00900 },
	{ MSR_IA32_APICBASE, 0xfee00901, true, -EINVAL },
	{ MSR_IA32_APICBASE, BIT_ULL(40) | 0x800, true, -EINVAL },
};

static void msr_case_name(const struct msr_case *c, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%x = %llx%s", c->msr, c->value,
		 c->host ? " by userspace" : "");
}

KUNIT_ARRAY_PARAM(msr_cases, msr_cases, msr_case_name);

static void msr_values(struct kunit *test)
{
	const struct msr_case *c = test->param_value;
	struct keel_vcpu *vcpu = first_vcpu(test);
	static const struct kvm_cpuid_entry2 list[] = {
		LEAF(0, .eax = 1), LEAF(1), LEAF(0x80000008, .eax = 48 << 8 | 40),
	};
	u64 before = 0, after;
	int readable;

	give(test, vcpu, list, ARRAY_SIZE(list));
	vcpu->msrs.mcg_cap = 10 | MCG_CTL_P;
	readable = keel_get_msr(vcpu, c->msr, &before, true);
	KUNIT_EXPECT_EQ(test, keel_set_msr(vcpu, c->msr, c->value, c->host), c->ret);
	if (!c->ret) {
		KUNIT_EXPECT_EQ(test, keel_get_msr(vcpu, c->msr, &after, true), 0);
		KUNIT_EXPECT_EQ(test, after, c->reads);
	} else if (!readable) {
		/* refused is unchanged */
		KUNIT_EXPECT_EQ(test, keel_get_msr(vcpu, c->msr, &after, true), 0);
		KUNIT_EXPECT_EQ(test, after, before);
	}
}

/* A write reaches the place from which the backend loads it. */
static void msr_registers_become_dirty(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);

	vcpu->regs.dirty = 0;
	keel_set_msr(vcpu, MSR_LSTAR, 0x1000, false);
	KUNIT_EXPECT_EQ(test, vcpu->regs.dirty, (u32)KEEL_SYSCALL);
	KUNIT_EXPECT_EQ(test, vcpu->regs.lstar, 0x1000ULL);
	vcpu->regs.dirty = 0;
	keel_set_msr(vcpu, MSR_GS_BASE, 0x2000, false);
	KUNIT_EXPECT_EQ(test, vcpu->regs.dirty, (u32)KEEL_OTHER_SEGS);
	KUNIT_EXPECT_EQ(test, vcpu->regs.seg[KEEL_GS].base, 0x2000ULL);
	vcpu->regs.dirty = 0;
	keel_set_msr(vcpu, MSR_IA32_CR_PAT, 0, false);
	KUNIT_EXPECT_EQ(test, vcpu->regs.dirty, (u32)KEEL_CRS);
	KUNIT_EXPECT_EQ(test, vcpu->msrs.pat, 0ULL);
}

static void msr_reset(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	u64 value;

	KUNIT_EXPECT_EQ(test, vcpu->msrs.pat, 0x0007040600070406ULL);
	KUNIT_EXPECT_EQ(test, vcpu->msrs.apic_base, 0xfee00900ULL);
	keel_set_msr(vcpu, MSR_MTRRdefType, 0xc06, true);
	keel_set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0x1001, true);
	/* INIT keeps MSRs, but the guest's page is not its page any more */
	keel_msrs_reset(vcpu, true);
	keel_get_msr(vcpu, MSR_MTRRdefType, &value, true);
	KUNIT_EXPECT_EQ(test, value, 0xc06ULL);
	keel_get_msr(vcpu, MSR_KVM_SYSTEM_TIME, &value, true);
	KUNIT_EXPECT_EQ(test, value, 0ULL);
	keel_msrs_reset(vcpu, false);
	keel_get_msr(vcpu, MSR_MTRRdefType, &value, true);
	KUNIT_EXPECT_EQ(test, value, 0ULL);
}

/* ---- time ---- */

static const u32 frequencies[] = {
	1, 999, 1000, 100000, 500000, 999999, 1000000, 1000001, 1193182,
	1999999, 2000000, 2000001, 2596106, 3000000, 3999999, 4000000, 5700000,
	9999999,
};

static void clock_scale_is_exact_enough(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_vm_clock *c = &f->vm->clock;
	int i;

	for (i = 0; i < ARRAY_SIZE(frequencies); i++) {
		u32 khz = frequencies[i];
		u64 hour = 3600ULL * khz * 1000, exact = 3600ULL * NSEC_PER_SEC, ns;

		keel_clock_scale(khz, &c->mul, &c->shift);
		KUNIT_EXPECT_TRUE_MSG(test, c->mul & BIT(31), "%u kHz", khz);
		ns = keel_tsc_to_ns(f->vm, hour);
		/* 31 bits of scale: 1 in 2^31 */
		KUNIT_EXPECT_LE_MSG(test, ns, exact, "%u kHz", khz);
		KUNIT_EXPECT_LE_MSG(test, exact - ns, (exact >> 30) + 2, "%u kHz", khz);
	}
}

static void clock_scale_of_huge_times(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct keel_vm_clock *c = &f->vm->clock;

	/* slower than 1 GHz: more ns than cycles, so it may not fit */
	keel_clock_scale(100000, &c->mul, &c->shift);
	KUNIT_EXPECT_EQ(test, keel_tsc_to_ns(f->vm, U64_MAX), U64_MAX);
	KUNIT_EXPECT_EQ(test, keel_tsc_to_ns(f->vm, 0), 0ULL);
	keel_clock_scale(3000000, &c->mul, &c->shift);
	KUNIT_EXPECT_GT(test, keel_tsc_to_ns(f->vm, U64_MAX), U64_MAX / 3 - U64_MAX / 1000);
	KUNIT_EXPECT_LT(test, keel_tsc_to_ns(f->vm, U64_MAX), U64_MAX / 3 + U64_MAX / 1000);
}

static void clock_runs_and_is_set(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct kvm_clock_data d = {}, now = {};
	u64 a, b;
	int i;

	a = keel_vm_clock_ns(f->vm, NULL);
	for (i = 0; i < 1000; i++) {
		b = keel_vm_clock_ns(f->vm, NULL);
		KUNIT_ASSERT_GE(test, b, a);
		a = b;
	}
	d.clock = 1000 * NSEC_PER_SEC;
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_clock(f->vm, &d), 0);
	KUNIT_EXPECT_EQ(test, keel_ioctl_get_clock(f->vm, &now), 0);
	KUNIT_EXPECT_GE(test, now.clock, d.clock);
	KUNIT_EXPECT_LT(test, now.clock, d.clock + 100ULL * NSEC_PER_SEC);
	/* small values do not go below zero */
	d.clock = 0;
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_clock(f->vm, &d), 0);
	KUNIT_EXPECT_LT(test, keel_vm_clock_ns(f->vm, NULL), 100ULL * NSEC_PER_SEC);
	d.flags = 1;
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_clock(f->vm, &d), -EINVAL);
	/* an hour on the shelf */
	d.flags = KVM_CLOCK_REALTIME;
	d.realtime = ktime_get_real_ns() - 3600ULL * NSEC_PER_SEC;
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_clock(f->vm, &d), 0);
	KUNIT_EXPECT_GE(test, keel_vm_clock_ns(f->vm, NULL), 3600ULL * NSEC_PER_SEC);
	/* a clock that went back does not take the VM's with it */
	d.clock = 7ULL * NSEC_PER_SEC;
	d.realtime = ktime_get_real_ns() + 3600ULL * NSEC_PER_SEC;
	KUNIT_EXPECT_EQ(test, keel_ioctl_set_clock(f->vm, &d), 0);
	KUNIT_EXPECT_GE(test, keel_vm_clock_ns(f->vm, NULL), d.clock);
	KUNIT_EXPECT_LT(test, keel_vm_clock_ns(f->vm, NULL), 3600ULL * NSEC_PER_SEC);
}

static void tsc_writes_of_userspace_join(struct kunit *test)
{
	struct fixture *f = test->priv;
	u64 second = tsc_khz * 1000ULL, base = 1ULL << 45;
	u64 *a = &f->vcpu[0]->clock.tsc_offset, *b = &f->vcpu[1]->clock.tsc_offset;

	KUNIT_EXPECT_EQ(test, *a, *b);
	keel_tsc_write(f->vcpu[0], base, true);
	KUNIT_EXPECT_NE(test, *a, *b);
	KUNIT_EXPECT_EQ(test, last_offset, *a + f->vcpu[0]->clock.tsc_lost);
	/* half a second apart: meant to be the same */
	keel_tsc_write(f->vcpu[1], base + second / 2, true);
	if (!check_tsc_unstable())
		KUNIT_EXPECT_EQ(test, *a, *b);
	/* zero, as at reset, also joins */
	keel_tsc_write(f->vcpu[1], 0, true);
	if (!check_tsc_unstable())
		KUNIT_EXPECT_EQ(test, *a, *b);
	/* a day apart: another time */
	keel_tsc_write(f->vcpu[0], base, true);
	keel_tsc_write(f->vcpu[1], base + 86400 * second, true);
	KUNIT_EXPECT_NE(test, *a, *b);
	KUNIT_EXPECT_GE(test, keel_guest_tsc(f->vcpu[1]), base + 86400 * second);
	/* none of it is the guest's doing */
	KUNIT_EXPECT_EQ(test, f->vcpu[1]->msrs.tsc_adjust, 0ULL);
}

/* SDM vol. 3 "IA32_TSC_ADJUST Register Support" */
static void tsc_adjust_follows_the_guest(struct kunit *test)
{
	struct keel_vcpu *vcpu = first_vcpu(test);
	u64 offset = vcpu->clock.tsc_offset;

	keel_set_msr(vcpu, MSR_IA32_TSC, 1ULL << 50, false);
	KUNIT_EXPECT_EQ(test, vcpu->clock.tsc_offset - offset, vcpu->msrs.tsc_adjust);
	KUNIT_EXPECT_GE(test, keel_guest_tsc(vcpu), 1ULL << 50);
	keel_set_msr(vcpu, MSR_IA32_TSC_ADJUST, 0, false);
	KUNIT_EXPECT_EQ(test, vcpu->clock.tsc_offset, offset);
	keel_set_msr(vcpu, MSR_IA32_TSC_ADJUST, -5000ULL, false);
	KUNIT_EXPECT_EQ(test, vcpu->clock.tsc_offset, offset - 5000);
	/* userspace restores the register, not the TSC */
	keel_set_msr(vcpu, MSR_IA32_TSC_ADJUST, 77, true);
	KUNIT_EXPECT_EQ(test, vcpu->clock.tsc_offset, offset - 5000);
	KUNIT_EXPECT_EQ(test, vcpu->msrs.tsc_adjust, 77ULL);
}

static struct kunit_case cpu_cases[] = {
	KUNIT_CASE(supported_is_in_order),
	KUNIT_CASE(supported_has_what_clients_look_for),
	KUNIT_CASE(supported_has_nothing_else),
	KUNIT_CASE(no_pv_unhalt_without_hlt_exits),
	KUNIT_CASE(eval_out_of_range),
	KUNIT_CASE(eval_topology),
	KUNIT_CASE(eval_runtime_bits),
	KUNIT_CASE(find_agrees_with_search),
	KUNIT_CASE(set_again_after_run),
	KUNIT_CASE(set_bad_address_size),
	KUNIT_CASE(derived_limits),
	KUNIT_CASE(xcr0_rules),
	KUNIT_CASE(msr_list),
	KUNIT_CASE(msr_unknown),
	KUNIT_CASE_PARAM(msr_values, msr_cases_gen_params),
	KUNIT_CASE(msr_registers_become_dirty),
	KUNIT_CASE(msr_reset),
	KUNIT_CASE(clock_scale_is_exact_enough),
	KUNIT_CASE(clock_scale_of_huge_times),
	KUNIT_CASE(clock_runs_and_is_set),
	KUNIT_CASE(tsc_writes_of_userspace_join),
	KUNIT_CASE(tsc_adjust_follows_the_guest),
	{}
};

static struct kunit_suite cpu_suite = {
	.name = "keel-cpu",
	.init = cpu_test_init,
	.exit = cpu_test_exit,
	.test_cases = cpu_cases,
};

kunit_test_suites(&cpu_suite);
