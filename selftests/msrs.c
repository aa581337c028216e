// SPDX-License-Identifier: GPL-2.0-only
/* MSRs: the list, GET and SET with their counts, and what the guest meets. */

#include "lib/test.h"

#define MSR_NOWHERE	0x5000abcd	/* in no range any CPU ever had */
#define MSR_KVM_CLOCK	0x4b564d01
#define MAX_LIST	1024

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry e[300];
};

static struct kvm_msr_list *get_index_list(int dev)
{
	struct kvm_msr_list *l;

	l = calloc(1, sizeof(*l) + MAX_LIST * sizeof(l->indices[0]));
	l->nmsrs = MAX_LIST;
	if (sys_ioctl(dev, KVM_GET_MSR_INDEX_LIST, l))
		fail("KVM_GET_MSR_INDEX_LIST");
	return l;
}

static bool listed(struct kvm_msr_list *l, u32 msr)
{
	for (u32 i = 0; i < l->nmsrs; i++) {
		if (l->indices[i] == msr)
			return true;
	}
	return false;
}

TEST(index_list)
{
	int dev = dev_open();
	struct kvm_msr_list probe = { .nmsrs = 0 }, *l = get_index_list(dev);
	u32 n = l->nmsrs;

	EXPECT_EQ(-E2BIG, sys_ioctl(dev, KVM_GET_MSR_INDEX_LIST, &probe));
	EXPECT_EQ(n, probe.nmsrs);
	/* Clients with one call and a fixed 256. */
	EXPECT_GE(256, n);
	l->nmsrs = n;
	EXPECT_EQ(0, sys_ioctl(dev, KVM_GET_MSR_INDEX_LIST, l));
	EXPECT_TRUE(listed(l, MSR_IA32_TSC));
	EXPECT_TRUE(listed(l, MSR_STAR));
	EXPECT_TRUE(listed(l, MSR_LSTAR));
	EXPECT_TRUE(listed(l, MSR_KERNEL_GS_BASE));
	for (u32 i = 0; i < n; i++) {
		for (u32 j = 0; j < i; j++) {
			EXPECT_NE(l->indices[i], l->indices[j]);
		}
	}
}

/* A snapshot reads all that is listed, and restores it. */
TEST(listed_msrs_can_be_read_and_written_back)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_msr_list *l = get_index_list(vm->dev);

	for (u32 i = 0; i < l->nmsrs; i++) {
		u64 val;

		EXPECT_EQ(1, vcpu_try_get_msr(vcpu, l->indices[i], &val))
			TH_LOG("read of %#x", l->indices[i]);
		EXPECT_EQ(1, vcpu_set_msr(vcpu, l->indices[i], val))
			TH_LOG("write of %#llx to %#x", (unsigned long long)val,
			       l->indices[i]);
	}
}

TEST(counts)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct msrs m = { .head.nmsrs = 3 };

	m.e[0] = (struct kvm_msr_entry) { .index = MSR_STAR, .data = 0x1111 };
	m.e[1] = (struct kvm_msr_entry) { .index = MSR_NOWHERE, .data = 1 };
	m.e[2] = (struct kvm_msr_entry) { .index = MSR_CSTAR, .data = 0x2222 };
	/* The number done, not an error; what follows is not touched. */
	EXPECT_EQ(1, sys_ioctl(vcpu->fd, KVM_SET_MSRS, &m));
	EXPECT_EQ(0x1111, vcpu_get_msr(vcpu, MSR_STAR));
	EXPECT_EQ(0, vcpu_get_msr(vcpu, MSR_CSTAR));
	m.e[0].data = 0;
	m.e[2].data = 77;
	EXPECT_EQ(1, sys_ioctl(vcpu->fd, KVM_GET_MSRS, &m));
	EXPECT_EQ(0x1111, m.e[0].data);
	EXPECT_EQ(77, m.e[2].data);
	m.head.nmsrs = 0;
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_MSRS, &m));
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_MSRS, &m));
	m.head.nmsrs = 256;
	EXPECT_EQ(-E2BIG, sys_ioctl(vcpu->fd, KVM_GET_MSRS, &m));
	EXPECT_EQ(-E2BIG, sys_ioctl(vcpu->fd, KVM_SET_MSRS, &m));
	m.head.nmsrs = 0xffffffff;
	EXPECT_EQ(-E2BIG, sys_ioctl(vcpu->fd, KVM_SET_MSRS, &m));
}

