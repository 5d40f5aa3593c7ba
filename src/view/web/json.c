/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "view/json.h"
#include "watch/read/instruction.h"

#define TEXT_MAX 1024
#define SITES_SHOWN 40

void web_write_text(FILE *out, const char *text)
{
	char plain[TEXT_MAX], quoted[2 * TEXT_MAX + 3];

	view_copy_text(text, plain, sizeof(plain));
	if (view_json_string(plain, quoted, sizeof(quoted)))
		fputs(quoted, out);
	else
		fputs("\"\"", out);
}

static void write_key_text(FILE *out, const char *key, const char *text)
{
	fprintf(out, "\"%s\":", key);
	web_write_text(out, text);
	fputc(',', out);
}

static const char *origin_name(enum view_origin origin)
{
	static const char *const names[] = { [VIEW_LIVE] = "live",
					     [VIEW_POST_MORTEM] = "post-mortem",
					     [VIEW_RECORDING] = "recording" };

	return (unsigned int)origin < ARRAY_SIZE(names) ? names[origin] : "";
}

/* [name, help, kind], kind as in watch/filter/filter.h. */
static void write_words(FILE *out)
{
	const struct filter_word *word;

	for (unsigned int i = 0; (word = filter_word(i)); i++) {
		fputs(i ? ",[" : "[", out);
		web_write_text(out, word->name);
		fputc(',', out);
		web_write_text(out, word->help);
		fprintf(out, ",%d]", word->kind);
	}
}

void web_write_about(FILE *out, const struct web_model *model)
{
	const struct view_context *view = model->view;

	fputc('{', out);
	write_key_text(out, "vm", view->vm);
	write_key_text(out, "title", view->title);
	write_key_text(out, "origin", origin_name(view->origin));
	write_key_text(out, "filter", view->filter_text ? view->filter_text : "");
	write_key_text(out, "version", UTSUSU_VERSION);
	fprintf(out, "\"bins\":%d,\"columns_max\":%d,\"words\":[", HISTORY_BINS, TILE_COLUMNS);
	write_words(out);
	fputs("]}", out);
}

/* Other watchers may change it meanwhile. */
static void write_mode(FILE *out, const struct view_context *view)
{
	write_key_text(out, "mode", view->mode);
	fputs("\"unseen\":[", out);
	for (size_t i = 0; i < view->n_unseen; i++) {
		fputs(i ? "," : "", out);
		web_write_text(out, view->unseen[i]);
	}
	fprintf(out, "],\"expelled\":%s,", source_was_expelled(view->source) ? "true" : "false");
}

void web_write_state(FILE *out, const struct web_model *model)
{
	uint64_t first = history_first(model->history), end = history_end(model->history);
	const struct history_block *block = history_block(model->history, first / HISTORY_BLOCK);

	fprintf(out,
		"{\"version\":%" PRIu64 ",\"first\":%" PRIu64 ",\"end\":%" PRIu64
		",\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"lost\":%" PRIu64
		",\"origin_ms\":%.6f,\"over\":%s,",
		model->version, first, end, block ? block->min_ns : 0, model->last_ns,
		source_lost(model->view->source), (double)model->origin_ns / 1e6,
		model->over ? "true" : "false");
	write_mode(out, model->view);
	fputs("\"end_text\":", out);
	web_write_text(out, model->trouble ? model->trouble : view_end_text(model->view->end));
	fputc('}', out);
}

static void write_texts(FILE *out, const char *const *texts)
{
	for (; *texts; texts++) {
		fputc(',', out);
		web_write_text(out, *texts);
	}
}

/* "out dx, al", '~' before it when it is not sure; and the symbol, or else the address. */
static void format_code(const struct view_context *view, const struct watch_record *record,
			char ret_code[128], char ret_where[128])
{
	ret_code[0] = ret_where[0] = '\0';
	if (!view_has_instruction(record))
		return;
	ret_code[0] = '~';
	view_format_disassembly(record, ret_code + !view_is_sure(record), 126);
	view_format_symbol(view, record, ret_where, 128);
	if (!ret_where[0])
		snprintf(ret_where, 128, "0x%" PRIx64, view_instruction_address(record));
}

