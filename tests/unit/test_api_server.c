/* SPDX-License-Identifier: Apache-2.0 */
/* The VM's socket, with a VM that only remembers what it was told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/client.h"
#include "api/server.h"
#include "base/cleanup.h"
#include "host/runtime.h"

struct fake_vm {
	enum api_vm_state state;
	unsigned int presses, forced, resets;
	bool hears;
};

struct fixture {
	char directory[64];
	struct fake_clock clock;
	struct loop *loop;
	struct vm_config config;
	struct runtime_vm runtime;
	struct fake_vm vm;
	struct api_server *server;
	int client;
};

static void op_status(void *ctx, struct api_vm_status *ret_status)
{
	struct fake_vm *vm = ctx;

	*ret_status = (struct api_vm_status){ .state = vm->state, .uptime_ms = 1500 };
}

static int op_pause(void *ctx, struct error *err _unused_)
{
	((struct fake_vm *)ctx)->state = API_VM_PAUSED;
	return 0;
}

static int op_resume(void *ctx, struct error *err)
{
	struct fake_vm *vm = ctx;

	if (vm->state == API_VM_STOPPING)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY, "db: is ending; wait for it");
	vm->state = API_VM_RUNNING;
	return 0;
}

static bool op_power_button(void *ctx)
{
	struct fake_vm *vm = ctx;

	vm->presses++;
	return vm->hears;
}

static int op_reset(void *ctx, struct error *err _unused_)
{
	((struct fake_vm *)ctx)->resets++;
	return -EIO;
}

static void op_force_stop(void *ctx)
{
	((struct fake_vm *)ctx)->forced++;
}

static const struct api_vm_ops fake_ops = {
	.status = op_status,
	.pause = op_pause,
	.resume = op_resume,
	.power_button = op_power_button,
	.reset = op_reset,
	.force_stop = op_force_stop,
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err = { 0 };
	int listening;

	strcpy(f->directory, "/tmp/utsusu-test-XXXXXX");
	setenv("UTSUSU_RUNTIME_DIR", mkdtemp(f->directory), 1);
	fake_clock_init(&f->clock, NSEC_PER_SEC, 0);
	f->loop = loop_new(&f->clock.clock);
	vm_config_init(&f->config);
	strcpy(f->config.name, "db");
	f->config.kernel = strdup("vmlinuz");
	vm_config_complete(&f->config);
	f->vm.state = API_VM_RUNNING;
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

static void send_text(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What has come so far; "" for nothing, "closed" when the server hung up. */
static const char *received(int fd)
{
	static __thread char text[8192];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return "closed";
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static const char *ask(struct fixture *f, const char *line)
{
	if (f->client < 0)
		f->client = connect_client(f);
	send_text(f->client, line);
	send_text(f->client, "\n");
	turn(f);
	return received(f->client);
}

static void expect_in(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

static void test_status(void **state)
{
	const char *answer = ask(*state, "{\"command\": \"status\"}");

	expect_in(answer, "{\"ok\":true,\"name\":\"db\",\"state\":\"running\",\"pid\":");
	expect_in(answer, "\"uptime_ms\":1500,\"memory_populated\":0}\n");
}

static void test_info_holds_the_configuration(void **state)
{
	expect_in(ask(*state, "{\"command\": \"info\"}"), "\"kernel\":\"vmlinuz\"");
}

static void test_pause_and_resume_act(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "{\"command\": \"pause\"}"), "{\"ok\":true}\n");
	assert_int_equal(f->vm.state, API_VM_PAUSED);
	assert_string_equal(ask(f, "{\"command\": \"resume\", \"id\": \"7\"}"),
			    "{\"ok\":true,\"id\":\"7\"}\n");
	assert_int_equal(f->vm.state, API_VM_RUNNING);
}

