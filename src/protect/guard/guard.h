/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the guards of a protected VM are started with (programs/utsusu-move; move/job.h has the job).
 *
 *   VM <--link--> owner's guard ==stream (protect/protocol.h)==> backup's guard <--link--> VM that waits
 *                   RAM, disks: read                               RAM, disks, journal: written
 */

#include "base/thread.h"
#include "move/job.h"
#include "move/mover/progress.h"
#include "protect/link.h"

#define GUARD_PATIENCE_MS                                                                          \
	30000 /* with a silent peer, as long as nothing is lost with it but time */

struct guard_settings {
	struct move_job *job;		  /* borrowed; its streams are taken */
	struct protect_link *link;	  /* borrowed */
	const struct clock *clock;	  /* borrowed */
	const struct thread_entry *entry; /* of each thread that is started; may be NULL */
};
