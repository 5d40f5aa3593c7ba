/* SPDX-License-Identifier: Apache-2.0 */

/* A VM that is kept ready beside the one that it goes on for: what it acknowledges, when it claims, and that it is heard only when the record says so. */

#include "protect_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "vm/interrupts.h"

struct fixture {
	struct guest_place place;
	struct protect_rig a, b; /* owner and backup */
	bool a_is_gone;
	struct move_shared arrival; /* the guard's end, at the backup */
	struct protect_cut cut;
};

static int make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	guest_place_make(&f->place);
	protect_make(&f->a, &f->place, false);
	protect_make(&f->b, &f->place, true);
	assert_int_equal(move_shared_make(GUEST_RIG_RAM, &f->arrival), 0);
	*state = f;
	return 0;
}

static void end_owner(struct fixture *f)
{
	if (!f->a_is_gone)
		protect_unmake(&f->a);
	f->a_is_gone = true;
}

static int unmake(void **state)
{
	struct fixture *f = *state;

	end_owner(f);
	protect_unmake(&f->b);
	move_shared_release(&f->arrival);
	guest_place_remove(&f->place);
	free(f);
	return 0;
}

static int back_up(struct fixture *f)
{
	f->b.err = (struct error){ 0 };
	return protect_guest_back_up(f->b.guest, protect_guard, &PROTECT_SESSION, "a", &f->b.err);
}

static void come_to_backing_up(struct fixture *f)
{
	assert_int_equal(move_guest_arrive(f->b.rig.guest, protect_guard, GUEST_TOKEN,
					   dup(f->arrival.fd), -1, &f->b.err),
			 0);
	if (back_up(f) < 0)
		fail_msg("%s", f->b.err.message);
}

static bool has_whole(struct fixture *f, uint64_t epoch)
{
	bool ack;

	assert_int_equal(protect_guest_whole(f->b.guest, protect_guard, epoch, &ack, &f->b.err), 0);
	return ack;
}

static bool suspects(struct fixture *f)
{
	bool prepare;

	assert_int_equal(protect_guest_suspect(f->b.guest, protect_guard, "silence", &prepare,
					       &f->b.err),
			 0);
	return prepare;
}

/* By epoch 2, which is cut now. */
static void come_to_backed_up(struct fixture *f)
{
	assert_int_equal(protect_cut(&f->a, 2, &f->cut), 0);
	come_to_backing_up(f);
	f->b.record = f->a.record;
	protect_attach(&f->b);
	assert_true(has_whole(f, 2));
}

/* The owner is protected by the backup with epoch 2, which a frame of it waits for. */
static void come_to_protected(struct fixture *f)
{
	protect_drive_net(&f->a);
	protect_come_to_protected(&f->a);
	protect_send(&f->a, 8);
	come_to_backed_up(f);
}

static void claim(struct fixture *f)
{
	assert_true(suspects(f));
	protect_wait_told(&f->b, "backup-prepare");
	assert_int_equal(protect_guest_prepared(f->b.guest, protect_guard, &f->b.err), 0);
	assert_int_equal(protect_next_swap(&f->b), OWNERSHIP_CLAIMED);
	protect_answer(&f->b, WHEN_WON);
	protect_wait_told(&f->b, "backup-apply");
}

static void come_to_claimed(struct fixture *f)
{
	come_to_protected(f);
	claim(f);
}

/* What the guard does: RAM and the last whole epoch's state. */
static int apply(struct fixture *f)
{
	if (!f->a_is_gone) {
		vmachine_copy_memory(&f->b.rig.machine, &f->a.rig.machine);
		assert_int_equal(fd_write_at(f->arrival.fd, f->a.shared.state, f->cut.state_len,
					     f->arrival.state_at),
				 0);
	}
	f->b.err = (struct error){ 0 };
	return protect_guest_apply(f->b.guest, protect_guard, f->cut.state_len, 1000, &f->b.err);
}

