/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/arrive.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>

#include "api/launch.h"
#include "base/cleanup.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/userfault.h"
#include "peer/arrivals.h"
#include "peer/backup.h"
#include "peer/copies.h"
#include "peer/disk_copy.h"
#include "peer/files.h"
#include "peer/generations.h"
#include "peer/incoming.h"
#include "peer/instances.h"
#include "peer/machine.h"
#include "peer/mover.h"
#include "peer/outcome.h"
#include "peer/protected.h"
#include "peer/relays.h"
#include "peer/reservation.h"
#include "peer/retire.h"

#define STREAMS_MS 60000 /* for all of them to come: the other side starts programs meanwhile */
#define END_MS 10000	 /* for a process that was killed */

enum stage { STAGE_NEW, STAGE_RESERVED, STAGE_LAUNCHED, STAGE_STARTED };

struct arriving {
	struct peer_host *host;
	struct talk *talk;
	enum stage stage;
	bool failed; /* what was made so far is of no use, and goes with the connection */
	struct lists *lists;
	struct marks *marks;
	struct peer_machine machine; /* of the reservation */
	struct reservation reservation;
	struct runtime_vm claim; /* the name, until the VM's process has it */
	uint8_t token[MARK_TOKEN_BYTES];
	char token_text[PEER_TOKEN_TEXT];
	int mark_fd;
	uint32_t n_copies; /* disks that are copied: opened, locked */
	struct move_disk copies[LIMIT_DISKS];
	pid_t mover;
};

int arriving_new(struct peer_host *host, struct talk *talk, struct arriving **ret_arriving)
{
	struct arriving *arriving = calloc(1, sizeof(*arriving));

	if (!arriving)
		return -ENOMEM;
	*arriving = (struct arriving){
		.host = host,
		.talk = talk,
		.mark_fd = -1,
		.reservation.listen_fd = -1,
		.claim = { .root_fd = -1, .dir_fd = -1, .lock_fd = -1 },
	};
	*ret_arriving = arriving;
	return 0;
}

static const char *source_of(const struct arriving *arriving)
{
	return talk_peer(arriving->talk)->name;
}

/* A backup that did not begin was nobody's: its process is all that there is of it. */
static void undo(struct arriving *arriving)
{
	if (!arriving->machine.protect) {
		(void)!outcome_close(arriving->host, arriving->token, NULL);
		return;
	}
	if (arriving->stage == STAGE_LAUNCHED &&
	    incoming_end(arriving->host->folder_fd, arriving->token_text, END_MS) == 0)
		incoming_bury(arriving->host->folder_fd, arriving->token_text);
}

void arriving_free(struct arriving *arriving)
{
	if (!arriving)
		return;
	reservation_release(&arriving->reservation);
	runtime_release(&arriving->claim);
	/* One that failed may have a token of which nobody was told. */
	if (arriving->stage == STAGE_RESERVED || arriving->stage == STAGE_LAUNCHED ||
	    (arriving->stage == STAGE_NEW && arriving->mark_fd >= 0))
		undo(arriving);
	fd_close(arriving->mark_fd);
	for (uint32_t i = 0; i < arriving->n_copies; i++)
		fd_close(arriving->copies[i].fd);
	marks_close(arriving->marks);
	lists_free(arriving->lists);
	vm_config_release(&arriving->machine.config);
	free(arriving);
}

bool arriving_is_started(const struct arriving *arriving)
{
	return arriving->stage == STAGE_STARTED;
}

bool arriving_has_failed(const struct arriving *arriving)
{
	return arriving->failed;
}

static int known_of(struct arriving *arriving, const struct vm_config *config, uint64_t *ret_known,
		    struct error *err)
{
	int r = arrivals_known(arriving->host->state_fd, arriving->marks, config->name,
			       config->uuid, ret_known);

	return r < 0 ? error_set(
			       err, r, EXIT_STATUS_HOST,
			       "%s: this host's notes of its former owners cannot be read: %s; if "
			       "no other host runs it, here: utsusu resolve %s --run-here",
			       config->name, strerror(-r), config->name)
		     : 0;
}

static void check_generation(struct arriving *arriving, const struct peer_machine *machine,
			     struct problems *problems)
{
	const struct vm_config *config = &machine->config;
	struct error err = { 0 };
	uint64_t known;
	int r = known_of(arriving, config, &known, &err);

