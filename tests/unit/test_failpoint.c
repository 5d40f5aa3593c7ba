/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "check.h"

struct told {
	unsigned int times;
	const char *last;
};

static void on_told(void *ctx, const char *name)
{
	struct told *told = ctx;

	told->times++;
	told->last = name;
}

static struct failpoint parsed(const char *text, struct told *told)
{
	struct failpoint point;
	struct error err = { 0 };

	if (failpoint_parse(text, &point, &err) < 0)
		fail_msg("%s", err.message);
	point.told = on_told;
	point.ctx = told;
	return point;
}

static void nothing_ordered_is_nothing_done(void **state _unused_)
{
	struct told told = { 0 };
	struct failpoint point = parsed("", &told);

	for (int i = 0; i < FAILPOINTS_N; i++)
		assert_int_equal(failpoint(&point, (enum failpoint_name)i), 0);
	assert_int_equal(told.times, 0);
}

static void only_the_named_place_fails(void **state _unused_)
{
	struct told told = { 0 };
	struct failpoint point = parsed("source.given:error", &told);

	assert_int_equal(failpoint(&point, FAILPOINT_SOURCE_READY), 0);
	assert_int_equal(failpoint(&point, FAILPOINT_SOURCE_GIVEN), -EIO);
	assert_int_equal(failpoint(&point, FAILPOINT_SOURCE_GIVEN), 0);
	assert_int_equal(told.times, 1);
	assert_string_equal(told.last, "source.given");
}

static void a_later_pass_can_be_meant(void **state _unused_)
{
	struct told told = { 0 };
	struct failpoint point = parsed("source.round:error:3", &told);

	assert_int_equal(failpoint(&point, FAILPOINT_SOURCE_ROUND), 0);
	assert_int_equal(failpoint(&point, FAILPOINT_SOURCE_ROUND), 0);
	assert_int_equal(failpoint(&point, FAILPOINT_SOURCE_ROUND), -EIO);
}

static void all_can_be_told(void **state _unused_)
{
	struct told told = { 0 };
	struct failpoint point = parsed("*:tell", &told);

	for (int i = 0; i < FAILPOINTS_N; i++) {
		assert_int_equal(failpoint(&point, (enum failpoint_name)i), 0);
		assert_string_equal(told.last, failpoint_text((enum failpoint_name)i));
	}
	assert_int_equal(told.times, FAILPOINTS_N);
}

static void other_texts_are_refused(void **state _unused_)
{
	static const char *const wrong[] = {
		"source.given",
		"source.given:",
		"source.given:burn",
		"nowhere:kill",
		":kill",
		"source.given::kill",
		"source.given:kill:0",
		"source.given:kill:1001",
		"source.given:kill:1x",
		"source.given:kill:1:1",
		"*:kill",
		"*:tell:2",
		"source.given:error:00000000000000000000000000000000000000000000001",
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct failpoint point;
		struct error err = { 0 };

		if (failpoint_parse(wrong[i], &point, &err) != -EINVAL)
			fail_msg("%s was taken", wrong[i]);
		assert_non_null(strstr(err.message, "failpoint"));
	}
}

static int status_after(const char *text)
{
	struct told told = { 0 };
	struct failpoint point = parsed(text, &told);
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		(void)!failpoint(&point, FAILPOINT_SOURCE_START);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	if (WIFSTOPPED(status)) {
		int after;

		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &after, 0), child);
	}
	return status;
}

static void a_process_dies_stands_or_leaves(void **state _unused_)
{
	int killed = status_after("source.start:kill"), stopped = status_after("source.start:stop"),
	    left = status_after("source.start:exit");

	assert_true(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL);
	assert_true(WIFSTOPPED(stopped) && WSTOPSIG(stopped) == SIGSTOP);
	assert_true(WIFEXITED(left) && WEXITSTATUS(left) == EXIT_STATUS_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_ordered_is_nothing_done),
		cmocka_unit_test(only_the_named_place_fails),
		cmocka_unit_test(a_later_pass_can_be_meant),
		cmocka_unit_test(all_can_be_told),
		cmocka_unit_test(other_texts_are_refused),
		cmocka_unit_test(a_process_dies_stands_or_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
