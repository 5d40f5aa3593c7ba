/* SPDX-License-Identifier: Apache-2.0 */

#include "protect/ownership.h"

#include <string.h>

static const char *const mode_names[OWNERSHIP_MODES] = {
	[OWNERSHIP_NONE] = "none",	 [OWNERSHIP_SOLO] = "solo",
	[OWNERSHIP_CLAIMED] = "claimed", [OWNERSHIP_PROTECTED] = "protected",
	[OWNERSHIP_STOPPED] = "stopped",
};

static const char *const event_names[OWNERSHIP_EVENTS] = {
	[WHEN_SYNC] = "sync",
	[WHEN_GATE] = "gate",
	[WHEN_CUT] = "cut",
	[WHEN_GIVEN_UP] = "given-up",
	[WHEN_OFF] = "off",
	[WHEN_WHOLE] = "whole",
	[WHEN_SUSPECTED] = "suspected",
	[WHEN_PREPARED] = "prepared",
	[WHEN_RUNS_HELD] = "runs-held",
	[WHEN_APPLY_FAILED] = "apply-failed",
	[WHEN_CLAIMANT_LOST] = "claimant-lost",
	[WHEN_TICK] = "tick",
	[WHEN_WON] = "won",
	[WHEN_LOST] = "lost",
	[WHEN_UNKNOWN] = "unknown",
	[WHEN_READ] = "read",
	[WHEN_ACKED] = "acked",
};

static const char *const action_names[OWNERSHIP_ACTIONS] = {
	"gate",	  "stop-vm", "discard",	 "run", "prepare", "apply", "release",
	"replay", "open",    "announce", "ack", "swap",	   "end",
};

static const char *const role_names[OWNERSHIP_ROLES] = {
	[OWNERSHIP_STARTS] = "starts",		[OWNERSHIP_IS_SOLO] = "solo",
	[OWNERSHIP_IS_PROTECTED] = "protected", [OWNERSHIP_IS_DEPOSED] = "deposed",
	[OWNERSHIP_BACKS_UP] = "backs-up",	[OWNERSHIP_CLAIMS] = "claims",
	[OWNERSHIP_HAS_ENDED] = "has-ended",
};

const char *ownership_mode_name(enum ownership_mode mode)
{
	return (unsigned int)mode < OWNERSHIP_MODES ? mode_names[mode] : "?";
}

const char *ownership_event_name(enum ownership_event_kind kind)
{
	return (unsigned int)kind < OWNERSHIP_EVENTS ? event_names[kind] : "?";
}

const char *ownership_action_name(unsigned int bit)
{
	return bit < OWNERSHIP_ACTIONS ? action_names[bit] : "?";
}

const char *ownership_role_name(enum ownership_role role)
{
	return (unsigned int)role < OWNERSHIP_ROLES ? role_names[role] : "?";
}

