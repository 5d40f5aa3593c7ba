/* SPDX-License-Identifier: Apache-2.0 */
/* Comparisons: a field, perhaps its mask, an operator, values. */
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "watch/filter/internal.h"

#define ERRNO_MAX 133		     /* Linux's errno values end here */
#define PATTERN_MAX (2 * STORE_NAME) /* bytes of a name, with stars */

static int fail_value(struct filter_parser *parser, const struct filter_field *field,
		      const char *takes)
{
	return filter_fail_here(parser, "%s takes %s, like %s", field->word.name, takes,
				field->example);
}

static int parse_number(struct filter_parser *parser, const struct filter_field *field,
			uint64_t *ret_value)
{
	if (parser->token.kind != TOKEN_NUMBER)
		return fail_value(parser, field, "a number");
	*ret_value = parser->token.value;
	filter_advance(parser);
	return 0;
}

static int parse_time(struct filter_parser *parser, const struct filter_field *field,
		      uint64_t *ret_value)
{
	bool is_zero = parser->token.kind == TOKEN_NUMBER && !parser->token.value;

	if (parser->token.kind != TOKEN_TIME && !is_zero)
		return fail_value(parser, field, "a time with its unit (ns, us, ms, s)");
	*ret_value = parser->token.value;
	filter_advance(parser);
	return 0;
}

/* 0: not the name of an errno. */
static int errno_of_name(const char *name, unsigned int len)
{
	for (int code = 1; code <= ERRNO_MAX; code++) {
		const char *known = strerrorname_np(code);

		if (known && strlen(known) == len && !memcmp(known, name, len))
			return code;
	}
	return 0;
}

/* EIO is meant as a result: -5, as -EIO is. */
static int parse_status(struct filter_parser *parser, const struct filter_field *field,
			uint64_t *ret_value)
{
	bool negative = parser->token.kind == TOKEN_MINUS;
	int code = 0;

	if (negative)
		filter_advance(parser);
	if (parser->token.kind == TOKEN_WORD)
		code = errno_of_name(parser->text + parser->token.at, parser->token.len);
	if (!code && (parser->token.kind != TOKEN_NUMBER || parser->token.value > INT32_MAX))
		return fail_value(parser, field, "0, a negative number or an error's name");
	if (code)
		*ret_value = FILTER_SIGN - (uint64_t)code;
	else
		*ret_value = negative ? FILTER_SIGN - parser->token.value
				      : FILTER_SIGN + parser->token.value;
	filter_advance(parser);
	return 0;
}

static void list_symbols(const struct filter_field *field, char *text, size_t size)
{
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < field->n_symbols && len < size; i++)
		len += (size_t)snprintf(text + len, size - len, "%s%s", i ? ", " : "",
					field->symbols[i].word.name);
}

static int fail_symbol(struct filter_parser *parser, const struct filter_field *field,
		       const struct filter_token *token)
{
	char known[128];

	list_symbols(field, known, sizeof(known));
	return filter_fail(parser, token->at, "%s takes one of: %s", field->word.name, known);
}

static int parse_symbol(struct filter_parser *parser, const struct filter_field *field,
			uint64_t *ret_value)
{
	struct filter_token token = filter_lex_name(parser->text, parser->token.at);

	for (unsigned int i = 0; i < field->n_symbols; i++) {
		const char *name = field->symbols[i].word.name;

		if (strlen(name) != token.len || memcmp(name, parser->text + token.at, token.len))
			continue;
		*ret_value = field->symbols[i].value;
		parser->token = token;
		filter_advance(parser);
		return 0;
	}
	return fail_symbol(parser, field, &token);
}

/* The value is what load_device finds where the pattern matches. */
static int parse_pattern(struct filter_parser *parser, struct filter_test *test,
			 uint64_t *ret_value)
{
	struct filter_token token = filter_lex_name(parser->text, parser->token.at);

	if (!token.len)
		return fail_value(parser, test->field, "a name");
	if (token.len >= PATTERN_MAX)
		return filter_fail(parser, token.at,
				   "this name is too long; a device's has at most %d bytes",
				   STORE_NAME - 1);
	/* What follows it in the text was no part of a name, and is read from the text only. */
	parser->names[token.at + token.len] = '\0';
	test->pattern = parser->names + token.at;
	*ret_value = 1;
	parser->token = token;
	filter_advance(parser);
	return 0;
}

static int parse_value(struct filter_parser *parser, struct filter_test *test, uint64_t *ret_value)
{
	switch (test->field->class) {
	case FILTER_TIME:
		return parse_time(parser, test->field, ret_value);
	case FILTER_STATUS:
		return parse_status(parser, test->field, ret_value);
	case FILTER_SYMBOL:
		return parse_symbol(parser, test->field, ret_value);
	case FILTER_NAME:
		return parse_pattern(parser, test, ret_value);
	default:
		return parse_number(parser, test->field, ret_value);
	}
}

static bool has_order(const struct filter_field *field)
{
	return field->class != FILTER_SYMBOL && field->class != FILTER_NAME;
}

