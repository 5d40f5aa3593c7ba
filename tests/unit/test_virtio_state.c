/* SPDX-License-Identifier: Apache-2.0 */

/* Busy virtio devices are saved, loaded elsewhere, and go on; streams that no device wrote do no harm. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "virtio_echo.h"

struct pair {
	struct rig from, to;
	struct buffer stream;
};

/* A busy device: one request done, three in flight, one more available that nobody looked at. */
static int make_pair(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	struct rig *rig = &pair->from;

	assert_non_null(pair);
	buffer_init(&pair->stream, MIB(1));
	rig_add_device(rig, true);
	rig->out = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig->in = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig_bring_up(rig);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
	echo_hold(rig->echo);
	rig_request(rig, 0);
	rig_request(rig, 0);
	rig_request(rig, 1);
	assert_true(wait_for_count(&rig->echo->popped, 4, SOON));
	*state = pair;
	return 0;
}

static int free_pair(void **state)
{
	struct pair *pair = *state;

	echo_let_go(pair->from.echo);
	vdevice_destroy(&pair->from.echo->vdev.device);
	vmachine_free(pair->from.m);
	if (pair->to.echo) {
		echo_let_go(pair->to.echo);
		vdevice_destroy(&pair->to.echo->vdev.device);
		vmachine_free(pair->to.m);
	}
	buffer_release(&pair->stream);
	free(pair);
	return 0;
}

/* The barrier comes down, one more request is made available, state and memory are taken. */
static void save_and_make_target(struct pair *pair)
{
	const struct vbuffer buffers[] = {
		{ pair->from.out, 8, false },
		{ pair->from.in, 8, true },
	};

	quiesce_begin(&pair->from.m->quiesce);
	vqueue_add(&pair->from.queues[1], buffers, 2); /* and no kick */
	assert_int_equal(vdevice_save(pair->from.m, &pair->from.echo->vdev.device, &pair->stream),
			 0);
	rig_add_device(&pair->to, false);
	vmachine_copy_memory(pair->to.m, pair->from.m);
	quiesce_end(&pair->from.m->quiesce);
}

/* The driver's memory of its rings goes along with the guest. */
static void adopt_driver(struct pair *pair)
{
	struct echo *echo = pair->to.echo;
	struct vmachine *m = pair->to.m;
	uint64_t in = pair->from.in, out = pair->from.out;

	pair->to = pair->from;
	pair->to.m = m;
	pair->to.echo = echo;
	pair->to.driver.machine = m;
	pair->to.in = in;
	pair->to.out = out;
	for (unsigned int i = 0; i < QUEUES; i++)
		pair->to.queues[i].driver = &pair->to.driver;
}

static void busy_device_goes_on_elsewhere(void **state)
{
	struct pair *pair = *state;
	struct error err = { 0 };

	quiesce_begin(&pair->from.m->quiesce); /* it goes on with what was made available */
	save_and_make_target(pair);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, &err),
			 0);
	assert_null(
		state_compare(&virtio_state_table, &pair->from.echo->state, &pair->to.echo->state));
	quiesce_end(&pair->from.m->quiesce);
	assert_int_equal(pair->to.echo->state.queues[0].n_inflight, 2);
	assert_int_equal(pair->to.echo->state.queues[1].n_inflight, 1);
	adopt_driver(pair);
	memcpy(vmachine_at(pair->to.m, pair->to.out, 8), "arrived!", 8);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	rig_assert_answered(&pair->to, 0);
	rig_assert_answered(&pair->to, 0);
	rig_assert_answered(&pair->to, 1);
	rig_assert_answered(&pair->to, 1);
	assert_memory_equal(vmachine_at(pair->to.m, pair->to.in, 8), "arrived!", 8);
	assert_true(wait_for_count(&pair->to.m->interrupts[1], 1, SOON));
	rig_request(&pair->to, 0);
	rig_assert_answered(&pair->to, 0);
}

static void source_goes_on_after_a_save(void **state)
{
	struct pair *pair = *state;

	save_and_make_target(pair);
	echo_let_go(pair->from.echo);
	rig_assert_answered(&pair->from, 0);
	rig_assert_answered(&pair->from, 0);
	rig_assert_answered(&pair->from, 1);
}

