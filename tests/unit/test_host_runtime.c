/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime directory: one owner for each name, the dead are seen and swept away, no path tricks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/runtime.h"

static int setup(void **state)
{
	char template[] = "/tmp/utsusu-test-XXXXXX";

	*state = strdup(mkdtemp(template));
	return setenv("UTSUSU_RUNTIME_DIR", *state, 1);
}

static int teardown(void **state)
{
	/* Every test gives back what it claimed: the directory is empty again. */
	int r = rmdir(*state);

	free(*state);
	return r;
}

static struct runtime_vm claim(const char *name)
{
	struct error err = { 0 };
	struct runtime_vm vm;

	assert_int_equal(runtime_claim(name, &vm, &err), 0);
	return vm;
}

static void test_names(void **state _unused_)
{
	char longest[LIMIT_NAME + 1];

	memset(longest, 'a', LIMIT_NAME);
	longest[LIMIT_NAME] = '\0';
	assert_false(runtime_name_valid(longest));
	longest[LIMIT_NAME - 1] = '\0';
	assert_true(runtime_name_valid(longest));
	assert_true(runtime_name_valid("db-1"));
	assert_false(runtime_name_valid(""));
	assert_false(runtime_name_valid("-a"));
	assert_false(runtime_name_valid(".."));
	assert_false(runtime_name_valid("a/b"));
	assert_false(runtime_name_valid("A"));
}

static void test_a_name_has_one_owner(void **state _unused_)
{
	struct runtime_vm vm = claim("db"), second;
	struct error err = { 0 };

	assert_int_equal(runtime_claim("db", &second, &err), -EBUSY);
	assert_int_equal(err.status, EXIT_STATUS_BUSY);
	assert_string_equal(err.message,
			    "db: a VM of this name runs; give another name, or stop it: "
			    "utsusu stop db");
	assert_true(runtime_is_taken("db"));
	runtime_release(&vm);
	assert_false(runtime_is_taken("db"));
	vm = claim("db");
	runtime_release(&vm);
}

static void test_free_names_are_counted_up(void **state _unused_)
{
	struct runtime_vm first = claim(""), second = claim("");

	assert_string_equal(first.name, "vm1");
	assert_string_equal(second.name, "vm2");
	runtime_release(&first);
	first = claim("");
	assert_string_equal(first.name, "vm1");
	runtime_release(&first);
	runtime_release(&second);
}

/* A child that claims, listens and is killed: what a crash leaves. */
static void leave_a_dead_vm(const char *name)
{
	pid_t child = fork();

	if (child == 0) {
		struct error err = { 0 };
		struct runtime_vm vm;
		int fd;

		if (runtime_claim(name, &vm, &err) < 0 ||
		    runtime_listen(&vm, RUNTIME_SOCKET, &fd) < 0)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
}

struct seen {
	char text[256];
};

static int note(void *ctx, const struct runtime_entry *entry)
{
	struct seen *seen = ctx;
	size_t used = strlen(seen->text);

	snprintf(seen->text + used, sizeof(seen->text) - used, "%s=%s ", entry->name,
		 entry->alive ? "alive" : "dead");
	return 0;
}

static void test_the_dead_are_told_from_the_living(void **state _unused_)
{
	struct runtime_vm vm = claim("b");
	struct seen seen = { 0 };

	leave_a_dead_vm("a");
	assert_int_equal(runtime_list(note, &seen, NULL), 0);
	assert_string_equal(seen.text, "a=dead b=alive ");
	assert_int_equal(runtime_alive("a"), 0);
	assert_int_equal(runtime_alive("b"), 1);
	runtime_release(&vm);
	vm = claim("a");
	runtime_release(&vm);
}

static void test_what_a_dead_vm_left_hinders_nobody(void **state _unused_)
{
	struct runtime_vm vm;
	int listening, fd;

	leave_a_dead_vm("a");
	assert_int_equal(runtime_connect("a", RUNTIME_SOCKET, &fd), -ECONNREFUSED);
	vm = claim("a");
	assert_int_equal(runtime_listen(&vm, RUNTIME_SOCKET, &listening), 0);
	assert_int_equal(runtime_connect("a", RUNTIME_SOCKET, &fd), 0);
	close(fd);
	close(listening);
	runtime_release(&vm);
}

static void test_a_vm_that_failed_leaves_its_log(void **state _unused_)
{
	struct runtime_vm vm = claim("a");
	struct stat st;
	char line[64];
	int fd;

	fd = openat(vm.dir_fd, RUNTIME_LOG, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "first\nlast words\n\n", 18), 18);
	close(fd);
	assert_int_equal(runtime_listen(&vm, RUNTIME_SOCKET, &fd), 0);
	close(fd);
	runtime_leave(&vm);
	assert_true(runtime_is_dead("a"));
	runtime_why_dead("a", line, sizeof(line));
	assert_string_equal(line, "last words");
	vm = claim("a");
	assert_int_equal(fstatat(vm.dir_fd, RUNTIME_LOG, &st, 0), -1);
	assert_false(runtime_is_dead("a"));
	runtime_leave(&vm); /* nothing to say: nothing is left */
	assert_false(runtime_is_dead("a"));
	runtime_why_dead("a", line, sizeof(line));
	assert_string_equal(line, "");
}

