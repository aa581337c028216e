// SPDX-License-Identifier: GPL-2.0-only
/*
 * The Intel backend's operations: VMX on and off, vCPUs bound to CPUs, entry.
 */
#include <linux/bitmap.h>
#include <linux/cpu.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fpu/xcr.h>
#include <asm/hardirq.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/perf_event.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

#include "../guest.h"
#include "internal.h"

/* One per CPU; only its own CPU touches it, with interrupts off. */
struct vmx_cpu {
	struct vmx_region *vmxon;	/* set by probe */
	bool on;
	struct list_head vmcss;		/* active here */
	struct vmx_vcpu *current_vmx;	/* whose VMCS is the current one */
};

static DEFINE_PER_CPU(struct vmx_cpu, vmx_cpu);

/*
 * #MC is the host's. #DB and #AC must exit because a guest can make their
 * delivery raise them again, for ever and without an interrupt window; and #DB
 * also because DR6, which it changes, is not in the VMCS. #UD may be the other
 * vendor's hypercall.
 */
#define VECTORS_THAT_EXIT	(BIT(X86_TRAP_MC) | BIT(X86_TRAP_DB) |	\
				 BIT(X86_TRAP_AC) | BIT(X86_TRAP_UD))

/*
 * Read to flush L1D where no MSR does it: 64 KiB, twice the size of L1D in the
 * CPUs that have L1TF.
 */
#define VMX_FLUSH_ORDER		4
static char *vmx_flush_pages;

static DECLARE_BITMAP(vmx_vpids, VMX_NR_VPIDS);
static DEFINE_SPINLOCK(vmx_vpid_lock);

/**
 * vmx_insn_failed() - a VMX instruction did not work
 * @insn: its name
 * @operand: what tells which one it was
 *
 * Its VM cannot go on. That is expected when VMX was switched off under it,
 * because the machine goes down.
 */
noinline void vmx_insn_failed(const char *insn, unsigned long operand)
{
	struct vmx_vcpu *vmx = raw_cpu_read(vmx_cpu.current_vmx);

	if (READ_ONCE(keel_rebooting))
		return;
	pr_err_ratelimited("%s failed, operand %#lx\n", insn, operand);
	if (vmx)
		keel_vm_kill(vmx->vcpu.vm, "a VMX instruction failed");
}

/* ---- CPUs ---- */

static void vmx_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		free_page((unsigned long)per_cpu(vmx_cpu.vmxon, cpu));
		per_cpu(vmx_cpu.vmxon, cpu) = NULL;
	}
	vmx_msr_bitmaps_free();
	free_pages((unsigned long)vmx_flush_pages, VMX_FLUSH_ORDER);
	vmx_flush_pages = NULL;
}

static int vmx_probe_and_allocate(void)
{
	int cpu, i, r;

	r = vmx_probe();
	if (r)
		return r;
	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = &per_cpu(vmx_cpu, cpu);

		INIT_LIST_HEAD(&c->vmcss);
		c->vmxon = vmx_region_alloc(cpu_to_node(cpu));
		if (!c->vmxon)
			goto no_memory;
	}
	bitmap_zero(vmx_vpids, VMX_NR_VPIDS);
	__set_bit(0, vmx_vpids);	/* the host's own */
	if (vmx_msr_bitmaps_create())
		goto no_memory;
	if (!vmx_caps.flush_l1d || boot_cpu_has(X86_FEATURE_FLUSH_L1D))
		return 0;
	vmx_flush_pages = (char *)__get_free_pages(GFP_KERNEL, VMX_FLUSH_ORDER);
	if (!vmx_flush_pages)
		goto no_memory;
	/* no two alike: a hypervisor below us could make one of them (KSM) */
	for (i = 0; i < 1 << VMX_FLUSH_ORDER; i++)
		memset(vmx_flush_pages + i * PAGE_SIZE, i + 1, PAGE_SIZE);
	return 0;
no_memory:
	vmx_exit();
	return -ENOMEM;
}

static int vmx_cpu_enable(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);

	if (__read_cr4() & X86_CR4_VMXE)
		return -EBUSY;
	intel_pt_handle_vmx(1);
	cr4_set_bits(X86_CR4_VMXE);
	if (!vmx_on(__pa(c->vmxon))) {
		cr4_clear_bits(X86_CR4_VMXE);
		intel_pt_handle_vmx(0);
		return -EIO;
	}
	c->on = true;
	c->current_vmx = NULL;
	/* What another hypervisor, or an earlier life, left in the TLB. */
	vmx_invept(VMX_EPT_EXTENT_GLOBAL, 0);
	if (vmx_caps.cpu2 & SECONDARY_EXEC_ENABLE_VPID)
		vmx_invvpid(VMX_VPID_EXTENT_ALL_CONTEXT, 0);
	return 0;
}

