// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading, possession of the CPUs' virtualization extension, /dev/keel.
 *
 * The extension is switched on, on every CPU, when the first VM is made and
 * off after the last. CPUs that come and go in between, suspend, reboot and
 * crashes are followed, so that nothing is left on that keel turned on.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/reboot.h>
#include <asm/reboot.h>

#include "keel.h"
#include "irq/irq.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static bool kvm_node;
module_param(kvm_node, bool, 0444);
MODULE_PARM_DESC(kvm_node, "also provide /dev/kvm, for clients with a fixed path (default: no)");

const struct keel_backend *keel_backend;	/* KUnit puts its own here */
bool keel_rebooting __read_mostly;

static DEFINE_MUTEX(hardware_lock);	/* outermost; never held with a VM's lock */
static int hardware_users;		/* under hardware_lock and cpus_read_lock() */
static atomic_t enable_failed;
DEFINE_PER_CPU(bool, keel_cpu_on);

/* On the CPU, interrupts off. */
static int cpu_enable(void)
{
	int err;

	if (__this_cpu_read(keel_cpu_on))
		return 0;
	err = keel_backend->cpu_enable();
	if (!err)
		__this_cpu_write(keel_cpu_on, true);
	return err;
}

static void cpu_enable_ipi(void *unused)
{
	if (cpu_enable())
		atomic_inc(&enable_failed);
}

/* A CPU that comes while VMs exist, and refuses: no guest enters there. */
static void cpu_enable_late(void)
{
	int err = cpu_enable();

	if (err)
		pr_err("cpu %d: cannot switch on %s: error %d\n",
		       smp_processor_id(), keel_backend->name, err);
}

static void cpu_disable(void *unused)
{
	if (!__this_cpu_read(keel_cpu_on))
		return;
	keel_backend->cpu_disable();
	keel_tlb_model_hardware_off();
	__this_cpu_write(keel_cpu_on, false);
}

int keel_hardware_get(void)
{
	int err = 0;

	cpus_read_lock();
	mutex_lock(&hardware_lock);
	if (keel_rebooting) {
		err = -EBUSY;
		goto out;
	}
	if (hardware_users++)
		goto out;

	atomic_set(&enable_failed, 0);
	on_each_cpu(cpu_enable_ipi, NULL, 1);
	if (atomic_read(&enable_failed)) {
		on_each_cpu(cpu_disable, NULL, 1);
		hardware_users--;
		err = -EBUSY;
		pr_err_ratelimited("another hypervisor may own %s, on %d of %u CPUs: unload it (rmmod kvm_intel kvm_amd) and try again\n",
				   keel_backend->name, atomic_read(&enable_failed),
				   num_online_cpus());
	}
out:
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
	return err;
}

void keel_hardware_put(void)
{
	cpus_read_lock();
	mutex_lock(&hardware_lock);
	if (!--hardware_users)
		on_each_cpu(cpu_disable, NULL, 1);
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
}

/*
 * Hotplug runs with cpus_write_lock() held, so hardware_users stands still.
 * The state is KVM's own: at that point of the sequence no user task can run
 * on the CPU, and a KVM module that is loaded holds it, which is how keel
 * knows of it.
 */
static int cpu_comes(unsigned int cpu)
{
	unsigned long flags;

	if (!hardware_users || keel_rebooting)
		return 0;
	local_irq_save(flags);
	cpu_enable_late();
	local_irq_restore(flags);
	return 0;
}

static int cpu_goes(unsigned int cpu)
{
	unsigned long flags;

	local_irq_save(flags);
	cpu_disable(NULL);
	local_irq_restore(flags);
	return 0;
}

/* Only the boot CPU is left when these are called, interrupts off. */
static int keel_suspend(void)
{
	keel_clock_suspend();
	cpu_disable(NULL);
	return 0;
}

static void keel_resume(void)
{
	keel_clock_resume();
	if (hardware_users && !keel_rebooting)
		cpu_enable_late();
}

static KEEL_SYSCORE(keel_syscore, keel_suspend, keel_resume);

/*
 * A CPU with VMX on ignores INIT, and so would hang the reset. From here on
 * the run loop enters no guest; the IPI makes those inside leave.
 */
static int keel_reboot(struct notifier_block *nb, unsigned long code, void *data)
{
	/* under the locks: or a first VM, or a CPU on its way, could switch it on after us */
	cpus_read_lock();
	mutex_lock(&hardware_lock);
	WRITE_ONCE(keel_rebooting, true);
	on_each_cpu(cpu_disable, NULL, 1);
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
	return NOTIFY_OK;
}

static struct notifier_block keel_reboot_notifier = {
	.notifier_call = keel_reboot,
};

/* In NMI context while the machine crashes. */
static void keel_emergency(void)
{
	WRITE_ONCE(keel_rebooting, true);
	if (__this_cpu_read(keel_cpu_on))
		keel_backend->emergency();
}

