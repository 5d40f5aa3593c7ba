/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The PCI transport with a device type of its own, which answers each request with the request's bytes,
 * either at once or when the test lets it (as a disk would).
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "virtio_driver.h"

#define FEATURE_OWN (1ULL << 3)
#define FEATURE_UNWANTED (1ULL << 5) /* offered, but `negotiated` refuses it */
#define QUEUES 2
#define SIZE 16
#define SOON 5000 /* ms: a test that waits longer has failed */

struct echo {
	struct virtio_device vdev;
	struct virtio_state state;
	struct virtio_chain held[QUEUES][SIZE];
	unsigned int n_held[QUEUES];
	bool stopping[QUEUES];
	bool hold;	       /* atomic: keep requests until `release` is signalled */
	uint32_t popped;       /* atomic: requests taken so far */
	uint32_t idled;	       /* atomic: queues that became idle */
	uint32_t config_write; /* last value written by the guest */
	struct loop_watch release;
};

static struct echo *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct echo, vdev);
}

static void answer(struct virtio_vq *vq, struct virtio_chain *chain)
{
	uint8_t bytes[64];
	size_t n = iov_to_buf(chain->iov, chain->n_out, 0, bytes, sizeof(bytes));

	n = iov_from_buf(virtio_chain_in(chain), chain->n_in, 0, bytes, n);
	virtio_queue_push(&vq->queue, chain, (uint32_t)n);
}

static void take(struct virtio_vq *vq, const struct virtio_chain *chain)
{
	struct echo *echo = from_vdev(vq->vdev);

	echo->held[vq->index][echo->n_held[vq->index]++] = *chain;
	__atomic_fetch_add(&echo->popped, 1, __ATOMIC_RELEASE);
}

static void finish_all(struct virtio_vq *vq)
{
	struct echo *echo = from_vdev(vq->vdev);

	for (unsigned int i = 0; i < echo->n_held[vq->index]; i++)
		answer(vq, &echo->held[vq->index][i]);
	echo->n_held[vq->index] = 0;
	virtio_queue_signal(vq);
	if (echo->stopping[vq->index]) {
		echo->stopping[vq->index] = false;
		__atomic_fetch_add(&echo->idled, 1, __ATOMIC_RELEASE);
		virtio_queue_idle(vq);
	}
}

static void released(struct loop_watch *watch, uint32_t events _unused_)
{
	struct echo *echo = container_of(watch, struct echo, release);

	fd_clear_event(watch->fd);
	for (unsigned int i = 0; i < QUEUES; i++)
		finish_all(&echo->vdev.queues[i]);
}

static void echo_kicked(struct virtio_vq *vq)
{
	struct echo *echo = from_vdev(vq->vdev);
	struct virtio_chain chain;
	int r;

	do {
		while ((r = virtio_queue_pop(&vq->queue, &chain)) > 0)
			take(vq, &chain);
	} while (r == 0 && virtio_queue_enable_kicks(&vq->queue));
	if (!__atomic_load_n(&echo->hold, __ATOMIC_ACQUIRE))
		finish_all(vq);
	if (r < 0)
		virtio_device_broken(vq->vdev);
}

static int echo_started(struct virtio_vq *vq)
{
	struct virtio_chain chain;

	for (uint32_t i = 0; i < vq->queue.state->n_inflight; i++) {
		int r = virtio_queue_refetch(&vq->queue, i, &chain);

		if (r < 0)
			return r;
		take(vq, &chain);
	}
	return 0;
}

static void echo_stopping(struct virtio_vq *vq)
{
	struct echo *echo = from_vdev(vq->vdev);

	echo->stopping[vq->index] = true;
	if (!echo->n_held[vq->index] || !__atomic_load_n(&echo->hold, __ATOMIC_ACQUIRE))
		finish_all(vq);
}

static int echo_negotiated(struct virtio_device *vdev _unused_, uint64_t features)
{
	return features & FEATURE_UNWANTED ? -EOPNOTSUPP : 0;
}

