// SPDX-License-Identifier: GPL-2.0-only
/*
 * The AMD backend: SVM with nested paging.
 */
#include <linux/cpufeature.h>
#include <linux/gfp.h>
#include <linux/hw_breakpoint.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <asm/debugreg.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>

#include "internal.h"
#include "../guest.h"
#include "../trace.h"

struct svm_caps svm_caps __ro_after_init;

/* All ones: every port and MSR exits, but those in passed_msrs. */
static void *iopm, *msrpm;
#define IOPM_ORDER	2	/* 12 KiB, APM 15.10.1 */
#define MSRPM_ORDER	1	/* 8 KiB, APM 15.11 */

/*
 * Guests read and write these directly: VMLOAD and VMSAVE carry them, and no
 * value harms the host.
 */
static const u32 passed_msrs[] = {
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

struct svm_cpu {
	void *hsave;		/* VM_HSAVE_PA: VMRUN keeps host state there */
	void *host;		/* VMSAVE of the host's state */
	u64 asid_gen;
	u32 next_asid;
	u64 host_tsc_aux;
	struct keel_vcpu *last_vcpu;
};

static DEFINE_PER_CPU(struct svm_cpu, svm_cpu);

/* APM 15.25.5 "Nested Table Entries": the host's own format, always user. */
static struct keel_table_format npt_format __ro_after_init = {
	.present = _PAGE_PRESENT,
	.table = _PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED,
	.leaf = _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED,
	.large = _PAGE_PSE,
	.write = _PAGE_RW,
	.accessed = _PAGE_ACCESSED,
	.dirty = _PAGE_DIRTY,
	.max_level = 2,
};

/* ---- the machine ---- */

static void svm_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		free_page((unsigned long)sc->hsave);
		free_page((unsigned long)sc->host);
		sc->hsave = NULL;
		sc->host = NULL;
	}
	free_pages((unsigned long)iopm, IOPM_ORDER);
	free_pages((unsigned long)msrpm, MSRPM_ORDER);
	iopm = NULL;
	msrpm = NULL;
}

/* APM 15.11: two bits an MSR, in three ranges of 2 KiB. */
static void pass_msr(u32 msr)
{
	static const u32 base[] = { 0, 0xc0000000, 0xc0010000 };
	int i;

	for (i = 0; i < ARRAY_SIZE(base); i++) {
		u32 bit = (msr - base[i]) * 2 + i * 2048 * 8;

		if (msr < base[i] || msr - base[i] >= 0x2000)
			continue;
		__clear_bit(bit, msrpm);
		__clear_bit(bit + 1, msrpm);
	}
}

/*
 * A page that the CPU uses while guests run. Not at a 2M boundary: on hosts with
 * SEV-SNP some CPUs fault on writes to the 2M around such a one.
 */
static void *hardware_page(gfp_t gfp)
{
	unsigned long addr = get_zeroed_page(gfp);

	if (likely(!IS_ALIGNED(addr, PMD_SIZE)))
		return (void *)addr;
	free_page(addr);
	addr = __get_free_pages(gfp | __GFP_ZERO, 1);
	if (!addr)
		return NULL;
	split_page(virt_to_page(addr), 1);
	free_page(addr);
	return (void *)(addr + PAGE_SIZE);
}

static int alloc_tables(void)
{
	int cpu, i;

	iopm = (void *)__get_free_pages(GFP_KERNEL, IOPM_ORDER);
	msrpm = (void *)__get_free_pages(GFP_KERNEL, MSRPM_ORDER);
	if (!iopm || !msrpm)
		goto nomem;
	memset(iopm, 0xff, PAGE_SIZE << IOPM_ORDER);
	memset(msrpm, 0xff, PAGE_SIZE << MSRPM_ORDER);
	for (i = 0; i < ARRAY_SIZE(passed_msrs); i++)
		pass_msr(passed_msrs[i]);

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		sc->hsave = hardware_page(GFP_KERNEL);
		sc->host = hardware_page(GFP_KERNEL);
		if (!sc->hsave || !sc->host)
			goto nomem;
	}
	return 0;
nomem:
	svm_exit();
	return -ENOMEM;
}

