// SPDX-License-Identifier: GPL-2.0-only
/* What KVM_ENABLE_CAP switches on a VM: quirks, platform info, failed emulation. */

#include "lib/test.h"

#define QUIRKS	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE |	\
		 KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT |	\
		 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)

static int enable(struct vm *vm, u32 number, u64 arg)
{
	struct kvm_enable_cap cap = { .cap = number, .args = { arg } };

	return sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

TEST(quirks_arguments)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	u64 all = (u32)dev_cap(KVM_CAP_DISABLE_QUIRKS2);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DISABLE_QUIRKS2, .flags = 1 };

	EXPECT_EQ(1, dev_cap(KVM_CAP_DISABLE_QUIRKS));
	EXPECT_EQ(QUIRKS, all & QUIRKS);
	EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2, 0));
	EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2, all));
	for (int i = 0; i < 64; i++) {
		EXPECT_EQ(all & 1ULL << i ? 0 : -EINVAL,
			  enable(vm, KVM_CAP_DISABLE_QUIRKS2, 1ULL << i));
	}
	/* The old one takes anything. */
	EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS, ~0ULL));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	vm_destroy(vm);
}

static u32 lint0(struct vcpu *vcpu)
{
	struct kvm_lapic_state s = {};
	u32 v;

	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	memcpy(&v, s.regs + APIC_LVT0, sizeof(v));
	return v;
}

TEST(quirk_lint0)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_NO_MEMORY);

	EXPECT_EQ(APIC_DM_EXTINT, lint0(vcpu_create(vm)));
	vm_destroy(vm);
	vm = vm_create(VM_IRQCHIP | VM_NO_MEMORY);
	EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_LINT0_REENABLED));
	EXPECT_EQ(APIC_LVT_MASKED, lint0(vcpu_create(vm)));
	vm_destroy(vm);
}

/* Linux 6.11's */
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS	237
#endif

static void set_lapic_reg(struct kvm_lapic_state *s, u32 reg, u32 value)
{
	memcpy(s->regs + reg, &value, sizeof(value));
}

/* A period of centuries: to a signed number of nanoseconds it would be over already. */
TEST(slow_apic_timer)
{
	static const u32 modes[] = { 0, APIC_LVT_TIMER_PERIODIC };
	struct vm *vm = vm_create(VM_IRQCHIP | VM_NO_MEMORY);
	u64 longest = ~0ULL / (~0U * 128ULL);
	struct kvm_lapic_state s;
	struct timespec now;
	struct vcpu *vcpu;

	if (!ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_APIC_BUS_CYCLES_NS))
		SKIP(return, "no KVM_CAP_X86_APIC_BUS_CYCLES_NS");
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, 0));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, longest + 1));
	EXPECT_EQ(0, enable(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, longest));
	vcpu = vcpu_create(vm);
	/* that number is about -4.3 s, which is in the past from then on */
	do {
		usleep(20000);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < 5);
	for (u32 i = 0; i < 2; i++) {
		u32 irr = 0;

		VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
		set_lapic_reg(&s, APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
		set_lapic_reg(&s, APIC_LVTT, modes[i] | 0x40);
		set_lapic_reg(&s, APIC_TDCR, APIC_TDR_DIV_128);
		set_lapic_reg(&s, APIC_TMICT, ~0U);
		set_lapic_reg(&s, APIC_TMCCT, ~0U);
		VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &s);
		usleep(20000);
		VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
		memcpy(&irr, s.regs + APIC_IRR + 0x20, sizeof(irr));
		EXPECT_EQ(0, irr);
	}
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1));
	vm_destroy(vm);
}

static void guest_out_7e(void)
{
	outb(0x7e, 0);
	guest_done();
}

/* Is RIP past the OUT when userspace sees it? */
TEST(quirk_out_7e)
{
	for (int off = 0; off < 2; off++) {
		struct vm *vm = vm_create(0);
		struct vcpu *vcpu = vcpu_create(vm);
		u64 before;

		if (off) {
			EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2,
					    KVM_X86_QUIRK_OUT_7E_INC_RIP));
		}
		vcpu_set_long(vcpu, guest_out_7e);
		EXPECT_EQ(0, vcpu_run(vcpu));
		EXPECT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		EXPECT_EQ(0x7e, vcpu->run->io.port);
		before = vcpu_rip(vcpu);
		vcpu_complete_io(vcpu);
		/* OUT imm8, AL has two bytes. */
		EXPECT_EQ(before + (off ? 2 : 0), vcpu_rip(vcpu));
		guest_run_done(vcpu);
		vm_destroy(vm);
	}
}

