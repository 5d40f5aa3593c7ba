/* SPDX-License-Identifier: Apache-2.0 */

/* The 16550A, as its data sheet has it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "device/serial.h"
#include "device_rig.h"

#define BASE 0x3f8
#define IRQ 4

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH, FCR = IIR };

static struct device_rig *uart_new(void)
{
	struct device_rig *rig = calloc(1, sizeof(*rig));
	struct irq_line irq;

	rig_init(rig, 1);
	irq = rig_line(rig, IRQ);
	assert_int_equal(serial_new(rig->bus, BASE, &irq, &rig->stream.stream, &rig->device), 0);
	return rig;
}

static void uart_free(struct device_rig *rig)
{
	rig_release(rig);
	free(rig);
}

static void out(struct device_rig *rig, unsigned int reg, uint8_t value)
{
	rig_out(rig, (uint16_t)(BASE + reg), 1, value);
}

static uint8_t in(struct device_rig *rig, unsigned int reg)
{
	return (uint8_t)rig_in(rig, (uint16_t)(BASE + reg), 1);
}

static size_t type(struct device_rig *rig, const char *text)
{
	return rig->stream.stream.received(rig->stream.stream.ctx, text, strlen(text));
}

static bool irq(const struct device_rig *rig)
{
	return rig->lines[IRQ].level;
}

/* FIFOs on with `trigger` (FCR bits 7 and 6), all interrupts, let out to the bus. */
static void enable(struct device_rig *rig, uint8_t trigger)
{
	out(rig, FCR, 0x01 | trigger);
	out(rig, MCR, 0x0b);
	out(rig, IER, 0x0f);
	in(rig, IIR); /* the transmitter's, for having been enabled while empty */
	in(rig, MSR);
}

static void power_on_values(void **state)
{
	struct device_rig *rig = uart_new();

	assert_int_equal(in(rig, IER), 0);
	assert_int_equal(in(rig, IIR), 0x01);
	assert_int_equal(in(rig, LCR), 0);
	assert_int_equal(in(rig, MCR), 0);
	assert_int_equal(in(rig, LSR), 0x60);
	assert_int_equal(in(rig, MSR), 0xb0);
	uart_free(rig);
}

static void plain_registers_hold_what_they_should(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, SCRATCH, 0xa5);
	out(rig, IER, 0xff);
	out(rig, MCR, 0xff);
	out(rig, LCR, 0x3f);
	out(rig, LSR, 0);
	out(rig, MSR, 0);
	assert_int_equal(in(rig, SCRATCH), 0xa5);
	assert_int_equal(in(rig, IER), 0x0f);
	assert_int_equal(in(rig, MCR), 0x1f);
	assert_int_equal(in(rig, LCR), 0x3f);
	assert_int_equal(in(rig, LSR) & 0x60, 0x60);
	uart_free(rig);
}

static void divisor_latch_hides_two_registers(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, LCR, 0x80);
	rig_out(rig, BASE, 2, 0x1234); /* one access, two registers */
	assert_int_equal(in(rig, DATA), 0x34);
	assert_int_equal(in(rig, IER), 0x12);
	out(rig, LCR, 0x03);
	assert_int_equal(in(rig, IER), 0);
	assert_int_equal(rig->stream.n, 0);
	out(rig, LCR, 0x80);
	assert_int_equal(rig_in(rig, BASE, 2), 0x1234);
	uart_free(rig);
}

static void bytes_go_out(void **state)
{
	struct device_rig *rig = uart_new();

	for (const char *p = "boot"; *p; p++)
		out(rig, DATA, (uint8_t)*p);
	assert_int_equal(rig->stream.n, 4);
	assert_memory_equal(rig->stream.bytes, "boot", 4);
	assert_int_equal(in(rig, LSR), 0x60);
	uart_free(rig);
}

