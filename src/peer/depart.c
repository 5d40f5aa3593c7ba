/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/depart.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "api/client.h"
#include "api/move_link.h"
#include "base/cleanup.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "move/mover/progress.h"
#include "peer/arrivals.h"
#include "peer/connect.h"
#include "peer/disk_copy.h"
#include "peer/door.h"
#include "peer/files.h"
#include "peer/machine.h"
#include "peer/mover.h"
#include "peer/reservation.h"
#include "peer/settle.h"
#include "peer/talk.h"

#define CHECK_MS 60000	 /* the other side hashes nothing, but opens disks */
#define LAUNCH_MS 150000 /* reserving much memory takes time */
#define START_MS 30000
#define LOCK_STEP_NS (50 * NSEC_PER_MSEC)
#define LOCK_STEPS 40

struct departure {
	struct peer_host *host;
	const struct control_request *request;
	int client;
	int progress_fd, lock_fd;
	struct progress progress;
	const struct peer *peer;
	struct talk *talk;
	struct lists *lists;
	struct marks *marks;
	struct peer_request ask; /* CHECK or RESERVE: the VM in both hosts' words */
	char *kernel, *initrd;	 /* paths here */
	json_t *config;		 /* the VM's, as it has it */
	struct problems problems;
	struct notes notes;
	json_t *reserved; /* the answer to RESERVE */
	char token[PEER_TOKEN_TEXT];
	struct move_job job;
	pid_t mover;
};

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

static const char *name_of(const struct departure *departure)
{
	return departure->request->name;
}

static int cancelled(struct departure *departure, struct error *err)
{
	return progress_cancelled(&departure->progress)
		       ? error_set(err, -ECANCELED, EXIT_STATUS_FAILED,
				   "%s: the move was cancelled; it runs here as before",
				   name_of(departure))
		       : 0;
}

/* ---- what the VM is ---- */

static int ask_vm(struct departure *departure, struct move_facts *ret_facts, struct error *err)
{
	struct move_link *link = NULL;
	int fd, r = runtime_connect(name_of(departure), RUNTIME_SOCKET, &fd);

	if (r == 0)
		r = move_link_new(fd, name_of(departure), &link);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_NOT_FOUND,
				 "%s: cannot be reached: %s; see utsusu list", name_of(departure),
				 strerror(-r));
	r = link->ops->facts(link, ret_facts, err);
	if (r == 0)
		(void)link->ops->check(link, &departure->problems);
	link->ops->free(link);
	return r;
}

/* Whether it is there at all, in words for a person; what its guest has touched, and whether that stands. */
static int ask_info(struct departure *departure, struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	struct peer_machine *machine = &departure->ask.machine;
	json_auto_t *answer = NULL;
	const char *state;
	int r = api_connect(name_of(departure), &connection, err);

	if (r == 0)
		r = api_call(connection, json_pack("{s:s}", "command", "info"), &answer, err);
	if (r < 0)
		return r;
	machine->populated =
		(uint64_t)json_integer_value(json_object_get(answer, "memory_populated"));
	state = json_string_value(json_object_get(answer, "state"));
	machine->paused = state && strcmp(state, "paused") == 0;
	return 0;
}

static int next_generation(struct departure *departure, const struct move_facts *facts,
			   struct error *err)
{
	uint64_t known;
	int r = arrivals_known(departure->host->state_fd, departure->marks, facts->name,
			       facts->uuid, &known);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: this host's notes of its former owners cannot be read: %s; "
				 "if no other host runs it: utsusu resolve %s --run-here",
				 facts->name, strerror(-r), facts->name);
	departure->ask.machine.generation = known + 1;
	return 0;
}

static int describe(struct departure *departure, struct error *err)
{
	struct peer_machine *machine = &departure->ask.machine;
	struct move_facts facts = { .ram_fd = -1 };
	int r = ask_info(departure, err);

	if (r == 0)
		r = ask_vm(departure, &facts, err);
	if (r < 0)
		return r;
	machine->version_min = MOVE_VERSION_MIN;
	machine->version = MOVE_VERSION;
	machine->streams = departure->request->move.streams;
	machine->plain = departure->request->move.plain;
	machine->copy_disks = departure->request->move.copy_disks;
	departure->config = json_loads(facts.config, JSON_REJECT_DUPLICATES, NULL);
	machine->postcopy = departure->request->move.allow_postcopy;
	machine_describe(departure->host->state_fd, departure->lists, facts.config, machine,
			 &departure->kernel, &departure->initrd, &departure->problems,
			 &departure->notes);
	memcpy(machine->config.name, facts.name, sizeof(machine->config.name));
	memcpy(machine->config.uuid, facts.uuid, sizeof(machine->config.uuid));
	/* Said only to who is to copy: one of an older version has no word for it. */
	for (uint32_t i = 0; i < machine->n_disks && !machine->copy_disks; i++)
		machine->disks[i].allocated = 0;
	r = next_generation(departure, &facts, err);
	move_facts_release(&facts);
	return r;
}