static void echo_config_written(struct virtio_device *vdev, unsigned int offset, unsigned int size,
				uint64_t data)
{
	if (offset == 4 && size == 4)
		from_vdev(vdev)->config_write = (uint32_t)data;
}

static void echo_destroy(struct virtio_device *vdev)
{
	struct echo *echo = from_vdev(vdev);

	virtio_device_release(vdev);
	fd_close(echo->release.fd);
	free(echo);
}

static const struct virtio_ops echo_ops = {
	.queue_started = echo_started,
	.queue_kicked = echo_kicked,
	.queue_stopping = echo_stopping,
	.config_written = echo_config_written,
	.negotiated = echo_negotiated,
	.destroy = echo_destroy,
};

static struct echo *echo_new(struct vmachine *m, uint64_t features, unsigned int queues)
{
	static const uint8_t config[16] = "configuration";
	const struct virtio_params params = {
		.name = "virtio-echo",
		.id = VIRTIO_ID_RNG,
		.features = features,
		.config = config,
		.config_len = sizeof(config),
		.n_queues = queues,
		.queue_size = SIZE,
		.n_workers = 1,
		.ops = &echo_ops,
	};
	struct echo *echo = calloc(1, sizeof(*echo));

	assert_non_null(echo);
	assert_int_equal(virtio_device_init(&echo->vdev, &echo->state, &params, &m->host, NULL), 0);
	echo->release = (struct loop_watch){ fd_new_event(), EPOLLIN, released };
	assert_int_equal(loop_add(worker_loop(echo->vdev.workers[0]), &echo->release), 0);
	return echo;
}

struct rig {
	struct vmachine *m;
	struct echo *echo;
	struct vdriver driver;
	struct vqueue queues[QUEUES];
	uint64_t out, in; /* pages for requests */
};

static void add_device(struct rig *rig, bool start)
{
	rig->m = vmachine_new(MIB(8), NULL);
	assert_non_null(rig->m);
	rig->echo = echo_new(rig->m, FEATURE_OWN | FEATURE_UNWANTED, QUEUES);
	if (start)
		assert_int_equal(vdevice_start(&rig->echo->vdev.device), 0);
}

/* A device that is started, found, and reset: the driver has not begun. */
static int make_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	add_device(rig, true);
	assert_int_equal(vdriver_find(rig->m, VIRTIO_ID_RNG, &rig->driver), 0);
	rig->out = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig->in = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	*state = rig;
	return 0;
}

static void bring_up(struct rig *rig)
{
	assert_int_equal(vdriver_setup(rig->m, VIRTIO_ID_RNG,
				       VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | FEATURE_OWN,
				       &rig->driver, rig->queues, QUEUES),
			 0);
}

/* A device in use. */
static int make_working_rig(void **state)
{
	make_rig(state);
	bring_up(*state);
	return 0;
}

static int free_rig(void **state)
{
	struct rig *rig = *state;

	vdevice_destroy(&rig->echo->vdev.device);
	vmachine_free(rig->m);
	free(rig);
	return 0;
}

static uint64_t common(struct rig *rig, unsigned int offset, unsigned int size)
{
	return vdriver_read(&rig->driver, VREGION_COMMON, offset, size);
}

static void set_common(struct rig *rig, unsigned int offset, unsigned int size, uint64_t value)
{
	vdriver_write(&rig->driver, VREGION_COMMON, offset, size, value);
}

static void request(struct rig *rig, unsigned int queue)
{
	const struct vbuffer buffers[] = { { rig->out, 8, false }, { rig->in, 8, true } };

	assert_true(vqueue_add(&rig->queues[queue], buffers, 2) >= 0);
	vqueue_kick(&rig->queues[queue]);
}

static void hold(struct echo *echo)
{
	__atomic_store_n(&echo->hold, true, __ATOMIC_RELEASE);
}

static void let_go(struct echo *echo)
{
	__atomic_store_n(&echo->hold, false, __ATOMIC_RELEASE);
	fd_signal_event(echo->release.fd);
}

static void assert_answered(struct rig *rig, unsigned int queue)
{
	uint32_t len;

	assert_int_equal(vqueue_wait(&rig->queues[queue], SOON, NULL, &len), 1);
	assert_int_equal(len, 8);
}

