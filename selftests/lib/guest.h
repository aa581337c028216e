/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest half of the test library. Guest code is C of the same program, run
 * in ring 0 of long mode at the addresses at which it is linked. It may use the
 * program's variables, and nothing of libc.
 */
#ifndef SELFTEST_GUEST_H
#define SELFTEST_GUEST_H

#include <asm/apicdef.h>
#undef u32
#include <stdbool.h>
#include <stdint.h>

#include "vm.h"
#include "x86.h"

/* Ports on which the guest speaks to the test. */
#define PORT_SYNC	0x1e0
#define PORT_DONE	0x1e4
#define PORT_ABORT	0x1e8
#define PORT_PUTC	0x1ec

struct guest_report {
	const char *file;
	const char *what;
	int line;
	u64 a, b;
};

extern volatile struct guest_report guest_report;

/* The stack frame that the trap stubs of guest_asm.S build. */
struct guest_trap {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

typedef void (*guest_handler)(struct guest_trap *trap);

/* Set by a test, from either side; NULL: the trap ends the test. */
extern guest_handler guest_handlers[256];

void guest_tables(struct vm *vm);
void guest_make_idt(void *idt);

static inline void outb(u16 port, u8 val)
{
	asm volatile("outb %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline void outw(u16 port, u16 val)
{
	asm volatile("outw %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline void outl(u16 port, u32 val)
{
	asm volatile("outl %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline u8 inb(u16 port)
{
	u8 val;

	asm volatile("inb %1, %0" : "=a"(val) : "Nd"(port) : "memory");
	return val;
}

static inline u16 inw(u16 port)
{
	u16 val;

	asm volatile("inw %1, %0" : "=a"(val) : "Nd"(port) : "memory");
	return val;
}

static inline u32 inl(u16 port)
{
	u32 val;

	asm volatile("inl %1, %0" : "=a"(val) : "Nd"(port) : "memory");
	return val;
}

static inline void guest_putc(char c)
{
	outb(PORT_PUTC, c);
}

static inline void guest_puts(const char *s)
{
	while (*s)
		guest_putc(*s++);
}

static inline void guest_sync(u32 val)
{
	outl(PORT_SYNC, val);
}

__attribute__((noreturn)) static inline void guest_done(void)
{
	for (;;)
		outl(PORT_DONE, 0);
}

__attribute__((noreturn)) void guest_abort(const char *file, int line,
					   const char *what, u64 a, u64 b);

#define GUEST_FAIL(what, a, b)						\
	guest_abort(__FILE__, __LINE__, what, (u64)(a), (u64)(b))

#define GUEST_ASSERT(cond)						\
do {									\
	if (!(cond))							\
		GUEST_FAIL(#cond, 0, 0);				\
} while (0)

#define GUEST_ASSERT_EQ(a, b)						\
do {									\
	u64 __a = (u64)(a), __b = (u64)(b);				\
									\
	if (__a != __b)							\
		GUEST_FAIL(#a " == " #b, __a, __b);			\
} while (0)

/* Wait without an exit: interrupts have to be on, see below. */
#define GUEST_WAIT_BUSY(cond)						\
do {									\
	while (!(cond))							\
		asm volatile("pause" : : : "memory");			\
} while (0)

/*
 * Wait for something another CPU, a timer or the host will do. CPUID leaves the
 * guest now and then: Bochs 2.7 on VMX does not let a host's interrupt in as
 * long as the guest that was entered with IF clear stays as it is, so the only
 * CPU would never do anything else again.
 */
#define GUEST_WAIT(cond)						\
do {									\
	for (u32 __n = 0; !(cond); __n++) {				\
		asm volatile("pause" : : : "memory");			\
		if ((__n & 0xff) == 0xff)				\
			guest_relax();					\
	}								\
} while (0)

static inline void guest_cpuid(u32 leaf, u32 index, u32 *a, u32 *b, u32 *c, u32 *d)
{
	asm volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d)
		     : "a"(leaf), "c"(index));
}

static inline void guest_relax(void)
{
	u32 a, b, c, d;

	guest_cpuid(0, 0, &a, &b, &c, &d);
}

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 val)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)val), "d"((u32)(val >> 32))
		     : "memory");
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}

/*
 * An instruction that may fault: the trap handler resumes at the address in
 * r10 with the vector, plus GUEST_FAULTED, in r9 and the error code in r11.
 */
#define GUEST_FAULTED	0x100
#define TRY_MAGIC	"0x6b65656c"
#define TRY(insn)							\
	"movl $" TRY_MAGIC ", %%r9d\n\t"				\
	"leaq 771f(%%rip), %%r10\n\t"					\
	insn "\n\t"							\
	"xorl %%r9d, %%r9d\n\t"						\
	"xorl %%r11d, %%r11d\n"						\
	"771:\n\t"
#define TRY_CLOBBERS	"r9", "r10", "r11", "memory", "cc"

/* 0, or GUEST_FAULTED | vector. */
static inline u32 rdmsr_safe(u32 msr, u64 *val)
{
	u32 lo = 0, hi = 0, trap;

	asm volatile(TRY("rdmsr") "movl %%r9d, %[trap]"
		     : "+a"(lo), "+d"(hi), [trap] "=r"(trap) : "c"(msr)
		     : TRY_CLOBBERS);
	*val = (u64)hi << 32 | lo;
	return trap;
}

static inline u32 wrmsr_safe(u32 msr, u64 val)
{
	u32 trap;

	asm volatile(TRY("wrmsr") "movl %%r9d, %[trap]"
		     : [trap] "=r"(trap)
		     : "c"(msr), "a"((u32)val), "d"((u32)(val >> 32))
		     : TRY_CLOBBERS);
	return trap;
}

#define READ_CR(n)							\
static inline u64 read_cr##n(void)					\
{									\
	u64 val;							\
									\
	asm volatile("mov %%cr" #n ", %0" : "=r"(val) : : "memory");	\
	return val;							\
}									\
static inline void write_cr##n(u64 val)					\
{									\
	asm volatile("mov %0, %%cr" #n : : "r"(val) : "memory");	\
}

READ_CR(0)
READ_CR(2)
READ_CR(3)
READ_CR(4)
READ_CR(8)

static inline void guest_sti(void)
{
	asm volatile("sti" : : : "memory");
}

/* At the start of what runs for long without an exit, see GUEST_WAIT(). */
static inline void guest_spins(void)
{
	guest_sti();
}

/* What MSR_KVM_SYSTEM_TIME_NEW names. */
struct pvclock_vcpu_time_info {
	u32 version;
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time;
	u32 tsc_to_system_mul;
	signed char tsc_shift;
	u8 flags;
	u8 pad[2];
} __attribute__((packed, aligned(64)));

static inline u64 guest_kvmclock_ns(volatile struct pvclock_vcpu_time_info *pv)
{
	u64 delta, ns;
	u32 version;

	do {
		version = pv->version;
		asm volatile("" : : : "memory");
		delta = rdtsc() - pv->tsc_timestamp;
		if (pv->tsc_shift >= 0)
			delta <<= pv->tsc_shift;
		else
			delta >>= -pv->tsc_shift;
		ns = pv->system_time +
		     (u64)((unsigned __int128)delta * pv->tsc_to_system_mul >> 32);
		asm volatile("" : : : "memory");
	} while ((version & 1) || version != pv->version);
	return ns;
}

static inline void guest_cli(void)
{
	asm volatile("cli" : : : "memory");
}

static inline void guest_hlt(void)
{
	asm volatile("hlt" : : : "memory");
}

/*
 * No interrupt can slip in between: STI holds them off for one instruction. But
 * STI does so only where no such shadow is active, else it ends that one. QEMU
 * TCG's VMRUN leaves the host's own shadow, that of the STI before VMRUN, active
 * in the guest. So STI must not be the first instruction after an entry, as it
 * would be behind an access that exits: hence the NOP, which uses the shadow up.
 */
static inline void guest_sti_hlt(void)
{
	asm volatile("nop; sti; hlt; cli" : : : "memory");
}

static inline void guest_sti_nop(void)
{
	asm volatile("sti; nop; nop; cli" : : : "memory");
}

static inline void invlpg(u64 va)
{
	asm volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline u64 read_rflags(void)
{
	u64 val;

	asm volatile("pushfq; popq %0" : "=r"(val));
	return val;
}

static inline u32 mmio_read32(u64 gpa)
{
	u32 val;

	asm volatile("movl (%1), %0" : "=r"(val) : "r"(gpa) : "memory");
	return val;
}

static inline void mmio_write32(u64 gpa, u32 val)
{
	asm volatile("movl %0, (%1)" : : "r"(val), "r"(gpa) : "memory");
}

static inline u32 apic_read(u32 reg)
{
	return mmio_read32(APIC_DEFAULT_PHYS_BASE + reg);
}

static inline void apic_write(u32 reg, u32 val)
{
	mmio_write32(APIC_DEFAULT_PHYS_BASE + reg, val);
}

static inline void apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}

static inline void apic_enable(void)
{
	apic_write(APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
}

static inline u64 x2apic_read(u32 reg)
{
	return rdmsr(APIC_BASE_MSR + (reg >> 4));
}

static inline void x2apic_write(u32 reg, u64 val)
{
	wrmsr(APIC_BASE_MSR + (reg >> 4), val);
}

static inline void x2apic_enable(void)
{
	wrmsr(MSR_IA32_APICBASE, rdmsr(MSR_IA32_APICBASE) | X2APIC_ENABLE);
	x2apic_write(APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
}

#endif
