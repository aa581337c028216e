// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest uses that knows of KVM, beside the clock: stolen time, TLB flushes
 * of vCPUs that do not run, interrupts that end without an exit, hypercalls.
 */

#include <asm/kvm_para.h>
#include <linux/kvm_para.h>
#include <time.h>

#include "lib/test.h"
#include "lib/irq.h"

#define NSEC	1000000000ULL

static volatile u64 amd;	/* whose CPU: the guest has no better way */

static u64 hypercall(u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
	u64 ret;

	if (amd)
		asm volatile("vmmcall" : "=a"(ret)
			     : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	else
		asm volatile("vmcall" : "=a"(ret)
			     : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	return ret;
}

#define HYPERCALL_IS(ret, ...) GUEST_ASSERT_EQ(hypercall(__VA_ARGS__), ret)

/* --- what is offered --- */

#define OFFERED	(1 << KVM_FEATURE_STEAL_TIME | 1 << KVM_FEATURE_PV_EOI |	\
		 1 << KVM_FEATURE_PV_UNHALT | 1 << KVM_FEATURE_PV_TLB_FLUSH |	\
		 1 << KVM_FEATURE_PV_SEND_IPI | 1 << KVM_FEATURE_PV_SCHED_YIELD)

TEST(features_and_capabilities)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct kvm_cpuid2 *c = cpuid_supported(vm->dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(c, KVM_CPUID_FEATURES, 0);

	ASSERT_NE(NULL, e);
	EXPECT_EQ(OFFERED, e->eax & OFFERED);
	EXPECT_EQ(1, vm_cap(vm, KVM_CAP_STEAL_TIME));
	EXPECT_EQ(1, vm_cap(vm, KVM_CAP_ENABLE_CAP));
	EXPECT_EQ(1, vm_cap(vm, KVM_CAP_ENFORCE_PV_FEATURE_CPUID));
	vm_destroy(vm);
}

/* Memory that both sides see at the same address. */
static struct kvm_steal_time steal[2] __attribute__((aligned(64)));
static volatile u32 eoi_word;

static const struct {
	u32 msr;
	u64 value;
	bool ok;
} msr_cases[] = {
	{ MSR_KVM_STEAL_TIME, 0, true },
	{ MSR_KVM_STEAL_TIME, (uintptr_t)&steal[0] + 1, true },
	{ MSR_KVM_STEAL_TIME, (uintptr_t)&steal[1], true },
	/* bits 1 to 5 are reserved; an address is not looked at */
	{ MSR_KVM_STEAL_TIME, 3, false },
	{ MSR_KVM_STEAL_TIME, 0x20, false },
	{ MSR_KVM_STEAL_TIME, GPA_MMIO | 1, true },
	{ MSR_KVM_STEAL_TIME, ~0x3eULL, true },
	{ MSR_KVM_PV_EOI_EN, 0, true },
	{ MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word + 1, true },
	{ MSR_KVM_PV_EOI_EN, GPA_MMIO, true },
	/* this one's is */
	{ MSR_KVM_PV_EOI_EN, GPA_MMIO | 1, false },
	{ MSR_KVM_PV_EOI_EN, ~2ULL, false },
	{ MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word + 2, false },
	{ MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word + 3, false },
	{ MSR_KVM_PV_EOI_EN, 0, true },
	{ MSR_KVM_STEAL_TIME, 0, true },
};

static void guest_msrs(void)
{
	u64 value, before;

	for (u32 i = 0; i < ARRAY_SIZE(msr_cases); i++) {
		before = rdmsr(msr_cases[i].msr);
		if (wrmsr_safe(msr_cases[i].msr, msr_cases[i].value) !=
		    (msr_cases[i].ok ? 0 : GUEST_FAULTED | VEC_GP))
			GUEST_FAIL("WRMSR", msr_cases[i].msr, msr_cases[i].value);
		value = rdmsr(msr_cases[i].msr);
		GUEST_ASSERT_EQ(value, msr_cases[i].ok ? msr_cases[i].value : before);
	}
	guest_done();
}

TEST(msrs)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_msrs);
	guest_run_done(vcpu);
	for (u32 i = 0; i < ARRAY_SIZE(msr_cases); i++) {
		EXPECT_EQ(msr_cases[i].ok,
			  vcpu_set_msr(vcpu, msr_cases[i].msr, msr_cases[i].value))
			TH_LOG("%#llx to %#x", (unsigned long long)msr_cases[i].value,
			       msr_cases[i].msr);
	}
	vm_destroy(vm);
}

/* --- KVM_CAP_ENFORCE_PV_FEATURE_CPUID --- */

static int enable_cap(struct vcpu *vcpu, u32 cap, u32 flags, u64 arg)
{
	struct kvm_enable_cap c = { .cap = cap, .flags = flags, .args = { arg } };

	return sys_ioctl(vcpu->fd, KVM_ENABLE_CAP, &c);
}

