/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/journal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "protect/journal_internal.h"

DEFINE_CLEANUP(struct journal, journal_free, journalp)

/* ---- life ---- */

static void hands_free(struct journal_hands *hands)
{
	if (hands)
		digest_free(hands->digest);
	free(hands);
}

static int hands_new(struct journal_hands **ret_hands)
{
	struct journal_hands *hands = calloc(1, sizeof(*hands));
	int r = hands ? digest_new(&hands->digest) : -ENOMEM;

	if (r < 0)
		hands_free(hands);
	else
		*ret_hands = hands;
	return r;
}

static int journal_new(struct storage *file, struct journal **ret_journal)
{
	_cleanup_(journalp) struct journal *journal = calloc(1, sizeof(*journal));
	int r;

	if (!journal)
		return -ENOMEM;
	pthread_mutex_init(&journal->syncing, NULL);
	pthread_mutex_init(&journal->lock, NULL);
	journal->file = file;
	r = hands_new(&journal->writer);
	if (r == 0)
		r = hands_new(&journal->applier);
	if (r == 0)
		*ret_journal = TAKE_PTR(journal);
	return r;
}

void journal_free(struct journal *journal)
{
	if (!journal)
		return;
	hands_free(journal->writer);
	hands_free(journal->applier);
	pthread_mutex_destroy(&journal->lock);
	pthread_mutex_destroy(&journal->syncing);
	free(journal);
}

/* What was told already stays. */
static int cannot(struct error *err, int code, const char *what)
{
	return error_set(err, code, EXIT_STATUS_RESOURCE,
			 "journal: cannot be %s: %s; see this host's kernel log", what,
			 strerror(-code));
}

static int take_disks(struct journal *journal, struct storage *const *disks, uint32_t n_disks,
		      struct error *err)
{
	if (n_disks != journal->head.n_disks)
		return error_set(err, -EMEDIUMTYPE, EXIT_STATUS_RESOURCE,
				 "journal: it is of %u disks, not of %u; give it those of its VM",
				 journal->head.n_disks, n_disks);
	for (uint32_t i = 0; i < n_disks; i++) {
		if (disks[i]->size != journal->head.disk_bytes[i])
			return error_set(
				err, -EMEDIUMTYPE, EXIT_STATUS_RESOURCE,
				"journal: disk[%u] has %llu bytes, not %llu as it says; give it "
				"those of its VM",
				i, (unsigned long long)disks[i]->size,
				(unsigned long long)journal->head.disk_bytes[i]);
		journal->disks[i] = disks[i];
	}
	return 0;
}

static int judge_place(const struct journal *journal, struct error *err)
{
	if (journal->file->size >= journal_bytes(journal->head.ring_bytes))
		return 0;
	return error_set(
		err, -EBADMSG, EXIT_STATUS_RESOURCE,
		"journal: its file was cut off: %llu bytes; the disks are to be copied again",
		(unsigned long long)journal->file->size);
}

/* The head comes last and by itself: where it is found, a mark of this journal is. */
static int write_new(struct journal *journal)
{
	const struct journal_mark mark = { .applied = journal->head.base };
	uint8_t block[JOURNAL_BLOCK], nothing[JOURNAL_BLOCK] = { 0 };
	int r = journal_head_encode(journal->writer->digest, &journal->head, block, journal->key);

	journal->mark = mark;
	if (r == 0)
		r = storage_write(journal->file, nothing, sizeof(nothing), 0);
	if (r == 0)
		r = journal_put_mark(journal, &mark);
	if (r == 0)
		r = storage_write(journal->file, block, sizeof(block), 0);
	if (r == 0)
		r = storage_sync(journal->file);
	return r;
}

int journal_create(struct storage *file, const struct journal_head *head,
		   struct storage *const *disks, struct journal **ret_journal, struct error *err)
{
	_cleanup_(journalp) struct journal *journal = NULL;
	int r = journal_head_judge(head, err);

	if (r == 0)
		r = journal_new(file, &journal);
	if (r < 0)
		return cannot(err, r, "made");
	journal->head = *head;
	r = take_disks(journal, disks, head->n_disks, err);
	if (r == 0)
		r = judge_place(journal, err);
	if (r < 0)
		return r;
	r = write_new(journal);
	if (r < 0)
		return cannot(err, r, "made");
	journal->sealed = head->base;
	*ret_journal = TAKE_PTR(journal);
	return 0;
}

static int read_head(struct journal *journal, const uint8_t uuid[JOURNAL_UUID_BYTES],
		     struct error *err)
{
	uint8_t block[JOURNAL_BLOCK];
	int r = journal->file->size < sizeof(block)
			? -ENODATA
			: storage_read(journal->file, block, sizeof(block), 0);

