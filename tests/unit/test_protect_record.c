/* SPDX-License-Identifier: Apache-2.0 */

/* The ownership record as text: what may stand there comes back as it was, and nothing else is taken. */

#include <errno.h>
#include <string.h>

#include "check.h"
#include "protect/record.h"

#define A "00112233445566778899aabbccddeeff"
#define B "ffeeddccbbaa99887766554433221100"
#define HEAD "{\"version\":1,\"generation\":7,"
#define OWNED "\"owner\":\"" A "\""

static const struct ownership_id a = { { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
					 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff } };
static const struct ownership_id b = { { 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x77, 0x66,
					 0x55, 0x44, 0x33, 0x22, 0x11, 0x00 } };

static const struct {
	struct ownership_record record;
	const char *text;
} pairs[] = {
	{ { .generation = 7, .mode = OWNERSHIP_SOLO, .owner = a },
	  HEAD "\"mode\":\"solo\"," OWNED "}" },
	{ { .generation = 7, .mode = OWNERSHIP_STOPPED, .owner = a },
	  HEAD "\"mode\":\"stopped\"," OWNED "}" },
	{ { .generation = 7, .mode = OWNERSHIP_PROTECTED, .owner = a, .backup = b },
	  HEAD "\"mode\":\"protected\"," OWNED ",\"backup\":\"" B "\"}" },
	{ { .generation = 7, .mode = OWNERSHIP_CLAIMED, .owner = a, .from = b },
	  HEAD "\"mode\":\"claimed\"," OWNED ",\"from\":\"" B "\"}" },
	{ { .generation = INT64_MAX, .mode = OWNERSHIP_SOLO, .owner = a },
	  "{\"version\":1,\"generation\":9223372036854775807,\"mode\":\"solo\"," OWNED "}" },
};

static void test_each_has_one_text_and_comes_back(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		char text[LIMIT_OWNERSHIP_RECORD];
		struct ownership_record record;
		size_t len;

		assert_int_equal(record_encode(&pairs[i].record, text, &len), 0);
		assert_string_equal(text, pairs[i].text);
		assert_int_equal(len, strlen(text));
		assert_int_equal(record_decode(text, len, &record, NULL), 0);
		assert_memory_equal(&record, &pairs[i].record, sizeof(record));
	}
}

static void test_the_revision_is_not_in_the_text(void **state _unused_)
{
	struct ownership_record record = pairs[0].record;
	char text[LIMIT_OWNERSHIP_RECORD];
	size_t len;

	record.revision = 42;
	assert_int_equal(record_encode(&record, text, &len), 0);
	assert_string_equal(text, pairs[0].text);
	assert_int_equal(record_decode(text, len, &record, NULL), 0);
	assert_int_equal(record.revision, 0);
}

static void test_what_may_not_stand_there_is_not_written(void **state _unused_)
{
	static const struct ownership_record bad[] = {
		{ .mode = OWNERSHIP_SOLO, .owner = a },
		{ .generation = 1ULL << 63, .mode = OWNERSHIP_SOLO, .owner = a },
		{ .generation = 1, .mode = OWNERSHIP_NONE, .owner = a },
		{ .generation = 1, .mode = OWNERSHIP_MODES, .owner = a },
		{ .generation = 1, .mode = OWNERSHIP_SOLO },
		{ .generation = 1, .mode = OWNERSHIP_SOLO, .owner = a, .backup = b },
		{ .generation = 1, .mode = OWNERSHIP_SOLO, .owner = a, .from = b },
		{ .generation = 1, .mode = OWNERSHIP_PROTECTED, .owner = a },
		{ .generation = 1,
		  .mode = OWNERSHIP_PROTECTED,
		  .owner = a,
		  .backup = b,
		  .from = b },
		{ .generation = 1, .mode = OWNERSHIP_CLAIMED, .owner = a },
		{ .generation = 1, .mode = OWNERSHIP_STOPPED, .owner = a, .backup = b },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char text[LIMIT_OWNERSHIP_RECORD];
		size_t len;

		if (record_encode(&bad[i], text, &len) != -EINVAL)
			fail_msg("record %zu was written", i);
	}
}

