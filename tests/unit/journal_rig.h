/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A journal and its disks, on machines whose power can be cut. */

#include "check.h"

#include <string.h>

#include "lossy_storage.h"
#include "protect/journal.h"

#define DISK KIB(512)
#define RING KIB(256)
#define N_DISKS 2

struct fixture {
	struct power power;
	struct lossy_storage file, disks[N_DISKS];
	struct storage *storages[N_DISKS];
	struct journal_head head;
	struct journal *journal;
	uint8_t data[DISK];
	struct error err;
};

static _unused_ void make(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->power = (struct power){ .random = 1, .steps = UINT64_MAX, .loses_all = true };
	f->head = (struct journal_head){ .uuid = { 1, 2 },
					 .session = { { 7, 7 } },
					 .base = 10,
					 .ring_bytes = RING,
					 .n_disks = N_DISKS,
					 .disk_bytes = { DISK, DISK } };
	lossy_storage_init(&f->file, &f->power, journal_bytes(RING));
	for (int i = 0; i < N_DISKS; i++) {
		lossy_storage_init(&f->disks[i], &f->power, DISK);
		f->storages[i] = &f->disks[i].storage;
	}
	assert_int_equal(
		journal_create(&f->file.storage, &f->head, f->storages, &f->journal, &f->err), 0);
}

static _unused_ void end(struct fixture *f)
{
	journal_free(f->journal);
	lossy_storage_release(&f->file);
	for (int i = 0; i < N_DISKS; i++)
		lossy_storage_release(&f->disks[i]);
}

static _unused_ int open_again(struct fixture *f)
{
	journal_free(f->journal);
	f->journal = NULL;
	f->err = (struct error){ 0 };
	return journal_open(&f->file.storage, f->head.uuid, f->storages, N_DISKS, &f->journal,
			    &f->err);
}

/* All that was not synced is lost. */
static _unused_ int cut(struct fixture *f)
{
	lossy_storage_cut(&f->file);
	for (int i = 0; i < N_DISKS; i++)
		lossy_storage_cut(&f->disks[i]);
	return open_again(f);
}

static _unused_ int append(struct fixture *f, uint32_t disk, uint64_t offset, uint64_t len,
			   uint8_t byte)
{
	const struct journal_write write = {
		.kind = JOURNAL_WRITE, .disk = disk, .offset = offset, .len = len, .data = f->data
	};

	memset(f->data, byte, MIN(len, sizeof(f->data)));
	return journal_append(f->journal, &write);
}

static _unused_ void epoch(struct fixture *f, uint64_t number, uint64_t len, uint8_t byte)
{
	assert_int_equal(journal_begin(f->journal, number), 0);
	assert_int_equal(append(f, 0, 0, len, byte), 0);
	assert_int_equal(append(f, 1, 512, 512, byte), 0);
	assert_int_equal(journal_seal(f->journal), 0);
}

static _unused_ bool holds(const struct fixture *f, uint32_t disk, uint64_t offset, uint64_t len,
			   uint8_t byte)
{
	for (uint64_t i = 0; i < len; i++)
		if (f->disks[disk].cache[offset + i] != byte)
			return false;
	return true;
}
