/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests client_*.c have in common. Each of them makes the calls of one
 * real client in its order, down to a snapshot, and is as strict with the answers
 * as that client is.
 */
#ifndef SELFTEST_CLIENT_H
#define SELFTEST_CLIENT_H

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "irq.h"
#include "test.h"

#define CLIENT_CPUID	256	/* entries, of the Rust clients' lists */
#define CLIENT_MSRS	256

struct client_cap {
	int cap;
	const char *name;
};

#define CLIENT_CAP(c)	{ KVM_CAP_##c, #c }

/* Capabilities that a client refuses to start without: more than 0. */
#define CLIENT_REQUIRES(fd, caps)					\
do {									\
	for (unsigned int __i = 0; __i < ARRAY_SIZE(caps); __i++) {	\
		EXPECT_LT(0, sys_ioctl(fd, KVM_CHECK_EXTENSION,		\
				       (void *)(long)(caps)[__i].cap))	\
			TH_LOG("KVM_CAP_%s", (caps)[__i].name);		\
	}								\
} while (0)

__attribute__((unused)) static struct vm *client_open(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->dev = dev_open();
	vm->fd = -1;
	if (sys_ioctl(vm->dev, KVM_GET_API_VERSION, NULL) != 12)
		fail("KVM_GET_API_VERSION");
	return vm;
}

/* One call with room for @nent: the clients that do so do not try again. */
__attribute__((unused)) static struct kvm_cpuid2 *client_cpuid(int dev, u32 nent)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + nent * sizeof(c->entries[0]));

	c->nent = nent;
	if (ioctl(dev, KVM_GET_SUPPORTED_CPUID, c))
		fail("KVM_GET_SUPPORTED_CPUID with %u entries", nent);
	if (!c->nent || c->nent > nent)
		fail("KVM_GET_SUPPORTED_CPUID: %u of %u entries", c->nent, nent);
	return c;
}

/* The list with the APIC id of @vcpu in it, and what @ecx adds to leaf 1. */
__attribute__((unused))
static void client_set_cpuid(struct vcpu *vcpu, struct kvm_cpuid2 *c, u32 ecx)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(c, 1, 0);

	if (!e)
		fail("no CPUID leaf 1");
	e->ebx = (e->ebx & 0xffffff) | (u32)vcpu->id << 24;
	e->ecx |= 1U << 31 | ecx;
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
}

struct client_msr_list {
	struct kvm_msr_list head;
	u32 index[CLIENT_MSRS];
};

/* One call with a fixed room, for which the list must not be too long. */
__attribute__((unused)) static void client_msr_list(int dev, struct client_msr_list *l)
{
	l->head.nmsrs = CLIENT_MSRS;
	if (ioctl(dev, KVM_GET_MSR_INDEX_LIST, l))
		fail("KVM_GET_MSR_INDEX_LIST with %d entries: has %u", CLIENT_MSRS,
		     l->head.nmsrs);
	if (!l->head.nmsrs || l->head.nmsrs > CLIENT_MSRS)
		fail("KVM_GET_MSR_INDEX_LIST: %u entries", l->head.nmsrs);
}

/* What Linux clients set before the first instruction; all of them must be taken. */
static const u32 client_boot_msrs[] = {
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
	MSR_STAR, MSR_CSTAR, MSR_KERNEL_GS_BASE, MSR_SYSCALL_MASK, MSR_LSTAR,
	MSR_IA32_TSC, MSR_IA32_MISC_ENABLE, MSR_MTRRdefType,
};

static inline u64 client_boot_value(u32 msr)
{
	switch (msr) {
	case MSR_IA32_MISC_ENABLE:
		return MSR_IA32_MISC_ENABLE_FAST_STRING;
	case MSR_MTRRdefType:
		return 0xc06;			/* both enabled, write-back */
	default:
		return 0;
	}
}

struct client_msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry e[CLIENT_MSRS];
};

/* All in one call, which has to take every one. */
__attribute__((unused)) static void client_set_boot_msrs(struct vcpu *vcpu)
{
	struct client_msrs m = { .head.nmsrs = ARRAY_SIZE(client_boot_msrs) };
	int n;

	for (u32 i = 0; i < m.head.nmsrs; i++) {
		m.e[i].index = client_boot_msrs[i];
		m.e[i].data = client_boot_value(m.e[i].index);
	}
	n = sys_ioctl(vcpu->fd, KVM_SET_MSRS, &m);
	if (n != (int)m.head.nmsrs)
		fail("boot MSRs: %d of %u taken", n, m.head.nmsrs);
}

