// SPDX-License-Identifier: GPL-2.0-only
/* Port I/O: sizes, strings, when an access completes, and how KVM_RUN is left. */

#include "lib/test.h"

#define PORT	0x5a0

static void *io_data(struct vcpu *vcpu)
{
	return (char *)vcpu->run + vcpu->run->io.data_offset;
}

static void guest_out(void)
{
	outb(PORT, 0x12);
	outw(PORT + 2, 0x3456);
	outl(PORT + 4, 0x789abcde);
	/* Both forms of the instruction. */
	asm volatile("outb %%al, $0x80" : : "a"(0x99));
	guest_done();
}

TEST(out)
{
	static const struct {
		u16 port, size;
		u32 value;
	} want[] = {
		{ PORT, 1, 0x12 }, { PORT + 2, 2, 0x3456 },
		{ PORT + 4, 4, 0x789abcde }, { 0x80, 1, 0x99 },
	};
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_out);
	for (unsigned int i = 0; i < ARRAY_SIZE(want); i++) {
		u32 val = 0;

		ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		EXPECT_EQ(KVM_EXIT_IO_OUT, vcpu->run->io.direction);
		EXPECT_EQ(want[i].port, vcpu->run->io.port);
		EXPECT_EQ(want[i].size, vcpu->run->io.size);
		EXPECT_EQ(1, vcpu->run->io.count);
		memcpy(&val, io_data(vcpu), want[i].size);
		EXPECT_EQ(want[i].value, val);
	}
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static volatile u64 in_rax[3];

static void guest_in(void)
{
	u64 rax = ~0ULL;

	asm volatile("inb %%dx, %%al" : "+a"(rax) : "d"(PORT));
	in_rax[0] = rax;
	rax = ~0ULL;
	asm volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(PORT));
	in_rax[1] = rax;
	rax = ~0ULL;
	asm volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(PORT));
	in_rax[2] = rax;
	guest_done();
}

TEST(in)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_in);
	for (u32 size = 1; size <= 4; size *= 2) {
		static const u32 value = 0x44332211;

		ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		EXPECT_EQ(KVM_EXIT_IO_IN, vcpu->run->io.direction);
		EXPECT_EQ(PORT, vcpu->run->io.port);
		EXPECT_EQ(size, vcpu->run->io.size);
		memcpy(io_data(vcpu), &value, size);
	}
	guest_run_done(vcpu);
	EXPECT_EQ(0xffffffffffffff11ULL, in_rax[0]);
	EXPECT_EQ(0xffffffffffff2211ULL, in_rax[1]);
	EXPECT_EQ(0x44332211ULL, in_rax[2]);
	vm_destroy(vm);
}

/* The value is taken at the next KVM_RUN, even if that does not enter the guest. */
TEST(in_completes_at_the_next_run)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs r;

	vcpu_set_long(vcpu, guest_in);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	vcpu_regs(vcpu, &r);
	EXPECT_EQ(~0ULL, r.rax);
	*(u8 *)io_data(vcpu) = 0x42;
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &r);
	EXPECT_EQ(0xffffffffffffff42ULL, r.rax);
	/* And once only. */
	*(u8 *)io_data(vcpu) = 0x43;
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &r);
	EXPECT_EQ(0xffffffffffffff42ULL, r.rax);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(2, vcpu->run->io.size);
	EXPECT_EQ(0xffffffffffffff42ULL, in_rax[0]);
	vm_destroy(vm);
}

#define STRING_LEN	300
static u8 string[STRING_LEN + 8];

