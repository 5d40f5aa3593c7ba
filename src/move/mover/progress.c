/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

#define BETWEEN_NS (100 * NSEC_PER_MSEC) /* lines of numbers */
#define LAST_LINE_MS 1000

void progress_init(struct progress *progress, int fd, const struct clock *clock)
{
	*progress = (struct progress){ .fd = fd, .clock = clock };
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* A pipe would send a signal when nobody reads: programs ignore it, tests use sockets. */
static ssize_t write_once(int fd, const char *text, size_t len)
{
	ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

	return n < 0 && errno == ENOTSOCK ? write(fd, text, len) : n;
}

/* One call for one line, which is below what a pipe takes whole (PIPE_BUF): no line is ever cut. */
static void tell(struct progress *progress, json_t *line, int wait_ms)
{
	struct pollfd ready = { .fd = progress->fd, .events = POLLOUT };
	_cleanup_(freep) char *text = progress->fd < 0 ? NULL : json_dumps(line, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;

	json_decref(line);
	if (!text)
		return;
	text[len] = '\n'; /* in place of the NUL: one call needs one piece */
	if (write_once(progress->fd, text, len + 1) < 0 && errno == EAGAIN && wait_ms &&
	    poll(&ready, 1, wait_ms) == 1)
		(void)!write_once(progress->fd, text, len + 1);
}

static void add(json_t *line, const char *key, uint64_t value)
{
	json_object_set_new(line, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX)));
}

static json_t *phase_line(const struct progress *progress)
{
	json_t *line = json_object();

	json_object_set_new(line, "phase", json_string(handover_phase_name(progress->phase)));
	if (progress->why[0])
		json_object_set_new(line, "why", json_string(progress->why));
	if (progress->postcopy)
		json_object_set_new(line, "postcopy", json_true());
	return line;
}

void progress_why(struct progress *progress, const char *why)
{
	snprintf(progress->why, sizeof(progress->why), "%s", why ? why : "");
}

void progress_phase(struct progress *progress, enum handover_phase phase, const char *why)
{
	progress->phase = phase;
	progress_why(progress, why);
	tell(progress, phase_line(progress), 0);
}

void progress_numbers(struct progress *progress, const struct move_numbers *numbers, bool now)
{
	uint64_t at = clock_now(progress->clock);
	json_t *line;

	if (progress->fd < 0 || (!now && at - progress->told_ns < BETWEEN_NS))
		return;
	progress->told_ns = at;
	line = phase_line(progress);
	add(line, "round", numbers->round);
	add(line, "sent", numbers->sent);
	add(line, "left", numbers->left);
	add(line, "rate", numbers->rate);
	add(line, "dirty_rate", numbers->dirty_rate);
	add(line, "downtime_ms", numbers->expected_down_ns / NSEC_PER_MSEC);
	add(line, "throttle", numbers->throttle);
	if (numbers->eta_ns)
		add(line, "eta_ms", numbers->eta_ns / NSEC_PER_MSEC);
	tell(progress, line, 0);
}

void progress_guard(struct progress *progress, const char *phase,
		    const struct move_numbers *numbers, bool now)
{
	uint64_t at = clock_now(progress->clock);
	json_t *line;

	if (progress->fd < 0 || (!now && at - progress->told_ns < BETWEEN_NS))
		return;
	progress->told_ns = at;
	line = json_object();
	json_object_set_new(line, "phase", json_string(phase));
	if (numbers) {
		add(line, "sent", numbers->sent);
		add(line, "left", numbers->left);
		add(line, "rate", numbers->rate);
	}
	tell(progress, line, 0);
}

void progress_ran(struct progress *progress, const struct move_numbers *numbers)
{
	json_t *line = json_object();

	json_object_set_new(line, "ran", json_true());
	add(line, "run_ms", numbers->run_ns / NSEC_PER_MSEC);
	add(line, "left", numbers->left);
	tell(progress, line, LAST_LINE_MS);
}

