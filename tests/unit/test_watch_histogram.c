/* SPDX-License-Identifier: Apache-2.0 */
/* What analysis counts with: latencies, spans of time, periods, the most frequent keys. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "watch/analysis/analysis.h"
#include "watch/analysis/busy.h"
#include "watch/analysis/log_scale.h"
#include "watch/analysis/period.h"
#include "watch/analysis/tally.h"

static void test_logarithms_are_those_of_mathematics(void **state)
{
	for (unsigned int e = 64; e < 512; e++) {
		uint64_t v = exp2_eighths(e);

		assert_int_equal(log2_eighths(v + v / 100), e);
		assert_int_equal(log2_eighths(v - v / 100), e - 1);
	}
	for (uint64_t v = 1; v < 100000; v++) {
		double exact = 8 * log2((double)v);

		assert_true(fabs(log2_eighths(v) + 0.5 - exact) <= 0.5000001);
	}
	assert_int_equal(log2_eighths(0), 0);
	assert_int_equal(log2_eighths(UINT64_MAX), 511);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Every percentile of values spread over six decades lies within 19 % of the true one. */
static void test_percentiles_are_exact_to_19_percent(void **state)
{
	enum { N = 5000 };
	static uint64_t values[N];
	struct latency latency = { 0 };
	uint64_t random = 12345;

	for (unsigned int i = 0; i < N; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		values[i] = (uint64_t)exp2(6 + 20.0 * (double)(random >> 40) / (1 << 24));
		latency_add(&latency, values[i]);
	}
	qsort(values, N, sizeof(values[0]), compare);
	for (unsigned int permille = 1; permille <= 1000; permille++) {
		uint64_t exact = values[(permille * N + 999) / 1000 - 1];
		double ratio = (double)latency_percentile(&latency, permille) / (double)exact;

		assert_true(ratio > 0.81 && ratio < 1.19);
	}
	assert_int_equal(latency_percentile(&latency, 1000), values[N - 1]);
}

static void test_a_percentile_of_nothing_is_nothing(void **state)
{
	struct latency latency = { 0 };

	assert_int_equal(latency_percentile(&latency, 500), 0);
	latency_add(&latency, 0);
	assert_int_equal(latency_percentile(&latency, 500), 0);
	latency_add(&latency, UINT64_MAX);
	latency_add(&latency, UINT64_MAX);
	assert_true(latency_percentile(&latency, 990) == UINT64_MAX);
	assert_true(latency.sum_ns == UINT64_MAX);
}

static void test_spans_that_overlap_count_once(void **state)
{
	struct busy busy = { 0 };

	busy_add(&busy, 10, 20);
	busy_add(&busy, 15, 30);
	busy_add(&busy, 40, 50);
	busy_add(&busy, 40, 40);
	assert_int_equal(busy_before(&busy, 100), 30);
	assert_int_equal(busy_before(&busy, 45), 25);
	busy_add(&busy, 5, 60); /* answered last, begun first */
	assert_int_equal(busy_before(&busy, 100), 55);
}

static void test_spans_come_in_any_order(void **state)
{
	enum { N = 2000 };
	struct busy by_begin = { 0 }, by_end = { 0 };
	uint64_t covered = 0, last = 0;

	/* Two interleaved rows: 100 long every 150, and 30 long every 50. */
	for (uint64_t i = 0; i < N; i++) {
		busy_add(&by_begin, i * 150, i * 150 + 100);
		for (uint64_t j = 0; j < 3; j++)
			busy_add(&by_begin, i * 150 + j * 50, i * 150 + j * 50 + 30);
		for (uint64_t j = 0; j < 3; j++)
			busy_add(&by_end, i * 150 + j * 50, i * 150 + j * 50 + 30);
		busy_add(&by_end, i * 150, i * 150 + 100);
		covered += 130;
		last = i * 150 + 150;
	}
	assert_int_equal(busy_before(&by_begin, last), covered);
	assert_in_range(busy_before(&by_end, last), covered - 30, covered);
}

static void test_a_cut_keeps_what_goes_on(void **state)
{
	struct busy busy = { 0 };

	busy_add(&busy, 10, 100);
	busy_cut(&busy, 50);
	assert_int_equal(busy_before(&busy, 60), 10);
	busy_add(&busy, 20, 55); /* before the cut: counted by the window before */
	assert_int_equal(busy_before(&busy, 200), 50);
	busy_cut(&busy, 200);
	assert_int_equal(busy_before(&busy, 300), 0);
}

static void test_many_gaps_stay_within_the_table(void **state)
{
	struct busy busy = { 0 };

	for (uint64_t i = 0; i < 1000; i++)
		busy_add(&busy, i * 10, i * 10 + 3);
	assert_int_equal(busy_before(&busy, 10000), 3000);
	busy_add(&busy, 0, 9990); /* only the gaps that are still known close */
	assert_in_range(busy_before(&busy, 10000), 3000, 9993);
	assert_int_equal(busy.n <= BUSY_SPANS, 1);
}

