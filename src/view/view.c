/* SPDX-License-Identifier: Apache-2.0 */
#include "view/view.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#include "api/client.h"
#include "base/clock.h"
#include "view/exact.h"

#define SKIPPED_MAX 4096 /* records that do not match, before the caller has a turn */
#define REST_NS                                                                                    \
	(100 * NSEC_PER_MSEC) /* after a VM's end: until its threads have written their last */
#define PAUSE_MAX 20	      /* ms between looks at a store in which nothing happens */

static const char *device_name(void *ctx, uint16_t device)
{
	const struct view_context *view = ctx;

	return source_device_name(view->source, device);
}

static uint64_t wall_ns(void *ctx, uint64_t tsc)
{
	const struct view_context *view = ctx;

	return source_wall_ns(view->source, tsc);
}

static uint64_t ticks_ns(void *ctx, uint64_t ticks)
{
	const struct view_context *view = ctx;

	return source_ticks_ns(view->source, ticks);
}

static uint32_t mode_of(const struct view_context *view)
{
	const struct store_header *header = source_header(view->source);

	return header->mode | header->flags << 8;
}

void view_init(struct view_context *view, struct watch_source *source)
{
	view->source = source;
	view->vm = source_header(source)->vm;
	view->names = (struct filter_names){ device_name, ticks_ns, view };
	view->times = (struct analysis_times){ wall_ns, ticks_ns, view };
	view->mode_seen = mode_of(view);
}

static int end_with(struct view_context *view, enum view_end end)
{
	view->end = end;
	return -ENODATA;
}

/* What ends a view before its source does. */
static int check_limits(struct view_context *view)
{
	uint64_t now = clock_now(&clock_host);

	if (view->end != VIEW_RUNS)
		return -ENODATA;
	if (view_stopped(view))
		return end_with(view, VIEW_END_STOPPED);
	if (view->options.count && view->n_records >= view->options.count)
		return end_with(view, VIEW_END_COUNT);
	if (!view->begun_ns)
		view->begun_ns = now;
	if (view->options.for_ms && now - view->begun_ns >= view->options.for_ms * NSEC_PER_MSEC)
		return end_with(view, VIEW_END_TIME);
	return 0;
}

/* The source has nothing now. Once its VM has gone, and all threads have had time to write their last, it gives what it
 * still holds back, and then its end. */
static void check_gone(struct view_context *view)
{
	if (view->gone_ns && clock_now(&clock_host) - view->gone_ns >= REST_NS)
		source_set_ended(view->source);
}

/* Once a second at most: the store may be anybody's, and the VM is asked. */
static void check_mode(struct view_context *view)
{
	uint64_t now = clock_now(&clock_host);

	if (!view->refresh_mode || view->gone_ns || mode_of(view) == view->mode_seen ||
	    now - view->mode_ns < NSEC_PER_SEC)
		return;
	view->mode_ns = now;
	view->mode_seen = mode_of(view);
	view->refresh_mode(view);
	view->mode_changes++;
}

static bool is_asked_for(const struct view_context *view, const struct watch_record *record)
{
	return record->kind != RECORD_VCPU &&
	       (!view->filter || filter_match(view->filter, record, &view->names));
}

static int next(struct view_context *view, bool any, struct watch_record *ret_record,
		uint32_t *ret_ring)
{
	for (unsigned int skipped = 0; skipped < SKIPPED_MAX; skipped++) {
		struct watch_record record;
		uint32_t ring;
		bool asked;
		int r = check_limits(view);

		if (r < 0)
			return r;
		r = source_next(view->source, &record, &ring);
		if (r == 0) {
			check_gone(view);
			check_mode(view);
		}
		if (r == -ENODATA)
			return end_with(view, view->gone_ns ? VIEW_END_VM : VIEW_END_DATA);
		if (r <= 0)
			return r;
		view->pause_ms = 0;
		if (view->exact)
			exact_see(view->exact, &record);
		asked = is_asked_for(view, &record);
		if (!any && !asked)
			continue;
		view->n_records += asked;
		*ret_record = record;
		*ret_ring = ring;
		return 1;
	}
	return 0;
}

int view_next(struct view_context *view, struct watch_record *ret_record, uint32_t *ret_ring)
{
	return next(view, false, ret_record, ret_ring);
}

int view_next_any(struct view_context *view, struct watch_record *ret_record, uint32_t *ret_ring)
{
	return next(view, true, ret_record, ret_ring);
}

unsigned int view_pause_ms(struct view_context *view)
{
	unsigned int pause_ms = view->pause_ms;

	view->pause_ms = MIN(pause_ms ? 2 * pause_ms : 1, PAUSE_MAX);
	return pause_ms;
}

void view_hear(struct view_context *view, unsigned int timeout_ms)
{
	json_t *event;
	int r;

	if (!view->connection || view->gone_ns) {
		struct timespec time = { .tv_nsec = (long)(timeout_ms * NSEC_PER_MSEC) };

		nanosleep(&time, NULL);
		return;
	}
	r = api_next_event(view->connection, (int)MAX(timeout_ms, 1), &event);
	if (r == 0) {
		if (view->told)
			view->told(view->told_ctx, event);
		json_decref(event);
	} else if (r != -ETIMEDOUT && r != -EINTR) {
		view->gone_ns = clock_now(&clock_host);
	}
}

void view_wait(struct view_context *view)
{
	unsigned int pause_ms = view_pause_ms(view);

	if (pause_ms && !view_stopped(view))
		view_hear(view, pause_ms);
}

const char *view_end_text(enum view_end end)
{
	static const char *const texts[] = {
		[VIEW_RUNS] = "",
		[VIEW_END_STOPPED] = "stopped",
		[VIEW_END_COUNT] = "as many requests as --count asks for were shown",
		[VIEW_END_TIME] = "the time of --for is over",
		[VIEW_END_VM] = "the VM ended",
		[VIEW_END_DATA] = "that is all there is",
	};

	return (unsigned int)end < ARRAY_SIZE(texts) ? texts[end] : "";
}

int view_fail(const struct view_context *view, int r, const char *what, struct error *err)
{
	if (r == -EPROTO || r == -EBADMSG)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: is damaged from here on; what was shown is whole",
				 view->title);
	return error_set(err, r, EXIT_STATUS_FAILED, "%s: %s: %s; see where the output goes",
			 view->title, what, strerror(-r));
}
