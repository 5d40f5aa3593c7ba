/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/intent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "protect/intent_internal.h"

/*
 * Bits as they are told, in words:
 *   now       written since `since`
 *   before    written in the time before that, not later than in epoch `before_last`
 *   durable   what the file has for certain: of a sector that is being written, what was and will be there
 */
struct intent {
	struct storage *file, *disk; /* borrowed */
	struct intent_head head;
	uint64_t n_regions, n_sectors;
	pthread_mutex_t lock; /* a leaf: never held over I/O */
	/* Under it. */
	uint64_t *now, *before, *durable;
	uint64_t last, before_last, since; /* epochs */
	bool broken;
	/* The worker's. */
	bool keeps; /* the disk could not be synced once: no bit may ever go */
	uint8_t sector[STORAGE_SECTOR];
	uint64_t *written; /* a bit for each sector that a flush has written and not synced */
	uint64_t *image;   /* what it wrote there */
};

DEFINE_CLEANUP(struct intent, intent_free, intentp)

/* ---- life ---- */

static int cannot(struct error *err, const struct intent_head *head, int code, const char *what)
{
	return error_set(err, code, EXIT_STATUS_RESOURCE,
			 "disk[%u]: its map of writes cannot be %s: %s; see this host's kernel log",
			 head->disk, what, strerror(-code));
}

static uint64_t *new_words(const struct intent *intent)
{
	return calloc(intent->n_sectors * INTENT_SECTOR_WORDS, sizeof(uint64_t));
}

static int intent_new(struct storage *file, const struct intent_head *head, struct storage *disk,
		      struct intent **ret_intent, struct error *err)
{
	_cleanup_(intentp) struct intent *intent = NULL;
	int r = intent_head_judge(head, file->size, err);

	if (r < 0)
		return r;
	intent = calloc(1, sizeof(*intent));
	if (!intent)
		return cannot(err, head, -ENOMEM, "kept in memory");
	pthread_mutex_init(&intent->lock, NULL);
	intent->file = file;
	intent->disk = disk;
	intent->head = *head;
	intent->n_regions = intent_regions(head->disk_bytes);
	intent->n_sectors = intent_sectors(head->disk_bytes);
	intent->now = new_words(intent);
	intent->before = new_words(intent);
	intent->durable = new_words(intent);
	intent->image = new_words(intent);
	intent->written = calloc((intent->n_sectors + 63) / 64, sizeof(uint64_t));
	if (!intent->now || !intent->before || !intent->durable || !intent->image ||
	    !intent->written)
		return cannot(err, head, -ENOMEM, "kept in memory");
	*ret_intent = TAKE_PTR(intent);
	return 0;
}

void intent_free(struct intent *intent)
{
	if (!intent)
		return;
	free(intent->now);
	free(intent->before);
	free(intent->durable);
	free(intent->image);
	free(intent->written);
	pthread_mutex_destroy(&intent->lock);
	free(intent);
}

/* Bits beyond the disk's end are nobody's. */
static uint64_t valid_bits(const struct intent *intent, uint64_t word)
{
	uint64_t first = word * 64;

	if (first >= intent->n_regions)
		return 0;
	return intent->n_regions - first >= 64 ? ~0ULL : (1ULL << (intent->n_regions - first)) - 1;
}

static uint64_t place_of(uint64_t sector)
{
	return INTENT_SECTORS_AT + sector * STORAGE_SECTOR;
}

static int write_sector(struct intent *intent, uint64_t sector, const uint64_t *words)
{
	intent_sector_encode(&intent->head, sector, words, intent->sector);
	return storage_write(intent->file, intent->sector, sizeof(intent->sector),
			     place_of(sector));
}

/* No head, then all sectors, then the head: where that is found, they are this map's. */
static int write_new(struct intent *intent)
{
	uint8_t *sector = intent->sector;
	int r;

	memset(sector, 0, sizeof(intent->sector));
	r = storage_write(intent->file, sector, sizeof(intent->sector), 0);
	if (r == 0)
		r = storage_sync(intent->file);
	for (uint64_t i = 0; r == 0 && i < intent->n_sectors; i++)
		r = write_sector(intent, i, intent->durable + i * INTENT_SECTOR_WORDS);
	if (r == 0)
		r = storage_sync(intent->file);
	if (r < 0)
		return r;
	intent_head_encode(&intent->head, sector);
	r = storage_write(intent->file, sector, sizeof(intent->sector), 0);
	return r < 0 ? r : storage_sync(intent->file);
}

