// SPDX-License-Identifier: GPL-2.0-only
/*
 * irqfd: an eventfd that drives a GSI. ioeventfd: a guest's write that
 * signals an eventfd.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "../keel.h"
#include "chips.h"

/* ---- irqfd ---- */

/*
 * struct resampler - what level-triggered irqfds of one GSI share
 *
 * The line goes up with any of their eventfds, and down when the guest ends
 * the interrupt; then all are told, and raise it again if they still have to.
 */
struct resampler {
	struct keel_vm *vm;
	struct list_head node;		/* irq->resamplers; irqfd_lock */
	struct list_head irqfds;	/* irqfd_lock; read under irq_srcu */
	struct keel_ack_notifier notifier;
};

/*
 * struct irqfd - one eventfd, hooked into its wait queue
 *
 * On vm->irqfds as long as it is active. Who takes it off that list (DEASSIGN,
 * the eventfd's end, the VM's end) shuts it down.
 */
struct irqfd {
	struct keel_vm *vm;
	u32 gsi;
	struct eventfd_ctx *ctx;
	struct list_head node;		/* vm->irqfds; irqfds_lock */
	wait_queue_entry_t wait;
	poll_table pt;
	struct work_struct shutdown;
	struct resampler *resampler;	/* or NULL; [C] */
	struct eventfd_ctx *resamplefd;
	struct list_head resampler_node;
};

static void irqfd_inject(struct irqfd *f)
{
	if (f->resampler) {
		keel_set_irq(f->vm, KEEL_IRQ_SOURCE_RESAMPLE, f->gsi, 1);
		return;
	}
	keel_set_irq(f->vm, KEEL_IRQ_SOURCE_USERSPACE, f->gsi, 1);
	keel_set_irq(f->vm, KEEL_IRQ_SOURCE_USERSPACE, f->gsi, 0);
}

/*
 * The eventfd is gone. Queued under the lock: or keel_irqfd_release(), which
 * flushes the queue, could find the irqfd neither on the list nor in the queue.
 */
static void irqfd_hangup(struct irqfd *f)
{
	unsigned long flags;

	spin_lock_irqsave(&f->vm->irqfds_lock, flags);
	if (!list_empty(&f->node)) {
		list_del_init(&f->node);
		queue_work(f->vm->irq->irqfd_wq, &f->shutdown);
	}
	spin_unlock_irqrestore(&f->vm->irqfds_lock, flags);
}

/* Return: was it active? Then it is the caller's to shut down. */
static bool irqfd_deactivate(struct irqfd *f)
{
	unsigned long flags;
	bool active;

	spin_lock_irqsave(&f->vm->irqfds_lock, flags);
	active = !list_empty(&f->node);
	list_del_init(&f->node);
	spin_unlock_irqrestore(&f->vm->irqfds_lock, flags);
	return active;
}

/* The eventfd was signalled or closed: its lock is held, interrupts are off. */
static int irqfd_wakeup(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *f = container_of(wait, struct irqfd, wait);
	__poll_t events = key_to_poll(key);
	int ret = 0;
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(f->ctx, &count);
		irqfd_inject(f);
		ret = 1;
	}
	if (events & EPOLLHUP)
		irqfd_hangup(f);
	return ret;
}

static void irqfd_queue(struct file *file, wait_queue_head_t *wqh, poll_table *pt)
{
	struct irqfd *f = container_of(pt, struct irqfd, pt);

	/* before all others: what it took, no reader is woken for */
	add_wait_queue_priority(wqh, &f->wait);
}

static void resampler_acked(struct keel_ack_notifier *n)
{
	struct resampler *r = container_of(n, struct resampler, notifier);
	struct irqfd *f;

	keel_set_irq(r->vm, KEEL_IRQ_SOURCE_RESAMPLE, n->gsi, 0);
	list_for_each_entry_srcu(f, &r->irqfds, resampler_node,
				 srcu_read_lock_held(&r->vm->irq_srcu))
		keel_eventfd_signal(f->resamplefd);
}

