/* SPDX-License-Identifier: Apache-2.0 */

/* What a receiver of memory makes of frames that a sender of ours would not send, or not so. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/map.h"
#include "move/pages/sum.h"
#include "move/pages/receive.h"
#include "move/protocol.h"

#define BYTES MIB(1)
#define IDLE_MS 300

struct rig {
	int fd;
	uint8_t *ram;
	uint32_t n_streams;
	struct stream *near[2], *far[2];
	struct frame_writer writers[2];
	struct frame_reader readers[2];
	struct pages_target *target;
	struct pages_receiver *receiver;
	struct error err;
};

static void open_rig(struct rig *rig, uint32_t n_streams)
{
	*rig = (struct rig){ .n_streams = n_streams };
	rig->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_return_code(ftruncate(rig->fd, BYTES), errno);
	rig->ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	for (uint32_t i = 0; i < n_streams; i++) {
		int fds[2];

		assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
		assert_int_equal(stream_plain(fds[0], 5000, &rig->near[i]), 0);
		assert_int_equal(stream_plain(fds[1], 5000, &rig->far[i]), 0);
		rig->writers[i] = (struct frame_writer){ .stream = rig->near[i] };
		frame_reader_init(&rig->readers[i], rig->far[i]);
	}
	assert_int_equal(pages_target_new(rig->fd, BYTES, true, &rig->target, &rig->err), 0);
	assert_int_equal(
		pages_receive_new(&(struct pages_receive_settings){ .target = rig->target,
								    .readers = rig->readers,
								    .n_streams = n_streams,
								    .idle_ms = IDLE_MS },
				  &rig->receiver, &rig->err),
		0);
}

static void close_rig(struct rig *rig)
{
	pages_receive_free(rig->receiver);
	pages_target_free(rig->target);
	for (uint32_t i = 0; i < rig->n_streams; i++) {
		frame_reader_release(&rig->readers[i]);
		stream_free(rig->near[i]);
		stream_free(rig->far[i]);
	}
	munmap(rig->ram, BYTES);
	close(rig->fd);
}

static void put(struct rig *rig, uint32_t stream, uint16_t kind, const void *payload, size_t len)
{
	assert_int_equal(frame_send(&rig->writers[stream], kind, payload, len), 0);
}

static void put_page(struct rig *rig, uint32_t stream, uint64_t page, uint8_t byte)
{
	uint8_t payload[8 + PAGE_BYTES];

	le_store(payload, 8, page);
	memset(payload + 8, byte, PAGE_BYTES);
	put(rig, stream, MOVE_PAGES, payload, sizeof(payload));
}

static void put_round(struct rig *rig, uint32_t stream, uint32_t number, bool last)
{
	uint8_t payload[5];

	le_store(payload, 4, number);
	payload[4] = last;
	put(rig, stream, MOVE_ROUND, payload, sizeof(payload));
}

static int receive_round(struct rig *rig, struct pages_round *ret_round, struct frame *ret_frame)
{
	return pages_receive_round(rig->receiver, ret_round, ret_frame, &rig->err);
}

/* The rest of round 1 comes late on stream 1, when round 2 is over on stream 0. */
static void *send_late(void *arg)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct rig *rig = arg;

	nanosleep(&pause, NULL);
	put_page(rig, 1, 7, 1);
	put_round(rig, 1, 1, false);
	put_round(rig, 1, 2, true);
	return NULL;
}

static void rounds_do_not_overtake_each_other(void **state _unused_)
{
	struct pages_round round;
	struct frame frame;
	struct rig rig;
	pthread_t late;

	open_rig(&rig, 2);
	put_round(&rig, 0, 1, false);
	put_page(&rig, 0, 7, 2);
	put_round(&rig, 0, 2, true);
	pthread_create(&late, NULL, send_late, &rig);
	assert_int_equal(receive_round(&rig, &round, &frame), 1);
	assert_int_equal(round.number, 1);
	assert_false(round.last);
	assert_int_equal(receive_round(&rig, &round, &frame), 1);
	assert_true(round.last);
	pthread_join(late, NULL);
	pages_receive_free(TAKE_PTR(rig.receiver));
	assert_int_equal(rig.ram[7 * PAGE_BYTES], 2);
	close_rig(&rig);
}

