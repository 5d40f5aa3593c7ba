/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvm/fake.h"
#include "memory/dirty.h"
#include "memory/memory.h"
#include "check.h"

#define LOW MIB(4)
#define HIGH GIB(4)

/* 4 MiB below the hole and 2 MiB above 4 GiB. */
static struct memory *two_banks(void)
{
	struct memory *memory;

	assert_int_equal(memory_create(MIB(6), LOW, HIGH, MEMORY_HUGE_OFF, -1, &memory, NULL), 0);
	assert_int_equal(memory->n_banks, 2);
	return memory;
}

static void the_door_opens_on_ram_only(void **state _unused_)
{
	struct memory *memory = two_banks();
	char buf[16];

	assert_int_equal(memory_read(memory, gpa(0), buf, 16), 0);
	assert_int_equal(memory_read(memory, gpa(LOW - 16), buf, 16), 0);
	assert_int_equal(memory_read(memory, gpa(LOW - 15), buf, 16), -EFAULT);
	assert_int_equal(memory_read(memory, gpa(LOW), buf, 1), -EFAULT);
	assert_int_equal(memory_write(memory, gpa(HIGH - 1), buf, 2), -EFAULT);
	assert_int_equal(memory_write(memory, gpa(HIGH), buf, 16), 0);
	assert_int_equal(memory_read(memory, gpa(UINT64_MAX - 3), buf, 16), -EFAULT);
	assert_int_equal(memory_read(memory, gpa(HIGH + MIB(2)), buf, 1), -EFAULT);
	assert_null(memory_at(memory, gpa(LOW - 1), 2, MEMORY_READ));
	assert_null(memory_at(memory, gpa(0), UINT64_MAX, MEMORY_READ));
	assert_non_null(memory_at(memory, gpa(LOW - 1), 1, MEMORY_READ));
	assert_false(memory_contains(memory, gpa(LOW - 1), 2));
	assert_true(memory_contains(memory, gpa(5), 0));
	memory_free(memory);
}

static void what_is_written_is_read(void **state _unused_)
{
	struct memory *memory = two_banks();
	char buf[8] = { 0 };

	assert_int_equal(memory_write(memory, gpa(HIGH + 100), "utsusu", 7), 0);
	assert_int_equal(memory_read(memory, gpa(HIGH + 100), buf, 7), 0);
	assert_string_equal(buf, "utsusu");
	assert_int_equal(memory_fill(memory, gpa(HIGH + 101), 'x', 2), 0);
	assert_int_equal(memory_read(memory, gpa(HIGH + 100), buf, 7), 0);
	assert_string_equal(buf, "uxxusu");
	memory_free(memory);
}

static void bad_sizes_are_refused(void **state _unused_)
{
	struct memory *memory = NULL;
	struct error err = { 0 };

	assert_int_equal(memory_create(4096, LOW, HIGH, MEMORY_HUGE_OFF, -1, &memory, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "--memory"));
	assert_int_equal(memory_create(0, LOW, HIGH, MEMORY_HUGE_OFF, -1, &memory, NULL), -EINVAL);
	assert_int_equal(memory_create(UINT64_MAX - MIB(2) + 1, LOW, HIGH, MEMORY_HUGE_OFF, -1,
				       &memory, NULL),
			 -EINVAL);
	assert_null(memory);
}