static void set_features(struct vcpu *vcpu, u32 features)
{
	struct kvm_cpuid2 *c = cpuid_supported(vcpu->vm->dev);

	cpuid_find(c, KVM_CPUID_FEATURES, 0)->eax = features;
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	free(c);
}

static const struct {
	u32 msr;
	u32 feature;
} feature_msrs[] = {
	{ MSR_KVM_WALL_CLOCK, KVM_FEATURE_CLOCKSOURCE },
	{ MSR_KVM_SYSTEM_TIME, KVM_FEATURE_CLOCKSOURCE },
	{ MSR_KVM_WALL_CLOCK_NEW, KVM_FEATURE_CLOCKSOURCE2 },
	{ MSR_KVM_SYSTEM_TIME_NEW, KVM_FEATURE_CLOCKSOURCE2 },
	{ MSR_KVM_STEAL_TIME, KVM_FEATURE_STEAL_TIME },
	{ MSR_KVM_PV_EOI_EN, KVM_FEATURE_PV_EOI },
};

static volatile u64 guest_features;

static void guest_enforced(void)
{
	bool has;
	u64 val;

	for (u32 i = 0; i < ARRAY_SIZE(feature_msrs); i++) {
		has = guest_features >> feature_msrs[i].feature & 1;
		GUEST_ASSERT_EQ(rdmsr_safe(feature_msrs[i].msr, &val),
				has ? 0 : GUEST_FAULTED | VEC_GP);
		GUEST_ASSERT_EQ(wrmsr_safe(feature_msrs[i].msr, 0),
				has ? 0 : GUEST_FAULTED | VEC_GP);
	}
	HYPERCALL_IS(guest_features >> KVM_FEATURE_PV_UNHALT & 1 ? 0 : -KVM_ENOSYS,
		     KVM_HC_KICK_CPU, 0, 0, 0, 0);
	HYPERCALL_IS(guest_features >> KVM_FEATURE_PV_SCHED_YIELD & 1 ? 0 : -KVM_ENOSYS,
		     KVM_HC_SCHED_YIELD, 0, 0, 0, 0);
	HYPERCALL_IS(guest_features >> KVM_FEATURE_PV_SEND_IPI & 1 ? 0 : -KVM_ENOSYS,
		     KVM_HC_SEND_IPI, 0, 0, 0, 0x41);
	/* hangs on no feature */
	HYPERCALL_IS(0, KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0);
	guest_done();
}

static void enforced(struct __test_metadata *_metadata, u32 features, bool enforce)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	u64 val;

	amd = host_is_amd();
	/* in any order */
	if (enforce && (features & 1)) {
		EXPECT_EQ(0, enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
	}
	set_features(vcpu, features);
	if (enforce) {
		EXPECT_EQ(0, enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
	}
	guest_features = enforce ? features : ~0ULL;
	vcpu_set_long(vcpu, guest_enforced);
	guest_run_done(vcpu);
	/* userspace is held to it as well */
	for (u32 i = 0; i < ARRAY_SIZE(feature_msrs); i++) {
		int has = guest_features >> feature_msrs[i].feature & 1;

		EXPECT_EQ(has, vcpu_try_get_msr(vcpu, feature_msrs[i].msr, &val));
		EXPECT_EQ(has, vcpu_set_msr(vcpu, feature_msrs[i].msr, 0));
	}
	vm_destroy(vm);
}

TEST(enforced_features)
{
	enforced(_metadata, 0, false);
	enforced(_metadata, 0, true);
	enforced(_metadata, ~0U, true);
	for (u32 i = 0; i < 8; i++)
		enforced(_metadata, 1 << i, true);
	enforced(_metadata, 1 << KVM_FEATURE_PV_SEND_IPI, true);
	enforced(_metadata, 1 << KVM_FEATURE_PV_SCHED_YIELD, true);
}

TEST(enable_cap_errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 val;

	EXPECT_EQ(-EINVAL, enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1, 1));
	EXPECT_EQ(-EINVAL, enable_cap(vcpu, KVM_CAP_SPLIT_IRQCHIP, 0, 24));
	EXPECT_EQ(-EINVAL, enable_cap(vcpu, 0xffff, 0, 0));
	/* on, and off again */
	set_features(vcpu, 0);
	EXPECT_EQ(0, enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
	EXPECT_EQ(0, vcpu_try_get_msr(vcpu, MSR_KVM_STEAL_TIME, &val));
	EXPECT_EQ(0, enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 0));
	EXPECT_EQ(1, vcpu_try_get_msr(vcpu, MSR_KVM_STEAL_TIME, &val));
	vm_destroy(vm);
}

/* --- stolen time --- */

#define STOLEN	(20 * NSEC / 1000)

static volatile struct kvm_steal_time *const st = &steal[0];
static volatile u64 steal_start, tsc_limit;

