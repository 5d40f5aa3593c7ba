/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether a device is used at regular intervals, as a real-time load does.
 *
 * A cycle may be a burst of requests, so single gaps say little. On each of many scales (half octaves, 46 us to 8.6 s)
 * a burst is what follows a rest of at least that scale, and the distance from one burst's begin to the next is
 * counted - weighted by its length - in a histogram of one octave from that scale on. With a period of T there is a scale
 * on which all bursts are T apart, as long as the device rests for most of T; then all of the window's time falls
 * into neighbouring bins. By chance (exponential gaps) at most 16 % of the time falls into three neighbours of
 * 2^(1/8) each. A device that is busy for most of its cycle shows no period: a benchmark that sends the next request
 * when one is answered is regular as well, but not a clock.
 */

#include <stdint.h>

#define PERIOD_SCALES 36
#define PERIOD_BINS 8

struct period {
	uint64_t last_end; /* when the last request was over; 0: none yet */
	struct period_scale {
		uint64_t start; /* of the last burst */
		uint32_t counts[PERIOD_BINS];
		uint64_t sums[PERIOD_BINS]; /* ns */
	} scales[PERIOD_SCALES];
};

/* A request that was under way in [begin, end), ns; those that began before another one ended are part of its burst. */
void period_add(struct period *period, uint64_t begin, uint64_t end);
/* How much of `elapsed_ns` has one period, in permille, and that period; 0 when there were fewer than 8 cycles. */
uint32_t period_find(const struct period *period, uint64_t elapsed_ns, uint64_t *ret_ns);
/* Forgets the cycles that were counted, not when the last one began. */
void period_clear(struct period *period);
