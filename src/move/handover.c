/* SPDX-License-Identifier: Apache-2.0 */

#include "move/handover.h"

#include <string.h>

static const char *const phase_names[PHASES] = {
	[PHASE_CHECK] = "check",       [PHASE_RESERVE] = "reserve", [PHASE_REHEARSE] = "rehearse",
	[PHASE_DISKS] = "disks",       [PHASE_MEMORY] = "memory",   [PHASE_STOP] = "stop",
	[PHASE_STATE] = "state",       [PHASE_COMMIT] = "commit",   [PHASE_RUN] = "run",
	[PHASE_ANNOUNCE] = "announce", [PHASE_VERIFY] = "verify",   [PHASE_END] = "end",
};

static const char *const event_names[HANDOVER_EVENTS] = {
	[ON_DONE] = "done",
	[ON_FAILED] = "failed",
	[ON_CANCEL] = "cancel",
	[ON_LINK_LOST] = "link-lost",
	[ON_VM_DIED] = "vm-died",
	[ON_VM_ENDED] = "vm-ended",
	[ON_TICK] = "tick",
	[ON_POSTCOPY] = "postcopy",
	[ON_MARKED] = "marked",
	[ON_MARK_FAILED] = "mark-failed",
	[ON_MARK_UNKNOWN] = "mark-unknown",
	[ON_RESULT_RAN] = "result-ran",
	[ON_RESULT_NEVER] = "result-never",
	[ON_RESULT_UNKNOWN] = "result-unknown",
	[ON_REHEARSED] = "rehearsed",
	[ON_REFUSED] = "refused",
	[ON_READY] = "ready",
	[ON_CANCELLED] = "cancelled",
	[ON_COMMIT] = "commit",
	[ON_RAN] = "ran",
	[ON_NEVER] = "never",
	[ON_UNDECIDED] = "undecided",
	[ON_ASK] = "ask",
	[ON_VERIFIED] = "verified",
	[ON_NOT_VERIFIED] = "not-verified",
};

static const char *const action_names[HANDOVER_ACTIONS] = {
	"phase",	  "write-given", "cancel-vm",	   "resume-vm",	    "leave-vm",
	"clear-given",	  "settle-ran",	 "commit-vm",	   "take-never",    "end-vm",
	"send-rehearsed", "send-ready",	 "send-commit",	   "send-refused",  "send-cancel",
	"send-ran",	  "send-never",	 "send-undecided", "send-verified", "ask",
	"tell-in-doubt",  "tell-late",	 "refuse",	   "end",
};

const char *handover_phase_name(enum handover_phase phase)
{
	return (unsigned int)phase < PHASES ? phase_names[phase] : "?";
}

const char *handover_event_name(enum handover_event_kind kind)
{
	return (unsigned int)kind < HANDOVER_EVENTS ? event_names[kind] : "?";
}

const char *handover_action_name(unsigned int bit)
{
	return bit < HANDOVER_ACTIONS ? action_names[bit] : "?";
}

/* A message of another move, however late or forged, moves nothing. */
static bool is_foreign(const struct handover_event *event, const struct handover_id *id)
{
	if (event->kind < HANDOVER_FIRST_MESSAGE)
		return false;
	return event->id.generation != id->generation ||
	       memcmp(event->id.token, id->token, HANDOVER_TOKEN_BYTES) != 0;
}

/* ---- source ---- */

static uint32_t source_end(struct handover_source *source, enum handover_source_at at,
			   enum handover_why why, uint32_t actions)
{
	source->at = at;
	source->phase = PHASE_END;
	if (source->why == WHY_NONE)
		source->why = why;
	return actions | DO_END;
}

/* Before it was given: the VM runs as if nothing had been. */
static uint32_t source_keep(struct handover_source *source, enum handover_why why)
{
	return source_end(source, SOURCE_KEPT, why, DO_CANCEL_VM | DO_SEND_CANCEL);
}

