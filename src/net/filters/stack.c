/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "net/filters/filter.h"

/* One filter of the text, decoded as a whole before anything is built. */
struct filter_spec {
	const struct filter_kind *kind;
	struct net_delay_params delay;
	struct net_drop_params drop;
};

struct filter_option {
	const char *name;
	uint64_t max;
	void (*set)(struct filter_spec *spec, uint64_t value);
};

struct filter_kind {
	const char *name;
	const struct filter_option *options; /* ends with a NULL name */
	void (*direct)(struct filter_spec *spec, bool out, bool in);
	/* NULL, or what is wrong with the whole. */
	const char *(*judge)(const struct filter_spec *spec);
	int (*build)(const struct filter_spec *spec, struct net *below, struct net **ret_net);
};

static void delay_ms(struct filter_spec *spec, uint64_t value)
{
	spec->delay.ns[NET_OUT] += value * NSEC_PER_MSEC;
	spec->delay.ns[NET_IN] += value * NSEC_PER_MSEC;
}

static void delay_us(struct filter_spec *spec, uint64_t value)
{
	spec->delay.ns[NET_OUT] += value * NSEC_PER_USEC;
	spec->delay.ns[NET_IN] += value * NSEC_PER_USEC;
}

static void delay_direct(struct filter_spec *spec, bool out, bool in)
{
	spec->delay.ns[NET_OUT] = out ? spec->delay.ns[NET_OUT] : 0;
	spec->delay.ns[NET_IN] = in ? spec->delay.ns[NET_IN] : 0;
}

static const char *delay_judge(const struct filter_spec *spec)
{
	return spec->delay.ns[NET_OUT] || spec->delay.ns[NET_IN] ? NULL : "needs ms= or us=";
}

static int delay_build(const struct filter_spec *spec, struct net *below, struct net **ret_net)
{
	return net_delay_new(&spec->delay, below, ret_net);
}

static void drop_nth(struct filter_spec *spec, uint64_t value)
{
	spec->drop.nth = (uint32_t)value;
}

static void drop_per_million(struct filter_spec *spec, uint64_t value)
{
	spec->drop.per_million = (uint32_t)value;
}

static void drop_seed(struct filter_spec *spec, uint64_t value)
{
	spec->drop.seed = value;
}

static void drop_direct(struct filter_spec *spec, bool out, bool in)
{
	spec->drop.direction[NET_OUT] = out;
	spec->drop.direction[NET_IN] = in;
}

static const char *drop_judge(const struct filter_spec *spec)
{
	return spec->drop.nth || spec->drop.per_million ? NULL : "needs nth= or per_million=";
}

static int drop_build(const struct filter_spec *spec, struct net *below, struct net **ret_net)
{
	return net_drop_new(&spec->drop, below, ret_net);
}

static const struct filter_option delay_options[] = {
	{ "ms", 60000, delay_ms },
	{ "us", 60000000, delay_us },
	{ NULL, 0, NULL },
};

static const struct filter_option drop_options[] = {
	{ "nth", UINT32_MAX, drop_nth },
	{ "per_million", 1000000, drop_per_million },
	{ "seed", UINT64_MAX, drop_seed },
	{ NULL, 0, NULL },
};

static const struct filter_kind kinds[] = {
	{ "delay", delay_options, delay_direct, delay_judge, delay_build },
	{ "drop", drop_options, drop_direct, drop_judge, drop_build },
};

static int bad(struct error *err, const char *filter, const char *what, const char *way_out)
{
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "net filter %s: '%s': %s", filter, what,
			 way_out);
}

static int parse_direction(const char *text, bool *out, bool *in)
{
	*out = strcmp(text, "out") == 0 || strcmp(text, "both") == 0;
	*in = strcmp(text, "in") == 0 || strcmp(text, "both") == 0;
	return *out || *in ? 0 : -EINVAL;
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

static int parse_option(struct filter_spec *spec, char *text, bool direction[2], struct error *err)
{
	const struct filter_option *option = spec->kind->options;
	const char *key = strsep(&text, "=");
	uint64_t value;

	if (!text)
		return bad(err, spec->kind->name, key, "an option is KEY=VALUE");
	if (strcmp(key, "direction") == 0) {
		if (parse_direction(text, &direction[NET_OUT], &direction[NET_IN]) < 0)
			return bad(err, spec->kind->name, text, "direction is out, in or both");
		return 0;
	}
	while (option->name && strcmp(option->name, key) != 0)
		option++;
	if (!option->name)
		return bad(err, spec->kind->name, key, "no such option");
	if (parse_number(text, option->max, &value) < 0)
		return bad(err, spec->kind->name, text, "not a number, or out of range");
	option->set(spec, value);
	return 0;
}

static int parse_filter(char *text, struct filter_spec *spec, struct error *err)
{
	bool direction[2] = { true, true };
	const char *name = strsep(&text, ":");
	const char *wrong;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			spec->kind = &kinds[i];
	if (!spec->kind)
		return bad(err, "", name, "no such filter; there are delay and drop");
	for (char *option; (option = strsep(&text, ","));) {
		int r = parse_option(spec, option, direction, err);

		if (r < 0)
			return r;
	}
	spec->kind->direct(spec, direction[NET_OUT], direction[NET_IN]);
	wrong = spec->kind->judge(spec);
	return wrong ? bad(err, spec->kind->name, name, wrong) : 0;
}

static int parse_stack(char *text, struct filter_spec specs[LIMIT_NET_FILTERS], struct error *err)
{
	int n = 0;

	for (char *filter; (filter = strsep(&text, "+"));) {
		int r;

		if (n == LIMIT_NET_FILTERS)
			return error_set(err, -E2BIG, EXIT_STATUS_USAGE,
					 "net filter: more than %d filters", LIMIT_NET_FILTERS);
		r = parse_filter(filter, &specs[n], err);
		if (r < 0)
			return r;
		n++;
	}
	return n;
}

/* Takes filters off again without touching what they stand on. */
static void take_off(struct net *top, struct net *below)
{
	while (top != below) {
		struct net_filter *filter = container_of(top, struct net_filter, net);

		top = filter->below;
		free(filter);
	}
}

int net_filter_stack(const char *spec, struct net *below, struct net **ret_net, struct error *err)
{
	struct filter_spec specs[LIMIT_NET_FILTERS] = { 0 };
	_cleanup_(freep) char *text = strdup(spec);
	struct net *top = below;
	int n;

	if (!text)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "net filter: out of memory");
	n = parse_stack(text, specs, err);
	if (n < 0)
		return n;
	while (n--) {
		int r = specs[n].kind->build(&specs[n], top, &top);

		if (r < 0) {
			take_off(top, below);
			return error_set(err, r, EXIT_STATUS_HOST, "net filter %s: %s",
					 specs[n].kind->name, strerror(-r));
		}
	}
	*ret_net = top;
	return 0;
}
