/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "protect/guard/container.h"
#include "protect/shared.h"
#include "state/merge.h"

static int pack_partial(struct container *container, const struct iovec *older,
			const struct iovec *newer, const struct iovec *held, uint16_t flags)
{
	_cleanup_(buffer_release) struct buffer changed;
	int r;

	buffer_init(&changed, EPOCH_STATE_MAX);
	r = state_diff(&changed, older->iov_base, older->iov_len, newer->iov_base, newer->iov_len);
	return r < 0 ? r
		     : container_build(&container->on_wire,
				       &(struct iovec){ changed.data, changed.len }, held,
				       flags | PROTECT_STATE_PARTIAL);
}

static int pack_whole(struct container *container, const void *state, size_t len)
{
	container->on_wire.len = 0;
	return buffer_append(&container->on_wire, state, len);
}

static int remember(struct container *container, const void *state, size_t len)
{
	container->before.len = 0;
	return buffer_append(&container->before, state, len);
}

int container_pack(struct container *container, const void *state, size_t len)
{
	struct iovec older = { 0 }, newer, held, unused;
	int r = protect_state_parts(state, len, &newer, &held);

	if (r == 0 && container->before.len)
		r = protect_state_parts(container->before.data, container->before.len, &older,
					&unused);
	if (r < 0)
		return r;
	r = container->before.len
		    ? pack_partial(container, &older, &newer, &held, protect_state_flags(state))
		    : -ENOENT;
	if (r == -ENOENT)
		r = pack_whole(container, state, len);
	return r < 0 ? r : remember(container, state, len);
}
