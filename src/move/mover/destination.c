/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The destination's driver. The story is the hand-over's (move/handover.c); here is what each of its actions does, and how what
 * then happens becomes its next event.
 *
 * When verifying fails after the commit there is no way back: the VM has run. So what can be compared is compared before READY,
 * when the source can still go on: in the rehearsal the vCPUs' registers are read back from KVM, and each device after it was loaded
 * (vm/load.c). What remains for the phase after the run - whether the VM's process lives and answers - is told to both sides'
 * people, and changes nothing.
 */

#include "move/mover/destination.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "move/mover/destination_postcopy.h"

#define SOON_MOST 2 /* each is a frame on our networks for every card of the VM's */
#define STOOD_LATE_NS (100 * NSEC_PER_MSEC) /* far more than two clocks are compared to */

/* ---- the work of each phase: 0, or a negative errno; what has an event of its own was posted already ---- */

int destination_receive(struct mover *mover, enum move_frame kind, struct frame *ret_frame)
{
	int r = mover_receive(mover, ret_frame);

	if (r < 0 || ret_frame->kind == kind)
		return r;
	return mover_hear(mover, ret_frame) ? -EREMOTEIO : mover_refuse(mover, ret_frame);
}

static int compare_machine(struct mover *mover)
{
	const struct buffer *payload = &mover->readers[0].payload;
	struct frame frame;
	int r = destination_receive(mover, MOVE_MACHINE, &frame);

	if (r == 0)
		r = move_machine_compare(&mover->facts, payload->data, payload->len, &mover->error);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_DESTINATION_MACHINE);
}

static int begin_arriving(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	int r = move_shared_make(mover->facts.ram_bytes, &mover->shared);

	if (r == 0)
		r = mover->link->ops->arrive(mover->link, mover->job->token, mover->shared.fd,
					     mover->job->mark_fd, &mover->error);
	destination->arriving = r == 0;
	return r;
}

/* The VM first: then whatever fails afterwards has an owner whose going ends it. */
static int do_reserve(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	int r = mover->link->ops->facts(mover->link, &mover->facts, &mover->error);

	mover->can_postcopy = mover->facts.demand;
	if (r == 0)
		r = begin_arriving(destination);
	if (r == 0)
		r = mover_open_streams(mover);
	if (r == 0)
		r = mover_say_hello(mover);
	if (r == 0)
		r = mover_pass(mover, FAILPOINT_DESTINATION_HELLO);
	return r < 0 ? r : compare_machine(mover);
}

static int receive_state(struct destination *destination, enum move_frame kind)
{
	struct mover *mover = &destination->mover;
	int r = 0;

	destination->state_len = 0;
	while (r == 0) {
		struct frame frame;

		r = destination_receive(mover, kind, &frame);
		if (r == 0)
			r = mover_take_state(mover, &frame, &destination->state_len);
	}
	return r < 0 ? r : 0;
}

static int do_rehearse(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	int r = receive_state(destination, MOVE_REHEARSE);

	if (r == 0)
		r = mover_pass(mover, FAILPOINT_DESTINATION_REHEARSE);
	if (r == 0)
		r = mover->link->ops->load(mover->link, destination->state_len, 0, true,
					   &mover->error);
	return r;
}

/* All that can be made before the guest stops is made here. From now on streams but the first are read. */
static int make_receiver(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct pages_receive_settings settings = {
		.readers = mover->readers,
		.n_streams = mover->job->n_streams,
		.idle_ms = mover->peer_ms,
		.entry = mover->entry,
	};
	int r = pages_target_new(mover->job->ram_fd, mover->facts.ram_bytes, true,
				 &destination->target, &mover->error);

	settings.target = destination->target;
	return r < 0 ? r : pages_receive_new(&settings, &destination->receiver, &mover->error);
}

/* Disks that are copied come before the memory, on its streams: the source begins when it has heard of the rehearsal, which is said
 * after this. */
static int do_disks(struct destination *destination)
{
	return destination->mover.job->n_disks ? 0 : make_receiver(destination);
}

