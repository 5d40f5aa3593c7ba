/* SPDX-License-Identifier: Apache-2.0 */

/* Records of a store as its readers get them: order, loss, followers, and stores that lie. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "watch/read/source.h"
#include "watch_writer.h"

#define RECORDS 64
#define MS 1000000ULL /* ticks */

static const struct source_options from_oldest = { .from_oldest = true };
static const struct source_options from_now = { 0 };
static const struct source_options lossless = { .lossless = true };

static struct watch_source *open_source(struct writer *w, bool live,
					const struct source_options *options)
{
	struct watch_source *source;
	struct error err = { 0 };

	if (source_open_store(w->fd, live, options, "testee", &source, &err) < 0)
		fail_msg("%s", err.message);
	return source;
}

static uint64_t next_data(struct watch_source *source)
{
	struct watch_record record;
	uint32_t ring;

	assert_int_equal(source_next(source, &record, &ring), 1);
	return record.data;
}

static void expect_end(struct watch_source *source)
{
	struct watch_record record;
	uint32_t ring;

	assert_int_equal(source_next(source, &record, &ring), -ENODATA);
}

static void expect_none_now(struct watch_source *source)
{
	struct watch_record record;
	uint32_t ring;

	assert_int_equal(source_next(source, &record, &ring), 0);
}

/* Counts what is there until the end of a source whose writer has ended. */
static uint64_t drain(struct watch_source *source)
{
	struct watch_record record;
	uint64_t n = 0;
	uint32_t ring;
	int r;

	source_set_ended(source);
	while ((r = source_next(source, &record, &ring)) == 1)
		n++;
	assert_int_equal(r, -ENODATA);
	return n;
}

/* ---- order ---- */

static void rings_are_merged_by_begin(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	writer_add(w.rings[0], 1000, 10, 1);
	writer_add(w.rings[0], 3000, 10, 3);
	writer_add(w.rings[1], 2000, 10, 2);
	writer_add(w.rings[1], 4000, 10, 4);
	source = open_source(&w, false, &from_oldest);
	for (uint64_t i = 1; i <= 4; i++)
		assert_int_equal(next_data(source), i);
	expect_end(source);
	expect_end(source);
	source_free(source);
	writer_close(&w);
}

static void nested_comes_after_what_caused_it(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	writer_add(w.rings[0], 1010, 20, 2);
	writer_add(w.rings[0], 1000, 50, 1);
	source = open_source(&w, false, &from_oldest);
	assert_int_equal(next_data(source), 1);
	assert_int_equal(next_data(source), 2);
	source_free(source);
	writer_close(&w);
}

static void long_request_comes_when_it_was_answered(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	for (uint64_t i = 0; i < 20; i++)
		writer_add(w.rings[0], MS * 5 * i, 10, i);
	writer_add(w.rings[1], MS, 51 * MS, 100);
	writer_add(w.rings[1], 2 * MS, 52 * MS, 101);
	source = open_source(&w, false, &from_oldest);
	/* Ring 1 is known to be read up to 52 ms when ring 0's records are given up to 42. */
	for (uint64_t i = 0; i <= 8; i++)
		if (i == 1) {
			assert_int_equal(next_data(source), 100);
			assert_int_equal(next_data(source), 101);
			assert_int_equal(next_data(source), 1);
		} else {
			assert_int_equal(next_data(source), i);
		}
	source_free(source);
	writer_close(&w);
}

static void live_record_is_held_for_the_window(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	/* A clock so slow that the window never passes. */
	store_set_clock(w.store, 1000000000000000ULL);
	source = open_source(&w, true, &from_now);
	writer_add_now(w.rings[0], 7);
	expect_none_now(source);
	source_set_ended(source);
	assert_int_equal(next_data(source), 7);
	expect_end(source);
	source_free(source);
	writer_close(&w);
}

