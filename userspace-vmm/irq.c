// SPDX-License-Identifier: GPL-2.0-only
/*
 * What devices on PCI do that does not pass through this program: MSIs
 * from eventfds, eventfds from the guest's stores, memory in a BAR.
 */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "machine.h"

#define PIC_PINS 8
#define IOAPIC_PINS 24
#define SLOT_BAR 2	/* those of machine.c come before */
#define FIXED_ROUTES (2 * PIC_PINS + IOAPIC_PINS)

/*
 * Setting a route sets all of them, so those that the hypervisor started with
 * are repeated: ISA interrupts go to both kinds of controllers.
 */
static void fixed_routes(struct kvm_irq_routing *table)
{
	unsigned int i;

	for (i = 0; i < FIXED_ROUTES; i++) {
		struct kvm_irq_routing_entry *e = &table->entries[table->nr++];

		e->type = KVM_IRQ_ROUTING_IRQCHIP;
		if (i < 2 * PIC_PINS) {
			e->gsi = i;
			e->u.irqchip.irqchip = i / PIC_PINS;
			e->u.irqchip.pin = i % PIC_PINS;
		} else {
			e->gsi = i - 2 * PIC_PINS;
			e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
			e->u.irqchip.pin = e->gsi;
		}
	}
}

static int set_route(struct machine *m, const struct msix_vector *v,
		     struct err *err)
{
	struct kvm_irq_routing *table = m->routes;
	struct kvm_irq_routing_entry *e;
	u32 i;

	if (!table) {
		table = calloc(1, sizeof(*table) +
			       (FIXED_ROUTES + PCI_SLOTS * MSIX_VECTORS) * sizeof(*e));
		if (!table)
			return err_sys(err, "cannot allocate interrupt routes");
		m->routes = table;
		fixed_routes(table);
	}
	for (i = FIXED_ROUTES; i < table->nr; i++) {
		if (table->entries[i].gsi == v->gsi)
			break;
	}
	e = &table->entries[i];
	if (i == table->nr)
		table->nr++;
	else if (e->u.msi.address_lo == v->entry[0] &&
		 e->u.msi.address_hi == v->entry[1] &&
		 e->u.msi.data == v->entry[2])
		return 0;
	e->gsi = v->gsi;
	e->type = KVM_IRQ_ROUTING_MSI;
	e->u.msi.address_lo = v->entry[0];
	e->u.msi.address_hi = v->entry[1];
	e->u.msi.data = v->entry[2];
	return M_IOCTL(m, m->vm_fd, KVM_SET_GSI_ROUTING, table, err);
}

static void set_msi(void *opaque, struct msix_vector *v, bool on)
{
	struct machine *m = opaque;
	struct kvm_irqfd irqfd = {
		.fd = v->fd,
		.gsi = v->gsi,
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};
	struct err err;

	/* What was raised meanwhile is taken when the eventfd is attached. */
	if ((on && set_route(m, v, &err) < 0) ||
	    (on != v->attached &&
	     M_IOCTL(m, m->vm_fd, KVM_IRQFD, &irqfd, &err) < 0))
		machine_fail(m, &err);
}

static void set_ioeventfd(void *opaque, u64 gpa, int fd, bool on)
{
	struct machine *m = opaque;
	struct kvm_ioeventfd io = {
		.addr = gpa,
		.len = sizeof(u16),
		.fd = fd,
		.flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	/* Where that is refused stores come as exits: slower, no less right. */
	ioctl(m->vm_fd, KVM_IOEVENTFD, &io);
}

static void set_memory(void *opaque, u64 gpa, void *host, u64 size)
{
	struct machine *m = opaque;
	struct kvm_userspace_memory_region slot = {
		.slot = SLOT_BAR,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};
	struct err err;

	if (M_IOCTL(m, m->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, &err) < 0)
		machine_fail(m, &err);
}

const struct pci_host_ops irq_host_ops = {
	.msi = set_msi,
	.ioeventfd = set_ioeventfd,
	.memory = set_memory,
};