static int copy_disks(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	int r;

	if (mover->job->n_disks)
		progress_phase(&mover->progress, PHASE_DISKS, NULL);
	r = destination_disks_run(mover, &destination->disks);
	if (r == 0 && mover->job->n_disks) {
		progress_phase(&mover->progress, PHASE_MEMORY, NULL);
		r = make_receiver(destination);
	}
	return r;
}

/* Which of the errors of a round are the connection's: its own threads have no events. */
static int lose_or_fail(struct mover *mover, int r)
{
	return r == -ENOMEM || r == -ENOSPC ? r : mover_lose(mover, r);
}

/* A VM that cannot tell is found out by what follows; this is no reason to end a move. */
static void announce_soon(struct mover *mover)
{
	struct error unheard = { 0 };

	(void)!mover->link->ops->announce(mover->link, &unheard);
}

/* Nothing but what was written to disks, the end of it, or of the guest's standing still may come between rounds. */
static int hear_in_between(struct destination *destination, const struct frame *frame)
{
	struct mover *mover = &destination->mover;
	int r;

	if (frame->kind == MOVE_SOON && frame->len == 0 && (frame->flags & FRAME_CHECKED) &&
	    (mover->features & MOVE_FEATURE_SOON) && destination->n_soon++ < SOON_MOST) {
		announce_soon(mover);
		return 0;
	}
	r = destination_disks_frame(destination->disks, frame);

	if (r != 0)
		return MIN(r, 0);
	return (frame->flags & FRAME_CHECKED) && mover_hear(mover, frame)
		       ? -EREMOTEIO
		       : mover_refuse(mover, frame);
}

static int send_round_done(struct mover *mover, uint32_t number)
{
	uint8_t bytes[12];

	le_store(bytes, 4, number);
	le_store(bytes + 4, 8, clock_now(mover->clock));
	return mover_send(mover, MOVE_ROUND_DONE, bytes,
			  mover->features & MOVE_FEATURE_CLOCK ? 12 : 4);
}

static int one_round(struct destination *destination, bool *ret_last)
{
	struct mover *mover = &destination->mover;
	struct pages_round round;
	struct frame frame;
	int r = pages_receive_round(destination->receiver, &round, &frame, &mover->error);

	if (r < 0)
		return lose_or_fail(mover, r);
	if (r == 0 && frame.kind == MOVE_MISSING && (frame.flags & FRAME_CHECKED) &&
	    (mover->features & MOVE_FEATURE_POSTCOPY)) {
		*ret_last = true;
		return destination_rest_take(destination, &frame);
	}
	if (r == 0)
		return hear_in_between(destination, &frame);
	pages_receive_numbers(destination->receiver, &mover->numbers);
	progress_numbers(&mover->progress, &mover->numbers, false);
	*ret_last = round.last;
	if (round.last)
		r = pages_target_whole(destination->target, &mover->error);
	if (r < 0)
		return r;
	r = send_round_done(mover, round.number);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_DESTINATION_ROUND);
}

static int do_memory(struct destination *destination)
{
	bool last = false;
	int r = copy_disks(destination);

	while (r == 0 && !last)
		r = mover_is_cancelled(&destination->mover) ? -ECANCELED
							    : one_round(destination, &last);
	return r;
}

/* The frame may have lain on a wire that was cut, and then the guest stood still for longer than the source could know. */
static uint64_t stood_by(uint64_t told_ns, uint64_t moment_ns, uint64_t now_ns)
{
	uint64_t seen_ns = moment_ns && moment_ns < now_ns ? now_ns - moment_ns : 0;

	return seen_ns > told_ns + STOOD_LATE_NS ? seen_ns : told_ns;
}

static int receive_stood(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	const uint8_t *bytes;
	struct frame frame;
	int r = destination_receive(mover, MOVE_STOOD, &frame);

	if (r < 0)
		return r;
	if (frame.len != (mover->features & MOVE_FEATURE_CLOCK ? 16 : 8))
		return mover_refuse(mover, &frame);
	bytes = mover->readers[0].payload.data;
	destination->stood_at = clock_now(mover->clock);
	destination->stood_ns = stood_by(le_load(bytes, 8),
					 frame.len == 16 ? le_load(bytes + 8, 8) : 0,
					 destination->stood_at);
	return 0;
}

