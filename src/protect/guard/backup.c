/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/backup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "protect/guard/backup_internal.h"
#include "protect/record.h"

#define NAMED_TRIES                                                                                \
	50 /* of a copy that the record may name any moment, as far as this host has heard */
#define NAMED_MS 100
#define ANSWER_MS 1000 /* between two looks at nothing, while the arbiter decides */
#define BUSY_MS 5000   /* for disks that their last holder lets go of, and the steps of that */
#define BUSY_STEP_MS 50

/* What ended the receiving. */
enum because {
	BECAUSE_LOST,	  /* the owner is not heard any more, or not understood */
	BECAUSE_PLANNED,  /* it said that it shall be so */
	BECAUSE_PREPARE,  /* the VM has been told already */
	BECAUSE_NO_ACK,	  /* so has it here */
	BECAUSE_PARTED,	  /* the owner wants it no longer, and the record may still name it */
	BECAUSE_WORTHLESS /* nobody can go on from this copy */
};

/* An owner that gives a copy up only begins with that: as long as the record names the copy, what was put out must stay in it. */
static enum because parted(const struct backup *backup)
{
	return backup->last ? BECAUSE_PARTED : BECAUSE_WORTHLESS;
}

static int give_up(struct backup *backup, int r, const char *why)
{
	return error_set(&backup->guard.error, r, EXIT_STATUS_FAILED, "%s: %s",
			 backup->guard.job->name, why);
}

/* ---- receiving ---- */

/* 0: nothing that matters. */
static int hear(struct backup *backup, enum because *ret_because)
{
	struct guard *guard = &backup->guard;
	char why[160];

	switch (guard->link->ops->hear(guard->link, 0, why)) {
	case PROTECT_WORD_NONE:
		return 0;
	case PROTECT_WORD_PREPARE:
		*ret_because = BECAUSE_PREPARE;
		return 1;
	default:
		give_up(backup, -ESRCH, why[0] ? why : "is not needed as a backup any more");
		*ret_because = BECAUSE_WORTHLESS;
		return 1;
	}
}

/* What the VM does not take is nothing to it: it then is not named, and does not go on. */
static int take_record(struct backup *backup, const struct frame *frame)
{
	struct guard *guard = &backup->guard;
	struct ownership_record record;
	struct error unheard = { 0 };

	if (guard->link->ops->record && record_decode((const char *)guard->reader.payload.data,
						      frame->len, &record, &unheard) == 0)
		(void)!guard->link->ops->record(guard->link, &record, &unheard);
	return 0;
}

/* The owner goes on alone when this copy cannot run any more: this guard never told it to prepare, and it ends without one. */
static void leave(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	struct error unheard = { 0 };

	(void)!guard->link->ops->failed(guard->link, guard->error.message, &unheard);
	if (guard_await_gone(guard) && guard_say(guard, PROTECT_ENDED, NULL, 0) == 0) {
		guard->parted = false; /* it is waited for to close */
		guard_drain(guard);
		guard->parted = true;
	}
}

/* Between epochs. */
static int take_frame(struct backup *backup, const struct frame *frame, enum because *ret_because,
		      struct error *err)
{
	struct guard *guard = &backup->guard;
	int r;

	switch (frame->flags & FRAME_CHECKED ? frame->kind : 0) {
	case PROTECT_HEARTBEAT:
		return 0;
	case PROTECT_EPOCH:
		r = backup_take_epoch(backup, frame, err);
		guard->parted = r == -EREMOTEIO && !backup->broken;
		*ret_because = backup->broken	 ? BECAUSE_WORTHLESS
			       : r == -EREMOTEIO ? parted(backup)
			       : r > 0		 ? BECAUSE_NO_ACK
						 : BECAUSE_LOST;
		return r;
	case PROTECT_TAKE_OVER:
		*ret_because = BECAUSE_PLANNED;
		return error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED,
				 "%s: a failover is wanted there", guard->job->peer);
	case PROTECT_RECORD:
		return take_record(backup, frame);
	case PROTECT_ENDED:
		*ret_because = BECAUSE_PLANNED;
		r = guard->link->ops->ended
			    ? guard->link->ops->ended(guard->link, &guard->origin.session, err)
			    : 0;
		return error_set(err, r < 0 ? r : -EREMOTEIO, EXIT_STATUS_FAILED,
				 "%s: it has ended there, to go on here", guard->job->peer);
	case PROTECT_LEAVE:
		*ret_because = BECAUSE_WORTHLESS;
		backup->leaves = true;
		return guard_take_bye(guard, frame, err);
	case PROTECT_BYE:
		*ret_because = parted(backup);
		return guard_take_bye(guard, frame, err);
	default:
		*ret_because = BECAUSE_LOST;
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "%s: sent a message (%u) that cannot be now; upgrade the older "
				 "utsusu",
				 guard->job->peer, frame->kind);
	}
}

