// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals, rescheduling and task work before a return to the guest.
 *
 * The kernel's helper is there for hypervisors, but takes KVM's own vCPU, in
 * whose run page it notes a signal. It gets one that nobody reads; only this
 * file sees KVM's headers.
 */
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>

#include "guest.h"

DEFINE_PER_CPU(unsigned long, keel_rcu_told);

static struct kvm_run nobodys_run;
static struct kvm_vcpu nobodys_vcpu = { .run = &nobodys_run };

int keel_guest_work(void)
{
	return xfer_to_guest_mode_handle_work(&nobodys_vcpu);
}
