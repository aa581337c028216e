// SPDX-License-Identifier: GPL-2.0-only
/* Interrupts: LAPIC registers, IPIs, timers, and what comes from outside. */

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "irq.h"

#define VEC		0x51
#define VEC_BACK	0x61
#define PIN		20
#define PORT_GOT	0x5c8	/* the guest had an interrupt */
#define MSI_ADDRESS	0xfee00000	/* to LAPIC 0 */

static volatile u32 stop;

/* The handlers of all operations here count in irqs[]. */
static void setup_irq(struct bench *b)
{
	(void)b;
	irqs[VEC] = 0;
	irqs[VEC_BACK] = 0;
	stop = 0;
	guest_handlers[VEC] = on_x2apic_irq;
	guest_handlers[VEC_BACK] = on_x2apic_irq;
}

/* irqs[VEC_BACK] counts on from batch to batch: its receiver does, too. */
static void before_irq(struct bench *b)
{
	(void)b;
	irqs[VEC] = 0;
}

/* QEMU delivers one twice now and then, on whatever hypervisor: see docs/testing.md. */
static void check_irq(struct bench *b)
{
	if (irqs[VEC] < b->n || irqs[VEC] > b->n + 2)
		fail("%s: %u interrupts of %u", b->op->name, irqs[VEC], b->n);
}

/* ---- registers ---- */

static void guest_op_x2apic_read(void)
{
	GUEST_BATCHES(x2apic_enable(), guest_value = x2apic_read(APIC_LVR));
}

static void check_version(struct bench *b)
{
	if ((guest_value & 0xff) < 0x10)
		fail("%s: version %#llx", b->op->name, (unsigned long long)guest_value);
}

static void guest_op_x2apic_write(void)
{
	GUEST_BATCHES(x2apic_enable(), x2apic_write(APIC_LVTERR, APIC_LVT_MASKED | 0xfe));
}

static void guest_op_x2apic_eoi(void)
{
	GUEST_BATCHES(x2apic_enable(), x2apic_write(APIC_EOI, 0));
}

static void guest_op_eoi(void)
{
	GUEST_BATCHES(apic_enable(), apic_eoi());
}

/* ---- between processors ---- */

static void guest_op_self_ipi(void)
{
	GUEST_BATCHES(x2apic_enable(); guest_sti(), x2apic_write(APIC_SELF_IPI, VEC));
}

/* The receiver never runs: what the sender has to do, no more. */
static void guest_op_ipi_send(void)
{
	GUEST_BATCHES(x2apic_enable(),
		      x2apic_write(APIC_ICR, 1ULL << 32 | APIC_INT_ASSERT | VEC));
}

static void guest_off(void)
{
	x2apic_enable();
	guest_done();
}

static void setup_ipi_send(struct bench *b)
{
	setup_irq(b);
	b->other = vcpu_create(b->vm);
	vcpu_set_long(b->other, guest_off);
	guest_run_done(b->other);
}

static void check_ipi_send(struct bench *b)
{
	struct kvm_lapic_state s = { .regs = { 0 } };
	u32 irr;

	VCPU_IOCTL(b->other, KVM_GET_LAPIC, &s);
	memcpy(&irr, s.regs + APIC_IRR + VEC / 32 * 0x10, 4);
	if (!(irr >> VEC % 32 & 1))
		fail("%s: the IPI did not arrive", b->op->name);
}

/* There and back, both asleep in between. */
static void guest_op_ipi_wake(void)
{
	u32 seen;

	GUEST_BATCHES(x2apic_enable(),
		      seen = irqs[VEC];
		      x2apic_write(APIC_ICR, 1ULL << 32 | APIC_INT_ASSERT | VEC_BACK);
		      while (irqs[VEC] == seen)
			      guest_sti_hlt());
}

static void guest_answer(void)
{
	u32 seen = 0;

	x2apic_enable();
	for (;;) {
		while (irqs[VEC_BACK] == seen)
			guest_sti_hlt();
		if (stop)
			guest_done();
		seen = irqs[VEC_BACK];
		x2apic_write(APIC_ICR, APIC_INT_ASSERT | VEC);
	}
}

