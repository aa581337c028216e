// SPDX-License-Identifier: GPL-2.0-only
/* The device node, capabilities, and what each kind of fd refuses, and how. */

#include "lib/test.h"

#define BAD_PTR		((void *)8)
#define CMD_UNKNOWN	_IO(KVMIO, 0xfe)

TEST(api_version)
{
	int fd = dev_open();

	EXPECT_EQ(KVM_API_VERSION, sys_ioctl(fd, KVM_GET_API_VERSION, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(fd, KVM_GET_API_VERSION, (void *)1));
}

TEST(mmap_size)
{
	int fd = dev_open();
	int size = sys_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	/* The run page and the page with port I/O data, at least. */
	EXPECT_LE(2 * (int)PAGE_SIZE, size);
	EXPECT_EQ(0, size % PAGE_SIZE);
	EXPECT_EQ(-EINVAL, sys_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, (void *)1));
}

TEST(create_vm_type)
{
	int fd = dev_open();
	int vm = sys_ioctl(fd, KVM_CREATE_VM, 0);

	ASSERT_LE(0, vm);
	EXPECT_EQ(FD_CLOEXEC, fcntl(vm, F_GETFD));
	close(vm);
	EXPECT_EQ(-EINVAL, sys_ioctl(fd, KVM_CREATE_VM, (void *)0x1234));
}

TEST(read_only_open)
{
	int fd = open(keel_device, O_RDONLY);

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, sys_ioctl(fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_USER_MEMORY));
}

TEST(unknown_capability_is_zero)
{
	static const unsigned long unknown[] = {
		9999, 0x7fffffff, 0xffffffff, 0x123456789abcUL, ~0UL,
	};
	struct vm *vm = vm_create(VM_NO_MEMORY);

	for (unsigned int i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(0, sys_ioctl(vm->dev, KVM_CHECK_EXTENSION, (void *)unknown[i]));
		EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)unknown[i]));
	}
}

/* What every client wants; reference clients compare some with exactly 1. */
TEST(capabilities_that_are_one)
{
	static const struct {
		int cap;
		const char *name;
	} caps[] = {
#define CAP(c)	{ KVM_CAP_##c, #c }
		CAP(IRQCHIP), CAP(HLT), CAP(USER_MEMORY), CAP(SET_TSS_ADDR),
		CAP(EXT_CPUID), CAP(MP_STATE), CAP(SYNC_MMU),
		CAP(DESTROY_MEMORY_REGION_WORKS), CAP(USER_NMI),
		CAP(JOIN_MEMORY_REGIONS_WORKS), CAP(IRQ_INJECT_STATUS),
		CAP(IRQFD), CAP(PIT2), CAP(PIT_STATE2), CAP(IOEVENTFD),
		CAP(SET_IDENTITY_MAP_ADDR), CAP(VCPU_EVENTS), CAP(DEBUGREGS),
		CAP(XSAVE), CAP(TSC_DEADLINE_TIMER), CAP(SIGNAL_MSI),
		CAP(READONLY_MEM), CAP(SPLIT_IRQCHIP), CAP(IMMEDIATE_EXIT),
#undef CAP
	};
	struct vm *vm = vm_create(VM_NO_MEMORY);

	for (unsigned int i = 0; i < ARRAY_SIZE(caps); i++) {
		int sys = dev_cap(caps[i].cap), ret = vm_cap(vm, caps[i].cap);

		EXPECT_EQ(1, ret)
			TH_LOG("KVM_CAP_%s", caps[i].name);
		EXPECT_EQ(ret, sys)
			TH_LOG("KVM_CAP_%s on the system fd", caps[i].name);
	}
}

