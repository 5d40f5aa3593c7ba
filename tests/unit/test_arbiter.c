/* SPDX-License-Identifier: Apache-2.0 */

/* What becomes of a swap and of a read, whatever the other end does: a scripted server on the test's own loop. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter_rig.h"
#include "check.h"

static const struct ownership_record mine = {
	.generation = 4, .revision = 10, .mode = OWNERSHIP_SOLO, .owner = { { 1, 2, 3 } }
};
static const struct ownership_record theirs = { .generation = 4,
						.revision = 12,
						.mode = OWNERSHIP_CLAIMED,
						.owner = { { 7 } },
						.from = { { 1, 2, 3 } } };

static void swap_is(struct arbiter_rig *f, const struct server_step *step,
		    enum arbiter_outcome outcome)
{
	server_play(f->servers[0], step, 1);
	rig_swap(f, &mine);
	if (f->swapped.outcome != outcome)
		fail_msg("%s: %s", arbiter_outcome_name(f->swapped.outcome),
			 f->swapped.why.message);
	if (outcome == ARBITER_UNKNOWN)
		assert_true(f->swapped.why.code < 0 && f->swapped.why.message[0]);
}

/* ---- swaps ---- */

static void test_a_swap_wins(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { TXN, .body = etcd_won(77, 15),
					  .asks = "\"mod_revision\":\"10\"" };

	assert_int_equal(arbiter_swap(f->arbiter, &mine), 0);
	assert_int_equal(arbiter_swap(f->arbiter, &mine), -EBUSY);
	server_play(f->servers[0], &step, 1);
	rig_turn_until(f, &f->n_swapped, 1);
	assert_int_equal(f->swapped.outcome, ARBITER_WON);
	assert_int_equal(f->swapped.record.revision, 15);
	assert_int_equal(f->swapped.record.generation, 4);
	assert_memory_equal(&f->swapped.record.owner, &mine.owner, sizeof(mine.owner));
}

static void test_a_swap_loses_to_what_stands_there(void **state)
{
	struct arbiter_rig *f = *state;
	/* "succeeded" is absent: proto3 leaves out what is false. */
	const struct server_step step = { TXN, .body = etcd_lost(13, &theirs) };

	swap_is(f, &step, ARBITER_LOST);
	assert_memory_equal(&f->swapped.record, &theirs, sizeof(theirs));
}

static void test_a_swap_loses_where_nothing_stands(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { TXN, .body = etcd_lost(13, NULL) };

	swap_is(f, &step, ARBITER_LOST);
	assert_int_equal(f->swapped.record.revision, 0);
	assert_int_equal(f->swapped.record.mode, OWNERSHIP_NONE);
}

static void test_what_is_not_certain_is_unknown(void **state)
{
	static const struct server_step steps[] = {
		{ TXN, SERVER_CLOSES },
		{ TXN, SERVER_IS_SILENT },
		{ TXN, SERVER_BABBLES },
		{ TXN, SERVER_BOASTS },
		{ TXN, SERVER_MAKES_NOISE },
		{ TXN, .body = "" },
		{ TXN, .body = "{\"succeeded\":true" },
		{ TXN, .body = "[]" },
		{ TXN, .body = "{\"succeeded\":true}" },
		{ TXN, .status = 503,
		  .body = "{\"error\":\"etcdserver: leader changed\",\"code\":14}" },
		{ TXN, .status = 504,
		  .body = "{\"error\":\"etcdserver: request timed out\",\"code\":4}" },
		{ TXN, .status = 404, .body = "Not Found" },
		{ TXN, .status = 301, .body = "" },
		{ TXN, .status = 500 },
		/* Whoever asks without a user is told so; nothing was done, but it is no outcome. */
		{ TXN, .status = 401,
		  .body = "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}" },
	};
	struct arbiter_rig *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		swap_is(f, &steps[i], ARBITER_UNKNOWN);
		assert_int_equal(f->swapped.may_land, i != ARRAY_SIZE(steps) - 1);
	}
}

