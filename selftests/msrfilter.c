// SPDX-License-Identifier: GPL-2.0-only
/* KVM_X86_SET_MSR_FILTER, and MSR accesses that are userspace's to answer. */

#include "lib/test.h"

#define MSR_NOWHERE	0x5000abcd	/* in no range any CPU ever had */
#define ALL_REASONS	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | \
			 KVM_MSR_EXIT_REASON_FILTER)

static volatile u32 msr, trap;
static volatile u64 value;

static void guest_reads(void)
{
	u32 lo, hi, t;

	for (;;) {
		asm volatile(TRY("rdmsr") "movl %%r9d, %2"
			     : "=a"(lo), "=d"(hi), "=r"(t) : "c"(msr) : TRY_CLOBBERS);
		value = (u64)hi << 32 | lo;
		trap = t;
		guest_sync(1);
	}
}

static void guest_writes(void)
{
	u32 t;

	for (;;) {
		asm volatile(TRY("wrmsr") "movl %%r9d, %0"
			     : "=r"(t)
			     : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
			     : TRY_CLOBBERS);
		trap = t;
		guest_sync(1);
	}
}

static int filter_set(struct vm *vm, u32 flags, const struct kvm_msr_filter_range *r, u32 n)
{
	struct kvm_msr_filter f = { .flags = flags };

	for (u32 i = 0; i < n; i++)
		f.ranges[i] = r[i];
	return sys_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f);
}

static int user_msr(struct vm *vm, u64 reasons)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = { reasons },
	};

	return sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

/* A single MSR that is denied. */
static int deny(struct vm *vm, u32 flags, u32 number)
{
	u8 bits[8] = {};
	struct kvm_msr_filter_range r = {
		.flags = flags, .nmsrs = 1, .base = number, .bitmap = bits,
	};

	return filter_set(vm, 0, &r, 1);
}

static u32 access_msr(struct vcpu *vcpu, u32 number)
{
	msr = number;
	if (guest_run_sync(vcpu) != 1)
		fail("no sync");
	return trap;
}

TEST(arguments)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	u8 bits[0x600 + 8] = {};
	struct kvm_msr_filter_range r = {
		.flags = KVM_MSR_FILTER_READ, .nmsrs = 8, .bitmap = bits,
	};

	EXPECT_EQ(1, dev_cap(KVM_CAP_X86_MSR_FILTER));
	EXPECT_EQ(1, dev_cap(KVM_CAP_X86_USER_SPACE_MSR));
	EXPECT_EQ(-EINVAL, user_msr(vm, 1ULL << 32));
	EXPECT_EQ(-EINVAL, user_msr(vm, 1 << 10));
	EXPECT_EQ(0, user_msr(vm, ALL_REASONS));
	EXPECT_EQ(0, user_msr(vm, 0));

	EXPECT_EQ(-EFAULT, sys_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, NULL));
	EXPECT_EQ(0, filter_set(vm, 0, NULL, 0));
	/* Denying all would deny the x2APIC's too: there has to be a range. */
	EXPECT_EQ(-EINVAL, filter_set(vm, KVM_MSR_FILTER_DEFAULT_DENY, NULL, 0));
	EXPECT_EQ(0, filter_set(vm, KVM_MSR_FILTER_DEFAULT_DENY, &r, 1));
	EXPECT_EQ(-EINVAL, filter_set(vm, 2, &r, 1));
	r.flags = 0;
	EXPECT_EQ(-EINVAL, filter_set(vm, 0, &r, 1));
	r.flags = 4;
	EXPECT_EQ(-EINVAL, filter_set(vm, 0, &r, 1));
	/* An empty range is none, whatever else it says. */
	r.nmsrs = 0;
	EXPECT_EQ(0, filter_set(vm, 0, &r, 1));
	r.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
	r.nmsrs = 0x600 * 8;
	EXPECT_EQ(0, filter_set(vm, 0, &r, 1));
	r.nmsrs++;
	EXPECT_EQ(-EINVAL, filter_set(vm, 0, &r, 1));
	r.nmsrs = ~0U;
	EXPECT_EQ(-EINVAL, filter_set(vm, 0, &r, 1));
	r.nmsrs = 8;
	r.bitmap = NULL;
	EXPECT_EQ(-EFAULT, filter_set(vm, 0, &r, 1));
	vm_destroy(vm);
}

/* Without KVM_CAP_X86_USER_SPACE_MSR what is denied is #GP. */
TEST(denied_is_gp)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	/* One that always exits, and those that do not without a filter. */
	static const u32 list[] = { MSR_IA32_CR_PAT, MSR_GS_BASE, MSR_STAR, MSR_IA32_SYSENTER_CS };
	u64 v;

	for (u32 i = 0; i < ARRAY_SIZE(list); i++) {
		vcpu_set_long(vcpu, guest_reads);
		EXPECT_EQ(0, access_msr(vcpu, list[i]));
		EXPECT_EQ(0, deny(vm, KVM_MSR_FILTER_READ, list[i]));
		EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(vcpu, list[i]));
		/* The next one is another; userspace may always. */
		EXPECT_EQ(0, access_msr(vcpu, MSR_IA32_TSC));
		EXPECT_EQ(1, vcpu_try_get_msr(vcpu, list[i], &v));
		EXPECT_EQ(1, vcpu_set_msr(vcpu, list[i], v));
		/* Writes were not named. */
		value = v;
		vcpu_set_long(vcpu, guest_writes);
		EXPECT_EQ(0, access_msr(vcpu, list[i]));
		EXPECT_EQ(0, deny(vm, KVM_MSR_FILTER_WRITE, list[i]));
		EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(vcpu, list[i]));
		EXPECT_EQ(0, filter_set(vm, 0, NULL, 0));
		EXPECT_EQ(0, access_msr(vcpu, list[i]));
	}
	vm_destroy(vm);
}

