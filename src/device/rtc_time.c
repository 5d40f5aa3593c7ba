/* SPDX-License-Identifier: Apache-2.0 */

/* The clock's time and the registers that show it, each from the other; its alarm. */

#include <time.h>

#include "device/rtc_internal.h"

#define DAY_SECONDS 86400U

#define ALARM_ANY 0xc0 /* from here on: matches every value */

bool rtc_is_time(uint8_t reg)
{
	switch (reg) {
	case REG_SECONDS:
	case REG_MINUTES:
	case REG_HOURS:
	case REG_WEEKDAY:
	case REG_DAY:
	case REG_MONTH:
	case REG_YEAR:
	case REG_CENTURY:
		return true;
	default:
		return false;
	}
}

static uint8_t encode(const struct rtc_state *s, unsigned int value)
{
	return s->cmos[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10;
}

/* Any byte has a value; digits above 9 count what they count. */
static unsigned int decode(const struct rtc_state *s, uint8_t byte)
{
	return s->cmos[REG_B] & B_BINARY ? byte : (byte >> 4) * 10U + (byte & 15);
}

static uint8_t encode_hour(const struct rtc_state *s, unsigned int hour)
{
	if (s->cmos[REG_B] & B_24_HOURS)
		return encode(s, hour);
	return encode(s, (hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0);
}

static unsigned int decode_hour(const struct rtc_state *s, uint8_t byte)
{
	if (s->cmos[REG_B] & B_24_HOURS)
		return decode(s, byte);
	return decode(s, byte & 0x7f) % 12 + (byte & 0x80 ? 12 : 0);
}

void rtc_registers_from_time(struct rtc_state *s)
{
	time_t seconds = (time_t)s->seconds;
	struct tm tm = { 0 };
	unsigned int year;

	gmtime_r(&seconds, &tm); /* cannot fail within SECONDS_LIMIT */
	year = (unsigned int)(tm.tm_year + 1900 + 100000) % 100000;
	s->cmos[REG_SECONDS] = encode(s, tm.tm_sec);
	s->cmos[REG_MINUTES] = encode(s, tm.tm_min);
	s->cmos[REG_HOURS] = encode_hour(s, tm.tm_hour);
	s->cmos[REG_WEEKDAY] = encode(s, (tm.tm_wday + s->weekday_shift) % 7 + 1);
	s->cmos[REG_DAY] = encode(s, tm.tm_mday);
	s->cmos[REG_MONTH] = encode(s, tm.tm_mon + 1);
	s->cmos[REG_YEAR] = encode(s, year % 100);
	s->cmos[REG_CENTURY] = encode(s, year / 100 % 100);
}

void rtc_time_from_registers(struct rtc_state *s)
{
	struct tm tm = {
		.tm_sec = decode(s, s->cmos[REG_SECONDS]),
		.tm_min = decode(s, s->cmos[REG_MINUTES]),
		.tm_hour = decode_hour(s, s->cmos[REG_HOURS]),
		.tm_mday = decode(s, s->cmos[REG_DAY]),
		.tm_mon = (int)decode(s, s->cmos[REG_MONTH]) - 1,
		.tm_year = (int)(decode(s, s->cmos[REG_CENTURY]) * 100 +
				 decode(s, s->cmos[REG_YEAR])) -
			   1900,
	};
	unsigned int weekday = (decode(s, s->cmos[REG_WEEKDAY]) + 6) % 7;

	s->seconds = (uint64_t)timegm(&tm);
	s->weekday_shift = (weekday + 7 - tm.tm_wday) % 7;
	for (unsigned int reg = 0; reg < CMOS_SIZE; reg++)
		if (rtc_is_time(reg))
			s->cmos[reg] = 0;
}

static unsigned int time_of_day(const struct rtc_state *s)
{
	int64_t left = (int64_t)s->seconds % DAY_SECONDS;

	return (unsigned int)(left < 0 ? left + DAY_SECONDS : left);
}

/* One alarm register: matches all values below `count`, one, or none. */
struct alarm_field {
	bool any;
	unsigned int value;
};

static bool field_matches(const struct alarm_field *field, unsigned int value)
{
	return field->any || field->value == value;
}

unsigned int rtc_alarm_distance(const struct rtc_state *s)
{
	struct alarm_field hour = { s->cmos[REG_HOURS_ALARM] >= ALARM_ANY,
				    decode_hour(s, s->cmos[REG_HOURS_ALARM]) };
	struct alarm_field minute = { s->cmos[REG_MINUTES_ALARM] >= ALARM_ANY,
				      decode(s, s->cmos[REG_MINUTES_ALARM]) };
	struct alarm_field second = { s->cmos[REG_SECONDS_ALARM] >= ALARM_ANY,
				      decode(s, s->cmos[REG_SECONDS_ALARM]) };
	unsigned int now = time_of_day(s), at = now + 1;

	if ((!hour.any && hour.value > 23) || (!minute.any && minute.value > 59) ||
	    (!second.any && second.value > 59))
		return 0;
	/* At most 24 steps of hours, 60 of minutes, 60 of seconds. */
	for (;;) {
		if (!field_matches(&hour, at / 3600 % 24))
			at = (at / 3600 + 1) * 3600;
		else if (!field_matches(&minute, at / 60 % 60))
			at = (at / 60 + 1) * 60;
		else if (!field_matches(&second, at % 60))
			at++;
		else
			return at - now;
	}
}
