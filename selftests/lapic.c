// SPDX-License-Identifier: GPL-2.0-only
/* The local APIC as the guest uses it: registers, priorities, timer, IPIs. */

#include "lib/test.h"
#include "lib/irq.h"

#define SELF_IPI(vec)	(APIC_DEST_SELF | APIC_INT_ASSERT | (vec))

static void run_guest(void (*entry)(void))
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, entry);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void handle(u32 first, u32 last, guest_handler handler)
{
	for (u32 i = first; i <= last; i++)
		guest_handlers[i] = handler;
}

static void guest_registers(void)
{
	GUEST_ASSERT_EQ(apic_read(APIC_ID), 0);
	GUEST_ASSERT_EQ(apic_read(APIC_LVR) & 0xff, 0x14);
	GUEST_ASSERT_EQ(apic_read(APIC_SPIV), 0xff);
	/* LVTs cannot be unmasked as long as the APIC is off by software. */
	apic_write(APIC_LVTT, 0x40);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTT), APIC_LVT_MASKED | 0x40);
	apic_enable();
	GUEST_ASSERT_EQ(apic_read(APIC_SPIV), APIC_SPIV_APIC_ENABLED | 0xff);
	apic_write(APIC_LVTT, 0x40);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTT), 0x40);
	/* Not the low half: stock KVM on SVM keeps V_TPR, CR8's 4 bits, alone. */
	apic_write(APIC_TASKPRI, 0x30);
	GUEST_ASSERT_EQ(apic_read(APIC_TASKPRI), 0x30);
	GUEST_ASSERT_EQ(apic_read(APIC_PROCPRI), 0x30);
	GUEST_ASSERT_EQ(read_cr8(), 3);
	write_cr8(7);
	GUEST_ASSERT_EQ(apic_read(APIC_TASKPRI), 0x70);
	write_cr8(0);
	apic_write(APIC_LDR, 0xff000000);
	GUEST_ASSERT_EQ(apic_read(APIC_LDR), 0xff000000);
	apic_write(APIC_DFR, 0x0fffffff);
	GUEST_ASSERT_EQ(apic_read(APIC_DFR), 0x0fffffff);
	apic_write(APIC_TDCR, 0xb);
	GUEST_ASSERT_EQ(apic_read(APIC_TDCR), 0xb);
	apic_write(APIC_LVT0, 0x10041);
	GUEST_ASSERT_EQ(apic_read(APIC_LVT0), 0x10041);
	/* Read-only registers stay as they are. */
	apic_write(APIC_LVR, 0);
	GUEST_ASSERT_EQ(apic_read(APIC_LVR) & 0xff, 0x14);
	guest_done();
}

TEST(xapic_registers)
{
	run_guest(guest_registers);
}

static void guest_x2apic_registers(void)
{
	u64 val;

	GUEST_ASSERT_EQ(rdmsr_safe(APIC_BASE_MSR + (APIC_ID >> 4), &val),
			GUEST_FAULTED | VEC_GP);
	x2apic_enable();
	GUEST_ASSERT_EQ(x2apic_read(APIC_ID), 0);
	GUEST_ASSERT_EQ(x2apic_read(APIC_LVR) & 0xff, 0x14);
	/* Fixed by the id: cluster id >> 4, bit id & 15. */
	GUEST_ASSERT_EQ(x2apic_read(APIC_LDR), 1);
	x2apic_write(APIC_TASKPRI, 0x40);
	GUEST_ASSERT_EQ(x2apic_read(APIC_TASKPRI), 0x40);
	GUEST_ASSERT_EQ(read_cr8(), 4);
	x2apic_write(APIC_TASKPRI, 0);
	/* There is no DFR, LVR is read-only, and high halves are reserved. */
	GUEST_ASSERT_EQ(rdmsr_safe(APIC_BASE_MSR + (APIC_DFR >> 4), &val),
			GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(APIC_BASE_MSR + (APIC_LVR >> 4), 0),
			GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(APIC_BASE_MSR + (APIC_TASKPRI >> 4), 1ULL << 32),
			GUEST_FAULTED | VEC_GP);
	guest_sti();
	x2apic_write(APIC_SELF_IPI, 0x51);
	GUEST_WAIT(irqs[0x51]);
	x2apic_write(APIC_ICR, SELF_IPI(0x52));
	GUEST_WAIT(irqs[0x52]);
	guest_cli();
	guest_done();
}

TEST(x2apic_registers)
{
	handle(0x51, 0x52, on_x2apic_irq);
	run_guest(guest_x2apic_registers);
}

