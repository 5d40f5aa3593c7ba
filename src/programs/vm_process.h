/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The process around one VM: its control loop, sockets, signals and terminal. One per process. */

#include "api/launch.h"
#include "api/server.h"
#include "vm/vm.h"

struct vm_process {
	struct launch launch; /* configuration, name, who waits for our first word */
	struct log log;
	struct loop *loop;
	struct vm_resources resources;
	struct vm *vm;
	struct api_server *server;
	struct loop_watch signals;
	struct loop_timer force; /* a second way to end, when the guest ignores the power button */
	bool asked_to_end;	 /* by a signal or the escape key */
	uint64_t signalled_ns;	 /* when a signal last counted; 0: never */
	int pty, pty_slave;	 /* -1: none */
	char pty_path[128];
	uint64_t started_ns;
	enum exit_status status; /* what the process ends with */
};

#define RUNTIME_VIRTIO_CONSOLE "console-virtio"

/* The API's table for `struct vm_process`. */
extern const struct api_vm_ops vm_process_ops;
struct vm_events vm_process_events(struct vm_process *process);

/* Opens the consoles that the configuration asks for; the terminal is made raw when it is the console. */
_must_check_ int vm_process_open_consoles(struct vm_process *process, struct error *err);
/* Watches for signals that ask for an end: the first presses the power button, the second forces. Signals within one
 * second of the first are one. */
_must_check_ int vm_process_watch_signals(struct vm_process *process);
/* As a signal does. */
void vm_process_ask_for_end(struct vm_process *process);