static void other_frames_of_stream_0_are_the_callers(void **state _unused_)
{
	struct pages_round round;
	struct frame frame;
	struct rig rig;

	open_rig(&rig, 2);
	put_page(&rig, 0, 1, 9);
	put(&rig, 0, MOVE_CANCEL, "", 0);
	put_round(&rig, 0, 1, true);
	put_round(&rig, 1, 1, true);
	assert_int_equal(receive_round(&rig, &round, &frame), 0);
	assert_int_equal(frame.kind, MOVE_CANCEL);
	assert_int_equal(receive_round(&rig, &round, &frame), 1);
	assert_int_equal(rig.ram[PAGE_BYTES], 9);
	close_rig(&rig);
}

static void check_refused(struct rig *rig, const char *why)
{
	struct pages_round round;
	struct frame frame;

	assert_true(receive_round(rig, &round, &frame) < 0);
	assert_non_null(strstr(rig->err.message, why));
	close_rig(rig);
}

static void pages_beyond_memory_are_refused(void **state _unused_)
{
	static const uint64_t pages[] = { BYTES / PAGE_BYTES, UINT64_MAX,
					  UINT64_MAX / PAGE_BYTES + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		struct rig rig;

		open_rig(&rig, 1);
		put_page(&rig, 0, pages[i], 1);
		check_refused(&rig, "beyond the end of memory");
	}
}

static void half_pages_are_refused(void **state _unused_)
{
	uint8_t payload[8 + 100] = { 0 };
	struct rig rig;

	open_rig(&rig, 1);
	put(&rig, 0, MOVE_PAGES, payload, sizeof(payload));
	check_refused(&rig, "impossible length");
	open_rig(&rig, 1);
	put(&rig, 0, MOVE_PAGES, payload, 8);
	check_refused(&rig, "impossible length");
}

static void ranges_of_zeros_are_judged(void **state _unused_)
{
	static const struct {
		uint64_t first;
		uint32_t n;
	} ranges[] = { { 0, 0 }, { 255, 2 }, { UINT64_MAX, 1 }, { 0, UINT32_MAX } };

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		uint8_t payload[12];
		struct rig rig;

		open_rig(&rig, 1);
		le_store(payload, 8, ranges[i].first);
		le_store(payload + 8, 4, ranges[i].n);
		put(&rig, 0, MOVE_ZEROES, payload, sizeof(payload));
		check_refused(&rig, "zeros that cannot be");
	}
}

static void rounds_out_of_order_are_refused(void **state _unused_)
{
	struct rig rig;

	open_rig(&rig, 1);
	put_round(&rig, 0, 2, false);
	check_refused(&rig, "another round");
	open_rig(&rig, 2);
	put_round(&rig, 0, 1, true);
	put_round(&rig, 1, 1, false);
	check_refused(&rig, "another round");
}

static void frames_of_another_kind_on_other_streams_are_refused(void **state _unused_)
{
	struct rig rig;

	open_rig(&rig, 2);
	put(&rig, 1, MOVE_COMMIT, "", 0);
	put_round(&rig, 0, 1, true);
	check_refused(&rig, "stream 1: a frame that belongs on stream 0");
}

static void a_stream_that_ends_is_named(void **state _unused_)
{
	struct rig rig;

	open_rig(&rig, 2);
	put_round(&rig, 0, 1, true);
	stream_cancel(rig.near[1]);
	stream_free(rig.near[1]);
	rig.near[1] = NULL;
	check_refused(&rig, "stream 1");
}

