// SPDX-License-Identifier: GPL-2.0-only
/*
 * Model-specific registers: one row of a table for each, sorted by number.
 *
 * A row says how the MSR is read and written, or where it is stored. What has
 * no row does not exist: #GP in the guest, the end of KVM_{GET,SET}_MSRS.
 */
#include <linux/bsearch.h>
#include <linux/kernel.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/stddef.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/cpufeature.h>
#include <asm/kvm_para.h>
#include <asm/mce.h>
#include <asm/msr-index.h>
#include <asm/mtrr.h>
#include <asm/processor.h>

#include "../irq/irq.h"
#include "../keel.h"

#define MAX_MSR_ENTRIES	256	/* KVM_{GET,SET}_MSRS: fewer than this */

/* struct msr_row flags */
#define LIST		BIT(0)	/* in KVM_GET_MSR_INDEX_LIST */
#define HOST_ONLY	BIT(1)	/* does not exist for the guest itself */
#define NEEDS_TSC_AUX	BIT(2)	/* listed only where CPUs have RDTSCP or RDPID */

/**
 * struct msr_row - one MSR, or a range of them
 * @first: its number
 * @last: the last one's number
 * @get: answers 0 or -EINVAL; NULL: storage at @offset
 * @set: answers 0 or -EINVAL; NULL: storage at @offset
 * @reserved: bits of storage that cannot be set
 * @offset: in struct keel_msrs
 * @flags: LIST and so on
 */
struct msr_row {
	u32 first, last;
	int (*get)(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host);
	int (*set)(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host);
	u64 reserved;
	u16 offset;
	u16 flags;
};

static u64 *storage(struct keel_vcpu *vcpu, u16 offset)
{
	return (void *)&vcpu->msrs + offset;
}

/* ---- those of which a CPU that is not there wants nothing ---- */

static int get_zero(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = 0;
	return 0;
}

static int set_ignored(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return 0;
}

static int set_zero(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return value ? -EINVAL : 0;
}

static int set_never(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return -EINVAL;
}

/* Read-only to the guest; userspace may write what it read. */
static int set_unchanged(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	u64 now;

	if (!host || keel_get_msr(vcpu, msr, &now, true) || now != value)
		return -EINVAL;
	return 0;
}

/* ---- registers that have their place in vcpu->regs ---- */

/* Addresses have 48 bits: 57-bit linear addresses are not offered. */
static u64 canonical(u64 address)
{
	return (u64)((s64)(address << 16) >> 16);
}

static u64 *syscall_reg(struct keel_vcpu *vcpu, u32 msr)
{
	struct keel_regs *r = &vcpu->regs;

	switch (msr) {
	case MSR_IA32_SYSENTER_CS: return &r->sysenter_cs;
	case MSR_IA32_SYSENTER_ESP: return &r->sysenter_esp;
	case MSR_IA32_SYSENTER_EIP: return &r->sysenter_eip;
	case MSR_STAR: return &r->star;
	case MSR_LSTAR: return &r->lstar;
	case MSR_CSTAR: return &r->cstar;
	case MSR_SYSCALL_MASK: return &r->fmask;
	default: return &r->kernel_gs_base;
	}
}

static int get_syscall(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	keel_need(vcpu, KEEL_SYSCALL);
	*value = *syscall_reg(vcpu, msr);
	return 0;
}

static int set_syscall(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	keel_change(vcpu, KEEL_SYSCALL);
	*syscall_reg(vcpu, msr) = value;
	return 0;
}

/* Bits 63:32 are reserved: the host's WRMSR of them would fault on Intel. */
static int set_syscall_mask(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return value >> 32 ? -EINVAL : set_syscall(vcpu, msr, value, host);
}

static int set_syscall_address(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (value != canonical(value))
		return -EINVAL;
	return set_syscall(vcpu, msr, value, host);
}

/*
 * Intel raises #GP for one that is not canonical, AMD drops its upper half;
 * a VMM may carry a guest from one to the other, so cut it to what both take.
 */
static int set_sysenter_address(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return set_syscall(vcpu, msr, canonical(value), host);
}

static struct kvm_segment *base_segment(struct keel_vcpu *vcpu, u32 msr)
{
	return &vcpu->regs.seg[msr == MSR_FS_BASE ? KEEL_FS : KEEL_GS];
}

static int get_segment_base(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	keel_need(vcpu, KEEL_OTHER_SEGS);
	*value = base_segment(vcpu, msr)->base;
	return 0;
}

