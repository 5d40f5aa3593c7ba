/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "wire/stream_private.h"

void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	stream->ops->release(stream);
	channel_close(&stream->channel);
	free(stream);
}

static int may_send(const struct stream *stream)
{
	return channel_cancelled(&stream->channel) ? -ECANCELED : stream->send_error;
}

/* A peer that takes a byte now and then is no better than one that stands still. */
static void begin_send(struct stream *stream, uint64_t len)
{
	stream->channel.send_due_ns = channel_due(&stream->channel, len);
}

static int sent(struct stream *stream, int r, uint64_t len)
{
	if (r < 0)
		stream->send_error = r;
	else
		stream_count(&stream->counts.sent, len);
	return r;
}

int stream_send(struct stream *stream, const struct iovec *iov, unsigned int n_iov, bool more)
{
	int r = may_send(stream);

	if (r < 0)
		return r;
	begin_send(stream, iov_bytes(iov, n_iov));
	return sent(stream, stream->ops->send(stream, iov, n_iov, more), iov_bytes(iov, n_iov));
}

int stream_send_pages(struct stream *stream, const void *pages, uint64_t len)
{
	int r = may_send(stream);

	if (r < 0)
		return r;
	begin_send(stream, len);
	return sent(stream, stream->ops->send_pages(stream, pages, len), len);
}

int stream_flush(struct stream *stream)
{
	int r = may_send(stream);

	if (r < 0)
		return r;
	begin_send(stream, 0);
	return sent(stream, stream->ops->flush(stream), 0);
}

void stream_expect(struct stream *stream, uint64_t len)
{
	stream->channel.receive_due_ns = channel_due(&stream->channel, len);
}

int stream_receive(struct stream *stream, void *buf, size_t len)
{
	size_t done = 0, n;

	if (channel_cancelled(&stream->channel))
		return -ECANCELED;
	while (done < len) {
		int r = stream->ops->receive(stream, (char *)buf + done, len - done, &n);

		if (r < 0)
			return r;
		if (n == 0)
			return done ? -ECONNRESET : -ENODATA;
		stream_count(&stream->counts.received, n);
		done += n;
	}
	return 0;
}

int stream_wait(struct stream *stream, unsigned int timeout_ms)
{
	if (channel_cancelled(&stream->channel))
		return -ECANCELED;
	return stream->ops->wait(stream, timeout_ms);
}

void stream_cancel(struct stream *stream)
{
	channel_cancel(&stream->channel);
}

void stream_be_patient(struct stream *stream, unsigned int dead_ms)
{
	channel_be_patient(&stream->channel, dead_ms);
}

void stream_counts(const struct stream *stream, struct stream_counts *ret_counts)
{
	const struct stream_counts *counts = &stream->counts;

	*ret_counts = (struct stream_counts){
		.sent = __atomic_load_n(&counts->sent, __ATOMIC_RELAXED),
		.received = __atomic_load_n(&counts->received, __ATOMIC_RELAXED),
		.wire_sent = __atomic_load_n(&counts->wire_sent, __ATOMIC_RELAXED),
		.wire_received = __atomic_load_n(&counts->wire_received, __ATOMIC_RELAXED),
		.rekeys = __atomic_load_n(&counts->rekeys, __ATOMIC_RELAXED),
	};
}
