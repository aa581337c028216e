// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registers: reset values, the rules of the control registers, and the
 * ioctls that read and write them.
 */
#include <linux/nospec.h>
#include <linux/string.h>
#include <uapi/asm/debugreg.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "../keel.h"
#include "../irq/irq.h"

#define CR0_KNOWN	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | \
			 X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | \
			 X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
/* SDM vol. 3 "Debug Registers": bits that read as one */
#define DR6_FIXED	0xffff0ff0UL
#define DR6_VOLATILE	0x0000e00fUL

void keel_regs_read(struct keel_vcpu *vcpu, u32 groups)
{
	keel_backend->read_regs(vcpu, groups);
	vcpu->regs.valid |= groups;
}

static void reset_segment(struct kvm_segment *seg, u8 type, u8 s)
{
	*seg = (struct kvm_segment) {
		.limit = 0xffff, .type = type, .present = 1, .s = s,
	};
}

/* SDM vol. 3 "Processor State After Reset", table 10-1; APM vol. 2 14.1.3. */
void keel_regs_reset(struct keel_vcpu *vcpu, bool init)
{
	const struct kvm_cpuid_entry2 *leaf1 = keel_cpuid_find(vcpu, 1, 0);
	struct keel_regs *r = &vcpu->regs;
	struct keel_regs old = {};
	u64 cr0 = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET;
	int i;

	/* INIT leaves the two cache bits and the MSRs (but EFER) alone */
	if (init) {
		keel_need(vcpu, KEEL_SYSCALL);
		old = *r;
		cr0 = (r->cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
	}

	memset(r, 0, sizeof(*r));
	r->star = old.star;
	r->lstar = old.lstar;
	r->cstar = old.cstar;
	r->fmask = old.fmask;
	r->kernel_gs_base = old.kernel_gs_base;
	r->sysenter_cs = old.sysenter_cs;
	r->sysenter_esp = old.sysenter_esp;
	r->sysenter_eip = old.sysenter_eip;
	r->gpr[KEEL_RDX] = leaf1 ? leaf1->eax : 0x600;
	r->rip = 0xfff0;
	r->rflags = X86_EFLAGS_FIXED;
	r->cr0 = cr0;
	r->dr6 = DR6_FIXED;
	r->dr7 = KEEL_DR7_FIXED;
	for (i = KEEL_ES; i <= KEEL_GS; i++)
		reset_segment(&r->seg[i], 3, 1);
	r->seg[KEEL_CS].type = 11;
	r->seg[KEEL_CS].selector = 0xf000;
	r->seg[KEEL_CS].base = 0xffff0000;
	reset_segment(&r->seg[KEEL_LDTR], 2, 0);
	reset_segment(&r->seg[KEEL_TR], 11, 0);
	r->gdt.limit = 0xffff;
	r->idt.limit = 0xffff;
	r->valid = KEEL_ALL_GROUPS;
	r->dirty = KEEL_ALL_GROUPS;
}

int keel_cpl(struct keel_vcpu *vcpu)
{
	if (!(vcpu->regs.cr0 & X86_CR0_PE))
		return 0;
	keel_need(vcpu, KEEL_RFLAGS);
	if (vcpu->regs.rflags & X86_EFLAGS_VM)
		return 3;
	if (vcpu->regs.valid & KEEL_CS_SS)
		return vcpu->regs.seg[KEEL_SS].dpl;
	keel_need(vcpu, KEEL_MODE);
	return vcpu->regs.cpl;
}

bool keel_long_mode(struct keel_vcpu *vcpu)
{
	return vcpu->regs.efer & EFER_LMA;
}

bool keel_mode64(struct keel_vcpu *vcpu)
{
	if (!keel_long_mode(vcpu))
		return false;
	if (vcpu->regs.valid & KEEL_CS_SS)
		return vcpu->regs.seg[KEEL_CS].l;
	keel_need(vcpu, KEEL_MODE);
	return vcpu->regs.cs_l;
}

bool keel_paging(struct keel_vcpu *vcpu)
{
	return vcpu->regs.cr0 & X86_CR0_PG;
}

static bool pae_paging(struct keel_vcpu *vcpu, u64 cr0, u64 cr4)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) &&
	       !(vcpu->regs.efer & EFER_LME);
}