static void test_an_answer_that_is_cut_is_unknown(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { TXN, SERVER_CUTS, .body = etcd_won(77, 15) };

	swap_is(f, &step, ARBITER_UNKNOWN);
	assert_true(f->swapped.may_land);
}

static void test_an_answer_that_contradicts_is_unknown(void **state)
{
	struct arbiter_rig *f = *state;
	const struct ownership_record same = {
		.generation = 3, .revision = 10, .mode = OWNERSHIP_SOLO, .owner = { { 9 } }
	};
	/* It won, below what it was compared with; it lost, to just that. */
	const struct server_step before = { TXN, .body = etcd_won(77, 10) };
	const struct server_step equal = { TXN, .body = etcd_lost(13, &same) };

	swap_is(f, &before, ARBITER_UNKNOWN);
	swap_is(f, &equal, ARBITER_UNKNOWN);
}

static void test_where_nobody_listens_nothing_lands(void **state)
{
	struct arbiter_rig *f = *state;

	arbiter_free(f->arbiter);
	f->endpoints[0] = f->endpoints[1] = f->endpoints[2];
	rig_open(f, 3, NULL);
	rig_swap(f, &mine);
	assert_int_equal(f->swapped.outcome, ARBITER_UNKNOWN);
	assert_false(f->swapped.may_land);
	assert_int_equal(f->swapped.why.code, -ECONNREFUSED);
	assert_non_null(strstr(f->swapped.why.message, f->urls[2]));
}

static void test_the_next_is_asked_where_nothing_was_sent(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { TXN, .body = etcd_won(77, 15) };

	arbiter_free(f->arbiter);
	f->endpoints[1] = f->endpoints[0];
	f->endpoints[0] = f->endpoints[2];
	rig_open(f, 2, NULL);
	swap_is(f, &step, ARBITER_WON);
}

/* What the first did with it nobody knows: to ask the second would tell of another swap. */
static void test_nobody_else_is_asked_after_it_was_sent(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { TXN, SERVER_CLOSES };

	arbiter_free(f->arbiter);
	rig_open(f, 2, NULL);
	swap_is(f, &step, ARBITER_UNKNOWN);
	assert_true(f->swapped.may_land);
}

/* libcurl itself would ask again, if it had kept the first one's connection. */
static void test_a_swap_is_not_repeated_unseen(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step steps[] = {
		{ TXN, .body = etcd_lost(13, NULL) },
		{ TXN, SERVER_CLOSES },
	};

	swap_is(f, &steps[0], ARBITER_LOST);
	swap_is(f, &steps[1], ARBITER_UNKNOWN);
	assert_true(f->swapped.may_land);
}

static void test_records_that_may_not_stand_there_are_not_asked(void **state)
{
	struct arbiter_rig *f = *state;
	struct ownership_record want = mine;

	want.generation = 0;
	assert_int_equal(arbiter_swap(f->arbiter, &want), -EINVAL);
}

/* ---- tokens ---- */

static void test_a_token_is_fetched_and_kept(void **state)
{
	struct arbiter_rig *f = *state;
	const struct ownership_record second = {
		.generation = 5, .revision = 15, .mode = OWNERSHIP_SOLO, .owner = { { 1, 2, 3 } }
	};
	const struct server_step steps[] = {
		{ LOGIN, .body = "{\"token\":\"abc.1\"}", .asks = "\"password\":\"secret\"" },
		{ TXN, .body = etcd_won(77, 15), .token = "abc.1" },
	};
	const struct server_step more = { TXN, .body = etcd_won(77, 16), .token = "abc.1" };

	arbiter_free(f->arbiter);
	rig_open(f, 1, "vm");
	server_play(f->servers[0], steps, 2);
	rig_swap(f, &mine);
	assert_int_equal(f->swapped.outcome, ARBITER_WON);
	server_play(f->servers[0], &more, 1);
	rig_swap(f, &second);
	assert_int_equal(f->swapped.outcome, ARBITER_WON);
}

