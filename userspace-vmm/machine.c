// SPDX-License-Identifier: GPL-2.0-only
/*
 * Put a virtual machine together, wait for its end, take it
 * apart again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "daemon.h"
#include "display.h"
#include "jail.h"
#include "machine.h"
#include "rootfs.h"

#define COM1_PORT 0x3f8
#define COM1_IRQ 4

/* Outside of RAM, and not where a device is; see KVM_SET_TSS_ADDR. */
#define IDENTITY_MAP_ADDRESS 0xfffbc000ULL
#define TSS_ADDRESS 0xfffbd000UL

int machine_ioctl(struct machine *m, int fd, unsigned long request,
		  const char *name, unsigned long arg, struct err *err)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		err_sys(err, "%s: %s", m->cfg->device, name);
	return ret;
}

/** machine_wake() - make the main thread look around */
void machine_wake(void *machine)
{
	eventfd_write(((struct machine *)machine)->wake_fd, 1);
}

/**
 * machine_end() - the machine is over
 * @why: the first reason given is the one that counts
 */
void machine_end(struct machine *m, enum end_reason why)
{
	int none = END_NONE;

	atomic_compare_exchange_strong(&m->end, &none, why);
	machine_wake(m);
}

/**
 * machine_fail() - the machine cannot go on
 * @err: what happened
 */
void machine_fail(struct machine *m, const struct err *err)
{
	int none = END_NONE;

	if (atomic_compare_exchange_strong(&m->end, &none, END_ERROR))
		m->failure = *err;	/* read after the threads are joined */
	machine_wake(m);
}

static void guest_power_off(void *opaque)
{
	machine_end(opaque, END_POWEROFF);
}

static void guest_reset(void *opaque)
{
	machine_end(opaque, END_REBOOT);
}

/* The guest's first program tells how the command ended (commands/guest-init.c). */
static void exit_access(void *dev, struct bus_access *access)
{
	struct machine *m = dev;

	if (!access->write)
		return;
	atomic_store(&m->exit_status, access->value);
	machine_end(m, END_EXIT);
}

static void set_irq(void *opaque, unsigned int gsi, bool level)
{
	struct machine *m = opaque;
	struct kvm_irq_level line = { .irq = gsi, .level = level };
	struct err err;

	if (M_IOCTL(m, m->vm_fd, KVM_IRQ_LINE, &line, &err) < 0)
		machine_fail(m, &err);
}

