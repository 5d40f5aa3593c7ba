/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Protection without etcd ("arbiter": "manual"): each host keeps the record itself, STATE/arbiter/UUID.manual, and a change after which there could
 * be two is made only when a person has said, on this host and of exactly this generation, that the other side has ended: STATE/arbiter/UUID.word.
 * A side that says of itself that it has ended gives that word, too (protect/protocol.h, ENDED).
 *
 *   {"version":1,"records":[{"version":1,"generation":6,...},{"version":1,"generation":7,...}]}      the last one stands; its revision is its generation
 *   {"version":1,"generation":7,"says":"owner-is-dead","owner":"<32 hex digits>","who":"uid 0","time":1700000000}
 *
 * The records before it are kept so that two hosts that meet again see whether what they did follows from each other. Whoever may write in the
 * state directory is believed; texts of a peer are not (manual_decode judges both). Any thread; files of a VM have one writer, its relay,
 * and the word's is the daemon as well.
 */

#include "base/error.h"
#include "base/uuid.h"
#include "protect/ownership.h"

#define MANUAL_KEPT 16
#define MANUAL_TEXT 4096 /* bytes of MANUAL_KEPT records, with the NUL */

/* In ascending order of generations. */
struct manual_records {
	uint32_t n;
	struct ownership_record list[MANUAL_KEPT];
};

enum manual_says { MANUAL_SAYS_NOTHING, MANUAL_OWNER_IS_DEAD, MANUAL_BACKUP_IS_DEAD };
extern const char *const manual_says_names
	[]; /* "nothing", "owner-is-dead", "backup-is-dead"; NULL behind them (peer/manual_words.c) */

struct manual_word {
	uint64_t generation; /* of the record of which it was said */
	int64_t time;	     /* seconds since 1970 */
	struct ownership_id owner;
	char who[60];
	enum manual_says says;
};

/* ---- pure ---- */

enum manual_verdict {
	MANUAL_GRANTED,
	MANUAL_WAITS, /* for a person's word */
	MANUAL_LOST,  /* another record stands there */
	MANUAL_NEVER, /* no such change exists */
};

/* `record`: what stands here (OWNERSHIP_NONE: nothing). `word`: the one that was given here, or zeroes; one of another generation or owner counts as
 * none. `owner_has_ended`: the record's owner was a process of this host, and is none any more. *ret_needs: of WAITS, what is to be said. */
enum manual_verdict manual_judge(const struct ownership_record *record,
				 const struct ownership_record *want,
				 const struct manual_word *word, bool owner_has_ended,
				 enum manual_says *ret_needs);
/* Whether a backup's host follows what the owner's says of the record. */
bool manual_may_follow(const struct ownership_record *record, const struct ownership_record *heard,
		       const struct ownership_id *session);
/* Whether all that was done here was known to them who come: our last record is one of theirs. */
bool manual_agree(const struct manual_records *ours, const struct manual_records *theirs);

/* What stands. */
struct ownership_record manual_last(const struct manual_records *records);
/* The oldest one makes place. */
void manual_append(struct manual_records *records, const struct ownership_record *record);

/* *ret_len without the NUL. -EINVAL: no records that may stand there. */
_must_check_ int manual_encode(const struct manual_records *records, char ret_text[MANUAL_TEXT],
			       size_t *ret_len);
/* -EBADMSG. */
_must_check_ int manual_decode(const char *text, size_t len, struct manual_records *ret_records);
_must_check_ int manual_word_encode(const struct manual_word *word, char ret_text[MANUAL_TEXT],
				    size_t *ret_len);
_must_check_ int manual_word_decode(const char *text, size_t len, struct manual_word *ret_word);

/* ---- files ---- */

/* There is one writer: held as long as *ret_fd is. -EBUSY. */
_must_check_ int manual_lock(int state_fd, const char uuid[UUID_TEXT], int *ret_fd);
/* None: no records. */
_must_check_ int manual_read(int state_fd, const char uuid[UUID_TEXT],
			     struct manual_records *ret_records, struct error *err);
/* Durable when they succeed. */
_must_check_ int manual_write(int state_fd, const char uuid[UUID_TEXT],
			      const struct manual_records *records);
_must_check_ int manual_write_word(int state_fd, const char uuid[UUID_TEXT],
				   const struct manual_word *word);
/* Zeroes where there is none, or none that can be read. */
void manual_read_word(int state_fd, const char uuid[UUID_TEXT], struct manual_word *ret_word);
void manual_drop_word(int state_fd, const char uuid[UUID_TEXT]);
