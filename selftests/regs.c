// SPDX-License-Identifier: GPL-2.0-only
/* Registers: what a new vCPU has, and that GET gives back what SET took. */

#include "lib/test.h"

#define CR4_BASE	(X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)

/* SDM vol. 3, table 10-1, "power up" */
TEST(reset_regs)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_regs r;

	vcpu_regs(vcpu, &r);
	EXPECT_EQ(0xfff0, r.rip);
	EXPECT_EQ(X86_EFLAGS_FIXED, r.rflags);
	EXPECT_EQ(0x600, r.rdx);	/* a family 6, as long as no CPUID is set */
	EXPECT_EQ(0, r.rax | r.rbx | r.rcx | r.rsi | r.rdi | r.rsp | r.rbp);
	EXPECT_EQ(0, r.r8 | r.r9 | r.r10 | r.r11 | r.r12 | r.r13 | r.r14 | r.r15);
}

TEST(reset_sregs)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_segment *seg;
	struct kvm_sregs s;

	vcpu_sregs(vcpu, &s);
	EXPECT_EQ(0xf000, s.cs.selector);
	EXPECT_EQ(0xffff0000, s.cs.base);
	EXPECT_EQ(0xffff, s.cs.limit);
	/* Executable, readable; accessed on VMX only. */
	EXPECT_EQ(10, s.cs.type & ~1);
	EXPECT_EQ(1, s.cs.present);
	EXPECT_EQ(1, s.cs.s);
	for (seg = &s.ds; seg <= &s.ss; seg++) {
		EXPECT_EQ(0, seg->selector);
		EXPECT_EQ(0, seg->base);
		EXPECT_EQ(0xffff, seg->limit);
		/* Writable data; SVM as it is leaves SS not accessed. */
		EXPECT_EQ(2, seg->type & ~1);
		EXPECT_EQ(1, seg->present);
	}
	/* A busy TSS: of 16 bits on SVM, of 32 on VMX. */
	EXPECT_TRUE(s.tr.type == 3 || s.tr.type == 11);
	EXPECT_EQ(0xffff, s.tr.limit);
	EXPECT_EQ(2, s.ldt.type);
	EXPECT_EQ(0xffff, s.gdt.limit);
	EXPECT_EQ(0xffff, s.idt.limit);
	EXPECT_EQ(X86_CR0_CD | X86_CR0_NW | X86_CR0_ET, s.cr0);
	EXPECT_EQ(0, s.cr2 | s.cr3 | s.cr4 | s.cr8 | s.efer);
	EXPECT_EQ(0xfee00900, s.apic_base);
	for (unsigned int i = 0; i < ARRAY_SIZE(s.interrupt_bitmap); i++) {
		EXPECT_EQ(0, s.interrupt_bitmap[i]);
	}
}

TEST(reset_of_an_ap)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct vcpu *bsp = vcpu_create_bare(vm, 0), *ap = vcpu_create_bare(vm, 1);
	struct kvm_mp_state mp;
	struct kvm_sregs s;

	vcpu_sregs(ap, &s);
	EXPECT_EQ(0xfee00800, s.apic_base);
	VCPU_IOCTL(bsp, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);
	VCPU_IOCTL(ap, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_UNINITIALIZED, mp.mp_state);
}

TEST(reset_debugregs_xcrs_events)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);
	struct kvm_vcpu_events ev;
	struct kvm_debugregs dr;
	struct kvm_xcrs xcrs;

	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &dr);
	EXPECT_EQ(0xffff0ff0, dr.dr6);
	EXPECT_EQ(0x400, dr.dr7);
	EXPECT_EQ(0, dr.db[0] | dr.db[1] | dr.db[2] | dr.db[3]);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	EXPECT_EQ(0, ev.exception.injected | ev.interrupt.injected | ev.nmi.injected);
	EXPECT_EQ(0, ev.nmi.pending | ev.nmi.masked | ev.interrupt.shadow);
	if (vm_cap(vm, KVM_CAP_XCRS)) {
		VCPU_IOCTL(vcpu, KVM_GET_XCRS, &xcrs);
		EXPECT_EQ(1, xcrs.nr_xcrs);
		EXPECT_EQ(0, xcrs.xcrs[0].xcr);
		EXPECT_EQ(1, xcrs.xcrs[0].value);
	}
}

