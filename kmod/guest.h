/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Telling the kernel that this CPU leaves for a guest and comes back: time
 * accounting, RCU (a guest is a quiescent state), lockdep and the tracing of
 * interrupts (a guest runs with the host's interrupts on).
 */
#ifndef KEEL_GUEST_H
#define KEEL_GUEST_H

#include <linux/context_tracking.h>
#include <linux/ftrace.h>
#include <linux/instrumentation.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/percpu.h>
#include <linux/vtime.h>
#include <asm/cpufeature.h>
#include <asm/mce.h>
#include <asm/nospec-branch.h>
#include <asm/processor-flags.h>
#include <asm/ptrace.h>

#include "compat.h"

/* When RCU was last told on this CPU, in jiffies. */
DECLARE_PER_CPU(unsigned long, keel_rcu_told);

/*
 * A CPU that goes to a guest is in no read-side section. Where RCU does not see
 * that by itself, the tick interrupts the guest, and to be told once a tick is
 * enough for it: its grace periods are not shorter.
 */
static __always_inline void keel_tell_rcu(void)
{
	unsigned long now = jiffies;

	if (likely(__this_cpu_read(keel_rcu_told) == now))
		return;
	__this_cpu_write(keel_rcu_told, now);
	keel_rcu_note_guest();
}

/**
 * keel_guest_enter() - what comes right before the entry stub
 *
 * Context: noinstr, interrupts off. Nothing between this and
 * keel_guest_exit() may be traced, use RCU, or take a lock.
 */
static __always_inline void keel_guest_enter(void)
{
	instrumentation_begin();
	vtime_account_guest_enter();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();
	if (!context_tracking_guest_enter()) {
		instrumentation_begin();
		keel_tell_rcu();
		instrumentation_end();
	}
	lockdep_hardirqs_on(CALLER_ADDR0);
}

static __always_inline void keel_guest_exit(void)
{
	lockdep_hardirqs_off(CALLER_ADDR0);
	context_tracking_guest_exit();
	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
}

/*
 * The VMM must not run on branch predictions that its guest trained (VMSCAPE):
 * the kernel clears them on the way to userspace when told to.
 */
static __always_inline void keel_guest_trained_predictors(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}

/*
 * A machine check came while the guest ran. To the host's handler it came in
 * userspace: memory that is broken is the VMM's, which gets SIGBUS, and is no
 * reason to panic.
 */
static inline void keel_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	struct pt_regs regs = {
		.cs = 3,
		.flags = X86_EFLAGS_IF,
	};

	do_machine_check(&regs);
#endif
}

/*
 * After the tick that interrupted the guest has been accounted, interrupts
 * on again or never on.
 */
static __always_inline void keel_guest_account(void)
{
	vtime_account_guest_exit();
}

/**
 * keel_guest_work() - do what must not wait while a guest runs
 *
 * Reschedules and runs task work.
 *
 * Context: process, interrupts and preemption on.
 * Return: 0, or -EINTR when a signal is pending.
 */
int keel_guest_work(void);

#endif /* KEEL_GUEST_H */
