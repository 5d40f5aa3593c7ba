/* SPDX-License-Identifier: Apache-2.0 */
#include "view/live.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api/client.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "host/keeper.h"
#include "view/exact.h"
#include "watch/read/guest_view.h"

#define UNSEEN_MAX 16
#define UNSEEN_TEXT 160

struct live {
	char name[LIMIT_NAME];
	struct live_options options;
	struct api_connection *connection;
	int store_fd, ram_fd;
	struct guest_view
		*memory; /* NULL: cannot be looked at; instructions are judged less surely */
	struct watch_source *source;
	struct exact *exact; /* NULL: not asked for */
	char mode[64];
	char unseen_text[UNSEEN_MAX][UNSEEN_TEXT];
	const char *unseen[UNSEEN_MAX];
	size_t n_unseen;
};

DEFINE_CLEANUP(struct live, live_free, live_freep)

void live_free(struct live *live)
{
	if (!live)
		return;
	exact_free(live->exact);
	source_free(live->source);
	guest_view_free(live->memory);
	fd_close(live->store_fd);
	fd_close(live->ram_fd);
	api_connection_free(live->connection);
	free(live);
}

void live_format_mode(uint32_t mode, uint32_t flags, char *ret_text, size_t size)
{
	snprintf(ret_text, size, "%s%s%s", mode <= STORE_ALL ? api_watch_modes[mode] : "unknown",
		 flags & STORE_EXACT ? ", exact" : "", flags & STORE_LOSSLESS ? ", lossless" : "");
}

/* A VM that died may have left what is asked for. */
static int connect_vm(struct live *live, struct error *err)
{
	struct error cause = { 0 };
	int fd, r = api_connect(live->name, &live->connection, &cause);

	if (r == 0)
		return 0;
	if (runtime_open_left(live->name, RUNTIME_REQUESTS, &fd) < 0)
		return error_set(err, r, cause.status, "%s", cause.message);
	fd_close(fd);
	return error_set(
		err, r, EXIT_STATUS_NOT_FOUND,
		"%s: its process died; see its last requests with utsusu watch --post-mortem %s",
		live->name, live->name);
}

static void take_unseen(struct live *live, const json_t *list)
{
	const json_t *text;
	size_t i;

	live->n_unseen = 0;
	json_array_foreach(list, i, text)
	{
		if (i >= UNSEEN_MAX || !json_is_string(text))
			break;
		view_copy_text(json_string_value(text), live->unseen_text[i], UNSEEN_TEXT);
		live->unseen[i] = live->unseen_text[i];
		live->n_unseen = i + 1;
	}
}

/* Asked again with the same wish, the VM tells again what is not seen. */
static int ask_to_watch(struct live *live, struct error *err)
{
	json_auto_t *answer = NULL;
	int r = api_call(live->connection,
			 json_pack("{s:s, s:s, s:b, s:b}", "command", "watch", "mode",
				   live->options.all ? "all" : "normal", "exact",
				   live->options.exact, "lossless", live->options.lossless),
			 &answer, err);

	if (r == 0)
		take_unseen(live, json_object_get(answer, "unseen"));
	return r;
}

/* Guest memory makes it surer which instruction it was; without it, there is still what the records hold. */
static void look_at_memory(struct live *live)
{
	struct error ignored = { 0 };

	if (keeper_fetch(live->name, KEEPER_RAM, &live->ram_fd, &ignored) < 0)
		return;
	if (guest_view_open(live->ram_fd, &live->memory) == 0)
		source_set_memory(live->source, live->memory);
}

static int open_source(struct live *live, struct error *err)
{
	struct source_options source = { .from_oldest = live->options.history,
					 .lossless = live->options.lossless };
	int r = keeper_fetch(live->name, KEEPER_STORE, &live->store_fd, err);

	if (r == 0)
		r = source_open_store(live->store_fd, true, &source, live->name, &live->source,
				      err);
	if (r == 0)
		look_at_memory(live);
	return r;
}

int live_open(const char *name, const struct live_options *options, struct live **ret_live,
	      struct error *err)
{
	_cleanup_(live_freep) struct live *live = calloc(1, sizeof(*live));
	int r;

	if (!live)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", name);
	live->store_fd = live->ram_fd = -1;
	live->options = *options;
	snprintf(live->name, sizeof(live->name), "%s", name);
	r = connect_vm(live, err);
	if (r == 0)
		r = ask_to_watch(live, err);
	if (r == 0)
		r = open_source(live, err);
	if (r == 0 && live->options.exact) {
		live->exact = exact_new(live->connection);
		r = live->exact ? 0
				: error_set(err, -ENOMEM, EXIT_STATUS_HOST,
					    "%s: out of memory; free some and try again", name);
	}
	if (r < 0)
		return r;
	*ret_live = TAKE_PTR(live);
	return 0;
}

/* All that watch share one mode: the most that any of them wishes. */
static void fill_mode(struct live *live, struct view_context *view)
{
	const struct store_header *header = source_header(live->source);

	live_format_mode(header->mode, header->flags, live->mode, sizeof(live->mode));
	view->mode = live->mode;
	view->unseen = live->unseen;
	view->n_unseen = live->n_unseen;
}

static void refresh_mode(struct view_context *view)
{
	struct live *live = view->refresh_ctx;
	struct error gone = { 0 };

	if (ask_to_watch(live, &gone) == 0)
		fill_mode(live, view);
}

void live_fill(struct live *live, struct view_context *view)
{
	view_init(view, live->source);
	view->origin = VIEW_LIVE;
	view->title = live->name;
	view->connection = live->connection;
	view->exact = live->exact;
	view->refresh_mode = refresh_mode;
	view->refresh_ctx = live;
	fill_mode(live, view);
}
