/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/epoch_send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/batch.h"
#include "move/pages/delta_cache.h"
#include "move/pages/zero.h"

#define ZERO_RANGES 4096
#define STATE_PIECE (256U << 10) /* bytes */

struct epoch_sender {
	struct epoch_send_settings settings;
	struct delta_cache *cache; /* NULL: none */
	struct packer *packer;
	struct page_batch whole, deltas;
	uint8_t *write; /* one frame of it */
	uint8_t *zeroes;
	uint32_t n_zeroes;    /* ranges */
	uint64_t zero_end;    /* the page behind the last of them */
	uint64_t n_sent, sum; /* what END says: of the pages of this epoch that travel */
	struct epoch_counts counts;
	bool broken; /* what was sent last is not what the backup has */
};

DEFINE_CLEANUP(struct epoch_sender, epoch_sender_free, epoch_sender_freep)

int epoch_sender_new(const struct epoch_send_settings *settings, struct epoch_sender **ret_sender)
{
	_cleanup_(epoch_sender_freep) struct epoch_sender *sender = calloc(1, sizeof(*sender));
	int r;

	if (!sender)
		return -ENOMEM;
	sender->settings = *settings;
	sender->zeroes = malloc((size_t)ZERO_RANGES * ZERO_RANGE_BYTES);
	sender->write = malloc(PROTECT_WRITE_BYTES + PROTECT_WRITE_MAX);
	r = sender->zeroes && sender->write ? page_batch_init(&sender->whole) : -ENOMEM;
	if (r == 0)
		r = page_batch_init(&sender->deltas);
	if (r == 0)
		r = packer_new(&sender->packer);
	if (r == 0 && settings->cache_bytes)
		r = delta_cache_new(settings->cache_bytes, &sender->cache);
	if (r < 0)
		return r;
	*ret_sender = TAKE_PTR(sender);
	return 0;
}

void epoch_sender_free(struct epoch_sender *sender)
{
	if (!sender)
		return;
	page_batch_release(&sender->whole);
	page_batch_release(&sender->deltas);
	packer_free(sender->packer);
	delta_cache_free(sender->cache);
	free(sender->zeroes);
	free(sender->write);
	free(sender);
}

static int send_frame(struct epoch_sender *sender, uint16_t kind, const void *payload, size_t len)
{
	sender->counts.wire_bytes += FRAME_HEADER_BYTES + len + 4;
	return frame_send(sender->settings.writer, kind, payload, len);
}

/* ---- pages ---- */

static void count_sent(struct epoch_sender *sender, uint64_t page, const uint8_t *content)
{
	sender->n_sent++;
	sender->sum += epoch_sum(page, content);
}

static int flush_zeroes(struct epoch_sender *sender)
{
	const size_t len = (size_t)sender->n_zeroes * ZERO_RANGE_BYTES;

	sender->n_zeroes = 0;
	sender->zero_end = 0;
	return len ? send_frame(sender, PROTECT_ZEROES, sender->zeroes, len) : 0;
}

static int add_zero(struct epoch_sender *sender, uint64_t page)
{
	uint8_t *range = sender->zeroes + (size_t)sender->n_zeroes * ZERO_RANGE_BYTES;

	sender->counts.zero_pages++;
	if (sender->cache)
		delta_cache_forget(sender->cache, page, 1);
	if (sender->n_zeroes && page == sender->zero_end) {
		uint8_t *count = range - ZERO_RANGE_BYTES + 8;

		le_store(count, 4, le_load(count, 4) + 1);
		sender->zero_end++;
		return 0;
	}
	le_store(range, 8, page);
	le_store(range + 8, 4, 1);
	sender->zero_end = page + 1;
	return ++sender->n_zeroes < ZERO_RANGES ? 0 : flush_zeroes(sender);
}

static int flush_deltas(struct epoch_sender *sender)
{
	const uint8_t *payload;
	size_t len;
	int r = 0;

	if (sender->deltas.n)
		r = packer_pack(sender->packer, &sender->deltas, &payload, &len);
	if (r == 0 && sender->deltas.n)
		r = send_frame(sender, PROTECT_DELTAS, payload, len);
	sender->deltas.n = 0;
	return r;
}

/* What the pages' sum in END guards carries no checksum of its own. */
static int send_unpacked(struct epoch_sender *sender)
{
	const struct page_batch *batch = &sender->whole;
	uint8_t head[FRAME_HEADER_BYTES + PAGE_NUMBERS_BYTES(MOVE_BATCH_PAGES)];
	const size_t numbers = PAGE_NUMBERS_BYTES(batch->n), content = batch->n * MEMORY_PAGE_SIZE;
	const struct frame frame = { .kind = PROTECT_PAGES, .len = (uint32_t)(numbers + content) };
	const struct iovec iov[] = { { head, FRAME_HEADER_BYTES + numbers },
				     { batch->content, content } };

	frame_header(&frame, sender->settings.writer->serial++, head);
	page_numbers_fill(batch, head + FRAME_HEADER_BYTES);
	sender->counts.wire_bytes += FRAME_HEADER_BYTES + frame.len;
	return stream_send(sender->settings.writer->stream, iov, ARRAY_SIZE(iov), true);
}

static int flush_whole(struct epoch_sender *sender)
{
	const uint8_t *payload = NULL;
	size_t len = SIZE_MAX;
	int r = 0;

	if (sender->whole.n && sender->settings.pack)
		r = packer_pack(sender->packer, &sender->whole, &payload, &len);
	if (r == 0 && sender->whole.n)
		r = len < PACKED_WORTH(sender->whole.n * MEMORY_PAGE_SIZE)
			    ? send_frame(sender, PROTECT_PACKED, payload, len)
			    : send_unpacked(sender);
	sender->whole.n = 0;
	return r;
}

