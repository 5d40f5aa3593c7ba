/* SPDX-License-Identifier: Apache-2.0 */

/* A guest's memory from outside: a file made as a VM's is, with page tables written into it. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "vm/memory_map.h"
#include "watch/read/guest_view.h"

#define ABOVE MIB(64) /* RAM above 4 GiB */
#define SIZE (MAP_LOW_END + ABOVE)
#define CR3 0x10000ULL
#define PRESENT 1ULL
#define LARGE 0x80ULL
#define KERNEL 0xffffffff80000000ULL

struct guest {
	int fd;
	struct guest_view *view;
};

static void put(const struct guest *guest, off_t offset, uint64_t value)
{
	assert_int_equal(pwrite(guest->fd, &value, sizeof(value), offset), sizeof(value));
}

static struct guest make_guest(void)
{
	struct guest guest = { .fd = memfd_create("guest", MFD_CLOEXEC) };

	assert_true(guest.fd >= 0);
	assert_int_equal(ftruncate(guest.fd, (off_t)SIZE), 0);
	assert_int_equal(guest_view_open(guest.fd, &guest.view), 0);
	return guest;
}

static void free_guest(struct guest *guest)
{
	guest_view_free(guest->view);
	close(guest->fd);
}

/* Entry `index` of the table at `table` says `entry`. */
static void set_entry(const struct guest *guest, uint64_t table, unsigned int index, uint64_t entry)
{
	put(guest, (off_t)(table + index * 8), entry);
}

/* Tables at 0x10000 (root), 0x11000, 0x12000 and 0x13000, for the kernel's half. */
static void map_kernel(const struct guest *guest)
{
	set_entry(guest, CR3, 511, 0x11000 | PRESENT);
	set_entry(guest, 0x11000, 510, 0x12000 | PRESENT);
	set_entry(guest, 0x12000, 0, 0x13000 | PRESENT);
	set_entry(guest, 0x12000, 1, 0xfec00000ULL | LARGE | PRESENT | 1ULL << 63);
	set_entry(guest, 0x13000, 3, 0xfee00000ULL | PRESENT | 1ULL << 63);
	set_entry(guest, 0x11000, 511, 0x240000000ULL | LARGE | PRESENT);
}

static void ram_is_where_the_guest_has_it(void **state _unused_)
{
	static const struct {
		uint64_t physical;
		off_t offset;
	} places[] = {
		{ 0, 0 },
		{ 0x1234568, 0x1234568 },
		{ MAP_LOW_END - 8, MAP_LOW_END - 8 },
		{ MAP_RAM_ABOVE, MAP_LOW_END },
		{ MAP_RAM_ABOVE + ABOVE - 8, SIZE - 8 },
	};
	struct guest guest = make_guest();

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t value;

		put(&guest, places[i].offset, 0x1122334455667788 + i);
		assert_int_equal(guest_view_read(guest.view, places[i].physical, &value, 8), 0);
		assert_true(value == 0x1122334455667788 + i);
	}
	free_guest(&guest);
}

static void what_is_not_ram_cannot_be_read(void **state _unused_)
{
	static const uint64_t places[] = {
		MAP_LOW_END,	       MAP_LOW_END - 7,	  0xfee00000,
		MAP_RAM_ABOVE - 1,     MAP_RAM_ABOVE - 8, MAP_RAM_ABOVE + ABOVE - 7,
		MAP_RAM_ABOVE + ABOVE, UINT64_MAX,	  UINT64_MAX - 7,
	};
	struct guest guest = make_guest();
	uint64_t value;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		assert_int_equal(guest_view_read(guest.view, places[i], &value, 8), -EFAULT);
	free_guest(&guest);
}

static void a_file_that_shrank_is_an_error(void **state _unused_)
{
	struct guest guest = make_guest();
	uint64_t value;

	assert_int_equal(ftruncate(guest.fd, 4096), 0);
	assert_int_equal(guest_view_read(guest.view, 4096, &value, 8), -EFAULT);
	assert_int_equal(guest_view_read(guest.view, 4092, &value, 8), -EFAULT);
	free_guest(&guest);
}

static void pages_of_each_size_are_translated(void **state _unused_)
{
	static const struct {
		uint64_t linear, physical;
	} pages[] = {
		{ KERNEL + 0x3010, 0xfee00010 },
		{ KERNEL + 0x200000 + 0x12345, 0xfec12345 },
		{ KERNEL + 0x40000000 + 0x1234567, 0x240000000 + 0x1234567 },
	};
	struct guest guest = make_guest();
	uint64_t physical;

	map_kernel(&guest);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		assert_int_equal(guest_view_translate(guest.view, CR3 | 0xfff, pages[i].linear,
						      &physical),
				 1);
		assert_int_equal(physical, pages[i].physical);
	}
	free_guest(&guest);
}

static void what_is_not_mapped_is_told(void **state _unused_)
{
	static const uint64_t linears[] = { 0, KERNEL, KERNEL + 0x400000, 0x800000000000ULL,
					    0xffff000000000000ULL };
	struct guest guest = make_guest();
	uint64_t physical = 7;

	map_kernel(&guest);
	for (size_t i = 0; i < ARRAY_SIZE(linears); i++)
		assert_int_equal(guest_view_translate(guest.view, CR3, linears[i], &physical), 0);
	assert_int_equal(physical, 7);
	free_guest(&guest);
}

static void tables_outside_of_ram_are_an_error(void **state _unused_)
{
	struct guest guest = make_guest();
	uint64_t physical;

	map_kernel(&guest);
	set_entry(&guest, 0x12000, 5, 0xfee00000ULL | PRESENT);
	set_entry(&guest, CR3, 0, 0x000ffffffffff000ULL | PRESENT);
	assert_int_equal(guest_view_translate(guest.view, CR3, KERNEL + 0xa00000, &physical),
			 -EFAULT);
	assert_int_equal(guest_view_translate(guest.view, CR3, 0, &physical), -EFAULT);
	assert_int_equal(guest_view_translate(guest.view, MAP_LOW_END, KERNEL, &physical), -EFAULT);
	free_guest(&guest);
}

/* Its root refers to itself, at each level: the walk ends where the levels do. */
static void a_table_in_a_circle_ends(void **state _unused_)
{
	struct guest guest = make_guest();
	uint64_t physical;

	set_entry(&guest, CR3, 0, CR3 | PRESENT);
	assert_int_equal(guest_view_translate(guest.view, CR3, 0x10, &physical), 1);
	assert_int_equal(physical, CR3 + 0x10);
	free_guest(&guest);
}

static void what_is_no_memory_is_refused(void **state _unused_)
{
	struct guest_view *view = NULL;
	int fd = memfd_create("empty", MFD_CLOEXEC);

	assert_int_equal(guest_view_open(fd, &view), -EINVAL);
	assert_int_equal(guest_view_open(-1, &view), -EBADF);
	assert_null(view);
	guest_view_free(view);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_is_where_the_guest_has_it),
		cmocka_unit_test(what_is_not_ram_cannot_be_read),
		cmocka_unit_test(a_file_that_shrank_is_an_error),
		cmocka_unit_test(pages_of_each_size_are_translated),
		cmocka_unit_test(what_is_not_mapped_is_told),
		cmocka_unit_test(tables_outside_of_ram_are_an_error),
		cmocka_unit_test(a_table_in_a_circle_ends),
		cmocka_unit_test(what_is_no_memory_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