static void a_full_stream_keeps_thre_clear(void **state)
{
	struct device_rig *rig = uart_new();

	enable(rig, 0);
	rig->stream.room = 2;
	for (unsigned int i = 0; i < 30; i++) /* more than the FIFO holds: the rest is lost */
		out(rig, DATA, (uint8_t)('a' + i % 26));
	assert_int_equal(rig->stream.n, 2);
	assert_int_equal(in(rig, LSR) & 0x60, 0);
	in(rig, IIR);
	assert_false(irq(rig));
	rig->stream.room = 5;
	rig->stream.stream.writable(rig->stream.stream.ctx);
	assert_int_equal(rig->stream.n, 7);
	assert_false(irq(rig));
	rig->stream.room = 100;
	rig->stream.stream.writable(rig->stream.stream.ctx);
	assert_int_equal(rig->stream.n, 18);
	assert_memory_equal(rig->stream.bytes, "abcdefghijklmnopqr", 18);
	assert_true(irq(rig));
	assert_int_equal(in(rig, IIR), 0xc2);
	assert_int_equal(in(rig, LSR) & 0x60, 0x60);
	uart_free(rig);
}

static void polling_lsr_finds_new_room(void **state)
{
	struct device_rig *rig = uart_new();

	rig->stream.room = 0;
	out(rig, DATA, 'x');
	assert_int_equal(in(rig, LSR) & 0x20, 0);
	rig->stream.room = 1;
	assert_int_equal(in(rig, LSR) & 0x20, 0x20);
	assert_int_equal(rig->stream.bytes[0], 'x');
	uart_free(rig);
}

static void transmitter_interrupt(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, MCR, 0x08);
	out(rig, IER, 0x02); /* empty already: asks at once */
	assert_true(irq(rig));
	assert_int_equal(in(rig, IIR), 0x02);
	assert_false(irq(rig)); /* reading took it back */
	assert_int_equal(in(rig, IIR), 0x01);
	out(rig, DATA, 'a');
	assert_true(irq(rig));
	out(rig, IER, 0);
	assert_false(irq(rig));
	out(rig, IER, 0x02);
	assert_true(irq(rig));
	in(rig, IIR);
	out(rig, IER, 0);
	out(rig, IER, 0x02); /* enabled anew: asks anew */
	assert_int_equal(in(rig, IIR), 0x02);
	uart_free(rig);
}

static void out2_gates_the_interrupt(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, IER, 0x01);
	type(rig, "a");
	assert_false(irq(rig));
	assert_int_equal(in(rig, IIR), 0x04);
	out(rig, MCR, 0x08);
	assert_true(irq(rig));
	out(rig, MCR, 0x18); /* inactive in loopback */
	assert_false(irq(rig));
	uart_free(rig);
}

static void without_fifos_one_byte_at_a_time(void **state)
{
	struct device_rig *rig = uart_new();

	assert_int_equal(type(rig, "abc"), 1);
	assert_int_equal(in(rig, LSR), 0x61);
	assert_int_equal(in(rig, DATA), 'a');
	assert_int_equal(rig->stream.readies, 1);
	assert_int_equal(type(rig, "bc"), 1);
	assert_int_equal(in(rig, DATA), 'b');
	assert_int_equal(in(rig, LSR), 0x60);
	uart_free(rig);
}

static void trigger_level_and_timeout(void **state)
{
	static const struct {
		uint8_t fcr;
		unsigned int level;
	} cases[] = { { 0x00, 1 }, { 0x40, 4 }, { 0x80, 8 }, { 0xc0, 14 } };

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct device_rig *rig = uart_new();

		enable(rig, cases[i].fcr);
		for (unsigned int n = 1; n <= 16; n++) {
			assert_int_equal(type(rig, "x"), 1);
			assert_int_equal(in(rig, IIR), n >= cases[i].level ? 0xc4 : 0xcc);
			assert_true(irq(rig));
		}
		assert_int_equal(type(rig, "x"), 0); /* full: stays with the world */
		assert_int_equal(in(rig, LSR) & 0x02, 0);
		for (unsigned int n = 15; n + 1 > 0; n--) {
			in(rig, DATA);
			if (n)
				assert_int_equal(in(rig, IIR), n >= cases[i].level ? 0xc4 : 0xcc);
		}
		assert_int_equal(in(rig, IIR), 0xc1);
		assert_false(irq(rig));
		assert_int_equal(rig->stream.readies, 1); /* told once, when there was room */
		uart_free(rig);
	}
}

