/* SPDX-License-Identifier: Apache-2.0 */

/* An owner's VM: what it puts out waits for its backup, what a cut takes, and what becomes of it when guard, relay or backup go. */

#include "protect_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "protect/guest/internal.h"
#include "vm/interrupts.h"

struct fixture {
	struct guest_place place;
	struct protect_rig a;
};

static int make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	guest_place_make(&f->place);
	protect_make(&f->a, &f->place, false);
	*state = f;
	return 0;
}

static int unmake(void **state)
{
	struct fixture *f = *state;

	protect_unmake(&f->a);
	guest_place_remove(&f->place);
	free(f);
	return 0;
}

/* ---- begin ---- */

static void nobody_is_protected_without_an_arbiter(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	assert_int_equal(protect_begin(a), -ENOTCONN);
	assert_non_null(strstr(a->err.message, "utsusu arbiter check"));
	protect_attach(a);
	assert_int_equal(protect_begin(a), -ENOTCONN);
	assert_true(guest_rig_runs(&a->rig));
}

static void one_copy_at_a_time(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_come_to_solo(a);
	assert_false(protect_guest_is_busy(a->guest));
	assert_int_equal(protect_begin(a), 0);
	assert_true(protect_guest_is_busy(a->guest));
	assert_int_equal(protect_begin(a), -EBUSY);
	assert_non_null(strstr(a->err.message, "--off"));
}

static void vhost_cannot_be_held(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_come_to_solo(a);
	a->rig.config.nets[0].vhost = true;
	assert_int_equal(protect_begin(a), -EOPNOTSUPP);
	assert_non_null(strstr(a->err.message, "vhost=off"));
	a->rig.config.nets[0].vhost = false;
}

static void not_while_it_is_moved(void **state)
{
	struct fixture *f = *state;
	struct protect_rig *a = &f->a;
	struct move_shared shared;

	protect_come_to_solo(a);
	assert_int_equal(move_shared_make(GUEST_RIG_RAM, &shared), 0);
	assert_int_equal(move_guest_begin(a->rig.guest, "mover", GUEST_TOKEN, dup(shared.fd), -1,
					  &a->err),
			 0);
	assert_int_equal(protect_begin(a), -EBUSY);
	assert_non_null(strstr(a->err.message, "being moved"));
	move_shared_release(&shared);
}

static void somebody_elses_vm_runs_on_for_itself(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	a->record = (struct ownership_record){
		.revision = 5, .generation = 2, .mode = OWNERSHIP_SOLO, .owner = { { 9 } }
	};
	protect_attach(a);
	protect_wait_changed(a, "foreign");
	assert_int_equal(protect_begin(a), -EPERM);
	assert_int_equal(a->overs, 0);
	assert_true(guest_rig_runs(&a->rig));
	/* It is nobody's any more. */
	a->record.revision = 6;
	a->record.mode = OWNERSHIP_STOPPED;
	assert_int_equal(protect_guest_stands(a->guest, protect_relay, &a->record, &a->err), 0);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
}

/* It came by a move, and the host that it came from said durably that its process never runs it again. */
static void a_record_goes_on_with_a_vm_that_was_moved(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	const struct ownership_id former = { { 9 } };

	a->record = (struct ownership_record){
		.revision = 5, .generation = 2, .mode = OWNERSHIP_SOLO, .owner = former
	};
	protect_attach(a);
	protect_wait_changed(a, "foreign");
	assert_int_equal(protect_guest_attach(a->guest, protect_relay, &a->record, &former, &a->me,
					      &a->err),
			 0);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
	protect_answer(a, WHEN_WON);
	assert_int_equal(protect_begin(a), 0);
}

/* ---- the gate ---- */

static void frames_wait_for_the_backup(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_come_to_solo(a);
	protect_drive_net(a);
	protect_send(a, 1);
	assert_int_equal(protect_frame(a), 1);
	assert_int_equal(protect_begin(a), 0);
	protect_send(a, 2);
	assert_int_equal(protect_frame(a), 2); /* it is being filled */
	assert_int_equal(protect_guest_gate(a->guest, protect_guard, &a->err), 0);
	protect_send(a, 3);
	assert_int_equal(protect_frame(a), -1);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	protect_send(a, 4);
	assert_int_equal(protect_frame(a), -1);
	protect_ack(a, 1);
	assert_int_equal(protect_frame(a), 3);
	assert_int_equal(protect_frame(a), -1); /* of the epoch that is not cut */
	assert_int_equal(protect_cut(a, 2, &cut), 0);
	assert_int_equal(cut.released, 1);
	protect_ack(a, 2);
	assert_int_equal(protect_frame(a), 4);
}