static volatile u64 seen[16];

extern const char guest_dump_regs[];

/* Store all registers, add 1 to each but RSP and RDX, tell the host. */
asm(
"	.pushsection .text\n"
"guest_dump_regs:\n"
"	.set dump_index, 0\n"
"	.irp r, rax,rbx,rcx,rdx,rsi,rdi,rsp,rbp,r8,r9,r10,r11,r12,r13,r14,r15\n"
"	movq %\\r, seen + dump_index * 8(%rip)\n"
"	.ifnc \\r, rsp\n"
"	incq %\\r\n"
"	.endif\n"
"	.set dump_index, dump_index + 1\n"
"	.endr\n"
"	outl %eax, $0x80\n"
"	.popsection\n"
);

TEST(general_registers)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs r, q;
	u64 *p = (u64 *)&r;

	vcpu_set_long(vcpu, (void (*)(void))guest_dump_regs);
	for (unsigned int i = 0; i < 16; i++)
		p[i] = 0x1122334455667700ULL * (i + 1) + i;
	r.rip = (uintptr_t)guest_dump_regs;
	r.rflags = X86_EFLAGS_FIXED | X86_EFLAGS_CF | X86_EFLAGS_ID;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &r);
	vcpu_regs(vcpu, &q);
	EXPECT_EQ(0, memcmp(&r, &q, sizeof(r)));

	ASSERT_EQ(0, vcpu_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &q);
	for (unsigned int i = 0; i < 16; i++) {
		EXPECT_EQ(p[i], seen[i])
			TH_LOG("register %u", i);
		/* RSP is the 7th of struct kvm_regs. */
		EXPECT_EQ(i == 6 ? p[i] : p[i] + 1, ((u64 *)&q)[i])
			TH_LOG("register %u", i);
	}
	EXPECT_EQ(X86_EFLAGS_ID, q.rflags & X86_EFLAGS_ID);
	/* INC leaves CF alone. */
	EXPECT_EQ(X86_EFLAGS_CF, q.rflags & X86_EFLAGS_CF);
	vm_destroy(vm);
}

static void guest_control_regs(void)
{
	GUEST_ASSERT_EQ(read_cr2(), 0xdeadbeef000ULL);
	GUEST_ASSERT_EQ(read_cr3(), GPA_PML4);
	GUEST_ASSERT_EQ(read_cr4(), CR4_BASE | X86_CR4_PGE);
	GUEST_ASSERT_EQ(read_cr8(), 5);
	GUEST_ASSERT_EQ(rdmsr(MSR_EFER), EFER_LME | EFER_LMA | EFER_NX | EFER_SCE);
	write_cr8(9);
	write_cr4(CR4_BASE);
	write_cr0(read_cr0() & ~X86_CR0_MP);
	wrmsr(MSR_EFER, EFER_LME | EFER_LMA);
	guest_done();
}

TEST(control_registers)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s;

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loads no CR2 at VMRUN; stock KVM fails, too");
	vcpu_set_long(vcpu, guest_control_regs);
	vcpu_sregs(vcpu, &s);
	s.cr2 = 0xdeadbeef000ULL;
	s.cr4 |= X86_CR4_PGE;
	s.cr8 = 5;
	s.efer |= EFER_SCE;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	/* Without a local APIC in the kernel CR8 is an input of KVM_RUN. */
	vcpu->run->cr8 = 5;
	guest_run_done(vcpu);
	vcpu_sregs(vcpu, &s);
	EXPECT_EQ(9, s.cr8);
	EXPECT_EQ(9, vcpu->run->cr8);
	EXPECT_EQ(CR4_BASE, s.cr4);
	EXPECT_EQ(0, s.cr0 & X86_CR0_MP);
	EXPECT_EQ(EFER_LME | EFER_LMA, s.efer);
	vm_destroy(vm);
}