static u64 guest_steal(void)
{
	u32 version;
	u64 val;

	do {
		version = st->version;
		asm volatile("" : : : "memory");
		val = st->steal;
		asm volatile("" : : : "memory");
	} while ((version & 1) || version != st->version);
	return val;
}

static void guest_is_robbed(void)
{
	u64 start = rdtsc();

	guest_spins();
	wrmsr(MSR_KVM_STEAL_TIME, (uintptr_t)st | 1);
	GUEST_ASSERT_EQ(st->preempted, 0);
	guest_sync(1);
	GUEST_ASSERT_EQ(st->preempted, 0);
	steal_start = guest_steal();
	while (guest_steal() - steal_start < STOLEN && rdtsc() - start < tsc_limit)
		guest_relax();
	GUEST_ASSERT_EQ(st->version & 1, 0);
	GUEST_ASSERT_EQ(st->flags, 0);
	guest_sync(2);
	wrmsr(MSR_KVM_STEAL_TIME, 0);
	st->preempted = 0;
	guest_done();
}

static u64 run_delay(void)
{
	unsigned long long delay = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", gettid());
	f = fopen(path, "r");
	if (!f || fscanf(f, "%*u %llu", &delay) != 1)
		fail("%s", path);
	fclose(f);
	return delay;
}

static volatile bool robber_stops;

static void *robber(void *arg)
{
	(void)arg;
	while (!robber_stops)
		;
	return NULL;
}

TEST(steal_time)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 before, stolen;
	pthread_t thread;

	/* both on one CPU */
	on_cpu(0);
	tsc_limit = 20000ULL * sys_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	vcpu_set_long(vcpu, guest_is_robbed);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	/* one that is in its VMM was not preempted */
	EXPECT_EQ(0, st->preempted);
	ASSERT_EQ(0, pthread_create(&thread, NULL, robber, NULL));
	before = run_delay();
	ASSERT_EQ(2, guest_run_sync(vcpu));
	robber_stops = true;
	stolen = st->steal - steal_start;
	EXPECT_LE(STOLEN, stolen);
	EXPECT_GE(run_delay() - before, stolen);
	pthread_join(thread, NULL);
	guest_run_done(vcpu);
	/* off is off */
	EXPECT_EQ(0, st->preempted);
	vm_destroy(vm);
}

static void guest_without_memory(void)
{
	static const u64 nowhere[] = { GPA_MMIO, GPA_USER, ~0x3fULL };

	for (u32 i = 0; i < ARRAY_SIZE(nowhere); i++) {
		wrmsr(MSR_KVM_STEAL_TIME, nowhere[i] | 1);
		guest_sync(i);
	}
	guest_done();
}

TEST(steal_time_without_memory)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u8 *page = vm_add_slot(vm, SLOT_USER, KVM_MEM_READONLY, GPA_USER, PAGE_SIZE);

	vcpu_set_long(vcpu, guest_without_memory);
	for (u32 i = 0; i < 3; i++)
		ASSERT_EQ(i, guest_run_sync(vcpu));
	guest_run_done(vcpu);
	for (u32 i = 0; i < 64; i++) {
		EXPECT_EQ(0, page[i]);
	}
	vm_destroy(vm);
}

/* --- a flush of the TLB that waits until the vCPU runs again --- */

#define VA	0x30000000UL

static void guest_reads_page(void)
{
	volatile u32 *page = (void *)VA;
	u64 start = rdtsc();

	guest_spins();
	wrmsr(MSR_KVM_STEAL_TIME, (uintptr_t)st | 1);
	GUEST_ASSERT_EQ(*page, 1);
	guest_sync(1);
	while (*page == 1 && rdtsc() - start < tsc_limit)
		guest_relax();
	GUEST_ASSERT_EQ(*page, 2);
	GUEST_ASSERT_EQ(st->preempted & KVM_VCPU_FLUSH_TLB, 0);
	guest_sync(2);
	guest_done();
}

static u64 flushes(struct vcpu *vcpu)
{
	return vcpu_stat(vcpu, dev_is_kvm() ? "tlb_flush" : "tlb_flushes");
}

static void map(struct vm *vm, u64 gpa)
{
	*(volatile u64 *)low(vm, GPA_PT) = gpa | PTE_P | PTE_W;
}

/*
 * It has the vCPU's CPU, so the vCPU has it not: as another vCPU would, change a
 * mapping, and ask for a flush where that does not run.
 */
