// SPDX-License-Identifier: GPL-2.0-only
/* KVM_SET_GUEST_DEBUG: breakpoints, watchpoints and single step from outside. */

#include "lib/test.h"
#include "lib/irq.h"

#define DR6_NONE	0xffff0ff0ULL
#define DR6_BD		(1ULL << 13)
#define DR6_BS		(1ULL << 14)
#define DR7_FIXED	0x400ULL
#define DR7_GD		(1ULL << 13)
#define DR7_ON(n)	(2ULL << 2 * (n))		/* global enable */
#define DR7_WRITE4(n)	(0xdULL << (16 + 4 * (n)))	/* data, writes, 4 bytes */

#define IRQ_VECTOR	0xaa

extern const char at_int3[], at_nop[], at_write[], behind_write[], at_dr[];
extern const char step_0[], step_1[], step_2[], step_3[], step_4[], step_5[], step_6[];
extern const char irq_0[], irq_1[], irq_2[], irq_3[];
extern const char io_0[], io_1[], io_2[], io_3[], io_4[];
extern const char rep_0[], rep_1[], fl_0[], fl_1[], fl_2[], fl_3[], fl_4[], fl_5[];
extern const char hlt_0[], hlt_1[], behind_int[];

static volatile u32 watched, traps[32];
static volatile u64 trap_rip, trap_dr6;

static void on_trap(struct guest_trap *trap)
{
	traps[trap->vector & 31]++;
	trap_rip = trap->rip;
	trap->rflags &= ~X86_EFLAGS_TF;
	if (trap->vector == VEC_DB)
		asm volatile("mov %%dr6, %0" : "=r"(trap_dr6));
}

static void set_debug(struct vcpu *vcpu, u32 control, u64 dr7, u64 addr)
{
	struct kvm_guest_debug dbg = { .control = control };

	if (control)
		dbg.control |= KVM_GUESTDBG_ENABLE;
	/* DR6 may also name one that matches and is off (SDM vol. 3, 18.2.3) */
	for (int i = 0; i < 4; i++)
		dbg.arch.debugreg[i] = dr7 & DR7_ON(i) ? addr : 0;
	dbg.arch.debugreg[7] = dr7;
	VCPU_IOCTL(vcpu, KVM_SET_GUEST_DEBUG, &dbg);
}

static void set_rip(struct vcpu *vcpu, const void *rip)
{
	struct kvm_regs regs;

	vcpu_regs(vcpu, &regs);
	regs.rip = (uintptr_t)rip;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
}

/* KVM_RUN ends at @pc with a debug exit of this kind. */
#define EXPECT_DEBUG(vcpu, nr, at, dr6_)				\
do {									\
	struct kvm_debug_exit_arch *__d = &(vcpu)->run->debug.arch;	\
									\
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));				\
	ASSERT_EQ(KVM_EXIT_DEBUG, (vcpu)->run->exit_reason) {		\
		TH_LOG("%s at %#llx", exit_name((vcpu)->run->exit_reason), \
		       (unsigned long long)vcpu_rip(vcpu));		\
	}								\
	ASSERT_EQ((u32)(nr), __d->exception);				\
	ASSERT_EQ((u64)(uintptr_t)(at), __d->pc);			\
	ASSERT_EQ((u64)(uintptr_t)(at), vcpu_rip(vcpu));		\
	if ((nr) == VEC_DB) {						\
		ASSERT_EQ((u64)(dr6_), __d->dr6);			\
	}								\
} while (0)

#define EXPECT_STEP(vcpu, at)	EXPECT_DEBUG(vcpu, VEC_DB, at, DR6_NONE | DR6_BS)

/* What QEMU's TCG does not do as a CPU would, for stock KVM as for keel. */
static bool host_is_tcg(void)
{
	return host_is_amd() && !host_is_bochs_svm();
}

#define NO_DR6	"Bochs 2.7 puts no cause into DR6; stock KVM fails, too"

