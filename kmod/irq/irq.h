/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interrupt controllers and the ways into them. One chip per file; the
 * rest of keel uses only what is declared here.
 */
#ifndef KEEL_IRQ_H
#define KEEL_IRQ_H

#include <linux/kvm.h>
#include <linux/kvm_types.h>

struct keel_vm;
struct keel_vcpu;

#define KEEL_MAX_GSI	4096	/* KVM_CAP_IRQ_ROUTING */

/* ---- lapic.c: xAPIC, x2APIC, its timer, INIT and SIPI ---- */
int keel_lapic_create(struct keel_vcpu *vcpu);
void keel_lapic_free(struct keel_vcpu *vcpu);
void keel_lapic_reset(struct keel_vcpu *vcpu, bool init);

/* Register page in APIC-base MMIO: true when the LAPIC answered. */
bool keel_lapic_mmio(struct keel_vcpu *vcpu, gpa_t gpa, int len, void *data, bool write);
/* x2APIC MSRs 0x800..0x8ff. 0, or -EINVAL for #GP. */
int keel_lapic_msr_read(struct keel_vcpu *vcpu, u32 msr, u64 *value);
int keel_lapic_msr_write(struct keel_vcpu *vcpu, u32 msr, u64 value);
/* MSR_IA32_APICBASE: checks transitions unless @host; 0 or -EINVAL. */
int keel_lapic_set_base(struct keel_vcpu *vcpu, u64 value, bool host);
u64 keel_lapic_tsc_deadline(struct keel_vcpu *vcpu, bool host);
void keel_lapic_set_tsc_deadline(struct keel_vcpu *vcpu, u64 value);
/* the guest's TSC jumped: re-arm a deadline timer */
void keel_lapic_tsc_changed(struct keel_vcpu *vcpu);

u64 keel_lapic_get_cr8(struct keel_vcpu *vcpu);
void keel_lapic_set_cr8(struct keel_vcpu *vcpu, u64 cr8);

/*
 * Interrupts for this vCPU: LAPIC and, through LINT0 or virtual wire, the PIC.
 * pending: the vector that would be taken now, or -1 (owner thread, or any
 * context as a hint). ack: take it (IRR to ISR; INTA cycle for the PIC).
 */
int keel_irq_pending(struct keel_vcpu *vcpu);
int keel_irq_ack(struct keel_vcpu *vcpu);
bool keel_extint_accepted(struct keel_vcpu *vcpu);

/*
 * PV EOI: the guest ends the interrupt in service by clearing a bit of its memory
 * (MSR_KVM_PV_EOI_EN). offer: set the bit if nothing has to happen at that EOI.
 * settle: see whether it was done, and take the offer back; before anybody
 * looks at what is in service. Owner thread inside KVM_RUN, may sleep.
 */
void keel_pv_eoi_offer(struct keel_vcpu *vcpu);
void keel_pv_eoi_settle(struct keel_vcpu *vcpu);

/* INIT or SIPI waiting? accept: process them, changing mp_state (owner thread). */
bool keel_lapic_has_events(struct keel_vcpu *vcpu);
void keel_lapic_accept_events(struct keel_vcpu *vcpu);
/* Called by core on SIPI: vcpu.c provides. */
void keel_vcpu_deliver_sipi(struct keel_vcpu *vcpu, u8 vector);

int keel_lapic_get_state(struct keel_vcpu *vcpu, struct kvm_lapic_state *s);
int keel_lapic_set_state(struct keel_vcpu *vcpu, const struct kvm_lapic_state *s);
/* Let others address it: after the vCPU is in vm->vcpus. Under vm->lock. */
void keel_lapic_publish(struct keel_vcpu *vcpu);
/* KVM_SET_MP_STATE(SIPI_RECEIVED): a SIPI with the vector set below is waiting */
void keel_lapic_queue_sipi(struct keel_vcpu *vcpu);
/* KVM_INTERRUPT in split mode: the userspace PIC's. 0, or -EEXIST: one waits */
int keel_lapic_queue_extint(struct keel_vcpu *vcpu, u8 vector);
void keel_lapic_set_sipi_vector(struct keel_vcpu *vcpu, u8 vector);

