/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/buffer.h"
#include "base/cleanup.h"

struct http {
	struct loop *loop;
	const struct http_tls *tls;
	CURLM *multi;
	struct loop_timer timer;
	struct list sockets;
	struct list requests;
};

/* A descriptor that libcurl waits for. */
struct http_socket {
	struct list link;
	struct loop_watch watch;
	struct http *http;
};

struct http_request {
	struct list link;
	struct http *http;
	CURL *easy;
	struct curl_slist *headers, *addresses;
	struct buffer body;
	size_t header_bytes, header_limit;
	bool over;  /* more came than may */
	bool ended; /* while its line was told */
	bool busy;  /* its line is being told */
	void *ctx;
	void (*line)(void *ctx, const char *line, size_t len);
	void (*done)(void *ctx, const struct http_result *result);
	char why[CURL_ERROR_SIZE];
};

DEFINE_CLEANUP(CURLU, curl_url_cleanup, urlp)

/* ---- what libcurl calls ---- */

static size_t take_body(char *data, size_t size, size_t n, void *ctx)
{
	struct http_request *request = ctx;

	if (buffer_append(&request->body, data, size * n) < 0)
		request->over = true;
	return request->over ? 0 : size * n;
}

/* Counted only; libcurl limits a line, not how many there are. */
static size_t take_header(char *data _unused_, size_t size, size_t n, void *ctx)
{
	struct http_request *request = ctx;

	request->header_bytes += size * n;
	if (request->header_bytes > request->header_limit)
		request->over = true;
	return request->over ? 0 : size * n;
}

