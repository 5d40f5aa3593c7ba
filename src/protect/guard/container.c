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

/* The head in `out`, which has room for it since it was begun, and the held part behind the VM's. */
static int finish(struct buffer *out, uint16_t flags, const struct iovec *held)
{
	const size_t vm_len = out->len - PROTECT_STATE_HEAD;
	int r = buffer_append(out, held->iov_base, held->iov_len);

	if (r < 0)
		return r;
	protect_state_head(out->data, vm_len, held->iov_len);
	protect_state_set_flags(out->data, flags);
	return 0;
}

static int start(struct buffer *out)
{
	const uint8_t head[PROTECT_STATE_HEAD] = { 0 };

	out->len = 0;
	return buffer_append(out, head, sizeof(head));
}

/* Behind what is in `out` already. */
static int append_piece(struct buffer *out, const struct buffer *piece)
{
	return buffer_append(out, piece->data, piece->len);
}

/* ---- owner ---- */

static int pack_partial(struct container *container, const struct iovec *older,
			const struct iovec *newer, const struct iovec *held, uint16_t flags)
{
	_cleanup_(buffer_release) struct buffer changed;
	int r;

	buffer_init(&changed, EPOCH_STATE_MAX);
	r = state_diff(&changed, older->iov_base, older->iov_len, newer->iov_base, newer->iov_len);
	if (r == 0)
		r = start(&container->on_wire);
	if (r == 0)
		r = append_piece(&container->on_wire, &changed);
	return r < 0 ? r : finish(&container->on_wire, flags | PROTECT_STATE_PARTIAL, held);
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

/* ---- backup ---- */

static int merge(const struct iovec *older, const struct iovec *changed, const struct iovec *held,
		 uint16_t flags, struct buffer *ret_state)
{
	_cleanup_(buffer_release) struct buffer whole;
	int r;

	buffer_init(&whole, EPOCH_STATE_MAX);
	r = state_merge(&whole, older->iov_base, older->iov_len, changed->iov_base,
			changed->iov_len);
	if (r == 0)
		r = start(ret_state);
	if (r == 0)
		r = append_piece(ret_state, &whole);
	return r < 0 ? r : finish(ret_state, flags, held);
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
