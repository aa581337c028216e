// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arithmetic and its flags, for operands of 1, 2, 4 and 8 bytes.
 *
 * Where the manuals leave a flag undefined, it gets the value that current
 * processors give, or stays.
 */
#include "emulate.h"

u64 alu_mask(unsigned int size)
{
	return size == 8 ? ~0ull : (1ull << size * 8) - 1;
}

s64 alu_sign_extend(u64 val, unsigned int size)
{
	switch (size) {
	case 1:
		return (s8)val;
	case 2:
		return (s16)val;
	case 4:
		return (s32)val;
	default:
		return (s64)val;
	}
}

static bool msb(u64 val, unsigned int size)
{
	return val >> (size * 8 - 1) & 1;
}

static void set_flag(u64 *rflags, u64 flag, bool on)
{
	if (on)
		*rflags |= flag;
	else
		*rflags &= ~flag;
}

static bool even_parity(u8 val)
{
	val ^= val >> 4;
	val ^= val >> 2;
	val ^= val >> 1;
	return !(val & 1);
}

static void set_szp(u64 *rflags, u64 result, unsigned int size)
{
	set_flag(rflags, X86_EFLAGS_SF, msb(result, size));
	set_flag(rflags, X86_EFLAGS_ZF, !(result & alu_mask(size)));
	set_flag(rflags, X86_EFLAGS_PF, even_parity(result));
}

static u64 add(u64 a, u64 b, bool carry, unsigned int size, u64 *rflags)
{
	u64 sum = (a + b + carry) & alu_mask(size);
	/* The carry out of every bit. */
	u64 carries = (a & b) | ((a | b) & ~sum);

	set_flag(rflags, X86_EFLAGS_CF, msb(carries, size));
	set_flag(rflags, X86_EFLAGS_AF, carries & 8);
	set_flag(rflags, X86_EFLAGS_OF, msb((a ^ sum) & (b ^ sum), size));
	set_szp(rflags, sum, size);
	return sum;
}

static u64 sub(u64 a, u64 b, bool borrow, unsigned int size, u64 *rflags)
{
	u64 diff = (a - b - borrow) & alu_mask(size);
	u64 borrows = (~a & b) | ((~a | b) & diff);

	set_flag(rflags, X86_EFLAGS_CF, msb(borrows, size));
	set_flag(rflags, X86_EFLAGS_AF, borrows & 8);
	set_flag(rflags, X86_EFLAGS_OF, msb((a ^ b) & (a ^ diff), size));
	set_szp(rflags, diff, size);
	return diff;
}

static u64 logic(u64 result, unsigned int size, u64 *rflags)
{
	*rflags &= ~(u64)(X86_EFLAGS_CF | X86_EFLAGS_OF | X86_EFLAGS_AF);
	set_szp(rflags, result, size);
	return result;
}

/* INC and DEC leave CF alone. */
static u64 step(u64 val, bool down, unsigned int size, u64 *rflags)
{
	u64 carry = *rflags & X86_EFLAGS_CF;

	val = down ? sub(val, 1, false, size, rflags) :
		     add(val, 1, false, size, rflags);
	*rflags = (*rflags & ~(u64)X86_EFLAGS_CF) | carry;
	return val;
}

static u64 rotate(enum alu_op op, u64 val, unsigned int count,
		  unsigned int size, u64 *rflags)
{
	unsigned int bits = size * 8;
	bool left = op == ALU_ROL;
	bool carry;

	count %= bits;
	if (count)
		val = left ? val << count | val >> (bits - count) :
			     val >> count | val << (bits - count);
	val &= alu_mask(size);

	carry = left ? val & 1 : msb(val, size);
	set_flag(rflags, X86_EFLAGS_CF, carry);
	if (left)
		set_flag(rflags, X86_EFLAGS_OF, msb(val, size) != carry);
	else
		set_flag(rflags, X86_EFLAGS_OF,
			 carry != msb(val << 1 & alu_mask(size), size));
	return val;
}

/* Through carry: a rotation of one bit more than the operand has. */
static u64 rotate_carry(enum alu_op op, u64 val, unsigned int count,
			unsigned int size, u64 *rflags)
{
	bool carry = *rflags & X86_EFLAGS_CF;
	unsigned int i;
	bool out;

	count %= size * 8 + 1;
	for (i = 0; i < count; i++) {
		if (op == ALU_RCL) {
			out = msb(val, size);
			val = (val << 1 | carry) & alu_mask(size);
		} else {
			out = val & 1;
			val = val >> 1 | (u64)carry << (size * 8 - 1);
		}
		carry = out;
	}
	set_flag(rflags, X86_EFLAGS_CF, carry);
	if (op == ALU_RCL)
		set_flag(rflags, X86_EFLAGS_OF, msb(val, size) != carry);
	else
		set_flag(rflags, X86_EFLAGS_OF, msb(val, size) !=
			 msb(val << 1 & alu_mask(size), size));
	return val;
}

