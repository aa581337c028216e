// SPDX-License-Identifier: GPL-2.0-only
/*
 * MMIO. Each instruction is run twice, on memory by the CPU and on a device by
 * the hypervisor's emulator: registers, flags and bytes must come out the same.
 */

#include "lib/test.h"

#define DEV_SIZE	(2 * PAGE_SIZE)
#define OFFSET		0x100
#define PATTERN_LEN	64

/* The device, which the host serves, and the memory it is compared with. */
static u8 dev[DEV_SIZE] __attribute__((aligned(4096)));
static u8 ram[DEV_SIZE] __attribute__((aligned(4096)));
static u8 buf[2][64];

#define FLAGS_ALL	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | \
			 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF)
#define FLAGS_LOGIC	(FLAGS_ALL & ~X86_EFLAGS_AF)	/* AF is undefined */
#define FLAGS_CF	X86_EFLAGS_CF			/* BT: the rest is undefined */

struct insn {
	const char *name;
	void (*code)(void);
	u32 flags;
	u32 must;
};

/*
 * In the section insns, the table: the text, a stub of it with a RET, which flags count,
 * and whether a hypervisor has to know it. Linux and firmware use those that
 * must be known; stock KVM knows all.
 */
#define INSN(text, flags, must)						\
	asm(".pushsection .rodata\n"					\
	    "7701:	.asciz \"" text "\"\n"				\
	    ".popsection\n"						\
	    ".pushsection .text\n"					\
	    "7702:	" text "\n"					\
	    "	ret\n"							\
	    ".popsection\n"						\
	    ".pushsection insns, \"a\"\n"				\
	    "	.quad 7701b, 7702b\n"					\
	    "	.long " #flags ", " #must "\n"				\
	    ".popsection\n")

/* 0x8d5: FLAGS_ALL, 0x8c5: FLAGS_LOGIC */
#define MUST(text)		INSN(text, 0x8d5, 1)
#define MUST_LOGIC(text)	INSN(text, 0x8c5, 1)
#define MUST_CF(text)		INSN(text, 1, 1)
#define MAY(text)		INSN(text, 0x8d5, 0)
#define MAY_LOGIC(text)		INSN(text, 0x8c5, 0)
#define MAY_CF(text)		INSN(text, 1, 0)
#define MAY_NO_FLAGS(text)	INSN(text, 0, 0)