static int svm_probe(void)
{
	u64 vm_cr = 0;

	if (!boot_cpu_has(X86_FEATURE_SVM))
		return -ENXIO;
	if (!rdmsrl_safe(MSR_VM_CR, &vm_cr) && (vm_cr & SVM_VM_CR_SVM_DIS_MASK)) {
		pr_err("AMD SVM is switched off by the firmware: enable SVM (AMD-V) in its setup\n");
		return -ENODEV;
	}
	if (!boot_cpu_has(X86_FEATURE_NPT)) {
		pr_err("this CPU has AMD SVM without nested paging, which keel requires: in a virtual machine switch it on in its host, else use a newer CPU\n");
		return -ENODEV;
	}
	svm_caps.nrips = boot_cpu_has(X86_FEATURE_NRIPS);
	svm_caps.decode_assists = boot_cpu_has(X86_FEATURE_DECODEASSISTS);
	svm_caps.flush_by_asid = boot_cpu_has(X86_FEATURE_FLUSHBYASID);
	svm_caps.tsc_aux = boot_cpu_has(X86_FEATURE_RDTSCP);
	svm_caps.la57 = pgtable_l5_enabled();
	/* the kernel sets it once and alike on all CPUs */
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, svm_caps.host_xss);
	svm_caps.max_asid = cpuid_ebx(SVM_CPUID_FUNC) - 1;
	if (boot_cpu_has(X86_FEATURE_GBPAGES))
		npt_format.max_level = 3;
	return alloc_tables();
}

/* With memory encryption the host's own pages are read with the C-bit. */
static hpa_t svm_pa(const void *page)
{
	return __sme_set(__pa(page));
}

/*
 * SRSO on CPUs where the kernel needs nothing against its own users, and leaves
 * it to the hypervisor to protect it from guests.
 */
static void reduce_speculation(bool on)
{
#ifdef X86_FEATURE_SRSO_BP_SPEC_REDUCE
	u64 cfg;

	if (!cpu_feature_enabled(X86_FEATURE_SRSO_BP_SPEC_REDUCE))
		return;
	rdmsrl(MSR_ZEN4_BP_CFG, cfg);
	if (on)
		cfg |= BIT_ULL(MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT);
	else
		cfg &= ~BIT_ULL(MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT);
	wrmsrl(MSR_ZEN4_BP_CFG, cfg);
#endif
}

static int svm_cpu_enable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return -EBUSY;
	wrmsrl(MSR_EFER, efer | EFER_SVME);
	wrmsrl(MSR_VM_HSAVE_PA, svm_pa(sc->hsave));
	reduce_speculation(true);
	/* the TLB may still know ASIDs of before: make the first choice flush all */
	sc->asid_gen++;		/* nobody's: a vCPU without ASID has 0 */
	sc->next_asid = svm_caps.max_asid + 1;
	sc->last_vcpu = NULL;
	if (svm_caps.tsc_aux)
		rdmsrl(MSR_TSC_AUX, sc->host_tsc_aux);
	return 0;
}

static void svm_cpu_disable(void)
{
	u64 efer;

	reduce_speculation(false);
	wrmsrl(MSR_VM_HSAVE_PA, 0);
	rdmsrl(MSR_EFER, efer);
	wrmsrl(MSR_EFER, efer & ~EFER_SVME);
}

static void svm_emergency(void)
{
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (!(efer & EFER_SVME))
		return;
	/* INIT is held while GIF is clear */
	asm volatile("1: stgi\n2:\n" _ASM_EXTABLE(1b, 2b) ::: "memory");
	wrmsrl(MSR_EFER, efer & ~EFER_SVME);
}

/* ---- VMs and vCPUs ---- */

static int svm_vm_create(struct keel_vm *vm)
{
	if (!svm_caps.la57)
		return 0;
	vm->hw = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	return vm->hw ? 0 : -ENOMEM;
}

static void svm_vm_destroy(struct keel_vm *vm)
{
	free_page((unsigned long)vm->hw);
}

/*
 * NPT has as many levels as the host's own paging; keel's tables have four.
 * On a five-level host a page above them makes up for the difference.
 */
static hpa_t nested_root(struct keel_vm *vm)
{
	u64 *top = vm->hw;

	if (!top)
		return vm->mmu.root_pa;
	WRITE_ONCE(top[0], vm->mmu.root_pa | npt_format.table);
	return svm_pa(top);
}

/* What exits, beside CR0 reads and the windows, which come and go. */
static const u8 intercepts[] = {
	INTERCEPT_CR0_WRITE, INTERCEPT_CR4_WRITE,
	INTERCEPT_CR8_READ, INTERCEPT_CR8_WRITE,
	INTERCEPT_DR0_READ, INTERCEPT_DR1_READ, INTERCEPT_DR2_READ, INTERCEPT_DR3_READ,
	INTERCEPT_DR4_READ, INTERCEPT_DR5_READ, INTERCEPT_DR6_READ, INTERCEPT_DR7_READ,
	INTERCEPT_DR0_WRITE, INTERCEPT_DR1_WRITE, INTERCEPT_DR2_WRITE, INTERCEPT_DR3_WRITE,
	INTERCEPT_DR4_WRITE, INTERCEPT_DR5_WRITE, INTERCEPT_DR6_WRITE, INTERCEPT_DR7_WRITE,
	INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT,
	INTERCEPT_RDPMC, INTERCEPT_CPUID, INTERCEPT_INVD, INTERCEPT_HLT,
	INTERCEPT_INVLPGA, INTERCEPT_IOIO_PROT, INTERCEPT_MSR_PROT,
	INTERCEPT_FERR_FREEZE, INTERCEPT_SHUTDOWN,
	INTERCEPT_VMRUN, INTERCEPT_VMMCALL, INTERCEPT_VMLOAD, INTERCEPT_VMSAVE,
	INTERCEPT_STGI, INTERCEPT_CLGI, INTERCEPT_SKINIT, INTERCEPT_WBINVD,
	INTERCEPT_MONITOR, INTERCEPT_MWAIT, INTERCEPT_XSETBV, INTERCEPT_RDPRU,
};

