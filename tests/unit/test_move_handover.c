/* SPDX-License-Identifier: Apache-2.0 */

/* Single rules of the hand-over, each by its name; how they work together is explored (test_move_handover_explore.c). */

#include <string.h>

#include "check.h"
#include "move/handover.h"

static const struct handover_id this_move = { .token = "this move's", .generation = 7 };

static uint32_t source_on(struct handover_source *source, enum handover_event_kind kind)
{
	struct handover_event event = { .kind = kind, .phase = source->phase, .id = this_move };

	return handover_source_step(source, &event);
}

static uint32_t destination_on(struct handover_destination *destination,
			       enum handover_event_kind kind)
{
	struct handover_event event = { .kind = kind,
					.phase = destination->phase,
					.id = this_move };

	return handover_destination_step(destination, &event);
}

/* Goes on, as if all went well, until `phase` is being worked on. */
static struct handover_source source_in(enum handover_phase phase)
{
	struct handover_source source;

	assert_int_equal(handover_source_start(&this_move, &source), DO_PHASE);
	while (source.phase != phase) {
		uint32_t actions = source_on(&source, ON_DONE);

		if (source.phase == PHASE_REHEARSE && !actions)
			(void)source_on(&source, ON_REHEARSED);
		if (source.phase == PHASE_STATE && !actions)
			(void)source_on(&source, ON_READY);
	}
	return source;
}

static struct handover_source source_given(void)
{
	struct handover_source source = source_in(PHASE_COMMIT);

	assert_int_equal(source_on(&source, ON_MARKED), DO_SEND_COMMIT);
	return source;
}

static struct handover_destination destination_in(enum handover_phase phase)
{
	struct handover_destination destination;

	assert_int_equal(handover_destination_start(&this_move, 6, &destination), DO_PHASE);
	while (destination.phase != phase)
		(void)destination_on(&destination, ON_DONE);
	return destination;
}

static struct handover_destination destination_committing(void)
{
	struct handover_destination destination = destination_in(PHASE_COMMIT);

	assert_int_equal(destination_on(&destination, ON_COMMIT), DO_COMMIT_VM);
	return destination;
}

static void the_source_goes_through_its_phases(void **unused)
{
	static const enum handover_phase waits_for_nobody[] = { PHASE_CHECK, PHASE_RESERVE,
								PHASE_DISKS, PHASE_MEMORY,
								PHASE_STOP };

	(void)unused;
	for (unsigned int i = 0; i < sizeof(waits_for_nobody) / sizeof(waits_for_nobody[0]); i++) {
		struct handover_source source = source_in(waits_for_nobody[i]);

		assert_int_equal(source_on(&source, ON_DONE), DO_PHASE);
		assert_int_equal(source.phase, waits_for_nobody[i] + 1);
	}
}

static void rehearse_and_state_end_with_both_sides_word(void **unused)
{
	struct handover_source first = source_in(PHASE_STATE), second = first;

	(void)unused;
	assert_int_equal(source_on(&first, ON_DONE), 0);
	assert_int_equal(source_on(&first, ON_READY), DO_WRITE_GIVEN);
	assert_int_equal(source_on(&second, ON_READY), 0);
	assert_int_equal(source_on(&second, ON_DONE), DO_WRITE_GIVEN);
}

static void a_word_that_comes_too_soon_is_refused(void **unused)
{
	struct handover_source source = source_in(PHASE_MEMORY);

	(void)unused;
	assert_int_equal(source_on(&source, ON_READY), DO_REFUSE);
	assert_int_equal(source_on(&source, ON_RAN), DO_REFUSE);
	assert_int_equal(source_on(&source, ON_REHEARSED), 0); /* again */
	assert_int_equal(source.phase, PHASE_MEMORY);
}

