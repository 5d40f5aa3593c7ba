/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Held output over long lives, by seeds: a guest sends on two queues and prints, epochs are cut and acknowledged, back ends are full or broken, the
 * process stands still, its backup takes over from the checkpoints while the old owner may still be there. At every step:
 *
 *   - what leaves a shut hold is of an acknowledged epoch, in order, without a gap but for what was dropped for its age
 *   - all that ever left is in the state that a failover goes on from
 *   - a new owner begins at nothing later than what has left, and repeats, byte for byte, nothing of the epochs that were released
 *   - what is held keeps its limit
 *
 * In the end all that is left of the history has left.
 *
 *   sim-hold [SEED]       prints each step of one seed
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device/stream_hold.h"
#include "net/filters/hold.h"
#include "net_sink.h"

#define SEEDS 3000
#define LONG_SEEDS 100000
#define STEPS 600
#define QUEUES 2
#define EPOCHS 700  /* more than are ever cut */
#define FRAMES 2500 /* and sent by one queue */
#define TEXT 20000  /* and printed */
#define NET_SIZE (NET_FRAME_MAX + EPOCH_ITEM_OVERHEAD)
#define TEXT_SIZE 300

struct line { /* one queue's history: what the guest that goes on has sent */
	unsigned int n;
	uint16_t life[FRAMES], epoch[FRAMES];
	unsigned int seen; /* how much of it has left at least once */
};

struct cut { /* what a checkpoint has, and its header says */
	unsigned int n[QUEUES], text;
	uint64_t released;
	struct buffer net, console;
};

struct world;

struct owner {
	struct world *world;
	uint16_t life;
	bool runs;
	struct loop *loop;
	struct hold hold;
	struct net_sink sink;
	struct net *net;
	struct net_queue *queues[QUEUES];
	bool active[QUEUES];
	struct stream stream;
	struct stream_hold *sh;
	size_t room;			 /* of the console's reader */
	bool waits;			 /* it told the hold to */
	unsigned int next[QUEUES], text; /* what leaves next */
	uint64_t acked, acked_ns[EPOCHS];
};

struct world {
	uint64_t random;
	bool print;
	struct fake_clock clock;
	struct owner *owner, *deposed;
	struct line lines[QUEUES];
	uint8_t text[TEXT];
	uint16_t text_epoch[TEXT];
	unsigned int n_text, text_seen;
	struct cut cuts[EPOCHS];
	uint64_t cut, gate,
		whole;	  /* the last epoch cut, the first behind the gate, what the backup has */
	bool incremental; /* each checkpoint has its own epoch only */
	uint16_t lives;
	const char *broken;
	unsigned int failovers, replayed, aged, refused, left;
};

static uint64_t next_random(struct world *world)
{
	world->random ^= world->random << 13;
	world->random ^= world->random >> 7;
	world->random ^= world->random << 17;
	return world->random;
}

static bool chance(struct world *world, unsigned int one_in)
{
	return next_random(world) % one_in == 0;
}

static void must(struct world *world, bool holds, const char *what)
{
	if (!holds && !world->broken)
		world->broken = what;
}

static bool is_shut(const struct owner *owner)
{
	return owner->hold.shut;
}

/* Which frame it is can be read from its number, and its length follows from that. */
static uint64_t number_of(unsigned int queue, uint16_t life, unsigned int index)
{
	return (uint64_t)queue << 56 | (uint64_t)life << 32 | index;
}

static size_t length_of(uint64_t number)
{
	return SINK_FRAME_MIN + number * 0x9e3779b97f4a7c15ULL % 9000;
}

/* Frames up to `index` did not leave: they must have been old. */
static void skip_to(struct owner *owner, unsigned int queue, unsigned int index)
{
	struct world *world = owner->world;
	struct line *line = &world->lines[queue];

	for (; owner->next[queue] < index; owner->next[queue]++) {
		uint64_t epoch = line->epoch[owner->next[queue]];

		must(world,
		     epoch <= owner->acked && clock_now(&world->clock.clock) + HOLD_GRAIN_NS >
						      owner->acked_ns[epoch] + HOLD_AGE_NS,
		     "only old frames are dropped");
		world->aged++;
	}
	line->seen = MAX(line->seen, index);
}

