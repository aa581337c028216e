// SPDX-License-Identifier: GPL-2.0-only
/*
 * The MC146818: time of day, alarm and CMOS memory.
 *
 * The clock is the host's, in UTC, plus what the guest has set it off by.
 * While the guest has the alarm or update interrupt on, rtc_tick() is to be
 * called at every full second. The periodic interrupt is not there: Linux
 * makes its own from a better timer.
 */
#include <string.h>

#include "rtc.h"

/* Register and bit names: MC146818A data sheet. */
enum {
	REG_SECONDS, REG_SECONDS_ALARM, REG_MINUTES, REG_MINUTES_ALARM, REG_HOURS, REG_HOURS_ALARM,
	REG_WEEKDAY, REG_DAY, REG_MONTH, REG_YEAR, REG_A, REG_B, REG_C, REG_D,
};

#define LATE_SECONDS	600	/* a busy host, or a pause; more is a clock that was set */

#define REG_A_UIP	0x80
#define REG_B_SET	0x80
#define REG_B_ALARM	0x20
#define REG_B_UPDATE	0x10
#define REG_B_BINARY	0x04
#define REG_B_24H	0x02
#define REG_C_IRQ	0x80	/* the other bits of C are those of B */
#define REG_D_VALID	0x80
#define HOUR_PM		0x80
#define ALARM_ANY	0xc0	/* matches every second, minute or hour */

static time_t host_now(void)
{
	return time(NULL);
}

/**
 * rtc_init() - reset the clock to the host's time
 * @irq: its interrupt
 * @arm: starts and stops calls of rtc_tick(); runs under the clock's lock
 * @opaque: argument of @arm
 * @now: source of seconds since the epoch; NULL for time()
 */
void rtc_init(struct rtc *rtc, struct irq_line irq,
	      void (*arm)(void *opaque, bool on), void *opaque, time_t (*now)(void))
{
	memset(rtc, 0, sizeof(*rtc));
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->irq = irq;
	rtc->arm = arm;
	rtc->opaque = opaque;
	rtc->now = now ? now : host_now;
	rtc->cmos[REG_A] = 0x26;	/* 32.768 kHz base, 1024 Hz rate */
	rtc->cmos[REG_B] = REG_B_24H;
	rtc->cmos[REG_D] = REG_D_VALID;
}

static u8 encode(const struct rtc *rtc, unsigned int value)
{
	return rtc->cmos[REG_B] & REG_B_BINARY ? value : (value / 10) << 4 | value % 10;
}

static unsigned int decode(const struct rtc *rtc, u8 value)
{
	return rtc->cmos[REG_B] & REG_B_BINARY ? value : (value >> 4) * 10 + (value & 0xf);
}