/* RDI is the device or the memory, RSI and RBP a buffer; RCX counts. */
MUST("movb %al, (%rdi)");
MUST("movb %ah, (%rdi)");
MUST("movb %r9b, 1(%rdi)");
MUST("movw %ax, (%rdi)");
MUST("movl %eax, (%rdi)");
MUST("movq %rax, (%rdi)");
MUST("movq %r9, (%rdi)");
MUST("movb (%rdi), %al");
MUST("movb (%rdi), %bh");
MUST("movb (%rdi), %sil");
MUST("movw (%rdi), %ax");
MUST("movl (%rdi), %eax");
MUST("movq (%rdi), %rax");
MUST("movl 8(%rdi), %r10d");
MUST("movb $0x5a, (%rdi)");
MUST("movw $0x5a5b, (%rdi)");
MUST("movl $0x5a5b5c5d, (%rdi)");
MUST("movq $-2, (%rdi)");
MUST("movl %eax, (%rdi,%rcx,4)");
MUST("movl %eax, 0x20(%rdi,%rcx,8)");
MUST("movl -4(%rdi,%rcx,1), %edx");
MUST("movzbl (%rdi), %eax");
MUST("movzbw (%rdi), %ax");
MUST("movzbq (%rdi), %rax");
MUST("movzwl (%rdi), %eax");
MUST("movzwq (%rdi), %rax");
MUST("movsbl (%rdi), %eax");
MUST("movsbw (%rdi), %ax");
MUST("movsbq (%rdi), %rax");
MUST("movswl (%rdi), %eax");
MUST("movswq (%rdi), %rax");
MUST("movslq (%rdi), %rax");
MUST_LOGIC("orb %al, (%rdi)");
MUST_LOGIC("orl %eax, (%rdi)");
MUST_LOGIC("orq %rax, (%rdi)");
MUST_LOGIC("orl $0x1000, (%rdi)");
MUST_LOGIC("orl $1, (%rdi)");
MUST_LOGIC("orl (%rdi), %eax");
MUST_LOGIC("andb %al, (%rdi)");
MUST_LOGIC("andl %eax, (%rdi)");
MUST_LOGIC("andl $0xffffff0f, (%rdi)");
MUST_LOGIC("andl (%rdi), %eax");
MUST_LOGIC("andq (%rdi), %rax");
MUST_LOGIC("xorl %eax, (%rdi)");
MUST_LOGIC("xorl (%rdi), %eax");
MUST("addl %eax, (%rdi)");
MUST("addb %al, (%rdi)");
MUST("addl $5, (%rdi)");
MUST("addl (%rdi), %eax");
MUST("subl %eax, (%rdi)");
MUST("subl (%rdi), %eax");
MUST("cmpb %al, (%rdi)");
MUST("cmpw %ax, (%rdi)");
MUST("cmpl %eax, (%rdi)");
MUST("cmpq %rax, (%rdi)");
MUST("cmpl (%rdi), %eax");
MUST("cmpb $0x11, (%rdi)");
MUST("cmpl $0x44332211, (%rdi)");
MUST_LOGIC("testb %al, (%rdi)");
MUST_LOGIC("testl %eax, (%rdi)");
MUST_LOGIC("testb $0x10, (%rdi)");
MUST_LOGIC("testl $0x1000, (%rdi)");
MUST("xchgb %al, (%rdi)");
MUST("xchgl %eax, (%rdi)");
MUST("xchgq %rax, (%rdi)");
MUST("movsb");
MUST("movsl");
MUST("rep movsb");
MUST("rep movsl");
MUST("rep movsq");
MUST("stosb");
MUST("stosl");
MUST("rep stosb");
MUST("rep stosl");
MUST("rep stosq");
MAY("adcl %eax, (%rdi)");
MAY("sbbl %eax, (%rdi)");
MAY("adcl (%rdi), %eax");
MAY("incl (%rdi)");
MAY("decl (%rdi)");
MAY("incb (%rdi)");
MAY("notl (%rdi)");
MAY("negl (%rdi)");
MAY_CF("btl $3, (%rdi)");
MAY_CF("btsl $3, (%rdi)");
MAY_CF("btrl $4, (%rdi)");
MAY_CF("btcl $5, (%rdi)");
MAY_CF("btl %ecx, (%rdi)");
MAY_CF("btsl %ebx, (%rdi)");
MAY_LOGIC("lock orl %eax, (%rdi)");
MAY("lock addl %eax, (%rdi)");
MAY("lock xaddl %eax, (%rdi)");
MAY("cmpxchgl %ecx, (%rdi)");
MAY("lock cmpxchgl %ecx, (%rdi)");
MAY("sete (%rdi)");
MAY("movnti %eax, (%rdi)");
MAY_NO_FLAGS("shll $1, (%rdi)");
MAY_NO_FLAGS("shrl $4, (%rdi)");
MAY_NO_FLAGS("imull (%rdi), %eax");
MAY("movl %fs:(%rdi), %eax");
MAY("addr32 movl (%edi), %eax");

extern const struct insn __start_insns[], __stop_insns[];	/* by the linker */

#define NR_REGS	16
struct state {
	u64 reg[NR_REGS];	/* rax rcx rdx rbx rsi rdi rbp r8 .. r15 flags */
};

enum { RAX, RCX, RDX, RBX, RSI, RDI, RBP, R8, R9, R10, FLAGS = 15 };

extern void exec_insn(struct state *s, void (*code)(void));

/* Load the registers of *s, call the stub, store what became of them. */
asm(
"	.pushsection .text\n"
"exec_insn:\n"
"	pushq %rbx\n"
"	pushq %rbp\n"
"	pushq %r12\n"
"	pushq %r13\n"
"	pushq %r14\n"
"	pushq %r15\n"
"	pushq %rdi\n"
"	pushq %rsi\n"
"	movq %rdi, %r15\n"
"	pushq 120(%r15)\n"
"	movq 0(%r15), %rax\n"
"	movq 8(%r15), %rcx\n"
"	movq 16(%r15), %rdx\n"
"	movq 24(%r15), %rbx\n"
"	movq 32(%r15), %rsi\n"
"	movq 40(%r15), %rdi\n"
"	movq 48(%r15), %rbp\n"
"	movq 56(%r15), %r8\n"
"	movq 64(%r15), %r9\n"
"	movq 72(%r15), %r10\n"
"	movq 8(%rsp), %r14\n"
"	popfq\n"
"	call *%r14\n"
"	pushfq\n"
"	popq 120(%r15)\n"
"	movq %rax, 0(%r15)\n"
"	movq %rcx, 8(%r15)\n"
"	movq %rdx, 16(%r15)\n"
"	movq %rbx, 24(%r15)\n"
"	movq %rsi, 32(%r15)\n"
"	movq %rdi, 40(%r15)\n"
"	movq %rbp, 48(%r15)\n"
"	movq %r8, 56(%r15)\n"
"	movq %r9, 64(%r15)\n"
"	movq %r10, 72(%r15)\n"
"	popq %rsi\n"
"	popq %rdi\n"
"	popq %r15\n"
"	popq %r14\n"
"	popq %r13\n"
"	popq %r12\n"
"	popq %rbp\n"
"	popq %rbx\n"
"	ret\n"
"	.popsection\n"
);

