// SPDX-License-Identifier: GPL-2.0-only
/*
 * One thread per virtual processor, and its exit loop.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "jail.h"
#include "machine.h"

#define KICK_SIGNAL SIGRTMIN

static __thread struct vcpu *current;

/*
 * Makes KVM_RUN return, also if it has not been called yet: that is what
 * immediate_exit is for.
 */
static void on_kick(int sig)
{
	if (current)
		current->run->immediate_exit = 1;
}

/** vcpu_kick() - make a started vCPU leave KVM_RUN */
void vcpu_kick(struct vcpu *v)
{
	pthread_kill(v->thread, KICK_SIGNAL);
}

/** vcpu_create() - create a vCPU and its initial state */
int vcpu_create(struct machine *m, unsigned int id, struct err *err)
{
	struct vcpu *v = &m->vcpus[id];
	void *run;

	v->machine = m;
	v->id = id;
	v->fd = M_IOCTL(m, m->vm_fd, KVM_CREATE_VCPU, id, err);
	if (v->fd < 0)
		return -1;
	/* Now: while it runs, other ioctls wait. A hypervisor may have none. */
	v->stats_fd = ioctl(v->fd, KVM_GET_STATS_FD, NULL);
	run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return err_sys(err, "%s: cannot map the run page of vCPU %u",
			       m->cfg->device, id);
	v->run = run;
	return cpu_set_initial_state(v, err);
}

/**
 * vcpu_destroy() - close a vCPU that does not run
 * @v: the vCPU; harmless if it was never created
 */
void vcpu_destroy(struct vcpu *v)
{
	if (v->run)
		munmap(v->run, v->machine->run_size);
	if (v->fd >= 0)
		close(v->fd);
	if (v->stats_fd >= 0)
		close(v->stats_fd);
	v->run = NULL;
	v->fd = -1;
	v->stats_fd = -1;
}

/** vcpu_print_registers() - to standard error, of a vCPU that does not run */
void vcpu_print_registers(struct vcpu *v)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	if (ioctl(v->fd, KVM_GET_REGS, &r) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return;
	fprintf(stderr,
		"vCPU %u: rip=%llx cs=%x:%llx rflags=%llx cr0=%llx cr2=%llx cr3=%llx cr4=%llx efer=%llx rax=%llx rbx=%llx rcx=%llx rdx=%llx rsi=%llx rdi=%llx rsp=%llx rbp=%llx r8=%llx r9=%llx r10=%llx r11=%llx r12=%llx r13=%llx r14=%llx r15=%llx\n",
		v->id, r.rip, s.cs.selector, s.cs.base, r.rflags, s.cr0, s.cr2, s.cr3, s.cr4,
		s.efer, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9,
		r.r10, r.r11, r.r12, r.r13, r.r14, r.r15);
}

static int vcpu_fail(struct vcpu *v, const char *fmt, ...) __printf(2, 3);

/* End the machine because of something this vCPU cannot go on from. */
static int vcpu_fail(struct vcpu *v, const char *fmt, ...)
{
	struct err what, err;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&what, fmt, ap);
	va_end(ap);
	err_set(&err, "vCPU %u: %s", v->id, what.text);
	machine_fail(v->machine, &err);
	return -1;
}

static int handle_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 bytes = (u64)run->io.size * run->io.count;
	u8 *data = (u8 *)run + run->io.data_offset;
	bool write = run->io.direction == KVM_EXIT_IO_OUT;
	u32 i;

	/* Not even the hypervisor is believed about where memory is. */
	if (run->io.data_offset > v->machine->run_size ||
	    bytes > v->machine->run_size - run->io.data_offset)
		return vcpu_fail(v, "KVM_EXIT_IO with data outside of the run page");
	for (i = 0; i < run->io.count; i++)
		bus_access(&v->machine->pio, run->io.port,
			   data + (size_t)i * run->io.size, run->io.size, write);
	return 0;
}

