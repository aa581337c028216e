// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instruction bytes from CS:RIP.
 */
#include "emulate.h"

/*
 * CS.D counts in real mode as well: after clearing CR0.PE and before the next
 * far jump the CPU runs with whatever it was (SDM volume 3, 9.9.2).
 */
static enum insn_mode decode_mode(const struct insn_cpu *cpu)
{
	bool wide;

	if (cpu->mode == INSN_LONG64 || cpu->mode == INSN_VM86)
		return cpu->mode;
	wide = cpu->seg[INSN_CS].db;
	if (cpu->mode == INSN_REAL)
		return wide ? INSN_PROT32 : INSN_REAL;
	return wide ? INSN_PROT32 : INSN_PROT16;
}

/* How many bytes CS allows from the current RIP on, 15 at most. */
static unsigned int code_room(const struct insn_cpu *cpu)
{
	const struct insn_seg *cs = &cpu->seg[INSN_CS];
	u64 room;

	if (cpu->mode == INSN_LONG64)
		return INSN_MAX_LEN;
	if (cpu->rip > cs->limit)
		return 0;
	room = (u64)cs->limit + 1 - cpu->rip;
	return room < INSN_MAX_LEN ? room : INSN_MAX_LEN;
}

/* Linear address of the @done-th byte. */
static u64 code_linear(const struct insn_cpu *cpu, unsigned int done)
{
	u64 addr = cpu->rip + done;

	if (cpu->mode == INSN_LONG64)
		return addr;
	return (u32)(cpu->seg[INSN_CS].base + addr);
}

static int general_protection(const struct insn_cpu *cpu,
			      struct insn_fault *fault)
{
	memset(fault, 0, sizeof(*fault));
	fault->vector = GP_VECTOR;
	fault->has_error = cpu->mode != INSN_REAL;
	return INSN_FAULT;
}

/* Is @insn what @bytes begin with? Code that waits for a device executes one many times. */
static bool is_same(struct insn *insn, enum insn_mode mode, const u8 *bytes, unsigned int len)
{
	if (!insn->len || insn->len > len || insn->mode != mode ||
	    memcmp(insn->bytes, bytes, insn->len))
		return false;
	memcpy(insn->bytes, bytes, len);
	insn->nr_bytes = len;
	return true;
}

/* One page at a time: the next may be absent and the instruction short. */
int insn_fetch(const struct insn_cpu *cpu, const struct insn_ops *ops,
	       void *opaque, struct insn *insn, struct insn_fault *fault)
{
	unsigned int room = code_room(cpu);
	enum insn_mode mode = decode_mode(cpu);
	u8 bytes[INSN_MAX_LEN];
	unsigned int done = 0, n;
	u64 linear;
	int ret;

	memset(fault, 0, sizeof(*fault));
	while (done < room) {
		linear = code_linear(cpu, done);
		n = INSN_PAGE_SIZE - (linear & (INSN_PAGE_SIZE - 1));
		if (n > room - done)
			n = room - done;
		ret = ops->fetch(opaque, linear, bytes + done, n, fault);
		if (ret != INSN_OK) {
			insn->nr_bytes = done;
			insn->len = 0;
			return ret;
		}
		done += n;
		if (is_same(insn, mode, bytes, done))
			return INSN_OK;
		ret = keel_insn_decode(insn, mode, bytes, done);
		if (ret == INSN_TOO_LONG)
			break;
		if (ret != INSN_SHORT)
			return ret;
	}
	/* Beyond the limit of CS, or longer than 15 bytes. */
	return general_protection(cpu, fault);
}
