/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What of RAM is still to be sent, at the source. Pages are counted in RAM's file, 4 KiB each.
 *
 *   VM's process --OR--> shared dirty bitmap --exchange--> claims --> one sender thread each
 *   RAM's file --SEEK_DATA--> populated bitmap --^  (first round only)
 *
 * A round passes over all pages once. A sender claims some hundred pages at a time; a page's dirty bit is taken before
 * the page is read, so that a write after the reading is found by the next collect. Nothing here reads a hole of RAM's
 * file through the mapping: that would fill it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/macros.h"

#define PAGE_BYTES 4096ULL
#define PAGE_CLAIM_WORDS 64 /* of 64 pages each, in one claim */

struct page_map;

/* Maps RAM (`ram_fd` is borrowed). `dirty`: the bitmap shared with the VM's process (move/guest/guest.h), borrowed; bits
 * beyond RAM's end are ignored. */
_must_check_ int page_map_new(int ram_fd, uint64_t ram_bytes, uint64_t *dirty,
			      struct page_map **ret_map, struct error *err);
void page_map_free(struct page_map *map);

/* Whether RAM's file has pages of 2 MiB from hugetlbfs. */
bool page_map_is_hugetlb(const struct page_map *map);
const uint8_t *page_map_ram(const struct page_map *map); /* for pages that were claimed */
int page_map_fd(const struct page_map *map);

/*
 * The populated pages become what is to be sent: once, after the dirty log was started. A hugetlb file, which has
 * SEEK_DATA call everything data, is asked page by page through a userfaultfd (UFFDIO_CONTINUE fails on a hole), or, where
 * the host gives none, by reading it (read(2) fills no hole of hugetlbfs): pages that read as zero are left out.
 */
_must_check_ int page_map_add_populated(struct page_map *map, struct error *err);

/* A round begins: claims start from the first page again. While no sender claims. */
void page_map_rewind(struct page_map *map);

/* How many pages a round that begins now, or the rest of this one, has to send. Any thread. */
uint64_t page_map_left(const struct page_map *map);

/* Some of the pages of this round, in order of their numbers; owned by who claims until the next rewind. */
struct page_claim {
	uint32_t at; /* words before it are empty */
	uint32_t n_words;
	uint32_t n_pages;
	struct {
		uint64_t first; /* page of bit 0 */
		uint64_t bits;
	} words[PAGE_CLAIM_WORDS];
};

/* At most `max_pages` and 63 more; false when the round has no more. Any thread. */
_must_check_ bool page_map_claim(struct page_map *map, uint32_t max_pages,
				 struct page_claim *ret_claim);
/* The pages of [first, first + n) that this round still has; at most PAGE_CLAIM_WORDS - 1 words of them. Any thread. */
_must_check_ bool page_map_claim_range(struct page_map *map, uint64_t first, uint32_t n,
				       struct page_claim *ret_claim);
/* Takes the next contiguous run out of a claim, at most `max` pages long: false when it is empty. */
_must_check_ bool page_claim_run(struct page_claim *claim, uint32_t max, uint64_t *ret_first,
				 uint32_t *ret_n);

/*
 * The VM stands for good and nothing is added any more: what is left is the rest, which the receiver does not have or has in an older
 * version. `huge`: pages of 2 MiB, with one of which all go that the receiver may hold of it, as it cannot make a hole of less;
 * of hugetlbfs all. While no sender claims.
 */
void page_map_settle(struct page_map *map, bool huge);
/* Of the rest: 64 pages, from number word * 64 on; 0 beyond the end. */
uint64_t page_map_rest(const struct page_map *map, uint64_t word);

/* Whether the receiver may hold something else than zeros there. For pages of an own claim. */
bool page_map_held(const struct page_map *map, uint64_t page);
void page_map_set_held(struct page_map *map, uint64_t first, uint32_t n, bool held);