TEST(capabilities)
{
	EXPECT_EQ(1, dev_cap(KVM_CAP_SET_GUEST_DEBUG));
	EXPECT_EQ(1, dev_cap(KVM_CAP_X86_ROBUST_SINGLESTEP));
	EXPECT_EQ(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |
		  KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |
		  KVM_GUESTDBG_BLOCKIRQ, dev_cap(KVM_CAP_SET_GUEST_DEBUG2));
}

static void guest_breakpoints(void)
{
	asm volatile("at_int3: int3");
	asm volatile("at_nop: nop");
	asm volatile("at_write: movl $1234, %0\n"
		     "behind_write: nop" : "=m"(watched));
	asm volatile("at_dr: mov %%dr0, %%rax" : : : "rax");
	guest_done();
}

TEST(software_breakpoint)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (dev_is_kvm() && host_is_tcg())
		SKIP(return, "QEMU's TCG: INT3 exits as INT n only, which KVM does not ask for");
	guest_handlers[VEC_BP] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	set_debug(vcpu, KVM_GUESTDBG_USE_SW_BP, 0, 0);
	/* it stays where it is, for as often as one likes */
	EXPECT_DEBUG(vcpu, VEC_BP, at_int3, 0);
	EXPECT_DEBUG(vcpu, VEC_BP, at_int3, 0);
	EXPECT_EQ(0, traps[VEC_BP]);
	/* without: the guest's own */
	set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, 0, 0);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[VEC_BP]);
	EXPECT_EQ((uintptr_t)at_nop, trap_rip);
	vm_destroy(vm);
}

/* Everything but the injection needs KVM_GUESTDBG_ENABLE. */
TEST(control_word)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_guest_debug dbg = {
		.control = KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_SINGLESTEP,
	};

	guest_handlers[VEC_BP] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg));
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[VEC_BP]);
	/* bits that nobody knows */
	dbg.control = KVM_GUESTDBG_ENABLE | 0x80000000 | 0x8000;
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg));
	EXPECT_EQ(-EFAULT, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, NULL));
	vcpu_set_long(vcpu, guest_breakpoints);
	guest_run_done(vcpu);
	EXPECT_EQ(2, traps[VEC_BP]);
	vm_destroy(vm);
}

/*
 * TCG loads DR7 at VMRUN, but switches on no breakpoint for it: neither a guest's
 * own nor a debugger's is ever met.
 */
#define NO_BREAKPOINTS	"QEMU's TCG: VMRUN switches no breakpoints on"

TEST(hardware_breakpoint)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_debugregs own;

	if (host_is_bochs_svm())
		SKIP(return, NO_DR6);
	if (host_is_tcg())
		SKIP(return, NO_BREAKPOINTS);
	guest_handlers[VEC_BP] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	for (int i = 0; i < 4; i++) {
		set_debug(vcpu, KVM_GUESTDBG_USE_HW_BP, DR7_FIXED | DR7_ON(i),
			  (uintptr_t)at_nop);
		EXPECT_DEBUG(vcpu, VEC_DB, at_nop, DR6_NONE | 1 << i);
		EXPECT_EQ(DR7_FIXED | DR7_ON(i), vcpu->run->debug.arch.dr7);
	}
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &own);
	EXPECT_EQ(DR7_FIXED, own.dr7);
	EXPECT_EQ(0, own.db[0]);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

TEST(watchpoint)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, NO_DR6);
	if (host_is_tcg())
		SKIP(return, NO_BREAKPOINTS);
	guest_handlers[VEC_BP] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	for (int i = 0; i < 4; i++) {
		watched = 0;
		set_debug(vcpu, KVM_GUESTDBG_USE_HW_BP,
			  DR7_FIXED | DR7_ON(i) | DR7_WRITE4(i), (uintptr_t)&watched);
		EXPECT_DEBUG(vcpu, VEC_DB, behind_write, DR6_NONE | 1 << i);
		EXPECT_EQ(1234, watched);
		set_rip(vcpu, at_write);
	}
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