/* @count is 1 to 63 here, and may be more than the operand has bits. */
static u64 shift(enum alu_op op, u64 val, unsigned int count,
		 unsigned int size, u64 *rflags)
{
	s64 extended = alu_sign_extend(val, size);
	unsigned int bits = size * 8;
	u64 result;

	switch (op) {
	case ALU_SHL:
	case ALU_SAL:
		set_flag(rflags, X86_EFLAGS_CF,
			 count <= bits && (val >> (bits - count) & 1));
		result = val << count & alu_mask(size);
		set_flag(rflags, X86_EFLAGS_OF, msb(result, size) !=
			 !!(*rflags & X86_EFLAGS_CF));
		break;
	case ALU_SHR:
		set_flag(rflags, X86_EFLAGS_CF, val >> (count - 1) & 1);
		result = val >> count;
		set_flag(rflags, X86_EFLAGS_OF, msb(val, size));
		break;
	default:
		set_flag(rflags, X86_EFLAGS_CF, extended >> (count - 1) & 1);
		result = (u64)(extended >> count) & alu_mask(size);
		set_flag(rflags, X86_EFLAGS_OF, false);
		break;
	}
	set_szp(rflags, result, size);
	return result;
}

static u64 shift_or_rotate(enum alu_op op, u64 val, u64 src,
			   unsigned int size, u64 *rflags)
{
	unsigned int count = src & (size == 8 ? 63 : 31);

	if (!count)
		return val;
	switch (op) {
	case ALU_ROL:
	case ALU_ROR:
		return rotate(op, val, count, size, rflags);
	case ALU_RCL:
	case ALU_RCR:
		return rotate_carry(op, val, count, size, rflags);
	default:
		return shift(op, val, count, size, rflags);
	}
}

static u64 bit_test(enum alu_op op, u64 val, u64 src, unsigned int size,
		    u64 *rflags)
{
	u64 bit = 1ull << (src & (size * 8 - 1));

	set_flag(rflags, X86_EFLAGS_CF, val & bit);
	switch (op) {
	case ALU_BTS:
		return val | bit;
	case ALU_BTR:
		return val & ~bit;
	case ALU_BTC:
		return val ^ bit;
	default:
		return val;
	}
}

/*
 * The result of @op on zero-extended operands of @size bytes, @rflags updated.
 * CMP and TEST return what they throw away.
 */
u64 alu_compute(enum alu_op op, u64 dst, u64 src, unsigned int size,
		u64 *rflags)
{
	bool carry = *rflags & X86_EFLAGS_CF;

	dst &= alu_mask(size);
	src &= alu_mask(size);
	switch (op) {
	case ALU_ADD:
		return add(dst, src, false, size, rflags);
	case ALU_ADC:
		return add(dst, src, carry, size, rflags);
	case ALU_SUB:
	case ALU_CMP:
		return sub(dst, src, false, size, rflags);
	case ALU_SBB:
		return sub(dst, src, carry, size, rflags);
	case ALU_OR:
		return logic(dst | src, size, rflags);
	case ALU_AND:
	case ALU_TEST:
		return logic(dst & src, size, rflags);
	case ALU_XOR:
		return logic(dst ^ src, size, rflags);
	case ALU_INC:
	case ALU_DEC:
		return step(dst, op == ALU_DEC, size, rflags);
	case ALU_NEG:
		return sub(0, dst, false, size, rflags);
	case ALU_NOT:
		return ~dst & alu_mask(size);
	case ALU_BT:
	case ALU_BTS:
	case ALU_BTR:
	case ALU_BTC:
		return bit_test(op, dst, src, size, rflags);
	default:
		return shift_or_rotate(op, dst, src, size, rflags);
	}
}

/* The condition of Jcc, SETcc and CMOVcc; @cc is the opcode's low nibble. */
bool alu_condition(unsigned int cc, u64 rflags)
{
	bool sf = rflags & X86_EFLAGS_SF;
	bool of = rflags & X86_EFLAGS_OF;
	bool on = false;

	switch (cc >> 1 & 7) {
	case 0:
		on = of;
		break;
	case 1:
		on = rflags & X86_EFLAGS_CF;
		break;
	case 2:
		on = rflags & X86_EFLAGS_ZF;
		break;
	case 3:
		on = rflags & (X86_EFLAGS_CF | X86_EFLAGS_ZF);
		break;
	case 4:
		on = sf;
		break;
	case 5:
		on = rflags & X86_EFLAGS_PF;
		break;
	case 6:
		on = sf != of;
		break;
	case 7:
		on = (rflags & X86_EFLAGS_ZF) || sf != of;
		break;
	}
	return on != (cc & 1);
}
