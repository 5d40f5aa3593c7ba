/* SPDX-License-Identifier: Apache-2.0 */
#include "move/saved/index.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/map.h"
#include "move/saved/internal.h"

#define CHUNK_BYTES_MIN (FRAME_HEADER_BYTES + 4 + 12) /* of one page that packs to nothing */

static void take_entry(const uint8_t *from, struct saved_chunk *chunk)
{
	chunk->first = le_load(from, 8);
	chunk->n_pages = (uint32_t)le_load(from + 8, 4);
	chunk->at = le_load(from + 12, 8);
}

/* Where chunk `i` must end: the next one begins there. */
static uint64_t chunk_limit(const struct saved_index *index, uint64_t i)
{
	return i + 1 < index->n ? index->chunks[i + 1].at : index->saved->index_at;
}

/* They stand one behind the other, in the file as in memory. */
static bool is_sound(const struct saved_index *index, uint64_t i)
{
	const struct saved_chunk *chunk = &index->chunks[i];
	uint64_t limit = chunk_limit(index, i), end = saved_index_end(index, i);

	return chunk->n_pages && chunk->n_pages <= MOVE_BATCH_PAGES && chunk->first < end &&
	       end <= index->n_pages && chunk->n_pages <= end - chunk->first && chunk->at < limit &&
	       limit <= index->saved->index_at && limit - chunk->at >= CHUNK_BYTES_MIN;
}

static int judge(const struct saved_index *index, struct error *err)
{
	const struct saved *saved = index->saved;
	uint64_t pages = 0;

	for (uint64_t i = 0; i < index->n; i++) {
		if (!is_sound(index, i))
			return saved_damaged(err, saved->index_at,
					     "an entry of its index that cannot be");
		pages += index->chunks[i].n_pages;
	}
	if (pages != saved->n_pages ||
	    (index->n ? index->chunks[0].at : saved->index_at) != saved->at)
		return saved_damaged(err, saved->index_at, "its index does not fit the rest");
	return 0;
}

static int take_piece(struct saved_index *index, const struct buffer *payload,
		      const struct frame *frame, uint64_t at, uint64_t *n, struct error *err)
{
	if (frame->kind != SAVED_INDEX || !frame->len || frame->len % SAVED_INDEX_ENTRY ||
	    frame->len / SAVED_INDEX_ENTRY > index->n - *n)
		return saved_damaged(err, at, "a piece of an index");
	for (size_t i = 0; i < frame->len; i += SAVED_INDEX_ENTRY)
		take_entry(payload->data + i, &index->chunks[(*n)++]);
	return 0;
}

/* The frames between the last chunk and the foot. */
static int read_pieces(struct saved_index *index, struct buffer *payload, struct error *err)
{
	const struct saved *saved = index->saved;
	uint64_t at = saved->index_at, serial = index->serial + index->n, n = 0;

	while (n < index->n) {
		struct frame frame;
		int r = saved_read_frame(saved->fd, at, saved->size - SAVED_FOOT_BYTES, serial,
					 payload, &frame, err);

		if (r == 0)
			r = take_piece(index, payload, &frame, at, &n, err);
		if (r < 0)
			return r;
		at += saved_frame_bytes(frame.len);
		serial++;
	}
	if (at != saved->size - SAVED_FOOT_BYTES || serial != saved->n_frames)
		return saved_damaged(err, at, "a frame that cannot be there");
	return 0;
}

int saved_index_read(const struct saved *saved, struct saved_index *ret_index, struct error *err)
{
	_cleanup_(buffer_release) struct buffer payload;
	struct saved_index index = {
		.saved = saved,
		.serial = saved->serial,
		.n_pages = saved->head.ram_bytes / PAGE_BYTES,
		.n = saved->n_chunks,
	};
	int r;

	buffer_init(&payload, FRAME_MAX);
	/* No more memory than the file has chunks of the least size. */
	if (saved->index_at < saved->at ||
	    index.n > (saved->index_at - saved->at) / CHUNK_BYTES_MIN)
		return saved_damaged(err, saved->index_at, "its index does not fit the rest");
	index.chunks = calloc(index.n + 1, sizeof(index.chunks[0]));
	if (!index.chunks)
		return -ENOMEM;
	r = read_pieces(&index, &payload, err);
	if (r == 0)
		r = judge(&index, err);
	if (r < 0)
		saved_index_release(&index);
	else
		*ret_index = index;
	return r;
}

void saved_index_release(struct saved_index *index)
{
	free(index->chunks);
	index->chunks = NULL;
	index->n = 0;
}

bool saved_index_find(const struct saved_index *index, uint64_t page, uint64_t *ret_chunk)
{
	uint64_t low = 0, high = index->n;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (index->chunks[middle].first <= page)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return false;
	*ret_chunk = low - 1;
	return true;
}

uint64_t saved_index_end(const struct saved_index *index, uint64_t i)
{
	return i + 1 < index->n ? index->chunks[i + 1].first : index->n_pages;
}

int saved_index_chunk(const struct saved_index *index, uint64_t i, struct buffer *payload,
		      struct error *err)
{
	const struct saved_chunk *chunk = &index->chunks[i];
	const uint64_t limit = chunk_limit(index, i);
	struct frame frame;
	int r = saved_read_frame(index->saved->fd, chunk->at, limit, index->serial + i, payload,
				 &frame, err);

	if (r < 0)
		return r;
	if (frame.kind != MOVE_PACKED || frame.len < 12 ||
	    chunk->at + saved_frame_bytes(frame.len) != limit ||
	    le_load(payload->data, 4) != chunk->n_pages ||
	    le_load(payload->data + 4, 8) != chunk->first)
		return saved_damaged(err, chunk->at, "pages that are not those of its index");
	return 0;
}