static volatile u32 order[8], nr_order, ppr_seen;

static void on_ordered(struct guest_trap *trap)
{
	order[nr_order++ & 7] = trap->vector;
	ppr_seen = apic_read(APIC_PROCPRI);
	apic_eoi();
}

static u32 apic_bit(u32 reg, u32 vec)
{
	return apic_read(reg + 0x10 * (vec >> 5)) >> (vec & 31) & 1;
}

static void guest_priorities(void)
{
	apic_enable();
	apic_write(APIC_ICR, SELF_IPI(0x45));
	apic_write(APIC_ICR, SELF_IPI(0x81));
	apic_write(APIC_ICR, SELF_IPI(0x61));
	apic_write(APIC_ICR, SELF_IPI(0x61));	/* the same: once */
	GUEST_ASSERT_EQ(apic_bit(APIC_IRR, 0x61), 1);
	GUEST_ASSERT_EQ(nr_order, 0);
	/* The task priority holds class 4 and 6 back. */
	apic_write(APIC_TASKPRI, 0x60);
	for (int i = 0; i < 4; i++)
		guest_sti_nop();
	GUEST_ASSERT_EQ(nr_order, 1);
	GUEST_ASSERT_EQ(order[0], 0x81);
	GUEST_ASSERT_EQ(ppr_seen, 0x80);
	GUEST_ASSERT_EQ(apic_bit(APIC_IRR, 0x61), 1);
	GUEST_ASSERT_EQ(apic_bit(APIC_ISR, 0x81), 0);
	write_cr8(5);
	for (int i = 0; i < 4; i++)
		guest_sti_nop();
	GUEST_ASSERT_EQ(nr_order, 2);
	GUEST_ASSERT_EQ(order[1], 0x61);
	write_cr8(0);
	for (int i = 0; i < 4; i++)
		guest_sti_nop();
	GUEST_ASSERT_EQ(nr_order, 3);
	GUEST_ASSERT_EQ(order[2], 0x45);
	guest_done();
}

TEST(priorities)
{
	handle(0x20, 0xff, on_ordered);
	run_guest(guest_priorities);
}

static void on_nested(struct guest_trap *trap)
{
	order[nr_order++ & 7] = trap->vector;
	if (trap->vector == 0x61) {
		apic_write(APIC_ICR, SELF_IPI(0x51));	/* lower: waits */
		apic_write(APIC_ICR, SELF_IPI(0x91));	/* higher: nests */
		guest_sti_nop();
		GUEST_ASSERT_EQ(nr_order, 2);
		GUEST_ASSERT_EQ(apic_bit(APIC_ISR, 0x61), 1);
	}
	apic_eoi();
}

static void guest_nesting(void)
{
	apic_enable();
	apic_write(APIC_ICR, SELF_IPI(0x61));
	for (int i = 0; i < 4; i++)
		guest_sti_nop();
	GUEST_ASSERT_EQ(nr_order, 3);
	GUEST_ASSERT_EQ(order[0], 0x61);
	GUEST_ASSERT_EQ(order[1], 0x91);
	GUEST_ASSERT_EQ(order[2], 0x51);
	guest_done();
}

TEST(nesting)
{
	handle(0x20, 0xff, on_nested);
	run_guest(guest_nesting);
}

/* --- timer --- */

static void guest_timer(void)
{
	apic_enable();
	apic_write(APIC_TDCR, 0xb);		/* divide by 1 */
	/* Counts down, and stops at zero with one interrupt. */
	apic_write(APIC_LVTT, 0x71);
	apic_write(APIC_TMICT, 200000);
	GUEST_ASSERT(apic_read(APIC_TMCCT) <= 200000);
	guest_sti();
	GUEST_WAIT(irqs[0x71]);
	guest_cli();
	GUEST_ASSERT_EQ(apic_read(APIC_TMCCT), 0);
	GUEST_ASSERT_EQ(apic_read(APIC_TMICT), 200000);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x71], 1);
	/* Masked, it runs all the same, without an interrupt. */
	apic_write(APIC_LVTT, APIC_LVT_MASKED | 0x71);
	apic_write(APIC_TMICT, 100000);
	GUEST_WAIT(!apic_read(APIC_TMCCT));
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x71], 1);
	/* Again and again, also out of HLT. */
	apic_write(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | 0x72);
	apic_write(APIC_TMICT, 1000000);
	while (irqs[0x72] < 5)
		guest_sti_hlt();
	apic_write(APIC_TMICT, 0);		/* stops it */
	guest_sti_nop();
	irqs[0x72] = 0;
	guest_sync(1);				/* host waits */
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x72], 0);
	guest_done();
}