/*
 * What does not exit, and why that is safe: CR2 and CR3 (nested paging),
 * CR0 and CR4 reads (when the VMCB has the guest's view), descriptor tables,
 * RDTSC(P) (offset in the VMCB), PUSHF, POPF, IRET, INTn, INVLPG, INVPCID,
 * task switches, PAUSE.
 */
static void init_vmcb(struct svm_vcpu *svm)
{
	struct vmcb_control_area *c = &svm->vmcb->control;
	int i;

	memset(svm->vmcb, 0, sizeof(*svm->vmcb));
	for (i = 0; i < ARRAY_SIZE(intercepts); i++)
		svm_intercept(svm->vmcb, intercepts[i], true);
	if (svm->vcpu.disabled_exits & KVM_X86_DISABLE_EXITS_HLT)
		svm_intercept(svm->vmcb, INTERCEPT_HLT, false);
	if (svm->vcpu.disabled_exits & KVM_X86_DISABLE_EXITS_MWAIT) {
		svm_intercept(svm->vmcb, INTERCEPT_MONITOR, false);
		svm_intercept(svm->vmcb, INTERCEPT_MWAIT, false);
	}
	c->intercepts[INTERCEPT_EXCEPTION] = BIT(DB_VECTOR) | BIT(AC_VECTOR) | BIT(MC_VECTOR) |
					       BIT(UD_VECTOR);
	c->iopm_base_pa = svm_pa(iopm);
	c->msrpm_base_pa = svm_pa(msrpm);
	/* host interrupts exit by the host's IF; the guest's CR8 is not the host's */
	c->int_ctl = V_INTR_MASKING_MASK;
	c->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	c->nested_cr3 = nested_root(svm->vcpu.vm);
	c->tsc_offset = svm->vcpu.clock.tsc_offset + svm->vcpu.clock.tsc_lost;
	/* DR6 is software's: what the CPU sets in this one is the cause of a #DB */
	svm->vmcb->save.dr6 = DR6_RESERVED;
}

/* That the interrupt comes is all: the entry it is pending at exits again. */
static void exit_soon(struct irq_work *work)
{
}

static int svm_vcpu_create(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->vmcb = hardware_page(GFP_KERNEL_ACCOUNT);
	if (!svm->vmcb)
		return -ENOMEM;
	svm->vmcb_pa = svm_pa(svm->vmcb);
	svm->last_cpu = -1;
	init_irq_work(&svm->exit_soon, exit_soon);
	return 0;
}

static void svm_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	int cpu;

	/* so that a new vCPU at the same address is not taken for this one */
	for_each_possible_cpu(cpu)
		cmpxchg(per_cpu_ptr(&svm_cpu.last_vcpu, cpu), vcpu, NULL);
	if (svm->vmcb)
		irq_work_sync(&svm->exit_soon);
	free_page((unsigned long)svm->vmcb);
}

static void svm_vcpu_reset(struct keel_vcpu *vcpu, bool init)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	init_vmcb(svm);
	svm->asid_gen = 0;
	svm->nmi_masked = false;
	svm->iret_pending = false;
	svm->nmi_step = false;
	svm->soft_len = 0;
	vcpu->regs.dirty = KEEL_ALL_GROUPS;
}

/* Fails softly when a reboot has switched SVM off. */
static void save_host_state(const struct svm_cpu *sc)
{
	asm volatile("1: vmsave %0\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : : "a" (svm_pa(sc->host)) : "memory");
}

/*
 * Another thread of the VMM may have changed the LDT since the vCPU was
 * loaded. The old one is freed then, so it must not come back with VMLOAD.
 */
static void save_host_ldt(const struct svm_cpu *sc)
{
#ifdef CONFIG_MODIFY_LDT_SYSCALL
	if (unlikely(READ_ONCE(current->mm->context.ldt)))
		save_host_state(sc);
#endif
}

static void svm_vcpu_load(struct keel_vcpu *vcpu, int cpu)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct svm_vcpu *svm = to_svm(vcpu);

	save_host_state(sc);
	if (svm->last_cpu != cpu) {
		svm->last_cpu = cpu;
		svm->asid_gen = 0;
	}
	if (sc->last_vcpu != vcpu) {
		sc->last_vcpu = vcpu;
		indirect_branch_prediction_barrier();
	}
	svm->loaded_tsc_aux = sc->host_tsc_aux;
}

