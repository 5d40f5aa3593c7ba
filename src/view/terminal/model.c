/* SPDX-License-Identifier: Apache-2.0 */
#include "view/terminal/model.h"

#include <string.h>

#include "base/cleanup.h"
#include "view/view.h"

/* The last `size` requests, oldest first. */
struct last {
	struct terminal_request *requests;
	uint32_t size, n, first;
};

struct terminal_model {
	struct filter_names names;
	struct analysis_times times;
	struct terminal_table *tables[TAB_TABLES];
	struct last kept, list;
	const struct filter *filter;
	struct terminal_scope scope;
	struct terminal_totals totals;
	uint64_t number, records_before;
	bool held;
};

static const uint32_t table_limits[TAB_TABLES] = {
	[TAB_DEVICES] = STORE_DEVICES_MAX,
	[TAB_ADDRESSES] = TERMINAL_ROWS_MAX,
	[TAB_INSTRUCTIONS] = TERMINAL_ROWS_MAX,
	[TAB_THREADS] = STORE_RINGS_MAX,
};

static bool last_init(struct last *last, uint32_t size)
{
	last->requests = calloc(size, sizeof(*last->requests));
	last->size = size;
	return last->requests;
}

static void last_clear(struct last *last)
{
	last->n = 0;
	last->first = 0;
}

static const struct terminal_request *last_at(const struct last *last, uint32_t index)
{
	return &last->requests[(last->first + index) % last->size];
}

static void last_add(struct last *last, const struct watch_record *record, uint32_t ring,
		     uint64_t number)
{
	struct terminal_request *request = &last->requests[(last->first + last->n) % last->size];

	if (last->n < last->size)
		last->n++;
	else
		last->first = (last->first + 1) % last->size;
	request->number = number;
	request->ring = ring;
	request->record = *record;
}

struct terminal_model *terminal_model_new(const struct filter_names *names,
					  const struct analysis_times *times)
{
	struct terminal_model *model = calloc(1, sizeof(*model));
	bool whole;

	if (!model)
		return NULL;
	model->names = *names;
	model->times = *times;
	model->scope.tab = TAB_REQUESTS;
	whole = last_init(&model->kept, TERMINAL_KEPT) &&
		last_init(&model->list, TERMINAL_LIST_MAX);
	for (int i = 0; i < TAB_TABLES; i++) {
		model->tables[i] = terminal_table_new(table_limits[i]);
		whole = whole && model->tables[i];
	}
	if (whole)
		return model;
	terminal_model_free(model);
	return NULL;
}

void terminal_model_free(struct terminal_model *model)
{
	if (!model)
		return;
	for (int i = 0; i < TAB_TABLES; i++)
		terminal_table_free(model->tables[i]);
	free(model->kept.requests);
	free(model->list.requests);
	free(model);
}

static bool key_of_device(const struct watch_record *record, uint32_t ring,
			  struct terminal_key *key)
{
	key->device = record->device;
	return true;
}

static bool key_of_address(const struct watch_record *record, uint32_t ring,
			   struct terminal_key *key)
{
	key->device = record->device;
	key->kind = record->kind;
	key->value = record->address;
	return record_is_access(record);
}

/* Requests without a vCPU have no instruction: their operation stands there. */
static bool key_of_instruction(const struct watch_record *record, uint32_t ring,
			       struct terminal_key *key)
{
	key->device = record->device;
	if (view_has_instruction(record)) {
		key->value = view_instruction_address(record);
		key->detail = !view_is_sure(record);
		return true;
	}
	key->kind = record->kind;
	key->detail = record->kind == RECORD_DISK ? record->operation
						  : record->flags & RECORD_WRITE;
	return true;
}

static bool key_of_thread(const struct watch_record *record, uint32_t ring,
			  struct terminal_key *key)
{
	key->ring = ring;
	return !(record->flags &
		 RECORD_NESTED); /* its time is in that of the one it was caused by */
}

typedef bool key_fn(const struct watch_record *record, uint32_t ring, struct terminal_key *key);
static key_fn *const key_fns[TAB_TABLES] = {
	[TAB_DEVICES] = key_of_device,
	[TAB_ADDRESSES] = key_of_address,
	[TAB_INSTRUCTIONS] = key_of_instruction,
	[TAB_THREADS] = key_of_thread,
};

bool terminal_model_key(enum terminal_tab tab, const struct watch_record *record, uint32_t ring,
			struct terminal_key *ret_key)
{
	struct terminal_key key = { 0 };

	if (tab >= TAB_TABLES || !key_fns[tab](record, ring, &key))
		return false;
	*ret_key = key;
	return true;
}

static bool in_scope(const struct terminal_model *model, const struct watch_record *record,
		     uint32_t ring)
{
	struct terminal_key key;

	if (model->scope.tab == TAB_REQUESTS)
		return true;
	return terminal_model_key(model->scope.tab, record, ring, &key) &&
	       memcmp(&key, &model->scope.key, sizeof(key)) == 0;
}

