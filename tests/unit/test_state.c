/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "state/merge.h"
#include "state/state.h"
#include "check.h"

struct inner {
	uint16_t a;
	uint8_t b[3];
};

struct thing {
	uint8_t small;
	uint64_t large;
	struct inner inner;
	uint32_t n;
	struct inner many[4];
	uint64_t clock;
	uint32_t identity;
	uint32_t added; /* in version 2 */
};

static const struct state_field inner_fields[] = {
	STATE_FIELD_U16(struct inner, a),
	STATE_FIELD_BYTES(struct inner, b),
};

static const struct state_table inner_table = {
	.name = "inner",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct inner),
	.fields = inner_fields,
	.n_fields = ARRAY_SIZE(inner_fields),
};

static struct state_field thing_fields[] = {
	STATE_FIELD_U8(struct thing, small),
	STATE_FIELD_U64(struct thing, large),
	STATE_FIELD_STRUCT(struct thing, inner, &inner_table),
	STATE_FIELD_VARRAY(struct thing, many, n, &inner_table),
	STATE_FIELD_KIND(struct thing, clock, STATE_U64, STATE_CLOCK),
	STATE_FIELD_U32(struct thing, identity),
	STATE_FIELD_U32(struct thing, added),
};

static int check_thing(const void *state, struct error *err)
{
	const struct thing *thing = state;

	if (thing->small > 100)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED, "small is too large");
	return 0;
}

static void add_defaults(void *state)
{
	((struct thing *)state)->added = 77;
}

static struct state_table thing_table(uint16_t version)
{
	thing_fields[5].must_equal = true;
	thing_fields[6].since = 2;
	return (struct state_table){
		.name = "thing",
		.version = version,
		.min_version = 1,
		.size = sizeof(struct thing),
		.fields = thing_fields,
		.n_fields = version == 1 ? 6 : 7,
		.defaults = add_defaults,
		.check = check_thing,
	};
}

static const struct thing example = {
	.small = 7,
	.large = 0x1122334455667788,
	.inner = { 1, { 2, 3, 4 } },
	.n = 2,
	.many = { { 5, { 6, 7, 8 } }, { 9, { 10, 11, 12 } } },
	.clock = 1000,
	.identity = 42,
	.added = 5,
};

static struct state_section saved(struct buffer *out, const struct state_table *table,
				  const struct thing *thing)
{
	struct state_section section;
	struct cursor cursor;

	buffer_init(out, MIB(1));
	assert_int_equal(state_save(out, table, "thing.0", thing), 0);
	cursor = (struct cursor){ .data = out->data, .left = out->len };
	assert_int_equal(state_next_section(&cursor, &section), 1);
	assert_int_equal(state_next_section(&cursor, &section), 0);
	cursor = (struct cursor){ .data = out->data, .left = out->len };
	assert_int_equal(state_next_section(&cursor, &section), 1);
	return section;
}

static void what_was_saved_is_loaded(void **state _unused_)
{
	const struct state_table table = thing_table(2);
	struct thing loaded = { .identity = 42 };
	struct buffer out;
	struct state_section section = saved(&out, &table, &example);

	assert_string_equal(section.instance, "thing.0");
	assert_int_equal(state_load(&section, &table, &loaded, NULL), 0);
	assert_memory_equal(&loaded, &example, sizeof(loaded));
	assert_null(state_compare(&table, &loaded, &example));
	buffer_release(&out);
}

static void an_older_section_gets_defaults(void **state _unused_)
{
	const struct state_table old = thing_table(1);
	struct thing loaded = { .identity = 42 };
	struct buffer out;
	struct state_section section = saved(&out, &old, &example);
	const struct state_table table = thing_table(2);

	assert_int_equal(state_load(&section, &table, &loaded, NULL), 0);
	assert_int_equal(loaded.added, 77);
	assert_int_equal(loaded.large, example.large);
	buffer_release(&out);
}

/* A newer program serves an older one: to the byte what that one would have written. */
static void a_section_is_written_as_an_older_program_reads_it(void **state _unused_)
{
	const struct state_table newer = thing_table(2);
	struct buffer as_old, by_old;
	struct state_table old;

	buffer_init(&as_old, MIB(1));
	assert_int_equal(state_save_as(&as_old, &newer, 1, "thing.0", &example), 0);
	old = thing_table(1);
	saved(&by_old, &old, &example);
	assert_int_equal(as_old.len, by_old.len);
	assert_memory_equal(as_old.data, by_old.data, as_old.len);
	buffer_release(&as_old);
	buffer_release(&by_old);
}

