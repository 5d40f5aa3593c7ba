/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Long lives of a protected VM on three hosts, by seeds: copies, protection, failovers and protection again, while processes end, messages are late
 * and answers of the arbiter get lost. At every step nothing that was put out may be missing in what may go on. Then faults end,
 * and what can go on must do so, with all output released.
 *
 *   sim-ownership [SEED [COUNT]]       prints each step of one seed
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ownership_world.h"

#define SEEDS 10000
#define LONG_SEEDS 1000000
#define STORMY 400 /* moves with faults */
#define CALM 3000  /* and without: far more than any recovery takes */
#define SPARE 6	   /* epochs and revisions that are left for the calm */

struct run {
	struct world world;
	uint64_t random;
	bool print;
};

struct counts {
	uint64_t failovers, twice, lost, well, swaps;
};

static uint64_t next_random(struct run *run)
{
	run->random ^= run->random << 13;
	run->random ^= run->random >> 7;
	run->random ^= run->random << 17;
	return run->random;
}

static bool lives(const struct world *world, const struct ownership_id *id)
{
	return world_find(world, id) != NULL;
}

/* Faults are rarer than what an undisturbed VM does. */
static unsigned int weight(const struct run *run, const struct world_move *move)
{
	const struct world *world = &run->world;
	const struct ownership *ownership = &world->hosts[move->host].ownership;
	const struct ownership_record *record = &world->history[world->revision];

	switch (move->kind) {
	case MOVE_CRASH: /* of the only copy: nothing is to be learnt from that */
		return ownership_id_equal(&record->owner, &ownership->me) &&
				       record->mode == OWNERSHIP_SOLO
			       ? 0
			       : 3;
	case MOVE_SUSPECTS:
	case MOVE_CLAIMANT_LOST:
	case MOVE_GIVES_UP:
	case MOVE_ANSWER_LOST:
	case MOVE_APPLY_FAILED:
		return 2;
	case MOVE_READS:
		return 4;
	case MOVE_CUT:
		return ownership->cut + SPARE < world->limits.epochs ? 15 : 0;
	case MOVE_PUTS_OUT:
		return 5;
	default:
		return 30;
	}
}

static bool is_under_way(const struct world *world, const struct ownership *ownership)
{
	const struct world_session *session = &world->sessions[ownership->session.bytes[1]];

	return session->sent[ownership->cut] && ownership->acked < ownership->cut;
}

/* What happens while nothing is wrong: each suspicion is right. */
static unsigned int calm_weight(const struct run *run, const struct world_move *move)
{
	const struct world *world = &run->world;
	const struct world_host *host = &world->hosts[move->host];
	const struct ownership *ownership = &host->ownership;
	const struct ownership_record *record = &ownership->record;

	switch (move->kind) {
	case MOVE_SUSPECTS:
		return !lives(world, &record->owner);
	case MOVE_CLAIMANT_LOST:
		return !lives(world, &record->owner);
	case MOVE_GIVES_UP:
		return ownership->role == OWNERSHIP_BACKS_UP || !lives(world, &ownership->session);
	case MOVE_READS:
		return move->argument > record->revision;
	case MOVE_CUT:
		return ownership->gated && lives(world, &ownership->session) &&
		       (host->held || ownership->cut < ownership->gate_epoch ||
			(ownership->off && ownership->cut < ownership->off_epoch)) &&
		       !is_under_way(world, ownership);
	case MOVE_ACK:
		return ownership_id_equal(&ownership->session,
					  &(struct ownership_id){ { 's', move->argument } }) &&
		       world->sessions[move->argument].acked > ownership->acked;
	case MOVE_TICK:
	case MOVE_LANDS:
	case MOVE_ANSWER:
	case MOVE_RECEIVES:
	case MOVE_PREPARED:
	case MOVE_APPLIED:
		return 1;
	default:
		return 0;
	}
}

