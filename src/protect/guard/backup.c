/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/backup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "protect/guard/backup_internal.h"

#define NAMED_TRIES                                                                                \
	50 /* of a copy that the record may name any moment, as far as this host has heard */
#define NAMED_MS 100
#define ANSWER_MS 1000 /* between two looks at nothing, while the arbiter decides */
#define BUSY_MS 5000   /* for disks that their last holder lets go of, and the steps of that */
#define BUSY_STEP_MS 50

int backup_give_up(struct backup *backup, int r, const char *why)
{
	return error_set(&backup->guard.error, r, EXIT_STATUS_FAILED, "%s: %s",
			 backup->guard.job->name, why);
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
			return backup_give_up(backup, -ESRCH,
					      words[0] ? words
						       : "is not needed as a backup any more");
	}
	return backup_give_up(backup, -ESTALE, "this copy is not the one that the record names");
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
			return backup_give_up(backup, -ESRCH, why[0] ? why : "runs elsewhere");
		case PROTECT_WORD_GONE:
			return backup_give_up(backup, -ESRCH, "its process has ended");
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
		return backup_give_up(backup, -ENODATA, why[0] ? why : "was not whole yet");
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
	because = backup_receive(backup, &why);
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
