/* SPDX-License-Identifier: Apache-2.0 */

/* The journal of a backup's disks: what is found again, what is applied, what is refused, and that it never grows. */

#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void make(struct fixture *f)
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

static void end(struct fixture *f)
{
	journal_free(f->journal);
	lossy_storage_release(&f->file);
	for (int i = 0; i < N_DISKS; i++)
		lossy_storage_release(&f->disks[i]);
}

static int open_again(struct fixture *f)
{
	journal_free(f->journal);
	f->journal = NULL;
	f->err = (struct error){ 0 };
	return journal_open(&f->file.storage, f->head.uuid, f->storages, N_DISKS, &f->journal,
			    &f->err);
}

/* All that was not synced is lost. */
static int cut(struct fixture *f)
{
	lossy_storage_cut(&f->file);
	for (int i = 0; i < N_DISKS; i++)
		lossy_storage_cut(&f->disks[i]);
	return open_again(f);
}

static int append(struct fixture *f, uint32_t disk, uint64_t offset, uint64_t len, uint8_t byte)
{
	const struct journal_write write = {
		.kind = JOURNAL_WRITE, .disk = disk, .offset = offset, .len = len, .data = f->data
	};

	memset(f->data, byte, MIN(len, sizeof(f->data)));
	return journal_append(f->journal, &write);
}

static void epoch(struct fixture *f, uint64_t number, uint64_t len, uint8_t byte)
{
	assert_int_equal(journal_begin(f->journal, number), 0);
	assert_int_equal(append(f, 0, 0, len, byte), 0);
	assert_int_equal(append(f, 1, 512, 512, byte), 0);
	assert_int_equal(journal_seal(f->journal), 0);
}

static bool holds(const struct fixture *f, uint32_t disk, uint64_t offset, uint64_t len,
		  uint8_t byte)
{
	for (uint64_t i = 0; i < len; i++)
		if (f->disks[disk].cache[offset + i] != byte)
			return false;
	return true;
}

/* ---- what it is for ---- */

static void what_is_sealed_survives_and_is_applied(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, KIB(100), 1);
	epoch(&f, 12, KIB(4), 2);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 12);
	assert_int_equal(journal_applied(f.journal), 10);
	assert_true(holds(&f, 0, 0, DISK, 0));
	assert_int_equal(journal_apply(f.journal, 12, &f.err), 0);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_applied(f.journal), 12);
	assert_true(holds(&f, 0, 0, KIB(4), 2) && holds(&f, 0, KIB(4), KIB(96), 1));
	assert_true(holds(&f, 1, 512, 512, 2) && holds(&f, 1, 1024, 512, 0));
	end(&f);
}

static void epochs_are_applied_only_as_far_as_asked(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	epoch(&f, 15, 512, 2);
	assert_int_equal(journal_apply(f.journal, 14, &f.err), 0);
	assert_true(holds(&f, 0, 0, 512, 1));
	assert_int_equal(journal_applied(f.journal), 14);
	assert_int_equal(journal_apply(f.journal, 16, &f.err), -EINVAL);
	assert_true(holds(&f, 0, 0, 512, 1));
	end(&f);
}

static void zeroes_and_discards_are_zeroes(void **state _unused_)
{
	struct journal_write write = { .kind = JOURNAL_ZEROES, .offset = 512, .len = 1024 };
	struct fixture f;

	make(&f);
	epoch(&f, 11, 8192, 9);
	assert_int_equal(journal_begin(f.journal, 12), 0);
	assert_int_equal(journal_append(f.journal, &write), 0);
	write = (struct journal_write){ .kind = JOURNAL_DISCARD, .offset = 4096, .len = 4096 };
	assert_int_equal(journal_append(f.journal, &write), 0);
	assert_int_equal(append(&f, 0, 4096, 512, 3), 0);
	assert_int_equal(journal_seal(f.journal), 0);
	assert_int_equal(journal_apply(f.journal, 12, &f.err), 0);
	assert_true(holds(&f, 0, 0, 512, 9) && holds(&f, 0, 512, 1024, 0) &&
		    holds(&f, 0, 1536, 2560, 9) && holds(&f, 0, 4096, 512, 3) &&
		    holds(&f, 0, 4608, 3584, 0));
	end(&f);
}