static void svm_vcpu_put(struct keel_vcpu *vcpu)
{
	u64 host = this_cpu_read(svm_cpu.host_tsc_aux);

	if (svm_caps.tsc_aux && to_svm(vcpu)->loaded_tsc_aux != host)
		wrmsrl(MSR_TSC_AUX, host);
}

/* ---- registers ---- */

/* The attributes are bits 8-15 and 20-23 of a descriptor. APM 15.5.1. */
static void segment_to_vmcb(struct vmcb_seg *to, const struct kvm_segment *from)
{
	to->selector = from->selector;
	to->base = from->base;
	to->limit = from->limit;
	/* a null SS keeps the CPL; some take it from here, not from the VMCB's own field */
	to->attrib = (from->dpl & 3) << SVM_SELECTOR_DPL_SHIFT;
	if (from->unusable)
		return;
	to->attrib |= (from->type & SVM_SELECTOR_TYPE_MASK) |
		      (from->s & 1) << SVM_SELECTOR_S_SHIFT |
		      (from->present & 1) << SVM_SELECTOR_P_SHIFT |
		      (from->avl & 1) << SVM_SELECTOR_AVL_SHIFT |
		      (from->l & 1) << SVM_SELECTOR_L_SHIFT |
		      (from->db & 1) << SVM_SELECTOR_DB_SHIFT |
		      (from->g & 1) << SVM_SELECTOR_G_SHIFT;
}

static void segment_from_vmcb(struct kvm_segment *to, const struct vmcb_seg *from)
{
	*to = (struct kvm_segment) {
		.selector = from->selector,
		.base = from->base,
		.limit = from->limit,
		.type = from->attrib & SVM_SELECTOR_TYPE_MASK,
		.s = from->attrib >> SVM_SELECTOR_S_SHIFT & 1,
		.dpl = from->attrib >> SVM_SELECTOR_DPL_SHIFT & 3,
		.present = from->attrib >> SVM_SELECTOR_P_SHIFT & 1,
		.avl = from->attrib >> SVM_SELECTOR_AVL_SHIFT & 1,
		.l = from->attrib >> SVM_SELECTOR_L_SHIFT & 1,
		.db = from->attrib >> SVM_SELECTOR_DB_SHIFT & 1,
		/* not kept by all CPUs: what the limit implies */
		.g = from->limit > 0xfffff,
		.unusable = !(from->attrib & SVM_SELECTOR_P_MASK),
	};
}

static const size_t segment_offset[KEEL_NR_SEGS] = {
	[KEEL_ES] = offsetof(struct vmcb_save_area, es),
	[KEEL_CS] = offsetof(struct vmcb_save_area, cs),
	[KEEL_SS] = offsetof(struct vmcb_save_area, ss),
	[KEEL_DS] = offsetof(struct vmcb_save_area, ds),
	[KEEL_FS] = offsetof(struct vmcb_save_area, fs),
	[KEEL_GS] = offsetof(struct vmcb_save_area, gs),
	[KEEL_LDTR] = offsetof(struct vmcb_save_area, ldtr),
	[KEEL_TR] = offsetof(struct vmcb_save_area, tr),
};

static struct vmcb_seg *vmcb_segment(struct vmcb_save_area *s, int i)
{
	return (void *)s + segment_offset[i];
}

static void read_cs_ss(struct keel_regs *r, const struct vmcb_save_area *s)
{
	segment_from_vmcb(&r->seg[KEEL_CS], &s->cs);
	segment_from_vmcb(&r->seg[KEEL_SS], &s->ss);
	r->seg[KEEL_SS].dpl = s->cpl;
	/* AMD forgets DB of a null SS */
	if (r->seg[KEEL_SS].unusable)
		r->seg[KEEL_SS].db = 0;
}

static void read_other_segments(struct keel_regs *r, struct vmcb_save_area *s)
{
	int i;

	for (i = 0; i < KEEL_NR_SEGS; i++)
		if (i != KEEL_CS && i != KEEL_SS)
			segment_from_vmcb(&r->seg[i], vmcb_segment(s, i));
	/* a loaded TR is busy; VMRUN on Intel's side insists */
	r->seg[KEEL_TR].type |= 2;
}

static void write_cs_ss(const struct keel_regs *r, struct vmcb_save_area *s)
{
	segment_to_vmcb(&s->cs, &r->seg[KEEL_CS]);
	segment_to_vmcb(&s->ss, &r->seg[KEEL_SS]);
	s->cpl = r->seg[KEEL_SS].dpl & 3;
}

static void write_other_segments(const struct keel_regs *r, struct vmcb_save_area *s)
{
	int i;

	for (i = 0; i < KEEL_NR_SEGS; i++)
		if (i != KEEL_CS && i != KEEL_SS)
			segment_to_vmcb(vmcb_segment(s, i), &r->seg[i]);
}

