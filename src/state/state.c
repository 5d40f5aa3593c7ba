/* SPDX-License-Identifier: Apache-2.0 */
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/limits.h"

#define SECTION_MAGIC 0x43455355U /* "USEC" */

static size_t scalar_size(enum state_type type)
{
	switch (type) {
	case STATE_U8:
		return 1;
	case STATE_U16:
		return 2;
	case STATE_U32:
		return 4;
	case STATE_U64:
		return 8;
	default:
		return 0;
	}
}

/* Host integers of a width, in whatever order the host keeps them. */
static uint64_t scalar_get(const void *p, size_t size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

static void scalar_set(void *p, size_t size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)p = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)p = (uint32_t)value;
		break;
	default:
		*(uint64_t *)p = value;
	}
}

/* How many elements the field has in this struct; a VARRAY's own count, clamped to its room. */
static uint32_t field_count(const struct state_field *field, const void *state)
{
	if (field->type != STATE_VARRAY)
		return field->count;
	return MIN(*(const uint32_t *)((const char *)state + field->count_offset), field->count);
}

/* A section in the making. */
struct save {
	struct buffer *out;
	uint16_t version; /* fields since later versions are left out */
};

static int save_fields(const struct save *save, const struct state_table *table, const void *state);

static int save_elements(const struct save *save, const struct state_field *field, const char *at,
			 uint32_t count)
{
	size_t size = scalar_size(field->type);
	int r = 0;

	if (!size && !field->sub) /* bytes: all at once */
		return buffer_append(save->out, at, count * field->size);
	for (uint32_t n = 0; r == 0 && n < count; n++, at += field->size)
		r = size ? buffer_append_le(save->out, scalar_get(at, size), size)
			 : save_fields(save, field->sub, at);
	return r;
}

static int save_fields(const struct save *save, const struct state_table *table, const void *state)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct state_field *field = &table->fields[i];
		const char *at = (const char *)state + field->offset;
		uint32_t count = field_count(field, state);
		int r = 0;

		if (field->since > save->version)
			continue;
		if (field->type == STATE_VARRAY)
			r = buffer_append_le(save->out, count, 4);
		if (r == 0)
			r = save_elements(save, field, at, count);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Which version of the section a reader of state version `version` has: that of the last field it knows. */
static uint16_t version_for(const struct state_table *table, uint16_t version)
{
	uint16_t found = MAX(table->since, 1);

	if (version >= table->version)
		return table->version;
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct state_field *field = &table->fields[i];

		if (field->since > version)
			continue;
		found = MAX(found, field->since);
		if (field->sub)
			found = MAX(found, version_for(field->sub, version));
	}
	return found;
}

static int save_header(const struct save *save, const char *instance)
{
	size_t name_len = strlen(instance);
	int r;

	if (name_len == 0 || name_len >= LIMIT_STATE_NAME)
		return -EINVAL;
	r = buffer_append_le(save->out, SECTION_MAGIC, 4);
	if (r == 0)
		r = buffer_append_le(save->out, name_len, 1);
	if (r == 0)
		r = buffer_append(save->out, instance, name_len);
	if (r == 0)
		r = buffer_append_le(save->out, save->version, 2);
	return r == 0 ? buffer_append_le(save->out, 0, 4) : r; /* the length, set later */
}

int state_save_as(struct buffer *out, const struct state_table *table, uint16_t version,
		  const char *instance, const void *state)
{
	const struct save save = { .out = out, .version = version_for(table, version) };
	size_t start = out->len, body_at;
	int r;

	if (version < table->since || save.version < table->min_version)
		return -EPROTONOSUPPORT;
	r = save_header(&save, instance);
	body_at = out->len;
	if (r == 0)
		r = save_fields(&save, table, state);
	if (r == 0 && out->len - body_at > LIMIT_STATE_SECTION)
		r = -E2BIG;
	if (r < 0) {
		out->len = start;
		return r;
	}
	le_store(out->data + body_at - 4, 4, out->len - body_at);
	return 0;
}

int state_save(struct buffer *out, const struct state_table *table, const char *instance,
	       const void *state)
{
	return state_save_as(out, table, UINT16_MAX, instance, state);
}

int state_next_section(struct cursor *stream, struct state_section *ret_section)
{
	struct state_section section = { 0 };
	uint32_t magic, length;
	const void *name;
	uint8_t name_len;

	if (stream->left == 0 && !stream->bad)
		return 0;
	magic = (uint32_t)cursor_take_le(stream, 4);
	name_len = (uint8_t)cursor_take_le(stream, 1);
	if (magic != SECTION_MAGIC || name_len == 0 || name_len >= LIMIT_STATE_NAME)
		return -EBADMSG;
	name = cursor_take(stream, name_len);
	if (!name || memchr(name, 0, name_len))
		return -EBADMSG;
	memcpy(section.instance, name, name_len);
	section.version = (uint16_t)cursor_take_le(stream, 2);
	length = (uint32_t)cursor_take_le(stream, 4);
	if (length > LIMIT_STATE_SECTION)
		return -EBADMSG;
	section.body = (struct cursor){ .data = cursor_take(stream, length), .left = length };
	if (stream->bad)
		return -EBADMSG;
	*ret_section = section;
	return 1;
}

