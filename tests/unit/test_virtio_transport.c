/* SPDX-License-Identifier: Apache-2.0 */

/* The PCI transport: what a guest finds, negotiates and programs, its work, its mistakes, its resets. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "virtio_echo.h"

/* ---- what the guest finds ---- */

static void function_says_what_it_is(void **state)
{
	struct rig *rig = *state;
	struct vdriver *d = &rig->driver;

	assert_int_equal(vdriver_config_read(d, 0, 4), 0x10441af4);
	assert_int_equal(vdriver_config_read(d, 8, 1), 1);
	assert_int_equal(vdriver_config_read(d, 0x3d, 1), 0); /* no INTx pin */
	for (unsigned int region = VREGION_COMMON; region <= VREGION_ACCESS; region++)
		assert_int_not_equal(d->regions[region].at, 0);
	assert_int_equal(d->regions[VREGION_DEVICE].length, 16);
	assert_int_equal(d->notify_multiplier, 4);
	assert_int_not_equal(d->msix_cap, 0);
	assert_int_equal(vdriver_config_read(d, d->msix_cap + 2, 2),
			 QUEUES); /* one more, less one */
}

static void device_configuration_reads(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_read(&rig->driver, VREGION_DEVICE, 0, 4), 0x666e6f63);
	assert_int_equal(vdriver_read(&rig->driver, VREGION_DEVICE, 12, 1), 'n');
	assert_int_equal(vdriver_read(&rig->driver, VREGION_DEVICE, 14, 4), 0); /* past its end */
}

static void device_configuration_writes_reach_the_type(void **state)
{
	struct rig *rig = *state;

	vdriver_write(&rig->driver, VREGION_DEVICE, 4, 4, 0x12345678);
	vdriver_write(&rig->driver, VREGION_DEVICE, 14, 4, 1);
	assert_int_equal(rig->echo->config_write, 0x12345678);
}

static void registers_read_at_any_width(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_common(rig, VCOMMON_NUM_QUEUES, 2), QUEUES);
	assert_int_equal(rig_common(rig, VCOMMON_NUM_QUEUES, 1), QUEUES);
	assert_int_equal(rig_common(rig, VCOMMON_CONFIG_VECTOR, 4), QUEUES << 16 | 0xffff);
	assert_int_equal(rig_common(rig, 56, 4), 0);
	assert_int_equal(rig_common(rig, 54, 4), 0);
}

static void writes_of_a_wrong_width_are_ignored(void **state)
{
	struct rig *rig = *state;

	rig_set_common(rig, VCOMMON_QUEUE_SELECT, 1, 1);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SELECT, 2), 0);
	rig_set_common(rig, VCOMMON_STATUS, 4, 1);
	assert_int_equal(vdriver_status(&rig->driver), 0);
	rig_set_common(rig, VCOMMON_NUM_QUEUES, 2, 1);
	assert_int_equal(rig_common(rig, VCOMMON_NUM_QUEUES, 2), QUEUES);
}

static void addresses_take_8_bytes_at_once(void **state)
{
	struct rig *rig = *state;

	rig_set_common(rig, VCOMMON_QUEUE_DESC, 8, 0x1122334455667788);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_DESC, 8), 0x1122334455667788);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_DESC + 4, 4), 0x11223344);
}

static void access_window_reaches_registers(void **state)
{
	struct rig *rig = *state;
	struct vdriver *d = &rig->driver;
	unsigned int cap = d->regions[VREGION_ACCESS].at;

	vdriver_config_write(d, cap + 4, 1, d->regions[VREGION_COMMON].bar);
	vdriver_config_write(d, cap + 8, 4,
			     d->regions[VREGION_COMMON].offset + VCOMMON_QUEUE_SELECT);
	vdriver_config_write(d, cap + 12, 4, 2);
	vdriver_config_write(d, cap + 16, 2, 1);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SELECT, 2), 1);
	rig_set_common(rig, VCOMMON_QUEUE_SELECT, 2, 7);
	assert_int_equal(vdriver_config_read(d, cap + 16, 2), 7);
}