/* irqfd_lock held. */
static int resampler_attach(struct irqfd *f)
{
	struct keel_irq *irq = f->vm->irq;
	struct resampler *r;

	list_for_each_entry(r, &irq->resamplers, node)
		if (r->notifier.gsi == f->gsi)
			goto found;
	r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);
	if (!r)
		return -ENOMEM;
	r->vm = f->vm;
	INIT_LIST_HEAD(&r->irqfds);
	r->notifier.gsi = f->gsi;
	r->notifier.acked = resampler_acked;
	list_add(&r->node, &irq->resamplers);
	keel_ack_notifier_add(f->vm, &r->notifier);
found:
	f->resampler = r;
	list_add_rcu(&f->resampler_node, &r->irqfds);
	return 0;
}

/* irqfd_lock held. On return nobody signals the resamplefd any more. */
static void resampler_detach(struct irqfd *f)
{
	struct resampler *r = f->resampler;

	list_del_rcu(&f->resampler_node);
	if (!list_empty(&r->irqfds)) {
		synchronize_srcu_expedited(&f->vm->irq_srcu);
		return;
	}
	list_del(&r->node);
	keel_ack_notifier_remove(f->vm, &r->notifier);	/* waits, too */
	keel_set_irq(f->vm, KEEL_IRQ_SOURCE_RESAMPLE, f->gsi, 0);
	kfree(r);
}

static void irqfd_free(struct irqfd *f)
{
	if (f->resamplefd)
		eventfd_ctx_put(f->resamplefd);
	if (f->ctx)
		eventfd_ctx_put(f->ctx);
	kfree(f);
}

/* It is off vm->irqfds. irqfd_lock held. */
static void irqfd_shutdown(struct irqfd *f)
{
	u64 count;

	/* takes the eventfd's lock: after this no wake-up is under way */
	eventfd_ctx_remove_wait_queue(f->ctx, &f->wait, &count);
	if (f->resampler)
		resampler_detach(f);
	irqfd_free(f);
}

static void irqfd_shutdown_work(struct work_struct *work)
{
	struct irqfd *f = container_of(work, struct irqfd, shutdown);
	struct keel_irq *irq = f->vm->irq;

	mutex_lock(&irq->irqfd_lock);
	irqfd_shutdown(f);
	mutex_unlock(&irq->irqfd_lock);
}

/* Make it active. irqfd_lock held. */
static int irqfd_activate(struct irqfd *f)
{
	struct keel_vm *vm = f->vm;
	struct irqfd *other;
	int err = 0;

	/* for eventfds that are closed first; an unbound queue has no thread */
	if (!vm->irq->irqfd_wq)
		vm->irq->irqfd_wq = alloc_workqueue("keel-irqfd", WQ_UNBOUND, 0);
	if (!vm->irq->irqfd_wq)
		return -ENOMEM;

	spin_lock_irq(&vm->irqfds_lock);
	list_for_each_entry(other, &vm->irqfds, node)
		if (other->ctx == f->ctx)
			err = -EBUSY;
	if (!err)
		list_add_tail(&f->node, &vm->irqfds);
	spin_unlock_irq(&vm->irqfds_lock);
	return err;
}

static int irqfd_hook(struct irqfd *f, struct file *file, bool resample)
{
	struct keel_irq *irq = f->vm->irq;
	int err;

	mutex_lock(&irq->irqfd_lock);
	err = irqfd_activate(f);
	if (err)
		goto out;
	if (resample) {
		err = resampler_attach(f);
		if (err) {
			irqfd_deactivate(f);
			goto out;
		}
	}
	/* we hold the file: it cannot be closed before we are through */
	if (vfs_poll(file, &f->pt) & EPOLLIN)
		irqfd_inject(f);	/* signalled before we came */
out:
	mutex_unlock(&irq->irqfd_lock);
	return err;
}

static struct irqfd *irqfd_alloc(struct keel_vm *vm, const struct kvm_irqfd *args)
{
	struct irqfd *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);

	if (!f)
		return NULL;
	f->vm = vm;
	f->gsi = args->gsi;
	INIT_LIST_HEAD(&f->node);
	INIT_WORK(&f->shutdown, irqfd_shutdown_work);
	init_waitqueue_func_entry(&f->wait, irqfd_wakeup);
	init_poll_funcptr(&f->pt, irqfd_queue);
	return f;
}

