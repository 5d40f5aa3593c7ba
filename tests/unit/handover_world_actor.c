/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_world_internal.h"

/* Actions that meet what others do at the same time. */
#define LATER (DO_RESUME_VM | DO_LEAVE_VM | DO_CLEAR_GIVEN | DO_SETTLE_RAN | DO_TAKE_NEVER)

static void actor_acts_at_once(struct step *step, unsigned int move, unsigned int role);

/* ---- the real functions on a packed state ---- */

static struct handover_source unpack_source(const struct world_actor *actor, unsigned int move)
{
	return (struct handover_source){
		.id = id_of(move),
		.at = actor->at,
		.phase = actor->phase,
		.work_done = actor->flags & 1,
		.peer_said = actor->flags & 2,
		.give_up = actor->flags & 4,
		.vm_dead = actor->flags & 8,
		.postcopy = actor->flags & 16,
	};
}

static void pack_source(const struct handover_source *source, struct world_actor *actor)
{
	actor->at = source->at;
	actor->phase = source->phase;
	actor->flags = source->work_done | source->peer_said << 1 | source->give_up << 2 |
		       source->vm_dead << 3 | source->postcopy << 4;
}

static struct handover_destination unpack_destination(const struct world_actor *actor,
						      unsigned int move)
{
	return (struct handover_destination){
		.id = id_of(move),
		.at = actor->at,
		.phase = actor->phase,
		.never_durable = actor->flags & 1,
		.vm_ended = actor->flags & 2,
		.postcopy = actor->flags & 4,
		.link_lost = actor->flags & 8,
	};
}

static void pack_destination(const struct handover_destination *destination,
			     struct world_actor *actor)
{
	actor->at = destination->at;
	actor->phase = destination->phase;
	actor->flags = destination->never_durable | destination->vm_ended << 1 |
		       destination->postcopy << 2;
	if (destination->postcopy) /* nothing asks for it else */
		actor->flags |= destination->link_lost << 3;
}

/* Work that is given up is not done. */
static bool may_work(const struct world_actor *actor, unsigned int role)
{
	if (is_destination(role))
		return actor->at == DESTINATION_LOADS || actor->at == DESTINATION_RUNS;
	return actor->at == SOURCE_HAS || (actor->at == SOURCE_LEFT && actor->phase == PHASE_RUN);
}

void actor_tell(struct step *step, unsigned int move, unsigned int role,
		enum handover_event_kind kind, unsigned int of_move)
{
	struct world_actor *actor = &step->world.moves[move].actors[role];
	struct handover_event event = { .kind = kind, .phase = actor->phase, .id = id_of(of_move) };

	if (is_destination(role)) {
		struct handover_destination state = unpack_destination(actor, move);

		actor->pending |= handover_destination_step(&state, &event);
		pack_destination(&state, actor);
	} else {
		struct handover_source state = unpack_source(actor, move);

		actor->pending |= handover_source_step(&state, &event);
		pack_source(&state, actor);
	}
	if (!may_work(actor, role))
		actor->works = false;
	actor_acts_at_once(step, move, role);
}

/* ---- actions ---- */

/* Whether a process stands there, given. One that does not says so, or nobody answers: for a mark it is as if it had died. */
static bool stands_given(struct step *step, unsigned int move, unsigned int role)
{
	const struct world_vm *vm = &host_of(&step->world, move, false)->vm;

	if (vm->at == VM_GIVEN && vm->move == move)
		return true;
	step->world.moves[move].actors[role].reply = ON_VM_DIED;
	return false;
}

/* Of the result that the destination's mark has durably; or, of never, when COMMIT was not sent and so nobody can have acted on it. */
static bool is_known(struct step *step, unsigned int move, enum handover_mark mark)
{
	const struct world_host *peer = host_of(&step->world, move, true);

	if (mark == HANDOVER_NEVER && !(step->world.moves[move].sent & BIT(ON_COMMIT)))
		return true;
	return peer->taken[move] == mark && peer->synced[move];
}

static void resume(struct step *step, unsigned int move, unsigned int role)
{
	struct world_vm *vm = &host_of(&step->world, move, false)->vm;

	step_promise(step, is_known(step, move, HANDOVER_NEVER),
		     "the source resumes only on never");
	if (!stands_given(step, move, role))
		return;
	vm->at = VM_RUNS;
	vm->clearing = true;
}

