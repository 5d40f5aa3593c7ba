/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whole moves in one process, and everything that can befall one. After each there is exactly one VM that runs, and there never
 * were two: the guest here did its last turn before the guest there did its first.
 */

#include <jansson.h>
#include <string.h>

#include "check.h"
#include "host/sandbox.h"
#include "move_rig.h"
#include "vm/save.h"

#ifndef __has_feature /* clang's; gcc has macros */
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static void assert_moved(const struct move_plan *plan)
{
	struct move_rig *rig;

	rig = move_rig_run(plan);
	if (rig->source.end != MOVE_END_RAN || rig->destination.end != MOVE_END_RAN)
		fail_msg("the source ended %d (%s), the destination %d (%s)", (int)rig->source.end,
			 rig->source.err.message, (int)rig->destination.end,
			 rig->destination.err.message);
	move_rig_assert_one(rig, true);
	move_rig_assert_equal(rig);
	assert_false(rig->source.warned || rig->destination.warned);
	print_message("%u streams%s: down %llu us, total %llu us, %llu KiB, %u rounds\n",
		      rig->source.job.n_streams, plan->tls ? ", TLS" : "",
		      (unsigned long long)rig->source.numbers.down_ns / 1000,
		      (unsigned long long)rig->source.numbers.total_ns / 1000,
		      (unsigned long long)rig->source.numbers.sent / 1024,
		      rig->source.numbers.round);
	move_rig_free(rig);
}

static void a_vm_moves(void **state _unused_)
{
	assert_moved(&(struct move_plan){ 0 });
}

/* The source cannot know of it; the guest's clock would be late by as much. */
static void what_a_wire_holds_back_counts_as_standing_still(void **state _unused_)
{
	struct move_rig *rig = move_rig_run(
		&(struct move_plan){ .fault = WIRE_SILENT, .at = MOVE_STOOD, .silent_ms = 700 });

	assert_true(rig->faulted);
	assert_int_equal(rig->source.end, MOVE_END_RAN);
	assert_in_range(rig->to.stood_ns, 690 * NSEC_PER_MSEC, 60 * NSEC_PER_SEC);
	assert_true(rig->to.stood_ns <= rig->source.numbers.down_ns);
	move_rig_assert_one(rig, true);
	move_rig_free(rig);
}

static void it_moves_over_four_streams(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .n_streams = 4 });
}

static void it_moves_over_tls(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .tls = true });
	assert_moved(&(struct move_plan){ .tls = true, .n_streams = 4 });
}

static void confined_movers_move_it(void **state _unused_)
{
	if (SANITIZED) /* its runtime makes calls that the filter forbids */
		skip();
	assert_moved(&(struct move_plan){ .confined = true, .n_streams = 2 });
	assert_moved(&(struct move_plan){ .confined = true, .tls = true, .n_streams = 4 });
	assert_moved(&(struct move_plan){ .confined = true, .tcp = true, .n_streams = 2 });
	assert_moved(&(struct move_plan){ .confined = true, .tcp = true, .tls = true });
}

static void it_moves_over_tcp(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .tcp = true });
	assert_moved(&(struct move_plan){ .tcp = true, .tls = true, .n_streams = 4 });
}

static void a_guest_that_rests_moves(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .guest_rests = true });
}

/* All that is told in a move that goes well: every place of failpoint.h but what only ill luck reaches. */
static void every_place_is_reached(void **state _unused_)
{
	struct move_rig *rig;
	uint64_t all;

	rig = move_rig_run(
		&(struct move_plan){ .source_fails = "*:tell", .destination_fails = "*:tell" });
	all = rig->source.failpoints | rig->destination.failpoints;
	for (int i = 0; i < FAILPOINTS_N; i++)
		if (!(all & 1ULL << i) &&
		    strncmp(failpoint_text((enum failpoint_name)i), "source", 6) == 0)
			fail_msg("%s was not reached", failpoint_text((enum failpoint_name)i));
	for (int i = 0; i < FAILPOINTS_N; i++)
		if (!(all & 1ULL << i) &&
		    strncmp(failpoint_text((enum failpoint_name)i), "destination", 11) == 0)
			fail_msg("%s was not reached", failpoint_text((enum failpoint_name)i));
	move_rig_free(rig);
}

/* ---- the outcome of each fault ---- */

enum left { STAYS, GOES };
/* Whether the source's mover could not know, so that the daemons settle it. */
enum doubt { SURE, DOUBT, EITHER };

struct cell {
	const char *what;
	struct move_plan plan;
	enum left left;
	enum doubt doubt;
};

