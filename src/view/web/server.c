/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "view/web/answer.h"
#include "view/web/files.h"
#include "view/web/session.h"

#define HOLD_NS (150 * NSEC_PER_MSEC)  /* between two answers about what is new, at least */
#define HOLD_MAX_NS (5 * NSEC_PER_SEC) /* and at most */

/* A visitor who asks what is new, and waits for it. */
struct waiter {
	struct MHD_Connection *connection; /* suspended; NULL: a free place */
	uint64_t seen, since_ns;
};

struct web_server {
	struct web_model *model;
	struct web_session session;
	struct MHD_Daemon *daemon;
	int epoll_fd; /* the daemon's */
	struct waiter waiters[WEB_CONNECTIONS];
};

/* Headers of every answer. */
static const struct {
	const char *name, *value;
} common_headers[] = {
	{ "Content-Security-Policy",
	  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
	  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
	{ "X-Content-Type-Options", "nosniff" },
	{ "Referrer-Policy", "no-referrer" },
	{ "Cross-Origin-Opener-Policy", "same-origin" },
	{ "Cross-Origin-Resource-Policy", "same-origin" },
	{ "Cache-Control", "no-store" },
};

static enum MHD_Result send_response(struct MHD_Connection *connection, unsigned int status,
				     const char *type, struct MHD_Response *response)
{
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	for (size_t i = 0; i < ARRAY_SIZE(common_headers); i++)
		MHD_add_response_header(response, common_headers[i].name, common_headers[i].value);
	r = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return r;
}

static struct MHD_Response *fixed_response(const void *bytes, size_t n)
{
	return MHD_create_response_from_buffer(n, (void *)bytes, MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned int status,
				 const char *text)
{
	return send_response(connection, status, "text/plain; charset=utf-8",
			     fixed_response(text, strlen(text)));
}

/* The token was right: to the page, with the cookie, and the key where only the page sees it. */
static enum MHD_Result send_begin(struct web_server *server, struct MHD_Connection *connection)
{
	const struct web_session *session = &server->session;
	struct MHD_Response *response = fixed_response("", 0);
	char cookie[128], place[64];

	if (!response)
		return MHD_NO;
	snprintf(cookie, sizeof(cookie), "%s=%s; Path=/; HttpOnly; SameSite=Strict",
		 session->cookie_name, session->cookie);
	snprintf(place, sizeof(place), "/#%s", session->key);
	MHD_add_response_header(response, "Set-Cookie", cookie);
	MHD_add_response_header(response, "Location", place);
	return send_response(connection, MHD_HTTP_SEE_OTHER, "text/plain", response);
}

static enum MHD_Result send_refusal(struct MHD_Connection *connection, enum web_verdict verdict)
{
	switch (verdict) {
	case WEB_METHOD:
		return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	case WEB_HOST:
		return send_text(connection, MHD_HTTP_FORBIDDEN,
				 "this is for 127.0.0.1 only, by that name\n");
	case WEB_USED:
		return send_text(connection, MHD_HTTP_FORBIDDEN,
				 "this link was used: it works once. The window that it opened "
				 "still works; for another one press Enter where `utsusu watch` "
				 "runs\n");
	default:
		return send_text(connection, MHD_HTTP_FORBIDDEN,
				 "open the link that `utsusu watch ... --web` prints\n");
	}
}

static const char *argument(void *ctx, const char *name)
{
	return MHD_lookup_connection_value(ctx, MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result send_data(struct web_server *server, struct MHD_Connection *connection,
				 const char *path)
{
	struct web_request request = { .path = path, .argument = argument, .ctx = connection };
	struct MHD_Response *response;
	struct web_response answer;

	web_answer(server->model, &request, &answer);
	if (!answer.body)
		return send_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
	response = MHD_create_response_from_buffer(answer.n_bytes, answer.body,
						   MHD_RESPMEM_MUST_FREE);
	if (!response)
		free(answer.body);
	return send_response(connection, answer.status, answer.type, response);
}

static enum MHD_Result send_file(struct MHD_Connection *connection, const char *path)
{
	const struct web_file *file = web_file_find(path);

	if (!file)
		return send_text(connection, MHD_HTTP_NOT_FOUND, "there is no such page\n");
	return send_response(connection, MHD_HTTP_OK, file->type,
			     fixed_response(file->bytes, *file->n_bytes));
}

/* Whether there is nothing new for the visitor, who is then kept until there is. */
static bool suspend(struct web_server *server, struct MHD_Connection *connection, const char *path)
{
	const char *seen = strcmp(path, "/data/state") ? NULL : argument(connection, "seen");
	struct waiter waiter = { .connection = connection, .since_ns = clock_now(&clock_host) };

	if (!seen)
		return false;
	waiter.seen = strtoull(seen, NULL, 10);
	for (size_t i = 0; i < ARRAY_SIZE(server->waiters); i++)
		if (!server->waiters[i].connection) {
			server->waiters[i] = waiter;
			MHD_suspend_connection(connection);
			return true;
		}
	return false;
}

/* Lets those go on for whom there is news, or who have waited long enough. */
static void resume_waiters(struct web_server *server, bool all)
{
	uint64_t now = clock_now(&clock_host);

	for (size_t i = 0; i < ARRAY_SIZE(server->waiters); i++) {
		struct waiter *waiter = &server->waiters[i];
		uint64_t waited = now - waiter->since_ns;

		if (!waiter->connection)
			continue;
		if (all || waited >= HOLD_MAX_NS ||
		    (waited >= HOLD_NS && waiter->seen != server->model->version)) {
			MHD_resume_connection(waiter->connection);
			waiter->connection = NULL;
		}
	}
}

static enum web_verdict judge(struct web_server *server, struct MHD_Connection *connection,
			      const char *path, const char *method)
{
	struct web_session *session = &server->session;
	struct web_visit visit = {
		.method = method,
		.path = path,
		.host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host"),
		.key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, WEB_KEY_HEADER),
		.cookie = MHD_lookup_connection_value(connection, MHD_COOKIE_KIND,
						      session->cookie_name),
		.token = argument(connection, "token"),
	};

	return web_session_judge(session, &visit);
}

/* Called for a request's headers, then for what follows them, and again when it was suspended. `state` of libmicrohttpd is a
 * place for us to remember which. */
static enum MHD_Result serve(void *ctx, struct MHD_Connection *connection, const char *path,
			     const char *method, const char *version, const char *upload,
			     size_t *n_upload, void **state)
{
	static const char headers_seen, waited;
	struct web_server *server = ctx;
	enum web_verdict verdict;

	if (!*state) {
		*state = (void *)&headers_seen;
		return MHD_YES;
	}
	if (*n_upload) /* nothing here takes a body */
		return MHD_NO;
	if (*state == &waited)
		return send_data(server, connection, path);
	verdict = judge(server, connection, path, method);
	if (verdict == WEB_BEGIN)
		return send_begin(server, connection);
	if (verdict != WEB_SERVE)
		return send_refusal(connection, verdict);
	*state = (void *)&waited;
	if (suspend(server, connection, path))
		return MHD_YES;
	if (!strncmp(path, "/data/", 6))
		return send_data(server, connection, path);
	return send_file(connection, path);
}

/* A listening socket on loopback, and its port. */
static int listen_at(uint16_t port, uint16_t *ret_port, struct error *err)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	_cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
					     0);
	socklen_t size = sizeof(at);
	int yes = 1;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, WEB_CONNECTIONS) ||
	    getsockname(fd, (struct sockaddr *)&at, &size))
		return error_set(
			err, -errno, EXIT_STATUS_RESOURCE,
			"--web: port %u of 127.0.0.1: %s; without a number a free one is taken",
			port, strerrordesc_np(errno));
	*ret_port = ntohs(at.sin_port);
	return TAKE_FD(fd);
}