	if (r == 0 && machine->generation > known)
		return;
	if (r == 0)
		(void)error_set(
			&err, -ESTALE, EXIT_STATUS_BUSY,
			"%s: this host knows of a later owner of it than the one that wants to move "
			"it; on both hosts: utsusu resolve %s",
			config->name, config->name);
	problems_add(problems, &err);
}

static int check(struct arriving *arriving, const struct peer_machine *machine,
		 struct problems *problems, struct error *err)
{
	int r = 0;

	if (!arriving->lists)
		r = lists_load(&arriving->lists, err);
	if (r == 0 && !arriving->marks)
		r = marks_open(&arriving->marks, err);
	if (r < 0)
		return r;
	machine_check(arriving->lists, machine, source_of(arriving), problems);
	if (machine->protect)
		backup_check(arriving->lists, arriving->host->state_fd, machine, problems);
	else
		check_generation(arriving, machine, problems);
	return 0;
}

static json_t *encode_problems(const struct problems *problems)
{
	json_t *list = json_array();

	for (size_t i = 0; i < problems->count; i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:i}", "message", problems->list[i].message,
						"status", (int)problems->list[i].status));
	return list;
}

/* Which of its disks are to be copied. */
static json_t *encode_copies(const struct arriving *arriving, const struct peer_machine *machine)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < machine->config.n_disks; i++)
		if (machine_copied_disk(arriving->lists, machine, i))
			json_array_append_new(list, json_integer(i));
	return list;
}

/* The VM's process, which this one starts, has the same rights when it asks. */
static bool can_demand(void)
{
	_cleanup_(fd_closep) int fd = userfault_make(-1);

	return fd >= 0;
}

static json_t *answer_check(struct arriving *arriving, struct peer_request *request,
			    struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));

	if (!problems || check(arriving, &request->machine, problems, err) < 0)
		return NULL;
	return json_pack("{s:b, s:o, s:o, s:b}", "ok", 1, "problems", encode_problems(problems),
			 "copies", encode_copies(arriving, &request->machine), "postcopy",
			 can_demand());
}

/* From here on the token is this host's to decide about. */
static int note_token(struct arriving *arriving, struct error *err)
{
	const struct vm_config *config = &arriving->machine.config;
	struct arrival arrival = { .generation = arriving->machine.generation };
	int fd, r;

	fd = marks_prepare_taken(arriving->marks, arriving->token, err);
	if (fd < 0)
		return fd;
	arriving->mark_fd = fd;
	memcpy(arrival.uuid, config->uuid, sizeof(arrival.uuid));
	memcpy(arrival.token, arriving->token, sizeof(arrival.token));
	snprintf(arrival.source, sizeof(arrival.source), "%s", source_of(arriving));
	r = retire_note(arriving->host->state_fd, arriving->token_text, arrival.source,
			config->name);
	if (r == 0)
		r = arrivals_note(arriving->host->state_fd, arriving->marks, config->name,
				  &arrival);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "%s: cannot be noted: %s", config->name,
				 strerror(-r))
		     : 0;
}

/* Of a backup it is the session, about which the arbiter's record decides: nothing is noted. */
static int make_token(struct arriving *arriving, struct error *err)
{
	if (getrandom(arriving->token, sizeof(arriving->token), 0) != sizeof(arriving->token))
		return error_set(err, -EIO, EXIT_STATUS_HOST, "this host has no random numbers");
	hex_encode(arriving->token, sizeof(arriving->token), arriving->token_text);
	return arriving->machine.protect ? 0 : note_token(arriving, err);
}

static void want(struct arriving *arriving, json_t *list, const struct peer_file *file)
{
	char path[PATH_MAX];

	if (file->sha256[0] && !files_have(arriving->host->state_fd, file, path, sizeof(path)))
		json_array_append_new(list, json_string(file->sha256));
}

static json_t *answer_reserved(struct arriving *arriving)
{
	json_t *files = json_array();

	want(arriving, files, &arriving->machine.kernel);
	want(arriving, files, &arriving->machine.initrd);
	return json_pack("{s:b, s:[], s:s, s:s, s:o, s:o, s:b}", "ok", 1, "problems", "token",
			 arriving->token_text, "reservation", arriving->reservation.id, "files",
			 files, "copies", encode_copies(arriving, &arriving->machine), "postcopy",
			 can_demand());
}

