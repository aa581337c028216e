// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that runs is saved as a whole at any point, put into a new VM in the
 * order in which QEMU does it, and goes on there: with timers running and
 * events on their way, and a clock that neither goes back nor counts the time
 * in between.
 */

#include <asm/kvm_para.h>
#include <sys/time.h>

#include "lib/test.h"
#include "lib/irq.h"

#define NSEC		1000000000ULL
#define MAX_MSRS	512
#define MOVES		5
#define PAUSE_MS	300		/* while the guest is nowhere */

/* Of Hyper-V, in stock KVM's list: clocks */
#define MSR_HV_VP_RUNTIME	0x40000010
#define MSR_HV_TIME_REF_COUNT	0x40000020

#define V_PIT		0x20
#define V_DEADLINE	0x61
#define V_MSI		0x62

struct state {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[MAX_MSRS];
	} msrs;
	u64 deadline;
	int tsc_khz;
};

/* ---- the guest ---- */

static volatile struct pvclock_vcpu_time_info pv;
static volatile u64 guest_ns, guest_tsc, loops;
static volatile u32 nmis;
static volatile bool finish, deadline_offered;

static void on_nmi(struct guest_trap *trap)
{
	(void)trap;
	nmis++;
}

static void arm(void)
{
	wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + 4000000);
}

static void on_deadline(struct guest_trap *trap)
{
	on_apic_irq(trap);
	arm();
}

static void look_at_clocks(void)
{
	u64 tsc = rdtsc(), ns = guest_kvmclock_ns(&pv);

	GUEST_ASSERT(tsc >= guest_tsc);
	if (ns < guest_ns)
		GUEST_FAIL("kvmclock goes back", guest_ns, ns);
	guest_tsc = tsc;
	guest_ns = ns;
}

static void guest_busy(void)
{
	const u64 pattern = 0x0123456789abcdefULL;
	u64 dr0, xmm;

	apic_enable();
	apic_write(APIC_LVT0, 0x700);			/* ExtINT: the PIC */
	pic_init(0xfffe);
	outb(0x43, 0x34);
	outb(0x40, (1193182 / 200) & 0xff);
	outb(0x40, (1193182 / 200) >> 8);
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uintptr_t)&pv | 1);
	if (deadline_offered) {
		apic_write(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | V_DEADLINE);
		arm();
	}
	asm volatile("movq %0, %%xmm7; movq %0, %%dr0" : : "r"(pattern));
	guest_sti();
	while (!finish) {
		loops++;
		look_at_clocks();
		asm volatile("movq %%xmm7, %0; movq %%dr0, %1" : "=r"(xmm), "=r"(dr0));
		GUEST_ASSERT_EQ(pattern, xmm);
		GUEST_ASSERT_EQ(pattern, dr0);
		/* now and then asleep, and with interrupts off for a while */
		if (loops % 16 == 0)
			guest_sti_hlt();
		if (loops % 16 == 8) {
			guest_cli();
			for (int i = 0; i < 20; i++)
				guest_relax();
		}
		guest_sti();
	}
	guest_cli();
	guest_done();
}

/* ---- running for a while ---- */

static struct kvm_run *volatile running;
static volatile int alarms_left;

static void on_alarm(int sig)
{
	(void)sig;
	if (--alarms_left <= 0)
		running->immediate_exit = 1;
}

/* Until a signal gets it out, wherever it is. False: it said that it is done. */
static bool run_for(struct vcpu *vcpu, int ms)
{
	/* not so often that an emulated CPU gets nothing else done */
	struct itimerval on = { { 0, 5000 }, { 0, 5000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = on_alarm };
	bool more = true;
	int ret;

	running = vcpu->run;
	alarms_left = ms / 5;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &on, NULL);
	do {
		ret = vcpu_run(vcpu);
		if (ret == -EINTR)
			continue;
		if (ret || vcpu->run->exit_reason != KVM_EXIT_IO)
			fail("KVM_RUN: %d, exit %s", ret, exit_name(vcpu->run->exit_reason));
		if (vcpu->run->io.port == PORT_ABORT)
			fail("guest: line %d: %s (%#llx, %#llx)", guest_report.line,
			     guest_report.what, (unsigned long long)guest_report.a,
			     (unsigned long long)guest_report.b);
		more = vcpu->run->io.port != PORT_DONE;
	} while (more && !vcpu->run->immediate_exit);
	setitimer(ITIMER_REAL, &off, NULL);
	vcpu->run->immediate_exit = 0;
	return more;
}

/* ---- all of it ---- */

