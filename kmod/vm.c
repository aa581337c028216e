// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM's life: made by KVM_CREATE_VM, referenced by its file and its vCPUs,
 * freed with the last of them.
 */
#include <linux/anon_inodes.h>
#include <linux/cpu.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "keel.h"
#include "ioctl.h"
#include "irq/irq.h"

static atomic_t nr_vms;

static void vm_free(struct kref *refs)
{
	struct keel_vm *vm = container_of(refs, struct keel_vm, refs);
	struct keel_vcpu *vcpu;
	unsigned long id;

	/* nobody reads any more: let what waits to be freed not wait for a tick */
	synchronize_srcu_expedited(&vm->irq_srcu);
	synchronize_srcu_expedited(&vm->srcu);
	/* After this no fault, no notifier and no irqfd looks at the VM. */
	keel_notifier_unregister(vm);
	keel_vm_debugfs_destroy(vm);
	keel_irq_vm_destroy(vm);
	keel_for_each_vcpu(vm, id, vcpu)
		keel_vcpu_free(vcpu);
	xa_destroy(&vm->vcpus);
	keel_msr_filter_destroy(vm);
	keel_mmu_destroy(vm);
	keel_slots_destroy(vm);
	if (keel_backend->vm_destroy)
		keel_backend->vm_destroy(vm);
	cleanup_srcu_struct(&vm->irq_srcu);
	cleanup_srcu_struct(&vm->srcu);
	free_page((unsigned long)vm->coalesced_ring);
	mmdrop(vm->mm);
	kvfree(vm);
	keel_hardware_put();
	atomic_dec(&nr_vms);
}

void keel_vm_get(struct keel_vm *vm)
{
	kref_get(&vm->refs);
}

void keel_vm_put(struct keel_vm *vm)
{
	kref_put(&vm->refs, vm_free);
}

void keel_vm_kill(struct keel_vm *vm, const char *why)
{
	struct keel_vcpu *vcpu;
	unsigned long id;

	if (xchg(&vm->dead, true))
		return;
	pr_notice_ratelimited("VM %s cannot go on: %s\n", vm->name, why);
	keel_for_each_vcpu(vm, id, vcpu)
		keel_vcpu_kick(vcpu);
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct keel_vm *vm = file->private_data;

	keel_irq_vm_release(vm);
	keel_vm_put(vm);
	return 0;
}

static void vm_init_fields(struct keel_vm *vm)
{
	static atomic_t serial;

	kref_init(&vm->refs);
	mutex_init(&vm->lock);
	mutex_init(&vm->slots_lock);
	mutex_init(&vm->irq_lock);
	xa_init(&vm->vcpus);
	spin_lock_init(&vm->irqfds_lock);
	spin_lock_init(&vm->ring_lock);
	INIT_LIST_HEAD(&vm->irqfds);
	INIT_LIST_HEAD(&vm->ioeventfds);
	INIT_LIST_HEAD(&vm->coalesced_zones);
	INIT_HLIST_HEAD(&vm->irq_ack_notifiers);
	/* unique: debugfs has a directory of that name */
	snprintf(vm->name, sizeof(vm->name), "%d-%u", task_tgid_nr(current),
		 atomic_inc_return(&serial));
}

/* Everything but the file. The caller has counted the VM in nr_vms. */
static struct keel_vm *vm_alloc(void)
{
	struct keel_vm *vm;
	int err;

	vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);
	vm_init_fields(vm);

	err = keel_hardware_get();
	if (err)
		goto out_free;
	err = -ENOMEM;
	vm->coalesced_ring = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vm->coalesced_ring)
		goto out_hardware;
	err = init_srcu_struct(&vm->srcu);
	if (err)
		goto out_ring;
	err = init_srcu_struct(&vm->irq_srcu);
	if (err)
		goto out_srcu;
	err = keel_backend->vm_create ? keel_backend->vm_create(vm) : 0;
	if (err)
		goto out_irq_srcu;
	err = keel_slots_init(vm);
	if (err)
		goto out_backend;
	err = keel_mmu_init(vm);
	if (err)
		goto out_slots;
	err = keel_irq_vm_init(vm);
	if (err)
		goto out_mmu;
	keel_vm_clock_init(vm);

	/* last: from here on the notifier may come */
	vm->mm = current->mm;
	mmgrab(vm->mm);
	err = keel_notifier_register(vm);
	if (err)
		goto out_mm;
	keel_vm_debugfs_create(vm);
	return vm;

