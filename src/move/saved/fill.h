/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The pages of a saved VM, loaded from its file while it runs: what somebody waits for first, what stands behind it next, then the
 * rest in the order of the file. Some threads; each reads a chunk, checks it, unpacks it and places its pages (move/pages/demand.h).
 *
 *   fault thread --wanted--> queue --.
 *                  cursor of the rest +--> threads: file -> chunk -> demand_place
 */

#include "move/pages/demand.h"
#include "move/saved/index.h"

struct fill_settings {
	struct move_link *link;		  /* borrowed; the VM arrives */
	const struct move_facts *facts;	  /* borrowed */
	int ram_fd;			  /* borrowed */
	struct move_shared *shared;	  /* borrowed */
	const struct saved *saved;	  /* borrowed; its state was read */
	const struct thread_entry *entry; /* of each thread; may be NULL */
};

struct fill;

/* Makes the VM's memory one that comes on demand: from here on what is touched is loaded. -EOPNOTSUPP: the VM's host cannot, and all is
 * as before. */
_must_check_ int fill_new(const struct fill_settings *settings, struct fill **ret_fill,
			  struct error *err);
/* What was not placed is lost: the VM ends, if it has not. */
void fill_free(struct fill *fill);
/* Begins with what nobody waits for. */
void fill_rest(struct fill *fill);
/* Waits at most so long: 1: all is there, 0: not yet; negative with `err`: the first error, after which nothing more comes. */
_must_check_ int fill_wait(struct fill *fill, unsigned int timeout_ms, struct error *err);
/* After 1: the VM is like any other. */
_must_check_ int fill_finish(struct fill *fill, struct error *err);
/* Nothing more comes, and that is why: for the VM's own last words. */
void fill_give_up(struct fill *fill, const char *why);
/* Pages of the file that are still to be placed. */
uint64_t fill_left(struct fill *fill);