static int set_segment_base(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (value != canonical(value))
		return -EINVAL;
	keel_change(vcpu, KEEL_OTHER_SEGS);
	base_segment(vcpu, msr)->base = value;
	return 0;
}

static int get_efer(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = vcpu->regs.efer;
	return 0;
}

static int set_efer(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return keel_set_efer(vcpu, value, host);
}

/* ---- memory types: PAT, MTRRs. Kept, not obeyed: RAM is write-back. ---- */

static bool valid_pat_type(u8 type)
{
	return type <= 7 && type != 2 && type != 3;
}

static bool valid_mtrr_type(u8 type)
{
	return type <= MTRR_TYPE_WRBACK && type != 2 && type != 3;
}

static bool each_byte(u64 value, bool (*valid)(u8 type))
{
	int i;

	for (i = 0; i < 8; i++)
		if (!valid(value >> 8 * i))
			return false;
	return true;
}

static int set_pat(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (!each_byte(value, valid_pat_type))
		return -EINVAL;
	/* the backend loads the guest's PAT with the control registers */
	keel_change(vcpu, KEEL_CRS);
	vcpu->msrs.pat = value;
	return 0;
}

static int get_mtrr_cap(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = KEEL_VAR_MTRRS | BIT(8) | BIT(10);	/* fixed ranges, write-combining */
	return 0;
}

static int set_mtrr_def_type(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (value & ~(u64)(GENMASK(7, 0) | GENMASK(11, 10)) || !valid_mtrr_type(value))
		return -EINVAL;
	vcpu->msrs.mtrr_def_type = value;
	return 0;
}

/* The eleven fixed-range MTRRs are in three places. */
static u64 *mtrr_fixed(struct keel_vcpu *vcpu, u32 msr)
{
	u32 i = 0;

	BUILD_BUG_ON(ARRAY_SIZE(vcpu->msrs.mtrr_fixed) != 11);
	if (msr >= MSR_MTRRfix4K_C0000)
		i = 3 + msr - MSR_MTRRfix4K_C0000;
	else if (msr >= MSR_MTRRfix16K_80000)
		i = 1 + msr - MSR_MTRRfix16K_80000;
	return &vcpu->msrs.mtrr_fixed[array_index_nospec(i, 11)];
}

static int get_mtrr_fixed(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = *mtrr_fixed(vcpu, msr);
	return 0;
}

static int set_mtrr_fixed(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (!each_byte(value, valid_mtrr_type))
		return -EINVAL;
	*mtrr_fixed(vcpu, msr) = value;
	return 0;
}

static u64 *mtrr_var(struct keel_vcpu *vcpu, u32 msr)
{
	u32 i = array_index_nospec(msr - MTRRphysBase_MSR(0), 2 * KEEL_VAR_MTRRS);

	return &vcpu->msrs.mtrr_var[i / 2][i % 2];
}

static int get_mtrr_var(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = *mtrr_var(vcpu, msr);
	return 0;
}

static int set_mtrr_var(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	bool is_mask = (msr - MTRRphysBase_MSR(0)) & 1;
	u64 reserved = GENMASK_ULL(63, vcpu->cpuid.maxphyaddr);

	/* SDM vol. 3 "Variable Range MTRRs" */
	if (is_mask)
		reserved |= GENMASK_ULL(10, 0);
	else
		reserved |= GENMASK_ULL(11, 8);
	if (value & reserved || (!is_mask && !valid_mtrr_type(value)))
		return -EINVAL;
	*mtrr_var(vcpu, msr) = value;
	return 0;
}

/* ---- machine checks: banks that report nothing ---- */

static int get_mcg_ctl(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	if (!(vcpu->msrs.mcg_cap & MCG_CTL_P) && !host)
		return -EINVAL;
	*value = vcpu->msrs.mcg_ctl;
	return 0;
}

static int set_mcg_ctl(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (!(vcpu->msrs.mcg_cap & MCG_CTL_P) && (value || !host))
		return -EINVAL;
	if (value && value != ~0ULL)
		return -EINVAL;
	vcpu->msrs.mcg_ctl = value;
	return 0;
}

/* Bank n has CTL, STATUS, ADDR and MISC at 4 * n. NULL: no such bank. */
static u64 *mce_bank(struct keel_vcpu *vcpu, u32 msr)
{
	u32 i = msr - MSR_IA32_MC0_CTL;
	u32 banks = vcpu->msrs.mcg_cap & MCG_BANKCNT_MASK;

	if (i / 4 >= min_t(u32, banks, KEEL_MCE_BANKS))
		return NULL;
	i = array_index_nospec(i, 4 * KEEL_MCE_BANKS);
	return &vcpu->msrs.mce_bank[i / 4][i % 4];
}

