/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest-visible processor: registers, CPUID, MSRs, events, FPU, time.
 */
#ifndef KEEL_CPU_H
#define KEEL_CPU_H

#include <linux/kvm.h>
#include <linux/kvm_types.h>
#include <linux/list.h>
#include <linux/spinlock_types.h>
#include <asm/fpu/types.h>
#include <asm/mce.h>

#include "../backend.h"

struct keel_vcpu;
struct keel_vm;

/* Of DR6 and DR7, what <uapi/asm/debugreg.h> has not. SDM vol. 3, 18.2. */
#define KEEL_DR6_BD	BIT(13)		/* access to a debug register under GD */
#define KEEL_DR6_CAUSES	(0xf | BIT(13) | BIT(14) | BIT(15))
#define KEEL_DR7_GD	BIT(13)		/* general detect */
#define KEEL_DR7_FIXED	0x00000400UL
#define KEEL_DR7_WRITABLE	0xffff2fffUL

/* Hardware order, as ModRM and the CR/DR exits number them. */
enum keel_gpr {
	KEEL_RAX, KEEL_RCX, KEEL_RDX, KEEL_RBX, KEEL_RSP_REG, KEEL_RBP,
	KEEL_RSI, KEEL_RDI, KEEL_R8, KEEL_R9, KEEL_R10, KEEL_R11,
	KEEL_R12, KEEL_R13, KEEL_R14, KEEL_R15,
	KEEL_NR_GPRS,
};

enum keel_seg {
	KEEL_ES, KEEL_CS, KEEL_SS, KEEL_DS, KEEL_FS, KEEL_GS, KEEL_LDTR, KEEL_TR,
	KEEL_NR_SEGS,
};

/**
 * struct keel_regs - the registers, and who has them
 * @valid: KEEL_ groups whose copy here is current; the rest is in the hardware
 * @dirty: KEEL_ groups to be written to the hardware before the next entry
 *
 * The general registers (but RSP) are always here. Call keel_need()
 * before reading a group, keel_change() before writing to it.
 */
struct keel_regs {
	u64 gpr[KEEL_NR_GPRS];	/* entry stubs index this: keep it first */
	u64 rip;
	u64 rflags;
	u64 cr2;		/* always here: swapped by the entry stubs */
	u64 cr0, cr3, cr4, efer;
	u64 cr8;		/* only without in-kernel LAPIC, which has the TPR otherwise */
	u64 pdptr[4];
	u64 dr[4], dr6, dr7;
	struct kvm_segment seg[KEEL_NR_SEGS];
	u8 cs_l, cpl;		/* KEEL_MODE: see keel_cpl(), keel_mode64() */
	struct kvm_dtable gdt, idt;
	u64 star, lstar, cstar, fmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u32 valid;
	u32 dirty;
};

/* Events waiting for, or cut short in, delivery. */
struct keel_events {
	struct {
		bool pending;	/* not yet delivered: may still be merged */
		bool injected;	/* was being delivered when an exit came */
		bool soft;	/* INT3, INTO, INT1: insn_len counts */
		bool has_error;
		bool has_payload;
		u8 vector;
		u8 insn_len;
		u32 error;
		u64 payload;
	} exception;
	struct {
		bool injected;
		bool soft;
		u8 vector;
		u8 insn_len;
	} interrupt;
	struct {
		u8 pending;	/* 0..2 */
		bool injected;
	} nmi;
	u8 handed;		/* KEEL_EVENT_ that the next entry delivers */
	bool more;		/* another one that was injected waits for that */
	bool want_irq_window;	/* KVM_RUN's request_interrupt_window, sampled */
};

#define KEEL_MAX_CPUID	256
#define KEEL_CPUID_CACHE	16	/* power of two */