/* Where a load is, for messages and for the must-equal comparison with the target's present value. */
struct load {
	const struct state_section *section;
	struct cursor body;
	struct error *err;
};

static int refuse(struct load *load, const char *field, const char *why)
{
	return error_set(load->err, -EBADMSG, EXIT_STATUS_FAILED,
			 "state of %s: field %s: %s; the stream is damaged or from another VM",
			 load->section->instance, field, why);
}

static int load_fields(struct load *load, const struct state_table *table, char *state);

static int load_elements(struct load *load, const struct state_field *field, char *at,
			 uint32_t count)
{
	size_t size = scalar_size(field->type);
	int r = 0;

	if (!size && !field->sub) {
		const void *bytes = cursor_take(&load->body, count * field->size);

		if (bytes)
			memcpy(at, bytes, count * field->size);
		return 0;
	}
	for (uint32_t n = 0; r == 0 && n < count && !load->body.bad; n++, at += field->size) {
		if (!size) {
			r = load_fields(load, field->sub, at);
			continue;
		}
		uint64_t value = cursor_take_le(&load->body, size);

		if (!load->body.bad)
			scalar_set(at, size, value);
	}
	return r;
}

/* Loads a VARRAY's count, bounded by its room; elements left over are zeroed so that structs compare. */
static int load_count(struct load *load, const struct state_field *field, char *state,
		      uint32_t *ret_count)
{
	uint32_t count = (uint32_t)cursor_take_le(&load->body, 4);

	if (count > field->count)
		return refuse(load, field->name, "too many elements");
	memset(state + field->offset, 0, field->count * field->size);
	*(uint32_t *)(state + field->count_offset) = count;
	*ret_count = count;
	return 0;
}

static int load_field(struct load *load, const struct state_field *field, char *state)
{
	char *at = state + field->offset;
	uint32_t count = field->count;
	uint64_t expected = 0;
	size_t size = scalar_size(field->type);
	int r = 0;

	if (field->must_equal && size)
		expected = scalar_get(at, size);
	if (field->type == STATE_VARRAY)
		r = load_count(load, field, state, &count);
	if (r == 0)
		r = load_elements(load, field, at, count);
	if (r == 0 && load->body.bad)
		r = refuse(load, field->name, "ends too early");
	if (r == 0 && field->must_equal && size && scalar_get(at, size) != expected)
		r = error_set(load->err, -EINVAL, EXIT_STATUS_FAILED,
			      "state of %s: field %s is %llu in the stream but %llu here; "
			      "make the VM with the same configuration",
			      load->section->instance, field->name,
			      (unsigned long long)scalar_get(at, size),
			      (unsigned long long)expected);
	return r;
}

static int load_fields(struct load *load, const struct state_table *table, char *state)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct state_field *field = &table->fields[i];
		int r;

		if (field->since > load->section->version)
			continue;
		r = load_field(load, field, state);
		if (r < 0)
			return r;
	}
	return 0;
}

int state_decode(const struct state_section *section, const struct state_table *table,
		 const void *current, void **ret_state, struct error *err)
{
	struct load load = { .section = section, .body = section->body, .err = err };
	_cleanup_(freep) char *scratch = NULL;
	int r;

	if (section->version < table->min_version || section->version > table->version)
		return error_set(err, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
				 "state of %s: version %u, but this program reads %u to %u",
				 section->instance, section->version, table->min_version,
				 table->version);
	scratch = malloc(table->size);
	if (!scratch)
		return -ENOMEM;
	memcpy(scratch, current, table->size);
	if (section->version < table->version && table->defaults)
		table->defaults(scratch);
	r = load_fields(&load, table, scratch);
	if (r == 0 && load.body.left)
		r = refuse(&load, "(end)", "more bytes than fields");
	if (r == 0 && table->check)
		r = table->check(scratch, err);
	if (r == 0)
		*ret_state = TAKE_PTR(scratch);
	return r;
}

int state_load(const struct state_section *section, const struct state_table *table, void *state,
	       struct error *err)
{
	_cleanup_(freep) void *loaded = NULL;
	int r = state_decode(section, table, state, &loaded, err);

	if (r == 0)
		memcpy(state, loaded, table->size);
	return r;
}

static bool element_equal(const struct state_field *field, const char *a, const char *b,
			  const char **ret_name)
{
	const char *inner;

	if (!field->sub) {
		*ret_name = field->name;
		return memcmp(a, b, field->size) == 0;
	}
	inner = state_compare(field->sub, a, b);
	*ret_name = inner;
	return !inner;
}

const char *state_compare(const struct state_table *table, const void *a, const void *b)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct state_field *field = &table->fields[i];
		const char *at_a = (const char *)a + field->offset;
		const char *at_b = (const char *)b + field->offset;
		uint32_t count = field_count(field, a);
		const char *name;

		if (field->kind != STATE_EXACT)
			continue;
		if (count != field_count(field, b))
			return field->name;
		for (uint32_t n = 0; n < count; n++)
			if (!element_equal(field, at_a + n * field->size, at_b + n * field->size,
					   &name))
				return name;
	}
	return NULL;
}
