/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The line between the front, which knows no vendor, and the two backends.
 *
 * A backend decodes each exit into one struct keel_exit; everything above
 * reads that record alone.
 */
#ifndef KEEL_BACKEND_H
#define KEEL_BACKEND_H

#include <linux/kvm_types.h>
#include <linux/types.h>

struct keel_vcpu;
struct keel_vm;
struct insn;
struct kvm_nested_state;

/* Reasons for an exit, in the field's terms. Names for traces: exit.c. */
enum keel_exit_reason {
	KEEL_EXIT_NONE,			/* entry was called off: look at requests */
	KEEL_EXIT_FAIL_ENTRY,		/* the CPU refused the state; hw_reason */
	KEEL_EXIT_INTERRUPT,		/* host's; taken when interrupts go on */
	KEEL_EXIT_NMI,			/* host's; the backend has delivered it */
	KEEL_EXIT_IRQ_WINDOW,		/* guest can take an interrupt now */
	KEEL_EXIT_NMI_WINDOW,		/* guest can take an NMI now */
	KEEL_EXIT_EXCEPTION,		/* .exception */
	KEEL_EXIT_PAGE_FAULT,		/* EPT violation or NPF: .fault */
	KEEL_EXIT_IO,			/* .io */
	KEEL_EXIT_CPUID,
	KEEL_EXIT_HLT,
	KEEL_EXIT_RDMSR,
	KEEL_EXIT_WRMSR,
	KEEL_EXIT_HYPERCALL,
	KEEL_EXIT_CR,			/* .cr */
	KEEL_EXIT_DR,			/* .dr */
	KEEL_EXIT_XSETBV,
	KEEL_EXIT_RDPMC,
	KEEL_EXIT_WBINVD,		/* also INVD: treated as WBINVD */
	KEEL_EXIT_PAUSE,
	KEEL_EXIT_MWAIT,
	KEEL_EXIT_MONITOR,
	KEEL_EXIT_INVALID_OPCODE,	/* an instruction not for guests: #UD */
	KEEL_EXIT_TASK_SWITCH,
	KEEL_EXIT_TRIPLE_FAULT,
	KEEL_EXIT_MACHINE_CHECK,	/* host's; the backend has delivered it */
	KEEL_EXIT_SOFT_INTERRUPT,	/* INT n, INT3, INTO: deliver it in software */
	KEEL_EXIT_EMULATE,		/* execute the instruction in software */
	KEEL_EXIT_UNKNOWN,		/* hw_reason has what the CPU said */
	KEEL_NR_EXITS,
};

/**
 * struct keel_exit - one exit, decoded
 * @reason: enum keel_exit_reason
 * @insn_len: length of the instruction that exited, 0 when the CPU gave none
 * @hw_reason: the hardware's own number, for traces and KVM_EXIT_UNKNOWN
 *
 * Only the member of the union that @reason names is filled.
 */
struct keel_exit {
	u32 reason;
	u8 insn_len;
	bool shadow;	/* there may be an interrupt shadow, to be ended */
	u64 hw_reason;
	union {
		struct {
			gpa_t gpa;
			bool write, exec, present;
			bool table;	/* while walking the guest's page tables */
		} fault;
		struct {
			u16 port;
			u8 size;	/* 1, 2 or 4 */
			bool in, string, rep;
		} io;
		struct {
			u8 vector;
			bool has_error;
			u32 error;
			u64 payload;	/* #PF: CR2; #DB: DR6 bits that became set */
		} exception;
		struct {
			u8 cr;		/* 0, 3, 4, 8 */
			u8 op;		/* enum keel_cr_op */
			u8 gpr;		/* operand of a MOV */
			u16 msw;	/* LMSW's value */
		} cr;
		struct {
			u8 dr, gpr;
			bool write;
		} dr;
	};
};

enum keel_cr_op { KEEL_CR_WRITE, KEEL_CR_READ, KEEL_CR_CLTS, KEEL_CR_LMSW };

/* Groups of registers that live in the hardware structure while it owns them. */
#define KEEL_RIP	BIT(0)
#define KEEL_RSP	BIT(1)
#define KEEL_RFLAGS	BIT(2)
#define KEEL_CR3	BIT(3)
#define KEEL_CS_SS	BIT(4)	/* of the segment registers: the mode, the CPL and the code */
#define KEEL_TABLES	BIT(5)	/* GDTR, IDTR */
#define KEEL_PDPTRS	BIT(6)	/* PAE page directory pointers (VMX keeps them) */
#define KEEL_CRS	BIT(7)	/* CR0, CR4, EFER: only CR0.WP and CR4.PGE can be the guest's own */
#define KEEL_DRS	BIT(8)	/* DR7, and DR0-3 when it has breakpoints on: keel_live_dr7() */
#define KEEL_SYSCALL	BIT(9)	/* STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, SYSENTER_ */
#define KEEL_OTHER_SEGS	BIT(10)	/* the other six */
#define KEEL_SEGS	(KEEL_CS_SS | KEEL_OTHER_SEGS)
#define KEEL_ALL_GROUPS	GENMASK(10, 0)
/* CS.L and the CPL, while nobody needs the whole of CS and SS. Read only, never dirty. */
#define KEEL_MODE	BIT(11)

/* Interrupt shadow, as KVM_X86_SHADOW_INT_ and the hardware have it. */
#define KEEL_SHADOW_MOV_SS	BIT(0)
#define KEEL_SHADOW_STI		BIT(1)

