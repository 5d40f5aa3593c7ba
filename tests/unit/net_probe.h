/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A net queue under test: its loop, what its events told, and shorthands for one-buffer frames. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/net.h"

struct probe {
	struct loop *loop;
	struct net_queue *queue;
	unsigned int readable, writable;
	int gone;
};

static void probe_readable(void *ctx)
{
	((struct probe *)ctx)->readable++;
}

static void probe_writable(void *ctx)
{
	((struct probe *)ctx)->writable++;
}

static void probe_gone(void *ctx, int error)
{
	((struct probe *)ctx)->gone = error;
}

static inline void probe_open(struct probe *probe, struct net *net, unsigned int index,
			      const struct clock *clock)
{
	struct net_events events = { probe_readable, probe_writable, probe_gone, probe };

	*probe = (struct probe){ .loop = loop_new(clock) };
	assert_non_null(probe->loop);
	assert_int_equal(net_queue_open(net, index, probe->loop, &events, &probe->queue), 0);
}

static inline void probe_close(struct probe *probe)
{
	net_queue_close(probe->queue);
	loop_free(probe->loop);
}

static inline void probe_turn(struct probe *probe, int timeout_ms)
{
	assert_int_equal(loop_turn(probe->loop, timeout_ms), 0);
}

/* A frame of `len` bytes, header included, filled with `fill` behind the header. */
static inline int probe_send(struct probe *probe, uint8_t fill, size_t len)
{
	uint8_t *frame = calloc(1, len);
	struct iovec iov = { frame, len };
	int r;

	assert_non_null(frame);
	memset(frame + NET_HEADER_SIZE, fill, len - NET_HEADER_SIZE);
	r = net_send(probe->queue, &iov, 1);
	free(frame);
	return r;
}

/* The length received; the first byte behind the header in `*ret_fill`. */
static inline ssize_t probe_receive(struct probe *probe, uint8_t *ret_fill)
{
	static uint8_t frame[NET_FRAME_MAX];
	struct iovec iov[2] = { { frame, 20 }, { frame + 20, sizeof(frame) - 20 } };
	ssize_t n = net_receive(probe->queue, iov, 2);

	if (n > NET_HEADER_SIZE)
		*ret_fill = frame[NET_HEADER_SIZE];
	return n;
}
