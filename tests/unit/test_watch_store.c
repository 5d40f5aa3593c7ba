/* SPDX-License-Identifier: Apache-2.0 */

/* The writers' side of the Data Store: numbering, overwriting, names, followers, and readers who scribble. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "watch/store.h"
#include "watch_writer.h"

#define RECORDS 16

/* A reader's look, by another mapping. */
struct reader {
	size_t len;
	struct store_header *header;
	struct ring_header *ring; /* 0 */
	struct watch_record *records;
};

static void reader_open(struct reader *r, const struct writer *w, uint32_t n_rings)
{
	struct stat st;
	uint8_t *mapped;

	assert_return_code(fstat(w->fd, &st), errno);
	r->len = (size_t)st.st_size;
	mapped = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	assert_true(mapped != MAP_FAILED);
	r->header = (void *)mapped;
	r->ring = (void *)(mapped + STORE_HEADER);
	r->records = (void *)(mapped + store_records_offset(n_rings));
}

static void reader_close(struct reader *r)
{
	munmap(r->header, r->len);
}

/* ---- making and opening ---- */

static void shapes_out_of_range_are_refused(void **state _unused_)
{
	static const uint32_t bad[][3] = { /* rings, vCPUs, records */
					   { 0, 0, 16 }, { STORE_RINGS_MAX + 1, 1, 16 },
					   { 1, 2, 16 }, { 1, 1, 0 },
					   { 1, 1, 24 }, { 1, 1, 2 * STORE_RING_RECORDS_MAX }
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(store_make_fd("vm", bad[i][0], bad[i][1], bad[i][2]), -EINVAL);
}

static void file_can_be_neither_cut_nor_unsealed(void **state _unused_)
{
	struct writer w;

	writer_open(&w, 2, RECORDS);
	assert_int_equal(ftruncate(w.fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(w.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	writer_close(&w);
}

static void other_files_are_refused(void **state _unused_)
{
	int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint32_t records = 2 * RECORDS;
	uint8_t header[STORE_HEADER];
	struct store *store;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	assert_int_equal(store_open(fd, &store), -EPROTO);
	assert_int_equal(pread(w.fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pwrite(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(store_open(fd, &store), -EPROTO); /* too short */
	assert_return_code(ftruncate(fd, (off_t)(store_records_offset(1) +
						 RECORDS * sizeof(struct watch_record))),
			   errno);
	assert_int_equal(store_open(fd, &store), -EPROTO); /* not sealed */
	assert_return_code(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), errno);
	assert_return_code(store_open(fd, &store), 0);
	store_free(store);
	assert_int_equal(pwrite(fd, &records, 4, offsetof(struct store_header, ring_records)), 4);
	assert_int_equal(store_open(fd, &store), -EPROTO); /* another size than it says */
	assert_int_equal(store_open(-1, &store), -EBADF);
	store_free(NULL);
	close(fd);
	writer_close(&w);
}

static void untouched_store_takes_a_page_or_two(void **state _unused_)
{
	int fd = store_make_fd("idle", 64, 16, STORE_RING_RECORDS);
	struct stat st;

	assert_return_code(fstat(fd, &st), errno);
	assert_true(st.st_blocks * 512 <= 16384);
	close(fd);
}

/* ---- records ---- */

static void record_has_no_number_while_it_is_written(void **state _unused_)
{
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	for (uint64_t i = 1; i <= RECORDS; i++)
		writer_add(w.rings[0], i, 1, i);
	assert_int_equal(r.ring->head, RECORDS);
	assert_int_equal(r.records[0].sequence, 1);
	assert_int_equal(r.records[RECORDS - 1].sequence, RECORDS);
	ring_begin(w.rings[0]);
	assert_int_equal(r.records[0].sequence, 0);
	assert_int_equal(r.ring->head, RECORDS);
	ring_commit(w.rings[0]);
	assert_int_equal(r.records[0].sequence, RECORDS + 1);
	assert_int_equal(r.ring->head, RECORDS + 1);
	reader_close(&r);
	writer_close(&w);
}

static void rings_do_not_touch_each_other(void **state _unused_)
{
	struct reader r;
	struct writer w;

	writer_open(&w, 3, RECORDS);
	reader_open(&r, &w, 3);
	for (uint64_t i = 0; i < 3 * RECORDS; i++)
		writer_add(w.rings[1], i, 1, 1);
	for (unsigned int i = 0; i < RECORDS; i++) {
		assert_int_equal(r.records[i].sequence, 0);
		assert_int_equal(r.records[RECORDS + i].data, 1);
		assert_int_equal(r.records[2 * RECORDS + i].sequence, 0);
	}
	assert_null(store_ring(w.store, 3, "none"));
	reader_close(&r);
	writer_close(&w);
}

static void given_up_records_are_counted(void **state _unused_)
{
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	ring_drop(w.rings[0]);
	ring_drop(w.rings[0]);
	assert_int_equal(r.ring->dropped, 2);
	assert_int_equal(r.ring->head, 0);
	reader_close(&r);
	writer_close(&w);
}

static void store_goes_on_in_another_process(void **state _unused_)
{
	struct store *second;
	struct ring *ring;
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	writer_add(w.rings[0], 1, 1, 1);
	ring_drop(w.rings[0]);
	assert_int_equal(store_device(w.store, "rtc"), 1);
	assert_return_code(store_open(w.fd, &second), 0);
	ring = store_ring(second, 0, "again");
	writer_add(ring, 2, 1, 2);
	ring_drop(ring);
	assert_int_equal(r.ring->head, 2);
	assert_int_equal(r.ring->dropped, 2);
	assert_string_equal(r.ring->name, "again");
	assert_int_equal(store_device(second, "rtc"), 1);
	assert_int_equal(store_device(second, "pit"), 2);
	store_free(second);
	reader_close(&r);
	writer_close(&w);
}

/* ---- names and clocks ---- */

static void device_has_one_index(void **state _unused_)
{
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	assert_int_equal(store_device(w.store, "serial"), 0);
	assert_int_equal(store_device(w.store, "rtc"), 1);
	assert_int_equal(store_device(w.store, "serial"), 0);
	assert_int_equal(store_device(w.store, "a-name-that-is-longer-than-its-place"), 2);
	assert_int_equal(store_device(w.store, "a-name-that-is-longer-than-its-place"), 2);
	assert_int_equal(r.header->n_devices, 3);
	assert_string_equal(r.header->devices[1], "rtc");
	assert_int_equal(strlen(r.header->devices[2]), STORE_NAME - 1);
	reader_close(&r);
	writer_close(&w);
}

static void devices_end_where_the_table_does(void **state _unused_)
{
	struct writer w;
	char name[16];

	writer_open(&w, 1, RECORDS);
	for (unsigned int i = 1; i < STORE_DEVICES_MAX; i++) {
		snprintf(name, sizeof(name), "device%u", i);
		assert_int_equal(store_device(w.store, name), i);
	}
	assert_int_equal(store_device(w.store, "one more"), STORE_NO_DEVICE);
	assert_int_equal(store_device(w.store, "device5"), 5);
	writer_close(&w);
}

static void *name_devices(void *ctx)
{
	struct store *store = ctx;
	char name[16];

	for (unsigned int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "device%u", i);
		if (store_device(store, name) == STORE_NO_DEVICE)
			return store;
	}
	return NULL;
}

static void threads_agree_on_devices(void **state _unused_)
{
	pthread_t threads[4];
	struct reader r;
	struct writer w;
	void *failed;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, name_devices, w.store), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(r.header->n_devices, 101);
	reader_close(&r);
	writer_close(&w);
}

static void clocks_are_of_one_moment(void **state _unused_)
{
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	assert_int_equal(r.header->tsc_hz, TEST_HZ);
	store_set_clock(w.store, 0);
	assert_in_range(r.header->tsc_hz, 100000000, 100000000000);
	assert_true(r.header->anchor_tsc && r.header->anchor_monotonic_ns);
	assert_true(r.header->anchor_wall_ns > 1600000000000000000);
	reader_close(&r);
	writer_close(&w);
}

/* ---- followers ---- */

static void follow(struct reader *r, unsigned int slot, uint64_t owner, uint64_t tail)
{
	r->ring->followers[slot].tail = tail;
	r->ring->followers[slot].owner = owner;
}

static void room_ends_before_the_slowest_follower(void **state _unused_)
{
	uint64_t owner = 0;
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	assert_true(ring_has_room(w.rings[0], RECORDS, &owner));
	for (uint64_t i = 1; i <= 10; i++)
		writer_add(w.rings[0], i, 1, i);
	follow(&r, 0, 111, 10);
	follow(&r, 7, 222, 4);
	assert_true(ring_has_room(w.rings[0], RECORDS - 6, &owner));
	assert_int_equal(owner, 0);
	assert_false(ring_has_room(w.rings[0], RECORDS - 5, &owner));
	assert_int_equal(owner, 222);
	follow(&r, 7, 222, 10);
	assert_true(ring_has_room(w.rings[0], RECORDS, &owner));
	assert_false(ring_has_room(w.rings[0], RECORDS + 1, &owner));
	reader_close(&r);
	writer_close(&w);
}

static void expelled_is_only_who_is_named(void **state _unused_)
{
	uint64_t owner;
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	for (uint64_t i = 1; i <= 2 * RECORDS; i++)
		writer_add(w.rings[0], i, 1, i);
	follow(&r, 2, 111, 1);
	follow(&r, 3, 222, 1);
	assert_false(ring_has_room(w.rings[0], 1, &owner));
	assert_int_equal(owner, 111);
	ring_expel(w.rings[0], 111);
	assert_false(ring_has_room(w.rings[0], 1, &owner));
	assert_int_equal(owner, 222);
	ring_expel(w.rings[0], 333);
	assert_false(ring_has_room(w.rings[0], 1, &owner));
	ring_expel(w.rings[0], 222);
	assert_true(ring_has_room(w.rings[0], 1, &owner));
	reader_close(&r);
	writer_close(&w);
}

static void tail_from_the_future_holds_nobody_up(void **state _unused_)
{
	static const uint64_t tails[] = { 11, 1000, UINT64_MAX, UINT64_MAX - 5 };
	uint64_t owner;
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	for (uint64_t i = 1; i <= 10; i++)
		writer_add(w.rings[0], i, 1, i);
	for (unsigned int i = 0; i < ARRAY_SIZE(tails); i++) {
		follow(&r, 0, 111, tails[i]);
		assert_true(ring_has_room(w.rings[0], RECORDS, &owner));
	}
	reader_close(&r);
	writer_close(&w);
}

/* ---- readers who write ---- */

static void scribbling_does_not_lead_the_writer_astray(void **state _unused_)
{
	uint64_t owner;
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	writer_add(w.rings[0], 1, 1, 1);
	memset(r.header, 0xff, r.len);
	writer_add(w.rings[0], 2, 1, 2);
	assert_int_equal(r.ring->head, 2);
	assert_int_equal(r.records[1].sequence, 2);
	assert_int_equal(r.records[1].data, 2);
	assert_int_equal(store_device(w.store, "rtc"), 1);
	assert_int_equal(store_device(w.store, "serial"), 0);
	assert_true(ring_has_room(w.rings[0], RECORDS, &owner));
	ring_drop(w.rings[0]);
	assert_int_equal(r.ring->dropped, 1);
	memset(r.header, 0, r.len);
	writer_add(w.rings[0], 3, 1, 3);
	assert_int_equal(r.ring->head, 3);
	reader_close(&r);
	writer_close(&w);
}

/* The next process begins with what stands there. */
static void scribbled_store_opens_or_is_refused(void **state _unused_)
{
	struct store *second;
	struct ring *ring;
	struct reader r;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	reader_open(&r, &w, 1);
	memset(r.header->devices, 'x', sizeof(r.header->devices));
	r.header->n_devices = UINT32_MAX;
	memset(r.ring, 0xff, STORE_RING_HEADER);
	assert_return_code(store_open(w.fd, &second), 0);
	assert_int_equal(store_device(second, "rtc"), STORE_NO_DEVICE);
	ring = store_ring(second, 0, "ring0");
	writer_add(ring, 1, 1, 1);
	assert_int_equal(r.ring->head, 1);
	store_free(second);
	r.header->record_size = 128;
	assert_int_equal(store_open(w.fd, &second), -EPROTO);
	reader_close(&r);
	writer_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes_out_of_range_are_refused),
		cmocka_unit_test(file_can_be_neither_cut_nor_unsealed),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(untouched_store_takes_a_page_or_two),
		cmocka_unit_test(record_has_no_number_while_it_is_written),
		cmocka_unit_test(rings_do_not_touch_each_other),
		cmocka_unit_test(given_up_records_are_counted),
		cmocka_unit_test(store_goes_on_in_another_process),
		cmocka_unit_test(device_has_one_index),
		cmocka_unit_test(devices_end_where_the_table_does),
		cmocka_unit_test(threads_agree_on_devices),
		cmocka_unit_test(clocks_are_of_one_moment),
		cmocka_unit_test(room_ends_before_the_slowest_follower),
		cmocka_unit_test(expelled_is_only_who_is_named),
		cmocka_unit_test(tail_from_the_future_holds_nobody_up),
		cmocka_unit_test(scribbling_does_not_lead_the_writer_astray),
		cmocka_unit_test(scribbled_store_opens_or_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
