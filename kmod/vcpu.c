// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU's life, its binding to a physical CPU, and how others get its
 * attention.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/slab.h>

#include "keel.h"
#include "irq/irq.h"

/* ---- binding to a CPU ---- */

static void vcpu_sched_in(struct preempt_notifier *pn, int cpu)
{
	struct keel_vcpu *vcpu = container_of(pn, struct keel_vcpu, preempt);

	WRITE_ONCE(vcpu->preempted, false);
	WRITE_ONCE(vcpu->cpu, cpu);
	keel_backend->vcpu_load(vcpu, cpu);
	keel_clock_load(vcpu);
	keel_steal_load(vcpu);
}

static void vcpu_sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	struct keel_vcpu *vcpu = container_of(pn, struct keel_vcpu, preempt);

	keel_backend->vcpu_put(vcpu);
	WRITE_ONCE(vcpu->cpu, -1);
	if (keel_task_is_runnable(current)) {
		WRITE_ONCE(vcpu->preempted, true);
		keel_steal_preempted(vcpu);
	}
}

static struct preempt_ops vcpu_preempt_ops = {
	.sched_in = vcpu_sched_in,
	.sched_out = vcpu_sched_out,
};

void keel_vcpu_load(struct keel_vcpu *vcpu)
{
	int cpu = get_cpu();

	preempt_notifier_register(&vcpu->preempt);
	WRITE_ONCE(vcpu->cpu, cpu);
	keel_backend->vcpu_load(vcpu, cpu);
	keel_clock_load(vcpu);
	keel_steal_load(vcpu);
	put_cpu();
}

void keel_vcpu_put(struct keel_vcpu *vcpu)
{
	preempt_disable();
	keel_backend->vcpu_put(vcpu);
	WRITE_ONCE(vcpu->cpu, -1);
	preempt_notifier_unregister(&vcpu->preempt);
	preempt_enable();
}

void keel_vcpu_kick(struct keel_vcpu *vcpu)
{
	struct task_struct *task;

	/*
	 * The caller's request is ordered before this by keel_request(). A
	 * vCPU that goes to sleep queues itself and then looks at requests; one
	 * that enters sets its mode and then looks at them.
	 */
	smp_mb();
	rcu_read_lock();
	rcuwait_wake_up(&vcpu->wait);
	if (READ_ONCE(vcpu->mode) == KEEL_IN_GUEST) {
		/* The reschedule IPI does nothing but make the guest exit. */
		task = rcu_dereference(vcpu->task);
		if (task)
			kick_process(task);
	}
	rcu_read_unlock();
}

/* ---- reset ---- */

void keel_vcpu_reset(struct keel_vcpu *vcpu, bool init)
{
	memset(&vcpu->events, 0, sizeof(vcpu->events));
	atomic_set(&vcpu->nmi_queued, 0);
	WRITE_ONCE(vcpu->pv.unhalted, false);
	keel_regs_reset(vcpu, init);
	keel_msrs_reset(vcpu, init);
	keel_fpu_reset(vcpu, init);
	keel_async_pf_reset(vcpu);
	if (vcpu->lapic)
		keel_lapic_reset(vcpu, init);
	keel_backend->vcpu_reset(vcpu, init);
	if (vcpu->debug.control)
		keel_debug_update(vcpu);
	keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	keel_request(vcpu, KEEL_REQ_MSR_FILTER);
	keel_request(vcpu, KEEL_REQ_EVENT);
}

/* SDM vol. 3 "Typical BSP Initialization Sequence": SIPI's vector is a page. */
void keel_vcpu_deliver_sipi(struct keel_vcpu *vcpu, u8 vector)
{
	struct kvm_segment *cs = &vcpu->regs.seg[KEEL_CS];

	keel_change(vcpu, KEEL_CS_SS | KEEL_RIP);
	cs->selector = vector << 8;
	cs->base = vector << 12;
	vcpu->regs.rip = 0;
}

/* ---- creation ---- */

void keel_vcpu_free(struct keel_vcpu *vcpu)
{
	keel_lapic_free(vcpu);
	if (vcpu->hw_ready)
		keel_backend->vcpu_destroy(vcpu);
	keel_async_pf_reset(vcpu);
	keel_fpu_free(vcpu);
	keel_cpuid_vcpu_free(vcpu);
	keel_table_cache_free(&vcpu->table_cache);
	keel_dirty_ring_free(vcpu);
	free_page((unsigned long)vcpu->run);
	free_page((unsigned long)vcpu->pio_page);
	kvfree(vcpu);
}

static struct keel_vcpu *vcpu_alloc(struct keel_vm *vm, u32 id)
{
	struct keel_vcpu *vcpu;
	int err = -ENOMEM;

	vcpu = kvzalloc(keel_backend->vcpu_size, GFP_KERNEL_ACCOUNT);
	if (!vcpu)
		return ERR_PTR(-ENOMEM);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->disabled_exits = vm->disabled_exits;
	vcpu->cpu = -1;
	mutex_init(&vcpu->mutex);
	rcuwait_init(&vcpu->wait);
	preempt_notifier_init(&vcpu->preempt, &vcpu_preempt_ops);
	keel_cpuid_vcpu_init(vcpu);
	keel_async_pf_vcpu_init(vcpu);