static int load(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	const uint64_t stopped_ns = destination->stood_ns + clock_now(mover->clock) -
				    destination->stood_at;

	if (destination->rest)
		return destination_rest_load(destination, stopped_ns);
	return mover->link->ops->load(mover->link, destination->state_len, stopped_ns, false,
				      &mover->error);
}

static int do_state(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	int r = destination_disks_finish(destination->disks);

	if (r == 0)
		r = receive_state(destination, MOVE_STATE);

	if (r == 0)
		r = receive_stood(destination);
	if (r == 0)
		r = mover_pass(mover, FAILPOINT_DESTINATION_STATE);
	if (r == 0)
		r = load(destination);
	if (r == 0)
		r = mover_pass(mover, FAILPOINT_DESTINATION_LOADED);
	/* Nobody asks it anything before the commit, and READY is a promise. */
	if (r == 0 && mover->link->ops->ended(mover->link))
		r = error_set(&mover->error, -ECONNRESET, EXIT_STATUS_FAILED,
			      "%s: its process has ended; see this host's journal",
			      mover->job->name);
	return r;
}

/* Post-copy: its end comes when all of memory is there. */
static int do_run(struct destination *destination _unused_)
{
	return PHASE_GOES_ON;
}

/* The VM's process announces itself when it begins to run (virtio-net, and from the host's side). */
static int do_announce(struct destination *destination _unused_)
{
	return 0;
}

/* The VM lives and answers. */
static int do_verify(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct move_facts facts = { .ram_fd = -1 };
	int r = mover->link->ops->facts(mover->link, &facts, &mover->error);

	move_facts_release(&facts);
	return r;
}

static int (*const phases[PHASES])(struct destination *destination) = {
	[PHASE_RESERVE] = do_reserve,	[PHASE_REHEARSE] = do_rehearse, [PHASE_DISKS] = do_disks,
	[PHASE_MEMORY] = do_memory,	[PHASE_STATE] = do_state,	[PHASE_RUN] = do_run,
	[PHASE_ANNOUNCE] = do_announce, [PHASE_VERIFY] = do_verify,
};

/* ---- actions ---- */

static void act_phase(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	enum handover_phase phase = destination->handover.phase;
	int r;

	mover->progress.postcopy = phase == PHASE_RUN;
	progress_phase(&mover->progress, phase, NULL);
	r = phases[phase](destination);
	if (r == PHASE_GOES_ON)
		return;
	if (r < 0 && r != -ECANCELED)
		error_set(&mover->error, r, EXIT_STATUS_FAILED, "%s: %s",
			  handover_phase_name(phase), strerror(-r));
	if (r < 0 && mover->link->ops->ended(mover->link))
		mover_post(mover, ON_VM_DIED, phase);
	mover_post(mover, r < 0 ? ON_FAILED : ON_DONE, phase);
}

static void act_commit_vm(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	bool ran;
	int r = mover_pass(mover, FAILPOINT_DESTINATION_COMMIT);

	destination_rest_commit(destination);
	if (r == 0)
		r = mover->link->ops->commit(mover->link, &ran, &mover->error);
	if (r < 0) {
		mover_post(mover, ON_RESULT_UNKNOWN, PHASE_COMMIT);
		return;
	}
	mover_post(mover, ran ? ON_RESULT_RAN : ON_RESULT_NEVER, PHASE_COMMIT);
	if (ran && mover_pass(mover, FAILPOINT_DESTINATION_RAN) < 0)
		mover_lose(mover, -EIO);
}

