/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The VM's process's part in its protection: it alone decides who may run (protect/ownership.h), holds the output, and cuts epochs. A guard
 * (programs/utsusu-move) does what touches the network, disks' mirrors and the journal; a relay (programs/utsusu-arbiter) asks the arbiter. Both are
 * connections to the VM's socket ("owner": an address that stands for one), tell what happened and do what they are told:
 *
 *   guard --begin, collect, gate, cut, acked | back_up, whole, suspect, prepared, apply--> control thread --events--> guard
 *   relay --attach, swapped, stands--> control thread --swap--> relay
 *
 * The guard's end means that its copy is lost: an owner gives it up (and stays gated until a swap to solo is known to have won), a backup
 * that has not claimed ends. The relay's end means that the outcome of a swap under way is not known.
 *
 * Control thread, all of it. It never touches guest RAM but in a cut, where all others stand and none of it can be missing.
 */

#include "base/hold.h"
#include "block/mirror.h"
#include "move/guest/guest.h"
#include "protect/ownership.h"
#include "protect/shared.h"
#include "vm/vm.h"

struct protect_guest;

/* What one cut took. */
struct protect_cut {
	uint64_t epoch, generation;
	uint64_t pages;	    /* in the shared file */
	uint64_t state_len; /* of the container there */
	uint64_t released;  /* output of epochs up to this one had left */
	uint64_t ring_end;  /* mirror_ring_end; 0 without a ring */
	uint64_t pause_ns;  /* how long the guest stood still */
	bool by_hand;	    /* no etcd has the record: its backup is to be told of it */
	struct ownership_record record;
};

/* For status; times by the host's CLOCK_MONOTONIC. */
struct protect_facts {
	const struct ownership
		*ownership;	 /* NULL: it has no record, and is nobody's business yet */
	struct ownership_id me;	 /* this process's instance */
	bool foreign;		 /* the record is somebody else's; the VM runs on, for itself */
	struct hold_counts held; /* of all outputs */
	uint64_t released;
	uint64_t epochs, last_pages, last_state_len;
	uint64_t last_pause_ns, pause_p50_ns, pause_p99_ns; /* of the last some hundred */
	uint32_t disks;					    /* that are mirrored now */
	bool relay, guard;
	bool by_hand;		   /* no etcd decides */
	enum ownership_mode wants; /* what the record is to be made; OWNERSHIP_NONE: as it is */
	char peer[MARK_PEER_MAX];  /* the other host; "": none */
	const char *waits_for;	   /* words for people; "": nothing */
};

/* Control thread, never from inside a call of these functions (at the loop's next turn). */
struct protect_guest_events {
	/* To the relay `owner`: put `want` there. */
	void (*swap)(void *ctx, const void *owner, const struct ownership_record *want);
	/* To the relay `owner`, where no etcd decides: "arbiter-heard" (the record as the owner's host has it), "arbiter-ended" (the other side of this one). */
	void (*tell_relay)(void *ctx, const void *owner, const char *what,
			   const struct ownership_record *record);
	/* To the guard: "backup-prepare", "backup-apply", "protect-off", "protect-failover", "backup-over" (`ran`: it runs here from now on; else
	 * `why` it does not). `why`: a line, else "". */
	void (*tell_guard)(void *ctx, const void *owner, const char *what, bool ran,
			   const char *why);
	/* For people and the event stream: "protected", "solo", "took-over", "backup-lost", "deposed", "suspects", "take-over-failed", "foreign". */
	void (*changed)(void *ctx, const char *what, const char *why);
	/* A backup took over: from here on it is a VM like any other. */
	void (*arrived)(void *ctx);
	/* The process has nothing more to do, and must end at once: it runs elsewhere (held output is dropped), or is of no use. */
	void (*over)(void *ctx, bool ran, const char *why);
	void *ctx;
};

/* Before vm_run; `move` is borrowed. */
_must_check_ int protect_guest_new(struct vm *vm, struct move_guest *move,
				   const struct protect_guest_events *events,
				   struct protect_guest **ret_guest);
/* After vm_free, whose disks may write from the ring to their end; the loop is still there. */
void protect_guest_free(struct protect_guest *guest);

void protect_guest_facts(const struct protect_guest *guest, struct protect_facts *ret_facts);
/* Everything that forbids protecting this VM now, each with its way out. Changes nothing. */
void protect_guest_check(struct protect_guest *guest, struct problems *problems);
/* Whether moves, saves and upgrades are refused by name since it is protected or about to be. */
bool protect_guest_is_busy(const struct protect_guest *guest);

