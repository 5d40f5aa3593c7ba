/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The VM's process's part in a move, a save, an upgrade: it does what touches KVM and the devices, on the order of a mover
 * (programs/utsusu-move), which does what touches the network, files and RAM's bytes. So the process that runs the guest never
 * parses a peer's stream, holds no key, and its control thread never touches guest RAM (invariant 10).
 *
 *   mover --API socket--> control thread: begin, collect, throttle, stop, save, given, never|ran      (source)
 *                                         begin, demand, load, commit, filled                         (destination)
 *         --shared memfd-- dirty bitmap (the VM ORs, the mover takes) | state (the VM's or the mover's to write)
 *
 * One mover at a time ("owner": an address that stands for its connection). A source whose mover's connection ends before
 * `given` runs on as if nothing had been; after it, the VM stands still until somebody tells how it ended (`never` or `ran` with
 * the same token). A destination whose mover goes before the commit ends itself; after it, it runs, unless its memory was still
 * coming: then there is nothing left to run.
 */

#include "base/thread.h"
#include "move/marks.h"
#include "vm/vm.h"

struct move_guest;

#define MOVE_TOKEN_BYTES 16
#define MOVE_STOP_MAX_MS 600000 /* the longest that a stop may wait */
#define MOVE_THROTTLE_MAX 99	/* percent */
#define MOVE_STATE_MAX MIB(256) /* bytes of all sections */

/* The file that both map: sealed against shrinking, made by the mover.
 *   [0, bitmap)  one bit per 4 KiB page of RAM's file, 64-bit words; both sides change words atomically. At a destination: one
 *                word, the pages that are still to come (move_shared_left)
 *   [state, state + MOVE_STATE_MAX)  `state` is `bitmap` rounded up to 4 KiB */
struct move_shared {
	int fd; /* owned */
	uint64_t n_pages;
	uint64_t *bitmap; /* mapped */
	uint64_t n_words;
	uint64_t state_at; /* offset in the file; read and written with pread/pwrite */
};
/* The mover's end: makes it for RAM of `ram_bytes`. */
_must_check_ int move_shared_make(uint64_t ram_bytes, struct move_shared *ret_shared);
/* The VM's end: takes the descriptor (also on failure) and refuses one that could shrink or is too small. */
_must_check_ int move_shared_take(int fd, uint64_t ram_bytes, struct move_shared *ret_shared,
				  struct error *err);
void move_shared_release(struct move_shared *shared);
/* Destination, in the place of the bitmap: how many pages are still to come while the VM runs. Any thread. */
uint64_t move_shared_left(const struct move_shared *shared);
void move_shared_set_left(struct move_shared *shared, uint64_t pages);

enum move_stage {
	MOVE_IDLE,
	MOVE_LOGGING,  /* source: the dirty log runs */
	MOVE_STOPPING, /* disk requests are being finished */
	MOVE_STOPPED,
	MOVE_GIVEN,    /* in the mover's and the peer's hands; durably marked */
	MOVE_ARRIVING, /* destination: not yet run */
	MOVE_RAN, /* destination: committed, runs; source: it runs elsewhere, the process ends */
};
const char *move_stage_name(enum move_stage stage); /* "idle", "logging", ... */

/* How a VM's life in this process ends by a move. */
enum move_exit {
	MOVE_EXIT_LEFT,	     /* source: it runs elsewhere */
	MOVE_EXIT_ABANDONED, /* destination: its mover went before the commit, or the token says never */
	MOVE_EXIT_SHARED, /* either end of an upgrade: RAM, disks and taps are another process's to use. This one must end at once:
				a thread of it that ran on would write into the guest */
};

/* What the new process needs to know of the old one's stop; both clocks are CLOCK_MONOTONIC's. */
struct move_gift {
	uint64_t state_len;
	uint64_t moment_ns;	/* of the state */
	uint64_t stopped_at_ns; /* since when the guest stands still */
};

/* What the VM tells its process's owner (programs/, api/). Control thread, never from inside a call of these functions but
 * `stopped`, which may come from inside move_guest_stop. */
