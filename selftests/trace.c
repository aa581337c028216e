// SPDX-License-Identifier: GPL-2.0-only
/* keel's tracepoints: each is hit, and says what happened. */

#include "lib/test.h"
#include "lib/irq.h"

#define TRACING	"/sys/kernel/tracing/"
#define PORT	0x5c8

static volatile u64 amd;

static void guest_does_it_all(void)
{
	u64 rax = 1;		/* KVM_HC_VAPIC_POLL_IRQ */

	apic_enable();
	ioapic_route(20, 0x41);
	guest_relax();
	outb(PORT, 0x77);
	mmio_write32(GPA_MMIO, 0x12345);
	wrmsr(MSR_IA32_APICBASE, rdmsr(MSR_IA32_APICBASE));
	if (amd)
		asm volatile("vmmcall" : "+a"(rax) : : "memory");
	else
		asm volatile("vmcall" : "+a"(rax) : : "memory");
	guest_sync(1);		/* host raises and lowers GSI 20 */
	guest_sti_hlt();
	GUEST_ASSERT_EQ(irqs[0x41], 1);
	guest_done();
}

/* What has to be there, in any order. */
static const char * const wanted[] = {
	"keel_entry: vcpu 0 rip 0x",
	"keel_exit: vcpu 0 reason io hw 0x",
	"keel_exit: vcpu 0 reason cpuid hw 0x",
	"keel_exit: vcpu 0 reason page_fault hw 0x",
	"keel_exit: vcpu 0 reason hlt hw 0x",
	"keel_exit: vcpu 0 reason wrmsr hw 0x",
	"keel_exit: vcpu 0 reason hypercall hw 0x",
	"keel_inject: vcpu 0 interrupt vector 0x41 ",
	"keel_page_fault: vcpu 0 gpa 0x10000000 write",
	"keel_mmio: vcpu 0 write gpa 0x10000000 len 4 value 0x12345",
	"keel_pio: vcpu 0 out port 0x5c8 size 1 value 0x77",
	"keel_msr: vcpu 0 wrmsr 0x1b value 0xfee00900",
	"keel_cpuid: vcpu 0 function 0x0 index 0x0: eax 0x",
	"keel_hypercall: vcpu 0 nr 0x1 ",
	" gsi 20 level 1 source ",
	"keel_set_irq: vm ",
	"keel_ack_irq: vcpu 0 vector 0x41",
};

TEST(each_tracepoint)
{
	bool found[ARRAY_SIZE(wanted)] = { false };
	struct vm *vm;
	struct vcpu *vcpu;
	char line[512];
	u32 unknown = 0;
	FILE *f;

	if (dev_is_kvm())
		SKIP(return, "stock KVM has tracepoints of other names");
	if (access(TRACING "events", F_OK))
		SKIP(return, "no tracefs at " TRACING);
	ASSERT_TRUE(host_write(TRACING "trace", "\n"));
	ASSERT_TRUE(host_write(TRACING "events/keel/enable", "1"));
	amd = host_is_amd();
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_create(vm);
	guest_handlers[0x41] = on_apic_irq;
	vcpu_set_long(vcpu, guest_does_it_all);
	EXPECT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(KVM_EXIT_IO, vcpu->run->exit_reason);
	EXPECT_EQ(UCALL_NONE, guest_run(vcpu));
	EXPECT_EQ(KVM_EXIT_MMIO, vcpu->run->exit_reason);
	EXPECT_EQ(1, guest_run_sync(vcpu));
	vm_irq_line(vm, 20, 1);
	vm_irq_line(vm, 20, 0);
	guest_run_done(vcpu);
	vm_destroy(vm);
	ASSERT_TRUE(host_write(TRACING "events/keel/enable", "0"));

	f = fopen(TRACING "trace", "r");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f)) {
		for (unsigned int i = 0; i < ARRAY_SIZE(wanted); i++)
			found[i] |= !!strstr(line, wanted[i]);
		/* A number where a name should be. */
		unknown += !!strstr(line, "reason 0x") || !!strstr(line, "reason unknown");
	}
	fclose(f);
	for (unsigned int i = 0; i < ARRAY_SIZE(wanted); i++) {
		EXPECT_TRUE(found[i])
			TH_LOG("not traced: %s", wanted[i]);
	}
	EXPECT_EQ(0, unknown);
	host_write(TRACING "trace", "\n");
}
