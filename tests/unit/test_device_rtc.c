/* SPDX-License-Identifier: Apache-2.0 */

/* The MC146818A, as its data sheet has it. The rig's clock begins at 2026-01-01 00:00:00 UTC, a Thursday. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "device/rtc.h"
#include "device_rig.h"

#define IRQ 8

enum { SEC, SEC_ALARM, MIN_, MIN_ALARM, HOUR, HOUR_ALARM, WDAY, DAY, MONTH, YEAR, A, B, C, D };
#define CENTURY 0x32

static struct device_rig *rtc_make(uint64_t now)
{
	struct device_rig *rig = calloc(1, sizeof(*rig));
	struct irq_line irq;

	rig_init(rig, now);
	irq = rig_line(rig, IRQ);
	assert_int_equal(rtc_new(rig->bus, rig->loop, &irq, &rig->device), 0);
	return rig;
}

static struct device_rig *clock_new(void)
{
	return rtc_make(5 * NSEC_PER_SEC);
}

static void clock_free(struct device_rig *rig)
{
	rig_release(rig);
	free(rig);
}

static void set(struct device_rig *rig, uint8_t reg, uint8_t value)
{
	rig_out(rig, 0x70, 1, reg);
	rig_out(rig, 0x71, 1, value);
}

static uint8_t get(struct device_rig *rig, uint8_t reg)
{
	rig_out(rig, 0x70, 1, reg);
	return (uint8_t)rig_in(rig, 0x71, 1);
}

static bool irq(const struct device_rig *rig)
{
	return rig->lines[IRQ].level;
}

/* Sets date and time as an operating system does: 12 digits YYMMDDhhmmss in BCD, century 20. */
static void set_time(struct device_rig *rig, uint64_t digits)
{
	static const uint8_t regs[] = { SEC, MIN_, HOUR, DAY, MONTH, YEAR };
	uint8_t b = get(rig, B);

	set(rig, B, b | 0x80);
	for (unsigned int i = 0; i < ARRAY_SIZE(regs); i++)
		set(rig, regs[i], (uint8_t)(digits >> 8 * i));
	set(rig, CENTURY, 0x20);
	set(rig, B, b);
}

static uint64_t get_time(struct device_rig *rig)
{
	static const uint8_t regs[] = { SEC, MIN_, HOUR, DAY, MONTH, YEAR };
	uint64_t digits = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(regs); i++)
		digits |= (uint64_t)get(rig, regs[i]) << 8 * i;
	return digits;
}

static void begins_with_the_wall_clock(void **state)
{
	struct device_rig *rig = clock_new();

	assert_true(get_time(rig) == 0x260101000000);
	assert_int_equal(get(rig, CENTURY), 0x20);
	assert_int_equal(get(rig, WDAY), 5); /* Sunday is 1 */
	assert_int_equal(get(rig, A), 0x26);
	assert_int_equal(get(rig, B), 0x02);
	assert_int_equal(get(rig, D), 0x80);
	clock_free(rig);
}

static void follows_the_monotonic_clock_only(void **state)
{
	struct device_rig *rig = clock_new();

	rig->clock.wall_ns = 0; /* the host's administrator sets his clock */
	rig_pass(rig, 86399 * NSEC_PER_SEC);
	assert_true(get_time(rig) == 0x260101235959);
	rig_pass(rig, NSEC_PER_SEC);
	assert_true(get_time(rig) == 0x260102000000);
	assert_int_equal(get(rig, WDAY), 6);
	clock_free(rig);
}

static void binary_and_bcd(void **state)
{
	struct device_rig *rig = clock_new();

	set_time(rig, 0x991231235958);
	set(rig, B, 0x06);
	assert_int_equal(get(rig, SEC), 58);
	assert_int_equal(get(rig, HOUR), 23);
	assert_int_equal(get(rig, YEAR), 99);
	assert_int_equal(get(rig, CENTURY), 20);
	set(rig, B, 0x02);
	assert_int_equal(get(rig, SEC), 0x58);
	rig_pass(rig, 2 * NSEC_PER_SEC);
	assert_int_equal(get(rig, YEAR), 0x00);
	assert_int_equal(get(rig, CENTURY), 0x21);
	clock_free(rig);
}

