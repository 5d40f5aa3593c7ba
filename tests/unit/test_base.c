/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/worker.h"
#include "check.h"

static void error_keeps_the_first_cause(void **state _unused_)
{
	struct error err = { 0 };

	assert_int_equal(error_set(&err, -EBUSY, EXIT_STATUS_BUSY, "first"), -EBUSY);
	assert_int_equal(error_set(&err, -EIO, EXIT_STATUS_FAILED, "second"), -EIO);
	assert_string_equal(err.message, "first");
	assert_int_equal(err.status, EXIT_STATUS_BUSY);
	assert_int_equal(error_set(NULL, -EIO, EXIT_STATUS_FAILED, "nobody"), -EIO);
}

static void error_shows_no_control_characters(void **state _unused_)
{
	struct error err = { 0 };

	error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "bad \x1b[31m name\n");
	assert_string_equal(err.message, "bad ?[31m name?");
}

static void problems_have_a_limit(void **state _unused_)
{
	static struct problems problems;
	struct error err = { .code = -EINVAL, .message = "x" };

	for (int i = 0; i < PROBLEMS_MAX + 5; i++)
		problems_add(&problems, &err);
	assert_int_equal(problems.count, PROBLEMS_MAX);
	assert_string_equal(problems.list[PROBLEMS_MAX - 1].message, "and more problems");
}

static void ranges_do_not_overflow(void **state _unused_)
{
	assert_true(range_fits(0, 10, 10));
	assert_false(range_fits(1, 10, 10));
	assert_false(range_fits(UINT64_MAX, 2, UINT64_MAX));
	assert_false(range_fits(2, UINT64_MAX, UINT64_MAX));
}

static void buffer_gives_whole_lines(void **state _unused_)
{
	struct buffer b;
	size_t len;

	buffer_init(&b, 64);
	assert_null(buffer_line(&b, &len));
	buffer_consume(&b, 0);
	assert_int_equal(buffer_append(&b, "one\n\ntw", 7), 0);
	assert_memory_equal(buffer_line(&b, &len), "one", 3);
	assert_int_equal(len, 3);
	buffer_consume(&b, len + 1);
	assert_non_null(buffer_line(&b, &len));
	assert_int_equal(len, 0);
	buffer_consume(&b, len + 1);
	assert_null(buffer_line(&b, &len));
	assert_int_equal(b.len, 2);
	buffer_release(&b);
}

static void buffer_stops_at_its_limit(void **state _unused_)
{
	struct buffer b;

	buffer_init(&b, 10);
	assert_int_equal(buffer_append(&b, "12345678", 8), 0);
	assert_int_equal(buffer_append(&b, "123", 3), -E2BIG);
	assert_int_equal(buffer_append_le(&b, 0x0102, 2), 0);
	assert_memory_equal(b.data, "12345678\x02\x01", 10);
	buffer_release(&b);
}

static void cursor_stays_bad(void **state _unused_)
{
	const uint8_t bytes[] = { 1, 2, 3 };
	struct cursor c = { .data = bytes, .left = 3 };

	assert_int_equal(cursor_take_le(&c, 2), 0x0201);
	assert_null(cursor_take(&c, 2));
	assert_true(c.bad);
	assert_int_equal(cursor_take_le(&c, 1), 0);
}

struct timed {
	struct loop_timer timer;
	struct loop *loop;
	int fired;
	uint64_t again_ns;
};

static void count_fired(struct loop_timer *timer)
{
	struct timed *timed = container_of(timer, struct timed, timer);

	timed->fired++;
	if (timed->again_ns)
		loop_timer_arm(timed->loop, timer, timer->due_ns + timed->again_ns);
}

