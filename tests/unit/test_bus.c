/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "bus/bus.h"
#include "check.h"

struct memo {
	uint64_t offset, data;
	unsigned int size, reads, writes;
};

static uint64_t memo_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct memo *memo = ctx;

	memo->reads++;
	memo->offset = offset;
	memo->size = size;
	return memo->data;
}

static void memo_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct memo *memo = ctx;

	memo->writes++;
	memo->offset = offset;
	memo->size = size;
	memo->data = data;
}

static const struct bus_ops memo_ops = { memo_read, memo_write };

static struct bus_region region(struct memo *memo, enum bus_space space, uint64_t base,
				uint64_t len)
{
	return (struct bus_region){
		.name = "memo",
		.space = space,
		.base = base,
		.len = len,
		.ops = &memo_ops,
		.ctx = memo,
	};
}

static uint64_t read_at(struct bus *bus, enum bus_space space, uint64_t address, uint8_t size)
{
	struct bus_access access = { .space = space, .size = size, .address = address };

	bus_dispatch(bus, &access);
	return access.data;
}

static void write_at(struct bus *bus, enum bus_space space, uint64_t address, uint8_t size,
		     uint64_t data)
{
	struct bus_access access = {
		.space = space,
		.write = true,
		.size = size,
		.address = address,
		.data = data,
	};

	bus_dispatch(bus, &access);
}

static void an_access_reaches_its_region(void **state _unused_)
{
	struct bus *bus = bus_new();
	struct memo memo = { .data = 0x1234567890 };
	struct bus_region r = region(&memo, BUS_PIO, 0x3f8, 8);

	assert_int_equal(bus_add(bus, &r), 0);
	assert_int_equal(read_at(bus, BUS_PIO, 0x3fa, 1), 0x90);
	assert_int_equal(memo.offset, 2);
	write_at(bus, BUS_PIO, 0x3f8, 2, 0xabcd);
	assert_int_equal(memo.data, 0xabcd);
	assert_ptr_equal(bus_find(bus, BUS_PIO, 0x3ff), &r);
	assert_null(bus_find(bus, BUS_PIO, 0x400));
	assert_null(bus_find(bus, BUS_MMIO, 0x3f8));
	bus_free(bus);
}

static void nobodys_addresses_read_as_ones(void **state _unused_)
{
	struct bus *bus = bus_new();

	assert_int_equal(read_at(bus, BUS_PIO, 0x99, 1), 0xff);
	assert_int_equal(read_at(bus, BUS_MMIO, 0xf0000000, 4), 0xffffffff);
	assert_true(read_at(bus, BUS_MMIO, UINT64_MAX - 3, 8) == UINT64_MAX);
	write_at(bus, BUS_MMIO, UINT64_MAX, 8, 1);
	bus_free(bus);
}

static void an_access_that_leaves_its_region_is_nobodys(void **state _unused_)
{
	struct bus *bus = bus_new();
	struct memo memo = { 0 };
	struct bus_region r = region(&memo, BUS_PIO, 0x70, 2);

	assert_int_equal(bus_add(bus, &r), 0);
	assert_int_equal(read_at(bus, BUS_PIO, 0x71, 2), 0xffff);
	write_at(bus, BUS_PIO, 0x71, 4, 0);
	assert_int_equal(memo.reads + memo.writes, 0);
	bus_free(bus);
}

static void overlaps_are_refused(void **state _unused_)
{
	struct bus *bus = bus_new();
	struct memo memo = { 0 };
	struct bus_region a = region(&memo, BUS_MMIO, 0x1000, 0x1000);
	struct bus_region b = region(&memo, BUS_MMIO, 0x1fff, 0x1000);
	struct bus_region c = region(&memo, BUS_MMIO, 0, 0x10000);
	struct bus_region end = region(&memo, BUS_PIO, 0xffff, 2);
	struct bus_region empty = region(&memo, BUS_PIO, 0, 0);

	assert_int_equal(bus_add(bus, &a), 0);
	assert_int_equal(bus_add(bus, &b), -EBUSY);
	assert_int_equal(bus_add(bus, &c), -EBUSY);
	assert_int_equal(bus_add(bus, &end), -ERANGE);
	assert_int_equal(bus_add(bus, &empty), -ERANGE);
	b.base = 0x2000;
	assert_int_equal(bus_add(bus, &b), 0);
	assert_int_equal(bus_move(bus, &b, 0x1800), -EBUSY);
	assert_ptr_equal(bus_find(bus, BUS_MMIO, 0x2000), &b);
	assert_int_equal(bus_move(bus, &b, 0x5000), 0);
	assert_ptr_equal(bus_find(bus, BUS_MMIO, 0x5fff), &b);
	assert_null(bus_find(bus, BUS_MMIO, 0x2000));
	bus_free(bus);
}

