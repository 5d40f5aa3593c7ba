/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_sim.h"

/* ---- the VM's process ---- */

void vm_run(struct sim *sim, unsigned int h, uint64_t work)
{
	struct vm *vm = &sim->hosts[h].vm;

	sim_say(sim, "host %u: the VM runs", h);
	sim_holds(sim, sim->hosts[!h].vm.at != VM_RUNS, "two run");
	sim_holds(sim, work >= sim->shown, "what was shown is undone");
	vm->at = VM_RUNS;
	vm->work = work;
	vm->since = sim->now;
	vm->writes = vm->ordered = false;
	sim->holder_died = false;
}

void vm_stand(struct sim *sim, struct vm *vm, enum vm_at at)
{
	if (vm->at == VM_RUNS)
		vm->work += sim->now - vm->since;
	sim->shown = vm->work > sim->shown ? vm->work : sim->shown;
	vm->at = at;
}

static bool is_holder(struct sim *sim, const struct vm *vm)
{
	if (vm->at == VM_GIVEN)
		return host_of(sim, vm->move, DESTINATION_MOVER)->taken[vm->move].seen !=
		       HANDOVER_RAN;
	if (vm->at == VM_ARRIVES)
		return host_of(sim, vm->move, DESTINATION_MOVER)->taken[vm->move].seen ==
		       HANDOVER_RAN;
	return vm->at == VM_RUNS || vm->at == VM_STANDS;
}

void host_unlock(struct host *host, uint32_t instance)
{
	for (unsigned int move = 0; move < MOVES_MAX; move++)
		if (host->taken[move].locked == instance)
			host->taken[move].locked = 0;
}

void vm_end(struct sim *sim, unsigned int h)
{
	struct vm *vm = &sim->hosts[h].vm;

	if (vm->at == VM_NONE)
		return;
	sim_say(sim, "host %u: the VM's process ends", h);
	sim->holder_died |= is_holder(sim, vm);
	vm_stand(sim, vm, VM_NONE);
	host_unlock(&sim->hosts[h], vm->instance);
	*vm = (struct vm){ .move = NOBODY };
}

void actor_hears_later(struct sim *sim, unsigned int h, unsigned int move, unsigned int role,
		       enum handover_event_kind what)
{
	const struct actor *actor = &sim->moves[move].actors[role];

	if (actor->instance)
		sim_push(sim, sim_below(sim, MS),
			 (struct event){ .kind = HAPPENS,
					 .instance = actor->instance,
					 .host = (uint8_t)h,
					 .move = (uint8_t)move,
					 .role = (uint8_t)role,
					 .what = what });
}

static void vm_does_order(struct sim *sim, const struct event *event)
{
	struct host *host = &sim->hosts[event->host];
	struct vm *vm = &host->vm;
	struct mark *taken = &host->taken[event->move];
	bool gives = vm->at == VM_STANDS;

	if (!gives && taken->locked) { /* asks for the lock again */
		sim_push(sim, 10 * MS, *event);
		return;
	}
	vm->ordered = false;
	if (!gives && taken->seen == HANDOVER_NEVER) {
		taken->synced = HANDOVER_NEVER; /* written again, as whoever reads a result does */
		actor_hears_later(sim, event->host, event->move, DESTINATION_MOVER,
				  ON_RESULT_NEVER);
		vm_end(sim, event->host);
		return;
	}
	if (gives) {
		host->given.seen = HANDOVER_OPEN;
		host->given.move = event->move;
	} else {
		taken->seen = HANDOVER_RAN;
		taken->locked = vm->instance;
	}
	vm->writes = true;
	sim_push(sim, sim_below(sim, 30 * MS),
		 (struct event){ .kind = VM_SYNCED,
				 .instance = vm->instance,
				 .host = event->host,
				 .move = event->move });
}

/* An error tells nothing of what is on the disk. One that gives runs on; one that commits tries again until it knows. */
static void vm_sync_failed(struct sim *sim, const struct event *event)
{
	struct host *host = &sim->hosts[event->host];

	sim_say(sim, "host %u: the VM cannot write its mark", event->host);
	if (sim_below(sim, 2))
		host->given.synced = host->vm.at == VM_STANDS ? host->given.seen
							      : host->given.synced;
	if (host->vm.at == VM_STANDS) {
		host->vm.writes = false;
		actor_hears_later(sim, event->host, event->move, SOURCE_MOVER, ON_MARK_FAILED);
		return;
	}
	sim_push(sim, 500 * MS, *event);
	actor_hears_later(sim, event->host, event->move, DESTINATION_MOVER, ON_RESULT_UNKNOWN);
}

static void vm_synced(struct sim *sim, const struct event *event)
{
	struct host *host = &sim->hosts[event->host];
	struct vm *vm = &host->vm;

	if (sim_goes_wrong(sim)) {
		vm_sync_failed(sim, event);
		return;
	}
	vm->writes = false;
	if (vm->at == VM_STANDS) {
		sim_say(sim, "host %u: given %u is durable", event->host, event->move);
		host->given.synced = host->given.seen;
		vm->at = VM_GIVEN;
		actor_hears_later(sim, event->host, event->move, SOURCE_MOVER, ON_MARKED);
		return;
	}
	sim_say(sim, "host %u: ran %u is durable", event->host, event->move);
	host->taken[event->move].synced = HANDOVER_RAN;
	host->taken[event->move].locked = 0;
	sim->n_ran++;
	vm_run(sim, event->host, sim->moves[event->move].work);
	actor_hears_later(sim, event->host, event->move, DESTINATION_MOVER, ON_RESULT_RAN);
}

/* Orders that came before the end of the connection are done first. */
static void vm_is_alone(struct sim *sim, const struct event *event)
{
	struct vm *vm = &sim->hosts[event->host].vm;

	if (vm->ordered || vm->writes)
		sim_push(sim, 50 * MS, *event);
	else if (vm->at == VM_STANDS)
		vm_run(sim, event->host, vm->work);
	else if (vm->at == VM_ARRIVES)
		vm_end(sim, event->host);
	if (vm->at == VM_RUNS)
		vm->move = NOBODY;
}

void vm_event(struct sim *sim, const struct event *event)
{
	const struct vm *vm = &sim->hosts[event->host].vm;

	if (vm->at == VM_NONE || vm->instance != event->instance)
		return;
	if (sim->now < vm->frozen_until)
		sim_push(sim, vm->frozen_until - sim->now + sim_below(sim, MS), *event);
	else if (event->kind == VM_ORDER)
		vm_does_order(sim, event);
	else if (event->kind == VM_SYNCED)
		vm_synced(sim, event);
	else
		vm_is_alone(sim, event);
}