/* Nobody else has them from now on. Their content is as it was. */
static int open_copies(struct arriving *arriving, struct error *err)
{
	const struct peer_machine *machine = &arriving->machine;

	for (uint32_t i = 0; i < machine->config.n_disks; i++) {
		const struct list_disk *here = machine_copied_disk(arriving->lists, machine, i);
		struct move_disk *copy = &arriving->copies[arriving->n_copies];
		int r = here ? disk_copy_open(here, &machine->disks[i], &copy->fd, err) : 0;

		if (r < 0)
			return r;
		if (!here)
			continue;
		copy->index = i;
		arriving->n_copies++;
	}
	return 0;
}

/* Before the first byte of them is written. */
static int note_copies(struct arriving *arriving, struct error *err)
{
	for (uint32_t i = 0; i < arriving->n_copies; i++) {
		const struct move_disk *copy = &arriving->copies[i];
		struct copy_note note = { 0 };
		struct stat st;
		int r;

		snprintf(note.disk, sizeof(note.disk), "%s",
			 arriving->machine.config.disks[copy->index].path);
		snprintf(note.vm, sizeof(note.vm), "%s", arriving->machine.config.name);
		snprintf(note.source, sizeof(note.source), "%s", source_of(arriving));
		memcpy(note.token, arriving->token, sizeof(note.token));
		r = fstat(copy->fd, &st) < 0 ? -errno
					     : copies_note(arriving->host->state_fd, &note, &st);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_HOST,
					 "disk %s: that it is a copy cannot be noted: %s",
					 note.disk, strerror(-r));
	}
	return 0;
}

static void hand_copies_on(struct arriving *arriving, struct move_job *job)
{
	memcpy(job->disks, arriving->copies, sizeof(job->disks));
	job->n_disks = arriving->n_copies;
	arriving->n_copies = 0;
}

static json_t *reserve(struct arriving *arriving, struct peer_request *request, struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	int r = problems ? check(arriving, &request->machine, problems, err) : -ENOMEM;

	if (r < 0)
		return NULL;
	if (problems->count)
		return json_pack("{s:b, s:o}", "ok", 1, "problems", encode_problems(problems));
	incoming_forget(arriving->host->folder_fd);
	files_forget(arriving->host->state_fd, arriving->lists->moves.kept_files);
	arriving->machine = request->machine;
	memset(&request->machine, 0, sizeof(request->machine));
	if (runtime_claim(arriving->machine.config.name, &arriving->claim, err) < 0)
		return NULL;
	r = reservation_make(arriving->host->folder_fd, &arriving->reservation);
	if (r < 0) {
		(void)error_set(err, r, EXIT_STATUS_HOST, "the streams' socket: %s", strerror(-r));
		return NULL;
	}
	if (make_token(arriving, err) < 0 || open_copies(arriving, err) < 0)
		return NULL;
	arriving->stage = STAGE_RESERVED;
	return answer_reserved(arriving);
}

static json_t *take_file(struct arriving *arriving, struct peer_request *request, struct error *err)
{
	const struct peer_file *file = &request->file;

	/* Only what was asked for. */
	if (strcmp(file->sha256, arriving->machine.kernel.sha256) != 0 &&
	    strcmp(file->sha256, arriving->machine.initrd.sha256) != 0) {
		(void)error_set(
			err, -EPROTO, EXIT_STATUS_USAGE,
			"a file came that was not asked for; use the same version of utsusu on "
			"both hosts");
		return NULL;
	}
	if (files_receive(arriving->talk, arriving->host->state_fd, file, err) < 0)
		return NULL;
	return json_pack("{s:b}", "ok", 1);
}

/* The configuration in this host's paths. */
static int localise(struct arriving *arriving, struct vm_config *config, struct error *err)
{
	const struct peer_machine *machine = &arriving->machine;
	char kernel[PATH_MAX], initrd[PATH_MAX];
	json_auto_t *json = schema_encode_json(&config_schema, &machine->config);
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	struct schema_source source = { .file = "request", .problems = problems };
	int state_fd = arriving->host->state_fd, r;

	if (!problems || schema_decode_json(&config_schema, config, json, &source))
		return -ENOMEM;
	if ((machine->kernel.sha256[0] &&
	     !files_have(state_fd, &machine->kernel, kernel, sizeof(kernel))) ||
	    (machine->initrd.sha256[0] &&
	     !files_have(state_fd, &machine->initrd, initrd, sizeof(initrd))))
		return error_set(
			err, -EPROTO, EXIT_STATUS_USAGE,
			"the VM's kernel did not come; use the same version of utsusu on both "
			"hosts");
	r = machine_localise(arriving->lists, config, arriving->token_text,
			     machine->kernel.sha256[0] ? kernel : NULL,
			     machine->initrd.sha256[0] ? initrd : NULL);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "%s: %s", config->name, strerror(-r))
		     : 0;
}

