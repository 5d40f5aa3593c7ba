/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/watching.md says of classes and oddities is what the tables in the code say, row by row. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "watch/analysis/analysis.h"

static char *read_document(void)
{
	const char *docs = getenv("UTSUSU_DOCS");
	_cleanup_(freep) char *path = NULL;
	char *text = calloc(1, 131072);
	FILE *file;

	if (!docs) {
		print_message("UTSUSU_DOCS names no folder of documents; meson test sets it\n");
		skip();
	}
	assert_true(asprintf(&path, "%s/watching.md", docs) > 0);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_true(fread(text, 1, 131071, file) > 0);
	fclose(file);
	return text;
}

/* The row at `*at`, which moves to the next line. */
static void assert_row(char **at, const char *name, const char *when)
{
	char *line = strsep(at, "\n");
	_cleanup_(freep) char *expected = NULL;

	assert_true(asprintf(&expected, "| %s | %s |", name, when) > 0);
	assert_string_equal(line, expected);
}

/* Behind a table's head. */
static char *find_table(char *text, const char *head)
{
	char *at = strstr(text, head);

	assert_non_null(at);
	return at + strlen(head);
}

static void test_the_rules_are_documented(void **state)
{
	_cleanup_(freep) char *text = read_document();
	char *at = find_table(text, "| bound by | when |\n| --- | --- |\n");

	for (size_t i = 0; i < BOUND_N; i++) {
		char name[32];

		snprintf(name, sizeof(name), "`%s`", analysis_rules[i].name);
		assert_row(&at, name, analysis_rules[i].when);
	}
	assert_string_equal(strsep(&at, "\n"), "");
}

static void test_the_oddities_are_documented(void **state)
{
	_cleanup_(freep) char *text = read_document();
	char *at = find_table(text, "| odd | when |\n| --- | --- |\n");

	for (size_t i = 0; i < ODD_KINDS; i++)
		assert_row(&at, analysis_oddities[i].name, analysis_oddities[i].when);
	assert_string_equal(strsep(&at, "\n"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_rules_are_documented),
		cmocka_unit_test(test_the_oddities_are_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
