// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's time: its TSC, and the paravirtual clock (kvmclock).
 *
 * Both run on the host's TSC. The clock of a VM is a straight line through one
 * (TSC, ns) pair, and each vCPU's page holds that same line moved by the
 * vCPU's TSC offset; so all of them, and KVM_GET_CLOCK, agree to the bit. On
 * a host whose TSC cannot be trusted the pair is taken anew at each update and
 * the guest is told that the clocks of its CPUs may differ.
 *
 * "Host TSC" here is the CPU's counter plus what it lost in suspends.
 */
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/kvm_para.h>
#include <linux/math64.h>
#include <linux/seqlock.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/pvclock-abi.h>
#include <asm/tsc.h>

#include "../irq/irq.h"
#include "../keel.h"

#define VALID_CLOCK_FLAGS	(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME |	\
				 KVM_CLOCK_HOST_TSC)
#define SYSTEM_TIME_ON		1ULL	/* in MSR_KVM_SYSTEM_TIME */

/* Written only with all other CPUs offline and no vCPU running. */
static u64 tsc_lost;
static u64 tsc_at_suspend;

static u64 host_tsc_now(void)
{
	return rdtsc_ordered() + READ_ONCE(tsc_lost);
}

/* ---- the line ---- */

/**
 * keel_clock_scale() - the scale of pvclock for a TSC frequency
 * @khz: the frequency
 * @mul: out: ns = (shifted tsc * mul) >> 32, as large as 32 bits allow
 * @shift: out: to the left, or when negative to the right
 */
void keel_clock_scale(u32 khz, u32 *mul, s8 *shift)
{
	u64 hz = max(khz, 1U) * 1000ULL;

	*shift = 0;
	while (hz > 2 * NSEC_PER_SEC) {
		hz >>= 1;
		(*shift)--;
	}
	while (hz <= NSEC_PER_SEC) {
		hz <<= 1;
		(*shift)++;
	}
	*mul = div64_u64((u64)NSEC_PER_SEC << 32, hz);
}

static u64 clock_scale_delta(u64 tsc, u32 mul, s8 shift)
{
	if (shift < 0) {
		tsc >>= -shift;
	} else {
		if (shift && tsc >> (64 - shift))
			return U64_MAX;
		tsc <<= shift;
	}
	return mul_u64_u32_shr(tsc, mul, 32);
}

static u64 ns_to_tsc(u64 ns)
{
	return mul_u64_u32_div(ns, tsc_khz, USEC_PER_SEC);
}

/**
 * keel_tsc_to_ns() - how long a number of TSC cycles takes
 * @vm: the virtual machine
 * @tsc: in cycles
 *
 * Return: nanoseconds, U64_MAX when they do not fit.
 */
u64 keel_tsc_to_ns(struct keel_vm *vm, u64 tsc)
{
	return clock_scale_delta(tsc, vm->clock.mul, vm->clock.shift);
}

struct clock_pair {
	u64 tsc, ns, boot_ns;
};

static struct clock_pair read_pair(struct keel_vm_clock *clock)
{
	struct clock_pair pair;
	unsigned int seq;

	do {
		seq = read_seqcount_begin(&clock->seq);
		pair.tsc = clock->base_tsc;
		pair.ns = clock->base_ns;
		pair.boot_ns = clock->base_boot_ns;
	} while (read_seqcount_retry(&clock->seq, seq));
	return pair;
}

static void write_pair(struct keel_vm_clock *clock, u64 tsc, u64 ns, u64 boot_ns)
{
	unsigned long irqs;

	/* readers may be in interrupts */
	spin_lock_irqsave(&clock->lock, irqs);
	write_seqcount_begin(&clock->seq);
	clock->base_tsc = tsc;
	clock->base_ns = ns;
	clock->base_boot_ns = boot_ns;
	write_seqcount_end(&clock->seq);
	spin_unlock_irqrestore(&clock->lock, irqs);
}

/**
 * keel_vm_clock_init() - a new VM: its clock starts at 0, as do its TSCs
 * @vm: the virtual machine
 */
