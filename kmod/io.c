// SPDX-License-Identifier: GPL-2.0-only
/*
 * Port and memory-mapped I/O, and the hands of the instruction emulator.
 *
 * An access that no in-kernel device takes is userspace's. A read makes the
 * emulator stop; when the data has come the instruction is executed again from
 * its start, and finds the reads of the first time on record. Writes are
 * recorded too, and are handed out once the emulator has committed them.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/minmax.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <asm/processor-flags.h>
#include <uapi/asm/debugreg.h>
#include <asm/trapnr.h>

#include "keel.h"
#include "trace.h"
#include "irq/irq.h"

/* ---- giving accesses to userspace ---- */

static int port_to_user(struct keel_vcpu *vcpu, u16 port, int size, int count, bool in)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
	return KEEL_TO_USER;
}

static int frag_to_user(struct keel_vcpu *vcpu, const struct keel_io_frag *f, bool write)
{
	struct kvm_run *run = vcpu->run;

	if (f->pio) {
		if (write)
			memcpy(vcpu->pio_page, f->data, f->len);
		return port_to_user(vcpu, f->addr, f->len, write ? 1 : 1 + vcpu->io.ahead,
				    !write);
	}
	vcpu->stats.mmio_exits++;
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = f->addr;
	run->mmio.len = f->len;
	run->mmio.is_write = write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (write)
		memcpy(run->mmio.data, f->data, f->len);
	return KEEL_TO_USER;
}

/* The run page is userspace's to change at any time: one copy, bounded. */
static void frag_from_user(struct keel_vcpu *vcpu, struct keel_io_frag *f)
{
	memcpy(f->data, f->pio ? vcpu->pio_page : (void *)vcpu->run->mmio.data, f->len);
}

/* ---- plain IN and OUT ---- */

/* SDM vol. 1 "General-Purpose Registers": 32-bit results are zero-extended. */
static void set_gpr(u64 *gpr, u64 value, int size)
{
	switch (size) {
	case 1:
		*gpr = (*gpr & ~0xffULL) | (u8)value;
		break;
	case 2:
		*gpr = (*gpr & ~0xffffULL) | (u16)value;
		break;
	case 4:
		*gpr = (u32)value;
		break;
	default:
		*gpr = value;
	}
}

static void set_rax(struct keel_vcpu *vcpu, u32 value, int size)
{
	set_gpr(&vcpu->regs.gpr[KEEL_RAX], value, size);
}

/*
 * QEMU's VAPIC option ROM makes its VMM patch the code before this OUT, and
 * counts on RIP being past it.
 */
#define VAPIC_PORT	0x7e

int keel_port_io(struct keel_vcpu *vcpu)
{
	u16 port = vcpu->exit.io.port;
	u8 size = vcpu->exit.io.size;
	u32 value = 0;

	if (vcpu->exit.io.in) {
		if (!keel_pio_read(vcpu, port, size, &value)) {
			trace_keel_pio(vcpu, false, port, size, value);
			set_rax(vcpu, value, size);
			return keel_skip_instruction(vcpu);
		}
	} else {
		value = vcpu->regs.gpr[KEEL_RAX];
		trace_keel_pio(vcpu, true, port, size, value);
		if (!keel_pio_write(vcpu, port, size, &value))
			return keel_skip_instruction(vcpu);
		memcpy(vcpu->pio_page, &value, size);
	}

	keel_need(vcpu, KEEL_RIP);
	vcpu->io.rip = vcpu->regs.rip;
	vcpu->io.size = size;
	if (vcpu->exit.io.in) {
		vcpu->io.pending = KEEL_IO_PORT_IN;
	} else if (port == VAPIC_PORT &&
		   !keel_quirk_disabled(vcpu->vm, KVM_X86_QUIRK_OUT_7E_INC_RIP)) {
		int ret = keel_skip_instruction(vcpu);

		if (ret != KEEL_RESUME)
			return ret;
	} else {
		vcpu->io.pending = KEEL_IO_PORT_OUT;
	}
	return port_to_user(vcpu, port, size, 1, vcpu->exit.io.in);
}

