/* SPDX-License-Identifier: Apache-2.0 */

/* What an owner says between epochs, and what ends the listening. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "protect/guard/backup_internal.h"
#include "protect/record.h"

/* An owner that gives a copy up only begins with that: as long as the record names the copy, what was put out must stay in it. */
static enum because parted(const struct backup *backup)
{
	return backup->last ? BECAUSE_PARTED : BECAUSE_WORTHLESS;
}

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
		backup_give_up(backup, -ESRCH, why[0] ? why : "is not needed as a backup any more");
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

enum because backup_receive(struct backup *backup, struct error *err)
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