static void test_the_name_lives_as_long_as_any_holder(void **state _unused_)
{
	struct runtime_vm vm = claim("a");
	int keeper = dup(vm.lock_fd);

	runtime_forget(&vm);
	assert_int_equal(runtime_alive("a"), 1);
	close(keeper);
	assert_int_equal(runtime_alive("a"), 0);
	vm = claim("a");
	runtime_release(&vm);
}

static void test_sockets_work_below_long_paths(void **state)
{
	char path[512];
	struct runtime_vm vm;
	struct stat st;
	int listening, fd;

	snprintf(path, sizeof(path), "%s/%0150d", (char *)*state, 0);
	setenv("UTSUSU_RUNTIME_DIR", path, 1);
	vm = claim("a");
	assert_int_equal(runtime_listen(&vm, RUNTIME_SOCKET, &listening), 0);
	assert_int_equal(fstatat(vm.dir_fd, RUNTIME_SOCKET, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(runtime_connect("a", RUNTIME_SOCKET, &fd), 0);
	close(fd);
	close(listening);
	runtime_release(&vm);
	assert_int_equal(rmdir(path), 0);
}

static void test_no_vm_and_no_directory(void **state _unused_)
{
	struct seen seen = { 0 };
	int fd;

	setenv("UTSUSU_RUNTIME_DIR", "/nonexistent/utsusu", 1);
	assert_int_equal(runtime_list(note, &seen, NULL), 0);
	assert_int_equal(runtime_connect("a", RUNTIME_SOCKET, &fd), -ENOENT);
	assert_int_equal(runtime_connect("../a", RUNTIME_SOCKET, &fd), -ENOENT);
	assert_int_equal(runtime_alive("a"), 0);
}

static void expect_refused(int code, const char *part)
{
	struct error err = { 0 };
	struct runtime_vm vm;

	assert_int_equal(runtime_claim("a", &vm, &err), code);
	if (!strstr(err.message, part))
		fail_msg("%s", err.message);
}

static void test_a_directory_of_others_is_refused(void **state)
{
	chmod(*state, 0777);
	expect_refused(-EPERM, "can be written by others; chown it");
	chmod(*state, 0700);
}

static void test_a_relative_or_missing_directory_is_refused(void **state _unused_)
{
	setenv("UTSUSU_RUNTIME_DIR", "somewhere", 1);
	expect_refused(-EINVAL, "is not an absolute path");
	setenv("UTSUSU_RUNTIME_DIR", "/nonexistent/utsusu", 1);
	expect_refused(-ENOENT, "make it, or set UTSUSU_RUNTIME_DIR");
}

static void test_links_are_not_followed(void **state)
{
	char link[256], target[256];
	struct stat st;

	snprintf(link, sizeof(link), "%s/a", (char *)*state);
	snprintf(target, sizeof(target), "%s/target", (char *)*state);
	assert_int_equal(mkdir(target, 0700), 0);
	assert_int_equal(symlink("target", link), 0);
	expect_refused(-ENOTDIR, "a: its runtime directory cannot be made");
	assert_int_equal(lstat(link, &st), 0);
	assert_int_equal(rmdir(target), 0);
	unlink(link);
}

/* A lock that cannot be looked at says neither that somebody lives nor that nobody does. */
static void test_a_lock_that_cannot_be_read_is_no_death(void **state)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/db", (char *)*state);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(runtime_alive("db"), 0);
	snprintf(path, sizeof(path), "%s/db/lock", (char *)*state);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_true(runtime_alive("db") < 0);
	assert_false(runtime_is_dead("db"));
	assert_true(runtime_open_left("db", RUNTIME_LOG, &fd) < 0);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/db", (char *)*state);
	assert_int_equal(rmdir(path), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_lock_that_cannot_be_read_is_no_death),
		TEST(test_names),
		TEST(test_a_name_has_one_owner),
		TEST(test_free_names_are_counted_up),
		TEST(test_the_dead_are_told_from_the_living),
		TEST(test_what_a_dead_vm_left_hinders_nobody),
		TEST(test_a_vm_that_failed_leaves_its_log),
		TEST(test_the_name_lives_as_long_as_any_holder),
		TEST(test_sockets_work_below_long_paths),
		TEST(test_no_vm_and_no_directory),
		TEST(test_a_directory_of_others_is_refused),
		TEST(test_a_relative_or_missing_directory_is_refused),
		TEST(test_links_are_not_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