static int complete_port_io(struct keel_vcpu *vcpu, bool in)
{
	u32 value = 0;

	/* userspace put the vCPU elsewhere: there is nothing to complete */
	keel_need(vcpu, KEEL_RIP);
	if (vcpu->regs.rip != vcpu->io.rip)
		return KEEL_RESUME;
	if (in) {
		memcpy(&value, vcpu->pio_page, min_t(u8, vcpu->io.size, sizeof(value)));
		set_rax(vcpu, value, vcpu->io.size);
	}
	return keel_skip_instruction(vcpu);
}

/* ---- emulator: from linear addresses to RAM and devices ---- */

struct emulation {
	struct keel_vcpu *vcpu;
	struct insn_cpu cpu;
	u8 replayed_reads;	/* answered from the record in this pass */
	bool committed;		/* an iteration of a REP is complete in this pass */
	bool wants_read;	/* io.reads[io.nr_reads] is to be asked of userspace */
	bool probed_ram;	/* the last op_probe_write() found nothing but RAM */
	unsigned int ahead;	/* reads of the port that can be asked for at once */
	bool gpa_known;		/* vcpu->exit.fault.gpa is that of the memory operand */
	int err;		/* -EFAULT: guest memory that cannot be had */
};

/* A linear range is in at most two pages. */
struct piece {
	gpa_t gpa;
	unsigned int len;
	bool ram;
};

/*
 * The CPU has translated the operand before the access exited, and checked that
 * the guest may do it. What it faulted on was no memory.
 */
static bool translated_by_cpu(const struct emulation *em, u64 linear, unsigned int len,
			      u32 access, struct piece *p)
{
	const struct keel_exit *e = &em->vcpu->exit;

	if (!em->gpa_known || ((access & KEEL_WALK_WRITE) && !e->fault.write) ||
	    offset_in_page(linear) != offset_in_page(e->fault.gpa) ||
	    offset_in_page(linear) + len > PAGE_SIZE)
		return false;
	*p = (struct piece) { .gpa = e->fault.gpa, .len = len };
	return true;
}

static u32 walk_flags(const struct emulation *em, u32 access)
{
	return em->cpu.cpl == 3 ? access | KEEL_WALK_USER : access;
}

static int page_fault(struct insn_fault *fault, const struct keel_walk *walk, u64 linear)
{
	fault->vector = X86_TRAP_PF;
	fault->has_error = true;
	fault->error = walk->error;
	fault->cr2 = linear;
	return INSN_FAULT;
}

static int translate(struct emulation *em, u64 linear, unsigned int len, u32 access,
		     struct piece *p, struct insn_fault *fault)
{
	struct keel_vcpu *vcpu = em->vcpu;
	struct keel_walk walk;
	int n = 0;

	if (translated_by_cpu(em, linear, len, access, p))
		return 1;
	while (len) {
		unsigned int part = min_t(unsigned int, len,
					  PAGE_SIZE - offset_in_page(linear));

		if (keel_guest_walk(vcpu, linear, walk_flags(em, access), &walk))
			return -page_fault(fault, &walk, linear);
		p[n].gpa = walk.gpa;
		p[n].len = part;
		p[n].ram = keel_guest_has_ram(vcpu->vm, keel_gfn(p[n].gpa),
					      access & KEEL_WALK_WRITE);
		n++;
		linear += part;
		/* a 32-bit guest's addresses wrap */
		if (em->cpu.mode != INSN_LONG64)
			linear = (u32)linear;
		len -= part;
	}
	return n;
}

/*
 * A REP instruction reads from userspace for as long as its counter says, one
 * KVM_RUN an iteration. Between two of them the guest can be interrupted, and
 * KVM_RUN left.
 */
static bool attention_due(const struct emulation *em)
{
	struct keel_vcpu *vcpu = em->vcpu;

	return em->committed &&
	       (READ_ONCE(vcpu->requests) || signal_pending(current) ||
		READ_ONCE(vcpu->run->KEEL_RUN_FIELD(immediate_exit)));
}

static bool writes_outstanding(const struct keel_io *io)
{
	return io->nr_committed;
}