/* At every full second of the host's clock, which is the guest's plus some. */
static void arm_rtc(void *opaque, bool on)
{
	struct machine *m = opaque;
	struct itimerspec when = { 0 };

	if (on) {
		when.it_value.tv_sec = time(NULL) + 1;
		when.it_interval.tv_sec = 1;
	}
	timerfd_settime(m->rtc_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int capability(int fd, u32 cap)
{
	int value = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return value < 0 ? 0 : value;
}

static int check_capabilities(struct machine *m, struct err *err)
{
	static const struct {
		u32 cap;
		const char *name;
	} needed[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	};
	int max;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		if (!capability(m->dev_fd, needed[i].cap))
			return err_set(err, "%s: %s is missing, keel run needs it",
				       m->cfg->device, needed[i].name);
	}
	max = capability(m->dev_fd, KVM_CAP_MAX_VCPUS);
	if (m->cfg->cpus > (unsigned int)max)
		return err_set(err, "%s: --cpus %u is too many, at most %d",
			       m->cfg->device, m->cfg->cpus, max);
	m->tsc_deadline = capability(m->dev_fd, KVM_CAP_TSC_DEADLINE_TIMER);
	return 0;
}

static int read_cpuid(struct machine *m, struct err *err)
{
	u64 top = m->ram.size > m->ram.low ?
		  RAM_HOLE_END + m->ram.size - m->ram.low : RAM_HOLE_END;
	unsigned int bits;

	m->cpuid.head.nent = CPUID_MAX_ENTRIES;
	if (M_IOCTL(m, m->dev_fd, KVM_GET_SUPPORTED_CPUID, &m->cpuid, err) < 0)
		return -1;
	if (m->cpuid.head.nent > CPUID_MAX_ENTRIES)
		return err_set(err, "%s: KVM_GET_SUPPORTED_CPUID gives too many entries",
			       m->cfg->device);
	bits = cpuid_phys_bits(&m->cpuid);
	if (bits < 64 && top > 1ULL << bits)
		return err_set(err, "--mem %llu MiB is more than this CPU can address (%u bits)",
			       m->cfg->mem / MIB, bits);
	return 0;
}

static int create_vm(struct machine *m, struct err *err)
{
	int size;

	m->vm_fd = M_IOCTL(m, m->dev_fd, KVM_CREATE_VM, 0, err);
	if (m->vm_fd < 0) {
		if (errno == EBUSY)
			err_set(err, "%s: KVM_CREATE_VM: another hypervisor holds the CPU's virtualization extension; see keel doctor",
				m->cfg->device);
		return -1;
	}
	size = M_IOCTL(m, m->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0, err);
	if (size < 0)
		return -1;
	if ((size_t)size < sizeof(struct kvm_run))
		return err_set(err, "%s: KVM_GET_VCPU_MMAP_SIZE gives only %d bytes",
			       m->cfg->device, size);
	m->run_size = size;
	return 0;
}

/* Interrupt controllers first: KVM wants them before the first vCPU. */
static int create_platform(struct machine *m, struct err *err)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	u64 identity = IDENTITY_MAP_ADDRESS;

	if (capability(m->vm_fd, KVM_CAP_SET_IDENTITY_MAP_ADDR) &&
	    M_IOCTL(m, m->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity, err) < 0)
		return -1;
	if (capability(m->vm_fd, KVM_CAP_SET_TSS_ADDR) &&
	    M_IOCTL(m, m->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS, err) < 0)
		return -1;
	if (M_IOCTL(m, m->vm_fd, KVM_CREATE_IRQCHIP, 0, err) < 0)
		return -1;
	return M_IOCTL(m, m->vm_fd, KVM_CREATE_PIT2, &pit, err);
}

static int set_memory(struct machine *m, struct err *err)
{
	struct kvm_userspace_memory_region slot = {
		.slot = 0,
		.guest_phys_addr = 0,
		.memory_size = m->ram.low,
		.userspace_addr = (uintptr_t)m->ram.host,
	};

	if (M_IOCTL(m, m->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, err) < 0)
		return -1;
	if (m->ram.size == m->ram.low)
		return 0;
	slot.slot = 1;
	slot.guest_phys_addr = RAM_HOLE_END;
	slot.memory_size = m->ram.size - m->ram.low;
	slot.userspace_addr += m->ram.low;
	return M_IOCTL(m, m->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, err);
}

static int load_serial(void *dev)
{
	struct serial *s = dev;

	s->want_rx = false;
	return s->rx_head < SERIAL_RX_FIFO && s->rx_count <= SERIAL_RX_FIFO &&
	       s->tx_head < SERIAL_TX_RING && s->tx_count <= SERIAL_TX_RING ? 0 : -1;
}

static int load_rtc(void *dev)
{
	struct rtc *rtc = dev;

	arm_rtc(rtc->opaque, rtc->armed);
	return rtc->index < sizeof(rtc->cmos) ? 0 : -1;
}

static void save_pm(void *dev)
{
	struct pm *pm = dev;

	pm->saved_ns = pm->now_ns() + pm->skew_ns;
}

static int load_pm(void *dev)
{
	struct pm *pm = dev;

	pm->skew_ns = pm->saved_ns - pm->now_ns();
	return 0;
}

#define SPAN(type, from, to) (offsetof(type, to) - offsetof(type, from))

