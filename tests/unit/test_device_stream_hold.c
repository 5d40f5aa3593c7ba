/* SPDX-License-Identifier: Apache-2.0 */

/* A console's held output, between a device that is a test and a world that takes as much as the test lets it. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "check.h"
#include "device/stream_hold.h"

#define SIZE 1000

struct world {
	struct fake_clock clock;
	struct loop *loop;
	struct hold hold;
	struct stream stream; /* what the hold stands on */
	struct stream_hold *sh;
	struct stream *device; /* as the device sees it */
	char text[8192];       /* what the world has seen */
	size_t n, room;
	unsigned int writable, ready;
	char typed[64];
};

static size_t world_write(struct stream *stream, const void *buf, size_t len)
{
	struct world *world = container_of(stream, struct world, stream);
	size_t n = MIN(len, world->room);

	assert_true(world->n + n < sizeof(world->text));
	memcpy(world->text + world->n, buf, n);
	world->n += n;
	world->room -= n;
	return n;
}

static void world_ready(struct stream *stream)
{
	container_of(stream, struct world, stream)->ready++;
}

static size_t device_received(void *ctx, const void *buf, size_t len)
{
	memcpy(((struct world *)ctx)->typed, buf, len);
	return len;
}

static void device_writable(void *ctx)
{
	((struct world *)ctx)->writable++;
}

static void world_open(struct world *world, uint64_t epoch)
{
	*world = (struct world){ .room = sizeof(world->text) - 1 };
	fake_clock_init(&world->clock, 1000 * NSEC_PER_SEC, 0);
	world->loop = loop_new(&world->clock.clock);
	hold_init(&world->hold, &world->clock.clock, epoch, true);
	world->stream.write = world_write;
	world->stream.ready = world_ready;
	assert_int_equal(
		stream_hold_new(&world->hold, world->loop, SIZE, &world->stream, &world->sh), 0);
	world->device = stream_hold_stream(world->sh);
	world->device->received = device_received;
	world->device->writable = device_writable;
	world->device->ctx = world;
}

static void world_close(struct world *world)
{
	stream_hold_free(world->sh);
	assert_null(world->stream.received);
	assert_null(world->stream.writable);
	hold_destroy(&world->hold);
	loop_free(world->loop);
}

static int setup(void **state)
{
	*state = malloc(sizeof(struct world));
	world_open(*state, 1);
	return 0;
}

static int teardown(void **state)
{
	world_close(*state);
	free(*state);
	return 0;
}

static size_t prints(struct world *world, const char *text)
{
	return world->device->write(world->device, text, strlen(text));
}

static void turns(struct world *world)
{
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(world->loop, 0), 0);
}

static void cut_and_release(struct world *world, uint64_t epoch)
{
	hold_cut(&world->hold, epoch);
	hold_release(&world->hold, epoch, clock_now(&world->clock.clock));
	turns(world);
}

static void make_room(struct world *world, size_t room)
{
	world->room = room;
	world->stream.writable(world->stream.ctx);
}

static void reads(const struct world *world, const char *text)
{
	assert_int_equal(world->n, strlen(text));
	assert_memory_equal(world->text, text, world->n);
}

static void bytes_of_an_open_hold_pass_at_once(void **state)
{
	struct world *world = *state;

	hold_open(&world->hold);
	assert_int_equal(prints(world, "login: "), 7);
	reads(world, "login: ");
	assert_int_equal(stream_hold_offset(world->sh), 7);
}

static void bytes_leave_when_their_epoch_is_acknowledged(void **state)
{
	struct world *world = *state;

	for (const char *p = "one"; *p; p++)
		assert_int_equal(world->device->write(world->device, p, 1), 1);
	hold_cut(&world->hold, 1);
	assert_int_equal(prints(world, "two"), 3);
	turns(world);
	reads(world, "");
	hold_release(&world->hold, 1, 0);
	turns(world);
	reads(world, "one");
	cut_and_release(world, 2);
	reads(world, "onetwo");
}

/* A 16550 gives byte by byte: they are one item. */
static void single_bytes_cost_no_more_than_many(void **state)
{
	struct world *world = *state;
	struct hold_counts counts;
	char all[SIZE] = "";

	for (size_t i = 0; i < SIZE - EPOCH_ITEM_OVERHEAD; i++) {
		all[i] = (char)('a' + i % 26);
		assert_int_equal(world->device->write(world->device, all + i, 1), 1);
	}
	assert_int_equal(prints(world, "x"), 0);
	stream_hold_count(world->sh, &counts);
	assert_int_equal(counts.items, 1);
	assert_int_equal(counts.refused, 1);
	cut_and_release(world, 1);
	reads(world, all);
}

static void a_full_hold_takes_no_more_and_tells(void **state)
{
	struct world *world = *state;
	char text[SIZE + 1];

	memset(text, 'x', SIZE);
	text[SIZE] = '\0';
	assert_int_equal(prints(world, text), SIZE - EPOCH_ITEM_OVERHEAD);
	assert_int_equal(prints(world, "y"), 0);
	turns(world);
	assert_int_equal(world->writable, 0);
	reads(world, "");
	assert_true(world->device->waits_for_leave(world->device));
	cut_and_release(world, 1);
	assert_int_equal(world->writable, 1);
	assert_int_equal(world->n, SIZE - EPOCH_ITEM_OVERHEAD);
	assert_int_equal(prints(world, "y"), 1);
}

