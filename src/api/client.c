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
#include "host/state_dir.h"
#include "move/marks.h"

#define LINE_MAX_BYTES MIB(2) /* an answer holds a configuration at most */

struct api_connection {
	char name[LIMIT_NAME];
	int fd;
	struct buffer input;
	bool broken;   /* an answer may come late: it would be taken for the next one's */
	json_t *early; /* events that came while an answer was waited for */
};

#define EARLY_MAX 1024 /* of them; what comes beyond is lost */

static int dead_error(const char *name, int code, struct error *err)
{
	char line[256];

	runtime_why_dead(name, line, sizeof(line));
	return error_set(err, code, EXIT_STATUS_NOT_FOUND,
			 "%s: its process died%s%s; start it anew with utsusu run %s", name,
			 line[0] ? ": " : "", line, name);
}

/* Whoever looks for a VM that moved is told where it is; 0 when it did not. */
static int moved_error(const char *name, struct error *err)
{
	struct marks *marks = NULL;
	struct mark_given given;
	int r;

	if (!state_dir_is_there() || !runtime_name_valid(name) || marks_open(&marks, NULL) < 0)
		return 0;
	r = marks_read_given(marks, name, &given);
	marks_close(marks);
	if (r != 1 || given.result == MARK_NEVER)
		return 0;
	return error_set(
		err, -ENOENT, EXIT_STATUS_NOT_FOUND,
		mark_is_file(&given)
			? "%s: was saved in %s and is there; utsusu restore makes it run"
		: given.result == MARK_RAN
			? "%s: moved to %s and lives there; use it there"
			: "%s: was given to %s and it is not known yet whether it ran there; see "
			  "utsusu resolve",
		name, given.peer);
}

static int connect_error(const char *name, int code, struct error *err)
{
	switch (code) {
	case -ENOENT:
		code = moved_error(name, err);
		return code < 0 ? code
				: error_set(err, -ENOENT, EXIT_STATUS_NOT_FOUND,
					    "%s: no such VM; utsusu list shows those there are",
					    name);
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

int api_connection_new(int fd, const char *name, struct api_connection **ret_connection)
{
	struct api_connection *connection = calloc(1, sizeof(*connection));

	if (!connection) {
		fd_close(fd);
		return -ENOMEM;
	}
	connection->fd = fd;
	connection->early = json_array();
	snprintf(connection->name, sizeof(connection->name), "%s", name);
	buffer_init(&connection->input, LINE_MAX_BYTES);
	*ret_connection = connection;
	return 0;
}

int api_connect(const char *name, struct api_connection **ret_connection, struct error *err)
{
	int fd, r = runtime_connect(name, RUNTIME_SOCKET, &fd);

	if (r < 0)
		return connect_error(name, r, err);
	r = api_connection_new(fd, name, ret_connection);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "%s: out of memory; free some", name)
		     : 0;
}

void api_connection_free(struct api_connection *connection)
{
	if (!connection)
		return;
	fd_close(connection->fd);
	buffer_release(&connection->input);
	json_decref(connection->early);
	free(connection);
}

int api_connection_fd(const struct api_connection *connection)
{
	return connection->fd;
}

/* Takes a whole line from the buffer: 1 and the JSON, 0 when there is none yet, -EPROTO when it is
 * no JSON. */
static int take_line(struct api_connection *connection, json_t **ret_json)
{
	size_t len;
	const char *text = buffer_line(&connection->input, &len);
	json_t *json;

	if (!text)
		return 0;
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	buffer_consume(&connection->input, len + 1);
	if (!json)
		return -EPROTO;
	*ret_json = json;
	return 1;
}

static int read_line(struct api_connection *connection, uint64_t due_ns, json_t **ret_json)
{
	char bytes[4096];
	int r;

	while ((r = take_line(connection, ret_json)) == 0) {
		ssize_t n;

		r = fd_wait_readable(connection->fd, due_ns);
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

/* Events that come between a request and its answer are kept for api_next_event. */
static int read_answer(struct api_connection *connection, int timeout_ms, json_t **ret_answer)
{
	uint64_t due_ns = due_in(timeout_ms);

	for (;;) {
		json_t *json;
		int r = read_line(connection, due_ns, &json);

		if (r < 0)
			return r;
		if (!json_object_get(json, "event")) {
			*ret_answer = json;
			return 0;
		}
		if (json_array_size(connection->early) < EARLY_MAX)
			json_array_append(connection->early, json);
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

static int call_error(const char *name, int code, int timeout_ms, struct error *err)
{
	if (code == -ETIMEDOUT)
		return error_set(err, code, EXIT_STATUS_FAILED,
				 "%s: has not answered for %d s; see whether its process hangs",
				 name, timeout_ms / 1000);
	if (code == -ECONNRESET || code == -EPIPE)
		return error_set(err, -ECONNRESET, EXIT_STATUS_NOT_FOUND,
				 "%s: ended meanwhile; utsusu list shows those there are", name);
	return error_set(err, code, EXIT_STATUS_FAILED, "%s: %s; try again", name, strerror(-code));
}

/* The request and its newline in one message: descriptors come with the bytes of their line. */
static int send_request(const struct api_connection *connection, const json_t *request,
			const int *fds, size_t n_fds)
{
	_cleanup_(freep) char *text = json_dumps(request, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return -ENOMEM;
	text[len] = '\n'; /* in place of the NUL */
	if (n_fds)
		return fd_send(connection->fd, text, len + 1, fds, n_fds);
	return fd_write_all(connection->fd, text, len + 1);
}

/* Once something was sent, every failure is one of three that say "not known". */
static int exchange(struct api_connection *connection, const json_t *request, const int *fds,
		    size_t n_fds, int timeout_ms, json_t **ret_answer)
{
	int r = connection->broken ? -ECONNRESET : send_request(connection, request, fds, n_fds);

	if (r == 0)
		r = read_answer(connection, timeout_ms, ret_answer);
	connection->broken = r < 0;
	if (r == -EPIPE)
		return -ECONNRESET;
	return r == 0 || r == -ETIMEDOUT || r == -ECONNRESET ? r : -EPROTO;
}

int api_call_with(struct api_connection *connection, json_t *request, const int *fds, size_t n_fds,
		  int timeout_ms, json_t **ret_answer, struct error *err)
{
	json_auto_t *owned = request;
	json_auto_t *answer = NULL;
	const json_t *error;
	int r = owned ? exchange(connection, owned, fds, n_fds, timeout_ms, &answer) : -ENOMEM;

	if (r < 0)
		return call_error(connection->name, r, timeout_ms, err);
	error = json_object_get(answer, "error");
	if (error || !json_is_true(json_object_get(answer, "ok")))
		return refused(error, connection->name, err);
	*ret_answer = json_incref(answer);
	return 0;
}

int api_call(struct api_connection *connection, json_t *request, json_t **ret_answer,
	     struct error *err)
{
	return api_call_with(connection, request, NULL, 0, API_ANSWER_MS, ret_answer, err);
}

int api_next_event(struct api_connection *connection, int timeout_ms, json_t **ret_event)
{
	if (json_array_size(connection->early)) {
		*ret_event = json_incref(json_array_get(connection->early, 0));
		json_array_remove(connection->early, 0);
		return 0;
	}
	return read_line(connection, due_in(timeout_ms), ret_event);
}