int intent_create(struct storage *file, const struct intent_head *head, bool all,
		  struct storage *disk, struct intent **ret_intent, struct error *err)
{
	_cleanup_(intentp) struct intent *intent = NULL;
	int r = intent_new(file, head, disk, &intent, err);

	if (r < 0)
		return r;
	for (uint64_t i = 0; all && i < intent->n_sectors * INTENT_SECTOR_WORDS; i++)
		intent->durable[i] = intent->before[i] = valid_bits(intent, i);
	r = write_new(intent);
	if (r < 0)
		return cannot(err, head, r, "made");
	*ret_intent = TAKE_PTR(intent);
	return 0;
}

static int read_sector(struct intent *intent, uint64_t sector, uint64_t *ret_damaged)
{
	uint64_t first = sector * INTENT_SECTOR_WORDS;
	int r = storage_read(intent->file, intent->sector, sizeof(intent->sector),
			     place_of(sector));

	if (r < 0)
		return r;
	if (intent_sector_decode(&intent->head, sector, intent->sector, intent->durable + first) <
	    0) {
		memset(intent->durable + first, 0xff, INTENT_SECTOR_WORDS * sizeof(uint64_t));
		(*ret_damaged)++;
	}
	/* Until a mirror is whole again, which is when intent_commit is called again. */
	for (uint64_t i = first; i < first + INTENT_SECTOR_WORDS; i++)
		intent->before[i] = intent->durable[i] &= valid_bits(intent, i);
	return 0;
}

int intent_open(struct storage *file, const struct intent_head *head, struct storage *disk,
		struct intent **ret_intent, uint64_t *ret_damaged, struct error *err)
{
	_cleanup_(intentp) struct intent *intent = NULL;
	uint64_t damaged = 0;
	int r = intent_new(file, head, disk, &intent, err);

	if (r < 0)
		return r;
	/* What a process that died wrote may be in memory only, and it is about to count as durable. */
	r = storage_sync(file);
	if (r == 0)
		r = storage_read(file, intent->sector, sizeof(intent->sector), 0);
	if (r < 0)
		return cannot(err, head, r, "read");
	r = intent_head_compare(head, intent->sector, err);
	for (uint64_t i = 0; r == 0 && i < intent->n_sectors; i++)
		r = read_sector(intent, i, &damaged);
	if (r < 0)
		return cannot(err, head, r, "read");
	*ret_damaged = damaged;
	*ret_intent = TAKE_PTR(intent);
	return 0;
}

/* ---- marks ---- */

static bool bit_of(const uint64_t *words, uint64_t bit)
{
	return words[bit / 64] >> bit % 64 & 1;
}

/* What lies beyond the disk is left out. */
static void regions_of(const struct intent *intent, uint64_t offset, uint64_t len,
		       uint64_t *ret_first, uint64_t *ret_end)
{
	uint64_t size = intent->head.disk_bytes, start = MIN(offset, size);
	uint64_t end = start + MIN(len, size - start);

	*ret_first = start >> INTENT_REGION_SHIFT;
	*ret_end = start < end ? ((end - 1) >> INTENT_REGION_SHIFT) + 1 : *ret_first;
}

static bool is_durable_locked(const struct intent *intent, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		if (!bit_of(intent->durable, i))
			return false;
	return true;
}

bool intent_mark(struct intent *intent, uint64_t offset, uint64_t len, uint64_t epoch)
{
	uint64_t first, end;
	bool durable;

	regions_of(intent, offset, len, &first, &end);
	pthread_mutex_lock(&intent->lock);
	for (uint64_t i = first; i < end; i++)
		intent->now[i / 64] |= 1ULL << i % 64;
	intent->last = MAX(intent->last, epoch);
	durable = is_durable_locked(intent, first, end);
	pthread_mutex_unlock(&intent->lock);
	return durable;
}

bool intent_is_durable(struct intent *intent, uint64_t offset, uint64_t len)
{
	uint64_t first, end;
	bool durable;

	regions_of(intent, offset, len, &first, &end);
	pthread_mutex_lock(&intent->lock);
	durable = is_durable_locked(intent, first, end);
	pthread_mutex_unlock(&intent->lock);
	return durable;
}