static void twelve_hours(void **state)
{
	static const uint8_t bcd[24] = { 0x12, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
					 0x08, 0x09, 0x10, 0x11, 0x92, 0x81, 0x82, 0x83,
					 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x90, 0x91 };
	struct device_rig *rig = clock_new();

	set(rig, B, 0x00);
	for (unsigned int h = 0; h < 24; h++) {
		assert_int_equal(get(rig, HOUR), bcd[h]);
		set(rig, HOUR, bcd[h]);
		set(rig, B, 0x02);
		assert_int_equal(get(rig, HOUR), h / 10 << 4 | h % 10);
		set(rig, B, 0x00);
		rig_pass(rig, 3600 * NSEC_PER_SEC);
	}
	clock_free(rig);
}

static void set_holds_the_registers(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, B, 0x82);
	rig_pass(rig, 10 * NSEC_PER_SEC);
	assert_int_equal(get(rig, SEC), 0);
	assert_int_equal(get(rig, A) & 0x80, 0);
	set(rig, SEC, 0x30);
	set(rig, MIN_, 0xee); /* nonsense is kept while held */
	assert_int_equal(get(rig, MIN_), 0xee);
	set(rig, MIN_, 0x59);
	set(rig, B, 0x02);
	assert_int_equal(get(rig, SEC), 0x30);
	assert_int_equal(get(rig, C) & 0x10, 0); /* no update ended meanwhile */
	rig_pass(rig, 30 * NSEC_PER_SEC);
	assert_true(get_time(rig) == 0x260101010000);
	clock_free(rig);
}

static void set_keeps_the_phase_of_the_second(void **state)
{
	struct device_rig *rig = clock_new();

	rig_pass(rig, 700 * NSEC_PER_MSEC);
	set(rig, B, 0x82);
	rig_pass(rig, 900 * NSEC_PER_MSEC);
	set(rig, B, 0x02); /* 0.6 s into a second */
	rig_pass(rig, 399 * NSEC_PER_MSEC);
	assert_int_equal(get(rig, SEC), 0);
	rig_pass(rig, 1 * NSEC_PER_MSEC);
	assert_int_equal(get(rig, SEC), 1);
	clock_free(rig);
}

static void divider_reset_stops_the_time(void **state)
{
	struct device_rig *rig = clock_new();

	rig_pass(rig, 700 * NSEC_PER_MSEC);
	set(rig, A, 0x76);
	rig_pass(rig, 10 * NSEC_PER_SEC);
	assert_int_equal(get(rig, SEC), 0);
	assert_int_equal(get(rig, C), 0x40); /* the periodic flag of before */
	assert_int_equal(get(rig, C), 0);
	set(rig, A, 0x26);
	rig_pass(rig, 499 * NSEC_PER_MSEC); /* the first update after half a second */
	assert_int_equal(get(rig, SEC), 0);
	rig_pass(rig, 1 * NSEC_PER_MSEC);
	assert_int_equal(get(rig, SEC), 1);
	clock_free(rig);
}

static void writes_without_set_work_too(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, MIN_, 0x42);
	set(rig, MONTH, 0x02);
	set(rig, DAY, 0x29); /* 2026 is no leap year */
	assert_true(get_time(rig) == 0x260301004200);
	set(rig, WDAY, 0x07);
	assert_int_equal(get(rig, WDAY), 7);
	rig_pass(rig, 86400 * NSEC_PER_SEC);
	assert_int_equal(get(rig, WDAY), 1);
	clock_free(rig);
}

static void update_in_progress(void **state)
{
	struct device_rig *rig = clock_new();

	rig_pass(rig, NSEC_PER_SEC - 2229 * NSEC_PER_USEC);
	assert_int_equal(get(rig, A), 0x26);
	rig_pass(rig, 1 * NSEC_PER_USEC);
	assert_int_equal(get(rig, A), 0xa6);
	assert_int_equal(get(rig, SEC), 0);
	rig_pass(rig, 2228 * NSEC_PER_USEC);
	assert_int_equal(get(rig, A), 0x26);
	assert_int_equal(get(rig, SEC), 1);
	set(rig, A, 0xff & ~0x60); /* UIP cannot be written */
	assert_int_equal(get(rig, A), 0x1f);
	clock_free(rig);
}

