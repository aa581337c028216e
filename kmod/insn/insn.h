/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * x86 instruction decoder and MMIO/PIO/control-register emulator.
 *
 * Plain C: knows nothing of the kernel, of a VM or of the hardware. Everything
 * outside the registers of one vCPU is reached through struct insn_ops.
 *
 *	keel_insn_decode()	bytes -> struct insn; no side effects
 *	insn_fetch()	guest code at CS:RIP -> struct insn
 *	insn_execute()	execute it
 */
#ifndef KEEL_INSN_H
#define KEEL_INSN_H

#include "insn-types.h"

#define INSN_MAX_LEN	15

/* What every function and callback here returns. */
enum insn_result {
	INSN_OK = 0,
	INSN_DONE = INSN_OK,
	INSN_FAULT,	/* struct insn_fault is filled, deliver it to the guest */
	INSN_EXIT,	/* userspace must complete an access; call again later */
	INSN_RETRY,	/* cmpxchg() only: memory no longer holds the old value */
	INSN_UNKNOWN,	/* not an instruction this code knows */
	INSN_SHORT,	/* keel_insn_decode() only: more bytes are needed */
	INSN_TOO_LONG,	/* keel_insn_decode() only: more than 15 bytes, #GP(0) */
	INSN_ERROR,	/* the callee cannot go on, the VM is broken */
};

/*
 * REAL and VM86 have the same addressing, but differ in privilege.
 * Compatibility mode is PROT16 or PROT32.
 */
enum insn_mode {
	INSN_REAL,
	INSN_VM86,
	INSN_PROT16,
	INSN_PROT32,
	INSN_LONG64,
};

/* Hardware encoding order, as in REX.B:ModRM.rm. */
enum insn_reg {
	INSN_RAX, INSN_RCX, INSN_RDX, INSN_RBX,
	INSN_RSP, INSN_RBP, INSN_RSI, INSN_RDI,
	INSN_R8, INSN_R9, INSN_R10, INSN_R11,
	INSN_R12, INSN_R13, INSN_R14, INSN_R15,
	INSN_NR_REGS,
	INSN_RIP = INSN_NR_REGS,	/* as a base register only */
	INSN_NO_REG = 0xff,
};

enum insn_segreg {
	INSN_ES, INSN_CS, INSN_SS, INSN_DS, INSN_FS, INSN_GS,
	INSN_NR_SEGS,
	INSN_NO_SEG = 0xff,
};

/* The fields of struct kvm_segment; limit is in bytes, already scaled by G. */
struct insn_seg {
	u64 base;
	u32 limit;
	u16 selector;
	u8 type, s, dpl, present;
	u8 l, db, g, avl;
	u8 unusable;
};

/*
 * The vCPU as the emulator sees it. insn_execute() changes regs, rip and
 * rflags only, and only when an instruction (or one iteration of a REP string
 * instruction) is complete.
 */
struct insn_cpu {
	u64 regs[INSN_NR_REGS];
	u64 rip;
	u64 rflags;
	u64 cr0;
	u64 cr4;
	struct insn_seg seg[INSN_NR_SEGS];
	enum insn_mode mode;
	u8 cpl;
};

struct insn_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;	/* #PF only */
};

enum insn_map {
	INSN_MAP_ONE,	/* one-byte opcodes */
	INSN_MAP_0F,
	INSN_MAP_0F38,
	INSN_MAP_0F3A,
	INSN_MAP_3DNOW,	/* 0F 0F; the opcode is the trailing byte */
	INSN_MAP_XOP8,
	INSN_MAP_XOP9,
	INSN_MAP_XOPA,
	INSN_MAP_EVEX5,
	INSN_MAP_EVEX6,
};

enum insn_encoding {
	INSN_LEGACY,
	INSN_VEX,
	INSN_EVEX,
	INSN_XOP,
};

/* One decoded instruction. */
struct insn {
	u8 bytes[INSN_MAX_LEN];
	u8 nr_bytes;	/* valid in bytes[], also when decoding failed */
	u8 len;		/* of the instruction; 0 if decoding failed */
	u8 mode;	/* enum insn_mode that it was decoded for */

	/* Prefixes. */
	u8 rep;		/* 0, 0xf2 or 0xf3: the last one counts */
	bool lock;
	bool opsize_prefix;
	bool adsize_prefix;
	u8 seg_override;	/* enum insn_segreg or INSN_NO_SEG */
	u8 rex;		/* 0 if none */

