/* SPDX-License-Identifier: Apache-2.0 */

/* The 8254 and port 0x61, as their data sheets have them. Counter 2's output shows at port 0x61, counter 0's at the
 * interrupt line. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "device/pit.h"
#include "device_rig.h"

#define HZ 1193182ULL
#define IRQ 0
#define CONTROL 0x43
#define GATE 0x61

static struct device_rig *make(uint64_t now)
{
	struct device_rig *rig = calloc(1, sizeof(*rig));
	struct irq_line irq;

	rig_init(rig, now);
	irq = rig_line(rig, IRQ);
	assert_int_equal(pit_new(rig->bus, rig->loop, &irq, &rig->device), 0);
	return rig;
}

static struct device_rig *timer_new(void)
{
	return make(5 * NSEC_PER_SEC);
}

static void timer_free(struct device_rig *rig)
{
	rig_release(rig);
	free(rig);
}

static void out(struct device_rig *rig, uint16_t port, uint8_t value)
{
	rig_out(rig, port, 1, value);
}

static uint8_t in(struct device_rig *rig, uint16_t port)
{
	return (uint8_t)rig_in(rig, port, 1);
}

/* Control word with two-byte access, then the count. */
static void program(struct device_rig *rig, unsigned int counter, unsigned int mode, uint16_t count)
{
	out(rig, CONTROL, (uint8_t)(counter << 6 | 0x30 | mode << 1));
	out(rig, (uint16_t)(0x40 + counter), (uint8_t)count);
	out(rig, (uint16_t)(0x40 + counter), (uint8_t)(count >> 8));
}

static uint16_t count(struct device_rig *rig, unsigned int counter)
{
	uint8_t low = in(rig, (uint16_t)(0x40 + counter));

	return (uint16_t)(low | in(rig, (uint16_t)(0x40 + counter)) << 8);
}

static bool output2(struct device_rig *rig)
{
	return in(rig, GATE) & 0x20;
}

/* The first nanosecond with `ticks` pulses behind it. */
static uint64_t ns_of(uint64_t ticks)
{
	return (ticks * NSEC_PER_SEC + HZ - 1) / HZ;
}

/* Goes to the moment `ticks` pulses after `since`. */
static void go_to(struct device_rig *rig, uint64_t since, uint64_t ticks)
{
	rig_pass(rig, since + ns_of(ticks) - rig->clock.now_ns);
}

static void mode_0_counts_down_once(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	out(rig, GATE, 1);
	program(rig, 2, 0, 1000);
	assert_false(output2(rig));
	go_to(rig, t0, 400);
	assert_int_equal(count(rig, 2), 600);
	go_to(rig, t0, 999);
	assert_false(output2(rig));
	go_to(rig, t0, 1000);
	assert_true(output2(rig));
	assert_int_equal(count(rig, 2), 0);
	go_to(rig, t0, 1001);
	assert_int_equal(count(rig, 2), 0xffff); /* goes on */
	go_to(rig, t0, 200000);
	assert_true(output2(rig));
	out(rig, 0x42, 5); /* the first byte stops it */
	assert_false(output2(rig));
	rig_pass(rig, NSEC_PER_SEC);
	assert_false(output2(rig));
	out(rig, 0x42, 0);
	rig_pass(rig, ns_of(5));
	assert_true(output2(rig));
	timer_free(rig);
}

static void mode_0_gate_pauses(void **state)
{
	struct device_rig *rig = timer_new();

	out(rig, GATE, 1);
	program(rig, 2, 0, 1000);
	rig_pass(rig, ns_of(300));
	out(rig, GATE, 0);
	rig_pass(rig, NSEC_PER_SEC);
	assert_int_equal(count(rig, 2), 700);
	out(rig, GATE, 1);
	rig_pass(rig, ns_of(699));
	assert_false(output2(rig));
	rig_pass(rig, ns_of(1));
	assert_true(output2(rig));
	timer_free(rig);
}

