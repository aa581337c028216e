// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each allocation of each call fails once, by /proc/self/fail-nth: the call must
 * say so and leave nothing behind. Wants a kernel with CONFIG_FAULT_INJECTION,
 * FAILSLAB and FAIL_PAGE_ALLOC; others skip it.
 */

#include <sys/eventfd.h>

#include "lib/test.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define MAX_NTH		2000

/* Kept open: while the count runs, opening it would be what fails. */
static int fail_nth = -1;

/* Allocations that may sleep are what is interesting: do not spare them. */
static bool arm(void)
{
	bool slab, page;

	fail_nth = open(FAIL_NTH, O_RDWR);
	if (fail_nth < 0)
		return false;
	slab = host_write("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	page = host_write("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	host_write("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	host_write("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	host_write("/sys/kernel/debug/failslab/verbose", "0");
	host_write("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	return slab || page;
}

static void set_nth(int n)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%d", n);

	/* The failure that is still to come may hit this very call: once. */
	if (pwrite(fail_nth, buf, len, 0) != len && pwrite(fail_nth, buf, len, 0) != len)
		fail("write to " FAIL_NTH);
}

/*
 * What is left of the count; 0: a failure was injected. Copying it out may be
 * what fails: then it was not in the call.
 */
static int left(void)
{
	char buf[16] = "";

	return pread(fail_nth, buf, sizeof(buf) - 1, 0) <= 0 ? 1 : atoi(buf);
}

struct ctx {
	int dev, vm, vcpu;
	void *mem;
	struct kvm_cpuid2 *cpuid;
};

static void guest_ok(void)
{
	guest_done();
}

static int op_create_vm(struct ctx *c)
{
	int fd = sys_ioctl(c->dev, KVM_CREATE_VM, 0);

	if (fd >= 0)
		close(fd);
	return fd;
}

static int op_irqchip(struct ctx *c)
{
	return sys_ioctl(c->vm, KVM_CREATE_IRQCHIP, 0);
}

static int op_pit(struct ctx *c)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int ret = sys_ioctl(c->vm, KVM_CREATE_IRQCHIP, 0);

	return ret ? ret : sys_ioctl(c->vm, KVM_CREATE_PIT2, &pit);
}

static int op_vcpu(struct ctx *c)
{
	int ret = sys_ioctl(c->vm, KVM_CREATE_IRQCHIP, 0);
	int fd = ret ? ret : sys_ioctl(c->vm, KVM_CREATE_VCPU, 0);
	void *run;

	if (fd < 0)
		return fd;
	run = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run != MAP_FAILED)
		munmap(run, PAGE_SIZE);
	close(fd);
	return 0;
}

static int op_memslot(struct ctx *c)
{
	struct kvm_userspace_memory_region r = {
		.flags = KVM_MEM_LOG_DIRTY_PAGES, .memory_size = 64 * PAGE_SIZE,
		.userspace_addr = (uintptr_t)c->mem,
	};
	u64 map[1];
	struct kvm_dirty_log log = { .dirty_bitmap = map };
	int ret = sys_ioctl(c->vm, KVM_SET_USER_MEMORY_REGION, &r);

	if (ret)
		return ret;
	ret = sys_ioctl(c->vm, KVM_GET_DIRTY_LOG, &log);
	r.guest_phys_addr = 0x100000;
	if (!ret)
		ret = sys_ioctl(c->vm, KVM_SET_USER_MEMORY_REGION, &r);
	r.memory_size = 0;
	if (!ret)
		ret = sys_ioctl(c->vm, KVM_SET_USER_MEMORY_REGION, &r);
	return ret;
}

static int op_eventfds(struct ctx *c)
{
	int fd = eventfd(0, EFD_NONBLOCK), ret;
	struct kvm_irqfd irqfd = { .fd = fd, .gsi = 5 };
	struct kvm_ioeventfd io = {
		.fd = fd, .addr = 0x500, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO,
	};
	struct kvm_irq_routing none = { .nr = 0 };

	if (fd < 0)
		return -ENOMEM;
	ret = sys_ioctl(c->vm, KVM_CREATE_IRQCHIP, 0);
	if (!ret)
		ret = sys_ioctl(c->vm, KVM_IRQFD, &irqfd);
	if (!ret)
		ret = sys_ioctl(c->vm, KVM_IOEVENTFD, &io);
	if (!ret)
		ret = sys_ioctl(c->vm, KVM_SET_GSI_ROUTING, &none);
	close(fd);
	return ret;
}

static int op_state(struct ctx *c)
{
	static struct kvm_xsave x;
	struct kvm_sregs s;
	int fd = sys_ioctl(c->vm, KVM_CREATE_VCPU, 0), ret;

	if (fd < 0)
		return fd;
	ret = sys_ioctl(fd, KVM_SET_CPUID2, c->cpuid);
	if (!ret)
		ret = sys_ioctl(fd, KVM_GET_XSAVE, &x);
	if (!ret)
		ret = sys_ioctl(fd, KVM_SET_XSAVE, &x);
	if (!ret)
		ret = sys_ioctl(fd, KVM_GET_SREGS, &s);
	if (!ret)
		ret = sys_ioctl(fd, KVM_SET_SREGS, &s);
	close(fd);
	return ret;
}

