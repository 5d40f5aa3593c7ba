/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Moves of simulated guests over simulated wires, judged by the real convergence_decide(): each ends, stops within what was
 * predicted, and slows the guest no more than one who knew the guest would.
 */
#include "../unit/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move/mover/convergence.h"

#define LOOKS_MAX 200
#define MIB_D 1048576.0
#define PREDICTION 2.0 /* downtime: predicted and simulated differ by at most this factor, and */
#define PREDICTION_S 0.010 /* this */

struct world {
	uint64_t random;
	double ram, working_set;   /* bytes */
	double dirty_rate;	   /* bytes per second that the guest writes to, mostly again */
	double wire;		   /* bytes per second */
	double noise;		   /* of the wire, from round to round */
	double slow_at_s, slow_to; /* the wire's rate from that time on, as a part; 0: stays */
	double burst_every_s, burst_s, burst_rate; /* more writing now and then; 0: none */
	double unthrottled; /* bytes per second that the VM's devices write */
	double trip_s, fixed_s;
};

struct outcome {
	enum convergence_choice choice;
	uint32_t looks, throttle;
	double total_s, down_s, predicted_s;
	double lost_s; /* of the guest's running, to being slowed */
	bool stalled;
	char why[CONVERGENCE_WHY_MAX];
};

static double random_part(struct world *world)
{
	world->random = world->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (double)(world->random >> 11) / 9007199254740992.0;
}

static double wire_at(struct world *world, double now_s)
{
	double rate = world->wire * (1 + world->noise * (2 * random_part(world) - 1));

	return world->slow_to > 0 && now_s >= world->slow_at_s ? rate * world->slow_to : rate;
}

/* How many distinct bytes are dirty after the guest ran from `now_s` for `s`, its writes spread evenly over the working set. */
static double dirtied(const struct world *world, double now_s, double s, uint32_t throttle)
{
	double rate = world->dirty_rate, written;

	if (world->burst_every_s > 0 && fmod(now_s, world->burst_every_s) < world->burst_s)
		rate = world->burst_rate;
	written = (rate * (100 - throttle) / 100 + world->unthrottled) * s;
	return fmin(world->working_set * (1 - exp(-written / world->working_set)), world->ram);
}

static uint64_t ns(double s)
{
	return (uint64_t)(s * 1e9);
}

/* Rounds until the decision is no longer to go on. */
static void simulate(struct world *world, const struct convergence_goal *goal,
		     struct outcome *outcome)
{
	struct convergence convergence;
	struct convergence_decision decision = { 0 };
	double left = world->ram, now = 0;

	memset(outcome, 0, sizeof(*outcome));
	convergence_init(&convergence, goal);
	do {
		double rate = wire_at(world, now), s = left / rate + world->trip_s;
		double dirty = dirtied(world, now, s, decision.throttle);
		struct convergence_look look = {
			.round = outcome->looks + 1,
			.round_ns = ns(s),
			.round_bytes = (uint64_t)left,
			.left_bytes = (uint64_t)dirty,
			.guest_ns = ns(s),
			.state_bytes = KIB(100),
			.fixed_ns = ns(world->fixed_s),
			.round_trip_ns = ns(world->trip_s),
			.throttle = decision.throttle,
		};

		now += s;
		outcome->lost_s += s * decision.throttle / 100;
		look.now_ns = ns(now);
		left = dirty;
		convergence_decide(&convergence, &look, &decision);
		outcome->stalled |= decision.stalled;
		outcome->throttle = MAX(outcome->throttle, decision.throttle);
		if (getenv("VERBOSE"))
			printf("  %2u %7.2fs left %7.1f MiB rate %6.1f MB/s down %8.1f ms throttle %2u eta %.2f  %s\n",
			       look.round, now, left / MIB_D, (double)decision.rate / 1e6,
			       (double)decision.down_ns / 1e6, decision.throttle,
			       (double)decision.eta_ns / 1e9, decision.why);
	} while (++outcome->looks < LOOKS_MAX &&
		 (decision.choice == CONVERGENCE_GO_ON || decision.choice == CONVERGENCE_THROTTLE));
	outcome->choice = decision.choice;
	outcome->total_s = now;
	outcome->predicted_s = (double)decision.down_ns / 1e9;
	outcome->down_s = world->fixed_s + 2 * world->trip_s +
			  (left + KIB(100)) / wire_at(world, now);
	snprintf(outcome->why, sizeof(outcome->why), "%s", decision.why);
}

