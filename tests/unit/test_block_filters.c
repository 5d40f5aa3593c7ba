/* SPDX-License-Identifier: Apache-2.0 */

/* Disks that are slow, bad, mute or watched. */

#include "block_rig.h"

#include "block/filters/filter.h"

#define DISK MIB(1)

static int setup(void **state)
{
	static struct rig rig;
	const struct raw_options options = { .path = rig.path, .fd = -1, .direct = true };
	struct error err = { 0 };

	rig_make_file(&rig, "/var/tmp", DISK);
	assert_int_equal(raw_open(&options, &rig.block, &err), 0);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	rig_close(*state);
	return 0;
}

static void stand(struct rig *rig, const char *spec)
{
	struct error err = { 0 };

	if (block_filter_stack(spec, rig->block, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	rig_open_queue(rig);
}

static int flush(struct rig *rig)
{
	struct rig_request r = { .request = { .op = BLOCK_FLUSH } };

	return rig_do(rig, &r);
}

static void test_filters_pass_data(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(64), 1), *in = rig_buffer(KIB(64), 2);

	stand(rig, "delay:us=10+fail:nth=1000+delay:us=20,op=read");
	assert_int_equal(rig->block->geometry.size, DISK);
	assert_int_equal(rig_write(rig, 0, out, KIB(64)), 0);
	assert_int_equal(flush(rig), 0);
	assert_int_equal(rig_read(rig, 0, in, KIB(64)), 0);
	assert_memory_equal(in, out, KIB(64));
}

static void test_delay_takes_its_time(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *buf = rig_buffer(4096, 1);
	uint64_t begin = clock_now(&clock_host);

	stand(rig, "delay:ms=30,op=write");
	assert_int_equal(rig_write(rig, 0, buf, 4096), 0);
	assert_true(clock_now(&clock_host) - begin >= 30 * NSEC_PER_MSEC);
}

static void test_delay_follows_the_loops_clock(void **state)
{
	struct rig *rig = *state;
	struct fake_clock clock;
	struct rig_request r = { .request = { .op = BLOCK_FLUSH } };
	const struct block_delay_params params = { .ns = NSEC_PER_SEC, .ops = FILTER_OPS_ALL };

	fake_clock_init(&clock, 5, 0);
	assert_int_equal(block_delay_new(&params, rig->block, &rig->block), 0);
	rig->loop = loop_new(&clock.clock);
	assert_int_equal(block_queue_open(rig->block, rig->loop, 4, &rig->queue), 0);
	rig_submit(rig, &r);
	block_kick(rig->queue);
	for (int i = 0; i < 50; i++)
		assert_int_equal(loop_turn(rig->loop, 2), 0);
	assert_int_equal(r.result, RIG_PENDING);
	fake_clock_advance(&clock, NSEC_PER_SEC);
	assert_int_equal(rig_wait(rig, &r), 0);
}

static void test_fail_nth(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *buf = rig_buffer(4096, 1);

	stand(rig, "fail:nth=2,op=write,error=ENOSPC");
	assert_int_equal(rig_write(rig, 0, buf, 4096), 0);
	assert_int_equal(rig_read(rig, 0, buf, 4096), 0);
	assert_int_equal(rig_write(rig, 0, buf, 4096), -ENOSPC);
	assert_int_equal(rig_write(rig, 0, buf, 4096), 0);
}

static void test_fail_every(void **state)
{
	struct rig *rig = *state;

	stand(rig, "fail:every=3");
	for (int i = 1; i < 10; i++)
		assert_int_equal(flush(rig), i % 3 ? 0 : -EIO);
}

static void test_fail_sticky(void **state)
{
	struct rig *rig = *state;

	stand(rig, "fail:nth=3,sticky=1,error=EROFS");
	for (int i = 1; i < 6; i++)
		assert_int_equal(flush(rig), i < 3 ? 0 : -EROFS);
}

static void test_fail_all_keeps_the_disk_unchanged(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(4096, 1), *in = rig_buffer(4096, 2);
	struct rig_request r[3 * RIG_DEPTH] = { 0 };

	stand(rig, "fail:op=write");
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		r[i].request = (struct block_request){ .op = BLOCK_WRITE, .len = 4096 };
		r[i].iov = (struct iovec){ out, 4096 };
		rig_submit(rig, &r[i]);
		assert_int_equal(r[i].result, RIG_PENDING);
	}
	block_kick(rig->queue);
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
		assert_int_equal(rig_wait(rig, &r[i]), -EIO);
	assert_int_equal(rig_read(rig, 0, in, 4096), 0);
	memset(out, 0, 4096);
	assert_memory_equal(in, out, 4096);
}

