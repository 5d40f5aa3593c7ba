/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The virtio console (virtio 1.2, 5.3): one port, bytes to and from a `stream`. */

#include "device/stream.h"
#include "virtio/virtio.h"

_must_check_ int virtio_console_new(const struct virtio_host *host, struct stream *stream,
				    struct device **ret_device, struct error *err);