/* Whether the page is on its way as a difference, or need not go at all. */
static int try_delta(struct epoch_sender *sender, uint64_t page, const uint8_t *content,
		     bool *ret_done)
{
	struct page_batch *deltas = &sender->deltas;
	unsigned int lines;

	*ret_done = sender->cache &&
		    delta_cache_replace(sender->cache, page, content,
					page_batch_at(deltas, deltas->n), &lines) &&
		    lines <= DELTA_LINES;
	if (!*ret_done)
		return 0;
	if (!lines) {
		sender->counts.same_pages++;
		return 0;
	}
	count_sent(sender, page, content);
	sender->counts.delta_pages++;
	deltas->pages[deltas->n++] = page;
	return deltas->n < MOVE_BATCH_PAGES ? 0 : flush_deltas(sender);
}

static int send_page(struct epoch_sender *sender, uint64_t page, const uint8_t *content)
{
	struct page_batch *whole = &sender->whole;
	bool done;
	int r;

	sender->counts.pages++;
	if (page_is_zero(content)) {
		count_sent(sender, page, content);
		return add_zero(sender, page);
	}
	r = try_delta(sender, page, content, &done);
	if (r < 0 || done)
		return r;
	count_sent(sender, page, content);
	whole->pages[whole->n] = page;
	memcpy(page_batch_at(whole, whole->n), content, MEMORY_PAGE_SIZE);
	return ++whole->n < MOVE_BATCH_PAGES ? 0 : flush_whole(sender);
}

/* ---- an epoch ---- */

static int send_begin(struct epoch_sender *sender, const struct epoch *epoch,
		      const struct epoch_origin *origin)
{
	uint8_t bytes[PROTECT_EPOCH_BYTES];

	le_store(bytes, 8, origin->generation);
	memcpy(bytes + 8, origin->session.bytes, PROTECT_SESSION_BYTES);
	le_store(bytes + 24, 8, epoch->number);
	le_store(bytes + 32, 8, epoch->released);
	return send_frame(sender, PROTECT_EPOCH, bytes, sizeof(bytes));
}

static int send_write(struct epoch_sender *sender, const struct journal_write *write, uint64_t at,
		      uint64_t len)
{
	const size_t data = write->kind == JOURNAL_WRITE ? (size_t)len : 0;
	uint8_t *bytes = sender->write;

	le_store(bytes, 4, write->disk);
	le_store(bytes + 4, 4, write->kind);
	le_store(bytes + 8, 8, write->offset + at);
	le_store(bytes + 16, 8, len);
	if (data)
		memcpy(bytes + PROTECT_WRITE_BYTES, (const uint8_t *)write->data + at, data);
	sender->counts.write_bytes += data;
	return send_frame(sender, PROTECT_WRITE, bytes, PROTECT_WRITE_BYTES + data);
}

static int send_state(struct epoch_sender *sender, const struct buffer *state)
{
	size_t at = 0, len;
	int r;

	do {
		len = MIN(state->len - at, (size_t)STATE_PIECE);
		r = send_frame(sender, PROTECT_STATE, state->data + at, len);
		at += len;
	} while (r == 0 && len);
	return r;
}

static int send_end(struct epoch_sender *sender, const struct epoch *epoch)
{
	uint8_t bytes[PROTECT_END_BYTES];

	le_store(bytes, 8, epoch->number);
	le_store(bytes + 8, 8, sender->n_sent);
	le_store(bytes + 16, 8, sender->sum);
	return send_frame(sender, PROTECT_END, bytes, sizeof(bytes));
}

static int send_pages(struct epoch_sender *sender, const struct epoch *epoch)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < epoch->n_pages; i++)
		r = send_page(sender, epoch->pages[i], epoch_content(epoch, i));
	if (r == 0)
		r = flush_whole(sender);
	if (r == 0)
		r = flush_deltas(sender);
	return r < 0 ? r : flush_zeroes(sender);
}

static int broke(struct epoch_sender *sender, int r)
{
	sender->broken |= r < 0;
	return r;
}

int epoch_send_begin(struct epoch_sender *sender, const struct epoch *epoch,
		     const struct epoch_origin *origin)
{
	if (sender->broken)
		return -EPIPE;
	sender->counts = (struct epoch_counts){ 0 };
	sender->n_sent = sender->sum = 0;
	return broke(sender, send_begin(sender, epoch, origin));
}

/* In pieces that a frame has room for; what has no data goes in one. */
int epoch_send_write(struct epoch_sender *sender, const struct journal_write *write)
{
	const bool data = write->kind == JOURNAL_WRITE;
	int r = sender->broken ? -EPIPE : 0;

	sender->counts.writes++;
	for (uint64_t at = 0, n; r == 0 && at < write->len; at += n) {
		n = data ? MIN(write->len - at, (uint64_t)PROTECT_WRITE_MAX) : write->len;
		r = send_write(sender, write, at, n);
	}
	return broke(sender, r);
}

int epoch_send_end(struct epoch_sender *sender, const struct epoch *epoch,
		   struct epoch_counts *ret_counts)
{
	int r = sender->broken ? -EPIPE : send_pages(sender, epoch);

	if (r == 0)
		r = send_state(sender, &epoch->state);
	if (r == 0)
		r = send_end(sender, epoch);
	*ret_counts = sender->counts;
	return broke(sender, r);
}

int epoch_send(struct epoch_sender *sender, const struct epoch *epoch,
	       const struct epoch_origin *origin, struct epoch_counts *ret_counts)
{
	int r = epoch_send_begin(sender, epoch, origin);

	*ret_counts = (struct epoch_counts){ 0 };
	return r < 0 ? r : epoch_send_end(sender, epoch, ret_counts);
}
