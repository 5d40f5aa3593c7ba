/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A VM in the words of both hosts: what the source tells of it, and what the destination makes of that. Everything that
 * stands against a move is found before anything is changed, and all of it is told. Any thread; they take milliseconds, but for
 * hashing a large initial RAM disk.
 */

#include "base/error.h"
#include "peer/lists.h"
#include "peer/request.h"

/* Lines for people that forbid nothing: what a move will not keep. */
#define NOTES_MAX 16
struct notes {
	size_t count;
	char list[NOTES_MAX][ERROR_MESSAGE_MAX];
};
void notes_add(struct notes *notes, const char *format, ...) _printf_(2, 3);

/* Source. From the configuration as JSON (move_facts). Paths of kernel and initrd are left in `*ret_kernel`, `*ret_initrd` (free()
 * them). Problems are added. */
void machine_describe(int state_fd, const struct lists *lists, const char *config,
		      struct peer_machine *ret_machine, char **ret_kernel, char **ret_initrd,
		      struct problems *problems, struct notes *notes);

/* Destination. All that stands against taking it here. */
void machine_check(const struct lists *lists, const struct peer_machine *machine,
		   const char *source, struct problems *problems);
/* Destination. This host's disk into which that of the VM is to be copied; NULL: it is the same one on both hosts. */
const struct list_disk *machine_copied_disk(const struct lists *lists,
					    const struct peer_machine *machine, uint32_t index);

/* Destination. The configuration in this host's paths, in place; `kernel`, `initrd`: paths here, or NULL. Taps for bridges have names
 * made of the token. -ENOMEM; -ENOENT: a name is not in the lists. */
_must_check_ int machine_localise(const struct lists *lists, struct vm_config *config,
				  const char *token, const char *kernel, const char *initrd);
/* Puts the taps that the VM's process made into their bridges. */
_must_check_ int machine_join_bridges(const struct lists *lists, const struct peer_machine *machine,
				      const char *token, struct error *err);