	vcpu->run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vcpu->pio_page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vcpu->run || !vcpu->pio_page)
		goto out;
	err = keel_dirty_ring_alloc(vcpu);
	if (err)
		goto out;
	err = keel_fpu_init(vcpu);
	if (err)
		goto out;
	err = keel_backend->vcpu_create(vcpu);
	if (err)
		goto out;
	vcpu->hw_ready = true;
	keel_tlb_model_vcpu(vcpu);
	if (vm->irqchip != KEEL_IRQCHIP_NONE) {
		err = keel_lapic_create(vcpu);
		if (err)
			goto out;
	}
	return vcpu;
out:
	keel_vcpu_free(vcpu);
	return ERR_PTR(err);
}

static void vcpu_first_reset(struct keel_vcpu *vcpu)
{
	struct keel_vm *vm = vcpu->vm;

	mutex_lock(&vcpu->mutex);
	keel_vcpu_load(vcpu);
	keel_vcpu_reset(vcpu, false);
	keel_tsc_init(vcpu);
	keel_vcpu_put(vcpu);
	mutex_unlock(&vcpu->mutex);

	/* an AP of a VM with LAPICs waits for INIT and SIPI */
	vcpu->mp_state = !vcpu->lapic || vcpu->id == vm->bsp_id ?
			 KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
}

/**
 * keel_vcpu_create() - KVM_CREATE_VCPU
 * @vm: the VM
 * @id: the vCPU's number and initial APIC ID
 *
 * Return: a file descriptor, -EINVAL (id or count too large), -EEXIST,
 * -ENOMEM, -EMFILE.
 */
int keel_vcpu_create(struct keel_vm *vm, unsigned long id)
{
	struct keel_vcpu *vcpu;
	struct file *file;
	int fd, err;

	if (id >= KEEL_MAX_VCPU_ID)
		return -EINVAL;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	mutex_lock(&vm->lock);
	err = -EINVAL;
	if (vm->nr_vcpus >= KEEL_MAX_VCPUS || id >= (vm->max_vcpu_id ?: KEEL_MAX_VCPU_ID))
		goto out_unlock;
	err = -EEXIST;
	if (keel_vcpu_by_id(vm, id))
		goto out_unlock;
	vcpu = vcpu_alloc(vm, id);
	err = PTR_ERR_OR_ZERO(vcpu);
	if (err)
		goto out_unlock;
	vcpu_first_reset(vcpu);

	file = anon_inode_getfile("kvm-vcpu", &keel_vcpu_fops, vcpu, O_RDWR);
	err = PTR_ERR_OR_ZERO(file);
	if (err)
		goto out_free;
	keel_vm_get(vm);	/* the file's */

	/* from here on interrupts may be sent to it */
	err = xa_err(xa_store(&vm->vcpus, id, vcpu, GFP_KERNEL_ACCOUNT));
	if (err) {
		/* the release of the file must not find a vCPU that is gone */
		file->private_data = NULL;
		fput(file);
		keel_vm_put(vm);
		goto out_free;
	}
	vm->nr_vcpus++;
	keel_lapic_publish(vcpu);
	mutex_unlock(&vm->lock);
	fd_install(fd, file);
	return fd;

out_free:
	keel_vcpu_free(vcpu);
out_unlock:
	mutex_unlock(&vm->lock);
	put_unused_fd(fd);
	return err;
}

/* ---- the mapping: run page, port data, coalesced ring, dirty ring ---- */

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct keel_vcpu *vcpu = vmf->vma->vm_file->private_data;
	struct page *page;

	switch (vmf->pgoff) {
	case 0:
		page = virt_to_page(vcpu->run);
		break;
	case KVM_PIO_PAGE_OFFSET:
		page = virt_to_page(vcpu->pio_page);
		break;
	case KVM_COALESCED_MMIO_PAGE_OFFSET:
		page = virt_to_page(vcpu->vm->coalesced_ring);
		break;
	default:
		page = keel_dirty_ring_page(vcpu, vmf->pgoff);
		if (!page)
			return VM_FAULT_SIGBUS;
	}
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = {
	.fault = vcpu_fault,
};

int keel_vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct keel_vcpu *vcpu = file->private_data;
	unsigned long last = vma->vm_pgoff + vma_pages(vma) - 1;

	/* as KVM: a private copy of the ring would tell nobody anything */
	if ((keel_in_dirty_ring(vcpu->vm, vma->vm_pgoff) || keel_in_dirty_ring(vcpu->vm, last)) &&
	    ((vma->vm_flags & VM_EXEC) || !(vma->vm_flags & VM_SHARED)))
		return -EINVAL;
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

int keel_vcpu_release(struct inode *inode, struct file *file)
{
	struct keel_vcpu *vcpu = file->private_data;

	/* the vCPU itself lives as long as its VM: others may still send to it */
	if (vcpu)
		keel_vm_put(vcpu->vm);
	return 0;
}
