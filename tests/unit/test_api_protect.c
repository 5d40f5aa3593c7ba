/* SPDX-License-Identifier: Apache-2.0 */

/* What guard, relay and user say on the VM's socket: what reaches the VM, what is refused, and what is told. The VM only remembers. */

#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/server.h"
#include "base/fd.h"
#include "host/runtime.h"

/* In place of the real one. */
struct protect_guest {
	const void *owner;
	struct ownership_id session, dead;
	struct ownership_record record;
	enum ownership_event_kind outcome;
	uint64_t epoch, at_ns, len;
	bool ring, again;
	char peer[MARK_PEER_MAX], why[API_WHY_MAX];
};

struct fixture {
	char directory[64];
	struct loop *loop;
	struct vm_config config;
	struct runtime_vm runtime;
	struct protect_guest vm;
	struct api_server *server;
	int client;
};

static void fake_facts(const struct protect_guest *guest _unused_, struct protect_facts *ret_facts)
{
	static const struct ownership ownership = {
		.role = OWNERSHIP_IS_PROTECTED,
		.record = { .revision = 9, .generation = 4, .mode = OWNERSHIP_PROTECTED },
		.gated = true,
		.cut = 12,
	};

	*ret_facts = (struct protect_facts){
		.ownership = &ownership, .me = { { 0xab } }, .relay = true, .waits_for = ""
	};
}

static int fake_begin(struct protect_guest *guest, const void *owner,
		      const struct ownership_id *session, const char *peer, int shared_fd,
		      int ring_fd, uint64_t *ret_cut, struct error *err _unused_)
{
	guest->owner = owner;
	guest->session = *session;
	guest->ring = ring_fd >= 0;
	snprintf(guest->peer, sizeof(guest->peer), "%s", peer);
	fd_close(shared_fd);
	fd_close(ring_fd);
	*ret_cut = 12;
	return 0;
}

static int fake_cut(struct protect_guest *guest, const void *owner _unused_, uint64_t epoch,
		    struct protect_cut *ret_cut, struct error *err)
{
	guest->epoch = epoch;
	if (guest->again)
		return error_set(err, -EAGAIN, EXIT_STATUS_BUSY, "not now");
	*ret_cut = (struct protect_cut){ .pages = 3, .state_len = 43061, .ring_end = 1ULL << 40 };
	return 0;
}

static int fake_acked(struct protect_guest *guest, const struct ownership_id *session,
		      uint64_t epoch, uint64_t at_ns, struct error *err _unused_)
{
	guest->session = *session;
	guest->epoch = epoch;
	guest->at_ns = at_ns;
	return 0;
}

static int fake_end(struct protect_guest *guest, const void *owner _unused_, const char *why,
		    struct error *err _unused_)
{
	snprintf(guest->why, sizeof(guest->why), "%s", why);
	return 0;
}

static int fake_whole(struct protect_guest *guest, const void *owner _unused_, uint64_t epoch,
		      bool *ret_ack, struct error *err _unused_)
{
	guest->epoch = epoch;
	*ret_ack = true;
	return 0;
}

static int fake_apply(struct protect_guest *guest, const void *owner _unused_, uint64_t len,
		      uint64_t stopped_ns, struct error *err _unused_)
{
	guest->len = len;
	guest->at_ns = stopped_ns;
	return 0;
}

static int fake_attach(struct protect_guest *guest, const void *owner,
		       const struct ownership_record *record, const struct ownership_id *dead,
		       struct ownership_id *ret_me, struct error *err _unused_)
{
	guest->owner = owner;
	guest->record = *record;
	guest->dead = *dead;
	*ret_me = (struct ownership_id){ { 0xab } };
	return 0;
}

static int fake_swapped(struct protect_guest *guest, const void *owner _unused_,
			enum ownership_event_kind outcome, const struct ownership_record *record,
			struct error *err _unused_)
{
	guest->outcome = outcome;
	guest->record = *record;
	return 0;
}

static void fake_by_hand(struct protect_guest *guest _unused_, const void *owner _unused_,
			 bool by_hand _unused_, const char *waits _unused_)
{
}

static const struct api_protect_ops fake_protection = {
	.facts = fake_facts,
	.begin = fake_begin,
	.cut = fake_cut,
	.acked = fake_acked,
	.end = fake_end,
	.whole = fake_whole,
	.apply = fake_apply,
	.attach = fake_attach,
	.swapped = fake_swapped,
	.by_hand = fake_by_hand,
};

static struct protect_guest *op_protect_guest(void *vm)
{
	return vm;
}

