/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup's journal as a disk may give it back. The first byte says how the file is made: as the bytes are, or of a head, a mark and epochs whose
 * hashes are right - which keep all else from the fuzzer - with content that the bytes give. Whatever it is: nothing is written beyond
 * a disk, what was opened is found again, and what was applied is applied.
 * covers: protect/journal_format.c protect/journal_read.c protect/journal_apply.c
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "protect/journal_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RING JOURNAL_RING_MIN
#define DISK KIB(32)
#define FILE_BYTES (JOURNAL_RING_AT + RING)
#define MEMORY_STORAGE_BYTES FILE_BYTES
#include "memory_storage.h"
#define EPOCH_MAX KIB(48)

enum how {
	HOW_RAW = 1,
	HOW_WRITTEN = 2, /* by a writer, else by hand */
	HOW_MARK = 4,	 /* the mark's fields are the fuzzer's */
	HOW_FLIP = 8,	 /* then one bit is changed */
	HOW_END = 16,
	HOW_HEAD = 32, /* the head's fields are the fuzzer's */
};

struct rig {
	struct memory_storage file, disks[2];
	struct storage *storages[2];
	struct journal_head head;
	struct digest *digest;
	uint8_t key[DIGEST_BYTES];
};

static void make_rig(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->file.storage = (struct storage){ .ops = &memory_storage_ops, .size = FILE_BYTES };
	for (int i = 0; i < 2; i++) {
		rig->disks[i].storage = (struct storage){ .ops = &memory_storage_ops,
							  .size = DISK };
		rig->storages[i] = &rig->disks[i].storage;
	}
	rig->head = (struct journal_head){ .session = { { 1 } },
					   .base = 4,
					   .ring_bytes = RING,
					   .n_disks = 2,
					   .disk_bytes = { DISK, DISK } };
	assert(digest_new(&rig->digest) == 0);
}

/* ---- made by hand ---- */

static void make_head(struct rig *rig, struct cursor *in, uint8_t how)
{
	if (how & HOW_HEAD) {
		rig->head.n_disks = (uint32_t)cursor_take_le(in, 1);
		rig->head.ring_bytes = cursor_take_le(in, 3) * 512;
		rig->head.disk_bytes[1] = cursor_take_le(in, 4);
		rig->head.uuid[0] = (uint8_t)cursor_take_le(in, 1);
		rig->head.n_disks %= LIMIT_DISKS + 1;
	}
	assert(journal_head_encode(rig->digest, &rig->head, rig->file.bytes, rig->key) == 0);
}

static struct journal_mark make_mark(struct rig *rig, struct cursor *in, uint8_t how)
{
	struct journal_mark mark = { .serial = 1, .state = JOURNAL_WHOLE, .applied = 4 };

	if (how & HOW_MARK) {
		mark.serial = cursor_take_le(in, 1);
		mark.state = (enum journal_state)(cursor_take_le(in, 1) % 4);
		mark.applied = cursor_take_le(in, 1);
		mark.tail = cursor_take_le(in, 1) * 2048;
	}
	assert(journal_mark_encode(rig->digest, rig->key, &mark,
				   rig->file.bytes + (1 + mark.serial % 2) * JOURNAL_BLOCK) == 0);
	return mark;
}

/* Writes as the bytes have them: each one's numbers in units of 128 bytes, so that few are odd. */
static uint64_t put_writes(struct cursor *in, uint64_t n, uint8_t *epoch, size_t *len)
{
	uint64_t done = 0;

	for (; done < n && !in->bad && in->left >= 6; done++) {
		const struct journal_write write = {
			.kind = (enum journal_kind)(cursor_take_le(in, 1) % 5),
			.disk = (uint32_t)cursor_take_le(in, 1) % 3,
			.offset = cursor_take_le(in, 2) * 128,
			.len = cursor_take_le(in, 2) * 128,
		};
		size_t data = write.kind == JOURNAL_WRITE ? (size_t)write.len : 0;

		if (*len + JOURNAL_WRITE_BYTES + data > EPOCH_MAX)
			break;
		journal_write_encode(&write, epoch + *len);
		*len += JOURNAL_WRITE_BYTES;
		memset(epoch + *len, 0x11, data);
		*len += data;
	}
	return done;
}

