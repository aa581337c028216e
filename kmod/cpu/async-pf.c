// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous page faults: a guest whose memory the host has to fetch first
 * (swap, a file, userfaultfd) is told so, and runs another of its tasks meanwhile.
 *
 * "Not present" is a #PF whose CR2 is a token. A worker fetches the page, and
 * "ready" is an interrupt, with the token in the guest's memory. A guest that
 * cannot be told sleeps where it is, but interrupts get through to it.
 *
 * Documentation/virt/kvm/x86/msr.rst, MSR_KVM_ASYNC_PF_EN
 */
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <asm/apicdef.h>
#include <asm/kvm_para.h>

#include "../irq/irq.h"
#include "../irq/lapic.h"
#include "../keel.h"

#define ENABLED		(KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT)
#define RESERVED_BITS	GENMASK(5, 4)
#define MAX_FETCHES	64	/* of a vCPU; KVM's number */
#define MAX_IN_ALL	(WQ_MAX_ACTIVE / 2)	/* of all: no worker waits for another */
#define ALL_TOKENS	(~0U)	/* "ready" for whatever the guest waits for */

#define APF_FIELD(vcpu, field) \
	(((vcpu)->async_pf.en_msr & ~0x3fULL) + offsetof(struct kvm_vcpu_pv_apf_data, field))

enum fetch_state {
	FETCHING,
	FETCHED,	/* the vCPU frees it */
	FORGOTTEN,	/* the worker does */
};

/*
 * One page on its way. While it is, it holds a reference to the VM, and so the
 * vCPU; and one to the module, whose text the worker runs.
 */
struct fetch {
	struct work_struct work;
	struct list_head node;		/* [O] vcpu->async_pf.fetches */
	struct keel_vcpu *vcpu;
	gfn_t gfn;
	hva_t hva;
	bool write;
	bool told;			/* [O] the guest knows the token */
	u32 token;
	int state;			/* [A] enum fetch_state */
};

/* Unloading waits for it, so for a worker that has dropped its references. */
static struct workqueue_struct *fetch_wq;
static atomic_t in_all;

static bool enabled(const struct keel_vcpu *vcpu)
{
	return (vcpu->async_pf.en_msr & ENABLED) == ENABLED;
}

/* ---- the worker ---- */

static void get_page_remote(struct fetch *fetch)
{
	struct mm_struct *mm = fetch->vcpu->vm->mm;
	int locked = 1;

	/* the VMM is gone: nobody will miss the page */
	if (!mmget_not_zero(mm))
		return;
	mmap_read_lock(mm);
	/* whatever goes wrong meets the vCPU again, which then waits for it itself */
	keel_get_user_pages_remote(mm, fetch->hva, fetch->write ? FOLL_WRITE : 0, &locked);
	if (locked)
		mmap_read_unlock(mm);
	mmput(mm);
}

static void fetch_work(struct work_struct *work)
{
	struct fetch *fetch = container_of(work, struct fetch, work);
	struct keel_vcpu *vcpu = fetch->vcpu;

	get_page_remote(fetch);
	if (cmpxchg(&fetch->state, FETCHING, FETCHED) == FORGOTTEN) {
		kfree(fetch);
	} else {
		keel_request(vcpu, KEEL_REQ_ASYNC_PF);
		keel_vcpu_kick(vcpu);
	}
	atomic_dec(&vcpu->async_pf.in_flight);
	atomic_dec(&in_all);
	keel_vm_put(vcpu->vm);
	module_put(THIS_MODULE);
}

/* ---- the vCPU ---- */

static struct fetch *find(struct keel_vcpu *vcpu, gfn_t gfn)
{
	struct fetch *fetch;

	list_for_each_entry(fetch, &vcpu->async_pf.fetches, node)
		if (fetch->gfn == gfn && READ_ONCE(fetch->state) == FETCHING)
			return fetch;
	return NULL;
}

static struct fetch *start(struct keel_vcpu *vcpu, gfn_t gfn, hva_t hva, bool write)
{
	struct keel_async_pf *apf = &vcpu->async_pf;
	struct fetch *fetch;

	/*
	 * A VMM may leave its pages away for as long as it likes, and is not to
	 * keep those of others waiting: then they wait for theirs themselves.
	 * Nor may the guest pile up those that have come by never asking for them,
	 * or those that are still on their way by having them forgotten.
	 */
	if (apf->nr_fetches >= MAX_FETCHES || atomic_read(&apf->in_flight) >= MAX_FETCHES ||
	    !atomic_add_unless(&in_all, 1, MAX_IN_ALL))
		return NULL;
	fetch = kzalloc(sizeof(*fetch), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!fetch) {
		atomic_dec(&in_all);
		return NULL;
	}
	INIT_WORK(&fetch->work, fetch_work);
	fetch->vcpu = vcpu;
	fetch->gfn = gfn;
	fetch->hva = hva;
	fetch->write = write;
	/* told from those of other vCPUs, and never 0 */
	if (!(++apf->serial << 12))
		apf->serial = 1;
	fetch->token = apf->serial << 12 | vcpu->id;
	list_add_tail(&fetch->node, &apf->fetches);
	apf->nr_fetches++;
	atomic_inc(&apf->in_flight);
	keel_vm_get(vcpu->vm);
	__module_get(THIS_MODULE);
	queue_work(fetch_wq, &fetch->work);
	return fetch;
}