static void svm_read_regs(struct keel_vcpu *vcpu, u32 groups)
{
	struct vmcb_save_area *s = &to_svm(vcpu)->vmcb->save;
	struct keel_regs *r = &vcpu->regs;

	if (groups & KEEL_MODE) {
		r->cs_l = !!(s->cs.attrib & SVM_SELECTOR_L_MASK);
		r->cpl = s->cpl;
		if (groups == KEEL_MODE)
			return;
	}
	if (groups & KEEL_CS_SS)
		read_cs_ss(r, s);
	if (groups & KEEL_OTHER_SEGS)
		read_other_segments(r, s);
	if (groups & KEEL_TABLES) {
		r->gdt = (struct kvm_dtable){ .base = s->gdtr.base, .limit = s->gdtr.limit };
		r->idt = (struct kvm_dtable){ .base = s->idtr.base, .limit = s->idtr.limit };
	}
	if (groups & KEEL_CR3)
		r->cr3 = s->cr3;
	if (groups & KEEL_PDPTRS) {
		/* SVM reads them from memory at each use; so do we */
		keel_guest_read(vcpu->vm, s->cr3 & 0xffffffe0UL, r->pdptr, sizeof(r->pdptr));
	}
	if (groups & KEEL_SYSCALL) {
		r->star = s->star;
		r->lstar = s->lstar;
		r->cstar = s->cstar;
		r->fmask = s->sfmask;
		r->kernel_gs_base = s->kernel_gs_base;
		r->sysenter_cs = s->sysenter_cs;
		r->sysenter_esp = s->sysenter_esp;
		r->sysenter_eip = s->sysenter_eip;
	}
}

static void write_control_registers(struct keel_vcpu *vcpu, struct vmcb *vmcb)
{
	struct keel_regs *r = &vcpu->regs;
	struct vmcb_save_area *s = &vmcb->save;

	/*
	 * Caches stay on whatever the guest says: its memory is the VMM's,
	 * which is write-back. The guest reads back what it wrote.
	 */
	s->cr0 = r->cr0 & ~(u64)(X86_CR0_CD | X86_CR0_NW);
	svm_intercept(vmcb, INTERCEPT_CR0_READ, s->cr0 != r->cr0);
	/* a machine check in the guest is the host's */
	s->cr4 = r->cr4 | (cr4_read_shadow() & X86_CR4_MCE);
	svm_intercept(vmcb, INTERCEPT_CR4_READ, s->cr4 != r->cr4);
	s->efer = r->efer | EFER_SVME;
	s->g_pat = vcpu->msrs.pat;
}

static void write_regs(struct keel_vcpu *vcpu)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;
	struct vmcb_save_area *s = &vmcb->save;
	struct keel_regs *r = &vcpu->regs;
	u32 dirty = r->dirty;

	s->rax = r->gpr[KEEL_RAX];
	s->rsp = r->gpr[KEEL_RSP_REG];
	s->rip = r->rip;
	s->rflags = r->rflags;
	s->cr2 = r->cr2;
	if (!dirty)
		return;
	if (dirty & KEEL_CS_SS)
		write_cs_ss(r, s);
	if (dirty & KEEL_OTHER_SEGS)
		write_other_segments(r, s);
	if (dirty & KEEL_TABLES) {
		s->gdtr.base = r->gdt.base;
		s->gdtr.limit = r->gdt.limit;
		s->idtr.base = r->idt.base;
		s->idtr.limit = r->idt.limit;
	}
	if (dirty & KEEL_CR3)
		s->cr3 = r->cr3;
	if (dirty & KEEL_CRS)
		write_control_registers(vcpu, vmcb);
	if (dirty & KEEL_DRS)
		s->dr7 = keel_live_dr7(vcpu);
	if (dirty & KEEL_SYSCALL) {
		s->star = r->star;
		s->lstar = r->lstar;
		s->cstar = r->cstar;
		s->sfmask = r->fmask;
		s->kernel_gs_base = r->kernel_gs_base;
		s->sysenter_cs = r->sysenter_cs;
		s->sysenter_esp = r->sysenter_esp;
		s->sysenter_eip = r->sysenter_eip;
	}
	r->dirty = 0;
}

static bool svm_cr_valid(struct keel_vcpu *vcpu, u64 cr0, u64 cr4)
{
	/* SVM runs whatever the architecture allows, which the front checked */
	return true;
}

/* ---- translations ---- */

static void svm_flush_tlb(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (svm_caps.flush_by_asid)
		svm->vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ASID;
	else
		svm->asid_gen = 0;
}

/*
 * Translations are tagged with an ASID, which is a CPU's own: a vCPU gets a
 * new one when it comes to a CPU or must forget, and when they have run out,
 * all are flushed and a new generation begins. APM 15.16.
 */
