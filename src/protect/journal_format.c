/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/endian.h"
#include "protect/journal_internal.h"

static const uint8_t head_magic[8] = "UTSUJRNL";
static const uint8_t mark_magic[8] = "UTSUMARK";
static const uint8_t start_magic[8] = "UTSUEPOC";

static const char *const state_names[JOURNAL_STATES] = {
	[JOURNAL_FILLING] = "filling",
	[JOURNAL_WHOLE] = "whole",
	[JOURNAL_ENDED] = "ended",
};

const char *journal_state_name(enum journal_state state)
{
	return state < JOURNAL_STATES ? state_names[state] : "unknown";
}

/* Appends `size` bytes of `value`: the writing side of a cursor. */
static void put_le(uint8_t **at, size_t size, uint64_t value)
{
	le_store(*at, size, value);
	*at += size;
}

static void put_bytes(uint8_t **at, const void *bytes, size_t size)
{
	memcpy(*at, bytes, size);
	*at += size;
}

/* ---- the head ---- */

static int bad_head(struct error *err, int code, const char *what)
{
	return error_set(err, code, EXIT_STATUS_RESOURCE,
			 "journal: %s; the disks are to be copied again", what);
}

int journal_head_judge(const struct journal_head *head, struct error *err)
{
	if (head->ring_bytes < JOURNAL_RING_MIN || head->ring_bytes > LIMIT_JOURNAL ||
	    !IS_ALIGNED(head->ring_bytes, JOURNAL_BLOCK))
		return bad_head(err, -EINVAL, "its size is none that a journal can have");
	if (head->n_disks == 0 || head->n_disks > LIMIT_DISKS)
		return bad_head(err, -EINVAL, "its number of disks is none that a VM can have");
	for (uint32_t i = 0; i < head->n_disks; i++)
		if (head->disk_bytes[i] == 0 || head->disk_bytes[i] > LIMIT_MIRRORED_DISK ||
		    !IS_ALIGNED(head->disk_bytes[i], STORAGE_SECTOR))
			return bad_head(err, -EINVAL, "a disk of it has no size that one can have");
	return 0;
}

int journal_head_encode(struct digest *digest, const struct journal_head *head,
			uint8_t ret_block[JOURNAL_BLOCK], uint8_t ret_key[DIGEST_BYTES])
{
	uint8_t *at = ret_block;
	int r;

	memset(ret_block, 0, JOURNAL_BLOCK);
	put_bytes(&at, head_magic, sizeof(head_magic));
	put_le(&at, 4, JOURNAL_VERSION);
	put_le(&at, 4, head->n_disks);
	put_bytes(&at, head->uuid, JOURNAL_UUID_BYTES);
	put_bytes(&at, head->session.bytes, OWNERSHIP_ID_BYTES);
	put_le(&at, 8, head->base);
	put_le(&at, 8, head->ring_bytes);
	for (uint32_t i = 0; i < head->n_disks; i++)
		put_le(&at, 8, head->disk_bytes[i]);
	r = digest_run(digest, ret_block, JOURNAL_BLOCK - DIGEST_BYTES, ret_key);
	memcpy(ret_block + JOURNAL_BLOCK - DIGEST_BYTES, ret_key, DIGEST_BYTES);
	return r;
}

static void take_head(struct cursor *in, struct journal_head *ret_head)
{
	*ret_head = (struct journal_head){ .n_disks = (uint32_t)cursor_take_le(in, 4) };
	memcpy(ret_head->uuid, cursor_take(in, JOURNAL_UUID_BYTES), JOURNAL_UUID_BYTES);
	memcpy(ret_head->session.bytes, cursor_take(in, OWNERSHIP_ID_BYTES), OWNERSHIP_ID_BYTES);
	ret_head->base = cursor_take_le(in, 8);
	ret_head->ring_bytes = cursor_take_le(in, 8);
	for (uint32_t i = 0; i < LIMIT_DISKS; i++)
		ret_head->disk_bytes[i] = cursor_take_le(in, 8);
}

int journal_head_decode(struct digest *digest, const uint8_t block[JOURNAL_BLOCK],
			struct journal_head *ret_head, uint8_t ret_key[DIGEST_BYTES],
			struct error *err)
{
	struct cursor in = { .data = block + sizeof(head_magic),
			     .left = JOURNAL_BLOCK - sizeof(head_magic) };
	uint8_t again[JOURNAL_BLOCK], key[DIGEST_BYTES];
	struct journal_head head;

	if (memcmp(block, head_magic, sizeof(head_magic)) != 0)
		return bad_head(err, -EBADMSG, "this is none, or its making was cut off");
	if (cursor_take_le(&in, 4) != JOURNAL_VERSION)
		return error_set(
			err, -EPROTONOSUPPORT, EXIT_STATUS_RESOURCE,
			"journal: of a version that this utsusu does not know; use the one that "
			"wrote it");
	take_head(&in, &head);
	/* What was written is the only form of what was meant. */
	if (journal_head_judge(&head, NULL) < 0 ||
	    journal_head_encode(digest, &head, again, key) < 0 ||
	    memcmp(block, again, sizeof(again)) != 0)
		return bad_head(err, -EBADMSG, "its first block is damaged");
	*ret_head = head;
	memcpy(ret_key, key, DIGEST_BYTES);
	return 0;
}

