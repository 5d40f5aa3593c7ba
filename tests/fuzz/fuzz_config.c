/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's configuration from JSON and from a command line. The first byte chooses; words of a command line are
 * separated by newlines.
 * covers: api/schema.c api/schema_scalar.c api/schema_text.c api/schema_json.c
 * covers: api/args.c base/suggest.c vm/config.c
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/args.h"
#include "api/config.h"
#include "base/cleanup.h"

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *encoded(const struct vm_config *config)
{
	json_auto_t *json = schema_encode_json(&config_schema, config);

	assert(json);
	return json_dumps(json, JSON_COMPACT);
}

/* What was accepted, and only that, encodes to something that decodes to the same again. */
static void round_trip(const struct vm_config *config)
{
	struct vm_config *copy = malloc(sizeof(*copy));
	struct problems *problems = calloc(1, sizeof(*problems));
	_cleanup_(freep) char *here = encoded(config);
	_cleanup_(freep) char *there = NULL;

	schema_init(&config_schema, copy);
	assert(config_decode(copy, here, strlen(here), "again", problems) == 0);
	there = encoded(copy);
	assert(strcmp(here, there) == 0);
	schema_release(&config_schema, copy);
	free(copy);
	free(problems);
}

static size_t decode_words(struct vm_config *config, char *text, struct problems *problems)
{
	struct args_target target = { .schema = &config_schema, .object = config };
	struct args args = { .targets = &target, .n_targets = 1, .command = "run" };
	char *words[WORDS_MAX + 1] = { NULL };
	size_t n = 0;

	args.takes_rest = text[0] == '+';
	for (char *word; n < WORDS_MAX && (word = strsep(&text, "\n"));)
		words[n++] = word;
	return args_decode(&args, words, problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vm_config *config = malloc(sizeof(*config));
	struct problems *problems = calloc(1, sizeof(*problems));
	_cleanup_(freep) char *text = calloc(1, size + 1);
	size_t count;

	vm_config_init(config);
	if (size)
		memcpy(text, data, size);
	if (size && data[0] == '{')
		count = config_decode(config, text, size, "file", problems);
	else
		count = decode_words(config, text, problems);
	/* A list entry that was refused may lack what it needs. */
	if (!count)
		round_trip(config);
	vm_config_complete(config);
	vm_config_check(config, problems);
	for (size_t i = 0; i < problems->count; i++)
		assert(problems->list[i].message[0] && !strchr(problems->list[i].message, '\n'));
	vm_config_release(config);
	free(config);
	free(problems);
	return 0;
}