/* Interrupts are off, on the CPU where it is active. */
static void vmx_deactivate(struct vmx_vcpu *vmx)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);

	if (!vmx_clear(__pa(vmx->vmcs)))
		vmx_insn_failed("VMCLEAR", 0);
	if (c->current_vmx == vmx)
		c->current_vmx = NULL;
	vmx->launched = false;
	list_del(&vmx->node);
	/* Pairs with vmx_vcpu_load(): it may use @node when it sees this. */
	smp_store_release(&vmx->vmcs_cpu, -1);
}

static void vmx_cpu_disable(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *vmx, *next;

	if (!c->on)
		return;
	list_for_each_entry_safe(vmx, next, &c->vmcss, node)
		vmx_deactivate(vmx);
	c->on = false;
	vmx_off();
	cr4_clear_bits(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
}

/*
 * The machine is about to be reset, or taken over by a crash kernel, which
 * INIT cannot do in VMX operation. What a CPU caches of a VMCS must be in
 * memory for the dump.
 */
static void vmx_emergency(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *vmx;

	if (!c->on)
		return;
	c->on = false;
	list_for_each_entry(vmx, &c->vmcss, node)
		vmx_clear(__pa(vmx->vmcs));
	vmx_off();
	cr4_clear_bits(X86_CR4_VMXE);
}

/* ---- vCPUs ---- */

static u16 vmx_vpid_get(void)
{
	unsigned long vpid;

	if (!(vmx_caps.cpu2 & SECONDARY_EXEC_ENABLE_VPID))
		return 0;
	spin_lock(&vmx_vpid_lock);
	vpid = find_first_zero_bit(vmx_vpids, VMX_NR_VPIDS);
	if (vpid < VMX_NR_VPIDS)
		__set_bit(vpid, vmx_vpids);
	else
		vpid = 0;
	spin_unlock(&vmx_vpid_lock);
	return vpid;
}

static void vmx_vpid_put(u16 vpid)
{
	if (!vpid)
		return;
	spin_lock(&vmx_vpid_lock);
	__clear_bit(vpid, vmx_vpids);
	spin_unlock(&vmx_vpid_lock);
}

static int vmx_vcpu_create(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx->vmcs = vmx_region_alloc(NUMA_NO_NODE);
	vmx->switched = kzalloc(sizeof(*vmx->switched), GFP_KERNEL_ACCOUNT);
	if (!vmx->vmcs || !vmx->switched) {
		free_page((unsigned long)vmx->vmcs);
		kfree(vmx->switched);
		vmx->vmcs = NULL;
		return -ENOMEM;
	}
	vmx->vmcs_cpu = -1;
	vmx->vpid = vmx_vpid_get();
	vmx->eptp = vcpu->vm->mmu.root_pa | vmx_caps.eptp;
	vmx->want.cpu = vmx_caps.cpu;
	if (vcpu->disabled_exits & KVM_X86_DISABLE_EXITS_HLT)
		vmx->want.cpu &= ~CPU_BASED_HLT_EXITING;
	if (vcpu->disabled_exits & KVM_X86_DISABLE_EXITS_MWAIT)
		vmx->want.cpu &= ~(CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING);
	vmx->want.entry = vmx_caps.entry;
	vmx->want.exceptions = VECTORS_THAT_EXIT;
	return 0;
}

static void vmx_deactivate_ipi(void *arg)
{
	struct vmx_vcpu *vmx = arg;

	/* Its CPU may have gone offline meanwhile, which did the same. */
	if (vmx->vmcs_cpu == raw_smp_processor_id())
		vmx_deactivate(vmx);
}

static void vmx_deactivate_anywhere(struct vmx_vcpu *vmx)
{
	/* Pairs with vmx_deactivate(). */
	int cpu = smp_load_acquire(&vmx->vmcs_cpu);

	if (cpu >= 0)
		smp_call_function_single(cpu, vmx_deactivate_ipi, vmx, 1);
}

static void vmx_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (!vmx->vmcs)
		return;
	vmx_deactivate_anywhere(vmx);
	vmx_vpid_put(vmx->vpid);
	free_page((unsigned long)vmx->vmcs);
	kfree(vmx->switched);
	vmx->vmcs = NULL;
}

static void vmx_vcpu_reset(struct keel_vcpu *vcpu, bool init)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx->event_info = 0;
	vmx->flush_tlb = true;
	vmx_set_blocking(vmx, 0);
	vmx_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
}

