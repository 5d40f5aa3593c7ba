/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Watching a VM that runs: tells it so over its socket, and reads the store that its keeper hands out. The VM goes on
 * watching until the connection closes, however this process ends. One thread.
 */

#include "view/view.h"

struct live_options {
	bool all;      /* doorbells too, which KVM takes otherwise */
	bool exact;    /* the VM single-steps instructions */
	bool lossless; /* the VM waits for this reader */
	bool history;  /* begin with what the rings still hold */
};

struct live;

/* Errors name the VM: none of this name, one that died (and where its last requests are), one that refuses. */
_must_check_ int live_open(const char *name, const struct live_options *options,
			   struct live **ret_live, struct error *err);
void live_free(struct live *live);

/* Makes `view` (zeroed) one of this VM; it borrows all from `live`. */
void live_fill(struct live *live, struct view_context *view);

/* "normal, exact, lossless": a store's mode and flags as text. */
void live_format_mode(uint32_t mode, uint32_t flags, char *ret_text, size_t size);
