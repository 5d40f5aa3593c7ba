/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "move/pages/send_internal.h"

#define CLAIM_PAGES_MIN 16
#define REST_PAGES 64 /* in one claim of the rest: who waits for one of them waits for them all */
#define HUGE_PAGES 512
#define DELTA_TRIES 1024 /* pages looked up before one may say that it is no use */

bool sender_stopped(const struct pages_sender *sender)
{
	return __atomic_load_n(&sender->stop, __ATOMIC_RELAXED);
}

static void look_add(struct pack_look *sum, const struct pack_look *look)
{
	sum->send_ns += look->send_ns;
	sum->wire_bytes += look->wire_bytes;
	sum->pack_ns += look->pack_ns;
	sum->pack_cpu_ns += look->pack_cpu_ns;
	sum->pack_in += look->pack_in;
	sum->pack_out += look->pack_out;
}

/* Differences are tried where the wire is waited for, from the second round on, and left again for the rest of a round that finds
 * few of its pages known. */
static void judge_deltas_locked(struct pages_sender *sender)
{
	const struct pack_policy *policy = &sender->policy;
	bool known = sender->round == 2 || sender->exchanges < DELTA_TRIES ||
		     sender->hits >= sender->exchanges / 16;

	if (sender->settings.compress == MOVE_COMPRESS_AUTO)
		sender->delta = known && policy->reason != PACK_CPU_SHORT &&
				(sender->delta || policy->limited);
}

static void judge_locked(struct pages_sender *sender, uint64_t now_ns)
{
	sender->look.ns = now_ns - sender->window_ns;
	sender->look.threads = sender->n_lanes;
	pack_policy_judge(&sender->policy, &sender->look);
	if (sender->round >= 2 && sender->cache)
		judge_deltas_locked(sender);
	sender->look = (struct pack_look){ 0 };
	__atomic_store_n(&sender->window_ns, now_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&sender->sample, sender->settings.compress == MOVE_COMPRESS_AUTO,
			 __ATOMIC_RELAXED);
}

static struct lane_mode mode_locked(struct pages_sender *sender)
{
	enum move_compress compress = sender->settings.compress;

	sender->cache_used |= sender->delta;
	return (struct lane_mode){
		.pack = compress == MOVE_COMPRESS_ON ||
			(compress == MOVE_COMPRESS_AUTO && sender->policy.on),
		.delta = sender->delta && !sender->rest, /* to a page that is a hole there */
		.forget = sender->cache_used,
		.fresh = sender->round == 1,
		.rest = sender->rest,
	};
}

/* Hands over what a lane measured and tells it how to go on. */
static void sender_report(struct pages_sender *sender, struct lane *lane)
{
	uint64_t now_ns;

	if (sender->settings.compress == MOVE_COMPRESS_OFF)
		return;
	now_ns = clock_now(sender->settings.clock);
	pthread_mutex_lock(&sender->lock);
	look_add(&sender->look, &lane->look);
	sender->exchanges += lane->exchanges;
	sender->hits += lane->hits;
	if (now_ns - sender->window_ns >= PACK_LOOK_NS)
		judge_locked(sender, now_ns);
	lane->mode = mode_locked(sender);
	pthread_mutex_unlock(&sender->lock);
	lane->look = (struct pack_look){ 0 };
	lane->exchanges = lane->hits = 0;
}

static int lane_round(struct lane *lane, uint32_t round, bool last, uint32_t claim_pages)
{
	struct pages_sender *sender = lane->sender;
	struct page_claim claim;
	int r = 0;

	sender_report(sender, lane);
	while (r == 0 && page_map_claim(sender->settings.map, claim_pages, &claim)) {
		r = sender_stopped(sender) ? -ECANCELED : lane_send(lane, &claim);
		sender_report(sender, lane);
	}
	return r < 0 ? r : lane_finish(lane, round, last);
}

/* The rest leaves stream 0 to others, or takes turns on it where there is no other. */
static bool lane_takes_part(const struct lane *lane, bool rest)
{
	return !rest || lane->index || lane->sender->n_lanes == 1;
}

static int lane_rest_claim(struct lane *lane, struct page_claim *claim)
{
	struct line *line = lane->index ? NULL : lane->sender->settings.line;
	int r;

	if (line)
		line_take(line, false);
	r = sender_stopped(lane->sender) ? -ECANCELED : lane_send(lane, claim);
	if (r == 0)
		r = lane_flush(lane);
	if (line)
		line_give(line, false);
	return r;
}

static int lane_rest(struct lane *lane, uint32_t round, uint32_t claim_pages)
{
	struct pages_sender *sender = lane->sender;
	struct page_claim claim;
	int r;

	sender_report(sender, lane);
	r = lane_await_turn(lane);
	while (r == 0 && page_map_claim(sender->settings.map, claim_pages, &claim)) {
		r = lane_rest_claim(lane, &claim);
		sender_report(sender, lane);
		if (r == 0)
			r = lane_await_turn(lane);
	}
	return r < 0 || !lane->index ? r : lane_finish(lane, round, true);
}