static void frame_left(void *ctx, unsigned int queue, const uint8_t *frame, size_t len)
{
	struct owner *owner = ctx;
	struct world *world = owner->world;
	struct line *line = &world->lines[queue];
	uint64_t number = sink_frame_number(frame, len);
	unsigned int index = (uint32_t)number;

	must(world, index <= line->n && number >> 56 == queue, "it was sent");
	/* The frame that is being sent at this moment has no place in the history yet. */
	if (index < line->n) {
		must(world, line->life[index] == (uint16_t)(number >> 32), "what left is so");
		must(world, !is_shut(owner) || line->epoch[index] <= owner->acked,
		     "what leaves is acknowledged");
	} else {
		must(world, !is_shut(owner), "a shut hold holds");
	}
	must(world, index >= owner->next[queue], "the order is kept");
	must(world, len == length_of(number), "it is whole");
	skip_to(owner, queue, index);
	world->replayed += index < line->seen;
	world->left++;
	owner->next[queue] = index + 1;
	line->seen = MAX(line->seen, index + 1);
}

static uint8_t character(uint16_t life, unsigned int at)
{
	return (uint8_t)(life * 97U + at * 31U + (at >> 8));
}

/* Bytes that pass at once come before they are in the history. */
static size_t text_left(struct stream *stream, const void *buf, size_t len)
{
	struct owner *owner = container_of(stream, struct owner, stream);
	struct world *world = owner->world;
	size_t n = MIN(len, owner->room);

	for (size_t i = 0; i < n; i++, owner->text++) {
		uint8_t byte = ((const uint8_t *)buf)[i];

		if (owner->text >= world->n_text) {
			must(world, !is_shut(owner), "a shut hold holds what is printed");
			continue;
		}
		must(world, byte == world->text[owner->text], "what is printed is so");
		must(world, !is_shut(owner) || world->text_epoch[owner->text] <= owner->acked,
		     "what is printed is acknowledged");
	}
	world->text_seen = MAX(world->text_seen, owner->text);
	owner->room -= n;
	owner->waits = n < len;
	return n;
}

static void nothing(void *ctx _unused_)
{
}

static void gone(void *ctx _unused_, int error _unused_)
{
}

static struct owner *owner_new(struct world *world, uint64_t epoch, bool shut)
{
	static const struct net_events events = { nothing, nothing, gone, NULL };
	struct owner *owner = calloc(1, sizeof(*owner));

	owner->world = world;
	owner->life = ++world->lives;
	owner->runs = true;
	owner->loop = loop_new(&world->clock.clock);
	owner->room = SIZE_MAX;
	hold_init(&owner->hold, &world->clock.clock, epoch, shut);
	net_sink_init(&owner->sink, QUEUES);
	owner->sink.took = frame_left;
	owner->sink.ctx = owner;
	assert_int_equal(net_hold_new(&owner->hold, NET_SIZE, &owner->sink.net, &owner->net), 0);
	for (unsigned int i = 0; i < QUEUES; i++) {
		assert_int_equal(
			net_queue_open(owner->net, i, owner->loop, &events, &owner->queues[i]), 0);
		owner->active[i] = true;
	}
	owner->stream.write = text_left;
	assert_int_equal(stream_hold_new(&owner->hold, owner->loop, TEXT_SIZE, &owner->stream,
					 &owner->sh),
			 0);
	return owner;
}

static void owner_free(struct owner *owner)
{
	if (!owner)
		return;
	for (unsigned int i = 0; i < QUEUES; i++)
		net_queue_close(owner->queues[i]);
	net_free(owner->net);
	stream_hold_free(owner->sh);
	hold_destroy(&owner->hold);
	loop_free(owner->loop);
	free(owner);
}

/* What its lanes hold: those of the queues in their order, then the console's. */
static struct hold_lane *lane_of(struct owner *owner, unsigned int index)
{
	struct list *item = owner->hold.lanes.next;

	while (index--)
		item = item->next;
	return container_of(item, struct hold_lane, link);
}

/* What is held is the end of the history. */
static unsigned int first_held(struct owner *owner, unsigned int queue)
{
	const struct hold_lane *lane = lane_of(owner, queue);

	return owner->world->lines[queue].n - (unsigned int)lane->counts.items;
}

