/* SPDX-License-Identifier: Apache-2.0 */
/* Text to tokens. */
#include <ctype.h>
#include <string.h>

#include "base/hex.h"
#include "base/macros.h"
#include "watch/filter/internal.h"

/* Longer ones before their beginnings. */
static const struct {
	const char *text;
	enum filter_token_kind kind;
	const char *problem;
} operators[] = {
	{ "&&", TOKEN_AND },
	{ "&", TOKEN_MASK },
	{ "||", TOKEN_OR },
	{ "|", TOKEN_BAD, "one | means nothing here; write || between conditions" },
	{ "==", TOKEN_EQUAL },
	{ "=", TOKEN_BAD, "one = means nothing here; write == to compare" },
	{ "!=", TOKEN_UNEQUAL },
	{ "!", TOKEN_NOT },
	{ "<=", TOKEN_AT_MOST },
	{ "<", TOKEN_LESS },
	{ ">=", TOKEN_AT_LEAST },
	{ ">", TOKEN_MORE },
	{ "(", TOKEN_OPEN },
	{ ")", TOKEN_CLOSE },
	{ "{", TOKEN_SET_OPEN },
	{ "}", TOKEN_SET_CLOSE },
	{ ",", TOKEN_COMMA },
	{ "..", TOKEN_RANGE },
	{ "+", TOKEN_PLUS },
	{ "-", TOKEN_MINUS },
	{ "\"", TOKEN_BAD, "names and values stand without quotes; leave them out" },
	{ "'", TOKEN_BAD, "names and values stand without quotes; leave them out" },
};

static const struct {
	const char *text;
	enum filter_token_kind kind;
} keywords[] = {
	{ "and", TOKEN_AND },
	{ "or", TOKEN_OR },
	{ "not", TOKEN_NOT },
	{ "in", TOKEN_IN },
};

static const struct {
	const char *text;
	enum filter_token_kind kind;
	uint64_t factor;
} suffixes[] = {
	{ "", TOKEN_NUMBER, 1 },
	{ "K", TOKEN_NUMBER, KIB(1) },
	{ "M", TOKEN_NUMBER, MIB(1) },
	{ "G", TOKEN_NUMBER, GIB(1) },
	{ "ns", TOKEN_TIME, 1 },
	{ "us", TOKEN_TIME, NSEC_PER_USEC },
	{ "ms", TOKEN_TIME, NSEC_PER_MSEC },
	{ "s", TOKEN_TIME, NSEC_PER_SEC },
};

static bool token_is(const char *text, const struct filter_token *token, const char *word)
{
	return strlen(word) == token->len && !memcmp(text + token->at, word, token->len);
}

static void make_bad(struct filter_token *token, const char *problem)
{
	token->kind = TOKEN_BAD;
	token->problem = problem;
}

/* More than any base: it is none. */
static unsigned int digit_value(char c)
{
	return (unsigned int)hex_digit(c);
}

/* The number's base, and behind its prefix in `digits`. */
static unsigned int number_base(const char **digits)
{
	char second = **digits == '0' ? (*digits)[1] : '\0';

	if (second != 'x' && second != 'b')
		return 10;
	*digits += 2;
	return second == 'x' ? 16 : 2;
}

static void finish_number(struct filter_token *token, const char *suffix, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		if (strlen(suffixes[i].text) != len || memcmp(suffix, suffixes[i].text, len))
			continue;
		token->kind = suffixes[i].kind;
		if (__builtin_mul_overflow(token->value, suffixes[i].factor, &token->value))
			make_bad(token, "this number is too large; it has at most 64 bits");
		return;
	}
	make_bad(token, "this is no number; write 10, 0x1f, 0b101, 4K, 1M, 2G, or a time: 10ns, "
			"20us, 5ms, 1s");
}

/* All letters and digits at `at` are the number, so that 5x is a bad one and not 5. */
static void lex_number(const char *text, struct filter_token *token)
{
	const char *digits = text + token->at, *end;
	unsigned int base = number_base(&digits);
	bool overflow = false;

	while (isalnum((unsigned char)text[token->at + token->len]) ||
	       text[token->at + token->len] == '_')
		token->len++;
	for (end = digits; digit_value(*end) < base; end++)
		overflow |= __builtin_mul_overflow(token->value, base, &token->value) ||
			    __builtin_add_overflow(token->value, digit_value(*end), &token->value);
	if (text[token->at + token->len] == '.' &&
	    isdigit((unsigned char)text[token->at + token->len + 1]))
		make_bad(token, "numbers are whole; write 1500us for 1.5ms");
	else if (overflow)
		make_bad(token, "this number is too large; it has at most 64 bits");
	else if (end == digits)
		make_bad(token, "this number has no digits; write 0x1f or 0b101");
	else
		finish_number(token, end, (size_t)(text + token->at + token->len - end));
}

static bool is_in_word(const char *at)
{
	if (isalnum((unsigned char)*at) || *at == '_')
		return true;
	/* Not of the language, but an error then names all of what was meant. */
	return (*at == '-' || *at == '.') && isalnum((unsigned char)at[1]);
}

static void lex_word(const char *text, struct filter_token *token)
{
	token->kind = TOKEN_WORD;
	while (is_in_word(text + token->at + token->len))
		token->len++;
	for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
		if (token_is(text, token, keywords[i].text))
			token->kind = keywords[i].kind;
}

static void lex_operator(const char *text, struct filter_token *token)
{
	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		size_t len = strlen(operators[i].text);

		if (strncmp(text + token->at, operators[i].text, len))
			continue;
		token->kind = operators[i].kind;
		token->problem = operators[i].problem;
		token->len = (unsigned int)len;
		return;
	}
	token->len = 1;
	make_bad(token,
		 "this character means nothing here; a filter looks like: dev==serial && out");
}

static unsigned int skip_blanks(const char *text, unsigned int at)
{
	while (isspace((unsigned char)text[at]))
		at++;
	return at;
}

struct filter_token filter_lex(const char *text, unsigned int at)
{
	struct filter_token token = { .at = skip_blanks(text, at) };
	unsigned char first = (unsigned char)text[token.at];

	if (isdigit(first))
		lex_number(text, &token);
	else if (isalpha(first) || first == '_')
		lex_word(text, &token);
	else if (first)
		lex_operator(text, &token);
	return token;
}

struct filter_token filter_lex_name(const char *text, unsigned int at)
{
	struct filter_token token = { .kind = TOKEN_WORD, .at = skip_blanks(text, at) };

	token.len = (unsigned int)strcspn(text + token.at, " \t\n\v\f\r&|!(){},<>=\"'");
	return token;
}