void web_write_row(FILE *out, const struct web_model *model, uint64_t id,
		   const struct history_point *point, const struct watch_record *record)
{
	const struct view_context *view = model->view;
	bool unclaimed = point->flags & HISTORY_FAILED && !record->status;
	char ring[64], device[64], request[64], address[64], data[64], code[128], where[128];

	view_format_ring(view, point->ring, ring, sizeof(ring));
	view_format_device(view, record, device, sizeof(device));
	snprintf(request, sizeof(request), "%s %s", view_kind_name(record->kind),
		 view_operation_name(record));
	view_format_address(record, address, sizeof(address));
	view_format_data(record, data, sizeof(data));
	format_code(view, record, code, where);
	fprintf(out, "[%" PRIu64 ",%" PRIu64, id, point->begin_ns);
	write_texts(out, (const char *const[]){ ring, device, request, address, data, NULL });
	fprintf(out, ",%" PRIu64, point->duration_ns);
	write_texts(out, (const char *const[]){ unclaimed ? "unclaimed" : view_status_name(record),
						code, where, NULL });
	fputc(']', out);
}

static void write_hex(FILE *out, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%02x", i ? " " : "", bytes[i]);
}

/* A line of code: [address, bytes, text, what it is]. */
static void write_code_line(FILE *out, uint64_t address, const uint8_t *bytes, size_t n,
			    const char *text, const char *what)
{
	fprintf(out, "[\"0x%" PRIx64 "\",\"", address);
	write_hex(out, bytes, n);
	fputs("\",", out);
	web_write_text(out, text);
	fprintf(out, ",\"%s\"]", what);
}

/* The window of code: bytes before the instruction, which nothing tells how to cut, then what follows, disassembled. */
static void write_code(FILE *out, const struct watch_record *record)
{
	const struct record_access *access = &record->access;
	const uint8_t *known = insn_code(record);
	const uint8_t *end = access->code + RECORD_WINDOW + MIN(access->n_after, RECORD_WINDOW);
	const uint8_t *start = access->code + RECORD_WINDOW - MIN(access->n_before, RECORD_WINDOW);
	const uint8_t *at = known ? known : access->code + RECORD_WINDOW;
	uint64_t address = view_instruction_address(record);
	const char *separator = "";

	if (start < at) {
		write_code_line(out, address - (uint64_t)(at - start), start, (size_t)(at - start),
				"", "before");
		separator = ",";
	}
	while (at < end) {
		char text[128];
		unsigned int n = insn_format(at, (size_t)(end - at), access->mode, address, text,
					     sizeof(text));

		fputs(separator, out);
		separator = ",";
		if (!n) { /* cut off by the window's end, or no code */
			write_code_line(out, address, at, (size_t)(end - at), "", "rest");
			break;
		}
		write_code_line(out, address, at, n, text, at == known ? "request" : "after");
		at += n;
		address += n;
	}
}

struct register_list {
	FILE *out;
	unsigned int n;
};

static void write_register(void *ctx, const char *name, uint64_t value)
{
	struct register_list *list = ctx;

	fprintf(list->out, "%s[\"%s\",\"0x%" PRIx64 "\"]", list->n++ ? "," : "", name, value);
}

/* What is there of a record with an instruction. */
static void write_access(FILE *out, const struct view_context *view,
			 const struct watch_record *record)
{
	struct register_list list = { .out = out };
	char symbol[256];

	view_format_symbol(view, record, symbol, sizeof(symbol));
	write_key_text(out, "verdict", view_verdict_name(record->access.verdict));
	write_key_text(out, "symbol", symbol);
	fputs("\"code\":[", out);
	write_code(out, record);
	fputs("],\"registers\":[", out);
	view_each_register(record, write_register, &list);
	fputs("],", out);
}

