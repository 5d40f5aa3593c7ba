/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "view/terminal/model.h"

static uint64_t ticks_ns(void *ctx, uint64_t ticks)
{
	return ticks;
}

static const char *device_name(void *ctx, uint16_t device)
{
	return device == 0 ? "serial" : device == 1 ? "disk" : "-";
}

static struct terminal_model *model_new(void)
{
	const struct filter_names names = { device_name, ticks_ns, NULL };
	const struct analysis_times times = { ticks_ns, ticks_ns, NULL };
	struct terminal_model *model = terminal_model_new(&names, &times);

	assert_non_null(model);
	return model;
}

static struct watch_record access_record(uint64_t port, uint64_t instruction, uint64_t ns)
{
	return (struct watch_record){
		.kind = RECORD_PIO,
		.size = 1,
		.begin = 1000,
		.duration = ns,
		.address = port,
		.access = { .mode = 64, .verdict = RECORD_INSN_ON, .instruction = instruction },
	};
}

static struct watch_record disk_record(enum record_operation operation, uint64_t bytes)
{
	return (struct watch_record){ .kind = RECORD_DISK,
				      .operation = operation,
				      .device = 1,
				      .data = bytes,
				      .duration = 50 };
}

static void add(struct terminal_model *model, struct watch_record record, uint32_t ring)
{
	terminal_model_add(model, &record, ring);
}

static const struct terminal_row *row(const struct terminal_model *model, enum terminal_tab tab,
				      struct terminal_key key)
{
	return terminal_table_find(terminal_model_table(model, tab), &key);
}

static uint32_t rows(const struct terminal_model *model, enum terminal_tab tab)
{
	return terminal_table_rows(terminal_model_table(model, tab));
}

static struct filter *filter(const char *text)
{
	struct filter *compiled = NULL;
	struct error err = { 0 };

	assert_int_equal(filter_compile(text, &compiled, NULL, &err), 0);
	return compiled;
}

static void requests_are_counted_under_each_of_their_keys(void **state)
{
	struct terminal_model *model = model_new();

	add(model, access_record(0x3f8, 0x1000, 10), 0);
	add(model, access_record(0x3f8, 0x1000, 30), 1);
	add(model, access_record(0x3fd, 0x2000, 20), 1);
	add(model, disk_record(RECORD_DISK_WRITE, 4096), 2);
	assert_int_equal(
		row(model, TAB_DEVICES, (struct terminal_key){ .device = 0 })->latency.count, 3);
	assert_int_equal(row(model, TAB_DEVICES, (struct terminal_key){ .device = 1 })->bytes,
			 4096);
	assert_int_equal(rows(model, TAB_ADDRESSES), 2);
	assert_int_equal(row(model, TAB_ADDRESSES,
			     (struct terminal_key){ .kind = RECORD_PIO, .value = 0x3f8 })
				 ->latency.max_ns,
			 30);
	assert_int_equal(rows(model, TAB_INSTRUCTIONS), 3);
	assert_int_equal(row(model, TAB_INSTRUCTIONS, (struct terminal_key){ .value = 0x1000 })
				 ->latency.count,
			 2);
	assert_int_equal(rows(model, TAB_THREADS), 3);
	terminal_model_free(model);
}

static void what_is_no_request_is_passed_over(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_totals totals;

	add(model, (struct watch_record){ .kind = RECORD_VCPU }, 0);
	add(model, (struct watch_record){ .kind = 0 }, 0);
	add(model, (struct watch_record){ .kind = 255 }, 0);
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.all, 0);
	assert_int_equal(rows(model, TAB_DEVICES), 0);
	assert_int_equal(terminal_model_listed(model), 0);
	terminal_model_free(model);
}

static void a_nested_access_is_not_its_threads_time_again(void **state)
{
	struct terminal_model *model = model_new();
	struct watch_record nested = access_record(0x10, 0x1000, 5);

	nested.kind = RECORD_PCI;
	nested.flags = RECORD_NESTED;
	add(model, nested, 0);
	add(model, access_record(0xcfc, 0x1000, 10), 0);
	assert_int_equal(row(model, TAB_THREADS, (struct terminal_key){ 0 })->latency.sum_ns, 10);
	assert_int_equal(rows(model, TAB_ADDRESSES), 2);
	terminal_model_free(model);
}

static void an_instruction_that_is_not_sure_has_a_row_of_its_own(void **state)
{
	struct terminal_model *model = model_new();
	struct watch_record ambiguous = access_record(0x3f8, 0x1000, 5);

	ambiguous.access.verdict = RECORD_INSN_AMBIGUOUS;
	ambiguous.access.registers.rip = 0x1000;
	add(model, ambiguous, 0);
	add(model, access_record(0x3f8, 0x1000, 10), 0);
	assert_int_equal(rows(model, TAB_INSTRUCTIONS), 2);
	assert_non_null(row(model, TAB_INSTRUCTIONS,
			    (struct terminal_key){ .value = 0x1000, .detail = 1 }));
	terminal_model_free(model);
}

