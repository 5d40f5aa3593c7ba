/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sends pages over all streams of a move, one thread each, round by round.
 *
 *   claim -> zero? -> ZEROES, where the receiver holds something else
 *                     known content, and deltas pay -> copy, XOR, DELTAS
 *                     packing pays -> copy, PACKED
 *                     else PAGES, or SUMMED: straight from RAM's file
 *
 * Whether packing and deltas pay is measured while moving (move/pages/pack_policy.h). Each thread ends a round with a ROUND frame
 * on its stream; while no round runs, the streams are the caller's.
 */

#include "base/clock.h"
#include "base/thread.h"
#include "move/job.h"
#include "move/mover/line.h"
#include "move/pages/map.h"
#include "move/mover/progress.h"
#include "wire/frame.h"

struct pages_sender;

struct pages_send_settings {
	struct page_map *map; /* borrowed */
	struct frame_writer
		*writers;   /* borrowed; `n_streams` of them, the threads' while a round runs */
	uint32_t n_streams; /* 1..MOVE_STREAMS_MAX */
	struct line *line;  /* of stream 0, for pages_send_rest; borrowed */
	enum move_compress compress;
	uint64_t
		max_bandwidth; /* bytes per second of all streams; 0: no limit. Not held to in the last round */
	uint64_t
		delta_bytes; /* kept of sent pages for deltas; at most LIMIT_DELTA_CACHE, 0: as much as that */
	bool sums; /* of pages that go as they are: the receiver takes SUMMED */
	const struct clock *clock;
	const struct thread_entry *entry; /* of each thread; may be NULL. Used until new returns */
};

_must_check_ int pages_send_new(const struct pages_send_settings *settings,
				struct pages_sender **ret_sender, struct error *err);
/* Ends the threads; a round that still runs is cancelled with its streams (stream_cancel). */
void pages_send_free(struct pages_sender *sender);

/* Begins round `number`. `last`: the VM stands still, and there is no other round after it. */
void pages_send_begin(struct pages_sender *sender, uint32_t number, bool last);
/*
 * Post-copy: begins the round that ends all, with what page_map_settle left, once the receiver knows what that is. The VM stands
 * here and runs there. Stream 0 is left to the caller, who sends its end of the round; over one stream alone its line takes
 * turns. Each page goes once, those of zeros as well. --max-bandwidth holds.
 */
void pages_send_rest(struct pages_sender *sender, uint32_t number);
/* In that round, one thread: pages of [first, first + n) that have not gone yet go now, on stream 0. How many, or an error. */
_must_check_ int pages_send_wanted(struct pages_sender *sender, uint64_t first, uint32_t n);

/* 1 when the round has ended (its bytes are the kernel's), 0 after `timeout_ms`, or the first thread's error in `err`. */
_must_check_ int pages_send_wait(struct pages_sender *sender, unsigned int timeout_ms,
				 struct error *err);

/* Sets sent (guest bytes of pages that are not zero), left, pages, zero_pages, delta_pages, packed_pages and streams; leaves the
 * others. Any thread. */
void pages_send_numbers(struct pages_sender *sender, struct move_numbers *numbers);
/* What packing does now and why, one line for people: static text. Any thread. */
const char *pages_send_packing(struct pages_sender *sender);
