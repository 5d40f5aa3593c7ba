/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/order.h"

#include <stdlib.h>

struct entry {
	uint64_t key, arrival;
	uint32_t slot, ring;
};

struct order {
	uint32_t count, max;
	uint64_t arrivals;
	struct entry *heap;
	/* Slots that hold nothing, the one used last on top: few requests stay in few pages. */
	uint32_t *empty;
	struct watch_record *slots;
};

struct order *order_new(uint32_t max)
{
	struct order *order = calloc(1, sizeof(*order));

	if (!order)
		return NULL;
	order->max = max;
	order->heap = calloc(max, sizeof(order->heap[0]));
	order->empty = calloc(max, sizeof(order->empty[0]));
	order->slots = calloc(max, sizeof(order->slots[0]));
	if (!order->heap || !order->empty || !order->slots) {
		order_free(order);
		return NULL;
	}
	for (uint32_t i = 0; i < max; i++)
		order->empty[i] = max - 1 - i;
	return order;
}

void order_free(struct order *order)
{
	if (!order)
		return;
	free(order->heap);
	free(order->empty);
	free(order->slots);
	free(order);
}

struct watch_record *order_slot(struct order *order)
{
	if (order_is_full(order))
		return NULL;
	return &order->slots[order->empty[order->max - order->count - 1]];
}

static bool is_before(const struct entry *a, const struct entry *b)
{
	return a->key != b->key ? a->key < b->key : a->arrival < b->arrival;
}

void order_add(struct order *order, uint32_t ring, uint64_t key)
{
	struct entry *heap = order->heap;
	uint32_t at = order->count++;
	const struct entry entry = {
		.key = key,
		.arrival = order->arrivals++,
		.slot = order->empty[order->max - order->count],
		.ring = ring,
	};

	for (; at && is_before(&entry, &heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = entry;
}

uint32_t order_count(const struct order *order)
{
	return order->count;
}

bool order_is_full(const struct order *order)
{
	return order->count == order->max;
}

uint64_t order_first(const struct order *order)
{
	return order->heap[0].key;
}

/* Puts the last entry where the first was. */
static void close_gap(struct order *order)
{
	struct entry *heap = order->heap;
	const struct entry last = heap[order->count];
	uint32_t at = 0, child;

	while ((child = 2 * at + 1) < order->count) {
		if (child + 1 < order->count && is_before(&heap[child + 1], &heap[child]))
			child++;
		if (!is_before(&heap[child], &last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
}

void order_take(struct order *order, struct watch_record *ret_record, uint32_t *ret_ring)
{
	const struct entry first = order->heap[0];

	order->count--;
	order->empty[order->max - order->count - 1] = first.slot;
	*ret_record = order->slots[first.slot];
	*ret_ring = first.ring;
	close_gap(order);
}
