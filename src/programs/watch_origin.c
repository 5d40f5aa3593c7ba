/* SPDX-License-Identifier: Apache-2.0 */
/* Opens what is looked at: a VM that runs, what one left that died, or a recording. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "host/runtime.h"
#include "programs/utsusu-watch.h"

void watch_origin_close(struct watch_origin *origin)
{
	filter_free(origin->filter);
	symbols_free(origin->symbols);
	source_free(origin->source);
	live_free(origin->live);
	fd_close(origin->fd);
}

/* What is not in a record, whatever the VM was; a VM that runs tells more exactly. The second is seen in mode all. */
static const char *const unseen[] = {
	"the local APIC: its registers are inside KVM",
	"writes that ring the doorbells of queues",
};

/* What a store or a recording tells of how it was watched. */
static void fill_from_header(struct watch_origin *origin, struct view_context *view)
{
	const struct store_header *header = source_header(origin->source);

	view_init(view, origin->source);
	live_format_mode(header->mode, header->flags, origin->mode, sizeof(origin->mode));
	view->title = origin->title;
	view->mode = origin->mode;
	view->unseen = unseen;
	view->n_unseen = header->mode == STORE_ALL ? 1 : ARRAY_SIZE(unseen);
}

/* Records that do not go on may be read as often as one likes. */
static int read_again(struct view_context *view, struct error *err)
{
	struct watch_origin *origin = view->read_again_ctx;
	struct source_options all = { .from_oldest = true };
	struct watch_source *source;
	int r;

	if (origin->path)
		r = source_open_recording(origin->path, &source, err);
	else
		r = source_open_store(origin->fd, false, &all, view->vm, &source, err);
	if (r < 0)
		return r;
	source_free(origin->source);
	origin->source = source;
	view_init(view, source);
	view->end = VIEW_RUNS;
	view->n_records = 0;
	return 0;
}

static void fill_read_again(struct watch_origin *origin, struct view_context *view)
{
	view->read_again = read_again;
	view->read_again_ctx = origin;
}

static int open_recording(const struct watch_options *options, struct watch_origin *origin,
			  struct view_context *view, struct error *err)
{
	const char *slash = strrchr(options->from, '/');
	int r = source_open_recording(options->from, &origin->source, err);

	if (r < 0)
		return r;
	view_copy_text(slash ? slash + 1 : options->from, origin->title, sizeof(origin->title));
	fill_from_header(origin, view);
	view->origin = VIEW_RECORDING;
	origin->path = options->from;
	fill_read_again(origin, view);
	return 0;
}

static int left_error(const char *name, int code, struct error *err)
{
	if (code == -EBUSY)
		return error_set(err, code, EXIT_STATUS_BUSY,
				 "%s: lives; leave out --post-mortem to watch it", name);
	if (code == -ENOENT)
		return error_set(
			err, code, EXIT_STATUS_NOT_FOUND,
			"%s: left no requests: only a VM that died while it was watched does; utsusu list "
			"shows those there are",
			name);
	return error_set(err, code, EXIT_STATUS_RESOURCE,
			 "%s: what it left cannot be read: %s; be the user who ran it, or root",
			 name, strerror(-code));
}

static int open_left(const struct watch_options *options, struct watch_origin *origin,
		     struct view_context *view, struct error *err)
{
	struct source_options all = { .from_oldest = true };
	int r = runtime_open_left(options->name, RUNTIME_REQUESTS, &origin->fd);

	if (r < 0)
		return left_error(options->name, r, err);
	r = source_open_store(origin->fd, false, &all, options->name, &origin->source, err);
	if (r < 0)
		return r;
	snprintf(origin->title, sizeof(origin->title), "%s (died)", options->name);
	fill_from_header(origin, view);
	view->origin = VIEW_POST_MORTEM;
	fill_read_again(origin, view);
	return 0;
}

static int open_live(const struct watch_options *options, struct watch_origin *origin,
		     struct view_context *view, struct error *err)
{
	struct live_options how = { options->all, options->exact, options->lossless,
				    options->history };
	int r = live_open(options->name, &how, &origin->live, err);

	if (r == 0)
		live_fill(origin->live, view);
	return r;
}

/* "FILE@0x1000": the offset is what follows the last @, when it is a number. */
static uint64_t split_offset(char *path)
{
	char *at = strrchr(path, '@'), *end;
	uint64_t offset;

	if (!at || at[1] < '0' || at[1] > '9')
		return 0;
	errno = 0;
	offset = strtoull(at + 1, &end, 0);
	if (*end || errno)
		return 0;
	*at = '\0';
	return offset;
}

static int load_symbols(const struct watch_options *options, struct watch_origin *origin,
			struct error *err)
{
	char path[PATH_MAX];
	uint64_t offset;

	if (!options->symbols)
		return 0;
	snprintf(path, sizeof(path), "%s", options->symbols);
	offset = access(path, F_OK) == 0 ? 0 : split_offset(path);
	return symbols_load(path, offset, &origin->symbols, err);
}

/* What --break does to its requests. */
static const char *stop_action(const struct watch_options *options)
{
	if (options->set)
		return "set";
	if (options->delay_ms)
		return "delay";
	return options->drop ? "drop" : options->fail ? "fail" : options->dump ? "dump" : "stop";
}

static void fill_options(const struct watch_options *options, struct view_context *view)
{
	view->filter_text = options->stop ? options->stop : options->filter ? options->filter : "";
	view->options = (struct view_options){
		.registers = options->registers,
		.json = options->json,
		.window_ms = options->window_ms,
		.port = options->port,
		.format = (enum view_export)options->format,
		.output = options->output,
		.record = options->record,
		.rotate = options->rotate,
		.files = options->files,
		.count = options->count,
		.for_ms = options->for_ms,
		.action = stop_action(options),
		.data = options->set ? options->set + strlen("data=") : NULL,
		.delay_ms = options->delay_ms,
	};
}

int watch_origin_open(const struct watch_options *options, struct watch_origin *ret_origin,
		      struct view_context *view, struct error *err)
{
	struct watch_origin *origin = ret_origin;
	int r = 0;

	origin->fd = -1;
	/* What can be wrong without a VM comes first: it must not be asked in vain. */
	if (options->filter || options->stop)
		r = filter_compile(options->stop ? options->stop : options->filter, &origin->filter,
				   NULL, err);
	if (r == 0)
		r = load_symbols(options, origin, err);
	if (r < 0)
		return r;
	if (options->from)
		r = open_recording(options, origin, view, err);
	else if (options->post_mortem)
		r = open_left(options, origin, view, err);
	else
		r = open_live(options, origin, view, err);
	if (r < 0)
		return r;
	fill_options(options, view);
	view->filter = origin->filter;
	view->symbols = origin->symbols;
	return 0;
}
