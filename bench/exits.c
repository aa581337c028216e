// SPDX-License-Identifier: GPL-2.0-only
/* Operations that make a guest exit: one loop in the guest each. */

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "irq.h"

#define PORT_NOBODY	0x5c0	/* userspace's */
#define PORT_EVENTFD	0x5c4
#define PIC_MASK	0x5a

static void expect_value(struct bench *b, u64 want)
{
	if (guest_value != want)
		fail("%s: the guest got %#llx instead of %#llx", b->op->name,
		     (unsigned long long)guest_value, (unsigned long long)want);
}

/* ---- handled in the kernel ---- */

static void guest_op_cpuid(void)
{
	u32 a, c, d, ebx;

	GUEST_BATCHES(, guest_cpuid(0, 0, &a, &ebx, &c, &d); guest_value = ebx);
}

static void check_cpuid(struct bench *b)
{
	struct kvm_cpuid2 *c = cpuid_supported(b->vm->dev);

	expect_value(b, cpuid_find(c, 0, 0)->ebx);
}

/* One that no hypervisor has: it says so. The instruction is the vendor's. */
static void guest_op_hypercall(void)
{
	u64 ret;

	if (guest_value)
		GUEST_BATCHES(, asm volatile("vmmcall" : "=a"(ret) : "a"(99) : "memory");
			      guest_value = ret);
	else
		GUEST_BATCHES(, asm volatile("vmcall" : "=a"(ret) : "a"(99) : "memory");
			      guest_value = ret);
}

static void setup_hypercall(struct bench *b)
{
	(void)b;
	guest_value = host_is_amd();
}

static void check_hypercall(struct bench *b)
{
	expect_value(b, -1000ULL);	/* KVM_ENOSYS */
}

static void guest_op_apicbase(void)
{
	GUEST_BATCHES(, guest_value = rdmsr(MSR_IA32_APICBASE));
}

static void check_apicbase(struct bench *b)
{
	expect_value(b, APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
		     MSR_IA32_APICBASE_BSP);
}

static void guest_op_rd_tsc_adjust(void)
{
	GUEST_BATCHES(wrmsr(MSR_IA32_TSC_ADJUST, 0x1234),
		      guest_value = rdmsr(MSR_IA32_TSC_ADJUST));
}

static void check_rd_tsc_adjust(struct bench *b)
{
	expect_value(b, 0x1234);
}

static void guest_op_wr_tsc_adjust(void)
{
	GUEST_BATCHES(, wrmsr(MSR_IA32_TSC_ADJUST, 0));
}

static void guest_op_pic(void)
{
	GUEST_BATCHES(outb(0x21, PIC_MASK), guest_value = inb(0x21));
}

static void check_pic(struct bench *b)
{
	expect_value(b, PIC_MASK);
}

static void guest_op_ioeventfd(void)
{
	GUEST_BATCHES(, outl(PORT_EVENTFD, 1));
}

static void setup_ioeventfd(struct bench *b)
{
	struct kvm_ioeventfd e = {
		.addr = PORT_EVENTFD, .len = 4, .flags = KVM_IOEVENTFD_FLAG_PIO,
	};

	b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	e.fd = b->fd;
	VM_IOCTL(b->vm, KVM_IOEVENTFD, &e);
}

static void check_ioeventfd(struct bench *b)
{
	u64 count = 0;

	if (read(b->fd, &count, 8) != 8 || count != b->n)
		fail("%s: signalled %llu times of %u", b->op->name,
		     (unsigned long long)count, b->n);
}

static void cleanup_fd(struct bench *b)
{
	close(b->fd);
}

static void guest_op_lapic(void)
{
	GUEST_BATCHES(, guest_value = apic_read(APIC_LVR));
}

static void check_lapic(struct bench *b)
{
	if ((guest_value & 0xff) < 0x10)
		fail("%s: version %#llx", b->op->name, (unsigned long long)guest_value);
}

static void guest_op_cr0_wp(void)
{
	u64 cr0 = read_cr0();

	GUEST_BATCHES(, cr0 ^= X86_CR0_WP; write_cr0(cr0));
}

static void guest_op_cr4_pge(void)
{
	u64 cr4 = read_cr4();

	GUEST_BATCHES(, cr4 ^= X86_CR4_PGE; write_cr4(cr4));
}

/* ---- through userspace: the guest's ticks count the client's loop, too ---- */

