/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The local APIC between the files that make it: lapic.c (registers),
 * lapic-timer.c (its timer), apic-map.c (who is addressed by what).
 */
#ifndef KEEL_LAPIC_H
#define KEEL_LAPIC_H

#include <linux/atomic.h>
#include <linux/hrtimer.h>
#include <linux/math64.h>
#include <linux/rcupdate.h>
#include <linux/types.h>
#include <asm/apicdef.h>
#include <asm/msr-index.h>

struct keel_vcpu;
struct keel_vm;

/* keel_lapic.events: bit numbers */
enum keel_lapic_event { KEEL_LAPIC_INIT, KEEL_LAPIC_SIPI };

/**
 * struct keel_lapic_timer - the timer, on the host's monotonic clock
 *
 * The bus clock ticks once a nanosecond, as KVM's does, unless userspace has set
 * another (KVM_CAP_X86_APIC_BUS_CYCLES_NS). The owner thread
 * stops the hrtimer before it changes @period or @deadline; the callback
 * moves @target on.
 */
struct keel_lapic_timer {
	struct hrtimer hrtimer;
	u32 mode;		/* APIC_LVT_TIMER_ */
	u64 tick;		/* ns a count: TDCR's divisor, in cycles of the bus */
	u64 period;		/* ns, TMICT times tick, at most MAX_COUNT_NS */
	ktime_t target;		/* the next or, when it ran out, the last expiry */
	u64 deadline;		/* guest TSC, 0 when not armed */
	bool expired;		/* ... and it has fired for that */
};

/**
 * struct keel_lapic - one local APIC
 * @regs: the registers in their architectural layout, but for the three that
 *	follow. They are the owner thread's, and others read them as a snapshot.
 * @isr: vectors in service; as @regs
 * @irr: vectors that are requested: any context sets them, atomically
 * @tmr: which of them are level-triggered; as @irr
 */
struct keel_lapic {
	struct keel_vcpu *vcpu;		/* [C] */
	u32 regs[KVM_APIC_REG_SIZE / 4];	/* see above */
	DECLARE_BITMAP(isr, 256);
	DECLARE_BITMAP(irr, 256);
	DECLARE_BITMAP(tmr, 256);
	struct list_head node;		/* irq->apics; map_lock, read under RCU */
	bool published;			/* map_lock */
	u64 base;			/* [O] MSR_IA32_APICBASE; others read */
	unsigned long events;		/* [A] enum keel_lapic_event */
	u8 sipi_vector;			/* [A] */
	int extint;			/* [O] split mode: KVM_INTERRUPT's, or -1 */
	atomic_t esr;			/* [A] errors until the guest latches them */
	atomic_t arbitration;		/* [A] lowest-priority interrupts it got */
	struct keel_lapic_timer timer;
};

/**
 * struct keel_apic_msg - what travels on the APIC bus
 * @mode: APIC_DM_
 * @shorthand: APIC_DEST_SELF, _ALLINC, _ALLBUT or 0
 * @x2: @dest is as an APIC in x2APIC mode sends it
 * @ipi: from a LAPIC, not from an IOAPIC or MSI
 */
struct keel_apic_msg {
	u32 dest;
	u32 shorthand;
	u16 mode;
	u8 vector;
	bool logical;
	bool level;
	bool lowest;
	bool x2;
	bool ipi;
};

/*
 * What a destination leads to. Immutable, replaced as a whole when an APIC's
 * ID, LDR, DFR or base changes. Without one (no memory), or where IDs are not
 * unique, senders look at every APIC.
 */
enum keel_apic_logical {
	KEEL_APIC_LOGICAL_NONE,		/* modes are mixed, or IDs not unique */
	KEEL_APIC_LOGICAL_FLAT,
	KEEL_APIC_LOGICAL_CLUSTER,
	KEEL_APIC_LOGICAL_X2APIC,	/* derived from the ID: phys[] serves */
};

