/* SPDX-License-Identifier: Apache-2.0 */

/* A VM into a file and out of it, in one process (near_link.h): the guest runs in one place or the other, whatever happens. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "saved_rig.h"
#include "vm/memory_map.h"

/* Saved at `from`, restored at `to`: how long the guest is told that it stood. */
static uint64_t stood_ns(const char *from, const char *to)
{
	struct rig *rig = rig_new();
	uint64_t told;

	rig->told_stopped_ns = UINT64_MAX;
	assert_int_equal(save(rig, &(struct wish){ .host = from }), MOVE_END_RAN);
	assert_int_equal(restore(rig, &(struct wish){ .host = to }), MOVE_END_RAN);
	told = rig->told_stopped_ns;
	rig_free(rig, true);
	return told;
}

static void only_its_own_hosts_clock_is_believed(void **state _unused_)
{
	const uint64_t stood = stood_ns("0123456789abcdef", "0123456789abcdef");

	assert_true(stood > 0 && stood < 600 * NSEC_PER_SEC);
	assert_int_equal(stood_ns("0123456789abcdef", "fedcba9876543210"), 0);
	assert_int_equal(stood_ns(NULL, NULL), 0);
}

static bool is_given(struct rig *rig)
{
	struct saved saved;
	struct error err = { 0 };
	int r = saved_open(rig->fd, &saved, &err);

	saved_release(&saved);
	return r == 0;
}

static void a_vm_is_saved_and_restored(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_saved(rig);
	assert_false(near_vm_runs(&rig->from, false));
	assert_true(rig->numbers.pages >= FILLED_PAGES / 2 && rig->numbers.zero_pages);
	assert_false(is_used(rig));
	if (restore(rig, &(struct wish){ 0 }) != MOVE_END_RAN)
		fail_msg("%s", rig->err.message);
	assert_true(near_vm_runs(&rig->to, true));
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	assert_true(rig->from.guest.last_ns < rig->to.guest.first_ns);
	assert_true(is_used(rig));
	rig_free(rig, true);
}

static void a_second_restore_is_refused(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_saved(rig);
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_RAN);
	near_vm_free(&rig->to);
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_FAILED);
	assert_non_null(strstr(rig->err.message, "restored already, by a tester"));
	assert_non_null(strstr(rig->err.message, "--clone"));
	assert_false(near_vm_runs(&rig->to, false));
	near_vm_free(&rig->to);
	/* But another VM can be made of it, and that leaves the mark alone. */
	if (restore(rig, &(struct wish){ .clone = true }) != MOVE_END_RAN)
		fail_msg("%s", rig->err.message);
	assert_true(near_vm_runs(&rig->to, true));
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	rig_free(rig, true);
}

static void read_generation(void *arg)
{
	struct near_vm *near = arg;

	assert_int_equal(memory_read(near->vm->memory, gpa(MAP_GENERATION_ID), near->server, 16),
			 0);
}

static void generation_of(struct near_vm *near, uint8_t ret_id[16])
{
	near->server = ret_id;
	assert_true(near_vm_do(near, read_generation, near));
}

static void only_a_clone_has_a_new_generation_id(void **state _unused_)
{
	struct rig *rig = rig_new();
	uint8_t before[16], clone[16], after[16];

	generation_of(&rig->from, before);
	assert_saved(rig);
	assert_int_equal(restore(rig, &(struct wish){ .clone = true }), MOVE_END_RAN);
	generation_of(&rig->to, clone);
	assert_false(is_used(rig));
	near_vm_free(&rig->to);
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_RAN);
	generation_of(&rig->to, after);
	assert_memory_equal(before, after, sizeof(before));
	assert_memory_not_equal(before, clone, sizeof(before));
	rig_free(rig, true);
}

/* ---- failures ---- */

static const char *const before_given[] = { "source.start:error",      "source.begun:error",
					    "source.stopped:error",    "source.state:error",
					    "source.last-round:error", "source.ready:error" };

static void a_save_that_fails_leaves_it_running(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(before_given); i++) {
		struct rig *rig = rig_new();

		assert_int_equal(save(rig, &(struct wish){ .fails = before_given[i] }),
				 MOVE_END_FAILED);
		assert_true(near_vm_runs(&rig->from, true));
		assert_false(is_given(rig));
		rig_free(rig, false);
	}
}

static void a_cancelled_save_leaves_it_running(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_int_equal(save(rig, &(struct wish){ .cancel = true }), MOVE_END_CANCELLED);
	assert_true(near_vm_runs(&rig->from, true));
	assert_false(is_given(rig));
	rig_free(rig, false);
}

static void an_answer_that_is_lost_is_a_doubt(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_int_equal(save(rig, &(struct wish){ .deaf = "given" }), MOVE_END_IN_DOUBT);
	assert_false(near_vm_runs(&rig->from, false));
	assert_true(is_given(rig));
	rig_free(rig, false);
}

