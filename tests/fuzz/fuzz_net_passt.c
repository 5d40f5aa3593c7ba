/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: net/passt.c
 *
 * What a peer may write to passt's socket, in pieces as it likes; frames of ours go the other way.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "net/passt.h"

struct wire {
	struct loop *loop;
	struct net_queue *queue;
	int peer;
	bool gone;
};

static void receive_all(void *ctx)
{
	static uint8_t frame[NET_FRAME_MAX];
	struct iovec iov[2] = { { frame, 30 }, { frame + 30, sizeof(frame) - 30 } };
	struct wire *wire = ctx;
	ssize_t n;

	while ((n = net_receive(wire->queue, iov, 2)) > 0)
		if (n < NET_HEADER_SIZE + 14 || n > NET_FRAME_MAX)
			abort();
	wire->gone = wire->gone || n < 0;
}

static void writable(void *ctx _unused_)
{
}

static void gone(void *ctx, int error)
{
	if (error >= 0)
		abort();
	((struct wire *)ctx)->gone = true;
}

static void turn(struct wire *wire)
{
	if (loop_turn(wire->loop, 0) < 0)
		abort();
}

static void peer_write(struct wire *wire, struct cursor *in)
{
	size_t len = cursor_take_le(in, 1);
	const void *bytes = cursor_take(in, len);

	if (bytes)
		(void)!send(wire->peer, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A whole frame of any length, without its bytes standing in the input. */
static void peer_frame(struct wire *wire, struct cursor *in)
{
	static uint8_t bytes[4 + NET_FRAME_MAX];
	uint32_t len = (uint32_t)cursor_take_le(in, 2) + 14;
	uint32_t length = htobe32(len);

	memcpy(bytes, &length, sizeof(length));
	(void)!send(wire->peer, bytes, 4 + len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void peer_read(struct wire *wire, struct cursor *in)
{
	static uint8_t bytes[4096];
	size_t len = cursor_take_le(in, 2) % sizeof(bytes);

	(void)!recv(wire->peer, bytes, len, MSG_DONTWAIT);
}

static void send_frame(struct wire *wire, struct cursor *in)
{
	static uint8_t frame[NET_FRAME_MAX];
	struct iovec iov = { frame, cursor_take_le(in, 2) + 1 };
	unsigned int count = (unsigned int)cursor_take_le(in, 1);

	while (count-- && net_send(wire->queue, &iov, 1) == 0)
		;
}

static void want(struct wire *wire, struct cursor *in)
{
	net_want_readable(wire->queue, cursor_take_le(in, 1) & 1);
}

static void peer_close(struct wire *wire, struct cursor *in _unused_)
{
	fd_close(TAKE_FD(wire->peer));
}

static void (*const actions[])(struct wire *wire, struct cursor *in) = {
	peer_write, peer_frame, peer_read, send_frame, want, peer_close,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	struct wire wire = { .loop = loop_new(&clock_host) };
	struct net_events events = { receive_all, writable, gone, &wire };
	struct net *net;
	int pair[2];

	if (!wire.loop || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
	    passt_net_new(pair[0], &net) < 0 ||
	    net_queue_open(net, 0, wire.loop, &events, &wire.queue) < 0)
		abort();
	wire.peer = pair[1];
	net_want_readable(wire.queue, true);
	while (in.left && !in.bad) {
		actions[cursor_take_le(&in, 1) % ARRAY_SIZE(actions)](&wire, &in);
		turn(&wire);
	}
	if (net->ops->set_offloads(net, size & 1) == 0 && (size & 1))
		abort();
	if (net_queue_set_active(wire.queue, true) < 0)
		abort();
	net_queue_close(wire.queue);
	net_free(net);
	fd_close(wire.peer);
	loop_free(wire.loop);
	return 0;
}
