/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The destination's part of --copy-disks. NULL means that no disk is copied; everything but destination_disks_run takes it. */

#include "move/mover/mover.h"

struct destination_disks;

/* The phase: passes over all streams, each made durable and read back. Works on mover->job->disks; NULL comes back where there are
 * none. Errors as of the phases (move/mover/destination.c). */
_must_check_ int destination_disks_run(struct mover *mover, struct destination_disks **ret_disks);
void destination_disks_free(struct destination_disks *disks);

/* A checked frame of stream 0 between two rounds: 1 when it was a disk's, 0 when not. */
_must_check_ int destination_disks_frame(struct destination_disks *disks,
					 const struct frame *frame);
/* All must be there, and right by its hash. Lets the disks go: the VM's process is to have them. */
_must_check_ int destination_disks_finish(struct destination_disks *disks);
