/* SPDX-License-Identifier: Apache-2.0 */
/* Records as JSON, written by hand into a buffer: every text is escaped, every number has a limit, so it always fits. */
#include "view/json.h"

#include <string.h>

#include "view/exact.h"
#include "view/json_text.h"

#define TEXT_MAX 256
#define SECTOR 512

size_t view_json_string(const char *text, char *ret_text, size_t size)
{
	struct json_text json;

	json_text_init(&json, ret_text, size);
	json_text_string(&json, NULL, text);
	return json_text_finish(&json);
}

static void add_true(struct json_text *json, const char *key, bool value)
{
	if (value)
		json_text_true(json, key);
}

static void add_when(struct json_text *json, const struct view_context *view,
		     const struct watch_record *record)
{
	char text[TEXT_MAX];

	view_format_utc(view, record->begin, text, sizeof(text));
	json_text_string(json, "time", text);
	json_text_number(json, "time_us",
			 source_wall_ns(view->source, record->begin) / NSEC_PER_USEC);
	json_text_number(json, "latency_ns", source_ticks_ns(view->source, record->duration));
}

static void add_who(struct json_text *json, const struct view_context *view,
		    const struct watch_record *record, uint32_t ring)
{
	char text[TEXT_MAX];

	view_format_ring(view, ring, text, sizeof(text));
	json_text_string(json, "ring", text);
	json_text_number(json, "sequence", record->sequence);
	json_text_string(json, "kind", view_kind_name(record->kind));
	json_text_number(json,
			 record_is_access(record) || record->kind == RECORD_VCPU ? "vcpu" : "queue",
			 record->source);
	view_format_device(view, record, text, sizeof(text));
	json_text_string(json, "device", text);
	json_text_string(json, "operation", view_operation_name(record));
}

static void add_access(struct json_text *json, const struct watch_record *record)
{
	char text[TEXT_MAX];

	json_text_hex(json, "address", record->address);
	json_text_number(json, "size", record->size);
	view_format_data(record, text, sizeof(text));
	json_text_string(json, "data", text);
	json_text_number(json, "element", record->repeat);
}

static void add_request(struct json_text *json, const struct watch_record *record)
{
	if (record->kind == RECORD_DISK) {
		json_text_number(json, "offset", record->address);
		json_text_number(json, "sector", record->address / SECTOR);
	}
	json_text_number(json, "length", record->data);
	json_text_signed(json, "status", record->status);
	if (record->status)
		json_text_string(json, "error", view_status_name(record));
}

static void add_flags(struct json_text *json, const struct watch_record *record)
{
	add_true(json, "nested", record->flags & RECORD_NESTED);
	add_true(json, "altered", record->flags & RECORD_ALTERED);
	add_true(json, "dropped", record->flags & RECORD_DROPPED);
	add_true(json, "unclaimed", record->flags & RECORD_UNCLAIMED);
}

static void add_instruction(struct json_text *json, const struct view_context *view,
			    const struct watch_record *record)
{
	const uint8_t *code;
	size_t n = view_instruction_code(record, &code);
	char text[TEXT_MAX];

	json_text_open(json, "instruction", '{');
	json_text_hex(json, "address", view_instruction_address(record));
	json_text_string(json, "verdict", view_verdict_name(record->access.verdict));
	json_text_number(json, "mode", record->access.mode);
	json_text_bytes(json, "bytes", code, n);
	view_format_disassembly(record, text, sizeof(text));
	json_text_string(json, "text", text);
	view_format_symbol(view, record, text, sizeof(text));
	if (text[0])
		json_text_string(json, "symbol", text);
	json_text_close(json, '}');
}

static void add_register(void *ctx, const char *name, uint64_t value)
{
	json_text_hex(ctx, name, value);
}

static void add_registers(struct json_text *json, const struct watch_record *record)
{
	json_text_open(json, "registers", '{');
	view_each_register(record, add_register, json);
	json_text_close(json, '}');
}

size_t view_json_record(const struct view_context *view, const struct watch_record *record,
			uint32_t ring, unsigned int parts, char ret_text[VIEW_JSON_MAX])
{
	struct json_text json;

	json_text_init(&json, ret_text, VIEW_JSON_MAX);
	json_text_open(&json, NULL, '{');
	add_when(&json, view, record);
	add_who(&json, view, record, ring);
	if (record_is_access(record))
		add_access(&json, record);
	else
		add_request(&json, record);
	add_flags(&json, record);
	if (view_has_instruction(record))
		add_instruction(&json, view, record);
	if (view_has_instruction(record) && (parts & VIEW_JSON_REGISTERS))
		add_registers(&json, record);
	if (record->kind == RECORD_NET && (parts & VIEW_JSON_FRAME))
		json_text_bytes(&json, "frame", record->frame.bytes,
				MIN(record->frame.n_bytes, RECORD_FRAME_BYTES));
	json_text_close(&json, '}');
	return json_text_finish(&json);
}

static size_t finish(struct json_text *json)
{
	json_text_close(json, '}');
	json_text_close(json, '}');
	return json_text_finish(json);
}

size_t view_json_about(const struct view_context *view, char *ret_text, size_t size)
{
	static const char *const origins[] = {
		[VIEW_LIVE] = "live",
		[VIEW_POST_MORTEM] = "post-mortem",
		[VIEW_RECORDING] = "recording",
	};
	struct json_text json;

	json_text_init(&json, ret_text, size);
	json_text_open(&json, NULL, '{');
	json_text_open(&json, "watch", '{');
	json_text_string(&json, "vm", view->vm);
	json_text_string(&json, "origin", origins[view->origin]);
	json_text_string(&json, "mode", view->mode);
	json_text_open(&json, "unseen", '[');
	for (size_t i = 0; i < view->n_unseen; i++)
		json_text_string(&json, NULL, view->unseen[i]);
	json_text_close(&json, ']');
	json_text_string(&json, "filter", view->filter_text);
	json_text_number(&json, "format", 1);
	return finish(&json);
}

size_t view_json_lost(const struct view_context *view, uint64_t since, char *ret_text, size_t size)
{
	uint64_t lost = source_lost(view->source);
	struct json_text json;

	json_text_init(&json, ret_text, size);
	json_text_open(&json, NULL, '{');
	json_text_open(&json, "lost", '{');
	json_text_number(&json, "records", lost - MIN(since, lost));
	json_text_number(&json, "total", lost);
	return finish(&json);
}

static void add_exact(struct json_text *json, const struct exact *exact)
{
	const struct exact_counts counts = exact_count(exact);

	json_text_open(json, "exact", '{');
	json_text_number(json, "places", counts.places);
	json_text_number(json, "stepped", counts.stepped);
	json_text_number(json, "agreed", counts.agreed);
	json_text_number(json, "differed", counts.differed);
	json_text_close(json, '}');
}

size_t view_json_end(const struct view_context *view, char *ret_text, size_t size)
{
	static const char *const reasons[] = {
		[VIEW_RUNS] = "failed",	    [VIEW_END_STOPPED] = "stopped",
		[VIEW_END_COUNT] = "count", [VIEW_END_TIME] = "time",
		[VIEW_END_VM] = "vm-ended", [VIEW_END_DATA] = "no-more",
	};
	struct json_text json;

	json_text_init(&json, ret_text, size);
	json_text_open(&json, NULL, '{');
	json_text_open(&json, "end", '{');
	json_text_string(&json, "reason", reasons[view->end]);
	json_text_number(&json, "records", view->n_records);
	json_text_number(&json, "lost", source_lost(view->source));
	if (view->exact)
		add_exact(&json, view->exact);
	return finish(&json);
}