#define TRIES 20

static void assert_cell(const struct cell *cell)
{
	struct move_rig *rig = move_rig_run(&cell->plan);

	/* Where people cancel, a move may be too far by the time that they have read of the phase. */
	for (int i = 0; i < TRIES && cell->plan.cancels && !rig->faulted; i++) {
		move_rig_free(rig);
		rig = move_rig_run(&cell->plan);
	}
	if (cell->doubt != EITHER &&
	    (rig->source.end == MOVE_END_IN_DOUBT) != (cell->doubt == DOUBT))
		fail_msg("%s: the source ended %d (%s), the destination %d (%s)", cell->what,
			 (int)rig->source.end, rig->source.err.message, (int)rig->destination.end,
			 rig->destination.err.message);
	if (cell->plan.fault != WIRE_WHOLE && !rig->faulted)
		fail_msg("%s: did not happen", cell->what);
	if (rig->source.end != MOVE_END_RAN && !rig->source.err.message[0])
		fail_msg("%s: no reason was told", cell->what);
	print_message("%s: %s\n", cell->what,
		      rig->source.end == MOVE_END_RAN ? "ran" : rig->source.err.message);
	move_rig_assert_one(rig, cell->left == GOES);
	move_rig_free(rig);
}

static void assert_cells(const struct cell *cells, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_cell(&cells[i]);
}

#define FAULT(fault_, kind, left_, doubt_)                                                         \
	{                                                                                          \
		.what = #fault_ " at " #kind, .plan = { .fault = fault_, .at = kind },             \
		.left = left_, .doubt = doubt_                                                     \
	}

#define FLIP(kind, left_, doubt_, ...)                                                             \
	{                                                                                          \
		.what = "WIRE_FLIP at " #kind " " #__VA_ARGS__,                                    \
		.plan = { .fault = WIRE_FLIP, .at = kind, __VA_ARGS__ }, .left = left_,            \
		.doubt = doubt_                                                                    \
	}

/* The wire is cut before a frame, or the other side dies before it sends it, which looks the same. */
static void a_cut_wire_leaves_one(void **state _unused_)
{
	static const struct cell cells[] = {
		FAULT(WIRE_CUT, MOVE_HELLO, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_MACHINE, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_REHEARSE, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_REHEARSED, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_SUMMED, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_ROUND, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_ROUND_DONE, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_SOON, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_STATE, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_STOOD, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_READY, STAYS, SURE),
		FAULT(WIRE_CUT, MOVE_COMMIT, STAYS, DOUBT),
		FAULT(WIRE_AFTER, MOVE_COMMIT, GOES, DOUBT),
		FAULT(WIRE_CUT, MOVE_ANSWER_RAN, GOES, DOUBT),
		FAULT(WIRE_AFTER, MOVE_ANSWER_RAN, GOES, SURE),
		FAULT(WIRE_CUT, MOVE_VERIFIED, GOES, SURE),
	};

	assert_cells(cells, ARRAY_SIZE(cells));
}

/* Every kind that is sent: TLS has a test of its own. */
static void a_flipped_bit_leaves_one(void **state _unused_)
{
	static const struct cell cells[] = {
		FAULT(WIRE_FLIP, MOVE_HELLO, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_MACHINE, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_REHEARSE, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_REHEARSED, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_ROUND, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_ROUND_DONE, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_SOON, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_STATE, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_STOOD, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_READY, STAYS, SURE),
		FAULT(WIRE_FLIP, MOVE_COMMIT, STAYS, DOUBT),
		FAULT(WIRE_FLIP, MOVE_ANSWER_RAN, GOES, DOUBT),
		FAULT(WIRE_FLIP, MOVE_VERIFIED, GOES, SURE),
		FLIP(MOVE_SUMMED, STAYS, SURE, .guest_rests = true),
		FLIP(MOVE_SUMMED, STAYS, SURE, .byte = 1), /* the number of the first page */
		FLIP(MOVE_SUMMED, STAYS, SURE, .byte = 9), /* its sum */
		FLIP(MOVE_ZEROES, STAYS, SURE, .guest_works = true),
		FLIP(MOVE_PACKED, STAYS, SURE, .compress = MOVE_COMPRESS_ON),
		FLIP(MOVE_DELTAS, STAYS, SURE, .guest_works = true, .compress = MOVE_COMPRESS_ON,
		     .downtime_ms = 1),
		FLIP(MOVE_DISK_PACKED, STAYS, SURE, .disk = true, .compress = MOVE_COMPRESS_ON),
		FLIP(MOVE_MISSING, STAYS, SURE, .postcopy = true),
		FLIP(MOVE_CANCEL, STAYS, SURE, .cancels = true, .cancel_at = PHASE_MEMORY),
		FLIP(MOVE_REFUSED, STAYS, SURE, .refuses_msr = true),
		FLIP(MOVE_ANSWER_NEVER, STAYS, DOUBT,
		     .destination_fails = "destination.commit:error"),
	};
	/* PAGES: with TLS, and to an older version. FAULT, ENDED: test_move_rest.c. The others: test_move_disks.c. */
	uint64_t flipped = 1 | 1U << MOVE_PAGES | 1U << MOVE_FAULT | 1U << MOVE_DISK |
			   1U << MOVE_DISK_HOLE | 1U << MOVE_DISK_HASH | 1U << MOVE_DISK_PASS |
			   1U << MOVE_DISK_PASSED | 1U << MOVE_ENDED;

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		flipped |= 1ULL << cells[i].plan.at;
	if (flipped != (1ULL << MOVE_FRAMES) - 1)
		fail_msg("kinds without a test: 0x%llx",
			 (unsigned long long)(flipped ^ ((1ULL << MOVE_FRAMES) - 1)));
	assert_cells(cells, ARRAY_SIZE(cells));
}

