// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CAP_X86_DISABLE_EXITS: HLT, MWAIT and PAUSE that do not leave the guest, and
 * on Intel the idle counters of the CPU.
 */

#include <linux/kvm_para.h>

#include "lib/test.h"
#include "lib/irq.h"

#define HLT	KVM_X86_DISABLE_EXITS_HLT
#define MWAIT	KVM_X86_DISABLE_EXITS_MWAIT
#define PAUSE	KVM_X86_DISABLE_EXITS_PAUSE
#define CSTATE	KVM_X86_DISABLE_EXITS_CSTATE

#define TIMER	0x71
#define DEVICE	0x72

static int enable(struct vm *vm, u32 number, u64 arg)
{
	struct kvm_enable_cap cap = { .cap = number, .args = { arg } };

	return sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static struct vcpu *vcpu_without(struct vm *vm, u32 exits)
{
	if (enable(vm, KVM_CAP_X86_DISABLE_EXITS, exits))
		fail("KVM_CAP_X86_DISABLE_EXITS");
	return vcpu_create(vm);
}

TEST(arguments)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_DISABLE_EXITS, .flags = 1 };
	u32 all = dev_cap(KVM_CAP_X86_DISABLE_EXITS);

	EXPECT_EQ(HLT | PAUSE | CSTATE, all & ~(u32)MWAIT);
	/* MWAIT is no error where the CPU has it not. */
	for (int i = 0; i < 64; i++) {
		EXPECT_EQ(1ULL << i & KVM_X86_DISABLE_VALID_EXITS ? 0 : -EINVAL,
			  enable(vm, KVM_CAP_X86_DISABLE_EXITS, 1ULL << i));
	}
	EXPECT_EQ(0, enable(vm, KVM_CAP_X86_DISABLE_EXITS, all));
	EXPECT_EQ(0, enable(vm, KVM_CAP_X86_DISABLE_EXITS, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	/* 6.1 and 6.12 allow it with vCPUs, for those to come. */
	vcpu_create_bare(vm, 0);
	EXPECT_EQ(0, enable(vm, KVM_CAP_X86_DISABLE_EXITS, all));
	vm_destroy(vm);
}

static u32 kvm_features(struct vcpu *vcpu, u32 wish)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[2];
	} list = {
		.head.nent = 2,
		.e[0] = { .function = KVM_CPUID_SIGNATURE, .eax = KVM_CPUID_FEATURES },
		.e[1] = { .function = KVM_CPUID_FEATURES, .eax = wish },
	};

	memcpy(&list.e[0].ebx, "KVMKVMKVM\0\0", 12);
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, &list);
	VCPU_IOCTL(vcpu, KVM_GET_CPUID2, &list);
	return list.e[1].eax;
}

/* KVM_HC_KICK_CPU ends a HLT that KVM knows of. */
TEST(no_pv_unhalt)
{
	const u32 wish = 1 << KVM_FEATURE_PV_UNHALT | 1 << KVM_FEATURE_STEAL_TIME;
	struct vm *vm = vm_create(VM_IRQCHIP | VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	EXPECT_EQ(wish, kvm_features(vcpu, wish));
	EXPECT_EQ(0, enable(vm, KVM_CAP_X86_DISABLE_EXITS, PAUSE | CSTATE));
	EXPECT_EQ(wish, kvm_features(vcpu, wish));
	EXPECT_EQ(0, enable(vm, KVM_CAP_X86_DISABLE_EXITS, HLT));
	EXPECT_EQ(1 << KVM_FEATURE_STEAL_TIME, kvm_features(vcpu, wish));
	vm_destroy(vm);
}

static void start_timer(void)
{
	apic_enable();
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER);
	apic_write(APIC_TMICT, 2000000);
}

static void guest_halts_for_a_timer(void)
{
	start_timer();
	while (irqs[TIMER] < 5)
		guest_sti_hlt();
	guest_done();
}

TEST(hlt_stays_inside)
{
	for (int on = 0; on < 2; on++) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_without(vm, on ? HLT : 0);

		irqs[TIMER] = 0;
		guest_handlers[TIMER] = on_apic_irq;
		vcpu_set_long(vcpu, guest_halts_for_a_timer);
		guest_run_done(vcpu);
		EXPECT_EQ(!on, !!vcpu_stat(vcpu, "halt_exits"));
		vm_destroy(vm);
	}
}

static volatile u32 stage, nmis;

static void on_nmi(struct guest_trap *trap)
{
	(void)trap;
	nmis++;
}

static void guest_halts(void)
{
	apic_enable();
	stage = 1;
	while (!nmis)
		guest_sti_hlt();
	stage = 2;
	while (!irqs[DEVICE])
		guest_sti_hlt();
	guest_done();
}

static void wait_halted(u32 at)
{
	while (stage != at)
		usleep(1000);
	usleep(20000);
}

static struct vcpu *halting_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = vcpu_without(vm, HLT);

	stage = 0;
	nmis = 0;
	irqs[DEVICE] = 0;
	guest_handlers[2] = on_nmi;
	guest_handlers[DEVICE] = on_apic_irq;
	vcpu_set_long(vcpu, guest_halts);
	return vcpu;
}

static void send(struct vm *vm, u32 data)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_PHYS_BASE, .data = data };

	if (sys_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) != 1)
		fail("KVM_SIGNAL_MSI");
}

