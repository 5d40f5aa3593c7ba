/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "protect/intent_internal.h"

#define SUM_AT (STORAGE_SECTOR - 8)

static const uint8_t magic[8] = "UTSUINTE";

/* After the manner of FNV-1a, over words: against damage, not against who wants to deceive, who could write the map itself. */
static uint64_t sum_of(const uint8_t *bytes, size_t len, uint64_t seed)
{
	uint64_t sum = 0xcbf29ce484222325ULL ^ seed;

	for (size_t i = 0; i < len; i += 8) {
		sum = (sum ^ le_load(bytes + i, 8)) * 0x100000001b3ULL;
		sum ^= sum >> 29; /* else high bits would reach high bits only */
	}
	return sum;
}

uint64_t intent_bytes(uint64_t disk_bytes)
{
	return INTENT_SECTORS_AT + intent_sectors(disk_bytes) * STORAGE_SECTOR;
}

int intent_head_judge(const struct intent_head *head, uint64_t file_bytes, struct error *err)
{
	const char *why = NULL;

	if (head->disk_bytes == 0 || head->disk_bytes > LIMIT_MIRRORED_DISK)
		why = "a disk of that size cannot be mirrored";
	else if (file_bytes < intent_bytes(head->disk_bytes))
		why = "its map of writes was cut off; the whole disk is to be copied";
	return why ? error_set(err, -EINVAL, EXIT_STATUS_RESOURCE, "disk[%u]: %s", head->disk, why)
		   : 0;
}

void intent_head_encode(const struct intent_head *head, uint8_t ret_sector[STORAGE_SECTOR])
{
	memset(ret_sector, 0, STORAGE_SECTOR);
	memcpy(ret_sector, magic, sizeof(magic));
	le_store(ret_sector + 8, 4, INTENT_VERSION);
	le_store(ret_sector + 12, 4, head->disk);
	memcpy(ret_sector + 16, head->uuid, INTENT_UUID_BYTES);
	le_store(ret_sector + 32, 8, head->disk_bytes);
	le_store(ret_sector + 40, 8, INTENT_REGION_SHIFT);
	le_store(ret_sector + SUM_AT, 8, sum_of(ret_sector, SUM_AT, 0));
}

int intent_head_compare(const struct intent_head *head, const uint8_t sector[STORAGE_SECTOR],
			struct error *err)
{
	uint8_t ours[STORAGE_SECTOR];

	intent_head_encode(head, ours);
	if (memcmp(sector, ours, sizeof(ours)) == 0)
		return 0;
	if (memcmp(sector, magic, sizeof(magic)) != 0 ||
	    le_load(sector + SUM_AT, 8) != sum_of(sector, SUM_AT, 0))
		return error_set(err, -EBADMSG, EXIT_STATUS_RESOURCE,
				 "disk[%u]: its map of writes has no head that is whole; the whole "
				 "disk is to be copied",
				 head->disk);
	if (le_load(sector + 8, 4) != INTENT_VERSION)
		return error_set(
			err, -EPROTONOSUPPORT, EXIT_STATUS_RESOURCE,
			"disk[%u]: its map of writes is of a version that this utsusu does not "
			"know; use the one that wrote it",
			head->disk);
	return error_set(err, -EMEDIUMTYPE, EXIT_STATUS_RESOURCE,
			 "disk[%u]: that map of writes is of another disk; give it its own",
			 head->disk);
}

/* The sum knows whose sector it is: one of another VM's map, or from another place, is none. */
static uint64_t sector_sum(const struct intent_head *head, const uint8_t sector[STORAGE_SECTOR])
{
	uint64_t seed = sum_of(head->uuid, sizeof(head->uuid), head->disk);

	return sum_of(sector, SUM_AT, seed);
}

void intent_sector_encode(const struct intent_head *head, uint64_t number,
			  const uint64_t words[INTENT_SECTOR_WORDS],
			  uint8_t ret_sector[STORAGE_SECTOR])
{
	memcpy(ret_sector, magic, sizeof(magic));
	le_store(ret_sector + 8, 8, number);
	for (uint64_t i = 0; i < INTENT_SECTOR_WORDS; i++)
		le_store(ret_sector + 16 + i * 8, 8, words[i]);
	le_store(ret_sector + SUM_AT, 8, sector_sum(head, ret_sector));
}

int intent_sector_decode(const struct intent_head *head, uint64_t number,
			 const uint8_t sector[STORAGE_SECTOR],
			 uint64_t ret_words[INTENT_SECTOR_WORDS])
{
	if (memcmp(sector, magic, sizeof(magic)) != 0 || le_load(sector + 8, 8) != number ||
	    le_load(sector + SUM_AT, 8) != sector_sum(head, sector))
		return -EBADMSG;
	for (uint64_t i = 0; i < INTENT_SECTOR_WORDS; i++)
		ret_words[i] = le_load(sector + 16 + i * 8, 8);
	return 0;
}