static bool wait_for_status(struct rig *rig, uint8_t status)
{
	for (unsigned int i = 0; i < SOON; i++) {
		if (vdriver_status(&rig->driver) == status)
			return true;
		usleep(1000);
	}
	return false;
}

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

	assert_int_equal(common(rig, VCOMMON_NUM_QUEUES, 2), QUEUES);
	assert_int_equal(common(rig, VCOMMON_NUM_QUEUES, 1), QUEUES);
	assert_int_equal(common(rig, VCOMMON_CONFIG_VECTOR, 4), QUEUES << 16 | 0xffff);
	assert_int_equal(common(rig, 56, 4), 0);
	assert_int_equal(common(rig, 54, 4), 0);
}

static void writes_of_a_wrong_width_are_ignored(void **state)
{
	struct rig *rig = *state;

	set_common(rig, VCOMMON_QUEUE_SELECT, 1, 1);
	assert_int_equal(common(rig, VCOMMON_QUEUE_SELECT, 2), 0);
	set_common(rig, VCOMMON_STATUS, 4, 1);
	assert_int_equal(vdriver_status(&rig->driver), 0);
	set_common(rig, VCOMMON_NUM_QUEUES, 2, 1);
	assert_int_equal(common(rig, VCOMMON_NUM_QUEUES, 2), QUEUES);
}

static void addresses_take_8_bytes_at_once(void **state)
{
	struct rig *rig = *state;

	set_common(rig, VCOMMON_QUEUE_DESC, 8, 0x1122334455667788);
	assert_int_equal(common(rig, VCOMMON_QUEUE_DESC, 8), 0x1122334455667788);
	assert_int_equal(common(rig, VCOMMON_QUEUE_DESC + 4, 4), 0x11223344);
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
	assert_int_equal(common(rig, VCOMMON_QUEUE_SELECT, 2), 1);
	set_common(rig, VCOMMON_QUEUE_SELECT, 2, 7);
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
	assert_int_equal(common(rig, VCOMMON_DEVICE_FEATURE_SELECT, 4), 0);
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

	set_common(rig, VCOMMON_DEVICE_FEATURE_SELECT, 4, 2);
	assert_int_equal(common(rig, VCOMMON_DEVICE_FEATURE, 4), 0);
	set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 2);
	set_common(rig, VCOMMON_DRIVER_FEATURE, 4, 1);
	assert_int_equal(rig->echo->state.driver_features, 0);
}

static uint8_t status_after_choosing(struct rig *rig, uint64_t features)
{
	assert_int_equal(vdriver_reset(&rig->driver), 0);
	set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 0);
	set_common(rig, VCOMMON_DRIVER_FEATURE, 4, (uint32_t)features);
	set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 1);
	set_common(rig, VCOMMON_DRIVER_FEATURE, 4, features >> 32);
	set_common(rig, VCOMMON_STATUS, 1, 3);
	set_common(rig, VCOMMON_STATUS, 1, 11);
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
	set_common(rig, VCOMMON_DRIVER_FEATURE_SELECT, 4, 0);
	set_common(rig, VCOMMON_DRIVER_FEATURE, 4, (uint32_t)FEATURE_OWN);
	assert_false(virtio_has_feature(&rig->echo->vdev, FEATURE_OWN));
}

static void driver_ok_needs_features_ok(void **state)
{
	struct rig *rig = *state;

	set_common(rig, VCOMMON_STATUS, 1, 7);
	assert_int_equal(vdriver_status(&rig->driver), 3);
}

static void status_bits_are_not_cleared_one_by_one(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	set_common(rig, VCOMMON_STATUS, 1, 1);
	assert_int_equal(vdriver_status(&rig->driver), 11);
	set_common(rig, VCOMMON_STATUS, 1, 0x40 | 0x10 | 1); /* not the driver's to set */
	assert_int_equal(vdriver_status(&rig->driver), 11);
}

/* ---- geometry ---- */