static int start_vm(struct arriving *arriving, struct vm_config *config, struct error *err)
{
	struct peer_host *host = arriving->host;
	int r = localise(arriving, config, err);

	if (r == 0)
		r = launch_detached(config, &arriving->claim, true, NULL, err);
	if (r < 0)
		return r;
	arriving->stage = STAGE_LAUNCHED;
	r = incoming_note(host->folder_fd, arriving->token_text, config->name);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "%s: its process: %s", config->name,
				 strerror(-r));
	return machine_join_bridges(arriving->lists, &arriving->machine, arriving->token_text, err);
}

static json_t *launch(struct arriving *arriving, struct peer_request *request _unused_,
		      struct error *err)
{
	_cleanup_(freep) struct vm_config *config = calloc(1, sizeof(*config));
	int r;

	if (!config)
		return NULL;
	vm_config_init(config);
	r = start_vm(arriving, config, err);
	vm_config_release(config);
	return r < 0 ? NULL : json_pack("{s:b}", "ok", 1);
}

/* What the keys are good for: this VM, this ownership, this move. */
static int make_keys(struct arriving *arriving, struct move_job *job,
		     uint8_t (*ret_tokens)[STREAM_TOKEN_BYTES])
{
	char context[MOVER_KEY_CONTEXT];
	int r = 0;

	mover_key_context(arriving->machine.config.uuid, arriving->machine.generation,
			  arriving->token_text, context);
	if (job->tls)
		r = talk_key(arriving->talk, context, job->key);
	for (uint32_t i = 0; r == 0 && i < arriving->machine.streams; i++)
		r = talk_stream_token(arriving->talk, context, i, ret_tokens[i]);
	return r;
}

/* What only a move has. */
static int fill_move(struct arriving *arriving, struct move_job *job, struct error *err)
{
	job->generation = arriving->machine.generation;
	job->mark_fd = TAKE_FD(arriving->mark_fd);
	return known_of(arriving, &arriving->machine.config, &job->known, err);
}

/* What only a backup has: its journal, and somebody who asks the arbiter for it. */
static int fill_backup(struct arriving *arriving, struct move_job *job, struct error *err)
{
	const struct vm_config *config = &arriving->machine.config;
	struct relay_note note = { 0 };
	int r = 0;

	job->generation = arriving->machine.generation;
	job->detect_ms = arriving->machine.detect_ms;
	memcpy(note.uuid, config->uuid, sizeof(note.uuid));
	snprintf(note.peer, sizeof(note.peer), "%s", source_of(arriving));
	memcpy(note.session.bytes, arriving->token, sizeof(note.session.bytes));
	if (arriving->n_copies) {
		job->journal_bytes = arriving->lists->protect.journal;
		r = backup_open_journal(arriving->host->state_fd, config->uuid, job->journal_bytes,
					&job->journal_fd, err);
	}
	return r < 0 ? r : relay_begin(arriving->host->folder_fd, config->name, &note, err);
}

static int collect_streams(struct arriving *arriving, struct move_job *job, struct error *err)
{
	const struct peer_machine *machine = &arriving->machine;
	uint8_t tokens[MOVE_STREAMS_MAX][STREAM_TOKEN_BYTES];
	int r;

	job->tls = !machine->plain;
	if (make_keys(arriving, job, tokens) < 0)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED, "no key can be made");
	r = reservation_collect(&arriving->reservation, tokens, job->streams, machine->streams,
				STREAMS_MS);
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_FAILED,
			"the streams did not come: %s; see whether a firewall stands between",
			strerror(-r));
	job->n_streams = machine->streams;
	reservation_release(&arriving->reservation);
	return 0;
}

static int fill_job(struct arriving *arriving, struct move_job *job, struct error *err)
{
	int r = mover_open_vm(arriving->host->state_fd, arriving->machine.config.name, job, err);

	if (r < 0)
		return r;
	memcpy(job->token, arriving->token, sizeof(job->token));
	snprintf(job->peer, sizeof(job->peer), "%s", source_of(arriving));
	r = arriving->machine.protect ? fill_backup(arriving, job, err)
				      : fill_move(arriving, job, err);
	if (r == 0)
		r = collect_streams(arriving, job, err);
	if (r == 0)
		r = note_copies(arriving, err);
	if (r == 0)
		hand_copies_on(arriving, job);
	return r;
}