void keel_vm_clock_init(struct keel_vm *vm)
{
	struct keel_vm_clock *clock = &vm->clock;
	u64 now;

	spin_lock_init(&clock->lock);
	seqcount_spinlock_init(&clock->seq, &clock->lock);
	keel_clock_scale(tsc_khz, &clock->mul, &clock->shift);
	preempt_disable();
	now = host_tsc_now();
	write_pair(clock, now, 0, ktime_get_boottime_ns());
	preempt_enable();
	clock->tsc_offset = -now;
	clock->last_tsc_write = 0;
	clock->last_tsc_ns = clock->base_boot_ns;
}

/**
 * keel_vm_clock_ns() - the VM's kvmclock
 * @vm: the virtual machine
 * @host_tsc: out, or NULL: the TSC at that time
 *
 * Context: any.
 */
u64 keel_vm_clock_ns(struct keel_vm *vm, u64 *host_tsc)
{
	struct clock_pair pair = read_pair(&vm->clock);
	u64 tsc, ns;

	preempt_disable();
	tsc = host_tsc_now();
	if (check_tsc_unstable())
		ns = pair.ns + ktime_get_boottime_ns() - pair.boot_ns;
	else
		/* another CPU's counter may be a few cycles behind */
		ns = pair.ns + ((s64)(tsc - pair.tsc) < 0 ? 0 :
				keel_tsc_to_ns(vm, tsc - pair.tsc));
	preempt_enable();
	if (host_tsc)
		*host_tsc = tsc;
	return ns;
}

/* ---- the guest's pages ---- */

/* Flags and numbers of one vCPU's page, without its version. */
static void fill_time_info(struct keel_vcpu *vcpu, struct pvclock_vcpu_time_info *info)
{
	struct keel_vm *vm = vcpu->vm;
	struct clock_pair pair;

	memset(info, 0, sizeof(*info));
	info->tsc_to_system_mul = vm->clock.mul;
	info->tsc_shift = vm->clock.shift;
	if (check_tsc_unstable()) {
		info->system_time = keel_vm_clock_ns(vm, &pair.tsc);
	} else {
		pair = read_pair(&vm->clock);
		info->system_time = pair.ns;
		info->flags = PVCLOCK_TSC_STABLE_BIT;
	}
	info->tsc_timestamp = pair.tsc + vcpu->clock.tsc_offset;
}

/*
 * The version is odd while the rest is being written; the guest may be reading
 * on another CPU.
 */
static void write_time_info(struct keel_vcpu *vcpu, gpa_t gpa,
			    struct pvclock_vcpu_time_info *info)
{
	info->version = (vcpu->clock.version | 1) + 2;
	if (keel_guest_write(vcpu, gpa, &info->version, sizeof(info->version)))
		return;
	smp_wmb();	/* odd before the rest */
	keel_guest_write(vcpu, gpa, info, sizeof(*info));
	smp_wmb();	/* the rest before even */
	info->version++;
	keel_guest_write(vcpu, gpa, &info->version, sizeof(info->version));
	vcpu->clock.version = info->version;
}

static void apply_tsc_offset(struct keel_vcpu *vcpu)
{
	vcpu->clock.tsc_lost = READ_ONCE(tsc_lost);
	keel_backend->set_tsc_offset(vcpu, vcpu->clock.tsc_offset + vcpu->clock.tsc_lost);
}

/**
 * keel_clock_update() - rewrite the guest's page, if it has one
 * @vcpu: the virtual CPU
 *
 * For KEEL_REQ_CLOCK. Context: vCPU loaded, mutex held, may sleep.
 */
void keel_clock_update(struct keel_vcpu *vcpu)
{
	struct pvclock_vcpu_time_info info;
	u64 msr = vcpu->clock.system_time_msr;
	gpa_t gpa = msr & ~SYSTEM_TIME_ON;
	u8 flags;

	if (!(msr & SYSTEM_TIME_ON))
		return;
	fill_time_info(vcpu, &info);
	/* "guest was stopped" stays until the guest has seen and cleared it */
	if (vcpu->clock.guest_stopped) {
		info.flags |= PVCLOCK_GUEST_STOPPED;
		vcpu->clock.guest_stopped = false;
	} else if (!keel_guest_read(vcpu->vm, gpa + offsetof(typeof(info), flags),
				    &flags, sizeof(flags))) {
		info.flags |= flags & PVCLOCK_GUEST_STOPPED;
	}
	write_time_info(vcpu, gpa, &info);
}

