/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of disks share: a disk file of its own, a loop, and requests that wait for their end. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "block/block.h"
#include "block/raw.h"

#define RIG_DEPTH 8
#define RIG_PENDING 1000 /* a result that no request ends with */

struct rig {
	char path[64];
	struct loop *loop;
	struct block *block;
	struct block_queue *queue;
	unsigned int batches; /* calls of batch_end */
};

/* A request, its buffer and its end. */
struct rig_request {
	struct block_request request;
	struct iovec iov;
	int result;
};

static _unused_ void rig_batch_end(struct block_queue *queue)
{
	((struct rig *)queue->owner)->batches++;
}

static _unused_ void rig_done(struct block_request *request, int result)
{
	struct rig_request *r = container_of(request, struct rig_request, request);

	assert_int_equal(r->result, RIG_PENDING);
	r->result = result;
}

/* Makes an empty disk file; /var/tmp, because a /tmp in memory knows no O_DIRECT. */
static _unused_ void rig_make_file(struct rig *rig, const char *dir, uint64_t size)
{
	_cleanup_(fd_closep) int fd = -1;

	snprintf(rig->path, sizeof(rig->path), "%s/utsusu-disk-XXXXXX", dir);
	fd = mkstemp(rig->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
}

/* Opens a queue on rig->block and waits on it. */
static _unused_ void rig_open_queue(struct rig *rig)
{
	rig->loop = loop_new(&clock_host);
	assert_non_null(rig->loop);
	assert_int_equal(block_queue_open(rig->block, rig->loop, RIG_DEPTH, &rig->queue), 0);
	rig->queue->batch_end = rig_batch_end;
	rig->queue->owner = rig;
}

static _unused_ void rig_open(struct rig *rig, bool direct)
{
	const struct raw_options options = { .path = rig->path, .fd = -1, .direct = direct };
	struct error err = { 0 };

	if (raw_open(&options, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	rig_open_queue(rig);
}

static _unused_ void rig_close(struct rig *rig)
{
	block_queue_close(rig->queue);
	block_free(rig->block);
	loop_free(rig->loop);
	unlink(rig->path);
	memset(rig, 0, sizeof(*rig));
}

static _unused_ void rig_submit(struct rig *rig, struct rig_request *r)
{
	if (!r->request.iov) {
		r->request.iov = &r->iov;
		r->request.n_iov = 1;
	}
	r->request.done = rig_done;
	r->result = RIG_PENDING;
	block_submit(rig->queue, &r->request);
}

/* Turns the loop until the request has ended, ten seconds at most. */
static _unused_ int rig_wait(struct rig *rig, struct rig_request *r)
{
	uint64_t end = clock_now(&clock_host) + 10 * NSEC_PER_SEC;

	while (r->result == RIG_PENDING && clock_now(&clock_host) < end)
		assert_int_equal(loop_turn(rig->loop, 1000), 0);
	return r->result;
}

static _unused_ int rig_do(struct rig *rig, struct rig_request *r)
{
	int checked = block_check(rig->block, &r->request);

	if (checked < 0 && r->request.iov)
		return checked;
	rig_submit(rig, r);
	block_kick(rig->queue);
	return rig_wait(rig, r);
}

static _unused_ int rig_write(struct rig *rig, uint64_t offset, const void *data, size_t len)
{
	struct rig_request r = {
		.request = { .op = BLOCK_WRITE, .offset = offset, .len = len },
		.iov = { (void *)data, len },
	};

	return rig_do(rig, &r);
}

static _unused_ int rig_read(struct rig *rig, uint64_t offset, void *data, size_t len)
{
	struct rig_request r = {
		.request = { .op = BLOCK_READ, .offset = offset, .len = len },
		.iov = { data, len },
	};

	return rig_do(rig, &r);
}

/* An aligned buffer whose bytes tell where they are. */
static _unused_ uint8_t *rig_buffer(size_t len, unsigned int seed)
{
	uint8_t *p = aligned_alloc(4096, ALIGN_UP(len, 4096));

	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i + (i >> 8) * 7);
	return p;
}