/* Read from a device: on record, in the kernel, or at userspace. */
static int device_read(struct emulation *em, u64 addr, u8 *buf, u8 len, bool pio)
{
	struct keel_vcpu *vcpu = em->vcpu;
	struct keel_io *io = &vcpu->io;
	struct keel_io_frag *f;

	if (em->replayed_reads < io->nr_reads) {
		f = &io->reads[array_index_nospec(em->replayed_reads, KEEL_MAX_FRAGS)];
		if (f->addr == addr && f->len == len && f->pio == pio) {
			memcpy(buf, f->data, len);
			em->replayed_reads++;
			return INSN_OK;
		}
		/* registers or memory changed meanwhile: start over */
		io->nr_reads = em->replayed_reads;
	}
	if (writes_outstanding(io))
		return INSN_EXIT;
	if (io->nr_reads == KEEL_MAX_FRAGS)
		return INSN_ERROR;

	f = &io->reads[io->nr_reads];
	*f = (struct keel_io_frag){ .addr = addr, .len = len, .pio = pio };
	if (pio && io->ahead) {
		memcpy(f->data, vcpu->pio_page + io->ahead_at, len);
		io->ahead_at += len;
		io->ahead--;
	} else if (pio ? keel_pio_read(vcpu, addr, len, f->data) :
			 keel_mmio_read(vcpu, addr, len, f->data)) {
		em->wants_read = !attention_due(em);
		return INSN_EXIT;
	}
	/* reading may have had an effect: never do it again for this instruction */
	io->nr_reads++;
	em->replayed_reads++;
	memcpy(buf, f->data, len);
	if (!pio)
		trace_keel_mmio(vcpu, false, addr, len, *(u64 *)f->data);
	return INSN_OK;
}

static int device_write(struct emulation *em, u64 addr, const u8 *buf, u8 len, bool pio)
{
	struct keel_io *io = &em->vcpu->io;
	struct keel_io_frag *f;

	if (writes_outstanding(io))
		return INSN_EXIT;
	if (io->nr_writes == KEEL_MAX_FRAGS)
		return INSN_ERROR;
	f = &io->writes[io->nr_writes++];
	*f = (struct keel_io_frag){ .addr = addr, .len = len, .pio = pio };
	memcpy(f->data, buf, len);
	return INSN_OK;
}

/* Userspace sees at most 8 bytes an access. */
static int mmio(struct emulation *em, gpa_t gpa, void *buf, unsigned int len, bool write)
{
	u8 *data = buf;

	while (len) {
		u8 part = min(len, 8U);
		int ret = write ? device_write(em, gpa, data, part, false) :
				  device_read(em, gpa, data, part, false);

		if (ret != INSN_OK)
			return ret;
		gpa += part;
		data += part;
		len -= part;
	}
	return INSN_OK;
}

/* The slot is gone since translate() looked: it is a device's now. Or memory fails. */
static int ram_error(struct emulation *em, gpa_t gpa, bool write)
{
	if (!keel_guest_has_ram(em->vcpu->vm, keel_gfn(gpa), write))
		return INSN_RETRY;
	em->err = -EFAULT;
	return INSN_ERROR;
}

static int op_fetch(void *opaque, u64 linear, void *buf, unsigned int len,
		    struct insn_fault *fault)
{
	struct emulation *em = opaque;
	struct keel_vcpu *vcpu = em->vcpu;
	struct keel_walk walk;
	int err;

	err = keel_guest_fetch(vcpu, linear, walk_flags(em, KEEL_WALK_EXEC), buf, len, &walk);
	if (!err)
		return INSN_OK;
	if (err == -EFAULT)
		return page_fault(fault, &walk, linear);
	/* code in device memory: the bytes cannot be had */
	if (!keel_guest_has_ram(vcpu->vm, keel_gfn(walk.gpa), false))
		return INSN_UNKNOWN;
	em->err = -EFAULT;
	return INSN_ERROR;
}

static int op_read(void *opaque, u64 linear, void *buf, unsigned int len,
		   struct insn_fault *fault)
{
	struct emulation *em = opaque;
	struct piece p[2];
	int n = translate(em, linear, len, 0, p, fault);
	int i, ret;

	if (n < 0)
		return -n;
	for (i = 0; i < n; i++) {
		if (p[i].ram) {
			if (keel_guest_read(em->vcpu->vm, p[i].gpa, buf, p[i].len))
				return ram_error(em, p[i].gpa, false);
		} else {
			ret = mmio(em, p[i].gpa, buf, p[i].len, false);
			if (ret != INSN_OK)
				return ret;
		}
		buf += p[i].len;
	}
	return INSN_OK;
}

