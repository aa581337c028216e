// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory that changes under several vCPUs which use it at that moment:
 * whatever the host does to it, no vCPU sees anything but what it wrote there
 * itself, or zeros, and none writes where it must not write any more.
 */

#include <time.h>

#include "lib/test.h"

#define NR_VCPUS	4
#define SIZE		(8UL << 20)
#define NR_PAGES	(SIZE / PAGE_SIZE)
#define HUGE		(2UL << 20)
#define NOTHING		~0ULL		/* what is read where there is no memory */

/*
 * The first words of each page, one for each vCPU, which alone writes it: who
 * and where above, a number that grows below.
 */
#define TAG(vcpu, page)	((u64)(vcpu) << 60 | (u64)(page) << 40)
#define TAG_MASK	(~0ULL << 40)

static volatile u32 stop;
static volatile u64 steps[NR_VCPUS], passes[NR_VCPUS];
static u64 last[NR_VCPUS][NR_PAGES];

static void guest_toucher(u64 me)
{
	volatile u64 *p = (volatile u64 *)GPA_USER;
	u64 n = 0;

	guest_spins();
	while (!stop) {
		for (u64 page = 0; page < NR_PAGES && !stop; page++) {
			volatile u64 *word = p + page * PAGE_SIZE / 8;
			u64 other = word[(me + 1) % NR_VCPUS], val = word[me];

			/* Nothing of another page, nothing of the past. */
			if (val && val != NOTHING &&
			    ((val & TAG_MASK) != TAG(me, page) || val > TAG(me, page) + n ||
			     val < last[me][page]))
				GUEST_FAIL("a value from nowhere", val, last[me][page]);
			if (other && other != NOTHING &&
			    (other & TAG_MASK) != TAG((me + 1) % NR_VCPUS, page))
				GUEST_FAIL("another page", other, page);
			if (val && val != NOTHING)
				last[me][page] = val;
			word[me] = TAG(me, page) | ++n;
			steps[me]++;
		}
		passes[me]++;
	}
	guest_done();
}

static const char *doing;	/* what the host does at the moment */

__attribute__((noreturn)) static void unexpected(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_sregs s;
	struct kvm_regs r;

	vcpu_regs(vcpu, &r);
	vcpu_sregs(vcpu, &s);
	fail("vCPU %d, while %s: exit %s, internal error %u, at %#llx, rsp %#llx, cr2 %#llx, cr3 %#llx, MMIO at %#llx",
	     vcpu->id, doing, exit_name(run->exit_reason),
	     run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0,
	     r.rip, r.rsp, s.cr2, s.cr3,
	     run->exit_reason == KVM_EXIT_MMIO ? run->mmio.phys_addr : 0);
}

/* Accesses that find no memory come here, or are repeated: see retry_efault. */
static void *serve(void *arg)
{
	struct vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;

	for (;;) {
		enum ucall uc = guest_run(vcpu);

		if (uc == UCALL_DONE)
			return NULL;
		if (uc != UCALL_NONE || run->exit_reason != KVM_EXIT_MMIO ||
		    run->mmio.phys_addr - GPA_USER >= 2 * SIZE)
			unexpected(vcpu);
		memset(run->mmio.data, 0xff, 8);
	}
}

static struct vm *vm;
static char *mem, *aside, *copy;
static size_t off, len;		/* the part that the next change is about */
static u64 rng = 1;

static u64 rnd(u64 n)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (rng * 2685821657736338717ULL >> 32) % n;
}

/* Each vCPU gets on by @n, of @counters. */
static void wait_for(volatile u64 *counters, u64 n)
{
	u64 from[NR_VCPUS];

	for (int i = 0; i < NR_VCPUS; i++)
		from[i] = counters[i];
	for (int i = 0; i < NR_VCPUS; i++) {
		for (int ms = 0; counters[i] < from[i] + n; ms++) {
			if (ms > 40000)
				fail("vCPU %d does not get on", i);
			usleep(1000);
		}
	}
}

static int slot(u32 flags, u64 gpa, u64 size)
{
	return vm_slot(vm, SLOT_USER, flags, gpa, size, mem);
}

/* Nobody writes there: not to what the slot showed, nor to what was moved away. */
static void stays_the_same(const char *p, size_t size, const char *what)
{
	memcpy(copy, p, size);
	wait_for(steps, 20);
	if (memcmp(copy, p, size))
		fail("a write after %s", what);
}

/* Everything is mapped and writable: each vCPU gets to each page. */
static void all_written(const char *what)
{
	wait_for(passes, 2);
	for (size_t i = off; i < off + len; i += PAGE_SIZE) {
		for (int v = 0; v < NR_VCPUS; v++) {
			if (!((volatile u64 *)(mem + i))[v])
				fail("vCPU %d does not write page %zu after %s", v,
				     i / PAGE_SIZE, what);
		}
	}
}

static void change_dontneed(void)
{
	if (madvise(mem + off, len, MADV_DONTNEED))
		fail("MADV_DONTNEED");
	all_written("MADV_DONTNEED");
}

static void change_protection(void)
{
	if (mprotect(mem + off, len, PROT_READ))
		fail("mprotect");
	memcpy(copy, mem + off, len);
	usleep(3000);
	if (memcmp(copy, mem + off, len))
		fail("a write to what is read-only");
	if (mprotect(mem + off, len, PROT_NONE))
		fail("mprotect");
	usleep(1000);
	if (mprotect(mem + off, len, PROT_READ | PROT_WRITE))
		fail("mprotect");
}

