/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Lines to a pipe, a file or a terminal: gathered while there are more records, written before a view waits. A closed pipe is an
 * end, not a failure. One thread.
 */

#include <signal.h>
#include <stddef.h>

#include "base/macros.h"

#define OUTPUT_BYTES 65536

struct output {
	int fd; /* borrowed */
	const volatile sig_atomic_t
		*stop; /* a write that waits is given up when it is set; NULL: never */
	size_t len;
	char data[OUTPUT_BYTES];
};

/* Adds a line; its newline is added. -EPIPE: nobody reads any more; -EINTR: `stop` was set while the reader kept us
 * waiting; other errors of write(2). */
_must_check_ int output_line(struct output *output, const char *text, size_t len);
_must_check_ int output_flush(struct output *output);
/* -EPIPE when nobody reads any more: a view with nothing to write would not see it otherwise. */
_must_check_ int output_check(const struct output *output);