void web_write_record(FILE *out, const struct web_model *model, uint64_t id,
		      const struct history_point *point, const struct watch_record *record)
{
	const struct view_context *view = model->view;
	char time[64], json[VIEW_JSON_MAX];

	fputc('{', out);
	view_format_utc(view, record->begin, time, sizeof(time));
	write_key_text(out, "time", time);
	if (view_has_instruction(record))
		write_access(out, view, record);
	if (record->kind == RECORD_NET) {
		fputs("\"frame\":\"", out);
		write_hex(out, record->frame.bytes, MIN(record->frame.n_bytes, RECORD_FRAME_BYTES));
		fputs("\",", out);
	}
	fputs("\"row\":", out);
	web_write_row(out, model, id, point, record);
	if (view_json_record(view, record, point->ring, VIEW_JSON_ALL, json))
		fprintf(out, ",\"json\":%s", json);
	fputc('}', out);
}

/* {"index", "name", "count", "failed", "p50", "p99"} */
static void write_lane(FILE *out, unsigned int index, const char *name,
		       const struct tile_lane *lane)
{
	fprintf(out, "{\"index\":%u,\"name\":", index);
	web_write_text(out, name);
	fprintf(out,
		",\"count\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
		"}",
		lane->count, lane->failed, tile_percentile(lane, 500), tile_percentile(lane, 990));
}

static const char *device_name(const struct view_context *view, unsigned int index)
{
	return view->names.device(view->names.ctx,
				  index == HISTORY_NO_DEVICE ? STORE_NO_DEVICE : (uint16_t)index);
}

static void write_lanes(FILE *out, const struct web_model *model, const struct tile *tile)
{
	const char *separator = "";
	char name[64];

	fputs(",\"rings\":[", out);
	for (unsigned int i = 0; i < ARRAY_SIZE(tile->rings); i++)
		if (tile->rings[i]) {
			view_format_ring(model->view, i, name, sizeof(name));
			fputs(separator, out);
			write_lane(out, i, name, tile->rings[i]);
			separator = ",";
		}
	fputs("],\"devices\":[", out);
	separator = "";
	for (unsigned int i = 0; i < ARRAY_SIZE(tile->devices); i++)
		if (tile->devices[i]) {
			fputs(separator, out);
			write_lane(out, i, device_name(model->view, i), tile->devices[i]);
			separator = ",";
		}
	fputc(']', out);
}

/* The sites with the most time in them, best first: how many. */
static unsigned int top_sites(const struct tile *tile, uint16_t ret_top[SITES_SHOWN])
{
	unsigned int n = 0;

	for (unsigned int site = SITE_OTHER; site < SITES_MAX; site++) {
		unsigned int at = n;
		double mine = tile->sites[site].duration_ns;

		if (!tile->sites[site].count)
			continue;
		while (at && tile->sites[ret_top[at - 1]].duration_ns < mine)
			at--;
		if (at == SITES_SHOWN)
			continue;
		n = MIN(n + 1, SITES_SHOWN);
		memmove(&ret_top[at + 1], &ret_top[at], (n - 1 - at) * sizeof(ret_top[0]));
		ret_top[at] = (uint16_t)site;
	}
	return n;
}

static void write_site(FILE *out, const struct web_model *model, uint16_t number,
		       const struct tile_site *site)
{
	const struct watch_record *example = sites_example(model->sites, number);
	char text[128] = "others", symbol[256] = "", address[32] = "";

	if (example) {
		view_format_disassembly(example, text, sizeof(text));
		view_format_symbol(model->view, example, symbol, sizeof(symbol));
		snprintf(address, sizeof(address), "0x%" PRIx64, view_instruction_address(example));
	}
	fputc('{', out);
	write_key_text(out, "address", address);
	write_key_text(out, "text", text);
	write_key_text(out, "symbol", symbol);
	write_key_text(out, "device", device_name(model->view, site->device));
	fprintf(out, "\"sure\":%s,\"count\":%" PRIu64 ",\"ns\":%.15g,\"max\":%" PRIu64 "}",
		example && view_is_sure(example) ? "true" : "false", site->count, site->duration_ns,
		site->max_ns);
}

