/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is written to a disk is marked: whatever ends, ends with a mark; and nothing that a copy took too early is lost, for the mark
 * comes when the request has ended.
 */

#include "blk_rig.h"

#include <string.h>

#include "block/log.h"

#define DISK MIB(4)
#define CHUNK KIB(64)
#define SECTORS (CHUNK / BLK_RIG_SECTOR)

struct fixture {
	struct blk_rig rig;
	uint64_t words[DISK / CHUNK / 64];
	struct block_log log;
};

static void begin_log(struct fixture *f, bool on)
{
	f->log = (struct block_log){ f->words, block_chunks(DISK), block_chunk_shift(DISK) };
	quiesce_begin(&f->rig.machine->quiesce);
	f->rig.block->log = on ? &f->log : NULL;
	quiesce_end(&f->rig.machine->quiesce);
}

static void make(struct fixture *f, const char *filters)
{
	const struct blk_rig_options options = { .filters = filters, .queues = 2 };

	memset(f, 0, sizeof(*f));
	blk_rig_make(&f->rig, &options);
	blk_rig_drive(&f->rig, &options);
}

static void end(struct fixture *f)
{
	begin_log(f, false);
	blk_rig_free(&f->rig);
}

/* As a copy does: what is in there is then its own. */
static uint64_t take(struct fixture *f)
{
	return __atomic_exchange_n(&f->words[0], 0, __ATOMIC_ACQ_REL);
}

static void chunks_are_as_small_as_the_disk_allows(void **state _unused_)
{
	assert_int_equal(block_chunk_shift(512), 16);
	assert_int_equal(block_chunk_shift(GIB(128)), 16);
	assert_int_equal(block_chunk_shift(GIB(128) + 1), 16); /* the last one is short */
	assert_int_equal(block_chunk_shift(GIB(256)), 17);
	assert_int_equal(block_chunk_shift(GIB(16 * 1024)), 20);
	assert_int_equal(block_chunks(512), 1);
	assert_int_equal(block_chunks(CHUNK + 512), 2);
	assert_int_equal(block_log_bytes(CHUNK * 65), 16);
}

static void a_range_marks_all_that_it_touches(void **state _unused_)
{
	uint64_t words[3] = { 0 };
	struct block_log log = { words, 130, 16 };

	block_log_mark(&log, 0, 0);
	block_log_mark(&log, 130 * CHUNK, 1);
	assert_int_equal(words[0] | words[1] | words[2], 0);
	block_log_mark(&log, CHUNK - 1, 2);
	assert_int_equal(words[0], 3);
	block_log_mark(&log, 63 * CHUNK, 2 * CHUNK);
	assert_true(words[0] == (3 | 1ULL << 63) && words[1] == 1);
	block_log_mark(&log, 5, UINT64_MAX - 5); /* beyond the end: to the last */
	assert_true(words[0] == ~0ULL && words[1] == ~0ULL && words[2] == 3);
}

static void what_changes_the_disk_is_marked(void **state _unused_)
{
	struct fixture f;

	make(&f, NULL);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 0, f.rig.data, 512), VBLK_OK);
	begin_log(&f, true);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_IN, 0, f.rig.data, 512), VBLK_OK);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_FLUSH, 0, f.rig.data, 0), VBLK_OK);
	assert_int_equal(take(&f), 0);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 3 * SECTORS - 1, f.rig.data, 1024), VBLK_OK);
	assert_int_equal(take(&f), 1 << 2 | 1 << 3);
	assert_int_equal(blk_rig_do_range(&f.rig, VBLK_ZEROES, 5 * SECTORS, 1, 0), VBLK_OK);
	assert_int_equal(take(&f), 1 << 5);
	assert_int_equal(blk_rig_do_range(&f.rig, VBLK_DISCARD, 6 * SECTORS, 2 * SECTORS, 0),
			 VBLK_OK);
	assert_int_equal(take(&f), 3 << 6);
	begin_log(&f, false);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 0, f.rig.data, 512), VBLK_OK);
	assert_int_equal(take(&f), 0);
	end(&f);
}

/* A part of it may be on the disk. */
static void a_write_that_fails_is_marked(void **state _unused_)
{
	struct fixture f;

	make(&f, "fail:op=write");
	begin_log(&f, true);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, SECTORS, f.rig.data, 512), VBLK_IOERR);
	assert_int_equal(take(&f), 1 << 1);
	end(&f);
}

/* Taken and read while it is on its way, a chunk is read as it was: its mark must come after. */
static void a_write_under_way_is_marked_when_it_ends(void **state _unused_)
{
	struct fixture f;
	uint8_t byte;

	make(&f, "drop:op=write");
	begin_log(&f, true);
	blk_rig_fill(&f.rig, f.rig.data, 512, 77);
	blk_rig_add(&f.rig, 0, 0, VBLK_OUT, 4 * SECTORS, f.rig.data, 512, false);
	blk_rig_kick(&f.rig, 0);
	blk_rig_wait_held(&f.rig, 1);
	(void)take(&f);
	blk_rig_read_file(&f.rig, 4 * CHUNK, &byte, 1);
	assert_int_equal(byte, 0); /* what a copy has by now */
	block_drop_hold(f.rig.block, false);
	blk_rig_wait(&f.rig, 0, 1);
	assert_int_equal(take(&f), 1 << 4);
	blk_rig_read_file(&f.rig, 4 * CHUNK, &byte, 1);
	assert_int_equal(byte, 77);
	end(&f);
}

/* Of two to one chunk each has its mark, whichever ends first; also one that was on its way before the log began. */
static void each_of_two_at_once_is_marked(void **state _unused_)
{
	struct fixture f;

	make(&f, "drop:op=write");
	blk_rig_add(&f.rig, 0, 0, VBLK_OUT, 0, f.rig.data, 512, false);
	blk_rig_kick(&f.rig, 0);
	blk_rig_wait_held(&f.rig, 1);
	begin_log(&f, true);
	blk_rig_add(&f.rig, 1, 1, VBLK_OUT, 1, f.rig.data, 512, false);
	blk_rig_kick(&f.rig, 1);
	blk_rig_wait_held(&f.rig, 2);
	assert_int_equal(take(&f), 0);
	block_drop_hold(f.rig.block, false);
	blk_rig_wait(&f.rig, 0, 1);
	blk_rig_wait(&f.rig, 1, 1);
	assert_int_equal(take(&f), 1);
	end(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_are_as_small_as_the_disk_allows),
		cmocka_unit_test(a_range_marks_all_that_it_touches),
		cmocka_unit_test(what_changes_the_disk_is_marked),
		cmocka_unit_test(a_write_that_fails_is_marked),
		cmocka_unit_test(a_write_under_way_is_marked_when_it_ends),
		cmocka_unit_test(each_of_two_at_once_is_marked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