/* What a CPU may change without asking the hypervisor is seen by it all the same. */
static void guest_own_bits(void)
{
	u64 cr0 = read_cr0(), cr4 = read_cr4();

	GUEST_ASSERT_EQ(cr0 & X86_CR0_WP, 0);
	GUEST_ASSERT_EQ(cr4 & X86_CR4_PGE, 0);
	write_cr0(cr0 | X86_CR0_WP);
	write_cr4(cr4 | X86_CR4_PGE);
	guest_sync(1);
	GUEST_ASSERT_EQ(read_cr0(), cr0);
	GUEST_ASSERT_EQ(read_cr4(), cr4);
	write_cr0(cr0 | X86_CR0_WP);
	write_cr4(cr4 | X86_CR4_PGE);
	/* one of the other bits exits: what it writes has these, too */
	write_cr0(read_cr0() ^ X86_CR0_AM);
	write_cr4(read_cr4() | X86_CR4_TSD);
	GUEST_ASSERT_EQ(read_cr0(), (cr0 | X86_CR0_WP) ^ X86_CR0_AM);
	GUEST_ASSERT_EQ(read_cr4(), cr4 | X86_CR4_PGE | X86_CR4_TSD);
	/* EFER goes with them */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) ^ EFER_SCE);
	GUEST_ASSERT_EQ(read_cr0(), (cr0 | X86_CR0_WP) ^ X86_CR0_AM);
	GUEST_ASSERT_EQ(read_cr4(), cr4 | X86_CR4_PGE | X86_CR4_TSD);
	guest_done();
}

TEST(bits_without_an_exit)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s;

	vcpu_set_long(vcpu, guest_own_bits);
	vcpu_sregs(vcpu, &s);
	s.cr0 &= ~X86_CR0_WP;
	s.cr4 &= ~X86_CR4_PGE;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_sregs(vcpu, &s);
	EXPECT_EQ(X86_CR0_WP, s.cr0 & X86_CR0_WP);
	EXPECT_EQ(X86_CR4_PGE, s.cr4 & X86_CR4_PGE);
	s.cr0 &= ~X86_CR0_WP;
	s.cr4 &= ~X86_CR4_PGE;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	guest_run_done(vcpu);
	vcpu_sregs(vcpu, &s);
	EXPECT_EQ(X86_CR0_WP, s.cr0 & X86_CR0_WP);
	EXPECT_EQ(X86_CR4_PGE | X86_CR4_TSD, s.cr4 & (X86_CR4_PGE | X86_CR4_TSD));
	vm_destroy(vm);
}

TEST(sregs_symmetry)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s, t;

	vcpu_set_long(vcpu, guest_control_regs);
	vcpu_sregs(vcpu, &s);
	s.fs.base = 0x7fff12345678ULL;
	s.gs.base = 0xffff888000000000ULL;
	s.fs.selector = 0x33;
	s.idt.base = 0xffffffff81000000ULL;
	s.idt.limit = 0xfff;
	s.ldt = (struct kvm_segment) {
		.base = 0x5000, .limit = 0x7f, .selector = 0x30, .type = 2,
		.present = 1,
	};
	s.interrupt_bitmap[1] = 1ULL << 3;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	vcpu_sregs(vcpu, &t);
	EXPECT_EQ(0, memcmp(&s.cs, &t.cs, sizeof(s.cs)));
	EXPECT_EQ(0, memcmp(&s.fs, &t.fs, sizeof(s.fs)));
	EXPECT_EQ(0, memcmp(&s.gs, &t.gs, sizeof(s.gs)));
	EXPECT_EQ(0, memcmp(&s.ss, &t.ss, sizeof(s.ss)));
	EXPECT_EQ(0, memcmp(&s.tr, &t.tr, sizeof(s.tr)));
	EXPECT_EQ(0, memcmp(&s.ldt, &t.ldt, sizeof(s.ldt)));
	EXPECT_EQ(s.idt.base, t.idt.base);
	EXPECT_EQ(s.idt.limit, t.idt.limit);
	EXPECT_EQ(s.gdt.base, t.gdt.base);
	EXPECT_EQ(s.interrupt_bitmap[1], t.interrupt_bitmap[1]);
	EXPECT_EQ(s.cr0, t.cr0);
	EXPECT_EQ(s.cr4, t.cr4);
	EXPECT_EQ(s.efer, t.efer);
	vm_destroy(vm);
}