TEST(general_detect)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, NO_DR6);
	if (dev_is_kvm() && host_is_amd())
		SKIP(return, "KVM's emulator, for CPUs without decode assists, asks the guest's DR7");
	guest_handlers[VEC_BP] = on_trap;
	guest_handlers[VEC_DB] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	set_debug(vcpu, KVM_GUESTDBG_USE_HW_BP, DR7_FIXED | DR7_GD, 0);
	EXPECT_DEBUG(vcpu, VEC_DB, at_dr, DR6_NONE | DR6_BD);
	EXPECT_EQ(0, traps[VEC_DB]);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static volatile u64 guest_dr7, guest_dr0;

static void guest_own_debug_registers(void)
{
	asm volatile("mov %0, %%dr0" : : "r"(0x1234UL));
	asm volatile("mov %0, %%dr7" : : "r"(DR7_FIXED | 0x300));
	guest_sync(1);
	asm volatile("mov %%dr0, %0" : "=r"(guest_dr0));
	asm volatile("mov %%dr7, %0" : "=r"(guest_dr7));
	guest_sync(2);
	guest_done();
}

/* The debugger's are in the CPU, the guest sees its own. */
TEST(guest_keeps_its_registers)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_debugregs d;

	vcpu_set_long(vcpu, guest_own_debug_registers);
	set_debug(vcpu, KVM_GUESTDBG_USE_HW_BP, DR7_FIXED | DR7_ON(1), 0x5678);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &d);
	EXPECT_EQ(0x1234, d.db[0]);
	EXPECT_EQ(0x700, d.dr7);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	EXPECT_EQ(0x1234, guest_dr0);
	EXPECT_EQ(0x700, guest_dr7);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_steps(void)
{
	x2apic_enable();
	x2apic_write(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | APIC_DM_FIXED | IRQ_VECTOR);
	guest_sync(1);
	asm volatile("nop\n"
		     "step_0: sti\n"
		     "step_1: xorl %%eax, %%eax\n"
		     "step_2: cpuid\n"
		     "step_3: movl $0x1a0, %%ecx\n"
		     "step_4: rdmsr\n"
		     "step_5: cli\n"
		     "step_6: nop" : : : "rax", "rbx", "rcx", "rdx");
	guest_sync(2);
	asm volatile("sti; nop; nop; cli");
	guest_done();
}

/* Why not to step here, or NULL. */
static const char *steps_wrong(void)
{
	if (host_is_bochs_vmx())
		return "Bochs' VT-x traps at an entry with TF set, before an instruction; stock KVM fails, too";
	if (host_is_bochs_svm())
		return "Bochs' AMD-V loses the host at a step; stock KVM does, too";
	return NULL;
}

/* For TCG a step over STI ends behind the next instruction. */
static unsigned int steps_over_sti(void)
{
	return host_is_tcg() ? 2 : 1;
}

/* Instructions that exit and that do not; what KVM_GUESTDBG_BLOCKIRQ holds back. */
TEST(single_step)
{
	const char *const at[] = { step_0, step_1, step_2, step_3, step_4, step_5, step_6 };
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs regs;

	if (steps_wrong())
		SKIP(return, "%s", steps_wrong());
	guest_handlers[IRQ_VECTOR] = on_x2apic_irq;
	vcpu_set_long(vcpu, guest_steps);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	set_rip(vcpu, step_0);
	for (unsigned int i = steps_over_sti(); i < ARRAY_SIZE(at); i++) {
		set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ, DR7_FIXED, 0);
		EXPECT_STEP(vcpu, at[i]);
		/* userspace does not see it */
		vcpu_regs(vcpu, &regs);
		EXPECT_EQ(0, regs.rflags & X86_EFLAGS_TF);
	}
	EXPECT_EQ(0, irqs[IRQ_VECTOR]);
	set_debug(vcpu, 0, 0, 0);
	ASSERT_EQ(2, guest_run_sync(vcpu));
	guest_run_done(vcpu);
	EXPECT_EQ(1, irqs[IRQ_VECTOR]);
	vm_destroy(vm);
}