/* The last change that the older program knows counts, not the newest: it may be several behind. */
static void an_older_program_is_given_the_version_it_knows(void **state _unused_)
{
	struct state_table newer = thing_table(7);
	struct state_section section;
	struct cursor cursor;
	struct buffer out;

	thing_fields[6].since = 7;
	buffer_init(&out, MIB(1));
	assert_int_equal(state_save_as(&out, &newer, 6, "thing.0", &example), 0);
	cursor = (struct cursor){ .data = out.data, .left = out.len };
	assert_int_equal(state_next_section(&cursor, &section), 1);
	assert_int_equal(section.version, 1);
	newer.min_version = 7; /* what was before cannot be written any more */
	assert_int_equal(state_save_as(&out, &newer, 6, "thing.0", &example), -EPROTONOSUPPORT);
	newer.since = 7; /* there was no such section */
	assert_int_equal(state_save_as(&out, &newer, 6, "thing.0", &example), -EPROTONOSUPPORT);
	assert_int_equal(cursor.left, 0);
	assert_int_equal(state_save_as(&out, &newer, 7, "thing.0", &example), 0);
	buffer_release(&out);
}

static void a_newer_section_is_refused_by_version(void **state _unused_)
{
	const struct state_table newer = thing_table(2);
	struct thing loaded = { .identity = 42 }, before = loaded;
	struct error err = { 0 };
	struct buffer out;
	struct state_section section = saved(&out, &newer, &example);
	const struct state_table table = thing_table(1);

	assert_int_equal(state_load(&section, &table, &loaded, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.message, "version 2"));
	assert_memory_equal(&loaded, &before, sizeof(loaded));
	buffer_release(&out);
}

static void refusals_name_the_field_and_change_nothing(void **state _unused_)
{
	const struct state_table table = thing_table(2);
	struct thing other = { .identity = 43 }, before = other;
	struct thing large = example;
	struct error err = { 0 };
	struct buffer out;
	struct state_section section = saved(&out, &table, &example);

	assert_int_equal(state_load(&section, &table, &other, &err), -EINVAL);
	assert_non_null(strstr(err.message, "identity"));
	assert_memory_equal(&other, &before, sizeof(other));
	buffer_release(&out);

	large.small = 101;
	section = saved(&out, &table, &large);
	other.identity = 42;
	err = (struct error){ 0 };
	assert_int_equal(state_load(&section, &table, &other, &err), -EINVAL);
	assert_string_equal(err.message, "small is too large");
	buffer_release(&out);
}

static void every_truncation_is_refused(void **state _unused_)
{
	const struct state_table table = thing_table(2);
	struct buffer out;
	struct state_section section = saved(&out, &table, &example);
	size_t whole = section.body.left;

	for (size_t len = 0; len < whole; len++) {
		struct thing loaded = { .identity = 42 };
		struct state_section cut = section;

		cut.body.left = len;
		assert_int_equal(state_load(&cut, &table, &loaded, NULL), -EBADMSG);
	}
	for (size_t len = 1; len < out.len; len++) {
		struct cursor cursor = { .data = out.data, .left = len };

		assert_int_equal(state_next_section(&cursor, &section), -EBADMSG);
	}
	buffer_release(&out);
}

static void a_count_beyond_its_room_is_refused(void **state _unused_)
{
	const struct state_table table = thing_table(2);
	struct thing loaded = { .identity = 42 };
	struct buffer out;
	struct state_section section = saved(&out, &table, &example);
	size_t count_at = (size_t)(section.body.data - out.data) + 1 + 8 + 5;

	assert_int_equal(out.data[count_at], 2);
	out.data[count_at] = 5;
	assert_int_equal(state_load(&section, &table, &loaded, NULL), -EBADMSG);
	buffer_release(&out);
}

static void comparing_names_exact_fields_only(void **state _unused_)
{
	const struct state_table table = thing_table(2);
	struct thing other = example;

	other.clock++;
	assert_null(state_compare(&table, &example, &other));
	other.many[1].b[2]++;
	assert_string_equal(state_compare(&table, &example, &other), "b");
	other = example;
	other.n = 1;
	assert_string_equal(state_compare(&table, &example, &other), "many");
}

