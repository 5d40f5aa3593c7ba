/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What rtc.c, the device, and rtc_time.c, its calendar, share. All with device.lock held. */

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define CMOS_SIZE 128

enum {
	REG_SECONDS,
	REG_SECONDS_ALARM,
	REG_MINUTES,
	REG_MINUTES_ALARM,
	REG_HOURS,
	REG_HOURS_ALARM,
	REG_WEEKDAY,
	REG_DAY,
	REG_MONTH,
	REG_YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	REG_CENTURY = 0x32, /* where PCs keep it; FADT's CENTURY says so */
};

#define A_UPDATING 0x80
#define A_DIVIDER 0x70
#define A_DIVIDER_RUNS 0x20
#define A_DIVIDER_RESET 0x60 /* bits 6 and 5 both set */
#define A_RATE 0x0f
#define A_WRITABLE 0x7f

#define B_SET 0x80
#define B_PERIODIC 0x40
#define B_ALARM 0x20
#define B_UPDATE 0x10
#define B_SQUARE_WAVE 0x08
#define B_BINARY 0x04
#define B_24_HOURS 0x02
#define B_INTERRUPTS (B_PERIODIC | B_ALARM | B_UPDATE)

/* The flags of C stand where their enables stand in B. */
#define C_REQUEST 0x80

#define D_VALID 0x80

/*
 * The time runs by the loop's clock: second boundaries lie whole seconds from `origin`. What time it is at
 * the last boundary stands in `seconds`; while it is frozen (SET, or the divider is held) it stands in the time
 * registers of `cmos` instead, which are 0 otherwise.
 *
 * CLOCK: seconds, fraction_ns (since the last boundary) and periods are as of the save. The loader goes on from there by its
 * own clock and the measured time of the stop; no host's wall clock comes in again. Seconds that passed meanwhile raise the
 * flags once, as for a guest that did not look.
 */
struct rtc_state {
	uint8_t index;
	uint8_t weekday_shift; /* 0..6: guests may call any day the first */
	uint8_t cmos[CMOS_SIZE];
	uint64_t seconds; /* since 1970, two's complement */
	uint64_t fraction_ns;
	uint32_t
		periods; /* of the periodic interrupt, since the last boundary, that flag C knows of */
};

/* Whether a register of `cmos` is one of the time. */
bool rtc_is_time(uint8_t reg);
/* Fills the time registers from the time. */
void rtc_registers_from_time(struct rtc_state *s);
/* The time from the time registers, which are 0 afterwards. Days and hours that no calendar has (a 31st of February) are those
 * that follow. */
void rtc_time_from_registers(struct rtc_state *s);
/* Seconds until the alarm comes next: 1..86400, or 0 when it never does. */
unsigned int rtc_alarm_distance(const struct rtc_state *s);