static void only_touched_pages_are_populated(void **state _unused_)
{
	struct memory *memory = two_banks();
	struct memory_range range;
	uint64_t bytes;

	assert_int_equal(memory_populated(memory, &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(memory_next_populated(memory, gpa(0), &range), 0);
	assert_int_equal(memory_write(memory, gpa(0x3000), "a", 1), 0);
	assert_int_equal(memory_write(memory, gpa(LOW - 1), "b", 1), 0);
	assert_int_equal(memory_write(memory, gpa(HIGH), "c", 1), 0);
	assert_int_equal(memory_next_populated(memory, gpa(0), &range), 1);
	assert_int_equal(range.start.v, 0x3000);
	assert_int_equal(range.len, 0x1000);
	/* Data on both sides of the hole lies side by side in the memfd, but not for the guest. */
	assert_int_equal(memory_next_populated(memory, gpa(0x4000), &range), 1);
	assert_int_equal(range.start.v, LOW - 0x1000);
	assert_int_equal(range.len, 0x1000);
	assert_int_equal(memory_next_populated(memory, gpa(LOW), &range), 1);
	assert_int_equal(range.start.v, HIGH);
	assert_int_equal(memory_next_populated(memory, gpa(HIGH + 0x1000), &range), 0);
	assert_int_equal(memory_populated(memory, &bytes), 0);
	assert_int_equal(bytes, 3 * 0x1000);
	memory_free(memory);
}

static void a_memfd_that_is_refused_is_closed(void **state _unused_)
{
	struct memory *memory = NULL;
	int fd = memory_make_fd(MIB(2), MEMORY_HUGE_OFF, NULL);

	assert_true(fd >= 0);
	assert_int_equal(memory_create(MIB(4), LOW, HIGH, MEMORY_HUGE_OFF, fd, &memory, NULL),
			 -EINVAL);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* ownership passed */
}

static uint64_t free_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long count = 0;

	if (!file)
		skip(); /* a kernel without hugetlbfs */
	assert_int_equal(fscanf(file, "%lu", &count), 1);
	fclose(file);
	return count;
}

/* Without a reservation the guest's first touch, or ours, would be a SIGBUS. */
static void huge_pages_that_are_not_there_are_refused(void **state _unused_)
{
	uint64_t size = (free_huge_pages() + 64) * MIB(2);
	struct memory *memory = NULL;
	struct error err = { 0 };

	assert_true(memory_create(size, GIB(2), HIGH, MEMORY_HUGE_ON, -1, &memory, &err) < 0);
	assert_non_null(strstr(err.message, "--memory"));
	assert_non_null(strstr(err.message, "huge"));
}

static bool is_set(const struct dirty_bitmap *bitmap, uint64_t page)
{
	return bitmap->words[page / 64] >> (page % 64) & 1;
}

static void our_own_writes_are_in_the_log(void **state _unused_)
{
	struct memory *memory = two_banks();
	struct dirty_bitmap bitmap;

	assert_int_equal(dirty_bitmap_init(&bitmap, memory), 0);
	assert_int_equal(memory_write(memory, gpa(0x1000), "before", 6), 0);
	assert_int_equal(memory_dirty_start(memory), 0);
	assert_int_equal(memory_write(memory, gpa(0x2fff), "ab", 2), 0);
	assert_int_equal(memory_fill(memory, gpa(HIGH + 0x5000), 0, 1), 0);
	memory_mark_dirty(memory, gpa(0x8000), 4096 * 2);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), 0);
	assert_int_equal(dirty_bitmap_count(&bitmap), 5);
	assert_true(is_set(&bitmap, 2) && is_set(&bitmap, 3));
	assert_true(is_set(&bitmap, 8) && is_set(&bitmap, 9));
	assert_true(is_set(&bitmap, LOW / 4096 + 5)); /* in the memfd's order */
	/* Collected once, not again. */
	memset(bitmap.words, 0, MIB(6) / 4096 / 8);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), 0);
	assert_int_equal(dirty_bitmap_count(&bitmap), 0);
	memory_dirty_stop(memory);
	assert_int_equal(memory_write(memory, gpa(0x1000), "after", 5), 0);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), 0);
	assert_int_equal(dirty_bitmap_count(&bitmap), 0);
	/* What was told to nobody before a stop is no news after the next start. */
	assert_int_equal(memory_dirty_start(memory), 0);
	assert_int_equal(memory_write(memory, gpa(0x1000), "lost", 4), 0);
	memory_dirty_stop(memory);
	assert_int_equal(memory_dirty_start(memory), 0);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), 0);
	assert_int_equal(dirty_bitmap_count(&bitmap), 0);
	dirty_bitmap_release(&bitmap);
	memory_free(memory);
}