static void choose_asid(struct svm_vcpu *svm)
{
	struct vmcb_control_area *c = &svm->vmcb->control;
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);

	if (likely(svm->asid_gen == sc->asid_gen))
		return;
	c->tlb_ctl = TLB_CONTROL_DO_NOTHING;
	if (sc->next_asid > svm_caps.max_asid) {
		sc->asid_gen++;
		sc->next_asid = 1;
		c->tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	}
	svm->asid_gen = sc->asid_gen;
	svm->asid = sc->next_asid++;
	c->asid = svm->asid;
}

/* What the TLB model asks of the CPU, with the VMCB as VMRUN has it. */
static struct keel_tlb_regs tlb_regs(const struct svm_vcpu *svm)
{
	const struct vmcb_save_area *s = &svm->vmcb->save;

	return (struct keel_tlb_regs){ s->cr0, s->cr3, s->cr4, s->efer };
}

static void tell_tlb_model(struct svm_vcpu *svm, void (*tell)(enum keel_tlb, unsigned long))
{
	const struct vmcb_control_area *c = &svm->vmcb->control;
	unsigned long tag;

	if (c->tlb_ctl == TLB_CONTROL_FLUSH_ALL_ASID)
		tag = KEEL_TLB_ALL_TAGS;
	else if (c->tlb_ctl == TLB_CONTROL_FLUSH_ASID && svm_caps.flush_by_asid)
		tag = c->asid;
	else
		return;
	tell(KEEL_TLB_SECOND_LEVEL, tag);
	tell(KEEL_TLB_LINEAR, tag);
}

static void tlb_model_enter(struct svm_vcpu *svm)
{
	struct keel_tlb_regs regs = tlb_regs(svm);
	u32 asid = svm->vmcb->control.asid;

	tell_tlb_model(svm, keel_tlb_model_flushed);
	keel_tlb_model_enter(&svm->vcpu, asid, asid, &regs);
}

static void tlb_model_left(struct svm_vcpu *svm, bool failed)
{
	struct keel_tlb_regs regs = tlb_regs(svm);

	if (failed)
		tell_tlb_model(svm, keel_tlb_model_flush_lost);
	keel_tlb_model_left(&svm->vcpu, failed ? NULL : &regs);
}

/* ---- entry ---- */

static noinstr void enter_noinstr(struct svm_vcpu *svm, hpa_t host)
{
	keel_guest_enter();
	keel_svm_enter(svm->vmcb_pa, svm->vcpu.regs.gpr, host);
	keel_guest_exit();
}

/* Breakpoints of the guest are in the CPU only while it runs. */
static void load_debug_registers(const u64 *dr)
{
	set_debugreg(0, 7);	/* not the host's at the guest's addresses */
	set_debugreg(dr[0], 0);
	set_debugreg(dr[1], 1);
	set_debugreg(dr[2], 2);
	set_debugreg(dr[3], 3);
}

/* See svm_nmi_window(). An event that is delivered first would push our TF. */
static void begin_step(struct svm_vcpu *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	if (vmcb->control.event_inj & SVM_EVTINJ_VALID) {
		svm->nmi_step = false;
		/* exit right after the event, and ask for the window again */
		irq_work_queue(&svm->exit_soon);
		keel_request(&svm->vcpu, KEEL_REQ_EVENT);
		return;
	}
	svm->step_flags = vmcb->save.rflags & (X86_EFLAGS_TF | X86_EFLAGS_RF);
	vmcb->save.rflags |= X86_EFLAGS_TF | X86_EFLAGS_RF;
}

/*
 * VMRUN refused the state before it looked at TLB_CONTROL, so a flush that
 * was due has not happened: choose an ASID after a flush of all.
 */
static void entry_failed(struct svm_vcpu *svm, struct svm_cpu *sc)
{
	svm->asid_gen = 0;
	sc->next_asid = svm_caps.max_asid + 1;
}

/*
 * A guest with XSAVE can execute XSAVES and XRSTORS whatever its CPUID says:
 * nothing intercepts them. It must find no component there, or it has the
 * host's own, such as the thread's shadow stack pointer.
 */
static void switch_xss(u64 xss)
{
	if (svm_caps.host_xss)
		wrmsrl(MSR_IA32_XSS, xss);
}

static void svm_begin(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (unlikely(keel_live_dr7(vcpu) & 0xff))
		load_debug_registers(keel_live_dr(vcpu));
	if (svm_caps.tsc_aux && svm->loaded_tsc_aux != vcpu->msrs.tsc_aux) {
		svm->loaded_tsc_aux = vcpu->msrs.tsc_aux;
		wrmsrl(MSR_TSC_AUX, svm->loaded_tsc_aux);
	}
	/* @svm_end must see the same: XSETBV is the guest's only with OSXSAVE */
	svm->xsave = vcpu->regs.cr4 & X86_CR4_OSXSAVE;
	if (svm->xsave) {
		svm->host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
		if (vcpu->fpu.xcr0 != svm->host_xcr0)
			xsetbv(XCR_XFEATURE_ENABLED_MASK, vcpu->fpu.xcr0);
		switch_xss(0);
	}
	save_host_ldt(this_cpu_ptr(&svm_cpu));
}

