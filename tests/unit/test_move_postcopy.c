/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of post-copy: the list of what is missing, the rest of memory that goes once and in the order that it is wanted in, the
 * thread that hears. Whole moves are in test_move_rest.c.
 */

#include "check.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "move/mover/ear.h"
#include "move/pages/missing.h"
#include "pages_rig.h"

#define PAGES 300000ULL /* several pieces, and no whole word at the end */
#define WORDS ((PAGES + 63) / 64)

/* ---- the list ---- */

static uint64_t word_at(const void *ctx, uint64_t word)
{
	return ((const uint64_t *)ctx)[word];
}

static void make_list(uint64_t *list, uint64_t seed)
{
	unsigned int dense = (unsigned int)(rig_random(&seed) % 4);

	memset(list, 0, WORDS * 8);
	for (uint64_t page = 0; page < PAGES; page++)
		if (rig_random(&seed) % (dense == 3 ? 1000 : dense + 1) == 0)
			list[page / 64] |= 1ULL << (page % 64);
	if (dense == 0) /* long runs, long gaps */
		memset(list + WORDS / 4, 0, WORDS / 2 * 8);
}

static void a_list_arrives_as_it_was(void **unused)
{
	static uint64_t list[WORDS];
	static uint8_t piece[MISSING_PIECE_BYTES];

	(void)unused;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct missing missing;
		uint64_t word = 0, at = 0, first, n, seen = 0, wanted = 0;
		size_t len;

		make_list(list, seed);
		assert_int_equal(missing_init(&missing, PAGES), 0);
		while ((len = missing_put(word_at, list, WORDS, &word, piece)))
			assert_int_equal(missing_take(&missing, piece, len, NULL), 0);
		assert_int_equal(missing_take(&missing, piece, 0, NULL), 1);
		assert_memory_equal(missing.bits, list, sizeof(list));
		while (missing_next(&missing, 1, &at, &first, &n))
			for (uint64_t page = first; page < first + n; page++, seen++)
				assert_true(list[page / 64] >> (page % 64) & 1);
		for (uint64_t i = 0; i < WORDS; i++)
			wanted += (uint64_t)__builtin_popcountll(list[i]);
		assert_int_equal(seen, wanted);
		missing_release(&missing);
	}
}

static void whole_blocks_cover_what_is_missing_of_them(void **unused)
{
	static const uint64_t wanted[][2] = { { 0, 512 }, { 512, 512 }, { 299520, 480 } };
	struct missing missing;
	uint64_t at = 0, first, n;

	(void)unused;
	assert_int_equal(missing_init(&missing, PAGES), 0);
	missing.bits[0] = 1ULL << 63;
	missing.bits[10] = 6;
	missing.bits[WORDS - 1] = 1;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		assert_true(missing_next(&missing, 512, &at, &first, &n));
		assert_int_equal(first, wanted[i][0]);
		assert_int_equal(n, wanted[i][1]);
	}
	assert_false(missing_next(&missing, 512, &at, &first, &n));
	missing_release(&missing);
}

