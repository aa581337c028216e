// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's FPU state. The kernel keeps it as it keeps that of a task: while
 * KVM_RUN is in progress it is the task's, and so survives being scheduled;
 * otherwise it lies in memory. XCR0 alone is switched around each entry, by
 * the backends.
 */
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/fpu/types.h>
#include <asm/processor-flags.h>

#include "../keel.h"

/* What keel has tested, and knows the dependencies of. */
#define AVX512_FEATURES	(XFEATURE_MASK_OPMASK | XFEATURE_MASK_ZMM_Hi256 |	\
			 XFEATURE_MASK_Hi16_ZMM)
#define KNOWN_XFEATURES	(XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | AVX512_FEATURES)

#define XSAVE_SIZE	sizeof(struct kvm_xsave)

#define XCR0_INDEX	0	/* XCR_XFEATURE_ENABLED_MASK, and the only one */

/**
 * keel_host_xcr0() - the state components that guests can have
 *
 * Return: a mask of XFEATURE_MASK_, 0 without XSAVE.
 */
u64 keel_host_xcr0(void)
{
	u64 xcr0;

	if (!boot_cpu_has(X86_FEATURE_OSXSAVE))
		return 0;
	xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK) & KNOWN_XFEATURES;
	if ((xcr0 & AVX512_FEATURES) != AVX512_FEATURES)
		xcr0 &= ~AVX512_FEATURES;
	return xcr0;
}

/* ---- lifetime ---- */

int keel_fpu_init(struct keel_vcpu *vcpu)
{
	return fpu_alloc_guest_fpstate(&vcpu->fpu.guest) ? 0 : -ENOMEM;
}

void keel_fpu_free(struct keel_vcpu *vcpu)
{
	fpu_free_guest_fpstate(&vcpu->fpu.guest);
}

/**
 * keel_fpu_reset() - power-up or INIT
 * @vcpu: the virtual CPU
 * @init: INIT, not power-up
 *
 * INIT leaves all of it as it was (SDM vol. 3 "Processor State After Reset").
 * At power-up, which comes right after keel_fpu_init(), memory already holds
 * the initial state.
 */
void keel_fpu_reset(struct keel_vcpu *vcpu, bool init)
{
	if (!init)
		vcpu->fpu.xcr0 = XFEATURE_MASK_FP;
}

/* ---- who has the registers ---- */

void keel_fpu_enter(struct keel_vcpu *vcpu)
{
	fpu_swap_kvm_fpstate(&vcpu->fpu.guest, true);
	vcpu->fpu.loaded = true;
}

void keel_fpu_leave(struct keel_vcpu *vcpu)
{
	vcpu->fpu.loaded = false;
	fpu_swap_kvm_fpstate(&vcpu->fpu.guest, false);
}

/**
 * keel_set_xcr0() - write XCR0 as XSETBV does
 * @vcpu: the virtual CPU
 * @xcr0: the new value
 *
 * Return: 0, or -EINVAL for what raises #GP (SDM vol. 2 "XSETBV").
 */
int keel_set_xcr0(struct keel_vcpu *vcpu, u64 xcr0)
{
	u64 allowed = vcpu->cpuid.xcr0_supported | XFEATURE_MASK_FP;

	if (!(xcr0 & XFEATURE_MASK_FP) || xcr0 & ~allowed)
		return -EINVAL;
	if (xcr0 & XFEATURE_MASK_YMM && !(xcr0 & XFEATURE_MASK_SSE))
		return -EINVAL;
	if (xcr0 & AVX512_FEATURES &&
	    (!(xcr0 & XFEATURE_MASK_YMM) ||
	     (xcr0 & AVX512_FEATURES) != AVX512_FEATURES))
		return -EINVAL;
	vcpu->fpu.xcr0 = xcr0;
	return 0;
}

/* ---- ioctls; KVM_RUN is not in progress, so the state is in memory ---- */

static void to_user_format(struct keel_vcpu *vcpu, void *buf)
{
	fpu_copy_guest_fpstate_to_uabi(&vcpu->fpu.guest, buf, XSAVE_SIZE,
				       vcpu->cpuid.xcr0_supported | XFEATURE_MASK_FPSSE, 0);
}

static int from_user_format(struct keel_vcpu *vcpu, const void *buf)
{
	return fpu_copy_uabi_to_guest_fpstate(&vcpu->fpu.guest, buf,
					      keel_host_xcr0() | XFEATURE_MASK_FPSSE,
					      NULL);
}

/**
 * keel_ioctl_get_fpu() - KVM_GET_FPU
 * @vcpu: the virtual CPU
 * @f: the registers
 *
 * Return: 0 or -ENOMEM.
 */
