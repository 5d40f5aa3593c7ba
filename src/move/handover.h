/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The hand-over of a VM as a pure function: an event comes in, the state changes and the actions come out; no clock, no memory, no
 * system call. The movers of both sides, the daemons that settle what was left in doubt, the exhaustive exploration, the model's
 * traces and the simulation all call these functions.
 *
 *   source:      check reserve rehearse disks memory stop state | given -> COMMIT -> (RAN: leave | NEVER: resume)
 *   destination: reserve rehearse disks memory state, READY     | COMMIT -> `T -> ran` durable -> run | `T -> never`
 *
 * The commit point is ONE durable, first-wins write at the destination (move/marks.h). Before COMMIT may have been sent, any failure
 * leaves the source running as if nothing had been. After it the source stands still until it learns RAN or NEVER of this very
 * token; no timeout and no read of its own decides. NEVER is said only when the never-mark is durable AND the destination's VM
 * process has ended. (Facts and diagrams: docs/protocol.md.)
 *
 * Two of these states may live for one token on one host, the mover's and, from a mark, its daemon's. They need not know of each
 * other: the mark decides between them, and every message may come late, twice or never.
 *
 * Post-copy (ON_POSTCOPY in PHASE_MEMORY): commit and run follow as ever, with the same rules; the rest of memory then comes in
 * PHASE_RUN of both sides, and until its end neither has a whole copy. Where that fails the VM is lost: its process at the
 * destination, which owns it, is ended.
 *
 * Place kept:
 *   - A VM with a record (PROTECT): DO_WRITE_GIVEN and DO_SEND_COMMIT become "swap the record", ON_MARKED "the swap won",
 *     ON_MARK_FAILED "the swap lost for certain", ON_MARK_UNKNOWN stays in doubt until a swap of ours gets a definite answer;
 *     the destination's `ran` is the confirming swap.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

enum handover_phase {
	PHASE_CHECK,
	PHASE_RESERVE,
	PHASE_REHEARSE,
	PHASE_DISKS,
	PHASE_MEMORY,
	PHASE_STOP,
	PHASE_STATE,
	PHASE_COMMIT,
	PHASE_RUN,
	PHASE_ANNOUNCE,
	PHASE_VERIFY,
	PHASE_END,
	PHASES,
};
const char *handover_phase_name(enum handover_phase phase);

#define HANDOVER_TOKEN_BYTES 16

/* Which move: a token is minted for one move and never used again; a VM's generation grows with each move. */
struct handover_id {
	uint8_t token[HANDOVER_TOKEN_BYTES];
	uint64_t generation; /* of the ownership that the move makes */
};

enum handover_event_kind {
	/* of this host */
	ON_DONE,   /* the work of event.phase is done; of another phase than the current: ignored */
	ON_FAILED, /* it failed */
	ON_CANCEL, /* somebody here wants the move ended */
	ON_LINK_LOST, /* to the other mover */
	ON_VM_DIED,   /* the VM's process has ended: seen by its end, not by a silent socket */
	ON_VM_ENDED, /* destination: likewise, by its guest's will or somebody's there, who miss nothing */
	ON_TICK,	 /* some time went by: what waits asks again */
	ON_POSTCOPY,	 /* in PHASE_MEMORY, before it is done: the rest follows in PHASE_RUN */
	ON_MARKED,	 /* source: `given` is durable */
	ON_MARK_FAILED,	 /* source: the VM's process says that it could not; it has not given */
	ON_MARK_UNKNOWN, /* source: no answer from the VM's process: it may have given */
	ON_RESULT_RAN,	 /* destination: commit or mark_take tells what stands there now, durable */
	ON_RESULT_NEVER,
	ON_RESULT_UNKNOWN, /* destination: commit or mark_take gave an error: it may stand there */
	/* messages of the other host, with event.id as the message says it */
	ON_REHEARSED,
	ON_REFUSED,
	ON_READY,
	ON_CANCELLED,
	ON_COMMIT,
	ON_RAN,
	ON_NEVER,
	ON_UNDECIDED, /* answer to a question: the token has no result yet */
	ON_ASK, /* question: what became of the token? Whoever asks has given, and wants an end */
	ON_VERIFIED,	 /* the destination has announced and verified */
	ON_NOT_VERIFIED, /* the VM runs there, but announce or verify failed */
	HANDOVER_EVENTS,
};
const char *handover_event_name(enum handover_event_kind kind);
#define HANDOVER_FIRST_MESSAGE ON_REHEARSED

