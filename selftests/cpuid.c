// SPDX-License-Identifier: GPL-2.0-only
/* CPUID: the list of what is offered, and what the guest sees of what is set. */

#include "lib/test.h"

#define MAX_ENTRIES	256
#define ECX1_XSAVE	(1U << 26)
#define ECX1_OSXSAVE	(1U << 27)
#define EDX1_APIC	(1U << 9)

static struct kvm_cpuid2 *cpuid_alloc(u32 nent)
{
	struct kvm_cpuid2 *c;

	c = calloc(1, sizeof(*c) + (nent + 1) * sizeof(c->entries[0]));
	c->nent = nent;
	return c;
}

TEST(supported_list_size)
{
	int dev = dev_open();
	struct kvm_cpuid2 *c = cpuid_alloc(MAX_ENTRIES);
	u32 n;

	c->nent = 0;
	EXPECT_EQ(-E2BIG, sys_ioctl(dev, KVM_GET_SUPPORTED_CPUID, c));
	c->nent = 1;
	EXPECT_EQ(-E2BIG, sys_ioctl(dev, KVM_GET_SUPPORTED_CPUID, c));
	c->nent = MAX_ENTRIES;
	ASSERT_EQ(0, sys_ioctl(dev, KVM_GET_SUPPORTED_CPUID, c));
	n = c->nent;
	EXPECT_LT(8, n);
	/* Old clients pass a fixed 80. */
	EXPECT_GT(80, n);
	c->nent = n;
	EXPECT_EQ(0, sys_ioctl(dev, KVM_GET_SUPPORTED_CPUID, c));
	EXPECT_EQ(n, c->nent);
	c->nent = n - 1;
	EXPECT_EQ(-E2BIG, sys_ioctl(dev, KVM_GET_SUPPORTED_CPUID, c));
	/* A huge capacity is no error and costs nothing. */
	c->nent = 0xffffffff;
	EXPECT_EQ(0, sys_ioctl(dev, KVM_GET_SUPPORTED_CPUID, c));
	EXPECT_EQ(n, c->nent);
}

TEST(supported_leaves)
{
	static const u32 leaves[] = {
		0, 1, 7, 0xd, 0x80000000, 0x80000001, 0x80000008, 0x40000000,
		0x40000001,
	};
	struct kvm_cpuid2 *c = cpuid_supported(dev_open());
	struct kvm_cpuid_entry2 *e;

	for (unsigned int i = 0; i < ARRAY_SIZE(leaves); i++) {
		EXPECT_NE(NULL, cpuid_find(c, leaves[i], 0))
			TH_LOG("leaf %#x", leaves[i]);
	}
	e = cpuid_find(c, 0x40000000, 0);
	ASSERT_NE(NULL, e);
	EXPECT_EQ(0, memcmp(&e->ebx, "KVMKVMKVM\0\0\0", 12));
	EXPECT_LE(0x40000001, e->eax);
	e = cpuid_find(c, 0, 0);
	EXPECT_LE(0xd, e->eax);
	/* No list may hold one leaf twice. */
	for (u32 i = 0; i < c->nent; i++) {
		for (u32 j = i + 1; j < c->nent; j++) {
			EXPECT_FALSE(c->entries[i].function == c->entries[j].function &&
				     c->entries[i].index == c->entries[j].index &&
				     c->entries[i].flags == c->entries[j].flags)
				TH_LOG("leaf %#x.%u", c->entries[i].function,
				       c->entries[i].index);
		}
	}
}

TEST(set_and_get)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_cpuid2 *c = cpuid_supported(vm->dev), *d;
	struct kvm_cpuid_entry2 *e;

	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	d = cpuid_alloc(MAX_ENTRIES);
	VCPU_IOCTL(vcpu, KVM_GET_CPUID2, d);
	/* 6.1 does not lower nent; what was set comes first. */
	EXPECT_LE(c->nent, d->nent);
	for (u32 i = 0; i < c->nent; i++) {
		e = cpuid_find(d, c->entries[i].function, c->entries[i].index);
		ASSERT_NE(NULL, e);
		EXPECT_EQ(c->entries[i].flags, e->flags);
		EXPECT_EQ(c->entries[i].eax, e->eax);
		EXPECT_EQ(c->entries[i].edx, e->edx);
	}
	d->nent = c->nent - 1;
	EXPECT_EQ(-E2BIG, sys_ioctl(vcpu->fd, KVM_GET_CPUID2, d));
	EXPECT_EQ(c->nent - 1, d->nent);
	d->nent = MAX_ENTRIES + 1;
	EXPECT_EQ(-E2BIG, sys_ioctl(vcpu->fd, KVM_SET_CPUID2, d));
}

static volatile u32 regs[4], osxsave_on, osxsave_off, size_x87, size_avx, has_avx;
static volatile u32 past_end[4];

