/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Marks: the two durable facts that a hand-over stands on, as small files of this host (facts: docs/protocol.md).
 *
 *   STATE/given/NAME    source: "this VM was given away: token, to whom, when"; there from the moment of giving until it is known
 *                       that the other side never ran it; afterwards it says where the VM lives
 *   STATE/taken/TOKEN   destination: the ONE result of a token, written once: "ran" before the first instruction, or "never"
 *                       after the VM's process ended. First wins.
 *
 * STATE is the state directory (host/state_dir.h). Files are made by whoever may open paths (the daemon, the mover); the sandboxed
 * VM's process writes through a descriptor. Durable means: data and directory synced before the call returns. A mark is
 * text of a fixed size within one sector with a CRC-32 at its end, and is written over in place: a power cut leaves the old
 * or the new. Its content is untrusted when read back.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/macros.h"
#include "base/uuid.h"

#define MARK_TOKEN_BYTES 16
#define MARK_PEER_MAX 256 /* bytes of a host's name with the NUL */
#define MARK_GIVEN_BYTES 512
#define MARK_TAKEN_BYTES 128 /* two records: the token as prepared, its result */

enum mark_result { MARK_OPEN, MARK_RAN, MARK_NEVER };
const char *mark_result_name(enum mark_result result); /* "open", "ran", "never" */

struct mark_given {
	char name[LIMIT_NAME];
	char uuid[UUID_TEXT];
	uint64_t generation;
	uint8_t token[MARK_TOKEN_BYTES];
	char peer[MARK_PEER_MAX]; /* printable */
	uint64_t wall_ns;	  /* when, for people */
	enum mark_result result;  /* as far as this host knows: OPEN is "in doubt" */
};

/* A VM that was saved lives in its file: the mark says RAN and names that in place of a host. No host's name has a space. */
#define MARK_FILE_PREFIX "the file "
bool mark_is_file(const struct mark_given *given);

struct marks; /* the opened folders */

_must_check_ int marks_open(struct marks **ret_marks, struct error *err);
void marks_close(struct marks *marks);

/* Source. Makes (or empties) the file that `mark_give` will fill, its directory entry durable: descriptor or negative errno.
 * -EEXIST with `err` when the VM is given away already and it is not known that it ran there; -EBUSY: another process held the
 * folder's lock for a second. */
_must_check_ int marks_prepare_given(struct marks *marks, const char *name, struct error *err);
/* Writes through such a descriptor, durably. -EINVAL: no valid name, UUID or peer. An empty file, and one with the result NEVER, mean: not
 * given. */
_must_check_ int mark_give(int fd, const struct mark_given *given);
/* 1 with `*ret_given` filled, 0 not given, -EBADMSG damaged (treated as given by unknown: nobody may run it). */
_must_check_ int marks_read_given(struct marks *marks, const char *name,
				  struct mark_given *ret_given);
/* What became of the move with this token: RAN stands in the mark from then on, NEVER removes it (for a VM that came back, too). NULL:
 * whatever stands there, damaged as it may be, because a person says so. -ENOENT: there is none; -ESTALE: it is another move's, by now; -EBUSY: as above. */
_must_check_ int marks_settle_given(struct marks *marks, const char *name,
				    const uint8_t token[MARK_TOKEN_BYTES], enum mark_result result);
/* Calls `found` for each VM given away, until it returns non-zero, which is returned. A damaged mark has its name and no peer. */
_must_check_ int marks_list_given(struct marks *marks,
				  int (*found)(void *ctx, const struct mark_given *given),
				  void *ctx);

/* Destination. Makes the token's file, without a result, durable (-EEXIST: the token was used): a descriptor. */
_must_check_ int marks_prepare_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES],
				     struct error *err);
/*
 * First wins: under a lock of the file, writes `result` (RAN, NEVER) durably if it has none; returns what stands there
 * afterwards (enum mark_result) or a negative errno, after which nothing may be concluded but by asking again. -EBUSY: another
 * open file held the lock for a second. The lock is the open file's: processes that share one must not call this at
 * the same time.
 */
_must_check_ int mark_take(int fd, enum mark_result result);
/*
 * The token's result, durable before this returns. With `close`, a token without one - prepared, or unknown here - gets
 * NEVER first: only once no process of the VM that it made lives. -EBADMSG damaged; -ENOENT (without `close`) unknown.
 */
_must_check_ int marks_read_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES],
				  bool close, enum mark_result *ret_result);

/* Source: 1 when this host can have no more use for the token's result: no mark of it is open, and that is durable. 0: one is. */
_must_check_ int marks_is_settled(struct marks *marks, const char *name,
				  const uint8_t token[MARK_TOKEN_BYTES]);
/* Destination: forgets the token, of which nobody will ask any more. */
_must_check_ int marks_forget_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES]);

/* The files' text. -EBADMSG: damaged. -EINVAL: not to be written so. */
_must_check_ int mark_given_decode(const void *text, size_t len, struct mark_given *ret_given);
_must_check_ int mark_given_encode(const struct mark_given *given,
				   char ret_text[MARK_GIVEN_BYTES + 1]);
_must_check_ int mark_taken_decode(const void *text, size_t len,
				   uint8_t ret_token[MARK_TOKEN_BYTES],
				   enum mark_result *ret_result);
