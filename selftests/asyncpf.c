// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous page faults (KVM_CAP_ASYNC_PF_INT): a guest whose page is not there
 * is told so, does something else, and is told when it has come. Here a thread of
 * the VMM brings the pages, by userfaultfd, when it is told to.
 */

#include <asm/kvm_para.h>
#include <linux/kvm_para.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "lib/test.h"
#include "lib/irq.h"

#define VEC_READY	0x62
#define VEC_TIMER	0x63
#define PAGES		8
#define MAGIC		0x5eed0000U
#define ON		(KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT)
#define ALWAYS		(ON | KVM_ASYNC_PF_SEND_ALWAYS)

/* Memory that both sides see at the same address. */
static volatile struct kvm_vcpu_pv_apf_data apf __attribute__((aligned(64)));
static volatile u32 nr_told, nr_ready, nr_all, last_told, last_ready;
static volatile u64 worked;	/* what the guest did while it waited */
static volatile bool sync_in_handler;

/* ---- the guest ---- */

/* As a Linux guest: another task runs until "ready" wakes this one. */
static void on_page_fault(struct guest_trap *trap)
{
	u32 token = read_cr2();

	if (apf.flags != KVM_PV_REASON_PAGE_NOT_PRESENT || trap->error)
		GUEST_FAIL("a #PF of its own", apf.flags, token);
	apf.flags = 0;
	last_told = token;
	nr_told++;
	if (sync_in_handler)
		guest_sync(token);
	guest_spins();
	guest_sti();
	while (last_ready != token && !nr_all)
		worked++;
	guest_cli();
}

static void on_ready(struct guest_trap *trap)
{
	u32 token = apf.token;

	GUEST_ASSERT_EQ(trap->vector, VEC_READY);
	if (token == ~0U) {
		nr_all++;
	} else {
		last_ready = token;
		nr_ready++;
	}
	apf.token = 0;
	wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
	apic_eoi();
}

static void set_up(u64 flags)
{
	apic_enable();
	wrmsr(MSR_KVM_ASYNC_PF_INT, VEC_READY);
	wrmsr(MSR_KVM_ASYNC_PF_EN, (uintptr_t)&apf | flags);
	/* "look at all you wait for": a guest may have been restored here */
	guest_spins();
	guest_sti();
	while (!nr_all)
		;
	nr_all = 0;
}

static void read_pages(void)
{
	for (u32 i = 0; i < PAGES; i++)
		GUEST_ASSERT_EQ(mmio_read32(GPA_USER + i * PAGE_SIZE), MAGIC + i);
}

static void guest_told(void)
{
	set_up(ALWAYS);
	read_pages();
	guest_done();
}

static void guest_not_in_kernel(void)
{
	set_up(ON);
	/* a timer that goes on while the vCPU waits */
	apic_write(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VEC_TIMER);
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_TMICT, 2000000);
	read_pages();
	guest_done();
}

static void guest_interrupts_off(void)
{
	set_up(ALWAYS);
	guest_cli();
	read_pages();
	guest_done();
}

static void guest_turns_it_off(void)
{
	set_up(ALWAYS);
	mmio_read32(GPA_USER);	/* syncs in the handler, and does not come back */
	GUEST_FAIL("came back", 0, 0);
}

static void guest_after(void)
{
	guest_spins();
	guest_sti();
	GUEST_ASSERT_EQ(mmio_read32(GPA_USER), MAGIC);
	guest_done();
}

/* Stock KVM waits here for what is on its way. */
static void guest_switches_it_off(void)
{
	wrmsr(MSR_KVM_ASYNC_PF_EN, 0);
	guest_after();
}

/* ---- the VMM ---- */

static int uffd;
static char *user;
static sem_t may_bring;
static useconds_t delay;

