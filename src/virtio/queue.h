/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The split virtqueue (virtio 1.2, 2.7) with indirect descriptors and event indices. The guest may write
 * anything anywhere at any time: geometry is latched when the driver sets DRIVER_OK, every descriptor is
 * read once and the copy is validated, a chain is bounded by the queue's size, and buffers resolve to RAM
 * only. A broken queue says so by a negative errno once, and its device then needs a reset.
 *
 * A started queue is used by its worker's thread only. `state` is also read and written by the
 * transport, with device.lock held, while the queue is not started.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/limits.h"
#include "memory/memory.h"
#include "state/state.h"

/* What the guest programmed, and how far the queue is. Saved. */
struct virtio_queue_state {
	uint16_t size;	     /* a power of two, <= max_size */
	uint16_t max_size;   /* offered; must be equal on load */
	uint8_t enabled;
	uint16_t msix_vector; /* 0xffff: none */
	uint64_t desc, driver, device; /* guest addresses of descriptor table, avail and used ring */
	uint16_t next_avail; /* our position in the avail ring */
	uint16_t next_used;  /* our position in the used ring */
	uint16_t signalled_used; /* next_used when the driver was last interrupted (event index) */
	uint8_t signalled_valid;
	/* Requests popped and not yet pushed, oldest first: heads of their chains (invariant 12). */
	uint32_t n_inflight;
	uint16_t inflight[LIMIT_QUEUE_SIZE];
};
extern const struct state_table virtio_queue_state_table;

#define VIRTIO_CHAIN_MAX 256 /* buffers of one chain, after splitting at bank borders */

/* One request of the guest: readable buffers first, then writable ones. Filled by virtio_queue_pop. */
struct virtio_chain {
	uint16_t head;
	unsigned int n_out, n_in;     /* out: the device reads; in: the device writes */
	uint64_t out_len, in_len;     /* bytes */
	struct iovec iov[VIRTIO_CHAIN_MAX]; /* n_out readable, then n_in writable */
	gpa_t at[VIRTIO_CHAIN_MAX];   /* guest address of each buffer, for the dirty log */
};

static inline struct iovec *virtio_chain_in(struct virtio_chain *chain)
{
	return chain->iov + chain->n_out;
}

struct virtio_queue {
	struct virtio_queue_state *state; /* in the device's state struct */
	struct memory *memory;		  /* borrowed */
	bool started, broken;
	bool event_idx, indirect; /* negotiated */
	uint16_t size;		  /* latched */
	/* Latched host addresses of the three parts, and where they are for the dirty log. */
	void *desc, *avail, *used;
	gpa_t used_at;
	uint16_t avail_shadow; /* last avail index read */
};

/* Latches and validates the geometry: sizes, alignment, parts inside RAM. -EINVAL: the device needs a
 * reset. In-flight entries of a loaded state must name distinct descriptors inside the queue. */
_must_check_ int virtio_queue_start(struct virtio_queue *queue, struct memory *memory,
				    struct virtio_queue_state *state, uint64_t features);
void virtio_queue_stop(struct virtio_queue *queue);

/* Takes the next available chain: 1, 0 when there is none, -EPROTO when the queue is broken (once broken,
 * always -EPROTO until started again). */
_must_check_ int virtio_queue_pop(struct virtio_queue *queue, struct virtio_chain *chain);
/* Reads again the chain of state->inflight[index] (after a load). */
_must_check_ int virtio_queue_refetch(struct virtio_queue *queue, uint32_t index,
				      struct virtio_chain *chain);
/* Returns a popped chain unused: it will be popped again. Only the last one popped. */
void virtio_queue_unpop(struct virtio_queue *queue, const struct virtio_chain *chain);

/* Gives a chain back with `written` bytes in its writable buffers (clamped to in_len by the caller's count):
 * marks those pages dirty, then publishes the used element. */
void virtio_queue_push(struct virtio_queue *queue, const struct virtio_chain *chain,
		       uint32_t written);

/* After pushes: whether the driver wants an interrupt now. */
bool virtio_queue_should_signal(struct virtio_queue *queue);

/* Asks the driver to notify about new buffers, or to leave it. `enable` returns true when buffers came in
 * meanwhile: look again. */
bool virtio_queue_enable_kicks(struct virtio_queue *queue);
void virtio_queue_disable_kicks(struct virtio_queue *queue);
bool virtio_queue_has_avail(struct virtio_queue *queue);

/* Copies between a chain's buffers and linear memory, from byte `offset` on; the count copied. */
size_t iov_to_buf(const struct iovec *iov, unsigned int n, size_t offset, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, unsigned int n, size_t offset, const void *buf,
		    size_t len);