static int get_mce_bank(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	u64 *bank = mce_bank(vcpu, msr);

	if (!bank)
		return -EINVAL;
	*value = *bank;
	return 0;
}

static int set_mce_bank(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	u64 *bank = mce_bank(vcpu, msr);
	u32 which = (msr - MSR_IA32_MC0_CTL) % 4;

	if (!bank)
		return -EINVAL;
	/*
	 * CTL takes all ones or zero; Linux leaves bit 10 (bank 4 of old AMD
	 * CPUs) or bit 0 (bank 0 of old Intel ones) out.
	 */
	if (which == 0 && value && (value | BIT(10) | BIT(0)) != ~0ULL)
		return -EINVAL;
	/* SDM vol. 3 "IA32_MCi_STATUS MSRS": writing anything but 0 is #GP */
	if (which == 1 && value && !host)
		return -EINVAL;
	*bank = value;
	return 0;
}

/* ---- time ---- */

static int get_tsc(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = keel_guest_tsc(vcpu);
	return 0;
}

static int set_tsc(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	keel_tsc_write(vcpu, value, host);
	return 0;
}

static int set_tsc_adjust(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	keel_tsc_adjust_write(vcpu, value, host);
	return 0;
}

static int get_tsc_aux(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	if (!host && !vcpu->cpuid.tsc_aux)
		return -EINVAL;
	*value = vcpu->msrs.tsc_aux;
	return 0;
}

static int set_tsc_aux(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if ((!host && !vcpu->cpuid.tsc_aux) || value >> 32)
		return -EINVAL;
	vcpu->msrs.tsc_aux = value;
	return 0;
}

static bool has_kvmclock(struct keel_vcpu *vcpu, u32 msr)
{
	bool new = msr == MSR_KVM_WALL_CLOCK_NEW || msr == MSR_KVM_SYSTEM_TIME_NEW;

	return keel_pv_has(vcpu, new ? KVM_FEATURE_CLOCKSOURCE2 : KVM_FEATURE_CLOCKSOURCE);
}

static int get_kvmclock(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	if (!has_kvmclock(vcpu, msr))
		return -EINVAL;
	if (msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_WALL_CLOCK_NEW)
		*value = vcpu->vm->clock.wall_clock;
	else
		*value = vcpu->clock.system_time_msr;
	return 0;
}

static int set_kvmclock(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return has_kvmclock(vcpu, msr) ? keel_clock_set_msr(vcpu, msr, value) : -EINVAL;
}

/* ---- KVM's: stolen time, interrupts that end without an exit, asynchronous page faults ---- */

static int get_steal_time(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	if (!keel_pv_has(vcpu, KVM_FEATURE_STEAL_TIME))
		return -EINVAL;
	*value = vcpu->pv.steal_msr;
	return 0;
}

static int set_steal_time(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return keel_steal_set_msr(vcpu, value);
}

static int get_pv_eoi(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	if (!keel_pv_has(vcpu, KVM_FEATURE_PV_EOI))
		return -EINVAL;
	*value = vcpu->pv.eoi_msr;
	return 0;
}

static int set_pv_eoi(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (!keel_pv_has(vcpu, KVM_FEATURE_PV_EOI) || (value & 3 & ~KVM_MSR_ENABLED))
		return -EINVAL;
	/* unlike the others of its kind it wants memory there, as on KVM */
	if ((value & KVM_MSR_ENABLED) && !keel_guest_has_ram(vcpu->vm, keel_gfn(value), true))
		return -EINVAL;
	keel_pv_eoi_settle(vcpu);
	vcpu->pv.eoi_msr = value;
	return 0;
}

static int get_async_pf(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	return keel_async_pf_get_msr(vcpu, msr, value);
}

static int set_async_pf(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return keel_async_pf_set_msr(vcpu, msr, value);
}

/* ---- the local APIC ---- */

static int set_apic_base(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return keel_lapic_set_base(vcpu, value, host);
}

static int get_x2apic(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	return vcpu->lapic ? keel_lapic_msr_read(vcpu, msr, value) : -EINVAL;
}

static int set_x2apic(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return vcpu->lapic ? keel_lapic_msr_write(vcpu, msr, value) : -EINVAL;
}

/* Without a LAPIC here it is userspace's; KVM's clients expect no error. */
static int get_tsc_deadline(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = keel_lapic_tsc_deadline(vcpu, host);
	return 0;
}

