/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: view/format.c view/format_code.c view/json.c view/json_text.c view/line.c
 *
 * Records with anything in them, as lines and as JSON: a line is one line of printable text, and the JSON is whole and is one
 * object, whatever names the store has.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_source.h"
#include "base/cleanup.h"
#include "view/json.h"
#include "view/line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void require_printable(const char *text, size_t len)
{
	require(strlen(text) == len);
	for (size_t i = 0; i < len; i++)
		require(text[i] >= ' ' && text[i] <= '~');
}

static void require_object(const char *text, size_t len)
{
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	require_printable(text, len);
	require(json_is_object(json));
	json_decref(json);
}

static void show(struct view_context *view, const struct watch_record *record, uint32_t ring)
{
	char text[VIEW_JSON_MAX], line[512], registers[1024], status[64];

	require_printable(line, view_line(view, record, ring, line, sizeof(line)));
	require_object(text, view_json_record(view, record, ring, VIEW_JSON_ALL, text));
	view_format_registers(record, registers, sizeof(registers));
	require_printable(registers, strlen(registers));
	snprintf(status, sizeof(status), "%s %s", view_status_name(record),
		 view_kind_name(record->kind));
	require_printable(status, strlen(status));
}

/* What is about the watch: its names and its filter are the input too. */
static void show_about(struct view_context *view, uint64_t since)
{
	char text[8192], mode[1024];

	require_object(text, view_json_about(view, text, sizeof(text)));
	require_object(text, view_json_lost(view, since, text, sizeof(text)));
	require_object(text, view_json_end(view, text, sizeof(text)));
	require(view_json_about(view, mode, 16) == 0 && !mode[0]);
	view_format_mode(view, mode, sizeof(mode));
	require(strlen(mode) < sizeof(mode));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) struct watch_source *source = calloc(1, sizeof(*source));
	const char *unseen[] = { "this", "that" };
	struct view_context view = { .title = "fuzz", .mode = "normal", .unseen = unseen };
	struct watch_record record;
	char filter[33] = "";

	if (!source)
		return 0;
	fake_source_init(source);
	memcpy(source->header.devices, data, MIN(size, 2U * STORE_NAME - 1));
	memcpy(filter, data, MIN(size, sizeof(filter) - 1));
	view_init(&view, source);
	view.filter_text = filter;
	view.n_unseen = size % 3;
	for (; size >= 8; data += MIN(size, sizeof(record)), size -= MIN(size, sizeof(record))) {
		memset(&record, 0, sizeof(record));
		memcpy(&record, data, MIN(size, sizeof(record)));
		show(&view, &record, record.source);
		show_about(&view, record.sequence);
	}
	return 0;
}
