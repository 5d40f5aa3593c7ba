/* SPDX-License-Identifier: Apache-2.0 */

/* Single lives of a protected VM, step by step; every other order is test_protect_ownership_explore.c's. */

#include <string.h>

#include "check.h"
#include "protect/ownership.h"

static const struct ownership_id nobody, me = { { 'i', 1 } }, other = { { 'i', 2 } },
					 session = { { 's', 1 } }, older = { { 's', 2 } };

static uint32_t step(struct ownership *ownership, enum ownership_event_kind kind)
{
	return ownership_step(ownership, &(struct ownership_event){ .kind = kind });
}

static uint32_t step_epoch(struct ownership *ownership, enum ownership_event_kind kind,
			   uint64_t epoch)
{
	return ownership_step(ownership, &(struct ownership_event){ .kind = kind,
								    .epoch = epoch,
								    .session = session });
}

static uint32_t hears(struct ownership *ownership, enum ownership_event_kind kind,
		      struct ownership_record record)
{
	return ownership_step(ownership,
			      &(struct ownership_event){ .kind = kind, .record = record });
}

/* What it asked for stands there now. */
static uint32_t wins(struct ownership *ownership)
{
	struct ownership_record record = ownership->want;

	record.revision++;
	return hears(ownership, WHEN_WON, record);
}

static struct ownership solo(void)
{
	struct ownership ownership;

	assert_int_equal(ownership_start(&me, &(struct ownership_record){ 0 }, &nobody, &ownership),
			 THEN_SWAP);
	assert_int_equal(ownership.want.generation, 1);
	assert_int_equal(wins(&ownership), THEN_RUN | THEN_OPEN);
	assert_true(ownership_is_open(&ownership));
	return ownership;
}

static struct ownership protected(void)
{
	struct ownership ownership = solo();

	assert_int_equal(step_epoch(&ownership, WHEN_SYNC, 0), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 1), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 1), 0);
	assert_int_equal(step(&ownership, WHEN_GATE), THEN_GATE);
	assert_false(ownership_is_open(&ownership));
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 2), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 2), THEN_RELEASE | THEN_SWAP);
	assert_int_equal(ownership.want.mode, OWNERSHIP_PROTECTED);
	assert_int_equal(wins(&ownership), 0);
	assert_int_equal(ownership.role, OWNERSHIP_IS_PROTECTED);
	return ownership;
}

static struct ownership backup(void)
{
	struct ownership ownership;
	struct ownership_record record = {
		.revision = 1, .generation = 1, .mode = OWNERSHIP_SOLO, .owner = other
	};

	ownership_back_up(&me, &session, &record, &ownership);
	assert_int_equal(step_epoch(&ownership, WHEN_WHOLE, 1), THEN_ACK);
	record.revision = record.generation = 2;
	record.mode = OWNERSHIP_PROTECTED;
	record.backup = session;
	assert_int_equal(hears(&ownership, WHEN_READ, record), 0);
	assert_true(ownership.named);
	return ownership;
}

static void what_is_protected_is_released_when_acknowledged(void **unused)
{
	struct ownership ownership = protected();

	(void)unused;
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 3), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 4), 0); /* was never cut */
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 3), THEN_RELEASE);
	assert_int_equal(ownership.acked, 3);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 3), 0); /* said twice */
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 4), 0);
	assert_int_equal(ownership_step(&ownership, &(struct ownership_event){ .kind = WHEN_ACKED,
									       .epoch = 4,
									       .session = older }),
			 0);
}

/* Those have numbers, of which the function does not hear. What is held between the gate and the first cut is in none of them. */
static void what_filled_a_copy_acknowledges_nothing(void **unused)
{
	struct ownership ownership = solo();

	(void)unused;
	assert_int_equal(step_epoch(&ownership, WHEN_SYNC, 0), 0);
	assert_int_equal(step(&ownership, WHEN_GATE), THEN_GATE);
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 7), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 1), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 6), 0);
	assert_int_equal(ownership.acked, 0);
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 8), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 6), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 7), THEN_RELEASE | THEN_SWAP);
	assert_int_equal(ownership.want.mode, OWNERSHIP_PROTECTED);
}

static void a_lost_backup_leaves_the_gate_shut_until_the_swap_is_won(void **unused)
{
	struct ownership ownership = protected();

	(void)unused;
	assert_int_equal(step(&ownership, WHEN_GIVEN_UP), THEN_SWAP);
	assert_int_equal(ownership.want.mode, OWNERSHIP_SOLO);
	assert_int_equal(step(&ownership, WHEN_UNKNOWN), 0);
	assert_int_equal(hears(&ownership, WHEN_READ, ownership.record), 0);
	assert_false(ownership_is_open(&ownership));
	assert_int_equal(step(&ownership, WHEN_TICK), THEN_SWAP);
	assert_int_equal(wins(&ownership), THEN_OPEN);
	assert_true(ownership_is_open(&ownership));
}