static void a_list_that_cannot_be_is_refused(void **unused)
{
	static const struct {
		uint64_t first, n_words;
		size_t cut;
		uint64_t bits;
	} bad[] = {
		{ .first = 1, .n_words = 1, .bits = 1 },
		{ .first = 64, .n_words = 0 },
		{ .first = 64, .n_words = 1, .cut = 1 },
		{ .first = 64, .n_words = MISSING_WORDS + 1 },
		{ .first = 64 * (WORDS - 1), .n_words = 2 },
		{ .first = 64 * WORDS, .n_words = 1 },
		{ .first = UINT64_MAX - 63, .n_words = 1 },
		{ .first = 64 * (WORDS - 1), .n_words = 1, .bits = 1ULL << 63 },
		{ .first = 0, .n_words = 1, .bits = 1 }, /* behind one of these */
	};
	static uint8_t piece[MISSING_PIECE_BYTES + 8];
	struct missing missing;
	uint64_t word = 0;
	const uint64_t one[2] = { 1, 1 };

	(void)unused;
	assert_int_equal(missing_init(&missing, PAGES), 0);
	assert_int_equal(
		missing_take(&missing, piece, missing_put(word_at, one, 2, &word, piece), NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = { 0 };

		memset(piece, 0, sizeof(piece));
		le_store(piece, 8, bad[i].first);
		le_store(piece + 8, 8, bad[i].bits);
		assert_int_equal(missing_take(&missing, piece, 8 + 8 * bad[i].n_words - bad[i].cut,
					      &err),
				 -EBADMSG);
		assert_true(err.message[0]);
	}
	assert_int_equal(missing_take(&missing, piece, 7, NULL), -EBADMSG);
	missing_release(&missing);
}

/* ---- the rest ---- */

/* Faults, at random, some of them twice. */
static void *want_some(void *arg)
{
	struct pages_rig *rig = arg;
	uint64_t seed = 7;

	for (int i = 0; i < 300; i++) {
		int r = pages_send_wanted(rig->sender, rig_random(&seed) % RIG_PAGES,
					  1 + (uint32_t)(rig_random(&seed) % 40));

		assert(r >= 0);
		(void)r;
	}
	return NULL;
}

static void *want_nothing(void *rig _unused_)
{
	return NULL;
}

static bool comes(const struct pages_rig *rig, uint64_t first, uint64_t n)
{
	for (int i = 0; i < 5000; i++) {
		if (memcmp(rig->from + first * PAGE_BYTES, rig->to + first * PAGE_BYTES,
			   n * PAGE_BYTES) == 0)
			return true;
		usleep(1000);
	}
	return false;
}

/* With nothing behind them that would push them: a stream may hold back the end of what it is given. */
static void wanted_pages_come_at_once(void **unused)
{
	static const enum rig_wire wires[] = { RIG_SOCKETPAIR, RIG_TCP, RIG_TLS };

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(wires); i++) {
		const struct rig_options options = { .n_streams = 2,
						     .wire = wires[i],
						     .compress = MOVE_COMPRESS_OFF };
		struct pages_rig rig;
		uint64_t seed = 3;

		assert_true(rig_open(&rig, &options));
		rig_start(&rig);
		rig_round(&rig, false);
		rig_wait(&rig);
		for (uint64_t page = 100; page < 133; page++)
			rig_fill_random(&rig, page, &seed);
		rig_collect(&rig);
		page_map_settle(rig.map, false);
		assert_int_equal(pages_send_wanted(rig.sender, 100, 1), 1);
		assert_true(comes(&rig, 100, 1));
		assert_int_equal(pages_send_wanted(rig.sender, 101, 32), 32);
		assert_true(comes(&rig, 101, 32));
		rig_rest(&rig, want_nothing);
		assert_int_equal(rig_compare(&rig), RIG_PAGES);
		rig_close(&rig);
	}
}

static uint64_t missing_pages(const struct pages_rig *rig)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < RIG_PAGES / 64; i++)
		pages += (uint64_t)__builtin_popcountll(rig->dirty[i]);
	return pages;
}

static void rest_arrives(const struct rig_options *options, uint64_t seed)
{
	struct pages_rig rig;
	struct move_numbers before, after;
	uint64_t missing;

	assert_true(rig_open(&rig, options));
	for (uint64_t page = 0; page < RIG_PAGES; page += 1 + rig_random(&seed) % 3)
		rig_fill_random(&rig, page, &seed);
	memset(rig.log, 0, sizeof(rig.log)); /* all that is the first round's */
	rig_start(&rig);
	rig_round(&rig, false);
	rig_wait(&rig);
	for (int i = 0; i < 1500; i++) {
		uint64_t page = rig_random(&seed) % RIG_PAGES;

		if (i % 3)
			rig_fill_random(&rig, page, &seed);
		else
			rig_fill(&rig, page, (uint8_t)(i % 2 * i)); /* some of zeroes */
	}
	rig_collect(&rig);
	missing = missing_pages(&rig);
	pages_receive_numbers(rig.receiver, &before);
	rig_rest(&rig, want_some);
	pages_receive_numbers(rig.receiver, &after);
	assert_int_equal(rig_compare(&rig), RIG_PAGES);
	/* Each once, and those of zeroes are told as well. */
	assert_int_equal(after.pages + after.zero_pages - before.pages - before.zero_pages,
			 missing);
	assert_int_equal(after.delta_pages, before.delta_pages);
	rig_close(&rig);
}