/* What QEMU writes at reset without asking; one refusal makes it abort. */
TEST(unconditional_set)
{
	static const u32 idx[] = {
		MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
		MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_KERNEL_GS_BASE,
		MSR_IA32_TSC, 0x11, 0x12, MSR_MTRRdefType, 0x250, 0x258, 0x259,
		0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x200,
		0x201, 0x20e, 0x20f,
	};
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	for (unsigned int i = 0; i < ARRAY_SIZE(idx); i++) {
		EXPECT_EQ(1, vcpu_set_msr(vcpu, idx[i], 0))
			TH_LOG("%#x", idx[i]);
	}
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_CR_PAT, 0x0007040600070406ULL));
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_APICBASE, 0xfee00900));
	/* Linux boot protocol of small VMMs: fast strings, MTRRs write-back. */
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_MISC_ENABLE, 1));
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_MTRRdefType, 0xc06));
	EXPECT_EQ(0xc06, vcpu_get_msr(vcpu, MSR_MTRRdefType));
	vcpu_get_msr(vcpu, MSR_MTRRcap);
}

static void guest_rw(void)
{
	u64 val;

	GUEST_ASSERT_EQ(rdmsr(MSR_STAR), 0x0023001000000000ULL);
	wrmsr(MSR_STAR, 0x002b001800000000ULL);
	GUEST_ASSERT_EQ(rdmsr(MSR_STAR), 0x002b001800000000ULL);
	GUEST_ASSERT_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x7000);
	wrmsr(MSR_KERNEL_GS_BASE, 0xffff800000001000ULL);
	wrmsr(MSR_FS_BASE, 0x12345000);
	wrmsr(MSR_IA32_SYSENTER_CS, 0x10);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_SYSENTER_CS), 0x10);
	wrmsr(MSR_IA32_CR_PAT, 0x0007040600070406ULL);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_CR_PAT), 0x0007040600070406ULL);
	/* What is not there faults, and does not reach userspace. */
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_NOWHERE, &val), GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_NOWHERE, 0), GUEST_FAULTED | VEC_GP);
	/* A memory type that does not exist. */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_IA32_CR_PAT, 0x0202020202020202ULL),
			GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_CR_PAT), 0x0007040600070406ULL);
	guest_done();
}

TEST(guest_reads_and_writes)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s;

	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_STAR, 0x0023001000000000ULL));
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_KERNEL_GS_BASE, 0x7000));
	vcpu_set_long(vcpu, guest_rw);
	guest_run_done(vcpu);
	EXPECT_EQ(0x002b001800000000ULL, vcpu_get_msr(vcpu, MSR_STAR));
	EXPECT_EQ(0xffff800000001000ULL, vcpu_get_msr(vcpu, MSR_KERNEL_GS_BASE));
	vcpu_sregs(vcpu, &s);
	EXPECT_EQ(0x12345000, s.fs.base);
	vm_destroy(vm);
}

static void guest_efer(void)
{
	u64 efer = rdmsr(MSR_EFER);

	GUEST_ASSERT_EQ(efer, EFER_LME | EFER_LMA | EFER_NX);
	wrmsr(MSR_EFER, efer | EFER_SCE);
	GUEST_ASSERT_EQ(rdmsr(MSR_EFER), efer | EFER_SCE);
	/* LMA is read-only: a write with it clear is no error. */
	wrmsr(MSR_EFER, EFER_LME | EFER_NX);
	GUEST_ASSERT_EQ(rdmsr(MSR_EFER), efer);
	/* LME must not change while paging is on; the rest is reserved. */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_EFER, EFER_NX), GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_EFER, efer | 1 << 1), GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_EFER, efer | 1ULL << 40), GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(rdmsr(MSR_EFER), efer);
	guest_done();
}

TEST(efer)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_efer);
	guest_run_done(vcpu);
	EXPECT_EQ(EFER_LME | EFER_LMA | EFER_NX, vcpu_get_msr(vcpu, MSR_EFER));
	vm_destroy(vm);
}

#define TSC_START	0x123456789000ULL
#define TSC_FAR		0x7000000000000ULL

static void guest_tsc(void)
{
	u64 a = rdtsc(), b = rdmsr(MSR_IA32_TSC), c = rdtsc();

	GUEST_ASSERT(a >= TSC_START && a < TSC_START + (1ULL << 40));
	GUEST_ASSERT(a <= b && b <= c);
	wrmsr(MSR_IA32_TSC, TSC_FAR);
	a = rdtsc();
	GUEST_ASSERT(a >= TSC_FAR && a < TSC_FAR + (1ULL << 40));
	guest_done();
}

TEST(tsc)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 val;

	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_TSC, TSC_START));
	val = vcpu_get_msr(vcpu, MSR_IA32_TSC);
	EXPECT_LE(TSC_START, val);
	EXPECT_GT(TSC_START + (1ULL << 40), val);
	vcpu_set_long(vcpu, guest_tsc);
	guest_run_done(vcpu);
	EXPECT_LE(TSC_FAR, vcpu_get_msr(vcpu, MSR_IA32_TSC));
	vm_destroy(vm);
}

