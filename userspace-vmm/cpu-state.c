// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registers with which virtual processors start.
 *
 * All get CPUID, MSRs and LAPIC. Only the boot processor gets an entry point;
 * the others wait for the guest's INIT and SIPI, as KVM creates them.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <asm/processor-flags.h>

#include "machine.h"

/* Intel SDM volume 4 / AMD APM volume 2, appendix A. */
#define MSR_MISC_ENABLE		0x1a0
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MSR_HWCR		0xc0010015

#define MISC_FAST_STRINGS	1
#define MTRR_ENABLED_WB		(BIT(11) | 6)
#define HWCR_TSC_FREQ_SEL	BIT(24)

#define EFER_LME		BIT(8)
#define EFER_LMA		BIT(10)

/* Local APIC register page, Intel SDM volume 3, table "Local APIC register
 * address map".
 */
#define APIC_LVT_LINT0		0x350
#define APIC_LVT_LINT1		0x360
#define APIC_MODE_EXTINT	0x700
#define APIC_MODE_NMI		0x400

/* Selectors that the 64-bit boot protocol asks for. */
#define BOOT_CS			0x10
#define BOOT_DS			0x18

static int set_cpuid(struct vcpu *v, struct err *err)
{
	struct cpuid_table table = v->machine->cpuid;

	cpuid_for_vcpu(&table, v->id, v->machine->vcpu_count, v->machine->tsc_deadline);
	return M_IOCTL(v->machine, v->fd, KVM_SET_CPUID2, &table, err);
}

/*
 * What firmware would change. One at a time, and a hypervisor may refuse any of
 * them: all are optional.
 */
static int set_msrs(struct vcpu *v, struct err *err)
{
	static const struct kvm_msr_entry msrs[] = {
		{ .index = MSR_MISC_ENABLE, .data = MISC_FAST_STRINGS },
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED_WB },
		/* else Linux on AMD complains; 6.1's KVM has no such bit */
		{ .index = MSR_HWCR, .data = HWCR_TSC_FREQ_SEL },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = { { .nmsrs = 1 }, msrs[i] };

		if (M_IOCTL(v->machine, v->fd, KVM_SET_MSRS, &one, err) < 0)
			return -1;
	}
	return 0;
}

/* As firmware leaves it: PIC through LINT0 of the boot processor, NMI LINT1. */
static int set_lapic(struct vcpu *v, struct err *err)
{
	u32 extint = APIC_MODE_EXTINT, nmi = APIC_MODE_NMI;
	struct kvm_lapic_state lapic;

	if (M_IOCTL(v->machine, v->fd, KVM_GET_LAPIC, &lapic, err) < 0)
		return -1;
	if (!v->id)
		memcpy(lapic.regs + APIC_LVT_LINT0, &extint, sizeof(extint));
	memcpy(lapic.regs + APIC_LVT_LINT1, &nmi, sizeof(nmi));
	return M_IOCTL(v->machine, v->fd, KVM_SET_LAPIC, &lapic, err);
}

static int set_boot_sregs(struct vcpu *v, struct err *err)
{
	struct machine *m = v->machine;
	bool long_mode = m->boot.mode == BOOT_LONG_MODE;
	/* Flat, accessed; and the same in memory, for code that reloads a segment. */
	struct kvm_segment data = { .limit = 0xffffffff, .selector = BOOT_DS, .type = 0x3,
				    .present = 1, .s = 1, .g = 1, .db = 1 };
	const u64 gdt[] = {
		[BOOT_CS / 8] = long_mode ? 0x00af9b000000ffffULL : 0x00cf9b000000ffffULL,
		[BOOT_DS / 8] = 0x00cf93000000ffffULL,
	};
	struct kvm_sregs sregs;

	if (M_IOCTL(m, v->fd, KVM_GET_SREGS, &sregs, err) < 0)
		return -1;
	memcpy(ram_ptr(&m->ram, BOOT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	sregs.ds = data;
	sregs.es = data;
	sregs.ss = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.cs = data;
	sregs.cs.selector = BOOT_CS;
	sregs.cs.type = 0xb;
	sregs.cs.l = long_mode;
	sregs.cs.db = !long_mode;
	sregs.gdt = (struct kvm_dtable){ .base = BOOT_GDT, .limit = sizeof(gdt) - 1 };
	sregs.idt = (struct kvm_dtable){ 0 };
	sregs.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | (long_mode ? X86_CR0_PG : 0);
	sregs.cr3 = BOOT_PAGE_TABLES;
	sregs.cr4 = long_mode ? X86_CR4_PAE : 0;
	sregs.efer = long_mode ? EFER_LME | EFER_LMA : 0;
	return M_IOCTL(m, v->fd, KVM_SET_SREGS, &sregs, err);
}

static int set_boot_regs(struct vcpu *v, struct err *err)
{
	const struct boot_state *boot = &v->machine->boot;
	struct kvm_regs regs = { .rflags = X86_EFLAGS_FIXED, .rip = boot->entry };

	*(boot->mode == BOOT_LONG_MODE ? &regs.rsi : &regs.rbx) = boot->info;
	return M_IOCTL(v->machine, v->fd, KVM_SET_REGS, &regs, err);
}

/** cpu_set_initial_state() - prepare a vCPU that has never run */
int cpu_set_initial_state(struct vcpu *v, struct err *err)
{
	if (set_cpuid(v, err) < 0 || set_msrs(v, err) < 0 || set_lapic(v, err) < 0)
		return -1;
	if (v->id || v->machine->cfg->restore)
		return 0;
	return set_boot_sregs(v, err) < 0 ? -1 : set_boot_regs(v, err);
}