struct keel_cpuid {
	int nent;		/* 0: not set yet, everything supported is allowed */
	struct kvm_cpuid_entry2 *entry;	/* sorted as userspace gave it */
	/* derived, so that hot paths need no search */
	u8 maxphyaddr;
	u64 cr4_reserved;
	u64 efer_reserved;
	u64 xcr0_supported;
	bool amd;		/* leaves out of range read as 0 */
	bool tsc_aux;		/* RDTSCP or RDPID */
	u32 kvm_features;	/* KVM_FEATURE_ bits, where KVM's signature is */
	/* the last lookups, direct mapped; slot is an index into entry or -1 */
	struct {
		u32 function, index;
		s16 slot;
		bool used;
	} cache[KEEL_CPUID_CACHE];
};

#define KEEL_MCE_BANKS	32
#define KEEL_MCE_CAP	(MCG_CTL_P | MCG_SER_P | KEEL_MCE_BANKS)
#define KEEL_VAR_MTRRS	8

/* MSRs that are storage only; what has an effect lives with its effect. */
struct keel_msrs {
	u64 apic_base;
	u64 pat;
	u64 misc_enable;
	u64 tsc_adjust;
	u64 tsc_aux;
	u64 mtrr_def_type;
	u64 mtrr_fixed[11];
	u64 mtrr_var[KEEL_VAR_MTRRS][2];
	u64 mcg_cap, mcg_status, mcg_ctl;
	u64 mce_bank[KEEL_MCE_BANKS][4];
	u64 ucode_rev;
	u64 smi_count;
	u64 hwcr;
	u64 arch_capabilities;
	u64 feature_control;
	u64 power_ctl;
	u64 platform_info;
	u64 misc_features;
};

struct keel_fpu {
	struct fpu_guest guest;
	u64 xcr0;
	bool loaded;	/* the guest's FPU state is in the registers */
};

/*
 * The guest's clock runs at the TSC's rate from one (TSC, ns) pair of the
 * whole VM, so that all vCPUs agree to the bit.
 */
struct keel_vm_clock {
	seqcount_spinlock_t seq;
	spinlock_t lock;	/* one writer at a time */
	u64 base_tsc;		/* host's */
	u64 base_ns;		/* kvmclock there */
	u64 base_boot_ns;	/* CLOCK_BOOTTIME there, for hosts with unstable TSC */
	u32 mul;		/* ns = (tsc << shift) * mul >> 32 */
	s8 shift;
	u64 tsc_offset;		/* of the last vCPU whose TSC was set: new ones join it */
	u64 last_tsc_write, last_tsc_ns;
	bool tsc_written;	/* to something else than what a new VM has */
	gpa_t wall_clock;
};

struct keel_vcpu_clock {
	u64 tsc_offset;		/* guest TSC = host TSC + this */
	u64 tsc_lost;		/* what suspends cost the host TSC, as far as applied */
	u64 system_time_msr;	/* MSR_KVM_SYSTEM_TIME(_NEW) as written */
	u32 version;		/* of the pvclock page, even when stable */
	bool guest_stopped;	/* KVM_KVMCLOCK_CTRL */
};

/* What a guest uses that knows of KVM; its clock is above. */
struct keel_pv {
	bool enforce;		/* only what its CPUID says: KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
	u64 steal_msr;		/* MSR_KVM_STEAL_TIME as written */
	u64 run_delay;		/* of the thread, as far as the guest was told */
	pid_t thread;		/* whose that is */
	bool between_insns;	/* see keel_steal_preempted() */
	bool preempted;		/* the guest's memory says so */
	u64 eoi_msr;		/* MSR_KVM_PV_EOI_EN as written */
	bool eoi_offered;	/* the bit there is set, or was: the guest has done its EOI */
	bool unhalted;		/* [A] KVM_HC_KICK_CPU: the next HLT, or this one, is over */
};

/* Asynchronous page faults: async-pf.c. */
struct keel_async_pf {
	u64 en_msr, int_msr;	/* MSR_KVM_ASYNC_PF_EN, _INT as written */
	u32 serial;		/* of the last token */
	bool wake_all;		/* the guest is still to be told to look at all it waits for */
	atomic_t in_flight;	/* pages that a worker fetches */
	struct list_head fetches; /* [O] of these, and of those that have come */
	u32 nr_fetches;		/* [O] */
};

