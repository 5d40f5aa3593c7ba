/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/queue.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "virtio/feature_bits.h"

/* The rings as they lie in guest memory (virtio 1.2, 2.7.5 to 2.7.8). */
struct descriptor {
	le64_t addr;
	le32_t len;
	le16_t flags;
	le16_t next;
};
#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define DESC_F_INDIRECT 4

struct avail_ring {
	le16_t flags;
	le16_t idx;
	le16_t ring[]; /* `size` heads, then used_event */
};
#define AVAIL_F_NO_INTERRUPT 1

struct used_element {
	le32_t id;
	le32_t len;
};

struct used_ring {
	le16_t flags;
	le16_t idx;
	struct used_element ring[]; /* `size` elements, then avail_event */
};
#define USED_F_NO_NOTIFY 1

_Static_assert(sizeof(struct descriptor) == 16, "virtio 1.2, 2.7.5");
_Static_assert(sizeof(struct avail_ring) == 4, "virtio 1.2, 2.7.6");
_Static_assert(sizeof(struct used_element) == 8, "virtio 1.2, 2.7.8");

static const struct state_field u16_fields[] = {
	{ .name = "head", .type = STATE_U16, .size = 2, .count = 1, .since = 1 },
};

static const struct state_table u16_table = {
	.name = "head",
	.version = 1,
	.min_version = 1,
	.size = sizeof(uint16_t),
	.fields = u16_fields,
	.n_fields = ARRAY_SIZE(u16_fields),
};

static const struct state_field queue_fields[] = {
	STATE_FIELD_U16(struct virtio_queue_state, size),
	{ .name = "max_size",
	  .type = STATE_U16,
	  .offset = offsetof(struct virtio_queue_state, max_size),
	  .size = 2,
	  .count = 1,
	  .since = 1,
	  .must_equal = true },
	STATE_FIELD_U8(struct virtio_queue_state, enabled),
	STATE_FIELD_U16(struct virtio_queue_state, msix_vector),
	STATE_FIELD_U64(struct virtio_queue_state, desc),
	STATE_FIELD_U64(struct virtio_queue_state, driver),
	STATE_FIELD_U64(struct virtio_queue_state, device),
	STATE_FIELD_U16(struct virtio_queue_state, next_avail),
	STATE_FIELD_U16(struct virtio_queue_state, next_used),
	STATE_FIELD_U16(struct virtio_queue_state, signalled_used),
	STATE_FIELD_U8(struct virtio_queue_state, signalled_valid),
	STATE_FIELD_VARRAY(struct virtio_queue_state, inflight, n_inflight, &u16_table),
};

const struct state_table virtio_queue_state_table = {
	.name = "virtio-queue",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct virtio_queue_state),
	.fields = queue_fields,
	.n_fields = ARRAY_SIZE(queue_fields),
};

static bool is_size(uint16_t size, uint16_t max)
{
	return size > 0 && size <= max && (size & (size - 1)) == 0;
}

static bool head_is_busy(const uint64_t *busy, uint16_t head)
{
	return busy[head / 64] >> (head % 64) & 1;
}

static void head_set_busy(uint64_t *busy, uint16_t head)
{
	busy[head / 64] |= 1ULL << (head % 64);
}

static void head_set_free(uint64_t *busy, uint16_t head)
{
	busy[head / 64] &= ~(1ULL << (head % 64));
}

/* Fills the set of heads from the list; -EINVAL when one lies outside the queue or comes twice. */
static int collect_busy(const struct virtio_queue_state *state, uint64_t *busy)
{
	if (state->n_inflight > state->size || state->size > LIMIT_QUEUE_SIZE)
		return -EINVAL;
	memset(busy, 0, LIMIT_QUEUE_SIZE / 8);
	for (uint32_t i = 0; i < state->n_inflight; i++) {
		uint16_t head = state->inflight[i];

		if (head >= state->size || head_is_busy(busy, head))
			return -EINVAL;
		head_set_busy(busy, head);
	}
	return 0;
}

int virtio_queue_state_check(const struct virtio_queue_state *state)
{
	uint64_t busy[LIMIT_QUEUE_SIZE / 64];

	if (!is_size(state->max_size, LIMIT_QUEUE_SIZE) || !is_size(state->size, state->max_size))
		return -EINVAL;
	if (state->enabled > 1 || state->signalled_valid > 1)
		return -EINVAL;
	return collect_busy(state, busy);
}

void virtio_queue_state_reset(struct virtio_queue_state *state)
{
	uint16_t max_size = state->max_size;

	*state = (struct virtio_queue_state){
		.size = max_size,
		.max_size = max_size,
		.msix_vector = VIRTIO_NO_VECTOR,
	};
}

