/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/config.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define OUTPUT_MAX KIB(1024) /* bytes of answers and events that a client has not read */
#define OUTPUT_PAUSE                                                                               \
	KIB(256) /* no further requests are taken from a client that has so much to read */
#define PRESS_AGAIN_NS                                                                             \
	NSEC_PER_SEC /* a guest that boots does not hear its power button at first  \
				     */

struct api_client;

struct api_server {
	struct loop *loop;
	struct loop_watch listening;
	const struct vm_config *config;
	const struct api_vm_ops *ops;
	void *vm;
	uid_t owner; /* who may connect, besides root; the process may become nobody later */
	struct list clients;
	unsigned int n_clients;
	/* A stop that waits for the guest. */
	struct loop_timer stop_timer;
	uint64_t stop_due_ns;
	bool pressed; /* the guest heard its power button */
};

struct api_client {
	struct list link;
	struct api_server *server;
	struct loop_watch watch;
	struct buffer input, output;
	bool events, ended;
};

static const char *const event_names[API_EVENTS_N] = {
	[API_EVENT_RUNNING] = "running", [API_EVENT_PAUSED] = "paused",
	[API_EVENT_RESUMED] = "resumed", [API_EVENT_GUEST_RESET] = "guest-reset",
	[API_EVENT_STOPPED] = "stopped",
};

const char *api_vm_state_name(enum api_vm_state state)
{
	static const char *const names[] = { "starting", "running", "paused", "stopping" };

	return names[state];
}

static void client_free(struct api_client *client)
{
	loop_remove(client->server->loop, &client->watch);
	fd_close(client->watch.fd);
	list_remove(&client->link);
	client->server->n_clients--;
	buffer_release(&client->input);
	buffer_release(&client->output);
	free(client);
}

static void buffer_consume(struct buffer *b, size_t len)
{
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
}

/* Sends what the client takes now. A client that is gone is marked; it is freed by its own
 * callback. */
static void client_flush(struct api_client *client)
{
	while (client->output.len && !client->ended) {
		ssize_t n = send(client->watch.fd, client->output.data, client->output.len,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			client->ended = true;
		else
			buffer_consume(&client->output, (size_t)n);
	}
}

static void client_wait(struct api_client *client)
{
	uint32_t events = client->output.len < OUTPUT_PAUSE ? EPOLLIN : 0;

	loop_change(client->server->loop, &client->watch,
		    events | (client->output.len ? EPOLLOUT : 0));
}

/* Takes the reference. Too much unread, or no memory: the client is given up. */
static void client_send(struct api_client *client, json_t *json)
{
	_cleanup_(freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (!text || buffer_append(&client->output, text, strlen(text)) < 0 ||
	    buffer_append(&client->output, "\n", 1) < 0)
		client->ended = true;
	client_flush(client);
	if (client->ended)
		shutdown(client->watch.fd, SHUT_RDWR);
	else
		client_wait(client);
}

static json_t *status_json(const struct api_server *server)
{
	struct api_vm_status status = { 0 };

	server->ops->status(server->vm, &status);
	return json_pack("{s:b, s:s, s:s, s:i, s:I, s:I, s:s*}", "ok", 1, "name",
			 server->config->name, "state", api_vm_state_name(status.state), "pid",
			 (int)getpid(), "uptime_ms", (json_int_t)status.uptime_ms,
			 "memory_populated", (json_int_t)status.memory_populated, "console",
			 status.console[0] ? status.console : NULL);
}

static int do_status(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply, struct error *err _unused_)
{
	*ret_reply = status_json(client->server);
	return 0;
}

static int do_info(struct api_client *client, const struct api_request *request _unused_,
		   json_t **ret_reply, struct error *err)
{
	json_auto_t *reply = status_json(client->server);
	json_t *config = schema_encode_json(&config_schema, client->server->config);

	if (!reply || json_object_set_new(reply, "config", config) < 0)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "info: out of memory; free some");
	*ret_reply = json_incref(reply);
	return 0;
}

static int do_pause(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->pause(client->server->vm, err);
}

static int do_resume(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->resume(client->server->vm, err);
}

static int do_power_button(struct api_client *client, const struct api_request *request _unused_,
			   json_t **ret_reply, struct error *err _unused_)
{
	bool heard = client->server->ops->power_button(client->server->vm);

	*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "button", heard);
	return 0;
}

static int do_reset(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->reset(client->server->vm, err);
}