static void a_copy_that_is_left_before_the_gate_needs_no_swap(void **unused)
{
	struct ownership ownership = solo();

	(void)unused;
	assert_int_equal(step_epoch(&ownership, WHEN_SYNC, 0), 0);
	assert_int_equal(step(&ownership, WHEN_GIVEN_UP), 0);
	assert_true(ownership_is_open(&ownership));
	assert_memory_equal(&ownership.session, &nobody, sizeof(nobody));
}

static void a_backup_takes_over_by_two_swaps(void **unused)
{
	struct ownership ownership = backup();

	(void)unused;
	assert_int_equal(step(&ownership, WHEN_SUSPECTED), THEN_PREPARE);
	assert_int_equal(step(&ownership, WHEN_PREPARED), THEN_SWAP);
	assert_int_equal(ownership.want.mode, OWNERSHIP_CLAIMED);
	assert_memory_equal(&ownership.want.from, &other, sizeof(other));
	assert_int_equal(step_epoch(&ownership, WHEN_WHOLE, 2), 0); /* acknowledges no more */
	assert_int_equal(wins(&ownership), THEN_APPLY);
	assert_int_equal(step(&ownership, WHEN_RUNS_HELD), THEN_SWAP);
	assert_int_equal(wins(&ownership), THEN_REPLAY | THEN_OPEN | THEN_ANNOUNCE);
	assert_true(ownership_is_open(&ownership));
	assert_int_equal(ownership.cut, 1); /* epochs go on behind the one that it runs from */
}

static void a_copy_that_is_not_named_takes_nothing(void **unused)
{
	struct ownership ownership;

	(void)unused;
	ownership_back_up(&me, &session, &(struct ownership_record){ .revision = 1 }, &ownership);
	assert_int_equal(step_epoch(&ownership, WHEN_WHOLE, 1), THEN_ACK);
	assert_int_equal(step(&ownership, WHEN_SUSPECTED), 0);
	assert_int_equal(step(&ownership, WHEN_PREPARED), 0);
	assert_int_equal(step(&ownership, WHEN_GIVEN_UP), THEN_DISCARD | THEN_END);
}

static struct ownership_record claim_of(const struct ownership *ownership)
{
	return (struct ownership_record){ .revision = ownership->record.revision + 1,
					  .generation = ownership->record.generation + 1,
					  .mode = OWNERSHIP_CLAIMED,
					  .owner = other,
					  .from = ownership->me };
}

static void a_deposed_owner_keeps_its_copy_and_may_win_it_back(void **unused)
{
	struct ownership ownership = protected();

	(void)unused;
	assert_int_equal(hears(&ownership, WHEN_READ, claim_of(&ownership)), 0);
	assert_int_equal(ownership.role, OWNERSHIP_IS_DEPOSED);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 2), 0);
	assert_int_equal(step(&ownership, WHEN_CLAIMANT_LOST), THEN_SWAP);
	assert_int_equal(wins(&ownership), THEN_OPEN);
	assert_true(ownership_is_open(&ownership));
}

static void a_confirmed_claim_ends_the_deposed_owner(void **unused)
{
	struct ownership ownership = protected();
	struct ownership_record record = claim_of(&ownership);

	(void)unused;
	assert_int_equal(hears(&ownership, WHEN_READ, record), 0);
	record.revision++;
	record.generation++;
	record.mode = OWNERSHIP_SOLO;
	assert_int_equal(hears(&ownership, WHEN_READ, record), THEN_STOP_VM | THEN_END);
	assert_int_equal(step(&ownership, WHEN_TICK), 0);
}

static void a_claimant_that_is_too_late_stops(void **unused)
{
	struct ownership ownership = backup();
	struct ownership_record record;

	(void)unused;
	assert_int_equal(step(&ownership, WHEN_SUSPECTED), THEN_PREPARE);
	assert_int_equal(step(&ownership, WHEN_PREPARED), THEN_SWAP);
	assert_int_equal(wins(&ownership), THEN_APPLY);
	assert_int_equal(step(&ownership, WHEN_RUNS_HELD), THEN_SWAP);
	record = ownership.want;
	record.revision++;
	record.owner = other;
	assert_int_equal(hears(&ownership, WHEN_LOST, record), THEN_STOP_VM | THEN_END);
}

static void a_guest_that_switches_itself_off_is_held_until_the_backup_knows(void **unused)
{
	struct ownership ownership = protected();

	(void)unused;
	assert_int_equal(step_epoch(&ownership, WHEN_OFF, 3), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_CUT, 3), 0);
	assert_int_equal(step_epoch(&ownership, WHEN_ACKED, 3), THEN_RELEASE | THEN_SWAP);
	assert_int_equal(ownership.want.mode, OWNERSHIP_STOPPED);
	assert_int_equal(wins(&ownership), THEN_STOP_VM | THEN_END);
}