/* ---- owner ---- */
_must_check_ int protect_guest_begin(
	struct protect_guest *guest, const void *owner, const struct ownership_id *session,
	const char *peer, int shared_fd, int ring_fd, uint64_t *ret_cut,
	struct error *err); /* takes both descriptors; ring -1: no disk is mirrored */
_must_check_ int protect_guest_collect(struct protect_guest *guest, const void *owner,
				       uint64_t *ret_pages, struct error *err);
_must_check_ int protect_guest_gate(struct protect_guest *guest, const void *owner,
				    struct error *err);
/* -EAGAIN: not now (a reset, a request of a breakpoint); ask again soon. */
_must_check_ int protect_guest_cut(struct protect_guest *guest, const void *owner, uint64_t epoch,
				   struct protect_cut *ret_cut, struct error *err);
/* Of the session's guard, over any connection; `at_ns`: when it was received, by CLOCK_MONOTONIC (to come: now). */
_must_check_ int protect_guest_acked(struct protect_guest *guest,
				     const struct ownership_id *session, uint64_t epoch,
				     uint64_t at_ns, struct error *err);
/* The copy is lost, or not wanted. */
_must_check_ int protect_guest_end(struct protect_guest *guest, const void *owner, const char *why,
				   struct error *err);

/* ---- a user's ---- */
_must_check_ int protect_guest_off(struct protect_guest *guest, struct error *err);
_must_check_ int protect_guest_failover(struct protect_guest *guest, struct error *err);

/* ---- backup ---- */
/* After move_guest_arrive by the same owner. The record is what the relay tells, before or after this. */
_must_check_ int protect_guest_back_up(struct protect_guest *guest, const void *owner,
				       const struct ownership_id *session, const char *peer,
				       struct error *err);
_must_check_ int protect_guest_whole(struct protect_guest *guest, const void *owner, uint64_t epoch,
				     bool *ret_ack, struct error *err);
_must_check_ int protect_guest_suspect(struct protect_guest *guest, const void *owner,
				       const char *why, bool *ret_prepare, struct error *err);
_must_check_ int protect_guest_prepared(struct protect_guest *guest, const void *owner,
					struct error *err);
/* `state`: the container of the last whole epoch, borrowed; a peer's bytes. */
_must_check_ int protect_guest_apply(struct protect_guest *guest, const void *owner,
				     uint64_t state_len, uint64_t stopped_ns, struct error *err);
_must_check_ int protect_guest_failed(struct protect_guest *guest, const void *owner,
				      const char *why, struct error *err);

/* ---- relay ---- */
/* `dead`: the instance that is known to have ended on this host (zero: none). *ret_me: this one's. */
_must_check_ int protect_guest_attach(struct protect_guest *guest, const void *owner,
				      const struct ownership_record *record,
				      const struct ownership_id *dead, struct ownership_id *ret_me,
				      struct error *err);
_must_check_ int protect_guest_swapped(struct protect_guest *guest, const void *owner,
				       enum ownership_event_kind outcome,
				       const struct ownership_record *record, struct error *err);
_must_check_ int protect_guest_stands(struct protect_guest *guest, const void *owner,
				      const struct ownership_record *record, struct error *err);

/* ---- without etcd (peer/manual.h) ---- */
/* Of the relay: whether it is so, and what the last swap waits for ("": nothing that people give). */
void protect_guest_by_hand(struct protect_guest *guest, const void *owner, bool by_hand,
			   const char *waits);
/* Of the backup's guard: what its owner's host says stands there. */
_must_check_ int protect_guest_record(struct protect_guest *guest, const void *owner,
				      const struct ownership_record *record, struct error *err);
/* Of a guard, over any connection: the other side of this copy says that its VM's process has ended. */
_must_check_ int protect_guest_ended(struct protect_guest *guest,
				     const struct ownership_id *session, struct error *err);
/* Of the owner's guard: the backup has all, and goes on. The VM stands when this returns, has put out its last, and its process ends. */
_must_check_ int protect_guest_give(struct protect_guest *guest, const void *owner,
				    struct error *err);

/* A connection ended: the guard's, the relay's, or nobody's that matters. */
void protect_guest_forget(struct protect_guest *guest, const void *owner);
/* The guest switched itself off, or is being ended by its user: true when that must wait until the record says so (events.over comes then). */
_must_check_ bool protect_guest_ends(struct protect_guest *guest);
