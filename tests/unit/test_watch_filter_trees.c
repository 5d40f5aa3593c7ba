/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random filters against a plain reading of them: trees of conditions are written down with as few parentheses as the
 * language allows, compiled, and asked about random records.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macros.h"
#include "watch/filter/filter.h"

#define TREES 3000
#define RECORDS 50
#define DEPTH 6

static const char *device_name(void *ctx _unused_, uint16_t device)
{
	static const char *const device_names[] = { "ab", "abc", "b", "-" };

	return device_names[device % ARRAY_SIZE(device_names)];
}

static uint64_t ticks_ns(void *ctx _unused_, uint64_t ticks)
{
	return 10 * ticks;
}

static const struct filter_names names = { .device = device_name, .ticks_ns = ticks_ns };

typedef const struct watch_record *record_ptr;

static bool is_access(record_ptr r)
{
	return r->kind >= RECORD_PIO && r->kind <= RECORD_PCI;
}

static bool is_vcpu_1(record_ptr r)
{
	return is_access(r) && r->source == 1;
}

static bool is_masked_2(record_ptr r)
{
	return is_access(r) && (r->data & 3) == 2;
}

static bool is_in_set(record_ptr r)
{
	return is_access(r) && (r->data == 1 || (r->data >= 3 && r->data <= 4));
}

static bool is_not_port_2(record_ptr r)
{
	return r->kind == RECORD_PIO && r->address != 2;
}

static bool is_disk(record_ptr r)
{
	return r->kind == RECORD_DISK;
}

static bool is_short(record_ptr r)
{
	return !is_access(r) && r->data < 3;
}

static bool is_slow(record_ptr r)
{
	return r->duration >= 3;
}

static bool has_failed(record_ptr r)
{
	return !is_access(r) && r->status < 0;
}

static bool is_dropped(record_ptr r)
{
	return r->flags & RECORD_DROPPED;
}

static bool has_name_with_b(record_ptr r)
{
	return r->device == 0 || r->device == 2;
}

static const struct {
	const char *text;
	bool (*holds)(record_ptr r);
} conditions[] = {
	{ "access", is_access },	{ "vcpu==1", is_vcpu_1 },
	{ "data&3==2", is_masked_2 },	{ "data in {1,3..4}", is_in_set },
	{ "port!=2", is_not_port_2 },	{ "disk", is_disk },
	{ "len<3", is_short },		{ "latency>=30ns", is_slow },
	{ "failed", has_failed },	{ "dropped", is_dropped },
	{ "dev==*b", has_name_with_b },
};

/* Leaves, and what binds closest, first. */
enum tree_kind { LEAF, NOT, AND, OR };

struct tree {
	enum tree_kind kind;
	unsigned int condition;
	struct tree *left, *right; /* NOT has a left one */
};

static unsigned int random_below(unsigned int *seed, unsigned int n)
{
	return (unsigned int)rand_r(seed) / 16 % n;
}

static struct tree *tree_grow(unsigned int *seed, unsigned int depth)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	tree->kind = depth ? (enum tree_kind)random_below(seed, 4) : LEAF;
	tree->condition = random_below(seed, ARRAY_SIZE(conditions));
	if (tree->kind != LEAF)
		tree->left = tree_grow(seed, depth - 1);
	if (tree->kind > NOT)
		tree->right = tree_grow(seed, depth - 1);
	return tree;
}

static void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	tree_free(tree->left);
	tree_free(tree->right);
	free(tree);
}

static bool tree_holds(const struct tree *tree, record_ptr record)
{
	switch (tree->kind) {
	case LEAF:
		return conditions[tree->condition].holds(record);
	case NOT:
		return !tree_holds(tree->left, record);
	case AND:
		return tree_holds(tree->left, record) && tree_holds(tree->right, record);
	default:
		return tree_holds(tree->left, record) || tree_holds(tree->right, record);
	}
}

static void tree_write(const struct tree *tree, enum tree_kind around, unsigned int *seed,
		       FILE *out)
{
	static const char *const joints[][2] = {
		[AND] = { " && ", " and " },
		[OR] = { "||", " or\t" },
	};
	bool closed = tree->kind > around;

	fputs(closed ? "(" : "", out);
	if (tree->kind == LEAF)
		fputs(conditions[tree->condition].text, out);
	if (tree->kind == NOT)
		fputs(random_below(seed, 2) ? "!" : "not ", out);
	if (tree->left)
		tree_write(tree->left, tree->kind, seed, out);
	if (tree->right) {
		fputs(joints[tree->kind][random_below(seed, 2)], out);
		tree_write(tree->right, tree->kind, seed, out);
	}
	fputs(closed ? ")" : "", out);
}

static struct watch_record random_record(unsigned int *seed)
{
	return (struct watch_record){
		.kind = (uint8_t)(RECORD_PIO + random_below(seed, 6)),
		.flags = (uint8_t)random_below(seed, 32),
		.size = 1,
		.source = (uint16_t)random_below(seed, 3),
		.device = (uint16_t)random_below(seed, 4),
		.address = random_below(seed, 4),
		.data = random_below(seed, 6),
		.duration = random_below(seed, 6),
		.status = -(int32_t)random_below(seed, 2),
	};
}

static void ask(const struct tree *tree, const char *text, unsigned int *seed)
{
	_cleanup_(freep) struct filter *filter = NULL;
	struct error err = { 0 };

	if (filter_compile(text, &filter, NULL, &err) < 0)
		fail_msg("'%s': %s", text, err.message);
	for (unsigned int i = 0; i < RECORDS; i++) {
		struct watch_record record = random_record(seed);
		bool expected = tree_holds(tree, &record);

		if (filter_match(filter, &record, &names) != expected)
			fail_msg("'%s' is not %d for kind %d, data %d, source %d", text, expected,
				 record.kind, (int)record.data, record.source);
	}
}

static void test_what_is_written_is_what_matches(void **state _unused_)
{
	unsigned int seed = 1, asked = 0;

	for (unsigned int i = 0; i < TREES; i++) {
		struct tree *tree = tree_grow(&seed, DEPTH);
		_cleanup_(freep) char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		tree_write(tree, OR, &seed, out);
		fclose(out);
		if (len <= FILTER_TEXT_MAX) {
			ask(tree, text, &seed);
			asked++;
		}
		tree_free(tree);
	}
	assert_true(asked > TREES / 2);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_what_matches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
