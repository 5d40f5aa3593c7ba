/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"

#define REQUEST_MAX 65536

struct server {
	struct loop *loop;
	struct loop_watch listener;
	struct list connections;
	const struct server_step *steps;
	size_t n, at;
	struct connection *stream;
};

struct connection {
	struct list link;
	struct loop_watch watch;
	struct server *server;
	bool endless;
	size_t len;
	char text[REQUEST_MAX + 1];
};

static void connection_free(struct connection *connection)
{
	if (connection->server->stream == connection)
		connection->server->stream = NULL;
	loop_remove(connection->server->loop, &connection->watch);
	list_remove(&connection->link);
	fd_close(connection->watch.fd);
	free(connection);
}

/* The other side may have gone: then it has seen what it wanted. */
static bool say(struct connection *connection, const char *text, size_t len)
{
	return send(connection->watch.fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void say_text(struct connection *connection, const char *text)
{
	say(connection, text, strlen(text));
}

/* As long as the client takes it. */
static void babble(struct connection *connection)
{
	static const char piece[4096] = "x-more: and more\r\n";

	if (!say(connection, piece, strlen(piece)) && errno != EAGAIN)
		connection_free(connection);
}

static void say_head(struct connection *connection, const struct server_step *step, size_t len)
{
	char head[200];

	snprintf(
		head, sizeof(head),
		"HTTP/1.1 %u Whatever\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		step->status ? step->status : 200, len);
	say_text(connection, head);
}

static void say_chunk(struct connection *connection, const char *text)
{
	char head[20];

	snprintf(head, sizeof(head), "%zx\r\n", strlen(text));
	say_text(connection, head);
	say_text(connection, text);
	say_text(connection, "\r\n");
}

static void play(struct connection *connection, const struct server_step *step)
{
	size_t len = step->body ? strlen(step->body) : 0;

	switch (step->mode) {
	case SERVER_ANSWERS:
		say_head(connection, step, len);
		say(connection, step->body ? step->body : "", len);
		break;
	case SERVER_CUTS:
		say_head(connection, step, len);
		say(connection, step->body, len / 2);
		connection_free(connection);
		break;
	case SERVER_CLOSES:
		connection_free(connection);
		break;
	case SERVER_IS_SILENT:
		break;
	case SERVER_STREAMS:
		say_text(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		say_chunk(connection, step->body);
		connection->server->stream = connection;
		break;
	case SERVER_BABBLES:
		say_text(connection, "HTTP/1.1 200 OK\r\n\r\n");
		connection->endless = true;
		break;
	case SERVER_BOASTS:
		say_text(connection, "HTTP/1.1 200 OK\r\n");
		connection->endless = true;
		break;
	case SERVER_MAKES_NOISE:
		say_text(connection, "\x15\x03\x01 not HTTP at all\r\n\r\n");
		connection_free(connection);
		break;
	}
}

static void check_request(const struct connection *connection, const struct server_step *step)
{
	const char *body = strstr(connection->text, "\r\n\r\n");
	char first[100], token[100];

	snprintf(first, sizeof(first), "POST %s HTTP/1.1\r\n", step->path);
	if (strncmp(connection->text, first, strlen(first)) != 0)
		fail_msg("wanted %s, got %.60s", first, connection->text);
	snprintf(token, sizeof(token), "\r\nAuthorization: %s\r\n", step->token ? step->token : "");
	if (step->token ? !strstr(connection->text, token)
			: strstr(connection->text, "\r\nAuthorization") != NULL)
		fail_msg("wanted the token %s: %s", step->token ? step->token : "(none)",
			 connection->text);
	if (step->asks && !strstr(body, step->asks))
		fail_msg("%s is not in %s", step->asks, body);
}

static bool is_whole(const struct connection *connection)
{
	const char *body = strstr(connection->text, "\r\n\r\n");
	const char *length = strcasestr(connection->text, "\r\nContent-Length: ");

	return body && length && strlen(body + 4) >= strtoul(length + 18, NULL, 10);
}

static void heard(struct loop_watch *watch, uint32_t events)
{
	struct connection *connection = container_of(watch, struct connection, watch);
	struct server *server = connection->server;
	const struct server_step *step;
	ssize_t n;

	n = recv(watch->fd, connection->text + connection->len, REQUEST_MAX - connection->len, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		connection_free(connection);
		return;
	}
	if (connection->endless) {
		babble(connection);
		return;
	}
	connection->len += n > 0 ? (size_t)n : 0;
	if (n < 0 || !is_whole(connection))
		return;
	if (server->at == server->n)
		fail_msg("nothing more was awaited: %s", connection->text);
	step = &server->steps[server->at++];
	check_request(connection, step);
	if (step->then)
		step->then(step->ctx);
	connection->len = 0; /* what comes on the same connection is another request */
	memset(connection->text, 0, sizeof(connection->text));
	play(connection, step);
	if (step->mode == SERVER_BABBLES || step->mode == SERVER_BOASTS)
		loop_change(server->loop, watch, EPOLLIN | EPOLLOUT);
}

static void accept_one(struct loop_watch *watch, uint32_t events)
{
	struct server *server = container_of(watch, struct server, listener);
	struct connection *connection = calloc(1, sizeof(*connection));

	assert_non_null(connection);
	connection->server = server;
	connection->watch = (struct loop_watch){ .events = EPOLLIN, .ready = heard };
	connection->watch.fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(connection->watch.fd >= 0);
	list_init(&connection->link);
	list_append(&server->connections, &connection->link);
	assert_int_equal(loop_add(server->loop, &connection->watch), 0);
}

struct server *server_new(struct loop *loop)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct server *server = calloc(1, sizeof(*server));

	assert_non_null(server);
	server->loop = loop;
	list_init(&server->connections);
	server->listener = (struct loop_watch){ .events = EPOLLIN, .ready = accept_one };
	server->listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(server->listener.fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_int_equal(listen(server->listener.fd, 16), 0);
	assert_int_equal(loop_add(loop, &server->listener), 0);
	return server;
}

void server_free(struct server *server)
{
	while (!list_empty(&server->connections))
		connection_free(container_of(server->connections.next, struct connection, link));
	loop_remove(server->loop, &server->listener);
	fd_close(server->listener.fd);
	free(server);
}

uint16_t server_port(const struct server *server)
{
	struct sockaddr_in address;
	socklen_t len = sizeof(address);

	assert_int_equal(getsockname(server->listener.fd, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin_port);
}

void server_play(struct server *server, const struct server_step *steps, size_t n)
{
	assert_int_equal(server_left(server), 0);
	server->steps = steps;
	server->n = n;
	server->at = 0;
}

size_t server_left(const struct server *server)
{
	return server->n - server->at;
}

void server_say(struct server *server, const char *text)
{
	assert_non_null(server->stream);
	say_chunk(server->stream, text);
}

void server_hang_up(struct server *server)
{
	assert_non_null(server->stream);
	connection_free(server->stream);
}
