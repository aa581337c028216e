/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counters. One line here declares a counter; stats.c makes of the same lists
 * what KVM_GET_STATS_FD describes and what debugfs prints.
 */
#ifndef KEEL_STATS_H
#define KEEL_STATS_H

#include <linux/types.h>

/*
 * COUNT only grows, and is counted by whoever does it, atomically only as far as
 * u64 stores are. NOW is how many there are now; changed by atomic operations.
 * No name is in both lists: libvirt keeps them in one table.
 */
#define KEEL_VM_STATS(COUNT, NOW)	\
	NOW(tables)			\
	NOW(pages_4k)			\
	NOW(pages_2m)			\
	NOW(pages_1g)			\
	COUNT(remote_tlb_flushes)	\
	COUNT(slot_updates)		\
	COUNT(invalidations)

#define KEEL_VCPU_STATS(X)		\
	X(exits)			\
	X(entry_called_off)		\
	X(interrupt_exits)		\
	X(nmi_exits)			\
	X(irq_window_exits)		\
	X(nmi_window_exits)		\
	X(exception_exits)		\
	X(page_fault_exits)		\
	X(io_exits)			\
	X(cpuid_exits)			\
	X(halt_exits)			\
	X(rdmsr_exits)			\
	X(wrmsr_exits)			\
	X(hypercall_exits)		\
	X(cr_exits)			\
	X(other_exits)			\
	X(mmio_exits)			\
	X(user_exits)			\
	X(signal_exits)			\
	X(irq_injections)		\
	X(nmi_injections)		\
	X(exception_injections)		\
	X(reinjections)			\
	X(pages_mapped)			\
	X(insns_emulated)		\
	X(halt_wakeups)			\
	X(yields)			\
	X(pv_eois)			\
	X(async_pf_not_present)		\
	X(async_pf_ready)		\
	X(tlb_flushes)

#define KEEL_DECLARE_STAT(name)	u64 name;

struct keel_vm_stats {
	KEEL_VM_STATS(KEEL_DECLARE_STAT, KEEL_DECLARE_STAT)
};

struct keel_vcpu_stats {
	KEEL_VCPU_STATS(KEEL_DECLARE_STAT)
};

struct keel_vm;
struct keel_vcpu;

int keel_vm_stats_fd(struct keel_vm *vm);
int keel_vcpu_stats_fd(struct keel_vcpu *vcpu);

/* /sys/kernel/debug/keel: main.c makes and removes it */
void keel_debugfs_init(void);
void keel_debugfs_exit(void);
/* /sys/kernel/debug/keel/NAME: vm.c, when vm->name is set, and before it is freed */
void keel_vm_debugfs_create(struct keel_vm *vm);
void keel_vm_debugfs_destroy(struct keel_vm *vm);

#endif /* KEEL_STATS_H */
