/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the ring refuses: io_uring passes by seccomp, so the ring itself allows only its few operations on
 * its one file. The source is included, because nothing outside can reach the ring.
 */

#include "block_rig.h"

#include "block/raw_queue.c"

static int setup(void **state)
{
	static struct rig rig;

	rig_make_file(&rig, "/var/tmp", MIB(1));
	rig_open(&rig, true);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	rig_close(*state);
	return 0;
}

static struct raw_queue *enabled_queue(struct rig *rig)
{
	struct raw_queue *q = container_of(rig->queue, struct raw_queue, queue);

	assert_true(ring_enable(q));
	return q;
}

/* Submits the one prepared entry past the queue, and gives its result. */
static int answer(struct raw_queue *q)
{
	struct io_uring_cqe *cqe;
	int result;

	assert_int_equal(io_uring_submit(&q->ring), 1);
	assert_int_equal(io_uring_wait_cqe(&q->ring, &cqe), 0);
	result = cqe->res;
	io_uring_cqe_seen(&q->ring, cqe);
	return result;
}

static void test_its_own_reads_pass(void **state)
{
	struct raw_queue *q = enabled_queue(*state);
	_cleanup_(freep) uint8_t *buf = rig_buffer(4096, 0);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	io_uring_prep_read(sqe, 0, buf, 4096, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	assert_int_equal(answer(q), 4096);
}

static void test_no_other_operation(void **state)
{
	struct raw_queue *q = enabled_queue(*state);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	assert_int_equal(answer(q), -EACCES);
	sqe = io_uring_get_sqe(&q->ring);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	assert_int_equal(answer(q), -EACCES);
}

static void test_no_other_file(void **state)
{
	struct raw_queue *q = enabled_queue(*state);
	_cleanup_(freep) uint8_t *buf = rig_buffer(4096, 0);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	io_uring_prep_read(sqe, q->raw->fd, buf, 4096, 0);
	assert_int_equal(answer(q), -EACCES);
	sqe = io_uring_get_sqe(&q->ring);
	io_uring_prep_read(sqe, 1, buf, 4096, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	assert_int_equal(answer(q), -EBADF);
}

static void test_no_new_file_or_buffer(void **state)
{
	struct raw_queue *q = enabled_queue(*state);
	uint8_t byte;
	struct iovec iov = { &byte, 1 };

	assert_int_equal(io_uring_unregister_files(&q->ring), -EACCES);
	assert_int_equal(io_uring_register_buffers(&q->ring, &iov, 1), -EACCES);
}

/* A ring that cannot be used gives errors: more requests than slots, two of them for the bounce buffer. */
static void test_a_dead_ring_gives_errors(void **state)
{
	struct rig *rig = *state;
	struct raw_queue *q = container_of(rig->queue, struct raw_queue, queue);
	_cleanup_(freep) uint8_t *buf = rig_buffer(8192, 0);
	struct rig_request r[2 * RIG_DEPTH] = { 0 };
	int fd = q->ring.ring_fd;

	q->ring.ring_fd = -1;
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		r[i].request = (struct block_request){ .op = BLOCK_READ, .len = 4096 };
		r[i].iov = (struct iovec){ buf + (i < 2), 4096 };
		rig_submit(rig, &r[i]);
	}
	block_kick(rig->queue);
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
		assert_int_equal(rig_wait(rig, &r[i]), -EIO);
	assert_int_equal(rig_read(rig, 0, buf, 4096), -EIO);
	q->ring.ring_fd = fd;
}

static void test_short_answers_go_on(void **state _unused_)
{
	struct iovec iov[] = { { (void *)0x10000, 4096 }, { (void *)0x20000, 8192 } };
	struct block_request request = { .op = BLOCK_READ, .len = 12288, .iov = iov, .n_iov = 2 };
	struct raw_slot slot = { .request = &request, .at = { .iov = iov } };
	const struct raw_action *read = &raw_actions[BLOCK_READ];
	struct io_uring_sqe sqe;

	assert_int_equal(read->answered(&slot, 512), RAW_AGAIN);
	read->issue(&slot, &sqe);
	assert_int_equal(sqe.opcode, IORING_OP_READ);
	assert_int_equal(sqe.addr, 0x10200);
	assert_int_equal(sqe.len, 4096 - 512);
	assert_int_equal(sqe.off, 512);
	assert_int_equal(read->answered(&slot, 4096 - 512 + 4096), RAW_AGAIN);
	read->issue(&slot, &sqe);
	assert_int_equal(sqe.addr, 0x21000);
	assert_int_equal(sqe.len, 4096);
	assert_int_equal(read->answered(&slot, 4096), 0);
}

static void test_again_and_again_is_an_error(void **state)
{
	struct rig *rig = *state;
	struct raw_queue *q = container_of(rig->queue, struct raw_queue, queue);
	_cleanup_(freep) uint8_t *buf = rig_buffer(4096, 0);
	struct rig_request r = {
		.request = { .op = BLOCK_READ, .len = 4096 },
		.iov = { buf, 4096 },
	};
	struct raw_slot *slot = container_of(q->free.next, struct raw_slot, link);

	q->dead = true; /* nothing goes to the host */
	rig_submit(rig, &r);
	for (int i = 0; i < TRIES_MAX - 1; i++)
		slot_answered(slot, i & 1 ? -EAGAIN : -EINTR);
	assert_int_equal(r.result, RIG_PENDING);
	slot_answered(slot, -EAGAIN);
	assert_int_equal(r.result, -EIO);
}

#define DISK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_its_own_reads_pass),
		DISK_TEST(test_no_other_operation),
		DISK_TEST(test_no_other_file),
		DISK_TEST(test_no_new_file_or_buffer),
		DISK_TEST(test_a_dead_ring_gives_errors),
		DISK_TEST(test_short_answers_go_on),
		DISK_TEST(test_again_and_again_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