TEST(capabilities_that_are_numbers)
{
	int soft = dev_cap(KVM_CAP_NR_VCPUS), max = dev_cap(KVM_CAP_MAX_VCPUS);
	int id = dev_cap(KVM_CAP_MAX_VCPU_ID), xsave2 = dev_cap(KVM_CAP_XSAVE2);

	EXPECT_LE(64, dev_cap(KVM_CAP_NR_MEMSLOTS));
	EXPECT_LE(1, soft);
	EXPECT_LE(soft, max);
	EXPECT_LE(64, max);
	EXPECT_TRUE(id == 0 || id >= max);
	EXPECT_LT(24, dev_cap(KVM_CAP_IRQ_ROUTING));
	EXPECT_TRUE(xsave2 == 0 || xsave2 >= 4096);
	/* The page of the ring, if there is one, lies in the vCPU's mapping. */
	EXPECT_GE(2, dev_cap(KVM_CAP_COALESCED_MMIO));
	/* QEMU stops with fewer than its 10 banks. */
	EXPECT_TRUE(dev_cap(KVM_CAP_MCE) == 0 || dev_cap(KVM_CAP_MCE) >= 10);
}

TEST(unknown_ioctls)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	EXPECT_EQ(-EINVAL, sys_ioctl(vm->dev, CMD_UNKNOWN, 0));
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, CMD_UNKNOWN, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, CMD_UNKNOWN, 0));
	/* Another magic number altogether. vCPU fds answer EINVAL at once. */
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->dev, _IO('Z', 0), 0));
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, _IO('Z', 0), 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, _IO('Z', 0), 0));
}

/* An ioctl of one kind of fd is unknown to the others. */
TEST(ioctls_on_the_wrong_fd)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_regs regs;

	EXPECT_EQ(-EINVAL, sys_ioctl(vm->dev, KVM_RUN, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->dev, KVM_CREATE_VCPU, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->dev, KVM_GET_REGS, &regs));
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, KVM_RUN, 0));
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, KVM_GET_REGS, &regs));
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, KVM_CREATE_VM, 0));
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, KVM_GET_API_VERSION, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_CREATE_VM, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_CREATE_VCPU, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_GET_API_VERSION, 0));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_CREATE_IRQCHIP, 0));
}

/* The number alone does not make the command: direction and size do, too. */
TEST(full_command_number_counts)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	unsigned long nr = _IOC_NR(KVM_GET_REGS);
	char buf[4096];

	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_REGS, buf));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, _IOC(_IOC_READ, KVMIO, nr, 8), buf));
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, _IOC(_IOC_WRITE, KVMIO, nr,
						    sizeof(struct kvm_regs)), buf));
	nr = _IOC_NR(KVM_SET_USER_MEMORY_REGION);
	EXPECT_EQ(-ENOTTY, sys_ioctl(vm->fd, _IOC(_IOC_NONE, KVMIO, nr, 0), buf));
}

TEST(run_wants_no_argument)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_RUN, (void *)1));
}

TEST(max_vcpu_id_is_set_once)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MAX_VCPU_ID };

	cap.args[0] = vm_cap(vm, KVM_CAP_MAX_VCPU_ID) + 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	cap.args[0] = 8;
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(0, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	cap.args[0] = 9;
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)8L));
	EXPECT_LE(0, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)7L));
	vm_destroy(vm);
}

TEST(create_vcpu_errors)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	long max_id = vm_cap(vm, KVM_CAP_MAX_VCPU_ID);
	int fd;

	if (!max_id)
		max_id = vm_cap(vm, KVM_CAP_MAX_VCPUS);
	fd = sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)3);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EEXIST, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)3));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)max_id));
	EXPECT_EQ(-EINVAL, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)-1L));
	/* Closing the fd does not free the id: the VM still holds the vCPU. */
	close(fd);
	EXPECT_EQ(-EEXIST, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)3));
	EXPECT_LE(0, sys_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(max_id - 1)));
}