/* Its owner ends, whose lock goes with its last ring's end, which the kernel takes a moment for: the guard tries again. */
static void apply_at_last(struct fixture *f)
{
	int r = -EBUSY;

	assert_int_equal(apply(f), -EBUSY);
	end_owner(f);
	for (unsigned int ms = 0; ms < 5000 && r == -EBUSY; ms++) {
		r = apply(f);
		guest_rig_turn_for(&f->b.rig, 1);
	}
	if (r < 0)
		fail_msg("%s", f->b.err.message);
}

/* Whichever turn told of it. */
static void win_confirmation(struct fixture *f)
{
	if (f->b.want.mode != OWNERSHIP_SOLO)
		protect_next_swap(&f->b);
	assert_int_equal(f->b.want.mode, OWNERSHIP_SOLO);
	protect_answer(&f->b, WHEN_WON);
}

static void a_backup_is_made_to_be_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(back_up(f), -EBUSY); /* nobody arrived */
	come_to_backing_up(f);
	assert_int_equal(back_up(f), -EBUSY);
	assert_int_equal(protect_role(&f->b), OWNERSHIP_BACKS_UP);
	assert_true(protect_guest_is_busy(f->b.guest));
	assert_true(guest_rig_stands(&f->b.rig));
}

/* Its guard has the connection of a mover, whose other orders are none of a guard's. */
static void no_mover_has_a_backup_run(void **state)
{
	struct fixture *f = *state;
	struct move_guest *guest = f->b.rig.guest;
	struct error *err = &f->b.err;
	bool ran;

	come_to_backing_up(f);
	assert_int_equal(move_guest_announce(guest, protect_guard, err), -EBUSY);
	assert_int_equal(move_guest_load(guest, protect_guard, 8, 0, false, err), -EBUSY);
	assert_int_equal(move_guest_renew(guest, protect_guard, err), -EBUSY);
	assert_int_equal(move_guest_commit(guest, protect_guard, &ran, err), -EBUSY);
	assert_non_null(strstr(err->message, "utsusu failover db"));
	assert_true(guest_rig_stands(&f->b.rig));
}

static void it_acknowledges_each_epoch_once(void **state)
{
	struct fixture *f = *state;

	come_to_backing_up(f);
	assert_true(has_whole(f, 3));
	assert_false(has_whole(f, 3));
	assert_true(has_whole(f, 4));
}

static void only_the_named_one_claims(void **state)
{
	struct fixture *f = *state;

	come_to_backing_up(f);
	protect_attach(&f->b);
	assert_true(has_whole(f, 1));
	assert_false(suspects(f));
	assert_int_equal(protect_guest_failover(f->b.guest, &f->b.err), -EAGAIN);
}

static void nothing_is_acknowledged_after_the_claim(void **state)
{
	struct fixture *f = *state;

	come_to_claimed(f);
	assert_false(has_whole(f, 3));
}

static void it_goes_on_and_is_heard_when_the_record_says_so(void **state)
{
	struct fixture *f = *state;
	struct protect_facts facts;

	come_to_claimed(f);
	assert_true(guest_rig_stands(&f->b.rig));
	apply_at_last(f);
	assert_true(guest_rig_runs(&f->b.rig));
	vmachine_write(&f->b.rig.machine, BUS_PIO, 0x3f8, 1, 'x');
	protect_guest_facts(f->b.guest, &facts);
	assert_int_equal(facts.held.items, 2); /* its owner's frame, and what it prints itself */
	assert_int_equal(protect_frame(&f->b), -1);
	assert_int_equal(f->b.arrivals, 0);
	win_confirmation(f);
	/* What its owner had not put out comes first. */
	assert_int_equal(protect_frame(&f->b), 8);
	protect_wait_changed(&f->b, "took-over");
	assert_string_equal(f->b.told, "backup-over");
	assert_string_equal(f->b.told_why, ""); /* what a guard takes for success */
	assert_true(f->b.told_ran);
	assert_int_equal(f->b.arrivals, 1);
	assert_false(guest_place_disk_is_free(&f->place));
	/* Its guard may go; it can be protected again, from its last epoch on. */
	protect_guest_forget(f->b.guest, protect_guard);
	move_guest_forget(f->b.rig.guest, protect_guard);
	assert_int_equal(protect_begin(&f->b), 0);
	assert_int_equal(protect_guest_gate(f->b.guest, protect_guard, &f->b.err), 0);
	assert_int_equal(protect_cut(&f->b, 2, &f->cut), -EINVAL);
	assert_int_equal(protect_cut(&f->b, 3, &f->cut), 0);
	guest_rig_turn_for(&f->b.rig, 20);
	assert_int_equal(f->b.overs, 0);
	assert_int_equal(f->b.rig.overs, 0);
}

