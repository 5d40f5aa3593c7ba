/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/source_postcopy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/missing.h"

#define LOOK_MS 50
#define NEAR_PAGES 32 /* behind a page that is wanted: what is touched next, more often than not */
#define SILENT_NS NSEC_PER_SEC

bool source_rest_listens(const struct source *source)
{
	return source->rest && source->rest->ear.runs;
}

int source_rest_decide(struct source *source, const char *why)
{
	struct mover *mover = &source->mover;

	source->rest = calloc(1, sizeof(*source->rest));
	if (!source->rest)
		return -ENOMEM;
	mover_post(mover, ON_POSTCOPY, PHASE_MEMORY);
	progress_why(&mover->progress, why);
	progress_numbers(&mover->progress, &mover->numbers, true);
	return 0;
}

/* ---- what is missing there ---- */

static uint64_t word_at(const void *ctx, uint64_t word)
{
	return page_map_rest(ctx, word);
}

int source_rest_tell(struct source *source)
{
	struct mover *mover = &source->mover;
	_cleanup_(freep) uint8_t *piece = malloc(MISSING_PIECE_BYTES);
	uint64_t n_words = mover->facts.ram_bytes / PAGE_BYTES / 64, word = 0;
	size_t len;
	int r = piece ? 0 : -ENOMEM;

	page_map_settle(source->map, mover->facts.hugepages != MEMORY_HUGE_OFF);
	source->rest->bytes = page_map_left(source->map) * PAGE_BYTES;
	do {
		len = r == 0 ? missing_put(word_at, source->map, n_words, &word, piece) : 0;
		if (r == 0)
			r = mover_send(mover, MOVE_MISSING, piece, len);
	} while (r == 0 && len);
	return r;
}

/* ---- the ear ---- */

/* Those that somebody waits for; then what lies near, unless others wait already. */
static int serve(struct source *source, const struct frame *frame)
{
	struct mover *mover = &source->mover;
	uint64_t first;
	uint32_t n;
	int r = wanted_take(mover->readers[0].payload.data, frame->len,
			    mover->facts.ram_bytes / PAGE_BYTES, &first, &n);

	if (r < 0)
		return r;
	r = pages_send_wanted(source->sender, first, n);
	if (r <= 0)
		return r;
	__atomic_add_fetch(&source->rest->served, (uint64_t)r, __ATOMIC_RELAXED);
	if (n == 1 && stream_wait(mover->streams[0], 0) == 0)
		r = pages_send_wanted(source->sender, first + 1, NEAR_PAGES);
	return MIN(r, 0);
}

static int listen_once(void *ctx, struct frame *ret_frame)
{
	struct source *source = ctx;
	struct mover *mover = &source->mover;
	struct error err = { 0 };
	int r = stream_wait(mover->streams[0], LOOK_MS);

	if (r <= 0)
		return r;
	r = frame_receive(&mover->readers[0], ret_frame, &err);
	if (r < 0)
		return r;
	if (!(ret_frame->flags & FRAME_CHECKED))
		return -EBADMSG;
	if (ret_frame->kind == MOVE_FAULT)
		return serve(source, ret_frame);
	return mover_may_skip(ret_frame) ? 0 : 1;
}

/* Acknowledgements are the kernel's; what it takes from us tells of them. */
static uint64_t signs_of(const struct mover *mover)
{
	struct stream_counts counts = mover_counts(mover);

	return counts.wire_received + counts.wire_sent;
}

int source_rest_listen_on(struct source *source)
{
	struct mover *mover = &source->mover;

	source->rest->signs = signs_of(mover);
	source->rest->heard_ns = source->rest->began_ns = clock_now(mover->clock);
	return ear_start(&source->rest->ear, listen_once, source, mover->entry);
}

/* ---- the mover's own thread ---- */