/* A file that cannot grow is what a full disk looks like. */
static void a_file_that_cannot_grow_leaves_it_running(void **state _unused_)
{
	struct rig *rig = rig_new();

	fd_close(rig->fd);
	rig->fd = memfd_create("full", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(rig->fd, SAVED_FRAMES_AT), 0);
	assert_int_equal(fcntl(rig->fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(save(rig, &(struct wish){ 0 }), MOVE_END_FAILED);
	assert_non_null(strstr(rig->err.message, "file: cannot be written"));
	assert_true(near_vm_runs(&rig->from, true));
	assert_false(is_given(rig));
	rig_free(rig, false);
}

static const char *const before_run[] = {
	"destination.start:error", "destination.machine:error", "destination.rehearsed:error",
	"destination.round:error", "destination.loaded:error",	"destination.commit:error"
};

static void a_restore_that_fails_leaves_the_file(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_saved(rig);
	for (size_t i = 0; i < ARRAY_SIZE(before_run); i++) {
		assert_int_equal(restore(rig, &(struct wish){ .fails = before_run[i] }),
				 MOVE_END_FAILED);
		assert_false(near_vm_runs(&rig->to, false));
		assert_false(is_used(rig));
		near_vm_free(&rig->to);
	}
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_RAN);
	rig_free(rig, true);
}

static void a_vm_that_may_run_keeps_the_mark(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_saved(rig);
	assert_int_equal(restore(rig, &(struct wish){ .deaf = "commit" }), MOVE_END_IN_DOUBT);
	assert_true(near_vm_runs(&rig->to, true));
	assert_true(is_used(rig));
	rig_free(rig, true);
}

/* ---- damage ---- */

static void read_all(struct rig *rig, int *ret_r, struct error *err)
{
	_cleanup_(buffer_release) struct buffer payload;
	struct saved saved;
	struct frame frame = { 0 };
	int r = saved_open(rig->fd, &saved, err);

	buffer_init(&payload, FRAME_MAX);
	while (r == 0 && frame.kind != SAVED_FOOT)
		r = saved_next(&saved, &payload, &frame, err);
	saved_release(&saved);
	*ret_r = r;
}

static void assert_refused(struct rig *rig, uint64_t at, const char *what)
{
	struct error err = { 0 };
	int r;

	read_all(rig, &r, &err);
	if (r == 0 || !strstr(err.message, "file: "))
		fail_msg("%s at %llu: %d, %s", what, (unsigned long long)at, r, err.message);
}

static void every_flipped_bit_is_seen(void **state _unused_)
{
	struct rig *rig = rig_new();
	struct stat st;

	assert_saved(rig);
	assert_int_equal(fstat(rig->fd, &st), 0);
	for (uint64_t at = SAVED_FRAMES_AT; at < (uint64_t)st.st_size; at += 4099) {
		uint8_t byte;

		assert_int_equal(pread(rig->fd, &byte, 1, (off_t)at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(rig->fd, &byte, 1, (off_t)at), 1);
		assert_refused(rig, at, "a flipped bit");
		byte ^= 4;
		assert_int_equal(pwrite(rig->fd, &byte, 1, (off_t)at), 1);
	}
	rig_free(rig, false);
}

static void a_file_that_was_cut_is_refused(void **state _unused_)
{
	struct rig *rig = rig_new();
	struct stat st;

	assert_saved(rig);
	assert_int_equal(fstat(rig->fd, &st), 0);
	for (off_t len = st.st_size - 1; len >= 0; len = len > 30000 ? len - 29989 : len - 999) {
		assert_int_equal(ftruncate(rig->fd, len), 0);
		assert_refused(rig, (uint64_t)len, "a cut");
		if (len == 0)
			break;
	}
	rig_free(rig, false);
}

static void a_damaged_mark_of_use_is_one(void **state _unused_)
{
	struct rig *rig = rig_new();
	uint8_t byte = 1;

	assert_saved(rig);
	assert_int_equal(pwrite(rig->fd, &byte, 1, SAVED_USED_AT + 100), 1);
	assert_true(is_used(rig));
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_FAILED);
	assert_non_null(strstr(rig->err.message, "the mark is damaged"));
	rig_free(rig, true);
}

static void the_first_of_two_wins(void **state _unused_)
{
	struct rig *rig = rig_new();
	struct error err = { 0 };
	int other = open_again(rig->fd);

	assert_saved(rig);
	assert_int_equal(saved_use(rig->fd, "one", 7, &err), 0);
	assert_int_equal(saved_use(other, "two", 8, &err), -EALREADY);
	assert_non_null(strstr(err.message, "by one at 1970-01-01 00:00:00 UTC"));
	/* Nobody takes back another's. */
	assert_int_equal(saved_unuse(other, "two", 8), -EALREADY);
	assert_true(is_used(rig));
	assert_int_equal(saved_unuse(rig->fd, "one", 7), 0);
	assert_false(is_used(rig));
	fd_close(other);
	rig_free(rig, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_is_saved_and_restored),
		cmocka_unit_test(only_its_own_hosts_clock_is_believed),
		cmocka_unit_test(a_second_restore_is_refused),
		cmocka_unit_test(only_a_clone_has_a_new_generation_id),
		cmocka_unit_test(a_save_that_fails_leaves_it_running),
		cmocka_unit_test(a_cancelled_save_leaves_it_running),
		cmocka_unit_test(an_answer_that_is_lost_is_a_doubt),
		cmocka_unit_test(a_file_that_cannot_grow_leaves_it_running),
		cmocka_unit_test(a_restore_that_fails_leaves_the_file),
		cmocka_unit_test(a_vm_that_may_run_keeps_the_mark),
		cmocka_unit_test(every_flipped_bit_is_seen),
		cmocka_unit_test(a_file_that_was_cut_is_refused),
		cmocka_unit_test(a_damaged_mark_of_use_is_one),
		cmocka_unit_test(the_first_of_two_wins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