static void fill(u8 *p, u32 len)
{
	for (u32 i = 0; i < len; i++)
		p[i] = 0x11 * (i + 1) + (i >> 3);
}

static void init_state(struct state *s, u64 base, u8 *buffer)
{
	for (int i = 0; i < NR_REGS; i++)
		s->reg[i] = 0x8899aabbccddee00ULL + 0x1111 * i;
	s->reg[RAX] = 0x8877665544332211ULL;
	s->reg[RCX] = 3;
	s->reg[RBX] = 9;
	s->reg[RDI] = base;
	s->reg[RSI] = (uintptr_t)buffer;
	s->reg[RBP] = (uintptr_t)buffer;
	s->reg[FLAGS] = X86_EFLAGS_FIXED | X86_EFLAGS_CF;
	for (int i = 0; i < 64; i++)
		buffer[i] = 0xc0 + i;
}

static struct state on_ram, on_dev;
static const struct insn *volatile current;

static void compare(const struct insn *insn, u64 ram_base, u64 dev_base)
{
	for (int i = 0; i < 10; i++) {
		u64 want = on_ram.reg[i], got = on_dev.reg[i];

		if (i == RDI) {
			want -= ram_base;
			got -= dev_base;
		} else if (i == RSI || i == RBP) {
			/* "movb (%rdi), %sil" leaves RSI a mixture: compare low. */
			if (want - (uintptr_t)buf[0] < sizeof(buf[0])) {
				want -= (uintptr_t)buf[0];
				got -= (uintptr_t)buf[1];
			} else {
				want &= 0xff;
				got &= 0xff;
			}
		}
		if (want != got)
			guest_abort(insn->name, i, "register", want, got);
	}
	if ((on_ram.reg[FLAGS] ^ on_dev.reg[FLAGS]) & insn->flags)
		guest_abort(insn->name, 0, "flags", on_ram.reg[FLAGS],
			    on_dev.reg[FLAGS]);
	for (u32 i = 0; i < DEV_SIZE; i++) {
		if (ram[i] != dev[i])
			guest_abort(insn->name, i, "memory", ram[i], dev[i]);
	}
}

static void guest_run_insn(void)
{
	const struct insn *insn = current;
	u64 ram_base = (uintptr_t)ram + OFFSET, dev_base = GPA_MMIO + OFFSET;

	fill(ram + OFFSET - 32, PATTERN_LEN + 32);
	fill(dev + OFFSET - 32, PATTERN_LEN + 32);
	init_state(&on_ram, ram_base, buf[0]);
	init_state(&on_dev, dev_base, buf[1]);
	exec_insn(&on_ram, insn->code);
	exec_insn(&on_dev, insn->code);
	compare(insn, ram_base, dev_base);
	guest_done();
}

static u32 exits, last_len;
static u64 last_gpa;

/* Be the device at GPA_MMIO until something else happens. */
static enum ucall serve(struct vcpu *vcpu)
{
	for (;;) {
		enum ucall uc = guest_run(vcpu);
		u64 off = vcpu->run->mmio.phys_addr - GPA_MMIO;
		u32 len = vcpu->run->mmio.len;

		if (uc != UCALL_NONE || vcpu->run->exit_reason != KVM_EXIT_MMIO)
			return uc;
		exits++;
		last_len = len;
		last_gpa = vcpu->run->mmio.phys_addr;
		if (len == 0 || len > 8 || off + len > DEV_SIZE)
			fail("MMIO of %u at %#llx", len,
			     (unsigned long long)vcpu->run->mmio.phys_addr);
		if (vcpu->run->mmio.is_write)
			memcpy(dev + off, vcpu->run->mmio.data, len);
		else
			memcpy(vcpu->run->mmio.data, dev + off, len);
	}
}

