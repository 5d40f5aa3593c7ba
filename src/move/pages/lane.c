/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/send_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/zero.h"

#define GATHER_PAGES 256
/* One run more may end what is gathered. */
#define HEADS_BYTES                                                                                \
	(GATHER_RUNS * (FRAME_HEADER_BYTES + PAGE_SUMS_BYTES(0)) +                                 \
	 8 * (GATHER_PAGES + MOVE_BATCH_PAGES))
#define PAUSE_NS (50 * NSEC_PER_MSEC) /* after so long a wait looks whether it is still wanted */

int lane_init(struct lane *lane, struct pages_sender *sender, uint32_t index)
{
	int r = 0;

	lane->sender = sender;
	lane->writer = &sender->settings.writers[index];
	lane->index = index;
	lane->zeroes = malloc((size_t)ZERO_RANGES * ZERO_RANGE_BYTES);
	lane->heads = malloc(HEADS_BYTES);
	if (!lane->zeroes || !lane->heads)
		return -ENOMEM;
	if (sender->settings.compress == MOVE_COMPRESS_OFF)
		return 0;
	r = page_batch_init(&lane->copies);
	if (r == 0)
		r = page_batch_init(&lane->deltas);
	return r < 0 ? r : packer_new(&lane->packer);
}

void lane_release(struct lane *lane)
{
	free(TAKE_PTR(lane->zeroes));
	free(TAKE_PTR(lane->heads));
	page_batch_release(&lane->copies);
	page_batch_release(&lane->deltas);
	packer_free(TAKE_PTR(lane->packer));
}

