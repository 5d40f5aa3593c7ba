/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_world_internal.h"

#define EVERY_MESSAGE ((BIT(HANDOVER_EVENTS) - BIT(HANDOVER_FIRST_MESSAGE)) | BIT(SOURCES_CANCEL))

const char *role_name(unsigned int role)
{
	static const char *const names[WORLD_ROLES] = { "source mover", "source daemon",
							"destination mover", "destination daemon" };

	return names[role];
}

/* ---- what every new state goes through ---- */

static void release_vm(struct world_vm *vm, unsigned int move)
{
	if (vm->move == move)
		vm->owned = 0;
}

static bool has_ended(const struct world_actor *actor, unsigned int role)
{
	if (actor->pending || actor->reply || actor->waits)
		return false;
	if (!is_destination(role))
		return actor->at >= SOURCE_KEPT && actor->phase == PHASE_END;
	return actor->at == DESTINATION_CLOSED ||
	       (actor->at == DESTINATION_RUNS && actor->phase == PHASE_END);
}

void actor_end(struct world *world, unsigned int move, unsigned int role)
{
	if (!is_daemon(role))
		release_vm(&host_of(world, move, is_destination(role))->vm, move);
	world->moves[move].actors[role] = (struct world_actor){ 0 };
}

static unsigned int running(const struct world *world)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < WORLD_HOSTS; i++)
		n += world->hosts[i].vm.at == VM_RUNS;
	return n;
}

void step_emit(const struct maker *maker, struct step *step, bool fault)
{
	for (unsigned int move = 0; move < WORLD_MOVES; move++)
		for (unsigned int role = 0; role < WORLD_ROLES; role++)
			if (step->world.moves[move].actors[role].lives &&
			    has_ended(&step->world.moves[move].actors[role], role))
				actor_end(&step->world, move, role);
	if (running(&step->world) > 1)
		step->broken = "never two run";
	if (step->broken || memcmp(&step->world, maker->from, sizeof(step->world)) != 0)
		maker->visitor->next(maker->visitor->ctx, &step->world, fault, step->broken,
				     step->what);
}

void step_unharmed(struct step *step, bool unharmed, const char *what)
{
	if (!unharmed && !step->broken)
		step->broken = what;
}

void step_promise(struct step *step, bool kept, const char *what)
{
	step_unharmed(step, kept || step->only_harm, what);
}

/* ---- hosts ---- */

static void daemon_dies(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);

	if (!step.world.crashes_left--)
		return;
	describe(&step, "daemon on %u: dies", h);
	for (unsigned int move = 0; move < WORLD_MOVES; move++)
		actor_end(&step.world, move,
			  step.world.moves[move].source == h ? SOURCE_DAEMON : DESTINATION_DAEMON);
	step_emit(maker, &step, true);
}

/* `keeps`: what was not synced was written all the same. */
static void host_dies(const struct maker *maker, unsigned int h, bool keeps)
{
	struct step step = step_begin(maker);
	struct world_host *host = &step.world.hosts[h];

	if (!step.world.crashes_left--)
		return;
	describe(&step, "host %u: power cut", h);
	for (unsigned int move = 0; move < WORLD_MOVES; move++) {
		for (unsigned int role = 0; role < WORLD_ROLES; role++)
			if ((step.world.moves[move].source ^ is_destination(role)) == h)
				actor_end(&step.world, move, role);
		if (!host->synced[move] && host->taken[move] != HANDOVER_NO_MARK && !keeps)
			host->taken[move] = HANDOVER_OPEN;
		host->synced[move] = host->taken[move] != HANDOVER_NO_MARK;
	}
	if (!keeps && host->vm.order == ORDER_GIVING)
		host->given = HANDOVER_NO_MARK;
	if (!keeps && host->vm.order == ORDER_SYNC) { /* the source's is the only copy, if there */
		step.world.holder_died |= vm_has_gone(&step.world, host->vm.move, false);
		host->vm.order = ORDER_NONE;
	}
	vm_end(&step.world, &host->vm);
	host->up = false;
	step_emit(maker, &step, true);
}

static struct handover_marks marks_of(const struct world *world, unsigned int h)
{
	const struct world_host *host = &world->hosts[h];
	struct handover_marks marks = { .given = host->given };

	if (host->given != HANDOVER_NO_MARK)
		marks.given_generation = id_of(host->given_move).generation;
	for (unsigned int move = 0; move < WORLD_MOVES; move++) {
		if (host->taken[move] == HANDOVER_NO_MARK || marks.taken == HANDOVER_RAN)
			continue;
		marks.taken = host->taken[move];
		marks.taken_generation = id_of(move).generation;
	}
	return marks;
}

/* Autostart, or its owner's `utsusu run`. Host 0 is where the VM was first started. */
static void host_starts_vm(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	struct world_host *host = &step.world.hosts[h];
	struct handover_marks marks = marks_of(&step.world, h);
	bool known = h == 0 || marks.taken != HANDOVER_NO_MARK;

	if (!host->up || host->vm.at != VM_NONE || !known ||
	    handover_may_start(&marks) != START_MAY)
		return;
	describe(&step, "host %u: starts the VM", h);
	step_unharmed(&step, step.world.holder_died,
		      "a start from disks only when the only copy died");
	step.world.holder_died = false;
	host->vm = (struct world_vm){ .at = VM_RUNS, .move = NOBODY };
	step_emit(maker, &step, false);
}

