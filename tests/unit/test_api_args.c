/* SPDX-License-Identifier: Apache-2.0 */
/* The command line by the schema, and what utsusu-vm is started with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "api/args.h"
#include "api/config.h"
#include "api/launch.h"

struct own {
	char *config;
	bool check;
};

static const struct schema_row own_rows[] = {
	{ .key = "config",
	  .type = SCHEMA_STRING,
	  .offset = offsetof(struct own, config),
	  .min = 1,
	  .max = 100,
	  .value = "FILE",
	  .flags = SCHEMA_REQUIRED,
	  .help = "a file" },
	{ .key = "check",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct own, check),
	  .help = "look only" },
};
static const struct schema own_schema = { own_rows, ARRAY_SIZE(own_rows), sizeof(struct own) };

struct fixture {
	struct vm_config config;
	struct own own;
	struct args_target targets[2];
	struct args args;
	struct problems problems;
	char words[16][64];
	char *argv[17];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	vm_config_init(&f->config);
	f->targets[0] = (struct args_target){ .schema = &config_schema, .object = &f->config };
	f->targets[1] = (struct args_target){ .schema = &own_schema, .object = &f->own };
	f->args = (struct args){ .targets = f->targets, .n_targets = 2, .command = "run" };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vm_config_release(&f->config);
	schema_release(&own_schema, &f->own);
	free(f);
	return 0;
}

/* Decodes the words of one line, which are separated by single blanks. */
static size_t decode(struct fixture *f, const char *line)
{
	size_t n = 0;

	while (*line) {
		size_t len = strcspn(line, " ");

		memcpy(f->words[n], line, len);
		f->words[n][len] = '\0';
		f->argv[n] = f->words[n];
		n++;
		line += len + (line[len] == ' ');
	}
	f->argv[n] = NULL;
	return args_decode(&f->args, f->argv, &f->problems);
}

static void test_forms_of_options(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		decode(f,
		       "--kernel k --memory=1G db --no-rng --check --config c --disk path=a --disk "
		       "path=b"),
		0);
	assert_string_equal(f->config.kernel, "k");
	assert_string_equal(f->config.name, "db");
	assert_int_equal(f->config.memory.size, GIB(1));
	assert_false(f->config.rng);
	assert_true(f->own.check);
	assert_string_equal(f->own.config, "c");
	assert_int_equal(f->config.n_disks, 2);
	assert_true(args_given(&f->targets[0], "kernel"));
	assert_false(args_given(&f->targets[0], "initrd"));
}

static void test_disks_of_the_command_line_replace_those_of_a_file(void **state)
{
	struct fixture *f = *state;
	const char *file =
		"{\"disk\": [{\"path\": \"x\"}, {\"path\": \"y\"}], \"memory\": {\"hugepages\": \"on\"}}";

	assert_int_equal(config_decode(&f->config, file, strlen(file), "f", &f->problems), 0);
	assert_int_equal(decode(f, "--config c --disk path=a --memory 1G"), 0);
	assert_int_equal(f->config.n_disks, 1);
	assert_string_equal(f->config.disks[0].path, "a");
	assert_int_equal(f->config.memory.hugepages, MEMORY_HUGE_ON);
}

static void test_after_two_dashes_all_are_arguments(void **state)
{
	struct fixture *f = *state;

	f->args.takes_rest = true;
	assert_int_equal(decode(f, "--config c db -- --kernel -x"), 0);
	assert_null(f->config.kernel);
	assert_string_equal(f->args.rest[0], "--kernel");
	assert_string_equal(f->args.rest[1], "-x");
	assert_null(f->args.rest[2]);
}

static const char *const bad_lines[][2] = {
	{ "--config c --kenrel k", "--kenrel: unknown option; did you mean --kernel?" },
	{ "--config c --frobnicate", "--frobnicate: unknown option; see utsusu run --help" },
	{ "--config c --no-kernel", "--no-kernel: unknown option; see utsusu run --help" },
	{ "--config c -k", "-k: unknown option; options begin with --" },
	{ "--config c --rng=maybe", "--rng: 'maybe' is neither; give on or off" },
	{ "--config c --memory 1G --memory 2G", "--memory: is given twice; keep one" },
	{ "--config c --cpus", "--cpus: has no value; give --cpus N[,max=M][,model=host|v2|v3]" },
	{ "--config c one two", "'two': is one argument too many; see utsusu run --help" },
	{ "", "FILE: is missing; give a file" },
};

static void test_each_bad_line_has_its_message(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_lines); i++) {
		struct fixture *f;

		setup(state);
		f = *state;
		assert_int_equal(decode(f, bad_lines[i][0]), 1);
		assert_string_equal(f->problems.list[0].message, bad_lines[i][1]);
		teardown(state);
	}
	setup(state);
}

static void test_all_problems_of_a_line_are_told(void **state)
{
	assert_int_equal(decode(*state, "--kenrel k --cpus 0 --memory 1 a b"), 6);
}

/* What `utsusu run` hands over, made by hand. */
struct handed {
	char directory[64];
	struct runtime_vm vm;
	int config_fd, ready[2];
	char words[5][32];
	char *argv[8]; /* one more may follow */
};

