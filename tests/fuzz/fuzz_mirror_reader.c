/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: block/mirror_reader.c
 *
 * A mirror's ring that a VM's process fills with whatever it likes: what is given to the caller lies in the ring, has been judged, and comes to an end. The input: the count of what was
 * put, the end that the caller asks for, and entries with the pages that they begin at.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "block/mirror.h"

#define RING MIRROR_RING_MIN
#define PAGES (RING / MIRROR_ALIGN)
#define HEAD 17 /* bytes of the input before its entries */
#define RECORD (2 + sizeof(struct mirror_entry))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mirror_entry *place_at(const struct mirror_reader *reader, size_t page)
{
	return (struct mirror_entry *)(void *)((uint8_t *)reader->map + MIRROR_HEAD +
					       page % PAGES * MIRROR_ALIGN);
}

/* Entries of the input, or none in their places. */
static void lay_out(const struct mirror_reader *reader, const uint8_t *data, size_t size,
		    bool there)
{
	for (; size >= RECORD; data += RECORD, size -= RECORD) {
		struct mirror_entry *place = place_at(reader, (size_t)le_load(data, 2));

		if (there)
			memcpy(place, data + 2, sizeof(*place));
		else
			memset(place, 0, sizeof(*place));
	}
}

static void check(const struct mirror_reader *reader, const struct mirror_entry *entry,
		  const uint8_t *data)
{
	const uint8_t *ring = (const uint8_t *)reader->map + MIRROR_HEAD;

	if (entry->disk >= LIMIT_DISKS || !entry->len || entry->offset + entry->len < entry->len)
		abort();
	if (entry->kind == MIRROR_ZEROES)
		return;
	if (entry->kind != MIRROR_WRITE || entry->len > MIRROR_DATA_MAX || data < ring ||
	    entry->len > RING || data + entry->len > ring + RING)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mirror_reader reader;
	struct mirror_entry entry;
	const void *bytes;
	struct mirror_head *head;
	uint64_t end, put;
	int r;

	if (!reader.map && mirror_reader_make(RING, &reader) < 0)
		abort();
	if (size < HEAD)
		return 0;
	head = reader.map;
	head->put = put = le_load(data, 8);
	end = le_load(data + 8, 8);
	lay_out(&reader, data + HEAD, size - HEAD, true);
	head->taken = reader.taken = 0;
	while ((r = mirror_reader_next(&reader, end, data[16] & 1, &entry, &bytes)) > 0) {
		check(&reader, &entry, bytes);
		mirror_reader_took(&reader);
		if (head->taken > put || head->taken > end || head->taken != reader.taken)
			abort();
	}
	if (r < 0 && r != -EBADMSG)
		abort();
	lay_out(&reader, data + HEAD, size - HEAD, false);
	return 0;
}