/* A load counts on the barrier that is held since the VM was made. */
static void a_claimant_that_is_to_end_is_loaded_first(void **state)
{
	struct fixture *f = *state;
	uint64_t exits;

	come_to_claimed(f);
	assert_true(protect_guest_ends(f->b.guest));
	assert_false(f->b.rig.vm->finishing);
	exits = guest_rig_exits(&f->b.rig);
	apply_at_last(f);
	win_confirmation(f);
	if (f->b.want.mode != OWNERSHIP_STOPPED)
		protect_next_swap(&f->b);
	assert_int_equal(f->b.want.mode, OWNERSHIP_STOPPED);
	protect_answer(&f->b, WHEN_WON);
	guest_rig_turn_until(&f->b.rig, &f->b.overs, 1);
	assert_false(f->b.ran);
	assert_int_equal(guest_rig_exits(&f->b.rig), exits);
}

/* Its state is that of a guest which would go on behind the instruction that switched it off. */
static void a_guest_that_switched_itself_off_stays_so(void **state)
{
	struct fixture *f = *state;
	uint64_t exits;

	protect_drive_net(&f->a);
	protect_come_to_protected(&f->a);
	protect_send(&f->a, 8);
	vm_post(f->a.rig.vm, VM_POSTED_POWER_OFF);
	guest_rig_turn_for(&f->a.rig, 20);
	come_to_backed_up(f);
	claim(f);
	exits = guest_rig_exits(&f->b.rig);
	apply_at_last(f);
	win_confirmation(f);
	assert_int_equal(protect_frame(&f->b), 8);
	if (f->b.want.mode != OWNERSHIP_STOPPED)
		protect_next_swap(&f->b);
	assert_int_equal(f->b.want.mode, OWNERSHIP_STOPPED);
	protect_answer(&f->b, WHEN_WON);
	guest_rig_turn_until(&f->b.rig, &f->b.overs, 1);
	assert_false(f->b.ran);
	assert_string_equal(f->b.why, "the guest switched itself off");
	assert_int_equal(guest_rig_exits(&f->b.rig), exits);
}

static void no_load_while_queues_finish(void **state)
{
	struct fixture *f = *state;

	come_to_backing_up(f);
	vm_finish_requests(f->b.rig.vm, true);
	assert_true(f->b.rig.vm->finishing);
	assert_int_equal(move_guest_load(f->b.rig.guest, protect_guard, 8, 0, true, &f->b.err),
			 -EBUSY);
}

static void it_may_be_moved_after_it_took_over(void **state)
{
	struct fixture *f = *state;
	struct move_shared shared;

	come_to_claimed(f);
	apply_at_last(f);
	win_confirmation(f);
	assert_false(protect_guest_is_busy(f->b.guest));
	assert_int_equal(move_shared_make(GUEST_RIG_RAM, &shared), 0);
	assert_int_equal(move_guest_begin(f->b.rig.guest, "mover", GUEST_TOKEN, dup(shared.fd), -1,
					  &f->b.err),
			 0);
	move_shared_release(&shared);
}

static void a_confirmation_that_is_lost_ends_it(void **state)
{
	struct fixture *f = *state;

	come_to_claimed(f);
	apply_at_last(f);
	guest_rig_turn_for(&f->b.rig, 10);
	assert_int_equal(f->b.want.mode, OWNERSHIP_SOLO);
	/* Its owner won it back. */
	f->b.record.revision++;
	f->b.record.mode = OWNERSHIP_SOLO;
	f->b.record.owner = f->b.record.from;
	f->b.record.from = NOBODY;
	protect_answer(&f->b, WHEN_LOST);
	guest_rig_turn_until(&f->b.rig, &f->b.overs, 1);
	assert_true(f->b.ran);
	assert_string_equal(f->b.told, "backup-over");
	assert_false(f->b.told_ran);
	assert_true(f->b.told_why[0]);
	assert_int_equal(protect_frame(&f->b), -1);
	assert_true(guest_rig_stands(&f->b.rig));
}

