/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sections of only what changed, and how they are put into a stream that has all: an owner sends the first, its backup keeps the newest of each.
 * What changed is what differs byte for byte, not what somebody believes to have changed. Streams are untrusted; only their sections' borders are looked at.
 * Pure.
 */

#include "state/state.h"

/* Appends to `out` (which begins empty) the sections of `whole` in their order, each by that of `changed` with the same name where there is one; what is new in `changed`
 * follows. -EBADMSG: one of them is malformed, or has a name twice; -E2BIG, -ENOMEM. After an error `out` is of no use. */
_must_check_ int state_merge(struct buffer *out, const void *whole, size_t whole_len,
			     const void *changed, size_t changed_len);

/* Appends to `out` (which begins empty) those sections of `newer` that differ from `older`'s of the same name, or are new: merged into `older` they make
 * `newer`'s sections. -ENOENT: one of `older`'s is gone, so they would not. The other errors as above. */
_must_check_ int state_diff(struct buffer *out, const void *older, size_t older_len,
			    const void *newer, size_t newer_len);