/* Make the VMCS active and current on this CPU. Preemption is off. */
static bool vmx_activate(struct vmx_vcpu *vmx, int cpu)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	bool moved = vmx->vmcs_cpu != cpu;
	unsigned long flags;
	bool ok = true;

	if (moved)
		vmx_deactivate_anywhere(vmx);
	local_irq_save(flags);
	if (moved) {
		/* SDM: a VMCS is VMCLEARed once before its first use. */
		ok = vmx_clear(__pa(vmx->vmcs));
		/* it fails where VMX is off: then the CPU has nothing to forget */
		if (ok) {
			list_add(&vmx->node, &c->vmcss);
			vmx->vmcs_cpu = cpu;
		}
	}
	if (c->current_vmx != vmx) {
		ok = ok && vmx_load(__pa(vmx->vmcs));
		c->current_vmx = vmx;
		/* One guest must not train this CPU's branches for another. */
		indirect_branch_prediction_barrier();
	}
	local_irq_restore(flags);
	if (!ok)
		vmx_insn_failed("VMPTRLD", cpu);
	return moved;
}

static void vmx_vcpu_load(struct keel_vcpu *vcpu, int cpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	bool moved = vmx_activate(vmx, cpu);

	if (!vmx->set_up) {
		vmx_vmcs_set_up(vmx);
		vmx->set_up = true;
	}
	if (moved) {
		vmx_vmcs_new_cpu(vmx, cpu);
		vmx->flush_tlb = true;
	}
	vcpu->flush_l1d = true;
}

/*
 * Load what the VMCS does not: the guest's SYSCALL MSRs. Save what of the host
 * they, and exits, destroy. Once for each time a vCPU gets a CPU.
 */
static void vmx_load_guest(struct vmx_vcpu *vmx)
{
	struct keel_regs *regs = &vmx->vcpu.regs;
	struct vmx_host *host = &vmx->host;

	savesegment(fs, host->fs_sel);
	savesegment(gs, host->gs_sel);
	savesegment(ds, host->ds_sel);
	savesegment(es, host->es_sel);
	store_ldt(host->ldt_sel);
	rdmsrl(MSR_FS_BASE, host->fs_base);
	if (host->fs_base != vmx->host_fs_base) {
		vmx_write(HOST_FS_BASE, host->fs_base);
		vmx->host_fs_base = host->fs_base;
	}
	rdmsrl(MSR_KERNEL_GS_BASE, host->kernel_gs_base);
	wrmsrl(MSR_KERNEL_GS_BASE, regs->kernel_gs_base);
	wrmsrl(MSR_STAR, regs->star);
	wrmsrl(MSR_LSTAR, regs->lstar);
	wrmsrl(MSR_CSTAR, regs->cstar);
	wrmsrl(MSR_SYSCALL_MASK, regs->fmask);
	if (vmx_caps.tsc_aux) {
		rdmsrl(MSR_TSC_AUX, host->tsc_aux);
		vmx->loaded_tsc_aux = host->tsc_aux;
	}
	vmx->guest_loaded = true;
}

/* VM exits load null selectors, and limits of tables that are not the host's. */
static void vmx_restore_host_segments(const struct vmx_host *host)
{
	if (host->ldt_sel)
		asm volatile("lldt %0" : : "rm" (host->ldt_sel));
	if (host->ds_sel)
		loadsegment(ds, host->ds_sel);
	if (host->es_sel)
		loadsegment(es, host->es_sel);
	if (host->fs_sel) {
		loadsegment(fs, host->fs_sel);
		wrmsrl(MSR_FS_BASE, host->fs_base);
	}
	if (host->gs_sel)
		load_gs_index(host->gs_sel);
	wrmsrl(MSR_KERNEL_GS_BASE, host->kernel_gs_base);
	invalidate_tss_limit();
	load_fixmap_gdt(raw_smp_processor_id());
}

static void vmx_vcpu_put(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct vmx_host *host = &vmx->host;

	if (!vmx->guest_loaded)
		return;
	vmx->guest_loaded = false;
	if (!(vcpu->regs.dirty & KEEL_SYSCALL))
		rdmsrl(MSR_KERNEL_GS_BASE, vcpu->regs.kernel_gs_base);
	wrmsrl(MSR_STAR, vmx_caps.host_star);
	wrmsrl(MSR_LSTAR, vmx_caps.host_lstar);
	wrmsrl(MSR_CSTAR, vmx_caps.host_cstar);
	wrmsrl(MSR_SYSCALL_MASK, vmx_caps.host_fmask);
	if (vmx_caps.tsc_aux && vmx->loaded_tsc_aux != host->tsc_aux)
		wrmsrl(MSR_TSC_AUX, host->tsc_aux);
	vmx_restore_host_segments(host);
}

/* ---- entry ---- */

static void vmx_write_controls(struct vmx_vcpu *vmx)
{
	struct vmx_controls *want = &vmx->want, *written = &vmx->written;

	if (want->cpu != written->cpu)
		vmx_write(CPU_BASED_VM_EXEC_CONTROL, want->cpu);
	if (want->entry != written->entry)
		vmx_write(VM_ENTRY_CONTROLS, want->entry);
	if (want->exceptions != written->exceptions)
		vmx_write(EXCEPTION_BITMAP, want->exceptions);
	if (want->tsc_offset != written->tsc_offset)
		vmx_write(TSC_OFFSET, want->tsc_offset);
	*written = *want;
}

