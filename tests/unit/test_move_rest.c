/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whole moves in one process whose guest runs there before all of its memory is, with a real userfaultfd: it reads here and there
 * and must find what the source has. Where one of both goes meanwhile it is lost, and never does the source run again.
 */

#include <jansson.h>
#include <string.h>

#include "check.h"
#include "host/sandbox.h"
#include "move_rig.h"

#ifndef __has_feature /* clang's; gcc has macros */
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static uint64_t compared(struct move_rig *rig)
{
	assert_int_equal(__atomic_load_n(&rig->to.guest.differed, __ATOMIC_ACQUIRE), 0);
	return __atomic_load_n(&rig->to.guest.compared, __ATOMIC_ACQUIRE);
}

static void ended(const struct move_rig *rig, enum move_end here, enum move_end there)
{
	if (rig->source.end != here || rig->destination.end != there)
		fail_msg("the source ended %d (%s), the destination %d (%s)", (int)rig->source.end,
			 rig->source.err.message, (int)rig->destination.end,
			 rig->destination.err.message);
}

static void assert_moved(const struct move_plan *plan)
{
	struct move_rig *rig = move_rig_run(plan);

	ended(rig, MOVE_END_RAN, MOVE_END_RAN);
	if (!rig->source.in_two_places)
		fail_msg("it was no post-copy");
	assert_true(rig->source.phases & 1U << PHASE_RUN);
	move_rig_assert_one(rig, true);
	assert_true(compared(rig) > 0);
	move_rig_assert_equal(rig);
	print_message(
		"%u streams%s: down %llu us, total %llu us, %llu KiB, %llu pages waited for\n",
		rig->source.job.n_streams, plan->tls ? ", TLS" : "",
		(unsigned long long)rig->source.numbers.down_ns / 1000,
		(unsigned long long)rig->source.numbers.total_ns / 1000,
		(unsigned long long)rig->source.numbers.sent / 1024,
		(unsigned long long)rig->source.numbers.wanted_pages);
	move_rig_free(rig);
}

static void it_runs_before_its_memory_is_there(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .postcopy = true });
	assert_moved(&(struct move_plan){ .postcopy = true, .n_streams = 2 });
	assert_moved(&(struct move_plan){ .postcopy = true, .n_streams = 4 });
}

static void a_load_waits_for_what_it_touches(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .postcopy = true, .load_waits = true, .n_streams = 2 });
}

static void over_tls(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .postcopy = true, .tls = true });
	assert_moved(&(struct move_plan){ .postcopy = true, .tls = true, .n_streams = 3 });
}

static void over_tcp(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .postcopy = true, .tcp = true });
	assert_moved(&(struct move_plan){ .postcopy = true, .tcp = true, .n_streams = 4 });
	assert_moved(
		&(struct move_plan){ .postcopy = true, .tcp = true, .tls = true, .n_streams = 2 });
}

static void confined_movers_do_it(void **state _unused_)
{
	if (SANITIZED) /* its runtime makes calls that the filter forbids */
		skip();
	assert_moved(&(struct move_plan){
		.postcopy = true, .confined = true, .tcp = true, .n_streams = 2 });
	assert_moved(&(struct move_plan){
		.postcopy = true, .confined = true, .tcp = true, .tls = true });
}

static void pause_source(struct move_rig *rig)
{
	near_vm_pause(&rig->from);
}

/* What was written before the pause is too much for the wire; it stands there while that comes, and goes on when told. */
static void a_paused_vm_gets_its_memory(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
								 .fault = WIRE_LATE,
								 .at = MOVE_ROUND_DONE,
								 .after = 1,
								 .hook = pause_source });

	ended(rig, MOVE_END_RAN, MOVE_END_RAN);
	print_message("%s\n", rig->source.in_two_places ? "post-copy" : "it was no post-copy");
	assert_false(near_vm_runs(&rig->to, false));
	assert_int_equal(__atomic_load_n(&rig->to.guest.first_ns, __ATOMIC_ACQUIRE), 0);
	assert_int_equal(move_guest_lacks(rig->to.move), 0);
	near_vm_resume(&rig->to);
	move_rig_assert_one(rig, true);
	move_rig_assert_equal(rig);
	move_rig_free(rig);
}

