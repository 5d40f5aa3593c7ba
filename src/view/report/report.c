/* SPDX-License-Identifier: Apache-2.0 */
#include "view/report/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/cleanup.h"

#define LINE_MAX_BYTES 2048
/* A window ends so long after its time: records come a little late. */
#define LATE_NS (200 * NSEC_PER_MSEC)

int report_line(struct report *report, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0)
		return -EINVAL;
	while (len > 0 && len < LINE_MAX_BYTES && text[len - 1] == ' ')
		len--; /* of a table whose last column is empty */
	return output_line(&report->output, text, MIN((size_t)len, sizeof(text) - 1));
}

static void name_device(struct report *report, uint16_t device)
{
	const char *name;

	if (device >= STORE_DEVICES_MAX || report->named[device])
		return;
	report->named[device] = true;
	name = source_device_name(report->view->source, device);
	if (report->windows)
		analysis_name_device(report->windows, device, name);
	analysis_name_device(report->total, device, name);
}

static bool is_wanted(const struct view_context *view, const struct watch_record *record)
{
	return record->kind == RECORD_VCPU || !view->filter ||
	       filter_match(view->filter, record, &view->names);
}

/* What was lost is told before what came after it. */
static void tell_lost(struct report *report)
{
	uint64_t lost = source_lost(report->view->source);

	if (lost <= report->lost)
		return;
	if (report->windows)
		analysis_lost(report->windows, lost - report->lost);
	analysis_lost(report->total, lost - report->lost);
	report->lost = lost;
}

static int write_window(struct report *report, const struct report_format *format, bool now)
{
	int r;

	if (!report->windows || !analysis_take(report->windows, now, report->window) ||
	    report->window->begin_ns == report->window->end_ns)
		return 0;
	r = format->window(report, report->window);
	return r < 0 || report->view->origin != VIEW_LIVE ? r : output_flush(&report->output);
}

static int feed(struct report *report, const struct report_format *format,
		const struct watch_record *record)
{
	int complete = 0;

	tell_lost(report);
	if (!is_wanted(report->view, record))
		return 0;
	name_device(report, record->device);
	analysis_add(report->total, record);
	if (report->windows)
		complete = analysis_add(report->windows, record);
	return complete ? write_window(report, format, false) : 0;
}

/* A window of a living VM ends when its time is over, even if the VM asks for nothing. */
static int pass_time(struct report *report, const struct report_format *format)
{
	const struct analysis_times *times = &report->view->times;
	uint64_t now_ns;

	if (report->view->origin != VIEW_LIVE)
		return 0;
	now_ns = times->wall_ns(times->ctx, __rdtsc());
	analysis_pass(report->total, now_ns - LATE_NS);
	if (!report->windows || !analysis_pass(report->windows, now_ns - LATE_NS))
		return 0;
	return write_window(report, format, false);
}

/* -ENODATA: it is over. */
static int report_next(struct report *report, const struct report_format *format)
{
	struct watch_record record;
	uint32_t ring;
	int r = view_next_any(report->view, &record, &ring);

	if (r > 0)
		return feed(report, format, &record);
	if (r == 0) {
		r = pass_time(report, format);
		view_wait(report->view);
	}
	return r;
}

static int write_all(struct report *report, const struct report_format *format)
{
	int r = format->begin(report);

	if (r >= 0)
		r = output_flush(&report->output);
	while (r >= 0)
		r = report_next(report, format);
	if (r != -ENODATA)
		return r;
	tell_lost(report);
	r = write_window(report, format, true);
	if (r >= 0 && !analysis_take(report->total, true, report->window))
		memset(report->window, 0, sizeof(*report->window));
	if (r >= 0)
		r = format->total(report, report->window);
	/* A signal has ended the watch: the report is what it was for. */
	report->output.stop = NULL;
	return r < 0 ? r : output_flush(&report->output);
}

static void report_free(struct report *report)
{
	if (!report)
		return;
	analysis_free(report->windows);
	analysis_free(report->total);
	free(report->window);
	free(report);
}
DEFINE_CLEANUP(struct report, report_free, report_freep)

static int report_new(struct view_context *view, struct report **ret_report)
{
	_cleanup_(report_freep) struct report *report = calloc(1, sizeof(*report));
	uint32_t n_vcpus = source_header(view->source)->n_vcpus;
	uint64_t window_ns = view->options.window_ms * NSEC_PER_MSEC;

	if (!report)
		return -ENOMEM;
	report->view = view;
	report->output.fd = STDOUT_FILENO;
	report->output.stop = view->stop;
	report->window = calloc(1, sizeof(*report->window));
	report->total = analysis_new(0, n_vcpus, &view->times);
	if (window_ns)
		report->windows = analysis_new(window_ns, n_vcpus, &view->times);
	if (!report->window || !report->total || (window_ns && !report->windows))
		return -ENOMEM;
	*ret_report = TAKE_PTR(report);
	return 0;
}

int report_run(struct view_context *view, struct error *err)
{
	_cleanup_(report_freep) struct report *report = NULL;
	int r = report_new(view, &report);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", view->title);
	r = write_all(report, view->options.json ? &report_json : &report_text);
	if (r >= 0 || r == -EPIPE)
		return 0;
	return view_fail(view, r, "the report cannot be made", err);
}
