/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The form of a map of writes on the disk (docs/journal-format.md). */

#include "protect/intent.h"

#define INTENT_VERSION 1U
#define INTENT_SECTORS_AT 4096ULL
#define INTENT_SECTOR_WORDS 61ULL /* of bits in one sector, behind 16 bytes and before a checksum */
#define INTENT_SECTOR_REGIONS (INTENT_SECTOR_WORDS * 64)

static inline uint64_t intent_sectors(uint64_t disk_bytes)
{
	return (intent_regions(disk_bytes) + INTENT_SECTOR_REGIONS - 1) / INTENT_SECTOR_REGIONS;
}

/* -EINVAL with `err`: no disk of that size, or its map needs a larger file. */
_must_check_ int intent_head_judge(const struct intent_head *head, uint64_t file_bytes,
				   struct error *err);
void intent_head_encode(const struct intent_head *head, uint8_t ret_sector[STORAGE_SECTOR]);
/* -EBADMSG, -EPROTONOSUPPORT, -EMEDIUMTYPE with `err`: it is not the map of `head`. */
_must_check_ int intent_head_compare(const struct intent_head *head,
				     const uint8_t sector[STORAGE_SECTOR], struct error *err);
void intent_sector_encode(const struct intent_head *head, uint64_t number,
			  const uint64_t words[INTENT_SECTOR_WORDS],
			  uint8_t ret_sector[STORAGE_SECTOR]);
/* -EBADMSG: damaged, or another one. */
_must_check_ int intent_sector_decode(const struct intent_head *head, uint64_t number,
				      const uint8_t sector[STORAGE_SECTOR],
				      uint64_t ret_words[INTENT_SECTOR_WORDS]);