static void act_take_never(struct destination *destination)
{
	static const enum handover_event_kind events[] = {
		[MARK_OPEN] = ON_RESULT_UNKNOWN,
		[MARK_RAN] = ON_RESULT_RAN,
		[MARK_NEVER] = ON_RESULT_NEVER,
	};
	struct mover *mover = &destination->mover;
	int r = mark_take(mover->job->own_mark_fd, MARK_NEVER);

	mover_post(mover, r < 0 ? ON_RESULT_UNKNOWN : events[r], PHASE_COMMIT);
	/* What this process cannot write, its daemon can ask for. */
	destination->asking = destination->over = r < 0;
}

static void act_end_vm(struct destination *destination)
{
	struct mover *mover = &destination->mover;

	destination_rest_give_up(destination);
	/* One that never was ours does not mind our going: it is for who started it to end. */
	if (destination->arriving && mover->link->ops->end(mover->link, MOVE_END_MS) == 0)
		mover_post(mover, ON_VM_DIED, PHASE_COMMIT);
	else
		destination->asking = destination->over = true;
}

static void act_send_rehearsed(struct destination *destination)
{
	struct mover *mover = &destination->mover;

	if (mover_send(mover, MOVE_REHEARSED, NULL, 0) == 0 &&
	    mover_pass(mover, FAILPOINT_DESTINATION_REHEARSED) < 0)
		mover_lose(mover, -EIO);
}

static void act_send_ready(struct destination *destination)
{
	struct mover *mover = &destination->mover;

	progress_phase(&mover->progress, PHASE_COMMIT, NULL);
	if (mover_send(mover, MOVE_READY, NULL, 0) == 0 &&
	    mover_pass(mover, FAILPOINT_DESTINATION_READY) < 0)
		mover_post(mover, ON_FAILED, PHASE_COMMIT);
}

static void act_send_refused(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	const char *message = mover->error.code ? mover->error.message : "cannot take the VM";

	mover_send(mover, MOVE_REFUSED, message, strlen(message));
}

static void act_send_cancel(struct destination *destination)
{
	mover_send(&destination->mover, MOVE_CANCEL, NULL, 0);
}

static void send_answer(struct destination *destination, enum move_frame kind)
{
	struct mover *mover = &destination->mover;

	if (mover_send(mover, kind, mover->job->token, sizeof(mover->job->token)) == 0 &&
	    mover_pass(mover, FAILPOINT_DESTINATION_ANSWERED) < 0)
		mover_lose(mover, -EIO);
}

static void act_send_ran(struct destination *destination)
{
	send_answer(destination, MOVE_ANSWER_RAN);
}

static void act_send_never(struct destination *destination)
{
	send_answer(destination, MOVE_ANSWER_NEVER);
}

static void act_send_verified(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	const char *wrong = destination->handover.why == WHY_NONE ? "" : mover->error.message;

	if (!destination_rest_part(destination))
		mover_send(mover, MOVE_VERIFIED, wrong, strlen(wrong));
}

static void act_tell_late(struct destination *destination)
{
	progress_warning(&destination->mover.progress,
			 "it is too late to end this move: the VM is being handed over");
}

static void act_refuse(struct destination *destination)
{
	mover_refuse_event(&destination->mover);
}

static void act_end(struct destination *destination)
{
	destination->over = true;
}

/* In the order of their bits. Questions of daemons (DO_SEND_UNDECIDED) do not come to movers. */
static const struct {
	uint32_t bit;
	void (*act)(struct destination *destination);
} actions[] = {
	{ DO_PHASE, act_phase },
	{ DO_COMMIT_VM, act_commit_vm },
	{ DO_TAKE_NEVER, act_take_never },
	{ DO_END_VM, act_end_vm },
	{ DO_SEND_REHEARSED, act_send_rehearsed },
	{ DO_SEND_READY, act_send_ready },
	{ DO_SEND_REFUSED, act_send_refused },
	{ DO_SEND_CANCEL, act_send_cancel },
	{ DO_SEND_RAN, act_send_ran },
	{ DO_SEND_NEVER, act_send_never },
	{ DO_SEND_VERIFIED, act_send_verified },
	{ DO_TELL_LATE, act_tell_late },
	{ DO_REFUSE, act_refuse },
	{ DO_END, act_end },
};

static void act(struct destination *destination, uint32_t wanted)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (wanted & actions[i].bit)
			actions[i].act(destination);
}

