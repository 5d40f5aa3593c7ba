/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "protect/journal_internal.h"

int journal_damaged(struct error *err, uint64_t at, const char *what)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_RESOURCE,
			 "journal: damaged at byte %llu: %s; the disks are to be copied again",
			 (unsigned long long)at, what);
}

/* ---- an epoch's bytes, one behind the other ---- */

struct reader {
	struct journal *journal;
	struct journal_piece *piece; /* `len`: how many of its bytes were taken */
	uint64_t position;	     /* of the piece's first byte */
	uint64_t limit;		     /* no byte from here on */
	size_t filled;		     /* of the piece */
	bool check;
};

static int fill(struct reader *in)
{
	uint64_t at = in->position + in->filled;
	size_t n = (size_t)MIN(JOURNAL_PIECE - in->filled, in->limit - at);
	int r;

	if (n == 0)
		return -EBADMSG;
	/* Block by block, so that a short epoch does not cost a whole piece's reading. */
	n = MIN(n, in->filled ? n : (size_t)JOURNAL_BLOCK);
	r = journal_ring_read(in->journal, in->piece->bytes + in->filled, n, at);
	if (r == 0)
		in->filled += n;
	return r;
}

/* A full piece is hashed when its last byte is taken, as it was when that was put. */
static int next_piece(struct reader *in)
{
	int r = in->check ? journal_piece_fold(in->journal->applier->digest, in->piece) : 0;

	in->position += JOURNAL_PIECE;
	in->piece->len = 0;
	in->filled = 0;
	return r;
}

/* Up to `len` bytes that lie together, taken: valid until the next call. */
static int take_some(struct reader *in, uint64_t len, const uint8_t **ret_bytes, size_t *ret_len)
{
	int r = 0;

	if (in->piece->len == JOURNAL_PIECE)
		r = next_piece(in);
	if (r == 0 && in->piece->len == in->filled)
		r = fill(in);
	if (r < 0)
		return r;
	*ret_bytes = in->piece->bytes + in->piece->len;
	*ret_len = (size_t)MIN(len, in->filled - in->piece->len);
	in->piece->len += *ret_len;
	return 0;
}

static int take(struct reader *in, void *buf, size_t len)
{
	const uint8_t *bytes;
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < len; at += n) {
		r = take_some(in, len - at, &bytes, &n);
		if (r < 0)
			return r;
		memcpy((uint8_t *)buf + at, bytes, n);
	}
	return r;
}

/* ---- an epoch ---- */

static int take_start(struct reader *in, struct journal_start *ret_start)
{
	uint8_t bytes[JOURNAL_BEGIN_BYTES];
	uint64_t position = in->position;
	int r = take(in, bytes, sizeof(bytes));

	if (r == 0)
		r = journal_start_decode(in->journal->applier->digest, in->journal->key, bytes,
					 ret_start);
	/* One of the ring's round before is whole, too. */
	if (r == 0 && ret_start->position != position)
		r = -EBADMSG;
	return r;
}

static int take_data(struct reader *in, const struct journal_write *write)
{
	struct storage *disk = in->journal->disks[write->disk];
	const uint8_t *bytes;
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < write->len;) {
		size_t n;

		r = take_some(in, write->len - at, &bytes, &n);
		if (r == 0 && !in->check)
			r = storage_write(disk, bytes, n, write->offset + at);
		at += r == 0 ? n : 0;
	}
	return r;
}

static int take_write(struct reader *in, const struct journal_write *write)
{
	if (write->kind == JOURNAL_WRITE)
		return take_data(in, write);
	return in->check ? 0
			 : storage_zero(in->journal->disks[write->disk], write->offset, write->len,
					write->kind == JOURNAL_DISCARD);
}

/* The hash of all that was taken, and what stands there. */
static int take_seal(struct reader *in)
{
	uint8_t ours[DIGEST_BYTES], theirs[DIGEST_BYTES];
	size_t len = in->piece->len;
	int r = 0;

	if (in->check) {
		if (len == JOURNAL_PIECE)
			r = next_piece(in);
		if (r == 0)
			r = journal_piece_fold(in->journal->applier->digest, in->piece);
		memcpy(ours, in->piece->chain, sizeof(ours));
	}
	if (r == 0)
		r = take(in, theirs, sizeof(theirs));
	if (r == 0 && in->check && memcmp(ours, theirs, sizeof(ours)) != 0)
		r = -EBADMSG;
	return r;
}

int journal_epoch_read(struct journal *journal, uint64_t position, uint64_t limit, bool check,
		       struct journal_epoch *ret_epoch)
{
	struct reader in = { .journal = journal,
			     .piece = &journal->applier->piece,
			     .position = position,
			     .limit = limit,
			     .check = check };
	uint8_t bytes[JOURNAL_WRITE_BYTES];
	struct journal_write write;
	uint64_t n = 0;
	int r;

	in.piece->len = 0;
	memcpy(in.piece->chain, journal->key, DIGEST_BYTES);
	r = take_start(&in, &ret_epoch->start);
	while (r == 0) {
		r = take(&in, bytes, sizeof(bytes));
		if (r == 0)
			r = journal_write_decode(&journal->head, bytes, &write);
		if (r == 0)
			r = take_write(&in, &write);
		n += r == 0;
	}
	if (r == 1)
		r = write.len == n ? take_seal(&in) : -EBADMSG;
	ret_epoch->end = ALIGN_UP(in.position + in.piece->len, JOURNAL_BLOCK);
	return r;
}

/* ---- after a crash ---- */

/*
 * Whether any epoch was begun behind `from`: that happens only after the one at `from` was durable. So what is not whole there was once, and has been
 * damaged since; else it was never finished. Costs a read of the ring, once.
 */
static int any_begun_behind(struct journal *journal, uint64_t from, bool *ret_any)
{
	uint8_t bytes[JOURNAL_BEGIN_BYTES];
	struct journal_start start;
	int r = 0;

	*ret_any = false;
	for (uint64_t at = 0; r == 0 && at < journal->head.ring_bytes; at += JOURNAL_BLOCK) {
		r = storage_read(journal->file, bytes, sizeof(bytes), JOURNAL_RING_AT + at);
		if (r == 0)
			r = journal_start_decode(journal->applier->digest, journal->key, bytes,
						 &start);
		*ret_any |= r == 0 && start.position > from &&
			    start.position % journal->head.ring_bytes == at;
		r = r == -EBADMSG ? 0 : r;
	}
	return r;
}

static int judge_torn(struct journal *journal, uint64_t at, struct error *err)
{
	bool any;
	int r = any_begun_behind(journal, at, &any);

	if (r < 0)
		return r;
	return any ? journal_damaged(err, journal_ring_place(journal, at),
				     "an epoch that was whole once")
		   : 0;
}

int journal_find_sealed(struct journal *journal, struct error *err)
{
	const uint64_t limit = journal->mark.tail + journal->head.ring_bytes;
	struct journal_epoch epoch;
	int r = 0;

	journal->sealed = journal->mark.applied;
	journal->sealed_end = journal->mark.tail;
	if (journal->mark.state == JOURNAL_ENDED)
		return 0;
	while (journal->sealed_end < limit) {
		r = journal_epoch_read(journal, journal->sealed_end, limit, true, &epoch);
		if (r < 0)
			break;
		if (epoch.start.epoch <= journal->sealed)
			return journal_damaged(err,
					       journal_ring_place(journal, journal->sealed_end),
					       "epochs out of order");
		journal->sealed = epoch.start.epoch;
		journal->sealed_end = epoch.end;
	}
	return r == -EBADMSG ? judge_torn(journal, journal->sealed_end, err) : r;
}