/* The peer's word that ends a phase, besides this side's own work. */
static enum handover_event_kind word_of(enum handover_phase phase)
{
	switch (phase) {
	case PHASE_REHEARSE:
		return ON_REHEARSED;
	case PHASE_STATE:
		return ON_READY;
	default:
		return HANDOVER_EVENTS;
	}
}

static uint32_t source_advance(struct handover_source *source)
{
	if (!source->work_done || (word_of(source->phase) != HANDOVER_EVENTS && !source->peer_said))
		return 0;
	source->work_done = source->peer_said = false;
	source->phase++;
	if (source->phase != PHASE_COMMIT)
		return DO_PHASE;
	source->at = SOURCE_GIVING;
	return DO_WRITE_GIVEN;
}

static uint32_t source_hears_word(struct handover_source *source, enum handover_event_kind word)
{
	if (word_of(source->phase) != word) /* said again: harmless; too soon: no peer of ours */
		return word == ON_REHEARSED && source->phase > PHASE_REHEARSE ? 0 : DO_REFUSE;
	source->peer_said = true;
	return source_advance(source);
}

static uint32_t source_has(struct handover_source *source, const struct handover_event *event)
{
	switch (event->kind) {
	case ON_DONE:
		source->work_done |= event->phase == source->phase;
		return source_advance(source);
	case ON_POSTCOPY:
		source->postcopy |= source->phase == PHASE_MEMORY;
		return 0;
	case ON_REHEARSED:
	case ON_READY:
		return source_hears_word(source, event->kind);
	case ON_FAILED:
		return event->phase == source->phase ? source_keep(source, WHY_FAILED) : 0;
	case ON_CANCEL:
	case ON_CANCELLED:
		return source_keep(source, WHY_CANCELLED);
	case ON_LINK_LOST:
		return source_keep(source, WHY_LINK);
	case ON_REFUSED:
	case ON_NEVER:
		return source_keep(source, WHY_REFUSED);
	case ON_VM_DIED:
		source->vm_dead = true;
		return source_end(source, SOURCE_KEPT, WHY_VM_DIED, DO_SEND_CANCEL);
	default:
		return event->kind < HANDOVER_FIRST_MESSAGE ? 0 : DO_REFUSE;
	}
}

/* COMMIT may have been sent, or the VM's process may hold on to a mark: only the destination's word ends this. */
static uint32_t source_asks(struct handover_source *source)
{
	uint32_t actions = source->told ? DO_ASK : DO_ASK | DO_TELL_IN_DOUBT;

	source->at = SOURCE_GIVEN;
	source->told = true;
	return actions;
}

static uint32_t source_gives_up(struct handover_source *source, enum handover_why why)
{
	source->give_up = true;
	source->why = why;
	return 0;
}

/* This function alone lets COMMIT out: while it has not, nobody can have acted on it. */
static uint32_t source_marked(struct handover_source *source)
{
	if (source->give_up)
		return source_end(source, SOURCE_KEPT, source->why, DO_RESUME_VM | DO_SEND_CANCEL);
	source->at = SOURCE_GIVEN;
	return DO_SEND_COMMIT;
}

static uint32_t source_giving(struct handover_source *source, const struct handover_event *event)
{
	switch (event->kind) {
	case ON_MARKED:
		return source_marked(source);
	case ON_MARK_FAILED:
		return source_keep(source, WHY_FAILED);
	case ON_VM_DIED:
		source->vm_dead = true;
		return source_asks(source) | DO_SEND_CANCEL;
	case ON_MARK_UNKNOWN:
		return source_asks(source) | DO_SEND_CANCEL;
	case ON_LINK_LOST:
		return source_gives_up(source, WHY_LINK);
	case ON_CANCEL:
	case ON_CANCELLED:
		return source_gives_up(source, WHY_CANCELLED);
	case ON_REFUSED:
	case ON_NEVER:
		return source_gives_up(source, WHY_REFUSED);
	case ON_REHEARSED:
	case ON_READY:
		return 0;
	default:
		return event->kind < HANDOVER_FIRST_MESSAGE ? 0 : DO_REFUSE;
	}
}