static void lane_failed_locked(struct lane *lane, int r)
{
	error_set(&lane->sender->error, r, EXIT_STATUS_FAILED,
		  "move: stream %u: cannot send memory: %s", lane->index, strerror(-r));
}

/* Waits for a round that this lane has not sent: false when there will be none. */
static bool lane_wait_locked(struct pages_sender *sender, uint64_t done)
{
	while (sender->begun == done && !sender->quit)
		pthread_cond_wait(&sender->changed, &sender->lock);
	return !sender->quit;
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct pages_sender *sender = lane->sender;

	pthread_mutex_lock(&sender->lock);
	for (uint64_t done = 0; lane_wait_locked(sender, done); done++) {
		uint32_t round = sender->round, claim_pages = sender->claim_pages;
		bool last = sender->last, rest = sender->rest;
		int r;

		if (!lane_takes_part(lane, rest))
			continue;
		lane->mode = mode_locked(sender);
		pthread_mutex_unlock(&sender->lock);
		r = rest ? lane_rest(lane, round, claim_pages)
			 : lane_round(lane, round, last, claim_pages);
		pthread_mutex_lock(&sender->lock);
		if (r < 0)
			lane_failed_locked(lane, r);
		sender->running--;
		pthread_cond_broadcast(&sender->changed);
	}
	pthread_mutex_unlock(&sender->lock);
	return NULL;
}

DEFINE_CLEANUP(struct pages_sender, pages_send_free, pages_send_freep)

static int start_lanes(struct pages_sender *sender)
{
	for (uint32_t i = 0; i < sender->settings.n_streams; i++) {
		char name[16];
		int r;

		snprintf(name, sizeof(name), "pages.%u", i % 100);
		r = thread_start(name, sender->settings.entry, lane_main, &sender->lanes[i],
				 &sender->lanes[i].thread);
		if (r < 0)
			return r;
		sender->n_lanes++;
	}
	return 0;
}

static int init(struct pages_sender *sender)
{
	const struct pages_send_settings *settings = &sender->settings;
	uint64_t bytes = settings->delta_bytes ? settings->delta_bytes : LIMIT_DELTA_CACHE;
	int r = 0;

	bandwidth_init(&sender->bandwidth, settings->max_bandwidth);
	pack_policy_init(&sender->policy);
	pthread_mutex_init(&sender->lock, NULL);
	pthread_cond_init(&sender->changed, NULL);
	if (settings->compress != MOVE_COMPRESS_OFF)
		r = delta_cache_new(MIN(bytes, LIMIT_DELTA_CACHE), &sender->cache);
	for (uint32_t i = 0; r == 0 && i < settings->n_streams; i++)
		r = lane_init(&sender->lanes[i], sender, i);
	if (r == 0 && settings->line)
		r = lane_init(&sender->wanted, sender, 0);
	sender->wanted.urgent = true;
	sender->wanted.mode.rest = true;
	return r < 0 ? r : start_lanes(sender);
}

int pages_send_new(const struct pages_send_settings *settings, struct pages_sender **ret_sender,
		   struct error *err)
{
	_cleanup_(pages_send_freep) struct pages_sender *sender = NULL;
	int r;

	if (!settings->n_streams || settings->n_streams > MOVE_STREAMS_MAX)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "move: 1 to %d streams",
				 MOVE_STREAMS_MAX);
	sender = calloc(1, sizeof(*sender));
	if (!sender)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "move: no memory");
	sender->settings = *settings;
	r = init(sender);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "move: cannot start sending: %s",
				 strerror(-r));
	*ret_sender = TAKE_PTR(sender);
	return 0;
}

/* A round that runs is not waited for. */
static void stop(struct pages_sender *sender)
{
	bool running;

	__atomic_store_n(&sender->stop, true, __ATOMIC_RELAXED);
	pthread_mutex_lock(&sender->lock);
	sender->quit = true;
	running = sender->running > 0;
	pthread_cond_broadcast(&sender->changed);
	pthread_mutex_unlock(&sender->lock);
	for (uint32_t i = 0; running && i < sender->n_lanes; i++)
		stream_cancel(sender->settings.writers[i].stream);
	for (uint32_t i = 0; i < sender->n_lanes; i++)
		pthread_join(sender->lanes[i].thread, NULL);
}

void pages_send_free(struct pages_sender *sender)
{
	if (!sender)
		return;
	stop(sender);
	for (uint32_t i = 0; i < sender->settings.n_streams; i++)
		lane_release(&sender->lanes[i]);
	lane_release(&sender->wanted);
	delta_cache_free(sender->cache);
	bandwidth_release(&sender->bandwidth);
	pthread_cond_destroy(&sender->changed);
	pthread_mutex_destroy(&sender->lock);
	free(sender);
}

