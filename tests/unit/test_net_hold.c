/* SPDX-License-Identifier: Apache-2.0 */

/* Held frames: a filter over a back end that is full or broken when a test wants it, on a clock of the test's. */

#include "net_probe.h"

#include <errno.h>
#include <limits.h>

#include "base/endian.h"
#include "net/filters/hold.h"
#include "net_sink.h"

#define PAIRS 2
#define SIZE (256 * 1024)
#define LEN 1000 /* of a frame */
#define SEEN_MAX 2048

struct side { /* one owner of the VM */
	struct fake_clock clock;
	struct hold hold;
	struct net_sink sink;
	struct net *net;
	struct probe probes[PAIRS];
	uint64_t seen[PAIRS][SEEN_MAX];
	unsigned int n_seen[PAIRS];
};

static void took(void *ctx, unsigned int queue, const uint8_t *frame, size_t len)
{
	struct side *side = ctx;

	assert_true(side->n_seen[queue] < SEEN_MAX);
	side->seen[queue][side->n_seen[queue]++] = sink_frame_number(frame, len);
}

static void side_open(struct side *side, uint64_t epoch, bool shut)
{
	*side = (struct side){ 0 };
	fake_clock_init(&side->clock, 1000 * NSEC_PER_SEC, 0);
	hold_init(&side->hold, &side->clock.clock, epoch, shut);
	net_sink_init(&side->sink, PAIRS);
	side->sink.took = took;
	side->sink.ctx = side;
	assert_int_equal(net_hold_new(&side->hold, SIZE, &side->sink.net, &side->net), 0);
	for (unsigned int i = 0; i < PAIRS; i++)
		probe_open(&side->probes[i], side->net, i, &side->clock.clock);
}

static void side_close(struct side *side)
{
	for (unsigned int i = 0; i < PAIRS; i++) {
		probe_close(&side->probes[i]);
		assert_false(side->sink.queues[i].opened);
	}
	net_free(side->net);
	assert_true(side->sink.destroyed);
	hold_destroy(&side->hold);
}

static int setup(void **state)
{
	struct side *side = malloc(sizeof(*side));

	side_open(side, 1, true);
	*state = side;
	return 0;
}

static int teardown(void **state)
{
	side_close(*state);
	free(*state);
	return 0;
}

static int send_len(struct side *side, unsigned int queue, uint64_t number, size_t len)
{
	uint8_t frame[NET_FRAME_MAX];
	/* As a device gives it: in pieces, one of them empty. */
	struct iovec iov[3] = { { frame, 12 }, { frame + 12, 0 }, { frame + 12, len - 12 } };

	sink_frame_make(number, frame, len);
	return net_send(side->probes[queue].queue, iov, 3);
}

static int send_frame(struct side *side, unsigned int queue, uint64_t number)
{
	return send_len(side, queue, number, LEN);
}

static void sends(struct side *side, unsigned int queue, uint64_t from, uint64_t to)
{
	for (uint64_t number = from; number <= to; number++)
		assert_int_equal(send_frame(side, queue, number), 0);
}

static void turns(struct side *side)
{
	for (unsigned int n = 0; n < 40; n++)
		for (unsigned int i = 0; i < PAIRS; i++)
			probe_turn(&side->probes[i], 0);
}

static void release(struct side *side, uint64_t epoch)
{
	hold_release(&side->hold, epoch, clock_now(&side->clock.clock));
	turns(side);
}

/* Exactly these have left by the queue so far. */
static void left(const struct side *side, unsigned int queue, uint64_t from, uint64_t to)
{
	assert_int_equal(side->n_seen[queue], to + 1 - from);
	for (uint64_t number = from; number <= to; number++)
		assert_int_equal(side->seen[queue][number - from], number);
}

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

/* ---- failover ---- */

static void export(const struct side *side, uint64_t after, uint64_t up_to, struct buffer *out)
{
	buffer_init(out, net_hold_export_limit(side->net));
	assert_int_equal(net_hold_export(side->net, after, up_to, out), 0);
}

static int try_import(struct side *side, const struct buffer *sections, unsigned int n,
		      struct error *err)
{
	struct iovec iov[8];

