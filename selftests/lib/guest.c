// SPDX-License-Identifier: GPL-2.0-only
/* Traps of the guest. All but guest_make_idt() runs in the guest. */

#include "guest.h"

#define GUEST_MAGIC	0x6b65656c	/* TRY_MAGIC */

volatile struct guest_report guest_report;
guest_handler guest_handlers[256];

extern const char guest_trap_stubs[];	/* 256 of 16 bytes, guest_asm.S */
void guest_trap_c(struct guest_trap *trap);

void guest_abort(const char *file, int line, const char *what, u64 a, u64 b)
{
	guest_report.file = file;
	guest_report.line = line;
	guest_report.what = what;
	guest_report.a = a;
	guest_report.b = b;
	for (;;)
		outl(PORT_ABORT, 0);
}

void guest_trap_c(struct guest_trap *trap)
{
	guest_handler handler = guest_handlers[trap->vector & 0xff];

	if (handler) {
		handler(trap);
		return;
	}
	if (trap->vector < 32 && trap->r9 == GUEST_MAGIC) {
		trap->r9 = GUEST_FAULTED | trap->vector;
		trap->r11 = trap->error;
		trap->rip = trap->r10;
		return;
	}
	if (trap->vector == VEC_PF)
		guest_abort("page fault", trap->error, "rip, cr2", trap->rip,
			    read_cr2());
	guest_abort("unexpected trap, vector", trap->vector, "rip, error code",
		    trap->rip, trap->error);
}

/* Runs on the host; interrupt gates, so that handlers do not nest. */
void guest_make_idt(void *p)
{
	u64 *idt = p;

	for (int i = 0; i < 256; i++) {
		u64 addr = (uintptr_t)guest_trap_stubs + 16 * i;

		idt[2 * i] = (addr & 0xffff) | SEL_CODE64 << 16 |
			     0x8e00ULL << 32 | (addr >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = addr >> 32;
	}
}
