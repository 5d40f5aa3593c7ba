/* SPDX-License-Identifier: Apache-2.0 */

/* The VM's part where it arrives, beside the source in one process: it stands until its token's one result is `ran`, and is a VM like
 * any other from then on. */

#include "guest_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "vm/memory_map.h"

struct fixture {
	struct guest_place place;
	struct guest_rig from, to;
	struct move_shared from_shared, to_shared; /* the movers' */
	struct error err;
};

static const char mover[] = "mover", other[] = "other";

static void make_to(struct fixture *f, const struct clock *clock)
{
	const struct guest_options arriving = { .arriving = true, .clock = clock };

	guest_rig_make(&f->to, &f->place, &arriving);
}

static void make(struct fixture *f)
{
	const struct guest_options plain = { 0 };

	memset(f, 0, sizeof(*f));
	guest_place_make(&f->place);
	guest_rig_make(&f->from, &f->place, &plain);
	make_to(f, NULL);
	assert_int_equal(move_shared_make(GUEST_RIG_RAM, &f->from_shared), 0);
	assert_int_equal(move_shared_make(GUEST_RIG_RAM, &f->to_shared), 0);
}

static void unmake(struct fixture *f)
{
	guest_rig_free(&f->from);
	guest_rig_free(&f->to);
	move_shared_release(&f->from_shared);
	move_shared_release(&f->to_shared);
	guest_place_remove(&f->place);
}

/* Some state for the other side: the VM stands, or runs on. */
static uint64_t save(struct fixture *f, bool stopped)
{
	_cleanup_(freep) void *copy = NULL;
	uint64_t len;

	if (move_guest_stage(f->from.guest) == MOVE_IDLE)
		assert_int_equal(move_guest_begin(f->from.guest, mover, GUEST_TOKEN,
						  dup(f->from_shared.fd),
						  guest_place_given(&f->place), &f->err),
				 0);
	if (stopped) {
		assert_int_equal(move_guest_stop(f->from.guest, mover, 5000, &f->err), 0);
		guest_rig_turn_until(&f->from, &f->from.stops, 1);
		assert_int_equal(f->from.stop_error.code, 0);
		vmachine_copy_memory(&f->to.machine, &f->from.machine);
	}
	if (move_guest_save(f->from.guest, mover, 0, &len, &f->err) < 0)
		fail_msg("%s", f->err.message);
	copy = malloc(len);
	assert_int_equal(fd_read_at(f->from_shared.fd, copy, len, f->from_shared.state_at), 0);
	assert_int_equal(fd_write_at(f->to_shared.fd, copy, len, f->to_shared.state_at), 0);
	return len;
}

static int arrive(struct fixture *f, const void *owner)
{
	f->err = (struct error){ 0 };
	return move_guest_arrive(f->to.guest, owner, GUEST_TOKEN, dup(f->to_shared.fd),
				 guest_place_taken(&f->place), &f->err);
}

static int load(struct fixture *f, uint64_t len, bool rehearse)
{
	f->err = (struct error){ 0 };
	return move_guest_load(f->to.guest, mover, len, 1000, rehearse, &f->err);
}

static int commit(struct fixture *f, bool *ret_ran)
{
	f->err = (struct error){ 0 };
	return move_guest_commit(f->to.guest, mover, ret_ran, &f->err);
}

static int give(struct fixture *f)
{
	return move_guest_given(f->from.guest, mover, "host-b", 7, &f->err);
}

/* Everything but the commit. */
static void come_to_ready(struct fixture *f)
{
	uint64_t len;

	make(f);
	assert_int_equal(arrive(f, mover), 0);
	len = save(f, true);
	if (load(f, len, false) < 0)
		fail_msg("%s", f->err.message);
}

static int taken_of(const struct fixture *f)
{
	_cleanup_(fd_closep) int fd = open(f->place.taken, O_RDONLY | O_CLOEXEC);
	uint8_t token[MARK_TOKEN_BYTES];
	char text[MARK_TAKEN_BYTES];
	enum mark_result result;
	int r = fd_read_at(fd, text, sizeof(text), 0);

	if (r == 0)
		r = mark_taken_decode(text, sizeof(text), token, &result);
	return r < 0 ? r : (int)result;
}

static void test_a_vm_goes_over_and_goes_on(void **state _unused_)
{
	struct fixture f;
	bool ran = false;

	come_to_ready(&f);
	assert_true(guest_rig_stands(&f.from) && guest_rig_stands(&f.to));
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_true(ran);
	assert_int_equal(f.to.arrivals, 1);
	assert_int_equal(taken_of(&f), MARK_RAN);
	assert_true(guest_rig_runs(&f.to));
	assert_true(guest_rig_stands(&f.from));
	assert_false(guest_place_disk_is_free(&f.place));
	/* Its mover has nothing to do any more. */
	move_guest_forget(f.to.guest, mover);
	guest_rig_turn_for(&f.to, 20);
	assert_int_equal(f.to.overs, 0);
	assert_true(guest_rig_runs(&f.to));
	unmake(&f);
}