static u32 msr_list(int dev, u32 *list)
{
	struct {
		struct kvm_msr_list head;
		u32 index[MAX_MSRS];
	} l = { .head.nmsrs = MAX_MSRS };

	if (ioctl(dev, KVM_GET_MSR_INDEX_LIST, &l))
		fail("KVM_GET_MSR_INDEX_LIST");
	memcpy(list, l.index, sizeof(l.index));
	return l.head.nmsrs;
}

/* All of the list; the TSC deadline is set by itself, after the APIC's registers. */
static void save_msrs(struct vcpu *vcpu, struct state *s)
{
	u32 list[MAX_MSRS], n = msr_list(vcpu->vm->dev, list), got = 0;

	for (u32 i = 0; i < n; i++) {
		struct kvm_msr_entry *e = &s->msrs.entry[got];

		if (list[i] == MSR_IA32_TSC_DEADLINE)
			continue;
		e->index = list[i];
		if (vcpu_try_get_msr(vcpu, list[i], (u64 *)&e->data) == 1)
			got++;
		else if (!dev_is_kvm())
			fail("MSR %#x is in the list and cannot be read", list[i]);
	}
	s->msrs.head.nmsrs = got;
	s->deadline = deadline_offered ? vcpu_get_msr(vcpu, MSR_IA32_TSC_DEADLINE) : 0;
}

static void save(struct vcpu *vcpu, struct state *s)
{
	struct vm *vm = vcpu->vm;

	memset(s, 0, sizeof(*s));
	VM_IOCTL(vm, KVM_GET_CLOCK, &s->clock);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &s->events);
	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &s->mp);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &s->regs);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, &s->xsave);
	VCPU_IOCTL(vcpu, KVM_GET_XCRS, &s->xcrs);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS2, &s->sregs);
	save_msrs(vcpu, s);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s->lapic);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &s->debugregs);
	for (int i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		VM_IOCTL(vm, KVM_GET_IRQCHIP, &s->chip[i]);
	}
	VM_IOCTL(vm, KVM_GET_PIT2, &s->pit);
	s->tsc_khz = sys_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
}

static void restore(struct vcpu *vcpu, const struct state *s)
{
	struct vm *vm = vcpu->vm;
	struct kvm_clock_data clock = { .clock = s->clock.clock };
	u32 done;

	if (sys_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)s->tsc_khz))
		fail("KVM_SET_TSC_KHZ %d", s->tsc_khz);
	for (int i = 0; i < 3; i++)
		VM_IOCTL(vm, KVM_SET_IRQCHIP, &s->chip[i]);
	vcpu_set_msr(vcpu, MSR_IA32_APICBASE, s->sregs.apic_base);
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &s->lapic);
	VCPU_IOCTL(vcpu, KVM_SET_SREGS2, &s->sregs);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &s->regs);
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, &s->xsave);
	VCPU_IOCTL(vcpu, KVM_SET_XCRS, &s->xcrs);
	/* one that is refused ends the call: on stock KVM, go on behind it */
	for (u32 i = 0; i < s->msrs.head.nmsrs; i++) {
		done = vcpu_set_msr(vcpu, s->msrs.entry[i].index, s->msrs.entry[i].data);
		if (done != 1 && !dev_is_kvm())
			fail("MSR %#x does not take what it had, %#llx", s->msrs.entry[i].index,
			     (unsigned long long)s->msrs.entry[i].data);
	}
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &s->events);
	VCPU_IOCTL(vcpu, KVM_SET_MP_STATE, &s->mp);
	if (deadline_offered && vcpu_set_msr(vcpu, MSR_IA32_TSC_DEADLINE, s->deadline) != 1)
		fail("TSC_DEADLINE");
	VCPU_IOCTL(vcpu, KVM_SET_DEBUGREGS, &s->debugregs);
	VM_IOCTL(vm, KVM_SET_PIT2, &s->pit);
	VM_IOCTL(vm, KVM_SET_CLOCK, &clock);
	sys_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
}

/* ---- is what comes out what was put in? ---- */

static bool same_bytes(const char *what, const struct state *a, const struct state *b,
		       size_t at, size_t size)
{
	const u8 *x = (const u8 *)a + at, *y = (const u8 *)b + at;

	for (size_t i = 0; i < size; i++) {
		if (x[i] == y[i])
			continue;
		fprintf(stderr, "# %s differs at byte %zu: %#x, then %#x\n", what, i, x[i], y[i]);
		return false;
	}
	return true;
}

#define SAME(part)	same_bytes(#part, a, b, offsetof(struct state, part), sizeof(a->part))