/* regs.c */
void keel_regs_read(struct keel_vcpu *vcpu, u32 groups);

/**
 * keel_need() - make groups of registers current in vcpu->regs
 * @groups: KEEL_RIP and so on
 *
 * Context: the vCPU is loaded and its mutex held.
 */
#define keel_need(vcpu, groups) do {					\
	if (~(vcpu)->regs.valid & (groups))				\
		keel_regs_read(vcpu, ~(vcpu)->regs.valid & (groups));	\
} while (0)

/* ... and about to be changed. */
#define keel_change(vcpu, groups) do {					\
	keel_need(vcpu, groups);					\
	(vcpu)->regs.dirty |= (groups);					\
} while (0)

void keel_regs_reset(struct keel_vcpu *vcpu, bool init);
int keel_cpl(struct keel_vcpu *vcpu);
bool keel_long_mode(struct keel_vcpu *vcpu);	/* EFER.LMA */
bool keel_mode64(struct keel_vcpu *vcpu);	/* LMA and CS.L */
bool keel_paging(struct keel_vcpu *vcpu);
/*
 * Set a control register as MOV does. Return: 0, or -EINVAL for what raises
 * #GP.
 */
int keel_set_cr0(struct keel_vcpu *vcpu, u64 cr0);
int keel_set_cr3(struct keel_vcpu *vcpu, u64 cr3);
int keel_set_cr4(struct keel_vcpu *vcpu, u64 cr4);
int keel_set_cr8(struct keel_vcpu *vcpu, u64 cr8);
u64 keel_get_cr8(struct keel_vcpu *vcpu);
u64 keel_get_cr(struct keel_vcpu *vcpu, int cr);
int keel_set_cr(struct keel_vcpu *vcpu, int cr, u64 value);
int keel_set_efer(struct keel_vcpu *vcpu, u64 efer, bool host);
int keel_set_dr(struct keel_vcpu *vcpu, int n, u64 value);
int keel_get_dr(struct keel_vcpu *vcpu, int n, u64 *value);
int keel_load_pdptrs(struct keel_vcpu *vcpu);

int keel_ioctl_get_regs(struct keel_vcpu *vcpu, struct kvm_regs *r);
int keel_ioctl_set_regs(struct keel_vcpu *vcpu, const struct kvm_regs *r);
int keel_ioctl_get_sregs(struct keel_vcpu *vcpu, struct kvm_sregs *s);
int keel_ioctl_set_sregs(struct keel_vcpu *vcpu, const struct kvm_sregs *s);
int keel_ioctl_get_sregs2(struct keel_vcpu *vcpu, struct kvm_sregs2 *s);
int keel_ioctl_set_sregs2(struct keel_vcpu *vcpu, const struct kvm_sregs2 *s);
int keel_ioctl_get_debugregs(struct keel_vcpu *vcpu, struct kvm_debugregs *d);
int keel_ioctl_set_debugregs(struct keel_vcpu *vcpu, const struct kvm_debugregs *d);

/* events.c */
void keel_queue_exception(struct keel_vcpu *vcpu, u8 vector);
void keel_queue_exception_error(struct keel_vcpu *vcpu, u8 vector, u32 error);
void keel_queue_page_fault(struct keel_vcpu *vcpu, u64 cr2, u32 error);
void keel_queue_db(struct keel_vcpu *vcpu, u64 dr6);
void keel_queue_bp(struct keel_vcpu *vcpu);
/* a backend found, at an exit, that this event's delivery did not complete */
void keel_event_requeue(struct keel_vcpu *vcpu, const struct keel_event *event);
/* choose what the next entry delivers; may sleep, may set windows */
void keel_events_inject(struct keel_vcpu *vcpu);
bool keel_irq_allowed(struct keel_vcpu *vcpu);
/* did the last exit come while an event was being delivered? */
bool keel_event_in_delivery(struct keel_vcpu *vcpu);
void keel_event_handed_over(struct keel_vcpu *vcpu);
void keel_nmi(struct keel_vcpu *vcpu);
int keel_ioctl_get_events(struct keel_vcpu *vcpu, struct kvm_vcpu_events *e);
int keel_ioctl_set_events(struct keel_vcpu *vcpu, const struct kvm_vcpu_events *e);

