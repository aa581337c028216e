// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's own page tables as the hypervisor walks them: KVM_TRANSLATE in
 * each paging mode, and the emulator's accesses, with their page faults and
 * the accessed and dirty bits that they leave.
 */

#include "lib/test.h"

#define PTE_RW		(PTE_P | PTE_W)
#define PTE_RSVD	(1ULL << 51)	/* no CPU of today has such an address */

#define TABLE(n)	(GPA_PT + (n) * PAGE_SIZE)	/* 0..7 */

/* ---- KVM_TRANSLATE: nothing runs, the tables are just there ---- */

struct mode {
	struct vm *vm;
	struct vcpu *vcpu;
};

static struct mode make_mode(u64 cr0, u64 cr4, u64 efer)
{
	struct mode m = { .vm = vm_create(0) };
	struct kvm_sregs s;

	m.vcpu = vcpu_create(m.vm);
	for (int i = 0; i < 8; i++)
		memset(low(m.vm, TABLE(i)), 0, PAGE_SIZE);
	vcpu_sregs(m.vcpu, &s);
	s.cr0 = X86_CR0_ET | X86_CR0_NE | cr0;
	s.cr3 = TABLE(0);
	s.cr4 = cr4;
	s.efer = efer;
	s.cs.l = 0;
	VCPU_IOCTL(m.vcpu, KVM_SET_SREGS, &s);
	return m;
}

static void put64(struct mode *m, int table, int index, u64 entry)
{
	((u64 *)low(m->vm, TABLE(table)))[index] = entry;
}

static void put32(struct mode *m, int table, int index, u32 entry)
{
	((u32 *)low(m->vm, TABLE(table)))[index] = entry;
}

#define NOT_MAPPED	(~0ULL)

static u64 translate(struct mode *m, u64 linear)
{
	struct kvm_translation tr = { .linear_address = linear };

	VCPU_IOCTL(m->vcpu, KVM_TRANSLATE, &tr);
	return tr.valid ? tr.physical_address : NOT_MAPPED;
}

TEST(no_paging)
{
	struct mode m = make_mode(0, 0, 0);

	EXPECT_EQ(0x12345678, translate(&m, 0x12345678));
	EXPECT_EQ(0, translate(&m, 0));
}

TEST(two_levels)
{
	struct mode m = make_mode(X86_CR0_PE | X86_CR0_PG, X86_CR4_PSE, 0);

	put32(&m, 0, 0x123, TABLE(1) | PTE_RW);
	put32(&m, 1, 0x45, 0xabcde000 | PTE_RW);
	put32(&m, 0, 0x124, 0x40000000 | PTE_RW | PTE_PS);
	/* PSE-36: bits 20:13 are bits 39:32 of the address */
	put32(&m, 0, 0x125, 0x80000000 | PTE_RW | PTE_PS | 0x3 << 13);
	put32(&m, 0, 0x126, 0x40000000 | PTE_RW | PTE_PS | 1 << 21);
	EXPECT_EQ(0xabcde678, translate(&m, 0x123ULL << 22 | 0x45678));
	EXPECT_EQ(NOT_MAPPED, translate(&m, 0x123ULL << 22 | 0x46678));
	EXPECT_EQ(NOT_MAPPED, translate(&m, 0x122ULL << 22));
	EXPECT_EQ(0x40345678, translate(&m, 0x124ULL << 22 | 0x345678));
	EXPECT_EQ(0x380345678, translate(&m, 0x125ULL << 22 | 0x345678));
	EXPECT_EQ(NOT_MAPPED, translate(&m, 0x126ULL << 22));
}

TEST(two_levels_without_pse)
{
	struct mode m = make_mode(X86_CR0_PE | X86_CR0_PG, 0, 0);

	/* bit 7 is ignored: it points to a table */
	put32(&m, 0, 1, TABLE(1) | PTE_RW | PTE_PS);
	put32(&m, 1, 2, 0x9000 | PTE_RW);
	EXPECT_EQ(0x9123, translate(&m, 1 << 22 | 2 << 12 | 0x123));
}

