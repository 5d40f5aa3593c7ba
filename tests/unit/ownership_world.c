/* SPDX-License-Identifier: Apache-2.0 */
#include "ownership_world.h"

#include <string.h>

#define AT_START 1u

static const char *const move_names[MOVE_KINDS] = {
	[MOVE_PUTS_OUT] = "puts-out",
	[MOVE_SWITCHES_OFF] = "switches-off",
	[MOVE_CUT] = "cut",
	[MOVE_SYNC] = "sync",
	[MOVE_GATE] = "gate",
	[MOVE_GIVES_UP] = "gives-up",
	[MOVE_RECEIVES] = "receives",
	[MOVE_ACK] = "ack",
	[MOVE_SUSPECTS] = "suspects",
	[MOVE_PREPARED] = "prepared",
	[MOVE_APPLIED] = "applied",
	[MOVE_APPLY_FAILED] = "apply-failed",
	[MOVE_CLAIMANT_LOST] = "claimant-lost",
	[MOVE_TICK] = "tick",
	[MOVE_LANDS] = "lands",
	[MOVE_ANSWER] = "answer",
	[MOVE_ANSWER_LOST] = "answer-lost",
	[MOVE_READS] = "reads",
	[MOVE_CRASH] = "crash",
};

const char *world_move_name(enum world_move_kind kind)
{
	return (unsigned int)kind < MOVE_KINDS ? move_names[kind] : "?";
}

static struct ownership_id instance_id(uint8_t host, uint8_t incarnation)
{
	return (struct ownership_id){ { 'i', host, incarnation } };
}

static struct ownership_id session_id(uint8_t session)
{
	return (struct ownership_id){ { 's', session } };
}

static uint8_t session_number(const struct ownership_id *id)
{
	return id->bytes[0] == 's' ? id->bytes[1] : 0;
}

static const struct ownership_record *record_now(const struct world *world)
{
	return &world->history[world->revision];
}

static void is_broken(struct world *world, const char *promise)
{
	if (!world->broken)
		world->broken = promise;
}

/* ---- what the actions do ---- */

static void put_out(struct world *world, uint8_t h, uint16_t outputs)
{
	struct world_host *host = &world->hosts[h];
	uint64_t generation = host->ownership.record.generation;

	outputs &= (uint16_t)~AT_START;
	if (!outputs)
		return;
	if (world->releaser[generation] && world->releaser[generation] != h + 1)
		is_broken(world, "two put out in one generation");
	world->releaser[generation] = h + 1;
	world->released |= outputs;
	host->held &= (uint16_t)~outputs;
}

static uint16_t held_up_to(const struct world_host *host, uint64_t epoch)
{
	uint16_t outputs = 0;

	for (unsigned int i = 1; i <= WORLD_OUTPUTS; i++)
		if ((host->held & 1u << i) && host->tag[i] <= epoch)
			outputs |= (uint16_t)(1u << i);
	return outputs;
}

/* Where there is no room one that nobody waits for gets lost. */
static struct world_request *room_for_request(struct world_host *host)
{
	for (size_t i = 0; i < WORLD_REQUESTS; i++)
		if (!host->requests[i].under_way)
			return &host->requests[i];
	return &host->requests[0];
}

static void send_request(struct world_host *host)
{
	host->answered = false;
	*room_for_request(host) = (struct world_request){ .under_way = true,
							  .want = host->ownership.want };
}

static void orphan_requests(struct world_host *host)
{
	host->answered = false;
	for (size_t i = 0; i < WORLD_REQUESTS; i++)
		host->requests[i].orphan |= host->requests[i].under_way;
}

static void stop_guest(struct world_host *host)
{
	host->runs = host->off = host->holds = false;
	host->state = host->held = 0;
}

static void acknowledge(struct world *world, const struct ownership *ownership)
{
	struct world_session *session = &world->sessions[session_number(&ownership->session)];

	if (ownership->acked > session->acked)
		session->acked = (uint8_t)ownership->acked;
}