/* It goes on without KVM_SET_GUEST_DEBUG in between. */
TEST(single_step_goes_on)
{
	const char *const at[] = { step_0, step_1, step_2, step_3, step_4, step_5, step_6 };
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (steps_wrong())
		SKIP(return, "%s", steps_wrong());
	guest_handlers[IRQ_VECTOR] = on_x2apic_irq;
	vcpu_set_long(vcpu, guest_steps);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	set_rip(vcpu, step_0);
	set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ, DR7_FIXED, 0);
	for (unsigned int i = steps_over_sti(); i < ARRAY_SIZE(at); i++)
		EXPECT_STEP(vcpu, at[i]);
	vm_destroy(vm);
}

static void guest_irq_steps(void)
{
	x2apic_enable();
	x2apic_write(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | APIC_DM_FIXED | IRQ_VECTOR);
	guest_sync(1);
	asm volatile("irq_0: sti\n"
		     "irq_1: nop\n"
		     "irq_2: nop\n"
		     "irq_3: cli");
	guest_done();
}

/* An interrupt on the way: its handler runs, and the step ends behind it. */
TEST(single_step_through_an_interrupt)
{
	const char *const at[] = { irq_0, irq_1, irq_2, irq_3 };
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, "%s", steps_wrong());
	guest_handlers[IRQ_VECTOR] = on_x2apic_irq;
	vcpu_set_long(vcpu, guest_irq_steps);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	set_rip(vcpu, irq_0);
	for (unsigned int i = steps_over_sti(); i < ARRAY_SIZE(at); i++) {
		set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, DR7_FIXED, 0);
		EXPECT_STEP(vcpu, at[i]);
	}
	EXPECT_EQ(1, irqs[IRQ_VECTOR]);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_io_steps(void)
{
	guest_sync(1);
	asm volatile("nop\n"
		     "io_0: outb %%al, $0x80\n"
		     "io_1: inb $0x81, %%al\n"
		     "io_2: movl (%0), %%eax\n"
		     "io_3: movl %%eax, (%0)\n"
		     "io_4: nop" : : "r"(GPA_MMIO) : "rax", "memory");
	guest_done();
}

TEST(single_step_over_io)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs;

	if (steps_wrong())
		SKIP(return, "%s", steps_wrong());
	vcpu_set_long(vcpu, guest_io_steps);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &regs);
	while (regs.rip != (uintptr_t)io_0) {
		set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, DR7_FIXED, 0);
		ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
		ASSERT_EQ(KVM_EXIT_DEBUG, run->exit_reason);
		vcpu_regs(vcpu, &regs);
	}
	set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, DR7_FIXED, 0);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, run->exit_reason);
	EXPECT_STEP(vcpu, io_1);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_IO, run->exit_reason);
	*((u8 *)run + run->io.data_offset) = 0x5a;
	EXPECT_STEP(vcpu, io_2);
	vcpu_regs(vcpu, &regs);
	EXPECT_EQ(0x5a, regs.rax & 0xff);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	memcpy(run->mmio.data, &(u32){ 0x11223344 }, 4);
	EXPECT_STEP(vcpu, io_3);
	vcpu_regs(vcpu, &regs);
	EXPECT_EQ(0x11223344, regs.rax);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	EXPECT_EQ(1, run->mmio.is_write);
	/* 6.1's KVM loses the step that ends with a write */
	if (!dev_is_kvm())
		EXPECT_STEP(vcpu, io_4);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* RFLAGS.RF, which the fault of an access sets, ends with the instruction. */
