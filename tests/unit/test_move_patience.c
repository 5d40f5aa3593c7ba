/* SPDX-License-Identifier: Apache-2.0 */

/* Post-copy before the commit: how long a mover, and a guest that stands, wait for a peer that is dead, slow or means harm. */

#include "check.h"
#include "move_rig.h"

#define PATIENCE_MS 2000

/* Neither who is silent, nor who always has something to say. */
static void nobody_is_waited_for_without_an_end(void **state _unused_)
{
	static const struct {
		const char *what;
		struct move_plan plan;
		unsigned int times; /* its patience, at most */
	} cells[] = {
		{ "READY byte by byte", { .fault = WIRE_TRICKLES, .at = MOVE_READY }, 2 },
		{ "FAULTs in place of READY",
		  { .fault = WIRE_DRIBBLES, .dribble = MOVE_FAULT, .at = MOVE_READY },
		  4 },
		{ "COMMIT byte by byte", { .fault = WIRE_TRICKLES, .at = MOVE_COMMIT }, 2 },
		{ "ZEROES in place of COMMIT",
		  { .fault = WIRE_DRIBBLES, .dribble = MOVE_ZEROES, .at = MOVE_COMMIT },
		  4 },
		{ "no page for a load",
		  { .fault = WIRE_HELD, .at = MOVE_FAULT, .load_waits = true },
		  2 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		struct move_plan plan = cells[i].plan;
		struct move_rig *rig;

		plan.postcopy = true;
		plan.n_streams = 2;
		plan.peer_ms = PATIENCE_MS;
		rig = move_rig_run(&plan);
		print_message("%s: %s; %s\n", cells[i].what, rig->source.err.message,
			      rig->destination.err.message);
		assert_true(rig->faulted);
		assert_true(rig->source.numbers.total_ns <
			    cells[i].times * PATIENCE_MS * NSEC_PER_MSEC + NSEC_PER_SEC);
		move_rig_assert_one(rig, false);
		move_rig_free(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_waited_for_without_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