static uint32_t source_learns_ran(struct handover_source *source)
{
	uint32_t actions = source->vm_dead ? DO_SETTLE_RAN : DO_LEAVE_VM;

	source->at = SOURCE_LEFT;
	source->phase = source->postcopy ? PHASE_RUN : PHASE_VERIFY;
	source->why = WHY_NONE;
	return source->postcopy ? actions | DO_PHASE : actions;
}

static uint32_t source_given(struct handover_source *source, const struct handover_event *event)
{
	switch (event->kind) {
	case ON_RAN:
		return source_learns_ran(source);
	case ON_NEVER:
		return source_end(source, SOURCE_KEPT, WHY_REFUSED,
				  source->vm_dead ? DO_CLEAR_GIVEN : DO_RESUME_VM);
	case ON_LINK_LOST:
	case ON_FAILED:	 /* COMMIT could not be sent: it may have been all the same */
	case ON_REFUSED: /* neither of these two is a promise */
	case ON_CANCELLED:
	case ON_TICK:
		return source_asks(source);
	case ON_CANCEL:
		return DO_TELL_LATE;
	case ON_VM_DIED:
		source->vm_dead = true;
		return 0;
	case ON_REHEARSED:
	case ON_READY:
	case ON_UNDECIDED:
		return 0;
	default:
		return event->kind < HANDOVER_FIRST_MESSAGE ? 0 : DO_REFUSE;
	}
}

static uint32_t source_kept(struct handover_source *source, const struct handover_event *event)
{
	switch (event->kind) {
	case ON_VM_DIED: /* it was to resume and could not: its mark may still stand */
		source->vm_dead = true;
		return DO_CLEAR_GIVEN;
	case ON_RAN:
	case ON_COMMIT:
	case ON_ASK:
	case ON_VERIFIED:
	case ON_NOT_VERIFIED:
		return DO_REFUSE;
	default:
		return 0;
	}
}

/* Of post-copy: the other side has all of it. */
static uint32_t source_has_served(struct handover_source *source)
{
	source->postcopy = false;
	source->phase = PHASE_VERIFY;
	return 0;
}

static uint32_t source_left(struct handover_source *source, const struct handover_event *event)
{
	switch (event->kind) {
	case ON_DONE:
	case ON_FAILED:
		if (event->phase != PHASE_RUN || source->phase != PHASE_RUN)
			return 0;
		return event->kind == ON_DONE ? source_has_served(source)
					      : source_end(source, SOURCE_LEFT, WHY_FAILED, 0);
	case ON_VM_DIED: /* as it should; perhaps before its mark said where it lives */
		source->vm_dead = true;
		return DO_SETTLE_RAN;
	case ON_VERIFIED: /* with all of its memory, or without needing it */
		source->postcopy = false;
		return source_end(source, SOURCE_LEFT, WHY_NONE, 0);
	case ON_NOT_VERIFIED:
		source->postcopy = false;
		return source_end(source, SOURCE_LEFT, WHY_FAILED, 0);
	case ON_LINK_LOST:
		return source_end(source, SOURCE_LEFT, WHY_LINK, 0);
	case ON_CANCEL:
		return DO_TELL_LATE;
	case ON_NEVER:
	case ON_COMMIT:
	case ON_ASK:
		return DO_REFUSE;
	default:
		return 0;
	}
}

uint32_t handover_source_start(const struct handover_id *id, struct handover_source *ret_source)
{
	*ret_source = (struct handover_source){ .id = *id, .phase = PHASE_CHECK };
	return DO_PHASE;
}

uint32_t handover_source_restart(const struct handover_id *id, enum handover_mark mark,
				 bool vm_lives, struct handover_source *ret_source)
{
	struct handover_source *source = ret_source;

	*source =
		(struct handover_source){ .id = *id, .phase = PHASE_COMMIT, .vm_dead = !vm_lives };
	switch (mark) {
	case HANDOVER_OPEN:
		return source_asks(source);
	case HANDOVER_RAN:
		return source_end(source, SOURCE_LEFT, WHY_NONE, vm_lives ? DO_LEAVE_VM : 0);
	case HANDOVER_NEVER:
		return source_end(source, SOURCE_KEPT, WHY_NONE,
				  vm_lives ? DO_RESUME_VM : DO_CLEAR_GIVEN);
	default:
		return source_end(source, SOURCE_KEPT, WHY_NONE, 0);
	}
}

