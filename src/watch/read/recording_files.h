/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The files of a rotated recording: NAME.utsusu, NAME.1.utsusu, ... One thread. */

#include <stdbool.h>

#include "base/error.h"
#include "base/macros.h"

struct recording_files {
	char *path;	/* owned */
	uint32_t older; /* how many files of this recording lie beside it: 1..older */
};

/* Takes `path` for a new recording: nothing of its names is there, or it was a recording and `replace`; then it is deleted.
 * Otherwise -EEXIST. Fills `err`. */
_must_check_ int recording_files_claim(struct recording_files *files, const char *path,
				       bool replace, struct error *err);
void recording_files_release(struct recording_files *files);

/* The file that is written, new: its descriptor (the caller's), or a negative errno. */
_must_check_ int recording_files_create(const struct recording_files *files);
/* NAME becomes NAME.1, that NAME.2, and so on; more than `keep` in all (0: no limit) are deleted. */
_must_check_ int recording_files_shift(struct recording_files *files, uint32_t keep);
