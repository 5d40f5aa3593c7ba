/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: watch/analysis/analysis.c watch/analysis/access.c watch/analysis/odd.c watch/analysis/rules.c
 * covers: watch/analysis/busy.c watch/analysis/latency.c watch/analysis/period.c watch/analysis/tally.c
 *
 * Records as anybody may have written them. The first bytes: how long a window is, how many vCPUs, and the unit of
 * time. Then one record every few bytes: how often it is repeated, what it is, when; the rest of it as it comes. Whatever
 * they say, what comes out is in its bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "watch/analysis/analysis.h"

#define RECORDS_MAX 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t ticks_ns(void *ctx, uint64_t ticks)
{
	return ticks << *(uint8_t *)ctx;
}

static void check_share(double share, double least)
{
	if (!(share >= least && share <= 1.0))
		abort();
}

static void check_latency(const struct latency *latency)
{
	for (unsigned int permille = 0; permille <= 1000; permille += 250)
		if (latency_percentile(latency, permille) > latency->max_ns)
			abort();
}

static void check_device(const struct analysis_device *device)
{
	if (device->accesses != device->reads + device->writes ||
	    device->failed > device->requests || device->sequential > device->moves ||
	    device->period_permille > 1000)
		abort();
	check_share(device->busy, 0);
	check_latency(&device->access_latency);
	check_latency(&device->request_latency);
}

static void check_window(const struct analysis_window *window)
{
	const struct analysis_shares *shares = &window->shares;

	if (window->end_ns < window->begin_ns || window->bound >= BOUND_N ||
	    window->n_devices > ANALYSIS_DEVICES || window->n_sites > ANALYSIS_TOP ||
	    window->n_odd > ANALYSIS_TOP || window->n_vcpus > ANALYSIS_VCPUS)
		abort();
	check_share(shares->cpu, 0);
	check_share(shares->monitor, 0);
	check_share(shares->console, 0);
	check_share(shares->disk, 0);
	check_share(shares->net, 0);
	for (uint32_t i = 0; i < window->n_vcpus; i++)
		check_share(window->cpu_share[i], -1);
	for (uint32_t i = 0; i < window->n_devices; i++)
		check_device(&window->devices[i]);
	for (uint32_t i = 0; i < window->n_sites; i++)
		if (window->sites[i].n_code > 16 || window->sites[i].length > 15 ||
		    window->sites[i].over >= window->sites[i].count)
			abort();
	for (uint32_t i = 0; i < window->n_odd; i++)
		if (!*analysis_oddity_name(window->odd[i].what) || !window->odd[i].count)
			abort();
	if (!*analysis_bound_name(window->bound))
		abort();
}

static void name_devices(struct analysis *analysis)
{
	static const char *const names[] = { "virtio-blk.0", "serial", "virtio-net.1", "rtc",
					     "virtio-console" };

	for (uint16_t i = 0; i < ARRAY_SIZE(names); i++)
		analysis_name_device(analysis, i, names[i]);
}

/* The rest of the record is a copy of `rest` bytes from the input. */
static void take_record(struct cursor *in, struct watch_record *record)
{
	size_t rest = cursor_take_le(in, 1) % (sizeof(*record) - 8);
	const void *bytes;

	rest = MIN(rest, in->left);
	bytes = cursor_take(in, rest);
	if (bytes)
		memcpy(&record->address, bytes, MIN(rest, sizeof(*record) - 24));
}

static void feed(struct analysis *analysis, struct cursor *in, struct analysis_window *window)
{
	struct watch_record record = { 0 };

	for (unsigned int n = 0; in->left && !in->bad && n < RECORDS_MAX;) {
		uint64_t times = 1 + cursor_take_le(in, 2), step = cursor_take_le(in, 2);

		take_record(in, &record);
		record.duration = cursor_take_le(in, 3);
		for (; times && n < RECORDS_MAX; times--, n++) {
			record.begin += step * step;
			if (!analysis_add(analysis, &record))
				continue;
			if (!analysis_take(analysis, false, window))
				abort();
			check_window(window);
		}
		analysis_lost(analysis, step);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	uint64_t window_ns = cursor_take_le(&in, 4) * 1000;
	uint32_t n_vcpus = (uint32_t)cursor_take_le(&in, 1);
	uint8_t shift = (uint8_t)(cursor_take_le(&in, 1) % 64);
	const struct analysis_times times = { .wall_ns = ticks_ns,
					      .ticks_ns = ticks_ns,
					      .ctx = &shift };
	struct analysis *analysis = analysis_new(window_ns, n_vcpus, &times);
	struct analysis_window *window = malloc(sizeof(*window));

	name_devices(analysis);
	feed(analysis, &in, window);
	if (analysis_take(analysis, true, window))
		check_window(window);
	analysis_free(analysis);
	free(window);
	return 0;
}
