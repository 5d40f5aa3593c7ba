/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What our own devices write to guest RAM is in the dirty log: pages that differ from what they were when the log was
 * started, and that the log does not name, would be old ones at the destination of a move. The guest's own writes are
 * all made before.
 */

#include "board_rig.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/filters/filter.h"
#include "device/generation.h"
#include "memory/dirty.h"
#include "vm/memory_map.h"

#define PAGES (BOARD_RIG_RAM / MEMORY_PAGE_SIZE)
#define SOON_MS 5000

struct fixture {
	struct fake_clock clock;
	struct board_rig rig;
	uint8_t *before;
	struct dirty_bitmap log;
	uint64_t console_buffer;
};

/* Everything that the guest does is done before the log is started; the devices then finish it. */
static int setup(void **state)
{
	static struct fixture f;
	struct board_rig *rig = &f.rig;

	memset(&f, 0, sizeof(f));
	fake_clock_init(&f.clock, 5 * NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	board_rig_make(rig, &f.clock.clock);
	board_rig_start(rig);
	board_rig_busy(rig);
	/* A disk that has something to read, and a console's buffer that nobody told of yet. */
	memset(rig->disk->bytes, 0x5a, 4096);
	board_rig_add_buffer(rig, &rig->console_in, 16, true);
	assert_int_equal(dirty_bitmap_init(&f.log, rig->vm->memory), 0);
	f.before = malloc(BOARD_RIG_RAM);
	assert_non_null(f.before);
	quiesce_begin(&rig->vm->quiesce);
	assert_int_equal(memory_dirty_start(rig->vm->memory), 0);
	memcpy(f.before, rig->vm->memory->banks[0].host, BOARD_RIG_RAM);
	quiesce_end(&rig->vm->quiesce);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	dirty_bitmap_release(&f->log);
	free(f->before);
	board_rig_free(&f->rig);
	return 0;
}

static bool in_log(const struct fixture *f, uint64_t page)
{
	return f->log.words[page / 64] >> (page % 64) & 1;
}

/* How many pages have changed; each must be in the log. */
static unsigned int judge_changes(const struct fixture *f)
{
	const uint8_t *now = f->rig.vm->memory->banks[0].host;
	unsigned int changed = 0;

	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t at = page * MEMORY_PAGE_SIZE;

		if (memcmp(now + at, f->before + at, MEMORY_PAGE_SIZE) == 0)
			continue;
		if (!in_log(f, page))
			fail_msg("the page at 0x%llx was written, and the log does not tell",
				 (unsigned long long)at);
		changed++;
	}
	return changed;
}

/* Takes the log while all stand still. */
static unsigned int collect(struct fixture *f)
{
	unsigned int changed;

	quiesce_begin(&f->rig.vm->quiesce);
	assert_int_equal(memory_dirty_collect(f->rig.vm->memory, &f->log), 0);
	changed = judge_changes(f);
	quiesce_end(&f->rig.vm->quiesce);
	return changed;
}

/* Waits until the device has used `n` of the queue's elements, looking only. */
static void wait_used(struct board_rig *rig, const struct vqueue *queue, uint16_t n)
{
	const uint16_t *used = vmachine_at(&rig->machine, queue->used + 2, 2);

	for (unsigned int ms = 0; ms < SOON_MS; ms++) {
		if (__atomic_load_n(used, __ATOMIC_ACQUIRE) == n)
			return;
		usleep(1000);
	}
	fail_msg("%u elements used, not %u", *used, n);
}

static void send_frame(struct board_rig *rig, struct net_queue *wire)
{
	uint8_t frame[12 + 600];
	const struct iovec iov = { frame, sizeof(frame) };

	memset(frame, 0, 12);
	memset(frame + 12, 0x77, 600);
	assert_int_equal(net_send(wire, &iov, 1), 0);
	wait_used(rig, &rig->rx, 3);
}

static void nothing(void *ctx _unused_)
{
}

static void nothing_gone(void *ctx _unused_, int error _unused_)
{
}

/* Disk, entropy, console and network each finish what they had. */
static void every_page_that_a_device_writes_is_logged(void **state)
{
	const struct net_events events = { nothing, nothing, nothing_gone, NULL };
	struct fixture *f = *state;
	struct board_rig *rig = &f->rig;
	struct net_queue *wire;

	assert_int_equal(net_queue_open(rig->peer, 0, rig->loop, &events, &wire), 0);
	block_drop_hold(rig->block, false);
	wait_used(rig, &rig->blk_queue, 3);
	fake_clock_advance(&f->clock, NSEC_PER_SEC);
	wait_used(rig, &rig->rng_queue, 20);
	vqueue_kick_anyway(&rig->console_in);
	wait_used(rig, &rig->console_in, 1);
	send_frame(rig, wire);
	net_queue_close(wire);
	/* Of each device its ring and its buffers. */
	assert_true(collect(f) >= 10);
}

/* A page is in one collect, and in the next only when it was written again. */
static void a_page_is_told_once(void **state)
{
	struct fixture *f = *state;

	block_drop_hold(f->rig.block, false);
	wait_used(&f->rig, &f->rig.blk_queue, 3);
	collect(f);
	assert_true(dirty_bitmap_count(&f->log) > 0);
	dirty_bitmap_clear(&f->log);
	quiesce_begin(&f->rig.vm->quiesce);
	assert_int_equal(memory_dirty_collect(f->rig.vm->memory, &f->log), 0);
	quiesce_end(&f->rig.vm->quiesce);
	assert_int_equal(dirty_bitmap_count(&f->log), 0);
}

/* What goes into RAM by our own hand is in it as well. */
static void a_new_generation_is_logged(void **state)
{
	static const uint8_t id[16] = "another one";
	struct fixture *f = *state;
	struct error err = { 0 };

	collect(f);
	assert_false(in_log(f, MAP_GENERATION_ID / MEMORY_PAGE_SIZE));
	quiesce_begin(&f->rig.vm->quiesce);
	assert_int_equal(generation_renew(f->rig.vm->generation, id, &err), 0);
	quiesce_end(&f->rig.vm->quiesce);
	collect(f);
	assert_true(in_log(f, MAP_GENERATION_ID / MEMORY_PAGE_SIZE));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(every_page_that_a_device_writes_is_logged),
		TEST(a_page_is_told_once),
		TEST(a_new_generation_is_logged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