static void expect_exits(struct bench *b, u32 n)
{
	if (n != b->n)
		fail("%s: %u exits to userspace of %u, then exit %s", b->op->name, n,
		     b->n, exit_name(b->vcpu->run->exit_reason));
	b->ticks = guest_ticks;
}

static void guest_op_in(void)
{
	GUEST_BATCHES(, guest_value = inl(PORT_NOBODY));
}

static void batch_in(struct bench *b)
{
	struct kvm_run *run = b->vcpu->run;
	u32 n = 0;

	for (;;) {
		if (ioctl(b->vcpu->fd, KVM_RUN, 0))
			fail("KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT_NOBODY)
			break;
		*(u32 *)((char *)run + run->io.data_offset) = n++;
	}
	expect_exits(b, n);
	expect_value(b, n - 1);
}

static void guest_op_mmio(void)
{
	GUEST_BATCHES(, guest_value = mmio_read32(GPA_MMIO));
}

static void batch_mmio(struct bench *b)
{
	struct kvm_run *run = b->vcpu->run;
	u32 n = 0;

	for (;;) {
		if (ioctl(b->vcpu->fd, KVM_RUN, 0))
			fail("KVM_RUN");
		if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != GPA_MMIO)
			break;
		*(u32 *)run->mmio.data = n++;
	}
	expect_exits(b, n);
	expect_value(b, n - 1);
}

static void guest_op_hlt(void)
{
	GUEST_BATCHES(, guest_hlt());
}

static void batch_hlt(struct bench *b)
{
	u32 n = 0;

	for (;;) {
		if (ioctl(b->vcpu->fd, KVM_RUN, 0))
			fail("KVM_RUN");
		if (b->vcpu->run->exit_reason != KVM_EXIT_HLT)
			break;
		n++;
	}
	expect_exits(b, n);
}

const struct bench_op exit_ops[] = {
	{ .name = "cpuid", .title = "CPUID", .kind = "in", .n = 500, .exits = 1,
	  .vm_flags = VM_IRQCHIP, .guest = guest_op_cpuid, .check = check_cpuid },
	{ .name = "hypercall", .title = "hypercall", .kind = "in", .n = 500, .exits = 1,
	  .vm_flags = VM_IRQCHIP, .guest = guest_op_hypercall, .setup = setup_hypercall,
	  .check = check_hypercall },
	{ .name = "rdmsr-apicbase", .title = "RDMSR (APIC base)", .kind = "in", .n = 500,
	  .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_apicbase,
	  .check = check_apicbase },
	{ .name = "rdmsr-tsc-adjust", .title = "RDMSR (TSC adjust)", .kind = "in", .n = 500,
	  .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_rd_tsc_adjust,
	  .check = check_rd_tsc_adjust },
	{ .name = "wrmsr-tsc-adjust", .title = "WRMSR (TSC adjust)", .kind = "in", .n = 500,
	  .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_wr_tsc_adjust },
	{ .name = "in-pic", .title = "IN from the in-kernel PIC", .kind = "in", .n = 500,
	  .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_pic, .check = check_pic },
	{ .name = "out-ioeventfd", .title = "OUT to an ioeventfd", .kind = "in", .n = 500,
	  .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_ioeventfd,
	  .setup = setup_ioeventfd, .check = check_ioeventfd, .cleanup = cleanup_fd },
	{ .name = "lapic-mmio", .title = "LAPIC read by MMIO", .kind = "in", .n = 500,
	  /* Two on stock KVM where the CPU has an APIC access page. */
	  .exits = 2, .vm_flags = VM_IRQCHIP, .guest = guest_op_lapic, .check = check_lapic },
	{ .name = "cr0-wp", .title = "toggle of CR0.WP", .kind = "more", .n = 500,
	  .vm_flags = VM_IRQCHIP, .guest = guest_op_cr0_wp },
	{ .name = "cr4-pge", .title = "toggle of CR4.PGE", .kind = "more", .n = 500,
	  .vm_flags = VM_IRQCHIP, .guest = guest_op_cr4_pge },
	{ .name = "in-user", .title = "IN to userspace and back", .kind = "user", .n = 300,
	  .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_in, .batch = batch_in },
	{ .name = "mmio-user", .title = "MMIO read to userspace and back", .kind = "user",
	  .n = 300, .exits = 1, .vm_flags = VM_IRQCHIP, .guest = guest_op_mmio,
	  .batch = batch_mmio },
	{ .name = "hlt-user", .title = "HLT to userspace and back (no irqchip)",
	  .kind = "user", .n = 300, .exits = 1, .guest = guest_op_hlt, .batch = batch_hlt },
	{ }
};
