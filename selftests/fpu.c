// SPDX-License-Identifier: GPL-2.0-only
/* x87, SSE and AVX state: the guest's own, whatever exits and others do to it. */

#include "lib/test.h"

#define ECX1_XSAVE	(1U << 26)
#define ECX1_AVX	(1U << 28)

static volatile u32 stop;

/* A pattern in each register, different for each vCPU. */
static void fill(u8 *p, u32 n, u32 seed)
{
	for (u32 i = 0; i < n; i++)
		p[i] = i * 7 + i / 256 * 13 + seed;
}

static bool same(const u8 *a, const u8 *b, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (a[i] != b[i])
			return false;
	}
	return true;
}

struct sse {
	u8 xmm[16][16];
} __attribute__((aligned(64)));

#define LOAD(i)		"movups " #i "*16(%0), %%xmm" #i "\n\t"
#define STORE(i)	"movups %%xmm" #i ", " #i "*16(%0)\n\t"
#define ALL16(x)	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) \
			x(10) x(11) x(12) x(13) x(14) x(15)

static inline void sse_load(const struct sse *s)
{
	asm volatile(ALL16(LOAD) : : "r"(s) : "memory");
}

static inline void sse_store(struct sse *s)
{
	asm volatile(ALL16(STORE) : : "r"(s) : "memory");
}

static struct sse want[2], got[2];

static void x87_load(u16 cw, u64 val)
{
	asm volatile("fninit; fldcw %0; fildll %1" : : "m"(cw), "m"(val));
}

static void guest_sse(void)
{
	u32 mxcsr = 0x1f80 | 0x2000, m;
	u16 cw = 0x27f, c;
	u64 v;

	fill((u8 *)&want[0], sizeof(want[0]), 1);
	x87_load(cw, 123456789);
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	sse_load(&want[0]);
	for (u32 i = 0; i < 5; i++) {
		guest_sync(i);
		sse_store(&got[0]);
		GUEST_ASSERT(same((u8 *)&want[0], (u8 *)&got[0], sizeof(got[0])));
		asm volatile("stmxcsr %0" : "=m"(m));
		GUEST_ASSERT_EQ(m, mxcsr);
		asm volatile("fnstcw %0" : "=m"(c));
		GUEST_ASSERT_EQ(c, cw);
	}
	asm volatile("fistpll %0" : "=m"(v));
	GUEST_ASSERT_EQ(v, 123456789);
	guest_done();
}

/* The host's own use of the same registers in between, by force. */
static void host_clobbers(void)
{
	struct sse s;

	fill((u8 *)&s, sizeof(s), 99);
	sse_load(&s);
	asm volatile("fninit; fldpi; fldpi; fldpi");
	asm volatile("fninit");
}

TEST(sse_survives_exits)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_fpu f;

	vcpu_set_long(vcpu, guest_sse);
	for (u32 i = 0; i < 5; i++) {
		struct sse before, after;

		ASSERT_EQ(i, guest_run_sync(vcpu));
		host_clobbers();
		VCPU_IOCTL(vcpu, KVM_GET_FPU, &f);
		EXPECT_EQ(0, memcmp(f.xmm, want[0].xmm, sizeof(f.xmm)));
		EXPECT_EQ(0x27f, f.fcw);
		/* 6.1 leaves this field alone; KVM_GET_XSAVE has it. */
		EXPECT_TRUE(f.mxcsr == 0x3f80 || (dev_is_kvm() && !f.mxcsr));
		/* Nor does the guest's state leak into the host's. */
		fill((u8 *)&before, sizeof(before), 0x33);
		sse_load(&before);
		vcpu_complete_io(vcpu);
		sse_store(&after);
		EXPECT_EQ(0, memcmp(&before, &after, 16 * 6));
	}
	guest_run_done(vcpu);
	vm_destroy(vm);
}

TEST(set_fpu_reaches_the_guest)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_fpu f;

	vcpu_set_long(vcpu, guest_sse);
	ASSERT_EQ(0, guest_run_sync(vcpu));
	VCPU_IOCTL(vcpu, KVM_GET_FPU, &f);
	fill((u8 *)f.xmm, sizeof(f.xmm), 50);
	fill((u8 *)&want[0], sizeof(want[0]), 50);
	VCPU_IOCTL(vcpu, KVM_SET_FPU, &f);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	vm_destroy(vm);
}

static volatile u32 ready[2];

static void guest_sse_pair(u64 me)
{
	guest_spins();
	fill((u8 *)&want[me], sizeof(want[me]), 10 + 100 * me);
	sse_load(&want[me]);
	ready[me] = 1;
	for (u32 i = 0; !stop; i++) {
		if (!(i & 63))
			guest_sync(i);
		sse_store(&got[me]);
		GUEST_ASSERT(same((u8 *)&want[me], (u8 *)&got[me], sizeof(got[me])));
	}
	guest_done();
}