TEST(pae)
{
	struct mode m;
	struct kvm_sregs s;

	m = make_mode(0, 0, 0);
	put64(&m, 0, 0, TABLE(1) | PTE_P);
	put64(&m, 0, 3, TABLE(2) | PTE_P);
	put64(&m, 1, 5, 0x140000000 | PTE_RW | PTE_PS);
	put64(&m, 2, 511, TABLE(3) | PTE_RW);
	put64(&m, 3, 511, 0x123456000 | PTE_RW);
	put64(&m, 3, 510, 0x123456000 | PTE_RW | PTE_RSVD);
	put64(&m, 3, 509, 0x123456000 | PTE_RW | PTE_NX);
	/* the registers for the first level are loaded now */
	vcpu_sregs(m.vcpu, &s);
	s.cr0 |= X86_CR0_PE | X86_CR0_PG;
	s.cr4 = X86_CR4_PAE;
	VCPU_IOCTL(m.vcpu, KVM_SET_SREGS, &s);

	EXPECT_EQ(0x140012345, translate(&m, 5 << 21 | 0x12345));
	EXPECT_EQ(0x123456789, translate(&m, 0xfffff789));
	EXPECT_EQ(NOT_MAPPED, translate(&m, 0xffffe789));
	/* NX is reserved while EFER.NXE is off */
	EXPECT_EQ(NOT_MAPPED, translate(&m, 0xffffd789));
	EXPECT_EQ(NOT_MAPPED, translate(&m, 0x40000000));
}

TEST(four_levels)
{
	struct mode m = make_mode(X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE, EFER_LME | EFER_LMA);
	u64 top = 0xffff800000000000;

	put64(&m, 0, 256, TABLE(1) | PTE_RW);
	put64(&m, 0, 1, TABLE(1) | PTE_RW | PTE_PS);
	put64(&m, 1, 0, TABLE(2) | PTE_RW);
	put64(&m, 1, 1, 0x40000000 | PTE_RW | PTE_PS);
	put64(&m, 1, 2, 0x40000000 | PTE_RW | PTE_PS | 1 << 13);
	put64(&m, 2, 0, TABLE(3) | PTE_RW);
	put64(&m, 2, 1, 0x600000 | PTE_RW | PTE_PS);
	put64(&m, 2, 2, 0x600000 | PTE_RW | PTE_PS | 1 << 13);
	put64(&m, 3, 7, 0x7000 | PTE_P);
	put64(&m, 3, 8, 0x7000 | PTE_P | PTE_RSVD);
	/* a table where there is no memory */
	put64(&m, 2, 3, GPA_MMIO | PTE_RW);

	EXPECT_EQ(0x7abc, translate(&m, top | 0x7abc));
	EXPECT_EQ(NOT_MAPPED, translate(&m, top | 0x6abc));
	EXPECT_EQ(NOT_MAPPED, translate(&m, top | 0x8abc));
	EXPECT_EQ(0x6abcde, translate(&m, top | 0x2abcde));
	EXPECT_EQ(NOT_MAPPED, translate(&m, top | 0x400000));
	EXPECT_EQ(NOT_MAPPED, translate(&m, top | 0x600000));
	EXPECT_EQ(0x7ffffff0, translate(&m, top | 0x7ffffff0));
	EXPECT_EQ(NOT_MAPPED, translate(&m, top | 0x80000000));
	/* the large bit is reserved in the top table */
	EXPECT_EQ(NOT_MAPPED, translate(&m, 1ULL << 39 | 0x7abc));
}

/* ---- the emulator: MOVS from a device to a page of the guest ---- */

/*
 * The guest reads a device that is userspace. While the data is fetched, the
 * test changes the entry that maps the destination; what follows is the
 * hypervisor's own walk, with no help from the CPU.
 */
#define DEST	0x30000000UL		/* mapped by TABLE(0), entry 0 */
#define FRAME	GPA_SCRATCH

static volatile u64 pf_error, pf_address;

#define NO_FAULT	0xffff

static void on_page_fault(struct guest_trap *trap)
{
	u64 cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	pf_address = cr2;
	pf_error = trap->error;
	trap->rip += 1;		/* of MOVSB */
}

static void copy_from_device(void)
{
	for (;;) {
		unsigned long to = DEST + 0x123, from = GPA_MMIO;

		pf_error = NO_FAULT;
		asm volatile("invlpg (%0)" : : "r"(DEST) : "memory");
		asm volatile("movsb" : "+D"(to), "+S"(from) : : "memory");
		guest_sync(pf_error);
	}
}

static struct mode make_copier(void)
{
	struct mode m = { .vm = vm_create(0) };

