/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the VM's part in a move is made of: its life and what forbids a move (guest.c), the source (source.c), the
 * destination (arrive.c), both ends of an upgrade (upgrade.c). Control thread only. */

#include <pthread.h>

#include "host/succession.h"
#include "memory/dirty.h"
#include "move/guest/guest.h"

/* Who sees that a mover has gone when the control thread cannot (demand.c). */
struct move_guard {
	pthread_t thread;
	bool started;
	int wake;	      /* an eventfd */
	pthread_mutex_t lock; /* for all below */
	int uffd;	      /* owned; -1: none */
	int life;	      /* owned; a socket to the mover; -1: nothing is awaited */
	bool ran, lost, quit;
	uint64_t
		due_ns; /* of the host's clock: when the VM's end has taken too long; 0: it does not end */
};

struct move_guest {
	struct vm *vm;
	struct move_guest_events events;
	enum move_stage stage;
	const void *owner; /* of the connection that moves; NULL: nobody does, or it went */
	uint8_t token[MOVE_TOKEN_BYTES];
	struct move_shared shared;
	int mark_fd; /* -1: none */
	/* Source. */
	struct dirty_bitmap fresh; /* collected, not yet told */
	unsigned int throttle;	   /* percent */
	struct loop_timer throttle_timer;
	struct loop_timer stop_poll;
	uint64_t stop_due_ns, stopped_at_ns;
	unsigned int stop_deadline_ms;
	struct disk_log *disk_logs; /* disks.c; NULL: none */
	struct mark_given given;
	bool returned; /* `token` is of a move that ended with never */
	/* Either end of an upgrade; NULL: it is none. */
	struct succession *succession;
	uint16_t give_version;
	struct loop_timer verdict; /* the old one waits no longer for the new one */
	/* Destination. */
	bool arrived;	      /* committed here */
	uint64_t ran_ns;      /* the loop's clock, then */
	bool loaded, spoiled; /* a load that counts succeeded, failed half way */
	bool committing;      /* what the token says is not known */
	bool kept;	      /* a backup: no mover has it run */
	struct loop_timer
		patience; /* for a mover that does not come; for a mark that does not answer */
	struct move_guard guard;
	/* The end in this process, told at the loop's next turn. */
	struct loop_timer over;
	enum move_exit exit;
	char why[192];
};

/* Whether `owner` moves this VM and stands at one of `stages` (bits by enum move_stage). */
_must_check_ int move_guest_expect(const struct move_guest *guest, const void *owner,
				   unsigned int stages, struct error *err);
#define STAGE(stage) (1U << (stage))

/* The process ends soon. */
void move_guest_over(struct move_guest *guest, enum move_exit how, const char *why, const char *of);
/* Gives back what a move used here. */
void move_guest_release(struct move_guest *guest);
/* It has run, and all of its memory is there: nobody waits for more, and its mover is done. */
void move_guest_is_whole(struct move_guest *guest);

/* source.c */
void move_source_init(struct move_guest *guest);
/* The VM is `owner`'s to move from now on. */
void move_source_begun(struct move_guest *guest, const void *owner,
		       const uint8_t token[MOVE_TOKEN_BYTES]);
/* Back to before `begin`, whatever stands. */
void move_source_end(struct move_guest *guest);
/* Whether a move, or an upgrade, can begin now; the first of what forbids it. */
_must_check_ int move_source_judge(struct move_guest *guest, bool upgrade, struct error *err);
void move_source_describe(struct move_guest *guest, const char *peer, uint64_t generation);
/* upgrade.c: what differs in one */
void move_upgrade_init(struct move_guest *guest);
_must_check_ int move_upgrade_stopped(struct move_guest *guest, struct error *err);
_must_check_ int move_upgrade_never(struct move_guest *guest, struct error *err);
_must_check_ int move_upgrade_ran(struct move_guest *guest, struct error *err);
/* Nobody will tell: decides. */
void move_upgrade_settle(struct move_guest *guest);
/* True: this process has the VM from now on. */
bool move_upgrade_commit(struct move_guest *guest);
/* disks.c: ends all logs of disks, whatever stands. */
void move_disks_unlog(struct move_guest *guest);
/* arrive.c */
void move_arrive_init(struct move_guest *guest);
/* The VM stands, and waits for a mover for a while. */
_must_check_ int move_arrive_wait(struct move_guest *guest);
void move_arrive_forget(struct move_guest *guest);
/* demand.c */
void move_guard_init(struct move_guest *guest);
void move_guard_release(struct move_guest *guest);
/* Whether pages are still to come. When none are and their mover has not said so itself, it is as if it had. */
_must_check_ bool move_guard_settle(struct move_guest *guest);
/* The VM runs: whether pages are still to come. */
_must_check_ bool move_guard_run(struct move_guest *guest);
