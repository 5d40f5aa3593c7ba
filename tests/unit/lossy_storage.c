/* SPDX-License-Identifier: Apache-2.0 */
#include "lossy_storage.h"

#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define SECTOR STORAGE_SECTOR

uint64_t power_random(struct power *power, uint64_t below)
{
	power->random ^= power->random << 13;
	power->random ^= power->random >> 7;
	power->random ^= power->random << 17;
	return (power->random >> 11) % below;
}

/* Whether I/O can be done; `*ret_cut`: the power goes in the midst of it. */
static bool step(struct power *power, bool *ret_cut)
{
	*ret_cut = false;
	if (power->off)
		return false;
	power->done++;
	if (power->steps == UINT64_MAX || power->steps-- > 1)
		return true;
	power->off = *ret_cut = true;
	return true;
}

static struct lossy_storage *lossy_of(struct storage *storage)
{
	return container_of(storage, struct lossy_storage, storage);
}

static void to_platter(struct lossy_storage *lossy, uint64_t sector, size_t len)
{
	memcpy(lossy->platter + sector * SECTOR, lossy->cache + sector * SECTOR, len);
}

/* A cache writes back what it likes, when it likes. */
static void write_back_some(struct lossy_storage *lossy)
{
	uint64_t n = lossy->storage.size / SECTOR, from = power_random(lossy->power, n);

	if (lossy->power->loses_all || power_random(lossy->power, 4))
		return;
	for (uint64_t i = from; i < MIN(n, from + 16); i++) {
		if (!lossy->dirty[i] || power_random(lossy->power, 2))
			continue;
		to_platter(lossy, i, SECTOR);
		lossy->dirty[i] = false;
	}
}

static int lossy_read(struct storage *storage, void *buf, size_t len, uint64_t offset)
{
	struct lossy_storage *lossy = lossy_of(storage);
	bool cut;

	assert_true(range_fits(offset, len, storage->size));
	if (!step(lossy->power, &cut) || cut)
		return -EIO;
	memcpy(buf, lossy->cache + offset, len);
	lossy->reads++;
	return 0;
}

/* `buf`: NULL for zeroes. */
static int put(struct lossy_storage *lossy, const void *buf, uint64_t len, uint64_t offset)
{
	uint64_t kept = len;
	bool cut;

	assert_true(range_fits(offset, len, lossy->storage.size));
	if (!step(lossy->power, &cut))
		return -EIO;
	if (cut)
		kept = SECTOR * power_random(lossy->power, len / SECTOR + 1);
	if (!kept)
		return cut ? -EIO : 0;
	if (buf)
		memcpy(lossy->cache + offset, buf, kept);
	else
		memset(lossy->cache + offset, 0, kept);
	for (uint64_t i = offset / SECTOR; i <= (offset + kept - 1) / SECTOR; i++)
		lossy->dirty[i] = true;
	lossy->first = MIN(lossy->first, offset / SECTOR);
	lossy->end = MAX(lossy->end, (offset + kept - 1) / SECTOR + 1);
	lossy->writes++;
	write_back_some(lossy);
	return cut ? -EIO : 0;
}

static int lossy_write(struct storage *storage, const void *buf, size_t len, uint64_t offset)
{
	struct lossy_storage *lossy = lossy_of(storage);

	if (lossy->before_write)
		TAKE_PTR(lossy->before_write)(lossy->ctx);
	return put(lossy, buf, len, offset);
}

static int lossy_zero(struct storage *storage, uint64_t offset, uint64_t len, bool unmap _unused_)
{
	return put(lossy_of(storage), NULL, len, offset);
}

static int lossy_sync(struct storage *storage)
{
	struct lossy_storage *lossy = lossy_of(storage);
	int r = lossy->fail;
	bool cut;

	lossy->fail = 0;
	if (!step(lossy->power, &cut) || r < 0)
		return r < 0 ? r : -EIO;
	lossy->syncs++;
	for (uint64_t i = lossy->first; i < lossy->end; i++) {
		if (!lossy->dirty[i] || (cut && power_random(lossy->power, 2)))
			continue;
		to_platter(lossy, i, SECTOR);
		lossy->dirty[i] = false;
	}
	if (!cut) {
		lossy->first = storage->size;
		lossy->end = 0;
	}
	return cut ? -EIO : 0;
}

static const struct storage_ops ops = {
	.read = lossy_read,
	.write = lossy_write,
	.zero = lossy_zero,
	.sync = lossy_sync,
};

void lossy_storage_init(struct lossy_storage *lossy, struct power *power, uint64_t size)
{
	*lossy = (struct lossy_storage){
		.storage = { .ops = &ops, .size = size },
		.power = power,
		.platter = calloc(1, size),
		.cache = calloc(1, size),
		.dirty = calloc(size / SECTOR, sizeof(bool)),
	};
	assert_true(lossy->platter && lossy->cache && lossy->dirty && size % SECTOR == 0);
}

void lossy_storage_release(struct lossy_storage *lossy)
{
	free(lossy->platter);
	free(lossy->cache);
	free(lossy->dirty);
}

void lossy_storage_cut(struct lossy_storage *lossy)
{
	struct power *power = lossy->power;

	for (uint64_t i = 0; i < lossy->storage.size / SECTOR; i++) {
		uint64_t fate = power->loses_all ? 0 : power_random(power, power->tears ? 3 : 2);

		if (lossy->dirty[i] && fate == 1)
			to_platter(lossy, i, SECTOR);
		else if (lossy->dirty[i] && fate == 2)
			to_platter(lossy, i, power_random(power, SECTOR));
		lossy->dirty[i] = false;
	}
	memcpy(lossy->cache, lossy->platter, lossy->storage.size);
}
