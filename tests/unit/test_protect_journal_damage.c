/* SPDX-License-Identifier: Apache-2.0 */

/* The journal of a backup's disks when power is cut, disks fail, or what is found is damaged. */

#include "journal_rig.h"

#include <errno.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