out_mm:
	mmdrop(vm->mm);
	keel_irq_vm_destroy(vm);
out_mmu:
	keel_mmu_destroy(vm);
out_slots:
	keel_slots_destroy(vm);
out_backend:
	if (keel_backend->vm_destroy)
		keel_backend->vm_destroy(vm);
out_irq_srcu:
	cleanup_srcu_struct(&vm->irq_srcu);
out_srcu:
	cleanup_srcu_struct(&vm->srcu);
out_ring:
	free_page((unsigned long)vm->coalesced_ring);
out_hardware:
	keel_hardware_put();
out_free:
	kvfree(vm);
	return ERR_PTR(err);
}

/**
 * keel_vm_create() - KVM_CREATE_VM
 * @type: must be 0, as on stock KVM on x86
 *
 * Return: a file descriptor, -EINVAL, -EMFILE, -ENOMEM, or what
 * keel_hardware_get() says.
 */
int keel_vm_create(unsigned long type)
{
	struct keel_vm *vm;
	struct file *file;
	int fd;

	if (type)
		return -EINVAL;
	if (atomic_inc_return(&nr_vms) > KEEL_MAX_VMS) {
		atomic_dec(&nr_vms);
		return -ENOSPC;
	}
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		atomic_dec(&nr_vms);
		return fd;
	}
	vm = vm_alloc();
	if (IS_ERR(vm)) {
		put_unused_fd(fd);
		atomic_dec(&nr_vms);
		return PTR_ERR(vm);
	}
	file = anon_inode_getfile("kvm-vm", &keel_vm_fops, vm, O_RDWR);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		keel_vm_put(vm);
		return PTR_ERR(file);
	}
	/* the file owns the reference from kref_init(); nothing may fail now */
	fd_install(fd, file);
	return fd;
}

/* ---- ioctls that set one thing ---- */

static long set_tss_addr(struct keel_vm *vm, void *data, unsigned long arg)
{
	/*
	 * Where real-mode emulation without unrestricted guest keeps a TSS.
	 * keel requires unrestricted guest: the address is checked, that is all.
	 */
	return arg > 0xffffffffUL - 3 * PAGE_SIZE + 1 ? -EINVAL : 0;
}

static long set_identity_map_addr(struct keel_vm *vm, void *data, unsigned long arg)
{
	return xa_empty(&vm->vcpus) ? 0 : -EINVAL;
}

static long set_boot_cpu_id(struct keel_vm *vm, void *data, unsigned long arg)
{
	int err = -EBUSY;

	mutex_lock(&vm->lock);
	if (!vm->nr_vcpus)
		err = arg > (vm->max_vcpu_id ?: KEEL_MAX_VCPU_ID) ? -EINVAL : 0;
	if (!err)
		vm->bsp_id = arg;
	mutex_unlock(&vm->lock);
	return err;
}

static long create_vcpu(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_vcpu_create(vm, arg);
}

static long check_extension(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_check_extension(vm, arg);
}

static long create_irqchip(struct keel_vm *vm, void *data, unsigned long arg)
{
	int err;

	mutex_lock(&vm->lock);
	err = keel_irqchip_create(vm);
	mutex_unlock(&vm->lock);
	return err;
}

static long create_pit2(struct keel_vm *vm, void *data, unsigned long arg)
{
	const struct kvm_pit_config *config = data;
	int err;

	mutex_lock(&vm->lock);
	err = keel_pit_create(vm, config->flags);
	mutex_unlock(&vm->lock);
	return err;
}

static long create_pit(struct keel_vm *vm, void *data, unsigned long arg)
{
	int err;

	mutex_lock(&vm->lock);
	err = keel_pit_create(vm, KVM_PIT_SPEAKER_DUMMY);
	mutex_unlock(&vm->lock);
	return err;
}

/* Its number, alone among these, does not have the size of its argument. */
static long reinject_control(struct keel_vm *vm, void *data, unsigned long arg)
{
	struct kvm_reinject_control control;

	if (copy_from_user(&control, (void __user *)arg, sizeof(control)))
		return -EFAULT;
	return keel_ioctl_reinject(vm, &control);
}

static long irq_line(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_ioctl_irq_line(vm, data);
}

static long set_gsi_routing(struct keel_vm *vm, void *data, unsigned long arg)
{
	long ret;

	/* not while the chips that routes lead to come, or fail to */
	mutex_lock(&vm->lock);
	ret = keel_ioctl_set_gsi_routing(vm, (void __user *)arg);
	mutex_unlock(&vm->lock);
	return ret;
}