/* Few pages are dealt in small claims, so that all streams have some. */
static uint32_t claim_size(const struct pages_sender *sender)
{
	uint64_t share = page_map_left(sender->settings.map) / sender->n_lanes;

	return (uint32_t)MIN(MAX(share, CLAIM_PAGES_MIN), MOVE_BATCH_PAGES);
}

void pages_send_begin(struct pages_sender *sender, uint32_t number, bool last)
{
	page_map_rewind(sender->settings.map);
	pthread_mutex_lock(&sender->lock);
	sender->round = number;
	sender->last = last;
	sender->claim_pages = claim_size(sender);
	sender->running = sender->n_lanes;
	sender->exchanges = sender->hits = 0;
	sender->look = (struct pack_look){ 0 };
	sender->window_ns = clock_now(sender->settings.clock);
	sender->sample = sender->settings.compress == MOVE_COMPRESS_AUTO;
	if (number >= 2 && sender->cache)
		sender->delta = sender->settings.compress == MOVE_COMPRESS_ON || sender->delta ||
				sender->policy.limited;
	sender->begun++;
	pthread_cond_broadcast(&sender->changed);
	pthread_mutex_unlock(&sender->lock);
}

void pages_send_rest(struct pages_sender *sender, uint32_t number)
{
	bool huge = page_map_is_hugetlb(sender->settings.map);

	pthread_mutex_lock(&sender->lock);
	sender->round = number;
	sender->last = sender->rest = true;
	sender->claim_pages = huge ? HUGE_PAGES : REST_PAGES;
	sender->running = sender->n_lanes > 1 ? sender->n_lanes - 1 : 1;
	sender->begun++;
	pthread_cond_broadcast(&sender->changed);
	pthread_mutex_unlock(&sender->lock);
}

int pages_send_wanted(struct pages_sender *sender, uint64_t first, uint32_t n)
{
	struct lane *lane = &sender->wanted;
	struct page_claim claim;
	int pages, r;

	if (!page_map_claim_range(sender->settings.map, first, n, &claim))
		return 0;
	pages = (int)claim.n_pages;
	line_take(sender->settings.line, true);
	r = lane_send(lane, &claim);
	if (r == 0)
		r = lane_flush(lane);
	line_give(sender->settings.line, true);
	return r < 0 ? r : pages;
}

static int wait_locked(struct pages_sender *sender, const struct timespec *until, struct error *err)
{
	int r = 0;

	while (sender->running && !sender->error.code && r == 0)
		r = pthread_cond_clockwait(&sender->changed, &sender->lock, CLOCK_MONOTONIC, until);
	if (sender->error.code)
		return error_set(err, sender->error.code, sender->error.status, "%s",
				 sender->error.message);
	return !sender->running;
}

int pages_send_wait(struct pages_sender *sender, unsigned int timeout_ms, struct error *err)
{
	struct timespec until;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000 * NSEC_PER_MSEC);
	if (until.tv_nsec >= (long)NSEC_PER_SEC) {
		until.tv_sec++;
		until.tv_nsec -= (long)NSEC_PER_SEC;
	}
	pthread_mutex_lock(&sender->lock);
	r = wait_locked(sender, &until, err);
	pthread_mutex_unlock(&sender->lock);
	return r;
}

static uint64_t sum(const struct pages_sender *sender, size_t counter)
{
	uint64_t all =
		__atomic_load_n((const uint64_t *)((const char *)&sender->wanted.counts + counter),
				__ATOMIC_RELAXED);

	for (uint32_t i = 0; i < sender->n_lanes; i++)
		all += __atomic_load_n(
			(const uint64_t *)((const char *)&sender->lanes[i].counts + counter),
			__ATOMIC_RELAXED);
	return all;
}

void pages_send_numbers(struct pages_sender *sender, struct move_numbers *numbers)
{
	numbers->sent = sum(sender, offsetof(struct lane_counts, bytes));
	numbers->pages = sum(sender, offsetof(struct lane_counts, pages));
	numbers->zero_pages = sum(sender, offsetof(struct lane_counts, zero_pages));
	numbers->delta_pages = sum(sender, offsetof(struct lane_counts, delta_pages));
	numbers->packed_pages = sum(sender, offsetof(struct lane_counts, packed_pages));
	numbers->left = page_map_left(sender->settings.map) * PAGE_BYTES;
	numbers->streams = sender->n_lanes;
}

const char *pages_send_packing(struct pages_sender *sender)
{
	static const char *const fixed[] = {
		[MOVE_COMPRESS_OFF] = "not packed: as asked",
		[MOVE_COMPRESS_ON] = "packed: as asked",
	};
	enum pack_reason reason;

	if (sender->settings.compress != MOVE_COMPRESS_AUTO)
		return fixed[sender->settings.compress];
	pthread_mutex_lock(&sender->lock);
	reason = sender->policy.reason;
	pthread_mutex_unlock(&sender->lock);
	return pack_reason_text(reason);
}
