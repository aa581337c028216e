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
#define MSR_TSC			0x10
#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_MISC_ENABLE		0x1a0
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SYSCALL_MASK	0xc0000084
#define MSR_KERNEL_GS_BASE	0xc0000102
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

	cpuid_for_vcpu(&table, v->id, v->machine->vcpu_count,
		       v->machine->tsc_deadline);
	return M_IOCTL(v->machine, v->fd, KVM_SET_CPUID2, &table, err);
}

/* One at a time: a hypervisor that lacks an optional one still works. */
static int set_msrs(struct vcpu *v, struct err *err)
{
	static const struct {
		u32 index;
		bool optional;
		u64 value;
	} msrs[] = {
		{ MSR_SYSENTER_CS, false, 0 },
		{ MSR_SYSENTER_ESP, false, 0 },
		{ MSR_SYSENTER_EIP, false, 0 },
		{ MSR_STAR, false, 0 },
		{ MSR_LSTAR, false, 0 },
		{ MSR_CSTAR, false, 0 },
		{ MSR_SYSCALL_MASK, false, 0 },
		{ MSR_KERNEL_GS_BASE, false, 0 },
		{ MSR_TSC, false, 0 },
		{ MSR_MISC_ENABLE, true, MISC_FAST_STRINGS },
		{ MSR_MTRR_DEF_TYPE, true, MTRR_ENABLED_WB },
		/* else Linux on AMD complains; 6.1's KVM has no such bit */
		{ MSR_HWCR, true, HWCR_TSC_FREQ_SEL },
	};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one;
	size_t i;
	int n;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		memset(&one, 0, sizeof(one));
		one.head.nmsrs = 1;
		one.entry.index = msrs[i].index;
		one.entry.data = msrs[i].value;
		n = M_IOCTL(v->machine, v->fd, KVM_SET_MSRS, &one, err);
		if (n < 0)
			return -1;
		if (n != 1 && !msrs[i].optional)
			return err_set(err, "%s: KVM_SET_MSRS refuses MSR %#x",
				       v->machine->cfg->device, msrs[i].index);
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

static struct kvm_segment flat_segment(u16 selector, bool code, bool long_mode)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = selector,
		.type = code ? 0xb : 0x3,	/* accessed */
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && long_mode,
		.db = !(code && long_mode),
	};
}

/* The same descriptors in guest memory, for code that reloads a segment. */
static void write_gdt(const struct guest_ram *ram, bool long_mode)
{
	u64 *gdt = ram_ptr(ram, BOOT_GDT, 4 * sizeof(*gdt));

	gdt[0] = 0;
	gdt[1] = 0;
	gdt[BOOT_CS / 8] = long_mode ? 0x00af9b000000ffffULL :
				       0x00cf9b000000ffffULL;
	gdt[BOOT_DS / 8] = 0x00cf93000000ffffULL;
}

static int set_boot_sregs(struct vcpu *v, struct err *err)
{
	struct machine *m = v->machine;
	bool long_mode = m->boot.mode == BOOT_LONG_MODE;
	struct kvm_sregs sregs;
	struct kvm_segment data;

	if (M_IOCTL(m, v->fd, KVM_GET_SREGS, &sregs, err) < 0)
		return -1;
	write_gdt(&m->ram, long_mode);
	sregs.cs = flat_segment(BOOT_CS, true, long_mode);
	data = flat_segment(BOOT_DS, false, long_mode);
	sregs.ds = data;
	sregs.es = data;
	sregs.ss = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.gdt.base = BOOT_GDT;
	sregs.gdt.limit = 4 * 8 - 1;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (long_mode) {
		sregs.cr0 |= X86_CR0_PG;
		sregs.cr3 = BOOT_PAGE_TABLES;
		sregs.cr4 = X86_CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	return M_IOCTL(m, v->fd, KVM_SET_SREGS, &sregs, err);
}

static int set_boot_regs(struct vcpu *v, struct err *err)
{
	const struct boot_state *boot = &v->machine->boot;
	struct kvm_regs regs = {
		.rflags = X86_EFLAGS_FIXED,
		.rip = boot->entry,
	};

	if (boot->mode == BOOT_LONG_MODE)
		regs.rsi = boot->info;
	else
		regs.rbx = boot->info;
	return M_IOCTL(v->machine, v->fd, KVM_SET_REGS, &regs, err);
}

/** cpu_set_initial_state() - prepare a vCPU that has never run */
int cpu_set_initial_state(struct vcpu *v, struct err *err)
{
	if (set_cpuid(v, err) < 0 || set_msrs(v, err) < 0 ||
	    set_lapic(v, err) < 0)
		return -1;
	if (v->id || v->machine->cfg->restore)
		return 0;
	if (set_boot_sregs(v, err) < 0)
		return -1;
	return set_boot_regs(v, err);
}