static const uint8_t *ram_at(const struct lane *lane, uint64_t page)
{
	return page_map_ram(lane->sender->settings.map) + page * PAGE_BYTES;
}

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static uint64_t cpu_now(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t lane_now(const struct lane *lane)
{
	return clock_now(lane->sender->settings.clock);
}

/* Waits for --max-bandwidth: a wire that is made slow is waited for as one that is. A VM that stands still waits for nobody's other
 * traffic. */
static int lane_pause(struct lane *lane, uint64_t bytes)
{
	uint64_t wait = bandwidth_take(&lane->sender->bandwidth, bytes, lane_now(lane));

	while (wait > 0 && !sender_stopped(lane->sender)) {
		struct timespec pause = { .tv_nsec = (long)MIN(wait, PAUSE_NS) };
		uint64_t since = lane_now(lane), slept;

		nanosleep(&pause, NULL);
		/* Where the CPU is wanted by others, it is longer. */
		slept = MAX(lane_now(lane) - since, (uint64_t)pause.tv_nsec);
		wait -= MIN(wait, slept);
		lane->look.send_ns += slept;
	}
	return sender_stopped(lane->sender) ? -ECANCELED : 0;
}

int lane_await_turn(struct lane *lane)
{
	return lane_pause(lane, 0);
}

/* Of the rest each claim has waited before: who wants a page of it would wait for all that it waits for. */
static int lane_pace(struct lane *lane, uint64_t bytes)
{
	if (lane->urgent)
		return 0;
	if (lane->mode.rest)
		(void)bandwidth_take(&lane->sender->bandwidth, bytes, lane_now(lane));
	else if (!lane->sender->last)
		return lane_pause(lane, bytes);
	return 0;
}

static void lane_sent(struct lane *lane, uint64_t since, uint64_t bytes)
{
	lane->look.send_ns += lane_now(lane) - since;
	lane->look.wire_bytes += bytes;
}

static int lane_frame(struct lane *lane, uint16_t kind, const void *payload, size_t len)
{
	uint64_t since;
	int r = lane_pace(lane, FRAME_HEADER_BYTES + len);

	if (r < 0)
		return r;
	since = lane_now(lane);
	r = frame_send(lane->writer, kind, payload, len);
	lane_sent(lane, since, FRAME_HEADER_BYTES + len);
	return r;
}

/* Of a PAGES frame, or a SUMMED one: its header, and what stands before the pages. */
static size_t head_bytes(const struct lane *lane, uint64_t n)
{
	return FRAME_HEADER_BYTES + (lane->sender->settings.sums ? PAGE_SUMS_BYTES(n) : 8);
}

static void head_fill(struct lane *lane, const struct lane_run *run, uint8_t *ret_head)
{
	bool sums = lane->sender->settings.sums;
	uint64_t len = head_bytes(lane, run->n) - FRAME_HEADER_BYTES + run->n * PAGE_BYTES;
	struct frame frame = { .kind = sums ? MOVE_SUMMED : MOVE_PAGES, .len = (uint32_t)len };

	frame_header(&frame, lane->writer->serial++, ret_head);
	if (sums)
		page_sums_fill(run->first, run->n, run->content, ret_head + FRAME_HEADER_BYTES);
	else
		le_store(ret_head + FRAME_HEADER_BYTES, 8, run->first);
}

/* A long run, straight from RAM's file. */
static int send_direct(struct lane *lane, uint64_t first, uint32_t n)
{
	struct lane_run run = { .first = first, .n = n, .content = ram_at(lane, first) };
	struct iovec iov = { lane->heads, head_bytes(lane, n) };
	uint64_t bytes = iov.iov_len + n * PAGE_BYTES, since;
	int r = lane_pace(lane, bytes);

	if (r < 0)
		return r;
	head_fill(lane, &run, lane->heads);
	since = lane_now(lane);
	r = stream_send(lane->writer->stream, &iov, 1, true);
	if (r == 0)
		r = stream_send_pages(lane->writer->stream, ram_at(lane, first), n * PAGE_BYTES);
	lane_sent(lane, since, bytes);
	return r;
}

/* The runs that were gathered, in one call. */
static int flush_runs(struct lane *lane)
{
	uint64_t bytes = lane->run_pages * PAGE_BYTES, since;
	uint8_t *head = lane->heads;
	int r;

	if (!lane->n_runs)
		return 0;
	for (uint32_t i = 0; i < lane->n_runs; i++)
		bytes += head_bytes(lane, lane->runs[i].n);
	r = lane_pace(lane, bytes);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < lane->n_runs; i++) {
		const struct lane_run *run = &lane->runs[i];
		size_t len = head_bytes(lane, run->n);

		head_fill(lane, run, head);
		lane->iov[2 * i] = (struct iovec){ head, len };
		lane->iov[2 * i + 1] = (struct iovec){ (void *)run->content, run->n * PAGE_BYTES };
		head += len;
	}
	since = lane_now(lane);
	r = stream_send(lane->writer->stream, lane->iov, 2 * lane->n_runs, false);
	lane_sent(lane, since, bytes);
	lane->n_runs = 0;
	lane->run_pages = 0;
	return r;
}

static int gather_run(struct lane *lane, uint64_t first, uint32_t n, const void *content)
{
	lane->runs[lane->n_runs++] =
		(struct lane_run){ .first = first, .n = n, .content = content };
	lane->run_pages += n;
	if (lane->n_runs < GATHER_RUNS && lane->run_pages < GATHER_PAGES)
		return 0;
	return flush_runs(lane);
}

/* Copies that did not get smaller. What was gathered before goes first: the copies' place is used again. */
static int send_copies(struct lane *lane)
{
	struct page_batch *batch = &lane->copies;
	uint32_t i = 0, n;
	int r = 0;

	for (; r == 0 && i < batch->n; i += n) {
		for (n = 1; i + n < batch->n && batch->pages[i + n] == batch->pages[i] + n; n++)
			;
		r = gather_run(lane, batch->pages[i], n, page_batch_at(batch, i));
	}
	return r < 0 ? r : flush_runs(lane);
}

/* Packs a batch, with the time that it takes: by the clock and by this thread's CPU. */
static int pack(struct lane *lane, const struct page_batch *batch, const uint8_t **ret_payload,
		size_t *ret_len)
{
	uint64_t cpu = cpu_now(), since = lane_now(lane);
	int r = packer_pack(lane->packer, batch, ret_payload, ret_len);

	if (r < 0)
		return r;
	lane->look.pack_cpu_ns += cpu_now() - cpu;
	lane->look.pack_ns += lane_now(lane) - since;
	return 0;
}

