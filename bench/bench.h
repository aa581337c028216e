/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an operation is, for those who add one: see docs/performance.md.
 *
 * A batch is b->n operations between two readings of the TSC, in the guest or in
 * the host. The first batches warm up; of the others the median counts, so that
 * the host's timer, which hits some of them, does not.
 */
#ifndef BENCH_H
#define BENCH_H

#include "guest.h"
#include "vm.h"

struct bench_op;

/*
 * What there is beside the operation: to see whether its cost grows with what
 * takes no part in it. Set on the command line; 0: not set.
 */
struct surroundings {
	u64 memory;		/* bytes of the slot that is worked on, and of one beside it */
	u32 dirty;		/* pages of it that are written in a batch, and of that beside */
	u32 slots;		/* more in the VM, of one page each */
	u32 vcpus;		/* in the VM; the others have run once */
	u32 vms;		/* the others, in a process of their own, have run once */
};

extern struct surroundings around;

/* One operation being measured. */
struct bench {
	const struct bench_op *op;
	u32 n;			/* operations in a batch */
	struct vm *vm;		/* where the operation has one */
	struct vcpu *vcpu;
	u64 ticks;		/* of the last batch, the loop's own not taken out */
	const char *skip;	/* set by setup(): why it cannot be measured here */
	int fd;			/* an operation's own */
	void *mem;
	u64 size;		/* of mem */
	struct vcpu *other;
};

/* A batch's loop, in the guest or in the host, without the operation. */
enum bench_loop { LOOP_GUEST, LOOP_HOST, LOOP_NONE };

/* Beyond the library's memory, and mapped in 1G pages. */
#define GPA_BIG		(4UL << 30)	/* the slot that an operation works on */
#define GPA_SLOT	(128UL << 30)	/* one that comes and goes */
#define GPA_BESIDE	(256UL << 30)	/* one beside */
#define GPA_SLOTS	(384UL << 30)	/* many of a page each, up to 512 GiB */

#define SLOT_MORE	(SLOT_USER + 1)	/* at GPA_SLOT */
#define SLOT_BESIDE	(SLOT_USER + 2)
#define SLOT_MANY	100		/* the first of many */

struct bench_op {
	const char *name;	/* as on the command line */
	const char *title;	/* as in the table */
	/*
	 * in: an exit handled in the kernel; user: through userspace; floor: no
	 * hypervisor; more: something else
	 */
	const char *kind;
	u32 n;			/* operations in a batch; 0: setup() says */
	unsigned int vm_flags;	/* VM_..., for the VM that is there before setup() */
	bool no_vm;
	u32 exits;		/* at most so many an operation, at least one; 0: not looked at */
	enum bench_loop loop;
	void (*guest)(void);	/* what the vCPU runs, see guest_batches() */
	void (*setup)(struct bench *b);
	void (*before)(struct bench *b);	/* each batch, untimed */
	void (*batch)(struct bench *b);	/* default: run the guest to guest_sync() */
	void (*check)(struct bench *b);	/* after each batch: fail() if not done */
	void (*cleanup)(struct bench *b);
};

/* Shared with the guest, which is this very program. */
extern volatile u32 guest_n;
extern volatile u64 guest_ticks;
extern volatile u64 guest_value;	/* the operation's last result */

/*
 * A guest's batches, for ever: @once is done first, @op is what is measured. One
 * loop of the same two instructions for all of them.
 */
#define GUEST_BATCHES(once, op)						\
do {									\
	once;								\
	for (;;) {							\
		u64 __start;						\
		u32 __n;						\
									\
		guest_sync(0);						\
		__n = guest_n;						\
		__start = rdtsc();					\
		do {							\
			op;						\
			asm volatile("" : : : "memory");		\
		} while (--__n);					\
		guest_ticks = rdtsc() - __start;			\
	}								\
} while (0)

#define HOST_BATCH(b, op)						\
do {									\
	u64 __start = rdtsc();						\
	u32 __n = (b)->n;						\
									\
	do {								\
		op;							\
		asm volatile("" : : : "memory");			\
	} while (--__n);						\
	(b)->ticks = rdtsc() - __start;					\
} while (0)

void batch_guest(struct bench *b);

int by_value(const void *a, const void *b);	/* for qsort() of u64 */
void map_high(struct vm *vm);
void add_vcpu(struct vm *vm);	/* one more, that has run */

/* What surrounds an operation. */
void add_slots(struct vm *vm);
void add_memory_beside(struct bench *b);
void remove_memory_beside(void);

/* main.c: a line of results, with @prefix before it. */
void measure_and_print(const struct bench_op *op, const char *prefix);
const struct bench_op *find_op(const char *name);

bool measure_growth(const char *axis);
void measure_parallel(void);
void measure_boot(int argc, char **argv, const char *want);

extern const struct bench_op exit_ops[], call_ops[], irq_ops[], memory_ops[], footprint_ops[];

#endif
