/* SPDX-License-Identifier: Apache-2.0 */

/* A mirrored disk: what it holds is what its ring says, in the ring's order. */

#include "block_rig.h"

#include "block/filters/filter.h"
#include "block/mirror.h"

#define DISK MIB(8)
#define NUMBER 5 /* of the disk */
#define PAGE 4096
#define LOG_MAX 64

struct world {
	struct rig rig;
	struct mirror_reader reader;
	struct mirror_ring *ring;
	struct block *mirror, *drop;
	struct block_record log[LOG_MAX]; /* what the disk was asked */
	unsigned int n_log;
};

static void log_record(void *ctx, const struct block_record *record)
{
	struct world *world = ctx;

	assert_true(world->n_log < LOG_MAX);
	world->log[world->n_log++] = *record;
}

static struct mirror_ring *ring_of(const struct mirror_reader *reader)
{
	struct mirror_ring *ring;
	struct error err = { 0 };

	assert_int_equal(mirror_ring_take(dup(reader->fd), &ring, &err), 0);
	return ring;
}

/* mirror -> drop (lets all pass) -> record -> what `spec` says -> raw */
static void stand(struct world *world, const char *spec)
{
	const struct block_record_params params = { log_record, world };
	struct block **top = &world->rig.block;
	struct error err = { 0 };

	if (spec)
		assert_int_equal(block_filter_stack(spec, *top, top, &err), 0);
	assert_int_equal(block_record_new(&params, *top, top), 0);
	assert_int_equal(block_drop_new(FILTER_OPS_ALL, *top, top), 0);
	world->drop = *top;
	block_drop_hold(world->drop, false);
	assert_int_equal(block_mirror_new(NUMBER, *top, top), 0);
	world->mirror = *top;
	rig_open_queue(&world->rig);
}

static int setup(void **state)
{
	static struct world world;
	const struct raw_options options = { .path = world.rig.path, .fd = -1, .direct = true };
	struct error err = { 0 };

	memset(&world, 0, sizeof(world));
	rig_make_file(&world.rig, "/var/tmp", DISK);
	assert_int_equal(raw_open(&options, &world.rig.block, &err), 0);
	assert_int_equal(mirror_reader_make(MIRROR_RING_MIN, &world.reader), 0);
	world.ring = ring_of(&world.reader);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	rig_close(&world->rig);
	assert_true(mirror_ring_idle(world->ring));
	mirror_ring_free(world->ring);
	mirror_reader_release(&world->reader);
	return 0;
}

static void turn(struct world *world)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_turn(world->rig.loop, 2), 0);
}

/* A write of `r->iov` at `offset` that nobody waits for. */
static void submit(struct world *world, struct rig_request *r, uint64_t offset, void *data,
		   uint64_t len)
{
	*r = (struct rig_request){
		.request = { .op = BLOCK_WRITE, .offset = offset, .len = len },
		.iov = { data, len },
	};
	rig_submit(&world->rig, r);
	block_kick(world->rig.queue);
}

static int do_range(struct world *world, enum block_op op, uint64_t offset, uint64_t len,
		    bool unmap)
{
	struct rig_request r = { .request = {
					 .op = op, .offset = offset, .len = len, .unmap = unmap } };

	return rig_do(&world->rig, &r);
}

/* Takes the next entry: it must be a write of these bytes there. */
static void taken_is(struct world *world, uint64_t offset, const void *bytes, uint64_t len)
{
	struct mirror_entry entry;
	const void *data;

	assert_int_equal(mirror_reader_next(&world->reader, UINT64_MAX, false, &entry, &data), 1);
	assert_int_equal(entry.kind, MIRROR_WRITE);
	assert_int_equal(entry.disk, NUMBER);
	assert_int_equal(entry.offset, offset);
	assert_int_equal(entry.len, len);
	assert_memory_equal(data, bytes, len);
	mirror_reader_took(&world->reader);
}

static void nothing_to_take(struct world *world)
{
	struct mirror_entry entry;
	const void *data;

	assert_int_equal(mirror_reader_next(&world->reader, UINT64_MAX, false, &entry, &data), 0);
}

