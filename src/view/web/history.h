/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the page can look back at: the last records, up to a number of bytes. Each is kept twice: as a point, the few
 * numbers that pictures are drawn from (a scan of two million takes some milliseconds), and whole, packed by blocks, for
 * filters and for a look at one request. The oldest blocks go when it is full.
 *
 *   record number (id) = block's serial * HISTORY_BLOCK + index in the block; counted from 0
 *
 * One thread.
 */

#include "base/macros.h"
#include "view/web/pack.h"
#include "watch/record.h"

#define HISTORY_BLOCK PACK_RECORDS
#define HISTORY_BLOCKS 16384 /* at most: 16 million records */
#define HISTORY_NO_DEVICE 255
#define HISTORY_TIME_MAX (1ULL << 53) /* ns: what the page's numbers hold exactly */

/* Latencies as bins: four for each power of two, up to 2^40 ns. */
#define HISTORY_BINS 160

enum history_flags {
	HISTORY_WRITE = 1 << 0,
	HISTORY_FAILED = 1 << 1, /* a status other than 0, or no device answered */
};

struct history_point {
	uint64_t begin_ns;    /* since the history's first record, < HISTORY_TIME_MAX */
	uint64_t duration_ns; /* < HISTORY_TIME_MAX */
	uint16_t site;	      /* view/web/sites.h */
	uint8_t bin;	      /* of the duration: history_bin */
	uint8_t device;	      /* HISTORY_NO_DEVICE */
	uint8_t ring;
	uint8_t flags; /* enum history_flags */
	uint8_t reserved[2];
};

struct history_block {
	uint64_t serial;
	uint64_t min_ns, max_ns; /* of its points: first begin, last end */
	uint32_t n;		 /* points; HISTORY_BLOCK but in the last block */
	uint32_t packed_bytes;	 /* 0 in the last block */
	struct history_point *points;
	uint8_t *packed;
};

struct history;

/* `bytes_max`: of records, at least 2 MiB. NULL when out of memory. */
struct history *history_new(size_t bytes_max);
void history_free(struct history *history);

/* Adds a record; point's bin is filled in. -ENOMEM: it is not there, and all is as before. */
_must_check_ int history_add(struct history *history, const struct watch_record *record,
			     const struct history_point *point);

/* Records that are there: [first, end). Equal when there is none. */
uint64_t history_first(const struct history *history);
uint64_t history_end(const struct history *history);
/* Bytes that they take. */
size_t history_bytes(const struct history *history);

/* The block of a serial; NULL when it is gone or not yet there. Until the next history_add. */
const struct history_block *history_block(const struct history *history, uint64_t serial);
/* Its records, unpacked where need be: valid until the next call of this or of history_add. */
const struct watch_record *history_records(struct history *history,
					   const struct history_block *block);

/* The bin of a latency, and the least latency of a bin. */
unsigned int history_bin(uint64_t ns);
uint64_t history_bin_ns(unsigned int bin);
