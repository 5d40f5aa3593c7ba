/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The source's driver. The story is the hand-over's (move/handover.c); here is what each of its actions does, and how what then
 * happens becomes its next event.
 */

#include "move/mover/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "move/mover/source_postcopy.h"

#define LISTEN_MS 50

/* ---- the work of each phase: 0, or a negative errno; what has an event of its own was posted already ---- */

static int do_check(struct source *source)
{
	struct mover *mover = &source->mover;
	struct problems *problems = calloc(1, sizeof(*problems));
	int r = problems ? mover->link->ops->facts(mover->link, &mover->facts, &mover->error)
			 : -ENOMEM;

	if (r == 0)
		r = mover->link->ops->check(mover->link, problems);
	if (r == 0 && problems->count > 1)
		r = error_set(&mover->error, problems->list[0].code, problems->list[0].status,
			      "%.400s (and %zu more: utsusu move --check)",
			      problems->list[0].message, problems->count - 1);
	else if (problems && problems->count)
		r = error_set(&mover->error, problems->list[0].code, problems->list[0].status, "%s",
			      problems->list[0].message);
	free(problems);
	return r;
}

static int send_machine(struct mover *mover)
{
	char *machine = move_machine_describe(&mover->facts);
	int r = machine ? mover_send(mover, MOVE_MACHINE, machine, strlen(machine)) : -ENOMEM;

	free(machine);
	return r;
}

/* All that can be made before the guest stops is made here. */
static int make_sender(struct source *source)
{
	struct mover *mover = &source->mover;
	struct pages_send_settings settings = {
		.writers = mover->writers,
		.n_streams = mover->job->n_streams,
		.line = mover->can_postcopy ? &mover->line : NULL,
		.compress = mover->job->compress,
		.max_bandwidth = mover->job->max_bandwidth,
		.sums = mover->sums,
		.clock = mover->clock,
		.entry = mover->entry,
	};
	int r = page_map_new(mover->job->ram_fd, mover->facts.ram_bytes, mover->shared.bitmap,
			     &source->map, &mover->error);

	settings.map = source->map;
	return r < 0 ? r : pages_send_new(&settings, &source->sender, &mover->error);
}

static int begin_logging(struct source *source)
{
	struct mover *mover = &source->mover;
	int r = move_shared_make(mover->facts.ram_bytes, &mover->shared);

	if (r == 0)
		r = mover->link->ops->begin(mover->link, mover->job->token, mover->shared.fd,
					    mover->job->mark_fd, &mover->error);
	source->collected_ns = clock_now(mover->clock);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_SOURCE_BEGUN);
}

static int do_reserve(struct source *source)
{
	struct mover *mover = &source->mover;
	int r = mover_open_streams(mover);

	mover->can_postcopy = mover->job->allow_postcopy;

	if (r == 0)
		r = mover_say_hello(mover);
	if (r == 0)
		r = mover_pass(mover, FAILPOINT_SOURCE_HELLO);
	if (r == 0)
		r = send_machine(mover);
	if (r == 0)
		r = begin_logging(source);
	return r < 0 ? r : make_sender(source);
}

static int do_rehearse(struct source *source)
{
	struct mover *mover = &source->mover;
	int r;

	source->rehearsed_from = clock_now(mover->clock);
	r = mover->link->ops->save(mover->link, mover->state_version, &source->state_len,
				   &mover->error);
	if (r == 0)
		r = mover_send_state(mover, MOVE_REHEARSE, source->state_len);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_SOURCE_REHEARSE);
}

/* Nothing is copied of disks that both hosts see. What saving and loading takes is known since the rehearsal. */
static int do_disks(struct source *source)
{
	int r;

	source->fixed_ns = clock_now(source->mover.clock) - source->rehearsed_from;
	r = mover_pass(&source->mover, FAILPOINT_SOURCE_REHEARSED);
	return r < 0 ? r : source_disks_run(&source->mover, &source->throttle, &source->disks);
}

/* What is sent to the guest while it stands shall wait for it where it will run, not be lost here: a lost request costs its sender a
 * timeout that is longer than the standing still. Twice, as what the guest itself sends in between calls the networks back. */
static int send_soon(struct mover *mover)
{
	return mover->features & MOVE_FEATURE_SOON ? mover_send(mover, MOVE_SOON, NULL, 0) : 0;
}