static void test_what_the_vm_refuses_is_told(void **state)
{
	struct fixture *f = *state;

	f->vm.state = API_VM_STOPPING;
	assert_string_equal(
		ask(f, "{\"command\": \"resume\"}"),
		"{\"error\":{\"message\":\"db: is ending; wait for it\",\"status\":5}}\n");
	expect_in(ask(f, "{\"command\": \"reset\"}"), "reset: Input/output error; try again");
	assert_int_equal(f->vm.resets, 1);
}

static const char *const bad_lines[][2] = {
	{ "", "request:0: is no JSON object" },
	{ "{\"command\": \"status\"", "is no JSON object" },
	{ "[]", "command: is missing" },
	{ "{}", "command: is missing" },
	{ "{\"command\": 3}", "command: is missing" },
	{ "{\"command\": \"puase\"}", "command: 'puase' is unknown; did you mean 'pause'?" },
	{ "{\"command\": \"dance\"}", "command: 'dance' is unknown; see utsusu(1)" },
	{ "{\"command\": \"pause\", \"force\": true}",
	  "request: unknown key 'force'; known are command and id" },
	{ "{\"command\": \"stop\", \"timeout\": \"2h\"}",
	  "request: timeout: '2h' is out of range; give a time from 0s to 3600s, such as 30s" },
	{ "{\"command\": \"stop\", \"timeout\": true}",
	  "request: timeout: must not be true or false" },
	{ "{\"command\": \"pause\", \"command\": \"resume\"}", "duplicate object key" },
	{ "{\"command\": \"d\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
	  "\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"}",
	  "is unknown" },
};

static void test_each_bad_request_is_refused_and_the_client_stays(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad_lines); i++) {
		const char *answer = ask(f, bad_lines[i][0]);

		expect_in(answer, "{\"error\":{\"message\":\"");
		expect_in(answer, bad_lines[i][1]);
		expect_in(answer, "\"status\":2}}\n");
	}
	expect_in(ask(f, "{\"command\": \"status\"}"), "{\"ok\":true");
	assert_int_equal(f->vm.state, API_VM_RUNNING);
}

static void test_an_error_carries_the_id(void **state)
{
	expect_in(ask(*state, "{\"command\": \"x\", \"id\": \"a1\"}"), "\"id\":\"a1\"}");
}

static void test_lines_may_come_in_pieces_and_together(void **state)
{
	struct fixture *f = *state;

	f->client = connect_client(f);
	send_text(f->client, "{\"command\": ");
	turn(f);
	assert_string_equal(received(f->client), "");
	send_text(f->client, "\"pause\"}\n{\"command\": \"resume\", \"id\": \"2\"}\n");
	turn(f);
	assert_string_equal(received(f->client), "{\"ok\":true}\n{\"ok\":true,\"id\":\"2\"}\n");
}

static void test_a_line_without_end_is_cut_off(void **state)
{
	struct fixture *f = *state;
	char part[4096];

	f->client = connect_client(f);
	memset(part, 'x', sizeof(part));
	for (size_t i = 0; i <= LIMIT_REQUEST / sizeof(part); i++) {
		assert_int_equal(send(f->client, part, sizeof(part), MSG_NOSIGNAL), sizeof(part));
		turn(f);
	}
	expect_in(received(f->client), "request: is longer than 65536 bytes; send less");
	assert_string_equal(received(f->client), "closed");
}

static void test_one_client_too_many_is_told(void **state)
{
	struct fixture *f = *state;
	int clients[LIMIT_CLIENTS + 1];

	for (int i = 0; i <= LIMIT_CLIENTS; i++)
		clients[i] = connect_client(f);
	expect_in(received(clients[LIMIT_CLIENTS]), "too many clients");
	assert_string_equal(received(clients[LIMIT_CLIENTS]), "closed");
	close(clients[0]);
	turn(f);
	expect_in(ask(f, "{\"command\": \"status\"}"), "{\"ok\":true");
	for (int i = 1; i <= LIMIT_CLIENTS; i++)
		close(clients[i]);
	turn(f);
}

