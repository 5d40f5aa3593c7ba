/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An HTTP server on a test's own loop that says what a script has: one step for each request, in order. It listens on a free port of
 * loopback. A request that comes after the last step, or for another path than its step's, fails the test.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

enum server_mode {
	SERVER_ANSWERS,
	SERVER_CUTS,	    /* the connection, amid the body */
	SERVER_CLOSES,	    /* without a word */
	SERVER_IS_SILENT,   /* takes the request and keeps the connection */
	SERVER_STREAMS,	    /* `body`, and keeps the connection: more by server_say() */
	SERVER_BABBLES,	    /* a body without end */
	SERVER_BOASTS,	    /* headers without end */
	SERVER_MAKES_NOISE, /* no HTTP */
};

struct server_step {
	const char *path;
	enum server_mode mode;
	unsigned int status; /* 0: 200 */
	const char *body;    /* borrowed until it is said */
	const char *token;   /* that the request must have; NULL: it must have none */
	const char *asks;    /* a text that the request's body must have, or NULL */
	void (*then)(
		void *ctx); /* called when the request is there, before it is answered; or NULL */
	void *ctx;
};

struct server;

struct server *server_new(struct loop *loop);
void server_free(struct server *server);
uint16_t server_port(const struct server *server);

/* What comes next; `steps` are borrowed until they are done. */
void server_play(struct server *server, const struct server_step *steps, size_t n);
/* How many steps of server_play are still to come. */
size_t server_left(const struct server *server);
/* To the stream of the last step that is one. */
void server_say(struct server *server, const char *text);
/* Ends that stream. */
void server_hang_up(struct server *server);
