/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/depart.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "peer/depart_internal.h"
#include "peer/door.h"

#define LOCK_STEP_NS (50 * NSEC_PER_MSEC)
#define LOCK_STEPS 40

int departure_cancelled(struct departure *departure, struct error *err)
{
	return progress_cancelled(&departure->progress)
		       ? error_set(err, -ECANCELED, EXIT_STATUS_FAILED, "%s: %s",
				   departure_name(departure), departure->kind->cancelled)
		       : 0;
}

static json_t *encode_answer(const struct departure *departure, bool moving)
{
	json_t *problems = json_array(), *notes = json_array();

	for (size_t i = 0; i < departure->problems.count; i++)
		json_array_append_new(problems,
				      json_pack("{s:s, s:i}", "message",
						departure->problems.list[i].message, "status",
						(int)departure->problems.list[i].status));
	for (size_t i = 0; i < departure->notes.count; i++)
		json_array_append_new(notes, json_string(departure->notes.list[i]));
	return json_pack("{s:b, s:o, s:o, s:b, s:b}", "ok", 1, "problems", problems, "notes", notes,
			 "moving", (int)moving, "paused", (int)departure->ask.machine.paused);
}

static void release(struct departure *departure)
{
	talk_free(departure->talk);
	move_job_release(&departure->job);
	marks_close(departure->marks);
	lists_free(departure->lists);
	peer_request_release(&departure->ask);
	json_decref(departure->reserved);
	json_decref(departure->config);
	free(departure->kernel);
	free(departure->initrd);
	mover_unlock(departure->host->folder_fd, departure_name(departure), departure->lock_fd);
	fd_close(departure->progress_fd);
	free(departure);
}

/* A move that has just told its end may hold the lock for a moment more. */
static int lock(struct departure *departure)
{
	const struct timespec step = { .tv_nsec = LOCK_STEP_NS };
	int r = -EBUSY;

	for (int i = 0; i < LOCK_STEPS && r == -EBUSY; i++) {
		if (i)
			nanosleep(&step, NULL);
		r = mover_lock(departure->host->folder_fd, departure_name(departure),
			       &departure->lock_fd);
	}
	return r;
}

static int try(struct departure *departure, struct error *err)
{
	json_auto_t *answer = NULL;
	int r = lock(departure);

	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_BUSY,
			"%s: is being moved already, or is protected; wait for that, cancel it where "
			"it was begun, or: utsusu protect %s --off",
			departure_name(departure), departure_name(departure));
	r = departure_judge(departure, err);
	if (r == 0 && !departure->problems.count && !departure->wish.check)
		r = departure_start(departure, err);
	if (r < 0)
		return r;
	answer = encode_answer(departure, departure->mover > 0);
	/* Whoever asked may have gone; the move does not depend on it here. */
	door_answer(departure->client, answer);
	return 0;
}

static void run(const struct departure_kind *kind, struct peer_host *host,
		const struct control_request *request, const struct move_wish *wish, int client,
		int progress_fd)
{
	struct departure *departure = calloc(1, sizeof(*departure));
	struct error err = { 0 };

	if (!departure) {
		fd_close(progress_fd);
		return;
	}
	departure->kind = kind;
	departure->host = host;
	departure->request = request;
	departure->wish = *wish;
	departure->client = client;
	departure->progress_fd = progress_fd;
	departure->lock_fd = -1;
	move_job_init(&departure->job, kind->role);
	progress_init(&departure->progress, progress_fd, &clock_host);
	if (try(departure, &err) < 0)
		door_refuse(client, &err);
	if (departure->mover > 0) {
		talk_free(TAKE_PTR(departure->talk));
		move_job_release(&departure->job);
		kind->end(departure);
	}
	release(departure);
}

void depart(struct peer_host *host, const struct control_request *request, int client,
	    int progress_fd)
{
	run(&departure_move, host, request, &request->move, client, progress_fd);
}

void protect(struct peer_host *host, const struct control_request *request, int client,
	     int progress_fd)
{
	struct move_wish wish = request->move;

	wish.streams = 1;
	wish.copy_disks = true; /* each host has its own */
	run(&departure_protect, host, request, &wish, client, progress_fd);
}
