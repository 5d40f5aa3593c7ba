/* SPDX-License-Identifier: Apache-2.0 */
/* --follow: a line for each request. What is about the watch itself goes to standard error. */
#include <inttypes.h>
#include <string.h>

#include "view/exact.h"
#include "view/line.h"
#include "view/lines.h"

#define LINE_MAX_BYTES 1024

/* A mode line, and whatever else people must know, between the lines that came before and after it. */
static int tell(struct output *output, const char *text)
{
	int r = output_flush(output);

	fprintf(stderr, "utsusu: %s\n", text);
	return r;
}

static int tell_mode(struct view_context *view, struct output *output)
{
	char text[LINE_MAX_BYTES];

	view_format_mode(view, text, sizeof(text));
	return tell(output, text);
}

static int show_record(struct view_context *view, struct output *output,
		       const struct watch_record *record, uint32_t ring)
{
	char text[LINE_MAX_BYTES];
	int r = output_line(output, text, view_line(view, record, ring, text, sizeof(text)));

	if (r < 0 || !view->options.registers || !view_has_instruction(record))
		return r;
	memset(text, ' ', 4);
	view_format_registers(record, text + 4, sizeof(text) - 4);
	return output_line(output, text, strlen(text));
}

static int tell_lost(struct view_context *view, struct output *output, uint64_t since)
{
	uint64_t lost = source_lost(view->source);
	char text[LINE_MAX_BYTES];

	snprintf(text, sizeof(text),
		 "%s: %" PRIu64 " requests came faster than they were read and are lost (%" PRIu64
		 " in all)",
		 view->title, lost - since, lost);
	return tell(output, text);
}

static int tell_expelled(struct view_context *view, struct output *output)
{
	char text[LINE_MAX_BYTES];

	snprintf(
		text, sizeof(text),
		"%s: not lossless any more: the guest has waited too long for this watcher, and goes on",
		view->title);
	return tell(output, text);
}

static int tell_exact(struct view_context *view, struct output *output, const char *text)
{
	const struct exact_counts counts = exact_count(view->exact);
	char line[LINE_MAX_BYTES + 160];

	snprintf(line, sizeof(line),
		 "%s; places that make accesses: %" PRIu32 ", seen by a step: %" PRIu32
		 ", as judged: %" PRIu32 ", otherwise: %" PRIu32,
		 text, counts.places, counts.stepped, counts.agreed, counts.differed);
	return tell(output, line);
}

static int end(struct view_context *view, struct output *output)
{
	char text[LINE_MAX_BYTES];

	snprintf(text, sizeof(text), "%s: %s; requests shown: %" PRIu64 ", lost: %" PRIu64,
		 view->title, view_end_text(view->end), view->n_records, source_lost(view->source));
	return view->exact ? tell_exact(view, output, text) : tell(output, text);
}

int line_view_run(struct view_context *view, struct error *err)
{
	static const struct line_format format = { tell_mode, show_record,   tell_mode,
						   tell_lost, tell_expelled, end };

	return lines_run(view, &format, err);
}
