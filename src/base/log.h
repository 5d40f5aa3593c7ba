/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The log: lines to standard error (or to the descriptor given), made only by the edges: main
 * functions, the control loop, thread entry points. Lower layers return errors instead.
 */

#include "base/macros.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log {
	int fd;		      /* borrowed */
	enum log_level level; /* lines above it are not written */
	char prefix[64];      /* program and VM name */
};

/* Writes one line with one write(2): lines of several threads do not mix. Any thread. NULL log: nothing. */
void log_line(const struct log *log, enum log_level level, const char *format, ...) _printf_(3, 4);

/* As log_line, but at most one line per `*last_ns` stamp and second: for what a guest can provoke. */
void log_line_limited(const struct log *log, uint64_t *last_ns, enum log_level level,
		      const char *format, ...) _printf_(4, 5);