static void tell_text(struct progress *progress, const char *key, const char *text)
{
	json_t *line = json_object();

	json_object_set_new(line, key, json_string(text));
	tell(progress, line, 0);
}

void progress_warning(struct progress *progress, const char *message)
{
	tell_text(progress, "warning", message);
}

void progress_ended(struct progress *progress, const char *why)
{
	snprintf(progress->ended, sizeof(progress->ended), "%s", why);
}

void progress_failpoint(void *ctx, const char *name)
{
	tell_text(ctx, "failpoint", name);
}

static void add_cost(json_t *line, const struct move_numbers *numbers)
{
	add(line, "total_ms", numbers->total_ns / NSEC_PER_MSEC);
	if (numbers->run_ns)
		add(line, "run_ms", numbers->run_ns / NSEC_PER_MSEC);
	add(line, "down_ms", numbers->down_ns / NSEC_PER_MSEC);
	add(line, "down_us", numbers->down_ns / NSEC_PER_USEC);
	add(line, "bytes", numbers->sent);
	add(line, "wire_bytes", numbers->wire);
	add(line, "pages", numbers->pages);
	add(line, "zero_pages", numbers->zero_pages);
	add(line, "packed_pages", numbers->packed_pages);
	add(line, "delta_pages", numbers->delta_pages);
	if (numbers->disk_bytes)
		add(line, "disk_bytes", numbers->disk_bytes);
	add(line, "wanted_pages", numbers->wanted_pages);
	add(line, "rounds", numbers->round);
	add(line, "streams", numbers->streams);
}

void progress_end(struct progress *progress, enum move_end end, const struct move_numbers *numbers,
		  const struct error *err)
{
	static const char *const names[] = {
		[MOVE_END_RAN] = "ran",
		[MOVE_END_REFUSED] = "refused",
		[MOVE_END_CANCELLED] = "cancelled",
		[MOVE_END_FAILED] = "failed",
		[MOVE_END_IN_DOUBT] = "in-doubt",
		[MOVE_END_OFF] = "off",
	};
	json_t *line = json_object();

	json_object_set_new(line, "end", json_string(names[end]));
	if (end == MOVE_END_RAN) {
		if (progress->ended[0])
			json_object_set_new(line, "ended", json_string(progress->ended));
		add_cost(line, numbers);
	} else if (end != MOVE_END_OFF) {
		json_object_set_new(line, "message", json_string(err->message));
		add(line, "status", err->status);
	}
	tell(progress, line, LAST_LINE_MS);
}

/* Lines but {"cancel":true} are for later versions: not ours to judge. */
static void judge_line(struct progress *progress)
{
	json_auto_t *line = json_loads(progress->said, 0, NULL);

	if (json_is_true(json_object_get(line, "cancel")))
		progress->cancelled = true;
}

static void hear(struct progress *progress, const char *bytes, size_t n)
{
	size_t len = strlen(progress->said);

	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\n') {
			judge_line(progress);
			len = 0;
		} else if (len < sizeof(progress->said) - 1) {
			progress->said[len++] = bytes[i];
		}
		progress->said[len] = '\0';
	}
}

/* The writing end of a pipe only tells that its reader has gone. */
static void listen_once(struct progress *progress)
{
	char bytes[64];
	ssize_t n = recv(progress->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0)
		hear(progress, bytes, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR && errno != ENOTSOCK))
		progress->cancelled = true;
}

bool progress_cancelled(struct progress *progress)
{
	struct pollfd ready = { .fd = progress->fd, .events = POLLIN };

	if (progress->fd < 0 || progress->cancelled || poll(&ready, 1, 0) <= 0)
		return progress->cancelled;
	if (ready.revents & POLLIN)
		listen_once(progress);
	else if (ready.revents & (POLLERR | POLLHUP | POLLNVAL))
		progress->cancelled = true;
	return progress->cancelled;
}
