// SPDX-License-Identifier: GPL-2.0-only
/* Many vCPUs: created, started, and all reached by one IPI. */

#include "lib/test.h"
#include "lib/irq.h"

static volatile u32 ready, got, stop, stopped, nr;

static void on_ipi(struct guest_trap *trap)
{
	(void)trap;
	__atomic_fetch_add(&got, 1, __ATOMIC_SEQ_CST);
	apic_eoi();
}

static void guest_ap(void)
{
	apic_enable();
	__atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
	while (!stop)
		guest_sti_hlt();
	__atomic_fetch_add(&stopped, 1, __ATOMIC_SEQ_CST);
	guest_done();
}

static void guest_bsp(void)
{
	apic_enable();
	GUEST_WAIT(ready == nr - 1);
	for (u32 round = 1; round <= 5; round++) {
		apic_write(APIC_ICR, APIC_DEST_ALLBUT | APIC_INT_ASSERT | 0x81);
		GUEST_WAIT(got == round * (nr - 1));
	}
	/* Each by its id. */
	for (u32 id = 1; id < nr; id++) {
		apic_write(APIC_ICR2, id << 24);
		apic_write(APIC_ICR, APIC_INT_ASSERT | 0x81);
		GUEST_WAIT(got == 5 * (nr - 1) + id);
	}
	guest_sync(got);
	stop = 1;
	/* Again and again: some may be about to fall asleep just now. */
	while (stopped != nr - 1) {
		apic_write(APIC_ICR, APIC_DEST_ALLBUT | APIC_INT_ASSERT | 0x81);
		for (int i = 0; i < 1000; i++)
			guest_relax();
	}
	guest_done();
}

static void broadcast(struct __test_metadata *_metadata, u32 n)
{
	struct vm *vm = vm_create(VM_IRQCHIP);

	nr = n;
	guest_handlers[0x81] = on_ipi;
	for (u32 i = 0; i < n; i++)
		vcpu_set_long(vcpu_create(vm), i ? guest_ap : guest_bsp);
	for (u32 i = 1; i < n; i++)
		vcpu_start(&vm->vcpu[i]);
	EXPECT_EQ(6 * (n - 1), guest_run_sync(&vm->vcpu[0]));
	guest_run_done(&vm->vcpu[0]);
	for (u32 i = 1; i < n; i++)
		vcpu_join(&vm->vcpu[i]);
	vm_destroy(vm);
}

TEST(ipis_to_4)
{
	broadcast(_metadata, 4);
}

TEST(ipis_to_64)
{
	broadcast(_metadata, MAX_VCPUS);
}

extern const char ap_start[], ap_end[];

asm(
"	.pushsection .text\n"
"	.code16\n"
"ap_start:\n"
"	xorw %ax, %ax\n"
"	movw %ax, %ds\n"
"	lock incw 0x600\n"
"1:	cli\n"
"	hlt\n"
"	jmp 1b\n"
"ap_end:\n"
"	.code64\n"
"	.popsection\n"
);

static volatile u16 *volatile ap_count = (volatile u16 *)0x600UL;

static void guest_starts_all(void)
{
	apic_enable();
	apic_write(APIC_ICR, APIC_DEST_ALLBUT | APIC_DM_INIT | APIC_INT_ASSERT);
	apic_write(APIC_ICR, APIC_DEST_ALLBUT | APIC_DM_STARTUP | GPA_REAL >> 12);
	GUEST_WAIT(*ap_count == nr - 1);
	guest_done();
}

static volatile int gone;

static void *run_ap(void *arg)
{
	struct vcpu *vcpu = arg;

	while (!gone) {
		int ret = vcpu_run(vcpu);

		if (ret != -EAGAIN && ret != -EINTR)
			fail("KVM_RUN of an AP: %d", ret);
	}
	return NULL;
}

/* As a PC's firmware does it: nobody but the first runs before the others' SIPI. */
TEST(init_sipi_to_64)
{
	struct vm *vm = vm_create(VM_IRQCHIP);

	nr = MAX_VCPUS;
	memcpy(low(vm, GPA_REAL), ap_start, ap_end - ap_start);
	for (u32 i = 0; i < nr; i++)
		vcpu_create(vm);
	vcpu_set_long(&vm->vcpu[0], guest_starts_all);
	for (u32 i = 1; i < nr; i++)
		vcpu_start_fn(&vm->vcpu[i], run_ap);
	usleep(20000);
	EXPECT_EQ(0, *(u16 *)low(vm, 0x600));
	guest_run_done(&vm->vcpu[0]);
	EXPECT_EQ(nr - 1, *(u16 *)low(vm, 0x600));
	gone = 1;
	for (u32 i = 1; i < nr; i++)
		vm->vcpu[i].run->immediate_exit = 1;
	for (u32 i = 1; i < nr; i++)
		vcpu_kick(&vm->vcpu[i]);
	for (u32 i = 1; i < nr; i++)
		vcpu_join(&vm->vcpu[i]);
	vm_destroy(vm);
}

/* Ids need not be dense, nor come in order. */
TEST(sparse_ids)
{
	static const int ids[] = { 5, 0, 63, 2 };
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct kvm_lapic_state s;

	for (unsigned int i = 0; i < ARRAY_SIZE(ids); i++) {
		struct vcpu *vcpu = vcpu_create_bare(vm, ids[i]);

		VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
		EXPECT_EQ(ids[i], (u8)s.regs[APIC_ID + 3]);
	}
	vm_destroy(vm);
}

/* A lock under contention: the memory is coherent, no count is lost. */
static volatile u32 counter;

static void guest_counts(void)
{
	guest_spins();
	for (u32 i = 0; i < 2000; i++)
		asm volatile("lock incl %0" : "+m"(counter));
	guest_done();
}

TEST(atomic_counter)
{
	struct vm *vm = vm_create(VM_IRQCHIP);

	for (u32 i = 0; i < 8; i++)
		vcpu_set_long(vcpu_create(vm), guest_counts);
	for (u32 i = 0; i < 8; i++)
		vcpu_start(&vm->vcpu[i]);
	for (u32 i = 0; i < 8; i++)
		vcpu_join(&vm->vcpu[i]);
	EXPECT_EQ(8 * 2000, counter);
	vm_destroy(vm);
}
