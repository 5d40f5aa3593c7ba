/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The VM's socket: takes requests (api/request.h) from clients of the same user or root, and acts
 * through a small table of functions. All of it runs on the control thread's loop and never waits
 * for a client: one that does not read its answers is disconnected.
 */

#include "api/request.h"
#include "base/loop.h"
#include "vm/config.h"
#include "vm/measure.h"

enum api_vm_state { API_VM_STARTING, API_VM_RUNNING, API_VM_PAUSED, API_VM_STOPPING };

struct api_vm_status {
	enum api_vm_state state;
	uint64_t uptime_ms;	   /* since the first guest instruction; pauses included */
	uint64_t memory_populated; /* bytes of guest RAM that the host has given */
	char console[128];	   /* path of the console's pty; "" when there is none */
};

/* What a VM can be told. Control thread; `vm` is what api_server_new was given. Functions that fail
 * fill `err` with the reason and the way out. None waits for the guest. */
struct api_vm_ops {
	void (*status)(void *vm, struct api_vm_status *ret_status);
	int (*pause)(void *vm, struct error *err);  /* on a paused VM: nothing */
	int (*resume)(void *vm, struct error *err); /* on a running VM: nothing */
	bool (*power_button)(void *vm); /* false: the guest does not listen to it (yet) */
	int (*reset)(void *vm, struct error *err);
	/* Stops and saves the running VM some times and tells what that took. */
	int (*measure)(void *vm, const struct measure_request *request,
		       struct measure_result *ret_result, struct error *err);
	/* Asks for the end, which comes after the present turn of the loop. */
	void (*force_stop)(void *vm);
};

enum api_event {
	API_EVENT_RUNNING, /* the first guest instruction */
	API_EVENT_PAUSED,
	API_EVENT_RESUMED,
	API_EVENT_GUEST_RESET, /* the guest asked for a reset, or was told to */
	API_EVENT_STOPPED,     /* the last line */
	API_EVENTS_N,
};

struct api_server;

/*
 * Serves on `listen_fd` (from runtime_listen; ownership passes, also on failure). `name`, `config`,
 * `ops` and `loop` are borrowed and outlive the server. `vm` is handed to ops. NULL when out of
 * memory.
 */
struct api_server *api_server_new(struct loop *loop, int listen_fd, const struct vm_config *config,
				  const struct api_vm_ops *ops, void *vm);
/* Gives pending answers one more chance to be sent, then closes all. NULL is fine. */
void api_server_free(struct api_server *server);

/* Tells the clients that asked for events. `detail` (a device, or NULL) is one word or line. */
void api_server_event(struct api_server *server, enum api_event event, const char *detail);

const char *api_vm_state_name(enum api_vm_state state);