/* What is delivered to the guest at the next entry. */
enum keel_event_type {
	KEEL_EVENT_NONE,
	KEEL_EVENT_INTERRUPT,
	KEEL_EVENT_NMI,
	KEEL_EVENT_EXCEPTION,
	KEEL_EVENT_SOFT_INTERRUPT,	/* INT n */
	KEEL_EVENT_SOFT_EXCEPTION,	/* INT3, INTO */
	KEEL_EVENT_PRIV_SOFT_EXCEPTION,	/* INT1 */
};

struct keel_event {
	u8 type;
	u8 vector;
	u8 insn_len;		/* of a software event's instruction */
	bool has_error;
	u32 error;
};

/**
 * struct keel_backend - what VMX and SVM each provide
 *
 * Unless said otherwise a vCPU operation is called with the vCPU loaded on
 * this CPU (preemption may be on: the preempt notifier re-loads it) and
 * vcpu->mutex held.
 */
struct keel_backend {
	const char *name;		/* for people: "AMD SVM" */
	size_t vcpu_size;		/* of the structure that begins with keel_vcpu */
	const struct keel_table_format *table_format;	/* EPT or NPT */
	/* KVM_GET_NESTED_STATE's answer for a guest that has no such extension */
	const struct kvm_nested_state *no_nesting;
	u8 hypercall;	/* last byte of this CPU's: 0F 01 C1 (VMCALL) or D9 (VMMCALL) */

	/**
	 * @probe: is this CPU's extension usable?
	 *
	 * Logs one line that says what is wrong and what to
	 * do when it is not.
	 * Return: 0, -ENXIO (not this vendor: says nothing), -ENODEV (lacks what
	 * keel needs, or locked off),
	 * -EBUSY (in another hypervisor's possession).
	 */
	int (*probe)(void);
	void (*exit)(void);	/* undo @probe's allocations; may be NULL */
	int (*cpu_enable)(void);	/* on the CPU, interrupts off */
	void (*cpu_disable)(void);	/* on the CPU, interrupts off */
	void (*emergency)(void);	/* crash: on the CPU, NMI context */

	int (*vm_create)(struct keel_vm *vm);
	void (*vm_destroy)(struct keel_vm *vm);
	int (*vcpu_create)(struct keel_vcpu *vcpu);
	void (*vcpu_destroy)(struct keel_vcpu *vcpu);
	void (*vcpu_reset)(struct keel_vcpu *vcpu, bool init);

	/* interrupts may be on, preemption is off */
	void (*vcpu_load)(struct keel_vcpu *vcpu, int cpu);
	void (*vcpu_put)(struct keel_vcpu *vcpu);

	/**
	 * @begin: switch to the guest what only interrupts, or what leaves the
	 * run loop, can change
	 *
	 * Interrupts are off until @end, which switches back. Between them come
	 * one or more of @enter, and the handling of exits.
	 */
	void (*begin)(struct keel_vcpu *vcpu);
	void (*end)(struct keel_vcpu *vcpu);

	/**
	 * @enter: run the guest until its next exit
	 *
	 * Interrupts are off and stay off. Writes the groups that
	 * vcpu->regs.dirty names, makes TLB and event injection effective,
	 * enters, and fills vcpu->exit.reason, insn_len and what the reason
	 * needs. An event whose delivery the exit cut short is put back into
	 * vcpu->events (keel_event_requeue()). regs.valid is left with the
	 * groups that were read.
	 */
	void (*enter)(struct keel_vcpu *vcpu);

	/* read @groups into vcpu->regs, and set them in regs.valid */
	void (*read_regs)(struct keel_vcpu *vcpu, u32 groups);

	u32 (*get_shadow)(struct keel_vcpu *vcpu);	/* KEEL_SHADOW_ */
	void (*set_shadow)(struct keel_vcpu *vcpu, u32 shadow);
	bool (*nmi_blocked)(struct keel_vcpu *vcpu);
	void (*set_nmi_blocked)(struct keel_vcpu *vcpu, bool blocked);
	void (*inject)(struct keel_vcpu *vcpu, const struct keel_event *event);
	void (*cancel_injection)(struct keel_vcpu *vcpu);
	void (*irq_window)(struct keel_vcpu *vcpu, bool on);
	void (*nmi_window)(struct keel_vcpu *vcpu, bool on);
	/* INT3 exits, as KEEL_EXIT_EXCEPTION or _SOFT_INTERRUPT with RIP on it */
	void (*intercept_bp)(struct keel_vcpu *vcpu, bool on);

	/*
	 * forget all translations of this vCPU (guest-linear and
	 * guest-physical) at the next entry
	 */
	void (*flush_tlb)(struct keel_vcpu *vcpu);
	/* guest TSC = host TSC + offset */
	void (*set_tsc_offset)(struct keel_vcpu *vcpu, u64 offset);
	/* shall every RDMSR and WRMSR exit, also those that need not? */
	void (*intercept_all_msrs)(struct keel_vcpu *vcpu, bool on);
	/* is this CR0/CR4 one the CPU accepts in guest mode? */
	bool (*cr_valid)(struct keel_vcpu *vcpu, u64 cr0, u64 cr4);
	/* one line or a few of the hardware state, rate limited by the caller */
	void (*dump)(struct keel_vcpu *vcpu);
	/* "vmx: EPT violation" and the like; NULL when unknown */
	const char *(*hw_reason_name)(u64 hw_reason);
};

extern const struct keel_backend keel_vmx_backend;
extern const struct keel_backend keel_svm_backend;

#endif /* KEEL_BACKEND_H */