/* Writes of every length around a piece of what is hashed at once, for longer than the ring. */
static void the_ring_goes_round(void **state _unused_)
{
	struct fixture f;
	uint64_t number = 10;

	make(&f);
	for (uint64_t len = KIB(64) - 4096; len < KIB(64) + 4096; len += 512) {
		number++;
		epoch(&f, number, len, (uint8_t)number);
		assert_int_equal(cut(&f), 0);
		assert_int_equal(journal_sealed(f.journal), number);
		assert_int_equal(journal_apply(f.journal, number, &f.err), 0);
		assert_true(holds(&f, 0, 0, len, (uint8_t)number));
		/* Two of them fit at a time. */
		number++;
		epoch(&f, number, 512, (uint8_t)number);
	}
	assert_int_equal(journal_apply(f.journal, number, &f.err), 0);
	end(&f);
}

static void an_epoch_without_writes_costs_nothing(void **state _unused_)
{
	struct fixture f;
	unsigned int syncs;

	make(&f);
	syncs = f.file.syncs;
	assert_int_equal(journal_begin(f.journal, 11), 0);
	assert_int_equal(journal_seal(f.journal), 0);
	assert_int_equal(journal_sealed(f.journal), 11);
	assert_int_equal(journal_apply(f.journal, 11, &f.err), 0);
	assert_int_equal(journal_applied(f.journal), 11);
	assert_int_equal(f.file.syncs, syncs);
	end(&f);
}

/* ---- bounds ---- */

static void a_full_journal_says_so_and_keeps_the_epoch(void **state _unused_)
{
	struct fixture f;
	uint64_t room;

	make(&f);
	epoch(&f, 11, KIB(128), 1);
	assert_int_equal(journal_begin(f.journal, 12), 0);
	assert_int_equal(append(&f, 0, 0, KIB(64), 2), 0);
	assert_int_equal(append(&f, 0, KIB(64), KIB(64), 2), -ENOSPC);
	room = ALIGN_DOWN(journal_room(f.journal) - JOURNAL_WRITE_BYTES, 512);
	assert_in_range(room, KIB(32), KIB(64) - 512);
	assert_int_equal(append(&f, 0, KIB(64), room + 512, 2), -ENOSPC);
	assert_int_equal(journal_apply(f.journal, 11, &f.err), 0);
	assert_int_equal(append(&f, 0, KIB(64), KIB(64), 2), 0);
	/* It would not fit into an empty one. */
	assert_int_equal(append(&f, 0, KIB(128), KIB(192), 2), -EFBIG);
	assert_int_equal(append(&f, 0, KIB(128), KIB(4), 3), 0);
	assert_int_equal(journal_seal(f.journal), 0);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_apply(f.journal, 12, &f.err), 0);
	assert_true(holds(&f, 0, 0, KIB(128), 2) && holds(&f, 0, KIB(128), KIB(4), 3));
	end(&f);
}

static void what_room_says_fits(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(journal_begin(f.journal, 11), 0);
	assert_int_equal(append(&f, 0, 0,
				ALIGN_DOWN(journal_room(f.journal) - JOURNAL_WRITE_BYTES, 512), 5),
			 0);
	assert_in_range(journal_room(f.journal), 0, JOURNAL_WRITE_BYTES + 511);
	assert_int_equal(journal_seal(f.journal), 0);
	assert_int_equal(journal_begin(f.journal, 12), -ENOSPC);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 11);
	end(&f);
}

static void what_is_no_write_to_a_disk_is_refused(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(append(&f, 0, 0, 512, 1), -EINVAL); /* none is open */
	assert_int_equal(journal_seal(f.journal), -EINVAL);
	assert_int_equal(journal_begin(f.journal, 10), -EINVAL);
	assert_int_equal(journal_begin(f.journal, 11), 0);
	assert_int_equal(append(&f, 2, 0, 512, 1), -EINVAL);
	assert_int_equal(append(&f, 0, DISK, 512, 1), -EINVAL);
	assert_int_equal(append(&f, 0, DISK - 512, 1024, 1), -EINVAL);
	assert_int_equal(append(&f, 0, UINT64_MAX - 511, 512, 1), -EINVAL);
	assert_int_equal(append(&f, 0, 1, 512, 1), -EINVAL);
	assert_int_equal(append(&f, 0, 0, 0, 1), -EINVAL);
	journal_drop(f.journal);
	assert_int_equal(append(&f, 0, 0, 512, 1), -EINVAL);
	end(&f);
}

