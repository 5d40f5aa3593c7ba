/* SPDX-License-Identifier: Apache-2.0 */
/* The way there: what the other host needs, the streams, and both movers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "peer/connect.h"
#include "peer/depart_internal.h"
#include "peer/disk_copy.h"
#include "peer/files.h"
#include "peer/reservation.h"

#define LAUNCH_MS 150000 /* reserving much memory takes time */
#define START_MS 30000

static bool is_wanted(const struct departure *departure, const struct peer_file *file)
{
	const json_t *files = json_object_get(departure->reserved, "files"), *hash;
	size_t i;

	json_array_foreach(files, i, hash)
	{
		const char *text = json_string_value(hash);

		if (text && file->sha256[0] && strcmp(text, file->sha256) == 0)
			return true;
	}
	return false;
}

static int send_files(struct departure *departure, struct error *err)
{
	const struct peer_machine *machine = &departure->ask.machine;
	int r = 0;

	if (is_wanted(departure, &machine->kernel))
		r = files_send(departure->talk, departure->kernel, &machine->kernel, err);
	if (r == 0 && is_wanted(departure, &machine->initrd) &&
	    strcmp(machine->kernel.sha256, machine->initrd.sha256) != 0)
		r = files_send(departure->talk, departure->initrd, &machine->initrd, err);
	return r;
}

/* What the other host works at meanwhile; its answer is heard later. */
static int order(struct departure *departure, enum peer_command command, struct error *err)
{
	const struct peer_request request = { .command = command };

	return talk_ask(departure->talk, peer_request_encode(&request), err);
}

static int hear(struct departure *departure, unsigned int timeout_ms, struct error *err)
{
	json_auto_t *answer = NULL;

	return talk_answer(departure->talk, timeout_ms, &answer, err);
}

static int take_reserved(struct departure *departure, struct error *err)
{
	const char *token = json_string_value(json_object_get(departure->reserved, "token"));

	if (!token || !hex_decode(token, departure->job.token, MOVE_TOKEN_BYTES) ||
	    !json_is_string(json_object_get(departure->reserved, "reservation")))
		return error_set(
			err, -EPROTO, EXIT_STATUS_FAILED,
			"%s: gave an answer that is not understood; use the same version of "
			"utsusu on both hosts",
			departure->peer->name);
	snprintf(departure->token, sizeof(departure->token), "%s", token);
	return 0;
}

/* What the keys are good for: this VM, this ownership, this move. */
static void key_context(const struct departure *departure, char ret_text[MOVER_KEY_CONTEXT])
{
	mover_key_context(departure->ask.machine.config.uuid, departure->ask.machine.generation,
			  departure->token, ret_text);
}

static int open_stream(struct departure *departure, uint32_t i, struct error *err)
{
	const char *id = json_string_value(json_object_get(departure->reserved, "reservation"));
	struct preamble preamble = { .index = i };
	struct move_job *job = &departure->job;
	char context[MOVER_KEY_CONTEXT];
	int r;

	snprintf(preamble.id, sizeof(preamble.id), "%s", id);
	key_context(departure, context);
	r = talk_stream_token(departure->talk, context, i, preamble.token);
	if (r == 0)
		r = connect_to(departure->peer->address, departure->peer->port, &job->streams[i],
			       err);
	if (r < 0)
		return r;
	job->n_streams++;
	return reservation_begin_stream(job->streams[i], &preamble);
}

static int open_streams(struct departure *departure, struct error *err)
{
	for (uint32_t i = 0; i < departure->wish.streams; i++) {
		int r = open_stream(departure, i, err);

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_RESOURCE,
					 "%s: stream %u cannot be opened: %s",
					 departure->peer->name, i, strerror(-r));
	}
	return 0;
}