/* Once, when the guest asks: the time of day at which kvmclock was 0. */
static void write_wall_clock(struct keel_vcpu *vcpu, gpa_t gpa)
{
	struct pvclock_wall_clock wall;
	u64 ns;
	u32 version;

	if (keel_guest_read(vcpu->vm, gpa, &version, sizeof(version)))
		return;
	preempt_disable();
	ns = ktime_get_real_ns() - keel_vm_clock_ns(vcpu->vm, NULL);
	preempt_enable();
	wall.version = (version | 1) + 2;
	wall.sec = div_u64_rem(ns, NSEC_PER_SEC, &wall.nsec);
	if (keel_guest_write(vcpu, gpa, &wall.version, sizeof(wall.version)))
		return;
	smp_wmb();	/* odd before the rest */
	keel_guest_write(vcpu, gpa, &wall, sizeof(wall));
	smp_wmb();	/* the rest before even */
	wall.version++;
	keel_guest_write(vcpu, gpa, &wall.version, sizeof(wall.version));
}

/**
 * keel_clock_set_msr() - write MSR_KVM_{WALL_CLOCK,SYSTEM_TIME}, old or _NEW
 * @vcpu: the virtual CPU
 * @msr: the number
 * @value: its value
 *
 * An address without memory is no error: nothing is written then.
 *
 * Return: 0.
 */
int keel_clock_set_msr(struct keel_vcpu *vcpu, u32 msr, u64 value)
{
	struct keel_vm *vm = vcpu->vm;

	if (msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_WALL_CLOCK_NEW) {
		WRITE_ONCE(vm->clock.wall_clock, value);
		if (value)
			write_wall_clock(vcpu, value);
		return 0;
	}
	vcpu->clock.system_time_msr = value;
	if (value & SYSTEM_TIME_ON)
		keel_request(vcpu, KEEL_REQ_CLOCK);
	return 0;
}

/**
 * keel_clock_pairing() - KVM_HC_CLOCK_PAIRING: the host's time of day and the guest's TSC
 * @vcpu: the virtual CPU
 * @gpa: where the guest wants a struct kvm_clock_pairing
 * @type: which clock
 *
 * Context: vCPU loaded, mutex held, may sleep.
 * Return: 0; -KVM_EOPNOTSUPP for another clock than the time of day, or when
 * the host's TSC keeps no time; -KVM_EFAULT.
 */
long keel_clock_pairing(struct keel_vcpu *vcpu, gpa_t gpa, u64 type)
{
	struct kvm_clock_pairing pairing = {};
	struct timespec64 now;
	u64 before, after;

	if (type != KVM_CLOCK_PAIRING_WALLCLOCK || check_tsc_unstable())
		return -KVM_EOPNOTSUPP;
	local_irq_disable();
	before = keel_guest_tsc(vcpu);
	ktime_get_real_ts64(&now);
	after = keel_guest_tsc(vcpu);
	local_irq_enable();
	pairing.sec = now.tv_sec;
	pairing.nsec = now.tv_nsec;
	pairing.tsc = before + (after - before) / 2;
	return keel_guest_write(vcpu, gpa, &pairing, sizeof(pairing)) ? -KVM_EFAULT : 0;
}

/* ---- ioctls ---- */

static void update_all(struct keel_vm *vm)
{
	struct keel_vcpu *vcpu;
	unsigned long id;

	keel_for_each_vcpu(vm, id, vcpu) {
		keel_request(vcpu, KEEL_REQ_CLOCK);
		keel_vcpu_kick(vcpu);
	}
}

/**
 * keel_ioctl_get_clock() - KVM_GET_CLOCK
 * @vm: the virtual machine
 * @c: the clock
 *
 * Return: 0.
 */
