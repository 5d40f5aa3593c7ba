/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/container.h"

#include <errno.h>

#include "base/cleanup.h"
#include "protect/shared.h"
#include "state/merge.h"

void container_init(struct container *container)
{
	buffer_init(&container->before, EPOCH_STATE_MAX);
	buffer_init(&container->on_wire, EPOCH_STATE_MAX);
}

void container_release(struct container *container)
{
	buffer_release(&container->before);
	buffer_release(&container->on_wire);
}

int container_build(struct buffer *out, const struct iovec *vm, const struct iovec *held,
		    uint16_t flags)
{
	uint8_t head[PROTECT_STATE_HEAD];
	int r;

	protect_state_head(head, vm->iov_len, held->iov_len);
	protect_state_set_flags(head, flags);
	out->len = 0;
	r = buffer_append(out, head, sizeof(head));
	if (r == 0)
		r = buffer_append(out, vm->iov_base, vm->iov_len);
	return r < 0 ? r : buffer_append(out, held->iov_base, held->iov_len);
}

static int merge(const struct iovec *older, const struct iovec *changed, const struct iovec *held,
		 uint16_t flags, struct buffer *ret_state)
{
	_cleanup_(buffer_release) struct buffer whole;
	int r;

	buffer_init(&whole, EPOCH_STATE_MAX);
	r = state_merge(&whole, older->iov_base, older->iov_len, changed->iov_base,
			changed->iov_len);
	return r < 0 ? r
		     : container_build(ret_state, &(struct iovec){ whole.data, whole.len }, held,
				       flags);
}

int container_unpack(const struct container *container, struct buffer *came)
{
	struct iovec older, changed, held, unused;
	int r = protect_state_parts(came->data, came->len, &changed, &held);
	struct buffer state;

	if (r < 0 || !(protect_state_flags(came->data) & PROTECT_STATE_PARTIAL))
		return r;
	if (!container->before.len)
		return -EBADMSG;
	r = protect_state_parts(container->before.data, container->before.len, &older, &unused);
	if (r < 0)
		return r;
	buffer_init(&state, EPOCH_STATE_MAX);
	r = merge(&older, &changed, &held,
		  (uint16_t)(protect_state_flags(came->data) & ~PROTECT_STATE_PARTIAL), &state);
	if (r == 0) {
		const struct buffer partial = *came;

		*came = state;
		state = partial;
	}
	buffer_release(&state);
	return r;
}

void container_keep(struct container *container, struct buffer *state)
{
	const struct buffer before = container->before;

	container->before = *state;
	*state = before;
}