static int set_tsc_deadline(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	keel_lapic_set_tsc_deadline(vcpu, value);
	return 0;
}

/* ---- odds and ends that Linux touches ---- */

/* Firmware's switch of MONITOR/MWAIT, with the quirk disabled: see follow_registers(). */
static int set_misc_enable(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	const struct kvm_cpuid_entry2 *leaf1;

	if (keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) &&
	    (value ^ vcpu->msrs.misc_enable) & MSR_IA32_MISC_ENABLE_MWAIT) {
		/* SDM vol. 4, IA32_MISC_ENABLE[18]: #GP without SSE3 */
		leaf1 = keel_cpuid_find(vcpu, 1, 0);
		if (!leaf1 || !(leaf1->ecx & BIT(X86_FEATURE_XMM3 % 32)))
			return -EINVAL;
	}
	vcpu->msrs.misc_enable = value;
	return 0;
}

/* The guest starts an update by writing; there is none to be had. */
static int set_ucode_rev(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (host)
		vcpu->msrs.ucode_rev = value;
	return 0;
}

static int set_feature_control(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (value & ~(u64)FEAT_CTL_LOCKED)
		return -EINVAL;
	if (!host && vcpu->msrs.feature_control & FEAT_CTL_LOCKED)
		return -EINVAL;
	vcpu->msrs.feature_control = value;
	return 0;
}

/* Branch tracing is not there: switching it on does nothing, as on KVM. */
static int set_debugctl(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return value & ~(u64)(DEBUGCTLMSR_LBR | DEBUGCTLMSR_BTF) ? -EINVAL : 0;
}

/* What firmware sets and is of no use here: cache flush and TLB options. */
#define HWCR_IGNORED	(BIT(3) | BIT(6) | BIT(8))
#define HWCR_KEPT	(BIT(18) | BIT(MSR_K7_HWCR_TSC_FREQ_SEL_BIT))
#define MSR_K7_HWCR_TSC_FREQ_SEL_BIT	24	/* TSC counts at P0's frequency */

static int set_hwcr(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	value &= ~(u64)HWCR_IGNORED;
	if (value & ~(u64)HWCR_KEPT)
		return -EINVAL;
	vcpu->msrs.hwcr = value;
	return 0;
}

/*
 * CPUID faulting: PLATFORM_INFO says that it is there, MISC_FEATURES_ENABLES
 * has CPUID raise #GP outside ring 0.
 */
static int get_platform_info(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	if (!host && READ_ONCE(vcpu->vm->hide_platform_info))
		return -EINVAL;
	*value = vcpu->msrs.platform_info;
	return 0;
}

static int set_platform_info(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (!host || (vcpu->msrs.misc_features && !(value & MSR_PLATFORM_INFO_CPUID_FAULT)))
		return -EINVAL;
	vcpu->msrs.platform_info = value;
	return 0;
}

static int set_misc_features(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	if (value & ~(u64)MSR_MISC_FEATURES_ENABLES_CPUID_FAULT ||
	    (value && !(vcpu->msrs.platform_info & MSR_PLATFORM_INFO_CPUID_FAULT)))
		return -EINVAL;
	vcpu->msrs.misc_features = value;
	return 0;
}

/* Is LFENCE serializing? A fact of the host, which the guest may set again. */
static int get_de_cfg(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	*value = boot_cpu_has(X86_FEATURE_LFENCE_RDTSC) ? MSR_AMD64_DE_CFG_LFENCE_SERIALIZE : 0;
	return 0;
}

static int set_de_cfg(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	return value & ~(u64)MSR_AMD64_DE_CFG_LFENCE_SERIALIZE ? -EINVAL : 0;
}

/* ---- the table ---- */

#define ROW(n, ...)		{ .first = (n), .last = (n), __VA_ARGS__ }
#define ROWS(n, m, ...)		{ .first = (n), .last = (m), __VA_ARGS__ }
#define AT(field)		.offset = offsetof(struct keel_msrs, field)

