/* SPDX-License-Identifier: Apache-2.0 */
/* The page: takes records and serves, in turn, on one thread. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "view/view.h"
#include "view/web/model.h"
#include "view/web/server.h"

#define TAKEN_AT_ONCE 8192 /* records: some milliseconds, then visitors have their turn */
#define PAUSE_OVER_MS 50   /* when no more records come: between looks at who waits */

DEFINE_CLEANUP(struct web_model, web_model_free, web_model_freep)
DEFINE_CLEANUP(struct web_server, web_server_free, web_server_freep)

/* In front of which somebody sits: reading it from the background would stop us. */
static bool has_terminal(void)
{
	return isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
}

static void tell_address(const struct view_context *view, const struct web_server *server)
{
	char mode[1024], address[128];

	view_format_mode(view, mode, sizeof(mode));
	web_server_format_address(server, address, sizeof(address));
	printf("%s\nopen this page, in a browser on this host; the link works once, Ctrl-C ends it%s:\n"
	       "%s\n",
	       mode, has_terminal() ? ", Enter makes another" : "", address);
	fflush(stdout);
}

/* Enter was pressed: a new link, for who closed the window. */
static void renew_address(struct web_server *server)
{
	char line[256], address[128];

	if (read(STDIN_FILENO, line, sizeof(line)) <= 0 || web_server_renew(server))
		return;
	web_server_format_address(server, address, sizeof(address));
	puts(address);
	fflush(stdout);
}

static bool is_asked(void)
{
	struct pollfd terminal = { .fd = STDIN_FILENO, .events = POLLIN };

	return has_terminal() && poll(&terminal, 1, 0) > 0 && terminal.revents & POLLIN;
}

static bool is_stopped(const struct view_context *view)
{
	return view_stopped(view);
}

/* What is behind the source's end can still be looked at, until the user ends it. */
static int run(struct view_context *view, struct web_model *model, struct web_server *server,
	       struct error *err)
{
	int result = 0;

	while (!is_stopped(view)) {
		int n = web_model_take(model, TAKEN_AT_ONCE);

		if (is_asked())
			renew_address(server);

		if (n < 0)
			result = error_set(err, n, EXIT_STATUS_FAILED, "%s: cannot be read on: %s",
					   view->title, strerrordesc_np(-n));
		if (n > 0) {
			web_server_turn(server, 0);
		} else if (model->over) {
			web_server_turn(server, PAUSE_OVER_MS);
		} else {
			web_server_turn(server, view_pause_ms(view));
			view_hear(view, 1);
		}
	}
	return result;
}

int web_view_run(struct view_context *view, struct error *err)
{
	_cleanup_(web_model_freep) struct web_model *model = web_model_new(view, WEB_HISTORY_BYTES);
	_cleanup_(web_server_freep) struct web_server *server = NULL;
	int r;

	if (!model)
		return error_set(err, -ENOMEM, EXIT_STATUS_FAILED, "--web: out of memory");
	r = web_server_new(model, (uint16_t)view->options.port, &server, err);
	if (r)
		return r;
	tell_address(view, server);
	return run(view, model, server, err);
}