static volatile u32 seen;

static void guest_reads_apic_page(void)
{
	seen = *(volatile u32 *)APIC_DEFAULT_PHYS_BASE;
	guest_done();
}

/* The APIC's page while the APIC is off: all ones, or userspace's. */
TEST(quirk_lapic_hole)
{
	for (int off = 0; off < 2; off++) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_create(vm);
		struct kvm_sregs s;

		if (off) {
			EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2,
					    KVM_X86_QUIRK_LAPIC_MMIO_HOLE));
		}
		vcpu_set_long(vcpu, guest_reads_apic_page);
		vcpu_sregs(vcpu, &s);
		s.apic_base &= ~(u64)MSR_IA32_APICBASE_ENABLE;
		VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
		seen = 0;
		if (off) {
			EXPECT_EQ(0, vcpu_run(vcpu));
			EXPECT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
			EXPECT_EQ(APIC_DEFAULT_PHYS_BASE, vcpu->run->mmio.phys_addr);
			memset(vcpu->run->mmio.data, 0x11, 4);
		}
		guest_run_done(vcpu);
		EXPECT_EQ(off ? 0x11111111 : ~0U, seen);
		vm_destroy(vm);
	}
}

static volatile u32 mwait_trap, monitor_trap, has_mwait;

static void guest_mwaits(void)
{
	u32 a, b, c, d, t;

	for (;;) {
		asm volatile(TRY("monitor") "movl %%r9d, %0"
			     : "=r"(t) : "a"(&seen), "c"(0), "d"(0) : TRY_CLOBBERS);
		monitor_trap = t;
		asm volatile(TRY("mwait") "movl %%r9d, %0"
			     : "=r"(t) : "a"(0), "c"(0) : TRY_CLOBBERS);
		mwait_trap = t;
		guest_cpuid(1, 0, &a, &b, &c, &d);
		has_mwait = c >> 3 & 1;
		guest_sync(1);
	}
}

TEST(quirks_mwait)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 on, off = vcpu_get_msr(vcpu, MSR_IA32_MISC_ENABLE) & ~(u64)MSR_IA32_MISC_ENABLE_MWAIT;

	on = off | MSR_IA32_MISC_ENABLE_MWAIT;
	vcpu_set_long(vcpu, guest_mwaits);
	/* By default MWAIT does nothing, and is not in CPUID. */
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, monitor_trap);
	EXPECT_EQ(0, mwait_trap);
	EXPECT_EQ(0, has_mwait);
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_MISC_ENABLE, on));
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, has_mwait);
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_MISC_ENABLE, off));

	EXPECT_EQ(0, enable(vm, KVM_CAP_DISABLE_QUIRKS2,
			    KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS |
			    KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT));
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(GUEST_FAULTED | VEC_UD, monitor_trap);
	EXPECT_EQ(GUEST_FAULTED | VEC_UD, mwait_trap);
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_MISC_ENABLE, on));
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(1, has_mwait);
	EXPECT_EQ(0, monitor_trap);
	EXPECT_EQ(0, mwait_trap);
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_MISC_ENABLE, off));
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, has_mwait);
	EXPECT_EQ(GUEST_FAULTED | VEC_UD, mwait_trap);
	vm_destroy(vm);
}

static volatile u32 cpuid_trap, platform_trap, enable_trap;
static volatile u64 platform;

static void guest_platform_info(void)
{
	u32 lo, hi, t;

	asm volatile(TRY("rdmsr") "movl %%r9d, %2"
		     : "=a"(lo), "=d"(hi), "=r"(t) : "c"(MSR_PLATFORM_INFO) : TRY_CLOBBERS);
	platform_trap = t;
	platform = (u64)hi << 32 | lo;
	asm volatile(TRY("wrmsr") "movl %%r9d, %0"
		     : "=r"(t) : "a"(1), "d"(0), "c"(MSR_MISC_FEATURES_ENABLES) : TRY_CLOBBERS);
	enable_trap = t;
	guest_done();
}

