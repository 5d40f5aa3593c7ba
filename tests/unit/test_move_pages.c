/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that changes while it is sent arrives as it is. */
#include "check.h"

#include <linux/memfd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "pages_rig.h"

#define ROUNDS 5
#define WRITERS 2

struct writer {
	struct pages_rig *rig;
	uint64_t seed;
	uint64_t
		which; /* writes to each second page: vCPUs that write to the same page are the guest's business */
	bool *stop; /* atomic */
	pthread_t thread;
};

/* One of the things that guests do to a page. */
static void write_something(struct writer *writer)
{
	struct pages_rig *rig = writer->rig;
	uint64_t *seed = &writer->seed, what = rig_random(seed);
	/* Three of four writes go to an eighth of memory. */
	uint64_t page = rig_random(seed) % (what & 3 ? RIG_PAGES / 8 : RIG_PAGES);

	page = page / WRITERS * WRITERS + writer->which;
	switch (what >> 2 & 7) {
	case 0:
		rig_fill_random(rig, page, seed);
		break;
	case 1:
		rig_fill(rig, page, 0);
		break;
	case 2:
		rig_fill(rig, page, (uint8_t)what);
		break;
	default: /* a field of a struct */
		memcpy(rig->from + page * PAGE_BYTES + what % (PAGE_BYTES - 8), &what, 8);
		rig_mark(rig, page);
	}
}

static void *write_all_the_time(void *arg)
{
	struct writer *writer = arg;

	while (!__atomic_load_n(writer->stop, __ATOMIC_RELAXED)) {
		struct timespec pause = { .tv_nsec = 200000 };

		for (int i = 0; i < 20; i++)
			write_something(writer);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* A third random, a third of one byte, a third never touched; some of the touched zero again. */
static void fill(struct pages_rig *rig)
{
	uint64_t seed = 7;

	for (uint64_t page = 0; page < RIG_PAGES / 3; page++)
		rig_fill_random(rig, page, &seed);
	for (uint64_t page = RIG_PAGES / 3; page < RIG_PAGES / 3 * 2; page++)
		rig_fill(rig, page, page % 5 ? (uint8_t)page : 0);
	rig_collect(rig);
	memset(rig->dirty, 0, sizeof(rig->dirty)); /* a log begins when a move does */
}

/* All rounds with writers at work, the last without. `lost`: one dirty bit of the last. */
static void move(struct pages_rig *rig, bool lost)
{
	struct writer writers[WRITERS];
	bool stop = false;

	rig_start(rig);
	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){
			.rig = rig, .seed = 100 + (uint64_t)i, .which = (uint64_t)i, .stop = &stop
		};
		pthread_create(&writers[i].thread, NULL, write_all_the_time, &writers[i]);
	}
	for (int i = 0; i < ROUNDS; i++) {
		rig_round(rig, false);
		rig_collect(rig);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	rig_wait(rig); /* what is under way may be sent as it is then */
	rig_fill_random(rig, 1234, &writers[0].seed);
	rig_collect(rig);
	if (lost)
		rig->dirty[1234 / 64] &= ~(1ULL << (1234 % 64));
	rig_round(rig, true);
}

static struct move_numbers check_opened(struct pages_rig *rig)
{
	struct move_numbers numbers = { 0 };
	struct error err = { 0 };

	fill(rig);
	move(rig, false);
	assert_int_equal(rig_compare(rig), RIG_PAGES);
	assert_int_equal(pages_target_whole(rig->target, &err), 0);
	pages_send_numbers(rig->sender, &numbers);
	assert_int_equal(numbers.left, 0);
	assert_int_equal(numbers.sent, numbers.pages * PAGE_BYTES);
	assert_true(numbers.zero_pages > 0);
	rig_close(rig);
	return numbers;
}

static struct move_numbers check_move(const struct rig_options *options)
{
	struct pages_rig rig;

	assert_true(rig_open(&rig, options));
	return check_opened(&rig);
}

static const uint32_t streams[] = { 1, 2, 4 };

static void plain(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		check_move(&(struct rig_options){ .n_streams = streams[i], .wire = RIG_TCP });
}

static void tls(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		check_move(&(struct rig_options){ .n_streams = streams[i], .wire = RIG_TLS });
}

static void local_sockets(void **state _unused_)
{
	check_move(&(struct rig_options){ .n_streams = 2, .wire = RIG_SOCKETPAIR });
}

static void packed_with_deltas(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		struct move_numbers numbers =
			check_move(&(struct rig_options){ .n_streams = streams[i],
							  .wire = i == 1 ? RIG_TLS : RIG_TCP,
							  .compress = MOVE_COMPRESS_ON });

		assert_true(numbers.packed_pages > 0);
	}
}