/* It is said once, and the guest that runs with its output held does not wait for the second swap. */
static void a_guest_that_switches_itself_off_before_the_second_swap_is_stopped_after_it(
	void **unused)
{
	struct ownership claimant = backup(), deposed = protected();
	struct ownership_record claimed = { .revision = 3,
					    .generation = 3,
					    .mode = OWNERSHIP_CLAIMED,
					    .owner = other,
					    .from = me };

	(void)unused;
	assert_int_equal(step(&claimant, WHEN_PREPARED), THEN_SWAP);
	assert_int_equal(wins(&claimant), THEN_APPLY);
	assert_int_equal(step(&claimant, WHEN_RUNS_HELD), THEN_SWAP);
	assert_int_equal(step_epoch(&claimant, WHEN_OFF, 2), 0);
	assert_int_equal(wins(&claimant), THEN_REPLAY | THEN_OPEN | THEN_ANNOUNCE | THEN_SWAP);
	assert_int_equal(claimant.want.mode, OWNERSHIP_STOPPED);

	assert_int_equal(hears(&deposed, WHEN_READ, claimed), 0);
	assert_int_equal(deposed.role, OWNERSHIP_IS_DEPOSED);
	assert_int_equal(step_epoch(&deposed, WHEN_OFF, 3), 0);
	assert_int_equal(step(&deposed, WHEN_CLAIMANT_LOST), THEN_SWAP);
	assert_int_equal(wins(&deposed), THEN_OPEN | THEN_SWAP);
	assert_int_equal(deposed.want.mode, OWNERSHIP_STOPPED);
}

static void a_start_needs_a_record_that_lets_it(void **unused)
{
	struct ownership ownership;
	struct ownership_record record = { .revision = 7,
					   .generation = 7,
					   .mode = OWNERSHIP_PROTECTED,
					   .owner = other,
					   .backup = session };

	(void)unused;
	assert_int_equal(ownership_start(&me, &record, &other, &ownership), THEN_END);
	record.mode = OWNERSHIP_SOLO;
	assert_int_equal(ownership_start(&me, &record, &nobody, &ownership), THEN_END);
	assert_int_equal(ownership_start(&me, &record, &other, &ownership), THEN_SWAP);
	record.mode = OWNERSHIP_STOPPED;
	assert_int_equal(ownership_start(&me, &record, &nobody, &ownership), THEN_SWAP);
	assert_int_equal(ownership.want.generation, 8);
	record.revision = 8;
	record.mode = OWNERSHIP_SOLO;
	assert_int_equal(hears(&ownership, WHEN_LOST, record), THEN_END);
}

static void everything_has_a_name(void **unused)
{
	(void)unused;
	for (unsigned int i = 0; i < OWNERSHIP_EVENTS; i++)
		assert_string_not_equal(ownership_event_name(i), "?");
	for (unsigned int i = 0; i < OWNERSHIP_ACTIONS; i++)
		assert_string_not_equal(ownership_action_name(i), "?");
	for (unsigned int i = 0; i < OWNERSHIP_ROLES; i++)
		assert_string_not_equal(ownership_role_name(i), "?");
	for (unsigned int i = 0; i < OWNERSHIP_MODES; i++)
		assert_string_not_equal(ownership_mode_name(i), "?");
	assert_string_equal(ownership_event_name(OWNERSHIP_EVENTS), "?");
	assert_string_equal(ownership_action_name(OWNERSHIP_ACTIONS), "?");
	assert_string_equal(ownership_role_name(OWNERSHIP_ROLES), "?");
	assert_string_equal(ownership_mode_name(OWNERSHIP_MODES), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_protected_is_released_when_acknowledged),
		cmocka_unit_test(what_filled_a_copy_acknowledges_nothing),
		cmocka_unit_test(a_lost_backup_leaves_the_gate_shut_until_the_swap_is_won),
		cmocka_unit_test(a_copy_that_is_left_before_the_gate_needs_no_swap),
		cmocka_unit_test(a_backup_takes_over_by_two_swaps),
		cmocka_unit_test(a_copy_that_is_not_named_takes_nothing),
		cmocka_unit_test(a_deposed_owner_keeps_its_copy_and_may_win_it_back),
		cmocka_unit_test(a_confirmed_claim_ends_the_deposed_owner),
		cmocka_unit_test(a_claimant_that_is_too_late_stops),
		cmocka_unit_test(a_guest_that_switches_itself_off_is_held_until_the_backup_knows),
		cmocka_unit_test(
			a_guest_that_switches_itself_off_before_the_second_swap_is_stopped_after_it),
		cmocka_unit_test(a_start_needs_a_record_that_lets_it),
		cmocka_unit_test(everything_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
