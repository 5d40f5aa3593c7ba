/* SPDX-License-Identifier: Apache-2.0 */
#include "net_probe.h"

#include <errno.h>

#include "net/iov.h"
#include "net/pair.h"

struct fixture {
	struct net *a, *b;
	struct probe pa, pb;
};

static int setup(void **state)
{
	static const struct net_pair_params params = { .queue_pairs = 2,
						       .offloads = NET_OFFLOAD_CSUM };
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(net_pair_new(&params, &f->a, &f->b), 0);
	probe_open(&f->pa, f->a, 0, &clock_host);
	probe_open(&f->pb, f->b, 0, &clock_host);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->a) {
		probe_close(&f->pa);
		net_free(f->a);
	}
	probe_close(&f->pb);
	net_free(f->b);
	free(f);
	return 0;
}

static void frames_arrive_in_order(void **state)
{
	struct fixture *f = *state;
	uint8_t fill = 0;

	assert_int_equal(probe_receive(&f->pb, &fill), 0);
	assert_int_equal(probe_send(&f->pa, 1, 100), 0);
	assert_int_equal(probe_send(&f->pa, 2, 65000), 0);
	assert_int_equal(probe_receive(&f->pb, &fill), 100);
	assert_int_equal(fill, 1);
	assert_int_equal(probe_receive(&f->pb, &fill), 65000);
	assert_int_equal(fill, 2);
	assert_int_equal(probe_receive(&f->pb, &fill), 0);
}

static void readable_is_told_only_when_wanted(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(probe_send(&f->pa, 1, 100), 0);
	probe_turn(&f->pb, 0);
	assert_int_equal(f->pb.readable, 0);
	net_want_readable(f->pb.queue, true);
	probe_turn(&f->pb, 1000);
	assert_int_equal(f->pb.readable, 1);
}

static void full_lane_says_again_then_writable(void **state)
{
	struct fixture *f = *state;
	uint8_t fill;

	for (unsigned int i = 0; i < NET_PAIR_FRAMES; i++)
		assert_int_equal(probe_send(&f->pa, 1, 100), 0);
	assert_int_equal(probe_send(&f->pa, 1, 100), -EAGAIN);
	assert_int_equal(probe_receive(&f->pb, &fill), 100);
	probe_turn(&f->pa, 1000);
	assert_int_equal(f->pa.writable, 1);
	assert_int_equal(probe_send(&f->pa, 1, 100), 0);
}

static void inactive_queue_gets_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t fill;

	assert_int_equal(probe_send(&f->pa, 1, 100), 0);
	assert_int_equal(net_queue_set_active(f->pb.queue, false), 0);
	assert_int_equal(probe_send(&f->pa, 1, 100), 0);
	assert_int_equal(net_queue_set_active(f->pb.queue, true), 0);
	assert_int_equal(probe_receive(&f->pb, &fill), 0);
}

static void freed_end_is_gone_for_the_other(void **state)
{
	struct fixture *f = *state;

	net_want_readable(f->pb.queue, true);
	probe_turn(&f->pb, 1000);
	probe_close(&f->pa);
	net_free(f->a);
	f->a = NULL;
	probe_turn(&f->pb, 1000);
	assert_int_equal(f->pb.gone, -EPIPE);
	assert_int_equal(probe_send(&f->pb, 1, 100), -EPIPE);
}

static void unknown_offload_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->a->ops->set_offloads(f->a, NET_OFFLOAD_TSO4), -EOPNOTSUPP);
	assert_int_equal(f->a->ops->set_offloads(f->a, NET_OFFLOAD_CSUM), 0);
	assert_int_equal(net_pair_offloads(f->a), NET_OFFLOAD_CSUM);
	assert_int_equal(net_pair_offloads(f->b), 0);
}

static void skipping_cuts_buffers(void **state)
{
	char bytes[] = "abcdefgh";
	struct iovec iov[3] = { { bytes, 2 }, { bytes + 2, 0 }, { bytes + 2, 6 } }, out[3];

	(void)state;
	assert_int_equal(net_iov_skip(iov, 3, 3, out), 1);
	assert_int_equal(out[0].iov_len, 5);
	assert_memory_equal(out[0].iov_base, "defgh", 5);
	assert_int_equal(net_iov_skip(iov, 3, 8, out), 0);
	assert_int_equal(net_iov_skip(iov, 3, 1, out), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(frames_arrive_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(readable_is_told_only_when_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(full_lane_says_again_then_writable, setup,
						teardown),
		cmocka_unit_test_setup_teardown(inactive_queue_gets_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(freed_end_is_gone_for_the_other, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_offload_is_refused, setup, teardown),
		cmocka_unit_test(skipping_cuts_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