int keel_ioctl_get_fpu(struct keel_vcpu *vcpu, struct kvm_fpu *f)
{
	struct fxregs_state *fx;
	union fpregs_state *buf;

	buf = kzalloc(XSAVE_SIZE, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	to_user_format(vcpu, buf);
	fx = &buf->fxsave;
	memcpy(f->fpr, fx->st_space, sizeof(f->fpr));
	f->fcw = fx->cwd;
	f->fsw = fx->swd;
	f->ftwx = fx->twd;
	f->last_opcode = fx->fop;
	f->last_ip = fx->rip;
	f->last_dp = fx->rdp;
	f->mxcsr = fx->mxcsr;
	memcpy(f->xmm, fx->xmm_space, sizeof(f->xmm));
	kfree(buf);
	return 0;
}

/**
 * keel_ioctl_set_fpu() - KVM_SET_FPU: x87 and SSE; the rest stays
 * @vcpu: the virtual CPU
 * @f: the registers
 *
 * Return: 0, -EINVAL (MXCSR with reserved bits) or -ENOMEM.
 */
int keel_ioctl_set_fpu(struct keel_vcpu *vcpu, const struct kvm_fpu *f)
{
	struct fxregs_state *fx;
	union fpregs_state *buf;
	int err;

	buf = kzalloc(XSAVE_SIZE, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	to_user_format(vcpu, buf);
	fx = &buf->fxsave;
	memcpy(fx->st_space, f->fpr, sizeof(f->fpr));
	fx->cwd = f->fcw;
	fx->swd = f->fsw;
	fx->twd = f->ftwx;
	fx->fop = f->last_opcode;
	fx->rip = f->last_ip;
	fx->rdp = f->last_dp;
	fx->mxcsr = f->mxcsr;
	memcpy(fx->xmm_space, f->xmm, sizeof(f->xmm));
	buf->xsave.header.xfeatures |= XFEATURE_MASK_FPSSE;
	err = from_user_format(vcpu, buf);
	kfree(buf);
	return err;
}

/**
 * keel_ioctl_get_xsave() - KVM_GET_XSAVE: the standard, not compacted, format
 * @vcpu: the virtual CPU
 * @x: the state
 */
int keel_ioctl_get_xsave(struct keel_vcpu *vcpu, struct kvm_xsave *x)
{
	to_user_format(vcpu, x);
	return 0;
}

/**
 * keel_ioctl_set_xsave() - KVM_SET_XSAVE
 * @vcpu: the virtual CPU
 * @x: the state
 *
 * Return: 0, or -EINVAL for components that guests cannot have, a header or
 * an MXCSR that XRSTOR would not take.
 */
int keel_ioctl_set_xsave(struct keel_vcpu *vcpu, const struct kvm_xsave *x)
{
	return from_user_format(vcpu, x);
}

int keel_ioctl_get_xcrs(struct keel_vcpu *vcpu, struct kvm_xcrs *x)
{
	memset(x, 0, sizeof(*x));
	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return 0;
	x->nr_xcrs = 1;
	x->xcrs[0].xcr = XCR0_INDEX;
	x->xcrs[0].value = vcpu->fpu.xcr0;
	return 0;
}

/**
 * keel_ioctl_set_xcrs() - KVM_SET_XCRS
 * @vcpu: the virtual CPU
 * @x: the state
 *
 * Return: 0, or -EINVAL for too many, for flags, or a value that XSETBV would
 * not take. Registers other than XCR0 are ignored, as on KVM.
 */
int keel_ioctl_set_xcrs(struct keel_vcpu *vcpu, const struct kvm_xcrs *x)
{
	u32 i;

	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return -EINVAL;
	if (x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (i = 0; i < x->nr_xcrs; i++)
		if (x->xcrs[i].xcr == XCR0_INDEX)
			return keel_set_xcr0(vcpu, x->xcrs[i].value);
	return 0;
}

/* ---- single registers, for emulated instructions ---- */

/* Legacy state alone: the upper halves of YMM and ZMM stay as they are. */
static void legacy_save(struct fxregs_state *fx)
{
	asm volatile("fxsave64 %0" : "=m" (*fx));
}

static void legacy_restore(const struct fxregs_state *fx)
{
	asm volatile("fxrstor64 %0" : : "m" (*fx));
}

static u8 *xmm_of(struct fxregs_state *fx, int reg)
{
	return (u8 *)fx->xmm_space + 16 * (reg & 15);
}

/* Puts the guest's registers into the CPU and keeps them there. */
static void lock_guest_regs(void)
{
	fpregs_lock();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

/**
 * keel_xmm_read() - read an XMM register of the guest
 * @vcpu: the virtual CPU
 * @reg: 0..15
 * @buf: 16 bytes
 *
 * Context: inside KVM_RUN; elsewhere the guest's registers are not loaded and
 * zeroes are given.
 */
void keel_xmm_read(struct keel_vcpu *vcpu, int reg, u8 *buf)
{
	struct fxregs_state fx;

	if (!vcpu->fpu.loaded) {
		memset(buf, 0, 16);
		return;
	}
	lock_guest_regs();
	legacy_save(&fx);
	fpregs_unlock();
	memcpy(buf, xmm_of(&fx, reg), 16);
}

/**
 * keel_xmm_write() - write an XMM register of the guest; see keel_xmm_read()
 * @vcpu: the virtual CPU
 * @reg: 0..15
 * @buf: 16 bytes
 */
void keel_xmm_write(struct keel_vcpu *vcpu, int reg, const u8 *buf)
{
	struct fxregs_state fx;

	if (!vcpu->fpu.loaded)
		return;
	lock_guest_regs();
	legacy_save(&fx);
	memcpy(xmm_of(&fx, reg), buf, 16);
	legacy_restore(&fx);
	fpregs_unlock();
}
