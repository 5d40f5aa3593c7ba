/* SPDX-License-Identifier: Apache-2.0 */
#include "move/disks/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/log.h"

#define GROUP 256 /* chunks */

typedef uint8_t hash_t[DIGEST_BYTES];

struct disk_tree {
	uint64_t size, n_chunks, n_groups;
	unsigned int shift;
	struct digest *digest;
	hash_t *chunks; /* all zero: never set. Memory that no chunk needed is never touched */
	hash_t *groups;
	bool *stale;	/* of groups; atomic */
	hash_t zero[2]; /* of a whole chunk, of the last */
};

DEFINE_CLEANUP(struct disk_tree, disk_tree_free, disk_treep)

static int hash_zeroes(struct disk_tree *tree)
{
	_cleanup_(freep) uint8_t *zeroes = calloc(1, 1UL << tree->shift);
	int r = zeroes ? digest_run(tree->digest, zeroes, 1UL << tree->shift, tree->zero[0])
		       : -ENOMEM;

	return r < 0 ? r
		     : digest_run(tree->digest, zeroes, disk_tree_len(tree, tree->n_chunks - 1),
				  tree->zero[1]);
}

int disk_tree_new(uint64_t size, struct disk_tree **ret_tree)
{
	_cleanup_(disk_treep) struct disk_tree *tree = NULL;
	int r;

	if (!size || size > DISK_SIZE_MAX)
		return -EFBIG;
	tree = calloc(1, sizeof(*tree));
	if (!tree)
		return -ENOMEM;
	tree->size = size;
	tree->shift = block_chunk_shift(size);
	tree->n_chunks = block_chunks(size);
	tree->n_groups = (tree->n_chunks + GROUP - 1) / GROUP;
	tree->chunks = calloc(tree->n_chunks, sizeof(hash_t));
	tree->groups = calloc(tree->n_groups, sizeof(hash_t));
	tree->stale = malloc(tree->n_groups * sizeof(bool));
	if (!tree->chunks || !tree->groups || !tree->stale)
		return -ENOMEM;
	memset(tree->stale, true, tree->n_groups * sizeof(bool));
	r = digest_new(&tree->digest);
	if (r == 0)
		r = hash_zeroes(tree);
	if (r < 0)
		return r;
	*ret_tree = TAKE_PTR(tree);
	return 0;
}

void disk_tree_free(struct disk_tree *tree)
{
	if (!tree)
		return;
	digest_free(tree->digest);
	free(tree->chunks);
	free(tree->groups);
	free(tree->stale);
	free(tree);
}

uint64_t disk_tree_chunks(const struct disk_tree *tree)
{
	return tree->n_chunks;
}

uint64_t disk_tree_offset(const struct disk_tree *tree, uint64_t chunk)
{
	return chunk << tree->shift;
}

size_t disk_tree_len(const struct disk_tree *tree, uint64_t chunk)
{
	return MIN(tree->size - (chunk << tree->shift), 1ULL << tree->shift);
}

const uint8_t *disk_tree_zero(const struct disk_tree *tree, uint64_t chunk)
{
	return tree->zero[chunk == tree->n_chunks - 1];
}

void disk_tree_set(struct disk_tree *tree, uint64_t chunk, const uint8_t hash[DIGEST_BYTES])
{
	memcpy(tree->chunks[chunk], hash, DIGEST_BYTES);
	__atomic_store_n(&tree->stale[chunk / GROUP], true, __ATOMIC_RELAXED);
}

const uint8_t *disk_tree_get(const struct disk_tree *tree, uint64_t chunk)
{
	return tree->chunks[chunk];
}

static int freshen(struct disk_tree *tree, uint64_t group)
{
	static const hash_t never;
	uint64_t first = group * GROUP, n = MIN(tree->n_chunks - first, (uint64_t)GROUP);

	for (uint64_t i = 0; i < n; i++)
		if (memcmp(tree->chunks[first + i], never, DIGEST_BYTES) == 0)
			return -ENODATA;
	return digest_run(tree->digest, tree->chunks[first], n * DIGEST_BYTES, tree->groups[group]);
}

int disk_tree_root(struct disk_tree *tree, uint8_t ret_root[DIGEST_BYTES])
{
	for (uint64_t i = 0; i < tree->n_groups; i++) {
		int r = tree->stale[i] ? freshen(tree, i) : 0;

		if (r < 0)
			return r;
		tree->stale[i] = false;
	}
	return digest_run(tree->digest, tree->groups, tree->n_groups * DIGEST_BYTES, ret_root);
}