static void *changes_mapping(void *arg)
{
	u8 old = KVM_VCPU_PREEMPTED;

	do {
		if (robber_stops)
			return NULL;
		old = KVM_VCPU_PREEMPTED;
	} while (st->preempted != old);
	map(arg, GPA_SCRATCH + PAGE_SIZE);
	__atomic_compare_exchange_n(&st->preempted, &old, old | KVM_VCPU_FLUSH_TLB, false,
				    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return old == KVM_VCPU_PREEMPTED ? arg : NULL;
}

TEST(tlb_flush)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 before, plain;
	pthread_t thread;
	void *asked;

	on_cpu(0);
	tsc_limit = 20000ULL * sys_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	*(u32 *)low(vm, GPA_SCRATCH) = 1;
	*(u32 *)low(vm, GPA_SCRATCH + PAGE_SIZE) = 2;
	*(u64 *)low(vm, GPA_PD + (VA >> 21) * 8) = GPA_PT | PTE_P | PTE_W;
	map(vm, GPA_SCRATCH);
	vcpu_set_long(vcpu, guest_reads_page);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	/* nobody asks, nothing is flushed */
	plain = flushes(vcpu);
	vcpu_get_msr(vcpu, MSR_KVM_STEAL_TIME);
	vcpu_complete_io(vcpu);
	before = flushes(vcpu);
	EXPECT_EQ(plain, before);
	ASSERT_EQ(0, pthread_create(&thread, NULL, changes_mapping, vm));
	ASSERT_EQ(2, guest_run_sync(vcpu));
	robber_stops = true;
	pthread_join(thread, &asked);
	EXPECT_NE(NULL, asked);
	EXPECT_LT(before, flushes(vcpu));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- PV EOI --- */

static volatile u32 offered[256], eois_left_out, eois_made, in_handler;

static void on_pv_eoi_irq(struct guest_trap *trap)
{
	u8 vector = trap->vector, bit;

	irqs[vector]++;
	offered[vector] = eoi_word & 1;
	if (in_handler)
		guest_sync(in_handler);
	asm volatile("lock btrl $0, %1; setc %0" : "=q"(bit), "+m"(eoi_word) : : "cc");
	if (bit) {
		eois_left_out++;
	} else {
		apic_eoi();
		eois_made++;
	}
}

static void self_ipi(u8 vector)
{
	apic_write(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | vector);
}

#define IPIS	100

static void guest_counts_eois(void)
{
	apic_enable();
	for (u32 round = 0; round < 2; round++) {
		guest_sync(1);
		eois_left_out = 0;
		eois_made = 0;
		guest_sti();
		for (u32 i = 0; i < IPIS; i++)
			self_ipi(0x41);
		guest_cli();
		GUEST_ASSERT_EQ(eois_left_out + eois_made, IPIS);
		guest_sync(2);
		wrmsr(MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word | 1);
	}
	guest_done();
}

TEST(pv_eoi_saves_exits)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 exits[2];

	guest_handlers[0x41] = on_pv_eoi_irq;
	vcpu_set_long(vcpu, guest_counts_eois);
	for (u32 round = 0; round < 2; round++) {
		ASSERT_EQ(1, guest_run_sync(vcpu));
		exits[round] = vcpu_stat(vcpu, "exits");
		ASSERT_EQ(2, guest_run_sync(vcpu));
		exits[round] = vcpu_stat(vcpu, "exits") - exits[round];
		EXPECT_EQ(IPIS, eois_left_out + eois_made);
		/* an exit to the host in the middle of a handler takes the offer back */
		if (round) {
			EXPECT_GE(IPIS / 4, eois_made);
		} else {
			EXPECT_EQ(IPIS, eois_made);
		}
	}
	guest_run_done(vcpu);
	TH_LOG("%d interrupts: %llu exits, with PV EOI %llu", IPIS,
	       (unsigned long long)exits[0], (unsigned long long)exits[1]);
	EXPECT_LE(2 * IPIS, exits[0]);
	/* the host's own interrupts are in it */
	EXPECT_GE(exits[0] - IPIS * 3 / 4, exits[1]);
	vm_destroy(vm);
}

static void guest_waiting_irqs(void)
{
	apic_enable();
	wrmsr(MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word | 1);
	/* the EOI of the first lets the second through: it has to be made */
	self_ipi(0x41);
	self_ipi(0x51);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x51], 1);
	GUEST_WAIT((guest_sti_nop(), irqs[0x41]));
	/* 0x41 is offered, but an exit to the host would have taken that back */
	GUEST_ASSERT_EQ(offered[0x51], 0);
	/* the interrupt that comes after an EOI that was left out */
	self_ipi(0x41);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 2);
	/* IRR and ISR are as if it had been made */
	GUEST_ASSERT_EQ(apic_read(APIC_ISR + 0x20), 0);
	GUEST_ASSERT_EQ(apic_read(APIC_PROCPRI), 0);
	/* one that is level-triggered, whose EOI the IOAPIC waits for */
	ioapic_route(20, 0x61 | IOAPIC_LEVEL);
	guest_sync(1);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x61], 1);
	GUEST_ASSERT_EQ(offered[0x61], 0);
	GUEST_ASSERT_EQ(ioapic_read(0x10 + 2 * 20) & IOAPIC_RIRR, 0);
	/* one that a guest ends by hand although it need not */
	guest_handlers[0x41] = on_apic_irq;
	self_ipi(0x41);
	guest_sti_nop();
	GUEST_ASSERT_EQ(irqs[0x41], 3);
	GUEST_ASSERT_EQ(apic_read(APIC_ISR + 0x20), 0);
	GUEST_ASSERT_EQ(eoi_word & 1, 0);
	guest_done();
}