static void mode_1_is_a_one_shot(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0;

	program(rig, 2, 1, 100);
	assert_true(output2(rig));
	out(rig, GATE, 1);
	t0 = rig->clock.now_ns;
	assert_false(output2(rig));
	go_to(rig, t0, 60);
	out(rig, GATE, 0); /* the level does not matter */
	assert_int_equal(count(rig, 2), 40);
	out(rig, GATE, 1); /* the edge does: again from the start */
	t0 = rig->clock.now_ns;
	go_to(rig, t0, 99);
	assert_false(output2(rig));
	program(rig, 2, 1, 100);
	out(rig, GATE, 0);
	out(rig, GATE, 1);
	t0 = rig->clock.now_ns;
	out(rig, 0x42, 50); /* a new count waits for the next trigger */
	out(rig, 0x42, 0);
	go_to(rig, t0, 60);
	assert_false(output2(rig));
	go_to(rig, t0, 100);
	assert_true(output2(rig));
	out(rig, GATE, 0);
	out(rig, GATE, 1);
	rig_pass(rig, ns_of(50));
	assert_true(output2(rig));
	timer_free(rig);
}

static void mode_2_divides(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	out(rig, GATE, 1);
	program(rig, 2, 2, 100);
	for (unsigned int i = 0; i < 3; i++) {
		go_to(rig, t0, i * 100 + 1);
		assert_int_equal(count(rig, 2), 99);
		go_to(rig, t0, i * 100 + 98);
		assert_true(output2(rig));
		go_to(rig, t0, i * 100 + 99);
		assert_false(output2(rig)); /* one pulse low */
		assert_int_equal(count(rig, 2), 1);
		go_to(rig, t0, i * 100 + 100);
		assert_true(output2(rig));
		assert_int_equal(count(rig, 2), 100);
	}
	timer_free(rig);
}

static void mode_2_takes_a_new_count_at_the_end_of_a_period(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns, t1;

	out(rig, GATE, 1);
	program(rig, 2, 2, 100);
	go_to(rig, t0, 250);
	out(rig, 0x42, 30);
	out(rig, 0x42, 0);
	out(rig, CONTROL, 0xe8); /* status of counter 2 */
	assert_int_equal(in(rig, 0x42), 0x80 | 0x40 | 0x34);
	go_to(rig, t0, 290);
	assert_int_equal(count(rig, 2), 10);
	t1 = t0 + ns_of(300);
	go_to(rig, t1, 95); /* several of the new periods later */
	assert_int_equal(count(rig, 2), 25);
	out(rig, CONTROL, 0xe8);
	assert_int_equal(in(rig, 0x42), 0x80 | 0x34);
	timer_free(rig);
}

static void mode_2_gate_restarts(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	out(rig, GATE, 1);
	program(rig, 2, 2, 100);
	go_to(rig, t0, 99);
	assert_false(output2(rig));
	out(rig, GATE, 0); /* high at once */
	assert_true(output2(rig));
	rig_pass(rig, NSEC_PER_MSEC);
	assert_true(output2(rig));
	out(rig, GATE, 1);
	rig_pass(rig, ns_of(10));
	assert_int_equal(count(rig, 2), 90);
	timer_free(rig);
}

static void mode_3_is_a_square_wave(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	out(rig, GATE, 1);
	program(rig, 2, 3, 100);
	for (unsigned int at = 0; at < 300; at += 7) {
		go_to(rig, t0, at);
		assert_int_equal(output2(rig), at % 100 < 50);
		assert_int_equal(count(rig, 2), 100 - 2 * (at % 50));
	}
	timer_free(rig);

	rig = timer_new();
	t0 = rig->clock.now_ns;
	out(rig, GATE, 1);
	program(rig, 2, 3, 101); /* odd: high for 51, low for 50 */
	for (unsigned int at = 0; at < 303; at++) {
		unsigned int in_period = at % 101;

		go_to(rig, t0, at);
		assert_int_equal(output2(rig), in_period < 51);
		assert_int_equal(count(rig, 2),
				 100 - 2 * (in_period < 51 ? in_period : in_period - 51));
	}
	timer_free(rig);
}

