/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of the vCPUs' time, as records in a ring. */
#include "check.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "watch/vcpu_time.h"

static const struct watch_record *sample(struct ring *ring, const clockid_t *clocks, uint32_t n)
{
	uint64_t before = ring->next;

	vcpu_time_write(ring, clocks, n);
	return &ring->records[(before - 1) & ring->mask];
}

static void test_a_sample_tells_each_threads_time(void **state)
{
	_cleanup_(fd_closep) int fd = store_make_fd("vm", 3, 2, 64);
	struct store *store = NULL;
	struct ring *ring;
	clockid_t clocks[2] = { CLOCK_PROCESS_CPUTIME_ID };
	const struct watch_record *first, *second;

	assert_int_equal(store_open(fd, &store), 0);
	ring = store_ring(store, 0, "times");
	assert_int_equal(pthread_getcpuclockid(pthread_self(), &clocks[1]), 0);
	first = sample(ring, clocks, 2);
	assert_int_equal(first[0].sequence, 1);
	assert_int_equal(first[1].sequence, 2);
	assert_int_equal(first[1].kind, RECORD_VCPU);
	assert_int_equal(first[1].source, 1);
	assert_int_equal(first[1].device, STORE_NO_DEVICE);
	for (volatile unsigned int i = 0; i < 3000000; i++)
		;
	second = sample(ring, clocks, 2);
	assert_true(second[1].begin > first[1].begin);
	assert_true(second[1].data > first[1].data);
	store_free(store);
}

/* The middle clock is none: its vCPU is passed over, the others are not. */
static void test_a_thread_that_is_gone_is_passed_over(void **state)
{
	_cleanup_(fd_closep) int fd = store_make_fd("vm", 4, 3, 64);
	struct store *store = NULL;
	struct ring *ring;
	const clockid_t clocks[3] = { CLOCK_THREAD_CPUTIME_ID, 12345, CLOCK_THREAD_CPUTIME_ID };
	const struct watch_record *first;

	assert_int_equal(store_open(fd, &store), 0);
	ring = store_ring(store, 0, "times");
	first = sample(ring, clocks, 3);
	assert_int_equal(ring->header->head, 2);
	assert_int_equal(first[0].source, 0);
	assert_int_equal(first[1].source, 2);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_sample_tells_each_threads_time),
		cmocka_unit_test(test_a_thread_that_is_gone_is_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