static void access_window_stays_inside(void **state)
{
	static const struct {
		uint8_t bar;
		uint32_t offset, length;
	} bad[] = {
		{ 0, 0x4000, 4 }, { 0, 0xfffffffc, 4 }, { 0, 2, 4 },
		{ 0, 0, 8 },	  { 0, 0, 3 },		{ 0, 0, 0 },
		{ 1, 0, 4 },	  { 255, 0, 4 },	{ 0, 0, 0xffffffff },
	};
	struct rig *rig = *state;
	struct vdriver *d = &rig->driver;
	unsigned int cap = d->regions[VREGION_ACCESS].at;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		vdriver_config_write(d, cap + 4, 1, bad[i].bar);
		vdriver_config_write(d, cap + 8, 4, bad[i].offset);
		vdriver_config_write(d, cap + 12, 4, bad[i].length);
		vdriver_config_write(d, cap + 16, 4, 0xabcdef01);
		/* Nothing answers: the data register is plain memory. */
		assert_int_equal(vdriver_config_read(d, cap + 16, 4), 0xabcdef01);
	}
	assert_int_equal(rig_common(rig, VCOMMON_DEVICE_FEATURE_SELECT, 4), 0);
}

/* ---- negotiation ---- */

static void offered_features_are_accepted(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_offered(&rig->driver),
			 FEATURE_OWN | FEATURE_UNWANTED | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
				 VIRTIO_F_INDIRECT_DESC);
	assert_int_equal(vdriver_negotiate(&rig->driver, FEATURE_OWN), 0);
	assert_true(virtio_has_feature(&rig->echo->vdev, FEATURE_OWN));
	assert_false(virtio_has_feature(&rig->echo->vdev, VIRTIO_F_EVENT_IDX));
}

static void select_past_the_features_reads_none(void **state)
{
	struct rig *rig = *state;

	rig_set_common(rig, VCOMMON_DEVICE_FEATURE_SELECT, 4, 2);
	assert_int_equal(rig_common(rig, VCOMMON_DEVICE_FEATURE, 4), 0);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 2);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE, 4, 1);
	assert_int_equal(rig->echo->state.driver_features, 0);
}

static uint8_t status_after_choosing(struct rig *rig, uint64_t features)
{
	assert_int_equal(vdriver_reset(&rig->driver), 0);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 0);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE, 4, (uint32_t)features);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 1);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE, 4, features >> 32);
	rig_set_common(rig, VCOMMON_STATUS, 1, 3);
	rig_set_common(rig, VCOMMON_STATUS, 1, 11);
	return vdriver_status(&rig->driver);
}

static void unfit_features_are_refused(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(status_after_choosing(rig, VIRTIO_F_VERSION_1), 11);
	assert_int_equal(status_after_choosing(rig, VIRTIO_F_VERSION_1 | 1), 3);
	assert_int_equal(status_after_choosing(rig, 0), 3);
	assert_int_equal(status_after_choosing(rig, VIRTIO_F_VERSION_1 | FEATURE_UNWANTED), 3);
}

static void features_are_settled_with_features_ok(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 0);
	rig_set_common(rig, VCOMMON_DRIVER_FEATURE, 4, (uint32_t)FEATURE_OWN);
	assert_false(virtio_has_feature(&rig->echo->vdev, FEATURE_OWN));
}

static void driver_ok_needs_features_ok(void **state)
{
	struct rig *rig = *state;

	rig_set_common(rig, VCOMMON_STATUS, 1, 7);
	assert_int_equal(vdriver_status(&rig->driver), 3);
}

static void status_bits_are_not_cleared_one_by_one(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	rig_set_common(rig, VCOMMON_STATUS, 1, 1);
	assert_int_equal(vdriver_status(&rig->driver), 11);
	rig_set_common(rig, VCOMMON_STATUS, 1, 0x40 | 0x10 | 1); /* not the driver's to set */
	assert_int_equal(vdriver_status(&rig->driver), 11);
}

