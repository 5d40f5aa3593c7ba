/* SPDX-License-Identifier: Apache-2.0 */
/* What filters refuse: each error with its column, each limit from both sides. */
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macros.h"
#include "watch/filter/filter.h"

static const struct watch_record out_97 = {
	.kind = RECORD_PIO,
	.flags = RECORD_WRITE,
	.size = 1,
	.data = 97,
};

static const struct {
	const char *text;
	unsigned int column;
	const char *message; /* its beginning, behind "filter:COLUMN: " */
} wrong[] = {
	/* Words. */
	{ "dev==serial && lattency>5us", 16, "'lattency' is unknown; did you mean 'latency'?" },
	{ "outt", 1, "'outt' is unknown; did you mean 'out'?" },
	{ "addres==1", 1, "'addres' is unknown; did you mean 'address'?" },
	{ "foo==1", 1, "'foo' is unknown; 'utsusu watch --help' has all words" },
	{ "out && virtio-blk.0", 8, "'virtio-blk.0' is unknown; " },
	{ "OUT", 1, "'OUT' is unknown; " },
	{ "this_word_is_longer_than_forty_characters_or_so", 1,
	  "'this_word_is_longer_than_forty_character' is unknown; " },

	/* Conditions. */
	{ "vcpu", 5, "'vcpu' needs a comparison, like vcpu==1" },
	{ "vcpu && out", 6, "'vcpu' needs a comparison, like vcpu==1" },
	{ "vcpu=1", 5, "one = means nothing here; write ==" },
	{ "out == 1", 5, "'out' stands alone" },
	{ "in in 5..6", 4, "'in' stands alone" },
	{ "out & in", 5, "'out' stands alone" },
	{ "out | in", 5, "one | means nothing here; write ||" },
	{ "vcpu==1 vcpu==2", 9, "write && or || between two conditions" },
	{ "out in", 5, "'out' stands alone" },
	{ "out # in", 5, "this character means nothing here" },
	{ "\xc3\xa9", 1, "this character means nothing here" },
	{ "out &&", 7, "a condition is missing here" },
	{ "&& out", 1, "a condition is missing here" },
	{ "out && || in", 8, "a condition is missing here" },
	{ "!", 2, "a condition is missing here" },
	{ "5==data", 1, "a condition is missing here" },

	/* Parentheses. */
	{ "(out", 1, "this ( is not closed; a ) is missing" },
	{ "out || (in && (mmio)", 8, "this ( is not closed; a ) is missing" },
	{ "out)", 4, "this ) closes nothing; a ( is missing" },
	{ "()", 2, "a condition is missing here" },
	{ "(out in)", 6, "'out' stands alone" },
	{ "(out mmio)", 6, "write &&, || or ) behind a condition" },

	/* Numbers. */
	{ "data==", 7, "data takes a number, like data==0x20" },
	{ "data==one", 7, "data takes a number, like data==0x20" },
	{ "data==-1", 7, "data takes a number, like data==0x20" },
	{ "data==5ms", 7, "data takes a number, like data==0x20" },
	{ "data==5x", 7, "this is no number; write 10, 0x1f" },
	{ "data==1_0", 7, "this is no number; write 10, 0x1f" },
	{ "data==4k", 7, "this is no number; write 10, 0x1f" },
	{ "data==1.5", 7, "numbers are whole; write 1500us for 1.5ms" },
	{ "data==0x", 7, "this number has no digits" },
	{ "data==0b2", 7, "this number has no digits" },
	{ "data==0x10000000000000000", 7, "this number is too large" },
	{ "data==18446744073709551616", 7, "this number is too large" },
	{ "data==17179869184G", 7, "this number is too large" },
	{ "latency==18446744074s", 10, "this number is too large" },
	{ "data<0", 5, "no number is less than this one" },
	{ "data>0xffffffffffffffff", 5, "no number is more than this one" },

	/* Masks. */
	{ "data & out", 8, "data takes a number, like data==0x20" },
	{ "data & 1 == ", 13, "data takes a number, like data==0x20" },
	{ "latency & 5", 9, "latency has no bits; compare it, like latency>500us" },
	{ "dev & 5", 5, "dev has no bits; compare it" },

	/* Ranges and sets. */
	{ "data in", 8, "data takes a number" },
	{ "data in 5", 10, "in takes a range or a set" },
	{ "data in 5 && out", 11, "in takes a range or a set" },
	{ "data in 9..", 12, "data takes a number" },
	{ "data in 9..5", 12, "this range is empty; its smaller end comes first" },
	{ "data in 9..+0", 13, "this range is empty; its length is at least 1" },
	{ "data in 9..+", 13, "data takes a number" },
	{ "data in 1..+0xffffffffffffffff && data in 2..+0xffffffffffffffff", 47,
	  "this range is too long" },
	{ "data in {}", 10, "data takes a number" },
	{ "data in {1,}", 12, "data takes a number" },
	{ "data in {1 2}", 12, "write , or } behind a value of a set" },
	{ "data in {1, 2", 9, "this { is not closed; a } is missing" },
	{ "data in {3..1}", 13, "this range is empty; its smaller end comes first" },

	/* Times, results, values, names. */
	{ "latency>500", 9,
	  "latency takes a time with its unit (ns, us, ms, s), like latency>500us" },
	{ "latency in 5us..+0", 18, "this range is empty; its length is at least 1" },
	{ "latency in 5us..+7", 18, "latency takes a time with its unit" },
	{ "status==FOO", 9, "status takes 0, a negative number or an error's name" },
	{ "status==2147483648", 9, "status takes 0, a negative number or an error's name" },
	{ "status in -1..-5", 15, "this range is empty; its smaller end comes first" },
	{ "op==reed", 5, "op takes one of: read, write, flush, discard, zeroes, other" },
	{ "op==", 5, "op takes one of: read, write" },
	{ "verdict==o", 10, "verdict takes one of: not-judged, unknown, on" },
	{ "kind<disk", 5, "kind has no order; use ==, != or in {A, B}" },
	{ "op in read", 7, "op has no ranges; write a set: op in {A, B}" },
	{ "op in {read..write}", 8, "op takes one of: read, write" },
	{ "dev>serial", 4, "dev has no order; use ==, != or in {A, B}" },
	{ "dev in serial", 8, "dev has no ranges; write a set: dev in {A, B}" },
	{ "dev==", 6, "dev takes a name, like dev==virtio-blk.*" },
	{ "dev==\"serial\"", 6, "names and values stand without quotes" },
	{ "dev=='serial'", 6, "names and values stand without quotes" },
	{ "dev in {serial", 8, "this { is not closed" },
	{ "dev==0123456789012345678901234567890123456789012345678901234567890123", 6,
	  "this name is too long; a device's has at most 31 bytes" },
};

