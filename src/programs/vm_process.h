/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The process around one VM: its control loop, sockets, signals and terminal. One per process. */

#include "api/launch.h"
#include "api/server.h"
#include "debug/gdb_server.h"
#include "host/handed.h"
#include "move/guest/guest.h"
#include "protect/guest/guest.h"
#include "vm/vm.h"
#include "watch/stop.h"

struct vm_process {
	struct launch launch; /* configuration, name, who waits for our first word */
	struct log log;
	struct loop *loop;
	struct vm_resources resources;
	struct vm *vm;
	int store_fd; /* of watched requests */
	struct monitor *monitor;
	struct stop *stop;
	struct gdb_server *gdb;	 /* NULL: none was asked for */
	const void *break_owner; /* of the request that the debugger was last told of */
	struct move_guest *move;
	struct protect_guest *protect;
	int uffd;	  /* for memory that comes while the VM runs; -1: none */
	char holders[96]; /* text of the last status */
	struct api_server *server;
	struct loop_watch signals;
	struct loop_timer force; /* a second way to end, when the guest ignores the power button */
	bool asked_to_end;	 /* by a signal or the escape key */
	int no_huge_file;      /* why the guest's RAM has none; 0: it has, or none was asked for */
	uint64_t signalled_ns; /* when a signal last counted; 0: never */
	int pty, pty_slave;    /* -1: none */
	char pty_path[128];
	uint64_t started_ns;
	struct handed *
		handed; /* from the process whose place this one takes; NULL: none, or all of it was taken */
	uint64_t inherited_start_ns; /* the guest's, there */
	enum exit_status status;     /* what the process ends with */
};

#define RUNTIME_VIRTIO_CONSOLE "console-virtio"

/* The API's table for `struct vm_process`. */
extern const struct api_vm_ops vm_process_ops;
struct stop_events vm_process_stop_events(struct vm_process *process);
struct vm_events vm_process_events(struct vm_process *process);

/* The VM's part in moves; with launch.incoming it stands until it is loaded. Before the VM runs. */
_must_check_ int vm_process_make_move(struct vm_process *process);
struct move_guest *vm_process_move_guest(void *process);
/* For whoever would end the VM: -EBUSY while it may run elsewhere, and is not known to. */
int vm_process_may_end(void *process, struct error *err);

/* vm_protect.c: the VM's part in its protection. Before the VM runs. */
_must_check_ int vm_process_make_protect(struct vm_process *process);
struct protect_guest *vm_process_protect_guest(void *process);
/* What of it forbids a move, a save and an upgrade. */
void vm_process_check_protect(void *process, struct problems *problems);
/* By its guest's will or its user's: true when it must wait until the record says so. */
bool vm_process_ends_later(void *process);
/* For its status; NULL: there is no record. */
const char *vm_process_protection(const struct vm_process *process);

/* vm_handover.c: an upgrade. The process that runs the VM: see struct move_guest_events. */
void vm_process_check_upgrade(void *process, struct problems *problems);
_must_check_ int vm_process_hand_over(void *process, int sock);
void vm_process_doors(void *process, bool open);
void vm_process_taken(void *process);
/* Ends the process, and touches nothing of the VM: it is another's. */
void vm_process_leave_at_once(struct vm_process *process, const char *why)
	__attribute__((noreturn));

/* The process that takes its place, in this order. What comes, if anything does: */
_must_check_ int vm_process_receive(struct vm_process *process, struct error *err);
/* One descriptor of it; negative errno when it did not come. */
_must_check_ int vm_process_take(struct vm_process *process, enum handed_kind kind,
				 const char *what, struct error *err);
/* The store of requests, -1: one must be made. */
int vm_process_take_store(struct vm_process *process);
void vm_process_take_pty(struct vm_process *process);
/* With its server made: waits for who drives the upgrade, and for nobody else. */
_must_check_ int vm_process_begin_heir(struct vm_process *process, struct error *err);
void vm_process_forget_handed(struct vm_process *process);

/* Listens for a debugger, if the configuration says so. */
_must_check_ int vm_process_open_gdb(struct vm_process *process, struct error *err);
/* A request stands at a breakpoint: the debugger, if there is one, sees it too. */
void vm_process_tell_gdb(struct vm_process *process, const void *owner, const struct stop_hit *hit);

/* Opens the consoles that the configuration asks for; the terminal is made raw when it is the console. */
_must_check_ int vm_process_open_consoles(struct vm_process *process, struct error *err);
/* Watches for signals that ask for an end: the first presses the power button, the second forces. Signals within one
 * second of the first are one. */
_must_check_ int vm_process_watch_signals(struct vm_process *process);
/* As a signal does. */
void vm_process_ask_for_end(struct vm_process *process);
