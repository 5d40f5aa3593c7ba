/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Synthetic traces for tests of src/watch/analysis/analysis.h: a clock of 1 tick per nanosecond, records one after the other. */

#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "watch/analysis/analysis.h"

#define FEED_EPOCH 1000000000000ULL /* of the first window */

enum { FEED_DISK, FEED_NET, FEED_SERIAL, FEED_RTC, FEED_HVC, FEED_DEVICES };

static inline uint64_t feed_ns(void *ctx, uint64_t ticks)
{
	return ticks;
}

struct feed {
	struct analysis *analysis;
	struct analysis_window window; /* of the last feed_now or complete one */
	unsigned int complete;
	uint64_t random;
};

static inline struct feed *feed_new(uint64_t window_ns)
{
	static const struct analysis_times times = { .wall_ns = feed_ns, .ticks_ns = feed_ns };
	static const char *const names[FEED_DEVICES] = { "virtio-blk.0", "virtio-net.0", "serial",
							 "rtc", "virtio-console" };
	struct feed *feed = calloc(1, sizeof(*feed));

	feed->analysis = analysis_new(window_ns, 2, &times);
	for (uint16_t i = 0; i < FEED_DEVICES; i++)
		analysis_name_device(feed->analysis, i, names[i]);
	feed->random = 88172645463325252ULL;
	return feed;
}

static inline void feed_free(struct feed *feed)
{
	analysis_free(feed->analysis);
	free(feed);
}

/* Xorshift: the same numbers in each run. */
static inline uint64_t feed_random(struct feed *feed)
{
	feed->random ^= feed->random << 13;
	feed->random ^= feed->random >> 7;
	feed->random ^= feed->random << 17;
	return feed->random;
}

static inline void feed_add(struct feed *feed, const struct watch_record *record)
{
	if (analysis_add(feed->analysis, record)) {
		feed->complete++;
		assert_true(analysis_take(feed->analysis, false, &feed->window));
	}
}

/* The window under way, which ends `at` ns after the epoch. */
static inline const struct analysis_window *feed_now(struct feed *feed, uint64_t at)
{
	assert_int_equal(analysis_pass(feed->analysis, FEED_EPOCH + at), 0);
	assert_true(analysis_take(feed->analysis, true, &feed->window));
	return &feed->window;
}

static inline void feed_begin(struct feed *feed)
{
	assert_int_equal(analysis_pass(feed->analysis, FEED_EPOCH), 0);
}

static inline struct watch_record feed_record(uint8_t kind, uint16_t device, uint64_t at,
					      uint64_t ns)
{
	return (struct watch_record){
		.kind = kind, .device = device, .begin = FEED_EPOCH + at, .duration = ns
	};
}

/* An access of vCPU 0 by an instruction in 64-bit code. */
static inline struct watch_record feed_pio(uint16_t device, uint64_t at, uint64_t ns, uint16_t port,
					   uint64_t instruction)
{
	struct watch_record record = feed_record(RECORD_PIO, device, at, ns);

	record.address = port;
	record.size = 1;
	record.access.mode = 64;
	record.access.instruction = instruction;
	record.access.verdict = RECORD_INSN_ON;
	record.access.registers.rip = instruction;
	record.access.length = 1;
	record.access.n_after = RECORD_WINDOW;
	record.access.code[RECORD_WINDOW] = 0xec; /* in al, dx */
	return record;
}

static inline void feed_disk(struct feed *feed, uint64_t at, uint64_t ns, uint64_t offset)
{
	struct watch_record record = feed_record(RECORD_DISK, FEED_DISK, at, ns);

	record.address = offset;
	record.data = 4096;
	feed_add(feed, &record);
}

static inline void feed_frame(struct feed *feed, uint64_t at)
{
	struct watch_record record = feed_record(RECORD_NET, FEED_NET, at, 1000);

	record.flags = RECORD_WRITE;
	record.data = 64;
	feed_add(feed, &record);
}

/* vCPU `vcpu` had used `used` ns of a processor `at` ns after the epoch. */
static inline void feed_vcpu(struct feed *feed, uint64_t at, uint16_t vcpu, uint64_t used)
{
	struct watch_record record = feed_record(RECORD_VCPU, STORE_NO_DEVICE, at, 0);

	record.source = vcpu;
	record.data = used;
	feed_add(feed, &record);
}
