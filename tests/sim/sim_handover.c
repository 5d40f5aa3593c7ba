/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A VM that is moved to and fro between two hosts for some minutes of simulated time, by src/move/handover.c, while everything goes
 * wrong: processes end, stand still and go on, hosts lose their power and what they had not synced, disks give errors, messages come late, twice,
 * in another order or never. Then all is well again, and after a while the doubt must be gone.
 *
 * The VM works: what it has done is shown to the world while it runs. Never two run; and what was shown is never undone, unless
 * the process that held the only copy died.
 *
 *   sim-handover [SEED [COUNT]]     one seed, telling what happens; COUNT seeds from there, telling nothing
 *
 * A million seeds with UTSUSU_TEST_LONG=1.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handover_sim.h"

#define END (TROUBLE + 120 * SECOND)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS_LONG 100000
#else
#define SEEDS_LONG 1000000
#endif

/* ---- hosts ---- */

static struct handover_marks marks_of(const struct host *host)
{
	struct handover_marks marks = { .given = host->given.seen };

	if (marks.given != HANDOVER_NO_MARK)
		marks.given_generation = id_of(host->given.move).generation;
	for (unsigned int move = 0; move < MOVES_MAX; move++) {
		enum handover_mark seen = host->taken[move].seen;

		if (seen == HANDOVER_NO_MARK ||
		    (marks.taken == HANDOVER_RAN && seen != HANDOVER_RAN))
			continue;
		marks.taken = seen;
		marks.taken_generation = id_of(move).generation;
	}
	return marks;
}

static void host_starts_vm(struct sim *sim, unsigned int h)
{
	struct host *host = &sim->hosts[h];
	struct handover_marks marks = marks_of(host);

	if (host->vm.at != VM_NONE || (h != 0 && marks.taken == HANDOVER_NO_MARK) ||
	    handover_may_start(&marks) != START_MAY)
		return;
	sim_say(sim, "host %u: starts the VM from its disks", h);
	sim_holds(sim, sim->holder_died, "a start from the disks, and the only copy had not died");
	host->vm = (struct vm){ .instance = ++sim->instances, .move = NOBODY };
	vm_run(sim, h, sim->shown);
}

static void host_looks(struct sim *sim, const struct event *event)
{
	struct host *host = &sim->hosts[event->host];
	unsigned int move = host->given.move;

	sim_push(sim, SECOND, *event);
	if (!host->up)
		return;
	if (host->given.seen == HANDOVER_OPEN && !sim->moves[move].actors[SOURCE_DAEMON].instance) {
		struct handover_id id = id_of(move);
		struct actor *actor = actor_new(sim, move, SOURCE_DAEMON);

		actor_acts(sim, move, SOURCE_DAEMON,
			   handover_source_restart(&id, HANDOVER_OPEN, host->vm.at != VM_NONE,
						   &actor->source));
	}
	for (move = 0; move < sim->n_moves; move++)
		if (where(sim, move, DESTINATION_DAEMON) == event->host &&
		    host->taken[move].seen == HANDOVER_OPEN && !vm_is_of(&host->vm, move))
			daemon_begins(sim, move);
	host_starts_vm(sim, event->host);
}

static void power_goes(struct sim *sim, unsigned int h)
{
	struct host *host = &sim->hosts[h];

	sim_say(sim, "host %u: power cut", h);
	for (unsigned int move = 0; move < sim->n_moves; move++)
		for (unsigned int role = 0; role < ROLES; role++)
			if (where(sim, move, role) == h)
				actor_ends(sim, move, role);
	for (unsigned int move = 0; move < MOVES_MAX; move++)
		if (sim_below(sim, 2))
			host->taken[move].seen = host->taken[move].synced;
		else
			host->taken[move].synced = host->taken[move].seen;
	if (sim_below(sim, 2))
		host->given.seen = host->given.synced;
	host->given.synced = host->given.seen;
	vm_end(sim, h);
	/* A `ran` that was forgotten, of a source that has ended as well: nobody has it. */
	sim->holder_died |= sim->hosts[!h].vm.at == VM_NONE;
	host->up = false;
	sim_push(sim, SECOND + sim_below(sim, 10 * SECOND),
		 (struct event){ .kind = HOST_BOOTS, .host = (uint8_t)h });
}