TEST(pv_eoi_and_other_interrupts)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	guest_handlers[0x41] = on_pv_eoi_irq;
	guest_handlers[0x51] = on_pv_eoi_irq;
	guest_handlers[0x61] = on_pv_eoi_irq;
	vcpu_set_long(vcpu, guest_waiting_irqs);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vm_irq_line(vm, 20, 1);
	vm_irq_line(vm, 20, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_leaves_in_handler(void)
{
	apic_enable();
	wrmsr(MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word | 1);
	self_ipi(0x41);
	guest_sti_nop();
	guest_sync(2);
	guest_done();
}

static u32 in_service(struct vcpu *vcpu)
{
	struct kvm_lapic_state s = { { 0 } };

	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	return *(u32 *)(s.regs + APIC_ISR + 0x20);
}

/* A VMM that saves the state sees what is in service, and nothing of the offer. */
TEST(pv_eoi_and_userspace)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	in_handler = 1;
	guest_handlers[0x41] = on_pv_eoi_irq;
	vcpu_set_long(vcpu, guest_leaves_in_handler);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(2, in_service(vcpu));
	EXPECT_EQ(0, eoi_word);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_EQ(1, eois_left_out + eois_made);
	EXPECT_EQ(0, in_service(vcpu));
	EXPECT_EQ(0, eoi_word);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- KVM_HC_SEND_IPI --- */

static volatile u32 ready, got, stop;
static volatile u32 nmis;

static void on_ipi(struct guest_trap *trap)
{
	(void)trap;
	__atomic_fetch_add(&got, 1, __ATOMIC_SEQ_CST);
	apic_eoi();
}

static void on_nmi(struct guest_trap *trap)
{
	(void)trap;
	__atomic_fetch_add(&nmis, 1, __ATOMIC_SEQ_CST);
}

static void guest_ap(void)
{
	apic_enable();
	__atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
	while (!stop)
		guest_sti_hlt();
	__atomic_fetch_sub(&ready, 1, __ATOMIC_SEQ_CST);
	guest_done();
}

#define FAR_ID	70	/* in the second bitmap */
#define ROUNDS	20

static u64 send(u64 lo, u64 hi, u64 first, u64 icr)
{
	return hypercall(KVM_HC_SEND_IPI, lo, hi, first, icr);
}

static void guest_sends_ipis(void)
{
	u32 want = 0;

	apic_enable();
	GUEST_WAIT(ready == 3);
	/* to 1 and 2, and to FAR_ID; what is not there is left out */
	GUEST_ASSERT_EQ(send(6, 0, 0, 0x41), 2);
	want += 2;
	GUEST_WAIT(got == want);
	GUEST_ASSERT_EQ(send(6, 1 << (FAR_ID - 64), 0, 0x41), 3);
	want += 3;
	GUEST_WAIT(got == want);
	GUEST_ASSERT_EQ(send(~1ULL, ~0ULL, 0, 0x41), 3);
	want += 3;
	GUEST_WAIT(got == want);
	/* the bitmap begins at the lowest of them */
	GUEST_ASSERT_EQ(send(3, 0, 1, 0x41), 2);
	want += 2;
	GUEST_WAIT(got == want);
	GUEST_ASSERT_EQ(send(1, 0, FAR_ID, 0x41), 1);
	want += 1;
	GUEST_WAIT(got == want);
	GUEST_ASSERT_EQ(send(2, 0, 0, APIC_DM_NMI), 1);
	GUEST_WAIT(nmis == 1);
	/* nobody */
	GUEST_ASSERT_EQ(send(0, 0, 0, 0x41), 0);
	GUEST_ASSERT_EQ(send(~0ULL, ~0ULL, 0x10000, 0x41), 0);
	GUEST_ASSERT_EQ(send(~0ULL, 0, 0xffffffff, 0x41), 0);
	/* destinations are in the bitmaps alone */
	GUEST_ASSERT_EQ(send(2, 0, 0, APIC_DEST_ALLBUT | 0x41), -KVM_EINVAL);
	GUEST_ASSERT_EQ(send(2, 0, 0, APIC_DEST_LOGICAL | 0x41), -KVM_EINVAL);
	GUEST_ASSERT_EQ(got, want);

	for (u32 i = 0; i < ROUNDS; i++) {
		if (!i)
			guest_sync(1);
		for (u32 id = 1; id <= 2; id++) {
			apic_write(APIC_ICR2, id << 24);
			apic_write(APIC_ICR, APIC_INT_ASSERT | 0x41);
		}
		apic_write(APIC_ICR2, FAR_ID << 24);
		apic_write(APIC_ICR, APIC_INT_ASSERT | 0x41);
	}
	guest_sync(2);
	for (u32 i = 0; i < ROUNDS; i++)
		send(6, 1 << (FAR_ID - 64), 0, 0x41);
	guest_sync(3);
	stop = 1;
	while (ready) {
		send(6, 1 << (FAR_ID - 64), 0, 0x41);
		for (int i = 0; i < 1000; i++)
			guest_relax();
	}
	guest_done();
}

TEST(send_ipi)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *sender = vcpu_create(vm), *far;
	u64 exits[3];

	amd = host_is_amd();
	guest_handlers[0x41] = on_ipi;
	guest_handlers[VEC_NMI] = on_nmi;
	vcpu_set_long(sender, guest_sends_ipis);
	vcpu_set_long(vcpu_create(vm), guest_ap);
	vcpu_set_long(vcpu_create(vm), guest_ap);
	far = vcpu_create_bare(vm, FAR_ID);
	vcpu_set_cpuid(far);
	far->id = 3;	/* whose stack and TSS it gets */
	vcpu_set_long(far, guest_ap);
	for (int i = 1; i < 4; i++)
		vcpu_start(&vm->vcpu[i]);
	for (u32 i = 0; i < 3; i++) {
		ASSERT_EQ(i + 1, guest_run_sync(sender));
		exits[i] = vcpu_stat(sender, "exits");
	}
	guest_run_done(sender);
	for (int i = 1; i < 4; i++)
		vcpu_join(&vm->vcpu[i]);
	TH_LOG("%d times to 3 CPUs: %llu exits, by hypercall %llu", ROUNDS,
	       (unsigned long long)(exits[1] - exits[0]),
	       (unsigned long long)(exits[2] - exits[1]));
	EXPECT_LE(6 * ROUNDS, exits[1] - exits[0]);
	EXPECT_GE((exits[1] - exits[0]) / 2, exits[2] - exits[1]);
	vm_destroy(vm);
}