static void test_a_token_that_ended_is_renewed_once(void **state)
{
	static const char ended[] = "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}";
	static const char old[] =
		"{\"error\":\"etcdserver: revision of auth store is old\",\"code\":3}";
	struct arbiter_rig *f = *state;
	const struct server_step steps[] = {
		{ LOGIN, .body = "{\"token\":\"abc.1\"}" },
		{ RANGE, .body = etcd_range(77, 10, NULL), .token = "abc.1" },
	};
	const struct server_step renewed[] = {
		{ RANGE, .status = 401, .body = ended, .token = "abc.1" },
		{ LOGIN, .body = "{\"token\":\"abc.2\"}" },
		{ RANGE, .body = etcd_range(77, 10, NULL), .token = "abc.2" },
	};
	const struct server_step in_vain[] = {
		{ TXN, .status = 400, .body = old, .token = "abc.2" },
		{ LOGIN, .body = "{\"token\":\"abc.3\"}" },
		{ TXN, .status = 401, .body = ended, .token = "abc.3" },
	};

	arbiter_free(f->arbiter);
	rig_open(f, 1, "vm");
	server_play(f->servers[0], steps, 2);
	rig_read(f);
	server_play(f->servers[0], renewed, 3);
	rig_read(f);
	assert_true(f->known);
	server_play(f->servers[0], in_vain, 3);
	rig_swap(f, &mine);
	assert_int_equal(f->swapped.outcome, ARBITER_UNKNOWN);
	assert_false(f->swapped.may_land);
}

static void test_bad_tokens_are_not_sent(void **state)
{
	static const char *const bodies[] = {
		"{\"token\":\"a\\r\\nHost: other\"}", "{\"token\":\"\"}", "{}", "{\"token\":7}",
		"{\"token\":\"two words\"}",
	};
	struct arbiter_rig *f = *state;

	arbiter_free(f->arbiter);
	rig_open(f, 1, "vm");
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		const struct server_step step = { LOGIN, .body = bodies[i] };

		swap_is(f, &step, ARBITER_UNKNOWN);
		assert_false(f->swapped.may_land);
	}
}

static void test_who_may_not_is_told(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = {
		TXN, .status = 403,
		.body = "{\"error\":\"etcdserver: permission denied\",\"code\":7}"
	};

	swap_is(f, &step, ARBITER_UNKNOWN);
	assert_false(f->swapped.may_land);
	assert_non_null(strstr(f->swapped.why.message, "permission denied"));
}

/* ---- what was seen before ---- */

static void test_another_cluster_is_refused(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step first = { RANGE, .body = etcd_range(77, 20, &theirs) };
	const struct server_step other = { RANGE, .body = etcd_range(78, 30, &theirs) };
	const struct server_step swapped = { TXN, .body = etcd_won(78, 31) };

	server_play(f->servers[0], &first, 1);
	rig_read(f);
	assert_true(f->known);
	rig_reopen(f); /* it is kept over a restart */
	server_play(f->servers[0], &other, 1);
	rig_read(f);
	assert_false(f->known);
	assert_non_null(strstr(f->err.message, "arbiter/" UUID));
	swap_is(f, &swapped, ARBITER_UNKNOWN);
	assert_true(f->swapped.may_land);
}

static void test_a_store_that_went_back_is_refused(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step first = { RANGE, .body = etcd_range(77, 20, &theirs) };
	const struct server_step back = { RANGE, .body = etcd_range(77, 19, &theirs) };
	const struct server_step swapped = { TXN, .body = etcd_won(77, 13) };

	server_play(f->servers[0], &first, 1);
	rig_read(f);
	rig_reopen(f);
	server_play(f->servers[0], &back, 1);
	rig_read(f);
	assert_false(f->known);
	assert_non_null(strstr(f->err.message, "restored"));
	swap_is(f, &swapped, ARBITER_UNKNOWN);
	server_play(f->servers[0], &first, 1);
	rig_read(f);
	assert_true(f->known);
}

static void test_a_record_that_went_is_refused(void **state)
{
	struct arbiter_rig *f = *state;
	struct ownership_record anew = mine;
	const struct server_step first = { RANGE, .body = etcd_range(77, 20, &theirs) };
	const struct server_step gone = { RANGE, .body = etcd_range(77, 21, NULL) };

	server_play(f->servers[0], &first, 1);
	rig_read(f);
	server_play(f->servers[0], &gone, 1);
	rig_read(f);
	assert_false(f->known);
	assert_non_null(strstr(f->err.message, "does not have this VM's record any more"));
	anew.revision = 0;
	assert_int_equal(arbiter_swap(f->arbiter, &anew), -ESTALE);
}

