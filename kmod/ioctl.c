// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arguments of ioctls, and the capabilities.
 */
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

#include "keel.h"
#include "ioctl.h"
#include "irq/irq.h"

int keel_ioctl_copy_in(struct keel_ioctl_buf *buf, unsigned int cmd, u8 copy,
		       unsigned long arg)
{
	size_t size = _IOC_SIZE(cmd);

	buf->data = NULL;
	if (!copy)
		return 0;
	buf->data = buf->small;
	if (size > sizeof(buf->small)) {
		buf->data = kzalloc(size, GFP_KERNEL_ACCOUNT);
		if (!buf->data)
			return -ENOMEM;
	} else if (!(copy & KEEL_COPY_IN)) {
		memset(buf->data, 0, size);
	}
	if ((copy & KEEL_COPY_IN) &&
	    copy_from_user(buf->data, (void __user *)arg, size)) {
		if (buf->data != buf->small)
			kfree(buf->data);
		return -EFAULT;
	}
	return 0;
}

long keel_ioctl_copy_out(struct keel_ioctl_buf *buf, unsigned int cmd, u8 copy,
			 unsigned long arg, long ret)
{
	if (ret >= 0 && (copy & KEEL_COPY_OUT) &&
	    copy_to_user((void __user *)arg, buf->data, _IOC_SIZE(cmd)))
		ret = -EFAULT;
	if (buf->data != buf->small)
		kfree(buf->data);
	return ret;
}

/*
 * Capabilities that are there on every machine, with KVM's values. What is
 * not listed answers 0; docs/abi.md says why.
 */
static const struct { u16 cap; u32 value; } caps[] = {
	{ KVM_CAP_IRQCHIP, 1 },
	{ KVM_CAP_HLT, 1 },
	{ KVM_CAP_USER_MEMORY, 1 },
	{ KVM_CAP_USER_MEMORY2, 1 },
	{ KVM_CAP_SET_TSS_ADDR, 1 },
	{ KVM_CAP_EXT_CPUID, 1 },
	{ KVM_CAP_NR_MEMSLOTS, KEEL_MAX_MEMSLOTS },
	{ KVM_CAP_PIT, 1 },
	{ KVM_CAP_NOP_IO_DELAY, 1 },
	{ KVM_CAP_MP_STATE, 1 },
	{ KVM_CAP_COALESCED_MMIO, 2 },	/* page of the ring in the vCPU's mapping */
	{ KVM_CAP_COALESCED_PIO, 1 },
	{ KVM_CAP_SYNC_MMU, 1 },
	{ KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1 },
	{ KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1 },
	{ KVM_CAP_USER_NMI, 1 },
	{ KVM_CAP_IRQ_ROUTING, KEEL_MAX_GSI },
	{ KVM_CAP_IRQ_INJECT_STATUS, 1 },
	{ KVM_CAP_MCE, KEEL_MCE_BANKS },
	{ KVM_CAP_IRQFD, 1 },
	{ KVM_CAP_IRQFD_RESAMPLE, 1 },
	{ KVM_CAP_PIT2, 1 },
	{ KVM_CAP_REINJECT_CONTROL, 1 },
	{ KVM_CAP_PIT_STATE2, 1 },
	{ KVM_CAP_IOEVENTFD, 1 },
	{ KVM_CAP_IOEVENTFD_NO_LENGTH, 1 },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, 1 },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1 },
	{ KVM_CAP_SET_BOOT_CPU_ID, 1 },
	{ KVM_CAP_VCPU_EVENTS, 1 },
	{ KVM_CAP_DEBUGREGS, 1 },
	{ KVM_CAP_GET_TSC_KHZ, 1 },
	{ KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC },
	{ KVM_CAP_KVMCLOCK_CTRL, 1 },
	{ KVM_CAP_ASYNC_PF, 1 },
	{ KVM_CAP_ASYNC_PF_INT, 1 },
	{ KVM_CAP_READONLY_MEM, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP |
				    KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP |
				    KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |
				    KVM_GUESTDBG_BLOCKIRQ },
	{ KVM_CAP_X86_ROBUST_SINGLESTEP, 1 },
	{ KVM_CAP_SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS },
	{ KVM_CAP_SIGNAL_MSI, 1 },
	{ KVM_CAP_TSC_DEADLINE_TIMER, 1 },
	{ KVM_CAP_MAX_VCPUS, KEEL_MAX_VCPUS },
	{ KVM_CAP_MAX_VCPU_ID, KEEL_MAX_VCPU_ID },
	{ KVM_CAP_SPLIT_IRQCHIP, 1 },
	{ KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS |
			      KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK },
	{ KVM_CAP_IMMEDIATE_EXIT, 1 },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
					     KVM_DIRTY_LOG_INITIALLY_SET },
	{ KVM_CAP_DIRTY_LOG_RING, KEEL_DIRTY_RING_MAX_BYTES },
	{ KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KEEL_DIRTY_RING_MAX_BYTES },
	{ KVM_CAP_ENABLE_CAP, 1 },
	{ KVM_CAP_DISABLE_QUIRKS, 1 },
	{ KVM_CAP_DISABLE_QUIRKS2, KEEL_QUIRKS },
	{ KVM_CAP_ENABLE_CAP_VM, 1 },
	{ KVM_CAP_CHECK_EXTENSION_VM, 1 },
	{ KVM_CAP_GET_MSR_FEATURES, 1 },
	{ KVM_CAP_MSR_PLATFORM_INFO, 1 },
	{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
	{ KVM_CAP_X86_USER_SPACE_MSR, 1 },
	{ KVM_CAP_X86_MSR_FILTER, 1 },
	{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },
	{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
	{ KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1 },
	{ KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1 },
	{ KVM_CAP_VCPU_ATTRIBUTES, 1 },
	{ KVM_CAP_SREGS2, 1 },
	{ KVM_CAP_PRE_FAULT_MEMORY, 1 },
	{ KVM_CAP_BINARY_STATS_FD, 1 },
};

/* KVM_CAP_X86_DISABLE_EXITS: the instructions that guests can have to themselves. */
u32 keel_exits_to_disable(void)
{
	u32 exits = KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE |
		    KVM_X86_DISABLE_EXITS_CSTATE;

	/* a CPU that MONITOR misleads, or whose timer stops, would not wake */
	if (boot_cpu_has(X86_FEATURE_MWAIT) && !boot_cpu_has_bug(X86_BUG_MONITOR) &&
	    boot_cpu_has(X86_FEATURE_ARAT))
		exits |= KVM_X86_DISABLE_EXITS_MWAIT;
	return exits;
}

int keel_check_extension(struct keel_vm *vm, long cap)
{
	int i;

	switch (cap) {
	case KVM_CAP_XSAVE:
	case KVM_CAP_XCRS:
		return boot_cpu_has(X86_FEATURE_XSAVE);
	case KVM_CAP_STEAL_TIME:
		return sched_info_on();
	case KVM_CAP_X86_DISABLE_EXITS:
		return keel_exits_to_disable();
	case KVM_CAP_NR_VCPUS:
		return min_t(int, num_online_cpus(), KEEL_MAX_VCPUS);
	}
	for (i = 0; i < ARRAY_SIZE(caps); i++)
		if (caps[i].cap == cap)
			return caps[i].value;
	return 0;
}