static void vmx_write_event(struct vmx_vcpu *vmx)
{
	if (!vmx->event_info)
		return;
	vmx_write(VM_ENTRY_INTR_INFO_FIELD, vmx->event_info);
	if (vmx->event_info & INTR_INFO_DELIVER_CODE_MASK)
		vmx_write(VM_ENTRY_EXCEPTION_ERROR_CODE, vmx->event_error);
	if (vmx->event_len)
		vmx_write(VM_ENTRY_INSTRUCTION_LEN, vmx->event_len);
}

/*
 * A guest whose HLT does not exit may be halted, and go on with that. Not with
 * an event or registers that it did not have then: SDM "Checks on Guest
 * Non-Register State" has few that go together with it.
 */
static void vmx_end_halt(struct vmx_vcpu *vmx)
{
	if (likely(!(vmx->vcpu.disabled_exits & KVM_X86_DISABLE_EXITS_HLT)))
		return;
	if (vmx->event_info || vmx->vcpu.regs.dirty || vmx->blocking_dirty)
		vmx_write(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
}

static bool vmx_event_is_db(const struct vmx_vcpu *vmx)
{
	return vmx->event_info == (INTR_INFO_VALID_MASK | INTR_TYPE_HARD_EXCEPTION |
				   X86_TRAP_DB);
}

/*
 * SDM "Checks on Guest Non-Register State": blocking by STI needs RFLAGS.IF;
 * with blocking by STI or MOV SS a single-step trap is pending if and only if
 * RFLAGS.TF. Software may have changed the flags, or the blocking; and the exit
 * of a #DB, which is about to be injected, took what was pending with it.
 */
static noinline void vmx_write_blocking(struct vmx_vcpu *vmx)
{
	u32 blocking = vmx_blocking(vmx);

	if (blocking & VMX_SHADOW) {
		unsigned long rflags = vmx_read(GUEST_RFLAGS);
		unsigned long old = vmx_read(GUEST_PENDING_DBG_EXCEPTIONS);
		unsigned long new = old & ~DR_STEP;

		if (rflags & X86_EFLAGS_TF)
			new |= DR_STEP;
		if (new != old)
			vmx_write(GUEST_PENDING_DBG_EXCEPTIONS, new);
		if (!(rflags & X86_EFLAGS_IF) && (blocking & GUEST_INTR_STATE_STI))
			vmx_set_blocking(vmx, blocking & ~GUEST_INTR_STATE_STI);
	}
	if (vmx->blocking_dirty)
		vmx_write(GUEST_INTERRUPTIBILITY_INFO, vmx->blocking);
	vmx->blocking_dirty = false;
}

/* Return: false when it could not be done: then the VM is dead. */
static noinline bool vmx_do_flush(struct vmx_vcpu *vmx)
{
	bool ok;

	vmx->flush_tlb = false;
	ok = vmx_invept(VMX_EPT_EXTENT_CONTEXT, vmx->eptp);
	/* Without a VPID each entry and exit flushes these. */
	if (vmx->vpid && vmx_caps.invvpid_context)
		ok &= vmx_invvpid(VMX_VPID_EXTENT_SINGLE_CONTEXT, vmx->vpid);
	else if (vmx->vpid)
		ok &= vmx_invvpid(VMX_VPID_EXTENT_ALL_CONTEXT, 0);
	if (!ok)
		vmx_insn_failed("INVEPT or INVVPID", vmx->vpid);
	return ok;
}

/* What of the host changes between one entry and the next. */
static void vmx_write_host(struct vmx_vcpu *vmx)
{
	unsigned long value = __get_current_cr3_fast();

	if (value != vmx->host_cr3) {
		vmx_write(HOST_CR3, value);
		vmx->host_cr3 = value;
	}
	value = cr4_read_shadow();
	if (value != vmx->host_cr4) {
		vmx_write(HOST_CR4, value);
		vmx->host_cr4 = value;
	}
	if (!vmx->guest_loaded)
		vmx_load_guest(vmx);
	if (vmx_caps.tsc_aux && vmx->loaded_tsc_aux != vmx->vcpu.msrs.tsc_aux) {
		vmx->loaded_tsc_aux = vmx->vcpu.msrs.tsc_aux;
		wrmsrl(MSR_TSC_AUX, vmx->loaded_tsc_aux);
	}
}

/* DR7 is in the VMCS; the addresses are not, and DR6 only changes by software. */
static void vmx_load_breakpoints(const struct keel_vcpu *vcpu)
{
	const u64 *dr = keel_live_dr(vcpu);

	if (likely(!(keel_live_dr7(vcpu) & (DR_LOCAL_ENABLE_MASK | DR_GLOBAL_ENABLE_MASK))))
		return;
	set_debugreg(0, 7);
	set_debugreg(dr[0], 0);
	set_debugreg(dr[1], 1);
	set_debugreg(dr[2], 2);
	set_debugreg(dr[3], 3);
}

static u64 vmx_guest_xcr0(struct keel_vcpu *vcpu)
{
	if (!(vcpu->regs.cr4 & X86_CR4_OSXSAVE))
		return vmx_caps.host_xcr0;
	return vcpu->fpu.xcr0;
}

/* First the TLB, so that no page walk comes between; then every line. */
static void vmx_fill_l1d(const char *pages)
{
	const size_t size = PAGE_SIZE << VMX_FLUSH_ORDER;
	size_t i;

	for (i = 0; i < size; i += PAGE_SIZE)
		READ_ONCE(pages[i]);
	rmb();	/* these before those, which could else be started early */
	for (i = 0; i < size; i += 64)
		READ_ONCE(pages[i]);
	/* No load below may be started before these are done. */
	rmb();
}

/*
 * L1TF: what the host brought into L1D since the last flush is a secret. Handlers that
 * stay in the kernel touch what is the VM's own, page tables and caches of the
 * kernel among it, and show a guest at most where these lie; the emulator marks itself,
 * as the kernel does what interrupts bring in. A task that ran in between, or the VMM,
 * is seen by vmx_vcpu_load().
 */
static void vmx_flush_l1d(struct keel_vcpu *vcpu)
{
	bool flush = vcpu->flush_l1d;

	if (!vmx_caps.flush_l1d)
		return;
	if (l1tf_mitigation == L1TF_MITIGATION_FULL ||
	    l1tf_mitigation == L1TF_MITIGATION_FULL_FORCE ||
	    !IS_ENABLED(CONFIG_KVM_INTEL))
		flush = true;
#if IS_ENABLED(CONFIG_KVM_INTEL)
	flush |= kvm_get_cpu_l1tf_flush_l1d();
	kvm_clear_cpu_l1tf_flush_l1d();
#endif
	vcpu->flush_l1d = false;
	if (!flush)
		return;
	if (!vmx_flush_pages)
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
	else
		vmx_fill_l1d(vmx_flush_pages);
}

/*
 * NMIs stay blocked after the exit until an IRET: the host's handler must run
 * before anything here can fault. INT takes the same gate as the NMI.
 */
static __always_inline void vmx_deliver_nmi(struct vmx_vcpu *vmx)
{
	bool ok;

	if ((u16)vmx->reason != EXIT_REASON_EXCEPTION_NMI)
		return;
	vmx->intr_info = vmx_read_raw(VM_EXIT_INTR_INFO, &ok);
	if ((vmx->intr_info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR)
		asm volatile("int $2");
}

static bool vmx_exit_is_machine_check(const struct vmx_vcpu *vmx)
{
	u16 basic = vmx->reason;

	return basic == EXIT_REASON_MCE_DURING_VMENTRY ||
	       (basic == EXIT_REASON_EXCEPTION_NMI &&
		(vmx->intr_info & INTR_INFO_VECTOR_MASK) == X86_TRAP_MC);
}

static noinstr int vmx_enter_noinstr(struct vmx_vcpu *vmx)
{
	struct keel_regs *regs = &vmx->vcpu.regs;
	bool ok;
	int r;

	keel_guest_enter();
	if (native_read_cr2() != regs->cr2)
		native_write_cr2(regs->cr2);
	r = keel_vmx_enter(regs->gpr, &vmx->host_rsp, vmx->launched);
	regs->cr2 = native_read_cr2();
	if (likely(r == VMX_ENTERED)) {
		vmx->reason = vmx_read_raw(VM_EXIT_REASON, &ok);
		vmx_deliver_nmi(vmx);
	}
	keel_guest_exit();
	return r;
}

/* What an exit would have loaded: there was none. */
static void vmx_restore_perf_msrs(const struct vmx_vcpu *vmx)
{
	u32 i;

	for (i = 0; i < vmx->nr_switched; i++)
		wrmsrl(vmx->switched->host[i].index, vmx->switched->host[i].value);
}

/* The instruction failed, or (bit 31) loading the guest's state did. */
static void vmx_entry_failed(struct vmx_vcpu *vmx, int r)
{
	struct keel_exit *exit = &vmx->vcpu.exit;

	exit->reason = KEEL_EXIT_FAIL_ENTRY;
	exit->insn_len = 0;
	if (r == VMX_ENTERED) {
		exit->hw_reason = vmx->reason;
		if ((u16)vmx->reason == EXIT_REASON_MCE_DURING_VMENTRY)
			exit->reason = KEEL_EXIT_MACHINE_CHECK;
	} else {
		exit->hw_reason = r == VMX_FAILED ? vmx_read(VM_INSTRUCTION_ERROR) : 0;
		vmx->host_rsp = 0;
		vmx_restore_perf_msrs(vmx);
	}
	if (vmx->event_info) {
		vmx_write(VM_ENTRY_INTR_INFO_FIELD, 0);
		vmx_requeue_event(vmx, vmx->event_info, vmx->event_error,
				  vmx->event_len);
		vmx->event_info = 0;
	}
}

/*
 * What the host measures stops for the guest. PEBS must: its records go to a
 * linear address, which would be the guest's (SDM 18.9.5). Entry and exit do it
 * themselves, since an NMI of the PMU switches the host's counters on again.
 */
static void vmx_switch_perf_msrs(struct vmx_vcpu *vmx)
{
	struct vmx_switched *s = vmx->switched;
	struct perf_guest_switch_msr *msrs;
	int i, nr = 0;
	u32 n = 0;

	msrs = perf_guest_get_msrs(&nr, NULL);
	for (i = 0; msrs && i < nr && n < ARRAY_SIZE(s->guest); i++) {
		if (msrs[i].host == msrs[i].guest)
			continue;
		/* a record under way takes its time: be early */
		if (msrs[i].msr == MSR_IA32_PEBS_ENABLE)
			wrmsrl(MSR_IA32_PEBS_ENABLE, 0);
		s->guest[n].index = msrs[i].msr;
		s->guest[n].value = msrs[i].guest;
		s->host[n].index = msrs[i].msr;
		s->host[n].value = msrs[i].host;
		n++;
	}
	if (n == vmx->nr_switched)
		return;
	vmx->nr_switched = n;
	vmx_write(VM_ENTRY_MSR_LOAD_COUNT, n);
	vmx_write(VM_EXIT_MSR_LOAD_COUNT, n);
}

static void vmx_begin(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u64 xcr0 = vmx_guest_xcr0(vcpu);

	vmx_write_host(vmx);
	vmx->host_debugctl = get_debugctlmsr();
	vmx_load_breakpoints(vcpu);
	if (xcr0 != vmx_caps.host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, xcr0);
	vmx_switch_perf_msrs(vmx);
	vmx->perf_switched = true;
}

static void vmx_end(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (vmx_guest_xcr0(vcpu) != vmx_caps.host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, vmx_caps.host_xcr0);
	/* the entry was called off, but PEBS is off already */
	if (unlikely(vmx->perf_switched))
		vmx_restore_perf_msrs(vmx);
	/* Exits clear both. */
	if (vmx->host_debugctl)
		update_debugctlmsr(vmx->host_debugctl);
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
}

/* What the TLB model asks of the CPU: tags and registers of the VMCS. */
static struct keel_tlb_regs vmx_tlb_regs(void)
{
	return (struct keel_tlb_regs){ vmx_read(GUEST_CR0), vmx_read(GUEST_CR3),
				       vmx_read(GUEST_CR4), vmx_read(GUEST_IA32_EFER) };
}

static void vmx_tlb_model_enter(struct vmx_vcpu *vmx)
{
	bool tagged = vmx_read(SECONDARY_VM_EXEC_CONTROL) & SECONDARY_EXEC_ENABLE_VPID;
	unsigned long vpid = tagged ? vmx_read(VIRTUAL_PROCESSOR_ID) : 0;
	struct keel_tlb_regs regs = vmx_tlb_regs();

	/* SDM "VMX transitions invalidate", without VPIDs */
	if (!tagged)
		keel_tlb_model_flushed(KEEL_TLB_LINEAR, 0);
	keel_tlb_model_enter(&vmx->vcpu, vmx_ept_tag(vmx_read(EPT_POINTER)), vpid, &regs);
}

static void vmx_tlb_model_left(struct vmx_vcpu *vmx, int result)
{
	struct keel_tlb_regs regs = vmx_tlb_regs();
	bool failed = result != VMX_ENTERED || (vmx->reason & VMX_EXIT_REASONS_FAILED_VMENTRY);

	keel_tlb_model_left(&vmx->vcpu, failed ? NULL : &regs);
}

static void vmx_enter(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct keel_regs *regs = &vcpu->regs;
	bool flags_changed = regs->dirty & KEEL_RFLAGS;
	bool flushed;
	int r;

	vmx_end_halt(vmx);
	if (regs->dirty)
		vmx_vmcs_write_regs(vmx);
	if (unlikely(flags_changed || vmx->blocking_dirty || vmx_event_is_db(vmx)))
		vmx_write_blocking(vmx);
	vmx_write_event(vmx);
	vmx_write_controls(vmx);
	/* the exit has loaded the host's again, and an NMI may have changed them since */
	if (unlikely(vmx->nr_switched && !vmx->perf_switched))
		vmx_switch_perf_msrs(vmx);
	vmx->perf_switched = false;
	flushed = likely(!vmx->flush_tlb) || vmx_do_flush(vmx);
	if (IS_ENABLED(CONFIG_KEEL_TLB_MODEL))
		vmx_tlb_model_enter(vmx);
	vmx_flush_l1d(vcpu);

	r = likely(flushed) ? vmx_enter_noinstr(vmx) : VMX_FAILED;
	if (IS_ENABLED(CONFIG_KEEL_TLB_MODEL))
		vmx_tlb_model_left(vmx, r);

	if (unlikely(r == VMX_ENTERED && vmx_exit_is_machine_check(vmx))) {
		/* its handler finds the host as it knows it */
		vmx_end(vcpu);
		keel_machine_check();
		vmx_begin(vcpu);
	}

	regs->valid = KEEL_DRS;
	vmx->blocking_valid = false;
	if (unlikely(r != VMX_ENTERED ||
		     (vmx->reason & VMX_EXIT_REASONS_FAILED_VMENTRY))) {
		vmx_entry_failed(vmx, r);
		return;
	}
	vmx->launched = true;
	vmx->event_info = 0;
	vmx_decode_exit(vmx);
}

/* ---- events ---- */

/* GUEST_INTERRUPTIBILITY_INFO, read once per exit and only if asked for */
void vmx_set_blocking(struct vmx_vcpu *vmx, u32 blocking)
{
	if (vmx->blocking_valid && vmx->blocking == blocking)
		return;
	vmx->blocking = blocking;
	vmx->blocking_valid = true;
	vmx->blocking_dirty = true;
}

static_assert(KEEL_SHADOW_STI == BIT(1) && KEEL_SHADOW_MOV_SS == BIT(0));

static u32 vmx_get_shadow(struct keel_vcpu *vcpu)
{
	u32 blocking = vmx_blocking(to_vmx(vcpu));

	return (blocking & GUEST_INTR_STATE_STI ? KEEL_SHADOW_STI : 0) |
	       (blocking & GUEST_INTR_STATE_MOV_SS ? KEEL_SHADOW_MOV_SS : 0);
}

static void vmx_set_shadow(struct keel_vcpu *vcpu, u32 shadow)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 blocking = vmx_blocking(vmx) & ~(u32)VMX_SHADOW;

	/* VM entry accepts one of them only. */
	if (shadow & KEEL_SHADOW_MOV_SS)
		blocking |= GUEST_INTR_STATE_MOV_SS;
	else if (shadow & KEEL_SHADOW_STI)
		blocking |= GUEST_INTR_STATE_STI;
	vmx_set_blocking(vmx, blocking);
}

static bool vmx_nmi_blocked(struct keel_vcpu *vcpu)
{
	return vmx_blocking(to_vmx(vcpu)) & GUEST_INTR_STATE_NMI;
}

static void vmx_set_nmi_blocked(struct keel_vcpu *vcpu, bool blocked)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 blocking = vmx_blocking(vmx) & ~(u32)GUEST_INTR_STATE_NMI;

	vmx_set_blocking(vmx, blocking | (blocked ? GUEST_INTR_STATE_NMI : 0));
}