/* Devices first: RAM is not to change if they make the instruction stop. */
static int op_write(void *opaque, u64 linear, const void *buf, unsigned int len,
		    struct insn_fault *fault)
{
	struct emulation *em = opaque;
	struct piece p[2];
	int n = translate(em, linear, len, KEEL_WALK_WRITE, p, fault);
	unsigned int offset;
	int i, ret;

	if (n < 0)
		return -n;
	for (i = 0, offset = 0; i < n; offset += p[i++].len) {
		if (p[i].ram)
			continue;
		ret = mmio(em, p[i].gpa, (void *)buf + offset, p[i].len, true);
		if (ret != INSN_OK)
			return ret;
	}
	for (i = 0, offset = 0; i < n; offset += p[i++].len)
		if (p[i].ram && keel_guest_write(em->vcpu, p[i].gpa, buf + offset, p[i].len))
			return ram_error(em, p[i].gpa, true);
	return INSN_OK;
}

static int op_probe_write(void *opaque, u64 linear, unsigned int len,
			  struct insn_fault *fault)
{
	struct piece p[2];
	struct emulation *em = opaque;
	int n = translate(em, linear, len, KEEL_WALK_WRITE, p, fault);

	if (n < 0)
		return -n;
	em->probed_ram = p[0].ram && p[n - 1].ram;
	return INSN_OK;
}

static int op_cmpxchg(void *opaque, u64 linear, const void *old, const void *new,
		      unsigned int len, struct insn_fault *fault)
{
	struct emulation *em = opaque;
	struct piece p[2];
	u64 expected = 0, value = 0;
	int n, err;

	n = translate(em, linear, len, KEEL_WALK_WRITE, p, fault);
	if (n < 0)
		return -n;
	/* misaligned, 16 bytes, or on a device: a plain write must do */
	if (n > 1 || !p[0].ram || len > 8 || (p[0].gpa & (len - 1)))
		return op_write(opaque, linear, new, len, fault);

	memcpy(&expected, old, len);
	memcpy(&value, new, len);
	err = keel_guest_cmpxchg(em->vcpu, p[0].gpa, &expected, value, len);
	if (err == -EAGAIN)
		return INSN_RETRY;
	return err ? ram_error(em, p[0].gpa, true) : INSN_OK;
}

/*
 * What the emulator has done so far is architectural. Device writes take
 * effect: in the kernel now, at userspace after the emulator has returned.
 */
static void op_commit(void *opaque)
{
	struct emulation *em = opaque;
	struct keel_vcpu *vcpu = em->vcpu;
	struct keel_io *io = &vcpu->io;
	int i, kept = io->nr_committed;

	for (i = io->nr_committed; i < io->nr_writes; i++) {
		struct keel_io_frag *f = &io->writes[i];

		if (f->pio)
			trace_keel_pio(vcpu, true, f->addr, f->len, *(u64 *)f->data);
		else
			trace_keel_mmio(vcpu, true, f->addr, f->len, *(u64 *)f->data);
		if (f->pio ? keel_pio_write(vcpu, f->addr, f->len, f->data) :
			     keel_mmio_write(vcpu, f->addr, f->len, f->data))
			io->writes[kept++] = *f;
	}
	io->nr_writes = kept;
	io->nr_committed = kept;
	io->nr_reads = 0;
	em->replayed_reads = 0;
	em->committed = true;
}

/*
 * The CPU has checked IOPL and the TSS bitmap, for the access that exited. Code
 * that another vCPU has changed since may be about another.
 */
static bool port_checked(const struct keel_vcpu *vcpu, u16 port, unsigned int size, bool in)
{
	const struct keel_exit *e = &vcpu->exit;

	return e->reason == KEEL_EXIT_IO && e->io.port == port && e->io.size == size &&
	       e->io.in == in;
}

static int op_io_in(void *opaque, u16 port, unsigned int size, unsigned int ahead,
		    u32 *val, struct insn_fault *fault)
{
	struct emulation *em = opaque;

	*val = 0;
	if (!port_checked(em->vcpu, port, size, true))
		return INSN_UNKNOWN;
	/* what is written to a device goes to userspace before the next read */
	em->ahead = em->probed_ram ? ahead : 1;
	return device_read(opaque, port, (u8 *)val, size, true);
}

static int op_io_out(void *opaque, u16 port, unsigned int size, u32 val,
		     struct insn_fault *fault)
{
	struct emulation *em = opaque;

