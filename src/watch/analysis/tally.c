/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/analysis/tally.h"

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 29;
}

static uint64_t hash_of(const struct tally_key *key)
{
	return mix(mix(key->address, key->instruction), (uint64_t)key->device << 8 | key->kind);
}

static uint32_t rarest(const struct tally *tally)
{
	uint32_t found = 0;

	for (uint32_t i = 1; i < tally->n; i++)
		if (tally->entries[i].count < tally->entries[found].count)
			found = i;
	return found;
}

uint32_t tally_add(struct tally *tally, const struct tally_key *key, bool *ret_new)
{
	uint64_t hash = hash_of(key), inherited = 0;
	uint32_t place = tally->n;

	*ret_new = false;
	for (uint32_t i = 0; i < tally->n; i++)
		if (tally->hashes[i] == hash && tally_same(&tally->entries[i].key, key)) {
			tally->entries[i].count++;
			return i;
		}
	*ret_new = true;
	if (tally->n < TALLY_KEYS) {
		tally->n++;
	} else {
		place = rarest(tally);
		inherited = tally->entries[place].count;
	}
	tally->hashes[place] = hash;
	tally->entries[place] =
		(struct tally_entry){ .key = *key, .count = inherited + 1, .over = inherited };
	return place;
}

uint32_t tally_top(const struct tally *tally, uint8_t *ret_places, uint32_t max)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < tally->n; i++) {
		uint32_t at = n < max ? n++ : max;

		/* Insertion: those below move down, the last one out. */
		for (; at > 0 && tally_sure(&tally->entries[ret_places[at - 1]]) <
					 tally_sure(&tally->entries[i]);
		     at--)
			if (at < max)
				ret_places[at] = ret_places[at - 1];
		if (at < max)
			ret_places[at] = (uint8_t)i;
	}
	return n;
}