static void *run_syncs(void *arg)
{
	struct vcpu *vcpu = arg;
	enum ucall uc;

	do
		uc = guest_run(vcpu);
	while (uc == UCALL_SYNC);
	if (uc != UCALL_DONE)
		fail("exit %u", vcpu->run->exit_reason);
	return NULL;
}

TEST(two_vcpus)
{
	struct vm *vm = vm_create(0);
	struct vcpu *a = vcpu_create(vm), *b = vcpu_create(vm);

	/* On one CPU they have to share its registers. */
	on_cpu(0);
	vcpu_set_long_arg(a, (void (*)(void))guest_sse_pair, 0);
	vcpu_set_long_arg(b, (void (*)(void))guest_sse_pair, 1);
	vcpu_start_fn(a, run_syncs);
	vcpu_start_fn(b, run_syncs);
	while (!ready[0] || !ready[1])
		usleep(1000);
	usleep(100000 * keel_scale);
	stop = 1;
	vcpu_join(a);
	vcpu_join(b);
	vm_destroy(vm);
}

/* --- AVX and XCR0 --- */

static u8 ymm_want[32] __attribute__((aligned(32))), ymm_got[32] __attribute__((aligned(32)));

static u32 xsetbv_safe(u32 index, u64 val)
{
	u32 trap;

	asm volatile(TRY("xsetbv") "movl %%r9d, %[trap]"
		     : [trap] "=r"(trap)
		     : "c"(index), "a"((u32)val), "d"((u32)(val >> 32))
		     : TRY_CLOBBERS);
	return trap;
}

static u64 xgetbv(void)
{
	u32 lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (u64)hi << 32 | lo;
}

static void guest_xsetbv(void)
{
	u32 a, b, c, d;

	guest_cpuid(1, 0, &a, &b, &c, &d);
	if (!(c & ECX1_XSAVE)) {
		guest_sync(100);
		guest_done();
	}
	/* Not before CR4 says so. */
	GUEST_ASSERT_EQ(xsetbv_safe(0, 3), GUEST_FAULTED | VEC_UD);
	write_cr4(read_cr4() | X86_CR4_OSXSAVE);
	GUEST_ASSERT_EQ(xgetbv(), 1);
	GUEST_ASSERT_EQ(xsetbv_safe(0, 2), GUEST_FAULTED | VEC_GP);	/* no x87 */
	GUEST_ASSERT_EQ(xsetbv_safe(0, 5), GUEST_FAULTED | VEC_GP);	/* AVX, no SSE */
	GUEST_ASSERT_EQ(xsetbv_safe(0, 3 | 1ULL << 62), GUEST_FAULTED | VEC_GP);
	GUEST_ASSERT_EQ(xsetbv_safe(1, 3), GUEST_FAULTED | VEC_GP);	/* no XCR1 */
	GUEST_ASSERT_EQ(xsetbv_safe(0, 3), 0);
	GUEST_ASSERT_EQ(xgetbv(), 3);
	guest_sync(3);
	guest_done();
}

TEST(xsetbv)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_xcrs xcrs;
	u64 sync;

	vcpu_set_long(vcpu, guest_xsetbv);
	sync = guest_run_sync(vcpu);
	if (sync == 100)
		SKIP(return, "no XSAVE");
	ASSERT_EQ(3, sync);
	VCPU_IOCTL(vcpu, KVM_GET_XCRS, &xcrs);
	/* QEMU TCG has no exit for XSETBV: stock KVM does not learn of it. */
	EXPECT_TRUE(xcrs.xcrs[0].value == 3 ||
		    (host_is_amd() && xcrs.xcrs[0].value == 1));
	vm_destroy(vm);
}

static void guest_avx(void)
{
	u32 a, b, c, d;

	guest_cpuid(1, 0, &a, &b, &c, &d);
	if (!(c & ECX1_AVX)) {
		guest_sync(101);
		guest_done();
	}
	GUEST_ASSERT_EQ(xgetbv(), 7);
	fill(ymm_want, 32, 77);
	asm volatile("vmovups %0, %%ymm5" : : "m"(ymm_want));
	for (u32 i = 0; i < 5; i++) {
		guest_sync(i);
		GUEST_ASSERT_EQ(xgetbv(), 7);
		asm volatile("vmovups %%ymm5, %0" : "=m"(ymm_got));
		GUEST_ASSERT(same(ymm_want, ymm_got, 32));
	}
	guest_done();
}

