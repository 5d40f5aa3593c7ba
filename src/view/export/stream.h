/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A file that an export writes from its begin to its end: new, or empty, or no file at all (a pipe, standard output). Bytes
 * are gathered; after a failure nothing more is written, and every call gives that failure again. One thread.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

struct export_stream;

/* `path` "-" is standard output. A file that holds something is refused with -EEXIST. `err` names the path. */
_must_check_ int export_stream_open(const char *path, struct export_stream **ret_stream,
				    struct error *err);
/* A new file `name` in the directory `dir_fd`; negative errno. */
_must_check_ int export_stream_open_at(int dir_fd, const char *name,
				       struct export_stream **ret_stream);
_must_check_ int export_stream_write(struct export_stream *stream, const void *data, size_t len);
_must_check_ int export_stream_flush(struct export_stream *stream);
/* Flushes, closes and frees: the first failure. NULL is fine. */
int export_stream_close(struct export_stream *stream);

static inline void export_stream_closep(struct export_stream **stream)
{
	export_stream_close(*stream);
}