/* One move, by chance; false when there is none. */
static bool one_move(struct run *run,
		     unsigned int (*weigh)(const struct run *, const struct world_move *))
{
	struct world_move moves[WORLD_MOVES];
	size_t n = world_moves(&run->world, moves);
	uint64_t sum = 0, chosen;

	for (size_t i = 0; i < n; i++)
		sum += weigh(run, &moves[i]);
	if (!sum)
		return false;
	chosen = next_random(run) % sum;
	for (size_t i = 0; i < n; i++) {
		unsigned int one = weigh(run, &moves[i]);

		if (chosen < one) {
			if (run->print)
				printf("%u %s %u\n", moves[i].host, world_move_name(moves[i].kind),
				       moves[i].argument);
			world_do(&run->world, &moves[i]);
			return true;
		}
		chosen -= one;
	}
	return false;
}

static bool can_go_on(const struct world *world)
{
	const struct ownership_record *record = &world->history[world->revision];

	return record->mode == OWNERSHIP_STOPPED || lives(world, &record->owner) ||
	       (record->mode == OWNERSHIP_PROTECTED && lives(world, &record->backup)) ||
	       (record->mode == OWNERSHIP_CLAIMED && lives(world, &record->from));
}

static void count(struct counts *counts, const struct world *world, bool goes_on)
{
	uint64_t failovers = 0;

	for (unsigned int i = 2; i <= world->revision; i++)
		failovers += world->history[i].mode == OWNERSHIP_SOLO &&
			     world->history[i - 1].mode == OWNERSHIP_CLAIMED &&
			     ownership_id_equal(&world->history[i].owner,
						&world->history[i - 1].owner);
	counts->failovers += failovers;
	counts->twice += failovers > 1;
	counts->swaps += world->revision;
	counts->lost += !goes_on;
	counts->well += goes_on;
}

static const char *live(struct run *run, uint64_t seed, struct counts *counts)
{
	static const struct world_limits limits = {
		.hosts = WORLD_HOSTS,
		.outputs = WORLD_OUTPUTS,
		.epochs = WORLD_EPOCHS,
		.sessions = WORLD_SESSIONS,
		.revisions = WORLD_REVISIONS,
		.crashes = 2,
		.troubles = 12,
	};
	bool goes_on;

	run->random = seed * 0x9e3779b97f4a7c15ULL + 1;
	world_init(&limits, &run->world);
	run->world.limits.switches_off = next_random(run) % 4 == 0;
	for (int i = 0; i < STORMY && !run->world.broken; i++)
		if (run->world.revision + SPARE >= limits.revisions || !one_move(run, weight))
			break;
	for (int i = 0; i < CALM && !run->world.broken; i++)
		if (!one_move(run, calm_weight))
			break;
	if (run->world.broken)
		return run->world.broken;
	goes_on = can_go_on(&run->world);
	count(counts, &run->world, goes_on);
	return goes_on && !world_is_well(&run->world) ? "what can go on does so" : NULL;
}

static void long_lives(void **unused)
{
	const char *is_long = getenv("UTSUSU_TEST_LONG");
	struct run run = { 0 };
	struct counts counts = { 0 };

	(void)unused;
	for (uint64_t seed = 1; seed <= (is_long && is_long[0] ? LONG_SEEDS : SEEDS); seed++) {
		const char *broken = live(&run, seed, &counts);

		if (broken)
			fail_msg("seed %llu: broken: %s; sim-ownership %llu shows it",
				 (unsigned long long)seed, broken, (unsigned long long)seed);
	}
	printf("%llu swaps, %llu failovers (%llu lives with more than one), %llu went on, %llu whose copies all died\n",
	       (unsigned long long)counts.swaps, (unsigned long long)counts.failovers,
	       (unsigned long long)counts.twice, (unsigned long long)counts.well,
	       (unsigned long long)counts.lost);
	/* A storm in which nothing happens proves nothing. */
	assert_true(counts.failovers > SEEDS / 10 && counts.twice > SEEDS / 100);
	assert_true(counts.well > SEEDS / 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_lives),
	};
	struct run run = { .print = true };
	struct counts counts = { 0 };

	if (argc != 2)
		return cmocka_run_group_tests(tests, NULL, NULL);
	{
		const char *broken = live(&run, strtoull(argv[1], NULL, 10), &counts);

		printf("%s\n", broken ? broken : "well");
		return broken != NULL;
	}
}
