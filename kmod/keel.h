/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two objects everything else hangs on, a VM and a vCPU, and what their
 * rooms offer to each other.
 *
 * Each field says who may touch it:
 *   [C]  set at creation, constant afterwards
 *   [O]  owner thread only: whoever holds vcpu->mutex
 *   [V]  under vm->lock
 *   [S]  written under vm->slots_lock, read under vm->srcu
 *   [M]  under vm->mmu.lock
 *   [A]  atomic, from any context
 */
#ifndef KEEL_H
#define KEEL_H

#include <linux/kvm.h>
#include <linux/kvm_types.h>
#include <linux/kref.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "compat.h"
#include "backend.h"
#include "cpu/cpu.h"
#include "insn/insn.h"
#include "mmu/mmu.h"
#include "stats.h"

#define KEEL_MAX_VCPUS		1024
#define KEEL_MAX_VCPU_ID	4096
#define KEEL_MAX_MEMSLOTS	32764
#define KEEL_MAX_VMS		4096

#undef pr_fmt
#define pr_fmt(fmt) "keel: " fmt

struct keel_bus;
struct keel_ioapic;
struct keel_irq;
struct keel_irq_routing;
struct keel_lapic;
struct keel_msr_filter;
struct keel_pic;
struct keel_pit;

/* Buses on which in-kernel devices and ioeventfds sit. */
enum keel_bus_id {
	KEEL_BUS_PIO,
	KEEL_BUS_MMIO,
	KEEL_NR_BUSES,
};

enum keel_irqchip_mode {
	KEEL_IRQCHIP_NONE,	/* userspace has all interrupt controllers */
	KEEL_IRQCHIP_KERNEL,	/* LAPIC, IOAPIC, PIC (and PIT) here */
	KEEL_IRQCHIP_SPLIT,	/* LAPIC here, the rest in userspace */
};

/**
 * struct keel_vm - one virtual machine
 *
 * Referenced by its file and by those of its vCPUs and statistics. Freed when
 * the last reference goes.
 */
struct keel_vm {
	struct mm_struct *mm;			/* [C] the creator's; mmgrab()ed */
	struct kref refs;			/* [A] */
	struct mutex lock;			/* outermost, see docs/locking.md */
	bool dead;				/* [A] set once: every call answers EIO */
	char name[32];				/* [C] "pid-serial" for the log and debugfs */

	/* memory */
	struct mutex slots_lock;
	struct srcu_struct srcu;		/* readers of slots and buses */
	struct keel_slots __rcu *slots;		/* [S] by gfn */
	struct xarray slots_by_id;		/* slots_lock */
	struct keel_mmu mmu;
	struct mmu_notifier notifier;		/* [C] */

	/* vCPUs, by id, which is the initial APIC ID */
	struct xarray vcpus;			/* written under lock, read under RCU */
	int nr_vcpus;				/* [V] */
	u32 bsp_id;				/* [V] until the first vCPU exists */

	/* interrupt controllers and devices */
	enum keel_irqchip_mode irqchip;		/* [V], constant once a vCPU exists */
	u8 nr_userspace_ioapic_pins;		/* [V] split mode: GSIs below are the IOAPIC's */
	bool x2apic_32bit_ids;			/* [V] KVM_CAP_X2APIC_API */
	bool x2apic_no_broadcast_quirk;		/* [V] KVM_CAP_X2APIC_API */
	struct keel_irq *irq;			/* [C] irq/: what its chips share */
	struct keel_pic *pic;			/* [C] after KVM_CREATE_IRQCHIP */
	struct keel_ioapic *ioapic;		/* [C] after KVM_CREATE_IRQCHIP */
	struct keel_pit *pit;			/* [C] after KVM_CREATE_PIT2 */
	struct mutex irq_lock;			/* writers of routing and irqfds */
	struct keel_irq_routing __rcu *routing;	/* irq_lock; read under irq_srcu */
	struct srcu_struct irq_srcu;		/* readers of routing, ack notifiers */
	struct hlist_head irq_ack_notifiers;	/* irq_lock; read under irq_srcu */
	struct list_head irqfds;		/* irqfds_lock */
	spinlock_t irqfds_lock;
	struct list_head ioeventfds;		/* slots_lock */
	struct keel_bus __rcu *bus[KEEL_NR_BUSES]; /* slots_lock; read under srcu */
	struct kvm_coalesced_mmio_ring *coalesced_ring; /* [C] page shared by all vCPUs */
	spinlock_t ring_lock;
	struct list_head coalesced_zones;	/* slots_lock */

