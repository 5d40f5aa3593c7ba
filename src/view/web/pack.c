/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An entry: | mask of words that differ, 4 bytes | key, 1 byte | ring, 1 byte | 0 | the words, each XOR its like |
 *
 * The like of a record is the last one of the same key: a hash of ring, address and direction, which mostly means the
 * same instruction again. Sequence numbers count up by ring, so they are compared with the next one expected.
 */
#include "view/web/pack.h"

#include <string.h>

#include "base/macros.h"

#define WORDS (sizeof(struct watch_record) / sizeof(uint64_t))
_Static_assert(WORDS == 32, "the mask has a bit for each word");

struct pack_entry {
	uint32_t mask;
	uint8_t key, ring, reserved[2];
};
_Static_assert(sizeof(struct pack_entry) + sizeof(struct watch_record) == PACK_ENTRY_MAX,
	       "as said");

/* What both directions know of the records before. */
struct pack_past {
	uint16_t like[256];	/* index of the last record with this key, + 1 */
	uint64_t sequence[256]; /* the last one of this ring */
};

static uint8_t key_of(const struct watch_record *record, uint8_t ring)
{
	uint64_t mixed = record->address * 0x9e3779b97f4a7c15ULL;

	return (uint8_t)((mixed >> 56) ^ ring * 31 ^ record->flags * 7 ^ record->kind);
}

/* Word by word: what the record is expected to be. */
static void expect(const struct pack_past *past, const struct watch_record *records, uint8_t key,
		   uint8_t ring, uint64_t ret_words[WORDS])
{
	if (past->like[key])
		memcpy(ret_words, &records[past->like[key] - 1], sizeof(struct watch_record));
	else
		memset(ret_words, 0, sizeof(struct watch_record));
	ret_words[0] = past->sequence[ring] + 1;
}

static void remember(struct pack_past *past, const struct watch_record *records, uint32_t index,
		     uint8_t key, uint8_t ring)
{
	past->like[key] = (uint16_t)(index + 1);
	past->sequence[ring] = records[index].sequence;
}

size_t pack_records(const struct watch_record *records, const uint8_t *rings, uint32_t n,
		    uint8_t *ret_bytes)
{
	struct pack_past past = { 0 };
	uint8_t *at = ret_bytes;

	for (uint32_t i = 0; i < n; i++) {
		struct pack_entry entry = { .key = key_of(&records[i], rings[i]),
					    .ring = rings[i] };
		uint64_t expected[WORDS], words[WORDS];
		uint8_t *start = at;

		expect(&past, records, entry.key, entry.ring, expected);
		memcpy(words, &records[i], sizeof(words));
		at += sizeof(entry);
		for (unsigned int w = 0; w < WORDS; w++) {
			uint64_t differs = words[w] ^ expected[w];

			if (!differs)
				continue;
			entry.mask |= 1U << w;
			memcpy(at, &differs, sizeof(differs));
			at += sizeof(differs);
		}
		memcpy(start, &entry, sizeof(entry));
		remember(&past, records, i, entry.key, entry.ring);
	}
	return (size_t)(at - ret_bytes);
}

void unpack_records(const uint8_t *bytes, uint32_t n, struct watch_record *ret_records)
{
	struct pack_past past = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		struct pack_entry entry;
		uint64_t words[WORDS];

		memcpy(&entry, bytes, sizeof(entry));
		bytes += sizeof(entry);
		expect(&past, ret_records, entry.key, entry.ring, words);
		for (uint32_t mask = entry.mask; mask; mask &= mask - 1) {
			uint64_t differs;

			memcpy(&differs, bytes, sizeof(differs));
			bytes += sizeof(differs);
			words[__builtin_ctz(mask)] ^= differs;
		}
		memcpy(&ret_records[i], words, sizeof(words));
		remember(&past, ret_records, i, entry.key, entry.ring);
	}
}
