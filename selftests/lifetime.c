// SPDX-License-Identifier: GPL-2.0-only
/* Who holds what, and for how long: kill, close, fork, fds that are handed on. */

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lib/test.h"

static volatile u32 stop, count;

static void guest_spin(void)
{
	guest_spins();
	while (!stop)
		count++;
	guest_done();
}

static void guest_sync_loop(void)
{
	for (u32 i = 0;; i++)
		guest_sync(i);
}

/* In memory that the parent of the VMM sees, too. */
static void guest_counts_for_parent(u64 me)
{
	guest_spins();
	for (;;)
		((volatile u64 *)GPA_USER)[me]++;
}

static void run_four_for_ever(void *shared_page)
{
	struct vm *vm;

	/* Whatever becomes of the parent. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm = vm_create(VM_IRQCHIP);
	if (vm_slot(vm, SLOT_USER, 0, GPA_USER, PAGE_SIZE, shared_page))
		fail("slot of the counters");
	for (int i = 0; i < 4; i++)
		vcpu_set_long_arg(vcpu_create(vm),
				  (void (*)(void))guest_counts_for_parent, i);
	for (int i = 0; i < 4; i++)
		vcpu_start(&vm->vcpu[i]);
	for (;;)
		pause();
}

/* Each of the four, and not only once: they are in the guest. */
static bool all_count(volatile u64 *counts)
{
	u64 from[4];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 4; i++)
			from[i] = counts[i];
		for (int i = 0; i < 4; i++) {
			for (int ms = 0; ms < 20000 && counts[i] == from[i]; ms++)
				usleep(1000);
			if (counts[i] == from[i])
				return false;
		}
	}
	return true;
}

TEST(kill_with_running_vcpus)
{
	u64 *counts = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0), last[4];

	ASSERT_NE(MAP_FAILED, counts);
	for (u32 i = 0; i < 3 * keel_scale; i++) {
		int status;
		pid_t pid;

		memset(counts, 0, PAGE_SIZE);
		pid = fork();
		if (!pid)
			run_four_for_ever(counts);
		EXPECT_TRUE(all_count(counts));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		/* Its threads are gone, and so are its vCPUs. */
		memcpy(last, counts, sizeof(last));
		usleep(10000);
		EXPECT_EQ(0, memcmp(last, counts, sizeof(last)));
	}
}

/* All orders of closing the four handles; what is left must keep working. */
TEST(close_orders)
{
	for (int order = 0; order < 256; order++) {
		struct vm *vm;
		struct vcpu *vcpu;
		int seen = 0;

		for (int i = 0; i < 4; i++)
			seen |= 1 << (order >> 2 * i & 3);
		if (seen != 15)
			continue;		/* no permutation */
		vm = vm_create(VM_IRQCHIP);
		vcpu = vcpu_create(vm);
		vcpu_set_long(vcpu, guest_sync_loop);
		ASSERT_EQ(0, guest_run_sync(vcpu));
		seen = 0;
		for (int i = 0; i < 4; i++) {
			int what = order >> 2 * i & 3;

			seen |= 1 << what;
			if (what == 0)
				close(vm->dev);
			if (what == 1)
				close(vm->fd);
			if (what == 2)
				close(vcpu->fd);
			if (what == 3)
				munmap(vcpu->run, vm->run_size);
			if (!(seen & 4)) {
				ASSERT_EQ(0, vcpu_run(vcpu));
			}
			if (!(seen & 8)) {
				EXPECT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
				vcpu->run->immediate_exit = 0;
			}
		}
		munmap(vm->low, LOW_SIZE);
		free(vm);
	}
}

#define PORT_EVENT	0x5c0

static void guest_events_and_syncs(void)
{
	for (u32 i = 0;; i++) {
		outl(PORT_EVENT, 1);
		guest_sync(i);
	}
}

enum { H_DEV, H_VM, H_VCPU, H_RUN, H_VM_STATS, H_VCPU_STATS, H_IRQFD, H_IOEVENTFD, H_MAX };