static void work_of_another_phase_ends_nothing(void **unused)
{
	struct handover_source source = source_in(PHASE_MEMORY);
	struct handover_event event = { .kind = ON_DONE, .phase = PHASE_DISKS };

	(void)unused;
	assert_int_equal(handover_source_step(&source, &event), 0);
	event.kind = ON_FAILED;
	assert_int_equal(handover_source_step(&source, &event), 0);
	assert_int_equal(source.phase, PHASE_MEMORY);
}

/* Whatever fails in whichever phase before the commit leaves the source running. */
static void before_the_commit_every_failure_keeps_the_vm(void **unused)
{
	static const struct {
		enum handover_event_kind kind;
		enum handover_why why;
	} failures[] = {
		{ ON_FAILED, WHY_FAILED },	 { ON_CANCEL, WHY_CANCELLED },
		{ ON_CANCELLED, WHY_CANCELLED }, { ON_REFUSED, WHY_REFUSED },
		{ ON_LINK_LOST, WHY_LINK },	 { ON_NEVER, WHY_REFUSED },
	};

	(void)unused;
	for (unsigned int i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		for (unsigned int phase = PHASE_CHECK; phase <= PHASE_STATE; phase++) {
			struct handover_source source = source_in(phase);

			assert_int_equal(source_on(&source, failures[i].kind),
					 DO_CANCEL_VM | DO_SEND_CANCEL | DO_END);
			assert_int_equal(source.at, SOURCE_KEPT);
			assert_int_equal(source.why, failures[i].why);
		}
}

static void what_comes_while_the_mark_is_written_takes_it_back(void **unused)
{
	static const enum handover_event_kind kinds[] = { ON_CANCEL, ON_LINK_LOST, ON_REFUSED,
							  ON_CANCELLED, ON_NEVER };

	(void)unused;
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct handover_source source = source_in(PHASE_COMMIT);

		assert_int_equal(source_on(&source, kinds[i]), 0);
		assert_int_equal(source_on(&source, ON_MARKED),
				 DO_RESUME_VM | DO_SEND_CANCEL | DO_END);
	}
}

static void a_mark_that_failed_keeps_the_vm(void **unused)
{
	struct handover_source source = source_in(PHASE_COMMIT);

	(void)unused;
	assert_int_equal(source_on(&source, ON_MARK_FAILED),
			 DO_CANCEL_VM | DO_SEND_CANCEL | DO_END);
}

static void a_mark_of_unknown_outcome_is_in_doubt_and_sends_no_commit(void **unused)
{
	struct handover_source source = source_in(PHASE_COMMIT);

	(void)unused;
	assert_int_equal(source_on(&source, ON_MARK_UNKNOWN),
			 DO_SEND_CANCEL | DO_ASK | DO_TELL_IN_DOUBT);
	assert_int_equal(source_on(&source, ON_MARKED), 0);
	assert_int_equal(source_on(&source, ON_NEVER), DO_RESUME_VM | DO_END);
}

/* No timeout, no silence, no refusal: RAN or NEVER. */
static void a_given_vm_stands_until_ran_or_never(void **unused)
{
	static const enum handover_event_kind others[] = {
		ON_TICK,   ON_LINK_LOST, ON_REFUSED, ON_CANCELLED, ON_FAILED,	  ON_UNDECIDED,
		ON_CANCEL, ON_READY,	 ON_DONE,    ON_MARKED,	   ON_MARK_FAILED
	};
	const uint32_t moves_it = DO_RESUME_VM | DO_CANCEL_VM | DO_LEAVE_VM | DO_END;
	struct handover_source source = source_given(), ran, never;

	(void)unused;
	for (unsigned int i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(source_on(&source, others[i]) & moves_it, 0);
		assert_int_equal(source.at, SOURCE_GIVEN);
	}
	ran = never = source;
	assert_int_equal(source_on(&ran, ON_RAN), DO_LEAVE_VM);
	assert_int_equal(source_on(&never, ON_NEVER), DO_RESUME_VM | DO_END);
}