static void interrupts_by_priority(void **state)
{
	struct device_rig *rig = uart_new();

	enable(rig, 0x40);
	out(rig, MCR, 0x10); /* loopback, all lines low: modem status */
	out(rig, LCR, 0x40); /* a break: line status, and a character */
	assert_int_equal(in(rig, IIR), 0xc6);
	assert_int_equal(in(rig, LSR), 0xf9); /* break, framing, data, error in the FIFO */
	assert_int_equal(in(rig, IIR), 0xcc);
	assert_int_equal(in(rig, LSR), 0x61);
	in(rig, DATA);
	out(rig, LCR, 0x03);
	out(rig, DATA, 'a');
	in(rig, DATA);
	assert_int_equal(in(rig, IIR), 0xc2);
	assert_int_equal(in(rig, IIR), 0xc0);
	assert_int_equal(in(rig, MSR), 0x0b);
	assert_int_equal(in(rig, IIR), 0xc1);
	uart_free(rig);
}

static void loopback_receives_what_it_sends(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, FCR, 0x01);
	out(rig, MCR, 0x10);
	assert_int_equal(type(rig, "outside"), 0);
	for (unsigned int i = 0; i < 16; i++)
		out(rig, DATA, (uint8_t)i);
	assert_int_equal(in(rig, LSR), 0x61);
	out(rig, DATA, 0xff); /* no room: overrun, the newcomer is lost */
	assert_int_equal(in(rig, LSR), 0x63);
	assert_int_equal(in(rig, LSR), 0x61);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(in(rig, DATA), i);
	assert_int_equal(rig->stream.n, 0);
	assert_int_equal(rig->stream.readies, 0);
	out(rig, MCR, 0); /* back: the world may send what it held */
	assert_int_equal(rig->stream.readies, 1);
	assert_int_equal(type(rig, "outside"), 7);
	uart_free(rig);
}

static void overrun_without_fifos_replaces_the_byte(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, MCR, 0x10);
	out(rig, DATA, 'a');
	out(rig, DATA, 'b');
	assert_int_equal(in(rig, LSR), 0x63);
	assert_int_equal(in(rig, DATA), 'b');
	uart_free(rig);
}

static void loopback_wires_the_modem_lines(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, MCR, 0x1a); /* RTS and OUT2, as Linux probes */
	assert_int_equal(in(rig, MSR) & 0xf0, 0x90);
	assert_int_equal(in(rig, MSR), 0x90);
	out(rig, MCR, 0x1e); /* RI rises: no delta */
	assert_int_equal(in(rig, MSR), 0xd0);
	out(rig, MCR, 0x11); /* all change */
	assert_int_equal(in(rig, MSR), 0x2f);
	out(rig, MCR, 0x00);
	assert_int_equal(in(rig, MSR), 0xb9);
	uart_free(rig);
}

static void errors_belong_to_their_character(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, FCR, 0x01);
	out(rig, MCR, 0x10);
	out(rig, DATA, 'a');
	out(rig, LCR, 0x40);
	assert_int_equal(in(rig, LSR), 0xe1); /* an error in the FIFO, not at its head */
	out(rig, DATA, 'z');		      /* while the line is held nothing is sent */
	assert_int_equal(in(rig, DATA), 'a');
	assert_int_equal(in(rig, LSR), 0xf9);
	assert_int_equal(in(rig, LSR), 0x61);
	assert_int_equal(in(rig, DATA), 0);
	assert_int_equal(in(rig, LSR), 0x60);
	uart_free(rig);
}