/* Also a rehearsal before the pause makes no difference. */
static void test_a_paused_vm_goes_over_and_stays_paused(void **state _unused_)
{
	struct fixture f;
	uint64_t len;
	bool ran = false;

	make(&f);
	assert_int_equal(arrive(&f, mover), 0);
	len = save(&f, false);
	assert_int_equal(load(&f, len, true), 0);
	assert_int_equal(vm_pause(f.from.vm), 0);
	len = save(&f, true);
	assert_int_equal(load(&f, len, false), 0);
	assert_int_equal(vm_resume(f.to.vm), -EBUSY); /* it is not there yet */
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_true(ran);
	assert_int_equal(f.to.arrivals, 1);
	assert_int_equal(f.to.vm->status, VM_PAUSED);
	assert_true(guest_rig_stands(&f.to) && guest_rig_stands(&f.from));
	assert_int_equal(vm_resume(f.to.vm), 0);
	assert_true(guest_rig_runs(&f.to));
	unmake(&f);
}

/* What the guest had asked of its disk and was not taken any more is done where it goes on. */
static void test_a_request_in_the_ring_is_served_there(void **state _unused_)
{
	struct fixture f;
	uint64_t len;
	bool ran = false;

	make(&f);
	guest_rig_drive(&f.from);
	assert_int_equal(arrive(&f, mover), 0);
	(void)save(&f, true);
	guest_rig_write(&f.from, 3); /* the guest's last before it stood: seen by no queue */
	len = save(&f, false);
	vmachine_copy_memory(&f.to.machine, &f.from.machine);
	assert_int_equal(load(&f, len, false), 0);
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	f.to.queue = f.from.queue;
	f.to.driver = f.from.driver;
	f.to.driver.machine = &f.to.machine;
	f.to.queue.driver = &f.to.driver;
	guest_rig_wait_answer(&f.to);
	assert_int_equal(guest_rig_answered(&f.from), 0);
	unmake(&f);
}

static void test_before_the_commit_the_disk_is_the_sources(void **state _unused_)
{
	struct fixture f;
	bool ran = false;

	come_to_ready(&f);
	/* Not given yet: nothing is taken, and nothing is marked. */
	assert_int_equal(commit(&f, &ran), -EBUSY);
	assert_non_null(strstr(f.err.message, f.place.disk));
	assert_int_equal(taken_of(&f), MARK_OPEN);
	assert_true(guest_rig_stands(&f.to));
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_true(ran);
	unmake(&f);
}

static void test_a_rehearsal_changes_nothing(void **state _unused_)
{
	struct fixture f;
	uint64_t len;
	bool ran = false;

	make(&f);
	assert_int_equal(arrive(&f, mover), 0);
	len = save(&f, false);
	for (int i = 0; i < 2; i++)
		if (load(&f, len, true) < 0)
			fail_msg("%s", f.err.message);
	assert_int_equal(commit(&f, &ran), -EINVAL);
	assert_non_null(strstr(f.err.message, "load it first"));
	len = save(&f, true);
	assert_int_equal(load(&f, len, false), 0);
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	unmake(&f);
}

static void test_a_bad_state_is_refused_and_never_runs(void **state _unused_)
{
	struct fixture f;
	uint64_t len;
	bool ran = false;

	make(&f);
	assert_int_equal(arrive(&f, mover), 0);
	assert_int_equal(load(&f, MOVE_STATE_MAX + 1, true), -EMSGSIZE);
	assert_true(load(&f, 0, true) < 0);
	assert_true(load(&f, 4096, true) < 0);
	len = save(&f, true);
	assert_true(load(&f, len - 1, false) < 0);
	assert_int_equal(load(&f, len, false), -EALREADY);
	assert_int_equal(commit(&f, &ran), -EINVAL);
	move_guest_forget(f.to.guest, mover);
	guest_rig_turn_until(&f.to, &f.to.overs, 1);
	assert_int_equal(f.to.arrivals, 0);
	unmake(&f);
}

static void test_a_token_that_says_never_is_not_run(void **state _unused_)
{
	struct fixture f;
	bool ran = true;
	int fd;

	come_to_ready(&f);
	assert_int_equal(give(&f), 0);
	fd = open(f.place.taken, O_RDWR | O_CLOEXEC);
	assert_int_equal(mark_take(fd, MARK_NEVER), MARK_NEVER);
	fd_close(fd);
	assert_int_equal(commit(&f, &ran), 0);
	assert_false(ran);
	assert_true(guest_place_disk_is_free(&f.place));
	guest_rig_turn_until(&f.to, &f.to.overs, 1);
	assert_int_equal(f.to.exit, MOVE_EXIT_ABANDONED);
	assert_int_equal(f.to.arrivals, 0);
	assert_int_equal(move_guest_never(f.from.guest, GUEST_TOKEN, &f.err), 0);
	assert_true(guest_rig_runs(&f.from));
	unmake(&f);
}

