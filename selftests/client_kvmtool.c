// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmtool: everything in the kernel, Linux started in real mode and told to do
 * without the IOAPIC, lines driven by KVM_IRQ_LINE alone.
 */

#include "lib/client.h"

#define BOOT_SEG	0x1000
#define BOOT_IP		0x200
#define BOOT_SP		0x8000
#define RAM_SIZE	0x400000UL
#define GPA_FRAMES	0xd0000000UL	/* its frame buffer, coalesced */

extern const char real_boot_start[], real_boot_end[];

/* As Linux's setup code: CS of its own, the other segments like it, IRQ 4 by the PIC. */
asm(
"	.pushsection .text\n"
"	.code16\n"
"real_boot_start:\n"
"	xorw %ax, %ax\n"
"	movw %ax, %es\n"
"	movw $(irq4 - real_boot_start + 0x200), %es:(0x24 * 4)\n"
"	movw %cs, %es:(0x24 * 4 + 2)\n"
"	movb $0x11, %al\n"		/* the master at vector 0x20, its pin 4 open */
"	outb %al, $0x20\n"
"	movb $0x20, %al\n"
"	outb %al, $0x21\n"
"	movb $4, %al\n"
"	outb %al, $0x21\n"
"	movb $1, %al\n"
"	outb %al, $0x21\n"
"	movb $0xef, %al\n"
"	outb %al, $0x21\n"
"	inb $0x61, %al\n"		/* the speaker's port is the client's */
"	movzbl %al, %eax\n"
"	movw $0x1e0, %dx\n"		/* PORT_SYNC */
"	outl %eax, %dx\n"
"	movl $1, %eax\n"
"	outl %eax, %dx\n"
"	sti\n"
"1:	hlt\n"
"	cmpw $2, %cs:(count - real_boot_start + 0x200)\n"
"	jb 1b\n"
"	movw $0x1e4, %dx\n"		/* PORT_DONE */
"	outl %eax, %dx\n"
"	hlt\n"
"irq4:\n"
"	pushw %ax\n"
"	pushw %dx\n"
"	incw %cs:(count - real_boot_start + 0x200)\n"
"	movw $0x1ec, %dx\n"		/* PORT_PUTC */
"	movb $'4', %al\n"
"	outb %al, %dx\n"
"	movb $0x20, %al\n"
"	outb %al, $0x20\n"
"	popw %dx\n"
"	popw %ax\n"
"	iret\n"
"count:	.word 0\n"
"real_boot_end:\n"
"	.code64\n"
"	.popsection\n"
);

static struct vm *start(struct __test_metadata *_metadata)
{
	static const struct client_cap caps[] = {
		CLIENT_CAP(COALESCED_MMIO), CLIENT_CAP(SET_TSS_ADDR),
		CLIENT_CAP(PIT2), CLIENT_CAP(USER_MEMORY), CLIENT_CAP(IRQ_ROUTING),
		CLIENT_CAP(IRQCHIP), CLIENT_CAP(HLT), CLIENT_CAP(IRQ_INJECT_STATUS),
		CLIENT_CAP(EXT_CPUID),
	};
	struct kvm_pit_config pit = { .flags = 0 };
	struct client_routes r = { .head.nr = 0 };
	struct vm *vm = client_open();

	vm_create_fd(vm);
	CLIENT_REQUIRES(vm->dev, caps);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL));
	/* Before the chips, and those with an argument that is garbage. */
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	vm->low = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, vm->low);
	madvise(vm->low, RAM_SIZE, MADV_MERGEABLE);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_CREATE_IRQCHIP, (void *)0xc));
	ASSERT_EQ(0, vm_slot(vm, 0, 0, 0, RAM_SIZE, vm->low));

	/* Both PICs, and the IOAPIC with the timer at pin 2. */
	for (u32 i = 0; i < 16; i++)
		client_route_chip(&r, i, i / 8, i % 8);
	for (u32 i = 0; i < 24; i++) {
		if (i != 2)
			client_route_chip(&r, i, KVM_IRQCHIP_IOAPIC, i ? i : 2);
	}
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	return vm;
}