static void guest_outs(void)
{
	u64 rsi = (uintptr_t)string, rcx = STRING_LEN;

	asm volatile("rep outsb" : "+S"(rsi), "+c"(rcx) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(rcx, 0);
	GUEST_ASSERT_EQ(rsi, (uintptr_t)string + STRING_LEN);
	rcx = STRING_LEN / 4;
	rsi = (uintptr_t)string;
	asm volatile("rep outsl" : "+S"(rsi), "+c"(rcx) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(rcx, 0);
	GUEST_ASSERT_EQ(rsi, (uintptr_t)string + STRING_LEN);
	rsi = (uintptr_t)string;
	asm volatile("outsw" : "+S"(rsi) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(rsi, (uintptr_t)string + 2);
	/* Backwards. */
	rcx = 4;
	rsi = (uintptr_t)string + 3;
	asm volatile("std; rep outsb; cld" : "+S"(rsi), "+c"(rcx) : "d"(PORT)
		     : "memory");
	GUEST_ASSERT_EQ(rsi, (uintptr_t)string - 1);
	/* Nothing to do is no access. */
	rcx = 0;
	asm volatile("rep outsb" : "+S"(rsi), "+c"(rcx) : "d"(PORT) : "memory");
	guest_done();
}

/* Gather what comes out, in as many exits as it takes. */
static void collect(struct vcpu *vcpu, u32 size, u8 *buf, u32 len)
{
	u32 n = 0;

	while (n < len) {
		u32 bytes;

		if (guest_run(vcpu) != UCALL_NONE ||
		    vcpu->run->exit_reason != KVM_EXIT_IO ||
		    vcpu->run->io.direction != KVM_EXIT_IO_OUT ||
		    vcpu->run->io.port != PORT)
			fail("exit %u after %u bytes", vcpu->run->exit_reason, n);
		bytes = vcpu->run->io.size * vcpu->run->io.count;
		if (vcpu->run->io.size != size || n + bytes > len)
			fail("%u of size %u", vcpu->run->io.count, vcpu->run->io.size);
		memcpy(buf + n, io_data(vcpu), bytes);
		n += bytes;
	}
}

TEST(string_out)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u8 buf[STRING_LEN];

	for (int i = 0; i < STRING_LEN; i++)
		string[i] = i * 7 + 3;
	vcpu_set_long(vcpu, guest_outs);
	collect(vcpu, 1, buf, STRING_LEN);
	EXPECT_EQ(0, memcmp(buf, string, STRING_LEN));
	memset(buf, 0, sizeof(buf));
	collect(vcpu, 4, buf, STRING_LEN);
	EXPECT_EQ(0, memcmp(buf, string, STRING_LEN));
	collect(vcpu, 2, buf, 2);
	EXPECT_EQ(0, memcmp(buf, string, 2));
	collect(vcpu, 1, buf, 4);
	EXPECT_EQ(string[3], buf[0]);
	EXPECT_EQ(string[0], buf[3]);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_ins(void)
{
	u64 rdi = (uintptr_t)string, rcx = STRING_LEN / 2;

	asm volatile("rep insw" : "+D"(rdi), "+c"(rcx) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(rcx, 0);
	GUEST_ASSERT_EQ(rdi, (uintptr_t)string + STRING_LEN);
	rcx = 5;
	asm volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(rcx, 0);
	GUEST_ASSERT_EQ(rdi, (uintptr_t)string + STRING_LEN + 5);
	guest_done();
}

TEST(string_in)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u8 next = 1;

	memset(string, 0, sizeof(string));
	vcpu_set_long(vcpu, guest_ins);
	for (;;) {
		enum ucall uc = guest_run(vcpu);
		u32 bytes = vcpu->run->io.size * vcpu->run->io.count;
		u8 *data = io_data(vcpu);

		if (uc == UCALL_DONE)
			break;
		ASSERT_EQ(UCALL_NONE, uc);
		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		ASSERT_EQ(KVM_EXIT_IO_IN, vcpu->run->io.direction);
		for (u32 i = 0; i < bytes; i++)
			data[i] = next++;
	}
	for (int i = 0; i < STRING_LEN + 5; i++) {
		ASSERT_EQ((u8)(i + 1), string[i]);
	}
	EXPECT_EQ(0, string[STRING_LEN + 5]);
	vm_destroy(vm);
}

#define SECTOR	512

static u8 sector[SECTOR] __attribute__((aligned(SECTOR)));

static void guest_ins_sector(void)
{
	u64 rdi = (uintptr_t)sector, rcx = SECTOR / 2;

	asm volatile("rep insw" : "+D"(rdi), "+c"(rcx) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(rcx, 0);
	guest_done();
}

/* As firmware reads a disk: not an exit for each word. */
TEST(string_in_by_the_sector)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	unsigned int exits = 0, given = 0;

	vcpu_set_long(vcpu, guest_ins_sector);
	while (guest_run(vcpu) == UCALL_NONE) {
		u32 bytes = vcpu->run->io.size * vcpu->run->io.count;
		u8 *data = io_data(vcpu);

		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		for (u32 i = 0; i < bytes; i++, given++)
			data[i] = given * 7;
		exits++;
	}
	EXPECT_EQ(SECTOR, given);
	EXPECT_EQ(1, exits);
	for (int i = 0; i < SECTOR; i++) {
		ASSERT_EQ((u8)(i * 7), sector[i]);
	}
	vm_destroy(vm);
}

extern const char real_string_start[], real_string_end[];

/* A string instruction in real mode, from another segment than DS. */
asm(
"	.pushsection .text\n"
"	.code16\n"
"real_string_start:\n"
"	movw $2000f - real_string_start, %si\n"
"	movw $3, %cx\n"
"	movw $0x5a0, %dx\n"
"	cs rep outsb\n"
"	hlt\n"
"2000:	.ascii \"xyz\"\n"
"real_string_end:\n"
"	.code64\n"
"	.popsection\n"
);

TEST(string_out_in_real_mode)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u8 buf[4] = "";

	vcpu_set_real(vcpu, real_string_start, real_string_end);
	collect(vcpu, 1, buf, 3);
	EXPECT_STREQ("xyz", (char *)buf);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(KVM_EXIT_HLT, vcpu->run->exit_reason);
	vm_destroy(vm);
}

/* INS to an address that is not mapped faults as any other write. */
static volatile u64 fault_cr2, fault_error;

static void on_page_fault(struct guest_trap *trap)
{
	fault_cr2 = read_cr2();
	fault_error = trap->error;
	trap->rdi = (uintptr_t)string;
}

static void guest_ins_fault(void)
{
	u64 rdi = 1ULL << 32, rcx = 1;

	asm volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(fault_cr2, 1ULL << 32);
	GUEST_ASSERT_EQ(fault_error, 2);
	guest_done();
}

TEST(string_in_faults)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loads no CR2 at VMRUN; stock KVM fails, too");
	guest_handlers[VEC_PF] = on_page_fault;
	string[0] = 0;
	vcpu_set_long(vcpu, guest_ins_fault);
	for (;;) {
		enum ucall uc = guest_run(vcpu);

		if (uc == UCALL_DONE)
			break;
		ASSERT_EQ(UCALL_NONE, uc);
		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		*(u8 *)io_data(vcpu) = 0x33;
	}
	EXPECT_EQ(0x33, string[0]);
	vm_destroy(vm);
}

static void guest_outs_from_two_pages(void)
{
	u64 rsi = GPA_USER + PAGE_SIZE - 4, rcx = 8;

	asm volatile("rep outsb" : "+S"(rsi), "+c"(rcx) : "d"(PORT) : "memory");
	guest_done();
}

/* What a string instruction has written is written, also when the next element fails. */
TEST(string_out_of_memory_that_fails)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_coalesced_mmio_zone zone = { .addr = PORT, .size = 1, .pio = 1 };
	struct kvm_coalesced_mmio_ring *ring = (void *)vcpu->run +
				vm_cap(vm, KVM_CAP_COALESCED_MMIO) * PAGE_SIZE;
	u8 *p;

	if (dev_is_kvm())
		SKIP(return, "memory that cannot be read is MMIO for stock KVM's emulator");
	p = vm_add_slot(vm, SLOT_USER, 0, GPA_USER, 2 * PAGE_SIZE);
	ASSERT_EQ(0, sys_ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	for (int i = 0; i < 4; i++)
		p[PAGE_SIZE - 4 + i] = i;
	ASSERT_EQ(0, munmap(p + PAGE_SIZE, PAGE_SIZE));
	vcpu_set_long(vcpu, guest_outs_from_two_pages);
	EXPECT_EQ(-EFAULT, vcpu_run(vcpu));
	EXPECT_EQ(4, ring->last);
	EXPECT_EQ(-EFAULT, vcpu_run(vcpu));
	ASSERT_EQ(p + PAGE_SIZE, mmap(p + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	for (int i = 4; i < 8; i++)
		p[PAGE_SIZE - 4 + i] = i;
	guest_run_done(vcpu);
	ASSERT_EQ(8, ring->last);
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(PORT, ring->coalesced_mmio[i].phys_addr);
		EXPECT_EQ(i, ring->coalesced_mmio[i].data[0]);
	}
	vm_destroy(vm);
}

static void guest_two_outs(void)
{
	outb(PORT, 1);
	outb(PORT, 2);
	guest_done();
}

TEST(immediate_exit)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 rip;

	vcpu_set_long(vcpu, guest_two_outs);
	vcpu->run->immediate_exit = 1;
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EINTR, vcpu_run(vcpu));
		EXPECT_EQ((uintptr_t)guest_two_outs, vcpu_rip(vcpu));
	}
	/* The kernel leaves the flag alone. */
	EXPECT_EQ(1, vcpu->run->immediate_exit);
	vcpu->run->immediate_exit = 0;
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(1, *(u8 *)io_data(vcpu));
	vcpu_complete_io(vcpu);
	rip = vcpu_rip(vcpu);
	vcpu_complete_io(vcpu);
	EXPECT_EQ(rip, vcpu_rip(vcpu));
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(2, *(u8 *)io_data(vcpu));
	vm_destroy(vm);
}