/* With all that can hang on a VM, in many orders, an armed timer among it. */
TEST(close_orders_of_everything)
{
	u32 seed = 1;

	for (u32 round = 0; round < 50 * keel_scale; round++) {
		struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);
		struct vcpu *vcpu = vcpu_create(vm);
		struct kvm_irqfd irqfd = { .gsi = 5 };
		struct kvm_ioeventfd io = {
			.addr = PORT_EVENT, .len = 4, .flags = KVM_IOEVENTFD_FLAG_PIO,
		};
		struct kvm_pit_state2 pit;
		int fd[H_MAX] = { 0 }, order[H_MAX];
		u64 val = 1;

		for (int i = 0; i < H_MAX; i++) {
			int j;

			seed = seed * 1103515245 + 12345;
			j = (seed >> 16) % (i + 1);
			order[i] = order[j];
			order[j] = i;
		}
		fd[H_DEV] = vm->dev;
		fd[H_VM] = vm->fd;
		fd[H_VCPU] = vcpu->fd;
		fd[H_VM_STATS] = sys_ioctl(vm->fd, KVM_GET_STATS_FD, 0);
		fd[H_VCPU_STATS] = sys_ioctl(vcpu->fd, KVM_GET_STATS_FD, 0);
		fd[H_IRQFD] = eventfd(0, EFD_NONBLOCK);
		fd[H_IOEVENTFD] = eventfd(0, EFD_NONBLOCK);
		irqfd.fd = fd[H_IRQFD];
		io.fd = fd[H_IOEVENTFD];
		VM_IOCTL(vm, KVM_IRQFD, &irqfd);
		VM_IOCTL(vm, KVM_IOEVENTFD, &io);
		/* The fastest it may be: it fires while all goes. */
		VM_IOCTL(vm, KVM_GET_PIT2, &pit);
		pit.channels[0].mode = 2;
		pit.channels[0].count = 500;
		VM_IOCTL(vm, KVM_SET_PIT2, &pit);
		vcpu_set_long(vcpu, guest_events_and_syncs);
		for (int i = 0; i < H_MAX; i++) {
			if (fd[H_VCPU] >= 0) {
				ASSERT_EQ(0, vcpu_run(vcpu));
			}
			if (fd[H_RUN] >= 0 && fd[H_VCPU] >= 0) {
				ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
				ASSERT_EQ(PORT_SYNC, vcpu->run->io.port);
			}
			if (fd[H_IOEVENTFD] >= 0 && fd[H_VCPU] >= 0) {
				ASSERT_EQ(8, read(fd[H_IOEVENTFD], &val, 8));
			}
			if (fd[H_IRQFD] >= 0) {
				ASSERT_EQ(8, write(fd[H_IRQFD], &val, 8));
			}
			if (fd[H_VM_STATS] >= 0) {
				ASSERT_EQ(8, pread(fd[H_VM_STATS], &val, 8, 0));
			}
			if (fd[H_VCPU_STATS] >= 0) {
				ASSERT_EQ(8, pread(fd[H_VCPU_STATS], &val, 8, 0));
			}
			if (order[i] == H_RUN)
				munmap(vcpu->run, vm->run_size);
			else
				close(fd[order[i]]);
			fd[order[i]] = -1;
		}
		munmap(vm->low, LOW_SIZE);
		free(vm);
	}
}

TEST(closed_while_running)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	u32 old;

	vcpu_set_long(vcpu, guest_spin);
	vcpu_start(vcpu);
	while (!count)
		usleep(1000);
	close(vm->fd);
	close(vm->dev);
	close(vcpu->fd);
	old = count;
	usleep(20000);
	EXPECT_NE(old, count);
	stop = 1;
	/* The ioctl it is in ends as usual; the next one has no fd any more. */
	vcpu_join(vcpu);
}

static void expect_eio(struct __test_metadata *_metadata, int vm, int vcpu)
{
	struct kvm_regs regs;

	EXPECT_EQ(-EIO, sys_ioctl(vm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IRQCHIP));
	EXPECT_EQ(-EIO, sys_ioctl(vm, KVM_CREATE_VCPU, (void *)1));
	EXPECT_EQ(-EIO, sys_ioctl(vcpu, KVM_GET_REGS, &regs));
	EXPECT_EQ(-EIO, sys_ioctl(vcpu, KVM_RUN, 0));
}

static int child_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

TEST(fork_gets_eio)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	pid_t pid;

	vcpu_set_long(vcpu, guest_sync_loop);
	ASSERT_EQ(0, guest_run_sync(vcpu));
	pid = fork();
	if (!pid) {
		expect_eio(_metadata, vm->fd, vcpu->fd);
		_exit(!_metadata->passed);
	}
	EXPECT_EQ(0, child_status(pid));
	/* And the owner is not disturbed. */
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vm_destroy(vm);
}

static void send_fds(int sock, int a, int b)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} c = { .buf = { 0 } };
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
		.msg_controllen = sizeof(c.buf),
	};
	int fds[2] = { a, b };

	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	c.h.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&c.h), fds, sizeof(fds));
	if (sendmsg(sock, &msg, 0) != 1)
		fail("sendmsg");
}

static void receive_fds(int sock, int *fds)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} c;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
		.msg_controllen = sizeof(c.buf),
	};

	if (recvmsg(sock, &msg, 0) != 1)
		fail("recvmsg");
	memcpy(fds, CMSG_DATA(&c.h), 2 * sizeof(int));
}

/* The fds outlive their maker in another process, which can only close them. */
TEST(fds_passed_to_another_process)
{
	int s[2], fds[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	pid = fork();
	if (!pid) {
		struct vm *vm = vm_create(VM_IRQCHIP);
		struct vcpu *vcpu = vcpu_create(vm);

		vcpu_set_long(vcpu, guest_sync_loop);
		guest_run_sync(vcpu);
		send_fds(s[0], vm->fd, vcpu->fd);
		_exit(0);
	}
	receive_fds(s[1], fds);
	EXPECT_EQ(0, child_status(pid));
	expect_eio(_metadata, fds[0], fds[1]);
	close(fds[0]);
	expect_eio(_metadata, fds[1], fds[1]);
	close(fds[1]);
}

TEST(many_vms_one_after_the_other)
{
	for (u32 i = 0; i < 20 * keel_scale; i++) {
		struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);

		vcpu_set_long(vcpu_create(vm), guest_sync_loop);
		vcpu_create(vm);
		ASSERT_EQ(0, guest_run_sync(&vm->vcpu[0]));
		vm_destroy(vm);
	}
}

