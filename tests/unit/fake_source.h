/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A source of records that a test made by hand, taken instead of watch/read/source.c: link it first. One tick is a
 * nanosecond, tick 0 is 2026-01-02T03:04:05Z. */

#include "watch/read/source.h"

#define FAKE_SOURCE_RECORDS 64
#define FAKE_SOURCE_WALL 1767323045000000000ULL

struct watch_source {
	struct store_header header;
	struct watch_record records[FAKE_SOURCE_RECORDS];
	size_t n_records, at;
	uint64_t lost;
	bool expelled;
	int at_end; /* what source_next says behind the last record: 0 or a negative errno */
};

/* Devices "serial" (0) and "disk" (1); two vCPUs' rings and one of a queue. */
void fake_source_init(struct watch_source *source);
/* A record to fill in further: an access of vCPU 0 to the serial line, "out 0x3f8, al" at `begin`. */
struct watch_record *fake_source_add(struct watch_source *source, uint64_t begin);
