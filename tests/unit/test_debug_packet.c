/* SPDX-License-Identifier: Apache-2.0 */

/* Frames and numbers of GDB's protocol. */

#include <errno.h>
#include <string.h>

#include "check.h"
#include "debug/gdb_packet.h"

static struct gdb_framing framing;

static int set_up(void **state _unused_)
{
	memset(&framing, 0, sizeof(framing));
	return 0;
}

/* The last event of these bytes. */
static enum gdb_event take(const char *bytes, size_t len)
{
	enum gdb_event event = GDB_NOTHING;

	for (size_t i = 0; i < len; i++)
		event = gdb_framing_take(&framing, (uint8_t)bytes[i]);
	return event;
}

#define TAKE(text) take(text, sizeof(text) - 1)

static void a_packet_is_taken(void **state _unused_)
{
	assert_int_equal(TAKE("noise$m1,2#fc"), GDB_PACKET);
	assert_string_equal(framing.data, "m1,2");
	assert_int_equal(framing.len, 4);
	assert_int_equal(TAKE("$#00"), GDB_PACKET);
	assert_int_equal(framing.len, 0);
}

static void an_escaped_byte_is_itself(void **state _unused_)
{
	/* } 0x03 is '#' */
	assert_int_equal(TAKE("$X}\x03y#51"), GDB_PACKET);
	assert_int_equal(framing.len, 3);
	assert_memory_equal(framing.data, "X#y", 3);
}

static void a_wrong_sum_is_told(void **state _unused_)
{
	assert_int_equal(TAKE("$m1,2#fb"), GDB_BAD_SUM);
	assert_int_equal(TAKE("$m1,2#fg"), GDB_BAD_SUM);
	assert_int_equal(TAKE("$m1,2#FC"), GDB_PACKET);
}

static void words_between_packets(void **state _unused_)
{
	assert_int_equal(TAKE("+"), GDB_ACK);
	assert_int_equal(TAKE("-"), GDB_NAK);
	assert_int_equal(TAKE("\x03"), GDB_INTERRUPT);
	assert_int_equal(TAKE("$+-\x03#5b"), GDB_PACKET);
}

static void a_long_packet_is_lost_alone(void **state _unused_)
{
	gdb_framing_take(&framing, '$');
	for (size_t i = 0; i <= LIMIT_GDB_PACKET; i++)
		assert_int_equal(gdb_framing_take(&framing, 0x80), GDB_NOTHING);
	/* An odd number of 0x80. */
	assert_int_equal(TAKE("#80"), GDB_TOO_LONG);
	assert_int_equal(TAKE("$?#3f"), GDB_PACKET);
}

static void what_is_sent_can_be_taken(void **state _unused_)
{
	struct buffer out;
	uint8_t all[256];

	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	buffer_init(&out, 4096);
	assert_int_equal(gdb_packet_append(&out, all, sizeof(all)), 0);
	assert_int_equal(take((const char *)out.data, out.len), GDB_PACKET);
	assert_int_equal(framing.len, sizeof(all));
	assert_memory_equal(framing.data, all, sizeof(all));
	buffer_release(&out);
	buffer_init(&out, 20);
	assert_int_equal(gdb_packet_append(&out, all, sizeof(all)), -E2BIG);
	buffer_release(&out);
}

static struct gdb_text text_of(const char *text)
{
	return (struct gdb_text){ text, text + strlen(text) };
}

static void numbers_have_a_limit(void **state _unused_)
{
	struct gdb_text text = text_of("ffffffffffffffff,1g");
	uint64_t value;

	assert_true(gdb_text_number(&text, &value));
	assert_true(value == UINT64_MAX);
	assert_true(gdb_text_skip(&text, ","));
	assert_true(gdb_text_number(&text, &value));
	assert_int_equal(value, 1);
	assert_false(gdb_text_number(&text, &value));
	text = text_of("10000000000000000");
	assert_false(gdb_text_number(&text, &value));
	assert_int_equal(gdb_text_left(&text), 17);
	text = text_of("");
	assert_false(gdb_text_number(&text, &value));
	assert_false(gdb_text_skip(&text, "a"));
}

static void bytes_come_in_pairs(void **state _unused_)
{
	struct gdb_text text = text_of("00fFa");
	uint8_t bytes[3];

	assert_false(gdb_text_bytes(&text, bytes, 3));
	assert_true(gdb_text_bytes(&text, bytes, 2));
	assert_memory_equal(bytes, "\x00\xff", 2);
	text = text_of("0x");
	assert_false(gdb_text_bytes(&text, bytes, 1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(a_packet_is_taken),	   TEST(an_escaped_byte_is_itself),
		TEST(a_wrong_sum_is_told),	   TEST(words_between_packets),
		TEST(a_long_packet_is_lost_alone), TEST(what_is_sent_can_be_taken),
		TEST(numbers_have_a_limit),	   TEST(bytes_come_in_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