static inline u32 client_lapic_reg(const struct kvm_lapic_state *s, u32 reg)
{
	u32 val;

	memcpy(&val, s->regs + reg, 4);
	return val;
}

/* LINT0 is the PIC's and LINT1 the NMI: read, changed, written. */
__attribute__((unused)) static void client_set_lint(struct vcpu *vcpu)
{
	u32 extint = APIC_DM_EXTINT, nmi = APIC_DM_NMI;
	struct kvm_lapic_state s = { .regs = { 0 } };

	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s);
	/* The reset state: the id is the vCPU's; of the LVTs the timer is masked. */
	if (client_lapic_reg(&s, APIC_ID) >> 24 != (u32)vcpu->id ||
	    client_lapic_reg(&s, APIC_LVTT) != APIC_LVT_MASKED)
		fail("LAPIC after creation: id %#x, LVTT %#x", client_lapic_reg(&s, APIC_ID),
		     client_lapic_reg(&s, APIC_LVTT));
	memcpy(s.regs + APIC_LVT0, &extint, 4);
	memcpy(s.regs + APIC_LVT1, &nmi, 4);
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &s);
}

__attribute__((unused)) static void client_set_fpu(struct vcpu *vcpu)
{
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };

	VCPU_IOCTL(vcpu, KVM_SET_FPU, &fpu);
}

/* A vCPU set up as the clients with a 64-bit boot protocol do it. */
__attribute__((unused)) static struct vcpu *client_add_vcpu(struct vm *vm, void (*code)(void),
							    struct kvm_cpuid2 *cpuid)
{
	struct vcpu *vcpu = vcpu_create_bare(vm, 0);

	client_set_cpuid(vcpu, cpuid, 1U << 24);	/* TSC deadline */
	client_set_boot_msrs(vcpu);
	client_set_fpu(vcpu);
	vcpu_set_long(vcpu, code);
	client_set_lint(vcpu);
	return vcpu;
}

__attribute__((unused)) static int client_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		fail("eventfd");
	return fd;
}

__attribute__((unused)) static void client_signal(int fd)
{
	u64 one = 1;

	if (write(fd, &one, 8) != 8)
		fail("write to an eventfd");
}

/* Its count, waited for; 0 when none comes. */
__attribute__((unused)) static u64 client_read(int fd)
{
	u64 val;

	for (int i = 0; i < 5000; i++) {
		if (read(fd, &val, 8) == 8)
			return val;
		usleep(1000);
	}
	return 0;
}

__attribute__((unused)) static int client_irqfd(struct vm *vm, int fd, u32 gsi)
{
	struct kvm_irqfd i = { .fd = fd, .gsi = gsi };

	return sys_ioctl(vm->fd, KVM_IRQFD, &i);
}

struct client_routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[64];
};

__attribute__((unused))
static void client_route_chip(struct client_routes *r, u32 gsi, u32 chip, u32 pin)
{
	r->e[r->head.nr++] = (struct kvm_irq_routing_entry) {
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

__attribute__((unused))
static void client_route_msi(struct client_routes *r, u32 gsi, u32 address, u32 data)
{
	r->e[r->head.nr++] = (struct kvm_irq_routing_entry) {
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = address, .data = data },
	};
}

/*
 * A snapshot of one vCPU. The order of the calls is the clients': MP state first,
 * since asking for it may take an INIT; events last when saved and restored.
 */
struct client_vcpu {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct client_msrs msrs;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[CLIENT_CPUID];
	} cpuid;
	int tsc_khz;
	int xsave_size;
	struct kvm_xsave *xsave;
};

/* Xen's and Hyper-V's come with features that no client here asks for. */
static inline bool client_saves_msr(u32 msr)
{
	return msr >> 8 != 0x400000;
}

