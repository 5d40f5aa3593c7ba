/* SPDX-License-Identifier: Apache-2.0 */

/* The map of where a disk may differ from its mirror: what is durable when, what costs nothing, what damage does. */

#include "check.h"

#include <errno.h>
#include <string.h>

#include "lossy_storage.h"
#include "protect/intent.h"

#define DISK (MIB(8000) + 512) /* three sectors of bits */
#define REGIONS 8001

struct fixture {
	struct power power;
	struct lossy_storage file, disk; /* the disk is only ever synced */
	struct intent_head head;
	struct intent *intent;
	uint64_t damaged;
	struct error err;
};

static void make(struct fixture *f, bool all)
{
	memset(f, 0, sizeof(*f));
	f->power = (struct power){ .random = 1, .steps = UINT64_MAX, .loses_all = true };
	f->head = (struct intent_head){ .uuid = { 1, 2 }, .disk = 3, .disk_bytes = DISK };
	lossy_storage_init(&f->file, &f->power, intent_bytes(DISK));
	lossy_storage_init(&f->disk, &f->power, STORAGE_SECTOR);
	assert_int_equal(intent_create(&f->file.storage, &f->head, all, &f->disk.storage,
				       &f->intent, &f->err),
			 0);
}

static void end(struct fixture *f)
{
	intent_free(f->intent);
	lossy_storage_release(&f->file);
	lossy_storage_release(&f->disk);
}

static int open_again(struct fixture *f)
{
	intent_free(f->intent);
	f->intent = NULL;
	f->err = (struct error){ 0 };
	return intent_open(&f->file.storage, &f->head, &f->disk.storage, &f->intent, &f->damaged,
			   &f->err);
}

static int cut(struct fixture *f)
{
	lossy_storage_cut(&f->file);
	return open_again(f);
}

static uint64_t count(struct fixture *f)
{
	uint64_t sum = 0, first = 0, n;

	while ((n = intent_next(f->intent, first, &first))) {
		sum += n;
		first += n;
	}
	return sum;
}

static bool mark(struct fixture *f, uint64_t region, uint64_t epoch)
{
	return intent_mark(f->intent, region * MIB(1) + 4096, 512, epoch);
}

static void a_write_waits_for_its_mark_once(void **state _unused_)
{
	struct fixture f;
	unsigned int syncs, writes;

	make(&f, false);
	assert_false(mark(&f, 5, 1));
	assert_false(mark(&f, 7000, 1));
	assert_false(intent_is_durable(f.intent, MIB(5), 512));
	syncs = f.file.syncs;
	assert_int_equal(intent_flush(f.intent), 0);
	assert_int_equal(f.file.syncs, syncs + 1);
	assert_true(intent_is_durable(f.intent, MIB(5), MIB(1)));
	writes = f.file.writes;
	for (uint64_t epoch = 1; epoch < 100; epoch++)
		assert_true(mark(&f, 5, epoch) && mark(&f, 7000, epoch));
	assert_int_equal(intent_flush(f.intent), 0);
	assert_int_equal(f.file.writes, writes);
	assert_int_equal(f.file.syncs, syncs + 1);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(count(&f), 2);
	end(&f);
}

static void a_range_marks_all_that_it_touches(void **state _unused_)
{
	struct fixture f;
	uint64_t first;

	make(&f, false);
	assert_false(intent_mark(f.intent, MIB(10) - 512, 1024, 1));
	assert_false(intent_mark(f.intent, MIB(3900), MIB(10), 1));
	assert_false(intent_mark(f.intent, DISK - 512, 512, 1));
	/* Beyond it there is nothing to be marked. */
	assert_false(intent_mark(f.intent, DISK - 512, UINT64_MAX, 1));
	assert_true(intent_mark(f.intent, DISK, 512, 1));
	assert_true(intent_mark(f.intent, UINT64_MAX - 511, 512, 1));
	assert_int_equal(intent_flush(f.intent), 0);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(intent_next(f.intent, 0, &first), 2);
	assert_int_equal(first, 9);
	assert_int_equal(intent_next(f.intent, 11, &first), 10);
	assert_int_equal(first, 3900);
	assert_int_equal(intent_next(f.intent, 3910, &first), 1);
	assert_int_equal(first, REGIONS - 1);
	assert_int_equal(intent_next(f.intent, REGIONS, &first), 0);
	end(&f);
}

