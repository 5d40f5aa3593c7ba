/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What lies below a stream: a connected descriptor that never blocks, the waits for it, each with a deadline, and a bell that
 * ends them all. Calls of a sending and of a receiving thread may overlap.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/macros.h"
#include "wire/zerocopy.h"

struct channel {
	int fd;	  /* owned, non-blocking */
	int bell; /* an eventfd, readable for ever once cancelled */
	bool socket, tcp;
	bool corked; /* the last send promised more; as the sending side is locked */
	int expected; /* bytes without which the receiving thread, whose field this is, does not wake */
	bool cancelled;		 /* any thread, atomically */
	unsigned int timeout_ms; /* atomic; CHANNEL_PATIENT: for ever */
	/* Until when all of what is just received or sent must be through, however it trickles; 0: only each wait counts. Each is its
	 * thread's. */
	uint64_t receive_due_ns, send_due_ns;
	struct zerocopy zerocopy;
};

/* Takes `fd`, also on failure. */
_must_check_ int channel_open(struct channel *channel, int fd, unsigned int timeout_ms);
void channel_close(struct channel *channel);
void channel_cancel(struct channel *channel); /* any thread */
/* Any thread; see stream_be_patient. A wait that goes on already does so as well. */
void channel_be_patient(struct channel *channel, unsigned int dead_ms);
#define CHANNEL_PATIENT UINT32_MAX
static inline unsigned int channel_timeout(const struct channel *channel)
{
	return __atomic_load_n(&channel->timeout_ms, __ATOMIC_RELAXED);
}
bool channel_cancelled(const struct channel *channel);

/* Waits for POLLIN or POLLOUT: 1, 0 when `timeout_ms` are over, -ECANCELED. Errors of the connection count as ready: the call
 * that follows tells them. */
_must_check_ int channel_wait(struct channel *channel, short events, unsigned int timeout_ms);
/* When `len` bytes must be through at the latest, which a peer may begin to take or give after the channel's timeout. */
uint64_t channel_due(const struct channel *channel, uint64_t len);
/* Sending thread: as channel_wait with the channel's own deadlines: 0 or -ETIMEDOUT. */
_must_check_ int channel_wait_peer(struct channel *channel, short events);
/* Receiving thread: as channel_wait, when `len` bytes must come before anything can be done with them. Waking for each segment of
 * a long message costs more than the segment. When the time is over fewer bytes do as well. */
_must_check_ int channel_wait_bytes(struct channel *channel, short events, size_t len,
				    unsigned int timeout_ms);
/* The same with the channel's own deadlines: 0 or -ETIMEDOUT. */
_must_check_ int channel_wait_message(struct channel *channel, short events, size_t len);
/* Sending thread: waits until the kernel has let go of some zero-copy send: 0, or an error. */
_must_check_ int channel_wait_freed(struct channel *channel);

/* What sendmsg and recvmsg give: bytes, 0 at the end of what is received, -EAGAIN, -ECONNRESET, -ECANCELED, others. */
_must_check_ ssize_t channel_send(struct channel *channel, const struct iovec *iov,
				  unsigned int n_iov, int flags);
/* Nothing follows after all: TCP does not keep an unfinished segment back. */
void channel_push(struct channel *channel);
_must_check_ ssize_t channel_receive(struct channel *channel, struct iovec *iov,
				     unsigned int n_iov);
