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

enum api_vm_state {
	API_VM_STARTING,
	API_VM_RUNNING,
	API_VM_PAUSED,
	API_VM_STOPPING,
	API_VM_ARRIVING, /* made to be loaded, not yet run */
	API_VM_GIVEN,	 /* given to another host, and not known to run there */
};

struct api_vm_status {
	enum api_vm_state state;
	uint64_t uptime_ms;	   /* since the first guest instruction; pauses included */
	uint64_t memory_populated; /* bytes of guest RAM that the host has given */
	char console[128];	   /* path of the console's pty; "" when there is none */
	const char *paused_by;	   /* "user", "debugger", "user, debugger", ...; NULL: not paused */
	const char *given_to;	   /* GIVEN: the host */
	const char *protection;	   /* its role (protect/ownership.h), "foreign"; NULL: no record */
	const char *watched; /* "normal", "all": the mode (watch/record.h); NULL: nobody watches */
};

/* What a mover can ask, each as in move/guest/guest.h, which is the implementation. Control thread. */
struct api_move_ops {
	const struct memory *(*memory)(const struct move_guest *guest);
	const char *(*stage)(const struct move_guest *guest);
	const struct mark_given *(*mark)(const struct move_guest *guest); /* NULL: not given */
	uint64_t (*lacks)(struct move_guest *guest);
	void (*check)(struct move_guest *guest, struct problems *problems);
	int (*begin)(struct move_guest *guest, const void *owner,
		     const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
		     struct error *err);
	int (*collect)(struct move_guest *guest, const void *owner, uint64_t *ret_pages,
		       struct error *err);
	int (*log_disk)(struct move_guest *guest, const void *owner, uint32_t disk, int log_fd,
			struct error *err);
	int (*throttle)(struct move_guest *guest, const void *owner, unsigned int percent,
			struct error *err);
	int (*stop)(struct move_guest *guest, const void *owner, unsigned int deadline_ms,
		    struct error *err);
	int (*save)(struct move_guest *guest, const void *owner, uint16_t version,
		    uint64_t *ret_len, struct error *err);
	int (*cancel)(struct move_guest *guest, const void *owner, struct error *err);
	int (*given)(struct move_guest *guest, const void *owner, const char *peer,
		     uint64_t generation, struct error *err);
	int (*never)(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
		     struct error *err);
	int (*ran)(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
		   const char *where, struct error *err);
	int (*arrive)(struct move_guest *guest, const void *owner,
		      const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
		      struct error *err);
	int (*load)(struct move_guest *guest, const void *owner, uint64_t len, uint64_t stopped_ns,
		    bool rehearse, struct error *err);
	int (*renew)(struct move_guest *guest, const void *owner, struct error *err);
	int (*announce)(struct move_guest *guest, const void *owner, struct error *err);
	bool (*can_demand)(const struct move_guest *guest);
	int (*demand)(struct move_guest *guest, const void *owner, int life, struct error *err);
	int (*filled)(struct move_guest *guest, const void *owner, struct error *err);
	int (*abandon)(struct move_guest *guest, struct error *err);
	int (*commit)(struct move_guest *guest, const void *owner, bool *ret_ran,
		      struct error *err);
	void (*check_upgrade)(struct move_guest *guest, struct problems *problems);
	int (*hand_over)(struct move_guest *guest, const void *owner,
			 const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int succession_fd,
			 int heir_fd, struct error *err);
	int (*give)(struct move_guest *guest, const void *owner, unsigned int deadline_ms,
		    uint16_t version, struct error *err);
	int (*inherit)(struct move_guest *guest, const void *owner,
		       const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int succession_fd,
		       struct error *err);
	int (*take)(struct move_guest *guest, const void *owner, uint64_t len, uint64_t moment_ns,
		    bool *ret_ran, uint64_t *ret_ran_ns, struct error *err);
	int (*wait)(struct move_guest *guest, const void *owner, bool stand, struct error *err);
};
/* move/guest/guest.h's functions. */
extern const struct api_move_ops api_move_guest_ops;