static json_t *start(struct arriving *arriving, struct peer_request *request _unused_,
		     struct error *err)
{
	struct move_job job;
	int r;

	move_job_init(&job, arriving->machine.protect ? MOVE_BACKUP : MOVE_DESTINATION);
	r = fill_job(arriving, &job, err);
	if (r == 0)
		r = mover_start(&job, &arriving->mover, err);
	move_job_release(&job);
	if (r < 0)
		return NULL;
	arriving->stage = STAGE_STARTED;
	return json_pack("{s:b}", "ok", 1);
}

static const struct {
	enum stage stage; /* in which it may come */
	json_t *(*act)(struct arriving *arriving, struct peer_request *request, struct error *err);
} acts[] = {
	[PEER_CHECK] = { STAGE_NEW, answer_check },  [PEER_RESERVE] = { STAGE_NEW, reserve },
	[PEER_FILE] = { STAGE_RESERVED, take_file }, [PEER_LAUNCH] = { STAGE_RESERVED, launch },
	[PEER_START] = { STAGE_LAUNCHED, start },
};

json_t *arriving_do(struct arriving *arriving, struct peer_request *request, struct error *err)
{
	json_t *answer = NULL;

	if (arriving->failed || request->command >= ARRAY_SIZE(acts) ||
	    acts[request->command].stage != arriving->stage) {
		(void)error_set(
			err, -EPROTO, EXIT_STATUS_USAGE,
			"a request came out of order; use the same version of utsusu on both "
			"hosts");
		return NULL;
	}
	answer = acts[request->command].act(arriving, request, err);
	if (!answer) {
		arriving->failed = true;
		(void)error_set(err, -ENOMEM, EXIT_STATUS_HOST, "out of memory; free some");
	}
	return answer;
}

/* It came back: where it lived is not where it lives; nor is a former VM of its name meant any more. It may have been given anew
 * already. */
static void forget_given(struct arriving *arriving)
{
	const struct vm_config *config = &arriving->machine.config;
	struct mark_given given;

	if (marks_read_given(arriving->marks, config->name, &given) == 1 &&
	    (strcmp(given.uuid, config->uuid) != 0 ||
	     given.generation < arriving->machine.generation))
		(void)!marks_settle_given(arriving->marks, config->name, given.token, MARK_NEVER);
}

/* Durably given away and run here: who had it never runs again, so a record of its goes on with the VM. */
static void bury_owner(struct arriving *arriving)
{
	const struct peer_machine *machine = &arriving->machine;
	struct ownership_id owner;

	if (machine->owner[0] && hex_decode(machine->owner, owner.bytes, sizeof(owner.bytes)) &&
	    instances_bury(arriving->host->state_fd, machine->config.uuid, &owner) < 0)
		log_line(arriving->host->log, LOG_LEVEL_WARNING,
			 "%s: its record cannot go on with it; to protect it here: utsusu resolve "
			 "%s --run-here --force",
			 machine->config.name, machine->config.name);
}

void arriving_finish(struct arriving *arriving)
{
	const char *name = arriving->machine.config.name;
	enum mark_result result = MARK_OPEN;
	int status;

	if (arriving->machine.protect) {
		log_line(arriving->host->log, LOG_LEVEL_INFO, "%s: is protected from %s here", name,
			 source_of(arriving));
		return; /* its guard goes on alone, and the record says what becomes of it */
	}
	status = mover_wait(arriving->mover);
	/* A mover that ended well has decided; one that did not left that to us. */
	(void)!outcome_close(arriving->host, arriving->token, &result);
	if (result == MARK_RAN) {
		(void)!generations_raise(arriving->host->state_fd, arriving->machine.config.uuid,
					 arriving->machine.generation);
		forget_given(arriving);
		bury_owner(arriving);
		(void)!protected_drop(arriving->host->state_fd, name);
		(void)!copies_forget(arriving->host->state_fd, arriving->token);
	}
	log_line(arriving->host->log, LOG_LEVEL_INFO, "%s: from %s: %s (its mover ended with %d)",
		 name, source_of(arriving), result == MARK_RAN ? "runs here" : "did not come",
		 status);
}