static void test_events_go_to_those_who_asked(void **state)
{
	struct fixture *f = *state;
	int other = connect_client(f);

	assert_string_equal(ask(f, "{\"command\": \"events\"}"), "{\"ok\":true}\n");
	api_server_event(f->server, API_EVENT_PAUSED, NULL);
	api_server_event(f->server, API_EVENT_STOPPED, "ended by force");
	turn(f);
	assert_string_equal(
		received(f->client),
		"{\"event\":\"paused\"}\n{\"event\":\"stopped\",\"detail\":\"ended by force\"}\n");
	assert_string_equal(received(other), "");
	close(other);
}

static void test_who_does_not_read_is_disconnected(void **state)
{
	struct fixture *f = *state;
	int reader = connect_client(f);

	ask(f, "{\"command\": \"events\"}");
	for (int i = 0; i < 200000; i++)
		api_server_event(f->server, API_EVENT_PAUSED, NULL);
	turn(f);
	send_text(reader, "{\"command\": \"status\"}\n");
	turn(f);
	expect_in(received(reader), "{\"ok\":true");
	while (strcmp(received(f->client), "closed") != 0)
		turn(f);
	close(reader);
}

static void test_requests_wait_while_answers_are_unread(void **state)
{
	struct fixture *f = *state;
	size_t sent = 0, answers = 0;
	ssize_t n;

	f->client = connect_client(f);
	for (int quiet = 0; quiet < 4;) {
		n = send(f->client, "{\"command\": \"info\"}\n", 20, MSG_DONTWAIT | MSG_NOSIGNAL);
		assert_true(n == 20 || errno == EAGAIN);
		sent += n == 20;
		quiet = n == 20 ? 0 : quiet + 1;
		turn(f);
	}
	for (int quiet = 0; quiet < 100;) {
		const char *text = received(f->client);

		assert_string_not_equal(text, "closed");
		quiet = text[0] ? 0 : quiet + 1;
		for (const char *p = text; (p = strchr(p, '\n')); p++)
			answers++;
		turn(f);
	}
	assert_int_equal(answers, sent);
}

static void test_stop_presses_until_heard_then_forces(void **state)
{
	struct fixture *f = *state;

	expect_in(ask(f, "{\"command\": \"stop\", \"timeout\": \"5s\"}"), "\"button\":false");
	assert_int_equal(f->vm.presses, 1);
	f->vm.hears = true;
	fake_clock_advance(&f->clock, NSEC_PER_SEC);
	turn(f);
	assert_int_equal(f->vm.presses, 2);
	fake_clock_advance(&f->clock, 3 * NSEC_PER_SEC);
	turn(f);
	assert_int_equal(f->vm.presses, 2);
	assert_int_equal(f->vm.forced, 0);
	fake_clock_advance(&f->clock, NSEC_PER_SEC);
	turn(f);
	assert_int_equal(f->vm.forced, 1);
}

static void test_stop_by_force_is_at_once(void **state)
{
	struct fixture *f = *state;

	ask(f, "{\"command\": \"stop\", \"force\": true}");
	assert_int_equal(f->vm.presses, 0);
	assert_int_equal(f->vm.forced, 1);
}

static void test_a_paused_vm_cannot_hear_its_button(void **state)
{
	struct fixture *f = *state;

	f->vm.state = API_VM_PAUSED;
	expect_in(ask(f, "{\"command\": \"stop\"}"),
		  "db: is paused and cannot hear its power button");
	assert_int_equal(f->vm.presses, 0);
	ask(f, "{\"command\": \"stop\", \"force\": true}");
	assert_int_equal(f->vm.forced, 1);
}

static void test_power_button_tells_whether_it_was_heard(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "{\"command\": \"power-button\"}"),
			    "{\"ok\":true,\"button\":false}\n");
	f->vm.hears = true;
	assert_string_equal(ask(f, "{\"command\": \"power-button\"}"),
			    "{\"ok\":true,\"button\":true}\n");
}

