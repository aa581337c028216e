// SPDX-License-Identifier: GPL-2.0-only
/* KVM_CAP_SYNC_REGS: registers in the run page, in and out, without an ioctl. */

#include "lib/test.h"

#define ALL	(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

/* Counts in RBX, and tells at each step. */
static void guest_counts(void)
{
	asm volatile("xorl %%ebx, %%ebx\n"
		     "1: incq %%rbx\n"
		     "movl %0, %%edx\n"
		     "outl %%eax, %%dx\n"
		     "jmp 1b" : : "i"(PORT_SYNC) : "rax", "rbx", "rdx");
}

static struct vcpu *counter(struct vm **vm)
{
	struct vcpu *vcpu;

	*vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_create(*vm);
	vcpu_set_long(vcpu, guest_counts);
	return vcpu;
}

static bool is_step(struct vcpu *vcpu)
{
	return !vcpu_run(vcpu) && vcpu->run->exit_reason == KVM_EXIT_IO &&
	       vcpu->run->io.port == PORT_SYNC;
}

TEST(capability)
{
	EXPECT_EQ(ALL, dev_cap(KVM_CAP_SYNC_REGS));
}

/* A group that does not exist, known ones beside it or not. */
TEST(unknown_groups)
{
	struct vm *vm;
	struct vcpu *vcpu = counter(&vm);
	static const u64 bad[] = { ALL + 1, 1ULL << 63, ~0ULL, 8 | KVM_SYNC_X86_REGS };

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		vcpu->run->kvm_valid_regs = bad[i];
		EXPECT_EQ(-EINVAL, vcpu_run(vcpu));
		vcpu->run->kvm_valid_regs = 0;
		vcpu->run->kvm_dirty_regs = bad[i];
		EXPECT_EQ(-EINVAL, vcpu_run(vcpu));
		/* Nothing was taken. */
		EXPECT_EQ(bad[i], vcpu->run->kvm_dirty_regs);
		vcpu->run->kvm_dirty_regs = 0;
	}
	EXPECT_TRUE(is_step(vcpu));
	vm_destroy(vm);
}

TEST(valid_groups_are_what_ioctls_say)
{
	struct vm *vm;
	struct vcpu *vcpu = counter(&vm);
	struct kvm_sync_regs *page = &vcpu->run->s.regs;
	struct kvm_vcpu_events events = {};
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	memset(page, 0x5a, sizeof(*page));
	vcpu->run->kvm_valid_regs = ALL;
	EXPECT_TRUE(is_step(vcpu));
	vcpu_regs(vcpu, &regs);
	vcpu_sregs(vcpu, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(1, page->regs.rbx);
	EXPECT_EQ(0, memcmp(&page->regs, &regs, sizeof(regs)));
	/* Stock KVM leaves padding alone. */
	EXPECT_EQ(sregs.cr0, page->sregs.cr0);
	EXPECT_EQ(sregs.cr3, page->sregs.cr3);
	EXPECT_EQ(sregs.efer, page->sregs.efer);
	EXPECT_EQ(sregs.cs.selector, page->sregs.cs.selector);
	EXPECT_EQ(sregs.apic_base, page->sregs.apic_base);
	EXPECT_EQ(events.flags, page->events.flags);
	EXPECT_EQ(events.nmi.masked, page->events.nmi.masked);

	/* Only what was asked for; also when KVM_RUN fails. */
	vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	memset(page, 0x5a, sizeof(*page));
	vcpu->run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, vcpu_run(vcpu));
	vcpu->run->immediate_exit = 0;
	EXPECT_EQ(1, page->regs.rbx);
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aULL, page->sregs.cr3);
	EXPECT_EQ(0x5a, page->events.nmi.injected);
	vm_destroy(vm);
}

TEST(dirty_groups_are_taken)
{
	struct vm *vm;
	struct vcpu *vcpu = counter(&vm);
	struct kvm_sync_regs *page = &vcpu->run->s.regs;
	struct kvm_vcpu_events events = {};
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loads no CR2 at VMRUN; stock KVM fails, too");
	vcpu->run->kvm_valid_regs = ALL;
	EXPECT_TRUE(is_step(vcpu));

	/* Not dirty: not looked at. */
	page->regs.rbx = 0xdead;
	EXPECT_TRUE(is_step(vcpu));
	EXPECT_EQ(2, page->regs.rbx);

	page->regs.rbx = 0x1000;
	page->sregs.apic_base |= 1 << 8;
	page->sregs.cr2 = 0x1234000;
	page->events.nmi.masked = 1;
	page->events.flags = 0;
	vcpu->run->kvm_dirty_regs = ALL;
	EXPECT_TRUE(is_step(vcpu));
	EXPECT_EQ(0, vcpu->run->kvm_dirty_regs);
	EXPECT_EQ(0x1001, page->regs.rbx);
	EXPECT_EQ(0x1234000, page->sregs.cr2);
	vcpu_regs(vcpu, &regs);
	vcpu_sregs(vcpu, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(0x1001, regs.rbx);
	EXPECT_EQ(0x1234000, sregs.cr2);
	EXPECT_EQ(1, events.nmi.masked);

	/* In without out. */
	vcpu->run->kvm_valid_regs = 0;
	vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	page->regs.rbx = 0x2000;
	EXPECT_TRUE(is_step(vcpu));
	EXPECT_EQ(0x2000, page->regs.rbx);
	vcpu_regs(vcpu, &regs);
	EXPECT_EQ(0x2001, regs.rbx);
	vm_destroy(vm);
}

/* What the ioctl refuses is EINVAL; what came before it has been taken. */
TEST(dirty_groups_that_are_wrong)
{
	struct vm *vm;
	struct vcpu *vcpu = counter(&vm);
	struct kvm_sync_regs *page = &vcpu->run->s.regs;
	struct kvm_sregs sregs;

	vcpu->run->kvm_valid_regs = ALL;
	EXPECT_TRUE(is_step(vcpu));
	sregs = page->sregs;

	page->regs.rbx = 0x3000;
	page->sregs.cr4 &= ~X86_CR4_PAE;	/* not in long mode */
	vcpu->run->kvm_dirty_regs = ALL;
	EXPECT_EQ(-EINVAL, vcpu_run(vcpu));
	EXPECT_EQ(KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS, vcpu->run->kvm_dirty_regs);
	EXPECT_EQ(0x3000, page->regs.rbx);
	EXPECT_EQ(sregs.cr4, page->sregs.cr4);

	page->events.exception.injected = 1;
	page->events.exception.nr = 200;
	vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_EVENTS;
	EXPECT_EQ(-EINVAL, vcpu_run(vcpu));
	EXPECT_EQ(KVM_SYNC_X86_EVENTS, vcpu->run->kvm_dirty_regs);
	vcpu->run->kvm_dirty_regs = 0;
	EXPECT_TRUE(is_step(vcpu));
	EXPECT_EQ(0x3001, page->regs.rbx);
	vm_destroy(vm);
}