static void queue_select_is_checked_at_each_use(void **state)
{
	static const uint16_t selects[] = { QUEUES, 33, 34, 255, 65535 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(selects); i++) {
		set_common(rig, VCOMMON_QUEUE_SELECT, 2, selects[i]);
		assert_int_equal(common(rig, VCOMMON_QUEUE_SIZE, 2), 0);
		assert_int_equal(common(rig, VCOMMON_QUEUE_VECTOR, 2), 0xffff);
		set_common(rig, VCOMMON_QUEUE_SIZE, 2, 8);
		set_common(rig, VCOMMON_QUEUE_VECTOR, 2, 0);
		set_common(rig, VCOMMON_QUEUE_DESC, 4, 0x1000);
		set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 1);
		assert_int_equal(common(rig, VCOMMON_QUEUE_ENABLE, 2), 0);
	}
}

static void only_powers_of_two_are_sizes(void **state)
{
	static const uint16_t bad[] = { 0, 3, 12, SIZE + 1, 2 * SIZE, 65535 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		set_common(rig, VCOMMON_QUEUE_SIZE, 2, bad[i]);
		assert_int_equal(common(rig, VCOMMON_QUEUE_SIZE, 2), SIZE);
	}
	set_common(rig, VCOMMON_QUEUE_SIZE, 2, 4);
	assert_int_equal(common(rig, VCOMMON_QUEUE_SIZE, 2), 4);
}

static void vectors_that_do_not_exist_read_back_as_none(void **state)
{
	struct rig *rig = *state;

	set_common(rig, VCOMMON_CONFIG_VECTOR, 2, QUEUES);
	assert_int_equal(common(rig, VCOMMON_CONFIG_VECTOR, 2), QUEUES);
	set_common(rig, VCOMMON_CONFIG_VECTOR, 2, QUEUES + 1);
	assert_int_equal(common(rig, VCOMMON_CONFIG_VECTOR, 2), 0xffff);
	set_common(rig, VCOMMON_QUEUE_VECTOR, 2, 64);
	assert_int_equal(common(rig, VCOMMON_QUEUE_VECTOR, 2), 0xffff);
}

static void geometry_is_latched_at_activation(void **state)
{
	struct rig *rig = *state;
	uint64_t desc;

	set_common(rig, VCOMMON_QUEUE_SELECT, 2, 0);
	desc = common(rig, VCOMMON_QUEUE_DESC, 8);
	set_common(rig, VCOMMON_QUEUE_SIZE, 2, 2);
	set_common(rig, VCOMMON_QUEUE_DESC, 8, 0xc0000000);
	set_common(rig, VCOMMON_QUEUE_DEVICE, 8, 0xc0000000);
	set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 0);
	assert_int_equal(common(rig, VCOMMON_QUEUE_SIZE, 2), SIZE);
	assert_int_equal(common(rig, VCOMMON_QUEUE_DESC, 8), desc);
	assert_int_equal(common(rig, VCOMMON_QUEUE_ENABLE, 2), 1);
	request(rig, 0);
	assert_answered(rig, 0);
}

static void queue_enabled_too_late_stays_off(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	assert_int_equal(vqueue_setup(&rig->driver, 0, 0, &rig->queues[0]), 0);
	vdriver_go(&rig->driver);
	assert_int_equal(vqueue_setup(&rig->driver, 1, 0, &rig->queues[1]), 0);
	assert_int_equal(common(rig, VCOMMON_QUEUE_ENABLE, 2), 0);
	request(rig, 1);
	request(rig, 0);
	assert_answered(rig, 0);
	assert_int_equal(vqueue_get(&rig->queues[1], NULL, NULL), 0);
}

/* ---- work ---- */

static void requests_are_answered(void **state)
{
	struct rig *rig = *state;

	memcpy(vmachine_at(rig->m, rig->out, 8), "question", 8);
	for (unsigned int i = 0; i < 3 * SIZE; i++) {
		request(rig, i % QUEUES);
		assert_answered(rig, i % QUEUES);
	}
	assert_memory_equal(vmachine_at(rig->m, rig->in, 8), "question", 8);
}

