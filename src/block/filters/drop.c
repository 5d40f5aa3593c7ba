/* SPDX-License-Identifier: Apache-2.0 */

/* A disk that does not answer until it is told to: requests stay in flight as long as a test wants. */

#include "block/filters/filter.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>

#include "base/fd.h"

struct drop {
	struct block_filter filter;
	unsigned int ops;
	bool holding;	 /* atomic */
	uint32_t n_held; /* atomic */
	pthread_mutex_t lock;
	struct list queues; /* under lock */
};

struct drop_queue {
	struct block_filter_queue queue;
	struct list link;	   /* of drop->queues */
	struct list held;	   /* oldest first */
	struct loop_watch release; /* an eventfd, from any thread */
};

static struct drop *from_block(struct block *block)
{
	return container_of(block, struct drop, filter.block);
}

static struct drop_queue *from_filter_queue(struct block_filter_queue *fq)
{
	return container_of(fq, struct drop_queue, queue);
}

static struct drop *drop_of(struct drop_queue *dq)
{
	return container_of(dq->queue.filter, struct drop, filter);
}

static enum filter_verdict drop_submitted(struct block_filtered *twin)
{
	struct drop_queue *dq = from_filter_queue(twin->queue);
	struct drop *drop = drop_of(dq);

	if (!block_filter_wants(drop->ops, &twin->request) ||
	    !__atomic_load_n(&drop->holding, __ATOMIC_ACQUIRE))
		return FILTER_PASS;
	list_append(&dq->held, &twin->link);
	__atomic_add_fetch(&drop->n_held, 1, __ATOMIC_RELEASE);
	return FILTER_HELD;
}

static void drop_released(struct loop_watch *watch, uint32_t events _unused_)
{
	struct drop_queue *dq = container_of(watch, struct drop_queue, release);
	struct drop *drop = drop_of(dq);

	fd_clear_event(watch->fd);
	while (!list_empty(&dq->held) && !__atomic_load_n(&drop->holding, __ATOMIC_ACQUIRE)) {
		struct block_filtered *twin = container_of(dq->held.next, struct block_filtered,
							   link);

		list_remove(&twin->link);
		__atomic_sub_fetch(&drop->n_held, 1, __ATOMIC_RELEASE);
		block_filtered_pass(twin);
	}
	block_kick(dq->queue.below);
}

static int drop_opened(struct block_filter_queue *fq)
{
	struct drop_queue *dq = from_filter_queue(fq);
	struct drop *drop = drop_of(dq);
	int r;

	list_init(&dq->held);
	dq->release = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN,
		.ready = drop_released,
	};
	r = dq->release.fd < 0 ? dq->release.fd : loop_add(fq->loop, &dq->release);
	if (r < 0) {
		fd_close(dq->release.fd);
		return r;
	}
	pthread_mutex_lock(&drop->lock);
	list_append(&drop->queues, &dq->link);
	pthread_mutex_unlock(&drop->lock);
	return 0;
}

static void drop_closing(struct block_filter_queue *fq)
{
	struct drop_queue *dq = from_filter_queue(fq);
	struct drop *drop = drop_of(dq);

	pthread_mutex_lock(&drop->lock);
	list_remove(&dq->link);
	pthread_mutex_unlock(&drop->lock);
	loop_remove(fq->loop, &dq->release);
	fd_close(dq->release.fd);
}

static void drop_destroying(struct block_filter *filter)
{
	pthread_mutex_destroy(&container_of(filter, struct drop, filter)->lock);
}

static const struct block_filter_hooks drop_hooks = {
	.queue_size = sizeof(struct drop_queue),
	.opened = drop_opened,
	.closing = drop_closing,
	.submitted = drop_submitted,
	.destroying = drop_destroying,
};

void block_drop_hold(struct block *block, bool hold)
{
	struct drop *drop = from_block(block);
	struct list *item, *next;

	__atomic_store_n(&drop->holding, hold, __ATOMIC_RELEASE);
	pthread_mutex_lock(&drop->lock);
	list_for_each(item, next, &drop->queues)
		fd_signal_event(container_of(item, struct drop_queue, link)->release.fd);
	pthread_mutex_unlock(&drop->lock);
}

uint32_t block_drop_held(const struct block *block)
{
	return __atomic_load_n(&container_of(block, struct drop, filter.block)->n_held,
			       __ATOMIC_ACQUIRE);
}

int block_drop_new(unsigned int ops, struct block *below, struct block **ret_block)
{
	struct drop *drop = block_filter_new(sizeof(*drop), &drop_hooks, below);

	if (!drop)
		return -ENOMEM;
	drop->ops = ops;
	drop->holding = true;
	pthread_mutex_init(&drop->lock, NULL);
	list_init(&drop->queues);
	*ret_block = &drop->filter.block;
	return 0;
}
