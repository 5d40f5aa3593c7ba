/* SPDX-License-Identifier: Apache-2.0 */

/* A guard's link to its VM, with a VM that says what the test wants: each of its lines is one that a VM takes, and each answer what it is. */

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/protect_link.h"
#include "api/request.h"
#include "base/fd.h"
#include "check.h"

#define LINES 8

struct side {
	int vm; /* the VM's end */
	const char *answers[LINES];
	char heard[LINES][512];
	size_t n_heard, n_fds;
	pthread_t thread;
};

struct talk {
	struct side orders, acks;
	struct protect_link *link;
	struct error err;
};

static const struct ownership_id session = { { 0xab, 1 } };

/* One answer for each line, which the VM's own decoder takes; after the last the VM hangs up. */
static void *vm_main(void *arg)
{
	struct side *side = arg;

	for (size_t i = 0; i < LINES && side->answers[i]; i++) {
		int fds[LIMIT_DESCRIPTORS_SENT];
		struct api_request request;
		struct error err = { 0 };
		size_t len, n_fds;

		if (fd_receive(side->vm, side->heard[i], sizeof(side->heard[i]) - 1, &len, fds,
			       LIMIT_DESCRIPTORS_SENT, &n_fds) < 0)
			break;
		if (api_request_decode(side->heard[i], len - 1, &request, &err) < 0)
			fail_msg("%s%s", side->heard[i], err.message);
		side->n_heard++;
		side->n_fds += n_fds;
		while (n_fds)
			fd_close(fds[--n_fds]);
		if (fd_write_all(side->vm, side->answers[i], strlen(side->answers[i])) < 0)
			break;
	}
	shutdown(side->vm, SHUT_RDWR);
	return NULL;
}

static int side_begin(struct side *side)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	side->vm = pair[1];
	assert_int_equal(pthread_create(&side->thread, NULL, vm_main, side), 0);
	return pair[0];
}

static void talk_begin(struct talk *talk)
{
	int orders = side_begin(&talk->orders), acks = side_begin(&talk->acks);

	assert_int_equal(protect_link_new(orders, acks, "guest", &talk->link), 0);
}

static void talk_end(struct talk *talk)
{
	talk->link->ops->free(talk->link);
	pthread_join(talk->orders.thread, NULL);
	pthread_join(talk->acks.thread, NULL);
	close(talk->orders.vm);
	close(talk->acks.vm);
}

static void assert_has(const char *line, const char *what)
{
	if (!strstr(line, what))
		fail_msg("'%s' has no '%s'", line, what);
}

#define OK "{\"ok\":true}\n"
#define SESSION "\"session\":\"ab010000000000000000000000000000\""

static void an_owner(void **state _unused_)
{
	struct talk talk = {
		.orders.answers = { "{\"ok\":true,\"cut\":41,\"generation\":7,\"instance\":\"00\"}\n",
				    "{\"ok\":true,\"pages\":12}\n", OK,
				    "{\"ok\":true,\"later\":true}\n",
				    "{\"ok\":true,\"pages\":3,\"state_len\":900,\"ring_end\":8192,"
				    "\"released\":40,\"generation\":8,\"pause_ns\":77}\n",
				    OK },
		.acks.answers = { OK },
	};
	uint64_t cut_before, generation, pages;
	struct protect_cut cut;

	talk_begin(&talk);
	assert_int_equal(talk.link->ops->begin(talk.link, &session, "there", STDERR_FILENO,
					       STDERR_FILENO, &cut_before, &generation, &talk.err),
			 0);
	assert_int_equal(cut_before, 41);
	assert_int_equal(generation, 7);
	assert_int_equal(talk.link->ops->collect(talk.link, &pages, &talk.err), 0);
	assert_int_equal(pages, 12);
	assert_int_equal(talk.link->ops->gate(talk.link, &talk.err), 0);
	assert_int_equal(talk.link->ops->cut(talk.link, 42, &cut, &talk.err), -EAGAIN);
	assert_int_equal(talk.err.code, 0);
	assert_int_equal(talk.link->ops->cut(talk.link, 42, &cut, &talk.err), 0);
	assert_int_equal(cut.epoch, 42);
	assert_int_equal(cut.pages, 3);
	assert_int_equal(cut.state_len, 900);
	assert_int_equal(cut.ring_end, 8192);
	assert_int_equal(cut.released, 40);
	assert_int_equal(talk.link->ops->acked(talk.link, &session, 42, 1234, &talk.err), 0);
	assert_int_equal(talk.link->ops->end(talk.link, "it \"fell\" silent", &talk.err), 0);
	talk_end(&talk);
	assert_has(talk.orders.heard[0], "\"ring\":true");
	assert_has(talk.orders.heard[0], SESSION);
	assert_has(talk.orders.heard[3], "{\"command\":\"protect-cut\",\"epoch\":42}");
	assert_has(talk.orders.heard[5], "it \\\"fell\\\" silent");
	assert_has(talk.acks.heard[0], SESSION ",\"epoch\":42,\"at_ns\":1234");
	assert_int_equal(talk.orders.n_fds, 2);
	assert_int_equal(talk.acks.n_heard, 1);
}

