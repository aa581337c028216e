/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The MC146818 real-time clock and its CMOS memory.
 */
#ifndef RTC_H
#define RTC_H

#include <pthread.h>
#include <time.h>

#include "bus.h"

#define RTC_PORT 0x70
#define RTC_PORT_COUNT 2
#define RTC_IRQ 8
#define RTC_CENTURY 0x32	/* where FADT.century says it is */

struct rtc {
	pthread_mutex_t lock;	/* everything below */
	u8 index;
	u8 cmos[128];
	time_t offset;		/* guest's time minus the host's */
	bool line;
	bool armed;		/* rtc_tick() is wanted every second */
	time_t ticked;		/* the guest's second of the last one */

	struct irq_line irq;	/* set at creation */
	void (*arm)(void *opaque, bool on);
	void *opaque;
	time_t (*now)(void);
};

void rtc_init(struct rtc *rtc, struct irq_line irq,
	      void (*arm)(void *opaque, bool on), void *opaque, time_t (*now)(void));
void rtc_access(void *dev, struct bus_access *access);
void rtc_tick(struct rtc *rtc);

#endif