static void *bring(__attribute__((unused)) void *arg)
{
	static u32 page[PAGE_SIZE / 4];
	struct uffd_msg msg;

	while (read(uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		u64 addr = msg.arg.pagefault.address & -PAGE_SIZE;
		struct uffdio_copy copy = {
			.dst = addr, .src = (uintptr_t)page, .len = PAGE_SIZE,
		};

		usleep(delay);
		sem_wait(&may_bring);
		page[0] = MAGIC + (addr - (uintptr_t)user) / PAGE_SIZE;
		if (ioctl(uffd, UFFDIO_COPY, &copy) && errno != EEXIST)
			fail("UFFDIO_COPY");
	}
	return NULL;
}

static struct vcpu *start(void (*entry)(void), u32 allowed)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.mode = UFFDIO_REGISTER_MODE_MISSING, .range.len = PAGES * PAGE_SIZE,
	};
	struct vcpu *vcpu = vcpu_create(vm_create(VM_IRQCHIP));
	pthread_t thread;

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		fail("userfaultfd");
	user = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)user;
	if (user == MAP_FAILED || ioctl(uffd, UFFDIO_REGISTER, &reg))
		fail("memory for userfaultfd");
	if (vm_slot(vcpu->vm, SLOT_USER, 0, GPA_USER, PAGES * PAGE_SIZE, user))
		fail("slot");
	sem_init(&may_bring, 0, allowed);
	if (pthread_create(&thread, NULL, bring, NULL))
		fail("pthread_create");
	delay = 20000;
	guest_handlers[14] = on_page_fault;
	guest_handlers[VEC_READY] = on_ready;
	guest_handlers[VEC_TIMER] = on_apic_irq;
	vcpu_set_long(vcpu, entry);
	return vcpu;
}

static bool no_userfaultfd(void)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	close(fd);
	return fd < 0 && errno == ENOSYS;
}

TEST(msrs)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 at = (uintptr_t)&apf;
	static const struct {
		u32 msr;
		u64 value;
		int ok;
	} cases[] = {
		{ MSR_KVM_ASYNC_PF_INT, 0, 1 },
		{ MSR_KVM_ASYNC_PF_INT, 0xff, 1 },
		{ MSR_KVM_ASYNC_PF_INT, 0x100, 0 },
		{ MSR_KVM_ASYNC_PF_INT, ~0ULL, 0 },
		{ MSR_KVM_ASYNC_PF_EN, 0x10, 0 },
		{ MSR_KVM_ASYNC_PF_EN, 0x20, 0 },
		{ MSR_KVM_ASYNC_PF_EN, KVM_ASYNC_PF_SEND_ALWAYS, 1 },
		/* without the interrupt it is not on, and the address not looked at */
		{ MSR_KVM_ASYNC_PF_EN, GPA_MMIO | KVM_ASYNC_PF_ENABLED, 1 },
		{ MSR_KVM_ASYNC_PF_EN, GPA_MMIO | ON, 0 },
		{ MSR_KVM_ASYNC_PF_EN, 0, 1 },
		{ MSR_KVM_ASYNC_PF_ACK, 0, 1 },
		{ MSR_KVM_ASYNC_PF_ACK, ~0ULL, 1 },
	};

	EXPECT_EQ(1, vm_cap(vm, KVM_CAP_ASYNC_PF));
	EXPECT_EQ(1, vm_cap(vm, KVM_CAP_ASYNC_PF_INT));
	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		EXPECT_EQ(cases[i].ok, vcpu_set_msr(vcpu, cases[i].msr, cases[i].value))
			TH_LOG("case %u", i);
	}
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, at | ALWAYS));
	EXPECT_EQ(at | ALWAYS, vcpu_get_msr(vcpu, MSR_KVM_ASYNC_PF_EN));
	EXPECT_EQ(0xff, vcpu_get_msr(vcpu, MSR_KVM_ASYNC_PF_INT));
	EXPECT_EQ(0, vcpu_get_msr(vcpu, MSR_KVM_ASYNC_PF_ACK));
	vm_destroy(vm);
}

TEST(without_a_lapic)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, 0));
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, (uintptr_t)&apf | ON));
	EXPECT_EQ(0, vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_INT, VEC_READY));
	/* stock KVM refuses this, too, and QEMU cannot do without a LAPIC there */
	EXPECT_EQ(!dev_is_kvm(), vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_INT, 0));
	vm_destroy(vm);
}

