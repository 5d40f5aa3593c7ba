/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Time as an object, so that tests run on a fake one. `now` never goes back; `wall` is the host's wall
 * clock and may jump: only the RTC's first value comes from it (guest time never trusts it later).
 */

#include <stdint.h>

struct clock {
	uint64_t (*now)(const struct clock *clock);  /* nanoseconds, monotonic */
	uint64_t (*wall)(const struct clock *clock); /* nanoseconds since 1970, UTC */
};

/* The host's CLOCK_MONOTONIC and CLOCK_REALTIME. Never freed, immutable; any thread. */
extern const struct clock clock_host;

/* A clock that moves only when told: tests own and advance it. */
struct fake_clock {
	struct clock clock;
	uint64_t now_ns;
	uint64_t wall_ns;
};

void fake_clock_init(struct fake_clock *fake, uint64_t now_ns, uint64_t wall_ns);
void fake_clock_advance(struct fake_clock *fake, uint64_t ns);

static inline uint64_t clock_now(const struct clock *clock)
{
	return clock->now(clock);
}

static inline uint64_t clock_wall(const struct clock *clock)
{
	return clock->wall(clock);
}