static void disk_has(struct world *world, uint64_t offset, const void *bytes, uint64_t len)
{
	_cleanup_(freep) uint8_t *in = rig_buffer(len, 99);

	assert_int_equal(rig_read(&world->rig, offset, in, len), 0);
	assert_memory_equal(in, bytes, len);
}

static void without_a_ring_all_passes_as_it_is(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(MIB(3), 1);

	stand(world, NULL);
	assert_int_equal(rig_write(&world->rig, 512, out, MIB(3)), 0);
	disk_has(world, 512, out, MIB(3));
	assert_int_equal(do_range(world, BLOCK_DISCARD, 0, PAGE, false), 0);
	assert_int_equal(world->n_log, 3);
	assert_int_equal(world->log[0].len, MIB(3));
	assert_int_equal(world->log[2].op, BLOCK_DISCARD);
	nothing_to_take(world);
}

static void what_is_written_is_mirrored(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(64), 1);

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	assert_true(block_mirror_settled(world->mirror));
	assert_int_equal(rig_write(&world->rig, 512, out, KIB(20)), 0);
	assert_int_equal(rig_write(&world->rig, KIB(512), out + 1, 512), 0); /* not aligned */
	assert_int_equal(do_range(world, BLOCK_FLUSH, 0, 0, false), 0);
	disk_has(world, 512, out, KIB(20));
	disk_has(world, KIB(512), out + 1, 512);
	taken_is(world, 512, out, KIB(20));
	taken_is(world, KIB(512), out + 1, 512);
	nothing_to_take(world);
}

static void the_disk_is_written_from_the_rings_copy(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(PAGE, 1), *same = rig_buffer(PAGE, 1);
	struct rig_request r;

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	block_drop_hold(world->drop, true);
	submit(world, &r, 0, out, PAGE);
	memset(out, 0, PAGE); /* as a guest may */
	block_drop_hold(world->drop, false);
	assert_int_equal(rig_wait(&world->rig, &r), 0);
	disk_has(world, 0, same, PAGE);
	taken_is(world, 0, same, PAGE);
}

static void a_large_write_is_several_entries(void **state)
{
	struct world *world = *state;
	const uint64_t len = MIB(6) + 1536;
	_cleanup_(freep) uint8_t *out = rig_buffer(len, 1);
	struct rig_request r;

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	submit(world, &r, 1024, out, len);
	/* More than the ring has: it waits for who takes. */
	turn(world);
	assert_int_equal(r.result, RIG_PENDING);
	for (uint64_t at = 0; at < len; at += MIRROR_DATA_MAX) {
		turn(world);
		taken_is(world, 1024 + at, out + at, MIN(len - at, MIRROR_DATA_MAX));
	}
	assert_int_equal(rig_wait(&world->rig, &r), 0);
	disk_has(world, 1024, out, len);
	nothing_to_take(world);
}

static void discards_and_zeroes_are_mirrored(void **state)
{
	static const struct {
		enum block_op op;
		bool unmap, mirrored_unmap;
	} cases[] = { { BLOCK_DISCARD, false, true },
		      { BLOCK_WRITE_ZEROES, true, true },
		      { BLOCK_WRITE_ZEROES, false, false } };
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(64), 1), *zeroes = calloc(1, PAGE);

	stand(world, NULL);
	assert_int_equal(rig_write(&world->rig, 0, out, KIB(64)), 0);
	block_mirror_set(world->mirror, world->ring);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t at = KIB(8) * (i + 1);
		struct mirror_entry entry;
		const void *data;

		assert_int_equal(do_range(world, cases[i].op, at, PAGE, cases[i].unmap), 0);
		assert_int_equal(world->log[world->n_log - 1].op, BLOCK_WRITE_ZEROES);
		assert_int_equal(
			mirror_reader_next(&world->reader, UINT64_MAX, true, &entry, &data), 1);
		assert_int_equal(entry.kind, MIRROR_ZEROES);
		assert_int_equal(entry.offset, at);
		assert_int_equal(entry.len, PAGE);
		assert_int_equal(entry.unmap, cases[i].mirrored_unmap);
		mirror_reader_took(&world->reader);
		disk_has(world, at, zeroes, PAGE);
		disk_has(world, at + PAGE, out + at + PAGE, PAGE);
	}
}

