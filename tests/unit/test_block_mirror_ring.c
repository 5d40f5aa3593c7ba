/* SPDX-License-Identifier: Apache-2.0 */

/* A mirror's ring by itself: what is put is what is taken, in order, and no place is used twice at once. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"

#include "base/cleanup.h"
#include "block/mirror.h"

#define RING MIRROR_RING_MIN
#define BIG MIRROR_DATA_MAX
#define PAGE MIRROR_ALIGN

struct ends {
	struct mirror_reader reader;
	struct mirror_ring *ring;
	uint8_t *data; /* BIG bytes */
};

static int setup(void **state)
{
	static struct ends ends;
	struct error err = { 0 };

	assert_int_equal(mirror_reader_make(RING, &ends.reader), 0);
	assert_int_equal(mirror_ring_take(dup(ends.reader.fd), &ends.ring, &err), 0);
	ends.data = malloc(BIG);
	assert_non_null(ends.data);
	*state = &ends;
	return 0;
}

static int teardown(void **state)
{
	struct ends *ends = *state;

	mirror_ring_free(ends->ring);
	mirror_reader_release(&ends->reader);
	free(ends->data);
	return 0;
}

static struct mirror_head *head(const struct ends *ends)
{
	return ends->reader.map;
}

/* Entry number `n` of `len` bytes. */
static int put(struct ends *ends, uint64_t n, uint64_t len, struct mirror_entry **ret_entry)
{
	const struct mirror_entry entry = {
		.kind = MIRROR_WRITE, .disk = 3, .offset = n * BIG, .len = len
	};
	const struct iovec iov = { ends->data, len };
	void *data;
	int r;

	memset(ends->data, (int)(n + 1), len);
	r = mirror_ring_put(ends->ring, &entry, &iov, 1, ret_entry, &data);
	if (r == 0)
		assert_true(IS_ALIGNED((uintptr_t)data, MIRROR_ALIGN));
	return r;
}

static void put_done(struct ends *ends, uint64_t n, uint64_t len)
{
	struct mirror_entry *entry;

	assert_int_equal(put(ends, n, len, &entry), 0);
	mirror_ring_done(ends->ring, entry);
}

/* Takes entry `n`, which must be the next and right. */
static void take(struct ends *ends, uint64_t n, uint64_t len)
{
	struct mirror_entry entry;
	const uint8_t *bytes;
	const void *data;

	assert_int_equal(mirror_reader_next(&ends->reader, UINT64_MAX, false, &entry, &data), 1);
	assert_int_equal(entry.kind, MIRROR_WRITE);
	assert_int_equal(entry.disk, 3);
	assert_int_equal(entry.offset, n * BIG);
	assert_int_equal(entry.len, len);
	bytes = data;
	assert_int_equal(bytes[0], (uint8_t)(n + 1));
	assert_int_equal(bytes[len - 1], (uint8_t)(n + 1));
	mirror_reader_took(&ends->reader);
}

static void is_empty(struct ends *ends)
{
	struct mirror_entry entry;
	const void *data;

	assert_int_equal(mirror_reader_next(&ends->reader, UINT64_MAX, false, &entry, &data), 0);
}

static void entries_come_in_order(void **state)
{
	struct ends *ends = *state;

	is_empty(ends);
	for (uint64_t n = 0; n < 10; n++)
		put_done(ends, n, 512 + n * 700);
	for (uint64_t n = 0; n < 10; n++)
		take(ends, n, 512 + n * 700);
	is_empty(ends);
}

static void zeroes_have_no_data(void **state)
{
	const struct mirror_entry zeroes = {
		.kind = MIRROR_ZEROES, .disk = 1, .offset = 512, .len = MIB(200), .unmap = 1
	};
	struct ends *ends = *state;
	struct mirror_entry *put_entry, entry;
	const void *data;
	void *none;

	assert_int_equal(mirror_ring_put(ends->ring, &zeroes, NULL, 0, &put_entry, &none), 0);
	mirror_ring_done(ends->ring, put_entry);
	assert_int_equal(mirror_ring_end(ends->ring), PAGE);
	assert_int_equal(mirror_reader_next(&ends->reader, UINT64_MAX, true, &entry, &data), 1);
	assert_int_equal(entry.kind, MIRROR_ZEROES);
	assert_int_equal(entry.len, MIB(200));
	assert_int_equal(entry.unmap, 1);
}

