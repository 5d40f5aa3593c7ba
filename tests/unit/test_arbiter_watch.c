/* SPDX-License-Identifier: Apache-2.0 */

/* A watch tells each change once, whatever becomes of its stream. */

#include <string.h>

#include "arbiter_rig.h"
#include "check.h"

#define HEADER                                                                                     \
	"\"header\":{\"cluster_id\":\"77\",\"member_id\":\"5\",\"revision\":\"10\",\"raft_term\":\"2\"}"
#define CREATED "{\"result\":{" HEADER ",\"created\":true}}\n"
#define CHANGED "{\"result\":{" HEADER ",\"events\":[{\"kv\":{\"key\":\"YQ==\"}}]}}\n"

static const struct ownership_record first = {
	.generation = 3, .revision = 10, .mode = OWNERSHIP_SOLO, .owner = { { 1 } }
};
static const struct ownership_record second = {
	.generation = 4, .revision = 12, .mode = OWNERSHIP_SOLO, .owner = { { 2 } }
};

/* Reads `first`, and the stream stands. */
static void begin(struct arbiter_rig *f)
{
	const struct server_step steps[] = {
		{ RANGE, .body = etcd_range(77, 11, &first) },
		{ WATCH, SERVER_STREAMS, .body = CREATED, .asks = "\"start_revision\":\"12\"" },
	};

	server_play(f->servers[0], steps, 2);
	arbiter_watch(f->arbiter);
	while (server_left(f->servers[0]))
		assert_int_equal(loop_turn(f->loop, 100), 0);
	assert_int_equal(f->n_stands, 1);
	assert_memory_equal(&f->stands, &first, sizeof(first));
}

static void wait_for_second(struct arbiter_rig *f)
{
	rig_turn_until(f, &f->n_stands, f->n_stands + 1);
	assert_true(f->known);
	assert_memory_equal(&f->stands, &second, sizeof(second));
}

static void test_a_change_is_told(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { RANGE, .body = etcd_range(77, 12, &second) };

	begin(f);
	server_play(f->servers[0], &step, 1);
	server_say(f->servers[0], CHANGED);
	wait_for_second(f);
}

/* A line comes in pieces, two lines in one. */
static void test_lines_are_put_together(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step steps[] = {
		{ RANGE, .body = etcd_range(77, 11, &first) },
		{ RANGE, .body = etcd_range(77, 12, &second) },
	};

	begin(f);
	server_play(f->servers[0], steps, 2);
	server_say(f->servers[0], CREATED "{\"result\":{" HEADER);
	server_say(f->servers[0], ",\"events\":[{}]}}\n" CHANGED);
	/* The first read is old when its answer comes: one more was asked for meanwhile, and that is told. */
	wait_for_second(f);
	assert_int_equal(f->n_stands, 2);
	assert_int_equal(server_left(f->servers[0]), 0);
}

static void test_what_did_not_change_is_not_told_again(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step steps[] = {
		/* Silence: it is asked whether all is as it was. */
		{ RANGE, .body = etcd_range(77, 11, &first) },
		{ WATCH, SERVER_STREAMS, .body = CREATED },
		{ RANGE, .body = etcd_range(77, 12, &second) },
		{ WATCH, SERVER_STREAMS, .body = CREATED, .asks = "\"start_revision\":\"13\"" },
	};

	begin(f);
	server_play(f->servers[0], steps, 4);
	wait_for_second(f);
	assert_int_equal(f->n_stands, 2);
	while (server_left(f->servers[0]))
		assert_int_equal(loop_turn(f->loop, 100), 0);
}

/* After each of these: a pause, a read, another stream. */
static void test_a_stream_that_fails_is_begun_anew(void **state)
{
	static const char *const lines[] = {
		"{\"result\":{" HEADER ",\"canceled\":true,\"compact_revision\":\"11\"}}\n",
		"{\"error\":{\"grpc_code\":14,\"message\":\"no leader\"}}\n", "not JSON\n",
		NULL, /* cut */
	};
	struct arbiter_rig *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const struct server_step step = { RANGE, .body = etcd_range(77, 12, &second) };

		begin(f);
		server_play(f->servers[0], &step, 1);
		if (lines[i])
			server_say(f->servers[0], lines[i]);
		else
			server_hang_up(f->servers[0]);
		wait_for_second(f);
		rig_teardown(state);
		rig_setup(state);
		f = *state;
	}
}

static void test_a_line_without_end_is_not_kept(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step steps[] = {
		{ RANGE, .body = etcd_range(77, 11, &first) },
		{ WATCH, SERVER_BABBLES },
		{ RANGE, .body = etcd_range(77, 12, &second) },
	};

	server_play(f->servers[0], steps, 3);
	arbiter_watch(f->arbiter);
	rig_turn_until(f, &f->n_stands, 1);
	wait_for_second(f);
}

static void test_doubt_is_told_once_and_ends(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step steps[] = {
		{ RANGE, .status = 503,
		  .body = "{\"error\":\"etcdserver: no leader\",\"code\":14}" },
		{ RANGE, .status = 503 },
		{ RANGE, .body = etcd_range(77, 11, &first) },
	};

	begin(f);
	server_play(f->servers[0], steps, 3);
	server_say(f->servers[0], CHANGED);
	rig_turn_until(f, &f->n_stands, 2);
	assert_false(f->known);
	assert_non_null(strstr(f->err.message, "no leader"));
	/* The same as before the doubt; told, for it ends it. */
	rig_turn_until(f, &f->n_stands, 3);
	assert_true(f->known);
	assert_int_equal(server_left(f->servers[0]), 0);
}

static void test_a_read_asks_the_next_member(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step silent = { RANGE, SERVER_IS_SILENT };
	const struct server_step answers = { RANGE, .body = etcd_range(77, 11, &first) };

	arbiter_free(f->arbiter);
	rig_open(f, 3, NULL);
	server_play(f->servers[0], &silent, 1);
	server_play(f->servers[1], &answers, 1);
	rig_read(f);
	assert_true(f->known);
	/* And stays with it. */
	server_play(f->servers[1], &answers, 1);
	rig_read(f);
	assert_true(f->known);
}

static void test_after_its_end_a_watch_tells_nothing(void **state)
{
	struct arbiter_rig *f = *state;
	uint64_t due;

	begin(f);
	server_say(f->servers[0], CHANGED);
	arbiter_unwatch(f->arbiter);
	due = clock_now(&clock_host) + RIG_SILENCE_MS * NSEC_PER_MSEC * 5 / 4;
	while (clock_now(&clock_host) < due)
		assert_int_equal(loop_turn(f->loop, 50), 0);
	assert_int_equal(f->n_stands, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_change_is_told),
		TEST(test_lines_are_put_together),
		TEST(test_what_did_not_change_is_not_told_again),
		TEST(test_a_stream_that_fails_is_begun_anew),
		TEST(test_a_line_without_end_is_not_kept),
		TEST(test_doubt_is_told_once_and_ends),
		TEST(test_a_read_asks_the_next_member),
		TEST(test_after_its_end_a_watch_tells_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
