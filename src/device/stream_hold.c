/* SPDX-License-Identifier: Apache-2.0 */
#include "device/stream_hold.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/limits.h"

struct stream_hold {
	struct stream stream; /* the device's */
	struct stream *below; /* borrowed */
	struct loop *loop;
	struct loop_watch poke; /* there may be something to release */

	pthread_mutex_t lock; /* within the device's, around the world's */
	struct hold_lane lane;
	bool starved; /* the device was given less room than it asked for */
	bool stuck;   /* the world's stream is full */
};

static struct stream_hold *of(struct stream *stream)
{
	return container_of(stream, struct stream_hold, stream);
}

static size_t pass_locked(struct stream_hold *sh, const void *buf, size_t len)
{
	size_t n = sh->below->write(sh->below, buf, len);

	if (n)
		hold_lane_passed(&sh->lane, n);
	sh->stuck = n < len;
	return n;
}

static size_t hold_write(struct stream *stream, const void *buf, size_t len)
{
	struct stream_hold *sh = of(stream);
	size_t n;

	if (!len)
		return 0;
	pthread_mutex_lock(&sh->lock);
	if (hold_lane_passes(&sh->lane))
		n = pass_locked(sh, buf, len);
	else
		n = hold_lane_put_bytes(&sh->lane, buf, len);
	sh->starved |= n < len;
	pthread_mutex_unlock(&sh->lock);
	return n;
}

/* Gives the world what may leave and fits. The world takes at most what its buffer holds, so this ends. */
static void release_locked(struct stream_hold *sh)
{
	struct iovec iov[2];

	while (!sh->stuck && hold_lane_next(&sh->lane, iov)) {
		size_t n = sh->below->write(sh->below, iov[0].iov_base, iov[0].iov_len);

		if (n)
			hold_lane_took(&sh->lane, n, false);
		sh->stuck = n < iov[0].iov_len;
	}
}

static void release(struct stream_hold *sh, bool world_has_room)
{
	bool tell;

	pthread_mutex_lock(&sh->lock);
	if (world_has_room)
		sh->stuck = false;
	release_locked(sh);
	tell = sh->starved && !sh->stuck && epoch_queue_room(&sh->lane.queue);
	if (tell)
		sh->starved = false;
	pthread_mutex_unlock(&sh->lock);
	if (tell && sh->stream.writable)
		sh->stream.writable(sh->stream.ctx);
}

static void poked(struct loop_watch *watch, uint32_t events _unused_)
{
	fd_clear_event(watch->fd);
	release(container_of(watch, struct stream_hold, poke), false);
}

static void below_writable(void *ctx)
{
	release(ctx, true);
}

static size_t below_received(void *ctx, const void *buf, size_t len)
{
	struct stream *stream = &((struct stream_hold *)ctx)->stream;

	/* Without a device what is typed has nowhere to go. */
	return stream->received ? stream->received(stream->ctx, buf, len) : len;
}

static void hold_ready(struct stream *stream)
{
	struct stream *below = of(stream)->below;

	below->ready(below);
}

static void look(void *ctx)
{
	fd_signal_event(((struct stream_hold *)ctx)->poke.fd);
}

/* A hold that is full although the world has room. */
static bool waits_for_leave(struct stream *stream)
{
	struct stream_hold *sh = of(stream);
	bool waits;

	pthread_mutex_lock(&sh->lock);
	waits = sh->starved && !sh->stuck;
	pthread_mutex_unlock(&sh->lock);
	return waits;
}

static int start(struct stream_hold *sh, struct hold *hold, size_t size)
{
	const struct hold_lane_params params = {
		.kind = STREAM_HOLD_SECTION,
		.splits = true,
		.size = size,
		.longest = size - EPOCH_ITEM_OVERHEAD,
		.poke = look,
		.ctx = sh,
	};
	int r = sh->poke.fd < 0 ? sh->poke.fd : loop_add(sh->loop, &sh->poke);

	return r < 0 ? r : hold_lane_add(hold, &params, &sh->lane);
}

static void connect_to(struct stream_hold *sh, struct stream *below)
{
	sh->stream.write = hold_write;
	sh->stream.ready = hold_ready;
	sh->stream.waits_for_leave = waits_for_leave;
	below->received = below_received;
	below->writable = below_writable;
	below->ctx = sh;
	sh->below = below;
}

int stream_hold_new(struct hold *hold, struct loop *loop, size_t size, struct stream *below,
		    struct stream_hold **ret_stream_hold)
{
	struct stream_hold *sh;
	int r;

	if (size <= EPOCH_ITEM_OVERHEAD || size > LIMIT_CONSOLE_HOLD)
		return -EINVAL;
	sh = calloc(1, sizeof(*sh));
	if (!sh)
		return -ENOMEM;
	sh->loop = loop;
	pthread_mutex_init(&sh->lock, NULL);
	sh->poke = (struct loop_watch){ .fd = fd_new_event(), .events = EPOLLIN, .ready = poked };
	r = start(sh, hold, size);
	if (r < 0) {
		stream_hold_free(sh);
		return r;
	}
	connect_to(sh, below);
	*ret_stream_hold = sh;
	return 0;
}

void stream_hold_free(struct stream_hold *stream_hold)
{
	if (!stream_hold)
		return;
	if (stream_hold->below) {
		stream_hold->below->received = NULL;
		stream_hold->below->writable = NULL;
	}
	hold_lane_remove(&stream_hold->lane);
	loop_remove(stream_hold->loop, &stream_hold->poke);
	fd_close(stream_hold->poke.fd);
	pthread_mutex_destroy(&stream_hold->lock);
	free(stream_hold);
}

struct stream *stream_hold_stream(struct stream_hold *stream_hold)
{
	return &stream_hold->stream;
}

uint64_t stream_hold_offset(struct stream_hold *stream_hold)
{
	uint64_t offset;

	pthread_mutex_lock(&stream_hold->lock);
	offset = stream_hold->lane.offset;
	pthread_mutex_unlock(&stream_hold->lock);
	return offset;
}

int stream_hold_export(struct stream_hold *stream_hold, uint64_t after, uint64_t up_to,
		       struct buffer *out)
{
	struct hold_lane *lane = &stream_hold->lane;

	return hold_section_write(&lane, 1, STREAM_HOLD_SECTION, after, up_to, out);
}

int stream_hold_import(struct stream_hold *stream_hold, const struct iovec *sections,
		       unsigned int n_sections, struct error *err)
{
	struct hold_lane *lane = &stream_hold->lane;

	return hold_section_read(&lane, 1, STREAM_HOLD_SECTION, sections, n_sections, err);
}

void stream_hold_count(const struct stream_hold *stream_hold, struct hold_counts *ret_counts)
{
	hold_lane_count(&stream_hold->lane, ret_counts);
}
