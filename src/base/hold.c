/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hold.h"

#include <assert.h>
#include <errno.h>

void hold_init(struct hold *hold, const struct clock *clock, uint64_t epoch, bool shut)
{
	assert(epoch);
	*hold = (struct hold){ .clock = clock, .epoch = epoch, .shut = shut, .open = !shut };
	list_init(&hold->lanes);
	pthread_mutex_init(&hold->lock, NULL);
}

void hold_destroy(struct hold *hold)
{
	assert(list_empty(&hold->lanes));
	pthread_mutex_destroy(&hold->lock);
}

static uint64_t epoch_now(const struct hold *hold)
{
	return __atomic_load_n(&hold->epoch, __ATOMIC_ACQUIRE);
}

static bool is_shut(const struct hold *hold)
{
	return __atomic_load_n(&hold->shut, __ATOMIC_ACQUIRE);
}

static void set_shut(struct hold *hold, bool shut)
{
	pthread_mutex_lock(&hold->lock);
	hold->open = !shut;
	pthread_mutex_unlock(&hold->lock);
	__atomic_store_n(&hold->shut, shut, __ATOMIC_RELEASE);
}

static void poke_all(struct hold *hold)
{
	struct list *item, *next;

	list_for_each(item, next, &hold->lanes) {
		struct hold_lane *lane = container_of(item, struct hold_lane, link);

		lane->params.poke(lane->params.ctx);
	}
}

void hold_shut(struct hold *hold)
{
	set_shut(hold, true);
}

void hold_open(struct hold *hold)
{
	set_shut(hold, false);
	poke_all(hold);
}

void hold_cut(struct hold *hold, uint64_t epoch)
{
	assert(epoch >= hold->epoch && epoch < UINT64_MAX);
	__atomic_store_n(&hold->epoch, epoch + 1, __ATOMIC_RELEASE);
}

/* Those that are old by now are as one, the last of them. */
static void forget_old_locked(struct hold *hold, uint64_t now_ns)
{
	unsigned int old = 0;

	while (old + 1 < hold->n_acks && hold->acks[old + 1].at_ns + HOLD_AGE_NS < now_ns)
		old++;
	for (unsigned int i = 0; old && i + old < hold->n_acks; i++)
		hold->acks[i] = hold->acks[i + old];
	hold->n_acks -= old;
}

static void note_ack_locked(struct hold *hold, uint64_t epoch, uint64_t at_ns)
{
	struct hold_ack *last = hold->n_acks ? &hold->acks[hold->n_acks - 1] : NULL;

	hold->acked = epoch;
	if (last)
		at_ns = MAX(at_ns, last->at_ns);
	forget_old_locked(hold, at_ns);
	last = hold->n_acks ? &hold->acks[hold->n_acks - 1] : NULL;
	/* Within a grain, or (which the grain rules out) no place: it counts as older than it is. */
	if (last && (at_ns - last->at_ns < HOLD_GRAIN_NS || hold->n_acks == HOLD_ACKS))
		last->epoch = epoch;
	else
		hold->acks[hold->n_acks++] = (struct hold_ack){ epoch, at_ns };
}

void hold_release(struct hold *hold, uint64_t epoch, uint64_t at_ns)
{
	bool is_new;

	/* What is still coming out cannot be in anybody's hands. */
	epoch = MIN(epoch, epoch_now(hold) - 1);
	pthread_mutex_lock(&hold->lock);
	is_new = epoch > hold->acked;
	if (is_new)
		note_ack_locked(hold, epoch, at_ns);
	pthread_mutex_unlock(&hold->lock);
	if (is_new)
		poke_all(hold);
}

