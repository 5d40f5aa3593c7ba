/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct history {
	size_t bytes_max, bytes;
	uint64_t first, end; /* serials; the last block is end - 1, and open */
	struct history_block blocks[HISTORY_BLOCKS]; /* by serial modulo */

	/* The open block's records as they are. */
	struct watch_record open[HISTORY_BLOCK];
	uint8_t open_rings[HISTORY_BLOCK];
	/* Those of the block that was looked at last. */
	struct watch_record unpacked[HISTORY_BLOCK];
	uint64_t unpacked_serial; /* + 1 */
	uint8_t packing[PACK_BYTES_MAX];
};

static struct history_block *block_at(const struct history *history, uint64_t serial)
{
	return (struct history_block *)&history->blocks[serial % HISTORY_BLOCKS];
}

static size_t block_bytes(const struct history_block *block)
{
	return block->packed_bytes + HISTORY_BLOCK * sizeof(struct history_point);
}

static void block_release(struct history *history, struct history_block *block)
{
	if (block->packed)
		history->bytes -= block_bytes(block);
	free(block->points);
	free(block->packed);
	*block = (struct history_block){ 0 };
}

struct history *history_new(size_t bytes_max)
{
	struct history *history = calloc(1, sizeof(*history));

	if (history)
		history->bytes_max = bytes_max;
	return history;
}

void history_free(struct history *history)
{
	if (!history)
		return;
	for (unsigned int i = 0; i < HISTORY_BLOCKS; i++)
		block_release(history, &history->blocks[i]);
	free(history);
}

static void drop_oldest(struct history *history)
{
	block_release(history, block_at(history, history->first));
	history->first++;
}

/* An empty block for the records to come. */
static int block_begin(struct history *history)
{
	struct history_block block = { .serial = history->end, .min_ns = UINT64_MAX };

	block.points = malloc(HISTORY_BLOCK * sizeof(*block.points));
	if (!block.points)
		return -ENOMEM;
	if (history->end - history->first == HISTORY_BLOCKS)
		drop_oldest(history);
	*block_at(history, history->end++) = block;
	return 0;
}

/* Packs the full open block. */
static int block_seal(struct history *history, struct history_block *block)
{
	size_t bytes = pack_records(history->open, history->open_rings, block->n, history->packing);

	block->packed = malloc(bytes);
	if (!block->packed)
		return -ENOMEM;
	memcpy(block->packed, history->packing, bytes);
	block->packed_bytes = (uint32_t)bytes;
	history->bytes += block_bytes(block);
	while (history->bytes > history->bytes_max && history->first + 1 < history->end)
		drop_oldest(history);
	return 0;
}

/* The block that has room for a record; NULL when out of memory. */
static struct history_block *open_block(struct history *history)
{
	struct history_block *block;

	if (history->end == history->first)
		return block_begin(history) ? NULL : block_at(history, history->end - 1);
	block = block_at(history, history->end - 1);
	if (block->n < HISTORY_BLOCK)
		return block;
	if ((!block->packed && block_seal(history, block)) || block_begin(history))
		return NULL;
	return block_at(history, history->end - 1);
}

int history_add(struct history *history, const struct watch_record *record,
		const struct history_point *point)
{
	struct history_block *block = open_block(history);

	if (!block)
		return -ENOMEM;
	history->open[block->n] = *record;
	history->open_rings[block->n] = point->ring;
	block->points[block->n] = *point;
	block->points[block->n].bin = (uint8_t)history_bin(point->duration_ns);
	block->min_ns = MIN(block->min_ns, point->begin_ns);
	block->max_ns = MAX(block->max_ns, point->begin_ns + point->duration_ns);
	block->n++;
	return 0;
}

uint64_t history_first(const struct history *history)
{
	return history->first * HISTORY_BLOCK;
}

uint64_t history_end(const struct history *history)
{
	if (history->end == history->first)
		return history_first(history);
	return (history->end - 1) * HISTORY_BLOCK + block_at(history, history->end - 1)->n;
}

size_t history_bytes(const struct history *history)
{
	return history->bytes;
}

const struct history_block *history_block(const struct history *history, uint64_t serial)
{
	return serial >= history->first && serial < history->end ? block_at(history, serial) : NULL;
}

const struct watch_record *history_records(struct history *history,
					   const struct history_block *block)
{
	if (block->serial == history->end - 1 && !block->packed)
		return history->open;
	if (history->unpacked_serial != block->serial + 1)
		unpack_records(block->packed, block->n, history->unpacked);
	history->unpacked_serial = block->serial + 1;
	return history->unpacked;
}

unsigned int history_bin(uint64_t ns)
{
	unsigned int power = 63 - (unsigned int)__builtin_clzll(ns | 1);
	unsigned int quarter = (unsigned int)(power < 2 ? ns << (2 - power) : ns >> (power - 2)) &
			       3;

	return ns ? MIN(power * 4 + quarter, HISTORY_BINS - 1) : 0;
}

uint64_t history_bin_ns(unsigned int bin)
{
	unsigned int power = bin / 4;

	return (1ULL << power) + (((uint64_t)(bin % 4) << power) >> 2);
}
