/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What save.c and load.c share: the sections that belong to no device. */

#include "base/limits.h"
#include "vm/save.h"

#define SECTION_MACHINE "machine"
#define SECTION_CLOCK "clock"
#define SECTION_VCPU "vcpu." /* and its number */

/* kvmclock as the guest sees it. Saved at the snapshot's moment; loading adds the time that the guest stood
 * still, by the target's own monotonic clock: no wall clock is asked (invariant 13). */
struct clock_state {
	uint64_t nanoseconds;
	uint64_t
		moment_ns; /* the saver's monotonic clock then, for a loader on the same host; 0: not told */
};
extern const struct state_table vm_clock_table;

/* What each vCPU's thread came to, in an array for all of them. */
struct vcpu_result {
	int code; /* negative errno */
	struct error err;
};

static inline void vcpu_section_name(char ret_name[LIMIT_STATE_NAME], uint32_t index)
{
	snprintf(ret_name, LIMIT_STATE_NAME, SECTION_VCPU "%u", index);
}

/* The first failure among the vCPUs, by its number. */
_must_check_ int vcpu_results(const struct vm *vm, const struct vcpu_result results[],
			      struct error *err);
