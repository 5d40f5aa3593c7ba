/* SPDX-License-Identifier: Apache-2.0 */

/* A mover's requests on the VM's socket: what reaches the VM, what is refused, and that no descriptor stays open which nobody asked
 * for. The VM only remembers. */

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/server.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/runtime.h"

/* In place of the real one, which a server only hands on. */
struct move_guest {
	struct memory memory;
	const void *owner;
	uint8_t token[MOVE_TOKEN_BYTES];
	int shared, mark; /* as they came; closed */
	unsigned int begins, arrivals, throttled, forgotten;
	uint64_t generation, len, stopped_ns;
	bool rehearse, may_not_end, life, filled, stands;
	char peer[MARK_PEER_MAX];
	unsigned int deadline_ms, forced, version;
	struct mark_given given;
};

struct fixture {
	char directory[64];
	struct loop *loop;
	struct vm_config config;
	struct runtime_vm runtime;
	struct move_guest vm;
	struct api_server *server;
	int client;
};

static const struct memory *fake_memory(const struct move_guest *guest)
{
	return &guest->memory;
}

static const char *fake_stage(const struct move_guest *guest _unused_)
{
	return "logging";
}

static void fake_check(struct move_guest *guest _unused_, struct problems *problems)
{
	struct error err = { 0 };

	error_set(&err, -EBUSY, EXIT_STATUS_BUSY, "db: is paused; resume it first");
	problems_add(problems, &err);
}

static int is_open(int fd)
{
	return fd >= 0 && fcntl(fd, F_GETFD) >= 0;
}

static int fake_begin(struct move_guest *guest, const void *owner,
		      const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
		      struct error *err _unused_)
{
	guest->begins++;
	guest->owner = owner;
	memcpy(guest->token, token, MOVE_TOKEN_BYTES);
	guest->shared = is_open(shared_fd);
	guest->mark = is_open(mark_fd);
	fd_close(shared_fd);
	fd_close(mark_fd);
	return 0;
}

static int fake_arrive(struct move_guest *guest, const void *owner,
		       const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
		       struct error *err)
{
	guest->arrivals++;
	(void)!fake_begin(guest, owner, token, shared_fd, mark_fd, err);
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY, "db: is not made to be loaded");
}

static int fake_collect(struct move_guest *guest _unused_, const void *owner _unused_,
			uint64_t *ret_pages, struct error *err _unused_)
{
	*ret_pages = 1ULL << 40;
	return 0;
}

static int fake_throttle(struct move_guest *guest, const void *owner _unused_, unsigned int percent,
			 struct error *err _unused_)
{
	guest->throttled = percent;
	return 0;
}

static int fake_stop(struct move_guest *guest, const void *owner _unused_, unsigned int deadline_ms,
		     struct error *err _unused_)
{
	guest->deadline_ms = deadline_ms;
	return 0;
}

static int fake_save(struct move_guest *guest, const void *owner _unused_, uint16_t version,
		     uint64_t *ret_len, struct error *err _unused_)
{
	guest->version = version;
	*ret_len = 30843;
	return 0;
}

static int fake_cancel(struct move_guest *guest _unused_, const void *owner _unused_,
		       struct error *err)
{
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED, "db: not while its move is at 'given'");
}

static int fake_given(struct move_guest *guest, const void *owner _unused_, const char *peer,
		      uint64_t generation, struct error *err _unused_)
{
	snprintf(guest->peer, sizeof(guest->peer), "%s", peer);
	guest->generation = generation;
	return 0;
}

static int fake_never(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
		      struct error *err _unused_)
{
	memcpy(guest->token, token, MOVE_TOKEN_BYTES);
	return 0;
}

static int fake_ran(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
		    const char *where, struct error *err)
{
	snprintf(guest->peer, sizeof(guest->peer), "%s", where);
	return fake_never(guest, token, err);
}

