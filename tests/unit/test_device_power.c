/* SPDX-License-Identifier: Apache-2.0 */

/* ACPI's fixed hardware, reset and event ports. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/limits.h"
#include "device/power.h"
#include "device_rig.h"

#define SCI 9
#define GED 10
#define PM 0x600
#define STATUS PM
#define ENABLE (PM + 2)
#define PM_CONTROL (PM + 4)
#define TIMER (PM + 8)
#define EVENT 0x620
#define RESET 0xcf9

#define TIMER_HZ 3579545ULL
#define HALF_WRAP_TICKS (1ULL << 23)

struct machine {
	struct device_rig rig;
	unsigned int offs, resets;
};

static void happened(void *ctx, enum power_event event)
{
	struct machine *m = ctx;

	m->offs += event == POWER_OFF;
	m->resets += event == POWER_RESET;
}

static struct machine *make(uint64_t now)
{
	struct machine *m = calloc(1, sizeof(*m));
	const struct power_host host = { .happened = happened, .ctx = m };
	struct irq_line sci, ged;

	rig_init(&m->rig, now);
	sci = rig_line(&m->rig, SCI);
	ged = rig_line(&m->rig, GED);
	assert_int_equal(power_new(m->rig.bus, m->rig.loop, &sci, &ged, &host, &m->rig.device), 0);
	return m;
}

static struct machine *machine_new(void)
{
	return make(5 * NSEC_PER_SEC);
}

static void machine_free(struct machine *m)
{
	rig_release(&m->rig);
	free(m);
}

static uint64_t in(struct machine *m, uint16_t port, unsigned int size)
{
	return rig_in(&m->rig, port, size);
}

static void out(struct machine *m, uint16_t port, unsigned int size, uint64_t value)
{
	rig_out(&m->rig, port, size, value);
}

static uint64_t ns_of(uint64_t ticks)
{
	return (ticks * NSEC_PER_SEC + TIMER_HZ - 1) / TIMER_HZ;
}

static void s5_turns_off(void **state)
{
	struct machine *m = machine_new();

	out(m, PM_CONTROL, 2, 5 << 10); /* the type alone does nothing */
	assert_int_equal(m->offs, 0);
	assert_int_equal(in(m, PM_CONTROL, 2), 5 << 10 | 1);
	out(m, PM_CONTROL, 2, 5 << 10 | 1 << 13);
	assert_int_equal(m->offs, 1);
	assert_int_equal(in(m, PM_CONTROL, 2), 5 << 10 | 1); /* SLP_EN is write-only */
	machine_free(m);
}

static void other_sleep_states_are_ignored(void **state)
{
	struct machine *m = machine_new();

	for (unsigned int type = 0; type < 8; type++)
		if (type != POWER_SLEEP_TYPE_S5)
			out(m, PM_CONTROL, 2, type << 10 | 1 << 13);
	out(m, PM_CONTROL, 1, 0xff); /* the low byte has nothing of it */
	assert_int_equal(m->offs + m->resets, 0);
	out(m, PM_CONTROL + 1, 1, (5 << 10 | 1 << 13) >> 8); /* the high one has it all */
	assert_int_equal(m->offs, 1);
	machine_free(m);
}

static void sci_is_always_enabled(void **state)
{
	struct machine *m = machine_new();

	assert_int_equal(in(m, PM_CONTROL, 2) & 1, 1);
	out(m, PM_CONTROL, 2, 0);
	assert_int_equal(in(m, PM_CONTROL, 2), 1);
	out(m, PM_CONTROL, 2, 2);
	assert_int_equal(in(m, PM_CONTROL, 1), 3);
	machine_free(m);
}

static void button_needs_a_guest_that_listens(void **state)
{
	struct machine *m = machine_new();

	assert_false(power_press_button(m->rig.device));
	assert_int_equal(in(m, STATUS, 2), 0);
	out(m, ENABLE, 2, 0x100);
	assert_true(power_press_button(m->rig.device));
	assert_true(m->rig.lines[SCI].level);
	assert_int_equal(in(m, PM, 4), 0x01000100);
	out(m, STATUS, 2, 0x0001); /* another's bit */
	assert_true(m->rig.lines[SCI].level);
	out(m, STATUS + 1, 1, 0x01); /* write one to clear */
	assert_false(m->rig.lines[SCI].level);
	assert_int_equal(in(m, STATUS, 2), 0);
	machine_free(m);
}

static void enables_by_bytes(void **state)
{
	struct machine *m = machine_new();

	out(m, ENABLE, 2, 0xffff);
	assert_int_equal(in(m, ENABLE, 2), 0x521);
	out(m, ENABLE, 1, 0);
	assert_int_equal(in(m, ENABLE, 2), 0x500);
	out(m, ENABLE + 1, 1, 0);
	assert_int_equal(in(m, ENABLE, 2), 0);
	out(m, PM, 4, 0x01000000); /* status and enable at once */
	assert_int_equal(in(m, ENABLE, 2), 0x100);
	out(m, TIMER, 4, 0xffffffff); /* read-only */
	assert_int_equal(in(m, ENABLE, 2), 0x100);
	machine_free(m);
}