void destination_hear(struct destination *destination, const struct frame *frame)
{
	struct mover *mover = &destination->mover;

	if (!(frame->flags & FRAME_CHECKED) || !mover_hear(mover, frame))
		mover_refuse(mover, frame);
}

/* Ready: what the source says comes next. */
static void listen(struct destination *destination)
{
	struct frame frame;

	if (destination_rest_listens(destination))
		destination_rest_hear(destination);
	else if (mover_receive(&destination->mover, &frame) == 0)
		destination_hear(destination, &frame);
}

static void run(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct handover_id id = { .generation = mover->job->generation };
	uint32_t wanted;

	memcpy(id.token, mover->job->token, sizeof(id.token));
	wanted = handover_destination_start(&id, mover->job->known, &destination->handover);
	if (mover_pass(mover, FAILPOINT_DESTINATION_START) < 0) {
		const struct handover_event failed = { .kind = ON_FAILED, .phase = PHASE_RESERVE };

		wanted = handover_destination_step(&destination->handover, &failed);
	}
	for (;;) {
		struct handover_event event;

		act(destination, wanted);
		if (destination->over)
			return;
		while (!mover_next_event(mover, &event))
			listen(destination);
		if (event.kind == ON_LINK_LOST && destination_rest_is_there(destination)) {
			wanted = 0;
			continue;
		}
		wanted = handover_destination_step(&destination->handover, &event);
	}
}

/* ---- how it ended ---- */

static enum move_end end_of(const struct destination *destination)
{
	if (handover_destination_lost(&destination->handover))
		return MOVE_END_FAILED;
	if (destination->handover.at == DESTINATION_RUNS)
		return MOVE_END_RAN;
	if (destination->asking)
		return MOVE_END_IN_DOUBT;
	return destination->handover.why == WHY_CANCELLED ? MOVE_END_CANCELLED : MOVE_END_FAILED;
}

static void tell_end(struct destination *destination, enum move_end end, struct error *err)
{
	struct mover *mover = &destination->mover;

	if (end == MOVE_END_CANCELLED)
		error_set(err, -ECANCELED, EXIT_STATUS_FAILED,
			  "%s: the move was cancelled; it runs at %s as before", mover->job->name,
			  mover->job->peer);
	else if (handover_destination_lost(&destination->handover))
		error_set(
			err, -EIO, EXIT_STATUS_FAILED,
			"%s: lost in post-copy: %llu MiB of its memory did not come from %s "
			"(%.200s); it is this host's, to be started from its disks: utsusu run %s",
			mover->job->name,
			(unsigned long long)((mover->numbers.left + MIB(1) - 1) >> 20),
			mover->job->peer, mover->error.message, mover->job->name);
	else if (end != MOVE_END_RAN && !mover->error.code)
		error_set(err, -EIO, EXIT_STATUS_FAILED, "%s: did not come; it is at %s",
			  mover->job->name, mover->job->peer);
	else if (end != MOVE_END_RAN)
		*err = mover->error;
	mover->numbers.total_ns = clock_now(mover->clock) - mover->started_ns;
	progress_phase(&mover->progress, PHASE_END, NULL);
	progress_end(&mover->progress, end, &mover->numbers, err);
}

enum move_end move_destination(const struct mover_settings *settings,
			       struct move_numbers *ret_numbers, struct error *err)
{
	struct destination *destination = calloc(1, sizeof(*destination));
	enum move_end end;
	int r;

	if (!destination) {
		error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory for a move; free some");
		return MOVE_END_FAILED;
	}
	r = mover_init(&destination->mover, settings);
	if (r == 0)
		run(destination);
	end = r < 0 ? MOVE_END_FAILED : end_of(destination);
	tell_end(destination, end, err);
	*ret_numbers = destination->mover.numbers;
	destination_rest_release(destination);
	destination_disks_free(destination->disks);
	pages_receive_free(destination->receiver);
	pages_target_free(destination->target);
	mover_release(&destination->mover);
	free(destination);
	return end;
}