static void doubt_is_told_once_and_asked_about_again_and_again(void **unused)
{
	struct handover_source source = source_given();

	(void)unused;
	assert_int_equal(source_on(&source, ON_LINK_LOST), DO_ASK | DO_TELL_IN_DOUBT);
	assert_int_equal(source_on(&source, ON_TICK), DO_ASK);
	assert_int_equal(source_on(&source, ON_TICK), DO_ASK);
}

static void a_cancel_after_the_commit_is_told_to_be_late(void **unused)
{
	struct handover_source source = source_given();
	struct handover_destination destination = destination_committing();

	(void)unused;
	assert_int_equal(source_on(&source, ON_CANCEL), DO_TELL_LATE);
	assert_int_equal(destination_on(&destination, ON_CANCEL), DO_TELL_LATE);
}

static void messages_of_another_token_or_generation_are_refused(void **unused)
{
	struct handover_source source = source_given();
	struct handover_destination destination = destination_in(PHASE_COMMIT);
	struct handover_event event = { .kind = ON_NEVER, .id = this_move };

	(void)unused;
	event.id.generation--;
	assert_int_equal(handover_source_step(&source, &event), DO_REFUSE);
	event.kind = ON_COMMIT;
	assert_int_equal(handover_destination_step(&destination, &event), DO_REFUSE);
	event.id = this_move;
	event.id.token[HANDOVER_TOKEN_BYTES - 1] ^= 1;
	assert_int_equal(handover_destination_step(&destination, &event), DO_REFUSE);
	event.kind = ON_RAN;
	assert_int_equal(handover_source_step(&source, &event), DO_REFUSE);
	assert_int_equal(source.at, SOURCE_GIVEN);
	assert_int_equal(destination.at, DESTINATION_READY);
}

static struct handover_source source_serving(void)
{
	struct handover_source source = source_in(PHASE_MEMORY);

	assert_int_equal(source_on(&source, ON_POSTCOPY), 0);
	while (source.phase != PHASE_COMMIT) {
		uint32_t actions = source_on(&source, ON_DONE);

		if (source.phase == PHASE_STATE && !actions)
			(void)source_on(&source, ON_READY);
	}
	assert_int_equal(source_on(&source, ON_MARKED), DO_SEND_COMMIT);
	assert_int_equal(source_on(&source, ON_RAN), DO_LEAVE_VM | DO_PHASE);
	assert_int_equal(source.phase, PHASE_RUN);
	return source;
}

/* `phase`: of the commit, or after it. */
static struct handover_destination destination_pulling(enum handover_phase phase)
{
	struct handover_destination destination = destination_in(PHASE_MEMORY);

	assert_int_equal(destination_on(&destination, ON_POSTCOPY), 0);
	while (destination.phase != PHASE_COMMIT)
		(void)destination_on(&destination, ON_DONE);
	assert_int_equal(destination_on(&destination, ON_COMMIT), DO_COMMIT_VM);
	if (phase == PHASE_COMMIT)
		return destination;
	assert_int_equal(destination_on(&destination, ON_RESULT_RAN), DO_SEND_RAN | DO_PHASE);
	assert_int_equal(destination.phase, PHASE_RUN);
	return destination;
}

static void post_copy_is_decided_with_memory_only(void **unused)
{
	struct handover_source early = source_in(PHASE_REHEARSE), late = source_in(PHASE_STOP);
	struct handover_destination ready = destination_in(PHASE_COMMIT);

	(void)unused;
	assert_int_equal(source_on(&early, ON_POSTCOPY), 0);
	assert_int_equal(source_on(&late, ON_POSTCOPY), 0);
	assert_int_equal(destination_on(&ready, ON_POSTCOPY), 0);
	assert_false(early.postcopy || late.postcopy || ready.postcopy);
}

static void the_rest_of_memory_comes_after_the_run(void **unused)
{
	struct handover_source source = source_serving();
	struct handover_destination destination = destination_pulling(PHASE_RUN);

	(void)unused;
	assert_int_equal(destination_on(&destination, ON_DONE), DO_PHASE);
	assert_int_equal(destination.phase, PHASE_ANNOUNCE);
	assert_false(destination.postcopy);
	assert_int_equal(source_on(&source, ON_DONE), 0);
	assert_int_equal(source.phase, PHASE_VERIFY);
	assert_int_equal(source_on(&source, ON_VERIFIED), DO_END);
	assert_false(handover_source_lost(&source));
}