static void a_part_of_several_buffers(void **state)
{
	struct ends *ends = *state;
	const struct mirror_entry entry = { .kind = MIRROR_WRITE, .len = 1024 };
	const struct iovec iov[] = {
		{ "x", 1 }, { NULL, 0 }, { ends->data, 700 }, { ends->data + 700, 2000 }
	};
	struct mirror_entry *placed;
	void *data;

	for (unsigned int i = 0; i < 2700; i++)
		ends->data[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(mirror_ring_put_part(ends->ring, &entry, iov, 4, 513, &placed, &data), 0);
	assert_memory_equal(data, ends->data + 512, 1024);
	mirror_ring_done(ends->ring, placed);
}

/* Sizes that fit the ring's end, and such that do not. */
static void it_wraps_around(void **state)
{
	struct ends *ends = *state;

	for (uint64_t n = 0; n < 300; n++) {
		uint64_t len = 512 * (1 + n * 37 % 2048);

		put_done(ends, n, len);
		if (n % 3 == 2)
			for (uint64_t i = n - 2; i <= n; i++)
				take(ends, i, 512 * (1 + i * 37 % 2048));
	}
	assert_true(mirror_ring_end(ends->ring) > 20ULL * RING);
	is_empty(ends);
}

static void a_full_ring_is_told(void **state)
{
	struct ends *ends = *state;
	struct mirror_entry *entry;
	uint64_t n = 0;

	/* To the last byte: each takes a page, and one beside it. */
	for (; n < RING / (2 * PAGE); n++)
		put_done(ends, n, PAGE);
	assert_int_equal(put(ends, n, PAGE, &entry), -EAGAIN);
	take(ends, 0, PAGE);
	put_done(ends, n, PAGE);
	assert_int_equal(put(ends, n + 1, PAGE, &entry), -EAGAIN);
}

static void what_was_taken_stays_until_it_is_done(void **state)
{
	struct ends *ends = *state;
	struct mirror_entry *first, *other;
	uint64_t n = 1;

	assert_int_equal(put(ends, 0, PAGE, &first), 0);
	for (; n < RING / (2 * PAGE); n++)
		put_done(ends, n, PAGE);
	for (uint64_t i = 0; i < n; i++)
		take(ends, i, PAGE);
	assert_int_equal(put(ends, n, PAGE, &other), -EAGAIN);
	assert_int_equal(*((uint8_t *)first + MIRROR_ALIGN), 1);
	assert_false(mirror_ring_idle(ends->ring));
	mirror_ring_done(ends->ring, first);
	assert_true(mirror_ring_idle(ends->ring));
	put_done(ends, n, PAGE);
}

static void a_small_one_leaves_room_for_a_large_one_that_waits(void **state)
{
	struct ends *ends = *state;
	struct mirror_entry *entry;
	uint64_t n = 0, taken = 0;

	for (; n < RING / (2 * PAGE); n++)
		put_done(ends, n, PAGE);
	assert_int_equal(put(ends, n, BIG, &entry), -EAGAIN);
	/* As long as the large one finds no room, small ones get none either. */
	while (put(ends, n, BIG, &entry) < 0) {
		take(ends, taken++, PAGE);
		assert_int_equal(put(ends, n, PAGE, &entry), -EAGAIN);
	}
	mirror_ring_done(ends->ring, entry);
	for (; taken < n; taken++)
		take(ends, taken, PAGE);
	put_done(ends, n + 1, PAGE);
}

static void what_is_too_large_never_fits(void **state)
{
	struct ends *ends = *state;
	struct mirror_entry wrong = { .kind = MIRROR_SKIP, .len = 512 }, *entry;
	const struct iovec iov = { ends->data, 512 };
	void *data;

	assert_int_equal(put(ends, 0, 0, &entry), -EFBIG);
	wrong.kind = MIRROR_WRITE;
	wrong.len = BIG + 512;
	assert_int_equal(mirror_ring_put(ends->ring, &wrong, &iov, 1, &entry, &data), -EFBIG);
	wrong.len = 1024; /* and has only 512 */
	assert_int_equal(mirror_ring_put(ends->ring, &wrong, &iov, 1, &entry, &data), -EFBIG);
	wrong = (struct mirror_entry){ .kind = MIRROR_SKIP, .len = 512 };
	assert_int_equal(mirror_ring_put(ends->ring, &wrong, &iov, 1, &entry, &data), -EFBIG);
	put_done(ends, 1, BIG);
}

static void a_nonsensical_count_takes_nothing(void **state)
{
	static const uint64_t wrong[] = { UINT64_MAX, RING + 1, RING + PAGE, 1ULL << 63, 1, PAGE };
	struct ends *ends = *state;
	struct mirror_entry *entry;
	uint64_t n = 0;

	for (; n < RING / (2 * PAGE); n++)
		put_done(ends, n, PAGE);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		__atomic_store_n(&head(ends)->taken, wrong[i], __ATOMIC_RELEASE);
		assert_int_equal(put(ends, n, PAGE, &entry), -EAGAIN);
	}
	take(ends, 0, PAGE);
	put_done(ends, n, PAGE);
	/* Going back takes nothing away. */
	__atomic_store_n(&head(ends)->taken, 0, __ATOMIC_RELEASE);
	assert_int_equal(put(ends, n + 1, PAGE, &entry), -EAGAIN);
}