static void svm_end(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (svm->xsave) {
		if (vcpu->fpu.xcr0 != svm->host_xcr0)
			xsetbv(XCR_XFEATURE_ENABLED_MASK, svm->host_xcr0);
		switch_xss(svm_caps.host_xss);
	}
	/* the exit switched all breakpoints off, the host's too */
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
}

static void svm_enter(struct keel_vcpu *vcpu)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	struct keel_regs *r = &vcpu->regs;

	write_regs(vcpu);
	if (unlikely(svm->nmi_step))
		begin_step(svm);
	choose_asid(svm);
	vmcb->control.clean = 0;
	vmcb->control.exit_code = SVM_EXIT_ERR;
	vmcb->control.exit_code_hi = SVM_EXIT_ERR;

	if (IS_ENABLED(CONFIG_KEEL_TLB_MODEL))
		tlb_model_enter(svm);
	asm volatile("clgi" ::: "memory");
	enter_noinstr(svm, svm_pa(sc->host));
	asm volatile("stgi" ::: "memory");
	if (IS_ENABLED(CONFIG_KEEL_TLB_MODEL))
		tlb_model_left(svm, vmcb->control.exit_code == (u32)SVM_EXIT_ERR);
	/*
	 * XSETBV of the guest exits; except on QEMU's TCG, which has no such
	 * exit: there, what the register holds afterwards is the guest's.
	 */
	if (svm->xsave)
		vcpu->fpu.xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	/* an intercepted machine check was not delivered: the host's handler must run */
	if (unlikely(vmcb->control.exit_code == SVM_EXIT_EXCP_BASE + MC_VECTOR)) {
		svm_end(vcpu);
		keel_machine_check();
		svm_begin(vcpu);
	}
	if (unlikely(vmcb->control.exit_code == (u32)SVM_EXIT_ERR))
		entry_failed(svm, sc);

	r->gpr[KEEL_RAX] = vmcb->save.rax;
	r->gpr[KEEL_RSP_REG] = vmcb->save.rsp;
	r->rip = vmcb->save.rip;
	r->rflags = vmcb->save.rflags;
	r->cr2 = vmcb->save.cr2;
	/* the rest is read when somebody needs it */
	r->valid = KEEL_RIP | KEEL_RSP | KEEL_RFLAGS | KEEL_CRS | KEEL_DRS;
	svm_decode_exit(svm);
}

/* ---- events ---- */

static void svm_inject(struct keel_vcpu *vcpu, const struct keel_event *event)
{
	struct vmcb_control_area *c = &to_svm(vcpu)->vmcb->control;
	u32 inj = event->vector | SVM_EVTINJ_VALID;

	/* EVENTINJ pushes RIP as it is, without nRIP save */
	if (event->type == KEEL_EVENT_SOFT_INTERRUPT || event->type == KEEL_EVENT_SOFT_EXCEPTION) {
		keel_change(vcpu, KEEL_RIP);
		to_svm(vcpu)->soft_len = event->insn_len;
		vcpu->regs.rip += event->insn_len;
		c->next_rip = vcpu->regs.rip;
	}
	switch (event->type) {
	case KEEL_EVENT_INTERRUPT:
		inj |= SVM_EVTINJ_TYPE_INTR;
		break;
	case KEEL_EVENT_NMI:
		inj |= SVM_EVTINJ_TYPE_NMI;
		to_svm(vcpu)->nmi_masked = true;
		svm_intercept(to_svm(vcpu)->vmcb, INTERCEPT_IRET, true);
		break;
	case KEEL_EVENT_SOFT_INTERRUPT:
		inj |= SVM_EVTINJ_TYPE_SOFT;
		break;
	default:
		inj |= SVM_EVTINJ_TYPE_EXEPT;
	}
	if (event->has_error)
		inj |= SVM_EVTINJ_VALID_ERR;
	c->event_inj = inj;
	c->event_inj_err = event->error;
}

static void svm_cancel_injection(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->vmcb->control.event_inj = 0;
	vcpu->regs.rip -= svm->soft_len;
	svm->soft_len = 0;
}

static u32 svm_get_shadow(struct keel_vcpu *vcpu)
{
	/* SVM does not tell the two kinds apart */
	return to_svm(vcpu)->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK ?
	       KEEL_SHADOW_STI | KEEL_SHADOW_MOV_SS : 0;
}