	if (!port_checked(em->vcpu, port, size, false))
		return INSN_UNKNOWN;
	return device_write(opaque, port, (u8 *)&val, size, true);
}

static int gp_fault(struct insn_fault *fault)
{
	*fault = (struct insn_fault){ .vector = X86_TRAP_GP, .has_error = true };
	return INSN_FAULT;
}

static int op_sse_read(void *opaque, unsigned int reg, u8 *val)
{
	struct emulation *em = opaque;

	keel_xmm_read(em->vcpu, reg, val);
	return INSN_OK;
}

static int op_sse_write(void *opaque, unsigned int reg, const u8 *val)
{
	struct emulation *em = opaque;

	keel_xmm_write(em->vcpu, reg, val);
	return INSN_OK;
}

/* SDM vol. 3, 18.2.4: any access to a debug register traps while DR7.GD is set. */
static int general_detect(struct keel_vcpu *vcpu, struct insn_fault *fault)
{
	keel_need(vcpu, KEEL_DRS);
	if (!(keel_live_dr7(vcpu) & KEEL_DR7_GD))
		return INSN_OK;
	*fault = (struct insn_fault){ .vector = X86_TRAP_DB };
	return INSN_FAULT;
}

static int op_read_dr(void *opaque, unsigned int nr, u64 *val, struct insn_fault *fault)
{
	struct emulation *em = opaque;

	if (general_detect(em->vcpu, fault))
		return INSN_FAULT;
	return keel_get_dr(em->vcpu, nr, val) ? gp_fault(fault) : INSN_OK;
}

static int op_write_dr(void *opaque, unsigned int nr, u64 val, struct insn_fault *fault)
{
	struct emulation *em = opaque;

	if (general_detect(em->vcpu, fault))
		return INSN_FAULT;
	return keel_set_dr(em->vcpu, nr, val) ? gp_fault(fault) : INSN_OK;
}

/* On SVM without decode assists: the exit names the register, not the operand. */
static int op_read_cr(void *opaque, unsigned int nr, u64 *val, struct insn_fault *fault)
{
	struct emulation *em = opaque;

	*val = keel_get_cr(em->vcpu, nr);
	return INSN_OK;
}

static int op_write_cr(void *opaque, unsigned int nr, u64 val, struct insn_fault *fault)
{
	struct emulation *em = opaque;

	return keel_set_cr(em->vcpu, nr, val) ? gp_fault(fault) : INSN_OK;
}

static const struct insn_ops ops = {
	.fetch = op_fetch,
	.read = op_read,
	.write = op_write,
	.probe_write = op_probe_write,
	.cmpxchg = op_cmpxchg,
	.commit = op_commit,
	.io_in = op_io_in,
	.io_out = op_io_out,
	.read_cr = op_read_cr,
	.write_cr = op_write_cr,
	.read_dr = op_read_dr,
	.write_dr = op_write_dr,
	.sse_read = op_sse_read,
	.sse_write = op_sse_write,
};

/* ---- emulator: the processor's state ---- */

/* ... of what is not 64-bit code */
static enum insn_mode insn_mode(struct keel_vcpu *vcpu)
{
	const struct keel_regs *r = &vcpu->regs;

	if (!(r->cr0 & X86_CR0_PE))
		return INSN_REAL;
	if (r->rflags & X86_EFLAGS_VM)
		return INSN_VM86;
	return r->seg[KEEL_CS].db ? INSN_PROT32 : INSN_PROT16;
}

static void copy_segment(struct emulation *em, int i)
{
	const struct kvm_segment *s = &em->vcpu->regs.seg[i];

	em->cpu.seg[i] = (struct insn_seg) {
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.type = s->type, .s = s->s, .dpl = s->dpl, .present = s->present,
		.l = s->l, .db = s->db, .g = s->g, .avl = s->avl,
		.unusable = s->unusable,
	};
}

static void copy_cs_ss(struct emulation *em)
{
	keel_need(em->vcpu, KEEL_CS_SS);
	copy_segment(em, KEEL_CS);
	copy_segment(em, KEEL_SS);
}