static void change_place(void)
{
	if (mremap(mem + off, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, aside) != aside)
		fail("mremap away");
	memcpy(copy, aside, len);
	usleep(3000);
	if (memcmp(copy, aside, len))
		fail("a write after mremap");
	if (mremap(aside, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, mem + off) != mem + off)
		fail("mremap back");
	/* Kept for the next time. */
	if (mmap(aside, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) != aside)
		fail("mmap");
}

static void change_mapping(void)
{
	if (munmap(mem + off, len))
		fail("munmap");
	usleep(1000);
	if (mmap(mem + off, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		 MAP_FIXED, -1, 0) != mem + off)
		fail("mmap");
	all_written("munmap and mmap");
}

static void change_slot(void)
{
	if (slot(0, 0, 0))
		fail("deletion of the slot");
	stays_the_same(mem, SIZE, "the slot was deleted");
	if (slot(0, GPA_USER, SIZE))
		fail("the slot again");
}

static void change_slot_place(void)
{
	if (slot(0, GPA_USER + SIZE, SIZE))
		fail("move of the slot");
	stays_the_same(mem, SIZE, "the slot was moved");
	if (slot(0, GPA_USER, SIZE))
		fail("move of the slot back");
	all_written("the slot was moved back");
}

static void change_slot_to_rom(void)
{
	if (slot(0, 0, 0) || slot(KVM_MEM_READONLY, GPA_USER, SIZE))
		fail("read-only slot");
	stays_the_same(mem, SIZE, "the slot became read-only");
	if (slot(0, 0, 0) || slot(0, GPA_USER, SIZE))
		fail("writable slot");
}

static u64 seen[NR_PAGES][NR_VCPUS];
static bool changed[NR_PAGES];

/* The words of each page, quickly; whether they are what they were. */
static void look(void)
{
	for (u32 p = 0; p < NR_PAGES; p++) {
		volatile u64 *word = (volatile u64 *)(mem + p * PAGE_SIZE);

		changed[p] = false;
		for (int v = 0; v < NR_VCPUS; v++) {
			changed[p] |= seen[p][v] != word[v];
			seen[p][v] = word[v];
		}
	}
}

/*
 * What is written after the log was read is in it the next time. That is soon:
 * a vCPU that still had the page writable would go unnoticed as soon as it had
 * left the guest, and written there again.
 */
static void change_log(void)
{
	static u64 map[NR_PAGES / 64];
	struct kvm_dirty_log log = { .slot = SLOT_USER, .dirty_bitmap = map };

	if (slot(KVM_MEM_LOG_DIRTY_PAGES, GPA_USER, SIZE))
		fail("dirty log on");
	for (int i = 0; i < 20; i++) {
		look();
		usleep(1000);
		look();
		if (sys_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
			fail("KVM_GET_DIRTY_LOG");
		for (u32 p = 0; p < NR_PAGES; p++) {
			if (changed[p] && !(map[p / 64] >> p % 64 & 1))
				fail("page %u was written and is not in the log", p);
		}
	}
	if (slot(0, GPA_USER, SIZE))
		fail("dirty log off");
}

static char *area(size_t size)
{
	char *p = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return (char *)(((uintptr_t)p + HUGE - 1) & -HUGE);
}

static u64 seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

TEST(memory_changes_under_four_vcpus)
{
	static const struct {
		void (*fn)(void);
		const char *name;
	} change[] = {
		{ change_dontneed, "pages are given up" },
		{ change_protection, "pages are protected" },
		{ change_place, "pages are moved" },
		{ change_mapping, "pages are unmapped" },
		{ change_slot, "the slot is deleted and added" },
		{ change_slot_place, "the slot is moved" },
		{ change_slot_to_rom, "the slot is read-only" },
		{ change_log, "writes are logged" },
	};
	const char *host = getenv("KEEL_HOST");
	u64 end;
	u32 n = 0;

	/* docs/testing.md: Bochs with two CPUs is the place for it. */
	if (host && !strcmp(host, "svm") && sysconf(_SC_NPROCESSORS_ONLN) > 1 &&
	    !getenv("KEEL_RACES"))
		SKIP(return, "unreliable in QEMU with several CPUs (KEEL_RACES=1 runs it)");
	/* Stock KVM fails there too. */
	if (host_is_bochs_svm())
		SKIP(return, "Bochs' AMD-V keeps stale translations over VMRUN");
	vm = vm_create(0);
	mem = area(SIZE);
	aside = area(SIZE);
	copy = area(SIZE);
	ASSERT_EQ(0, slot(0, GPA_USER, SIZE));
	for (int i = 0; i < NR_VCPUS; i++) {
		struct vcpu *vcpu = vcpu_create(vm);

		vcpu->retry_efault = true;
		vcpu_set_long_arg(vcpu, (void (*)(void))guest_toucher, i);
	}
	for (int i = 0; i < NR_VCPUS; i++)
		vcpu_start_fn(&vm->vcpu[i], serve);
	wait_for(passes, 1);
	/* All of them once, and then for some seconds. */
	end = seconds() + 10 * keel_scale;
	while (n < ARRAY_SIZE(change) || seconds() < end) {
		/* One page, a few, many, or all there is. */
		len = PAGE_SIZE << rnd(12);
		off = rnd(NR_PAGES) * PAGE_SIZE & -len;
		doing = change[n % ARRAY_SIZE(change)].name;
		change[n++ % ARRAY_SIZE(change)].fn();
	}
	stop = 1;
	for (int i = 0; i < NR_VCPUS; i++)
		vcpu_join(&vm->vcpu[i]);
	fprintf(stderr, "# %u changes, %llu passes, %u accesses repeated\n", n,
		(unsigned long long)passes[0], vm->vcpu[0].efaults);
	vm_destroy(vm);
}