/* Not where stock KVM has no such call: then there is nothing to fail. */
static int op_pre_fault(struct ctx *c)
{
	struct kvm_userspace_memory_region r = {
		.memory_size = 64 * PAGE_SIZE, .userspace_addr = (uintptr_t)c->mem,
	};
	struct kvm_pre_fault_memory range = { .size = 64 * PAGE_SIZE };
	int ret = sys_ioctl(c->vm, KVM_SET_USER_MEMORY_REGION, &r), fd;

	if (ret)
		return ret;
	fd = sys_ioctl(c->vm, KVM_CREATE_VCPU, 0);
	if (fd < 0)
		return fd;
	if (sys_ioctl(c->vm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_PRE_FAULT_MEMORY) > 0)
		ret = sys_ioctl(fd, KVM_PRE_FAULT_MEMORY, &range);
	close(fd);
	return ret;
}

static int op_dirtyring(struct ctx *c)
{
	const size_t size = 1024 * sizeof(struct kvm_dirty_gfn);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { size } };
	int ret = sys_ioctl(c->vm, KVM_ENABLE_CAP, &cap), fd;
	struct kvm_dirty_gfn *ring;

	if (ret)
		return ret;
	fd = sys_ioctl(c->vm, KVM_CREATE_VCPU, 0);
	if (fd < 0)
		return fd;
	ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE);
	if (ring != MAP_FAILED)
		munmap(ring, size);
	close(fd);
	return sys_ioctl(c->vm, KVM_RESET_DIRTY_RINGS, NULL);
}

static int op_msrfilter(struct ctx *c)
{
	static u8 bitmap[16];
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges[0] = {
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			.nmsrs = 8 * sizeof(bitmap), .base = 0x10, .bitmap = bitmap,
		},
		.ranges[1] = {
			.flags = KVM_MSR_FILTER_READ,
			.nmsrs = 8, .base = 0xc0000080, .bitmap = bitmap,
		},
	};
	int ret = sys_ioctl(c->vm, KVM_X86_SET_MSR_FILTER, &filter);

	/* another in its place */
	return ret ? ret : sys_ioctl(c->vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static int op_stats(struct ctx *c)
{
	int vcpu = sys_ioctl(c->vm, KVM_CREATE_VCPU, 0), fd;

	if (vcpu < 0)
		return vcpu;
	fd = sys_ioctl(vcpu, KVM_GET_STATS_FD, NULL);
	close(vcpu);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int op_split(struct ctx *c)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_irq_routing *r = alloca(sizeof(*r) + sizeof(r->entries[0]));
	int ret = sys_ioctl(c->vm, KVM_ENABLE_CAP, &cap);

	if (ret)
		return ret;
	*r = (struct kvm_irq_routing){ .nr = 1 };
	r->entries[0] = (struct kvm_irq_routing_entry){
		.gsi = 30, .type = KVM_IRQ_ROUTING_MSI, .u.msi.address_lo = 0xfee00000,
	};
	return sys_ioctl(c->vm, KVM_SET_GSI_ROUTING, r);
}

/* Run @op on a new VM with the 1st, 2nd, ... allocation failing. */
static int inject(struct __test_metadata *_metadata, int (*op)(struct ctx *))
{
	struct ctx c = { .dev = dev_open() };
	int n, injected = 0;

	c.cpuid = cpuid_supported(c.dev);
	c.mem = mmap(NULL, 64 * PAGE_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (n = 1; n < MAX_NTH; n++) {
		int ret, rest;

		c.vm = sys_ioctl(c.dev, KVM_CREATE_VM, 0);
		ASSERT_LE(0, c.vm);
		set_nth(n);
		ret = op(&c);
		rest = left();
		set_nth(0);
		close(c.vm);
		if (rest) {
			/* It took fewer allocations than that. */
			EXPECT_LE(0, ret);
			break;
		}
		injected++;
		/* The failure is reported, or was survived. */
		EXPECT_TRUE(ret >= 0 || ret == -ENOMEM || ret == -EFAULT ||
			    ret == -EINTR || ret == -EAGAIN)
			TH_LOG("%d at allocation %d", ret, n);
	}
	fprintf(stderr, "# %d failures\n", injected);
	EXPECT_LT(0, injected);
	EXPECT_GT(MAX_NTH, n);
	munmap(c.mem, 64 * PAGE_SIZE);
	free(c.cpuid);
	close(c.dev);
	return injected;
}

#define FAULT_TEST(name)						\
TEST(name)								\
{									\
	if (!arm())							\
		SKIP(return, "no fault injection in this kernel");	\
	inject(_metadata, op_##name);					\
}

FAULT_TEST(create_vm)
FAULT_TEST(irqchip)
FAULT_TEST(pit)
FAULT_TEST(vcpu)
FAULT_TEST(memslot)
FAULT_TEST(eventfds)
FAULT_TEST(state)
FAULT_TEST(pre_fault)
FAULT_TEST(dirtyring)
FAULT_TEST(msrfilter)
FAULT_TEST(stats)
FAULT_TEST(split)

/* KVM_RUN takes page tables and pages: it says so, and can be repeated. */
TEST(run)
{
	int n, injected = 0;

	if (!arm())
		SKIP(return, "no fault injection in this kernel");
	for (n = 1; n < 200; n++) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_create(vm);
		int ret, rest;

		vcpu_set_long(vcpu, guest_ok);
		set_nth(n);
		ret = vcpu_run(vcpu);
		rest = left();
		set_nth(0);
		EXPECT_TRUE(ret == 0 || ret == -ENOMEM || ret == -EFAULT ||
			    ret == -EINTR)
			TH_LOG("%d at allocation %d", ret, n);
		if (ret)
			guest_run_done(vcpu);
		vm_destroy(vm);
		if (rest)
			break;
		injected++;
	}
	fprintf(stderr, "# %d failures\n", injected);
	EXPECT_LT(0, injected);
	EXPECT_GT(200, n);
}