uint32_t handover_source_step(struct handover_source *source, const struct handover_event *event)
{
	static uint32_t (*const steps[])(struct handover_source *,
					 const struct handover_event *) = {
		[SOURCE_HAS] = source_has,     [SOURCE_GIVING] = source_giving,
		[SOURCE_GIVEN] = source_given, [SOURCE_KEPT] = source_kept,
		[SOURCE_LEFT] = source_left,
	};

	if (is_foreign(event, &source->id))
		return DO_REFUSE;
	return steps[source->at](source, event);
}

bool handover_source_lost(const struct handover_source *source)
{
	return source->at == SOURCE_LEFT && source->phase == PHASE_END && source->postcopy;
}

/* ---- destination ---- */

/* Never is said when both hold: nobody may write `ran` any more, and no process is left that could have. */
static uint32_t destination_closed(struct handover_destination *destination)
{
	if (!destination->never_durable)
		return 0;
	if (!destination->vm_ended)
		return DO_END_VM;
	destination->at = DESTINATION_CLOSED;
	destination->phase = PHASE_END;
	return DO_SEND_NEVER | DO_END;
}

static uint32_t destination_close(struct handover_destination *destination, enum handover_why why,
				  uint32_t actions)
{
	destination->at = DESTINATION_CLOSES;
	destination->why = why;
	return actions | DO_TAKE_NEVER;
}

static uint32_t destination_advance(struct handover_destination *destination)
{
	switch (destination->phase) {
	case PHASE_REHEARSE:
		destination->phase = PHASE_DISKS;
		return DO_SEND_REHEARSED | DO_PHASE;
	case PHASE_MEMORY: /* the stop is the source's */
		destination->phase = PHASE_STATE;
		return DO_PHASE;
	case PHASE_STATE:
		destination->phase = PHASE_COMMIT;
		destination->at = DESTINATION_READY;
		return DO_SEND_READY;
	default:
		destination->phase++;
		return DO_PHASE;
	}
}

/* What closes a destination that has not been told to commit, whichever phase it is in. */
static uint32_t destination_before_commit(struct handover_destination *destination,
					  const struct handover_event *event)
{
	switch (event->kind) {
	case ON_CANCEL:
		return destination_close(destination, WHY_CANCELLED, DO_SEND_CANCEL);
	case ON_CANCELLED:
		return destination_close(destination, WHY_CANCELLED, 0);
	case ON_LINK_LOST:
		return destination_close(destination, WHY_LINK, 0);
	case ON_VM_DIED:
		destination->vm_ended = true;
		return destination_close(destination, WHY_VM_DIED, DO_SEND_REFUSED);
	case ON_ASK:
		destination->asked = true;
		return destination_close(destination, WHY_CANCELLED, 0);
	case ON_TICK:
		return 0;
	default:
		return event->kind < HANDOVER_FIRST_MESSAGE ? 0 : DO_REFUSE;
	}
}

static uint32_t destination_loads(struct handover_destination *destination,
				  const struct handover_event *event)
{
	if (event->kind == ON_DONE)
		return event->phase == destination->phase ? destination_advance(destination) : 0;
	if (event->kind == ON_POSTCOPY) {
		destination->postcopy |= destination->phase == PHASE_MEMORY;
		return 0;
	}
	if (event->kind == ON_FAILED && event->phase == destination->phase)
		return destination_close(destination, WHY_FAILED, DO_SEND_REFUSED);
	return destination_before_commit(destination, event);
}

static uint32_t destination_ready(struct handover_destination *destination,
				  const struct handover_event *event)
{
	if (event->kind == ON_FAILED)
		return destination_close(destination, WHY_FAILED, DO_SEND_REFUSED);
	if (event->kind != ON_COMMIT)
		return destination_before_commit(destination, event);
	destination->at = DESTINATION_COMMITS;
	return DO_COMMIT_VM;
}