/* ---- apic-map.c ---- */
/* The vCPU that a physical destination names, or NULL. Any context. */
struct keel_vcpu *keel_apic_vcpu(struct keel_vm *vm, u32 apic_id);
/* KVM_HC_SEND_IPI with its arguments; @width: bits in each of its two bitmaps */
long keel_pv_send_ipi(struct keel_vm *vm, const u64 arg[4], int width);

/* ---- irqchip.c: creation, GET/SET_IRQCHIP ---- */
int keel_irqchip_create(struct keel_vm *vm);		/* vm->lock held */
int keel_irqchip_create_split(struct keel_vm *vm, u32 pins);	/* vm->lock held */
int keel_irq_vm_init(struct keel_vm *vm);
/* No vCPU runs any more, all still exist (timers may hold interrupts for them) */
void keel_irq_vm_destroy(struct keel_vm *vm);
/* the VM's file is closed: drop irqfds. Open vCPUs may run on, as with KVM. */
void keel_irq_vm_release(struct keel_vm *vm);
int keel_ioctl_get_irqchip(struct keel_vm *vm, struct kvm_irqchip *chip);
int keel_ioctl_set_irqchip(struct keel_vm *vm, struct kvm_irqchip *chip);

/* ---- pit.c ---- */
int keel_pit_create(struct keel_vm *vm, u32 flags);	/* vm->lock held */
int keel_ioctl_get_pit2(struct keel_vm *vm, struct kvm_pit_state2 *s);
int keel_ioctl_set_pit2(struct keel_vm *vm, const struct kvm_pit_state2 *s);
int keel_ioctl_reinject(struct keel_vm *vm, const struct kvm_reinject_control *c);

/* ---- routing.c ---- */
/* Drive a GSI. Any context. Return: >0 delivered, 0 coalesced, <0 masked or no route. */
#define KEEL_IRQ_SOURCE_USERSPACE	0
#define KEEL_IRQ_SOURCE_RESAMPLE	1
#define KEEL_IRQ_SOURCE_PIT		2
int keel_set_irq(struct keel_vm *vm, int source, u32 gsi, int level);
long keel_ioctl_set_gsi_routing(struct keel_vm *vm, struct kvm_irq_routing __user *u);
int keel_ioctl_irq_line(struct keel_vm *vm, struct kvm_irq_level *level);	/* also _STATUS */
int keel_ioctl_signal_msi(struct keel_vm *vm, const struct kvm_msi *msi);

/* ---- eventfd.c ---- */
int keel_ioctl_irqfd(struct keel_vm *vm, const struct kvm_irqfd *args);
int keel_ioctl_ioeventfd(struct keel_vm *vm, const struct kvm_ioeventfd *args);

/* ---- bus.c: in-kernel devices on port and memory space ---- */
/*
 * 0 when an in-kernel device or ioeventfd took the access, -EOPNOTSUPP when
 * none did. Context: process, owner thread of @vcpu, may sleep.
 */
int keel_pio_read(struct keel_vcpu *vcpu, u16 port, int len, void *data);
int keel_pio_write(struct keel_vcpu *vcpu, u16 port, int len, const void *data);
int keel_mmio_read(struct keel_vcpu *vcpu, gpa_t gpa, int len, void *data);
int keel_mmio_write(struct keel_vcpu *vcpu, gpa_t gpa, int len, const void *data);

/* The PIT's mutex is all that sleeps on the port bus. */
#define KEEL_PIT_PORT		0x40
#define KEEL_PIT_PORTS		4
#define KEEL_SPEAKER_PORT	0x61

static inline bool keel_port_sleeps(u16 port)
{
	return port == KEEL_SPEAKER_PORT ||
	       (port >= KEEL_PIT_PORT && port < KEEL_PIT_PORT + KEEL_PIT_PORTS);
}

/* ---- coalesced.c ---- */
int keel_ioctl_register_coalesced(struct keel_vm *vm, const struct kvm_coalesced_mmio_zone *z);
int keel_ioctl_unregister_coalesced(struct keel_vm *vm, const struct kvm_coalesced_mmio_zone *z);

#endif /* KEEL_IRQ_H */
