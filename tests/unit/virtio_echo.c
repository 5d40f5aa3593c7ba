/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_echo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"

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

const struct virtio_ops echo_ops = {
	.queue_started = echo_started,
	.queue_kicked = echo_kicked,
	.queue_stopping = echo_stopping,
	.config_written = echo_config_written,
	.negotiated = echo_negotiated,
	.destroy = echo_destroy,
};

struct echo *echo_new(struct vmachine *m, uint64_t features, unsigned int queues)
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

void rig_add_device(struct rig *rig, bool start)
{
	rig->m = vmachine_new(MIB(8), NULL);
	assert_non_null(rig->m);
	rig->echo = echo_new(rig->m, FEATURE_OWN | FEATURE_UNWANTED, QUEUES);
	if (start)
		assert_int_equal(vdevice_start(&rig->echo->vdev.device), 0);
}

/* A device that is started, found, and reset: the driver has not begun. */
int make_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_add_device(rig, true);
	assert_int_equal(vdriver_find(rig->m, VIRTIO_ID_RNG, &rig->driver), 0);
	rig->out = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig->in = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	*state = rig;
	return 0;
}

void rig_bring_up(struct rig *rig)
{
	assert_int_equal(vdriver_setup(rig->m, VIRTIO_ID_RNG,
				       VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | FEATURE_OWN,
				       &rig->driver, rig->queues, QUEUES),
			 0);
}

/* A device in use. */
int make_working_rig(void **state)
{
	make_rig(state);
	rig_bring_up(*state);
	return 0;
}

int free_rig(void **state)
{
	struct rig *rig = *state;

	vdevice_destroy(&rig->echo->vdev.device);
	vmachine_free(rig->m);
	free(rig);
	return 0;
}

uint64_t rig_common(struct rig *rig, unsigned int offset, unsigned int size)
{
	return vdriver_read(&rig->driver, VREGION_COMMON, offset, size);
}

void rig_set_common(struct rig *rig, unsigned int offset, unsigned int size, uint64_t value)
{
	vdriver_write(&rig->driver, VREGION_COMMON, offset, size, value);
}

void rig_request(struct rig *rig, unsigned int queue)
{
	const struct vbuffer buffers[] = { { rig->out, 8, false }, { rig->in, 8, true } };

	assert_true(vqueue_add(&rig->queues[queue], buffers, 2) >= 0);
	vqueue_kick(&rig->queues[queue]);
}

void echo_hold(struct echo *echo)
{
	__atomic_store_n(&echo->hold, true, __ATOMIC_RELEASE);
}

void echo_let_go(struct echo *echo)
{
	__atomic_store_n(&echo->hold, false, __ATOMIC_RELEASE);
	fd_signal_event(echo->release.fd);
}

void rig_assert_answered(struct rig *rig, unsigned int queue)
{
	uint32_t len;

	assert_int_equal(vqueue_wait(&rig->queues[queue], SOON, NULL, &len), 1);
	assert_int_equal(len, 8);
}

bool rig_wait_for_status(struct rig *rig, uint8_t status)
{
	for (unsigned int i = 0; i < SOON; i++) {
		if (vdriver_status(&rig->driver) == status)
			return true;
		usleep(1000);
	}
	return false;
}
