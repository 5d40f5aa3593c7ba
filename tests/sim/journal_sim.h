/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Two machines with mirrored disks, for sim_journal.c: each has power that can be cut, two disks, a map of writes for each, a journal. A disk is of
 * some gigabytes of which a few kilobytes in each of some regions can hold anything; what they hold is told by a tag for each sector.
 */

#include <stdbool.h>
#include <stdint.h>

#include "lossy_storage.h"
#include "protect/intent.h"
#include "protect/journal.h"

#define SIM_DISKS 2
#define SIM_SLOTS 16 /* regions that hold something: the first eight, and eight far away */
#define SIM_FAR 5000
#define SIM_SLOT_BYTES KIB(8)
#define SIM_SLOT_SECTORS (SIM_SLOT_BYTES / STORAGE_SECTOR)
#define SIM_SECTORS (SIM_SLOTS * SIM_SLOT_SECTORS)
#define SIM_DISK_BYTES MIB(SIM_FAR + SIM_SLOTS / 2)
#define SIM_TORN UINT32_MAX

static inline uint64_t sim_region(unsigned int slot)
{
	return slot < SIM_SLOTS / 2 ? slot : SIM_FAR + slot - SIM_SLOTS / 2;
}

/* A tag for each sector that can hold something; 0: zeroes. */
struct sim_content {
	uint32_t tags[SIM_DISKS][SIM_SECTORS];
};

struct sim_disk {
	struct storage storage;
	struct lossy_storage lossy; /* slots, one behind the other */
};

struct sim_machine {
	struct power power;
	struct sim_disk disks[SIM_DISKS];
	struct storage *storages[SIM_DISKS];
	struct lossy_storage maps[SIM_DISKS], file;
	struct intent *intents[SIM_DISKS]; /* while it owns the VM */
	struct journal *journal;	   /* while it backs it up */
};

/* One write of the guest, to a part of one slot if it has data. */
struct sim_write {
	enum journal_kind kind;
	uint32_t disk;
	uint64_t offset, len;
	uint32_t tag;
	uint8_t data[SIM_SLOT_BYTES];
};

void sim_machine_init(struct sim_machine *machine, uint64_t ring_bytes, uint64_t random);
void sim_machine_release(struct sim_machine *machine);
/* All that was not synced goes; what its process had in memory, too; then it has power again, for `steps` of I/O. */
void sim_machine_restart(struct sim_machine *machine, uint64_t steps);

void sim_write_fill(struct sim_write *write);
_must_check_ int sim_write_do(struct sim_machine *machine, const struct sim_write *write);
void sim_write_note(const struct sim_write *write, struct sim_content *content);

void sim_content_read(const struct sim_machine *machine, struct sim_content *ret_content);
bool sim_content_equal(const struct sim_content *a, const struct sim_content *b);
bool sim_disks_equal(const struct sim_machine *a, const struct sim_machine *b);
/* Copies the region of a slot. */
void sim_copy_slot(const struct sim_machine *from, struct sim_machine *to, uint32_t disk,
		   unsigned int slot);
