/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Held frames: a filter over a back end that is full or broken when a test wants it, on a clock of the test's. */

#include "net_probe.h"

#include <errno.h>
#include <limits.h>

#include "base/endian.h"
#include "net/filters/hold.h"
#include "net_sink.h"

#define PAIRS 2
#define SIZE (256 * 1024)
#define LEN 1000 /* of a frame */
#define SEEN_MAX 2048

struct side { /* one owner of the VM */
	struct fake_clock clock;
	struct hold hold;
	struct net_sink sink;
	struct net *net;
	struct probe probes[PAIRS];
	uint64_t seen[PAIRS][SEEN_MAX];
	unsigned int n_seen[PAIRS];
};

static _unused_ void took(void *ctx, unsigned int queue, const uint8_t *frame, size_t len)
{
	struct side *side = ctx;

	assert_true(side->n_seen[queue] < SEEN_MAX);
	side->seen[queue][side->n_seen[queue]++] = sink_frame_number(frame, len);
}

static _unused_ void side_open(struct side *side, uint64_t epoch, bool shut)
{
	*side = (struct side){ 0 };
	fake_clock_init(&side->clock, 1000 * NSEC_PER_SEC, 0);
	hold_init(&side->hold, &side->clock.clock, epoch, shut);
	net_sink_init(&side->sink, PAIRS);
	side->sink.took = took;
	side->sink.ctx = side;
	assert_int_equal(net_hold_new(&side->hold, SIZE, &side->sink.net, &side->net), 0);
	for (unsigned int i = 0; i < PAIRS; i++)
		probe_open(&side->probes[i], side->net, i, &side->clock.clock);
}

static _unused_ void side_close(struct side *side)
{
	for (unsigned int i = 0; i < PAIRS; i++) {
		probe_close(&side->probes[i]);
		assert_false(side->sink.queues[i].opened);
	}
	net_free(side->net);
	assert_true(side->sink.destroyed);
	hold_destroy(&side->hold);
}

static _unused_ int setup(void **state)
{
	struct side *side = malloc(sizeof(*side));

	side_open(side, 1, true);
	*state = side;
	return 0;
}

static _unused_ int teardown(void **state)
{
	side_close(*state);
	free(*state);
	return 0;
}

static _unused_ int send_len(struct side *side, unsigned int queue, uint64_t number, size_t len)
{
	uint8_t frame[NET_FRAME_MAX];
	/* As a device gives it: in pieces, one of them empty. */
	struct iovec iov[3] = { { frame, 12 }, { frame + 12, 0 }, { frame + 12, len - 12 } };

	sink_frame_make(number, frame, len);
	return net_send(side->probes[queue].queue, iov, 3);
}

static _unused_ int send_frame(struct side *side, unsigned int queue, uint64_t number)
{
	return send_len(side, queue, number, LEN);
}

static _unused_ void sends(struct side *side, unsigned int queue, uint64_t from, uint64_t to)
{
	for (uint64_t number = from; number <= to; number++)
		assert_int_equal(send_frame(side, queue, number), 0);
}

static _unused_ void turns(struct side *side)
{
	for (unsigned int n = 0; n < 40; n++)
		for (unsigned int i = 0; i < PAIRS; i++)
			probe_turn(&side->probes[i], 0);
}

static _unused_ void release(struct side *side, uint64_t epoch)
{
	hold_release(&side->hold, epoch, clock_now(&side->clock.clock));
	turns(side);
}

/* Exactly these have left by the queue so far. */
static _unused_ void left(const struct side *side, unsigned int queue, uint64_t from, uint64_t to)
{
	assert_int_equal(side->n_seen[queue], to + 1 - from);
	for (uint64_t number = from; number <= to; number++)
		assert_int_equal(side->seen[queue][number - from], number);
}

#define HELD(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