static void break_silences_the_line(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, LCR, 0x40);
	out(rig, DATA, 'x');
	assert_int_equal(in(rig, LSR), 0x60);
	out(rig, LCR, 0x03);
	out(rig, DATA, 'y');
	assert_int_equal(rig->stream.n, 1);
	assert_int_equal(rig->stream.bytes[0], 'y');
	uart_free(rig);
}

static void fifo_control(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, FCR, 0xc0); /* without the enable bit nothing is taken */
	assert_int_equal(in(rig, IIR), 0x01);
	out(rig, FCR, 0x01);
	type(rig, "abc");
	out(rig, FCR, 0x03); /* clears the receiver */
	assert_int_equal(in(rig, LSR), 0x60);
	rig->stream.room = 0;
	out(rig, DATA, 'x');
	assert_int_equal(in(rig, LSR), 0x00);
	out(rig, FCR, 0x05); /* clears the transmitter */
	assert_int_equal(in(rig, LSR), 0x60);
	type(rig, "abc");
	out(rig, FCR, 0x00); /* a change of mode clears both */
	assert_int_equal(in(rig, LSR), 0x60);
	rig->stream.room = 9;
	in(rig, LSR);
	assert_int_equal(rig->stream.n, 0);
	uart_free(rig);
}

static void clearing_the_receiver_makes_room(void **state)
{
	struct device_rig *rig = uart_new();

	out(rig, FCR, 0x01);
	assert_int_equal(type(rig, "0123456789abcdefXYZ"), 16);
	out(rig, FCR, 0x03);
	assert_int_equal(rig->stream.readies, 1);
	uart_free(rig);
}

static void reset_gives_power_on_values(void **state)
{
	struct device_rig *rig = uart_new();

	enable(rig, 0xc0);
	assert_int_equal(type(rig, "0123456789abcdefXYZ"), 16);
	out(rig, SCRATCH, 1);
	assert_true(irq(rig));
	rig->device->ops->reset(rig->device);
	assert_false(irq(rig));
	assert_int_equal(in(rig, LSR), 0x60);
	assert_int_equal(in(rig, IIR), 0x01);
	assert_int_equal(in(rig, SCRATCH), 0);
	assert_int_equal(rig->stream.readies, 1);
	uart_free(rig);
}

static void copy(struct device_rig *to, struct device_rig *from)
{
	struct error err = { 0 };
	struct buffer saved;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(from, &saved);
	assert_int_equal(rig_load(to, from, &saved, &err), 0);
	buffer_release(&saved);
	rig_expect_equal(from, to);
}

static void saved_while_busy(void **state)
{
	struct device_rig *a = uart_new(), *b = uart_new();

	enable(a, 0x80);
	a->stream.room = b->stream.room = 0;
	for (unsigned int i = 0; i < 5; i++)
		out(a, DATA, (uint8_t)('a' + i));
	type(a, "input");
	copy(b, a);
	assert_true(irq(b));
	for (unsigned int i = 0; i < 2; i++) {
		struct device_rig *rig = i ? b : a;

		rig->stream.room = 100;
		rig->stream.stream.writable(rig->stream.stream.ctx);
		assert_int_equal(rig->stream.n, 5);
		assert_memory_equal(rig->stream.bytes, "abcde", 5);
		assert_int_equal(in(rig, IIR), 0xcc);
		for (const char *p = "input"; *p; p++)
			assert_int_equal(in(rig, DATA), *p);
		assert_int_equal(in(rig, IIR), 0xc2);
	}
	rig_expect_equal(a, b);
	uart_free(a);
	uart_free(b);
}

static void loaded_bytes_leave_when_the_device_starts(void **state)
{
	struct device_rig *a = uart_new(), *b = uart_new();
	struct error err = { 0 };
	struct buffer saved;

	a->stream.room = 0;
	out(a, DATA, 'x');
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(a, &saved);
	assert_int_equal(rig_load(b, a, &saved, &err), 0);
	assert_int_equal(b->stream.n, 1);
	assert_int_equal(b->stream.readies, 1); /* the world may have been held back */
	buffer_release(&saved);
	uart_free(a);
	uart_free(b);
}