/* XCR0 and CR4 come from the host here, which all platforms take note of. */
TEST(avx_survives_exits)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	static struct kvm_xsave x;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = 7 };
	struct kvm_sregs s;
	u64 bv;

	if (sys_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs))
		SKIP(return, "no AVX");
	vcpu_set_long(vcpu, guest_avx);
	vcpu_sregs(vcpu, &s);
	s.cr4 |= X86_CR4_OSXSAVE;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	for (u32 i = 0; i < 5; i++) {
		u64 sync = guest_run_sync(vcpu);

		if (sync == 101)
			SKIP(return, "no AVX");
		ASSERT_EQ(i, sync);
		host_clobbers();
		VCPU_IOCTL(vcpu, KVM_GET_XSAVE, &x);
		memcpy(&bv, (char *)&x + 512, 8);
		EXPECT_EQ(4, bv & 4);
		/* SDM vol. 1, 13.4.3: in the standard form AVX lies at 576. */
		EXPECT_EQ(0, memcmp((char *)&x + 576 + 5 * 16, ymm_want + 16, 16));
		EXPECT_EQ(0, memcmp((char *)&x + 160 + 5 * 16, ymm_want, 16));
	}
	guest_run_done(vcpu);
	vm_destroy(vm);
}

/* --- AVX-512 --- */

#define XCR0_AVX512	0xe7
#define EBX7_AVX512F	(1U << 16)

struct avx512 {
	u8 zmm[32][64];
	u8 k[8][8];		/* the lower 16 bits are what AVX512F has */
} __attribute__((aligned(64)));

static struct avx512 zwant[2], zgot[2];

#define ZLOAD(i)	"vmovups " #i "*64(%0), %%zmm" #i "\n\t"
#define ZSTORE(i)	"vmovups %%zmm" #i ", " #i "*64(%0)\n\t"
#define ALL32(x)	ALL16(x) x(16) x(17) x(18) x(19) x(20) x(21) x(22) \
			x(23) x(24) x(25) x(26) x(27) x(28) x(29) x(30) x(31)
#define KLOAD(i)	"kmovw 32*64+" #i "*8(%0), %%k" #i "\n\t"
#define KSTORE(i)	"kmovw %%k" #i ", 32*64+" #i "*8(%0)\n\t"
#define ALL8(x)		x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7)

static inline void avx512_load(const struct avx512 *s)
{
	asm volatile(ALL32(ZLOAD) ALL8(KLOAD) : : "r"(s) : "memory");
}

static inline void avx512_store(struct avx512 *s)
{
	asm volatile(ALL32(ZSTORE) ALL8(KSTORE) : : "r"(s) : "memory");
}

static void avx512_fill(struct avx512 *s, u32 seed)
{
	fill((u8 *)s, sizeof(*s), seed);
	for (u32 i = 0; i < 8; i++) {
		for (u32 j = 2; j < 8; j++)
			s->k[i][j] = 0;
	}
}

static void guest_avx512(u64 me)
{
	u32 a, b, c, d;

	guest_cpuid(7, 0, &a, &b, &c, &d);
	GUEST_ASSERT(b & EBX7_AVX512F);
	avx512_fill(&zwant[me], 60 + 100 * me);
	avx512_load(&zwant[me]);
	for (u32 i = 0;; i++) {
		guest_sync(i);
		avx512_store(&zgot[me]);
		GUEST_ASSERT(same((u8 *)&zwant[me], (u8 *)&zgot[me], sizeof(zgot[me])));
	}
}

/* Where a component lies in the standard form. */
static u32 xsave_offset(u32 component)
{
	u32 size, offset, c, d;

	guest_cpuid(0xd, component, &size, &offset, &c, &d);
	return offset;
}