	for (unsigned int i = 0; i < n; i++)
		iov[i] = (struct iovec){ sections[i].data, sections[i].len };
	*err = (struct error){ 0 };
	return net_hold_import(side->net, iov, n, err);
}

static void import(struct side *side, struct buffer *sections, unsigned int n)
{
	struct error err = { 0 };

	if (try_import(side, sections, n, &err) < 0)
		fail_msg("%s", err.message);
	for (unsigned int i = 0; i < n; i++)
		buffer_release(&sections[i]);
}

static void what_may_not_have_left_is_replayed_before_anything_newer(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer section;

	sends(old, 0, 1, 2);
	sends(old, 1, 21, 22);
	hold_cut(&old->hold, 1);
	old->sink.queues[0].room = 1;
	release(old, 1);
	sends(old, 0, 3, 4);
	hold_cut(&old->hold, 2);
	sends(old, 0, 5, 6);
	export(old, hold_released(&old->hold), 2, &section);

	side_open(new, 3, true);
	import(new, &section, 1);
	sends(new, 0, 105, 106); /* it runs, held */
	turns(new);
	assert_int_equal(new->n_seen[0], 0);
	release(new, 2);
	left(new, 0, 2, 4);
	left(new, 1, 1, 0); /* had left */
	hold_open(&new->hold);
	turns(new);
	assert_int_equal(new->n_seen[0], 5);
	assert_int_equal(new->seen[0][3], 105);
	assert_int_equal(new->seen[0][4], 106);
	side_close(new);
	free(new);
}

/* Each checkpoint has its own epoch; together they hold more than a queue can. What had left by the last one is not repeated. */
static void sections_follow_each_other(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer sections[4], gap[3];
	struct error err = { 0 };
	uint64_t n = 0;

	old->sink.queues[1].room = 1;
	for (uint64_t epoch = 1; epoch <= 4; epoch++) {
		sends(old, 0, n + 1, n + 100);
		sends(old, 1, n + 1, n + 1);
		n += 100;
		hold_cut(&old->hold, epoch);
		export(old, epoch - 1, epoch, &sections[epoch - 1]);
		release(old, epoch - 1);
	}
	assert_int_equal(hold_released(&old->hold), 1);
	side_open(new, 9, true);
	gap[0] = sections[1];
	gap[1] = sections[3];
	assert_int_equal(try_import(new, gap, 2, &err), -EBADMSG);
	assert_int_equal(try_import(new, &sections[3], 1, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "missing"));
	import(new, sections, 4);
	release(new, 8);
	left(new, 0, 201, 400);
	assert_int_equal(new->n_seen[1], 3);
	assert_int_equal(new->seen[1][0], 101);
	side_close(new);
	free(new);
}

/* Whatever is wrong, nothing of it is taken. */
static void refused(struct side *side, const struct buffer *section, size_t len, const char *word)
{
	const struct buffer first = { .data = section->data, .len = len };
	struct hold_counts counts;
	struct error err = { 0 };

	assert_int_equal(try_import(side, &first, 1, &err), -EBADMSG);
	if (!strstr(err.message, word))
		fail_msg("'%s' does not say '%s'", err.message, word);
	net_hold_count(side->net, &counts);
	assert_int_equal(counts.items, 0);
	assert_int_equal(side->probes[0].writable, 0);
}

static void broken(struct side *side, struct buffer *section, size_t at, uint8_t value,
		   const char *word)
{
	uint8_t was = section->data[at];

	section->data[at] = value;
	refused(side, section, section->len, word);
	section->data[at] = was;
}

