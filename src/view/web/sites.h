/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Numbers for instructions, so that a point names one in 16 bits: by address, mode, verdict and code. A guest can make
 * more than there is room for: those share SITE_OTHER. One thread.
 */

#include "watch/record.h"

#define SITES_MAX 16384
#define SITE_NONE 0  /* the record has no instruction */
#define SITE_OTHER 1 /* more than SITES_MAX were seen */

struct sites;

/* NULL when out of memory. */
struct sites *sites_new(void);
void sites_free(struct sites *sites);

/* The number of the record's instruction. */
uint16_t sites_number(struct sites *sites, const struct watch_record *record);
/* A record with that instruction, the first that was seen; NULL for SITE_NONE and SITE_OTHER. */
const struct watch_record *sites_example(const struct sites *sites, uint16_t site);