static void host_steps(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);

	if (!step.world.hosts[h].up) {
		describe(&step, "host %u: boots", h);
		step.world.hosts[h].up = true;
		step_emit(maker, &step, false);
		return;
	}
	vm_steps(maker, h);
	source_daemon_looks(maker, h);
	host_starts_vm(maker, h);
	daemon_dies(maker, h);
	host_dies(maker, h, false);
	host_dies(maker, h, true);
}

/* ---- moves ---- */

/* Leads both through what lies before the stop, as if it had all gone well. */
static void skip_to_stop(struct step *step, unsigned int move, bool postcopy)
{
	struct world_actor *source = &step->world.moves[move].actors[SOURCE_MOVER];
	struct world_actor *destination = &step->world.moves[move].actors[DESTINATION_MOVER];

	while (source->phase != PHASE_STOP) {
		if (postcopy && source->phase == PHASE_MEMORY)
			actor_tell(step, move, SOURCE_MOVER, ON_POSTCOPY, move);
		actor_tell(step, move, SOURCE_MOVER, ON_DONE, move);
		if (source->phase == PHASE_REHEARSE)
			actor_tell(step, move, SOURCE_MOVER, ON_REHEARSED, move);
	}
	while (destination->phase != PHASE_STATE) {
		if (postcopy && destination->phase == PHASE_MEMORY)
			actor_tell(step, move, DESTINATION_MOVER, ON_POSTCOPY, move);
		actor_tell(step, move, DESTINATION_MOVER, ON_DONE, move);
	}
}

/* Whoever was busy with a move before has ended; its marks stay, and so do its messages. */
static bool is_over(const struct world_move *move)
{
	for (unsigned int role = 0; role < WORLD_ROLES; role++)
		if (move->actors[role].lives)
			return false;
	return true;
}

static bool is_in_doubt(struct world *world, unsigned int move)
{
	const struct world_host *host = host_of(world, move, false);

	return host->given_move == move && host->given == HANDOVER_OPEN;
}

static bool may_begin(const struct world *world, unsigned int move, unsigned int h)
{
	const struct world_host *host = &world->hosts[h], *peer = &world->hosts[!h];
	struct handover_marks marks = marks_of(world, h);

	return host->vm.at == VM_RUNS && host->vm.move == NOBODY && peer->up &&
	       peer->vm.at == VM_NONE && handover_may_start(&marks) == START_MAY &&
	       world->moves_left && !world->moves[move].begun;
}

static void move_begins(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	unsigned int move = (unsigned int)(maker->rules->moves - step.world.moves_left);
	struct world_host *host = &step.world.hosts[h], *peer = &step.world.hosts[!h];

	if (move >= WORLD_MOVES || !may_begin(&step.world, move, h))
		return;
	describe(&step, "move %u begins on host %u", move, h);
	step.world.moves_left--;
	step.world.moves[move].begun = true;
	for (unsigned int before = 0; before < move; before++) {
		if (!is_over(&step.world.moves[before]))
			return;
		if (!is_in_doubt(&step.world, before))
			step.world.moves[before].sent =
				EVERY_MESSAGE; /* also what nobody ever said */
	}
	step.world.moves[move].source = (uint8_t)h;
	host->given = HANDOVER_NO_MARK;
	host->given_move = NOBODY;
	host->vm.move = (uint8_t)move;
	host->vm.owned = true;
	peer->taken[move] = HANDOVER_OPEN;
	peer->synced[move] = true;
	peer->vm = (struct world_vm){ .at = VM_ARRIVES, .move = (uint8_t)move, .owned = true };
	actor_begin(&step, move, SOURCE_MOVER);
	actor_begin(&step, move, DESTINATION_MOVER);
	if (maker->rules->late)
		skip_to_stop(&step, move, maker->rules->postcopy);
	step_emit(maker, &step, false);
}

/* ---- the whole ---- */

void world_init(const struct world_rules *rules, struct world *ret_world)
{
	memset(ret_world, 0, sizeof(*ret_world));
	for (unsigned int h = 0; h < WORLD_HOSTS; h++) {
		ret_world->hosts[h].up = true;
		ret_world->hosts[h].given_move = NOBODY;
		ret_world->hosts[h].vm.move = NOBODY;
	}
	ret_world->hosts[0].vm.at = VM_RUNS;
	ret_world->moves_left = rules->moves;
	ret_world->crashes_left = rules->crashes;
	ret_world->troubles_left = rules->troubles;
}

void world_next(const struct world *world, const struct world_rules *rules,
		const struct world_visitor *visitor)
{
	struct maker maker = { .from = world, .rules = rules, .visitor = visitor };

	for (unsigned int h = 0; h < WORLD_HOSTS; h++) {
		host_steps(&maker, h);
		move_begins(&maker, h);
	}
	for (unsigned int move = 0; move < WORLD_MOVES; move++) {
		if (!world->moves[move].begun)
			continue;
		for (unsigned int role = 0; role < WORLD_ROLES; role++)
			actor_steps(&maker, move, role);
		destination_daemon_looks(&maker, move);
		messages_come(&maker, move);
	}
}

bool world_is_settled(const struct world *world)
{
	for (unsigned int h = 0; h < WORLD_HOSTS; h++) {
		const struct world_host *host = &world->hosts[h];

		if (!host->up || host->given == HANDOVER_OPEN || host->vm.clearing ||
		    host->vm.partial || (host->vm.at != VM_NONE && host->vm.at != VM_RUNS))
			return false;
	}
	return running(world) == 1;
}