/* Which exceptions push an error code: VM entry insists. */
#define VECTORS_WITH_ERROR	(BIT(X86_TRAP_DF) | BIT(X86_TRAP_TS) |	\
				 BIT(X86_TRAP_NP) | BIT(X86_TRAP_SS) |	\
				 BIT(X86_TRAP_GP) | BIT(X86_TRAP_PF) |	\
				 BIT(X86_TRAP_AC))

/*
 * SDM "Checks on VM-Entry Control Fields": an event must be consistent, and
 * userspace may have made this one up.
 */
static void vmx_inject(struct keel_vcpu *vcpu, const struct keel_event *event)
{
	static const u32 types[] = {
		[KEEL_EVENT_INTERRUPT] = INTR_TYPE_EXT_INTR,
		[KEEL_EVENT_NMI] = INTR_TYPE_NMI_INTR,
		[KEEL_EVENT_EXCEPTION] = INTR_TYPE_HARD_EXCEPTION,
		[KEEL_EVENT_SOFT_INTERRUPT] = INTR_TYPE_SOFT_INTR,
		[KEEL_EVENT_SOFT_EXCEPTION] = INTR_TYPE_SOFT_EXCEPTION,
		[KEEL_EVENT_PRIV_SOFT_EXCEPTION] = INTR_TYPE_PRIV_SW_EXCEPTION,
	};
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 info = INTR_INFO_VALID_MASK | types[event->type];
	u32 unblock = 0;

	vmx->event_len = 0;
	switch (event->type) {
	case KEEL_EVENT_NMI:
		info |= X86_TRAP_NMI;
		unblock = GUEST_INTR_STATE_NMI | VMX_SHADOW;
		break;
	case KEEL_EVENT_INTERRUPT:
		info |= event->vector;
		unblock = VMX_SHADOW;
		break;
	case KEEL_EVENT_EXCEPTION:
		info |= event->vector & 31;
		if ((VECTORS_WITH_ERROR & BIT(event->vector & 31)) &&
		    (vcpu->regs.cr0 & X86_CR0_PE)) {
			info |= INTR_INFO_DELIVER_CODE_MASK;
			vmx->event_error = event->has_error ? (u16)event->error : 0;
		}
		break;
	default:
		info |= event->vector;
		vmx->event_len = clamp_t(u32, event->insn_len,
					 vmx_caps.zero_len_event ? 0 : 1, 15);
	}
	vmx->event_info = info;
	if (unblock)
		vmx_set_blocking(vmx, vmx_blocking(vmx) & ~unblock);
}

