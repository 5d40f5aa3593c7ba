/* SPDX-License-Identifier: Apache-2.0 */

/* etcd's JSON, there and back: what is asked is what its gateway knows, and of what it answers nothing is guessed. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arbiter/gateway.h"
#include "check.h"

#define KEY "a"
#define KV "{\"key\":\"YQ==\",\"mod_revision\":\"7\",\"value\":\"Zm9v\"}"
#define HEADER "\"header\":{\"cluster_id\":\"14841639068965178418\",\"revision\":\"9\"}"

static void assert_text(char *text, const char *wanted)
{
	assert_non_null(text);
	assert_string_equal(text, wanted);
	free(text);
}

static void test_what_is_asked(void **state _unused_)
{
	assert_text(gateway_authenticate("vm", "pass\"word"),
		    "{\"name\":\"vm\",\"password\":\"pass\\\"word\"}");
	assert_text(gateway_range(KEY), "{\"key\":\"YQ==\"}");
	assert_text(gateway_swap(KEY, UINT64_MAX, "foo", 3),
		    "{\"compare\":[{\"key\":\"YQ==\",\"target\":\"MOD\",\"result\":\"EQUAL\","
		    "\"mod_revision\":\"18446744073709551615\"}],"
		    "\"success\":[{\"request_put\":{\"key\":\"YQ==\",\"value\":\"Zm9v\"}}],"
		    "\"failure\":[{\"request_range\":{\"key\":\"YQ==\"}}]}");
	assert_text(gateway_watch(KEY, 12),
		    "{\"create_request\":{\"key\":\"YQ==\",\"start_revision\":\"12\"}}");
}

static int read_range(const char *text, struct gateway_header *ret_header,
		      struct gateway_value *ret_value)
{
	return gateway_read_range(text, strlen(text), KEY, ret_header, ret_value);
}

static void test_a_range(void **state _unused_)
{
	struct gateway_header header;
	struct gateway_value value;

	assert_int_equal(read_range("{" HEADER ",\"kvs\":[" KV "],\"count\":\"1\",\"new\":[]}",
				    &header, &value),
			 0);
	assert_true(header.cluster == 14841639068965178418ULL && header.revision == 9);
	assert_true(value.present && value.revision == 7 && value.len == 3);
	assert_memory_equal(value.bytes, "foo", 3);
	assert_int_equal(read_range("{" HEADER "}", &header, &value), 0);
	assert_false(value.present);
	assert_int_equal(value.revision, 0);
}

static void test_other_ranges_are_refused(void **state _unused_)
{
#define WITH(kv) "{" HEADER ",\"kvs\":[" kv "]}"
#define BY(cluster, revision) "{\"header\":{\"cluster_id\":" cluster ",\"revision\":" revision "}}"
	static const char *const bad[] = {
		"",
		"null",
		"{}",
		"{" HEADER,
		"{" HEADER "}x",
		"{\"header\":7}",
		BY("\"1\"", "9"),
		BY("\"1\"", "\"0\""),
		BY("\"1\"", "\"-9\""),
		BY("\"1\"", "\"+9\""),
		BY("\"1\"", "\"09\""),
		BY("\"1\"", "\" 9\""),
		BY("\"1\"", "\"9 \""),
		BY("\"1\"", "\"\""),
		BY("\"1\"", "\"9\\u0000\""),
		BY("\"1\"", "\"9223372036854775808\""),
		BY("\"18446744073709551616\"", "\"9\""),
		BY("\"99999999999999999999999\"", "\"9\""),
		"{" HEADER ",\"kvs\":{}}",
		WITH(KV "," KV),
		WITH("7"),
		WITH("{}"),
		WITH("{\"key\":\"YQ==\"}"),
		WITH("{\"key\":\"Yg==\",\"mod_revision\":\"7\"}"),
		WITH("{\"key\":\"YQ==\",\"mod_revision\":7}"),
		WITH("{\"key\":\"YQ==\",\"mod_revision\":\"0\"}"),
		WITH("{\"key\":\"YQ==\",\"mod_revision\":\"10\"}"), /* above the store's */
		WITH("{\"key\":\"YQ==\",\"mod_revision\":\"7\",\"value\":\"Zm9\"}"),
		WITH("{\"key\":\"YQ==\",\"mod_revision\":\"7\",\"value\":\"Zm 9v\"}"),
		WITH("{\"key\":\"YQ==\",\"mod_revision\":\"7\",\"value\":[]}"),
		WITH("{\"key\":\"YQ==\",\"mod_revision\":\"7\",\"mod_revision\":\"8\"}"),
	};
	struct gateway_header header = { .revision = 42 };
	struct gateway_value value;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (read_range(bad[i], &header, &value) != -EBADMSG)
			fail_msg("'%s' was taken", bad[i]);
	assert_int_equal(header.revision, 42);
}

