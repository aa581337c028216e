// SPDX-License-Identifier: GPL-2.0-only
/*
 * What this CPU's VMX can do, and whether it is enough and ours.
 */
#include <linux/cpu.h>
#include <linux/sched/smt.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>
#include <asm/fpu/xcr.h>

#include "internal.h"

struct vmx_caps vmx_caps __ro_after_init;

/* SDM "EPT Translation Mechanism". Guest PATs have no say: write-back always. */
struct keel_table_format vmx_table_format __ro_after_init = {
	.present = VMX_EPT_RWX_MASK,
	.table = VMX_EPT_RWX_MASK,
	.leaf = VMX_EPT_READABLE_MASK | VMX_EPT_IPAT_BIT |
		(VMX_EPTP_MT_WB << VMX_EPT_MT_EPTE_SHIFT),
	.large = BIT_ULL(7),
	.write = VMX_EPT_WRITABLE_MASK,
	.exec = VMX_EPT_EXECUTABLE_MASK,
	.max_level = 1,
};

/*
 * The control fields. @required must be possible and are set, @switched must
 * be possible and are set later, @optional are set where possible.
 */
static const struct vmx_control {
	const char *name;
	u32 msr, true_msr;
	u32 required, switched, optional;
	u32 *value;
} vmx_controls[] = {
	{
		.name = "pin-based",
		.msr = MSR_IA32_VMX_PINBASED_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_PINBASED_CTLS,
		.required = PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING |
			    PIN_BASED_VIRTUAL_NMIS,
		.value = &vmx_caps.pin,
	}, {
		.name = "processor-based",
		.msr = MSR_IA32_VMX_PROCBASED_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
		.required = CPU_BASED_HLT_EXITING | CPU_BASED_MWAIT_EXITING |
			    CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING |
			    CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING |
			    CPU_BASED_UNCOND_IO_EXITING | CPU_BASED_MOV_DR_EXITING |
			    CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_USE_TSC_OFFSETTING |
			    CPU_BASED_ACTIVATE_SECONDARY_CONTROLS,
		.switched = CPU_BASED_INTR_WINDOW_EXITING |
			    CPU_BASED_NMI_WINDOW_EXITING,
		.value = &vmx_caps.cpu,
	}, {
		.name = "secondary processor-based",
		.msr = MSR_IA32_VMX_PROCBASED_CTLS2,
		.true_msr = MSR_IA32_VMX_PROCBASED_CTLS2,
		.required = SECONDARY_EXEC_ENABLE_EPT |
			    SECONDARY_EXEC_UNRESTRICTED_GUEST |
			    SECONDARY_EXEC_WBINVD_EXITING,
		.optional = SECONDARY_EXEC_ENABLE_VPID |
			    SECONDARY_EXEC_ENABLE_RDTSCP |
			    SECONDARY_EXEC_ENABLE_INVPCID |
			    SECONDARY_EXEC_PAUSE_LOOP_EXITING |
			    SECONDARY_EXEC_ENCLS_EXITING,
		.value = &vmx_caps.cpu2,
	}, {
		.name = "exit",
		.msr = MSR_IA32_VMX_EXIT_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_EXIT_CTLS,
		.required = VM_EXIT_SAVE_DEBUG_CONTROLS |
			    VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_LOAD_IA32_EFER,
		.value = &vmx_caps.exit,
	}, {
		.name = "entry",
		.msr = MSR_IA32_VMX_ENTRY_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_ENTRY_CTLS,
		.required = VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_EFER,
		.switched = VM_ENTRY_IA32E_MODE,
		.value = &vmx_caps.entry,
	},
};

/* SDM appendix A.2 to A.5: low word is what must be 1, high what may be 1. */
static int vmx_negotiate(const struct vmx_control *c, bool have_true)
{
	u32 must, may, missing;

	rdmsr(have_true ? c->true_msr : c->msr, must, may);
	missing = (c->required | c->switched) & ~may;
	if (missing) {
		pr_err("this CPU's VT-x is too old for keel: %s controls %#x are missing (it needs EPT and unrestricted guests: Westmere or newer)\n",
		       c->name, missing);
		return -ENODEV;
	}
	*c->value = (((c->required | c->optional) & may) | must) & ~(c->switched & ~must);
	return 0;
}

