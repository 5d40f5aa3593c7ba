/* SPDX-License-Identifier: Apache-2.0 */

/* Held frames: what leaves, when, and in which order. */

#include "net_hold_rig.h"

static void frames_of_an_open_hold_pass_at_once(void **state)
{
	struct side *side = *state;

	hold_open(&side->hold);
	sends(side, 0, 1, 3);
	left(side, 0, 1, 3);
}

static void frames_leave_when_their_epoch_is_acknowledged(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 2);
	hold_cut(&side->hold, 1);
	sends(side, 0, 3, 4);
	turns(side);
	left(side, 0, 1, 0);
	assert_int_equal(hold_released(&side->hold), 0);
	release(side, 1);
	left(side, 0, 1, 2);
	assert_int_equal(hold_released(&side->hold), 1);
	hold_cut(&side->hold, 2);
	turns(side);
	left(side, 0, 1, 2);
	release(side, 2);
	left(side, 0, 1, 4);
	assert_int_equal(hold_released(&side->hold), 2);
}

/* An epoch that has not ended cannot be acknowledged, whatever anybody says. */
static void an_epoch_that_is_not_cut_stays(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 2);
	release(side, 1);
	release(side, UINT64_MAX);
	left(side, 0, 1, 0);
	hold_cut(&side->hold, 1);
	release(side, 1);
	left(side, 0, 1, 2);
}

static void acknowledgements_do_not_go_back(void **state)
{
	struct side *side = *state;

	hold_cut(&side->hold, 7);
	release(side, 7);
	sends(side, 0, 1, 1);
	release(side, 3);
	hold_cut(&side->hold, 8);
	sends(side, 0, 2, 2);
	release(side, 5);
	assert_int_equal(hold_released(&side->hold), 7);
	left(side, 0, 1, 0);
	release(side, 8);
	left(side, 0, 1, 1);
}

static void a_full_queue_refuses_and_tells(void **state)
{
	struct side *side = *state;
	uint64_t n = 0;
	int r = 0;

	while (n < SEEN_MAX && (r = send_frame(side, 0, n + 1)) == 0)
		n++;
	assert_int_equal(r, -EAGAIN);
	assert_int_equal(n, SIZE / (LEN + EPOCH_ITEM_OVERHEAD));
	turns(side);
	assert_int_equal(side->probes[0].writable, 0);
	left(side, 0, 1, 0);
	assert_int_equal(send_frame(side, 0, n + 1), -EAGAIN);
	sends(side, 1, 1, 5); /* the other queue has room of its own */
	hold_cut(&side->hold, 1);
	release(side, 1);
	assert_int_equal(side->probes[0].writable, 1);
	assert_int_equal(side->probes[1].writable, 0);
	left(side, 0, 1, n);
	sends(side, 0, n + 1, n + 1);
	hold_cut(&side->hold, 2);
	release(side, 2);
	left(side, 0, 1, n + 1);
}

static void a_full_back_end_is_waited_for(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 4);
	hold_cut(&side->hold, 1);
	sends(side, 0, 5, 5);
	side->sink.queues[0].room = 2;
	release(side, 1);
	left(side, 0, 1, 2);
	/* Partly gone is not gone. */
	assert_int_equal(hold_released(&side->hold), 0);
	hold_cut(&side->hold, 2);
	release(side, 2);
	left(side, 0, 1, 2);
	net_sink_room(&side->sink, 0, 1);
	left(side, 0, 1, 3);
	net_sink_room(&side->sink, 0, UINT_MAX);
	left(side, 0, 1, 5);
	assert_int_equal(hold_released(&side->hold), 2);
}

static void a_full_back_end_shows_through_when_open(void **state)
{
	struct side *side = *state;

	hold_open(&side->hold);
	turns(side);
	side->sink.queues[0].room = 1;
	sends(side, 0, 1, 1);
	assert_int_equal(send_frame(side, 0, 2), -EAGAIN);
	turns(side);
	assert_int_equal(side->probes[0].writable, 0);
	net_sink_room(&side->sink, 0, 5);
	assert_int_equal(side->probes[0].writable, 1);
	sends(side, 0, 2, 3);
	left(side, 0, 1, 3);
}

static void what_is_sent_after_the_opening_comes_last(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 3);
	hold_cut(&side->hold, 1);
	sends(side, 0, 4, 4);
	side->sink.queues[0].room = 1;
	hold_open(&side->hold);
	sends(side, 0, 5, 5); /* before the queue's thread has seen it */
	turns(side);
	left(side, 0, 1, 1);
	sends(side, 0, 6, 6);
	net_sink_room(&side->sink, 0, UINT_MAX);
	sends(side, 0, 7, 7);
	left(side, 0, 1, 7);
}

