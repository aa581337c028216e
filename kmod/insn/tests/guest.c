// SPDX-License-Identifier: GPL-2.0-only
#ifndef __KERNEL__
#include <stdio.h>
#endif

#include "guest.h"

static bool in_page(u64 addr, u64 page)
{
	return (addr & ~0xfffull) == page;
}

static int page_fault(u64 addr, bool write, bool present,
		      struct insn_fault *fault)
{
	fault->vector = PF_VECTOR;
	fault->has_error = true;
	fault->error = present | write << 1;
	fault->cr2 = addr;
	return INSN_FAULT;
}

/* The first byte that cannot be accessed, page by page. */
static int check(const struct guest *g, u64 addr, unsigned int len, bool write,
		 struct insn_fault *fault)
{
	u64 first[2] = { addr, (addr + len - 1) & ~0xfffull };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		u64 a = first[i] < addr ? addr : first[i];

		if (in_page(a, TOP))
			continue;
		if (a >= RAM_SIZE || in_page(a, ABSENT) ||
		    (g->no_page_0 && in_page(a, 0)))
			return page_fault(a, write, false, fault);
		if (write && in_page(a, READ_ONLY))
			return page_fault(a, write, true, fault);
	}
	return INSN_OK;
}

static u8 *memory(struct guest *g, u64 addr)
{
	return in_page(addr, TOP) ? g->top + (addr & 0xfff) : g->ram + addr;
}

/* Userspace's side of an access. */
static void complete(struct guest *g, struct access *a)
{
	u8 *where = g->device + (a->addr & 0xfff);

	if (a->port) {
		if (a->write) {
			memcpy(&g->port_value, a->data, a->size);
			g->port_writes++;
		} else {
			g->port_value++;
			memcpy(a->data, &g->port_value, a->size);
			g->port_reads++;
		}
	} else if (a->write) {
		memcpy(where, a->data, a->size);
		g->device_writes++;
	} else {
		memcpy(a->data, where, a->size);
		g->device_reads++;
	}
}

/* From the record, or to userspace. */
static int device_access(struct guest *g, struct access *a, void *buf)
{
	if (g->sync) {
		complete(g, a);
	} else if (g->replayed < g->logged) {
		struct access *done = &g->log[g->replayed++];

		/* The same accesses in the same order, or the test is lost. */
		if (done->addr != a->addr || done->size != a->size ||
		    done->write != a->write || done->port != a->port)
			return INSN_ERROR;
		memcpy(a->data, done->data, sizeof(a->data));
	} else {
		g->pending = *a;
		return INSN_EXIT;
	}
	if (!a->write)
		memcpy(buf, a->data, a->size);
	return INSN_OK;
}

static int mmio(struct guest *g, u64 addr, void *buf, unsigned int len,
		bool write)
{
	struct access a = { .addr = addr, .size = len, .write = write };

	if (write)
		memcpy(a.data, buf, len);
	return device_access(g, &a, buf);
}

static int do_fetch(void *opaque, u64 addr, void *buf, unsigned int len,
		    struct insn_fault *fault)
{
	struct guest *g = opaque;
	int ret = check(g, addr, len, false, fault);

	if ((addr & 0xfff) + len > 0x1000)
		return INSN_ERROR;
	if (ret == INSN_OK)
		memcpy(buf, memory(g, addr), len);
	return ret;
}

static int do_read(void *opaque, u64 addr, void *buf, unsigned int len,
		   struct insn_fault *fault)
{
	struct guest *g = opaque;
	int ret = check(g, addr, len, false, fault);

	if (ret != INSN_OK)
		return ret;
	if (in_page(addr, DEVICE))
		return mmio(g, addr, buf, len, false);
	memcpy(buf, memory(g, addr), len);
	return INSN_OK;
}

static int do_probe(void *opaque, u64 addr, unsigned int len,
		    struct insn_fault *fault)
{
	struct guest *g = opaque;

	return check(g, addr, len, true, fault);
}

static int do_write(void *opaque, u64 addr, const void *buf, unsigned int len,
		    struct insn_fault *fault)
{
	struct guest *g = opaque;
	int ret = check(g, addr, len, true, fault);

	if (ret != INSN_OK)
		return ret;
	if (in_page(addr, DEVICE))
		return mmio(g, addr, (void *)buf, len, true);
	memcpy(memory(g, addr), buf, len);
	return INSN_OK;
}

static int do_cmpxchg(void *opaque, u64 addr, const void *old,
		      const void *new, unsigned int len,
		      struct insn_fault *fault)
{
	struct guest *g = opaque;
	int ret = check(g, addr, len, true, fault);

	if (ret != INSN_OK)
		return ret;
	if (in_page(addr, DEVICE))
		return mmio(g, addr, (void *)new, len, true);
	if (g->steal) {
		(*memory(g, addr))++;
		g->steal = false;
	}
	if (memcmp(memory(g, addr), old, len))
		return INSN_RETRY;
	memcpy(memory(g, addr), new, len);
	return INSN_OK;
}

