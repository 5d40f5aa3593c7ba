/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a checkpoint costs before any page is copied: the barrier, and the state of vCPUs and devices. Measured on
 * the running VM, so that the load is the guest's own. Control thread. */

#include "vm/save.h"

#define MEASURE_ROUNDS_MAX 1000

struct measure_series {
	uint64_t p50_ns, p99_ns, max_ns;
};

struct measure_request {
	unsigned int rounds; /* 1..MEASURE_ROUNDS_MAX */
	enum vm_save_scope scope;
	bool dirty; /* log the guest's writes meanwhile, and collect them in each round */
};

struct measure_result {
	struct measure_series barrier; /* quiesce_begin: until all stand still */
	struct measure_series state;   /* vm_save inside it */
	struct measure_series collect; /* memory_dirty_collect inside it; 0 without `dirty` */
	uint64_t dirty_pages;	       /* found in all rounds; of 4 KiB */
	uint64_t state_bytes;	       /* of the last round */
};

/* Checkpoints without RAM, the guest running 2 ms between two. The VM must run: -ESHUTDOWN otherwise. The control
 * thread does nothing else meanwhile. */
_must_check_ int vm_measure_checkpoint(struct vm *vm, const struct measure_request *request,
				       struct measure_result *ret_result, struct error *err);