	m.vcpu = vcpu_create(m.vm);
	vcpu_set_long(m.vcpu, copy_from_device);
	guest_handlers[14] = on_page_fault;
	memset(low(m.vm, TABLE(0)), 0, PAGE_SIZE);
	((u64 *)low(m.vm, GPA_PD))[DEST >> 21] = TABLE(0) | PTE_RW | PTE_U;
	return m;
}

static void set_cr(struct mode *m, u64 cr0, u64 cr4)
{
	struct kvm_sregs s;

	vcpu_sregs(m->vcpu, &s);
	s.cr0 = (s.cr0 & ~X86_CR0_WP) | cr0;
	s.cr4 = (s.cr4 & ~(X86_CR4_SMAP | X86_CR4_SMEP)) | cr4;
	VCPU_IOCTL(m->vcpu, KVM_SET_SREGS, &s);
}

/*
 * One copy, of @data, with @entry for the destination. Return: the error code
 * of the page fault, or NO_FAULT.
 */
static u64 copy(struct mode *m, u64 entry, u8 data)
{
	struct kvm_run *run = m->vcpu->run;
	u64 error;

	/* present, in case the CPU looks at the destination first */
	put64(m, 0, 0, FRAME | PTE_RW);
	*(u8 *)low(m->vm, FRAME + 0x123) = 0;
	if (guest_run(m->vcpu) != UCALL_NONE || run->exit_reason != KVM_EXIT_MMIO)
		fail("no MMIO exit but %u", run->exit_reason);
	if (run->mmio.is_write || run->mmio.phys_addr != GPA_MMIO || run->mmio.len != 1)
		fail("not the access that the guest makes");
	run->mmio.data[0] = data;
	put64(m, 0, 0, entry);
	error = guest_run_sync(m->vcpu);
	if (error != NO_FAULT && pf_address != DEST + 0x123)
		fail("page fault at %#lx", (unsigned long)pf_address);
	return error;
}

static u8 copied(struct mode *m)
{
	return *(u8 *)low(m->vm, FRAME + 0x123);
}

static u64 dest_entry(struct mode *m)
{
	return *(u64 *)low(m->vm, TABLE(0));
}

TEST(emulator_sets_accessed_and_dirty)
{
	struct mode m = make_copier();

	EXPECT_EQ(NO_FAULT, copy(&m, FRAME | PTE_RW, 0x5a));
	EXPECT_EQ(0x5a, copied(&m));
	EXPECT_EQ(FRAME | PTE_RW | PTE_A | PTE_D, dest_entry(&m));
}

TEST(emulator_faults)
{
	struct mode m = make_copier();

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loads no CR2 at VMRUN; stock KVM fails, too");
	EXPECT_EQ(2, copy(&m, FRAME | PTE_W, 0x5a));			/* not present */
	EXPECT_EQ(0, copied(&m));
	EXPECT_EQ(FRAME | PTE_W, dest_entry(&m));
	EXPECT_EQ(2 | 1 | 8, copy(&m, FRAME | PTE_RW | PTE_RSVD, 0x5a));	/* reserved */
	EXPECT_EQ(0, copied(&m));
	set_cr(&m, X86_CR0_WP, 0);
	EXPECT_EQ(2 | 1, copy(&m, FRAME | PTE_P, 0x5a));		/* read-only */
	EXPECT_EQ(0, copied(&m));
	EXPECT_EQ(FRAME | PTE_P, dest_entry(&m));
	set_cr(&m, 0, 0);
	EXPECT_EQ(NO_FAULT, copy(&m, FRAME | PTE_P, 0x5b));		/* but not to ring 0 */
	EXPECT_EQ(0x5b, copied(&m));
}

TEST(emulator_honours_smap)
{
	struct kvm_cpuid2 *cpuid = cpuid_supported(dev_open());
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 7, 0);
	struct mode m = make_copier();
	struct kvm_regs r;

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loads no CR2 at VMRUN; stock KVM fails, too");
	if (!e || !(e->ebx & 1 << 20))
		SKIP(return, "no SMAP");
	/* the library's pages are the user's as well, or the stack would fault */
	for (unsigned int i = 0; i < 4 * 512; i++) {
		if (i != DEST >> 21)
			((u64 *)low(m.vm, GPA_PD))[i] &= ~PTE_U;
	}
	set_cr(&m, X86_CR0_WP, X86_CR4_SMAP);
	EXPECT_EQ(2 | 1, copy(&m, FRAME | PTE_RW | PTE_U, 0x5a));
	EXPECT_EQ(0, copied(&m));
	/* RFLAGS.AC lifts it */
	vcpu_regs(m.vcpu, &r);
	r.rflags |= X86_EFLAGS_AC;
	VCPU_IOCTL(m.vcpu, KVM_SET_REGS, &r);
	EXPECT_EQ(NO_FAULT, copy(&m, FRAME | PTE_RW | PTE_U, 0x5b));
	EXPECT_EQ(0x5b, copied(&m));
}

