/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_sim.h"

#include "check.h"

#include <errno.h>
#include <string.h>

/* ---- disks ---- */

static struct lossy_storage *lossy_of(struct storage *storage)
{
	return &container_of(storage, struct sim_disk, storage)->lossy;
}

/* Data lie within what a slot holds. */
static uint64_t place_of(uint64_t offset, uint64_t len)
{
	uint64_t region = offset >> INTENT_REGION_SHIFT, within = offset % MIB(1);
	uint64_t slot = region < SIM_FAR ? region : region - SIM_FAR + SIM_SLOTS / 2;

	assert_true(slot < SIM_SLOTS && range_fits(within, len, SIM_SLOT_BYTES));
	return slot * SIM_SLOT_BYTES + within;
}

static int disk_read(struct storage *storage, void *buf, size_t len, uint64_t offset)
{
	return storage_read(&lossy_of(storage)->storage, buf, len, place_of(offset, len));
}

static int disk_write(struct storage *storage, const void *buf, size_t len, uint64_t offset)
{
	return storage_write(&lossy_of(storage)->storage, buf, len, place_of(offset, len));
}

/* What of [offset, offset + len) a slot holds: false for nothing. */
static bool part_of_slot(unsigned int slot, uint64_t offset, uint64_t len, uint64_t *ret_place,
			 uint64_t *ret_len)
{
	uint64_t start = sim_region(slot) << INTENT_REGION_SHIFT, end = start + SIM_SLOT_BYTES;
	uint64_t from = MAX(start, offset), to = MIN(end, offset + len);

	*ret_place = slot * SIM_SLOT_BYTES + (from - start);
	*ret_len = to - from;
	return from < to;
}

static int disk_zero(struct storage *storage, uint64_t offset, uint64_t len, bool unmap)
{
	uint64_t place, part;
	int r = 0;

	assert_true(range_fits(offset, len, storage->size));
	for (unsigned int slot = 0; r == 0 && slot < SIM_SLOTS; slot++)
		if (part_of_slot(slot, offset, len, &place, &part))
			r = storage_zero(&lossy_of(storage)->storage, place, part, unmap);
	return r;
}

static int disk_sync(struct storage *storage)
{
	return storage_sync(&lossy_of(storage)->storage);
}

static const struct storage_ops disk_ops = {
	.read = disk_read,
	.write = disk_write,
	.zero = disk_zero,
	.sync = disk_sync,
};

/* ---- machines ---- */

void sim_machine_init(struct sim_machine *machine, uint64_t ring_bytes, uint64_t random)
{
	struct power *power = &machine->power;

	memset(machine, 0, sizeof(*machine));
	*power = (struct power){ .random = random | 1, .steps = UINT64_MAX, .tears = random & 2 };
	for (int i = 0; i < SIM_DISKS; i++) {
		lossy_storage_init(&machine->disks[i].lossy, power, SIM_SLOTS * SIM_SLOT_BYTES);
		machine->disks[i].storage = (struct storage){ .ops = &disk_ops,
							      .size = SIM_DISK_BYTES };
		machine->storages[i] = &machine->disks[i].storage;
		lossy_storage_init(&machine->maps[i], power, intent_bytes(SIM_DISK_BYTES));
	}
	lossy_storage_init(&machine->file, power, journal_bytes(ring_bytes));
}

static void end_process(struct sim_machine *machine)
{
	for (int i = 0; i < SIM_DISKS; i++) {
		intent_free(machine->intents[i]);
		machine->intents[i] = NULL;
	}
	journal_free(machine->journal);
	machine->journal = NULL;
}

void sim_machine_release(struct sim_machine *machine)
{
	end_process(machine);
	for (int i = 0; i < SIM_DISKS; i++) {
		lossy_storage_release(&machine->disks[i].lossy);
		lossy_storage_release(&machine->maps[i]);
	}
	lossy_storage_release(&machine->file);
}

void sim_machine_restart(struct sim_machine *machine, uint64_t steps)
{
	end_process(machine);
	for (int i = 0; i < SIM_DISKS; i++) {
		lossy_storage_cut(&machine->disks[i].lossy);
		lossy_storage_cut(&machine->maps[i]);
	}
	lossy_storage_cut(&machine->file);
	machine->power.off = false;
	machine->power.steps = steps;
}

/* ---- content ---- */

/* The words of a sector with that tag. */
static uint64_t word_of(uint32_t tag, unsigned int i)
{
	return tag ? (tag + ((uint64_t)i << 32)) * 0x9e3779b97f4a7c15ULL | tag : 0;
}

static void fill_sector(uint32_t tag, uint8_t *ret_bytes)
{
	for (unsigned int i = 0; i < STORAGE_SECTOR / 8; i++) {
		/* The tag by itself, to be read; then what follows from it. */
		uint64_t word = i ? word_of(tag, i) : tag;

		memcpy(ret_bytes + i * 8, &word, 8);
	}
}

static uint32_t tag_of(const uint8_t *bytes)
{
	uint8_t expected[STORAGE_SECTOR];
	uint64_t tag;

	memcpy(&tag, bytes, 8);
	fill_sector((uint32_t)tag, expected);
	return memcmp(bytes, expected, sizeof(expected)) == 0 ? (uint32_t)tag : SIM_TORN;
}

void sim_write_fill(struct sim_write *write)
{
	for (uint64_t at = 0; write->kind == JOURNAL_WRITE && at < write->len; at += STORAGE_SECTOR)
		fill_sector(write->tag, write->data + at);
}

int sim_write_do(struct sim_machine *machine, const struct sim_write *write)
{
	struct storage *disk = machine->storages[write->disk];

	return write->kind == JOURNAL_WRITE
		       ? storage_write(disk, write->data, write->len, write->offset)
		       : storage_zero(disk, write->offset, write->len,
				      write->kind == JOURNAL_DISCARD);
}

void sim_write_note(const struct sim_write *write, struct sim_content *content)
{
	uint32_t tag = write->kind == JOURNAL_WRITE ? write->tag : 0;
	uint64_t place, len;

	for (unsigned int slot = 0; slot < SIM_SLOTS; slot++) {
		if (!part_of_slot(slot, write->offset, write->len, &place, &len))
			continue;
		for (uint64_t at = place; at < place + len; at += STORAGE_SECTOR)
			content->tags[write->disk][at / STORAGE_SECTOR] = tag;
	}
}

void sim_content_read(const struct sim_machine *machine, struct sim_content *ret_content)
{
	for (int i = 0; i < SIM_DISKS; i++)
		for (uint64_t at = 0; at < SIM_SECTORS; at++)
			ret_content->tags[i][at] =
				tag_of(machine->disks[i].lossy.cache + at * STORAGE_SECTOR);
}

bool sim_content_equal(const struct sim_content *a, const struct sim_content *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool sim_disks_equal(const struct sim_machine *a, const struct sim_machine *b)
{
	for (int i = 0; i < SIM_DISKS; i++)
		if (memcmp(a->disks[i].lossy.cache, b->disks[i].lossy.cache,
			   SIM_SLOTS * SIM_SLOT_BYTES) != 0)
			return false;
	return true;
}

void sim_copy_slot(const struct sim_machine *from, struct sim_machine *to, uint32_t disk,
		   unsigned int slot)
{
	const uint8_t *bytes = from->disks[disk].lossy.cache + slot * SIM_SLOT_BYTES;

	assert_int_equal(storage_write(to->storages[disk], bytes, SIM_SLOT_BYTES,
				       sim_region(slot) << INTENT_REGION_SHIFT),
			 0);
}
