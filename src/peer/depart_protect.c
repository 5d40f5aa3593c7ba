/* SPDX-License-Identifier: Apache-2.0 */
/* A protection: the VM stays, and its backup keeps up with it. Both guards outlive this handler. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "peer/arbiter_probe.h"
#include "peer/depart_internal.h"
#include "peer/manual.h"
#include "peer/relays.h"

#define SOLO_STEP_NS (50 * NSEC_PER_MSEC)
#define SOLO_STEPS 400 /* so long may the arbiter take until the record says whose the VM is */

/* For the other host to compare with its own. */
static int tell_records(struct departure *departure, struct error *err)
{
	struct peer_machine *machine = &departure->ask.machine;
	struct manual_records records;
	size_t len;
	int r = manual_read(departure->host->state_fd, machine->config.uuid, &records, err);

	if (r == 0)
		r = manual_encode(&records, machine->manual, &len);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "%s: its record: %s",
				 departure_name(departure), strerror(-r))
		     : 0;
}

static int describe_protect(struct departure *departure, const struct move_facts *facts _unused_,
			    struct error *err _unused_)
{
	struct peer_machine *machine = &departure->ask.machine;
	struct error why = { 0 };

	machine->protect = true;
	machine->detect_ms = (uint32_t)departure->request->protect.detect_ms;
	machine->generation = 1; /* ownership goes by the arbiter's record, not by ours */
	if (arbiter_probe(departure->lists, &why) < 0 ||
	    (departure->lists->arbiter.manual && tell_records(departure, &why) < 0))
		problems_add(&departure->problems, &why);
	return 0;
}

static void add_problem(struct problems *problems, const json_t *problem)
{
	const char *message = json_string_value(json_object_get(problem, "message"));
	json_int_t status = json_integer_value(json_object_get(problem, "status"));
	struct error err = { 0 };

	if (status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		status = EXIT_STATUS_FAILED;
	(void)error_set(&err, -EREMOTEIO, (enum exit_status)status, "%s", message ? message : "?");
	problems_add(problems, &err);
}

static void check_protect(struct departure *departure, struct move_link *link _unused_)
{
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	const json_t *problem;
	size_t i;

	if (departure_ask(departure, "protect-check", &answer, &err) < 0) {
		problems_add(&departure->problems, &err);
		return;
	}
	json_array_foreach(json_object_get(answer, "problems"), i, problem)
		add_problem(&departure->problems, problem);
}

/* ---- its record ---- */

static bool says(const json_t *facts, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(facts, key));

	return value && strcmp(value, text) == 0;
}

/* 1: the record says that it is this VM's, and its relay is there; 0: not yet. */
static int is_solo(struct departure *departure, char *ret_waits_for, size_t size, struct error *err)
{
	json_auto_t *facts = NULL;
	const char *waits_for;
	int r = departure_ask(departure, "protect-facts", &facts, err);

	if (r < 0)
		return r;
	if (json_is_true(json_object_get(facts, "relay")) &&
	    json_is_true(json_object_get(facts, "foreign")))
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"%s: the arbiter's record says that it is another process's; see utsusu "
			"resolve %s",
			departure_name(departure), departure_name(departure));
	waits_for = json_string_value(json_object_get(facts, "waits_for"));
	snprintf(ret_waits_for, size, "%s", waits_for ? waits_for : "");
	return json_is_true(json_object_get(facts, "relay")) && says(facts, "role", "solo") &&
	       says(facts, "mode", "solo");
}

static int wait_until_solo(struct departure *departure, struct error *err)
{
	const struct timespec step = { .tv_nsec = SOLO_STEP_NS };
	char waits_for[160] = "";
	int r = 0;

	progress_phase(&departure->progress, PHASE_RESERVE, "the arbiter is asked whose it is");
	for (int i = 0; i < SOLO_STEPS && r == 0; i++) {
		if (i)
			nanosleep(&step, NULL);
		r = departure_cancelled(departure, err);
		if (r == 0)
			r = is_solo(departure, waits_for, sizeof(waits_for), err);
	}
	if (r != 0)
		return MIN(r, 0);
	return error_set(
		err, -ETIMEDOUT, EXIT_STATUS_HOST,
		"%s: the arbiter does not say that it is this host's%s%s; see utsusu arbiter "
		"check, utsusu resolve %s and journalctl -u utsusud",
		departure_name(departure), waits_for[0] ? ": " : "", waits_for,
		departure_name(departure));
}

static int fill_protect(struct departure *departure, struct error *err)
{
	const struct protect_wish *wish = &departure->request->protect;
	struct move_job *job = &departure->job;
	struct relay_note note = { 0 };
	int r;

	job->latency_ms = (uint32_t)wish->latency_ms;
	job->detect_ms = (uint32_t)wish->detect_ms;
	memcpy(note.uuid, departure->ask.machine.config.uuid, sizeof(note.uuid));
	snprintf(note.peer, sizeof(note.peer), "%s", departure->peer->name);
	memcpy(note.session.bytes, job->token, sizeof(note.session.bytes));
	r = relay_begin(departure->host->folder_fd, departure_name(departure), &note, err);
	return r < 0 ? r : wait_until_solo(departure, err);
}

/* ---- what came of it ---- */

/* Until the guard ends (true), or nobody looks any more: then it goes on alone. */
static bool wait_for_guard(const struct departure *departure)
{
	_cleanup_(fd_closep) int process = (int)syscall(SYS_pidfd_open, departure->mover, 0);
	struct pollfd fds[] = {
		{ .fd = process, .events = POLLIN },
		{ .fd = departure->client, .events = POLLIN | POLLRDHUP },
	};

	if (process < 0)
		return true;
	while (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		if (errno != EINTR)
			return true;
	return fds[0].revents != 0;
}

static void end_protect(struct departure *departure)
{
	static const struct move_numbers unknown;
	struct error err = { 0 };
	int status;

	if (!wait_for_guard(departure))
		return;
	status = mover_wait(departure->mover);
	mover_unlock(departure->host->folder_fd, departure_name(departure),
		     TAKE_FD(departure->lock_fd));
	log_line(departure->host->log, LOG_LEVEL_INFO, "%s: its guard ended with %d",
		 departure_name(departure), status);
	/* Whoever heard the guard's own last line does not hear this one. */
	(void)error_set(&err, -ECHILD, EXIT_STATUS_FAILED,
			"%s: its guard %s; see utsusu status %s and journalctl -u utsusud",
			departure_name(departure), status < 0 ? "was killed" : "ended",
			departure_name(departure));
	progress_end(&departure->progress, MOVE_END_FAILED, &unknown, &err);
}

const struct departure_kind departure_protect = {
	.role = MOVE_OWNER,
	.cancelled = "protecting it was cancelled; it runs here, unprotected",
	.describe = describe_protect,
	.check = check_protect,
	.fill = fill_protect,
	.end = end_protect,
};
