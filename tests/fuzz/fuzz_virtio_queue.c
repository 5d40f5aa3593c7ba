/* SPDX-License-Identifier: Apache-2.0 */

/* covers: virtio/queue.c virtio/iov.c
 *
 * A script of what a driver can write to its rings and what a device does with them. Whatever comes in,
 * chains stay inside RAM and inside their bound, and the queue's state stays one that could be saved.
 */

#include <stdlib.h>
#include <string.h>

#include "virtio/feature_bits.h"
#include "virtio/queue.h"

#define RAM MIB(8)
#define HOLE_START MIB(4)
#define HOLE_END MIB(20)
#define DESC 0x10000
#define AVAIL 0x20000
#define USED 0x30000
#define TABLE 0x40000 /* for indirect descriptors */
#define CHAINS 8
#define STEPS_MAX 512

struct rig {
	struct memory *memory;
	struct virtio_queue_state state;
	struct virtio_queue queue;
	uint64_t features;
	struct virtio_chain chains[CHAINS]; /* popped and not pushed */
	unsigned int n_chains;
	uint16_t avail_idx;
};

static void must(bool what_holds)
{
	if (!what_holds)
		abort();
}

static void *guest(struct rig *rig, uint64_t address, size_t len)
{
	void *p = memory_at(rig->memory, gpa(address), len, MEMORY_WRITE);

	must(p);
	return p;
}

/* An address that is worth trying, near to one of the borders. */
static uint64_t address_of(struct cursor *in)
{
	static const uint64_t places[] = {
		0,	    0x1000,	DESC,	  AVAIL, USED,
		TABLE,	    HOLE_START, HOLE_END, RAM,	 HOLE_END + HOLE_START,
		0xc0000000, UINT64_MAX,
	};
	uint8_t place = (uint8_t)cursor_take_le(in, 1);
	int8_t near = (int8_t)cursor_take_le(in, 1);

	return places[place % ARRAY_SIZE(places)] + (uint64_t)((int64_t)near * 16);
}

static uint32_t length_of(struct cursor *in)
{
	uint16_t word = (uint16_t)cursor_take_le(in, 2);

	/* Mostly small, sometimes as large as they come. */
	return word & 0x8000 ? (uint32_t)word << 17 : word & 0x1fff;
}

static void write_descriptor(struct rig *rig, struct cursor *in)
{
	uint64_t table = cursor_take_le(in, 1) & 1 ? TABLE : DESC;
	uint64_t index = cursor_take_le(in, 2) % LIMIT_QUEUE_SIZE;
	uint8_t *desc = guest(rig, table + 16 * index, 16);
	uint64_t address = address_of(in);
	uint32_t len = length_of(in);
	uint16_t flags = (uint16_t)cursor_take_le(in, 1), next = (uint16_t)cursor_take_le(in, 2);

	memcpy(desc, &address, 8);
	memcpy(desc + 8, &len, 4);
	memcpy(desc + 12, &flags, 2);
	memcpy(desc + 14, &next, 2);
}

static void publish(struct rig *rig, struct cursor *in)
{
	uint16_t head = (uint16_t)cursor_take_le(in, 2);
	uint16_t size = MAX(rig->state.size, 1);

	memcpy(guest(rig, AVAIL + 4 + 2u * (rig->avail_idx % size), 2), &head, 2);
	rig->avail_idx++;
	memcpy(guest(rig, AVAIL + 2, 2), &rig->avail_idx, 2);
}

/* Any 16 bits of the rings: indices, flags, event indices. */
static void scribble(struct rig *rig, struct cursor *in)
{
	uint64_t ring = cursor_take_le(in, 1) & 1 ? AVAIL : USED;
	uint64_t offset = cursor_take_le(in, 2) % 0x4000;
	uint16_t value = (uint16_t)cursor_take_le(in, 2);

	memcpy(guest(rig, ring + offset, 2), &value, 2);
}

static void check_chain(struct rig *rig, const struct virtio_chain *chain)
{
	uint64_t out = 0, all = 0;

	must(chain->n_out + chain->n_in <= VIRTIO_CHAIN_MAX);
	for (unsigned int i = 0; i < chain->n_out + chain->n_in; i++) {
		must(chain->iov[i].iov_len > 0);
		must(chain->iov[i].iov_base ==
		     memory_at(rig->memory, chain->at[i], chain->iov[i].iov_len, MEMORY_READ));
		all += chain->iov[i].iov_len;
		out += i < chain->n_out ? chain->iov[i].iov_len : 0;
	}
	must(out == chain->out_len && all - out == chain->in_len);
}

static void pop(struct rig *rig, struct cursor *in _unused_)
{
	struct virtio_chain *chain = &rig->chains[rig->n_chains];
	int r;

	if (rig->n_chains == CHAINS)
		return;
	r = virtio_queue_pop(&rig->queue, chain);
	if (r <= 0)
		return;
	check_chain(rig, chain);
	rig->n_chains++;
}

static void drop(struct rig *rig, unsigned int i)
{
	rig->n_chains--;
	memmove(&rig->chains[i], &rig->chains[i + 1], (rig->n_chains - i) * sizeof(rig->chains[0]));
}

static void push(struct rig *rig, struct cursor *in)
{
	unsigned int i = (unsigned int)cursor_take_le(in, 1);
	uint32_t written = length_of(in);

	if (!rig->n_chains)
		return;
	i %= rig->n_chains;
	virtio_queue_push(&rig->queue, &rig->chains[i], written);
	drop(rig, i);
}