static void the_rest_goes_once_whoever_wants_it(void **unused)
{
	(void)unused;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		rest_arrives(&(struct rig_options){ .n_streams = 1, .wire = RIG_TCP }, seed);
		rest_arrives(&(struct rig_options){ .n_streams = 2 }, seed);
		rest_arrives(&(struct rig_options){ .n_streams = 4, .wire = RIG_TLS }, seed);
		rest_arrives(&(struct rig_options){ .n_streams = 3, .compress = MOVE_COMPRESS_ON },
			     seed);
		rest_arrives(&(struct rig_options){ .n_streams = 1, .compress = MOVE_COMPRESS_ON },
			     seed);
	}
}

/* What is wanted does not wait for a bandwidth that the others keep to. */
static void *want_one(void *arg)
{
	struct pages_rig *rig = arg;

	assert(pages_send_wanted(rig->sender, RIG_PAGES - 1, 1) == 1);
	return NULL;
}

static void wanted_pages_are_not_paced(void **unused)
{
	struct pages_rig rig;
	uint64_t seed = 1;

	(void)unused;
	assert_true(
		rig_open(&rig, &(struct rig_options){ .n_streams = 2, .max_bandwidth = MIB(4) }));
	rig_start(&rig);
	rig_round(&rig, false);
	rig_wait(&rig);
	for (uint64_t page = RIG_PAGES - 600; page < RIG_PAGES; page++)
		rig_fill_random(&rig, page, &seed);
	rig_collect(&rig);
	rig_rest(&rig, want_one);
	assert_int_equal(rig_compare(&rig), RIG_PAGES);
	rig_close(&rig);
}

/* ---- what becomes the rest ---- */

static void a_range_is_claimed_once(void **unused)
{
	struct pages_rig rig;
	struct page_claim claim;
	uint64_t first;
	uint32_t n;

	(void)unused;
	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 1 }));
	rig_start(&rig);
	memset(rig.dirty, 0xff, sizeof(rig.dirty));
	page_map_settle(rig.map, false);
	assert_true(page_map_claim_range(rig.map, 60, 10, &claim));
	assert_int_equal(claim.n_pages, 10);
	assert_true(page_claim_run(&claim, 64, &first, &n));
	assert_int_equal(first, 60);
	assert_int_equal(n, 10);
	assert_false(page_claim_run(&claim, 64, &first, &n));
	assert_false(page_map_claim_range(rig.map, 60, 10, &claim));
	assert_true(page_map_claim_range(rig.map, 59, 12, &claim));
	assert_int_equal(claim.n_pages, 2);
	assert_true(page_map_claim_range(rig.map, RIG_PAGES - 1, 100, &claim));
	assert_int_equal(claim.n_pages, 1);
	assert_false(page_map_claim_range(rig.map, RIG_PAGES, 1, &claim));
	assert_int_equal(page_map_left(rig.map), RIG_PAGES - 13);
	assert_int_equal(page_map_rest(rig.map, 0), ~0ULL >> 5);
	assert_int_equal(page_map_rest(rig.map, RIG_PAGES), 0);
	rig_round(&rig, true);
	rig_close(&rig);
}

/* With a page of 2 MiB goes all that the receiver may hold of it. */
static void huge_pages_are_missing_as_wholes(void **unused)
{
	struct pages_rig rig;

	(void)unused;
	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 1 }));
	rig_fill(&rig, 3, 1);
	rig_fill(&rig, 600, 1);
	memset(rig.log, 0, sizeof(rig.log));
	rig_start(&rig);
	rig_round(&rig, false);
	rig_wait(&rig);
	rig.dirty[1] = 2;
	page_map_settle(rig.map, true);
	assert_int_equal(page_map_rest(rig.map, 0), 8);
	assert_int_equal(page_map_rest(rig.map, 1), 2);
	assert_int_equal(page_map_left(rig.map), 2);
	rig_fill(&rig, 65, 0);
	rig_round(&rig, true);
	rig_close(&rig);
}