/* ---- geometry ---- */

static void queue_select_is_checked_at_each_use(void **state)
{
	static const uint16_t selects[] = { QUEUES, 33, 34, 255, 65535 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(selects); i++) {
		rig_set_common(rig, VCOMMON_QUEUE_SELECT, 2, selects[i]);
		assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SIZE, 2), 0);
		assert_int_equal(rig_common(rig, VCOMMON_QUEUE_VECTOR, 2), 0xffff);
		rig_set_common(rig, VCOMMON_QUEUE_SIZE, 2, 8);
		rig_set_common(rig, VCOMMON_QUEUE_VECTOR, 2, 0);
		rig_set_common(rig, VCOMMON_QUEUE_DESC, 4, 0x1000);
		rig_set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 1);
		assert_int_equal(rig_common(rig, VCOMMON_QUEUE_ENABLE, 2), 0);
	}
}

static void only_powers_of_two_are_sizes(void **state)
{
	static const uint16_t bad[] = { 0, 3, 12, SIZE + 1, 2 * SIZE, 65535 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		rig_set_common(rig, VCOMMON_QUEUE_SIZE, 2, bad[i]);
		assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SIZE, 2), SIZE);
	}
	rig_set_common(rig, VCOMMON_QUEUE_SIZE, 2, 4);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SIZE, 2), 4);
}

static void vectors_that_do_not_exist_read_back_as_none(void **state)
{
	struct rig *rig = *state;

	rig_set_common(rig, VCOMMON_CONFIG_VECTOR, 2, QUEUES);
	assert_int_equal(rig_common(rig, VCOMMON_CONFIG_VECTOR, 2), QUEUES);
	rig_set_common(rig, VCOMMON_CONFIG_VECTOR, 2, QUEUES + 1);
	assert_int_equal(rig_common(rig, VCOMMON_CONFIG_VECTOR, 2), 0xffff);
	rig_set_common(rig, VCOMMON_QUEUE_VECTOR, 2, 64);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_VECTOR, 2), 0xffff);
}

static void geometry_is_latched_at_activation(void **state)
{
	struct rig *rig = *state;
	uint64_t desc;

	rig_set_common(rig, VCOMMON_QUEUE_SELECT, 2, 0);
	desc = rig_common(rig, VCOMMON_QUEUE_DESC, 8);
	rig_set_common(rig, VCOMMON_QUEUE_SIZE, 2, 2);
	rig_set_common(rig, VCOMMON_QUEUE_DESC, 8, 0xc0000000);
	rig_set_common(rig, VCOMMON_QUEUE_DEVICE, 8, 0xc0000000);
	rig_set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 0);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SIZE, 2), SIZE);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_DESC, 8), desc);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_ENABLE, 2), 1);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
}

static void geometry_is_settled_by_enabling(void **state)
{
	struct rig *rig = *state;

	rig_set_common(rig, VCOMMON_QUEUE_SIZE, 2, 8);
	rig_set_common(rig, VCOMMON_QUEUE_DRIVER, 8, 0x2000);
	rig_set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 1);
	rig_set_common(rig, VCOMMON_QUEUE_SIZE, 2, 4);
	rig_set_common(rig, VCOMMON_QUEUE_DRIVER, 8, 0x3000);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SIZE, 2), 8);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_DRIVER, 8), 0x2000);
}

static void queue_enabled_too_late_stays_off(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	assert_int_equal(vqueue_setup(&rig->driver, 0, 0, &rig->queues[0]), 0);
	vdriver_go(&rig->driver);
	assert_int_equal(vqueue_setup(&rig->driver, 1, 0, &rig->queues[1]), 0);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_ENABLE, 2), 0);
	rig_request(rig, 1);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
	assert_int_equal(vqueue_get(&rig->queues[1], NULL, NULL), 0);
}

/* ---- work ---- */

