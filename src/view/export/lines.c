/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of JSON, the same as --json prints (docs/watching.md). */
#include "view/export/export.h"
#include "view/json.h"

#include <errno.h>

#define ABOUT_MAX 8192

struct lines {
	struct view_context *view;
	struct export_stream *stream;
	uint64_t lost;
};

static int write_line(struct lines *lines, char *text, size_t len)
{
	text[len] = '\n'; /* in place of the NUL */
	return export_stream_write(lines->stream, text, len + 1);
}

static int lines_open(struct view_context *view, void **ret_state, struct error *err)
{
	_cleanup_(freep) struct lines *lines = calloc(1, sizeof(*lines));
	char text[ABOUT_MAX];
	int r;

	if (!lines)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", view->title);
	r = export_stream_open(view->options.output, &lines->stream, err);
	if (r < 0)
		return r;
	lines->view = view;
	/* A failure comes again with the next line. */
	(void)!write_line(lines, text, view_json_about(view, text, sizeof(text)));
	*ret_state = TAKE_PTR(lines);
	return 0;
}

static int lines_record(void *state, const struct watch_record *record, uint32_t ring)
{
	struct lines *lines = state;
	char text[VIEW_JSON_MAX + 1];
	size_t len = view_json_record(lines->view, record, ring, VIEW_JSON_ALL, text);
	int r = write_line(lines, text, len);

	return r < 0 ? r : 1;
}

static int lines_lost(void *state, uint64_t records)
{
	struct lines *lines = state;
	char text[256];
	size_t len = view_json_lost(lines->view, lines->lost, text, sizeof(text));

	lines->lost += records;
	return write_line(lines, text, len);
}

static int lines_flush(void *state)
{
	return export_stream_flush(((struct lines *)state)->stream);
}

static int lines_close(void *state)
{
	_cleanup_(freep) struct lines *lines = state;
	char text[256];
	int r = write_line(lines, text, view_json_end(lines->view, text, sizeof(text)));
	int closed = export_stream_close(lines->stream);

	return r < 0 ? r : closed;
}

const struct export_format export_json = {
	.open = lines_open,
	.record = lines_record,
	.lost = lines_lost,
	.flush = lines_flush,
	.close = lines_close,
};
