// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPUID: what guests can have, what a guest was given, and what it reads.
 *
 * What guests can have is a list of the kernel's feature numbers, each of
 * which names a leaf, a register and a bit. It is cut down to what the host
 * has; a feature that is not in the list is not offered, whatever the CPU.
 * Not in it on purpose: everything that keel would have to emulate or switch
 * and does not (VMX, SVM, MONITOR, PMU, PKU, XSAVES, AMX, SGX, PT, LA57,
 * SPEC_CTRL and its kin).
 */
#include <linux/kernel.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/fpu/xcr.h>
#include <asm/fpu/xstate.h>
#include <asm/kvm_para.h>
#include <asm/msr-index.h>
#include <asm/processor.h>
#include <asm/processor-flags.h>
#include <asm/tsc.h>

#include "../keel.h"

/* Where the words of the kernel's feature numbers are in CPUID. */
static const struct {
	u8 word;
	u32 function, index;
	enum cpuid_regs_idx reg;
} feature_words[] = {
	{ CPUID_1_EDX,		0x00000001, 0, CPUID_EDX },
	{ CPUID_1_ECX,		0x00000001, 0, CPUID_ECX },
	{ CPUID_6_EAX,		0x00000006, 0, CPUID_EAX },
	{ CPUID_7_0_EBX,	0x00000007, 0, CPUID_EBX },
	{ CPUID_7_ECX,		0x00000007, 0, CPUID_ECX },
	{ CPUID_7_EDX,		0x00000007, 0, CPUID_EDX },
	{ CPUID_7_1_EAX,	0x00000007, 1, CPUID_EAX },
	{ CPUID_D_1_EAX,	0x0000000d, 1, CPUID_EAX },
	{ CPUID_8000_0001_EDX,	0x80000001, 0, CPUID_EDX },
	{ CPUID_8000_0001_ECX,	0x80000001, 0, CPUID_ECX },
	{ CPUID_8000_0008_EBX,	0x80000008, 0, CPUID_EBX },
};

#define F(name)	X86_FEATURE_##name

/* Offered when the host has them. */
static const u16 host_features[] = {
	/* 1.EDX; no HT: how CPUs are grouped is for userspace to say */
	F(FPU), F(VME), F(DE), F(PSE), F(TSC), F(MSR), F(PAE), F(MCE), F(CX8),
	F(APIC), F(SEP), F(MTRR), F(PGE), F(MCA), F(CMOV), F(PAT), F(PSE36),
	F(CLFLUSH), F(MMX), F(FXSR), F(XMM), F(XMM2), F(SELFSNOOP),
	/* 1.ECX */
	F(XMM3), F(PCLMULQDQ), F(SSSE3), F(FMA), F(CX16), F(PCID), F(XMM4_1),
	F(XMM4_2), F(MOVBE), F(POPCNT), F(AES), F(XSAVE), F(AVX), F(F16C),
	F(RDRAND),
	/* 7.0.EBX */
	F(FSGSBASE), F(BMI1), F(HLE), F(AVX2), F(FDP_EXCPTN_ONLY), F(SMEP),
	F(BMI2), F(ERMS), F(INVPCID), F(RTM), F(ZERO_FCS_FDS), F(AVX512F),
	F(AVX512DQ), F(RDSEED), F(ADX), F(SMAP), F(AVX512IFMA), F(CLFLUSHOPT),
	F(CLWB), F(AVX512PF), F(AVX512ER), F(AVX512CD), F(SHA_NI), F(AVX512BW),
	F(AVX512VL),
	/* 7.0.ECX */
	F(AVX512VBMI), F(UMIP), F(AVX512_VBMI2), F(GFNI), F(VAES),
	F(VPCLMULQDQ), F(AVX512_VNNI), F(AVX512_BITALG), F(AVX512_VPOPCNTDQ),
	F(RDPID), F(CLDEMOTE), F(MOVDIRI), F(MOVDIR64B),
	/* 7.0.EDX */
	F(AVX512_4VNNIW), F(AVX512_4FMAPS), F(FSRM), F(AVX512_VP2INTERSECT),
	F(MD_CLEAR), F(SERIALIZE), F(TSXLDTRK), F(AVX512_FP16),
	/* 7.1.EAX */
	F(AVX_VNNI), F(AVX512_BF16),
	/* 0xd.1.EAX */
	F(XSAVEOPT), F(XSAVEC), F(XGETBV1),
	/* 0x80000001.EDX; AMD's copies of 1.EDX are added to it below */
	F(SYSCALL), F(NX), F(MMXEXT), F(FXSR_OPT), F(GBPAGES), F(RDTSCP), F(LM),
	F(3DNOWEXT), F(3DNOW),
	/* 0x80000001.ECX; no TOPOEXT, as no HT */
	F(LAHF_LM), F(CR8_LEGACY), F(ABM), F(SSE4A), F(MISALIGNSSE),
	F(3DNOWPREFETCH), F(XOP), F(FMA4), F(TBM),
	/* 0x80000008.EBX */
	F(CLZERO), F(XSAVEERPTR), F(WBNOINVD), F(AMD_SSB_NO), F(BTC_NO),
};