static void what_cannot_be_a_journal_is_not_made(void **state _unused_)
{
	struct fixture f;
	struct journal *journal = NULL;
	struct journal_head head;

	make(&f);
	head = f.head;
	head.ring_bytes = JOURNAL_RING_MIN - JOURNAL_BLOCK;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EINVAL);
	head.ring_bytes = RING + 1;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EINVAL);
	head.ring_bytes = RING + JOURNAL_BLOCK;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EBADMSG);
	head = f.head;
	head.disk_bytes[1] = 511;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EINVAL);
	head.disk_bytes[1] = 512;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EMEDIUMTYPE);
	head.n_disks = 0;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EINVAL);
	head.n_disks = LIMIT_DISKS + 1;
	assert_int_equal(journal_create(&f.file.storage, &head, f.storages, &journal, NULL),
			 -EINVAL);
	assert_null(journal);
	/* What was there is untouched. */
	assert_int_equal(open_again(&f), 0);
	end(&f);
}

/* ---- power cuts and damage ---- */

static void an_unsealed_epoch_is_dropped(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	assert_int_equal(journal_begin(f.journal, 12), 0);
	assert_int_equal(append(&f, 0, 0, KIB(100), 2), 0);
	/* Its first piece is in the file. */
	assert_int_equal(storage_sync(&f.file.storage), 0);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 11);
	assert_int_equal(journal_apply(f.journal, 11, &f.err), 0);
	assert_true(holds(&f, 0, 0, 512, 1) && holds(&f, 0, 512, 512, 0));
	/* And the journal goes on. */
	epoch(&f, 12, 1024, 3);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 12);
	end(&f);
}

/* Each bit of the last epoch matters: damaged, it is one that was never finished. */
static void a_torn_tail_is_never_applied(void **state _unused_)
{
	static const uint64_t whole = JOURNAL_RING_AT + JOURNAL_BLOCK;
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	epoch(&f, 12, 1024, 2);
	for (uint64_t at = 0; at < 56 + 2 * 24 + 1536 + 56; at++) {
		f.file.cache[whole + at] ^= 0x40;
		assert_int_equal(open_again(&f), 0);
		assert_int_equal(journal_sealed(f.journal), 11);
		f.file.cache[whole + at] ^= 0x40;
	}
	assert_int_equal(open_again(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 12);
	end(&f);
}

static void a_damaged_middle_is_refused_by_name(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	epoch(&f, 12, 1024, 2);
	epoch(&f, 13, KIB(100), 3);
	for (uint64_t at = 0; at < 56 + 2 * 24 + 1536 + 56; at += 7) {
		f.file.cache[JOURNAL_RING_AT + JOURNAL_BLOCK + at] ^= 0x40;
		assert_int_equal(open_again(&f), -EBADMSG);
		assert_non_null(strstr(f.err.message, "damaged at byte 16384"));
		f.file.cache[JOURNAL_RING_AT + JOURNAL_BLOCK + at] ^= 0x40;
	}
	assert_true(holds(&f, 0, 0, DISK, 0));
	end(&f);
}

/* What turns bad while the backup lives is seen, too, and nothing of it is done. */
static void damage_is_seen_when_it_is_applied(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	epoch(&f, 12, KIB(100), 2);
	f.file.cache[JOURNAL_RING_AT + JOURNAL_BLOCK + KIB(99)] ^= 1;
	assert_int_equal(journal_apply(f.journal, 12, &f.err), -EBADMSG);
	assert_true(holds(&f, 0, 512, 512, 0));
	assert_int_equal(journal_applied(f.journal), 10);
	end(&f);
}

static void the_mark_comes_after_the_disks(void **state _unused_)
{
	struct fixture f;

	/* With every cut within an apply: what the mark calls applied is on the disks. */
	for (uint64_t steps = 1;; steps++) {
		int r;

		make(&f);
		epoch(&f, 11, KIB(8), 1);
		f.power.steps = steps;
		r = journal_apply(f.journal, 11, &f.err);
		f.power.steps = UINT64_MAX;
		f.power.off = false;
		assert_int_equal(cut(&f), 0);
		if (journal_applied(f.journal) == 11)
			assert_true(holds(&f, 0, 0, KIB(8), 1) && holds(&f, 1, 512, 512, 1));
		assert_int_equal(journal_sealed(f.journal), 11);
		assert_int_equal(journal_apply(f.journal, 11, &f.err), 0);
		assert_true(holds(&f, 0, 0, KIB(8), 1) && holds(&f, 1, 512, 512, 1));
		end(&f);
		if (r == 0)
			break;
	}
}

/* A process dies after it wrote a trailer, before its sync ended: the next one finds the epoch in the host's memory. */
static void what_is_found_is_durable(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, KIB(8), 1);
	memset(f.file.platter + JOURNAL_RING_AT, 0, RING);
	memset(f.file.dirty, true, f.file.storage.size / STORAGE_SECTOR);
	f.file.first = 0;
	f.file.end = f.file.storage.size / STORAGE_SECTOR;
	assert_int_equal(open_again(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 11);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_sealed(f.journal), 11);
	end(&f);
}

