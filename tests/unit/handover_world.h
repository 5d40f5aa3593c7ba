/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Two hosts and one VM that is moved between them, as small as it can be for the hand-over to be right or wrong in it: the VM's
 * process on each host, movers, daemons, marks, and the set of all messages ever sent. The movers and daemons are src/move/handover.c
 * itself; everything else here does what the contracts of move/guest/guest.h and move/marks.h say, at its worst:
 *
 *   - A message, once sent, may arrive at any later time, any number of times, or never, at whoever then listens on that host.
 *   - Whatever a process does is done in single steps; it, another one or the whole host may end between any two.
 *   - A mark that was written and not synced is seen by all processes, and is kept or lost when the host's power goes.
 *   - In post-copy a VM runs on what its source's mover still has of it: with that, or its own mover, it ends.
 *   - An order to a VM's process may be answered late or never, and be carried out after nobody waits for it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "move/handover.h"

#define WORLD_HOSTS 2
#define WORLD_MOVES 2

enum world_vm_at { VM_NONE, VM_RUNS, VM_STANDS, VM_GIVEN, VM_ARRIVES };
enum world_order {
	ORDER_NONE,
	ORDER_GIVE,
	ORDER_GIVING, /* `given` is written, not yet durable; it answers nobody meanwhile */
	ORDER_COMMIT,
	ORDER_SYNC, /* `ran` is written, under the file's lock, not yet durable */
};

struct world_vm {
	uint8_t at, move, order; /* `move`: whose mover leads it */
	uint8_t owned;		 /* that mover's connection stands */
	uint8_t killed, clearing;
	uint8_t partial; /* runs, and some of its memory is still its source's mover's */
};

struct world_host {
	struct world_vm vm;
	uint8_t up;
	uint8_t given, given_move;
	uint8_t taken[WORLD_MOVES], synced[WORLD_MOVES];
};

enum world_role { SOURCE_MOVER, SOURCE_DAEMON, DESTINATION_MOVER, DESTINATION_DAEMON, WORLD_ROLES };

/* A living user of the hand-over: the plain value of its state, and what it was told to do and has not done yet. */
struct world_actor {
	uint8_t lives, at, phase, flags;
	uint8_t works, waits; /* on its phase; for the VM's process */
	uint8_t reply, unused;
	uint32_t pending;
};

struct world_move {
	uint8_t begun, source; /* host */
	uint8_t whole, unused; /* post-copy: all has come */
	struct world_actor actors[WORLD_ROLES];
	uint32_t sent; /* enum handover_event_kind as bits */
};

struct world {
	struct world_host hosts[WORLD_HOSTS];
	struct world_move moves[WORLD_MOVES];
	uint8_t moves_left, crashes_left, troubles_left;
	uint8_t holder_died; /* the only copy is gone: what comes is a start from the disks */
};

/* How much may go wrong. `troubles`: cancels and failed phases. `late`: moves begin with all before the stop done. */
struct world_rules {
	uint8_t moves, crashes, troubles;
	bool late;
	bool postcopy;	/* of each move the rest of memory comes after the run */
	bool only_harm; /* judges what came of it, not promises on the way */
};

/* Called for each state that can follow. `broken`: NULL, or the promise that this very step breaks. */
struct world_visitor {
	void (*next)(void *ctx, const struct world *next, bool fault, const char *broken,
		     const char *what);
	void *ctx;
	bool named; /* `what` is said: that takes longer than all else */
};

void world_init(const struct world_rules *rules, struct world *ret_world);
void world_next(const struct world *world, const struct world_rules *rules,
		const struct world_visitor *visitor);
/* One runs, and nothing is left to be settled. */
bool world_is_settled(const struct world *world);