/* Offered on every host: keel makes them. */
static const u16 own_features[] = {
	F(X2APIC), F(HYPERVISOR), F(TSC_ADJUST), F(ARAT),
};

/* Bits of 1.EDX that AMD repeats in 0x80000001.EDX (APM vol. 3 "E.4.2"). */
static const u16 amd_alias_features[] = {
	F(FPU), F(VME), F(DE), F(PSE), F(TSC), F(MSR), F(PAE), F(MCE), F(CX8),
	F(APIC), F(MTRR), F(PGE), F(MCA), F(CMOV), F(PAT), F(PSE36), F(MMX),
	F(FXSR),
};

/* CR4 bits and the feature without which they are reserved. */
static const struct {
	u64 bit;
	u16 feature;
} cr4_features[] = {
	{ X86_CR4_OSXSAVE,	F(XSAVE) },
	{ X86_CR4_PCIDE,	F(PCID) },
	{ X86_CR4_FSGSBASE,	F(FSGSBASE) },
	{ X86_CR4_SMEP,		F(SMEP) },
	{ X86_CR4_SMAP,		F(SMAP) },
	{ X86_CR4_UMIP,		F(UMIP) },
};

#define CR4_ALWAYS	(X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE |	\
			 X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE |	\
			 X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)

#define MAX_SUPPORTED	80	/* old clients have room for no more */
#define MAX_BASIC	0x0000000dU
#define MAX_EXTENDED	0x80000021U

static struct kvm_cpuid_entry2 supported[MAX_SUPPORTED];
static int nr_supported;

/* Components of the XSAVE area: 0xd.i, kept since CPUID may be slow. */
static struct {
	u32 size, offset;
	bool align64;
} xstate[64];

static u32 *cpuid_reg(struct kvm_cpuid_entry2 *e, enum cpuid_regs_idx reg)
{
	switch (reg) {
	case CPUID_EAX: return &e->eax;
	case CPUID_EBX: return &e->ebx;
	case CPUID_ECX: return &e->ecx;
	default: return &e->edx;
	}
}

/* ---- what guests can have ---- */

static bool has_feature(u16 feature)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(own_features); i++)
		if (own_features[i] == feature)
			return true;
	for (i = 0; i < ARRAY_SIZE(host_features); i++)
		if (host_features[i] == feature)
			return boot_cpu_has(feature);
	return false;
}

/* All offered bits of one register; @raw is what the CPU itself says there. */
static u32 feature_mask(u8 word, u32 raw)
{
	u32 mask = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(host_features); i++)
		if (host_features[i] / 32 == word && boot_cpu_has(host_features[i]))
			mask |= BIT(host_features[i] % 32);
	mask &= raw;
	for (i = 0; i < ARRAY_SIZE(own_features); i++)
		if (own_features[i] / 32 == word)
			mask |= BIT(own_features[i] % 32);
	return mask;
}