static void after_its_end_nothing_is_applied(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	epoch(&f, 12, 512, 2);
	assert_int_equal(journal_end(f.journal, 11, &f.err), 0);
	assert_true(holds(&f, 0, 0, 512, 1));
	assert_int_equal(journal_apply(f.journal, 12, &f.err), -EINVAL);
	assert_int_equal(journal_begin(f.journal, 13), -EINVAL);
	for (uint64_t i = 0; i < 2; i++) {
		/* Whichever of the marks is damaged. */
		f.file.cache[(1 + i) * JOURNAL_BLOCK] ^= 1;
		assert_int_equal(open_again(&f), 0);
		assert_int_equal(journal_state(f.journal), JOURNAL_ENDED);
		assert_int_equal(journal_sealed(f.journal), 11);
		assert_int_equal(journal_apply(f.journal, 11, &f.err), -EINVAL);
		f.file.cache[(1 + i) * JOURNAL_BLOCK] ^= 1;
	}
	end(&f);
}

static void disks_that_are_being_filled_are_known(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(journal_state(f.journal), JOURNAL_FILLING);
	assert_int_equal(journal_mark_whole(f.journal, &f.err), 0);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(journal_state(f.journal), JOURNAL_WHOLE);
	assert_string_equal(journal_state_name(JOURNAL_WHOLE), "whole");
	assert_int_equal(journal_mark_whole(f.journal, &f.err), 0);
	assert_int_equal(journal_end(f.journal, 10, &f.err), 0);
	assert_int_equal(journal_mark_whole(f.journal, &f.err), -EINVAL);
	end(&f);
}

static void a_failed_sync_ends_it(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(journal_begin(f.journal, 11), 0);
	assert_int_equal(append(&f, 0, 0, 512, 1), 0);
	f.file.fail = -ENOSPC;
	assert_int_equal(journal_seal(f.journal), -ENOSPC);
	assert_int_equal(journal_sealed(f.journal), 10);
	assert_int_equal(journal_begin(f.journal, 12), -EIO);
	assert_int_equal(journal_seal(f.journal), -EIO);
	end(&f);
}

static void apply_and_fail(void *ctx)
{
	struct fixture *f = ctx;

	f->file.fail = -EIO;
	assert_int_equal(journal_apply(f->journal, 11, &f->err), -EIO);
}

/* The kernel told it to the applier, who synced first; to the writer's own sync it says nothing. */
static void a_sync_that_failed_for_the_other_one_counts(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	assert_int_equal(journal_begin(f.journal, 12), 0);
	assert_int_equal(append(&f, 0, 0, 512, 2), 0);
	f.file.before_write = apply_and_fail;
	f.file.ctx = &f;
	assert_int_equal(journal_seal(f.journal), -EIO);
	assert_null(f.file.before_write);
	assert_int_equal(journal_sealed(f.journal), 11);
	end(&f);
}

