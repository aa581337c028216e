// SPDX-License-Identifier: GPL-2.0-only
/*
 * The decoder against the Zydis disassembler: for everything that Zydis takes
 * for an instruction, length, prefixes, operands and sizes must agree, and one
 * byte less must be too short.
 *
 * INSN_COUNT and INSN_SEED in the environment choose how many and which.
 */
#include <string.h>

#include <Zydis/Zydis.h>

#include "gen.h"

static const struct {
	const char *name;
	enum insn_mode mode;
	ZydisMachineMode machine;
	ZydisStackWidth stack;
} modes[] = {
	{ "64-bit", INSN_LONG64, ZYDIS_MACHINE_MODE_LONG_64,
	  ZYDIS_STACK_WIDTH_64 },
	{ "32-bit", INSN_PROT32, ZYDIS_MACHINE_MODE_LEGACY_32,
	  ZYDIS_STACK_WIDTH_32 },
	{ "16-bit", INSN_PROT16, ZYDIS_MACHINE_MODE_LEGACY_16,
	  ZYDIS_STACK_WIDTH_16 },
	{ "real mode", INSN_REAL, ZYDIS_MACHINE_MODE_REAL_16,
	  ZYDIS_STACK_WIDTH_16 },
};

struct tally {
	u64 tried, accepted, memory, only_us, skipped, wrong;
};

/*
 * Not x86 as shipped in a processor that runs guests: Knights Corner, and MPX,
 * whose address size is fixed.
 */
static bool is_foreign(const ZydisDecodedInstruction *z)
{
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
	       z->meta.isa_set == ZYDIS_ISA_SET_KNCE ||
	       z->meta.isa_set == ZYDIS_ISA_SET_KNCJKBR ||
	       z->meta.isa_set == ZYDIS_ISA_SET_KNCV ||
	       z->meta.isa_set == ZYDIS_ISA_SET_MPX;
}

/* A Zydis register as the number the decoder gives, or -1 for a vector. */
static int gpr_number(ZydisRegister reg)
{
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_INVALID:
		return INSN_NO_REG;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return ZydisRegisterGetId(reg);
	case ZYDIS_REGCLASS_IP:
		return INSN_RIP;
	default:
		return -1;
	}
}

static int seg_number(ZydisRegister reg)
{
	return reg == ZYDIS_REGISTER_NONE ? -1 : ZydisRegisterGetId(reg);
}

static u64 low_bytes(u64 val, unsigned int size)
{
	return size >= 8 ? val : val & ((1ull << size * 8) - 1);
}

static const char *compare_mem(const struct insn *insn,
			       const ZydisDecodedInstruction *z,
			       const ZydisDecodedOperand *op, bool long64)
{
	int index = gpr_number(op->mem.index);
	int seg = seg_number(op->mem.segment);

	if (!insn->has_mem)
		return "memory operand";
	if (insn->ad_size != z->address_width / 8)
		return "address size";
	/*
	 * SIB without a base (mod 0, base 5): with 67 and REX.B, Zydis 4.0.0
	 * takes it for R13D. The CPU does not decode REX.B there (SDM volume 2,
	 * table 2-5).
	 */
	if (insn->base != gpr_number(op->mem.base) &&
	    !(insn->has_sib && insn->mod == 0 && (insn->sib & 7) == 5 &&
	      op->mem.base == ZYDIS_REGISTER_R13D))
		return "base";
	/* MPX ignores the scale; vector indexes have no number here. */
	if (op->mem.type != ZYDIS_MEMOP_TYPE_MIB && index >= 0) {
		if (insn->index != index)
			return "index";
		if (index != INSN_NO_REG && insn->scale != op->mem.scale)
			return "scale";
	}
	/* AGEN operands (LEA) have no segment; NOTRACK is a DS override. */
	if (op->mem.type == ZYDIS_MEMOP_TYPE_MEM && seg >= 0 &&
	    !(z->attributes & ZYDIS_ATTRIB_HAS_NOTRACK) &&
	    (!long64 || seg >= INSN_FS || insn->seg >= INSN_FS) &&
	    insn->seg != seg)
		return "segment";
	if (insn->disp_size != z->raw.disp.size / 8)
		return "displacement size";
	if (insn->disp_size &&
	    low_bytes(insn->disp, insn->disp_size) !=
	    low_bytes(z->raw.disp.value, insn->disp_size))
		return "displacement";
	return NULL;
}

static bool is_modrm_mem(const ZydisDecodedOperand *op)
{
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	return op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
	       op->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64;
}

static const char *compare_imm(const struct insn *insn,
			       const ZydisDecodedInstruction *z)
{
	if (insn->map == INSN_MAP_3DNOW)
		return NULL;
	if (insn->imm_size != z->raw.imm[0].size / 8)
		return "immediate size";
	if (low_bytes(insn->imm, insn->imm_size) !=
	    low_bytes(z->raw.imm[0].value.u, insn->imm_size))
		return "immediate";
	if (insn->imm2_size != z->raw.imm[1].size / 8)
		return "second immediate size";
	if (low_bytes(insn->imm2, insn->imm2_size) !=
	    low_bytes(z->raw.imm[1].value.u, insn->imm2_size))
		return "second immediate";
	return NULL;
}