static void timer_runs_at_its_rate(void **state)
{
	struct machine *m = machine_new();

	assert_int_equal(in(m, TIMER, 4), 0);
	rig_pass(&m->rig, NSEC_PER_SEC);
	assert_int_equal(in(m, TIMER, 4), TIMER_HZ);
	assert_int_equal(in(m, TIMER + 1, 2), TIMER_HZ >> 8);
	assert_int_equal(in(m, TIMER, 1), TIMER_HZ & 0xff);
	rig_pass(&m->rig, 9 * NSEC_PER_SEC);
	assert_int_equal(in(m, TIMER, 4), 10 * TIMER_HZ % (1 << 24));
	machine_free(m);
}

static void timer_status_tells_each_half(void **state)
{
	struct machine *m = machine_new();

	rig_pass(&m->rig, ns_of(HALF_WRAP_TICKS) - 1);
	assert_int_equal(in(m, STATUS, 2), 0);
	rig_pass(&m->rig, 1);
	assert_int_equal(in(m, STATUS, 2), 1);
	assert_false(m->rig.lines[SCI].level);
	out(m, STATUS, 2, 1);
	assert_int_equal(in(m, STATUS, 2), 0);
	out(m, ENABLE, 2, 1);
	rig_pass(&m->rig, ns_of(2 * HALF_WRAP_TICKS) - ns_of(HALF_WRAP_TICKS) - 1);
	assert_false(m->rig.lines[SCI].level);
	rig_pass(&m->rig, 1);
	assert_true(m->rig.lines[SCI].level); /* nobody had to read anything */
	rig_pass(&m->rig, 60 * NSEC_PER_SEC);
	assert_int_equal(m->rig.lines[SCI].rises, 1);
	out(m, STATUS, 2, 1);
	assert_false(m->rig.lines[SCI].level);
	rig_pass(&m->rig, 3 * NSEC_PER_SEC);
	assert_true(m->rig.lines[SCI].level);
	machine_free(m);
}

static void reset_register(void **state)
{
	struct machine *m = machine_new();

	out(m, RESET, 1, 0x02);
	assert_int_equal(m->resets, 0);
	out(m, RESET, 1, 0x06); /* the bit rises */
	assert_int_equal(m->resets, 1);
	out(m, RESET, 1, 0x0e); /* it is up already */
	assert_int_equal(m->resets, 1);
	assert_int_equal(in(m, RESET, 1), 0x0e);
	out(m, RESET, 1, 0xf0);
	out(m, RESET, 1, 0x04);
	assert_int_equal(m->resets, 2);
	machine_free(m);
}

static void keyboard_controller_pulse(void **state)
{
	struct machine *m = machine_new();

	assert_int_equal(in(m, 0x64, 1), 0); /* ready */
	assert_int_equal(in(m, 0x60, 1), 0);
	out(m, 0x60, 1, 0xfe); /* not the command port */
	out(m, 0x64, 1, 0xff); /* pulses nothing */
	out(m, 0x64, 1, 0xd1);
	out(m, 0x64, 1, 0x60);
	assert_int_equal(m->resets, 0);
	out(m, 0x64, 1, 0xfe);
	assert_int_equal(m->resets, 1);
	machine_free(m);
}

static void events(void **state)
{
	struct machine *m = machine_new();

	assert_int_equal(in(m, EVENT, 1), 0);
	power_raise_event(m->rig.device, GED_CPU_CHANGED);
	assert_true(m->rig.lines[GED].level);
	power_raise_event(m->rig.device, GED_GENERATION_CHANGED);
	assert_int_equal(m->rig.lines[GED].rises,
			 2); /* an edge for each: the first may have been lost */
	assert_int_equal(in(m, EVENT + 1, 1), 0);
	out(m, EVENT, 1, 0xff); /* not writable */
	assert_int_equal(in(m, EVENT, 1), GED_CPU_CHANGED | GED_GENERATION_CHANGED);
	assert_false(m->rig.lines[GED].level);
	assert_int_equal(in(m, EVENT, 4), 0);
	machine_free(m);
}

static void power_on_again(void **state)
{
	struct machine *m = machine_new();

	out(m, ENABLE, 2, 0x100);
	power_press_button(m->rig.device);
	power_raise_event(m->rig.device, 1);
	out(m, RESET, 1, 0x06);
	rig_pass(&m->rig, NSEC_PER_SEC);
	m->rig.device->ops->reset(m->rig.device);
	assert_false(m->rig.lines[SCI].level);
	assert_false(m->rig.lines[GED].level);
	assert_int_equal(in(m, PM, 4), 0);
	assert_int_equal(in(m, TIMER, 4), 0);
	out(m, RESET, 1, 0x06);
	assert_int_equal(m->resets, 2);
	machine_free(m);
}

