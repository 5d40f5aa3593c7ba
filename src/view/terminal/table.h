/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A table of numbers by key, bounded: the terminal view has one by device, by address, by instruction, by thread. Keys
 * beyond the limit are summed in one more row, "other". Plain data of one thread; knows nothing of names or screens.
 */

#include <stdbool.h>

#include "base/macros.h"
#include "watch/analysis/analysis.h"
#include "watch/record.h"

#define TERMINAL_ROWS_MAX 2048 /* of one table, without "other"; about 2 KiB each when used */

/* What the numbers of a row are about. Unused fields are 0, so that keys compare by their bytes. */
struct terminal_key {
	uint64_t value;	 /* address, instruction */
	uint16_t device; /* index in the store's devices */
	uint8_t kind;	 /* enum record_kind */
	uint8_t detail; /* of an instruction: 1 when it is not sure; disk: the operation; net, queues: 1 when the guest sends */
	uint32_t ring;
};
_Static_assert(sizeof(struct terminal_key) == 16, "no padding");

struct terminal_row {
	struct terminal_key key;
	struct latency latency; /* count, sum, maximum and histogram of what it took */
	uint64_t bytes;
	uint64_t count_before; /* at the last tick */
	uint64_t per_second;
	struct watch_record slowest; /* of these requests; also an example of them */
	uint32_t slowest_ring;
};

struct terminal_table;

/* NULL when out of memory. `limit` 1..TERMINAL_ROWS_MAX. */
struct terminal_table *terminal_table_new(uint32_t limit);
void terminal_table_free(struct terminal_table *table);
void terminal_table_clear(struct terminal_table *table);

/* Counts a record that took `ns` under `key`; when the table is full or memory is short, under "other". */
void terminal_table_add(struct terminal_table *table, const struct terminal_key *key,
			const struct watch_record *record, uint32_t ring, uint64_t ns);
/* Sets per_second from what was counted since the last tick, `ns` ago. */
void terminal_table_tick(struct terminal_table *table, uint64_t ns);

/* The rows in order of their first record. */
uint32_t terminal_table_rows(const struct terminal_table *table);
const struct terminal_row *terminal_table_row(const struct terminal_table *table, uint32_t index);
/* NULL: no such row. */
const struct terminal_row *terminal_table_find(const struct terminal_table *table,
					       const struct terminal_key *key);
/* What found no row of its own; its latency.count is 0 when there is nothing. */
const struct terminal_row *terminal_table_other(const struct terminal_table *table);

/* A row's numbers as they are shown. */
enum terminal_column {
	COLUMN_KEY,
	COLUMN_RATE,  /* per second */
	COLUMN_TOTAL, /* records */
	COLUMN_BYTES,
	COLUMN_TIME, /* ns spent, all together */
	COLUMN_P50,
	COLUMN_P90,
	COLUMN_P99,
	COLUMN_MAX,
	COLUMN_N,
};

struct terminal_line {
	struct terminal_key key;
	bool other;
	uint64_t values[COLUMN_N]; /* values[COLUMN_KEY] is not used */
};

/* Up to TERMINAL_ROWS_MAX + 1 lines, "other" last; how many. `span_ns` not 0: rates are averages over so long. */
uint32_t terminal_table_lines(const struct terminal_table *table, uint64_t span_ns,
			      struct terminal_line *ret_lines);
/* The greatest first, keys in ascending order; `reverse` turns it. "other" stays last. */
void terminal_lines_sort(struct terminal_line *lines, uint32_t n_lines, enum terminal_column column,
			 bool reverse);
