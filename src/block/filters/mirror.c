/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A mirrored disk: what is written goes into the mirror's ring, and from there to the disk.
 *
 *   write --> [room in the ring? nothing that overlaps below?] --yes--> entry --> below, from the ring's copy --> done
 *                        | no: waits, and all later writes of its queue behind it; looked at when a write ends, and each millisecond
 *
 * A large write is several entries, one after the other. A DISCARD becomes WRITE_ZEROES on both sides: what it leaves on a disk is that disk's affair, and
 * the two must be the same. Of a write that fails the mirror has all, the disk what it will: the guest knows that nothing is certain there.
 *
 * Reads and flushes pass at once. One that overlaps a write that waits may see it or not, as on any disk; a FLUSH promises only what had ended when it was
 * submitted, and what waits has not.
 */

#include "block/filters/filter.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "block/mirror.h"

#define LOOK_AGAIN_NS NSEC_PER_MSEC

struct mirror {
	struct block_filter filter;
	uint32_t disk;
	/* changed while the queues' threads stand */
	struct mirror_ring *ring; /* NULL: nothing is mirrored */
	uint32_t era;		  /* rings before this one */

	uint32_t n_strays;    /* atomic: writes below that began in an era before */
	pthread_mutex_t lock; /* a leaf */
	struct list queues;   /* under lock */
	struct list claims;   /* under lock: of flights */
};

/* What a write's twin has beside it. */
struct flight {
	struct list claim; /* its range is no other's meanwhile */
	bool claims;	   /* the queue's thread's: others change the links */
	uint64_t from, to; /* of the claim: bytes of the disk */
	bool below;
	uint32_t era;	/* of what is, or was, below */
	uint64_t ended; /* bytes that are written, where it needs several entries */
	struct mirror_ring *ring;
	struct mirror_entry *entry; /* in `ring`, not done; NULL: none */
	struct iovec iov;
};

struct mirror_queue {
	struct block_filter_queue queue;
	struct list link;    /* of mirror->queues */
	struct list waiting; /* twins, in order */
	struct loop_timer timer;
	uint32_t n_below;	/* writes */
	struct flight *flights; /* one for each twin */
};

static struct mirror *from_block(const struct block *block)
{
	return container_of(block, struct mirror, filter.block);
}

static struct mirror_queue *from_filter_queue(struct block_filter_queue *fq)
{
	return container_of(fq, struct mirror_queue, queue);
}

static struct mirror *mirror_of(const struct mirror_queue *mq)
{
	return container_of(mq->queue.filter, struct mirror, filter);
}

static struct flight *flight_of(const struct block_filtered *twin)
{
	return &from_filter_queue(twin->queue)->flights[twin - twin->queue->twins];
}

static bool writes(const struct block_request *request)
{
	return request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
}

/* ---- order: of writes that overlap one at a time is below ---- */

/* There are as many claims as the guest's disk has requests in flight, mostly few. */
static bool overlaps_locked(const struct mirror *mirror, const struct flight *flight)
{
	const struct list *item;

	for (item = mirror->claims.next; item != &mirror->claims; item = item->next) {
		const struct flight *other = container_of(item, struct flight, claim);

		if (other->from < flight->to && flight->from < other->to)
			return true;
	}
	return false;
}

static bool claim(struct mirror *mirror, struct flight *flight, const struct block_request *above)
{
	bool free;

	if (flight->claims)
		return true;
	flight->from = above->offset;
	flight->to = above->offset + above->len;
	pthread_mutex_lock(&mirror->lock);
	free = !overlaps_locked(mirror, flight);
	if (free)
		list_append(&mirror->claims, &flight->claim);
	pthread_mutex_unlock(&mirror->lock);
	flight->claims = free;
	return free;
}

static void unclaim(struct mirror *mirror, struct flight *flight)
{
	if (!flight->claims)
		return;
	flight->claims = false;
	pthread_mutex_lock(&mirror->lock);
	list_remove(&flight->claim);
	pthread_mutex_unlock(&mirror->lock);
}

/* ---- going below ---- */

static void take_off(struct mirror_queue *mq, struct flight *flight)
{
	flight->below = true;
	flight->era = mirror_of(mq)->era;
	mq->n_below++;
}