int keel_ioctl_get_clock(struct keel_vm *vm, struct kvm_clock_data *c)
{
	memset(c, 0, sizeof(*c));
	preempt_disable();
	if (check_tsc_unstable()) {
		c->clock = keel_vm_clock_ns(vm, NULL);
	} else {
		c->realtime = ktime_get_real_ns();
		c->clock = keel_vm_clock_ns(vm, &c->host_tsc);
		c->host_tsc -= tsc_lost;
		c->flags = VALID_CLOCK_FLAGS;
	}
	preempt_enable();
	return 0;
}

/**
 * keel_ioctl_set_clock() - KVM_SET_CLOCK
 * @vm: the virtual machine
 * @c: the clock
 *
 * Return: 0, or -EINVAL for unknown flags.
 */
int keel_ioctl_set_clock(struct keel_vm *vm, const struct kvm_clock_data *c)
{
	u64 ns = c->clock, real;

	if (c->flags & ~VALID_CLOCK_FLAGS)
		return -EINVAL;
	preempt_disable();
	if (c->flags & KVM_CLOCK_REALTIME) {
		/* the VM was stopped for that long; never step back */
		real = ktime_get_real_ns();
		if (real > c->realtime)
			ns += real - c->realtime;
	}
	write_pair(&vm->clock, host_tsc_now(), ns, ktime_get_boottime_ns());
	preempt_enable();
	update_all(vm);
	return 0;
}

/* ---- the guest's TSC ---- */

u64 keel_guest_tsc(struct keel_vcpu *vcpu)
{
	return host_tsc_now() + vcpu->clock.tsc_offset;
}

static void set_tsc_offset(struct keel_vcpu *vcpu, u64 offset)
{
	vcpu->clock.tsc_offset = offset;
	apply_tsc_offset(vcpu);
	if (vcpu->clock.system_time_msr & SYSTEM_TIME_ON)
		keel_request(vcpu, KEEL_REQ_CLOCK);
	if (vcpu->lapic)
		keel_lapic_tsc_changed(vcpu);
}

/*
 * Userspace writes the TSC of one vCPU after the other, the values a little
 * apart: within a second of where the last one written would be now, and 0 at
 * reset, mean "the same as the others".
 */
static bool joins_others(struct keel_vm_clock *clock, u64 value, u64 boot_ns)
{
	u64 second = tsc_khz * 1000ULL;
	u64 expected = clock->last_tsc_write + ns_to_tsc(boot_ns - clock->last_tsc_ns);

	if (!value)
		return true;
	/* the first one restores a VM: it may be any */
	if (!clock->tsc_written)
		return false;
	return value - expected < second || expected - value < second;
}

/**
 * keel_tsc_write() - write the TSC
 * @vcpu: the virtual CPU
 * @value: its value
 * @host: from userspace
 *
 * The guest's own write also shows in TSC_ADJUST (SDM vol. 3 "IA32_TSC_ADJUST
 * Register Support"); userspace's is taken as the start or the restoration of
 * a VM whose vCPUs have equal TSCs.
 *
 * Context: vCPU loaded, mutex held.
 */
void keel_tsc_write(struct keel_vcpu *vcpu, u64 value, bool host)
{
	struct keel_vm_clock *clock = &vcpu->vm->clock;
	u64 offset, boot_ns;
	unsigned long irqs;

	if (!host) {
		offset = value - host_tsc_now();
		vcpu->msrs.tsc_adjust += offset - vcpu->clock.tsc_offset;
		set_tsc_offset(vcpu, offset);
		return;
	}

	spin_lock_irqsave(&clock->lock, irqs);
	boot_ns = ktime_get_boottime_ns();
	offset = value - host_tsc_now();
	if (joins_others(clock, value, boot_ns)) {
		if (!check_tsc_unstable())
			offset = clock->tsc_offset;
		else if (!value)
			offset += ns_to_tsc(boot_ns - clock->last_tsc_ns);
	}
	clock->tsc_offset = offset;
	clock->last_tsc_write = value;
	clock->tsc_written |= value;
	clock->last_tsc_ns = boot_ns;
	spin_unlock_irqrestore(&clock->lock, irqs);
	set_tsc_offset(vcpu, offset);
}