/* Hours are 1 to 12 with a PM flag unless the guest chose 24-hour mode. */
static u8 encode_hour(const struct rtc *rtc, unsigned int hour)
{
	unsigned int hour12 = hour % 12 ? hour % 12 : 12;

	if (rtc->cmos[REG_B] & REG_B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned int decode_hour(const struct rtc *rtc, u8 value)
{
	if (rtc->cmos[REG_B] & REG_B_24H)
		return decode(rtc, value);
	return decode(rtc, value & ~HOUR_PM) % 12 +
	       (value & HOUR_PM ? 12 : 0);
}

static time_t guest_now(const struct rtc *rtc)
{
	return rtc->now() + rtc->offset;
}

/* Fill the time registers, unless the guest is setting them. */
static void latch(struct rtc *rtc, time_t now)
{
	struct tm tm;

	if ((rtc->cmos[REG_B] & REG_B_SET) || !gmtime_r(&now, &tm))
		return;
	rtc->cmos[REG_SECONDS] = encode(rtc, tm.tm_sec);
	rtc->cmos[REG_MINUTES] = encode(rtc, tm.tm_min);
	rtc->cmos[REG_HOURS] = encode_hour(rtc, tm.tm_hour);
	rtc->cmos[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->cmos[REG_DAY] = encode(rtc, tm.tm_mday);
	rtc->cmos[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->cmos[REG_YEAR] = encode(rtc, tm.tm_year % 100);
	rtc->cmos[RTC_CENTURY] = encode(rtc, 19 + tm.tm_year / 100);
}

static void latch_time(struct rtc *rtc)
{
	latch(rtc, guest_now(rtc));
}

/* The guest has written the time registers: remember how far off that is. */
static void take_time(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = decode(rtc, rtc->cmos[REG_SECONDS]),
		.tm_min = decode(rtc, rtc->cmos[REG_MINUTES]),
		.tm_hour = decode_hour(rtc, rtc->cmos[REG_HOURS]),
		.tm_mday = decode(rtc, rtc->cmos[REG_DAY]),
		.tm_mon = (int)decode(rtc, rtc->cmos[REG_MONTH]) - 1,
		.tm_year = ((int)decode(rtc, rtc->cmos[RTC_CENTURY]) - 19) * 100 +
			   (int)decode(rtc, rtc->cmos[REG_YEAR]),
	};

	rtc->offset = timegm(&tm) - rtc->now();
}

static bool is_time(u8 index)
{
	return index == RTC_CENTURY || index == REG_SECONDS || index == REG_MINUTES ||
	       index == REG_HOURS || (index >= REG_WEEKDAY && index <= REG_YEAR);
}

/* After a change of B or C: the interrupt line, and whether to tick. */
static void update_irq(struct rtc *rtc)
{
	u8 enabled = rtc->cmos[REG_B] & (REG_B_ALARM | REG_B_UPDATE);
	bool level = rtc->cmos[REG_C] & enabled;

	if (level)
		rtc->cmos[REG_C] |= REG_C_IRQ;
	if (level != rtc->line)
		irq_set(&rtc->irq, level);
	rtc->line = level;
	if (enabled && !rtc->armed)
		rtc->ticked = guest_now(rtc);
	if (rtc->arm && rtc->armed != (bool)enabled)
		rtc->arm(rtc->opaque, enabled);
	rtc->armed = enabled;
}

static bool alarm_part(const struct rtc *rtc, u8 alarm, u8 time)
{
	return (rtc->cmos[alarm] & ALARM_ANY) == ALARM_ANY ||
	       rtc->cmos[alarm] == rtc->cmos[time];
}

/** rtc_tick() - a second has begun, or more since the last call: an alarm is not missed */
void rtc_tick(struct rtc *rtc)
{
	time_t now, at;

	pthread_mutex_lock(&rtc->lock);
	now = guest_now(rtc);
	at = rtc->ticked < now && rtc->ticked > now - LATE_SECONDS ? rtc->ticked + 1 : now;
	for (; at <= now && !(rtc->cmos[REG_B] & REG_B_SET); at++) {
		latch(rtc, at);
		rtc->cmos[REG_C] |= REG_B_UPDATE;
		if (alarm_part(rtc, REG_SECONDS_ALARM, REG_SECONDS) &&
		    alarm_part(rtc, REG_MINUTES_ALARM, REG_MINUTES) &&
		    alarm_part(rtc, REG_HOURS_ALARM, REG_HOURS))
			rtc->cmos[REG_C] |= REG_B_ALARM;
	}
	rtc->ticked = now;
	update_irq(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

static void cmos_write(struct rtc *rtc, u8 index, u8 value)
{
	bool was_setting = rtc->cmos[REG_B] & REG_B_SET;

	if (index == REG_C || index == REG_D)
		return;		/* read-only */
	if (index == REG_B || is_time(index))
		latch_time(rtc);
	rtc->cmos[index] = index == REG_A ? value & ~REG_A_UIP : value;
	/* At the end of setting, or when the guest sets one of them without. */
	if (!(rtc->cmos[REG_B] & REG_B_SET) && (was_setting ? index == REG_B : is_time(index)))
		take_time(rtc);
	if (index == REG_B)
		update_irq(rtc);
}

/** rtc_access() - bus callback for ports 0x70 and 0x71 */
void rtc_access(void *dev, struct bus_access *access)
{
	struct rtc *rtc = dev;

	pthread_mutex_lock(&rtc->lock);
	if (!access->offset) {
		/* Bit 7 gates NMIs on a PC; the index itself reads as ones. */
		if (access->write)
			rtc->index = access->value & 0x7f;
	} else if (access->write) {
		cmos_write(rtc, rtc->index, access->value);
	} else {
		if (is_time(rtc->index))
			latch_time(rtc);
		access->value = rtc->cmos[rtc->index];
		if (rtc->index == REG_C) {
			rtc->cmos[REG_C] = 0;	/* reading acknowledges */
			update_irq(rtc);
		}
	}
	pthread_mutex_unlock(&rtc->lock);
}
