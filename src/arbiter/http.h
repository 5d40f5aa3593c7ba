/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * HTTP requests on a loop, by libcurl: POST a body, get the answer, nothing blocks and no thread is made. Each request has a
 * connection of its own. libcurl repeats a request by itself when a connection that it kept turns out to be closed, and a
 * repeated swap that had landed would look lost.
 *
 * One thread, the loop's, which has begun no other before the first http_new (libcurl's own initialisation). Names are never
 * looked up: a URL's host is a number, or its address is given beside it. Redirections, proxies and the environment's settings are
 * ignored. SIGPIPE is ignored by the program.
 */

#include <stdbool.h>

#include "base/loop.h"
#include "base/macros.h"

struct http;
struct http_request;

/* Files in PEM form; borrowed for as long as the struct http lives. */
struct http_tls {
	const char *ca;		 /* NULL: nobody is trusted, only http:// is possible */
	const char *certificate; /* with `key`, NULL for none: who we are */
	const char *key;
};

struct http_result {
	int r; /* 0, or the negative errno of what broke it: `status`, `text` are nothing then */
	bool left;	     /* false: certainly no byte of the request was sent */
	unsigned int status; /* of HTTP */
	const char *
		text; /* the answer's body, without what lines() took; until the callback returns */
	size_t len;
	const char *why; /* one line for people when r < 0 */
};

struct http_ask {
	const char *url;
	const char *address;	 /* of the URL's host, where that is a name; else NULL */
	const char *token;	 /* for `Authorization`, or NULL */
	const char *body;	 /* JSON */
	unsigned int connect_ms; /* TCP and TLS together */
	size_t limit; /* bytes of the answer, and of its headers; of a stream: of each line */
	void *ctx;
	/* A stream's next line, without its end. May end its own request, but free nothing else. NULL: no stream. */
	void (*line)(void *ctx, const char *line, size_t len);
	/* Once, from the loop, never from inside http_begin; the request is gone when it is called. */
	void (*done)(void *ctx, const struct http_result *result);
};

/* `loop` and `tls` are borrowed. NULL: out of memory. */
struct http *http_new(struct loop *loop, const struct http_tls *tls);
/* Ends all requests; no callback. */
void http_free(struct http *http);

/* Whether such a URL and address can be asked: 0 or -EINVAL. http or https, a port or none, nothing else; `address` as in http_ask. */
_must_check_ int http_check(const char *url, const char *address);

/* All of `ask` is copied. -ENOMEM, -EINVAL: no such URL or address. */
_must_check_ int http_begin(struct http *http, const struct http_ask *ask,
			    struct http_request **ret_request);
/* Ends it without a callback; whether any of it may have been sent. NULL is nothing, and false. */
bool http_end(struct http_request *request);