static volatile u32 spinning, stop;
static volatile int run_ret;

static void guest_spin(void)
{
	guest_spins();
	while (!stop)
		spinning++;
	guest_done();
}

static void *run_once(void *arg)
{
	struct vcpu *vcpu = arg;

	vcpu->run->exit_reason = 0x1234;
	run_ret = vcpu_run(vcpu);
	return NULL;
}

static void wait_spinning(void)
{
	u32 old = spinning;

	while (spinning == old)
		usleep(1000);
}

TEST(signal_ends_run)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_spin);
	for (int i = 0; i < 3; i++) {
		vcpu_start_fn(vcpu, run_once);
		wait_spinning();
		vcpu_kick(vcpu);
		vcpu_join(vcpu);
		EXPECT_EQ(-EINTR, run_ret);
		EXPECT_EQ(KVM_EXIT_INTR, vcpu->run->exit_reason);
	}
	stop = 1;
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* What QEMU's signal handler does: a flag in the run page, against lost kicks. */
static void *run_till_told(void *arg)
{
	struct vcpu *vcpu = arg;

	run_ret = vcpu_run(vcpu);
	return NULL;
}

TEST(immediate_exit_set_while_running)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_spin);
	vcpu_start_fn(vcpu, run_till_told);
	wait_spinning();
	vcpu->run->immediate_exit = 1;
	vcpu_kick(vcpu);
	vcpu_join(vcpu);
	EXPECT_EQ(-EINTR, run_ret);
	EXPECT_EQ(-EINTR, vcpu_run(vcpu));
	vcpu->run->immediate_exit = 0;
	stop = 1;
	guest_run_done(vcpu);
	vm_destroy(vm);
}