static void add_snapshot_parts(struct machine *m)
{
	struct virtio_device *dev;
	struct bochs *b;

	snapshot_add(m, "serial", &m->serial.ier, SPAN(struct serial, ier, irq), &m->serial,
		     NULL, load_serial);
	snapshot_add(m, "rtc", &m->rtc.index, SPAN(struct rtc, index, irq), &m->rtc,
		     NULL, load_rtc);
	snapshot_add(m, "pm", &m->pm.status, SPAN(struct pm, status, sci), &m->pm,
		     save_pm, load_pm);
	snapshot_add(m, "pci", &m->pci.address, sizeof(m->pci.address), &m->pci, NULL, NULL);
	for (dev = m->virtio.first; dev; dev = dev->next)
		snapshot_add(m, dev->ops->name, &dev->saved, sizeof(dev->saved), dev,
			     virtio_save, virtio_load);
	if (!m->virtio.display)
		return;
	b = &m->virtio.display->bochs;
	snapshot_add(m, "framebuffer", b->memory, VIDEO_MEMORY, b, NULL, NULL);
	snapshot_add(m, "display", &b->saved, sizeof(b->saved), b, bochs_save, bochs_load);
}

static void add_devices(struct machine *m)
{
	struct irq_line com1 = { set_irq, m, COM1_IRQ };
	struct irq_line sci = { set_irq, m, PM_SCI_IRQ };
	struct irq_line rtc = { set_irq, m, RTC_IRQ };
	struct bus *pio = &m->pio;

	serial_init(&m->serial, com1, machine_wake, m);
	rtc_init(&m->rtc, rtc, arm_rtc, m, NULL);
	pci_init(&m->pci, guest_reset, &irq_host_ops, m);
	pm_init(&m->pm, sci, guest_power_off, m, NULL);
	m->i8042.reset = guest_reset;
	m->i8042.opaque = m;

	bus_add(pio, "serial", COM1_PORT, 8, true, serial_access, &m->serial);
	bus_add(pio, "rtc", RTC_PORT, RTC_PORT_COUNT, true, rtc_access, &m->rtc);
	bus_add(pio, "i8042", I8042_PORT, I8042_PORT_COUNT, true, i8042_access, &m->i8042);
	bus_add(pio, "pm", PM_BASE, PM_SIZE, false, pm_access, &m->pm);
	bus_add(pio, "pci", PCI_PORTS, PCI_PORTS_SIZE, false, pci_access,
		&m->pci);
	if (m->cfg->rootfs)
		bus_add(pio, "exit", EXIT_PORT, 1, true, exit_access, m);
	bus_add(&m->mmio, "pci", PCI_WINDOW, PCI_WINDOW_SIZE, false,
		pci_mmio_access, &m->pci);
}

/**
 * machine_create() - everything up to the point where vCPUs could run
 * @m: filled; call machine_destroy() also after a failure
 * @cfg: what the user wants; must outlive the machine
 *
 * Files are looked at before the device is opened, so that a wrong name is
 * reported as that wherever one is.
 */
int machine_create(struct machine *m, const struct run_config *cfg,
		   struct err *err)
{
	unsigned int i;
	bool share;