/* ---- moves ---- */

static bool may_begin(const struct sim *sim, unsigned int h)
{
	struct handover_marks marks = marks_of(&sim->hosts[h]);

	return sim->n_moves < MOVES_MAX && sim->hosts[h].vm.at == VM_RUNS &&
	       sim->hosts[h].vm.move == NOBODY && sim->hosts[!h].up &&
	       sim->hosts[!h].vm.at == VM_NONE && handover_may_start(&marks) == START_MAY;
}

static void move_begins_from(struct sim *sim, unsigned int h)
{
	unsigned int move = sim->n_moves++;
	struct host *from = &sim->hosts[h], *to = &sim->hosts[!h];
	struct handover_id id = id_of(move);
	struct actor *source, *destination;

	sim_say(sim, "move %u begins, from host %u", move, h);
	sim->moves[move].source = (uint8_t)h;
	source = actor_new(sim, move, SOURCE_MOVER);
	destination = actor_new(sim, move, DESTINATION_MOVER);
	from->given = (struct mark){ .move = NOBODY };
	from->vm.move = (uint8_t)move;
	from->vm.owner = source->instance;
	to->taken[move] = (struct mark){ HANDOVER_OPEN, HANDOVER_OPEN, 0, 0 };
	to->vm = (struct vm){ .at = VM_ARRIVES,
			      .instance = ++sim->instances,
			      .owner = destination->instance,
			      .move = (uint8_t)move };
	if (sim_is_cut(sim))
		move_loses_link(sim, move);
	actor_acts(sim, move, SOURCE_MOVER, handover_source_start(&id, &source->source));
	actor_acts(sim, move, DESTINATION_MOVER,
		   handover_destination_start(&id, id.generation - 1, &destination->destination));
}

static void move_begins(struct sim *sim, const struct event *event)
{
	for (unsigned int h = 0; h < HOSTS; h++)
		if (may_begin(sim, h)) {
			move_begins_from(sim, h);
			break;
		}
	if (sim->now < TROUBLE)
		sim_push(sim, SECOND + sim_below(sim, 5 * SECOND), *event);
}

/* ---- faults ---- */

static void actor_stumbles(struct sim *sim, unsigned int move, unsigned int role)
{
	struct actor *actor = &sim->moves[move].actors[role];
	struct handover_event cancel = { .kind = ON_CANCEL };

	if (!actor->instance)
		return;
	switch (sim_below(sim, 3)) {
	case 0:
		sim_say(sim, "move %u: %s dies", move, role_names[role]);
		actor_ends(sim, move, role);
		break;
	case 1:
		sim_say(sim, "move %u: %s is frozen", move, role_names[role]);
		actor->frozen_until = sim->now + sim_below(sim, 15 * SECOND);
		break;
	default:
		if (!is_daemon(role))
			actor_hears(sim, move, role, &cancel);
	}
}

static void wire_changes(struct sim *sim)
{
	sim->cut = !sim->cut;
	sim_say(sim, "the wire is %s", sim->cut ? "cut" : "whole");
	for (unsigned int move = 0; sim->cut && move < sim->n_moves; move++)
		for (unsigned int role = 0; role < ROLES; role++)
			if (sim->moves[move].actors[role].instance && !is_daemon(role))
				actor_hears_later(sim, where(sim, move, role), move, role,
						  ON_LINK_LOST);
}