static void do_commit(void *opaque)
{
	struct guest *g = opaque;

	g->logged = 0;
	g->replayed = 0;
	g->commits++;
}

static int do_in(void *opaque, u16 port, unsigned int size, unsigned int ahead,
		 u32 *val, struct insn_fault *fault)
{
	struct access a = { .addr = port, .size = size, .port = true };

	(void)fault;
	(void)ahead;
	*val = 0;
	return device_access(opaque, &a, val);
}

static int do_out(void *opaque, u16 port, unsigned int size, u32 val,
		  struct insn_fault *fault)
{
	struct access a = {
		.addr = port, .size = size, .port = true, .write = true,
	};

	(void)fault;
	memcpy(a.data, &val, size);
	return device_access(opaque, &a, &val);
}

static int do_read_cr(void *opaque, unsigned int nr, u64 *val,
		      struct insn_fault *fault)
{
	(void)fault;
	*val = ((struct guest *)opaque)->cr[nr];
	return INSN_OK;
}

static int do_write_cr(void *opaque, unsigned int nr, u64 val,
		       struct insn_fault *fault)
{
	(void)fault;
	((struct guest *)opaque)->cr[nr] = val;
	return INSN_OK;
}

static int do_read_dr(void *opaque, unsigned int nr, u64 *val,
		      struct insn_fault *fault)
{
	(void)fault;
	*val = ((struct guest *)opaque)->dr[nr];
	return INSN_OK;
}

static int do_write_dr(void *opaque, unsigned int nr, u64 val,
		       struct insn_fault *fault)
{
	(void)fault;
	((struct guest *)opaque)->dr[nr] = val;
	return INSN_OK;
}

static int do_invlpg(void *opaque, u64 linear, struct insn_fault *fault)
{
	(void)fault;
	((struct guest *)opaque)->invalidated = linear;
	return INSN_OK;
}

static int do_sse_read(void *opaque, unsigned int reg, u8 *val)
{
	memcpy(val, ((struct guest *)opaque)->xmm[reg], 16);
	return INSN_OK;
}

static int do_sse_write(void *opaque, unsigned int reg, const u8 *val)
{
	memcpy(((struct guest *)opaque)->xmm[reg], val, 16);
	return INSN_OK;
}

const struct insn_ops guest_ops = {
	.fetch = do_fetch,
	.read = do_read,
	.write = do_write,
	.probe_write = do_probe,
	.cmpxchg = do_cmpxchg,
	.commit = do_commit,
	.io_in = do_in,
	.io_out = do_out,
	.read_cr = do_read_cr,
	.write_cr = do_write_cr,
	.read_dr = do_read_dr,
	.write_dr = do_write_dr,
	.invlpg = do_invlpg,
	.sse_read = do_sse_read,
	.sse_write = do_sse_write,
};

void guest_init(struct guest *g, enum insn_mode mode)
{
	bool wide = mode == INSN_PROT32;
	struct insn_cpu *cpu = &g->cpu;
	unsigned int i;

	memset(g, 0, sizeof(*g));
	cpu->mode = mode;
	cpu->rip = CODE;
	cpu->rflags = X86_EFLAGS_FIXED;
	cpu->regs[INSN_RSP] = STACK;
	for (i = 0; i < INSN_NR_SEGS; i++) {
		struct insn_seg *seg = &cpu->seg[i];

		seg->limit = wide ? 0xffffffff : 0xffff;
		seg->type = i == INSN_CS ? 11 : 3;
		seg->s = 1;
		seg->present = 1;
		seg->db = wide;
		seg->selector = 8 * i;
	}
	cpu->seg[INSN_CS].l = mode == INSN_LONG64;
	if (mode != INSN_REAL)
		cpu->cr0 = X86_CR0_PE;
	if (mode == INSN_VM86)
		cpu->cpl = 3;
	cpu->cr4 = X86_CR4_OSFXSR;
	g->cr[0] = cpu->cr0;
}

unsigned int guest_code(struct guest *g, const char *hex)
{
	u64 at = g->cpu.seg[INSN_CS].base + g->cpu.rip;
	unsigned int byte, n = 0;
	int used;

	while (sscanf(hex, " %2x%n", &byte, &used) == 1) {
		g->ram[(at + n++) % RAM_SIZE] = byte;
		hex += used;
	}
	return n;
}

int guest_step(struct guest *g)
{
	int ret;

	g->replayed = 0;
	ret = insn_fetch(&g->cpu, &guest_ops, g, &g->insn, &g->fault);
	return ret ?: insn_execute(&g->cpu, &guest_ops, g, &g->insn, &g->fault);
}

int guest_run(struct guest *g)
{
	unsigned int limit = 10000;
	int ret;

	while (limit--) {
		ret = guest_step(g);
		if (ret == INSN_EXIT) {
			if (g->logged == ARRAY_SIZE(g->log))
				return INSN_ERROR;
			g->exits++;
			complete(g, &g->pending);
			g->log[g->logged++] = g->pending;
		} else if (ret != INSN_DONE || g->insn.retired) {
			return ret;
		}
	}
	return INSN_ERROR;
}