static int run_insns(bool must)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	const struct insn *i;
	int bad = 0, n = 0;

	for (i = __start_insns; i < __stop_insns; i++) {
		enum ucall uc;

		if (!!i->must != must)
			continue;
		n++;
		current = i;
		exits = 0;
		vcpu_complete_io(vcpu);
		vcpu_set_long(vcpu, guest_run_insn);
		uc = serve(vcpu);
		if (uc == UCALL_DONE && exits)
			continue;
		if (!must && !dev_is_kvm() && uc == UCALL_NONE &&
		    vcpu->run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
			fprintf(stderr, "# not emulated: %s\n", i->name);
			continue;
		}
		fprintf(stderr, "# %s: exit %s, %u accesses\n", i->name,
			exit_name(vcpu->run->exit_reason), exits);
		bad++;
	}
	fprintf(stderr, "# %d instructions\n", n);
	if (!n)
		bad++;
	vm_destroy(vm);
	return bad;
}

TEST(instructions_in_use)
{
	EXPECT_EQ(0, run_insns(true));
}

/* Stock KVM knows these; elsewhere an honest "not emulated" is an answer, too. */
TEST(instructions_beyond)
{
	EXPECT_EQ(0, run_insns(false));
}

static volatile u64 result[4];

static void guest_fragments(void)
{
	volatile u64 *q = (volatile u64 *)(GPA_MMIO + PAGE_SIZE - 3);
	volatile u32 *l = (volatile u32 *)(GPA_USER + PAGE_SIZE - 2);

	result[0] = *(volatile u64 *)(GPA_MMIO + 0x10);
	guest_sync(1);
	result[1] = *q;			/* over the end of a page */
	*q = 0x1122334455667788ULL;
	guest_sync(2);
	result[2] = *l;			/* two bytes of memory, two of the device */
	*l = 0xa1b2c3d4;
	guest_done();
}

TEST(fragments)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 val;
	u8 *p;

	fill(dev, DEV_SIZE);
	vcpu_set_long(vcpu, guest_fragments);
	ASSERT_EQ(UCALL_SYNC, serve(vcpu));
	EXPECT_EQ(1, exits);
	EXPECT_EQ(8, last_len);
	EXPECT_EQ(*(u64 *)(dev + 0x10), result[0]);
	memcpy(&val, dev + PAGE_SIZE - 3, 8);
	exits = 0;
	ASSERT_EQ(UCALL_SYNC, serve(vcpu));
	EXPECT_EQ(val, result[1]);
	memcpy(&val, dev + PAGE_SIZE - 3, 8);
	EXPECT_EQ(0x1122334455667788ULL, val);
	EXPECT_LE(4, exits);

	/* Memory that ends where no slot begins. */
	p = vm_add_slot(vm, SLOT_USER, 0, GPA_USER, PAGE_SIZE);
	p[PAGE_SIZE - 2] = 0x11;
	p[PAGE_SIZE - 1] = 0x22;
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(GPA_USER + PAGE_SIZE, vcpu->run->mmio.phys_addr);
	EXPECT_EQ(2, vcpu->run->mmio.len);
	vcpu->run->mmio.data[0] = 0x33;
	vcpu->run->mmio.data[1] = 0x44;
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(0x44332211, result[2]);
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(1, vcpu->run->mmio.is_write);
	EXPECT_EQ(2, vcpu->run->mmio.len);
	EXPECT_EQ(0xb2, vcpu->run->mmio.data[0]);
	EXPECT_EQ(0xa1, vcpu->run->mmio.data[1]);
	EXPECT_EQ(0xd4, p[PAGE_SIZE - 2]);
	EXPECT_EQ(0xc3, p[PAGE_SIZE - 1]);
	guest_run_done(vcpu);
	vm_destroy(vm);
}

static void guest_read_one(void)
{
	result[0] = mmio_read32(GPA_MMIO);
	guest_done();
}

TEST(read_completes_at_the_next_run)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_read_one);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(0, vcpu->run->mmio.is_write);
	memcpy(vcpu->run->mmio.data, "\x78\x56\x34\x12", 4);
	vcpu_complete_io(vcpu);
	memcpy(vcpu->run->mmio.data, "\0\0\0\0", 4);
	guest_run_done(vcpu);
	EXPECT_EQ(0x12345678, result[0]);
	vm_destroy(vm);
}

static volatile u64 fault_cr2, fault_rsi, fault_rdi;

static void on_page_fault(struct guest_trap *trap)
{
	fault_cr2 = read_cr2();
	fault_rsi = trap->rsi;
	fault_rdi = trap->rdi;
	trap->rdi = (uintptr_t)buf[0];
}

#define UNMAPPED	(1ULL << 32)	/* above what the page tables map */

