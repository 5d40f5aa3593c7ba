/* SPDX-License-Identifier: Apache-2.0 */
#include "net_probe.h"

#include <errno.h>

#include "base/limits.h"
#include "net/filters/filter.h"
#include "net/pair.h"

struct fixture {
	struct fake_clock clock;
	struct net *a, *b; /* a: what filters stand on */
	struct probe pa, pb;
};

static int setup(void **state)
{
	static const struct net_pair_params params = { .queue_pairs = 1 };
	struct fixture *f = calloc(1, sizeof(*f));

	fake_clock_init(&f->clock, 1000, 0);
	assert_int_equal(net_pair_new(&params, &f->a, &f->b), 0);
	probe_open(&f->pb, f->b, 0, &clock_host);
	*state = f;
	return 0;
}

static void stand(struct fixture *f, const char *spec)
{
	struct error err = { 0 };

	assert_int_equal(net_filter_stack(spec, f->a, &f->a, &err), 0);
	probe_open(&f->pa, f->a, 0, &f->clock.clock);
	net_want_readable(f->pa.queue, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->pa.loop)
		probe_close(&f->pa);
	net_free(f->a);
	probe_close(&f->pb);
	net_free(f->b);
	free(f);
	return 0;
}

static void delayed_frames_leave_when_due(void **state)
{
	struct fixture *f = *state;
	uint8_t fill = 0;

	stand(f, "delay:ms=20,direction=out");
	assert_int_equal(probe_send(&f->pa, 7, 100), 0);
	fake_clock_advance(&f->clock, 19 * NSEC_PER_MSEC);
	probe_turn(&f->pa, 0);
	assert_int_equal(probe_receive(&f->pb, &fill), 0);
	fake_clock_advance(&f->clock, NSEC_PER_MSEC);
	probe_turn(&f->pa, 0);
	assert_int_equal(probe_receive(&f->pb, &fill), 100);
	assert_int_equal(fill, 7);
}

static void delayed_frames_arrive_when_due(void **state)
{
	struct fixture *f = *state;
	uint8_t fill = 0;

	stand(f, "delay:us=500,direction=in");
	assert_int_equal(probe_send(&f->pb, 8, 100), 0);
	probe_turn(&f->pa, 0);
	assert_int_equal(f->pa.readable, 0);
	assert_int_equal(probe_receive(&f->pa, &fill), 0);
	fake_clock_advance(&f->clock, 500 * NSEC_PER_USEC);
	probe_turn(&f->pa, 0);
	assert_int_equal(f->pa.readable, 1);
	assert_int_equal(probe_receive(&f->pa, &fill), 100);
	assert_int_equal(fill, 8);
	assert_int_equal(probe_receive(&f->pa, &fill), 0);
}

static void delay_is_bounded_and_resumes(void **state)
{
	struct fixture *f = *state;
	unsigned int arrived = 0;
	uint8_t fill;

	stand(f, "delay:ms=1");
	for (unsigned int i = 0; i < LIMIT_NET_HELD; i++)
		assert_int_equal(probe_send(&f->pa, (uint8_t)i, 64), 0);
	assert_int_equal(probe_send(&f->pa, 1, 64), -EAGAIN);
	fake_clock_advance(&f->clock, NSEC_PER_MSEC);
	for (unsigned int turns = 0; turns < 100 && arrived < LIMIT_NET_HELD; turns++) {
		probe_turn(&f->pa, 0);
		while (probe_receive(&f->pb, &fill) > 0)
			assert_int_equal(fill, (uint8_t)arrived++);
	}
	assert_int_equal(arrived, LIMIT_NET_HELD);
	assert_int_equal(f->pa.writable, 1);
	assert_int_equal(probe_send(&f->pa, 1, 64), 0);
}

static unsigned int count_through(struct fixture *f, unsigned int n)
{
	unsigned int arrived = 0;
	uint8_t fill;

	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(probe_send(&f->pa, 1, 64), 0);
		arrived += probe_receive(&f->pb, &fill) > 0;
	}
	return arrived;
}

static void every_nth_frame_is_lost(void **state)
{
	struct fixture *f = *state;
	uint8_t fill;

	stand(f, "drop:nth=3");
	assert_int_equal(count_through(f, 30), 20);
	for (unsigned int i = 1; i <= 3; i++)
		assert_int_equal(probe_send(&f->pb, (uint8_t)i, 64), 0);
	assert_int_equal(probe_receive(&f->pa, &fill), 64);
	assert_int_equal(probe_receive(&f->pa, &fill), 64);
	assert_int_equal(probe_receive(&f->pa, &fill), 0);
}