static void guest_without_apic(void)
{
	HYPERCALL_IS(-KVM_EOPNOTSUPP, KVM_HC_SEND_IPI, 1, 0, 0, 0x41);
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, 0, 0, 0);
	HYPERCALL_IS(0, KVM_HC_SCHED_YIELD, 0, 0, 0, 0);
	/* numbers that are nothing */
	HYPERCALL_IS(-KVM_ENOSYS, 0, 0, 0, 0, 0);
	HYPERCALL_IS(-KVM_ENOSYS, KVM_HC_MMU_OP, 0, 0, 0, 0);
	HYPERCALL_IS(-KVM_ENOSYS, KVM_HC_MAP_GPA_RANGE, 0, 1, 0, 0);
	HYPERCALL_IS(-KVM_ENOSYS, ~0ULL, 0, 0, 0, 0);
	guest_done();
}

TEST(hypercalls_without_apic)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	amd = host_is_amd();
	vcpu_set_long(vcpu, guest_without_apic);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- KVM_HC_KICK_CPU, KVM_HC_SCHED_YIELD --- */

static volatile u32 halts;

static void guest_halts(void)
{
	apic_enable();
	wrmsr(MSR_KVM_STEAL_TIME, (uintptr_t)&steal[1] | 1);
	for (;;) {
		halts++;
		/* interrupts are off: nothing but a kick ends it */
		guest_hlt();
		if (stop)
			guest_done();
	}
}

static void guest_kicks(void)
{
	apic_enable();
	guest_sync(1);
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, 1, 0, 0);
	GUEST_WAIT(halts == 2);
	guest_sync(2);
	stop = 1;
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, 1, 0, 0);
	/* itself, somebody who is awake, nobody */
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, 77, 0, 0);
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, ~0ULL, 0, 0);
	HYPERCALL_IS(0, KVM_HC_SCHED_YIELD, 0, 0, 0, 0);
	HYPERCALL_IS(0, KVM_HC_SCHED_YIELD, 1, 0, 0, 0);
	HYPERCALL_IS(0, KVM_HC_SCHED_YIELD, ~0ULL, 0, 0, 0);
	/* the next HLT does not wait, the one after that would */
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, 0, 0, 0);
	guest_hlt();
	guest_done();
}

