/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct stream {
	const uint8_t *bytes;
	size_t len, at;
};

struct stream *stream_memory_new(const void *bytes, size_t len)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		abort();
	stream->bytes = bytes;
	stream->len = len;
	return stream;
}

void stream_free(struct stream *stream)
{
	free(stream);
}

int stream_receive(struct stream *stream, void *buf, size_t len)
{
	size_t left = stream->len - stream->at;

	if (len > left) {
		stream->at = stream->len;
		return left ? -ECONNRESET : -ENODATA;
	}
	if (len)
		memcpy(buf, stream->bytes + stream->at, len);
	stream->at += len;
	return 0;
}

/* The end of a stream can be received too. */
void stream_expect(struct stream *stream _unused_, uint64_t len _unused_)
{
}

int stream_wait(struct stream *stream _unused_, unsigned int timeout_ms _unused_)
{
	return 1;
}

int stream_send(struct stream *stream _unused_, const struct iovec *iov _unused_,
		unsigned int n_iov _unused_, bool more _unused_)
{
	return 0;
}

int stream_send_pages(struct stream *stream _unused_, const void *pages _unused_,
		      uint64_t len _unused_)
{
	return 0;
}

int stream_flush(struct stream *stream _unused_)
{
	return 0;
}

void stream_cancel(struct stream *stream _unused_)
{
}

void stream_counts(const struct stream *stream, struct stream_counts *ret_counts)
{
	*ret_counts = (struct stream_counts){ .received = stream->at, .wire_received = stream->at };
}