static void more_keys_than_rows_are_summed(void **state)
{
	const uint64_t n = TERMINAL_ROWS_MAX + 1000;
	struct terminal_model *model = model_new();
	struct terminal_line *lines = calloc(TERMINAL_ROWS_MAX + 1, sizeof(*lines));
	uint64_t sum = 0;
	uint32_t n_lines;

	assert_non_null(lines);
	for (uint64_t i = 0; i < n; i++)
		add(model, access_record(i, i << 40, i + 1), 0);
	assert_int_equal(rows(model, TAB_ADDRESSES), TERMINAL_ROWS_MAX);
	n_lines = terminal_table_lines(terminal_model_table(model, TAB_ADDRESSES), 0, lines);
	assert_int_equal(n_lines, TERMINAL_ROWS_MAX + 1);
	for (uint32_t i = 0; i < n_lines; i++)
		sum += lines[i].values[COLUMN_TOTAL];
	assert_int_equal(sum, n);
	for (int column = 0; column < COLUMN_N; column++) {
		terminal_lines_sort(lines, n_lines, column, column & 1);
		assert_true(lines[n_lines - 1].other);
		assert_int_equal(lines[n_lines - 1].values[COLUMN_TOTAL], 1000);
	}
	free(lines);
	terminal_model_free(model);
}

static void lines_are_sorted_by_any_column_both_ways(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_line lines[4];

	add(model, access_record(3, 0, 10), 0);
	add(model, access_record(3, 0, 10), 0);
	add(model, access_record(1, 0, 500), 0);
	add(model, access_record(2, 0, 100), 0);
	assert_int_equal(terminal_table_lines(terminal_model_table(model, TAB_ADDRESSES), 0, lines),
			 3);
	terminal_lines_sort(lines, 3, COLUMN_TOTAL, false);
	assert_int_equal(lines[0].key.value, 3);
	terminal_lines_sort(lines, 3, COLUMN_MAX, false);
	assert_int_equal(lines[0].key.value, 1);
	terminal_lines_sort(lines, 3, COLUMN_P99, true);
	assert_int_equal(lines[0].key.value, 3);
	terminal_lines_sort(lines, 3, COLUMN_KEY, false);
	assert_int_equal(lines[0].key.value, 1);
	assert_int_equal(lines[2].key.value, 3);
	terminal_model_free(model);
}

static void percentiles_are_of_the_row(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_line line[2];

	for (int i = 0; i < 1000; i++)
		add(model, access_record(1, 0, i < 980 ? 1000 : 1000000), 0);
	assert_int_equal(terminal_table_lines(terminal_model_table(model, TAB_ADDRESSES), 0, line),
			 1);
	assert_in_range(line->values[COLUMN_P50], 810, 1190);
	assert_in_range(line->values[COLUMN_P90], 810, 1190);
	assert_in_range(line->values[COLUMN_P99], 810000, 1190000);
	assert_int_equal(line->values[COLUMN_MAX], 1000000);
	assert_int_equal(line->values[COLUMN_BYTES], 1000);
	terminal_model_free(model);
}

static uint64_t rate_of(const struct terminal_model *model, uint64_t span_ns)
{
	struct terminal_line line[2];

	assert_int_equal(
		terminal_table_lines(terminal_model_table(model, TAB_DEVICES), span_ns, line), 1);
	return line->values[COLUMN_RATE];
}

static void a_rate_is_of_the_last_tick_or_of_a_span(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_totals totals;

	for (int i = 0; i < 500; i++)
		add(model, access_record(1, 0, 1), 0);
	terminal_model_tick(model, 2 * NSEC_PER_SEC);
	assert_int_equal(rate_of(model, 0), 250);
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.per_second, 250);
	terminal_model_tick(model, NSEC_PER_SEC);
	assert_int_equal(rate_of(model, 0), 0);
	assert_int_equal(rate_of(model, 5 * NSEC_PER_SEC), 100);
	terminal_model_free(model);
}

static void a_new_filter_counts_what_is_kept_again(void **state)
{
	struct terminal_model *model = model_new();
	struct filter *only_disk = filter("dev==disk");
	struct terminal_totals totals;

	for (int i = 0; i < 100; i++) {
		add(model, access_record(0x3f8, 0x1000, 1), 0);
		add(model, disk_record(RECORD_DISK_READ, 512), 2);
	}
	terminal_model_set_filter(model, only_disk);
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.records, 100);
	assert_int_equal(totals.all, 200);
	assert_int_equal(rows(model, TAB_ADDRESSES), 0);
	assert_int_equal(terminal_model_listed(model), 100);
	add(model, access_record(0x3f8, 0x1000, 1), 0);
	assert_int_equal(terminal_model_listed(model), 100);
	terminal_model_set_filter(model, NULL);
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.records, 201);
	terminal_model_tick(model, NSEC_PER_SEC); /* counted again is not counted now */
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.per_second, 0);
	assert_int_equal(
		terminal_table_row(terminal_model_table(model, TAB_DEVICES), 0)->per_second, 0);
	filter_free(only_disk);
	terminal_model_free(model);
}

