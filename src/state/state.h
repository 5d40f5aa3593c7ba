/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * THE description of state. Each device and vCPU keeps what the guest can see of it in one plain
 * struct, and one table names that struct's fields. Saving, loading, comparing and read-back checks
 * all walk the same table.
 *
 *   stream  := section*
 *   section := "USEC" u8 name_len name u16 version u32 body_len body
 *   body    := the table's fields in order, those with since > version left out
 *   field   := U8..U64: little-endian · BYTES: as they are · STRUCT: its fields
 *              VARRAY: u32 count, then count elements (STRUCT fields or single bytes)
 *
 * Versions: all tables count by one number, that of the whole state (vm/save.h); a table's version is the
 * number at its last change, a field's `since` the number that brought it. A reader accepts sections of
 * version min_version..version; fields newer than the section keep the value that `defaults` gave them. For
 * an older reader sections are written as they were then (state_save_as). Loaded state is untrusted: it is
 * decoded into a scratch copy, checked, and only then handed to the device.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum state_type {
	STATE_U8,
	STATE_U16,
	STATE_U32,
	STATE_U64,
	STATE_BYTES,  /* `size` bytes as they are */
	STATE_STRUCT, /* described by `sub` */
	STATE_VARRAY, /* up to `count` elements of `sub` (bytes when NULL); how many: a uint32_t at count_offset */
};

/* How a loaded field may differ from the saved one (invariant 14). */
enum state_kind {
	STATE_EXACT, /* never */
	STATE_CLOCK, /* derived from a clock; the rule stands in the table's comment */
	STATE_LOCAL, /* belongs to the host: written for information, not compared */
};

struct state_table;

struct state_field {
	const char *name;
	enum state_type type;
	enum state_kind kind;
	size_t offset;	     /* in the struct */
	size_t size;	     /* bytes of one element */
	uint32_t count;	     /* elements: 1, an array's length, or a VARRAY's maximum */
	size_t count_offset; /* VARRAY */
	const struct state_table *sub;
	uint16_t since;	 /* the version that added it; 1 from the start */
	bool must_equal; /* loading refuses a value other than the one the target has now */
};

struct state_table {
	const char *name; /* the section's, e.g. "serial" */
	uint16_t version, min_version;
	uint16_t since; /* the version that brought the whole section; 0 or 1: from the start */
	size_t size;	/* of the struct */
	const struct state_field *fields;
	size_t n_fields;
	/* Sets fields that an older section lacks. NULL: they keep the target's values. */
	void (*defaults)(void *state);
	/* Judges a decoded, untrusted struct before it is taken. Negative errno and `err` filled: refused. */
	int (*check)(const void *state, struct error *err);
};

#define STATE_FIELD_KIND(struct_type, member, type_, kind_)                                        \
	{                                                                                          \
		.name = #member, .type = type_, .kind = kind_,                                     \
		.offset = offsetof(struct_type, member),                                           \
		.size = sizeof(((struct_type *)0)->member), .count = 1, .since = 1                 \
	}
#define STATE_ARRAY_OF(struct_type, member, type_)                                                 \
	{                                                                                          \
		.name = #member, .type = type_, .offset = offsetof(struct_type, member),           \
		.size = sizeof(((struct_type *)0)->member[0]),                                     \
		.count = ARRAY_SIZE(((struct_type *)0)->member), .since = 1                        \
	}
#define STATE_FIELD_U8(s, m) STATE_FIELD_KIND(s, m, STATE_U8, STATE_EXACT)
#define STATE_FIELD_U16(s, m) STATE_FIELD_KIND(s, m, STATE_U16, STATE_EXACT)
#define STATE_FIELD_U32(s, m) STATE_FIELD_KIND(s, m, STATE_U32, STATE_EXACT)
#define STATE_FIELD_U64(s, m) STATE_FIELD_KIND(s, m, STATE_U64, STATE_EXACT)
#define STATE_FIELD_BYTES(s, m) STATE_FIELD_KIND(s, m, STATE_BYTES, STATE_EXACT)
#define STATE_FIELD_STRUCT(s, m, sub_)                                                             \
	{                                                                                          \
		.name = #m, .type = STATE_STRUCT, .offset = offsetof(s, m),                        \
		.size = sizeof(((s *)0)->m), .count = 1, .sub = sub_, .since = 1                   \
	}
#define STATE_FIELD_STRUCTS(s, m, sub_)                                                            \
	{                                                                                          \
		.name = #m, .type = STATE_STRUCT, .offset = offsetof(s, m),                        \
		.size = sizeof(((s *)0)->m[0]), .count = ARRAY_SIZE(((s *)0)->m), .sub = sub_,     \
		.since = 1                                                                         \
	}
#define STATE_FIELD_VARRAY(s, m, counter, sub_)                                                    \
	{                                                                                          \
		.name = #m, .type = STATE_VARRAY, .offset = offsetof(s, m),                        \
		.size = sizeof(((s *)0)->m[0]), .count = ARRAY_SIZE(((s *)0)->m),                  \
		.count_offset = offsetof(s, counter), .sub = sub_, .since = 1                      \
	}

/* Appends one section holding `state`, named `instance` (unique in the stream, e.g. "virtio-blk.0").
 * -E2BIG past LIMIT_STATE_SECTION, -ENOMEM. */
_must_check_ int state_save(struct buffer *out, const struct state_table *table,
			    const char *instance, const void *state);

/* The same for a reader of state version `version`: newer fields are left out. -EPROTONOSUPPORT: such a reader does not
 * know this section at all, or fields that it needs are gone (min_version). */
_must_check_ int state_save_as(struct buffer *out, const struct state_table *table,
			       uint16_t version, const char *instance, const void *state);

/* One section found in a stream; points into the stream. */
struct state_section {
	char instance[64];
	uint16_t version;
	struct cursor body;
};

/* Takes the next section: 1 with `*ret_section` filled, 0 at the end, -EBADMSG when malformed. */
_must_check_ int state_next_section(struct cursor *stream, struct state_section *ret_section);

/* Decodes the section's body over a copy of `*state` and, when whole and accepted, replaces `*state`.
 * Refusals (version, length, a must-equal field, `check`) leave it untouched and name the field. */
_must_check_ int state_load(const struct state_section *section, const struct state_table *table,
			    void *state, struct error *err);

/* The same up to there: the accepted copy is malloc'ed (table->size bytes) and the caller's; `*current` stays as it is.
 * For who judges a whole stream before anything is taken of it. */
_must_check_ int state_decode(const struct state_section *section, const struct state_table *table,
			      const void *current, void **ret_state, struct error *err);

/* Compares the EXACT fields of two structs; NULL when equal, else the first differing field's name. */
const char *state_compare(const struct state_table *table, const void *a, const void *b);