static void settle(struct step *step, unsigned int move, enum handover_mark mark)
{
	struct world_host *host = host_of(&step->world, move, false);

	step_promise(step, is_known(step, move, mark),
		     "a source leaves only what ran, and clears only what never did");
	if (host->given_move == move && host->given != HANDOVER_NO_MARK)
		host->given = (uint8_t)mark;
}

static void leave(struct step *step, unsigned int move, unsigned int role)
{
	if (!stands_given(step, move, role))
		return;
	settle(step, move, HANDOVER_RAN);
	vm_end(&step->world, &host_of(&step->world, move, false)->vm);
}

static void order(struct step *step, unsigned int move, unsigned int role, enum world_order what)
{
	struct world_vm *vm = &host_of(&step->world, move, is_destination(role))->vm;

	step->world.moves[move].actors[role].waits = true;
	if (vm->move == move && vm->owned &&
	    vm->at == (what == ORDER_GIVE ? VM_STANDS : VM_ARRIVES))
		vm->order = (uint8_t)what;
}

static void cancel(struct step *step, unsigned int move)
{
	struct world_vm *vm = &host_of(&step->world, move, false)->vm;

	if (vm->move == move && vm->at == VM_STANDS)
		vm->at = VM_RUNS;
}

static void kill_vm(struct step *step, unsigned int move)
{
	struct world_host *host = host_of(&step->world, move, true);

	step_promise(step,
		     (host->taken[move] == HANDOVER_NEVER && host->synced[move]) ||
			     vm_has_gone(&step->world, move, true) || host->vm.partial,
		     "a process ends only after never is durable, or without its memory");
	if (host->vm.move == move && host->vm.at != VM_NONE)
		host->vm.killed = true;
}

static void send_message(struct step *step, unsigned int move, enum handover_event_kind kind)
{
	const struct world_host *source = host_of(&step->world, move, false);
	const struct world_host *host = host_of(&step->world, move, true);
	bool lives = host->vm.at != VM_NONE && host->vm.move == move;

	if (kind == ON_RAN)
		step_promise(step, host->taken[move] == HANDOVER_RAN && host->synced[move],
			     "ran is said when it is durable");
	if (kind == ON_NEVER)
		step_promise(step,
			     host->taken[move] == HANDOVER_NEVER && host->synced[move] && !lives,
			     "never is said when it is durable and no process is left");
	if (kind == ON_COMMIT)
		step_promise(step,
			     source->given_move == move || host->taken[move] == HANDOVER_NEVER,
			     "commit is sent when given is durable, or to a token that is closed");
	step->world.moves[move].sent |= BIT(kind);
}

/* First wins. `failed`: an error after the write. */
static void take_never(const struct maker *maker, unsigned int move, unsigned int role, bool failed)
{
	struct step step = step_begin(maker);
	struct world_actor *actor = &step.world.moves[move].actors[role];
	struct world_host *host = host_of(&step.world, move, true);
	bool locked = host->vm.move == move && host->vm.order == ORDER_SYNC;

	if (failed && (locked || !step.world.crashes_left--))
		return;
	actor->pending &= ~(uint32_t)DO_TAKE_NEVER;
	actor->reply = ON_RESULT_UNKNOWN;
	if (!locked && host->taken[move] != HANDOVER_RAN && host->taken[move] != HANDOVER_NEVER) {
		host->taken[move] = HANDOVER_NEVER;
		host->synced[move] = false;
	}
	if (!locked && !failed) {
		host->synced[move] = true;
		actor->reply = host->taken[move] == HANDOVER_RAN ? ON_RESULT_RAN : ON_RESULT_NEVER;
	}
	describe(&step, "%s %u: tries to write never%s", role_name(role), move,
		 failed ? ", an error" : "");
	step_emit(maker, &step, failed);
}

