/* SPDX-License-Identifier: Apache-2.0 */

/* Whether RAM of hugepages=on can be made here is told before it is tried, in numbers that can be typed. */

#include "host/huge_pages.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"

struct folder {
	char path[32];
};

static const char *const files[] = { "nr_hugepages", "free_hugepages", "resv_hugepages" };

static void folder_make(struct folder *folder)
{
	strcpy(folder->path, "/tmp/huge-pages-XXXXXX");
	assert_non_null(mkdtemp(folder->path));
}

static void file_path(const struct folder *folder, const char *name, char path[64])
{
	snprintf(path, 64, "%s/%s", folder->path, name);
}

static void folder_unmake(const struct folder *folder)
{
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		file_path(folder, files[i], path);
		unlink(path);
	}
	assert_int_equal(rmdir(folder->path), 0);
}

static void host_has(const struct folder *folder, unsigned int total, unsigned int left,
		     unsigned int promised)
{
	const unsigned int counts[] = { total, left, promised };
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		FILE *file;

		file_path(folder, files[i], path);
		file = fopen(path, "we");
		assert_non_null(file);
		fprintf(file, "%u\n", counts[i]);
		fclose(file);
	}
}

static void test_all_three_counts_are_read(void **state _unused_)
{
	struct huge_pages pages;
	struct folder folder;

	folder_make(&folder);
	host_has(&folder, 100, 40, 8);
	assert_int_equal(huge_pages_look(folder.path, &pages), 0);
	assert_int_equal(pages.total, 100);
	assert_int_equal(pages.free, 40);
	assert_int_equal(pages.promised, 8);
	folder_unmake(&folder);
}

static void test_what_is_promised_is_not_left(void **state _unused_)
{
	struct error err = { 0 };
	struct folder folder;

	folder_make(&folder);
	host_has(&folder, 100, 40, 8);
	assert_int_equal(huge_pages_judge(folder.path, MIB(64), &err), 0);
	assert_int_equal(huge_pages_judge(folder.path, MIB(66), &err), -ENOMEM);
	host_has(&folder, 100, 40, 41); /* read one after the other */
	assert_int_equal(huge_pages_judge(folder.path, MIB(2), &err), -ENOMEM);
	folder_unmake(&folder);
}

static void test_a_refusal_says_how_many_there_must_be(void **state _unused_)
{
	struct error err = { 0 };
	struct folder folder;
	char expected[256];

	folder_make(&folder);
	host_has(&folder, 100, 40, 8);
	assert_int_equal(huge_pages_judge(folder.path, MIB(256), &err), -ENOMEM);
	snprintf(expected, sizeof(expected),
		 "memory: hugepages=on needs 128 huge pages of 2 MiB and 32 are free (of 100); as "
		 "root: echo 196 >%s/nr_hugepages",
		 folder.path);
	assert_string_equal(err.message, expected);
	folder_unmake(&folder);
}

static void test_a_kernel_without_that_size_is_named(void **state _unused_)
{
	struct error err = { 0 };
	struct folder folder;

	folder_make(&folder);
	assert_int_equal(huge_pages_judge(folder.path, MIB(2), &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "kernel does not have"));
	folder_unmake(&folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_three_counts_are_read),
		cmocka_unit_test(test_what_is_promised_is_not_left),
		cmocka_unit_test(test_a_refusal_says_how_many_there_must_be),
		cmocka_unit_test(test_a_kernel_without_that_size_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
