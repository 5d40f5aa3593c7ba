/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mover's job, and the description of a machine as a peer's mover sends it. The first byte chooses.
 * covers: move/job.c move/machine.c
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "move/job.h"
#include "move/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_same(const struct move_job *a, const struct move_job *b)
{
	return a->role == b->role && a->generation == b->generation && a->tls == b->tls &&
	       a->n_streams == b->n_streams && a->progress_fd == b->progress_fd &&
	       a->downtime_ms == b->downtime_ms && a->compress == b->compress &&
	       a->journal_bytes == b->journal_bytes && a->latency_ms == b->latency_ms &&
	       a->detect_ms == b->detect_ms && memcmp(a->key, b->key, sizeof(a->key)) == 0 &&
	       memcmp(a->token, b->token, sizeof(a->token)) == 0 && strcmp(a->name, b->name) == 0 &&
	       strcmp(a->peer, b->peer) == 0;
}

/* Whole, with descriptors that are open: written and read again it is the same. */
static void send_to_a_child(struct move_job *job)
{
	struct move_job again;
	struct error err = { 0 };
	int *fds[] = { &job->vm_fd,   &job->ram_fd,  &job->mark_fd,
		       &job->file_fd, &job->lock_fd, &job->journal_fd };
	int fd;

	job->progress_fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		*fds[i] = *fds[i] >= 0 ? dup(STDIN_FILENO) : -1;
	for (uint32_t i = 0; i < job->n_streams; i++)
		job->streams[i] = dup(STDIN_FILENO);
	for (uint32_t i = 0; i < job->n_disks; i++)
		job->disks[i].fd = dup(STDIN_FILENO);
	/* A destination opens its mark again, which a terminal may refuse. */
	if (job->role == MOVE_DESTINATION)
		job->role = MOVE_SOURCE;
	assert(move_job_write(job, &fd) == 0);
	assert(move_job_read(fd, &again, &err) == 0);
	assert(is_same(job, &again));
	close(fd);
	move_job_release(&again);
}

static void try_job(const char *text, size_t len)
{
	struct move_job job;
	struct error err = { 0 };

	if (move_job_decode(text, len, &job, &err) < 0) {
		assert(err.message[0]);
		return;
	}
	assert(job.n_streams <= MOVE_STREAMS_MAX);
	assert((job.n_streams == 0) == (job.file_fd >= 0));
	send_to_a_child(&job);
}

/* In parts: our facts, a zero byte, the peer's words. */
static void try_machine(const char *text, size_t len)
{
	struct move_facts facts = { .ram_fd = -1, .ram_bytes = MIB(64), .n_banks = 1 };
	const char *zero = memchr(text, 0, len);
	size_t first = zero ? (size_t)(zero - text) : 0;
	size_t rest = zero ? first + 1 : 0;
	struct error err = { 0 };
	char *own;

	facts.banks[0].len = MIB(64);
	strcpy(facts.uuid, "6a0f1d3e-9f1b-4a53-8d3b-5f0c8f5f2b11");
	facts.config = strndup(text, first);
	assert(facts.config);
	if (move_machine_compare(&facts, text + rest, len - rest, &err) < 0)
		assert(err.message[0]);
	own = move_machine_describe(&facts);
	if (own)
		assert(move_machine_compare(&facts, own, strlen(own), &err) == 0);
	free(own);
	free(facts.config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		try_job((const char *)data + 1, size - 1);
	else
		try_machine((const char *)data + 1, size - 1);
	return 0;
}
