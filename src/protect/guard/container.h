/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An epoch's state on its way (protect/shared.h has its container): what the backup has of the epoch before is not sent again. A device that the guest
 * leaves alone costs nothing then. While the guest runs; one thread.
 */

#include <sys/uio.h>

#include "base/buffer.h"

struct container {
	struct buffer before;  /* of the last whole epoch, all of it */
	struct buffer on_wire; /* owner: what is sent of this one */
};

void container_init(struct container *container);
void container_release(struct container *container);

/* Owner: `state` is what its VM left. What is to be sent is in container->on_wire; from now on it is `before`. After an error nothing more can be
 * packed. -EBADMSG, -ENOMEM, -E2BIG. */
_must_check_ int container_pack(struct container *container, const void *state, size_t len);

/* Backup: `came` (a peer's bytes) becomes all of the state, in place; it is `before` once the caller says so by container_keep. -EBADMSG, -ENOMEM, -E2BIG. */
_must_check_ int container_unpack(const struct container *container, struct buffer *came);
/* Swaps `state` with `before`. */
void container_keep(struct container *container, struct buffer *state);

/* Makes a container of its parts in `out`, over what is there. -ENOMEM, -E2BIG. */
_must_check_ int container_build(struct buffer *out, const struct iovec *vm,
				 const struct iovec *held, uint16_t flags);