/* Puts what may be passed on into the registers that hold feature bits. */
static void set_features(struct kvm_cpuid_entry2 *e, const struct kvm_cpuid_entry2 *raw)
{
	struct kvm_cpuid_entry2 r = *raw;
	int i;

	for (i = 0; i < ARRAY_SIZE(feature_words); i++) {
		if (feature_words[i].function != e->function ||
		    feature_words[i].index != e->index)
			continue;
		*cpuid_reg(e, feature_words[i].reg) =
			feature_mask(feature_words[i].word,
				     *cpuid_reg(&r, feature_words[i].reg));
	}
}

static struct kvm_cpuid_entry2 *add_entry(u32 function, u32 index, bool indexed)
{
	struct kvm_cpuid_entry2 *e;

	if (WARN_ON_ONCE(nr_supported == MAX_SUPPORTED))
		nr_supported--;
	e = &supported[nr_supported++];
	memset(e, 0, sizeof(*e));
	e->function = function;
	e->index = index;
	if (indexed)
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	return e;
}

static void read_host(struct kvm_cpuid_entry2 *raw, u32 function, u32 index)
{
	u32 max = cpuid_eax(function & 0xf0000000);

	memset(raw, 0, sizeof(*raw));
	if (function <= max)
		cpuid_count(function, index, &raw->eax, &raw->ebx, &raw->ecx, &raw->edx);
}

/* An entry as the host has it. */
static struct kvm_cpuid_entry2 *add_host(u32 function, u32 index, bool indexed)
{
	struct kvm_cpuid_entry2 *e = add_entry(function, index, indexed);
	struct kvm_cpuid_entry2 raw;

	read_host(&raw, function, index);
	e->eax = raw.eax;
	e->ebx = raw.ebx;
	e->ecx = raw.ecx;
	e->edx = raw.edx;
	return e;
}

/* An entry that has nothing but offered feature bits. */
static struct kvm_cpuid_entry2 *add_features(u32 function, u32 index, bool indexed)
{
	struct kvm_cpuid_entry2 *e = add_entry(function, index, indexed);
	struct kvm_cpuid_entry2 raw;

	read_host(&raw, function, index);
	set_features(e, &raw);
	return e;
}

/* Deterministic cache parameters; how CPUs share them is for userspace to say. */
static void add_caches(u32 function)
{
	struct kvm_cpuid_entry2 *e;
	u32 i;

	for (i = 0; i < 8; i++) {
		e = add_host(function, i, true);
		if (!(e->eax & 0x1f))
			break;
		e->eax &= GENMASK(13, 0);
	}
}

static u32 xstate_bytes(u64 xcr0, bool compacted)
{
	u32 size = XSAVE_HDR_OFFSET + XSAVE_HDR_SIZE;
	int i;

	for (i = 2; i < 64 && xcr0 >> i; i++) {
		u32 offset = xstate[i].offset;

		if (!(xcr0 & BIT_ULL(i)))
			continue;
		if (compacted)
			offset = xstate[i].align64 ? ALIGN(size, 64) : size;
		size = max(size, offset + xstate[i].size);
	}
	return size;
}

static void add_xsave(void)
{
	u64 xcr0 = keel_host_xcr0();
	struct kvm_cpuid_entry2 *e;
	int i;

	if (!has_feature(F(XSAVE))) {
		add_entry(0xd, 0, true);
		return;
	}
	for (i = 2; i < 64; i++) {
		struct kvm_cpuid_entry2 raw;

		if (!(xcr0 & BIT_ULL(i)))
			continue;
		read_host(&raw, 0xd, i);
		xstate[i].size = raw.eax;
		xstate[i].offset = raw.ebx;
		xstate[i].align64 = raw.ecx & BIT(1);
	}

	e = add_entry(0xd, 0, true);
	e->eax = xcr0;
	e->edx = xcr0 >> 32;
	e->ebx = xstate_bytes(xcr0, false);
	e->ecx = e->ebx;

	e = add_features(0xd, 1, true);
	if (has_feature(F(XSAVEC)))
		e->ebx = xstate_bytes(xcr0, true);

	for (i = 2; i < 64; i++) {
		if (!(xcr0 & BIT_ULL(i)))
			continue;
		e = add_entry(0xd, i, true);
		e->eax = xstate[i].size;
		e->ebx = xstate[i].offset;
		e->ecx = xstate[i].align64 ? BIT(1) : 0;
	}
}

