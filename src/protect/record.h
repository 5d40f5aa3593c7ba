/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The ownership record as text: what stands under a VM's key at the arbiter, one JSON object that a person can read with etcdctl.
 *
 *   {"version":1,"generation":7,"mode":"protected","owner":"<32 hex digits>","backup":"<32 hex digits>"}
 *
 * `backup` is there when the mode is protected and only then, `from` when it is claimed and only then. The record's revision is the
 * arbiter's and stands beside the text, not in it. The text is untrusted when it is read: whoever may write to the arbiter wrote it.
 * Version rule: a reader knows its own version and refuses all others by their number; nothing is left out or guessed.
 *
 * Pure; any thread.
 */

#include "base/error.h"
#include "base/limits.h"
#include "protect/ownership.h"

#define RECORD_VERSION 1
#define RECORD_GENERATION_MAX INT64_MAX /* JSON's integers here are signed */

/* The text, `*ret_len` bytes and a NUL. `record->revision` is left out. -EINVAL: no record that may stand there (no generation, no
 * owner, a backup or `from` that the mode has not, OWNERSHIP_NONE). */
_must_check_ int record_encode(const struct ownership_record *record,
			       char ret_text[LIMIT_OWNERSHIP_RECORD], size_t *ret_len);

/* The reverse, with revision 0. -EINVAL with `err`: it is none, and why. */
_must_check_ int record_decode(const char *text, size_t len, struct ownership_record *ret_record,
			       struct error *err);
