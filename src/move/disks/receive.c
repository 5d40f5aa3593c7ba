/* SPDX-License-Identifier: Apache-2.0 */
#include "move/disks/receive.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/disks/frame.h"

#define TICK_MS 200
#define FEW_CHUNKS 64 /* that one thread reads back sooner than several are started */

struct receive_lane {
	struct disk_receiver *receiver;
	struct frame_reader *reader;
	struct disk_hands *hands;
	pthread_t thread;
	struct disk_pass pass; /* that it ended; once the thread has ended */
};

struct disk_receiver {
	struct disk_receive_settings settings;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	uint32_t running;
	struct error error;

	bool stop; /* atomic */
	bool receiving;
	uint32_t first, end; /* lanes whose threads are to be joined */
	struct receive_lane lanes[MOVE_STREAMS_MAX];
};

DEFINE_CLEANUP(struct disk_receiver, disk_receive_free, disk_receiverp)

int disk_receive_new(const struct disk_receive_settings *settings,
		     struct disk_receiver **ret_receiver)
{
	_cleanup_(disk_receiverp) struct disk_receiver *receiver = calloc(1, sizeof(*receiver));
	int r = 0;

	if (!receiver)
		return -ENOMEM;
	receiver->settings = *settings;
	pthread_mutex_init(&receiver->lock, NULL);
	pthread_cond_init(&receiver->changed, NULL);
	for (uint32_t i = 0; r == 0 && i < settings->n_streams; i++) {
		receiver->lanes[i].receiver = receiver;
		receiver->lanes[i].reader = &settings->readers[i];
		r = disk_hands_new(&receiver->lanes[i].hands);
	}
	if (r == 0)
		*ret_receiver = TAKE_PTR(receiver);
	return r;
}

/* ---- threads ---- */

static void ended(struct disk_receiver *receiver, int r, const struct error *err)
{
	pthread_mutex_lock(&receiver->lock);
	if (r < 0)
		error_set(&receiver->error, r, err->code ? err->status : EXIT_STATUS_FAILED, "%s",
			  err->code ? err->message : strerror(-r));
	receiver->running--;
	pthread_cond_broadcast(&receiver->changed);
	pthread_mutex_unlock(&receiver->lock);
}

static int start(struct disk_receiver *receiver, uint32_t first, uint32_t end,
		 void *(*main)(void *arg), struct error *err)
{
	receiver->first = receiver->end = first;
	receiver->running = end - first;
	for (uint32_t i = first; i < end; i++) {
		int r = thread_start("disks", receiver->settings.entry, main, &receiver->lanes[i],
				     &receiver->lanes[i].thread);

		if (r < 0) {
			pthread_mutex_lock(&receiver->lock);
			receiver->running -= end - i;
			pthread_mutex_unlock(&receiver->lock);
			return error_set(err, r, EXIT_STATUS_HOST, "disks: no thread: %s",
					 strerror(-r));
		}
		receiver->end++;
	}
	return 0;
}

static void join(struct disk_receiver *receiver)
{
	for (uint32_t i = receiver->first; i < receiver->end; i++)
		pthread_join(receiver->lanes[i].thread, NULL);
	receiver->first = receiver->end = 0;
	receiver->receiving = false;
}

/* 1 once no thread runs any more, 0 after the time, or the first error. */
static int wait_threads(struct disk_receiver *receiver, unsigned int timeout_ms, struct error *err)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(timeout_ms * NSEC_PER_MSEC);
	until.tv_sec += until.tv_nsec / (long)NSEC_PER_SEC;
	until.tv_nsec %= (long)NSEC_PER_SEC;
	pthread_mutex_lock(&receiver->lock);
	while (receiver->running && !receiver->error.code && r == 0)
		r = pthread_cond_clockwait(&receiver->changed, &receiver->lock, CLOCK_MONOTONIC,
					   &until);
	r = receiver->error.code ? error_set(err, receiver->error.code, receiver->error.status,
					     "%s", receiver->error.message)
				 : !receiver->running;
	pthread_mutex_unlock(&receiver->lock);
	if (r == 1)
		join(receiver);
	return r;
}

/* ---- frames ---- */

static int bad(const struct frame *frame, struct error *err)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "disks: a message (%u) of the other host is not as it should be; upgrade "
			 "the older utsusu",
			 frame->kind);
}

static struct disk_target *find_target(const struct disk_receiver *receiver, uint32_t index)
{
	for (uint32_t i = 0; i < receiver->settings.n_targets; i++)
		if (disk_target_index(receiver->settings.targets[i]) == index)
			return receiver->settings.targets[i];
	return NULL;
}

static int apply(struct receive_lane *lane, const struct frame *frame, struct error *err)
{
	struct cursor in = { .data = lane->reader->payload.data, .left = frame->len };
	uint32_t index = (uint32_t)cursor_take_le(&in, 4);
	struct disk_target *target = find_target(lane->receiver, index);

	if (in.bad || !target)
		return bad(frame, err);
	if (frame->kind == MOVE_DISK_HASH)
		return in.left == DIGEST_BYTES ? disk_target_judge(target, in.data, err)
					       : bad(frame, err);
	return disk_target_apply(target, lane->hands, (enum move_frame)frame->kind, in.data,
				 in.left, err);
}

static int take_pass(const struct receive_lane *lane, const struct frame *frame,
		     struct disk_pass *ret_pass, struct error *err)
{
	const uint8_t *payload = lane->reader->payload.data;