static struct kvm_vm *fake_vm(struct memory *memory, struct kvm_system **ret_system)
{
	struct kvm_vm *vm;

	assert_int_equal(kvm_open(-1, ret_system), 0);
	assert_int_equal(kvm_vm_new(*ret_system, &vm), 0);
	assert_int_equal(memory_dirty_attach(memory, DIRTY_BACKEND_BITMAP, vm, 0), 0);
	return vm;
}

static void the_guests_writes_are_in_the_log(void **state _unused_)
{
	struct memory *memory = two_banks();
	struct kvm_system *system;
	struct kvm_vm *vm = fake_vm(memory, &system);
	struct dirty_bitmap bitmap;

	assert_int_equal(dirty_bitmap_init(&bitmap, memory), 0);
	assert_int_equal(memory_dirty_start(memory), 0);
	kvm_fake_dirty(vm, 0, 17);
	kvm_fake_dirty(vm, 1, 3);
	memory_mark_dirty(memory, gpa(0), 1);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), 0);
	assert_int_equal(dirty_bitmap_count(&bitmap), 3);
	assert_true(is_set(&bitmap, 0) && is_set(&bitmap, 17) && is_set(&bitmap, LOW / 4096 + 3));
	memset(bitmap.words, 0, MIB(6) / 4096 / 8);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), 0);
	assert_int_equal(dirty_bitmap_count(&bitmap), 0);
	dirty_bitmap_release(&bitmap);
	memory_free(memory);
	kvm_vm_free(vm);
	kvm_close(system);
}

static void a_broken_log_means_all_is_dirty(void **state _unused_)
{
	struct memory *memory = two_banks();
	struct kvm_system *system;
	struct kvm_vm *vm = fake_vm(memory, &system);
	struct dirty_bitmap bitmap;

	assert_int_equal(dirty_bitmap_init(&bitmap, memory), 0);
	assert_int_equal(memory_dirty_start(memory), 0);
	kvm_fake_fail_dirty_log(vm, -EIO);
	assert_int_equal(memory_dirty_collect(memory, &bitmap), -EIO);
	assert_int_equal(dirty_bitmap_count(&bitmap), bitmap.n_pages);
	dirty_bitmap_release(&bitmap);
	memory_free(memory);
	kvm_vm_free(vm);
	kvm_close(system);
}

static void a_given_descriptor_is_taken_over(void **state _unused_)
{
	struct memory *first = two_banks(), *second;
	struct error err = { 0 };
	char buf[4];

	assert_int_equal(memory_write(first, gpa(HIGH), "abc", 4), 0);
	assert_int_equal(memory_create(MIB(6), LOW, HIGH, MEMORY_HUGE_OFF, dup(first->fd), &second,
				       NULL),
			 0);
	assert_int_equal(memory_read(second, gpa(HIGH), buf, 4), 0);
	assert_string_equal(buf, "abc");
	memory_free(second);
	assert_int_equal(memory_create(MIB(8), LOW, HIGH, MEMORY_HUGE_OFF, dup(first->fd), &second,
				       &err),
			 -EINVAL);
	memory_free(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_door_opens_on_ram_only),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(bad_sizes_are_refused),
		cmocka_unit_test(only_touched_pages_are_populated),
		cmocka_unit_test(a_memfd_that_is_refused_is_closed),
		cmocka_unit_test(huge_pages_that_are_not_there_are_refused),
		cmocka_unit_test(our_own_writes_are_in_the_log),
		cmocka_unit_test(the_guests_writes_are_in_the_log),
		cmocka_unit_test(a_broken_log_means_all_is_dirty),
		cmocka_unit_test(a_given_descriptor_is_taken_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
