/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the VM's part in its protection is made of: its life and the actions (guest.c), what is told to others (tell.c), the relay (relay.c), the
 * owner's copy (owner.c), a cut (cut.c), disks (mirrors.c), held output (held.c), the backup (backup.c), figures (facts.c). Control thread only. */

#include "memory/dirty.h"
#include "protect/guest/guest.h"

#define PAUSES 256 /* of the last cuts, remembered for figures */
#define WHY_MAX 160
#define NEWS 8 /* for people, until the loop's next turn */

enum protect_side {
	SIDE_NONE,
	SIDE_OWNER,  /* a guard sends a copy from here */
	SIDE_BACKUP, /* a guard receives one here */
};

/* To a guard, each at most once at a time; in this order. */
enum protect_telling {
	TELL_PREPARE = 1,
	TELL_APPLY = 2,
	TELL_OFF = 4,
	TELL_FAILOVER = 8,
	TELL_OVER = 16,
};

/* What people are told. */
struct protect_notice {
	const char *what;
	char why[WHY_MAX];
};

struct protect_guest {
	struct vm *vm;
	struct move_guest *move;
	struct protect_guest_events events;
	struct ownership_id me;
	struct ownership ownership; /* counts once `known` */
	bool known;
	bool foreign; /* the record is somebody else's: this VM runs on, for itself */
	struct ownership_record
		heard; /* what the relay said last; revision 0: nothing, or that there is none */
	bool was_heard;

	/* ---- the relay ---- */
	const void *relay;
	bool swap_due; /* ownership.want is to go to a relay */
	bool swap_out; /* it has it */
	bool by_hand;  /* no etcd decides */
	char hand_waits[WHY_MAX];
	uint64_t hand_waits_at;		/* at this revision */
	struct ownership_record copied; /* what the owner's host says; revision 0: nothing */
	bool other_ended;		/* so it says itself, of this session */
	struct ownership_id other_session;
	bool heard_due;

	/* ---- the guard ---- */
	const void *guard;
	enum protect_side side;
	char peer[MARK_PEER_MAX];

	/* ---- owner ---- */
	struct protect_shared shared;
	struct mirror_ring *ring;     /* NULL: no disk is mirrored */
	struct mirror_ring *old_ring; /* of a copy that ended; freed when no write uses it */
	struct dirty_bitmap fresh;    /* written, not yet told or captured */
	struct buffer state;	      /* a cut's container */
	bool logging;
	uint64_t ack_at_ns; /* when ownership.acked was received here */
	uint64_t epochs, last_pages, last_state_len;
	uint64_t pauses[PAUSES]; /* ns; a ring */
	uint64_t n_pauses;
	uint64_t deposed_at_ns;

	/* ---- backup ---- */
	bool loaded; /* the state that it goes on with */
	bool took_over;

	/* ---- the guest's end ---- */
	bool off;	    /* it wants to end, and stands */
	uint64_t off_at_ns; /* since then */

	/* ---- later, at a turn of the loop ---- */
	struct loop_timer later, tick, retire;
	uint32_t tellings; /* enum protect_telling */
	const void *told;  /* which guard */
	char telling_why[WHY_MAX];
	struct protect_notice news[NEWS]; /* a ring */
	uint64_t news_told, news_come;	  /* so many, ever */
	bool arrived_due;
	bool over_due, over, ran;
	char over_why[WHY_MAX];
};

/* ---- guest.c ---- */

uint64_t protect_now(const struct protect_guest *guest);
/* Something happened: the function's actions are done but for THEN_ACK, whose bit comes back with the others. */
uint32_t protect_step(struct protect_guest *guest, const struct ownership_event *event);
uint32_t protect_step_plain(struct protect_guest *guest, enum ownership_event_kind kind);
uint32_t protect_step_epoch(struct protect_guest *guest, enum ownership_event_kind kind,
			    uint64_t epoch);
void protect_act(struct protect_guest *guest, uint32_t actions);
/* The guest wants to end, or is to. */
void protect_is_off(struct protect_guest *guest);
/* Of such a one: it runs no more, and the record is to say so. Where that is not possible yet: nothing. */
void protect_stand_off(struct protect_guest *guest);
bool protect_is_nobody(const struct ownership_id *id);
/* Whether `owner` is the guard of this side. */
_must_check_ int protect_expect(const struct protect_guest *guest, const void *owner,
				enum protect_side side, struct error *err);

/* ---- tell.c ---- */

void protect_tell_init(struct protect_guest *guest);
void protect_tell_release(struct protect_guest *guest);
void protect_tell_swap(struct protect_guest *guest);
void protect_tell_guard(struct protect_guest *guest, enum protect_telling telling, const char *why);
void protect_tell_changed(struct protect_guest *guest, const char *what, const char *why);
void protect_tell_arrived(struct protect_guest *guest);
/* The process ends; only the first counts. */
void protect_tell_over(struct protect_guest *guest, bool ran, const char *why);

void protect_tell_relay_soon(struct protect_guest *guest);

/* ---- by_hand.c ---- */

const char *protect_hand_waits(const struct protect_guest *guest);
void protect_tell_heard(struct protect_guest *guest);

/* ---- owner.c ---- */

/* The copy is no more; what was gated stays so. Nothing where there is none. */
void protect_owner_lost(struct protect_guest *guest, const char *why);
/* Lets go of what a copy needs, whatever the record says. */
void protect_owner_release(struct protect_guest *guest);

/* ---- mirrors.c ---- */

/* Inside the barrier. NULL: none. */
void protect_mirrors_set(struct protect_guest *guest, struct mirror_ring *ring);
/* What was written before is on the disks: waits for that a moment. */
_must_check_ int protect_mirrors_settle(struct protect_guest *guest, struct error *err);
/* The ring is freed when the last write from it has ended. */
void protect_mirrors_retire(struct protect_guest *guest);
void protect_mirrors_expired(struct loop_timer *timer);

/* ---- held.c ---- */

/* Still: appends what is held of the epochs (after, up_to] of all outputs, in the container's order. */
_must_check_ int protect_held_export(struct vm *vm, uint64_t after, uint64_t up_to,
				     struct buffer *out);
/* Still, a new owner: a peer's bytes. */
_must_check_ int protect_held_import(struct vm *vm, const struct iovec *held, struct error *err);
void protect_held_count(struct vm *vm, struct hold_counts *ret_counts);