static void copy(struct machine *to, struct machine *from)
{
	struct error err = { 0 };
	struct buffer saved;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&from->rig, &saved);
	assert_int_equal(rig_load(&to->rig, &from->rig, &saved, &err), 0);
	buffer_release(&saved);
	rig_pass(&from->rig, 0);
	rig_expect_equal(&from->rig, &to->rig);
}

static void saved_while_busy(void **state)
{
	struct machine *a = machine_new(), *b = make(1);

	out(a, ENABLE, 2, 0x101);
	power_press_button(a->rig.device);
	power_raise_event(a->rig.device, 2);
	rig_pass(&a->rig, 1234567891);
	copy(b, a);
	assert_int_equal(b->offs + b->resets, 0);
	for (unsigned int i = 0; i < 2; i++) {
		struct machine *m = i ? b : a;

		assert_true(m->rig.lines[SCI].level);
		assert_true(m->rig.lines[GED].level);
		out(m, STATUS, 2, 0x100);
		assert_false(m->rig.lines[SCI].level);
		assert_int_equal(in(m, TIMER, 4), 1234567891 * TIMER_HZ / NSEC_PER_SEC);
		rig_pass(&m->rig, ns_of(HALF_WRAP_TICKS) - 1234567891);
		assert_true(m->rig.lines[SCI].level);
		assert_int_equal(in(m, EVENT, 1), 2);
	}
	rig_expect_equal(&a->rig, &b->rig);
	machine_free(a);
	machine_free(b);
}

static void random_sequences_agree_with_a_copy(void **state)
{
	static const struct rig_port ports[] = {
		{ STATUS, 2 },	   { ENABLE, 2 },    { PM, 4 },	    { STATUS, 1 },
		{ ENABLE + 1, 1 }, { TIMER, 4 },     { TIMER, 4 },  { PM_CONTROL, 2 },
		{ PM_CONTROL, 1 }, { TIMER + 1, 2 }, { EVENT, 1 },  { RESET, 1 },
		{ 0x60, 1 },	   { 0x64, 1 },	     { PM + 3, 4 }, { PM, 8 },
	};

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct machine *a = machine_new(), *b = make(seed * 987654321);
		uint64_t random = seed * 0x9e3779b97f4a7c15ULL;

		rig_random_run(&a->rig, NULL, ports, ARRAY_SIZE(ports), 200, &random, NULL);
		power_raise_event(a->rig.device, (uint32_t)seed);
		copy(b, a);
		a->offs = a->resets = 0;
		rig_random_run(&a->rig, &b->rig, ports, ARRAY_SIZE(ports), 300, &random, NULL);
		assert_int_equal(a->offs, b->offs);
		assert_int_equal(a->resets, b->resets);
		rig_expect_equal(&a->rig, &b->rig);
		machine_free(a);
		machine_free(b);
	}
}

static void impossible_state_is_refused(void **state)
{
	struct machine *a = machine_new(), *b = machine_new();
	struct error err = { 0 };
	struct buffer saved;
	unsigned int refused = 0;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&a->rig, &saved);
	for (size_t at = 0; at < saved.len; at++) {
		saved.data[at] ^= 0xff;
		refused += rig_load(&b->rig, NULL, &saved, &err) < 0;
		out(b, ENABLE, 2, 1);
		rig_pass(&b->rig, 5 * NSEC_PER_SEC);
		in(b, PM, 8);
		saved.data[at] ^= 0xff;
	}
	assert_true(refused > 10);
	buffer_release(&saved);
	machine_free(a);
	machine_free(b);
}

static void a_taken_port_is_an_error(void **state)
{
	struct machine *m = machine_new();
	const struct irq_line line = rig_line(&m->rig, 3);
	const struct power_host host = { .happened = happened, .ctx = m };
	struct device *second = NULL;

	assert_true(power_new(m->rig.bus, m->rig.loop, &line, &line, &host, &second) < 0);
	assert_null(second);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(s5_turns_off),
		cmocka_unit_test(other_sleep_states_are_ignored),
		cmocka_unit_test(sci_is_always_enabled),
		cmocka_unit_test(button_needs_a_guest_that_listens),
		cmocka_unit_test(enables_by_bytes),
		cmocka_unit_test(timer_runs_at_its_rate),
		cmocka_unit_test(timer_status_tells_each_half),
		cmocka_unit_test(reset_register),
		cmocka_unit_test(keyboard_controller_pulse),
		cmocka_unit_test(events),
		cmocka_unit_test(power_on_again),
		cmocka_unit_test(saved_while_busy),
		cmocka_unit_test(random_sequences_agree_with_a_copy),
		cmocka_unit_test(impossible_state_is_refused),
		cmocka_unit_test(a_taken_port_is_an_error),
	};

	return cmocka_run_group_tests_name("device-power", tests, NULL, NULL);
}