static void test_an_old_generation_is_refused(void **state)
{
	struct arbiter_rig *f = *state;
	const struct ownership_record older = {
		.generation = 3, .revision = 22, .mode = OWNERSHIP_SOLO, .owner = { { 9 } }
	};
	const struct server_step first = { RANGE, .body = etcd_range(77, 20, &theirs) };
	const struct server_step second = { RANGE, .body = etcd_range(77, 25, &older) };

	server_play(f->servers[0], &first, 1);
	rig_read(f);
	server_play(f->servers[0], &second, 1);
	rig_read(f);
	assert_false(f->known);
	assert_non_null(strstr(f->err.message, "generation 3 after 4"));
}

/* As when the disk is full: whoever acts on what is not noted forgets it with the next restart. */
static void test_what_cannot_be_noted_is_not_acted_on(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = { TXN, .body = etcd_won(77, 15) };

	assert_int_equal(mkdirat(f->state_fd, "arbiter/" UUID, 0700), 0);
	swap_is(f, &step, ARBITER_UNKNOWN);
	assert_non_null(strstr(f->swapped.why.message, "see that it has room"));
	assert_int_equal(unlinkat(f->state_fd, "arbiter/" UUID, AT_REMOVEDIR), 0);
	swap_is(f, &step, ARBITER_WON);
}

static void test_a_damaged_note_is_told(void **state)
{
	struct arbiter_rig *f = *state;
	const struct arbiter_config config = { .endpoints = f->endpoints, .n_endpoints = 1 };
	const struct arbiter_events events = { 0 };
	struct arbiter *arbiter;
	struct error err = { 0 };
	int fd = openat(f->state_fd, "arbiter/" UUID, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, "{\"version\":2}", 13), 13);
	close(fd);
	assert_int_equal(arbiter_open(f->loop, &config, f->state_fd, UUID, &events, &arbiter, &err),
			 -EBADMSG);
	assert_non_null(strstr(err.message, "arbiter/" UUID));
}

static void test_bad_configurations_are_refused(void **state)
{
	static const struct {
		struct arbiter_endpoint endpoint;
		const char *user, *certificate, *why;
	} bad[] = {
		{ { "127.0.0.1:2379" }, .why = "https://HOST:PORT" },
		{ { "ftp://127.0.0.1" }, .why = "https://HOST:PORT" },
		{ { "http://127.0.0.1/v3" }, .why = "https://HOST:PORT" },
		{ { "http://user@127.0.0.1" }, .why = "https://HOST:PORT" },
		{ { "http://127.0.0.1:99999" }, .why = "https://HOST:PORT" },
		{ { "http://etcd.test" }, .why = "a name with its address" },
		{ { "http://etcd.test", "other.test" }, .why = "a name with its address" },
		{ { "https://127.0.0.1" }, .why = "authority" },
		{ { "http://127.0.0.1" }, .user = "vm", .why = "password" },
		{ { "http://127.0.0.1" }, .certificate = "c", .why = "key" },
	};
	struct arbiter_rig *f = *state;
	const struct arbiter_events events = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct arbiter_config config = { .endpoints = &bad[i].endpoint,
						       .n_endpoints = 1,
						       .user = bad[i].user,
						       .certificate = bad[i].certificate };
		struct arbiter *arbiter;
		struct error err = { 0 };

		assert_int_equal(arbiter_open(f->loop, &config, f->state_fd, UUID, &events,
					      &arbiter, &err),
				 -EINVAL);
		if (!strstr(err.message, bad[i].why))
			fail_msg("%zu: %s", i, err.message);
	}
}

/* A read's answer that a swap's overtakes on its way is an old one, not a sign of a restored store. */
static void ask_a_swap(void *ctx)
{
	struct arbiter_rig *f = ctx;

	assert_int_equal(arbiter_swap(f->arbiter, &mine), 0);
}

