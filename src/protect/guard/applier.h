/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Brings what was acknowledged from a backup's journal to its disks, on a thread of its own: a slow disk delays no acknowledgement before the journal is
 * full. */

#include "protect/guard/internal.h"

struct applier {
	struct journal
		*journal; /* borrowed; NULL: no disk is mirrored, and nothing is ever to do */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under it. */
	uint64_t wanted, done; /* epochs */
	bool over;
	struct error error; /* after which nothing more is done */
};

void applier_init(struct applier *applier);
_must_check_ int applier_start(struct applier *applier, struct journal *journal,
			       const struct thread_entry *entry);
/* `epoch` was acknowledged, and all before it. */
void applier_post(struct applier *applier, uint64_t epoch);
/* Until `epoch`, which was posted, is on the disks. The applier's error otherwise, with `err`. */
_must_check_ int applier_wait(struct applier *applier, uint64_t epoch, struct error *err);
_must_check_ int applier_judge(struct applier *applier, struct error *err);
/* Ends the thread behind what it is doing. */
void applier_stop(struct applier *applier);
void applier_release(struct applier *applier);
