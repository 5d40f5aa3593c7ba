/* SPDX-License-Identifier: Apache-2.0 */
/* A move: the VM is given away. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "peer/arrivals.h"
#include "peer/depart_internal.h"
#include "peer/settle.h"

/* A record that names this process is to go on with the VM. One of a program that knows of no records has none. */
static void describe_owner(struct departure *departure)
{
	struct peer_machine *machine = &departure->ask.machine;
	const char *role, *instance;
	json_auto_t *facts = NULL;
	struct error err = { 0 };

	if (departure_ask(departure, "protect-facts", &facts, &err) < 0)
		return;
	role = json_string_value(json_object_get(facts, "role"));
	instance = json_string_value(json_object_get(facts, "instance"));
	if (role && instance && strcmp(role, "solo") == 0)
		snprintf(machine->owner, sizeof(machine->owner), "%s", instance);
}

static int describe_move(struct departure *departure, const struct move_facts *facts,
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
	describe_owner(departure);
	return 0;
}

static void check_move(struct departure *departure, struct move_link *link)
{
	(void)link->ops->check(link, &departure->problems);
}

static int fill_move(struct departure *departure, struct error *err)
{
	const struct move_wish *wish = &departure->wish;
	struct move_job *job = &departure->job;
	int r = marks_prepare_given(departure->marks, departure_name(departure), err);

	if (r < 0)
		return r;
	job->mark_fd = r;
	job->max_bandwidth = wish->max_bandwidth;
	job->downtime_ms = (uint32_t)wish->downtime_ms;
	job->compress = wish->compress;
	job->allow_postcopy = wish->allow_postcopy;
	return 0;
}

/* Also for a mover that was killed and could say nothing: whoever heard its last line does not hear this one. */
static void tell_end(struct departure *departure, bool killed)
{
	static const struct move_numbers unknown;
	struct error err = { 0 };

	switch (settle_one(departure->host, departure_name(departure))) {
	case SETTLED_RAN:
		if (killed && departure->wish.allow_postcopy) {
			(void)error_set(
				&err, -ECHILD, EXIT_STATUS_FAILED,
				"%s: went to %s, and its mover was killed before it told that all of its "
				"memory is there; where it was not, it has ended there: see utsusu list "
				"on %s",
				departure_name(departure), departure->peer->name,
				departure->peer->name);
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
			departure_name(departure), departure->peer->name,
			departure_name(departure));
		progress_end(&departure->progress, MOVE_END_IN_DOUBT, &unknown, &err);
		return;
	case SETTLED_HERE:
		(void)error_set(
			&err, -ECHILD, EXIT_STATUS_FAILED,
			"%s: %s; it is this host's as before; see the log: journalctl -u utsusud",
			departure_name(departure),
			killed ? "its mover was killed" : "it did not come to run there");
		progress_end(&departure->progress, MOVE_END_FAILED, &unknown, &err);
		return;
	}
}

static void end_move(struct departure *departure)
{
	struct peer_host *host = departure->host;
	int status = mover_wait(departure->mover);

	mover_unlock(host->folder_fd, departure_name(departure), TAKE_FD(departure->lock_fd));
	log_line(host->log, LOG_LEVEL_INFO, "%s: its move to %s ended with %d",
		 departure_name(departure), departure->request->host, status);
	tell_end(departure, status < 0);
}

const struct departure_kind departure_move = {
	.role = MOVE_SOURCE,
	.cancelled = "the move was cancelled; it runs here as before",
	.describe = describe_move,
	.check = check_move,
	.fill = fill_move,
	.end = end_move,
};