	/* Opcode. */
	enum insn_encoding encoding;
	enum insn_map map;
	u8 opcode;
	u8 vex_reg;	/* VEX.vvvv, right way up */
	u8 vex_len;	/* VEX.L: 0 for 128 bits, 1 for 256, 2 for 512 */
	bool has_modrm;
	u8 modrm;
	bool has_sib;
	u8 sib;
	u8 mod;
	u8 reg;		/* ModRM.reg with REX.R */
	u8 rm;		/* ModRM.rm with REX.B */

	/* Memory operand: seg:[base + index * scale + disp]. */
	bool has_mem;
	u8 seg;		/* effective enum insn_segreg, also of moffs forms */
	u8 base;	/* enum insn_reg, INSN_RIP or INSN_NO_REG */
	u8 index;	/* enum insn_reg or INSN_NO_REG */
	u8 scale;	/* 1, 2, 4 or 8 */
	u8 disp_size;
	u8 imm_size;
	u8 imm2_size;	/* ENTER, far pointers, EXTRQ */
	s64 disp;	/* sign-extended; of EVEX not scaled */
	u64 imm;	/* sign-extended from imm_size */
	u16 imm2;

	u8 op_size;	/* 1, 2, 4 or 8 bytes */
	u8 ad_size;	/* 2, 4 or 8 bytes */

	/* Set by insn_execute(). */
	bool retired;	/* false: RIP still points to it (REP goes on) */
	bool trap;	/* it, or an iteration of REP, ended with RFLAGS.TF set: #DB is due */
};

/* A MOV between memory and a register, or of an immediate to memory. */
struct insn_mov {
	u64 linear;	/* address of the operand, which need not be canonical */
	bool store;
	bool immediate;	/* stores insn->imm, not @reg */
	u8 reg;		/* enum insn_reg: its lowest bytes */
	u8 size;	/* 1, 2, 4 or 8 bytes, of both sides */
};

/*
 * What the emulator needs from its environment. All addresses are linear; the
 * callee walks the guest's page tables with the privilege in cpu->cpl, and
 * splits what crosses a page. @len is 1 to 16 bytes.
 *
 * Replay: an access that userspace has to complete returns INSN_EXIT. Nothing
 * has happened then as far as the guest can see, and insn_execute() is called
 * again from scratch when the answer is there. The emulator performs the same
 * accesses in the same order, so the callee answers those that were completed
 * since the last commit() from its record: a read with the data, a write with
 * INSN_OK and nothing done. When commit() is called, what was accessed has
 * become architectural, and the record must be emptied.
 */
struct insn_ops {
	/* Instruction bytes. Never crosses a 4 KiB boundary. */
	int (*fetch)(void *opaque, u64 linear, void *buf, unsigned int len,
		     struct insn_fault *fault);
	int (*read)(void *opaque, u64 linear, void *buf, unsigned int len,
		    struct insn_fault *fault);
	/* All or nothing: no byte is changed unless it returns INSN_OK. */
	int (*write)(void *opaque, u64 linear, const void *buf,
		     unsigned int len, struct insn_fault *fault);
	/*
	 * Optional. Would a write fault? Asked before the read of a
	 * read-modify-write instruction and before the port of INS is read, so
	 * that the side effects of the read are not lost. No side effects
	 * itself; only INSN_OK, INSN_FAULT or INSN_ERROR.
	 */
	int (*probe_write)(void *opaque, u64 linear, unsigned int len,
			   struct insn_fault *fault);
	/*
	 * Write @new if memory still holds @old, atomically; if not,
	 * INSN_RETRY. Used for LOCK and XCHG. On MMIO a plain write will do.
	 */
	int (*cmpxchg)(void *opaque, u64 linear, const void *old,
		       const void *new, unsigned int len,
		       struct insn_fault *fault);
	/* Optional. See "Replay" above. */
	void (*commit)(void *opaque);

	/*
	 * Ports, size is 1, 2 or 4; absent: INSN_UNKNOWN. The callee checks the I/O permission
	 * (CPL, IOPL and the TSS bitmap), if the hardware did not. A REP INS will
	 * read the port @ahead times (or less, when it faults), to the memory of the
	 * last probe_write() and behind it in that page; all else says 1.
	 */
	int (*io_in)(void *opaque, u16 port, unsigned int size, unsigned int ahead,
		     u32 *val, struct insn_fault *fault);
	int (*io_out)(void *opaque, u16 port, unsigned int size, u32 val,
		      struct insn_fault *fault);

	/*
	 * Control and debug registers; an absent function makes the
	 * instruction INSN_UNKNOWN. The emulator has checked the CPL and that
	 * the register exists; the callee checks the value. Debug registers 4
	 * and 5 arrive here as 6 and 7, CR4.DE is checked.
	 */
	int (*read_cr)(void *opaque, unsigned int nr, u64 *val,
		       struct insn_fault *fault);
	int (*write_cr)(void *opaque, unsigned int nr, u64 val,
			struct insn_fault *fault);
	int (*read_dr)(void *opaque, unsigned int nr, u64 *val,
		       struct insn_fault *fault);
	int (*write_dr)(void *opaque, unsigned int nr, u64 val,
			struct insn_fault *fault);
	int (*invlpg)(void *opaque, u64 linear, struct insn_fault *fault);

