/* SPDX-License-Identifier: Apache-2.0 */

/* The journal of a backup's disks: what is found again, what is applied, what is refused, and that it never grows. */

#include "journal_rig.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

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
		cmocka_unit_test(it_works_on_files),
		cmocka_unit_test(one_writes_while_another_applies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