static int do_events(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply _unused_, struct error *err _unused_)
{
	client->events = true;
	return 0;
}

static json_t *series_json(const struct measure_series *series)
{
	return json_pack("{s:I, s:I, s:I}", "p50_ns", (json_int_t)series->p50_ns, "p99_ns",
			 (json_int_t)series->p99_ns, "max_ns", (json_int_t)series->max_ns);
}

static int do_measure(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply, struct error *err)
{
	const struct measure_request measure = {
		.rounds = request->rounds,
		.scope = request->touched ? VM_SAVE_TOUCHED : VM_SAVE_ALL,
		.dirty = request->dirty,
	};
	struct measure_result result;
	int r = client->server->ops->measure(client->server->vm, &measure, &result, err);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b, s:o, s:o, s:o, s:I, s:I}", "ok", 1, "barrier",
			       series_json(&result.barrier), "state", series_json(&result.state),
			       "collect", series_json(&result.collect), "dirty_pages",
			       (json_int_t)result.dirty_pages, "state_bytes",
			       (json_int_t)result.state_bytes);
	return 0;
}

/* Presses until the guest heard it once, and ends the VM when its time is over. */
static void stop_step(struct api_server *server)
{
	uint64_t now = clock_now(loop_clock(server->loop));

	if (now >= server->stop_due_ns) {
		server->ops->force_stop(server->vm);
		return;
	}
	if (!server->pressed)
		server->pressed = server->ops->power_button(server->vm);
	loop_timer_arm(server->loop, &server->stop_timer,
		       server->pressed ? server->stop_due_ns
				       : MIN(server->stop_due_ns, now + PRESS_AGAIN_NS));
}

static void stop_timer_expired(struct loop_timer *timer)
{
	stop_step(container_of(timer, struct api_server, stop_timer));
}

/* A second stop sets a new deadline and presses again. */
static int do_stop(struct api_client *client, const struct api_request *request, json_t **ret_reply,
		   struct error *err)
{
	struct api_server *server = client->server;
	struct api_vm_status status = { 0 };

	server->ops->status(server->vm, &status);
	if (!request->force && request->timeout && status.state == API_VM_PAUSED)
		return error_set(
			err, -EINVAL, EXIT_STATUS_FAILED,
			"%s: is paused and cannot hear its power button; resume it first, or "
			"stop it with --force",
			server->config->name);
	server->pressed = false;
	server->stop_due_ns = clock_now(loop_clock(server->loop));
	if (!request->force)
		server->stop_due_ns += request->timeout * NSEC_PER_MSEC;
	stop_step(server);
	*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "button", server->pressed);
	return 0;
}

typedef int (*command_fn)(struct api_client *client, const struct api_request *request,
			  json_t **ret_reply, struct error *err);

static const command_fn command_fns[API_COMMANDS] = {
	[API_STATUS] = do_status,
	[API_INFO] = do_info,
	[API_PAUSE] = do_pause,
	[API_RESUME] = do_resume,
	[API_POWER_BUTTON] = do_power_button,
	[API_RESET] = do_reset,
	[API_STOP] = do_stop,
	[API_EVENTS] = do_events,
	[API_MEASURE] = do_measure,
};

/* A message may quote text cut in the middle of a character, which JSON cannot hold. */
static json_t *message_json(const char *message)
{
	json_t *json = json_string(message);
	char plain[ERROR_MESSAGE_MAX];
	size_t i;

	if (json)
		return json;
	for (i = 0; message[i] && i < sizeof(plain) - 1; i++)
		plain[i] = (char)(message[i] & 0x80 ? '?' : message[i]);
	plain[i] = '\0';
	return json_string(plain);
}

static json_t *error_json(const struct error *err)
{
	return json_pack("{s:{s:o, s:i}}", "error", "message", message_json(err->message), "status",
			 (int)err->status);
}

static void client_request(struct api_client *client, const char *line, size_t len)
{
	struct error err = { 0 };
	struct api_request request;
	json_t *reply = NULL;
	int r = api_request_decode(line, len, &request, &err);

	if (r == 0)
		r = command_fns[request.command](client, &request, &reply, &err);
	if (r < 0) {
		/* A function that failed without words still has its errno to tell. */
		error_set(&err, r, EXIT_STATUS_FAILED, "%s: %s; try again",
			  api_commands[request.command].name, strerror(-r));
		reply = error_json(&err);
	} else if (!reply) {
		reply = json_pack("{s:b}", "ok", 1);
	}
	if (reply && request.id[0])
		json_object_set_new(reply, "id", json_string(request.id));
	client_send(client, reply);
}

