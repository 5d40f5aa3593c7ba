/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the journal share: its form on the disk, and its struct. */

#include <pthread.h>

#include "protect/journal.h"
#include "wire/digest.h"

#define JOURNAL_VERSION 1U
#define JOURNAL_PIECE KIB(64)		  /* what is hashed at once: part of the format */
#define JOURNAL_POSITION_MAX (1ULL << 62) /* never reached by writing */
#define JOURNAL_BEGIN_BYTES 56U
#define JOURNAL_MARK_BYTES 80U
#define JOURNAL_SEAL 0x5ea1 /* the kind that ends an epoch; its `len`: how many writes there are */
#define JOURNAL_SEAL_BYTES (JOURNAL_WRITE_BYTES + DIGEST_BYTES)

/* How far the disks are. Two places, written in turn: what is durable is never written over by what is not yet. */
struct journal_mark {
	uint64_t serial; /* of the mark */
	enum journal_state state;
	uint64_t applied;
	uint64_t tail; /* where the first epoch begins that is not applied */
};

/* What begins an epoch: at a position in the endless file of which the ring shows the last part. */
struct journal_start {
	uint64_t epoch, position;
};

/* journal_format.c: bytes and what they mean. `key`: the head's hash, which is in all others' */
_must_check_ int journal_head_judge(const struct journal_head *head, struct error *err);
_must_check_ int journal_head_encode(struct digest *digest, const struct journal_head *head,
				     uint8_t ret_block[JOURNAL_BLOCK],
				     uint8_t ret_key[DIGEST_BYTES]);
/* -EBADMSG, -EPROTONOSUPPORT with `err`. */
_must_check_ int journal_head_decode(struct digest *digest, const uint8_t block[JOURNAL_BLOCK],
				     struct journal_head *ret_head, uint8_t ret_key[DIGEST_BYTES],
				     struct error *err);
_must_check_ int journal_mark_encode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
				     const struct journal_mark *mark,
				     uint8_t ret_sector[STORAGE_SECTOR]);
/* -EBADMSG: it is none of this journal. */
_must_check_ int journal_mark_decode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
				     const uint8_t sector[STORAGE_SECTOR],
				     struct journal_mark *ret_mark);
_must_check_ int journal_start_encode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
				      const struct journal_start *start,
				      uint8_t ret_bytes[JOURNAL_BEGIN_BYTES]);
_must_check_ int journal_start_decode(struct digest *digest, const uint8_t key[DIGEST_BYTES],
				      const uint8_t bytes[JOURNAL_BEGIN_BYTES],
				      struct journal_start *ret_start);
void journal_write_encode(const struct journal_write *write,
			  uint8_t ret_bytes[JOURNAL_WRITE_BYTES]);
/* 0; 1: it is the seal, with its number of writes in ret_write->len; -EBADMSG. */
_must_check_ int journal_write_decode(const struct journal_head *head,
				      const uint8_t bytes[JOURNAL_WRITE_BYTES],
				      struct journal_write *ret_write);
/* Whether it is one to the disks of `head`. */
bool journal_write_fits(const struct journal_head *head, const struct journal_write *write);

/*
 * The hash of an epoch: of its pieces, each together with the hash of the one before; the first with the key. `bytes` begins with
 * DIGEST_BYTES of place for that.
 */
struct journal_piece {
	uint8_t chain[DIGEST_BYTES];
	uint8_t bytes[JOURNAL_PIECE];
	size_t len;
};
_must_check_ int journal_piece_fold(struct digest *digest, struct journal_piece *piece);

/* Each thread's own. */
struct journal_hands {
	struct digest *digest;
	struct journal_piece piece;
};

struct journal {
	struct storage *file;		    /* borrowed */
	struct storage *disks[LIMIT_DISKS]; /* borrowed */
	struct journal_head head;
	uint8_t key[DIGEST_BYTES];

	/* The writer's. */
	struct journal_hands *writer;
	bool open;
	uint64_t epoch;	   /* that is open */
	uint64_t start;	   /* position of its first byte */
	uint64_t n_writes; /* in it */
	uint64_t written;  /* position of the piece's first byte */

	/* The applier's. */
	struct journal_hands *applier;

	/* The kernel tells a file's failed write-back to one sync alone. So who syncs holds this, and notes a failure in `broken` before the
	 * other one looks. Before `lock`. */
	pthread_mutex_t syncing;

	pthread_mutex_t lock; /* a leaf: never held over I/O */
	/* Under it. */
	uint64_t sealed;     /* epoch */
	uint64_t sealed_end; /* position behind it */
	struct journal_mark mark;
	bool broken; /* a write or sync of the file failed */
};

static inline void journal_lock(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
}

static inline void journal_unlock(struct journal *journal)
{
	pthread_mutex_unlock(&journal->lock);
}

/* journal.c: syncs the file, or finds that it is broken. `syncing` is held. */
_must_check_ int journal_sync_locked(struct journal *journal);

/* The ring, by positions. `len` <= ring_bytes. */
_must_check_ int journal_ring_read(struct journal *journal, void *buf, size_t len,
				   uint64_t position);
_must_check_ int journal_ring_write(struct journal *journal, const void *buf, size_t len,
				    uint64_t position);
static inline uint64_t journal_ring_place(const struct journal *journal, uint64_t position)
{
	return JOURNAL_RING_AT + position % journal->head.ring_bytes;
}

/* journal_read.c */
struct journal_epoch {
	struct journal_start start;
	uint64_t end; /* position behind it */
};
/* Reads the epoch at `position`, which ends at `limit` or before. With `check` its hash is compared and nothing else is done; else its writes
 * are done on the disks. -EBADMSG: there is no whole one. */
_must_check_ int journal_epoch_read(struct journal *journal, uint64_t position, uint64_t limit,
				    bool check, struct journal_epoch *ret_epoch);
/* What of the ring is sealed, from the mark on: fills `sealed` and `sealed_end`. */
_must_check_ int journal_find_sealed(struct journal *journal, struct error *err);

/* journal_apply.c: writes the mark to the place that is not the last one's, and syncs. The applier's. */
_must_check_ int journal_put_mark(struct journal *journal, const struct journal_mark *mark);
/* The later of the two. */
_must_check_ int journal_get_mark(struct journal *journal, struct error *err);
int journal_damaged(struct error *err, uint64_t at, const char *what);