static void assert_wrong(const char *text, unsigned int column, const char *message)
{
	struct filter *filter = NULL;
	unsigned int found = 0;
	struct error err = { 0 };
	char expected[ERROR_MESSAGE_MAX];

	snprintf(expected, sizeof(expected), "filter:%u: %s", column, message);
	if (filter_compile(text, &filter, &found, &err) != -EINVAL)
		fail_msg("'%s' was taken", text);
	if (strncmp(err.message, expected, strlen(expected)) || found != column)
		fail_msg("'%s': column %u, '%s'", text, found, err.message);
	assert_null(filter);
	assert_int_equal(err.status, EXIT_STATUS_USAGE);
	assert_int_equal(filter_compile(text, &filter, NULL, NULL), -EINVAL);
}

static void test_errors_point_at_the_column(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_wrong(wrong[i].text, wrong[i].column, wrong[i].message);
}

/* Whether it is taken, and matches. */
static bool takes(const char *text)
{
	_cleanup_(freep) struct filter *filter = NULL;
	struct error err = { 0 };

	if (filter_compile(text, &filter, NULL, &err) < 0)
		fail_msg("%zu bytes: %s", strlen(text), err.message);
	return filter_match(filter, &out_97, NULL);
}

/* `n` times `part`, and the end. */
static char *repeated(const char *part, unsigned int n, const char *end)
{
	char *text = calloc(n * strlen(part) + strlen(end) + 1, 1);

	for (unsigned int i = 0; i < n; i++)
		strcat(text, part);
	return strcat(text, end);
}

static void test_limits_are_borders(void **state _unused_)
{
	_cleanup_(freep) char *longest = repeated(" ", FILTER_TEXT_MAX - 3, "out");
	_cleanup_(freep) char *longer = repeated(" ", FILTER_TEXT_MAX - 2, "out");
	_cleanup_(freep) char *most = repeated("in||", FILTER_TESTS_MAX - 1, "out");
	_cleanup_(freep) char *most_values = repeated("0,", FILTER_TESTS_MAX - 1, "97}");
	_cleanup_(freep) char *set = NULL, *set_over = NULL;
	_cleanup_(freep) char *deepest = repeated("!", FILTER_DEPTH_MAX, "out");
	_cleanup_(freep) char *deeper = repeated("!", FILTER_DEPTH_MAX + 1, "out");
	_cleanup_(freep) char *opened = repeated("(", FILTER_TEXT_MAX, "");

	assert_true(asprintf(&set, "data in {%s", most_values) > 0);
	assert_true(asprintf(&set_over, "data in {0,%s", most_values) > 0);
	assert_true(takes(longest));
	assert_wrong(longer, FILTER_TEXT_MAX + 1, "the text ends here; it has at most 1024 bytes");
	assert_true(takes(most));
	assert_true(takes(set));
	assert_wrong(set_over, (unsigned int)strlen(set_over), "more than 256 comparisons");
	assert_true(takes(deepest));
	assert_wrong(deeper, FILTER_DEPTH_MAX + 2, "more than 32 ( and ! inside each other");
	assert_wrong(opened, FILTER_DEPTH_MAX + 2, "more than 32 ( and ! inside each other");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_point_at_the_column),
		cmocka_unit_test(test_limits_are_borders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