uint64_t terminal_model_ns(const struct terminal_model *model, const struct watch_record *record)
{
	return model->times.ticks_ns(model->times.ctx, record->duration);
}

static bool passes(const struct terminal_model *model, const struct watch_record *record)
{
	return filter_match(model->filter, record, &model->names);
}

static void count(struct terminal_model *model, const struct watch_record *record, uint32_t ring)
{
	struct terminal_totals *totals = &model->totals;
	uint64_t ns = terminal_model_ns(model, record), end = record->begin + record->duration;

	/* A request that took long may come after one that began later. */
	if (totals->records++ == 0 || record->begin < totals->first_tsc)
		totals->first_tsc = record->begin;
	totals->last_tsc = MAX(totals->last_tsc, MAX(end, record->begin));
	for (int tab = 0; tab < TAB_TABLES; tab++) {
		struct terminal_key key;

		if (terminal_model_key(tab, record, ring, &key))
			terminal_table_add(model->tables[tab], &key, record, ring, ns);
	}
}

static bool is_request(const struct watch_record *record)
{
	return record->kind >= RECORD_PIO && record->kind <= RECORD_QUEUE;
}

void terminal_model_add(struct terminal_model *model, const struct watch_record *record,
			uint32_t ring)
{
	if (!is_request(record))
		return;
	model->totals.all++;
	model->number++;
	if (!model->held)
		last_add(&model->kept, record, ring, model->number);
	if (!passes(model, record))
		return;
	count(model, record, ring);
	if (!model->held && in_scope(model, record, ring))
		last_add(&model->list, record, ring, model->number);
}

static void zero(struct terminal_model *model)
{
	for (int i = 0; i < TAB_TABLES; i++)
		terminal_table_clear(model->tables[i]);
	model->totals = (struct terminal_totals){ 0 };
	model->records_before = 0;
}

void terminal_model_set_filter(struct terminal_model *model, const struct filter *filter)
{
	model->filter = filter;
	zero(model);
	for (uint32_t i = 0; i < model->kept.n; i++) {
		const struct terminal_request *request = last_at(&model->kept, i);

		if (passes(model, &request->record))
			count(model, &request->record, request->ring);
	}
	model->totals.all = model->kept.n;
	model->records_before = model->totals.records; /* what is counted again is no rate */
	for (int i = 0; i < TAB_TABLES; i++)
		terminal_table_tick(model->tables[i], 0);
	terminal_model_set_scope(model, &model->scope);
}

/* The slowest one may be older than all that is kept; it is what people look for. */
static void list_slowest(struct terminal_model *model)
{
	const struct terminal_row *row;

	if (model->scope.tab == TAB_REQUESTS)
		return;
	row = terminal_table_find(model->tables[model->scope.tab], &model->scope.key);
	if (!row || row->latency.count == 0)
		return;
	if (model->kept.n && row->slowest.begin >= last_at(&model->kept, 0)->record.begin)
		return;
	last_add(&model->list, &row->slowest, row->slowest_ring, 0);
}

void terminal_model_set_scope(struct terminal_model *model, const struct terminal_scope *scope)
{
	model->scope = *scope;
	last_clear(&model->list);
	list_slowest(model);
	for (uint32_t i = 0; i < model->kept.n; i++) {
		const struct terminal_request *request = last_at(&model->kept, i);

		if (passes(model, &request->record) &&
		    in_scope(model, &request->record, request->ring))
			last_add(&model->list, &request->record, request->ring, request->number);
	}
}

void terminal_model_hold(struct terminal_model *model, bool hold)
{
	model->held = hold;
}

void terminal_model_reset(struct terminal_model *model, bool forget)
{
	zero(model);
	if (!forget)
		return;
	last_clear(&model->kept);
	last_clear(&model->list);
}

void terminal_model_tick(struct terminal_model *model, uint64_t ns)
{
	uint64_t new = model->totals.records - model->records_before;

	model->totals.per_second =
		ns ? (uint64_t)((double)new *(double)NSEC_PER_SEC / (double)ns + 0.5) : 0;
	model->records_before = model->totals.records;
	for (int i = 0; i < TAB_TABLES; i++)
		terminal_table_tick(model->tables[i], ns);
}

void terminal_model_totals(const struct terminal_model *model, struct terminal_totals *ret_totals)
{
	*ret_totals = model->totals;
}

uint64_t terminal_model_span(const struct terminal_model *model)
{
	const struct terminal_totals *totals = &model->totals;
	uint64_t ticks = totals->last_tsc - totals->first_tsc;

	if (totals->records == 0 || totals->last_tsc < totals->first_tsc)
		return 0;
	return model->times.ticks_ns(model->times.ctx, ticks);
}

const struct terminal_table *terminal_model_table(const struct terminal_model *model,
						  enum terminal_tab tab)
{
	return model->tables[tab];
}

uint32_t terminal_model_listed(const struct terminal_model *model)
{
	return model->list.n;
}

const struct terminal_request *terminal_model_request(const struct terminal_model *model,
						      uint32_t index)
{
	return last_at(&model->list, index);
}