/* Behind A..+ */
static int parse_length(struct filter_parser *parser, struct filter_test *test)
{
	unsigned int at = parser->token.at;
	uint64_t len = 0;
	int r;

	if (test->field->class == FILTER_TIME)
		r = parse_time(parser, test->field, &len);
	else
		r = parse_number(parser, test->field, &len);
	if (r < 0)
		return r;
	if (!len)
		return filter_fail(parser, at, "this range is empty; its length is at least 1");
	if (__builtin_add_overflow(test->low, len - 1, &test->high))
		return filter_fail(parser, at, "this range is too long; it ends above 64 bits");
	return 0;
}

/* Behind A.. */
static int parse_end(struct filter_parser *parser, struct filter_test *test)
{
	unsigned int at = parser->token.at;
	int r;

	if (parser->token.kind == TOKEN_PLUS) {
		filter_advance(parser);
		return parse_length(parser, test);
	}
	r = parse_value(parser, test, &test->high);
	if (r < 0)
		return r;
	if (test->high < test->low)
		return filter_fail(parser, at, "this range is empty; its smaller end comes first");
	return 0;
}

/* A value or a range: the index of its node. */
static int parse_element(struct filter_parser *parser, struct filter_test test, bool is_set)
{
	int r = parse_value(parser, &test, &test.low);

	if (r < 0)
		return r;
	test.high = test.low;
	if (parser->token.kind == TOKEN_RANGE && has_order(test.field)) {
		filter_advance(parser);
		r = parse_end(parser, &test);
		if (r < 0)
			return r;
	} else if (!is_set) {
		return filter_fail_here(parser, "in takes a range or a set: 1..9, 1..+9 or {1, 3, "
						"5}; for one value write ==");
	}
	return filter_add_test(parser, &test);
}

static int parse_set(struct filter_parser *parser, const struct filter_test *test)
{
	unsigned int open = parser->token.at;
	int element, node = -1;

	do {
		filter_advance(parser);
		element = parse_element(parser, *test, true);
		if (element < 0)
			return element;
		node = node < 0 ? element : filter_join(parser, NODE_OR, node, element);
	} while (parser->token.kind == TOKEN_COMMA);
	if (parser->token.kind == TOKEN_END)
		return filter_fail(parser, open, "this { is not closed; a } is missing");
	if (parser->token.kind != TOKEN_SET_CLOSE)
		return filter_fail_here(parser, "write , or } behind a value of a set");
	filter_advance(parser);
	return node;
}

static int parse_in(struct filter_parser *parser, const struct filter_test *test)
{
	filter_advance(parser);
	if (parser->token.kind == TOKEN_SET_OPEN)
		return parse_set(parser, test);
	if (!has_order(test->field))
		return filter_fail_here(parser, "%s has no ranges; write a set: %s in {A, B}",
					test->field->word.name, test->field->word.name);
	return parse_element(parser, *test, false);
}

/* The values for which `relation` to `value` holds. */
static int set_bounds(struct filter_parser *parser, struct filter_test *test,
		      const struct filter_token *relation, uint64_t value)
{
	bool less = relation->kind == TOKEN_LESS, more = relation->kind == TOKEN_MORE;

	if ((less && value == 0) || (more && value == UINT64_MAX))
		return filter_fail(parser, relation->at, "no number is %s than this one",
				   less ? "less" : "more");
	test->low = 0;
	test->high = UINT64_MAX;
	test->outside = relation->kind == TOKEN_UNEQUAL;
	if (less || relation->kind == TOKEN_AT_MOST)
		test->high = value - less;
	else if (more || relation->kind == TOKEN_AT_LEAST)
		test->low = value + more;
	else
		test->low = test->high = value;
	return 0;
}

static int parse_relation(struct filter_parser *parser, struct filter_test *test)
{
	struct filter_token relation = parser->token;
	uint64_t value;
	int r;

	if (relation.kind != TOKEN_EQUAL && relation.kind != TOKEN_UNEQUAL &&
	    !has_order(test->field))
		return filter_fail(parser, relation.at, "%s has no order; use ==, != or in {A, B}",
				   test->field->word.name);
	filter_advance(parser);
	r = parse_value(parser, test, &value);
	if (r < 0)
		return r;
	r = set_bounds(parser, test, &relation, value);
	return r < 0 ? r : filter_add_test(parser, test);
}

static int parse_mask(struct filter_parser *parser, struct filter_test *test)
{
	if (test->field->class != FILTER_NUMBER)
		return filter_fail(parser, parser->token.at, "%s has no bits; compare it, like %s",
				   test->field->word.name, test->field->example);
	filter_advance(parser);
	return parse_number(parser, test->field, &test->mask);
}

int filter_parse_comparison(struct filter_parser *parser, const struct filter_field *field)
{
	struct filter_test test = { .field = field, .mask = ~0ULL, .outside = true };
	bool masked = parser->token.kind == TOKEN_MASK;

	if (field->late && !parser->late)
		parser->late = field->word.name;
	if (masked && parse_mask(parser, &test) < 0)
		return -EINVAL;
	/* A mask alone asks for any of its bits. */
	if (masked && !filter_token_compares(parser->token.kind))
		return filter_add_test(parser, &test);
	test.outside = false;
	if (parser->token.kind == TOKEN_IN)
		return parse_in(parser, &test);
	return parse_relation(parser, &test);
}
