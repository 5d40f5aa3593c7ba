/* SPDX-License-Identifier: Apache-2.0 */
/* Each oddity at both sides of its threshold, and what looks like one and is none. */
#include "analysis_feed.h"

#include <errno.h>

#define SECOND NSEC_PER_SEC
#define MS NSEC_PER_MSEC

/* The first oddity of this kind in a window of a second, or NULL. */
static const struct analysis_odd *find(struct feed *feed, enum analysis_oddity what)
{
	const struct analysis_window *window = feed_now(feed, SECOND);

	for (uint32_t i = 0; i < window->n_odd; i++)
		if (window->odd[i].what == what)
			return &window->odd[i];
	return NULL;
}

/* `n` reads that repeat the one before. */
static struct feed *poll(unsigned int n)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (unsigned int i = 0; i <= n; i++) {
		struct watch_record r = feed_pio(FEED_SERIAL, (uint64_t)i * MS, 1000, 0x3fd,
						 0xffffffff81234567);

		r.data = 0x60;
		feed_add(feed, &r);
	}
	return feed;
}

static void test_the_same_answer_again_is_polling(void **state)
{
	struct feed *feed = poll(100);
	const struct analysis_odd *odd = find(feed, ODD_POLLING);

	assert_non_null(odd);
	assert_int_equal(odd->device, FEED_SERIAL);
	assert_int_equal(odd->address, 0x3fd);
	assert_int_equal(odd->kind, RECORD_PIO);
	assert_int_equal(odd->data, 0x60);
	assert_true(odd->instruction == 0xffffffff81234567);
	assert_int_equal(odd->count, 100);
	feed_free(feed);
	feed = poll(99);
	assert_null(find(feed, ODD_POLLING));
	feed_free(feed);
}

/* A status is read before each byte is written: the same answer, but something happens between. */
static void test_reads_between_writes_are_no_polling(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (unsigned int i = 0; i < 4000; i++) {
		struct watch_record r = feed_pio(FEED_SERIAL, i * 250000, 1000, 0x3fd, 0x1000);

		r.data = 0x60;
		feed_add(feed, &r);
		r = feed_pio(FEED_SERIAL, i * 250000 + 10000, 1000, 0x3f8, 0x1008);
		r.flags = RECORD_WRITE;
		feed_add(feed, &r);
	}
	assert_null(find(feed, ODD_POLLING));
	feed_free(feed);
}

static void test_other_answers_and_elements_of_a_string_are_no_polling(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (unsigned int i = 0; i < 1000; i++) {
		struct watch_record r = feed_pio(FEED_RTC, i * MS, 1000, 0x71, 0x1000);

		r.data = i & 0xff; /* a clock that runs */
		feed_add(feed, &r);
		r = feed_pio(FEED_DISK, i * MS + 500, 1000, 0x1f0, 0x2000);
		r.repeat = i % 256; /* zeros, read by REP INSB */
		feed_add(feed, &r);
	}
	assert_null(find(feed, ODD_POLLING));
	feed_free(feed);
}

static struct feed *write_register(unsigned int writes, unsigned int requests)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (unsigned int i = 0; i < writes; i++) {
		struct watch_record r = feed_pio(FEED_DISK, (uint64_t)i * 100000, 1000, 0x50,
						 0x1000);

		r.kind = RECORD_MMIO;
		r.flags = RECORD_WRITE;
		feed_add(feed, &r);
		if (i < requests)
			feed_disk(feed, (uint64_t)i * 100000, 1000, 0);
	}
	return feed;
}

static void test_a_register_written_all_the_time_is_a_storm(void **state)
{
	struct feed *feed = write_register(5000, 0);
	const struct analysis_odd *odd = find(feed, ODD_STORM);

	assert_non_null(odd);
	assert_int_equal(odd->address, 0x50);
	assert_int_equal(odd->kind, RECORD_MMIO);
	assert_true(odd->write);
	assert_int_equal(odd->count, 5000);
	feed_free(feed);
	feed = write_register(4999, 0);
	assert_null(find(feed, ODD_STORM));
	feed_free(feed);
}

static void test_doorbells_for_requests_are_no_storm(void **state)
{
	struct feed *feed = write_register(8000, 4000);

	assert_null(find(feed, ODD_STORM));
	feed_free(feed);
	feed = write_register(8000, 3999);
	assert_non_null(find(feed, ODD_STORM));
	feed_free(feed);
}