/* Two vCPUs and the host by turns on one CPU, each with its own in all of it. */
TEST(avx512)
{
	struct vm *vm = vm_create(0);
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = XCR0_AVX512 };
	static struct kvm_xsave x;
	static struct avx512 host, back;
	struct kvm_sregs s;
	u32 a, b, c, d;

	guest_cpuid(7, 0, &a, &b, &c, &d);
	if (!(b & EBX7_AVX512F))
		SKIP(return, "this CPU has no AVX-512");
	guest_cpuid(1, 0, &a, &b, &c, &d);
	if (!(c & 1U << 27) || (xgetbv() & XCR0_AVX512) != XCR0_AVX512)
		SKIP(return, "the host's kernel has AVX-512 off");
	on_cpu(0);
	for (int i = 0; i < 2; i++) {
		struct vcpu *vcpu = vcpu_create(vm);

		VCPU_IOCTL(vcpu, KVM_SET_XCRS, &xcrs);
		vcpu_set_long_arg(vcpu, (void (*)(void))guest_avx512, i);
		vcpu_sregs(vcpu, &s);
		s.cr4 |= X86_CR4_OSXSAVE;
		VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s);
	}
	avx512_fill(&host, 17);
	for (u32 n = 0; n < 10; n++) {
		struct vcpu *vcpu = &vm->vcpu[n & 1];
		struct avx512 *w = &zwant[n & 1];
		int run;

		avx512_load(&host);
		run = vcpu_run(vcpu);
		avx512_store(&back);
		ASSERT_EQ(0, run);
		ASSERT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
		ASSERT_EQ(PORT_SYNC, vcpu->run->io.port);
		/* A system call may drop vector registers, Linux does not. */
		EXPECT_EQ(0, memcmp(&host, &back, sizeof(host)));
		VCPU_IOCTL(vcpu, KVM_GET_XSAVE, &x);
		for (u32 i = 0; i < 32; i++) {
			char *xmm = (char *)&x + 160 + i * 16;
			char *ymm = (char *)&x + xsave_offset(2) + i * 16;
			char *hi = (char *)&x + xsave_offset(6) + i * 32;

			if (i >= 16) {
				hi = (char *)&x + xsave_offset(7) + (i - 16) * 64;
				EXPECT_EQ(0, memcmp(hi, w->zmm[i], 64));
				continue;
			}
			EXPECT_EQ(0, memcmp(xmm, w->zmm[i], 16));
			EXPECT_EQ(0, memcmp(ymm, w->zmm[i] + 16, 16));
			EXPECT_EQ(0, memcmp(hi, w->zmm[i] + 32, 32));
		}
		EXPECT_EQ(0, memcmp((char *)&x + xsave_offset(5), w->k, sizeof(w->k)));
	}
	vm_destroy(vm);
}

/*
 * Vector moves from and to a device are emulated: one register changes, by
 * its lower 128 bits, and no other, although the host uses them in between.
 */
#define VEC_FROM	0x20	/* offsets in the device */
#define VEC_TO		0x50

static u8 vec_dev[0x80] __attribute__((aligned(16)));

static void guest_vector_mmio(void)
{
	fill((u8 *)&want[0], sizeof(want[0]), 5);
	asm volatile(ALL16(LOAD)
		     "movups %c2(%1), %%xmm9\n\t"
		     "movups %%xmm3, %c3(%1)\n\t"
		     : : "r"(&want[0]), "r"(GPA_MMIO), "i"(VEC_FROM), "i"(VEC_TO)
		     : "memory");
	sse_store(&got[0]);
	guest_done();
}

TEST(vector_moves_to_a_device)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);
	struct kvm_run *run = vcpu->run;
	u32 exits = 0;

	fill(vec_dev, sizeof(vec_dev), 200);
	vcpu_set_long(vcpu, guest_vector_mmio);
	while (guest_run(vcpu) == UCALL_NONE) {
		u64 off = run->mmio.phys_addr - GPA_MMIO;

		ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
		ASSERT_TRUE(run->mmio.len <= 8 && off + run->mmio.len <= sizeof(vec_dev));
		if (run->mmio.is_write)
			memcpy(vec_dev + off, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, vec_dev + off, run->mmio.len);
		host_clobbers();
		exits++;
	}
	EXPECT_EQ(4, exits);
	EXPECT_EQ(0, memcmp(got[0].xmm[9], vec_dev + VEC_FROM, 16));
	EXPECT_EQ(0, memcmp(want[0].xmm[3], vec_dev + VEC_TO, 16));
	memcpy(got[0].xmm[9], want[0].xmm[9], 16);
	EXPECT_EQ(0, memcmp(&got[0], &want[0], sizeof(got[0])));
	vm_destroy(vm);
}

/* CR0.TS and EM belong to the guest: #NM is its own affair. */
static volatile u32 nm_count;

static void on_nm(struct guest_trap *trap)
{
	(void)trap;
	nm_count++;
	asm volatile("clts");
}

static void guest_lazy(void)
{
	write_cr0(read_cr0() | X86_CR0_TS);
	guest_sync(1);
	asm volatile("fninit");
	GUEST_ASSERT_EQ(nm_count, 1);
	guest_sync(2);
	asm volatile("fninit");
	GUEST_ASSERT_EQ(nm_count, 1);
	guest_done();
}

TEST(lazy_switch_of_the_guest)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_create(vm);

	guest_handlers[VEC_NM] = on_nm;
	vcpu_set_long(vcpu, guest_lazy);
	ASSERT_EQ(1, guest_run_sync(vcpu));
	ASSERT_EQ(2, guest_run_sync(vcpu));
	guest_run_done(vcpu);
	vm_destroy(vm);
}