static void a_damaged_state_is_not_run(void **state)
{
	struct fixture *f = *state;

	come_to_claimed(f);
	f->a.shared.state[0] ^= 1;
	assert_int_equal(apply(f), -EBADMSG);
	f->a.shared.state[0] ^= 1;
	f->a.shared.state[PROTECT_STATE_HEAD] ^= 1;
	assert_true(apply(f) < 0);
	assert_true(guest_rig_stands(&f->b.rig));
	assert_int_equal(protect_guest_failed(f->b.guest, protect_guard, "damaged", &f->b.err), 0);
	guest_rig_turn_until(&f->b.rig, &f->b.overs, 1);
}

/* The VM may live nowhere else by now. */
static void damaged_held_output_does_not_stop_it(void **state)
{
	struct fixture *f = *state;
	struct protect_facts facts;
	struct iovec vm, held;

	come_to_claimed(f);
	assert_int_equal(protect_state_parts(f->a.shared.state, f->cut.state_len, &vm, &held), 0);
	((uint8_t *)held.iov_base)[8] ^= 1;
	apply_at_last(f);
	protect_guest_facts(f->b.guest, &facts);
	assert_int_equal(facts.held.items, 0);
	win_confirmation(f);
	assert_true(guest_rig_runs(&f->b.rig));
	protect_drive_net(&f->b);
	protect_send(&f->b, 9);
	assert_int_equal(protect_frame(&f->b), 9);
}

static void no_state_counts_before_the_claim(void **state)
{
	struct fixture *f = *state;

	come_to_protected(f);
	assert_int_equal(apply(f), -EINVAL);
	assert_true(guest_rig_stands(&f->b.rig));
}

static void without_its_guard_a_copy_ends(void **state)
{
	struct fixture *f = *state;

	come_to_protected(f);
	protect_guest_forget(f->b.guest, protect_guard);
	guest_rig_turn_until(&f->b.rig, &f->b.overs, 1);
	assert_false(f->b.ran);
}

static void a_copy_that_was_given_up_ends(void **state)
{
	struct fixture *f = *state;

	come_to_protected(f);
	f->b.record.revision++;
	f->b.record.generation++;
	f->b.record.mode = OWNERSHIP_SOLO;
	f->b.record.backup = NOBODY;
	assert_int_equal(protect_guest_stands(f->b.guest, protect_relay, &f->b.record, &f->b.err),
			 0);
	guest_rig_turn_until(&f->b.rig, &f->b.overs, 1);
	assert_false(f->b.ran);
}

static void a_user_may_want_it(void **state)
{
	struct fixture *f = *state;

	come_to_protected(f);
	assert_int_equal(protect_guest_failover(f->b.guest, &f->b.err), 0);
	protect_wait_told(&f->b, "backup-prepare");
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(a_backup_is_made_to_be_one),
		ONE(no_mover_has_a_backup_run),
		ONE(it_acknowledges_each_epoch_once),
		ONE(only_the_named_one_claims),
		ONE(nothing_is_acknowledged_after_the_claim),
		ONE(it_goes_on_and_is_heard_when_the_record_says_so),
		ONE(a_claimant_that_is_to_end_is_loaded_first),
		ONE(a_guest_that_switched_itself_off_stays_so),
		ONE(no_load_while_queues_finish),
		ONE(it_may_be_moved_after_it_took_over),
		ONE(a_confirmation_that_is_lost_ends_it),
		ONE(a_damaged_state_is_not_run),
		ONE(damaged_held_output_does_not_stop_it),
		ONE(no_state_counts_before_the_claim),
		ONE(without_its_guard_a_copy_ends),
		ONE(a_copy_that_was_given_up_ends),
		ONE(a_user_may_want_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