struct sigmask {
	struct kvm_signal_mask head;
	u8 set[8];
};

TEST(signal_mask)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct sigmask m = { .head.len = 4 };
	sigset_t set, pending;

	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &m));
	m.head.len = 8;		/* nothing blocked while in KVM_RUN */
	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &m));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR2);
	vcpu_set_long(vcpu, guest_spin);
	/* Blocked in the thread, not in the mask: leaves KVM_RUN, and stays. */
	EXPECT_EQ(-EINTR, vcpu_run(vcpu));
	EXPECT_EQ(KVM_EXIT_INTR, vcpu->run->exit_reason);
	sigpending(&pending);
	EXPECT_EQ(1, sigismember(&pending, SIGUSR2));
	/* Without the mask the blocked signal is no reason to leave. */
	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, NULL));
	stop = 1;
	EXPECT_EQ(0, vcpu_run(vcpu));
	EXPECT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	vm_destroy(vm);
}

/*
 * A signal that is let in by the mask alone comes while the guest runs: it ends
 * KVM_RUN, and neither kills, which is its default action, nor is it dropped
 * for being ignored.
 */
static void signal_in_the_middle(struct __test_metadata *_metadata, void (*action)(int))
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct sigmask m = { .head.len = 8 };
	sigset_t set;

	signal(SIGUSR2, action);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ASSERT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &m));
	stop = 0;
	vcpu_set_long(vcpu, guest_spin);
	vcpu_start_fn(vcpu, run_once);
	wait_spinning();
	pthread_kill(vcpu->thread, SIGUSR2);
	vcpu_join(vcpu);
	EXPECT_EQ(-EINTR, run_ret);
	vm_destroy(vm);
}

TEST(signal_mask_while_running)
{
	signal_in_the_middle(_metadata, SIG_DFL);
}

TEST(signal_mask_and_an_ignored_signal)
{
	signal_in_the_middle(_metadata, SIG_IGN);
}

#define LONG_STRING	100000
static u8 long_string[LONG_STRING];

static void guest_long_ins(void)
{
	void *rdi = long_string;
	u64 rcx = LONG_STRING;

	asm volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(PORT) : "memory");
	guest_done();
}

/* KVM_RUN can be left in the middle of a REP, and comes back to it. */
TEST(string_in_can_be_left)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs regs;
	u64 left;

	vcpu_set_long(vcpu, guest_long_ins);
	ASSERT_EQ(0, vcpu_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	vcpu->run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, vcpu_run(vcpu));
	vcpu_regs(vcpu, &regs);
	EXPECT_LT(0, regs.rcx);
	EXPECT_GT(LONG_STRING, regs.rcx);
	left = regs.rcx;
	vcpu->run->immediate_exit = 0;
	ASSERT_EQ(0, vcpu_run(vcpu));
	EXPECT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	vcpu_regs(vcpu, &regs);
	EXPECT_GE(left, regs.rcx);
	vm_destroy(vm);
}
