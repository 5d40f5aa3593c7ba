/* SPDX-License-Identifier: Apache-2.0 */

/* The VM's part at the source once it is given: it stands still until its fate is told, and then runs here again or ends. */

#include "source_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "move/guest/internal.h"

static void come_to_given(struct source_rig *f)
{
	source_come_to_stopped(f);
	assert_int_equal(source_give(f), 0);
}

static void test_given_is_marked_and_lets_the_disk_go(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	come_to_given(&f);
	assert_int_equal(source_mark_result(&f), MARK_OPEN);
	assert_true(guest_place_disk_is_free(&f.place));
	assert_string_equal(move_guest_mark(f.rig.guest)->peer, "host-b");
	assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), -EINVAL);
	source_unmake(&f);
}

/* No timeout, no end of a connection, and nobody's wish brings it back. */
static void test_given_stands_until_it_is_told(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	come_to_given(&f);
	move_guest_forget(f.rig.guest, source_mover);
	assert_int_equal(vm_resume(f.rig.vm), -EBUSY);
	assert_int_equal(vm_pause(f.rig.vm), -EBUSY);
	guest_rig_turn_for(&f.rig, 50);
	assert_int_equal(move_guest_stage(f.rig.guest), MOVE_GIVEN);
	assert_true(guest_rig_stands(&f.rig));
	assert_int_equal(source_begin(&f), -EBUSY);
	assert_non_null(strstr(f.err.message, "utsusu resolve db"));
	source_unmake(&f);
}

static void test_never_brings_it_back(void **state _unused_)
{
	static const uint8_t wrong[MOVE_TOKEN_BYTES] = { 2 };
	struct source_rig f;

	source_make(&f, NULL);
	guest_rig_drive(&f.rig);
	come_to_given(&f);
	move_guest_forget(f.rig.guest, source_mover);
	assert_int_equal(move_guest_never(f.rig.guest, wrong, &f.err), -ESRCH);
	assert_true(guest_rig_stands(&f.rig));
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), 0);
	assert_int_equal(source_mark_result(&f), MARK_NEVER);
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), 0); /* told twice */
	source_assert_undone(&f);
	guest_rig_write(&f.rig, 0);
	guest_rig_wait_answer(&f.rig);
	source_unmake(&f);
}

static void test_never_brings_it_back_as_it_was(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_stop(&f, 5000), 0);
	assert_int_equal(source_give(&f), 0);
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), 0);
	assert_int_equal(f.rig.vm->status, VM_PAUSED);
	assert_true(guest_rig_stands(&f.rig));
	assert_int_equal(vm_resume(f.rig.vm), 0);
	assert_true(guest_rig_runs(&f.rig));
	source_unmake(&f);
}

static void test_never_waits_for_the_disk(void **state _unused_)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct source_rig f;
	int fd;

	source_make(&f, NULL);
	come_to_given(&f);
	fd = open(f.place.disk, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), -EBUSY);
	assert_true(guest_rig_stands(&f.rig));
	assert_int_equal(source_mark_result(&f), MARK_OPEN);
	fd_close(fd);
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), 0);
	assert_true(guest_rig_runs(&f.rig));
	source_unmake(&f);
}

static void test_ran_ends_the_process(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	come_to_given(&f);
	move_guest_forget(f.rig.guest, source_mover);
	assert_int_equal(move_guest_ran(f.rig.guest, GUEST_TOKEN, "host-b", &f.err), 0);
	assert_int_equal(f.rig.overs, 0); /* first the answer */
	assert_int_equal(move_guest_ran(f.rig.guest, GUEST_TOKEN, "host-b", &f.err), 0);
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), -ESRCH);
	guest_rig_turn_until(&f.rig, &f.rig.overs, 1);
	assert_int_equal(f.rig.exit, MOVE_EXIT_LEFT);
	assert_string_equal(f.rig.why, "moved to host-b");
	assert_int_equal(source_mark_result(&f), MARK_RAN);
	source_unmake(&f);
}

static void test_neither_is_for_a_vm_that_was_not_given(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	source_come_to_stopped(&f);
	assert_int_equal(move_guest_never(f.rig.guest, GUEST_TOKEN, &f.err), -ESRCH);
	assert_int_equal(move_guest_ran(f.rig.guest, GUEST_TOKEN, "host-b", &f.err), -ESRCH);
	source_unmake(&f);
}

static void test_without_its_mark_nothing_is_given(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(source_begin_with(&f, source_mover, dup(f.shared.fd),
					   open(f.place.given, O_RDONLY)),
			 0);
	assert_int_equal(source_stop(&f, 5000), 0);
	assert_true(source_give(&f) < 0);
	assert_non_null(strstr(f.err.message, "mark"));
	assert_int_equal(move_guest_stage(f.rig.guest), MOVE_STOPPED);
	assert_false(guest_place_disk_is_free(&f.place));
	assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), 0);
	source_assert_undone(&f);
	source_unmake(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given_is_marked_and_lets_the_disk_go),
		cmocka_unit_test(test_given_stands_until_it_is_told),
		cmocka_unit_test(test_never_brings_it_back),
		cmocka_unit_test(test_never_brings_it_back_as_it_was),
		cmocka_unit_test(test_never_waits_for_the_disk),
		cmocka_unit_test(test_ran_ends_the_process),
		cmocka_unit_test(test_neither_is_for_a_vm_that_was_not_given),
		cmocka_unit_test(test_without_its_mark_nothing_is_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
