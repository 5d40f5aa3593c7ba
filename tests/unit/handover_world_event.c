/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_world_internal.h"

/* To the destination; all other messages go to the source. */
#define TO_DESTINATION (BIT(ON_COMMIT) | BIT(ON_ASK))

/* ---- events ---- */

static void event(const struct maker *maker, unsigned int move, unsigned int role,
		  enum handover_event_kind kind, unsigned int of_move)
{
	struct step step = step_begin(maker);

	describe(&step, "%s %u: %s of %u", role_name(role), move, handover_event_name(kind),
		 of_move);
	actor_tell(&step, move, role, kind, of_move);
	step_emit(maker, &step, false);
}

/* What is missing of memory comes as long as both movers are there. False: not yet. */
static bool memory_is_whole(struct world *world, unsigned int move, unsigned int role)
{
	const struct world_actor *source = &world->moves[move].actors[SOURCE_MOVER];
	struct world_vm *vm = &host_of(world, move, true)->vm;

	if (!is_destination(role))
		return world->moves[move].whole;
	if (!source->lives || (source->at != SOURCE_GIVEN && source->at != SOURCE_LEFT) ||
	    vm->move != move || vm->at != VM_RUNS)
		return false;
	vm->partial = false;
	world->moves[move].whole = true;
	return true;
}

static void phase_ends(const struct maker *maker, unsigned int move, unsigned int role, bool failed)
{
	struct step step = step_begin(maker);
	struct world_actor *actor = &step.world.moves[move].actors[role];
	struct world_vm *vm = &host_of(&step.world, move, is_destination(role))->vm;

	if (failed && !step.world.troubles_left--)
		return;
	describe(&step, "%s %u: %s %s", role_name(role), move, handover_phase_name(actor->phase),
		 failed ? "failed" : "done");
	if (role == SOURCE_MOVER && actor->phase == PHASE_STOP && !failed) {
		if (vm->move != move || vm->at != VM_RUNS)
			return; /* its process died: that is told instead */
		vm->at = VM_STANDS;
	}
	if (actor->phase == PHASE_RUN && !failed && !memory_is_whole(&step.world, move, role))
		return;
	actor->works = false;
	if (maker->rules->postcopy && actor->phase == PHASE_MEMORY && !failed)
		actor_tell(&step, move, role, ON_POSTCOPY, move);
	actor_tell(&step, move, role, failed ? ON_FAILED : ON_DONE, move);
	step_emit(maker, &step, false);
}

static void reply_comes(const struct maker *maker, unsigned int move, unsigned int role)
{
	struct step step = step_begin(maker);
	struct world_actor *actor = &step.world.moves[move].actors[role];
	enum handover_event_kind kind = actor->reply;

	describe(&step, "%s %u: %s", role_name(role), move, handover_event_name(kind));
	actor->reply = 0;
	actor_tell(&step, move, role, kind, move);
	step_emit(maker, &step, false);
}

static void reply_is_missed(const struct maker *maker, unsigned int move, unsigned int role)
{
	struct step step = step_begin(maker);

	describe(&step, "%s %u: no answer from the VM", role_name(role), move);
	step.world.moves[move].actors[role].waits = false;
	actor_tell(&step, move, role, is_destination(role) ? ON_RESULT_UNKNOWN : ON_MARK_UNKNOWN,
		   move);
	step_emit(maker, &step, false);
}

static void link_breaks(const struct maker *maker, unsigned int move, unsigned int role)
{
	struct step step = step_begin(maker);

	describe(&step, "%s %u: link lost", role_name(role), move);
	actor_tell(&step, move, role, ON_LINK_LOST, move);
	step_emit(maker, &step, false);
}

static void cancelled_here(const struct maker *maker, unsigned int move, unsigned int role)
{
	struct step step = step_begin(maker);

	if (!step.world.troubles_left--)
		return;
	describe(&step, "%s %u: cancel", role_name(role), move);
	actor_tell(&step, move, role, ON_CANCEL, move);
	step_emit(maker, &step, false);
}

static void mover_leaves(const struct maker *maker, unsigned int move, unsigned int role)
{
	struct step step = step_begin(maker);
	const struct world_actor *actor = &maker->from->moves[move].actors[role];
	bool in_doubt = role == SOURCE_MOVER && actor->at == SOURCE_GIVEN && !actor->pending;

	if (!in_doubt && !step.world.crashes_left--)
		return;
	describe(&step, "%s %u: %s", role_name(role), move,
		 in_doubt ? "leaves it to its daemon" : "dies");
	actor_end(&step.world, move, role);
	step_emit(maker, &step, !in_doubt);
}