static void each_queue_has_its_interrupt(void **state)
{
	struct rig *rig = *state;

	request(rig, 1);
	assert_answered(rig, 1);
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
	request(rig, 0);
	assert_answered(rig, 0);
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
	request(rig, 0);
	assert_answered(rig, 0);
}

static void configuration_change_is_told(void **state)
{
	struct rig *rig = *state;
	uint64_t generation = common(rig, VCOMMON_GENERATION, 1);

	virtio_config_update(&rig->echo->vdev, 0, "C", 1);
	assert_int_equal(common(rig, VCOMMON_GENERATION, 1), generation + 1);
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
	request(rig, 1);
	assert_answered(rig, 1);
	vdriver_config_write(&rig->driver, 4, 2, 0); /* decoding off */
	assert_false(vq->rings);
}

static void barrier_holds_requests_back(void **state)
{
	struct rig *rig = *state;

	quiesce_begin(&rig->m->quiesce);
	request(rig, 0);
	assert_int_equal(vqueue_wait(&rig->queues[0], 50, NULL, NULL), 0);
	quiesce_end(&rig->m->quiesce);
	assert_answered(rig, 0);
}

/* ---- misbehaviour ---- */

static void broken_queue_needs_a_reset(void **state)
{
	struct rig *rig = *state;

	vqueue_publish(&rig->queues[0], SIZE);
	vqueue_kick_anyway(&rig->queues[0]);
	assert_true(wait_for_status(rig, VSTATUS_OK | VSTATUS_NEEDS_RESET));
	assert_true(wait_for_count(&rig->m->interrupts[0], 1, SOON));
	/* The other queue does nothing more. */
	request(rig, 1);
	assert_int_equal(vqueue_wait(&rig->queues[1], 50, NULL, NULL), 0);
	bring_up(rig);
	request(rig, 0);
	assert_answered(rig, 0);
}

static void unfit_geometry_needs_a_reset(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	set_common(rig, VCOMMON_QUEUE_DESC, 8, 0xc0000000);
	set_common(rig, VCOMMON_QUEUE_ENABLE, 2, 1);
	vdriver_go(&rig->driver);
	assert_true(wait_for_status(rig, VSTATUS_OK | VSTATUS_NEEDS_RESET));
	bring_up(rig);
	request(rig, 0);
	assert_answered(rig, 0);
}

/* ---- reset ---- */

static void idle_device_resets_at_once(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vdriver_negotiate(&rig->driver, 0), 0);
	set_common(rig, VCOMMON_STATUS, 1, 0);
	assert_int_equal(vdriver_status(&rig->driver), 0);
	assert_int_equal(rig->echo->state.driver_features, 0);
}

static void reset_waits_for_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	uint8_t before[8];

	hold(rig->echo);
	request(rig, 0);
	request(rig, 1);
	assert_true(wait_for_count(&rig->echo->popped, 2, SOON));
	set_common(rig, VCOMMON_STATUS, 1, 0);
	usleep(20000);
	assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK);
	assert_true(rig->echo->vdev.device.ops->resetting(&rig->echo->vdev.device));
	/* Meanwhile nothing can be programmed. */
	set_common(rig, VCOMMON_STATUS, 1, 1);
	set_common(rig, VCOMMON_QUEUE_SELECT, 2, 1);
	assert_int_equal(common(rig, VCOMMON_QUEUE_SELECT, 2), QUEUES - 1);
	memcpy(before, vmachine_at(rig->m, rig->queues[0].used, 8), 8);
	let_go(rig->echo);
	assert_true(wait_for_status(rig, 0));
	assert_int_equal(__atomic_load_n(&rig->echo->idled, __ATOMIC_ACQUIRE), QUEUES);
	/* The late completions told nobody. */
	assert_memory_equal(before, vmachine_at(rig->m, rig->queues[0].used, 8), 8);
	assert_false(rig->echo->vdev.device.ops->resetting(&rig->echo->vdev.device));
	bring_up(rig);
	request(rig, 0);
	assert_answered(rig, 0);
}

