/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest for the emulator: a little memory, a device in the middle of it that
 * only "userspace" can complete, ports, and one page that is not there. The
 * KUnit suite has the same one.
 */
#ifndef KEEL_INSN_GUEST_H
#define KEEL_INSN_GUEST_H

#include <asm/kvm.h>
#include <asm/processor-flags.h>

#include "../insn.h"

#define RAM_SIZE	0x10000ull
#define CODE		0x1000ull
#define DATA		0x3000ull
#define STACK		0x8000ull
#define READ_ONLY	0x9000ull	/* one page */
#define DEVICE		0xa000ull	/* one page of MMIO */
#define ABSENT		0xb000ull	/* one page */
#define HOLE		(ABSENT + 0x1000)	/* RAM again */
#define TOP		0xfffff000ull	/* one page, the last below 4 GiB */

/* One access that userspace has completed, or has to. */
struct access {
	u64 addr;
	u8 size;
	bool write;
	bool port;
	u8 data[16];
};

struct guest {
	struct insn_cpu cpu;
	struct insn insn;
	struct insn_fault fault;
	u8 ram[RAM_SIZE];
	u8 top[0x1000];
	u8 xmm[16][16];
	u64 cr[9], dr[8];
	u64 invalidated;

	/* The callee's record of what insn_execute() has done so far. */
	struct access log[8];
	unsigned int logged, replayed;
	struct access pending;

	/* The device: contents, and how often each side was used. */
	u8 device[0x1000];
	u64 port_value;
	unsigned int device_reads, device_writes, port_reads, port_writes;
	unsigned int commits, exits;

	bool steal;	/* another CPU changes memory before a cmpxchg */
	bool no_page_0;
	bool sync;	/* the device answers at once */
};

void guest_init(struct guest *g, enum insn_mode mode);
/* Puts code where RIP is. Return: how many bytes it is. */
unsigned int guest_code(struct guest *g, const char *hex);
/* One call of insn_execute(). */
int guest_step(struct guest *g);
/* Plays userspace until the call ends in something other than INSN_EXIT. */
int guest_run(struct guest *g);
extern const struct insn_ops guest_ops;

#endif /* KEEL_INSN_GUEST_H */