static void add(uint64_t *count, uint64_t n)
{
	__atomic_store_n(count, *count + n, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

void hold_lane_publish(struct hold_lane *lane)
{
	struct hold_counts *counts = &lane->counts;
	uint64_t position = lane->queue.head;
	struct epoch_item first = { .epoch = UINT64_MAX, .at_ns = UINT64_MAX };
	struct iovec iov[2];

	epoch_queue_at(&lane->queue, &position, &first, iov);
	__atomic_store_n(&counts->items, lane->queue.n_items, __ATOMIC_RELAXED);
	__atomic_store_n(&counts->bytes, lane->queue.n_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&counts->first_at_ns, first.at_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&counts->first_epoch, first.epoch, __ATOMIC_RELEASE);
}

void hold_drop_all(struct hold *hold)
{
	struct list *item, *next;

	list_for_each(item, next, &hold->lanes) {
		struct hold_lane *lane = container_of(item, struct hold_lane, link);

		add(&lane->counts.lost, lane->queue.n_items);
		lane->offset += lane->queue.n_bytes;
		epoch_queue_clear(&lane->queue);
		hold_lane_publish(lane);
	}
	poke_all(hold);
}

uint64_t hold_released(struct hold *hold)
{
	struct list *item, *next;
	uint64_t first = UINT64_MAX, may;

	/* First what may leave, then what is still there: what comes between belongs to the present epoch. */
	pthread_mutex_lock(&hold->lock);
	may = hold->open ? epoch_now(hold) - 1 : hold->acked;
	pthread_mutex_unlock(&hold->lock);
	list_for_each(item, next, &hold->lanes) {
		const struct hold_lane *lane = container_of(item, struct hold_lane, link);

		first = MIN(first, get(&lane->counts.first_epoch));
	}
	return MIN(may, first - 1);
}

int hold_lane_add(struct hold *hold, const struct hold_lane_params *params, struct hold_lane *lane)
{
	int r;

	if (params->size <= EPOCH_ITEM_OVERHEAD || !params->longest ||
	    params->longest > params->size - EPOCH_ITEM_OVERHEAD || params->longest > UINT32_MAX)
		return -EINVAL;
	*lane = (struct hold_lane){ .hold = hold, .params = *params };
	r = epoch_queue_init(&lane->queue, params->size);
	if (r < 0)
		return r;
	hold_lane_publish(lane);
	list_append(&hold->lanes, &lane->link);
	return 0;
}

void hold_lane_remove(struct hold_lane *lane)
{
	if (!lane->hold)
		return;
	list_remove(&lane->link);
	epoch_queue_release(&lane->queue);
	lane->hold = NULL;
}

bool hold_lane_passes(struct hold_lane *lane)
{
	return !lane->queue.n_items && !is_shut(lane->hold);
}

void hold_lane_passed(struct hold_lane *lane, size_t n)
{
	lane->offset += n;
	add(&lane->counts.passed, 1);
}

static struct epoch_item new_item(const struct hold_lane *lane, size_t len)
{
	return (struct epoch_item){
		.epoch = epoch_now(lane->hold),
		.at_ns = clock_now(lane->hold->clock),
		.len = len,
	};
}

int hold_lane_put(struct hold_lane *lane, const struct iovec *iov, unsigned int n_iov, size_t len)
{
	struct epoch_item item = new_item(lane, len);

	assert(len && len <= lane->params.longest);
	if (len > epoch_queue_room(&lane->queue)) {
		add(&lane->counts.refused, 1);
		return -EAGAIN;
	}
	epoch_queue_put(&lane->queue, &item, iov, n_iov);
	add(&lane->counts.held, 1);
	hold_lane_publish(lane);
	return 0;
}

size_t hold_lane_put_bytes(struct hold_lane *lane, const void *bytes, size_t len)
{
	struct epoch_item item = new_item(lane, 0);
	size_t n = epoch_queue_extend(&lane->queue, item.epoch, bytes, len);
	const struct iovec rest = { (void *)((uintptr_t)bytes + n), len - n };

	item.len = MIN(rest.iov_len, epoch_queue_room(&lane->queue));
	if (item.len) {
		epoch_queue_put(&lane->queue, &item, &rest, 1);
		add(&lane->counts.held, 1);
	}
	n += item.len;
	if (n < len)
		add(&lane->counts.refused, 1);
	hold_lane_publish(lane);
	return n;
}

/* An epoch's acknowledgement is the first that covers it. */
static bool is_old_locked(const struct hold *hold, uint64_t epoch)
{
	for (unsigned int i = 0; i < hold->n_acks; i++)
		if (hold->acks[i].epoch >= epoch)
			return clock_now(hold->clock) > hold->acks[i].at_ns + HOLD_AGE_NS;
	return false;
}

enum verdict { STAYS, LEAVES, IS_DROPPED };

static enum verdict judge(const struct hold_lane *lane, uint64_t epoch)
{
	struct hold *hold = lane->hold;
	enum verdict verdict = STAYS;

	pthread_mutex_lock(&hold->lock);
	if (hold->open)
		verdict = LEAVES;
	else if (epoch <= hold->acked)
		verdict = lane->params.ages && is_old_locked(hold, epoch) ? IS_DROPPED : LEAVES;
	pthread_mutex_unlock(&hold->lock);
	return verdict;
}

unsigned int hold_lane_next(struct hold_lane *lane, struct iovec ret_iov[2])
{
	for (;;) {
		uint64_t position = lane->queue.head;
		struct epoch_item item;
		unsigned int n = epoch_queue_at(&lane->queue, &position, &item, ret_iov);
		enum verdict verdict = n ? judge(lane, item.epoch) : STAYS;

		if (verdict == STAYS)
			return 0;
		if (verdict == LEAVES)
			return n;
		lane->offset += item.len;
		epoch_queue_take(&lane->queue, item.len);
		add(&lane->counts.aged, 1);
		hold_lane_publish(lane);
	}
}

static unsigned int time_bin(uint64_t ns)
{
	uint64_t us = MAX(ns / NSEC_PER_USEC, 1U);
	unsigned int octave = 63U - (unsigned int)__builtin_clzll(us);
	unsigned int quarter = octave >= 2 ? (us >> (octave - 2)) & 3 : (us << (2 - octave)) & 3;

	return MIN(octave * 4 + quarter, HOLD_TIMES - 1U);
}

void hold_lane_took(struct hold_lane *lane, size_t n, bool lost)
{
	uint64_t position = lane->queue.head;
	struct epoch_item item;
	struct iovec iov[2];

	epoch_queue_at(&lane->queue, &position, &item, iov);
	epoch_queue_take(&lane->queue, n);
	lane->offset += n;
	if (lost) {
		add(&lane->counts.lost, 1);
	} else if (n == item.len) {
		add(&lane->counts.left, 1);
		add(&lane->counts.times[time_bin(clock_now(lane->hold->clock) - item.at_ns)], 1);
	}
	hold_lane_publish(lane);
}

void hold_lane_count(const struct hold_lane *lane, struct hold_counts *ret_counts)
{
	const uint64_t *from = &lane->counts.items;
	uint64_t *to = &ret_counts->items;

	_Static_assert(sizeof(struct hold_counts) % sizeof(*from) == 0, "numbers only");
	for (size_t i = 0; i < sizeof(*ret_counts) / sizeof(*from); i++)
		to[i] = get(from + i);
}

void hold_counts_add(struct hold_counts *sum, const struct hold_counts *counts)
{
	sum->items += counts->items;
	sum->bytes += counts->bytes;
	sum->first_epoch = MIN(sum->first_epoch, counts->first_epoch);
	sum->first_at_ns = MIN(sum->first_at_ns, counts->first_at_ns);
	sum->passed += counts->passed;
	sum->held += counts->held;
	sum->left += counts->left;
	sum->aged += counts->aged;
	sum->lost += counts->lost;
	sum->refused += counts->refused;
	for (unsigned int i = 0; i < HOLD_TIMES; i++)
		sum->times[i] += counts->times[i];
}

uint64_t hold_counts_time(const struct hold_counts *counts, unsigned int per_mille)
{
	uint64_t all = 0, below = 0;
	unsigned int bin = 0;

	for (unsigned int i = 0; i < HOLD_TIMES; i++)
		all += counts->times[i];
	if (!all)
		return 0;
	while (bin < HOLD_TIMES - 1 && (below += counts->times[bin]) * 1000 < all * per_mille)
		bin++;
	/* The bin's end: (4 + quarter + 1) quarters of its octave. */
	return ((uint64_t)(5 + bin % 4) << (bin / 4)) * NSEC_PER_USEC / 4;
}