static void the_serial_line_waits_too(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_facts facts;
	struct protect_cut cut;

	protect_come_to_gated(a);
	vmachine_write(&a->rig.machine, BUS_PIO, 0x3f8, 1, 'x');
	protect_guest_facts(a->guest, &facts);
	assert_int_equal(facts.held.bytes, 1);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	protect_ack(a, 1);
	guest_rig_turn_for(&a->rig, 10);
	protect_guest_facts(a->guest, &facts);
	assert_int_equal(facts.held.bytes, 0);
	assert_int_equal(facts.released, 1);
}

static void another_copys_acknowledgement_counts_for_nothing(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	const struct ownership_id other = { { 8 } };
	struct protect_cut cut;

	protect_drive_net(a);
	protect_come_to_gated(a);
	protect_send(a, 3);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	assert_int_equal(protect_guest_acked(a->guest, &other, 1, 0, &a->err), -ESTALE);
	assert_int_equal(protect_frame(a), -1);
}

/* A guard's word for it that cannot be. */
static void what_is_received_later_is_received_now(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	const uint64_t before = clock_now(&clock_host);
	struct protect_cut cut;

	protect_come_to_gated(a);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	assert_int_equal(protect_guest_acked(a->guest, &PROTECT_SESSION, 1, before - 7, &a->err),
			 0);
	assert_int_equal(a->guest->ack_at_ns, before - 7);
	assert_int_equal(protect_cut(a, 2, &cut), 0);
	assert_int_equal(protect_guest_acked(a->guest, &PROTECT_SESSION, 2, INT64_MAX, &a->err), 0);
	assert_in_range(a->guest->ack_at_ns, before, clock_now(&clock_host));
}

/* ---- a cut ---- */

static void a_cut_has_what_changed_since_the_last(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct memory *memory = a->rig.vm->memory;
	struct iovec vm, held;
	struct protect_cut cut;

	protect_come_to_gated(a);
	assert_int_equal(memory_write(memory, gpa(0x9000), "new", 3), 0);
	assert_int_equal(memory_write(memory, gpa(0x5000), "old", 3), 0);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	assert_int_equal(cut.pages, 2);
	assert_int_equal(a->shared.pages[0], 5);
	assert_int_equal(a->shared.pages[1], 9);
	assert_memory_equal(a->shared.content, "old", 3);
	assert_memory_equal(a->shared.content + MEMORY_PAGE_SIZE, "new", 3);
	assert_int_equal(protect_state_parts(a->shared.state, cut.state_len, &vm, &held), 0);
	assert_true(vm.iov_len > 1000 && held.iov_len > 3 * 8);
	assert_true(guest_rig_runs(&a->rig));
	assert_int_equal(protect_cut(a, 2, &cut), 0);
	assert_int_equal(cut.pages, 0);
}

/* What the guard has been told of and did not take would be newer than the epoch. */
static void a_cut_takes_back_what_nobody_took(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;
	uint64_t pages;

	protect_come_to_solo(a);
	assert_int_equal(protect_begin(a), 0);
	assert_int_equal(memory_write(a->rig.vm->memory, gpa(0x5000), "old", 3), 0);
	assert_int_equal(protect_guest_collect(a->guest, protect_guard, &pages, &a->err), 0);
	assert_int_equal(pages, 1);
	assert_int_equal(a->shared.bitmap[0], 1 << 5);
	assert_int_equal(protect_guest_gate(a->guest, protect_guard, &a->err), 0);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	assert_int_equal(a->shared.bitmap[0], 0);
	assert_int_equal(cut.pages, 1);
	assert_int_equal(a->shared.pages[0], 5);
}

static void a_cut_needs_a_gate_and_a_number_of_its_own(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_come_to_solo(a);
	assert_int_equal(protect_cut(a, 1, &cut), -ESRCH);
	assert_int_equal(protect_begin(a), 0);
	assert_int_equal(protect_cut(a, 1, &cut), -EINVAL);
	assert_int_equal(protect_guest_gate(a->guest, protect_guard, &a->err), 0);
	assert_int_equal(protect_cut(a, 7, &cut), 0);
	assert_int_equal(protect_cut(a, 7, &cut), -EINVAL);
	assert_int_equal(protect_cut(a, 8, &cut), 0);
}