static const struct api_vm_ops fake_ops = {
	.protect_guest = op_protect_guest,
	.protect = &fake_protection,
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err = { 0 };
	int listening;

	strcpy(f->directory, "/tmp/utsusu-test-XXXXXX");
	setenv("UTSUSU_RUNTIME_DIR", mkdtemp(f->directory), 1);
	f->loop = loop_new(&clock_host);
	vm_config_init(&f->config);
	strcpy(f->config.name, "db");
	vm_config_complete(&f->config);
	if (runtime_claim("db", &f->runtime, &err) < 0 ||
	    runtime_listen(&f->runtime, RUNTIME_SOCKET, &listening) < 0)
		return -1;
	f->server = api_server_new(f->loop, listening, &f->config, &fake_ops, &f->vm);
	f->client = -1;
	*state = f;
	return f->server ? runtime_connect("db", RUNTIME_SOCKET, &f->client) : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	fd_close(f->client);
	api_server_free(f->server);
	loop_free(f->loop);
	runtime_release(&f->runtime);
	vm_config_release(&f->config);
	r = rmdir(f->directory);
	free(f);
	return r;
}

static void turn(struct fixture *f)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(loop_turn(f->loop, 0), 0);
}

static const char *hear(struct fixture *f)
{
	static char text[16384];
	ssize_t n;

	turn(f);
	n = recv(f->client, text, sizeof(text) - 1, MSG_DONTWAIT);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

/* A line with `n` descriptors. */
static const char *ask_with(struct fixture *f, const char *line, size_t n)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec iov[] = { { (void *)(uintptr_t)line, strlen(line) }, { "\n", 1 } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	int fds[2] = { memfd_create("a", MFD_CLOEXEC), memfd_create("b", MFD_CLOEXEC) };

	if (n) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n * sizeof(int)),
						   .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
	}
	assert_true(sendmsg(f->client, &message, MSG_NOSIGNAL) > 0);
	fd_close(fds[0]);
	fd_close(fds[1]);
	return hear(f);
}

static const char *ask(struct fixture *f, const char *line)
{
	return ask_with(f, line, 0);
}