static void land(struct mirror_queue *mq, struct flight *flight)
{
	struct mirror *mirror = mirror_of(mq);

	flight->below = false;
	mq->n_below--;
	if (flight->era != mirror->era)
		__atomic_sub_fetch(&mirror->n_strays, 1, __ATOMIC_RELEASE);
	if (flight->entry)
		mirror_ring_done(flight->ring, TAKE_PTR(flight->entry));
}

static void as_submitted(struct block_filtered *twin)
{
	const struct block_request *above = twin->above;

	twin->request.op = above->op;
	twin->request.unmap = above->unmap;
	twin->request.offset = above->offset;
	twin->request.len = above->len;
	twin->request.iov = above->iov;
	twin->request.n_iov = above->n_iov;
}

static void become_write(struct block_filtered *twin, uint64_t len, void *data)
{
	struct flight *flight = flight_of(twin);

	flight->iov = (struct iovec){ data, len };
	twin->request.offset = twin->above->offset + flight->ended;
	twin->request.len = len;
	twin->request.iov = &flight->iov;
	twin->request.n_iov = 1;
}

static void become_zeroes(struct block_filtered *twin)
{
	twin->request.unmap |= twin->request.op == BLOCK_DISCARD;
	twin->request.op = BLOCK_WRITE_ZEROES;
}

/* Puts what is next of it into the ring: 0, or -EAGAIN without room. */
static int put(struct mirror *mirror, struct block_filtered *twin)
{
	const struct block_request *above = twin->above;
	const bool has_data = above->op == BLOCK_WRITE;
	struct flight *flight = flight_of(twin);
	const struct mirror_entry entry = {
		.kind = has_data ? MIRROR_WRITE : MIRROR_ZEROES,
		.disk = mirror->disk,
		.offset = above->offset + flight->ended,
		.len = has_data ? MIN(above->len - flight->ended, MIRROR_DATA_MAX) : above->len,
		.unmap = above->op == BLOCK_DISCARD || (!has_data && above->unmap),
	};
	void *data;
	int r = mirror_ring_put_part(mirror->ring, &entry, above->iov, above->n_iov, flight->ended,
				     &flight->entry, &data);

	if (r < 0)
		return r;
	flight->ring = mirror->ring;
	if (has_data)
		become_write(twin, entry.len, data);
	else
		become_zeroes(twin);
	return 0;
}

/* Makes a write ready to go below: 0, or -EAGAIN: it waits. */
static int prepare(struct mirror *mirror, struct block_filtered *twin)
{
	struct flight *flight = flight_of(twin);

	/* The parts that ended have no entry in this ring: from the beginning. */
	if (flight->ended && flight->era != mirror->era)
		flight->ended = 0;
	if (!mirror->ring) {
		as_submitted(twin);
		return 0;
	}
	if (!block_mirror_settled(&mirror->filter.block) || !claim(mirror, flight, twin->above))
		return -EAGAIN;
	return put(mirror, twin);
}

static void look_again_later(struct mirror_queue *mq)
{
	struct loop *loop = mq->queue.loop;

	if (list_empty(&mq->waiting))
		loop_timer_cancel(&mq->timer);
	else
		loop_timer_arm(loop, &mq->timer, clock_now(loop_clock(loop)) + LOOK_AGAIN_NS);
}

/* Sends below what can go, in order: true when something did. */
static bool look(struct mirror_queue *mq)
{
	bool any = false;

	if (list_empty(&mq->waiting))
		return false;
	while (!list_empty(&mq->waiting)) {
		struct block_filtered *twin = container_of(mq->waiting.next, struct block_filtered,
							   link);

		if (prepare(mirror_of(mq), twin) < 0)
			break;
		list_remove(&twin->link);
		take_off(mq, flight_of(twin));
		block_filtered_pass(twin);
		any = true;
	}
	look_again_later(mq);
	return any;
}

/* ---- hooks ---- */

static void timer_expired(struct loop_timer *timer)
{
	struct mirror_queue *mq = container_of(timer, struct mirror_queue, timer);

	if (look(mq))
		block_kick(mq->queue.below);
}

static enum filter_verdict mirror_submitted(struct block_filtered *twin)
{
	struct mirror_queue *mq = from_filter_queue(twin->queue);
	struct flight *flight = flight_of(twin);