struct move_guest_events {
	/* move_guest_stop has come to its end: `error` NULL, and the vCPUs stood still for `stopped_ns` by now; or the VM runs
	 * again. */
	void (*stopped)(void *ctx, const void *owner, uint64_t stopped_ns,
			const struct error *error);
	/* Destination: committed, it runs from now on. */
	void (*arrived)(void *ctx);
	/* An upgrade only. move_guest_give has come to its end: the VM stands, given; or `error`, and it runs again. */
	void (*given)(void *ctx, const void *owner, const struct move_gift *gift,
		      const struct error *error);
	/* What of this process forbids a move, a save and an upgrade: its protection. May be NULL. */
	void (*check)(void *ctx, struct problems *problems);
	/* What of this process forbids an upgrade. */
	void (*check_upgrade)(void *ctx, struct problems *problems);
	/* Sends what is open to the new process, by host/handed.h. 0 or a negative errno. */
	int (*hand_over)(void *ctx, int sock);
	/* The new process: the VM is its own from now on; nothing of it runs yet. */
	void (*taken)(void *ctx);
	/* New clients come in here, or wait. What is so already is fine. */
	void (*doors)(void *ctx, bool open);
	/* The process has nothing more to do; `why` is one line. */
	void (*over)(void *ctx, enum move_exit how, const char *why);
	/* Its memory will not come any more: the process must end at once, waiting for no thread. `ran`: the VM has run. Comes on a
	 * thread of its own, as all others may stand in a page; may be NULL where nobody orders move_guest_demand. */
	void (*lost)(void *ctx, bool ran, const char *why);
	void *ctx;
};

/* `arriving`: this VM was made to be loaded (utsusu-vm --incoming); it is held before its first instruction, and ends when no mover
 * comes within a minute. Before vm_run. */
_must_check_ int move_guest_new(struct vm *vm, bool arriving,
				const struct move_guest_events *events,
				struct move_guest **ret_guest);
/* Whether a mover has it, or it was given away: what a move needs is nobody else's. */
bool move_guest_is_busy(const struct move_guest *guest);
void move_guest_free(struct move_guest *guest);
enum move_stage move_guest_stage(const struct move_guest *guest);
const char *move_guest_stage_name(const struct move_guest *guest);
/* Whose RAM moves. Borrowed. */
const struct memory *move_guest_memory(const struct move_guest *guest);
/* At MOVE_GIVEN: to whom, by which token; NULL otherwise. */
const struct mark_given *move_guest_mark(const struct move_guest *guest);

/* Everything on this side that forbids a move now, each with its way out: a debugger, a breakpoint that holds, vhost ...
 * Changes nothing. */
void move_guest_check(struct move_guest *guest, struct problems *problems);

/* Source. Takes both descriptors (also on failure). `mark`: an empty file of the host's marks, where `given` is written (-1 for a
 * save or an upgrade: there is no second host). Starts the dirty log; every page counts as clean from here: the mover reads the
 * populated ranges after this call. -EBUSY: another mover. */
_must_check_ int move_guest_begin(struct move_guest *guest, const void *owner,
				  const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
				  struct error *err);
/* ORs the pages written since the last call into the shared bitmap. */
_must_check_ int move_guest_collect(struct move_guest *guest, const void *owner,
				    uint64_t *ret_pages, struct error *err);
/* From now on each chunk of the disk `disk` (as the configuration counts) that is written has its bit set in `log` (block/log.h), a
 * memfd of at least block_log_bytes(), sealed against shrinking, which is taken also on failure. The mover takes bits when it likes;
 * after `stop` none is added. -EEXIST: it is logged already. Ends with the move. */
_must_check_ int move_guest_log_disk(struct move_guest *guest, const void *owner, uint32_t disk,
				     int log_fd, struct error *err);
/* Of each 10 ms the vCPUs run (100 - percent) %: 0..99. */
_must_check_ int move_guest_throttle(struct move_guest *guest, const void *owner,
				     unsigned int percent, struct error *err);