static void turn(struct rig *rig, int times)
{
	while (times--)
		assert_int_equal(loop_turn(rig->loop, 5), 0);
}

static void test_drop_holds_until_released(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(64), 1), *in = rig_buffer(KIB(64), 2);
	struct rig_request r[2 * RIG_DEPTH] = { 0 };

	stand(rig, "drop:op=write");
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		r[i].request = (struct block_request){ .op = BLOCK_WRITE,
						       .offset = i * 4096,
						       .len = 4096 };
		r[i].iov = (struct iovec){ out + i * 4096, 4096 };
		rig_submit(rig, &r[i]);
	}
	block_kick(rig->queue);
	turn(rig, 5);
	assert_int_equal(block_drop_held(rig->block), RIG_DEPTH); /* as many as the queue takes */
	assert_int_equal(r[0].result, RIG_PENDING);
	block_drop_hold(rig->block, false);
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
		assert_int_equal(rig_wait(rig, &r[i]), 0);
	assert_int_equal(block_drop_held(rig->block), 0);
	assert_int_equal(rig_read(rig, 0, in, KIB(64)), 0);
	assert_memory_equal(in, out, KIB(64));
}

static void test_close_forgets_what_is_held(void **state)
{
	struct rig *rig = *state;
	struct rig_request r[2] = { { .request = { .op = BLOCK_FLUSH } },
				    { .request = { .op = BLOCK_FLUSH } } };

	stand(rig, "delay:ms=1000+drop");
	rig_submit(rig, &r[0]);
	rig_submit(rig, &r[1]);
	block_kick(rig->queue);
	turn(rig, 2);
	block_queue_close(TAKE_PTR(rig->queue));
	assert_int_equal(r[0].result, RIG_PENDING);
}

struct log {
	unsigned int n;
	struct block_record records[8];
};

static void log_record(void *ctx, const struct block_record *record)
{
	struct log *log = ctx;

	assert_true(log->n < ARRAY_SIZE(log->records));
	log->records[log->n++] = *record;
}

static void test_record_tells_all(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *buf = rig_buffer(4096, 1);
	struct log log = { 0 };
	const struct block_record_params params = { log_record, &log };

	assert_int_equal(block_record_new(&params, rig->block, &rig->block), 0);
	stand(rig, "fail:op=flush");
	assert_int_equal(rig_write(rig, 8192, buf, 4096), 0);
	assert_int_equal(flush(rig), -EIO);
	assert_int_equal(rig_read(rig, 8192, buf, 4096), 0);
	assert_int_equal(log.n, 2);
	assert_int_equal(log.records[0].op, BLOCK_WRITE);
	assert_int_equal(log.records[0].offset, 8192);
	assert_int_equal(log.records[0].len, 4096);
	assert_int_equal(log.records[0].result, 0);
	assert_true(log.records[0].done_ns >= log.records[0].submitted_ns);
	assert_int_equal(log.records[1].op, BLOCK_READ);
}

static void test_bad_specs_build_nothing(void **state)
{
	static const struct {
		const char *spec, *words;
	} cases[] = {
		{ "", "no such filter" },
		{ "slow", "slow" },
		{ "delay:", "no such option" },
		{ "delay:ms", "KEY=VALUE" },
		{ "delay:ms=", "'': no value" },
		{ "delay:ms=-1", "'-1': no value" },
		{ "delay:ms=60001", "60001" },
		{ "delay:nth=3", "nth" },
		{ "delay:ms=1+fail:error=EVIL", "EVIL" },
		{ "fail:op=everything", "everything" },
		{ "drop:op=read,sticky=1", "sticky" },
		{ "drop+drop+drop+drop+drop+drop+drop+drop+drop", "more than 8" },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = { 0 };
		struct block *block = NULL;

		assert_true(block_filter_stack(cases[i].spec, rig->block, &block, &err) < 0);
		assert_null(block);
		assert_int_equal(err.status, EXIT_STATUS_USAGE);
		if (!strstr(err.message, cases[i].words))
			fail_msg("'%s' lacks '%s'", err.message, cases[i].words);
	}
	rig_open_queue(rig);
}

#define DISK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_filters_pass_data),
		DISK_TEST(test_delay_takes_its_time),
		DISK_TEST(test_delay_follows_the_loops_clock),
		DISK_TEST(test_fail_nth),
		DISK_TEST(test_fail_every),
		DISK_TEST(test_fail_sticky),
		DISK_TEST(test_fail_all_keeps_the_disk_unchanged),
		DISK_TEST(test_drop_holds_until_released),
		DISK_TEST(test_close_forgets_what_is_held),
		DISK_TEST(test_record_tells_all),
		DISK_TEST(test_bad_specs_build_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
