/* SPDX-License-Identifier: Apache-2.0 */
#include "view/export/export.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"

/* THE table of formats. */
static const struct {
	const struct export_format *format;
	const char *what; /* of what it writes, for people */
} formats[] = {
	[EXPORT_PERFETTO] = { &export_perfetto, "requests" },
	[EXPORT_CTF] = { &export_ctf, "requests" },
	[EXPORT_PCAPNG] = { &export_pcapng, "frames" },
	[EXPORT_JSON] = { &export_json, "requests" },
};

struct exporter {
	struct view_context *view;
	const struct export_format *format;
	void *state;
	uint64_t flushed_ns, n_written, lost;
};

static int tell_lost(struct exporter *exporter)
{
	uint64_t lost = source_lost(exporter->view->source), more = lost - exporter->lost;

	if (lost <= exporter->lost || !exporter->format->lost)
		return 0;
	exporter->lost = lost;
	return exporter->format->lost(exporter->state, more);
}

/* What is there can be looked at while the export goes on. */
static int flush_sometimes(struct exporter *exporter)
{
	uint64_t now = clock_now(&clock_host);

	if (now - exporter->flushed_ns < NSEC_PER_SEC)
		return 0;
	exporter->flushed_ns = now;
	return exporter->format->flush(exporter->state);
}

static int export_next(struct exporter *exporter)
{
	struct watch_record record;
	uint32_t ring;
	int r = view_next(exporter->view, &record, &ring);

	if (r < 0)
		return r;
	if (r == 0) {
		r = flush_sometimes(exporter);
		view_wait(exporter->view);
		return r;
	}
	r = tell_lost(exporter);
	if (r >= 0)
		r = exporter->format->record(exporter->state, &record, ring);
	if (r > 0)
		exporter->n_written++;
	return r;
}

/* A closed pipe is an end; all that was asked for may have been read. */
static int export_all(struct exporter *exporter)
{
	int r = 0, closed;

	while (r >= 0)
		r = export_next(exporter);
	if (r == -ENODATA)
		r = tell_lost(exporter);
	closed = exporter->format->close(exporter->state);
	exporter->state = NULL;
	r = r < 0 ? r : closed;
	return r == -EPIPE ? 0 : r;
}

static int fail(const struct view_context *view, int r, struct error *err)
{
	const char *output = view->options.output;

	if (r == -ENOSPC || r == -EDQUOT)
		return error_set(
			err, r, EXIT_STATUS_RESOURCE,
			"%s: there is no room for more, it ends in the middle; make room and "
			"export again, to another name",
			output);
	if (r == -EPROTO || r == -EBADMSG)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: is damaged from here on; what was before is in %s",
				 view->title, output);
	return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be written: %s; see what it is on",
			 output, strerror(-r));
}

int export_run(struct view_context *view, struct error *err)
{
	struct exporter exporter = { .view = view, .format = formats[view->options.format].format };
	char text[1024];
	int r = exporter.format->open(view, &exporter.state, err);

	if (r < 0)
		return r;
	view_format_mode(view, text, sizeof(text));
	fprintf(stderr, "utsusu: %s\n", text);
	r = export_all(&exporter);
	fprintf(stderr, "utsusu: %s: %s; %s in %s: %" PRIu64 ", lost: %" PRIu64 "\n", view->title,
		r < 0 ? "the export failed" : view_end_text(view->end),
		formats[view->options.format].what, view->options.output, exporter.n_written,
		source_lost(view->source));
	return r < 0 ? fail(view, r, err) : 0;
}