static void never_packed(void **state _unused_)
{
	struct move_numbers numbers = check_move(&(struct rig_options){
		.n_streams = 2, .wire = RIG_TCP, .compress = MOVE_COMPRESS_OFF });

	assert_int_equal(numbers.packed_pages + numbers.delta_pages, 0);
}

static void huge_pages(void **state _unused_)
{
	const struct rig_options options = { .n_streams = 2,
					     .wire = RIG_TCP,
					     .memfd_flags = MFD_HUGETLB | MFD_HUGE_2MB };
	struct pages_rig rig;

	if (!rig_open(&rig, &options)) {
		rig_close(&rig);
		skip(); /* this host has no huge pages to give */
	}
	check_opened(&rig);
}

static void limited_bandwidth(void **state _unused_)
{
	const struct rig_options options = { .n_streams = 2,
					     .wire = RIG_TCP,
					     .compress = MOVE_COMPRESS_OFF,
					     .max_bandwidth = MIB(24) };
	uint64_t began = clock_now(&clock_host);

	check_move(&options);
	assert_true(clock_now(&clock_host) - began > 300 * NSEC_PER_MSEC);
}

/* Whether a slow wire makes packing worth it depends on who else wants this CPU; that it is slow does not. */
static void a_slow_wire_is_noticed(void **state _unused_)
{
	const struct rig_options options = { .n_streams = 2,
					     .wire = RIG_TCP,
					     .max_bandwidth = MIB(16) };
	struct pages_rig rig;

	assert_true(rig_open(&rig, &options));
	fill(&rig);
	rig_start(&rig);
	rig_round(&rig, false);
	assert_null(strstr(pages_send_packing(rig.sender), "faster"));
	assert_null(strstr(pages_send_packing(rig.sender), "not measured"));
	rig_round(&rig, true);
	assert_int_equal(rig_compare(&rig), RIG_PAGES);
	rig_close(&rig);
}

/* Sends and compares what there is; the writers are the test itself. */
static void one_round(struct pages_rig *rig, bool last)
{
	rig_collect(rig);
	rig_round(rig, last);
}

static void holes_stay_holes(void **state _unused_)
{
	struct pages_rig rig;
	uint64_t seed = 3, populated;

	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 2, .wire = RIG_TCP }));
	for (uint64_t page = 0; page < RIG_PAGES; page += 10)
		rig_fill_random(&rig, page, &seed);
	for (uint64_t page = 5; page < RIG_PAGES; page += 50)
		rig_fill(&rig, page, 0);
	populated = rig_populated(rig.from_fd);
	rig_start(&rig);
	one_round(&rig, false);
	rig_wait(&rig);
	assert_int_equal(rig_populated(rig.to_fd), (RIG_PAGES + 9) / 10);
	/* Pages that had something and are zero now become holes again. */
	for (uint64_t page = 0; page < RIG_PAGES; page += 20)
		rig_fill(&rig, page, 0);
	one_round(&rig, true);
	assert_int_equal(rig_populated(rig.to_fd), RIG_PAGES / 20 + 1);
	assert_int_equal(rig_populated(rig.from_fd), populated);
	assert_int_equal(rig_compare(&rig), RIG_PAGES);
	rig_close(&rig);
}

static void what_a_rehearsal_left_is_gone(void **state _unused_)
{
	struct pages_rig rig;

	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 1, .wire = RIG_TCP }));
	memset(rig.to + 77 * PAGE_BYTES, 1, PAGE_BYTES);
	rig_start(&rig);
	one_round(&rig, true);
	assert_int_equal(rig_compare(&rig), RIG_PAGES);
	rig_close(&rig);
}