struct handover_event {
	enum handover_event_kind kind;
	enum handover_phase phase; /* of ON_DONE and ON_FAILED */
	struct handover_id id; /* of messages; what a frame leaves out its stream's HELLO said */
};

/* Actions, to be done in the order of their bits. Each is idempotent. */
enum handover_action {
	/* VM and marks */
	DO_PHASE = 1 << 0,	 /* the work of state.phase; then ON_DONE or ON_FAILED */
	DO_WRITE_GIVEN = 1 << 1, /* source: link->given(); then ON_MARKED, _FAILED or _UNKNOWN */
	DO_CANCEL_VM = 1 << 2, /* source: link->cancel(): not given, runs as if nothing had been */
	DO_RESUME_VM = 1 << 3, /* source: link->never(): runs; its mark is taken back */
	DO_LEAVE_VM = 1 << 4, /* source: link->ran(): ends; its mark then says where the VM lives */
	DO_CLEAR_GIVEN = 1 << 5, /* source, no process left: this token's mark becomes NEVER */
	DO_SETTLE_RAN = 1 << 6,	 /* source, no process left: this token's mark becomes RAN */
	DO_COMMIT_VM = 1 << 7,	 /* destination: link->commit(); then ON_RESULT_* */
	DO_TAKE_NEVER = 1 << 8,	 /* destination: mark_take(NEVER), first wins; then ON_RESULT_* */
	DO_END_VM =
		1 << 9, /* destination: kill the process, then ON_VM_DIED. The mark says never, or
			     * its memory will never be whole */
	/* to the other host; what cannot be sent is dropped */
	DO_SEND_REHEARSED = 1 << 10,
	DO_SEND_READY = 1 << 11,
	DO_SEND_COMMIT = 1 << 12,
	DO_SEND_REFUSED = 1 << 13,
	DO_SEND_CANCEL = 1 << 14,
	DO_SEND_RAN = 1 << 15,
	DO_SEND_NEVER = 1 << 16,
	DO_SEND_UNDECIDED = 1 << 17,
	DO_SEND_VERIFIED = 1 << 18, /* or what failed: state.why */
	DO_ASK = 1
		 << 19, /* daemon: asks the other daemon. Mover: its daemon does it, from here on */
	/* to people */
	DO_TELL_IN_DOUBT = 1 << 20, /* stands still, cause unknown there; comes once */
	DO_TELL_LATE = 1 << 21,	    /* a cancel that comes after the commit began */
	DO_REFUSE =
		1 << 22,  /* a message of another move, or one that cannot be now: not acted on */
	DO_END = 1 << 23, /* nothing more to do here: state.why says how it ended */
	HANDOVER_ACTIONS = 24,
};
const char *handover_action_name(unsigned int bit); /* 0 .. HANDOVER_ACTIONS - 1 */

enum handover_why {
	WHY_NONE,      /* as it should be */
	WHY_REFUSED,   /* by the other side, or: its generation is stale */
	WHY_CANCELLED, /* by somebody on either side */
	WHY_FAILED, /* the work of a phase, the mark, or announce and verify (the VM runs all the same) */
	WHY_LINK,
	WHY_VM_DIED,
};

enum handover_source_at {
	SOURCE_HAS,    /* owns it: the VM runs, or in stop and state stands */
	SOURCE_GIVING, /* the mark is being written; COMMIT has not been sent */
	SOURCE_GIVEN,  /* COMMIT may have been sent: stands still until RAN or NEVER */
	SOURCE_KEPT, /* ended: the VM is ours and runs (or may be started, when its process died) */
	SOURCE_LEFT, /* ended: it runs there */
};