/*
 * SDM vol. 3 "PDPTE Registers": MOV to CR0, CR3, CR4 under PAE paging loads
 * them from memory, and raises #GP when a present one has reserved bits set.
 */
static int load_pdptrs(struct keel_vcpu *vcpu, u64 cr3)
{
	u64 reserved, pdptr[4];
	int i;

	if (keel_guest_read(vcpu->vm, cr3 & 0xffffffe0UL, pdptr, sizeof(pdptr)))
		return -EINVAL;
	reserved = GENMASK_ULL(63, vcpu->cpuid.maxphyaddr) | GENMASK_ULL(8, 5) |
		   GENMASK_ULL(2, 1);
	for (i = 0; i < 4; i++)
		if ((pdptr[i] & 1) && (pdptr[i] & reserved))
			return -EINVAL;
	memcpy(vcpu->regs.pdptr, pdptr, sizeof(pdptr));
	vcpu->regs.valid |= KEEL_PDPTRS;
	vcpu->regs.dirty |= KEEL_PDPTRS;
	return 0;
}

int keel_load_pdptrs(struct keel_vcpu *vcpu)
{
	keel_need(vcpu, KEEL_CR3);
	return load_pdptrs(vcpu, vcpu->regs.cr3);
}

static bool cr0_ok(u64 cr0)
{
	if (cr0 & ~(u64)CR0_KNOWN & GENMASK_ULL(63, 32))
		return false;
	if ((cr0 & X86_CR0_NW) && !(cr0 & X86_CR0_CD))
		return false;
	return !(cr0 & X86_CR0_PG) || (cr0 & X86_CR0_PE);
}

/* The part of MOV to CR0 that switches long mode on and off. */
static int cr0_long_mode(struct keel_vcpu *vcpu, u64 cr0, u64 *efer)
{
	bool l;

	keel_need(vcpu, KEEL_CS_SS);
	l = vcpu->regs.seg[KEEL_CS].l;
	if (cr0 & X86_CR0_PG) {
		if (!(vcpu->regs.cr4 & X86_CR4_PAE) || l)
			return -EINVAL;
		*efer |= EFER_LMA;
	} else {
		if (l || (vcpu->regs.cr4 & X86_CR4_PCIDE))
			return -EINVAL;
		*efer &= ~EFER_LMA;
	}
	return 0;
}

int keel_set_cr0(struct keel_vcpu *vcpu, u64 cr0)
{
	struct keel_regs *r = &vcpu->regs;
	u64 changed, efer = r->efer;

	if (!cr0_ok(cr0))
		return -EINVAL;
	cr0 = (cr0 & CR0_KNOWN) | X86_CR0_ET;
	keel_need(vcpu, KEEL_CRS);
	changed = cr0 ^ r->cr0;

	/* LMA without LME is userspace's doing, but ends in the same way */
	if ((changed & X86_CR0_PG) && (efer & (EFER_LME | EFER_LMA)) &&
	    cr0_long_mode(vcpu, cr0, &efer))
		return -EINVAL;
	if (pae_paging(vcpu, cr0, r->cr4) &&
	    (changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) &&
	    keel_load_pdptrs(vcpu))
		return -EINVAL;

	r->cr0 = cr0;
	r->efer = efer;
	r->dirty |= KEEL_CRS;
	if (changed & (X86_CR0_PG | X86_CR0_WP))
		keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	return 0;
}

