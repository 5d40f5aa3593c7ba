/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "bus/request.h"

#define QUEUE_SIZE 64
#define BYTES_PER_REQUEST 4096 /* the driver asks again for more (virtio 1.2, 5.4.6) */
#define BYTES_PER_WINDOW KIB(64)
#define WINDOW_NS (100 * NSEC_PER_MSEC)
#define CHAINS_PER_TURN 16 /* then others, and the barrier, have their turn */

struct virtio_rng {
	struct virtio_device vdev;
	struct virtio_state state;
	/* Worker's thread. Pace is the host's business: not saved. */
	struct loop_timer refill;
	uint64_t window_end; /* ns */
	uint64_t left;	     /* bytes to give in this window */
	struct virtio_chain chain;
	uint8_t bytes[BYTES_PER_REQUEST];
};

static struct virtio_rng *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_rng, vdev);
}

static struct loop *rng_loop(struct virtio_rng *rng)
{
	return worker_loop(rng->vdev.queues[0].worker);
}

/* Begins a new window when the old one is over; false while it is used up, then the timer is armed. */
static bool within_quota(struct virtio_rng *rng)
{
	uint64_t now = clock_now(loop_clock(rng_loop(rng)));

	if (now >= rng->window_end) {
		rng->window_end = now + WINDOW_NS;
		rng->left = BYTES_PER_WINDOW;
	}
	if (!rng->left)
		loop_timer_arm(rng_loop(rng), &rng->refill, rng->window_end);
	return rng->left > 0;
}

static int fill(uint8_t *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = getrandom(bytes + done, len - done, 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += (size_t)MAX(n, 0);
	}
	return 0;
}

static int answer(struct virtio_rng *rng, struct virtio_queue *queue)
{
	struct virtio_chain *chain = &rng->chain;
	size_t len = MIN(MIN(chain->in_len, rng->left), BYTES_PER_REQUEST);
	uint64_t begin = request_begin(&rng->vdev.device);
	int r = fill(rng->bytes, len);

	if (r < 0)
		return r;
	iov_from_buf(virtio_chain_in(chain), chain->n_in, 0, rng->bytes, len);
	request_moved(&rng->vdev.device, 0, REQUEST_READ, begin, len);
	virtio_queue_push(queue, chain, (uint32_t)len);
	/* A request without room costs too: nothing is free for ever. */
	rng->left -= MAX(len, 1);
	return 0;
}

/* Answers some requests: 1 when there may be more, 0 when done or out of quota. */
static int serve(struct virtio_rng *rng, struct virtio_queue *queue)
{
	for (unsigned int i = 0; i < CHAINS_PER_TURN; i++) {
		int r;

		if (!within_quota(rng))
			return 0;
		r = virtio_queue_pop(queue, &rng->chain);
		if (r == 0 && !virtio_queue_enable_kicks(queue))
			return 0;
		if (r > 0)
			r = answer(rng, queue);
		if (r < 0)
			return r;
	}
	return 1;
}

static void rng_kicked(struct virtio_vq *vq)
{
	int r = serve(from_vdev(vq->vdev), &vq->queue);

	virtio_queue_signal(vq);
	if (r < 0)
		virtio_device_broken(vq->vdev);
	else if (r > 0)
		virtio_queue_again(vq);
}

static void rng_refill(struct loop_timer *timer)
{
	struct virtio_rng *rng = container_of(timer, struct virtio_rng, refill);

	virtio_queue_again(&rng->vdev.queues[0]);
}

/* A request is answered in the call that popped it: only a foreign state has some in flight. */
static int rng_started(struct virtio_vq *vq)
{
	struct virtio_rng *rng = from_vdev(vq->vdev);

	while (vq->queue.state->n_inflight) {
		int r = virtio_queue_refetch(&vq->queue, 0, &rng->chain);

		if (r < 0)
			return r;
		virtio_queue_push(&vq->queue, &rng->chain, 0);
	}
	return 0;
}

static void rng_stopping(struct virtio_vq *vq)
{
	loop_timer_cancel(&from_vdev(vq->vdev)->refill);
	virtio_queue_idle(vq);
}

static void rng_destroy(struct virtio_device *vdev)
{
	virtio_device_release(vdev);
	free(from_vdev(vdev));
}

static const struct virtio_ops rng_ops = {
	.queue_started = rng_started,
	.queue_kicked = rng_kicked,
	.queue_stopping = rng_stopping,
	.destroy = rng_destroy,
};

int virtio_rng_new(const struct virtio_host *host, struct device **ret_device, struct error *err)
{
	const struct virtio_params params = {
		.name = "virtio-rng",
		.id = VIRTIO_ID_RNG,
		.n_queues = 1,
		.queue_size = QUEUE_SIZE,
		.n_workers = 1,
		.ops = &rng_ops,
	};
	struct virtio_rng *rng = calloc(1, sizeof(*rng));
	int r;

	if (!rng)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "virtio-rng: out of memory");
	loop_timer_init(&rng->refill, rng_refill);
	r = virtio_device_init(&rng->vdev, &rng->state, &params, host, err);
	if (r < 0) {
		free(rng);
		return r;
	}
	*ret_device = &rng->vdev.device;
	return 0;
}
