/* SPDX-License-Identifier: Apache-2.0 */

/* The memory of a running VM, round by round. What is decided after each is move/mover/convergence.h's. */

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "move/mover/source_postcopy.h"

#define LOOK_MS 50 /* between two looks at people, and at the other side, while a round runs */

/* Sets what the sender cannot know. */
void source_count(struct source *source)
{
	struct mover *mover = &source->mover;

	pages_send_numbers(source->sender, &mover->numbers);
	mover->numbers.round = source->round;
	mover->numbers.throttle = source->throttle;
	mover->numbers.wire = mover_counts(mover).wire_sent;
}

/* How far the other host's clock is ahead of this one: at least so far, for what is told of it was so when it was sent. */
static void compare_clocks(struct source *source, uint64_t there_ns)
{
	int64_t ahead_ns = (int64_t)(there_ns - clock_now(source->mover.clock));

	if (!source->clocks_compared || ahead_ns > source->ahead_ns)
		source->ahead_ns = ahead_ns;
	source->clocks_compared = true;
}

static bool is_round_done(struct source *source, const struct frame *frame)
{
	const uint8_t *bytes = source->mover.readers[0].payload.data;
	uint32_t len = source->mover.features & MOVE_FEATURE_CLOCK ? 12 : 4;

	if (frame->kind != MOVE_ROUND_DONE || frame->len != len ||
	    le_load(bytes, 4) != source->round)
		return false;
	if (len == 12)
		compare_clocks(source, le_load(bytes + 4, 8));
	return true;
}

/* The other side speaks in the middle of a round only to end all; or it has the whole round before this side's kernel has told
 * that all was taken. */
static int hear_interruption(struct source *source)
{
	struct mover *mover = &source->mover;
	struct frame frame;
	int r = mover_receive(mover, &frame);

	if (r < 0)
		return r;
	if (!source->round_done && is_round_done(source, &frame)) {
		source->round_done = true;
		return 0;
	}
	return mover_hear(mover, &frame) ? -EREMOTEIO : mover_refuse(mover, &frame);
}

static int look_around(struct source *source)
{
	struct mover *mover = &source->mover;
	int r;

	source_count(source);
	progress_numbers(&mover->progress, &mover->numbers, false);
	if (mover_is_cancelled(mover))
		return -ECANCELED;
	r = stream_wait(mover->streams[0], 0);
	if (r < 0)
		return mover_lose(mover, r);
	return r ? hear_interruption(source) : 0;
}

void source_begin_round(struct source *source, bool last)
{
	page_map_rewind(source->map);
	source->round++;
	source->round_done = false;
	source->mover.busy = true;
	pages_send_begin(source->sender, source->round, last);
}

/* Sending fails when the other side has gone; what it said before that tells more. */
static int fail_round(struct source *source, int r, const struct error *err)
{
	struct mover *mover = &source->mover;

	if (stream_wait(mover->streams[0], 0) == 1 && hear_interruption(source) == -EREMOTEIO)
		return -EREMOTEIO;
	error_set(&mover->error, r, err->status, "%s", err->message);
	return mover_lose(mover, r);
}

int source_end_round(struct source *source)
{
	struct mover *mover = &source->mover;

	for (;;) {
		struct error err = { .status = EXIT_STATUS_FAILED };
		int r = pages_send_wait(source->sender, LOOK_MS, &err);

		if (r < 0)
			return fail_round(source, r, &err);
		if (r > 0)
			break;
		r = look_around(source);
		if (r < 0)
			return r;
	}
	mover->busy = false;
	source_count(source);
	return 0;
}

/* Until the other side has all of the round in its RAM: what the wire took is known only then. */
static int wait_round_done(struct source *source)
{
	struct mover *mover = &source->mover;
	uint64_t began_ns = clock_now(mover->clock);
	struct frame frame;
	int r;

	if (source->round_done)
		return 0;
	r = mover_receive(mover, &frame);
	if (r < 0)
		return r;
	if (!is_round_done(source, &frame))
		return mover_hear(mover, &frame) ? -EREMOTEIO : mover_refuse(mover, &frame);
	/* The greeting's round trip has the start of a process in it, and the guest's clock is set by half of this. */
	mover->round_trip_ns = MIN(mover->round_trip_ns, clock_now(mover->clock) - began_ns);
	return 0;
}

