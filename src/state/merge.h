/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sections of only what changed (VM_SAVE_TOUCHED), put into a stream that has all: for a backup, which keeps the newest of each. Both streams are
 * untrusted; only their sections' borders are looked at. Pure.
 */

#include "state/state.h"

/* Appends to `out` (which begins empty) the sections of `whole` in their order, each by that of `changed` with the same name where there is one; what is new in `changed`
 * follows. -EBADMSG: one of them is malformed, or has a name twice; -E2BIG, -ENOMEM. After an error `out` is of no use. */
_must_check_ int state_merge(struct buffer *out, const void *whole, size_t whole_len,
			     const void *changed, size_t changed_len);