int keel_set_cr3(struct keel_vcpu *vcpu, u64 cr3)
{
	struct keel_regs *r = &vcpu->regs;
	bool keep = false;

	if (r->cr4 & X86_CR4_PCIDE) {
		keep = cr3 & X86_CR3_PCID_NOFLUSH;
		cr3 &= ~X86_CR3_PCID_NOFLUSH;
	}
	if (keel_long_mode(vcpu) && (cr3 >> vcpu->cpuid.maxphyaddr))
		return -EINVAL;
	if (pae_paging(vcpu, r->cr0, r->cr4) && load_pdptrs(vcpu, cr3))
		return -EINVAL;
	r->cr3 = cr3;
	r->valid |= KEEL_CR3;
	r->dirty |= KEEL_CR3;
	if (!keep)
		keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	return 0;
}

int keel_set_cr4(struct keel_vcpu *vcpu, u64 cr4)
{
	const u64 paging = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP;
	struct keel_regs *r = &vcpu->regs;
	u64 changed;

	keel_need(vcpu, KEEL_CRS);
	changed = cr4 ^ r->cr4;
	if ((cr4 & vcpu->cpuid.cr4_reserved) || !keel_backend->cr_valid(vcpu, r->cr0, cr4))
		return -EINVAL;
	if (keel_long_mode(vcpu) && !(cr4 & X86_CR4_PAE))
		return -EINVAL;
	if (changed & cr4 & X86_CR4_PCIDE) {
		keel_need(vcpu, KEEL_CR3);
		if (!keel_long_mode(vcpu) || (r->cr3 & X86_CR3_PCID_MASK))
			return -EINVAL;
	}
	if (pae_paging(vcpu, r->cr0, cr4) && (changed & paging) && keel_load_pdptrs(vcpu))
		return -EINVAL;

	r->cr4 = cr4;
	r->dirty |= KEEL_CRS;
	if (changed & (paging | X86_CR4_SMAP | X86_CR4_PCIDE))
		keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	return 0;
}

int keel_set_cr8(struct keel_vcpu *vcpu, u64 cr8)
{
	if (cr8 & ~0xfULL)
		return -EINVAL;
	if (vcpu->lapic)
		keel_lapic_set_cr8(vcpu, cr8);
	else
		vcpu->regs.cr8 = cr8;
	return 0;
}

u64 keel_get_cr8(struct keel_vcpu *vcpu)
{
	return vcpu->lapic ? keel_lapic_get_cr8(vcpu) : vcpu->regs.cr8;
}

/* CR0, CR2, CR3, CR4 and CR8, as MOV reads and writes them. */
u64 keel_get_cr(struct keel_vcpu *vcpu, int cr)
{
	switch (cr) {
	case 0:
		keel_need(vcpu, KEEL_CRS);
		return vcpu->regs.cr0;
	case 2:
		return vcpu->regs.cr2;
	case 3:
		keel_need(vcpu, KEEL_CR3);
		return vcpu->regs.cr3;
	case 4:
		keel_need(vcpu, KEEL_CRS);
		return vcpu->regs.cr4;
	default:
		return keel_get_cr8(vcpu);
	}
}

int keel_set_cr(struct keel_vcpu *vcpu, int cr, u64 value)
{
	switch (cr) {
	case 0:
		return keel_set_cr0(vcpu, value);
	case 2:
		vcpu->regs.cr2 = value;
		return 0;
	case 3:
		return keel_set_cr3(vcpu, value);
	case 4:
		return keel_set_cr4(vcpu, value);
	default:
		return keel_set_cr8(vcpu, value);
	}
}

/*
 * @host: from userspace, which may skip the guest's order. LMA is not written but
 * follows from LME and CR0.PG; KVM_SET_SREGS has its own way.
 */