static void test_a_mover_that_goes_before_the_commit_ends_it(void **state _unused_)
{
	for (int stage = 0; stage < 3; stage++) {
		struct fixture f;
		uint64_t len;

		make(&f);
		assert_int_equal(arrive(&f, mover), 0);
		len = save(&f, stage > 1);
		if (stage)
			assert_int_equal(load(&f, len, stage == 1), 0);
		move_guest_forget(f.to.guest, other);
		guest_rig_turn_for(&f.to, 10);
		assert_int_equal(f.to.overs, 0);
		move_guest_forget(f.to.guest, mover);
		guest_rig_turn_until(&f.to, &f.to.overs, 1);
		assert_int_equal(f.to.exit, MOVE_EXIT_ABANDONED);
		assert_int_equal(taken_of(&f), MARK_OPEN);
		assert_int_equal(f.to.arrivals, 0);
		assert_int_equal(guest_rig_exits(&f.to), 0);
		/* As if nothing had been. */
		move_guest_forget(f.from.guest, mover);
		assert_true(guest_rig_runs(&f.from));
		unmake(&f);
	}
}

/* Nobody knows whether `ran` is on the disk: neither ended nor run by a guess, it asks until it knows. */
static void test_a_mark_that_does_not_answer_is_asked_again(void **state _unused_)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct fixture f;
	bool ran = false;
	int fd;

	come_to_ready(&f);
	assert_int_equal(give(&f), 0);
	fd = open(f.place.taken, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(commit(&f, &ran), -EBUSY);
	assert_true(guest_rig_stands(&f.to));
	move_guest_forget(f.to.guest, mover);
	guest_rig_turn_for(&f.to, 100);
	assert_int_equal(f.to.overs, 0);
	assert_int_equal(f.to.arrivals, 0);
	fd_close(fd);
	guest_rig_turn_until(&f.to, &f.to.arrivals, 1);
	assert_int_equal(taken_of(&f), MARK_RAN);
	assert_true(guest_rig_runs(&f.to));
	unmake(&f);
}

static void test_there_is_one_mover(void **state _unused_)
{
	struct fixture f;
	bool ran = false;

	make(&f);
	assert_int_equal(load(&f, 1, true), -ESRCH);
	assert_int_equal(arrive(&f, mover), 0);
	assert_int_equal(arrive(&f, other), -EBUSY);
	assert_int_equal(arrive(&f, mover), -EBUSY);
	assert_int_equal(move_guest_commit(f.to.guest, other, &ran, &f.err), -EBUSY);
	/* A VM that runs is not made to be loaded. */
	f.err = (struct error){ 0 };
	assert_int_equal(move_guest_arrive(f.from.guest, mover, GUEST_TOKEN, dup(f.to_shared.fd),
					   -1, &f.err),
			 -EBUSY);
	/* And one that arrives is not moved on. */
	f.err = (struct error){ 0 };
	assert_true(move_guest_begin(f.to.guest, mover, GUEST_TOKEN, dup(f.to_shared.fd), -1,
				     &f.err) < 0);
	assert_int_equal(move_guest_stage(f.to.guest), MOVE_ARRIVING);
	unmake(&f);
}

static void test_a_hostile_shared_file_is_refused(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(move_guest_arrive(f.to.guest, mover, GUEST_TOKEN,
					   open(f.place.disk, O_RDWR), -1, &f.err),
			 -EINVAL);
	assert_int_equal(arrive(&f, mover), 0);
	unmake(&f);
}

/* Its mover's daemon died before it had one. */
/* Whoever started it knows that its mover died; it ends by that word only while no mover has it and it cannot have run. */
static void test_one_that_waits_is_told_that_nobody_comes(void **state _unused_)
{
	struct error err = { 0 };
	struct fixture f;
	bool ran = false;

	come_to_ready(&f);
	assert_int_equal(move_guest_abandon(f.to.guest, &err), -EBUSY);
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_true(ran);
	assert_int_equal(move_guest_abandon(f.to.guest, &err), -ESRCH);
	guest_rig_turn_for(&f.to, 20);
	assert_int_equal(f.to.overs, 0);
	assert_true(guest_rig_runs(&f.to));
	unmake(&f);
}

