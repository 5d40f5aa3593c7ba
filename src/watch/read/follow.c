/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/follow.h"

#include <errno.h>
#include <sys/random.h>

#include "base/clock.h"

uint64_t follow_new_token(void)
{
	uint64_t token = 0;

	if (getrandom(&token, sizeof(token), 0) != sizeof(token))
		token = clock_now(&clock_host);
	return token | 1;
}

static bool replace(uint64_t *value, uint64_t expected, uint64_t wanted)
{
	return __atomic_compare_exchange_n(value, &expected, wanted, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

int follow_begin(struct ring_header *header, uint64_t token, struct follow *ret_follow)
{
	for (unsigned int i = 0; i < STORE_FOLLOWERS; i++) {
		struct ring_follower *slot = &header->followers[i];
		uint64_t head;

		if (!replace(&slot->owner, 0, token))
			continue;
		head = __atomic_load_n(&header->head, __ATOMIC_ACQUIRE);
		__atomic_store_n(&slot->tail, head, __ATOMIC_SEQ_CST);
		*ret_follow = (struct follow){ slot, token, head };
		return 0;
	}
	return -EBUSY;
}

bool follow_advance(struct follow *follow, uint64_t tail)
{
	struct ring_follower *slot = follow->slot;

	/* Who has the slot after us has told a tail of its own: only ours is moved. */
	if (__atomic_load_n(&slot->owner, __ATOMIC_ACQUIRE) != follow->token ||
	    (tail != follow->told && !replace(&slot->tail, follow->told, tail))) {
		follow_end(follow);
		return false;
	}
	follow->told = tail;
	return true;
}

void follow_end(struct follow *follow)
{
	if (!follow->slot)
		return;
	/* The next one takes the slot before it tells its tail: until then ours must hold nobody up. */
	(void)replace(&follow->slot->tail, follow->told, UINT64_MAX);
	(void)replace(&follow->slot->owner, follow->token, 0);
	follow->slot = NULL;
}