static void guest_movs_fault(void)
{
	u64 rsi = GPA_MMIO, rdi = UNMAPPED;

	asm volatile("movsb" : "+S"(rsi), "+D"(rdi) : : "memory");
	GUEST_ASSERT_EQ(fault_cr2, UNMAPPED);
	GUEST_ASSERT_EQ(fault_rsi, GPA_MMIO);
	GUEST_ASSERT_EQ(fault_rdi, UNMAPPED);
	GUEST_ASSERT_EQ(rsi, GPA_MMIO + 1);
	guest_done();
}

/* The emulator walks the guest's page tables, and faults as the CPU would. */
TEST(fault_of_the_other_operand)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	if (host_is_bochs_svm())
		SKIP(return, "Bochs 2.7 loads no CR2 at VMRUN; stock KVM fails, too");
	dev[0] = 0x77;
	guest_handlers[VEC_PF] = on_page_fault;
	vcpu_set_long(vcpu, guest_movs_fault);
	ASSERT_EQ(UCALL_DONE, serve(vcpu));
	EXPECT_EQ(0x77, buf[0][0]);
	vm_destroy(vm);
}

static void guest_unknown(void)
{
	/* AESENC: none of the emulators knows it. */
	asm volatile("aesenc (%0), %%xmm1" : : "r"(GPA_MMIO));
	guest_done();
}

TEST(unknown_instruction_is_an_internal_error)
{
	static const u8 opcode[] = { 0x66, 0x0f, 0x38, 0xdc };
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	u64 rip;

	vcpu_set_long(vcpu, guest_unknown);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_INTERNAL_ERROR, vcpu->run->exit_reason);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, vcpu->run->internal.suberror);
	/* RIP is still there, and the bytes are in the run page. */
	rip = vcpu_rip(vcpu);
	EXPECT_EQ(0, memcmp((void *)(uintptr_t)rip, opcode, sizeof(opcode)));
	EXPECT_LE(3, vcpu->run->emulation_failure.ndata);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
		  vcpu->run->emulation_failure.flags &
		  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	EXPECT_LE(4, vcpu->run->emulation_failure.insn_size);
	EXPECT_EQ(0, memcmp(vcpu->run->emulation_failure.insn_bytes, opcode, 4));
	vm_destroy(vm);
}

extern const char real_mmio_start[], real_mmio_end[];

/* The text screen of a PC in real mode: segment, 16-bit address, rep movsw. */
asm(
"	.pushsection .text\n"
"	.code16\n"
"real_mmio_start:\n"
"	movw $0xb800, %ax\n"
"	movw %ax, %es\n"
"	movw $4, %di\n"
"	movb $'k', %es:(%di)\n"
"	movw %es:2(%di), %bx\n"
"	cld\n"
"	movw $0x0741, %ax\n"
"	movw $2, %cx\n"
"	rep stosw\n"
"	hlt\n"
"real_mmio_end:\n"
"	.code64\n"
"	.popsection\n"
);

TEST(real_mode)
{
	struct vm *vm = vm_create(VM_NO_MEMORY);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_regs r;

	/* Low memory, but none where the screen is. */
	vm->low = vm_add_slot(vm, SLOT_LOW, 0, 0, 0xa0000);
	vcpu_set_real(vcpu, real_mmio_start, real_mmio_end);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(0xb8004, vcpu->run->mmio.phys_addr);
	EXPECT_EQ(1, vcpu->run->mmio.is_write);
	EXPECT_EQ('k', vcpu->run->mmio.data[0]);
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(0xb8006, vcpu->run->mmio.phys_addr);
	EXPECT_EQ(2, vcpu->run->mmio.len);
	memcpy(vcpu->run->mmio.data, "\x34\x12", 2);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
		ASSERT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
		EXPECT_EQ(0xb8004 + 2 * i, vcpu->run->mmio.phys_addr);
		EXPECT_EQ(2, vcpu->run->mmio.len);
	}
	ASSERT_EQ(UCALL_NONE, guest_run(vcpu));
	ASSERT_EQ(KVM_EXIT_HLT, vcpu->run->exit_reason);
	vcpu_regs(vcpu, &r);
	EXPECT_EQ(0x1234, r.rbx & 0xffff);
	vm->low = NULL;
	vm_destroy(vm);
}

/* Four times the same register under a tight loop: no exit gets lost. */
static void guest_counts(void)
{
	u32 n = 200 * keel_scale;

	for (u32 i = 0; i < n; i++) {
		mmio_write32(GPA_MMIO, i);
		GUEST_ASSERT_EQ(mmio_read32(GPA_MMIO), i);
	}
	guest_done();
}

TEST(many_exits)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_counts);
	exits = 0;
	ASSERT_EQ(UCALL_DONE, serve(vcpu));
	EXPECT_EQ(400 * keel_scale, exits);
	vm_destroy(vm);
}