static uint32_t events_of(int what)
{
	return (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
}

static void http_turn(struct http *http, curl_socket_t fd, int events);

static void socket_ready(struct loop_watch *watch, uint32_t events)
{
	struct http_socket *socket = container_of(watch, struct http_socket, watch);

	http_turn(socket->http, watch->fd,
		  (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
			  (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			  (events & EPOLLERR ? CURL_CSELECT_ERR : 0));
}

static void socket_free(struct http_socket *socket)
{
	loop_remove(socket->http->loop, &socket->watch);
	list_remove(&socket->link);
	free(socket);
}

static struct http_socket *socket_new(struct http *http, curl_socket_t fd, uint32_t events)
{
	struct http_socket *socket = calloc(1, sizeof(*socket));

	if (!socket)
		return NULL;
	socket->http = http;
	socket->watch = (struct loop_watch){ .fd = fd, .events = events, .ready = socket_ready };
	list_init(&socket->link);
	if (loop_add(http->loop, &socket->watch) < 0) {
		free(socket);
		return NULL;
	}
	list_append(&http->sockets, &socket->link);
	return socket;
}

static int socket_wanted(CURL *easy _unused_, curl_socket_t fd, int what, void *ctx, void *known)
{
	struct http_socket *socket = known;
	struct http *http = ctx;

	if (what == CURL_POLL_REMOVE) {
		if (socket)
			socket_free(socket);
		curl_multi_assign(http->multi, fd, NULL);
		return 0;
	}
	if (socket) {
		loop_change(http->loop, &socket->watch, events_of(what));
		return 0;
	}
	socket = socket_new(http, fd, events_of(what));
	/* Without one the request stands still until its deadline, which is the caller's. */
	return socket && curl_multi_assign(http->multi, fd, socket) == CURLM_OK ? 0 : -1;
}

static int timer_wanted(CURLM *multi _unused_, long timeout_ms, void *ctx)
{
	struct http *http = ctx;

	if (timeout_ms < 0)
		loop_timer_cancel(&http->timer);
	else
		loop_timer_arm(http->loop, &http->timer,
			       clock_now(loop_clock(http->loop)) +
				       (uint64_t)timeout_ms * NSEC_PER_MSEC);
	return 0;
}

static void timer_expired(struct loop_timer *timer)
{
	http_turn(container_of(timer, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

/* ---- what libcurl told ---- */

static bool was_sent(const struct http_request *request)
{
	curl_off_t ready_us = 0;
	long bytes = 0;

	/* Ready to send is after TCP and TLS; before it not a byte can have been. */
	if (curl_easy_getinfo(request->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us) != CURLE_OK ||
	    curl_easy_getinfo(request->easy, CURLINFO_REQUEST_SIZE, &bytes) != CURLE_OK)
		return true;
	return ready_us != 0 || bytes != 0;
}

static void request_free(struct http_request *request)
{
	if (request->easy) {
		curl_multi_remove_handle(request->http->multi, request->easy);
		curl_easy_cleanup(request->easy);
	}
	curl_slist_free_all(request->headers);
	curl_slist_free_all(request->addresses);
	buffer_release(&request->body);
	list_remove(&request->link);
	free(request);
}

bool http_end(struct http_request *request)
{
	bool left = request && was_sent(request);

	if (request && request->busy)
		request->ended = true;
	else if (request)
		request_free(request);
	return left;
}

/* Lines as far as they are whole. False: the request was ended by who was told. */
static bool tell_lines(struct http_request *request)
{
	const char *line;
	size_t len;

	while (request->line && !request->ended &&
	       (line = buffer_line(&request->body, &len)) != NULL) {
		request->busy = true;
		request->line(request->ctx, line, len);
		request->busy = false;
		buffer_consume(&request->body, len + 1);
	}
	if (!request->ended)
		return true;
	request_free(request);
	return false;
}

static int errno_of(const struct http_request *request, CURLcode code)
{
	if (request->over)
		return -EMSGSIZE;
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CONNECT_ERROR:
		return -EPROTO;
	default:
		return -ECONNRESET;
	}
}

static void tell_done(struct http_request *request, CURLcode code)
{
	struct http_result result = { .r = errno_of(request, code), .left = was_sent(request) };
	struct buffer body = request->body;
	void (*done)(void *ctx, const struct http_result *result) = request->done;
	void *ctx = request->ctx;
	char why[CURL_ERROR_SIZE];
	long status = 0;

	if (curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK)
		status = 0;
	snprintf(why, sizeof(why), "%s",
		 request->over	   ? "its answer is too long"
		 : request->why[0] ? request->why
				   : curl_easy_strerror(code));
	result.why = why;
	result.status = (unsigned int)status;
	result.text = body.data ? (const char *)body.data : "";
	result.len = body.len;
	request->body = (struct buffer){ 0 };
	request_free(request);
	done(ctx, &result);
	buffer_release(&body);
}

static struct http_request *next_finished(struct http *http, CURLcode *ret_code)
{
	struct CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
		struct http_request *request = NULL;

		if (message->msg != CURLMSG_DONE ||
		    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request) !=
			    CURLE_OK ||
		    !request)
			continue;
		*ret_code = message->data.result;
		return request;
	}
	return NULL;
}

static void tell_news(struct http *http)
{
	struct http_request *request;
	struct list *item, *next;
	CURLcode code;

	/* A line may be told whose request ends itself, no other one: the list stands. */
	list_for_each(item, next, &http->requests)
		tell_lines(container_of(item, struct http_request, link));
	while ((request = next_finished(http, &code)) != NULL)
		tell_done(request, code);
}

static void http_turn(struct http *http, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(http->multi, fd, events, &running);
	tell_news(http);
}

/* ---- a request ---- */

static bool is_number(const char *host)
{
	struct in6_addr number;

	return inet_pton(AF_INET, host, &number) == 1 || inet_pton(AF_INET6, host, &number) == 1;
}

/* "HOST:PORT:ADDRESS", as libcurl wants to be told; NULL in `*ret_entry` when the URL's host is a number. */
static int address_entry(const char *url_text, const char *address, char **ret_entry)
{
	_cleanup_(urlp) CURLU *url = curl_url();
	char *host = NULL, *port = NULL;
	int r = -EINVAL;

	*ret_entry = NULL;
	if (!url || curl_url_set(url, CURLUPART_URL, url_text, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		goto out;
	if (host[0] == '[' || is_number(host))
		r = address ? -EINVAL : 0;
	else if (address && is_number(address))
		r = asprintf(ret_entry, "%s:%s:%s", host, port, address) < 0 ? -ENOMEM : 0;
out:
	curl_free(host);
	curl_free(port);
	return r;
}

static int name_address(struct http_request *request, const struct http_ask *ask)
{
	_cleanup_(freep) char *entry = NULL;
	int r = address_entry(ask->url, ask->address, &entry);

	if (r < 0 || !entry)
		return r;
	request->addresses = curl_slist_append(NULL, entry);
	return request->addresses ? 0 : -ENOMEM;
}

int http_check(const char *url, const char *address)
{
	const char *host = strncmp(url, "https://", 8) == 0  ? url + 8
			   : strncmp(url, "http://", 7) == 0 ? url + 7
							     : "";
	_cleanup_(freep) char *entry = NULL;

	/* No user, path, question or fragment: what is asked is put behind it. */
	return host[0] && !strpbrk(host, "/?#@ ") && address_entry(url, address, &entry) == 0
		       ? 0
		       : -EINVAL;
}

static bool add_header(struct http_request *request, const char *line)
{
	struct curl_slist *more = curl_slist_append(request->headers, line);

	if (more)
		request->headers = more;
	return more;
}

static int make_headers(struct http_request *request, const struct http_ask *ask)
{
	_cleanup_(freep) char *line = NULL;

	/* Without "Expect: 100-continue", for which old servers let wait. */
	if (!add_header(request, "Content-Type: application/json") ||
	    !add_header(request, "Expect:"))
		return -ENOMEM;
	if (!ask->token)
		return 0;
	if (asprintf(&line, "Authorization: %s", ask->token) < 0 || !add_header(request, line))
		return -ENOMEM;
	return 0;
}

#define SET(option, value)                                                                         \
	do {                                                                                       \
		if (curl_easy_setopt(easy, option, value) != CURLE_OK)                             \
			return -ENOMEM;                                                            \
	} while (0)

static int set_tls(CURL *easy, const struct http_tls *tls)
{
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	/* Only this authority: Debian's libcurl has the system's folder besides. */
	SET(CURLOPT_CAPATH, NULL);
	SET(CURLOPT_CAINFO, tls->ca ? tls->ca : "/dev/null");
	if (tls->certificate) {
		SET(CURLOPT_SSLCERT, tls->certificate);
		SET(CURLOPT_SSLKEY, tls->key);
	}
	return 0;
}

static int set_connection(CURL *easy, const struct http_ask *ask)
{
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)ask->connect_ms);
	/* A stream's other end that vanished without a word is noticed. */
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, 5L);
	SET(CURLOPT_TCP_KEEPINTVL, 2L);
	return 0;
}

static int set_request(struct http_request *request, const struct http_ask *ask)
{
	CURL *easy = request->easy;

	SET(CURLOPT_URL, ask->url);
	SET(CURLOPT_POSTFIELDSIZE, (long)strlen(ask->body));
	SET(CURLOPT_COPYPOSTFIELDS, ask->body);
	SET(CURLOPT_HTTPHEADER, request->headers);
	SET(CURLOPT_RESOLVE, request->addresses);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, request);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, request);
	SET(CURLOPT_ERRORBUFFER, request->why);
	SET(CURLOPT_PRIVATE, request);
	return 0;
}