static size_t desc_bytes(uint16_t size)
{
	return sizeof(struct descriptor) * size;
}

static size_t avail_bytes(uint16_t size)
{
	return sizeof(struct avail_ring) + sizeof(le16_t) * (size + 1u);
}

static size_t used_bytes(uint16_t size)
{
	return sizeof(struct used_ring) + sizeof(struct used_element) * size + sizeof(le16_t);
}

/* One part of the queue: aligned and in one bank, or NULL. */
static void *part_at(struct memory *memory, uint64_t address, size_t len, unsigned int align,
		     enum memory_direction direction)
{
	if (!IS_ALIGNED(address, align))
		return NULL;
	return memory_at(memory, gpa(address), len, direction);
}

int virtio_queue_start(struct virtio_queue *queue, struct memory *memory,
		       struct virtio_queue_state *state, uint64_t features)
{
	struct virtio_queue q = {
		.state = state,
		.memory = memory,
		.started = true,
		.event_idx = (features & VIRTIO_F_EVENT_IDX) != 0,
		.indirect = (features & VIRTIO_F_INDIRECT_DESC) != 0,
		.size = state->size,
		.used_at = gpa(state->device),
		.avail_shadow = state->next_avail,
		/* A queue that worked before may owe an interrupt since its state was saved. */
		.pushed = state->next_avail || state->next_used || state->signalled_valid,
	};

	if (!is_size(q.size, LIMIT_QUEUE_SIZE) || collect_busy(state, q.busy) < 0)
		return -EINVAL;
	q.desc = part_at(memory, state->desc, desc_bytes(q.size), 16, MEMORY_READ);
	q.avail = part_at(memory, state->driver, avail_bytes(q.size), 2, MEMORY_READ);
	q.used = part_at(memory, state->device, used_bytes(q.size), 4, MEMORY_WRITE);
	if (!q.desc || !q.avail || !q.used)
		return -EINVAL;
	*queue = q;
	return 0;
}

void virtio_queue_stop(struct virtio_queue *queue)
{
	queue->started = false;
}

static int queue_break(struct virtio_queue *queue)
{
	queue->broken = true;
	return -EPROTO;
}

static uint16_t slot_of(const struct virtio_queue *queue, uint16_t position)
{
	return position & (uint16_t)(queue->size - 1);
}

/* Loads and stores of ring fields that the driver's CPU uses at the same time. */
static uint16_t load16(const le16_t *p, int order)
{
	return le16toh(__atomic_load_n(&p->raw, order));
}

static void store16(le16_t *p, uint16_t v, int order)
{
	__atomic_store_n(&p->raw, htole16(v), order);
}

static void mark_used(struct virtio_queue *queue, size_t offset, size_t len)
{
	memory_mark_dirty(queue->memory, gpa(queue->used_at.v + offset), len);
}

/* Reads the avail index where the last one read is used up: how many chains wait, -EPROTO when the driver
 * claims more than the ring holds. The acquire orders the reads of heads and descriptors after it. */
static int chains_waiting(struct virtio_queue *queue)
{
	struct avail_ring *avail = queue->avail;
	uint16_t n;

	if (queue->avail_shadow == queue->state->next_avail)
		queue->avail_shadow = load16(&avail->idx, __ATOMIC_ACQUIRE);
	n = (uint16_t)(queue->avail_shadow - queue->state->next_avail);
	return n > queue->size ? queue_break(queue) : n;
}

bool virtio_queue_has_avail(struct virtio_queue *queue)
{
	return queue->started && !queue->broken && chains_waiting(queue) != 0;
}

/* One descriptor, copied once: the barrier keeps the compiler from reading the guest's copy again. */
static struct descriptor fetch(const void *table, uint32_t index)
{
	struct descriptor copy;

	memcpy(&copy, (const struct descriptor *)table + index, sizeof(copy));
	__asm__ volatile("" : : : "memory");
	return copy;
}

/* Appends the buffer that `desc` names. -EPROTO: not RAM, too many, or readable after writable. */
static int add_buffer(struct virtio_queue *queue, struct virtio_chain *chain,
		      const struct descriptor *desc)
{
	bool in = le16_get(desc->flags) & DESC_F_WRITE;
	gpa_t at = gpa(le64_get(desc->addr));
	uint32_t len = le32_get(desc->len);
	unsigned int n = chain->n_out + chain->n_in;
	void *host;

	if (n == VIRTIO_CHAIN_MAX || (!in && chain->n_in))
		return -EPROTO;
	if (!len)
		return 0;
	host = memory_at(queue->memory, at, len, in ? MEMORY_WRITE : MEMORY_READ);
	if (!host)
		return -EPROTO;
	chain->iov[n] = (struct iovec){ .iov_base = host, .iov_len = len };
	chain->at[n] = at;
	if (in) {
		chain->n_in++;
		chain->in_len += len;
	} else {
		chain->n_out++;
		chain->out_len += len;
	}
	return 0;
}

