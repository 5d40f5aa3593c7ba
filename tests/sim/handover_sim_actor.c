/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_sim.h"

/* ---- actors begin and end ---- */

void actor_ends(struct sim *sim, unsigned int move, unsigned int role)
{
	struct actor *actor = &sim->moves[move].actors[role];
	struct host *host = host_of(sim, move, role);

	if (!actor->instance)
		return;
	host_unlock(host, actor->instance);
	if (vm_is_of(&host->vm, move) && host->vm.owner == actor->instance)
		sim_push(sim, sim_below(sim, 5 * MS),
			 (struct event){ .kind = VM_ALONE,
					 .instance = host->vm.instance,
					 .host = (uint8_t)where(sim, move, role),
					 .move = (uint8_t)move });
	*actor = (struct actor){ 0 };
	if (is_daemon(role))
		return;
	role ^= SOURCE_MOVER ^
		DESTINATION_MOVER; /* the other sees its link end, soon or by silence */
	actor = &sim->moves[move].actors[role];
	if (actor->instance)
		sim_push(sim, sim_below(sim, 2) ? sim_below(sim, 10 * MS) : 5 * SECOND,
			 (struct event){ .kind = HAPPENS,
					 .instance = actor->instance,
					 .host = (uint8_t)where(sim, move, role),
					 .move = (uint8_t)move,
					 .role = (uint8_t)role,
					 .what = ON_LINK_LOST });
}

static void ticks(struct sim *sim, unsigned int move, unsigned int role)
{
	sim_push(sim, 800 * MS + sim_below(sim, 400 * MS),
		 (struct event){ .kind = HAPPENS,
				 .instance = sim->moves[move].actors[role].instance,
				 .host = (uint8_t)where(sim, move, role),
				 .move = (uint8_t)move,
				 .role = (uint8_t)role,
				 .what = ON_TICK });
}

struct actor *actor_new(struct sim *sim, unsigned int move, unsigned int role)
{
	struct actor *actor = &sim->moves[move].actors[role];

	*actor = (struct actor){ .instance = ++sim->instances };
	ticks(sim, move, role);
	return actor;
}

/* ---- actions ---- */

/* Where a message is lost for good the link is, too, after some seconds of silence. */
void move_loses_link(struct sim *sim, unsigned int move)
{
	for (unsigned int role = SOURCE_MOVER; role < ROLES; role += DESTINATION_MOVER)
		if (sim->moves[move].actors[role].instance)
			sim_push(sim, 5 * SECOND,
				 (struct event){ .kind = HAPPENS,
						 .instance = sim->moves[move].actors[role].instance,
						 .host = (uint8_t)where(sim, move, role),
						 .move = (uint8_t)move,
						 .role = (uint8_t)role,
						 .what = ON_LINK_LOST });
}

static void send(struct sim *sim, unsigned int move, unsigned int from,
		 enum handover_event_kind what)
{
	bool daemons = what == ON_ASK || is_daemon(from);
	unsigned int to = is_destination(from) ? (daemons ? SOURCE_DAEMON : SOURCE_MOVER)
					       : (daemons ? DESTINATION_DAEMON : DESTINATION_MOVER);
	unsigned int copies = sim_is_cut(sim)	    ? 0
			      : sim_goes_wrong(sim) ? (unsigned int)sim_below(sim, 3)
						    : 1;

	sim_say(sim, "move %u: %s says %s%s", move, role_names[from], handover_event_name(what),
		copies ? "" : ", and it is lost");
	if (!copies && !daemons)
		move_loses_link(sim, move);
	for (unsigned int i = 0; i < copies; i++)
		sim_push(sim,
			 sim_goes_wrong(sim) ? sim_below(sim, 20 * SECOND)
					     : sim_below(sim, 20 * MS),
			 (struct event){ .kind = MESSAGE,
					 .host = (uint8_t)where(sim, move, to),
					 .move = (uint8_t)move,
					 .role = (uint8_t)to,
					 .what = what });
}

static void work_on_phase(struct sim *sim, unsigned int move, unsigned int role)
{
	const struct actor *actor = &sim->moves[move].actors[role];

	sim_push(sim, sim_below(sim, 100 * MS),
		 (struct event){ .kind = HAPPENS,
				 .instance = actor->instance,
				 .host = (uint8_t)where(sim, move, role),
				 .move = (uint8_t)move,
				 .role = (uint8_t)role,
				 .what = sim_goes_wrong(sim) ? ON_FAILED : ON_DONE,
				 .phase = is_destination(role) ? actor->destination.phase
							       : actor->source.phase });
}

