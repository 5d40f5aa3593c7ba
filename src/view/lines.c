/* SPDX-License-Identifier: Apache-2.0 */
/* What --follow and --json have in common: each record a line on standard output, written before the view waits; what was
 * lost is told where it happened. */
#include "view/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define TELL_LOST_NS NSEC_PER_SEC /* between two lines about what was lost */

struct lines {
	struct view_context *view;
	const struct line_format *format;
	struct output output;
	uint64_t lost, told_ns;
	unsigned int mode_changes; /* that were told */
	bool expelled;		   /* it has been told */
};

/* A reader that is too slow loses all the time: it is told once a second, and at the end. */
static int tell_lost(struct lines *lines, bool now)
{
	uint64_t lost = source_lost(lines->view->source), since = lines->lost;
	uint64_t ns = clock_now(&clock_host);

	if (lost <= since || (!now && lines->told_ns && ns - lines->told_ns < TELL_LOST_NS))
		return 0;
	lines->lost = lost;
	lines->told_ns = ns;
	return lines->format->lost(lines->view, &lines->output, since);
}

static int tell_expelled(struct lines *lines)
{
	if (lines->expelled || !source_was_expelled(lines->view->source))
		return 0;
	lines->expelled = true;
	return lines->format->expelled(lines->view, &lines->output);
}

static int tell_mode(struct lines *lines)
{
	if (lines->mode_changes == lines->view->mode_changes)
		return 0;
	lines->mode_changes = lines->view->mode_changes;
	return lines->format->mode(lines->view, &lines->output);
}

/* What became of the watch, before the next record. */
static int tell_news(struct lines *lines, bool now)
{
	int r = tell_mode(lines);

	if (r >= 0)
		r = tell_expelled(lines);
	return r < 0 ? r : tell_lost(lines, now);
}

/* Nothing comes now: all is written, then waits. */
static int rest(struct lines *lines)
{
	int r = tell_news(lines, false);

	if (r >= 0)
		r = output_flush(&lines->output);
	if (r >= 0)
		r = output_check(&lines->output);
	if (r >= 0)
		view_wait(lines->view);
	return r;
}

static int show_all(struct lines *lines)
{
	struct view_context *view = lines->view;
	struct watch_record record;
	uint32_t ring;
	int r = lines->format->begin(view, &lines->output);

	while (r >= 0) {
		r = view_next(view, &record, &ring);
		if (r < 0)
			break;
		if (r == 0) {
			r = rest(lines);
			continue;
		}
		r = tell_news(lines, false);
		if (r >= 0)
			r = lines->format->record(view, &lines->output, &record, ring);
	}
	return r;
}

static int finish(struct lines *lines, int r)
{
	if (r == -ENODATA)
		r = tell_news(lines, true);
	if (r >= 0)
		r = lines->format->end(lines->view, &lines->output);
	if (r >= 0)
		r = output_flush(&lines->output);
	return r;
}

static int fail(const struct view_context *view, int r, struct error *err)
{
	if (r == -EPIPE || (r == -EINTR && view_stopped(view)))
		return 0;
	return view_fail(view, r, "requests cannot be read or written", err);
}

int lines_run(struct view_context *view, const struct line_format *format, struct error *err)
{
	_cleanup_(freep) struct lines *lines = calloc(1, sizeof(*lines));
	int r;

	if (!lines)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", view->title);
	lines->view = view;
	lines->format = format;
	lines->output.fd = STDOUT_FILENO;
	lines->output.stop = view->stop;
	r = finish(lines, show_all(lines));
	return r < 0 ? fail(view, r, err) : 0;
}
