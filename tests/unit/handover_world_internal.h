/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How the world's parts make one state from another: handover_world.c, _vm.c (processes), _actor.c (actions), _event.c. */

#include <stdio.h>
#include <string.h>

#include "handover_world.h"

#define BIT(kind) (1U << (kind))
#define NOBODY 0xff
/* ON_CANCELLED goes both ways: the source's is kept under a bit that no message has. */
#define SOURCES_CANCEL 0

/* A state being made from another, and the promise that it broke. */
struct step {
	struct world world;
	const char *broken;
	bool only_harm, named;
	char what[96];
};

struct maker {
	const struct world *from;
	const struct world_rules *rules;
	const struct world_visitor *visitor;
};

static inline struct step step_begin(const struct maker *maker)
{
	return (struct step){ .world = *maker->from,
			      .only_harm = maker->rules->only_harm,
			      .named = maker->visitor->named };
}

#define describe(step, ...)                                                                        \
	do {                                                                                       \
		if ((step)->named)                                                                 \
			snprintf((step)->what, sizeof((step)->what), __VA_ARGS__);                 \
	} while (0)
/* What must hold on the way, lest harm come of it; and what is harm. */
void step_promise(struct step *step, bool kept, const char *what);
void step_unharmed(struct step *step, bool unharmed, const char *what);
/* `fault`: a way out of doubt must not need it. */
void step_emit(const struct maker *maker, struct step *step, bool fault);

static inline struct world_host *host_of(struct world *world, unsigned int move, bool destination)
{
	return &world->hosts[world->moves[move].source ^ destination];
}

static inline bool is_destination(unsigned int role)
{
	return role >= DESTINATION_MOVER;
}

static inline bool is_daemon(unsigned int role)
{
	return role == SOURCE_DAEMON || role == DESTINATION_DAEMON;
}

static inline struct handover_id id_of(unsigned int move)
{
	return (struct handover_id){ .token = { (uint8_t)(move + 1) }, .generation = move + 2 };
}

const char *role_name(unsigned int role);

/* Processes of the VM. */
void vm_steps(const struct maker *maker, unsigned int h);
void vm_end(struct world *world, struct world_vm *vm);
bool vm_has_gone(const struct world *world, unsigned int move, bool destination);

/* Movers and daemons. */
void actor_tell(struct step *step, unsigned int move, unsigned int role,
		enum handover_event_kind kind, unsigned int of_move);
void actor_begin(struct step *step, unsigned int move, unsigned int role);
void actor_begin_again(struct step *step, unsigned int move, unsigned int role,
		       enum handover_mark mark, bool vm_lives);
void actor_acts(const struct maker *maker, unsigned int move, unsigned int role);
void actor_end(struct world *world, unsigned int move, unsigned int role);

void actor_steps(const struct maker *maker, unsigned int move, unsigned int role);
void source_daemon_looks(const struct maker *maker, unsigned int h);
void destination_daemon_looks(const struct maker *maker, unsigned int move);
void messages_come(const struct maker *maker, unsigned int move);