	memset(m, 0, sizeof(*m));
	m->cfg = cfg;
	m->dev_fd = -1;
	m->vm_fd = -1;
	m->rtc_fd = -1;
	m->control.fd = -1;
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake_fd < 0)
		return err_sys(err, "cannot create an eventfd");
	m->rtc_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (m->rtc_fd < 0)
		return err_sys(err, "cannot create a timer");
	if (devices_share_memory(cfg, &share, err) < 0 ||
	    ram_alloc(&m->ram, cfg->mem, err) < 0 ||
	    (share && ram_share(&m->ram, err) < 0) ||
	    (!cfg->restore && boot_load(cfg, &m->ram, &m->boot, err) < 0))
		return -1;
	m->dev_fd = device_open(cfg->device, err);
	if (m->dev_fd < 0 || check_capabilities(m, err) < 0 ||
	    read_cpuid(m, err) < 0 || (cfg->restore && snapshot_cpuid(m, err) < 0) ||
	    create_vm(m, err) < 0 ||
	    create_platform(m, err) < 0 || set_memory(m, err) < 0)
		return -1;
	add_devices(m);
	if (control_open(m, err) < 0)
		return -1;
	m->virtio.machine = m->control.name;
	m->virtio.socket = m->control.path;
	m->virtio.pci = &m->pci;
	m->virtio.ram = &m->ram;
	m->virtio.wake_fd = m->wake_fd;
	if (devices_create(&m->virtio, cfg, err) < 0)
		return -1;
	add_snapshot_parts(m);

	m->vcpus = calloc(cfg->cpus, sizeof(*m->vcpus));
	if (!m->vcpus)
		return err_sys(err, "cannot allocate %u vCPUs", cfg->cpus);
	m->vcpu_count = cfg->cpus;
	for (i = 0; i < m->vcpu_count; i++) {
		m->vcpus[i].fd = -1;
		m->vcpus[i].stats_fd = -1;
	}
	for (i = 0; i < m->vcpu_count; i++) {
		if (vcpu_create(m, i, err) < 0)
			return -1;
	}
	return cfg->restore ? snapshot_load(m, err) : 0;
}

static int open_signals(struct err *err)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT,
				       SIGTSTP, SIGCONT };
	struct sigaction old;
	sigset_t set;
	size_t i;
	int fd;

	/*
	 * What was ignored when we were started, as nohup does with SIGHUP,
	 * stays so: once blocked it would be queued all the same.
	 */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);	/* --timeout */
	sigaddset(&set, SIGCHLD);	/* helpers */
	for (i = 0; i < ARRAY_SIZE(signals); i++) {
		if (!sigaction(signals[i], NULL, &old) &&
		    old.sa_handler != SIG_IGN)
			sigaddset(&set, signals[i]);
	}
	/* Blocked here, before any thread exists: the threads inherit it. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_sys(err, "cannot create a signalfd");
	return fd;
}

/* Of helpers; the guest learns of it from its device. */
static void tell_ended(struct machine *m)
{
	struct err err;

	while (daemon_ended(&err)) {
		fail(0, "%s", err.text);
		control_helper_ended(&m->control, err.text);
	}
}

static void take_signal(struct machine *m, int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			break;	/* that we look around is enough */
		case SIGTSTP:
			term_suspend();
			raise(SIGSTOP);
			term_resume();
			break;
		case SIGCONT:
			term_resume();
			break;
		case SIGALRM:
			machine_end(m, END_TIMEOUT);
			break;
		default:
			if (!machine_ended(m))
				m->signal = info.ssi_signo;
			machine_end(m, END_SIGNAL);
			break;
		}
	}
}

static void serve_console(struct machine *m, const struct pollfd fds[2])
{
	switch (console_events(&m->console, fds)) {
	case CONSOLE_QUIT:
		machine_end(m, END_QUIT);
		break;
	case CONSOLE_POWER_BUTTON:
		pm_press_power_button(&m->pm);
		break;
	case CONSOLE_BREAK:
		serial_rx_break(&m->serial);
		break;
	case CONSOLE_NOTHING:
		break;
	}
	if (m->console.failed)
		machine_fail(m, &m->console.err);
}