static void live_record_comes_after_the_window(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	store_set_clock(w.store, 1000); /* a window of no tick */
	source = open_source(&w, true, &from_now);
	writer_add_now(w.rings[0], 7);
	assert_int_equal(next_data(source), 7);
	expect_none_now(source);
	writer_add_now(w.rings[1], 8);
	assert_int_equal(next_data(source), 8);
	source_free(source);
	writer_close(&w);
}

/* ---- where it begins, what is lost ---- */

static void begins_with_now_or_with_the_oldest(void **state _unused_)
{
	struct watch_source *now, *oldest;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	for (uint64_t i = 1; i <= RECORDS + 5; i++)
		writer_add_now(w.rings[0], i);
	now = open_source(&w, true, &from_now);
	oldest = open_source(&w, true, &from_oldest);
	writer_add_now(w.rings[0], 1000);
	source_set_ended(now);
	assert_int_equal(next_data(now), 1000);
	expect_end(now);
	source_set_ended(oldest);
	assert_int_equal(next_data(oldest), 7); /* 6 was there when it was opened */
	assert_int_equal(source_lost(oldest), 1);
	source_free(now);
	source_free(oldest);
	writer_close(&w);
}

static void overwritten_and_dropped_are_counted(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	ring_drop(w.rings[1]);
	source = open_source(&w, true, &from_now);
	for (uint64_t i = 1; i <= 3 * RECORDS; i++)
		writer_add_now(w.rings[0], i);
	ring_drop(w.rings[1]);
	ring_drop(w.rings[1]);
	assert_int_equal(drain(source), RECORDS);
	assert_int_equal(source_lost(source), 2 * RECORDS + 2);
	source_free(source);
	writer_close(&w);
}

static void record_being_written_is_not_there(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	for (uint64_t i = 1; i <= RECORDS; i++)
		writer_add_now(w.rings[0], i);
	ring_begin(w.rings[0])->data = 666;
	source = open_source(&w, false, &from_oldest);
	assert_int_equal(next_data(source), 2);
	assert_int_equal(source_lost(source), 1);
	source_free(source);
	writer_close(&w);
}

/* ---- followers ---- */

static void follower_holds_the_writer_up(void **state _unused_)
{
	struct watch_source *source;
	uint64_t owner, n = 0;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	source = open_source(&w, true, &lossless);
	while (ring_has_room(w.rings[0], 1, &owner) && n < 2 * RECORDS)
		writer_add_now(w.rings[0], n++);
	assert_int_equal(n, RECORDS);
	assert_int_equal(drain(source), RECORDS);
	assert_true(ring_has_room(w.rings[0], 1, &owner));
	assert_int_equal(source_lost(source), 0);
	assert_false(source_was_expelled(source));
	source_free(source);
	writer_close(&w);
}

static void freed_follower_holds_nobody_up(void **state _unused_)
{
	struct watch_source *source;
	uint64_t owner;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	source = open_source(&w, true, &lossless);
	for (uint64_t i = 0; i < RECORDS; i++)
		writer_add_now(w.rings[0], i);
	assert_false(ring_has_room(w.rings[0], 1, &owner));
	source_free(source);
	assert_true(ring_has_room(w.rings[0], RECORDS, &owner));
	writer_close(&w);
}

static void expelled_follower_goes_on(void **state _unused_)
{
	struct watch_source *source;
	uint64_t owner;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	source = open_source(&w, true, &lossless);
	for (uint64_t i = 0; i < RECORDS; i++)
		writer_add_now(w.rings[0], i);
	assert_false(ring_has_room(w.rings[0], 1, &owner));
	ring_expel(w.rings[0], owner);
	assert_true(ring_has_room(w.rings[0], RECORDS, &owner));
	writer_add_now(w.rings[0], 9);
	assert_int_equal(drain(source), RECORDS);
	assert_int_equal(source_lost(source), 1);
	assert_true(source_was_expelled(source));
	source_free(source);
	writer_close(&w);
}

