/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The source's part of --copy-disks: whole disks while the guest writes, then what it wrote meanwhile, the rest once it stands.
 * Everything but source_disks_run takes NULL, which means that no disk is copied.
 */

#include "move/mover/mover.h"

struct source_disks;

/* The phase: passes over all streams until what is left fits into a stop. Works on mover->job->disks; NULL comes back where there are
 * none. `*throttle`: percent that the VM is slowed by, before and after. Errors as of the phases (move/mover/source.c). */
_must_check_ int source_disks_run(struct mover *mover, uint32_t *throttle,
				  struct source_disks **ret_disks);
void source_disks_free(struct source_disks *disks);

/* Between two rounds of memory: what was written since, over stream 0. */
_must_check_ int source_disks_catch_up(struct source_disks *disks);
/* The guest stands: the rest, and the hashes of all. */
_must_check_ int source_disks_finish(struct source_disks *disks);

/* What a stop now would take for them: `*ret_bytes` that are many enough to be judged as memory is, and the time of all else - few bytes
 * that are always being written, which no further round makes fewer, and making durable and reading back there. */
void source_disks_cost(const struct source_disks *disks, uint64_t *ret_bytes, uint64_t *ret_ns);
