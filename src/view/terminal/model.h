/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The numbers behind the terminal view: what records add up to, by device, address, instruction and thread; the last
 * records themselves; and of those, the requests that one looks at now. Pure: time and names come from the caller.
 * Memory is bounded whatever the records are: about 45 MiB when every table is full.
 *
 *   record --> kept (the last ones, all of them) --> filter --> tables
 *                                                          \--> list, when in scope
 *
 * The filter may change at any moment: numbers begin anew with what is kept. One thread.
 */

#include "view/terminal/table.h"
#include "watch/filter/filter.h"

#define TERMINAL_KEPT                                                                              \
	65536 /* records: a third of a second at 200,000 a second, hours of a quiet VM */
#define TERMINAL_LIST_MAX 4096 /* requests in the list */

enum terminal_tab {
	TAB_DEVICES,
	TAB_ADDRESSES,	  /* ports, MMIO and PCI registers */
	TAB_INSTRUCTIONS, /* per device; what has none is there by operation */
	TAB_THREADS,	  /* vCPUs, and workers of queues */
	TAB_TABLES,
	TAB_REQUESTS = TAB_TABLES,
	TAB_N,
};

struct terminal_request {
	uint64_t number; /* counts all records; names this one */
	uint32_t ring;
	struct watch_record record;
};

/* Which requests the list is of: all, or those of one row of a table. */
struct terminal_scope {
	enum terminal_tab tab; /* TAB_REQUESTS: all */
	struct terminal_key key;
};

struct terminal_totals {
	uint64_t records;    /* that the filter let through, since `since` */
	uint64_t all;	     /* without the filter */
	uint64_t per_second; /* of those of the filter, at the last tick */
	uint64_t first_tsc,
		last_tsc; /* of those of the filter: begin of the first, end of the last */
};

struct terminal_model;

/* `names` and `times` are copied, their ctx is borrowed. NULL when out of memory. */
struct terminal_model *terminal_model_new(const struct filter_names *names,
					  const struct analysis_times *times);
void terminal_model_free(struct terminal_model *model);

/* In order of time. Records that are no requests are passed over. */
void terminal_model_add(struct terminal_model *model, const struct watch_record *record,
			uint32_t ring);
/* `filter` (borrowed until the next call; NULL: all) decides from now on; numbers begin anew with what is kept. */
void terminal_model_set_filter(struct terminal_model *model, const struct filter *filter);
/* The list begins anew with what is kept, and the row's slowest request. */
void terminal_model_set_scope(struct terminal_model *model, const struct terminal_scope *scope);
/* While held, records are counted but not kept: list and what it is made from stand still. */
void terminal_model_hold(struct terminal_model *model, bool hold);
/* Numbers begin at 0; with `forget` nothing is kept either. */
void terminal_model_reset(struct terminal_model *model, bool forget);
/* Rates become those of the time since the last tick, `ns` ago. */
void terminal_model_tick(struct terminal_model *model, uint64_t ns);

void terminal_model_totals(const struct terminal_model *model, struct terminal_totals *ret_totals);
/* From the first record to the last, in ns of the records' own time. */
uint64_t terminal_model_span(const struct terminal_model *model);
const struct terminal_table *terminal_model_table(const struct terminal_model *model,
						  enum terminal_tab tab);
/* The row's key that a record counts under. False: none in this table. */
bool terminal_model_key(enum terminal_tab tab, const struct watch_record *record, uint32_t ring,
			struct terminal_key *ret_key);

/* The list: its `index`th request, the oldest first. */
uint32_t terminal_model_listed(const struct terminal_model *model);
const struct terminal_request *terminal_model_request(const struct terminal_model *model,
						      uint32_t index);
uint64_t terminal_model_ns(const struct terminal_model *model, const struct watch_record *record);
