/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A mover's link to the VM beside it, over the VM's socket (api/request.h has the table of what is said). */

#include "api/client.h"
#include "move/link.h"

/* How long a living VM may take for what makes it write to a disk, or save or load all its state. */
#define MOVE_LINK_WORK_MS 60000

/* Takes `fd`, connected to the VM's socket (also on failure). `name` is for messages. Free it with link->ops->free: a move that was
 * begun and not yet given is then undone by the VM. Before the sandbox closes: it asks the kernel who the VM's process is. */
_must_check_ int move_link_new(int fd, const char *name, struct move_link **ret_link);
/* The same over a connection that did not come by the VM's socket. `process` is a pidfd of whoever ends when the VM's process does; it is
 * taken, too. */
_must_check_ int move_link_new_to(int fd, int process, const char *name,
				  struct move_link **ret_link);
/* For who asks more of the same VM over the same connection. Borrowed; of a link that one of these made. */
struct api_connection *move_link_connection(struct move_link *link);