static void no_cut_while_the_guest_asks_for_a_reset(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_come_to_gated(a);
	vm_post(a->rig.vm, VM_POSTED_RESET);
	assert_int_equal(protect_cut(a, 1, &cut), -EAGAIN);
	guest_rig_turn_for(&a->rig, 50);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
}

static void whoever_paused_it_before_a_reset_is_waited_for(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_facts facts;
	struct protect_cut cut;

	protect_come_to_gated(a);
	assert_int_equal(vm_pause(a->rig.vm), 0);
	protect_guest_facts(a->guest, &facts);
	assert_string_equal(facts.waits_for, "");
	vm_post(a->rig.vm, VM_POSTED_RESET);
	guest_rig_turn_for(&a->rig, 20);
	assert_int_equal(protect_cut(a, 1, &cut), -EAGAIN);
	protect_guest_facts(a->guest, &facts);
	assert_non_null(strstr(facts.waits_for, "resume"));
	assert_int_equal(vm_resume(a->rig.vm), 0);
	guest_rig_turn_for(&a->rig, 50);
	protect_guest_facts(a->guest, &facts);
	assert_string_equal(facts.waits_for, "");
	assert_int_equal(protect_cut(a, 1, &cut), 0);
}

static void no_cut_while_a_debugger_has_it(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_come_to_gated(a);
	a->rig.vm->debugged = true;
	assert_int_equal(protect_cut(a, 1, &cut), -EAGAIN);
	a->rig.vm->debugged = false;
	assert_int_equal(protect_cut(a, 1, &cut), 0);
}

static void a_paused_guest_is_cut_as_it_is(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_come_to_gated(a);
	assert_int_equal(vm_pause(a->rig.vm), 0);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	assert_true(guest_rig_stands(&a->rig));
	assert_int_equal(vm_resume(a->rig.vm), 0);
	assert_true(guest_rig_runs(&a->rig));
}

/* ---- those who go ---- */

static void a_lost_guard_leaves_the_gate_shut_until_the_record_says_solo(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_drive_net(a);
	protect_come_to_protected(a);
	protect_send(a, 5);
	protect_guest_forget(a->guest, protect_guard);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
	assert_int_equal(protect_frame(a), -1);
	assert_int_equal(protect_begin(a), -EBUSY); /* it is being given up */
	protect_answer(a, WHEN_WON);
	assert_int_equal(protect_frame(a), 5);
	protect_wait_changed(a, "solo");
	assert_int_equal(protect_begin(a), 0);
}

static void a_lost_relay_leaves_a_swap_in_doubt(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_drive_net(a);
	protect_come_to_protected(a);
	protect_send(a, 5);
	protect_guest_forget(a->guest, protect_guard);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
	/* It won, and nobody says so. */
	a->want.revision++;
	a->record = a->want;
	protect_guest_forget(a->guest, protect_relay);
	assert_int_equal(protect_frame(a), -1);
	protect_attach(a);
	assert_int_equal(protect_frame(a), 5);
	assert_int_equal(protect_role(a), OWNERSHIP_IS_SOLO);
}

static void a_swap_waits_for_a_relay(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_come_to_protected(a);
	protect_guest_forget(a->guest, protect_relay);
	assert_int_equal(protect_guest_end(a->guest, protect_guard, "test", &a->err), 0);
	a->swaps = 0;
	guest_rig_turn_for(&a->rig, 20);
	assert_int_equal(a->swaps, 0);
	protect_attach(a);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
	protect_answer(a, WHEN_WON);
	assert_int_equal(protect_role(a), OWNERSHIP_IS_SOLO);
}

static void an_unknown_outcome_is_asked_again(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_attach(a);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
	protect_answer(a, WHEN_UNKNOWN);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO); /* a second later */
	protect_answer(a, WHEN_WON);
	assert_int_equal(protect_role(a), OWNERSHIP_IS_SOLO);
}

static void its_user_wants_it_protected_no_longer(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	assert_int_equal(protect_guest_off(a->guest, &a->err), -ESRCH);
	protect_come_to_protected(a);
	assert_int_equal(protect_guest_failover(a->guest, &a->err), 0);
	protect_wait_told(a, "protect-failover");
	assert_int_equal(protect_guest_off(a->guest, &a->err), 0);
	assert_int_equal(protect_next_swap(a), OWNERSHIP_SOLO);
	assert_string_equal(a->told, "protect-off");
}