#define EXPECT_BAD_SREGS(field, value)					\
do {									\
	struct kvm_sregs __s = good;					\
									\
	__s.field = (value);						\
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_SREGS, &__s))	\
		TH_LOG(#field " = " #value);				\
} while (0)

TEST(invalid_sregs)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs good, after;

	vcpu_set_long(vcpu, guest_control_regs);
	vcpu_sregs(vcpu, &good);
	EXPECT_BAD_SREGS(cr4, good.cr4 | 1ULL << 63);
	EXPECT_BAD_SREGS(cr4, good.cr4 | 1ULL << 31);
	EXPECT_BAD_SREGS(cr4, good.cr4 & ~X86_CR4_PAE);		/* in long mode */
	EXPECT_BAD_SREGS(efer, good.efer & ~EFER_LMA);
	EXPECT_BAD_SREGS(efer, good.efer & ~EFER_LME);
	EXPECT_BAD_SREGS(cr3, 1ULL << 62);
	EXPECT_BAD_SREGS(apic_base, good.apic_base | 1ULL << 62);
	/* CS.L means nothing outside of long mode. */
	good.cr0 &= ~X86_CR0_PG;
	EXPECT_BAD_SREGS(efer, good.efer);
	/* None of it left a trace. */
	vcpu_sregs(vcpu, &after);
	EXPECT_EQ(good.cr4, after.cr4);
	EXPECT_EQ(good.efer, after.efer);
	EXPECT_EQ(good.cr3, after.cr3);
	vm_destroy(vm);
}

TEST(fpu_symmetry)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_fpu f, g;

	memset(&g, 0xff, sizeof(g));
	VCPU_IOCTL(vcpu, KVM_GET_FPU, &g);
	EXPECT_EQ(0x37f, g.fcw);
	EXPECT_EQ(0, g.fsw);
	/* Stock KVM shows the reset value in KVM_GET_XSAVE only. */
	EXPECT_TRUE(g.mxcsr == 0x1f80 || g.mxcsr == 0);
	f = g;
	for (unsigned int i = 0; i < 8; i++)
		for (unsigned int j = 0; j < 10; j++)
			f.fpr[i][j] = 16 * i + j + 1;
	for (unsigned int i = 0; i < 16; i++)
		for (unsigned int j = 0; j < 16; j++)
			f.xmm[i][j] = 16 * i + j + 1;
	f.fcw = 0x27f;
	f.fsw = 0x3800;
	f.ftwx = 0xff;
	f.last_opcode = 0x123;
	f.last_ip = 0x1234567;
	f.last_dp = 0x7654321;
	f.mxcsr = 0x1f00;
	VCPU_IOCTL(vcpu, KVM_SET_FPU, &f);
	VCPU_IOCTL(vcpu, KVM_GET_FPU, &g);
	EXPECT_EQ(0, memcmp(f.fpr, g.fpr, sizeof(f.fpr)));
	EXPECT_EQ(0, memcmp(f.xmm, g.xmm, sizeof(f.xmm)));
	EXPECT_EQ(f.fcw, g.fcw);
	EXPECT_EQ(f.fsw, g.fsw);
	EXPECT_EQ(f.ftwx, g.ftwx);
	EXPECT_EQ(f.last_opcode, g.last_opcode);
	EXPECT_EQ(f.last_ip, g.last_ip);
	EXPECT_EQ(f.last_dp, g.last_dp);
}