static int irqfd_assign(struct keel_vm *vm, const struct kvm_irqfd *args)
{
	bool resample = args->flags & KVM_IRQFD_FLAG_RESAMPLE;
	struct eventfd_ctx *ctx;
	struct irqfd *f;
	struct file *file;
	int err;

	if (READ_ONCE(vm->irqchip) == KEEL_IRQCHIP_NONE)
		return -EINVAL;
	/* without the IOAPIC here nobody knows when the guest ends it */
	if (resample && vm->irqchip != KEEL_IRQCHIP_KERNEL)
		return -EINVAL;
	file = fget(args->fd);
	if (!file)
		return -EBADF;
	f = irqfd_alloc(vm, args);
	err = -ENOMEM;
	if (!f)
		goto out_file;
	ctx = eventfd_ctx_fileget(file);
	err = PTR_ERR_OR_ZERO(ctx);
	if (err)
		goto out;
	f->ctx = ctx;
	if (resample) {
		ctx = eventfd_ctx_fdget(args->resamplefd);
		err = PTR_ERR_OR_ZERO(ctx);
		if (err)
			goto out;
		f->resamplefd = ctx;
	}
	err = irqfd_hook(f, file, resample);
out:
	if (err)
		irqfd_free(f);
out_file:
	fput(file);
	return err;
}

/* Shut down those of @ctx and @gsi; of any when @ctx is NULL. */
static void irqfd_remove(struct keel_vm *vm, struct eventfd_ctx *ctx, u32 gsi)
{
	struct keel_irq *irq = vm->irq;
	struct irqfd *f, *found;

	mutex_lock(&irq->irqfd_lock);
	do {
		found = NULL;
		spin_lock_irq(&vm->irqfds_lock);
		list_for_each_entry(f, &vm->irqfds, node) {
			if (ctx && (f->ctx != ctx || f->gsi != gsi))
				continue;
			list_del_init(&f->node);
			found = f;
			break;
		}
		spin_unlock_irq(&vm->irqfds_lock);
		if (found)
			irqfd_shutdown(found);
	} while (found);
	mutex_unlock(&irq->irqfd_lock);
	/* whose eventfd was closed a moment ago */
	if (irq->irqfd_wq)
		flush_workqueue(irq->irqfd_wq);
}

/**
 * keel_ioctl_irqfd() - KVM_IRQFD
 * @vm: the VM
 * @args: checked copy of the argument
 *
 * Return: 0, -EINVAL (unknown flag, GSI out of range, not an eventfd, no
 * in-kernel LAPICs, resampling without IOAPIC), -EBADF, -EBUSY (that eventfd
 * drives a GSI already), -ENOMEM.
 */