static void timers_follow_the_loops_clock(void **state _unused_)
{
	struct fake_clock fake;
	struct timed early = { 0 }, late = { 0 };
	struct loop *loop;

	fake_clock_init(&fake, 100, 0);
	loop = loop_new(&fake.clock);
	loop_timer_init(&early.timer, count_fired);
	loop_timer_init(&late.timer, count_fired);
	loop_timer_arm(loop, &late.timer, 300);
	loop_timer_arm(loop, &early.timer, 200);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(early.fired, 0);
	fake_clock_advance(&fake, 100);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(early.fired, 1);
	assert_int_equal(late.fired, 0);
	loop_timer_cancel(&late.timer);
	fake_clock_advance(&fake, 1000);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(late.fired, 0);
	loop_free(loop);
}

static void a_timer_that_rearms_fires_once_a_turn(void **state _unused_)
{
	struct fake_clock fake;
	struct timed timed = { .again_ns = 1 };

	fake_clock_init(&fake, 1000, 0);
	timed.loop = loop_new(&fake.clock);
	loop_timer_init(&timed.timer, count_fired);
	loop_timer_arm(timed.loop, &timed.timer, 1);
	assert_int_equal(loop_turn(timed.loop, 0), 0);
	assert_int_equal(timed.fired, 1);
	loop_free(timed.loop);
}

struct pair_watch {
	struct loop_watch watch;
	struct loop *loop;
	struct pair_watch *other;
	int calls;
};

static void remove_the_other(struct loop_watch *watch, uint32_t events _unused_)
{
	struct pair_watch *pair = container_of(watch, struct pair_watch, watch);

	pair->calls++;
	loop_remove(pair->loop, &pair->other->watch);
}

static void a_watch_removed_in_a_turn_is_not_called(void **state _unused_)
{
	struct loop *loop = loop_new(&clock_host);
	struct pair_watch a = { .loop = loop }, b = { .loop = loop, .other = &a };

	a.other = &b;
	a.watch = (struct loop_watch){ fd_new_event(), EPOLLIN, remove_the_other };
	b.watch = (struct loop_watch){ fd_new_event(), EPOLLIN, remove_the_other };
	assert_int_equal(loop_add(loop, &a.watch), 0);
	assert_int_equal(loop_add(loop, &b.watch), 0);
	fd_signal_event(a.watch.fd);
	fd_signal_event(b.watch.fd);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_free(loop);
	fd_close(a.watch.fd);
	fd_close(b.watch.fd);
}

static void descriptors_travel(void **state _unused_)
{
	int socks[2], event = fd_new_event(), fds[2], two[2] = { event, event };
	size_t len, n;
	char buf[8];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), 0);
	assert_int_equal(fd_send(socks[0], "hi", 2, &event, 1), 0);
	assert_int_equal(fd_receive(socks[1], buf, sizeof(buf), &len, fds, 2, &n), 0);
	assert_int_equal(len, 2);
	assert_int_equal(n, 1);
	fd_close(fds[0]);
	/* More descriptors than asked for are closed, not leaked. */
	assert_int_equal(fd_send(socks[0], "hi", 2, two, 2), 0);
	assert_int_equal(fd_receive(socks[1], buf, sizeof(buf), &len, fds, 1, &n), 0);
	assert_int_equal(n, 1);
	fd_close(fds[0]);
	assert_int_equal(fd_send(socks[0], "too long!", 9, NULL, 0), 0);
	assert_int_equal(fd_receive(socks[1], buf, sizeof(buf), &len, fds, 1, &n), -EMSGSIZE);
	fd_close(socks[0]);
	assert_int_equal(fd_receive(socks[1], buf, sizeof(buf), &len, fds, 1, &n), -ECONNRESET);
	fd_close(socks[1]);
	fd_close(event);
}

/* A worker that counts turns of a self-signalling event: it never rests by itself. */
struct busy {
	struct loop_watch watch;
	uint64_t count;
};

static void keep_busy(struct loop_watch *watch, uint32_t events _unused_)
{
	struct busy *busy = container_of(watch, struct busy, watch);

	__atomic_add_fetch(&busy->count, 1, __ATOMIC_RELAXED);
}

static struct worker *start_busy(struct busy *busy, struct quiesce *quiesce)
{
	struct worker *worker = worker_new("busy", &clock_host, quiesce);