TEST(timer)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	handle(0x71, 0x72, on_apic_irq);
	vcpu_set_long(vcpu, guest_timer);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	usleep(20000);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_one_shot(void)
{
	apic_enable();
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, 0x71);
	apic_write(APIC_TMICT, 0xffffffff);
	guest_sync(1);				/* host restores the LAPIC */
	guest_sti();
	GUEST_WAIT(irqs[0x71]);
	guest_done();
}

/* QEMU saves TMICT but not TMCCT: the timer is not lost for that. */
TEST(one_shot_without_a_count)
{
	struct kvm_lapic_state s;
	struct vcpu *vcpu;
	struct vm *vm;

	/* As on stock KVM there. */
	if (host_is_bochs_svm())
		SKIP(return, "Bochs' AMD-V: a guest that spins waits for ever for its timer");
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_create(vm);
	handle(0x71, 0x71, on_apic_irq);
	vcpu_set_long(vcpu, guest_one_shot);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	memset(s.regs + APIC_TMCCT, 0, 4);
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &s);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_deadline(void)
{
	u64 start;

	apic_enable();
	apic_write(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | 0x75);
	start = rdtsc();
	wrmsr(MSR_IA32_TSC_DEADLINE, start + (1ULL << 40));
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), start + (1ULL << 40));
	/* So far off that the HLT sleeps. */
	start = rdtsc();
	wrmsr(MSR_IA32_TSC_DEADLINE, start + (1ULL << 26));
	guest_sti_hlt();
	GUEST_ASSERT_EQ(irqs[0x75], 1);
	GUEST_ASSERT(rdtsc() >= start + (1ULL << 26));
	/* It disarms itself; a deadline in the past fires at once. */
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0);
	wrmsr(MSR_IA32_TSC_DEADLINE, 1);
	guest_sti();
	GUEST_WAIT(irqs[0x75] == 2);
	guest_cli();
	/* Zero disarms. */
	wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + (1ULL << 26));
	wrmsr(MSR_IA32_TSC_DEADLINE, 0);
	guest_sync(1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x75], 2);
	guest_done();
}

TEST(tsc_deadline)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (!vm_cap(vm, KVM_CAP_TSC_DEADLINE_TIMER))
		SKIP(return, "no KVM_CAP_TSC_DEADLINE_TIMER");
	handle(0x75, 0x75, on_apic_irq);
	vcpu_set_long(vcpu, guest_deadline);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	usleep(20000);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_spin_for_timer(void)
{
	apic_enable();
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | 0x73);
	apic_write(APIC_TMICT, 2000000);
	guest_sti();
	/* No exit of its own: the timer has to come in from outside. */
	GUEST_WAIT_BUSY(irqs[0x73] >= 3);
	guest_cli();
	guest_done();
}

TEST(timer_interrupts_a_busy_guest)
{
	handle(0x73, 0x73, on_apic_irq);
	run_guest(guest_spin_for_timer);
}

/* --- two vCPUs --- */

static volatile u32 ap_ready, ap_stop, ap_done;

static void guest_ap(void)
{
	apic_enable();
	apic_write(APIC_LDR, 2U << 24);
	ap_ready = 1;
	while (!ap_stop)
		guest_sti_hlt();
	ap_done = 1;
	guest_done();
}

static void ipi(u32 dest, u32 icr)
{
	apic_write(APIC_ICR2, dest << 24);
	apic_write(APIC_ICR, icr);
	GUEST_WAIT(!(apic_read(APIC_ICR) & APIC_ICR_BUSY));
}

static void on_stop(struct guest_trap *trap)
{
	(void)trap;
	ap_stop = 1;
	apic_eoi();
}

static void guest_ipi_sender(void)
{
	apic_enable();
	apic_write(APIC_LDR, 1U << 24);
	GUEST_WAIT(ap_ready);
	for (u32 i = 1; i <= 20; i++) {
		ipi(1, APIC_INT_ASSERT | 0x61);		/* physical */
		GUEST_WAIT(irqs[0x61] == i);
		ipi(2, APIC_INT_ASSERT | APIC_DEST_LOGICAL | 0x62);
		GUEST_WAIT(irqs[0x62] == i);
		ipi(0, APIC_INT_ASSERT | APIC_DEST_ALLBUT | 0x63);
		GUEST_WAIT(irqs[0x63] == i);
	}
	/* To everybody: this CPU has interrupts off, and takes its own later. */
	ipi(0, APIC_INT_ASSERT | APIC_DEST_ALLINC | 0x64);
	GUEST_WAIT(irqs[0x64] == 1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x64], 2);
	ipi(1, APIC_INT_ASSERT | APIC_DM_LOWEST | 0x65);
	GUEST_WAIT(irqs[0x65] == 1);
	/* Nobody has id 9. */
	ipi(9, APIC_INT_ASSERT | 0x61);
	/* Again and again: it may be about to fall asleep just now. */
	while (!ap_done) {
		ipi(1, APIC_INT_ASSERT | 0x70);
		for (int i = 0; i < 100; i++)
			guest_relax();
	}
	guest_done();
}

