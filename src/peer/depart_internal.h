/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM that is to go, or to be given a backup: what the parts of the source's side share. One thread. */

#include "move/link.h"
#include "move/marks.h"
#include "move/mover/progress.h"
#include "peer/depart.h"
#include "peer/lists.h"
#include "peer/machine.h"
#include "peer/mover.h"
#include "peer/talk.h"

struct departure;

/* What a move and a protection do each in their own way. */
struct departure_kind {
	enum move_role role;
	const char *cancelled; /* what is said then */
	/* What the other host must know beside the VM's facts. */
	int (*describe)(struct departure *departure, const struct move_facts *facts,
			struct error *err);
	/* What stands against it in the VM's own words. */
	void (*check)(struct departure *departure, struct move_link *link);
	/* Of the job, once the other host has reserved a place. */
	int (*fill)(struct departure *departure, struct error *err);
	/* The mover runs, and was waited for unless it goes on without us. */
	void (*end)(struct departure *departure);
};
extern const struct departure_kind departure_move, departure_protect;

struct departure {
	const struct departure_kind *kind;
	struct peer_host *host;
	const struct control_request *request;
	struct move_wish wish;
	int client;
	int progress_fd, lock_fd;
	struct progress progress;
	const struct peer *peer;
	struct talk *talk;
	struct lists *lists;
	struct marks *marks;
	struct peer_request ask; /* CHECK or RESERVE: the VM in both hosts' words */
	char *kernel, *initrd;	 /* paths here */
	json_t *config;		 /* the VM's, as it has it */
	struct problems problems;
	struct notes notes;
	json_t *reserved; /* the answer to RESERVE */
	char token[PEER_TOKEN_TEXT];
	struct move_job job;
	pid_t mover;
};

static inline const char *departure_name(const struct departure *departure)
{
	return departure->request->name;
}

/* -ECANCELED once whoever looked has gone or said so. */
_must_check_ int departure_cancelled(struct departure *departure, struct error *err);
/* depart_judge.c: a command without more words to its VM. */
_must_check_ int departure_ask(struct departure *departure, const char *command,
			       json_t **ret_answer, struct error *err);
/* depart_judge.c: all that stands against it on both sides; unless only that was asked for, a place there. */
_must_check_ int departure_judge(struct departure *departure, struct error *err);
/* depart_start.c: streams, and both movers. */
_must_check_ int departure_start(struct departure *departure, struct error *err);