static void registers_are_as_new_after_reset(void **state)
{
	struct rig *rig = *state;

	request(rig, 0);
	assert_answered(rig, 0);
	assert_int_equal(vdriver_reset(&rig->driver), 0);
	set_common(rig, VCOMMON_QUEUE_SELECT, 2, 0);
	assert_int_equal(common(rig, VCOMMON_QUEUE_ENABLE, 2), 0);
	assert_int_equal(common(rig, VCOMMON_QUEUE_DESC, 8), 0);
	assert_int_equal(common(rig, VCOMMON_QUEUE_VECTOR, 2), 0xffff);
	assert_int_equal(common(rig, VCOMMON_CONFIG_VECTOR, 2), 0xffff);
	assert_int_equal(rig->echo->state.queues[0].next_used, 0);
	assert_int_equal(rig->echo->state.driver_features, 0);
}

static void start_and_reset_in_one_breath(void **state)
{
	struct rig *rig = *state;

	for (unsigned int i = 0; i < 100; i++) {
		bring_up(rig);
		rig->m->heap = rig->in + MEMORY_PAGE_SIZE;
		assert_int_equal(vdriver_reset(&rig->driver), 0);
	}
	bring_up(rig);
	request(rig, 1);
	assert_answered(rig, 1);
}

static void machine_reset_with_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	struct device *device = &rig->echo->vdev.device;

	hold(rig->echo);
	request(rig, 0);
	assert_true(wait_for_count(&rig->echo->popped, 1, SOON));
	pthread_mutex_lock(&device->lock);
	device->ops->reset(device);
	pthread_mutex_unlock(&device->lock);
	assert_int_equal(vdriver_config_read(&rig->driver, 4, 2) & 2, 0);
	let_go(rig->echo);
	bring_up(rig);
	request(rig, 0);
	assert_answered(rig, 0);
}

static void stop_waits_for_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	struct device *device = &rig->echo->vdev.device;

	hold(rig->echo);
	request(rig, 0);
	assert_true(wait_for_count(&rig->echo->popped, 1, SOON));
	let_go(rig->echo); /* the worker may see this before the stop or after */
	device->ops->stop(device);
	assert_int_equal(rig->echo->n_held[0], 0);
}

/* ---- state ---- */

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
	add_device(rig, true);
	rig->out = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig->in = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	bring_up(rig);
	request(rig, 0);
	assert_answered(rig, 0);
	hold(rig->echo);
	request(rig, 0);
	request(rig, 0);
	request(rig, 1);
	assert_true(wait_for_count(&rig->echo->popped, 4, SOON));
	*state = pair;
	return 0;
}

static int free_pair(void **state)
{
	struct pair *pair = *state;

	let_go(pair->from.echo);
	vdevice_destroy(&pair->from.echo->vdev.device);
	vmachine_free(pair->from.m);
	if (pair->to.echo) {
		let_go(pair->to.echo);
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
	add_device(&pair->to, false);
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

	save_and_make_target(pair);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, &err),
			 0);
	assert_null(
		state_compare(&virtio_state_table, &pair->from.echo->state, &pair->to.echo->state));
	assert_int_equal(pair->to.echo->state.queues[0].n_inflight, 2);
	assert_int_equal(pair->to.echo->state.queues[1].n_inflight, 1);
	adopt_driver(pair);
	memcpy(vmachine_at(pair->to.m, pair->to.out, 8), "arrived!", 8);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	assert_answered(&pair->to, 0);
	assert_answered(&pair->to, 0);
	assert_answered(&pair->to, 1);
	assert_answered(&pair->to, 1);
	assert_memory_equal(vmachine_at(pair->to.m, pair->to.in, 8), "arrived!", 8);
	assert_true(vmachine_interrupts(pair->to.m, 1) > 0);
	request(&pair->to, 0);
	assert_answered(&pair->to, 0);
}

static void source_goes_on_after_a_save(void **state)
{
	struct pair *pair = *state;

	save_and_make_target(pair);
	let_go(pair->from.echo);
	assert_answered(&pair->from, 0);
	assert_answered(&pair->from, 0);
	assert_answered(&pair->from, 1);
}

