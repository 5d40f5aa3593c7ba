/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the VM's socket share: server.c has the clients, server_commands.c, server_move.c (for movers) and server_protect.c
 * (for guards and relays) do what they ask. */

#include <jansson.h>

#include "api/server.h"
#include "base/buffer.h"

struct api_client;

struct api_server {
	struct loop *loop;
	struct loop_watch listening;
	bool closed; /* nobody is accepted now */
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
	int fds[API_REQUEST_FDS]; /* came with the line that is not done yet; owned */
	size_t n_fds;
	bool events, ended;
};

/* Takes the reference. Too much unread, or no memory: the client is given up. */
void client_send(struct api_client *client, json_t *json);
/* Of 64 bits, as text: JSON's own end at 53. */
json_t *number_json(uint64_t number);
/* {"message": ..., "status": ...} */
json_t *error_body_json(const struct error *err);

typedef int (*command_fn)(struct api_client *client, const struct api_request *request,
			  json_t **ret_reply, struct error *err);
extern const command_fn vm_command_fns[API_COMMANDS], move_command_fns[API_COMMANDS],
	protect_command_fns[API_COMMANDS]; /* each is in one of them */

/* All descriptors that came with a line, which must be `due`. They are the caller's then; -1 behind the last. */
_must_check_ int client_take_fds(struct api_client *client, const struct api_request *request,
				 size_t due, int ret_fds[API_REQUEST_FDS], struct error *err);
/* To that one of the clients, if it is there. Takes the reference. */
void server_tell_client(struct api_server *server, const void *client, json_t *event);
/* {"ok": true, "problems": [...]} */
json_t *problems_json(const struct problems *problems);

/* The guest had its time to end by itself, or is to be asked once more. */
void server_stop_expired(struct loop_timer *timer);
