/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A byte stream between a console device and the world. The device calls write; the world's side calls
 * `received` (set by the device) when bytes have come. Both ways are bounded: what does not fit is not
 * taken, and the other side is told when there is room again.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct stream {
	/* Device -> world. Any thread; takes as much as there is room for and returns the count (>= 0). */
	size_t (*write)(struct stream *stream, const void *buf, size_t len);
	/* Device -> world: whether what `write` did not take waits for leave (device/stream_hold.h), not for a reader: then a device drops
	 * nothing, however long it takes. NULL: no. Any thread. */
	bool (*waits_for_leave)(struct stream *stream);
	/* World -> device: set by the device before the guest runs. Called on the control loop; returns how
	 * many bytes the device took; the rest is offered again after `ready`. Touches no guest RAM. */
	size_t (*received)(void *ctx, const void *buf, size_t len);
	/* World -> device: set by the device (or NULL: it does not care). Called on the control loop, never
	 * from inside `write`, when there is room again after `write` took less than it was given. */
	void (*writable)(void *ctx);
	void *ctx; /* of received and writable */
	/* Device -> world: the device has room again. Any thread, the device's lock held: only posts. */
	void (*ready)(struct stream *stream);
};