	/* time */
	struct keel_vm_clock clock;

	/* options set through KVM_ENABLE_CAP, constant once a vCPU exists */
	bool exception_payload;			/* [V] */
	bool triple_fault_event;		/* [V] */
	u32 max_vcpu_id;			/* [V] 0: not limited by userspace */
	u64 apic_bus_cycle_ns;			/* [V] 0: one */
	u32 dirty_ring_entries;			/* [V] of each vCPU; 0: bitmaps of the slots */

	/* ... and those that may change at any time */
	u64 disabled_quirks;			/* [A] KVM_CAP_DISABLE_QUIRKS2 */
	bool hide_platform_info;		/* [A] KVM_CAP_MSR_PLATFORM_INFO */
	bool exit_on_emulation_failure;		/* [A] KVM_CAP_ of that name */
	u32 user_msr_reasons;			/* [A] KVM_CAP_X86_USER_SPACE_MSR */
	struct keel_msr_filter __rcu *msr_filter; /* lock; read under srcu */
	u32 disabled_exits;			/* [A] KVM_X86_DISABLE_EXITS_, of vCPUs to come */

	struct keel_vm_stats stats;		/* [A] */
	struct dentry *debugfs;			/* [C] stats.c's */
	void *hw;				/* [C] backend's */
};

/* vcpu->mode: where the vCPU thread is, for those who want its attention. */
enum keel_vcpu_mode {
	KEEL_OUTSIDE_GUEST,
	KEEL_IN_GUEST,		/* between the last check of requests and the exit */
};

/* vcpu->requests: what to do before the next entry. Bit numbers. */
enum keel_request {
	KEEL_REQ_EVENT,		/* interrupts or NMIs may have become deliverable */
	KEEL_REQ_TLB_FLUSH,	/* guest-linear translations of this vCPU are stale */
	KEEL_REQ_CLOCK,		/* rewrite the guest's pvclock page */
	KEEL_REQ_STEAL,		/* tell the guest of stolen time, and that it runs again */
	KEEL_REQ_ASYNC_PF,	/* tell the guest of pages that have come */
	KEEL_REQ_MSR_FILTER,	/* the VM's MSR filter came, changed or went */
	KEEL_REQ_TRIPLE_FAULT,	/* give KVM_EXIT_SHUTDOWN */
	KEEL_REQ_IOAPIC_EOI,	/* give KVM_EXIT_IOAPIC_EOI for vcpu->eoi_vector */
	KEEL_REQ_DEBUG,		/* give KVM_EXIT_DEBUG with vcpu->debug.exit */
};

/*
 * One access of an emulated instruction that userspace has to make. Reads are
 * kept until the instruction retires, since it is executed again from its
 * start when their data has come; writes are handed out after it retired.
 */
struct keel_io_frag {
	gpa_t addr;		/* or port */
	u8 len;			/* 1..8 */
	bool pio;
	u8 data[8];
};

#define KEEL_MAX_FRAGS	8

enum keel_io_pending {
	KEEL_IO_NONE,
	KEEL_IO_PORT_IN,	/* plain IN: take the data, advance RIP */
	KEEL_IO_PORT_OUT,	/* plain OUT: advance RIP */
	KEEL_IO_EMULATE,	/* fragments of an emulated instruction */
	KEEL_IO_RDMSR,		/* take the value, advance RIP; or #GP */
	KEEL_IO_WRMSR,		/* advance RIP; or #GP */
};

