/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The debugger's socket: one client at a time, of the same user or root. The guest stops when a client comes, and goes on,
 * without breakpoints, when it leaves, however it leaves. Control thread; never waits.
 *
 *   nobody --connects--> joining --guest stands still--> session --detaches, dies, ends--> leaving --> nobody
 *
 * Joining and leaving take longer only while the guest is being reset.
 */

#include "base/loop.h"
#include "vm/vm.h"

struct gdb_server;

struct gdb_server_params {
	struct vm *vm;
	struct loop *loop;
	const struct log *log;
	int listen_fd; /* from gdb_server_listen; ownership passes, also on failure */
	bool wait;     /* the guest does not begin before a client has let it */
	void (*kill)(
		void *ctx); /* GDB's kill: the VM shall end by force after the present turn of the loop */
	/* Why no debugger may come now, a line with the way out; NULL (also the function): one may. */
	const char *(*refuses)(void *ctx);
	void *ctx;
};

/* A listening socket at `path`, mode 0600; one that nobody listens on any more is replaced. Before the sandbox. */
_must_check_ int gdb_server_listen(const char *path, int *ret_fd, struct error *err);

/* Becomes the VM's debugger. Before vm_start; all borrowed things outlive it. */
_must_check_ int gdb_server_new(const struct gdb_server_params *params,
				struct gdb_server **ret_server);
/* After the VM's threads ended. NULL is accepted. */
void gdb_server_free(struct gdb_server *server);

/* The VM has ended: the client is told. NULL is accepted. */
void gdb_server_ended(struct gdb_server *server);

/*
 * A breakpoint of watch/ holds a request of `vcpu`, whose thread waits, obeying the barrier. The client sees `text` (one line)
 * and a stop of that vCPU; `go_on` is called once, on the control thread, when the client lets the vCPU go on or leaves (not when the VM ends).
 * -ENOTCONN: there is no client (or no server: NULL), `go_on` is not called. -EBUSY: this vCPU has such a stop already.
 */
_must_check_ int gdb_stopped_on_request(struct gdb_server *server, uint32_t vcpu, const char *text,
					void (*go_on)(void *ctx), void *ctx);