static void add_basic(void)
{
	struct kvm_cpuid_entry2 *e, raw;

	e = add_host(0, 0, false);
	e->eax = min(e->eax, MAX_BASIC);

	read_host(&raw, 1, 0);
	e = add_entry(1, 0, false);
	e->eax = raw.eax;
	e->ebx = raw.ebx & GENMASK(15, 8);	/* CLFLUSH size */
	set_features(e, &raw);

	if (boot_cpu_data.x86_vendor == X86_VENDOR_INTEL) {
		add_host(2, 0, false);
		add_caches(4);
	}
	add_features(6, 0, false);

	e = add_features(7, 0, true);
	if (supported[0].eax >= 7 && cpuid_eax(7) >= 1) {
		e->eax = 1;
		add_features(7, 1, true);
	}
	add_entry(0xa, 0, false);	/* no PMU */
	add_entry(0xb, 0, true);
	add_xsave();
}

static const char kvm_signature[12] = "KVMKVMKVM\0\0";

static void add_kvm(void)
{
	struct kvm_cpuid_entry2 *e;

	e = add_entry(KVM_CPUID_SIGNATURE, 0, false);
	e->eax = KVM_CPUID_FEATURES;
	memcpy(&e->ebx, kvm_signature, 4);
	memcpy(&e->ecx, kvm_signature + 4, 4);
	memcpy(&e->edx, kvm_signature + 8, 4);

	e = add_entry(KVM_CPUID_FEATURES, 0, false);
	e->eax = BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |
		 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_PV_EOI) |
		 BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_ASYNC_PF) |
		 BIT(KVM_FEATURE_ASYNC_PF_INT) |
		 BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |
		 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
	if (sched_info_on())
		e->eax |= BIT(KVM_FEATURE_STEAL_TIME);
}

static bool is_amd(void)
{
	return boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
	       boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;
}

static void add_extended(void)
{
	struct kvm_cpuid_entry2 *e, *max, raw;
	u32 fn, phys;
	int i;

	max = add_host(0x80000000, 0, false);
	max->eax = clamp(max->eax, 0x80000008U, MAX_EXTENDED);

	read_host(&raw, 0x80000001, 0);
	e = add_entry(0x80000001, 0, false);
	e->eax = raw.eax;
	set_features(e, &raw);
	if (is_amd())
		for (i = 0; i < ARRAY_SIZE(amd_alias_features); i++)
			if (has_feature(amd_alias_features[i]))
				e->edx |= BIT(amd_alias_features[i] % 32);

	for (fn = 0x80000002; fn <= 0x80000006; fn++)
		add_host(fn, 0, false);

	read_host(&raw, 0x80000007, 0);
	e = add_entry(0x80000007, 0, false);
	if (!check_tsc_unstable())
		e->edx = raw.edx & BIT(8);	/* invariant TSC */

	read_host(&raw, 0x80000008, 0);
	e = add_entry(0x80000008, 0, false);
	set_features(e, &raw);
	phys = raw.eax & 0xff ?: 36;
	e->eax = min_t(u32, phys, KEEL_MAX_GPA_BITS) | 48 << 8;

	if (max->eax < 0x8000001d || !is_amd())
		return;
	add_host(0x80000019, 0, false);		/* TLB of 1G pages */
	add_caches(0x8000001d);
	if (max->eax < MAX_EXTENDED)
		return;
	read_host(&raw, MAX_EXTENDED, 0);
	e = add_entry(MAX_EXTENDED, 0, false);
	/*
	 * APM vol. 3 "E.4.17": no nested data breakpoints, LFENCE always
	 * serializes, null selector clears base.
	 */
	e->eax = raw.eax & (BIT(0) | BIT(2) | BIT(6));
}

/**
 * keel_cpuid_init() - make the list of what guests can have
 *
 * Return: 0.
 */
int keel_cpuid_init(void)
{
	nr_supported = 0;
	add_basic();
	add_kvm();
	add_extended();
	return 0;
}