static void take_off(struct keel_vcpu *vcpu, struct fetch *fetch)
{
	list_del(&fetch->node);
	vcpu->async_pf.nr_fetches--;
}

static void forget_all(struct keel_vcpu *vcpu)
{
	struct fetch *fetch, *next;

	list_for_each_entry_safe(fetch, next, &vcpu->async_pf.fetches, node) {
		take_off(vcpu, fetch);
		if (cmpxchg(&fetch->state, FETCHING, FORGOTTEN) == FETCHED)
			kfree(fetch);
	}
}

/* Tell the guest of the page, if it takes the #PF here. */
static bool tell(struct keel_vcpu *vcpu, struct fetch *fetch)
{
	u32 reason = KVM_PV_REASON_PAGE_NOT_PRESENT;

	if (!(vcpu->async_pf.en_msr & KVM_ASYNC_PF_SEND_ALWAYS) && !keel_cpl(vcpu))
		return false;
	if (keel_guest_write(vcpu, APF_FIELD(vcpu, flags), &reason, sizeof(reason)))
		return false;
	fetch->told = true;
	vcpu->stats.async_pf_not_present++;
	keel_queue_page_fault(vcpu, fetch->token, 0);
	return true;
}

/* Until the page is there, or somebody wants something of the vCPU. */
static void sleep_on(struct keel_vcpu *vcpu, struct fetch *fetch)
{
	/* a signal: the run loop sees it as well */
	rcuwait_wait_event(&vcpu->wait,
			   READ_ONCE(fetch->state) != FETCHING ||
			   READ_ONCE(vcpu->requests) || READ_ONCE(vcpu->vm->dead) ||
			   READ_ONCE(keel_rebooting),
			   TASK_INTERRUPTIBLE);
}

/**
 * keel_async_pf_possible() - would waiting for a page be worth avoiding here?
 * @vcpu: the vCPU
 *
 * A #PF must not meet another event, and "ready" is an interrupt: with those
 * disabled, whatever the guest does next waits for the page.
 *
 * Context: vCPU loaded, mutex held.
 */
bool keel_async_pf_possible(struct keel_vcpu *vcpu)
{
	return unlikely(enabled(vcpu)) && vcpu->lapic && !keel_event_in_delivery(vcpu) &&
	       !vcpu->events.exception.pending && keel_irq_allowed(vcpu);
}

/**
 * keel_async_pf_start() - fetch a page, and let the guest go on
 * @vcpu: the vCPU, of which keel_async_pf_possible() is true
 * @gfn: the guest's frame
 * @hva: the VMM's address
 * @write: the guest writes
 *
 * Context: vCPU loaded, mutex held, may sleep.
 * Return: whether it may; otherwise the page has to be waited for here.
 */
bool keel_async_pf_start(struct keel_vcpu *vcpu, gfn_t gfn, hva_t hva, bool write)
{
	struct fetch *fetch = find(vcpu, gfn);

	if (!fetch) {
		fetch = start(vcpu, gfn, hva, write);
		if (!fetch)
			return false;
		if (tell(vcpu, fetch))
			return true;
	}
	sleep_on(vcpu, fetch);
	return true;
}

/* Return: whether the guest has taken what it was told last. */
static bool send_ready(struct keel_vcpu *vcpu, u32 token)
{
	struct keel_apic_msg msg = {
		.mode = APIC_DM_FIXED,
		.vector = vcpu->async_pf.int_msr & KVM_ASYNC_PF_VEC_MASK,
	};
	gpa_t gpa = APF_FIELD(vcpu, token);
	u32 last;

	if (!keel_lapic_hw_enabled(vcpu->lapic) || !keel_lapic_sw_enabled(vcpu->lapic) ||
	    keel_guest_read(vcpu->vm, gpa, &last, sizeof(last)) || last ||
	    keel_guest_write(vcpu, gpa, &token, sizeof(token)))
		return false;
	vcpu->stats.async_pf_ready++;
	keel_lapic_accept(vcpu->lapic, &msg);
	return true;
}

/**
 * keel_async_pf_deliver() - tell the guest of pages that have come
 * @vcpu: the vCPU
 *
 * For KEEL_REQ_ASYNC_PF. One at a time: the guest clears the token and asks for
 * more by MSR_KVM_ASYNC_PF_ACK.
 *
 * Context: vCPU loaded, mutex held, may sleep.
 */
