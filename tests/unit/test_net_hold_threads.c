/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Held frames with real queue threads: each sends as fast as it can, while the control thread cuts epochs at the barrier, takes checkpoints and tells
 * of acknowledgements. Run it under TSAN, and with tests/shake.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/fd.h"
#include "base/worker.h"
#include "check.h"
#include "net/filters/hold.h"
#include "net_sink.h"

#define PAIRS 2
#define EPOCHS 150
#define PER_TURN 8 /* frames */

struct rig;

struct sender {
	struct rig *rig;
	unsigned int index;
	struct worker *worker;
	struct net_queue *queue;
	struct loop_watch turn;
	uint32_t sent, left; /* its thread */
	bool blocked;
};

struct rig {
	struct quiesce quiesce;
	struct hold hold;
	struct net_sink sink;
	struct net *net;
	struct sender senders[PAIRS];
	uint64_t acked; /* atomic */
	bool ends;	/* atomic */
};

static void took(void *ctx, unsigned int queue, const uint8_t *frame, size_t len)
{
	struct rig *rig = ctx;
	struct sender *sender = &rig->senders[queue];
	uint64_t number = sink_frame_number(frame, len);

	/* Of an epoch that somebody has, in order, none missing. */
	if (number >> 32 > __atomic_load_n(&rig->acked, __ATOMIC_ACQUIRE) ||
	    (uint32_t)number != sender->left)
		abort();
	sender->left++;
	/* Now and then it has enough for a moment. */
	if (sender->left % 1000 == 0)
		rig->sink.queues[queue].room = 0;
}

static void writable(void *ctx)
{
	struct sender *sender = ctx;

	sender->blocked = false;
	fd_signal_event(sender->turn.fd);
}

static void readable(void *ctx _unused_)
{
}

static void gone(void *ctx _unused_, int error _unused_)
{
	abort();
}

static void send_one(struct sender *sender)
{
	uint64_t epoch = __atomic_load_n(&sender->rig->hold.epoch, __ATOMIC_ACQUIRE);
	uint8_t frame[1500];
	struct iovec iov = { frame, SINK_FRAME_MIN + sender->sent % 1400 };
	int r;

	sink_frame_make(epoch << 32 | sender->sent, frame, iov.iov_len);
	r = net_send(sender->queue, &iov, 1);
	sender->blocked = r == -EAGAIN;
	sender->sent += r == 0;
}

static void turn(struct loop_watch *watch, uint32_t events _unused_)
{
	struct sender *sender = container_of(watch, struct sender, turn);

	fd_clear_event(watch->fd);
	net_sink_room(&sender->rig->sink, sender->index, UINT_MAX);
	if (__atomic_load_n(&sender->rig->ends, __ATOMIC_ACQUIRE))
		return;
	for (unsigned int i = 0; i < PER_TURN && !sender->blocked; i++)
		send_one(sender);
	if (!sender->blocked)
		fd_signal_event(watch->fd);
}

static void sender_open(struct rig *rig, unsigned int index)
{
	struct sender *sender = &rig->senders[index];
	struct net_events events = { readable, writable, gone, sender };
	struct loop *loop;

	sender->rig = rig;
	sender->index = index;
	sender->worker = worker_new("sender", &clock_host, &rig->quiesce);
	assert_non_null(sender->worker);
	loop = worker_loop(sender->worker);
	assert_int_equal(net_queue_open(rig->net, index, loop, &events, &sender->queue), 0);
	sender->turn = (struct loop_watch){ fd_new_event(), EPOLLIN, turn };
	assert_int_equal(loop_add(loop, &sender->turn), 0);
	fd_signal_event(sender->turn.fd);
}

static void cut(struct rig *rig, uint64_t epoch)
{
	struct buffer section;

	buffer_init(&section, net_hold_export_limit(rig->net));
	quiesce_begin(&rig->quiesce);
	hold_cut(&rig->hold, epoch);
	assert_int_equal(net_hold_export(rig->net, hold_released(&rig->hold), epoch, &section), 0);
	quiesce_end(&rig->quiesce);
	buffer_release(&section);
}

static void release(struct rig *rig, uint64_t epoch)
{
	__atomic_store_n(&rig->acked, epoch, __ATOMIC_RELEASE);
	hold_release(&rig->hold, epoch, clock_now(&clock_host));
}

static void nap(void)
{
	const struct timespec ts = { .tv_nsec = NSEC_PER_MSEC };

	nanosleep(&ts, NULL);
}

static void close_queue(void *arg)
{
	struct sender *sender = arg;

	loop_remove(worker_loop(sender->worker), &sender->turn);
	net_queue_close(sender->queue);
}

static void queue_threads_hold_and_release(void **unused)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct hold_counts counts;

	(void)unused;
	quiesce_init(&rig->quiesce);
	hold_init(&rig->hold, &clock_host, 1, true);
	net_sink_init(&rig->sink, PAIRS);
	rig->sink.took = took;
	rig->sink.ctx = rig;
	assert_int_equal(net_hold_new(&rig->hold, 256 * 1024, &rig->sink.net, &rig->net), 0);
	for (unsigned int i = 0; i < PAIRS; i++)
		sender_open(rig, i);
	for (unsigned int i = 0; i < PAIRS; i++)
		assert_int_equal(worker_start(rig->senders[i].worker, NULL), 0);
	for (uint64_t epoch = 1; epoch <= EPOCHS; epoch++) {
		nap();
		cut(rig, epoch);
		if (epoch > 2)
			release(rig, epoch - 2);
		for (unsigned int i = 0; i < PAIRS; i++)
			fd_signal_event(rig->senders[i].turn.fd);
		net_hold_count(rig->net, &counts);
		assert_true(counts.bytes <= PAIRS * 256 * 1024);
		assert_true(hold_released(&rig->hold) <= epoch);
	}
	__atomic_store_n(&rig->ends, true, __ATOMIC_RELEASE);
	cut(rig, EPOCHS + 1);
	release(rig, EPOCHS + 1);
	for (unsigned int i = 0; hold_released(&rig->hold) <= EPOCHS; i++) {
		assert_true(i < 10000);
		nap();
		for (unsigned int k = 0; k < PAIRS; k++)
			fd_signal_event(rig->senders[k].turn.fd);
	}
	quiesce_begin(&rig->quiesce);
	for (unsigned int i = 0; i < PAIRS; i++) {
		assert_true(rig->senders[i].sent > 0);
		assert_int_equal(rig->senders[i].left, rig->senders[i].sent);
	}
	quiesce_end(&rig->quiesce);
	net_hold_count(rig->net, &counts);
	assert_true(counts.refused > 0 && counts.aged == 0);
	for (unsigned int i = 0; i < PAIRS; i++) {
		struct sender *sender = &rig->senders[i];

		worker_call(sender->worker, close_queue, sender);
		worker_free(sender->worker);
		fd_close(sender->turn.fd);
	}
	net_free(rig->net);
	hold_destroy(&rig->hold);
	quiesce_destroy(&rig->quiesce);
	free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_threads_hold_and_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