static const struct msr_row rows[] = {
	ROW(MSR_IA32_TSC, get_tsc, set_tsc, .flags = LIST),
	ROWS(MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME, get_kvmclock, set_kvmclock,
	     .flags = LIST),
	ROW(MSR_IA32_PLATFORM_ID, get_zero, set_never),
	ROW(MSR_IA32_APICBASE, NULL, set_apic_base, AT(apic_base)),
	ROW(MSR_IA32_EBL_CR_POWERON, get_zero, set_zero),
	ROW(MSR_SMI_COUNT, NULL, NULL, AT(smi_count), .reserved = GENMASK_ULL(63, 32),
	    .flags = LIST),
	ROW(MSR_IA32_FEAT_CTL, NULL, set_feature_control, AT(feature_control)),
	ROW(MSR_IA32_TSC_ADJUST, NULL, set_tsc_adjust, AT(tsc_adjust), .flags = LIST),
	ROW(MSR_IA32_UCODE_WRITE, get_zero, set_ignored),
	ROW(MSR_IA32_UCODE_REV, NULL, set_ucode_rev, AT(ucode_rev), .flags = LIST),
	/* P6 performance counters: Linux tries them and finds none */
	ROWS(MSR_P6_PERFCTR0, MSR_P6_PERFCTR1, get_zero, set_ignored),
	ROW(MSR_PLATFORM_INFO, get_platform_info, set_platform_info, .flags = LIST),
	ROW(MSR_MTRRcap, get_mtrr_cap, set_unchanged, .flags = LIST),
	ROW(MSR_IA32_ARCH_CAPABILITIES, NULL, NULL, AT(arch_capabilities),
	    .flags = HOST_ONLY),
	ROW(MSR_MISC_FEATURES_ENABLES, NULL, set_misc_features, AT(misc_features),
	    .flags = LIST),
	ROW(MSR_IA32_SYSENTER_CS, get_syscall, set_syscall, .flags = LIST),
	ROWS(MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP, get_syscall,
	     set_sysenter_address, .flags = LIST),
	ROW(MSR_IA32_MCG_CAP, NULL, set_unchanged, AT(mcg_cap)),
	ROW(MSR_IA32_MCG_STATUS, NULL, NULL, AT(mcg_status), .flags = LIST),
	ROW(MSR_IA32_MCG_CTL, get_mcg_ctl, set_mcg_ctl, .flags = LIST),
	ROWS(MSR_P6_EVNTSEL0, MSR_P6_EVNTSEL1, get_zero, set_ignored),
	ROW(MSR_IA32_PERF_CTL, get_zero, set_ignored),
	ROW(MSR_IA32_MISC_ENABLE, NULL, set_misc_enable, AT(misc_enable), .flags = LIST),
	ROW(MSR_IA32_DEBUGCTLMSR, get_zero, set_debugctl),
	ROWS(MSR_IA32_LASTBRANCHFROMIP, MSR_IA32_LASTINTTOIP, get_zero, set_never),
	ROW(MSR_IA32_POWER_CTL, NULL, NULL, AT(power_ctl), .flags = LIST),
	ROWS(MTRRphysBase_MSR(0), MTRRphysMask_MSR(KEEL_VAR_MTRRS - 1), get_mtrr_var,
	     set_mtrr_var, .flags = LIST),
	ROW(MSR_MTRRfix64K_00000, get_mtrr_fixed, set_mtrr_fixed, .flags = LIST),
	ROWS(MSR_MTRRfix16K_80000, MSR_MTRRfix16K_A0000, get_mtrr_fixed,
	     set_mtrr_fixed, .flags = LIST),
	ROWS(MSR_MTRRfix4K_C0000, MSR_MTRRfix4K_F8000, get_mtrr_fixed, set_mtrr_fixed,
	     .flags = LIST),
	ROW(MSR_IA32_CR_PAT, NULL, set_pat, AT(pat), .flags = LIST),
	ROW(MSR_MTRRdefType, NULL, set_mtrr_def_type, AT(mtrr_def_type), .flags = LIST),
	/* no PMU, no capabilities of it; KVM has the MSR either way */
	ROW(MSR_IA32_PERF_CAPABILITIES, get_zero, set_zero, .flags = LIST | HOST_ONLY),
	ROWS(MSR_IA32_MC0_CTL, MSR_IA32_MC0_CTL + 4 * KEEL_MCE_BANKS - 1, get_mce_bank,
	     set_mce_bank),
	/* energy counters: Linux reads those of its CPU model unasked */
	ROW(MSR_RAPL_POWER_UNIT, get_zero, set_never),
	ROW(MSR_PKG_ENERGY_STATUS, get_zero, set_never),
	ROW(MSR_DRAM_ENERGY_STATUS, get_zero, set_never),
	ROW(MSR_PP0_ENERGY_STATUS, get_zero, set_never),
	ROW(MSR_PP1_ENERGY_STATUS, get_zero, set_never),
	ROW(MSR_IA32_TSC_DEADLINE, get_tsc_deadline, set_tsc_deadline, .flags = LIST),
	ROWS(APIC_BASE_MSR, APIC_BASE_MSR + 0xff, get_x2apic, set_x2apic),
	ROWS(MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW, get_kvmclock,
	     set_kvmclock, .flags = LIST),
	ROW(MSR_KVM_ASYNC_PF_EN, get_async_pf, set_async_pf, .flags = LIST),
	ROW(MSR_KVM_STEAL_TIME, get_steal_time, set_steal_time, .flags = LIST),
	ROW(MSR_KVM_PV_EOI_EN, get_pv_eoi, set_pv_eoi, .flags = LIST),
	ROWS(MSR_KVM_ASYNC_PF_INT, MSR_KVM_ASYNC_PF_ACK, get_async_pf, set_async_pf,
	     .flags = LIST),
	ROW(MSR_EFER, get_efer, set_efer),
	ROW(MSR_STAR, get_syscall, set_syscall, .flags = LIST),
	ROWS(MSR_LSTAR, MSR_CSTAR, get_syscall, set_syscall_address, .flags = LIST),
	ROW(MSR_SYSCALL_MASK, get_syscall, set_syscall_mask, .flags = LIST),
	ROWS(MSR_FS_BASE, MSR_GS_BASE, get_segment_base, set_segment_base),
	ROW(MSR_KERNEL_GS_BASE, get_syscall, set_syscall_address, .flags = LIST),
	ROW(MSR_TSC_AUX, get_tsc_aux, set_tsc_aux, .flags = LIST | NEEDS_TSC_AUX),
	/* AMD: K7 performance counters, as P6's */
	ROWS(MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3, get_zero, set_ignored),
	ROW(MSR_AMD64_SYSCFG, get_zero, set_ignored),
	ROW(MSR_K7_HWCR, NULL, set_hwcr, AT(hwcr), .flags = LIST),
	ROW(MSR_AMD64_NB_CFG, get_zero, set_ignored),
	ROW(MSR_AMD64_PATCH_LOADER, get_zero, set_ignored),
	ROW(MSR_K8_INT_PENDING_MSG, get_zero, set_zero),
	ROW(MSR_FAM10H_MMIO_CONF_BASE, get_zero, set_zero),
	ROWS(MSR_K8_TSEG_ADDR, MSR_K8_TSEG_MASK, get_zero, set_never),
	ROW(MSR_VM_HSAVE_PA, get_zero, set_ignored),
	ROWS(MSR_AMD64_DC_CFG, MSR_AMD64_TW_CFG, get_zero, set_ignored),
	ROW(MSR_AMD64_DE_CFG, get_de_cfg, set_de_cfg),
	ROW(MSR_AMD64_BU_CFG2, get_zero, set_ignored),
	ROW(MSR_F15H_EX_CFG, get_zero, set_ignored),
};