/* A backup loads one checkpoint over the other, also over one that is at work. */
static void load_over_a_working_device(void **state)
{
	struct pair *pair = *state;

	save_and_make_target(pair);
	rig_bring_up(&pair->to);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	echo_hold(pair->to.echo);
	pair->to.out = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	pair->to.in = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig_bring_up(&pair->to);
	for (unsigned int i = 0; i < 3; i++)
		rig_request(&pair->to, 0);
	assert_true(wait_for_count(&pair->to.echo->popped, 3, SOON));

	quiesce_begin(&pair->from.m->quiesce);
	quiesce_begin(&pair->to.m->quiesce);
	echo_let_go(pair->to.echo); /* the old requests end before the worker hears of the load */
	vmachine_copy_memory(pair->to.m, pair->from.m);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	quiesce_end(&pair->to.m->quiesce);
	quiesce_end(&pair->from.m->quiesce);
	adopt_driver(pair);
	rig_assert_answered(&pair->to, 0);
	rig_assert_answered(&pair->to, 0);
	rig_assert_answered(&pair->to, 1);
	rig_assert_answered(&pair->to, 1);
	assert_int_equal(vqueue_wait(&pair->to.queues[0], 20, NULL, NULL), 0);
}

static void reset_under_way_is_finished_by_the_load(void **state)
{
	struct pair *pair = *state;

	rig_set_common(&pair->from, VCOMMON_STATUS, 1, 0);
	assert_int_equal(vdriver_status(&pair->from.driver), VSTATUS_OK);
	save_and_make_target(pair);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	adopt_driver(pair);
	assert_int_equal(vdriver_status(&pair->to.driver), 0);
	assert_int_equal(pair->to.echo->state.queues[0].n_inflight, 0);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	rig_bring_up(&pair->to);
	rig_request(&pair->to, 0);
	rig_assert_answered(&pair->to, 0);
}

