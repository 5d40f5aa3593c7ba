/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: view/web/answer.c view/web/json.c view/web/lens.c view/web/tile.c view/web/history.c view/web/pack.c view/web/sites.c view/web/model.c view/web/session.c
 *
 * What the page asks, over records with anything in them. An input: lines "/data/path?name=value&name=value", then, behind a
 * NUL, records. Every answer is whole JSON, or a picture of the length that its head says; without the secrets nothing opens.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_source.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "view/web/answer.h"
#include "view/web/session.h"
#include "view/web/tile.h"

#define QUESTIONS_MAX 16
#define LINE_MAX 1200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

struct question {
	char path[LINE_MAX];
	char *query; /* in `path` */
	char value[LINE_MAX];
};

static const char *argument(void *ctx, const char *name)
{
	struct question *question = ctx;
	size_t n = strlen(name);

	for (const char *at = question->query; at; at = strchr(at, '&')) {
		at += *at == '&';
		if (!strncmp(at, name, n) && at[n] == '=') {
			snprintf(question->value, sizeof(question->value), "%.*s",
				 (int)strcspn(at + n + 1, "&"), at + n + 1);
			return question->value;
		}
	}
	return NULL;
}

static json_t *require_json(const char *text, size_t len)
{
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	require(json_is_object(json));
	return json;
}

static void require_tile(const char *body, size_t n_bytes)
{
	size_t head = le_load(body, 4), columns, lanes, lines;
	json_int_t low, high;
	json_t *json;

	require(head % 4 == 0 && head + 4 <= n_bytes);
	json = require_json(body + 4, head);
	columns = (size_t)json_integer_value(json_object_get(json, "columns"));
	lanes = json_array_size(json_object_get(json, "rings")) +
		json_array_size(json_object_get(json, "devices"));
	low = json_integer_value(json_object_get(json, "low"));
	high = json_integer_value(json_object_get(json, "high"));
	lines = high < low ? 0 : (size_t)(high - low + 1);
	require(n_bytes == 4 + head + columns * (4 * (lanes + lines) + lanes));
	json_decref(json);
}

static void ask(struct web_model *model, const char *line, size_t len)
{
	struct question question = { 0 };
	struct web_request request = { .path = question.path,
				       .argument = argument,
				       .ctx = &question };
	struct web_response response;

	memcpy(question.path, line, MIN(len, LINE_MAX - 1));
	question.query = strchr(question.path, '?');
	if (question.query)
		*question.query++ = '\0';
	web_answer(model, &request, &response);
	require(response.body);
	if (response.status == 200 && !strcmp(question.path, "/data/view"))
		require_tile(response.body, response.n_bytes);
	else
		json_decref(require_json(response.body, response.n_bytes));
	free(response.body);
}

/* Whatever a visitor shows that is not the secrets. */
static void knock(const char *text)
{
	struct web_session session;
	struct web_visit visit = { .method = "GET",
				   .host = "127.0.0.1:80",
				   .path = text,
				   .token = text,
				   .cookie = text,
				   .key = text };
	enum web_verdict verdict;

	require(!web_session_begin(&session, 80));
	verdict = web_session_judge(&session, &visit);
	require(verdict == WEB_REFUSED && !session.opened);
	visit.host = text;
	require(web_session_judge(&session, &visit) == WEB_HOST || !strcmp(text, "localhost:80"));
	visit.method = text;
	require(web_session_judge(&session, &visit) != WEB_BEGIN);
	visit = (struct web_visit){
		.method = "HEAD", .host = "localhost:80", .path = "/open", .token = session.token
	};
	require(web_session_judge(&session, &visit) == WEB_BEGIN);
	require(web_session_judge(&session, &visit) == WEB_USED);
	require(!web_session_renew(&session) && strcmp(session.token, text));
	visit.token = session.token;
	require(web_session_judge(&session, &visit) == WEB_BEGIN);
	visit = (struct web_visit){ .method = "GET",
				    .host = "localhost:80",
				    .path = "/data/state",
				    .cookie = session.cookie,
				    .key = text };
	require(web_session_judge(&session, &visit) == WEB_REFUSED);
	visit.key = session.key;
	require(web_session_judge(&session, &visit) == WEB_SERVE);
}

/* What is behind the NUL, as records; then many copies of the last one, so that blocks fill. */
static void add_records(struct watch_source *source, struct web_model *model, const uint8_t *data,
			size_t size)
{
	unsigned int copies = size ? data[0] % 40 * 64 : 0;

	while (size && source->n_records < FAKE_SOURCE_RECORDS) {
		struct watch_record *record = fake_source_add(source, 0);
		size_t n = MIN(size, sizeof(*record));

		memcpy(record, data, n);
		data += n;
		size -= n;
	}
	source->at_end = 0;
	require(web_model_take(model, 1000) >= 0);
	for (unsigned int i = 0; i < copies && source->n_records; i++) {
		source->records[source->n_records - 1].begin += 999;
		source->at = source->n_records - 1;
		require(web_model_take(model, 1000) >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) struct watch_source *source = calloc(1, sizeof(*source));
	const char *unseen[] = { "this", "that" };
	struct view_context view = {
		.title = "fuzz", .mode = "normal", .unseen = unseen, .n_unseen = 2
	};
	_cleanup_(freep) char *text = strndup((const char *)data, size);
	struct web_model *model;
	size_t n_text = text ? strlen(text) : 0;
	unsigned int questions = 0;

	if (!source || !text)
		return 0;
	fake_source_init(source);
	view_init(&view, source);
	view.filter_text = text;
	model = web_model_new(&view, MIB(2));
	require(model);
	add_records(source, model, data + MIN(n_text + 1, size), size - MIN(n_text + 1, size));
	knock(text);
	for (const char *at = text; *at && questions++ < QUESTIONS_MAX; at += *at == '\n') {
		size_t len = strcspn(at, "\n");

		ask(model, at, len);
		at += len;
	}
	web_model_free(model);
	return 0;
}