static int fake_load(struct move_guest *guest, const void *owner _unused_, uint64_t len,
		     uint64_t stopped_ns, bool rehearse, struct error *err _unused_)
{
	guest->len = len;
	guest->stopped_ns = stopped_ns;
	guest->rehearse = rehearse;
	return 0;
}

static int fake_renew(struct move_guest *guest _unused_, const void *owner _unused_,
		      struct error *err _unused_)
{
	return 0;
}

static uint64_t fake_lacks(struct move_guest *guest _unused_)
{
	return 8192;
}

static int fake_demand(struct move_guest *guest, const void *owner _unused_, int life,
		       struct error *err _unused_)
{
	guest->life = fcntl(life, F_GETFD) >= 0;
	fd_close(life);
	return 0;
}

static int fake_filled(struct move_guest *guest, const void *owner _unused_,
		       struct error *err _unused_)
{
	guest->filled = true;
	return 0;
}

static int fake_abandon(struct move_guest *guest _unused_, struct error *err _unused_)
{
	return 0;
}

static int fake_commit(struct move_guest *guest _unused_, const void *owner _unused_, bool *ret_ran,
		       struct error *err _unused_)
{
	*ret_ran = true;
	return 0;
}

static const struct mark_given *fake_mark(const struct move_guest *guest)
{
	return guest->given.peer[0] ? &guest->given : NULL;
}

static bool fake_can_demand(const struct move_guest *guest _unused_)
{
	return true;
}

static int fake_wait(struct move_guest *guest, const void *owner _unused_, bool stand,
		     struct error *err _unused_)
{
	guest->stands = stand;
	return 0;
}

static const struct api_move_ops fake_moves = {
	.memory = fake_memory,
	.stage = fake_stage,
	.mark = fake_mark,
	.lacks = fake_lacks,
	.check = fake_check,
	.begin = fake_begin,
	.collect = fake_collect,
	.throttle = fake_throttle,
	.stop = fake_stop,
	.save = fake_save,
	.cancel = fake_cancel,
	.given = fake_given,
	.never = fake_never,
	.ran = fake_ran,
	.arrive = fake_arrive,
	.load = fake_load,
	.renew = fake_renew,
	.announce = fake_renew,
	.demand = fake_demand,
	.filled = fake_filled,
	.commit = fake_commit,
	.abandon = fake_abandon,
	.can_demand = fake_can_demand,
	.wait = fake_wait,
};

static struct move_guest *op_move_guest(void *vm)
{
	return vm;
}

static void op_status(void *vm _unused_, struct api_vm_status *ret_status)
{
	*ret_status = (struct api_vm_status){ .state = API_VM_GIVEN, .given_to = "host-b" };
}

static int op_may_end(void *vm, struct error *err)
{
	if (!((struct move_guest *)vm)->may_not_end)
		return 0;
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY, "db: was given to host-b");
}

static void op_force_stop(void *vm)
{
	((struct move_guest *)vm)->forced++;
}

static void op_forget(void *vm, const void *client)
{
	struct move_guest *guest = vm;

	guest->forgotten += client == guest->owner;
}

static const struct api_vm_ops fake_ops = {
	.status = op_status,
	.may_end = op_may_end,
	.force_stop = op_force_stop,
	.forget = op_forget,
	.move_guest = op_move_guest,
	.move = &fake_moves,
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
	strcpy(f->config.uuid, "0f0e0d0c-0b0a-4908-8706-050403020100");
	vm_config_complete(&f->config);
	f->vm.memory = (struct memory){
		.size = GIB(5),
		.n_banks = 2,
		.banks = { { .start = { 0 }, .len = GIB(3) },
			   { .start = { GIB(4) }, .len = GIB(2), .offset = GIB(3) } },
	};
	if (runtime_claim("db", &f->runtime, &err) < 0 ||
	    runtime_listen(&f->runtime, RUNTIME_SOCKET, &listening) < 0)
		return -1;
	f->server = api_server_new(f->loop, listening, &f->config, &fake_ops, &f->vm);
	f->client = -1;
	*state = f;
	return f->server ? 0 : -1;
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

static int connect_client(struct fixture *f)
{
	int fd;

	assert_int_equal(runtime_connect("db", RUNTIME_SOCKET, &fd), 0);
	turn(f);
	return fd;
}

static unsigned int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Bytes with `n` descriptors, copies of which are the receiver's. */
static void send_with(int fd, const char *text, size_t n)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[8];

	for (size_t i = 0; i < n; i++)
		fds[i] = memfd_create("test", MFD_CLOEXEC);
	if (n) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n * sizeof(int)),
						   .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)strlen(text));
	for (size_t i = 0; i < n; i++)
		fd_close(fds[i]);
}