static long vm_stats_fd(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_vm_stats_fd(vm);
}

static long vm_get_tsc_khz(struct keel_vm *vm, void *data, unsigned long arg)
{
	return tsc_khz;
}

static long vm_set_tsc_khz(struct keel_vm *vm, void *data, unsigned long arg)
{
	/* the host's frequency is the only one: no TSC scaling */
	return arg == 0 || arg == tsc_khz ? 0 : -EINVAL;
}

static long get_nr_mmu_pages(struct keel_vm *vm, void *data, unsigned long arg)
{
	return READ_ONCE(vm->stats.tables);
}

static long set_nr_mmu_pages(struct keel_vm *vm, void *data, unsigned long arg)
{
	/* a hint for shadow paging, which keel does not have */
	return arg < 64 ? -EINVAL : 0;
}

static long enable_split_irqchip(struct keel_vm *vm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] > KEEL_MAX_GSI)
		return -EINVAL;
	return keel_irqchip_create_split(vm, cap->args[0]);
}

static long enable_x2apic_api(struct keel_vm *vm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~(KVM_X2APIC_API_USE_32BIT_IDS |
			     KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
		return -EINVAL;
	if (cap->args[0] & KVM_X2APIC_API_USE_32BIT_IDS)
		vm->x2apic_32bit_ids = true;
	if (cap->args[0] & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
		vm->x2apic_no_broadcast_quirk = true;
	return 0;
}

static long enable_max_vcpu_id(struct keel_vm *vm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] > KEEL_MAX_VCPU_ID || cap->args[0] < vm->bsp_id)
		return -EINVAL;
	/* once; the same again is no change, also with vCPUs */
	if (vm->max_vcpu_id == cap->args[0])
		return 0;
	if (vm->max_vcpu_id || vm->nr_vcpus)
		return -EINVAL;
	vm->max_vcpu_id = cap->args[0];
	return 0;
}

static long enable_user_msr(struct keel_vm *vm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~(u64)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
				  KVM_MSR_EXIT_REASON_FILTER))
		return -EINVAL;
	WRITE_ONCE(vm->user_msr_reasons, cap->args[0]);
	return 0;
}

/*
 * For vCPUs made from now on; bits add up. What the host cannot grant is not
 * granted, and no error.
 */
static long disable_exits(struct keel_vm *vm, const struct kvm_enable_cap *cap)
{
	u32 exits = cap->args[0] & keel_exits_to_disable();

	if (cap->args[0] & ~(u64)KVM_X86_DISABLE_VALID_EXITS)
		return -EINVAL;
	/* a guest that halts its thread lets the other one use its return predictions */
	if (exits & ~KVM_X86_DISABLE_EXITS_PAUSE && boot_cpu_has_bug(X86_BUG_SMT_RSB) &&
	    cpu_smt_possible())
		pr_warn_once("a VM halts its CPU itself (KVM_CAP_X86_DISABLE_EXITS): on this CPU only for trusted guests, or with nosmt (CVE-2022-27672)\n");
	WRITE_ONCE(vm->disabled_exits, vm->disabled_exits | exits);
	return 0;
}

static long enable_apic_bus_cycle(struct keel_vm *vm, const struct kvm_enable_cap *cap)
{
	u64 longest;

	/* the timer's longest period, at the largest divisor, in ns */
	if (!cap->args[0] || check_mul_overflow(U32_MAX * 128ULL, cap->args[0], &longest))
		return -EINVAL;
	if (vm->irqchip == KEEL_IRQCHIP_NONE)
		return -ENXIO;
	if (vm->nr_vcpus)
		return -EINVAL;
	vm->apic_bus_cycle_ns = cap->args[0];
	return 0;
}

