/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/cleanup.h"
#include "view/terminal/table.h"

#define SLOTS (2 * TERMINAL_ROWS_MAX) /* half empty: a search is short */

struct terminal_table {
	uint32_t limit, n_rows, n_allocated;
	struct terminal_row *rows;
	struct terminal_row other;
	uint32_t slots[SLOTS]; /* index of a row + 1; 0: free */
};

struct terminal_table *terminal_table_new(uint32_t limit)
{
	struct terminal_table *table = calloc(1, sizeof(*table));

	if (table)
		table->limit = MIN(limit, TERMINAL_ROWS_MAX);
	return table;
}

void terminal_table_free(struct terminal_table *table)
{
	if (!table)
		return;
	free(table->rows);
	free(table);
}

void terminal_table_clear(struct terminal_table *table)
{
	table->n_rows = 0;
	memset(&table->other, 0, sizeof(table->other));
	memset(table->slots, 0, sizeof(table->slots));
}

static uint32_t key_slot(const struct terminal_key *key)
{
	uint64_t words[2];

	memcpy(words, key, sizeof(words));
	words[0] ^= words[1] * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)((words[0] * 0xd6e8feb86659fd93ULL) >> 40) % SLOTS;
}

static bool key_equal(const struct terminal_key *a, const struct terminal_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Where the key's row is named, or the free slot where it would be. The slots are never full. */
static uint32_t slot_find(const struct terminal_table *table, const struct terminal_key *key)
{
	uint32_t slot = key_slot(key);

	while (table->slots[slot] && !key_equal(&table->rows[table->slots[slot] - 1].key, key))
		slot = (slot + 1) % SLOTS;
	return slot;
}

static bool table_grow(struct terminal_table *table)
{
	uint32_t n = MIN(MAX(2 * table->n_allocated, 64U), table->limit);
	struct terminal_row *rows;

	if (table->n_rows < table->n_allocated)
		return true;
	if (table->n_rows >= table->limit)
		return false;
	rows = reallocarray(table->rows, n, sizeof(*rows));
	if (!rows)
		return false;
	table->rows = rows;
	table->n_allocated = n;
	return true;
}

static struct terminal_row *table_get(struct terminal_table *table, const struct terminal_key *key)
{
	uint32_t slot = slot_find(table, key);
	struct terminal_row *row;

	if (table->slots[slot])
		return &table->rows[table->slots[slot] - 1];
	if (!table_grow(table))
		return &table->other;
	row = &table->rows[table->n_rows++];
	memset(row, 0, sizeof(*row));
	row->key = *key;
	table->slots[slot] = table->n_rows;
	return row;
}

static uint64_t record_bytes(const struct watch_record *record)
{
	return record_is_access(record) ? record->size : record->data;
}

void terminal_table_add(struct terminal_table *table, const struct terminal_key *key,
			const struct watch_record *record, uint32_t ring, uint64_t ns)
{
	struct terminal_row *row = table_get(table, key);

	if (row->latency.count == 0 || ns > row->latency.max_ns) {
		row->slowest = *record;
		row->slowest_ring = ring;
	}
	latency_add(&row->latency, ns);
	row->bytes += record_bytes(record);
}

static uint64_t rate(uint64_t count, uint64_t ns)
{
	return ns ? (uint64_t)((double)count * (double)NSEC_PER_SEC / (double)ns + 0.5) : 0;
}

static void row_tick(struct terminal_row *row, uint64_t ns)
{
	row->per_second = rate(row->latency.count - row->count_before, ns);
	row->count_before = row->latency.count;
}

void terminal_table_tick(struct terminal_table *table, uint64_t ns)
{
	for (uint32_t i = 0; i < table->n_rows; i++)
		row_tick(&table->rows[i], ns);
	row_tick(&table->other, ns);
}

uint32_t terminal_table_rows(const struct terminal_table *table)
{
	return table->n_rows;
}

const struct terminal_row *terminal_table_row(const struct terminal_table *table, uint32_t index)
{
	return &table->rows[index];
}

const struct terminal_row *terminal_table_find(const struct terminal_table *table,
					       const struct terminal_key *key)
{
	uint32_t slot = slot_find(table, key);

	return table->slots[slot] ? &table->rows[table->slots[slot] - 1] : NULL;
}

const struct terminal_row *terminal_table_other(const struct terminal_table *table)
{
	return &table->other;
}

static void line_fill(struct terminal_line *line, const struct terminal_row *row, uint64_t span_ns)
{
	const struct latency *latency = &row->latency;

	*line = (struct terminal_line){
		.key = row->key,
		.values = {
			[COLUMN_RATE] = span_ns ? rate(latency->count, span_ns) : row->per_second,
			[COLUMN_TOTAL] = latency->count,
			[COLUMN_BYTES] = row->bytes,
			[COLUMN_TIME] = latency->sum_ns,
			[COLUMN_P50] = latency_percentile(latency, 500),
			[COLUMN_P90] = latency_percentile(latency, 900),
			[COLUMN_P99] = latency_percentile(latency, 990),
			[COLUMN_MAX] = latency->max_ns,
		},
	};
}

uint32_t terminal_table_lines(const struct terminal_table *table, uint64_t span_ns,
			      struct terminal_line *ret_lines)
{
	uint32_t n = table->n_rows;

	for (uint32_t i = 0; i < n; i++)
		line_fill(&ret_lines[i], &table->rows[i], span_ns);
	if (table->other.latency.count == 0)
		return n;
	line_fill(&ret_lines[n], &table->other, span_ns);
	ret_lines[n].other = true;
	return n + 1;
}

struct order {
	enum terminal_column column;
	bool reverse;
};

static int number_compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int key_compare(const struct terminal_key *a, const struct terminal_key *b)
{
	const int by[] = {
		number_compare(a->ring, b->ring),     number_compare(a->device, b->device),
		number_compare(a->kind, b->kind),     number_compare(a->value, b->value),
		number_compare(a->detail, b->detail),
	};

	for (size_t i = 0; i < ARRAY_SIZE(by); i++)
		if (by[i])
			return by[i];
	return 0;
}

static int line_compare(const void *first, const void *second, void *ctx)
{
	const struct terminal_line *a = first, *b = second;
	const struct order *order = ctx;
	int by_key = key_compare(&a->key, &b->key), result;

	if (a->other || b->other)
		return a->other - b->other;
	if (order->column == COLUMN_KEY)
		return order->reverse ? -by_key : by_key;
	result = number_compare(b->values[order->column], a->values[order->column]);
	if (order->reverse)
		result = -result;
	return result ? result : by_key;
}

void terminal_lines_sort(struct terminal_line *lines, uint32_t n_lines, enum terminal_column column,
			 bool reverse)
{
	struct order order = { .column = column, .reverse = reverse };

	qsort_r(lines, n_lines, sizeof(*lines), line_compare, &order);
}
