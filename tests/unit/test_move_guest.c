/* SPDX-License-Identifier: Apache-2.0 */

/* The VM's part at the source: what is written is told, what is in flight is finished, and whatever breaks before it is given
 * leaves a VM that runs as if nothing had been. What comes after that is in test_move_given.c. */

#include "source_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "memory/dirty.h"
#include "move/guest/internal.h"
#include "vm/memory_map.h"
#include "vm/save.h"

static const char other[] = "other";

/* ---- begin ---- */

static int memfd_of(uint64_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_hostile_shared_files_are_refused(void **state _unused_)
{
	const uint64_t due = KIB(4) + MOVE_STATE_MAX; /* 64 MiB need one page of bits */
	struct source_rig f;

	source_make(&f, NULL);
	const int hostile[] = {
		memfd_of(due, 0), /* can shrink */
		memfd_of(due - 1, F_SEAL_SHRINK),
		memfd_of(0, F_SEAL_SHRINK),
		memfd_of(due, F_SEAL_SHRINK | F_SEAL_WRITE),
		open(f.place.disk, O_RDWR | O_CLOEXEC),
		open("/dev/null", O_RDWR | O_CLOEXEC),
		-1,
	};

	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		assert_true(source_begin_with(&f, source_mover, hostile[i], -1) < 0);
		assert_non_null(strstr(f.err.message, "shared file"));
		/* It was taken, and is closed. */
		assert_true(hostile[i] < 0 || fcntl(hostile[i], F_GETFD) < 0);
	}
	source_assert_undone(&f);
	source_unmake(&f);
}

static void test_a_mark_must_be_a_file(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(source_begin_with(&f, source_mover, dup(f.shared.fd),
					   open("/dev/null", O_RDWR)),
			 -EINVAL);
	source_assert_undone(&f);
	source_unmake(&f);
}

static void test_there_is_one_mover(void **state _unused_)
{
	struct source_rig f;
	uint64_t pages;

	source_make(&f, NULL);
	assert_int_equal(move_guest_collect(f.rig.guest, source_mover, &pages, &f.err), -ESRCH);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_begin_with(&f, other, dup(f.shared.fd), -1), -EBUSY);
	assert_int_equal(source_begin_with(&f, source_mover, dup(f.shared.fd), -1), -EBUSY);
	assert_int_equal(move_guest_collect(f.rig.guest, other, &pages, &f.err), -EBUSY);
	assert_int_equal(move_guest_cancel(f.rig.guest, other, &f.err), -EBUSY);
	move_guest_forget(f.rig.guest, other);
	assert_int_equal(source_collect(&f), 0);
	source_unmake(&f);
}

static void test_the_order_is_kept(void **state _unused_)
{
	struct source_rig f;
	uint64_t len;

	source_make(&f, "drop:op=write");
	guest_rig_drive(&f.rig);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_give(&f), -EINVAL);
	guest_rig_write(&f.rig, 0);
	while (!block_drop_held(f.rig.block))
		usleep(1000);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), 0);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), -EINVAL);
	assert_int_equal(move_guest_save(f.rig.guest, source_mover, 0, &len, &f.err), -EINVAL);
	assert_int_equal(move_guest_throttle(f.rig.guest, source_mover, 10, &f.err), -EINVAL);
	assert_int_equal(source_give(&f), -EINVAL);
	block_drop_hold(f.rig.block, false);
	source_unmake(&f);
}

struct problem_case {
	const char *says;
	void (*make)(struct source_rig *f);
};

static void ask_for_reset(struct source_rig *f)
{
	vmachine_write(&f->rig.machine, BUS_PIO, PORT_RESET, 1, 0x02);
	vmachine_write(&f->rig.machine, BUS_PIO, PORT_RESET, 1, 0x06);
	assert_true(f->rig.vm->posted != 0);
}

static void make_paused_before_a_reset(struct source_rig *f)
{
	assert_int_equal(vm_pause(f->rig.vm), 0);
	ask_for_reset(f);
}

static void make_debugged(struct source_rig *f)
{
	f->rig.vm->debugged = true;
}

static void make_vhost(struct source_rig *f)
{
	f->rig.config.n_nets = 1;
	f->rig.config.nets[0].vhost = true;
}

static void make_nameless(struct source_rig *f)
{
	f->rig.config.uuid[0] = '\0';
}

static void make_watched(struct source_rig *f)
{
	assert_int_equal(vm_hold(f->rig.vm, VM_HELD_BY_WATCH), 0);
}

