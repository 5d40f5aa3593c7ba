/* SPDX-License-Identifier: Apache-2.0 */

/* A saved VM whose memory is loaded while it runs (move/saved/fill.h): in one process, with a real userfaultfd. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "check.h"
#include "host/userfault.h"
#include "move/saved/fill.h"
#include "saved_rig.h"

static bool has_userfaultfd(void)
{
	_cleanup_(fd_closep) int fd = userfault_make(-1);

	return fd >= 0;
}

#define NEEDS_USERFAULTFD                                                                          \
	do {                                                                                       \
		if (!has_userfaultfd()) {                                                          \
			skip();                                                                    \
			return;                                                                    \
		}                                                                                  \
	} while (0)

static bool is_lost(struct near_vm *near)
{
	bool lost;

	pthread_mutex_lock(&near->lock);
	lost = near->is_lost;
	pthread_mutex_unlock(&near->lock);
	return lost;
}

static bool wait_until_lost(struct near_vm *near)
{
	for (int i = 0; i < 10000 && !is_lost(near); i++)
		usleep(1000);
	return is_lost(near);
}

/* ---- while it is loaded ---- */

static void read_problems(void *arg)
{
	struct rig *rig = arg;
	struct problems problems = { 0 };

	move_guest_check(rig->to.move, &problems);
	rig->err = problems.count ? problems.list[0] : (struct error){ 0 };
}

static struct error problem_of(struct rig *rig)
{
	struct error err;

	assert_true(near_vm_do(&rig->to, read_problems, rig));
	err = rig->err;
	rig->err = (struct error){ 0 };
	return err;
}

static void look_while_it_loads(struct rig *rig)
{
	uint64_t left = move_guest_lacks(rig->to.move);

	assert_true(near_vm_runs(&rig->to, true));
	assert_true(left >= FILLED_PAGES / 2 * MEMORY_PAGE_SIZE);
	assert_non_null(strstr(problem_of(rig).message, "still being loaded, "));
	/* Whoever reads now reads what was saved, and only that is loaded. */
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	assert_true(move_guest_lacks(rig->to.move) < left);
}

static void it_runs_before_its_memory_is_there(void **state _unused_)
{
	struct rig *rig;

	NEEDS_USERFAULTFD;
	rig = rig_new();
	assert_saved(rig);
	if (restore(rig, &(struct wish){ .ran = look_while_it_loads }) != MOVE_END_RAN)
		fail_msg("%s", rig->err.message);
	assert_int_equal(move_guest_lacks(rig->to.move), 0);
	assert_int_equal(problem_of(rig).code, 0);
	assert_false(is_lost(&rig->to));
	assert_true(rig->numbers.run_ns && rig->numbers.run_ns <= rig->numbers.total_ns);
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	rig_free(rig, true);
}

/* What was loaded on demand is saved like any other memory. */
static void it_is_saved_again(void **state _unused_)
{
	struct rig *rig;

	NEEDS_USERFAULTFD;
	rig = rig_new();
	assert_saved(rig);
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_RAN);
	assert_int_equal(ftruncate(rig->fd, 0), 0);
	assert_int_equal(rig_run(rig, &rig->to, MOVE_SAVE, &(struct wish){ 0 }), MOVE_END_RAN);
	near_vm_free(&rig->to);
	if (restore(rig, &(struct wish){ 0 }) != MOVE_END_RAN)
		fail_msg("%s", rig->err.message);
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	rig_free(rig, true);
}

/* ---- its mover, step by step ---- */

struct mover_rig {
	struct move_link *link;
	struct move_facts facts;
	struct move_shared shared;
	struct saved saved;
	struct fill *fill;
	struct error err;
};

/* To the first chunk. */
static uint64_t read_state(int fd, struct saved *saved, int shared_fd, uint64_t state_at)
{
	_cleanup_(buffer_release) struct buffer payload;
	struct error err = { 0 };
	struct frame frame;
	uint64_t len = 0;

	buffer_init(&payload, FRAME_MAX);
	if (saved_open(fd, saved, &err) < 0)
		fail_msg("%s", err.message);
	do {
		assert_int_equal(saved_next(saved, &payload, &frame, &err), 0);
		if (shared_fd >= 0)
			assert_int_equal(
				fd_write_at(shared_fd, payload.data, frame.len, state_at + len), 0);
		len += frame.len;
	} while (frame.len);
	return len;
}

