// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls of a vCPU's file.
 */
#include <linux/fs.h>
#include <linux/signal.h>
#include <linux/uaccess.h>

#include "keel.h"
#include "ioctl.h"
#include "irq/irq.h"

static long run(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return arg ? -EINVAL : keel_vcpu_run(vcpu);
}

static long get_mp_state(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	struct kvm_mp_state *state = data;

	/* QEMU reads this before the registers: let INIT and SIPI take effect */
	if (vcpu->lapic && keel_lapic_has_events(vcpu))
		keel_lapic_accept_events(vcpu);
	state->mp_state = vcpu->mp_state;
	/* a kick is not saved otherwise */
	if (state->mp_state == KVM_MP_STATE_HALTED && READ_ONCE(vcpu->pv.unhalted))
		state->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

static long set_mp_state(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	const struct kvm_mp_state *state = data;

	switch (state->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
		if (!vcpu->lapic)
			return -EINVAL;
		break;
	case KVM_MP_STATE_SIPI_RECEIVED:
		if (!vcpu->lapic)
			return -EINVAL;
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		keel_lapic_queue_sipi(vcpu);
		return 0;
	default:
		return -EINVAL;
	}
	vcpu->mp_state = state->mp_state;
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}

static long interrupt(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	const struct kvm_interrupt *irq = data;

	if (irq->irq > 255)
		return -EINVAL;
	/* with the PIC in the kernel there is nobody left to send this */
	if (vcpu->vm->irqchip == KEEL_IRQCHIP_KERNEL)
		return -ENXIO;
	if (vcpu->lapic)
		return keel_lapic_queue_extint(vcpu, irq->irq);
	if (vcpu->events.interrupt.injected)
		return -EEXIST;
	vcpu->events.interrupt.injected = true;
	vcpu->events.interrupt.soft = false;
	vcpu->events.interrupt.vector = irq->irq;
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}

static long nmi(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	keel_nmi(vcpu);
	return 0;
}

static long set_signal_mask(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	struct kvm_signal_mask __user *user = (void __user *)arg;
	struct kvm_signal_mask mask;
	sigset_t set;

	if (!user) {
		vcpu->sigset_active = false;
		return 0;
	}
	if (copy_from_user(&mask, user, sizeof(mask)))
		return -EFAULT;
	if (mask.len != sizeof(set))
		return -EINVAL;
	if (copy_from_user(&set, user->sigset, sizeof(set)))
		return -EFAULT;
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	vcpu->sigset = set;
	vcpu->sigset_active = true;
	return 0;
}

static long translate(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	struct kvm_translation *tr = data;
	struct keel_walk walk;
	int err;

	err = keel_guest_walk(vcpu, tr->linear_address, KEEL_WALK_PEEK, &walk);
	tr->physical_address = err ? ~(gpa_t)0 : walk.gpa;
	tr->valid = !err;
	tr->writeable = 1;
	tr->usermode = 0;
	return 0;
}

static long setup_mce(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	u64 cap = *(u64 *)data;
	unsigned int i, banks = cap & 0xff;

	if (!banks || banks > KEEL_MCE_BANKS || (cap & ~(KEEL_MCE_CAP | 0xff00ffULL)))
		return -EINVAL;
	vcpu->msrs.mcg_cap = cap;
	if (cap & MCG_CTL_P)
		vcpu->msrs.mcg_ctl = ~0ULL;
	for (i = 0; i < banks; i++)
		vcpu->msrs.mce_bank[i][0] = ~0ULL;
	return 0;
}

static long get_tsc_khz(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return tsc_khz;
}

static long set_tsc_khz(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	/* the host's frequency is the only one: no TSC scaling */
	return arg == 0 || arg == tsc_khz ? 0 : -EINVAL;
}

static long set_vapic_addr(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	/* where a guest would share its TPR; keel has no use for it */
	return vcpu->lapic ? 0 : -EINVAL;
}

static long get_lapic(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return vcpu->lapic ? keel_lapic_get_state(vcpu, data) : -EINVAL;
}

static long set_lapic(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return vcpu->lapic ? keel_lapic_set_state(vcpu, data) : -EINVAL;
}

static long get_msrs(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return keel_ioctl_get_msrs(vcpu, (void __user *)arg);
}

static long set_msrs(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return keel_ioctl_set_msrs(vcpu, (void __user *)arg);
}

static long get_cpuid2(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return keel_ioctl_get_cpuid2(vcpu, (void __user *)arg);
}

static long set_cpuid2(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return keel_ioctl_set_cpuid2(vcpu, (void __user *)arg);
}

static long kvmclock_ctrl(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	if (!(vcpu->clock.system_time_msr & 1))
		return -EINVAL;
	vcpu->clock.guest_stopped = true;
	keel_request(vcpu, KEEL_REQ_CLOCK);
	return 0;
}

/*
 * There is no nested virtualization, and no capability that says so; but Cloud
 * Hypervisor asks for its state unasked when it saves a vCPU. It is that there is
 * none: a header alone, and the same is all that can be set.
 */
static long get_nested_state(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	struct kvm_nested_state __user *user = (void __user *)arg;
	struct kvm_nested_state *state = data;

	if (state->size < sizeof(*state))
		return put_user((u32)sizeof(*state), &user->size) ? -EFAULT : -E2BIG;
	*state = *keel_backend->no_nesting;
	return 0;
}

static long set_nested_state(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	struct kvm_nested_state *state = data;

	if (state->size < sizeof(*state))
		return -EINVAL;
	state->size = sizeof(*state);
	return memcmp(state, keel_backend->no_nesting, sizeof(*state)) ? -EINVAL : 0;
}

static long enable_cap(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	const struct kvm_enable_cap *cap = data;

	if (cap->flags)
		return -EINVAL;
	switch (cap->cap) {
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
		vcpu->pv.enforce = cap->args[0];
		return 0;
	default:
		return -EINVAL;
	}
}

/* The one attribute there is. */
static bool attr_known(const struct kvm_device_attr *attr)
{
	return attr->group == KVM_VCPU_TSC_CTRL && attr->attr == KVM_VCPU_TSC_OFFSET;
}

static long has_attr(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return attr_known(data) ? 0 : -ENXIO;
}

static long get_attr(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;

	if (!attr_known(attr))
		return -ENXIO;
	return put_user(keel_tsc_get_offset(vcpu), (u64 __user *)attr->addr);
}

static long set_attr(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;
	u64 offset;

	if (!attr_known(attr))
		return -ENXIO;
	if (get_user(offset, (u64 __user *)attr->addr))
		return -EFAULT;
	keel_tsc_set_offset(vcpu, offset);
	return 0;
}

static long stats_fd(struct keel_vcpu *vcpu, void *data, unsigned long arg)
{
	return keel_vcpu_stats_fd(vcpu);
}

#define VCPU_DATA(fn, type)						\
static long vcpu_##fn(struct keel_vcpu *vcpu, void *data, unsigned long arg) \
{									\
	return fn(vcpu, (type *)data);					\
}

VCPU_DATA(keel_ioctl_get_regs, struct kvm_regs)
VCPU_DATA(keel_ioctl_set_regs, struct kvm_regs)
VCPU_DATA(keel_ioctl_get_sregs, struct kvm_sregs)
VCPU_DATA(keel_ioctl_set_sregs, struct kvm_sregs)
VCPU_DATA(keel_ioctl_get_sregs2, struct kvm_sregs2)
VCPU_DATA(keel_ioctl_set_sregs2, struct kvm_sregs2)
VCPU_DATA(keel_ioctl_get_fpu, struct kvm_fpu)
VCPU_DATA(keel_ioctl_set_fpu, struct kvm_fpu)
VCPU_DATA(keel_ioctl_get_xsave, struct kvm_xsave)
VCPU_DATA(keel_ioctl_set_xsave, struct kvm_xsave)
VCPU_DATA(keel_ioctl_get_xcrs, struct kvm_xcrs)
VCPU_DATA(keel_ioctl_set_xcrs, struct kvm_xcrs)
VCPU_DATA(keel_ioctl_get_debugregs, struct kvm_debugregs)
VCPU_DATA(keel_ioctl_set_debugregs, struct kvm_debugregs)
VCPU_DATA(keel_ioctl_get_events, struct kvm_vcpu_events)
VCPU_DATA(keel_ioctl_set_events, struct kvm_vcpu_events)
VCPU_DATA(keel_ioctl_set_guest_debug, struct kvm_guest_debug)
VCPU_DATA(keel_ioctl_pre_fault, struct kvm_pre_fault_memory)

static const struct vcpu_ioctl {
	unsigned int cmd;
	u8 copy;	/* KEEL_COPY_ */
	bool load;	/* the handler reads or changes state that hardware has */
	long (*fn)(struct keel_vcpu *vcpu, void *data, unsigned long arg);
} vcpu_ioctls[] = {
	{ KVM_RUN, KEEL_COPY_NONE, true, run },
	{ KVM_GET_REGS, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_regs },
	{ KVM_SET_REGS, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_regs },
	{ KVM_GET_SREGS, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_sregs },
	{ KVM_SET_SREGS, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_sregs },
	{ KVM_GET_SREGS2, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_sregs2 },
	{ KVM_SET_SREGS2, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_sregs2 },
	{ KVM_GET_MSRS, KEEL_COPY_NONE, true, get_msrs },
	{ KVM_SET_MSRS, KEEL_COPY_NONE, true, set_msrs },
	{ KVM_GET_FPU, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_fpu },
	{ KVM_SET_FPU, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_fpu },
	{ KVM_GET_XSAVE, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_xsave },
	{ KVM_SET_XSAVE, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_xsave },
	{ KVM_GET_XCRS, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_xcrs },
	{ KVM_SET_XCRS, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_xcrs },
	{ KVM_GET_DEBUGREGS, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_debugregs },
	{ KVM_SET_DEBUGREGS, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_debugregs },
	{ KVM_GET_VCPU_EVENTS, KEEL_COPY_OUT, true, vcpu_keel_ioctl_get_events },
	{ KVM_SET_VCPU_EVENTS, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_events },
	{ KVM_SET_GUEST_DEBUG, KEEL_COPY_IN, true, vcpu_keel_ioctl_set_guest_debug },
	{ KVM_GET_MP_STATE, KEEL_COPY_OUT, true, get_mp_state },
	{ KVM_SET_MP_STATE, KEEL_COPY_IN, true, set_mp_state },
	{ KVM_GET_CPUID2, KEEL_COPY_NONE, true, get_cpuid2 },
	{ KVM_SET_CPUID2, KEEL_COPY_NONE, true, set_cpuid2 },
	{ KVM_GET_LAPIC, KEEL_COPY_OUT, true, get_lapic },
	{ KVM_SET_LAPIC, KEEL_COPY_IN, true, set_lapic },
	{ KVM_INTERRUPT, KEEL_COPY_IN, true, interrupt },
	{ KVM_NMI, KEEL_COPY_NONE, true, nmi },
	{ KVM_SET_SIGNAL_MASK, KEEL_COPY_NONE, false, set_signal_mask },
	{ KVM_TRANSLATE, KEEL_COPY_INOUT, true, translate },
	{ KVM_X86_SETUP_MCE, KEEL_COPY_IN, false, setup_mce },
	{ KVM_GET_TSC_KHZ, KEEL_COPY_NONE, false, get_tsc_khz },
	{ KVM_SET_TSC_KHZ, KEEL_COPY_NONE, false, set_tsc_khz },
	{ KVM_SET_VAPIC_ADDR, KEEL_COPY_IN, false, set_vapic_addr },
	{ KVM_KVMCLOCK_CTRL, KEEL_COPY_NONE, false, kvmclock_ctrl },
	{ KVM_GET_NESTED_STATE, KEEL_COPY_INOUT, false, get_nested_state },
	{ KVM_SET_NESTED_STATE, KEEL_COPY_IN, false, set_nested_state },
	{ KVM_ENABLE_CAP, KEEL_COPY_IN, false, enable_cap },
	{ KVM_HAS_DEVICE_ATTR, KEEL_COPY_IN, false, has_attr },
	{ KVM_GET_DEVICE_ATTR, KEEL_COPY_IN, false, get_attr },
	{ KVM_SET_DEVICE_ATTR, KEEL_COPY_IN, true, set_attr },
	{ KVM_GET_STATS_FD, KEEL_COPY_NONE, false, stats_fd },
	{ KVM_PRE_FAULT_MEMORY, KEEL_COPY_INOUT, true, vcpu_keel_ioctl_pre_fault },
};

/* KVM_RUN is first in the table: the others can afford the search. */
static const struct vcpu_ioctl *find_ioctl(unsigned int cmd)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vcpu_ioctls); i++)
		if (vcpu_ioctls[i].cmd == cmd)
			return &vcpu_ioctls[i];
	return NULL;
}

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct keel_vcpu *vcpu = file->private_data;
	const struct vcpu_ioctl *ioctl = find_ioctl(cmd);
	struct keel_ioctl_buf buf __uninitialized;
	long ret;

	if (vcpu->vm->mm != current->mm || READ_ONCE(vcpu->vm->dead))
		return -EIO;
	if (!ioctl)
		return -EINVAL;

	buf.data = NULL;
	if (ioctl->copy) {
		ret = keel_ioctl_copy_in(&buf, cmd, ioctl->copy, arg);
		if (ret)
			return ret;
	}
	ret = mutex_lock_killable(&vcpu->mutex) ? -EINTR : 0;
	if (!ret) {
		if (ioctl->load)
			keel_vcpu_load(vcpu);
		ret = ioctl->fn(vcpu, buf.data, arg);
		if (ioctl->load)
			keel_vcpu_put(vcpu);
		mutex_unlock(&vcpu->mutex);
	}
	return ioctl->copy ? keel_ioctl_copy_out(&buf, cmd, ioctl->copy, arg, ret) : ret;
}

const struct file_operations keel_vcpu_fops = {
	.owner = THIS_MODULE,
	.release = keel_vcpu_release,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = keel_vcpu_mmap,
	.llseek = noop_llseek,
};