/* Takes no new disk requests, finishes those that there are and makes them durable - the vCPUs still run, unless their user paused
 * them -, then stops everything and collects a last time; then events.stopped. A request that does not end within `deadline_ms` is an
 * error, and the VM goes on as it was. */
_must_check_ int move_guest_stop(struct move_guest *guest, const void *owner,
				 unsigned int deadline_ms, struct error *err);
/* All state, written at shared.state_at, for a program that reads `version` of it (vm/save.h; 0: for our own kind). While the VM
 * runs it is stopped for that (a rehearsal's snapshot); after `stop` it is what moves. */
_must_check_ int move_guest_save(struct move_guest *guest, const void *owner, uint16_t version,
				 uint64_t *ret_len, struct error *err);
/* Back to before `begin`: the VM runs. Not after `given`. */
_must_check_ int move_guest_cancel(struct move_guest *guest, const void *owner, struct error *err);
/* Writes the mark durably: given to `peer`, which makes it the ownership number `generation`. From here on only never and ran.
 * Disk locks are let go with it. */
_must_check_ int move_guest_given(struct move_guest *guest, const void *owner, const char *peer,
				  uint64_t generation, struct error *err);
/* Anybody with the token, also after the mover died. `never`: the VM takes its disk locks again, clears the mark and runs. */
_must_check_ int move_guest_never(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
				  struct error *err);
_must_check_ int move_guest_ran(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
				const char *where, struct error *err);

/* Destination. `mark`: the file where the token's one result is written (marks.h). */
_must_check_ int move_guest_arrive(struct move_guest *guest, const void *owner,
				   const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
				   int mark_fd, struct error *err);
/* Loads `len` bytes of state from the shared file. A rehearsal judges every section and sets the vCPUs in KVM, and starts no
 * request and no timer; it may be followed by another load. */
_must_check_ int move_guest_load(struct move_guest *guest, const void *owner, uint64_t len,
				 uint64_t stopped_ns, bool rehearse, struct error *err);
/* The networks learn that this VM will be here: it stands still, or nearly so, where it runs now (vm_announce_soon). Where it goes on
 * there after all, that side tells them so. */
_must_check_ int move_guest_announce(struct move_guest *guest, const void *owner,
				     struct error *err);
/* Whether `owner` has this VM, which is to be loaded and did not run. */
bool move_guest_is_arriving(const struct move_guest *guest, const void *owner);
/* Whoever protects it says from here on when it runs and may be heard: a load that counts, announce, renew and commit are refused. */
void move_guest_keep(struct move_guest *guest);
/* The first `len` bytes at shared.state_at: a copy, the caller's to free(). Then, of a part of it, a load that counts; and the VM runs without a
 * word to the networks, as whoever protects it decides when it may be heard: it locks the disks (-EBUSY: another has one; may be repeated), lets go
 * of the owner, tells no `arrived`, and may be moved from then on like any other. */
_must_check_ int move_guest_read_state(const struct move_guest *guest, const void *owner,
				       uint64_t len, void **ret_state, struct error *err);
_must_check_ int move_guest_load_state(struct move_guest *guest, const void *owner,
				       const void *state, size_t len, uint64_t stopped_ns,
				       struct error *err);
_must_check_ int move_guest_run_held(struct move_guest *guest, const void *owner,
				     struct error *err);
/* After a load: this VM is a second one beside the one whose state it has (vm_renew). */
_must_check_ int move_guest_renew(struct move_guest *guest, const void *owner, struct error *err);
/* Anybody: a VM that waits to be loaded ends, when no mover has it. -EBUSY: one has, or is not heard to its end yet; -ESRCH: it waits for
 * none, or may have run. */
_must_check_ int move_guest_abandon(struct move_guest *guest, struct error *err);
/* The commit point: locks the disks, writes `T -> ran` unless the token has a result, and runs the VM. *ret_ran false: the token
 * says never; the VM's process then ends. After an error nothing is known of the token: ask again. Who asked and went leaves it to
 * the VM, which asks until it knows, and then runs or ends. */
_must_check_ int move_guest_commit(struct move_guest *guest, const void *owner, bool *ret_ran,
				   struct error *err);