static void setup_ipi_wake(struct bench *b)
{
	setup_irq(b);
	b->other = vcpu_create(b->vm);
	vcpu_set_long(b->other, guest_answer);
	vcpu_start(b->other);
	vcpu_wait_asleep(b->other);
}

static void cleanup_ipi_wake(struct bench *b)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDRESS | b->other->id << 12, .data = VEC_BACK,
	};

	stop = 1;
	VM_IOCTL(b->vm, KVM_SIGNAL_MSI, &msi);
	vcpu_join(b->other);
}

/* ---- the timer ---- */

static void timer_init(u32 mode)
{
	x2apic_enable();
	x2apic_write(APIC_TDCR, APIC_TDR_DIV_1);
	x2apic_write(APIC_LVTT, mode | VEC);
}

/* Started so that it does not fire. */
static void guest_op_timer_arm(void)
{
	GUEST_BATCHES(timer_init(0), x2apic_write(APIC_TMICT, 0x7fffffff));
}

static void check_no_irq(struct bench *b)
{
	if (irqs[VEC])
		fail("%s: the timer fired", b->op->name);
}

#define AND_WAIT							\
	while (irqs[VEC] == seen)					\
		asm volatile("pause" : : : "memory")

static void guest_op_timer_fire(void)
{
	u32 seen;

	GUEST_BATCHES(timer_init(0); guest_sti(),
		      seen = irqs[VEC]; x2apic_write(APIC_TMICT, 1); AND_WAIT);
}

static void guest_op_timer_wake(void)
{
	u32 seen;

	GUEST_BATCHES(timer_init(0),
		      seen = irqs[VEC];
		      x2apic_write(APIC_TMICT, 10000);
		      while (irqs[VEC] == seen)
			      guest_sti_hlt());
}

static void guest_op_deadline_arm(void)
{
	GUEST_BATCHES(timer_init(APIC_LVT_TIMER_TSCDEADLINE),
		      wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + (1ULL << 40)));
}

static void guest_op_deadline_fire(void)
{
	u32 seen;

	GUEST_BATCHES(timer_init(APIC_LVT_TIMER_TSCDEADLINE); guest_sti(),
		      seen = irqs[VEC]; wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc()); AND_WAIT);
}

static void setup_deadline(struct bench *b)
{
	setup_irq(b);
	if (vm_cap(b->vm, KVM_CAP_TSC_DEADLINE_TIMER) <= 0)
		b->skip = "no TSC deadline timer";
}

/* ---- from outside: until the client has seen the guest's handler done ---- */

static void guest_op_outside(void)
{
	x2apic_enable();
	ioapic_route(PIN, VEC);
	guest_sync(0);
	for (;;) {
		u32 seen = irqs[VEC];

		while (irqs[VEC] == seen)
			guest_sti_hlt();
		outl(PORT_GOT, 0);
	}
}

static void run_to_port(struct bench *b)
{
	struct kvm_run *run = b->vcpu->run;

	if (ioctl(b->vcpu->fd, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO ||
	    run->io.port != PORT_GOT)
		fail("%s: exit %s", b->op->name, exit_name(run->exit_reason));
}

static void irqfd_round(struct bench *b)
{
	u64 one = 1;

	if (write(b->fd, &one, 8) != 8)
		fail("write to an eventfd");
	run_to_port(b);
}

static void batch_irqfd(struct bench *b)
{
	HOST_BATCH(b, irqfd_round(b));
}

static void route(struct bench *b, bool msi)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e;
	} r = { .head.nr = 1, .e = { .gsi = PIN } };
	struct kvm_irqfd irqfd = { .gsi = PIN };

	if (msi) {
		r.e.type = KVM_IRQ_ROUTING_MSI;
		r.e.u.msi.address_lo = MSI_ADDRESS;
		r.e.u.msi.data = VEC;
	} else {
		r.e.type = KVM_IRQ_ROUTING_IRQCHIP;
		r.e.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		r.e.u.irqchip.pin = PIN;
	}
	VM_IOCTL(b->vm, KVM_SET_GSI_ROUTING, &r);
	setup_irq(b);
	b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	irqfd.fd = b->fd;
	VM_IOCTL(b->vm, KVM_IRQFD, &irqfd);
}

