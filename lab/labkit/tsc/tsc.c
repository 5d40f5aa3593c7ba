/* SPDX-License-Identifier: Apache-2.0 */

/* Prints how many kHz this computer's TSC runs at, by the clock over a quarter of a second. */

#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES 64
#define WINDOW_NS 250000000L

struct moment {
	uint64_t ticks, ns;
};

/* Of some readings the one that was least disturbed. */
static struct moment now(void)
{
	struct moment best = { 0 };
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = __rdtsc(), after;
		struct timespec time;

		clock_gettime(CLOCK_MONOTONIC_RAW, &time);
		after = __rdtsc();
		if (after - before >= least)
			continue;
		least = after - before;
		best.ticks = before + least / 2;
		best.ns = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
	}
	return best;
}

int main(void)
{
	const struct timespec window = { .tv_nsec = WINDOW_NS };
	struct moment first = now(), last;

	nanosleep(&window, NULL);
	last = now();
	printf("%.0f\n", (double)(last.ticks - first.ticks) * 1e6 / (double)(last.ns - first.ns));
	return 0;
}