/* A disk's failure is not the journal's: all of it is written again. */
static void a_failed_apply_may_be_repeated(void **state _unused_)
{
	struct fixture f;

	make(&f);
	epoch(&f, 11, 512, 1);
	f.disks[1].fail = -EIO;
	assert_int_equal(journal_apply(f.journal, 11, &f.err), -EIO);
	assert_non_null(strstr(f.err.message, "epoch 11"));
	assert_int_equal(journal_applied(f.journal), 10);
	assert_int_equal(journal_apply(f.journal, 11, &f.err), 0);
	assert_int_equal(cut(&f), 0);
	assert_true(holds(&f, 0, 0, 512, 1) && holds(&f, 1, 512, 512, 1));
	end(&f);
}

static void another_ones_journal_is_refused(void **state _unused_)
{
	uint8_t other[JOURNAL_UUID_BYTES] = { 9 };
	struct journal *journal = NULL;
	struct fixture f;

	make(&f);
	assert_int_equal(journal_open(&f.file.storage, other, f.storages, N_DISKS, &journal, NULL),
			 -EMEDIUMTYPE);
	assert_int_equal(journal_open(&f.file.storage, f.head.uuid, f.storages, 1, &journal, NULL),
			 -EMEDIUMTYPE);
	f.disks[0].storage.size -= 512;
	assert_int_equal(journal_open(&f.file.storage, f.head.uuid, f.storages, N_DISKS, &journal,
				      NULL),
			 -EMEDIUMTYPE);
	f.disks[0].storage.size += 512;
	f.file.storage.size -= 512;
	assert_int_equal(open_again(&f), -EBADMSG);
	f.file.storage.size = 512;
	assert_int_equal(open_again(&f), -ENODATA);
	f.file.storage.size = journal_bytes(RING);
	f.file.cache[8]++; /* the version */
	assert_int_equal(open_again(&f), -EPROTONOSUPPORT);
	f.file.cache[8]--;
	f.file.cache[3000]++;
	assert_int_equal(open_again(&f), -EBADMSG);
	end(&f);
}

/* A journal's making leaves the old one or the new one or none, and never one's head with another's epochs. */
static void the_making_of_another_is_whole_or_nothing(void **state _unused_)
{
	struct fixture f;

	for (uint64_t steps = 1;; steps++) {
		struct journal *next = NULL;
		int r, opened;

		make(&f);
		epoch(&f, 11, 512, 1);
		f.head.session.bytes[0]++;
		f.power.steps = steps;
		f.power.loses_all = steps % 2;
		r = journal_create(&f.file.storage, &f.head, f.storages, &next, NULL);
		f.power.steps = UINT64_MAX;
		f.power.off = false;
		journal_free(next);
		opened = cut(&f);
		assert_true(opened == 0 || opened == -EBADMSG);
		if (opened == 0)
			assert_int_equal(journal_sealed(f.journal),
					 journal_head(f.journal)->session.bytes[0] == 7 ? 11 : 10);
		assert_true(r < 0 || opened == 0);
		end(&f);
		if (r == 0)
			break;
	}
}

/* ---- on files ---- */

struct files {
	int journal_fd, fd;
	struct storage_file file, disk;
	struct storage *disks[1];
	struct journal_head head;
	struct journal *journal;
};