static void silence_has_an_end(void **state _unused_)
{
	struct rig rig;

	open_rig(&rig, 2);
	put_round(&rig, 0, 1, true);
	check_refused(&rig, "stream 1: nothing came for too long");
}

/* ---- sums ---- */

static void random_page(uint64_t *seed, uint64_t *page)
{
	for (size_t i = 0; i < PAGE_BYTES / 8; i++)
		page[i] = *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
}

static void a_sum_finds_each_flipped_bit(void **state _unused_)
{
	static uint64_t page[PAGE_BYTES / 8];
	uint64_t seed = 1, sum;

	random_page(&seed, page);
	sum = page_sum(page);
	for (size_t bit = 0; bit < PAGE_BYTES * 8; bit++) {
		page[bit / 64] ^= 1ULL << bit % 64;
		assert_int_not_equal(page_sum(page), sum);
		page[bit / 64] ^= 1ULL << bit % 64;
	}
	assert_int_equal(page_sum(page), sum);
}

/* What happens in memories and buffers besides: words change places, get lost, stand where others did. */
static void a_sum_finds_what_moved(void **state _unused_)
{
	static uint64_t page[PAGE_BYTES / 8], other[PAGE_BYTES / 8];
	uint64_t seed = 2;

	random_page(&seed, page);
	for (size_t i = 0; i + 1 < ARRAY_SIZE(page); i++) {
		memcpy(other, page, sizeof(page));
		other[i] = page[i + 1];
		other[i + 1] = page[i];
		assert_int_not_equal(page_sum(other), page_sum(page));
		memcpy(other, page, sizeof(page));
		memset(other + i, 0, sizeof(page) - i * 8);
		assert_int_not_equal(page_sum(other), page_sum(page));
		memcpy(other, page, sizeof(page));
		memmove(other + i + 1, page + i, sizeof(page) - (i + 1) * 8);
		assert_int_not_equal(page_sum(other), page_sum(page));
	}
}

#define SUMMED_PAGES 3

/* Pages 5, 6 and 7; `at`: a byte of the payload that is another's when it comes, -1: none. */
static void put_summed(struct rig *rig, int at)
{
	static uint8_t payload[PAGE_SUMS_BYTES(SUMMED_PAGES) + SUMMED_PAGES * PAGE_BYTES];
	uint8_t *pages = payload + PAGE_SUMS_BYTES(SUMMED_PAGES);
	const struct frame frame = { .kind = MOVE_SUMMED, .len = sizeof(payload) };
	const struct iovec iov = { payload, sizeof(payload) };

	for (size_t i = 0; i < SUMMED_PAGES * PAGE_BYTES; i++)
		pages[i] = (uint8_t)(i * 31 >> 3);
	page_sums_fill(5, SUMMED_PAGES, pages, payload);
	if (at >= 0)
		payload[at] ^= 0x10;
	assert_int_equal(frame_send_header(&rig->writers[0], &frame), 0);
	assert_int_equal(stream_send(rig->near[0], &iov, 1, false), 0);
}

/* The `n`th round, when all that is to come of it was put. */
static void finish_round(struct rig *rig, uint32_t n)
{
	struct pages_round round;
	struct frame frame;

	put_round(rig, 0, n, false);
	assert_int_equal(receive_round(rig, &round, &frame), 1);
}

static void pages_that_agree_are_whole(void **state _unused_)
{
	struct rig rig;

	open_rig(&rig, 1);
	put_summed(&rig, -1);
	finish_round(&rig, 1);
	assert_int_equal(pages_target_whole(rig.target, &rig.err), 0);
	assert_int_equal(rig.ram[5 * PAGE_BYTES + 8], 31);
	close_rig(&rig);
}

#define LAST_PAGE_AT (PAGE_SUMS_BYTES(SUMMED_PAGES) + (SUMMED_PAGES - 1) * PAGE_BYTES + 100)