/* Feeds bursts of `burst` requests of 1 us, 5 us apart, whose begins are `cycle(i)` apart. */
static uint32_t find(unsigned int burst, unsigned int cycles, double (*cycle)(unsigned int i),
		     uint64_t *ret_ns)
{
	struct period *period = calloc(1, sizeof(*period));
	double at = 1e12;
	uint32_t permille;

	for (unsigned int i = 0; i < cycles; i++) {
		for (unsigned int j = 0; j < burst; j++)
			period_add(period, (uint64_t)at + j * 5000, (uint64_t)at + j * 5000 + 1000);
		at += cycle(i);
	}
	permille = period_find(period, (uint64_t)(at - 1e12), ret_ns);
	free(period);
	return permille;
}

static double uniform(unsigned int i)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9ULL;
	return ((double)(x >> 40) + 0.5) / (1 << 24);
}

static double clock_10ms(unsigned int i)
{
	return 1e7;
}

static double clock_with_jitter(unsigned int i)
{
	return 1e7 * (0.96 + 0.08 * uniform(i));
}

static double exponential(unsigned int i)
{
	return -1e7 * log(uniform(i));
}

static double even(unsigned int i)
{
	return 2e7 * uniform(i);
}

static void test_a_clock_is_regular(void **state)
{
	uint64_t ns;

	for (unsigned int burst = 1; burst <= 100; burst *= 10) {
		assert_in_range(find(burst, 100, clock_10ms, &ns), 970, 1000);
		assert_in_range(ns, 9990000, 10010000);
	}
	assert_in_range(find(3, 200, clock_with_jitter, &ns), 950, 1000);
	assert_in_range(ns, 9900000, 10100000);
}

static void test_chance_is_not_regular(void **state)
{
	uint64_t ns;

	for (unsigned int n = 100; n <= 10000; n *= 10) {
		assert_in_range(find(1, n, exponential, &ns), 0, 300);
		assert_in_range(find(10, n, even, &ns), 0, 400);
	}
}

static void test_few_cycles_are_no_period(void **state)
{
	uint64_t ns;

	assert_int_equal(find(1, 8, clock_10ms, &ns), 0);
	assert_true(find(1, 9, clock_10ms, &ns) > 800);
}

/* The next request follows the answer at once: as regular as a clock, but no real-time load. */
static void test_a_closed_loop_is_no_period(void **state)
{
	struct period *period = calloc(1, sizeof(*period));
	uint64_t ns, at = 1000000;

	for (unsigned int i = 0; i < 1000; i++, at += 1000000)
		period_add(period, at, at + 700000);
	assert_in_range(period_find(period, at, &ns), 0, 100);
	free(period);
}

static void test_the_most_frequent_keys_are_found(void **state)
{
	struct tally *tally = calloc(1, sizeof(*tally));
	uint8_t top[4];
	bool is_new;

	/* 10 keys with a fifth of all, hidden among keys that each come once. */
	for (uint64_t i = 0; i < 100000; i++) {
		struct tally_key key = { .address = i, .device = 7 };

		if (i % 5 == 0)
			key = (struct tally_key){ .instruction = i / 5 % 10 + 1 };
		tally_add(tally, &key, &is_new);
		if (i % 50 == 0) /* the first of them twice as often */
			tally_add(tally, &key, &is_new);
	}
	assert_int_equal(tally_top(tally, top, 4), 4);
	assert_int_equal(tally->entries[top[0]].key.instruction, 1);
	for (unsigned int i = 0; i < 4; i++) {
		const struct tally_entry *entry = &tally->entries[top[i]];

		assert_in_range(entry->key.instruction, 1, 10);
		assert_true(tally_sure(entry) <= 4000 && entry->count >= 2000);
		assert_true(!i || tally_sure(entry) <= tally_sure(&tally->entries[top[i - 1]]));
	}
	free(tally);
}

static void test_a_displaced_key_begins_anew(void **state)
{
	struct tally *tally = calloc(1, sizeof(*tally));
	struct tally_key key = { .address = 1 };
	bool is_new;

	for (key.address = 0; key.address < TALLY_KEYS; key.address++) {
		tally_add(tally, &key, &is_new);
		assert_true(is_new);
	}
	key.address = 5;
	tally_add(tally, &key, &is_new);
	assert_false(is_new);
	key.address = 1000;
	assert_int_equal(tally->entries[tally_add(tally, &key, &is_new)].over, 1);
	assert_true(is_new);
	key.address = 5;
	tally_add(tally, &key, &is_new);
	assert_false(is_new);
	free(tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logarithms_are_those_of_mathematics),
		cmocka_unit_test(test_percentiles_are_exact_to_19_percent),
		cmocka_unit_test(test_a_percentile_of_nothing_is_nothing),
		cmocka_unit_test(test_spans_that_overlap_count_once),
		cmocka_unit_test(test_spans_come_in_any_order),
		cmocka_unit_test(test_a_cut_keeps_what_goes_on),
		cmocka_unit_test(test_many_gaps_stay_within_the_table),
		cmocka_unit_test(test_a_clock_is_regular),
		cmocka_unit_test(test_chance_is_not_regular),
		cmocka_unit_test(test_few_cycles_are_no_period),
		cmocka_unit_test(test_a_closed_loop_is_no_period),
		cmocka_unit_test(test_the_most_frequent_keys_are_found),
		cmocka_unit_test(test_a_displaced_key_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
