/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Disks that are copied by a move, opened for its movers. Any thread. */

#include "peer/disk.h"
#include "peer/lists.h"

/*
 * Destination: judges this host's disk as the place of a copy of `theirs`: of the same size (or an empty file), in nobody's use, not
 * the very disk that the VM has, with room enough, and empty - unless the list says that what it holds may be lost, or
 * `incomplete`, that it is the rest of such a copy. Looks only. 0, or an error with the way out.
 */
_must_check_ int disk_copy_judge(const struct list_disk *here, const struct peer_disk *theirs,
				 bool incomplete, struct error *err);
/* Opens it to be written, locks it so that nobody else has it as long as that or a copy of it is open, and gives an empty file its
 * size. */
_must_check_ int disk_copy_open(const struct list_disk *here, const struct peer_disk *theirs,
				int *ret_fd, struct error *err);

/* Source: opens the disk of a running VM anew, to be read: -ESTALE when what is at `path` now is not what the VM has. */
_must_check_ int disk_copy_read(const char *path, int *ret_fd, struct error *err);
