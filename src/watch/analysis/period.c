/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/analysis/period.h"

#include <stdbool.h>
#include <string.h>

#include "base/macros.h"
#include "watch/analysis/log_scale.h"

#define FIRST_SCALE 124 /* in eighths of an octave: 2^15.5 ns */
#define SCALE_STEP 4
#define CYCLES_MIN 8

static void start_all(struct period *period, uint64_t begin)
{
	for (unsigned int i = 0; i < PERIOD_SCALES; i++)
		period->scales[i].start = begin;
}

static void scale_add(struct period_scale *scale, unsigned int scale_log, uint64_t begin)
{
	uint64_t distance = begin - scale->start;
	unsigned int bin = log2_eighths(distance) - scale_log; /* it is at least the rest's */

	scale->start = begin;
	if (bin >= PERIOD_BINS)
		return;
	scale->counts[bin]++;
	scale->sums[bin] += distance;
}

void period_add(struct period *period, uint64_t begin, uint64_t end)
{
	unsigned int rest;

	if (!period->last_end)
		start_all(period, begin);
	if (period->last_end && begin > period->last_end) {
		rest = log2_eighths(begin - period->last_end);
		for (unsigned int i = 0, log = FIRST_SCALE; i < PERIOD_SCALES && log <= rest;
		     i++, log += SCALE_STEP)
			scale_add(&period->scales[i], log, begin);
	}
	period->last_end = MAX(period->last_end, MAX(end, 1));
}

/* The best three neighbours of one scale. */
static uint64_t scale_find(const struct period_scale *scale, uint64_t *ret_ns)
{
	uint64_t best = 0;

	for (unsigned int i = 0; i + 3 <= PERIOD_BINS; i++) {
		uint64_t sum = scale->sums[i] + scale->sums[i + 1] + scale->sums[i + 2];
		uint64_t count = (uint64_t)scale->counts[i] + scale->counts[i + 1] +
				 scale->counts[i + 2];

		if (count < CYCLES_MIN || sum <= best)
			continue;
		best = sum;
		*ret_ns = sum / count;
	}
	return best;
}

uint32_t period_find(const struct period *period, uint64_t elapsed_ns, uint64_t *ret_ns)
{
	uint64_t best = 0, ns = 0;

	for (unsigned int i = 0; i < PERIOD_SCALES; i++) {
		uint64_t found_ns = 0, found = scale_find(&period->scales[i], &found_ns);

		if (found > best) {
			best = found;
			ns = found_ns;
		}
	}
	*ret_ns = ns;
	if (!elapsed_ns)
		return 0;
	/* A cycle that began before the window is counted whole. */
	return (uint32_t)MIN((double)best / (double)elapsed_ns * 1000.0, 1000.0);
}

void period_clear(struct period *period)
{
	for (unsigned int i = 0; i < PERIOD_SCALES; i++) {
		memset(period->scales[i].counts, 0, sizeof(period->scales[i].counts));
		memset(period->scales[i].sums, 0, sizeof(period->scales[i].sums));
	}
}
