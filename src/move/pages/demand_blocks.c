/* SPDX-License-Identifier: Apache-2.0 */

/* A block of 2 MiB is collected until nothing is due of it, and is placed as one. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "move/pages/demand_internal.h"

static uint64_t block_end(const struct demand *demand, uint64_t block)
{
	return (block + 1) * demand->per_block;
}

static struct part *find_part(struct demand *demand, uint64_t block)
{
	for (size_t i = 0; i < demand->n_parts; i++)
		if (demand->parts[i].block == block)
			return &demand->parts[i];
	return NULL;
}

/* What did not come of it is zero. */
static int have_part(struct demand *demand, uint64_t block, struct part **ret_part)
{
	struct part *part = find_part(demand, block);

	if (!part && demand->n_parts == DEMAND_PARTS_MAX)
		return -ENOBUFS;
	if (!part) {
		part = &demand->parts[demand->n_parts];
		*part = (struct part){
			.block = block,
			.content = calloc(demand->per_block, DEMAND_PAGE_BYTES),
		};
		if (!part->content)
			return -ENOMEM;
		demand->n_parts++;
	}
	*ret_part = part;
	return 0;
}

static struct part take_part(struct demand *demand, struct part *part)
{
	struct part taken = *part;

	*part = demand->parts[--demand->n_parts];
	return taken;
}

static int keep_pages(struct demand *demand, uint64_t first, uint64_t end, const uint8_t *content)
{
	struct part *part;
	int r = have_part(demand, first / demand->per_block, &part);

	for (uint64_t page = first; r == 0 && page < end; page++) {
		if (!bit_is(demand->due, page))
			continue;
		bit_clear(demand->due, page);
		part->pages++;
		if (content)
			memcpy(part->content + page % demand->per_block * DEMAND_PAGE_BYTES,
			       content + (page - first) * DEMAND_PAGE_BYTES, DEMAND_PAGE_BYTES);
	}
	return r;
}

/* Of a block that nothing is due of: 1 and its part, which is this thread's to place; 0: it was but holes, or is there. */
static int close_block(struct demand *demand, uint64_t block, struct part *ret_part)
{
	struct part *part = find_part(demand, block);

	if (demand_any_due(demand, block * demand->per_block, block_end(demand, block)))
		return 0;
	if (!part) {
		demand_block_is_there(demand, block);
		return 0;
	}
	*ret_part = take_part(demand, part);
	return 1;
}

static int place_part(struct demand *demand, struct part *part)
{
	int r = demand_put(demand, part->block * demand->per_block, demand->per_block,
			   part->content);

	free(part->content);
	if (r < 0)
		return r;
	pthread_mutex_lock(&demand->lock);
	demand_block_is_there(demand, part->block);
	demand_count_placed(demand, part->pages);
	pthread_mutex_unlock(&demand->lock);
	return 0;
}

/* [first, end) lies in one block. */
static int place_in_block(struct demand *demand, uint64_t first, uint64_t end,
			  const uint8_t *content)
{
	struct part part;
	int r = 0;

	pthread_mutex_lock(&demand->lock);
	if (demand_any_due(demand, first, end)) {
		r = keep_pages(demand, first, end, content);
		if (r == 0)
			r = close_block(demand, first / demand->per_block, &part);
	}
	pthread_mutex_unlock(&demand->lock);
	return r > 0 ? place_part(demand, &part) : r;
}

int demand_place_blocks(struct demand *demand, uint64_t first, uint64_t n, const uint8_t *content)
{
	const uint64_t end = first + n;
	int r = 0;

	while (r == 0 && first < end) {
		uint64_t to = MIN(end, block_end(demand, first / demand->per_block));

		r = place_in_block(demand, first, to, content);
		content = content ? content + (to - first) * DEMAND_PAGE_BYTES : NULL;
		first = to;
	}
	return r;
}

static int skip_in_block(struct demand *demand, uint64_t first, uint64_t end)
{
	const uint64_t block = first / demand->per_block;
	bool was, is, asked;
	struct part part;
	int r;

	pthread_mutex_lock(&demand->lock);
	was = demand_any_due(demand, first, end);
	for (uint64_t page = first; page < end; page++)
		bit_clear(demand->due, page);
	r = was ? close_block(demand, block, &part) : 0;
	is = bit_is(demand->lacks, block);
	asked = bit_is(demand->asked, block);
	pthread_mutex_unlock(&demand->lock);
	if (r > 0)
		return place_part(demand, &part);
	return was && !is && asked ? demand_fill_hole(demand, first) : 0;
}

int demand_skip_blocks(struct demand *demand, uint64_t first, uint64_t end)
{
	int r = 0;

	while (r == 0 && first < end) {
		uint64_t to = MIN(end, block_end(demand, first / demand->per_block));

		r = skip_in_block(demand, first, to);
		first = to;
	}
	return r;
}