static void test_an_address_without_device_is_told(void **state)
{
	struct feed *feed = feed_new(0);
	struct watch_record r = feed_pio(STORE_NO_DEVICE, 0, 100, 0x80, 0x1000);

	feed_begin(feed);
	feed_add(feed, &r);
	assert_null(find(feed, ODD_UNCLAIMED));
	r.flags = RECORD_UNCLAIMED | RECORD_WRITE;
	feed_add(feed, &r);
	assert_non_null(find(feed, ODD_UNCLAIMED));
	assert_int_equal(find(feed, ODD_UNCLAIMED)->address, 0x80);
	assert_int_equal(find(feed, ODD_UNCLAIMED)->count, 1);
	feed_free(feed);
}

static void test_failed_requests_are_told(void **state)
{
	struct feed *feed = feed_new(0);
	struct watch_record r = feed_record(RECORD_DISK, FEED_DISK, 0, 1000);

	feed_begin(feed);
	feed_add(feed, &r);
	assert_null(find(feed, ODD_ERRORS));
	r.status = -EIO;
	feed_add(feed, &r);
	assert_non_null(find(feed, ODD_ERRORS));
	assert_int_equal(find(feed, ODD_ERRORS)->count, 1);
	assert_int_equal(find(feed, ODD_ERRORS)->status, -EIO);
	feed_free(feed);
}

/* 1000 requests of 200 us; `slow` of them take `ns`. */
static struct feed *answer(unsigned int n, unsigned int slow, uint64_t ns)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (unsigned int i = 0; i < n; i++)
		feed_disk(feed, (uint64_t)i * MS, i < slow ? ns : 200000, 0);
	return feed;
}

static bool is_slow(unsigned int n, unsigned int slow, uint64_t ns)
{
	struct feed *feed = answer(n, slow, ns);
	bool found = find(feed, ODD_SLOW);

	feed_free(feed);
	return found;
}

static void test_a_slow_tail_is_told(void **state)
{
	struct feed *feed = answer(1000, 20, 50 * MS);
	const struct analysis_odd *odd = find(feed, ODD_SLOW);

	assert_non_null(odd);
	assert_int_equal(odd->kind, RECORD_DISK);
	assert_in_range(odd->p50_ns, 160000, 240000);
	assert_in_range(odd->p99_ns, 40 * MS, 60 * MS);
	feed_free(feed);
	assert_false(is_slow(1000, 5, 50 * MS)); /* not one in 100 */
	assert_false(is_slow(1000, 20, MS));	 /* not 10 times */
	assert_true(is_slow(100, 2, 50 * MS));
	assert_false(is_slow(99, 2, 50 * MS)); /* too few to say */
}

/* A device whose requests take 2 us, and some 100 us: far apart, but nobody feels it. */
static void test_a_tail_below_a_millisecond_is_not_odd(void **state)
{
	for (uint64_t ns = 500000; ns <= 2 * MS; ns += 1500000) {
		struct feed *feed = feed_new(0);

		feed_begin(feed);
		for (uint64_t i = 0; i < 1000; i++)
			feed_disk(feed, i * MS, i % 50 ? 2000 : ns, 0);
		assert_int_equal(find(feed, ODD_SLOW) != NULL, ns > MS);
		feed_free(feed);
	}
}

static void test_a_flood_of_oddities_stays_in_the_table(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (unsigned int i = 0; i < 10000; i++) {
		struct watch_record r = feed_pio((uint16_t)(i % 8), i * 1000, 100,
						 (uint16_t)(i & 0xfff), 0x1000);

		r.flags = RECORD_UNCLAIMED | (i & 1 ? RECORD_WRITE : 0);
		feed_add(feed, &r);
		r = feed_record(RECORD_DISK, (uint16_t)(i % 8), i * 1000, i % 50 ? 10 : 5 * MS);
		r.status = -1;
		feed_add(feed, &r);
	}
	assert_in_range(feed_now(feed, SECOND)->n_odd, 8, ANALYSIS_TOP);
	feed_free(feed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_answer_again_is_polling),
		cmocka_unit_test(test_reads_between_writes_are_no_polling),
		cmocka_unit_test(test_other_answers_and_elements_of_a_string_are_no_polling),
		cmocka_unit_test(test_a_register_written_all_the_time_is_a_storm),
		cmocka_unit_test(test_doorbells_for_requests_are_no_storm),
		cmocka_unit_test(test_an_address_without_device_is_told),
		cmocka_unit_test(test_failed_requests_are_told),
		cmocka_unit_test(test_a_slow_tail_is_told),
		cmocka_unit_test(test_a_tail_below_a_millisecond_is_not_odd),
		cmocka_unit_test(test_a_flood_of_oddities_stays_in_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