TEST(breakpoint_behind_mmio)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_run *run = vcpu->run;

	if (host_is_bochs_svm())
		SKIP(return, NO_DR6);
	if (host_is_tcg())
		SKIP(return, NO_BREAKPOINTS);
	vcpu_set_long(vcpu, guest_io_steps);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
		ASSERT_EQ(KVM_EXIT_IO, run->exit_reason);
	}
	set_debug(vcpu, KVM_GUESTDBG_USE_HW_BP, DR7_FIXED | DR7_ON(0), (uintptr_t)io_3);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	EXPECT_DEBUG(vcpu, VEC_DB, io_3, DR6_NONE | 1);
	set_debug(vcpu, KVM_GUESTDBG_USE_HW_BP, DR7_FIXED | DR7_ON(0), (uintptr_t)io_4);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	EXPECT_DEBUG(vcpu, VEC_DB, io_4, DR6_NONE | 1);
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static u8 rep_buffer[4];

static void guest_rep_steps(void)
{
	guest_sync(1);
	asm volatile("rep_0: rep stosb\n"
		     "rep_1: nop" : : "D"(rep_buffer), "c"(3), "a"(7) : "memory");
	guest_done();
}

/* One iteration is a step. */
TEST(single_step_rep)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs regs;

	if (steps_wrong())
		SKIP(return, "%s", steps_wrong());
	vcpu_set_long(vcpu, guest_rep_steps);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	vcpu_regs(vcpu, &regs);
	regs.rip = (uintptr_t)rep_0;
	regs.rdi = (uintptr_t)rep_buffer;
	regs.rcx = 3;
	regs.rax = 7;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, DR7_FIXED, 0);
	for (int i = 1; i <= 3; i++) {
		EXPECT_STEP(vcpu, i < 3 ? rep_0 : rep_1);
		vcpu_regs(vcpu, &regs);
		EXPECT_EQ(3 - i, regs.rcx);
	}
	EXPECT_EQ(7, rep_buffer[2]);
	vm_destroy(vm);
}

static volatile u64 flags_seen;

static void guest_flags(void)
{
	guest_sync(1);
	asm volatile("nop\n"
		     "fl_0: pushfq\n"
		     "fl_1: popq %%rax\n"
		     "fl_2: pushq %%rax\n"
		     "fl_3: popfq\n"
		     "fl_4: nop\n"
		     "fl_5: movq %%rax, %0" : "=m"(flags_seen) : : "rax", "memory", "cc");
	guest_done();
}

/* The guest is not to find the debugger's TF, nor to be left with it. */
TEST(trap_flag_stays_hidden)
{
	const char *const at[] = { fl_0, fl_1, fl_2, fl_3, fl_4, fl_5 };
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (steps_wrong())
		SKIP(return, "%s", steps_wrong());
	guest_handlers[VEC_DB] = on_trap;
	vcpu_set_long(vcpu, guest_flags);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	set_rip(vcpu, fl_0);
	for (unsigned int i = 1; i < ARRAY_SIZE(at); i++) {
		set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, DR7_FIXED, 0);
		EXPECT_STEP(vcpu, at[i]);
	}
	set_debug(vcpu, 0, 0, 0);
	guest_run_done(vcpu);
	EXPECT_EQ(0, traps[VEC_DB]);
	/* KVM lets PUSHF push it */
	EXPECT_EQ(dev_is_kvm() ? X86_EFLAGS_TF : 0, flags_seen & X86_EFLAGS_TF);
	vm_destroy(vm);
}

static void guest_own_tf(void)
{
	guest_sync(1);
	/* the trap comes behind the instruction that follows POPF */
	asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" : : : "memory", "cc");
	GUEST_ASSERT_EQ(traps[VEC_DB], 1);
	GUEST_ASSERT_EQ(trap_dr6 & DR6_BS, DR6_BS);
	guest_done();
}