static int do_stop(struct source *source)
{
	struct mover *mover = &source->mover;
	uint64_t stopped_ns;
	int r = mover_is_cancelled(mover) ? -ECANCELED : mover_pass(mover, FAILPOINT_SOURCE_STOP);

	if (r == 0)
		r = send_soon(mover);
	if (r == 0)
		r = mover->link->ops->stop(mover->link, MOVE_STOP_MS, &stopped_ns, &mover->error);
	if (r < 0)
		return r;
	source->stopped_at = clock_now(mover->clock) - stopped_ns;
	r = send_soon(mover);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_SOURCE_STOPPED);
}

/* The guest's clock goes on from the moment of its state; half a round trip is this frame's own way, as a rule. The moment by the
 * other host's clock is for when it is not. */
static int send_stood(struct source *source)
{
	struct mover *mover = &source->mover;
	uint64_t way_ns = mover->round_trip_ns / 2;
	uint8_t bytes[16];

	le_store(bytes, 8, clock_now(mover->clock) - source->saved_at + way_ns);
	le_store(bytes + 8, 8,
		 source->clocks_compared ? source->saved_at + (uint64_t)source->ahead_ns + way_ns
					 : 0);
	return mover_send(mover, MOVE_STOOD, bytes, mover->features & MOVE_FEATURE_CLOCK ? 16 : 8);
}

/* The VM saves its state while the last pages go; or, in post-copy, once it is told which have not. */
static int do_state(struct source *source)
{
	struct mover *mover = &source->mover;
	int r = source_disks_finish(source->disks), saved;

	if (r == 0 && source->rest)
		r = source_rest_tell(source);
	if (r < 0)
		return r;
	if (!source->rest)
		source_begin_round(source, true);
	source->saved_at = clock_now(mover->clock);
	saved = mover->link->ops->save(mover->link, mover->state_version, &source->state_len,
				       &mover->error);
	r = mover_pass(mover, FAILPOINT_SOURCE_LAST_ROUND);
	if (r == 0 && !source->rest)
		r = source_end_round(source);
	if (r == 0)
		r = saved;
	if (r == 0)
		r = mover_send_state(mover, MOVE_STATE, source->state_len);
	if (r == 0)
		r = send_stood(source);
	if (r == 0 && source->rest)
		r = source_rest_listen_on(source);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_SOURCE_STATE);
}

/* Post-copy: its end comes when the other side tells. */
static int do_run(struct source *source _unused_)
{
	return PHASE_GOES_ON;
}

static int (*const phases[PHASES])(struct source *source) = {
	[PHASE_CHECK] = do_check, [PHASE_RESERVE] = do_reserve,	  [PHASE_REHEARSE] = do_rehearse,
	[PHASE_DISKS] = do_disks, [PHASE_MEMORY] = source_memory, [PHASE_STOP] = do_stop,
	[PHASE_STATE] = do_state, [PHASE_RUN] = do_run,
};

/* ---- actions ---- */

static void act_phase(struct source *source)
{
	struct mover *mover = &source->mover;
	enum handover_phase phase = source->handover.phase;
	int r;

	mover->progress.postcopy = phase == PHASE_RUN;
	if (phase > PHASE_RESERVE || !mover->job->told)
		progress_phase(&mover->progress, phase, NULL);
	r = phases[phase](source);
	if (r == PHASE_GOES_ON)
		return;
	if (r < 0 && r != -ECANCELED)
		error_set(&mover->error, r, EXIT_STATUS_FAILED, "%s: %s",
			  handover_phase_name(phase), strerror(-r));
	if (r < 0 && mover->link->ops->ended(mover->link))
		mover_post(mover, ON_VM_DIED, phase);
	mover_post(mover, r < 0 ? ON_FAILED : ON_DONE, phase);
}

void source_hear(struct source *source, const struct frame *frame)
{
	struct mover *mover = &source->mover;

	if (frame->kind == MOVE_ROUND_DONE) /* of the last round: READY says more */
		return;
	if (!mover_hear(mover, frame))
		mover_refuse(mover, frame);
	else if ((frame->kind == MOVE_ANSWER_RAN || frame->kind == MOVE_ANSWER_NEVER) &&
		 mover_pass(mover, FAILPOINT_SOURCE_ANSWERED) < 0) {
		mover->n_events = 0; /* the answer was never heard */
		mover_lose(mover, -EIO);
	}
}

