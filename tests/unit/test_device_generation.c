/* SPDX-License-Identifier: Apache-2.0 */

/* The VM generation ID: 16 bytes in guest RAM, new in each incarnation. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "device/generation.h"
#include "device_rig.h"

#define AT 0x9f000

static const uint8_t first_id[16] = "first incarnatio", second_id[16] = "the second one..";

struct machine {
	struct device_rig rig;
	struct memory *memory;
};

static struct machine *machine_new(uint64_t at, const uint8_t id[16])
{
	struct machine *m = calloc(1, sizeof(*m));
	struct error err = { 0 };

	rig_init(&m->rig, 1);
	assert_int_equal(
		memory_create(MIB(2), GIB(1), GIB(4), MEMORY_HUGE_OFF, -1, &m->memory, &err), 0);
	if (id)
		assert_int_equal(generation_new(m->memory, gpa(at), id, &m->rig.device), 0);
	return m;
}

static void machine_free(struct machine *m)
{
	rig_release(&m->rig);
	memory_free(m->memory);
	free(m);
}

static void expect_id(struct machine *m, uint64_t at, const uint8_t id[16])
{
	uint8_t seen[16];

	assert_int_equal(memory_read(m->memory, gpa(at), seen, sizeof(seen)), 0);
	assert_memory_equal(seen, id, sizeof(seen));
}

static int publish(struct machine *m)
{
	struct error err = { 0 };

	return generation_publish(m->rig.device, &err);
}

static void is_in_memory_once_published(void **state)
{
	static const uint8_t zeroes[16];
	struct machine *m = machine_new(AT, first_id);

	expect_id(m, AT, zeroes);
	assert_int_equal(publish(m), 0);
	expect_id(m, AT, first_id);
	assert_int_equal(memory_fill(m->memory, gpa(AT), 0, 16), 0);
	assert_int_equal(publish(m), 0);
	expect_id(m, AT, first_id);
	machine_free(m);
}

/* All that the control thread calls of a device. */
static void touches_no_memory_by_itself(void **state)
{
	struct machine *m = machine_new(AT, first_id);

	assert_null(m->rig.device->ops->start);
	assert_null(m->rig.device->ops->reset);
	assert_null(m->rig.device->ops->after_load);
	machine_free(m);
}

static void stays_after_a_load_until_renewed(void **state)
{
	struct machine *a = machine_new(AT, first_id), *b = machine_new(AT, second_id);
	struct error err = { 0 };
	struct buffer saved;

	assert_int_equal(publish(a), 0);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&a->rig, &saved);
	/* the guest's memory comes along */
	assert_int_equal(memory_write(b->memory, gpa(AT), first_id, 16), 0);
	assert_int_equal(rig_load(&b->rig, NULL, &saved, &err), 0);
	expect_id(b, AT, first_id);
	assert_null(
		state_compare(a->rig.device->table, a->rig.device->state, b->rig.device->state));
	assert_int_equal(generation_renew(b->rig.device, second_id, &err), 0);
	expect_id(b, AT, second_id);
	buffer_release(&saved);
	machine_free(a);
	machine_free(b);
}

static void stays_where_the_guest_found_it(void **state)
{
	struct machine *a = machine_new(AT, first_id), *b = machine_new(AT + 16, second_id);
	struct error err = { 0 };
	struct buffer saved;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&a->rig, &saved);
	assert_true(rig_load(&b->rig, NULL, &saved, &err) < 0);
	buffer_release(&saved);
	machine_free(a);
	machine_free(b);
}

static void must_be_aligned_ram(void **state)
{
	static const uint64_t bad[] = { AT + 4, MIB(2), MIB(2) - 8, GIB(3), UINT64_MAX - 7 };
	struct machine *m = machine_new(0, NULL);
	struct device *device = NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(generation_new(m->memory, gpa(bad[i]), first_id, &device),
				 -EFAULT);
	assert_null(device);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_in_memory_once_published),
		cmocka_unit_test(touches_no_memory_by_itself),
		cmocka_unit_test(stays_after_a_load_until_renewed),
		cmocka_unit_test(stays_where_the_guest_found_it),
		cmocka_unit_test(must_be_aligned_ram),
	};

	return cmocka_run_group_tests_name("device-generation", tests, NULL, NULL);
}