/* ---- what the other host says to it ---- */

/* Of disk `index` here; NULL: there is none. */
static const char *path_of_disk(const struct departure *departure, json_int_t index)
{
	const json_t *disks = json_object_get(departure->config, "disk");

	return index < 0 ? NULL
			 : json_string_value(
				   json_object_get(json_array_get(disks, (size_t)index), "path"));
}

/* What will be copied, for people. */
static void note_copies(struct departure *departure, const json_t *answer)
{
	const struct peer_machine *machine = &departure->ask.machine;
	const json_t *copy;
	size_t i;

	json_array_foreach(json_object_get(answer, "copies"), i, copy)
	{
		json_int_t index = json_integer_value(copy);

		if (index < 0 || index >= (json_int_t)machine->config.n_disks)
			continue;
		notes_add(&departure->notes, "disk %s: is copied: %llu MiB of %llu MiB are in use",
			  machine->config.disks[index].path,
			  (unsigned long long)(machine->disks[index].allocated / MIB(1)),
			  (unsigned long long)(machine->disks[index].size / MIB(1)));
	}
}

/* Post-copy is allowed, not ordered: without it the VM moves all the same. */
static void note_postcopy(struct departure *departure, const json_t *answer)
{
	if (departure->request->move.allow_postcopy &&
	    json_is_false(json_object_get(answer, "postcopy")))
		notes_add(
			&departure->notes,
			"--allow-postcopy: %s gives no userfaultfd for the kernel's own accesses: "
			"all memory goes there before the VM does",
			departure->peer->name);
}

static void add_theirs(struct departure *departure, const json_t *answer)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(json_object_get(answer, "problems"), i, problem)
	{
		const char *message = json_string_value(json_object_get(problem, "message"));
		json_int_t status = json_integer_value(json_object_get(problem, "status"));
		struct error err = { 0 };

		if (status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
			status = EXIT_STATUS_FAILED;
		(void)error_set(&err, -EREMOTEIO, (enum exit_status)status, "%s: %s",
				departure->peer->name, message ? message : "?");
		problems_add(&departure->problems, &err);
	}
}

/* All of both sides at once: while something stands against it here, the other side is only asked what does there. */
static int ask_peer(struct departure *departure, struct error *err)
{
	bool only_check = departure->request->move.check || departure->problems.count;
	json_auto_t *answer = NULL;
	int r;

	departure->ask.command = only_check ? PEER_CHECK : PEER_RESERVE;
	r = talk_call(departure->talk, peer_request_encode(&departure->ask), CHECK_MS, &answer,
		      err);
	if (r < 0)
		return r;
	add_theirs(departure, answer);
	note_copies(departure, answer);
	note_postcopy(departure, answer);
	if (!only_check)
		departure->reserved = json_incref(answer);
	return 0;
}

static int connect_peer(struct departure *departure, struct error *err)
{
	departure->peer = peers_find(departure->host->peers, departure->request->host, err);
	if (!departure->peer)
		return -ENOENT;
	return talk_connect(departure->host->identity, departure->peer, &departure->talk, err);
}

static int judge(struct departure *departure, struct error *err)
{
	int r = cancelled(departure, err);

	progress_phase(&departure->progress, PHASE_CHECK, "both hosts are asked");
	if (r == 0)
		r = lists_load(&departure->lists, err);
	if (r == 0)
		r = marks_open(&departure->marks, err);
	if (r == 0)
		r = describe(departure, err);
	if (r == 0)
		r = connect_peer(departure, err);
	return r < 0 ? r : ask_peer(departure, err);
}

/* ---- the way there ---- */

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
	for (uint32_t i = 0; i < departure->request->move.streams; i++) {
		int r = open_stream(departure, i, err);

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_RESOURCE,
					 "%s: stream %u cannot be opened: %s",
					 departure->peer->name, i, strerror(-r));
	}
	return 0;
}