static void act(struct world *world, uint8_t h, uint32_t actions)
{
	struct world_host *host = &world->hosts[h];

	if (actions & THEN_GATE)
		host->holds = true;
	if (actions & THEN_STOP_VM)
		stop_guest(host);
	if (actions & THEN_RUN) {
		host->runs = true;
		host->state = AT_START;
	}
	host->preparing |= !!(actions & THEN_PREPARE);
	host->applying |= !!(actions & THEN_APPLY);
	if (actions & THEN_RELEASE)
		put_out(world, h, held_up_to(host, host->ownership.acked));
	if (actions & THEN_REPLAY)
		host->held = host->state & (uint16_t)~AT_START;
	if (actions & THEN_OPEN) {
		put_out(world, h, host->held);
		host->holds = false;
	}
	if (actions & THEN_ACK)
		acknowledge(world, &host->ownership);
	if (actions & THEN_SWAP)
		send_request(host);
	if (actions & THEN_END) {
		host->life = LIFE_ENDED;
		orphan_requests(host);
	}
}

static void event(struct world *world, uint8_t h, struct ownership_event event)
{
	act(world, h, ownership_step(&world->hosts[h].ownership, &event));
}

static void event_of(struct world *world, uint8_t h, enum ownership_event_kind kind)
{
	event(world, h, (struct ownership_event){ .kind = kind });
}

/* ---- moves ---- */

/* That was cut; of a claimant the one that it goes on from. */
static uint64_t last_epoch(const struct world_host *host)
{
	const struct ownership *ownership = &host->ownership;

	return ownership->cut > ownership->whole ? ownership->cut : ownership->whole;
}

static void puts_out(struct world *world, uint8_t h)
{
	struct world_host *host = &world->hosts[h];
	const struct ownership *ownership = &host->ownership;
	uint8_t number = ++world->n_outputs;

	host->state |= (uint16_t)(1u << number);
	host->held |= (uint16_t)(1u << number);
	host->tag[number] = (uint8_t)(last_epoch(host) + 1);
	if (ownership_is_open(ownership))
		put_out(world, h, host->held);
}

static void cut(struct world *world, uint8_t h)
{
	struct world_host *host = &world->hosts[h];
	uint64_t epoch = host->ownership.cut + 1;

	world->sessions[session_number(&host->ownership.session)].sent[epoch] = host->state;
	event(world, h, (struct ownership_event){ .kind = WHEN_CUT, .epoch = epoch });
}

static void synchronise(struct world *world, uint8_t h, uint8_t target)
{
	struct world_host *copy = &world->hosts[target];
	uint8_t number = ++world->n_sessions;
	struct ownership_id id = session_id(number), me;

	world->sessions[number].owner = world->hosts[h].ownership.me;
	event(world, h, (struct ownership_event){ .kind = WHEN_SYNC, .session = id });
	stop_guest(copy);
	copy->preparing = copy->applying = copy->spoiled = false;
	copy->life = LIFE_LIVES;
	me = instance_id(target, ++copy->incarnation);
	ownership_back_up(&me, &id, &world->hosts[h].ownership.record, &copy->ownership);
}

static uint8_t next_whole(const struct world *world, const struct ownership *ownership)
{
	const struct world_session *session = &world->sessions[session_number(&ownership->session)];

	for (uint64_t i = ownership->whole + 1; i <= WORLD_EPOCHS; i++)
		if (session->sent[i])
			return (uint8_t)i;
	return 0;
}

/* What a copy could go on from. */
static uint16_t copied_state(const struct world *world, const struct ownership *ownership)
{
	const struct world_session *session = &world->sessions[session_number(&ownership->session)];

	return ownership->whole ? session->sent[ownership->whole] : 0;
}

static void applied(struct world *world, uint8_t h)
{
	struct world_host *host = &world->hosts[h];

	host->applying = false;
	host->runs = host->holds = true;
	host->state = copied_state(world, &host->ownership);
	event_of(world, h, WHEN_RUNS_HELD);
}

static void apply_failed(struct world *world, uint8_t h)
{
	world->n_crashes++;
	world->hosts[h].applying = false;
	world->hosts[h].spoiled = true;
	event_of(world, h, WHEN_APPLY_FAILED);
}

