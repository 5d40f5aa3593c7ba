/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions, and how they are put together. Each function leaves the token behind what it took. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/macros.h"
#include "base/suggest.h"
#include "watch/filter/internal.h"

#define WORD_MAX 40 /* bytes of a word that errors repeat */

static int parse_or(struct filter_parser *parser);

int filter_fail(struct filter_parser *parser, unsigned int at, const char *format, ...)
{
	char message[ERROR_MESSAGE_MAX - 32];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (!parser->column)
		parser->column = at + 1;
	return error_set(parser->err, -EINVAL, EXIT_STATUS_USAGE, "filter:%u: %s", at + 1, message);
}

void filter_advance(struct filter_parser *parser)
{
	parser->token = filter_lex(parser->text, parser->token.at + parser->token.len);
}

int filter_add_test(struct filter_parser *parser, const struct filter_test *test)
{
	struct filter_node *node = &parser->nodes[parser->n_nodes];

	if (parser->n_tests == FILTER_TESTS_MAX)
		return filter_fail(parser, parser->token.at,
				   "more than %d comparisons; use ranges and masks",
				   FILTER_TESTS_MAX);
	parser->n_tests++;
	node->kind = NODE_TEST;
	node->test = *test;
	node->cost = test->field->class == FILTER_NAME ? 8 : 1;
	return parser->n_nodes++;
}

/* There is always room: a tree has fewer joints than tests. */
int filter_join(struct filter_parser *parser, enum filter_node_kind kind, int left, int right)
{
	struct filter_node *node = &parser->nodes[parser->n_nodes];
	unsigned int left_cost = parser->nodes[left].cost, right_cost = parser->nodes[right].cost;

	node->kind = kind;
	node->left = left_cost <= right_cost ? left : right;
	node->right = left_cost <= right_cost ? right : left;
	node->cost = left_cost + right_cost;
	return parser->n_nodes++;
}

static void suggest_condition(struct suggest *near)
{
	const struct filter_word *word;

	for (unsigned int i = 0; (word = filter_word(i)); i++)
		if (word->kind != FILTER_VALUE)
			suggest_offer(near, word->name);
}

static int fail_unknown(struct filter_parser *parser, const struct filter_token *word)
{
	char name[WORD_MAX + 1];
	struct suggest near;

	snprintf(name, sizeof(name), "%.*s", (int)word->len, parser->text + word->at);
	suggest_init(&near, name);
	suggest_condition(&near);
	if (near.best)
		return filter_fail(parser, word->at, "'%s' is unknown; did you mean '%s'?", name,
				   near.best);
	return filter_fail(parser, word->at, "'%s' is unknown; 'utsusu watch --help' has all words",
			   name);
}

static bool begins_comparison(enum filter_token_kind kind)
{
	return kind == TOKEN_MASK || filter_token_compares(kind);
}

static int add_flag(struct filter_parser *parser, const struct filter_flag *flag)
{
	if (flag->test.field->late && !parser->late)
		parser->late = flag->word.name;
	return filter_add_test(parser, &flag->test);
}

/* `word` was taken. `queue` is both a field and a flag: what follows tells. */
static int parse_condition(struct filter_parser *parser, const struct filter_token *word)
{
	const char *name = parser->text + word->at;
	const struct filter_field *field = filter_find_field(name, word->len);
	const struct filter_flag *flag = filter_find_flag(name, word->len);

	if (field && begins_comparison(parser->token.kind))
		return filter_parse_comparison(parser, field);
	if (flag && begins_comparison(parser->token.kind))
		return filter_fail(parser, parser->token.at,
				   "'%s' stands alone, it has no value; write && or || behind it",
				   flag->word.name);
	if (flag)
		return add_flag(parser, flag);
	if (field)
		return filter_fail_here(parser, "'%s' needs a comparison, like %s",
					field->word.name, field->example);
	return fail_unknown(parser, word);
}

static int parse_group(struct filter_parser *parser, unsigned int open)
{
	int node = parse_or(parser);

	if (node < 0)
		return node;
	if (parser->token.kind == TOKEN_END)
		return filter_fail(parser, open, "this ( is not closed; a ) is missing");
	if (parser->token.kind != TOKEN_CLOSE)
		return filter_fail_here(parser, "write &&, || or ) behind a condition");
	filter_advance(parser);
	return node;
}

static int parse_unary(struct filter_parser *parser);

static int parse_not(struct filter_parser *parser)
{
	int node = parse_unary(parser);

	if (node >= 0)
		parser->nodes[node].negated = !parser->nodes[node].negated;
	return node;
}

static int parse_operand(struct filter_parser *parser)
{
	struct filter_token token = parser->token;

	switch (token.kind) {
	case TOKEN_NOT:
		filter_advance(parser);
		return parse_not(parser);
	case TOKEN_OPEN:
		filter_advance(parser);
		return parse_group(parser, token.at);
	case TOKEN_WORD:
	case TOKEN_IN:
		filter_advance(parser);
		return parse_condition(parser, &token);
	default:
		return filter_fail_here(parser,
					"a condition is missing here, like out or dev==serial");
	}
}

static int parse_unary(struct filter_parser *parser)
{
	int node;

	if (parser->depth > FILTER_DEPTH_MAX)
		return filter_fail(parser, parser->token.at,
				   "more than %d ( and ! inside each other; write it flatter",
				   FILTER_DEPTH_MAX);
	parser->depth++;
	node = parse_operand(parser);
	parser->depth--;
	return node;
}

static int parse_and(struct filter_parser *parser)
{
	int right, left = parse_unary(parser);

	while (left >= 0 && parser->token.kind == TOKEN_AND) {
		filter_advance(parser);
		right = parse_unary(parser);
		left = right < 0 ? right : filter_join(parser, NODE_AND, left, right);
	}
	return left;
}

static int parse_or(struct filter_parser *parser)
{
	int right, left = parse_and(parser);

	while (left >= 0 && parser->token.kind == TOKEN_OR) {
		filter_advance(parser);
		right = parse_and(parser);
		left = right < 0 ? right : filter_join(parser, NODE_OR, left, right);
	}
	return left;
}

int filter_parse(struct filter_parser *parser)
{
	int root;

	parser->token = filter_lex(parser->text, 0);
	root = parse_or(parser);
	if (root < 0 || parser->token.kind == TOKEN_END)
		return root;
	if (parser->token.kind == TOKEN_CLOSE)
		return filter_fail(parser, parser->token.at,
				   "this ) closes nothing; a ( is missing before it");
	return filter_fail_here(parser, "write && or || between two conditions");
}