static void a_prefix_that_is_done(void **state)
{
	struct ends *ends = *state;
	struct mirror_entry *first, entry;
	const void *data;

	assert_int_equal(put(ends, 0, PAGE, &first), 0);
	put_done(ends, 1, PAGE);
	assert_int_equal(mirror_reader_next(&ends->reader, UINT64_MAX, true, &entry, &data), 0);
	mirror_ring_done(ends->ring, first);
	assert_int_equal(mirror_reader_next(&ends->reader, UINT64_MAX, true, &entry, &data), 1);
	assert_int_equal(entry.offset, 0);
	/* Looked at, and not taken: it stays the next. */
	take(ends, 0, PAGE);
	take(ends, 1, PAGE);
}

static void no_more_than_up_to_the_end(void **state)
{
	struct ends *ends = *state;
	struct mirror_entry entry;
	const void *data;
	uint64_t end;

	put_done(ends, 0, PAGE);
	end = mirror_ring_end(ends->ring);
	put_done(ends, 1, PAGE);
	assert_int_equal(mirror_reader_next(&ends->reader, end, false, &entry, &data), 1);
	mirror_reader_took(&ends->reader);
	assert_int_equal(mirror_reader_next(&ends->reader, end, false, &entry, &data), 0);
	assert_int_equal(mirror_reader_next(&ends->reader, 0, false, &entry, &data), 0);
	assert_int_equal(mirror_reader_next(&ends->reader, end + 1, false, &entry, &data),
			 -EBADMSG);
	assert_int_equal(mirror_reader_next(&ends->reader, end + PAGE, false, &entry, &data),
			 -EBADMSG);
	assert_int_equal(mirror_reader_next(&ends->reader, end + RING, false, &entry, &data),
			 -EBADMSG);
	take(ends, 1, PAGE);
}

static void nonsense_in_the_ring_is_refused(void **state)
{
	static const struct mirror_entry wrong[] = {
		{ .kind = 0, .len = 512, .size = 2 * PAGE },
		{ .kind = 4, .len = 512, .size = 2 * PAGE },
		{ .kind = MIRROR_WRITE, .len = 0, .size = 2 * PAGE },
		{ .kind = MIRROR_WRITE, .len = 512, .size = 0 },
		{ .kind = MIRROR_WRITE, .len = 512, .size = 3 * PAGE },
		{ .kind = MIRROR_WRITE, .len = 2 * PAGE, .size = 2 * PAGE },
		{ .kind = MIRROR_WRITE, .len = 512, .size = 2 * PAGE, .unmap = 1 },
		{ .kind = MIRROR_WRITE, .len = 512, .size = 2 * PAGE, .disk = LIMIT_DISKS },
		{ .kind = MIRROR_WRITE, .len = 512, .size = 2 * PAGE, .offset = UINT64_MAX },
		{ .kind = MIRROR_ZEROES, .len = UINT64_MAX, .size = PAGE },
		{ .kind = MIRROR_ZEROES, .len = 512, .size = 2 * PAGE },
		{ .kind = MIRROR_ZEROES, .len = 512, .size = PAGE, .unmap = 2 },
		{ .kind = MIRROR_SKIP, .size = 2 * PAGE },
		{ .kind = MIRROR_SKIP, .size = 0 },
	};
	struct ends *ends = *state;
	struct mirror_entry *placed, entry;
	const void *data;

	assert_int_equal(put(ends, 0, 512, &placed), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		*placed = wrong[i];
		if (mirror_reader_next(&ends->reader, UINT64_MAX, false, &entry, &data) != -EBADMSG)
			fail_msg("entry %zu was believed", i);
	}
	for (uint64_t put_count = 1; put_count; put_count <<= 1) {
		__atomic_store_n(&head(ends)->put, put_count, __ATOMIC_RELEASE);
		assert_true(mirror_reader_next(&ends->reader, UINT64_MAX, false, &entry, &data) <=
			    0);
	}
	mirror_ring_done(ends->ring, placed);
}