TEST(the_guest_is_told)
{
	struct vcpu *vcpu;

	if (host_is_bochs_svm())
		SKIP(return, "Bochs' AMD-V: a guest that spins keeps the CPU from the worker");
	if (no_userfaultfd())
		SKIP(return, "this kernel has no userfaultfd");
	vcpu = start(guest_told, PAGES);
	guest_run_done(vcpu);
	EXPECT_EQ(PAGES, nr_told);
	EXPECT_EQ(PAGES, nr_ready);
	EXPECT_EQ(last_told, last_ready);
	EXPECT_LT(PAGES, worked);
	EXPECT_EQ(0, apf.flags);
	if (!dev_is_kvm()) {
		EXPECT_EQ(PAGES, vcpu_stat(vcpu, "async_pf_not_present"));
	}
}

/* A kernel that cannot be told waits, but takes its interrupts. */
TEST(interrupts_while_it_waits)
{
	struct vcpu *vcpu;

	if (no_userfaultfd())
		SKIP(return, "this kernel has no userfaultfd");
	vcpu = start(guest_not_in_kernel, PAGES);
	guest_run_done(vcpu);
	EXPECT_EQ(0, nr_told);
	EXPECT_EQ(0, nr_ready);
	/* 20 ms a page, 2 ms a tick */
	EXPECT_LT(PAGES, irqs[VEC_TIMER]);
}

TEST(interrupts_off)
{
	struct vcpu *vcpu;

	if (no_userfaultfd())
		SKIP(return, "this kernel has no userfaultfd");
	vcpu = start(guest_interrupts_off, PAGES);
	guest_run_done(vcpu);
	EXPECT_EQ(0, nr_told);
	EXPECT_EQ(0, nr_ready);
}

TEST(switched_off_on_the_way)
{
	struct vcpu *vcpu;
	struct kvm_regs regs;

	if (no_userfaultfd())
		SKIP(return, "this kernel has no userfaultfd");
	sync_in_handler = true;
	vcpu = start(guest_turns_it_off, 0);
	EXPECT_EQ(guest_run_sync(vcpu), last_told);
	sync_in_handler = false;
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &regs);
	regs.rip = (uintptr_t)guest_switches_it_off;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	sem_post(&may_bring);
	guest_run_done(vcpu);
	EXPECT_EQ(0, nr_ready);
	EXPECT_EQ(1, nr_told);
}

/* What a guest was told on its way is lost with the host it leaves. */
TEST(restored_guest_looks_at_all)
{
	struct vcpu *vcpu;
	u64 en;

	if (no_userfaultfd())
		SKIP(return, "this kernel has no userfaultfd");
	sync_in_handler = true;
	vcpu = start(guest_told, 0);
	guest_run_sync(vcpu);
	sync_in_handler = false;
	delay = 0;
	/* as a restore: the wake-up comes although no page has */
	en = vcpu_get_msr(vcpu, MSR_KVM_ASYNC_PF_EN);
	EXPECT_EQ((uintptr_t)&apf | ALWAYS, en);
	EXPECT_EQ(1, vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, en));
	for (int i = 0; i < 2 * PAGES; i++)
		sem_post(&may_bring);
	guest_run_done(vcpu);
	EXPECT_LE(1, nr_all);
}

/* The VM goes, and the page comes after it. */
TEST(page_outlives_the_vm)
{
	struct vcpu *vcpu;

	if (no_userfaultfd())
		SKIP(return, "this kernel has no userfaultfd");
	if (dev_is_kvm())
		SKIP(return, "stock KVM waits for the page when the VM is closed");
	sync_in_handler = true;
	vcpu = start(guest_turns_it_off, 0);
	guest_run_sync(vcpu);
	vm_destroy(vcpu->vm);
	usleep(10000);
	sem_post(&may_bring);
	usleep(50000);
}