/* The least constant throttle, from the first look on, with which few enough pages are left within `within_s`. */
static uint32_t least_throttle(struct world *world, double goal_bytes, double within_s)
{
	for (uint32_t throttle = 0; throttle < CONVERGENCE_THROTTLE_MAX; throttle++) {
		double now = world->ram / world->wire, end = now + within_s;
		double left = dirtied(world, 0, now, 0);

		for (int i = 0; i < 100 && left > goal_bytes && now < end; i++) {
			double s = left / world->wire + world->trip_s;

			left = dirtied(world, now, s, throttle);
			now += s;
		}
		if (left <= goal_bytes && now <= end)
			return throttle;
	}
	return CONVERGENCE_THROTTLE_MAX;
}

static struct world make_world(uint64_t seed, double load)
{
	struct world world = {
		.random = seed * 0x9e3779b97f4a7c15ULL + 1,
		.wire = 110e6,
		.noise = 0.08,
		.trip_s = 0.0005,
		.fixed_s = 0.02,
	};

	world.ram = (256 + 1792 * random_part(&world)) * MIB_D;
	world.working_set = world.ram * (0.1 + 0.9 * random_part(&world));
	world.dirty_rate = world.wire * load;
	return world;
}

static void check_prediction(const struct outcome *outcome)
{
	assert_true(outcome->down_s <= outcome->predicted_s * PREDICTION + PREDICTION_S);
	assert_true(outcome->predicted_s <= outcome->down_s * PREDICTION + PREDICTION_S);
}

#define SEEDS 40

static void run_load(uint64_t seed, double load)
{
	struct world world = make_world(seed, load);
	const struct convergence_goal goal = { .downtime_ns = 100 * NSEC_PER_MSEC };
	double first = world.ram / world.wire;
	struct outcome outcome;
	uint32_t least;

	printf("seed %llu load %.2f: %.0f MiB of RAM, a working set of %.0f MiB\n",
	       (unsigned long long)seed, load, world.ram / MIB_D, world.working_set / MIB_D);
	simulate(&world, &goal, &outcome);
	least = least_throttle(&world, world.wire * 0.08, first * 1.5 + 2);
	printf("  %u looks, %.2f s (first %.2f), throttle %u (least %u), down %.0f ms (predicted %.0f): %s\n",
	       outcome.looks, outcome.total_s, first, outcome.throttle, least, outcome.down_s * 1e3,
	       outcome.predicted_s * 1e3, outcome.why);
	assert_int_equal(outcome.choice, CONVERGENCE_STOP);
	check_prediction(&outcome);
	assert_true(outcome.down_s <= 0.125);
	assert_true(outcome.total_s <= first * 5 + 6);
	assert_true(outcome.throttle <= least + (100 - least) * 3 / 4);
	/* Where one who knew the guest would not slow it at all, nor do we by more than the wire's noise makes it look. */
	if (load <= 0.5)
		assert_int_equal(outcome.throttle, 0);
}

static void loads(void **state _unused_)
{
	static const double parts[] = { 0, 0.1, 0.25, 0.5, 0.75, 1, 2, 4 };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (uint64_t seed = 1; seed <= SEEDS; seed++)
			run_load(seed, parts[i]);
}

/* What fits into the goal needs no throttle, however often it is written. */
static void a_small_working_set_is_not_slowed(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct world world = make_world(seed, 8);
		struct outcome outcome;

		world.working_set = 6 * MIB_D;
		simulate(&world, &(struct convergence_goal){ 0 }, &outcome);
		assert_int_equal(outcome.choice, CONVERGENCE_STOP);
		assert_int_equal(outcome.throttle, 0);
		assert_true(outcome.looks <= 5);
		check_prediction(&outcome);
	}
}

static void bursts_end(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct world world = make_world(seed, 0.1);
		struct outcome outcome;

		world.burst_every_s = 1 + 6 * random_part(&world);
		world.burst_s = world.burst_every_s * 0.3;
		world.burst_rate = world.wire * 3;
		simulate(&world, &(struct convergence_goal){ 0 }, &outcome);
		assert_int_equal(outcome.choice, CONVERGENCE_STOP);
		assert_true(outcome.down_s <= 0.125);
		assert_true(outcome.total_s <= world.ram / world.wire * 4 + 8);
		check_prediction(&outcome);
	}
}

static void a_wire_that_slows_down_is_followed(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct world world = make_world(seed, 0.4);
		double first = world.ram / world.wire;
		struct outcome outcome;

		world.slow_at_s = first * (0.5 + random_part(&world));
		world.slow_to = 0.3;
		simulate(&world, &(struct convergence_goal){ 0 }, &outcome);
		assert_int_equal(outcome.choice, CONVERGENCE_STOP);
		assert_true(outcome.total_s <= first * 20);
		check_prediction(&outcome);
	}
}

/* Devices write on however much the vCPUs are slowed. */
static struct world make_hopeless(uint64_t seed, double part)
{
	struct world world = make_world(seed, 1);

