/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether two hosts mean the same disk. Looks only. Any thread. */

#include "base/error.h"
#include "peer/request.h"

/* What tells this disk from others, as this host sees it. Negative errno when it cannot be opened, or is no disk. */
_must_check_ int disk_look(const char *path, struct peer_disk *ret_disk);

/* Whether somebody else holds a lock of it, as a running VM does. */
bool disk_is_locked(int fd);
/* Mounted, or another VM's of this host. */
bool disk_is_in_use(const char *path);

/*
 * Judges this host's disk `name` at `path` against what the other host said of the one that its VM has: 0, or an error. A device is
 * the same by its WWN, NGUID or serial, and where neither side has one by the lists' word and its size; a file is the same when the
 * lock that the running VM holds is seen here.
 */
_must_check_ int disk_compare(const char *name, const char *path, const struct peer_disk *theirs,
			      bool readonly, struct error *err);