	busy->watch = (struct loop_watch){ fd_new_event(), EPOLLIN, keep_busy };
	fd_signal_event(busy->watch.fd);
	assert_int_equal(loop_add(worker_loop(worker), &busy->watch), 0);
	assert_int_equal(worker_start(worker, NULL), 0);
	return worker;
}

static void count_work(void *owner _unused_, void *arg)
{
	__atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
}

static void the_barrier_stops_busy_workers(void **state _unused_)
{
	struct quiesce quiesce;
	struct busy busy[3] = { 0 };
	struct worker *workers[3];
	int worked = 0;

	quiesce_init(&quiesce);
	for (int i = 0; i < 3; i++)
		workers[i] = start_busy(&busy[i], &quiesce);
	for (int round = 0; round < 200; round++) {
		uint64_t before, after;

		quiesce_begin(&quiesce);
		before = busy[0].count + busy[1].count + busy[2].count;
		usleep(50);
		after = busy[0].count + busy[1].count + busy[2].count;
		assert_int_equal(before, after);
		quiesce_end(&quiesce);
	}
	while (!__atomic_load_n(&busy[2].count, __ATOMIC_RELAXED))
		usleep(100); /* all three have joined */
	quiesce_begin(&quiesce);
	quiesce_begin(&quiesce); /* nests */
	quiesce_run(&quiesce, QUIESCE_WORKER, count_work, &worked);
	assert_in_range(worked, 1, 3);
	worked = 0;
	quiesce_run(&quiesce, QUIESCE_VCPU, count_work, &worked);
	assert_int_equal(worked, 0);
	quiesce_end(&quiesce);
	quiesce_end(&quiesce);
	for (int i = 0; i < 3; i++) {
		worker_free(workers[i]);
		fd_close(busy[i].watch.fd);
	}
	quiesce_destroy(&quiesce);
}

static void note_thread(void *arg)
{
	*(pthread_t *)arg = pthread_self();
}

static void a_call_runs_on_the_workers_thread(void **state _unused_)
{
	struct quiesce quiesce;
	struct worker *worker;
	pthread_t seen = pthread_self();

	quiesce_init(&quiesce);
	worker = worker_new("called", &clock_host, &quiesce);
	worker_call(worker, note_thread, &seen);
	assert_true(pthread_equal(seen, pthread_self()));
	assert_int_equal(worker_start(worker, NULL), 0);
	worker_call(worker, note_thread, &seen);
	assert_false(pthread_equal(seen, pthread_self()));
	worker_free(worker);
	quiesce_destroy(&quiesce);
}

/* In a child: it closes what the test runner has open. */
static void others_are_closed(void **state _unused_)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		int a = dup2(0, 40), b = dup2(0, 41), c = dup2(0, 70), d = dup2(0, 200);
		const int kept[] = { c, -1, a, 3000 };

		fd_close_others(kept, ARRAY_SIZE(kept));
		_exit(fcntl(a, F_GETFD) >= 0 && fcntl(c, F_GETFD) >= 0 && fcntl(1, F_GETFD) >= 0 &&
				      fcntl(b, F_GETFD) < 0 && fcntl(d, F_GETFD) < 0 &&
				      fcntl(3, F_GETFD) < 0
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_keeps_the_first_cause),
		cmocka_unit_test(error_shows_no_control_characters),
		cmocka_unit_test(problems_have_a_limit),
		cmocka_unit_test(ranges_do_not_overflow),
		cmocka_unit_test(buffer_gives_whole_lines),
		cmocka_unit_test(buffer_stops_at_its_limit),
		cmocka_unit_test(cursor_stays_bad),
		cmocka_unit_test(timers_follow_the_loops_clock),
		cmocka_unit_test(a_timer_that_rearms_fires_once_a_turn),
		cmocka_unit_test(a_watch_removed_in_a_turn_is_not_called),
		cmocka_unit_test(descriptors_travel),
		cmocka_unit_test(the_barrier_stops_busy_workers),
		cmocka_unit_test(a_call_runs_on_the_workers_thread),
		cmocka_unit_test(others_are_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
