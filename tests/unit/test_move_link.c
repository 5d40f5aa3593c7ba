/* SPDX-License-Identifier: Apache-2.0 */

/* A mover's link to its VM, with a VM that says what the test wants. What matters is what the mover may conclude. */

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/move_link.h"
#include "base/fd.h"
#include "check.h"

struct talk {
	int vm; /* the VM's end */
	const char *answers[4];
	char heard[4][512];
	size_t n_heard, n_fds;
	struct move_link *link;
	struct error err;
	pthread_t thread;
};

/* One answer for each line; after the last the VM hangs up. */
static void *vm_main(void *arg)
{
	struct talk *talk = arg;

	for (size_t i = 0; i < ARRAY_SIZE(talk->answers) && talk->answers[i]; i++) {
		int fds[LIMIT_DESCRIPTORS_SENT];
		size_t len, n_fds;

		if (fd_receive(talk->vm, talk->heard[i], sizeof(talk->heard[i]) - 1, &len, fds,
			       LIMIT_DESCRIPTORS_SENT, &n_fds) < 0)
			break;
		talk->n_heard++;
		talk->n_fds += n_fds;
		while (n_fds)
			fd_close(fds[--n_fds]);
		if (fd_write_all(talk->vm, talk->answers[i], strlen(talk->answers[i])) < 0)
			break;
	}
	shutdown(talk->vm, SHUT_RDWR);
	return NULL;
}

static void talk_begin(struct talk *talk, const char *first, const char *second)
{
	int pair[2];

	*talk = (struct talk){ .answers = { first, second } };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	talk->vm = pair[1];
	assert_int_equal(move_link_new(pair[0], "guest", &talk->link), 0);
	assert_int_equal(pthread_create(&talk->thread, NULL, vm_main, talk), 0);
}

static void talk_end(struct talk *talk)
{
	talk->link->ops->free(talk->link);
	pthread_join(talk->thread, NULL);
	close(talk->vm);
}

static const uint8_t token[MOVE_TOKEN_BYTES] = { 0xab, 1 };

static void a_refusal_is_one(void **state _unused_)
{
	struct talk talk;

	talk_begin(&talk, "{\"error\":{\"message\":\"no room\",\"status\":4}}\n", NULL);
	assert_int_equal(talk.link->ops->given(talk.link, "there", 7, &talk.err), -EREMOTEIO);
	assert_false(move_link_is_unknown(-EREMOTEIO));
	assert_string_equal(talk.err.message, "no room");
	assert_int_equal(talk.err.status, EXIT_STATUS_RESOURCE);
	assert_string_equal(talk.heard[0], "{\"command\":\"move-given\",\"peer\":\"there\","
					   "\"generation\":7}\n");
	talk_end(&talk);
}

/* Silence is never a refusal, whatever it looks like. */
static void a_strange_answer_says_nothing(void **state _unused_)
{
	static const char *const strange[] = {
		"",
		"{}\n",
		"no JSON\n",
		"{\"ok\":true,\"error\":{\"message\":\"x\",\"status\":0}}\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(strange); i++) {
		struct talk talk;
		int r;

		talk_begin(&talk, strange[i], NULL);
		r = talk.link->ops->given(talk.link, "there", 7, &talk.err);
		if (!move_link_is_unknown(r))
			fail_msg("'%s' was understood: %d", strange[i], r);
		talk_end(&talk);
	}
}

static void nothing_is_said_after_a_lost_answer(void **state _unused_)
{
	struct talk talk;

	talk_begin(&talk, "no JSON\n", "{\"ok\":true}\n");
	assert_int_equal(talk.link->ops->given(talk.link, "there", 7, &talk.err), -EPROTO);
	assert_int_equal(talk.link->ops->cancel(talk.link, &talk.err), -ECONNRESET);
	talk_end(&talk);
	assert_int_equal(talk.n_heard, 1);
}

static void descriptors_go_with_their_line(void **state _unused_)
{
	struct talk talk;

	talk_begin(&talk, "{\"ok\":true}\n", "{\"ok\":true,\"ran\":true}\n");
	assert_int_equal(talk.link->ops->arrive(talk.link, token, STDERR_FILENO, STDERR_FILENO,
						&talk.err),
			 0);
	assert_non_null(strstr(talk.heard[0], "\"token\":\"ab010000000000000000000000000000\""));
	assert_int_equal(talk.n_fds, 2);
	talk_end(&talk);
}

static void the_commit_is_a_yes_or_a_no(void **state _unused_)
{
	struct talk talk;
	bool ran = true;

	talk_begin(&talk, "{\"ok\":true,\"ran\":false}\n", "{\"ok\":true}\n");
	assert_int_equal(talk.link->ops->commit(talk.link, &ran, &talk.err), 0);
	assert_false(ran);
	assert_int_equal(talk.link->ops->commit(talk.link, &ran, &talk.err), -EPROTO);
	talk_end(&talk);
}

static void a_stop_ends_with_its_event(void **state _unused_)
{
	struct talk talk;
	uint64_t stopped_ns = 0;

	talk_begin(&talk,
		   "{\"ok\":true}\n{\"event\":\"paused\"}\n"
		   "{\"event\":\"move-stopped\",\"stopped_ns\":1234}\n",
		   "{\"ok\":true}\n"
		   "{\"event\":\"move-stopped\",\"error\":{\"message\":\"busy\",\"status\":5}}\n");
	assert_int_equal(talk.link->ops->stop(talk.link, 100, &stopped_ns, &talk.err), 0);
	assert_int_equal(stopped_ns, 1234);
	assert_int_equal(talk.link->ops->stop(talk.link, 100, &stopped_ns, &talk.err), -EREMOTEIO);
	assert_string_equal(talk.err.message, "busy");
	talk_end(&talk);
}

static void problems_are_told(void **state _unused_)
{
	static struct problems problems;
	struct talk talk;

	talk_begin(&talk,
		   "{\"ok\":true,\"problems\":[{\"message\":\"a debugger\",\"status\":5},"
		   "{\"message\":\"vhost\",\"status\":99}]}\n",
		   NULL);
	assert_int_equal(talk.link->ops->check(talk.link, &problems), 0);
	assert_int_equal(problems.count, 2);
	assert_string_equal(problems.list[0].message, "a debugger");
	assert_int_equal(problems.list[1].status, EXIT_STATUS_FAILED);
	talk_end(&talk);
}

/* This process listens, so to speak, and lives. */
static void a_silent_vm_has_not_ended(void **state _unused_)
{
	struct talk talk;

	talk_begin(&talk, NULL, NULL);
	pthread_join(talk.thread, NULL);
	assert_false(talk.link->ops->ended(talk.link));
	assert_int_equal(talk.link->ops->end(talk.link, 10), -ETIMEDOUT);
	talk.link->ops->free(talk.link);
	close(talk.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusal_is_one),
		cmocka_unit_test(a_strange_answer_says_nothing),
		cmocka_unit_test(nothing_is_said_after_a_lost_answer),
		cmocka_unit_test(descriptors_go_with_their_line),
		cmocka_unit_test(the_commit_is_a_yes_or_a_no),
		cmocka_unit_test(a_stop_ends_with_its_event),
		cmocka_unit_test(problems_are_told),
		cmocka_unit_test(a_silent_vm_has_not_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
