/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One table says what a set of settings is: keys, types, ranges, defaults, help. From it come
 * options of the command line, JSON in both directions, --help, the manual page and the shell
 * completion.
 *
 *   option    --cpus 2,max=4        --disk path=a.raw,readonly=on    --check
 *   JSON      "cpus": {"count": 2, "max": 4}   "disk": [{"path": "a.raw", "readonly": true}]
 *
 * Everything decoded is untrusted. Decoders never stop at the first problem: they add each to a
 * list, as one line that names the key, the cause and the way out. Plain data in, plain data out;
 * any thread.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum schema_type {
	SCHEMA_STRING,	 /* char *, malloc'ed: valid UTF-8, `min` to `max` bytes */
	SCHEMA_CHARS,	 /* char[max + 1] inside the struct: `min` to `max` bytes */
	SCHEMA_BOOL,	 /* bool */
	SCHEMA_UINT,	 /* uint32_t, `min` to `max` */
	SCHEMA_SIZE,	 /* uint64_t, bytes, `min` to `max`, a multiple of `step` */
	SCHEMA_DURATION, /* uint64_t, milliseconds, `min` to `max`; a bare number is seconds */
	SCHEMA_ENUM,	 /* an enum: index into `names`, which ends with NULL */
	SCHEMA_MAC,	 /* uint8_t[6], a unicast address */
	SCHEMA_FD,	 /* int: a descriptor's number */
	SCHEMA_GROUP,	 /* a struct inside: `group` */
	SCHEMA_LIST,	 /* an array of at most `max` structs inside: `group`, uint32_t at
			    `count_offset` */
};

#define SCHEMA_REQUIRED 0x01   /* must be given in each struct */
#define SCHEMA_FIRST 0x02      /* the group's bare first value: --cpus 2 */
#define SCHEMA_POSITIONAL 0x04 /* an argument without "--": utsusu info NAME */
#define SCHEMA_CHOICE 0x08     /* exactly one of the rows with this flag; stores `choice` */

struct schema;

struct schema_row {
	const char *key;
	enum schema_type type;
	unsigned int flags;
	size_t offset; /* in the struct */
	uint64_t min, max, step;
	const char *const *names;
	const struct schema *group;
	size_t count_offset;
	int choice;	      /* SCHEMA_CHOICE: stored at the schema's choice_offset */
	const char *value;    /* placeholder in help: FILE, SIZE */
	const char *fallback; /* the default, as an option's text; NULL: none (zero, empty, off) */
	const char *help;     /* one sentence without a full stop */
	/* A rule of its own for texts: 0, or -EINVAL with a cause and way out in `*ret_why`. */
	int (*valid)(const char *text, const char **ret_why);
};

struct schema {
	const struct schema_row *rows;
	size_t n_rows; /* at most 64 */
	size_t size;   /* bytes of the struct, for lists */
	size_t choice_offset;
};

/* Where a value came from, for messages: "--cpus max" or "vm.json: cpus.max". */
struct schema_source {
	const char *file; /* NULL: the command line */
	struct problems *problems;
};

/* Zeroes the struct and sets the defaults. The table's defaults are ours: a bad one is an
 * assertion. */
void schema_init(const struct schema *schema, void *object);
/* Frees the strings. A zeroed struct is fine. */
void schema_release(const struct schema *schema, void *object);

/* The row for `key`, NULL when unknown. */
const struct schema_row *schema_find(const struct schema *schema, const char *key);

/* Decodes a JSON object over what the struct holds: keys that are there replace, lists replace
 * whole. A value that is refused leaves its field as it was. Returns the number of problems added.
 */
size_t schema_decode_json(const struct schema *schema, void *object, const json_t *json,
			  const struct schema_source *source);

/* Decodes one option's text into its row: a plain value, or a group's "first,key=value,flag".
 * Commas inside values are doubled. The first text of a list row in one command line clears the
 * list (`clear`). */
size_t schema_decode_text(const struct schema_row *row, void *object, const char *text, bool clear,
			  const struct schema_source *source);

/* A new JSON object that decodes to the same struct; NULL when out of memory. */
json_t *schema_encode_json(const struct schema *schema, const void *object);

/* The same without what has its default, which an older program that lacks the row has too: it decodes to the same struct. */
json_t *schema_encode_json_brief(const struct schema *schema, const void *object);

/* What a row takes, in words: "a number from 1 to 64", "host, v2 or v3". */
void schema_describe(const struct schema_row *row, char *ret_text, size_t size);
/* What stands after the option: "N[,max=N][,model=host|v2|v3]". */
void schema_usage(const struct schema_row *row, char *ret_text, size_t size);

/* Bytes as people write them: 512M, 3G, 1000. */
void schema_format_size(uint64_t bytes, char *ret_text, size_t size);
