/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/pace.h"

#include "base/macros.h"

#define AUTO_MIN_NS (10 * NSEC_PER_MSEC)
#define AUTO_MAX_NS (100 * NSEC_PER_MSEC)
#define AUTO_SHARE 8  /* the guest runs so many times as long as it costs to save it */
#define LEAST_SHARE 4 /* of the latency: where the rest does not fit, the guest still runs */
#define LEAST_NS NSEC_PER_MSEC

void pace_init(struct pace *pace, uint64_t latency_ns)
{
	*pace = (struct pace){ .latency_ns = latency_ns };
}

static void smooth(uint64_t *value, uint64_t now)
{
	*value = *value ? (*value * 3 + now) / 4 : now;
}

void pace_note(struct pace *pace, uint64_t pause_ns, uint64_t send_ns)
{
	smooth(&pace->pause_ns, pause_ns);
	smooth(&pace->send_ns, send_ns);
}

void pace_note_ack(struct pace *pace, uint64_t ack_ns)
{
	smooth(&pace->ack_ns, ack_ns);
}

uint64_t pace_interval(const struct pace *pace, bool idle)
{
	const uint64_t cost_ns = pace->pause_ns + pace->send_ns;
	const uint64_t limit_ns = pace->latency_ns;

	if (!limit_ns)
		return idle ? AUTO_MAX_NS
			    : MAX(AUTO_MIN_NS, MIN(AUTO_MAX_NS, AUTO_SHARE * cost_ns));
	return MAX(MAX(limit_ns / LEAST_SHARE, LEAST_NS),
		   limit_ns - MIN(limit_ns, cost_ns + pace->ack_ns));
}