/* MSRs that say what the host has, independent of any VM. */
static const u32 feature_msrs[] = {
	MSR_IA32_UCODE_REV, MSR_IA32_PERF_CAPABILITIES, MSR_AMD64_DE_CFG,
};

static u32 index_list[MAX_MSR_ENTRIES];
static u32 nr_index_list;

/**
 * keel_msr_init() - make the list for KVM_GET_MSR_INDEX_LIST
 *
 * Return: 0, or -EINVAL when the table is not sorted or too long.
 */
int keel_msr_init(void)
{
	bool tsc_aux = boot_cpu_has(X86_FEATURE_RDTSCP) || boot_cpu_has(X86_FEATURE_RDPID);
	u32 i, msr;

	nr_index_list = 0;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (WARN_ON(rows[i].last < rows[i].first) ||
		    WARN_ON(i && rows[i].first <= rows[i - 1].last))
			return -EINVAL;
		if (!(rows[i].flags & LIST) ||
		    (rows[i].flags & NEEDS_TSC_AUX && !tsc_aux))
			continue;
		for (msr = rows[i].first; msr <= rows[i].last; msr++) {
			if (WARN_ON(nr_index_list == MAX_MSR_ENTRIES))
				return -EINVAL;
			index_list[nr_index_list++] = msr;
		}
	}
	return 0;
}

/**
 * keel_msr_index_list() - the MSRs that userspace can save and restore
 * @count: out: how many
 *
 * Return: the first.
 */
const u32 *keel_msr_index_list(u32 *count)
{
	*count = nr_index_list;
	return index_list;
}

static int row_cmp(const void *key, const void *elt)
{
	const struct msr_row *row = elt;
	u32 msr = *(const u32 *)key;

	if (msr < row->first)
		return -1;
	return msr > row->last;
}

