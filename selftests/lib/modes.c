// SPDX-License-Identifier: GPL-2.0-only
/* Descriptor tables, page tables, and the CPU modes a test starts a vCPU in. */

#include <asm/processor-flags.h>
#include <string.h>

#include "guest.h"
#include "vm.h"
#include "x86.h"

void *low(struct vm *vm, u64 gpa)
{
	if (gpa >= LOW_SIZE)
		fail("%#llx is not in low memory", (unsigned long long)gpa);
	return (char *)vm->low + gpa;
}

static void make_gdt(struct vm *vm)
{
	u64 *gdt = low(vm, GPA_GDT);

	gdt[SEL_CODE64 / 8] = 0x00af9b000000ffffULL;
	gdt[SEL_DATA / 8] = 0x00cf93000000ffffULL;
	gdt[SEL_CODE32 / 8] = 0x00cf9b000000ffffULL;
	gdt[SEL_UCODE64 / 8] = 0x00affb000000ffffULL;
	gdt[SEL_UDATA / 8] = 0x00cff3000000ffffULL;
	for (int i = 0; i < MAX_VCPUS; i++) {
		u64 base = GPA_TSS + i * TSS_STRIDE;
		u64 *tss = low(vm, base);
		u64 *d = &gdt[SEL_TSS / 8 + 2 * i];

		d[0] = (TSS_STRIDE - 1) | (base & 0xffffff) << 16 |
		       0x89ULL << 40 | (base >> 24 & 0xff) << 56;
		d[1] = base >> 32;
		/* RSP0 lies at offset 4. */
		base = GPA_STACKS + (i + 1) * STACK_SIZE - STACK_SIZE / 2;
		memcpy((char *)tss + 4, &base, 8);
	}
}

static void make_page_tables(struct vm *vm)
{
	u64 *pml4 = low(vm, GPA_PML4), *pdpt = low(vm, GPA_PDPT);
	u64 *pae = low(vm, GPA_PAE_PDPT);

	pml4[0] = GPA_PDPT | PTE_P | PTE_W | PTE_U;
	for (int i = 0; i < 4; i++) {
		u64 *pd = low(vm, GPA_PD + i * PAGE_SIZE);

		pdpt[i] = (GPA_PD + i * PAGE_SIZE) | PTE_P | PTE_W | PTE_U;
		pae[i] = (GPA_PD + i * PAGE_SIZE) | PTE_P;
		for (u64 j = 0; j < 512; j++)
			pd[j] = ((u64)i << 30 | j << 21) | PTE_P | PTE_W |
				PTE_U | PTE_PS | PTE_A | PTE_D;
	}
}

void guest_tables(struct vm *vm)
{
	make_gdt(vm);
	make_page_tables(vm);
	guest_make_idt(low(vm, GPA_IDT));
}

static struct kvm_segment flat(u16 selector, u8 type, u8 dpl)
{
	return (struct kvm_segment) {
		.limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .dpl = dpl, .s = 1, .g = 1,
	};
}

static void set_segments(struct vcpu *vcpu, struct kvm_sregs *s, bool is64)
{
	s->cs = flat(is64 ? SEL_CODE64 : SEL_CODE32, 11, 0);
	s->cs.l = is64;
	s->cs.db = !is64;
	s->ss = flat(SEL_DATA, 3, 0);
	s->ss.db = 1;
	s->ds = s->ss;
	s->es = s->ss;
	s->fs = s->ss;
	s->gs = s->ss;
	s->gdt.base = GPA_GDT;
	s->gdt.limit = SEL_TSS + 16 * MAX_VCPUS - 1;
	s->idt.base = is64 ? GPA_IDT : 0;
	s->idt.limit = is64 ? PAGE_SIZE - 1 : 0;
	s->tr = (struct kvm_segment) {
		.base = GPA_TSS + vcpu->id * TSS_STRIDE, .limit = TSS_STRIDE - 1,
		.selector = SEL_TSS + 16 * vcpu->id, .type = 11, .present = 1,
	};
	s->ldt = (struct kvm_segment) { .unusable = 1 };
}

static void start_at(struct vcpu *vcpu, u64 rip, u64 arg)
{
	u64 top = GPA_STACKS + (vcpu->id + 1) * STACK_SIZE;
	struct kvm_regs regs = {
		.rip = rip,
		.rflags = X86_EFLAGS_FIXED,
		.rdi = arg,
		/* As after a call: the ABI wants RSP + 8 aligned to 16. */
		.rsp = top - 8,
	};
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	VCPU_IOCTL(vcpu, KVM_SET_MP_STATE, &mp);
}

void vcpu_set_long_arg(struct vcpu *vcpu, void (*entry)(void), u64 arg)
{
	struct kvm_sregs s;

	vcpu_sregs(vcpu, &s);
	set_segments(vcpu, &s, true);
	s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_PG | X86_CR0_ET | X86_CR0_MP;
	s.cr3 = GPA_PML4;
	s.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	s.efer = EFER_LME | EFER_LMA | EFER_NX;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	start_at(vcpu, (uintptr_t)entry, arg);
}

void vcpu_set_long(struct vcpu *vcpu, void (*entry)(void))
{
	vcpu_set_long_arg(vcpu, entry, 0);
}

static void set_32(struct vcpu *vcpu, const void *entry, u64 cr0, u64 cr4)
{
	struct kvm_sregs s;

	vcpu_sregs(vcpu, &s);
	set_segments(vcpu, &s, false);
	s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | cr0;
	s.cr3 = GPA_PAE_PDPT;
	s.cr4 = cr4;
	s.efer = 0;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	start_at(vcpu, (uintptr_t)entry, 0);
}

void vcpu_set_prot32(struct vcpu *vcpu, const void *entry)
{
	set_32(vcpu, entry, 0, 0);
}

void vcpu_set_pae(struct vcpu *vcpu, const void *entry)
{
	set_32(vcpu, entry, X86_CR0_PG, X86_CR4_PAE);
}

void vcpu_set_real(struct vcpu *vcpu, const void *start, const void *end)
{
	size_t size = (const char *)end - (const char *)start;
	struct kvm_regs regs = {
		.rip = 0, .rsp = 0x1000, .rflags = X86_EFLAGS_FIXED,
	};
	struct kvm_segment *seg;
	struct kvm_sregs s;

	if (size > PAGE_SIZE)
		fail("real-mode code of %zu bytes", size);
	memcpy(low(vcpu->vm, GPA_REAL), start, size);
	vcpu_sregs(vcpu, &s);
	s.cs.selector = GPA_REAL >> 4;
	s.cs.base = GPA_REAL;
	for (seg = &s.ds; seg <= &s.ss; seg++) {
		seg->selector = 0;
		seg->base = 0;
	}
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
}