/* ---- what fails before the commit ---- */

struct cell {
	const char *what;
	struct move_plan plan;
};

#define FAULT(fault_, kind)                                                                        \
	{                                                                                          \
		.what = #fault_ " at " #kind, .plan = {                                            \
			.postcopy = true,                                                          \
			.n_streams = 2,                                                            \
			.fault = fault_,                                                           \
			.at = kind                                                                 \
		}                                                                                  \
	}

static void before_the_commit_the_source_goes_on(void **state _unused_)
{
	static const struct cell cells[] = {
		FAULT(WIRE_CUT, MOVE_MISSING), FAULT(WIRE_FLIP, MOVE_MISSING),
		FAULT(WIRE_CUT, MOVE_STATE),   FAULT(WIRE_CUT, MOVE_STOOD),
		FAULT(WIRE_CUT, MOVE_READY),   FAULT(WIRE_FLIP, MOVE_READY),
		FAULT(WIRE_CUT, MOVE_COMMIT),
	};

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		struct move_rig *rig = move_rig_run(&cells[i].plan);

		print_message("%s: %s\n", cells[i].what, rig->source.err.message);
		assert_true(rig->faulted);
		move_rig_assert_one(rig, false);
		move_rig_free(rig);
	}
}

/* The destination's daemon closed the token before the commit came; pages may have gone by then. */
static void say_never(struct move_rig *rig)
{
	(void)!mark_take(rig->taken_mark, MARK_NEVER);
}

static void never_brings_the_guest_back(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
								 .n_streams = 2,
								 .fault = WIRE_LATE,
								 .at = MOVE_COMMIT,
								 .hook = say_never });

	assert_int_equal(rig->source.end, MOVE_END_REFUSED);
	move_rig_assert_one(rig, false);
	move_rig_free(rig);
}

static void an_error_before_the_commit_leaves_it_here(void **state _unused_)
{
	static const char *const places[][2] = {
		{ "source.stopped:error", NULL },     { "source.last-round:error", NULL },
		{ "source.state:error", NULL },	      { "source.ready:error", NULL },
		{ NULL, "destination.state:error" },  { NULL, "destination.loaded:error" },
		{ NULL, "destination.commit:error" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct move_rig *rig =
			move_rig_run(&(struct move_plan){ .postcopy = true,
							  .n_streams = 2,
							  .source_fails = places[i][0],
							  .destination_fails = places[i][1] });

		print_message("%s: %s\n", places[i][0] ? places[i][0] : places[i][1],
			      rig->source.err.message);
		move_rig_assert_one(rig, false);
		move_rig_free(rig);
	}
}

static void cancel_here(struct move_rig *rig)
{
	move_rig_cancel(&rig->source);
}

static void cancel_there(struct move_rig *rig)
{
	move_rig_cancel(&rig->destination);
}

/* Though the load stands in a page that nobody sends any more. What the destination says of it is held up as well. */
static void a_cancel_ends_a_load_at_once(void **state _unused_)
{
	static const struct {
		void (*hook)(struct move_rig *rig);
		enum move_end here;
	} cases[] = { { cancel_here, MOVE_END_CANCELLED }, { cancel_there, MOVE_END_FAILED } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
									 .n_streams = 2,
									 .load_waits = true,
									 .fault = WIRE_HELD,
									 .at = MOVE_FAULT,
									 .hook = cases[i].hook });

		assert_true(rig->faulted);
		ended(rig, cases[i].here, MOVE_END_CANCELLED);
		assert_true(rig->destination.numbers.total_ns < 4 * NSEC_PER_SEC);
		move_rig_assert_one(rig, false);
		move_rig_free(rig);
	}
}

/* ---- and after it ---- */