static void mode_3_takes_a_new_count_at_the_end_of_a_half(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns, t1;

	out(rig, GATE, 1);
	program(rig, 2, 3, 1000);
	go_to(rig, t0, 100);
	out(rig, 0x42, 200);
	out(rig, 0x42, 0);
	go_to(rig, t0, 499);
	assert_true(output2(rig));
	t1 = t0 + ns_of(500); /* the low half is the new count's */
	go_to(rig, t1, 99);
	assert_false(output2(rig));
	go_to(rig, t1, 101);
	assert_true(output2(rig));
	go_to(rig, t1, 150);
	out(rig, 0x42, 100);
	out(rig, 0x42, 0);
	go_to(rig, t1, 198);
	assert_true(output2(rig));
	go_to(rig, t1, 201);
	assert_false(output2(rig));
	go_to(rig, t1, 252);
	assert_true(output2(rig));
	timer_free(rig);
}

static void mode_4_strobes_once(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	out(rig, GATE, 1);
	program(rig, 2, 4, 100);
	assert_true(output2(rig));
	go_to(rig, t0, 99);
	assert_true(output2(rig));
	go_to(rig, t0, 100);
	assert_false(output2(rig));
	go_to(rig, t0, 101);
	assert_true(output2(rig));
	go_to(rig, t0, 100 + 65536);
	assert_true(output2(rig));
	timer_free(rig);
}

static void mode_5_strobes_when_triggered(void **state)
{
	struct device_rig *rig = timer_new();

	program(rig, 2, 5, 100);
	rig_pass(rig, ns_of(100));
	assert_true(output2(rig));
	out(rig, GATE, 1);
	rig_pass(rig, ns_of(100));
	assert_false(output2(rig));
	rig_pass(rig, ns_of(1));
	assert_true(output2(rig));
	timer_free(rig);
}

static void modes_6_and_7_are_2_and_3(void **state)
{
	struct device_rig *rig = timer_new();

	program(rig, 2, 6, 100);
	out(rig, CONTROL, 0xe8);
	assert_int_equal(in(rig, 0x42) & 0x3f, 0x34);
	program(rig, 2, 7, 100);
	out(rig, CONTROL, 0xe8);
	assert_int_equal(in(rig, 0x42) & 0x3f, 0x36);
	timer_free(rig);
}

static void bcd_counts_in_tens(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	out(rig, CONTROL, 0x31); /* counter 0, mode 0, BCD */
	rig_out(rig, 0x40, 1, 0x00);
	rig_out(rig, 0x40, 1, 0x12); /* 1200 */
	go_to(rig, t0, 201);
	assert_int_equal(count(rig, 0), 0x0999);
	go_to(rig, t0, 1201);
	assert_int_equal(count(rig, 0), 0x9999);
	t0 = rig->clock.now_ns;
	rig_out(rig, 0x40, 1, 0x00); /* 0 is 10000 */
	rig_out(rig, 0x40, 1, 0x00);
	go_to(rig, t0, 1);
	assert_int_equal(count(rig, 0), 0x9999);
	go_to(rig, t0, 10000);
	assert_int_equal(count(rig, 0), 0x0000);
	t0 = rig->clock.now_ns;
	rig_out(rig, 0x40, 1, 0xff); /* no digits: 16665 */
	rig_out(rig, 0x40, 1, 0xff);
	assert_int_equal(count(rig, 0), 0x6665);
	timer_free(rig);
}

static void one_byte_accesses(void **state)
{
	struct device_rig *rig = timer_new();

	out(rig, CONTROL, 0x10); /* counter 0, low byte, mode 0 */
	out(rig, 0x40, 200);
	rig_pass(rig, ns_of(50));
	assert_int_equal(in(rig, 0x40), 150);
	assert_int_equal(in(rig, 0x40), 150);
	out(rig, CONTROL, 0x60); /* counter 1, high byte */
	out(rig, 0x41, 0x10);
	rig_pass(rig, ns_of(1));
	assert_int_equal(in(rig, 0x41), 0x0f);
	assert_int_equal(in(rig, CONTROL), 0xff);
	timer_free(rig);
}

static void count_of_zero_is_the_longest(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	program(rig, 0, 0, 0);
	assert_int_equal(count(rig, 0), 0);
	go_to(rig, t0, 65535);
	assert_false(rig->lines[IRQ].level);
	go_to(rig, t0, 65536);
	assert_true(rig->lines[IRQ].level);
	timer_free(rig);
}