TEST(bad_pointers)
{
	static const struct {
		unsigned long cmd;
		const char *name;
	} vcpu_cmds[] = {
#define CMD(c)	{ c, #c }
		CMD(KVM_GET_REGS), CMD(KVM_SET_REGS), CMD(KVM_GET_SREGS),
		CMD(KVM_SET_SREGS), CMD(KVM_GET_FPU), CMD(KVM_SET_FPU),
		CMD(KVM_GET_XSAVE), CMD(KVM_SET_XSAVE), CMD(KVM_GET_XCRS),
		CMD(KVM_SET_XCRS), CMD(KVM_GET_DEBUGREGS),
		CMD(KVM_SET_DEBUGREGS), CMD(KVM_GET_VCPU_EVENTS),
		CMD(KVM_SET_VCPU_EVENTS), CMD(KVM_GET_MP_STATE),
		CMD(KVM_SET_MP_STATE), CMD(KVM_GET_MSRS), CMD(KVM_SET_MSRS),
		CMD(KVM_SET_CPUID2), CMD(KVM_GET_CPUID2), CMD(KVM_GET_LAPIC),
		CMD(KVM_SET_LAPIC), CMD(KVM_SET_SIGNAL_MASK),
	}, vm_cmds[] = {
		CMD(KVM_SET_USER_MEMORY_REGION), CMD(KVM_GET_IRQCHIP),
		CMD(KVM_SET_IRQCHIP), CMD(KVM_IRQ_LINE), CMD(KVM_IRQFD),
		CMD(KVM_IRQ_LINE_STATUS), CMD(KVM_SET_GSI_ROUTING),
		CMD(KVM_SIGNAL_MSI), CMD(KVM_IOEVENTFD), CMD(KVM_CREATE_PIT2),
		CMD(KVM_GET_PIT2), CMD(KVM_SET_PIT2), CMD(KVM_GET_DIRTY_LOG),
		CMD(KVM_ENABLE_CAP),
	};
#undef CMD
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	for (unsigned int i = 0; i < ARRAY_SIZE(vcpu_cmds); i++) {
		EXPECT_EQ(-EFAULT, sys_ioctl(vcpu->fd, vcpu_cmds[i].cmd, BAD_PTR))
			TH_LOG("%s", vcpu_cmds[i].name);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(vm_cmds); i++) {
		EXPECT_EQ(-EFAULT, sys_ioctl(vm->fd, vm_cmds[i].cmd, BAD_PTR))
			TH_LOG("%s", vm_cmds[i].name);
	}
	EXPECT_EQ(-EFAULT, sys_ioctl(vm->dev, KVM_GET_SUPPORTED_CPUID, BAD_PTR));
	EXPECT_EQ(-EFAULT, sys_ioctl(vm->dev, KVM_GET_MSR_INDEX_LIST, BAD_PTR));
}

/* Everything the kernel writes back is defined: no stack or heap shines through. */
TEST(padding_is_zero)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_debugregs dr;
	struct kvm_vcpu_events ev;
	struct kvm_sregs sregs;

	memset(&dr, 0xff, sizeof(dr));
	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &dr));
	EXPECT_EQ(0, dr.flags);
	for (unsigned int i = 0; i < ARRAY_SIZE(dr.reserved); i++) {
		EXPECT_EQ(0, dr.reserved[i]);
	}
	memset(&ev, 0xff, sizeof(ev));
	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &ev));
	for (unsigned int i = 0; i < sizeof(ev.reserved); i++) {
		EXPECT_EQ(0, ev.reserved[i]);
	}
	memset(&sregs, 0xff, sizeof(sregs));
	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs));
	EXPECT_EQ(0, sregs.gdt.padding[0] | sregs.gdt.padding[1] | sregs.gdt.padding[2]);
	EXPECT_EQ(0, sregs.cs.padding);
}

TEST(vcpu_mapping)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	char *p;

	/* Shared by all mappings, and zero at the start. */
	p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)p);
	EXPECT_EQ(0, ((struct kvm_run *)p)->immediate_exit);
	((struct kvm_run *)p)->immediate_exit = 1;
	EXPECT_EQ(1, vcpu->run->immediate_exit);
	EXPECT_EQ(-EINTR, vcpu_run(vcpu));
	/* Written by the guest's side alone: no program may be put there. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, vm->fd, 0));
}

TEST_SIGNAL(vcpu_mapping_ends, SIGBUS)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	volatile char *p;

	p = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, vcpu->fd, vm->run_size + (1 << 20));
	ASSERT_NE(MAP_FAILED, (void *)p);
	(void)*p;
}