/* And never does the source run again. */
static void memory_in_two_places_is_lost_with_either(void **unused)
{
	static const enum handover_event_kind ends[] = { ON_LINK_LOST, ON_FAILED };

	(void)unused;
	for (unsigned int i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct handover_source source = source_serving();
		struct handover_destination destination = destination_pulling(PHASE_RUN);

		assert_int_equal(destination_on(&destination, ends[i]), DO_END_VM | DO_END);
		assert_true(handover_destination_lost(&destination));
		assert_int_equal(destination.at, DESTINATION_RUNS); /* it owns it */
		assert_int_equal(source_on(&source, ends[i]), DO_END);
		assert_true(handover_source_lost(&source));
		assert_int_equal(source.at, SOURCE_LEFT);
	}
}

static void a_vm_that_ends_as_it_should_is_not_lost(void **unused)
{
	struct handover_destination destination = destination_pulling(PHASE_RUN),
				    dies = destination_pulling(PHASE_RUN);

	(void)unused;
	assert_int_equal(destination_on(&destination, ON_VM_ENDED), DO_SEND_VERIFIED | DO_END);
	assert_int_equal(destination.at, DESTINATION_RUNS);
	assert_false(handover_destination_lost(&destination));
	assert_int_equal(destination_on(&dies, ON_VM_DIED), DO_END);
	assert_true(handover_destination_lost(&dies));
}

static void a_link_lost_before_ran_is_known_is_not_forgotten(void **unused)
{
	struct handover_destination destination = destination_pulling(PHASE_COMMIT);

	(void)unused;
	assert_int_equal(destination_on(&destination, ON_LINK_LOST), 0);
	assert_int_equal(destination_on(&destination, ON_RESULT_RAN),
			 DO_SEND_RAN | DO_END_VM | DO_END);
	assert_true(handover_destination_lost(&destination));
}

static void whole_memory_needs_no_source_any_more(void **unused)
{
	struct handover_source source = source_serving();
	struct handover_destination destination = destination_pulling(PHASE_RUN);

	(void)unused;
	assert_int_equal(destination_on(&destination, ON_DONE), DO_PHASE);
	assert_int_equal(destination_on(&destination, ON_LINK_LOST), 0);
	assert_false(handover_destination_lost(&destination));
	assert_int_equal(source_on(&source, ON_VERIFIED), DO_END); /* says that all is there */
	assert_false(handover_source_lost(&source));
}

static void a_stale_generation_is_refused(void **unused)
{
	struct handover_destination destination;

	(void)unused;
	assert_int_equal(handover_destination_start(&this_move, 7, &destination),
			 DO_TAKE_NEVER | DO_SEND_REFUSED);
	assert_int_equal(handover_destination_start(&this_move, 8, &destination),
			 DO_TAKE_NEVER | DO_SEND_REFUSED);
	assert_int_equal(destination.why, WHY_REFUSED);
	assert_int_equal(handover_destination_start(&this_move, 6, &destination), DO_PHASE);
}

static void the_destination_goes_through_its_phases(void **unused)
{
	static const struct {
		enum handover_phase phase, next;
		uint32_t actions;
	} steps[] = {
		{ PHASE_RESERVE, PHASE_REHEARSE, DO_PHASE },
		{ PHASE_REHEARSE, PHASE_DISKS, DO_SEND_REHEARSED | DO_PHASE },
		{ PHASE_DISKS, PHASE_MEMORY, DO_PHASE },
		{ PHASE_MEMORY, PHASE_STATE, DO_PHASE },
		{ PHASE_STATE, PHASE_COMMIT, DO_SEND_READY },
	};

	(void)unused;
	for (unsigned int i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct handover_destination destination = destination_in(steps[i].phase);

		assert_int_equal(destination_on(&destination, ON_DONE), steps[i].actions);
		assert_int_equal(destination.phase, steps[i].next);
	}
}