static void check_limits(struct owner *owner)
{
	for (unsigned int i = 0; i <= QUEUES; i++) {
		const struct hold_counts *counts = &lane_of(owner, i)->counts;

		must(owner->world,
		     counts->bytes + counts->items * EPOCH_ITEM_OVERHEAD <=
			     (i < QUEUES ? NET_SIZE : TEXT_SIZE),
		     "what is held keeps its limit");
	}
}

/* ---- moves ---- */

static void sends(struct world *world, unsigned int queue)
{
	struct owner *owner = world->owner;
	struct line *line = &world->lines[queue];
	uint64_t number = number_of(queue, owner->life, line->n);
	uint8_t frame[NET_FRAME_MAX];
	struct iovec iov = { frame, length_of(number) };
	int r;

	if (!owner->active[queue] || line->n == FRAMES - 1)
		return;
	sink_frame_make(number, frame, iov.iov_len);
	r = net_send(owner->queues[queue], &iov, 1);
	if (r == -EAGAIN) { /* it stays in the guest's ring */
		world->refused++;
		return;
	}
	line->life[line->n] = owner->life;
	line->epoch[line->n++] = (uint16_t)owner->hold.epoch;
}

static void prints(struct world *world)
{
	struct stream *stream = stream_hold_stream(world->owner->sh);
	size_t len = 1 + next_random(world) % 40, n;
	uint8_t bytes[40];

	if (world->n_text + len > TEXT)
		return;
	for (unsigned int i = 0; i < len; i++)
		bytes[i] = character(world->owner->life, world->n_text + i);
	n = stream->write(stream, bytes, len);
	for (unsigned int i = 0; i < n; i++, world->n_text++) {
		world->text[world->n_text] = bytes[i];
		world->text_epoch[world->n_text] = (uint16_t)world->owner->hold.epoch;
	}
}

static void cuts(struct world *world)
{
	struct owner *owner = world->owner;
	struct cut *cut = &world->cuts[++world->cut];
	uint64_t after;

	hold_cut(&owner->hold, world->cut);
	cut->released = hold_released(&owner->hold);
	after = world->incremental && world->cut > world->gate ? world->cut - 1 : cut->released;
	for (unsigned int i = 0; i < QUEUES; i++) {
		skip_to(owner, i, first_held(owner, i));
		cut->n[i] = world->lines[i].n;
	}
	cut->text = world->n_text;
	buffer_init(&cut->net, net_hold_export_limit(owner->net));
	buffer_init(&cut->console, hold_section_limit(1, TEXT_SIZE));
	assert_int_equal(net_hold_export(owner->net, after, world->cut, &cut->net), 0);
	assert_int_equal(stream_hold_export(owner->sh, after, world->cut, &cut->console), 0);
}

static void forget(struct cut *cut)
{
	buffer_release(&cut->net);
	buffer_release(&cut->console);
}

static void acknowledges(struct owner *owner, uint64_t epoch)
{
	uint64_t now = clock_now(&owner->world->clock.clock);

	for (uint64_t i = owner->acked + 1; i <= epoch; i++)
		owner->acked_ns[i] = now;
	owner->acked = MAX(owner->acked, epoch);
	hold_release(&owner->hold, epoch, now);
}

static void turns(struct owner *owner)
{
	if (owner)
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(loop_turn(owner->loop, 0), 0);
}

static void reads(struct owner *owner, size_t room)
{
	owner->room = room;
	if (owner->waits && room) {
		owner->waits = false;
		owner->stream.writable(owner->stream.ctx);
	}
}

static void troubles(struct world *world)
{
	struct owner *owner = world->owner;
	unsigned int queue = next_random(world) % QUEUES;

	switch (next_random(world) % 5) {
	case 0:
		owner->sink.queues[queue].room = next_random(world) % 3;
		break;
	case 1:
		owner->sink.queues[queue].error = chance(world, 2) ? -EIO : 0;
		break;
	case 2:
		owner->room = next_random(world) % 30;
		break;
	case 3:
		owner->active[1] = !owner->active[1];
		assert_int_equal(net_queue_set_active(owner->queues[1], owner->active[1]), 0);
		break;
	default:
		fake_clock_advance(&world->clock, 1100 * NSEC_PER_MSEC);
	}
}

static void recovers(struct world *world, struct owner *owner)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		owner->sink.queues[i].error = 0;
		net_sink_room(&owner->sink, i, UINT_MAX);
		if (owner == world->owner && !owner->active[i]) {
			assert_int_equal(net_queue_set_active(owner->queues[i], true), 0);
			owner->active[i] = true;
		}
	}
	reads(owner, SIZE_MAX);
}