struct keel_io {
	enum keel_io_pending pending;
	u8 size;		/* of a plain IN or OUT */
	u64 rip;		/* of the instruction; if it moved, do not complete */
	/* KEEL_IO_EMULATE */
	bool waiting_read;	/* reads[nr_reads] is at userspace; not retired */
	struct insn_mov mov;	/* with a size: ... it is what this one loads */
	u8 nr_reads;
	u8 nr_writes;		/* of which the first nr_committed have happened */
	u8 nr_committed;
	u8 next_write;		/* writes[next_write] is at userspace */
	u16 ahead;		/* further elements for a REP INS, from userspace ... */
	u16 ahead_at;		/* ... in the port data page, from here on */
	bool fetched;		/* insn is what is at RIP: a replay executes the same */
	struct insn insn;
	struct keel_io_frag reads[KEEL_MAX_FRAGS];
	struct keel_io_frag writes[KEEL_MAX_FRAGS];
};

/* What the instruction that is stepped does with TF. */
enum keel_step_kind {
	KEEL_STEP_PLAIN,
	KEEL_STEP_PUSHF,	/* leaves it in the guest's memory */
	KEEL_STEP_LOADS_TF,	/* POPF, IRET: what it leaves is the guest's */
};

/* KVM_SET_GUEST_DEBUG, and a single step under way. */
struct keel_debug {
	u32 control;		/* KVM_GUESTDBG_, or 0 */
	u64 dr[4], dr7;		/* KVM_GUESTDBG_USE_HW_BP: in place of the guest's */
	bool stepping;		/* TF is ours */
	bool in_handler;	/* ... and on the stack of an interrupt handler */
	bool reported;		/* this KVM_RUN has given KVM_EXIT_DEBUG */
	enum keel_step_kind kind;
	u64 guest_tf;		/* the guest's own, meanwhile */
	u64 step_rip;		/* linear */
	struct kvm_debug_exit_arch exit;	/* for KEEL_REQ_DEBUG */
};

/**
 * struct keel_vcpu - one virtual CPU
 *
 * The backend's own structure begins with this one.
 */
struct keel_vcpu {
	struct keel_vm *vm;			/* [C] */
	u32 id;					/* [C] initial APIC ID */
	struct mutex mutex;			/* held by every vCPU ioctl */

	/* what other contexts look at */
	int mode;				/* [A] enum keel_vcpu_mode */
	int cpu;				/* [A] loaded there, or -1 */
	bool preempted;				/* [A] the thread waits for a CPU */
	unsigned long requests;			/* [A] bits of enum keel_request */
	struct task_struct __rcu *task;		/* the thread inside KVM_RUN */
	struct rcuwait wait;			/* [A] HLT and wait-for-SIPI sleep here */

	/* what the guest sees: registers, events, features */
	struct keel_regs regs;			/* [O] */
	struct keel_events events;		/* [O] */
	struct keel_debug debug;		/* [O] */
	struct keel_cpuid cpuid;		/* [O] */
	struct keel_msrs msrs;			/* [O] */
	struct keel_fpu fpu;			/* [O] */
	struct keel_vcpu_clock clock;		/* [O] */
	struct keel_pv pv;			/* [O] */
	struct keel_async_pf async_pf;		/* see there */
	u32 mp_state;				/* [O] KVM_MP_STATE_ */
	bool launched;				/* [O] KVM_RUN has entered the guest once */
	bool hw_ready;				/* [C] the backend's part exists */
	bool flush_l1d;				/* [O] L1D may hold what the guest must not see */
	u32 disabled_exits;			/* [C] KVM_X86_DISABLE_EXITS_ */