static void broken_device_stays_broken_elsewhere(void **state)
{
	struct pair *pair = *state;

	vqueue_publish(&pair->from.queues[0], SIZE);
	vqueue_kick_anyway(&pair->from.queues[0]);
	assert_true(rig_wait_for_status(&pair->from, VSTATUS_OK | VSTATUS_NEEDS_RESET));
	save_and_make_target(pair);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	adopt_driver(pair);
	assert_int_equal(vdriver_status(&pair->to.driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
	assert_int_equal(vqueue_wait(&pair->to.queues[1], 20, NULL, NULL), 0);
	rig_bring_up(&pair->to);
	rig_request(&pair->to, 0);
	rig_assert_answered(&pair->to, 0);
}

static void load_heals_a_broken_device(void **state)
{
	struct pair *pair = *state;
	struct rig *to = &pair->to;

	save_and_make_target(pair);
	assert_int_equal(vdevice_start(&to->echo->vdev.device), 0);
	rig_bring_up(to);
	virtio_device_broken(&to->echo->vdev);
	assert_int_equal(vdriver_status(&to->driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
	quiesce_begin(&pair->from.m->quiesce);
	quiesce_begin(&to->m->quiesce);
	vmachine_copy_memory(to->m, pair->from.m);
	assert_int_equal(vdevice_load(to->m, &to->echo->vdev.device, &pair->stream, NULL), 0);
	quiesce_end(&to->m->quiesce);
	quiesce_end(&pair->from.m->quiesce);
	adopt_driver(pair);
	for (unsigned int i = 0; i < 4; i++)
		rig_assert_answered(to, i / 2);
	rig_request(to, 0);
	rig_assert_answered(to, 0);
}

static void load_refuses_another_device(void **state)
{
	static const struct {
		uint64_t features;
		unsigned int queues;
	} others[] = { { FEATURE_UNWANTED, QUEUES },
		       { FEATURE_OWN | FEATURE_UNWANTED, QUEUES - 1 } };
	struct pair *pair = *state;

	save_and_make_target(pair);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct vmachine *m = vmachine_new(MIB(8), NULL);
		struct echo *echo = echo_new(m, others[i].features, others[i].queues);
		struct error err = { 0 };

		assert_true(vdevice_load(m, &echo->vdev.device, &pair->stream, &err) < 0);
		assert_non_null(strstr(err.message, "virtio-echo"));
		vdevice_destroy(&echo->vdev.device);
		vmachine_free(m);
	}
}

/* Loads into a device that offers `features`; what the next driver there may choose from. */
static int load_where(struct pair *pair, uint64_t features, uint64_t *ret_offered,
		      struct error *err)
{
	struct vmachine *m = vmachine_new(MIB(8), NULL);
	struct echo *echo = echo_new(m, features, QUEUES);
	int r = vdevice_load(m, &echo->vdev.device, &pair->stream, err);

	*ret_offered = echo->state.device_features & 0xff;
	vdevice_destroy(&echo->vdev.device);
	vmachine_free(m);
	return r;
}

static void features_that_nobody_uses_may_differ(void **state)
{
	struct pair *pair = *state;
	struct error err = { 0 };
	uint64_t offered;

	save_and_make_target(pair);
	assert_int_equal(load_where(pair, FEATURE_OWN, &offered, &err), 0);
	assert_int_equal(offered, FEATURE_OWN);
	assert_int_equal(load_where(pair, FEATURE_OWN | FEATURE_UNWANTED | 1, &offered, &err), 0);
	assert_int_equal(offered, FEATURE_OWN | FEATURE_UNWANTED);
	assert_int_equal(load_where(pair, FEATURE_UNWANTED, &offered, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "the guest uses feature 3, which"));
}

/* Before it looked it may be given less; while it chooses it may not. */
static void a_driver_that_chooses_finds_what_it_was_offered(void **state)
{
	static const uint8_t choosing = 1 | 2; /* ACKNOWLEDGE, DRIVER */
	struct pair *pair = *state;
	struct error err = { 0 };
	uint64_t offered;

	echo_let_go(pair->from.echo);
	rig_set_common(&pair->from, VCOMMON_STATUS, 1, 0);
	assert_true(rig_wait_for_status(&pair->from, 0));
	assert_int_equal(vdevice_save(pair->from.m, &pair->from.echo->vdev.device, &pair->stream),
			 0);
	assert_int_equal(load_where(pair, 0, &offered, &err), 0);
	assert_int_equal(offered, 0);
	pair->stream.len = 0;
	rig_set_common(&pair->from, VCOMMON_STATUS, 1, choosing);
	assert_int_equal(vdevice_save(pair->from.m, &pair->from.echo->vdev.device, &pair->stream),
			 0);
	assert_int_equal(load_where(pair, FEATURE_OWN, &offered, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "feature 5"));
	assert_int_equal(load_where(pair, FEATURE_OWN | FEATURE_UNWANTED | 1, &offered, &err), 0);
	assert_int_equal(offered, FEATURE_OWN | FEATURE_UNWANTED);
}

/* Any state that is accepted can be started, used and reset. */
static void damaged_state_does_no_harm(void **state)
{
	struct pair *pair = *state;
	unsigned int refused = 0;

	save_and_make_target(pair);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	assert_int_equal(vdriver_find(pair->to.m, VIRTIO_ID_RNG, &pair->to.driver), 0);
	for (size_t at = 0; at < pair->stream.len; at += at < 4200 ? 61 : 1) {
		uint8_t saved = pair->stream.data[at];

		pair->stream.data[at] ^= (uint8_t)(1 << at % 8);
		if (vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL) < 0)
			refused++;
		pair->stream.data[at] = saved;
	}
	assert_true(refused > 100);
	pair->stream.len--;
	assert_true(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL) < 0);
	pair->stream.len++;
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	rig_bring_up(&pair->to);
	pair->to.out = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	pair->to.in = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig_request(&pair->to, 0);
	rig_assert_answered(&pair->to, 0);
}

static void check_names_contradictions(void **state)
{
	struct pair *pair = *state;
	const struct virtio_state *good = &pair->from.echo->state;
	struct virtio_state *bad = malloc(sizeof(*bad));

	assert_non_null(bad);
	assert_int_equal(virtio_state_check(good, NULL), 0);
#define REFUSED(field, value)                                                                      \
	do {                                                                                       \
		struct error err = { 0 };                                                          \
		*bad = *good;                                                                      \
		bad->field = (value);                                                              \
		assert_int_equal(virtio_state_check(bad, &err), -EBADMSG);                         \
		assert_true(err.message[0]);                                                       \
	} while (0)
	REFUSED(n_queues, VIRTIO_QUEUES_MAX + 1);
	REFUSED(config_len, 257);
	REFUSED(resetting, 2);
	REFUSED(isr, 4);
	REFUSED(pci.n_msix, QUEUES + 2);
	REFUSED(config_msix_vector, QUEUES + 1);
	REFUSED(driver_features, VIRTIO_F_VERSION_1 | 1);
	REFUSED(driver_features, 0);
	REFUSED(device_features, bad->device_features & ~VIRTIO_F_VERSION_1);
	REFUSED(status, 4);
	REFUSED(queues[1].size, 3);
	REFUSED(queues[1].msix_vector, QUEUES + 1);
	REFUSED(queues[0].enabled, 0);
	REFUSED(queues[0].inflight[1], bad->queues[0].inflight[0]);
#undef REFUSED
	free(bad);
}

#define PAIR(name) cmocka_unit_test_setup_teardown(name, make_pair, free_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR(busy_device_goes_on_elsewhere),
		PAIR(source_goes_on_after_a_save),
		PAIR(load_over_a_working_device),
		PAIR(reset_under_way_is_finished_by_the_load),
		PAIR(broken_device_stays_broken_elsewhere),
		PAIR(load_heals_a_broken_device),
		PAIR(load_refuses_another_device),
		PAIR(features_that_nobody_uses_may_differ),
		PAIR(a_driver_that_chooses_finds_what_it_was_offered),
		PAIR(damaged_state_does_no_harm),
		PAIR(check_names_contradictions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