/**
 * keel_tsc_adjust_write() - write IA32_TSC_ADJUST
 * @vcpu: the virtual CPU
 * @value: its value
 * @host: from userspace, which restores the register and not the TSC
 *
 * Context: vCPU loaded, mutex held.
 */
void keel_tsc_adjust_write(struct keel_vcpu *vcpu, u64 value, bool host)
{
	u64 delta = value - vcpu->msrs.tsc_adjust;

	vcpu->msrs.tsc_adjust = value;
	if (!host)
		set_tsc_offset(vcpu, vcpu->clock.tsc_offset + delta);
}

/**
 * keel_tsc_get_offset() - KVM_VCPU_TSC_OFFSET: guest's TSC less the CPU's
 * @vcpu: the virtual CPU
 */
u64 keel_tsc_get_offset(struct keel_vcpu *vcpu)
{
	return vcpu->clock.tsc_offset + READ_ONCE(tsc_lost);
}

/**
 * keel_tsc_set_offset() - set KVM_VCPU_TSC_OFFSET
 * @vcpu: the virtual CPU
 * @offset: from the CPU's counter
 *
 * As a write of the TSC by userspace, but exact: no time passes between reading
 * the host's TSC and writing the guest's.
 *
 * Context: vCPU loaded, mutex held.
 */
void keel_tsc_set_offset(struct keel_vcpu *vcpu, u64 offset)
{
	struct keel_vm_clock *clock = &vcpu->vm->clock;
	unsigned long irqs;

	offset -= READ_ONCE(tsc_lost);
	spin_lock_irqsave(&clock->lock, irqs);
	clock->tsc_offset = offset;
	clock->last_tsc_write = host_tsc_now() + offset;
	clock->tsc_written = true;
	clock->last_tsc_ns = ktime_get_boottime_ns();
	spin_unlock_irqrestore(&clock->lock, irqs);
	set_tsc_offset(vcpu, offset);
}

/**
 * keel_tsc_init() - a new vCPU's TSC is that of its VM
 * @vcpu: the virtual CPU
 *
 * Context: vCPU loaded, mutex held.
 */
void keel_tsc_init(struct keel_vcpu *vcpu)
{
	set_tsc_offset(vcpu, READ_ONCE(vcpu->vm->clock.tsc_offset));
}

/* ---- suspend ---- */

/**
 * keel_clock_suspend() - the machine goes to sleep
 *
 * Context: interrupts off, no other CPU online, all tasks frozen.
 */
void keel_clock_suspend(void)
{
	tsc_at_suspend = rdtsc_ordered();
}

/**
 * keel_clock_resume() - the machine woke up, perhaps with its TSC back at 0
 *
 * Context: as keel_clock_suspend().
 */
void keel_clock_resume(void)
{
	u64 now = rdtsc_ordered();

	if (now < tsc_at_suspend)
		WRITE_ONCE(tsc_lost, tsc_lost + tsc_at_suspend - now);
}

/**
 * keel_clock_load() - the vCPU has got a CPU, perhaps another one
 * @vcpu: the virtual CPU
 *
 * CPUs whose TSCs differ, as they may from some time on, tell different times.
 *
 * Context: vCPU loaded, preemption off.
 */
void keel_clock_load(struct keel_vcpu *vcpu)
{
	if (unlikely(check_tsc_unstable()) && vcpu->clock.system_time_msr)
		keel_request(vcpu, KEEL_REQ_CLOCK);
}

/**
 * keel_clock_enter() - KVM_RUN begins: was there a suspend since the last?
 * @vcpu: the virtual CPU
 *
 * Tasks in KVM_RUN leave it before they are frozen. Context: vCPU loaded,
 * mutex held.
 */
void keel_clock_enter(struct keel_vcpu *vcpu)
{
	if (unlikely(vcpu->clock.tsc_lost != READ_ONCE(tsc_lost)))
		apply_tsc_offset(vcpu);
}