static void a_file_that_is_no_ring_is_refused(void **state _unused_)
{
	static const struct {
		uint64_t bytes;
		int seals;
	} wrong[] = {
		{ MIRROR_HEAD + RING, 0 },
		{ MIRROR_HEAD + RING + PAGE, F_SEAL_SHRINK },
		{ MIRROR_HEAD + RING / 2, F_SEAL_SHRINK },
		{ MIRROR_HEAD + 2ULL * MIRROR_RING_MAX, F_SEAL_SHRINK },
		{ 0, F_SEAL_SHRINK },
	};
	struct mirror_reader reader;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		struct mirror_ring *ring = NULL;
		struct error err = { 0 };

		assert_int_equal(ftruncate(fd, (off_t)wrong[i].bytes), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, wrong[i].seals), 0);
		assert_int_equal(mirror_ring_take(fd, &ring, &err), -EINVAL);
		assert_null(ring);
		assert_true(err.message[0]);
		assert_int_equal(fcntl(fd, F_GETFD), -1);
	}
	assert_int_equal(mirror_reader_make(RING + PAGE, &reader), -EINVAL);
	assert_int_equal(mirror_reader_make(RING / 2, &reader), -EINVAL);
}

/* ---- several threads ---- */

#define THREADS 4
#define EACH 3000

struct writer {
	struct ends *ends;
	pthread_t thread;
	uint32_t number;
};

static uint64_t length_of(uint32_t number, uint64_t n)
{
	return 512 * (1 + (n * 31 + number) % 97);
}

static void *write_all(void *arg)
{
	const struct writer *writer = arg;
	uint8_t bytes[512 * 97];

	for (uint64_t n = 0; n < EACH; n++) {
		const struct mirror_entry entry = { .kind = MIRROR_WRITE,
						    .disk = writer->number,
						    .offset = n * KIB(64),
						    .len = length_of(writer->number, n) };
		const struct iovec iov = { bytes, entry.len };
		struct mirror_entry *placed;
		void *data;

		memset(bytes, (int)(n * 5 + writer->number), entry.len);
		while (mirror_ring_put(writer->ends->ring, &entry, &iov, 1, &placed, &data) < 0)
			sched_yield();
		if (memcmp(data, bytes, entry.len) != 0)
			return "the copy is none";
		mirror_ring_done(writer->ends->ring, placed);
	}
	return NULL;
}

static void take_one(struct ends *ends, uint64_t next[THREADS])
{
	struct mirror_entry entry;
	const uint8_t *bytes;
	const void *data;
	uint64_t n;
	int r;

	while ((r = mirror_reader_next(&ends->reader, UINT64_MAX, false, &entry, &data)) == 0)
		sched_yield();
	assert_int_equal(r, 1);
	assert_true(entry.disk < THREADS);
	n = next[entry.disk]++;
	assert_int_equal(entry.offset, n * KIB(64));
	assert_int_equal(entry.len, length_of(entry.disk, n));
	bytes = data;
	for (uint64_t i = 0; i < entry.len; i++)
		if (bytes[i] != (uint8_t)(n * 5 + entry.disk))
			fail_msg("entry %llu is half copied", (unsigned long long)n);
	mirror_reader_took(&ends->reader);
}

static void threads_see_whole_entries(void **state)
{
	struct writer writers[THREADS];
	uint64_t next[THREADS] = { 0 };
	struct ends *ends = *state;

	for (uint32_t i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){ .ends = ends, .number = i };
		assert_int_equal(pthread_create(&writers[i].thread, NULL, write_all, &writers[i]),
				 0);
	}
	for (unsigned int i = 0; i < THREADS * EACH; i++)
		take_one(ends, next);
	for (unsigned int i = 0; i < THREADS; i++) {
		void *wrong;

		assert_int_equal(pthread_join(writers[i].thread, &wrong), 0);
		assert_null(wrong);
	}
	assert_true(mirror_ring_idle(ends->ring));
	is_empty(ends);
}

#define RING_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RING_TEST(entries_come_in_order),
		RING_TEST(zeroes_have_no_data),
		RING_TEST(a_part_of_several_buffers),
		RING_TEST(it_wraps_around),
		RING_TEST(a_full_ring_is_told),
		RING_TEST(what_was_taken_stays_until_it_is_done),
		RING_TEST(a_small_one_leaves_room_for_a_large_one_that_waits),
		RING_TEST(what_is_too_large_never_fits),
		RING_TEST(a_nonsensical_count_takes_nothing),
		RING_TEST(a_prefix_that_is_done),
		RING_TEST(no_more_than_up_to_the_end),
		RING_TEST(nonsense_in_the_ring_is_refused),
		cmocka_unit_test(a_file_that_is_no_ring_is_refused),
		RING_TEST(threads_see_whole_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
