/* SPDX-License-Identifier: Apache-2.0 */

/* Whole moves of a VM with a disk that is copied, in one process: the guest writes to it from beginning to end. */

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

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

static void assert_moved(const struct move_plan *plan)
{
	struct move_rig *rig = move_rig_run(plan);

	if (rig->source.end != MOVE_END_RAN || rig->destination.end != MOVE_END_RAN)
		fail_msg("the source ended %d (%s), the destination %d (%s)", (int)rig->source.end,
			 rig->source.err.message, (int)rig->destination.end,
			 rig->destination.err.message);
	move_rig_assert_one(rig, true);
	move_rig_assert_disk(rig);
	move_rig_assert_equal(rig);
	print_message("%u streams%s: down %llu us, total %llu us, %llu KiB of disks\n",
		      rig->source.job.n_streams, plan->tls ? ", TLS" : "",
		      (unsigned long long)rig->source.numbers.down_ns / 1000,
		      (unsigned long long)rig->source.numbers.total_ns / 1000,
		      (unsigned long long)rig->source.numbers.disk_bytes / 1024);
	move_rig_free(rig);
}

static void a_disk_moves_while_it_is_written(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .disk = true });
}

static void it_moves_over_four_streams(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .disk = true, .n_streams = 4 });
}

static void it_moves_over_tls(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .disk = true, .n_streams = 2, .tls = true });
}

static void confined_movers_move_it(void **state _unused_)
{
	if (SANITIZED) /* its runtime makes calls that the filter forbids */
		skip();
	assert_moved(
		&(struct move_plan){ .disk = true, .confined = true, .tcp = true, .n_streams = 2 });
	assert_moved(&(struct move_plan){
		.disk = true, .confined = true, .tcp = true, .tls = true, .n_streams = 2 });
}

static void leave_empty(int fd _unused_)
{
}

static void an_empty_disk_moves(void **state _unused_)
{
	assert_moved(&(struct move_plan){
		.disk = true, .guest_rests = true, .fill_disk = leave_empty, .n_streams = 2 });
	assert_moved(&(struct move_plan){
		.disk = true, .guest_rests = true, .fill_disk = leave_empty, .disk_bytes = 512 });
}

static void fill_all(int fd)
{
	uint8_t bytes[4096];

	for (off_t at = 0; at < (off_t)MIB(4); at += (off_t)sizeof(bytes)) {
		memset(bytes, 1 + (int)(at / 4096 % 200), sizeof(bytes));
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), at), sizeof(bytes));
	}
}

static void a_full_disk_moves(void **state _unused_)
{
	assert_moved(&(struct move_plan){
		.disk = true, .fill_disk = fill_all, .disk_bytes = MIB(4), .n_streams = 3 });
}

static void the_bandwidth_has_a_bound(void **state _unused_)
{
	assert_moved(&(struct move_plan){ .disk = true,
					  .guest_rests = true,
					  .fill_disk = fill_all,
					  .disk_bytes = MIB(4),
					  .max_bandwidth = MIB(32) });
}

/* ---- faults ---- */

struct cell {
	const char *what;
	struct move_plan plan;
};

/* All before the commit: the VM stays, and its disk with it. */
static void assert_stays(const struct cell *cell)
{
	struct move_rig *rig = move_rig_run(&cell->plan);

	if (cell->plan.fault != WIRE_WHOLE && !rig->faulted)
		fail_msg("%s: did not happen", cell->what);
	if (rig->source.end == MOVE_END_RAN || rig->source.end == MOVE_END_IN_DOUBT ||
	    !rig->source.err.message[0])
		fail_msg("%s: the source ended %d (%s)", cell->what, (int)rig->source.end,
			 rig->source.err.message);
	print_message("%s: %s\n", cell->what, rig->source.err.message);
	move_rig_assert_one(rig, false);
	move_rig_free(rig);
}

#define WIRE(fault_, kind)                                                                         \
	{                                                                                          \
		.what = #fault_ " at " #kind,                                                      \
		.plan = { .disk = true, .n_streams = 2, .fault = fault_, .at = kind },             \
	}

static void a_wire_that_fails_leaves_it(void **state _unused_)
{
	static const struct cell cells[] = {
		WIRE(WIRE_CUT, MOVE_DISK),	 WIRE(WIRE_CUT, MOVE_DISK_HOLE),
		WIRE(WIRE_CUT, MOVE_DISK_PASS),	 WIRE(WIRE_CUT, MOVE_DISK_PASSED),
		WIRE(WIRE_CUT, MOVE_DISK_HASH),	 WIRE(WIRE_AFTER, MOVE_DISK_PASS),
		WIRE(WIRE_FLIP, MOVE_DISK),	 WIRE(WIRE_FLIP, MOVE_DISK_HOLE),
		WIRE(WIRE_FLIP, MOVE_DISK_PASS), WIRE(WIRE_FLIP, MOVE_DISK_PASSED),
		WIRE(WIRE_FLIP, MOVE_DISK_HASH),
	};

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		assert_stays(&cells[i]);
}

static void a_mover_that_fails_leaves_it(void **state _unused_)
{
	static const struct cell cells[] = {
		{ "source", { .disk = true, .source_fails = "source.disks:error" } },
		{ "source, pass 2", { .disk = true, .source_fails = "source.disks:error:2" } },
		{ "destination", { .disk = true, .destination_fails = "destination.disks:error" } },
		{ "destination, pass 2",
		  { .disk = true, .destination_fails = "destination.disks:error:2" } },
		{ "cancelled", { .disk = true, .cancels = true, .cancel_at = PHASE_DISKS } },
		{ "cancelled there",
		  { .disk = true, .cancels_there = true, .cancel_at = PHASE_DISKS } },
		{ "the log is not begun", { .disk = true, .source_deaf = "log-disk" } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		assert_stays(&cells[i]);
}

/* As a disk does that is broken, or a second program that writes to it. */
static void change_a_byte(struct move_rig *rig)
{
	int fd = open(rig->disk_to, O_RDWR | O_CLOEXEC);
	const uint8_t other = 0xee;

	(void)!pwrite(fd, &other, 1, 100);
	close(fd);
}

/* The first pass is over on the source's side: its first part was written there long ago. */
static void a_disk_that_changes_what_it_holds_is_refused(void **state _unused_)
{
	const struct cell cell = {
		"a changed byte",
		{ .disk = true,
		  .guest_rests = true,
		  .fill_disk = fill_all,
		  .disk_bytes = MIB(4),
		  .fault = WIRE_LATE,
		  .at = MOVE_DISK_PASS,
		  .hook = change_a_byte },
	};

	assert_stays(&cell);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_moves_while_it_is_written),
		cmocka_unit_test(it_moves_over_four_streams),
		cmocka_unit_test(it_moves_over_tls),
		cmocka_unit_test(confined_movers_move_it),
		cmocka_unit_test(an_empty_disk_moves),
		cmocka_unit_test(a_full_disk_moves),
		cmocka_unit_test(the_bandwidth_has_a_bound),
		cmocka_unit_test(a_wire_that_fails_leaves_it),
		cmocka_unit_test(a_mover_that_fails_leaves_it),
		cmocka_unit_test(a_disk_that_changes_what_it_holds_is_refused),
	};

	sandbox_before_threads();
	json_object_seed(0); /* from a file, which no sandbox lets it open later */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