uint64_t intent_next(struct intent *intent, uint64_t from, uint64_t *ret_first)
{
	uint64_t first = from, end;

	pthread_mutex_lock(&intent->lock);
	while (first < intent->n_regions && !bit_of(intent->now, first) &&
	       !bit_of(intent->before, first))
		first++;
	for (end = first;
	     end < intent->n_regions && (bit_of(intent->now, end) || bit_of(intent->before, end));)
		end++;
	pthread_mutex_unlock(&intent->lock);
	*ret_first = first;
	return end - first;
}

/* ---- the file ---- */

/* What shall stand in a sector. True: it lacks a set bit; or, with `clears`, has one too many. */
static bool wants_write_locked(const struct intent *intent, uint64_t sector, bool clears,
			       uint64_t *ret_words)
{
	uint64_t first = sector * INTENT_SECTOR_WORDS, lacks = 0, more = 0;

	for (uint64_t i = 0; i < INTENT_SECTOR_WORDS; i++) {
		ret_words[i] = intent->now[first + i] | intent->before[first + i];
		lacks |= ret_words[i] & ~intent->durable[first + i];
		more |= intent->durable[first + i] & ~ret_words[i];
	}
	return lacks || (clears && more);
}

/* From here until the sync a cut may leave the sector of before or this one. */
static void take_over_locked(struct intent *intent, uint64_t sector)
{
	for (uint64_t i = sector * INTENT_SECTOR_WORDS; i < (sector + 1) * INTENT_SECTOR_WORDS; i++)
		intent->durable[i] &= intent->image[i];
	intent->written[sector / 64] |= 1ULL << sector % 64;
}

static int write_changed(struct intent *intent, bool clears, bool *ret_any)
{
	int r = 0;

	*ret_any = false;
	for (uint64_t i = 0; r == 0 && i < intent->n_sectors; i++) {
		uint64_t *words = intent->image + i * INTENT_SECTOR_WORDS;
		bool wanted;

		pthread_mutex_lock(&intent->lock);
		wanted = wants_write_locked(intent, i, clears, words);
		if (wanted)
			take_over_locked(intent, i);
		pthread_mutex_unlock(&intent->lock);
		if (wanted)
			r = write_sector(intent, i, words);
		*ret_any |= wanted;
	}
	return r;
}

static void note_durable_locked(struct intent *intent)
{
	for (uint64_t i = 0; i < intent->n_sectors; i++)
		if (bit_of(intent->written, i))
			memcpy(intent->durable + i * INTENT_SECTOR_WORDS,
			       intent->image + i * INTENT_SECTOR_WORDS,
			       INTENT_SECTOR_WORDS * sizeof(uint64_t));
	memset(intent->written, 0, (intent->n_sectors + 63) / 64 * sizeof(uint64_t));
}

static int write_back(struct intent *intent, bool clears)
{
	bool any, broken;
	int r;

	pthread_mutex_lock(&intent->lock);
	broken = intent->broken;
	pthread_mutex_unlock(&intent->lock);
	if (broken)
		return -EIO;
	r = write_changed(intent, clears, &any);
	if (r == 0 && any)
		r = storage_sync(intent->file);
	pthread_mutex_lock(&intent->lock);
	if (r == 0)
		note_durable_locked(intent);
	else
		intent->broken = true;
	pthread_mutex_unlock(&intent->lock);
	return r;
}

int intent_flush(struct intent *intent)
{
	return write_back(intent, false);
}

/* ---- clearing ---- */

/* Whether all writes of the time before are committed, and it is long enough ago. */
static bool is_due_locked(const struct intent *intent, uint64_t epoch)
{
	return epoch >= intent->before_last && epoch >= intent->since + INTENT_EPOCHS;
}

static void turn_locked(struct intent *intent, uint64_t epoch)
{
	uint64_t *words = intent->before;

	memset(words, 0, intent->n_sectors * INTENT_SECTOR_WORDS * sizeof(uint64_t));
	intent->before = intent->now;
	intent->now = words;
	intent->before_last = intent->last;
	intent->since = epoch;
}

int intent_commit(struct intent *intent, uint64_t epoch)
{
	bool due;
	int r;

	pthread_mutex_lock(&intent->lock);
	due = is_due_locked(intent, epoch);
	pthread_mutex_unlock(&intent->lock);
	if (!due || intent->keeps)
		return due ? -EIO : 0;
	/* What the mirror has may still be in this disk's own cache. */
	r = storage_sync(intent->disk);
	if (r < 0) {
		intent->keeps = true;
		return r;
	}
	pthread_mutex_lock(&intent->lock);
	turn_locked(intent, epoch);
	pthread_mutex_unlock(&intent->lock);
	return write_back(intent, true);
}