static void guest_reads_cpuid(void)
{
	u32 a, b, c, d;

	guest_cpuid(0x40000000, 0, &a, &b, &c, &d);
	regs[0] = a;
	regs[1] = b;
	regs[2] = c;
	regs[3] = d;
	guest_cpuid(0x1000, 0, &a, &b, &c, &d);
	past_end[0] = a | b | c | d;
	guest_done();
}

TEST(guest_sees_what_was_set)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_cpuid2 *c = cpuid_supported(vm->dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(c, 0x40000000, 0);

	ASSERT_NE(NULL, e);
	e->eax = 0x40000001;
	e->ebx = 0x11111111;
	e->ecx = 0x22222222;
	e->edx = 0x33333333;
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	vcpu_set_long(vcpu, guest_reads_cpuid);
	guest_run_done(vcpu);
	EXPECT_EQ(0x40000001, regs[0]);
	EXPECT_EQ(0x11111111, regs[1]);
	EXPECT_EQ(0x22222222, regs[2]);
	EXPECT_EQ(0x33333333, regs[3]);
	/* AMD answers zeros beyond the last leaf; Intel that leaf once more. */
	if (host_is_amd()) {
		EXPECT_EQ(0, past_end[0]);
	}

	/* The model is frozen once it has run: the same again, and no other. */
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	e->ebx = 0x44444444;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_CPUID2, c));
	vm_destroy(vm);
}

static void guest_without_cpuid(void)
{
	u32 a, b, c, d;

	guest_cpuid(0, 0, &a, &b, &c, &d);
	GUEST_ASSERT_EQ(a | b | c | d, 0);
	guest_cpuid(0x80000000, 0, &a, &b, &c, &d);
	GUEST_ASSERT_EQ(a | b | c | d, 0);
	guest_done();
}

TEST(no_cpuid_set)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	vcpu_set_long(vcpu, guest_without_cpuid);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void xsetbv(u32 low)
{
	asm volatile("xsetbv" : : "c"(0), "a"(low), "d"(0));
}

static void guest_osxsave(void)
{
	u32 a, b, c, d;

	guest_cpuid(1, 0, &a, &b, &c, &d);
	osxsave_off = c & ECX1_OSXSAVE;
	if (!(c & ECX1_XSAVE)) {
		guest_sync(0);
		guest_done();
	}
	write_cr4(read_cr4() | X86_CR4_OSXSAVE);
	guest_cpuid(1, 0, &a, &b, &c, &d);
	osxsave_on = c & ECX1_OSXSAVE;
	xsetbv(1);
	guest_cpuid(0xd, 0, &a, &b, &c, &d);
	has_avx = a & 4;
	size_x87 = b;
	if (has_avx) {
		xsetbv(7);
		guest_cpuid(0xd, 0, &a, &b, &c, &d);
		size_avx = b;
	}
	write_cr4(read_cr4() & ~X86_CR4_OSXSAVE);
	guest_cpuid(1, 0, &a, &b, &c, &d);
	osxsave_off |= c & ECX1_OSXSAVE;
	guest_sync(1);
	guest_done();
}

TEST(osxsave_and_xstate_size_follow_the_guest)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_osxsave);
	if (!guest_run_sync(vcpu))
		SKIP(return, "no XSAVE");
	EXPECT_EQ(0, osxsave_off);
	EXPECT_NE(0, osxsave_on);
	/* SDM vol. 1, 13.4: legacy area and header, then AVX at its place. */
	EXPECT_EQ(512 + 64, size_x87);
	if (has_avx) {
		/* QEMU TCG has no exit for XSETBV, so there KVM does not know. */
		EXPECT_TRUE(size_avx == 512 + 64 + 256 ||
			    (host_is_amd() && size_avx == 512 + 64));
	}
	vm_destroy(vm);
}

static volatile u32 apic_bit[3];

static void guest_apic_bit(void)
{
	u32 a, b, c, d;

	guest_cpuid(1, 0, &a, &b, &c, &d);
	apic_bit[0] = d & EDX1_APIC;
	wrmsr(MSR_IA32_APICBASE, 0xfee00100);
	guest_cpuid(1, 0, &a, &b, &c, &d);
	apic_bit[1] = d & EDX1_APIC;
	wrmsr(MSR_IA32_APICBASE, 0xfee00900);
	guest_cpuid(1, 0, &a, &b, &c, &d);
	apic_bit[2] = d & EDX1_APIC;
	guest_done();
}

TEST(apic_bit_follows_apic_base)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_apic_bit);
	guest_run_done(vcpu);
	EXPECT_EQ(EDX1_APIC, apic_bit[0]);
	EXPECT_EQ(0, apic_bit[1]);
	EXPECT_EQ(EDX1_APIC, apic_bit[2]);
	vm_destroy(vm);
}