static void latched_count_stands_still(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	program(rig, 0, 0, 0x1234);
	out(rig, CONTROL, 0x00);
	go_to(rig, t0, 0x100);
	out(rig, CONTROL, 0x00); /* ignored: the first is not read yet */
	assert_int_equal(in(rig, 0x40), 0x34);
	go_to(rig, t0, 0x200);
	assert_int_equal(in(rig, 0x40), 0x12);
	assert_int_equal(count(rig, 0), 0x1034);
	timer_free(rig);
}

static void read_back_latches_several(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	program(rig, 0, 0, 0x1234);
	program(rig, 1, 2, 0x5678);
	out(rig, CONTROL, 0xc6); /* count and status of 0 and 1 */
	go_to(rig, t0, 0x1000);
	out(rig, CONTROL, 0xe2); /* status again: ignored */
	assert_int_equal(in(rig, 0x40), 0x30);
	assert_int_equal(count(rig, 0), 0x1234);
	assert_int_equal(in(rig, 0x41), 0xb4);
	assert_int_equal(count(rig, 1), 0x5678);
	assert_int_equal(count(rig, 0), 0x0234);
	out(rig, CONTROL, 0x30);
	out(rig, CONTROL, 0xe2);
	assert_int_equal(in(rig, 0x40), 0x70); /* null count */
	timer_free(rig);
}

static void port_61(void **state)
{
	struct device_rig *rig = timer_new();
	unsigned int toggles = 0;
	uint8_t last = in(rig, GATE);

	for (unsigned int i = 0; i < 1000; i++) {
		rig_pass(rig, NSEC_PER_USEC);
		toggles += (in(rig, GATE) ^ last) >> 4 & 1;
		last = in(rig, GATE);
	}
	assert_in_range(toggles, 66, 67);
	out(rig, GATE, 0xff);
	assert_int_equal(in(rig, GATE) & 0xcf, 0x0f);
	out(rig, GATE, 0);
	assert_int_equal(in(rig, GATE) & 0xcf, 0);
	timer_free(rig);
}

static void periodic_interrupt(void **state)
{
	struct device_rig *rig = timer_new();

	program(rig, 0, 2, 1193); /* about 1 kHz */
	rig->lines[IRQ].rises = 0;
	rig_run(rig, NSEC_PER_SEC, 100 * NSEC_PER_USEC);
	assert_int_equal(rig->lines[IRQ].rises, 1000);
	assert_true(rig->lines[IRQ].level); /* stays up until just before the next */
	program(rig, 0, 3, 11932);
	rig->lines[IRQ].rises = 0;
	rig_run(rig, NSEC_PER_SEC, 100 * NSEC_PER_USEC);
	assert_int_equal(rig->lines[IRQ].rises, 99);
	timer_free(rig);
}

static void no_drift(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0 = rig->clock.now_ns;

	program(rig, 0, 2, 1000);
	for (uint64_t i = 1; i <= 5000; i++) {
		unsigned int before = rig->lines[IRQ].rises;

		go_to(rig, t0, i * 1000 - 1);
		assert_int_equal(rig->lines[IRQ].rises, before);
		go_to(rig, t0, i * 1000);
		assert_int_equal(rig->lines[IRQ].rises, before + 1);
	}
	timer_free(rig);
}

static void missed_ticks_become_one(void **state)
{
	struct device_rig *rig = timer_new();

	program(rig, 0, 2, 1193);
	rig->lines[IRQ].rises = 0;
	rig_pass(rig, 60 * NSEC_PER_SEC);
	assert_int_equal(rig->lines[IRQ].rises, 1);
	rig_pass(rig, 0);
	assert_int_equal(rig->lines[IRQ].rises, 1);
	timer_free(rig);
}

static void shortest_counts_make_no_storm(void **state)
{
	static const uint16_t counts[] = { 1, 2, 3, 10 };

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(counts); i++) {
		struct device_rig *rig = timer_new();

		program(rig, 0, 2 + (i & 1), counts[i / 2]);
		rig->lines[IRQ].rises = 0;
		rig_run(rig, 10 * NSEC_PER_MSEC, NSEC_PER_USEC);
		assert_in_range(rig->lines[IRQ].rises, 90, 101);
		timer_free(rig);
	}
}