TEST(kick_ends_hlt)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *kicker = vcpu_create(vm), *sleeper = vcpu_create(vm);

	amd = host_is_amd();
	vcpu_set_long(kicker, guest_kicks);
	vcpu_set_long(sleeper, guest_halts);
	vcpu_start(sleeper);
	ASSERT_EQ(1, guest_run_sync(kicker));
	while (!halts)
		usleep(1000);
	vcpu_wait_asleep(sleeper);
	/* who halts wants to run no more: a scheduler may take it for idle */
	EXPECT_EQ(0, ((volatile struct kvm_steal_time *)&steal[1])->preempted);
	ASSERT_EQ(2, guest_run_sync(kicker));
	vcpu_wait_asleep(sleeper);
	guest_run_done(kicker);
	vcpu_join(sleeper);
	EXPECT_EQ(2, halts);
	vm_destroy(vm);
}

static void guest_enables_apic(void)
{
	apic_enable();
	guest_sync(1);
	guest_done();
}

static void guest_kicks_once(void)
{
	apic_enable();
	HYPERCALL_IS(0, KVM_HC_KICK_CPU, 0, 1, 0, 0);
	guest_done();
}

/* A kick that came while the vCPU was not in KVM_RUN. */
TEST(kick_shows_in_mp_state)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *kicker = vcpu_create(vm), *sleeper = vcpu_create(vm);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };

	amd = host_is_amd();
	vcpu_set_long(kicker, guest_kicks_once);
	vcpu_set_long(sleeper, guest_enables_apic);
	ASSERT_EQ(1, guest_run_sync(sleeper));
	VCPU_IOCTL(sleeper, KVM_SET_MP_STATE, &mp);
	VCPU_IOCTL(sleeper, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp.mp_state);
	guest_run_done(kicker);
	VCPU_IOCTL(sleeper, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);
	vm_destroy(vm);
}

/* --- KVM_HC_CLOCK_PAIRING --- */

static struct kvm_clock_pairing pairing;

static volatile u64 pairing_ret;

static void guest_pairs_clocks(void)
{
	u64 before = rdtsc();

	pairing_ret = hypercall(KVM_HC_CLOCK_PAIRING, (uintptr_t)&pairing,
				KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0);
	if (!pairing_ret) {
		GUEST_ASSERT(pairing.tsc >= before && pairing.tsc <= rdtsc());
		HYPERCALL_IS(-KVM_EFAULT, KVM_HC_CLOCK_PAIRING, GPA_MMIO, 0, 0, 0);
	}
	HYPERCALL_IS(-KVM_EOPNOTSUPP, KVM_HC_CLOCK_PAIRING, (uintptr_t)&pairing, 1, 0, 0);
	guest_done();
}

TEST(clock_pairing)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct timespec now;

	amd = host_is_amd();
	memset(&pairing, 0xff, sizeof(pairing));
	vcpu_set_long(vcpu, guest_pairs_clocks);
	guest_run_done(vcpu);
	clock_gettime(CLOCK_REALTIME, &now);
	if (pairing_ret) {
		EXPECT_EQ(-KVM_EOPNOTSUPP, pairing_ret);
		if (!file_has_word("/sys/devices/system/clocksource/clocksource0/current_clocksource",
				   "", "tsc"))
			SKIP(return, "the host does not keep its time by the TSC");
	}
	EXPECT_EQ(0, pairing_ret);
	EXPECT_GE(now.tv_sec, pairing.sec);
	EXPECT_LE(now.tv_sec - 30, pairing.sec);
	EXPECT_GT(NSEC, pairing.nsec);
	EXPECT_EQ(0, pairing.flags);
	for (u32 i = 0; i < ARRAY_SIZE(pairing.pad); i++) {
		EXPECT_EQ(0, pairing.pad[i]);
	}
	vm_destroy(vm);
}

/* --- the other vendor's hypercall --- */

static volatile u64 code_at;

static u64 call_code(u64 nr)
{
	u64 ret;

	asm volatile("call *%1" : "=a"(ret) : "r"(code_at), "a"(nr), "b"(0) : "memory", "rcx", "rdx",
		     "rsi");
	return ret;
}

static void guest_calls_code(void)
{
	GUEST_ASSERT_EQ(call_code(KVM_HC_VAPIC_POLL_IRQ), 0);
	guest_sync(1);
	GUEST_ASSERT_EQ(call_code(12345), -KVM_ENOSYS);
	guest_done();
}

static const u8 vmcall_code[] = { 0x0f, 0x01, 0xc1, 0xc3 };
static const u8 vmmcall_code[] = { 0x0f, 0x01, 0xd9, 0xc3 };

TEST(foreign_hypercall_is_patched)
{
	const u8 *own = host_is_amd() ? vmmcall_code : vmcall_code;
	const u8 *foreign = host_is_amd() ? vmcall_code : vmmcall_code;

	/* also where the two bytes that stay and the one that changes lie in two pages */
	for (u32 offset = 0x100; offset <= 0xffe; offset += 0xefe) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_create(vm);
		u8 *code = low(vm, GPA_SCRATCH + offset);

		code_at = GPA_SCRATCH + offset;
		memcpy(code, foreign, 4);
		vcpu_set_long(vcpu, guest_calls_code);
		ASSERT_EQ(1, guest_run_sync(vcpu));
		EXPECT_EQ(0, memcmp(code, own, 4));
		guest_run_done(vcpu);
		vm_destroy(vm);
	}
}