/* cpuid.c */
int keel_cpuid_init(void);
const struct kvm_cpuid_entry2 *keel_cpuid_supported(int *nent);
int keel_cpuid_set(struct keel_vcpu *vcpu, struct kvm_cpuid_entry2 *entry, int nent);
/* a new vCPU, before any register is set; and its end */
void keel_cpuid_vcpu_init(struct keel_vcpu *vcpu);
void keel_cpuid_vcpu_free(struct keel_vcpu *vcpu);
void keel_cpuid_eval(struct keel_vcpu *vcpu, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx);
const struct kvm_cpuid_entry2 *keel_cpuid_find(struct keel_vcpu *vcpu, u32 function, u32 index);
/* may the guest use this KVM_FEATURE_? All of them, unless userspace holds it to its CPUID. */
bool keel_pv_has(const struct keel_vcpu *vcpu, u32 feature);
long keel_ioctl_get_supported_cpuid(struct kvm_cpuid2 __user *u);
long keel_ioctl_get_emulated_cpuid(struct kvm_cpuid2 __user *u);
long keel_ioctl_set_cpuid2(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *u);
long keel_ioctl_get_cpuid2(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *u);

/* msr.c */
/**
 * keel_get_msr() / keel_set_msr() - read or write one MSR of the guest
 * @host: from userspace: bypasses what only the guest is held to
 *
 * Context: vCPU loaded, mutex held, may sleep.
 * Return: 0; or, for what raises #GP (or ends KVM_{GET,SET}_MSRS), -ENOENT when
 * there is no such MSR, -EINVAL otherwise.
 */
int keel_get_msr(struct keel_vcpu *vcpu, u32 msr, u64 *value, bool host);
int keel_set_msr(struct keel_vcpu *vcpu, u32 msr, u64 value, bool host);
/* May the guest's access be made with interrupts off: does it neither sleep, nor touch memory? */
bool keel_msr_read_is_atomic(struct keel_vcpu *vcpu, u32 msr);
bool keel_msr_write_is_atomic(struct keel_vcpu *vcpu, u32 msr, u64 value);
void keel_msrs_reset(struct keel_vcpu *vcpu, bool init);
int keel_msr_init(void);
const u32 *keel_msr_index_list(u32 *count);
long keel_ioctl_msr_index_list(struct kvm_msr_list __user *u);
long keel_ioctl_msr_feature_index_list(struct kvm_msr_list __user *u);
long keel_ioctl_get_feature_msrs(struct kvm_msrs __user *u);
long keel_ioctl_get_msrs(struct keel_vcpu *vcpu, struct kvm_msrs __user *u);
long keel_ioctl_set_msrs(struct keel_vcpu *vcpu, struct kvm_msrs __user *u);

/* msr-filter.c */
int keel_ioctl_set_msr_filter(struct keel_vm *vm, const struct kvm_msr_filter *f);
bool keel_msr_allowed(struct keel_vcpu *vcpu, u32 msr, u32 access);
void keel_msr_filter_apply(struct keel_vcpu *vcpu);
void keel_msr_filter_destroy(struct keel_vm *vm);	/* nobody uses it any more */

