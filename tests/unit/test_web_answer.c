/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "check.h"
#include "fake_source.h"
#include "view/web/answer.h"

struct rig {
	struct watch_source source;
	struct view_context view;
	struct web_model *model;
	const char *query; /* "name=value&name=value", not encoded */
	char value[256];
};

static int rig_begin(void **state)
{
	static const char *const unseen[] = { "the LAPIC" };
	struct rig *rig = calloc(1, sizeof(*rig));

	fake_source_init(&rig->source);
	rig->view = (struct view_context){
		.title = "vm1", .mode = "normal", .filter_text = "", .unseen = unseen, .n_unseen = 1
	};
	view_init(&rig->view, &rig->source);
	rig->model = web_model_new(&rig->view, MIB(4));
	assert_non_null(rig->model);
	*state = rig;
	return 0;
}

static int rig_end(void **state)
{
	struct rig *rig = *state;

	web_model_free(rig->model);
	free(rig);
	return 0;
}

/* Accesses at 1000, 2000, ... ns that take 12345 ns, and a disk's request that failed. */
static void fill(struct rig *rig, unsigned int accesses)
{
	struct watch_record *disk;

	for (unsigned int i = 1; i <= accesses; i++)
		fake_source_add(&rig->source, 1000 * i)->source = (uint16_t)(i % 2);
	disk = fake_source_add(&rig->source, 1000 * (accesses + 1));
	*disk = (struct watch_record){ .begin = disk->begin,
				       .duration = 5000000,
				       .kind = RECORD_DISK,
				       .device = 1,
				       .status = -EIO };
	assert_int_equal(web_model_take(rig->model, 1000), accesses + 1);
	assert_int_equal(web_model_take(rig->model, 1000), 0);
	assert_true(rig->model->over);
}

static const char *argument(void *ctx, const char *name)
{
	struct rig *rig = ctx;
	size_t n = strlen(name);

	for (const char *at = rig->query; at && *at;
	     at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL)
		if (!strncmp(at, name, n) && at[n] == '=') {
			snprintf(rig->value, sizeof(rig->value), "%.*s",
				 (int)strcspn(at + n + 1, "&"), at + n + 1);
			return rig->value;
		}
	return NULL;
}

static struct web_response ask(struct rig *rig, const char *path, const char *query)
{
	struct web_request request = { .path = path, .argument = argument, .ctx = rig };
	struct web_response response;

	rig->query = query;
	web_answer(rig->model, &request, &response);
	assert_non_null(response.body);
	return response;
}

static json_t *ask_json(struct rig *rig, const char *path, const char *query, unsigned int status)
{
	struct web_response response = ask(rig, path, query);
	json_t *json = json_loadb(response.body, response.n_bytes, JSON_REJECT_DUPLICATES, NULL);

	assert_int_equal(response.status, status);
	assert_non_null(json);
	free(response.body);
	return json;
}