/* What others send gets through to a CPU that is halted in the guest. */
TEST(halted_guest_is_woken)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = halting_vcpu(vm);

	vcpu_start(vcpu);
	wait_halted(1);
	send(vm, APIC_DM_NMI);
	wait_halted(2);
	send(vm, DEVICE);
	vcpu_join(vcpu);
	EXPECT_EQ(1, nmis);
	EXPECT_EQ(1, irqs[DEVICE]);
	EXPECT_EQ(0, vcpu_stat(vcpu, "halt_exits"));
	vm_destroy(vm);
}

static int ended;

static void *one_run(void *arg)
{
	ended = vcpu_run(arg);
	return NULL;
}

/* To userspace, with the guest in HLT. */
static void interrupt_halted(struct vcpu *vcpu)
{
	vcpu_start_fn(vcpu, one_run);
	wait_halted(1);
	vcpu_kick(vcpu);
	vcpu_join(vcpu);
}

static void on_ud(struct guest_trap *trap)
{
	(void)trap;
	guest_sync(VEC_UD);
}

static void guest_elsewhere(void)
{
	guest_done();
}

/* Userspace finds it running, and may do as with any other. */
TEST(halted_guest_and_userspace)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = halting_vcpu(vm);
	struct kvm_mp_state mp = { 0xff };
	struct kvm_vcpu_events ev;

	interrupt_halted(vcpu);
	EXPECT_EQ(-EINTR, ended);
	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);

	/* Still in HLT, it takes what no CPU in HLT gets. */
	interrupt_halted(vcpu);
	EXPECT_EQ(-EINTR, ended);
	guest_handlers[VEC_UD] = on_ud;
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ev.exception.injected = 1;
	ev.exception.nr = VEC_UD;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	EXPECT_EQ(VEC_UD, guest_run_sync(vcpu));

	/* Put elsewhere, it runs there. */
	stage = 0;
	vcpu_set_long(vcpu, guest_halts);
	interrupt_halted(vcpu);
	EXPECT_EQ(-EINTR, ended);
	if (dev_is_kvm() && !host_is_amd())
		SKIP(return, "KVM leaves it in HLT on Intel");
	vcpu_set_long(vcpu, guest_elsewhere);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static u8 monitored[64] __attribute__((aligned(64)));
static volatile u32 mwait_trap;

static void guest_mwaits_for_a_timer(void)
{
	u32 t;

	start_timer();
	do {
		asm volatile(TRY("monitor; nop; sti; mwait; cli") "movl %%r9d, %0"
			     : "=r"(t) : "a"(monitored), "c"(0), "d"(0) : TRY_CLOBBERS);
		mwait_trap = t;
		guest_cli();
	} while (!t && irqs[TIMER] < 3);
	guest_done();
}

/* Without MWAIT in CPUID, and without the quirk of not minding, one that exits is #UD. */
TEST(mwait_stays_inside)
{
	u32 can = dev_cap(KVM_CAP_X86_DISABLE_EXITS) & MWAIT;

	for (int on = 0; on < 2; on++) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_without(vm, on ? MWAIT : 0);

		EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2,
				    KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS));
		irqs[TIMER] = 0;
		guest_handlers[TIMER] = on_apic_irq;
		vcpu_set_long(vcpu, guest_mwaits_for_a_timer);
		guest_run_done(vcpu);
		EXPECT_EQ(on && can ? 0 : GUEST_FAULTED | VEC_UD, mwait_trap);
		vm_destroy(vm);
	}
	if (!can)
		SKIP(return, "this CPU has no MWAIT that wakes from every state");
}

static void guest_pauses(void)
{
	guest_spins();
	guest_sync(1);
	for (u32 i = 0; i < 200000; i++)
		asm volatile("pause" : : : "memory");
	guest_done();
}

/* Without those by the host's interrupts, of which a slow host has many. */
static u64 exits_by_guest(struct vcpu *vcpu)
{
	return vcpu_stat(vcpu, "exits") -
	       vcpu_stat(vcpu, dev_is_kvm() ? "irq_exits" : "interrupt_exits");
}

/* Where loops of PAUSE exit, which is after some 4096 ticks, these would 50 times at least. */
TEST(pause_stays_inside)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_without(vm, PAUSE);
	u64 exits;

	vcpu_set_long(vcpu, guest_pauses);
	EXPECT_EQ(1, guest_run_sync(vcpu));
	exits = exits_by_guest(vcpu);
	guest_run_done(vcpu);
	EXPECT_GT(40, exits_by_guest(vcpu) - exits);
	vm_destroy(vm);
}

static void guest_reads_idle_counter(void)
{
	u64 value;

	rdmsr_safe(MSR_CORE_C6_RESIDENCY, &value);
	guest_done();
}

/* Userspace gets to see what KVM does not know, unless the guest reads it from the CPU. */
TEST(idle_counters)
{
	for (int on = 0; on < 2; on++) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_without(vm, on ? CSTATE : 0);

		EXPECT_EQ(0, enable(vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN));
		vcpu_set_long(vcpu, guest_reads_idle_counter);
		if (!on || host_is_amd()) {
			EXPECT_EQ(0, vcpu_run(vcpu));
			EXPECT_EQ(KVM_EXIT_X86_RDMSR, vcpu->run->exit_reason);
			EXPECT_EQ(MSR_CORE_C6_RESIDENCY, vcpu->run->msr.index);
		}
		guest_run_done(vcpu);
		vm_destroy(vm);
	}
}