/**
 * keel_cpuid_supported() - the list of what guests can have
 * @nent: out: how many entries
 *
 * Return: the first entry.
 */
const struct kvm_cpuid_entry2 *keel_cpuid_supported(int *nent)
{
	*nent = nr_supported;
	return supported;
}

/* ---- what a guest was given ---- */

static struct kvm_cpuid_entry2 *find_in(struct kvm_cpuid_entry2 *entry, int nent,
					u32 function, u32 index)
{
	int i;

	for (i = 0; i < nent; i++) {
		if (entry[i].function != function)
			continue;
		if (!(entry[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
		    entry[i].index == index)
			return &entry[i];
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *find_entry(struct keel_cpuid *cpuid, u32 function,
					   u32 index)
{
	struct kvm_cpuid_entry2 *e;
	u32 slot = (function ^ function >> 28 ^ index) % KEEL_CPUID_CACHE;

	if (cpuid->cache[slot].used && cpuid->cache[slot].function == function &&
	    cpuid->cache[slot].index == index)
		return cpuid->cache[slot].slot < 0 ? NULL :
		       &cpuid->entry[cpuid->cache[slot].slot];

	e = find_in(cpuid->entry, cpuid->nent, function, index);
	cpuid->cache[slot].function = function;
	cpuid->cache[slot].index = index;
	cpuid->cache[slot].slot = e ? e - cpuid->entry : -1;
	cpuid->cache[slot].used = true;
	return e;
}

/**
 * keel_cpuid_find() - an entry of the guest's CPUID as userspace gave it
 * @vcpu: the virtual CPU
 * @function: the leaf
 * @index: the subleaf
 *
 * Context: vcpu->mutex held.
 * Return: the entry or NULL.
 */
const struct kvm_cpuid_entry2 *keel_cpuid_find(struct keel_vcpu *vcpu, u32 function,
					       u32 index)
{
	return find_entry(&vcpu->cpuid, function, index);
}

/* Does the guest have a feature that guests can have? */
static bool guest_has(struct keel_cpuid *cpuid, u16 feature)
{
	struct kvm_cpuid_entry2 *entry = cpuid->nent ? cpuid->entry : supported;
	int nent = cpuid->nent ?: nr_supported;
	struct kvm_cpuid_entry2 *e, *s;
	int i;

	for (i = 0; i < ARRAY_SIZE(feature_words); i++) {
		if (feature_words[i].word != feature / 32)
			continue;
		e = find_in(entry, nent, feature_words[i].function,
			    feature_words[i].index);
		s = find_in(supported, nr_supported, feature_words[i].function,
			    feature_words[i].index);
		return e && s &&
		       (*cpuid_reg(e, feature_words[i].reg) &
			*cpuid_reg(s, feature_words[i].reg) & BIT(feature % 32));
	}
	return false;
}

/*
 * KVM's leaves need not be the first hypervisor's: userspace may put another's
 * in front. Linux looks at every 256th (Documentation/virt/kvm/x86/cpuid.rst).
 */
static struct kvm_cpuid_entry2 *find_kvm_features(struct kvm_cpuid_entry2 *entry, int nent)
{
	struct kvm_cpuid_entry2 *e;
	u32 base;

	for (base = KVM_CPUID_SIGNATURE; base < KVM_CPUID_SIGNATURE + 0x10000; base += 0x100) {
		e = find_in(entry, nent, base, 0);
		if (!e || memcmp(&e->ebx, kvm_signature, 4) ||
		    memcmp(&e->ecx, kvm_signature + 4, 4) ||
		    memcmp(&e->edx, kvm_signature + 8, 4))
			continue;
		return find_in(entry, nent, base + KVM_CPUID_FEATURES - KVM_CPUID_SIGNATURE, 0);
	}
	return NULL;
}

bool keel_pv_has(const struct keel_vcpu *vcpu, u32 feature)
{
	return !vcpu->pv.enforce || vcpu->cpuid.kvm_features & BIT(feature);
}

static void derive(struct keel_cpuid *cpuid)
{
	struct kvm_cpuid_entry2 *entry = cpuid->nent ? cpuid->entry : supported;
	int nent = cpuid->nent ?: nr_supported;
	struct kvm_cpuid_entry2 *e;
	u64 bits;
	int i;

	memset(cpuid->cache, 0, sizeof(cpuid->cache));

	e = find_in(entry, nent, 0x80000008, 0);
	bits = e ? e->eax & 0xff : 36;
	cpuid->maxphyaddr = clamp_t(u64, bits, 32, 52);

	bits = CR4_ALWAYS;
	for (i = 0; i < ARRAY_SIZE(cr4_features); i++)
		if (guest_has(cpuid, cr4_features[i].feature))
			bits |= cr4_features[i].bit;
	cpuid->cr4_reserved = ~bits;

	bits = EFER_SCE;
	if (guest_has(cpuid, F(LM)))
		bits |= EFER_LME | EFER_LMA;
	if (guest_has(cpuid, F(NX)))
		bits |= EFER_NX;
	if (guest_has(cpuid, F(FXSR_OPT)))
		bits |= EFER_FFXSR;
	cpuid->efer_reserved = ~bits;

	e = find_in(entry, nent, 0xd, 0);
	cpuid->xcr0_supported = 0;
	if (e && guest_has(cpuid, F(XSAVE)))
		cpuid->xcr0_supported = (e->eax | (u64)e->edx << 32) & keel_host_xcr0();

	e = find_in(entry, nent, 0, 0);
	cpuid->amd = e && (!memcmp(&e->ebx, "Auth", 4) || !memcmp(&e->ebx, "Hygo", 4));
	cpuid->tsc_aux = guest_has(cpuid, F(RDTSCP)) || guest_has(cpuid, F(RDPID));
	e = find_kvm_features(cpuid->entry, cpuid->nent);
	cpuid->kvm_features = e ? e->eax : 0;
}

/**
 * keel_cpuid_vcpu_init() - CPUID of a vCPU that was given none yet
 * @vcpu: the virtual CPU
 *
 * It has no entries, but registers may be set to whatever can be offered.
 */
void keel_cpuid_vcpu_init(struct keel_vcpu *vcpu)
{
	vcpu->cpuid.nent = 0;
	vcpu->cpuid.entry = NULL;
	derive(&vcpu->cpuid);
}

void keel_cpuid_vcpu_free(struct keel_vcpu *vcpu)
{
	kvfree(vcpu->cpuid.entry);
	vcpu->cpuid.entry = NULL;
	vcpu->cpuid.nent = 0;
}

/* ---- what it reads ---- */

/* Bits that follow the guest's registers. */
static void follow_registers(struct keel_vcpu *vcpu, const struct kvm_cpuid_entry2 *e,
			     u32 *ebx, u32 *ecx, u32 *edx)
{
	bool compacts;

	switch (e->function) {
	case 1:
		*ecx &= ~BIT(F(OSXSAVE) % 32);
		if (vcpu->regs.cr4 & X86_CR4_OSXSAVE)
			*ecx |= BIT(F(OSXSAVE) % 32);
		*edx &= ~BIT(F(APIC) % 32);
		if (vcpu->msrs.apic_base & MSR_IA32_APICBASE_ENABLE)
			*edx |= BIT(F(APIC) % 32);
		if (keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)) {
			*ecx &= ~BIT(F(MWAIT) % 32);
			if (vcpu->msrs.misc_enable & MSR_IA32_MISC_ENABLE_MWAIT)
				*ecx |= BIT(F(MWAIT) % 32);
		}
		break;
	case 7:
		if (e->index == 0)
			*ecx &= ~BIT(F(OSPKE) % 32);	/* CR4.PKE is reserved */
		break;
	case 0xd:
		compacts = e->eax & (BIT(F(XSAVES) % 32) | BIT(F(XSAVEC) % 32));
		if (e->index == 0)
			*ebx = xstate_bytes(vcpu->fpu.xcr0, false);
		else if (e->index == 1 && compacts)
			*ebx = xstate_bytes(vcpu->fpu.xcr0, true);
		break;
	}
}

static void follow_registers_in(struct keel_vcpu *vcpu, struct kvm_cpuid_entry2 *e)
{
	follow_registers(vcpu, e, &e->ebx, &e->ecx, &e->edx);
}

static bool leaf_in_range(struct keel_cpuid *cpuid, u32 function)
{
	u32 base = 0;
	struct kvm_cpuid_entry2 *e;

	if (function >= 0x40000000 && function < 0x50000000)
		base = function & 0xffffff00;	/* a hypervisor's range */
	else if (function >= 0x80000000)
		base = function & 0xffff0000;
	e = find_entry(cpuid, base, 0);
	return e && function <= e->eax;
}

/*
 * SDM vol. 2 "CPUID": beyond the highest leaf Intel gives the data of the
 * highest basic leaf; AMD gives zeroes.
 */
static struct kvm_cpuid_entry2 *out_of_range(struct keel_cpuid *cpuid, u32 function,
					     u32 index)
{
	struct kvm_cpuid_entry2 *e;

	if (cpuid->amd || leaf_in_range(cpuid, function))
		return NULL;
	e = find_entry(cpuid, 0, 0);
	return e ? find_entry(cpuid, e->eax, index) : NULL;
}

/**
 * keel_cpuid_eval() - execute CPUID
 * @vcpu: the virtual CPU
 * @eax: in: leaf; out: result, as the others
 * @ebx: out: result
 * @ecx: in: subleaf
 * @edx: out: result
 *
 * Context: vcpu->mutex held.
 */
void keel_cpuid_eval(struct keel_vcpu *vcpu, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
	struct keel_cpuid *cpuid = &vcpu->cpuid;
	u32 function = *eax, index = *ecx;
	struct kvm_cpuid_entry2 *e;

	e = find_entry(cpuid, function, index);
	if (!e)
		e = out_of_range(cpuid, function, index);
	if (e) {
		*eax = e->eax;
		*ebx = e->ebx;
		*ecx = e->ecx;
		*edx = e->edx;
		follow_registers(vcpu, e, ebx, ecx, edx);
		return;
	}

	*eax = 0;
	*ebx = 0;
	*ecx = 0;
	*edx = 0;
	if (function != 0xb && function != 0x1f)
		return;
	/* beyond the last level these two are still valid (SDM vol. 2 "CPUID") */
	e = find_entry(cpuid, function, 1);
	if (e) {
		*ecx = index & 0xff;
		*edx = e->edx;
	}
}

/* ---- ioctls ---- */

static long copy_list(struct kvm_cpuid2 __user *u, const struct kvm_cpuid_entry2 *entry,
		      u32 nent)
{
	u32 room;

	if (get_user(room, &u->nent))
		return -EFAULT;
	if (room < nent)
		return -E2BIG;
	if (copy_to_user(u->entries, entry, nent * sizeof(*entry)))
		return -EFAULT;
	return put_user(nent, &u->nent);
}

/**
 * keel_ioctl_get_supported_cpuid() - KVM_GET_SUPPORTED_CPUID
 * @u: the caller's buffer
 *
 * Return: 0, -E2BIG when the caller has no room, -EFAULT.
 */
long keel_ioctl_get_supported_cpuid(struct kvm_cpuid2 __user *u)
{
	return copy_list(u, supported, nr_supported);
}

/**
 * keel_ioctl_get_emulated_cpuid() - KVM_GET_EMULATED_CPUID
 * @u: the caller's buffer
 *
 * Features beyond the supported ones that keel would emulate: none.
 */
long keel_ioctl_get_emulated_cpuid(struct kvm_cpuid2 __user *u)
{
	return copy_list(u, NULL, 0);
}

static struct kvm_cpuid_entry2 *current_list(struct keel_vcpu *vcpu)
{
	struct kvm_cpuid_entry2 *list;
	int i;

	list = kvmalloc_array(max(vcpu->cpuid.nent, 1), sizeof(*list), GFP_KERNEL_ACCOUNT);
	if (!list)
		return NULL;
	for (i = 0; i < vcpu->cpuid.nent; i++) {
		list[i] = vcpu->cpuid.entry[i];
		follow_registers_in(vcpu, &list[i]);
	}
	return list;
}

/**
 * keel_ioctl_get_cpuid2() - KVM_GET_CPUID2: what the guest would read now
 * @vcpu: the virtual CPU
 * @u: the caller's buffer
 *
 * Return: 0, -E2BIG, -EFAULT, -ENOMEM.
 */
long keel_ioctl_get_cpuid2(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *u)
{
	struct kvm_cpuid_entry2 *list = current_list(vcpu);
	long ret;

	if (!list)
		return -ENOMEM;
	ret = copy_list(u, list, vcpu->cpuid.nent);
	kvfree(list);
	return ret;
}

/* Once the guest ran its CPUID stays; setting the same again is harmless. */
static bool same_list(struct keel_vcpu *vcpu, const struct kvm_cpuid_entry2 *entry,
		      int nent)
{
	struct kvm_cpuid_entry2 a, b;
	int i;

	if (nent != vcpu->cpuid.nent)
		return false;
	for (i = 0; i < nent; i++) {
		a = vcpu->cpuid.entry[i];
		b = entry[i];
		follow_registers_in(vcpu, &a);
		follow_registers_in(vcpu, &b);
		if (a.function != b.function || a.index != b.index ||
		    a.flags != b.flags || a.eax != b.eax || a.ebx != b.ebx ||
		    a.ecx != b.ecx || a.edx != b.edx)
			return false;
	}
	return true;
}

static bool valid_list(struct kvm_cpuid_entry2 *entry, int nent)
{
	struct kvm_cpuid_entry2 *e = find_in(entry, nent, 0x80000008, 0);
	u32 virt;

	if (!e)
		return true;
	virt = e->eax >> 8 & 0xff;
	return virt == 0 || virt == 48 || virt == 57;
}

/**
 * keel_cpuid_set() - give a vCPU its CPUID
 * @vcpu: the virtual CPU
 * @entry: from kvmalloc(); becomes the vCPU's unless it has the same already
 * @nent: how many, at most KEEL_MAX_CPUID
 *
 * Return: 0, or -EINVAL for a virtual address size that no CPU has, or a
 * change after the first run.
 */
int keel_cpuid_set(struct keel_vcpu *vcpu, struct kvm_cpuid_entry2 *entry, int nent)
{
	struct kvm_cpuid_entry2 *kvm = find_kvm_features(entry, nent);

	/* a HLT that does not exit is not ended by KVM_HC_KICK_CPU */
	if (kvm && READ_ONCE(vcpu->vm->disabled_exits) & KVM_X86_DISABLE_EXITS_HLT)
		kvm->eax &= ~BIT(KVM_FEATURE_PV_UNHALT);
	if (vcpu->launched)
		return same_list(vcpu, entry, nent) ? 0 : -EINVAL;
	if (!valid_list(entry, nent))
		return -EINVAL;
	kvfree(vcpu->cpuid.entry);
	vcpu->cpuid.entry = entry;
	vcpu->cpuid.nent = nent;
	derive(&vcpu->cpuid);
	return 0;
}

/**
 * keel_ioctl_set_cpuid2() - KVM_SET_CPUID2
 * @vcpu: the virtual CPU
 * @u: the caller's buffer
 *
 * Return: 0, -E2BIG (more than KEEL_MAX_CPUID entries), -EINVAL (virtual
 * address size that no CPU has, or a change after the first run), -EFAULT,
 * -ENOMEM.
 */
long keel_ioctl_set_cpuid2(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *u)
{
	struct kvm_cpuid_entry2 *entry = NULL;
	u32 nent, i;
	int ret;

	if (get_user(nent, &u->nent))
		return -EFAULT;
	if (nent > KEEL_MAX_CPUID)
		return -E2BIG;
	if (nent) {
		entry = vmemdup_user(u->entries, nent * sizeof(*entry));
		if (IS_ERR(entry))
			return PTR_ERR(entry);
	}
	for (i = 0; i < nent; i++)
		memset(entry[i].padding, 0, sizeof(entry[i].padding));

	ret = keel_cpuid_set(vcpu, entry, nent);
	if (ret || entry != vcpu->cpuid.entry)
		kvfree(entry);
	return ret;
}