static void make_unlogged(struct source_rig *f)
{
	f->rig.vm->dirty_backend = DIRTY_BACKEND_NONE;
}

static void test_each_blocker_has_its_way_out(void **state _unused_)
{
	static const struct problem_case cases[] = {
		{ "utsusu resume", make_paused_before_a_reset },
		{ "detach", make_debugged },
		{ "run the VM with vhost=off", make_vhost },
		{ "give --uuid", make_nameless },
		{ "leave the watch", make_watched },
		{ "utsusu doctor", make_unlogged },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct problems problems = { 0 };
		struct source_rig f;

		source_make(&f, NULL);
		move_guest_check(f.rig.guest, &problems);
		assert_int_equal(problems.count, 0);
		cases[i].make(&f);
		move_guest_check(f.rig.guest, &problems);
		assert_int_equal(problems.count, 1);
		assert_non_null(strstr(problems.list[0].message, cases[i].says));
		assert_true(source_begin(&f) < 0);
		assert_string_equal(f.err.message, problems.list[0].message);
		f.rig.config.n_nets = 0;
		source_unmake(&f);
	}
}

/* ---- pages ---- */

static bool is_told(const struct source_rig *f, uint64_t page)
{
	return f->shared.bitmap[page / 64] >> (page % 64) & 1;
}

static void test_what_is_written_is_told_once(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(memory_write(f.rig.vm->memory, gpa(0x7000), "before", 6), 0);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_collect(&f), 0);
	kvm_fake_dirty(f.rig.vm->kvm, 0, 3);					   /* the guest */
	assert_int_equal(memory_write(f.rig.vm->memory, gpa(0x8fff), "xy", 2), 0); /* a device */
	assert_int_equal(source_collect(&f), 3);
	assert_true(is_told(&f, 3) && is_told(&f, 8) && is_told(&f, 9));
	assert_false(is_told(&f, 7));
	assert_int_equal(source_collect(&f), 0);
	/* The mover's to take: what it has not taken stays. */
	assert_true(is_told(&f, 3));
	source_unmake(&f);
}

static void test_a_log_that_fails_tells_every_page(void **state _unused_)
{
	struct source_rig f;
	uint64_t pages;

	source_make(&f, NULL);
	assert_int_equal(source_begin(&f), 0);
	kvm_fake_fail_dirty_log(f.rig.vm->kvm, -EIO);
	assert_int_equal(move_guest_collect(f.rig.guest, source_mover, &pages, &f.err), -EIO);
	for (uint64_t page = 0; page < GUEST_RIG_RAM / MEMORY_PAGE_SIZE; page++)
		assert_true(is_told(&f, page));
	source_unmake(&f);
}

static void test_the_last_pages_are_told_at_the_stop(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(source_begin(&f), 0);
	kvm_fake_dirty(f.rig.vm->kvm, 0, 11);
	assert_int_equal(source_stop(&f, 5000), 0);
	assert_true(is_told(&f, 11));
	source_unmake(&f);
}

/* ---- slower ---- */

static uint64_t exits_in(struct source_rig *f, unsigned int ms)
{
	uint64_t before = guest_rig_exits(&f->rig);

	guest_rig_turn_for(&f->rig, ms);
	return guest_rig_exits(&f->rig) - before;
}

/* Whether the guest at this percentage makes less than half of its exits. Where the machine is busy with others, one look says
 * little. */
static bool is_slowed(struct source_rig *f, unsigned int percent)
{
	for (int i = 0; i < 5; i++) {
		uint64_t whole, slow;

		assert_int_equal(move_guest_throttle(f->rig.guest, source_mover, 0, &f->err), 0);
		guest_rig_turn_for(&f->rig, 20);
		whole = exits_in(f, 100);
		assert_int_equal(move_guest_throttle(f->rig.guest, source_mover, percent, &f->err),
				 0);
		guest_rig_turn_for(&f->rig, 20);
		slow = exits_in(f, 100);
		if (slow < whole / 2)
			return true;
	}
	return false;
}

static void test_a_slowed_guest_runs_less(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(source_begin(&f), 0);
	assert_true(is_slowed(&f, 90));
	assert_true(guest_rig_runs(&f.rig));
	assert_int_equal(move_guest_throttle(f.rig.guest, source_mover, 100, &f.err), -EINVAL);
	source_unmake(&f);
}

static void test_a_slowed_guest_stops_at_once_and_comes_back_at_full_speed(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(move_guest_throttle(f.rig.guest, source_mover, 99, &f.err), 0);
	guest_rig_turn_for(&f.rig, 20);
	assert_int_equal(source_stop(&f, 5000), 0);
	assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), 0);
	assert_int_equal(f.rig.guest->throttle, 0);
	assert_true(list_empty(&f.rig.guest->throttle_timer.link));
	assert_true(guest_rig_runs(&f.rig));
	source_unmake(&f);
}