static void write_sites(FILE *out, const struct web_model *model, const struct tile *tile)
{
	uint16_t top[SITES_SHOWN];
	unsigned int n = top_sites(tile, top);

	fputs(",\"sites\":[", out);
	for (unsigned int i = 0; i < n; i++) {
		fputs(i ? "," : "", out);
		write_site(out, model, top[i], &tile->sites[top[i]]);
	}
	fputc(']', out);
}

/* Few requests, each by itself: [id, begin, duration, ring, device, bin, failed]. */
static void write_spans(FILE *out, const struct web_model *model, const struct tile *tile)
{
	fputs(",\"spans\":[", out);
	for (uint32_t i = 0; tile->count <= TILE_SPANS && i < tile->n_spans; i++) {
		uint64_t id = tile->spans[i];
		const struct history_block *block = history_block(model->history,
								  id / HISTORY_BLOCK);
		const struct history_point *point = &block->points[id % HISTORY_BLOCK];

		fprintf(out, "%s[%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u,%u,%u,%d]", i ? "," : "",
			id, point->begin_ns, point->duration_ns, point->ring, point->device,
			point->bin, !!(point->flags & HISTORY_FAILED));
	}
	fputc(']', out);
}

/* The first and the last line of the heat map that have anything; low > high: none has. */
static void heat_range(const struct tile *tile, unsigned int *ret_low, unsigned int *ret_high)
{
	unsigned int low = HISTORY_BINS, high = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(tile->rings); i++)
		for (unsigned int bin = 0; tile->rings[i] && bin < HISTORY_BINS; bin++)
			if (tile->rings[i]->bins[bin]) {
				low = MIN(low, bin);
				high = MAX(high, bin);
			}
	*ret_low = low;
	*ret_high = high;
}

void web_write_tile_head(FILE *out, const struct web_model *model, const struct tile *tile)
{
	unsigned int low, high;

	heat_range(tile, &low, &high);
	fprintf(out,
		"{\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"columns\":%u,\"count\":%" PRIu64
		",\"unknown\":%" PRIu64 ",\"low\":%u,\"high\":%d",
		tile->from_ns, tile->to_ns, tile->n_columns, tile->count, tile->unknown,
		low > high ? 0 : low, low > high ? -1 : (int)high);
	write_lanes(out, model, tile);
	write_sites(out, model, tile);
	write_spans(out, model, tile);
	fputc('}', out);
}

static void write_lane_columns(FILE *out, struct tile_lane *const *lanes, size_t n,
			       uint32_t n_columns)
{
	for (size_t i = 0; i < n; i++)
		if (lanes[i])
			fwrite(lanes[i]->columns, sizeof(uint32_t), n_columns, out);
}

/* How long requests of a column took, on average, as a bin; 0 where there is none. */
static void write_lane_means(FILE *out, struct tile_lane *const *lanes, size_t n,
			     uint32_t n_columns)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t column = 0; lanes[i] && column < n_columns; column++) {
			double count = MAX(lanes[i]->columns[column], 1U);

			fputc((int)history_bin((uint64_t)(lanes[i]->columns_ns[column] / count)),
			      out);
		}
}

/* In the order of the head's lists: counts of rings, of devices, the heat map's lines from low to high, all u32; then the
 * bins of what requests took on average, of rings and of devices, u8. The hosts that run KVM are little-endian. */
void web_write_tile_numbers(FILE *out, const struct tile *tile)
{
	unsigned int low, high;

	heat_range(tile, &low, &high);
	write_lane_columns(out, tile->rings, ARRAY_SIZE(tile->rings), tile->n_columns);
	write_lane_columns(out, tile->devices, ARRAY_SIZE(tile->devices), tile->n_columns);
	for (unsigned int bin = low; bin <= high && bin < HISTORY_BINS; bin++)
		fwrite(tile->heat[bin], sizeof(uint32_t), tile->n_columns, out);
	write_lane_means(out, tile->rings, ARRAY_SIZE(tile->rings), tile->n_columns);
	write_lane_means(out, tile->devices, ARRAY_SIZE(tile->devices), tile->n_columns);
}