/* ---- the ear ---- */

struct heard {
	int frames; /* to come */
	int end;    /* what comes behind them */
	int own;    /* atomic: what it did itself */
};

static int next_frame(void *ctx, struct frame *ret_frame)
{
	struct heard *heard = ctx;

	if (!heard->frames) {
		usleep(1000);
		return heard->end;
	}
	*ret_frame = (struct frame){ .kind = (uint16_t)heard->frames };
	if (heard->frames-- % 2)
		return 1;
	__atomic_add_fetch(&heard->own, 1, __ATOMIC_RELAXED);
	return 0;
}

static void an_ear_keeps_each_frame_until_it_is_read(void **unused)
{
	struct heard heard = { .frames = 20, .end = -ECONNRESET };
	struct ear ear;
	struct frame frame;

	(void)unused;
	assert_int_equal(ear_start(&ear, next_frame, &heard, NULL), 0);
	for (int kind = 19; kind > 0; kind -= 2) {
		int r = 0;

		while (r == 0)
			r = ear_hear(&ear, 10, &frame);
		assert_int_equal(r, 1);
		assert_int_equal(frame.kind, kind);
		assert_int_equal(ear_hear(&ear, 0, &frame), 1); /* still the same */
		assert_int_equal(frame.kind, kind);
		ear_go_on(&ear);
	}
	while (ear_hear(&ear, 10, &frame) == 0)
		;
	assert_int_equal(ear_hear(&ear, 10, &frame), -ECONNRESET);
	assert_int_equal(heard.own, 10);
	ear_stop(&ear);
	ear_stop(&ear);
}

static void an_ear_stops_with_a_frame_that_nobody_reads(void **unused)
{
	struct heard heard = { .frames = 3 };
	struct ear ear;

	(void)unused;
	assert_int_equal(ear_start(&ear, next_frame, &heard, NULL), 0);
	ear_stop(&ear);
	heard = (struct heard){ 0 };
	assert_int_equal(ear_start(&ear, next_frame, &heard, NULL), 0);
	assert_int_equal(ear_hear(&ear, 5, &(struct frame){ 0 }), 0);
	ear_stop(&ear);
}

/* Silence that would have been the end. */
static void a_patient_stream_waits(void **unused)
{
	struct stream *near, *far;
	int fds[2];
	uint8_t byte = 0;

	(void)unused;
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
	assert_int_equal(stream_plain(fds[0], 20, &near), 0);
	assert_int_equal(stream_plain(fds[1], 20, &far), 0);
	assert_int_equal(stream_receive(near, &byte, 1), -ETIMEDOUT);
	stream_be_patient(near, 1000);
	if (fork() == 0) {
		usleep(100 * 1000);
		_exit(write(fds[1], "x", 1) == 1 ? 0 : 1);
	}
	assert_int_equal(stream_receive(near, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	stream_free(near);
	stream_free(far);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_arrives_as_it_was),
		cmocka_unit_test(whole_blocks_cover_what_is_missing_of_them),
		cmocka_unit_test(a_list_that_cannot_be_is_refused),
		cmocka_unit_test(wanted_pages_come_at_once),
		cmocka_unit_test(the_rest_goes_once_whoever_wants_it),
		cmocka_unit_test(wanted_pages_are_not_paced),
		cmocka_unit_test(a_range_is_claimed_once),
		cmocka_unit_test(huge_pages_are_missing_as_wholes),
		cmocka_unit_test(an_ear_keeps_each_frame_until_it_is_read),
		cmocka_unit_test(an_ear_stops_with_a_frame_that_nobody_reads),
		cmocka_unit_test(a_patient_stream_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