	if (!writes(twin->above))
		return FILTER_PASS;
	flight->ended = 0;
	if (list_empty(&mq->waiting) && prepare(mirror_of(mq), twin) == 0) {
		take_off(mq, flight);
		return FILTER_PASS;
	}
	list_append(&mq->waiting, &twin->link);
	if (mq->waiting.next == &twin->link)
		look_again_later(mq);
	return FILTER_HELD;
}

/* Whether there is more of it to write. */
static bool goes_on(const struct block_filtered *twin)
{
	struct flight *flight = flight_of(twin);

	if (twin->result < 0)
		return false;
	flight->ended += twin->request.len;
	return flight->ended < twin->above->len;
}

static enum filter_verdict mirror_completed(struct block_filtered *twin)
{
	struct mirror_queue *mq = from_filter_queue(twin->queue);
	struct flight *flight = flight_of(twin);
	bool more;

	if (!writes(twin->above))
		return FILTER_PASS;
	land(mq, flight);
	more = goes_on(twin);
	if (more) /* before all that waits, which may wait for its range */
		list_append(mq->waiting.next, &twin->link);
	else
		unclaim(mirror_of(mq), flight);
	mq->queue.kick_waiting |= look(mq);
	return more ? FILTER_HELD : FILTER_PASS;
}

static int mirror_opened(struct block_filter_queue *fq)
{
	struct mirror_queue *mq = from_filter_queue(fq);
	struct mirror *mirror = mirror_of(mq);

	mq->flights = calloc(fq->depth, sizeof(mq->flights[0]));
	if (!mq->flights)
		return -ENOMEM;
	list_init(&mq->waiting);
	loop_timer_init(&mq->timer, timer_expired);
	pthread_mutex_lock(&mirror->lock);
	list_append(&mirror->queues, &mq->link);
	pthread_mutex_unlock(&mirror->lock);
	return 0;
}

/* The disk touches nothing of the ring any more. */
static void mirror_closing(struct block_filter_queue *fq)
{
	struct mirror_queue *mq = from_filter_queue(fq);
	struct mirror *mirror = mirror_of(mq);

	for (unsigned int i = 0; i < fq->depth; i++) {
		if (mq->flights[i].below)
			land(mq, &mq->flights[i]);
		unclaim(mirror, &mq->flights[i]);
	}
	pthread_mutex_lock(&mirror->lock);
	list_remove(&mq->link);
	pthread_mutex_unlock(&mirror->lock);
	loop_timer_cancel(&mq->timer);
	free(mq->flights);
}

static void mirror_destroying(struct block_filter *filter)
{
	pthread_mutex_destroy(&container_of(filter, struct mirror, filter)->lock);
}

static const struct block_filter_hooks mirror_hooks = {
	.queue_size = sizeof(struct mirror_queue),
	.opened = mirror_opened,
	.closing = mirror_closing,
	.submitted = mirror_submitted,
	.completed = mirror_completed,
	.destroying = mirror_destroying,
};

/* ---- from outside ---- */

void block_mirror_set(struct block *block, struct mirror_ring *ring)
{
	struct mirror *mirror = from_block(block);
	struct list *item, *next;
	uint32_t n = 0;

	pthread_mutex_lock(&mirror->lock);
	list_for_each(item, next, &mirror->queues)
		n += container_of(item, struct mirror_queue, link)->n_below;
	pthread_mutex_unlock(&mirror->lock);
	mirror->ring = ring;
	mirror->era++;
	__atomic_store_n(&mirror->n_strays, n, __ATOMIC_RELEASE);
}

bool block_mirror_settled(const struct block *block)
{
	return !__atomic_load_n(&from_block(block)->n_strays, __ATOMIC_ACQUIRE);
}

int block_mirror_new(uint32_t disk, struct block *below, struct block **ret_block)
{
	struct mirror *mirror = block_filter_new(sizeof(*mirror), &mirror_hooks, below);

	if (!mirror)
		return -ENOMEM;
	mirror->disk = disk;
	/* What discards become must be possible. */
	mirror->filter.block.geometry.can_discard &= below->geometry.can_write_zeroes;
	pthread_mutex_init(&mirror->lock, NULL);
	list_init(&mirror->queues);
	list_init(&mirror->claims);
	*ret_block = &mirror->filter.block;
	return 0;
}