TEST(ipis)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *bsp = vcpu_create(vm), *ap = vcpu_create(vm);

	handle(0x61, 0x65, on_apic_irq);
	handle(0x70, 0x70, on_stop);
	vcpu_set_long(ap, guest_ap);
	vcpu_set_long(bsp, guest_ipi_sender);
	vcpu_start(ap);
	guest_run_done(bsp);
	vcpu_join(ap);
	EXPECT_EQ(20, irqs[0x61]);
	vm_destroy(vm);
}

static void guest_x2apic_ap(void)
{
	x2apic_enable();
	ap_ready = 1;
	while (!ap_stop)
		guest_sti_hlt();
	ap_done = 1;
	guest_done();
}

static void on_x2apic_stop(struct guest_trap *trap)
{
	(void)trap;
	ap_stop = 1;
	x2apic_write(APIC_EOI, 0);
}

static void guest_x2apic_sender(void)
{
	x2apic_enable();
	GUEST_WAIT(ap_ready);
	for (u32 i = 1; i <= 20; i++) {
		x2apic_write(APIC_ICR, 1ULL << 32 | APIC_INT_ASSERT | 0x61);
		GUEST_WAIT(irqs[0x61] == i);
		/* Logical: cluster 0, bit of id 1. */
		x2apic_write(APIC_ICR, 2ULL << 32 | APIC_INT_ASSERT |
			     APIC_DEST_LOGICAL | 0x62);
		GUEST_WAIT(irqs[0x62] == i);
	}
	x2apic_write(APIC_ICR, 0xffffffffULL << 32 | APIC_INT_ASSERT | 0x63);
	GUEST_WAIT(irqs[0x63] >= 1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x63], 2);
	while (!ap_done) {
		x2apic_write(APIC_ICR, 1ULL << 32 | APIC_INT_ASSERT | 0x70);
		for (int i = 0; i < 100; i++)
			guest_relax();
	}
	guest_done();
}

TEST(x2apic_ipis)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *bsp = vcpu_create(vm), *ap = vcpu_create(vm);

	handle(0x61, 0x65, on_x2apic_irq);
	handle(0x70, 0x70, on_x2apic_stop);
	vcpu_set_long(ap, guest_x2apic_ap);
	vcpu_set_long(bsp, guest_x2apic_sender);
	vcpu_start(ap);
	guest_run_done(bsp);
	vcpu_join(ap);
	vm_destroy(vm);
}

extern const char sipi_start[], sipi_end[];

/* An AP in real mode: count itself at 0x600, print, sleep. */
asm(
"	.pushsection .text\n"
"	.code16\n"
"sipi_start:\n"
"	xorw %ax, %ax\n"
"	movw %ax, %ds\n"
"	movw %cs, %ax\n"
"	movw %ax, 0x602\n"
"	lock incw 0x600\n"
"1:	cli\n"
"	hlt\n"
"	jmp 1b\n"
"sipi_end:\n"
"	.code64\n"
"	.popsection\n"
);

/* Guest addresses that the compiler must not take for a null pointer's. */
static volatile u16 *volatile ap_words = (volatile u16 *)0x600UL;

#define AP_COUNT	(ap_words[0])
#define AP_CS		(ap_words[1])

static void guest_starts_ap(void)
{
	apic_enable();
	ipi(1, APIC_DM_STARTUP | GPA_REAL >> 12);	/* no INIT before: ignored */
	guest_sync(1);
	GUEST_ASSERT_EQ(AP_COUNT, 0);
	for (u32 i = 1; i <= 3; i++) {
		ipi(1, APIC_DM_INIT | APIC_INT_ASSERT | APIC_INT_LEVELTRIG);
		ipi(1, APIC_DM_STARTUP | GPA_REAL >> 12);
		GUEST_WAIT(AP_COUNT == i);
		GUEST_ASSERT_EQ(AP_CS, GPA_REAL >> 4);
		/* A second one, as Linux sends it, finds it running. */
		ipi(1, APIC_DM_STARTUP | GPA_REAL >> 12);
		guest_sync(2);
		GUEST_ASSERT_EQ(AP_COUNT, i);
	}
	guest_done();
}