static void a_hold_that_shuts_again_holds_what_is_left(void **state)
{
	struct side *side = *state;

	side->sink.queues[0].room = 1;
	sends(side, 0, 1, 3);
	hold_open(&side->hold);
	turns(side);
	hold_shut(&side->hold);
	sends(side, 0, 4, 4);
	net_sink_room(&side->sink, 0, UINT_MAX);
	turns(side);
	left(side, 0, 1, 1);
	hold_cut(&side->hold, 1);
	release(side, 1);
	left(side, 0, 1, 4);
}

/* The process stood still between an acknowledgement and what it allows: another may own the VM by now. */
static void frames_that_waited_too_long_for_their_turn_are_dropped(void **state)
{
	struct side *side = *state;
	struct hold_counts counts;

	sends(side, 0, 1, 2);
	hold_cut(&side->hold, 1);
	sends(side, 0, 3, 3);
	hold_cut(&side->hold, 2);
	hold_release(&side->hold, 1, clock_now(&side->clock.clock));
	fake_clock_advance(&side->clock, 700 * NSEC_PER_MSEC);
	hold_release(&side->hold, 2, clock_now(&side->clock.clock));
	fake_clock_advance(&side->clock, 301 * NSEC_PER_MSEC);
	turns(side);
	left(side, 0, 3, 3);
	net_hold_count(side->net, &counts);
	assert_int_equal(counts.aged, 2);
	assert_int_equal(counts.items, 0);
	assert_int_equal(hold_released(&side->hold), 2);
}

/* What waited long for its acknowledgement is not old. */
static void frames_may_wait_long_for_an_acknowledgement(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 2);
	hold_cut(&side->hold, 1);
	fake_clock_advance(&side->clock, 60 * NSEC_PER_SEC);
	hold_release(&side->hold, 1, clock_now(&side->clock.clock));
	fake_clock_advance(&side->clock, 900 * NSEC_PER_MSEC);
	turns(side);
	left(side, 0, 1, 2);
}

/* More acknowledgements than are remembered: none counts as younger than it is. */
static void many_acknowledgements_do_not_make_old_frames_young(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 1);
	hold_cut(&side->hold, 1);
	hold_release(&side->hold, 1, clock_now(&side->clock.clock));
	for (uint64_t epoch = 2; epoch <= 2000; epoch++) {
		fake_clock_advance(&side->clock, NSEC_PER_MSEC);
		if (epoch == 1500)
			sends(side, 0, 2, 2);
		hold_cut(&side->hold, epoch);
		hold_release(&side->hold, epoch, clock_now(&side->clock.clock));
	}
	turns(side);
	left(side, 0, 2, 2);
}

static void an_owner_that_opens_drops_nothing(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 2);
	hold_cut(&side->hold, 1);
	hold_release(&side->hold, 1, clock_now(&side->clock.clock));
	hold_open(&side->hold);
	fake_clock_advance(&side->clock, 10 * NSEC_PER_SEC);
	turns(side);
	left(side, 0, 1, 2);
}

static void an_error_of_the_back_end_loses_a_frame_as_on_a_wire(void **state)
{
	struct side *side = *state;
	struct hold_counts counts;

	sends(side, 0, 1, 2);
	hold_cut(&side->hold, 1);
	side->sink.queues[0].error = -EIO;
	release(side, 1);
	net_hold_count(side->net, &counts);
	assert_int_equal(counts.lost, 2);
	assert_int_equal(counts.left, 0);
	assert_int_equal(hold_released(&side->hold), 1);
}

static void what_all_queues_released_is_released(void **state)
{
	struct side *side = *state;

	sends(side, 0, 1, 2);
	sends(side, 1, 11, 12);
	hold_cut(&side->hold, 1);
	sends(side, 1, 13, 13);
	hold_cut(&side->hold, 2);
	side->sink.queues[1].room = 2;
	release(side, 2);
	left(side, 0, 1, 2);
	left(side, 1, 11, 12);
	assert_int_equal(hold_released(&side->hold), 1);
	net_sink_room(&side->sink, 1, 1);
	assert_int_equal(hold_released(&side->hold), 2);
}

static void a_queue_out_of_use_still_sends_what_it_held(void **state)
{
	struct side *side = *state;
	const struct sink_queue *below = &side->sink.queues[1];

	sends(side, 1, 1, 2);
	assert_int_equal(net_queue_set_active(side->probes[1].queue, false), 0);
	assert_false(below->active);
	hold_cut(&side->hold, 1);
	release(side, 1);
	left(side, 1, 1, 2);
	assert_false(below->active);
	assert_int_equal(below->changes, 3);
	assert_int_equal(net_queue_set_active(side->probes[1].queue, true), 0);
	sends(side, 1, 3, 3);
	hold_cut(&side->hold, 2);
	release(side, 2);
	left(side, 1, 1, 3);
	assert_true(below->active);
}