/* What guard, relay and user can ask, each as in protect/guest/guest.h, which is the implementation. Control thread. */
struct api_protect_ops {
	void (*facts)(const struct protect_guest *guest, struct protect_facts *ret_facts);
	void (*check)(struct protect_guest *guest, struct problems *problems);
	int (*begin)(struct protect_guest *guest, const void *owner,
		     const struct ownership_id *session, const char *peer, int shared_fd,
		     int ring_fd, uint64_t *ret_cut, struct error *err);
	int (*collect)(struct protect_guest *guest, const void *owner, uint64_t *ret_pages,
		       struct error *err);
	int (*gate)(struct protect_guest *guest, const void *owner, struct error *err);
	int (*cut)(struct protect_guest *guest, const void *owner, uint64_t epoch,
		   struct protect_cut *ret_cut, struct error *err);
	int (*acked)(struct protect_guest *guest, const struct ownership_id *session,
		     uint64_t epoch, uint64_t at_ns, struct error *err);
	int (*end)(struct protect_guest *guest, const void *owner, const char *why,
		   struct error *err);
	int (*off)(struct protect_guest *guest, struct error *err);
	int (*failover)(struct protect_guest *guest, struct error *err);
	int (*back_up)(struct protect_guest *guest, const void *owner,
		       const struct ownership_id *session, const char *peer, struct error *err);
	int (*whole)(struct protect_guest *guest, const void *owner, uint64_t epoch, bool *ret_ack,
		     struct error *err);
	int (*suspect)(struct protect_guest *guest, const void *owner, const char *why,
		       bool *ret_prepare, struct error *err);
	int (*prepared)(struct protect_guest *guest, const void *owner, struct error *err);
	int (*apply)(struct protect_guest *guest, const void *owner, uint64_t state_len,
		     uint64_t stopped_ns, struct error *err);
	int (*failed)(struct protect_guest *guest, const void *owner, const char *why,
		      struct error *err);
	int (*attach)(struct protect_guest *guest, const void *owner,
		      const struct ownership_record *record, const struct ownership_id *dead,
		      struct ownership_id *ret_me, struct error *err);
	int (*swapped)(struct protect_guest *guest, const void *owner,
		       enum ownership_event_kind outcome, const struct ownership_record *record,
		       struct error *err);
	int (*stands)(struct protect_guest *guest, const void *owner,
		      const struct ownership_record *record, struct error *err);
	void (*by_hand)(struct protect_guest *guest, const void *owner, bool by_hand,
			const char *waits);
	int (*record)(struct protect_guest *guest, const void *owner,
		      const struct ownership_record *record, struct error *err);
	int (*ended)(struct protect_guest *guest, const struct ownership_id *session,
		     struct error *err);
	int (*give)(struct protect_guest *guest, const void *owner, struct error *err);
};
extern const struct api_protect_ops api_protect_guest_ops;

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
	/* `client` (an address, no more) watches from now on; then, that it is gone: it may have watched or not. */
	int (*watch)(void *vm, const void *client, const struct watch_wish *wish,
		     struct error *err);
	int (*step_at)(void *vm, const void *client, const uint64_t *addresses, uint32_t n,
		       struct error *err);
	int (*set_break)(void *vm, const void *client, const struct stop_break *wanted,
			 struct error *err);
	int (*go_on)(void *vm, const void *client, const struct stop_answer *answer,
		     struct error *err);
	void (*forget)(void *vm, const void *client);
	/* What no record tells in the present mode: a line, NULL after the last. */
	const char *(*unseen)(void *vm, unsigned int index);
	/* Whether it may be ended from here: a VM that may run elsewhere may not. */
	int (*may_end)(void *vm, struct error *err);
	/* Asks for the end, which comes after the present turn of the loop. */
	void (*force_stop)(void *vm);
	struct move_guest *(*move_guest)(void *vm);
	const struct api_move_ops *move;
	struct protect_guest *(*protect_guest)(void *vm);
	const struct api_protect_ops *protect;
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

/* Tells one client of a hit of its breakpoint. `device` is the name of the record's. */
void api_server_hit(struct api_server *server, const void *client, const struct stop_hit *hit,
		    const char *device);

/* Tells the mover that move-stop has come to its end; `err` NULL: it stands, for `stopped_ns` by now. */
void api_server_move_stopped(struct api_server *server, const void *client, uint64_t stopped_ns,
			     const struct error *err);

/* Tells who drives an upgrade that handover-give has come to its end; `err` NULL: by `gift`. */
void api_server_given(struct api_server *server, const void *client, const struct move_gift *gift,
		      const struct error *err);

/* Tells the relay which record it shall put where the one of its revision stands. */
void api_server_swap(struct api_server *server, const void *client,
		     const struct ownership_record *want);
/* And another word of these ("arbiter-heard", "arbiter-ended"). */
void api_server_tell_relay(struct api_server *server, const void *client, const char *what,
			   const struct ownership_record *record);
/* Tells a guard one of struct protect_guest_events' words. */
void api_server_tell_guard(struct api_server *server, const void *client, const char *what,
			   bool ran, const char *why);
/* Tells the clients that asked for events of something that has no number: `event` is its name. */
void api_server_changed(struct api_server *server, const char *event, const char *detail);

/* New clients are accepted, or wait. It begins open. */
void api_server_doors(struct api_server *server, bool open);
/* The listening socket, borrowed. */
int api_server_socket(const struct api_server *server);
/* A client that came another way: takes the connected socket. */
void api_server_welcome(struct api_server *server, int fd);

const char *api_vm_state_name(enum api_vm_state state);