/* A table of descriptors and how many of them may still be followed: a cycle ends there. */
struct walk {
	const void *table;
	uint32_t entries;
	uint32_t left;
	bool indirect;
};

/* Turns the walk to the table that `desc` names. It must be the chain's last, and no table nests
 * (virtio 1.2, 2.7.5.3). The WRITE flag means nothing here. An empty table has no first entry to follow. */
static int enter_indirect(struct virtio_queue *queue, struct walk *walk,
			  const struct descriptor *desc)
{
	uint32_t len = le32_get(desc->len);
	uint32_t entries = (uint32_t)(len / sizeof(struct descriptor));

	if (!queue->indirect || walk->indirect || (le16_get(desc->flags) & DESC_F_NEXT))
		return -EPROTO;
	if (len % sizeof(struct descriptor) || entries > LIMIT_QUEUE_SIZE)
		return -EPROTO;
	*walk = (struct walk){
		.table = memory_at(queue->memory, gpa(le64_get(desc->addr)), len, MEMORY_READ),
		.entries = entries,
		.left = entries,
		.indirect = true,
	};
	return walk->table ? 0 : -EPROTO;
}

static int read_chain(struct virtio_queue *queue, uint16_t head, struct virtio_chain *chain)
{
	struct walk walk = { .table = queue->desc, .entries = queue->size, .left = queue->size };
	uint16_t index = head;

	chain->head = head;
	chain->n_out = chain->n_in = 0;
	chain->out_len = chain->in_len = 0;
	while (index < walk.entries && walk.left--) {
		struct descriptor desc = fetch(walk.table, index);
		uint16_t flags = le16_get(desc.flags);
		bool to_table = flags & DESC_F_INDIRECT;
		int r = to_table ? enter_indirect(queue, &walk, &desc)
				 : add_buffer(queue, chain, &desc);

		if (r < 0)
			return r;
		if (!to_table && !(flags & DESC_F_NEXT))
			return 0;
		index = to_table ? 0 : le16_get(desc.next);
	}
	return -EPROTO;
}

int virtio_queue_pop(struct virtio_queue *queue, struct virtio_chain *chain)
{
	struct virtio_queue_state *state = queue->state;
	struct avail_ring *avail = queue->avail;
	uint16_t head;
	int n;

	if (!queue->started)
		return 0;
	if (queue->broken)
		return -EPROTO;
	n = chains_waiting(queue);
	if (n <= 0)
		return n;
	head = load16(&avail->ring[slot_of(queue, state->next_avail)], __ATOMIC_RELAXED);
	if (head >= queue->size || head_is_busy(queue->busy, head))
		return queue_break(queue);
	if (read_chain(queue, head, chain) < 0)
		return queue_break(queue);
	head_set_busy(queue->busy, head);
	/* Heads are distinct and below size: there is room. */
	state->inflight[state->n_inflight++] = head;
	state->next_avail++;
	return 1;
}

int virtio_queue_refetch(struct virtio_queue *queue, uint32_t index, struct virtio_chain *chain)
{
	if (!queue->started || queue->broken || index >= queue->state->n_inflight)
		return -EPROTO;
	if (read_chain(queue, queue->state->inflight[index], chain) < 0)
		return queue_break(queue);
	return 0;
}

/* Takes `head` off the list, which keeps its order. In order of popping this finds it first. */
static void forget_inflight(struct virtio_queue *queue, uint16_t head)
{
	struct virtio_queue_state *state = queue->state;
	uint32_t i = 0;

	while (i < state->n_inflight && state->inflight[i] != head)
		i++;
	if (i == state->n_inflight)
		return;
	state->n_inflight--;
	memmove(&state->inflight[i], &state->inflight[i + 1],
		(state->n_inflight - i) * sizeof(state->inflight[0]));
	head_set_free(queue->busy, head);
}

void virtio_queue_unpop(struct virtio_queue *queue, const struct virtio_chain *chain)
{
	struct virtio_queue_state *state = queue->state;

	if (!queue->started || !state->n_inflight ||
	    state->inflight[state->n_inflight - 1] != chain->head)
		return;
	state->n_inflight--;
	head_set_free(queue->busy, chain->head);
	state->next_avail--;
}