	if (r < 0)
		return cannot(err, r, "read");
	r = journal_head_decode(journal->applier->digest, block, &journal->head, journal->key, err);
	if (r == 0 && memcmp(uuid, journal->head.uuid, JOURNAL_UUID_BYTES) != 0)
		return error_set(err, -EMEDIUMTYPE, EXIT_STATUS_RESOURCE,
				 "journal: it is another VM's; give this VM its own");
	return r;
}

int journal_open(struct storage *file, const uint8_t uuid[JOURNAL_UUID_BYTES],
		 struct storage *const *disks, uint32_t n_disks, struct journal **ret_journal,
		 struct error *err)
{
	_cleanup_(journalp) struct journal *journal = NULL;
	int r = journal_new(file, &journal);

	if (r == 0)
		r = read_head(journal, uuid, err);
	if (r == 0)
		r = take_disks(journal, disks, n_disks, err);
	if (r == 0)
		r = judge_place(journal, err);
	if (r < 0)
		return cannot(err, r, "opened");
	/* What a process that died had written may still be in memory only; what is found below is then said to be durable. */
	r = storage_sync(file);
	if (r < 0)
		return cannot(err, r, "made durable");
	r = journal_get_mark(journal, err);
	if (r == 0)
		r = journal_find_sealed(journal, err);
	if (r < 0)
		return cannot(err, r, "read");
	*ret_journal = TAKE_PTR(journal);
	return 0;
}

/* ---- what others may ask ---- */

const struct journal_head *journal_head(const struct journal *journal)
{
	return &journal->head;
}

enum journal_state journal_state(struct journal *journal)
{
	enum journal_state state;

	journal_lock(journal);
	state = journal->mark.state;
	journal_unlock(journal);
	return state;
}

uint64_t journal_sealed(struct journal *journal)
{
	uint64_t sealed;

	journal_lock(journal);
	sealed = journal->sealed;
	journal_unlock(journal);
	return sealed;
}

uint64_t journal_applied(struct journal *journal)
{
	uint64_t applied;

	journal_lock(journal);
	applied = journal->mark.applied;
	journal_unlock(journal);
	return applied;
}

/* ---- the ring ---- */

int journal_ring_read(struct journal *journal, void *buf, size_t len, uint64_t position)
{
	uint64_t to_end = journal->head.ring_bytes - position % journal->head.ring_bytes;
	size_t first = MIN(len, to_end);
	int r = storage_read(journal->file, buf, first, journal_ring_place(journal, position));

	if (r == 0 && first < len)
		r = storage_read(journal->file, (uint8_t *)buf + first, len - first,
				 JOURNAL_RING_AT);
	return r;
}

int journal_ring_write(struct journal *journal, const void *buf, size_t len, uint64_t position)
{
	uint64_t to_end = journal->head.ring_bytes - position % journal->head.ring_bytes;
	size_t first = MIN(len, to_end);
	int r = storage_write(journal->file, buf, first, journal_ring_place(journal, position));

	if (r == 0 && first < len)
		r = storage_write(journal->file, (const uint8_t *)buf + first, len - first,
				  JOURNAL_RING_AT);
	return r;
}

/* ---- the writer ---- */

/* Of an epoch whose bytes up to `position` are there: where it ends, sealed then and there. */
static uint64_t end_if_sealed(uint64_t position)
{
	return ALIGN_UP(position + JOURNAL_SEAL_BYTES, JOURNAL_BLOCK);
}

static uint64_t position_of(const struct journal *journal)
{
	return journal->written + journal->writer->piece.len;
}

/* 0, -ENOSPC, -EFBIG for `len` more bytes. */
static int judge_room(struct journal *journal, uint64_t len)
{
	uint64_t end = len > journal->head.ring_bytes ? UINT64_MAX
						      : end_if_sealed(position_of(journal) + len);
	uint64_t tail;

	journal_lock(journal);
	tail = journal->mark.tail;
	journal_unlock(journal);
	if (end > JOURNAL_POSITION_MAX || end - journal->start > journal->head.ring_bytes)
		return -EFBIG;
	return end - tail > journal->head.ring_bytes ? -ENOSPC : 0;
}

uint64_t journal_room(struct journal *journal)
{
	uint64_t used, tail;

	if (!journal->open)
		return 0;
	journal_lock(journal);
	tail = journal->mark.tail;
	journal_unlock(journal);
	used = position_of(journal) - tail + JOURNAL_SEAL_BYTES;
	return journal->head.ring_bytes > used ? journal->head.ring_bytes - used : 0;
}

/* Nothing that is written later can be trusted to lie behind what was written before. */
static int break_off(struct journal *journal, int r)
{
	journal_lock(journal);
	journal->broken = true;
	journal->open = false;
	journal_unlock(journal);
	return r;
}

static bool takes_no_more(struct journal *journal)
{
	bool broken;

	journal_lock(journal);
	broken = journal->broken;
	journal_unlock(journal);
	return broken;
}