/* Whether it is this thread that shall show what packing brings by now. */
static bool take_sample(struct lane *lane)
{
	return __atomic_load_n(&lane->sender->sample, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(&lane->sender->sample, false, __ATOMIC_RELAXED);
}

static int flush_copies(struct lane *lane, bool packed)
{
	struct page_batch *batch = &lane->copies;
	uint64_t raw = batch->n * PAGE_BYTES;
	const uint8_t *payload = NULL;
	size_t len = raw;
	int r = 0;

	if (batch->n && (packed || take_sample(lane))) {
		r = pack(lane, batch, &payload, &len);
		lane->look.pack_in += raw;
		lane->look.pack_out += MIN(len, raw);
	}
	if (r == 0 && batch->n) {
		bool worth = payload && len < PACKED_WORTH(raw);

		r = worth ? lane_frame(lane, MOVE_PACKED, payload, len) : send_copies(lane);
		count(&lane->counts.packed_pages, worth ? batch->n : 0);
	}
	batch->n = 0;
	return r;
}

static int flush_deltas(struct lane *lane)
{
	struct page_batch *batch = &lane->deltas;
	const uint8_t *payload;
	size_t len;
	int r = 0;

	if (batch->n)
		r = packer_pack(lane->packer, batch, &payload, &len);
	if (r == 0 && batch->n) {
		r = lane_frame(lane, MOVE_DELTAS, payload, len);
		count(&lane->counts.delta_pages, batch->n);
	}
	batch->n = 0;
	return r;
}

/* Whether the page that was just copied goes as the difference to what was sent before, or need not go at all. */
static int try_delta(struct lane *lane, uint64_t page, const uint8_t *copy, bool *ret_done)
{
	struct page_batch *deltas = &lane->deltas;
	unsigned int lines;

	lane->exchanges++;
	*ret_done = delta_cache_replace(lane->sender->cache, page, copy,
					page_batch_at(deltas, deltas->n), &lines) &&
		    lines <= DELTA_LINES;
	if (!*ret_done)
		return 0;
	lane->hits++;
	if (!lines) {
		count(&lane->counts.delta_pages, 1);
		return 0;
	}
	deltas->pages[deltas->n++] = page;
	return deltas->n < MOVE_BATCH_PAGES ? 0 : flush_deltas(lane);
}

/* A page that goes as a copy: what the receiver gets is what was copied, whatever the guest writes meanwhile. */
static int copy_page(struct lane *lane, uint64_t page, bool packed)
{
	struct page_batch *copies = &lane->copies;
	uint8_t *copy = page_batch_at(copies, copies->n);
	bool done = false;
	int r = 0;

	memcpy(copy, ram_at(lane, page), PAGE_BYTES);
	if (lane->mode.delta)
		r = try_delta(lane, page, copy, &done);
	else if (lane->mode.forget)
		delta_cache_forget(lane->sender->cache, page, 1);
	if (r < 0 || done)
		return r;
	copies->pages[copies->n++] = page;
	return copies->n < MOVE_BATCH_PAGES ? 0 : flush_copies(lane, packed);
}

static int send_copied(struct lane *lane, uint64_t first, uint32_t n, bool packed)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = copy_page(lane, first + i, packed);
	return r;
}

/* Some pages of a run are packed although that is off, to see what it would bring: how many, or an error. */
static int send_sample(struct lane *lane, uint64_t first, uint32_t n)
{
	uint32_t some = MIN(n, SAMPLE_PAGES);
	int r;

	if (n < DIRECT_PAGES || !take_sample(lane))
		return 0;
	r = send_copied(lane, first, some, true);
	if (r == 0)
		r = flush_copies(lane, true);
	return r < 0 ? r : (int)some;
}