/* A guest that steps itself, with a debugger that is not interested. */
TEST(guest_steps_itself)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, NO_DR6);
	guest_handlers[VEC_DB] = on_trap;
	vcpu_set_long(vcpu, guest_own_tf);
	set_debug(vcpu, KVM_GUESTDBG_USE_SW_BP, 0, 0);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* What the debugger did not ask for it gives back. */
TEST(injection)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_guest_debug dbg = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP |
			   KVM_GUESTDBG_INJECT_BP,
	};

	guest_handlers[VEC_BP] = on_trap;
	guest_handlers[VEC_DB] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	set_debug(vcpu, KVM_GUESTDBG_USE_SW_BP, 0, 0);
	if (dev_is_kvm() && host_is_tcg())	/* see software_breakpoint */
		set_rip(vcpu, at_int3);
	else
		EXPECT_DEBUG(vcpu, VEC_BP, at_int3, 0);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg));
	EXPECT_EQ(-EBUSY, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg));
	dbg.control = KVM_GUESTDBG_INJECT_DB;
	EXPECT_EQ(-EBUSY, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg));
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[VEC_BP]);
	EXPECT_EQ((uintptr_t)at_nop, trap_rip);

	vcpu_set_long(vcpu, guest_breakpoints);
	set_rip(vcpu, at_nop);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg));
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[VEC_DB]);
	EXPECT_EQ((uintptr_t)at_nop, trap_rip);
	vm_destroy(vm);
}

static void guest_int_n(void)
{
	guest_sync(1);
	asm volatile("int $0x77\n"
		     "behind_int: nop");
	guest_done();
}

/* Other software interrupts are none of its business. */
TEST(int_n_with_breakpoints)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 makes another exception of INT n; stock KVM fails, too");
	guest_handlers[0x77] = on_trap;
	vcpu_set_long(vcpu, guest_int_n);
	set_debug(vcpu, KVM_GUESTDBG_USE_SW_BP, 0, 0);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[0x77 & 31]);
	EXPECT_EQ((uintptr_t)behind_int, trap_rip);
	vm_destroy(vm);
}

/* As QEMU gives it back. */
TEST(injection_by_vcpu_events)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_vcpu_events ev;

	guest_handlers[VEC_BP] = on_trap;
	vcpu_set_long(vcpu, guest_breakpoints);
	set_debug(vcpu, KVM_GUESTDBG_USE_SW_BP, 0, 0);
	if (dev_is_kvm() && host_is_tcg())
		set_rip(vcpu, at_int3);
	else
		EXPECT_DEBUG(vcpu, VEC_BP, at_int3, 0);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ev.exception.injected = 1;
	ev.exception.nr = VEC_BP;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[VEC_BP]);
	EXPECT_EQ((uintptr_t)at_nop, trap_rip);
	vm_destroy(vm);
}

static void guest_halts(void)
{
	guest_sync(1);
	asm volatile("hlt_0: hlt\n"
		     "hlt_1: nop");
	guest_done();
}

/* HLT ends a step, and sleeps at the next KVM_RUN: here until an NMI. */
TEST(single_step_hlt)
{
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_mp_state state;

	if (host_is_bochs_svm())
		SKIP(return, "%s", steps_wrong());
	guest_handlers[VEC_NMI] = on_trap;
	vcpu_set_long(vcpu, guest_halts);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vcpu_complete_io(vcpu);
	set_rip(vcpu, hlt_0);
	set_debug(vcpu, KVM_GUESTDBG_SINGLESTEP, DR7_FIXED, 0);
	EXPECT_STEP(vcpu, hlt_1);
	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &state);
	EXPECT_EQ(KVM_MP_STATE_HALTED, state.mp_state);
	set_debug(vcpu, 0, 0, 0);
	EXPECT_EQ(0, sys_ioctl(vcpu->fd, KVM_NMI, NULL));
	guest_run_done(vcpu);
	EXPECT_EQ(1, traps[VEC_NMI]);
	vm_destroy(vm);
}