static void requests_are_answered(void **state)
{
	struct rig *rig = *state;

	memcpy(vmachine_at(rig->m, rig->out, 8), "question", 8);
	for (unsigned int i = 0; i < 3 * SIZE; i++) {
		rig_request(rig, i % QUEUES);
		rig_assert_answered(rig, i % QUEUES);
	}
	assert_memory_equal(vmachine_at(rig->m, rig->in, 8), "question", 8);
}

static void each_queue_has_its_interrupt(void **state)
{
	struct rig *rig = *state;

	rig_request(rig, 1);
	rig_assert_answered(rig, 1);
	assert_true(wait_for_count(&rig->m->interrupts[2], 1, SOON));
	assert_int_equal(vmachine_interrupts(rig->m, 0), 0);
	assert_int_equal(vmachine_interrupts(rig->m, 1), 0);
}

static void isr_tells_a_driver_without_msix(void **state)
{
	struct rig *rig = *state;
	uint64_t isr = 0;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	assert_int_equal(vqueue_setup(&rig->driver, 0, 0, &rig->queues[0]), 0);
	vdriver_go(&rig->driver);
	assert_int_equal(vdriver_read(&rig->driver, VREGION_ISR, 0, 1), 0);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
	for (unsigned int i = 0; i < SOON && !isr; i++) {
		isr = vdriver_read(&rig->driver, VREGION_ISR, 0, 1);
		usleep(1000);
	}
	assert_int_equal(isr, 1);
	assert_int_equal(vdriver_read(&rig->driver, VREGION_ISR, 0, 1), 0); /* reading clears */
	assert_int_equal(vdriver_read(&rig->driver, VREGION_ISR, 1, 1), 0);
}

static void stray_notifications_are_harmless(void **state)
{
	struct rig *rig = *state;
	uint64_t notify = vdriver_address(&rig->driver, VREGION_NOTIFY, 0);

	for (unsigned int offset = 0; offset < 0x1000; offset += 2)
		vmachine_write(rig->m, BUS_MMIO, notify + offset, 2, 0xffff);
	assert_int_equal(vdriver_read(&rig->driver, VREGION_NOTIFY, 0, 2), 0);
	vdriver_write(&rig->driver, VREGION_ISR, 0, 1, 0xff);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
}

static void configuration_change_is_told(void **state)
{
	struct rig *rig = *state;
	uint64_t generation = rig_common(rig, VCOMMON_GENERATION, 1);

	virtio_config_update(&rig->echo->vdev, 0, "C", 1);
	assert_int_equal(rig_common(rig, VCOMMON_GENERATION, 1), generation + 1);
	assert_int_equal(vdriver_read(&rig->driver, VREGION_DEVICE, 0, 1), 'C');
	assert_int_equal(vmachine_interrupts(rig->m, 0), 1);
}

static void moved_bar_takes_its_doorbells_along(void **state)
{
	struct rig *rig = *state;
	struct virtio_vq *vq = &rig->echo->vdev.queues[1];

	vdriver_config_write(&rig->driver, 0x10, 4, 0xc8000000);
	assert_int_equal(vdriver_address(&rig->driver, VREGION_NOTIFY, 4), 0xc8003004);
	assert_true(vq->rings);
	assert_int_equal(vq->doorbell.address, 0xc8003004);
	rig_request(rig, 1);
	rig_assert_answered(rig, 1);
	vdriver_config_write(&rig->driver, 4, 2, 0); /* decoding off */
	assert_false(vq->rings);
}

static void barrier_holds_requests_back(void **state)
{
	struct rig *rig = *state;

	quiesce_begin(&rig->m->quiesce);
	rig_request(rig, 0);
	assert_int_equal(vqueue_wait(&rig->queues[0], 50, NULL, NULL), 0);
	quiesce_end(&rig->m->quiesce);
	rig_assert_answered(rig, 0);
}

/* ---- misbehaviour ---- */