static void mover_begin(struct mover_rig *mover, struct rig *rig)
{
	const uint8_t token[MOVE_TOKEN_BYTES] = "a token";
	struct fill_settings settings = {
		.ram_fd = rig->to.vm->memory->fd,
		.facts = &mover->facts,
		.shared = &mover->shared,
		.saved = &mover->saved,
	};
	bool ran = false;
	uint64_t len;

	*mover = (struct mover_rig){ .link = near_link_new(&rig->to, NULL) };
	settings.link = mover->link;
	assert_int_equal(mover->link->ops->facts(mover->link, &mover->facts, &mover->err), 0);
	assert_int_equal(move_shared_make(mover->facts.ram_bytes, &mover->shared), 0);
	assert_int_equal(
		mover->link->ops->arrive(mover->link, token, mover->shared.fd, -1, &mover->err), 0);
	len = read_state(rig->fd, &mover->saved, mover->shared.fd, mover->shared.state_at);
	if (fill_new(&settings, &mover->fill, &mover->err) < 0)
		fail_msg("%s", mover->err.message);
	assert_int_equal(mover->link->ops->load(mover->link, len, 0, false, &mover->err), 0);
	assert_int_equal(mover->link->ops->commit(mover->link, &ran, &mover->err), 0);
	assert_true(ran);
}

static void mover_go(struct mover_rig *mover)
{
	fill_free(mover->fill);
	mover->link->ops->free(mover->link);
	move_facts_release(&mover->facts);
	move_shared_release(&mover->shared);
	saved_release(&mover->saved);
}

static void read_a_page(void *arg)
{
	struct near_vm *near = arg;
	uint8_t is[MEMORY_PAGE_SIZE], page[MEMORY_PAGE_SIZE];

	fill_page(page, 1);
	assert_int_equal(memory_read(near->vm->memory, gpa(FILLED_AT + 2 * MEMORY_PAGE_SIZE), is,
				     sizeof(is)),
			 0);
	assert_memory_equal(is, page, sizeof(is));
}

static void a_mover_that_goes_is_its_end(void **state _unused_)
{
	struct rig *rig;
	struct mover_rig mover;

	NEEDS_USERFAULTFD;
	rig = rig_new();
	assert_saved(rig);
	near_vm_start(&rig->to, true, false);
	mover_begin(&mover, rig);
	assert_true(near_vm_do(&rig->to, read_a_page, &rig->to));
	assert_false(is_lost(&rig->to));
	mover_go(&mover);
	assert_true(wait_until_lost(&rig->to));
	assert_non_null(strstr(rig->to.lost, "of its memory were still to come, and will not"));
	assert_non_null(strstr(rig->to.lost, "utsusu-move was ended"));
	rig_free(rig, true);
}

/* The last page is there: who brought it may go without a word. */
static void a_mover_that_goes_at_the_end_is_not(void **state _unused_)
{
	struct rig *rig;
	struct mover_rig mover;
	int r;

	NEEDS_USERFAULTFD;
	rig = rig_new();
	assert_saved(rig);
	near_vm_start(&rig->to, true, false);
	mover_begin(&mover, rig);
	fill_rest(mover.fill);
	while ((r = fill_wait(mover.fill, 100, &mover.err)) == 0)
		;
	assert_int_equal(r, 1);
	assert_int_equal(fill_left(mover.fill), 0);
	mover_go(&mover);
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	assert_int_equal(problem_of(rig).code, 0);
	assert_false(is_lost(&rig->to));
	rig_free(rig, true);
}

/* The host that cannot is told of, and loads all first. */
static int refuse_demand(struct move_link *link _unused_, struct move_demand *ret_demand _unused_,
			 struct error *err)
{
	return error_set(err, -EREMOTEIO, EXIT_STATUS_HOST, "guest: no userfaultfd here");
}

static void a_host_without_it_loads_first(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_saved(rig);
	if (restore(rig, &(struct wish){ .demand = refuse_demand }) != MOVE_END_RAN)
		fail_msg("%s", rig->err.message);
	assert_true(near_vm_do(&rig->to, assert_ram, &rig->to));
	rig_free(rig, true);
}

/* ---- damage ---- */

static void open_index(struct rig *rig, struct saved *saved, struct saved_index *index)
{
	struct error err = { 0 };

	read_state(rig->fd, saved, -1, 0);
	if (saved_index_read(saved, index, &err) < 0)
		fail_msg("%s", err.message);
}

/* A bit in the last chunk, which may be short. */
static void flip_a_bit(struct rig *rig)
{
	struct saved_index index;
	struct saved saved;
	uint64_t at;
	uint8_t byte;

	open_index(rig, &saved, &index);
	assert_true(index.n > 1);
	at = index.chunks[index.n - 1].at + FRAME_HEADER_BYTES;
	assert_int_equal(pread(rig->fd, &byte, 1, (off_t)at), 1);
	byte ^= 8;
	assert_int_equal(pwrite(rig->fd, &byte, 1, (off_t)at), 1);
	saved_index_release(&index);
	saved_release(&saved);
}

static void damage_that_is_found_late_is_its_end(void **state _unused_)
{
	struct rig *rig;

	NEEDS_USERFAULTFD;
	rig = rig_new();
	assert_saved(rig);
	flip_a_bit(rig);
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_FAILED);
	assert_non_null(strstr(rig->err.message, "ran, and was ended"));
	assert_non_null(strstr(rig->err.message, "a checksum does not fit"));
	assert_true(wait_until_lost(&rig->to));
	assert_non_null(strstr(rig->to.lost, "a checksum does not fit"));
	assert_true(is_used(rig));
	rig_free(rig, true);
}

