/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A view that is lines on standard output: what differs between the one for people and the one for programs. */

#include "view/output.h"
#include "view/view.h"

struct line_format {
	int (*begin)(struct view_context *view, struct output *output);
	int (*record)(struct view_context *view, struct output *output,
		      const struct watch_record *record, uint32_t ring);
	/* Other watchers have changed what is recorded: `mode` and `unseen` of the view are new. */
	int (*mode)(struct view_context *view, struct output *output);
	/* Records were lost since the source had lost `since`. */
	int (*lost)(struct view_context *view, struct output *output, uint64_t since);
	/* The VM has waited too long for this reader, and goes on without it: no longer lossless. */
	int (*expelled)(struct view_context *view, struct output *output);
	int (*end)(struct view_context *view, struct output *output);
};

/* Until view_next says that it is over, or nobody reads any more. */
_must_check_ int lines_run(struct view_context *view, const struct line_format *format,
			   struct error *err);