/* Two words in one turn of the loop: both are told, and none from inside what was asked. */
static void people_are_told_at_the_next_turn(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	protect_come_to_protected(a);
	a->changes = 0;
	protect_guest_forget(a->guest, protect_guard); /* backup-lost */
	a->record = (struct ownership_record){
		.revision = a->record.revision + 1,
		.generation = a->record.generation + 1,
		.mode = OWNERSHIP_SOLO,
		.owner = a->me,
	};
	assert_int_equal(protect_guest_stands(a->guest, protect_relay, &a->record, &a->err), 0);
	assert_int_equal(a->changes, 0);
	guest_rig_turn_for(&a->rig, 5);
	assert_int_equal(a->changes, 2);
	assert_string_equal(a->changed, "solo");
}

/* ---- succession ---- */

static void claim(struct protect_rig *a, enum ownership_mode mode)
{
	a->record = (struct ownership_record){
		.revision = a->record.revision + 1,
		.generation = a->record.generation + 1,
		.mode = mode,
		.owner = { { 9 } },
		.from = mode == OWNERSHIP_CLAIMED ? a->me : NOBODY,
	};
	assert_int_equal(protect_guest_stands(a->guest, protect_relay, &a->record, &a->err), 0);
}

static void who_was_succeeded_puts_out_nothing_and_ends(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_drive_net(a);
	protect_come_to_protected(a);
	protect_send(a, 6);
	claim(a, OWNERSHIP_CLAIMED);
	protect_wait_changed(a, "deposed");
	assert_string_equal(a->told, "protect-off");
	assert_int_equal(protect_cut(a, 2, &cut), -ESRCH);
	assert_true(guest_rig_runs(&a->rig));
	claim(a, OWNERSHIP_SOLO);
	guest_rig_turn_until(&a->rig, &a->overs, 1);
	assert_true(a->ran);
	assert_true(guest_rig_stands(&a->rig));
	assert_int_equal(protect_frame(a), -1);
}

struct witness {
	struct hold_lane lane;
	const struct vm *vm;
	unsigned int looks;
	enum vm_status status; /* when it was told last */
};

static void look(void *ctx)
{
	struct witness *witness = ctx;

	witness->looks++;
	witness->status = witness->vm->status;
}

/* When what is held is dropped the guest stands for good already: what it did after that would be in nobody's state. */
static void who_was_succeeded_never_runs_again(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct witness witness = { .vm = a->rig.vm };
	const struct hold_lane_params params = {
		.size = KIB(4), .longest = 8, .poke = look, .ctx = &witness
	};

	protect_come_to_protected(a);
	claim(a, OWNERSHIP_CLAIMED);
	assert_int_equal(hold_lane_add(&a->rig.vm->hold, &params, &witness.lane), 0);
	witness.looks = 0;
	claim(a, OWNERSHIP_SOLO);
	hold_lane_remove(&witness.lane);
	assert_true(witness.looks > 0);
	assert_int_equal(witness.status, VM_PAUSED);
}

/* ---- mirrored disks ---- */

static int begin_with_ring(struct protect_rig *a, struct mirror_reader *reader)
{
	uint64_t cut;

	assert_int_equal(mirror_reader_make(MIRROR_RING_MIN, reader), 0);
	return protect_guest_begin(a->guest, protect_guard, &PROTECT_SESSION, "b",
				   dup(a->shared.fd), dup(reader->fd), &cut, &a->err);
}

static void writes_of_an_epoch_lie_in_the_ring_when_it_is_cut(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct mirror_reader reader;
	struct mirror_entry entry;
	struct protect_facts facts;
	struct protect_cut cut;
	const void *data;

	guest_rig_drive(&a->rig);
	protect_come_to_solo(a);
	assert_int_equal(begin_with_ring(a, &reader), 0);
	protect_guest_facts(a->guest, &facts);
	assert_int_equal(facts.disks, 1);
	assert_int_equal(protect_guest_gate(a->guest, protect_guard, &a->err), 0);
	guest_rig_write(&a->rig, 3);
	guest_rig_wait_answer(&a->rig);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	guest_rig_write(&a->rig, 4);
	guest_rig_wait_answer(&a->rig);
	assert_int_equal(mirror_reader_next(&reader, cut.ring_end, true, &entry, &data), 1);
	assert_int_equal(entry.offset, 3 * 512);
	assert_int_equal(entry.len, 512);
	assert_int_equal(*(const uint8_t *)data, 'a' + 3);
	mirror_reader_took(&reader);
	assert_int_equal(mirror_reader_next(&reader, cut.ring_end, true, &entry, &data), 0);
	mirror_reader_release(&reader);
}

