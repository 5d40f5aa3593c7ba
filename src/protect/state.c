/* SPDX-License-Identifier: Apache-2.0 */

/* The container of an epoch's state (protect/shared.h). */

#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/endian.h"
#include "protect/shared.h"

#define MAGIC "UPST"
#define FLAGS_AT 6

void protect_state_head(uint8_t head[PROTECT_STATE_HEAD], uint64_t vm_len, uint64_t held_len)
{
	memset(head, 0, PROTECT_STATE_HEAD);
	memcpy(head, MAGIC, 4);
	le_store(head + 4, 2, PROTECT_STATE_VERSION);
	le_store(head + 8, 8, vm_len);
	le_store(head + 16, 8, held_len);
}

void protect_state_set_flags(uint8_t head[PROTECT_STATE_HEAD], uint16_t flags)
{
	le_store(head + FLAGS_AT, 2, flags);
}

uint16_t protect_state_flags(const void *state)
{
	return (uint16_t)le_load((const uint8_t *)state + FLAGS_AT, 2);
}

int protect_state_parts(const void *state, size_t len, struct iovec *ret_vm, struct iovec *ret_held)
{
	struct cursor in = { .data = state, .left = len };
	const uint8_t *magic = cursor_take(&in, 4);
	uint64_t version, flags, vm_len, held_len;

	if (!magic || memcmp(magic, MAGIC, 4) != 0)
		return -EBADMSG;
	version = cursor_take_le(&in, 2);
	flags = cursor_take_le(&in, 2);
	vm_len = cursor_take_le(&in, 8);
	held_len = cursor_take_le(&in, 8);
	if (in.bad || version != PROTECT_STATE_VERSION ||
	    flags & ~(uint64_t)(PROTECT_STATE_OFF | PROTECT_STATE_PARTIAL) || vm_len > in.left ||
	    held_len != in.left - vm_len)
		return -EBADMSG;
	*ret_vm = (struct iovec){ (void *)(uintptr_t)in.data, (size_t)vm_len };
	*ret_held = (struct iovec){ (void *)(uintptr_t)(in.data + vm_len), (size_t)held_len };
	return 0;
}

int protect_held_next(struct iovec *held, struct iovec *ret_section)
{
	struct cursor in = { .data = held->iov_base, .left = held->iov_len };
	const uint64_t len = cursor_take_le(&in, 8);
	const void *section = len <= in.left ? cursor_take(&in, (size_t)len) : NULL;

	if (in.bad || !section || !len)
		return -EBADMSG;
	*ret_section = (struct iovec){ (void *)(uintptr_t)section, (size_t)len };
	*held = (struct iovec){ (void *)(uintptr_t)in.data, in.left };
	return 0;
}
