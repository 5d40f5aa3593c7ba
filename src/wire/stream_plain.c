/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as they are. Sent: small pieces are held together and go in one call; long runs of pages go without a copy, by
 * MSG_ZEROCOPY, where the descriptor and the limit on locked memory allow that. (sendfile is no way between: page by page, it
 * takes more CPU than a copy.) Received: into the caller's buffer, and what came beyond it into one of ours, so that small
 * frames cost no call each.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "wire/stream_private.h"

#define HELD_PARTS 64
#define HELD_COPIED KIB(16)    /* bytes of small pieces */
#define HELD_COPIED_ONE KIB(1) /* a longer piece goes as it is */
#define HELD_BYTES KIB(256)
#define PINNED_MIN KIB(16) /* below, pinning pages costs more than copying them */
#define ZEROCOPY_CALL KIB(512)
#define REFUSALS_ENOUGH 64 /* in a row; the limit on locked memory is shared with others */
#define AHEAD KIB(32)

/* What goes with the next call. */
struct held {
	unsigned int n;
	size_t bytes, copied;
	struct iovec parts[HELD_PARTS];
	uint8_t copies[HELD_COPIED];
};

struct ahead {
	size_t begin, end;
	uint8_t bytes[AHEAD];
};

struct plain_stream {
	struct stream stream;
	/* the sending thread's */
	struct held held;
	unsigned int refusals; /* of zero copy, in a row */
	/* the receiving thread's */
	struct ahead ahead;
};

static struct plain_stream *to_plain(struct stream *stream)
{
	return container_of(stream, struct plain_stream, stream);
}

static void count_wire(struct plain_stream *plain, size_t n)
{
	stream_count(&plain->stream.counts.wire_sent, n);
}

/* Drops the first `n` bytes. */
static void iov_advance(struct iovec **iov, unsigned int *n_iov, size_t n)
{
	while (*n_iov && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*n_iov)--;
	}
	if (n) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

/* Sends what is held. */
static int push(struct plain_stream *plain, bool more)
{
	struct channel *channel = &plain->stream.channel;
	struct held *held = &plain->held;
	struct iovec *iov = held->parts;
	unsigned int left = held->n;

	while (left) {
		ssize_t n = channel_send(channel, iov, left, more ? MSG_MORE : 0);

		if (n >= 0) {
			count_wire(plain, (size_t)n);
			iov_advance(&iov, &left, (size_t)n);
			continue;
		}
		if (n == -EAGAIN)
			n = channel_wait_peer(channel, POLLOUT);
		if (n < 0)
			return (int)n;
	}
	held->n = 0;
	held->bytes = held->copied = 0;
	if (!more)
		channel_push(channel);
	return 0;
}

/* Holds a piece by reference. */
static int hold(struct plain_stream *plain, const void *bytes, size_t len)
{
	struct held *held = &plain->held;
	struct iovec *last = held->n ? &held->parts[held->n - 1] : NULL;
	int r;

	if (last && (char *)last->iov_base + last->iov_len == bytes) {
		last->iov_len += len;
	} else {
		r = held->n == HELD_PARTS ? push(plain, true) : 0;
		if (r < 0)
			return r;
		held->parts[held->n++] = (struct iovec){ (void *)bytes, len };
	}
	held->bytes += len;
	return held->bytes >= HELD_BYTES ? push(plain, true) : 0;
}

/* Holds a copy. */
static int hold_copy(struct plain_stream *plain, const void *bytes, size_t len)
{
	struct held *held = &plain->held;
	int r = held->n == HELD_PARTS || held->copied + len > HELD_COPIED ? push(plain, true) : 0;
	uint8_t *copy = held->copies + held->copied;

	if (r < 0)
		return r;
	memcpy(copy, bytes, len);
	held->copied += len;
	return hold(plain, copy, len);
}

static int plain_send(struct stream *stream, const struct iovec *iov, unsigned int n_iov, bool more)
{
	struct plain_stream *plain = to_plain(stream);
	const bool copy = more && iov_bytes(iov, n_iov) <= HELD_COPIED_ONE;
	int r = 0;

	for (unsigned int i = 0; i < n_iov && r == 0; i++)
		if (iov[i].iov_len)
			r = (copy ? hold_copy : hold)(plain, iov[i].iov_base, iov[i].iov_len);
	return r == 0 && !copy ? push(plain, more) : r;
}

static int wait_for_room(struct plain_stream *plain, uint32_t len)
{
	struct channel *channel = &plain->stream.channel;

	while (!zerocopy_has_room(&channel->zerocopy, len)) {
		int r;

		if (zerocopy_reap(&channel->zerocopy, channel->fd))
			continue;
		r = channel_wait_freed(channel);
		if (r < 0)
			return r;
	}
	return 0;
}