static void opens(struct world *world)
{
	hold_open(&world->owner->hold);
	for (uint64_t i = world->gate; i <= world->cut; i++)
		forget(&world->cuts[i]);
	world->gate = world->whole = 0;
}

static void shuts(struct world *world)
{
	hold_shut(&world->owner->hold);
	world->gate = world->cut + 1;
	world->whole = world->cut;
}

/* ---- failover ---- */

/* Its checkpoints, those that may have something that had not left at the last of them. */
static void import(struct world *world, struct owner *owner)
{
	const struct cut *last = &world->cuts[world->whole];
	uint64_t first = world->incremental ? MAX(world->gate, last->released + 1) : world->whole;
	struct iovec net[EPOCHS], console[EPOCHS];
	struct error err = { 0 };
	unsigned int n = 0;

	for (uint64_t i = first; i <= world->whole; i++, n++) {
		net[n] = (struct iovec){ world->cuts[i].net.data, world->cuts[i].net.len };
		console[n] = (struct iovec){ world->cuts[i].console.data,
					     world->cuts[i].console.len };
	}
	if (net_hold_import(owner->net, net, n, &err) < 0 ||
	    stream_hold_import(owner->sh, console, n, &err) < 0) {
		printf("%s\n", err.message);
		must(world, false, "a checkpoint is taken");
	}
}

/* The new owner's part of the history begins at the last checkpoint. */
static void check_contained(struct world *world, const struct cut *from)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		must(world, world->lines[i].seen <= from->n[i], "the backup has all that left");
		world->lines[i].n = from->n[i];
	}
	must(world, world->text_seen <= from->text, "the backup has all that was printed");
	world->n_text = from->text;
}

static void check_replay(struct world *world, struct owner *owner, const struct cut *from)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		const struct line *line = &world->lines[i];
		unsigned int first = first_held(owner, i);

		must(world, first <= line->seen, "nothing is missing after a failover");
		must(world, first == line->n || line->epoch[first] > from->released,
		     "what was released is not repeated");
		owner->next[i] = first;
	}
	owner->text = (unsigned int)stream_hold_offset(owner->sh);
	must(world, owner->text <= world->text_seen, "no byte is missing after a failover");
	must(world, owner->text == world->n_text || world->text_epoch[owner->text] > from->released,
	     "bytes that were released are not repeated");
}

static void fails_over(struct world *world)
{
	const struct cut *from = &world->cuts[world->whole];
	struct owner *owner = owner_new(world, world->cut + 1, true);

	check_contained(world, from);
	import(world, owner);
	check_replay(world, owner, from);
	owner_free(world->deposed);
	world->deposed = world->owner;
	world->owner = owner;
	owner->acked = world->whole;
	for (uint64_t i = 1; i <= world->whole; i++)
		owner->acked_ns[i] = clock_now(&world->clock.clock);
	world->failovers++;
	/* It runs for a while before the swap that confirms it. */
	for (unsigned int i = 0; i < 4; i++)
		sends(world, i % QUEUES);
	prints(world);
	turns(owner);
	must(world, owner->next[0] == first_held(owner, 0), "a claimant puts out nothing");
	hold_release(&owner->hold, world->whole, clock_now(&world->clock.clock));
	turns(owner);
	opens(world);
}

struct move {
	const char *name;
	unsigned int weight;
	bool (*may)(const struct world *world);
	void (*go)(struct world *world);
};

static void move_sends(struct world *world)
{
	sends(world, next_random(world) % QUEUES);
}

static void move_turns(struct world *world)
{
	turns(world->owner);
}

static void move_deposed(struct world *world)
{
	turns(world->deposed);
}

static void move_time(struct world *world)
{
	fake_clock_advance(&world->clock, next_random(world) % (30 * NSEC_PER_MSEC));
}

static void move_whole(struct world *world)
{
	world->whole += 1 + next_random(world) % (world->cut - world->whole);
}

static void move_acks(struct world *world)
{
	acknowledges(world->owner, world->whole);
}

static void move_recovers(struct world *world)
{
	recovers(world, world->owner);
}

static bool has_gate(const struct world *world)
{
	return world->gate && world->cut + 2 < EPOCHS;
}

