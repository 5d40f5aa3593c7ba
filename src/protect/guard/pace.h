/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How long the guest runs between two epochs. What it says right behind a cut leaves after all of it:
 *
 *   cut | interval ... | pause | sending | way of the acknowledgement | leaves
 */

#include <stdbool.h>
#include <stdint.h>

struct pace {
	uint64_t latency_ns; /* the longest that output shall be held; 0: as it turns out */
	/* Of the last epochs, smoothed. */
	uint64_t pause_ns, send_ns, ack_ns;
};

void pace_init(struct pace *pace, uint64_t latency_ns);
/* What an epoch took; 0 where it is not known. */
void pace_note(struct pace *pace, uint64_t pause_ns, uint64_t send_ns);
void pace_note_ack(struct pace *pace, uint64_t ack_ns);
/* `idle`: nothing waits to leave, and hardly anything was written. */
uint64_t pace_interval(const struct pace *pace, bool idle);