static void update_ended_interrupt(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, A, 0x20);
	set(rig, B, 0x12);
	rig_pass(rig, NSEC_PER_SEC - 1);
	assert_false(irq(rig));
	rig_pass(rig, 1);
	assert_true(irq(rig));
	rig_pass(rig, 5 * NSEC_PER_SEC);
	assert_int_equal(rig->lines[IRQ].rises, 1); /* one, until it is read */
	assert_int_equal(get(rig, C), 0x90);
	assert_false(irq(rig));
	assert_int_equal(get(rig, C), 0);
	rig_pass(rig, NSEC_PER_SEC);
	assert_true(irq(rig));
	set(rig, B, 0x92); /* SET clears UIE */
	assert_int_equal(get(rig, B), 0x82);
	assert_false(irq(rig));
	clock_free(rig);
}

static void alarm_at_a_time(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, A, 0x20);
	set(rig, HOUR_ALARM, 0x01);
	set(rig, MIN_ALARM, 0x02);
	set(rig, SEC_ALARM, 0x03);
	set(rig, B, 0x22);
	rig_pass(rig, 3722 * NSEC_PER_SEC);
	assert_false(irq(rig));
	rig_pass(rig, NSEC_PER_SEC);
	assert_true(irq(rig));
	assert_int_equal(get(rig, C), 0xb0);
	rig_pass(rig, 86399 * NSEC_PER_SEC);
	assert_false(irq(rig));
	rig_pass(rig, NSEC_PER_SEC);
	assert_true(irq(rig));
	clock_free(rig);
}

static void alarm_with_wildcards(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, A, 0x20);
	set(rig, HOUR_ALARM, 0xc0);
	set(rig, MIN_ALARM, 0xff);
	set(rig, SEC_ALARM, 0x15);
	set(rig, B, 0x22);
	for (unsigned int i = 0; i < 130; i++) { /* each minute, over two hours */
		rig_pass(rig, (i ? 59 : 14) * NSEC_PER_SEC);
		assert_false(irq(rig));
		rig_pass(rig, NSEC_PER_SEC);
		assert_true(irq(rig));
		get(rig, C);
	}
	set(rig, SEC_ALARM, 0xc0);
	rig_pass(rig, NSEC_PER_SEC);
	assert_true(irq(rig));
	clock_free(rig);
}

static void alarm_in_twelve_hour_mode(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, A, 0x20);
	set(rig, HOUR_ALARM, 0x81); /* 1 p.m. */
	set(rig, B, 0x20);
	rig_pass(rig, (13 * 3600 - 1) * NSEC_PER_SEC);
	assert_false(irq(rig));
	rig_pass(rig, NSEC_PER_SEC);
	assert_true(irq(rig));
	clock_free(rig);
}

static void impossible_alarm_never_comes(void **state)
{
	static const uint8_t regs[] = { HOUR_ALARM, MIN_ALARM, SEC_ALARM };
	struct device_rig *rig = clock_new();

	set(rig, A, 0x20);
	set(rig, B, 0x22);
	for (unsigned int i = 0; i < ARRAY_SIZE(regs); i++) {
		set(rig, HOUR_ALARM, 0xff);
		set(rig, MIN_ALARM, 0xff);
		set(rig, SEC_ALARM, 0xff);
		set(rig, regs[i], 0x99);
		get(rig, C);
		rig_pass(rig, 100000 * NSEC_PER_SEC);
		assert_false(irq(rig));
		assert_int_equal(get(rig, C), 0x10);
	}
	clock_free(rig);
}

/* Each rate, as often as the data sheet's table says, for a guest that reads C at once. */
static void periodic_rates(void **state)
{
	static const unsigned int hertz[16] = { 0,   256, 128, 8192, 4096, 2048, 1024, 512,
						256, 128, 64,  32,   16,   8,	 4,    2 };

	for (uint8_t rate = 0; rate < 16; rate++) {
		struct device_rig *rig = clock_new();
		unsigned int n = 0;

		set(rig, A, 0x20 | rate);
		get(rig, C);
		set(rig, B, 0x42);
		for (unsigned int i = 0; i < 20000; i++) {
			rig_pass(rig, 50 * NSEC_PER_USEC);
			if (!irq(rig))
				continue;
			assert_int_equal(get(rig, C) & 0xc0, 0xc0);
			n++;
		}
		assert_int_equal(n, hertz[rate]);
		clock_free(rig);
	}
}