/* Every vCPU gets the boot registers, an AP too, which INIT and SIPI then replace. */
static struct vcpu *add_vcpu(struct __test_metadata *_metadata, struct vm *vm)
{
	struct vcpu *vcpu = vcpu_create_bare(vm, vm->nr_vcpus);
	struct kvm_regs regs = {
		.rip = BOOT_IP, .rsp = BOOT_SP, .rbp = BOOT_SP, .rflags = 2,
	};
	struct kvm_cpuid2 *cpuid;
	struct kvm_segment *seg;
	struct kvm_sregs s;
	u64 *ring;

	client_set_lint(vcpu);
	/* Where it thinks the ring is. */
	ring = (void *)((char *)vcpu->run + PAGE_SIZE * dev_cap(KVM_CAP_COALESCED_MMIO));
	EXPECT_EQ(0, ring[0]);

	cpuid = client_cpuid(vm->dev, 100);
	client_set_cpuid(vcpu, cpuid, 0);
	free(cpuid);
	vcpu_sregs(vcpu, &s);
	for (seg = &s.cs; seg <= &s.ss; seg++) {
		seg->selector = BOOT_SEG;
		seg->base = BOOT_SEG << 4;
	}
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	client_set_fpu(vcpu);
	client_set_boot_msrs(vcpu);
	return vcpu;
}

/* A device's interrupt: up, and down at once. */
static void trigger(struct __test_metadata *_metadata, struct vm *vm, u32 gsi)
{
	ASSERT_EQ(0, vm_irq_line(vm, gsi, 1));
	ASSERT_EQ(0, vm_irq_line(vm, gsi, 0));
}

TEST(real_mode_boot)
{
	struct vm *vm = start(_metadata);
	struct vcpu *vcpu = add_vcpu(_metadata, vm);

	memcpy((char *)vm->low + (BOOT_SEG << 4) + BOOT_IP, real_boot_start,
	       real_boot_end - real_boot_start);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(0x61, vcpu->run->io.port);
	*((u8 *)vcpu->run + vcpu->run->io.data_offset) = 0x20;
	ASSERT_EQ(0x20, guest_run_sync(vcpu));
	ASSERT_EQ(1, guest_run_sync(vcpu));
	trigger(_metadata, vm, 4);
	vcpu_start(vcpu);
	vcpu_wait_asleep(vcpu);
	trigger(_metadata, vm, 4);
	vcpu_join(vcpu);
	vcpu->out[vcpu->out_len] = 0;
	EXPECT_STREQ("44", vcpu->out);
	vm_destroy(vm);
}

static int ap_ret;

static void *run_ap(void *arg)
{
	ap_ret = vcpu_run(arg);
	return NULL;
}

/* The AP waits for INIT and SIPI though nobody said so; a signal ends KVM_RUN. */
TEST(waiting_ap)
{
	struct vm *vm = start(_metadata);
	struct kvm_mp_state mp;
	struct vcpu *ap;

	add_vcpu(_metadata, vm);
	ap = add_vcpu(_metadata, vm);
	VCPU_IOCTL(ap, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_UNINITIALIZED, mp.mp_state);
	/* It looks at the reason, whatever KVM_RUN returned. */
	ap->run->exit_reason = KVM_EXIT_MMIO;
	vcpu_start_fn(ap, run_ap);
	vcpu_wait_asleep(ap);
	vcpu_kick(ap);
	vcpu_join(ap);
	EXPECT_EQ(-EINTR, ap_ret);
	EXPECT_EQ(KVM_EXIT_INTR, ap->run->exit_reason);
	vm_destroy(vm);
}

/* What its devices ask for: virtio's notification, and a coalesced frame buffer. */
TEST(devices)
{
	struct vm *vm = start(_metadata);
	struct kvm_coalesced_mmio_zone zone = { .addr = GPA_FRAMES, .size = 0x100000 };
	struct kvm_ioeventfd notify = {
		.addr = 0x6210, .len = 2, .fd = client_eventfd(), .datamatch = 1,
		.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	add_vcpu(_metadata, vm);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_IOEVENTFD, &notify));
	notify.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
	notify.addr = 0xd2000050;
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_IOEVENTFD, &notify));
	/* It takes away ranges that it never gave. */
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone));
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone));
	notify.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_IOEVENTFD, &notify));
	vm_destroy(vm);
}