	world.ram = 1024 * MIB_D;
	world.working_set = 800 * MIB_D;
	world.unthrottled = world.wire * part;
	return world;
}

static void what_cannot_be_slowed_ends_by_name(void **state _unused_)
{
	struct world world = make_hopeless(1, 3);
	struct outcome outcome;

	simulate(&world, &(struct convergence_goal){ 0 }, &outcome);
	assert_int_equal(outcome.choice, CONVERGENCE_GIVE_UP);
	assert_int_equal(outcome.throttle, CONVERGENCE_THROTTLE_MAX);
	assert_true(outcome.stalled);
	assert_non_null(strstr(outcome.why, "--downtime"));
}

/* ... and with the downtime that it names it is done. */
static void the_downtime_that_it_names_is_enough(void **state _unused_)
{
	struct world world = make_hopeless(1, 3);
	struct convergence_goal goal = { 0 };
	struct outcome outcome;
	const char *named;
	char *unit;

	simulate(&world, &goal, &outcome);
	named = strstr(outcome.why, "--downtime ");
	assert_non_null(named);
	/* In the option's own words: a number alone is seconds there, of which it takes 60. */
	goal.downtime_ns = strtoull(named + strlen("--downtime "), &unit, 10) * NSEC_PER_SEC;
	assert_memory_equal(unit, "s,", 2);
	simulate(&world, &goal, &outcome);
	assert_int_equal(outcome.choice, CONVERGENCE_STOP);
}

static void post_copy_only_where_allowed_and_needed(void **state _unused_)
{
	const struct convergence_goal goal = { .allow_postcopy = true };
	struct world fast = make_world(3, 3), slow = make_world(3, 0.2);
	struct outcome outcome;

	simulate(&fast, &goal, &outcome);
	assert_int_equal(outcome.choice, CONVERGENCE_POSTCOPY);
	assert_int_equal(outcome.throttle, 0);
	simulate(&slow, &goal, &outcome);
	assert_int_equal(outcome.choice, CONVERGENCE_STOP);
}

static void a_goal_below_what_a_stop_costs_ends_as_near_as_it_can(void **state _unused_)
{
	struct world world = make_world(5, 0.3);
	struct outcome outcome;

	world.fixed_s = 0.4;
	simulate(&world, &(struct convergence_goal){ 0 }, &outcome);
	assert_int_equal(outcome.choice, CONVERGENCE_STOP);
	assert_true(outcome.down_s < 0.45);
	assert_non_null(strstr(outcome.why, "saving and loading alone"));
}

/* Whatever is measured, something is decided, and within a bounded number of looks a move ends. */
static void any_numbers_are_taken(void **state _unused_)
{
	struct world world = make_world(9, 1);

	for (int run = 0; run < 2000; run++) {
		struct convergence convergence;
		struct convergence_decision decision = { 0 };
		int looks = 0;

		convergence_init(&convergence, &(struct convergence_goal){
						       .downtime_ns = ns(random_part(&world)) });
		do {
			uint64_t numbers[8];
			struct convergence_look look;

			for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
				numbers[i] = (uint64_t)(random_part(&world) * 4294967296.0)
					     << (unsigned int)(random_part(&world) * 33);
			look = (struct convergence_look){
				.now_ns = numbers[0],
				.round_ns = numbers[1],
				.round_bytes = numbers[2],
				.left_bytes = numbers[3],
				.guest_ns = numbers[4],
				.state_bytes = numbers[5],
				.fixed_ns = numbers[6],
				.round_trip_ns = numbers[7],
				.throttle = decision.throttle,
			};
			convergence_decide(&convergence, &look, &decision);
			assert_true(decision.throttle <= CONVERGENCE_THROTTLE_MAX);
			assert_true(decision.why[0] != '\0');
			assert_true(++looks < 2000);
		} while (decision.choice == CONVERGENCE_GO_ON ||
			 decision.choice == CONVERGENCE_THROTTLE);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads),
		cmocka_unit_test(a_small_working_set_is_not_slowed),
		cmocka_unit_test(bursts_end),
		cmocka_unit_test(a_wire_that_slows_down_is_followed),
		cmocka_unit_test(what_cannot_be_slowed_ends_by_name),
		cmocka_unit_test(the_downtime_that_it_names_is_enough),
		cmocka_unit_test(post_copy_only_where_allowed_and_needed),
		cmocka_unit_test(a_goal_below_what_a_stop_costs_ends_as_near_as_it_can),
		cmocka_unit_test(any_numbers_are_taken),
	};

	if (argc > 1) {
		run_load(strtoull(argv[1], NULL, 0), argc > 2 ? atof(argv[2]) : 1);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
