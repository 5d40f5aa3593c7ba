/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a checkpoint costs before any page is copied: the barrier, and the state of vCPUs and devices. Measured on
 * the running VM, so that the load is the guest's own. Control thread. */

#include "vm/save.h"

#define MEASURE_ROUNDS_MAX 10000

struct measure_series {
	uint64_t p50_ns, p99_ns, max_ns;
};

struct measure_result {
	struct measure_series barrier; /* quiesce_begin: until all stand still */
	struct measure_series state;   /* vm_save inside it */
	uint64_t state_bytes;	       /* of the last round */
};

/* `rounds` (1..MEASURE_ROUNDS_MAX) checkpoints without RAM, the guest running 2 ms between two. The VM must run:
 * -ESHUTDOWN otherwise. The control thread does nothing else meanwhile. */
_must_check_ int vm_measure_checkpoint(struct vm *vm, unsigned int rounds, enum vm_save_scope scope,
				       struct measure_result *ret_result, struct error *err);