int keel_set_efer(struct keel_vcpu *vcpu, u64 efer, bool host)
{
	struct keel_regs *r = &vcpu->regs;

	if (efer & vcpu->cpuid.efer_reserved)
		return -EINVAL;
	if (!host && keel_paging(vcpu) && ((efer ^ r->efer) & EFER_LME))
		return -EINVAL;
	efer = (efer & ~EFER_LMA) | (r->efer & EFER_LMA);
	if ((efer ^ r->efer) & EFER_NX)
		keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	keel_change(vcpu, KEEL_CRS);
	r->efer = efer;
	return 0;
}

/* @n is 0..3, 6 or 7; that 4 and 5 mean 6 and 7 is the caller's knowledge. */
int keel_set_dr(struct keel_vcpu *vcpu, int n, u64 value)
{
	struct keel_regs *r = &vcpu->regs;

	keel_change(vcpu, KEEL_DRS);
	switch (n) {
	case 0 ... 3:
		r->dr[array_index_nospec(n, 4)] = value;
		return 0;
	case 6:
		if (value >> 32)
			return -EINVAL;
		r->dr6 = (value & DR6_VOLATILE) | DR6_FIXED;
		return 0;
	case 7:
		if (value >> 32)
			return -EINVAL;
		r->dr7 = (value & KEEL_DR7_WRITABLE) | KEEL_DR7_FIXED;
		return 0;
	}
	return -EINVAL;
}

int keel_get_dr(struct keel_vcpu *vcpu, int n, u64 *value)
{
	struct keel_regs *r = &vcpu->regs;

	keel_need(vcpu, KEEL_DRS);
	switch (n) {
	case 0 ... 3:
		*value = r->dr[array_index_nospec(n, 4)];
		return 0;
	case 6:
		*value = r->dr6;
		return 0;
	case 7:
		*value = r->dr7;
		return 0;
	}
	return -EINVAL;
}

/* ---- ioctls ---- */

int keel_ioctl_get_regs(struct keel_vcpu *vcpu, struct kvm_regs *out)
{
	const u64 *g = vcpu->regs.gpr;

	keel_need(vcpu, KEEL_RIP | KEEL_RSP | KEEL_RFLAGS);
	*out = (struct kvm_regs) {
		.rax = g[KEEL_RAX], .rbx = g[KEEL_RBX], .rcx = g[KEEL_RCX],
		.rdx = g[KEEL_RDX], .rsi = g[KEEL_RSI], .rdi = g[KEEL_RDI],
		.rsp = g[KEEL_RSP_REG], .rbp = g[KEEL_RBP],
		.r8 = g[KEEL_R8], .r9 = g[KEEL_R9], .r10 = g[KEEL_R10],
		.r11 = g[KEEL_R11], .r12 = g[KEEL_R12], .r13 = g[KEEL_R13],
		.r14 = g[KEEL_R14], .r15 = g[KEEL_R15],
		.rip = vcpu->regs.rip, .rflags = vcpu->regs.rflags,
	};
	return 0;
}

int keel_ioctl_set_regs(struct keel_vcpu *vcpu, const struct kvm_regs *in)
{
	u64 *g = vcpu->regs.gpr;

	keel_change(vcpu, KEEL_RIP | KEEL_RSP | KEEL_RFLAGS);
	g[KEEL_RAX] = in->rax;
	g[KEEL_RBX] = in->rbx;
	g[KEEL_RCX] = in->rcx;
	g[KEEL_RDX] = in->rdx;
	g[KEEL_RSI] = in->rsi;
	g[KEEL_RDI] = in->rdi;
	g[KEEL_RSP_REG] = in->rsp;
	g[KEEL_RBP] = in->rbp;
	g[KEEL_R8] = in->r8;
	g[KEEL_R9] = in->r9;
	g[KEEL_R10] = in->r10;
	g[KEEL_R11] = in->r11;
	g[KEEL_R12] = in->r12;
	g[KEEL_R13] = in->r13;
	g[KEEL_R14] = in->r14;
	g[KEEL_R15] = in->r15;
	vcpu->regs.rip = in->rip;
	vcpu->regs.rflags = in->rflags | X86_EFLAGS_FIXED;
	/* a half-delivered exception belongs to the state that was replaced */
	vcpu->events.exception.pending = false;
	vcpu->events.exception.injected = false;
	keel_request(vcpu, KEEL_REQ_EVENT);
	return 0;
}