/* What is missing of its memory will never come: it is this host's, and ends. */
static uint32_t destination_loses(struct handover_destination *destination, enum handover_why why)
{
	destination->why = why;
	destination->phase = PHASE_END;
	return DO_END_VM | DO_END;
}

/* `ran` is durable: this host owns the VM, whether or not its process still lives. */
static uint32_t destination_runs_now(struct handover_destination *destination)
{
	destination->at = DESTINATION_RUNS;
	if (destination->phase == PHASE_END || destination->vm_ended) {
		destination->phase = PHASE_END;
		return DO_SEND_RAN | DO_END;
	}
	if (destination->postcopy && destination->link_lost)
		return DO_SEND_RAN | destination_loses(destination, WHY_LINK);
	destination->why = WHY_NONE;
	destination->phase = destination->postcopy ? PHASE_RUN : PHASE_ANNOUNCE;
	return DO_SEND_RAN | DO_PHASE;
}

static uint32_t destination_commits(struct handover_destination *destination,
				    const struct handover_event *event)
{
	switch (event->kind) {
	case ON_RESULT_RAN:
		return destination_runs_now(destination);
	case ON_RESULT_NEVER: /* the daemon was first */
		destination->at = DESTINATION_CLOSES;
		destination->why = WHY_CANCELLED;
		destination->never_durable = true;
		return destination_closed(destination);
	case ON_RESULT_UNKNOWN: /* trying to write never tells which it is */
		return destination_close(destination, WHY_FAILED, 0);
	case ON_VM_DIED:
		destination->vm_ended = true;
		return destination_close(destination, WHY_VM_DIED, 0);
	case ON_CANCEL:
		return DO_TELL_LATE;
	case ON_ASK:
		destination->asked = true;
		return 0;
	case ON_TICK:
		return destination->asked ? DO_SEND_UNDECIDED : 0;
	default:
		return 0;
	}
}

/* A daemon's view: the process may commit at the order of its mover, until never is written before. */
static uint32_t destination_open(struct handover_destination *destination,
				 const struct handover_event *event)
{
	if (event->kind == ON_LINK_LOST) /* the mover's business */
		return 0;
	return destination_before_commit(destination, event);
}

static uint32_t destination_tries_again(const struct handover_destination *destination)
{
	uint32_t actions = destination->never_durable ? DO_END_VM : DO_TAKE_NEVER;

	return destination->asked ? actions | DO_SEND_UNDECIDED : actions;
}

static uint32_t destination_closes(struct handover_destination *destination,
				   const struct handover_event *event)
{
	switch (event->kind) {
	case ON_RESULT_NEVER:
		destination->never_durable = true;
		return destination_closed(destination);
	case ON_RESULT_RAN:
		return destination->never_durable ? 0 : destination_runs_now(destination);
	case ON_RESULT_UNKNOWN:
		return destination->asked ? DO_SEND_UNDECIDED : 0;
	case ON_VM_DIED:
		destination->vm_ended = true;
		return destination_closed(destination);
	case ON_ASK:
		destination->asked = true;
		return 0;
	case ON_TICK:
		return destination_tries_again(destination);
	default:
		return 0;
	}
}

/* The rest of memory, announce and verify: nothing that fails here goes back, for the VM has run. */
static uint32_t destination_after_run(struct handover_destination *destination,
				      const struct handover_event *event)
{
	if (event->phase != destination->phase || destination->phase == PHASE_END)
		return 0;
	if (destination->phase == PHASE_RUN && event->kind == ON_FAILED)
		return destination_loses(destination, WHY_FAILED);
	if (destination->phase == PHASE_RUN)
		destination->postcopy = false;
	if (event->kind == ON_FAILED)
		destination->why = WHY_FAILED;
	destination->phase++;
	return destination->phase == PHASE_END ? DO_SEND_VERIFIED | DO_END : DO_PHASE;
}