static const struct msr_row *find_row(u32 msr, bool host)
{
	const struct msr_row *row;

	row = __inline_bsearch(&msr, rows, ARRAY_SIZE(rows), sizeof(rows[0]), row_cmp);
	if (row && row->flags & HOST_ONLY && !host)
		return NULL;
	return row;
}

int keel_get_msr(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host)
{
	const struct msr_row *row = find_row(msr, host);

	*value = 0;
	if (!row)
		return -ENOENT;
	if (row->get)
		return row->get(vcpu, msr, value, host);
	*value = *storage(vcpu, row->offset);
	return 0;
}

int keel_set_msr(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host)
{
	const struct msr_row *row = find_row(msr, host);

	if (!row)
		return -ENOENT;
	if (row->set)
		return row->set(vcpu, msr, value, host);
	if (value & row->reserved)
		return -EINVAL;
	*storage(vcpu, row->offset) = value;
	return 0;
}

/* An IPI to one vCPU; others have up to all of them to wake. */
static bool ipi_to_one(u64 icr)
{
	u32 shorthand = icr & APIC_DEST_ALLBUT;

	return shorthand == APIC_DEST_SELF ||
	       (!shorthand && !(icr & APIC_DEST_LOGICAL) && icr >> 32 != U32_MAX);
}

static bool x2apic_write_is_atomic(u32 msr, u64 value)
{
	switch ((msr - APIC_BASE_MSR) << 4) {
	case APIC_ICR:
		return ipi_to_one(value);
	case APIC_TASKPRI:
	case APIC_EOI:
	case APIC_SELF_IPI:
	case APIC_TMICT:
		return true;
	default:
		return false;
	}
}

/* PV EOI: the guest's word is looked at before the APIC's registers are. */
bool keel_msr_read_is_atomic(struct keel_vcpu *vcpu, u32 msr)
{
	return msr - APIC_BASE_MSR > 0xff || !vcpu->pv.eoi_offered;
}

bool keel_msr_write_is_atomic(struct keel_vcpu *vcpu, u32 msr, u64 value)
{
	switch (msr) {
	case MSR_IA32_TSC_ADJUST:
	case MSR_IA32_TSC_DEADLINE:
		return true;
	case APIC_BASE_MSR ... APIC_BASE_MSR + 0xff:
		return !vcpu->pv.eoi_offered && x2apic_write_is_atomic(msr, value);
	default:
		return false;
	}
}

/* Microcode revisions that no erratum check of a guest looks for. */
#define UCODE_REV_INTEL	BIT_ULL(32)
#define UCODE_REV_AMD	0x01000065ULL
#define PAT_RESET	0x0007040600070406ULL	/* SDM vol. 3 "IA32_PAT MSR" */

/**
 * keel_msrs_reset() - power-up or INIT
 * @vcpu: the virtual CPU
 * @init: INIT, which leaves most MSRs as they were
 */
void keel_msrs_reset(struct keel_vcpu *vcpu, bool init)
{
	struct keel_msrs *m = &vcpu->msrs;
	int i;

	/* the guest's kernel starts again: its pages are other memory by then */
	vcpu->clock.system_time_msr = 0;
	vcpu->pv.steal_msr = 0;
	vcpu->pv.eoi_msr = 0;
	vcpu->pv.eoi_offered = false;
	if (init)
		return;

	memset(m, 0, sizeof(*m));
	m->apic_base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE;
	if (vcpu->id == vcpu->vm->bsp_id)
		m->apic_base |= MSR_IA32_APICBASE_BSP;
	m->pat = PAT_RESET;
	keel_change(vcpu, KEEL_CRS);
	m->misc_enable = MSR_IA32_MISC_ENABLE_BTS_UNAVAIL |
			 MSR_IA32_MISC_ENABLE_PEBS_UNAVAIL;
	m->feature_control = FEAT_CTL_LOCKED;
	m->platform_info = MSR_PLATFORM_INFO_CPUID_FAULT;
	m->ucode_rev = boot_cpu_data.x86_vendor == X86_VENDOR_INTEL ?
		       UCODE_REV_INTEL : UCODE_REV_AMD;
	m->mcg_cap = KEEL_MCE_BANKS;
	for (i = 0; i < KEEL_MCE_BANKS; i++)
		m->mce_bank[i][0] = ~0ULL;
}

/* ---- ioctls ---- */