TEST(many_vms_at_once)
{
	struct vm *vm[16];

	for (u32 round = 0; round < 3; round++) {
		for (u32 i = 0; i < ARRAY_SIZE(vm); i++) {
			if (!round) {
				vm[i] = vm_create(VM_IRQCHIP);
				vcpu_set_long(vcpu_create(vm[i]), guest_sync_loop);
			}
			ASSERT_EQ(round, guest_run_sync(&vm[i]->vcpu[0]));
		}
	}
	for (u32 i = 0; i < ARRAY_SIZE(vm); i++)
		vm_destroy(vm[i]);
}

static struct vcpu *shared;
static volatile u32 shared_exits;

static void *run_shared(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		int ret = vcpu_run(shared);

		if (ret && ret != -EINTR)
			fail("KVM_RUN: %d", ret);
		if (!ret)
			__atomic_fetch_add(&shared_exits, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* KVM_RUN of one vCPU by two threads: one after the other, and none is lost. */
TEST(one_vcpu_two_threads)
{
	struct vm *vm = vm_create(0);
	pthread_t t[2];

	shared = vcpu_create(vm);
	vcpu_set_long(shared, guest_sync_loop);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&t[i], NULL, run_shared, NULL));
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	EXPECT_EQ(400, shared_exits);
	EXPECT_EQ(400, guest_run_sync(shared));
	vm_destroy(vm);
}

static volatile u32 signals;

static void on_alarm(int sig)
{
	(void)sig;
	signals++;
}

static void guest_mmio_counter(void)
{
	for (u32 i = 0; !stop; i++) {
		mmio_write32(GPA_MMIO, i);
		GUEST_ASSERT_EQ(mmio_read32(GPA_MMIO + 4), i + 1);
	}
	guest_done();
}

/* Interrupted a thousand times a second, no access is lost or done twice. */
TEST(signal_storm)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval it = { { 0, 1000 }, { 0, 1000 } };
	u32 next = 0, val = 0;

	vcpu_set_long(vcpu, guest_mmio_counter);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	for (;;) {
		enum ucall uc = guest_run(vcpu);

		if (uc == UCALL_DONE)
			break;
		ASSERT_EQ(UCALL_NONE, uc);
		ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
		if (vcpu->run->mmio.is_write) {
			memcpy(&val, vcpu->run->mmio.data, 4);
			ASSERT_EQ(next, val);
			next++;
		} else {
			memcpy(vcpu->run->mmio.data, &next, 4);
		}
		if (signals >= 50 * keel_scale)
			stop = 1;
	}
	memset(&it, 0, sizeof(it));
	setitimer(ITIMER_REAL, &it, NULL);
	EXPECT_LT(0, next);
	vm_destroy(vm);
}

static void guest_checks_itself(void)
{
	u64 a = 0x123456789abcdefULL, i = 0;

	guest_spins();
	while (!stop) {
		u64 b = a;

		asm volatile("" : "+r"(b));
		GUEST_ASSERT_EQ(a, b);
		i++;
		count = i;
		GUEST_ASSERT_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x1000);
	}
	guest_done();
}

/* From CPU to CPU while it runs. */
TEST(migrates_between_cpus)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (cpus < 2)
		SKIP(return, "one CPU only");
	vcpu_set_msr(vcpu, MSR_KERNEL_GS_BASE, 0x1000);
	vcpu_set_long(vcpu, guest_checks_itself);
	vcpu_start(vcpu);
	for (u32 i = 0; i < 30 * keel_scale; i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i % cpus, &set);
		pthread_setaffinity_np(vcpu->thread, sizeof(set), &set);
		usleep(3000);
	}
	stop = 1;
	vcpu_join(vcpu);
	EXPECT_LT(0, count);
	vm_destroy(vm);
}

static int module_users(void)
{
	static const char * const names[] = { "kvm_amd", "kvm_intel" };
	char path[64];
	int users = -1;
	FILE *f;

	for (unsigned int i = 0; i < ARRAY_SIZE(names) && users < 0; i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt",
			 dev_is_kvm() ? names[i] : "keel");
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%d", &users) != 1)
			users = -1;
		fclose(f);
	}
	return users;
}

/* So that it cannot be unloaded under a VM. */
TEST(module_is_held)
{
	int before = module_users();
	struct vm *vm;
	struct vcpu *vcpu;

	if (before < 0)
		SKIP(return, "built in");
	vm = vm_create(VM_IRQCHIP);
	EXPECT_LT(before, module_users());
	vcpu = vcpu_create(vm);
	close(vm->dev);
	close(vm->fd);
	EXPECT_LT(before, module_users());
	vcpu_close(vcpu);
	EXPECT_EQ(before, module_users());
}