static int receive_one(struct backup *backup, enum because *ret_because, struct error *err)
{
	struct guard *guard = &backup->guard;
	struct frame frame;
	int r;

	pulse_listen(&backup->pulse, true);
	r = stream_wait(guard->stream, GUARD_LOOK_MS);
	if (r == 0)
		return 0;
	if (r > 0)
		r = frame_receive(&guard->reader, &frame, err);
	pulse_listen(&backup->pulse, false);
	*ret_because = BECAUSE_LOST;
	if (r < 0)
		return guard_lost(guard, r, err);
	return take_frame(backup, &frame, ret_because, err);
}

/* From the first whole epoch on a silent owner is not waited for. */
static void note_whole(struct backup *backup)
{
	struct guard *guard = &backup->guard;

	__atomic_store_n(&backup->pulse.silence_ms, guard->detect_ms, __ATOMIC_RELAXED);
	progress_guard(&guard->progress, "protected", NULL, true);
}

static enum because receive(struct backup *backup, struct error *err)
{
	enum because because = BECAUSE_LOST;
	bool noted = false;

	for (;;) {
		if (hear(backup, &because))
			return because;
		if (applier_judge(&backup->applier, &backup->guard.error) < 0)
			return BECAUSE_WORTHLESS;
		if (receive_one(backup, &because, err) != 0)
			break;
		if (backup->last && !noted)
			note_whole(backup);
		noted = backup->last != 0;
	}
	if (because == BECAUSE_LOST && pulse_is_silent(&backup->pulse))
		snprintf(err->message, sizeof(err->message), "%s: was silent for %u ms",
			 backup->guard.job->peer, backup->pulse.silence_ms);
	return because;
}

/* ---- taking over ---- */

/* Whether the record names this copy: who asks in the moment in which it comes to do so asks again. `why` NULL: the VM knows by itself, and is only
 * heard. */
static int ask_to_prepare(struct backup *backup, const char *why)
{
	struct guard *guard = &backup->guard;
	char words[160];
	bool prepare = false;

	for (int i = 0; i < NAMED_TRIES; i++) {
		int r = why ? guard->link->ops->suspect(guard->link, why, &prepare, &guard->error)
			    : 0;
		enum protect_word word;

		if (r < 0 || prepare)
			return r;
		word = guard->link->ops->hear(guard->link, NAMED_MS, words);
		if (word == PROTECT_WORD_PREPARE)
			return 0;
		if (word != PROTECT_WORD_NONE)
			return give_up(backup, -ESRCH,
				       words[0] ? words : "is not needed as a backup any more");
	}
	return give_up(backup, -ESTALE, "this copy is not the one that the record names");
}

/* The owner gave it up: once the record says so, the VM ends. The owner may have died before that, or have been refused: then this copy is the
 * one to go on from. 0: it is. */
static int await_record(struct backup *backup, const struct error *why)
{
	struct guard *guard = &backup->guard;
	const uint64_t due_ns = clock_now(guard->clock) + guard->patience_ms * NSEC_PER_MSEC;
	char words[160];

	pulse_stop(&backup->pulse);
	while (clock_now(guard->clock) < due_ns) {
		switch (guard->link->ops->hear(guard->link, ANSWER_MS, words)) {
		case PROTECT_WORD_NONE:
			break;
		case PROTECT_WORD_PREPARE:
			return 0;
		default:
			return error_set(&guard->error, why->code, why->status, "%s", why->message);
		}
	}
	return ask_to_prepare(backup, "its owner gave it up, and the record still names it");
}

/* Disks that another had a moment ago may be locked for one more. */
static int order_apply(struct backup *backup, struct error *err)
{
	struct guard *guard = &backup->guard;
	const uint64_t due_ns = clock_now(guard->clock) + BUSY_MS * NSEC_PER_MSEC;
	const struct timespec step = { .tv_nsec = BUSY_STEP_MS * NSEC_PER_MSEC };
	int r;

	for (;;) {
		*err = (struct error){ 0 };
		r = guard->link->ops->apply(guard->link, backup->state.before.len,
					    clock_now(guard->clock) - backup->last_ns, err);
		if (r == 0 || err->status != EXIT_STATUS_BUSY || clock_now(guard->clock) > due_ns)
			return r;
		nanosleep(&step, NULL);
	}
}

