/* SPDX-License-Identifier: Apache-2.0 */
/* What the VM is, and what both hosts say to its going. */
#include <errno.h>
#include <string.h>

#include "api/client.h"
#include "api/move_link.h"
#include "base/cleanup.h"
#include "host/runtime.h"
#include "peer/depart_internal.h"

#define CHECK_MS 60000 /* the other side hashes nothing, but opens disks */

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

int departure_ask(struct departure *departure, const char *command, json_t **ret_answer,
		  struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	int r = api_connect(departure_name(departure), &connection, err);

	return r < 0 ? r
		     : api_call(connection, json_pack("{s:s}", "command", command), ret_answer,
				err);
}

/* ---- what the VM is ---- */

static int ask_vm(struct departure *departure, struct move_facts *ret_facts, struct error *err)
{
	struct move_link *link = NULL;
	int fd, r = runtime_connect(departure_name(departure), RUNTIME_SOCKET, &fd);

	if (r == 0)
		r = move_link_new(fd, departure_name(departure), &link);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_NOT_FOUND,
				 "%s: cannot be reached: %s; see utsusu list",
				 departure_name(departure), strerror(-r));
	r = link->ops->facts(link, ret_facts, err);
	if (r == 0)
		departure->kind->check(departure, link);
	link->ops->free(link);
	return r;
}

/* Whether it is there at all, in words for a person; what its guest has touched, and whether that stands. */
static int ask_info(struct departure *departure, struct error *err)
{
	struct peer_machine *machine = &departure->ask.machine;
	json_auto_t *answer = NULL;
	const char *state;
	int r = departure_ask(departure, "info", &answer, err);

	if (r < 0)
		return r;
	machine->populated =
		(uint64_t)json_integer_value(json_object_get(answer, "memory_populated"));
	state = json_string_value(json_object_get(answer, "state"));
	machine->paused = state && strcmp(state, "paused") == 0;
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
	machine->streams = departure->wish.streams;
	machine->plain = departure->wish.plain;
	machine->copy_disks = departure->wish.copy_disks;
	departure->config = json_loads(facts.config, JSON_REJECT_DUPLICATES, NULL);
	machine->postcopy = departure->wish.allow_postcopy;
	machine_describe(departure->host->state_fd, departure->lists, facts.config, machine,
			 &departure->kernel, &departure->initrd, &departure->problems,
			 &departure->notes);
	memcpy(machine->config.name, facts.name, sizeof(machine->config.name));
	memcpy(machine->config.uuid, facts.uuid, sizeof(machine->config.uuid));
	/* Said only to who is to copy: one of an older version has no word for it. */
	for (uint32_t i = 0; i < machine->n_disks && !machine->copy_disks; i++)
		machine->disks[i].allocated = 0;
	r = departure->kind->describe(departure, &facts, err);
	move_facts_release(&facts);
	return r;
}

/* ---- what the other host says to it ---- */

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
	if (departure->wish.allow_postcopy && json_is_false(json_object_get(answer, "postcopy")))
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
	bool only_check = departure->wish.check || departure->problems.count;
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

int departure_judge(struct departure *departure, struct error *err)
{
	int r = departure_cancelled(departure, err);

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
