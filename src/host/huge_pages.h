/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The host's reserved huge pages, of which RAM of hugepages=on is made: of 2 MiB, whatever size the host calls its default. */

#include <stdint.h>

#include "base/error.h"

#define HUGE_PAGES_FOLDER "/sys/kernel/mm/hugepages/hugepages-2048kB"

struct huge_pages {
	uint64_t total;
	uint64_t free;
	uint64_t promised; /* of the free ones: to mappings that have not touched them yet */
};

/* `folder`: HUGE_PAGES_FOLDER, but in tests. -ENOENT: this kernel has none of that size. Any thread. */
_must_check_ int huge_pages_look(const char *folder, struct huge_pages *ret_pages);

/* Whether `bytes` more of RAM can be made of them now. -EOPNOTSUPP: there is no such size here; -ENOMEM: too few are left, and
 * `err` says how many there would have to be. */
_must_check_ int huge_pages_judge(const char *folder, uint64_t bytes, struct error *err);