/* ---- code: from the page where it is now ---- */

#define CODE	0x31000000UL		/* mapped by TABLE(1), or TABLE(2), entry 0 */

/* Twice what exits, once for its length, and once to be emulated; the offset tells them apart. */
static const u8 code[2][9] = {
	{ 0x0f, 0xa2, 0x8b, 0x07, 0xc3 },		/* cpuid; mov (%rdi),%eax; ret */
	{ 0x48, 0x0f, 0xa2, 0x8b, 0x47, 0x04, 0xc3 },	/* rex.w cpuid; mov 4(%rdi),%eax; ret */
};

static void guest_call(void)
{
	for (;;) {
		asm volatile("invlpg (%0)" : : "r"(CODE) : "memory");
		asm volatile("call *%0"
			     : : "r"(CODE), "D"(GPA_MMIO) : "rax", "rbx", "rcx", "rdx", "memory");
		guest_sync(0);
	}
}

/* Which one was called. It has returned. */
static int called(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	int which;

	if (guest_run(vcpu) != UCALL_NONE || run->exit_reason != KVM_EXIT_MMIO)
		fail("no MMIO exit but %u", run->exit_reason);
	which = (run->mmio.phys_addr - GPA_MMIO) / 4;
	guest_run_sync(vcpu);
	return which;
}

static void put_code(u8 *memory, int page, int which)
{
	memcpy(memory + page * PAGE_SIZE, code[which], sizeof(code[which]));
}

TEST(code_of_another_page)
{
	struct mode m = { .vm = vm_create(0) };
	u64 *pd = low(m.vm, GPA_PD), page[2] = { GPA_USER | PTE_RW, (GPA_USER + PAGE_SIZE) | PTE_RW };
	struct kvm_sregs s;
	u8 *memory, *other;

	m.vcpu = vcpu_create(m.vm);
	vcpu_set_long(m.vcpu, guest_call);
	memory = vm_add_slot(m.vm, SLOT_USER, 0, GPA_USER, 2 * PAGE_SIZE);
	for (int i = 0; i < 2; i++) {
		put_code(memory, i, i);
		memset(low(m.vm, TABLE(1 + i)), 0, PAGE_SIZE);
		put64(&m, 1 + i, 0, page[i]);
	}
	pd[CODE >> 21] = TABLE(1) | PTE_RW;
	EXPECT_EQ(0, called(m.vcpu));
	EXPECT_EQ(0, called(m.vcpu));
	/* another page, by the last table, by the one before, by CR3 */
	put64(&m, 1, 0, page[1]);
	EXPECT_EQ(1, called(m.vcpu));
	EXPECT_EQ(1, called(m.vcpu));
	put64(&m, 1, 0, page[0]);
	EXPECT_EQ(0, called(m.vcpu));
	pd[CODE >> 21] = TABLE(2) | PTE_RW;
	EXPECT_EQ(1, called(m.vcpu));
	pd[CODE >> 21] = TABLE(1) | PTE_RW;
	EXPECT_EQ(0, called(m.vcpu));
	for (int i = 0; i < 3; i++)
		memcpy(low(m.vm, TABLE(3 + i)), low(m.vm, GPA_PML4 + i * PAGE_SIZE), PAGE_SIZE);
	put64(&m, 3, 0, TABLE(4) | PTE_RW | PTE_U);
	put64(&m, 4, 0, TABLE(5) | PTE_RW | PTE_U);
	put64(&m, 5, CODE >> 21, TABLE(2) | PTE_RW);
	vcpu_sregs(m.vcpu, &s);
	s.cr3 = TABLE(3);
	VCPU_IOCTL(m.vcpu, KVM_SET_SREGS, &s);
	EXPECT_EQ(1, called(m.vcpu));
	s.cr3 = GPA_PML4;
	VCPU_IOCTL(m.vcpu, KVM_SET_SREGS, &s);
	EXPECT_EQ(0, called(m.vcpu));
	/* the same page with other bytes, and then of other memory */
	put_code(memory, 0, 1);
	EXPECT_EQ(1, called(m.vcpu));
	other = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)other);
	put_code(other, 0, 0);
	ASSERT_EQ(0, vm_slot(m.vm, SLOT_USER, 0, GPA_USER, 0, memory));
	ASSERT_EQ(0, vm_slot(m.vm, SLOT_USER, 0, GPA_USER, 2 * PAGE_SIZE, other));
	EXPECT_EQ(0, called(m.vcpu));
	/* ... or of the same, where now something else is */
	put_code(memory, 0, 1);
	ASSERT_EQ((void *)other, mremap(memory, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, other));
	EXPECT_EQ(1, called(m.vcpu));
}