static void test_answers_may_overtake_each_other(void **state)
{
	struct arbiter_rig *f = *state;
	struct ownership_record before = mine;
	const struct server_step steps[] = {
		{ RANGE, SERVER_STREAMS, .body = "{", .then = ask_a_swap, .ctx = f },
		{ TXN, .body = etcd_won(77, 15) },
	};

	before.generation = 3;
	server_play(f->servers[0], steps, 2);
	assert_int_equal(arbiter_read(f->arbiter), 0);
	rig_turn_until(f, &f->n_swapped, 1);
	assert_int_equal(f->swapped.outcome, ARBITER_WON);
	server_say(f->servers[0], etcd_range(77, 12, &before) + 1);
	server_say(f->servers[0], "");
	rig_turn_until(f, &f->n_stands, 1);
	assert_true(f->known);
	assert_int_equal(f->stands.revision, 10);
}

static void test_a_record_that_cannot_be_read_is_no_outcome(void **state)
{
	struct arbiter_rig *f = *state;
	const struct server_step step = {
		TXN,
		.body = "{\"header\":{\"cluster_id\":\"77\",\"revision\":\"13\"},\"responses\":"
			"[{\"response_range\":{\"kvs\":[{\"key\":"
			"\"L3V0c3VzdS8xL3ZtLzAxMjM0NTY3LTg5YWItY2RlZi0wMTIzLTQ1Njc4OWFiY2RlZg==\","
			"\"mod_revision\":\"12\",\"value\":\"eyJ2ZXJzaW9uIjoyfQ==\"}]}}]}"
	};

	swap_is(f, &step, ARBITER_UNKNOWN);
	assert_non_null(strstr(f->swapped.why.message, "version 2"));
}

/* ---- events ---- */

static void test_outcomes_are_events(void **state _unused_)
{
	static const struct {
		enum arbiter_outcome outcome;
		enum ownership_event_kind kind;
	} pairs[] = { { ARBITER_WON, WHEN_WON },
		      { ARBITER_LOST, WHEN_LOST },
		      { ARBITER_UNKNOWN, WHEN_UNKNOWN } };
	struct ownership_event event;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		const struct arbiter_swapped swapped = { pairs[i].outcome, theirs };

		arbiter_swapped_event(&swapped, &event);
		assert_int_equal(event.kind, pairs[i].kind);
		assert_memory_equal(&event.record, &theirs, sizeof(theirs));
	}
	arbiter_stands_event(&theirs, &event);
	assert_int_equal(event.kind, WHEN_READ);
	assert_memory_equal(&event.record, &theirs, sizeof(theirs));
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_swap_wins),
		TEST(test_a_swap_loses_to_what_stands_there),
		TEST(test_a_swap_loses_where_nothing_stands),
		TEST(test_what_is_not_certain_is_unknown),
		TEST(test_an_answer_that_is_cut_is_unknown),
		TEST(test_an_answer_that_contradicts_is_unknown),
		TEST(test_where_nobody_listens_nothing_lands),
		TEST(test_the_next_is_asked_where_nothing_was_sent),
		TEST(test_nobody_else_is_asked_after_it_was_sent),
		TEST(test_a_swap_is_not_repeated_unseen),
		TEST(test_records_that_may_not_stand_there_are_not_asked),
		TEST(test_a_token_is_fetched_and_kept),
		TEST(test_a_token_that_ended_is_renewed_once),
		TEST(test_bad_tokens_are_not_sent),
		TEST(test_who_may_not_is_told),
		TEST(test_another_cluster_is_refused),
		TEST(test_a_store_that_went_back_is_refused),
		TEST(test_a_record_that_went_is_refused),
		TEST(test_an_old_generation_is_refused),
		TEST(test_what_cannot_be_noted_is_not_acted_on),
		TEST(test_a_damaged_note_is_told),
		TEST(test_bad_configurations_are_refused),
		TEST(test_answers_may_overtake_each_other),
		TEST(test_a_record_that_cannot_be_read_is_no_outcome),
		cmocka_unit_test(test_outcomes_are_events),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
