/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/endian.h"
#include "view/web/json.h"

DEFINE_CLEANUP(struct tile, tile_free, tile_freep)

struct answer_error {
	struct error err;
	unsigned int column;
};

static const char *text_of(const struct web_request *request, const char *name)
{
	const char *text = request->argument(request->ctx, name);

	return text ? text : "";
}

/* A number of up to 16 decimal digits, at most `max`; `otherwise` when it was not given. */
static int number_of(const struct web_request *request, const char *name, uint64_t otherwise,
		     uint64_t max, uint64_t *ret_value, struct answer_error *why)
{
	const char *text = request->argument(request->ctx, name);
	uint64_t value = 0;
	size_t n = 0;

	for (; text && n < 16 && text[n] >= '0' && text[n] <= '9'; n++)
		value = value * 10 + (uint64_t)(text[n] - '0');
	if (text && (!n || text[n] || value > max))
		return error_set(&why->err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: a number from 0 to %" PRIu64 " is needed", name, max);
	*ret_value = text ? value : otherwise;
	return 0;
}

/* The stretch of time that is asked about; all when none is given. */
static int range_of(const struct web_request *request, uint64_t *ret_from, uint64_t *ret_to,
		    struct answer_error *why)
{
	uint64_t from, to;
	int r = number_of(request, "from", 0, HISTORY_TIME_MAX, &from, why);

	if (!r)
		r = number_of(request, "to", HISTORY_TIME_MAX, HISTORY_TIME_MAX, &to, why);
	if (r)
		return r;
	if (from >= to)
		return error_set(&why->err, -EINVAL, EXIT_STATUS_USAGE,
				 "from: it has to be before `to`");
	*ret_from = from;
	*ret_to = to;
	return 0;
}

static int lens_of(struct web_model *model, const struct web_request *request,
		   struct lens **ret_lens, struct answer_error *why)
{
	return lenses_find(model->lenses, text_of(request, "filter"), ret_lens, &why->column,
			   &why->err);
}

static int answer_about(struct web_model *model, const struct web_request *request, FILE *out,
			struct answer_error *why)
{
	web_write_about(out, model);
	return 0;
}

static int answer_state(struct web_model *model, const struct web_request *request, FILE *out,
			struct answer_error *why)
{
	web_write_state(out, model);
	return 0;
}

/* | length of the head, a multiple of 4 | head, blanks | numbers | */
static int write_tile(struct web_model *model, const struct tile *tile, FILE *out)
{
	_cleanup_(freep) char *head = NULL;
	size_t n_head = 0;
	FILE *text = open_memstream(&head, &n_head);
	le32_t length;

	if (!text)
		return -ENOMEM;
	web_write_tile_head(text, model, tile);
	while (ftell(text) % 4)
		fputc(' ', text);
	if (fclose(text))
		return -ENOMEM;
	length = le32_make((uint32_t)n_head);
	fwrite(&length, sizeof(length), 1, out);
	fwrite(head, n_head, 1, out);
	web_write_tile_numbers(out, tile);
	return 0;
}

static int answer_view(struct web_model *model, const struct web_request *request, FILE *out,
		       struct answer_error *why)
{
	_cleanup_(tile_freep) struct tile *tile = NULL;
	uint64_t from, to, columns;
	struct lens *lens;
	int r = range_of(request, &from, &to, why);

	if (!r)
		r = number_of(request, "columns", 512, WEB_COLUMNS_MAX, &columns, why);
	if (!r)
		r = lens_of(model, request, &lens, why);
	if (!r)
		r = tile_make(model->history, model->lenses, lens, from, to, (uint32_t)columns,
			      clock_now(&clock_host) + WEB_ANSWER_NS, &tile);
	return r ? r : write_tile(model, tile, out);
}

/* A walk over the lines that match, from `cursor` on. */
struct rows {
	struct web_model *model;
	struct lens *lens;
	uint64_t from_ns, to_ns, until_ns;
	uint64_t cursor; /* older: the next one is before it; newer: it is the next one */
	bool older, begun, done;
	unsigned int n, max;
	FILE *out;
};

static void write_row(struct rows *rows, const struct history_block *block, uint32_t index)
{
	const struct watch_record *records;

	if (block->points[index].begin_ns < rows->from_ns ||
	    block->points[index].begin_ns >= rows->to_ns)
		return;
	records = history_records(rows->model->history, block);
	fputs(rows->n++ ? "," : "", rows->out);
	web_write_row(rows->out, rows->model, block->serial * HISTORY_BLOCK + index,
		      &block->points[index], &records[index]);
}

/* Looks at the record at the cursor, and moves on: past the rest of the block when nothing of it is asked for. */
static void step_older(struct rows *rows, const struct history_block *block, const uint64_t *bits)
{
	uint32_t index = (uint32_t)((rows->cursor - 1) % HISTORY_BLOCK);

	rows->cursor--;
	if (!bits)
		rows->cursor = block->serial * HISTORY_BLOCK;
	else if (lens_bit(bits, index))
		write_row(rows, block, index);
}

static void step_newer(struct rows *rows, const struct history_block *block, const uint64_t *bits)
{
	uint32_t index = (uint32_t)(rows->cursor % HISTORY_BLOCK);

	rows->cursor++;
	if (!bits)
		rows->cursor = block->serial * HISTORY_BLOCK + block->n;
	else if (lens_bit(bits, index))
		write_row(rows, block, index);
}

/* One block from the cursor on. False: there is none, or no time left to filter it; for the first there is. */
static bool rows_of_block(struct rows *rows)
{
	const struct history *history = rows->model->history;
	uint64_t serial = (rows->cursor - rows->older) / HISTORY_BLOCK;
	const struct history_block *block = history_block(history, serial);
	const uint64_t *bits = NULL;

	rows->done = rows->older ? rows->cursor <= history_first(history)
				 : rows->cursor >= history_end(history);
	if (rows->done || !block || (rows->begun && clock_now(&clock_host) >= rows->until_ns))
		return false;
	rows->begun = true;
	if (block->max_ns >= rows->from_ns && block->min_ns < rows->to_ns) {
		bits = lens_bits(rows->model->lenses, rows->lens, block, rows->until_ns);
		if (!bits)
			return false;
	}
	while (rows->n < rows->max) {
		if (rows->older)
			step_older(rows, block, bits);
		else
			step_newer(rows, block, bits);
		if (rows->older ? rows->cursor == serial * HISTORY_BLOCK
				: rows->cursor >= serial * HISTORY_BLOCK + block->n)
			break;
	}
	return rows->n < rows->max;
}

static int answer_rows(struct web_model *model, const struct web_request *request, FILE *out,
		       struct answer_error *why)
{
	struct rows rows = { .model = model, .out = out };
	uint64_t older, max, first = history_first(model->history);
	uint64_t end = history_end(model->history);
	int r = range_of(request, &rows.from_ns, &rows.to_ns, why);

	if (!r)
		r = number_of(request, "older", 1, 1, &older, why);
	if (!r)
		r = number_of(request, "limit", 100, WEB_ROWS_MAX, &max, why);
	if (!r)
		r = number_of(request, "cursor", older ? end : first, HISTORY_TIME_MAX,
			      &rows.cursor, why);
	if (!r)
		r = lens_of(model, request, &rows.lens, why);
	if (r)
		return r;
	rows.older = older;
	rows.max = (unsigned int)max;
	rows.cursor = MIN(MAX(rows.cursor, first), end);
	rows.until_ns = clock_now(&clock_host) + WEB_ANSWER_NS;
	fputs("{\"rows\":[", out);
	while (rows_of_block(&rows))
		;
	fprintf(out, "],\"cursor\":%" PRIu64 ",\"done\":%s}", rows.cursor,
		rows.done ? "true" : "false");
	return 0;
}

static int answer_record(struct web_model *model, const struct web_request *request, FILE *out,
			 struct answer_error *why)
{
	const struct history_block *block;
	uint64_t id;
	int r = number_of(request, "id", HISTORY_TIME_MAX, HISTORY_TIME_MAX, &id, why);

	if (r)
		return r;
	block = history_block(model->history, id / HISTORY_BLOCK);
	if (!block || id % HISTORY_BLOCK >= block->n)
		return error_set(&why->err, -ENOENT, EXIT_STATUS_NOT_FOUND,
				 "this request is no longer kept; pause to look at one");
	web_write_record(out, model, id, &block->points[id % HISTORY_BLOCK],
			 &history_records(model->history, block)[id % HISTORY_BLOCK]);
	return 0;
}

#define TYPE_JSON "application/json"

/* THE table: what can be asked. */
static const struct web_question {
	const char *path, *type;
	int (*answer)(struct web_model *model, const struct web_request *request, FILE *out,
		      struct answer_error *why);
} web_questions[] = {
	{ "/data/about", TYPE_JSON, answer_about },
	{ "/data/state", TYPE_JSON, answer_state },
	{ "/data/rows", TYPE_JSON, answer_rows },
	{ "/data/record", TYPE_JSON, answer_record },
	{ "/data/view", "application/octet-stream", answer_view },
};

static unsigned int status_of(int r)
{
	switch (r) {
	case 0:
		return 200;
	case -EINVAL:
		return 400;
	case -ENOENT:
		return 404;
	default:
		return 503;
	}
}

static void write_error(FILE *out, int r, const struct answer_error *why)
{
	fputs("{\"error\":", out);
	web_write_text(out, why->err.message[0] ? why->err.message : strerrordesc_np(-r));
	fprintf(out, ",\"column\":%u}", why->column);
}

static int ask(struct web_model *model, const struct web_request *request, FILE *out,
	       const char **ret_type, struct answer_error *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(web_questions); i++)
		if (!strcmp(web_questions[i].path, request->path)) {
			*ret_type = web_questions[i].type;
			return web_questions[i].answer(model, request, out, why);
		}
	return error_set(&why->err, -ENOENT, EXIT_STATUS_USAGE, "there is no such page");
}

void web_answer(struct web_model *model, const struct web_request *request,
		struct web_response *ret_response)
{
	struct web_response response = { .type = TYPE_JSON };
	struct answer_error why = { 0 };
	FILE *out = open_memstream(&response.body, &response.n_bytes);
	int r = -ENOMEM;

	if (out) {
		r = ask(model, request, out, &response.type, &why);
		if (r) { /* nothing was written */
			response.type = TYPE_JSON;
			write_error(out, r, &why);
		}
		fclose(out);
	}
	response.status = status_of(r);
	*ret_response = response;
}