static void guest_apic_base(void)
{
	u64 base = rdmsr(MSR_IA32_APICBASE);

	GUEST_ASSERT_EQ(base, 0xfee00900);
	/* Reserved bits, and x2APIC mode without the APIC: SDM 3, 11.12.1. */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_IA32_APICBASE, base | 1ULL << 60),
			GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_IA32_APICBASE, base | 1), GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_IA32_APICBASE, 0xfee00500), GUEST_FAULTED | VEC_GP);
	wrmsr(MSR_IA32_APICBASE, base | X2APIC_ENABLE);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_APICBASE), base | X2APIC_ENABLE);
	/* Back to xAPIC only by way of disabled. */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_IA32_APICBASE, base), GUEST_FAULTED | VEC_GP);
	wrmsr(MSR_IA32_APICBASE, 0xfee00100);
	wrmsr(MSR_IA32_APICBASE, base);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_APICBASE), base);
	guest_done();
}

TEST(apic_base)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s;

	vcpu_set_long(vcpu, guest_apic_base);
	guest_run_done(vcpu);
	EXPECT_EQ(0xfee00900, vcpu_get_msr(vcpu, MSR_IA32_APICBASE));
	vcpu_sregs(vcpu, &s);
	EXPECT_EQ(0xfee00900, s.apic_base);
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_IA32_APICBASE, 1ULL << 60));
	vm_destroy(vm);
}

static void guest_mtrr(void)
{
	u64 cap = rdmsr(MSR_MTRRcap);

	GUEST_ASSERT(cap & 0xff);
	wrmsr(MSR_MTRRdefType, 0xc06);
	GUEST_ASSERT_EQ(rdmsr(MSR_MTRRdefType), 0xc06);
	wrmsr(0x200, 0xe0000000);
	GUEST_ASSERT_EQ(rdmsr(0x200), 0xe0000000);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_MTRRdefType, 0xc02), GUEST_FAULTED | VEC_GP);
	guest_done();
}

TEST(mtrr)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_mtrr);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/*
 * RDMSR clears the high halves of RAX and RDX. (That of RCX does not count, but
 * QEMU TCG looks at it when it decides whether to intercept: not tested.)
 */
static void guest_register_use(void)
{
	u64 a, d;

	asm volatile("movq $-1, %%rax\n\tmovq $-1, %%rdx\n\trdmsr"
		     : "=&a"(a), "=&d"(d) : "c"(MSR_IA32_CR_PAT));
	GUEST_ASSERT_EQ(a >> 32, 0);
	GUEST_ASSERT_EQ(d >> 32, 0);
	GUEST_ASSERT_EQ(a | d << 32, rdmsr(MSR_IA32_CR_PAT));
	guest_done();
}

/*
 * What firmware sets there, and Linux wants to find set (TscFreqSel), is not set at
 * reset. 6.12's KVM keeps that bit; 6.1's does not, and never clears the other one.
 */
TEST(hwcr)
{
	const u64 ignored = 1 << 3 | 1 << 6 | 1 << 8, kept = 1 << 18, maybe = 1 << 24;
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);

	EXPECT_EQ(0, vcpu_get_msr(vcpu, MSR_K7_HWCR));
	for (int i = 0; i < 64; i++) {
		u64 bit = 1ULL << i;

		if (bit == maybe && dev_is_kvm())
			continue;
		EXPECT_EQ(!!(bit & (ignored | kept | maybe)),
			  vcpu_set_msr(vcpu, MSR_K7_HWCR, bit));
		if (bit == kept || !dev_is_kvm()) {
			EXPECT_EQ(bit & (kept | maybe), vcpu_get_msr(vcpu, MSR_K7_HWCR));
		}
		EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_K7_HWCR, 0));
	}
	vm_destroy(vm);
}

/* What the PMU can, where there is one: userspace's to read and to cut down. */
TEST(perf_capabilities)
{
	struct msrs m = { .head.nmsrs = 1, .e[0].index = MSR_IA32_PERF_CAPABILITIES };
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_msr_list *l = get_index_list(vm->dev);
	u64 all, value;

	EXPECT_TRUE(listed(l, MSR_IA32_PERF_CAPABILITIES));
	ASSERT_EQ(1, sys_ioctl(vm->dev, KVM_GET_MSRS, &m));
	all = m.e[0].data;
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_IA32_PERF_CAPABILITIES, 0));
	EXPECT_EQ(1, vcpu_try_get_msr(vcpu, MSR_IA32_PERF_CAPABILITIES, &value));
	EXPECT_EQ(0, value);
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_IA32_PERF_CAPABILITIES, ~all));
	if (!dev_is_kvm()) {
		EXPECT_EQ(0, all);
	}
	vm_destroy(vm);
	free(l);
}

TEST(register_use)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_register_use);
	guest_run_done(vcpu);
	vm_destroy(vm);
}
