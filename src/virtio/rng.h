/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The virtio entropy device (virtio 1.2, 5.4), fed by getrandom(2), at most 64 KiB in 100 ms: a guest that
 * asks for more waits, and cannot keep a host CPU busy with it. */

#include "virtio/virtio.h"

_must_check_ int virtio_rng_new(const struct virtio_host *host, struct device **ret_device,
				struct error *err);