static void hand_over(struct fixture *f, struct handed *h, const char *name)
{
	struct error err = { 0 };

	strcpy(h->directory, "/tmp/utsusu-test-XXXXXX");
	setenv("UTSUSU_RUNTIME_DIR", mkdtemp(h->directory), 1);
	f->config.kernel = strdup("k");
	strcpy(f->config.name, name);
	assert_int_equal(runtime_claim("db", &h->vm, &err), 0);
	assert_int_equal(config_to_fd(&f->config, &h->config_fd), 0);
	assert_int_equal(pipe2(h->ready, O_CLOEXEC), 0);
	snprintf(h->words[0], sizeof(h->words[0]), "--config-fd=%d", h->config_fd);
	snprintf(h->words[1], sizeof(h->words[1]), "--root-fd=%d", h->vm.root_fd);
	snprintf(h->words[2], sizeof(h->words[2]), "--dir-fd=%d", h->vm.dir_fd);
	snprintf(h->words[3], sizeof(h->words[3]), "--lock-fd=%d", h->vm.lock_fd);
	snprintf(h->words[4], sizeof(h->words[4]), "--ready-fd=%d", h->ready[1]);
	for (int i = 0; i < 5; i++)
		h->argv[i] = h->words[i];
	h->argv[5] = (char *)"db";
	h->argv[6] = h->argv[7] = NULL;
}

static void expect_word(struct handed *h, const char *word)
{
	char text[600];
	ssize_t n = read(h->ready[0], text, sizeof(text) - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	assert_string_equal(text, word);
	close(h->ready[0]);
}

static void test_launch_hands_over_name_and_configuration(void **state)
{
	struct launch *launch = test_calloc(1, sizeof(*launch));
	struct error err = { 0 };
	struct handed h;

	hand_over(*state, &h, "db");
	assert_int_equal(launch_receive(h.argv, launch, &err), 0);
	assert_string_equal(launch->config.kernel, "k");
	assert_string_equal(launch->vm.name, "db");
	assert_false(launch->incoming);
	assert_int_equal(fcntl(launch->vm.lock_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(runtime_alive("db"), 1);
	assert_true(launch_report(launch, NULL));
	assert_false(launch_report(launch, NULL));
	expect_word(&h, "0 ");
	launch_release(launch);
	assert_int_equal(runtime_alive("db"), 0);
	assert_int_equal(rmdir(h.directory), 0);
	test_free(launch);
}

static void test_launch_tells_a_vm_that_it_comes_by_a_move(void **state)
{
	struct launch *launch = test_calloc(1, sizeof(*launch));
	struct error err = { 0 };
	struct handed h;

	hand_over(*state, &h, "db");
	h.argv[6] = (char *)"--incoming";
	assert_int_equal(launch_receive(h.argv, launch, &err), 0);
	assert_true(launch->incoming);
	close(h.ready[0]);
	launch_release(launch);
	assert_int_equal(rmdir(h.directory), 0);
	test_free(launch);
}

static void test_launch_tells_who_waits_what_is_wrong(void **state)
{
	struct launch *launch = test_calloc(1, sizeof(*launch));
	struct error err = { 0 };
	struct handed h;

	hand_over(*state, &h, "");
	assert_int_equal(launch_receive(h.argv, launch, &err), -EINVAL);
	expect_word(&h, "2 name: is not the one that was claimed; start VMs with utsusu run");
	assert_int_equal(rmdir(h.directory), 0);
	test_free(launch);
}

static void test_launch_without_its_descriptors_is_refused(void **state _unused_)
{
	struct launch *launch = test_calloc(1, sizeof(*launch));
	struct error err = { 0 };
	char *none[] = { NULL };
	char *closed[] = { (char *)"--config-fd=901",
			   (char *)"--root-fd=902",
			   (char *)"--dir-fd=903",
			   (char *)"--lock-fd=904",
			   (char *)"db",
			   NULL };

	assert_int_equal(launch_receive(none, launch, &err), -EINVAL);
	assert_string_equal(err.message,
			    "FD: is missing; give a descriptor; start VMs with utsusu run");
	err = (struct error){ 0 };
	assert_int_equal(launch_receive(closed, launch, &err), -EBADF);
	assert_string_equal(err.message, "--config-fd: 901 is not open; start VMs with utsusu run");
	test_free(launch);
}

/* No utsusu-vm stands beside this test. */
static void test_a_launch_that_fails_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	char directory[] = "/tmp/utsusu-test-XXXXXX";
	struct runtime_vm vm;

	setenv("UTSUSU_RUNTIME_DIR", mkdtemp(directory), 1);
	for (int i = 0; i < 2; i++) {
		struct error err = { 0 };

		assert_int_equal(runtime_claim("db", &vm, &err), 0);
		assert_true((i ? launch_exec(&f->config, &vm, &err)
			       : launch_detached(&f->config, &vm, false, NULL, &err)) < 0);
		assert_non_null(strstr(err.message,
				       "utsusu-vm: cannot be started: No such file or directory"));
		assert_int_equal(err.status, EXIT_STATUS_FAILED);
	}
	assert_int_equal(rmdir(directory), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forms_of_options),
		TEST(test_disks_of_the_command_line_replace_those_of_a_file),
		TEST(test_after_two_dashes_all_are_arguments),
		cmocka_unit_test_teardown(test_each_bad_line_has_its_message, teardown),
		TEST(test_all_problems_of_a_line_are_told),
		TEST(test_launch_hands_over_name_and_configuration),
		TEST(test_launch_tells_a_vm_that_it_comes_by_a_move),
		TEST(test_launch_tells_who_waits_what_is_wrong),
		TEST(test_launch_without_its_descriptors_is_refused),
		TEST(test_a_launch_that_fails_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
