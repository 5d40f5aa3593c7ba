/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Storage in memory with a volatile cache, and the power of the machine that it is in. When that is cut, each sector that was not synced is
 * what it was, what was written, or torn somewhere between; before, any may have reached the platter at any time, in any order.
 */

#include <stdbool.h>
#include <stdint.h>

#include "protect/storage.h"

struct power {
	uint64_t random; /* not 0 */
	uint64_t
		steps; /* I/O until the cut, which falls into the middle of one; UINT64_MAX: never */
	uint64_t done;	/* I/O so far */
	bool off;	/* all I/O is -EIO */
	bool tears;	/* sectors, too: else each is old or new */
	bool loses_all; /* nothing reaches the platter but by a sync */
};
uint64_t power_random(struct power *power, uint64_t below);

struct lossy_storage {
	struct storage storage;
	struct power *power; /* borrowed */
	uint8_t *platter, *cache;
	bool *dirty;	     /* by sector */
	uint64_t first, end; /* no other is */
	int fail;	     /* returned by the next sync, which does nothing; 0: none does */
	/* Called once, before the next write. */
	void (*before_write)(void *ctx);
	void *ctx;
	unsigned int reads, writes, syncs;
};

void lossy_storage_init(struct lossy_storage *lossy, struct power *power, uint64_t size);
void lossy_storage_release(struct lossy_storage *lossy);
/* After the cut: what is left of it. Before the power is on again. */
void lossy_storage_cut(struct lossy_storage *lossy);