static void disks_go_on_when_the_mirror_is_lost(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct mirror_reader reader, again;

	guest_rig_drive(&a->rig);
	protect_come_to_solo(a);
	assert_int_equal(begin_with_ring(a, &reader), 0);
	guest_rig_write(&a->rig, 3);
	protect_guest_forget(a->guest, protect_guard);
	mirror_reader_release(&reader);
	guest_rig_wait_answer(&a->rig);
	guest_rig_write(&a->rig, 4);
	guest_rig_wait_answer(&a->rig);
	guest_rig_turn_for(&a->rig, 5);
	assert_int_equal(begin_with_ring(a, &again), 0);
	mirror_reader_release(&again);
}

/* ---- the guest's end ---- */

static void a_guest_that_switches_itself_off_is_no_failure(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_cut cut;

	protect_drive_net(a);
	protect_come_to_protected(a);
	protect_send(a, 7);
	vm_post(a->rig.vm, VM_POSTED_POWER_OFF);
	a->swaps = 0;
	guest_rig_turn_for(&a->rig, 20);
	assert_int_equal(a->rig.ends, 0);
	assert_int_equal(a->swaps, 0); /* its backup does not know of it yet */
	assert_true(guest_rig_stands(&a->rig));
	assert_int_equal(protect_cut(a, 2, &cut), 0);
	protect_ack(a, 2);
	assert_int_equal(protect_frame(a), 7);
	if (!a->swaps)
		protect_next_swap(a);
	assert_int_equal(a->want.mode, OWNERSHIP_STOPPED);
	protect_answer(a, WHEN_WON);
	guest_rig_turn_until(&a->rig, &a->overs, 1);
	assert_false(a->ran);
	assert_string_equal(a->why, "the guest switched itself off");
}

static void nobody_asks_for_one_without_a_record(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;

	vm_post(a->rig.vm, VM_POSTED_POWER_OFF);
	guest_rig_turn_until(&a->rig, &a->rig.ends, 1);
}

static void facts_tell_of_it(void **state)
{
	struct protect_rig *a = &((struct fixture *)*state)->a;
	struct protect_facts facts;
	struct protect_cut cut;

	protect_guest_facts(a->guest, &facts);
	assert_null(facts.ownership);
	protect_come_to_gated(a);
	assert_int_equal(protect_cut(a, 1, &cut), 0);
	protect_guest_facts(a->guest, &facts);
	assert_int_equal(facts.ownership->cut, 1);
	assert_true(facts.relay && facts.guard);
	assert_string_equal(facts.peer, "b");
	assert_int_equal(facts.epochs, 1);
	assert_int_equal(facts.last_state_len, cut.state_len);
	assert_true(facts.last_pause_ns && facts.last_pause_ns == facts.pause_p50_ns);
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(nobody_is_protected_without_an_arbiter),
		ONE(one_copy_at_a_time),
		ONE(vhost_cannot_be_held),
		ONE(not_while_it_is_moved),
		ONE(somebody_elses_vm_runs_on_for_itself),
		ONE(a_record_goes_on_with_a_vm_that_was_moved),
		ONE(frames_wait_for_the_backup),
		ONE(the_serial_line_waits_too),
		ONE(another_copys_acknowledgement_counts_for_nothing),
		ONE(what_is_received_later_is_received_now),
		ONE(a_cut_has_what_changed_since_the_last),
		ONE(a_cut_takes_back_what_nobody_took),
		ONE(a_cut_needs_a_gate_and_a_number_of_its_own),
		ONE(no_cut_while_the_guest_asks_for_a_reset),
		ONE(whoever_paused_it_before_a_reset_is_waited_for),
		ONE(no_cut_while_a_debugger_has_it),
		ONE(a_paused_guest_is_cut_as_it_is),
		ONE(a_lost_guard_leaves_the_gate_shut_until_the_record_says_solo),
		ONE(a_lost_relay_leaves_a_swap_in_doubt),
		ONE(a_swap_waits_for_a_relay),
		ONE(an_unknown_outcome_is_asked_again),
		ONE(its_user_wants_it_protected_no_longer),
		ONE(people_are_told_at_the_next_turn),
		ONE(who_was_succeeded_puts_out_nothing_and_ends),
		ONE(who_was_succeeded_never_runs_again),
		ONE(writes_of_an_epoch_lie_in_the_ring_when_it_is_cut),
		ONE(disks_go_on_when_the_mirror_is_lost),
		ONE(a_guest_that_switches_itself_off_is_no_failure),
		ONE(nobody_asks_for_one_without_a_record),
		ONE(facts_tell_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