static void a_flipped_bit_under_tls_leaves_one(void **state _unused_)
{
	static const uint64_t places[] = { 100, 700, 3000, 100000, 1000000 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct move_rig *rig;

		rig = move_rig_run(&(struct move_plan){ .tls = true, .flip_at = places[i] });
		assert_true(rig->faulted);
		assert_int_equal(rig->source.end, MOVE_END_FAILED);
		move_rig_assert_one(rig, false);
		move_rig_free(rig);
	}
}

static void another_key_is_another_move(void **state _unused_)
{
	struct move_rig *rig;

	rig = move_rig_run(&(struct move_plan){ .tls = true, .same_keys_not = true });
	assert_int_equal(rig->source.end, MOVE_END_FAILED);
	move_rig_assert_one(rig, false);
	move_rig_free(rig);
}

static void a_move_can_be_cancelled_at_every_phase(void **state _unused_)
{
	static const struct {
		enum handover_phase at;
		bool there;
	} when[] = {
		{ PHASE_CHECK },	  { PHASE_RESERVE },	  { PHASE_REHEARSE },
		{ PHASE_DISKS },	  { PHASE_MEMORY },	  { PHASE_STOP },
		{ PHASE_STATE },	  { PHASE_COMMIT },	  { PHASE_RESERVE, true },
		{ PHASE_REHEARSE, true }, { PHASE_MEMORY, true }, { PHASE_STATE, true },
		{ PHASE_COMMIT, true },	  { PHASE_VERIFY, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(when); i++) {
		struct move_rig *rig;

		rig = move_rig_run(&(struct move_plan){ .cancel_at = when[i].at,
							.cancels = !when[i].there,
							.cancels_there = when[i].there });
		print_message("cancel at %s: %d %s\n", handover_phase_name(when[i].at),
			      (int)rig->source.end, rig->source.err.message);
		/* Late is late: whoever was asked in time obeys, else it has moved. */
		assert_true(rig->source.end == MOVE_END_RAN ||
			    rig->source.end == MOVE_END_CANCELLED ||
			    rig->source.end == MOVE_END_FAILED || rig->settled);
		if (when[i].at < PHASE_MEMORY)
			assert_int_not_equal(rig->source.end, MOVE_END_RAN);
		move_rig_assert_one(rig, rig->destination.end == MOVE_END_RAN);
		move_rig_free(rig);
	}
}

/* And the reason is told here, by its name. */
static void assert_refused(const struct move_plan *plan, const char *reason)
{
	struct move_rig *rig = move_rig_run(plan);

	assert_int_equal(rig->source.end, MOVE_END_REFUSED);
	if (!strstr(rig->source.err.message, reason))
		fail_msg("'%s' does not name %s", rig->source.err.message, reason);
	assert_false(rig->source.phases & 1U << PHASE_STOP);
	move_rig_assert_one(rig, false);
	move_rig_free(rig);
}

static void a_refused_rehearsal_stops_nothing(void **state _unused_)
{
	assert_refused(&(struct move_plan){ .refuses_msr = true }, "0xc0000082");
}

/* Verified before the guest stops: what was set is read back. */
static void a_kvm_that_forgets_stops_nothing(void **state _unused_)
{
	assert_refused(&(struct move_plan){ .forgets_msr = true }, "LSTAR reads back otherwise");
}

/* A VM's process may be of another version than the movers and than the VM's process at the other host. */
static void versions_before_move_both_ways(void **state _unused_)
{
	static const uint16_t before[2] = { VM_STATE_VERSION - 1, VM_STATE_VERSION - 1 },
			      later[2] = { VM_STATE_VERSION, VM_STATE_VERSION + 1 };

	assert_moved(&(struct move_plan){ .destination_states = before });
	assert_moved(&(struct move_plan){ .source_states = before });
	assert_moved(&(struct move_plan){ .destination_states = later, .n_streams = 4 });
}

/* ---- a VM that its user paused ---- */

/* Neither runs before its user says so, and then one does. */
static void assert_paused(struct move_rig *rig, bool at_destination)
{
	assert_false(near_vm_runs(&rig->from, false) || near_vm_runs(&rig->to, false));
	near_vm_resume(at_destination ? &rig->to : &rig->from);
	move_rig_assert_one(rig, at_destination);
}

static void assert_moved_paused(const struct move_plan *plan)
{
	struct move_rig *rig = move_rig_run(plan);

	if (rig->source.end != MOVE_END_RAN || rig->destination.end != MOVE_END_RAN)
		fail_msg("%s; %s", rig->source.err.message, rig->destination.err.message);
	assert_int_equal(__atomic_load_n(&rig->to.guest.first_ns, __ATOMIC_ACQUIRE), 0);
	assert_paused(rig, true);
	move_rig_free(rig);
}

static void pause_source(struct move_rig *rig)
{
	assert_true(near_vm_runs(&rig->from, true));
	near_vm_pause(&rig->from);
}

static void a_paused_vm_moves_and_stays_paused(void **state _unused_)
{
	assert_moved_paused(&(struct move_plan){ .paused = true });
	assert_moved_paused(&(struct move_plan){ .paused = true, .tls = true, .n_streams = 4 });
	assert_moved_paused(&(struct move_plan){
		.fault = WIRE_LATE, .at = MOVE_REHEARSED, .hook = pause_source });
}

static void a_paused_vm_that_does_not_go_stays_paused(void **state _unused_)
{
	static const uint16_t before[2] = { VM_STATE_PAUSED_SINCE - 1, VM_STATE_PAUSED_SINCE - 1 };
	const struct move_plan plans[] = {
		{ .paused = true, .destination_states = before },
		{ .fault = WIRE_LATE,
		  .at = MOVE_REHEARSED,
		  .hook = pause_source,
		  .destination_states = before },
		{ .paused = true,
		  .cancels = true,
		  .cancel_at = PHASE_MEMORY,
		  .max_bandwidth = MIB(1) },
		{ .paused = true, .fault = WIRE_CUT, .at = MOVE_STATE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(plans); i++) {
		struct move_rig *rig = move_rig_run(&plans[i]);

		print_message("%s\n", rig->source.err.message);
		assert_int_not_equal(rig->source.end, MOVE_END_RAN);
		assert_true(!plans[i].destination_states ||
			    strstr(rig->source.err.message, "is paused"));
		assert_paused(rig, false);
		move_rig_free(rig);
	}
}

/* Before anything was begun. */
static void versions_too_far_apart_are_refused_by_name(void **state _unused_)
{
	static const uint16_t old[2] = { 1, 1 }, later[2] = { VM_STATE_VERSION + 1, 32 };
	const struct move_plan plans[] = {
		{ .source_states = old, .destination_states = later },
		{ .destination_states = later },
		{ .source_states = later },
	};
	static const char *const said[] = { "versions 1 to 1 of it, the destination's 4 to 32",
					    "versions 1 to 3 of it, the destination's 4 to 32",
					    "versions 4 to 32 of it, the destination's 1 to 3" };

	for (size_t i = 0; i < ARRAY_SIZE(plans); i++) {
		struct move_rig *rig = move_rig_run(&plans[i]);

		print_message("%s\n%s\n", rig->source.err.message, rig->destination.err.message);
		assert_int_equal(rig->source.end, MOVE_END_REFUSED);
		assert_non_null(strstr(rig->source.err.message, said[i]));
		assert_false(rig->source.phases & 1U << PHASE_REHEARSE);
		move_rig_assert_one(rig, false);
		move_rig_free(rig);
	}
}

static void a_stale_generation_is_refused(void **state _unused_)
{
	struct move_rig *rig;

	rig = move_rig_run(&(struct move_plan){ .generation = 7, .known = 7 });
	assert_int_not_equal(rig->source.end, MOVE_END_RAN);
	move_rig_assert_one(rig, false);
	move_rig_free(rig);
}

/* The destination's daemon closed the token before the commit came. */
static void say_never(struct move_rig *rig)
{
	(void)!mark_take(rig->taken_mark, MARK_NEVER);
}

static void never_brings_the_guest_back(void **state _unused_)
{
	static const struct cell cells[] = {
		{ "never",
		  { .fault = WIRE_LATE, .at = MOVE_COMMIT, .hook = say_never },
		  STAYS,
		  SURE },
	};

	assert_cells(cells, ARRAY_SIZE(cells));
}

/* The VM's process did as it was told, and its answer was lost. */
static void a_lost_answer_of_a_vm_is_settled(void **state _unused_)
{
	static const struct cell cells[] = {
		{ "given, unanswered", { .source_deaf = "given" }, STAYS, DOUBT },
		{ "ran, unanswered", { .destination_deaf = "commit" }, GOES, SURE },
	};

	assert_cells(cells, ARRAY_SIZE(cells));
}

/* What an error at each place leaves: before "given" the guest stays. */
static void an_error_at_every_place_leaves_one(void **state _unused_)
{
	static const struct {
		enum failpoint_name from;
		enum left left;
		enum doubt doubt;
	} from[] = {
		/* from this place on, until the next row's */
		{ FAILPOINT_SOURCE_START, STAYS, SURE },
		{ FAILPOINT_SOURCE_GIVEN, STAYS, DOUBT },
		{ FAILPOINT_SOURCE_COMMIT, GOES, DOUBT },
		{ FAILPOINT_SOURCE_SETTLED, GOES, SURE },
		{ FAILPOINT_DESTINATION_START, STAYS, SURE },
		{ FAILPOINT_DESTINATION_READY, STAYS,
		  EITHER }, /* the source may have given by then */
		{ FAILPOINT_DESTINATION_COMMIT, STAYS, SURE },
		{ FAILPOINT_DESTINATION_RAN, GOES, DOUBT },
		{ FAILPOINT_DESTINATION_ANSWERED, GOES, SURE },
	};
	size_t row = 0;

	for (int i = 0; i < FAILPOINTS_N; i++) {
		const char *name = failpoint_text((enum failpoint_name)i);
		char text[FAILPOINT_TEXT_MAX];
		struct cell cell = { .what = text };

		while (row + 1 < ARRAY_SIZE(from) && (int)from[row + 1].from <= i)
			row++;
		snprintf(text, sizeof(text), "%s:error", name);
		if (i < FAILPOINT_DESTINATION_START)
			cell.plan.source_fails = text;
		else
			cell.plan.destination_fails = text;
		cell.left = from[row].left;
		cell.doubt = from[row].doubt;
		assert_cell(&cell);
	}
}

/* An argument is a pattern: which of them. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_moves),
		cmocka_unit_test(what_a_wire_holds_back_counts_as_standing_still),
		cmocka_unit_test(it_moves_over_four_streams),
		cmocka_unit_test(it_moves_over_tls),
		cmocka_unit_test(it_moves_over_tcp),
		cmocka_unit_test(confined_movers_move_it),
		cmocka_unit_test(a_guest_that_rests_moves),
		cmocka_unit_test(every_place_is_reached),
		cmocka_unit_test(a_cut_wire_leaves_one),
		cmocka_unit_test(a_flipped_bit_leaves_one),
		cmocka_unit_test(a_flipped_bit_under_tls_leaves_one),
		cmocka_unit_test(another_key_is_another_move),
		cmocka_unit_test(a_move_can_be_cancelled_at_every_phase),
		cmocka_unit_test(a_refused_rehearsal_stops_nothing),
		cmocka_unit_test(a_kvm_that_forgets_stops_nothing),
		cmocka_unit_test(versions_before_move_both_ways),
		cmocka_unit_test(a_paused_vm_moves_and_stays_paused),
		cmocka_unit_test(a_paused_vm_that_does_not_go_stays_paused),
		cmocka_unit_test(versions_too_far_apart_are_refused_by_name),
		cmocka_unit_test(a_stale_generation_is_refused),
		cmocka_unit_test(never_brings_the_guest_back),
		cmocka_unit_test(a_lost_answer_of_a_vm_is_settled),
		cmocka_unit_test(an_error_at_every_place_leaves_one),
	};

	sandbox_before_threads();
	json_object_seed(0); /* from a file, which no sandbox lets it open later */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