bool ownership_id_equal(const struct ownership_id *a, const struct ownership_id *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static bool is_nobody(const struct ownership_id *id)
{
	return ownership_id_equal(id, &(struct ownership_id){ 0 });
}

static uint32_t end(struct ownership *ownership, uint32_t actions)
{
	ownership->role = OWNERSHIP_HAS_ENDED;
	return actions | THEN_END;
}

/* ---- swaps: what each role wants the record to be ---- */

static bool has_all_of(const struct ownership *ownership, uint64_t epoch)
{
	return !ownership->gated || ownership->acked >= epoch;
}

/* OWNERSHIP_NONE: as it is. */
static enum ownership_mode wanted_mode(const struct ownership *ownership)
{
	switch (ownership->role) {
	case OWNERSHIP_STARTS:
		return OWNERSHIP_SOLO;
	case OWNERSHIP_IS_SOLO:
	case OWNERSHIP_IS_PROTECTED:
		if (ownership->give_up)
			return OWNERSHIP_SOLO;
		if (ownership->off && has_all_of(ownership, ownership->off_epoch))
			return OWNERSHIP_STOPPED;
		return ownership->role == OWNERSHIP_IS_SOLO && ownership->gated &&
				       ownership->acked >= ownership->gate_epoch
			       ? OWNERSHIP_PROTECTED
			       : OWNERSHIP_NONE;
	case OWNERSHIP_IS_DEPOSED:
		return ownership->take_back ? OWNERSHIP_SOLO : OWNERSHIP_NONE;
	case OWNERSHIP_BACKS_UP:
		return ownership->prepared ? OWNERSHIP_CLAIMED : OWNERSHIP_NONE;
	case OWNERSHIP_CLAIMS:
		return ownership->runs_held ? OWNERSHIP_SOLO : OWNERSHIP_NONE;
	default:
		return OWNERSHIP_NONE;
	}
}

static uint32_t ask(struct ownership *ownership)
{
	enum ownership_mode mode = wanted_mode(ownership);

	if (mode == OWNERSHIP_NONE || ownership->asked || ownership->waits)
		return 0;
	ownership->want = (struct ownership_record){
		.revision = ownership->record.revision,
		.generation = ownership->record.generation + 1,
		.mode = mode,
		.owner = ownership->me,
	};
	if (mode == OWNERSHIP_PROTECTED)
		ownership->want.backup = ownership->session;
	if (mode == OWNERSHIP_CLAIMED)
		ownership->want.from = ownership->record.owner;
	ownership->asked = true;
	return THEN_SWAP;
}

/* ---- the record says something new ---- */

static void forget_copy(struct ownership *ownership)
{
	ownership->session = (struct ownership_id){ 0 };
	ownership->acked = ownership->gate_epoch = ownership->ungated = 0;
	ownership->gated = ownership->give_up = false;
}

static uint32_t become_solo(struct ownership *ownership)
{
	ownership->role = OWNERSHIP_IS_SOLO;
	ownership->take_back = false;
	forget_copy(ownership);
	return THEN_OPEN;
}

static uint32_t owner_follows_own(struct ownership *ownership)
{
	switch (ownership->record.mode) {
	case OWNERSHIP_SOLO:
		return become_solo(ownership);
	case OWNERSHIP_PROTECTED:
		ownership->role = OWNERSHIP_IS_PROTECTED;
		/* A copy that was left meanwhile: what it acknowledged still counts, and nothing else does. */
		ownership->give_up |= !ownership_id_equal(&ownership->record.backup,
							  &ownership->session);
		return 0;
	default: /* stopped by itself, or nothing that it ever asked for */
		return end(ownership, THEN_STOP_VM);
	}
}

static uint32_t owner_follows(struct ownership *ownership)
{
	const struct ownership_record *record = &ownership->record;

	if (ownership_id_equal(&record->owner, &ownership->me))
		return owner_follows_own(ownership);
	if (record->mode != OWNERSHIP_CLAIMED || !ownership_id_equal(&record->from, &ownership->me))
		return end(ownership, THEN_STOP_VM);
	ownership->role = OWNERSHIP_IS_DEPOSED;
	ownership->take_back = false;
	return 0;
}

static uint32_t start_follows(struct ownership *ownership)
{
	if (ownership->record.mode != OWNERSHIP_SOLO ||
	    !ownership_id_equal(&ownership->record.owner, &ownership->me))
		return end(ownership, 0);
	ownership->role = OWNERSHIP_IS_SOLO;
	return THEN_RUN | THEN_OPEN;
}

static uint32_t backup_follows(struct ownership *ownership)
{
	const struct ownership_record *record = &ownership->record;

	if (record->mode == OWNERSHIP_CLAIMED &&
	    ownership_id_equal(&record->owner, &ownership->me)) {
		ownership->role = OWNERSHIP_CLAIMS;
		return THEN_APPLY;
	}
	if (record->mode == OWNERSHIP_PROTECTED &&
	    ownership_id_equal(&record->backup, &ownership->session)) {
		ownership->named = true;
		return 0;
	}
	/* Before it is named the record says nothing of it. */
	return ownership->named || record->mode == OWNERSHIP_STOPPED ? end(ownership, THEN_DISCARD)
								     : 0;
}

static uint32_t claimant_follows(struct ownership *ownership)
{
	if (!ownership_id_equal(&ownership->record.owner, &ownership->me) ||
	    ownership->record.mode != OWNERSHIP_SOLO)
		return end(ownership, THEN_STOP_VM);
	ownership->session = (struct ownership_id){ 0 };
	ownership->cut = ownership->whole;
	ownership->acked = 0;
	ownership->runs_held = ownership->prepared = false;
	ownership->role = OWNERSHIP_IS_SOLO;
	return THEN_REPLAY | THEN_OPEN | THEN_ANNOUNCE;
}

static uint32_t follow(struct ownership *ownership, const struct ownership_record *record)
{
	if (record->revision <= ownership->record.revision)
		return 0;
	ownership->record = *record;
	ownership->waits = false;
	switch (ownership->role) {
	case OWNERSHIP_STARTS:
		return start_follows(ownership);
	case OWNERSHIP_IS_SOLO:
	case OWNERSHIP_IS_PROTECTED:
	case OWNERSHIP_IS_DEPOSED:
		return owner_follows(ownership);
	case OWNERSHIP_BACKS_UP:
		return backup_follows(ownership);
	case OWNERSHIP_CLAIMS:
		return claimant_follows(ownership);
	default:
		return 0;
	}
}

static uint32_t arbiter_says(struct ownership *ownership, const struct ownership_event *event)
{
	switch (event->kind) {
	case WHEN_UNKNOWN:
		ownership->waits |= ownership->asked;
		ownership->asked = false;
		return 0;
	case WHEN_WON:
	case WHEN_LOST:
		/* One that is not newer than what is known tells nothing: asked again later. */
		ownership->waits |= ownership->asked;
		ownership->asked = false;
		return follow(ownership, &event->record);
	default:
		return follow(ownership, &event->record);
	}
}

/* ---- the owner ---- */

static uint32_t owner_gates(struct ownership *ownership)
{
	if (ownership->role != OWNERSHIP_IS_SOLO || ownership->gated ||
	    is_nobody(&ownership->session) || ownership->off)
		return 0;
	ownership->gated = true;
	ownership->ungated = ownership->cut;
	ownership->gate_epoch = ownership->cut + 1;
	return THEN_GATE;
}

/* Between the gate and the first cut behind it may lie numbers that filled the copy, and were never cut. */
static uint32_t owner_cut(struct ownership *ownership, uint64_t epoch)
{
	if (epoch <= ownership->cut)
		return 0;
	if (ownership->gated && ownership->cut < ownership->gate_epoch)
		ownership->gate_epoch = epoch;
	ownership->cut = epoch;
	return 0;
}

static bool was_cut(const struct ownership *ownership, uint64_t epoch)
{
	return epoch <= ownership->cut &&
	       (epoch <= ownership->ungated || epoch >= ownership->gate_epoch);
}

static uint32_t owner_gives_up(struct ownership *ownership)
{
	if (ownership->gated)
		ownership->give_up = true; /* not solo before that is won */
	else
		forget_copy(ownership);
	return 0;
}

static uint32_t owner_hears_ack(struct ownership *ownership, const struct ownership_event *event)
{
	if (is_nobody(&ownership->session) ||
	    !ownership_id_equal(&event->session, &ownership->session) ||
	    event->epoch <= ownership->acked || !was_cut(ownership, event->epoch))
		return 0;
	ownership->acked = event->epoch;
	return ownership->gated ? THEN_RELEASE : 0;
}

/* Of whoever runs the guest, and said once: also before it may ask for anything. */
static uint32_t guest_is_off(struct ownership *ownership, uint64_t epoch)
{
	ownership->off = true;
	ownership->off_epoch = epoch;
	return 0;
}

static uint32_t owner_step(struct ownership *ownership, const struct ownership_event *event)
{
	switch (event->kind) {
	case WHEN_SYNC:
		if (ownership->role == OWNERSHIP_IS_SOLO && is_nobody(&ownership->session))
			ownership->session = event->session;
		return 0;
	case WHEN_GATE:
		return owner_gates(ownership);
	case WHEN_CUT:
		return owner_cut(ownership, event->epoch);
	case WHEN_GIVEN_UP:
		return owner_gives_up(ownership);
	case WHEN_OFF:
		return guest_is_off(ownership, event->epoch);
	case WHEN_ACKED:
		return owner_hears_ack(ownership, event);
	default:
		return 0;
	}
}

static uint32_t deposed_step(struct ownership *ownership, const struct ownership_event *event)
{
	switch (event->kind) {
	case WHEN_CLAIMANT_LOST:
		ownership->take_back = true;
		return 0;
	case WHEN_OFF:
		return guest_is_off(ownership, event->epoch);
	default:
		return 0;
	}
}

/* ---- the backup ---- */

static uint32_t backup_has(struct ownership *ownership, uint64_t epoch)
{
	if (epoch <= ownership->whole || ownership->prepared)
		return 0;
	ownership->whole = ownership->acked = epoch;
	return THEN_ACK;
}

static uint32_t backup_suspects(struct ownership *ownership)
{
	return ownership->named && ownership->whole && !ownership->prepared ? THEN_PREPARE : 0;
}

static uint32_t backup_step(struct ownership *ownership, const struct ownership_event *event)
{
	switch (event->kind) {
	case WHEN_WHOLE:
		return backup_has(ownership, event->epoch);
	case WHEN_SUSPECTED:
		return backup_suspects(ownership);
	case WHEN_PREPARED:
		ownership->prepared |= ownership->named && ownership->whole;
		return 0;
	case WHEN_GIVEN_UP: /* its owner sends no more and says so */
		return ownership->named ? 0 : end(ownership, THEN_DISCARD);
	default:
		return 0;
	}
}

static uint32_t claimant_step(struct ownership *ownership, const struct ownership_event *event)
{
	switch (event->kind) {
	case WHEN_RUNS_HELD:
		ownership->runs_held = true;
		return 0;
	case WHEN_OFF:
		return guest_is_off(ownership, event->epoch);
	case WHEN_APPLY_FAILED: /* it has put out nothing; whom it was claimed from wins it back */
		return ownership->runs_held ? 0 : end(ownership, THEN_STOP_VM);
	default:
		return 0;
	}
}

/* ---- all ---- */

static uint32_t role_step(struct ownership *ownership, const struct ownership_event *event)
{
	switch (ownership->role) {
	case OWNERSHIP_IS_SOLO:
	case OWNERSHIP_IS_PROTECTED:
		return owner_step(ownership, event);
	case OWNERSHIP_IS_DEPOSED:
		return deposed_step(ownership, event);
	case OWNERSHIP_BACKS_UP:
		return backup_step(ownership, event);
	case OWNERSHIP_CLAIMS:
		return claimant_step(ownership, event);
	default:
		return 0;
	}
}

uint32_t ownership_step(struct ownership *ownership, const struct ownership_event *event)
{
	uint32_t actions;

	if (ownership->role == OWNERSHIP_HAS_ENDED)
		return 0;
	if (event->kind == WHEN_TICK)
		ownership->waits = false;
	if (event->kind >= WHEN_WON && event->kind <= WHEN_READ)
		actions = arbiter_says(ownership, event);
	else
		actions = role_step(ownership, event);
	return actions | ask(ownership);
}

uint32_t ownership_start(const struct ownership_id *me, const struct ownership_record *record,
			 const struct ownership_id *dead, struct ownership *ret_ownership)
{
	bool ours = record->mode == OWNERSHIP_SOLO && !is_nobody(dead) &&
		    ownership_id_equal(&record->owner, dead);

	*ret_ownership =
		(struct ownership){ .me = *me, .role = OWNERSHIP_STARTS, .record = *record };
	if (record->mode != OWNERSHIP_NONE && record->mode != OWNERSHIP_STOPPED && !ours)
		return end(ret_ownership, 0);
	return ask(ret_ownership);
}

void ownership_back_up(const struct ownership_id *me, const struct ownership_id *session,
		       const struct ownership_record *record, struct ownership *ret_ownership)
{
	*ret_ownership = (struct ownership){
		.me = *me,
		.session = *session,
		.role = OWNERSHIP_BACKS_UP,
		.record = *record,
		.named = record->mode == OWNERSHIP_PROTECTED &&
			 ownership_id_equal(&record->backup, session),
	};
}