static void vmx_cancel_injection(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (!vmx->event_info)
		return;
	vmx_requeue_event(vmx, vmx->event_info, vmx->event_error, vmx->event_len);
	vmx->event_info = 0;
}

static void vmx_irq_window(struct keel_vcpu *vcpu, bool on)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (on)
		vmx->want.cpu |= CPU_BASED_INTR_WINDOW_EXITING;
	else
		vmx->want.cpu &= ~CPU_BASED_INTR_WINDOW_EXITING;
}

static void vmx_nmi_window(struct keel_vcpu *vcpu, bool on)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	/*
	 * Whether blocking by STI holds off NMIs is up to the CPU (SDM "Guest
	 * Non-Register State"). Where it does not, the window would be open
	 * with the shadow, and never end it. IRQs can be taken right behind it.
	 */
	if (on && (vmx_blocking(vmx) & GUEST_INTR_STATE_STI))
		vmx->want.cpu |= CPU_BASED_INTR_WINDOW_EXITING;
	else if (on)
		vmx->want.cpu |= CPU_BASED_NMI_WINDOW_EXITING;
	else
		vmx->want.cpu &= ~CPU_BASED_NMI_WINDOW_EXITING;
}

static void vmx_intercept_bp(struct keel_vcpu *vcpu, bool on)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx->want.exceptions = VECTORS_THAT_EXIT | (on ? BIT(X86_TRAP_BP) : 0);
}