/* What kvm_sregs and kvm_sregs2 have in common, field by field. */
#define GET_SREGS(vcpu, s) do {						\
	const struct keel_regs *r = &(vcpu)->regs;			\
									\
	keel_need(vcpu, KEEL_SEGS | KEEL_TABLES | KEEL_CR3 | KEEL_CRS);	\
	(s)->es = r->seg[KEEL_ES];					\
	(s)->cs = r->seg[KEEL_CS];					\
	(s)->ss = r->seg[KEEL_SS];					\
	(s)->ds = r->seg[KEEL_DS];					\
	(s)->fs = r->seg[KEEL_FS];					\
	(s)->gs = r->seg[KEEL_GS];					\
	(s)->ldt = r->seg[KEEL_LDTR];					\
	(s)->tr = r->seg[KEEL_TR];					\
	(s)->gdt = r->gdt;						\
	(s)->idt = r->idt;						\
	(s)->cr0 = r->cr0;						\
	(s)->cr2 = r->cr2;						\
	(s)->cr3 = r->cr3;						\
	(s)->cr4 = r->cr4;						\
	(s)->cr8 = keel_get_cr8(vcpu);					\
	(s)->efer = r->efer;						\
	(s)->apic_base = (vcpu)->msrs.apic_base;			\
} while (0)

int keel_ioctl_get_sregs(struct keel_vcpu *vcpu, struct kvm_sregs *s)
{
	GET_SREGS(vcpu, s);
	if (vcpu->events.interrupt.injected && !vcpu->events.interrupt.soft)
		__set_bit(vcpu->events.interrupt.vector,
			  (unsigned long *)s->interrupt_bitmap);
	return 0;
}

int keel_ioctl_get_sregs2(struct keel_vcpu *vcpu, struct kvm_sregs2 *s)
{
	GET_SREGS(vcpu, s);
	if (!pae_paging(vcpu, vcpu->regs.cr0, vcpu->regs.cr4))
		return 0;
	keel_need(vcpu, KEEL_PDPTRS);
	memcpy(s->pdptrs, vcpu->regs.pdptr, sizeof(s->pdptrs));
	s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	return 0;
}

/* Would the CPU take this combination? Everything else is the guest's affair. */
static bool sregs_ok(struct keel_vcpu *vcpu, const struct kvm_sregs2 *s)
{
	if (!cr0_ok(s->cr0) || (s->cr4 & vcpu->cpuid.cr4_reserved) ||
	    (s->efer & vcpu->cpuid.efer_reserved) || s->cr8 > 15)
		return false;
	if ((s->efer & EFER_LME) && (s->cr0 & X86_CR0_PG)) {
		/* SDM vol. 3 "IA-32e mode" consistency checks */
		if (!(s->cr4 & X86_CR4_PAE) || !(s->efer & EFER_LMA))
			return false;
		if (s->cr3 >> vcpu->cpuid.maxphyaddr)
			return false;
	} else if ((s->efer & EFER_LMA) || s->cs.l) {
		return false;
	}
	return keel_backend->cr_valid(vcpu, s->cr0, s->cr4);
}