__attribute__((unused))
static void client_save_vcpu(struct vcpu *vcpu, struct client_vcpu *s)
{
	struct client_msr_list list;

	memset(s, 0, sizeof(*s));
	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &s->mp);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &s->regs);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &s->sregs);
	s->xsave_size = vm_cap(vcpu->vm, KVM_CAP_XSAVE2);
	if (s->xsave_size < 0)
		fail("KVM_CAP_XSAVE2 on a VM: %d", s->xsave_size);
	s->xsave = calloc(1, s->xsave_size ? s->xsave_size : (int)sizeof(*s->xsave));
	if (s->xsave_size)
		VCPU_IOCTL(vcpu, KVM_GET_XSAVE2, s->xsave);
	else
		VCPU_IOCTL(vcpu, KVM_GET_XSAVE, s->xsave);
	VCPU_IOCTL(vcpu, KVM_GET_XCRS, &s->xcrs);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &s->debug);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &s->lapic);
	s->tsc_khz = sys_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	if (s->tsc_khz <= 0)
		fail("KVM_GET_TSC_KHZ: %d", s->tsc_khz);
	s->cpuid.head.nent = CLIENT_CPUID;
	VCPU_IOCTL(vcpu, KVM_GET_CPUID2, &s->cpuid);
	client_msr_list(vcpu->vm->dev, &list);
	for (u32 i = 0; i < list.head.nmsrs; i++) {
		if (client_saves_msr(list.index[i]))
			s->msrs.e[s->msrs.head.nmsrs++].index = list.index[i];
	}
	for (u32 i = 0; i < s->msrs.head.nmsrs; i++)
		s->msrs.e[i].data = vcpu_get_msr(vcpu, s->msrs.e[i].index);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &s->events);
}

/*
 * Into a vCPU of which only CPUID may have been set. Of the MSRs what is 0 is left:
 * some can be read only, and some clients write those that differ alone.
 */
__attribute__((unused))
static void client_restore_vcpu(struct vcpu *vcpu, struct client_vcpu *s)
{
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, &s->cpuid);
	VCPU_IOCTL(vcpu, KVM_SET_MP_STATE, &s->mp);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &s->regs);
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &s->sregs);
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, s->xsave);
	VCPU_IOCTL(vcpu, KVM_SET_XCRS, &s->xcrs);
	VCPU_IOCTL(vcpu, KVM_SET_DEBUGREGS, &s->debug);
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &s->lapic);
	for (u32 i = 0; i < s->msrs.head.nmsrs; i++) {
		u32 msr = s->msrs.e[i].index;
		u64 now;

		if (vcpu_try_get_msr(vcpu, msr, &now) == 1 && now == s->msrs.e[i].data)
			continue;
		if (vcpu_set_msr(vcpu, msr, s->msrs.e[i].data) != 1)
			fail("MSR %#x = %#llx is not restored", msr,
			     (unsigned long long)s->msrs.e[i].data);
	}
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &s->events);
}

/* The three chips, the PIT and the clock. */
struct client_chips {
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

__attribute__((unused)) static void client_save_chips(struct vm *vm, struct client_chips *s)
{
	memset(s, 0, sizeof(*s));
	VM_IOCTL(vm, KVM_GET_PIT2, &s->pit);
	VM_IOCTL(vm, KVM_GET_CLOCK, &s->clock);
	for (u32 i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		VM_IOCTL(vm, KVM_GET_IRQCHIP, &s->chip[i]);
	}
}

__attribute__((unused)) static void client_restore_chips(struct vm *vm, struct client_chips *s)
{
	VM_IOCTL(vm, KVM_SET_PIT2, &s->pit);
	/* Only TSC_STABLE may stay: the other flags are of the host that was left. */
	s->clock.flags &= KVM_CLOCK_TSC_STABLE;
	VM_IOCTL(vm, KVM_SET_CLOCK, &s->clock);
	for (u32 i = 0; i < 3; i++)
		VM_IOCTL(vm, KVM_SET_IRQCHIP, &s->chip[i]);
}

/* A vCPU is stopped: what it has left half done is completed. */
__attribute__((unused)) static void client_pause(struct vcpu *vcpu)
{
	int ret;

	vcpu_complete_io(vcpu);
	/* Without kvmclock this errno, and no other, is tolerated. */
	ret = sys_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
	if (ret && ret != -EINVAL)
		fail("KVM_KVMCLOCK_CTRL: %d", ret);
}

#endif