static int vmx_negotiate_all(u64 basic)
{
	bool have_true = basic & BIT_ULL(55);	/* SDM appendix A.1 */
	int i, r;

	for (i = 0; i < ARRAY_SIZE(vmx_controls); i++) {
		r = vmx_negotiate(&vmx_controls[i], have_true);
		if (r)
			return r;
	}
	return 0;
}

/* SDM appendix A.10 */
static int vmx_probe_ept(void)
{
	u64 cap;

	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, cap);
	if (!(cap & VMX_EPT_PAGE_WALK_4_BIT) || !(cap & VMX_EPTP_WB_BIT) ||
	    !(cap & VMX_EPT_INVEPT_BIT) ||
	    !(cap & VMX_EPT_EXTENT_CONTEXT_BIT) || !(cap & VMX_EPT_EXTENT_GLOBAL_BIT)) {
		pr_err("this CPU's EPT lacks what keel needs (capabilities %#llx)\n", cap);
		return -ENODEV;
	}
	vmx_caps.eptp = VMX_EPTP_PWL_4 | VMX_EPTP_MT_WB;
	if (cap & VMX_EPT_AD_BIT) {
		vmx_caps.eptp |= VMX_EPTP_AD_ENABLE_BIT;
		vmx_table_format.accessed = VMX_EPT_ACCESS_BIT;
		vmx_table_format.dirty = VMX_EPT_DIRTY_BIT;
	}

	cap >>= 32;
	vmx_caps.invvpid_context = cap & VMX_VPID_EXTENT_SINGLE_CONTEXT_BIT;
	if (!(cap & VMX_VPID_INVVPID_BIT) ||
	    !(cap & (VMX_VPID_EXTENT_SINGLE_CONTEXT_BIT |
		     VMX_VPID_EXTENT_GLOBAL_CONTEXT_BIT)))
		vmx_caps.cpu2 &= ~SECONDARY_EXEC_ENABLE_VPID;
	return 0;
}

static void vmx_choose_page_size(void)
{
	u64 cap;

	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, cap);
	/*
	 * Large executable mappings whose size a guest can have changed let it
	 * stop the machine.
	 */
	if (boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) && !cpu_mitigations_off()) {
		pr_info("small pages only: this CPU has the iTLB multihit bug\n");
		vmx_table_format.max_level = 1;
		return;
	}
	vmx_table_format.max_level = 1;
	if (cap & VMX_EPT_2MB_PAGE_BIT)
		vmx_table_format.max_level = cap & VMX_EPT_1GB_PAGE_BIT ? 3 : 2;
}

/* L1 terminal fault: entries must flush L1D where the kernel says so. */
static void vmx_probe_l1tf(void)
{
	u64 arch_cap = 0;

	if (!boot_cpu_has_bug(X86_BUG_L1TF) || l1tf_mitigation == L1TF_MITIGATION_OFF)
		return;
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrl(MSR_IA32_ARCH_CAPABILITIES, arch_cap);
	if (arch_cap & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH)
		return;
	vmx_caps.flush_l1d = true;
	/* an entry cannot flush what the sibling thread brings in */
	if (l1tf_mitigation != L1TF_MITIGATION_FLUSH_NOWARN && sched_smt_active())
		pr_warn("this CPU has L1TF and SMT is on: a guest may read the host's memory (CVE-2018-3646); use nosmt unless guests are trusted\n");
}

/* Firmware, or the kernel at boot, decides about VMX and locks the decision. */
static int vmx_check_feature_control(void)
{
	u64 ctl;

	if (rdmsrl_safe(MSR_IA32_FEAT_CTL, &ctl))
		return 0;	/* not there: nothing forbids VMXON */
	if (ctl & FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX)
		return 0;
	if (ctl & FEAT_CTL_LOCKED)
		pr_err("VT-x is switched off and locked: switch it on in the firmware's setup (Virtualization Technology)\n");
	else
		pr_err("VT-x is not switched on (IA32_FEATURE_CONTROL %#llx): switch it on in the firmware's setup, or use a kernel with CONFIG_KVM_INTEL, which does it\n",
		       ctl);
	return -ENODEV;
}