static void test_long_answers_and_values_are_refused(void **state _unused_)
{
	static char text[LIMIT_ARBITER_ANSWER + 2];
	static const char head[] =
		"{" HEADER ",\"kvs\":[{\"key\":\"YQ==\",\"mod_revision\":\"7\",\"value\":\"";
	struct gateway_header header;
	struct gateway_value value;

	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "{" HEADER "}", strlen("{" HEADER "}"));
	assert_int_equal(read_range(text, &header, &value), -EBADMSG);
	/* 516 bytes where 512 may be. */
	memcpy(text, head, strlen(head));
	memset(text + strlen(head), 'A', 688);
	strcpy(text + strlen(head) + 688, "\"}]}");
	assert_int_equal(read_range(text, &header, &value), -EBADMSG);
}

static int read_swap(const char *text, bool *ret_succeeded, struct gateway_value *ret_value)
{
	struct gateway_header header;

	return gateway_read_swap(text, strlen(text), KEY, &header, ret_succeeded, ret_value);
}

static void test_swaps(void **state _unused_)
{
	static const char won[] = "{" HEADER
				  ",\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}";
	static const char lost[] = "{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[" KV
				   "]}}]}";
	static const char *const bad[] = {
		"{" HEADER ",\"succeeded\":true}",
		"{" HEADER ",\"succeeded\":true,\"responses\":[]}",
		"{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_range\":{}}]}",
		"{" HEADER ",\"succeeded\":\"true\",\"responses\":[{\"response_put\":{}}]}",
		"{" HEADER ",\"responses\":[{\"response_put\":{}}]}",
		"{" HEADER ",\"responses\":[{\"response_range\":{}},{\"response_range\":{}}]}",
		"{" HEADER "}",
		"{\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}",
	};
	struct gateway_value value;
	bool succeeded;

	assert_int_equal(read_swap(won, &succeeded, &value), 0);
	assert_true(succeeded && value.revision == 9);
	assert_int_equal(read_swap(lost, &succeeded, &value), 0);
	assert_true(!succeeded && value.present && value.revision == 7 && value.len == 3);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (read_swap(bad[i], &succeeded, &value) != -EBADMSG)
			fail_msg("'%s' was taken", bad[i]);
}

static void test_news(void **state _unused_)
{
	static const struct {
		const char *line;
		int r;
		enum gateway_news news;
	} lines[] = {
		{ "{\"result\":{" HEADER ",\"created\":true}}", 0, GATEWAY_NOTHING },
		{ "{\"result\":{" HEADER "}}", 0, GATEWAY_NOTHING },
		{ "{\"result\":{" HEADER ",\"events\":[{\"type\":\"DELETE\"}]}}", 0,
		  GATEWAY_CHANGED },
		{ "{\"result\":{" HEADER ",\"canceled\":true,\"events\":[{}]}}", 0, GATEWAY_ENDED },
		{ "{\"error\":{\"message\":\"no\"}}", 0, GATEWAY_ENDED },
		{ "{\"error\":7}", -EBADMSG, 0 },
		{ "{\"result\":{}}", -EBADMSG, 0 },
		{ "{\"result\":{" HEADER ",\"events\":{}}}", -EBADMSG, 0 },
		{ "{\"result\":{" HEADER ",\"canceled\":1}}", -EBADMSG, 0 },
		{ "", -EBADMSG, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		enum gateway_news news = GATEWAY_NOTHING;

		assert_int_equal(gateway_read_news(lines[i].line, strlen(lines[i].line), &news),
				 lines[i].r);
		assert_int_equal(news, lines[i].news);
	}
}

static void test_refusals(void **state _unused_)
{
	static const struct {
		const char *text;
		bool wants_token, forbids;
	} all[] = {
		{ "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}", true, false },
		{ "{\"error\":\"etcdserver: revision of auth store is old\",\"code\":3}", true,
		  false },
		{ "{\"error\":\"etcdserver: user name is empty\",\"code\":3}", true, false },
		{ "{\"error\":\"etcdserver: permission denied\",\"code\":7}", false, true },
		{ "{\"error\":\"etcdserver: leader changed\",\"code\":14}", false, false },
		{ "{\"error\":7,\"code\":\"16\"}", false, false },
		{ "{\"code\":16.0}", false, false },
		{ "{\"code\":-16}", false, false },
		{ "404 page not found", false, false },
		{ "", false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct gateway_refusal refusal;

		gateway_read_refusal(all[i].text, strlen(all[i].text), &refusal);
		assert_int_equal(gateway_wants_token(&refusal), all[i].wants_token);
		assert_int_equal(gateway_forbids(&refusal), all[i].forbids);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_asked),
		cmocka_unit_test(test_a_range),
		cmocka_unit_test(test_other_ranges_are_refused),
		cmocka_unit_test(test_long_answers_and_values_are_refused),
		cmocka_unit_test(test_swaps),
		cmocka_unit_test(test_news),
		cmocka_unit_test(test_refusals),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
