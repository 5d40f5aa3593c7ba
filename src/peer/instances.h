/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which instances of a VM (protect/ownership.h) were processes of this host: STATE/arbiter/UUID.instances. An instance is noted, durably,
 * before the record may name it. Whether its process has ended can then be said for certain, also after a crash of the host:
 * in its place a start from the disks may come. The last few are kept. Any thread.
 */

#include <sys/types.h>

#include "base/error.h"
#include "base/uuid.h"
#include "protect/ownership.h"

enum instance_state {
	INSTANCE_UNKNOWN, /* of another host, or too long ago */
	INSTANCE_LIVES,
	INSTANCE_DEAD,
};

/* `pid`, `start`: peer/process.h. Nothing is written for one that is noted already. */
_must_check_ int instances_note(int state_fd, const char uuid[UUID_TEXT],
				const struct ownership_id *id, pid_t pid, uint64_t start);
/* By a person's word: this instance has ended, wherever it was. */
_must_check_ int instances_bury(int state_fd, const char uuid[UUID_TEXT],
				const struct ownership_id *id);
_must_check_ int instances_look(int state_fd, const char uuid[UUID_TEXT],
				const struct ownership_id *id, enum instance_state *ret_state);
