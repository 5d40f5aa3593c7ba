/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The virtio block device (virtio 1.2, 5.2): one worker and one block queue per virtqueue. */

#include "block/block.h"
#include "virtio/virtio.h"

struct virtio_blk_params {
	unsigned int index;  /* names the device "virtio-blk.<index>" */
	struct block *block; /* ownership passes on success */
	const char *serial;  /* at most LIMIT_SERIAL bytes; NULL: none */
	unsigned int queues; /* 1..LIMIT_QUEUES */
};

_must_check_ int virtio_blk_new(const struct virtio_host *host,
				const struct virtio_blk_params *params, struct device **ret_device,
				struct error *err);
