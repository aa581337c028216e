/* SPDX-License-Identifier: GPL-2.0-only */
/* Shared by the files of the emulator; nobody else includes it. */
#ifndef KEEL_INSN_EMULATE_H
#define KEEL_INSN_EMULATE_H

#include <asm/kvm.h>
#include <asm/processor-flags.h>

#include "insn.h"

/* Elements that one call moves before it lets the caller look around. */
#define EMU_REP_MAX	256
#define INSN_PAGE_SIZE	4096U

struct emu;

/* Where an operand of an instruction is. */
enum emu_place {
	P_NONE,
	P_RM,		/* ModRM.rm: register or memory */
	P_REG,		/* ModRM.reg */
	P_ACC,		/* AL, AX, EAX, RAX */
	P_IMM,
	P_MOFFS,	/* absolute memory offset */
	P_ONE,		/* the constant of D0, D1 */
	P_CL,
	P_SREG,		/* ModRM.reg is a segment register */
};

enum emu_op_flags {
	F_READ		= 1 << 0,	/* the destination is read */
	F_WRITE		= 1 << 1,	/* the destination is written */
	F_LOCK		= 1 << 2,	/* LOCK is allowed */
	F_ALWAYS_LOCK	= 1 << 3,	/* XCHG */
	F_MEM		= 1 << 4,	/* #UD with a register */
	F_SRC8		= 1 << 5,	/* source is a byte whatever op_size */
	F_SRC16		= 1 << 6,
	F_SRC32		= 1 << 7,	/* not more than 32 bits */
	F_DST16		= 1 << 8,	/* in memory; op_size in a register */
	F_BITOFF	= 1 << 9,	/* source is a bit offset into memory */
	F_NOREP		= 1 << 10,	/* another instruction with F2 or F3 */
	F_NO66		= 1 << 11,	/* another instruction with 66 */
	F_WHOLE		= 1 << 12,	/* fn() does everything itself */
	F_LONG		= 1 << 13,	/* in 64-bit mode only */
	F_MIN32		= 1 << 14,	/* 32 bits, or 64 with REX.W */
};

#define F_RMW	(F_READ | F_WRITE)

struct emu_op {
	/* Computes e->result, or with F_WHOLE executes. */
	int (*fn)(struct emu *e);
	/* Chosen by ModRM.reg when fn is NULL. */
	const struct emu_op *group;
	u8 dst, src;	/* enum emu_place */
	u8 alu;		/* enum alu_op, for fn */
	u16 flags;
};

struct emu_operand {
	bool is_mem;
	u8 size;
	u8 reg;
	u8 shift;	/* 8 for AH, CH, DH and BH */
	u64 linear;
};

/* One execution of insn_execute(). */
struct emu {
	struct insn_cpu *cpu;
	const struct insn_ops *ops;
	void *opaque;
	struct insn *insn;
	struct insn_fault *fault;
	const struct emu_op *op;

	struct emu_operand dst, src;
	u64 dst_val, src_val;

	/* Committed together when nothing can fail any more. */
	u64 result;
	u64 rflags;
	bool has_extra;		/* XADD, XCHG, CMPXCHG: a second destination */
	struct emu_operand extra;
	u64 extra_val;

	unsigned int rsp_bias;	/* POP: what RSP is ahead of cpu->regs */
	bool unfinished;	/* RIP must stay */
};

enum alu_op {
	/* Encoding order, of opcodes 00 to 38 and of group 1 */
	ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP,
	/* Group 2; SAL is SHL */
	ALU_ROL, ALU_ROR, ALU_RCL, ALU_RCR, ALU_SHL, ALU_SHR, ALU_SAL, ALU_SAR,
	ALU_TEST, ALU_INC, ALU_DEC, ALU_NEG, ALU_NOT,
	ALU_BT, ALU_BTS, ALU_BTR, ALU_BTC,
};

#define EMU_ARITH_FLAGS	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | \
			 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF)

/* alu.c */
u64 alu_compute(enum alu_op op, u64 dst, u64 src, unsigned int size,
		u64 *rflags);
bool alu_condition(unsigned int cc, u64 rflags);
u64 alu_mask(unsigned int size);
s64 alu_sign_extend(u64 val, unsigned int size);

/* memory.c */
int emu_raise(struct emu *e, u8 vector);
int emu_raise_code(struct emu *e, u8 vector, u32 error);
u64 emu_effective_address(const struct insn_cpu *cpu, const struct insn *insn, u64 rsp_bias);
int emu_linear(struct emu *e, unsigned int seg, u64 offset, unsigned int size,
	       bool write, u64 *linear);
int emu_mem_operand(struct emu *e, unsigned int size, bool write, u64 *linear);
int emu_read(struct emu *e, u64 linear, void *buf, unsigned int size);
int emu_write(struct emu *e, u64 linear, const void *buf, unsigned int size);
int emu_probe_write(struct emu *e, u64 linear, unsigned int size);
int emu_cmpxchg(struct emu *e, u64 linear, const void *old, const void *new,
		unsigned int size);
u64 emu_get_reg(const struct emu *e, const struct emu_operand *o);
void emu_set_reg(struct emu *e, const struct emu_operand *o, u64 val);
void emu_gpr_operand(const struct emu *e, struct emu_operand *o,
		     unsigned int reg, unsigned int size);

/* string.c */
int emu_string(struct emu *e);
int emu_port(struct emu *e);

/* system.c */
int emu_mov_cr(struct emu *e);
int emu_mov_dr(struct emu *e);
int emu_lmsw(struct emu *e);
int emu_smsw(struct emu *e);
int emu_clts(struct emu *e);
int emu_invlpg(struct emu *e);
int emu_group15(struct emu *e);

/* sse.c */
int emu_sse_move(struct emu *e);

#endif /* KEEL_INSN_EMULATE_H */