/*
 * Userspace may take LME away from a guest in long mode. No CPU does; one that enters it
 * like that finds no tables once paging is off, which 64-bit code cannot do. Return: how a
 * guest ends that tries to.
 */
static enum ucall end_paging(struct vcpu **vcpu, bool code64)
{
	/* cpuid; mov %edi,%cr0; cpuid; and from another page: data16 cpuid; a sync */
	static const u8 paged[] = { 0x0f, 0xa2, 0x0f, 0x22, 0xc7, 0x0f, 0xa2 };
	static const u8 unpaged[] = { 0x66, 0x0f, 0xa2, 0x66, 0xba, PORT_SYNC & 0xff,
				      PORT_SYNC >> 8, 0xef };
	struct mode m = { .vm = vm_create(0) };
	struct kvm_sregs s;
	struct kvm_regs r;

	*vcpu = m.vcpu = vcpu_create(m.vm);
	vcpu_set_long(m.vcpu, guest_call);
	for (int i = 0; i < 512; i++)
		put64(&m, 1, i, i * PAGE_SIZE | PTE_RW);
	put64(&m, 1, GPA_SCRATCH / PAGE_SIZE, (GPA_SCRATCH + PAGE_SIZE) | PTE_RW);
	*(u64 *)low(m.vm, GPA_PD) = TABLE(1) | PTE_RW;
	memcpy(low(m.vm, GPA_SCRATCH + PAGE_SIZE), paged, sizeof(paged));
	memcpy(low(m.vm, GPA_SCRATCH + 5), unpaged, sizeof(unpaged));
	vcpu_sregs(m.vcpu, &s);
	s.cs.l = code64;
	s.cs.db = !code64;
	VCPU_IOCTL(m.vcpu, KVM_SET_SREGS, &s);
	vcpu_regs(m.vcpu, &r);
	r.rip = GPA_SCRATCH;
	r.rdi = s.cr0 & ~X86_CR0_PG;
	VCPU_IOCTL(m.vcpu, KVM_SET_REGS, &r);
	if (vcpu_set_msr(m.vcpu, MSR_EFER, s.efer & ~(EFER_LME | EFER_LMA)) != 1)
		fail("LME cannot be taken away");
	return guest_run(m.vcpu);
}

#define NO_ENTRY(vcpu, ended)	((ended) == UCALL_NONE &&	\
				 (vcpu)->run->exit_reason == KVM_EXIT_FAIL_ENTRY)

TEST(code_without_paging)
{
	struct vcpu *vcpu;
	enum ucall ended;

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loses the host at such an entry; stock KVM's, too");
	ended = end_paging(&vcpu, false);
	if (NO_ENTRY(vcpu, ended))
		SKIP(return, "the CPU does not enter long mode without LME");
	EXPECT_EQ(UCALL_SYNC, ended);
}

static void on_protection(struct guest_trap *trap)
{
	(void)trap;
	guest_sync(0x600d);
}

TEST(code64_ends_no_paging)
{
	struct vcpu *vcpu;
	enum ucall ended;

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loses the host at such an entry; stock KVM's, too");
	guest_handlers[13] = on_protection;
	ended = end_paging(&vcpu, true);
	if (NO_ENTRY(vcpu, ended))
		SKIP(return, "the CPU does not enter long mode without LME");
	EXPECT_EQ(UCALL_SYNC, ended);
	EXPECT_EQ(0x600d, vcpu->sync);
}