static int apply(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	const struct buffer *state = &backup->state.before;
	struct error err = { 0 };
	int r = fd_write_at(backup->shared.fd, state->data, state->len, backup->shared.state_at);

	if (r < 0)
		return error_set(&guard->error, r, EXIT_STATUS_HOST,
				 "%s: its state cannot be kept: %s", guard->job->name,
				 strerror(-r));
	r = order_apply(backup, &err);
	return r < 0 ? error_set(&guard->error, r, err.status, "%s", err.message) : 0;
}

/* Until the VM knows what becomes of it: the arbiter may be out of reach for long. 1: it runs here. */
static int await_decision(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	bool applied = false;
	char why[160];

	for (;;) {
		switch (guard->link->ops->hear(guard->link, ANSWER_MS, why)) {
		case PROTECT_WORD_APPLY:
			if (applied)
				break;
			applied = true;
			if (apply(backup) < 0)
				return guard->error.code;
			break;
		case PROTECT_WORD_OVER:
			if (applied && !why[0])
				return 1;
			return give_up(backup, -ESRCH, why[0] ? why : "runs elsewhere");
		case PROTECT_WORD_GONE:
			return give_up(backup, -ESRCH, "its process has ended");
		default:
			break;
		}
	}
}

static int take_over(struct backup *backup, enum because because, const char *why)
{
	struct guard *guard = &backup->guard;
	struct error unheard = { 0 };
	int r = 0;

	if (!backup->last)
		return give_up(backup, -ENODATA, why[0] ? why : "was not whole yet");
	/* An owner that lives shall not take this silence for an end before the claim is made. */
	if (because == BECAUSE_LOST)
		pulse_stop(&backup->pulse);
	if (because != BECAUSE_PREPARE)
		r = ask_to_prepare(backup, because == BECAUSE_NO_ACK ? NULL : why);
	if (r < 0)
		return r;
	progress_guard(&guard->progress, "prepare", NULL, true);
	r = backup_let_go_of_disks(backup);
	if (r == 0)
		r = guard->link->ops->prepared(guard->link, &guard->error);
	pulse_stop(&backup->pulse);
	if (r == 0)
		r = await_decision(backup);
	if (r < 0)
		(void)!guard->link->ops->failed(guard->link, guard->error.message, &unheard);
	return r;
}

/* ---- life ---- */

static int begin(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	int r = guard_open(guard);

	if (r == 0)
		r = guard_hear_hello(guard);
	if (r == 0)
		r = pulse_start(&backup->pulse, guard);
	if (r == 0)
		r = backup_open(backup);
	if (r == 0)
		r = guard->link->ops->arrive(guard->link, guard->job->token, backup->shared.fd,
					     &guard->error);
	if (r == 0)
		r = guard->link->ops->back_up(guard->link, &guard->origin.session, guard->job->peer,
					      &guard->error);
	if (r == 0)
		r = guard_say_hello(guard);
	return r;
}

/* 1: the VM runs here. */
static int run(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	struct error why = { 0 };
	enum because because;
	int r = begin(backup);

	if (r < 0) {
		error_set(&guard->error, r, EXIT_STATUS_FAILED, "%s: cannot be a backup: %s",
			  guard->job->name, strerror(-r));
		guard_bye(guard, guard->error.message);
		guard_drain(guard);
		return r;
	}
	progress_guard(&guard->progress, "fill", NULL, true);
	because = receive(backup, &why);
	if (because == BECAUSE_PARTED) {
		r = await_record(backup, &why);
		return r < 0 ? r : take_over(backup, BECAUSE_PREPARE, why.message);
	}
	if (because != BECAUSE_WORTHLESS)
		return take_over(backup, because, why.message);
	r = error_set(&guard->error, why.code, why.status, "%s", why.message);
	if (backup->leaves)
		leave(backup);
	guard_bye(guard, guard->error.message);
	guard_drain(guard);
	return guard->error.code ? guard->error.code : r;
}

enum move_end protect_backup(const struct guard_settings *settings, struct error *err)
{
	struct backup *backup = calloc(1, sizeof(*backup));
	enum move_end end;
	int r;

	if (!backup) {
		error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory for a guard; free some");
		return MOVE_END_FAILED;
	}
	backup->shared.fd = -1;
	applier_init(&backup->applier);
	container_init(&backup->state);
	r = guard_init(&backup->guard, settings);
	if (r == 0)
		r = run(backup);
	end = r > 0 ? MOVE_END_RAN : MOVE_END_FAILED;
	if (r <= 0)
		*err = backup->guard.error;
	progress_end(&backup->guard.progress, end, &(struct move_numbers){ 0 }, err);
	backup_release(backup);
	free(backup);
	return end;
}
