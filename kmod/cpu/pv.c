// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest asks of KVM by hypercalls. Its clock is in clock.c, interrupts
 * that end without an exit in irq/lapic.c.
 *
 * Documentation/virt/kvm/x86/hypercalls.rst
 */
#include <linux/kvm_para.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>

#include "../irq/irq.h"
#include "../keel.h"

/*
 * Run another vCPU for what is left of this one's time slice, if it waits for
 * a CPU. A hint: nothing depends on it.
 */
static void yield_to_vcpu(struct keel_vcpu *vcpu, u32 apic_id)
{
	struct keel_vcpu *target = keel_apic_vcpu(vcpu->vm, apic_id);
	struct task_struct *task;

	vcpu->stats.yields++;
	if (!target || target == vcpu || !READ_ONCE(target->preempted) || single_task_running())
		return;
	rcu_read_lock();
	task = rcu_dereference(target->task);
	if (task)
		get_task_struct(task);
	rcu_read_unlock();
	if (!task)
		return;
	yield_to(task, true);
	put_task_struct(task);
}

/* The vCPU's HLT is over, or its next one will not wait. */
static void kick_vcpu(struct keel_vcpu *vcpu, u32 apic_id)
{
	struct keel_vcpu *target = keel_apic_vcpu(vcpu->vm, apic_id);

	if (!target)
		return;
	WRITE_ONCE(target->pv.unhalted, true);
	keel_vcpu_kick(target);
}

/**
 * keel_hypercall() - do what the guest asks for
 * @vcpu: the virtual CPU
 * @nr: KVM_HC_
 * @arg: RBX, RCX, RDX, RSI; their lower halves outside 64-bit mode
 *
 * Context: vCPU loaded, mutex held, may sleep.
 * Return: the result, or a negative KVM_E number, for RAX.
 */
long keel_hypercall(struct keel_vcpu *vcpu, u64 nr, const u64 arg[4])
{
	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_KICK_CPU:
		if (!keel_pv_has(vcpu, KVM_FEATURE_PV_UNHALT))
			break;
		kick_vcpu(vcpu, arg[1]);
		yield_to_vcpu(vcpu, arg[1]);
		return 0;
	case KVM_HC_CLOCK_PAIRING:
		return keel_clock_pairing(vcpu, arg[0], arg[1]);
	case KVM_HC_SEND_IPI:
		if (!keel_pv_has(vcpu, KVM_FEATURE_PV_SEND_IPI))
			break;
		return keel_pv_send_ipi(vcpu->vm, arg, keel_mode64(vcpu) ? 64 : 32);
	case KVM_HC_SCHED_YIELD:
		if (!keel_pv_has(vcpu, KVM_FEATURE_PV_SCHED_YIELD))
			break;
		yield_to_vcpu(vcpu, arg[0]);
		return 0;
	}
	return -KVM_ENOSYS;
}
