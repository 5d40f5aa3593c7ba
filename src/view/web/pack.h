/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A block of records in a third of its size, without loss: each record as the words that differ from the last one
 * like it. Records of a busy driver differ in few.
 */

#include <stddef.h>
#include <stdint.h>

#include "watch/record.h"

#define PACK_RECORDS 1024 /* of one block, at most */
#define PACK_ENTRY_MAX (8 + sizeof(struct watch_record))
#define PACK_BYTES_MAX (PACK_RECORDS * PACK_ENTRY_MAX)

/* `n` (1..PACK_RECORDS) records and their rings into at most n * PACK_ENTRY_MAX bytes; how many were written. */
size_t pack_records(const struct watch_record *records, const uint8_t *rings, uint32_t n,
		    uint8_t *ret_bytes);

/* The other way. `bytes` is what pack_records wrote, nothing else. */
void unpack_records(const uint8_t *bytes, uint32_t n, struct watch_record *ret_records);
