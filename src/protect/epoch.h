/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What changed in an epoch: pages of RAM as they were when it was cut, and the state. At the owner it is filled while the guest stands still
 * and sent while it runs; at the backup it is staged, apart from RAM, until it is whole.
 *
 *   owner:   dirty log --epoch_capture (guest stands)--> epoch --epoch_send (guest runs)--> stream
 *   backup:  stream --epoch_receive--> epoch, whole --epoch_apply--> RAM
 *
 * Its memory is one mapping with room for every page of RAM, which the host gives as it is first used: while the guest stands still no
 * call is made that can fail, and what epochs use again and again is there already. One thread at a time.
 */

#include "base/buffer.h"
#include "base/error.h"
#include "memory/dirty.h"

#define EPOCH_STATE_MAX (64ULL << 20) /* bytes */

struct epoch {
	uint64_t number;   /* 1 and up; never used again by whoever owns the VM */
	uint64_t released; /* output of epochs up to this one had left when it was cut */
	uint64_t n_pages, max_pages;
	uint64_t *pages;     /* numbers in RAM's file, ascending at the owner */
	uint8_t *content;    /* n_pages pages of 4 KiB, in that order, aligned */
	struct buffer state; /* empty: the epoch fills, and nobody can go on from it */
	uint64_t used_pages; /* of the mapping, since they were last given back */
};

/* Room for `max_pages` pages (of 4 KiB; RAM's size). -ENOMEM. */
_must_check_ int epoch_init(struct epoch *epoch, uint64_t max_pages);
void epoch_release(struct epoch *epoch);
/* Empties it for the next one. Gives memory back that it used beyond `keep_pages`. */
void epoch_clear(struct epoch *epoch, uint64_t keep_pages);

/* One whose pages and state are somebody else's memory, to be sent as they are: the caller fills in numbers, `n_pages` and `state.len`. Neither
 * cleared nor released. */
static inline struct epoch epoch_over(uint64_t *pages, uint8_t *content, uint8_t *state)
{
	return (struct epoch){ .pages = pages, .content = content, .state = { .data = state } };
}

static inline uint8_t *epoch_content(const struct epoch *epoch, uint64_t i)
{
	return epoch->content + i * MEMORY_PAGE_SIZE;
}

/*
 * Copies the pages that `dirty` names, in ascending order, and clears it. While the guest stands still (base/quiesce.h), so that what is copied
 * is one moment; the controller's thread. Its cost is fixed + n x page: see ./bench protect.pause.
 */
void epoch_capture(struct epoch *epoch, const struct memory *memory, struct dirty_bitmap *dirty);

/* One page's part of the sum that PROTECT_END carries: the sum of all pages' parts, modulo 2^64. A page that is missing, twice there, in another's
 * place, or one bit of which differs, changes it but for one in about 2^54 cases; it is no protection against who can choose pages (TLS is). */
uint64_t epoch_sum(uint64_t page, const void *content);

/* A page of RAM by its number in RAM's file, which must be below RAM's size. */
uint8_t *epoch_page(const struct memory *memory, uint64_t page);

/* Backup: writes a whole epoch into RAM. Cannot fail; may be repeated. */
void epoch_apply(const struct epoch *epoch, const struct memory *memory);
