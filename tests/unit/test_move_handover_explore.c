/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Everything that can happen to a move, for given numbers of faults: movers, daemons, VM processes and hosts end at any step, messages are
 * lost, doubled, late and in any order, marks fail. What runs is src/move/handover.c.
 *
 *   test-move-handover-explore MOVES CRASHES TROUBLES LATE MAX_STATES [harm] [postcopy]
 *
 * makes one exploration, as deep as asked for; with "harm" it judges what comes of it and not the promises on the way, with "postcopy" memory
 * is in two places after the run.
 *
 * UTSUSU_TEST_LONG=1 explores with more faults than fit into a minute.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "handover_explore.h"

#define STATES_MAX 8000000 /* some 160 bytes each, where they are */

static bool is_long(void)
{
	const char *value = getenv("UTSUSU_TEST_LONG");

	return value && value[0];
}

static struct explored explore_and_print(const struct world_rules *rules, size_t max_states)
{
	struct explored explored;

	explore(rules, max_states, &explored);
	printf("%u moves, %u crashes, %u troubles%s%s: %zu states, %zu steps, depth %u%s\n",
	       rules->moves, rules->crashes, rules->troubles, rules->postcopy ? ", post-copy" : "",
	       rules->late ? ", from the stop on" : "", explored.states, explored.edges,
	       explored.depth, explored.complete ? ", complete" : ", NOT complete");
	fflush(stdout);
	return explored;
}

static void holds(struct world_rules rules)
{
	struct explored explored = explore_and_print(&rules, STATES_MAX);

	if (explored.broken)
		fail_msg("broken: %s", explored.broken);
	assert_true(explored.complete);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CRASHES                                                                                    \
	1 /* they look at the code that runs, not at what it concludes, and take their time */
#else
#define CRASHES 2
#endif

static void one_whole_move_holds(void **unused)
{
	(void)unused;
	holds((struct world_rules){
		.moves = 1, .crashes = is_long() ? CRASHES + 2 : CRASHES, .troubles = 1 });
}

/* The second in either direction, with all that was ever said of the first still under way. */
static void two_hand_overs_hold(void **unused)
{
	(void)unused;
	holds((struct world_rules){ .moves = 2,
				    .crashes = is_long() ? CRASHES : CRASHES - 1,
				    .troubles = 1,
				    .late = true });
}

/* Memory that is in two places after the run. */
static void post_copy_holds(void **unused)
{
	(void)unused;
	holds((struct world_rules){
		.moves = 1, .crashes = CRASHES, .troubles = 1, .late = true, .postcopy = true });
	if (is_long())
		holds((struct world_rules){
			.moves = 1, .crashes = CRASHES, .troubles = 1, .postcopy = true });
}

/* One word of those behind the numbers. */
static bool is_asked(int n_args, char **args, const char *word)
{
	for (int i = 5; i < n_args; i++)
		if (strcmp(args[i], word) == 0)
			return true;
	return false;
}

static int explore_as_asked(int n_args, char **args)
{
	struct world_rules rules = {
		.moves = (uint8_t)atoi(args[0]),
		.crashes = (uint8_t)atoi(args[1]),
		.troubles = (uint8_t)atoi(args[2]),
		.late = atoi(args[3]),
		.only_harm = is_asked(n_args, args, "harm"),
		.postcopy = is_asked(n_args, args, "postcopy"),
	};

	return explore_and_print(&rules, strtoul(args[4], NULL, 10)).broken != NULL;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_whole_move_holds),
		cmocka_unit_test(two_hand_overs_hold),
		cmocka_unit_test(post_copy_holds),
	};

	if (argc >= 6)
		return explore_as_asked(argc - 1, argv + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
