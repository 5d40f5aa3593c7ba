/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who may run a protected VM, as a pure function: an event comes in, the state changes and the actions come out; no clock, no memory,
 * no system call. One of these is in each process that holds the VM's memory: its owner's, and its backup's. What decides between them is one
 * record, kept by an arbiter and changed only by compare-and-swap on its revision.
 *
 * The promise: everything that was ever put out is contained in the state of the record's owner and, while it is protected, of its
 * backup as well. It needs no clock and no lease. That a deposed owner puts out nothing more cannot be had without either: what it may
 * still put out is what was acknowledged before, which the new owner has and repeats byte for byte.
 *
 *   owner:   STARTS -> SOLO (puts out at once) -> gated (only what the copy acknowledged) -> PROTECTED -> SOLO ...
 *            PROTECTED -> DEPOSED (claimed by its backup, which may fail) -> SOLO by winning a swap, or ENDED
 *   backup:  BACKS_UP -> CLAIMS (applies, runs with its output held) -> SOLO, confirmed by a second swap
 *
 * Rules, each of which a mutant breaks and a test misses (tests/mutants, test_protect_ownership*.c; tests/models/ownership.pml):
 *   1 While gated only what this very session acknowledged is put out; another session's acknowledgement counts for nothing.
 *   2 An answer of the arbiter whose revision is not above the last one acted on is ignored.
 *   3 A swap whose outcome is unknown may still land. Reading the same revision again does not settle it; a definite answer to
 *     another swap on that revision does, and so does a higher revision. Until then the state is right for both outcomes.
 *   4 An owner that loses its backup stays gated until a swap to SOLO is known to have won.
 *   5 The gate comes first, then the swap to PROTECTED, once an epoch that was cut behind the gate is acknowledged: it contains all that was
 *     put out before. An acknowledgement of a number that was never cut (it filled the copy) counts for nothing. To give up is a swap too.
 *   6 From its claim on a backup acknowledges nothing, and it puts nothing out before a second swap confirms it.
 *   7 The loser of a claim keeps its memory until that confirmation, and may win it back as long as there is none.
 *   8 A record names processes (instances, sessions), not hosts: one that was restarted holds nothing.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define OWNERSHIP_ID_BYTES 16

/* Minted at random by the process that it names; all zero: nobody. */
struct ownership_id {
	uint8_t bytes[OWNERSHIP_ID_BYTES];
};
bool ownership_id_equal(const struct ownership_id *a, const struct ownership_id *b);

enum ownership_mode {
	OWNERSHIP_NONE, /* there is no record */
	OWNERSHIP_SOLO,
	OWNERSHIP_CLAIMED,   /* by a backup that has put out nothing yet */
	OWNERSHIP_PROTECTED, /* `backup` has all that was put out */
	OWNERSHIP_STOPPED,   /* the guest switched itself off: nobody runs it before a start */
	OWNERSHIP_MODES,
};
const char *ownership_mode_name(enum ownership_mode mode);

struct ownership_record {
	uint64_t revision;   /* the arbiter's, higher with every swap; 0: no record */
	uint64_t generation; /* higher by one with every swap */
	enum ownership_mode mode;
	struct ownership_id owner;  /* instance */
	struct ownership_id backup; /* session; only while protected */
	struct ownership_id from;   /* claimed: the instance that had it */
};

enum ownership_event_kind {
	/* of this process */
	WHEN_SYNC, /* owner: event.session is being given a copy */
	WHEN_GATE, /* owner: the copy is nearly there; it shall become the backup */
	WHEN_CUT,  /* owner: event.epoch was cut; what comes out from now on belongs to the next */
	WHEN_GIVEN_UP, /* owner: its copy or backup is silent, or not wanted any more */
	WHEN_OFF, /* owner, deposed or not, or claimant: the guest switched itself off before the cut of event.epoch */
	WHEN_WHOLE,	   /* backup: event.epoch is here, whole, right, its journal durable */
	WHEN_SUSPECTED,	   /* backup: its owner is silent; or a failover is wanted */
	WHEN_PREPARED,	   /* all that can fail in a take-over is done (where it failed: nothing) */
	WHEN_RUNS_HELD,	   /* THEN_APPLY is done: the VM runs, its output is held */
	WHEN_APPLY_FAILED, /* the claimant cannot run it */
	WHEN_CLAIMANT_LOST, /* deposed owner: who claimed is silent, or says that it cannot */
	WHEN_TICK,	    /* some time went by: what has no answer is asked again */
	/* of the arbiter: event.record is what stands there now */
	WHEN_WON,
	WHEN_LOST,
	WHEN_UNKNOWN, /* no answer that is certain; event.record is nothing */
	WHEN_READ,    /* a read, or a change that was watched */
	/* of the backup: event.session has acknowledged event.epoch and all before it */
	WHEN_ACKED,
	OWNERSHIP_EVENTS,
};
const char *ownership_event_name(enum ownership_event_kind kind);

