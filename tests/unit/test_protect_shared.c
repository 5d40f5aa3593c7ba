/* SPDX-License-Identifier: Apache-2.0 */

/* The file between an owner's VM and its guard, and the state's container. */

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protect/shared.h"

#define RAM (4 * 1024 * 1024ULL)
#define PAGES (RAM / MEMORY_PAGE_SIZE)

static void both_ends_see_the_same(void **state _unused_)
{
	struct protect_shared guard, vm;
	struct error err = { 0 };

	assert_int_equal(protect_shared_make(RAM, &guard), 0);
	assert_int_equal(protect_shared_take(dup(guard.fd), RAM, &vm, &err), 0);
	vm.bitmap[vm.n_words - 1] = 1;
	vm.pages[PAGES - 1] = 2;
	vm.content[PAGES * MEMORY_PAGE_SIZE - 1] = 3;
	vm.state[EPOCH_STATE_MAX - 1] = 4;
	assert_int_equal(guard.bitmap[guard.n_words - 1], 1);
	assert_int_equal(guard.pages[PAGES - 1], 2);
	assert_int_equal(guard.content[PAGES * MEMORY_PAGE_SIZE - 1], 3);
	assert_int_equal(guard.state[EPOCH_STATE_MAX - 1], 4);
	protect_shared_release(&vm);
	protect_shared_release(&guard);
}

static void what_is_trimmed_is_zero_and_the_rest_stays(void **state _unused_)
{
	struct protect_shared guard;

	assert_int_equal(protect_shared_make(RAM, &guard), 0);
	memset(guard.content, 7, 2 * MEMORY_PAGE_SIZE);
	guard.state[0] = 9;
	protect_shared_trim(&guard, 1);
	assert_int_equal(guard.content[0], 7);
	assert_int_equal(guard.content[MEMORY_PAGE_SIZE], 0);
	assert_int_equal(guard.state[0], 9);
	protect_shared_trim(&guard, 2 * PAGES);
	protect_shared_release(&guard);
}

static void a_file_that_could_shrink_is_refused(void **state _unused_)
{
	struct protect_shared vm = { .fd = -1 };
	struct error err = { 0 };
	int fd = memfd_create("test", MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)(2 * EPOCH_STATE_MAX)), 0);
	assert_int_equal(protect_shared_take(fd, RAM, &vm, &err), -EINVAL);
	assert_non_null(strstr(err.message, "sealed"));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void a_file_for_less_memory_is_refused(void **state _unused_)
{
	struct protect_shared guard, vm;
	struct error err = { 0 };

	assert_int_equal(protect_shared_make(RAM, &guard), 0);
	assert_int_equal(protect_shared_take(dup(guard.fd), 2 * RAM, &vm, &err), -EINVAL);
	protect_shared_release(&guard);
	assert_int_equal(protect_shared_make(0, &guard), -EINVAL);
}

/* ---- the container ---- */

#define BODY "sectionsheld"

static void fill(uint8_t bytes[PROTECT_STATE_HEAD + 12])
{
	protect_state_head(bytes, 8, 4);
	memcpy(bytes + PROTECT_STATE_HEAD, BODY, 12);
}

static void a_container_has_its_parts(void **state _unused_)
{
	uint8_t bytes[PROTECT_STATE_HEAD + 12];
	struct iovec vm, held;

	fill(bytes);
	assert_int_equal(protect_state_parts(bytes, sizeof(bytes), &vm, &held), 0);
	assert_int_equal(vm.iov_len, 8);
	assert_memory_equal(vm.iov_base, "sections", 8);
	assert_int_equal(held.iov_len, 4);
	assert_memory_equal(held.iov_base, "held", 4);
}

static void a_container_knows_of_its_guests_end(void **state _unused_)
{
	uint8_t bytes[PROTECT_STATE_HEAD + 12];
	struct iovec vm, held;

	fill(bytes);
	assert_int_equal(protect_state_flags(bytes), 0);
	protect_state_set_flags(bytes, PROTECT_STATE_OFF);
	assert_int_equal(protect_state_parts(bytes, sizeof(bytes), &vm, &held), 0);
	assert_int_equal(protect_state_flags(bytes), PROTECT_STATE_OFF);
	protect_state_set_flags(bytes, 1 << 15); /* means nothing */
	assert_int_equal(protect_state_parts(bytes, sizeof(bytes), &vm, &held), -EBADMSG);
}

static void a_damaged_container_is_refused(void **state _unused_)
{
	/* magic, version, flags, both lengths */
	static const unsigned int places[] = { 0, 4, 6, 8, 15, 16, 23 };
	uint8_t bytes[PROTECT_STATE_HEAD + 12];
	struct iovec vm, held;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		fill(bytes);
		bytes[places[i]] ^= 0x80;
		assert_int_equal(protect_state_parts(bytes, sizeof(bytes), &vm, &held), -EBADMSG);
	}
	fill(bytes);
	for (size_t len = 0; len < sizeof(bytes); len++)
		assert_int_equal(protect_state_parts(bytes, len, &vm, &held), -EBADMSG);
}

static void sections_follow_each_other(void **state _unused_)
{
	uint8_t bytes[] = { 2, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 0, 0, 0, 0, 'c' };
	struct iovec held = { bytes, sizeof(bytes) }, section;

	assert_int_equal(protect_held_next(&held, &section), 0);
	assert_int_equal(section.iov_len, 2);
	assert_memory_equal(section.iov_base, "ab", 2);
	assert_int_equal(protect_held_next(&held, &section), 0);
	assert_memory_equal(section.iov_base, "c", 1);
	assert_int_equal(held.iov_len, 0);
	assert_int_equal(protect_held_next(&held, &section), -EBADMSG);
	bytes[0] = 12; /* longer than there is */
	held = (struct iovec){ bytes, sizeof(bytes) };
	assert_int_equal(protect_held_next(&held, &section), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_see_the_same),
		cmocka_unit_test(what_is_trimmed_is_zero_and_the_rest_stays),
		cmocka_unit_test(a_file_that_could_shrink_is_refused),
		cmocka_unit_test(a_file_for_less_memory_is_refused),
		cmocka_unit_test(a_container_has_its_parts),
		cmocka_unit_test(a_container_knows_of_its_guests_end),
		cmocka_unit_test(a_damaged_container_is_refused),
		cmocka_unit_test(sections_follow_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