static void a_destination_that_fails_closes_its_token_before_it_says_never(void **unused)
{
	struct handover_destination destination = destination_in(PHASE_MEMORY);

	(void)unused;
	assert_int_equal(destination_on(&destination, ON_FAILED), DO_TAKE_NEVER | DO_SEND_REFUSED);
	assert_int_equal(destination_on(&destination, ON_RESULT_NEVER), DO_END_VM);
	assert_int_equal(destination_on(&destination, ON_COMMIT), 0);
	assert_int_equal(destination_on(&destination, ON_VM_DIED), DO_SEND_NEVER | DO_END);
	assert_int_equal(destination_on(&destination, ON_COMMIT), DO_SEND_NEVER);
}

static void a_commit_of_unknown_outcome_is_asked_of_the_mark(void **unused)
{
	struct handover_destination ran = destination_committing(), never = ran;

	(void)unused;
	assert_int_equal(destination_on(&ran, ON_RESULT_UNKNOWN), DO_TAKE_NEVER);
	assert_int_equal(destination_on(&ran, ON_RESULT_UNKNOWN), 0);
	assert_int_equal(destination_on(&ran, ON_TICK), DO_TAKE_NEVER);
	assert_int_equal(destination_on(&ran, ON_RESULT_RAN), DO_SEND_RAN | DO_PHASE);
	assert_int_equal(destination_on(&never, ON_VM_DIED), DO_TAKE_NEVER);
	assert_int_equal(destination_on(&never, ON_RESULT_NEVER), DO_SEND_NEVER | DO_END);
}

static void a_destination_that_ran_says_so_as_often_as_asked(void **unused)
{
	struct handover_destination destination = destination_committing();

	(void)unused;
	assert_int_equal(destination_on(&destination, ON_RESULT_RAN), DO_SEND_RAN | DO_PHASE);
	assert_int_equal(destination_on(&destination, ON_COMMIT), DO_SEND_RAN);
	assert_int_equal(destination_on(&destination, ON_ASK), DO_SEND_RAN);
	assert_int_equal(destination_on(&destination, ON_LINK_LOST), 0);
}

static void a_failed_verify_takes_nothing_back(void **unused)
{
	struct handover_source source = source_given();
	struct handover_destination destination = destination_committing();

	(void)unused;
	(void)destination_on(&destination, ON_RESULT_RAN);
	assert_int_equal(destination_on(&destination, ON_FAILED), DO_PHASE); /* announce */
	assert_int_equal(destination_on(&destination, ON_FAILED), DO_SEND_VERIFIED | DO_END);
	assert_int_equal(destination.why, WHY_FAILED);
	assert_int_equal(destination.at, DESTINATION_RUNS);
	(void)source_on(&source, ON_RAN);
	assert_int_equal(source_on(&source, ON_NOT_VERIFIED), DO_END);
	assert_int_equal(source.at, SOURCE_LEFT);
	assert_int_equal(source.why, WHY_FAILED);
}

static void a_daemon_asked_while_a_process_lives_closes_first(void **unused)
{
	struct handover_destination daemon;

	(void)unused;
	assert_int_equal(handover_destination_restart(&this_move, HANDOVER_OPEN, true, &daemon), 0);
	assert_int_equal(destination_on(&daemon, ON_ASK), DO_TAKE_NEVER);
	assert_int_equal(destination_on(&daemon, ON_RESULT_UNKNOWN), DO_SEND_UNDECIDED);
	assert_int_equal(destination_on(&daemon, ON_TICK), DO_TAKE_NEVER | DO_SEND_UNDECIDED);
	assert_int_equal(destination_on(&daemon, ON_RESULT_NEVER), DO_END_VM);
	assert_int_equal(destination_on(&daemon, ON_TICK), DO_END_VM | DO_SEND_UNDECIDED);
	assert_int_equal(destination_on(&daemon, ON_VM_DIED), DO_SEND_NEVER | DO_END);
}

