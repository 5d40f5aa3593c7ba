/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The parts of sim_handover.c: what is simulated, events to come, VM processes (_vm.c), movers and daemons (_actor.c). */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "move/handover.h"

#define HOSTS 2
#define MOVES_MAX 12
#define EVENTS_MAX 512
#define US 1ULL
#define MS (1000 * US)
#define SECOND (1000 * MS)
#define TROUBLE (40 * SECOND) /* how long things go wrong */
#define NOBODY 0xff

enum role { SOURCE_MOVER, SOURCE_DAEMON, DESTINATION_MOVER, DESTINATION_DAEMON, ROLES };
extern const char *const role_names[ROLES];

/* What may happen at a time to come. `instance`: of the process it happens to; when that has ended, it does not. */
enum kind {
	MESSAGE,      /* reaches a host */
	HAPPENS,      /* an event for an actor: an answer, a timer, the end of a phase */
	VM_ORDER,     /* reaches the VM's process */
	VM_SYNCED,    /* its write is on the disk, or an error */
	VM_ALONE,     /* sees that its mover has gone */
	ACTOR_SYNCED, /* an actor's `never` is on the disk, or an error */
	HOST_LOOKS,   /* its daemon looks at marks */
	HOST_BOOTS,
	MOVE_BEGINS,
	FAULT,
};

struct event {
	uint64_t at, order; /* `order`: of those of one moment */
	enum kind kind;
	uint32_t instance;
	uint8_t host, move, role;
	enum handover_event_kind what;
	enum handover_phase phase;
};

struct mark {
	enum handover_mark seen, synced;
	uint8_t move;	 /* of a given mark */
	uint32_t locked; /* instance of who writes, 0 nobody */
};

enum vm_at { VM_NONE, VM_RUNS, VM_STANDS, VM_GIVEN, VM_ARRIVES };
struct vm {
	enum vm_at at;
	uint32_t instance, owner; /* `owner`: instance of the mover */
	uint8_t move;
	bool ordered, writes;
	uint64_t work, since; /* done when it last stood; running since */
	uint64_t frozen_until;
};

struct host {
	bool up;
	struct vm vm;
	struct mark given, taken[MOVES_MAX];
};

struct actor {
	uint32_t instance; /* 0: not there */
	uint32_t waits;	   /* number of the order whose answer it waits for */
	uint64_t frozen_until;
	union {
		struct handover_source source;
		struct handover_destination destination;
	};
};

struct move {
	uint8_t source;		  /* host */
	uint64_t work;		  /* of the VM when it was stopped for this */
	enum handover_phase sent; /* what that phase has to send was */
	struct actor actors[ROLES];
};

struct sim {
	uint64_t seed, random, now, order;
	bool talks;
	unsigned int trouble; /* of a thousand: how often something goes wrong */
	struct event heap[EVENTS_MAX];
	unsigned int n_events;
	uint32_t instances;
	struct host hosts[HOSTS];
	struct move moves[MOVES_MAX];
	unsigned int n_moves, n_ran, n_never, n_faults;
	bool cut; /* the network */
	uint64_t shown;
	bool holder_died;
};

uint64_t sim_below(struct sim *sim, uint64_t limit); /* random, 0 .. limit - 1 */
bool sim_goes_wrong(struct sim *sim);
bool sim_is_cut(const struct sim *sim);
void sim_say(const struct sim *sim, const char *format, ...); /* when one seed runs */
void sim_holds(const struct sim *sim, bool condition, const char *what);
void sim_push(struct sim *sim, uint64_t delay, struct event event);
struct event sim_pop(struct sim *sim);

struct handover_id id_of(unsigned int move);
bool is_destination(unsigned int role);
bool is_daemon(unsigned int role);
unsigned int where(const struct sim *sim, unsigned int move, unsigned int role); /* host */
struct host *host_of(struct sim *sim, unsigned int move, unsigned int role);
void host_unlock(struct host *host, uint32_t instance); /* of a process that ended */

bool vm_is_of(const struct vm *vm, unsigned int move);
void vm_run(struct sim *sim, unsigned int h, uint64_t work);
void vm_stand(struct sim *sim, struct vm *vm, enum vm_at at);
void vm_end(struct sim *sim, unsigned int h);
void vm_event(struct sim *sim, const struct event *event);

struct actor *actor_new(struct sim *sim, unsigned int move, unsigned int role);
void actor_ends(struct sim *sim, unsigned int move, unsigned int role);
void actor_acts(struct sim *sim, unsigned int move, unsigned int role, uint32_t actions);
void actor_hears(struct sim *sim, unsigned int move, unsigned int role,
		 const struct handover_event *event);
void actor_hears_later(struct sim *sim, unsigned int h, unsigned int move, unsigned int role,
		       enum handover_event_kind what); /* within a millisecond */
void actor_event(struct sim *sim, const struct event *event);
void actor_synced(struct sim *sim, const struct event *event);
void daemon_begins(struct sim *sim, unsigned int move); /* the destination's, from its mark */
void message_comes(struct sim *sim, const struct event *event);
void move_loses_link(struct sim *sim, unsigned int move);
