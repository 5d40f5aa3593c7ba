/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/acks.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"

#define TICKS 10 /* in the longest silence */

static int fail(struct acks *acks, int r)
{
	__atomic_store_n(&acks->failed, r, __ATOMIC_RELEASE);
	return r;
}

static int strange(struct acks *acks, const struct frame *frame)
{
	return error_set(&acks->error, -EBADMSG, EXIT_STATUS_FAILED,
			 "%s: sent a message (%u) that cannot be now; upgrade the older utsusu",
			 acks->guard->job->peer, frame->kind);
}

/* The VM is asked no question about what was only filled. */
static int take_ack(struct acks *acks, const struct frame *frame, uint64_t now_ns)
{
	struct guard *guard = acks->guard;
	const uint8_t *bytes = guard->reader.payload.data;
	uint64_t epoch;

	if (frame->len != PROTECT_ACK_BYTES || le_load(bytes, 8) != guard->origin.generation ||
	    memcmp(bytes + 8, guard->origin.session.bytes, PROTECT_SESSION_BYTES) != 0)
		return strange(acks, frame);
	epoch = le_load(bytes + 24, 8);
	if (epoch <= acks->acked || epoch > __atomic_load_n(&acks->sent, __ATOMIC_ACQUIRE))
		return strange(acks, frame);
	if (epoch >= __atomic_load_n(&acks->gate, __ATOMIC_ACQUIRE)) {
		int r = guard->link->ops->acked(guard->link, &guard->origin.session, epoch, now_ns,
						&acks->error);

		if (r < 0) {
			acks->heard = true;
			return r;
		}
	}
	__atomic_store_n(&acks->acked_ns, now_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&acks->acked, epoch, __ATOMIC_RELEASE);
	fd_signal_event(acks->bell);
	return 0;
}

static int take_frame(struct acks *acks, uint64_t now_ns)
{
	struct guard *guard = acks->guard;
	struct frame frame;
	int r = frame_receive(&guard->reader, &frame, &acks->error);

	if (r < 0)
		return guard_lost(guard, r, &acks->error);
	if (!(frame.flags & FRAME_CHECKED))
		return strange(acks, &frame);
	switch (frame.kind) {
	case PROTECT_HEARTBEAT:
		return 0;
	case PROTECT_ACK:
		return take_ack(acks, &frame, now_ns);
	case PROTECT_ENDED:
		if (!__atomic_load_n(&acks->leaving, __ATOMIC_ACQUIRE))
			return strange(acks, &frame);
		__atomic_store_n(&acks->ended, true, __ATOMIC_RELEASE);
		fd_signal_event(acks->bell);
		return 0;
	case PROTECT_BYE:
		return guard_take_bye(guard, &frame, &acks->error);
	default:
		return strange(acks, &frame);
	}
}

static unsigned int silence_of(const struct acks *acks)
{
	return __atomic_load_n(&acks->silence_ms, __ATOMIC_RELAXED);
}

/* Silence is counted in waits and not by the clock: a host that stood still itself has heard nothing, and can say nothing of the other one. */
static int listen(struct acks *acks)
{
	struct guard *guard = acks->guard;
	unsigned int silent = 0;

	for (;;) {
		const unsigned int limit_ms = silence_of(acks);
		const unsigned int tick_ms = limit_ms ? MAX(limit_ms / TICKS, 1U) : GUARD_LOOK_MS;
		int r = stream_wait(guard->stream, tick_ms);

		if (r > 0) {
			silent = 0;
			r = take_frame(acks, clock_now(guard->clock));
		} else if (r == 0) {
			silent += tick_ms;
			if (limit_ms && silent > limit_ms)
				return error_set(&acks->error, -ETIMEDOUT, EXIT_STATUS_FAILED,
						 "%s: the backup was silent for %u ms",
						 guard->job->peer, limit_ms);
		}
		if (r < 0)
			return guard_lost(guard, r, &acks->error);
	}
}

/* A backup that was told to take over has no reason to stay. */
static void *thread_main(void *arg)
{
	struct acks *acks = arg;
	int r = listen(acks);

	if (!acks->heard)
		stream_cancel(acks->guard->stream);
	fail(acks, r);
	fd_signal_event(acks->bell);
	return NULL;
}

int acks_start(struct acks *acks, struct guard *guard)
{
	int r;

	*acks = (struct acks){
		.guard = guard,
		.bell = fd_new_event(),
		.gate = UINT64_MAX,
		.silence_ms = guard->patience_ms,
	};
	if (acks->bell < 0)
		return acks->bell;
	r = thread_start("acks", guard->entry, thread_main, acks, &acks->thread);
	acks->started = r == 0;
	return r;
}

static bool has_ended(const struct acks *acks)
{
	return !acks->started || __atomic_load_n(&acks->failed, __ATOMIC_ACQUIRE);
}

void acks_drain(struct acks *acks)
{
	struct pollfd ready = { .fd = acks->bell, .events = POLLIN };

	for (int ms = 0; ms < GUARD_LAST_WORD_MS && !has_ended(acks); ms += GUARD_LOOK_MS)
		if (poll(&ready, 1, GUARD_LOOK_MS) == 1)
			fd_clear_event(acks->bell);
	/* Then nobody else hears what comes. */
	if (has_ended(acks))
		guard_drain(acks->guard);
}

bool acks_await_end(struct acks *acks)
{
	struct pollfd ready = { .fd = acks->bell, .events = POLLIN };

	for (int ms = 0; ms < GUARD_END_MS && !has_ended(acks); ms += GUARD_LOOK_MS) {
		if (__atomic_load_n(&acks->ended, __ATOMIC_ACQUIRE))
			return true;
		if (poll(&ready, 1, GUARD_LOOK_MS) == 1)
			fd_clear_event(acks->bell);
	}
	return __atomic_load_n(&acks->ended, __ATOMIC_ACQUIRE);
}

void acks_stop(struct acks *acks)
{
	if (acks->started) {
		stream_cancel(acks->guard->stream);
		pthread_join(acks->thread, NULL);
		acks->started = false;
	}
	fd_close(TAKE_FD(acks->bell));
}

int acks_judge(const struct acks *acks, struct error *err)
{
	int r = __atomic_load_n(&acks->failed, __ATOMIC_ACQUIRE);

	if (r == 0 || !silence_of(acks))
		return 0;
	return error_set(err, r, acks->error.status, "%s", acks->error.message);
}
