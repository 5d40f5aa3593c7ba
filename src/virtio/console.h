/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The virtio console (virtio 1.2, 5.3): one port, bytes to and from a `stream`.
 *
 *   control loop: stream->received -> input (bounded, device.lock) -event-> worker: receive queue
 *   worker: transmit queue -> stream->write
 *
 * A reader that takes nothing for a second loses output: a guest that waits for its console must not hang
 * with it. Input that the guest does not take is kept (4 KiB), also over a reset and in saved state.
 */

#include "device/stream.h"
#include "virtio/virtio.h"

/* `stream` is borrowed and outlives the device; its `received`, `writable` and `ctx` are set here. */
_must_check_ int virtio_console_new(const struct virtio_host *host, struct stream *stream,
				    struct device **ret_device, struct error *err);