/**
 * vmx_probe() - backend operation: is VMX here, enough, allowed and free?
 *
 * Return: 0; -ENXIO silently when this is no CPU with VMX; -ENODEV or -EBUSY
 * with a line in the log.
 */
int vmx_probe(void)
{
	u64 basic, misc;
	int r;

	/* The kernel clears its own feature bit when firmware forbids VMX. */
	if (!(cpuid_ecx(1) & BIT(5)))
		return -ENXIO;
	if (__read_cr4() & X86_CR4_VMXE) {
		pr_err("VT-x is in another hypervisor's hands: stop its VMs, then 'modprobe -r kvm_intel' (or vboxdrv, vmmon)\n");
		return -EBUSY;
	}
	r = vmx_check_feature_control();
	if (r)
		return r;
#ifdef X86_FEATURE_FRED
	/* an NMI that made the guest exit is delivered by INT, which FRED takes for INT */
	if (cpu_feature_enabled(X86_FEATURE_FRED)) {
		pr_err("keel does not know FRED, which this kernel uses: boot it with fred=off\n");
		return -ENODEV;
	}
#endif

	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	if (vmx_basic_vmcs_size(basic) > PAGE_SIZE) {
		pr_err("this CPU's VMCS does not fit into a page\n");
		return -ENODEV;
	}
	vmx_caps.revision = vmx_basic_vmcs_revision_id(basic);
	r = vmx_negotiate_all(basic);
	if (!r)
		r = vmx_probe_ept();
	if (r)
		return r;
	vmx_choose_page_size();
	vmx_probe_l1tf();

	rdmsrl(MSR_IA32_VMX_MISC, misc);
	vmx_caps.zero_len_event = misc & VMX_MISC_ZERO_LEN_INS;
	vmx_caps.tsc_aux = boot_cpu_has(X86_FEATURE_RDTSCP) &&
			   (vmx_caps.cpu2 & SECONDARY_EXEC_ENABLE_RDTSCP);
	rdmsrl(MSR_IA32_VMX_CR0_FIXED0, vmx_caps.cr0_fixed0);
	rdmsrl(MSR_IA32_VMX_CR0_FIXED1, vmx_caps.cr0_fixed1);
	rdmsrl(MSR_IA32_VMX_CR4_FIXED0, vmx_caps.cr4_fixed0);
	rdmsrl(MSR_IA32_VMX_CR4_FIXED1, vmx_caps.cr4_fixed1);
	/* Unrestricted guests choose these two. SDM appendix A.7. */
	vmx_caps.cr0_fixed0 &= ~(u64)(X86_CR0_PE | X86_CR0_PG);

	/* The kernel sets these once and alike on all CPUs. */
	rdmsrl(MSR_STAR, vmx_caps.host_star);
	rdmsrl(MSR_LSTAR, vmx_caps.host_lstar);
	rdmsrl(MSR_CSTAR, vmx_caps.host_cstar);
	rdmsrl(MSR_SYSCALL_MASK, vmx_caps.host_fmask);
	if (boot_cpu_has(X86_FEATURE_OSXSAVE))
		vmx_caps.host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	return 0;
}

/**
 * vmx_cr_valid() - backend operation: would a VM entry accept these?
 * @vcpu: whose
 * @cr0: as the guest sees it
 * @cr4: as the guest sees it
 *
 * What is fixed to 1 and keel sets by itself (CR0.NE, CR4.VMXE) does not count.
 */
bool vmx_cr_valid(struct keel_vcpu *vcpu, u64 cr0, u64 cr4)
{
	u64 cr0_may = vmx_caps.cr0_fixed1 | X86_CR0_CD | X86_CR0_NW | X86_CR0_ET;

	return !(cr0 & ~cr0_may) && !(cr4 & ~vmx_caps.cr4_fixed1);
}
