/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Receives pages into RAM's file, one thread for each stream: by writing to it, or through a mapping of our own. The VM's process
 * does not see them come. A page may be sent in two rounds over two streams, so a thread that has read ROUND waits until all have.
 * Everything that comes is a peer's: each page number and length is judged against RAM's size before use.
 */

#include "base/thread.h"
#include "move/mover/progress.h"
#include "wire/frame.h"

/* RAM, as a receiver sees it. Every function of it may be called by several threads, for different pages. */
struct pages_target;
/* Maps `ram_fd` (borrowed). `empty`: makes it all holes first, whatever a rehearsal left there. */
_must_check_ int pages_target_new(int ram_fd, uint64_t ram_bytes, bool empty,
				  struct pages_target **ret_target, struct error *err);
void pages_target_free(struct pages_target *target);
/* After the last round: -EBADMSG with `err` when a page is not as it was sent. */
_must_check_ int pages_target_whole(struct pages_target *target, struct error *err);

/* Post-copy: from here on pages are placed where somebody may wait for them, and only those that are expected. While none comes. */
struct demand;
/* And before, of those that are: what came of them does not count. */
void pages_target_forget(struct pages_target *target, uint64_t first, uint64_t n);
void pages_target_set_demand(struct pages_target *target, struct demand *demand);

/* What one thread needs to unpack; made once. */
struct pages_unpack;
_must_check_ int pages_unpack_new(struct pages_unpack **ret_unpack);
void pages_unpack_free(struct pages_unpack *unpack);

/* Applies one frame whose header frame_receive gave (PAGES, SUMMED, ZEROES, PACKED, DELTAS). 1: applied, 0: of another kind, nothing
 * received; -EBADMSG and others with `err`. */
_must_check_ int pages_apply(struct pages_target *target, struct pages_unpack *unpack,
			     struct frame_reader *reader, const struct frame *frame,
			     struct error *err);

struct pages_receive_settings {
	struct pages_target *target; /* borrowed */
	struct frame_reader *
		readers; /* borrowed, `n_streams` of them: [0] is the caller's between rounds, the others the threads' */
	uint32_t n_streams;		  /* 1..MOVE_STREAMS_MAX */
	unsigned int idle_ms;		  /* how long a stream may be silent between two frames */
	const struct thread_entry *entry; /* of each thread; may be NULL. Used until new returns */
};

struct pages_receiver;
_must_check_ int pages_receive_new(const struct pages_receive_settings *settings,
				   struct pages_receiver **ret_receiver, struct error *err);
/* Ends the threads. If the last round was not received, streams 1 and up are cancelled (stream_cancel). */
void pages_receive_free(struct pages_receiver *receiver);

struct pages_round {
	uint32_t number;
	bool last;
};

/*
 * The caller's thread serves stream 0 until its ROUND, and waits for the others'. 1: all pages of `*ret_round` are in RAM.
 * 0: stream 0 brought a frame of another kind, `*ret_frame` (its payload as frame_receive leaves it); call again to go
 * on. Negative with `err`: the first error of any stream. Rounds are numbered 1, 2, ...
 */
_must_check_ int pages_receive_round(struct pages_receiver *receiver, struct pages_round *ret_round,
				     struct frame *ret_frame, struct error *err);
/* From now on a stream may be silent for any time. Any thread. */
void pages_receive_be_patient(struct pages_receiver *receiver);
/* Ends its threads: nothing is written any more. The thread that frees it. */
void pages_receive_stop(struct pages_receiver *receiver);
/* Sets sent (guest bytes received), pages, zero_pages, delta_pages, packed_pages, round, streams. Any thread. */
void pages_receive_numbers(struct pages_receiver *receiver, struct move_numbers *numbers);