static const char *compare_prefixes(const struct insn *insn,
				    const ZydisDecodedInstruction *z)
{
	bool rep = z->attributes & (ZYDIS_ATTRIB_HAS_REP |
				    ZYDIS_ATTRIB_HAS_REPE |
				    ZYDIS_ATTRIB_HAS_REPZ |
				    ZYDIS_ATTRIB_HAS_REPNE |
				    ZYDIS_ATTRIB_HAS_REPNZ);

	if (insn->lock != !!(z->attributes & ZYDIS_ATTRIB_HAS_LOCK))
		return "lock";
	if (rep && !insn->rep)
		return "rep";
	if (insn->encoding == INSN_LEGACY && z->raw.rex.offset !=
	    (insn->rex ? z->raw.rex.offset : 0))
		return "rex";
	return NULL;
}

static const char *compare(const struct insn *insn,
			   const ZydisDecodedInstruction *z,
			   const ZydisDecodedOperand *ops, bool long64,
			   struct tally *tally)
{
	const char *what;
	int i;

	if (insn->len != z->length)
		return "length";
	if (insn->has_modrm != !!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM))
		return "presence of ModRM";
	if (insn->has_modrm &&
	    insn->modrm != (z->raw.modrm.mod << 6 | z->raw.modrm.reg << 3 |
			    z->raw.modrm.rm))
		return "ModRM";
	if (insn->has_sib != !!(z->attributes & ZYDIS_ATTRIB_HAS_SIB))
		return "presence of SIB";
	for (i = 0; i < z->operand_count; i++) {
		if (!is_modrm_mem(&ops[i]))
			continue;
		tally->memory++;
		what = compare_mem(insn, z, &ops[i], long64);
		if (what)
			return what;
	}
	what = compare_imm(insn, z);
	if (what)
		return what;
	return compare_prefixes(insn, z);
}

static void complain(const u8 *bytes, const char *mode, const char *what,
		     const struct insn *insn, int ret,
		     const ZydisDecodedInstruction *z)
{
	int i;

	printf("# %s: %s differs:", mode, what);
	for (i = 0; i < INSN_MAX_LEN; i++)
		printf(" %02x", bytes[i]);
	printf("\n#   Zydis: %s, %u bytes; decoder: result %d, %u bytes\n",
	       ZydisMnemonicGetString(z->mnemonic), z->length, ret, insn->len);
}

static void try_one(const ZydisDecoder *decoder, int m, const u8 *bytes,
		    struct tally *tally)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	bool long64 = modes[m].mode == INSN_LONG64;
	const char *what = NULL;
	struct insn insn, shorter;
	bool ok;
	int ret;

	tally->tried++;
	ok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, bytes, INSN_MAX_LEN,
						 &z, ops));
	ret = keel_insn_decode(&insn, modes[m].mode, bytes, GEN_LEN);
	if (!ok) {
		tally->only_us += ret == INSN_OK;
		return;
	}

	if (is_foreign(&z)) {
		tally->skipped++;
		return;
	}
	tally->accepted++;
	if (ret != INSN_OK)
		what = "acceptance";
	else
		what = compare(&insn, &z, ops, long64, tally);
	if (!what && keel_insn_decode(&shorter, modes[m].mode, bytes,
				      insn.len - 1) != INSN_SHORT)
		what = "result for one byte less";
	if (!what)
		return;
	if (tally->wrong++ < 20)
		complain(bytes, modes[m].name, what, &insn, ret, &z);
}

static void run_mode(int m, u64 count)
{
	struct tally tally = { 0 };
	ZydisDecoder decoder;
	u8 bytes[GEN_LEN];
	u64 i;

	ZydisDecoderInit(&decoder, modes[m].machine, modes[m].stack);
	for (i = 0; i < count; i++) {
		if (i % 8)
			gen_structured(bytes, modes[m].mode == INSN_LONG64);
		else
			gen_random(bytes);
		try_one(&decoder, m, bytes, &tally);
	}
	printf("# %s: %llu tried, %llu are instructions to Zydis (%llu with a memory operand), %llu more to the decoder, %llu left out\n",
	       modes[m].name, (unsigned long long)tally.tried,
	       (unsigned long long)tally.accepted,
	       (unsigned long long)tally.memory,
	       (unsigned long long)tally.only_us,
	       (unsigned long long)tally.skipped);
	tap_ok(!tally.wrong && tally.accepted > count / 3,
	       "%s: decoder and Zydis agree on %llu of %llu instructions",
	       modes[m].name,
	       (unsigned long long)(tally.accepted - tally.wrong),
	       (unsigned long long)tally.accepted);
}

int main(void)
{
	u64 count = env_u64("INSN_COUNT", 2000000);
	unsigned int m;

	rnd_state = env_u64("INSN_SEED", 1);
	printf("# seed %llu, %llu byte strings\n",
	       (unsigned long long)rnd_state, (unsigned long long)count);
	/* Half of them in 64-bit mode. */
	for (m = 0; m < 4; m++)
		run_mode(m, m ? count / 6 : count / 2);
	return tap_done();
}