static int prepare(struct http_request *request, const struct http_ask *ask)
{
	int r = name_address(request, ask);

	if (r == 0)
		r = make_headers(request, ask);
	if (r == 0)
		r = set_tls(request->easy, request->http->tls);
	if (r == 0)
		r = set_connection(request->easy, ask);
	return r < 0 ? r : set_request(request, ask);
}

int http_begin(struct http *http, const struct http_ask *ask, struct http_request **ret_request)
{
	struct http_request *request = calloc(1, sizeof(*request));
	int r;

	if (!request)
		return -ENOMEM;
	request->http = http;
	request->ctx = ask->ctx;
	request->line = ask->line;
	request->done = ask->done;
	request->header_limit = ask->limit;
	buffer_init(&request->body, ask->limit);
	list_init(&request->link);
	request->easy = curl_easy_init();
	r = request->easy ? prepare(request, ask) : -ENOMEM;
	if (r == 0 && curl_multi_add_handle(http->multi, request->easy) != CURLM_OK)
		r = -ENOMEM;
	if (r < 0) {
		request_free(request);
		return r;
	}
	list_append(&http->requests, &request->link);
	*ret_request = request;
	return 0;
}

/* ---- all of them ---- */

static int set_up(struct http *http)
{
	if (curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted) != CURLM_OK ||
	    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) != CURLM_OK ||
	    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, timer_wanted) != CURLM_OK ||
	    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http) != CURLM_OK)
		return -ENOMEM;
	return 0;
}

struct http *http_new(struct loop *loop, const struct http_tls *tls)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http)
		return NULL;
	*http = (struct http){ .loop = loop, .tls = tls };
	list_init(&http->sockets);
	list_init(&http->requests);
	loop_timer_init(&http->timer, timer_expired);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(http);
		return NULL;
	}
	http->multi = curl_multi_init();
	if (!http->multi || set_up(http) < 0) {
		http_free(http);
		return NULL;
	}
	return http;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	while (!list_empty(&http->requests))
		request_free(container_of(http->requests.next, struct http_request, link));
	curl_multi_cleanup(http->multi);
	while (!list_empty(&http->sockets))
		socket_free(container_of(http->sockets.next, struct http_socket, link));
	loop_timer_cancel(&http->timer);
	free(http);
	curl_global_cleanup();
}