/* ---- /dev/keel ---- */

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case KVM_GET_API_VERSION:
		return arg ? -EINVAL : KVM_API_VERSION;
	case KVM_CREATE_VM:
		return keel_vm_create(arg);
	case KVM_CHECK_EXTENSION:
		return keel_check_extension(NULL, arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		/* the run page, the port data page, the coalesced ring */
		return arg ? -EINVAL : 3 * PAGE_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		return keel_ioctl_get_supported_cpuid(user);
	case KVM_GET_EMULATED_CPUID:
		return keel_ioctl_get_emulated_cpuid(user);
	case KVM_GET_MSR_INDEX_LIST:
		return keel_ioctl_msr_index_list(user);
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		return keel_ioctl_msr_feature_index_list(user);
	case KVM_GET_MSRS:
		return keel_ioctl_get_feature_msrs(user);
	case KVM_X86_GET_MCE_CAP_SUPPORTED: {
		u64 cap = KEEL_MCE_CAP;

		return copy_to_user(user, &cap, sizeof(cap)) ? -EFAULT : 0;
	}
	default:
		return -EINVAL;
	}
}

static const struct file_operations keel_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice keel_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "keel",
	.fops = &keel_fops,
	.mode = 0660,
};

static struct miscdevice kvm_device = {
	.minor = KVM_MINOR,
	.name = "kvm",
	.fops = &keel_fops,
	.mode = 0660,
};

/* ---- load ---- */

static int __init find_backend(void)
{
	static const struct keel_backend * const backends[] = {
		&keel_vmx_backend,
		&keel_svm_backend,
	};
	int i, err;

	for (i = 0; i < ARRAY_SIZE(backends); i++) {
		err = backends[i]->probe();
		if (!err) {
			keel_backend = backends[i];
			return 0;
		}
		/* the CPU has it, but it cannot be used: said and done */
		if (err != -ENXIO)
			return err;
	}
	pr_err("this CPU has neither Intel VMX nor AMD SVM, or they are hidden from this machine: see 'keel doctor'\n");
	return -ENODEV;
}

static int __init register_devices(void)
{
	int err;

	/* first what may be taken: who has a device open while loading fails has our text */
	if (kvm_node) {
		err = misc_register(&kvm_device);
		if (err) {
			pr_err("/dev/kvm is taken: unload KVM first (rmmod kvm_intel kvm_amd kvm), or load keel without kvm_node=1\n");
			return err;
		}
	}
	err = misc_register(&keel_device);
	if (err) {
		pr_err("cannot make /dev/keel: error %d\n", err);
		if (kvm_node)
			misc_deregister(&kvm_device);
	}
	return err;
}

static int __init keel_init(void)
{
	int err;

	err = find_backend();
	if (err)
		return err;

	err = keel_cpuid_init();
	if (err)
		goto out_backend;
	err = keel_msr_init();
	if (err)
		goto out_backend;
	err = keel_async_pf_init();
	if (err)
		goto out_backend;

	err = cpuhp_setup_state_nocalls(KEEL_CPUHP_STATE, "virt/keel:online",
					cpu_comes, cpu_goes);
	if (err) {
		if (err == -EBUSY)
			pr_err("KVM is loaded and would compete for %s: unload it first (rmmod kvm_intel kvm_amd kvm)\n",
			       keel_backend->name);
		goto out_async_pf;
	}
	keel_debugfs_init();
	keel_syscore_register(&keel_syscore);
	register_reboot_notifier(&keel_reboot_notifier);
	cpu_emergency_register_virt_callback(keel_emergency);
	/* patches the scheduler, with all CPUs interrupted: not for each first VM */
	preempt_notifier_inc();

	err = register_devices();
	if (err)
		goto out_registered;
	pr_info("ready on %s%s\n", keel_backend->name,
		kvm_node ? ", also as /dev/kvm" : "");
	if (IS_ENABLED(CONFIG_KEEL_TLB_MODEL))
		pr_notice("with a model of the TLB, for debugging\n");
	return 0;

out_registered:
	preempt_notifier_dec();
	cpu_emergency_unregister_virt_callback(keel_emergency);
	unregister_reboot_notifier(&keel_reboot_notifier);
	keel_syscore_unregister(&keel_syscore);
	keel_debugfs_exit();
	cpuhp_remove_state_nocalls(KEEL_CPUHP_STATE);
out_async_pf:
	keel_async_pf_exit();
out_backend:
	if (keel_backend->exit)
		keel_backend->exit();
	return err;
}

static void __exit keel_exit(void)
{
	if (kvm_node)
		misc_deregister(&kvm_device);
	misc_deregister(&keel_device);
	/* the last VM's worker may still be dropping its last reference */
	keel_async_pf_exit();
	preempt_notifier_dec();
	cpu_emergency_unregister_virt_callback(keel_emergency);
	unregister_reboot_notifier(&keel_reboot_notifier);
	keel_syscore_unregister(&keel_syscore);
	keel_debugfs_exit();
	cpuhp_remove_state_nocalls(KEEL_CPUHP_STATE);
	if (keel_backend->exit)
		keel_backend->exit();
	keel_tlb_model_exit();
}

module_init(keel_init);
module_exit(keel_exit);

MODULE_DESCRIPTION("keel: a small hypervisor that speaks the KVM ABI");
MODULE_LICENSE("GPL");
