/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ACPI fixed hardware: PM1 registers, timer.
 */
#ifndef PM_H
#define PM_H

#include <pthread.h>

#include "bus.h"

/* Offsets from PM_BASE. The FADT in acpi.c repeats them to the guest. */
#define PM_BASE		0x600
#define PM_SIZE		0x10
#define PM1_EVT		0x00	/* status, then enable, 16 bits each */
#define PM1_CNT		0x04
#define PM_TMR		0x08

#define PM_S5_TYPE	5	/* SLP_TYP that \_S5 in the DSDT names */
#define PM_SCI_IRQ	9

struct pm {
	pthread_mutex_t lock;	/* everything below */
	u16 status;
	u16 enable;
	u16 control;
	bool line;
	u64 saved_ns;		/* the clock, in a snapshot */

	struct irq_line sci;	/* set at creation */
	void (*power_off)(void *opaque);
	void *opaque;
	u64 (*now_ns)(void);
	u64 skew_ns;		/* a restored guest's clock is older */
};

void pm_init(struct pm *pm, struct irq_line sci, void (*power_off)(void *opaque), void *opaque,
	     u64 (*now_ns)(void));
void pm_access(void *dev, struct bus_access *access);
void pm_press_power_button(struct pm *pm);

#endif