static void a_backup(void **state _unused_)
{
	struct talk talk = {
		.orders.answers = { OK, OK, OK, "{\"ok\":true,\"ack\":true}\n",
				    "{\"ok\":true,\"ack\":false}\n",
				    "{\"ok\":true,\"prepare\":true}\n", OK, OK },
	};
	bool answer = false;

	talk_begin(&talk);
	assert_int_equal(talk.link->ops->arrive(talk.link, session.bytes, STDERR_FILENO, &talk.err),
			 0);
	assert_int_equal(talk.link->ops->back_up(talk.link, &session, "there", &talk.err), 0);
	assert_int_equal(talk.link->ops->rehearse(talk.link, 77, &talk.err), 0);
	assert_int_equal(talk.link->ops->whole(talk.link, 9, &answer, &talk.err), 0);
	assert_true(answer);
	assert_int_equal(talk.link->ops->whole(talk.link, 10, &answer, &talk.err), 0);
	assert_false(answer);
	assert_int_equal(talk.link->ops->suspect(talk.link, "silent", &answer, &talk.err), 0);
	assert_true(answer);
	assert_int_equal(talk.link->ops->prepared(talk.link, &talk.err), 0);
	assert_int_equal(talk.link->ops->apply(talk.link, 900, 5, &talk.err), 0);
	talk_end(&talk);
	assert_int_equal(talk.orders.n_fds, 1);
	assert_has(talk.orders.heard[1], SESSION);
	assert_has(talk.orders.heard[7], "\"len\":900,\"stopped_ns\":5");
}

/* Words come at any time, also before an answer; what else is said is for others. */
static void words_are_heard(void **state _unused_)
{
	struct talk talk = {
		.orders.answers = { "{\"event\":\"paused\"}\n{\"event\":\"backup-prepare\",\"why\":\"\"}\n"
				    "{\"ok\":true,\"prepare\":false}\n",
				    "{\"ok\":true}\n{\"event\":\"backup-apply\"}\n"
				    "{\"event\":\"protect-off\",\"why\":\"\"}\n"
				    "{\"event\":\"protect-failover\"}\n"
				    "{\"event\":\"backup-over\",\"ran\":false}\n"
				    "{\"event\":\"backup-over\",\"ran\":true,\"why\":\"it runs\"}\n" },
	};
	static const enum protect_word words[] = { PROTECT_WORD_APPLY,	  PROTECT_WORD_OFF,
						   PROTECT_WORD_FAILOVER, PROTECT_WORD_OVER,
						   PROTECT_WORD_OVER,	  PROTECT_WORD_GONE };
	char why[160];
	bool answer = true;

	talk_begin(&talk);
	assert_int_equal(talk.link->ops->hear(talk.link, 0, why), PROTECT_WORD_NONE);
	assert_int_equal(talk.link->ops->suspect(talk.link, "silent", &answer, &talk.err), 0);
	assert_false(answer);
	assert_int_equal(talk.link->ops->hear(talk.link, 0, why), PROTECT_WORD_PREPARE);
	assert_int_equal(talk.link->ops->hear(talk.link, 0, why), PROTECT_WORD_NONE);
	assert_int_equal(talk.link->ops->prepared(talk.link, &talk.err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_int_equal(talk.link->ops->hear(talk.link, 1000, why), words[i]);
		assert_int_equal(why[0] != '\0', i == 3);
	}
	talk_end(&talk);
}

static void a_strange_answer_is_none(void **state _unused_)
{
	struct talk talk = {
		.orders.answers = { "{\"ok\":true,\"pages\":-1}\n", "{\"ok\":true,\"ack\":1}\n",
				    "{\"ok\":true,\"pages\":3}\n",
				    "{\"error\":{\"message\":\"is about to end\",\"status\":5}}\n" },
	};
	struct protect_cut cut;
	uint64_t pages;
	bool answer;

	talk_begin(&talk);
	assert_int_equal(talk.link->ops->collect(talk.link, &pages, &talk.err), -EPROTO);
	talk.err = (struct error){ 0 };
	assert_int_equal(talk.link->ops->whole(talk.link, 3, &answer, &talk.err), -EPROTO);
	talk.err = (struct error){ 0 };
	assert_int_equal(talk.link->ops->cut(talk.link, 3, &cut, &talk.err), -EPROTO);
	talk.err = (struct error){ 0 };
	assert_int_equal(talk.link->ops->gate(talk.link, &talk.err), -EREMOTEIO);
	assert_string_equal(talk.err.message, "is about to end");
	talk_end(&talk);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_owner),
		cmocka_unit_test(a_backup),
		cmocka_unit_test(words_are_heard),
		cmocka_unit_test(a_strange_answer_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
