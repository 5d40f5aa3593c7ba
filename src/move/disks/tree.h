/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The content of a disk as hashes: of each chunk (block/log.h), of each 256 chunks' hashes, of all of these. A chunk that changes
 * changes one path, so the root costs what changed, not what the disk holds.
 *
 *   root = SHA-256(groups), group = SHA-256(its chunks' hashes), chunk = SHA-256(its bytes)
 */

#include <stdbool.h>

#include "wire/digest.h"

struct disk_tree;

/* `size` in bytes, at most DISK_SIZE_MAX: -EFBIG. */
#define DISK_SIZE_MAX (1ULL << 44)
_must_check_ int disk_tree_new(uint64_t size, struct disk_tree **ret_tree);
void disk_tree_free(struct disk_tree *tree);

uint64_t disk_tree_chunks(const struct disk_tree *tree);
uint64_t disk_tree_offset(const struct disk_tree *tree, uint64_t chunk);
/* The last may be shorter. */
size_t disk_tree_len(const struct disk_tree *tree, uint64_t chunk);
/* The hash of this chunk full of zeroes. */
const uint8_t *disk_tree_zero(const struct disk_tree *tree, uint64_t chunk);

/* Any thread, for different chunks. */
void disk_tree_set(struct disk_tree *tree, uint64_t chunk, const uint8_t hash[DIGEST_BYTES]);
const uint8_t *disk_tree_get(const struct disk_tree *tree, uint64_t chunk);
/* While nobody sets. -ENODATA: a chunk has never been set. */
_must_check_ int disk_tree_root(struct disk_tree *tree, uint8_t ret_root[DIGEST_BYTES]);