static void do_action(struct step *step, unsigned int move, unsigned int role, uint32_t action)
{
	static const struct {
		uint32_t action;
		enum handover_event_kind message;
	} sends[] = {
		{ DO_SEND_REHEARSED, ON_REHEARSED },
		{ DO_SEND_READY, ON_READY },
		{ DO_SEND_COMMIT, ON_COMMIT },
		{ DO_SEND_REFUSED, ON_REFUSED },
		{ DO_SEND_RAN, ON_RAN },
		{ DO_SEND_NEVER, ON_NEVER },
		{ DO_SEND_VERIFIED, ON_VERIFIED },
	};
	struct world_actor *actor = &step->world.moves[move].actors[role];

	for (unsigned int i = 0; i < sizeof(sends) / sizeof(sends[0]); i++)
		if (sends[i].action == action)
			send_message(step, move, sends[i].message);
	switch (action) {
	case DO_PHASE:
		actor->works = true;
		break;
	case DO_WRITE_GIVEN:
		order(step, move, role, ORDER_GIVE);
		break;
	case DO_COMMIT_VM:
		order(step, move, role, ORDER_COMMIT);
		break;
	case DO_CANCEL_VM:
		cancel(step, move);
		break;
	case DO_RESUME_VM:
		resume(step, move, role);
		break;
	case DO_LEAVE_VM:
		leave(step, move, role);
		break;
	case DO_CLEAR_GIVEN:
		if (host_of(&step->world, move, false)->given == HANDOVER_OPEN)
			settle(step, move, HANDOVER_NEVER);
		break;
	case DO_SETTLE_RAN:
		settle(step, move, HANDOVER_RAN);
		break;
	case DO_END_VM:
		kill_vm(step, move);
		break;
	case DO_SEND_CANCEL:
		step->world.moves[move].sent |= BIT(is_destination(role) ? ON_CANCELLED
									 : SOURCES_CANCEL);
		break;
	case DO_ASK:
		if (is_daemon(role))
			step->world.moves[move].sent |= BIT(ON_ASK);
		break;
	default:
		break;
	}
}

/*
 * What others see only later anyway is done at once: messages, which may come at any time, orders to a VM's process, which it carries
 * out in steps of its own. An end before them is a message lost, an order not given.
 */
static void actor_acts_at_once(struct step *step, unsigned int move, unsigned int role)
{
	struct world_actor *actor = &step->world.moves[move].actors[role];

	while (actor->pending && !(actor->pending & LATER)) {
		uint32_t action = actor->pending & -actor->pending;

		actor->pending &= ~action;
		do_action(step, move, role, action);
	}
}

/* It writes its mark and answers nobody, or has an order to do first that came the same way. */
static bool vm_is_busy(struct world *world, unsigned int move, unsigned int role)
{
	const struct world_vm *vm = &host_of(world, move, false)->vm;

	return vm->order == ORDER_GIVING || (vm->order == ORDER_GIVE && !is_daemon(role));
}

void actor_acts(const struct maker *maker, unsigned int move, unsigned int role)
{
	struct step step = step_begin(maker);
	struct world_actor *actor = &step.world.moves[move].actors[role];
	uint32_t action = actor->pending & -actor->pending;

	if (action == DO_TAKE_NEVER) {
		take_never(maker, move, role, false);
		take_never(maker, move, role, true);
		return;
	}
	if (action & (DO_RESUME_VM | DO_LEAVE_VM) && vm_is_busy(&step.world, move, role))
		return;
	actor->pending &= ~action;
	do_action(&step, move, role, action);
	actor_acts_at_once(&step, move, role);
	describe(&step, "%s %u: %s", role_name(role), move,
		 handover_action_name((unsigned int)__builtin_ctz(action)));
	step_emit(maker, &step, false);
}

/* ---- beginnings ---- */

void actor_begin(struct step *step, unsigned int move, unsigned int role)
{
	struct world_actor *actor = &step->world.moves[move].actors[role];
	struct handover_id id = id_of(move);
	struct handover_source source;
	struct handover_destination destination;

	*actor = (struct world_actor){ .lives = true };
	if (is_destination(role)) {
		actor->pending = handover_destination_start(&id, move + 1, &destination);
		pack_destination(&destination, actor);
	} else {
		actor->pending = handover_source_start(&id, &source);
		pack_source(&source, actor);
	}
	actor_acts_at_once(step, move, role);
}

/* A daemon, from a mark. */
void actor_begin_again(struct step *step, unsigned int move, unsigned int role,
		       enum handover_mark mark, bool vm_lives)
{
	struct world_actor *actor = &step->world.moves[move].actors[role];
	struct handover_id id = id_of(move);
	struct handover_source source;
	struct handover_destination destination;

	*actor = (struct world_actor){ .lives = true };
	if (is_destination(role)) {
		actor->pending = handover_destination_restart(&id, mark, vm_lives, &destination);
		pack_destination(&destination, actor);
	} else {
		actor->pending = handover_source_restart(&id, mark, vm_lives, &source);
		pack_source(&source, actor);
	}
	actor_acts_at_once(step, move, role);
}