static int wait_for_end(struct machine *m, int signal_fd, struct err *err)
{
	struct pollfd fds[5 + CONTROL_FDS + 1] = {
		{ .fd = m->wake_fd, .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
		{ .fd = m->rtc_fd, .events = POLLIN },
	};
	eventfd_t count;

	while (!machine_ended(m)) {
		tell_ended(m);
		console_poll(&m->console, &fds[3]);
		control_poll(m, &fds[5]);
		gdb_poll(&fds[5 + CONTROL_FDS]);
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return err_sys(err, "poll");
		}
		if (fds[0].revents) {
			eventfd_read(m->wake_fd, &count);
			console_gather(&m->console);
		}
		if (fds[1].revents)
			take_signal(m, signal_fd);
		if (fds[2].revents && read(m->rtc_fd, &count, sizeof(count)) > 0)
			rtc_tick(&m->rtc);
		serve_console(m, &fds[3]);
		control_events(m, &fds[5]);
		gdb_events(m, &fds[5 + CONTROL_FDS]);
	}
	return 0;
}

/* Where no large page fits in, the first touch of a stack does not make 2 MiB resident. */
static void keep_stacks_small(void)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, MIB);
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

static int run_threads(struct machine *m, int signal_fd, struct err *err)
{
	struct err stop_err;
	unsigned int i;
	int ret;

	keep_stacks_small();
	ret = jail_enter(err);
	if (!ret)
		ret = virtio_serve_all(&m->virtio, err);
	/* With --gdb it starts stopped; one that was restored otherwise goes on. */
	if (!ret)
		ret = m->cfg->gdb ? machine_pause(m, err) : machine_resume(m, err);
	for (i = 0; i < m->vcpu_count && !ret; i++)
		ret = vcpu_start(&m->vcpus[i], err);
	if (!ret) {
		jail_thread(JAIL_MAIN);
		ret = wait_for_end(m, signal_fd, err);
	}
	if (ret)
		machine_fail(m, err);
	if (vcpu_stop_all(m, &stop_err) < 0) {
		/* Freeing what such a thread still uses would be worse. */
		console_close(&m->console);
		if (atomic_load(&m->end) == END_ERROR)
			fail(0, "%s", m->failure.text);
		_exit(fail(EXIT_FAIL, "%s", stop_err.text));
	}
	return ret;
}

/**
 * machine_run() - run until the machine ends
 * @m: a created machine
 *
 * Return: 0 with the reason in @m->end; -1 on failure. In both cases no vCPU
 * thread is left and the terminal is as it was.
 */
int machine_run(struct machine *m, struct err *err)
{
	time_t seconds = m->cfg->timeout;
	const struct itimerval when = {
		.it_value = { seconds, (m->cfg->timeout - seconds) * 1e6 },
	};
	int signal_fd, ret;

	signal_fd = open_signals(err);
	if (signal_fd < 0)
		return -1;
	setitimer(ITIMER_REAL, &when, NULL);	/* 0 is never */
	if (m->cfg->gdb && gdb_open(m->cfg->gdb, err) < 0) {
		close(signal_fd);
		return -1;
	}
	ret = console_open(&m->console, m->cfg, &m->serial, err);
	m->console.tap = control_console_output;
	m->console.tap_opaque = &m->control;
	if (!ret)
		ret = run_threads(m, signal_fd, err);
	console_close(&m->console);
	if (!ret && atomic_load(&m->end) == END_ERROR) {
		*err = m->failure;
		ret = -1;
	} else if (!ret && m->console.failed) {
		*err = m->console.err;	/* with what was left at the end */
		ret = -1;
	}
	close(signal_fd);
	return ret;
}

/**
 * machine_destroy() - give everything back
 * @m: the machine, however far machine_create() came
 */
void machine_destroy(struct machine *m)
{
	unsigned int i;

	for (i = 0; i < m->vcpu_count; i++)
		vcpu_destroy(&m->vcpus[i]);
	display_destroy(m->virtio.display);
	virtio_remove_all(&m->virtio);
	free(m->vcpus);
	control_close(&m->control);
	gdb_close();
	close(m->vm_fd);	/* -1 is harmless */
	close(m->dev_fd);
	close(m->wake_fd);
	close(m->rtc_fd);
	free(m->routes);
	ram_free(&m->ram);
}