static void add(struct buffer *out, const char *instance, uint8_t small)
{
	const struct state_table table = thing_table(2);
	struct thing thing = example;

	thing.small = small;
	assert_int_equal(state_save(out, &table, instance, &thing), 0);
}

static void only_what_changed_is_put_into_what_was_whole(void **state _unused_)
{
	struct buffer whole, changed, merged, right;

	buffer_init(&whole, 1 << 20);
	buffer_init(&changed, 1 << 20);
	buffer_init(&merged, 1 << 20);
	buffer_init(&right, 1 << 20);
	add(&whole, "a", 1);
	add(&whole, "b", 2);
	add(&whole, "c", 3);
	add(&changed, "d", 40);
	add(&changed, "b", 20);
	add(&right, "a", 1);
	add(&right, "b", 20);
	add(&right, "c", 3);
	add(&right, "d", 40);
	assert_int_equal(state_merge(&merged, whole.data, whole.len, changed.data, changed.len), 0);
	assert_int_equal(merged.len, right.len);
	assert_memory_equal(merged.data, right.data, right.len);
	/* Nothing changed, nothing there before. */
	merged.len = 0;
	assert_int_equal(state_merge(&merged, whole.data, whole.len, NULL, 0), 0);
	assert_int_equal(merged.len, whole.len);
	merged.len = 0;
	assert_int_equal(state_merge(&merged, NULL, 0, whole.data, whole.len), 0);
	assert_memory_equal(merged.data, whole.data, whole.len);
	buffer_release(&whole);
	buffer_release(&changed);
	buffer_release(&merged);
	buffer_release(&right);
}

static void what_differs_is_all_that_a_merge_needs(void **state _unused_)
{
	struct buffer older, newer, diff, right;

	buffer_init(&older, 1 << 20);
	buffer_init(&newer, 1 << 20);
	buffer_init(&diff, 1 << 20);
	buffer_init(&right, 1 << 20);
	add(&older, "a", 1);
	add(&older, "b", 2);
	add(&newer, "a", 1);
	add(&newer, "b", 20);
	add(&newer, "c", 3);
	add(&right, "b", 20);
	add(&right, "c", 3);
	assert_int_equal(state_diff(&diff, older.data, older.len, newer.data, newer.len), 0);
	assert_int_equal(diff.len, right.len);
	assert_memory_equal(diff.data, right.data, right.len);
	right.len = 0;
	assert_int_equal(state_merge(&right, older.data, older.len, diff.data, diff.len), 0);
	assert_int_equal(right.len, newer.len);
	assert_memory_equal(right.data, newer.data, newer.len);
	diff.len = 0;
	assert_int_equal(state_diff(&diff, newer.data, newer.len, newer.data, newer.len), 0);
	assert_int_equal(diff.len, 0);
	assert_int_equal(state_diff(&diff, newer.data, newer.len, older.data, older.len), -ENOENT);
	buffer_release(&older);
	buffer_release(&newer);
	buffer_release(&diff);
	buffer_release(&right);
}

static void streams_that_make_no_sense_are_not_merged(void **state _unused_)
{
	struct buffer whole, out;

	buffer_init(&whole, 1 << 20);
	buffer_init(&out, 1 << 20);
	add(&whole, "a", 1);
	assert_int_equal(state_merge(&out, whole.data, whole.len - 1, NULL, 0), -EBADMSG);
	assert_int_equal(state_merge(&out, NULL, 0, whole.data, 3), -EBADMSG);
	add(&whole, "a", 2);
	assert_int_equal(state_merge(&out, whole.data, whole.len, NULL, 0), -EBADMSG);
	out.limit = 8;
	assert_int_equal(state_merge(&out, whole.data, whole.len / 2, NULL, 0), -E2BIG);
	buffer_release(&whole);
	buffer_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_saved_is_loaded),
		cmocka_unit_test(an_older_section_gets_defaults),
		cmocka_unit_test(a_section_is_written_as_an_older_program_reads_it),
		cmocka_unit_test(an_older_program_is_given_the_version_it_knows),
		cmocka_unit_test(a_newer_section_is_refused_by_version),
		cmocka_unit_test(refusals_name_the_field_and_change_nothing),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(a_count_beyond_its_room_is_refused),
		cmocka_unit_test(comparing_names_exact_fields_only),
		cmocka_unit_test(only_what_changed_is_put_into_what_was_whole),
		cmocka_unit_test(what_differs_is_all_that_a_merge_needs),
		cmocka_unit_test(streams_that_make_no_sense_are_not_merged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