static void bits_go_when_they_are_old_and_committed(void **state _unused_)
{
	struct fixture f;

	make(&f, false);
	assert_false(mark(&f, 5, 300));
	assert_int_equal(intent_flush(f.intent), 0);
	assert_int_equal(intent_commit(f.intent, 299), 0); /* turns: 5 is of the time before now */
	assert_true(mark(&f, 5, 301));
	assert_false(mark(&f, 6, 301));
	assert_int_equal(intent_flush(f.intent), 0);
	assert_int_equal(intent_commit(f.intent, 299 + INTENT_EPOCHS - 1), 0);
	assert_int_equal(count(&f), 2);
	assert_int_equal(intent_commit(f.intent, 299 + INTENT_EPOCHS), 0);
	assert_int_equal(count(&f), 2); /* written in the time that is before now */
	assert_true(mark(&f, 6, 700));
	assert_int_equal(intent_commit(f.intent, 299 + 2 * INTENT_EPOCHS), 0);
	assert_int_equal(count(&f), 1);
	assert_int_equal(cut(&f), 0);
	assert_int_equal(count(&f), 1);
	assert_true(intent_is_durable(f.intent, MIB(6), 512));
	end(&f);
}

static void what_is_not_committed_stays(void **state _unused_)
{
	struct fixture f;

	make(&f, false);
	assert_false(mark(&f, 5, 5000));
	assert_int_equal(intent_flush(f.intent), 0);
	for (uint64_t epoch = 1; epoch < 5000; epoch += 100)
		assert_int_equal(intent_commit(f.intent, epoch), 0);
	assert_int_equal(count(&f), 1);
	assert_int_equal(intent_commit(f.intent, 5000), 0);
	assert_int_equal(intent_commit(f.intent, 6000), 0);
	assert_int_equal(count(&f), 0);
	end(&f);
}

static void no_bit_goes_before_the_disk_is_synced(void **state _unused_)
{
	struct fixture f;

	make(&f, true);
	f.disk.fail = -ENOSPC;
	assert_int_equal(intent_commit(f.intent, 1000), -ENOSPC);
	/* Another sync would say that all is well, and it is not. */
	assert_int_equal(intent_commit(f.intent, 2000), -EIO);
	assert_int_equal(count(&f), REGIONS);
	assert_int_equal(f.disk.syncs, 0);
	end(&f);
}

/* With each cut in a flush that sets one bit and clears another: what was durable before, or is after, is there. */
static void a_cut_loses_no_set_bit(void **state _unused_)
{
	for (uint64_t steps = 1;; steps++) {
		struct fixture f;
		int r;

		make(&f, false);
		f.power.tears = true;
		f.power.random = steps;
		f.power.loses_all = false;
		assert_false(mark(&f, 5, 1));
		assert_int_equal(intent_flush(f.intent), 0);
		assert_int_equal(intent_commit(f.intent, 1000), 0);
		assert_false(mark(&f, 6, 1001));
		assert_false(mark(&f, 5000, 1001));
		f.power.steps = 1 + steps / 16;
		r = intent_flush(f.intent);
		f.power.steps = UINT64_MAX;
		f.power.off = false;
		assert_int_equal(cut(&f), 0);
		assert_true(intent_is_durable(f.intent, MIB(5), 512));
		if (r == 0)
			assert_true(intent_is_durable(f.intent, MIB(6), 512) &&
				    intent_is_durable(f.intent, MIB(5000), 512));
		end(&f);
		if (r == 0)
			break;
	}
}