static void damage_is_found_before_it_runs_where_that_is_wished(void **state _unused_)
{
	struct rig *rig = rig_new();

	assert_saved(rig);
	flip_a_bit(rig);
	assert_int_equal(restore(rig, &(struct wish){ .load_first = true }), MOVE_END_FAILED);
	assert_non_null(strstr(rig->err.message, "a checksum does not fit"));
	assert_false(near_vm_runs(&rig->to, false));
	assert_false(is_used(rig));
	rig_free(rig, true);
}

/* `len` bytes at `offset` of the payload of the frame at `at`, which gets a checksum that fits. */
static void change_frame(int fd, uint64_t at, uint64_t offset, uint64_t value, size_t len)
{
	uint8_t header[FRAME_HEADER_BYTES], bytes[8];
	uint8_t *payload;
	size_t size;

	assert_int_equal(fd_read_at(fd, header, sizeof(header), at), 0);
	size = le_load(header + 16, 4) - 4; /* without the checksum */
	payload = malloc(size);
	assert_non_null(payload);
	assert_int_equal(fd_read_at(fd, payload, size, at + FRAME_HEADER_BYTES), 0);
	le_store(payload + offset, len, value);
	le_store(bytes, 4, crc32_z(0, payload, size));
	assert_int_equal(fd_write_at(fd, payload, size, at + FRAME_HEADER_BYTES), 0);
	assert_int_equal(fd_write_at(fd, bytes, 4, at + FRAME_HEADER_BYTES + size), 0);
	free(payload);
}

/* Whether the whole index and each chunk by it are taken. */
static bool is_taken(struct rig *rig)
{
	_cleanup_(buffer_release) struct buffer payload;
	struct saved_index index = { 0 };
	struct error err = { 0 };
	struct saved saved;
	int r;

	buffer_init(&payload, FRAME_MAX);
	read_state(rig->fd, &saved, -1, 0);
	r = saved_index_read(&saved, &index, &err);
	for (uint64_t i = 0; r == 0 && i < index.n; i++)
		r = saved_index_chunk(&index, i, &payload, &err);
	if (r < 0)
		assert_non_null(strstr(err.message, "file: damaged at"));
	saved_index_release(&index);
	saved_release(&saved);
	return r == 0;
}

static void an_index_that_cannot_be_is_refused(void **state _unused_)
{
	static const struct {
		uint64_t entry, offset, value;
		size_t len;
	} changes[] = {
		{ 0, 0, 1ULL << 40, 8 },  /* a page beyond the end */
		{ 1, 0, 0, 8 },		  /* not ascending */
		{ 1, 8, 0, 4 },		  /* no pages */
		{ 0, 8, 257, 4 },	  /* more than there can be */
		{ 0, 8, 255, 4 },	  /* another number than the chunk has */
		{ 1, 12, 0, 8 },	  /* before its neighbour */
		{ 1, 12, UINT64_MAX, 8 }, /* beyond the file */
		{ 0, 12, 4096, 8 },	  /* the head */
	};

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct rig *rig = rig_new();
		struct saved_index index;
		struct saved saved;

		assert_saved(rig);
		open_index(rig, &saved, &index);
		assert_true(is_taken(rig));
		change_frame(rig->fd, saved.index_at,
			     changes[i].entry * SAVED_INDEX_ENTRY + changes[i].offset,
			     changes[i].value, changes[i].len);
		if (is_taken(rig))
			fail_msg("change %zu is taken", i);
		saved_index_release(&index);
		saved_release(&saved);
		rig_free(rig, false);
	}
}

/* Its pages reach into the next chunk's: each page would be in two. */
static void a_chunk_with_others_pages_is_refused(void **state _unused_)
{
	struct rig *rig;
	struct saved_index index;
	struct saved saved;

	NEEDS_USERFAULTFD;
	rig = rig_new();
	assert_saved(rig);
	open_index(rig, &saved, &index);
	change_frame(rig->fd, index.chunks[0].at, 4 + 8ULL * (index.chunks[0].n_pages - 1),
		     index.chunks[1].first, 8);
	assert_true(is_taken(rig));
	assert_int_equal(restore(rig, &(struct wish){ 0 }), MOVE_END_FAILED);
	assert_non_null(strstr(rig->err.message, "pages that its index has elsewhere"));
	saved_index_release(&index);
	saved_release(&saved);
	rig_free(rig, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_runs_before_its_memory_is_there),
		cmocka_unit_test(it_is_saved_again),
		cmocka_unit_test(a_mover_that_goes_is_its_end),
		cmocka_unit_test(a_mover_that_goes_at_the_end_is_not),
		cmocka_unit_test(a_host_without_it_loads_first),
		cmocka_unit_test(damage_that_is_found_late_is_its_end),
		cmocka_unit_test(damage_is_found_before_it_runs_where_that_is_wished),
		cmocka_unit_test(an_index_that_cannot_be_is_refused),
		cmocka_unit_test(a_chunk_with_others_pages_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
