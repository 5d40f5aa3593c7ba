/* SPDX-License-Identifier: Apache-2.0 */
/* covers: protect/state.c */
/* An epoch's state as a peer sends it: what is found lies within it, and is all of it. */
#include <stdlib.h>
#include <string.h>

#include "protect/shared.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct iovec held)
{
	const uint8_t *end = (const uint8_t *)held.iov_base + held.iov_len;
	struct iovec section;

	while (protect_held_next(&held, &section) == 0) {
		const uint8_t *last = (const uint8_t *)section.iov_base + section.iov_len;

		if (!section.iov_len || last != held.iov_base || last + held.iov_len != end)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t head[PROTECT_STATE_HEAD];
	struct iovec vm, held;

	if (protect_state_parts(data, size, &vm, &held) < 0)
		return 0;
	if (vm.iov_base != data + PROTECT_STATE_HEAD ||
	    held.iov_base != data + PROTECT_STATE_HEAD + vm.iov_len ||
	    PROTECT_STATE_HEAD + vm.iov_len + held.iov_len != size)
		abort();
	protect_state_head(head, vm.iov_len, held.iov_len);
	protect_state_set_flags(head, protect_state_flags(data));
	if (memcmp(head, data, sizeof(head)) != 0)
		abort();
	walk(held);
	return 0;
}
