/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * HTTP for one user on this host: libmicrohttpd, driven by the caller's thread, on 127.0.0.1 only. What a request may see
 * is settled by view/web/session.h before anything else of it is looked at; data is view/web/answer.h's.
 */

#include "base/error.h"
#include "view/web/model.h"

#define WEB_CONNECTIONS 24 /* at once: a browser opens six, and there may be several windows */
#define WEB_CONNECTION_MEMORY KIB(32) /* of a request's line and headers */
#define WEB_IDLE_SECONDS 15	      /* then a connection that does nothing is closed */

struct web_server;

/* `port` 0: any that is free. `model` is borrowed. Errors name the port. */
_must_check_ int web_server_new(struct web_model *model, uint16_t port,
				struct web_server **ret_server, struct error *err);
void web_server_free(struct web_server *server);

/* The address that opens the page, once: it holds the token. web_server_renew: for another window. */
void web_server_format_address(const struct web_server *server, char *ret_text, size_t size);
_must_check_ int web_server_renew(struct web_server *server);
/* Serves what is there, and ends; before that waits for something at most `timeout_ms`. */
void web_server_turn(struct web_server *server, unsigned int timeout_ms);