TEST(platform_info)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	EXPECT_EQ(1, dev_cap(KVM_CAP_MSR_PLATFORM_INFO));
	EXPECT_EQ(MSR_PLATFORM_INFO_CPUID_FAULT, vcpu_get_msr(vcpu, MSR_PLATFORM_INFO));
	vcpu_set_long(vcpu, guest_platform_info);
	guest_run_done(vcpu);
	EXPECT_EQ(0, platform_trap);
	EXPECT_EQ(MSR_PLATFORM_INFO_CPUID_FAULT, platform);
	EXPECT_EQ(0, enable_trap);
	EXPECT_EQ(1, vcpu_get_msr(vcpu, MSR_MISC_FEATURES_ENABLES));
	/* It cannot go while it is in use. */
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_PLATFORM_INFO, 0));
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_MISC_FEATURES_ENABLES, 2));
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_MISC_FEATURES_ENABLES, 0));
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_PLATFORM_INFO, 0x1200));
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_MISC_FEATURES_ENABLES, 1));

	/* Hidden from the guest, not from userspace. */
	EXPECT_EQ(0, enable(vm, KVM_CAP_MSR_PLATFORM_INFO, 0));
	vcpu_set_long(vcpu, guest_platform_info);
	guest_run_done(vcpu);
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, platform_trap);
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, enable_trap);
	EXPECT_EQ(0x1200, vcpu_get_msr(vcpu, MSR_PLATFORM_INFO));
	EXPECT_EQ(0, enable(vm, KVM_CAP_MSR_PLATFORM_INFO, 1));
	vcpu_set_long(vcpu, guest_platform_info);
	guest_run_done(vcpu);
	EXPECT_EQ(0, platform_trap);
	EXPECT_EQ(0x1200, platform);
	vm_destroy(vm);
}

/* Ring 3 with IOPL 3, and a stack for its traps. */
static void to_ring3(struct vcpu *vcpu)
{
	u64 stack = GPA_STACKS + 8 * STACK_SIZE;
	struct kvm_sregs s;
	struct kvm_regs r;

	memcpy(low(vcpu->vm, GPA_TSS) + 4, &stack, sizeof(stack));
	vcpu_sregs(vcpu, &s);
	s.cs.selector = SEL_UCODE64;
	s.ss.selector = SEL_UDATA;
	s.cs.dpl = 3;
	s.ss.dpl = 3;
	s.ds = s.ss;
	s.es = s.ss;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	vcpu_regs(vcpu, &r);
	r.rflags |= X86_EFLAGS_IOPL;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &r);
}

static void guest_cpuid_traps(void)
{
	u32 a = 0, c = 0, t;

	asm volatile(TRY("cpuid") "movl %%r9d, %2"
		     : "+a"(a), "+c"(c), "=r"(t) : : "rbx", "rdx", TRY_CLOBBERS);
	cpuid_trap = t;
	guest_done();
}

TEST(cpuid_faults_outside_ring_0)
{
	for (int user = 0; user < 2; user++) {
		for (int on = 0; on < 2; on++) {
			struct vm *vm = vm_create(VM_IRQCHIP);
			struct vcpu *vcpu = vcpu_create(vm);

			EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_MISC_FEATURES_ENABLES, on));
			vcpu_set_long(vcpu, guest_cpuid_traps);
			if (user)
				to_ring3(vcpu);
			guest_run_done(vcpu);
			EXPECT_EQ(user && on ? GUEST_FAULTED | VEC_GP : 0, cpuid_trap);
			vm_destroy(vm);
		}
	}
}

static volatile u32 flds_trap;

/* An access to a device by an instruction that nobody emulates. */
static void guest_flds(void)
{
	u32 t;

	asm volatile(TRY("flds (%1)") "movl %%r9d, %0"
		     : "=r"(t) : "r"(GPA_MMIO) : TRY_CLOBBERS);
	flds_trap = t;
	guest_done();
}

TEST(exit_on_emulation_failure)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_run *run = vcpu->run;

	EXPECT_EQ(1, dev_cap(KVM_CAP_EXIT_ON_EMULATION_FAILURE));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 2));
	EXPECT_EQ(-EINVAL, enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1ULL << 32));

	/* By default a user program gets #UD, and the guest lives. */
	vcpu_set_long(vcpu, guest_flds);
	to_ring3(vcpu);
	guest_run_done(vcpu);
	EXPECT_EQ(GUEST_FAULTED | VEC_UD, flds_trap);

	EXPECT_EQ(0, enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1));
	vcpu_set_long(vcpu, guest_flds);
	to_ring3(vcpu);
	EXPECT_EQ(0, vcpu_run(vcpu));
	EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, run->exit_reason);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, run->emulation_failure.suberror);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
		  run->emulation_failure.flags);
	EXPECT_EQ(0xd9, run->emulation_failure.insn_bytes[0]);

	EXPECT_EQ(0, enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 0));
	vcpu_set_long(vcpu, guest_flds);
	to_ring3(vcpu);
	guest_run_done(vcpu);
	EXPECT_EQ(GUEST_FAULTED | VEC_UD, flds_trap);
	vm_destroy(vm);
}
