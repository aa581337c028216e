// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest that knows of KVM uses: stolen time, and hypercalls. Its clock is
 * in clock.c, interrupts that end without an exit in irq/lapic.c.
 *
 * Documentation/virt/kvm/x86/msr.rst and hypercalls.rst
 */
#include <linux/kvm_para.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>

#include "../irq/irq.h"
#include "../keel.h"

/* ---- stolen time, and which vCPUs do not run ---- */

#define STEAL_FIELD(gpa, field)	((gpa) + offsetof(struct kvm_steal_time, field))

static gpa_t steal_gpa(const struct keel_vcpu *vcpu)
{
	return vcpu->pv.steal_msr & KVM_STEAL_VALID_BITS;
}

/**
 * keel_steal_set_msr() - write MSR_KVM_STEAL_TIME
 * @vcpu: the virtual CPU
 * @value: its value
 *
 * An address without memory is no error: nothing is written then.
 *
 * Return: 0 or -EINVAL.
 */
int keel_steal_set_msr(struct keel_vcpu *vcpu, u64 value)
{
	if (!keel_pv_has(vcpu, KVM_FEATURE_STEAL_TIME) || (value & KVM_STEAL_RESERVED_MASK))
		return -EINVAL;
	if (!sched_info_on() && value)
		return -EINVAL;
	/* a flush that others asked for is at the old address */
	if (vcpu->pv.preempted && value != vcpu->pv.steal_msr)
		keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	vcpu->pv.steal_msr = value;
	keel_request(vcpu, KEEL_REQ_STEAL);
	return 0;
}

/*
 * Other vCPUs add KVM_VCPU_FLUSH_TLB to what they find, atomically, in place of
 * an IPI to this one. What is not certain to be answered is a flush.
 */
static bool running_again(struct keel_vcpu *vcpu, gpa_t gpa)
{
	u64 flags = vcpu->pv.preempted ? KVM_VCPU_PREEMPTED : 0;
	int tries, err = -EAGAIN;

	for (tries = 0; err == -EAGAIN && tries < 8; tries++)
		err = keel_guest_cmpxchg(vcpu, STEAL_FIELD(gpa, preempted), &flags, 0,
					 sizeof_field(struct kvm_steal_time, preempted));
	/* the memory is not there now: tried again when the vCPU gets a CPU the next time */
	if (err && err != -EAGAIN)
		return vcpu->pv.preempted;
	/* not earlier: until now keel_steal_preempted() must leave the flags alone */
	barrier();
	vcpu->pv.preempted = false;
	return err == -EAGAIN || flags & KVM_VCPU_FLUSH_TLB;
}

static void write_steal(struct keel_vcpu *vcpu, gpa_t gpa, u64 delay)
{
	struct kvm_steal_time st;

	if (keel_guest_read(vcpu->vm, gpa, &st, offsetofend(struct kvm_steal_time, version)))
		return;
	st.steal += delay;
	st.version = (st.version + 1) | 1;
	if (keel_guest_write(vcpu, STEAL_FIELD(gpa, version), &st.version, sizeof(st.version)))
		return;
	smp_wmb();	/* odd before the rest */
	keel_guest_write(vcpu, STEAL_FIELD(gpa, steal), &st.steal, sizeof(st.steal));
	smp_wmb();	/* the rest before even */
	st.version++;
	keel_guest_write(vcpu, STEAL_FIELD(gpa, version), &st.version, sizeof(st.version));
}

/**
 * keel_steal_update() - the vCPU is about to run: tell the guest
 * @vcpu: the virtual CPU
 *
 * For KEEL_REQ_STEAL: how long its thread waited for a CPU, and that other
 * vCPUs must not take it for preempted any more.
 *
 * Context: vCPU loaded, mutex held, may sleep.
 */
void keel_steal_update(struct keel_vcpu *vcpu)
{
	gpa_t gpa = steal_gpa(vcpu);
	u64 delay = keel_run_delay();

	if (!(vcpu->pv.steal_msr & KVM_MSR_ENABLED)) {
		vcpu->pv.preempted = false;
		return;
	}
	if (running_again(vcpu, gpa) && keel_pv_has(vcpu, KVM_FEATURE_PV_TLB_FLUSH))
		keel_flush_linear(vcpu);
	/* another thread's delay has another start */
	if (vcpu->pv.thread == task_pid_nr(current) && delay != vcpu->pv.run_delay)
		write_steal(vcpu, gpa, delay - vcpu->pv.run_delay);
	vcpu->pv.thread = task_pid_nr(current);
	vcpu->pv.run_delay = delay;
}

/**
 * keel_steal_load() - the vCPU has got a CPU
 * @vcpu: the virtual CPU
 *
 * Context: preemption off.
 */
void keel_steal_load(struct keel_vcpu *vcpu)
{
	if (unlikely(vcpu->pv.steal_msr & KVM_MSR_ENABLED))
		keel_request(vcpu, KEEL_REQ_STEAL);
}

/**
 * keel_steal_preempted() - the thread must wait for a CPU: tell the guest, if that can be done now
 * @vcpu: the virtual CPU
 *
 * From here on other vCPUs leave out IPIs to this one, and count on it that it
 * uses no translation of theirs before keel_steal_update(). So it must be between
 * two instructions: the handling of an exit, which may be in the middle of an
 * access to what it has translated, goes on where it was.
 *
 * Once until it runs again: others may have added to the flags since.
 *
 * Context: the scheduler, on its way to another thread.
 */
void keel_steal_preempted(struct keel_vcpu *vcpu)
{
	static const u8 flags = KVM_VCPU_PREEMPTED;

	if (likely(!(vcpu->pv.steal_msr & KVM_MSR_ENABLED)) || !vcpu->pv.between_insns ||
	    vcpu->pv.preempted)
		return;
	if (!keel_guest_write_nofault(vcpu, STEAL_FIELD(steal_gpa(vcpu), preempted),
				      &flags, sizeof(flags)))
		vcpu->pv.preempted = true;
}

/* ---- hypercalls ---- */

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

/* Others give the CPU to somebody else, write to guest memory, or have many to wake. */
bool keel_hypercall_is_atomic(u64 nr)
{
	switch ((u32)nr) {	/* all there is of it outside 64-bit mode */
	case KVM_HC_KICK_CPU:
	case KVM_HC_SCHED_YIELD:
	case KVM_HC_CLOCK_PAIRING:
	case KVM_HC_SEND_IPI:
		return false;
	default:
		return true;
	}
}
