/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A disk in memory that does the same in every run, for fuzz targets: requests complete in a kick, or when
 * the holder lets go. A request that block_check would refuse ends the program: layers above owe that. */

#include "base/limits.h"
#include "block/block.h"

struct ram_block {
	struct block block;
	uint8_t *bytes; /* block.geometry.size */
	bool hold;	/* kicks complete nothing */
	int error;	/* what requests end with; 0: well */
	struct ram_queue *queues[LIMIT_QUEUES];
	unsigned int n_queues;
};

/* NULL when out of memory. The block is owned by whoever block_free()s it. */
struct ram_block *ram_block_new(uint64_t size, uint32_t logical_block, bool readonly);
/* Completes all that is in flight, on this thread. */
void ram_block_run(struct ram_block *ram);