/* Whatever of its memory has not come, nobody will ask for. */
static uint32_t destination_ended(struct handover_destination *destination)
{
	destination->vm_ended = true;
	destination->postcopy = false;
	destination->phase = PHASE_END;
	return DO_SEND_VERIFIED | DO_END;
}

static uint32_t destination_runs(struct handover_destination *destination,
				 const struct handover_event *event)
{
	switch (event->kind) {
	case ON_DONE:
	case ON_FAILED:
		return destination_after_run(destination, event);
	case ON_LINK_LOST:
		return destination->phase == PHASE_RUN ? destination_loses(destination, WHY_LINK)
						       : 0;
	case ON_COMMIT:
	case ON_ASK:
		return DO_SEND_RAN;
	case ON_CANCEL:
		return DO_TELL_LATE;
	case ON_VM_DIED:
		destination->vm_ended = true;
		destination->why = WHY_VM_DIED;
		destination->phase = PHASE_END;
		return DO_END;
	case ON_VM_ENDED:
		return destination_ended(destination);
	default:
		return 0;
	}
}

static uint32_t destination_is_closed(struct handover_destination *destination,
				      const struct handover_event *event)
{
	(void)destination;
	return event->kind == ON_COMMIT || event->kind == ON_ASK ? DO_SEND_NEVER : 0;
}

uint32_t handover_destination_start(const struct handover_id *id, uint64_t known,
				    struct handover_destination *ret_destination)
{
	*ret_destination = (struct handover_destination){ .id = *id, .phase = PHASE_RESERVE };
	if (id->generation <= known)
		return destination_close(ret_destination, WHY_REFUSED, DO_SEND_REFUSED);
	return DO_PHASE;
}

uint32_t handover_destination_restart(const struct handover_id *id, enum handover_mark mark,
				      bool vm_lives, struct handover_destination *ret_destination)
{
	struct handover_destination *destination = ret_destination;

	*destination = (struct handover_destination){
		.id = *id,
		.at = DESTINATION_OPEN,
		.phase = PHASE_END,
		.vm_ended = !vm_lives,
	};
	switch (mark) {
	case HANDOVER_RAN:
		destination->at = DESTINATION_RUNS;
		return 0;
	case HANDOVER_NEVER:
		destination->at = DESTINATION_CLOSES;
		destination->never_durable = true;
		return destination_closed(destination);
	default: /* no process, no result: none may come any more */
		return vm_lives ? 0 : destination_close(destination, WHY_VM_DIED, 0);
	}
}

uint32_t handover_destination_step(struct handover_destination *destination,
				   const struct handover_event *event)
{
	static uint32_t (*const steps[])(struct handover_destination *,
					 const struct handover_event *) = {
		[DESTINATION_LOADS] = destination_loads,
		[DESTINATION_READY] = destination_ready,
		[DESTINATION_COMMITS] = destination_commits,
		[DESTINATION_OPEN] = destination_open,
		[DESTINATION_CLOSES] = destination_closes,
		[DESTINATION_RUNS] = destination_runs,
		[DESTINATION_CLOSED] = destination_is_closed,
	};

	if (is_foreign(event, &destination->id))
		return DO_REFUSE;
	destination->link_lost |= event->kind == ON_LINK_LOST;
	return steps[destination->at](destination, event);
}

bool handover_destination_lost(const struct handover_destination *destination)
{
	return destination->at == DESTINATION_RUNS && destination->phase == PHASE_END &&
	       destination->postcopy;
}

/* ---- start ---- */

enum handover_start handover_may_start(const struct handover_marks *marks)
{
	bool came_back = marks->taken == HANDOVER_RAN &&
			 marks->taken_generation > marks->given_generation;

	if (!came_back && marks->given == HANDOVER_OPEN)
		return START_ASK_FIRST;
	if (!came_back && marks->given == HANDOVER_RAN)
		return START_LIVES_THERE;
	if (marks->taken == HANDOVER_OPEN || marks->taken == HANDOVER_NEVER)
		return START_NOT_TAKEN;
	return START_MAY;
}