TEST(default_deny)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u8 bits[8] = { 2 };
	struct kvm_msr_filter_range r[2] = {
		{ .flags = KVM_MSR_FILTER_READ, .nmsrs = 2, .base = MSR_FS_BASE, .bitmap = bits },
		/* Never looked at: the first range that names an MSR counts. */
		{ .flags = KVM_MSR_FILTER_READ, .nmsrs = 2, .base = MSR_FS_BASE, .bitmap = bits + 4 },
	};
	struct vcpu *late;

	EXPECT_EQ(0, filter_set(vm, KVM_MSR_FILTER_DEFAULT_DENY, r, 2));
	vcpu_set_long(vcpu, guest_reads);
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(vcpu, MSR_FS_BASE));
	EXPECT_EQ(0, access_msr(vcpu, MSR_GS_BASE));
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(vcpu, MSR_KERNEL_GS_BASE));
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(vcpu, MSR_IA32_TSC));
	/* It holds for a vCPU that comes later. */
	late = vcpu_create(vm);
	vcpu_set_long(late, guest_reads);
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(late, MSR_KERNEL_GS_BASE));
	EXPECT_EQ(0, access_msr(late, MSR_GS_BASE));
	vm_destroy(vm);
}

/* The LAPIC's MSRs know no filter: denied or not, x2APIC mode works. */
TEST(x2apic_is_not_filtered)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s;

	vcpu_set_long(vcpu, guest_reads);
	vcpu_sregs(vcpu, &s);
	s.apic_base |= X2APIC_ENABLE;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	EXPECT_EQ(0, deny(vm, KVM_MSR_FILTER_READ, APIC_BASE_MSR + (APIC_LVR >> 4)));
	EXPECT_EQ(0, access_msr(vcpu, APIC_BASE_MSR + (APIC_LVR >> 4)));
	EXPECT_EQ(0x14, value & 0xff);
	vm_destroy(vm);
}

static void expect_exit(struct __test_metadata *_metadata, struct vcpu *vcpu, u32 exit,
			u32 reason, u32 number, u64 data)
{
	struct kvm_run *run = vcpu->run;

	EXPECT_EQ(0, vcpu_run(vcpu));
	EXPECT_EQ(exit, run->exit_reason);
	EXPECT_EQ(reason, run->msr.reason);
	EXPECT_EQ(number, run->msr.index);
	EXPECT_EQ(data, run->msr.data);
	EXPECT_EQ(0, run->msr.error);
}

TEST(userspace_answers_reads)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs regs;

	vcpu_set_long(vcpu, guest_reads);
	EXPECT_EQ(0, user_msr(vm, KVM_MSR_EXIT_REASON_UNKNOWN));
	msr = MSR_NOWHERE;
	expect_exit(_metadata, vcpu, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN,
		    MSR_NOWHERE, 0);
	vcpu->run->msr.data = 0x123456789abcdef0ULL;
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, trap);
	EXPECT_EQ(0x123456789abcdef0ULL, value);

	/* ... and may say that there is no such thing. */
	expect_exit(_metadata, vcpu, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN,
		    MSR_NOWHERE, 0);
	vcpu->run->msr.error = 1;
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, trap);

	/* Only for the reasons that were asked for. */
	EXPECT_EQ(0, user_msr(vm, KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_INVAL));
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, access_msr(vcpu, MSR_NOWHERE));
	EXPECT_EQ(0, deny(vm, KVM_MSR_FILTER_READ, MSR_GS_BASE));
	msr = MSR_GS_BASE;
	expect_exit(_metadata, vcpu, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_FILTER,
		    MSR_GS_BASE, 0);
	/* Registers show the instruction; immediate_exit completes it first. */
	vcpu_regs(vcpu, &regs);
	EXPECT_EQ(MSR_GS_BASE, (u32)regs.rcx);
	vcpu->run->msr.data = 77;
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &regs);
	EXPECT_EQ(77, regs.rax);
	EXPECT_EQ(0, regs.rdx);
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(77, value);
	vm_destroy(vm);
}

TEST(userspace_answers_writes)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_writes);
	EXPECT_EQ(0, user_msr(vm, ALL_REASONS));
	msr = MSR_NOWHERE;
	value = 0xfedcba9876543210ULL;
	expect_exit(_metadata, vcpu, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_UNKNOWN,
		    MSR_NOWHERE, value);
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, trap);

	/* A value that PAT cannot have. */
	msr = MSR_IA32_CR_PAT;
	value = 2;
	expect_exit(_metadata, vcpu, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_INVAL,
		    MSR_IA32_CR_PAT, 2);
	vcpu->run->msr.error = 1;
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(GUEST_FAULTED | VEC_GP, trap);

	EXPECT_EQ(0, deny(vm, KVM_MSR_FILTER_WRITE, MSR_KERNEL_GS_BASE));
	msr = MSR_KERNEL_GS_BASE;
	value = 0x1000;
	expect_exit(_metadata, vcpu, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_FILTER,
		    MSR_KERNEL_GS_BASE, 0x1000);
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(0, trap);
	/* It went no further than userspace. */
	EXPECT_EQ(0, vcpu_get_msr(vcpu, MSR_KERNEL_GS_BASE));
	vm_destroy(vm);
}