static void a_world_that_reads_slowly_loses_nothing(void **state)
{
	struct world *world = *state;

	prints(world, "0123456789");
	hold_cut(&world->hold, 1);
	prints(world, "abc");
	world->room = 4;
	hold_release(&world->hold, 1, clock_now(&world->clock.clock));
	turns(world);
	reads(world, "0123");
	assert_int_equal(hold_released(&world->hold), 0);
	fake_clock_advance(&world->clock, 5 * NSEC_PER_SEC);
	make_room(world, 5);
	reads(world, "012345678");
	hold_open(&world->hold);
	turns(world);
	assert_int_equal(prints(world, "d"), 1);
	make_room(world, 2);
	make_room(world, 100);
	reads(world, "0123456789abcd");
	assert_int_equal(prints(world, "e"), 1);
	reads(world, "0123456789abcde");
	assert_int_equal(stream_hold_offset(world->sh), 15);
}

static void a_full_world_shows_through_when_open(void **state)
{
	struct world *world = *state;

	hold_open(&world->hold);
	world->room = 2;
	assert_int_equal(prints(world, "abc"), 2);
	assert_false(world->device->waits_for_leave(world->device)); /* but for the reader */
	turns(world);
	assert_int_equal(world->writable, 0);
	make_room(world, 9);
	assert_int_equal(world->writable, 1);
}

/* What follows a partly taken item keeps its place, all round the ring. */
static void pieces_keep_their_order_round_the_ring(void **state)
{
	struct world *world = *state;
	char all[4096] = "";
	size_t n = 0;

	world->room = 0;
	for (uint64_t epoch = 1; epoch <= 90; epoch++) {
		char piece[48];
		int len = snprintf(piece, sizeof(piece), "epoch %llu is %.*s. ",
				   (unsigned long long)epoch, (int)(epoch % 20),
				   "here and there and all round");

		assert_int_equal(prints(world, piece), len);
		memcpy(all + n, piece, (size_t)len);
		n += (size_t)len;
		cut_and_release(world, epoch);
		make_room(world, epoch % 7 * 9);
	}
	make_room(world, 4096);
	reads(world, all);
}

static void what_is_typed_passes(void **state)
{
	struct world *world = *state;

	assert_int_equal(world->stream.received(world->stream.ctx, "ls", 3), 3);
	assert_string_equal(world->typed, "ls");
	world->device->ready(world->device);
	assert_int_equal(world->ready, 1);
	world->device->received = NULL; /* the device has gone */
	assert_int_equal(world->stream.received(world->stream.ctx, "pwd", 4), 4);
}

static void a_new_owner_goes_on_where_the_old_one_may_have_stopped(void **state)
{
	struct world *old = *state, *new = malloc(sizeof(*new));
	struct error err = { 0 };
	struct buffer section;
	struct iovec iov;

	hold_open(&old->hold);
	prints(old, "before ");
	hold_shut(&old->hold);
	prints(old, "one ");
	hold_cut(&old->hold, 1);
	old->room = 2;
	hold_release(&old->hold, 1, 0);
	turns(old);
	prints(old, "two ");
	hold_cut(&old->hold, 2);
	prints(old, "never ");
	buffer_init(&section, hold_section_limit(1, SIZE));
	assert_int_equal(stream_hold_export(old->sh, 0, 2, &section), 0);

	world_open(new, 3);
	iov = (struct iovec){ section.data, section.len };
	assert_int_equal(stream_hold_import(new->sh,
					    &(struct iovec){ section.data, section.len - 1 }, 1,
					    &err),
			 -EBADMSG);
	assert_int_equal(stream_hold_offset(new->sh), 0);
	assert_int_equal(stream_hold_import(new->sh, &iov, 1, &err), 0);
	assert_int_equal(stream_hold_offset(new->sh), strlen("before on"));
	prints(new, "three");
	cut_and_release(new, 3);
	reads(new, "e two three");
	buffer_release(&section);
	world_close(new);
	free(new);
}

static void sizes_have_limits(void **state)
{
	struct world *world = *state;
	struct stream_hold *sh;

	assert_int_equal(stream_hold_new(&world->hold, world->loop, EPOCH_ITEM_OVERHEAD,
					 &world->stream, &sh),
			 -EINVAL);
	assert_int_equal(stream_hold_new(&world->hold, world->loop, LIMIT_CONSOLE_HOLD + 1,
					 &world->stream, &sh),
			 -EINVAL);
	stream_hold_free(NULL);
}

#define HELD(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HELD(bytes_of_an_open_hold_pass_at_once),
		HELD(bytes_leave_when_their_epoch_is_acknowledged),
		HELD(single_bytes_cost_no_more_than_many),
		HELD(a_full_hold_takes_no_more_and_tells),
		HELD(a_world_that_reads_slowly_loses_nothing),
		HELD(a_full_world_shows_through_when_open),
		HELD(pieces_keep_their_order_round_the_ring),
		HELD(what_is_typed_passes),
		HELD(a_new_owner_goes_on_where_the_old_one_may_have_stopped),
		HELD(sizes_have_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