static void order_vm(struct sim *sim, unsigned int move, unsigned int role)
{
	struct actor *actor = &sim->moves[move].actors[role];
	struct vm *vm = &host_of(sim, move, role)->vm;

	if (vm_is_of(vm, move) && vm->owner == actor->instance) {
		vm->ordered = true;
		sim_push(sim, sim_below(sim, MS),
			 (struct event){ .kind = VM_ORDER,
					 .instance = vm->instance,
					 .host = (uint8_t)where(sim, move, role),
					 .move = (uint8_t)move });
	}
	sim_push(sim, 10 * SECOND,
		 (struct event){ .kind = HAPPENS,
				 .instance = actor->instance,
				 .host = (uint8_t)where(sim, move, role),
				 .move = (uint8_t)move,
				 .role = (uint8_t)role,
				 .what = is_destination(role) ? ON_RESULT_UNKNOWN
							      : ON_MARK_UNKNOWN });
}

static void take_never(struct sim *sim, unsigned int move, unsigned int role)
{
	struct actor *actor = &sim->moves[move].actors[role];
	struct mark *taken = &host_of(sim, move, role)->taken[move];

	if (taken->locked) {
		actor_hears_later(sim, where(sim, move, role), move, role, ON_RESULT_UNKNOWN);
		return;
	}
	if (taken->seen != HANDOVER_RAN)
		taken->seen = HANDOVER_NEVER;
	taken->locked = actor->instance;
	sim_push(sim, sim_below(sim, 30 * MS),
		 (struct event){ .kind = ACTOR_SYNCED,
				 .instance = actor->instance,
				 .host = (uint8_t)where(sim, move, role),
				 .move = (uint8_t)move,
				 .role = (uint8_t)role });
}

void actor_synced(struct sim *sim, const struct event *event)
{
	struct mark *taken = &sim->hosts[event->host].taken[event->move];
	enum handover_event_kind what = ON_RESULT_UNKNOWN;

	taken->locked = 0;
	if (!sim_goes_wrong(sim)) {
		taken->synced = taken->seen;
		what = taken->seen == HANDOVER_RAN ? ON_RESULT_RAN : ON_RESULT_NEVER;
		sim->n_never += what == ON_RESULT_NEVER;
	}
	actor_hears_later(sim, event->host, event->move, event->role, what);
}

static void vm_is_told(struct sim *sim, unsigned int move, unsigned int role, uint32_t action)
{
	unsigned int h = sim->moves[move].source;
	struct host *host = &sim->hosts[h];
	bool hears = sim->now >= host->vm.frozen_until && !host->vm.ordered && !host->vm.writes;
	bool is_given = vm_is_of(&host->vm, move) && host->vm.at == VM_GIVEN;

	if (!hears)
		return;
	if (action == DO_CANCEL_VM) {
		if (vm_is_of(&host->vm, move) && host->vm.at == VM_STANDS)
			vm_run(sim, h, host->vm.work);
	} else if (!is_given) {
		actor_hears(sim, move, role, &(struct handover_event){ .kind = ON_VM_DIED });
	} else if (action == DO_RESUME_VM) {
		host->given.seen = host->given.synced = HANDOVER_NO_MARK;
		vm_run(sim, h, host->vm.work);
		host->vm.move = NOBODY;
	} else {
		host->given.seen = host->given.synced = HANDOVER_RAN;
		vm_end(sim, h);
	}
}

static void settle_mark(struct sim *sim, unsigned int move, enum handover_mark mark)
{
	struct mark *given = &host_of(sim, move, SOURCE_MOVER)->given;

	if (given->move == move && given->seen != HANDOVER_NO_MARK)
		given->seen = given->synced = mark;
}

static void kill_vm(struct sim *sim, unsigned int move)
{
	unsigned int h = where(sim, move, DESTINATION_MOVER);
	const struct vm *vm = &sim->hosts[h].vm;

	if (!vm_is_of(vm, move))
		return;
	sim_holds(sim, vm->at != VM_RUNS, "what runs is killed");
	vm_end(sim, h);
}

static void act_on_host(struct sim *sim, unsigned int move, unsigned int role, uint32_t action)
{
	switch (action) {
	case DO_PHASE:
		work_on_phase(sim, move, role);
		break;
	case DO_WRITE_GIVEN:
	case DO_COMMIT_VM:
		order_vm(sim, move, role);
		break;
	case DO_CANCEL_VM:
	case DO_RESUME_VM:
	case DO_LEAVE_VM:
		vm_is_told(sim, move, role, action);
		break;
	case DO_CLEAR_GIVEN:
		settle_mark(sim, move, HANDOVER_NEVER);
		break;
	case DO_SETTLE_RAN:
		settle_mark(sim, move, HANDOVER_RAN);
		break;
	case DO_TAKE_NEVER:
		take_never(sim, move, role);
		break;
	case DO_END_VM:
		kill_vm(sim, move);
		break;
	default:
		break;
	}
}

