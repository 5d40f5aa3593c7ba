/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The program utsusu-watch: what its parts share. */

#include <pthread.h>
#include <signal.h>

#include "programs/watch_options.h"
#include "view/live.h"
#include "view/view.h"

/* Where the requests come from, and what is asked about them. */
struct watch_origin {
	struct live *live;	     /* a VM that runs; otherwise NULL */
	struct watch_source *source; /* what one left, or a recording; otherwise NULL */
	int fd;			     /* of what is left; -1 */
	const char *path;	     /* of a recording, the options'; otherwise NULL */
	struct filter *filter;
	struct symbols *symbols;
	char title[128], mode[64];
};

/* Makes `view`, which borrows from `ret_origin` and `options`; to be closed whatever the result. */
_must_check_ int watch_origin_open(const struct watch_options *options,
				   struct watch_origin *ret_origin, struct view_context *view,
				   struct error *err);
void watch_origin_close(struct watch_origin *origin);

/* Ctrl-C, Ctrl-\\, SIGTERM and SIGHUP, taken by a thread: it sets `asked` and wakes what the thread that began this waits for. To
 * be begun while there is one thread; lives as long as the process. SIGPIPE becomes an answer of write(2). */
struct watch_stop {
	volatile sig_atomic_t asked;
	pthread_t waiting;
};
_must_check_ int watch_stop_begin(struct watch_stop *stop, struct error *err);