static void chance_follows_the_seed(void **state)
{
	struct fixture *f = *state;
	unsigned int first;

	stand(f, "drop:per_million=250000,seed=5,direction=out");
	first = count_through(f, 1000);
	assert_in_range(first, 700, 800);
	probe_close(&f->pa);
	probe_open(&f->pa, f->a, 0, &f->clock.clock);
	assert_int_equal(count_through(f, 1000), first);
}

/* A sender of frames that are all lost must not hold the thread. */
static void losing_all_gives_others_their_turn(void **state)
{
	struct fixture *f = *state;
	uint8_t fill;

	stand(f, "drop:nth=1,direction=in");
	for (unsigned int i = 0; i < NET_PAIR_FRAMES; i++)
		assert_int_equal(probe_send(&f->pb, 1, 64), 0);
	assert_int_equal(probe_receive(&f->pa, &fill), 0);
	probe_turn(&f->pa, 0);
	assert_true(f->pa.readable > 0);
}

struct seen {
	unsigned int frames[2];
	size_t bytes[2];
};

static void count_seen(void *ctx, unsigned int queue, enum net_direction direction,
		       const struct iovec *iov, unsigned int n_iov, size_t len)
{
	struct seen *seen = ctx;

	assert_int_equal(queue, 0);
	assert_non_null(iov);
	assert_true(n_iov > 0);
	seen->frames[direction]++;
	seen->bytes[direction] += len;
}

static void record_sees_both_ways(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { 0 };
	struct net_record_params params = { count_seen, &seen };
	uint8_t fill;

	assert_int_equal(net_record_new(&params, f->a, &f->a), 0);
	stand(f, "drop:nth=2,direction=out");
	assert_int_equal(count_through(f, 4), 2);
	assert_int_equal(probe_send(&f->pb, 1, 500), 0);
	assert_int_equal(probe_receive(&f->pa, &fill), 500);
	assert_int_equal(seen.frames[NET_OUT], 2);
	assert_int_equal(seen.bytes[NET_OUT], 128);
	assert_int_equal(seen.frames[NET_IN], 1);
	assert_int_equal(seen.bytes[NET_IN], 500);
}

static void stack_refuses(const char *spec, const char *word)
{
	static const struct net_pair_params params = { .queue_pairs = 1 };
	struct net *a, *b, *top = NULL;
	struct error err = { 0 };

	assert_int_equal(net_pair_new(&params, &a, &b), 0);
	assert_true(net_filter_stack(spec, a, &top, &err) < 0);
	assert_null(top);
	assert_int_equal(err.status, EXIT_STATUS_USAGE);
	assert_non_null(strstr(err.message, word));
	net_free(a);
	net_free(b);
}

static void bad_text_is_refused_by_name(void **state)
{
	(void)state;
	stack_refuses("", "no such filter");
	stack_refuses("slow:ms=1", "'slow'");
	stack_refuses("delay", "needs ms");
	stack_refuses("delay:ms", "KEY=VALUE");
	stack_refuses("delay:ms=-1", "'-1'");
	stack_refuses("delay:ms=60001", "out of range");
	stack_refuses("delay:hours=1", "'hours'");
	stack_refuses("drop:seed=4", "needs nth");
	stack_refuses("drop:nth=1,direction=up", "'up'");
	stack_refuses("drop:nth=1+drop:nth=1+drop:nth=1+drop:nth=1+drop:nth=1+drop:nth=1+"
		      "drop:nth=1+drop:nth=1+drop:nth=1",
		      "more than 8");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(delayed_frames_leave_when_due, setup, teardown),
		cmocka_unit_test_setup_teardown(delayed_frames_arrive_when_due, setup, teardown),
		cmocka_unit_test_setup_teardown(delay_is_bounded_and_resumes, setup, teardown),
		cmocka_unit_test_setup_teardown(every_nth_frame_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(chance_follows_the_seed, setup, teardown),
		cmocka_unit_test_setup_teardown(losing_all_gives_others_their_turn, setup,
						teardown),
		cmocka_unit_test_setup_teardown(record_sees_both_ways, setup, teardown),
		cmocka_unit_test(bad_text_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
