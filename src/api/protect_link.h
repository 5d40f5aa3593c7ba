/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A guard's link to the VM beside it, over the VM's socket (api/request.h has the table of what is said). */

#include "protect/link.h"

/*
 * Takes both descriptors, connected to the VM's socket (also on failure). `ack_fd`: what is acknowledged goes there, so that it waits for no cut;
 * -1 at a backup. `name` is for messages. Its end is the end of the copy. Before the sandbox closes.
 */
_must_check_ int protect_link_new(int fd, int ack_fd, const char *name,
				  struct protect_link **ret_link);
