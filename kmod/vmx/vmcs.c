// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VMCS: its memory, the fields that stay, the host's state, and the groups
 * of guest registers in it.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/segment.h>
#include <asm/tlbflush.h>

#include "internal.h"

/* entry.S spells these out */
static_assert(HOST_RSP == 0x6c14);
static_assert(KEEL_RCX == 1 && KEEL_RDX == 2 && KEEL_RBX == 3 &&
	      KEEL_RBP == 5 && KEEL_RSI == 6 && KEEL_RDI == 7 && KEEL_R15 == 15);
static_assert(offsetof(struct keel_regs, gpr) == 0);

/*
 * Which MSRs a guest may touch without an exit. One for all; and one for guests
 * that may read, too, how long the CPU was idle.
 */
static u64 *vmx_msr_bitmap, *vmx_msr_bitmap_cstate;

/*
 * MSRs that the VMCS or vmx_load_guest() gives the guest for its own. The four
 * of SYSCALL are written at boot only: their writes exit, so that software
 * knows them and no exit has to read them.
 */
static const struct {
	u32 msr;
	bool write;
} vmx_passed_through[] = {
	{ MSR_FS_BASE, true },
	{ MSR_GS_BASE, true },
	{ MSR_KERNEL_GS_BASE, true },
	{ MSR_IA32_SYSENTER_CS, true },
	{ MSR_IA32_SYSENTER_ESP, true },
	{ MSR_IA32_SYSENTER_EIP, true },
	{ MSR_STAR, false },
	{ MSR_LSTAR, false },
	{ MSR_CSTAR, false },
	{ MSR_SYSCALL_MASK, false },
};

/* KVM_X86_DISABLE_EXITS_CSTATE: #GP, where the CPU does not have one. */
static const u32 vmx_cstate_msrs[] = {
	MSR_CORE_C1_RES, MSR_CORE_C3_RESIDENCY, MSR_CORE_C6_RESIDENCY, MSR_CORE_C7_RESIDENCY,
};

/* SDM "MSR-Bitmap Address": reads of low and of high MSRs, then writes, 1 KiB each. */
static void vmx_pass_msr(u64 *bitmap, u32 msr, bool write)
{
	u32 bit = (msr & 0x1fff) + (msr >= 0xc0000000 ? 8 * 0x400 : 0);

	__clear_bit(bit, (unsigned long *)bitmap);
	if (write)
		__clear_bit(bit + 8 * 0x800, (unsigned long *)bitmap);
}

/**
 * vmx_msr_bitmaps_create() - make the bitmaps that all VMCSs share
 *
 * Return: 0 or -ENOMEM.
 */
int vmx_msr_bitmaps_create(void)
{
	int i;

	vmx_msr_bitmap = (u64 *)__get_free_page(GFP_KERNEL);
	vmx_msr_bitmap_cstate = (u64 *)__get_free_page(GFP_KERNEL);
	if (!vmx_msr_bitmap || !vmx_msr_bitmap_cstate)
		return -ENOMEM;
	memset(vmx_msr_bitmap, 0xff, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(vmx_passed_through); i++)
		vmx_pass_msr(vmx_msr_bitmap, vmx_passed_through[i].msr,
			     vmx_passed_through[i].write);
	memcpy(vmx_msr_bitmap_cstate, vmx_msr_bitmap, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(vmx_cstate_msrs); i++)
		vmx_pass_msr(vmx_msr_bitmap_cstate, vmx_cstate_msrs[i], false);
	return 0;
}

void vmx_msr_bitmaps_free(void)
{
	free_page((unsigned long)vmx_msr_bitmap);
	free_page((unsigned long)vmx_msr_bitmap_cstate);
	vmx_msr_bitmap = NULL;
	vmx_msr_bitmap_cstate = NULL;
}

/**
 * vmx_region_alloc() - a zeroed page with the revision at its start
 * @node: where, or NUMA_NO_NODE
 *
 * SDM "Format of the VMCS Region" and "VMXON Region".
 */
struct vmx_region *vmx_region_alloc(int node)
{
	struct page *page = alloc_pages_node(node, GFP_KERNEL_ACCOUNT | __GFP_ZERO, 0);
	struct vmx_region *region;

	if (!page)
		return NULL;
	region = page_address(page);
	region->revision = vmx_caps.revision;
	return region;
}