static long enable_cap(struct keel_vm *vm, void *data, unsigned long arg)
{
	const struct kvm_enable_cap *cap = data;
	long err = 0;

	if (cap->flags)
		return -EINVAL;
	mutex_lock(&vm->lock);
	switch (cap->cap) {
	case KVM_CAP_SPLIT_IRQCHIP:
		err = enable_split_irqchip(vm, cap);
		break;
	case KVM_CAP_X2APIC_API:
		err = enable_x2apic_api(vm, cap);
		break;
	case KVM_CAP_MAX_VCPU_ID:
		err = enable_max_vcpu_id(vm, cap);
		break;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->exception_payload = cap->args[0];
		break;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->triple_fault_event = cap->args[0];
		break;
	case KVM_CAP_DISABLE_QUIRKS2:
		if (cap->args[0] & ~(u64)KEEL_QUIRKS) {
			err = -EINVAL;
			break;
		}
		fallthrough;
	case KVM_CAP_DISABLE_QUIRKS:
		WRITE_ONCE(vm->disabled_quirks, cap->args[0]);
		break;
	case KVM_CAP_MSR_PLATFORM_INFO:
		WRITE_ONCE(vm->hide_platform_info, !cap->args[0]);
		break;
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (cap->args[0] & ~1ULL)
			err = -EINVAL;
		else
			WRITE_ONCE(vm->exit_on_emulation_failure, cap->args[0]);
		break;
	case KVM_CAP_X86_USER_SPACE_MSR:
		err = enable_user_msr(vm, cap);
		break;
	case KVM_CAP_X86_DISABLE_EXITS:
		err = disable_exits(vm, cap);
		break;
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		err = enable_apic_bus_cycle(vm, cap);
		break;
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		err = keel_enable_manual_protect(vm, cap->args[0]);
		break;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		err = keel_enable_dirty_ring(vm, cap->args[0]);
		break;
	default:
		err = -EINVAL;
	}
	mutex_unlock(&vm->lock);
	return err;
}

static long reset_dirty_rings(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_reset_dirty_rings(vm);
}

/* ---- dispatch ---- */

/*
 * What has this form is copied in and out by the size and direction that the
 * command's own number encodes.
 */
#define VM_DATA(fn, type)						\
static long vm_##fn(struct keel_vm *vm, void *data, unsigned long arg)	\
{									\
	return fn(vm, (type *)data);					\
}

VM_DATA(keel_set_memory_region, struct kvm_userspace_memory_region)
VM_DATA(keel_get_dirty_log, struct kvm_dirty_log)
VM_DATA(keel_clear_dirty_log, struct kvm_clear_dirty_log)
VM_DATA(keel_ioctl_get_pit2, struct kvm_pit_state2)
VM_DATA(keel_ioctl_set_pit2, struct kvm_pit_state2)
VM_DATA(keel_ioctl_signal_msi, struct kvm_msi)
VM_DATA(keel_ioctl_irqfd, struct kvm_irqfd)
VM_DATA(keel_ioctl_ioeventfd, struct kvm_ioeventfd)
VM_DATA(keel_ioctl_register_coalesced,
	struct kvm_coalesced_mmio_zone)
VM_DATA(keel_ioctl_unregister_coalesced,
	struct kvm_coalesced_mmio_zone)
VM_DATA(keel_ioctl_set_msr_filter, struct kvm_msr_filter)
VM_DATA(keel_ioctl_get_clock, struct kvm_clock_data)
VM_DATA(keel_ioctl_set_clock, struct kvm_clock_data)

static long vm_get_irqchip(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_ioctl_get_irqchip(vm, data);
}

static long vm_set_irqchip(struct keel_vm *vm, void *data, unsigned long arg)
{
	return keel_ioctl_set_irqchip(vm, data);
}

/* Sorted by nothing: a VM's ioctls are few and slow. */
#define VM_IOCTL(number, how, handler) {				\
	.cmd = (number),						\
	.copy = (how) + BUILD_BUG_ON_ZERO((how) && !_IOC_SIZE(number)),	\
	.fn = (handler),						\
}