/* Nothing is to be done here: what the other side says comes next. */
static void listen(struct source *source)
{
	struct frame frame;

	if (source_rest_listens(source))
		source_rest_hear(source, LISTEN_MS);
	else if (mover_receive(&source->mover, &frame) == 0)
		source_hear(source, &frame);
}

/* What came while the mark was written: before COMMIT is out it still counts. */
static void look_before_commit(struct source *source)
{
	struct mover *mover = &source->mover;

	(void)!mover_is_cancelled(mover);
	if (source_rest_listens(source))
		source_rest_hear(source, 0);
	else if (!mover->lost && stream_wait(mover->streams[0], 0) != 0)
		listen(source);
}

static void act_write_given(struct source *source)
{
	struct mover *mover = &source->mover;
	int r = mover_pass(mover, FAILPOINT_SOURCE_READY);

	progress_phase(&mover->progress, PHASE_COMMIT, NULL);
	if (r == 0)
		r = mover->link->ops->given(mover->link, mover->job->peer, mover->job->generation,
					    &mover->error);
	if (r == 0)
		look_before_commit(source);
	if (r == 0)
		mover_post(mover, ON_MARKED, PHASE_COMMIT);
	else if (move_link_is_unknown(r))
		mover_post(mover, ON_MARK_UNKNOWN, PHASE_COMMIT);
	else
		mover_post(mover, ON_MARK_FAILED, PHASE_COMMIT);
}

static void act_cancel_vm(struct source *source)
{
	struct mover *mover = &source->mover;
	struct error unheard = { 0 };

	/* Where this fails, the end of our link undoes it all the same. */
	if (mover->shared.fd >= 0)
		(void)!mover->link->ops->cancel(mover->link, &unheard);
}

/* Of a VM that does not answer now it is for the daemon to see that it hears. */
static void act_resume_vm(struct source *source)
{
	struct mover *mover = &source->mover;
	struct error err = { 0 };

	if (mover->link->ops->never(mover->link, mover->job->token, &err) < 0) {
		progress_warning(&mover->progress, err.message);
		source->asking = true;
	}
	(void)!mover_pass(mover, FAILPOINT_SOURCE_SETTLED);
}

static void act_leave_vm(struct source *source)
{
	struct mover *mover = &source->mover;
	struct error err = { 0 };

	mover->numbers.down_ns = clock_now(mover->clock) - source->stopped_at;
	if (!source->rest)
		progress_phase(&mover->progress, PHASE_VERIFY, NULL);
	if (mover->link->ops->ran(mover->link, mover->job->token, mover->job->peer, &err) < 0)
		progress_warning(&mover->progress, err.message);
	(void)!mover_pass(mover, FAILPOINT_SOURCE_SETTLED);
}

static void act_send_commit(struct source *source)
{
	struct mover *mover = &source->mover;
	int r = mover_pass(mover, FAILPOINT_SOURCE_GIVEN);

	if (r == 0)
		r = mover_send(mover, MOVE_COMMIT, mover->job->token, sizeof(mover->job->token));
	if (r == 0)
		r = mover_pass(mover, FAILPOINT_SOURCE_COMMIT);
	if (r < 0)
		mover_post(mover, ON_FAILED, PHASE_COMMIT);
	else if (source->rest)
		source_rest_begin(source);
}

static void act_send_cancel(struct source *source)
{
	mover_send(&source->mover, MOVE_CANCEL, NULL, 0);
}

static void act_ask(struct source *source)
{
	source->asking = true;
	source->over = true;
}

static void act_tell_late(struct source *source)
{
	progress_warning(&source->mover.progress,
			 "it is too late to end this move: the VM is handed over");
}

static void act_refuse(struct source *source)
{
	mover_refuse_event(&source->mover);
}

static void act_end(struct source *source)
{
	source->over = true;
}

/* In the order of their bits. Marks of a VM whose process has ended are the daemon's (DO_CLEAR_GIVEN, DO_SETTLE_RAN). */
static const struct {
	uint32_t bit;
	void (*act)(struct source *source);
} actions[] = {
	{ DO_PHASE, act_phase },
	{ DO_WRITE_GIVEN, act_write_given },
	{ DO_CANCEL_VM, act_cancel_vm },
	{ DO_RESUME_VM, act_resume_vm },
	{ DO_LEAVE_VM, act_leave_vm },
	{ DO_SEND_COMMIT, act_send_commit },
	{ DO_SEND_CANCEL, act_send_cancel },
	{ DO_ASK, act_ask },
	{ DO_TELL_LATE, act_tell_late },
	{ DO_REFUSE, act_refuse },
	{ DO_END, act_end },
};