static int send_plain(struct lane *lane, uint64_t first, uint32_t n)
{
	int sampled = send_sample(lane, first, n);

	if (sampled < 0 || (uint32_t)sampled == n)
		return MIN(sampled, 0);
	first += (uint32_t)sampled;
	n -= (uint32_t)sampled;
	if (lane->mode.forget)
		delta_cache_forget(lane->sender->cache, first, n);
	/* The stream may hold back the end of what goes straight from RAM, until more comes; of the rest somebody waits for it. */
	if (n >= DIRECT_PAGES && !lane->mode.rest)
		return send_direct(lane, first, n);
	return gather_run(lane, first, n, ram_at(lane, first));
}

static int send_data(struct lane *lane, uint64_t first, uint32_t n)
{
	if (!lane->mode.rest) /* which is all that there will ever be */
		page_map_set_held(lane->sender->settings.map, first, n, true);
	count(&lane->counts.pages, n);
	count(&lane->counts.bytes, n * PAGE_BYTES);
	if (lane->mode.pack || lane->mode.delta)
		return send_copied(lane, first, n, lane->mode.pack);
	return send_plain(lane, first, n);
}

static int flush_zeroes(struct lane *lane)
{
	int r = 0;

	if (lane->n_zeroes)
		r = lane_frame(lane, MOVE_ZEROES, lane->zeroes,
			       (size_t)lane->n_zeroes * ZERO_RANGE_BYTES);
	lane->n_zeroes = 0;
	return r;
}

static int add_zeroes(struct lane *lane, uint64_t first, uint32_t n)
{
	uint8_t *range = lane->zeroes + (size_t)lane->n_zeroes * ZERO_RANGE_BYTES;

	le_store(range, 8, first);
	le_store(range + 8, 4, n);
	return ++lane->n_zeroes < ZERO_RANGES ? 0 : flush_zeroes(lane);
}

/* Pages of zeros: told only of those where the receiver holds something else. */
static int send_zeroes(struct lane *lane, uint64_t first, uint32_t n)
{
	struct page_map *map = lane->sender->settings.map;
	uint64_t end = first + n;

	count(&lane->counts.zero_pages, n);
	if (lane->mode.forget)
		delta_cache_forget(lane->sender->cache, first, n);
	if (lane->mode.rest)
		return add_zeroes(lane, first, n);
	while (first < end) {
		uint32_t held = 0;
		int r = 0;

		while (first + held < end && page_map_held(map, first + held))
			held++;
		page_map_set_held(map, first, held, false);
		if (held)
			r = add_zeroes(lane, first, held);
		if (r < 0)
			return r;
		first += held ? held : 1;
	}
	return 0;
}

static int send_run(struct lane *lane, uint64_t first, uint32_t n)
{
	uint64_t end = first + n;

	while (first < end) {
		bool zero = page_is_zero(ram_at(lane, first));
		uint32_t same = 1;
		int r;

		while (first + same < end && page_is_zero(ram_at(lane, first + same)) == zero)
			same++;
		r = zero ? send_zeroes(lane, first, same) : send_data(lane, first, same);
		if (r < 0)
			return r;
		first += same;
	}
	return 0;
}

int lane_send(struct lane *lane, struct page_claim *claim)
{
	uint64_t first;
	uint32_t n;
	int r = 0;

	while (r == 0 && page_claim_run(claim, MOVE_BATCH_PAGES, &first, &n)) {
		/* In the first round our mapping lacks them all: one call is less than a fault for each. */
		if (lane->mode.fresh && n >= DIRECT_PAGES)
			(void)!madvise((void *)ram_at(lane, first), n * PAGE_BYTES,
				       MADV_POPULATE_READ);
		r = send_run(lane, first, n);
	}
	return r;
}

int lane_flush(struct lane *lane)
{
	int r = flush_runs(lane);

	if (r == 0)
		r = flush_copies(lane, lane->mode.pack);
	if (r == 0)
		r = flush_deltas(lane);
	if (r == 0)
		r = flush_zeroes(lane);
	return r;
}

int lane_finish(struct lane *lane, uint32_t round, bool last)
{
	uint8_t payload[5];
	int r = lane_flush(lane);

	le_store(payload, 4, round);
	payload[4] = last;
	return r < 0 ? r : frame_send(lane->writer, MOVE_ROUND, payload, sizeof(payload));
}
