/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A picture's numbers: the records of a stretch of time that a filter lets through, counted by column of time for each ring
 * and each device, and by column and latency for the heat map; and by instruction. One thread.
 */

#include "view/web/lens.h"
#include "view/web/sites.h"

#define TILE_COLUMNS 1024
#define TILE_DEVICES 256 /* HISTORY_NO_DEVICE included */
#define TILE_SPANS 1500	 /* so few records are told one by one as well */

/* A line of the picture. */
struct tile_lane {
	uint64_t count, failed;
	uint32_t bins[HISTORY_BINS];
	uint32_t columns[TILE_COLUMNS];	 /* records that began there */
	double columns_ns[TILE_COLUMNS]; /* what they took together */
};

struct tile_site {
	uint64_t count, max_ns;
	double duration_ns;
	uint8_t device; /* of the last one seen */
};

struct tile {
	uint64_t from_ns, to_ns; /* records that began in [from, to) */
	uint32_t n_columns;	 /* 1..TILE_COLUMNS */
	uint64_t count;
	uint64_t unknown; /* records that the filter was not asked about for want of time */
	uint32_t n_spans;
	uint64_t spans[TILE_SPANS];		  /* ids of the first ones */
	struct tile_lane *rings[STORE_RINGS_MAX]; /* NULL: no record */
	struct tile_lane *devices[TILE_DEVICES];
	uint32_t heat[HISTORY_BINS][TILE_COLUMNS];
	struct tile_site sites[SITES_MAX];
};

/* Counts; the caller frees with tile_free. `lens` may be NULL: all records. Stops asking the filter at `until_ns`.
 * -EINVAL: from >= to, or no or too many columns; -ENOMEM. */
_must_check_ int tile_make(const struct history *history, struct lenses *lenses, struct lens *lens,
			   uint64_t from_ns, uint64_t to_ns, uint32_t n_columns, uint64_t until_ns,
			   struct tile **ret_tile);
void tile_free(struct tile *tile);

/* `permille` of a lane's latencies are below this, in ns: exact to a fifth. */
uint64_t tile_percentile(const struct tile_lane *lane, unsigned int permille);