void keel_async_pf_deliver(struct keel_vcpu *vcpu)
{
	struct keel_async_pf *apf = &vcpu->async_pf;
	struct fetch *fetch, *next;

	if (apf->wake_all && enabled(vcpu))
		apf->wake_all = !send_ready(vcpu, ALL_TOKENS);
	list_for_each_entry_safe(fetch, next, &apf->fetches, node) {
		if (READ_ONCE(fetch->state) != FETCHED)
			continue;
		if (fetch->told && !send_ready(vcpu, fetch->token))
			continue;
		take_off(vcpu, fetch);
		kfree(fetch);
	}
}

/* ---- MSRs ---- */

static int set_en(struct keel_vcpu *vcpu, u64 value)
{
	struct keel_async_pf *apf = &vcpu->async_pf;

	if ((value & RESERVED_BITS) ||
	    ((value & KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT) &&
	     !keel_pv_has(vcpu, KVM_FEATURE_ASYNC_PF_VMEXIT)) ||
	    ((value & KVM_ASYNC_PF_DELIVERY_AS_INT) &&
	     !keel_pv_has(vcpu, KVM_FEATURE_ASYNC_PF_INT)))
		return -EINVAL;
	if (!vcpu->lapic)
		return value ? -EINVAL : 0;
	/* as stock KVM, it wants memory there */
	if ((value & ENABLED) == ENABLED &&
	    !keel_guest_has_ram(vcpu->vm, keel_gfn(value), true))
		return -EINVAL;
	apf->en_msr = value;
	if (!enabled(vcpu)) {
		forget_all(vcpu);
		apf->wake_all = false;
		return 0;
	}
	/* a guest that was restored waits for what its former host was fetching */
	apf->wake_all = true;
	keel_request(vcpu, KEEL_REQ_ASYNC_PF);
	return 0;
}

/**
 * keel_async_pf_set_msr() - write MSR_KVM_ASYNC_PF_{EN,INT,ACK}
 * @vcpu: the vCPU
 * @msr: which
 * @value: its value
 *
 * Context: vCPU loaded, mutex held, may sleep.
 * Return: 0 or -EINVAL.
 */
int keel_async_pf_set_msr(struct keel_vcpu *vcpu, u32 msr, u64 value)
{
	if (!keel_pv_has(vcpu, msr == MSR_KVM_ASYNC_PF_EN ? KVM_FEATURE_ASYNC_PF :
							   KVM_FEATURE_ASYNC_PF_INT))
		return -EINVAL;
	switch (msr) {
	case MSR_KVM_ASYNC_PF_EN:
		return set_en(vcpu, value);
	case MSR_KVM_ASYNC_PF_INT:
		/* QEMU restores a 0 without looking for a LAPIC */
		if ((value & ~KVM_ASYNC_PF_VEC_MASK) || (value && !vcpu->lapic))
			return -EINVAL;
		vcpu->async_pf.int_msr = value;
		return 0;
	default:
		if (value & 1)
			keel_request(vcpu, KEEL_REQ_ASYNC_PF);
		return 0;
	}
}

/**
 * keel_async_pf_get_msr() - read MSR_KVM_ASYNC_PF_{EN,INT,ACK}
 * @vcpu: the vCPU
 * @msr: which
 * @value: out
 *
 * Return: 0 or -EINVAL.
 */
int keel_async_pf_get_msr(struct keel_vcpu *vcpu, u32 msr, u64 *value)
{
	if (!keel_pv_has(vcpu, msr == MSR_KVM_ASYNC_PF_EN ? KVM_FEATURE_ASYNC_PF :
							   KVM_FEATURE_ASYNC_PF_INT))
		return -EINVAL;
	switch (msr) {
	case MSR_KVM_ASYNC_PF_EN:
		*value = vcpu->async_pf.en_msr;
		break;
	case MSR_KVM_ASYNC_PF_INT:
		*value = vcpu->async_pf.int_msr;
		break;
	default:
		*value = 0;
	}
	return 0;
}

/* ---- life ---- */

/**
 * keel_async_pf_vcpu_init() - a new vCPU, before its first reset
 * @vcpu: the vCPU
 */
void keel_async_pf_vcpu_init(struct keel_vcpu *vcpu)
{
	INIT_LIST_HEAD(&vcpu->async_pf.fetches);
}

/**
 * keel_async_pf_reset() - reset, INIT, or the vCPU's end: the guest waits for nothing
 * @vcpu: the vCPU
 */
void keel_async_pf_reset(struct keel_vcpu *vcpu)
{
	forget_all(vcpu);
	vcpu->async_pf.en_msr = 0;
	vcpu->async_pf.int_msr = 0;
	vcpu->async_pf.wake_all = false;
}

/**
 * keel_async_pf_init() - the module is loaded
 *
 * Return: 0 or -ENOMEM.
 */
int keel_async_pf_init(void)
{
	/* they sleep, and for as long as a VMM likes: as many as there can be */
	fetch_wq = alloc_workqueue("keel_async_pf", WQ_UNBOUND, WQ_MAX_ACTIVE);
	return fetch_wq ? 0 : -ENOMEM;
}

/* The module goes; no VM is left. */
void keel_async_pf_exit(void)
{
	destroy_workqueue(fetch_wq);
}
