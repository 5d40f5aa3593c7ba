/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/tile.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

DEFINE_CLEANUP(struct tile, tile_free, tile_freep)

void tile_free(struct tile *tile)
{
	if (!tile)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(tile->rings); i++)
		free(tile->rings[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(tile->devices); i++)
		free(tile->devices[i]);
	free(tile);
}

static int lane_add(struct tile_lane **lane, const struct history_point *point, uint32_t column)
{
	struct tile_lane *to = *lane;

	if (!to)
		to = *lane = calloc(1, sizeof(*to));
	if (!to)
		return -ENOMEM;
	to->count++;
	to->failed += !!(point->flags & HISTORY_FAILED);
	to->bins[point->bin]++;
	to->columns[column]++;
	to->columns_ns[column] += (double)point->duration_ns;
	return 0;
}

static void site_add(struct tile_site *site, const struct history_point *point)
{
	site->count++;
	site->duration_ns += (double)point->duration_ns;
	site->max_ns = MAX(site->max_ns, point->duration_ns);
	site->device = point->device;
}

static int point_add(struct tile *tile, const struct history_point *point, double columns_per_ns,
		     uint64_t id)
{
	uint32_t column = (uint32_t)((double)(point->begin_ns - tile->from_ns) * columns_per_ns);
	int r;

	column = MIN(column, tile->n_columns - 1);
	r = lane_add(&tile->rings[point->ring], point, column);
	if (!r)
		r = lane_add(&tile->devices[point->device], point, column);
	if (r)
		return r;
	tile->heat[point->bin][column]++;
	site_add(&tile->sites[point->site], point);
	if (tile->count++ < TILE_SPANS)
		tile->spans[tile->n_spans++] = id;
	return 0;
}

static int block_add(struct tile *tile, const struct history_block *block, const uint64_t *bits)
{
	double columns_per_ns = tile->n_columns / (double)(tile->to_ns - tile->from_ns);
	int r = 0;

	for (uint32_t i = 0; i < block->n && !r; i++) {
		const struct history_point *point = &block->points[i];

		if (lens_bit(bits, i) && point->begin_ns >= tile->from_ns &&
		    point->begin_ns < tile->to_ns)
			r = point_add(tile, point, columns_per_ns,
				      block->serial * HISTORY_BLOCK + i);
	}
	return r;
}

static int tile_fill(struct tile *tile, const struct history *history, struct lenses *lenses,
		     struct lens *lens, uint64_t until_ns)
{
	uint64_t serial = history_first(history) / HISTORY_BLOCK;
	const struct history_block *block;
	int r = 0;

	for (; !r && (block = history_block(history, serial)); serial++) {
		const uint64_t *bits;

		if (block->max_ns < tile->from_ns || block->min_ns >= tile->to_ns)
			continue;
		bits = lens_bits(lenses, lens, block, until_ns);
		if (bits)
			r = block_add(tile, block, bits);
		else
			tile->unknown += block->n;
	}
	return r;
}

int tile_make(const struct history *history, struct lenses *lenses, struct lens *lens,
	      uint64_t from_ns, uint64_t to_ns, uint32_t n_columns, uint64_t until_ns,
	      struct tile **ret_tile)
{
	_cleanup_(tile_freep) struct tile *tile = NULL;
	int r;

	if (from_ns >= to_ns || !n_columns || n_columns > TILE_COLUMNS)
		return -EINVAL;
	tile = calloc(1, sizeof(*tile));
	if (!tile)
		return -ENOMEM;
	tile->from_ns = from_ns;
	tile->to_ns = to_ns;
	tile->n_columns = n_columns;
	r = tile_fill(tile, history, lenses, lens, until_ns);
	if (!r)
		*ret_tile = TAKE_PTR(tile);
	return r;
}

uint64_t tile_percentile(const struct tile_lane *lane, unsigned int permille)
{
	uint64_t below = 0, wanted = (lane->count * permille + 999) / 1000;
	unsigned int bin = 0;

	for (; bin < HISTORY_BINS - 1; bin++) {
		below += lane->bins[bin];
		if (below && below >= wanted)
			break;
	}
	return history_bin_ns(bin);
}