static bool would_win(const struct world *world, const struct world_request *request)
{
	return request->want.revision == world->revision;
}

static void lands(struct world *world, uint8_t h, uint8_t i)
{
	struct world_host *host = &world->hosts[h];
	struct world_request *request = &host->requests[i];
	bool won = would_win(world, request);

	if (won) {
		world->history[++world->revision] = request->want;
		world->history[world->revision].revision = world->revision;
	}
	if (!request->orphan) {
		host->answered = true;
		host->won = won;
		host->answer = *record_now(world);
	}
	*request = (struct world_request){ 0 };
}

static void answers(struct world *world, uint8_t h)
{
	struct world_host *host = &world->hosts[h];

	host->answered = false;
	event(world, h,
	      (struct ownership_event){ .kind = host->won ? WHEN_WON : WHEN_LOST,
					.record = host->answer });
}

static void answer_is_lost(struct world *world, uint8_t h)
{
	world->n_troubles++;
	orphan_requests(&world->hosts[h]);
	event_of(world, h, WHEN_UNKNOWN);
}

static void hears_ack(struct world *world, uint8_t h, uint8_t session)
{
	event(world, h,
	      (struct ownership_event){ .kind = WHEN_ACKED,
					.session = session_id(session),
					.epoch = world->sessions[session].acked });
}

static void crashes(struct world *world, uint8_t h)
{
	struct world_host *host = &world->hosts[h];

	world->n_crashes++;
	orphan_requests(host);
	stop_guest(host);
	host->preparing = host->applying = false;
	host->life = LIFE_CRASHED;
	host->ownership = (struct ownership){ .me = host->ownership.me };
}

static void switches_off(struct world *world, uint8_t h)
{
	struct world_host *host = &world->hosts[h];

	host->off = true;
	event(world, h,
	      (struct ownership_event){ .kind = WHEN_OFF, .epoch = last_epoch(host) + 1 });
}

static void reads(struct world *world, uint8_t h, uint8_t revision)
{
	event(world, h,
	      (struct ownership_event){ .kind = WHEN_READ, .record = world->history[revision] });
}

static void prepared(struct world *world, uint8_t h)
{
	world->hosts[h].preparing = false;
	event_of(world, h, WHEN_PREPARED);
}

static void receives(struct world *world, uint8_t h, uint8_t epoch)
{
	event(world, h, (struct ownership_event){ .kind = WHEN_WHOLE, .epoch = epoch });
}

static void do_move(struct world *world, const struct world_move *move)
{
	uint8_t h = move->host;

	switch (move->kind) {
	case MOVE_PUTS_OUT:
		return puts_out(world, h);
	case MOVE_SWITCHES_OFF:
		return switches_off(world, h);
	case MOVE_CUT:
		return cut(world, h);
	case MOVE_SYNC:
		return synchronise(world, h, move->argument);
	case MOVE_GATE:
		return event_of(world, h, WHEN_GATE);
	case MOVE_GIVES_UP:
		return event_of(world, h, WHEN_GIVEN_UP);
	case MOVE_RECEIVES:
		return receives(world, h, move->argument);
	case MOVE_ACK:
		return hears_ack(world, h, move->argument);
	case MOVE_SUSPECTS:
		return event_of(world, h, WHEN_SUSPECTED);
	case MOVE_PREPARED:
		return prepared(world, h);
	case MOVE_APPLIED:
		return applied(world, h);
	case MOVE_APPLY_FAILED:
		return apply_failed(world, h);
	case MOVE_CLAIMANT_LOST:
		return event_of(world, h, WHEN_CLAIMANT_LOST);
	case MOVE_TICK:
		return event_of(world, h, WHEN_TICK);
	case MOVE_LANDS:
		return lands(world, h, move->argument);
	case MOVE_ANSWER:
		return answers(world, h);
	case MOVE_ANSWER_LOST:
		return answer_is_lost(world, h);
	case MOVE_READS:
		return reads(world, h, move->argument);
	case MOVE_CRASH:
		return crashes(world, h);
	default:
		return;
	}
}