	if (frame->len != DISK_PASS_BYTES || payload[4] > 1)
		return bad(frame, err);
	ret_pass->number = (uint32_t)le_load(payload, 4);
	ret_pass->last = payload[4];
	return 2;
}

static int take_frame(struct receive_lane *lane, const struct frame *frame, bool hash,
		      struct disk_pass *ret_pass, struct error *err)
{
	bool ours = frame->kind == MOVE_DISK || frame->kind == MOVE_DISK_PACKED ||
		    frame->kind == MOVE_DISK_HOLE || (frame->kind == MOVE_DISK_HASH && hash);
	int r;

	if (!(frame->flags & FRAME_CHECKED))
		return 0;
	if (frame->kind == MOVE_DISK_PASS)
		return take_pass(lane, frame, ret_pass, err);
	if (!ours)
		return 0;
	r = apply(lane, frame, err);
	return r < 0 ? r : 1;
}

int disk_receive_frame(struct disk_receiver *receiver, const struct frame *frame,
		       struct disk_pass *ret_pass, struct error *err)
{
	return take_frame(&receiver->lanes[0], frame, true, ret_pass, err);
}

int disk_receive_failed(struct disk_receiver *receiver, struct error *err)
{
	int r;

	pthread_mutex_lock(&receiver->lock);
	r = receiver->error.code;
	if (r < 0)
		error_set(err, r, receiver->error.status, "%s", receiver->error.message);
	pthread_mutex_unlock(&receiver->lock);
	return r;
}

static void *receive_main(void *arg)
{
	struct receive_lane *lane = arg;
	struct error err = { 0 };
	int r = 1;

	while (r == 1) {
		struct frame frame;

		r = frame_receive(lane->reader, &frame, &err);
		if (r == 0)
			r = take_frame(lane, &frame, false, &lane->pass, &err);
		if (r == 0)
			r = bad(&frame, &err);
	}
	ended(lane->receiver, r, &err);
	return NULL;
}

int disk_receive_begin(struct disk_receiver *receiver, struct error *err)
{
	receiver->receiving = true;
	return start(receiver, 1, receiver->settings.n_streams, receive_main, err);
}

int disk_receive_wait(struct disk_receiver *receiver, const struct disk_pass *pass,
		      unsigned int timeout_ms, struct error *err)
{
	int r = wait_threads(receiver, timeout_ms, err);

	for (uint32_t i = 1; r == 1 && i < receiver->settings.n_streams; i++) {
		const struct disk_pass *other = &receiver->lanes[i].pass;

		if (other->number != pass->number || other->last != pass->last)
			return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
					 "disks: the streams are not at one pass; upgrade the "
					 "older utsusu");
	}
	return r;
}

/* ---- after a pass ---- */

static void *sync_main(void *arg)
{
	struct receive_lane *lane = arg;
	struct disk_receiver *receiver = lane->receiver;
	struct error err = { 0 };
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < receiver->settings.n_targets; i++)
		r = disk_target_sync(receiver->settings.targets[i], &receiver->stop, &err);
	ended(receiver, r, &err);
	return NULL;
}

static void *check_main(void *arg)
{
	struct receive_lane *lane = arg;
	struct disk_receiver *receiver = lane->receiver;
	struct error err = { 0 };
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < receiver->settings.n_targets; i++) {
		while ((r = disk_target_check(receiver->settings.targets[i], lane->hands, &err)) ==
		       1)
			if (__atomic_load_n(&receiver->stop, __ATOMIC_RELAXED)) {
				r = -ECANCELED;
				break;
			}
	}
	ended(receiver, r, &err);
	return NULL;
}

static uint64_t left_of(const struct disk_receiver *receiver)
{
	uint64_t left = 0;

	for (uint32_t i = 0; i < receiver->settings.n_targets; i++)
		left += disk_target_unchecked(receiver->settings.targets[i]);
	return left;
}

/* A step of `n` threads. */
static int step(struct disk_receiver *receiver, void *(*main)(void *arg), uint32_t n,
		int (*tick)(void *ctx, uint64_t left), void *ctx, struct error *err)
{
	int r = start(receiver, 0, n, main, err);

	while (r == 0) {
		r = wait_threads(receiver, TICK_MS, err);
		if (r == 0)
			r = tick(ctx, MAX(left_of(receiver), (uint64_t)1));
	}
	return r < 0 ? r : 0;
}

int disk_receive_settle(struct disk_receiver *receiver, int (*tick)(void *ctx, uint64_t left),
			void *ctx, struct error *err)
{
	uint32_t n = left_of(receiver) > FEW_CHUNKS ? receiver->settings.n_streams : 1;
	int r = step(receiver, sync_main, 1, tick, ctx, err);

	if (r == 0)
		r = step(receiver, check_main, n, tick, ctx, err);
	for (uint32_t i = 0; r == 0 && i < receiver->settings.n_targets; i++)
		disk_target_end_pass(receiver->settings.targets[i]);
	return r;
}

void disk_receive_free(struct disk_receiver *receiver)
{
	if (!receiver)
		return;
	__atomic_store_n(&receiver->stop, true, __ATOMIC_RELAXED);
	for (uint32_t i = receiver->first; receiver->receiving && i < receiver->end; i++)
		stream_cancel(receiver->settings.readers[i].stream);
	join(receiver);
	for (uint32_t i = 0; i < receiver->settings.n_streams; i++)
		disk_hands_free(receiver->lanes[i].hands);
	pthread_cond_destroy(&receiver->changed);
	pthread_mutex_destroy(&receiver->lock);
	free(receiver);
}