static volatile int ap_gone;

static void *run_ap(void *arg)
{
	struct vcpu *vcpu = arg;

	while (!ap_gone) {
		int ret = vcpu_run(vcpu);

		if (ret && ret != -EAGAIN && ret != -EINTR)
			fail("KVM_RUN of the AP: %d", ret);
		if (!ret)
			fail("exit %u of the AP", vcpu->run->exit_reason);
	}
	return NULL;
}

TEST(init_and_sipi)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *bsp = vcpu_create(vm), *ap = vcpu_create(vm);
	struct kvm_mp_state mp;
	enum ucall uc;

	memcpy(low(vm, GPA_REAL), sipi_start, sipi_end - sipi_start);
	vcpu_set_long(bsp, guest_starts_ap);
	vcpu_start_fn(ap, run_ap);
	while ((uc = guest_run(bsp)) == UCALL_SYNC)
		usleep(20000);
	ASSERT_EQ(UCALL_DONE, uc);
	ap_gone = 1;
	ap->run->immediate_exit = 1;
	vcpu_kick(ap);
	vcpu_join(ap);
	VCPU_IOCTL(ap, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp.mp_state);
	vm_destroy(vm);
}

static volatile u32 nmis;

static void on_nmi(struct guest_trap *trap)
{
	(void)trap;
	nmis++;
	ap_stop = 1;
}

static void guest_nmi_target(void)
{
	apic_enable();
	ap_ready = 1;
	/* Interrupts are off: an NMI ends the HLT nevertheless. */
	guest_hlt();
	GUEST_ASSERT_EQ(nmis, 1);
	guest_done();
}

static void guest_nmi_sender(void)
{
	apic_enable();
	GUEST_WAIT(ap_ready);
	guest_sync(1);			/* host waits until it is asleep */
	ipi(1, APIC_DM_NMI | APIC_INT_ASSERT);
	guest_done();
}

TEST(nmi_ipi)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *bsp = vcpu_create(vm), *ap = vcpu_create(vm);

	guest_handlers[VEC_NMI] = on_nmi;
	vcpu_set_long(ap, guest_nmi_target);
	vcpu_set_long(bsp, guest_nmi_sender);
	vcpu_start(ap);
	ASSERT_EQ(1, guest_run_sync(bsp));
	vcpu_wait_asleep(ap);
	guest_run_done(bsp);
	vcpu_join(ap);
	vm_destroy(vm);
}

static void guest_halts(void)
{
	apic_enable();
	guest_sync(1);
	guest_sti_hlt();
	GUEST_ASSERT_EQ(irqs[0x33], 1);
	guest_done();
}

/* HLT stays in the kernel, can be left by a signal, and is state to be saved. */
TEST(hlt)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x33 };
	struct kvm_mp_state mp;

	handle(0x33, 0x33, on_apic_irq);
	vcpu_set_long(vcpu, guest_halts);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_start_fn(vcpu, run_ap);
	vcpu_wait_asleep(vcpu);
	ap_gone = 1;
	vcpu->run->immediate_exit = 1;
	vcpu_kick(vcpu);
	vcpu_join(vcpu);
	vcpu->run->immediate_exit = 0;
	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp.mp_state);
	VCPU_IOCTL(vcpu, KVM_SET_MP_STATE, &mp);
	EXPECT_LT(0, sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_spurious(void)
{
	/* Off by software: nothing gets in any more. */
	apic_enable();
	apic_write(APIC_SPIV, 0xff);
	guest_sync(1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x33], 0);
	guest_done();
}

TEST(software_disabled)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x33 };

	handle(0x33, 0x33, on_apic_irq);
	vcpu_set_long(vcpu, guest_spurious);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	EXPECT_GE(0, sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_moved_apic(void)
{
	wrmsr(MSR_IA32_APICBASE, 0x900 | (GPA_MMIO & 0xfffff000));
	GUEST_ASSERT_EQ(mmio_read32(GPA_MMIO + APIC_LVR) & 0xff, 0x14);
	guest_done();
}

/* Relocation is an ancient art; stock KVM exits for the old place as well. */
TEST(moved)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	enum ucall uc;

	vcpu_set_long(vcpu, guest_moved_apic);
	uc = guest_run(vcpu);
	if (!dev_is_kvm() && uc == UCALL_NONE)
		SKIP(return, "the APIC cannot be moved");
	EXPECT_EQ(UCALL_DONE, uc);
	vm_destroy(vm);
}
