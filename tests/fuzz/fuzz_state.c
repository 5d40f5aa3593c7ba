/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A stream of state sections into a struct with a field of every type, in an old and a new version.
 *
 * covers: state/state.c state/merge.c base/buffer.c
 *
 * What must hold: nothing crashes; a refused section changes nothing; an accepted one, saved again, is the
 * section itself; what is merged has a section for each name, and is a whole stream again.
 */

#include <assert.h>
#include <string.h>

#include "base/limits.h"
#include "state/merge.h"
#include "state/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct part {
	uint16_t number;
	uint8_t bytes[3];
};

struct thing {
	uint8_t kind;
	uint16_t word;
	uint32_t n_parts;
	struct part parts[4];
	struct part always[2];
	uint32_t n_raw;
	uint8_t raw[16];
	uint64_t large;
	uint32_t identity;
	uint32_t added; /* in version 2 */
};

static const struct state_field part_fields[] = {
	STATE_FIELD_U16(struct part, number),
	STATE_FIELD_BYTES(struct part, bytes),
};

static const struct state_table part_table = {
	.name = "part",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct part),
	.fields = part_fields,
	.n_fields = ARRAY_SIZE(part_fields),
};

static const struct state_field thing_fields[] = {
	STATE_FIELD_U8(struct thing, kind),
	STATE_FIELD_U16(struct thing, word),
	STATE_FIELD_VARRAY(struct thing, parts, n_parts, &part_table),
	STATE_FIELD_STRUCTS(struct thing, always, &part_table),
	STATE_FIELD_VARRAY(struct thing, raw, n_raw, NULL),
	STATE_FIELD_KIND(struct thing, large, STATE_U64, STATE_CLOCK),
	{ .name = "identity",
	  .type = STATE_U32,
	  .offset = offsetof(struct thing, identity),
	  .size = 4,
	  .count = 1,
	  .since = 1,
	  .must_equal = true },
	{ .name = "added",
	  .type = STATE_U32,
	  .offset = offsetof(struct thing, added),
	  .size = 4,
	  .count = 1,
	  .since = 2 },
};

static void add_defaults(void *state)
{
	((struct thing *)state)->added = 7;
}

static int check_thing(const void *state, struct error *err)
{
	return ((const struct thing *)state)->kind == 0xff
		       ? error_set(err, -1, EXIT_STATUS_FAILED, "kind")
		       : 0;
}

static const struct state_table thing_table = {
	.name = "thing",
	.version = 2,
	.min_version = 1,
	.size = sizeof(struct thing),
	.fields = thing_fields,
	.n_fields = ARRAY_SIZE(thing_fields),
	.defaults = add_defaults,
	.check = check_thing,
};

/* What an older program is given, it takes; the newer field is then the default. */
static void take_older(const struct thing *thing)
{
	struct thing older = { .identity = thing->identity };
	struct state_section section;
	struct cursor cursor;
	struct buffer out;

	buffer_init(&out, LIMIT_STATE_SECTION);
	assert(state_save_as(&out, &thing_table, 0, "", thing) < 0 && out.len == 0);
	assert(state_save_as(&out, &thing_table, 1, "thing", thing) == 0);
	cursor = (struct cursor){ .data = out.data, .left = out.len };
	assert(state_next_section(&cursor, &section) == 1 && section.version == 1);
	assert(state_load(&section, &thing_table, &older, NULL) == 0);
	assert(older.added == 7 && older.large == thing->large);
	buffer_release(&out);
}

static void take(const struct state_section *section)
{
	struct thing thing = { .identity = 0x20202020 }, before = thing;
	struct error err = { 0 };
	struct buffer again;
	struct cursor cursor;
	struct state_section copy;

	if (state_load(section, &thing_table, &thing, &err) < 0) {
		assert(err.code && memcmp(&thing, &before, sizeof(thing)) == 0);
		return;
	}
	assert(!state_compare(&thing_table, &thing, &thing));
	buffer_init(&again, LIMIT_STATE_SECTION);
	assert(state_save(&again, &thing_table, section->instance, &thing) == 0);
	cursor = (struct cursor){ .data = again.data, .left = again.len };
	assert(state_next_section(&cursor, &copy) == 1 && cursor.left == 0);
	if (section->version == thing_table.version)
		assert(copy.body.left == section->body.left &&
		       memcmp(copy.body.data, section->body.data, copy.body.left) == 0);
	take_older(&thing);
	/* Comparing with the value before may name any field or none; it must not leave its bounds. */
	state_compare(&thing_table, &thing, &before);
	buffer_release(&again);
}

/* The first half into the second. */
static void merge(const uint8_t *data, size_t size)
{
	struct state_section section;
	struct cursor cursor;
	struct buffer out;
	int r;

	buffer_init(&out, 2 * size);
	if (state_merge(&out, data, size / 2, data + size / 2, size - size / 2) == 0) {
		cursor = (struct cursor){ .data = out.data, .left = out.len };
		while ((r = state_next_section(&cursor, &section)) == 1)
			;
		assert(r == 0);
	}
	out.len = 0;
	if (state_diff(&out, data, size / 2, data + size / 2, size - size / 2) == 0)
		assert(out.len <= size - size / 2);
	out.len = 0;
	if (state_merge(&out, data, size, data, size) == 0)
		assert(out.len == size && (!size || memcmp(out.data, data, size) == 0));
	buffer_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor stream = { .data = data, .left = size };
	struct state_section section;

	while (state_next_section(&stream, &section) == 1)
		take(&section);
	merge(data, size);
	return 0;
}
