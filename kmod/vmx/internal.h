/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the VMX backend share. SDM is Intel's Software Developer's
 * Manual, volume 3C.
 */
#ifndef KEEL_VMX_INTERNAL_H
#define KEEL_VMX_INTERNAL_H

#include <linux/list.h>
#include <linux/percpu.h>
#include <linux/types.h>
#include <asm/asm.h>
#include <asm/vmx.h>

#include "../keel.h"

/* What the entry stub answers; entry.S knows the numbers. */
#define VMX_ENTERED	0	/* an exit came: VM_EXIT_REASON says which */
#define VMX_FAILED	1	/* VMfail: VM_INSTRUCTION_ERROR says why */
#define VMX_FAULTED	2	/* #UD or #GP: VMX operation is off */

/* SDM "Guest Non-Register State": what ends with the next instruction */
#define VMX_SHADOW	(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)

/**
 * struct vmx_caps - what this machine's VMX can, read once by probe()
 * @pin: pin-based controls of every VMCS, and so on
 */
struct vmx_caps {
	u32 pin, cpu, cpu2, exit, entry;
	u32 revision;
	u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	u64 eptp;		/* all of an EPT pointer but the address */
	bool invvpid_context;	/* INVVPID can flush one VPID */
	bool zero_len_event;	/* software events may have length 0 */
	bool flush_l1d;
	bool tsc_aux;
	u64 host_xcr0;
	u64 host_star, host_lstar, host_cstar, host_fmask;
};

extern struct vmx_caps vmx_caps;
extern struct keel_table_format vmx_table_format;

/* The header of a VMCS or VMXON region. SDM "Format of the VMCS Region". */
struct vmx_region {
	u32 revision;
	u32 abort;
	u8 data[];
};

static_assert(offsetof(struct vmx_region, data) == 8);

/*
 * Bits that the guest changes without an exit: software looks at them rarely,
 * and VMX insists on neither (SDM A.7, A.8).
 */
#define OWN_CR0		((u64)X86_CR0_WP)
#define OWN_CR4		((u64)X86_CR4_PGE)

/* Control fields that change after creation: written only when they do. */
struct vmx_controls {
	u32 cpu;
	u32 entry;
	u32 exceptions;
	u64 tsc_offset;
};

/* MSRs that the entry and the exit switch, at most that many. */
struct vmx_switched {
	struct vmx_msr_entry guest[8], host[8];
};

/* The host's registers that VM exits or the guest's values destroy. */
struct vmx_host {
	u16 fs_sel, gs_sel, ldt_sel, ds_sel, es_sel;
	u64 fs_base;
	u64 kernel_gs_base;
	u64 tsc_aux;
};

/**
 * struct vmx_vcpu - a vCPU and its VMCS
 *
 * All but the first fields are the owner's alone ([O] in keel.h).
 */
struct vmx_vcpu {
	struct keel_vcpu vcpu;			/* first: the front casts */

	/* where the VMCS is active: that CPU's cache may hold parts of it */
	struct list_head node;			/* in that CPU's list; irqs off there */
	int vmcs_cpu;				/* or -1: all in memory */
	struct vmx_region *vmcs;		/* [C] */
	bool launched;				/* VMRESUME, not VMLAUNCH */
	bool set_up;				/* constant fields are written */

	u16 vpid;				/* [C] 0: none */
	u64 eptp;				/* [C] */
	bool flush_tlb;				/* before the next entry */

	struct vmx_controls want, written;
	u64 own_cr4;		/* OWN_CR4, or 0 for a guest whose CPUID has no PGE */

	/* what the VMCS holds of the host, to write only changes */
	unsigned long host_rsp, host_cr3, host_cr4;
	u64 host_fs_base;

	struct vmx_switched *switched;		/* [C] physically contiguous */
	u32 nr_switched;			/* as the VMCS has it */
	bool perf_switched;			/* ... and as perf had it after the last exit */

	/* the event to deliver at the next entry, in the VMCS' format, or 0 */
	u32 event_info, event_error, event_len;

	/* GUEST_INTERRUPTIBILITY_INFO */
	u32 blocking;
	bool blocking_valid, blocking_dirty;

	/* of the last exit */
	u32 reason;
	u32 intr_info;				/* EXIT_REASON_EXCEPTION_NMI only */

	bool guest_loaded;			/* guest's MSRs are in this CPU */
	struct vmx_host host;
	u64 loaded_tsc_aux;
	u64 host_debugctl;	/* from vmx_begin() to vmx_end() */
};

static inline struct vmx_vcpu *to_vmx(struct keel_vcpu *vcpu)
{
	return container_of(vcpu, struct vmx_vcpu, vcpu);
}

/* entry.S */
int keel_vmx_enter(u64 *gpr, unsigned long *host_rsp, bool launched);
extern const char keel_vmx_exit_point[];

/* caps.c */
int vmx_probe(void);
bool vmx_cr_valid(struct keel_vcpu *vcpu, u64 cr0, u64 cr4);