void actor_acts(struct sim *sim, unsigned int move, unsigned int role, uint32_t actions)
{
	static const struct {
		uint32_t action;
		enum handover_event_kind what;
	} sends[] = {
		{ DO_SEND_REHEARSED, ON_REHEARSED }, { DO_SEND_READY, ON_READY },
		{ DO_SEND_COMMIT, ON_COMMIT },	     { DO_SEND_REFUSED, ON_REFUSED },
		{ DO_SEND_CANCEL, ON_CANCELLED },    { DO_SEND_RAN, ON_RAN },
		{ DO_SEND_NEVER, ON_NEVER },	     { DO_SEND_UNDECIDED, ON_UNDECIDED },
		{ DO_SEND_VERIFIED, ON_VERIFIED },
	};
	const uint32_t instance = sim->moves[move].actors[role].instance;

	for (unsigned int bit = 0; bit < HANDOVER_ACTIONS; bit++)
		if (actions & 1U << bit)
			act_on_host(sim, move, role, 1U << bit);
	for (unsigned int i = 0; i < sizeof(sends) / sizeof(sends[0]); i++)
		if (actions & sends[i].action)
			send(sim, move, role, sends[i].what);
	if (actions & DO_ASK) {
		if (is_daemon(role))
			send(sim, move, role, ON_ASK);
		else if (sim->moves[move].actors[role].instance == instance)
			actor_ends(sim, move, role); /* its daemon asks from here on */
	}
	if (actions & DO_END || (is_daemon(role) && actions & (DO_LEAVE_VM | DO_SETTLE_RAN)))
		actor_ends(sim, move, role);
}

/* ---- events ---- */

/* What a phase does beside taking its time. False: it is not done yet. */
static bool phase_is_done(struct sim *sim, struct event *event)
{
	struct move *move = &sim->moves[event->move];
	struct vm *vm = &sim->hosts[event->host].vm;

	if (!vm_is_of(vm, event->move)) {
		event->what = ON_VM_DIED;
		return true;
	}
	if (event->role == SOURCE_MOVER && event->phase == PHASE_STOP && vm->at == VM_RUNS)
		vm_stand(sim, vm, VM_STANDS);
	if (event->role == SOURCE_MOVER) {
		move->sent = event->phase;
		move->work = vm->work;
	}
	return event->role != DESTINATION_MOVER || event->phase > PHASE_STATE ||
	       event->phase <= move->sent;
}

void actor_hears(struct sim *sim, unsigned int move, unsigned int role,
		 const struct handover_event *event)
{
	struct actor *actor = &sim->moves[move].actors[role];

	if (sim->talks && event->kind != ON_TICK)
		sim_say(sim, "move %u: %s: %s", move, role_names[role],
			handover_event_name(event->kind));
	actor_acts(sim, move, role,
		   is_destination(role) ? handover_destination_step(&actor->destination, event)
					: handover_source_step(&actor->source, event));
}

void actor_event(struct sim *sim, const struct event *event)
{
	struct event now = *event;
	struct actor *actor = &sim->moves[event->move].actors[event->role];
	struct handover_event told = { .phase = event->phase };

	if (actor->instance != event->instance)
		return;
	if (sim->now < actor->frozen_until) {
		sim_push(sim, actor->frozen_until - sim->now + sim_below(sim, MS), *event);
		return;
	}
	if (event->what == ON_DONE && !phase_is_done(sim, &now)) {
		sim_push(sim, 10 * MS, *event);
		return;
	}
	if (event->what == ON_TICK) {
		ticks(sim, event->move, event->role);
		if (!vm_is_of(&sim->hosts[event->host].vm, event->move))
			now.what = sim_below(sim, 2) ? ON_VM_DIED : ON_TICK;
	}
	told.kind = now.what;
	actor_hears(sim, event->move, event->role, &told);
}

void daemon_begins(struct sim *sim, unsigned int move)
{
	struct host *host = host_of(sim, move, DESTINATION_DAEMON);
	const struct mark *taken = &host->taken[move];
	struct handover_id id = id_of(move);
	struct actor *actor = &sim->moves[move].actors[DESTINATION_DAEMON];

	if (actor->instance)
		return;
	actor = actor_new(sim, move, DESTINATION_DAEMON);
	/* A result that is not synced has to be written again: only taking tells it. */
	actor_acts(sim, move, DESTINATION_DAEMON,
		   handover_destination_restart(&id,
						taken->seen == taken->synced && !taken->locked
							? taken->seen
							: HANDOVER_OPEN,
						vm_is_of(&host->vm, move), &actor->destination));
}

/* To whoever listens for such messages on that host, whichever move it is busy with. */
void message_comes(struct sim *sim, const struct event *event)
{
	struct handover_event told = { .kind = event->what, .id = id_of(event->move) };

	if (!sim->hosts[event->host].up)
		return;
	if (event->what == ON_ASK)
		daemon_begins(sim, event->move);
	for (unsigned int move = 0; move < sim->n_moves; move++) {
		struct actor *actor = &sim->moves[move].actors[event->role];

		if (!actor->instance || where(sim, move, event->role) != event->host)
			continue;
		if (sim->now < actor->frozen_until)
			sim_push(sim, actor->frozen_until - sim->now + sim_below(sim, MS), *event);
		else
			actor_hears(sim, move, event->role, &told);
	}
}