static void setup_irqfd_ioapic(struct bench *b)
{
	route(b, false);
}

static void setup_irqfd_msi(struct bench *b)
{
	route(b, true);
}

static void cleanup_irqfd(struct bench *b)
{
	close(b->fd);
}

static void msi_round(struct bench *b)
{
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = VEC };

	if (ioctl(b->vm->fd, KVM_SIGNAL_MSI, &msi) != 1)
		fail("KVM_SIGNAL_MSI");
	run_to_port(b);
}

static void batch_msi(struct bench *b)
{
	HOST_BATCH(b, msi_round(b));
}

#define IRQ_OP(op_name, op_title, op_kind, op_n, op_guest)		\
	.name = op_name, .title = op_title, .kind = op_kind, .n = op_n,	\
	.vm_flags = VM_IRQCHIP, .guest = op_guest, .before = before_irq

const struct bench_op irq_ops[] = {
	{ IRQ_OP("x2apic-read", "x2APIC register read", "in", 500, guest_op_x2apic_read),
	  .exits = 1, .setup = setup_irq, .check = check_version },
	{ IRQ_OP("x2apic-write", "x2APIC register write", "in", 500, guest_op_x2apic_write),
	  .exits = 1, .setup = setup_irq },
	{ IRQ_OP("x2apic-eoi", "EOI by x2APIC, nothing in service", "in", 500, guest_op_x2apic_eoi),
	  .exits = 1, .setup = setup_irq },
	{ IRQ_OP("eoi", "EOI by MMIO, nothing in service", "in", 500, guest_op_eoi),
	  .exits = 2, .setup = setup_irq },
	{ IRQ_OP("self-ipi", "self-IPI to its EOI", "in", 300, guest_op_self_ipi),
	  .exits = 4, .setup = setup_irq, .check = check_irq },
	{ IRQ_OP("ipi-send", "IPI to a vCPU that does not run", "in", 500, guest_op_ipi_send),
	  .exits = 1, .setup = setup_ipi_send, .check = check_ipi_send },
	{ IRQ_OP("ipi-wake", "IPI to a vCPU that halts, and back", "more", 200, guest_op_ipi_wake),
	  .setup = setup_ipi_wake, .check = check_irq, .cleanup = cleanup_ipi_wake },
	{ IRQ_OP("timer-arm", "timer armed", "in", 500, guest_op_timer_arm),
	  .exits = 1, .setup = setup_irq, .check = check_no_irq },
	{ IRQ_OP("timer-fire", "timer armed, fires at once", "more", 200, guest_op_timer_fire),
	  .setup = setup_irq, .check = check_irq },
	{ IRQ_OP("timer-wake", "timer armed, HLT, woken", "more", 200, guest_op_timer_wake),
	  .setup = setup_irq, .check = check_irq },
	{ IRQ_OP("deadline-arm", "TSC deadline set", "in", 500, guest_op_deadline_arm),
	  .exits = 1, .setup = setup_deadline, .check = check_no_irq },
	{ IRQ_OP("deadline-fire", "TSC deadline set, fires at once", "more", 200,
		 guest_op_deadline_fire),
	  .setup = setup_deadline, .check = check_irq },
	{ IRQ_OP("irqfd-ioapic", "irqfd by IOAPIC to the guest's handler, OUT to userspace",
		 "more", 200, guest_op_outside),
	  .loop = LOOP_HOST, .setup = setup_irqfd_ioapic, .batch = batch_irqfd,
	  .check = check_irq, .cleanup = cleanup_irqfd },
	{ IRQ_OP("irqfd-msi", "irqfd by MSI to the guest's handler, OUT to userspace",
		 "user", 200, guest_op_outside),
	  .loop = LOOP_HOST, .setup = setup_irqfd_msi, .batch = batch_irqfd,
	  .check = check_irq, .cleanup = cleanup_irqfd },
	{ IRQ_OP("msi", "KVM_SIGNAL_MSI to the guest's handler, OUT to userspace",
		 "user", 200, guest_op_outside),
	  .loop = LOOP_HOST, .setup = setup_irq, .batch = batch_msi, .check = check_irq },
	{ }
};
