/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/named.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const struct named_group *find_group(const struct named_group *groups, size_t n,
					    const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(groups[i].key, key) == 0)
			return &groups[i];
	return NULL;
}

static void decode_one(const struct named_group *group, const json_t *thing, const char *file,
		       struct problems *problems)
{
	char where[256];
	const struct schema_source source = { .file = where, .problems = problems };

	snprintf(where, sizeof(where), "%.80s: %s", file, group->key);
	(void)schema_decode_json(group->schema, group->ctx, thing, &source);
}

static int decode_group(const struct named_group *group, json_t *things, const char *file,
			struct problems *problems, struct error *err)
{
	const char *name;
	json_t *thing;

	if (group->word && json_is_string(things) &&
	    strcmp(json_string_value(things), group->word) == 0) {
		*group->is_word = true;
		return 0;
	}
	if (group->word && json_is_string(things))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: %s: must be an object, or the word \"%s\"", file, group->key,
				 group->word);
	if (!json_is_object(things))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: %s: must be an object: {\"NAME\": ...}", file, group->key);
	if (group->schema) {
		decode_one(group, things, file, problems);
		return 0;
	}
	json_object_foreach(things, name, thing)
	{
		char where[256];
		struct schema_source source = { .file = where, .problems = problems };

		snprintf(where, sizeof(where), "%.80s: %s.%.64s", file, group->key, name);
		if (group->take(group->ctx, name, thing, &source) < 0)
			return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
					 "%s: %s: there are too many; remove some", file,
					 group->key);
	}
	return 0;
}

static int decode_groups(json_t *root, const char *file, const struct named_group *groups, size_t n,
			 struct problems *problems, struct error *err)
{
	const char *key;
	json_t *things;

	json_object_foreach(root, key, things)
	{
		const struct named_group *group = find_group(groups, n, key);
		int r;

		if (!group)
			return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
					 "%s: '%.60s': unknown key; those known begin with '%s'",
					 file, key, groups[0].key);
		r = decode_group(group, things, file, problems, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int named_decode(const char *text, size_t len, const char *file, const struct named_group *groups,
		 size_t n_groups, struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	json_error_t where;
	json_auto_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	int r;

	if (!problems)
		return -ENOMEM;
	if (!root)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "%s: line %d: %s", file,
				 where.line, where.text);
	if (!json_is_object(root))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "%s: must be an object: {...}",
				 file);
	r = decode_groups(root, file, groups, n_groups, problems, err);
	if (r < 0 || !problems->count)
		return r;
	if (err && !err->code)
		*err = problems->list[0];
	return -EINVAL;
}