TEST(xsave_symmetry)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	static struct kvm_xsave x, y;
	u64 *xstate_bv = (u64 *)((char *)&x + 512);
	u32 *mxcsr = (u32 *)((char *)&x + 24);

	if (!vm_cap(vm, KVM_CAP_XSAVE))
		SKIP(return, "no KVM_CAP_XSAVE");
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, &x);
	EXPECT_EQ(0x1f80, *mxcsr);
	memset((char *)&x + 160, 0x5a, 256);	/* XMM0..15 */
	*xstate_bv = 3;
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, &x);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, &y);
	EXPECT_EQ(0, memcmp((char *)&x + 160, (char *)&y + 160, 256));
	EXPECT_EQ(2, *(u64 *)((char *)&y + 512) & 2);
	/* A state component that no CPU has, and a bad MXCSR. */
	*xstate_bv = 1ULL << 61;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XSAVE, &x));
	*xstate_bv = 3;
	*mxcsr = 0x80000000;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XSAVE, &x));
}

TEST(xcrs)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = 3 };

	if (!vm_cap(vm, KVM_CAP_XCRS))
		SKIP(return, "no KVM_CAP_XCRS");
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_XCRS, &x));
	memset(&x, 0, sizeof(x));
	VCPU_IOCTL(vcpu, KVM_GET_XCRS, &x);
	EXPECT_EQ(3, x.xcrs[0].value);
	x.xcrs[0].value = 2;			/* x87 cannot be switched off */
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XCRS, &x));
	x.xcrs[0].value = 5;			/* AVX without SSE */
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XCRS, &x));
	x.xcrs[0].value = 3 | 1ULL << 62;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XCRS, &x));
	x.xcrs[0].value = 1;
	x.flags = 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XCRS, &x));
	x.flags = 0;
	x.nr_xcrs = KVM_MAX_XCRS + 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_XCRS, &x));
}

static void guest_debug_regs(void)
{
	u64 dr0, dr7;

	asm volatile("mov %%dr0, %0" : "=r"(dr0));
	GUEST_ASSERT_EQ(dr0, 0x1000);
	asm volatile("mov %%dr7, %0" : "=r"(dr7));
	GUEST_ASSERT_EQ(dr7, 0x400);
	asm volatile("mov %0, %%dr1" : : "r"(0x2345UL));
	asm volatile("mov %0, %%dr7" : : "r"(0x400UL));
	guest_done();
}

TEST(debugregs)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_debugregs d, e;

	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &d);
	d.db[0] = 0x1000;
	d.db[3] = 0x4000;
	VCPU_IOCTL(vcpu, KVM_SET_DEBUGREGS, &d);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &e);
	EXPECT_EQ(0, memcmp(&d, &e, sizeof(d)));
	e.dr7 |= 1ULL << 32;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &e));
	e = d;
	e.dr6 |= 1ULL << 32;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &e));
	e = d;
	e.flags = 1;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &e));
	vcpu_set_long(vcpu, guest_debug_regs);
	guest_run_done(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &e);
	EXPECT_EQ(0x1000, e.db[0]);
	EXPECT_EQ(0x2345, e.db[1]);
	EXPECT_EQ(0x4000, e.db[3]);
	vm_destroy(vm);
}

TEST(vcpu_events)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_vcpu_events ev, good;

	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &good);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &good));
	ev = good;
	ev.flags = 1U << 31;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev));
	/* Not without their capabilities. */
	ev.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev));
	ev.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev));
	ev = good;
	ev.exception.injected = 1;
	ev.exception.nr = 32;
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev));
	ev.exception.nr = 2;			/* an NMI is no exception */
	EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev));
	/* QEMU: a number that means nothing as long as nothing is injected. */
	ev = good;
	ev.exception.nr = 255;
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev));

	ev = good;
	ev.exception.injected = 1;
	ev.exception.nr = VEC_GP;
	ev.exception.has_error_code = 1;
	ev.exception.error_code = 0x18;
	ev.nmi.masked = 1;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	memset(&ev, 0xff, sizeof(ev));
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	EXPECT_EQ(1, ev.exception.injected);
	EXPECT_EQ(VEC_GP, ev.exception.nr);
	EXPECT_EQ(1, ev.exception.has_error_code);
	EXPECT_EQ(0x18, ev.exception.error_code);
	EXPECT_EQ(1, ev.nmi.masked);
}

