/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "check.h"
#include "view/web/session.h"

#define PORT 4242

static struct web_session begin(void)
{
	struct web_session session;

	assert_int_equal(web_session_begin(&session, PORT), 0);
	return session;
}

static struct web_visit visit_of(const struct web_session *session, const char *path)
{
	return (struct web_visit){ .method = "GET",
				   .host = "127.0.0.1:4242",
				   .path = path,
				   .token = session->token,
				   .cookie = session->cookie,
				   .key = session->key };
}

static void judged(struct web_session *session, const struct web_visit *visit,
		   enum web_verdict expected)
{
	assert_int_equal(web_session_judge(session, visit), expected);
}

static void secrets_are_new_and_long(void **state)
{
	struct web_session a = begin(), b = begin();

	assert_int_equal(strlen(a.token), WEB_SECRET - 1);
	assert_string_not_equal(a.token, a.cookie);
	assert_string_not_equal(a.cookie, a.key);
	assert_string_not_equal(a.token, b.token);
	assert_string_equal(a.cookie_name, "utsusu-4242");
}

static void the_token_opens_once(void **state)
{
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/open");

	judged(&session, &visit, WEB_BEGIN);
	judged(&session, &visit, WEB_USED);
}

static void a_new_token_leaves_windows_open(void **state)
{
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/open");
	char old[WEB_SECRET];

	strcpy(old, session.token);
	judged(&session, &visit, WEB_BEGIN);
	assert_int_equal(web_session_renew(&session), 0);
	assert_string_not_equal(old, session.token);
	visit.token = old;
	judged(&session, &visit, WEB_REFUSED);
	visit.path = "/data/state";
	judged(&session, &visit, WEB_SERVE);
	visit = visit_of(&session, "/open");
	judged(&session, &visit, WEB_BEGIN);
}

static void a_wrong_token_uses_nothing_up(void **state)
{
	static const char *const wrong[] = { NULL, "", "0123456789abcdef0123456789abcdef", "x" };
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/open");

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		visit.token = wrong[i];
		judged(&session, &visit, WEB_REFUSED);
	}
	visit.token = session.token;
	judged(&session, &visit, WEB_BEGIN);
}

static void other_names_of_this_host_are_refused(void **state)
{
	static const char *const wrong[] = { NULL,
					     "",
					     "127.0.0.1",
					     "127.0.0.1:42421",
					     "127.0.0.1:424",
					     "evil.example:4242",
					     "LOCALHOST:4242",
					     "localhost:4242.evil.example" };
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/");

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		visit.host = wrong[i];
		judged(&session, &visit, WEB_HOST);
	}
	visit.host = "localhost:4242";
	judged(&session, &visit, WEB_SERVE);
}

static void files_need_the_cookie(void **state)
{
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/app.js");

	visit.key = NULL;
	judged(&session, &visit, WEB_SERVE);
	visit.cookie = session.key;
	judged(&session, &visit, WEB_REFUSED);
	visit.cookie = NULL;
	judged(&session, &visit, WEB_REFUSED);
}

static void data_needs_the_key_as_well(void **state)
{
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/data/rows");

	judged(&session, &visit, WEB_SERVE);
	visit.key = session.cookie;
	judged(&session, &visit, WEB_REFUSED);
	visit.key = NULL;
	judged(&session, &visit, WEB_REFUSED);
	visit.key = session.key;
	visit.cookie = NULL;
	judged(&session, &visit, WEB_REFUSED);
}

static void nothing_is_changed_from_outside(void **state)
{
	static const char *const wrong[] = { NULL, "POST", "PUT", "DELETE", "OPTIONS", "get" };
	struct web_session session = begin();
	struct web_visit visit = visit_of(&session, "/");

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		visit.method = wrong[i];
		judged(&session, &visit, WEB_METHOD);
	}
	visit.method = "HEAD";
	judged(&session, &visit, WEB_SERVE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secrets_are_new_and_long),
		cmocka_unit_test(the_token_opens_once),
		cmocka_unit_test(a_new_token_leaves_windows_open),
		cmocka_unit_test(a_wrong_token_uses_nothing_up),
		cmocka_unit_test(other_names_of_this_host_are_refused),
		cmocka_unit_test(files_need_the_cookie),
		cmocka_unit_test(data_needs_the_key_as_well),
		cmocka_unit_test(nothing_is_changed_from_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
