/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A virtual machine: its file descriptors, memory, processors
 * and devices.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <linux/kvm.h>

#include "boot.h"
#include "bus.h"
#include "console.h"
#include "control.h"
#include "cpuid.h"
#include "devices.h"
#include "i8042.h"
#include "keel.h"
#include "pci.h"
#include "pm.h"
#include "rtc.h"
#include "serial.h"
#include "snapshot.h"

enum end_reason {
	END_NONE,
	END_POWEROFF,
	END_REBOOT,
	END_TRIPLE_FAULT,
	END_TIMEOUT,
	END_QUIT,
	END_SIGNAL,
	END_ERROR,
	END_EXIT,
};

#define EXIT_REASONS 64		/* KVM_EXIT_* numbers counted one by one */

struct vcpu {
	struct machine *machine;
	unsigned int id;
	int fd;
	int stats_fd;		/* binary statistics; -1: none */
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	atomic_bool finished;
	atomic_bool stop;		/* it shall park */
	atomic_bool parked;		/* pause.c */
	atomic_bool debugged;		/* it has hit what gdb waits for */
	u64 exits[EXIT_REASONS];	/* owner thread; read after joining */
	u64 interrupted;
};

struct machine {
	const struct run_config *cfg;
	int dev_fd;
	int vm_fd;
	int rtc_fd;		/* timerfd: ticks while the guest wants it */
	int wake_fd;		/* eventfd: makes the main thread look around */
	size_t run_size;
	struct guest_ram ram;
	struct boot_state boot;
	struct cpuid_table cpuid;
	bool tsc_deadline;

	struct vcpu *vcpus;
	unsigned int vcpu_count;
	bool paused;			/* main thread */
	struct kvm_clock_data clock;	/* while paused */
	struct control control;
	struct snapshot_part parts[SNAPSHOT_PARTS];
	unsigned int part_count;

	struct bus pio;
	struct bus mmio;
	struct serial serial;
	struct console console;
	struct rtc rtc;
	struct i8042 i8042;
	struct pci pci;
	struct virtio_host virtio;
	struct kvm_irq_routing *routes;	/* irq.c; pci.lock */
	struct pm pm;

	atomic_int end;		/* enum end_reason; the first one counts */
	int signal;		/* with END_SIGNAL; main thread */
	atomic_int exit_status;	/* with END_EXIT */
	struct err failure;	/* with END_ERROR; written by who set it */
};

int machine_create(struct machine *m, const struct run_config *cfg,
		   struct err *err);
int machine_run(struct machine *m, struct err *err);
struct json_object *stats_json(struct machine *m);
void machine_destroy(struct machine *m);

/* Any thread. */
void machine_end(struct machine *m, enum end_reason why);
void machine_wake(void *machine);
void machine_fail(struct machine *m, const struct err *err);

static inline bool machine_ended(struct machine *m)
{
	return atomic_load(&m->end) != END_NONE;
}

/* An ioctl whose failure names device and call. */
int machine_ioctl(struct machine *m, int fd, unsigned long request,
		  const char *name, unsigned long arg, struct err *err);
#define M_IOCTL(m, fd, request, arg, err) \
	machine_ioctl(m, fd, request, #request, (unsigned long)(arg), err)

/* irq.c */
extern const struct pci_host_ops irq_host_ops;

/* vcpu.c */
int vcpu_create(struct machine *m, unsigned int id, struct err *err);
int vcpu_start(struct vcpu *v, struct err *err);
void vcpu_destroy(struct vcpu *v);
void vcpu_kick(struct vcpu *v);
void vcpu_print_registers(struct vcpu *v);

/* gdb.c */
int gdb_open(const char *where, struct err *err);
void gdb_close(void);
void gdb_debug_exit(struct vcpu *v);
void gdb_poll(struct pollfd *fd);
void gdb_events(struct machine *m, const struct pollfd *fd);

/* pause.c */
void vcpu_park(struct vcpu *v);
void vcpu_unpark(struct vcpu *v);
void vcpu_finish(struct vcpu *v);
int vcpu_stop_all(struct machine *m, struct err *err);
int machine_pause(struct machine *m, struct err *err);
int machine_resume(struct machine *m, struct err *err);

/* cpu-state.c */
int cpu_set_initial_state(struct vcpu *v, struct err *err);

/* stats.c */
const char *exit_name(u32 reason);
void stats_print(struct machine *m);

#endif
