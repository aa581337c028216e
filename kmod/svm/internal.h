/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the SVM backend share. APM is AMD's Architecture
 * Programmer's Manual, volume 2, chapter 15.
 */
#ifndef KEEL_SVM_INTERNAL_H
#define KEEL_SVM_INTERNAL_H

#include <linux/irq_work.h>
#include <linux/types.h>
#include <asm/asm.h>
#include <asm/svm.h>

#include "../keel.h"

static_assert(sizeof(struct vmcb_control_area) == 0x400);
static_assert(offsetof(struct vmcb, save) == 0x400);

/* entry.S knows these */
static_assert(offsetof(struct keel_regs, gpr) == 0);
static_assert(KEEL_RCX == 1 && KEEL_RDX == 2 && KEEL_RBX == 3 && KEEL_RBP == 5 &&
	      KEEL_RSI == 6 && KEEL_RDI == 7 && KEEL_R8 == 8 && KEEL_R15 == 15);

/**
 * struct svm_caps - what this machine's SVM can, read once by probe()
 */
struct svm_caps {
	bool nrips;		/* #VMEXIT gives the next RIP */
	bool decode_assists;	/* ... and the operands of MOV CR and DR */
	bool flush_by_asid;
	bool tsc_aux;
	bool la57;		/* the host's, and so NPT's, tables have five levels */
	u32 max_asid;
	u64 host_xss;
};

extern struct svm_caps svm_caps;

/**
 * struct svm_vcpu - the backend's vCPU
 * @asid_gen: generation of the CPU's ASIDs in which @asid was given; 0: none
 * @nmi_masked: an NMI is in service: until IRET
 * @iret_rip: the IRET that ends the service is there and has not retired yet
 * @nmi_step: single-step the next instruction: an NMI can be taken after it
 * @step_flags: the guest's own TF and RF meanwhile
 * @soft_len: RIP is by so much behind the INT n that the entry delivers
 */
struct svm_vcpu {
	struct keel_vcpu vcpu;	/* first */
	struct vmcb *vmcb;
	hpa_t vmcb_pa;
	int last_cpu;
	u32 asid;
	u64 asid_gen;
	bool nmi_masked;
	bool iret_pending;
	u64 iret_rip;
	bool iret_done;		/* ... it retired in this very exit */
	bool nmi_step;
	u64 step_flags;
	u8 soft_len;
	struct irq_work exit_soon;	/* of this CPU, while the vCPU is on it */
	u64 loaded_tsc_aux;	/* in the CPU while the vCPU is loaded */
	bool xsave;		/* from svm_begin() to svm_end(): XCR0 is the guest's, XSS 0 ... */
	u64 host_xcr0;		/* ... and this is the host's XCR0 */
};

static inline struct svm_vcpu *to_svm(struct keel_vcpu *vcpu)
{
	return container_of(vcpu, struct svm_vcpu, vcpu);
}

static inline void svm_intercept(struct vmcb *vmcb, int bit, bool on)
{
	u32 *word = &vmcb->control.intercepts[bit / 32];

	if (on)
		*word |= BIT(bit % 32);
	else
		*word &= ~BIT(bit % 32);
}

/* exit.c */
void svm_decode_exit(struct svm_vcpu *svm);
const char *svm_reason_name(u64 hw_reason);

/* entry.S */
void keel_svm_enter(hpa_t vmcb_pa, u64 *gpr, hpa_t host_vmcb_pa);

#endif /* KEEL_SVM_INTERNAL_H */
