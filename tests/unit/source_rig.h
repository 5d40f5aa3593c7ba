/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM's part at the source of a move, and the file that it shares with its mover, which the test is. */

#include "guest_rig.h"

#include <pthread.h>

struct source_rig {
	struct guest_place place;
	struct guest_rig rig;
	struct move_shared shared; /* the mover's */
	struct error err;
	pthread_mutex_t lock;
	unsigned int n_records;
	struct block_record records[32];
};

/* Owners are addresses, no more. This one is meant where none is named. */
extern const char source_mover[];

/* `filter`: of the disk, or NULL. */
void source_make(struct source_rig *f, const char *filter);
void source_unmake(struct source_rig *f);

/* What a mover asks for; the descriptors are taken. */
int source_begin_with(struct source_rig *f, const void *owner, int shared_fd, int mark_fd);
int source_begin(struct source_rig *f);
uint64_t source_collect(struct source_rig *f);
/* Turns until it is told what came of it: 0, or why it does not stand still. */
int source_stop(struct source_rig *f, unsigned int deadline_ms);
int source_give(struct source_rig *f);

/* Up to here: pages are told and the guest is slowed; it stands still. */
void source_come_to_logging(struct source_rig *f);
void source_come_to_stopped(struct source_rig *f);

/* Everything is as before `begin`. */
void source_assert_undone(struct source_rig *f);
/* What its mark says (enum mark_result); -ENOENT, -EBADMSG. */
int source_mark_result(const struct source_rig *f);
