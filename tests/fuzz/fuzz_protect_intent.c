/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A map of writes as a disk may give it back: the bytes as they are, or (first byte) a map of some marks in which the bytes change some places.
 * What is opened tells of no region beyond the disk, and of each that was marked, and is used then.
 * covers: protect/intent.c protect/intent_format.c
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "protect/intent_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK MIB(4000) /* two sectors */
#define REGIONS 4000
#define FILE_BYTES (INTENT_SECTORS_AT + 2 * STORAGE_SECTOR)
#define MEMORY_STORAGE_BYTES FILE_BYTES
#include "memory_storage.h"

enum how {
	HOW_MARKS = 1, /* else as the bytes are */
	HOW_OTHER = 2, /* of another disk */
	HOW_SHORT = 4,
};

static uint64_t count(struct intent *intent)
{
	uint64_t first = 0, sum = 0, n;

	while ((n = intent_next(intent, first, &first))) {
		assert(first + n <= REGIONS);
		sum += n;
		first += n;
	}
	return sum;
}

/* Marks by pairs of bytes. */
static void make_map(struct memory_storage *file, const struct intent_head *head, struct cursor *in,
		     bool marked[REGIONS])
{
	uint64_t n = cursor_take_le(in, 1) % 16;
	struct intent *intent;

	assert(intent_create(&file->storage, head, false, &file->storage, &intent, NULL) == 0);
	for (uint64_t i = 0; i < n && in->left >= 2; i++) {
		uint64_t region = cursor_take_le(in, 2) % REGIONS;

		marked[region] = true;
		(void)!intent_mark(intent, region << INTENT_REGION_SHIFT, 512, i);
	}
	assert(intent_flush(intent) == 0);
	intent_free(intent);
}

static void damage(struct memory_storage *file, struct cursor *in)
{
	while (in->left >= 3) {
		uint64_t at = cursor_take_le(in, 2) % FILE_BYTES;

		file->bytes[at] ^= (uint8_t)cursor_take_le(in, 1);
	}
}

static void use(struct intent *intent, const bool marked[REGIONS])
{
	uint64_t first;

	for (uint64_t i = 0; i < REGIONS; i++)
		assert(!marked[i] || (intent_next(intent, i, &first) && first == i));
	(void)!intent_mark(intent, MIB(3000), MIB(500), 7);
	assert(intent_commit(intent, 1000) == 0);
	assert(intent_flush(intent) == 0 && intent_is_durable(intent, MIB(3000), MIB(500)));
	assert(count(intent) == 500);
	assert(intent_commit(intent, 2000) == 0 && count(intent) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct intent_head head = { .uuid = { 1 }, .disk = 1, .disk_bytes = DISK };
	struct cursor in = { .data = data, .left = size };
	static struct memory_storage file;
	bool marked[REGIONS] = { false };
	struct error err = { 0 };
	struct intent *intent = NULL;
	uint64_t damaged;
	uint8_t how = (uint8_t)cursor_take_le(&in, 1);

	memset(&file, 0, sizeof(file));
	file.storage = (struct storage){ .ops = &memory_storage_ops, .size = FILE_BYTES };
	if (how & HOW_MARKS) {
		const struct intent_head other = { .disk = 2, .disk_bytes = DISK };

		make_map(&file, how & HOW_OTHER ? &other : &head, &in, marked);
		damage(&file, &in);
	} else {
		memcpy(file.bytes, in.data, MIN(in.left, FILE_BYTES));
	}
	if (how & HOW_SHORT)
		file.storage.size--;
	if (intent_open(&file.storage, &head, &file.storage, &intent, &damaged, &err) == 0)
		use(intent, marked);
	else
		assert(err.message[0] && !intent);
	intent_free(intent);
	return 0;
}