static int one_round(struct source *source)
{
	int r;

	source_begin_round(source, false);
	r = source_end_round(source);
	if (r == 0)
		r = wait_round_done(source);
	return r < 0 ? r : mover_pass(&source->mover, FAILPOINT_SOURCE_ROUND);
}

static int collect(struct source *source, uint64_t *ret_guest_ns)
{
	struct mover *mover = &source->mover;
	uint64_t before_ns = source->collected_ns, pages;
	int r = mover->link->ops->collect(mover->link, &pages, &mover->error);

	source->collected_ns = clock_now(mover->clock);
	*ret_guest_ns = source->collected_ns - before_ns;
	return r;
}

static void show(struct source *source, const struct convergence_decision *decision)
{
	struct mover *mover = &source->mover;

	source_count(source);
	mover->numbers.rate = decision->rate;
	mover->numbers.dirty_rate = decision->dirty_rate;
	mover->numbers.expected_down_ns = decision->down_ns;
	mover->numbers.eta_ns = decision->eta_ns;
	progress_why(&mover->progress, decision->why);
	progress_numbers(&mover->progress, &mover->numbers, false);
}

/* Slower or faster, as it was decided: 1 when there is to be no other round, 0 to go on. */
static int obey(struct source *source, const struct convergence_decision *decision)
{
	struct mover *mover = &source->mover;
	int r = 0;

	switch (decision->choice) {
	case CONVERGENCE_STOP:
		return 1;
	case CONVERGENCE_GO_ON:
	case CONVERGENCE_THROTTLE:
		if (decision->throttle != source->throttle)
			r = mover->link->ops->throttle(mover->link, decision->throttle,
						       &mover->error);
		source->throttle = decision->throttle;
		return r;
	case CONVERGENCE_POSTCOPY:
		r = source_rest_decide(source, decision->why);
		return r < 0 ? r : 1;
	case CONVERGENCE_GIVE_UP:
		break;
	}
	return error_set(&mover->error, -ETIME, EXIT_STATUS_FAILED, "%s", decision->why);
}

/* After a round: what is dirty now, and what follows from it. */
static int judge(struct source *source, uint64_t round_ns, uint64_t round_bytes)
{
	struct mover *mover = &source->mover;
	struct convergence_decision decision;
	struct convergence_look look = {
		.round = source->round,
		.round_ns = round_ns,
		.round_bytes = round_bytes,
		.state_bytes = source->state_len,
		.fixed_ns = source->fixed_ns,
		.round_trip_ns = mover->round_trip_ns,
		.throttle = source->throttle,
	};
	uint64_t disk_bytes, disk_ns;
	int r = collect(source, &look.guest_ns);

	if (r < 0)
		return r;
	page_map_rewind(source->map);
	look.now_ns = clock_now(mover->clock);
	source_disks_cost(source->disks, &disk_bytes, &disk_ns);
	look.left_bytes = page_map_left(source->map) * PAGE_BYTES + disk_bytes;
	look.fixed_ns += disk_ns;
	convergence_decide(&source->convergence, &look, &decision);
	show(source, &decision);
	return obey(source, &decision);
}

static void begin_converging(struct source *source)
{
	const struct convergence_goal goal = {
		.downtime_ns = source->mover.job->downtime_ms * NSEC_PER_MSEC,
		.allow_postcopy = source->mover.features & MOVE_FEATURE_POSTCOPY,
	};

	convergence_init(&source->convergence, &goal);
}

int source_memory(struct source *source)
{
	struct mover *mover = &source->mover;
	int r = page_map_add_populated(source->map, &mover->error);

	begin_converging(source);
	source_count(source);
	while (r == 0) {
		uint64_t began_ns, before = mover->numbers.sent;

		if (mover_is_cancelled(mover))
			return -ECANCELED;
		r = source_disks_catch_up(source->disks);
		began_ns = clock_now(mover->clock);
		if (r == 0)
			r = one_round(source);
		if (r == 0)
			r = judge(source, clock_now(mover->clock) - began_ns,
				  mover->numbers.sent - before);
	}
	return r < 0 ? r : 0;
}