static int unnamed(void)
{
	char path[] = "/var/tmp/utsusu-journal-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void make_files(struct files *f)
{
	*f = (struct files){ .journal_fd = unnamed(),
			     .fd = unnamed(),
			     .disks = { &f->disk.storage },
			     .head = { .session = { { 1 } },
				       .ring_bytes = RING,
				       .n_disks = 1,
				       .disk_bytes = { DISK } } };
	assert_int_equal(ftruncate(f->journal_fd, (off_t)journal_bytes(RING)), 0);
	assert_int_equal(ftruncate(f->fd, DISK), 0);
	storage_file_init(&f->file, f->journal_fd, journal_bytes(RING));
	storage_file_init(&f->disk, f->fd, DISK);
	assert_int_equal(journal_create(&f->file.storage, &f->head, f->disks, &f->journal, NULL),
			 0);
}

static void end_files(struct files *f)
{
	journal_free(f->journal);
	close(f->journal_fd);
	close(f->fd);
}

static void it_works_on_files(void **state _unused_)
{
	struct journal_write write = { .kind = JOURNAL_WRITE, .offset = 4096, .len = 8192 };
	uint8_t data[8192];
	struct files f;

	make_files(&f);
	memset(data, 5, sizeof(data));
	write.data = data;
	assert_int_equal(journal_begin(f.journal, 1), 0);
	assert_int_equal(journal_append(f.journal, &write), 0);
	write = (struct journal_write){ .kind = JOURNAL_DISCARD, .offset = 4096, .len = 4096 };
	assert_int_equal(journal_append(f.journal, &write), 0);
	write = (struct journal_write){ .kind = JOURNAL_ZEROES, .offset = 8192, .len = 512 };
	assert_int_equal(journal_append(f.journal, &write), 0);
	assert_int_equal(journal_seal(f.journal), 0);
	journal_free(f.journal);
	assert_int_equal(journal_open(&f.file.storage, f.head.uuid, f.disks, 1, &f.journal, NULL),
			 0);
	assert_int_equal(journal_apply(f.journal, 1, NULL), 0);
	assert_int_equal(pread(f.fd, data, sizeof(data), 4096), sizeof(data));
	assert_int_equal(data[0] | data[4095] | data[4096] | data[4607], 0);
	assert_int_equal(data[4608] & data[8191], 5);
	end_files(&f);
}

#define MANY 300

static void *write_many(void *arg)
{
	struct journal *journal = arg;
	uint8_t data[8192];
	int r = 0;

	for (uint64_t number = 1; r == 0 && number <= MANY; number++) {
		const struct journal_write write = { .kind = JOURNAL_WRITE,
						     .offset = number % 8 * 8192,
						     .len = 8192,
						     .data = data };

		memset(data, (int)number, sizeof(data));
		while ((r = journal_begin(journal, number)) == -ENOSPC ||
		       (r == 0 && (r = journal_append(journal, &write)) == -ENOSPC))
			usleep(100);
		if (r == 0)
			r = journal_seal(journal);
	}
	return (void *)(intptr_t)r;
}

/* A writer that is often in want of place, and who makes it, each in its thread. */
static void one_writes_while_another_applies(void **state _unused_)
{
	struct files f;
	pthread_t thread;
	uint8_t byte;
	void *result;

	make_files(&f);
	assert_int_equal(pthread_create(&thread, NULL, write_many, f.journal), 0);
	while (journal_applied(f.journal) < MANY)
		assert_int_equal(journal_apply(f.journal, journal_sealed(f.journal), NULL), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	for (uint64_t number = MANY - 7; number <= MANY; number++) {
		assert_int_equal(pread(f.fd, &byte, 1, (off_t)(number % 8 * 8192)), 1);
		assert_int_equal(byte, (uint8_t)number);
	}
	end_files(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sealed_survives_and_is_applied),
		cmocka_unit_test(epochs_are_applied_only_as_far_as_asked),
		cmocka_unit_test(zeroes_and_discards_are_zeroes),
		cmocka_unit_test(the_ring_goes_round),
		cmocka_unit_test(an_epoch_without_writes_costs_nothing),
		cmocka_unit_test(a_full_journal_says_so_and_keeps_the_epoch),
		cmocka_unit_test(what_room_says_fits),
		cmocka_unit_test(what_is_no_write_to_a_disk_is_refused),
		cmocka_unit_test(what_cannot_be_a_journal_is_not_made),
		cmocka_unit_test(an_unsealed_epoch_is_dropped),
		cmocka_unit_test(a_torn_tail_is_never_applied),
		cmocka_unit_test(a_damaged_middle_is_refused_by_name),
		cmocka_unit_test(damage_is_seen_when_it_is_applied),
		cmocka_unit_test(the_mark_comes_after_the_disks),
		cmocka_unit_test(what_is_found_is_durable),
		cmocka_unit_test(after_its_end_nothing_is_applied),
		cmocka_unit_test(disks_that_are_being_filled_are_known),
		cmocka_unit_test(a_failed_sync_ends_it),
		cmocka_unit_test(a_sync_that_failed_for_the_other_one_counts),
		cmocka_unit_test(a_failed_apply_may_be_repeated),
		cmocka_unit_test(another_ones_journal_is_refused),
		cmocka_unit_test(the_making_of_another_is_whole_or_nothing),
		cmocka_unit_test(it_works_on_files),
		cmocka_unit_test(one_writes_while_another_applies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