/* ---- stop ---- */

static void test_the_guest_runs_while_its_disk_finishes(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, "drop:op=write");
	guest_rig_drive(&f.rig);
	guest_rig_write(&f.rig, 0);
	guest_rig_write(&f.rig, 1);
	while (block_drop_held(f.rig.block) < 2)
		usleep(1000);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), 0);
	guest_rig_turn_for(&f.rig, 30);
	assert_int_equal(f.rig.stops, 0);
	assert_int_equal(move_guest_stage(f.rig.guest), MOVE_STOPPING);
	assert_true(guest_rig_runs(&f.rig));
	block_drop_hold(f.rig.block, false);
	guest_rig_turn_until(&f.rig, &f.rig.stops, 1);
	assert_int_equal(f.rig.stop_error.code, 0);
	assert_true(guest_rig_stands(&f.rig));
	assert_int_equal(guest_rig_answered(&f.rig), 2);
	/* And durable before anybody was told. */
	assert_int_equal(f.n_records, 3);
	assert_int_equal(f.records[2].op, BLOCK_FLUSH);
	source_unmake(&f);
}

static bool is_in_flight(const struct source_rig *f)
{
	struct device *device = vm_find_device(f->rig.vm, "virtio-blk.0");

	return container_of(device, struct virtio_device, device)->state->queues[0].n_inflight > 0;
}

static void test_what_comes_after_waits_in_the_ring(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	guest_rig_drive(&f.rig);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_stop(&f, 5000), 0);
	guest_rig_write(&f.rig, 0);
	guest_rig_turn_for(&f.rig, 20);
	assert_int_equal(f.n_records, 0);
	assert_false(is_in_flight(&f));
	assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), 0);
	guest_rig_wait_answer(&f.rig);
	source_unmake(&f);
}

static void test_a_request_that_does_not_end_ends_the_stop(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, "drop:op=write");
	guest_rig_drive(&f.rig);
	guest_rig_write(&f.rig, 0);
	while (!block_drop_held(f.rig.block))
		usleep(1000);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_stop(&f, 20), -ETIMEDOUT);
	assert_non_null(strstr(f.rig.stop_error.message, "20 ms"));
	assert_int_equal(move_guest_stage(f.rig.guest), MOVE_LOGGING);
	assert_true(guest_rig_runs(&f.rig));
	block_drop_hold(f.rig.block, false);
	guest_rig_wait_answer(&f.rig);
	guest_rig_write(&f.rig, 1);
	guest_rig_wait_answer(&f.rig);
	assert_int_equal(source_stop(&f, 5000), 0);
	source_unmake(&f);
}

static void test_a_disk_that_cannot_flush_ends_the_stop(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, "fail:nth=1,op=flush");
	guest_rig_drive(&f.rig);
	guest_rig_write(&f.rig, 0);
	guest_rig_wait_answer(&f.rig);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(source_stop(&f, 5000), -EIO);
	assert_non_null(strstr(f.rig.stop_error.message, "virtio-blk.0"));
	assert_true(guest_rig_runs(&f.rig));
	assert_int_equal(source_stop(&f, 5000), 0);
	source_unmake(&f);
}

/* ---- a VM that its user paused ---- */

static void make_with_a_request(struct source_rig *f)
{
	source_make(f, "drop:op=write");
	guest_rig_drive(&f->rig);
	guest_rig_write(&f->rig, 0);
	while (!block_drop_held(f->rig.block))
		usleep(1000);
	assert_int_equal(source_begin(f), 0);
}

static void assert_paused_until_resumed(struct source_rig *f)
{
	assert_int_equal(f->rig.vm->status, VM_PAUSED);
	assert_false(f->rig.vm->finishing);
	assert_true(guest_rig_stands(&f->rig));
	assert_int_equal(vm_resume(f->rig.vm), 0);
	assert_true(guest_rig_runs(&f->rig));
}

