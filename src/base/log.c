/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static const char *const level_names[] = { "error", "warning", "info", "debug" };

static void log_vline(const struct log *log, enum log_level level, const char *format, va_list args)
{
	char line[LINE_MAX_BYTES];
	int used = snprintf(line, sizeof(line), "%s: %s: ", log->prefix, level_names[level]);
	int room = (int)sizeof(line) - used - 1;
	int text = vsnprintf(line + used, (size_t)room, format, args);

	used += MIN(text, room - 1);
	line[used++] = '\n';
	/* A log that cannot be written has nowhere to complain. */
	if (write(log->fd, line, (size_t)used) < 0)
		return;
}

void log_line(const struct log *log, enum log_level level, const char *format, ...)
{
	va_list args;

	if (!log || level > log->level)
		return;
	va_start(args, format);
	log_vline(log, level, format, args);
	va_end(args);
}

void log_line_limited(const struct log *log, uint64_t *last_ns, enum log_level level,
		      const char *format, ...)
{
	struct timespec now;
	uint64_t now_ns;
	va_list args;

	if (!log || level > log->level)
		return;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	now_ns = (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
	if (*last_ns && now_ns - *last_ns < NSEC_PER_SEC)
		return;
	*last_ns = now_ns;
	va_start(args, format);
	log_vline(log, level, format, args);
	va_end(args);
}