static void vmx_set_up_controls(struct vmx_vcpu *vmx)
{
	u32 exits = vmx->vcpu.disabled_exits;
	u32 cpu2 = vmx_caps.cpu2;

	if (exits & KVM_X86_DISABLE_EXITS_PAUSE)
		cpu2 &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	if (!vmx->vpid)
		cpu2 &= ~SECONDARY_EXEC_ENABLE_VPID;
	vmx_write(PIN_BASED_VM_EXEC_CONTROL, vmx_caps.pin);
	vmx_write(SECONDARY_VM_EXEC_CONTROL, cpu2);
	vmx_write(VM_EXIT_CONTROLS, vmx_caps.exit);
	vmx->written = vmx->want;
	vmx_write(CPU_BASED_VM_EXEC_CONTROL, vmx->want.cpu);
	vmx_write(VM_ENTRY_CONTROLS, vmx->want.entry);
	vmx_write(EXCEPTION_BITMAP, vmx->want.exceptions);
	vmx_write(TSC_OFFSET, vmx->want.tsc_offset);

	vmx_write(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmx_write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmx_write(CR3_TARGET_COUNT, 0);
	vmx_write(VM_EXIT_MSR_STORE_COUNT, 0);
	vmx_write(VM_EXIT_MSR_LOAD_COUNT, 0);
	vmx_write(VM_EXIT_MSR_LOAD_ADDR, __pa(vmx->switched->host));
	vmx_write(VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmx_write(VM_ENTRY_MSR_LOAD_ADDR, __pa(vmx->switched->guest));
	vmx_write(VM_ENTRY_INTR_INFO_FIELD, 0);
	vmx_write(CR0_GUEST_HOST_MASK, ~(unsigned long)OWN_CR0);
	vmx_write(CR4_GUEST_HOST_MASK, ~0ul);
	vmx->own_cr4 = 0;

	vmx_write(MSR_BITMAP, __pa(exits & KVM_X86_DISABLE_EXITS_CSTATE ?
				   vmx_msr_bitmap_cstate : vmx_msr_bitmap));
	vmx_write(EPT_POINTER, vmx->eptp);
	if (vmx->vpid)
		vmx_write(VIRTUAL_PROCESSOR_ID, vmx->vpid);
	/*
	 * A loop's PAUSEs are closer than this, and spinning is longer. In Bochs
	 * it is also the only exit of a guest that spins with interrupts off.
	 */
	if (cpu2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING) {
		vmx_write(PLE_GAP, 128);
		vmx_write(PLE_WINDOW, 4096);
	}
	if (cpu2 & SECONDARY_EXEC_ENCLS_EXITING)
		vmx_write(ENCLS_EXITING_BITMAP, ~0ul);
}

/* What of the host is the same on all CPUs. SDM "Host-State Area". */
static void vmx_set_up_host(void)
{
	u64 value;

	vmx_write(HOST_CR0, read_cr0());
	/* Null is allowed for these; prepare and put save and restore them. */
	vmx_write(HOST_ES_SELECTOR, 0);
	vmx_write(HOST_DS_SELECTOR, 0);
	vmx_write(HOST_FS_SELECTOR, 0);
	vmx_write(HOST_GS_SELECTOR, 0);
	vmx_write(HOST_CS_SELECTOR, __KERNEL_CS);
	vmx_write(HOST_SS_SELECTOR, __KERNEL_DS);
	vmx_write(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	vmx_write(HOST_RIP, (unsigned long)keel_vmx_exit_point);
	rdmsrl(MSR_IA32_SYSENTER_CS, value);
	vmx_write(HOST_IA32_SYSENTER_CS, value);
	rdmsrl(MSR_IA32_SYSENTER_EIP, value);
	vmx_write(HOST_IA32_SYSENTER_EIP, value);
	rdmsrl(MSR_EFER, value);
	vmx_write(HOST_IA32_EFER, value);
}

/**
 * vmx_vmcs_set_up() - write the fields that stay as they are
 * @vmx: the vCPU, its controls chosen
 *
 * Context: the VMCS is loaded, preemption off.
 */
void vmx_vmcs_set_up(struct vmx_vcpu *vmx)
{
	vmx_set_up_controls(vmx);
	vmx_set_up_host();

	vmx_write(VMCS_LINK_POINTER, ~0ul);
	vmx_write(GUEST_IA32_DEBUGCTL, 0);
	vmx_write(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	vmx_write(GUEST_INTERRUPTIBILITY_INFO, 0);
	vmx_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);

	/* Unknown yet: none of these values is possible. */
	vmx->host_rsp = 0;
	vmx->host_cr3 = ~0ul;
	vmx->host_cr4 = 0;
	vmx->host_fs_base = 0;
	vmx_write(HOST_FS_BASE, 0);

	vmx->blocking = 0;
	vmx->blocking_valid = true;
	/* Software has the truth about the guest. */
	vmx->vcpu.regs.valid = KEEL_ALL_GROUPS;
	vmx->vcpu.regs.dirty = KEEL_ALL_GROUPS;
}

/**
 * vmx_vmcs_new_cpu() - the host's state that belongs to a CPU
 * @vmx: the vCPU
 * @cpu: this one
 *
 * Context: the VMCS is loaded on @cpu, preemption off.
 */
void vmx_vmcs_new_cpu(struct vmx_vcpu *vmx, int cpu)
{
	struct desc_ptr idt;
	u64 value;

	vmx_write(HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss);
	vmx_write(HOST_GDTR_BASE, (unsigned long)get_current_gdt_ro());
	store_idt(&idt);
	vmx_write(HOST_IDTR_BASE, idt.address);
	rdmsrl(MSR_GS_BASE, value);
	vmx_write(HOST_GS_BASE, value);
	rdmsrl(MSR_IA32_SYSENTER_ESP, value);
	vmx_write(HOST_IA32_SYSENTER_ESP, value);
}

/* ---- guest registers ---- */

/* The selector, base, limit and access fields of each segment follow a pattern. */
static_assert(GUEST_TR_SELECTOR - GUEST_ES_SELECTOR == 2 * KEEL_TR);
static_assert(GUEST_LDTR_BASE - GUEST_ES_BASE == 2 * KEEL_LDTR);
static_assert(GUEST_TR_LIMIT - GUEST_ES_LIMIT == 2 * KEEL_TR);
static_assert(GUEST_LDTR_AR_BYTES - GUEST_ES_AR_BYTES == 2 * KEEL_LDTR);
static_assert(GUEST_FS_BASE - GUEST_ES_BASE == 2 * KEEL_FS);

/* SDM "Guest Register State", format of access rights. */
static u32 vmx_access_rights(const struct kvm_segment *seg, int n, bool long_mode)
{
	u32 type = seg->type & VMX_AR_TYPE_MASK;

	if (seg->unusable || !seg->present) {
		/* TR is never unusable; refuse to make a VM entry fail for it. */
		if (n != KEEL_TR)	/* the CPL is in SS also when that is null */
			return VMX_AR_UNUSABLE_MASK | (seg->dpl & 3) << VMX_AR_DPL_SHIFT;
	}
	/*
	 * Hardware sets these itself when it loads a segment, and VM entry
	 * insists: code and data accessed, task state busy and of this mode.
	 */
	if (n == KEEL_TR) {
		type |= BIT(1);
		if (long_mode)
			type = VMX_AR_TYPE_BUSY_64_TSS;
		return type | VMX_AR_P_MASK | (seg->dpl & 3) << VMX_AR_DPL_SHIFT |
		       (seg->avl & 1) << 12 | (seg->g ? VMX_AR_G_MASK : 0);
	}
	if (seg->s)
		type |= VMX_AR_TYPE_ACCESSES_MASK;
	return type | (seg->s ? VMX_AR_S_MASK : 0) |
	       (seg->dpl & 3) << VMX_AR_DPL_SHIFT | VMX_AR_P_MASK |
	       (seg->avl & 1) << 12 | (seg->l ? VMX_AR_L_MASK : 0) |
	       (seg->db ? VMX_AR_DB_MASK : 0) | (seg->g ? VMX_AR_G_MASK : 0);
}

static bool in_groups(u32 groups, int n)
{
	return groups & (n == KEEL_CS || n == KEEL_SS ? KEEL_CS_SS : KEEL_OTHER_SEGS);
}

static void vmx_write_segs(struct keel_vcpu *vcpu, u32 groups)
{
	bool long_mode = vcpu->regs.efer & EFER_LMA;
	int n;

	for (n = 0; n < KEEL_NR_SEGS; n++) {
		const struct kvm_segment *seg = &vcpu->regs.seg[n];

		if (!in_groups(groups, n))
			continue;
		vmx_write(GUEST_ES_SELECTOR + 2 * n, seg->selector);
		vmx_write(GUEST_ES_BASE + 2 * n, seg->base);
		vmx_write(GUEST_ES_LIMIT + 2 * n, seg->limit);
		vmx_write(GUEST_ES_AR_BYTES + 2 * n,
			  vmx_access_rights(seg, n, long_mode));
	}
}

static void vmx_read_seg(struct keel_vcpu *vcpu, int n)
{
	u32 ar = vmx_read(GUEST_ES_AR_BYTES + 2 * n);

	vcpu->regs.seg[n] = (struct kvm_segment) {
		.selector = vmx_read(GUEST_ES_SELECTOR + 2 * n),
		.base = vmx_read(GUEST_ES_BASE + 2 * n),
		.limit = vmx_read(GUEST_ES_LIMIT + 2 * n),
		.type = ar & VMX_AR_TYPE_MASK,
		.s = !!(ar & VMX_AR_S_MASK),
		.dpl = VMX_AR_DPL(ar),
		.present = !(ar & VMX_AR_UNUSABLE_MASK),
		.avl = (ar >> 12) & 1,
		.l = !!(ar & VMX_AR_L_MASK),
		.db = !!(ar & VMX_AR_DB_MASK),
		.g = !!(ar & VMX_AR_G_MASK),
		.unusable = !!(ar & VMX_AR_UNUSABLE_MASK),
	};
}

static void vmx_read_other_segs(struct keel_vcpu *vcpu)
{
	int n;

	for (n = 0; n < KEEL_NR_SEGS; n++)
		if (n != KEEL_CS && n != KEEL_SS)
			vmx_read_seg(vcpu, n);
}

/* see OWN_CR0, OWN_CR4 */
static void vmx_read_crs(struct vmx_vcpu *vmx)
{
	struct keel_regs *regs = &vmx->vcpu.regs;

	regs->cr0 = (regs->cr0 & ~OWN_CR0) | (vmx_read(GUEST_CR0) & OWN_CR0);
	if (vmx->own_cr4)
		regs->cr4 = (regs->cr4 & ~vmx->own_cr4) | (vmx_read(GUEST_CR4) & vmx->own_cr4);
}

/*
 * Hardware gets what the guest wants and what VMX insists on; the guest reads
 * its own view. SDM "Guest/Host Masks and Read Shadows".
 */
static void vmx_write_crs(struct vmx_vcpu *vmx)
{
	struct keel_regs *regs = &vmx->vcpu.regs;
	bool long_mode = regs->efer & EFER_LMA;
	u64 own = OWN_CR4 & ~vmx->vcpu.cpuid.cr4_reserved;
	u64 hw;

	if (own != vmx->own_cr4) {
		vmx_write(CR4_GUEST_HOST_MASK, ~own);
		vmx->own_cr4 = own;
	}

	hw = (regs->cr0 | vmx_caps.cr0_fixed0) & ~(u64)(X86_CR0_CD | X86_CR0_NW);
	vmx_write(GUEST_CR0, hw & vmx_caps.cr0_fixed1);
	vmx_write(CR0_READ_SHADOW, regs->cr0);

	/* A machine check must reach the host whatever the guest thinks. */
	hw = regs->cr4 | vmx_caps.cr4_fixed0 | (cr4_read_shadow() & X86_CR4_MCE);
	vmx_write(GUEST_CR4, hw & vmx_caps.cr4_fixed1);
	vmx_write(CR4_READ_SHADOW, regs->cr4);

	vmx_write(GUEST_IA32_EFER, regs->efer);
	if (long_mode) {
		u32 ar = vmx_read(GUEST_TR_AR_BYTES);

		vmx->want.entry |= VM_ENTRY_IA32E_MODE;
		/* Long mode has only one kind of busy task state. */
		if (!(regs->dirty & KEEL_OTHER_SEGS) &&
		    (ar & VMX_AR_TYPE_MASK) != VMX_AR_TYPE_BUSY_64_TSS)
			vmx_write(GUEST_TR_AR_BYTES, (ar & ~VMX_AR_TYPE_MASK) |
						     VMX_AR_TYPE_BUSY_64_TSS);
	} else {
		vmx->want.entry &= ~VM_ENTRY_IA32E_MODE;
	}
}

static void vmx_write_syscall(struct vmx_vcpu *vmx)
{
	struct keel_regs *regs = &vmx->vcpu.regs;

	vmx_write(GUEST_SYSENTER_CS, (u32)regs->sysenter_cs);
	vmx_write(GUEST_SYSENTER_ESP, regs->sysenter_esp);
	vmx_write(GUEST_SYSENTER_EIP, regs->sysenter_eip);
	if (!vmx->guest_loaded)
		return;		/* they will be, with all others */
	wrmsrl(MSR_STAR, regs->star);
	wrmsrl(MSR_LSTAR, regs->lstar);
	wrmsrl(MSR_CSTAR, regs->cstar);
	wrmsrl(MSR_SYSCALL_MASK, regs->fmask);
	wrmsrl(MSR_KERNEL_GS_BASE, regs->kernel_gs_base);
}

/**
 * vmx_vmcs_write_regs() - write what regs.dirty names
 * @vmx: the vCPU
 *
 * Context: from enter(), interrupts off.
 */
void vmx_vmcs_write_regs(struct vmx_vcpu *vmx)
{
	struct keel_regs *regs = &vmx->vcpu.regs;
	u32 dirty = regs->dirty;

	if (dirty & KEEL_RIP)
		vmx_write(GUEST_RIP, regs->rip);
	if (dirty & KEEL_RSP)
		vmx_write(GUEST_RSP, regs->gpr[KEEL_RSP_REG]);
	if (dirty & KEEL_RFLAGS)
		vmx_write(GUEST_RFLAGS, regs->rflags | X86_EFLAGS_FIXED);
	if (!(dirty & ~(KEEL_RIP | KEEL_RSP | KEEL_RFLAGS))) {
		regs->dirty = 0;
		return;
	}
	if (dirty & KEEL_CR3)
		vmx_write(GUEST_CR3, regs->cr3);
	if (dirty & KEEL_CRS)
		vmx_write_crs(vmx);
	if (dirty & KEEL_SEGS)
		vmx_write_segs(&vmx->vcpu, dirty);
	if (dirty & KEEL_TABLES) {
		vmx_write(GUEST_GDTR_BASE, regs->gdt.base);
		vmx_write(GUEST_GDTR_LIMIT, regs->gdt.limit);
		vmx_write(GUEST_IDTR_BASE, regs->idt.base);
		vmx_write(GUEST_IDTR_LIMIT, regs->idt.limit);
	}
	if (dirty & KEEL_PDPTRS) {
		vmx_write(GUEST_PDPTR0, regs->pdptr[0]);
		vmx_write(GUEST_PDPTR1, regs->pdptr[1]);
		vmx_write(GUEST_PDPTR2, regs->pdptr[2]);
		vmx_write(GUEST_PDPTR3, regs->pdptr[3]);
	}
	if (dirty & KEEL_DRS)
		vmx_write(GUEST_DR7, keel_live_dr7(&vmx->vcpu));
	if (dirty & KEEL_SYSCALL)
		vmx_write_syscall(vmx);
	regs->dirty = 0;
}

static void vmx_read_syscall(struct keel_vcpu *vcpu)
{
	struct keel_regs *regs = &vcpu->regs;

	regs->sysenter_cs = vmx_read(GUEST_SYSENTER_CS);
	regs->sysenter_esp = vmx_read(GUEST_SYSENTER_ESP);
	regs->sysenter_eip = vmx_read(GUEST_SYSENTER_EIP);
	/* The others change by software only. Preempted, this one gets saved. */
	preempt_disable();
	if (to_vmx(vcpu)->guest_loaded)
		rdmsrl(MSR_KERNEL_GS_BASE, regs->kernel_gs_base);
	preempt_enable();
}

/**
 * vmx_read_regs() - backend operation: read groups of registers
 * @vcpu: the vCPU
 * @groups: KEEL_RIP and so on
 *
 * EFER and the debug registers are software's: every change of theirs exits.
 */
void vmx_read_regs(struct keel_vcpu *vcpu, u32 groups)
{
	struct keel_regs *regs = &vcpu->regs;

	if (groups & KEEL_RIP)
		regs->rip = vmx_read(GUEST_RIP);
	if (groups & KEEL_RSP)
		regs->gpr[KEEL_RSP_REG] = vmx_read(GUEST_RSP);
	if (groups & KEEL_RFLAGS)
		regs->rflags = vmx_read(GUEST_RFLAGS);
	if (groups & KEEL_MODE) {
		regs->cs_l = !!(vmx_read(GUEST_CS_AR_BYTES) & VMX_AR_L_MASK);
		regs->cpl = VMX_AR_DPL(vmx_read(GUEST_SS_AR_BYTES));
	}
	if (!(groups & ~(KEEL_RIP | KEEL_RSP | KEEL_RFLAGS | KEEL_MODE)))
		return;
	if (groups & KEEL_CRS)
		vmx_read_crs(to_vmx(vcpu));
	if (groups & KEEL_CR3)
		regs->cr3 = vmx_read(GUEST_CR3);
	if (groups & KEEL_CS_SS) {
		vmx_read_seg(vcpu, KEEL_CS);
		vmx_read_seg(vcpu, KEEL_SS);
	}
	if (groups & KEEL_OTHER_SEGS)
		vmx_read_other_segs(vcpu);
	if (groups & KEEL_TABLES) {
		regs->gdt.base = vmx_read(GUEST_GDTR_BASE);
		regs->gdt.limit = vmx_read(GUEST_GDTR_LIMIT);
		regs->idt.base = vmx_read(GUEST_IDTR_BASE);
		regs->idt.limit = vmx_read(GUEST_IDTR_LIMIT);
	}
	if (groups & KEEL_PDPTRS) {
		regs->pdptr[0] = vmx_read(GUEST_PDPTR0);
		regs->pdptr[1] = vmx_read(GUEST_PDPTR1);
		regs->pdptr[2] = vmx_read(GUEST_PDPTR2);
		regs->pdptr[3] = vmx_read(GUEST_PDPTR3);
	}
	if (groups & KEEL_SYSCALL)
		vmx_read_syscall(vcpu);
}

/* vmx_dump() - backend operation: the VMCS in a few lines of the log */
void vmx_dump(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	static const char names[][5] = { "ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR" };
	int n;

	pr_err("%s vCPU %u: exit %#x qualification %#lx, VM instruction error %lu\n",
	       vcpu->vm->name, vcpu->id, vmx->reason, vmx_read(EXIT_QUALIFICATION),
	       vmx_read(VM_INSTRUCTION_ERROR));
	pr_err(" RIP %#lx RSP %#lx RFLAGS %#lx CR0 %#lx CR3 %#lx CR4 %#lx EFER %#lx DR7 %#lx\n",
	       vmx_read(GUEST_RIP), vmx_read(GUEST_RSP), vmx_read(GUEST_RFLAGS),
	       vmx_read(GUEST_CR0), vmx_read(GUEST_CR3), vmx_read(GUEST_CR4),
	       vmx_read(GUEST_IA32_EFER), vmx_read(GUEST_DR7));
	for (n = 0; n < KEEL_NR_SEGS; n++)
		pr_err(" %-4s %04lx base %#lx limit %#lx access %#lx\n", names[n],
		       vmx_read(GUEST_ES_SELECTOR + 2 * n),
		       vmx_read(GUEST_ES_BASE + 2 * n),
		       vmx_read(GUEST_ES_LIMIT + 2 * n),
		       vmx_read(GUEST_ES_AR_BYTES + 2 * n));
	pr_err(" GDTR %#lx/%#lx IDTR %#lx/%#lx blocking %#lx activity %#lx pending #DB %#lx\n",
	       vmx_read(GUEST_GDTR_BASE), vmx_read(GUEST_GDTR_LIMIT),
	       vmx_read(GUEST_IDTR_BASE), vmx_read(GUEST_IDTR_LIMIT),
	       vmx_read(GUEST_INTERRUPTIBILITY_INFO), vmx_read(GUEST_ACTIVITY_STATE),
	       vmx_read(GUEST_PENDING_DBG_EXCEPTIONS));
	pr_err(" controls: pin %#lx cpu %#lx %#lx exit %#lx entry %#lx event %#lx EPTP %#lx\n",
	       vmx_read(PIN_BASED_VM_EXEC_CONTROL), vmx_read(CPU_BASED_VM_EXEC_CONTROL),
	       vmx_read(SECONDARY_VM_EXEC_CONTROL), vmx_read(VM_EXIT_CONTROLS),
	       vmx_read(VM_ENTRY_CONTROLS), vmx_read(VM_ENTRY_INTR_INFO_FIELD),
	       vmx_read(EPT_POINTER));
}