int journal_sync_locked(struct journal *journal)
{
	int r = storage_sync(journal->file);

	if (r < 0) {
		journal_lock(journal);
		journal->broken = true;
		journal_unlock(journal);
	}
	return r;
}

/* What was written since the last one that succeeded is durable, unless a sync of the applier's failed meanwhile: of what, nobody knows. */
static int sync_ring(struct journal *journal)
{
	int r;

	pthread_mutex_lock(&journal->syncing);
	r = journal_sync_locked(journal);
	if (r == 0 && takes_no_more(journal))
		r = -EIO;
	pthread_mutex_unlock(&journal->syncing);
	return r;
}

/* Writes what is in the piece; `len` of it counts, and more may follow when that is all of it. */
static int put_piece(struct journal *journal)
{
	struct journal_piece *piece = &journal->writer->piece;
	int r = journal_ring_write(journal, piece->bytes, piece->len, journal->written);

	journal->written += piece->len;
	return r;
}

static int put(struct journal *journal, const void *bytes, uint64_t len)
{
	struct journal_piece *piece = &journal->writer->piece;
	const uint8_t *from = bytes;
	int r = 0;

	while (r == 0 && len) {
		size_t n = (size_t)MIN(len, JOURNAL_PIECE - piece->len);

		memcpy(piece->bytes + piece->len, from, n);
		piece->len += n;
		from += n;
		len -= n;
		if (piece->len < JOURNAL_PIECE)
			continue;
		r = put_piece(journal);
		if (r == 0)
			r = journal_piece_fold(journal->writer->digest, piece);
		piece->len = 0;
	}
	return r;
}

int journal_begin(struct journal *journal, uint64_t epoch)
{
	struct journal_piece *piece = &journal->writer->piece;
	const struct journal_start start = { epoch, journal->sealed_end };
	uint8_t bytes[JOURNAL_BEGIN_BYTES];
	int r;

	if (takes_no_more(journal))
		return -EIO;
	journal->open = false;
	if (epoch <= journal->sealed || journal_state(journal) == JOURNAL_ENDED)
		return -EINVAL;
	journal->start = journal->written = start.position;
	journal->n_writes = 0;
	journal->epoch = epoch;
	piece->len = 0;
	memcpy(piece->chain, journal->key, DIGEST_BYTES);
	r = judge_room(journal, JOURNAL_BEGIN_BYTES);
	if (r == 0)
		r = journal_start_encode(journal->writer->digest, journal->key, &start, bytes);
	if (r < 0)
		return r;
	journal->open = true;
	return put(journal, bytes, sizeof(bytes));
}

int journal_append(struct journal *journal, const struct journal_write *write)
{
	uint8_t head[JOURNAL_WRITE_BYTES];
	uint64_t data = write->kind == JOURNAL_WRITE ? write->len : 0;
	int r;

	if (takes_no_more(journal))
		return -EIO;
	if (!journal->open || !journal_write_fits(&journal->head, write))
		return -EINVAL;
	r = judge_room(journal, sizeof(head) + data);
	if (r < 0)
		return r;
	journal_write_encode(write, head);
	r = put(journal, head, sizeof(head));
	if (r == 0)
		r = put(journal, write->data, data);
	if (r < 0)
		return break_off(journal, r);
	journal->n_writes++;
	return 0;
}

/* The hash stands behind what it is of; the rest of its block is nobody's. */
static int put_seal(struct journal *journal)
{
	static const uint8_t nothing[JOURNAL_BLOCK];
	const struct journal_write seal = { .kind = (enum journal_kind)JOURNAL_SEAL,
					    .len = journal->n_writes };
	struct journal_piece *piece = &journal->writer->piece;
	uint8_t bytes[JOURNAL_WRITE_BYTES], hash[DIGEST_BYTES];
	uint64_t end = end_if_sealed(position_of(journal));
	int r;

	journal_write_encode(&seal, bytes);
	r = put(journal, bytes, sizeof(bytes));
	if (r == 0)
		r = journal_piece_fold(journal->writer->digest, piece);
	if (r < 0)
		return r;
	memcpy(hash, piece->chain, sizeof(hash));
	r = put(journal, hash, sizeof(hash));
	if (r == 0)
		r = put(journal, nothing, end - position_of(journal));
	return r < 0 ? r : put_piece(journal);
}

int journal_seal(struct journal *journal)
{
	int r = 0;

	if (takes_no_more(journal))
		return -EIO;
	if (!journal->open)
		return -EINVAL;
	if (journal->n_writes) {
		r = put_seal(journal);
		if (r == 0)
			r = sync_ring(journal);
		if (r < 0)
			return break_off(journal, r);
	}
	journal_lock(journal);
	journal->sealed = journal->epoch;
	if (journal->n_writes)
		journal->sealed_end = journal->written;
	journal_unlock(journal);
	journal->open = false;
	return 0;
}

void journal_drop(struct journal *journal)
{
	journal->open = false;
}