	/* the interrupt controller; nmi_queued is the only way in for NMIs */
	struct keel_lapic *lapic;		/* [C] or NULL without in-kernel chip */
	atomic_t nmi_queued;			/* [A] moved to events at entry */
	u8 eoi_vector;				/* [O] for KEEL_REQ_IOAPIC_EOI */

	/* the run page and what KVM_RUN left half done */
	struct kvm_run *run;			/* [C] shared with userspace: hostile */
	void *pio_page;				/* [C] shared with userspace: hostile */
	struct keel_io io;			/* [O] */
	int bus_at[KEEL_NR_BUSES];		/* [O] where the last access was, in its array */
	struct keel_exit exit;			/* [O] the last exit, decoded */
	sigset_t sigset;			/* [O] KVM_SET_SIGNAL_MASK */
	bool sigset_active;			/* [O] */

	/* memory */
	u64 tlb_gen;				/* [O] vm->mmu.tlb_gen at the last flush */
	struct keel_tlb_vcpu tlb_model;
	struct keel_table_cache table_cache;	/* [O] */
	struct keel_fetch fetches[2];		/* [O] by the page's address */
	struct keel_dirty_ring dirty_ring;	/* see there */

	struct preempt_notifier preempt;	/* [O] */
	struct keel_vcpu_stats stats;		/* [O] */
};

/*
 * What an exit handler, and every step of the run loop, answers: a negative
 * errno fails KVM_RUN.
 */
#define KEEL_TO_USER	0	/* vcpu->run is filled: leave KVM_RUN with 0 */
#define KEEL_RESUME	1	/* enter the guest again */

/* main.c */
extern bool keel_rebooting;	/* enter no guest any more */
extern const struct keel_backend *keel_backend;

/**
 * keel_hardware_get() - switch the extension on, on every CPU
 *
 * Context: process, may sleep.
 * Return: 0, or -EBUSY when a CPU refused, since another hypervisor owns it or
 * the machine is going down (logged).
 */
int keel_hardware_get(void);
void keel_hardware_put(void);
DECLARE_PER_CPU(bool, keel_cpu_on);

/* On this CPU; preemption off. */
static inline bool keel_hardware_on(void)
{
	return __this_cpu_read(keel_cpu_on);
}

/* vm.c */
int keel_vm_create(unsigned long type);
void keel_vm_get(struct keel_vm *vm);
void keel_vm_put(struct keel_vm *vm);
/**
 * keel_vm_kill() - mark a VM that cannot go on
 *
 * Every later ioctl on it and its vCPUs answers EIO. From any context.
 */
void keel_vm_kill(struct keel_vm *vm, const char *why);

/* vcpu.c */
int keel_vcpu_create(struct keel_vm *vm, unsigned long id);
struct vm_area_struct;
int keel_vcpu_mmap(struct file *file, struct vm_area_struct *vma);
int keel_vcpu_release(struct inode *inode, struct file *file);
void keel_vcpu_free(struct keel_vcpu *vcpu);
void keel_vcpu_reset(struct keel_vcpu *vcpu, bool init);
/* vcpu_load/put: bind the vCPU to this CPU so that its state can be read. */
void keel_vcpu_load(struct keel_vcpu *vcpu);
void keel_vcpu_put(struct keel_vcpu *vcpu);
/**
 * keel_vcpu_kick() - make a vCPU notice its requests
 *
 * Wakes it if it sleeps in HLT, makes it exit if it is in the guest. Set the
 * request first. From any context, interrupts on or off.
 */
void keel_vcpu_kick(struct keel_vcpu *vcpu);

/**
 * keel_vcpu_by_id() - find a vCPU by its id (initial APIC ID)
 *
 * Context: any. vCPUs live as long as their VM, so the pointer stays good
 * while the caller holds a reference to the VM.
 * Return: the vCPU or NULL.
 */