static void assert_refused(const char *text, const char *why)
{
	struct ownership_record record;
	struct error err = { 0 };

	if (record_decode(text, strlen(text), &record, &err) != -EINVAL)
		fail_msg("%s was taken", text);
	if (!strstr(err.message, why))
		fail_msg("%s: '%s' does not say '%s'", text, err.message, why);
}

static void test_other_texts_are_refused(void **state _unused_)
{
	assert_refused("", "JSON");
	assert_refused("[]", "JSON");
	assert_refused(HEAD "\"mode\":\"solo\"," OWNED, "JSON");
	assert_refused(HEAD "\"mode\":\"solo\",\"mode\":\"solo\"," OWNED "}", "JSON");
	assert_refused(HEAD "\"mode\":\"solo\"," OWNED "} {}", "JSON");
	assert_refused("{}", "no version");
	assert_refused("{\"version\":\"1\"}", "no version");
	assert_refused("{\"version\":2,\"anything\":3}", "has version 2, this program knows 1");
	assert_refused(HEAD "\"mode\":\"solo\"," OWNED ",\"host\":\"a\"}", "a key");
	assert_refused(HEAD "\"mode\":\"solo\",\"owner\":\"" A "0\"}", "32 hexadecimal");
	assert_refused(HEAD "\"mode\":\"solo\",\"owner\":\"0011\"}", "32 hexadecimal");
	assert_refused(HEAD "\"mode\":\"solo\",\"owner\":\"" A "\\u0000\"}", "JSON");
	assert_refused(HEAD "\"mode\":\"solo\",\"owner\":7}", "32 hexadecimal");
	assert_refused(HEAD "\"mode\":\"solo\",\"owner\":\"00000000000000000000000000000000\"}",
		       "all zero");
	assert_refused(HEAD "\"mode\":\"solo\"}", "no owner");
	assert_refused(HEAD "\"mode\":\"none\"," OWNED "}", "no mode");
	assert_refused(HEAD "\"mode\":\"Solo\"," OWNED "}", "no mode");
	assert_refused(HEAD OWNED "}", "no mode");
	assert_refused(HEAD "\"mode\":\"solo\"," OWNED ",\"backup\":\"" B "\"}", "only then");
	assert_refused(HEAD "\"mode\":\"protected\"," OWNED "}", "only then");
	assert_refused(HEAD "\"mode\":\"claimed\"," OWNED "}", "only then");
	assert_refused("{\"version\":1,\"generation\":0,\"mode\":\"solo\"," OWNED "}",
		       "generation");
	assert_refused("{\"version\":1,\"generation\":-1,\"mode\":\"solo\"," OWNED "}",
		       "generation");
	assert_refused("{\"version\":1,\"generation\":1.0,\"mode\":\"solo\"," OWNED "}",
		       "generation");
	assert_refused("{\"version\":1,\"generation\":9223372036854775808,\"mode\":\"solo\"," OWNED
		       "}",
		       "JSON");
}

static void test_a_long_text_is_refused_unread(void **state _unused_)
{
	char text[LIMIT_OWNERSHIP_RECORD + 1];

	memset(text, ' ', sizeof(text));
	memcpy(text, pairs[0].text, strlen(pairs[0].text));
	text[LIMIT_OWNERSHIP_RECORD] = '\0';
	assert_refused(text, "too long");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_has_one_text_and_comes_back),
		cmocka_unit_test(test_the_revision_is_not_in_the_text),
		cmocka_unit_test(test_what_may_not_stand_there_is_not_written),
		cmocka_unit_test(test_other_texts_are_refused),
		cmocka_unit_test(test_a_long_text_is_refused_unread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