void virtio_queue_unpop_all(struct virtio_queue *queue)
{
	struct virtio_queue_state *state = queue->state;

	while (queue->started && state->n_inflight) {
		head_set_free(queue->busy, state->inflight[--state->n_inflight]);
		state->next_avail--;
	}
}

/* The pages behind the first `written` bytes of the writable buffers. */
static void mark_written(struct virtio_queue *queue, const struct virtio_chain *chain,
			 uint64_t written)
{
	for (unsigned int i = chain->n_out; written && i < chain->n_out + chain->n_in; i++) {
		uint64_t len = MIN(written, chain->iov[i].iov_len);

		memory_mark_dirty(queue->memory, chain->at[i], len);
		written -= len;
	}
}

void virtio_queue_place(struct virtio_queue *queue, const struct virtio_chain *chain,
			uint32_t written)
{
	struct virtio_queue_state *state = queue->state;
	struct used_ring *used = queue->used;
	struct used_element *element;
	uint32_t len = (uint32_t)MIN((uint64_t)written, chain->in_len);

	if (!queue->started)
		return;
	element = &used->ring[slot_of(queue, state->next_used)];
	mark_written(queue, chain, len);
	element->id = le32_make(chain->head);
	element->len = le32_make(len);
	mark_used(queue, (size_t)((char *)element - (char *)used), sizeof(*element));
	forget_inflight(queue, chain->head);
	state->next_used++;
}

void virtio_queue_publish(struct virtio_queue *queue)
{
	struct used_ring *used = queue->used;

	if (!queue->started)
		return;
	/* The driver that sees the index sees the elements and the buffers. */
	store16(&used->idx, queue->state->next_used, __ATOMIC_RELEASE);
	mark_used(queue, 0, sizeof(*used));
	queue->pushed = true;
}

void virtio_queue_push(struct virtio_queue *queue, const struct virtio_chain *chain,
		       uint32_t written)
{
	virtio_queue_place(queue, chain, written);
	virtio_queue_publish(queue);
}

/* Behind each ring lies the other side's event index (virtio 1.2, 2.7.7, 2.7.10). */
static const le16_t *used_event(const struct virtio_queue *queue)
{
	const struct avail_ring *avail = queue->avail;

	return &avail->ring[queue->size];
}

static bool driver_wants_signal(struct virtio_queue *queue)
{
	struct virtio_queue_state *state = queue->state;
	const struct avail_ring *avail = queue->avail;
	uint16_t old = state->signalled_used, now = state->next_used, event;
	bool valid = state->signalled_valid;

	if (!queue->event_idx)
		return !(load16(&avail->flags, __ATOMIC_RELAXED) & AVAIL_F_NO_INTERRUPT);
	event = load16(used_event(queue), __ATOMIC_RELAXED);
	state->signalled_used = now;
	state->signalled_valid = 1;
	/* Whether `event` lies in [old, now), in a ring of 65536 positions. */
	return !valid || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

bool virtio_queue_should_signal(struct virtio_queue *queue)
{
	if (!queue->started || !queue->pushed)
		return false;
	queue->pushed = false;
	/* Full barrier: the driver stores its wish, then looks at the used index; we the other way round
	 * (virtio 1.2, 2.7.7.2). */
	__sync_synchronize();
	return driver_wants_signal(queue);
}

static void write_avail_event(struct virtio_queue *queue, uint16_t position)
{
	size_t offset = used_bytes(queue->size) - sizeof(le16_t);

	store16((le16_t *)((char *)queue->used + offset), position, __ATOMIC_RELAXED);
	mark_used(queue, offset, sizeof(le16_t));
}

static void write_used_flags(struct virtio_queue *queue, uint16_t flags)
{
	struct used_ring *used = queue->used;

	if (load16(&used->flags, __ATOMIC_RELAXED) == flags)
		return;
	store16(&used->flags, flags, __ATOMIC_RELAXED);
	mark_used(queue, 0, sizeof(*used));
}

bool virtio_queue_enable_kicks(struct virtio_queue *queue)
{
	if (!queue->started || queue->broken)
		return false;
	if (queue->event_idx)
		write_avail_event(queue, queue->state->next_avail);
	else
		write_used_flags(queue, 0);
	/* Full barrier: our wish is visible before the avail index is read again. */
	__sync_synchronize();
	return virtio_queue_has_avail(queue);
}

void virtio_queue_disable_kicks(struct virtio_queue *queue)
{
	/* With event indices the driver stays quiet by itself once past the last one given. */
	if (queue->started && !queue->event_idx)
		write_used_flags(queue, USED_F_NO_NOTIFY);
}
