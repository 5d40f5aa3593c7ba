/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "check.h"
#include "view/web/history.h"
#include "view/web/sites.h"

/* Records that differ here and there, and some in all their bytes. */
static struct watch_record make(uint64_t i)
{
	struct watch_record record = {
		.sequence = i / 3 + 1,
		.begin = i * 1000,
		.duration = i % 50,
		.kind = i % 7 ? RECORD_PIO : RECORD_NET,
		.address = 0x3f8 + i % 2,
		.data = i % 13,
		.access = { .mode = 64, .instruction = i % 5 },
	};

	if (i % 31 == 0)
		memset(record.raw, (int)i, sizeof(record.raw));
	return record;
}

static void add(struct history *history, uint64_t i)
{
	struct watch_record record = make(i);
	struct history_point point = {
		.begin_ns = record.begin,
		.duration_ns = record.duration,
		.ring = (uint8_t)(i % 3),
	};

	assert_int_equal(history_add(history, &record, &point), 0);
}

static void packed_records_come_back_as_they_were(void **state _unused_)
{
	struct watch_record *records = calloc(2 * PACK_RECORDS, sizeof(*records));
	uint8_t *bytes = malloc(PACK_BYTES_MAX), rings[PACK_RECORDS];
	size_t n;

	for (uint32_t i = 0; i < PACK_RECORDS; i++) {
		records[i] = make(i);
		rings[i] = (uint8_t)(i * 17);
	}
	n = pack_records(records, rings, PACK_RECORDS, bytes);
	assert_in_range(n, 1, PACK_RECORDS * sizeof(*records) / 2);
	unpack_records(bytes, PACK_RECORDS, records + PACK_RECORDS);
	assert_memory_equal(records, records + PACK_RECORDS, PACK_RECORDS * sizeof(*records));
	free(records);
	free(bytes);
}

static void records_without_a_like_fit_as_well(void **state _unused_)
{
	struct watch_record *records = calloc(2 * PACK_RECORDS, sizeof(*records));
	uint8_t *bytes = malloc(PACK_BYTES_MAX), rings[PACK_RECORDS] = { 0 };

	srandom(1);
	for (size_t i = 0; i < PACK_RECORDS * sizeof(*records); i++)
		((uint8_t *)records)[i] = (uint8_t)random();
	assert_in_range(pack_records(records, rings, PACK_RECORDS, bytes), 1, PACK_BYTES_MAX);
	unpack_records(bytes, PACK_RECORDS, records + PACK_RECORDS);
	assert_memory_equal(records, records + PACK_RECORDS, PACK_RECORDS * sizeof(*records));
	free(records);
	free(bytes);
}

static void each_record_is_found_by_its_number(void **state _unused_)
{
	struct history *history = history_new(MIB(64));
	uint64_t n = 5 * HISTORY_BLOCK + 17;

	for (uint64_t i = 0; i < n; i++)
		add(history, i);
	assert_int_equal(history_first(history), 0);
	assert_int_equal(history_end(history), n);
	for (uint64_t i = n; i-- > 0;) {
		const struct history_block *block = history_block(history, i / HISTORY_BLOCK);
		const struct watch_record *records = history_records(history, block);
		struct watch_record expected = make(i);

		assert_memory_equal(&records[i % HISTORY_BLOCK], &expected, sizeof(expected));
		assert_int_equal(block->points[i % HISTORY_BLOCK].begin_ns, i * 1000);
	}
	assert_null(history_block(history, 6));
	history_free(history);
}

static void the_oldest_go_when_it_is_full(void **state _unused_)
{
	struct history *history = history_new(MIB(2));
	uint64_t n = 100 * HISTORY_BLOCK;

	for (uint64_t i = 0; i < n; i++) {
		add(history, i);
		assert_in_range(history_bytes(history), 0, MIB(2));
	}
	assert_int_equal(history_end(history), n);
	assert_in_range(history_first(history), HISTORY_BLOCK, n - 5 * HISTORY_BLOCK);
	assert_null(history_block(history, 0));
	assert_non_null(history_block(history, history_first(history) / HISTORY_BLOCK));
	history_free(history);
}

static void an_empty_history_has_nothing(void **state _unused_)
{
	struct history *history = history_new(MIB(2));

	assert_int_equal(history_first(history), history_end(history));
	assert_null(history_block(history, 0));
	history_free(history);
	history_free(NULL);
}

static void bins_rise_with_latency(void **state _unused_)
{
	assert_int_equal(history_bin(0), 0);
	for (unsigned int bin = 9; bin < HISTORY_BINS;
	     bin++) { /* below 4 ns some bins have no whole number */
		assert_int_equal(history_bin(history_bin_ns(bin)), bin);
		assert_int_equal(history_bin(history_bin_ns(bin) - 1), bin - 1);
	}
	assert_int_equal(history_bin(UINT64_MAX), HISTORY_BINS - 1);
}

static void an_instruction_has_one_number(void **state _unused_)
{
	struct sites *sites = sites_new();
	struct watch_record a = make(1), b = make(2), net = { .kind = RECORD_NET };
	uint16_t number = sites_number(sites, &a);

	assert_int_equal(sites_number(sites, &net), SITE_NONE);
	assert_int_equal(sites_number(sites, &a), number);
	assert_int_not_equal(sites_number(sites, &b), number);
	assert_memory_equal(sites_example(sites, number), &a, sizeof(a));
	assert_null(sites_example(sites, SITE_NONE));
	assert_null(sites_example(sites, SITE_OTHER));
	assert_null(sites_example(sites, SITES_MAX - 1));
	sites_free(sites);
}

static void instructions_without_end_share_one_number(void **state _unused_)
{
	struct sites *sites = sites_new();
	struct watch_record record = make(1);

	for (uint64_t i = 0; i < 2 * SITES_MAX; i++) {
		record.access.instruction = i;
		sites_number(sites, &record);
	}
	assert_int_equal(sites_number(sites, &record), SITE_OTHER);
	record.access.instruction = 5;
	assert_int_not_equal(sites_number(sites, &record), SITE_OTHER);
	sites_free(sites);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_records_come_back_as_they_were),
		cmocka_unit_test(records_without_a_like_fit_as_well),
		cmocka_unit_test(each_record_is_found_by_its_number),
		cmocka_unit_test(the_oldest_go_when_it_is_full),
		cmocka_unit_test(an_empty_history_has_nothing),
		cmocka_unit_test(bins_rise_with_latency),
		cmocka_unit_test(an_instruction_has_one_number),
		cmocka_unit_test(instructions_without_end_share_one_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