static void a_daemon_answers_by_the_mark(void **unused)
{
	struct handover_destination daemon;

	(void)unused;
	assert_int_equal(handover_destination_restart(&this_move, HANDOVER_RAN, false, &daemon), 0);
	assert_int_equal(destination_on(&daemon, ON_ASK), DO_SEND_RAN);
	assert_int_equal(handover_destination_restart(&this_move, HANDOVER_NEVER, false, &daemon),
			 DO_SEND_NEVER | DO_END);
	assert_int_equal(destination_on(&daemon, ON_ASK), DO_SEND_NEVER);
	assert_int_equal(handover_destination_restart(&this_move, HANDOVER_NEVER, true, &daemon),
			 DO_END_VM);
	assert_int_equal(handover_destination_restart(&this_move, HANDOVER_NO_MARK, false, &daemon),
			 DO_TAKE_NEVER);
}

static void a_source_begins_again_from_its_mark(void **unused)
{
	struct handover_source source;

	(void)unused;
	assert_int_equal(handover_source_restart(&this_move, HANDOVER_OPEN, true, &source),
			 DO_ASK | DO_TELL_IN_DOUBT);
	assert_int_equal(source_on(&source, ON_VM_DIED), 0);
	assert_int_equal(source_on(&source, ON_NEVER), DO_CLEAR_GIVEN | DO_END);
	assert_int_equal(handover_source_restart(&this_move, HANDOVER_OPEN, false, &source),
			 DO_ASK | DO_TELL_IN_DOUBT);
	assert_int_equal(source_on(&source, ON_RAN), DO_SETTLE_RAN);
	assert_int_equal(handover_source_restart(&this_move, HANDOVER_RAN, true, &source),
			 DO_LEAVE_VM | DO_END);
	assert_int_equal(handover_source_restart(&this_move, HANDOVER_NO_MARK, false, &source),
			 DO_END);
}

static void a_start_obeys_both_marks(void **unused)
{
	static const struct {
		struct handover_marks marks;
		enum handover_start start;
	} cases[] = {
		{ { HANDOVER_NO_MARK, 0, HANDOVER_NO_MARK, 0 }, START_MAY },
		{ { HANDOVER_NEVER, 2, HANDOVER_NO_MARK, 0 }, START_MAY },
		{ { HANDOVER_OPEN, 2, HANDOVER_NO_MARK, 0 }, START_ASK_FIRST },
		{ { HANDOVER_RAN, 2, HANDOVER_NO_MARK, 0 }, START_LIVES_THERE },
		{ { HANDOVER_NO_MARK, 0, HANDOVER_RAN, 2 }, START_MAY },
		{ { HANDOVER_NO_MARK, 0, HANDOVER_OPEN, 2 }, START_NOT_TAKEN },
		{ { HANDOVER_NO_MARK, 0, HANDOVER_NEVER, 2 }, START_NOT_TAKEN },
		{ { HANDOVER_RAN, 2, HANDOVER_RAN, 3 }, START_MAY }, /* came back */
		{ { HANDOVER_OPEN, 2, HANDOVER_RAN, 3 }, START_MAY },
		{ { HANDOVER_RAN, 3, HANDOVER_RAN, 2 }, START_LIVES_THERE }, /* came, and left */
		{ { HANDOVER_OPEN, 3, HANDOVER_RAN, 2 }, START_ASK_FIRST },
		{ { HANDOVER_RAN, 2, HANDOVER_OPEN, 3 }, START_LIVES_THERE }, /* not yet back */
		{ { HANDOVER_NEVER, 3, HANDOVER_RAN, 2 }, START_MAY },
	};

	(void)unused;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(handover_may_start(&cases[i].marks), cases[i].start);
}

