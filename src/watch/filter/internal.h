/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the filter language. Text -> tokens (lex.c) -> a tree (parse.c, compare.c; what words mean
 * stands in the tables of words.c) -> steps (filter.c).
 */

#include <stdbool.h>
#include <stdint.h>

#include "watch/filter/filter.h"

/* What a field is compared with. */
enum filter_class {
	FILTER_NUMBER,
	FILTER_TIME, /* ns */
	FILTER_STATUS, /* a signed number or an errno's name; FILTER_SIGN is added to have an unsigned order */
	FILTER_SYMBOL, /* one of the field's symbols */
	FILTER_NAME,   /* a pattern, with * for anything */
};
#define FILTER_SIGN (1ULL << 63)

struct filter_symbol {
	struct filter_word word;
	uint8_t value;
};

/* A record, as tests look at it. */
struct filter_input {
	const struct watch_record *record;
	const struct filter_names *names; /* NULL: none */
	unsigned int kind;		  /* 1 << enum record_kind; 1 when it is none of those */
};

struct filter_field;

/* The one kind of test: low <= (value & mask) <= high. */
struct filter_test {
	const struct filter_field *field;
	uint64_t mask, low, high;
	bool outside; /* holds when the value is not between them */
	const char
		*pattern; /* FILTER_NAME: the value is 1 where it matches the name, otherwise 0 */
};

struct filter_field {
	struct filter_word word;
	const char *example; /* for errors: a comparison with it */
	enum filter_class class;
	unsigned int
		kinds;	 /* of records that have it, bits as in filter_input; all others do not */
	bool late;	 /* see filter_late_word */
	uint16_t offset; /* in struct watch_record, where `load` wants it */
	/* False: this record does not have it. */
	bool (*load)(const struct filter_test *test, const struct filter_input *input,
		     uint64_t *ret_value);
	const struct filter_symbol *symbols;
	unsigned int n_symbols;
};

/* A word that is a whole condition. */
struct filter_flag {
	struct filter_word word;
	struct filter_test test;
};

/* NULL: no such word. `name` has `len` bytes. */
const struct filter_field *filter_find_field(const char *name, unsigned int len);
const struct filter_flag *filter_find_flag(const char *name, unsigned int len);

enum filter_token_kind {
	TOKEN_END,
	TOKEN_BAD, /* `problem` says why, and the way out */
	TOKEN_WORD,
	TOKEN_NUMBER,
	TOKEN_TIME, /* a number with a unit of time; the value is ns */
	TOKEN_OR,
	TOKEN_AND,
	TOKEN_NOT,
	TOKEN_IN,    /* where a condition begins it is the direction */
	TOKEN_EQUAL, /* from here ... */
	TOKEN_UNEQUAL,
	TOKEN_LESS,
	TOKEN_AT_MOST,
	TOKEN_MORE,
	TOKEN_AT_LEAST, /* ... to here: relations */
	TOKEN_MASK,
	TOKEN_OPEN,
	TOKEN_CLOSE,
	TOKEN_SET_OPEN,
	TOKEN_SET_CLOSE,
	TOKEN_COMMA,
	TOKEN_RANGE,
	TOKEN_PLUS,
	TOKEN_MINUS,
};

struct filter_token {
	enum filter_token_kind kind;
	unsigned int at, len; /* bytes of the text */
	uint64_t value;
	const char *problem;
};

/* The token at byte `at` or after blanks there. */
struct filter_token filter_lex(const char *text, unsigned int at);
/* The same where a name is expected: all up to a blank or an operator. A WORD, perhaps of no bytes. */
struct filter_token filter_lex_name(const char *text, unsigned int at);

/* Whether a value follows. */
static inline bool filter_token_compares(enum filter_token_kind kind)
{
	return kind == TOKEN_IN || (kind >= TOKEN_EQUAL && kind <= TOKEN_AT_LEAST);
}

/* The tree. */
enum filter_node_kind {
	NODE_TEST,
	NODE_AND,
	NODE_OR,
};
struct filter_node {
	enum filter_node_kind kind;
	bool negated;
	unsigned int cost; /* to compare: cheap sides are asked first */
	int left, right;   /* nodes, of AND and OR */
	struct filter_test test;
};

struct filter_parser {
	const char *text;
	struct filter_token token; /* the one to be looked at next */
	unsigned int depth;
	int n_tests, n_nodes;
	const char *late; /* the first late word */
	unsigned int column;
	struct error *err;
	char *names; /* a copy of the text, FILTER_TEXT_MAX + 1 bytes, where patterns get their NULs */
	struct filter_node nodes[2 * FILTER_TESTS_MAX];
};

/* The root's index, or a negative errno. */
_must_check_ int filter_parse(struct filter_parser *parser);
/* A comparison whose field was read: the index of its node, or a negative errno. */
_must_check_ int filter_parse_comparison(struct filter_parser *parser,
					 const struct filter_field *field);

/* For both parts of the parser. Goes on to the next token. */
void filter_advance(struct filter_parser *parser);
/* -EINVAL, with the column of byte `at`. The first failure stays. */
_must_check_ int filter_fail(struct filter_parser *parser, unsigned int at, const char *format, ...)
	_printf_(3, 4);
/* At the token: its own problem if it has one, otherwise the format. */
#define filter_fail_here(parser, ...)                                                              \
	((parser)->token.problem                                                                   \
		 ? filter_fail(parser, (parser)->token.at, "%s", (parser)->token.problem)          \
		 : filter_fail(parser, (parser)->token.at, __VA_ARGS__))
/* The index of a new node, or a negative errno when there are too many tests. */
_must_check_ int filter_add_test(struct filter_parser *parser, const struct filter_test *test);
int filter_join(struct filter_parser *parser, enum filter_node_kind kind, int left, int right);