/* fpu.c */
int keel_fpu_init(struct keel_vcpu *vcpu);
void keel_fpu_free(struct keel_vcpu *vcpu);
void keel_fpu_reset(struct keel_vcpu *vcpu, bool init);
void keel_fpu_enter(struct keel_vcpu *vcpu);	/* KVM_RUN begins */
void keel_fpu_leave(struct keel_vcpu *vcpu);	/* KVM_RUN ends */
int keel_set_xcr0(struct keel_vcpu *vcpu, u64 xcr0);
u64 keel_host_xcr0(void);	/* features that guests can have */
int keel_ioctl_get_fpu(struct keel_vcpu *vcpu, struct kvm_fpu *f);
int keel_ioctl_set_fpu(struct keel_vcpu *vcpu, const struct kvm_fpu *f);
int keel_ioctl_get_xsave(struct keel_vcpu *vcpu, struct kvm_xsave *x);
int keel_ioctl_set_xsave(struct keel_vcpu *vcpu, const struct kvm_xsave *x);
int keel_ioctl_get_xcrs(struct keel_vcpu *vcpu, struct kvm_xcrs *x);
int keel_ioctl_set_xcrs(struct keel_vcpu *vcpu, const struct kvm_xcrs *x);
void keel_xmm_read(struct keel_vcpu *vcpu, int reg, u8 *buf);
void keel_xmm_write(struct keel_vcpu *vcpu, int reg, const u8 *buf);

/* clock.c */
void keel_clock_scale(u32 khz, u32 *mul, s8 *shift);
void keel_vm_clock_init(struct keel_vm *vm);
u64 keel_vm_clock_ns(struct keel_vm *vm, u64 *host_tsc);
u64 keel_guest_tsc(struct keel_vcpu *vcpu);
void keel_tsc_write(struct keel_vcpu *vcpu, u64 value, bool host);
u64 keel_tsc_get_offset(struct keel_vcpu *vcpu);
void keel_tsc_set_offset(struct keel_vcpu *vcpu, u64 offset);
void keel_tsc_init(struct keel_vcpu *vcpu);
int keel_clock_set_msr(struct keel_vcpu *vcpu, u32 msr, u64 value);
void keel_clock_update(struct keel_vcpu *vcpu);
int keel_ioctl_get_clock(struct keel_vm *vm, struct kvm_clock_data *c);
int keel_ioctl_set_clock(struct keel_vm *vm, const struct kvm_clock_data *c);
u64 keel_tsc_to_ns(struct keel_vm *vm, u64 tsc);
void keel_tsc_adjust_write(struct keel_vcpu *vcpu, u64 value, bool host);
void keel_clock_suspend(void);
void keel_clock_resume(void);
void keel_clock_enter(struct keel_vcpu *vcpu);	/* KVM_RUN begins */
void keel_clock_load(struct keel_vcpu *vcpu);
long keel_clock_pairing(struct keel_vcpu *vcpu, gpa_t gpa, u64 type);

/* pv.c */
int keel_steal_set_msr(struct keel_vcpu *vcpu, u64 value);
void keel_steal_update(struct keel_vcpu *vcpu);
void keel_steal_load(struct keel_vcpu *vcpu);
void keel_steal_preempted(struct keel_vcpu *vcpu);
long keel_hypercall(struct keel_vcpu *vcpu, u64 nr, const u64 arg[4]);
bool keel_hypercall_is_atomic(u64 nr);

/* async-pf.c */
int keel_async_pf_init(void);
void keel_async_pf_exit(void);
void keel_async_pf_vcpu_init(struct keel_vcpu *vcpu);
void keel_async_pf_reset(struct keel_vcpu *vcpu);
bool keel_async_pf_possible(struct keel_vcpu *vcpu);
bool keel_async_pf_start(struct keel_vcpu *vcpu, gfn_t gfn, hva_t hva, bool write);
void keel_async_pf_deliver(struct keel_vcpu *vcpu);
int keel_async_pf_set_msr(struct keel_vcpu *vcpu, u32 msr, u64 value);
int keel_async_pf_get_msr(struct keel_vcpu *vcpu, u32 msr, u64 *value);

#endif /* KEEL_CPU_H */