static void followers_are_limited(void **state _unused_)
{
	struct watch_source *sources[STORE_FOLLOWERS], *more;
	struct error err = { 0 };
	struct writer w;

	writer_open(&w, 2, RECORDS);
	for (unsigned int i = 0; i < STORE_FOLLOWERS; i++)
		sources[i] = open_source(&w, true, &lossless);
	assert_int_equal(source_open_store(w.fd, true, &lossless, "testee", &more, &err), -EBUSY);
	assert_non_null(strstr(err.message, "8 lossless watchers"));
	source_free(sources[3]);
	more = open_source(&w, true, &lossless);
	sources[3] = more;
	for (unsigned int i = 0; i < STORE_FOLLOWERS; i++)
		source_free(sources[i]);
	writer_close(&w);
}

/* ---- what it says of itself ---- */

static void names_come_when_they_are_given(void **state _unused_)
{
	struct watch_source *source;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	source = open_source(&w, true, &from_now);
	assert_string_equal(source_header(source)->vm, "testee");
	assert_string_equal(source_device_name(source, 0), "serial");
	assert_string_equal(source_device_name(source, 1), "-");
	assert_string_equal(source_device_name(source, STORE_NO_DEVICE), "-");
	assert_int_equal(store_device(w.store, "virtio-blk.0"), 1);
	assert_string_equal(source_device_name(source, 1), "virtio-blk.0");
	assert_string_equal(source_ring_name(source, 1), "ring1");
	assert_string_equal(source_ring_name(source, 2), "-");
	store_header(w.store)->mode = STORE_ALL;
	expect_none_now(source);
	assert_int_equal(source_header(source)->mode, STORE_ALL);
	source_free(source);
	writer_close(&w);
}

static void ticks_become_time(void **state _unused_)
{
	struct watch_source *source;
	const struct store_header *header;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	store_set_clock(w.store, 2 * TEST_HZ);
	source = open_source(&w, true, &from_now);
	header = source_header(source);
	assert_int_equal(source_ticks_ns(source, 3000), 1500);
	assert_int_equal(source_wall_ns(source, header->anchor_tsc), header->anchor_wall_ns);
	assert_int_equal(source_wall_ns(source, header->anchor_tsc - 4000),
			 header->anchor_wall_ns - 2000);
	assert_int_equal(source_ticks_ns(source, UINT64_MAX), UINT64_MAX / 2);
	source_free(source);
	writer_close(&w);
}

/* ---- stores that are none, or lie ---- */

static void expect_refused(int fd, bool live, int code, const char *text)
{
	struct watch_source *source;
	struct error err = { 0 };

	assert_int_equal(source_open_store(fd, live, &from_oldest, "testee", &source, &err), code);
	assert_non_null(strstr(err.message, text));
}

static void others_files_are_refused(void **state _unused_)
{
	struct writer w;
	int fd = memfd_create("none", MFD_CLOEXEC);
	uint32_t version = 2;

	expect_refused(fd, false, -EPROTO, "no store");
	assert_return_code(ftruncate(fd, 65536), errno);
	expect_refused(fd, false, -EPROTO, "no store");
	expect_refused(-1, false, -EBADF, "cannot read");
	writer_open(&w, 1, RECORDS);
	assert_int_equal(pwrite(w.fd, &version, 4, offsetof(struct store_header, version)), 4);
	expect_refused(w.fd, true, -EPROTONOSUPPORT, "another version");
	writer_close(&w);
	close(fd);
}

/* A copy of the store's first bytes: what the keeper leaves where the disk is full, or anybody's. */
static int copy_of(const struct writer *w, size_t len)
{
	int fd = memfd_create("copy", MFD_CLOEXEC);
	char *bytes = malloc(len);

	assert_int_equal(pread(w->fd, bytes, len, 0), len);
	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	free(bytes);
	return fd;
}