static void assert_lost(struct move_rig *rig)
{
	ended(rig, MOVE_END_FAILED, MOVE_END_FAILED);
	if (!strstr(rig->source.err.message, "lost in post-copy") ||
	    !strstr(rig->destination.err.message, "lost in post-copy"))
		fail_msg("%s; %s", rig->source.err.message, rig->destination.err.message);
	assert_true(rig->to.is_lost);
	assert_true(strstr(rig->to.lost, "of its memory were still to come"));
	compared(rig); /* until then it saw what is right */
	assert_false(near_vm_runs(&rig->from, false));
	assert_int_equal(mark_take(rig->taken_mark, MARK_NEVER), MARK_RAN); /* its owner */
}

static void a_connection_that_ends_loses_it(void **state _unused_)
{
	static const struct cell cells[] = {
		{ "no page", { .fault = WIRE_CUT, .at = MOVE_SUMMED, .late = true } },
		{ "some pages",
		  { .fault = WIRE_CUT, .at = MOVE_SUMMED, .late = true, .after = 9 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		struct move_plan plan = cells[i].plan;
		struct move_rig *rig;

		plan.postcopy = true;
		plan.n_streams = 2;
		rig = move_rig_run(&plan);
		print_message("%s: %s\n", cells[i].what, rig->source.err.message);
		assert_true(rig->faulted);
		assert_lost(rig);
		move_rig_free(rig);
	}
}

static void power_off(struct move_rig *rig)
{
	near_vm_power_off(&rig->to);
}

static void kill_soon(struct move_rig *rig)
{
	near_vm_kill_soon(&rig->to);
}

/* It is no loss: who wanted its end needs no more of its memory. */
static void a_guest_may_switch_itself_off_meanwhile(void **state _unused_)
{
	static const struct move_plan plans[] = { { .n_streams = 1 },
						  { .n_streams = 2 },
						  { .n_streams = 2, .after = 9 } };

	for (size_t i = 0; i < ARRAY_SIZE(plans); i++) {
		struct move_plan plan = plans[i];
		struct move_rig *rig;

		plan.postcopy = plan.late = true;
		plan.fault = WIRE_LATE;
		plan.at = MOVE_SUMMED;
		plan.hook = power_off;
		rig = move_rig_run(&plan);
		assert_true(rig->faulted);
		ended(rig, MOVE_END_RAN, MOVE_END_RAN);
		assert_string_equal(rig->source.has_ended, "the guest switched itself off");
		assert_string_equal(rig->destination.has_ended, rig->source.has_ended);
		assert_false(rig->settled);
		assert_false(near_vm_runs(&rig->from, false) || near_vm_runs(&rig->to, false));
		assert_int_equal(mark_take(rig->taken_mark, MARK_NEVER), MARK_RAN);
		move_rig_free(rig);
	}
}

/* The source is told less then, and it ended there all the same. */
static void an_end_that_is_not_heard_of_is_one(void **state _unused_)
{
	static const enum wire_fault faults[] = { WIRE_CUT, WIRE_FLIP };

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
									 .n_streams = 2,
									 .powers_off = true,
									 .fault = faults[i],
									 .at = MOVE_ENDED });

		assert_true(rig->faulted);
		ended(rig, MOVE_END_FAILED, MOVE_END_RAN);
		assert_string_equal(rig->source.has_ended, "");
		assert_false(near_vm_runs(&rig->from, false) || near_vm_runs(&rig->to, false));
		assert_int_equal(mark_take(rig->taken_mark, MARK_NEVER), MARK_RAN);
		move_rig_free(rig);
	}
}

static void a_vm_that_dies_meanwhile_is_lost(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
								 .n_streams = 2,
								 .fault = WIRE_LATE,
								 .at = MOVE_SUMMED,
								 .late = true,
								 .hook = kill_soon });

	assert_true(rig->faulted);
	ended(rig, MOVE_END_FAILED, MOVE_END_FAILED);
	assert_non_null(strstr(rig->destination.err.message, "its process has ended"));
	assert_string_equal(rig->source.has_ended, "");
	assert_int_equal(mark_take(rig->taken_mark, MARK_NEVER), MARK_RAN);
	move_rig_free(rig);
}

