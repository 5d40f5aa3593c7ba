/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What lies behind a doorbell: the requests that a device takes from its queues. A tap sees each as it arrives and as it
 * is answered, as bus_tap sees accesses to registers. While nobody looks a device spends one comparison on a request.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <x86intrin.h>

#include "bus/device.h"

enum request_kind { REQUEST_DISK, REQUEST_NET, REQUEST_OTHER };
enum request_operation {
	REQUEST_READ,
	REQUEST_WRITE,
	REQUEST_FLUSH,
	REQUEST_DISCARD,
	REQUEST_WRITE_ZEROES,
	REQUEST_NO_OPERATION,
};

/* Lives on the stack of the queue's thread. */
struct device_request {
	const struct device *device;
	enum request_kind kind;
	enum request_operation
		operation; /* of a disk; net and others: WRITE is guest to host, READ the other way */
	uint16_t queue;
	struct worker *worker;	 /* the queue's, whose thread this is */
	int status;		 /* 0 or a negative errno */
	uint64_t begin;		 /* TSC when it was taken from the queue, or came from the wire */
	uint64_t offset;	 /* disk: bytes */
	uint64_t len;		 /* bytes of data */
	const struct iovec *iov; /* a frame's buffers, in guest memory; NULL: not to be looked at */
	unsigned int n_iov;
	size_t skip; /* bytes before the frame */
};

struct request_tap {
	/* The queue's thread, no lock held: the request was taken and nothing done yet. A negative errno: it shall fail (a
	 * frame: be lost). May wait by worker_hold. NULL: all pass. */
	int (*arrived)(struct request_tap *tap, const struct device_request *request);
	/* The queue's thread, no lock held. Quick: formats nothing. */
	void (*answered)(struct request_tap *tap, const struct device_request *request);
};

/* When a request begins: to be kept with it. 0 while nobody looks. */
static inline uint64_t request_begin(const struct device *device)
{
	return device->requests ? __rdtsc() : 0;
}

/* Shows a request that arrived: 0, or what it shall fail with. */
static inline int request_arrived(const struct device_request *request)
{
	struct request_tap *tap = request->device->requests;

	return tap && tap->arrived ? tap->arrived(tap, request) : 0;
}

/* Shows an answered request; one that began while nobody looked is not shown. */
static inline void request_answered(const struct device_request *request)
{
	struct request_tap *tap = request->device->requests;

	if (tap && request->begin)
		tap->answered(tap, request);
}

/* The same for a device that just moves bytes. */
static inline void request_moved(const struct device *device, unsigned int queue,
				 enum request_operation operation, uint64_t begin, uint64_t len)
{
	const struct device_request moved = {
		.device = device,
		.kind = REQUEST_OTHER,
		.operation = operation,
		.queue = (uint16_t)queue,
		.begin = begin,
		.len = len,
	};

	request_answered(&moved);
}