static bool has_none(const struct world *world)
{
	return !world->gate;
}

static bool is_behind(const struct world *world)
{
	return world->gate && world->whole < world->cut;
}

static bool is_whole(const struct world *world)
{
	return world->gate && world->whole >= world->gate;
}

static bool has_deposed(const struct world *world)
{
	return world->deposed;
}

static const struct move moves[] = {
	{ "sends", 40, NULL, move_sends },
	{ "prints", 10, NULL, prints },
	{ "turn", 25, NULL, move_turns },
	{ "time", 10, NULL, move_time },
	{ "cut", 15, has_gate, cuts },
	{ "whole", 15, is_behind, move_whole },
	{ "acknowledged", 15, is_whole, move_acks },
	{ "trouble", 5, NULL, troubles },
	{ "recovers", 5, NULL, move_recovers },
	{ "shuts", 10, has_none, shuts },
	{ "opens", 1, has_gate, opens },
	{ "fails over", 2, is_whole, fails_over },
	{ "deposed", 5, has_deposed, move_deposed },
};

static void one_move(struct world *world)
{
	const struct move *move;

	do {
		move = &moves[next_random(world) % ARRAY_SIZE(moves)];
	} while (next_random(world) % 40 >= move->weight || (move->may && !move->may(world)));
	if (world->print)
		printf("%s\n", move->name);
	move->go(world);
	check_limits(world->owner);
}

/* Nothing is wrong any more: all of the history leaves. */
static void ends_well(struct world *world)
{
	struct owner *owner = world->owner;

	recovers(world, owner);
	if (!world->gate)
		shuts(world);
	for (unsigned int i = 0; i < 2; i++) { /* the first makes room */
		cuts(world);
		acknowledges(owner, world->cut);
		turns(owner);
		sends(world, 0);
		sends(world, 1);
	}
	cuts(world);
	acknowledges(owner, world->cut);
	turns(owner);
	for (unsigned int i = 0; i < QUEUES; i++)
		must(world, world->lines[i].seen == world->lines[i].n, "all leaves in the end");
	must(world, world->text_seen == world->n_text, "all is printed in the end");
	must(world, hold_released(&owner->hold) == world->cut, "all is released in the end");
}

static const char *live(struct world *world, uint64_t seed)
{
	world->random = seed * 0x9e3779b97f4a7c15ULL + 1;
	fake_clock_init(&world->clock, 1000 * NSEC_PER_SEC, 0);
	world->incremental = chance(world, 2);
	world->owner = owner_new(world, 1, false);
	for (unsigned int i = 0; i < STEPS && !world->broken; i++)
		one_move(world);
	if (!world->broken)
		ends_well(world);
	for (unsigned int i = 0; i < EPOCHS; i++)
		forget(&world->cuts[i]);
	owner_free(world->owner);
	owner_free(world->deposed);
	return world->broken;
}

static void long_lives(void **unused)
{
	const char *is_long = getenv("UTSUSU_TEST_LONG");
	uint64_t seeds = is_long && is_long[0] ? LONG_SEEDS : SEEDS;
	uint64_t failovers = 0, replayed = 0, aged = 0, refused = 0, left = 0;

	(void)unused;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		struct world *world = calloc(1, sizeof(*world));
		const char *broken = live(world, seed);

		failovers += world->failovers;
		replayed += world->replayed;
		aged += world->aged;
		refused += world->refused;
		left += world->left;
		free(world);
		if (broken)
			fail_msg("seed %llu: broken: %s; sim-hold %llu shows it",
				 (unsigned long long)seed, broken, (unsigned long long)seed);
	}
	printf("%llu frames left, %llu failovers, %llu frames repeated, %llu dropped for their age, %llu refused\n",
	       (unsigned long long)left, (unsigned long long)failovers,
	       (unsigned long long)replayed, (unsigned long long)aged, (unsigned long long)refused);
	/* Lives in which nothing happens prove nothing. */
	assert_true(failovers > seeds && replayed > seeds / 10 && aged > seeds / 10 &&
		    refused > seeds);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_lives),
	};

	if (argc == 2) {
		struct world *world = calloc(1, sizeof(*world));
		const char *broken;

		world->print = true;
		broken = live(world, strtoull(argv[1], NULL, 10));
		printf("%s\n", broken ? broken : "well");
		free(world);
		return broken != NULL;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
