/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What lies between the two movers of a rig (move_rig.h): its streams, and what the plan has befall them. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "move/job.h"

struct move_rig;

/* One direction of one stream. Frames are parsed where they are plain, so that one kind can be meant. */
struct move_wire_end {
	struct move_wire *wire;
	int from, to;
	bool frames;	  /* look at them */
	uint64_t flip_at; /* else: this byte; 0: none */
	uint64_t passed;
	pthread_t thread;
};

struct move_wire {
	struct move_rig *rig;
	/* Before a frame of this kind passes, on the thread of its stream; where streams are plain. */
	void (*passes)(struct move_rig *rig, uint64_t kind);
	pthread_mutex_t lock;
	bool muted; /* nothing passes behind the frame that was meant */
	bool ran;   /* ANSWER_RAN has passed */
	unsigned int passed;
	uint64_t silent_until; /* atomic; 0: it is not */
	uint32_t n_ends;
	struct move_wire_end ends[2 * MOVE_STREAMS_MAX];
};

/* Makes the streams of both sides' jobs. `passes`: see above. */
void move_wire_open(struct move_wire *wire, struct move_rig *rig,
		    void (*passes)(struct move_rig *rig, uint64_t kind));
/* Cuts what is still whole. */
void move_wire_close(struct move_wire *wire);
