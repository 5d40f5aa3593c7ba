/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/vcpu_time.h"

#include <string.h>
#include <x86intrin.h>

void vcpu_time_write(struct ring *ring, const clockid_t *clocks, uint32_t n)
{
	uint64_t owner;

	if (!ring_has_room(ring, n, &owner))
		return;
	for (uint32_t i = 0; i < n; i++) {
		struct watch_record *record;
		struct timespec used;

		if (clock_gettime(clocks[i], &used) < 0)
			continue;
		record = ring_begin(ring);
		memset(&record->begin, 0, sizeof(*record) - offsetof(struct watch_record, begin));
		record->kind = RECORD_VCPU;
		record->begin = __rdtsc();
		record->data = (uint64_t)used.tv_sec * NSEC_PER_SEC + (uint64_t)used.tv_nsec;
		record->source = (uint16_t)i;
		record->device = STORE_NO_DEVICE;
		ring_commit(ring);
	}
}