/* vmcs.c */
int vmx_msr_bitmaps_create(void);
void vmx_msr_bitmaps_free(void);
struct vmx_region *vmx_region_alloc(int node);
void vmx_vmcs_set_up(struct vmx_vcpu *vmx);
void vmx_vmcs_new_cpu(struct vmx_vcpu *vmx, int cpu);
void vmx_vmcs_write_regs(struct vmx_vcpu *vmx);
void vmx_read_regs(struct keel_vcpu *vcpu, u32 groups);
void vmx_dump(struct keel_vcpu *vcpu);

/* exit.c */
void vmx_decode_exit(struct vmx_vcpu *vmx);
void vmx_requeue_event(struct vmx_vcpu *vmx, u32 info, u32 error, u32 len);
const char *vmx_hw_reason_name(u64 hw_reason);

/* vmx.c */
void vmx_set_blocking(struct vmx_vcpu *vmx, u32 blocking);
void vmx_insn_failed(const char *insn, unsigned long operand);

/*
 * A VMX instruction. Both kinds of VMfail set CF or ZF. CF is set before, so
 * that a fault, because VMX was switched off as the machine goes down, looks
 * the same. True if it worked.
 */
#define vmx_insn(insn, operands...) ({					\
	bool vmx_failed;						\
									\
	asm volatile("	stc\n"						\
		     "1:	" insn "\n"				\
		     "2:\n"						\
		     _ASM_EXTABLE(1b, 2b)				\
		     : "=@ccbe" (vmx_failed) : operands : "memory");	\
	likely(!vmx_failed);						\
})

static __always_inline unsigned long vmx_read_raw(unsigned long field, bool *ok)
{
	unsigned long value = 0;
	bool failed;

	asm volatile("	stc\n"
		     "1:	vmread %[field], %[value]\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : [value] "+r" (value), "=@ccbe" (failed)
		     : [field] "r" (field));
	*ok = !failed;
	return value;
}

static __always_inline unsigned long vmx_read(unsigned long field)
{
	bool ok;
	unsigned long value = vmx_read_raw(field, &ok);

	if (unlikely(!ok))
		vmx_insn_failed("VMREAD", field);
	return value;
}

static __always_inline void vmx_write(unsigned long field, unsigned long value)
{
	if (!vmx_insn("vmwrite %[value], %[field]",
		      [value] "r" (value), [field] "r" (field)))
		vmx_insn_failed("VMWRITE", field);
}

/* GUEST_INTERRUPTIBILITY_INFO */
static inline u32 vmx_blocking(struct vmx_vcpu *vmx)
{
	if (!vmx->blocking_valid) {
		vmx->blocking = vmx_read(GUEST_INTERRUPTIBILITY_INFO);
		vmx->blocking_valid = true;
	}
	return vmx->blocking;
}

static inline bool vmx_clear(hpa_t pa)
{
	return vmx_insn("vmclear %[pa]", [pa] "m" (pa));
}

static inline bool vmx_load(hpa_t pa)
{
	return vmx_insn("vmptrld %[pa]", [pa] "m" (pa));
}

static inline bool vmx_on(hpa_t pa)
{
	return vmx_insn("vmxon %[pa]", [pa] "m" (pa));
}

/* Off is off: a fault says that it was so already. */
static inline void vmx_off(void)
{
	(void)vmx_insn("vmxoff");
}

/* SDM vol. 3 "Caching Translation Information": EP4TA, which tags translations. */
static inline unsigned long vmx_ept_tag(u64 eptp)
{
	return eptp & PAGE_MASK;
}

/*
 * SDM "INVEPT", "INVVPID": 128-bit descriptors.
 *
 * INVEPT drops, of every VPID, what came through that EPTP, too. The TLB model does not
 * count on that: keel never executes it without INVVPID.
 */
static inline bool vmx_invept(unsigned long type, u64 eptp)
{
	const u64 desc[2] = { eptp, 0 };
	bool ok = vmx_insn("invept %[desc], %[type]",
			   [desc] "m" (desc), [type] "r" (type));

	if (ok && type == VMX_EPT_EXTENT_CONTEXT)
		keel_tlb_model_flushed(KEEL_TLB_SECOND_LEVEL, vmx_ept_tag(eptp));
	else if (ok && type == VMX_EPT_EXTENT_GLOBAL)
		keel_tlb_model_flushed(KEEL_TLB_SECOND_LEVEL, KEEL_TLB_ALL_TAGS);
	return ok;
}

static inline bool vmx_invvpid(unsigned long type, u16 vpid)
{
	const u64 desc[2] = { vpid, 0 };
	bool ok = vmx_insn("invvpid %[desc], %[type]",
			   [desc] "m" (desc), [type] "r" (type));

	if (ok && type == VMX_VPID_EXTENT_SINGLE_CONTEXT)
		keel_tlb_model_flushed(KEEL_TLB_LINEAR, vpid);
	else if (ok && type == VMX_VPID_EXTENT_ALL_CONTEXT)
		keel_tlb_model_flushed(KEEL_TLB_LINEAR, KEEL_TLB_ALL_TAGS);
	return ok;
}

#endif /* KEEL_VMX_INTERNAL_H */
