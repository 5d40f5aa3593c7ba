/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A world of hosts, one arbiter and one protected VM, in which everything goes wrong that may: messages are lost, late and said again,
 * processes freeze (nothing of them happens for a while) and end, an answer of the arbiter is lost while its swap lands, a
 * read is old. What decides in it is src/protect/ownership.c; the world keeps account of what the guest put out and of whose
 * memory contains it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protect/ownership.h"

#define WORLD_HOSTS 3
#define WORLD_OUTPUTS 12   /* as bits 1 .. of a state; bit 0 is what was there from the start */
#define WORLD_EPOCHS 24	   /* numbers 1 .. */
#define WORLD_SESSIONS 12  /* 1 .. */
#define WORLD_REVISIONS 48 /* 1 .. */
#define WORLD_REQUESTS 4   /* of one process, under way at once */
#define WORLD_MOVES 256	   /* that are possible at once */

struct world_limits {
	uint8_t hosts, outputs, epochs, sessions, revisions, crashes;
	uint8_t troubles;  /* answers of the arbiter that get lost */
	bool switches_off; /* the guest may, by itself */
};

enum world_life { LIFE_NONE, LIFE_LIVES, LIFE_CRASHED, LIFE_ENDED };

struct world_request {
	bool under_way, orphan; /* orphan: nobody waits for its answer any more */
	struct ownership_record want;
};

struct world_host {
	enum world_life life;
	uint8_t incarnation;
	struct ownership ownership;
	bool runs; /* the guest, here */
	bool off;
	bool holds;			/* its output */
	bool spoiled;			/* could not be made to run */
	uint16_t state;			/* outputs that its memory's history contains */
	uint16_t held;			/* of them: not put out yet */
	uint8_t tag[WORLD_OUTPUTS + 1]; /* epochs of what is held */
	bool preparing, applying;
	bool answered; /* the swap that it waits for: `answer` comes */
	bool won;
	struct ownership_record answer;
	struct world_request requests[WORLD_REQUESTS];
};

struct world_session {
	struct ownership_id owner;	 /* who makes this copy */
	uint16_t sent[WORLD_EPOCHS + 1]; /* what each epoch's state contains; 0: was not sent */
	uint8_t acked;			 /* the highest that was ever said */
};

struct world {
	struct world_limits limits;
	struct world_host hosts[WORLD_HOSTS];
	struct world_session sessions[WORLD_SESSIONS + 1];
	uint8_t n_sessions, n_outputs, n_crashes, n_troubles;
	uint8_t revision; /* of the record that stands */
	struct ownership_record history[WORLD_REVISIONS + 1];
	uint16_t released;		       /* everything that was ever put out */
	uint8_t releaser[WORLD_REVISIONS + 1]; /* of each generation: host + 1 */
	const char *broken;		       /* the first promise that was */
};

enum world_move_kind {
	MOVE_PUTS_OUT,
	MOVE_SWITCHES_OFF,
	MOVE_CUT,
	MOVE_SYNC,
	MOVE_GATE,
	MOVE_GIVES_UP,
	MOVE_RECEIVES,
	MOVE_ACK,
	MOVE_SUSPECTS,
	MOVE_PREPARED,
	MOVE_APPLIED,
	MOVE_APPLY_FAILED,
	MOVE_CLAIMANT_LOST,
	MOVE_TICK,
	MOVE_LANDS,
	MOVE_ANSWER,
	MOVE_ANSWER_LOST,
	MOVE_READS,
	MOVE_CRASH,
	MOVE_KINDS,
};

struct world_move {
	enum world_move_kind kind;
	uint8_t host, argument;
};

void world_init(const struct world_limits *limits, struct world *ret_world);
size_t world_moves(const struct world *world, struct world_move ret_moves[WORLD_MOVES]);
void world_do(struct world *world, const struct world_move *move);
const char *world_move_name(enum world_move_kind kind);

/* Two numbers that are the same for equal worlds, and for others practically never. */
void world_key(const struct world *world, uint64_t ret_key[2]);

/* The living process of this instance, or the living backup of this session; or NULL. */
const struct world_host *world_find(const struct world *world, const struct ownership_id *id);

/* Whether all that the guest put out has left, and the guest runs, at the record's owner, who can go on: where faults have ended. */
bool world_is_well(const struct world *world);
