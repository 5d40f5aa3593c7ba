/* SPDX-License-Identifier: Apache-2.0 */

/*
 * test-move-programs UTSUSU-MOVE: two VMs, each in a process of its own, moved by two real movers in their sandboxes, which are
 * killed or frozen at each place of base/failpoint.h. Afterwards this program does what daemons do, and exactly one guest runs. The
 * KVM is the fake; all else is as on two hosts.
 */

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "check.h"
#include "mover_hosts.h"

static const char *program_of(void **state)
{
	return *state;
}

static void both_end_well(void **state)
{
	const struct hosts_plan plan = { 0 };
	struct hosts hosts;

	hosts_open(&hosts, program_of(state), &plan);
	hosts_start(&hosts);
	hosts_finish(&hosts);
	assert_int_equal(hosts.movers[HERE].status, 0);
	hosts_settle(&hosts);
	assert_false(hosts.was_given);
	hosts_assert_one(&hosts, true, "a move");
	hosts_close(&hosts);
}

static void befall(const char *program, enum failpoint_name at, const char *what,
		   bool at_destination)
{
	char fails[FAILPOINT_TEXT_MAX];
	struct hosts_plan plan = { 0 };
	struct hosts hosts;

	snprintf(fails, sizeof(fails), "%s:%s", failpoint_text(at), what);
	plan.fails[at < FAILPOINT_DESTINATION_START ? HERE : THERE] = fails;
	hosts_open(&hosts, program, &plan);
	hosts_start(&hosts);
	hosts_finish(&hosts);
	hosts_settle(&hosts);
	hosts_assert_one(&hosts, at_destination, fails);
	hosts_close(&hosts);
}

/* Where the guest is when a mover died there: with the commit on its way it goes. */
static void a_killed_mover_leaves_one(void **state)
{
	for (int i = 0; i <= FAILPOINT_DESTINATION_ANSWERED; i++)
		befall(program_of(state), (enum failpoint_name)i, "kill",
		       (i >= FAILPOINT_SOURCE_COMMIT && i < FAILPOINT_DESTINATION_START) ||
			       i >= FAILPOINT_DESTINATION_RAN);
}

/* A mover that stood still for less than the other's patience disturbs nothing. */
static void a_frozen_mover_goes_on(void **state)
{
	static const enum failpoint_name places[] = {
		FAILPOINT_SOURCE_ROUND,	      FAILPOINT_SOURCE_GIVEN,
		FAILPOINT_SOURCE_COMMIT,      FAILPOINT_DESTINATION_READY,
		FAILPOINT_DESTINATION_COMMIT, FAILPOINT_DESTINATION_RAN,
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		befall(program_of(state), places[i], "stop", true);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return EXIT_STATUS_USAGE;

	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(both_end_well, argv[1]),
		cmocka_unit_test_prestate(a_killed_mover_leaves_one, argv[1]),
		cmocka_unit_test_prestate(a_frozen_mover_goes_on, argv[1]),
	};

	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