static void a_scope_lists_the_requests_of_one_row(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_scope scope = { TAB_ADDRESSES, { .kind = RECORD_PIO, .value = 2 } };

	for (uint64_t i = 0; i < 9; i++)
		add(model, access_record(i % 3, 0, i), 0);
	terminal_model_set_scope(model, &scope);
	assert_int_equal(terminal_model_listed(model), 3);
	add(model, access_record(1, 0, 1), 0);
	add(model, access_record(2, 0, 1), 0);
	assert_int_equal(terminal_model_listed(model), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(terminal_model_request(model, i)->record.address, 2);
	terminal_model_free(model);
}

static void the_slowest_request_is_listed_though_it_is_old(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_scope scope = { TAB_ADDRESSES, { .kind = RECORD_PIO, .value = 2 } };
	struct watch_record slow = access_record(2, 0, 999999), quick = access_record(1, 0, 1);

	slow.begin = 1;
	add(model, slow, 7);
	quick.begin = 2;
	for (int i = 0; i < TERMINAL_KEPT; i++)
		add(model, quick, 0);
	terminal_model_set_scope(model, &scope);
	assert_int_equal(terminal_model_listed(model), 1);
	assert_int_equal(terminal_model_request(model, 0)->record.duration, 999999);
	assert_int_equal(terminal_model_request(model, 0)->ring, 7);
	terminal_model_free(model);
}

static void the_list_has_the_last_ones_in_order(void **state)
{
	struct terminal_model *model = model_new();

	for (uint64_t i = 1; i <= TERMINAL_LIST_MAX + 10; i++)
		add(model, access_record(i, 0, 1), 0);
	assert_int_equal(terminal_model_listed(model), TERMINAL_LIST_MAX);
	assert_int_equal(terminal_model_request(model, 0)->record.address, 11);
	assert_int_equal(terminal_model_request(model, TERMINAL_LIST_MAX - 1)->record.address,
			 TERMINAL_LIST_MAX + 10);
	terminal_model_free(model);
}

static void while_held_requests_are_counted_only(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_totals totals;

	add(model, access_record(1, 0, 1), 0);
	terminal_model_hold(model, true);
	for (int i = 0; i < 10; i++)
		add(model, access_record(2, 0, 1), 0);
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.records, 11);
	assert_int_equal(terminal_model_listed(model), 1);
	terminal_model_hold(model, false);
	add(model, access_record(3, 0, 1), 0);
	assert_int_equal(terminal_model_listed(model), 2);
	terminal_model_free(model);
}

static void a_reset_begins_at_nothing(void **state)
{
	struct terminal_model *model = model_new();
	struct terminal_totals totals;

	add(model, access_record(1, 0, 1), 0);
	terminal_model_reset(model, false);
	terminal_model_totals(model, &totals);
	assert_int_equal(totals.records, 0);
	assert_int_equal(rows(model, TAB_DEVICES), 0);
	assert_int_equal(terminal_model_listed(model), 1);
	terminal_model_reset(model, true);
	assert_int_equal(terminal_model_listed(model), 0);
	terminal_model_free(model);
}

static void the_span_is_from_the_first_begin_to_the_last_end(void **state)
{
	struct terminal_model *model = model_new();
	struct watch_record a = access_record(1, 0, 10), b = access_record(1, 0, 900);

	assert_int_equal(terminal_model_span(model), 0);
	a.begin = 500;
	b.begin = 100; /* took long, so it comes late */
	add(model, a, 0);
	add(model, b, 0);
	assert_int_equal(terminal_model_span(model), 900);
	b.begin = UINT64_MAX - 5; /* hostile: its end is before its begin */
	add(model, b, 0);
	assert_true(terminal_model_span(model) > 0);
	terminal_model_free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_counted_under_each_of_their_keys),
		cmocka_unit_test(what_is_no_request_is_passed_over),
		cmocka_unit_test(a_nested_access_is_not_its_threads_time_again),
		cmocka_unit_test(an_instruction_that_is_not_sure_has_a_row_of_its_own),
		cmocka_unit_test(more_keys_than_rows_are_summed),
		cmocka_unit_test(lines_are_sorted_by_any_column_both_ways),
		cmocka_unit_test(percentiles_are_of_the_row),
		cmocka_unit_test(a_rate_is_of_the_last_tick_or_of_a_span),
		cmocka_unit_test(a_new_filter_counts_what_is_kept_again),
		cmocka_unit_test(a_scope_lists_the_requests_of_one_row),
		cmocka_unit_test(the_slowest_request_is_listed_though_it_is_old),
		cmocka_unit_test(the_list_has_the_last_ones_in_order),
		cmocka_unit_test(while_held_requests_are_counted_only),
		cmocka_unit_test(a_reset_begins_at_nothing),
		cmocka_unit_test(the_span_is_from_the_first_begin_to_the_last_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