static void expect_in(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

#define ID "ab0000000000000000000000000000cd"
#define RECORD(more) "{\"version\":1,\"generation\":7,\"owner\":\"" ID "\"," more "}"

static void assert_is_id(const struct ownership_id *id)
{
	assert_int_equal(id->bytes[0], 0xab);
	assert_int_equal(id->bytes[15], 0xcd);
}

static void facts_are_told(void **state)
{
	const char *answer = ask(*state, "{\"command\":\"protect-facts\"}");

	expect_in(answer, "\"role\":\"protected\",\"mode\":\"protected\",\"generation\":4,"
			  "\"revision\":9");
	expect_in(answer, "\"instance\":\"ab000000000000000000000000000000\"");
	expect_in(answer, "\"gated\":true,\"cut\":12");
	expect_in(answer, "\"relay\":true,\"guard\":false");
}

static void a_guard_begins(void **state)
{
	struct fixture *f = *state;

	expect_in(ask_with(f,
			   "{\"command\":\"protect-begin\",\"session\":\"" ID
			   "\",\"peer\":\"b\",\"ring\":true}",
			   2),
		  "\"cut\":12,\"generation\":4,\"instance\":\"ab00");
	assert_is_id(&f->vm.session);
	assert_true(f->vm.ring);
	assert_string_equal(f->vm.peer, "b");
	ask_with(f,
		 "{\"command\":\"protect-begin\",\"session\":\"" ID
		 "\",\"peer\":\"b\",\"ring\":false}",
		 1);
	assert_false(f->vm.ring);
	expect_in(ask_with(f,
			   "{\"command\":\"protect-begin\",\"session\":\"" ID
			   "\",\"peer\":\"b\",\"ring\":true}",
			   1),
		  "1 descriptors came with it, 2 are due");
	expect_in(ask(f, "{\"command\":\"protect-begin\",\"session\":\"7\",\"peer\":\"b\"}"),
		  "session: ");
}

static void a_guard_cuts(void **state)
{
	struct fixture *f = *state;

	expect_in(ask(f, "{\"command\":\"protect-cut\",\"epoch\":13}"),
		  "\"pages\":3,\"state_len\":43061,\"ring_end\":1099511627776");
	assert_int_equal(f->vm.epoch, 13);
	f->vm.again = true;
	expect_in(ask(f, "{\"command\":\"protect-cut\",\"epoch\":14}"), "\"later\":true");
	expect_in(ask(f, "{\"command\":\"protect-acked\",\"session\":\"" ID
			 "\",\"epoch\":14,\"at_ns\":1000}"),
		  "\"ok\":true");
	assert_int_equal(f->vm.epoch, 14);
	assert_int_equal(f->vm.at_ns, 1000);
	expect_in(ask(f, "{\"command\":\"protect-end\",\"why\":\"the cable\"}"), "\"ok\":true");
	assert_string_equal(f->vm.why, "the cable");
}

static void a_backup_answers(void **state)
{
	struct fixture *f = *state;

	expect_in(ask(f, "{\"command\":\"backup-whole\",\"epoch\":5}"), "\"ack\":true");
	expect_in(ask(f, "{\"command\":\"backup-apply\",\"len\":77,\"stopped_ns\":8}"),
		  "\"ok\":true");
	assert_int_equal(f->vm.len, 77);
	expect_in(ask(f, "{\"command\":\"backup-apply\",\"len\":67108865,\"stopped_ns\":8}"),
		  "len: ");
}

static void a_relay_says_what_stands_there(void **state)
{
	struct fixture *f = *state;

	expect_in(ask(f, "{\"command\":\"arbiter-attach\",\"none\":true,\"dead\":\"" ID "\"}"),
		  "\"instance\":\"ab000000000000000000000000000000\"");
	assert_int_equal(f->vm.record.revision, 0);
	assert_is_id(&f->vm.dead);
	ask(f, "{\"command\":\"arbiter-swapped\",\"outcome\":\"won\",\"record\":" RECORD(
		       "\"mode\":\"protected\",\"backup\":\"" ID "\",\"revision\":41") "}");
	assert_int_equal(f->vm.outcome, WHEN_WON);
	assert_int_equal(f->vm.record.revision, 41);
	assert_int_equal(f->vm.record.generation, 7);
	assert_int_equal(f->vm.record.mode, OWNERSHIP_PROTECTED);
	assert_is_id(&f->vm.record.owner);
	assert_is_id(&f->vm.record.backup);
	ask(f, "{\"command\":\"arbiter-swapped\",\"outcome\":\"unknown\"}");
	assert_int_equal(f->vm.outcome, WHEN_UNKNOWN);
}

static void a_record_that_cannot_stand_there_is_refused(void **state)
{
	static const char *const lines[] = {
		"{\"command\":\"arbiter-attach\"}",
		"{\"command\":\"arbiter-stands\"}",
		"{\"command\":\"arbiter-swapped\",\"outcome\":\"won\"}",
		"{\"command\":\"arbiter-stands\",\"record\":" RECORD("\"mode\":\"solo\"") "}",
		"{\"command\":\"arbiter-stands\",\"record\":" RECORD(
			"\"mode\":\"protected\",\"revision\":2") "}",
		"{\"command\":\"arbiter-stands\",\"record\":" RECORD(
			"\"mode\":\"none\",\"revision\":2") "}",
		"{\"command\":\"arbiter-stands\",\"record\":{\"version\":1,\"revision\":2}}",
		"{\"command\":\"arbiter-stands\",\"record\":{\"version\":2,\"generation\":1,"
		"\"mode\":\"solo\",\"owner\":\"" ID "\",\"revision\":2}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect_in(ask(*state, lines[i]), "{\"error\":{\"message\":\"re");
}

static void relay_and_guard_are_told(void **state)
{
	const struct ownership_record want = {
		.revision = 3, .generation = 5, .mode = OWNERSHIP_SOLO, .owner = { { 0xab } }
	};
	struct fixture *f = *state;

	ask(f, "{\"command\":\"arbiter-attach\",\"none\":true}");
	api_server_swap(f->server, f->vm.owner, &want);
	expect_in(hear(f), "{\"event\":\"arbiter-swap\",\"want\":{\"version\":1,\"generation\":5,"
			   "\"mode\":\"solo\",\"owner\":\"ab000000000000000000000000000000\","
			   "\"revision\":3}}");
	api_server_tell_guard(f->server, f->vm.owner, "backup-apply", false, "");
	expect_in(hear(f), "{\"event\":\"backup-apply\",\"why\":\"\"}");
	api_server_tell_guard(f->server, f->vm.owner, "backup-over", true, "");
	expect_in(hear(f), "{\"event\":\"backup-over\",\"ran\":true,\"why\":\"\"}");
	api_server_tell_guard(f->server, f->vm.owner, "backup-over", false, "the cable");
	expect_in(hear(f), "{\"event\":\"backup-over\",\"ran\":false,\"why\":\"the cable\"}");
	api_server_tell_guard(f->server, f, "backup-apply", false, "");
	assert_string_equal(hear(f), "");
}

static void a_swap_that_cannot_be_written_has_an_unknown_outcome(void **state)
{
	const struct ownership_record nonsense = { .revision = 3, .mode = OWNERSHIP_NONE };
	struct fixture *f = *state;

	ask(f, "{\"command\":\"arbiter-attach\",\"none\":true}");
	f->vm.outcome = WHEN_WON;
	api_server_swap(f->server, f->vm.owner, &nonsense);
	assert_int_equal(f->vm.outcome, WHEN_UNKNOWN);
	assert_string_equal(hear(f), "");
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(facts_are_told),
		ONE(a_guard_begins),
		ONE(a_guard_cuts),
		ONE(a_backup_answers),
		ONE(a_relay_says_what_stands_there),
		ONE(a_record_that_cannot_stand_there_is_refused),
		ONE(relay_and_guard_are_told),
		ONE(a_swap_that_cannot_be_written_has_an_unknown_outcome),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
