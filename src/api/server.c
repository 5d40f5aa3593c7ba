/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/config.h"
#include "api/server_internal.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"

#define OUTPUT_MAX KIB(1024) /* bytes of answers and events that a client has not read */
#define OUTPUT_PAUSE                                                                               \
	KIB(256) /* no further requests are taken from a client that has so much to read */

static const char *const event_names[API_EVENTS_N] = {
	[API_EVENT_RUNNING] = "running", [API_EVENT_PAUSED] = "paused",
	[API_EVENT_RESUMED] = "resumed", [API_EVENT_GUEST_RESET] = "guest-reset",
	[API_EVENT_STOPPED] = "stopped",
};

static void close_fds(struct api_client *client)
{
	while (client->n_fds)
		fd_close(client->fds[--client->n_fds]);
}

static void client_free(struct api_client *client)
{
	if (client->server->ops->forget)
		client->server->ops->forget(client->server->vm, client);
	loop_remove(client->server->loop, &client->watch);
	fd_close(client->watch.fd);
	list_remove(&client->link);
	client->server->n_clients--;
	close_fds(client);
	buffer_release(&client->input);
	buffer_release(&client->output);
	free(client);
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

void client_send(struct api_client *client, json_t *json)
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

json_t *error_body_json(const struct error *err)
{
	return json_pack("{s:o, s:i}", "message", message_json(err->message), "status",
			 (int)err->status);
}

static json_t *error_json(const struct error *err)
{
	return json_pack("{s:o}", "error", error_body_json(err));
}

static command_fn find_fn(enum api_command command)
{
	if (protect_command_fns[command])
		return protect_command_fns[command];
	return move_command_fns[command] ? move_command_fns[command] : vm_command_fns[command];
}

static void client_request(struct api_client *client, const char *line, size_t len)
{
	struct error err = { 0 };
	struct api_request request;
	json_t *reply = NULL;
	int r = api_request_decode(line, len, &request, &err);

	if (r == 0)
		r = find_fn(request.command)(client, &request, &reply, &err);
	close_fds(client);
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
	const char *line;
	size_t len;

	while (!client->ended && client->output.len < OUTPUT_PAUSE &&
	       (line = buffer_line(&client->input, &len))) {
		client_request(client, line, len);
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

/* Descriptors belong to the line that is not done yet; it takes what it knows of, and the rest is closed with it. Those for
 * which there is no room the kernel closes. */
static void take_fds(struct api_client *client, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (client->n_fds == API_REQUEST_FDS)
				fd_close(fd);
			else
				client->fds[client->n_fds++] = fd;
		}
	}
}

static ssize_t client_receive(struct api_client *client, char *bytes, size_t size)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(API_REQUEST_FDS * sizeof(int))];
	} control;
	struct iovec iov = { bytes, size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(client->watch.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n >= 0)
		take_fds(client, &message);
	return n;
}

static void client_read(struct api_client *client)
{
	char bytes[4096];
	ssize_t n = client_receive(client, bytes, sizeof(bytes));

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
	loop_timer_init(&server->stop_timer, server_stop_expired);
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

void api_server_doors(struct api_server *server, bool open)
{
	if (server->closed == !open)
		return;
	if (!open)
		loop_remove(server->loop, &server->listening);
	server->closed = !open || loop_add(server->loop, &server->listening) < 0;
}

int api_server_socket(const struct api_server *server)
{
	return server->listening.fd;
}

void api_server_welcome(struct api_server *server, int fd)
{
	client_new(server, fd);
}

void api_server_free(struct api_server *server)
{
	if (!server)
		return;
	loop_timer_cancel(&server->stop_timer);
	if (!server->closed)
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

void api_server_changed(struct api_server *server, const char *event, const char *detail)
{
	struct list *item, *next;

	list_for_each(item, next, &server->clients) {
		struct api_client *client = container_of(item, struct api_client, link);

		if (client->events && !client->ended)
			client_send(client,
				    json_pack("{s:s, s:s*}", "event", event, "detail", detail));
	}
}

void api_server_event(struct api_server *server, enum api_event event, const char *detail)
{
	api_server_changed(server, event_names[event], detail);
}

void server_tell_client(struct api_server *server, const void *client, json_t *event)
{
	struct list *item, *next;

	list_for_each(item, next, &server->clients) {
		struct api_client *one = container_of(item, struct api_client, link);

		if (one == client && !one->ended)
			client_send(one, json_incref(event));
	}
	json_decref(event);
}

static json_t *hex_json(const void *bytes, size_t len)
{
	char text[2 * sizeof(struct watch_record) + 1];

	hex_encode(bytes, len, text);
	return json_string(text);
}

void api_server_hit(struct api_server *server, const void *client, const struct stop_hit *hit,
		    const char *device)
{
	struct list *item, *next;

	list_for_each(item, next, &server->clients) {
		struct api_client *one = container_of(item, struct api_client, link);

		if (one != client || one->ended)
			continue;
		client_send(one, json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:o, s:o}", "event",
					   "request", "action", api_stop_actions[hit->action],
					   "number", (json_int_t)hit->number, "missed",
					   (json_int_t)hit->missed, "device", device, "record",
					   hex_json(&hit->record, sizeof(hit->record)), "code_at",
					   number_json(hit->code_at), "code",
					   hex_json(hit->code, hit->n_code)));
	}
}