static void one_shot_interrupt_comes_once_and_in_time(void **state)
{
	struct device_rig *rig = timer_new();
	uint64_t t0;

	out(rig, CONTROL, 0x38);
	rig_pass(rig, NSEC_PER_MSEC);
	rig->lines[IRQ].rises = 0;
	t0 = rig->clock.now_ns;
	rig_out(rig, 0x40, 1, 20); /* shorter than the shortest period: still exact */
	rig_out(rig, 0x40, 1, 0);
	go_to(rig, t0, 20);
	assert_int_equal(rig->lines[IRQ].rises, 0);
	go_to(rig, t0, 21);
	assert_int_equal(rig->lines[IRQ].rises, 1);
	rig_pass(rig, NSEC_PER_SEC);
	assert_int_equal(rig->lines[IRQ].rises, 1);
	timer_free(rig);
}

static void stopped_timer_is_quiet(void **state)
{
	struct device_rig *rig = timer_new();

	program(rig, 0, 2, 1193);
	rig_pass(rig, 10 * NSEC_PER_MSEC);
	out(rig, CONTROL, 0x30); /* mode 0 without a count, as Linux shuts it down */
	rig->lines[IRQ].rises = 0;
	rig_pass(rig, 10 * NSEC_PER_SEC);
	assert_int_equal(rig->lines[IRQ].rises, 0);
	assert_false(rig->lines[IRQ].level);
	timer_free(rig);
}

static void reset_stops_everything(void **state)
{
	struct device_rig *rig = timer_new();

	program(rig, 0, 2, 1193);
	out(rig, GATE, 3);
	rig_pass(rig, 10 * NSEC_PER_MSEC);
	rig->device->ops->reset(rig->device);
	rig->lines[IRQ].rises = 0;
	rig_pass(rig, 10 * NSEC_PER_SEC);
	assert_int_equal(rig->lines[IRQ].rises, 0);
	assert_int_equal(in(rig, GATE) & 0x2f, 0);
	timer_free(rig);
}

static void copy(struct device_rig *to, struct device_rig *from)
{
	struct error err = { 0 };
	struct buffer saved;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(from, &saved);
	assert_int_equal(rig_load(to, from, &saved, &err), 0);
	buffer_release(&saved);
	rig_pass(from, 0);
	rig_expect_equal(from, to);
}

static void saved_half_way(void **state)
{
	struct device_rig *a = timer_new(), *b = make(777777777777);

	program(a, 0, 2, 10000);
	out(a, GATE, 1);
	program(a, 2, 0, 40000);
	rig_pass(a, ns_of(12345));
	out(a, CONTROL, 0xc0 | 0x08); /* latched, and half read */
	in(a, 0x42);		      /* status */
	in(a, 0x42);		      /* low byte */
	out(a, 0x40, 0x88);	      /* half written */
	copy(b, a);
	for (unsigned int i = 0; i < 2; i++) {
		struct device_rig *rig = i ? b : a;
		uint64_t t0 = rig->clock.now_ns;

		rig->lines[IRQ].rises = 0;
		assert_int_equal(in(rig, 0x42), (40000 - 12345) >> 8);
		assert_int_equal(count(rig, 2), 40000 - 12345);
		go_to(rig, t0, 7654);
		assert_int_equal(rig->lines[IRQ].rises, 0);
		go_to(rig, t0, 7656);
		assert_int_equal(rig->lines[IRQ].rises, 1);
		out(rig, 0x40, 0x13); /* 5000 from the next period on */
		assert_false(output2(rig));
		go_to(rig, t0, 40000 - 12345);
		assert_true(output2(rig));
	}
	rig_expect_equal(a, b);
	timer_free(a);
	timer_free(b);
}

static void a_tick_due_at_the_save_is_told_by_both(void **state)
{
	struct device_rig *a = timer_new(), *b = make(1);
	struct error err = { 0 };
	struct buffer saved;

	program(a, 0, 2, 10000);
	rig_pass(a, 0);
	a->lines[IRQ].rises = 0;
	fake_clock_advance(&a->clock, ns_of(10000));
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(a, &saved); /* before the control loop could tell */
	assert_int_equal(a->lines[IRQ].rises, 0);
	assert_int_equal(rig_load(b, a, &saved, &err), 0);
	assert_int_equal(b->lines[IRQ].rises, 1);
	rig_pass(a, 0);
	assert_int_equal(a->lines[IRQ].rises, 1);
	buffer_release(&saved);
	timer_free(a);
	timer_free(b);
}