struct ownership_event {
	enum ownership_event_kind kind;
	uint64_t epoch;
	struct ownership_id session;
	struct ownership_record record;
};

/* Actions, to be done in the order of their bits. Each is idempotent. */
enum ownership_action {
	THEN_GATE = 1 << 0,    /* from here on output is held, tagged by epoch */
	THEN_STOP_VM = 1 << 1, /* it runs elsewhere: ends at once, what is held is dropped */
	THEN_DISCARD = 1 << 2, /* backup: this copy is of no use any more */
	THEN_RUN = 1 << 3,     /* a start from its disks was won */
	THEN_PREPARE = 1 << 4, /* backup: disks, taps, memory, devices; then WHEN_PREPARED */
	THEN_APPLY =
		1
		<< 5, /* claimant: every epoch acknowledged, journal durable, run held; then WHEN_RUNS_HELD */
	THEN_RELEASE = 1 << 6, /* owner: what is held of epochs up to ownership->acked */
	THEN_REPLAY = 1 << 7,  /* new owner: what the old one may not have put out */
	THEN_OPEN = 1 << 8,    /* all that is held, and from here on at once */
	THEN_ANNOUNCE = 1 << 9,
	THEN_ACK = 1 << 10, /* backup: ownership->acked */
	THEN_SWAP =
		1 << 11, /* the arbiter: ownership->want, where revision is still record.revision */
	THEN_END = 1 << 12, /* nothing more to do here */
	OWNERSHIP_ACTIONS = 13,
};
const char *ownership_action_name(unsigned int bit); /* 0 .. OWNERSHIP_ACTIONS - 1 */

enum ownership_role {
	OWNERSHIP_STARTS,
	OWNERSHIP_IS_SOLO,
	OWNERSHIP_IS_PROTECTED,
	OWNERSHIP_IS_DEPOSED,
	OWNERSHIP_BACKS_UP,
	OWNERSHIP_CLAIMS,
	OWNERSHIP_HAS_ENDED,
	OWNERSHIP_ROLES,
};
const char *ownership_role_name(enum ownership_role role);

struct ownership {
	struct ownership_id me;	     /* instance */
	struct ownership_id session; /* owner: of its copy; backup: its own; zero for none */
	enum ownership_role role;
	struct ownership_record record; /* the last one acted on */
	struct ownership_record want;	/* of the swap under way, or whose outcome is unknown */
	bool asked;			/* a swap has no answer yet */
	bool waits; /* with the next one for WHEN_TICK: the last one's outcome is unknown */

	bool gated;
	bool give_up;	/* owner: wants to be solo, and is not known to be */
	bool off;	/* owner: wants to be stopped */
	bool named;	/* backup: the record named its session */
	bool prepared;	/* backup: claims, and acknowledges nothing more */
	bool runs_held; /* claimant: wants to be confirmed */
	bool take_back; /* deposed: wants it back */
	uint64_t cut; /* owner: the last epoch that was cut; never used again by whoever owns it */
	uint64_t ungated;    /* the last one before the gate */
	uint64_t gate_epoch; /* the first one behind it */
	uint64_t off_epoch;
	uint64_t acked; /* owner: by this session; backup: to its owner */
	uint64_t whole; /* backup: the last epoch that it could go on from; 0 for none */
};

/* Of a process that starts the VM from its disks; `record`: as read just before. Returns the first actions, or THEN_END where the record
 * does not let it: it is owned or protected. `dead`: the instance that is known to have ended on this very host (zero: none), in whose
 * place a start may come. */
_must_check_ uint32_t ownership_start(const struct ownership_id *me,
				      const struct ownership_record *record,
				      const struct ownership_id *dead,
				      struct ownership *ret_ownership);

/* Of a process that a copy is sent to. `me`: the instance that it would own as. */
void ownership_back_up(const struct ownership_id *me, const struct ownership_id *session,
		       const struct ownership_record *record, struct ownership *ret_ownership);

/* THE function. `*ownership` changes in place; what comes back is a set of enum ownership_action, 0 for none. Any event may come in
 * any state. */
_must_check_ uint32_t ownership_step(struct ownership *ownership,
				     const struct ownership_event *event);

/* Whether what is put out by the guest now may leave at once. */
static inline bool ownership_is_open(const struct ownership *ownership)
{
	return ownership->role == OWNERSHIP_IS_SOLO && !ownership->gated;
}