int keel_ioctl_irqfd(struct keel_vm *vm, const struct kvm_irqfd *args)
{
	struct eventfd_ctx *ctx;

	if (args->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (args->gsi >= KEEL_MAX_GSI)
		return -EINVAL;
	if (!(args->flags & KVM_IRQFD_FLAG_DEASSIGN))
		return irqfd_assign(vm, args);

	ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	irqfd_remove(vm, ctx, args->gsi);
	eventfd_ctx_put(ctx);
	return 0;
}

void keel_irqfd_release(struct keel_vm *vm)
{
	irqfd_remove(vm, NULL, 0);
}

/* ---- ioeventfd ---- */

struct ioeventfd {
	struct list_head node;		/* vm->ioeventfds; slots_lock */
	struct keel_bus_dev dev;
	struct eventfd_ctx *ctx;
	gpa_t addr;
	u32 len;			/* 0: any */
	int bus;
	bool match;			/* only when the data is... */
	u64 data;
};

static u64 load(const void *data, int len)
{
	u64 value = 0;

	memcpy(&value, data, min_t(int, len, sizeof(value)));
	return value;
}

static int ioeventfd_write(struct keel_bus_dev *dev, gpa_t addr, int len, const void *data)
{
	struct ioeventfd *f = container_of(dev, struct ioeventfd, dev);

	if (addr != f->addr || (f->len && len != f->len))
		return -EOPNOTSUPP;
	if (f->match && load(data, len) != f->data)
		return -EOPNOTSUPP;
	keel_eventfd_signal(f->ctx);
	return 0;
}

static const struct keel_bus_ops ioeventfd_ops = { .write = ioeventfd_write };

/* Would one write signal both? */
static bool collides(const struct ioeventfd *a, const struct ioeventfd *b)
{
	if (a->bus != b->bus || a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (!a->match || !b->match || a->data == b->data);
}

static int ioeventfd_add(struct keel_vm *vm, struct ioeventfd *f)
{
	struct ioeventfd *other;
	int err = 0;

	mutex_lock(&vm->slots_lock);
	list_for_each_entry(other, &vm->ioeventfds, node)
		if (collides(other, f))
			err = -EEXIST;
	if (!err)
		err = keel_bus_add(vm, f->bus, f->addr, f->len, &f->dev);
	if (!err)
		list_add_tail(&f->node, &vm->ioeventfds);
	mutex_unlock(&vm->slots_lock);
	return err;
}

static int ioeventfd_remove(struct keel_vm *vm, const struct ioeventfd *which)
{
	struct ioeventfd *f, *found = NULL;

	mutex_lock(&vm->slots_lock);
	list_for_each_entry(f, &vm->ioeventfds, node) {
		if (f->ctx != which->ctx || f->bus != which->bus ||
		    f->addr != which->addr || f->len != which->len ||
		    f->match != which->match || (f->match && f->data != which->data))
			continue;
		found = f;
		keel_bus_remove(vm, f->bus, &f->dev);
		list_del(&f->node);
		break;
	}
	mutex_unlock(&vm->slots_lock);
	if (!found)
		return -ENOENT;
	eventfd_ctx_put(found->ctx);
	kfree(found);
	return 0;
}

static int ioeventfd_check(const struct kvm_ioeventfd *args)
{
	const u32 flags = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
			  KVM_IOEVENTFD_FLAG_DEASSIGN;

	if (args->flags & ~flags)
		return -EINVAL;
	if (args->len > 8 || (args->len & (args->len - 1)))
		return -EINVAL;
	if (args->addr + args->len < args->addr)
		return -EINVAL;
	/* an address alone has no data to match */
	if (!args->len && (args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	return 0;
}

/**
 * keel_ioctl_ioeventfd() - KVM_IOEVENTFD
 * @vm: the VM
 * @args: checked copy of the argument
 *
 * Return: 0, -EINVAL, -EBADF, -EEXIST (another eventfd would be signalled by
 * the same write), -ENOENT (nothing such to deassign), -ENOMEM.
 */
int keel_ioctl_ioeventfd(struct keel_vm *vm, const struct kvm_ioeventfd *args)
{
	struct ioeventfd *f;
	int err;

	err = ioeventfd_check(args);
	if (err)
		return err;
	f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(f->ctx)) {
		err = PTR_ERR(f->ctx);
		kfree(f);
		return err;
	}
	f->dev.ops = &ioeventfd_ops;
	f->addr = args->addr;
	f->len = args->len;
	f->bus = args->flags & KVM_IOEVENTFD_FLAG_PIO ? KEEL_BUS_PIO : KEEL_BUS_MMIO;
	f->match = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
	f->data = args->datamatch;

	if (!(args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)) {
		err = ioeventfd_add(vm, f);
		if (!err)
			return 0;
	} else {
		err = ioeventfd_remove(vm, f);
	}
	eventfd_ctx_put(f->ctx);
	kfree(f);
	return err;
}

/* The VM's end: no vCPU runs, the buses are about to go. */
void keel_eventfd_destroy(struct keel_vm *vm)
{
	struct ioeventfd *f, *next;

	keel_irqfd_release(vm);
	if (vm->irq->irqfd_wq)
		destroy_workqueue(vm->irq->irqfd_wq);
	list_for_each_entry_safe(f, next, &vm->ioeventfds, node) {
		eventfd_ctx_put(f->ctx);
		kfree(f);
	}
	INIT_LIST_HEAD(&vm->ioeventfds);
}