static int start_daemon(struct web_server *server, int listen_fd)
{
	const union MHD_DaemonInfo *info;

	server->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, serve, server,
		MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int)WEB_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)WEB_CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int)WEB_IDLE_SECONDS, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!server->daemon)
		return -ENOMEM;
	info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -EIO;
	server->epoll_fd = info->epoll_fd;
	return 0;
}

DEFINE_CLEANUP(struct web_server, web_server_free, web_server_freep)

int web_server_new(struct web_model *model, uint16_t port, struct web_server **ret_server,
		   struct error *err)
{
	_cleanup_(web_server_freep) struct web_server *server = calloc(1, sizeof(*server));
	_cleanup_(fd_closep) int fd = listen_at(port, &port, err);
	int r;

	if (fd < 0)
		return fd;
	if (!server)
		return error_set(err, -ENOMEM, EXIT_STATUS_FAILED, "--web: out of memory");
	server->model = model;
	r = web_session_begin(&server->session, port);
	if (!r)
		r = start_daemon(server, fd);
	if (r)
		return error_set(err, r, EXIT_STATUS_FAILED, "--web: the server cannot start: %s",
				 strerrordesc_np(-r));
	TAKE_FD(fd);
	*ret_server = TAKE_PTR(server);
	return 0;
}

void web_server_free(struct web_server *server)
{
	if (!server)
		return;
	if (server->daemon) {
		resume_waiters(server, true);
		MHD_run(server->daemon);
		MHD_stop_daemon(server->daemon);
	}
	free(server);
}

void web_server_format_address(const struct web_server *server, char *ret_text, size_t size)
{
	snprintf(ret_text, size, "http://127.0.0.1:%u/open?token=%s", server->session.port,
		 server->session.token);
}

int web_server_renew(struct web_server *server)
{
	return web_session_renew(&server->session);
}

void web_server_turn(struct web_server *server, unsigned int timeout_ms)
{
	struct pollfd ready = { .fd = server->epoll_fd, .events = POLLIN };

	if (timeout_ms)
		poll(&ready, 1, (int)timeout_ms);
	resume_waiters(server, false);
	MHD_run(server->daemon);
}
