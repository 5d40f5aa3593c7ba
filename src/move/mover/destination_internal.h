/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* destination.c is the hand-over's side, destination_postcopy.c what comes after the run. */

#include "move/mover/destination_disks.h"
#include "move/handover.h"
#include "move/mover/mover.h"
#include "move/pages/receive.h"

struct destination_rest;

struct destination {
	struct mover mover;
	struct handover_destination handover;
	bool over;
	bool asking;			 /* what is left is the daemon's */
	bool arriving;			 /* the VM's process is ours */
	struct destination_disks *disks; /* NULL: none is copied */
	struct pages_target *target;
	struct pages_receiver *receiver;
	struct destination_rest *rest; /* post-copy (destination_postcopy.h); NULL: none */
	unsigned int n_soon;	       /* times that the VM was announced before it runs */
	uint64_t state_len;
	uint64_t stood_ns, stood_at; /* how long the guest stood, and when that came */
};

/* The next frame, which must be of `kind`. */
_must_check_ int destination_receive(struct mover *mover, enum move_frame kind,
				     struct frame *ret_frame);
/* What the source says while this side waits for its word. */
void destination_hear(struct destination *destination, const struct frame *frame);