/* Of two streams one may have all of its pages in, the other not: the destination knows. */
static void a_link_that_ends_with_the_last_page_loses_what_is_missing(void **state _unused_)
{
	static const enum wire_fault faults[] = { WIRE_CUT, WIRE_FLIP, WIRE_AFTER };

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
									 .n_streams = 2,
									 .fault = faults[i],
									 .at = MOVE_ROUND,
									 .late = true });

		print_message("%s; %s\n", rig->source.err.message, rig->destination.err.message);
		assert_true(rig->faulted);
		/* It may be told over the other stream that all is there. */
		assert_true(rig->source.end == MOVE_END_FAILED ||
			    (rig->source.end == MOVE_END_RAN && !rig->to.is_lost));
		assert_int_equal(rig->destination.end,
				 rig->to.is_lost ? MOVE_END_FAILED : MOVE_END_RAN);
		assert_false(near_vm_runs(&rig->from, false));
		if (!rig->to.is_lost) {
			move_rig_assert_one(rig, true);
			move_rig_assert_equal(rig);
		}
		move_rig_free(rig);
	}
}

/* All had come: nothing is lost with the link. */
static void whole_memory_outlives_the_link(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(&(struct move_plan){
		.postcopy = true, .n_streams = 2, .fault = WIRE_CUT, .at = MOVE_VERIFIED });

	ended(rig, MOVE_END_RAN, MOVE_END_RAN);
	move_rig_assert_one(rig, true);
	move_rig_assert_equal(rig);
	move_rig_free(rig);
}

/* A silent wire is none that ended: the guest stands, and goes on with it. */
static void a_silent_wire_is_waited_for(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(&(struct move_plan){ .postcopy = true,
								 .n_streams = 2,
								 .fault = WIRE_SILENT,
								 .at = MOVE_SUMMED,
								 .late = true,
								 .after = 2,
								 .silent_ms = 7000 });

	assert_true(rig->faulted);
	ended(rig, MOVE_END_RAN, MOVE_END_RAN);
	move_rig_assert_one(rig, true);
	compared(rig);
	assert_false(rig->to.vm->waits);
	assert_true(rig->source.numbers.total_ns > 7 * NSEC_PER_SEC);
	move_rig_assert_equal(rig);
	move_rig_free(rig);
}

static void nobody_is_asked_who_did_not_allow_it(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(&(struct move_plan){ .n_streams = 2 });

	ended(rig, MOVE_END_RAN, MOVE_END_RAN);
	assert_false(rig->source.in_two_places);
	assert_false(rig->source.phases & 1U << PHASE_RUN);
	move_rig_free(rig);
}

/* An argument is a pattern: which of them. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_runs_before_its_memory_is_there),
		cmocka_unit_test(a_load_waits_for_what_it_touches),
		cmocka_unit_test(over_tls),
		cmocka_unit_test(over_tcp),
		cmocka_unit_test(confined_movers_do_it),
		cmocka_unit_test(a_paused_vm_gets_its_memory),
		cmocka_unit_test(before_the_commit_the_source_goes_on),
		cmocka_unit_test(never_brings_the_guest_back),
		cmocka_unit_test(an_error_before_the_commit_leaves_it_here),
		cmocka_unit_test(a_cancel_ends_a_load_at_once),
		cmocka_unit_test(a_connection_that_ends_loses_it),
		cmocka_unit_test(a_guest_may_switch_itself_off_meanwhile),
		cmocka_unit_test(an_end_that_is_not_heard_of_is_one),
		cmocka_unit_test(a_vm_that_dies_meanwhile_is_lost),
		cmocka_unit_test(a_link_that_ends_with_the_last_page_loses_what_is_missing),
		cmocka_unit_test(whole_memory_outlives_the_link),
		cmocka_unit_test(a_silent_wire_is_waited_for),
		cmocka_unit_test(nobody_is_asked_who_did_not_allow_it),
	};

	sandbox_before_threads();
	json_object_seed(0); /* from a file, which no sandbox lets it open later */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
