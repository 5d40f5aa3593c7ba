/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/bandwidth.h"

void bandwidth_init(struct bandwidth *bandwidth, uint64_t rate)
{
	*bandwidth = (struct bandwidth){ .rate = rate };
	pthread_mutex_init(&bandwidth->lock, NULL);
}

void bandwidth_release(struct bandwidth *bandwidth)
{
	pthread_mutex_destroy(&bandwidth->lock);
}

static uint64_t take_locked(struct bandwidth *bandwidth, uint64_t cost_ns, uint64_t now_ns)
{
	uint64_t earliest = now_ns > BANDWIDTH_BURST_NS ? now_ns - BANDWIDTH_BURST_NS : 0;
	uint64_t start = MAX(bandwidth->next_ns, earliest);

	bandwidth->next_ns = start + cost_ns;
	return start > now_ns ? start - now_ns : 0;
}

uint64_t bandwidth_take(struct bandwidth *bandwidth, uint64_t bytes, uint64_t now_ns)
{
	uint64_t wait;

	if (!bandwidth->rate)
		return 0;
	pthread_mutex_lock(&bandwidth->lock);
	wait = take_locked(bandwidth,
			   (uint64_t)((__uint128_t)bytes * NSEC_PER_SEC / bandwidth->rate), now_ns);
	pthread_mutex_unlock(&bandwidth->lock);
	return wait;
}