static void svm_set_shadow(struct keel_vcpu *vcpu, u32 shadow)
{
	u32 *state = &to_svm(vcpu)->vmcb->control.int_state;

	if (shadow)
		*state |= SVM_INTERRUPT_SHADOW_MASK;
	else
		*state &= ~SVM_INTERRUPT_SHADOW_MASK;
}

static bool svm_nmi_blocked(struct keel_vcpu *vcpu)
{
	return to_svm(vcpu)->nmi_masked;
}

static void svm_set_nmi_blocked(struct keel_vcpu *vcpu, bool blocked)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->nmi_masked = blocked;
	svm->iret_pending = false;
	svm_intercept(svm->vmcb, INTERCEPT_IRET, blocked);
}

/*
 * A virtual interrupt that the guest could take at once exits, by VINTR,
 * as soon as the guest can take one. Its priority is above any TPR.
 */
static void svm_irq_window(struct keel_vcpu *vcpu, bool on)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	if (on)
		vmcb->control.int_ctl |= V_IRQ_INJECTION_BITS_MASK;
	else
		vmcb->control.int_ctl &= ~V_IRQ_INJECTION_BITS_MASK;
	vmcb->control.int_vector = 0;
	svm_intercept(vmcb, INTERCEPT_VINTR, on);
}

/*
 * While an NMI is in service its IRET exits, before it executes. Then, and in
 * an interrupt shadow, NMIs can be taken after one more instruction: step it.
 */
static void svm_nmi_window(struct keel_vcpu *vcpu, bool on)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->nmi_step = on && (!svm->nmi_masked || svm->iret_pending);
}

static void svm_intercept_bp(struct keel_vcpu *vcpu, bool on)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	svm_intercept(vmcb, INTERCEPT_EXCEPTION_OFFSET + BP_VECTOR, on);
	/* on QEMU's TCG, which has no nRIP save, INT3 exits as INT n only */
	if (!svm_caps.nrips)
		svm_intercept(vmcb, INTERCEPT_INTn, on);
}

static void svm_set_tsc_offset(struct keel_vcpu *vcpu, u64 offset)
{
	to_svm(vcpu)->vmcb->control.tsc_offset = offset;
}

static void svm_intercept_all_msrs(struct keel_vcpu *vcpu, bool on)
{
	/* the ports' map is all ones, and larger */
	BUILD_BUG_ON(IOPM_ORDER < MSRPM_ORDER);
	to_svm(vcpu)->vmcb->control.msrpm_base_pa = svm_pa(on ? iopm : msrpm);
}

static void svm_dump(struct keel_vcpu *vcpu)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	pr_notice("vCPU %u: exit %#x info %#llx %#llx rip %#llx cr0 %#llx cr4 %#llx efer %#llx\n",
		  vcpu->id, vmcb->control.exit_code, vmcb->control.exit_info_1,
		  vmcb->control.exit_info_2, vmcb->save.rip, vmcb->save.cr0,
		  vmcb->save.cr4, vmcb->save.efer);
}

static const struct kvm_nested_state svm_no_nesting = {
	.flags = KVM_STATE_NESTED_GIF_SET,
	.format = KVM_STATE_NESTED_FORMAT_SVM,
	.size = sizeof(struct kvm_nested_state),
};

const struct keel_backend keel_svm_backend = {
	.name = "AMD SVM",
	.vcpu_size = sizeof(struct svm_vcpu),
	.table_format = &npt_format,
	.no_nesting = &svm_no_nesting,
	.hypercall = 0xd9,
	.probe = svm_probe,
	.exit = svm_exit,
	.cpu_enable = svm_cpu_enable,
	.cpu_disable = svm_cpu_disable,
	.emergency = svm_emergency,
	.vm_create = svm_vm_create,
	.vm_destroy = svm_vm_destroy,
	.vcpu_create = svm_vcpu_create,
	.vcpu_destroy = svm_vcpu_destroy,
	.vcpu_reset = svm_vcpu_reset,
	.vcpu_load = svm_vcpu_load,
	.vcpu_put = svm_vcpu_put,
	.begin = svm_begin,
	.end = svm_end,
	.enter = svm_enter,
	.read_regs = svm_read_regs,
	.get_shadow = svm_get_shadow,
	.set_shadow = svm_set_shadow,
	.nmi_blocked = svm_nmi_blocked,
	.set_nmi_blocked = svm_set_nmi_blocked,
	.inject = svm_inject,
	.cancel_injection = svm_cancel_injection,
	.irq_window = svm_irq_window,
	.nmi_window = svm_nmi_window,
	.intercept_bp = svm_intercept_bp,
	.flush_tlb = svm_flush_tlb,
	.set_tsc_offset = svm_set_tsc_offset,
	.intercept_all_msrs = svm_intercept_all_msrs,
	.cr_valid = svm_cr_valid,
	.dump = svm_dump,
	.hw_reason_name = svm_reason_name,
};