static void unpop(struct rig *rig, struct cursor *in _unused_)
{
	if (!rig->n_chains)
		return;
	virtio_queue_unpop(&rig->queue, &rig->chains[rig->n_chains - 1]);
	rig->n_chains--;
}

static void copy(struct rig *rig, struct cursor *in)
{
	uint8_t bytes[256] = { 0 };
	size_t offset = length_of(in), len = cursor_take_le(in, 1);
	struct virtio_chain *chain;
	size_t n;

	if (!rig->n_chains)
		return;
	chain = &rig->chains[rig->n_chains - 1];
	n = iov_to_buf(chain->iov, chain->n_out, offset, bytes, len);
	must(n == (offset < chain->out_len ? MIN(len, chain->out_len - offset) : 0));
	n = iov_from_buf(virtio_chain_in(chain), chain->n_in, offset, bytes, len);
	must(n == (offset < chain->in_len ? MIN(len, chain->in_len - offset) : 0));
}

static void start(struct rig *rig)
{
	virtio_queue_stop(&rig->queue);
	if (virtio_queue_start(&rig->queue, rig->memory, &rig->state, rig->features) < 0)
		rig->queue.started = false;
}

/* A load: requests in flight are read again. What was popped is known by the list alone. */
static void restart(struct rig *rig, struct cursor *in _unused_)
{
	start(rig);
	rig->n_chains = 0;
	for (uint32_t i = 0; i < rig->state.n_inflight && rig->n_chains < CHAINS; i++) {
		struct virtio_chain *chain = &rig->chains[rig->n_chains];

		if (virtio_queue_refetch(&rig->queue, i, chain) < 0)
			break;
		check_chain(rig, chain);
		rig->n_chains++;
	}
}

static void reset(struct rig *rig, struct cursor *in)
{
	uint64_t desc = DESC, driver = AVAIL, device = USED;

	rig->features = (cursor_take_le(in, 1) & 3) * VIRTIO_F_INDIRECT_DESC;
	virtio_queue_stop(&rig->queue);
	virtio_queue_state_reset(&rig->state);
	rig->state.size = (uint16_t)(1u << (cursor_take_le(in, 1) % 11));
	switch (cursor_take_le(in, 1)) {
	case 0:
		desc = address_of(in);
		break;
	case 1:
		driver = address_of(in) + 1;
		break;
	case 2:
		device = address_of(in);
		break;
	case 3:
		rig->state.size = (uint16_t)cursor_take_le(in, 2);
		break;
	default:
		break;
	}
	rig->state.desc = desc;
	rig->state.driver = driver;
	rig->state.device = device;
	rig->n_chains = 0;
	rig->avail_idx = 0;
	memset(guest(rig, AVAIL, 4), 0, 4);
	start(rig);
}

/* A state from a stream: any indices, any list. Only what the check accepts is ever started. */
static void load(struct rig *rig, struct cursor *in)
{
	struct virtio_queue_state loaded = rig->state;
	unsigned int n = (unsigned int)(cursor_take_le(in, 1) % 8);

	loaded.next_avail = (uint16_t)cursor_take_le(in, 2);
	loaded.next_used = (uint16_t)cursor_take_le(in, 2);
	loaded.signalled_used = (uint16_t)cursor_take_le(in, 2);
	loaded.signalled_valid = (uint8_t)(cursor_take_le(in, 1) % 3);
	loaded.size = (uint16_t)(cursor_take_le(in, 1) & 1 ? cursor_take_le(in, 2) : loaded.size);
	loaded.n_inflight = n;
	for (unsigned int i = 0; i < n; i++)
		loaded.inflight[i] = (uint16_t)cursor_take_le(in, 2);
	if (virtio_queue_state_check(&loaded) < 0)
		return;
	virtio_queue_stop(&rig->queue);
	rig->state = loaded;
	restart(rig, in);
}

static void signal_driver(struct rig *rig, struct cursor *in _unused_)
{
	virtio_queue_should_signal(&rig->queue);
}

static void kicks(struct rig *rig, struct cursor *in)
{
	if (cursor_take_le(in, 1) & 1)
		virtio_queue_disable_kicks(&rig->queue);
	else
		virtio_queue_enable_kicks(&rig->queue);
}

static void stop(struct rig *rig, struct cursor *in _unused_)
{
	virtio_queue_stop(&rig->queue);
	must(!virtio_queue_has_avail(&rig->queue));
}

static void (*const steps[])(struct rig *rig, struct cursor *in) = {
	write_descriptor, publish, pop,	 push, unpop,	      copy,  scribble,
	restart,	  reset,   load, stop, signal_driver, kicks, write_descriptor,
	publish,	  pop,
};

static void run(struct rig *rig, struct cursor *in)
{
	for (unsigned int i = 0; i < STEPS_MAX && in->left; i++) {
		steps[cursor_take_le(in, 1) % ARRAY_SIZE(steps)](rig, in);
		if (rig->queue.started)
			must(virtio_queue_state_check(&rig->state) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct cursor in = { .data = data, .left = size };

	must(rig && memory_create(RAM, HOLE_START, HOLE_END, MEMORY_HUGE_OFF, -1, &rig->memory,
				  NULL) == 0);
	rig->state.max_size = LIMIT_QUEUE_SIZE;
	reset(rig, &in);
	run(rig, &in);
	memory_free(rig->memory);
	free(rig);
	return 0;
}