/* Any event in any state: nothing but known actions, and the same event again moves nothing twice. */
static void any_event_may_come_in_any_state(void **unused)
{
	(void)unused;
	for (unsigned int at = SOURCE_HAS; at <= SOURCE_LEFT; at++)
		for (unsigned int kind = 0; kind < HANDOVER_EVENTS; kind++) {
			struct handover_source source = { .id = this_move, .at = at };

			assert_int_equal(source_on(&source, kind) >> HANDOVER_ACTIONS, 0);
			assert_in_range(source.at, SOURCE_HAS, SOURCE_LEFT);
		}
	for (unsigned int at = DESTINATION_LOADS; at <= DESTINATION_CLOSED; at++)
		for (unsigned int kind = 0; kind < HANDOVER_EVENTS; kind++) {
			struct handover_destination destination = { .id = this_move, .at = at };

			assert_int_equal(destination_on(&destination, kind) >> HANDOVER_ACTIONS, 0);
			assert_in_range(destination.at, DESTINATION_LOADS, DESTINATION_CLOSED);
		}
}

static void everything_has_a_name(void **unused)
{
	(void)unused;
	for (unsigned int phase = 0; phase < PHASES; phase++)
		assert_non_null(handover_phase_name(phase));
	for (unsigned int kind = 0; kind < HANDOVER_EVENTS; kind++)
		assert_non_null(handover_event_name(kind));
	for (unsigned int bit = 0; bit < HANDOVER_ACTIONS; bit++)
		assert_non_null(handover_action_name(bit));
	assert_string_equal(handover_phase_name(PHASES), "?");
	assert_string_equal(handover_action_name(20), "tell-in-doubt");
	assert_string_equal(handover_action_name(HANDOVER_ACTIONS - 1), "end");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_source_goes_through_its_phases),
		cmocka_unit_test(rehearse_and_state_end_with_both_sides_word),
		cmocka_unit_test(a_word_that_comes_too_soon_is_refused),
		cmocka_unit_test(work_of_another_phase_ends_nothing),
		cmocka_unit_test(before_the_commit_every_failure_keeps_the_vm),
		cmocka_unit_test(what_comes_while_the_mark_is_written_takes_it_back),
		cmocka_unit_test(a_mark_that_failed_keeps_the_vm),
		cmocka_unit_test(a_mark_of_unknown_outcome_is_in_doubt_and_sends_no_commit),
		cmocka_unit_test(a_given_vm_stands_until_ran_or_never),
		cmocka_unit_test(doubt_is_told_once_and_asked_about_again_and_again),
		cmocka_unit_test(a_cancel_after_the_commit_is_told_to_be_late),
		cmocka_unit_test(messages_of_another_token_or_generation_are_refused),
		cmocka_unit_test(a_stale_generation_is_refused),
		cmocka_unit_test(post_copy_is_decided_with_memory_only),
		cmocka_unit_test(the_rest_of_memory_comes_after_the_run),
		cmocka_unit_test(memory_in_two_places_is_lost_with_either),
		cmocka_unit_test(a_vm_that_ends_as_it_should_is_not_lost),
		cmocka_unit_test(a_link_lost_before_ran_is_known_is_not_forgotten),
		cmocka_unit_test(whole_memory_needs_no_source_any_more),
		cmocka_unit_test(the_destination_goes_through_its_phases),
		cmocka_unit_test(a_destination_that_fails_closes_its_token_before_it_says_never),
		cmocka_unit_test(a_commit_of_unknown_outcome_is_asked_of_the_mark),
		cmocka_unit_test(a_destination_that_ran_says_so_as_often_as_asked),
		cmocka_unit_test(a_failed_verify_takes_nothing_back),
		cmocka_unit_test(a_daemon_asked_while_a_process_lives_closes_first),
		cmocka_unit_test(a_daemon_answers_by_the_mark),
		cmocka_unit_test(a_source_begins_again_from_its_mark),
		cmocka_unit_test(a_start_obeys_both_marks),
		cmocka_unit_test(any_event_may_come_in_any_state),
		cmocka_unit_test(everything_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
