/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/receive.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/receive_internal.h"

#define LOOK_MS 100 /* a silent stream is left so often to see whether it is still wanted */

struct lane {
	struct pages_receiver *receiver;
	struct frame_reader *reader;
	struct pages_unpack *unpack; /* owned */
	uint32_t index;
	uint32_t arrived; /* the last round whose end this lane has read; under the lock */
	pthread_t thread; /* but lane 0's, which is the caller's */
};

struct pages_receiver {
	struct pages_receive_settings settings;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	struct pages_round round; /* what is being received; `last` by who arrived first */
	uint32_t arrived;	  /* lanes, in this round */
	bool ended, quit;
	bool patient; /* atomic */
	struct error error;

	uint32_t n_threads;
	struct lane lanes[MOVE_STREAMS_MAX];
};

DEFINE_CLEANUP(struct pages_receiver, pages_receive_free, pages_receive_freep)

static int lane_failed(struct lane *lane, int code, const char *why, struct error *err)
{
	return error_set(err, code, EXIT_STATUS_FAILED, "move: stream %u: %s", lane->index, why);
}

static bool wanted(struct pages_receiver *receiver)
{
	bool is;

	pthread_mutex_lock(&receiver->lock);
	is = !receiver->quit && !receiver->error.code;
	pthread_mutex_unlock(&receiver->lock);
	return is;
}

static bool is_patient(const struct pages_receiver *receiver)
{
	return __atomic_load_n(&receiver->patient, __ATOMIC_RELAXED);
}

/* A stream may be silent for a while between two frames. */
static int lane_wait(struct lane *lane, struct error *err)
{
	unsigned int idle_ms = lane->receiver->settings.idle_ms;

	for (unsigned int waited = 0; waited <= idle_ms || is_patient(lane->receiver);
	     waited += LOOK_MS) {
		int r = stream_wait(lane->reader->stream, LOOK_MS);

		if (r > 0)
			return 0;
		if (r < 0)
			return lane_failed(lane, r, strerror(-r), err);
		if (!wanted(lane->receiver))
			return -ECANCELED;
	}
	return lane_failed(lane, -ETIMEDOUT, "nothing came for too long", err);
}

static int lane_frame(struct lane *lane, struct frame *ret_frame, struct error *err)
{
	int r = lane_wait(lane, err);

	if (r < 0)
		return r;
	r = frame_receive(lane->reader, ret_frame, err);
	return r < 0 ? lane_failed(lane, r, strerror(-r), err) : 0;
}

/* The end of a round. All lanes agree on its number and on whether it is the last. */
static int lane_arrive(struct lane *lane, const struct frame *frame, struct error *err)
{
	struct pages_receiver *receiver = lane->receiver;
	const uint8_t *payload = lane->reader->payload.data;
	uint32_t number;
	bool last, agree;

	if (!(frame->flags & FRAME_CHECKED) || frame->len != 5 || payload[4] > 1)
		return lane_failed(lane, -EBADMSG, "a broken end of a round", err);
	number = (uint32_t)le_load(payload, 4);
	last = payload[4];
	pthread_mutex_lock(&receiver->lock);
	agree = number == receiver->round.number &&
		(!receiver->arrived || last == receiver->round.last);
	if (agree) {
		receiver->round.last = last;
		receiver->arrived++;
		lane->arrived = number;
		pthread_cond_broadcast(&receiver->changed);
	}
	pthread_mutex_unlock(&receiver->lock);
	return agree ? 0
		     : lane_failed(lane, -EBADMSG, "another round ends than the one that runs",
				   err);
}

/* Receives until the round's end: 1, or until a frame of another kind: 0. */
static int lane_receive(struct lane *lane, struct frame *ret_frame, struct error *err)
{
	for (;;) {
		int r = lane_frame(lane, ret_frame, err);

		if (r < 0)
			return r;
		r = pages_apply(lane->receiver->settings.target, lane->unpack, lane->reader,
				ret_frame, err);
		if (r < 0)
			return r;
		if (r == 0 && ret_frame->kind != MOVE_ROUND)
			return 0;
		if (r == 0)
			return lane_arrive(lane, ret_frame, err) < 0 ? -EBADMSG : 1;
	}
}

static void failed(struct pages_receiver *receiver, int r, const struct error *err)
{
	pthread_mutex_lock(&receiver->lock);
	error_set(&receiver->error, r, EXIT_STATUS_FAILED, "%s",
		  err->code ? err->message : "move: cancelled");
	pthread_cond_broadcast(&receiver->changed);
	pthread_mutex_unlock(&receiver->lock);
}

/* Waits until all lanes have this lane's round: false when there is no other after it. */
static bool lane_barrier(struct lane *lane)
{
	struct pages_receiver *receiver = lane->receiver;
	bool on;

	pthread_mutex_lock(&receiver->lock);
	while (receiver->round.number == lane->arrived && !receiver->ended && !receiver->quit &&
	       !receiver->error.code)
		pthread_cond_wait(&receiver->changed, &receiver->lock);
	on = !receiver->ended && !receiver->quit && !receiver->error.code;
	pthread_mutex_unlock(&receiver->lock);
	return on;
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct error err = { 0 };
	struct frame frame;
	int r;

	do {
		r = lane_receive(lane, &frame, &err);
		if (r == 0)
			r = lane_failed(lane, -EPROTO, "a frame that belongs on stream 0", &err);
	} while (r > 0 && lane_barrier(lane));
	if (r < 0)
		failed(lane->receiver, r, &err);
	return NULL;
}

