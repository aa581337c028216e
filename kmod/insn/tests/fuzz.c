// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer target: any state, any code.
 *
 * Besides the sanitizers it checks what must hold for all instructions: what
 * did not complete changed nothing; and an instruction that was interrupted at
 * every access ends as one that was not.
 */
#include <assert.h>
#include <string.h>

#include "guest.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Input: this, then code. */
struct __attribute__((packed)) seed {
	u8 mode;
	u8 cpl;
	u8 flags;
	u8 places;	/* two bits each for RSI, RDI, RBX and RBP */
	u16 offset;
	u16 rcx;
	u64 rax;
	u32 rflags;
	u16 limit;
	u8 seg;
	u8 type;
};

static u64 place(const struct seed *s, unsigned int i)
{
	static const u64 bases[] = { DATA, DEVICE, READ_ONLY, ABSENT };

	return bases[s->places >> 2 * i & 3] + (s->offset >> 2 * i & 0xfff);
}

static void load(struct guest *g, const struct seed *s, const u8 *code,
		 size_t len)
{
	struct insn_cpu *cpu = &g->cpu;

	guest_init(g, s->mode % (INSN_LONG64 + 1));
	cpu->cpl = s->cpl & 3;
	cpu->regs[INSN_RSI] = place(s, 0);
	cpu->regs[INSN_RDI] = place(s, 1);
	cpu->regs[INSN_RBX] = place(s, 2);
	cpu->regs[INSN_RBP] = place(s, 3);
	cpu->regs[INSN_RCX] = s->rcx & 0x1ff;
	cpu->regs[INSN_RAX] = s->rax;
	cpu->regs[INSN_RDX] = s->rax >> 7;
	cpu->regs[INSN_R12] = place(s, s->cpl >> 2 & 3);
	cpu->rflags |= s->rflags & 0x50dd5;
	if (s->flags & 1)
		cpu->cr0 |= X86_CR0_AM;
	if (s->flags & 2)
		cpu->cr0 |= X86_CR0_TS;
	if (s->flags & 4)
		cpu->cr4 |= X86_CR4_LA57 | X86_CR4_UMIP | X86_CR4_DE;
	if (s->flags & 8) {
		struct insn_seg *seg = &cpu->seg[s->seg % INSN_NR_SEGS];

		seg->limit = s->limit;
		seg->type = s->type & 0xf;
		seg->db = s->type >> 4 & 1;
		seg->unusable = s->type >> 5 & 1;
		seg->base = s->type & 0x40 ? s->rax : 0;
	}
	memset(g->ram + DATA, 0xa5, 0x100);
	memset(g->device, 0x5a, 0x100);
	/* Often over a page boundary. */
	if (s->flags & 0x10)
		cpu->rip = 0x2000 - (s->flags >> 5);
	memcpy(g->ram + cpu->rip, code, len);
}

static void same(const struct guest *a, const struct guest *b)
{
	assert(!memcmp(&a->cpu, &b->cpu, sizeof(a->cpu)));
	assert(!memcmp(a->ram, b->ram, sizeof(a->ram)));
	assert(!memcmp(a->top, b->top, sizeof(a->top)));
	assert(!memcmp(a->xmm, b->xmm, sizeof(a->xmm)));
	assert(!memcmp(a->device, b->device, sizeof(a->device)));
	assert(!memcmp(a->cr, b->cr, sizeof(a->cr)));
	assert(!memcmp(a->dr, b->dr, sizeof(a->dr)));
}

/* Runs to the end without an exit; a REP may come back between iterations. */
static int run_sync(struct guest *g)
{
	int ret;

	do {
		ret = guest_step(g);
	} while (ret == INSN_DONE && !g->insn.retired);
	return ret;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct guest g, interrupted, start;
	struct seed seed = { 0 };
	struct insn insn;
	unsigned int mode;
	size_t len;
	int ret;

	for (mode = INSN_REAL; mode <= INSN_LONG64; mode++) {
		ret = keel_insn_decode(&insn, mode, data, size);
		assert(insn.len <= INSN_MAX_LEN && insn.len <= size);
		assert((ret == INSN_OK) == (insn.len != 0));
	}
	if (size < sizeof(seed) + 1)
		return 0;
	memcpy(&seed, data, sizeof(seed));
	len = size - sizeof(seed) < 20 ? size - sizeof(seed) : 20;

	load(&start, &seed, data + sizeof(seed), len);
	g = start;
	g.sync = true;
	ret = run_sync(&g);
	assert(ret == INSN_DONE || ret == INSN_FAULT || ret == INSN_UNKNOWN);

	interrupted = start;
	assert(guest_run(&interrupted) == ret);
	same(&g, &interrupted);
	if (ret == INSN_FAULT && g.insn.rep)
		return 0;
	if (ret != INSN_DONE) {
		assert(!g.device_writes && !g.port_reads && !g.port_writes);
		same(&g, &start);
	}
	return 0;
}
