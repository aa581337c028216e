/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels keel builds on, and nowhere else. Chosen by
 * feature where a feature can be tested for, by version otherwise.
 */
#ifndef KEEL_COMPAT_H
#define KEEL_COMPAT_H

#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/syscore_ops.h>
#include <linux/version.h>

/* 6.8 dropped eventfd_signal()'s count. */
static inline void keel_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

/* 6.10 takes the source of a trace event's string from its __string(). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define keel_assign_str(dst, src)	__assign_str(dst, src)
#else
#define keel_assign_str(dst, src)	__assign_str(dst)
#endif

/*
 * The hotplug state that exists for a hypervisor module; a second one gets
 * -EBUSY. 6.5 moved it from the section with interrupts off to the one after.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define KEEL_CPUHP_STATE	CPUHP_AP_KVM_STARTING
#else
#define KEEL_CPUHP_STATE	CPUHP_AP_KVM_ONLINE
#endif

/*
 * Some 6.12 stable releases give the syscore callbacks an argument
 * and split the structure (Kbuild looks for register_syscore()).
 */
#ifdef KEEL_HAVE_REGISTER_SYSCORE
#define KEEL_SYSCORE(name, suspend_fn, resume_fn)			\
	int name##_suspend(void *data) { return suspend_fn(); }		\
	static void name##_resume(void *data) { resume_fn(); }		\
	static const struct syscore_ops name##_ops = {			\
		.suspend = name##_suspend, .resume = name##_resume,	\
	};								\
	static struct syscore name = { .ops = &name##_ops }
#define keel_syscore_register	register_syscore
#define keel_syscore_unregister	unregister_syscore
#else
#define KEEL_SYSCORE(name, suspend_fn, resume_fn)			\
	struct syscore_ops name = {					\
		.suspend = suspend_fn, .resume = resume_fn,		\
	}
#define keel_syscore_register	register_syscore_ops
#define keel_syscore_unregister	unregister_syscore_ops
#endif

/* 6.7 dropped the CPU number. */
static __always_inline void keel_rcu_note_guest(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	rcu_virt_note_context_switch(smp_processor_id());
#else
	rcu_virt_note_context_switch();
#endif
}

/* Of a task on its way out. 6.12 leaves some that sleep on their run queue for a while. */
static inline bool keel_task_is_runnable(struct task_struct *task)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return task->on_rq;
#else
	return task_is_runnable(task);
#endif
}

/* How long the current task has waited for a CPU, ns; 0 where the kernel does not count it. */
static inline u64 keel_run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}

/* 6.15 replaced hrtimer_init(). */
static inline void keel_hrtimer_setup(struct hrtimer *timer,
				      enum hrtimer_restart (*fn)(struct hrtimer *),
				      enum hrtimer_mode mode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
	hrtimer_init(timer, CLOCK_MONOTONIC, mode);
	timer->function = fn;
#else
	hrtimer_setup(timer, fn, CLOCK_MONOTONIC, mode);
#endif
}

/* 6.3 lets signals end the wait for a page (userfaultfd). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define KEEL_FOLL_INTERRUPTIBLE	0
#else
#define KEEL_FOLL_INTERRUPTIBLE	FOLL_INTERRUPTIBLE
#endif

/* 6.6 makes the fault that balances NUMA nodes something to ask for. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define KEEL_FOLL_HONOR_NUMA_FAULT	0
#else
#define KEEL_FOLL_HONOR_NUMA_FAULT	FOLL_HONOR_NUMA_FAULT
#endif

/* 6.5 dropped the array of areas. Nothing is kept: the page is made present, that is all. */
static inline void keel_get_user_pages_remote(struct mm_struct *mm, unsigned long start,
					      unsigned int flags, int *locked)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	get_user_pages_remote(mm, start, 1, flags, NULL, NULL, locked);
#else
	get_user_pages_remote(mm, start, 1, flags, NULL, locked);
#endif
}

/* 6.8's: the call of before, and a part for guest_memfd, which keel has not. */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_CAP_USER_MEMORY2	231
struct kvm_userspace_memory_region2 {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 pad1;
	__u64 pad2[14];
};

#define KVM_SET_USER_MEMORY_REGION2	\
	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif

/* 6.11's */
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS	237
#endif

/* 6.11's */
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY	236
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};

#define KVM_PRE_FAULT_MEMORY	_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

/* 6.10 marks fields of the run page that must be read once and checked. */
#ifdef HINT_UNSAFE_IN_KVM
#define KEEL_RUN_FIELD(name)	HINT_UNSAFE_IN_KVM(name)
#else
#define KEEL_RUN_FIELD(name)	name
#endif

#endif /* KEEL_COMPAT_H */