static void random_sequences_agree_with_a_copy(void **state)
{
	static const struct rig_port ports[] = {
		{ BASE + DATA, 1 }, { BASE + IER, 1 }, { BASE + IIR, 1 }, { BASE + LCR, 1 },
		{ BASE + MCR, 1 },  { BASE + LSR, 1 }, { BASE + MSR, 1 }, { BASE + SCRATCH, 1 },
		{ BASE + DATA, 1 }, { BASE, 2 },       { BASE + IIR, 4 },
	};

	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct device_rig *a = uart_new(), *b = uart_new();
		uint64_t random = seed * 0x9e3779b97f4a7c15ULL;

		a->stream.room = b->stream.room = 0;
		rig_random_run(a, NULL, ports, ARRAY_SIZE(ports), 300, &random, NULL);
		type(a, "some input");
		copy(b, a);
		b->stream.readies = a->stream.readies;
		a->stream.room = b->stream.room = 50;
		a->stream.n = b->stream.n = 0;
		rig_random_run(a, b, ports, ARRAY_SIZE(ports), 300, &random, NULL);
		assert_int_equal(a->stream.n, b->stream.n);
		assert_memory_equal(a->stream.bytes, b->stream.bytes, a->stream.n);
		rig_expect_equal(a, b);
		uart_free(a);
		uart_free(b);
	}
}

static void impossible_state_is_refused(void **state)
{
	struct device_rig *a = uart_new(), *b = uart_new();
	struct error err = { 0 };
	struct buffer saved;
	unsigned int refused = 0;

	enable(a, 0x80);
	type(a, "input");
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(a, &saved);
	for (size_t at = 0; at < saved.len; at++) {
		saved.data[at] ^= 0xf0;
		refused += rig_load(b, NULL, &saved, &err) < 0;
		for (unsigned int i = 0; i < 20; i++)
			out(b, DATA, 'x'), in(b, DATA);
		saved.data[at] ^= 0xf0;
	}
	assert_true(refused > 10);
	buffer_release(&saved);
	uart_free(a);
	uart_free(b);
}

static void a_taken_port_is_an_error(void **state)
{
	struct device_rig *rig = uart_new();
	const struct irq_line line = rig_line(rig, 3);
	struct rig_stream other = { .room = 1 };
	struct device *second = NULL;

	assert_true(serial_new(rig->bus, BASE + 1, &line, &other.stream, &second) < 0);
	assert_null(second);
	uart_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_on_values),
		cmocka_unit_test(plain_registers_hold_what_they_should),
		cmocka_unit_test(divisor_latch_hides_two_registers),
		cmocka_unit_test(bytes_go_out),
		cmocka_unit_test(a_full_stream_keeps_thre_clear),
		cmocka_unit_test(polling_lsr_finds_new_room),
		cmocka_unit_test(transmitter_interrupt),
		cmocka_unit_test(out2_gates_the_interrupt),
		cmocka_unit_test(without_fifos_one_byte_at_a_time),
		cmocka_unit_test(trigger_level_and_timeout),
		cmocka_unit_test(interrupts_by_priority),
		cmocka_unit_test(loopback_receives_what_it_sends),
		cmocka_unit_test(overrun_without_fifos_replaces_the_byte),
		cmocka_unit_test(loopback_wires_the_modem_lines),
		cmocka_unit_test(errors_belong_to_their_character),
		cmocka_unit_test(break_silences_the_line),
		cmocka_unit_test(fifo_control),
		cmocka_unit_test(clearing_the_receiver_makes_room),
		cmocka_unit_test(reset_gives_power_on_values),
		cmocka_unit_test(saved_while_busy),
		cmocka_unit_test(loaded_bytes_leave_when_the_device_starts),
		cmocka_unit_test(random_sequences_agree_with_a_copy),
		cmocka_unit_test(impossible_state_is_refused),
		cmocka_unit_test(a_taken_port_is_an_error),
	};

	return cmocka_run_group_tests_name("device-serial", tests, NULL, NULL);
}