void actor_steps(const struct maker *maker, unsigned int move, unsigned int role)
{
	const struct world_actor *actor = &maker->from->moves[move].actors[role];

	if (!actor->lives)
		return;
	if (!is_daemon(role))
		mover_leaves(maker, move, role);
	if (actor->pending) {
		actor_acts(maker, move, role);
		return;
	}
	if (actor->reply)
		reply_comes(maker, move, role);
	if (actor->waits)
		reply_is_missed(maker, move, role);
	if (actor->works) {
		phase_ends(maker, move, role, false);
		phase_ends(maker, move, role, true);
	}
	if (!is_daemon(role)) {
		cancelled_here(maker, move, role);
		link_breaks(maker, move, role);
	}
	if (vm_has_gone(maker->from, move, is_destination(role)))
		event(maker, move, role, ON_VM_DIED, move);
	if (role == DESTINATION_MOVER && vm_has_gone(maker->from, move, true))
		event(maker, move, role, ON_VM_ENDED, move);
	event(maker, move, role, ON_TICK, move);
}

/* ---- daemons begin from marks ---- */

/* Finds a mark that is not settled; it does not even look whether the mover lives. */
void source_daemon_looks(const struct maker *maker, unsigned int h)
{
	struct step step = step_begin(maker);
	const struct world_host *host = &maker->from->hosts[h];
	unsigned int move = host->given_move;

	if (host->given != HANDOVER_OPEN || maker->from->moves[move].actors[SOURCE_DAEMON].lives)
		return;
	describe(&step, "source daemon %u: finds its mark", move);
	actor_begin_again(&step, move, SOURCE_DAEMON, host->given, host->vm.at != VM_NONE);
	step_emit(maker, &step, false);
}

/* Reads the mark, and makes durable what it read. */
static void destination_daemon_begins(struct step *step, unsigned int move)
{
	struct world_host *host = host_of(&step->world, move, true);
	enum handover_mark mark = host->taken[move];

	if (host->vm.move == move && host->vm.order == ORDER_SYNC)
		mark = HANDOVER_OPEN; /* locked */
	else
		host->synced[move] = true;
	actor_begin_again(step, move, DESTINATION_DAEMON, mark,
			  !vm_has_gone(&step->world, move, true));
}

/* An open mark that nobody will fill: after a restart it is closed without being asked for. */
void destination_daemon_looks(const struct maker *maker, unsigned int move)
{
	struct step step = step_begin(maker);
	const struct world_host *host = host_of(&step.world, move, true);

	if (!host->up || step.world.moves[move].actors[DESTINATION_DAEMON].lives ||
	    host->taken[move] != HANDOVER_OPEN || !vm_has_gone(&step.world, move, true))
		return;
	describe(&step, "destination daemon %u: finds its mark", move);
	destination_daemon_begins(&step, move);
	step_emit(maker, &step, false);
}

static void question_comes(const struct maker *maker, unsigned int move)
{
	struct step step = step_begin(maker);
	const struct world_actor *actor = &step.world.moves[move].actors[DESTINATION_DAEMON];

	if (!host_of(&step.world, move, true)->up || actor->pending)
		return;
	describe(&step, "destination daemon %u: asked", move);
	if (!actor->lives)
		destination_daemon_begins(&step, move);
	actor_tell(&step, move, DESTINATION_DAEMON, ON_ASK, move);
	step_emit(maker, &step, false);
}

/* ---- messages ---- */

static bool hears(unsigned int role, enum handover_event_kind kind)
{
	if (!is_daemon(role))
		return true;
	return kind == ON_RAN || kind == ON_NEVER;
}

/* To all who listen on the host that it was sent to, whichever move they are busy with. */
static void deliver(const struct maker *maker, unsigned int of_move, enum handover_event_kind kind,
		    bool to_destination)
{
	unsigned int to = maker->from->moves[of_move].source ^ to_destination;

	for (unsigned int move = 0; move < WORLD_MOVES; move++)
		for (unsigned int role = 0; role < WORLD_ROLES; role++) {
			const struct world_actor *actor = &maker->from->moves[move].actors[role];
			unsigned int at = maker->from->moves[move].source ^ is_destination(role);

			if (actor->lives && !actor->pending && at == to && hears(role, kind))
				event(maker, move, role, kind, of_move);
		}
}

void messages_come(const struct maker *maker, unsigned int move)
{
	uint32_t sent = maker->from->moves[move].sent;

	for (unsigned int kind = HANDOVER_FIRST_MESSAGE; kind < HANDOVER_EVENTS; kind++)
		if (sent & BIT(kind) && kind != ON_ASK)
			deliver(maker, move, kind, TO_DESTINATION & BIT(kind));
	if (sent & BIT(SOURCES_CANCEL))
		deliver(maker, move, ON_CANCELLED, true);
	if (sent & BIT(ON_ASK))
		question_comes(maker, move);
}