static void put_seal(struct rig *rig, uint64_t n, uint8_t *epoch, size_t *len)
{
	const struct journal_write seal = { .kind = (enum journal_kind)JOURNAL_SEAL, .len = n };
	struct journal_piece piece;

	journal_write_encode(&seal, epoch + *len);
	*len += JOURNAL_WRITE_BYTES;
	memcpy(piece.chain, rig->key, DIGEST_BYTES);
	memcpy(piece.bytes, epoch, *len); /* shorter than one */
	piece.len = *len;
	assert(journal_piece_fold(rig->digest, &piece) == 0);
	memcpy(epoch + *len, piece.chain, DIGEST_BYTES);
	*len += DIGEST_BYTES;
}

/* Each: its number's step, how many writes it has, how many it says. */
static void make_epochs(struct rig *rig, struct cursor *in, const struct journal_mark *mark)
{
	struct journal_start start = { .epoch = mark->applied, .position = mark->tail };
	static uint8_t epoch[EPOCH_MAX + KIB(4)];

	for (int i = 0; i < 8 && in->left >= 3; i++) {
		uint64_t step = cursor_take_le(in, 1), n = cursor_take_le(in, 1),
			 lie = cursor_take_le(in, 1), done;
		size_t len = JOURNAL_BEGIN_BYTES;

		start.epoch += step % 8;
		start.position += step / 64 * 2048; /* not where it stands */
		assert(journal_start_encode(rig->digest, rig->key, &start, epoch) == 0);
		start.position -= step / 64 * 2048;
		done = put_writes(in, n, epoch, &len);
		put_seal(rig, lie > 250 ? lie : done, epoch, &len);
		for (size_t at = 0; at < len; at++)
			rig->file.bytes[JOURNAL_RING_AT + (start.position + at) % RING] = epoch[at];
		start.position = ALIGN_UP(start.position + len, JOURNAL_BLOCK);
	}
}

/* ---- made by a writer ---- */

static void write_some(struct rig *rig, struct cursor *in)
{
	static const uint8_t data[DISK] = { 1, 2, 3 };
	struct journal *journal;

	assert(journal_create(&rig->file.storage, &rig->head, rig->storages, &journal, NULL) == 0);
	while (in->left >= 5) {
		struct journal_write write = { .data = data };
		uint64_t what = cursor_take_le(in, 1) % 8;

		write.kind = (enum journal_kind)(what % 4);
		write.disk = (uint32_t)cursor_take_le(in, 1) % 2;
		write.offset = cursor_take_le(in, 1) * 512;
		write.len = cursor_take_le(in, 1) * 512;
		if (what == 4)
			(void)!journal_begin(journal, journal_sealed(journal) + 1);
		else if (what == 5)
			(void)!journal_seal(journal);
		else if (what == 6)
			(void)!journal_apply(journal, journal_sealed(journal), NULL);
		else
			(void)!journal_append(journal, &write);
	}
	journal_free(journal);
}

/* ---- read back ---- */

static struct journal *open_it(struct rig *rig)
{
	struct journal *journal = NULL;
	struct error err = { 0 };
	int r = journal_open(&rig->file.storage, rig->head.uuid, rig->storages, 2, &journal, &err);

	assert(r == 0 || (journal == NULL && err.message[0]));
	return journal;
}

static void use(struct rig *rig, uint8_t how)
{
	struct journal *journal = open_it(rig);
	uint64_t sealed;

	if (!journal)
		return;
	sealed = journal_sealed(journal);
	assert(journal_applied(journal) <= sealed);
	if (how & HOW_END)
		assert(journal_end(journal, sealed, NULL) == 0);
	else if (journal_state(journal) != JOURNAL_ENDED)
		assert(journal_apply(journal, sealed, NULL) == 0 &&
		       journal_mark_whole(journal, NULL) == 0);
	journal_free(journal);
	journal = open_it(rig);
	assert(journal && journal_sealed(journal) == sealed && journal_applied(journal) == sealed);
	journal_free(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	uint8_t how = (uint8_t)cursor_take_le(&in, 1);
	uint64_t flip = how & HOW_FLIP ? cursor_take_le(&in, 2) * 8 : 0;
	static struct rig rig;

	make_rig(&rig);
	if (how & HOW_RAW) {
		memcpy(rig.file.bytes, in.data, MIN(in.left, FILE_BYTES));
	} else if (how & HOW_WRITTEN) {
		write_some(&rig, &in);
	} else {
		struct journal_mark mark;

		make_head(&rig, &in, how);
		mark = make_mark(&rig, &in, how);
		make_epochs(&rig, &in, &mark);
	}
	if (how & HOW_FLIP)
		rig.file.bytes[flip % FILE_BYTES] ^= 0x10;
	use(&rig, how);
	digest_free(rig.digest);
	return 0;
}