static int fail_internal_error(struct vcpu *v)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "cannot emulate an instruction",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "exit during event delivery",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unexpected exit",
	};
	struct kvm_run *run = v->run;
	u32 sub = run->internal.suberror, i, n;
	const char *name = sub < ARRAY_SIZE(names) ? names[sub] : NULL;
	struct kvm_regs regs = { 0 };
	char extra[128] = "";
	int at = 0;

	ioctl(v->fd, KVM_GET_REGS, &regs);
	if (sub == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.ndata >= 3 &&
	    (run->emulation_failure.flags &
	     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		n = run->emulation_failure.insn_size;
		at = snprintf(extra, sizeof(extra), ", instruction bytes");
		for (i = 0; i < n && i < 15; i++)
			at += snprintf(extra + at, sizeof(extra) - at, " %02x",
				       run->emulation_failure.insn_bytes[i]);
	} else {
		n = run->internal.ndata;
		for (i = 0; i < n && i < 4; i++)
			at += snprintf(extra + at, sizeof(extra) - at, "%s%#llx",
				       i ? " " : ", data ", run->internal.data[i]);
	}
	return vcpu_fail(v, "KVM_EXIT_INTERNAL_ERROR %u (%s) at rip %#llx%s", sub,
			 name ? name : "unknown", regs.rip, extra);
}

/* Return: 0 to run on (if the machine has not ended), -1 to stop. */
static int handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	u32 reason = run->exit_reason;

	v->exits[reason < EXIT_REASONS ? reason : EXIT_REASONS - 1]++;
	switch (reason) {
	case KVM_EXIT_IO:
		return handle_io(v);
	case KVM_EXIT_MMIO:
		bus_access(&v->machine->mmio, run->mmio.phys_addr,
			   run->mmio.data, run->mmio.len, run->mmio.is_write);
		return 0;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return 0;
	case KVM_EXIT_DEBUG:
		gdb_debug_exit(v);
		return 0;
	case KVM_EXIT_SHUTDOWN:
		machine_end(v->machine, END_TRIPLE_FAULT);
		return -1;
	case KVM_EXIT_INTERNAL_ERROR:
		return fail_internal_error(v);
	case KVM_EXIT_FAIL_ENTRY:
		return vcpu_fail(v, "KVM_EXIT_FAIL_ENTRY: the CPU refuses the guest's state, hardware reason %#llx",
				 run->fail_entry.hardware_entry_failure_reason);
	default:
		return vcpu_fail(v, "unexpected exit %u (%s)", reason, exit_name(reason));
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	sigset_t kick;

	current = v;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	jail_thread(JAIL_VCPU);

	for (;;) {
		/*
		 * A kick before this line is seen by the tests below, one
		 * after it by KVM_RUN.
		 */
		v->run->immediate_exit = 0;
		if (machine_ended(v->machine))
			break;
		if (atomic_load(&v->stop))
			v->run->immediate_exit = 1;
		if (!ioctl(v->fd, KVM_RUN, 0)) {
			if (handle_exit(v) < 0)
				break;
			continue;
		}
		if (errno == EINTR || errno == EAGAIN) {
			v->interrupted++;
			if (atomic_load(&v->stop))
				vcpu_park(v);
			continue;
		}
		vcpu_fail(v, "%s: KVM_RUN: %s", v->machine->cfg->device, strerror(errno));
		break;
	}
	vcpu_finish(v);
	return NULL;
}

/** vcpu_start() - start the thread of a vCPU */
int vcpu_start(struct vcpu *v, struct err *err)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_kick;	/* without SA_RESTART */
	sigaction(KICK_SIGNAL, &sa, NULL);
	errno = pthread_create(&v->thread, NULL, vcpu_thread, v);
	if (errno)
		return err_sys(err, "cannot start a thread for vCPU %u", v->id);
	v->started = true;
	return 0;
}
