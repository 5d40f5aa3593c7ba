/* SPDX-License-Identifier: Apache-2.0 */
#include "move/machine.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/cleanup.h"

/* What a guest can see, and so must be the same; all else (paths, taps, consoles, who watches) is each host's own. */
static const char *const disk_keys[] = { "serial", "readonly", "queues", NULL };
static const char *const net_keys[] = { "mac", "queues", NULL };
static const char *const cpu_keys[] = { "count", "max", "model", NULL };

static json_t *pick(const json_t *from, const char *const *keys)
{
	json_t *picked = json_object();

	for (; *keys; keys++)
		if (json_object_get(from, *keys))
			json_object_set(picked, *keys, json_object_get(from, *keys));
	return picked;
}

static json_t *pick_each(const json_t *list, const char *const *keys)
{
	json_t *picked = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item) json_array_append_new(picked, pick(item, keys));
	return picked;
}

static json_t *describe_banks(const struct move_facts *facts)
{
	json_t *banks = json_array();

	for (size_t i = 0; i < facts->n_banks; i++)
		json_array_append_new(banks, json_pack("{s:I, s:I, s:I}", "start",
						       (json_int_t)facts->banks[i].start.v, "len",
						       (json_int_t)facts->banks[i].len, "offset",
						       (json_int_t)facts->banks[i].offset));
	return banks;
}

static json_t *describe(const struct move_facts *facts)
{
	json_auto_t *config = json_loads(facts->config, JSON_REJECT_DUPLICATES, NULL);

	if (!json_is_object(config))
		return NULL;
	return json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "uuid", facts->uuid, "memory",
			 (json_int_t)facts->ram_bytes, "banks", describe_banks(facts), "cpus",
			 pick(json_object_get(config, "cpus"), cpu_keys), "disk",
			 pick_each(json_object_get(config, "disk"), disk_keys), "net",
			 pick_each(json_object_get(config, "net"), net_keys), "rng",
			 json_boolean(json_is_true(json_object_get(config, "rng"))));
}

char *move_machine_describe(const struct move_facts *facts)
{
	json_auto_t *json = describe(facts);

	return json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

static int differs(const char *key, const json_t *ours, const json_t *theirs, struct error *err)
{
	_cleanup_(freep) char *here = ours ? json_dumps(ours, JSON_COMPACT | JSON_ENCODE_ANY)
					   : NULL;
	_cleanup_(freep) char *there = theirs ? json_dumps(theirs, JSON_COMPACT | JSON_ENCODE_ANY)
					      : NULL;

	return error_set(err, -EINVAL, EXIT_STATUS_RESOURCE,
			 "machine: '%.20s' differs: %.120s there, %.120s here; see the lists of "
			 "both hosts with utsusu move --check",
			 key, there ? there : "nothing", here ? here : "nothing");
}

int move_machine_compare(const struct move_facts *ours, const void *text, size_t len,
			 struct error *err)
{
	json_auto_t *theirs = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	json_auto_t *here = describe(ours);
	const char *key;
	json_t *value;

	if (!here)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "machine: this side's description is not understood; use one "
				 "version of utsusu");
	if (!json_is_object(theirs) || json_object_size(theirs) != json_object_size(here))
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "machine: the description from the other host is not understood; "
				 "upgrade the older utsusu");
	json_object_foreach(
		here, key,
		value) if (!json_equal(value,
				       json_object_get(theirs,
						       key))) return differs(key, value,
									     json_object_get(theirs,
											     key),
									     err);
	return 0;
}