static const struct vm_ioctl {
	unsigned int cmd;
	u8 copy;	/* KEEL_COPY_ */
	long (*fn)(struct keel_vm *vm, void *data, unsigned long arg);
} vm_ioctls[] = {
	VM_IOCTL(KVM_CHECK_EXTENSION, KEEL_COPY_NONE, check_extension),
	VM_IOCTL(KVM_CREATE_VCPU, KEEL_COPY_NONE, create_vcpu),
	VM_IOCTL(KVM_SET_USER_MEMORY_REGION, KEEL_COPY_IN, vm_keel_set_memory_region),
	/* begins as the one before; what follows is for a flag that is refused */
	VM_IOCTL(KVM_SET_USER_MEMORY_REGION2, KEEL_COPY_IN, vm_keel_set_memory_region),
	VM_IOCTL(KVM_GET_DIRTY_LOG, KEEL_COPY_IN, vm_keel_get_dirty_log),
	VM_IOCTL(KVM_CLEAR_DIRTY_LOG, KEEL_COPY_IN, vm_keel_clear_dirty_log),
	VM_IOCTL(KVM_RESET_DIRTY_RINGS, KEEL_COPY_NONE, reset_dirty_rings),
	VM_IOCTL(KVM_SET_TSS_ADDR, KEEL_COPY_NONE, set_tss_addr),
	VM_IOCTL(KVM_SET_IDENTITY_MAP_ADDR, KEEL_COPY_IN, set_identity_map_addr),
	VM_IOCTL(KVM_SET_BOOT_CPU_ID, KEEL_COPY_NONE, set_boot_cpu_id),
	VM_IOCTL(KVM_ENABLE_CAP, KEEL_COPY_IN, enable_cap),
	VM_IOCTL(KVM_CREATE_IRQCHIP, KEEL_COPY_NONE, create_irqchip),
	VM_IOCTL(KVM_GET_IRQCHIP, KEEL_COPY_INOUT, vm_get_irqchip),
	VM_IOCTL(KVM_SET_IRQCHIP, KEEL_COPY_IN, vm_set_irqchip),
	VM_IOCTL(KVM_CREATE_PIT, KEEL_COPY_NONE, create_pit),
	VM_IOCTL(KVM_CREATE_PIT2, KEEL_COPY_IN, create_pit2),
	VM_IOCTL(KVM_GET_PIT2, KEEL_COPY_OUT, vm_keel_ioctl_get_pit2),
	VM_IOCTL(KVM_SET_PIT2, KEEL_COPY_IN, vm_keel_ioctl_set_pit2),
	VM_IOCTL(KVM_REINJECT_CONTROL, KEEL_COPY_NONE, reinject_control),
	VM_IOCTL(KVM_IRQ_LINE, KEEL_COPY_IN, irq_line),
	VM_IOCTL(KVM_IRQ_LINE_STATUS, KEEL_COPY_INOUT, irq_line),
	VM_IOCTL(KVM_SET_GSI_ROUTING, KEEL_COPY_NONE, set_gsi_routing),
	VM_IOCTL(KVM_SIGNAL_MSI, KEEL_COPY_IN, vm_keel_ioctl_signal_msi),
	VM_IOCTL(KVM_IRQFD, KEEL_COPY_IN, vm_keel_ioctl_irqfd),
	VM_IOCTL(KVM_IOEVENTFD, KEEL_COPY_IN, vm_keel_ioctl_ioeventfd),
	VM_IOCTL(KVM_REGISTER_COALESCED_MMIO, KEEL_COPY_IN, vm_keel_ioctl_register_coalesced),
	VM_IOCTL(KVM_UNREGISTER_COALESCED_MMIO, KEEL_COPY_IN, vm_keel_ioctl_unregister_coalesced),
	VM_IOCTL(KVM_X86_SET_MSR_FILTER, KEEL_COPY_IN, vm_keel_ioctl_set_msr_filter),
	VM_IOCTL(KVM_GET_CLOCK, KEEL_COPY_OUT, vm_keel_ioctl_get_clock),
	VM_IOCTL(KVM_SET_CLOCK, KEEL_COPY_IN, vm_keel_ioctl_set_clock),
	VM_IOCTL(KVM_GET_TSC_KHZ, KEEL_COPY_NONE, vm_get_tsc_khz),
	VM_IOCTL(KVM_SET_TSC_KHZ, KEEL_COPY_NONE, vm_set_tsc_khz),
	VM_IOCTL(KVM_GET_NR_MMU_PAGES, KEEL_COPY_NONE, get_nr_mmu_pages),
	VM_IOCTL(KVM_SET_NR_MMU_PAGES, KEEL_COPY_NONE, set_nr_mmu_pages),
	VM_IOCTL(KVM_GET_STATS_FD, KEEL_COPY_NONE, vm_stats_fd),
};

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct keel_vm *vm = file->private_data;
	struct keel_ioctl_buf buf __uninitialized;
	long ret;
	int i;

	/* another process must not reach the creator's memory through us */
	if (vm->mm != current->mm || READ_ONCE(vm->dead))
		return -EIO;

	for (i = 0; i < ARRAY_SIZE(vm_ioctls); i++)
		if (vm_ioctls[i].cmd == cmd)
			break;
	if (i == ARRAY_SIZE(vm_ioctls))
		return -ENOTTY;

	ret = keel_ioctl_copy_in(&buf, cmd, vm_ioctls[i].copy, arg);
	if (ret)
		return ret;
	ret = vm_ioctls[i].fn(vm, buf.data, arg);
	return keel_ioctl_copy_out(&buf, cmd, vm_ioctls[i].copy, arg, ret);
}

const struct file_operations keel_vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};