/*
 * Memory that comes while the VM runs (move/pages/demand.h). `uffd` (taken): a userfaultfd of this process, or -1 where the host gives none.
 * Starts the thread that watches over movers' lives: before the sandbox closes, with its step in `entry`.
 */
_must_check_ int move_guest_guard(struct move_guest *guest, int uffd,
				  const struct thread_entry *entry);
/* Destination, after arrive and before a load that counts: registers RAM's mappings, so that who touches what is missing waits, and sends
 * the userfaultfd and the addresses of RAM's banks (struct
 * move_demand_message) over the socket `life` (taken, also on failure). When its other end goes while pages are still to come
 * (move_shared_left), or says why it gives up, events.lost is called. A VM that ends then, as it should, says so there
 * (move_guest_hurry). -EOPNOTSUPP: there is no userfaultfd, or not for such memory. */
_must_check_ int move_guest_demand(struct move_guest *guest, const void *owner, int life,
				   struct error *err);
/* Whether there is one. */
bool move_guest_can_demand(const struct move_guest *guest);
/* All pages are there: lets go of the userfaultfd, and of the owner. */
_must_check_ int move_guest_filled(struct move_guest *guest, const void *owner, struct error *err);
/* Bytes that are still to come; 0: none, also when nobody loads on demand. */
uint64_t move_guest_lacks(struct move_guest *guest);
/* The VM is being ended: when a thread still waits for a page some seconds later, events.lost is called. `will`: why, when that is its
 * guest's will or somebody's here, which the mover is told; NULL: it failed. */
void move_guest_hurry(struct move_guest *guest, const char *will);
/* The two ends of `life` say why they go, in a line for people: before the commit or after it, and never wait for that. What is heard
 * is printable; false: nothing was said. */
#define MOVE_LAST_WORD 160
void move_life_say(int life, const char *word);
_must_check_ bool move_life_hear(int life, char ret_word[MOVE_LAST_WORD]);

struct move_demand_message {
	uint64_t addresses[MEMORY_BANKS_MAX];
	uint64_t can_zero; /* bool */
};
/* Destination, committed, memory still to come: nothing is heard of who sends it, so the vCPUs stand (vm_wait); or they go on. */
_must_check_ int move_guest_wait(struct move_guest *guest, const void *owner, bool stand,
				 struct error *err);

/*
 * ---- an upgrade: another process on this host goes on with the same RAM ----
 *
 *   old    hand_over: what is open is sent   save (rehearsal)*   give: stop, state ------> ran: it ends | never: it goes on
 *   new    inherit                           load (rehearsal)*                     take: load, commit, run
 *
 * The word of host/succession.h is decided by `take`, or, whichever is first, by `never`, by the end of the old owner's
 * connection, or by five seconds without news after `give`.
 */

/* As move_guest_check, for an upgrade. */
void move_guest_check_upgrade(struct move_guest *guest, struct problems *problems);
/* Old. Takes all three descriptors, also on failure; `heir` does not block. Cancelled as a move is. */
_must_check_ int move_guest_hand_over(struct move_guest *guest, const void *owner,
				      const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
				      int succession_fd, int heir_fd, struct error *err);
/* move_guest_stop, then at once move_guest_save with `version`; then events.given. */
_must_check_ int move_guest_give(struct move_guest *guest, const void *owner,
				 unsigned int deadline_ms, uint16_t version, struct error *err);
/* New. Takes both descriptors, also on failure. */
_must_check_ int move_guest_inherit(struct move_guest *guest, const void *owner,
				    const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
				    int succession_fd, struct error *err);
/* Loads the state of `moment_ns` and commits. *ret_ran false: the old one goes on, and this process ends. *ret_ran_ns: when the guest
 * ran. After an error the old one must be told `never`. */
_must_check_ int move_guest_take(struct move_guest *guest, const void *owner, uint64_t len,
				 uint64_t moment_ns, bool *ret_ran, uint64_t *ret_ran_ns,
				 struct error *err);

/* The owner's connection ended. */
void move_guest_forget(struct move_guest *guest, const void *owner);
