/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The split virtqueue (virtio 1.2, 2.7) with indirect descriptors and event indices. The guest may write
 * anything anywhere at any time: geometry is latched when the driver sets DRIVER_OK, every descriptor is
 * read once and the copy is validated, a chain is bounded by the queue's size, and buffers resolve to RAM
 * only. A broken queue says so by a negative errno, and its device then needs a reset.
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
#include "virtio/iov.h"

#define VIRTIO_NO_VECTOR 0xffff

/* What the guest programmed, and how far the queue is. Saved. */
struct virtio_queue_state {
	uint16_t size;	   /* a power of two, <= max_size */
	uint16_t max_size; /* offered; must be equal on load */
	uint8_t enabled;
	uint16_t msix_vector; /* VIRTIO_NO_VECTOR: none */
	uint64_t desc, driver,
		device;		 /* guest addresses of descriptor table, avail and used ring */
	uint16_t next_avail;	 /* our position in the avail ring */
	uint16_t next_used;	 /* our position in the used ring */
	uint16_t signalled_used; /* next_used when the driver was last asked (event index) */
	uint8_t signalled_valid;
	/* Requests popped and not yet pushed, oldest first: heads of their chains (invariant 12). */
	uint32_t n_inflight;
	uint16_t inflight[LIMIT_QUEUE_SIZE];
};
extern const struct state_table virtio_queue_state_table;

/* Judges a loaded, untrusted queue state by itself: sizes, in-flight heads distinct and inside the
 * queue. 0 or -EINVAL. Where the parts lie is judged by virtio_queue_start. */
_must_check_ int virtio_queue_state_check(const struct virtio_queue_state *state);
/* Power-on values; max_size stays. */
void virtio_queue_state_reset(struct virtio_queue_state *state);

/* Descriptors of one chain at most: a device type says so to its driver (seg_max and the like). A range
 * of guest addresses inside RAM lies in one bank, so that a descriptor is one buffer. */
#define VIRTIO_CHAIN_MAX 256

/* One request of the guest: readable buffers first, then writable ones. Filled by virtio_queue_pop. */
struct virtio_chain {
	uint16_t head;
	unsigned int n_out, n_in;	    /* out: the device reads; in: the device writes */
	uint64_t out_len, in_len;	    /* bytes */
	struct iovec iov[VIRTIO_CHAIN_MAX]; /* n_out readable, then n_in writable */
	gpa_t at[VIRTIO_CHAIN_MAX];	    /* guest address of each buffer, for the dirty log */
};

static inline struct iovec *virtio_chain_in(struct virtio_chain *chain)
{
	return chain->iov + chain->n_out;
}

struct virtio_queue {
	struct virtio_queue_state *state; /* in the device's state struct */
	struct memory *memory;		  /* borrowed */
	bool started, broken;
	bool pushed;		  /* since the driver's wish for interrupts was last looked at */
	bool event_idx, indirect; /* negotiated */
	uint16_t size;		  /* latched */
	/* Latched host addresses of the three parts, and where they are for the dirty log. */
	void *desc, *avail, *used;
	gpa_t used_at;
	uint16_t avail_shadow;		      /* last avail index read */
	uint64_t busy[LIMIT_QUEUE_SIZE / 64]; /* heads in flight: state->inflight as a set */
};

/* Latches and validates the geometry: sizes, alignment, parts inside RAM, in-flight entries of a loaded
 * state. `features` as negotiated. -EINVAL: the device needs a reset. */
_must_check_ int virtio_queue_start(struct virtio_queue *queue, struct memory *memory,
				    struct virtio_queue_state *state, uint64_t features);
/* From here on nothing is popped (0), pushes are dropped, no signal is due: guest memory and *state are
 * not touched any more. */
void virtio_queue_stop(struct virtio_queue *queue);

/* Takes the next available chain: 1, 0 when there is none, -EPROTO when the queue is broken (once broken,
 * always -EPROTO until started again). The guest can add chains for ever: a caller bounds its loop. */
_must_check_ int virtio_queue_pop(struct virtio_queue *queue, struct virtio_chain *chain);
/* Reads again the chain of state->inflight[index] (after a load): 0, or -EPROTO as above. */
_must_check_ int virtio_queue_refetch(struct virtio_queue *queue, uint32_t index,
				      struct virtio_chain *chain);
/* Returns a popped chain unused: it will be popped again. Only the last one popped. */
void virtio_queue_unpop(struct virtio_queue *queue, const struct virtio_chain *chain);

/* Returns all popped chains unused, in a queue that gives them back in the order in which it took them. */
void virtio_queue_unpop_all(struct virtio_queue *queue);

/* Gives a chain back with `written` bytes in its writable buffers: marks the pages of the first `written`
 * bytes dirty, then publishes the used element. `written` covers all that may have been touched, also by a
 * request that failed half way; more than in_len counts as in_len. Any order of chains. */
void virtio_queue_push(struct virtio_queue *queue, const struct virtio_chain *chain,
		       uint32_t written);

/* The two halves of push, for chains that the driver must see appear at once (mergeable receive buffers,
 * virtio 1.2, 5.1.6.4): places each, then publishes them together, before this turn of the thread ends. */
void virtio_queue_place(struct virtio_queue *queue, const struct virtio_chain *chain,
			uint32_t written);
void virtio_queue_publish(struct virtio_queue *queue);

/* After pushes: whether the driver wants an interrupt now. False when there was none since the last time. */
bool virtio_queue_should_signal(struct virtio_queue *queue);

/* Asks the driver to notify about new buffers, or to leave it. `enable` returns true when buffers came in
 * meanwhile: look again. A queue starts with kicks enabled. */
bool virtio_queue_enable_kicks(struct virtio_queue *queue);
void virtio_queue_disable_kicks(struct virtio_queue *queue);
/* Whether pop would find something. */
bool virtio_queue_has_avail(struct virtio_queue *queue);
