/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The most frequent of any number of keys, in little room (the space-saving algorithm of Metwally, Agrawal and El
 * Abbadi, 2005): a new key takes the place of the rarest and inherits its count, remembered in `over`. Every key with more
 * than 1/TALLY_KEYS of all occurrences is in the table, and its true count is between count - over and count.
 */

#include <stdbool.h>
#include <stdint.h>

#define TALLY_KEYS 64

struct tally_key {
	uint64_t address, instruction;
	uint16_t device;
	uint8_t kind;
};

struct tally_entry {
	struct tally_key key;
	uint64_t count, over;
};

struct tally {
	uint32_t n;
	uint64_t hashes[TALLY_KEYS];
	struct tally_entry entries[TALLY_KEYS];
};

/* Counts one; its place in `entries`, and whether it is new there: what the caller keeps beside it begins anew. */
uint32_t tally_add(struct tally *tally, const struct tally_key *key, bool *ret_new);
/* Writes the places of the `max` most frequent ones, in order; how many. By what is sure: count - over. */
uint32_t tally_top(const struct tally *tally, uint8_t *ret_places, uint32_t max);

static inline bool tally_same(const struct tally_key *a, const struct tally_key *b)
{
	return a->address == b->address && a->instruction == b->instruction &&
	       a->device == b->device && a->kind == b->kind;
}

static inline uint64_t tally_sure(const struct tally_entry *entry)
{
	return entry->count - entry->over;
}