static long copy_index_list(struct kvm_msr_list __user *u, const u32 *list, u32 count)
{
	u32 room;

	if (get_user(room, &u->nmsrs))
		return -EFAULT;
	if (put_user(count, &u->nmsrs))
		return -EFAULT;
	if (room < count)
		return -E2BIG;
	return copy_to_user(u->indices, list, count * sizeof(*list)) ? -EFAULT : 0;
}

/**
 * keel_ioctl_msr_index_list() - KVM_GET_MSR_INDEX_LIST
 * @u: the caller's buffer
 *
 * Return: 0, -E2BIG with the count written, -EFAULT.
 */
long keel_ioctl_msr_index_list(struct kvm_msr_list __user *u)
{
	return copy_index_list(u, index_list, nr_index_list);
}

/**
 * keel_ioctl_msr_feature_index_list() - KVM_GET_MSR_FEATURE_INDEX_LIST
 * @u: the caller's buffer
 *
 * Return: 0, -E2BIG with the count written, -EFAULT.
 */
long keel_ioctl_msr_feature_index_list(struct kvm_msr_list __user *u)
{
	return copy_index_list(u, feature_msrs, ARRAY_SIZE(feature_msrs));
}

static int get_feature_msr(struct keel_vcpu *vcpu, u32 msr, u64 *value)
{
	switch (msr) {
	case MSR_IA32_UCODE_REV:
		*value = boot_cpu_data.microcode;
		if (boot_cpu_data.x86_vendor == X86_VENDOR_INTEL)
			*value <<= 32;
		return 0;
	case MSR_IA32_PERF_CAPABILITIES:
		return get_zero(NULL, msr, value, true);
	case MSR_AMD64_DE_CFG:
		return get_de_cfg(NULL, msr, value, true);
	default:
		return -EINVAL;
	}
}

static int get_one(struct keel_vcpu *vcpu, u32 msr, u64 *value)
{
	return keel_get_msr(vcpu, msr, value, true);
}

static int set_one(struct keel_vcpu *vcpu, u32 msr, u64 *value)
{
	return keel_set_msr(vcpu, msr, *value, true);
}

/*
 * Entries are processed until one fails. Return: how many were, or a negative
 * errno.
 */
static long each_entry(struct keel_vcpu *vcpu, struct kvm_msrs __user *u,
		       int (*op)(struct keel_vcpu *vcpu, u32 msr, u64 *value),
		       bool write_back)
{
	struct kvm_msr_entry *entry;
	u32 nmsrs, done;
	long ret;

	if (get_user(nmsrs, &u->nmsrs))
		return -EFAULT;
	if (nmsrs >= MAX_MSR_ENTRIES)
		return -E2BIG;
	if (!nmsrs)
		return 0;
	entry = vmemdup_user(u->entries, nmsrs * sizeof(*entry));
	if (IS_ERR(entry))
		return PTR_ERR(entry);

	for (done = 0; done < nmsrs; done++) {
		u64 value = entry[done].data;

		if (op(vcpu, entry[done].index, &value))
			break;
		entry[done].data = value;
	}
	ret = done;
	if (write_back && copy_to_user(u->entries, entry, nmsrs * sizeof(*entry)))
		ret = -EFAULT;
	kvfree(entry);
	return ret;
}

/**
 * keel_ioctl_get_feature_msrs() - KVM_GET_MSRS on the device
 * @u: the caller's buffer
 *
 * Return: how many entries were read before one failed, or -E2BIG, -EFAULT,
 * -ENOMEM.
 */
long keel_ioctl_get_feature_msrs(struct kvm_msrs __user *u)
{
	return each_entry(NULL, u, get_feature_msr, true);
}

/**
 * keel_ioctl_get_msrs() - KVM_GET_MSRS
 * @vcpu: the virtual CPU
 * @u: the caller's buffer
 *
 * Return: how many entries were read before one failed, or -E2BIG, -EFAULT,
 * -ENOMEM.
 */
long keel_ioctl_get_msrs(struct keel_vcpu *vcpu, struct kvm_msrs __user *u)
{
	return each_entry(vcpu, u, get_one, true);
}

/**
 * keel_ioctl_set_msrs() - KVM_SET_MSRS
 * @vcpu: the virtual CPU
 * @u: the caller's buffer
 *
 * Return: how many entries were written before one failed, or -E2BIG, -EFAULT,
 * -ENOMEM.
 */
long keel_ioctl_set_msrs(struct keel_vcpu *vcpu, struct kvm_msrs __user *u)
{
	return each_entry(vcpu, u, set_one, false);
}