static void periodic_interrupts_do_not_pile_up(void **state)
{
	struct device_rig *rig = clock_new();

	set(rig, A, 0x23);
	set(rig, B, 0x42);
	rig_pass(rig, 60 * NSEC_PER_SEC); /* the host slept */
	assert_int_equal(rig->lines[IRQ].rises, 1);
	get(rig, C);
	rig_pass(rig, 0);
	assert_false(irq(rig));
	clock_free(rig);
}

static void enabling_late_tells_a_flag_already_set(void **state)
{
	struct device_rig *rig = clock_new();

	rig_pass(rig, 2 * NSEC_PER_SEC);
	assert_false(irq(rig));
	set(rig, B, 0x12);
	assert_true(irq(rig));
	clock_free(rig);
}

static void ram_and_index(void **state)
{
	struct device_rig *rig = clock_new();

	for (unsigned int reg = 14; reg < 128; reg++)
		if (reg != CENTURY)
			set(rig, (uint8_t)reg, (uint8_t)(reg * 3));
	for (unsigned int reg = 14; reg < 128; reg++)
		if (reg != CENTURY)
			assert_int_equal(get(rig, (uint8_t)(reg | 0x80)), (uint8_t)(reg * 3));
	set(rig, C, 0xff);
	set(rig, D, 0);
	assert_int_equal(get(rig, C), 0);
	assert_int_equal(get(rig, D), 0x80);
	assert_int_equal(rig_in(rig, 0x70, 1), 0xff);
	rig_out(rig, 0x70, 2, 0x7740); /* index and data at once */
	assert_int_equal(get(rig, 0x40), 0x77);
	assert_int_equal(rig_in(rig, 0x70, 2), 0x77ff);
	clock_free(rig);
}

static void reset_keeps_the_time(void **state)
{
	struct device_rig *rig = clock_new();

	set_time(rig, 0x300615120000);
	set(rig, 0x40, 0x99);
	set(rig, B, 0x7e);
	rig_pass(rig, 5 * NSEC_PER_SEC);
	assert_true(irq(rig));
	rig->device->ops->reset(rig->device);
	assert_false(irq(rig));
	assert_int_equal(get(rig, B), 0x06);
	set(rig, B, 0x02);
	assert_true(get_time(rig) == 0x300615120005);
	assert_int_equal(get(rig, 0x40), 0x99);
	clock_free(rig);
}

static void copy(struct device_rig *to, struct device_rig *from)
{
	struct error err = { 0 };
	struct buffer saved;

	rig_pass(from, 0);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(from, &saved);
	assert_int_equal(rig_load(to, from, &saved, &err), 0);
	buffer_release(&saved);
	rig_pass(from, 0);
	rig_expect_equal(from, to);
}

static void saved_within_a_second(void **state)
{
	struct device_rig *a = clock_new(), *b = rtc_make(77777777777);

	set_time(a, 0x280229235959);
	set(a, A, 0x2f);
	set(a, B, 0x42);
	rig_pass(a, 300 * NSEC_PER_MSEC);
	get(a, C);
	copy(b, a);
	for (unsigned int i = 0; i < 2; i++) {
		struct device_rig *rig = i ? b : a;

		rig_pass(rig, 199 * NSEC_PER_MSEC);
		assert_false(irq(rig));
		rig_pass(rig, NSEC_PER_MSEC);
		assert_true(irq(rig));
		rig_pass(rig, 499 * NSEC_PER_MSEC);
		assert_true(get_time(rig) == 0x280229235959);
		rig_pass(rig, NSEC_PER_MSEC);
		assert_true(get_time(rig) == 0x280301000000);
	}
	rig_expect_equal(a, b);
	clock_free(a);
	clock_free(b);
}