/* After -ENOBUFS: the user's limit on locked memory is reached, by us or by others. */
static int wait_or_copy(struct plain_stream *plain, const uint8_t *bytes, size_t len)
{
	struct channel *channel = &plain->stream.channel;
	int r;

	if (!zerocopy_idle(&channel->zerocopy))
		return channel_wait_freed(channel);
	plain->refusals++;
	r = hold(plain, bytes, len);
	return r < 0 ? r : (int)len;
}

/* How many bytes are done; 0: none yet, after a wait. */
static ssize_t send_pinned(struct plain_stream *plain, const uint8_t *bytes, uint64_t len)
{
	struct channel *channel = &plain->stream.channel;
	const struct iovec iov = { (void *)bytes, MIN(len, ZEROCOPY_CALL) };
	ssize_t n = wait_for_room(plain, (uint32_t)iov.iov_len);

	if (n < 0)
		return n;
	zerocopy_begin(&channel->zerocopy, (uint32_t)iov.iov_len);
	n = channel_send(channel, &iov, 1, MSG_ZEROCOPY | MSG_MORE);
	zerocopy_end(&channel->zerocopy, (uint32_t)MAX(n, 0));
	if (n == -ENOBUFS)
		return wait_or_copy(plain, bytes, iov.iov_len);
	if (n <= 0)
		return n;
	plain->refusals = 0;
	count_wire(plain, (size_t)n);
	return n;
}

static bool can_pin(struct plain_stream *plain, uint64_t len)
{
	return len >= PINNED_MIN && plain->refusals < REFUSALS_ENOUGH &&
	       zerocopy_usable(&plain->stream.channel.zerocopy);
}

static ssize_t send_some_pages(struct plain_stream *plain, const uint8_t *bytes, uint64_t len)
{
	ssize_t n;

	if (!can_pin(plain, len)) {
		n = hold(plain, bytes, len);
		return n < 0 ? n : (ssize_t)len;
	}
	n = push(plain, true);
	if (n == 0)
		n = send_pinned(plain, bytes, len);
	return n == -EAGAIN ? channel_wait_peer(&plain->stream.channel, POLLOUT) : n;
}

static int plain_send_pages(struct stream *stream, const uint8_t *bytes, uint64_t len)
{
	while (len) {
		ssize_t n = send_some_pages(to_plain(stream), bytes, len);

		if (n < 0)
			return (int)n;
		bytes += n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int plain_flush(struct stream *stream)
{
	struct channel *channel = &stream->channel;
	int r = push(to_plain(stream), false);

	while (r == 0 && !zerocopy_idle(&channel->zerocopy))
		if (zerocopy_reap(&channel->zerocopy, channel->fd) == 0)
			r = channel_wait_freed(channel);
	return r;
}

static size_t take_ahead(struct ahead *ahead, void *buf, size_t len)
{
	const size_t n = MIN(len, ahead->end - ahead->begin);

	memcpy(buf, ahead->bytes + ahead->begin, n);
	ahead->begin += n;
	return n;
}

static int plain_receive(struct stream *stream, void *buf, size_t len, size_t *ret_len)
{
	struct ahead *ahead = &to_plain(stream)->ahead;
	ssize_t n;

	if (ahead->begin < ahead->end) {
		*ret_len = take_ahead(ahead, buf, len);
		return 0;
	}
	for (;;) {
		struct iovec iov[] = { { buf, len }, { ahead->bytes, AHEAD } };
		int r;

		n = channel_receive(&stream->channel, iov, ARRAY_SIZE(iov));
		if (n != -EAGAIN)
			break;
		r = channel_wait_message(&stream->channel, POLLIN, len);
		if (r < 0)
			return r;
	}
	if (n < 0)
		return (int)n;
	stream_count(&stream->counts.wire_received, (uint64_t)n);
	*ret_len = MIN(len, (size_t)n);
	ahead->begin = 0;
	ahead->end = (size_t)n - *ret_len;
	return 0;
}

static int plain_wait(struct stream *stream, unsigned int timeout_ms)
{
	const struct ahead *ahead = &to_plain(stream)->ahead;

	if (ahead->begin < ahead->end)
		return 1;
	return channel_wait_bytes(&stream->channel, POLLIN, 1, timeout_ms);
}

static void plain_release(struct stream *stream _unused_)
{
}

static const struct stream_ops plain_ops = {
	.send = plain_send,
	.send_pages = plain_send_pages,
	.flush = plain_flush,
	.receive = plain_receive,
	.wait = plain_wait,
	.release = plain_release,
};

int stream_plain(int fd, unsigned int timeout_ms, struct stream **ret_stream)
{
	_cleanup_(freep) struct plain_stream *plain = NULL;
	int r;

	plain = calloc(1, sizeof(*plain));
	if (!plain) {
		fd_close(fd);
		return -ENOMEM;
	}
	plain->stream.ops = &plain_ops;
	r = channel_open(&plain->stream.channel, fd, timeout_ms);
	if (r < 0)
		return r;
	*ret_stream = &TAKE_PTR(plain)->stream;
	return 0;
}
