/* SPDX-License-Identifier: Apache-2.0 */
#include "api/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/runtime.h"

#define LINE_MAX_BYTES MIB(2) /* an answer holds a configuration at most */

struct api_connection {
	char name[LIMIT_NAME];
	int fd;
	struct buffer input;
};

static int dead_error(const char *name, int code, struct error *err)
{
	char line[256];

	runtime_why_dead(name, line, sizeof(line));
	return error_set(err, code, EXIT_STATUS_NOT_FOUND,
			 "%s: its process died%s%s; start it anew with utsusu run %s", name,
			 line[0] ? ": " : "", line, name);
}

static int connect_error(const char *name, int code, struct error *err)
{
	switch (code) {
	case -ENOENT:
		return error_set(err, code, EXIT_STATUS_NOT_FOUND,
				 "%s: no such VM; utsusu list shows those there are", name);
	case -ECONNREFUSED:
		if (runtime_alive(name) > 0)
			return error_set(err, code, EXIT_STATUS_FAILED,
					 "%s: is starting or ending; try again in a moment", name);
		return dead_error(name, code, err);
	case -EAGAIN:
		return error_set(err, code, EXIT_STATUS_FAILED,
				 "%s: does not take connections; see whether its process hangs",
				 name);
	default:
		return error_set(err, code, EXIT_STATUS_FAILED,
				 "%s: cannot be reached: %s; be the user who runs it, or root",
				 name, strerror(-code));
	}
}

int api_connect(const char *name, struct api_connection **ret_connection, struct error *err)
{
	struct api_connection *connection;
	int fd, r = runtime_connect(name, RUNTIME_SOCKET, &fd);

	if (r < 0)
		return connect_error(name, r, err);
	connection = calloc(1, sizeof(*connection));
	if (!connection) {
		fd_close(fd);
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "%s: out of memory; free some",
				 name);
	}
	connection->fd = fd;
	snprintf(connection->name, sizeof(connection->name), "%s", name);
	buffer_init(&connection->input, LINE_MAX_BYTES);
	*ret_connection = connection;
	return 0;
}

void api_connection_free(struct api_connection *connection)
{
	if (!connection)
		return;
	fd_close(connection->fd);
	buffer_release(&connection->input);
	free(connection);
}

/* Takes a whole line from the buffer: 1 and the JSON, 0 when there is none yet, -EPROTO when it is
 * no JSON. */
static int take_line(struct api_connection *connection, json_t **ret_json)
{
	struct buffer *input = &connection->input;
	const char *text = (const char *)input->data;
	const char *newline = input->len ? memchr(text, '\n', input->len) : NULL;
	size_t len;
	json_t *json;

	if (!newline)
		return 0;
	len = (size_t)(newline - text);
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	memmove(input->data, input->data + len + 1, input->len - len - 1);
	input->len -= len + 1;
	if (!json)
		return -EPROTO;
	*ret_json = json;
	return 1;
}

static int wait_readable(int fd, uint64_t due_ns)
{
	uint64_t now = clock_now(&clock_host);
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int r;

	if (now >= due_ns)
		return -ETIMEDOUT;
	r = poll(&poll_fd, 1, (int)((due_ns - now) / NSEC_PER_MSEC) + 1);
	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	return r ? 1 : -ETIMEDOUT;
}

static int read_line(struct api_connection *connection, uint64_t due_ns, json_t **ret_json)
{
	char bytes[4096];
	int r;

	while ((r = take_line(connection, ret_json)) == 0) {
		ssize_t n;

		r = wait_readable(connection->fd, due_ns);
		if (r < 0)
			return r;
		n = r ? recv(connection->fd, bytes, sizeof(bytes), MSG_DONTWAIT) : -1;
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return -ECONNRESET;
		if (n < 0)
			continue;
		r = buffer_append(&connection->input, bytes, (size_t)n);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : 0;
}

static uint64_t due_in(int timeout_ms)
{
	return clock_now(&clock_host) + (uint64_t)timeout_ms * NSEC_PER_MSEC;
}

/* Events that come between a request and its answer are not for this caller. */
static int read_answer(struct api_connection *connection, json_t **ret_answer)
{
	uint64_t due_ns = due_in(API_ANSWER_MS);

	for (;;) {
		json_t *json;
		int r = read_line(connection, due_ns, &json);

		if (r < 0)
			return r;
		if (!json_object_get(json, "event")) {
			*ret_answer = json;
			return 0;
		}
		json_decref(json);
	}
}

static int refused(const json_t *error, const char *name, struct error *err)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	json_int_t status = json_integer_value(json_object_get(error, "status"));

	if (!message || status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
				 "%s: gave an answer that is not understood; use the utsusu it was "
				 "started with",
				 name);
	return error_set(err, -EREMOTEIO, (enum exit_status)status, "%s", message);
}

static int call_error(const char *name, int code, struct error *err)
{
	if (code == -ETIMEDOUT)
		return error_set(err, code, EXIT_STATUS_FAILED,
				 "%s: has not answered for %d s; see whether its process hangs",
				 name, API_ANSWER_MS / 1000);
	if (code == -ECONNRESET || code == -EPIPE)
		return error_set(err, -ECONNRESET, EXIT_STATUS_NOT_FOUND,
				 "%s: ended meanwhile; utsusu list shows those there are", name);
	return error_set(err, code, EXIT_STATUS_FAILED, "%s: %s; try again", name, strerror(-code));
}

int api_call(struct api_connection *connection, json_t *request, json_t **ret_answer,
	     struct error *err)
{
	json_auto_t *owned _unused_ = request;
	json_auto_t *answer = NULL;
	_cleanup_(freep) char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	const json_t *error;
	int r;

	if (!text)
		return call_error(connection->name, -ENOMEM, err);
	r = fd_write_all(connection->fd, text, strlen(text));
	if (r == 0)
		r = fd_write_all(connection->fd, "\n", 1);
	if (r == 0)
		r = read_answer(connection, &answer);
	if (r < 0)
		return call_error(connection->name, r, err);
	error = json_object_get(answer, "error");
	if (error || !json_is_true(json_object_get(answer, "ok")))
		return refused(error, connection->name, err);
	*ret_answer = json_incref(answer);
	return 0;
}

int api_next_event(struct api_connection *connection, int timeout_ms, json_t **ret_event)
{
	return read_line(connection, due_in(timeout_ms), ret_event);
}