/* KVM's write to the text fails there, and the guest does not get on. */
TEST(foreign_hypercall_in_read_only_memory)
{
	const u8 *foreign = host_is_amd() ? vmcall_code : vmmcall_code;
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u8 *code = vm_add_slot(vm, SLOT_USER, KVM_MEM_READONLY, GPA_USER, PAGE_SIZE);

	if (dev_is_kvm())
		SKIP(return, "stock KVM wants to write there");
	code_at = GPA_USER;
	memcpy(code, foreign, 4);
	vcpu_set_long(vcpu, guest_calls_code);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, memcmp(code, foreign, 4));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_executes_nothing(void)
{
	u32 trap;

	/* looks like it, and is something else */
	asm volatile(TRY("ud2") "movl %%r9d, %[trap]" : [trap] "=r"(trap) : : TRY_CLOBBERS);
	GUEST_ASSERT_EQ(trap, GUEST_FAULTED | VEC_UD);
	asm volatile(TRY(".byte 0x0f, 0x01, 0xc6") "movl %%r9d, %[trap]"
		     : [trap] "=r"(trap) : : TRY_CLOBBERS);
	GUEST_ASSERT_EQ(trap, GUEST_FAULTED | VEC_UD);
	guest_done();
}

TEST(undefined_opcodes_stay_undefined)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_executes_nothing);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- saved and restored --- */

static struct pvclock_vcpu_time_info clock_page;
static volatile u64 clock_ns[2];

static void guest_saves(void)
{
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uintptr_t)&clock_page | 1);
	wrmsr(MSR_KVM_STEAL_TIME, (uintptr_t)st | 1);
	wrmsr(MSR_KVM_PV_EOI_EN, (uintptr_t)&eoi_word | 1);
	clock_ns[0] = guest_kvmclock_ns(&clock_page);
	guest_sync(1);
	guest_done();
}

static void guest_goes_on(void)
{
	apic_enable();
	clock_ns[1] = guest_kvmclock_ns(&clock_page);
	GUEST_ASSERT_EQ(rdmsr(MSR_KVM_SYSTEM_TIME_NEW), (uintptr_t)&clock_page | 1);
	GUEST_ASSERT_EQ(rdmsr(MSR_KVM_STEAL_TIME), (uintptr_t)st | 1);
	GUEST_ASSERT_EQ(rdmsr(MSR_KVM_PV_EOI_EN), (uintptr_t)&eoi_word | 1);
	GUEST_ASSERT_EQ(st->preempted, 0);
	GUEST_ASSERT_EQ(st->version & 1, 0);
	for (u32 i = 0; i < 3; i++) {
		self_ipi(0x41);
		guest_sti_nop();
	}
	GUEST_ASSERT_EQ(irqs[0x41], 3);
	GUEST_ASSERT(eois_left_out >= 2);
	guest_sync(2);
	guest_done();
}

static const u32 saved_msrs[] = {
	MSR_IA32_TSC, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN,
};

/* The memory goes along, since it is this program's; the clock must not go back. */
TEST(restored_in_a_new_vm)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_clock_data data = { .clock = 0 };
	u64 val[ARRAY_SIZE(saved_msrs)], saved_steal;

	/* of a VM that has been running for an hour */
	data.clock = 3600 * NSEC;
	VM_IOCTL(vm, KVM_SET_CLOCK, &data);
	vcpu_set_long(vcpu, guest_saves);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	memset(&data, 0, sizeof(data));
	VM_IOCTL(vm, KVM_GET_CLOCK, &data);
	for (u32 i = 0; i < ARRAY_SIZE(saved_msrs); i++)
		val[i] = vcpu_get_msr(vcpu, saved_msrs[i]);
	vm_destroy(vm);
	saved_steal = st->steal;
	/* the page is written anew */
	clock_page.system_time = 0;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_create(vm);
	guest_handlers[0x41] = on_pv_eoi_irq;
	for (u32 i = 0; i < ARRAY_SIZE(saved_msrs); i++) {
		EXPECT_EQ(1, vcpu_set_msr(vcpu, saved_msrs[i], val[i]));
	}
	data.flags = 0;
	VM_IOCTL(vm, KVM_SET_CLOCK, &data);
	vcpu_set_long(vcpu, guest_goes_on);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_LE(3600 * NSEC, clock_ns[0]);
	EXPECT_LE(clock_ns[0], clock_ns[1]);
	EXPECT_GE(clock_ns[0] + 60 * NSEC, clock_ns[1]);
	EXPECT_LE(saved_steal, st->steal);
	guest_run_done(vcpu);
	vm_destroy(vm);
}