/* A backup loads one checkpoint over the other, also over one that is at work. */
static void load_over_a_working_device(void **state)
{
	struct pair *pair = *state;

	save_and_make_target(pair);
	bring_up(&pair->to);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	hold(pair->to.echo);
	pair->to.out = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	pair->to.in = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	bring_up(&pair->to);
	request(&pair->to, 0);
	assert_true(wait_for_count(&pair->to.echo->popped, 1, SOON));

	quiesce_begin(&pair->to.m->quiesce);
	vmachine_copy_memory(pair->to.m, pair->from.m);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	quiesce_end(&pair->to.m->quiesce);
	adopt_driver(pair);
	let_go(pair->to.echo);
	assert_answered(&pair->to, 0);
	assert_answered(&pair->to, 0);
	assert_answered(&pair->to, 1);
	assert_answered(&pair->to, 1);
	assert_int_equal(vqueue_wait(&pair->to.queues[0], 20, NULL, NULL), 0);
}

static void reset_under_way_is_finished_by_the_load(void **state)
{
	struct pair *pair = *state;

	set_common(&pair->from, VCOMMON_STATUS, 1, 0);
	assert_int_equal(vdriver_status(&pair->from.driver), VSTATUS_OK);
	save_and_make_target(pair);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	adopt_driver(pair);
	assert_int_equal(vdriver_status(&pair->to.driver), 0);
	assert_int_equal(pair->to.echo->state.queues[0].n_inflight, 0);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	bring_up(&pair->to);
	request(&pair->to, 0);
	assert_answered(&pair->to, 0);
}

static void broken_device_stays_broken_elsewhere(void **state)
{
	struct pair *pair = *state;

	vqueue_publish(&pair->from.queues[0], SIZE);
	vqueue_kick_anyway(&pair->from.queues[0]);
	assert_true(wait_for_status(&pair->from, VSTATUS_OK | VSTATUS_NEEDS_RESET));
	save_and_make_target(pair);
	assert_int_equal(vdevice_load(pair->to.m, &pair->to.echo->vdev.device, &pair->stream, NULL),
			 0);
	assert_int_equal(vdevice_start(&pair->to.echo->vdev.device), 0);
	adopt_driver(pair);
	assert_int_equal(vdriver_status(&pair->to.driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
	assert_int_equal(vqueue_wait(&pair->to.queues[1], 20, NULL, NULL), 0);
	bring_up(&pair->to);
	request(&pair->to, 0);
	assert_answered(&pair->to, 0);
}

static void load_refuses_another_device(void **state)
{
	static const struct {
		uint64_t features;
		unsigned int queues;
	} others[] = { { FEATURE_OWN, QUEUES }, { FEATURE_OWN | FEATURE_UNWANTED, QUEUES - 1 } };
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
	bring_up(&pair->to);
	pair->to.out = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	pair->to.in = vmachine_alloc(pair->to.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	request(&pair->to, 0);
	assert_answered(&pair->to, 0);
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
	REFUSED(pci.n_msix, 1);
	REFUSED(config_msix_vector, QUEUES + 1);
	REFUSED(driver_features, VIRTIO_F_VERSION_1 | 1);
	REFUSED(driver_features, 0);
	REFUSED(status, 4);
	REFUSED(queues[1].size, 3);
	REFUSED(queues[1].msix_vector, QUEUES + 1);
	REFUSED(queues[0].enabled, 0);
	REFUSED(queues[0].inflight[1], bad->queues[0].inflight[0]);
#undef REFUSED
	free(bad);
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
#define PAIR(name) cmocka_unit_test_setup_teardown(name, make_pair, free_pair)

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
		PAIR(busy_device_goes_on_elsewhere),
		PAIR(source_goes_on_after_a_save),
		PAIR(load_over_a_working_device),
		PAIR(reset_under_way_is_finished_by_the_load),
		PAIR(broken_device_stays_broken_elsewhere),
		PAIR(load_refuses_another_device),
		PAIR(damaged_state_does_no_harm),
		PAIR(check_names_contradictions),
		cmocka_unit_test(nothing_is_left_of_a_device_that_could_not_be_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