/* Time goes on, and timers may fire; all else stays. */
static bool same_msrs(const struct state *a, const struct state *b)
{
	bool same = a->msrs.head.nmsrs == b->msrs.head.nmsrs;

	for (u32 i = 0; same && i < a->msrs.head.nmsrs; i++) {
		const struct kvm_msr_entry *x = &a->msrs.entry[i], *y = &b->msrs.entry[i];
		u64 diff = y->data - x->data;

		if (x->index == MSR_HV_TIME_REF_COUNT || x->index == MSR_HV_VP_RUNTIME)
			continue;
		if (x->index == MSR_IA32_TSC ? diff < (u64)a->tsc_khz * 1000 : !diff)
			continue;
		fprintf(stderr, "# MSR %#x: %#llx, then %#llx\n", x->index,
			(unsigned long long)x->data, (unsigned long long)y->data);
		same = false;
	}
	return same;
}

static void forget_timers(struct state *s)
{
	u8 *irr = (u8 *)s->lapic.regs + APIC_IRR + (V_DEADLINE / 32) * 16 + V_DEADLINE % 32 / 8;

	memset(s->lapic.regs + APIC_TMCCT, 0, 4);
	*irr &= ~(1U << V_DEADLINE % 8);
	/* GSI 0 leads to pin 0 of both chips */
	s->chip[0].chip.pic.irr &= ~1;
	s->chip[0].chip.pic.last_irr &= ~1;
	s->chip[2].chip.ioapic.irr &= ~1U;
	for (int i = 0; i < 3; i++)
		s->pit.channels[i].count_load_time = 0;
}

static bool same(struct state *a, struct state *b)
{
	forget_timers(a);
	forget_timers(b);
	return SAME(regs) & SAME(sregs) & SAME(xsave) & SAME(xcrs) & SAME(debugregs) &
	       SAME(events) & SAME(mp) & SAME(lapic) & SAME(chip[0].chip.pic) &
	       SAME(chip[1].chip.pic) & SAME(chip[2].chip.ioapic) & SAME(pit) &
	       SAME(tsc_khz) & same_msrs(a, b);
}

static struct vcpu *new_vm(void)
{
	return vcpu_create(vm_create(VM_IRQCHIP | VM_PIT));
}

static u64 host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NSEC + t.tv_nsec;
}

TEST(moved_while_it_runs)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_PHYS_BASE, .data = V_MSI };
	static struct state s, again;
	struct vcpu *old, *new;
	u64 ns, tsc, before, ran;
	u32 ticks, deadlines;

	guest_handlers[2] = on_nmi;
	guest_handlers[V_PIT] = on_pic_irq;
	guest_handlers[V_DEADLINE] = on_deadline;
	guest_handlers[V_MSI] = on_apic_irq;
	old = new_vm();
	deadline_offered = vm_cap(old->vm, KVM_CAP_TSC_DEADLINE_TIMER);
	vcpu_set_long(old, guest_busy);
	/* stock KVM takes a TSC of less than a second for that of a new VM */
	ASSERT_EQ(1, vcpu_set_msr(old, MSR_IA32_TSC, 100ULL << 32));
	for (u32 i = 1; i <= MOVES; i++) {
		u64 last = loops;

		do {
			ASSERT_TRUE(run_for(old, 30 + 5 * i));
		} while (loops - last < 20);
		/* on their way as it stops: an NMI and an interrupt */
		VCPU_IOCTL(old, KVM_NMI, NULL);
		ASSERT_EQ(1, sys_ioctl(old->vm->fd, KVM_SIGNAL_MSI, &msi));
		save(old, &s);
		EXPECT_EQ(1, s.events.nmi.pending);
		ns = guest_ns;
		tsc = guest_tsc;
		ticks = irqs[V_PIT];
		deadlines = irqs[V_DEADLINE];
		EXPECT_LE(ns, s.clock.clock);

		new = new_vm();
		memcpy(low(new->vm, 0), low(old->vm, 0), LOW_SIZE);
		vm_destroy(old->vm);
		usleep(PAUSE_MS * 1000);
		before = host_ns();
		restore(new, &s);
		save(new, &again);
		EXPECT_TRUE(same(&s, &again));
		EXPECT_LE(s.clock.clock, again.clock.clock);

		old = new;
		while (irqs[V_PIT] < ticks + 3 || irqs[V_MSI] < i || nmis < i ||
		       (deadline_offered && irqs[V_DEADLINE] < deadlines + 3)) {
			ASSERT_TRUE(run_for(old, 5));
		}
		ran = host_ns() - before;
		EXPECT_EQ(i, nmis);
		EXPECT_EQ(i, irqs[V_MSI]);
		/* it was away for longer than this, and has not noticed */
		EXPECT_LE(guest_ns - ns, ran + PAUSE_MS * NSEC / 2000);
		EXPECT_LE((guest_tsc - tsc) / s.tsc_khz, ran / 1000000 + PAUSE_MS / 2);
	}
	finish = true;
	guest_run_done(old);
	vm_destroy(old->vm);
}