/* The blocking client needs the server on another thread. */
static void *serve(void *arg)
{
	struct fixture *f = arg;

	return loop_run(f->loop) == 0 ? NULL : f;
}

static pthread_t start_serving(struct fixture *f)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, serve, f), 0);
	return thread;
}

static void stop_serving(struct fixture *f, pthread_t thread)
{
	void *result;

	loop_stop(f->loop);
	pthread_join(thread, &result);
	assert_null(result);
}

static json_t *command(const char *name)
{
	return json_pack("{s:s}", "command", name);
}

static void test_client_calls(void **state)
{
	struct fixture *f = *state;
	struct api_connection *connection;
	struct error err = { 0 };
	pthread_t thread = start_serving(f);
	json_t *answer;

	assert_int_equal(api_connect("db", &connection, &err), 0);
	assert_int_equal(api_call(connection, command("status"), &answer, &err), 0);
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "running");
	json_decref(answer);
	assert_int_equal(api_call(connection, command("dance"), &answer, &err), -EREMOTEIO);
	assert_int_equal(err.status, EXIT_STATUS_USAGE);
	expect_in(err.message, "command: 'dance' is unknown");
	api_connection_free(connection);
	stop_serving(f, thread);
}

static void test_client_waits_for_events_with_a_deadline(void **state)
{
	struct fixture *f = *state;
	struct api_connection *connection;
	struct error err = { 0 };
	pthread_t thread = start_serving(f);
	json_t *answer, *event;

	assert_int_equal(api_connect("db", &connection, &err), 0);
	assert_int_equal(api_call(connection, command("events"), &answer, &err), 0);
	json_decref(answer);
	assert_int_equal(api_next_event(connection, 1, &event), -ETIMEDOUT);
	stop_serving(f, thread);
	api_server_event(f->server, API_EVENT_STOPPED, NULL);
	assert_int_equal(api_next_event(connection, 1000, &event), 0);
	assert_string_equal(json_string_value(json_object_get(event, "event")), "stopped");
	json_decref(event);
	api_server_free(f->server);
	f->server = NULL;
	assert_int_equal(api_next_event(connection, 1000, &event), -ECONNRESET);
	api_connection_free(connection);
}

static void test_client_tells_what_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct api_connection *connection;
	struct error err = { 0 };

	assert_int_equal(api_connect("nobody", &connection, &err), -ENOENT);
	assert_int_equal(err.status, EXIT_STATUS_NOT_FOUND);
	assert_string_equal(err.message, "nobody: no such VM; utsusu list shows those there are");
	api_server_free(f->server);
	f->server = NULL;
	err = (struct error){ 0 };
	assert_int_equal(api_connect("db", &connection, &err), -ECONNREFUSED);
	assert_string_equal(err.message, "db: is starting or ending; try again in a moment");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_status),
		TEST(test_info_holds_the_configuration),
		TEST(test_pause_and_resume_act),
		TEST(test_what_the_vm_refuses_is_told),
		TEST(test_each_bad_request_is_refused_and_the_client_stays),
		TEST(test_an_error_carries_the_id),
		TEST(test_lines_may_come_in_pieces_and_together),
		TEST(test_a_line_without_end_is_cut_off),
		TEST(test_one_client_too_many_is_told),
		TEST(test_events_go_to_those_who_asked),
		TEST(test_who_does_not_read_is_disconnected),
		TEST(test_requests_wait_while_answers_are_unread),
		TEST(test_stop_presses_until_heard_then_forces),
		TEST(test_stop_by_force_is_at_once),
		TEST(test_a_paused_vm_cannot_hear_its_button),
		TEST(test_power_button_tells_whether_it_was_heard),
		TEST(test_client_calls),
		TEST(test_client_waits_for_events_with_a_deadline),
		TEST(test_client_tells_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
