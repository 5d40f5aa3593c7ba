/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* source.c is the hand-over's side, source_memory.c the rounds. */

#include "move/mover/convergence.h"
#include "move/handover.h"
#include "move/mover/mover.h"
#include "move/pages/send.h"
#include "move/mover/source_disks.h"

struct source_rest;

struct source {
	struct mover mover;
	struct handover_source handover;
	bool over;   /* nothing more to do in this process */
	bool asking; /* in doubt: it is for the daemon to ask */
	struct page_map *map;
	struct pages_sender *sender;
	struct source_disks *disks; /* NULL: none is copied */
	struct convergence convergence;
	uint32_t round;
	bool round_done; /* the other side has said so of this round */
	uint32_t throttle;
	struct source_rest *rest; /* post-copy (source_postcopy.h); NULL: none */
	uint64_t collected_ns;	  /* when the dirty log was last asked */
	uint64_t state_len;
	uint64_t rehearsed_from, fixed_ns; /* when the rehearsal began; how long it took */
	uint64_t stopped_at, saved_at;	   /* when the guest stood, and when its state was taken */
	bool clocks_compared;
	int64_t ahead_ns; /* the other host's clock, of this one; no more than it is */
};

/* All the populated memory, then what was written meanwhile, until little enough is left. */
_must_check_ int source_memory(struct source *source);
/* Reads what was sent into the numbers. */
void source_count(struct source *source);
/* What the other side says while this one waits for its word; of stream 0, its payload in readers[0]. */
void source_hear(struct source *source, const struct frame *frame);
/* Begins the round that ends all; source_end_round waits for it. Rounds and waiting post events as mover_receive does. */
void source_begin_round(struct source *source, bool last);
_must_check_ int source_end_round(struct source *source);