/* All that fetching needs, and in 64-bit code a plain MOV. */
static void emulation_begin(struct emulation *em, struct keel_vcpu *vcpu)
{
	const struct keel_regs *r = &vcpu->regs;

	keel_need(vcpu, KEEL_RIP | KEEL_RSP | KEEL_RFLAGS | KEEL_MODE);
	/* a guest that knows how could make it read ahead of itself, by speculation */
	vcpu->flush_l1d = true;
	em->vcpu = vcpu;
	em->replayed_reads = 0;
	em->wants_read = false;
	em->probed_ram = false;
	em->committed = false;
	em->gpa_known = false;
	em->ahead = 1;
	em->err = 0;
	memcpy(em->cpu.regs, r->gpr, sizeof(r->gpr));
	em->cpu.rip = r->rip;
	em->cpu.rflags = r->rflags;
	em->cpu.cr0 = r->cr0;
	em->cpu.cr4 = r->cr4;
	em->cpu.cpl = keel_cpl(vcpu);
	if (keel_mode64(vcpu)) {
		em->cpu.mode = INSN_LONG64;
		return;
	}
	copy_cs_ss(em);
	em->cpu.mode = insn_mode(vcpu);
}

static void copy_other_segments(struct emulation *em)
{
	int i;

	keel_need(em->vcpu, KEEL_OTHER_SEGS);
	for (i = 0; i < INSN_NR_SEGS; i++)
		if (i != KEEL_CS && i != KEEL_SS)
			copy_segment(em, i);
}

static_assert((int)INSN_NR_REGS == (int)KEEL_NR_GPRS);
static_assert((int)INSN_GS == (int)KEEL_GS && (int)INSN_CS == (int)KEEL_CS);

static void emulation_end(struct emulation *em)
{
	struct keel_vcpu *vcpu = em->vcpu;
	struct keel_regs *r = &vcpu->regs;

	keel_change(vcpu, KEEL_RIP | KEEL_RSP | KEEL_RFLAGS);
	memcpy(r->gpr, em->cpu.regs, sizeof(r->gpr));
	r->rip = em->cpu.rip;
	r->rflags = em->cpu.rflags;
}

static int emulation_failed(struct emulation *em, const struct insn *insn)
{
	struct keel_vcpu *vcpu = em->vcpu;
	struct kvm_run *run = vcpu->run;

	/* a user program of the guest must not be able to end its machine */
	if (em->cpu.cpl == 3 && !READ_ONCE(vcpu->vm->exit_on_emulation_failure)) {
		keel_queue_exception(vcpu, X86_TRAP_UD);
		return KEEL_RESUME;
	}
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 3;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = insn->nr_bytes;
	memset(run->emulation_failure.insn_bytes, 0x90,
	       sizeof(run->emulation_failure.insn_bytes));
	memcpy(run->emulation_failure.insn_bytes, insn->bytes,
	       min_t(size_t, insn->nr_bytes, sizeof(run->emulation_failure.insn_bytes)));
	return KEEL_TO_USER;
}

static int queue_fault(struct keel_vcpu *vcpu, const struct insn_fault *fault)
{
	if (fault->vector == X86_TRAP_PF)
		keel_queue_page_fault(vcpu, fault->cr2, fault->error);
	else if (fault->vector == X86_TRAP_DB)	/* the only one: general detect */
		keel_queue_db(vcpu, KEEL_DR6_BD);
	else if (fault->has_error)
		keel_queue_exception_error(vcpu, fault->vector, fault->error);
	else
		keel_queue_exception(vcpu, fault->vector);
	return KEEL_RESUME;
}

/* Hand out the next access there is, or be done. */
static int next_access(struct keel_vcpu *vcpu)
{
	struct keel_io *io = &vcpu->io;

	if (io->next_write < io->nr_committed) {
		io->pending = KEEL_IO_EMULATE;
		return frag_to_user(vcpu, &io->writes[io->next_write], true);
	}
	io->nr_writes = 0;
	io->nr_committed = 0;
	io->next_write = 0;
	return KEEL_RESUME;
}

/* ---- plain MOV, which nearly all MMIO is ---- */

/*
 * Is it one, of which the CPU has checked and translated all of the operand? What
 * is not aligned may be in two pages.
 */
static bool is_plain_mov(const struct emulation *em, struct insn_mov *mov)
{
	const struct keel_exit *e = &em->vcpu->exit;

	return e->reason == KEEL_EXIT_PAGE_FAULT && !e->fault.table && !e->fault.exec &&
	       insn_is_plain_mov(&em->cpu, &em->vcpu->io.insn, mov) &&
	       mov->store == e->fault.write && !(mov->linear & (mov->size - 1)) &&
	       offset_in_page(mov->linear) == offset_in_page(e->fault.gpa);
}

