// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ACPI fixed hardware (ACPI 6.4, section 4.8): PM1 event and
 * control registers with a power button, the PM timer.
 */
#include <string.h>
#include <time.h>

#include "pm.h"

#define PM1_PWRBTN	BIT(8)
#define PM1_CNT_SCI_EN	BIT(0)
#define PM1_CNT_SLP_EN	BIT(13)
#define PM1_CNT_SLP_TYP(v) (((v) >> 10) & 7)

#define PM_TMR_HZ	3579545ULL
#define NSEC_PER_SEC	1000000000ULL

/** monotonic_ns() - CLOCK_MONOTONIC */
u64 monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/**
 * pm_init() - reset the fixed hardware
 * @sci: the interrupt it raises, level-triggered
 * @power_off: called when the guest enters S5
 * @opaque: its argument
 * @now_ns: a monotonic clock; NULL for CLOCK_MONOTONIC
 */
void pm_init(struct pm *pm, struct irq_line sci, void (*power_off)(void *opaque), void *opaque,
	     u64 (*now_ns)(void))
{
	memset(pm, 0, sizeof(*pm));
	pthread_mutex_init(&pm->lock, NULL);
	pm->sci = sci;
	pm->power_off = power_off;
	pm->opaque = opaque;
	pm->now_ns = now_ns ? now_ns : monotonic_ns;
}

static u32 timer_value(struct pm *pm)
{
	u64 ns = pm->now_ns() + pm->skew_ns;

	return ns / NSEC_PER_SEC * PM_TMR_HZ +
	       ns % NSEC_PER_SEC * PM_TMR_HZ / NSEC_PER_SEC;
}

static void update_sci(struct pm *pm)
{
	bool level = pm->status & pm->enable;

	if (level == pm->line)
		return;
	pm->line = level;
	irq_set(&pm->sci, level);
}

/* The registers as 16 consecutive bytes: any width and offset then works. */
static void read_block(struct pm *pm, u8 block[PM_SIZE])
{
	u16 control = pm->control | PM1_CNT_SCI_EN;
	u32 timer = timer_value(pm);

	memset(block, 0, PM_SIZE);
	memcpy(block + PM1_EVT, &pm->status, 2);
	memcpy(block + PM1_EVT + 2, &pm->enable, 2);
	memcpy(block + PM1_CNT, &control, 2);
	memcpy(block + PM_TMR, &timer, 4);
}

/*
 * One byte of a write. There is no SMI command port, so the machine is in
 * ACPI mode from the start (SCI_EN reads as 1) and cannot leave it.
 */
static void write_byte(struct pm *pm, unsigned int offset, u8 value)
{
	unsigned int shift = (offset & 1) * 8;

	switch (offset & ~1U) {
	case PM1_EVT:
		pm->status &= ~(value << shift);
		break;
	case PM1_EVT + 2:
		pm->enable = (pm->enable & ~(0xff << shift)) | value << shift;
		break;
	case PM1_CNT:
		pm->control = (pm->control & ~(0xff << shift)) | value << shift;
		break;
	default:
		break;
	}
}

/** pm_access() - bus callback for the block at PM_BASE */
void pm_access(void *dev, struct bus_access *access)
{
	struct pm *pm = dev;
	bool off = false;
	u8 block[PM_SIZE];
	unsigned int i;

	pthread_mutex_lock(&pm->lock);
	if (!access->write) {
		read_block(pm, block);
		memcpy(&access->value, block + access->offset, access->size);
	} else {
		for (i = 0; i < access->size; i++)
			write_byte(pm, access->offset + i, access->value >> (i * 8));
	}
	if (pm->control & PM1_CNT_SLP_EN) {
		off = PM1_CNT_SLP_TYP(pm->control) == PM_S5_TYPE;
		pm->control &= ~PM1_CNT_SLP_EN;	/* write-only, ACPI 4.8.3.2.1 */
	}
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);

	if (off)
		pm->power_off(pm->opaque);
}

/** pm_press_power_button() - ask the guest to shut down */
void pm_press_power_button(struct pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	pm->status |= PM1_PWRBTN;
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
}
