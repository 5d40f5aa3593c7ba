/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Held output: nothing leaves a protected VM before its backup has the state that produced it. One `hold` for a VM says what may leave;
 * each ordered output (a queue of a network device, a console's stream) has a `lane`, which keeps what may not leave yet, by epoch.
 *
 *   guest -> lane_put -> [ epoch 7 | 7 | 8 | 8 | 9 ] -> lane_next -> the back end takes it -> lane_took
 *                          acknowledged    ^ held ^present
 *
 * While it is shut, what the guest puts out belongs to the present epoch and is held; hold_release says that epochs are acknowledged. While
 * it is open, all passes, after what is held. A full lane neither drops nor releases: it takes nothing more, and the device leaves what it has
 * with the guest. What is dropped: an item (of a lane that `ages`) whose acknowledgement is HOLD_AGE_NS old when its turn comes. Its owner
 * stood still meanwhile, and may have been succeeded; dropping is always allowed.
 *
 * Threads. "Control" is the VM's control thread, or one that it waits for (worker_call). "Still": control, while the threads that put out stand (the barrier is held: base/quiesce.h; or
 * they have not begun, or ended); what changes then needs no lock. "Lane": the one thread that serves the lane at that time.
 */

#include <pthread.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/epoch_queue.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/list.h"

#define HOLD_AGE_NS NSEC_PER_SEC
/* Acknowledgements within a grain count as of its beginning: so many are remembered, and age is judged so exactly. */
#define HOLD_GRAIN_NS (NSEC_PER_SEC / 64)
#define HOLD_ACKS 72

struct hold_ack {
	uint64_t epoch; /* and all before */
	uint64_t at_ns;
};

struct hold {
	const struct clock *clock; /* borrowed */
	struct list lanes;	   /* control */
	/* atomic; written by control */
	bool shut;
	uint64_t epoch; /* the present one: what comes out now belongs to it */

	pthread_mutex_t lock;		 /* leaf; guards what follows */
	bool open;			 /* what is held may leave, whatever its epoch */
	uint64_t acked;			 /* below `epoch` */
	struct hold_ack acks[HOLD_ACKS]; /* oldest first */
	unsigned int n_acks;
};

/* `epoch`: the present one, 1 or more. One that takes over begins shut, after the last epoch that it has. The clock is the lanes' as well. */
void hold_init(struct hold *hold, const struct clock *clock, uint64_t epoch, bool shut);
void hold_destroy(struct hold *hold); /* all lanes are removed before */

/* Control, before the first cut that counts: what comes out after the next barrier is held. What is on its way at this moment may still leave; its
 * epoch is not cut yet, so that the cut contains it. */
void hold_shut(struct hold *hold);
/* Still: `epoch` ends, here and now; not below the present one, as no number is ever used again. */
void hold_cut(struct hold *hold, uint64_t epoch);
/* Control: `epoch` and all before are acknowledged since `at_ns` of the clock. A number that was not cut yet counts as the last that was; one
 * that is known already changes nothing. */
void hold_release(struct hold *hold, uint64_t epoch, uint64_t at_ns);
/* Control: what is held leaves, and from here on all. */
void hold_open(struct hold *hold);
/* Still: what is held is gone (the VM runs elsewhere). */
void hold_drop_all(struct hold *hold);
/* Control: the last epoch of which nothing is held any more: back ends took it all (or it was dropped). */
uint64_t hold_released(struct hold *hold);

/* ---- lanes ---- */

/* Quarters of an octave from 1 us: the last holds all from an hour on. */
#define HOLD_TIMES 128

/* Of one lane, or summed. Written by its thread, read by control at any time. */
struct hold_counts {
	uint64_t items, bytes;		   /* held now */
	uint64_t first_epoch, first_at_ns; /* of the oldest item held; UINT64_MAX: none */
	uint64_t passed, held;		   /* items that did not wait, and those that did, so far */
	uint64_t left;			   /* items that were held and that the back end took */
	uint64_t aged,
		lost;	  /* dropped for their age; lost by the back end's error, or dropped all */
	uint64_t refused; /* times that there was no room */
	uint64_t times[HOLD_TIMES]; /* how long those that left had been held */
};

struct hold_lane_params {
	uint16_t kind;	/* what its items are; a section of another kind is refused */
	bool ages;	/* old items are dropped */
	bool splits;	/* an item may leave in pieces: bytes of a stream */
	size_t size;	/* bytes of its ring: EPOCH_ITEM_OVERHEAD for each item included */
	size_t longest; /* bytes of an item; at most `size` - EPOCH_ITEM_OVERHEAD */
	/* Any thread: hold_lane_next may answer otherwise now; the lane's thread shall look soon. Posts only. */
	void (*poke)(void *ctx);
	/* Judges an item that comes from a peer (NULL: all are right). */
	bool (*is_right)(const void *bytes, size_t len);
	void *ctx;
};