/* ---- which are possible ---- */

struct moves {
	struct world_move *list;
	size_t n;
};

static void possible(struct moves *moves, bool whether, enum world_move_kind kind, uint8_t host,
		     uint8_t argument)
{
	if (whether && moves->n < WORLD_MOVES)
		moves->list[moves->n++] = (struct world_move){ kind, host, argument };
}

static bool has_session(const struct ownership *ownership)
{
	return session_number(&ownership->session) != 0;
}

static void owner_moves(const struct world *world, uint8_t h, struct moves *moves)
{
	const struct world_host *host = &world->hosts[h];
	const struct ownership *ownership = &host->ownership;
	bool solo = ownership->role == OWNERSHIP_IS_SOLO, copied = has_session(ownership);

	if (!solo && ownership->role != OWNERSHIP_IS_PROTECTED)
		return;
	possible(moves, copied && ownership->cut < world->limits.epochs, MOVE_CUT, h, 0);
	possible(moves, solo && copied && !ownership->gated, MOVE_GATE, h, 0);
	possible(moves, copied && !ownership->give_up, MOVE_GIVES_UP, h, 0);
	for (uint8_t i = 0; i < world->limits.hosts; i++)
		possible(moves,
			 solo && !copied && world->n_sessions < world->limits.sessions && i != h &&
				 world->hosts[i].life != LIFE_LIVES,
			 MOVE_SYNC, h, i);
	for (uint8_t i = 1; i <= world->n_sessions; i++)
		possible(moves, world->sessions[i].acked, MOVE_ACK, h, i);
}

/* Whoever made this copy lives, and has left it: it may say so. */
static bool is_left(const struct world *world, const struct ownership *copy)
{
	const struct ownership_id *owner = &world->sessions[session_number(&copy->session)].owner;

	for (uint8_t i = 0; i < world->limits.hosts; i++) {
		const struct world_host *host = &world->hosts[i];

		if (host->life == LIFE_LIVES && ownership_id_equal(&host->ownership.me, owner))
			return !ownership_id_equal(&host->ownership.session, &copy->session);
	}
	return false;
}

static void backup_moves(const struct world *world, uint8_t h, struct moves *moves)
{
	const struct world_host *host = &world->hosts[h];
	const struct ownership *ownership = &host->ownership;
	uint8_t epoch;

	possible(moves, host->applying, MOVE_APPLIED, h, 0);
	possible(moves, host->applying && world->n_crashes < world->limits.crashes,
		 MOVE_APPLY_FAILED, h, 0);
	possible(moves, ownership->role == OWNERSHIP_IS_DEPOSED && !ownership->take_back,
		 MOVE_CLAIMANT_LOST, h, 0);
	if (ownership->role != OWNERSHIP_BACKS_UP && ownership->role != OWNERSHIP_CLAIMS)
		return;
	epoch = next_whole(world, ownership);
	possible(moves, epoch != 0, MOVE_RECEIVES, h, epoch);
	if (ownership->role == OWNERSHIP_CLAIMS)
		return;
	possible(moves, !host->preparing && !ownership->prepared, MOVE_SUSPECTS, h, 0);
	possible(moves, host->preparing, MOVE_PREPARED, h, 0);
	possible(moves, is_left(world, ownership), MOVE_GIVES_UP, h, 0);
}

static void arbiter_moves(const struct world *world, uint8_t h, struct moves *moves)
{
	const struct world_host *host = &world->hosts[h];

	for (uint8_t i = 0; i < WORLD_REQUESTS; i++) {
		const struct world_request *request = &host->requests[i];

		possible(moves,
			 request->under_way && (world->revision < world->limits.revisions ||
						!would_win(world, request)),
			 MOVE_LANDS, h, i);
	}
}