/* Fills the ring but for two entries of a page. */
static void fill(struct world *world, uint8_t *out)
{
	for (unsigned int i = 0; i < MIRROR_RING_MIN / (2 * PAGE) - 2; i++) {
		assert_int_equal(rig_write(&world->rig, 0, out, PAGE), 0);
		world->n_log = 0;
	}
}

static void a_full_ring_is_waited_for_in_order(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(PAGE, 1), *in = rig_buffer(PAGE, 2);
	struct rig_request r[5];

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	fill(world, out);
	for (unsigned int i = 0; i < 5; i++)
		submit(world, &r[i], PAGE * (1 + i), out, i == 3 ? 512 : PAGE);
	turn(world);
	assert_int_equal(r[1].result, 0);
	assert_int_equal(r[2].result, RIG_PENDING);
	/* Reads and flushes do not wait. */
	assert_int_equal(rig_read(&world->rig, 0, in, PAGE), 0);
	assert_int_equal(do_range(world, BLOCK_FLUSH, 0, 0, false), 0);
	taken_is(world, 0, out, PAGE);
	assert_int_equal(rig_wait(&world->rig, &r[2]), 0);
	turn(world);
	assert_int_equal(r[3].result, RIG_PENDING);
	taken_is(world, 0, out, PAGE);
	taken_is(world, 0, out, PAGE);
	assert_int_equal(rig_wait(&world->rig, &r[4]), 0);
	assert_int_equal(r[3].result, 0);
}

static void writes_that_overlap_go_one_after_the_other(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *one = rig_buffer(PAGE, 1), *two = rig_buffer(PAGE, 2);
	struct rig_request r[3];

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	block_drop_hold(world->drop, true);
	submit(world, &r[0], 0, one, PAGE);
	submit(world, &r[1], 512, two, PAGE);
	submit(world, &r[2], MIB(1), one, PAGE); /* behind it, though it overlaps nothing */
	turn(world);
	assert_int_equal(block_drop_held(world->drop), 1);
	block_drop_hold(world->drop, false);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(rig_wait(&world->rig, &r[i]), 0);
	disk_has(world, 0, one, 512);
	disk_has(world, 512, two, PAGE);
	taken_is(world, 0, one, PAGE);
	taken_is(world, 512, two, PAGE);
	taken_is(world, MIB(1), one, PAGE);
}

static void a_failing_disk_fails_the_guest_alone(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(MIB(3), 1);
	struct mirror_entry entry;
	const void *data;

	stand(world, "fail:op=write,nth=2,sticky=1");
	block_mirror_set(world->mirror, world->ring);
	assert_int_equal(rig_write(&world->rig, 0, out, PAGE), 0);
	assert_int_equal(rig_write(&world->rig, 0, out, MIB(3)), -EIO);
	assert_int_equal(rig_write(&world->rig, 512, out, PAGE), -EIO); /* its range is free */
	assert_true(mirror_ring_idle(world->ring));
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(
			mirror_reader_next(&world->reader, UINT64_MAX, true, &entry, &data), 1);
		mirror_reader_took(&world->reader);
	}
	nothing_to_take(world);
}

static void a_ring_is_taken_away(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(PAGE, 1);
	struct rig_request r[5];

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	fill(world, out);
	block_drop_hold(world->drop, true);
	for (unsigned int i = 0; i < 5; i++)
		submit(world, &r[i], MIB(1) + i * PAGE, out, PAGE);
	turn(world);
	assert_int_equal(block_drop_held(world->drop), 2);
	block_mirror_set(world->mirror, NULL);
	assert_false(block_mirror_settled(world->mirror));
	turn(world);
	assert_int_equal(block_drop_held(world->drop), 5);
	assert_false(mirror_ring_idle(world->ring));
	block_drop_hold(world->drop, false);
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(rig_wait(&world->rig, &r[i]), 0);
		disk_has(world, MIB(1) + i * PAGE, out, PAGE);
	}
	assert_true(mirror_ring_idle(world->ring));
	assert_true(block_mirror_settled(world->mirror));
}