/* What both kinds have; the rest is the kind's. */
static int fill_job(struct departure *departure, struct error *err)
{
	struct move_job *job = &departure->job;
	char context[MOVER_KEY_CONTEXT];
	int r = mover_open_vm(departure->host->state_fd, departure_name(departure), job, err);

	if (r < 0)
		return r;
	/* One lock for both: it is the open file's. */
	job->lock_fd = fcntl(departure->lock_fd, F_DUPFD_CLOEXEC, 3);
	if (job->lock_fd < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "%s: %s", departure_name(departure),
				 strerror(errno));
	job->generation = departure->ask.machine.generation;
	job->told = true;
	snprintf(job->peer, sizeof(job->peer), "%s", departure->peer->name);
	job->tls = !departure->wish.plain;
	key_context(departure, context);
	if (job->tls && talk_key(departure->talk, context, job->key) < 0)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED, "%s: no key can be made",
				 departure->peer->name);
	return departure->kind->fill(departure, err);
}

/* Of disk `index` here; NULL: there is none. */
static const char *path_of_disk(const struct departure *departure, json_int_t index)
{
	const json_t *disks = json_object_get(departure->config, "disk");

	return index < 0 ? NULL
			 : json_string_value(
				   json_object_get(json_array_get(disks, (size_t)index), "path"));
}

/* Those that the other host has a place of its own for. */
static int open_copies(struct departure *departure, struct error *err)
{
	const json_t *copies = json_object_get(departure->reserved, "copies"), *copy;
	struct move_job *job = &departure->job;
	size_t i;

	json_array_foreach(copies, i, copy)
	{
		const char *path = path_of_disk(departure, json_integer_value(copy));
		int fd, r;

		if (!path || !json_is_integer(copy) || job->n_disks == LIMIT_DISKS ||
		    !departure->wish.copy_disks)
			return error_set(
				err, -EPROTO, EXIT_STATUS_FAILED,
				"%s: gave an answer that is not understood; use the same version "
				"of utsusu on both hosts",
				departure->peer->name);
		r = disk_copy_read(path, &fd, err);
		if (r < 0)
			return r;
		job->disks[job->n_disks++] = (struct move_disk){
			.index = (uint32_t)json_integer_value(copy),
			.fd = fd,
		};
	}
	return 0;
}

/* Everything of this side's is made while the other one makes the VM's process. */
static int prepare(struct departure *departure, struct error *err)
{
	int r = departure_cancelled(departure, err);

	if (r == 0)
		r = take_reserved(departure, err);
	if (r == 0)
		r = open_copies(departure, err);
	if (r == 0)
		r = send_files(departure, err);
	if (r == 0)
		r = departure_cancelled(departure, err);
	if (r == 0)
		r = order(departure, PEER_LAUNCH, err);
	if (r == 0)
		r = fill_job(departure, err);
	if (r == 0)
		r = open_streams(departure, err);
	return r < 0 ? r : hear(departure, LAUNCH_MS, err);
}

static int start_mover(struct departure *departure, struct error *err)
{
	/* A copy: the mover's end of it is the mover's. */
	if (departure->progress_fd >= 0)
		departure->job.progress_fd = fcntl(departure->progress_fd, F_DUPFD_CLOEXEC, 3);
	return mover_start(&departure->job, &departure->mover, err);
}

/* It was refused: there is nobody to whom it could have given anything. */
static void end_mover(struct departure *departure)
{
	kill(departure->mover, SIGKILL);
	mover_wait(departure->mover);
	departure->mover = 0;
}

/* Both movers start at the same time. Where no answer comes ours finds out what became of the other. */
int departure_start(struct departure *departure, struct error *err)
{
	int r;

	progress_phase(&departure->progress, PHASE_RESERVE, "a place is made there");
	r = prepare(departure, err);
	if (r == 0)
		r = order(departure, PEER_START, err);
	if (r == 0)
		r = start_mover(departure, err);
	if (r < 0)
		return r;
	r = hear(departure, START_MS, err);
	if (r != -EREMOTEIO)
		return 0;
	end_mover(departure);
	return r;
}
