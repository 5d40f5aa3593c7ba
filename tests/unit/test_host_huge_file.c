/* SPDX-License-Identifier: Apache-2.0 */
#include "host/huge_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

#define SIZE MIB(8)
#define NOBODY 65534

/* A container may have neither rights nor namespaces. */
static bool is_not_allowed(int r)
{
	return r == -EPERM || r == -EOPNOTSUPP || r == -ENOSPC || r == -ENOSYS;
}

static int make_or_skip(void)
{
	int fd = huge_file_make("guest-ram", SIZE);

	if (is_not_allowed(fd))
		skip();
	assert_true(fd >= 0);
	return fd;
}

static void it_is_sized_empty_and_named(void **state _unused_)
{
	int fd = make_or_skip();
	char path[32], link[64] = { 0 };
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(st.st_nlink, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(readlink(path, link, sizeof(link) - 1) > 0);
	assert_string_equal(link, "/guest-ram (deleted)");
	fd_close(fd);
}

static void it_holds_what_was_written_and_keeps_its_holes(void **state _unused_)
{
	int fd = make_or_skip();
	uint8_t *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char text[6];

	assert_ptr_not_equal(map, MAP_FAILED);
	memcpy(map + MIB(4) + 5, "guest", 6);
	assert_int_equal(fd_read_at(fd, text, sizeof(text), MIB(4) + 5), 0);
	assert_string_equal(text, "guest");
	/* Reading a hole would fill it; asking does not. A page of 2 MiB at most is there. */
	assert_true(lseek(fd, 0, SEEK_DATA) >= (off_t)MIB(4));
	assert_true(lseek(fd, MIB(4), SEEK_HOLE) <= (off_t)MIB(6));
	munmap(map, SIZE);
	fd_close(fd);
}

/* A file system that is full, or gone, would end a guest with SIGBUS. */
static void all_of_it_can_be_filled(void **state _unused_)
{
	int fd = make_or_skip();
	uint8_t *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	fd_close(fd);
	memset(map, 0x5a, SIZE);
	assert_int_equal(map[SIZE - 1], 0x5a);
	munmap(map, SIZE);
}

/* 0: made, and this process is in no other namespace than before; 77: the host does not allow it. */
static int as_nobody(void)
{
	char before[64] = { 0 }, after[64] = { 0 };
	int fd;

	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 77;
	(void)!prctl(PR_SET_DUMPABLE,
		     1); /* as a login's programs are: its files in /proc are its own */
	if (readlink("/proc/self/ns/mnt", before, sizeof(before) - 1) < 0)
		return 1;
	fd = huge_file_make("guest-ram", SIZE);
	if (is_not_allowed(fd))
		return 77;
	if (fd < 0 || readlink("/proc/self/ns/mnt", after, sizeof(after) - 1) < 0)
		return 2;
	return strcmp(before, after) != 0 || lseek(fd, 0, SEEK_END) != (off_t)SIZE ? 3 : 0;
}

static void an_ordinary_user_gets_one_too(void **state _unused_)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(as_nobody());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_sized_empty_and_named),
		cmocka_unit_test(it_holds_what_was_written_and_keeps_its_holes),
		cmocka_unit_test(all_of_it_can_be_filled),
		cmocka_unit_test(an_ordinary_user_gets_one_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
