/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter is a list of steps, each a test and where to go on when it holds and when not: && || and ! are only in
 * these jumps. Steps are made from the last to the first, and a jump goes to an earlier made one, thus every run ends.
 */
#include "watch/filter/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "watch/filter/internal.h"

enum { /* where a run ends; behind them come the steps */
       PLACE_REJECT,
       PLACE_ACCEPT,
       PLACE_STEPS,
};

struct filter_step {
	struct filter_test test;
	unsigned int yes, no; /* places */
};

struct filter {
	unsigned int begin, n_steps; /* `begin` is a place */
	const char *late;
	char names[FILTER_TEXT_MAX + 1]; /* the tests' patterns */
	struct filter_step steps[FILTER_TESTS_MAX];
};

static unsigned int add_step(struct filter *filter, const struct filter_test *test,
			     unsigned int yes, unsigned int no)
{
	filter->steps[filter->n_steps] = (struct filter_step){ *test, yes, no };
	return PLACE_STEPS + filter->n_steps++;
}

/* Steps for the tree under `index`: the place where it begins. */
static unsigned int add_steps(struct filter *filter, const struct filter_node *nodes, int index,
			      unsigned int yes, unsigned int no)
{
	const struct filter_node *node = &nodes[index];
	unsigned int right;

	if (node->negated) {
		unsigned int swap = yes;

		yes = no;
		no = swap;
	}
	if (node->kind == NODE_TEST)
		return add_step(filter, &node->test, yes, no);
	right = add_steps(filter, nodes, node->right, yes, no);
	if (node->kind == NODE_AND)
		return add_steps(filter, nodes, node->left, right, no);
	return add_steps(filter, nodes, node->left, yes, right);
}

static bool is_blank(const char *text)
{
	return filter_lex(text, 0).kind == TOKEN_END;
}

static int compile(struct filter_parser *parser, struct filter *filter)
{
	int root;

	filter->begin = PLACE_ACCEPT;
	if (is_blank(parser->text))
		return 0;
	memcpy(filter->names, parser->text, strlen(parser->text));
	parser->names = filter->names;
	root = filter_parse(parser);
	if (root < 0)
		return root;
	filter->begin = add_steps(filter, parser->nodes, root, PLACE_ACCEPT, PLACE_REJECT);
	filter->late = parser->late;
	return 0;
}

int filter_compile(const char *text, struct filter **ret_filter, unsigned int *ret_column,
		   struct error *err)
{
	_cleanup_(freep) struct filter_parser *parser = calloc(1, sizeof(*parser));
	_cleanup_(freep) struct filter *filter = calloc(1, sizeof(*filter));
	int r;

	if (!parser || !filter)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "filter: out of memory");
	parser->text = text;
	parser->err = err;
	if (strnlen(text, FILTER_TEXT_MAX + 1) > FILTER_TEXT_MAX)
		r = filter_fail(parser, FILTER_TEXT_MAX,
				"the text ends here; it has at most %d bytes", FILTER_TEXT_MAX);
	else
		r = compile(parser, filter);
	if (r < 0) {
		if (ret_column)
			*ret_column = parser->column;
		return r;
	}
	*ret_filter = TAKE_PTR(filter);
	return 0;
}

void filter_free(struct filter *filter)
{
	free(filter);
}

static bool test_holds(const struct filter_test *test, const struct filter_input *input)
{
	uint64_t value;

	if (!(test->field->kinds & input->kind) || !test->field->load(test, input, &value))
		return false;
	value &= test->mask;
	return (value >= test->low && value <= test->high) != test->outside;
}

bool filter_match(const struct filter *filter, const struct watch_record *record,
		  const struct filter_names *names)
{
	unsigned int kind = record->kind < RECORD_KINDS ? record->kind : 0;
	struct filter_input input = { record, names, 1U << kind };
	unsigned int place = filter ? filter->begin : PLACE_ACCEPT;

	while (place >= PLACE_STEPS) {
		const struct filter_step *step = &filter->steps[place - PLACE_STEPS];

		place = test_holds(&step->test, &input) ? step->yes : step->no;
	}
	return place == PLACE_ACCEPT;
}

const char *filter_late_word(const struct filter *filter)
{
	return filter ? filter->late : NULL;
}