static void vmx_flush_tlb(struct keel_vcpu *vcpu)
{
	to_vmx(vcpu)->flush_tlb = true;
}

static void vmx_set_tsc_offset(struct keel_vcpu *vcpu, u64 offset)
{
	to_vmx(vcpu)->want.tsc_offset = offset;
}

static const struct kvm_nested_state vmx_no_nesting = {
	.format = KVM_STATE_NESTED_FORMAT_VMX,
	.size = sizeof(struct kvm_nested_state),
	.hdr.vmx = { .vmxon_pa = ~0ULL, .vmcs12_pa = ~0ULL },
};

static void vmx_intercept_all_msrs(struct keel_vcpu *vcpu, bool on)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	/* SDM vol. 3 "Instructions That Cause VM Exits Conditionally": without bitmaps all do */
	if (on)
		vmx->want.cpu &= ~CPU_BASED_USE_MSR_BITMAPS;
	else
		vmx->want.cpu |= CPU_BASED_USE_MSR_BITMAPS;
}

const struct keel_backend keel_vmx_backend = {
	.name = "Intel VMX",
	.vcpu_size = sizeof(struct vmx_vcpu),
	.table_format = &vmx_table_format,
	.no_nesting = &vmx_no_nesting,
	.hypercall = 0xc1,
	.probe = vmx_probe_and_allocate,
	.exit = vmx_exit,
	.cpu_enable = vmx_cpu_enable,
	.cpu_disable = vmx_cpu_disable,
	.emergency = vmx_emergency,
	.vcpu_create = vmx_vcpu_create,
	.vcpu_destroy = vmx_vcpu_destroy,
	.vcpu_reset = vmx_vcpu_reset,
	.vcpu_load = vmx_vcpu_load,
	.vcpu_put = vmx_vcpu_put,
	.begin = vmx_begin,
	.end = vmx_end,
	.enter = vmx_enter,
	.read_regs = vmx_read_regs,
	.get_shadow = vmx_get_shadow,
	.set_shadow = vmx_set_shadow,
	.nmi_blocked = vmx_nmi_blocked,
	.set_nmi_blocked = vmx_set_nmi_blocked,
	.inject = vmx_inject,
	.cancel_injection = vmx_cancel_injection,
	.irq_window = vmx_irq_window,
	.nmi_window = vmx_nmi_window,
	.intercept_bp = vmx_intercept_bp,
	.flush_tlb = vmx_flush_tlb,
	.set_tsc_offset = vmx_set_tsc_offset,
	.intercept_all_msrs = vmx_intercept_all_msrs,
	.cr_valid = vmx_cr_valid,
	.dump = vmx_dump,
	.hw_reason_name = vmx_hw_reason_name,
};
