/* SPDX-License-Identifier: Apache-2.0 */

/* The devices' timer: set by any thread, expiring on the loop. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device/timer.h"

struct rig {
	struct fake_clock clock;
	struct loop *loop;
	struct device_timer timer;
	unsigned int expired;
	uint64_t again; /* set by the callback, relative to now; 0: not */
};

static void expired(struct device_timer *timer)
{
	struct rig *rig = container_of(timer, struct rig, timer);

	rig->expired++;
	if (rig->again)
		device_timer_set(timer, rig->clock.now_ns + rig->again);
}

static void setup(struct rig *rig)
{
	*rig = (struct rig){ 0 };
	fake_clock_init(&rig->clock, 1000, 0);
	rig->loop = loop_new(&rig->clock.clock);
	assert_non_null(rig->loop);
	assert_int_equal(device_timer_init(&rig->timer, rig->loop, expired), 0);
}

static void teardown(struct rig *rig)
{
	device_timer_release(&rig->timer);
	loop_free(rig->loop);
}

static void go_to(struct rig *rig, uint64_t now)
{
	fake_clock_advance(&rig->clock, now - rig->clock.now_ns);
	assert_int_equal(loop_turn(rig->loop, 0), 0);
}

static void expires_once_when_due(void **state)
{
	struct rig rig;

	setup(&rig);
	device_timer_set(&rig.timer, 2000);
	go_to(&rig, 1999);
	assert_int_equal(rig.expired, 0);
	go_to(&rig, 2000);
	assert_int_equal(rig.expired, 1);
	go_to(&rig, 5000);
	assert_int_equal(rig.expired, 1);
	teardown(&rig);
}

static void a_time_past_is_at_once(void **state)
{
	struct rig rig;

	setup(&rig);
	device_timer_set(&rig.timer, 1);
	go_to(&rig, 1000);
	assert_int_equal(rig.expired, 1);
	teardown(&rig);
}

static void moved_earlier_and_later(void **state)
{
	struct rig rig;

	setup(&rig);
	device_timer_set(&rig.timer, 3000);
	go_to(&rig, 1500);
	device_timer_set(&rig.timer, 2000);
	go_to(&rig, 2000);
	assert_int_equal(rig.expired, 1);
	device_timer_set(&rig.timer, 3000);
	go_to(&rig, 2500);
	device_timer_set(&rig.timer, 4000);
	go_to(&rig, 3500); /* the loop looks here, in vain */
	assert_int_equal(rig.expired, 1);
	go_to(&rig, 4000);
	assert_int_equal(rig.expired, 2);
	teardown(&rig);
}

static void cancelled(void **state)
{
	struct rig rig;

	setup(&rig);
	device_timer_set(&rig.timer, 2000);
	go_to(&rig, 1500);
	device_timer_set(&rig.timer, DEVICE_TIMER_NEVER);
	go_to(&rig, 3000);
	assert_int_equal(rig.expired, 0);
	device_timer_set(&rig.timer, 4000);
	go_to(&rig, 4000);
	assert_int_equal(rig.expired, 1);
	teardown(&rig);
}

static void set_again_by_its_callback(void **state)
{
	struct rig rig;

	setup(&rig);
	rig.again = 100;
	device_timer_set(&rig.timer, 1100);
	for (uint64_t now = 1000; now <= 2000; now += 50)
		go_to(&rig, now);
	assert_int_equal(rig.expired, 10);
	teardown(&rig);
}

static void release_of_nothing(void **state)
{
	struct device_timer timer = { 0 };

	device_timer_release(&timer);
	assert_null(timer.loop);
}

static void *set_often(void *arg)
{
	struct rig *rig = arg;

	for (uint64_t i = 0; i < 2000; i++)
		device_timer_set(&rig->timer, i % 3 ? 1000 + i : DEVICE_TIMER_NEVER);
	device_timer_set(&rig->timer, 1);
	return NULL;
}

/* Another thread sets while the loop turns; the last word counts. */
static void other_threads_may_set(void **state)
{
	struct rig rig;
	pthread_t thread;
	unsigned int before;

	setup(&rig);
	assert_int_equal(pthread_create(&thread, NULL, set_often, &rig), 0);
	for (unsigned int i = 0; i < 500; i++)
		assert_int_equal(loop_turn(rig.loop, 0), 0);
	pthread_join(thread, NULL);
	before = rig.expired;
	go_to(&rig, 1000);
	assert_true(before > 0 || rig.expired == 1);
	go_to(&rig, 10000);
	assert_true(rig.expired >= 1);
	before = rig.expired;
	go_to(&rig, 20000);
	assert_int_equal(rig.expired, before);
	teardown(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expires_once_when_due),
		cmocka_unit_test(a_time_past_is_at_once),
		cmocka_unit_test(moved_earlier_and_later),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(set_again_by_its_callback),
		cmocka_unit_test(release_of_nothing),
		cmocka_unit_test(other_threads_may_set),
	};

	return cmocka_run_group_tests_name("device-timer", tests, NULL, NULL);
}