static void test_a_paused_vm_stands_while_its_disk_finishes(void **state _unused_)
{
	struct source_rig f;

	make_with_a_request(&f);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), 0);
	guest_rig_turn_for(&f.rig, 20);
	assert_true(guest_rig_stands(&f.rig));
	block_drop_hold(f.rig.block, false);
	guest_rig_turn_until(&f.rig, &f.rig.stops, 1);
	assert_int_equal(f.rig.stop_error.code, 0);
	assert_true(guest_rig_stands(&f.rig));
	assert_int_equal(guest_rig_answered(&f.rig), 1);
	/* What it is now goes away with it. */
	assert_int_equal(vm_resume(f.rig.vm), -EBUSY);
	assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), 0);
	assert_paused_until_resumed(&f);
	guest_rig_write(&f.rig, 1);
	guest_rig_wait_answer(&f.rig);
	source_unmake(&f);
}

static void test_a_pause_meanwhile_is_kept(void **state _unused_)
{
	struct source_rig f;

	make_with_a_request(&f);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), 0);
	guest_rig_turn_for(&f.rig, 10);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	block_drop_hold(f.rig.block, false);
	guest_rig_turn_until(&f.rig, &f.rig.stops, 1);
	assert_int_equal(f.rig.stop_error.code, 0);
	move_guest_forget(f.rig.guest, source_mover);
	assert_paused_until_resumed(&f);
	source_unmake(&f);
}

static void test_a_resume_meanwhile_lets_it_run(void **state _unused_)
{
	struct source_rig f;

	make_with_a_request(&f);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), 0);
	guest_rig_turn_for(&f.rig, 10);
	assert_true(f.rig.vm->finishing);
	assert_int_equal(vm_resume(f.rig.vm), 0);
	assert_true(guest_rig_runs(&f.rig));
	block_drop_hold(f.rig.block, false);
	guest_rig_turn_until(&f.rig, &f.rig.stops, 1);
	assert_int_equal(f.rig.stop_error.code, 0);
	assert_true(guest_rig_stands(&f.rig));
	source_unmake(&f);
}

static void test_a_paused_vm_whose_disk_hangs_stays_paused(void **state _unused_)
{
	struct source_rig f;

	make_with_a_request(&f);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	assert_int_equal(source_stop(&f, 20), -ETIMEDOUT);
	assert_paused_until_resumed(&f);
	block_drop_hold(f.rig.block, false);
	guest_rig_wait_answer(&f.rig);
	source_unmake(&f);
}

/* Whoever holds it meanwhile looks at one that stands with all its threads; and one that is ended does not run once more. */
static void test_another_holder_ends_the_finishing(void **state _unused_)
{
	struct source_rig f;
	uint64_t exits;

	make_with_a_request(&f);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	vm_finish_requests(f.rig.vm, true);
	assert_int_equal(vm_hold(f.rig.vm, VM_HELD_BY_DEBUGGER), 0);
	assert_false(f.rig.vm->finishing);
	assert_int_equal(vm_let_go(f.rig.vm, VM_HELD_BY_DEBUGGER), 0);
	vm_finish_requests(f.rig.vm, true);
	block_drop_hold(f.rig.block, false);
	exits = guest_rig_exits(&f.rig);
	vm_end(f.rig.vm, VM_END_FORCED, "test");
	assert_int_equal(guest_rig_exits(&f.rig), exits);
	source_unmake(&f);
}

static void test_one_who_would_let_it_run_gets_no_state(void **state _unused_)
{
	struct source_rig f;
	uint64_t len;

	source_make(&f, NULL);
	assert_int_equal(vm_pause(f.rig.vm), 0);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(move_guest_save(f.rig.guest, source_mover, VM_STATE_PAUSED_SINCE - 1, &len,
					 &f.err),
			 -EPROTONOSUPPORT);
	assert_non_null(strstr(f.err.message, "is paused"));
	assert_int_equal(
		move_guest_save(f.rig.guest, source_mover, VM_STATE_PAUSED_SINCE, &len, &f.err), 0);
	assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), 0);
	assert_paused_until_resumed(&f);
	source_unmake(&f);
}

/* What the guest asked for last must not be lost between two hosts. */
static void test_a_reset_comes_before_the_stop(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, NULL);
	assert_int_equal(source_begin(&f), 0);
	ask_for_reset(&f);
	assert_int_equal(source_stop(&f, 5000), 0);
	assert_int_equal(f.rig.vm->posted, 0);
	assert_int_equal(f.rig.vm->status, VM_PAUSED);
	/* What the reset loaded is told as written. */
	assert_true(is_told(&f, MAP_ACPI_TABLES / MEMORY_PAGE_SIZE));
	source_unmake(&f);
}