static void life_moves(const struct world *world, uint8_t h, struct moves *moves)
{
	const struct world_host *host = &world->hosts[h];
	const struct ownership *ownership = &host->ownership;

	possible(moves, host->runs && !host->off && world->n_outputs < world->limits.outputs,
		 MOVE_PUTS_OUT, h, 0);
	possible(moves, world->limits.switches_off && host->runs && !host->off, MOVE_SWITCHES_OFF,
		 h, 0);
	possible(moves, ownership->waits, MOVE_TICK, h, 0);
	possible(moves, ownership->asked && host->answered, MOVE_ANSWER, h, 0);
	possible(moves, ownership->asked && world->n_troubles < world->limits.troubles,
		 MOVE_ANSWER_LOST, h, 0);
	/* The newest, and old ones that must tell nothing. */
	possible(moves, true, MOVE_READS, h, world->revision);
	possible(moves, world->revision > 1, MOVE_READS, h, (uint8_t)(world->revision - 1));
	possible(moves, world->n_crashes < world->limits.crashes, MOVE_CRASH, h, 0);
}

size_t world_moves(const struct world *world, struct world_move ret_moves[WORLD_MOVES])
{
	struct moves moves = { .list = ret_moves };

	for (uint8_t h = 0; h < world->limits.hosts; h++) {
		arbiter_moves(world, h, &moves);
		if (world->hosts[h].life != LIFE_LIVES)
			continue;
		life_moves(world, h, &moves);
		owner_moves(world, h, &moves);
		backup_moves(world, h, &moves);
	}
	return moves.n;
}

/* ---- promises ---- */

static bool contains(uint16_t state, uint16_t outputs)
{
	return (outputs & ~(unsigned int)state) == 0;
}

static bool is_wanted(const struct world_host *host, const struct ownership_record *record)
{
	const struct ownership *ownership = &host->ownership;

	if (record->mode == OWNERSHIP_NONE || record->mode == OWNERSHIP_STOPPED)
		return false;
	return ownership_id_equal(&record->owner, &ownership->me) ||
	       (record->mode == OWNERSHIP_CLAIMED &&
		ownership_id_equal(&record->from, &ownership->me)) ||
	       (record->mode == OWNERSHIP_PROTECTED &&
		ownership_id_equal(&record->backup, &ownership->session));
}

static uint16_t memory_of(const struct world *world, const struct world_host *host)
{
	return host->runs ? host->state : copied_state(world, &host->ownership);
}

static void check_host(struct world *world, const struct world_host *host)
{
	const struct ownership_record *record = record_now(world);

	if (host->life == LIFE_LIVES && host->runs && ownership_is_open(&host->ownership) &&
	    !ownership_id_equal(&record->owner, &host->ownership.me))
		is_broken(world, "one puts out at once whom the record does not name");
	if (host->life == LIFE_NONE || host->life == LIFE_CRASHED || !is_wanted(host, record))
		return;
	if (host->life == LIFE_ENDED && !host->spoiled)
		is_broken(world, "one ended that the record counts on");
	if (host->life == LIFE_LIVES && host->ownership.role != OWNERSHIP_STARTS &&
	    !contains(memory_of(world, host), world->released))
		is_broken(world, "what was put out is not contained in what may go on");
}

void world_do(struct world *world, const struct world_move *move)
{
	do_move(world, move);
	for (uint8_t h = 0; h < world->limits.hosts; h++)
		check_host(world, &world->hosts[h]);
}

const struct world_host *world_find(const struct world *world, const struct ownership_id *id)
{
	for (uint8_t h = 0; h < world->limits.hosts; h++) {
		const struct world_host *host = &world->hosts[h];

		if (host->life == LIFE_LIVES &&
		    (ownership_id_equal(id, &host->ownership.me) ||
		     (host->ownership.role == OWNERSHIP_BACKS_UP &&
		      ownership_id_equal(id, &host->ownership.session))))
			return host;
	}
	return NULL;
}

bool world_is_well(const struct world *world)
{
	const struct ownership_record *record = record_now(world);

	if (record->mode == OWNERSHIP_STOPPED)
		return true;
	for (uint8_t h = 0; h < world->limits.hosts; h++) {
		const struct world_host *host = &world->hosts[h];

		if (host->life == LIFE_LIVES && host->runs && !host->held && !host->off &&
		    ownership_id_equal(&record->owner, &host->ownership.me) &&
		    record->mode != OWNERSHIP_CLAIMED)
			return true;
	}
	return false;
}