static int set_sregs(struct keel_vcpu *vcpu, const struct kvm_sregs2 *s)
{
	struct keel_regs *r = &vcpu->regs;
	int err;

	if (!sregs_ok(vcpu, s))
		return -EINVAL;
	err = keel_set_msr(vcpu, MSR_IA32_APICBASE, s->apic_base, true);
	if (err)
		return err;

	/* an instruction under way was fetched in another mode, perhaps */
	vcpu->io.fetched = false;
	keel_change(vcpu, KEEL_SEGS | KEEL_TABLES | KEEL_CR3 | KEEL_CRS);
	r->seg[KEEL_ES] = s->es;
	r->seg[KEEL_CS] = s->cs;
	r->seg[KEEL_SS] = s->ss;
	r->seg[KEEL_DS] = s->ds;
	r->seg[KEEL_FS] = s->fs;
	r->seg[KEEL_GS] = s->gs;
	r->seg[KEEL_LDTR] = s->ldt;
	r->seg[KEEL_TR] = s->tr;
	r->gdt = s->gdt;
	r->idt = s->idt;
	r->cr0 = (s->cr0 & CR0_KNOWN) | X86_CR0_ET;
	r->cr2 = s->cr2;
	r->cr3 = s->cr3;
	r->cr4 = s->cr4;
	r->efer = s->efer;
	keel_set_cr8(vcpu, s->cr8);
	keel_request(vcpu, KEEL_REQ_TLB_FLUSH);
	keel_request(vcpu, KEEL_REQ_EVENT);

	/* a BSP put at the reset vector was reset: it runs */
	if (vcpu->id == vcpu->vm->bsp_id && s->cs.selector == 0xf000 &&
	    s->cs.base == 0xffff0000 && !(s->cr0 & X86_CR0_PE))
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

int keel_ioctl_set_sregs(struct keel_vcpu *vcpu, const struct kvm_sregs *in)
{
	struct kvm_sregs2 s = {};
	unsigned long vector;
	int err;

	memcpy(&s, in, offsetof(struct kvm_sregs, interrupt_bitmap));
	err = set_sregs(vcpu, &s);
	if (err)
		return err;
	/* memory may not hold them yet: then the entry will say so */
	if (pae_paging(vcpu, s.cr0, s.cr4))
		keel_load_pdptrs(vcpu);

	vector = find_first_bit((const unsigned long *)in->interrupt_bitmap, 256);
	if (vector < 256) {
		vcpu->events.interrupt.injected = true;
		vcpu->events.interrupt.soft = false;
		vcpu->events.interrupt.vector = vector;
	}
	return 0;
}

static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) ==
	      offsetof(struct kvm_sregs2, flags));

int keel_ioctl_set_sregs2(struct keel_vcpu *vcpu, const struct kvm_sregs2 *s)
{
	bool has_pdptrs = s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	bool pae = (s->cr0 & X86_CR0_PG) && (s->cr4 & X86_CR4_PAE) &&
		   !(s->efer & EFER_LMA);
	int err;

	if (s->flags & ~KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if (has_pdptrs && !pae)
		return -EINVAL;
	err = set_sregs(vcpu, s);
	if (err || !pae)
		return err;
	if (!has_pdptrs) {
		keel_load_pdptrs(vcpu);
		return 0;
	}
	memcpy(vcpu->regs.pdptr, s->pdptrs, sizeof(s->pdptrs));
	vcpu->regs.valid |= KEEL_PDPTRS;
	vcpu->regs.dirty |= KEEL_PDPTRS;
	return 0;
}

int keel_ioctl_get_debugregs(struct keel_vcpu *vcpu, struct kvm_debugregs *d)
{
	keel_need(vcpu, KEEL_DRS);
	memcpy(d->db, vcpu->regs.dr, sizeof(d->db));
	d->dr6 = vcpu->regs.dr6;
	d->dr7 = vcpu->regs.dr7;
	return 0;
}

int keel_ioctl_set_debugregs(struct keel_vcpu *vcpu, const struct kvm_debugregs *d)
{
	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	keel_change(vcpu, KEEL_DRS);
	memcpy(vcpu->regs.dr, d->db, sizeof(d->db));
	keel_set_dr(vcpu, 6, d->dr6);
	keel_set_dr(vcpu, 7, d->dr7);
	return 0;
}