/* A back end that was taken out of use forgets that it should tell when it has room. */
static void a_queue_out_of_use_goes_on_where_it_was_stuck(void **state)
{
	struct side *side = *state;

	sends(side, 1, 1, 3);
	hold_cut(&side->hold, 1);
	side->sink.queues[1].room = 1;
	release(side, 1);
	left(side, 1, 1, 1);
	assert_int_equal(net_queue_set_active(side->probes[1].queue, false), 0);
	turns(side);
	net_sink_room(&side->sink, 1, 1);
	left(side, 1, 1, 2);
	assert_true(side->sink.queues[1].active); /* for the last one */
	assert_int_equal(net_queue_set_active(side->probes[1].queue, true), 0);
	net_sink_room(&side->sink, 1, UINT_MAX);
	left(side, 1, 1, 3);
	assert_true(side->sink.queues[1].active);
}

static void what_is_dropped_makes_room(void **state)
{
	struct side *side = *state;
	uint64_t n = 0;

	while (n < SEEN_MAX && send_frame(side, 0, n + 1) == 0)
		n++;
	hold_drop_all(&side->hold);
	turns(side);
	assert_int_equal(side->probes[0].writable, 1);
	hold_cut(&side->hold, 1);
	release(side, 1);
	left(side, 0, 1, 0);
}

static void frames_of_all_lengths_fit_round_the_ring(void **state)
{
	struct side *side = *state;
	uint64_t number = 1;

	for (uint64_t epoch = 1; epoch <= 60; epoch++) {
		for (unsigned int i = 0; i < 5; i++, number++) {
			size_t len = number % 17 ? SINK_FRAME_MIN + number * 37 % 9000
						 : NET_FRAME_MAX;

			assert_int_equal(send_len(side, 0, number, len), 0);
		}
		hold_cut(&side->hold, epoch);
		if (epoch > 2)
			release(side, epoch - 2);
	}
	release(side, 60);
	left(side, 0, 1, number - 1);
	assert_int_equal(send_len(side, 0, number, NET_HEADER_SIZE - 1 + 12), 0);
}

static void counts_tell_how_much_and_how_long(void **state)
{
	struct side *side = *state;
	struct hold_counts counts;

	sends(side, 0, 1, 90);
	sends(side, 1, 1, 10);
	hold_cut(&side->hold, 1);
	net_hold_count(side->net, &counts);
	assert_int_equal(counts.items, 100);
	assert_int_equal(counts.bytes, 100 * LEN);
	assert_int_equal(counts.first_epoch, 1);
	assert_int_equal(counts.first_at_ns, 1000 * NSEC_PER_SEC);
	assert_int_equal(hold_counts_time(&counts, 500), 0);
	side->sink.queues[1].room = 0;
	fake_clock_advance(&side->clock, 20 * NSEC_PER_MSEC);
	release(side, 1);
	fake_clock_advance(&side->clock, 80 * NSEC_PER_MSEC);
	net_sink_room(&side->sink, 1, UINT_MAX);
	net_hold_count(side->net, &counts);
	assert_int_equal(counts.items, 0);
	assert_int_equal(counts.first_epoch, UINT64_MAX);
	assert_int_equal(counts.left, 100);
	assert_in_range(hold_counts_time(&counts, 500), 20 * NSEC_PER_MSEC, 25 * NSEC_PER_MSEC);
	assert_in_range(hold_counts_time(&counts, 990), 100 * NSEC_PER_MSEC, 125 * NSEC_PER_MSEC);
}

static void sizes_have_limits(void **state)
{
	struct side *side = *state;
	struct net *net;

	assert_int_equal(net_hold_new(&side->hold, NET_FRAME_MAX, side->net, &net), -EINVAL);
	assert_int_equal(net_hold_new(&side->hold, LIMIT_NET_HOLD + 1, side->net, &net), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HELD(frames_of_an_open_hold_pass_at_once),
		HELD(frames_leave_when_their_epoch_is_acknowledged),
		HELD(an_epoch_that_is_not_cut_stays),
		HELD(acknowledgements_do_not_go_back),
		HELD(a_full_queue_refuses_and_tells),
		HELD(a_full_back_end_is_waited_for),
		HELD(a_full_back_end_shows_through_when_open),
		HELD(what_is_sent_after_the_opening_comes_last),
		HELD(a_hold_that_shuts_again_holds_what_is_left),
		HELD(frames_that_waited_too_long_for_their_turn_are_dropped),
		HELD(frames_may_wait_long_for_an_acknowledgement),
		HELD(many_acknowledgements_do_not_make_old_frames_young),
		HELD(an_owner_that_opens_drops_nothing),
		HELD(an_error_of_the_back_end_loses_a_frame_as_on_a_wire),
		HELD(what_all_queues_released_is_released),
		HELD(a_queue_out_of_use_still_sends_what_it_held),
		HELD(a_queue_out_of_use_goes_on_where_it_was_stuck),
		HELD(what_is_dropped_makes_room),
		HELD(frames_of_all_lengths_fit_round_the_ring),
		HELD(counts_tell_how_much_and_how_long),
		HELD(sizes_have_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
