/* SPDX-License-Identifier: Apache-2.0 */
#include "source_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "move/guest/internal.h"

const char source_mover[] = "mover";

static void keep(void *ctx, const struct block_record *record)
{
	struct source_rig *f = ctx;

	pthread_mutex_lock(&f->lock);
	if (f->n_records < ARRAY_SIZE(f->records))
		f->records[f->n_records++] = *record;
	pthread_mutex_unlock(&f->lock);
}

void source_make(struct source_rig *f, const char *filter)
{
	const struct guest_options options = {
		.filter = filter, .record = true, .recorded = keep, .ctx = f
	};

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	guest_place_make(&f->place);
	guest_rig_make(&f->rig, &f->place, &options);
	assert_int_equal(move_shared_make(GUEST_RIG_RAM, &f->shared), 0);
}

void source_unmake(struct source_rig *f)
{
	guest_rig_free(&f->rig);
	guest_place_remove(&f->place);
	move_shared_release(&f->shared);
}

int source_begin_with(struct source_rig *f, const void *owner, int shared_fd, int mark_fd)
{
	f->err = (struct error){ 0 };
	return move_guest_begin(f->rig.guest, owner, GUEST_TOKEN, shared_fd, mark_fd, &f->err);
}

int source_begin(struct source_rig *f)
{
	return source_begin_with(f, source_mover, dup(f->shared.fd), guest_place_given(&f->place));
}

uint64_t source_collect(struct source_rig *f)
{
	uint64_t pages;

	assert_int_equal(move_guest_collect(f->rig.guest, source_mover, &pages, &f->err), 0);
	return pages;
}

int source_stop(struct source_rig *f, unsigned int deadline_ms)
{
	const unsigned int before = f->rig.stops;

	f->err = (struct error){ 0 };
	assert_int_equal(move_guest_stop(f->rig.guest, source_mover, deadline_ms, &f->err), 0);
	assert_int_equal(f->rig.stops, before);
	guest_rig_turn_until(&f->rig, &f->rig.stops, before + 1);
	return f->rig.stop_error.code;
}

int source_give(struct source_rig *f)
{
	return move_guest_given(f->rig.guest, source_mover, "host-b", 7, &f->err);
}

/* Everything is as before `begin`. */
void source_assert_undone(struct source_rig *f)
{
	assert_int_equal(move_guest_stage(f->rig.guest), MOVE_IDLE);
	assert_true(guest_rig_runs(&f->rig));
	assert_false(guest_place_disk_is_free(&f->place));
	/* Nothing logs: what is written now is not told to who begins next. */
	assert_int_equal(memory_write(f->rig.vm->memory, gpa(0x5000), "x", 1), 0);
	assert_int_equal(source_begin(f), 0);
	assert_int_equal(source_collect(f), 0);
	assert_int_equal(move_guest_cancel(f->rig.guest, source_mover, &f->err), 0);
}

int source_mark_result(const struct source_rig *f)
{
	_cleanup_(fd_closep) int fd = open(f->place.given, O_RDONLY | O_CLOEXEC);
	char text[MARK_GIVEN_BYTES];
	struct mark_given given;

	if (fd_read_at(fd, text, sizeof(text), 0) < 0)
		return -ENOENT;
	if (mark_given_decode(text, sizeof(text), &given) < 0)
		return -EBADMSG;
	assert_string_equal(given.name, "db");
	assert_string_equal(given.peer, "host-b");
	assert_int_equal(given.generation, 7);
	assert_memory_equal(given.token, GUEST_TOKEN, MOVE_TOKEN_BYTES);
	return (int)given.result;
}

void source_come_to_logging(struct source_rig *f)
{
	assert_int_equal(source_begin(f), 0);
	assert_int_equal(move_guest_throttle(f->rig.guest, source_mover, 99, &f->err), 0);
	guest_rig_turn_for(&f->rig, 10);
}

void source_come_to_stopped(struct source_rig *f)
{
	source_come_to_logging(f);
	assert_int_equal(source_stop(f, 5000), 0);
}
