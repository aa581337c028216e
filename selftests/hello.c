// SPDX-License-Identifier: GPL-2.0-only
/* The smallest guests: one character out of each CPU mode. */

#include "lib/test.h"

extern const char real_start[], real_end[], prot32_entry[], pae_entry[];

asm(
"	.pushsection .text\n"
"	.code16\n"
"real_start:\n"
"	movw $0x1ec, %dx\n"		/* PORT_PUTC */
"	movb $'R', %al\n"
"	outb %al, %dx\n"
"	hlt\n"
"real_end:\n"
"	.code32\n"
"prot32_entry:\n"
"	movw $0x1ec, %dx\n"
"	movb $'P', %al\n"
"	outb %al, %dx\n"
"	hlt\n"
"pae_entry:\n"
"	movw $0x1ec, %dx\n"
"	movl $letter_a, %esi\n"		/* data through the page tables */
"	lodsb\n"
"	outb %al, %dx\n"
"	hlt\n"
"letter_a:\n"
"	.byte 'A'\n"
"	.code64\n"
"	.popsection\n"
);

static void run_to_hlt(struct __test_metadata *_metadata, struct vcpu *vcpu)
{
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_HLT, vcpu->run->exit_reason);
}

TEST(real_mode)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_real(vcpu, real_start, real_end);
	run_to_hlt(_metadata, vcpu);
	EXPECT_STREQ("R", vcpu->out);
	vm_destroy(vm);
}

TEST(protected_mode)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_prot32(vcpu, prot32_entry);
	run_to_hlt(_metadata, vcpu);
	EXPECT_STREQ("P", vcpu->out);
	vm_destroy(vm);
}

TEST(pae_paging)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_pae(vcpu, pae_entry);
	run_to_hlt(_metadata, vcpu);
	EXPECT_STREQ("A", vcpu->out);
	vm_destroy(vm);
}

static void guest_hello(void)
{
	guest_puts("hello, world");
	guest_done();
}

TEST(long_mode)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_hello);
	guest_run_done(vcpu);
	EXPECT_STREQ("hello, world", vcpu->out);
	vm_destroy(vm);
}

/* The library's own safety nets: a guest's assertion and an unexpected trap. */
static void guest_bad_assert(void)
{
	GUEST_ASSERT_EQ(1, 2);
	guest_done();
}

static void guest_bad_trap(void)
{
	asm volatile("ud2");
	guest_done();
}

TEST(library_reports_failures)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_bad_assert);
	ASSERT_EQ(UCALL_ABORT, guest_run(vcpu));
	EXPECT_EQ(2, guest_report.b);
	/* Without this the second program counter would be the first's. */
	vcpu_complete_io(vcpu);
	vcpu_set_long(vcpu, guest_bad_trap);
	ASSERT_EQ(UCALL_ABORT, guest_run(vcpu));
	EXPECT_EQ(VEC_UD, guest_report.line);
	vm_destroy(vm);
}
