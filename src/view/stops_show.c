/* SPDX-License-Identifier: Apache-2.0 */
/* A hit of a breakpoint: from JSON, and for people and programs. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "base/hex.h"
#include "view/json.h"
#include "view/line.h"
#include "view/stops.h"
#include "watch/read/instruction.h"

#define CODE_LINES 8 /* instructions shown from the request's on */
#define CODE_BEFORE 4

/* At most `size` bytes; how many, or -EPROTO. */
static int decode_hex(const char *text, uint8_t *bytes, size_t size)
{
	size_t n = text ? strlen(text) / 2 : 0;

	return text && n <= size && hex_decode(text, bytes, n) ? (int)n : -EPROTO;
}

static int find_action(const char *name)
{
	for (int i = 0; name && i < STOP_ACTIONS; i++)
		if (strcmp(api_stop_actions[i], name) == 0)
			return i;
	return -EPROTO;
}

static const char *text_of(const json_t *event, const char *key)
{
	return json_string_value(json_object_get(event, key));
}

static uint64_t count_of(const json_t *event, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(event, key));
}

/* Without the records before it: it is known by what stands in it alone. */
static void judge_alone(struct watch_record *record)
{
	struct judge *judge = judge_new(NULL, NULL, NULL);

	if (judge)
		judge_record(judge, record);
	judge_free(judge);
}

int stops_decode(const json_t *event, struct stops_hit *ret_hit)
{
	const char *at = text_of(event, "code_at");
	struct stops_hit hit = { 0 };
	int action = find_action(text_of(event, "action"));
	int r = decode_hex(text_of(event, "record"), (uint8_t *)&hit.hit.record,
			   sizeof(hit.hit.record));
	int n_code = decode_hex(text_of(event, "code"), hit.hit.code, sizeof(hit.hit.code));

	if (action < 0 || r != sizeof(hit.hit.record) || n_code < 0 || !at)
		return -EPROTO;
	hit.hit.action = (enum stop_action)action;
	hit.hit.number = count_of(event, "number");
	hit.hit.missed = count_of(event, "missed");
	hit.hit.n_code = (uint32_t)n_code;
	hit.hit.code_at = strtoull(at, NULL, 0);
	hit.stands = action == STOP_STOP;
	judge_alone(&hit.hit.record);
	*ret_hit = hit;
	return 0;
}

/* Registers by four on a line. */
struct register_lines {
	FILE *out;
	unsigned int n;
};

static void show_register(void *ctx, const char *name, uint64_t value)
{
	struct register_lines *lines = ctx;

	fprintf(lines->out, "%s%-6s %016" PRIx64, lines->n % 4 ? "  " : "    ", name, value);
	if (++lines->n % 4 == 0)
		fputc('\n', lines->out);
}

void stops_show_registers(const struct stops_hit *hit, FILE *out)
{
	struct register_lines lines = { .out = out };

	if (!view_has_instruction(&hit->hit.record))
		return;
	view_each_register(&hit->hit.record, show_register, &lines);
	if (lines.n % 4)
		fputc('\n', out);
}

static unsigned int decode_at(const struct stop_hit *hit, uint64_t at, char *text, size_t size)
{
	uint64_t offset = at - hit->code_at;

	if (offset >= hit->n_code)
		return 0;
	return insn_format(hit->code + offset, hit->n_code - offset, hit->record.access.mode, at,
			   text, size);
}

/* An address before `from` where decoding leads onto it; `from` when there is none. */
static uint64_t start_before(const struct stop_hit *hit, uint64_t from)
{
	char text[256];

	for (uint64_t begin = hit->code_at; begin < from; begin++) {
		uint64_t at = begin;
		unsigned int len, n = 0;

		while (at < from && (len = decode_at(hit, at, text, sizeof(text)))) {
			at += len;
			n++;
		}
		if (at == from && n <= CODE_BEFORE)
			return begin;
	}
	return from;
}

void stops_show_code(struct view_context *view, const struct stops_hit *hit, FILE *out)
{
	const struct watch_record *record = &hit->hit.record;
	uint64_t at, from;
	unsigned int len;
	char text[256], symbol[128];

	if (!view_has_instruction(record) || !hit->hit.n_code)
		return;
	from = view_instruction_address(record);
	at = start_before(&hit->hit, from);
	for (unsigned int after = 0; after<CODE_LINES; after += at> from) {
		len = decode_at(&hit->hit, at, text, sizeof(text));
		if (!len)
			break;
		if (!symbols_find(view->symbols, at, symbol, sizeof(symbol)))
			symbol[0] = '\0';
		fprintf(out, "  %s 0x%016" PRIx64 " %s%s%s\n", at == from ? "=>" : "  ", at, symbol,
			symbol[0] ? ": " : "", text);
		at += len;
	}
}

void stops_show(struct view_context *view, const struct stops_hit *hit, FILE *out)
{
	char text[1024];

	if (hit->hit.missed)
		fprintf(out, "(%" PRIu64 " more came too fast to be told of)\n", hit->hit.missed);
	view_line(view, &hit->hit.record, hit->hit.record.source, text, sizeof(text));
	fprintf(out, "%s %" PRIu64 ": %s\n", hit->stands ? "stopped on" : "request",
		hit->hit.number, text);
}

void stops_show_json(struct view_context *view, const struct stops_hit *hit, FILE *out)
{
	char text[VIEW_JSON_MAX];

	view_json_record(view, &hit->hit.record, hit->hit.record.source, VIEW_JSON_ALL, text);
	fprintf(out,
		"{\"hit\":{\"number\":%" PRIu64 ",\"missed\":%" PRIu64
		",\"stopped\":%s,\"request\":%s}}\n",
		hit->hit.number, hit->hit.missed, hit->stands ? "true" : "false", text);
}
