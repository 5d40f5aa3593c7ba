/* SPDX-License-Identifier: Apache-2.0 */

/* base64: the examples of RFC 4648 (10), all bytes, and every other spelling refused. */

#include <errno.h>
#include <string.h>

#include "base/base64.h"
#include "check.h"

static void test_the_examples_of_the_rfc(void **state _unused_)
{
	static const struct {
		const char *plain, *text;
	} pairs[] = {
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		size_t len = strlen(pairs[i].plain), n;
		char text[BASE64_TEXT(6)], plain[6];

		base64_encode(pairs[i].plain, len, text);
		assert_string_equal(text, pairs[i].text);
		assert_int_equal(base64_decode(text, strlen(text), plain, len, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(plain, pairs[i].plain, len);
	}
}

static void test_every_byte_comes_back(void **state _unused_)
{
	uint8_t all[256], again[256];
	char text[BASE64_TEXT(sizeof(all))];
	size_t n;

	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)i;
	base64_encode(all, sizeof(all), text);
	assert_int_equal(strlen(text), sizeof(text) - 1);
	assert_int_equal(base64_decode(text, strlen(text), again, sizeof(again), &n), 0);
	assert_int_equal(n, sizeof(all));
	assert_memory_equal(all, again, sizeof(all));
}

static void test_other_spellings_are_refused(void **state _unused_)
{
	static const char *const bad[] = {
		"Zg",	    "Zg=",  "Zg===", "Z===", "====",  "=",	"Zh==", "Zm9=",
		"Zm8=Zm8=", "Zm-v", "Zm_v",  "Zm9 ", " Zm9v", "Zm9v\n", "Z=9v", "Zg==Zg==",
	};
	char bytes[16];
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (base64_decode(bad[i], strlen(bad[i]), bytes, sizeof(bytes), &n) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
	assert_int_equal(base64_decode("Z\0==", 4, bytes, sizeof(bytes), &n), -EINVAL);
	assert_int_equal(base64_decode("Zm9v", 4, bytes, 2, &n), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_examples_of_the_rfc),
		cmocka_unit_test(test_every_byte_comes_back),
		cmocka_unit_test(test_other_spellings_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