static void assert_not_whole(struct rig *rig)
{
	assert_int_equal(pages_target_whole(rig->target, &rig->err), -EBADMSG);
	assert_non_null(strstr(rig->err.message, "1 pages are not as they were sent"));
}

/* A guest that writes while its page is sent looks the same: such a page comes again. */
static void a_page_that_disagrees_may_come_again(void **state _unused_)
{
	const uint8_t zeroes[12] = { [0] = 7, [8] = 1 };
	struct rig rig;

	open_rig(&rig, 1);
	put_summed(&rig, (int)LAST_PAGE_AT);
	finish_round(&rig, 1);
	assert_not_whole(&rig);
	put_summed(&rig, -1);
	finish_round(&rig, 2);
	assert_int_equal(pages_target_whole(rig.target, &rig.err), 0);
	put_summed(&rig, (int)LAST_PAGE_AT);
	put_page(&rig, 0, 6, 1); /* another */
	finish_round(&rig, 3);
	assert_not_whole(&rig);
	put_page(&rig, 0, 7, 1);
	finish_round(&rig, 4);
	assert_int_equal(pages_target_whole(rig.target, &rig.err), 0);
	put_summed(&rig, (int)LAST_PAGE_AT);
	finish_round(&rig, 5);
	put(&rig, 0, MOVE_ZEROES, zeroes, sizeof(zeroes));
	finish_round(&rig, 6);
	assert_int_equal(pages_target_whole(rig.target, &rig.err), 0);
	close_rig(&rig);
}

/* A page that lands elsewhere would be found by nobody: the one that it should have been agrees with what it was. */
static void damaged_sums_are_refused_at_once(void **state _unused_)
{
	for (int at = 0; at < (int)PAGE_SUMS_BYTES(SUMMED_PAGES); at++) {
		struct rig rig;

		open_rig(&rig, 1);
		put_summed(&rig, at);
		check_refused(&rig, "sums of pages were damaged");
	}
}

static void sums_of_an_impossible_length_are_refused(void **state _unused_)
{
	static const size_t lengths[] = { 1, 12, PAGE_SUMS_BYTES(1),
					  PAGE_SUMS_BYTES(1) + PAGE_BYTES - 1 };
	uint8_t payload[PAGE_SUMS_BYTES(1) + PAGE_BYTES] = { 0 };
	struct rig rig;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		open_rig(&rig, 1);
		put(&rig, 0, MOVE_SUMMED, payload, lengths[i]);
		check_refused(&rig, "impossible length");
	}
	open_rig(&rig, 1);
	put(&rig, 0, MOVE_SUMMED, payload, sizeof(payload)); /* and with a checksum of its own */
	check_refused(&rig, "impossible length");
}

static void leaving_ends_the_threads(void **state _unused_)
{
	struct rig rig;

	open_rig(&rig, 2);
	close_rig(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rounds_do_not_overtake_each_other),
		cmocka_unit_test(other_frames_of_stream_0_are_the_callers),
		cmocka_unit_test(pages_beyond_memory_are_refused),
		cmocka_unit_test(half_pages_are_refused),
		cmocka_unit_test(ranges_of_zeros_are_judged),
		cmocka_unit_test(rounds_out_of_order_are_refused),
		cmocka_unit_test(frames_of_another_kind_on_other_streams_are_refused),
		cmocka_unit_test(a_stream_that_ends_is_named),
		cmocka_unit_test(silence_has_an_end),
		cmocka_unit_test(leaving_ends_the_threads),
		cmocka_unit_test(a_sum_finds_each_flipped_bit),
		cmocka_unit_test(a_sum_finds_what_moved),
		cmocka_unit_test(pages_that_agree_are_whole),
		cmocka_unit_test(a_page_that_disagrees_may_come_again),
		cmocka_unit_test(damaged_sums_are_refused_at_once),
		cmocka_unit_test(sums_of_an_impossible_length_are_refused),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