struct hold_lane {
	struct list link;
	struct hold *hold;
	struct hold_lane_params params;
	struct epoch_queue queue; /* lane; and control while still */
	uint64_t offset; /* as the queue: bytes that left it so far, here and at earlier owners */
	struct hold_counts counts; /* each atomic */
};

/* Control, both. What a removed lane still holds is gone. */
_must_check_ int hold_lane_add(struct hold *hold, const struct hold_lane_params *params,
			       struct hold_lane *lane);
void hold_lane_remove(struct hold_lane *lane); /* harmless where it was not added, but is zero */

/* Lane. Whether what is put out now leaves at once: the caller gives it to the back end itself, and to nothing else. */
bool hold_lane_passes(struct hold_lane *lane);
/* Lane. Holds a copy of one item (1..longest bytes), or -EAGAIN: there is no room. */
_must_check_ int hold_lane_put(struct hold_lane *lane, const struct iovec *iov, unsigned int n_iov,
			       size_t len);
/* Lane; of a stream of bytes: holds as much as there is room for, and says how much. */
size_t hold_lane_put_bytes(struct hold_lane *lane, const void *bytes, size_t len);
/* Lane. Notes `n` bytes that passed. */
void hold_lane_passed(struct hold_lane *lane, size_t n);

/* Lane. The first item that may leave now, in one or two buffers (how many; 0: none may). The buffers are valid until the lane is changed. */
unsigned int hold_lane_next(struct hold_lane *lane, struct iovec ret_iov[2]);
/* Lane. The first `n` bytes of what hold_lane_next gave are gone: taken by the back end, or lost by an error of its. */
void hold_lane_took(struct hold_lane *lane, size_t n, bool lost);

/* hold*.c only: shows control what the queue holds, after each change of it. */
void hold_lane_publish(struct hold_lane *lane);

/* Control: how much was held, and how long. */
void hold_lane_count(const struct hold_lane *lane, struct hold_counts *ret_counts);
void hold_counts_add(struct hold_counts *sum, const struct hold_counts *counts);
/* The time below which so many of 1000 items that left had been held, in ns, not more than a quarter too much; 0: none left. */
uint64_t hold_counts_time(const struct hold_counts *counts, unsigned int per_mille);

/*
 * What a checkpoint has of an output: hold_section.c. Little-endian.
 *
 *   section := "UHLD" u16 version u16 kind u32 n_lanes u64 after u64 up_to lane*
 *   lane    := u64 gone u64 offset u32 n_items item*
 *              gone: bytes of this lane that had left (or were dropped) when this was written; offset: where its first item lies
 *   item    := u64 epoch u32 len bytes             after < epoch <= up_to, never falling
 *
 * A checkpoint of epoch E has either all that is held (after = 0, or what is released), or what its own epoch brought (after = E - 1): then the
 * backup keeps those before as long as they may hold something that has not left, and the last one tells what had.
 * Version rule: a reader takes its own version and refuses others; both hosts of a protected VM speak one (the handshake's business).
 */
#define HOLD_SECTION_HEADER 28
#define HOLD_SECTION_LANE 20
#define HOLD_SECTION_ITEM 12
#define HOLD_SECTION_LANES LIMIT_QUEUES

/* Still. Appends what is held of the epochs (after, up_to]; a lane may be NULL:
 * it holds nothing. -E2BIG by the buffer's limit, which hold_section_limit says. */
_must_check_ int hold_section_write(struct hold_lane *const *lanes, unsigned int n_lanes,
				    uint16_t kind, uint64_t after, uint64_t up_to,
				    struct buffer *out);
/* Bytes of the longest section of lanes with rings of `size` bytes. */
size_t hold_section_limit(unsigned int n_lanes, size_t size);
/* Still, at a new owner whose lanes are empty: what one or more sections (one after the other, 1 or more) have that had not left by the last of them.
 * The bytes are not trusted: all of them are judged before anything is changed. -EBADMSG, or -E2BIG: more than the lanes' rings hold. */
_must_check_ int hold_section_read(struct hold_lane *const *lanes, unsigned int n_lanes,
				   uint16_t kind, const struct iovec *sections,
				   unsigned int n_sections, struct error *err);