static void damage_makes_bits(void **state _unused_)
{
	struct fixture f;

	make(&f, false);
	assert_false(mark(&f, 4000, 1));
	assert_int_equal(intent_flush(f.intent), 0);
	for (uint64_t at = 0; at < STORAGE_SECTOR; at++) {
		f.file.cache[4096 + 512 + at] ^= 0x80;
		assert_int_equal(open_again(&f), 0);
		assert_int_equal(f.damaged, 1);
		assert_int_equal(count(&f), 61 * 64);
		assert_true(intent_is_durable(f.intent, MIB(4000), 512));
		f.file.cache[4096 + 512 + at] ^= 0x80;
	}
	assert_int_equal(open_again(&f), 0);
	assert_int_equal(f.damaged, 0);
	assert_int_equal(count(&f), 1);
	/* Another's place. */
	memcpy(f.file.cache + 4096, f.file.cache + 4096 + 512, 512);
	assert_int_equal(open_again(&f), 0);
	assert_int_equal(f.damaged, 1);
	end(&f);
}

static void a_failed_flush_lets_no_write_through(void **state _unused_)
{
	struct fixture f;

	make(&f, false);
	assert_false(mark(&f, 5, 1));
	f.file.fail = -EIO;
	assert_int_equal(intent_flush(f.intent), -EIO);
	assert_false(intent_is_durable(f.intent, MIB(5), 512));
	assert_int_equal(intent_flush(f.intent), -EIO);
	assert_false(mark(&f, 5, 2));
	end(&f);
}

static void another_ones_map_is_refused(void **state _unused_)
{
	struct fixture f;

	make(&f, false);
	f.head.uuid[0]++;
	assert_int_equal(open_again(&f), -EMEDIUMTYPE);
	f.head.uuid[0]--;
	f.head.disk++;
	assert_int_equal(open_again(&f), -EMEDIUMTYPE);
	f.head.disk--;
	f.head.disk_bytes -= 512;
	assert_int_equal(open_again(&f), -EMEDIUMTYPE);
	f.head.disk_bytes += MIB(10000);
	assert_int_equal(open_again(&f), -EINVAL);
	f.head.disk_bytes = LIMIT_MIRRORED_DISK + 512;
	assert_int_equal(open_again(&f), -EINVAL);
	f.head.disk_bytes = DISK;
	f.file.cache[100]++;
	assert_int_equal(open_again(&f), -EBADMSG);
	assert_non_null(strstr(f.err.message, "disk[3]"));
	end(&f);
}

static void a_map_is_made_whole_or_not_at_all(void **state _unused_)
{
	for (uint64_t steps = 1;; steps++) {
		struct intent *next = NULL;
		struct fixture f;
		int r, opened;

		make(&f, false);
		f.power.loses_all = false;
		f.power.random = steps;
		f.power.steps = steps;
		r = intent_create(&f.file.storage, &f.head, true, &f.disk.storage, &next, NULL);
		f.power.steps = UINT64_MAX;
		f.power.off = false;
		intent_free(next);
		opened = cut(&f);
		assert_true(opened == 0 || opened == -EBADMSG);
		if (opened == 0)
			assert_true(count(&f) == REGIONS || (r < 0 && count(&f) == 0));
		assert_true(r < 0 || opened == 0);
		end(&f);
		if (r == 0)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_waits_for_its_mark_once),
		cmocka_unit_test(a_range_marks_all_that_it_touches),
		cmocka_unit_test(bits_go_when_they_are_old_and_committed),
		cmocka_unit_test(what_is_not_committed_stays),
		cmocka_unit_test(no_bit_goes_before_the_disk_is_synced),
		cmocka_unit_test(a_cut_loses_no_set_bit),
		cmocka_unit_test(damage_makes_bits),
		cmocka_unit_test(a_failed_flush_lets_no_write_through),
		cmocka_unit_test(another_ones_map_is_refused),
		cmocka_unit_test(a_map_is_made_whole_or_not_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