void world_init(const struct world_limits *limits, struct world *ret_world)
{
	struct ownership_id me = instance_id(0, 1), nobody = { 0 };
	struct world *world = ret_world;

	memset(world, 0, sizeof(*world));
	world->limits = *limits;
	world->hosts[0].life = LIFE_LIVES;
	world->hosts[0].incarnation = 1;
	act(world, 0,
	    ownership_start(&me, &world->history[0], &nobody, &world->hosts[0].ownership));
	lands(world, 0, 0);
	answers(world, 0);
}

/* ---- the key ---- */

struct key {
	uint64_t a, b;
};

static void mix(struct key *key, uint64_t value)
{
	key->a = (key->a ^ value) * 0x9e3779b97f4a7c15ULL;
	key->a ^= key->a >> 29;
	key->b = (key->b + value) * 0xc2b2ae3d27d4eb4fULL;
	key->b ^= key->b >> 31;
}

static void mix_id(struct key *key, const struct ownership_id *id)
{
	mix(key, (uint64_t)id->bytes[0] << 16 | id->bytes[1] << 8 | id->bytes[2]);
}

static void mix_record(struct key *key, const struct ownership_record *record)
{
	mix(key, record->revision << 32 | record->generation << 8 | record->mode);
	mix_id(key, &record->owner);
	mix_id(key, &record->backup);
	mix_id(key, &record->from);
}

static uint64_t flags_of(const struct world_host *host)
{
	const struct ownership *o = &host->ownership;
	const bool flags[] = { o->asked,	o->waits,	o->gated,    o->give_up,
			       o->off,		o->named,	o->prepared, o->runs_held,
			       o->take_back,	host->runs,	host->off,   host->holds,
			       host->preparing, host->applying, host->won,   host->answered,
			       host->spoiled };
	uint64_t bits = 0;

	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
		bits |= (uint64_t)flags[i] << i;
	return bits;
}

static void mix_requests(struct key *key, const struct world_host *host)
{
	if (host->answered)
		mix_record(key, &host->answer);
	for (size_t i = 0; i < WORLD_REQUESTS; i++) {
		mix(key, host->requests[i].under_way * 2u + host->requests[i].orphan);
		if (host->requests[i].under_way)
			mix_record(key, &host->requests[i].want);
	}
}

static void mix_host(struct key *key, const struct world_host *host)
{
	const struct ownership *o = &host->ownership;

	mix(key, (uint64_t)host->life << 16 | host->incarnation << 8 | o->role);
	mix(key, flags_of(host));
	mix(key, (uint64_t)host->state << 16 | host->held);
	for (unsigned int i = 1; i <= WORLD_OUTPUTS; i++)
		if (host->held & 1u << i)
			mix(key, i << 8 | host->tag[i]);
	mix_id(key, &o->session);
	mix_record(key, &o->record);
	mix(key,
	    o->cut << 40 | o->gate_epoch << 30 | o->off_epoch << 20 | o->acked << 10 | o->whole);
	mix_requests(key, host);
}

void world_key(const struct world *world, uint64_t ret_key[2])
{
	struct key key = { 1, 2 };

	for (uint8_t h = 0; h < world->limits.hosts; h++)
		mix_host(&key, &world->hosts[h]);
	for (uint8_t i = 1; i <= world->n_sessions; i++) {
		mix(&key, world->sessions[i].acked);
		for (unsigned int e = 1; e <= world->limits.epochs; e++)
			mix(&key, world->sessions[i].sent[e]);
	}
	mix(&key, (uint64_t)world->n_troubles << 40 | (uint64_t)world->n_sessions << 32 |
			  world->n_outputs << 24 | world->n_crashes << 16 | world->revision);
	for (unsigned int i = 1; i <= world->revision; i++) {
		mix_record(&key, &world->history[i]);
		mix(&key, world->releaser[i]);
	}
	mix(&key, world->released);
	ret_key[0] = key.a;
	ret_key[1] = key.b;
}