static void an_interrupt_due_at_the_save_is_told_by_both(void **state)
{
	struct device_rig *a = clock_new(), *b = rtc_make(1);
	struct error err = { 0 };
	struct buffer saved;

	set(a, A, 0x20);
	set(a, B, 0x12);
	rig_pass(a, 0); /* its timer is armed */
	fake_clock_advance(&a->clock, NSEC_PER_SEC);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(a, &saved); /* before the control loop could tell */
	assert_false(irq(a));
	assert_int_equal(rig_load(b, a, &saved, &err), 0);
	assert_true(irq(b));
	rig_pass(a, 0);
	assert_true(irq(a));
	buffer_release(&saved);
	clock_free(a);
	clock_free(b);
}

static void random_sequences_agree_with_a_copy(void **state)
{
	static const struct rig_port ports[] = {
		{ 0x70, 1 }, { 0x71, 1 }, { 0x71, 1 }, { 0x70, 2 }, { 0x70, 2 },
	};

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct device_rig *a = clock_new(), *b = rtc_make(seed * 987654321);
		uint64_t random = seed * 0x9e3779b97f4a7c15ULL;

		for (unsigned int round = 0; round < 20; round++) {
			rig_random_run(a, round ? b : NULL, ports, ARRAY_SIZE(ports), 40, &random,
				       NULL);
			for (unsigned int i = 0; i < 6;
			     i++) { /* mostly the registers, not the RAM */
				uint8_t reg = rig_random(&random) % 13;
				uint8_t value = (uint8_t)rig_random(&random);

				set(a, reg, value);
				if (round)
					set(b, reg, value);
			}
			if (!round)
				copy(b, a);
		}
		rig_expect_equal(a, b);
		clock_free(a);
		clock_free(b);
	}
}

static void impossible_state_is_refused(void **state)
{
	struct device_rig *a = clock_new(), *b = clock_new();
	struct error err = { 0 };
	struct buffer saved;
	unsigned int refused = 0;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(a, &saved);
	for (size_t at = 0; at < saved.len; at++) {
		saved.data[at] ^= 0xff;
		refused += rig_load(b, NULL, &saved, &err) < 0;
		for (uint8_t reg = 0; reg < 14; reg++)
			get(b, reg);
		rig_pass(b, 3 * NSEC_PER_SEC);
		saved.data[at] ^= 0xff;
	}
	assert_true(refused > 10);
	buffer_release(&saved);
	clock_free(a);
	clock_free(b);
}

static void a_taken_port_is_an_error(void **state)
{
	struct device_rig *rig = clock_new();
	const struct irq_line line = rig_line(rig, 3);
	struct device *second = NULL;

	assert_true(rtc_new(rig->bus, rig->loop, &line, &second) < 0);
	assert_null(second);
	clock_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(begins_with_the_wall_clock),
		cmocka_unit_test(follows_the_monotonic_clock_only),
		cmocka_unit_test(binary_and_bcd),
		cmocka_unit_test(twelve_hours),
		cmocka_unit_test(set_holds_the_registers),
		cmocka_unit_test(set_keeps_the_phase_of_the_second),
		cmocka_unit_test(divider_reset_stops_the_time),
		cmocka_unit_test(writes_without_set_work_too),
		cmocka_unit_test(update_in_progress),
		cmocka_unit_test(update_ended_interrupt),
		cmocka_unit_test(alarm_at_a_time),
		cmocka_unit_test(alarm_with_wildcards),
		cmocka_unit_test(alarm_in_twelve_hour_mode),
		cmocka_unit_test(impossible_alarm_never_comes),
		cmocka_unit_test(periodic_rates),
		cmocka_unit_test(periodic_interrupts_do_not_pile_up),
		cmocka_unit_test(enabling_late_tells_a_flag_already_set),
		cmocka_unit_test(ram_and_index),
		cmocka_unit_test(reset_keeps_the_time),
		cmocka_unit_test(saved_within_a_second),
		cmocka_unit_test(an_interrupt_due_at_the_save_is_told_by_both),
		cmocka_unit_test(random_sequences_agree_with_a_copy),
		cmocka_unit_test(impossible_state_is_refused),
		cmocka_unit_test(a_taken_port_is_an_error),
	};

	return cmocka_run_group_tests_name("device-rtc", tests, NULL, NULL);
}
