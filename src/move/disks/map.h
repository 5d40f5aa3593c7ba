/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What of a disk is still to be sent, at the source, in chunks (block/log.h).
 *
 *   VM's process --block_log--> shared bitmap --disk_map_take--> pending --claims--> one sender each
 *   SEEK_DATA --disk_map_add-------------------------------------^
 *
 * Bits are taken from the shared bitmap between passes, before any of their chunks is read; so a write that a reading missed has its
 * bit there for the next pass.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct disk_map;

/* Makes the shared bitmap: a memfd, sealed. */
_must_check_ int disk_map_new(uint64_t size, struct disk_map **ret_map);
void disk_map_free(struct disk_map *map);
int disk_map_log_fd(const struct disk_map *map); /* borrowed */

/* The next four while no sender claims. What was added or taken is claimed and counted after a rewind. */
void disk_map_add(struct disk_map *map, uint64_t offset, uint64_t len);
void disk_map_take(struct disk_map *map);
void disk_map_rewind(struct disk_map *map);
/* From the chunk `from`, which there is, to which one all are pending, or none is. */
uint64_t disk_map_run(const struct disk_map *map, uint64_t from, bool *ret_pending);

/* Chunks that are pending. Any thread. */
uint64_t disk_map_left(const struct disk_map *map);
/* Chunks in the shared bitmap. Any thread. */
uint64_t disk_map_logged(const struct disk_map *map);
/* The next pending one, which is then the caller's: false when there is none. Any thread. */
_must_check_ bool disk_map_claim(struct disk_map *map, uint64_t *ret_chunk);