	/* Low 128 bits of a vector register; absent: INSN_UNKNOWN. */
	int (*sse_read)(void *opaque, unsigned int reg, u8 *val);
	int (*sse_write)(void *opaque, unsigned int reg, const u8 *val);
	/* Low 64 bits of an MMX register are not emulated: INSN_UNKNOWN. */
};

/**
 * keel_insn_decode() - decode one instruction
 * @insn: the result; all of it is written
 * @mode: decides the default operand and address size
 * @bytes: machine code
 * @len: how many bytes there are; more than 15 are not looked at
 *
 * Covers the one-byte, 0F, 0F38, 0F3A and 3DNow! maps, VEX, EVEX and XOP as
 * far as the length and the operands' encoding go. It knows the opcodes that do
 * not exist, but not every combination of prefix, ModRM and operand that is
 * undefined: for those it says how long they would be.
 *
 * Return: INSN_OK, INSN_SHORT when @bytes ends before the instruction does,
 * INSN_TOO_LONG (the CPU raises #GP), or INSN_UNKNOWN when there is no such
 * instruction (the CPU raises #UD).
 */
int keel_insn_decode(struct insn *insn, enum insn_mode mode, const u8 *bytes,
		     size_t len);

/**
 * insn_fetch() - fetch and decode the instruction at CS:RIP
 * @cpu: not changed
 * @ops: only fetch() is used
 * @opaque: for @ops
 * @insn: the result, its bytes are valid also when it is INSN_UNKNOWN. What it
 *	is before, unless its length is 0, need not be decoded if it is here, too.
 * @fault: filled when INSN_FAULT is returned
 *
 * For a backend that has to skip an instruction whose length the CPU did not
 * tell: insn_skip(cpu, insn.len).
 *
 * Return: INSN_OK, INSN_FAULT, INSN_EXIT, INSN_UNKNOWN or INSN_ERROR.
 */
int insn_fetch(const struct insn_cpu *cpu, const struct insn_ops *ops,
	       void *opaque, struct insn *insn, struct insn_fault *fault);

/**
 * insn_skip() - the RIP after an instruction of @len bytes
 * @cpu: the current RIP, mode and CS; not changed
 * @len: length of the instruction
 */
u64 insn_skip(const struct insn_cpu *cpu, unsigned int len);

/**
 * insn_uses_segments() - does it depend on segment registers other than CS and SS?
 * @cpu: only the mode is looked at
 * @insn: from insn_fetch()
 *
 * If not, insn_execute() needs no others in @cpu.
 */
bool insn_uses_segments(const struct insn_cpu *cpu, const struct insn *insn);

/**
 * insn_has_one_access() - is its ModRM operand the only memory it touches?
 * @insn: from insn_fetch()
 */
bool insn_has_one_access(const struct insn *insn);

/**
 * insn_is_plain_mov() - is it a MOV of 64-bit code that does nothing else?
 * @cpu: FS and GS are not looked at
 * @insn: from insn_fetch()
 * @mov: filled when it is
 *
 * When the CPU has checked its operand it can be executed without insn_execute().
 * Not among them: prefixes that make it something else, FS, GS, AH, BH, CH and DH.
 */
bool insn_is_plain_mov(const struct insn_cpu *cpu, const struct insn *insn,
		       struct insn_mov *mov);

/**
 * insn_execute() - execute the instruction at CS:RIP
 * @cpu: registers; changed only by what is complete
 * @ops: the environment
 * @opaque: for @ops
 * @insn: from insn_fetch()
 * @fault: filled when INSN_FAULT is returned
 *
 * One instruction, or a bounded number of iterations of a REP string
 * instruction; when there are more, RIP stays and insn->retired is false: just
 * enter the guest, or call again.
 *
 * RF is cleared in @cpu->rflags by a retired instruction. Delivering the #DB
 * for TF (insn->trap) and ending an interrupt shadow are the caller's.
 *
 * Return: INSN_DONE; INSN_FAULT; INSN_EXIT, call again from its start when the
 * access is complete; INSN_UNKNOWN with insn->bytes; or INSN_ERROR.
 */
int insn_execute(struct insn_cpu *cpu, const struct insn_ops *ops,
		 void *opaque, struct insn *insn, struct insn_fault *fault);

#endif /* KEEL_INSN_H */