struct keel_apic_map {
	struct rcu_head rcu;
	enum keel_apic_logical mode;
	bool phys_unique;
	struct keel_lapic *logical[15][8];	/* cluster (flat: 0), bit */
	u32 nr_phys;				/* a multiple of 16 */
	struct keel_lapic *phys[];
};

static inline u32 keel_lapic_reg(const struct keel_lapic *l, u32 reg)
{
	return READ_ONCE(l->regs[reg / 4]);
}

static inline void keel_lapic_put_reg(struct keel_lapic *l, u32 reg, u32 value)
{
	WRITE_ONCE(l->regs[reg / 4], value);
}

static inline bool keel_lapic_hw_enabled(const struct keel_lapic *l)
{
	return READ_ONCE(l->base) & MSR_IA32_APICBASE_ENABLE;
}

static inline bool keel_lapic_x2(const struct keel_lapic *l)
{
	return READ_ONCE(l->base) & X2APIC_ENABLE;
}

static inline bool keel_lapic_sw_enabled(const struct keel_lapic *l)
{
	return keel_lapic_reg(l, APIC_SPIV) & APIC_SPIV_APIC_ENABLED;
}

/* SDM vol. 3 "Determining Logical x2APIC ID in x2APIC Mode" */
static inline u32 keel_x2apic_ldr(u32 id)
{
	return ((id >> 4) << 16) | BIT(id & 15);
}

/* lapic.c */
struct keel_lapic *keel_lapic_alloc(struct keel_vcpu *vcpu);
void keel_lapic_destroy(struct keel_lapic *l);
int keel_lapic_accept(struct keel_lapic *l, const struct keel_apic_msg *msg);
void keel_lapic_local(struct keel_lapic *l, u32 lvt);
int keel_lapic_pending(struct keel_lapic *l);
bool keel_lapic_accepts_pic(struct keel_lapic *l);
void keel_lapic_write(struct keel_lapic *l, u32 reg, u32 value);
u32 keel_lapic_read(struct keel_lapic *l, u32 reg);

/* apic-map.c */
void keel_apic_map_update(struct keel_vm *vm);
bool keel_apic_matches(struct keel_lapic *l, const struct keel_apic_msg *msg);
/**
 * keel_apic_send() - deliver a message to whom it is addressed
 * @src: the sender of an IPI, or NULL
 *
 * Context: any.
 * Return: how many APICs took it (0: they had it already, or are switched off
 * by software), or -1 when nobody is addressed.
 */
int keel_apic_send(struct keel_vm *vm, struct keel_lapic *src, const struct keel_apic_msg *msg);

/* lapic-timer.c */
extern unsigned int keel_min_timer_period_us;

void keel_lapic_timer_init(struct keel_lapic *l);
void keel_lapic_timer_stop(struct keel_lapic *l);
void keel_lapic_timer_reset(struct keel_lapic *l);
void keel_lapic_timer_write_count(struct keel_lapic *l);
void keel_lapic_timer_write_lvtt(struct keel_lapic *l);
void keel_lapic_timer_write_divide(struct keel_lapic *l);
u32 keel_lapic_timer_count(struct keel_lapic *l);
void keel_lapic_timer_restore(struct keel_lapic *l);

/* SDM vol. 3 "Divide Configuration Register": bits 3, 1, 0 */
static inline u32 keel_lapic_divisor(u32 tdcr)
{
	return 1 << ((((tdcr & 3) | ((tdcr & 8) >> 1)) + 1) & 7);
}

/**
 * keel_lapic_remaining() - nanoseconds until the next expiry
 * @period: of a periodic timer, else 0
 *
 * A periodic timer whose callback is late has begun its next period.
 */
static inline u64 keel_lapic_remaining(s64 target, s64 now, u64 period)
{
	s64 left = target - now;
	u64 late;

	if (left > 0)
		return left;
	if (!period)
		return 0;
	div64_u64_rem(-left, period, &late);
	return period - late;
}

#endif /* KEEL_LAPIC_H */