static void what_began_before_the_ring_is_waited_for(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *one = rig_buffer(PAGE, 1), *two = rig_buffer(PAGE, 2);
	struct rig_request r[2];

	stand(world, NULL);
	block_drop_hold(world->drop, true);
	submit(world, &r[0], 0, one, PAGE);
	block_mirror_set(world->mirror, world->ring);
	assert_false(block_mirror_settled(world->mirror));
	submit(world, &r[1], 0, two, PAGE);
	turn(world);
	assert_int_equal(block_drop_held(world->drop), 1);
	nothing_to_take(world);
	block_drop_hold(world->drop, false);
	assert_int_equal(rig_wait(&world->rig, &r[0]), 0);
	assert_int_equal(rig_wait(&world->rig, &r[1]), 0);
	assert_true(block_mirror_settled(world->mirror));
	disk_has(world, 0, two, PAGE);
	taken_is(world, 0, two, PAGE);
	nothing_to_take(world);
}

/* Half of a large write is in a ring that is taken away; the whole must be in the next. */
static void a_large_write_begins_anew_in_another_ring(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(MIB(2), 1);
	struct mirror_ring *old = world->ring;
	struct mirror_reader old_reader = world->reader;
	struct rig_request r;

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	block_drop_hold(world->drop, true);
	submit(world, &r, 0, out, MIB(2));
	assert_int_equal(mirror_reader_make(MIRROR_RING_MIN, &world->reader), 0);
	world->ring = ring_of(&world->reader);
	block_mirror_set(world->mirror, world->ring);
	assert_false(mirror_ring_idle(old));
	block_drop_hold(world->drop, false);
	assert_int_equal(rig_wait(&world->rig, &r), 0);
	assert_true(mirror_ring_idle(old));
	taken_is(world, 0, out, MIB(1));
	taken_is(world, MIB(1), out + MIB(1), MIB(1));
	nothing_to_take(world);
	mirror_ring_free(old);
	mirror_reader_release(&old_reader);
}

static void a_large_write_ends_without_a_ring(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(MIB(2), 1);
	struct rig_request r;

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	block_drop_hold(world->drop, true);
	submit(world, &r, 0, out, MIB(2));
	block_mirror_set(world->mirror, NULL);
	block_drop_hold(world->drop, false);
	assert_int_equal(rig_wait(&world->rig, &r), 0);
	disk_has(world, 0, out, MIB(2));
	/* Its range is free again. */
	assert_int_equal(rig_write(&world->rig, 0, out, PAGE), 0);
}

static void a_queue_that_closes_leaves_nothing_behind(void **state)
{
	struct world *world = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(PAGE, 1);
	struct rig_request r[4];

	stand(world, NULL);
	block_mirror_set(world->mirror, world->ring);
	block_drop_hold(world->drop, true);
	for (unsigned int i = 0; i < 4; i++)
		submit(world, &r[i], 512 * i, out, PAGE);
	assert_int_equal(block_drop_held(world->drop), 1);
	block_queue_close(TAKE_PTR(world->rig.queue));
	assert_true(mirror_ring_idle(world->ring));
	block_drop_hold(world->drop, false);
	loop_free(world->rig.loop);
	rig_open_queue(&world->rig);
	assert_int_equal(rig_write(&world->rig, 0, out, PAGE), 0);
}

#define MIRROR_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MIRROR_TEST(without_a_ring_all_passes_as_it_is),
		MIRROR_TEST(what_is_written_is_mirrored),
		MIRROR_TEST(the_disk_is_written_from_the_rings_copy),
		MIRROR_TEST(a_large_write_is_several_entries),
		MIRROR_TEST(discards_and_zeroes_are_mirrored),
		MIRROR_TEST(a_full_ring_is_waited_for_in_order),
		MIRROR_TEST(writes_that_overlap_go_one_after_the_other),
		MIRROR_TEST(a_failing_disk_fails_the_guest_alone),
		MIRROR_TEST(a_ring_is_taken_away),
		MIRROR_TEST(what_began_before_the_ring_is_waited_for),
		MIRROR_TEST(a_large_write_begins_anew_in_another_ring),
		MIRROR_TEST(a_large_write_ends_without_a_ring),
		MIRROR_TEST(a_queue_that_closes_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