static void test_a_guest_that_switches_itself_off_is_not_stopped(void **state _unused_)
{
	struct source_rig f;

	source_make(&f, "drop:op=write");
	guest_rig_drive(&f.rig);
	guest_rig_write(&f.rig, 0);
	while (!block_drop_held(f.rig.block))
		usleep(1000);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(move_guest_stop(f.rig.guest, source_mover, 5000, &f.err), 0);
	block_drop_hold(f.rig.block, false);
	vm_end(f.rig.vm, VM_END_POWER_OFF, "off");
	guest_rig_turn_until(&f.rig, &f.rig.stops, 1);
	assert_true(f.rig.stop_error.code < 0);
	move_guest_forget(f.rig.guest, source_mover);
	source_unmake(&f);
}

/* ---- state ---- */

static void test_a_running_vm_is_saved_and_runs_on(void **state _unused_)
{
	struct state_section section;
	struct source_rig f;
	uint64_t len;
	unsigned int sections = 0;

	source_make(&f, NULL);
	assert_int_equal(source_begin(&f), 0);
	assert_int_equal(move_guest_save(f.rig.guest, source_mover, 0, &len, &f.err), 0);
	assert_true(guest_rig_runs(&f.rig));

	_cleanup_(freep) void *saved = malloc(len);
	struct cursor cursor = { .data = saved, .left = len };

	assert_int_equal(fd_read_at(f.shared.fd, saved, len, f.shared.state_at), 0);
	while (state_next_section(&cursor, &section) == 1)
		sections++;
	assert_true(sections > 8);
	source_unmake(&f);
}

/* ---- back ---- */

static void come_to_stopping(struct source_rig *f)
{
	source_come_to_logging(f);
	assert_int_equal(move_guest_stop(f->rig.guest, source_mover, 5000, &f->err), 0);
}

static void (*const before_given[])(struct source_rig *f) = {
	source_come_to_logging,
	come_to_stopping,
	source_come_to_stopped,
};

static void test_cancel_undoes_all(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(before_given); i++) {
		struct source_rig f;

		source_make(&f, NULL);
		guest_rig_drive(&f.rig);
		before_given[i](&f);
		assert_int_equal(move_guest_cancel(f.rig.guest, source_mover, &f.err), 0);
		source_assert_undone(&f);
		guest_rig_write(&f.rig, 0);
		guest_rig_wait_answer(&f.rig);
		assert_int_equal(source_mark_result(&f), -ENOENT);
		source_unmake(&f);
	}
}

static void test_a_mover_that_goes_undoes_all(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(before_given); i++) {
		struct source_rig f;

		source_make(&f, NULL);
		guest_rig_drive(&f.rig);
		before_given[i](&f);
		move_guest_forget(f.rig.guest, source_mover);
		source_assert_undone(&f);
		guest_rig_write(&f.rig, 0);
		guest_rig_wait_answer(&f.rig);
		source_unmake(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_shared_files_are_refused),
		cmocka_unit_test(test_a_mark_must_be_a_file),
		cmocka_unit_test(test_there_is_one_mover),
		cmocka_unit_test(test_the_order_is_kept),
		cmocka_unit_test(test_each_blocker_has_its_way_out),
		cmocka_unit_test(test_what_is_written_is_told_once),
		cmocka_unit_test(test_a_log_that_fails_tells_every_page),
		cmocka_unit_test(test_the_last_pages_are_told_at_the_stop),
		cmocka_unit_test(test_a_slowed_guest_runs_less),
		cmocka_unit_test(test_a_slowed_guest_stops_at_once_and_comes_back_at_full_speed),
		cmocka_unit_test(test_the_guest_runs_while_its_disk_finishes),
		cmocka_unit_test(test_what_comes_after_waits_in_the_ring),
		cmocka_unit_test(test_a_request_that_does_not_end_ends_the_stop),
		cmocka_unit_test(test_a_disk_that_cannot_flush_ends_the_stop),
		cmocka_unit_test(test_a_paused_vm_stands_while_its_disk_finishes),
		cmocka_unit_test(test_a_pause_meanwhile_is_kept),
		cmocka_unit_test(test_a_resume_meanwhile_lets_it_run),
		cmocka_unit_test(test_a_paused_vm_whose_disk_hangs_stays_paused),
		cmocka_unit_test(test_another_holder_ends_the_finishing),
		cmocka_unit_test(test_one_who_would_let_it_run_gets_no_state),
		cmocka_unit_test(test_a_reset_comes_before_the_stop),
		cmocka_unit_test(test_a_guest_that_switches_itself_off_is_not_stopped),
		cmocka_unit_test(test_a_running_vm_is_saved_and_runs_on),
		cmocka_unit_test(test_cancel_undoes_all),
		cmocka_unit_test(test_a_mover_that_goes_undoes_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
