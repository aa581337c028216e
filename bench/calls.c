// SPDX-License-Identifier: GPL-2.0-only
/* Calls of a client: one loop in the host each. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define NEW_VM_MEMORY	(around.memory ?: 64UL << 20)

static volatile long last;	/* what the last call returned */

static void expect_last(struct bench *b, long want)
{
	if (last != want)
		fail("%s: returned %ld instead of %ld", b->op->name, last, want);
}

static void batch_getppid(struct bench *b)
{
	HOST_BATCH(b, last = getppid());
	expect_last(b, getppid());
}

static void setup_dev(struct bench *b)
{
	b->fd = dev_open();
}

static void batch_api_version(struct bench *b)
{
	HOST_BATCH(b, last = ioctl(b->fd, KVM_GET_API_VERSION, 0));
	expect_last(b, KVM_API_VERSION);
}

static void cleanup_dev(struct bench *b)
{
	close(b->fd);
}

static void batch_immediate_exit(struct bench *b)
{
	b->vcpu->run->immediate_exit = 1;
	HOST_BATCH(b, last = ioctl(b->vcpu->fd, KVM_RUN, 0));
	if (errno != EINTR)
		fail("KVM_RUN with immediate_exit");
	expect_last(b, -1);
}

static void setup_marked(struct bench *b)
{
	struct kvm_regs regs = { .rbx = 0x1234, .rflags = 2 };

	VCPU_IOCTL(b->vcpu, KVM_SET_REGS, &regs);
}

static void batch_get_regs(struct bench *b)
{
	struct kvm_regs regs = { 0 };

	HOST_BATCH(b, last = ioctl(b->vcpu->fd, KVM_GET_REGS, &regs));
	expect_last(b, 0);
	if (regs.rbx != 0x1234)
		fail("KVM_GET_REGS: RBX is %#llx", (unsigned long long)regs.rbx);
}

static void batch_get_sregs(struct bench *b)
{
	struct kvm_sregs s = { 0 };

	HOST_BATCH(b, last = ioctl(b->vcpu->fd, KVM_GET_SREGS, &s));
	expect_last(b, 0);
	if (s.cs.base != 0xffff0000 || s.cs.selector != 0xf000)
		fail("KVM_GET_SREGS: CS is %#x, base %#llx", s.cs.selector,
		     (unsigned long long)s.cs.base);
}

/* What the smallest client does up to its first KVM_RUN, and all of it undone. */
struct new_vm {
	struct vm vm;
	struct kvm_cpuid2 *cpuid;
	void *mem;
};

static void setup_new_vm(struct bench *b)
{
	struct new_vm *new = calloc(1, sizeof(*new));

	new->vm.dev = dev_open();
	new->cpuid = cpuid_supported(new->vm.dev);
	new->mem = mmap(NULL, NEW_VM_MEMORY, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (new->mem == MAP_FAILED)
		fail("mmap");
	b->mem = new;
}

static void new_vm(struct new_vm *new)
{
	struct kvm_sregs s;
	struct vcpu *vcpu;

	vm_create_fd(&new->vm);
	last = vm_slot(&new->vm, 0, 0, 0, NEW_VM_MEMORY, new->mem);
	add_slots(&new->vm);
	do {
		vcpu = vcpu_create_bare(&new->vm, new->vm.nr_vcpus);
		VCPU_IOCTL(vcpu, KVM_SET_CPUID2, new->cpuid);
		VCPU_IOCTL(vcpu, KVM_GET_SREGS, &s);
		s.cs.base = 0;
		s.cs.selector = 0;
		VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	} while ((u32)new->vm.nr_vcpus < around.vcpus);
	while (new->vm.nr_vcpus)
		vcpu_close(&new->vm.vcpu[--new->vm.nr_vcpus]);
	close(new->vm.fd);
}

static void batch_new_vm(struct bench *b)
{
	HOST_BATCH(b, new_vm(b->mem));
	expect_last(b, 0);
}

static void cleanup_new_vm(struct bench *b)
{
	struct new_vm *new = b->mem;

	munmap(new->mem, NEW_VM_MEMORY);
	close(new->vm.dev);
	free(new->cpuid);
	free(new);
}

const struct bench_op call_ops[] = {
	{ .name = "run-immediate", .title = "KVM_RUN with immediate_exit", .kind = "user",
	  .n = 500, .loop = LOOP_HOST, .vm_flags = VM_IRQCHIP, .batch = batch_immediate_exit },
	{ .name = "get-regs", .title = "KVM_GET_REGS", .kind = "user", .n = 500,
	  .loop = LOOP_HOST, .vm_flags = VM_IRQCHIP, .setup = setup_marked,
	  .batch = batch_get_regs },
	{ .name = "get-sregs", .title = "KVM_GET_SREGS", .kind = "user", .n = 500,
	  .loop = LOOP_HOST, .vm_flags = VM_IRQCHIP, .batch = batch_get_sregs },
	{ .name = "new-vm", .title = "create VM, slot, vCPU, CPUID, SREGS; destroy",
	  .kind = "user", .n = 4, .loop = LOOP_HOST, .no_vm = true, .setup = setup_new_vm,
	  .batch = batch_new_vm, .cleanup = cleanup_new_vm },
	{ .name = "api-version", .title = "KVM_GET_API_VERSION", .kind = "floor", .n = 500,
	  .loop = LOOP_HOST, .no_vm = true, .setup = setup_dev, .batch = batch_api_version,
	  .cleanup = cleanup_dev },
	{ .name = "getppid", .title = "getppid()", .kind = "floor", .n = 500,
	  .loop = LOOP_HOST, .no_vm = true, .batch = batch_getppid },
	{ }
};