static void fault(struct sim *sim, const struct event *event)
{
	unsigned int h = (unsigned int)sim_below(sim, HOSTS);

	if (sim->now >= TROUBLE)
		return;
	sim_push(sim, sim_below(sim, 400 * SECOND / (sim->trouble + 8)), *event);
	sim->n_faults++;
	switch (sim_below(sim, 8)) {
	case 0:
		if (sim->hosts[h].up)
			power_goes(sim, h);
		break;
	case 1:
		vm_end(sim, h);
		break;
	case 2:
		sim->hosts[h].vm.frozen_until = sim->now + sim_below(sim, 15 * SECOND);
		break;
	case 3:
		wire_changes(sim);
		break;
	default:
		if (sim->n_moves)
			actor_stumbles(sim, sim->n_moves - 1, (unsigned int)sim_below(sim, ROLES));
	}
}

/* ---- the whole ---- */

static void step(struct sim *sim)
{
	struct event event = sim_pop(sim);

	sim->now = event.at;
	switch (event.kind) {
	case MESSAGE:
		message_comes(sim, &event);
		break;
	case HAPPENS:
		actor_event(sim, &event);
		break;
	case ACTOR_SYNCED:
		if (sim->moves[event.move].actors[event.role].instance == event.instance)
			actor_synced(sim, &event);
		break;
	case HOST_LOOKS:
		host_looks(sim, &event);
		break;
	case HOST_BOOTS:
		sim_say(sim, "host %u: boots", event.host);
		sim->hosts[event.host].up = true;
		break;
	case MOVE_BEGINS:
		move_begins(sim, &event);
		break;
	case FAULT:
		fault(sim, &event);
		break;
	default:
		vm_event(sim, &event);
	}
}

static void is_settled(const struct sim *sim)
{
	unsigned int running = 0;

	for (unsigned int h = 0; h < HOSTS; h++) {
		const struct host *host = &sim->hosts[h];

		running += host->vm.at == VM_RUNS;
		sim_holds(sim, host->up && host->given.seen != HANDOVER_OPEN,
			  "still in doubt long after the trouble");
		sim_holds(sim, host->vm.at == VM_NONE || host->vm.at == VM_RUNS,
			  "a VM stands long after the trouble");
	}
	sim_holds(sim, running == 1, "none runs long after the trouble");
}

static void run(struct sim *sim, uint64_t seed, bool talks)
{
	memset(sim, 0, sizeof(*sim));
	sim->seed = seed;
	sim->random = seed * 0x9e3779b97f4a7c15ULL + 1;
	sim->talks = talks;
	sim->trouble = 1U << sim_below(sim, 9);
	for (unsigned int h = 0; h < HOSTS; h++) {
		sim->hosts[h] =
			(struct host){ .up = true, .vm.move = NOBODY, .given.move = NOBODY };
		sim_push(sim, sim_below(sim, SECOND),
			 (struct event){ .kind = HOST_LOOKS, .host = (uint8_t)h });
	}
	sim->hosts[0].vm.instance = ++sim->instances;
	vm_run(sim, 0, 0);
	sim_push(sim, 0, (struct event){ .kind = MOVE_BEGINS });
	sim_push(sim, sim_below(sim, 4 * SECOND), (struct event){ .kind = FAULT });
	while (sim->now < END)
		step(sim);
	is_settled(sim);
}

static void run_seeds(uint64_t first, uint64_t n)
{
	static struct sim sim;
	uint64_t moves = 0, ran = 0, never = 0, faults = 0;

	for (uint64_t seed = first; seed < first + n; seed++) {
		run(&sim, seed, n == 1);
		moves += sim.n_moves;
		ran += sim.n_ran;
		never += sim.n_never;
		faults += sim.n_faults;
	}
	printf("%" PRIu64 " seeds: %" PRIu64 " moves, %" PRIu64 " ran, never was written %" PRIu64
	       " times, %" PRIu64 " faults\n",
	       n, moves, ran, never, faults);
}

static void nothing_is_lost_and_never_two_run(void **unused)
{
	const char *value = getenv("UTSUSU_TEST_LONG");

	(void)unused;
	run_seeds(1, value && value[0] ? SEEDS_LONG : 10000);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_and_never_two_run),
	};

	if (argc > 1) {
		run_seeds(strtoull(argv[1], NULL, 0), argc > 2 ? strtoull(argv[2], NULL, 0) : 1);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