static uint64_t refresh_bit(uint16_t port)
{
	return port == GATE ? 0x10 : 0;
}

static void random_sequences_agree_with_a_copy(void **state)
{
	static const struct rig_port ports[] = {
		{ 0x40, 1 }, { 0x40, 1 }, { 0x41, 1 }, { 0x42, 1 }, { 0x42, 1 },
		{ 0x43, 1 }, { 0x40, 2 }, { 0x40, 4 }, { GATE, 1 },
	};

	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct device_rig *a = timer_new(), *b = make(seed * 987654321);
		uint64_t random = seed * 0x9e3779b97f4a7c15ULL;

		rig_random_run(a, NULL, ports, ARRAY_SIZE(ports), 200, &random, NULL);
		copy(b, a);
		rig_random_run(a, b, ports, ARRAY_SIZE(ports), 300, &random, refresh_bit);
		rig_expect_equal(a, b);
		timer_free(a);
		timer_free(b);
	}
}

static void impossible_state_is_refused(void **state)
{
	struct device_rig *a = timer_new(), *b = timer_new();
	struct error err = { 0 };
	struct buffer saved;
	unsigned int refused = 0;

	program(a, 0, 3, 10000);
	program(a, 1, 2, 0x5678);
	rig_pass(a, NSEC_PER_MSEC);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(a, &saved);
	for (size_t at = 0; at < saved.len; at++) {
		saved.data[at] ^= 0xff;
		refused += rig_load(b, NULL, &saved, &err) < 0;
		for (unsigned int i = 0; i < 3; i++)
			count(b, i);
		rig_pass(b, NSEC_PER_SEC);
		saved.data[at] ^= 0xff;
	}
	assert_true(refused > 30);
	buffer_release(&saved);
	timer_free(a);
	timer_free(b);
}

static void a_taken_port_is_an_error(void **state)
{
	struct device_rig *rig = timer_new();
	const struct irq_line line = rig_line(rig, 3);
	struct device *second = NULL;

	assert_true(pit_new(rig->bus, rig->loop, &line, &second) < 0);
	assert_null(second);
	timer_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode_0_counts_down_once),
		cmocka_unit_test(mode_0_gate_pauses),
		cmocka_unit_test(mode_1_is_a_one_shot),
		cmocka_unit_test(mode_2_divides),
		cmocka_unit_test(mode_2_takes_a_new_count_at_the_end_of_a_period),
		cmocka_unit_test(mode_2_gate_restarts),
		cmocka_unit_test(mode_3_is_a_square_wave),
		cmocka_unit_test(mode_3_takes_a_new_count_at_the_end_of_a_half),
		cmocka_unit_test(mode_4_strobes_once),
		cmocka_unit_test(mode_5_strobes_when_triggered),
		cmocka_unit_test(modes_6_and_7_are_2_and_3),
		cmocka_unit_test(bcd_counts_in_tens),
		cmocka_unit_test(one_byte_accesses),
		cmocka_unit_test(count_of_zero_is_the_longest),
		cmocka_unit_test(latched_count_stands_still),
		cmocka_unit_test(read_back_latches_several),
		cmocka_unit_test(port_61),
		cmocka_unit_test(periodic_interrupt),
		cmocka_unit_test(no_drift),
		cmocka_unit_test(missed_ticks_become_one),
		cmocka_unit_test(shortest_counts_make_no_storm),
		cmocka_unit_test(one_shot_interrupt_comes_once_and_in_time),
		cmocka_unit_test(stopped_timer_is_quiet),
		cmocka_unit_test(reset_stops_everything),
		cmocka_unit_test(saved_half_way),
		cmocka_unit_test(a_tick_due_at_the_save_is_told_by_both),
		cmocka_unit_test(random_sequences_agree_with_a_copy),
		cmocka_unit_test(impossible_state_is_refused),
		cmocka_unit_test(a_taken_port_is_an_error),
	};

	return cmocka_run_group_tests_name("device-pit", tests, NULL, NULL);
}