static void broken_queue_needs_a_reset(void **state)
{
	struct rig *rig = *state;

	vqueue_publish(&rig->queues[0], SIZE);
	vqueue_kick_anyway(&rig->queues[0]);
	assert_true(rig_wait_for_status(rig, VSTATUS_OK | VSTATUS_NEEDS_RESET));
	assert_true(wait_for_count(&rig->m->interrupts[0], 1, SOON));
	/* The other queue does nothing more. */
	rig_request(rig, 1);
	assert_int_equal(vqueue_wait(&rig->queues[1], 50, NULL, NULL), 0);
	rig_bring_up(rig);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
}

static void unfit_geometry_needs_a_reset(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	rig_set_common(rig, VCOMMON_QUEUE_DESC, 8, 0xc0000000);
	rig_set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 1);
	vdriver_go(&rig->driver);
	assert_true(rig_wait_for_status(rig, VSTATUS_OK | VSTATUS_NEEDS_RESET));
	rig_bring_up(rig);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
}

/* ---- reset ---- */

static void idle_device_resets_at_once(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	rig_set_common(rig, VCOMMON_STATUS, 1, 0);
	assert_int_equal(vdriver_status(&rig->driver), 0);
	assert_int_equal(rig->echo->state.driver_features, 0);
}

static void reset_waits_for_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	uint8_t before[8];

	echo_hold(rig->echo);
	rig_request(rig, 0);
	rig_request(rig, 1);
	assert_true(wait_for_count(&rig->echo->popped, 2, SOON));
	rig_set_common(rig, VCOMMON_STATUS, 1, 0);
	usleep(20000);
	assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK);
	assert_true(rig->echo->vdev.device.ops->resetting(&rig->echo->vdev.device));
	/* Meanwhile nothing can be programmed. */
	rig_set_common(rig, VCOMMON_STATUS, 1, 1);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SELECT, 2), QUEUES - 1);
	rig_set_common(rig, VCOMMON_QUEUE_SELECT, 2, 0);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_SELECT, 2), QUEUES - 1);
	memcpy(before, vmachine_at(rig->m, rig->queues[0].used, 8), 8);
	echo_let_go(rig->echo);
	assert_true(rig_wait_for_status(rig, 0));
	assert_int_equal(__atomic_load_n(&rig->echo->idled, __ATOMIC_ACQUIRE), QUEUES);
	/* The late completions told nobody. */
	assert_memory_equal(before, vmachine_at(rig->m, rig->queues[0].used, 8), 8);
	assert_false(rig->echo->vdev.device.ops->resetting(&rig->echo->vdev.device));
	rig_bring_up(rig);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
}

static void registers_are_as_new_after_reset(void **state)
{
	struct rig *rig = *state;

	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
	assert_int_equal(vdriver_reset(&rig->driver), 0);
	rig_set_common(rig, VCOMMON_QUEUE_SELECT, 2, 0);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_ENABLE, 2), 0);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_DESC, 8), 0);
	assert_int_equal(rig_common(rig, VCOMMON_QUEUE_VECTOR, 2), 0xffff);
	assert_int_equal(rig_common(rig, VCOMMON_CONFIG_VECTOR, 2), 0xffff);
	assert_int_equal(rig->echo->state.queues[0].next_used, 0);
	assert_int_equal(rig->echo->state.driver_features, 0);
}

static void start_and_reset_in_one_breath(void **state)
{
	struct rig *rig = *state;

	for (unsigned int i = 0; i < 100; i++) {
		rig_bring_up(rig);
		rig->m->heap = rig->in + MEMORY_PAGE_SIZE;
		assert_int_equal(vdriver_reset(&rig->driver), 0);
	}
	rig_bring_up(rig);
	rig_request(rig, 1);
	rig_assert_answered(rig, 1);
}

static void machine_reset_with_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	struct device *device = &rig->echo->vdev.device;

	echo_hold(rig->echo);
	rig_request(rig, 0);
	assert_true(wait_for_count(&rig->echo->popped, 1, SOON));
	pthread_mutex_lock(&device->lock);
	device->ops->reset(device);
	pthread_mutex_unlock(&device->lock);
	assert_int_equal(vdriver_config_read(&rig->driver, 4, 2) & 2, 0);
	echo_let_go(rig->echo);
	rig_bring_up(rig);
	rig_request(rig, 0);
	rig_assert_answered(rig, 0);
}