static void file_that_can_shrink_is_not_mapped(void **state _unused_)
{
	struct writer w;
	int fd;

	writer_open(&w, 1, RECORDS);
	fd = copy_of(&w, store_records_offset(1) + RECORDS * sizeof(struct watch_record));
	expect_refused(fd, true, -EPROTO, "no store");
	close(fd);
	writer_close(&w);
}

static void short_file_gives_what_it_has(void **state _unused_)
{
	struct watch_source *source;
	struct error err = { 0 };
	struct writer w;
	int fd;

	writer_open(&w, 2, RECORDS);
	for (uint64_t i = 1; i <= 10; i++) {
		writer_add(w.rings[0], i, 0, i);
		writer_add(w.rings[1], i, 0, i);
	}
	fd = copy_of(&w, store_records_offset(2) + 3 * sizeof(struct watch_record) + 100);
	assert_return_code(source_open_store(fd, false, &from_oldest, "left", &source, &err), 0);
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(next_data(source), i);
	expect_end(source);
	assert_int_equal(source_lost(source), 17);
	source_free(source);
	close(fd);
	writer_close(&w);
}

static struct ring_header *map_ring_header(struct writer *w, uint32_t ring)
{
	uint8_t *mapped = mmap(NULL, store_records_offset(2), PROT_READ | PROT_WRITE, MAP_SHARED,
			       w->fd, 0);

	assert_true(mapped != MAP_FAILED);
	return (void *)(mapped + STORE_HEADER + ring * STORE_RING_HEADER);
}

static void unmap_ring_header(struct ring_header *header, uint32_t ring)
{
	munmap((uint8_t *)header - STORE_HEADER - ring * STORE_RING_HEADER,
	       store_records_offset(2));
}

static void heads_that_lie_do_no_harm(void **state _unused_)
{
	static const uint64_t heads[] = {
		UINT64_MAX, STORE_SEQUENCE_MAX + 1, STORE_SEQUENCE_MAX, 1ULL << 40, 5, 0
	};
	struct watch_source *source;
	struct ring_header *header;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	source = open_source(&w, true, &from_oldest);
	header = map_ring_header(&w, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(heads); i++) {
		struct watch_source *other;

		header->head = heads[i];
		header->dropped = heads[i];
		expect_none_now(source);
		other = open_source(&w, true, &from_oldest);
		expect_none_now(other);
		assert_int_equal(drain(other), 0);
		source_free(other);
	}
	assert_int_equal(source_lost(source), UINT64_MAX); /* stays at the most there can be */
	unmap_ring_header(header, 0);
	source_free(source);
	writer_close(&w);
}

static void record_is_made_safe(void **state _unused_)
{
	struct watch_source *source;
	struct watch_record *record, got;
	struct writer w;
	uint32_t ring;

	writer_open(&w, 1, RECORDS);
	record = ring_begin(w.rings[0]);
	memset((uint8_t *)record + 8, 0xff, sizeof(*record) - 8);
	record->kind = RECORD_PCI;
	ring_commit(w.rings[0]);
	record = ring_begin(w.rings[0]);
	memset((uint8_t *)record + 8, 0xff, sizeof(*record) - 8);
	record->kind = RECORD_NET;
	ring_commit(w.rings[0]);
	writer_add(w.rings[0], 1, 1, 1);
	ring_begin(w.rings[0])->kind = RECORD_KINDS;
	ring_commit(w.rings[0]);
	source = open_source(&w, false, &from_oldest);
	assert_int_equal(next_data(source), 1);
	assert_int_equal(source_next(source, &got, &ring), 1);
	assert_int_equal(got.size, 0);
	assert_int_equal(got.device, STORE_NO_DEVICE);
	assert_int_equal(got.operation, RECORD_DISK_OTHER);
	assert_int_equal(got.access.n_before, RECORD_WINDOW);
	assert_int_equal(got.access.mode, 0);
	assert_true(got.access.verdict < RECORD_VERDICTS);
	assert_int_equal(source_next(source, &got, &ring), 1);
	assert_int_equal(got.frame.n_bytes, RECORD_FRAME_BYTES);
	expect_end(source);
	assert_int_equal(source_lost(source), 1); /* of no kind there is */
	source_free(source);
	writer_close(&w);
}