static u64 *mov_gpr(struct keel_vcpu *vcpu, const struct insn_mov *mov)
{
	if (mov->reg == INSN_RSP)
		keel_change(vcpu, KEEL_RSP);
	return &vcpu->regs.gpr[array_index_nospec(mov->reg, KEEL_NR_GPRS)];
}

static int retire_mov(struct keel_vcpu *vcpu)
{
	vcpu->exit.insn_len = vcpu->io.insn.len;
	/* a fault has set it, for the instruction that is over now */
	keel_need(vcpu, KEEL_RFLAGS);
	if (vcpu->regs.rflags & X86_EFLAGS_RF) {
		vcpu->regs.rflags &= ~(u64)X86_EFLAGS_RF;
		vcpu->regs.dirty |= KEEL_RFLAGS;
	}
	return keel_skip_instruction(vcpu);
}

static int load_plain(struct keel_vcpu *vcpu, const struct insn_mov *mov, u64 value)
{
	trace_keel_mmio(vcpu, false, vcpu->exit.fault.gpa, mov->size, value);
	set_gpr(mov_gpr(vcpu, mov), value, mov->size);
	return retire_mov(vcpu);
}

static int execute_plain_mov(struct keel_vcpu *vcpu, const struct insn_mov *mov)
{
	gpa_t gpa = vcpu->exit.fault.gpa;
	struct keel_io *io = &vcpu->io;
	struct keel_io_frag *f;
	u64 value = 0;
	int ret;

	if (!mov->store) {
		if (!keel_mmio_read(vcpu, gpa, mov->size, &value))
			return load_plain(vcpu, mov, value);
		f = &io->reads[0];
		*f = (struct keel_io_frag){ .addr = gpa, .len = mov->size };
		keel_need(vcpu, KEEL_RIP);
		io->rip = vcpu->regs.rip;
		io->waiting_read = true;
		io->mov = *mov;
		io->pending = KEEL_IO_EMULATE;
		return frag_to_user(vcpu, f, false);
	}
	value = mov->immediate ? io->insn.imm : *mov_gpr(vcpu, mov);
	if (mov->size < sizeof(value))
		value &= BIT_ULL(mov->size * BITS_PER_BYTE) - 1;
	trace_keel_mmio(vcpu, true, gpa, mov->size, value);
	ret = keel_mmio_write(vcpu, gpa, mov->size, &value);
	if (!ret)
		return retire_mov(vcpu);
	f = &io->writes[0];
	*f = (struct keel_io_frag){ .addr = gpa, .len = mov->size };
	memcpy(f->data, &value, sizeof(value));
	io->nr_writes = 1;
	io->nr_committed = 1;
	ret = retire_mov(vcpu);
	return ret == KEEL_RESUME ? next_access(vcpu) : ret;
}

/* ---- all else ---- */

static int fetch(struct emulation *em, struct insn_fault *fault)
{
	struct keel_vcpu *vcpu = em->vcpu;
	int ret;

	if (vcpu->io.fetched)
		return INSN_OK;
	ret = insn_fetch(&em->cpu, &ops, em, &vcpu->io.insn, fault);
	if (ret == INSN_OK)
		vcpu->io.fetched = true;
	return ret;
}

static int execute(struct emulation *em, struct insn_fault *fault)
{
	struct keel_vcpu *vcpu = em->vcpu;
	struct insn *insn = &vcpu->io.insn;

	/* emulation_begin() has left them out */
	if (em->cpu.mode == INSN_LONG64)
		copy_cs_ss(em);
	if (insn_uses_segments(&em->cpu, insn))
		copy_other_segments(em);
	em->gpa_known = vcpu->exit.reason == KEEL_EXIT_PAGE_FAULT &&
			!vcpu->exit.fault.table && !vcpu->exit.fault.exec &&
			insn_has_one_access(insn);
	return insn_execute(&em->cpu, &ops, em, insn, fault);
}

