/* SPDX-License-Identifier: Apache-2.0 */
/* The greeting: both sides come to the same answer, or refuse by name. */
#include "check.h"

#include <errno.h>
#include <string.h>

#include "wire/hello.h"

static const struct hello giver = {
	.version_min = 2,
	.version_max = 5,
	.role = HELLO_GIVES,
	.stream = 1,
	.n_streams = 4,
	.token = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
	.features = 0xf00000000000000f,
};

static struct hello taker(void)
{
	struct hello hello = giver;

	hello.role = HELLO_TAKES;
	return hello;
}

static void greeting_survives_the_wire(void **state _unused_)
{
	uint8_t bytes[HELLO_BYTES];
	struct hello hello = { 0 };

	hello_encode(&giver, bytes);
	assert_int_equal(hello_parse(bytes, sizeof(bytes), &hello, NULL), 0);
	assert_int_equal(hello.version_min, 2);
	assert_int_equal(hello.version_max, 5);
	assert_int_equal(hello.role, HELLO_GIVES);
	assert_int_equal(hello.stream, 1);
	assert_int_equal(hello.n_streams, 4);
	assert_memory_equal(hello.token, giver.token, HELLO_TOKEN_BYTES);
	assert_int_equal(hello.features, giver.features);
}

static void what_a_newer_version_appends_is_skipped(void **state _unused_)
{
	uint8_t bytes[HELLO_BYTES_MAX + 1] = { 0 };
	struct hello hello;

	hello_encode(&giver, bytes);
	assert_int_equal(hello_parse(bytes, HELLO_BYTES + 1, &hello, NULL), 0);
	assert_int_equal(hello_parse(bytes, HELLO_BYTES_MAX, &hello, NULL), 0);
	assert_int_equal(hello_parse(bytes, HELLO_BYTES_MAX + 1, &hello, NULL), -EBADMSG);
}

static void short_greetings_are_refused(void **state _unused_)
{
	uint8_t bytes[HELLO_BYTES];
	struct hello hello;

	hello_encode(&giver, bytes);
	for (size_t len = 0; len < sizeof(bytes); len++)
		assert_int_equal(hello_parse(bytes, len, &hello, NULL), -EBADMSG);
}

static void senseless_greetings_are_refused_by_name(void **state _unused_)
{
	static const struct {
		size_t at;
		uint8_t value;
		const char *why;
	} cases[] = {
		{ 0, 'U', "does not begin" },
		{ 7, 1, "does not begin" },
		{ 8, 0, "no range" },
		{ 8, 6, "no range" },
		{ 12, 0, "neither gives" },
		{ 12, 3, "neither gives" },
		{ 14, 4, "beyond their number" },
		{ 15, 0, "beyond their number" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t bytes[HELLO_BYTES];
		struct error err = { 0 };
		struct hello hello;

		hello_encode(&giver, bytes);
		bytes[cases[i].at] = cases[i].value;
		assert_int_equal(hello_parse(bytes, sizeof(bytes), &hello, &err), -EBADMSG);
		assert_non_null(strstr(err.message, cases[i].why));
	}
}

static void both_sides_agree_on_the_same(void **state _unused_)
{
	static const struct {
		uint16_t mine[2], peers[2], agreed;
	} cases[] = {
		{ { 1, 1 }, { 1, 1 }, 1 }, { { 1, 4 }, { 1, 4 }, 4 }, { { 1, 4 }, { 2, 3 }, 3 },
		{ { 3, 4 }, { 1, 3 }, 3 }, { { 1, 3 }, { 3, 9 }, 3 }, { { 1, 65535 }, { 1, 2 }, 2 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hello a = giver, b = taker();
		struct hello_agreed from_a, from_b;

		a.version_min = cases[i].mine[0];
		a.version_max = cases[i].mine[1];
		b.version_min = cases[i].peers[0];
		b.version_max = cases[i].peers[1];
		b.features = 0x10000000000000f0 | 3;
		assert_int_equal(hello_agree(&a, &b, &from_a, NULL), 0);
		assert_int_equal(hello_agree(&b, &a, &from_b, NULL), 0);
		assert_int_equal(from_a.version, cases[i].agreed);
		assert_int_equal(from_b.version, cases[i].agreed);
		assert_int_equal(from_a.features, 0x1000000000000003);
		assert_int_equal(from_b.features, from_a.features);
	}
}

static void versions_that_do_not_meet_are_named(void **state _unused_)
{
	struct hello_agreed agreed = { 77, 77 };
	struct error older = { 0 }, newer = { 0 };
	struct hello a = giver, b = taker();

	b.version_min = 6;
	b.version_max = 8;
	assert_int_equal(hello_agree(&a, &b, &agreed, &older), -EPROTONOSUPPORT);
	assert_int_equal(hello_agree(&b, &a, &agreed, &newer), -EPROTONOSUPPORT);
	assert_non_null(strstr(older.message, "peer speaks versions 6 to 8"));
	assert_non_null(strstr(older.message, "this host 2 to 5"));
	assert_non_null(strstr(newer.message, "peer speaks versions 2 to 5"));
	assert_int_equal(agreed.version, 77);
}

static void refuse(const struct hello *peer, const char *why)
{
	struct hello_agreed agreed;
	struct error err = { 0 };

	assert_int_equal(hello_agree(&giver, peer, &agreed, &err), -EPROTO);
	assert_non_null(strstr(err.message, why));
}

static void peers_of_another_move_or_stream_are_refused(void **state _unused_)
{
	struct hello peer = taker();

	peer.token[15] ^= 1;
	refuse(&peer, "another move");
	peer = taker();
	peer.role = HELLO_GIVES;
	refuse(&peer, "both sides would give");
	peer = taker();
	peer.stream = 0;
	refuse(&peer, "stream 1 of 4 meets the peer's 0 of 4");
	peer = taker();
	peer.n_streams = 2;
	refuse(&peer, "stream 1 of 4 meets the peer's 1 of 2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting_survives_the_wire),
		cmocka_unit_test(what_a_newer_version_appends_is_skipped),
		cmocka_unit_test(short_greetings_are_refused),
		cmocka_unit_test(senseless_greetings_are_refused_by_name),
		cmocka_unit_test(both_sides_agree_on_the_same),
		cmocka_unit_test(versions_that_do_not_meet_are_named),
		cmocka_unit_test(peers_of_another_move_or_stream_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