static void record_without_its_head_is_found(void **state _unused_)
{
	struct watch_source *source;
	struct ring_header *header;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	header = map_ring_header(&w, 0);
	writer_add(w.rings[0], 1, 1, 1);
	writer_add(w.rings[0], 2, 1, 2);
	header->head = 1; /* killed between the record and the head */
	source = open_source(&w, false, &from_oldest);
	assert_int_equal(next_data(source), 1);
	assert_int_equal(next_data(source), 2);
	expect_end(source);
	assert_int_equal(source_lost(source), 0);
	unmap_ring_header(header, 0);
	source_free(source);
	writer_close(&w);
}

static void slot_that_another_has_is_left_alone(void **state _unused_)
{
	struct watch_source *source;
	struct ring_header *header;
	struct writer w;

	writer_open(&w, 2, RECORDS);
	source = open_source(&w, true, &lossless);
	header = map_ring_header(&w, 0);
	assert_true(header->followers[0].owner != 0);
	header->followers[0] = (struct ring_follower){ .owner = 4711, .tail = 17 };
	writer_add_now(w.rings[0], 1);
	assert_int_equal(drain(source), 1);
	assert_true(source_was_expelled(source));
	source_free(source);
	assert_int_equal(header->followers[0].owner, 4711);
	assert_int_equal(header->followers[0].tail, 17);
	unmap_ring_header(header, 0);
	writer_close(&w);
}

static void texts_end_and_are_printable(void **state _unused_)
{
	struct watch_source *source;
	struct store_header *header;
	struct writer w;

	writer_open(&w, 1, RECORDS);
	header = store_header(w.store);
	memset(header->vm, 'a', sizeof(header->vm));
	strcpy(header->devices[0], "se\033[2Jrial");
	header->n_devices = UINT32_MAX;
	header->n_vcpus = 77;
	source = open_source(&w, true, &from_now);
	assert_int_equal(strlen(source_header(source)->vm), sizeof(header->vm) - 1);
	assert_string_equal(source_device_name(source, 0), "se?[2Jrial");
	assert_int_equal(source_header(source)->n_devices, STORE_DEVICES_MAX);
	assert_int_equal(source_header(source)->n_vcpus, 1);
	source_free(source);
	writer_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rings_are_merged_by_begin),
		cmocka_unit_test(nested_comes_after_what_caused_it),
		cmocka_unit_test(long_request_comes_when_it_was_answered),
		cmocka_unit_test(live_record_is_held_for_the_window),
		cmocka_unit_test(live_record_comes_after_the_window),
		cmocka_unit_test(begins_with_now_or_with_the_oldest),
		cmocka_unit_test(overwritten_and_dropped_are_counted),
		cmocka_unit_test(record_being_written_is_not_there),
		cmocka_unit_test(follower_holds_the_writer_up),
		cmocka_unit_test(freed_follower_holds_nobody_up),
		cmocka_unit_test(expelled_follower_goes_on),
		cmocka_unit_test(followers_are_limited),
		cmocka_unit_test(names_come_when_they_are_given),
		cmocka_unit_test(ticks_become_time),
		cmocka_unit_test(others_files_are_refused),
		cmocka_unit_test(file_that_can_shrink_is_not_mapped),
		cmocka_unit_test(short_file_gives_what_it_has),
		cmocka_unit_test(heads_that_lie_do_no_harm),
		cmocka_unit_test(record_is_made_safe),
		cmocka_unit_test(record_without_its_head_is_found),
		cmocka_unit_test(slot_that_another_has_is_left_alone),
		cmocka_unit_test(texts_end_and_are_printable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