static int emulate(struct keel_vcpu *vcpu)
{
	struct keel_io *io = &vcpu->io;
	const struct insn *insn = &io->insn;
	struct insn_fault fault = {};
	struct emulation em __uninitialized;
	struct insn_mov mov;
	int ret;

	vcpu->stats.insns_emulated++;
	emulation_begin(&em, vcpu);
	ret = fetch(&em, &fault);
	if (ret == INSN_OK && !io->nr_reads && is_plain_mov(&em, &mov))
		return execute_plain_mov(vcpu, &mov);
	if (ret == INSN_OK)
		ret = execute(&em, &fault);
	/* what was not committed will be done again, or never */
	io->nr_writes = io->nr_committed;

	/* not so the iterations of a REP before this one: it fails again when they are over */
	if (em.committed && (ret == INSN_ERROR || ret == INSN_UNKNOWN))
		ret = INSN_RETRY;
	if (ret == INSN_ERROR)
		return em.err ?: keel_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	if (ret == INSN_UNKNOWN)
		return emulation_failed(&em, insn);

	/* completed iterations of a REP count also when the next one stopped */
	emulation_end(&em);
	io->rip = vcpu->regs.rip;
	if (ret == INSN_DONE && insn->retired && vcpu->exit.shadow)
		keel_backend->set_shadow(vcpu, 0);
	if (ret == INSN_DONE && insn->trap)
		keel_queue_db(vcpu, DR_STEP);
	if (ret == INSN_FAULT)
		queue_fault(vcpu, &fault);
	if (em.wants_read) {
		const struct keel_io_frag *f = &io->reads[io->nr_reads];

		io->pending = KEEL_IO_EMULATE;
		io->waiting_read = true;
		/* at most EMU_REP_MAX of them: less than a page */
		io->ahead = f->pio ? em.ahead - 1 : 0;
		io->ahead_at = f->len;
		return frag_to_user(vcpu, f, false);
	}
	return next_access(vcpu);
}

/**
 * keel_emulate() - execute the instruction at RIP in software
 * @vcpu: the vCPU
 *
 * Return: KEEL_RESUME, KEEL_TO_USER with an access or an error, or -EFAULT.
 */
int keel_emulate(struct keel_vcpu *vcpu)
{
	memset(&vcpu->io, 0, offsetof(struct keel_io, insn));
	return emulate(vcpu);
}

static int complete_emulation(struct keel_vcpu *vcpu)
{
	struct keel_io *io = &vcpu->io;

	if (!io->waiting_read) {
		io->next_write++;
		return next_access(vcpu);
	}
	io->waiting_read = false;
	frag_from_user(vcpu, &io->reads[io->nr_reads++]);
	/* not retired: execute it again, unless userspace has put the vCPU elsewhere */
	keel_need(vcpu, KEEL_RIP);
	if (vcpu->regs.rip != io->rip)
		return KEEL_RESUME;
	if (io->mov.size && io->fetched)
		return load_plain(vcpu, &io->mov, *(u64 *)io->reads[0].data);
	return emulate(vcpu);
}

/**
 * keel_complete_io() - finish what the last KVM_RUN left to userspace
 * @vcpu: the vCPU
 *
 * Context: at the start of KVM_RUN.
 * Return: KEEL_RESUME, or KEEL_TO_USER when there is a further access.
 */
int keel_complete_io(struct keel_vcpu *vcpu)
{
	enum keel_io_pending pending = vcpu->io.pending;

	vcpu->io.pending = KEEL_IO_NONE;
	switch (pending) {
	case KEEL_IO_PORT_IN:
	case KEEL_IO_PORT_OUT:
		return complete_port_io(vcpu, pending == KEEL_IO_PORT_IN);
	case KEEL_IO_EMULATE:
		return complete_emulation(vcpu);
	case KEEL_IO_RDMSR:
	case KEEL_IO_WRMSR:
		return keel_complete_msr(vcpu, pending == KEEL_IO_RDMSR);
	default:
		return KEEL_RESUME;
	}
}

int keel_insn_length(struct keel_vcpu *vcpu, struct insn *insn)
{
	struct insn_fault fault = {};
	struct emulation em __uninitialized;
	int ret;

	emulation_begin(&em, vcpu);
	insn->len = 0;
	ret = insn_fetch(&em.cpu, &ops, &em, insn, &fault);
	if (ret == INSN_FAULT || ret == INSN_RETRY)
		return -EAGAIN;
	return ret == INSN_OK ? insn->len : 0;
}
