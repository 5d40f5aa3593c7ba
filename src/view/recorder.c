/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu watch --record: from the source into a file, until a limit, a signal, the VM's end or a full disk. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "view/view.h"
#include "watch/read/recording.h"

struct recorder {
	struct view_context *view;
	struct recording *recording;
	uint64_t flushed_ns, n_written;
};

static bool is_wanted(const struct view_context *view, const struct watch_record *record)
{
	return record->kind == RECORD_VCPU || !view->filter ||
	       filter_match(view->filter, record, &view->names);
}

static int flush_sometimes(struct recorder *recorder, struct error *err)
{
	uint64_t now = clock_now(&clock_host);

	if (now - recorder->flushed_ns < NSEC_PER_SEC)
		return 0;
	recorder->flushed_ns = now;
	return recording_flush(recorder->recording, err);
}

/* 0: go on; 1: a limit of the recording; -ENODATA: the source is done. */
static int record_next(struct recorder *recorder, struct error *err)
{
	struct view_context *view = recorder->view;
	struct watch_record record;
	uint32_t ring;
	int r = view_next_any(view, &record, &ring);

	if (r < 0)
		return r;
	if (r > 0 && is_wanted(view, &record)) {
		r = recording_add(recorder->recording, &record, ring, err);
		if (r)
			return r;
		recorder->n_written += record.kind != RECORD_VCPU;
	} else if (r == 0) {
		view_wait(view);
	}
	return flush_sometimes(recorder, err);
}

static int record_all(struct recorder *recorder, struct error *err)
{
	int r = 0;

	while (r == 0)
		r = record_next(recorder, err);
	return r == -ENODATA || r > 0 ? 0 : r;
}

/* Once, at the end: how much there is, and why it ended. A failure's own line tells what was kept. */
static void tell_end(const struct recorder *recorder)
{
	const struct view_context *view = recorder->view;

	fprintf(stderr, "utsusu: %s: %s; requests in %s: %" PRIu64 ", lost: %" PRIu64 "\n",
		view->title, view_end_text(view->end), view->options.record, recorder->n_written,
		source_lost(view->source));
}

int recorder_run(struct view_context *view, struct error *err)
{
	struct recorder recorder = { .view = view };
	struct recording_limits limits = { .file_bytes = view->options.rotate,
					   .files = view->options.files };
	char text[1024];
	int r, closed;

	r = recording_create(view->options.record, view->source, &limits, false,
			     &recorder.recording, err);
	if (r < 0)
		return r;
	view_format_mode(view, text, sizeof(text));
	fprintf(stderr, "utsusu: %s\n", text);
	r = record_all(&recorder, err);
	closed = recording_close(recorder.recording, err);
	if (r == 0 && closed == 0)
		tell_end(&recorder);
	if (source_was_expelled(view->source))
		fprintf(stderr,
			"utsusu: %s: not lossless all the time: the guest waited too long for the recorder\n",
			view->title);
	return r < 0 ? r : closed;
}
