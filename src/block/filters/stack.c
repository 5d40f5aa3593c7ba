/* SPDX-License-Identifier: Apache-2.0 */

/* Filters from text: decoded as a whole before anything is built. */

#include "block/filters/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"

struct filter_spec {
	const struct filter_kind *kind;
	unsigned int ops;
	struct block_delay_params delay;
	struct block_fail_params fail;
};

struct filter_kind {
	const char *name;
	const char *options; /* its own, separated by spaces */
	int (*build)(struct filter_spec *spec, struct block *below, struct block **ret_block);
};

static int build_delay(struct filter_spec *spec, struct block *below, struct block **ret_block)
{
	spec->delay.ops = spec->ops;
	return block_delay_new(&spec->delay, below, ret_block);
}

static int build_fail(struct filter_spec *spec, struct block *below, struct block **ret_block)
{
	spec->fail.ops = spec->ops;
	return block_fail_new(&spec->fail, below, ret_block);
}

static int build_drop(struct filter_spec *spec, struct block *below, struct block **ret_block)
{
	return block_drop_new(spec->ops, below, ret_block);
}

static const struct filter_kind kinds[] = {
	{ "delay", "ms us op", build_delay },
	{ "fail", "nth every error sticky op", build_fail },
	{ "drop", "op", build_drop },
};

/* What an option's value may be: one of these words, or a number up to `max`. */
struct word {
	const char *name;
	int value;
};

static const struct word op_words[] = {
	{ "read", 1 << BLOCK_READ },
	{ "write", 1 << BLOCK_WRITE },
	{ "flush", 1 << BLOCK_FLUSH },
	{ "discard", 1 << BLOCK_DISCARD },
	{ "zeroes", 1 << BLOCK_WRITE_ZEROES },
	{ "any", FILTER_OPS_ALL },
	{ NULL, 0 },
};

static const struct word error_words[] = {
	{ "EIO", -EIO }, { "ENOSPC", -ENOSPC }, { "EROFS", -EROFS }, { "ETIMEDOUT", -ETIMEDOUT },
	{ NULL, 0 },
};

static void set_op(struct filter_spec *spec, uint64_t value)
{
	spec->ops = (unsigned int)value;
}

static void set_ms(struct filter_spec *spec, uint64_t value)
{
	spec->delay.ns += value * NSEC_PER_MSEC;
}

static void set_us(struct filter_spec *spec, uint64_t value)
{
	spec->delay.ns += value * NSEC_PER_USEC;
}

static void set_nth(struct filter_spec *spec, uint64_t value)
{
	spec->fail.nth = value;
}

static void set_every(struct filter_spec *spec, uint64_t value)
{
	spec->fail.every = value;
}

static void set_error(struct filter_spec *spec, uint64_t value)
{
	spec->fail.error = (int)value;
}

static void set_sticky(struct filter_spec *spec, uint64_t value)
{
	spec->fail.sticky = value != 0;
}

static const struct filter_option {
	const char *name;
	void (*set)(struct filter_spec *spec, uint64_t value);
	uint64_t max;
	const struct word *words; /* NULL: a number */
} options[] = {
	{ "op", set_op, 0, op_words },
	{ "ms", set_ms, 60000, NULL },
	{ "us", set_us, 60000000, NULL },
	{ "nth", set_nth, UINT32_MAX, NULL },
	{ "every", set_every, UINT32_MAX, NULL },
	{ "error", set_error, 0, error_words },
	{ "sticky", set_sticky, 1, NULL },
};

static int bad(struct error *err, const char *filter, const char *what, const char *way_out)
{
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "disk filter %s: '%s': %s", filter, what,
			 way_out);
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; len && (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return true;
	return false;
}

static const struct filter_option *find_option(const struct filter_kind *kind, const char *name)
{
	if (!has_word(kind->options, name))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

static int parse_word(const struct word *words, const char *text, uint64_t *ret_value)
{
	for (; words->name; words++) {
		if (strcmp(words->name, text) == 0) {
			*ret_value = (uint64_t)words->value;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_number(const char *text, uint64_t max, uint64_t *ret_value)
{
	unsigned long long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static int parse_option(struct filter_spec *spec, char *text, struct error *err)
{
	const char *key = strsep(&text, "=");
	const struct filter_option *option = find_option(spec->kind, key);
	uint64_t value;
	int r;

	if (!option)
		return bad(err, spec->kind->name, key, "no such option");
	if (!text)
		return bad(err, spec->kind->name, key, "an option is KEY=VALUE");
	r = option->words ? parse_word(option->words, text, &value)
			  : parse_number(text, option->max, &value);
	if (r < 0)
		return bad(err, spec->kind->name, text, "no value for this option");
	option->set(spec, value);
	return 0;
}

static int parse_filter(char *text, struct filter_spec *spec, struct error *err)
{
	const char *name = strsep(&text, ":");

	*spec = (struct filter_spec){ .ops = FILTER_OPS_ALL, .fail.error = -EIO };
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			spec->kind = &kinds[i];
	if (!spec->kind)
		return bad(err, "", name, "no such filter; there are delay, fail and drop");
	for (char *option; (option = strsep(&text, ","));) {
		int r = parse_option(spec, option, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_stack(char *text, struct filter_spec specs[LIMIT_BLOCK_FILTERS], struct error *err)
{
	int n = 0;

	for (char *filter; (filter = strsep(&text, "+")); n++) {
		int r;

		if (n == LIMIT_BLOCK_FILTERS)
			return error_set(err, -E2BIG, EXIT_STATUS_USAGE,
					 "disk filter: more than %d filters; leave some out",
					 LIMIT_BLOCK_FILTERS);
		r = parse_filter(filter, &specs[n], err);
		if (r < 0)
			return r;
	}
	return n;
}

/* Frees filters, and not what they stand on. */
static void take_off(struct block *top, struct block *below)
{
	while (top != below) {
		struct block_filter *filter = container_of(top, struct block_filter, block);
		struct block *next = filter->below;

		filter->below = NULL;
		block_free(top);
		top = next;
	}
}

int block_filter_stack(const char *spec, struct block *below, struct block **ret_block,
		       struct error *err)
{
	struct filter_spec specs[LIMIT_BLOCK_FILTERS];
	_cleanup_(freep) char *text = strdup(spec);
	struct block *top = below;
	int n;

	if (!text)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "disk filter: out of memory");
	n = parse_stack(text, specs, err);
	if (n < 0)
		return n;
	while (n--) {
		int r = specs[n].kind->build(&specs[n], top, &top);

		if (r < 0) {
			take_off(top, below);
			return error_set(err, r, EXIT_STATUS_HOST, "disk filter %s: %s",
					 specs[n].kind->name, strerror(-r));
		}
	}
	*ret_block = top;
	return 0;
}