static void damaged_sections_are_refused_whole(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer section;
	const size_t item = HOLD_SECTION_HEADER + HOLD_SECTION_LANE;
	const size_t second = item + HOLD_SECTION_ITEM + LEN;

	sends(old, 0, 1, 1);
	hold_cut(&old->hold, 1);
	sends(old, 0, 2, 2);
	sends(old, 1, 3, 3);
	hold_cut(&old->hold, 2);
	export(old, 0, 2, &section);
	side_open(new, 3, true);
	for (size_t len = 0; len < section.len; len++)
		refused(new, &section, len, "damaged");
	broken(new, &section, 0, 'X', "begin");
	broken(new, &section, 4, 2, "version");
	broken(new, &section, 6, 9, "kind");
	broken(new, &section, 8, 3, "kind");
	broken(new, &section, 12, 1, "epoch");
	broken(new, &section, 12, 3, "backwards");
	broken(new, &section, 20, 1, "epoch");
	broken(new, &section, 20, 3, "still to come");
	broken(new, &section, HOLD_SECTION_HEADER, 1, "begins where");
	broken(new, &section, HOLD_SECTION_HEADER + 8, 1, "missing");
	broken(new, &section, HOLD_SECTION_HEADER + 15, 128, "begins where");
	broken(new, &section, HOLD_SECTION_HEADER + 16, 1, "damaged");
	broken(new, &section, item, 0, "epoch");
	broken(new, &section, item + 11, 1, "length");
	broken(new, &section, second, 3, "epoch");
	section.data[item] = 2;
	broken(new, &section, second, 1, "epoch");
	section.data[item] = 1;
	broken(new, &section, item + HOLD_SECTION_ITEM, 2, "none that this output");
	broken(new, &section, item + HOLD_SECTION_ITEM + 1, 1, "none that this output");
	assert_int_equal(buffer_append(&section, "x", 1), 0);
	refused(new, &section, section.len, "follows");
	section.len--;
	import(new, &section, 1);
	release(new, 2);
	left(new, 0, 1, 2);
	side_close(new);
	free(new);
}

/* A peer cannot make a queue hold more than its limit, nor leave half of a frame. */
/* Nothing behind it is read: sanitizers look on. */
static void a_frame_without_a_header_is_refused(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	const size_t len = HOLD_SECTION_HEADER + 2 * HOLD_SECTION_LANE + HOLD_SECTION_ITEM + 1;
	uint8_t *bytes = calloc(1, len), *lane = bytes + HOLD_SECTION_HEADER + HOLD_SECTION_LANE;
	const struct buffer exact = { .data = bytes, .len = len };
	struct buffer section;

	hold_cut(&old->hold, 1);
	export(old, 0, 1, &section);
	memcpy(bytes, section.data, HOLD_SECTION_HEADER);
	lane[16] = 1;			 /* item */
	lane[HOLD_SECTION_LANE] = 1;	 /* its epoch */
	lane[HOLD_SECTION_LANE + 8] = 1; /* its length */
	side_open(new, 2, true);
	refused(new, &exact, len, "none that this output");
	side_close(new);
	buffer_release(&section);
	free(new);
	free(bytes);
}

static void more_than_fits_is_refused(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer sections[2];
	struct error err = { 0 };
	uint64_t n = 0;

	while (n < SEEN_MAX && send_frame(old, 0, n + 1) == 0)
		n++;
	hold_cut(&old->hold, 1);
	export(old, 0, 1, &sections[0]);
	export(old, 0, 1, &sections[1]);
	side_open(new, 2, true);
	/* The second claims to follow the first. */
	le_store(sections[1].data + HOLD_SECTION_HEADER + 8, 8, n * LEN);
	assert_int_equal(try_import(new, sections, 2, &err), -E2BIG);
	le_store(sections[1].data + HOLD_SECTION_HEADER, 8, LEN + 1);
	assert_int_equal(try_import(new, sections, 2, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "half"));
	le_store(sections[1].data + HOLD_SECTION_HEADER, 8, n * LEN);
	import(new, sections, 2);
	release(new, 1);
	left(new, 0, 1, n);
	side_close(new);
	free(new);
}

static void sizes_have_limits(void **state)
{
	struct side *side = *state;
	struct net *net;

	assert_int_equal(net_hold_new(&side->hold, NET_FRAME_MAX, side->net, &net), -EINVAL);
	assert_int_equal(net_hold_new(&side->hold, LIMIT_NET_HOLD + 1, side->net, &net), -EINVAL);
}

#define HELD(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		HELD(what_may_not_have_left_is_replayed_before_anything_newer),
		HELD(sections_follow_each_other),
		HELD(damaged_sections_are_refused_whole),
		HELD(a_frame_without_a_header_is_refused),
		HELD(more_than_fits_is_refused),
		HELD(sizes_have_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