/* Whole lines are requests; an end that is no line yet waits, within the limit. */
static void client_lines(struct api_client *client)
{
	const char *newline;

	while (!client->ended && client->output.len < OUTPUT_PAUSE && client->input.len &&
	       (newline = memchr(client->input.data, '\n', client->input.len))) {
		size_t len = (size_t)(newline - (const char *)client->input.data);

		client_request(client, (const char *)client->input.data, len);
		buffer_consume(&client->input, len + 1);
	}
}

static void refuse_long_line(struct api_client *client)
{
	struct error err = { 0 };

	error_set(&err, -EMSGSIZE, EXIT_STATUS_USAGE, "request: is longer than %u bytes; send less",
		  (unsigned int)LIMIT_REQUEST);
	client_send(client, error_json(&err));
	client->ended = true;
}

static void client_read(struct api_client *client)
{
	char bytes[4096];
	ssize_t n = recv(client->watch.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		client->ended = true;
	else if (buffer_append(&client->input, bytes, (size_t)n) < 0)
		refuse_long_line(client);
	else
		client_lines(client);
}

static void client_ready(struct loop_watch *watch, uint32_t events)
{
	struct api_client *client = container_of(watch, struct api_client, watch);

	client_flush(client);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && !client->ended)
		client_read(client);
	else
		client_lines(client);
	if (client->ended)
		client_free(client);
	else
		client_wait(client);
}

static void refuse_client(int fd, const char *message, enum exit_status status)
{
	struct error err = { 0 };
	_cleanup_(freep) char *text = NULL;
	json_auto_t *json = NULL;

	error_set(&err, -EACCES, status, "%s", message);
	json = error_json(&err);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (text && send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Takes the descriptor. */
static void client_new(struct api_server *server, int fd)
{
	struct api_client *client = calloc(1, sizeof(*client));

	if (!client) {
		fd_close(fd);
		return;
	}
	client->server = server;
	client->watch = (struct loop_watch){ .fd = fd, .events = EPOLLIN, .ready = client_ready };
	buffer_init(&client->input, LIMIT_REQUEST);
	buffer_init(&client->output, OUTPUT_MAX);
	list_init(&client->link);
	list_append(&server->clients, &client->link);
	server->n_clients++;
	if (loop_add(server->loop, &client->watch) < 0)
		client_free(client);
}

static void listening_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct api_server *server = container_of(watch, struct api_server, listening);
	_cleanup_(fd_closep) int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (!fd_peer_is(fd, server->owner))
		refuse_client(fd, "socket: belongs to another user; be that user, or root",
			      EXIT_STATUS_HOST);
	else if (server->n_clients >= LIMIT_CLIENTS)
		refuse_client(fd, "socket: too many clients; end one of them", EXIT_STATUS_BUSY);
	else
		client_new(server, TAKE_FD(fd));
}

struct api_server *api_server_new(struct loop *loop, int listen_fd, const struct vm_config *config,
				  const struct api_vm_ops *ops, void *vm)
{
	struct api_server *server = calloc(1, sizeof(*server));

	if (!server) {
		fd_close(listen_fd);
		return NULL;
	}
	server->loop = loop;
	server->config = config;
	server->ops = ops;
	server->vm = vm;
	server->owner = geteuid();
	list_init(&server->clients);
	loop_timer_init(&server->stop_timer, stop_timer_expired);
	server->listening = (struct loop_watch){
		.fd = listen_fd,
		.events = EPOLLIN,
		.ready = listening_ready,
	};
	if (loop_add(loop, &server->listening) == 0)
		return server;
	api_server_free(server);
	return NULL;
}

void api_server_free(struct api_server *server)
{
	if (!server)
		return;
	loop_timer_cancel(&server->stop_timer);
	loop_remove(server->loop, &server->listening);
	fd_close(server->listening.fd);
	while (!list_empty(&server->clients)) {
		struct api_client *client = container_of(server->clients.next, struct api_client,
							 link);

		client_flush(client);
		client_free(client);
	}
	free(server);
}

void api_server_event(struct api_server *server, enum api_event event, const char *detail)
{
	struct list *item, *next;

	list_for_each(item, next, &server->clients) {
		struct api_client *client = container_of(item, struct api_client, link);

		if (client->events && !client->ended)
			client_send(client, json_pack("{s:s, s:s*}", "event", event_names[event],
						      "detail", detail));
	}
}