/* A page written all the time goes as what changed of it: few bytes on the wire. */
static void deltas_are_small(void **state _unused_)
{
	struct stream_counts before, after;
	struct move_numbers numbers;
	struct pages_rig rig;
	uint64_t seed = 3;

	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 1,
							  .wire = RIG_TCP,
							  .compress = MOVE_COMPRESS_ON }));
	rig_start(&rig);
	for (uint64_t page = 0; page < 1000; page++)
		rig_fill_random(&rig, page, &seed);
	one_round(&rig, false);
	for (int round = 0; round < 3; round++) {
		stream_counts(rig.near[0], &before);
		for (uint64_t page = 0; page < 1000; page++) {
			rig.from[page * PAGE_BYTES + 100] ^= (uint8_t)(round + 1);
			rig_mark(&rig, page);
		}
		one_round(&rig, round == 2);
		stream_counts(rig.near[0], &after);
	}
	assert_true(after.wire_sent - before.wire_sent < 1000 * PAGE_BYTES / 50);
	pages_send_numbers(rig.sender, &numbers);
	assert_true(numbers.delta_pages >= 2000);
	assert_int_equal(rig_compare(&rig), RIG_PAGES);
	rig_close(&rig);
}

static void a_round_that_runs_can_be_left(void **state _unused_)
{
	struct pages_rig rig;
	uint64_t seed = 1;

	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 2,
							  .wire = RIG_TCP,
							  .max_bandwidth = KIB(64) }));
	for (uint64_t page = 0; page < RIG_PAGES; page++)
		rig_fill_random(&rig, page, &seed);
	rig_start(&rig);
	pages_send_begin(rig.sender, 1, false);
	assert_int_equal(pages_send_wait(rig.sender, 20, NULL), 0);
	pages_send_free(TAKE_PTR(rig.sender));
	for (int i = 0; i < 2; i++)
		stream_cancel(rig.far[i]);
	pthread_join(rig.far_thread, NULL);
	assert_true(rig.far_result < 0);
	assert_non_null(strstr(rig.far_error.message, "stream"));
	rig_close(&rig);
}

static void a_cut_stream_is_told(void **state _unused_)
{
	struct pages_rig rig;
	struct error err = { 0 };
	uint64_t seed = 1;
	int r = 0;

	assert_true(
		rig_open(&rig, &(struct rig_options){ .n_streams = 2, .wire = RIG_SOCKETPAIR }));
	for (uint64_t page = 0; page < RIG_PAGES; page++)
		rig_fill_random(&rig, page, &seed);
	rig_start(&rig);
	stream_cancel(rig.far[1]);
	pages_send_begin(rig.sender, 1, false);
	stream_cancel(rig.near[1]);
	while (r == 0)
		r = pages_send_wait(rig.sender, 100, &err);
	assert_true(r < 0);
	assert_non_null(strstr(err.message, "stream 1"));
	pages_send_free(TAKE_PTR(rig.sender));
	stream_cancel(rig.far[0]);
	pthread_join(rig.far_thread, NULL);
	assert_true(rig.far_result < 0);
	rig_close(&rig);
}

static void lost_dirty_bit_is_noticed(void **state _unused_)
{
	struct pages_rig rig;

	assert_true(rig_open(&rig, &(struct rig_options){ .n_streams = 2, .wire = RIG_TCP }));
	fill(&rig);
	move(&rig, true);
	assert_int_equal(rig_compare(&rig), 1234);
	rig_close(&rig);
}

/* An argument is a pattern: which of them. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(tls),
		cmocka_unit_test(local_sockets),
		cmocka_unit_test(packed_with_deltas),
		cmocka_unit_test(never_packed),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(limited_bandwidth),
		cmocka_unit_test(a_slow_wire_is_noticed),
		cmocka_unit_test(holes_stay_holes),
		cmocka_unit_test(what_a_rehearsal_left_is_gone),
		cmocka_unit_test(deltas_are_small),
		cmocka_unit_test(a_round_that_runs_can_be_left),
		cmocka_unit_test(a_cut_stream_is_told),
		cmocka_unit_test(lost_dirty_bit_is_noticed),
	};

	signal(SIGPIPE, SIG_IGN); /* as programs that use streams do */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