static int start_lanes(struct pages_receiver *receiver)
{
	for (uint32_t i = 0; i < receiver->settings.n_streams; i++) {
		struct lane *lane = &receiver->lanes[i];
		int r;

		lane->receiver = receiver;
		lane->index = i;
		lane->reader = &receiver->settings.readers[i];
		r = pages_unpack_new(&lane->unpack);
		if (r < 0)
			return r;
	}
	for (uint32_t i = 1; i < receiver->settings.n_streams; i++) {
		char name[16];
		int r;

		snprintf(name, sizeof(name), "pages.%u", i % 100);
		r = thread_start(name, receiver->settings.entry, lane_main, &receiver->lanes[i],
				 &receiver->lanes[i].thread);
		if (r < 0)
			return r;
		receiver->n_threads++;
	}
	return 0;
}

int pages_receive_new(const struct pages_receive_settings *settings,
		      struct pages_receiver **ret_receiver, struct error *err)
{
	_cleanup_(pages_receive_freep) struct pages_receiver *receiver = NULL;
	int r;

	if (!settings->n_streams || settings->n_streams > MOVE_STREAMS_MAX)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "move: 1 to %d streams",
				 MOVE_STREAMS_MAX);
	receiver = calloc(1, sizeof(*receiver));
	if (!receiver)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "move: no memory");
	receiver->settings = *settings;
	receiver->round.number = 1;
	pthread_mutex_init(&receiver->lock, NULL);
	pthread_cond_init(&receiver->changed, NULL);
	r = start_lanes(receiver);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "move: cannot start receiving: %s",
				 strerror(-r));
	*ret_receiver = TAKE_PTR(receiver);
	return 0;
}

void pages_receive_be_patient(struct pages_receiver *receiver)
{
	__atomic_store_n(&receiver->patient, true, __ATOMIC_RELAXED);
}

void pages_receive_stop(struct pages_receiver *receiver)
{
	bool ended;

	pthread_mutex_lock(&receiver->lock);
	receiver->quit = true;
	ended = receiver->ended;
	pthread_cond_broadcast(&receiver->changed);
	pthread_mutex_unlock(&receiver->lock);
	for (uint32_t i = 1; i <= receiver->n_threads; i++) {
		if (!ended)
			stream_cancel(receiver->settings.readers[i].stream);
		pthread_join(receiver->lanes[i].thread, NULL);
	}
	receiver->n_threads = 0;
}

void pages_receive_free(struct pages_receiver *receiver)
{
	if (!receiver)
		return;
	pages_receive_stop(receiver);
	for (uint32_t i = 0; i < MOVE_STREAMS_MAX; i++)
		pages_unpack_free(receiver->lanes[i].unpack);
	pthread_cond_destroy(&receiver->changed);
	pthread_mutex_destroy(&receiver->lock);
	free(receiver);
}

/* Waits for the other lanes; then all may go on with the next round. */
static int finish_locked(struct pages_receiver *receiver, struct pages_round *ret_round,
			 struct error *err)
{
	while (receiver->arrived < receiver->settings.n_streams && !receiver->error.code &&
	       !receiver->quit)
		pthread_cond_wait(&receiver->changed, &receiver->lock);
	if (receiver->error.code)
		return error_set(err, receiver->error.code, receiver->error.status, "%s",
				 receiver->error.message);
	if (receiver->quit)
		return -ECANCELED;
	*ret_round = receiver->round;
	receiver->ended = receiver->round.last;
	receiver->round.number++;
	receiver->arrived = 0;
	pthread_cond_broadcast(&receiver->changed);
	return 1;
}

int pages_receive_round(struct pages_receiver *receiver, struct pages_round *ret_round,
			struct frame *ret_frame, struct error *err)
{
	struct error own = { 0 };
	int r = lane_receive(&receiver->lanes[0], ret_frame, &own);

	if (r == 0)
		return 0;
	if (r < 0)
		failed(receiver, r, &own); /* unless another lane failed first */
	pthread_mutex_lock(&receiver->lock);
	r = finish_locked(receiver, ret_round, err);
	pthread_mutex_unlock(&receiver->lock);
	return r;
}

void pages_receive_numbers(struct pages_receiver *receiver, struct move_numbers *numbers)
{
	const struct pages_target *target = receiver->settings.target;

	numbers->pages = __atomic_load_n(&target->data_pages, __ATOMIC_RELAXED);
	numbers->sent = numbers->pages * PAGE_BYTES;
	numbers->zero_pages = __atomic_load_n(&target->zero_pages, __ATOMIC_RELAXED);
	numbers->delta_pages = __atomic_load_n(&target->delta_pages, __ATOMIC_RELAXED);
	numbers->packed_pages = __atomic_load_n(&target->packed_pages, __ATOMIC_RELAXED);
	numbers->streams = receiver->settings.n_streams;
	pthread_mutex_lock(&receiver->lock);
	numbers->round = receiver->round.number;
	pthread_mutex_unlock(&receiver->lock);
}
