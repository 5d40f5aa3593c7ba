/* SPDX-License-Identifier: Apache-2.0 */

#include <inttypes.h>
#include <stdio.h>

#include "handover_sim.h"

const char *const role_names[ROLES] = { "source's mover", "source's daemon", "destination's mover",
					"destination's daemon" };

uint64_t sim_below(struct sim *sim, uint64_t limit)
{
	sim->random ^= sim->random >> 12;
	sim->random ^= sim->random << 25;
	sim->random ^= sim->random >> 27;
	return (sim->random * 0x2545f4914f6cdd1dULL >> 11) % limit;
}

bool sim_goes_wrong(struct sim *sim)
{
	return sim->now < TROUBLE && sim_below(sim, 1000) < sim->trouble;
}

bool sim_is_cut(const struct sim *sim)
{
	return sim->cut && sim->now < TROUBLE;
}

void sim_say(const struct sim *sim, const char *format, ...)
{
	va_list args;

	if (!sim->talks)
		return;
	printf("%9.3f s  ", (double)sim->now / (double)SECOND);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void sim_holds(const struct sim *sim, bool condition, const char *what)
{
	if (!condition)
		fail_msg("seed %" PRIu64 ": %s, at %.3f s; sim-handover %" PRIu64
			 " tells what happened",
			 sim->seed, what, (double)sim->now / (double)SECOND, sim->seed);
}

/* ---- events to come: a heap ---- */

static bool is_before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(struct event *a, struct event *b)
{
	struct event keep = *a;

	*a = *b;
	*b = keep;
}

void sim_push(struct sim *sim, uint64_t delay, struct event event)
{
	unsigned int i = sim->n_events++;

	sim_holds(sim, i < EVENTS_MAX, "the simulation's own limit of events");
	event.at = sim->now + delay;
	event.order = sim->order++;
	sim->heap[i] = event;
	for (; i && is_before(&sim->heap[i], &sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&sim->heap[i], &sim->heap[(i - 1) / 2]);
}

struct event sim_pop(struct sim *sim)
{
	struct event first = sim->heap[0];
	unsigned int i = 0, child;

	sim->heap[0] = sim->heap[--sim->n_events];
	while ((child = 2 * i + 1) < sim->n_events) {
		if (child + 1 < sim->n_events &&
		    is_before(&sim->heap[child + 1], &sim->heap[child]))
			child++;
		if (!is_before(&sim->heap[child], &sim->heap[i]))
			break;
		swap(&sim->heap[i], &sim->heap[child]);
		i = child;
	}
	return first;
}

/* ---- who is where ---- */

struct handover_id id_of(unsigned int move)
{
	return (struct handover_id){ .token = { (uint8_t)(move + 1) }, .generation = move + 2 };
}

bool is_destination(unsigned int role)
{
	return role >= DESTINATION_MOVER;
}

bool is_daemon(unsigned int role)
{
	return role == SOURCE_DAEMON || role == DESTINATION_DAEMON;
}

unsigned int where(const struct sim *sim, unsigned int move, unsigned int role)
{
	return sim->moves[move].source ^ is_destination(role);
}

struct host *host_of(struct sim *sim, unsigned int move, unsigned int role)
{
	return &sim->hosts[where(sim, move, role)];
}

bool vm_is_of(const struct vm *vm, unsigned int move)
{
	return vm->at != VM_NONE && vm->move == move;
}