TEST(vcpu_events_valid_flags)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_vcpu_events ev;

	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	ev.nmi.pending = 1;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	/* Without its flag the field is left alone. */
	ev.flags = 0;
	ev.nmi.pending = 0;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	EXPECT_EQ(1, ev.nmi.pending);
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	ev.nmi.pending = 0;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	EXPECT_EQ(0, ev.nmi.pending);
}

TEST(mp_state)
{
	struct vm *vm = vm_create(VM_NO_MEMORY | VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_mp_state mp;

	for (u32 i = 0; i < 9; i++) {
		static const u32 ok = 1 << KVM_MP_STATE_RUNNABLE |
				      1 << KVM_MP_STATE_UNINITIALIZED |
				      1 << KVM_MP_STATE_INIT_RECEIVED |
				      1 << KVM_MP_STATE_HALTED |
				      1 << KVM_MP_STATE_SIPI_RECEIVED;

		mp.mp_state = i;
		if (!(ok & 1 << i)) {
			EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp))
				TH_LOG("state %u", i);
			continue;
		}
		/* SIPI_RECEIVED: INIT_RECEIVED with a SIPI to come. */
		EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp))
			TH_LOG("state %u", i);
		if (i == KVM_MP_STATE_SIPI_RECEIVED)
			continue;
		VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp);
		EXPECT_EQ(i, mp.mp_state);
	}
}

TEST(mp_state_without_lapic)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp));
	for (u32 i = 1; i < 5; i++) {
		mp.mp_state = i;
		EXPECT_EQ(-EINVAL, sys_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp));
	}
	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);
}

static void guest_nothing(void)
{
	guest_sync(1);
	guest_done();
}

/* A null SS has no descriptor, but the CPL, which CS has to agree with. */
TEST(null_stack_segment_in_ring_1)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_sregs s;
	struct kvm_regs r;

	vcpu_set_long(vcpu, guest_nothing);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &s);
	s.cs.dpl = 1;
	s.cs.selector |= 1;
	s.ss = (struct kvm_segment){ .selector = 1, .dpl = 1, .unusable = 1 };
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	vcpu_regs(vcpu, &r);
	r.rflags |= X86_EFLAGS_IOPL;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &r);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &s);
	EXPECT_EQ(1, s.ss.dpl);
	EXPECT_EQ(1, s.ss.unusable);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* The fields of the run page are filled on every way out. */
TEST(run_page)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs r;

	vcpu_set_long(vcpu, guest_nothing);
	vcpu_regs(vcpu, &r);
	r.rflags |= X86_EFLAGS_IF;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &r);
	vcpu->run->apic_base = 0x1234;
	EXPECT_EQ(1, guest_run_sync(vcpu));
	EXPECT_EQ(1, vcpu->run->if_flag);
	EXPECT_EQ(0, vcpu->run->cr8);
	EXPECT_EQ(0xfee00900, vcpu->run->apic_base);
	vcpu->run->if_flag = 0;
	vcpu->run->apic_base = 0x1234;
	vcpu_complete_io(vcpu);
	EXPECT_EQ(1, vcpu->run->if_flag);
	EXPECT_EQ(0xfee00900, vcpu->run->apic_base);
	/* There are not that many groups of registers (syncregs.c has the rest). */
	vcpu->run->kvm_valid_regs = ~0ULL;
	EXPECT_EQ(-EINVAL, vcpu_run(vcpu));
	vcpu->run->kvm_valid_regs = 0;
	vcpu->run->cr8 = 16;
	EXPECT_EQ(-EINVAL, vcpu_run(vcpu));
	vcpu->run->cr8 = 0;
	guest_run_done(vcpu);
	vm_destroy(vm);
}
