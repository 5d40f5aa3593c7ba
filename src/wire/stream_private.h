/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the kinds of streams share. Each embeds struct stream first. */

#include "wire/channel.h"
#include "wire/stream.h"

/* See the public functions. `receive` gives at least one byte, or 0 of them at the end. */
struct stream_ops {
	int (*send)(struct stream *stream, const struct iovec *iov, unsigned int n_iov, bool more);
	int (*send_pages)(struct stream *stream, const uint8_t *bytes, uint64_t len);
	int (*flush)(struct stream *stream);
	int (*receive)(struct stream *stream, void *buf, size_t len, size_t *ret_len);
	int (*wait)(struct stream *stream, unsigned int timeout_ms);
	void (*release)(struct stream *stream); /* but for the channel */
};

struct stream {
	const struct stream_ops *ops;
	struct channel channel;
	/* the sending thread's */
	int send_error; /* the first: half a message may have gone, so none can follow */
	/* each added to by one thread or under the variant's lock, read by any */
	struct stream_counts counts;
};

static inline void stream_count(uint64_t *count, uint64_t n)
{
	__atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

static inline size_t iov_bytes(const struct iovec *iov, unsigned int n_iov)
{
	size_t total = 0;

	for (unsigned int i = 0; i < n_iov; i++)
		total += iov[i].iov_len;
	return total;
}
