/* SPDX-License-Identifier: Apache-2.0 */
/* --json: an object on each line. */
#include "view/json.h"
#include "view/lines.h"

#define ABOUT_MAX 8192

static int tell_mode(struct view_context *view, struct output *output)
{
	char text[ABOUT_MAX];
	int r = output_line(output, text, view_json_about(view, text, sizeof(text)));

	/* At once: who reads it knows from it that the watch has begun. */
	return r < 0 ? r : output_flush(output);
}

static int show_record(struct view_context *view, struct output *output,
		       const struct watch_record *record, uint32_t ring)
{
	char text[VIEW_JSON_MAX];

	return output_line(output, text, view_json_record(view, record, ring, VIEW_JSON_ALL, text));
}

static int tell_lost(struct view_context *view, struct output *output, uint64_t since)
{
	char text[256];

	return output_line(output, text, view_json_lost(view, since, text, sizeof(text)));
}

static int tell_expelled(struct view_context *view, struct output *output)
{
	static const char text[] = "{\"expelled\":true}";

	return output_line(output, text, sizeof(text) - 1);
}

static int end(struct view_context *view, struct output *output)
{
	char text[256];

	return output_line(output, text, view_json_end(view, text, sizeof(text)));
}

int json_view_run(struct view_context *view, struct error *err)
{
	static const struct line_format format = { tell_mode, show_record,   tell_mode,
						   tell_lost, tell_expelled, end };

	return lines_run(view, &format, err);
}
