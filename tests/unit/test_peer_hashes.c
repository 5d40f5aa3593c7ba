/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes that are remembered: of the very same file only, and not of one that changes just now. */
#include "check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "peer/hashes.h"

struct fixture {
	char folder[64];
	int fd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->folder, sizeof(f->folder), "/tmp/utsusu-test-XXXXXX");
	f->fd = mkdtemp(f->folder) ? open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlinkat(f->fd, "hashes", 0);
	fd_close(f->fd);
	rmdir(f->folder);
	free(f);
	return 0;
}

static const struct stat kernel = {
	.st_dev = 7,
	.st_ino = 4711,
	.st_size = 14186432,
	.st_ctim = { .tv_sec = 1700000000, .tv_nsec = 123456789 },
};

static const char *hash_of(unsigned int n)
{
	static char text[PEER_HASH_TEXT];

	snprintf(text, sizeof(text), "%064x", n);
	return text;
}

static void test_a_file_is_known_again(void **state)
{
	const struct fixture *f = *state;
	char found[PEER_HASH_TEXT];

	assert_false(hashes_find(f->fd, &kernel, found));
	hashes_keep(f->fd, &kernel, hash_of(1));
	assert_true(hashes_find(f->fd, &kernel, found));
	assert_string_equal(found, hash_of(1));
}

static void test_another_file_is_not(void **state)
{
	struct stat others[] = { kernel, kernel, kernel, kernel, kernel };
	const struct fixture *f = *state;
	char found[PEER_HASH_TEXT];

	others[0].st_dev++;
	others[1].st_ino++;
	others[2].st_size++;
	others[3].st_ctim.tv_sec++;
	others[4].st_ctim.tv_nsec++;
	hashes_keep(f->fd, &kernel, hash_of(1));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_false(hashes_find(f->fd, &others[i], found));
}

/* Another change could have the same time. */
static void test_one_that_just_changed_is_not_kept(void **state)
{
	const struct fixture *f = *state;
	char found[PEER_HASH_TEXT];
	struct stat now = kernel;

	clock_gettime(CLOCK_REALTIME, &now.st_ctim);
	hashes_keep(f->fd, &now, hash_of(1));
	assert_false(hashes_find(f->fd, &now, found));
}

static void test_the_oldest_fall_out(void **state)
{
	const struct fixture *f = *state;
	char found[PEER_HASH_TEXT];
	struct stat one = kernel;

	for (unsigned int i = 0; i < 20; i++) {
		one.st_ino = i;
		hashes_keep(f->fd, &one, hash_of(i));
	}
	for (unsigned int i = 0; i < 20; i++) {
		one.st_ino = i;
		assert_int_equal(hashes_find(f->fd, &one, found), i >= 4);
		if (i >= 4)
			assert_string_equal(found, hash_of(i));
	}
}

/* As a disk that was full, or a person, may leave it. */
static void test_a_damaged_file_knows_nothing(void **state)
{
	const struct fixture *f = *state;
	char found[PEER_HASH_TEXT];
	int fd;

	hashes_keep(f->fd, &kernel, hash_of(1));
	fd = openat(f->fd, "hashes", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 100), 0);
	fd_close(fd);
	assert_false(hashes_find(f->fd, &kernel, found));
	hashes_keep(f->fd, &kernel, hash_of(2));
	assert_true(hashes_find(f->fd, &kernel, found));
	assert_string_equal(found, hash_of(2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_file_is_known_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_file_is_not, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_that_just_changed_is_not_kept, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_the_oldest_fall_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_damaged_file_knows_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