static void act(struct source *source, uint32_t wanted)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (wanted & actions[i].bit)
			actions[i].act(source);
}

static void run(struct source *source)
{
	struct mover *mover = &source->mover;
	struct handover_id id = { .generation = mover->job->generation };
	uint32_t wanted;

	memcpy(id.token, mover->job->token, sizeof(id.token));
	wanted = handover_source_start(&id, &source->handover);
	if (mover_pass(mover, FAILPOINT_SOURCE_START) < 0) {
		const struct handover_event failed = { .kind = ON_FAILED, .phase = PHASE_CHECK };

		wanted = handover_source_step(&source->handover, &failed);
	}
	for (;;) {
		struct handover_event event;

		act(source, wanted);
		if (source->over)
			return;
		while (!mover_next_event(mover, &event))
			listen(source);
		wanted = handover_source_step(&source->handover, &event);
	}
}

/* ---- how it ended ---- */

static enum move_end end_of(const struct source *source)
{
	if (handover_source_lost(&source->handover))
		return MOVE_END_FAILED;
	if (source->handover.at == SOURCE_LEFT)
		return MOVE_END_RAN;
	if (source->asking)
		return MOVE_END_IN_DOUBT;
	switch (source->handover.why) {
	case WHY_REFUSED:
		return MOVE_END_REFUSED;
	case WHY_CANCELLED:
		return MOVE_END_CANCELLED;
	default:
		return MOVE_END_FAILED;
	}
}

static void tell_end(struct source *source, enum move_end end, struct error *err)
{
	struct mover *mover = &source->mover;

	if (end == MOVE_END_IN_DOUBT)
		error_set(err, -EINPROGRESS, EXIT_STATUS_FAILED,
			  "%s: whether it runs at %s is not known (%.200s); it stands still until "
			  "that is; utsusu resolve %s shows both sides",
			  mover->job->name, mover->job->peer, mover->error.message,
			  mover->job->name);
	else if (handover_source_lost(&source->handover) && !mover->numbers.left)
		error_set(err, -EIO, EXIT_STATUS_FAILED,
			  "%s: runs at %s, which did not say that the last of its memory came "
			  "(%.200s); where it did not, it was lost, and ended: utsusu list there "
			  "tells; utsusu run %s there starts it from its disks",
			  mover->job->name, mover->job->peer, mover->error.message,
			  mover->job->name);
	else if (handover_source_lost(&source->handover))
		error_set(err, -EIO, EXIT_STATUS_FAILED,
			  "%s: lost in post-copy, with %llu MiB of its memory still here (%.200s); "
			  "it is %s's now, to be started from its disks there: utsusu run %s",
			  mover->job->name,
			  (unsigned long long)((mover->numbers.left + MIB(1) - 1) >> 20),
			  mover->error.message, mover->job->peer, mover->job->name);
	else if (end == MOVE_END_CANCELLED && !mover->error.code)
		error_set(err, -ECANCELED, EXIT_STATUS_FAILED,
			  "%s: the move was cancelled; it runs here as before", mover->job->name);
	else if (end != MOVE_END_RAN)
		*err = mover->error;
	mover->numbers.total_ns = clock_now(mover->clock) - mover->started_ns;
	progress_phase(&mover->progress, PHASE_END, NULL);
	progress_end(&mover->progress, end, &mover->numbers, err);
}

enum move_end move_source(const struct mover_settings *settings, struct move_numbers *ret_numbers,
			  struct error *err)
{
	struct source *source = calloc(1, sizeof(*source));
	enum move_end end;
	int r;

	if (!source) {
		error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory for a move; free some");
		return MOVE_END_FAILED;
	}
	r = mover_init(&source->mover, settings);
	if (r == 0)
		run(source);
	end = r < 0 ? MOVE_END_FAILED : end_of(source);
	tell_end(source, end, err);
	*ret_numbers = source->mover.numbers;
	source_rest_release(source);
	source_disks_free(source->disks);
	pages_send_free(source->sender);
	page_map_free(source->map);
	mover_release(&source->mover);
	free(source);
	return end;
}
