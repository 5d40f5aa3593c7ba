/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/sites.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define SLOTS (2 * SITES_MAX) /* a power of two */

struct sites {
	uint16_t slots[SLOTS]; /* site's number, or 0 */
	uint32_t n;	       /* numbers given, the two fixed ones included */
	struct watch_record examples[SITES_MAX];
};

struct sites *sites_new(void)
{
	struct sites *sites = calloc(1, sizeof(*sites));

	if (sites)
		sites->n = SITE_OTHER + 1;
	return sites;
}

void sites_free(struct sites *sites)
{
	free(sites);
}

static bool has_site(const struct watch_record *record)
{
	return (record->kind == RECORD_PIO || record->kind == RECORD_MMIO ||
		record->kind == RECORD_PCI) &&
	       record->access.mode;
}

/* The code at RIP tells one process's instruction from another's at the same address. */
static bool same_site(const struct record_access *a, const struct record_access *b)
{
	return a->instruction == b->instruction && a->mode == b->mode && a->verdict == b->verdict &&
	       a->length == b->length && !memcmp(a->code, b->code, sizeof(a->code));
}

static uint32_t slot_of(const struct record_access *access)
{
	uint64_t code, mixed;

	memcpy(&code, access->code + RECORD_WINDOW, sizeof(code));
	mixed = (access->instruction ^ code * 0xff51afd7ed558ccdULL) * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(mixed >> 32) % SLOTS;
}

uint16_t sites_number(struct sites *sites, const struct watch_record *record)
{
	uint32_t slot;

	if (!has_site(record))
		return SITE_NONE;
	for (slot = slot_of(&record->access); sites->slots[slot]; slot = (slot + 1) % SLOTS)
		if (same_site(&sites->examples[sites->slots[slot]].access, &record->access))
			return sites->slots[slot];
	if (sites->n == SITES_MAX)
		return SITE_OTHER;
	sites->examples[sites->n] = *record;
	sites->slots[slot] = (uint16_t)sites->n;
	return (uint16_t)sites->n++;
}

const struct watch_record *sites_example(const struct sites *sites, uint16_t site)
{
	return site > SITE_OTHER && site < sites->n ? &sites->examples[site] : NULL;
}