/* ---- what is bound to the head by its hash ---- */

/* SHA-256 of the key and `len` bytes, at most a sector's. */
static int hash_with_key(struct digest *digest, const uint8_t key[DIGEST_BYTES], const void *bytes,
			 size_t len, uint8_t ret_hash[DIGEST_BYTES])
{
	uint8_t both[DIGEST_BYTES + STORAGE_SECTOR];

	memcpy(both, key, DIGEST_BYTES);
	memcpy(both + DIGEST_BYTES, bytes, len);
	return digest_run(digest, both, DIGEST_BYTES + len, ret_hash);
}

static int judge_with_key(struct digest *digest, const uint8_t key[DIGEST_BYTES],
			  const uint8_t *bytes, size_t len, const uint8_t magic[8])
{
	uint8_t hash[DIGEST_BYTES];
	int r;

	if (memcmp(bytes, magic, 8) != 0)
		return -EBADMSG;
	r = hash_with_key(digest, key, bytes, len - DIGEST_BYTES, hash);
	if (r < 0)
		return r;
	return memcmp(hash, bytes + len - DIGEST_BYTES, DIGEST_BYTES) == 0 ? 0 : -EBADMSG;
}

int journal_mark_encode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
			const struct journal_mark *mark, uint8_t ret_sector[STORAGE_SECTOR])
{
	uint8_t *at = ret_sector;

	memset(ret_sector, 0, STORAGE_SECTOR);
	put_bytes(&at, mark_magic, sizeof(mark_magic));
	put_le(&at, 8, mark->serial);
	put_le(&at, 8, (uint64_t)mark->state);
	put_le(&at, 8, mark->applied);
	put_le(&at, 8, mark->tail);
	at = ret_sector + JOURNAL_MARK_BYTES - DIGEST_BYTES;
	return hash_with_key(digest, key, ret_sector, JOURNAL_MARK_BYTES - DIGEST_BYTES, at);
}

int journal_mark_decode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
			const uint8_t sector[STORAGE_SECTOR], struct journal_mark *ret_mark)
{
	struct cursor in = { .data = sector + 8, .left = JOURNAL_MARK_BYTES - 8 };
	struct journal_mark mark;
	uint64_t state;
	int r = judge_with_key(digest, key, sector, JOURNAL_MARK_BYTES, mark_magic);

	if (r < 0)
		return r;
	mark.serial = cursor_take_le(&in, 8);
	state = cursor_take_le(&in, 8);
	mark.applied = cursor_take_le(&in, 8);
	mark.tail = cursor_take_le(&in, 8);
	if (state >= JOURNAL_STATES || !IS_ALIGNED(mark.tail, JOURNAL_BLOCK) ||
	    mark.tail > JOURNAL_POSITION_MAX)
		return -EBADMSG;
	mark.state = (enum journal_state)state;
	*ret_mark = mark;
	return 0;
}

int journal_start_encode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
			 const struct journal_start *start, uint8_t ret_bytes[JOURNAL_BEGIN_BYTES])
{
	uint8_t *at = ret_bytes;

	put_bytes(&at, start_magic, sizeof(start_magic));
	put_le(&at, 8, start->epoch);
	put_le(&at, 8, start->position);
	return hash_with_key(digest, key, ret_bytes, JOURNAL_BEGIN_BYTES - DIGEST_BYTES, at);
}

int journal_start_decode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
			 const uint8_t bytes[JOURNAL_BEGIN_BYTES], struct journal_start *ret_start)
{
	int r = judge_with_key(digest, key, bytes, JOURNAL_BEGIN_BYTES, start_magic);

	if (r == 0)
		*ret_start = (struct journal_start){ le_load(bytes + 8, 8),
						     le_load(bytes + 16, 8) };
	return r;
}

/* ---- writes ---- */

void journal_write_encode(const struct journal_write *write, uint8_t ret_bytes[JOURNAL_WRITE_BYTES])
{
	le_store(ret_bytes, 4, (uint64_t)write->kind);
	le_store(ret_bytes + 4, 4, write->disk);
	le_store(ret_bytes + 8, 8, write->offset);
	le_store(ret_bytes + 16, 8, write->len);
}

bool journal_write_fits(const struct journal_head *head, const struct journal_write *write)
{
	return journal_write_is_on(write, head->n_disks, head->disk_bytes);
}

int journal_write_decode(const struct journal_head *head, const uint8_t bytes[JOURNAL_WRITE_BYTES],
			 struct journal_write *ret_write)
{
	uint64_t kind = le_load(bytes, 4);

	*ret_write = (struct journal_write){
		.kind = (enum journal_kind)kind,
		.disk = (uint32_t)le_load(bytes + 4, 4),
		.offset = le_load(bytes + 8, 8),
		.len = le_load(bytes + 16, 8),
	};
	if (kind == JOURNAL_SEAL)
		return ret_write->disk == 0 && ret_write->offset == 0 ? 1 : -EBADMSG;
	return journal_write_fits(head, ret_write) ? 0 : -EBADMSG;
}

int journal_piece_fold(struct digest *digest, struct journal_piece *piece)
{
	_Static_assert(offsetof(struct journal_piece, bytes) == DIGEST_BYTES, "hashed as one");

	return digest_run(digest, piece, DIGEST_BYTES + piece->len, piece->chain);
}
