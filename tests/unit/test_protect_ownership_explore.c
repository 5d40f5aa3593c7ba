/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Everything that can happen to a protected VM, for given numbers of outputs, epochs, copies, swaps and crashes: each order of events that
 * ownership_world.c can make, with what runs being src/protect/ownership.c.
 *
 *   test-protect-ownership-explore HOSTS OUTPUTS EPOCHS SESSIONS REVISIONS CRASHES TROUBLES OFF
 *
 * makes one exploration and prints the way to the first promise that is broken.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ownership_world.h"

#define DEPTH_MAX 20000

struct seen {
	uint64_t (*keys)[2];
	size_t room, n;
};

struct level {
	struct world world;
	struct world_move moves[WORLD_MOVES];
	size_t n, next;
};

struct exploration {
	struct seen seen;
	struct level *levels;
	size_t steps;
	unsigned int depth;
};

static void seen_add(struct seen *seen, const uint64_t key[2], bool *ret_new);

static void seen_grow(struct seen *seen)
{
	struct seen bigger = { .room = seen->room ? 2 * seen->room : 1 << 16 };
	bool is_new;

	bigger.keys = calloc(bigger.room, sizeof(*bigger.keys));
	assert_non_null(bigger.keys);
	for (size_t i = 0; i < seen->room; i++)
		if (seen->keys[i][0] | seen->keys[i][1])
			seen_add(&bigger, seen->keys[i], &is_new);
	free(seen->keys);
	*seen = bigger;
}

static void seen_add(struct seen *seen, const uint64_t key[2], bool *ret_new)
{
	if (2 * seen->n >= seen->room)
		seen_grow(seen);
	for (size_t i = key[0] & (seen->room - 1);; i = (i + 1) & (seen->room - 1)) {
		if (memcmp(seen->keys[i], key, sizeof(seen->keys[i])) == 0) {
			*ret_new = false;
			return;
		}
		if (seen->keys[i][0] | seen->keys[i][1])
			continue;
		memcpy(seen->keys[i], key, sizeof(seen->keys[i]));
		seen->n++;
		*ret_new = true;
		return;
	}
}

static bool enter(struct exploration *exploration, unsigned int depth)
{
	struct level *level = &exploration->levels[depth];
	uint64_t key[2];
	bool is_new;

	world_key(&level->world, key);
	seen_add(&exploration->seen, key, &is_new);
	if (!is_new)
		return false;
	level->n = world_moves(&level->world, level->moves);
	level->next = 0;
	if (depth > exploration->depth)
		exploration->depth = depth;
	return true;
}

static void print_way(const struct exploration *exploration, unsigned int depth)
{
	for (unsigned int i = 0; i < depth; i++) {
		const struct level *level = &exploration->levels[i];
		const struct world_move *move = &level->moves[level->next - 1];

		printf("  %u %s %u\n", move->host, world_move_name(move->kind), move->argument);
	}
	printf("broken: %s\n", exploration->levels[depth].world.broken);
}

/* What was broken, or NULL. */
static const char *search(struct exploration *exploration)
{
	unsigned int depth = 0;

	enter(exploration, 0);
	for (;;) {
		struct level *level = &exploration->levels[depth];

		if (level->next == level->n) {
			if (depth-- == 0)
				return NULL;
			continue;
		}
		assert_true(depth + 1 < DEPTH_MAX);
		level[1].world = level->world;
		world_do(&level[1].world, &level->moves[level->next++]);
		exploration->steps++;
		if (level[1].world.broken) {
			print_way(exploration, depth + 1);
			return level[1].world.broken;
		}
		if (enter(exploration, depth + 1))
			depth++;
	}
}

static const char *explore(const struct world_limits *limits)
{
	struct exploration exploration = { 0 };
	const char *broken;

	exploration.levels = calloc(DEPTH_MAX, sizeof(*exploration.levels));
	assert_non_null(exploration.levels);
	world_init(limits, &exploration.levels[0].world);
	broken = search(&exploration);
	printf("%u hosts, %u outputs, %u epochs, %u copies, %u revisions, %u crashes, %u troubles%s: %zu "
	       "states, %zu steps, depth %u\n",
	       limits->hosts, limits->outputs, limits->epochs, limits->sessions, limits->revisions,
	       limits->crashes, limits->troubles, limits->switches_off ? ", switches off" : "",
	       exploration.seen.n, exploration.steps, exploration.depth);
	fflush(stdout);
	free(exploration.seen.keys);
	free(exploration.levels);
	return broken;
}

static int explore_as_asked(char **args)
{
	struct world_limits limits = {
		.hosts = (uint8_t)atoi(args[0]),
		.outputs = (uint8_t)atoi(args[1]),
		.epochs = (uint8_t)atoi(args[2]),
		.sessions = (uint8_t)atoi(args[3]),
		.revisions = (uint8_t)atoi(args[4]),
		.crashes = (uint8_t)atoi(args[5]),
		.troubles = (uint8_t)atoi(args[6]),
		.switches_off = atoi(args[7]),
	};

	return explore(&limits) != NULL;
}

static void holds(struct world_limits limits)
{
	const char *broken = explore(&limits);

	if (broken)
		fail_msg("broken: %s", broken);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SWAPS 3 /* they look at the code that runs, not at what it concludes, and take their time */
#else
#define SWAPS 4
#endif

static bool is_long(void)
{
	const char *value = getenv("UTSUSU_TEST_LONG");

	return value && value[0];
}

static void one_failover_holds(void **unused)
{
	(void)unused;
	holds((struct world_limits){ .hosts = 2,
				     .outputs = 2,
				     .epochs = 2,
				     .sessions = 1,
				     .revisions = is_long() ? SWAPS + 2 : SWAPS,
				     .crashes = 1,
				     .troubles = is_long() ? 2 : 1 });
}

static void switching_off_holds(void **unused)
{
	(void)unused;
	holds((struct world_limits){ .hosts = 2,
				     .outputs = 1,
				     .epochs = 2,
				     .sessions = 1,
				     .revisions = is_long() ? SWAPS + 1 : SWAPS,
				     .crashes = 1,
				     .troubles = is_long() ? 2 : 1,
				     .switches_off = true });
}

/* A second copy, on the same host as the first or on the third, while all of the first may still come. */
static void protection_again_holds(void **unused)
{
	(void)unused;
	holds((struct world_limits){ .hosts = 3,
				     .outputs = 1,
				     .epochs = 2,
				     .sessions = 2,
				     .revisions = is_long() ? SWAPS + 1 : SWAPS,
				     .crashes = is_long() ? 1 : 0,
				     .troubles = 0 });
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_failover_holds),
		cmocka_unit_test(switching_off_holds),
		cmocka_unit_test(protection_again_holds),
	};

	if (argc == 9)
		return explore_as_asked(argv + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
