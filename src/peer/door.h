/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How commands of this host reach its daemon: a UNIX socket in the runtime directory, for the same user and root.
 *
 *   RUNTIME/.utsusud/socket        requests (peer/request.h, control): one JSON object on a line, one answer
 *                    lock          held by the daemon
 *                    HEX           a reservation that waits for its streams (peer/reservation.h)
 *
 * A request may carry one descriptor, along with its first byte.
 */

#include <jansson.h>

#include "base/error.h"
#include "base/limits.h"

#define DOOR_SOCKET "socket"
#define DOOR_LOCK "lock"

/* The folder, made if need be. */
_must_check_ int door_open_folder(int *ret_fd, struct error *err);

/* The daemon's end: the listening socket, non-blocking. */
_must_check_ int door_listen(int folder_fd, int *ret_fd, struct error *err);
/* The request of a client, and its descriptor or -1, the caller's. Waits some seconds at most. */
_must_check_ int door_receive(int client, json_t **ret_request, int *ret_passed);
/* `answer` stays the caller's. Whoever asked may have gone: that is no error here. */
void door_answer(int client, json_t *answer);
void door_refuse(int client, const struct error *err);

/* The command's end: sends a request (its reference is taken, `passed` is borrowed or -1) and waits for the answer.
 * `timeout_ms` -1: as long as the daemon lives. Errors: no daemon, with the way out; a refusal with the daemon's words. */
_must_check_ int door_call(json_t *request, int passed, int timeout_ms, json_t **ret_answer,
			   struct error *err);
/* The two halves of that, for who does something meanwhile: a connection, and its answer. */
_must_check_ int door_ask(json_t *request, int passed, int *ret_fd, struct error *err);
_must_check_ int door_hear(int fd, int timeout_ms, json_t **ret_answer, struct error *err);
/* Whether a daemon of this user is there; makes nothing. */
bool door_is_open(void);