struct handover_source {
	struct handover_id id;
	enum handover_source_at at;
	enum handover_phase phase;
	enum handover_why why;
	bool work_done; /* of a phase that also waits for the peer's word (rehearse, state) */
	bool peer_said; /* that word */
	bool give_up;	/* in SOURCE_GIVING: something came that forbids to send COMMIT */
	bool vm_dead;
	bool told;     /* in doubt */
	bool postcopy; /* some memory is nowhere but here, or will be once the VM is given */
};

enum handover_destination_at {
	DESTINATION_LOADS,
	DESTINATION_READY,
	DESTINATION_COMMITS, /* the VM's process is writing `ran` */
	DESTINATION_OPEN, /* daemon: the mark has no result; a process may be about to write one */
	DESTINATION_CLOSES, /* never is being written, or stands and the process is being ended */
	DESTINATION_RUNS,   /* `ran` is durable */
	DESTINATION_CLOSED, /* ended: never is durable and the process has ended */
};

struct handover_destination {
	struct handover_id id;
	enum handover_destination_at at;
	enum handover_phase phase;
	enum handover_why why;
	bool never_durable;
	bool vm_ended;
	bool asked;    /* somebody waits for an answer */
	bool postcopy; /* some memory is still the source's */
	bool link_lost;
};

/* Of a VM that has changed hands: its memory is in two places, and one of them has gone. */
bool handover_source_lost(const struct handover_source *source);
bool handover_destination_lost(const struct handover_destination *destination);

/* A mover's beginning. Both return the first actions (DO_PHASE). `known`: the highest generation of this VM (by its UUID) that this
 * host has ever seen, 0 for none: a move that would not make a higher one is stale and refused. */
_must_check_ uint32_t handover_source_start(const struct handover_id *id,
					    struct handover_source *ret_source);
_must_check_ uint32_t handover_destination_start(const struct handover_id *id, uint64_t known,
						 struct handover_destination *ret_destination);

/* What a host knows of a token when a daemon takes over: after the mover ended, after its own restart, after the host's. Read anew
 * each time: a mark may have been written a moment ago. */
enum handover_mark { HANDOVER_NO_MARK, HANDOVER_OPEN, HANDOVER_RAN, HANDOVER_NEVER };

/* A daemon's beginning, from the given mark; `vm_lives`: a process of this VM lives, given or not. One that refuses DO_RESUME_VM or
 * DO_LEAVE_VM because it is not given by this token is told as ON_VM_DIED: then the mark alone is settled. HANDOVER_NO_MARK: not given,
 * nothing to settle. */
_must_check_ uint32_t handover_source_restart(const struct handover_id *id, enum handover_mark mark,
					      bool vm_lives, struct handover_source *ret_source);
/* From the taken mark (made durable by whoever reads it; HANDOVER_NO_MARK: this host never saw the token, DO_TAKE_NEVER then makes
 * its file); `vm_lives`: the process that was made for this token has not ended, or it is not known that it has. */
_must_check_ uint32_t handover_destination_restart(const struct handover_id *id,
						   enum handover_mark mark, bool vm_lives,
						   struct handover_destination *ret_destination);

/* THE two functions. `*state` changes in place; what comes back is a set of enum handover_action, 0 for none. Any event may come in
 * any state. */
_must_check_ uint32_t handover_source_step(struct handover_source *source,
					   const struct handover_event *event);
_must_check_ uint32_t handover_destination_step(struct handover_destination *destination,
						const struct handover_event *event);

/* Whether this host may start a VM by itself (autostart, `utsusu run`), by both marks. */
enum handover_start {
	START_MAY,
	START_LIVES_THERE, /* it was given away: the given mark says where it lives */
	START_ASK_FIRST,   /* given, and not known whether it ever ran there */
	START_NOT_TAKEN,   /* it was to come here and never did, or it is not decided */
};
struct handover_marks {
	enum handover_mark given; /* NO_MARK, OPEN (also: damaged), RAN, NEVER */
	uint64_t given_generation;
	/* How the VM came to this host: RAN with the highest generation that arrived here; OPEN or NEVER when none did, though one
	 * was to; NO_MARK with generation 0 when it was first started here. */
	enum handover_mark taken;
	uint64_t taken_generation;
};
enum handover_start handover_may_start(const struct handover_marks *marks);