struct recording_tap {
	struct bus_tap tap;
	unsigned int before, after;
	uint64_t seen;
	bool answer;
};

static enum tap_verdict tap_before(struct bus_tap *tap, struct bus_access *access)
{
	struct recording_tap *recording = container_of(tap, struct recording_tap, tap);

	recording->before++;
	recording->seen = access->data;
	if (recording->answer) {
		access->data = 0x55;
		return TAP_DONE;
	}
	access->data ^= access->write ? 1 : 0;
	return TAP_PASS;
}

static void tap_after(struct bus_tap *tap, struct bus_access *access)
{
	struct recording_tap *recording = container_of(tap, struct recording_tap, tap);

	recording->after++;
	recording->seen = access->data;
	if (!access->write && !recording->answer)
		access->data += 1;
}

static void taps_see_change_and_answer(void **state _unused_)
{
	struct bus *bus = bus_new();
	struct memo memo = { .data = 0x10 };
	struct bus_region r = region(&memo, BUS_PIO, 0x80, 1);
	struct recording_tap tap = { .tap = { .before = tap_before, .after = tap_after } };

	assert_int_equal(bus_add(bus, &r), 0);
	bus_add_tap(bus, &tap.tap);
	assert_int_equal(read_at(bus, BUS_PIO, 0x80, 1), 0x11);
	assert_int_equal(tap.seen, 0x10);
	write_at(bus, BUS_PIO, 0x80, 1, 0x20);
	assert_int_equal(memo.data, 0x21);
	tap.answer = true;
	assert_int_equal(read_at(bus, BUS_PIO, 0x80, 1), 0x55);
	assert_int_equal(memo.reads, 1);
	assert_int_equal(tap.before, 3);
	assert_int_equal(tap.after, 3);
	/* An address that nobody claims is seen too. */
	tap.answer = false;
	read_at(bus, BUS_PIO, 0x81, 1);
	assert_int_equal(tap.before, 4);
	bus_remove_tap(bus, &tap.tap);
	read_at(bus, BUS_PIO, 0x80, 1);
	assert_int_equal(tap.before, 4);
	bus_free(bus);
}

/* One thread moves a region to and fro while another looks: it sees the old place or the new, and the
 * regions that do not move always. */
struct mover {
	struct bus *bus;
	struct bus_region *moving;
	bool done;
};

static void *move_to_and_fro(void *arg)
{
	struct mover *mover = arg;

	for (int i = 0; i < 20000; i++)
		if (bus_move(mover->bus, mover->moving, i % 2 ? 0x1000 : 0x9000) < 0)
			return arg;
	__atomic_store_n(&mover->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void a_search_sees_one_table(void **state _unused_)
{
	struct bus *bus = bus_new();
	struct memo memo = { 0 };
	struct bus_region fixed = region(&memo, BUS_MMIO, 0x5000, 0x1000);
	struct bus_region moving = region(&memo, BUS_MMIO, 0x1000, 0x1000);
	struct mover mover = { .bus = bus, .moving = &moving };
	pthread_t thread;
	void *failed;

	assert_int_equal(bus_add(bus, &fixed), 0);
	assert_int_equal(bus_add(bus, &moving), 0);
	pthread_create(&thread, NULL, move_to_and_fro, &mover);
	while (!__atomic_load_n(&mover.done, __ATOMIC_ACQUIRE)) {
		struct bus_region *found = bus_find(bus, BUS_MMIO, 0x1800);

		assert_ptr_equal(bus_find(bus, BUS_MMIO, 0x5fff), &fixed);
		assert_true(!found || found == &moving);
	}
	pthread_join(thread, &failed);
	assert_null(failed);
	bus_free(bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_access_reaches_its_region),
		cmocka_unit_test(nobodys_addresses_read_as_ones),
		cmocka_unit_test(an_access_that_leaves_its_region_is_nobodys),
		cmocka_unit_test(overlaps_are_refused),
		cmocka_unit_test(taps_see_change_and_answer),
		cmocka_unit_test(a_search_sees_one_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