static inline struct keel_vcpu *keel_vcpu_by_id(struct keel_vm *vm, u32 id)
{
	return xa_load(&vm->vcpus, id);
}

#define keel_for_each_vcpu(vm, id, vcpu)	\
	xa_for_each(&(vm)->vcpus, id, vcpu)

/* The breakpoints that the guest runs with: its own, or a debugger's. */
static inline const u64 *keel_live_dr(const struct keel_vcpu *vcpu)
{
	return unlikely(vcpu->debug.control & KVM_GUESTDBG_USE_HW_BP) ?
	       vcpu->debug.dr : vcpu->regs.dr;
}

static inline u64 keel_live_dr7(const struct keel_vcpu *vcpu)
{
	return unlikely(vcpu->debug.control & KVM_GUESTDBG_USE_HW_BP) ?
	       vcpu->debug.dr7 : vcpu->regs.dr7;
}

/*
 * Habits of KVM that clients can do without (KVM_CAP_DISABLE_QUIRKS2), those that
 * keel has: memory is write-back whatever CR0.CD says.
 */
#define KEEL_QUIRKS	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE | \
			 KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | \
			 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS | KVM_X86_QUIRK_FIX_HYPERCALL_INSN)

static inline bool keel_quirk_disabled(const struct keel_vm *vm, u64 quirk)
{
	return READ_ONCE(vm->disabled_quirks) & quirk;
}

static inline void keel_request(struct keel_vcpu *vcpu, enum keel_request req)
{
	/* Pairs with the barrier in the run loop: publish the cause first. */
	smp_mb__before_atomic();
	set_bit(req, &vcpu->requests);
}

static inline bool keel_take_request(struct keel_vcpu *vcpu, enum keel_request req)
{
	if (!test_bit(req, &vcpu->requests))
		return false;
	clear_bit(req, &vcpu->requests);
	/* Pairs with keel_request(). */
	smp_mb__after_atomic();
	return true;
}

/* run.c */
int keel_vcpu_run(struct keel_vcpu *vcpu);
/* What is cached of the guest's linear addresses is wrong: flush before the next entry. */
void keel_flush_linear(struct keel_vcpu *vcpu);

/* exit.c */
bool keel_exit_is_atomic(struct keel_vcpu *vcpu);
int keel_handle_exit(struct keel_vcpu *vcpu);
int keel_skip_instruction(struct keel_vcpu *vcpu);
int keel_internal_error(struct keel_vcpu *vcpu, u32 suberror);
int keel_complete_msr(struct keel_vcpu *vcpu, bool read);

/* debug.c */
bool keel_debug_take_db(struct keel_vcpu *vcpu, u64 dr6);
bool keel_debug_take_bp(struct keel_vcpu *vcpu);
int keel_debug_exit(struct keel_vcpu *vcpu);
void keel_debug_begin_run(struct keel_vcpu *vcpu);
void keel_debug_end_run(struct keel_vcpu *vcpu);
void keel_debug_update(struct keel_vcpu *vcpu);
int keel_ioctl_set_guest_debug(struct keel_vcpu *vcpu, const struct kvm_guest_debug *dbg);

/* io.c: port and memory-mapped I/O, and the emulator's hands */
int keel_emulate(struct keel_vcpu *vcpu);
int keel_port_io(struct keel_vcpu *vcpu);
int keel_complete_io(struct keel_vcpu *vcpu);
/*
 * Fetch and decode what RIP points to. Return: its length; 0 when that cannot be
 * known; -EAGAIN when the guest itself would fault.
 */
int keel_insn_length(struct keel_vcpu *vcpu, struct insn *insn);

/* ioctl.c, vm.c, vcpu-ioctl.c */
struct file_operations;
extern const struct file_operations keel_vm_fops;
extern const struct file_operations keel_vcpu_fops;
int keel_check_extension(struct keel_vm *vm, long cap);
u32 keel_exits_to_disable(void);

#endif /* KEEL_H */