static int fill_job(struct departure *departure, struct error *err)
{
	const struct move_wish *wish = &departure->request->move;
	struct move_job *job = &departure->job;
	char context[MOVER_KEY_CONTEXT];
	int r = mover_open_vm(departure->host->state_fd, name_of(departure), job, err);

	if (r < 0)
		return r;
	r = marks_prepare_given(departure->marks, name_of(departure), err);
	if (r < 0)
		return r;
	job->mark_fd = r;
	/* One lock for both: it is the open file's. */
	job->lock_fd = fcntl(departure->lock_fd, F_DUPFD_CLOEXEC, 3);
	if (job->lock_fd < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "%s: %s", name_of(departure),
				 strerror(errno));
	job->generation = departure->ask.machine.generation;
	job->told = true;
	snprintf(job->peer, sizeof(job->peer), "%s", departure->peer->name);
	job->max_bandwidth = wish->max_bandwidth;
	job->downtime_ms = (uint32_t)wish->downtime_ms;
	job->compress = wish->compress;
	job->allow_postcopy = wish->allow_postcopy;
	job->tls = !wish->plain;
	key_context(departure, context);
	if (job->tls && talk_key(departure->talk, context, job->key) < 0)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED, "%s: no key can be made",
				 departure->peer->name);
	return 0;
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
		    !departure->request->move.copy_disks)
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
	int r = cancelled(departure, err);

	if (r == 0)
		r = take_reserved(departure, err);
	if (r == 0)
		r = open_copies(departure, err);
	if (r == 0)
		r = send_files(departure, err);
	if (r == 0)
		r = cancelled(departure, err);
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
static int start(struct departure *departure, struct error *err)
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

/* ---- what came of it ---- */

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

/* Also for a mover that was killed and could say nothing: whoever heard its last line does not hear this one. */
static void tell_end(struct departure *departure, bool killed)
{
	static const struct move_numbers unknown;
	struct error err = { 0 };

	switch (settle_one(departure->host, name_of(departure))) {
	case SETTLED_RAN:
		if (killed && departure->request->move.allow_postcopy) {
			(void)error_set(
				&err, -ECHILD, EXIT_STATUS_FAILED,
				"%s: went to %s, and its mover was killed before it told that all of its "
				"memory is there; where it was not, it has ended there: see utsusu list "
				"on %s",
				name_of(departure), departure->peer->name, departure->peer->name);
			progress_end(&departure->progress, MOVE_END_FAILED, &unknown, &err);
			return;
		}
		progress_end(&departure->progress, MOVE_END_RAN, &unknown, NULL);
		return;
	case SETTLED_OPEN:
		(void)error_set(
			&err, -EINPROGRESS, EXIT_STATUS_FAILED,
			"%s: was given to %s, which does not say whether it runs there; it stands "
			"still here and this host keeps asking; see utsusu resolve %s",
			name_of(departure), departure->peer->name, name_of(departure));
		progress_end(&departure->progress, MOVE_END_IN_DOUBT, &unknown, &err);
		return;
	case SETTLED_HERE:
		(void)error_set(
			&err, -ECHILD, EXIT_STATUS_FAILED,
			"%s: %s; it is this host's as before; see the log: journalctl -u utsusud",
			name_of(departure),
			killed ? "its mover was killed" : "it did not come to run there");
		progress_end(&departure->progress, MOVE_END_FAILED, &unknown, &err);
		return;
	}
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
	mover_unlock(departure->host->folder_fd, name_of(departure), departure->lock_fd);
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
		r = mover_lock(departure->host->folder_fd, name_of(departure), &departure->lock_fd);
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
			"%s: is being moved already; wait for that, or cancel it where it was "
			"begun",
			name_of(departure));
	r = judge(departure, err);
	if (r == 0 && !departure->problems.count && !departure->request->move.check)
		r = start(departure, err);
	if (r < 0)
		return r;
	answer = encode_answer(departure, departure->mover > 0);
	/* Whoever asked may have gone; the move does not depend on it here. */
	door_answer(departure->client, answer);
	return 0;
}

void depart(struct peer_host *host, const struct control_request *request, int client,
	    int progress_fd)
{
	struct departure *departure = calloc(1, sizeof(*departure));
	struct error err = { 0 };

	if (!departure) {
		fd_close(progress_fd);
		return;
	}
	departure->host = host;
	departure->request = request;
	departure->client = client;
	departure->progress_fd = progress_fd;
	departure->lock_fd = -1;
	move_job_init(&departure->job, MOVE_SOURCE);
	progress_init(&departure->progress, progress_fd, &clock_host);
	if (try(departure, &err) < 0)
		door_refuse(client, &err);
	if (departure->mover > 0) {
		int status;

		talk_free(TAKE_PTR(departure->talk));
		move_job_release(&departure->job);
		status = mover_wait(departure->mover);
		mover_unlock(host->folder_fd, request->name, TAKE_FD(departure->lock_fd));
		log_line(host->log, LOG_LEVEL_INFO, "%s: its move to %s ended with %d",
			 request->name, request->host, status);
		tell_end(departure, status < 0);
	}
	release(departure);
}