static void *let_go_later(void *echo)
{
	usleep(50000);
	echo_let_go(echo);
	return NULL;
}

static void stop_waits_for_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	struct device *device = &rig->echo->vdev.device;
	pthread_t disk;

	echo_hold(rig->echo);
	rig_request(rig, 0);
	assert_true(wait_for_count(&rig->echo->popped, 1, SOON));
	assert_int_equal(pthread_create(&disk, NULL, let_go_later, rig->echo), 0);
	device->ops->stop(device);
	assert_int_equal(rig->echo->n_held[0], 0);
	pthread_join(disk, NULL);
}

static void nothing_is_left_of_a_device_that_could_not_be_made(void **state _unused_)
{
	struct vmachine *m = vmachine_new(MIB(8), NULL);
	struct echo *echoes[PCI_SLOTS];
	struct error err = { 0 };
	const struct virtio_params params = {
		.name = "virtio-late",
		.id = VIRTIO_ID_RNG,
		.n_queues = 1,
		.queue_size = SIZE,
		.n_workers = 1,
		.ops = &echo_ops,
	};
	struct echo *late = calloc(1, sizeof(*late));

	assert_non_null(late);
	for (unsigned int i = 1; i < PCI_SLOTS; i++)
		echoes[i] = echo_new(m, 0, 1);
	assert_int_equal(virtio_device_init(&late->vdev, &late->state, &params, &m->host, &err),
			 -ENOSPC);
	assert_non_null(strstr(err.message, "virtio-late"));
	free(late);
	for (unsigned int i = 1; i < PCI_SLOTS; i++)
		vdevice_destroy(&echoes[i]->vdev.device);
	vmachine_free(m);
}

#define FRESH(name) cmocka_unit_test_setup_teardown(name, make_rig, free_rig)
#define WORKING(name) cmocka_unit_test_setup_teardown(name, make_working_rig, free_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(function_says_what_it_is),
		FRESH(device_configuration_reads),
		FRESH(device_configuration_writes_reach_the_type),
		FRESH(registers_read_at_any_width),
		FRESH(writes_of_a_wrong_width_are_ignored),
		FRESH(addresses_take_8_bytes_at_once),
		FRESH(access_window_reaches_registers),
		FRESH(access_window_stays_inside),
		FRESH(offered_features_are_accepted),
		FRESH(select_past_the_features_reads_none),
		FRESH(unfit_features_are_refused),
		FRESH(features_are_settled_with_features_ok),
		FRESH(driver_ok_needs_features_ok),
		FRESH(status_bits_are_not_cleared_one_by_one),
		FRESH(queue_select_is_checked_at_each_use),
		FRESH(only_powers_of_two_are_sizes),
		FRESH(vectors_that_do_not_exist_read_back_as_none),
		WORKING(geometry_is_latched_at_activation),
		FRESH(geometry_is_settled_by_enabling),
		FRESH(queue_enabled_too_late_stays_off),
		WORKING(requests_are_answered),
		WORKING(each_queue_has_its_interrupt),
		FRESH(isr_tells_a_driver_without_msix),
		WORKING(stray_notifications_are_harmless),
		WORKING(configuration_change_is_told),
		WORKING(moved_bar_takes_its_doorbells_along),
		WORKING(barrier_holds_requests_back),
		WORKING(broken_queue_needs_a_reset),
		FRESH(unfit_geometry_needs_a_reset),
		FRESH(idle_device_resets_at_once),
		WORKING(reset_waits_for_requests_in_flight),
		WORKING(registers_are_as_new_after_reset),
		FRESH(start_and_reset_in_one_breath),
		WORKING(machine_reset_with_requests_in_flight),
		WORKING(stop_waits_for_requests_in_flight),
		cmocka_unit_test(nothing_is_left_of_a_device_that_could_not_be_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