void source_rest_begin(struct source *source)
{
	struct source_rest *rest = source->rest;

	if (!source_rest_listens(source) || rest->sends)
		return;
	mover_be_patient(&source->mover);
	rest->sends = true;
	source->round++;
	source->round_done = false;
	pages_send_rest(source->sender, source->round);
}

/* Once its pages went, stream 0 tells that it has none any more. */
static void end_round(struct source *source)
{
	struct mover *mover = &source->mover;
	struct error err = { .status = EXIT_STATUS_FAILED };
	uint8_t payload[5];
	int r;

	if (!source->rest->sends || source->rest->sent)
		return;
	r = pages_send_wait(source->sender, 0, &err);
	if (r < 0) {
		error_set(&mover->error, r, err.status, "%s", err.message);
		mover_lose(mover, r);
		return;
	}
	if (r == 0)
		return;
	source->rest->sent = true;
	le_store(payload, 4, source->round);
	payload[4] = true;
	mover_send(mover, MOVE_ROUND, payload, sizeof(payload));
}

static void tell(struct source *source)
{
	struct mover *mover = &source->mover;
	struct source_rest *rest = source->rest;
	char why[160];

	if (rest->silent)
		snprintf(why, sizeof(why),
			 "%.60s is not heard of: the VM waits for the link, and goes on with it",
			 mover->job->peer);
	else
		snprintf(why, sizeof(why),
			 "post-copy: it runs there; until %" PRIu64
			 " MiB are there too, losing either host loses it",
			 (rest->bytes + MIB(1) - 1) >> 20);
	if (source->handover.at == SOURCE_LEFT)
		progress_why(&mover->progress, why);
	source_count(source);
	mover->numbers.wanted_pages = __atomic_load_n(&rest->served, __ATOMIC_RELAXED);
	progress_numbers(&mover->progress, &mover->numbers, false);
}

/* Silence is the end of it only as long as the VM can stay here. */
static void watch_silence(struct source *source)
{
	struct mover *mover = &source->mover;
	struct source_rest *rest = source->rest;
	uint64_t now_ns = clock_now(mover->clock), signs = signs_of(mover);

	if (signs != rest->signs) {
		rest->signs = signs;
		rest->heard_ns = now_ns;
	}
	rest->silent = rest->sends && now_ns - rest->heard_ns >= SILENT_NS;
	if (!rest->sends)
		mover_judge_wait(mover, now_ns - rest->heard_ns, now_ns - rest->began_ns);
}

static bool is_last_round_done(const struct source *source, const struct frame *frame)
{
	return source->rest->sent && frame->kind == MOVE_ROUND_DONE && frame->len == 4 &&
	       le_load(source->mover.readers[0].payload.data, 4) == source->round;
}

static void all_there(struct source *source)
{
	struct mover *mover = &source->mover;

	ear_stop(&source->rest->ear);
	source_count(source);
	mover->progress.postcopy = false;
	progress_why(&mover->progress, "post-copy: all of its memory is there");
	progress_numbers(&mover->progress, &mover->numbers, true);
	mover_post(mover, ON_DONE, PHASE_RUN);
}

void source_rest_hear(struct source *source, unsigned int timeout_ms)
{
	struct mover *mover = &source->mover;
	struct ear *ear = &source->rest->ear;
	struct frame frame;
	int r = ear_hear(ear, timeout_ms, &frame);

	if (r < 0) {
		mover_lose(mover, r);
		return;
	}
	if (r > 0 && is_last_round_done(source, &frame)) {
		all_there(source);
		return;
	}
	if (r > 0) {
		source_hear(source, &frame);
		ear_go_on(ear);
		return;
	}
	mover_is_cancelled(mover);
	end_round(source);
	watch_silence(source);
	tell(source);
}

void source_rest_release(struct source *source)
{
	if (source_rest_listens(source)) {
		stream_cancel(source->mover.streams[0]);
		ear_stop(&source->rest->ear);
	}
	free(TAKE_PTR(source->rest));
}
