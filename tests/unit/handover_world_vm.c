/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_world_internal.h"

/* ---- VM processes and marks ---- */

bool vm_has_gone(const struct world *world, unsigned int move, bool destination)
{
	const struct world_vm *vm = &world->hosts[world->moves[move].source ^ destination].vm;

	return vm->at == VM_NONE || vm->move != move;
}

/* Its memory is the only copy: what follows its death is a start from the disks. */
static bool is_holder(struct world *world, const struct world_vm *vm)
{
	if (vm->at == VM_GIVEN)
		return host_of(world, vm->move, true)->taken[vm->move] != HANDOVER_RAN;
	return vm->at == VM_RUNS || vm->at == VM_STANDS || vm->order == ORDER_SYNC;
}

void vm_end(struct world *world, struct world_vm *vm)
{
	world->holder_died |= is_holder(world, vm);
	*vm = (struct world_vm){ .move = NOBODY };
}

/* The reply to an order, if the mover that gave it still waits. */
static void reply(struct world *world, unsigned int move, unsigned int role,
		  enum handover_event_kind kind)
{
	struct world_actor *actor = &world->moves[move].actors[role];

	if (!actor->lives || !actor->waits)
		return;
	actor->waits = 0;
	actor->reply = (uint8_t)kind;
}

static void vm_begins_giving(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_host *host = &step.world.hosts[h];

	describe(&step, "VM on %u: writes given", h);
	host->vm.order = ORDER_GIVING;
	host->given = HANDOVER_OPEN;
	host->given_move = host->vm.move;
	step_emit(maker, &step, false);
}

static void vm_gives(const struct maker *maker, unsigned int h)
{
	unsigned int move = maker->from->hosts[h].vm.move;

	for (unsigned int failed = 0; failed < 3; failed++) {
		struct step step = step_begin(maker);
		struct world_host *host = &step.world.hosts[h];

		if (failed && !step.world.crashes_left--)
			return;
		host->vm.order = ORDER_NONE;
		if (failed == 1) /* an error may leave the mark behind or not */
			host->given = HANDOVER_NO_MARK;
		if (!failed)
			host->vm.at = VM_GIVEN;
		reply(&step.world, move, SOURCE_MOVER, failed ? ON_MARK_FAILED : ON_MARKED);
		describe(&step, "VM on %u: given%s", h, failed ? ", but an error" : "");
		step_emit(maker, &step, failed);
	}
}

static void vm_commits(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_host *host = &step.world.hosts[h];
	unsigned int move = host->vm.move;

	if (host->taken[move] == HANDOVER_NEVER) {
		describe(&step, "VM on %u: the mark says never, ends", h);
		host->synced[move] = true; /* whoever reads a result makes it durable first */
		host->vm.order = ORDER_NONE;
		vm_end(&step.world, &host->vm);
		reply(&step.world, move, DESTINATION_MOVER, ON_RESULT_NEVER);
	} else {
		describe(&step, "VM on %u: writes ran", h);
		host->vm.order = ORDER_SYNC;
		host->taken[move] = HANDOVER_RAN;
		host->synced[move] = false;
	}
	step_emit(maker, &step, false);
}

static void vm_runs(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_host *host = &step.world.hosts[h];
	unsigned int move = host->vm.move;

	describe(&step, "VM on %u: ran is durable, runs", h);
	host->synced[move] = true;
	host->vm.order = ORDER_NONE;
	host->vm.at = VM_RUNS;
	host->vm.partial = maker->rules->postcopy;
	step.world.holder_died = false;
	reply(&step.world, move, DESTINATION_MOVER, ON_RESULT_RAN);
	step_emit(maker, &step, false);
}

/* Its mover's connection ended, and all that came over it is done. */
static void vm_is_left_alone(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_vm *vm = &step.world.hosts[h].vm;

	describe(&step, "VM on %u: its mover has gone", h);
	if (vm->at == VM_STANDS)
		vm->at = VM_RUNS;
	else if (vm->at == VM_ARRIVES || vm->partial)
		vm_end(&step.world, vm);
	if (vm->at == VM_RUNS && !vm->clearing)
		vm->move = NOBODY;
	step_emit(maker, &step, false);
}

static void vm_clears(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_host *host = &step.world.hosts[h];

	describe(&step, "VM on %u: takes its mark back", h);
	host->vm.clearing = false;
	if (host->given_move == host->vm.move) {
		host->given = HANDOVER_NO_MARK;
		host->given_move = NOBODY;
	}
	step_emit(maker, &step, false);
}

static void vm_dies(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_vm *vm = &step.world.hosts[h].vm;

	if (!vm->killed && !step.world.crashes_left--)
		return;
	describe(&step, "VM on %u: dies%s", h, vm->killed ? ", killed" : "");
	step_unharmed(&step, !vm->killed || vm->at != VM_RUNS || vm->partial,
		      "what runs is not killed");
	vm_end(&step.world, vm);
	step_emit(maker, &step, !maker->from->hosts[h].vm.killed);
}

void vm_steps(const struct maker *maker, unsigned int h)
{
	const struct world_vm *vm = &maker->from->hosts[h].vm;

	if (vm->at == VM_NONE)
		return;
	if (vm->order == ORDER_GIVE)
		vm_begins_giving(maker, h);
	else if (vm->order == ORDER_GIVING)
		vm_gives(maker, h);
	else if (vm->order == ORDER_COMMIT)
		vm_commits(maker, h);
	else if (vm->order == ORDER_SYNC)
		vm_runs(maker, h);
	else if (!vm->owned)
		vm_is_left_alone(maker, h);
	if (vm->clearing)
		vm_clears(maker, h);
	vm_dies(maker, h);
}