static const char *received(int fd)
{
	static __thread char text[16384];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static const char *ask_with(struct fixture *f, const char *line, size_t n_fds)
{
	if (f->client < 0)
		f->client = connect_client(f);
	send_with(f->client, line, n_fds);
	send_with(f->client, "\n", 0);
	turn(f);
	return received(f->client);
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

#define TOKEN "00112233445566778899aabbccddeeff"
#define BEGIN(mark) "{\"command\": \"move-begin\", \"token\": \"" TOKEN "\", \"mark\": " mark "}"

static void test_facts(void **state)
{
	const char *answer = ask(*state, "{\"command\": \"move-facts\"}");

	expect_in(answer, "\"name\":\"db\"");
	expect_in(answer, "\"uuid\":\"0f0e0d0c-0b0a-4908-8706-050403020100\"");
	expect_in(answer, "\"ram_bytes\":5368709120");
	expect_in(answer, "\"hugepages\":\"thp\"");
	expect_in(answer, "\"banks\":[{\"start\":0,\"len\":3221225472,\"offset\":0},"
			  "{\"start\":4294967296,\"len\":2147483648,\"offset\":3221225472}]");
	expect_in(answer, "\"stage\":\"logging\",\"lacks\":8192");
	expect_in(answer, "\"state_min\":1,\"state_max\":3");
	expect_in(answer, "\"config\":{\"name\":\"db\"");
}

static void test_problems_are_listed(void **state)
{
	assert_string_equal(ask(*state, "{\"command\": \"move-check\"}"),
			    "{\"ok\":true,\"problems\":[{\"message\":\"db: is paused; resume it "
			    "first\",\"status\":5}]}\n");
}

static void test_descriptors_come_with_their_line(void **state)
{
	static const uint8_t token[] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
					 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct fixture *f = *state;

	assert_string_equal(ask_with(f, BEGIN("true"), 2), "{\"ok\":true}\n");
	assert_true(f->vm.shared && f->vm.mark);
	assert_memory_equal(f->vm.token, token, sizeof(token));
	assert_string_equal(ask_with(f, BEGIN("false"), 1), "{\"ok\":true}\n");
	assert_true(f->vm.shared && !f->vm.mark);
	expect_in(ask_with(f,
			   "{\"command\": \"arrive-begin\", \"token\": \"" TOKEN
			   "\", \"mark\": true}",
			   2),
		  "is not made to be loaded");
	assert_int_equal(f->vm.arrivals, 1);
}

struct miscount {
	const char *line;
	size_t n;
	const char *says;
};

static void test_other_descriptors_are_closed(void **state)
{
	static const struct miscount cases[] = {
		{ BEGIN("true"), 0, "0 descriptors came with it, 2 are due" },
		{ BEGIN("true"), 1, "1 descriptors came with it, 2 are due" },
		{ BEGIN("false"), 2, "2 descriptors came with it, 1 are due" },
		{ "{\"command\": \"arrive-demand\"}", 0, "0 descriptors came with it, 1 are due" },
		{ "{\"command\": \"arrive-demand\"}", 2, "2 descriptors came with it, 1 are due" },
		{ "{\"command\": \"move-facts\"}", 2, "\"ok\":true" },
		{ "{\"command\": \"move-facts\"}", 8, "\"ok\":true" },
		{ "no json", 2, "is no JSON object" },
		{ "{\"command\": \"what\"}", 1, "unknown" },
		{ "{\"command\": \"move-begin\", \"token\": \"no\", \"mark\": true}", 2,
		  "is no token" },
	};
	struct fixture *f = *state;
	unsigned int before;

	ask(f, "{\"command\": \"status\"}");
	before = open_descriptors();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		expect_in(ask_with(f, cases[i].line, cases[i].n), cases[i].says);
		assert_int_equal(open_descriptors(), before);
	}
	assert_int_equal(f->vm.begins, 0);
}

static void test_descriptors_of_half_a_line_go_with_its_sender(void **state)
{
	struct fixture *f = *state;
	unsigned int before = open_descriptors();

	f->client = connect_client(f);
	for (int i = 0; i < 20; i++) {
		send_with(f->client, "x", 2);
		turn(f);
	}
	assert_int_equal(open_descriptors(), before + 2 + API_REQUEST_FDS); /* two ends */
	fd_close(TAKE_FD(f->client));
	turn(f);
	assert_int_equal(open_descriptors(), before);
}

static void test_each_command_reaches_the_vm(void **state)
{
	struct fixture *f = *state;

	expect_in(ask(f, "{\"command\": \"move-collect\"}"), "\"pages\":1099511627776");
	expect_in(ask(f, "{\"command\": \"move-throttle\", \"percent\": 42}"), "\"ok\":true");
	assert_int_equal(f->vm.throttled, 42);
	expect_in(ask(f, "{\"command\": \"move-stop\", \"deadline_ms\": 1500}"), "\"ok\":true");
	assert_int_equal(f->vm.deadline_ms, 1500);
	expect_in(ask(f, "{\"command\": \"move-save\", \"version\": 65535}"), "\"len\":30843");
	assert_int_equal(f->vm.version, 65535);
	expect_in(ask(f, "{\"command\": \"move-save\"}"), "\"len\":30843");
	assert_int_equal(f->vm.version, 0);
	expect_in(ask(f, "{\"command\": \"move-cancel\"}"), "not while its move is at 'given'");
	expect_in(ask(f, "{\"command\": \"move-given\", \"peer\": \"host-b\", \"generation\": "
			 "9007199254740993}"),
		  "\"ok\":true");
	assert_true(f->vm.generation == 9007199254740993);
	assert_string_equal(f->vm.peer, "host-b");
	expect_in(ask(f, "{\"command\": \"move-never\", \"token\": \"" TOKEN "\"}"), "\"ok\":true");
	assert_int_equal(f->vm.token[15], 0xff);
	expect_in(ask(f, "{\"command\": \"move-ran\", \"token\": \"" TOKEN
			 "\", \"where\": \"host-c\"}"),
		  "\"ok\":true");
	assert_string_equal(f->vm.peer, "host-c");
	expect_in(ask(f, "{\"command\": \"arrive-load\", \"len\": 268435456, \"stopped_ns\": "
			 "123456789012, \"rehearse\": true}"),
		  "\"ok\":true");
	assert_true(f->vm.len == MOVE_STATE_MAX && f->vm.stopped_ns == 123456789012 &&
		    f->vm.rehearse);
	expect_in(ask(f, "{\"command\": \"arrive-renew\"}"), "\"ok\":true");
	expect_in(ask(f, "{\"command\": \"arrive-announce\"}"), "\"ok\":true");
	expect_in(ask_with(f, "{\"command\": \"arrive-demand\"}", 1), "\"ok\":true");
	assert_true(f->vm.life);
	expect_in(ask(f, "{\"command\": \"arrive-filled\"}"), "\"ok\":true");
	assert_true(f->vm.filled);
	expect_in(ask(f, "{\"command\": \"arrive-abandon\"}"), "\"ok\":true");
	expect_in(ask(f, "{\"command\": \"arrive-commit\"}"), "\"ran\":true");
}

static void test_bad_fields_are_named(void **state)
{
	static const char *const lines[][2] = {
		{ "{\"command\": \"move-begin\", \"mark\": true}", "token: is missing" },
		{ "{\"command\": \"move-begin\", \"token\": \"" TOKEN "\"}", "mark: is missing" },
		{ "{\"command\": \"move-never\", \"token\": \"" TOKEN "0\"}", "token: " },
		{ "{\"command\": \"move-throttle\", \"percent\": 100}", "percent: " },
		{ "{\"command\": \"move-stop\", \"deadline_ms\": 600001}", "deadline_ms: " },
		{ "{\"command\": \"move-stop\"}", "deadline_ms: is missing" },
		{ "{\"command\": \"move-save\", \"version\": 0}", "version: " },
		{ "{\"command\": \"move-save\", \"version\": 65536}", "version: " },
		{ "{\"command\": \"move-given\", \"peer\": \"\", \"generation\": 1}", "peer: " },
		{ "{\"command\": \"move-given\", \"peer\": \"b\", \"generation\": -1}",
		  "generation: is below zero" },
		{ "{\"command\": \"arrive-load\", \"len\": 268435457, \"stopped_ns\": 0, "
		  "\"rehearse\": false}",
		  "len: " },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect_in(ask(*state, lines[i][0]), lines[i][1]);
}

static void test_only_its_mover_hears_of_the_stop(void **state)
{
	const struct error error = { -ETIMEDOUT, EXIT_STATUS_FAILED, "db: too late" };
	struct fixture *f = *state;
	int other = connect_client(f);

	send_with(other, "{\"command\": \"events\"}\n", 0);
	turn(f);
	expect_in(received(other), "\"ok\":true");
	ask_with(f, BEGIN("false"), 1);
	api_server_move_stopped(f->server, f->vm.owner, 5000000, NULL);
	api_server_move_stopped(f->server, f->vm.owner, 0, &error);
	assert_string_equal(received(f->client),
			    "{\"event\":\"move-stopped\",\"stopped_ns\":5000000}\n"
			    "{\"event\":\"move-stopped\",\"error\":{\"message\":\"db: too late\","
			    "\"status\":1}}\n");
	assert_string_equal(received(other), "");
	fd_close(other);
}

static void test_the_end_of_a_connection_is_told(void **state)
{
	struct fixture *f = *state;

	ask_with(f, BEGIN("false"), 1);
	assert_int_equal(f->vm.forgotten, 0);
	fd_close(TAKE_FD(f->client));
	turn(f);
	assert_int_equal(f->vm.forgotten, 1);
}

static void test_what_may_run_elsewhere_is_not_ended(void **state)
{
	struct fixture *f = *state;

	expect_in(ask(f, "{\"command\": \"status\"}"), "\"state\":\"given\"");
	expect_in(ask(f, "{\"command\": \"status\"}"), "\"given_to\":\"host-b\"");
	f->vm.may_not_end = true;
	expect_in(ask(f, "{\"command\": \"stop\", \"force\": true}"), "was given to host-b");
	assert_int_equal(f->vm.forced, 0);
	f->vm.may_not_end = false;
	ask(f, "{\"command\": \"stop\", \"force\": true}");
	assert_int_equal(f->vm.forced, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_facts),
		TEST(test_problems_are_listed),
		TEST(test_descriptors_come_with_their_line),
		TEST(test_other_descriptors_are_closed),
		TEST(test_descriptors_of_half_a_line_go_with_its_sender),
		TEST(test_each_command_reaches_the_vm),
		TEST(test_bad_fields_are_named),
		TEST(test_only_its_mover_hears_of_the_stop),
		TEST(test_the_end_of_a_connection_is_told),
		TEST(test_what_may_run_elsewhere_is_not_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