static void test_one_that_waits_ends_when_told(void **state _unused_)
{
	struct fake_clock clock;
	struct error err = { 0 };
	struct fixture f;

	memset(&f, 0, sizeof(f));
	fake_clock_init(&clock, NSEC_PER_SEC, 0);
	guest_place_make(&f.place);
	make_to(&f, &clock.clock);
	assert_int_equal(move_guest_abandon(f.to.guest, &err), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(f.to.loop, 0), 0);
	assert_int_equal(f.to.overs, 1);
	assert_int_equal(f.to.exit, MOVE_EXIT_ABANDONED);
	guest_rig_free(&f.to);
	guest_place_remove(&f.place);
}

static void test_nobody_comes(void **state _unused_)
{
	struct fake_clock clock;
	struct fixture f;

	memset(&f, 0, sizeof(f));
	fake_clock_init(&clock, NSEC_PER_SEC, 0);
	guest_place_make(&f.place);
	make_to(&f, &clock.clock);
	fake_clock_advance(&clock, 59 * NSEC_PER_SEC);
	assert_int_equal(loop_turn(f.to.loop, 0), 0);
	assert_int_equal(f.to.overs, 0);
	fake_clock_advance(&clock, 2 * NSEC_PER_SEC);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(f.to.loop, 0), 0);
	assert_int_equal(f.to.overs, 1);
	assert_int_equal(f.to.exit, MOVE_EXIT_ABANDONED);
	guest_rig_free(&f.to);
	guest_place_remove(&f.place);
}

static void test_what_arrived_can_move_on(void **state _unused_)
{
	struct fixture f;
	bool ran = false;

	come_to_ready(&f);
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_int_equal(move_guest_begin(f.to.guest, other, GUEST_TOKEN, dup(f.to_shared.fd), -1,
					  &f.err),
			 0);
	assert_int_equal(move_guest_cancel(f.to.guest, other, &f.err), 0);
	assert_true(guest_rig_runs(&f.to));
	unmake(&f);
}

/* Its kernel is this host's file, read when the guest asks. */
static void test_what_arrived_can_be_reset(void **state _unused_)
{
	struct fixture f;
	bool ran = false;
	uint8_t id[16], after[16];

	come_to_ready(&f);
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_int_equal(memory_read(f.from.vm->memory, gpa(MAP_GENERATION_ID), id, sizeof(id)), 0);
	assert_int_equal(memory_fill(f.to.vm->memory, gpa(MAP_GENERATION_ID), 0, sizeof(id)), 0);
	assert_int_equal(vm_reset(f.to.vm), 0);
	guest_rig_turn_for(&f.to, 50);
	assert_int_equal(memory_read(f.to.vm->memory, gpa(MAP_GENERATION_ID), after, sizeof(after)),
			 0);
	assert_memory_equal(after, id, sizeof(id));
	assert_int_equal(f.to.vm->status, VM_RUNNING);
	assert_int_equal(f.to.ends, 0);
	assert_true(guest_rig_runs(&f.to));
	unmake(&f);
}

/* Without a second host (restore, upgrade) there is no mark, and nobody to ask. */
static void test_without_a_mark_the_commit_is_enough(void **state _unused_)
{
	struct fixture f;
	uint64_t len;
	bool ran = false;

	make(&f);
	assert_int_equal(move_guest_arrive(f.to.guest, mover, GUEST_TOKEN, dup(f.to_shared.fd), -1,
					   &f.err),
			 0);
	len = save(&f, true);
	assert_int_equal(load(&f, len, false), 0);
	assert_int_equal(give(&f), 0);
	assert_int_equal(commit(&f, &ran), 0);
	assert_true(ran && guest_rig_runs(&f.to));
	unmake(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_vm_goes_over_and_goes_on),
		cmocka_unit_test(test_a_paused_vm_goes_over_and_stays_paused),
		cmocka_unit_test(test_a_request_in_the_ring_is_served_there),
		cmocka_unit_test(test_before_the_commit_the_disk_is_the_sources),
		cmocka_unit_test(test_a_rehearsal_changes_nothing),
		cmocka_unit_test(test_a_bad_state_is_refused_and_never_runs),
		cmocka_unit_test(test_a_token_that_says_never_is_not_run),
		cmocka_unit_test(test_a_mover_that_goes_before_the_commit_ends_it),
		cmocka_unit_test(test_a_mark_that_does_not_answer_is_asked_again),
		cmocka_unit_test(test_there_is_one_mover),
		cmocka_unit_test(test_a_hostile_shared_file_is_refused),
		cmocka_unit_test(test_nobody_comes),
		cmocka_unit_test(test_one_that_waits_ends_when_told),
		cmocka_unit_test(test_one_that_waits_is_told_that_nobody_comes),
		cmocka_unit_test(test_what_arrived_can_move_on),
		cmocka_unit_test(test_what_arrived_can_be_reset),
		cmocka_unit_test(test_without_a_mark_the_commit_is_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
