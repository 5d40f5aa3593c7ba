/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The command line by the schema: --key value, --key=value, --switch, --no-switch, arguments, and
 * "--" before arguments that begin with "-". Any order; each option once, lists as often as they
 * have room.
 */

#include "api/schema.h"

/* One struct that options go to. Several schemas share one command line; their keys differ. */
struct args_target {
	const struct schema *schema;
	void *object;	/* initialised by the caller */
	uint64_t given; /* set by args_decode: a bit per row */
};

struct args {
	struct args_target *targets;
	size_t n_targets;
	const char *command; /* for "see utsusu run --help" */
	bool takes_rest;     /* arguments beyond the positional rows are kept in `rest` */
	char **rest; /* set by args_decode: NULL-terminated, inside argv, which is reordered */
};

/* Decodes `argv` (NULL-terminated, without the program's and the command's name). The number of
 * problems. */
size_t args_decode(struct args *args, char **argv, struct problems *problems);

bool args_given(const struct args_target *target, const char *key);