static json_int_t number(json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

/* A picture's head; its numbers are in `ret_numbers`, to be freed. */
static json_t *ask_view(struct rig *rig, const char *query, uint32_t **ret_numbers)
{
	struct web_response response = ask(rig, "/data/view", query);
	uint32_t n = le_load(response.body, 4);
	json_t *json = json_loadb(response.body + 4, n, JSON_REJECT_DUPLICATES, NULL);

	assert_int_equal(response.status, 200);
	assert_non_null(json);
	assert_int_equal(n % 4, 0);
	*ret_numbers = malloc(response.n_bytes - 4 - n);
	memcpy(*ret_numbers, response.body + 4 + n, response.n_bytes - 4 - n);
	free(response.body);
	return json;
}

static void the_state_says_what_there_is(void **state)
{
	struct rig *rig = *state;
	json_t *json;

	fill(rig, 3);
	rig->source.lost = 7;
	json = ask_json(rig, "/data/state", "", 200);
	assert_int_equal(number(json, "first"), 0);
	assert_int_equal(number(json, "end"), 4);
	assert_int_equal(number(json, "lost"), 7);
	assert_int_equal(number(json, "to"), 3000 + 5000000);
	assert_true(json_is_true(json_object_get(json, "over")));
	assert_string_equal(json_string_value(json_object_get(json, "mode")), "normal");
	json_decref(json);
}

static void what_ends_a_source_is_told(void **state)
{
	struct rig *rig = *state;
	json_t *json;

	rig->source.at_end = -EIO;
	assert_int_equal(web_model_take(rig->model, 10), -EIO);
	json = ask_json(rig, "/data/state", "", 200);
	assert_string_equal(json_string_value(json_object_get(json, "end_text")),
			    strerrordesc_np(EIO));
	json_decref(json);
}

static void a_picture_counts_by_column(void **state)
{
	struct rig *rig = *state;
	uint32_t *numbers;
	json_t *json, *rings;

	fill(rig, 6); /* the first one is moment 0 */
	json = ask_view(rig, "from=0&to=6000&columns=3", &numbers);
	rings = json_object_get(json, "rings");
	assert_int_equal(number(json, "count"), 6);
	assert_int_equal(json_array_size(rings), 2);
	assert_int_equal(number(json_array_get(rings, 0), "count"), 3);
	/* Ring 0 has the accesses at 1000, 3000 and 5000, ring 1 those at 0, 2000 and 4000. */
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(numbers[i], 1);
	assert_int_equal(json_array_size(json_object_get(json, "spans")), 6);
	assert_int_equal(json_array_size(json_object_get(json, "sites")), 1);
	free(numbers);
	json_decref(json);
}

static void a_filter_leaves_out(void **state)
{
	struct rig *rig = *state;
	uint32_t *numbers;
	json_t *json;

	fill(rig, 6);
	json = ask_view(rig, "from=0&to=10000&columns=10&filter=dev==disk", &numbers);
	assert_int_equal(number(json, "count"), 1);
	assert_int_equal(number(json, "unknown"), 0);
	assert_int_equal(number(json_array_get(json_object_get(json, "devices"), 0), "failed"), 1);
	free(numbers);
	json_decref(json);
}

/* However little time there is: a page that asks again and again comes to the end. */
static void a_late_answer_gets_on(void **state)
{
	struct rig *rig = *state;
	struct error err = { 0 };
	struct lens *lens;

	fill(rig, 6);
	assert_int_equal(lenses_find(rig->model->lenses, "dev==disk", &lens, NULL, &err), 0);
	assert_non_null(
		lens_bits(rig->model->lenses, lens, history_block(rig->model->history, 0), 0));
}

static void a_bad_filter_names_the_column(void **state)
{
	struct rig *rig = *state;
	json_t *json;

	fill(rig, 1);
	json = ask_json(rig, "/data/view", "from=0&to=10&columns=1&filter=dev==disk %% 1", 400);
	assert_int_equal(number(json, "column"), 11);
	json_decref(json);
}

static void lines_come_the_newest_first(void **state)
{
	struct rig *rig = *state;
	json_t *json, *rows;

	fill(rig, 6);
	json = ask_json(rig, "/data/rows", "limit=2", 200);
	rows = json_object_get(json, "rows");
	assert_int_equal(json_array_size(rows), 2);
	assert_int_equal(json_integer_value(json_array_get(json_array_get(rows, 0), 0)), 6);
	assert_int_equal(number(json, "cursor"), 5);
	json_decref(json);
	json = ask_json(rig, "/data/rows", "limit=10&cursor=5&from=1000&to=3000", 200);
	rows = json_object_get(json, "rows");
	assert_int_equal(json_array_size(rows), 2);
	assert_int_equal(json_integer_value(json_array_get(json_array_get(rows, 1), 0)), 1);
	json_decref(json);
}

static void lines_come_the_oldest_first_too(void **state)
{
	struct rig *rig = *state;
	json_t *json;

	fill(rig, 6);
	json = ask_json(rig, "/data/rows", "older=0&limit=4&filter=vcpu==1", 200);
	assert_int_equal(json_array_size(json_object_get(json, "rows")), 3);
	json_decref(json);
	json = ask_json(rig, "/data/rows", "older=0&cursor=6", 200);
	assert_int_equal(json_array_size(json_object_get(json, "rows")), 1);
	json_decref(json);
}

static void a_request_has_registers_and_code(void **state)
{
	struct rig *rig = *state;
	json_t *json, *line;

	fill(rig, 1);
	json = ask_json(rig, "/data/record", "id=0", 200);
	line = json_array_get(json_object_get(json, "code"), 0);
	assert_string_equal(json_string_value(json_array_get(line, 2)), "out dx, al");
	assert_string_equal(json_string_value(json_array_get(line, 3)), "request");
	assert_int_equal(json_array_size(json_object_get(json, "registers")), 19);
	json_decref(json);
	json = ask_json(rig, "/data/record", "id=1", 200);
	assert_null(json_object_get(json, "registers"));
	json_decref(json);
}

static void what_is_not_there_is_said(void **state)
{
	static const struct {
		const char *path, *query;
		unsigned int status;
	} bad[] = {
		{ "/data/record", "id=2", 404 },
		{ "/data/record", "", 404 },
		{ "/data/record", "id=-1", 400 },
		{ "/data/record", "id=99999999999999999999", 400 },
		{ "/data/view", "from=5&to=5", 400 },
		{ "/data/view", "from=0&to=5&columns=0", 400 },
		{ "/data/view", "from=0&to=5&columns=1025", 400 },
		{ "/data/rows", "limit=501", 400 },
		{ "/data/rows", "cursor=", 400 },
		{ "/data/other", "", 404 },
	};
	struct rig *rig = *state;

	fill(rig, 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		json_decref(ask_json(rig, bad[i].path, bad[i].query, bad[i].status));
}

static void a_name_of_others_is_only_a_text(void **state)
{
	struct rig *rig = *state;
	struct web_response response;

	strcpy(rig->source.header.devices[1], "\"<b>\\\n\x80");
	fill(rig, 1);
	json_decref(ask_json(rig, "/data/rows", "", 200));
	response = ask(rig, "/data/rows", "");
	for (size_t i = 0; i < response.n_bytes; i++)
		assert_in_range(response.body[i], ' ', '~');
	free(response.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_state_says_what_there_is, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(what_ends_a_source_is_told, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(a_picture_counts_by_column, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(a_filter_leaves_out, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(a_late_answer_gets_on, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(a_bad_filter_names_the_column, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(lines_come_the_newest_first, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(lines_come_the_oldest_first_too, rig_begin,
						rig_end),
		cmocka_unit_test_setup_teardown(a_request_has_registers_and_code, rig_begin,
						rig_end),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_said, rig_begin, rig_end),
		cmocka_unit_test_setup_teardown(a_name_of_others_is_only_a_text, rig_begin,
						rig_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
